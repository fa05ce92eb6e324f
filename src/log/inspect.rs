//! Looking through a segment file that nobody writes: every batch checked, and past damage to the next whole batch. Changes nothing.

use super::scan::{Damage, Found, ScanEnd, scan, whole_batch_from};
use super::segment::Segment;
use crate::disk::Disk;
use crate::record::{HEADER_SIZE, Header, Offset};
use std::io;

/// Holes in one segment that are told one by one; what lies behind is one more.
const GAPS_MAX: usize = 100;

/// What a segment file holds.
#[derive(Clone, Debug)]
pub struct Inspected {
    pub file_size: u64,
    pub batches: u64,
    pub records: u64,
    /// Bytes of whole batches.
    pub size: u64,
    /// Behind the last whole batch.
    pub position: u64,
    pub next: Offset,
    pub epoch: i32,
    /// Where the chain is broken, in order.
    pub gaps: Vec<Gap>,
    /// Zeros stand behind the last whole batch: reserved space.
    pub has_zeros: bool,
}

/// A place where no batch follows that should.
#[derive(Clone, Debug)]
pub struct Gap {
    pub position: u64,
    pub expected: Offset,
    pub reason: String,
    /// Position and offset of the next whole batch; `None`: nothing whole follows in this file.
    pub resumes: Option<(u64, Offset)>,
}

/// Reads a segment from its beginning and tells each whole batch. `epoch` is the last of the segment before, −1 if there is none.
///
/// # Errors
/// The disk's. Damage is not an error.
pub fn inspect(
    disk: &dyn Disk,
    segment: &Segment,
    epoch: i32,
    epoch_max: i32,
    mut on_batch: impl FnMut(&Found<'_>),
) -> io::Result<Inspected> {
    let file = segment.file(disk)?;
    let (mut batches, mut records, mut size) = (0, 0, 0);
    let mut gaps = Vec::new();
    let mut from = ScanEnd { epoch, ..ScanEnd::start(segment.base, epoch_max).with_holes(segment.holes_below) };
    let end = loop {
        let end = scan(file.as_ref(), from, |found| {
            batches += 1;
            records += found.header.count as u64;
            size += found.header.size as u64;
            on_batch(&found);
        })?;
        let Some(Damage::Bad(reason)) = &end.damage else { break end };
        let (position, expected, reason) = (end.position, end.next, reason.clone());
        let following = whole_batch_from(disk, segment, position + 1, expected)?;
        let resumes = following.map(|(position, header)| (position, header.base_offset));
        gaps.push(Gap { position, expected, reason, resumes });
        match following {
            Some((position, header)) if gaps.len() < GAPS_MAX => {
                from = ScanEnd { position, next: header.base_offset, epoch: header.leader_epoch, ..end }
            }
            _ => break end,
        }
    };
    Ok(Inspected {
        file_size: file.size()?,
        batches,
        records,
        size,
        position: end.position,
        next: end.next,
        epoch: end.epoch,
        gaps,
        has_zeros: end.damage == Some(Damage::Zeros),
    })
}

/// Tells header and position of each whole batch between two positions of a segment, also behind damage.
///
/// # Errors
/// The disk's.
pub(super) fn inspect_from(
    disk: &dyn Disk,
    segment: &Segment,
    from: u64,
    end: u64,
    mut on_batch: impl FnMut(&Header, u64),
) -> io::Result<()> {
    let file = segment.file(disk)?;
    let mut head = [0; HEADER_SIZE];
    let count = file.read_at(&mut head, from)?;
    // Somewhere in a segment its offset is not known beforehand.
    let base = Header::parse(&head[..count]).map_or(segment.base, |header| header.base_offset);
    let mut at = ScanEnd { position: from, ..ScanEnd::start(base, i32::MAX).with_holes(segment.holes_below) };
    while at.position < end {
        at = scan(file.as_ref(), at, |found| {
            if found.position < end {
                on_batch(found.header, found.position);
            }
        })?;
        if !matches!(at.damage, Some(Damage::Bad(_))) || at.position >= end {
            break;
        }
        let Some((position, header)) = whole_batch_from(disk, segment, at.position + 1, at.next)? else { break };
        at = ScanEnd { position, next: header.base_offset, epoch: header.leader_epoch, ..at };
    }
    Ok(())
}
