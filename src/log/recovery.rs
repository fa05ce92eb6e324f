//! What a start does with a partition's files. It trusts no cache: each file it scans is synced and dropped from the page cache first.
//!
//! D is the durable position of the last checkpoint. Below it nothing is cut: a file that is too short, a missing segment or a bad last
//! batch opens the partition read-only. Above it the chain is cut at its first bad batch, if what is whole behind it lies within one
//! round (the disk may persist later sectors first); else the partition opens read-only before it. Zeros to the end are the end.

use super::ROUND_SIZE_MAX;
use super::checkpoint::PartitionCheckpoint;
use super::partition::{Active, PartitionLog};
use super::producers::Producers;
use super::segment::{self, Segment};
use crate::clock::Millis;
use crate::disk::{Disk, File};
use crate::record::{Batch, HEADER_SIZE, Header, Offset};
use bytes::Bytes;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Files are scanned in pieces of this size, more where a batch is larger.
const PIECE_SIZE: usize = 1 << 20;

/// Why a chain of batches ended before its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Nothing but zeros follow: reserved space.
    Zeros,
    /// Something else follows that is not the next batch.
    Bad(String),
}

/// Where a scan ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanEnd {
    /// Behind the last whole batch.
    pub position: u64,
    pub next: Offset,
    /// Where the last batch begins.
    pub last: Option<u64>,
    /// `None`: the file ends with the batch.
    pub damage: Option<Damage>,
}

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
    /// Why no writes may be taken.
    pub read_only: Option<String>,
}

/// What recovery needs to know besides the files.
pub struct Known<'a> {
    pub checkpoint: Option<&'a PartitionCheckpoint>,
    pub leader_epoch: i32,
    /// Where cut bytes are copied to.
    pub lost_and_found: &'a Path,
    /// Name for messages and copies, `topic-partition`.
    pub name: &'a str,
    pub now_ms: Millis,
}

