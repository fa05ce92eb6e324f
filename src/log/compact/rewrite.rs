//! Reading segments and writing what is left of them: the long part of a pass. Goes through the page cache, a batch at a time; what it
//! holds in memory is one batch, decompressed, and the keys.

use super::Error;
use super::judge::{Judged, Left, Removed, Rules};
use super::keys::Keys;
use super::swap::new_path;
use crate::clock::Millis;
use crate::disk::{Disk, File};
use crate::log::producers::EXPIRY_MS;
use crate::log::scan::{Damage, Found, ScanEnd, scan_while};
use crate::log::segment::Segment;
use crate::record::{Batch, DECODED_SIZE_MAX, Offset};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;

/// Bytes that are gathered before they are written.
const WRITE_SIZE: usize = 1 << 20;
/// Bytes that are written before they are synced: a sync of a whole segment would hold up those of the log's rounds.
const SYNC_SIZE: u64 = 8 << 20;

/// A segment that was written beside those it is to replace; durable, but for its name.
pub struct Rewritten {
    pub segment: Arc<Segment>,
    /// Nothing was taken away, and nothing merged: the old one may as well stay.
    pub is_same: bool,
    pub removed: Removed,
    pub records: u64,
    /// When the first of the tombstones that are left may go.
    pub horizon_ms: Option<Millis>,
    /// Batches with a right checksum whose records cannot be decoded: they stay.
    pub undecodable: u64,
}

/// Notes the last offset of each key from `from` on, up to `until` or as far as there is room for keys. Returns where that ends.
///
/// # Errors
/// [`Error`]
pub fn fill(
    keys: &mut Keys,
    disk: &dyn Disk,
    segments: &[Arc<Segment>],
    (from, until): (Offset, Offset),
    goes_on: &dyn Fn() -> bool,
) -> Result<Offset, Error> {
    for (at, segment) in segments.iter().enumerate() {
        let next = segments.get(at + 1).map_or(until, |next| next.base);
        if next <= from || segment.base >= until {
            continue;
        }
        let mut full_at = None;
        each(disk, segment, goes_on, |batch| {
            if batch.last_offset() >= from && !batch.header().is_control {
                full_at = note(keys, batch, from);
            }
            Ok(full_at.is_none())
        })?;
        if let Some(offset) = full_at {
            return Ok(offset);
        }
    }
    Ok(until)
}

/// Notes a batch's keys; the offset of the first that has no room.
fn note(keys: &mut Keys, batch: &Batch, from: Offset) -> Option<Offset> {
    let frames = batch.frames(DECODED_SIZE_MAX).ok()?;
    let mut records = frames.iter().filter(|record| record.offset >= from);
    let full = records.find(|record| record.key.is_some_and(|key| !keys.note(key, record.offset)));
    full.map(|record| record.offset)
}

/// Neighbours that are rewritten together: as many as make one segment of `size_max`, so that what shrank does not stay in crumbs.
pub fn groups(segments: &[Arc<Segment>], size_max: u64) -> Vec<&[Arc<Segment>]> {
    let mut groups = Vec::new();
    let (mut from, mut size) = (0, 0);
    for (at, segment) in segments.iter().enumerate() {
        if at > from && size + segment.size() > size_max {
            groups.push(&segments[from..at]);
            (from, size) = (at, 0);
        }
        size += segment.size();
    }
    if from < segments.len() {
        groups.push(&segments[from..]);
    }
    groups
}

/// Writes what is left of a group, which ends before `end`, into a new file beside it, and syncs that and the folder.
///
/// # Errors
/// [`Error`]; the file may be there then: see [`super::abandon`].
///
/// # Panics
/// If the group is empty.
pub fn rewrite(
    disk: &dyn Disk,
    folder: &Path,
    group: &[Arc<Segment>],
    end: Offset,
    rules: &Rules<'_>,
    goes_on: &dyn Fn() -> bool,
) -> Result<Rewritten, Error> {
    let first = group.first().expect("a group has a segment");
    let path = new_path(folder, first.base);
    if disk.exists(&path) {
        disk.remove_file(&path)?;
    }
    let mut out = Output::new(disk.create(&path)?, Segment::new(folder, first.base, 0, 0, -1).with_holes(end));
    for segment in group {
        let arrived_ms = segment.arrived_ms();
        let is_young = rules.now_ms.saturating_sub(arrived_ms) < EXPIRY_MS;
        each(disk, segment, goes_on, |batch| {
            out.take(batch, rules.judge(batch, is_young), arrived_ms)?;
            Ok(true)
        })?;
    }
    let is_merged = group.len() > 1;
    let rewritten = out.finish(is_merged)?;
    disk.sync_folder(folder)?;
    Ok(rewritten)
}

