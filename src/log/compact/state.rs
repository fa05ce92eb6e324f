//! `compaction`, a small file in a partition's folder: how far compaction has come, and the swap that is under way. One checksummed line
//! (see `journal.rs`), replaced as a whole. A partition that was never compacted has none.
//!
//! A swap puts `BASE.log.cleaned` in the place of neighbouring segments, of which the first is `BASE.log`:
//!
//! | step | a crash after it leaves |
//! |---|---|
//! | the new file is written and synced, and its name | the old segments; a start removes the file |
//! | `compaction` names the swap, durably | the new: a start does the next step |
//! | index files go, the new file takes the first one's name, the other old ones go; the folder is synced | the new |
//! | a checkpoint that names the new segment is durable | the new |
//! | `compaction` without the swap | the new |
//!
//! Each step is durable before the next, so the old segments are whole until the new one is, and a start knows what it finds. `holes_below`
//! stands in the file before the first hole can be met: only below it a batch may begin later than the one before it ends.

use super::super::checkpoint::Sealed;
use super::super::journal;
use crate::clock::Millis;
use crate::disk::Disk;
use crate::record::Offset;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

pub(super) const FILE: &str = "compaction";
/// A swap of 10,000 segments takes 210 KB.
const SIZE_MAX: u64 = 16 << 20;

/// How far compaction has come in a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleaned {
    /// The clean point: all keys below it have been seen by a pass.
    pub until: Offset,
    /// Offsets may be missing below it.
    pub holes_below: Offset,
    /// When the first of the tombstones that were left may go.
    pub horizon_ms: Option<Millis>,
    pub swap: Option<Swap>,
}

/// A new segment takes the place of old ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    pub new: Sealed,
    /// Bases of the segments that go besides the one whose name the new one has.
    pub others: Vec<Offset>,
}

/// What the file in `folder` says, or that there is none. One that is damaged is a finding: it stands for a partition that may have holes
/// anywhere and is to be cleaned anew.
///
/// # Errors
/// The disk's.
pub fn load(disk: &dyn Disk, folder: &Path) -> io::Result<Option<Result<Cleaned, String>>> {
    let bytes = match disk.read_whole(&folder.join(FILE), SIZE_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let (records, rest) = journal::records(&bytes);
    Ok(Some(match records.as_slice() {
        [json] if rest == journal::Rest::Nothing => serde_json::from_str(json).map_err(|error| error.to_string()),
        _ => Err("its checksum is wrong".to_owned()),
    }))
}

/// Replaces the file; durable when it returns.
///
/// # Errors
/// The disk's; the old one then stands.
pub fn save(disk: &dyn Disk, folder: &Path, cleaned: &Cleaned) -> io::Result<()> {
    let mut bytes = Vec::new();
    journal::push(&mut bytes, cleaned)?;
    disk.replace(&folder.join(FILE), &bytes)
}