/// Finds the end of a partition and makes its log ready to be written.
///
/// # Errors
/// The disk's. What is wrong with the content is not an error: it is cut or makes the partition read-only.
pub fn recover(disk: &dyn Disk, folder: &Path, known: &Known<'_>) -> io::Result<Recovered> {
    let mut bases = segment::list(disk, folder)?;
    let Some(first) = bases.first().copied() else { return without_files(disk, folder, known) };
    let durable = known.checkpoint.filter(|checkpoint| bases.binary_search(&checkpoint.segment).is_ok());
    let mut read_only = match (known.checkpoint, durable) {
        (Some(checkpoint), None) if bases.last().is_none_or(|last| *last < checkpoint.segment) => {
            Some(format!("segment {} is missing", segment::file_name(checkpoint.segment)))
        }
        _ => None,
    };
    let mut producers = durable.map(PartitionCheckpoint::producers).unwrap_or_default();
    let mut epochs = durable.map(|checkpoint| checkpoint.epochs.clone()).unwrap_or_default();
    let mut segments: Vec<Arc<Segment>> = Vec::new();
    let mut found = ScanEnd { position: 0, next: first, last: None, damage: None };
    let (mut cut_bytes, mut scanned_bytes) = (0, 0);

    let mut at = 0;
    while at < bases.len() {
        let base = bases[at];
        if let Some(checkpoint) = durable
            && base < checkpoint.segment
        {
            segments.push(sealed(disk, folder, base, checkpoint)?);
            at += 1;
            continue;
        }
        if !segments.is_empty() && durable.is_none_or(|checkpoint| base > checkpoint.segment) && base != found.next {
            read_only.get_or_insert(format!(
                "segment {} does not follow offset {}",
                segment::file_name(base),
                found.next
            ));
            break;
        }
        let segment = Segment::new(folder, base, 0, 0, -1);
        let mut from = ScanEnd { position: 0, next: base, last: None, damage: None };
        if let Some(checkpoint) = durable.filter(|checkpoint| checkpoint.segment == base) {
            let size = segment.file(disk)?.size()?;
            if size >= checkpoint.position && last_is_whole(disk, &segment, checkpoint)? {
                let (arrived, greatest) = (checkpoint.arrived_ms, checkpoint.max_timestamp);
                let known_segment = Segment::new(folder, base, checkpoint.position, arrived, greatest);
                known_segment.set_file(segment.file(disk)?.clone());
                from = ScanEnd {
                    position: checkpoint.position,
                    next: checkpoint.end,
                    last: checkpoint.last,
                    damage: None,
                };
                found =
                    finish_segment(disk, known, &known_segment, from, &mut producers, &mut epochs, &mut scanned_bytes)?;
                segments.push(Arc::new(known_segment));
            } else {
                read_only.get_or_insert(format!(
                    "{} is damaged below the durable position {}: run inrush log verify, then inrush log repair",
                    segment::file_name(base),
                    checkpoint.position
                ));
                found = finish_segment(disk, known, &segment, from, &mut producers, &mut epochs, &mut scanned_bytes)?;
                segments.push(Arc::new(segment));
                break;
            }
        } else {
            found = finish_segment(disk, known, &segment, from, &mut producers, &mut epochs, &mut scanned_bytes)?;
            segments.push(Arc::new(segment));
        }
        let Some(segment) = segments.last() else { break };
        if let Some(Damage::Bad(reason)) = &found.damage {
            let is_os = known.checkpoint.is_some_and(|checkpoint| checkpoint.os);
            let later_data = has_data(disk, folder, &bases[at + 1..])?;
            let far = if is_os { None } else { whole_batch_beyond(disk, segment, found.position, found.next)? };
            if !is_os && (later_data || far.is_some()) {
                read_only.get_or_insert(format!(
                    "damage at position {} of {} ({reason}) has whole batches far behind it: run inrush log repair",
                    found.position,
                    segment::file_name(base)
                ));
                break;
            }
            cut_bytes += keep_cut(disk, known, segment, found.position)?;
            for later in bases.drain(at + 1..) {
                disk.remove_file(&folder.join(segment::file_name(later)))?;
            }
        }
        at += 1;
    }
    let Some(segment) = segments.last().cloned() else {
        return Err(io::Error::other(format!("no segment of {} could be opened", folder.display())));
    };
    let mut log = PartitionLog {
        folder: folder.to_owned(),
        end: found.next,
        leader_epoch: known.leader_epoch,
        epochs,
        producers,
        active: Active::resume(disk, segment, found.position, found.last)?,
    };
    let is_clean = known.checkpoint.is_some_and(|checkpoint| checkpoint.clean) && scanned_bytes == 0;
    if read_only.is_none() && !is_clean {
        log.cut(disk)?;
        disk.sync_folder(folder)?;
    }
    let start = known.checkpoint.map_or(first, |checkpoint| checkpoint.start.max(first)).min(log.end);
    Ok(Recovered { log, segments, start, cut_bytes, scanned_bytes, read_only })
}

fn without_files(disk: &dyn Disk, folder: &Path, known: &Known<'_>) -> io::Result<Recovered> {
    let end = known.checkpoint.map_or(Offset(0), |checkpoint| checkpoint.end);
    let is_lost = known.checkpoint.is_some_and(|checkpoint| checkpoint.end > checkpoint.start);
    let active = Active::create(disk, folder, end)?;
    let segments = vec![active.segment.clone()];
    let log = PartitionLog {
        folder: folder.to_owned(),
        end,
        leader_epoch: known.leader_epoch,
        epochs: known.checkpoint.map(|checkpoint| checkpoint.epochs.clone()).unwrap_or_default(),
        producers: known.checkpoint.map(PartitionCheckpoint::producers).unwrap_or_default(),
        active,
    };
    let read_only = is_lost.then(|| format!("all segments are missing, offsets up to {end} were stored"));
    Ok(Recovered { log, segments, start: end, cut_bytes: 0, scanned_bytes: 0, read_only })
}

