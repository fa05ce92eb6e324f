//! Compaction of a running store: the keeper says which partition, one thread of its own does it, as `log/compact` says how.
//!
//! Writers and readers are held up for as long as it takes to put a vector of segments in the place of another. What is cleaned is sealed,
//! stands in the durable checkpoint as sealed, and is older than `min.compaction.lag.ms`.

use super::core::Core;
use super::keeper::give_up_below_start;
use super::partition::Shared;
use super::topic_config::TopicConfig;
use super::{checkpoints, topic};
use crate::clock::Millis;
use crate::disk::is_full;
use crate::log::Segment;
use crate::log::compact::{self, Cleaned, Error, Keys, Removed, Rewritten, Rules};
use crate::metrics as names;
use crate::record::{HEADER_SIZE, Header, Offset};
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// A partition whose pass failed is left alone for so long.
const FAILED_PAUSE: Duration = Duration::from_secs(600);
/// Room that stays beside the file that a pass writes.
const ROOM_LEFT: u64 = 64 << 20;

/// What there is to clean in a partition.
struct Dirt {
    /// Sealed segments, from the log's start on, as far as they may be cleaned.
    segments: Vec<Arc<Segment>>,
    /// No pass has seen what lies between.
    from: Offset,
    until: Offset,
    bytes: u64,
    ratio: f64,
    is_due: bool,
}

/// When a partition's last pass failed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Failed {
    At(Instant),
    ForGood,
}

impl Failed {
    fn is_pausing(self) -> bool {
        match self {
            Failed::At(failed) => failed.elapsed() < FAILED_PAUSE,
            Failed::ForGood => true,
        }
    }
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) bytes_before: u64,
    pub(super) bytes_after: u64,
    pub(super) records: u64,
    pub(super) removed: Removed,
    pub(super) undecodable: u64,
    /// All below it has been seen now.
    pub(super) until: Offset,
}

/// Runs until the store closes.
pub(super) fn run(core: &Arc<Core>) {
    while !core.is_closing() {
        let Some(partition) = core.to_clean.pop() else {
            std::thread::park();
            continue;
        };
        let ended = catch_unwind(AssertUnwindSafe(|| attempt(core, &partition, Keys::default())));
        if ended.is_err() {
            // Nothing of the log has changed, or a start ends the swap; but the partition is not touched again before.
            error!(topic = %partition.topic, partition = partition.id.0, "the cleaner panicked: this is a bug");
            partition.log().clean_failed = Some(Failed::ForGood);
            metrics::counter!(names::STORE_COMPACTION_FAILURES.name).increment(1);
        }
        core.is_cleaning.store(false, Ordering::Release);
    }
}

/// Looks at all partitions, tells the worst of them, and gives the cleaner that one if it is due and the cleaner is idle.
pub(super) fn hand_out(core: &Core) {
    let (mut worst, mut dirtiest_bytes) = (None::<(f64, Arc<Shared>)>, 0);
    let mut ratio_max = 0.0_f64;
    let topics = core.topics.load();
    let compacted = topics.by_name.values().filter(|topic| topic.config.load().compacts);
    for partition in compacted.flat_map(|topic| topic.shared()) {
        let Some(dirt) = look(core, &partition) else { continue };
        ratio_max = ratio_max.max(dirt.ratio);
        dirtiest_bytes = dirtiest_bytes.max(dirt.bytes);
        if dirt.is_due && worst.as_ref().is_none_or(|(ratio, _)| dirt.ratio > *ratio) {
            worst = Some((dirt.ratio, partition));
        }
    }
    metrics::gauge!(names::STORE_COMPACTION_DIRTY_RATIO.name).set(ratio_max);
    metrics::gauge!(names::STORE_COMPACTION_DIRTY_BYTES.name).set(dirtiest_bytes as f64);
    let Some((_, partition)) = worst else { return };
    // Acquire pairs with the Release in `run`: who sees it idle sees what it changed.
    if !core.is_cleaning.load(Ordering::Acquire) {
        core.is_cleaning.store(true, Ordering::Relaxed);
        // It is idle, so the place is free.
        let _ = core.to_clean.push(partition);
        core.cleaner.get().inspect(|cleaner| cleaner.unpark());
    }
}

