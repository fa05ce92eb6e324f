//! Produce: one batch a partition, checked, recoded if it came uncompressed, appended; all partitions of a request together.

use super::errors::Code;
use super::{KafkaDoor, find, text};
use crate::record::{Batch, BatchError, Codec, DECODED_SIZE_MAX, PIPELINE_PRODUCER_ID_MIN, PartitionId, TimestampType};
use crate::store::{Append, AppendError, Appended, Topic};
use kafka_protocol::messages::produce_response::{LeaderIdAndEpoch, PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{BrokerId, ProduceRequest, ProduceResponse};
use std::sync::Arc;
use std::time::Duration;

/// A batch up to this size is recoded on the socket task; larger ones on a blocking thread.
const INLINE_SIZE_MAX: usize = 64 << 10;

/// Answers, and says whether any partition failed (for producers that want no answer).
pub(super) async fn answer(door: &KafkaDoor, request: ProduceRequest, version: i16) -> (ProduceResponse, bool) {
    // A full queue is waited for up to half of what the client waits.
    let patience = Duration::from_millis((request.timeout_ms / 2).clamp(100, 30_000) as u64);
    let is_wrong = !matches!(request.acks, -1..=1);
    let mut responses = Vec::with_capacity(request.topic_data.len());
    let mut waiting = Vec::new();
    for (at, data) in request.topic_data.into_iter().enumerate() {
        let topic = if is_wrong { Err(Code::InvalidRequiredAcks) } else { find(door, &data.name, data.topic_id) };
        responses.push(TopicProduceResponse::default().with_name(data.name).with_topic_id(data.topic_id));
        for partition in data.partition_data {
            let topic = topic.clone();
            // Tasks of one request run beside each other: their batches meet in one round. The order of a partition is kept, since a
            // connection has one produce at a time.
            let append = tokio::spawn(async move {
                let stored = append(topic, PartitionId(partition.index), partition.records, version, patience).await;
                (partition.index, stored)
            });
            waiting.push((at, append));
        }
    }
    let mut has_failed = false;
    for (at, append) in waiting {
        let Ok((index, stored)) = append.await else {
            has_failed = true;
            continue;
        };
        has_failed |= stored.is_err();
        responses[at].partition_responses.push(told(index, stored));
    }
    (ProduceResponse::default().with_responses(responses), has_failed)
}

/// Why a partition's batch is not taken.
type Refusal = (Code, String);

async fn append(
    topic: Result<Arc<Topic>, Code>,
    id: PartitionId,
    records: Option<bytes::Bytes>,
    version: i16,
    patience: Duration,
) -> Result<Appended, Refusal> {
    let topic = topic.map_err(|code| (code, String::new()))?;
    let partition =
        topic.partition(id).ok_or((Code::UnknownTopicOrPartition, format!("there is no partition {id}")))?;
    let bytes = records
        .filter(|bytes| !bytes.is_empty())
        .ok_or((Code::InvalidRecord, "the request has no batch".to_owned()))?;
    let limit = topic.config().max_message_bytes;
    if bytes.len() > limit {
        let error = AppendError::TooLarge { size: bytes.len(), limit };
        return Err(((&error).into(), error.to_string()));
    }
    let batch = Batch::check(bytes).map_err(wrong)?;
    judge(&batch, version)?;
    let config = topic.config();
    let needs_walk = batch.header().max_timestamp < 0 || config.check_records || batch.header().codec == Codec::None;
    let batch = if needs_walk && batch.size() > INLINE_SIZE_MAX {
        let walked = tokio::task::spawn_blocking(move || walk(batch, config.compress_uncompressed)).await;
        walked.map_err(|error| (Code::KafkaStorageError, error.to_string()))??
    } else if needs_walk {
        walk(batch, config.compress_uncompressed)?
    } else {
        batch
    };
    metrics::counter!(crate::metrics::KAFKA_PRODUCED_RECORDS.name).increment(batch.header().count as u64);
    let stored = partition.append(Append { batch, lease: None, leader_epoch: -1 }, patience).await;
    stored.map_err(|error| ((&error).into(), error.to_string()))
}

/// What the header alone tells.
fn judge(batch: &Batch, version: i16) -> Result<(), Refusal> {
    let header = batch.header();
    let refuse = |code, reason: &str| Err((code, reason.to_owned()));
    if !batch.is_dense() {
        return refuse(Code::InvalidRecord, "a producer's batch has one record for each offset");
    }
    if header.is_control || header.is_transactional {
        return refuse(Code::InvalidRecord, "transactions are not served");
    }
    if header.codec == Codec::Zstd && version < 7 {
        return refuse(Code::UnsupportedCompressionType, "zstd needs Produce version 7");
    }
    match header.producer {
        Some(producer) if producer.id >= PIPELINE_PRODUCER_ID_MIN => {
            refuse(Code::InvalidRecord, "this producer id belongs to pipelines")
        }
        Some(producer) if producer.base_sequence < 0 => refuse(Code::InvalidRecord, "a producer id needs a sequence"),
        _ => Ok(()),
    }
}

/// Looks at every record, sets a time that the client left unset, and compresses what came uncompressed.
fn walk(batch: Batch, may_compress: bool) -> Result<Batch, Refusal> {
    let records = batch.records(DECODED_SIZE_MAX).map_err(wrong)?;
    for (at, record) in records.iter().enumerate() {
        if record.offset.0 != batch.base_offset().0 + at as i64 {
            return Err((
                Code::InvalidRecord,
                format!("record {at} has offset delta {}", record.offset.0 - batch.base_offset().0),
            ));
        }
    }
    let greatest = records.iter().map(|record| record.timestamp).max().unwrap_or(-1);
    let batch =
        if batch.header().max_timestamp == greatest || batch.header().timestamp_type == TimestampType::LogAppendTime {
            batch
        } else {
            batch.with_timestamps(TimestampType::CreateTime, greatest)
        };
    if batch.header().codec != Codec::None || !may_compress {
        return Ok(batch);
    }
    let packed = batch.recoded(Codec::Zstd, DECODED_SIZE_MAX).map_err(wrong)?;
    Ok(if packed.size() < batch.size() - batch.size() / 10 { packed } else { batch })
}

fn wrong(error: BatchError) -> Refusal {
    let code = match error {
        BatchError::Crc { .. } | BatchError::Short { .. } | BatchError::Length(_) | BatchError::Decompress { .. } => {
            Code::CorruptMessage
        }
        BatchError::TooLarge { .. } => Code::MessageTooLarge,
        BatchError::Codec(_) => Code::UnsupportedCompressionType,
        _ => Code::InvalidRecord,
    };
    (code, error.to_string())
}

fn told(index: i32, stored: Result<Appended, Refusal>) -> PartitionProduceResponse {
    let leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(-1)).with_leader_epoch(-1);
    let out = PartitionProduceResponse::default().with_index(index).with_current_leader(leader);
    match stored {
        Ok(appended) => out
            .with_base_offset(appended.base_offset.0)
            .with_log_append_time_ms(appended.append_time_ms)
            .with_log_start_offset(appended.log_start.0),
        Err((code, reason)) => {
            metrics::counter!(crate::metrics::KAFKA_ERRORS.name, "code" => format!("{code:?}")).increment(1);
            out.with_error_code(code.into())
                .with_base_offset(-1)
                .with_log_append_time_ms(-1)
                .with_log_start_offset(-1)
                .with_error_message(Some(text(&reason)))
        }
    }
}
