//! Mending a partition that recovery opens read-only: what follows the last batch that can be believed moves to `lost+found`, and the log
//! ends there. Offline only; decides nothing: a person asked for it.

use super::checkpoint::PartitionCheckpoint;
use super::compact::{self, Cleaned};
use super::lost::{keep_rest, keep_segment};
use super::partition::Active;
use super::recovery::{Known, recover};
use super::segment;
use crate::disk::Disk;
use crate::record::Offset;
use std::io;
use std::path::Path;
use uuid::Uuid;

/// What a repair did.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Repaired {
    /// Why the partition was read-only.
    pub reason: String,
    /// Offsets from here on are lost; new batches begin here.
    pub end: Offset,
    /// End of the log as the checkpoint knew it, if it knew more.
    pub known_end: Option<Offset>,
    /// Bytes that were moved to `lost+found`.
    pub kept_bytes: u64,
    /// Segments that were moved there whole.
    pub moved: Vec<Offset>,
}

/// Repairs a partition and gives the checkpoint that it has from now on; `None` if recovery opens it as it is.
///
/// # Errors
/// The disk's. Done again it goes on: each step is durable before the next.
pub fn repair(
    disk: &dyn Disk,
    folder: &Path,
    known: &Known<'_>,
    (topic, partition): (Uuid, i32),
) -> io::Result<Option<(Repaired, PartitionCheckpoint)>> {
    let found = recover(disk, folder, known)?;
    let Some(reason) = found.read_only else { return Ok(None) };
    let mut log = found.log;
    let (mut moved, mut kept_bytes) = (Vec::new(), 0);
    if disk.exists(&log.active.segment.path) {
        let active = log.active.segment.clone();
        // From the last one back: whatever ends this leaves a chain.
        for base in segment::list(disk, folder)?.into_iter().filter(|base| *base > active.base).rev() {
            kept_bytes += keep_segment(disk, known, folder, base)?;
            moved.insert(0, base);
        }
        kept_bytes += keep_rest(disk, known, &active, log.active.position)?;
        segment::remove_index(disk, &active.path)?;
        log.cut(disk)?;
    } else {
        // Nothing is left: offsets go on behind those that were given out.
        log.active = Active::create(disk, folder, log.end)?;
    }
    let end = log.end;
    log.producers.forget_from(end);
    log.epochs.retain(|(_, begins)| *begins < end);
    if found.cleaned != Cleaned::default() {
        // What is appended from here on has not been cleaned, whatever stood there before.
        let until = found.cleaned.until.min(log.active.segment.base);
        let holes_below = found.cleaned.holes_below.min(end);
        compact::save(disk, folder, &Cleaned { until, holes_below, swap: None, ..found.cleaned })?;
    }
    let checkpoint = PartitionCheckpoint::take(topic, partition, &log, &found.segments, found.start);
    let known_end = known.checkpoint.map(|old| old.end).filter(|known_end| *known_end > end);
    Ok(Some((Repaired { reason, end, known_end, kept_bytes, moved }, checkpoint)))
}
