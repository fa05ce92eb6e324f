//! Compaction of one partition's log as functions over its sealed segments (Kafka's `cleanup.policy=compact`): of each key the last record
//! stays, under its offset. Owns no thread and no clock; `store/cleaner.rs` runs it.
//!
//! A pass has three steps. [`fill`] walks what no pass has seen, from the clean point on, and notes the last offset of each key in a
//! [`Keys`] of bounded memory: it ends where that is full. [`rewrite`] copies segments, from the log's start to there, into a new file
//! without the records that have a later one; neighbours that are small become one. [`swap`] puts the new file in their place. See
//! [`state`] for what a crash at any moment leaves, and `judge.rs` for what stays of a batch.

mod judge;
mod keys;
mod rewrite;
mod state;
mod swap;
#[cfg(test)]
mod tests;

pub use judge::{Removed, Rules};
pub use keys::{KEY_BYTES_MAX, Keys};
pub use rewrite::{Rewritten, fill, groups, rewrite};
pub use state::{Cleaned, Swap, load, save};
pub use swap::{abandon, look, settle, swap};

use crate::record::Offset;
use std::io;

/// Why a pass ended early. Nothing of the log has changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the disk: {0}")]
    Io(#[from] io::Error),
    /// It is not copied, or nobody could tell any more that it is damaged.
    #[error("the segment of offset {base} is damaged at position {position}: {reason}")]
    Damaged { base: Offset, position: u64, reason: String },
    #[error("the log is closing")]
    Stopped,
}
