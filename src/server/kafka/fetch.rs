//! Fetch: long poll over all partitions asked for; whole batches, at least one; no sessions (KIP-227: id 0 keeps clients in full fetches).
//!
//! What is read stands in the budget of answers until it is sent: readers that are slow share it, and the log is not read faster than
//! clients take it.

use super::connection::Ends;
use super::errors::{Code, judge_epoch};
use super::{Service, find};
use crate::budget::Lease;
use crate::record::{Batch, Codec, DECODED_SIZE_MAX, Offset, PartitionId};
use crate::store::{Partition, ReadError};
use crate::wire::fetch::{FetchAnswer, FetchedPartition, FetchedTopic, Piece};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, TopicName};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// One answer carries at most this much, whatever is asked (but at least one batch).
const ANSWER_SIZE_MAX: usize = 16 << 20;
/// The longest a request waits for records.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long a partition waits for bytes of the budget of answers, before the client gets what there is.
const BUDGET_PATIENCE: Duration = Duration::from_millis(500);
/// A partition takes at most this part of what the budget has left, so that a few who do not read their answers leave enough for all others.
const SHARE: usize = 4;
/// But this much in any case: a batch of the largest usual size. Who asks for more while holding some may wait for others who do the same.
const SHARE_SIZE_MIN: usize = 1 << 20;
/// From this version on topics are named by id.
const BY_TOPIC_ID: i16 = 13;
/// The session epoch that opens a session; −1 is none. Others go on with one.
const SESSION_EPOCH_FIRST: i32 = 0;

/// One partition of a request, with what was found.
struct Asked {
    request: FetchPartition,
    partition: Result<Partition, Code>,
    /// Where its epoch is not the asked one, the partition is known nevertheless.
    refused: Option<Code>,
    transcodes: bool,
    /// What the disk has may go to the client unseen.
    is_unchecked: bool,
}

struct AskedTopic {
    name: TopicName,
    id: Uuid,
    partitions: Vec<Asked>,
}

/// What one look at all partitions gave.
struct Found {
    answer: FetchAnswer,
    leases: Vec<Lease>,
    size: usize,
    /// Waiting would gain nothing: an error, or a partition that sends all that it may.
    is_due: bool,
    /// Where each readable partition ended when it was read, in order.
    tails: Vec<Offset>,
}

/// The room left in an answer.
struct Room {
    left: usize,
    /// Nothing is in yet: a batch larger than what is left may go in (KIP-74), or its reader would stand still.
    is_empty: bool,
}

/// Answers within `quota_size_max` bytes of batches too: more would never be sent, but for one batch that is larger.
pub(super) async fn answer(
    service: &Arc<Service>,
    reads_zstd: bool,
    request: FetchRequest,
    version: i16,
    quota_size_max: usize,
    ends: &mut Ends,
) -> (FetchAnswer, Vec<Lease>) {
    if request.session_epoch > SESSION_EPOCH_FIRST {
        let error_code = Code::FetchSessionIdNotFound.into();
        return (FetchAnswer { error_code, ..FetchAnswer::default() }, Vec::new());
    }
    let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64).min(WAIT_MAX);
    let size_max = (request.max_bytes.max(0) as usize).min(ANSWER_SIZE_MAX).min(quota_size_max);
    let size_min = (request.min_bytes.max(0) as usize).min(size_max);
    let topics: Vec<AskedTopic> =
        once(request.topics).into_iter().map(|topic| look_up(service, topic, version, reads_zstd)).collect();
    loop {
        let found = gather(service, &topics, size_max).await;
        if topics.is_empty() || found.is_due || found.size >= size_min || ends.is_over() || Instant::now() >= deadline {
            return (found.answer, found.leases);
        }
        // What was read too early goes back; it is in the tail cache, or costs one more read.
        let tails = found.tails;
        let known = topics.iter().flat_map(|topic| &topic.partitions).filter_map(|asked| asked.partition.as_ref().ok());
        wait(known.zip(tails), deadline, ends).await;
    }
}

