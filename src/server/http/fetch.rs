//! `GET /v1/topics/{topic}/events`: records as JSON, for people and small programs.

use super::HttpDoor;
use super::post::percent_decoded;
use super::reply::{Reply, json, refuse};
use crate::record::{DECODED_SIZE_MAX, Offset, PartitionId, Record};
use crate::store::{Partition, ReadError, Topic};
use hyper::StatusCode;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Records of one answer, by default and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 10_000;
/// Bytes of batches that one answer decodes.
const SIZE_MAX: usize = 8 << 20;

pub(super) async fn events(door: &HttpDoor, topic: &str, query: Option<&str>) -> Reply {
    match read(door, topic, query).await {
        Ok(reply) | Err(reply) => reply,
    }
}

async fn read(door: &HttpDoor, topic: &str, query: Option<&str>) -> Result<Reply, Reply> {
    let (partition, mut next) = place(door, topic, query).await?;
    let limit = match parameter(query, "limit") {
        None => LIMIT,
        Some(text) => text.parse::<usize>().ok().filter(|limit| *limit <= LIMIT_MAX).ok_or_else(|| {
            refuse(StatusCode::BAD_REQUEST, format!("limit={text} is not a number up to {LIMIT_MAX}"))
        })?,
    };
    let mut events = Vec::new();
    let (mut start, mut tail) = (partition.start(), partition.tail());
    while events.len() < limit && next < tail {
        let slice = partition.read(next, SIZE_MAX).await.map_err(|error| failed(&error))?;
        (start, tail) = (slice.start, slice.tail);
        if slice.batches.is_empty() {
            break;
        }
        'batches: for batch in slice.batches {
            let records = batch.records(DECODED_SIZE_MAX).map_err(|error| {
                refuse(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("the batch at offset {} cannot be decoded: {error}", batch.base_offset()),
                )
            })?;
            for record in records.iter().filter(|record| record.offset >= next) {
                if events.len() == limit {
                    next = record.offset;
                    break 'batches;
                }
                events.push(record_json(record));
            }
            next = batch.next_offset();
        }
    }
    let body = serde_json::json!({
        "topic": partition.topic().as_str(), "partition": partition.id(), "start": start, "tail": tail, "next": next, "events": events,
    });
    Ok(json(StatusCode::OK, &body))
}

/// The partition and offset that a query names: `partition` (0), `from` (start): an offset, `start`, `end`, or `time:MS`.
pub(super) async fn place(door: &HttpDoor, topic: &str, query: Option<&str>) -> Result<(Partition, Offset), Reply> {
    let topic = find(door, topic)?;
    let number = parameter(query, "partition").unwrap_or_else(|| "0".to_owned());
    let partition = number.parse().ok().and_then(|id| topic.partition(PartitionId(id)));
    let partition = partition.ok_or_else(|| {
        let count = topic.partition_count();
        refuse(
            StatusCode::NOT_FOUND,
            format!("topic \"{}\" has partitions 0 to {}, not {number}", topic.name, count - 1),
        )
    })?;
    let from = parameter(query, "from").unwrap_or_else(|| "start".to_owned());
    let offset = match from.as_str() {
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
    };
    Ok((partition, offset))
}

pub(super) fn find(door: &HttpDoor, topic: &str) -> Result<Arc<Topic>, Reply> {
    let found = door.store.topic(topic);
    found.ok_or_else(|| {
        refuse(StatusCode::NOT_FOUND, format!("topic \"{topic}\" does not exist; inrush topic list shows what does"))
    })
}

pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let pair = query?.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?;
    String::from_utf8(percent_decoded(pair.1)).ok()
}

pub(super) fn failed(error: &ReadError) -> Reply {
    let status = match error {
        ReadError::OutOfRange { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
        ReadError::Deleted => StatusCode::NOT_FOUND,
        ReadError::Corrupt { .. } | ReadError::Io(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refuse(status, error.to_string())
}

/// A record as JSON: JSON values as they are, other text as a string, bytes as base64 under `value_base64`.
pub fn record_json(record: &Record) -> Value {
    let mut out = Map::new();
    out.insert("offset".into(), record.offset.0.into());
    out.insert("timestamp".into(), record.timestamp.into());
    insert(&mut out, "key", record.key.as_deref(), false);
    insert(&mut out, "value", record.value.as_deref(), true);
    let mut headers = Map::new();
    for (name, value) in &record.headers {
        insert(&mut headers, &String::from_utf8_lossy(name), value.as_deref(), false);
    }
    out.insert("headers".into(), headers.into());
    out.into()
}

fn insert(out: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>, may_be_json: bool) {
    let Some(bytes) = bytes else {
        out.insert(name.to_owned(), Value::Null);
        return;
    };
    if may_be_json && let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        out.insert(name.to_owned(), value);
        return;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => out.insert(name.to_owned(), text.into()),
        Err(_) => out.insert(format!("{name}_base64"), base64(bytes).into()),
    };
}

/// RFC 4648 base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let is_padding = place > group.len();
            out.push(if is_padding { '=' } else { SYMBOLS[(bits >> (18 - 6 * place) & 63) as usize] as char });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
