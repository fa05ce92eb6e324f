//! The log of one partition as state without thread, ring or clock: segments, producers, stamping, recovery, checkpoint records.
//!
//! `store/` runs it: it asks for disk operations through what these types hand out, and gives the results back.

mod checkpoint;
pub mod compact;
mod index;
mod inspect;
pub mod journal;
mod lost;
mod partition;
mod producers;
mod recovery;
mod repair;
mod scan;
mod segment;
#[cfg(test)]
mod tests;

pub use checkpoint::{CHECKPOINT_SIZE_MAX, Checkpoint, Decoded, PartitionCheckpoint, Sealed};
pub use inspect::{Gap, Inspected, inspect};
pub use partition::{Active, PartitionLog, Round, SpaceOrder, Staged};
pub use producers::{Known as KnownProducer, Producers, Sent, SequenceError, Verdict};
pub use recovery::{Known, Recovered, SyncedBy, recover};
pub use repair::{Repaired, repair};
pub use scan::{Damage, Found, MAX_BATCH, ScanEnd, follows, scan_while, whole_batch_from};
pub use segment::{IndexEntry, Segment, Target, file_name, remove as remove_segment};

/// A round writes at most this many bytes to one partition, unless a single batch is larger; recovery relies on it: after a crash the
/// disk may hold later bytes of a round without earlier ones, but nothing beyond one round.
pub const ROUND_SIZE_MAX: usize = 8 << 20;

/// The largest round of a partition that takes batches of up to `message_bytes_max`: with room for its partial blocks.
pub fn round_bytes_max(message_bytes_max: usize) -> u64 {
    ROUND_SIZE_MAX.max(message_bytes_max + (64 << 10)) as u64
}