/// One pass over a partition, with what goes wrong told and counted.
pub(super) fn attempt(core: &Core, partition: &Arc<Shared>, keys: Keys) -> Option<Report> {
    let began = Instant::now();
    let (topic, id) = (&partition.topic, partition.id.0);
    match clean(core, partition, keys) {
        Ok(report) => {
            count(&report, began.elapsed());
            info!(%topic, partition = id, until = report.until.0, bytes_before = report.bytes_before,
                bytes_after = report.bytes_after, records = report.records, superseded = report.removed.superseded,
                tombstones = report.removed.tombstones, keyless = report.removed.keyless,
                undecodable = report.undecodable, "partition compacted");
            Some(report)
        }
        Err(Error::Stopped) => None,
        Err(_) if partition.is_deleted() => None,
        Err(error) => {
            partition.log().clean_failed = Some(Failed::At(Instant::now()));
            metrics::counter!(names::STORE_COMPACTION_FAILURES.name).increment(1);
            match &error {
                Error::Io(error) if is_full(error) => {
                    warn!(%topic, partition = id, %error, "no room to compact a partition, tried again later")
                }
                error => error!(%topic, partition = id, %error, "a partition cannot be compacted, tried again later"),
            }
            None
        }
    }
}

fn count(report: &Report, took: Duration) {
    metrics::counter!(names::STORE_COMPACTION_RUNS.name).increment(1);
    metrics::counter!(names::STORE_COMPACTION_READ_BYTES.name).increment(report.bytes_before);
    metrics::counter!(names::STORE_COMPACTION_WRITTEN_BYTES.name).increment(report.bytes_after);
    let Removed { superseded, tombstones, keyless } = report.removed;
    for (reason, removed) in [("superseded", superseded), ("tombstone", tombstones), ("no-key", keyless)] {
        metrics::counter!(names::STORE_COMPACTION_REMOVED_RECORDS.name, "reason" => reason).increment(removed);
    }
    metrics::histogram!(names::STORE_COMPACTION_SECONDS.name).record(took.as_secs_f64());
}

#[cfg(test)]
pub(super) fn is_due(core: &Core, partition: &Shared) -> bool {
    look(core, partition).is_some_and(|dirt| dirt.is_due)
}

/// What may be cleaned now; `None` for a partition that is not compacted, or has nothing that could be.
fn look(core: &Core, partition: &Shared) -> Option<Dirt> {
    let config = partition.config.load();
    if !config.compacts || partition.is_deleted() || partition.read_only.is_some() {
        return None;
    }
    let now_ms = core.clock.now_ms();
    let (segments, cleaned) = {
        let state = partition.log();
        if state.clean_failed.is_some_and(Failed::is_pausing) {
            return None;
        }
        (partition.segments.load_full(), state.cleaned.clone())
    };
    let sealed = &segments[..segments.len().saturating_sub(1)];
    let from = cleaned.until.max(partition.start());
    let may_be_cleaned = |at: &usize| sealed[*at].base < from || is_old_enough(&config, &sealed[*at], now_ms);
    let count = (0..sealed.len()).take_while(may_be_cleaned).count();
    let (sealed, until) = (&sealed[..count], segments.get(count).map_or(from, |next| next.base));
    let first_dirty = (0..count).find(|at| segments[at + 1].base > from).unwrap_or(count);
    let bytes: u64 = sealed[first_dirty..].iter().map(|segment| segment.size()).sum();
    let total: u64 = sealed.iter().map(|segment| segment.size()).sum();
    let ratio = if total == 0 { 0.0 } else { bytes as f64 / total as f64 };
    let is_late = || bytes > 0 && is_too_old(core, &config, &sealed[first_dirty], now_ms);
    // A tombstone's time is over: Kafka waits for new records then, which a topic that nobody writes to any more never gets.
    let has_expired = count > 0 && cleaned.horizon_ms.is_some_and(|horizon| now_ms >= horizon);
    // As Kafka compares: with a ratio of 1 only the two times make a pass due.
    let is_due = ratio > config.min_cleanable_dirty_ratio || has_expired || is_late();
    Some(Dirt { segments: sealed.to_vec(), from, until, bytes, ratio, is_due })
}

fn is_old_enough(config: &TopicConfig, segment: &Segment, now_ms: Millis) -> bool {
    let newest = if config.retention_by_timestamp { segment.max_timestamp() } else { segment.arrived_ms() };
    config.min_compaction_lag_ms == 0 || now_ms.saturating_sub(newest) >= config.min_compaction_lag_ms
}

