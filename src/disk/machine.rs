//! The machine's own file system: folders and files by std and libc, and the `std` engine (pwrite + fdatasync).

use super::{
    ALIGNMENT, Allocate, Buffer, Disk, Engine, File, OpenFiles, ReadFrom, Space, Stretch, SyncAll, Write, uring, whole,
};
use bytes::Bytes;
use std::any::Any;
use std::ffi::CString;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Zeros are written in pieces of this size: the file's lock is free between two.
const ZEROS_SIZE: usize = 256 << 10;

/// The disk under a folder, with what was chosen for it.
pub(super) struct Machine {
    pub(super) is_uring: bool,
    pub(super) is_direct: bool,
    /// Why, for people.
    pub(super) reason: String,
    pub(super) syncs: Syncs,
    /// How space is reserved whatever is asked for: for who measures.
    pub(super) space: Option<Allocate>,
    pub(super) open_files: OpenFiles,
}

impl Machine {
    /// Every file synced by its own call.
    pub(super) fn new(is_uring: bool, is_direct: bool, reason: String) -> Machine {
        let syncs = Syncs { by_ring: false, whole: None };
        Machine { is_uring, is_direct, reason, syncs, space: None, open_files: OpenFiles::by_limit() }
    }
}

/// How a round is synced.
#[derive(Clone)]
pub(super) struct Syncs {
    pub(super) by_ring: bool,
    /// The file system as a whole, for rounds over more files than stand here. A descriptor of its own, opened at start: the kernel tells
    /// an error of `syncfs` once per open file description.
    pub(super) whole: Option<(Arc<fs::File>, usize)>,
}

/// Makes the file system of an open file durable.
fn sync_file_system(file: &fs::File) -> io::Result<()> {
    // SAFETY: a plain call on a descriptor that `file` keeps open.
    if unsafe { libc::syncfs(file.as_raw_fd()) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Syncs {
    /// Syncs the whole file system if these are many files; `None`: they are to be synced one by one.
    pub(super) fn all(&self, files: &[Arc<dyn File>]) -> Option<Vec<io::Result<()>>> {
        let (folder, singly_max) = self.whole.as_ref()?;
        if files.len() <= *singly_max {
            return None;
        }
        let error = sync_file_system(folder).err().map(|error| error.raw_os_error().unwrap_or(libc::EIO));
        Some(files.iter().map(|_| error.map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))).collect())
    }
}

/// The folder itself, if `syncfs` on its file system makes direct writes durable too: ext4 sends a flush even where no journal commit is
/// due. Of others that is not known, and a sync that is none loses what was answered.
pub(super) fn whole_file_system(folder: &Path) -> Option<fs::File> {
    const EXT4_MAGIC: i64 = 0xEF53;
    let file = fs::File::open(folder).ok()?;
    // SAFETY: statfs is plain data, for which zeros are a value.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and `found` is a statfs to be filled; both outlive the call.
    let is_known = unsafe { libc::fstatfs(file.as_raw_fd(), &mut found) } == 0;
    (is_known && found.f_type as i64 == EXT4_MAGIC).then_some(file)
}

/// Raises the process's limit of descriptors as far as it may be, and gives it. (The soft limit is often 1,024 for those who use `select`;
/// nothing here does.)
///
/// # Errors
/// The limit cannot be read.
pub(super) fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is an rlimit to be filled; it outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: `raised` is a whole rlimit; it outlives the call.
    let is_raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } == 0;
    Ok(if is_raised { raised.rlim_cur } else { limit.rlim_cur })
}

/// An open file: one description for writing, past the page cache if the folder takes it, and one for reading through it.
pub(super) struct MachineFile {
    writing: Arc<fs::File>,
    /// `None` if writing is not direct: then the same description serves both.
    reading: Option<Arc<fs::File>>,
    space: Option<Allocate>,
}

impl MachineFile {
    fn new(path: &Path, is_new: bool, machine: &Machine) -> io::Result<MachineFile> {
        let space = machine.space;
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create_new(is_new);
        if !machine.is_direct {
            return Ok(MachineFile { writing: Arc::new(options.open(path)?), reading: None, space });
        }
        let writing = options.custom_flags(libc::O_DIRECT).open(path)?;
        let reading = fs::OpenOptions::new().read(true).write(true).open(path)?;
        Ok(MachineFile { writing: Arc::new(writing), reading: Some(Arc::new(reading)), space })
    }

    fn reading(&self) -> &Arc<fs::File> {
        self.reading.as_ref().unwrap_or(&self.writing)
    }

    /// The description that rounds write to and sync.
    pub(super) fn writing(&self) -> &fs::File {
        &self.writing
    }

    fn fd(&self) -> RawFd {
        self.writing.as_raw_fd()
    }
}

/// The file as this disk made it.
///
/// # Panics
/// If it is another disk's: the store holds one disk, so that is a broken invariant.
pub(super) fn ours(file: &Arc<dyn File>) -> &MachineFile {
    let file: &dyn Any = file.as_ref();
    file.downcast_ref::<MachineFile>().expect("a round was given a file of another disk")
}

