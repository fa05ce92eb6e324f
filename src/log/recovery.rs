//! What a start does with a partition's files. It trusts no cache: each file it scans is synced and dropped from the page cache first.
//!
//! D is the durable position of the last checkpoint. Below it nothing is cut: a file that is too short, a missing segment or a bad last
//! batch opens the partition read-only. Above it the chain is cut at its first bad batch, if what is whole behind it lies within one
//! round (the disk may persist later sectors first); else the partition opens read-only before it. Zeros to the end are the end.

use super::checkpoint::PartitionCheckpoint;
use super::compact::{self, Cleaned};
use super::index::{Footer, IndexFile};
use super::lost::{keep_rest, keep_segment};
use super::partition::{Active, PartitionLog};
use super::producers::Producers;
use super::scan::{Damage, MAX_BATCH, ScanEnd, scan, whole_batch_from};
use super::segment::{self, Segment, file_name};
use crate::clock::Millis;
use crate::disk::Disk;
use crate::record::{Batch, Header, Offset};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A partition that can be opened.
pub struct Recovered {
    pub log: PartitionLog,
    /// Ascending; the last is the active one.
    pub segments: Vec<Arc<Segment>>,
    pub start: Offset,
    /// Bytes cut off the end and copied to `lost+found`.
    pub cut_bytes: u64,
    /// Bytes read to find the end.
    pub scanned_bytes: u64,
    /// Why no writes may be taken. Its checkpoint must stay as it is: the next start has to come to the same verdict.
    pub read_only: Option<String>,
    /// Sealed segments that the checkpoint names and the folder lacks: reads there fail, the rest goes on.
    pub missing: Vec<Offset>,
    /// How far compaction has come.
    pub cleaned: Cleaned,
    /// Why that is not known: it begins anew.
    pub cleaned_damage: Option<String>,
}

/// What recovery needs to know besides the files.
pub struct Known<'a> {
    pub checkpoint: Option<&'a PartitionCheckpoint>,
    /// This start's.
    pub leader_epoch: i32,
    /// The largest round that any partition of this folder may have been written with.
    pub round_bytes_max: u64,
    /// Where cut bytes are copied to.
    pub lost_and_found: &'a Path,
    /// Name for messages and copies, `topic-partition`.
    pub name: &'a str,
    pub now_ms: Millis,
    pub synced_by: SyncedBy,
}

/// Who makes durable what a start finds and what it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncedBy {
    /// Recovery does, file by file and folder by folder.
    Recovery,
    /// The caller has synced all files before, and does again before anything is appended.
    Caller,
}

/// Finds the end of a partition and makes its log ready to be written.
///
/// # Errors
/// The disk's. What is wrong with the content is not an error: it is cut or makes the partition read-only.
pub fn recover(disk: &dyn Disk, folder: &Path, known: &Known<'_>) -> io::Result<Recovered> {
    let settled = compact::settle(disk, folder, known.checkpoint)?;
    let checkpoint = settled.checkpoint.as_ref().or(known.checkpoint);
    // Passes clean only what is sealed in the checkpoint of their time. This one is older, so it says nothing of the files: what came after
    // it was damaged.
    let is_older = |checkpoint: &&PartitionCheckpoint| checkpoint.segment < settled.cleaned.holes_below;
    let start = checkpoint.filter(is_older).map(|checkpoint| checkpoint.start);
    let known = Known { checkpoint: checkpoint.filter(|checkpoint| !is_older(checkpoint)), ..*known };
    let mut found = recover_settled(disk, folder, &known, settled.cleaned.holes_below)?;
    if let Some(start) = start {
        found.start = found.start.max(start).min(found.log.end);
    }
    Ok(Recovered { cleaned: settled.cleaned, cleaned_damage: settled.damage, ..found })
}

