//! What stays of a batch in a pass, as Kafka's cleaner decides it (LogCleaner, MemoryRecords.filterTo; KIP-534):
//!
//! | what | stays |
//! |---|---|
//! | a record whose key has a later one that this pass has seen | no |
//! | the last record of its key, with a value | yes |
//! | a tombstone (null value), the last of its key | until the batch's delete horizon, which the first pass sets to now + `delete.retention.ms` |
//! | a record without a key: of the time before the topic was compacted | no |
//! | what stands at or behind the end of what this pass has seen | yes |
//! | a batch of which nothing stays | no; but emptied, if it is its producer's last one (its sequences must survive), or a segment's last one (so that whoever reads below the tail finds a batch, and segments end where the next begins) |
//! | the last record of a pipeline's batch, for a day | yes: it bears how far the pipeline has come, see `stream/sink/journal.rs` |
//! | control batches, and what cannot be decoded though its checksum is right | as they are |

use super::keys::Keys;
use crate::clock::Millis;
use crate::record::{Batch, DECODED_SIZE_MAX, Frames, Offset, PIPELINE_PRODUCER_ID_MIN};
use std::collections::HashMap;

/// What a pass goes by.
pub struct Rules<'a> {
    pub keys: &'a Keys,
    /// The end of what `keys` were noted of.
    pub end: Offset,
    pub now_ms: Millis,
    pub delete_retention_ms: Millis,
    /// Of each producer that is remembered, the last offset of its last batch.
    pub producers: &'a HashMap<i64, Offset>,
}

/// Records that a pass takes away, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub superseded: u64,
    pub tombstones: u64,
    pub keyless: u64,
}

/// What is left of a batch.
pub(super) enum Left {
    /// The batch as it is, byte by byte.
    Same,
    /// The same, because its records cannot be decoded.
    Unread,
    Part(Batch),
    /// No record; the batch is of use without.
    Empty(Batch),
    Nothing,
}

/// What a pass makes of a batch.
pub(super) struct Judged {
    pub(super) left: Left,
    pub(super) removed: Removed,
    /// When the tombstones that are left may go.
    pub(super) horizon_ms: Option<Millis>,
}

impl From<Left> for Judged {
    fn from(left: Left) -> Judged {
        Judged { left, removed: Removed::default(), horizon_ms: None }
    }
}

impl Removed {
    pub fn total(&self) -> u64 {
        self.superseded + self.tombstones + self.keyless
    }

    pub fn add(&mut self, other: Removed) {
        self.superseded += other.superseded;
        self.tombstones += other.tombstones;
        self.keyless += other.keyless;
    }
}

impl Rules<'_> {
    /// Judges a batch; `is_young`: it came within the last day.
    pub(super) fn judge(&self, batch: &Batch, is_young: bool) -> Judged {
        let header = batch.header();
        if header.is_control || batch.base_offset() >= self.end {
            return Left::Same.into();
        }
        let Ok(frames) = batch.frames(DECODED_SIZE_MAX) else { return Left::Unread.into() };
        let mut removed = Removed::default();
        let is_pipelines = header.producer.is_some_and(|producer| producer.id >= PIPELINE_PRODUCER_ID_MIN);
        let marked = (is_pipelines && is_young).then(|| frames.len().saturating_sub(1));
        let mut kept = Vec::with_capacity(frames.len());
        for at in 0..frames.len() {
            if self.stays(batch, &frames, at, &mut removed) {
                kept.push(at);
            } else if marked == Some(at) {
                // Counted as gone above; it goes in a later pass.
                kept.push(at);
            }
        }
        if kept.is_empty() {
            let is_last = |id: i64| self.producers.get(&id) == Some(&batch.last_offset());
            let left = match header.producer.is_some_and(|producer| is_last(producer.id)) {
                true if header.count == 0 => Left::Same,
                true => Left::Empty(batch.emptied()),
                false => Left::Nothing,
            };
            return Judged { removed, ..left.into() };
        }
        let has_tombstone = kept.iter().any(|at| frames.get(*at).value.is_none());
        let known_ms = header.delete_horizon();
        let new_ms = self.now_ms.saturating_add(self.delete_retention_ms);
        let horizon_ms = has_tombstone.then(|| known_ms.unwrap_or(new_ms));
        let same = Judged { horizon_ms, ..Left::Same.into() };
        let horizon = horizon_ms.filter(|_| known_ms.is_none());
        if kept.len() == frames.len() && horizon.is_none() {
            return same;
        }
        match batch.with_records(&frames, &kept, horizon) {
            Ok(part) => Judged { left: Left::Part(part), removed, horizon_ms },
            // Larger than what readers decompress: then it stays as it is.
            Err(_) => same,
        }
    }

    fn stays(&self, batch: &Batch, frames: &Frames, at: usize, removed: &mut Removed) -> bool {
        let record = frames.get(at);
        if record.offset >= self.end {
            return true;
        }
        let Some(key) = record.key else {
            removed.keyless += 1;
            return false;
        };
        if self.keys.last(key).is_some_and(|last| last > record.offset) {
            removed.superseded += 1;
            return false;
        }
        let is_over = batch.header().delete_horizon().is_some_and(|horizon| self.now_ms >= horizon);
        if record.value.is_none() && is_over {
            removed.tombstones += 1;
            return false;
        }
        true
    }
}