/// Whether the first batch of a segment came longer ago than a pass may let it wait.
fn is_too_old(core: &Core, config: &TopicConfig, segment: &Segment, now_ms: Millis) -> bool {
    if config.max_compaction_lag_ms == i64::MAX {
        return false;
    }
    let mut head = [0; HEADER_SIZE];
    let read = segment.file(core.disk.as_ref()).and_then(|file| file.read_at(&mut head, 0));
    let first = read.ok().and_then(|count| Header::parse(&head[..count]).ok());
    // Its producer's time, as Kafka takes it; but a clock that is ahead does not keep it from being cleaned.
    let came_ms = first.map_or(segment.arrived_ms(), |header| header.max_timestamp.min(segment.arrived_ms()));
    now_ms.saturating_sub(came_ms) > config.max_compaction_lag_ms
}

/// One pass over a partition, whether it is due or not.
///
/// # Errors
/// [`Error`]: the log is as it was, or poisoned if nobody knows.
pub(super) fn clean(core: &Core, partition: &Arc<Shared>, mut keys: Keys) -> Result<Report, Error> {
    // What is cleaned must be sealed in the eyes of the next start.
    checkpoints::save(core, false)?;
    let goes_on = || !core.is_closing() && core.poisoned().is_none() && !partition.is_deleted();
    let mut pass = Pass::begin(core, partition)?;
    let Some(dirt) = look(core, partition) else { return Ok(pass.report) };
    let end = compact::fill(&mut keys, core.disk.as_ref(), &dirt.segments, (dirt.from, dirt.until), &goes_on)?;
    // The start may have moved past all that is sealed.
    let end = end.max(dirt.from);
    let config = partition.config.load_full();
    let rules = Rules {
        keys: &keys,
        end,
        now_ms: core.clock.now_ms(),
        delete_retention_ms: config.delete_retention_ms,
        producers: &pass.producers.clone(),
    };
    let reached = dirt.segments.partition_point(|segment| segment.base < end);
    let mut horizon_ms = None;
    for group in compact::groups(&dirt.segments[..reached], config.segment_bytes) {
        let group_end = dirt.segments.get(dirt.position_behind(group)).map_or(dirt.until, |next| next.base);
        let new = pass.rewrite(group, group_end, &rules, &goes_on)?;
        horizon_ms = horizon_ms.into_iter().chain(new.horizon_ms).min();
        if !new.is_same {
            pass.swap(group, &new)?;
        } else {
            compact::abandon(core.disk.as_ref(), &partition.folder, new.segment.base)?;
        }
    }
    // What has passed and stayed nevertheless is not waited for.
    pass.finish(end, horizon_ms.filter(|horizon| *horizon > rules.now_ms))
}

impl Dirt {
    /// The place of the segment that follows a group of these.
    fn position_behind(&self, group: &[Arc<Segment>]) -> usize {
        let last = group.last().map_or(Offset(0), |last| last.base);
        self.segments.partition_point(|segment| segment.base <= last)
    }
}

/// A pass under way.
struct Pass<'a> {
    core: &'a Core,
    partition: &'a Arc<Shared>,
    cleaned: Cleaned,
    producers: HashMap<i64, Offset>,
    report: Report,
    /// A group could not be swapped: what superseded its records must be noted again.
    is_partial: bool,
}

