//! Which letters are handled: replayed, sent to another topic or dropped. One small file a dead letter topic,
//! `<data>/dead-letters/<topic id>`, replaced as a whole: CRC-32C of its second line in 8 hex digits, then JSON, ranges of offsets by
//! partition. Without it all letters are open.

use super::{Error, Offsets, ranges};
use crate::disk;
use crate::record::PartitionId;
use crate::store::Topic;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Held while a file is read, added to and replaced: doors and pipelines both do, and a process has one data folder.
static ADDING: Mutex<()> = Mutex::new(());

fn path(data: &Path, topic: &Topic) -> PathBuf {
    data.join("dead-letters").join(topic.id.to_string())
}

/// # Errors
/// The system's; `InvalidData` if the file is damaged.
pub(super) fn load(data: &Path, topic: &Topic) -> io::Result<Offsets> {
    let path = path(data, topic);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Offsets::new()),
        read => read?,
    };
    let damaged = || {
        let message = format!(
            "{} is damaged: take it away, and all letters of {} count as open again",
            path.display(),
            topic.name
        );
        io::Error::new(io::ErrorKind::InvalidData, message)
    };
    let json = std::str::from_utf8(&bytes).ok().and_then(|text| disk::checked(text).ok());
    json.and_then(|json| serde_json::from_str(json).ok()).ok_or_else(damaged)
}

/// # Errors
/// The system's; too many pieces: nothing has changed.
pub(super) fn add(data: &Path, topic: &Topic, more: &Offsets) -> Result<(), Error> {
    if more.values().all(super::Ranges::is_empty) {
        return Ok(());
    }
    let _adding = ADDING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = load(data, topic)?;
    for (partition, ranges) in more {
        all.entry(*partition).or_default().merge(ranges);
    }
    // What left the log need not be known.
    for (partition, ranges) in &mut all {
        let start = topic.partition(PartitionId(*partition)).map_or(0, |partition| partition.start().0);
        *ranges = ranges.from(start);
    }
    ranges::check(&all)?;
    let json = serde_json::to_string(&all).map_err(io::Error::from)?;
    let path = path(data, topic);
    disk::create_folder(path.parent().unwrap_or(data))?;
    disk::replace(&path, disk::with_checksum(&json).as_bytes())?;
    Ok(())
}