fn recover_settled(disk: &dyn Disk, folder: &Path, known: &Known<'_>, holes_below: Offset) -> io::Result<Recovered> {
    let mut bases = segment::list(disk, folder)?;
    remove_below_start(disk, folder, &mut bases, known)?;
    let Some(first) = bases.first().copied() else { return without_files(disk, folder, known) };
    // Its segment leaves the disk only after a checkpoint that names a later one.
    let durable = known.checkpoint.filter(|checkpoint| bases.binary_search(&checkpoint.segment).is_ok());
    let mut recovery = Recovery {
        disk,
        folder,
        known,
        durable,
        producers: durable.map(PartitionCheckpoint::producers).unwrap_or_default(),
        epochs: durable.map(|checkpoint| checkpoint.epochs.clone()).unwrap_or_default(),
        segments: Vec::with_capacity(bases.len()),
        found: ScanEnd::start(first, known.leader_epoch),
        holes_below,
        cut_bytes: 0,
        scanned_bytes: 0,
        read_only: None,
    };
    let missing = recovery.look_for_missing(&mut bases);
    for (at, base) in bases.iter().enumerate() {
        if !recovery.segment(*base, &bases[at + 1..])? {
            break;
        }
    }
    recovery.finish(first, missing)
}

/// Segments that retention had taken out of the log when the process ended: a checkpoint says so, the files were still to go.
fn remove_below_start(disk: &dyn Disk, folder: &Path, bases: &mut Vec<Offset>, known: &Known<'_>) -> io::Result<()> {
    let Some(checkpoint) = known.checkpoint else { return Ok(()) };
    let kept = checkpoint.sealed.first().map_or(checkpoint.segment, |sealed| sealed.base);
    if bases.binary_search(&kept).is_err() {
        // Its first segment is lost: then nothing is taken away on its word.
        return Ok(());
    }
    let gone = bases.iter().take_while(|base| **base < kept).count();
    for base in bases.drain(..gone) {
        segment::remove(disk, folder, base)?;
    }
    Ok(())
}

/// No segment at all: a new partition, or everything is lost.
fn without_files(disk: &dyn Disk, folder: &Path, known: &Known<'_>) -> io::Result<Recovered> {
    let (end, lost) = known.checkpoint.map_or((Offset(0), false), |checkpoint| (checkpoint.end, true));
    let active = match known.synced_by {
        // A lost partition gets no file: it would look like a new one to the next start.
        _ if lost => Active::unwritten(folder, end),
        SyncedBy::Recovery => Active::create(disk, folder, end)?,
        SyncedBy::Caller => Active::create_unsynced(disk, folder, end)?,
    };
    let log = PartitionLog {
        folder: folder.to_owned(),
        end,
        leader_epoch: known.leader_epoch,
        epochs: known.checkpoint.map(|checkpoint| checkpoint.epochs.clone()).unwrap_or_default(),
        producers: known.checkpoint.map(PartitionCheckpoint::producers).unwrap_or_default(),
        active,
    };
    let read_only = lost.then(|| {
        format!("all segments are missing, offsets up to {end} were stored: put them back, or run inrush log repair")
    });
    let segments = vec![log.active.segment.clone()];
    Ok(Recovered {
        log,
        segments,
        start: end,
        cut_bytes: 0,
        scanned_bytes: 0,
        read_only,
        missing: Vec::new(),
        cleaned: Cleaned::default(),
        cleaned_damage: None,
    })
}

/// A walk over the segments of one partition, in order.
struct Recovery<'a> {
    disk: &'a dyn Disk,
    folder: &'a Path,
    known: &'a Known<'a>,
    /// The checkpoint, if its segment is there.
    durable: Option<&'a PartitionCheckpoint>,
    producers: Producers,
    epochs: Vec<(i32, Offset)>,
    segments: Vec<Arc<Segment>>,
    found: ScanEnd,
    holes_below: Offset,
    cut_bytes: u64,
    scanned_bytes: u64,
    read_only: Option<String>,
}