impl Disk for Machine {
    fn open_files(&self) -> &OpenFiles {
        &self.open_files
    }

    fn engine(&self) -> io::Result<Box<dyn Engine>> {
        let syncs = self.syncs.clone();
        if self.is_uring { Ok(Box::new(uring::Uring::new(syncs)?)) } else { Ok(Box::new(Std { syncs })) }
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(MachineFile::new(path, true, self)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(MachineFile::new(path, false, self)?))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        whole::create_folder(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            made => made,
        }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        whole::sync_folder(path)
    }

    fn sync_all(&self, count: usize) -> Option<SyncAll> {
        let (folder, singly_max) = self.syncs.whole.as_ref()?;
        // A description of its own, as old as the changes: the writers' would tell an error to whoever syncs first.
        let own = fs::File::open(format!("/proc/self/fd/{}", folder.as_raw_fd())).ok()?;
        (count > *singly_max).then(|| Box::new(move || sync_file_system(&own)) as SyncAll)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn read_whole(&self, path: &Path, size_max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(size_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > size_max {
            let message = format!("{} has more than {size_max} bytes", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(bytes)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        whole::replace(path, bytes)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: statvfs is plain data, for which zeros are a value.
        let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: `path` ends in a NUL and `found` is a statvfs to be filled; both outlive the call.
        if unsafe { libc::statvfs(path.as_ptr(), &mut found) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Space { free: found.f_bavail * found.f_frsize, total: found.f_blocks * found.f_frsize })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn describe(&self) -> String {
        self.reason.clone()
    }
}

impl File for MachineFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reading().read_at(&mut buffer[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn read(&self, position: u64, count: usize, from: ReadFrom) -> io::Result<Bytes> {
        // The description for writing is the direct one.
        let direct = Some(&self.writing).filter(|_| from == ReadFrom::Device && self.reading.is_some());
        let before = direct.map_or(0, |_| position as usize % ALIGNMENT);
        let wanted = before + count;
        // Blocks as a whole: what a round of the writer changes beside the piece is cut off again.
        let whole = direct.map_or(wanted, |_| wanted.next_multiple_of(ALIGNMENT));
        let (file, start) = (direct.unwrap_or(self.reading()), position - before as u64);
        let mut buffer = Buffer::with_capacity(whole);
        while buffer.len() < wanted {
            let so_far = buffer.len();
            match buffer.read_from(file, start + so_far as u64, whole - so_far) {
                Ok(0) => break,
                // Only its end cuts a block.
                Ok(read) if direct.is_some() && read % ALIGNMENT > 0 => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let there = buffer.len().min(wanted);
        Ok(Bytes::from_owner(buffer).slice(before.min(there)..there))
    }

    fn stretch(&self, position: u64, size: usize) -> io::Result<Option<Stretch>> {
        Stretch::new(self.reading().clone(), position, size).map(Some)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.writing.metadata()?.len())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.writing.set_len(size)
    }

    fn allocate(&self, position: u64, size: u64, how: Allocate) -> io::Result<()> {
        let how = self.space.unwrap_or(how);
        // SAFETY: a plain call on a descriptor that `self` keeps open.
        let failed = unsafe { libc::fallocate(self.fd(), 0, position as libc::off_t, size as libc::off_t) } != 0;
        if failed {
            let error = io::Error::last_os_error();
            // File systems without extents (or the flag) get zeros instead: the space is as reserved.
            if how == Allocate::Unwritten && error.raw_os_error() != Some(libc::EOPNOTSUPP) {
                return Err(error);
            }
        }
        if failed || how == Allocate::Zeroed {
            // Past the page cache where the file is: cached zeros would have to be dropped again by the writes that follow.
            let mut zeros = Buffer::with_capacity(ZEROS_SIZE.min(size as usize));
            zeros.fill_with_zeros();
            let mut at = position;
            while at < position + size {
                let count = zeros.len().min((position + size - at) as usize);
                self.writing.write_all_at(&zeros.as_slice()[..count], at)?;
                at += count as u64;
            }
            self.writing.sync_data()?;
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.reading().write_all_at(bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.writing.sync_data()
    }

    fn drop_cache(&self, from: u64) -> io::Result<()> {
        let page = from - from % super::ALIGNMENT as u64;
        // SAFETY: a plain call on a descriptor that `self` keeps open.
        match unsafe {
            libc::posix_fadvise(self.reading().as_raw_fd(), page as libc::off_t, 0, libc::POSIX_FADV_DONTNEED)
        } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// pwrite and fdatasync, one after the other.
struct Std {
    syncs: Syncs,
}

impl Engine for Std {
    fn write_round(&mut self, writes: Vec<Write>) -> Vec<(io::Result<()>, Buffer)> {
        let write = |write: Write| {
            (ours(&write.file).writing().write_all_at(write.bytes.as_slice(), write.position), write.bytes)
        };
        writes.into_iter().map(write).collect()
    }

    fn sync_round(&mut self, files: &[Arc<dyn File>]) -> Vec<io::Result<()>> {
        self.syncs.all(files).unwrap_or_else(|| files.iter().map(|file| file.sync()).collect())
    }
}