fn sealed(disk: &dyn Disk, folder: &Path, base: Offset, checkpoint: &PartitionCheckpoint) -> io::Result<Arc<Segment>> {
    if let Some((_, size, arrived_ms, max_timestamp)) = checkpoint.sealed.iter().find(|sealed| sealed.0 == base) {
        return Ok(Arc::new(Segment::new(folder, base, *size, *arrived_ms, *max_timestamp)));
    }
    // Sealed after the checkpoint that knows the active one? Then it is not listed, but its file tells its size.
    let size = disk.open(&folder.join(segment::file_name(base)))?.size()?;
    Ok(Arc::new(Segment::new(folder, base, size, checkpoint.arrived_ms, i64::MAX)))
}

fn finish_segment(
    disk: &dyn Disk,
    known: &Known<'_>,
    segment: &Segment,
    from: ScanEnd,
    producers: &mut Producers,
    epochs: &mut Vec<(i32, Offset)>,
    scanned_bytes: &mut u64,
) -> io::Result<ScanEnd> {
    let file = segment.file(disk)?;
    if known.checkpoint.is_some_and(|checkpoint| checkpoint.clean) && file.size()? == from.position {
        return Ok(from);
    }
    file.sync()?;
    file.drop_cache()?;
    let begin = from.position;
    let end = scan(file.as_ref(), from, |header, position| {
        segment.grow(header, position, known.now_ms);
        producers.note(header, header.base_offset, known.now_ms);
        if epochs.last().is_none_or(|(epoch, _)| *epoch < header.leader_epoch) {
            epochs.push((header.leader_epoch, header.base_offset));
        }
    })?;
    *scanned_bytes += end.position - begin;
    Ok(end)
}

/// Walks the chain from `from` on and tells each whole batch with its position: right base offset, sizes, CRC, epochs that never fall.
///
/// # Errors
/// The disk's.
pub fn scan(file: &dyn File, from: ScanEnd, mut on_batch: impl FnMut(&Header, u64)) -> io::Result<ScanEnd> {
    let mut end = ScanEnd { damage: None, ..from };
    let mut epoch = -1;
    let mut window = Window { file, at: 0, bytes: Vec::new() };
    loop {
        let head = window.get(end.position, HEADER_SIZE)?;
        if head.is_empty() {
            return Ok(end);
        }
        let size = Header::parse(head).map_or(HEADER_SIZE, |header| header.size);
        match judge(window.get(end.position, size.min(MAX_BATCH))?, end.next, epoch) {
            Ok(header) => {
                on_batch(&header, end.position);
                epoch = header.leader_epoch;
                end.last = Some(end.position);
                end.position += header.size as u64;
                end.next = header.next_offset();
            }
            Err(reason) => {
                let is_zeros = all_zeros(file, end.position)?;
                end.damage = Some(if is_zeros { Damage::Zeros } else { Damage::Bad(reason) });
                return Ok(end);
            }
        }
    }
}

/// A piece of a file in memory that follows the scan.
struct Window<'a> {
    file: &'a dyn File,
    at: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// `wanted` bytes at `position`, fewer only at the file's end.
    fn get(&mut self, position: u64, wanted: usize) -> io::Result<&[u8]> {
        let held = self.at + self.bytes.len() as u64;
        if position < self.at || position + wanted as u64 > held {
            self.at = position;
            self.bytes.resize(wanted.max(PIECE_SIZE), 0);
            let count = self.file.read_at(&mut self.bytes, position)?;
            self.bytes.truncate(count);
        }
        let rest = &self.bytes[(position - self.at) as usize..];
        Ok(&rest[..wanted.min(rest.len())])
    }
}

fn judge(bytes: &[u8], expected: Offset, epoch: i32) -> Result<Header, String> {
    let header = Header::parse(bytes).map_err(|error| error.to_string())?;
    if header.base_offset != expected {
        return Err(format!("base offset {} where {expected} was expected", header.base_offset));
    }
    if header.leader_epoch < epoch {
        return Err(format!("leader epoch {} after {epoch}", header.leader_epoch));
    }
    Batch::check(Bytes::copy_from_slice(bytes)).map_err(|error| error.to_string())?;
    Ok(header)
}

