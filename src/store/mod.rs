//! What runs the log: topics, writer threads with group commit, readers, recovery, checkpoints, retention.
//!
//! Knows records and files; does not know who asks. CONTRACT STUB: signatures stand, bodies are the owner's of `store/`.

mod topic_config;

pub use topic_config::{ConfigEntry, ConfigError, ConfigSource, Durability, TopicConfig};

use crate::budget::Lease;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::record::{Batch, Offset, PartitionId, TopicName};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// What the daemon's config file says about the log.
#[derive(Clone, Debug)]
pub struct Options {
    pub data: PathBuf,
    /// Writer threads; one a disk is enough.
    pub writers: usize,
    pub reader_threads: usize,
    pub tail_cache_bytes: usize,
    /// Refuse writes below this many free bytes; `None` = min(5 % of the file system, 2 GiB), at least 64 MiB.
    pub low_disk_bytes: Option<u64>,
    pub checkpoint_interval: Duration,
}

/// The log of one data folder. Clones share it.
#[derive(Clone)]
pub struct Store {
    _stub: Arc<()>,
}

/// A topic as it is now. Partitions are only ever added.
pub struct Topic {
    pub id: Uuid,
    pub name: TopicName,
    _stub: (),
}

/// A handle on one partition; cheap to clone, alive as long as the store.
#[derive(Clone)]
pub struct Partition {
    _stub: Arc<()>,
}

/// One batch for the end of a partition.
pub struct Append {
    pub batch: Batch,
    /// The bytes it holds of the ingest budget, given back when it is answered. `None` for pipelines and tests.
    pub lease: Option<Lease>,
    /// Which epoch the sender believes in; -1 = any.
    pub leader_epoch: i32,
}

/// Where an append went. Durable as the topic's class asks when this is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub log_start: Offset,
    /// For `message.timestamp.type=LogAppendTime`; else -1.
    pub append_time_ms: i64,
    /// It had been taken before (same producer, epoch, sequence); the offsets are the first one's.
    pub is_duplicate: bool,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    #[error("partition {topic}/{partition} does not exist")]
    NoPartition { topic: TopicName, partition: PartitionId },
    #[error("batch of {size} bytes exceeds max.message.bytes of {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("{0}")]
    Invalid(String),
    #[error("sequence {found} of producer {producer} is out of order, {expected} is next")]
    OutOfOrderSequence { producer: i64, expected: i32, found: i32 },
    #[error("epoch {found} of producer {producer} is older than {current}")]
    InvalidProducerEpoch { producer: i64, current: i16, found: i16 },
    #[error("leader epoch {found} is not {current}")]
    FencedLeaderEpoch { current: i32, found: i32 },
    /// Nothing was taken; try again later.
    #[error("the queue of the log writer is full")]
    QueueFull,
    /// Nothing was taken; the disk has too little room.
    #[error("the disk is nearly full: {0}")]
    LowDisk(String),
    /// Nothing was taken, and nothing will be until the cause is mended.
    #[error("the log does not take writes: {0}")]
    Refused(String),
    /// A write or sync failed under it: it may exist after a restart.
    #[error("unknown whether the batch is stored: {0}")]
    Unknown(String),
    #[error("the log is closing")]
    Closing,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("offset {offset} is outside {start} to {tail}")]
    OutOfRange { offset: Offset, start: Offset, tail: Offset },
    #[error("damaged at offset {offset}: {reason}")]
    Corrupt { offset: Offset, reason: String },
    #[error("cannot read: {0}")]
    Io(String),
    #[error("the partition was deleted")]
    Deleted,
}

/// Batches from a partition: whole ones, the first holds (or follows, after compaction) the offset asked for. Empty = nothing there yet.
#[derive(Clone, Debug)]
pub struct Slice {
    pub batches: Vec<Batch>,
    pub start: Offset,
    pub tail: Offset,
}

/// What a question for a time is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOffset {
    pub offset: Offset,
    pub timestamp: i64,
    pub leader_epoch: i32,
}

#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    #[error("topic \"{0}\" exists already")]
    Exists(TopicName),
    #[error("topic \"{0}\" does not exist")]
    Missing(TopicName),
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot write the topic catalog: {0}")]
    Io(String),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Stub(String),
}

/// What `/readyz` and the doors ask.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// First cause of a poisoned data folder.
    pub poisoned: Option<String>,
    /// Free bytes, if under the limit.
    pub low_disk: Option<u64>,
    /// Longest time a writer has been waiting for the disk in its running round.
    pub writer_waits: Duration,
    /// Partitions opened read-only by recovery, with the reason.
    pub read_only: Vec<(TopicName, PartitionId, String)>,
}

/// What a new topic is to be.
#[derive(Clone, Debug)]
pub struct NewTopic {
    pub name: TopicName,
    pub partitions: i32,
    /// Config overrides by Kafka's names.
    pub config: Vec<(String, String)>,
}

