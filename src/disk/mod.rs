//! The one seam to files: `uring` (tokio-uring), `std` (pwrite + fdatasync), `sim` (seeded faults); one suite runs on all three.
//!
//! Knows paths, bytes and errors; knows no record. CONTRACT STUB: the traits stand, their engines are the owner's of `disk/`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder of files on one file system. All paths are absolute or relative to the working folder, never escaped here.
///
/// Metadata calls block; they are for start, roll, retention and checkpoints, not for the round of a writer.
pub trait Disk: Send + Sync + 'static {
    /// An engine for one writer thread; made on the thread that will use it.
    fn engine(&self) -> io::Result<Box<dyn Engine>>;
    /// Creates a file that must not exist; it is durable in its folder only after [`Disk::sync_folder`].
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file that exists, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Makes a folder and its parents; syncs each new one's parent.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder, sorted.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
    fn exists(&self, path: &Path) -> bool;
    /// Renames; durable only after the folders are synced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with all that is in it.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Whole file, at most `size_max` bytes (a larger one is `InvalidData`).
    fn read_whole(&self, path: &Path, size_max: u64) -> io::Result<Vec<u8>>;
    /// Replaces a small file as a whole: temp file, sync, rename, sync of the folder. Durable when it returns.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Bytes an ordinary user may still write on this file system, and its size.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// Takes the exclusive lock of a data folder; held until the value is dropped.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
    /// What was chosen and why, for the log line at start and for `doctor`.
    fn describe(&self) -> String;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub free: u64,
    pub total: u64,
}

/// An open file. Reads never touch bytes that a running round writes (the log's affair).
pub trait File: Send + Sync {
    /// Fills `buffer` from `position` as far as the file reaches; returns the count read (short only at the file's end).
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    fn size(&self) -> io::Result<u64>;
    /// Cuts or grows the file; not durable before a sync.
    fn set_size(&self, size: u64) -> io::Result<()>;
    /// Reserves space from `position` on and grows the file to the end of it. `zeroed` writes zeros and syncs them (cheap small commits later); else unwritten extents.
    fn allocate(&self, position: u64, size: u64, zeroed: bool) -> io::Result<()>;
    /// fdatasync on this open file description.
    fn sync(&self) -> io::Result<()>;
    /// Drops cached pages, so that the next read comes from the device. Sync first.
    fn drop_cache(&self) -> io::Result<()>;
    /// For engines: the number they know this file by.
    fn id(&self) -> u64;
    fn as_any(&self) -> &dyn std::any::Any;
}

/// One write of a round. The buffer is the engine's until the round returns it.
pub struct Write {
    pub file: Arc<dyn File>,
    pub position: u64,
    pub bytes: Buffer,
}

/// What a writer thread writes and syncs with. Both calls block until every operation of the round is done; no operation outlives its call.
pub trait Engine {
    /// Writes all; one result a write in order, with its buffer back. A short write is finished by the engine or an error.
    fn write_round(&mut self, writes: Vec<Write>) -> Vec<(io::Result<()>, Buffer)>;
    /// fdatasync of each file (or one `syncfs` for many); one result a file in order.
    fn sync_round(&mut self, files: &[Arc<dyn File>]) -> Vec<io::Result<()>>;
}

/// Memory for writes: 4 KiB-aligned start and capacity, so that O_DIRECT takes it. Grows by doubling; length need not be aligned (the caller pads).
pub struct Buffer {
    bytes: Vec<u8>,
}

/// Start, capacity and (with O_DIRECT) position and size of writes are multiples of this.
pub const ALIGNMENT: usize = 4096;

impl Buffer {
    pub fn with_capacity(capacity: usize) -> Buffer {
        Buffer { bytes: Vec::with_capacity(capacity) }
    }
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
    pub fn clear(&mut self) {
        self.bytes.clear()
    }
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes)
    }
    /// Appends zeros up to the next multiple of [`ALIGNMENT`].
    pub fn pad(&mut self) {
        let size = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(size, 0)
    }
}

/// Which engine a folder gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EngineChoice {
    #[default]
    Auto,
    Uring,
    Std,
}

/// Whether writes go past the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DirectIo {
    #[default]
    Auto,
    On,
    Off,
}

/// The machine's disk under `folder`: probes ring and O_DIRECT there, each on its own, and logs what it chose and why.
///
/// # Errors
/// With `Uring` or `On`, that the folder cannot have it.
pub fn open(folder: &Path, engine: EngineChoice, direct: DirectIo) -> io::Result<Arc<dyn Disk>> {
    let _ = (folder, engine, direct);
    unimplemented!()
}
