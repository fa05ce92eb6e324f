//! Putting a rewritten segment in the place of the old ones, and what a start does with a swap that was cut off.

use super::rewrite::Rewritten;
use super::state::{Cleaned, Swap, load, save};
use crate::disk::Disk;
use crate::log::checkpoint::PartitionCheckpoint;
use crate::log::segment::{Segment, file_name, list, remove_index};
use crate::record::Offset;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SUFFIX: &str = ".cleaned";

/// Where the new segment of `base` is written.
pub(super) fn new_path(folder: &Path, base: Offset) -> PathBuf {
    folder.join(file_name(base) + SUFFIX)
}

/// Makes the swap: after this the folder holds the new segment. The old ones' files are opened first: who reads in them goes on. `cleaned`
/// is the partition's state, with this swap in it when this returns; the caller makes a checkpoint durable that names the new segment, then
/// saves it without.
///
/// # Errors
/// The disk's, with whether the swap may have begun: then nobody knows what the folder holds, and the next start ends it.
pub fn swap(
    disk: &dyn Disk,
    folder: &Path,
    group: &[Arc<Segment>],
    new: &Rewritten,
    cleaned: &mut Cleaned,
) -> Result<(), (io::Error, bool)> {
    for old in group {
        old.hold_file(disk).map_err(|error| (error, false))?;
    }
    let others = group.iter().skip(1).map(|segment| segment.base).collect();
    let next = Cleaned {
        holes_below: cleaned.holes_below.max(new.segment.holes_below),
        swap: Some(Swap { new: new.segment.sealed(), others }),
        ..cleaned.clone()
    };
    // Without room the old state stands, and nothing has begun; after any other error it may be the new one.
    save(disk, folder, &next).map_err(|error| {
        let has_begun = !crate::disk::passes(&error);
        (error, has_begun)
    })?;
    *cleaned = next;
    let moved = || {
        for old in group {
            old.give_up_name(disk)?;
        }
        finish(disk, folder, cleaned.swap.as_ref())
    };
    moved().map_err(|error| (error, true))
}

/// Gives up a rewritten segment that no swap names.
///
/// # Errors
/// The disk's; the next start removes it.
pub fn abandon(disk: &dyn Disk, folder: &Path, base: Offset) -> io::Result<()> {
    let path = new_path(folder, base);
    if disk.exists(&path) { disk.remove_file(&path) } else { Ok(()) }
}

/// Renames and removes what a swap names, from wherever it stands.
fn finish(disk: &dyn Disk, folder: &Path, swap: Option<&Swap>) -> io::Result<()> {
    let Some(Swap { new, others }) = swap else { return Ok(()) };
    let (from, to) = (new_path(folder, new.base), folder.join(file_name(new.base)));
    if disk.exists(&from) {
        remove_index(disk, &to)?;
        disk.rename(&from, &to)?;
    }
    for base in others {
        let path = folder.join(file_name(*base));
        remove_index(disk, &path)?;
        if disk.exists(&path) {
            disk.remove_file(&path)?;
        }
    }
    disk.sync_folder(folder)
}

/// What a start finds of compaction in a partition's folder.
pub struct Settled {
    pub cleaned: Cleaned,
    /// The checkpoint as a swap that was ended makes it, if that is another.
    pub checkpoint: Option<PartitionCheckpoint>,
    /// Why it is not known how far compaction had come: it begins anew.
    pub damage: Option<String>,
}

/// What a start does first with a partition: ends a swap that was begun, and removes what none names.
///
/// # Errors
/// The disk's.
pub fn settle(disk: &dyn Disk, folder: &Path, checkpoint: Option<&PartitionCheckpoint>) -> io::Result<Settled> {
    let (cleaned, damage) = match load(disk, folder)? {
        None => return Ok(Settled { cleaned: Cleaned::default(), checkpoint: None, damage: None }),
        Some(Ok(cleaned)) => (cleaned, None),
        Some(Err(reason)) => (without_state(disk, folder)?, Some(reason)),
    };
    finish(disk, folder, cleaned.swap.as_ref())?;
    for path in disk.list(folder)? {
        if path.to_string_lossy().ends_with(SUFFIX) {
            disk.remove_file(&path)?;
        }
    }
    let checkpoint = checkpoint.and_then(|checkpoint| patched(checkpoint, cleaned.swap.as_ref()?));
    Ok(Settled { cleaned, checkpoint, damage })
}

/// Its file is damaged: holes may be anywhere below the last segment, which no pass has touched.
fn without_state(disk: &dyn Disk, folder: &Path) -> io::Result<Cleaned> {
    let holes_below = list(disk, folder)?.last().copied().unwrap_or_default();
    Ok(Cleaned { holes_below, ..Cleaned::default() })
}

/// The checkpoint with the new segment instead of the old ones; `None` if it names none of them.
fn patched(checkpoint: &PartitionCheckpoint, swap: &Swap) -> Option<PartitionCheckpoint> {
    let at = checkpoint.sealed.iter().position(|sealed| sealed.base == swap.new.base)?;
    let mut patched = checkpoint.clone();
    patched.sealed[at] = swap.new;
    patched.sealed.retain(|sealed| !swap.others.contains(&sealed.base));
    Some(patched)
}

/// A partition's folder as a start would find it.
pub struct Looked {
    /// Of the segments, ascending.
    pub bases: Vec<Offset>,
    pub holes_below: Offset,
    pub checkpoint: Option<PartitionCheckpoint>,
    /// Why it is not known how far compaction has come.
    pub damage: Option<String>,
}

/// Looks at a folder for those who change nothing in it.
///
/// # Errors
/// The disk's.
pub fn look(disk: &dyn Disk, folder: &Path, checkpoint: Option<&PartitionCheckpoint>) -> io::Result<Looked> {
    let mut bases = list(disk, folder)?;
    let (cleaned, damage) = match load(disk, folder)? {
        None => (Cleaned::default(), None),
        Some(Ok(cleaned)) => (cleaned, None),
        Some(Err(reason)) => (without_state(disk, folder)?, Some(reason)),
    };
    let mut checkpoint = checkpoint.cloned();
    // Before the rename the old ones are all there.
    if let Some(swap) = cleaned.swap.as_ref().filter(|swap| !disk.exists(&new_path(folder, swap.new.base))) {
        bases.retain(|base| !swap.others.contains(base));
        checkpoint = checkpoint.map(|known| patched(&known, swap).unwrap_or(known));
    }
    Ok(Looked { bases, holes_below: cleaned.holes_below, checkpoint, damage })
}
