//! The one seam to files: `uring` (tokio-uring), `std` (pwrite + fdatasync), `sim` (seeded faults); one suite runs on all three.
//!
//! Knows paths, bytes and errors; knows no record. Used by `store/`, and by pipelines for their checkpoints.

mod buffer;
mod machine;
mod open_files;
mod probe;
pub mod sim;
mod sparse;
mod stretch;
#[cfg(test)]
mod suite;
mod uring;
mod whole;

pub use buffer::{ALIGNMENT, Buffer};
pub use open_files::{Handle, OpenFiles, connections_max};
pub use probe::{Probe, open, open_tuned, plain, probe};
pub use stretch::Stretch;
pub use whole::{checked, create_folder, create_within, replace, sync_folder, with_checksum};

use bytes::{Bytes, BytesMut};
use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file system as the log needs it.
///
/// All calls but those of [`Engine`] are for start, roll, retention, checkpoints and reads: they block, and never run in a writer's round.
pub trait Disk: Send + Sync + 'static {
    /// An engine for one writer thread; made on the thread that will use it.
    ///
    /// # Errors
    /// What the system says when it has no ring to give.
    fn engine(&self) -> io::Result<Box<dyn Engine>>;

    /// Creates a file that must not exist. It is durable in its folder only after [`Disk::sync_folder`].
    ///
    /// # Errors
    /// `AlreadyExists`, or the system's.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens a file that exists, for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, or the system's.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Makes a folder and its missing parents, and syncs the parent of each one made.
    ///
    /// # Errors
    /// The system's.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes a folder in one that exists, durable only after [`Disk::sync_folder`]; one that is there already stays.
    ///
    /// # Errors
    /// The system's.
    fn make_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes creations, renames and removals in this folder durable.
    ///
    /// # Errors
    /// The system's.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Full paths of what is in a folder, sorted.
    ///
    /// # Errors
    /// `NotFound`, or the system's.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    fn exists(&self, path: &Path) -> bool;

    /// Renames a file or folder, replacing a file of that name. Durable only after the folders are synced.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// # Errors
    /// `NotFound`, or the system's.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder with all that is in it.
    ///
    /// # Errors
    /// `NotFound`, or the system's.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;

    /// A whole small file.
    ///
    /// # Errors
    /// `InvalidData` if it has more than `size_max` bytes; `NotFound`; the system's.
    fn read_whole(&self, path: &Path, size_max: u64) -> io::Result<Vec<u8>>;

    /// Replaces a small file as a whole: temporary file, sync, rename, sync of the folder. Durable when it returns; after a crash the
    /// file is the old or the new one.
    ///
    /// # Errors
    /// The system's; the old file then stands.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Room on the file system of `path`.
    ///
    /// # Errors
    /// The system's.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// One call that makes durable what was changed on the file system between this and it: for who changes `count` files or folders at
    /// once. `None` where there is none that is known to, or where each by itself is as well.
    fn sync_all(&self, count: usize) -> Option<SyncAll>;

    /// What bounds the files that handles keep open.
    fn open_files(&self) -> &OpenFiles;

    /// Takes the exclusive lock that the file at `path` stands for; held until the value is dropped.
    ///
    /// # Errors
    /// `WouldBlock` if another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>>;

    /// What was chosen and why, for the log line at start and for `doctor`.
    fn describe(&self) -> String;
}

/// See [`Disk::sync_all`]. Fails as a sync does.
pub type SyncAll = Box<dyn Fn() -> io::Result<()> + Send + Sync>;

/// Whether an error says that there is no room.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether an error says that there is no room, or no descriptor to open a file with: that passes, unlike a disk that fails.
pub fn passes(error: &io::Error) -> bool {
    is_full(error) || lacks_descriptor(error)
}

/// Whether an error says that a file cannot be opened, since too many are.
pub fn lacks_descriptor(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What may still be written.
    pub free: u64,
    pub total: u64,
}

