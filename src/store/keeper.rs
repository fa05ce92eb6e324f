//! The keeper: one thread beside the writers that checkpoints, applies retention, rolls segments by age and watches the disk's room.

use super::core::Core;
use super::partition::{LogState, Shared};
use super::{checkpoints, cleaner, writer};
use crate::clock::JumpWatch;
use crate::log::Segment;
use crate::metrics as names;
use crate::record::Offset;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// So many bytes over all partitions make a checkpoint before its time: a start has to scan no more than these.
pub(super) const CHECKPOINT_BYTES: u64 = 256 << 20;
/// Retention and age are looked at this often.
const RETENTION_INTERVAL: Duration = Duration::from_secs(5);
/// What there is to compact is looked at this often.
const CLEAN_INTERVAL: Duration = Duration::from_secs(1);
/// Files that nobody used for so long are closed.
const FILES_INTERVAL: Duration = Duration::from_secs(30);
/// The disk's room is looked at this often.
const SPACE_INTERVAL: Duration = Duration::from_millis(500);
/// Room below which writes are refused, if the options name none.
const LOW_DISK_MAX: u64 = 2 << 30;
const LOW_DISK_MIN: u64 = 64 << 20;

/// Runs until the store closes.
pub(super) fn run(core: &Arc<Core>) {
    let mut watch = JumpWatch::new(core.clock.now_ms());
    let (mut checkpointed, mut retained, mut spaced) = (Instant::now(), Instant::now(), Instant::now());
    let (mut cleaned, mut closed) = (Instant::now(), Instant::now());
    while !core.is_closing() {
        std::thread::park_timeout(core.options.checkpoint_interval.min(SPACE_INTERVAL));
        if spaced.elapsed() >= SPACE_INTERVAL {
            spaced = Instant::now();
            look_at_space(core);
        }
        if core.poisoned().is_some() || core.is_closing() {
            continue;
        }
        write_indexes(core);
        if closed.elapsed() >= FILES_INTERVAL {
            closed = Instant::now();
            core.disk.open_files().close_idle();
        }
        if retained.elapsed() >= RETENTION_INTERVAL {
            retained = Instant::now();
            let may_delete = watch.is_steady(core.clock.now_ms());
            for partition in core.partitions() {
                if let Err(error) = retain(core, &partition, may_delete) {
                    warn!(topic = %partition.topic, partition = partition.id.0, %error, "retention failed, tried again later");
                }
            }
        }
        if cleaned.elapsed() >= CLEAN_INTERVAL {
            cleaned = Instant::now();
            if watch.is_steady(core.clock.now_ms()) {
                cleaner::hand_out(core);
            }
        }
        let is_much = core.uncheckpointed_bytes.load(Ordering::Relaxed) >= CHECKPOINT_BYTES;
        if is_much || checkpointed.elapsed() >= core.options.checkpoint_interval {
            checkpointed = Instant::now();
            if let Err(error) = checkpoints::save(core, false) {
                error!(%error, "cannot write the checkpoint");
            }
        }
    }
}

/// Writes the index files of what was sealed since the last look. They are caches: a failure costs a reader time, nothing else.
pub(super) fn write_indexes(core: &Core) {
    while let Some(segment) = core.unindexed.pop() {
        if segment.is_retired() {
            continue;
        }
        if let Err(error) = segment.prepare(core.disk.as_ref())
            && !segment.is_retired()
        {
            warn!(segment = %segment.path.display(), %error, "no index was written, its first reader makes one");
        }
    }
}

/// Deletes segments that are too old or too many, and rolls an active one whose time is over.
pub(super) fn retain(core: &Arc<Core>, partition: &Arc<Shared>, may_delete: bool) -> io::Result<()> {
    let config = partition.config.load_full();
    let now_ms = core.clock.now_ms();
    let age_of = |segment: &Segment| {
        // A segment that compaction has emptied has no timestamp.
        let by_timestamp = config.retention_by_timestamp && segment.max_timestamp() >= 0;
        now_ms.saturating_sub(if by_timestamp { segment.max_timestamp() } else { segment.arrived_ms() })
    };
    {
        let mut state = partition.log();
        let active = &state.log.active;
        let is_expired = config.deletes && config.retention_ms.is_some_and(|limit| age_of(&active.segment) > limit);
        let segment_ms = partition.segment_ms(&config, active.segment.base);
        let is_old = active.began_ms > 0 && now_ms.saturating_sub(active.began_ms) >= segment_ms;
        let is_written = !partition.is_deleted() && partition.read_only.is_none();
        if active.position > 0 && is_written && (is_expired || is_old) {
            writer::roll(core, partition, &mut state)?;
        }
    }
    if !may_delete || !config.deletes {
        return Ok(());
    }
    let segments = partition.segments.load_full();
    let mut total: u64 = segments.iter().map(|segment| segment.size()).sum();
    let mut keep_from = None;
    for pair in segments.windows(2) {
        let (segment, next) = (&pair[0], &pair[1]);
        let is_expired = config.retention_ms.is_some_and(|limit| age_of(segment) > limit);
        let is_too_much = config.retention_bytes.is_some_and(|limit| total - segment.size() >= limit);
        if !is_expired && !is_too_much {
            break;
        }
        total -= segment.size();
        keep_from = Some(next.base);
    }
    if let Some(offset) = keep_from {
        delete_below(partition, offset);
    }
    Ok(())
}

/// Moves the start up to `offset`. The segments that lie below it leave the log now, and the disk after the next checkpoint.
pub(super) fn delete_below(partition: &Shared, offset: Offset) {
    let mut state = partition.log();
    partition.start.fetch_max(offset.0.min(partition.tail().0), Ordering::AcqRel);
    state.is_dirty = true;
    give_up_below_start(partition, &mut state);
}

/// Takes the segments below the start out of the log, unless the cleaner is about to put another in the place of one: then it does so
/// when it has.
pub(super) fn give_up_below_start(partition: &Shared, state: &mut LogState) {
    if state.is_swapping {
        return;
    }
    let start = partition.start();
    let segments = partition.segments.load_full();
    let gone = segments.windows(2).take_while(|pair| pair[1].base <= start).count();
    if gone > 0 {
        segments[..gone].iter().for_each(|segment| segment.retire());
        state.doomed.extend(segments[..gone].iter().map(|segment| segment.base));
        partition.segments.store(Arc::new(segments[gone..].to_vec()));
        state.is_dirty = true;
    }
}

pub(super) fn look_at_space(core: &Core) {
    let Ok(space) = core.disk.space(&core.options.data) else { return };
    metrics::gauge!(names::STORE_FREE_BYTES.name).set(space.free as f64);
    let low = core.options.low_disk_bytes.unwrap_or_else(|| (space.total / 20).clamp(LOW_DISK_MIN, LOW_DISK_MAX));
    match core.low_disk() {
        // Room enough to go on is more than room enough to stop: else the doors would flap.
        Some(_) if space.free >= low + low / 2 => {
            info!(free = space.free, "there is room on the disk again, writes go on");
            core.set_low_disk(None);
            core.keep_reserve();
        }
        None if space.free >= low => {}
        found => {
            if found.is_none() {
                warn!(free = space.free, low, "the disk is nearly full, writes are refused");
            }
            core.set_low_disk(Some(space.free));
        }
    }
}
