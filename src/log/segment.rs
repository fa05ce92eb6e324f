//! A segment: one file of a partition's log, named by its first offset in 20 digits, and its index in memory.
//!
//! A sealed segment is exactly a chain of batches. The active one is followed by zeros up to its reserved end.

use super::checkpoint::Sealed;
use crate::clock::Millis;
use crate::disk::{Disk, File};
use crate::record::{Header, Offset};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// Bytes of log between two index entries.
const INDEX_STEP: u64 = 64 << 10;

/// A place to begin reading at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    pub offset: Offset,
    pub position: u64,
    /// Greatest timestamp of all batches before this entry in the segment.
    pub max_timestamp_before: i64,
}

/// One segment, shared by the partition's writer and its readers.
pub struct Segment {
    pub base: Offset,
    pub path: PathBuf,
    file: OnceLock<Arc<dyn File>>,
    /// Bytes of batches; what lies behind is reserved zeros.
    size: AtomicU64,
    max_timestamp: AtomicI64,
    /// When the last batch arrived: what retention counts from.
    arrived_ms: AtomicI64,
    index: RwLock<Index>,
}

#[derive(Default)]
struct Index {
    entries: Vec<IndexEntry>,
    /// Log bytes that the entries cover; less than the size after a start, until somebody reads there.
    covered: u64,
}

/// The file name of a segment that begins at `base`.
pub fn file_name(base: Offset) -> String {
    format!("{:020}.log", base.0)
}

/// Base offsets of the segments in a partition's folder, ascending. Other files are passed over.
///
/// # Errors
/// The folder cannot be read.
pub fn list(disk: &dyn Disk, folder: &Path) -> io::Result<Vec<Offset>> {
    let name = |path: &PathBuf| {
        let digits = path.file_name()?.to_str()?.strip_suffix(".log")?;
        (digits.len() == 20).then(|| digits.parse().ok().map(Offset)).flatten()
    };
    let mut bases: Vec<Offset> = disk.list(folder)?.iter().filter_map(name).collect();
    bases.sort_unstable();
    Ok(bases)
}

/// Takes a segment off the disk: renamed first, so that a crash leaves no half of it, then removed, with its index.
///
/// # Errors
/// The disk's.
pub fn remove(disk: &dyn Disk, folder: &Path, base: Offset) -> io::Result<()> {
    let path = folder.join(file_name(base));
    let dead = path.with_extension("log.deleted");
    disk.rename(&path, &dead)?;
    disk.sync_folder(folder)?;
    disk.remove_file(&dead)?;
    remove_index(disk, &path)
}

/// Removes the index of the segment at `path`, if it has one.
///
/// # Errors
/// The disk's.
pub(super) fn remove_index(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let index = path.with_extension("index");
    if disk.exists(&index) { disk.remove_file(&index) } else { Ok(()) }
}

impl Segment {
    /// A segment whose file exists or is about to. Opens nothing.
    pub fn new(folder: &Path, base: Offset, size: u64, arrived_ms: Millis, max_timestamp: i64) -> Segment {
        Segment {
            base,
            path: folder.join(file_name(base)),
            file: OnceLock::new(),
            size: AtomicU64::new(size),
            max_timestamp: AtomicI64::new(max_timestamp),
            arrived_ms: AtomicI64::new(arrived_ms),
            index: RwLock::default(),
        }
    }

    /// The open file; opened at the first call.
    ///
    /// # Errors
    /// The disk's.
    pub fn file(&self, disk: &dyn Disk) -> io::Result<&Arc<dyn File>> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let opened = disk.open(&self.path)?;
        Ok(self.file.get_or_init(|| opened))
    }

    /// Gives the segment the file that was just created for it.
    pub fn set_file(&self, file: Arc<dyn File>) {
        let _ = self.file.set(file);
    }

    pub fn size(&self) -> u64 {
        // Acquire pairs with the Release in `grow`: who sees the size sees the bytes' index entries.
        self.size.load(Ordering::Acquire)
    }

    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp.load(Ordering::Relaxed)
    }

    pub fn arrived_ms(&self) -> Millis {
        self.arrived_ms.load(Ordering::Relaxed)
    }

    /// What a checkpoint keeps of it once it is sealed.
    pub fn sealed(&self) -> Sealed {
        let (arrived_ms, max_timestamp) = (self.arrived_ms(), self.max_timestamp());
        Sealed { base: self.base, size: self.size(), arrived_ms, max_timestamp }
    }

    /// Notes a batch that now stands at `position`; called in log order by the writer or by recovery.
    pub fn grow(&self, header: &Header, position: u64, now_ms: Millis) {
        self.cover(header, position);
        self.max_timestamp.fetch_max(header.max_timestamp, Ordering::Relaxed);
        self.arrived_ms.fetch_max(now_ms, Ordering::Relaxed);
        self.size.store(position + header.size as u64, Ordering::Release);
    }

    /// Extends the index by a batch at `position`, if that is where it ends; else it is left to a reader that walks there.
    pub fn cover(&self, header: &Header, position: u64) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if index.covered != position {
            return;
        }
        let last = index.entries.last();
        if last.is_none_or(|last| position >= last.position + INDEX_STEP) {
            let max_timestamp_before = self.max_timestamp.load(Ordering::Relaxed);
            index.entries.push(IndexEntry { offset: header.base_offset, position, max_timestamp_before });
        }
        index.covered = position + header.size as u64;
    }

    /// Where to begin reading for the batch that holds `offset`: at or before it.
    pub fn position_for(&self, offset: Offset) -> u64 {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let after = index.entries.partition_point(|entry| entry.offset <= offset);
        after.checked_sub(1).map_or(0, |at| index.entries[at].position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::Sim;
    use crate::record::{BatchBuilder, Codec, NewRecord};

    #[test]
    fn the_index_leads_to_or_before_every_batch() {
        let segment = Segment::new(Path::new("/log"), Offset(100), 0, 0, -1);
        let mut builder = BatchBuilder::new();
        builder.push(NewRecord { timestamp: 5, key: None, value: Some(&[7; 9000]), headers: &[] });
        let header = *builder.build(Codec::None).unwrap().header();
        let mut places = Vec::new();
        for n in 0..50u64 {
            let position = n * header.size as u64;
            segment.grow(&Header { base_offset: Offset(100 + n as i64), ..header }, position, 1);
            places.push(position);
        }
        for (n, place) in places.iter().enumerate() {
            let found = segment.position_for(Offset(100 + n as i64));
            assert!(found <= *place && place - found <= INDEX_STEP, "{n}: {found} for {place}");
        }
        assert_eq!(segment.size(), 50 * header.size as u64);
    }

    #[test]
    fn only_segments_are_listed() {
        let disk = Sim::new(1);
        let folder = Path::new("/p");
        disk.create_folder(folder).unwrap();
        for name in [file_name(Offset(70)), file_name(Offset(0)), "5.log".into(), format!("{:020}.index", 3)] {
            disk.create(&folder.join(name)).unwrap();
        }
        assert_eq!(list(&disk, folder).unwrap(), vec![Offset(0), Offset(70)]);
    }
}
