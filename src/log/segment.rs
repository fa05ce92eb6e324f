//! A segment: one file of a partition's log, named by its first offset in 20 digits, and its index: in memory while it is written, in a
//! file once it is sealed.
//!
//! A sealed segment is exactly a chain of batches. The active one is followed by zeros up to its reserved end.

use super::checkpoint::Sealed;
use super::index::{self, Footer, IndexFile};
use super::inspect::inspect_from;
use crate::clock::Millis;
use crate::disk::{ALIGNMENT, Allocate, Disk, File, Handle};
use crate::record::{HEADER_SIZE, Header, Offset};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

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
    /// Below it offsets may be missing in this segment: compaction wrote it.
    pub holes_below: Offset,
    file: Handle,
    /// Bytes of batches; what lies behind is reserved zeros.
    size: AtomicU64,
    max_timestamp: AtomicI64,
    /// When the last batch arrived: what retention counts from.
    arrived_ms: AtomicI64,
    /// Up to where the file has space. Changed only under `space`.
    reserved: AtomicU64,
    /// Held while the file grows or is cut; true once it may not grow any more.
    space: Mutex<bool>,
    is_sealed: AtomicBool,
    /// It has left its log, and its file leaves the disk.
    is_retired: AtomicBool,
    /// Held while its index file is made or taken away. False once compaction wrote another in its place: the names in the folder are that
    /// one's. Who holds this one reads on in its open file.
    has_name: Mutex<bool>,
    index: RwLock<Index>,
    /// Up to where readers took large pieces.
    read: AtomicU64,
}

struct Index {
    entries: Vec<IndexEntry>,
    /// Log bytes that the entries cover; less than the size after a start, until somebody reads there.
    covered: u64,
    /// Greatest timestamp of the batches that are covered.
    greatest: i64,
    /// Takes the place of all that, for a sealed segment.
    file: Option<Arc<IndexFile>>,
}

impl Index {
    const EMPTY: Index = Index { entries: Vec::new(), covered: 0, greatest: -1, file: None };

    /// Takes the next batch, which stands where the covered ones end.
    fn push(&mut self, header: &Header, position: u64) {
        if self.entries.last().is_none_or(|last| position >= last.position + INDEX_STEP) {
            let max_timestamp_before = self.greatest;
            self.entries.push(IndexEntry { offset: header.base_offset, position, max_timestamp_before });
        }
        self.covered = position + header.size as u64;
        if header.count > 0 {
            self.greatest = self.greatest.max(header.max_timestamp);
        }
    }
}

/// What is looked for in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Offset(Offset),
    /// The first batch with this timestamp or a later one.
    Time(i64),
    /// The last place that does not lie behind this one.
    Position(u64),
}

impl Target {
    fn is_behind(self, entry: &IndexEntry) -> bool {
        match self {
            Target::Offset(offset) => entry.offset <= offset,
            Target::Time(timestamp) => entry.max_timestamp_before < timestamp,
            Target::Position(position) => entry.position <= position,
        }
    }
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
    if !disk.exists(&index) {
        return Ok(());
    }
    match disk.remove_file(&index) {
        // Another was faster: who retires a segment does not wait for who makes its index.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

impl Segment {
    /// A segment whose file exists or is about to. Opens nothing.
    pub fn new(folder: &Path, base: Offset, size: u64, arrived_ms: Millis, max_timestamp: i64) -> Segment {
        Segment {
            base,
            path: folder.join(file_name(base)),
            holes_below: Offset(0),
            file: Handle::default(),
            size: AtomicU64::new(size),
            max_timestamp: AtomicI64::new(max_timestamp),
            arrived_ms: AtomicI64::new(arrived_ms),
            reserved: AtomicU64::new(0),
            space: Mutex::new(false),
            is_sealed: AtomicBool::new(false),
            is_retired: AtomicBool::new(false),
            has_name: Mutex::new(true),
            index: RwLock::new(Index::EMPTY),
            read: AtomicU64::new(0),
        }
    }

    /// Notes that a large piece is read. Whether nobody read most of it before: who comes second goes through the page cache, and leaves
    /// there what a third will want. A reader's own pieces overlap, by the batch that did not wholly fit into the last one.
    pub fn is_read_first(&self, position: u64, count: usize) -> bool {
        // Relaxed: a hint, nothing is published with it.
        let known = self.read.fetch_max(position + count as u64, Ordering::Relaxed);
        known <= position + count as u64 / 2
    }

    /// The segment as compaction may have left it: below `holes_below` offsets may be missing.
    pub fn with_holes(self, holes_below: Offset) -> Segment {
        Segment { holes_below, ..self }
    }

    /// The open file; opened if it is not. It stays open as long as somebody has it, and a while longer.
    ///
    /// # Errors
    /// The disk's.
    pub fn file(&self, disk: &dyn Disk) -> io::Result<Arc<dyn File>> {
        self.file.get(disk, &self.path)
    }

    /// Gives the segment the file that was just created for it.
    pub fn set_file(&self, disk: &dyn Disk, file: Arc<dyn File>) {
        self.file.set(disk, file);
    }

    /// Opens the file and keeps it open, since its name is about to be another's: who reads in it goes on.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn hold_file(&self, disk: &dyn Disk) -> io::Result<()> {
        self.file.hold(disk, &self.path)
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

    /// Says that it has left its log: from now on no index file is made for it. Called before its files are removed.
    pub fn retire(&self) {
        self.is_retired.store(true, Ordering::SeqCst);
    }

    pub fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::SeqCst)
    }