/// An open file. Reads may run beside a round; the log never reads what a running round writes.
pub trait File: Send + Sync + Any {
    /// Fills `buffer` from `position` as far as the file reaches; the count is short only at its end.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// As [`File::read_at`], into memory of its own; `count` bytes, or as many as the file has from there.
    ///
    /// # Errors
    /// The system's.
    fn read(&self, position: u64, count: usize, _from: ReadFrom) -> io::Result<Bytes> {
        let mut bytes = BytesMut::zeroed(count);
        let read = self.read_at(&mut bytes, position)?;
        bytes.truncate(read);
        Ok(bytes.freeze())
    }

    /// `size` bytes from `position` on for a socket, read into the page cache when this returns; `None` where the disk has no such thing.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file is shorter; the system's.
    fn stretch(&self, _position: u64, _size: usize) -> io::Result<Option<Stretch>> {
        Ok(None)
    }

    /// # Errors
    /// The system's.
    fn size(&self) -> io::Result<u64>;

    /// Cuts or grows the file. Not durable before a sync.
    ///
    /// # Errors
    /// The system's.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Reserves `size` bytes from `position` on (multiples of [`ALIGNMENT`]) and grows the file to their end. `Zeroed` writes and syncs zeros, so that small commits
    /// later change no metadata; `Unwritten` is quick to make and dearer to write.
    ///
    /// # Errors
    /// `StorageFull`; the system's.
    fn allocate(&self, position: u64, size: u64, how: Allocate) -> io::Result<()>;

    /// Writes through the page cache, wherever and however much: for journals and copies, never for a segment that a writer has open.
    /// Not durable before a sync.
    ///
    /// # Errors
    /// `StorageFull`; the system's. The file may hold a part then.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;

    /// fdatasync. An error is reported once per open file description, so who syncs a file besides its writer opens it anew.
    ///
    /// # Errors
    /// The system's: what was written since the last sync is in doubt, and the page cache may lie about it.
    fn sync(&self) -> io::Result<()>;

    /// Drops the cached pages from position `from` on, so that the next read comes from the device. Sync first: dirty pages stay.
    ///
    /// # Errors
    /// The system's.
    fn drop_cache(&self, from: u64) -> io::Result<()>;
}

/// Where a large piece is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The page cache, which then keeps it for whoever comes next.
    Cache,
    /// The device, where the file can be read past the page cache: half of the CPU time (decision 0009), and nothing else is driven out
    /// of memory.
    Device,
}

/// How space is reserved ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    Unwritten,
    Zeroed,
}

/// One write of a round. The buffer is the engine's until the round hands it back.
pub struct Write {
    pub file: Arc<dyn File>,
    /// A multiple of [`ALIGNMENT`], as is the buffer's size.
    pub position: u64,
    pub bytes: Buffer,
}

/// What a writer thread writes and syncs with. Both calls block until every operation is done; no operation outlives its call.
pub trait Engine {
    /// Writes all. One result a write, in order, with its buffer; a short write is finished or an error.
    fn write_round(&mut self, writes: Vec<Write>) -> Vec<(io::Result<()>, Buffer)>;

    /// Makes all that was written to these files durable; one result a file, in order.
    fn sync_round(&mut self, files: &[Arc<dyn File>]) -> Vec<io::Result<()>>;
}

/// Which engine a folder gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EngineChoice {
    /// io_uring where the kernel allows it, else `std`.
    #[default]
    Auto,
    Uring,
    Std,
}

/// How a round is synced and space reserved; `docs/decisions/0003` has the figures behind the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Syncs through the ring, all at once, instead of one system call after the other. Only for the `uring` engine.
    pub syncs_by_ring: bool,
    /// A round over more files is made durable by one `syncfs`, where that is known to hold for direct writes too (ext4). Zero: never.
    pub files_synced_singly_max: usize,
    /// All space in this one way; `None`: as the log asks for it.
    pub space: Option<Allocate>,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning { syncs_by_ring: false, files_synced_singly_max: 8, space: None }
    }
}

/// Whether writes go past the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DirectIo {
    /// Where the folder's file system takes it.
    #[default]
    Auto,
    On,
    Off,
}
