//! What runs the log: topics, writer threads with group commit, readers, recovery, checkpoints, retention.
//!
//! Knows records and files; does not know who asks.
//!
//! | thread | does |
//! |---|---|
//! | `inrush-writer-N` | rounds: takes what is queued, stamps, writes, syncs, moves tails, answers |
//! | `inrush-read-N` | reads that the tail cache cannot answer |
//! | `inrush-keeper` | checkpoints, indexes, retention, rolls by age, watches the room on the disk |
//! | `inrush-cleaner` | compaction: rewrites sealed segments of one partition at a time |
//! | `inrush-space` | reserves space ahead of the writers |

mod catalog;
mod checkpoints;
mod cleaner;
mod core;
mod keeper;
mod offline;
mod open;
mod partition;
mod quotas;
mod read;
mod space;
mod start;
mod tail_cache;
#[cfg(test)]
mod tests;
mod topic;
mod topic_config;
mod writer;

pub use offline::{Finding, Offline, OfflinePartition, PartitionReport, SegmentReport};
pub use partition::{ActiveProducer, Partition, Queued};
pub use quotas::{QUOTA_ENTITIES_MAX, QuotaChange, QuotaEntity, QuotaRecord, QuotaSnapshot, QuotaValues};
pub use topic::{Alteration, TOPIC_PARTITIONS_MAX, Topic};
pub use topic_config::{
    ConfigChange, ConfigEntry, ConfigError, ConfigSource, Durability, HttpCheck, MESSAGE_BYTES_MAX, TopicConfig,
};
pub use writer::ROUND_TOTAL_MAX;

pub use crate::log::compact::KEY_BYTES_MAX as COMPACTION_KEY_BYTES_MAX;

use crate::budget::Lease;
use crate::record::{Batch, Offset, PartitionId, TopicName};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
    core: Arc<core::Core>,
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
    /// For `message.timestamp.type=LogAppendTime`; of a duplicate the greatest timestamp of its batch, as Kafka tells it; else -1.
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
    #[error("topic \"{0}\" is kept by the daemon itself")]
    Internal(TopicName),
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot write the topic catalog: {0}")]
    Io(String),
}

/// Why a data folder cannot be opened or closed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {what} {}", path.display())]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the data folder {} is used by another process", .0.display())]
    Locked(PathBuf),
    #[error("the data folder {} has format {found}, this version reads up to {known}: start it with a newer version", path.display())]
    Format { path: PathBuf, found: u32, known: u32 },
    #[error("the data folder {} has format {found}, which this version does not read ({known} is its oldest): read it with the version that wrote it", path.display())]
    OldFormat { path: PathBuf, found: u32, known: u32 },
    #[error("{} is damaged: {reason}; put back a copy of it, or move the data folder away to begin anew", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("{} is no data folder of inrush: it has no inrush.meta; name one with --data DIR", .0.display())]
    NoFolder(PathBuf),
    #[error("there is no partition {0} in this data folder")]
    NoPartition(String),
    #[error("the log did not close in time: {0}")]
    Close(String),
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