/// No batch is larger: the door's limit for `max.message.bytes`, with room for its frame.
pub const MAX_BATCH: usize = 128 << 20;

fn all_zeros(file: &dyn File, mut position: u64) -> io::Result<bool> {
    let mut piece = vec![0; PIECE_SIZE];
    loop {
        let count = file.read_at(&mut piece, position)?;
        if count == 0 {
            return Ok(true);
        }
        if piece[..count].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        position += count as u64;
    }
}

fn last_is_whole(disk: &dyn Disk, segment: &Segment, checkpoint: &PartitionCheckpoint) -> io::Result<bool> {
    let Some(last) = checkpoint.last else { return Ok(true) };
    let size = (checkpoint.position.saturating_sub(last) as usize).min(MAX_BATCH);
    let mut bytes = vec![0; size];
    let count = segment.file(disk)?.read_at(&mut bytes, last)?;
    bytes.truncate(count);
    Ok(Batch::check(bytes.into()).is_ok_and(|batch| batch.next_offset() == checkpoint.end))
}

fn has_data(disk: &dyn Disk, folder: &Path, bases: &[Offset]) -> io::Result<bool> {
    for base in bases {
        let file = disk.open(&folder.join(segment::file_name(*base)))?;
        let found = scan(file.as_ref(), ScanEnd { position: 0, next: *base, last: None, damage: None }, |_, _| {})?;
        if found.position > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A whole batch with a later offset that begins more than a round behind `position`: damage that no crash explains.
fn whole_batch_beyond(disk: &dyn Disk, segment: &Segment, position: u64, next: Offset) -> io::Result<Option<u64>> {
    let file = segment.file(disk)?;
    let mut at = position + ROUND_SIZE_MAX as u64;
    let mut piece = vec![0; PIECE_SIZE];
    loop {
        let count = file.read_at(&mut piece, at)?;
        if count < HEADER_SIZE {
            return Ok(None);
        }
        // The magic byte stands 16 bytes into a batch.
        for magic in memchr::memchr_iter(2, &piece[16..count - (HEADER_SIZE - 17)]) {
            let Ok(header) = Header::parse(&piece[magic..count]) else { continue };
            if header.base_offset <= next || header.size > MAX_BATCH {
                continue;
            }
            let mut bytes = vec![0; header.size];
            if file.read_at(&mut bytes, at + magic as u64)? == header.size && Batch::check(bytes.into()).is_ok() {
                return Ok(Some(at + magic as u64));
            }
        }
        at += (count - (HEADER_SIZE - 1)) as u64;
    }
}

/// Copies what is cut off to `lost+found`, without the zeros at its end. Returns the bytes kept.
fn keep_cut(disk: &dyn Disk, known: &Known<'_>, segment: &Segment, position: u64) -> io::Result<u64> {
    let file = segment.file(disk)?;
    let size = (file.size()?.saturating_sub(position) as usize).min(2 * ROUND_SIZE_MAX);
    let mut bytes = vec![0; size];
    let count = file.read_at(&mut bytes, position)?;
    bytes.truncate(count);
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(used);
    disk.create_folder(known.lost_and_found)?;
    let name = format!("{}-{}-at-{position}-{}.bytes", known.name, segment.base, known.now_ms);
    disk.replace(&known.lost_and_found.join(name), &bytes)?;
    Ok(used as u64)
}

#[cfg(test)]
mod tests {
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
        let known = Known { checkpoint, leader_epoch: 3, lost_and_found: Path::new("/lost"), name: "t-0", now_ms: 9 };
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
            // The leader epoch lies outside the checksum: a greater one passes for a later leader's.
            let is_epoch = (12..16).contains(&(at - begins));
            let (found, _) = recovered(&content, Some(&checkpoint(&ends)));
            if hit < DURABLE {
                assert!(found.read_only.is_some() || is_epoch, "byte {at}");
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
