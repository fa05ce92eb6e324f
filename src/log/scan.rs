//! Walking the chain of batches in a segment file, each checked: right base offset, sizes, CRC, epochs that never fall. Compaction leaves
//! holes between batches: below where it has been, a batch may begin later than the one before it ends.
//!
//! Used by recovery, by the commands that look into a folder that nobody runs, and to make an index again. Trusts nothing it reads.

use super::segment::Segment;
use crate::disk::{Disk, File};
use crate::record::{Batch, HEADER_SIZE, Header, Offset};
use std::io;

/// Files are scanned in pieces of this size, more where a batch is larger.
const PIECE_SIZE: usize = 1 << 20;

/// No batch is larger: the door's limit for `max.message.bytes`, with room for its frame.
pub const MAX_BATCH: usize = 128 << 20;

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
    /// Leader epoch of the last batch; a later batch has no lower one.
    pub epoch: i32,
    /// No batch has a higher one: epochs lie outside the CRC, and this start's is the highest that was ever given.
    pub epoch_max: i32,
    /// Below it offsets may be missing: compaction was there.
    pub holes_below: Offset,
    /// `None`: the file ends with the batch, or nobody wanted to see more.
    pub damage: Option<Damage>,
}

impl ScanEnd {
    /// Where the scan of a whole segment begins that no compaction has seen.
    pub fn start(base: Offset, epoch_max: i32) -> ScanEnd {
        ScanEnd { position: 0, next: base, last: None, epoch: -1, epoch_max, holes_below: Offset(0), damage: None }
    }

    /// Of a segment that may have been compacted.
    pub fn with_holes(self, holes_below: Offset) -> ScanEnd {
        ScanEnd { holes_below, ..self }
    }
}

/// A whole batch in a file, as a scan tells of it.
pub struct Found<'a> {
    pub header: &'a Header,
    pub position: u64,
    /// Exactly the batch.
    pub bytes: &'a [u8],
}

/// Whether a batch at `base` may follow one that ends before `next`: it begins there, or later by a hole that lies below `holes_below`.
pub fn follows(base: Offset, next: Offset, holes_below: Offset) -> bool {
    base == next || (base > next && base < holes_below)
}

/// Walks the chain from `from` on and tells each whole batch, which is checked.
///
/// # Errors
/// The disk's.
pub fn scan(file: &dyn File, from: ScanEnd, mut on_batch: impl FnMut(Found<'_>)) -> io::Result<ScanEnd> {
    scan_while(file, from, |found| {
        on_batch(found);
        true
    })
}

/// As [`scan`], until `on_batch` answers false: that batch is the last.
///
/// # Errors
/// As there.
pub fn scan_while(file: &dyn File, from: ScanEnd, mut on_batch: impl FnMut(Found<'_>) -> bool) -> io::Result<ScanEnd> {
    let mut end = ScanEnd { damage: None, ..from };
    let mut window = Window { file, at: 0, held: 0, buffer: Vec::new() };
    loop {
        let head = window.get(end.position, HEADER_SIZE)?;
        if head.is_empty() {
            return Ok(end);
        }
        let size = Header::parse(head).map_or(HEADER_SIZE, |header| header.size);
        let bytes = window.get(end.position, size.min(MAX_BATCH))?;
        match judge(bytes, &end) {
            Ok(header) => {
                let goes_on = on_batch(Found { header: &header, position: end.position, bytes });
                end.epoch = header.leader_epoch;
                end.last = Some(end.position);
                end.position += header.size as u64;
                end.next = header.next_offset();
                if !goes_on {
                    return Ok(end);
                }
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
    /// So many bytes of the buffer are the file's.
    held: usize,
    buffer: Vec<u8>,
}

impl Window<'_> {
    /// `wanted` bytes at `position`, fewer only at the file's end.
    fn get(&mut self, position: u64, wanted: usize) -> io::Result<&[u8]> {
        let end = self.at + self.held as u64;
        if position < self.at || position + wanted as u64 > end {
            if self.buffer.len() < wanted.max(PIECE_SIZE) {
                self.buffer = vec![0; wanted.max(PIECE_SIZE)];
            }
            self.at = position;
            self.held = self.file.read_at(&mut self.buffer, position)?;
        }
        let rest = &self.buffer[(position - self.at) as usize..self.held];
        Ok(&rest[..wanted.min(rest.len())])
    }
}

fn judge(bytes: &[u8], end: &ScanEnd) -> Result<Header, String> {
    let header = Header::parse(bytes).map_err(|error| error.to_string())?;
    if !follows(header.base_offset, end.next, end.holes_below) {
        return Err(format!("base offset {} where {} was expected", header.base_offset, end.next));
    }
    if !(end.epoch..=end.epoch_max).contains(&header.leader_epoch) {
        return Err(format!("leader epoch {} outside {} to {}", header.leader_epoch, end.epoch, end.epoch_max));
    }
    Batch::check_bytes(bytes).map_err(|error| error.to_string())
}

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

/// An offset this far above the expected one is no offset: random bytes seldom pass for a header then.
const OFFSETS_AHEAD_MAX: i64 = 1 << 40;

/// The first whole batch from position `from` on whose offsets lie above `next`, wherever it begins. Reads to the file's end if there is
/// none.
///
/// # Errors
/// The disk's.
pub fn whole_batch_from(
    disk: &dyn Disk,
    segment: &Segment,
    from: u64,
    next: Offset,
) -> io::Result<Option<(u64, Header)>> {
    let file = segment.file(disk)?;
    let mut at = from;
    let mut piece = vec![0; PIECE_SIZE];
    loop {
        let count = file.read_at(&mut piece, at)?;
        if count < HEADER_SIZE {
            return Ok(None);
        }
        // The magic byte stands 16 bytes into a batch.
        for magic in memchr::memchr_iter(2, &piece[16..count - (HEADER_SIZE - 17)]) {
            let Ok(header) = Header::parse(&piece[magic..count]) else { continue };
            let ahead = header.base_offset.0.saturating_sub(next.0);
            if !(1..OFFSETS_AHEAD_MAX).contains(&ahead) || header.size > MAX_BATCH {
                continue;
            }
            let mut bytes = vec![0; header.size];
            let position = at + magic as u64;
            if file.read_at(&mut bytes, position)? == header.size && Batch::check_bytes(&bytes).is_ok() {
                return Ok(Some((position, header)));
            }
        }
        at += (count - (HEADER_SIZE - 1)) as u64;
    }
}
