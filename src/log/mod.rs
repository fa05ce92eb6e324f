//! The log of one partition as state without thread, ring or clock: segments, producers, stamping, recovery, checkpoint records.
//!
//! `store/` runs it: it asks for disk operations through what these types hand out, and gives the results back.

mod checkpoint;
mod partition;
mod producers;
mod recovery;
mod segment;

pub use checkpoint::{Checkpoint, PartitionCheckpoint};
pub use partition::{Active, PartitionLog, Round, Staged};
pub use producers::{Producers, SequenceError, Verdict};
pub use recovery::{Damage, Known, MAX_BATCH, Recovered, ScanEnd, recover, scan};
pub use segment::{IndexEntry, Segment, file_name, list as list_segments};

/// A round writes at most this many bytes to one partition, unless a single batch is larger; recovery relies on it: after a crash the
/// disk may hold later bytes of a round without earlier ones, but nothing beyond one round.
pub const ROUND_SIZE_MAX: usize = 8 << 20;
