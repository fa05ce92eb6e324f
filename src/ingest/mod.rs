//! Events to batches: what doors hand over as chunks leaves as one zstd batch per partition and commit.
//!
//! Bodies travel, not events: a [`Chunk`] is the body of one request with the places of its events. One thread, the batcher, takes chunks
//! from a lock-free queue and copies each event once, into the batch it leaves in. While a partition's batch is at the log, the next
//! gathers; so batches grow with load, and who sends alone waits for nothing. Knows neither Kafka nor SQL.

mod batcher;
mod job;
mod lane;
mod seal;

use crate::budget::Lease;
use crate::pulse::Pulse;
use crate::record::PartitionId;
use crate::store::{AppendError, Appended, Topic};
use batcher::Inbox;
use bytes::Bytes;
use job::Job;
pub use job::Submitted;
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Events of one request that share a body and record headers.
pub struct Chunk {
    pub body: Bytes,
    pub events: Events,
    /// Headers that each record gets, in order.
    pub headers: Headers,
    /// The bytes it holds of the ingest budget; given back when its last event is answered.
    pub lease: Option<Lease>,
    /// Whether compressing is worth a try: not for pictures.
    pub is_compressible: bool,
}

/// The events of a request: mostly one, which then takes no memory of its own.
pub type Events = SmallVec<[Event; 1]>;
/// Names and values of record headers.
pub type Headers = SmallVec<[(Bytes, Bytes); 1]>;
/// What became of a request: mostly it went into one batch.
pub type Outcomes = SmallVec<[Outcome; 1]>;

/// One event: where its value stands in the body, and what the door read out of it.
pub struct Event {
    pub value: Range<u32>,
    pub key: Option<Bytes>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Headers of this record alone, after the shared ones.
    pub headers: Vec<(Bytes, Bytes)>,
}

/// Bytes that headers take in a record, at most.
pub(crate) fn headers_size(headers: &[(Bytes, Bytes)]) -> usize {
    headers.iter().map(|(name, value)| name.len() + value.len() + 10).sum()
}

/// What became of some events of a chunk that went to one partition in one batch.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub events: Indexes,
    pub result: Result<(PartitionId, Appended), AppendError>,
}

/// Some events of a chunk, by their place in it, ascending. Nearly always a run: then it costs no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Indexes {
    Run(Range<u32>),
    List(Vec<u32>),
}

impl Indexes {
    pub(crate) const NONE: Indexes = Indexes::Run(0..0);

    pub fn len(&self) -> usize {
        match self {
            Indexes::Run(run) => run.len(),
            Indexes::List(list) => list.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let (run, list) = match self {
            Indexes::Run(run) => (run.clone(), &[][..]),
            Indexes::List(list) => (0..0, list.as_slice()),
        };
        run.chain(list.iter().copied())
    }

    /// Leaves the first `count` here and returns the others.
    pub(crate) fn split_off(&mut self, count: usize) -> Indexes {
        match self {
            Indexes::Run(run) => {
                let at = run.end.min(run.start + count as u32);
                let rest = at..run.end;
                run.end = at;
                Indexes::Run(rest)
            }
            Indexes::List(list) => Indexes::List(list.split_off(count)),
        }
    }
}

/// The batcher. Clones share it.
#[derive(Clone)]
pub struct Ingest {
    inbox: Arc<Inbox>,
    pulse: Pulse,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Ingest {
    /// Starts the batcher's thread. `runtime` runs the small tasks that wait for the log.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(runtime: tokio::runtime::Handle) -> std::io::Result<Ingest> {
        let inbox = Arc::new(Inbox::new());
        let pulse = Pulse::new("the batcher");
        let own = (inbox.clone(), pulse.clone());
        let thread = std::thread::Builder::new().name("inrush-batcher".to_owned());
        let sealer = seal::Sealer::start(inbox.clone(), runtime)?;
        let thread = thread.spawn(move || batcher::run(&own.0, &sealer, &own.1))?;
        inbox.wakes(thread.thread().clone());
        Ok(Ingest { inbox, pulse, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Queues the chunk. Keyless events of a chunk go to one partition, keyed ones where Kafka's clients would send them.
    ///
    /// # Errors
    /// The chunk, if the queue is full: nothing of it was taken.
    pub fn submit(&self, topic: &Arc<Topic>, mut chunk: Chunk) -> Result<Submitted, Chunk> {
        let (owed, submitted) = Job::begin(chunk.lease.take(), chunk.events.len() as u32);
        self.inbox.push(topic.clone(), chunk, owed).map(|()| submitted)
    }

    /// As [`Ingest::submit`], and waits until each event is durable or refused.
    ///
    /// # Errors
    /// As there.
    pub async fn send(&self, topic: &Arc<Topic>, chunk: Chunk) -> Result<Outcomes, Chunk> {
        Ok(self.submit(topic, chunk)?.outcomes().await)
    }

    /// Chunks that wait for the batcher.
    pub fn queued(&self) -> usize {
        self.inbox.len()
    }

    /// Beats with each turn of the batcher.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// From now on no topic's linger is waited for: clients that wait for it get their answers before the doors close.
    pub fn hurry(&self) {
        self.inbox.hurry();
    }

    /// Writes what is queued and stops the thread. Doors are closed before. A disk that hangs is waited for.
    pub async fn close(&self) {
        self.inbox.stop();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::clock::Clock;
    use crate::disk::Disk;
    use crate::record::TopicName;
    use crate::store::{NewTopic, Options, Store, Topic};
    use std::sync::Arc;
    use std::time::Duration;

    /// A small store that makes no checkpoint.
    pub(super) fn store(disk: Arc<dyn Disk>) -> Store {
        let options = Options {
            data: "/data".into(),
            writers: 1,
            reader_threads: 1,
            tail_cache_bytes: 1 << 20,
            low_disk_bytes: Some(0),
            checkpoint_interval: Duration::from_secs(3_600),
        };
        Store::open(options, disk, Clock::manual(0)).unwrap()
    }

    pub(super) async fn topic(store: &Store, partitions: i32) -> Arc<Topic> {
        let new = NewTopic { name: TopicName::new("t").unwrap(), partitions, config: vec![] };
        store.create_topic(new).await.unwrap()
    }
}