    /// Notes a batch that now stands at `position`; called in log order by the writer or by recovery.
    pub fn grow(&self, header: &Header, position: u64, now_ms: Millis) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if index.covered == position {
            index.push(header, position);
        }
        drop(index);
        // A batch that compaction emptied has no record of that time.
        if header.count > 0 {
            self.max_timestamp.fetch_max(header.max_timestamp, Ordering::Relaxed);
        }
        self.arrived_ms.fetch_max(now_ms, Ordering::Relaxed);
        self.size.store(position + header.size as u64, Ordering::Release);
    }

    /// Up to where the file has space.
    pub fn reserved(&self) -> u64 {
        // Acquire pairs with the Release in `reserve_to`: who sees the space may write there.
        self.reserved.load(Ordering::Acquire)
    }

    /// Makes space up to `end`, a multiple of the alignment, if the file may still grow. Opens the file anew: an error of its sync must
    /// not be taken from the writer's description. Waits for another that does the same.
    ///
    /// # Errors
    /// `StorageFull`: nothing changed. The disk's.
    pub fn reserve_to(&self, disk: &dyn Disk, end: u64, how: Allocate) -> io::Result<()> {
        let is_closed = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        let from = self.reserved().next_multiple_of(ALIGNMENT as u64);
        if *is_closed || end <= from {
            return Ok(());
        }
        disk.open(&self.path)?.allocate(from, end - from, how)?;
        self.reserved.store(end, Ordering::Release);
        Ok(())
    }

    /// The file has no space behind its batches, as far as is known.
    pub(super) fn set_reserved(&self, end: u64) {
        self.reserved.store(end, Ordering::Release);
    }

    /// Cuts the file to `size`, durable when its caller has synced it, which it does before anything is appended.
    ///
    /// # Errors
    /// The disk's.
    pub fn cut_unsynced(&self, disk: &dyn Disk, size: u64) -> io::Result<()> {
        let _space = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        self.file(disk)?.set_size(size)?;
        self.reserved.store(size, Ordering::Release);
        Ok(())
    }

    /// Cuts the file to `size` and syncs it. If it `is_closed`, no space is made behind that any more.
    ///
    /// # Errors
    /// The disk's.
    pub fn cut(&self, disk: &dyn Disk, size: u64, is_closed: bool) -> io::Result<()> {
        let mut space = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.file(disk)?;
        file.set_size(size)?;
        file.sync()?;
        self.reserved.store(size, Ordering::Release);
        *space = is_closed;
        Ok(())
    }

    /// Nothing is written to it any more: its index may go to a file.
    pub fn seal(&self) {
        // Release pairs with the Acquire in `prepare`: who sees it sealed sees its last size.
        self.is_sealed.store(true, Ordering::Release);
    }

    /// Another segment takes its name: its index leaves the folder and comes back no more. Its file must be held.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn give_up_name(&self, disk: &dyn Disk) -> io::Result<()> {
        let mut has_name = self.has_name();
        *has_name = false;
        remove_index(disk, &self.path)
    }

    /// Where to begin reading for `target`: at the first batch that matters or before it, and that batch's base offset. May read the index file, or the whole segment if
    /// it has none and was not written by this process.
    ///
    /// # Errors
    /// The disk's.
    pub fn seek(&self, disk: &dyn Disk, target: Target) -> io::Result<(u64, Offset)> {
        let beginning = (0, self.base);
        if target == Target::Offset(self.base) {
            return Ok(beginning);
        }
        self.prepare_to_read(disk)?;
        let file = {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            match &index.file {
                Some(file) => file.clone(),
                None => {
                    let count = index.entries.partition_point(|entry| target.is_behind(entry));
                    let place = |entry: &IndexEntry| (entry.position, entry.offset);
                    return Ok(count.checked_sub(1).map_or(beginning, |last| place(&index.entries[last])));
                }
            }
        };
        match file.last(|entry| target.is_behind(entry)) {
            Ok(None) => return Ok(beginning),
            Ok(Some(entry)) if self.stands_at(disk, &entry)? => return Ok((entry.position, entry.offset)),
            Ok(Some(_)) | Err(_) => {}
        }
        // The cache lied: it is made again, and this look-up reads from the start.
        self.forget_index(disk, &file)?;
        self.prepare_to_read(disk)?;
        Ok(beginning)
    }

    /// As [`Segment::prepare`]; an index that no file takes is in memory, and leads as well.
    fn prepare_to_read(&self, disk: &dyn Disk) -> io::Result<()> {
        let is_covered = || self.index.read().unwrap_or_else(PoisonError::into_inner).covered == self.size();
        self.prepare(disk).or_else(|error| if is_covered() { Ok(()) } else { Err(error) })
    }

    fn has_name(&self) -> MutexGuard<'_, bool> {
        self.has_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes away an index file that is not right, unless somebody else did.
    fn forget_index(&self, disk: &dyn Disk, file: &Arc<IndexFile>) -> io::Result<()> {
        let has_name = self.has_name();
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if !index.file.as_ref().is_some_and(|known| Arc::ptr_eq(known, file)) {
            return Ok(());
        }
        index.file = None;
        drop(index);
        if *has_name { remove_index(disk, &self.path) } else { Ok(()) }
    }

    /// Brings the index up to date: opens its file, or reads the batches that it does not cover, and writes the file of a sealed segment.
    ///
    /// # Errors
    /// The disk's. An index that cannot be written stays in memory.
    pub fn prepare(&self, disk: &dyn Disk) -> io::Result<()> {
        let known = || {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            (index.file.is_some(), index.covered)
        };
        let is_sealed = self.is_sealed.load(Ordering::Acquire);
        let (has_file, covered) = known();
        if has_file || (!is_sealed && covered == self.size()) {
            return Ok(());
        }
        // One makes it, the others wait: two that write the file at once would take it from each other.
        let has_name = self.has_name();
        let is_sealed = is_sealed && *has_name;
        let (has_file, covered) = known();
        if has_file || (!is_sealed && covered == self.size()) {
            return Ok(());
        }
        if is_sealed && let Some(file) = self.open_index(disk)? {
            *self.index.write().unwrap_or_else(PoisonError::into_inner) = Index { file: Some(file), ..Index::EMPTY };
            return Ok(());
        }
        if covered < self.size() {
            self.cover(disk, covered)?;
        }
        if !is_sealed || self.is_retired() {
            return Ok(());
        }
        let bytes = {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            let (base, size, arrived_ms, max_timestamp) =
                (self.base, self.size(), self.arrived_ms(), self.max_timestamp().max(index.greatest));
            let footer = Footer { base, size, arrived_ms, max_timestamp, entries: index.entries.len() as u64 };
            index::encode(&footer, &index.entries)
        };
        disk.replace(&self.path.with_extension("index"), &bytes)?;
        // Who retires it removes the index that is there then; one that came later has to go by itself.
        if self.is_retired() {
            return remove_index(disk, &self.path);
        }
        if let Some(file) = self.open_index(disk)? {
            *self.index.write().unwrap_or_else(PoisonError::into_inner) = Index { file: Some(file), ..Index::EMPTY };
        }
        Ok(())
    }

    /// The index file, if it is this segment's as it is now.
    fn open_index(&self, disk: &dyn Disk) -> io::Result<Option<Arc<IndexFile>>> {
        let found = IndexFile::open(disk, &self.path.with_extension("index"))?;
        let is_ours = |file: &IndexFile| file.footer().base == self.base && file.footer().size == self.size();
        Ok(found.filter(is_ours).map(Arc::new))
    }

    /// Reads the batches from position `from` on, where the index ends, and takes those that are whole: behind damage it goes on.
    fn cover(&self, disk: &dyn Disk, from: u64) -> io::Result<()> {
        let end = self.size();
        let (mut entries, mut greatest) = (Index::EMPTY, -1);
        entries.covered = from;
        inspect_from(disk, self, from, end, |header, position| {
            entries.push(header, position);
            greatest = greatest.max(header.max_timestamp);
        })?;
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        // Another reader may have been faster.
        if index.covered == from && index.file.is_none() {
            let before = index.greatest;
            entries.entries.iter_mut().for_each(|e| e.max_timestamp_before = e.max_timestamp_before.max(before));
            index.entries.append(&mut entries.entries);
            index.covered = end;
            index.greatest = before.max(greatest);
        }
        Ok(())
    }

    /// Whether a batch begins where an entry says.
    fn stands_at(&self, disk: &dyn Disk, entry: &IndexEntry) -> io::Result<bool> {
        let mut head = [0; HEADER_SIZE];
        let count = self.file(disk)?.read_at(&mut head, entry.position)?;
        Ok(Header::parse(&head[..count]).is_ok_and(|header| header.base_offset == entry.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::Sim;
    use crate::record::{BatchBuilder, Codec, NewRecord};

    #[test]
    fn who_reads_a_segment_a_second_time_is_told_apart_from_who_reads_on() {
        let (_disk, segment, _) = written();
        let piece = 100_000;
        assert!(segment.is_read_first(0, piece));
        // The next piece begins with the batch that did not wholly fit into the first.
        assert!(segment.is_read_first(95_000, piece) && segment.is_read_first(185_000, piece));
        assert!(!segment.is_read_first(0, piece) && !segment.is_read_first(95_000, piece));
        assert!(segment.is_read_first(280_000, piece));
    }

    /// A segment of 50 batches of 9,000 bytes, each a millisecond later, on a disk; and where each begins.
    fn written() -> (Sim, Segment, Vec<u64>) {
        let disk = Sim::new(1);
        disk.create_folder(Path::new("/log")).unwrap();
        let segment = Segment::new(Path::new("/log"), Offset(100), 0, 0, -1);
        let file = disk.create(&segment.path).unwrap();
        let mut places = Vec::new();
        for n in 0..50 {
            let mut builder = BatchBuilder::new();
            builder.push(NewRecord { timestamp: 1_000 + n, key: None, value: Some(&[7; 9000]), headers: &[] });
            let batch = builder.build(Codec::None).unwrap().stamped(Offset(100 + n), 0);
            file.write_at(batch.bytes(), segment.size()).unwrap();
            places.push(segment.size());
            segment.grow(batch.header(), segment.size(), 1);
        }
        (disk, segment, places)
    }

    fn assert_leads(disk: &Sim, segment: &Segment, places: &[u64]) {
        for (n, place) in places.iter().enumerate() {
            for target in [Target::Offset(Offset(100 + n as i64)), Target::Time(1_000 + n as i64)] {
                let (found, offset) = segment.seek(disk, target).unwrap();
                assert_eq!(places[(offset.0 - 100) as usize], found);
                assert!(found <= *place && place - found <= INDEX_STEP, "{target:?}: {found} for {place}");
            }
        }
    }

    /// The same files as another process finds them.
    fn reopened(segment: &Segment) -> Segment {
        let again = Segment::new(Path::new("/log"), segment.base, segment.size(), 1, segment.max_timestamp());
        again.seal();
        again
    }

    #[test]
    fn the_index_leads_to_or_before_every_batch_in_memory_in_its_file_and_made_again() {
        let (disk, segment, places) = written();
        assert_leads(&disk, &segment, &places);
        segment.seal();
        assert_leads(&disk, &segment, &places);
        let index = segment.path.with_extension("index");
        assert!(disk.exists(&index));
        assert_leads(&disk, &reopened(&segment), &places);
        disk.remove_file(&index).unwrap();
        let unsealed = Segment::new(Path::new("/log"), segment.base, segment.size(), 1, segment.max_timestamp());
        assert_leads(&disk, &unsealed, &places);
        assert!(!disk.exists(&index));
        assert_leads(&disk, &reopened(&segment), &places);
        assert!(disk.exists(&index));
    }

    #[test]
    fn many_who_look_for_a_place_at_once_make_one_index() {
        let (disk, segment, places) = written();
        let readers = 4;
        for _ in 0..50 {
            let again = reopened(&segment);
            let barrier = std::sync::Barrier::new(readers);
            std::thread::scope(|scope| {
                for _ in 0..readers {
                    scope.spawn(|| {
                        barrier.wait();
                        assert_leads(&disk, &again, &places);
                    });
                }
            });
            disk.remove_file(&segment.path.with_extension("index")).unwrap();
        }
    }

    #[test]
    fn without_room_for_an_index_file_who_looks_for_a_place_finds_it_all_the_same() {
        let (disk, segment, places) = written();
        disk.set_capacity(0);
        assert_leads(&disk, &reopened(&segment), &places);
        assert!(!disk.exists(&segment.path.with_extension("index")));
    }

    #[test]
    fn an_index_that_lies_is_noticed_and_made_again() {
        let (disk, segment, places) = written();
        let index = segment.path.with_extension("index");
        for bytes in [vec![7; 9_000], index::encode(&lying(&segment), &[lie(0, 0), lie(110, 5)]), Vec::new()] {
            disk.replace(&index, &bytes).unwrap();
            let again = reopened(&segment);
            assert!(again.seek(&disk, Target::Offset(Offset(149))).unwrap().0 <= places[49]);
            assert_leads(&disk, &again, &places);
        }
    }

    fn lie(offset: i64, position: u64) -> IndexEntry {
        IndexEntry { offset: Offset(offset), position, max_timestamp_before: -1 }
    }

    fn lying(segment: &Segment) -> Footer {
        Footer { base: segment.base, size: segment.size(), arrived_ms: 1, max_timestamp: 1, entries: 2 }
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
