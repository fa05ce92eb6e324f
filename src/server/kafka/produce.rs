//! Produce and InitProducerId. One batch a partition is checked, compressed if it came uncompressed, and queued for the log in the order of
//! the request; the answer waits for all of them.

use super::answer::{Answer, Reply, decode};
use super::errors::Code;
use super::frames::{Closed, Frame};
use super::{Service, find, quotas, text};
use crate::record::{
    Batch, BatchError, Codec, DECODED_SIZE_MAX, Offset, PIPELINE_PRODUCER_ID_MIN, PartitionId, TimestampType,
};
use crate::store::{Append, AppendError, Appended, Partition, Queued, Topic, TopicConfig};
use bytes::Bytes;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{
    BrokerId, InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse, ProducerId,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// A smaller batch that came uncompressed stays so: its tables cost zstd as much as those of a large one, for a few hundred bytes of a block
/// that is written whole (decision 0011).
const COMPRESSED_SIZE_MIN: usize = 1_024;
/// A batch up to this size is checked and compressed on the socket task; larger ones on the pool.
const INLINE_SIZE_MAX: usize = 64 << 10;
/// A full queue is waited for up to half of what the client waits, within these.
const PATIENCE_MIN_MS: i32 = 100;
const PATIENCE_MAX_MS: i32 = 30_000;
/// Records of one batch that an answer names.
const RECORD_ERRORS_MAX: usize = 1_000;
const NO_KEY: &str = "a compacted topic takes no record without a key";
/// Versions from which topics have ids, zstd may be sent.
const BY_TOPIC_ID: i16 = 13;
const WITH_ZSTD: i16 = 7;

/// A request whose batches are queued, or refused.
pub(super) struct Accepted {
    reply: Reply,
    /// acks=0: only an error shows, by the connection's end.
    wants_answer: bool,
    topics: Vec<TopicProduceResponse>,
    /// Topic's place, partition, what became of its batch; in the order of the request.
    outcomes: Vec<(usize, i32, Result<Queued, Refusal>)>,
}

/// Why a partition's batch is not taken.
#[derive(Debug)]
struct Refusal {
    code: Code,
    reason: String,
    /// The records that are wrong, and how.
    records: Vec<(i32, String)>,
}

/// A batch on its way through the checks.
enum Checked {
    Done(Result<(Partition, Batch), Refusal>),
    OnPool(Partition, JoinHandle<Option<Result<Batch, Refusal>>>),
}

/// Takes a request: when it returns, its batches stand in the log's queue in their order, behind those of the requests before it.
pub(super) async fn accept(service: &Arc<Service>, frame: &Frame) -> Result<Accepted, Closed> {
    let request: ProduceRequest = decode(frame)?;
    let version = frame.version;
    let patience = Duration::from_millis((request.timeout_ms / 2).clamp(PATIENCE_MIN_MS, PATIENCE_MAX_MS) as u64);
    let is_wrong = !matches!(request.acks, -1..=1);
    let mut topics = Vec::with_capacity(request.topic_data.len());
    let mut checked = Vec::new();
    // A topic without partitions is not answered, as in Kafka.
    for data in request.topic_data.into_iter().filter(|data| !data.partition_data.is_empty()) {
        let topic = match is_wrong {
            true => Err(Code::InvalidRequiredAcks),
            false => find(service, &data.name, data.topic_id, version >= BY_TOPIC_ID)
                .and_then(|topic| if topic.name.is_internal() { Err(Code::InvalidTopic) } else { Ok(topic) }),
        };
        for partition in data.partition_data {
            let index = partition.index;
            checked.push((topics.len(), index, check(service, topic.as_ref(), partition, version)));
        }
        topics.push(TopicProduceResponse::default().with_name(data.name).with_topic_id(data.topic_id));
    }
    let mut outcomes = Vec::with_capacity(checked.len());
    for (at, index, checked) in checked {
        let batch = match checked {
            Checked::Done(done) => done,
            Checked::OnPool(partition, job) => match job.await {
                Ok(Some(packed)) => packed.map(|batch| (partition, batch)),
                Ok(None) | Err(_) => Err(refusal(Code::KafkaStorageError, "the check of the batch ended early")),
            },
        };
        let outcome = match batch {
            Ok((partition, batch)) => queue(service, &partition, batch, patience).await,
            Err(refusal) => Err(refusal),
        };
        outcomes.push((at, index, outcome));
    }
    let reply = Reply { api: frame.api, version, correlation: frame.correlation };
    Ok(Accepted { reply, wants_answer: request.acks != 0, topics, outcomes })
}

async fn queue(service: &Service, partition: &Partition, batch: Batch, patience: Duration) -> Result<Queued, Refusal> {
    let (count, size) = (batch.header().count, batch.size());
    let queued = partition.enqueue(Append { batch, lease: None, leader_epoch: -1 }, patience).await;
    let queued = queued.map_err(|error| refused(&error))?;
    service.meters.produced_records.increment(count as u64);
    service.meters.produced_bytes.increment(size as u64);
    Ok(queued)
}

impl Accepted {
    /// Waits until every batch is durable as its topic asks, or refused. `None` if no answer is wanted. The answer tells the client to
    /// wait for `throttle`.
    ///
    /// # Errors
    /// [`Closed::Unanswered`] if something failed and no answer is wanted.
    pub(super) async fn answered(self, service: &Service, throttle: Duration) -> Result<Option<Answer>, Closed> {
        let Accepted { reply, wants_answer, mut topics, outcomes } = self;
        let mut has_failed = false;
        for (at, index, outcome) in outcomes {
            let stored = match outcome {
                Ok(queued) => queued.stored().await.map_err(|error| refused(&error)),
                Err(refusal) => Err(refusal),
            };
            if let Err(refusal) = &stored {
                has_failed = true;
                service.meters.refused(refusal.code);
            }
            topics[at].partition_responses.push(told(index, stored));
        }
        match (wants_answer, has_failed) {
            (true, _) => {
                let answer = ProduceResponse::default().with_responses(topics);
                reply.with(&answer.with_throttle_time_ms(quotas::millis(throttle))).map(Some)
            }
            (false, false) => Ok(None),
            (false, true) => Err(Closed::Unanswered),
        }
    }
}

/// Checks what comes for one partition, as far as a socket task may; the rest of it on the pool.
fn check(
    service: &Arc<Service>,
    topic: Result<&Arc<Topic>, &Code>,
    data: PartitionProduceData,
    version: i16,
) -> Checked {
    let (topic, partition, batch) = match whole(topic, data, version) {
        Ok(found) => found,
        Err(refusal) => return Checked::Done(Err(refusal)),
    };
    let terms = Terms { config: topic.config(), now_ms: service.store.clock().now_ms() };
    if !terms.need_walk(&batch) {
        return Checked::Done(Ok((partition, batch)));
    }
    if batch.size() <= INLINE_SIZE_MAX {
        return Checked::Done(terms.walk(batch).map(|batch| (partition, batch)));
    }
    let service = service.clone();
    let job = tokio::spawn(async move { service.on_pool(move || terms.walk(batch)).await });
    Checked::OnPool(partition, job)
}

/// The partition, and the batch as far as its header and checksum tell.
fn whole(
    topic: Result<&Arc<Topic>, &Code>,
    data: PartitionProduceData,
    version: i16,
) -> Result<(Arc<Topic>, Partition, Batch), Refusal> {
    let topic = topic.map_err(|code| match code {
        Code::InvalidRequiredAcks => refusal(*code, "acks must be 0, 1 or -1 (all)"),
        code => refusal(*code, "there is no such topic"),
    })?;
    let partition = topic.partition(PartitionId(data.index)).ok_or_else(|| {
        refusal(
            Code::UnknownTopicOrPartition,
            &format!("topic \"{}\" has {} partitions, not {}", topic.name, topic.partition_count(), data.index),
        )
    })?;
    let bytes: Bytes = data
        .records
        .filter(|bytes| !bytes.is_empty())
        .ok_or_else(|| refusal(Code::InvalidRecord, "a partition of the request has no batch"))?;
    let limit = topic.config().max_message_bytes;
    if bytes.len() > limit {
        // As received: clients split a batch by this error.
        return Err(refused(&AppendError::TooLarge { size: bytes.len(), limit }));
    }
    let batch = Batch::check(bytes).map_err(wrong)?;
    judge(&batch, version)?;
    Ok((topic.clone(), partition, batch))
}

/// What the header alone tells.
fn judge(batch: &Batch, version: i16) -> Result<(), Refusal> {
    let header = batch.header();
    let refuse = |code, reason: &str| Err(refusal(code, reason));
    if !batch.is_dense() {
        return refuse(Code::InvalidRecord, "a producer's batch has one record for each offset");
    }
    if header.is_transactional {
        return refuse(Code::TransactionalIdAuthorizationFailed, "transactions are not served");
    }
    if header.is_control {
        return refuse(Code::InvalidRecord, "a producer does not write control batches");
    }
    if header.base_offset != Offset(0) {
        return refuse(Code::InvalidRecord, "a producer's batch has base offset 0: the log gives offsets");
    }
    if header.has_delete_horizon {
        return refuse(Code::InvalidRecord, "a producer does not say when tombstones go");
    }
    if header.timestamp_type == TimestampType::LogAppendTime {
        return refuse(Code::InvalidTimestamp, "a producer does not set log append time");
    }
    if header.codec == Codec::Zstd && version < WITH_ZSTD {
        return refuse(Code::UnsupportedCompressionType, "zstd needs Produce version 7");
    }
    match header.producer {
        Some(producer) if producer.id >= PIPELINE_PRODUCER_ID_MIN => {
            refuse(Code::InvalidRecord, "this producer id belongs to pipelines")
        }
        Some(producer) if producer.base_sequence < 0 => refuse(Code::InvalidRecord, "a producer id needs a sequence"),
        Some(producer) if producer.epoch < 0 => refuse(Code::InvalidProducerEpoch, "a producer id needs an epoch"),
        _ => Ok(()),
    }
}

/// What a topic asks of the records of a batch.
struct Terms {
    config: Arc<TopicConfig>,
    now_ms: i64,
}

impl Terms {
    /// Records are looked at where the header cannot be trusted or used: no greatest timestamp (Sarama), an impossible one, one that lies too
    /// far ahead, a batch that is to be compressed or written in another codec or anew, a compacted topic, a topic that wants it.
    fn need_walk(&self, batch: &Batch) -> bool {
        let (config, header) = (&self.config, batch.header());
        let is_recoded = config.compression.is_some_and(|codec| codec != header.codec);
        let is_timed = !config.log_append_time
            && (config.timestamp_before_max_ms != i64::MAX || self.is_off(header.max_timestamp));
        header.max_timestamp < header.base_timestamp
            || header.codec == Codec::None
            || config.check_records
            || config.compacts
            || is_recoded
            || is_timed
            || batch.has_linked_blocks()
    }

    /// Whether a client's time lies outside of what the topic takes; −1 stands for none.
    fn is_off(&self, timestamp: i64) -> bool {
        let (ahead, ago) = (timestamp.saturating_sub(self.now_ms), self.now_ms.saturating_sub(timestamp));
        timestamp != -1 && (ahead > self.config.timestamp_after_max_ms || ago > self.config.timestamp_before_max_ms)
    }

    /// Looks at every record, sets a greatest timestamp that the client left unset or wrong, and compresses what came uncompressed, or as the
    /// topic says.
    fn walk(&self, batch: Batch) -> Result<Batch, Refusal> {
        let (mut greatest, mut keyless, mut off) = (i64::MIN, Vec::new(), Vec::new());
        let seen = batch.check_each(DECODED_SIZE_MAX, |index, record| {
            greatest = greatest.max(record.timestamp);
            if self.config.compacts && record.key.is_none() {
                keyless.push(index);
            } else if !self.config.log_append_time && self.is_off(record.timestamp) {
                off.push((index, record.timestamp));
            }
        });
        seen.map_err(wrong)?;
        if !keyless.is_empty() || !off.is_empty() {
            return Err(self.refused(keyless, &off));
        }
        let batch = match batch.header().max_timestamp == greatest {
            true => batch,
            false => batch.with_timestamps(TimestampType::CreateTime, greatest),
        };
        let is_plain = batch.header().codec == Codec::None;
        let is_small = batch.size() < COMPRESSED_SIZE_MIN;
        if self.config.compression.is_some() || !is_plain || !self.config.compress_uncompressed || is_small {
            return self.config.in_codec(batch).map_err(wrong);
        }
        let packed = batch.recoded(Codec::Zstd, DECODED_SIZE_MAX).map_err(wrong)?;
        // What does not shrink by a tenth (pictures) is not worth its decompression.
        Ok(if packed.size() < batch.size() - batch.size() / 10 { packed } else { batch })
    }

    /// One bad record refuses its batch; each is named (KIP-467), as many as an answer should hold. As in Kafka, a time that is off gives the
    /// batch its code.
    fn refused(&self, keyless: Vec<i32>, off: &[(i32, i64)]) -> Refusal {
        let (before, after) = (self.config.timestamp_before_max_ms, self.config.timestamp_after_max_ms);
        let count = keyless.len() + off.len();
        let keyless = keyless.into_iter().map(|index| (index, NO_KEY.to_owned()));
        let off_told = off.iter().map(|(index, timestamp)| {
            let window = format!("{before} ms before to {after} ms after {}", self.now_ms);
            (*index, format!("timestamp {timestamp} is outside of message.timestamp.*.max.ms, {window}"))
        });
        let mut records: Vec<(i32, String)> = keyless.chain(off_told).take(RECORD_ERRORS_MAX).collect();
        records.sort_by_key(|(index, _)| *index);
        let first = records.first().map_or("", |(_, reason)| reason);
        let reason = format!("{count} records of the batch are refused, the first because: {first}");
        let code = if off.is_empty() { Code::InvalidRecord } else { Code::InvalidTimestamp };
        Refusal { code, reason, records }
    }
}

fn refusal(code: Code, reason: &str) -> Refusal {
    Refusal { code, reason: reason.to_owned(), records: Vec::new() }
}

fn refused(error: &AppendError) -> Refusal {
    Refusal { code: error.into(), reason: error.to_string(), records: Vec::new() }
}

fn wrong(error: BatchError) -> Refusal {
    // A batch that is cut off is none to Kafka, and neither is one of the formats before 2: both break the rule of one batch a partition.
    let code = match error {
        BatchError::Magic(0 | 1) | BatchError::Short { .. } => Code::InvalidRecord,
        BatchError::Crc { .. } | BatchError::Magic(_) | BatchError::Length(_) | BatchError::Decompress { .. } => {
            Code::CorruptMessage
        }
        BatchError::TooLarge { .. } => Code::MessageTooLarge,
        BatchError::Codec(_) => Code::UnsupportedCompressionType,
        _ => Code::InvalidRecord,
    };
    let records = match error {
        BatchError::Record { index, .. } => vec![(index, error.to_string())],
        _ => Vec::new(),
    };
    Refusal { code, reason: error.to_string(), records }
}

fn told(index: i32, stored: Result<Appended, Refusal>) -> PartitionProduceResponse {
    let leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(-1)).with_leader_epoch(-1);
    let out = PartitionProduceResponse::default().with_index(index).with_current_leader(leader);
    match stored {
        Ok(appended) => out
            .with_base_offset(appended.base_offset.0)
            .with_log_append_time_ms(appended.append_time_ms)
            .with_log_start_offset(appended.log_start.0),
        Err(Refusal { code, reason, records }) => {
            let reason = text(&reason);
            let one = |(record, reason): (i32, String)| {
                let error = BatchIndexAndErrorMessage::default().with_batch_index(record);
                error.with_batch_index_error_message(Some(text(&reason)))
            };
            out.with_error_code(code.into())
                .with_base_offset(-1)
                .with_log_append_time_ms(-1)
                .with_log_start_offset(-1)
                .with_record_errors(records.into_iter().map(one).collect())
                .with_error_message(Some(reason))
        }
    }
}

/// A producer id for an idempotent producer. A transactional one is told at once: it would otherwise ask for ever.
pub(super) async fn init_producer(service: &Service, request: &InitProducerIdRequest) -> InitProducerIdResponse {
    let none = InitProducerIdResponse::default().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
    if (request.producer_id.0 >= 0) != (request.producer_epoch >= 0) {
        return none.with_error_code(Code::InvalidRequest.into());
    }
    if request.transactional_id.is_some() {
        return none.with_error_code(Code::TransactionalIdAuthorizationFailed.into());
    }
    match service.store.next_producer_id().await {
        Ok(id) => none.with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(_) => none.with_error_code(Code::CoordinatorNotAvailable.into()),
    }
}