impl Store {
    /// Opens the folder: locks it, recovers each partition, starts the threads. Blocks; ready for appends when it returns.
    pub fn open(options: Options, disk: Arc<dyn Disk>, clock: Clock) -> Result<Store, Error> {
        let _ = (options, disk, clock);
        unimplemented!()
    }
    pub fn cluster_id(&self) -> Uuid {
        unimplemented!()
    }
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        unimplemented!()
    }
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        let _ = name;
        unimplemented!()
    }
    pub fn topic_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        let _ = id;
        unimplemented!()
    }
    /// Durable in the catalog, folders made, when it returns.
    pub async fn create_topic(&self, new: NewTopic) -> Result<Arc<Topic>, TopicError> {
        let _ = new;
        unimplemented!()
    }
    pub async fn delete_topic(&self, name: &TopicName) -> Result<(), TopicError> {
        let _ = name;
        unimplemented!()
    }
    /// Sets (`Some`) or resets to the default (`None`) config entries, all or none.
    pub async fn alter_topic(
        &self,
        name: &TopicName,
        changes: Vec<(String, Option<String>)>,
    ) -> Result<(), TopicError> {
        let _ = (name, changes);
        unimplemented!()
    }
    pub async fn add_partitions(&self, name: &TopicName, total: i32) -> Result<(), TopicError> {
        let _ = (name, total);
        unimplemented!()
    }
    /// Never given out before, also over restarts.
    pub async fn next_producer_id(&self) -> Result<i64, TopicError> {
        unimplemented!()
    }
    pub fn health(&self) -> Health {
        unimplemented!()
    }
    /// Waits for the queues, cuts and syncs the active segments, writes a clean checkpoint, joins the threads.
    pub async fn close(&self, deadline: Duration) -> Result<(), Error> {
        let _ = deadline;
        unimplemented!()
    }
}

impl Topic {
    pub fn config(&self) -> Arc<TopicConfig> {
        unimplemented!()
    }
    pub fn partition_count(&self) -> i32 {
        unimplemented!()
    }
    pub fn partition(&self, id: PartitionId) -> Option<Partition> {
        let _ = id;
        unimplemented!()
    }
    pub fn is_deleted(&self) -> bool {
        unimplemented!()
    }
}

impl Partition {
    pub fn topic(&self) -> &TopicName {
        unimplemented!()
    }
    pub fn topic_id(&self) -> Uuid {
        unimplemented!()
    }
    pub fn id(&self) -> PartitionId {
        unimplemented!()
    }
    /// First offset that readers may ask for.
    pub fn start(&self) -> Offset {
        unimplemented!()
    }
    /// First offset that readers may not see (Kafka's high watermark).
    pub fn tail(&self) -> Offset {
        unimplemented!()
    }
    pub fn leader_epoch(&self) -> i32 {
        unimplemented!()
    }
    /// Bytes on disk.
    pub fn size(&self) -> u64 {
        unimplemented!()
    }
    /// Appends; waits for room in the writer's queue until `patience` is over ([`AppendError::QueueFull`]), then for the round. Dropping the future does not undo the append.
    pub async fn append(&self, append: Append, patience: Duration) -> Result<Appended, AppendError> {
        let _ = (append, patience);
        unimplemented!()
    }
    /// As [`Partition::append`] for a plain thread.
    pub fn append_blocking(&self, append: Append) -> Result<Appended, AppendError> {
        let _ = append;
        unimplemented!()
    }
    /// Queues the append now or gives it back. The answer comes on the receiver, in the order of the calls.
    pub fn try_append(
        &self,
        append: Append,
    ) -> Result<tokio::sync::oneshot::Receiver<Result<Appended, AppendError>>, (Append, AppendError)> {
        let _ = append;
        unimplemented!()
    }
    /// Whole batches from the one that holds `from`, up to `size_max` bytes but at least one. From the tail cache, else on a reader thread; CRC checked.
    pub async fn read(&self, from: Offset, size_max: usize) -> Result<Slice, ReadError> {
        let _ = (from, size_max);
        unimplemented!()
    }
    /// As [`Partition::read`] on the calling thread, for pipelines.
    pub fn read_blocking(&self, from: Offset, size_max: usize) -> Result<Slice, ReadError> {
        let _ = (from, size_max);
        unimplemented!()
    }
    /// Returns when the tail is past `known` (at once if it is already), or the partition was deleted.
    pub async fn tail_past(&self, known: Offset) {
        let _ = known;
        unimplemented!()
    }
    /// The first record with a timestamp >= `timestamp`; none = `None`.
    pub async fn offset_for_time(&self, timestamp: i64) -> Result<Option<TimedOffset>, ReadError> {
        let _ = timestamp;
        unimplemented!()
    }
    /// The record with the greatest timestamp.
    pub async fn max_timestamp(&self) -> Result<Option<TimedOffset>, ReadError> {
        unimplemented!()
    }
    /// Leader epoch of the batch that holds `offset`, -1 if there is none.
    pub fn epoch_at(&self, offset: Offset) -> i32 {
        let _ = offset;
        unimplemented!()
    }
    /// For OffsetForLeaderEpoch: the greatest epoch <= `epoch` and its end offset; `None` = (-1, -1).
    pub fn epoch_end(&self, epoch: i32) -> Option<(i32, Offset)> {
        let _ = epoch;
        unimplemented!()
    }
    /// Durable offset in the log's last checkpoint; a pipeline's checkpoint may not pass it (matters for `durability = os`).
    pub fn checkpointed(&self) -> Offset {
        unimplemented!()
    }
    /// Deletes records below `offset` (Kafka's DeleteRecords, retention's way too).
    pub async fn delete_below(&self, offset: Offset) -> Result<Offset, ReadError> {
        let _ = offset;
        unimplemented!()
    }
}