impl<'a> Pass<'a> {
    fn begin(core: &'a Core, partition: &'a Arc<Shared>) -> Result<Pass<'a>, Error> {
        let (cleaned, producers) = {
            let state = partition.log();
            let last = |(id, known): (i64, &crate::log::KnownProducer)| Some((id, known.last_offset()?));
            (state.cleaned.clone(), state.log.producers.iter().filter_map(last).collect())
        };
        let report = Report { until: cleaned.until, ..Report::default() };
        let mut pass = Pass { core, partition, cleaned, producers, report, is_partial: false };
        // Also before the first pass: files that a crash leaves beside the segments are looked for only where this file is. And a swap
        // that a start has ended stands in the checkpoint now.
        pass.cleaned.swap = None;
        pass.save()?;
        Ok(pass)
    }

    fn save(&mut self) -> Result<(), Error> {
        let saved = compact::save(self.core.disk.as_ref(), &self.partition.folder, &self.cleaned);
        saved.map_err(|error| self.failed("a write of the state of compaction", error))?;
        self.partition.log().cleaned = self.cleaned.clone();
        Ok(())
    }

    fn failed(&self, what: &str, error: io::Error) -> Error {
        if !self.partition.is_deleted() {
            self.core.poison_unless_passing(what, &error);
        }
        Error::Io(error)
    }

    /// Writes what is left of a group beside it.
    fn rewrite(
        &mut self,
        group: &[Arc<Segment>],
        end: Offset,
        rules: &Rules<'_>,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Rewritten, Error> {
        let (disk, folder) = (self.core.disk.as_ref(), &self.partition.folder);
        let size: u64 = group.iter().map(|segment| segment.size()).sum();
        if self.core.disk.space(folder)?.free < size.saturating_add(ROOM_LEFT) {
            return Err(Error::Io(io::ErrorKind::StorageFull.into()));
        }
        let written = compact::rewrite(disk, folder, group, end, rules, goes_on);
        let new = written.inspect_err(|_| {
            let base = group.first().map_or(Offset(0), |first| first.base);
            // What is left of it is in nobody's way: the next pass or start removes it.
            let _ = compact::abandon(disk, folder, base);
        })?;
        self.report.bytes_before += size;
        self.report.bytes_after += new.segment.size();
        self.report.records += new.records;
        self.report.undecodable += new.undecodable;
        self.report.removed.add(new.removed);
        Ok(new)
    }

    /// Puts the new segment in the place of a group, on the disk and for readers.
    fn swap(&mut self, group: &[Arc<Segment>], new: &Rewritten) -> Result<(), Error> {
        let (core, partition) = (self.core, self.partition);
        topic::allow_holes(core).map_err(|error| self.failed("a write of the meta file", error))?;
        if !self.claim(group) {
            // Retention took one of them away meanwhile; the next pass sees what is left.
            self.is_partial = true;
            compact::abandon(core.disk.as_ref(), &partition.folder, new.segment.base)?;
            return Ok(());
        }
        let swapped = compact::swap(core.disk.as_ref(), &partition.folder, group, new, &mut self.cleaned);
        if let Err((error, has_begun)) = swapped {
            partition.log().is_swapping = false;
            if has_begun && !partition.is_deleted() {
                core.poison(format!("a swap of compacted segments failed: {error}"));
            }
            let _ = (!has_begun).then(|| compact::abandon(core.disk.as_ref(), &partition.folder, new.segment.base));
            return Err(Error::Io(error));
        }
        self.publish(group, new);
        let _ = core.unindexed.push(new.segment.clone());
        checkpoints::save(core, false)?;
        self.cleaned.swap = None;
        self.save()
    }

    /// Whether the group is in the log still; if so, none of it leaves until [`Pass::publish`].
    fn claim(&self, group: &[Arc<Segment>]) -> bool {
        let mut state = self.partition.log();
        let segments = self.partition.segments.load();
        let is_there = |one: &Arc<Segment>| segments.iter().any(|known| Arc::ptr_eq(known, one));
        let is_whole = !self.partition.is_deleted() && group.iter().all(is_there);
        state.is_swapping = is_whole;
        is_whole
    }

    fn publish(&self, group: &[Arc<Segment>], new: &Rewritten) {
        let partition = self.partition;
        let mut state = partition.log();
        let old = partition.segments.load_full();
        let is_old = |segment: &Arc<Segment>| group.iter().any(|one| Arc::ptr_eq(one, segment));
        let mut segments = Vec::with_capacity(old.len());
        for segment in old.iter() {
            if !is_old(segment) {
                segments.push(segment.clone());
            } else if segment.base == new.segment.base {
                segments.push(new.segment.clone());
            }
        }
        partition.segments.store(Arc::new(segments));
        state.cleaned = self.cleaned.clone();
        state.is_dirty = true;
        state.is_swapping = false;
        give_up_below_start(partition, &mut state);
        drop(state);
        self.core.cache.forget(partition, new.segment.holes_below);
    }

    fn finish(mut self, end: Offset, horizon_ms: Option<Millis>) -> Result<Report, Error> {
        if !self.is_partial {
            self.cleaned.until = end;
        }
        self.cleaned.horizon_ms = horizon_ms;
        self.save()?;
        self.partition.log().clean_failed = None;
        self.report.until = self.cleaned.until;
        Ok(self.report)
    }
}
