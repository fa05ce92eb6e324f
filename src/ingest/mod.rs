//! Events to batches: what doors hand over as chunks leaves as one zstd batch per partition and commit.
//!
//! Knows neither Kafka nor SQL. CONTRACT STUB: signatures stand, bodies are the owner's of `ingest/`.

use crate::budget::Lease;
use crate::store::{AppendError, Appended, Store, Topic};
use crate::work::Pool;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// Events of one request that share a body and record headers: bodies travel, not events.
pub struct Chunk {
    pub body: Bytes,
    pub events: Vec<Event>,
    /// Headers each record gets, in order.
    pub headers: Vec<(Bytes, Bytes)>,
    /// The bytes it holds of the ingest budget.
    pub lease: Option<Lease>,
}

/// One event: where its value stands in the body, and what the door read out of it.
pub struct Event {
    pub value: Range<u32>,
    pub key: Option<Bytes>,
    pub timestamp: i64,
    /// Headers of this record alone, after the shared ones.
    pub headers: Vec<(Bytes, Bytes)>,
}

/// What became of the events `events` (indexes into the chunk), which went to one partition together.
pub struct Outcome {
    pub events: Vec<u32>,
    pub result: Result<(crate::record::PartitionId, Appended), AppendError>,
}

/// The batcher. Clones share it.
#[derive(Clone)]
pub struct Ingest {
    _stub: Arc<()>,
}

impl Ingest {
    /// Starts the batcher's threads.
    pub fn start(store: Store, pool: Arc<Pool>) -> std::io::Result<Ingest> {
        let _ = (store, pool);
        unimplemented!()
    }
    /// Queues the chunk and waits until each of its events is durable or refused. Keyless events of one chunk go to one partition; keyed ones by murmur2 of the key, as Kafka's clients.
    pub async fn send(&self, topic: &Arc<Topic>, chunk: Chunk) -> Vec<Outcome> {
        let _ = (topic, chunk);
        unimplemented!()
    }
    /// Seals and flushes what is open, then stops the threads.
    pub async fn close(&self) {
        unimplemented!()
    }
}
