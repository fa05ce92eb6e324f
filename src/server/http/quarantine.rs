//! Bad lines go to `<topic>-dlt` with the reason, durable before the answer that counts them. Bounded by bytes a second: a client that
//! sends nothing but rubbish must not fill the disk with it.

use super::HttpDoor;
use super::split::{BadLine, NO_KEY};
use crate::ingest::{Chunk, Event, Events, headers_size};
use crate::store::{NewTopic, Topic, TopicError};
use bytes::Bytes;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// A longer bad line keeps its beginning: what broke is nearly always there.
const KEPT_SIZE_MAX: u32 = 64 << 10;
/// What a dead letter costs beside the line.
const LETTER_SIZE: usize = 300;

/// How many bytes of bad lines may still be kept now.
pub(super) struct Quarantine {
    /// Bytes a second; twice as many at once.
    rate: usize,
    left: Mutex<(usize, Instant)>,
}

impl Quarantine {
    pub(super) fn new(rate: usize) -> Quarantine {
        Quarantine { rate, left: Mutex::new((2 * rate, Instant::now())) }
    }

    fn may_keep(&self, size: usize, now: Instant) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let more = now.duration_since(left.1).as_millis() as usize * self.rate / 1000;
        if more > 0 {
            *left = ((left.0 + more).min(2 * self.rate), now);
        }
        let is_enough = left.0 >= size;
        if is_enough {
            left.0 -= size;
        }
        is_enough
    }
}

/// Stores the bad lines; returns how many are durable. What fails or is over the rate is only not counted: the answer lists the lines anyway.
pub(super) async fn keep(
    door: &HttpDoor,
    topic: &Arc<Topic>,
    body: &Bytes,
    bad: &[BadLine],
    shared: &[(Bytes, Bytes)],
    received_ms: i64,
) -> usize {
    let beside = LETTER_SIZE + headers_size(shared);
    let now = Instant::now();
    // A copy: the body itself may be large, and its bytes are not reserved longer than its request lives.
    let mut lines = Vec::new();
    let mut events = Events::new();
    for line in bad {
        let kept = line.place.start as usize..line.place.end.min(line.place.start + KEPT_SIZE_MAX) as usize;
        if !door.quarantine.may_keep(kept.len() + beside, now) {
            break;
        }
        let start = lines.len() as u32;
        lines.extend_from_slice(&body[kept]);
        events.push(letter(topic, line, start..lines.len() as u32, received_ms));
    }
    if events.is_empty() {
        return 0;
    }
    let Some(dead) = dead_letters(door, topic).await else { return 0 };
    let chunk = Chunk { body: lines.into(), events, headers: shared.into(), lease: None, is_compressible: true };
    let Ok(outcomes) = door.ingest.send(&dead, chunk).await else { return 0 };
    let kept = outcomes.iter().filter(|outcome| outcome.result.is_ok()).map(|outcome| outcome.events.len()).sum();
    door.meters.quarantined.increment(kept as u64);
    kept
}

fn letter(topic: &Topic, line: &BadLine, value: Range<u32>, received_ms: i64) -> Event {
    Event {
        value,
        key: None,
        timestamp: received_ms,
        headers: vec![
            header("kafka_dlt-original-topic", topic.name.as_str()),
            header("kafka_dlt-exception-fqcn", "org.springframework.kafka.support.serializer.DeserializationException"),
            header("kafka_dlt-exception-message", &line.reason),
            header("inrush-dlt-step", "http"),
            header("inrush-dlt-reason", if line.reason == NO_KEY { "no-key" } else { "not-json" }),
            header("inrush-dlt-line", &line.line.to_string()),
        ],
    }
}

/// The dead letter topic of `topic`, made if it is not there; `None` if it cannot have one.
async fn dead_letters(door: &HttpDoor, topic: &Topic) -> Option<Arc<Topic>> {
    let name = topic.name.dead_letters()?;
    if let Some(dead) = door.store.topic(name.as_str()) {
        return Some(dead);
    }
    let size_max = topic.config().max_message_bytes + (64 << 10);
    let config =
        vec![("retention.ms".to_owned(), "-1".to_owned()), ("max.message.bytes".to_owned(), size_max.to_string())];
    let new = NewTopic { name: name.clone(), partitions: topic.partition_count(), config };
    match door.store.create_topic(new).await {
        Ok(dead) => Some(dead),
        Err(TopicError::Exists(_)) => door.store.topic(name.as_str()),
        Err(error) => {
            tracing::warn!(topic = %name, %error, "the dead letter topic cannot be made, bad lines are only listed");
            None
        }
    }
}

fn header(name: &'static str, value: &str) -> (Bytes, Bytes) {
    (Bytes::from_static(name.as_bytes()), Bytes::copy_from_slice(value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_and_time_gives_room_again() {
        let quarantine = Quarantine::new(1000);
        let now = Instant::now();
        assert!(quarantine.may_keep(1900, now));
        assert!(!quarantine.may_keep(200, now));
        let later = now + std::time::Duration::from_millis(500);
        assert!(quarantine.may_keep(550, later) && !quarantine.may_keep(500, later));
    }
}