impl Recovery<'_> {
    /// Compares the folder with what the checkpoint names. A sealed segment that is lost stays a part of the log, so that reads fail there
    /// and do not pass over it; without the active one nothing may be written.
    fn look_for_missing(&mut self, bases: &mut Vec<Offset>) -> Vec<Offset> {
        let Some(checkpoint) = self.known.checkpoint else { return Vec::new() };
        if self.durable.is_none() {
            let name = file_name(checkpoint.segment);
            self.read_only = Some(format!("segment {name} is missing: put it back, or run inrush log repair"));
            return Vec::new();
        }
        let named = checkpoint.sealed.iter().map(|sealed| sealed.base);
        let missing: Vec<Offset> = named.filter(|base| bases.binary_search(base).is_err()).collect();
        bases.extend(&missing);
        bases.sort_unstable();
        missing
    }

    /// Takes the next segment; false if the log ends with it.
    fn segment(&mut self, base: Offset, later: &[Offset]) -> io::Result<bool> {
        if let Some(checkpoint) = self.durable.filter(|checkpoint| base < checkpoint.segment) {
            self.segments.push(self.sealed(base, checkpoint)?);
            return Ok(true);
        }
        let at_durable = self.durable.filter(|checkpoint| checkpoint.segment == base);
        if !self.segments.is_empty() && at_durable.is_none() && base != self.found.next {
            let reason = format!("segment {} does not follow offset {}", file_name(base), self.found.next);
            self.read_only.get_or_insert(format!("{reason}: run inrush log verify, then inrush log repair"));
            return Ok(false);
        }
        let segment = match at_durable {
            Some(checkpoint) => match self.resumed(checkpoint)? {
                Some(segment) => segment,
                None => {
                    self.read_only.get_or_insert(format!(
                        "{} is damaged below the durable position {}: run inrush log verify, then inrush log repair",
                        file_name(base),
                        checkpoint.position
                    ));
                    let segment = self.scanned(base)?;
                    self.segments.push(segment);
                    return Ok(false);
                }
            },
            None => self.scanned(base)?,
        };
        self.segments.push(segment.clone());
        match self.found.damage.clone() {
            Some(Damage::Bad(reason)) => self.cut_or_close(&segment, &reason, later).map(|()| false),
            Some(Damage::Zeros) if later.first() == Some(&self.found.next) => {
                let file = segment.file(self.disk)?;
                file.set_size(self.found.position)?;
                file.sync()?;
                Ok(true)
            }
            _ => Ok(true),
        }
    }

    /// A segment below the one that the checkpoint calls active: nothing of it is read.
    fn sealed(&self, base: Offset, checkpoint: &PartitionCheckpoint) -> io::Result<Arc<Segment>> {
        if let Some(sealed) = checkpoint.sealed.iter().find(|sealed| sealed.base == base) {
            return Ok(Arc::new(self.make(base, sealed.size, sealed.arrived_ms, sealed.max_timestamp)));
        }
        // Not known to the checkpoint: its index tells, or its batches.
        if let Some(known) = self.footer(base)? {
            return Ok(Arc::new(self.make(base, known.size, known.arrived_ms, known.max_timestamp)));
        }
        let segment = self.make(base, 0, checkpoint.arrived_ms, -1);
        scan(segment.file(self.disk)?.as_ref(), self.begin(base), |batch| {
            segment.grow(batch.header, batch.position, checkpoint.arrived_ms);
        })?;
        Ok(Arc::new(segment))
    }

    fn make(&self, base: Offset, size: u64, arrived_ms: Millis, max_timestamp: i64) -> Segment {
        Segment::new(self.folder, base, size, arrived_ms, max_timestamp).with_holes(self.holes_below)
    }

    /// Where the scan of a whole segment begins.
    fn begin(&self, base: Offset) -> ScanEnd {
        ScanEnd::start(base, self.known.leader_epoch).with_holes(self.holes_below)
    }

    /// What the index of a sealed segment says of it, if it is there and of the file's size.
    fn footer(&self, base: Offset) -> io::Result<Option<Footer>> {
        let path = self.folder.join(file_name(base));
        let Some(index) = IndexFile::open(self.disk, &path.with_extension("index"))? else { return Ok(None) };
        let is_ours = index.footer().base == base && index.footer().size == self.disk.open(&path)?.size()?;
        Ok(is_ours.then(|| *index.footer()))
    }

    /// The segment that was active at the checkpoint, scanned from the durable position on; `None` if it is damaged below that.
    fn resumed(&mut self, checkpoint: &PartitionCheckpoint) -> io::Result<Option<Arc<Segment>>> {
        let (arrived_ms, greatest) = (checkpoint.arrived_ms, checkpoint.max_timestamp);
        let segment = self.make(checkpoint.segment, checkpoint.position, arrived_ms, greatest);
        let size = segment.file(self.disk)?.size()?;
        if size < checkpoint.position || !last_is_whole(self.disk, &segment, checkpoint)? {
            return Ok(None);
        }
        let from = ScanEnd {
            position: checkpoint.position,
            next: checkpoint.end,
            last: checkpoint.last,
            epoch: checkpoint.epochs.last().map_or(-1, |(epoch, _)| *epoch),
            epoch_max: self.known.leader_epoch,
            holes_below: self.holes_below,
            damage: None,
        };
        if checkpoint.clean && size == checkpoint.position {
            self.found = from;
        } else {
            self.scan(&segment, from, self.known.now_ms)?;
        }
        Ok(Some(Arc::new(segment)))
    }

    /// A segment that no checkpoint covers, scanned from its beginning.
    fn scanned(&mut self, base: Offset) -> io::Result<Arc<Segment>> {
        let segment = self.make(base, 0, 0, -1);
        // When its batches came, if it was sealed; else now, which keeps it longer and never shorter.
        let arrived_ms = self.footer(base)?.map_or(self.known.now_ms, |footer| footer.arrived_ms);
        let epoch = self.epochs.last().filter(|(_, begins)| *begins <= base).map_or(-1, |(epoch, _)| *epoch);
        self.scan(&segment, ScanEnd { epoch, ..self.begin(base) }, arrived_ms)?;
        Ok(Arc::new(segment))
    }

    fn scan(&mut self, segment: &Segment, from: ScanEnd, arrived_ms: Millis) -> io::Result<()> {
        let file = segment.file(self.disk)?;
        if self.known.synced_by == SyncedBy::Recovery {
            file.sync()?;
        }
        file.drop_cache(from.position)?;
        let begin = from.position;
        self.found = scan(file.as_ref(), from, |batch| {
            segment.grow(batch.header, batch.position, arrived_ms);
            self.producers.note(batch.header, batch.header.base_offset, self.known.now_ms);
            if self.epochs.last().is_none_or(|(epoch, _)| *epoch < batch.header.leader_epoch) {
                self.epochs.push((batch.header.leader_epoch, batch.header.base_offset));
            }
        })?;
        self.scanned_bytes += self.found.position - begin;
        Ok(())
    }

    /// Something that is no batch stands behind the last whole one: the end of a crash is cut, anything else is left alone.
    fn cut_or_close(&mut self, segment: &Segment, reason: &str, later: &[Offset]) -> io::Result<()> {
        let is_os = self.known.checkpoint.is_some_and(|checkpoint| checkpoint.os);
        if !is_os && !self.is_crash(segment, later)? {
            self.read_only.get_or_insert(format!(
                "damage at position {} of {} ({reason}) has whole batches far behind it: run inrush log verify, then inrush log repair",
                self.found.position,
                file_name(segment.base)
            ));
            return Ok(());
        }
        if self.read_only.is_some() {
            return Ok(());
        }
        self.cut_bytes += keep_rest(self.disk, self.known, segment, self.found.position)?;
        for base in later {
            self.cut_bytes += keep_segment(self.disk, self.known, self.folder, *base)?;
        }
        Ok(())
    }

    /// Whether a crash can have left this end: nothing whole stands further behind it than one round reaches, and a round spans no roll.
    fn is_crash(&self, segment: &Segment, later: &[Offset]) -> io::Result<bool> {
        for base in later {
            let file = self.disk.open(&self.folder.join(file_name(*base)))?;
            let begins = self.begin(*base);
            if scan(file.as_ref(), begins.clone(), |_| {})?.position > begins.position {
                return Ok(false);
            }
        }
        let beyond = self.found.position + self.known.round_bytes_max;
        Ok(whole_batch_from(self.disk, segment, beyond, self.found.next)?.is_none())
    }

    fn finish(self, first: Offset, missing: Vec<Offset>) -> io::Result<Recovered> {
        let Recovery { disk, folder, known, segments, found, read_only, .. } = self;
        let older = segments.len().saturating_sub(1);
        segments[..older].iter().for_each(|segment| segment.seal());
        let Some(segment) = segments.last().cloned() else {
            return Err(io::Error::other(format!("no segment of {} could be opened", folder.display())));
        };
        let mut log = PartitionLog {
            folder: folder.to_owned(),
            end: found.next,
            leader_epoch: known.leader_epoch,
            epochs: self.epochs,
            producers: self.producers,
            active: Active::resume(disk, segment, found.position, found.last)?,
        };
        // A segment behind the one that a clean stop ended with may be a roll that was killed before its name was durable.
        let is_as_left =
            |checkpoint: &PartitionCheckpoint| checkpoint.clean && checkpoint.segment == log.active.segment.base;
        let is_clean = known.checkpoint.is_some_and(is_as_left) && self.scanned_bytes == 0;
        if read_only.is_none() && !(is_clean && found.damage.is_none()) {
            match known.synced_by {
                SyncedBy::Caller => log.cut_unsynced(disk)?,
                SyncedBy::Recovery => {
                    log.cut(disk)?;
                    disk.sync_folder(folder)?;
                }
            }
        }
        let start = known.checkpoint.map_or(first, |checkpoint| checkpoint.start.max(first)).min(log.end);
        let (cut_bytes, scanned_bytes) = (self.cut_bytes, self.scanned_bytes);
        let (cleaned, cleaned_damage) = (Cleaned::default(), None);
        Ok(Recovered { log, segments, start, cut_bytes, scanned_bytes, read_only, missing, cleaned, cleaned_damage })
    }
}

