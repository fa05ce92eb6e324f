//! Which letters are handled: replayed, sent to another topic or dropped. One small file a dead letter topic,
//! `<data>/dead-letters/<topic id>`, replaced as a whole: CRC-32C of its second line in 8 hex digits, then JSON, ranges of offsets by
//! partition. Without it all letters are open.

use super::{Error, Offsets, ranges};
use crate::record::PartitionId;
use crate::store::Topic;
use std::fs::{self, File};
use std::io::{self, Write};
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
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Offsets::new()),
        read => read?,
    };
    let damaged = || {
        let message = format!("{} is damaged; without it all letters of {} count as open", path.display(), topic.name);
        io::Error::new(io::ErrorKind::InvalidData, message)
    };
    let (crc, json) = text.split_once('\n').ok_or_else(damaged)?;
    if u32::from_str_radix(crc, 16) != Ok(crc32c::crc32c(json.as_bytes())) {
        return Err(damaged());
    }
    serde_json::from_str(json).map_err(|_| damaged())
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
    replace(&path(data, topic), format!("{:08x}\n{json}", crc32c::crc32c(json.as_bytes())).as_bytes())?;
    Ok(())
}

/// Durable when it returns.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if !folder.is_dir() {
        fs::create_dir_all(folder)?;
        File::open(folder.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    }
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}
