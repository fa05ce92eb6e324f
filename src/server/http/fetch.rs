//! `GET /v1/topics/{topic}/events`: records as JSON, for people and small programs.

use super::HttpDoor;
use super::connection::Caller;
use super::headers::Headers;
use super::query::parameter;
use super::record;
use super::reply::{Content, Reply, refuse, refuse_for};
use crate::record::{DECODED_SIZE_MAX, Offset, PartitionId};
use crate::store::{Partition, ReadError, Slice, Topic};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode};
use std::sync::Arc;
use std::time::Duration;

/// Records of one answer, by default and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 10_000;
/// An answer takes no more records once its text has this size; a single one may be larger.
const ANSWER_SIZE_MAX: usize = 4 << 20;
/// Bytes of batches that are read at once.
const READ_SIZE: usize = 1 << 20;
/// How long an answer waits for others to be read by their clients.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn events(door: &HttpDoor, topic: &str, caller: &Caller, request: &Request<Incoming>) -> Reply {
    match read(door, topic, caller, request).await {
        Ok(reply) | Err(reply) => reply,
    }
}

async fn read(door: &HttpDoor, topic: &str, caller: &Caller, request: &Request<Incoming>) -> Result<Reply, Reply> {
    let query = request.uri().query();
    let (partition, from) = place(door, topic, query).await?;
    let limit = match parameter(query, "limit") {
        None => LIMIT,
        Some(text) => text.parse::<usize>().ok().filter(|limit| *limit <= LIMIT_MAX).ok_or_else(|| {
            refuse(StatusCode::BAD_REQUEST, format!("limit={text} is not a number up to {LIMIT_MAX}"))
        })?,
    };
    let address = door.address(caller, &Headers::Map(request.headers()));
    let size_max = door.check_reader_quota(caller, address)?.min(ANSWER_SIZE_MAX);
    let room = door.answers.take(2 * ANSWER_SIZE_MAX, ROOM_PATIENCE).await;
    let mut room =
        room.map_err(|_| refuse_for(StatusCode::TOO_MANY_REQUESTS, "answers", "too many answers are being sent"))?;
    let mut page = Page { text: Vec::new(), count: 0, next: from, limit, size_max };
    let (mut start, mut tail) = (partition.start(), partition.tail());
    // Also with nothing to read: an offset outside is an error, not an empty page.
    loop {
        let slice = partition.read(page.next, READ_SIZE).await.map_err(|error| failed(&error))?;
        (start, tail) = (slice.start.max(start), slice.tail.max(tail));
        if slice.batches.is_empty() || page.is_full() {
            break;
        }
        page = door
            .off_task(move || page.filled(&slice))
            .await?
            .map_err(|reason| refuse(StatusCode::INTERNAL_SERVER_ERROR, reason))?;
    }
    let body = record::page(topic, partition.id(), (start, tail), page.next, &page.text);
    room.shrink_to(body.len());
    door.count_sent(caller, address, body.len())?;
    let mut reply = Reply::new(Content::Leased { bytes: Bytes::from(body), _lease: room });
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(reply)
}

/// Records as JSON, gathered until a limit.
pub(super) struct Page {
    pub(super) text: Vec<u8>,
    count: usize,
    pub(super) next: Offset,
    limit: usize,
    size_max: usize,
}

impl Page {
    fn is_full(&self) -> bool {
        self.count >= self.limit || self.text.len() >= self.size_max
    }

    /// With the records of `slice` from `next` on, as many as fit. Costs as much as they are large: not for a socket task.
    fn filled(mut self, slice: &Slice) -> Result<Page, String> {
        for batch in &slice.batches {
            let records = batch
                .records(DECODED_SIZE_MAX)
                .map_err(|error| format!("the batch at offset {} cannot be decoded: {error}", batch.base_offset()))?;
            for record in records.iter().filter(|record| record.offset >= self.next) {
                if self.is_full() {
                    self.next = record.offset;
                    return Ok(self);
                }
                if self.count > 0 {
                    self.text.push(b',');
                }
                record::put(&mut self.text, record);
                self.count += 1;
            }
            self.next = batch.next_offset();
        }
        Ok(self)
    }
}

/// The partition and offset that a query names: `partition` (0), `from` (start): an offset, `start`, `end`, or `time:MS`.
pub(super) async fn place(door: &HttpDoor, topic: &str, query: Option<&str>) -> Result<(Partition, Offset), Reply> {
    let partition = partition(door, topic, query)?;
    let from = parameter(query, "from").unwrap_or_else(|| "start".to_owned());
    let offset = offset(&partition, &from).await?;
    Ok((partition, offset))
}

/// Where `from` stands in a partition.
pub(super) async fn offset(partition: &Partition, from: &str) -> Result<Offset, Reply> {
    Ok(match from {
        "start" => partition.start(),
        "end" => partition.tail(),
        text => match text.strip_prefix("time:") {
            Some(ms) => {
                let ms = ms
                    .parse()
                    .map_err(|_| refuse(StatusCode::BAD_REQUEST, format!("from={from}: time is in ms since 1970")))?;
                let found = partition.offset_for_time(ms).await.map_err(|error| failed(&error))?;
                found.map_or(partition.tail(), |found| found.offset)
            }
            None => Offset(text.parse().map_err(|_| {
                refuse(StatusCode::BAD_REQUEST, format!("from={from} is neither an offset, start, end nor time:MS"))
            })?),
        },
    })
}

/// The partition that a query names.
pub(super) fn partition(door: &HttpDoor, topic: &str, query: Option<&str>) -> Result<Partition, Reply> {
    let topic = find(door, topic)?;
    let number = parameter(query, "partition").unwrap_or_else(|| "0".to_owned());
    let partition = number.parse().ok().and_then(|id| topic.partition(PartitionId(id)));
    partition.ok_or_else(|| {
        let count = topic.partition_count();
        refuse(
            StatusCode::NOT_FOUND,
            format!("topic \"{}\" has partitions 0 to {}, not {number}", topic.name, count - 1),
        )
    })
}

pub(super) fn find(door: &HttpDoor, topic: &str) -> Result<Arc<Topic>, Reply> {
    let found = door.store.topic(topic);
    found.ok_or_else(|| {
        refuse(StatusCode::NOT_FOUND, format!("topic \"{topic}\" does not exist; inrush topic list shows what does"))
    })
}

pub(super) fn failed(error: &ReadError) -> Reply {
    let status = match error {
        ReadError::OutOfRange { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
        ReadError::Deleted => StatusCode::NOT_FOUND,
        ReadError::Corrupt { .. } | ReadError::Io(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refuse(status, error.to_string())
}