fn last_is_whole(disk: &dyn Disk, segment: &Segment, checkpoint: &PartitionCheckpoint) -> io::Result<bool> {
    let Some(last) = checkpoint.last else { return Ok(true) };
    let size = (checkpoint.position.saturating_sub(last) as usize).min(MAX_BATCH);
    let mut bytes = vec![0; size];
    let count = segment.file(disk)?.read_at(&mut bytes, last)?;
    bytes.truncate(count);
    // The epoch lies outside the CRC.
    let is_epoch = |epoch: i32| checkpoint.epochs.last().is_none_or(|(last, _)| *last == epoch);
    let is_last = |header: Header| header.next_offset() == checkpoint.end && is_epoch(header.leader_epoch);
    Ok(Batch::check_bytes(&bytes).is_ok_and(is_last))
}

#[cfg(test)]
mod tests {
    use super::super::ROUND_SIZE_MAX;
    use super::*;
    use crate::disk::sim::Sim;
    use crate::disk::{Buffer, Write};
    use crate::record::{BatchBuilder, Codec, NewRecord};
    use uuid::Uuid;

    const BATCHES: usize = 5;
    /// Batches that lie below the durable position where a checkpoint is given.
    const DURABLE: usize = 3;

    /// A segment's bytes, with reserved zeros behind, and where each batch ends.
    fn segment_bytes() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for n in 0..BATCHES {
            let mut builder = BatchBuilder::new();
            let value = vec![n as u8 + 1; 20 + n];
            builder.push(NewRecord { timestamp: 7, key: None, value: Some(&value), headers: &[] });
            let batch = builder.build(Codec::None).unwrap().stamped(Offset(n as i64), 2);
            bytes.extend_from_slice(batch.bytes());
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn checkpoint(ends: &[usize]) -> PartitionCheckpoint {
        PartitionCheckpoint {
            topic: Uuid::nil(),
            partition: 0,
            segment: Offset(0),
            position: ends[DURABLE - 1] as u64,
            last: Some(ends[DURABLE - 2] as u64),
            end: Offset(DURABLE as i64),
            start: Offset(0),
            os: false,
            clean: false,
            epochs: vec![(2, Offset(0))],
            producers: vec![],
            sealed: vec![],
            arrived_ms: 1,
            max_timestamp: 7,
        }
    }

    fn recovered(content: &[u8], checkpoint: Option<&PartitionCheckpoint>) -> (Recovered, Vec<u8>) {
        let disk = Sim::new(1);
        let folder = Path::new("/p");
        disk.create_folder(folder).unwrap();
        let path = folder.join(segment::file_name(Offset(0)));
        let file = disk.create(&path).unwrap();
        let mut bytes = Buffer::with_capacity(content.len());
        bytes.extend(content);
        let mut engine = disk.engine().unwrap();
        engine.write_round(vec![Write { file: file.clone(), position: 0, bytes }]).remove(0).0.unwrap();
        file.sync().unwrap();
        let known = Known {
            checkpoint,
            leader_epoch: 3,
            round_bytes_max: ROUND_SIZE_MAX as u64,
            lost_and_found: Path::new("/lost"),
            name: "t-0",
            now_ms: 9,
            synced_by: SyncedBy::Recovery,
        };
        let found = recover(&disk, folder, &known).unwrap();
        let left = disk.read_whole(&path, 64 << 20).unwrap();
        (found, left)
    }

    /// Batches that are whole before `at`.
    fn whole_before(ends: &[usize], at: usize) -> usize {
        ends.iter().filter(|end| **end <= at).count()
    }

    #[test]
    fn a_segment_cut_at_every_byte_keeps_the_right_prefix_or_is_reported() {
        let (bytes, ends) = segment_bytes();
        for zeros in [0, 4096] {
            for at in 0..=bytes.len() {
                let mut content = bytes[..at].to_vec();
                content.resize(at + zeros, 0);
                // A batch ends in a zero (its last record has no headers): reserved zeros can stand for it.
                let whole = ends.iter().filter(|end| content.get(..**end) == Some(&bytes[..**end])).count();
                let (found, left) = recovered(&content, None);
                assert_eq!((found.log.end, found.read_only), (Offset(whole as i64), None), "cut at {at}");
                assert_eq!(left, &bytes[..whole.checked_sub(1).map_or(0, |last| ends[last])], "cut at {at}");
                let (found, left) = recovered(&content, Some(&checkpoint(&ends)));
                let is_below = whole < DURABLE;
                assert_eq!(found.read_only.is_some(), is_below, "cut at {at}: {:?}", found.read_only);
                assert_eq!(found.log.end, Offset(whole as i64), "cut at {at}");
                if is_below {
                    assert_eq!(left, content, "nothing below the durable position is changed, cut at {at}");
                }
            }
        }
    }

    #[test]
    fn a_flipped_byte_of_the_last_round_is_cut_above_the_durable_position_and_reported_below() {
        let (bytes, ends) = segment_bytes();
        for at in ends[DURABLE - 2]..bytes.len() {
            let mut content = bytes.clone();
            content[at] ^= 0x55;
            let hit = whole_before(&ends, at);
            let begins = if hit == 0 { 0 } else { ends[hit - 1] };
            // The leader epoch lies outside the checksum: one that is not above this start's passes for a later leader's.
            let is_epoch = at - begins == 15 && content[at] <= 3;
            let (found, _) = recovered(&content, Some(&checkpoint(&ends)));
            if hit < DURABLE {
                assert!(found.read_only.is_some(), "byte {at}");
            } else {
                assert_eq!(found.read_only, None, "byte {at}");
                assert!(found.log.end == Offset(hit as i64) || is_epoch, "byte {at}: end {}", found.log.end);
                assert!(found.cut_bytes > 0 || is_epoch, "byte {at}: what is cut is kept");
            }
        }
    }

    #[test]
    fn damage_with_whole_batches_far_behind_it_is_no_crash() {
        let (bytes, ends) = segment_bytes();
        let mut content = bytes[..ends[0]].to_vec();
        content.resize(ROUND_SIZE_MAX + 10_000, 0xEE);
        content.extend_from_slice(&bytes[ends[2]..ends[3]]);
        let (found, left) = recovered(&content, None);
        assert!(found.read_only.is_some_and(|reason| reason.contains("repair")));
        assert_eq!((found.log.end, left.len()), (Offset(1), content.len()));
    }

    #[test]
    fn a_missing_segment_is_reported() {
        let (bytes, ends) = segment_bytes();
        let mut checkpoint = checkpoint(&ends);
        checkpoint.segment = Offset(100);
        checkpoint.end = Offset(120);
        let (found, _) = recovered(&bytes, Some(&checkpoint));
        assert!(found.read_only.is_some_and(|reason| reason.contains("missing")));
    }
}
