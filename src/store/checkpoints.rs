//! Checkpoints of a running store: what changed since the last one is appended to the file, off the writers' threads.
//!
//! A partition that recovery opened read-only keeps the checkpoint it had: the next start has to come to the same verdict. Segments leave
//! the disk only after a checkpoint that does not name them.

use super::core::Core;
use super::partition::{LogState, Shared};
use super::topic_config::Durability;
use crate::disk::{Disk, lacks_descriptor};
use crate::log::journal::Journal;
use crate::log::{CHECKPOINT_SIZE_MAX, Checkpoint, PartitionCheckpoint, remove_segment};
use crate::metrics as names;
use crate::record::Offset;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;
use tracing::{info, warn};

/// The last checkpoint, in memory and on disk.
pub(super) struct Checkpoints {
    checkpoint: Checkpoint,
    journal: Journal,
}

/// What a pass took from one partition.
struct Taken {
    partition: Arc<Shared>,
    end: Offset,
    is_os: bool,
    /// Segments that the log has given up: their files go once the pass is durable.
    doomed: Vec<Offset>,
}

impl Checkpoints {
    /// Goes on from what a start read.
    pub(super) fn new(path: PathBuf, checkpoint: Checkpoint) -> Checkpoints {
        Checkpoints { checkpoint, journal: Journal::new(path) }
    }

    fn write(&mut self, disk: &dyn Disk, changed: &[PartitionCheckpoint]) -> io::Result<()> {
        if self.journal.size().is_some_and(|size| size < CHECKPOINT_SIZE_MAX) {
            let pass = Checkpoint::encode_pass(changed.iter())?;
            self.journal.append(disk, &pass)
        } else {
            let whole = self.checkpoint.encode()?;
            self.journal.rewrite(disk, &whole)
        }
    }
}

/// Writes a pass with what changed since the last one, or with everything if the log `is_clean`: all files cut and synced.
///
/// When it returns, all that had changed before it was called is durable, by this pass or by one that ran beside it.
///
/// # Errors
/// The disk's, of which anything but a full disk poisons; the log is closing.
pub(super) fn save(core: &Core, is_clean: bool) -> io::Result<()> {
    let began = Instant::now();
    core.uncheckpointed_bytes.store(0, Ordering::Relaxed);
    let mut checkpoints = core.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
    // The clean checkpoint of a stop is the last one: behind it the folder may be another process's.
    if core.is_closing() && !is_clean {
        return Err(io::Error::other("the log is closing"));
    }
    let (mut changed, mut taken) = (Vec::new(), Vec::new());
    for partition in core.partitions() {
        let mut state = partition.log();
        // A round that failed stays in the state and is not durable: nothing of it may get into a checkpoint.
        if let Some(cause) = core.poisoned() {
            return Err(io::Error::other(cause.to_owned()));
        }
        if partition.is_deleted() || partition.read_only.is_some() || !(state.is_dirty || is_clean) {
            continue;
        }
        if state.is_unsynced {
            match sync(core, &state) {
                Err(error) if !partition.is_deleted() => {
                    // A sync that did not begin lost nothing; one that failed for want of room may have.
                    if !lacks_descriptor(&error) {
                        core.poison(format!("a sync of the log failed: {error}"));
                    }
                    return Err(error);
                }
                // The files of a topic that is being deleted may be gone.
                Err(_) => continue,
                Ok(()) => state.is_unsynced = false,
            }
        }
        state.is_dirty = false;
        state.log.producers.expire(core.clock.now_ms());
        changed.push(take(&partition, &mut state, is_clean));
        let (end, is_os) = (state.log.end, changed.last().is_some_and(|pass| pass.os));
        let doomed = std::mem::take(&mut state.doomed);
        drop(state);
        taken.push(Taken { partition, end, is_os, doomed });
    }
    if changed.is_empty() {
        return Ok(());
    }
    let topics = core.topics.load();
    checkpoints.checkpoint.partitions.retain(|(topic, _), _| topics.by_id.contains_key(topic));
    for one in &changed {
        checkpoints.checkpoint.partitions.insert((one.topic, one.partition), one.clone());
    }
    let written = core.with_reserve(|| checkpoints.write(core.disk.as_ref(), &changed));
    if let Err(error) = written {
        core.poison_unless_passing("a write of the checkpoint", &error);
        // Before the next pass may begin: who finds nothing changed takes it for durable.
        for Taken { partition, doomed, .. } in taken {
            let mut state = partition.log();
            state.is_dirty = true;
            state.doomed.splice(0..0, doomed);
        }
        return Err(error);
    }
    drop(checkpoints);
    for one in taken {
        settle(core, one);
    }
    metrics::histogram!(names::STORE_CHECKPOINT_SECONDS.name).record(began.elapsed().as_secs_f64());
    Ok(())
}

/// Syncs what was answered before it was durable, on a description of our own: a shared one would eat the writer's error.
fn sync(core: &Core, state: &LogState) -> io::Result<()> {
    core.disk.open(&state.log.active.segment.path).and_then(|file| file.sync())
}

fn take(partition: &Shared, state: &mut LogState, is_clean: bool) -> PartitionCheckpoint {
    let is_os = partition.config.load().durability == Durability::Os;
    if !is_os {
        // The writer syncs before it answers until a checkpoint says `os` again.
        state.is_os_recorded = false;
    }
    let segments = partition.segments.load();
    let taken = PartitionCheckpoint::take(partition.topic_id, partition.id.0, &state.log, &segments, partition.start());
    PartitionCheckpoint { os: is_os, clean: is_clean, ..taken }
}

/// The pass is durable: what waited for it happens.
fn settle(core: &Core, taken: Taken) {
    let Taken { partition, end, is_os, doomed } = taken;
    partition.checkpointed.store(end.0, Ordering::Release);
    if is_os {
        let mut state = partition.log();
        // Unless the topic went back to fsync meanwhile: the next pass says so, and until then the writer syncs.
        state.is_os_recorded = partition.config.load().durability == Durability::Os;
    }
    if doomed.is_empty() || partition.is_deleted() {
        return;
    }
    let mut removed = 0;
    for base in doomed {
        match remove_segment(core.disk.as_ref(), &partition.folder, base) {
            Ok(()) => removed += 1,
            Err(_) if partition.is_deleted() => return,
            // The next start removes what lies below the log's start.
            Err(error) => {
                warn!(topic = %partition.topic, partition = partition.id.0, %base, %error, "an old segment could not be removed")
            }
        }
    }
    metrics::counter!(names::STORE_SEGMENTS_DELETED.name).increment(removed);
    info!(topic = %partition.topic, partition = partition.id.0, start = partition.start().0, segments = removed, "old segments deleted");
}