/// Each partition once: where a request names one again, its last word counts, in the place of the first. Topics without partitions are
/// left out. Both as in Kafka.
fn once(mut topics: Vec<FetchTopic>) -> Vec<FetchTopic> {
    if names_each_once(&topics) {
        topics.retain(|topic| !topic.partitions.is_empty());
        return topics;
    }
    let mut places: HashMap<(TopicName, Uuid, i32), (usize, usize)> = HashMap::new();
    for at in 0..topics.len() {
        let asked = std::mem::take(&mut topics[at].partitions);
        for partition in asked {
            let key = (topics[at].topic.clone(), topics[at].topic_id, partition.partition);
            match places.entry(key) {
                Entry::Occupied(place) => {
                    let (topic, index) = *place.get();
                    topics[topic].partitions[index] = partition;
                }
                Entry::Vacant(place) => {
                    place.insert((at, topics[at].partitions.len()));
                    topics[at].partitions.push(partition);
                }
            }
        }
    }
    topics.retain(|topic| !topic.partitions.is_empty());
    topics
}

/// Whether no topic, and so no partition, is named twice: what clients send.
fn names_each_once(topics: &[FetchTopic]) -> bool {
    let mut names: Vec<_> = topics.iter().map(|topic| (&*topic.topic, topic.topic_id)).collect();
    names.sort_unstable();
    let mut numbers = Vec::new();
    names.windows(2).all(|pair| pair[0] != pair[1])
        && topics.iter().all(|topic| {
            numbers.clear();
            numbers.extend(topic.partitions.iter().map(|partition| partition.partition));
            numbers.sort_unstable();
            numbers.windows(2).all(|pair| pair[0] != pair[1])
        })
}

fn look_up(service: &Service, asked: FetchTopic, version: i16, reads_zstd: bool) -> AskedTopic {
    let topic = find(service, &asked.topic, asked.topic_id, version >= BY_TOPIC_ID);
    let config = topic.as_ref().ok().map(|topic| topic.config());
    let transcodes = !reads_zstd && config.as_ref().is_some_and(|config| config.transcode);
    let is_unchecked = !transcodes && config.is_some_and(|config| !config.check_fetched);
    let partition = |request: FetchPartition| {
        let partition = topic
            .as_ref()
            .map_err(|code| *code)
            .and_then(|topic| topic.partition(PartitionId(request.partition)).ok_or(Code::UnknownTopicOrPartition));
        let judged =
            partition.as_ref().ok().map(|known| judge_epoch(request.current_leader_epoch, known.leader_epoch()));
        Asked { refused: judged.and_then(Result::err), request, partition, transcodes, is_unchecked }
    };
    let partitions = asked.partitions.into_iter().map(partition).collect();
    AskedTopic { name: asked.topic, id: asked.topic_id, partitions }
}

/// Reads what there is now, within an answer's room.
async fn gather(service: &Arc<Service>, topics: &[AskedTopic], size_max: usize) -> Found {
    let mut found =
        Found { answer: FetchAnswer::default(), leases: Vec::new(), size: 0, is_due: false, tails: Vec::new() };
    let mut room = Room { left: size_max, is_empty: true };
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let read = read(service, asked, &mut room, &mut found).await;
            found.is_due |= read.error_code != 0;
            found.size += read.size();
            partitions.push(read);
        }
        found.answer.topics.push(FetchedTopic { name: topic.name.clone(), id: topic.id, partitions });
    }
    found
}

async fn read(service: &Arc<Service>, asked: &Asked, room: &mut Room, found: &mut Found) -> FetchedPartition {
    let mut out = FetchedPartition {
        partition: asked.request.partition,
        error_code: 0,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        batches: Vec::new(),
    };
    let partition = match &asked.partition {
        Ok(partition) => partition,
        Err(code) => return FetchedPartition { error_code: (*code).into(), ..out },
    };
    let from = Offset(asked.request.fetch_offset);
    let (start, tail) = (partition.start(), partition.tail());
    found.tails.push(tail);
    // On an error too: a consumer that is out of range takes its next offset from here.
    (out.high_watermark, out.last_stable_offset, out.log_start_offset) = (tail.0, tail.0, start.0);
    if let Some(code) = asked.refused {
        return FetchedPartition { error_code: code.into(), ..out };
    }
    if from == tail {
        // Nothing to read: this only tells whether the topic is there still.
        let code = partition.read(from, 0).await.err().map_or(0, |error| Code::from(&error).into());
        return FetchedPartition { error_code: code, ..out };
    }
    let limit = room.left.min(asked.request.partition_max_bytes.max(0) as usize);
    if limit == 0 && !room.is_empty {
        found.is_due = true;
        return out;
    }
    match stored(service, asked, partition, limit, room.is_empty).await {
        Err(error) => {
            if let ReadError::OutOfRange { start, tail, .. } = &error {
                (out.high_watermark, out.last_stable_offset, out.log_start_offset) = (tail.0, tail.0, start.0);
            }
            FetchedPartition { error_code: Code::from(&error).into(), ..out }
        }
        Ok(Read { batches, lease, has_more, tail }) => {
            (out.high_watermark, out.last_stable_offset) = (tail.0, tail.0);
            found.leases.extend(lease);
            room.is_empty &= batches.is_empty();
            out.batches = batches;
            let size = out.size();
            found.is_due |= has_more || size >= limit;
            room.left = room.left.saturating_sub(size);
            out
        }
    }
}

