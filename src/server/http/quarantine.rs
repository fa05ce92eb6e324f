//! Bad lines go to `<topic>-dlt` with the reason, durable before the answer that counts them.

use super::HttpDoor;
use super::sniff::BadLine;
use crate::ingest::{Chunk, Event};
use crate::store::{NewTopic, Topic, TopicError};
use bytes::Bytes;
use std::sync::Arc;

/// A longer bad line keeps its beginning: what broke is nearly always there.
const KEPT_SIZE_MAX: u32 = 64 << 10;

/// Stores the bad lines; returns how many are durable. What fails is only not counted: the answer lists the lines anyway.
pub(super) async fn keep(
    door: &HttpDoor,
    topic: &Arc<Topic>,
    body: &Bytes,
    bad: &[BadLine],
    shared: &[(Bytes, Bytes)],
    received_ms: i64,
) -> usize {
    let Some(dead) = dead_letters(door, topic).await else { return 0 };
    let event = |line: &BadLine| Event {
        value: line.place.start..line.place.end.min(line.place.start + KEPT_SIZE_MAX),
        key: None,
        timestamp: received_ms,
        headers: vec![
            header("kafka_dlt-original-topic", topic.name.as_str()),
            header("kafka_dlt-exception-fqcn", "org.springframework.kafka.support.serializer.DeserializationException"),
            header("kafka_dlt-exception-message", &line.reason),
            header("inrush-dlt-step", "http"),
            header("inrush-dlt-reason", "not-json"),
            header("inrush-dlt-line", &line.line.to_string()),
        ],
    };
    let events = bad.iter().map(event).collect();
    let chunk = Chunk { body: body.clone(), events, headers: shared.to_vec(), lease: None, is_compressible: true };
    let Ok(outcomes) = door.ingest.send(&dead, chunk).await else { return 0 };
    let kept = outcomes.iter().filter(|outcome| outcome.result.is_ok()).map(|outcome| outcome.events.len()).sum();
    metrics::counter!(crate::metrics::HTTP_QUARANTINED.name).increment(kept as u64);
    kept
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
