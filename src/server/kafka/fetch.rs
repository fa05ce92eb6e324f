//! Fetch: long poll over all partitions asked for; whole batches, at least one; no sessions (KIP-227: id 0 keeps clients in full fetches).

use super::errors::{Code, judge_epoch};
use super::{KafkaDoor, find};
use crate::record::{Codec, DECODED_SIZE_MAX, Offset, PartitionId};
use crate::store::{Partition, Slice};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// One answer carries at most this much, whatever is asked (but at least one batch).
const ANSWER_SIZE_MAX: usize = 32 << 20;
/// The longest a request waits.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// One partition of a request, with what was found.
struct Asked {
    request: FetchPartition,
    partition: Result<Partition, Code>,
    transcodes: bool,
}

pub(super) async fn answer(
    door: &KafkaDoor,
    reads_zstd: bool,
    request: FetchRequest,
    version: i16,
    stop: &mut watch::Receiver<bool>,
) -> FetchResponse {
    let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64).min(WAIT_MAX);
    let size_max = (request.max_bytes.max(0) as usize).min(ANSWER_SIZE_MAX);
    let topics: Vec<_> = request
        .topics
        .into_iter()
        .map(|asked| {
            let topic = if version >= 13 {
                find(door, &asked.topic, asked.topic_id)
            } else {
                find(door, &asked.topic, uuid::Uuid::nil())
            };
            let partitions: Vec<Asked> = asked
                .partitions
                .into_iter()
                .map(|request| {
                    let partition = topic.clone().and_then(|topic| {
                        let partition =
                            topic.partition(PartitionId(request.partition)).ok_or(Code::UnknownTopicOrPartition)?;
                        judge_epoch(request.current_leader_epoch, partition.leader_epoch())?;
                        Ok(partition)
                    });
                    let transcodes = !reads_zstd && topic.as_ref().is_ok_and(|topic| topic.config().transcode);
                    Asked { request, partition, transcodes }
                })
                .collect();
            (asked.topic, asked.topic_id, partitions)
        })
        .collect();
    loop {
        let mut left = size_max;
        let (mut total, mut is_due) = (0, Instant::now() >= deadline || *stop.borrow());
        let mut responses = Vec::with_capacity(topics.len());
        for (name, id, partitions) in &topics {
            let mut data = Vec::with_capacity(partitions.len());
            for asked in partitions {
                let read = read(asked, left, total == 0).await;
                let size = read.records.as_ref().map_or(0, Bytes::len);
                total += size;
                left = left.saturating_sub(size);
                // An error, or a partition that has all it may: waiting would gain nothing.
                is_due |=
                    read.error_code != 0 || (size > 0 && size >= asked.request.partition_max_bytes.max(0) as usize);
                data.push(read);
            }
            responses.push(
                FetchableTopicResponse::default().with_topic(name.clone()).with_topic_id(*id).with_partitions(data),
            );
        }
        if is_due || total >= request.min_bytes.max(0) as usize {
            metrics::counter!(crate::metrics::KAFKA_FETCHED_BYTES.name).increment(total as u64);
            return FetchResponse::default().with_responses(responses);
        }
        let known: Vec<(&Partition, Offset)> = topics
            .iter()
            .flat_map(|(_, _, partitions)| partitions)
            .filter_map(|asked| asked.partition.as_ref().ok())
            .map(|partition| (partition, partition.tail()))
            .collect();
        wait(&known, deadline, stop).await;
    }
}

/// Waits until a tail has moved, the time is over, or the door closes.
async fn wait(known: &[(&Partition, Offset)], deadline: Instant, stop: &mut watch::Receiver<bool>) {
    let mut moves: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = Vec::with_capacity(known.len());
    for (partition, tail) in known {
        moves.push(Box::pin(partition.tail_past(*tail)));
    }
    let any = poll_fn(|context| {
        let is_ready = moves.iter_mut().any(|moved| moved.as_mut().poll(context).is_ready());
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    });
    tokio::select! {
        () = any => {}
        () = tokio::time::sleep_until(deadline) => {}
        () = super::stopped(stop) => {}
    }
}

async fn read(asked: &Asked, left: usize, is_first: bool) -> PartitionData {
    let out = PartitionData::default()
        .with_partition_index(asked.request.partition)
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
        .with_preferred_read_replica(BrokerId(-1))
        .with_aborted_transactions(None)
        .with_records(Some(Bytes::new()));
    let partition = match &asked.partition {
        Ok(partition) => partition,
        Err(code) => return out.with_error_code((*code).into()),
    };
    let at = |out: PartitionData, start: Offset, tail: Offset| {
        out.with_high_watermark(tail.0).with_last_stable_offset(tail.0).with_log_start_offset(start.0)
    };
    let size = left.min(asked.request.partition_max_bytes.max(0) as usize);
    if size == 0 && !is_first {
        return at(out, partition.start(), partition.tail());
    }
    match partition.read(Offset(asked.request.fetch_offset), size).await {
        Err(error) => at(out, partition.start(), partition.tail()).with_error_code(Code::from(&error).into()),
        Ok(slice) => {
            let (start, tail) = (slice.start, slice.tail);
            // A batch larger than what is left is for the first partition that has any: it must get on (KIP-74).
            let fits = is_first || slice.batches.first().is_some_and(|batch| batch.size() <= left);
            match fits.then(|| records(slice, asked.transcodes)) {
                None => at(out, start, tail),
                Some(Ok(records)) => at(out, start, tail).with_records(Some(records)),
                Some(Err(code)) => at(out, start, tail).with_error_code(code.into()),
            }
        }
    }
}

/// The batches in one piece; decompressed for clients that are not known to read zstd.
fn records(slice: Slice, transcodes: bool) -> Result<Bytes, Code> {
    let mut batches = slice.batches;
    if transcodes {
        for batch in batches.iter_mut().filter(|batch| batch.header().codec == Codec::Zstd) {
            *batch = batch.recoded(Codec::None, DECODED_SIZE_MAX).map_err(|_| Code::KafkaStorageError)?;
        }
    }
    if batches.len() == 1 {
        return Ok(batches.remove(0).bytes().clone());
    }
    let mut out = BytesMut::with_capacity(batches.iter().map(|batch| batch.size()).sum());
    batches.iter().for_each(|batch| out.extend_from_slice(batch.bytes()));
    Ok(out.freeze())
}