/// Batches of one partition that go into an answer.
struct Read {
    batches: Vec<Piece>,
    lease: Option<Lease>,
    has_more: bool,
    tail: Offset,
}

/// What there is from the asked offset on, up to `limit` bytes, or one batch if the answer is empty; as the client can read it.
async fn stored(
    service: &Arc<Service>,
    asked: &Asked,
    partition: &Partition,
    limit: usize,
    is_first: bool,
) -> Result<Read, ReadError> {
    let from = Offset(asked.request.fetch_offset);
    if asked.is_unchecked
        && let Some((stretch, tail)) = partition.stretch(from, limit).await?
    {
        // It takes no memory, so it needs no lease.
        return Ok(Read { batches: vec![Piece::File(stretch)], lease: None, has_more: true, tail });
    }
    checked(service, partition, from, limit, asked.transcodes, is_first).await
}

async fn checked(
    service: &Arc<Service>,
    partition: &Partition,
    from: Offset,
    limit: usize,
    transcodes: bool,
    is_first: bool,
) -> Result<Read, ReadError> {
    let budget = &service.door.answers;
    let limit = limit.min((budget.free() / SHARE).max(SHARE_SIZE_MIN)).min(budget.limit());
    let none = |tail| Read { batches: Vec::new(), lease: None, has_more: true, tail };
    let Ok(mut lease) = budget.take(limit.max(1), BUDGET_PATIENCE).await else { return Ok(none(partition.tail())) };
    let slice = partition.read(from, limit).await?;
    let tail = slice.tail;
    let mut batches = slice.batches;
    if transcodes && batches.iter().any(|batch| batch.header().codec == Codec::Zstd) {
        let decoded = service.on_pool(move || decoded(batches, limit)).await;
        batches = decoded.ok_or_else(|| ReadError::Io("the decompression of a batch ended early".to_owned()))?;
        service.meters.transcoded_bytes.increment(batches.iter().map(|batch| batch.size() as u64).sum());
    }
    let size: usize = batches.iter().map(Batch::size).sum();
    if size > limit && !is_first {
        return Ok(none(tail));
    }
    if size > lease.bytes() {
        // One batch larger than all answers together may have is sent nevertheless: its reader would stand still.
        let more = size - lease.bytes();
        if lease.grow(more.min(budget.limit() - lease.bytes()), BUDGET_PATIENCE).await.is_err() {
            return Ok(none(tail));
        }
    }
    lease.shrink_to(size);
    let has_more = batches.last().is_some_and(|last| last.next_offset() < tail);
    let batches = batches.into_iter().map(|batch| Piece::Memory(batch.bytes().clone())).collect();
    Ok(Read { batches, lease: Some(lease), has_more, tail })
}

/// The batches with their zstd taken off: the first, and what follows within `limit`. One that cannot be decoded stays as it is, for the
/// client to judge.
fn decoded(batches: Vec<Batch>, limit: usize) -> Vec<Batch> {
    let mut out: Vec<Batch> = Vec::with_capacity(batches.len());
    let mut size = 0;
    for batch in batches {
        let plain = match batch.header().codec {
            Codec::Zstd => batch.recoded(Codec::None, DECODED_SIZE_MAX).unwrap_or(batch),
            _ => batch,
        };
        size += plain.size();
        if size > limit && !out.is_empty() {
            break;
        }
        out.push(plain);
    }
    out
}

/// Waits until one of the tails has moved on, the time is over, the client has gone, or the door closes.
async fn wait(known: impl Iterator<Item = (&Partition, Offset)>, deadline: Instant, ends: &mut Ends) {
    let mut moves: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = Vec::new();
    for (partition, tail) in known {
        moves.push(Box::pin(partition.tail_past(tail)));
    }
    let any = poll_fn(|context| {
        let is_ready = moves.iter_mut().any(|moved| moved.as_mut().poll(context).is_ready());
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    });
    tokio::select! {
        () = any => {}
        () = tokio::time::sleep_until(deadline) => {}
        () = ends.over() => {}
    }
}