/// The file that is written.
struct Output {
    file: Arc<dyn File>,
    segment: Segment,
    pending: Vec<u8>,
    written: u64,
    synced: u64,
    /// The last batch, if nothing of it was written, and when it came: at the end it stays as an empty one.
    last_gone: Option<(Batch, Millis)>,
    is_same: bool,
    removed: Removed,
    records: u64,
    horizon_ms: Option<Millis>,
    undecodable: u64,
}

impl Output {
    fn new(file: Arc<dyn File>, segment: Segment) -> Output {
        Output {
            file,
            segment,
            pending: Vec::with_capacity(WRITE_SIZE),
            written: 0,
            synced: 0,
            last_gone: None,
            is_same: true,
            removed: Removed::default(),
            records: 0,
            horizon_ms: None,
            undecodable: 0,
        }
    }

    fn take(&mut self, batch: &Batch, judged: Judged, arrived_ms: Millis) -> Result<(), Error> {
        let Judged { left, removed, horizon_ms } = judged;
        self.removed.add(removed);
        self.horizon_ms = self.horizon_ms.into_iter().chain(horizon_ms).min();
        self.last_gone = None;
        self.is_same &= matches!(left, Left::Same | Left::Unread);
        match left {
            Left::Same => self.put(batch, arrived_ms),
            Left::Unread => {
                self.undecodable += 1;
                self.put(batch, arrived_ms)
            }
            Left::Part(part) | Left::Empty(part) => self.put(&part, arrived_ms),
            Left::Nothing => {
                self.last_gone = Some((batch.emptied(), arrived_ms));
                Ok(())
            }
        }
    }

    fn put(&mut self, batch: &Batch, arrived_ms: Millis) -> Result<(), Error> {
        let header = batch.header();
        self.segment.grow(header, self.written + self.pending.len() as u64, arrived_ms);
        self.records += header.count as u64;
        self.pending.extend_from_slice(batch.bytes());
        if self.pending.len() >= WRITE_SIZE { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), Error> {
        self.file.write_at(&self.pending, self.written)?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        if self.written - self.synced >= SYNC_SIZE {
            self.file.sync()?;
            self.synced = self.written;
        }
        Ok(())
    }

    fn finish(mut self, is_merged: bool) -> Result<Rewritten, Error> {
        if let Some((empty, arrived_ms)) = self.last_gone.take() {
            self.put(&empty, arrived_ms)?;
        }
        if !self.pending.is_empty() {
            self.write()?;
        }
        self.file.sync()?;
        self.segment.seal();
        Ok(Rewritten {
            segment: Arc::new(self.segment),
            is_same: self.is_same && !is_merged,
            removed: self.removed,
            records: self.records,
            horizon_ms: self.horizon_ms,
            undecodable: self.undecodable,
        })
    }
}

/// Tells each batch of a sealed segment until `on_batch` answers false.
fn each(
    disk: &dyn Disk,
    segment: &Segment,
    goes_on: &dyn Fn() -> bool,
    mut on_batch: impl FnMut(&Batch) -> Result<bool, Error>,
) -> Result<(), Error> {
    let file = segment.file(disk)?;
    let mut failed = None;
    let mut is_wanted = true;
    let from = ScanEnd::start(segment.base, i32::MAX).with_holes(segment.holes_below);
    let end = scan_while(file.as_ref(), from, |found| {
        match one(&found, goes_on).and_then(|batch| on_batch(&batch)) {
            Ok(goes_on) => is_wanted = goes_on,
            Err(error) => failed = Some(error),
        }
        is_wanted && failed.is_none()
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let reason = match end.damage {
        Some(Damage::Bad(reason)) => reason,
        Some(Damage::Zeros) => "zeros follow its batches".to_owned(),
        None if is_wanted && end.position != segment.size() => "its batches end too early".to_owned(),
        None => return Ok(()),
    };
    Err(Error::Damaged { base: segment.base, position: end.position, reason })
}

fn one(found: &Found<'_>, goes_on: &dyn Fn() -> bool) -> Result<Batch, Error> {
    if !goes_on() {
        return Err(Error::Stopped);
    }
    // Copied out of the scan's window: its parts are shared when it is decompressed.
    Batch::check(Bytes::copy_from_slice(found.bytes)).map_err(|error| Error::Io(std::io::Error::other(error)))
}
