//! What is cut off a log is kept: copied or moved to the folder `lost+found` before it leaves its segment.

use super::recovery::Known;
use super::segment::{self, Segment, file_name};
use crate::disk::{Disk, File};
use crate::record::Offset;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Files are read and copied in pieces of this size.
const PIECE_SIZE: usize = 1 << 20;

/// Copies what stands in a segment from `position` on, without the zeros at its end. Returns the bytes kept; durable then.
///
/// # Errors
/// The disk's.
pub(super) fn keep_rest(disk: &dyn Disk, known: &Known<'_>, segment: &Segment, position: u64) -> io::Result<u64> {
    let file = segment.file(disk)?;
    let end = data_end(file.as_ref(), position)?;
    if end > position {
        let name = format!("{}-{}-at-{position}-{}.bytes", known.name, segment.base, known.now_ms);
        copy(disk, &file, position, end, &known.lost_and_found.join(name))?;
    }
    Ok(end - position)
}

/// Moves a whole segment that nothing leads to any more; one without data is removed. Returns the bytes kept.
///
/// # Errors
/// The disk's.
pub(super) fn keep_segment(disk: &dyn Disk, known: &Known<'_>, folder: &Path, base: Offset) -> io::Result<u64> {
    let path = folder.join(file_name(base));
    let size = data_end(disk.open(&path)?.as_ref(), 0)?;
    if size == 0 {
        segment::remove(disk, folder, base)?;
        return Ok(0);
    }
    disk.create_folder(known.lost_and_found)?;
    let name = format!("{}-{base}-{}.log", known.name, known.now_ms);
    disk.rename(&path, &known.lost_and_found.join(name))?;
    disk.sync_folder(known.lost_and_found)?;
    disk.sync_folder(folder)?;
    Ok(size)
}

/// Where the last byte that is not zero ends, at or behind `from`.
fn data_end(file: &dyn File, from: u64) -> io::Result<u64> {
    let (mut at, mut end) = (from, from);
    let mut piece = vec![0; PIECE_SIZE];
    loop {
        let count = file.read_at(&mut piece, at)?;
        if count == 0 {
            return Ok(end);
        }
        if let Some(last) = piece[..count].iter().rposition(|byte| *byte != 0) {
            end = at + last as u64 + 1;
        }
        at += count as u64;
    }
}

fn copy(disk: &dyn Disk, from: &Arc<dyn File>, position: u64, end: u64, to: &Path) -> io::Result<()> {
    let folder = to.parent().ok_or(io::ErrorKind::InvalidInput)?;
    disk.create_folder(folder)?;
    if disk.exists(to) {
        // Of a start that was cut off here: the same bytes again.
        disk.remove_file(to)?;
    }
    let copy = disk.create(to)?;
    let mut piece = vec![0; PIECE_SIZE];
    let mut at = position;
    while at < end {
        let wanted = piece.len().min((end - at) as usize);
        let count = from.read_at(&mut piece[..wanted], at)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        copy.write_at(&piece[..count], at - position)?;
        at += count as u64;
    }
    copy.sync()?;
    disk.sync_folder(folder)
}
