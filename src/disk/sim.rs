//! A disk in memory whose faults are scripted or drawn from a seed. It keeps what is written apart from what is durable; a [`Sim::crash`]
//! loses, keeps or tears the difference by 512-byte sectors, as a power cut does.
//!
//! For tests of the rooms above and for the proof that they would notice a disk that lies (see [`Lie`]). Single writes are atomic
//! towards each other; nothing here is fast.

use super::sparse::Sparse;
use super::{Allocate, Buffer, Disk, Engine, File, OpenFiles, ReadFrom, Space, Stretch, SyncAll, Write};
use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// More changes than this are made durable by one call.
const SYNCED_SINGLY_MAX: usize = 2;
/// Files that handles keep open.
const OPEN_FILES_MAX: usize = 64;
/// What a device writes as a whole.
pub const SECTOR_SIZE: usize = 512;

/// A kind of call, for faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Write,
    Sync,
    Read,
    SyncFolder,
    Allocate,
}

/// The `nth` call of a kind from now on (1 = the next) fails.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub call: Call,
    pub nth: u64,
    /// As the operating system numbers it, e.g. `libc::EIO`.
    pub error: i32,
}

/// A disk that does not do what it says. Each stands for a mistake that a log could make; a test must notice each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// File syncs answer well and make nothing durable.
    Sync,
    /// A file's sync answers before it is done: what it was to make durable is durable only with the next one (an ack before the sync).
    SyncLate,
    /// Folder syncs answer well and make nothing durable.
    SyncFolder,
    /// Failed syncs answer well (the result is ignored).
    SyncResult,
    /// Bytes of a write change before they arrive (the buffer was used again too early).
    Buffer,
}

/// The disk. Clones share it.
#[derive(Clone)]
pub struct Sim {
    state: Arc<Mutex<State>>,
    open_files: Arc<OpenFiles>,
    /// Whose calls these are, see [`Sim::disk`].
    life: Option<u64>,
}

struct State {
    random: fastrand::Rng,
    /// File contents by inode; they outlive their names while a handle is open.
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, Entry>,
    durable_names: BTreeMap<PathBuf, Entry>,
    /// Changes of names that no folder sync has covered yet, in order.
    pending_names: Vec<Rename>,
    faults: Vec<Fault>,
    lies: Vec<Lie>,
    capacity: u64,
    /// Calls so far, and after how many of them the power goes.
    calls: u64,
    power_off_at: u64,
    /// Handles from before a crash are dead.
    life: u64,
    locks: HashSet<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Folder,
    File(usize),
}

#[derive(Clone)]
struct Rename {
    folder: PathBuf,
    /// What to set names to; `None` removes.
    changes: Vec<(PathBuf, Option<Entry>)>,
}

#[derive(Default)]
struct Inode {
    now: Sparse,
    durable: Sparse,
    pending: Vec<Change>,
    /// Of these, what a late sync is to make durable.
    late: usize,
}

enum Change {
    Write { position: usize, bytes: Vec<u8> },
    Size(usize),
}

impl Sim {
    /// An empty disk of 1 TiB.
    pub fn new(seed: u64) -> Sim {
        Sim::with_open_files(seed, OPEN_FILES_MAX)
    }

    /// As [`Sim::new`], where handles keep at most so many files open.
    pub fn with_open_files(seed: u64, max: usize) -> Sim {
        let state = State {
            random: fastrand::Rng::with_seed(seed),
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            faults: Vec::new(),
            lies: Vec::new(),
            capacity: 1 << 40,
            calls: 0,
            power_off_at: u64::MAX,
            life: 0,
            locks: HashSet::new(),
        };
        Sim { state: Arc::new(Mutex::new(state)), open_files: Arc::new(OpenFiles::new(max)), life: None }
    }

    /// The same disk behind the trait, for a process of now: after a [`Sim::crash`] or [`Sim::kill`] every call of it fails.
    pub fn disk(&self) -> Arc<dyn Disk> {
        let life = self.state().life;
        Arc::new(self.of_life(life))
    }

    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Faults that have not come yet.
    pub fn faults_due(&self) -> usize {
        self.state().faults.len()
    }

    pub fn lie(&self, lie: Lie) {
        self.state().lies.push(lie);
    }

    /// The `nth` call from now on (1 = the next), of whatever kind, and all that follow fail without effect, until [`Sim::crash`] or
    /// [`Sim::kill`] turns the machine on again.
    pub fn power_off_at(&self, nth: u64) {
        let mut state = self.state();
        state.power_off_at = state.calls + nth;
    }

    /// How many calls there were so far.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Whoever calls the disk hangs until what this returns is dropped.
    pub fn hold(&self) -> impl Sized + '_ {
        self.state()
    }

    /// Sets the disk's size; what is stored beyond it stays, new bytes find no room.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Power cut: every handle dies, every lock falls; of what was not synced, the seed keeps, drops or tears each sector, and of the
    /// names that no folder sync covered it keeps the first few of each folder.
    pub fn crash(&self) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.life += 1;
        state.locks.clear();
        state.faults.clear();
        state.power_off_at = u64::MAX;
        for inode in &mut state.inodes {
            inode.crash(&mut state.random);
        }
        let mut cut_folders = HashSet::new();
        for rename in std::mem::take(&mut state.pending_names) {
            // The journal of a file system keeps the order within a folder: after the first lost change all later ones are lost.
            if cut_folders.contains(&rename.folder) || state.random.bool() {
                cut_folders.insert(rename.folder);
                continue;
            }
            apply(&mut state.durable_names, &rename.changes);
        }
        state.names = state.durable_names.clone();
    }

    /// kill -9: every handle dies and every lock falls, the page cache stays.
    pub fn kill(&self) {
        let mut state = self.state();
        state.life += 1;
        state.locks.clear();
        state.faults.clear();
        state.power_off_at = u64::MAX;
    }

    /// Flips one bit of a file, durably: bit rot.
    ///
    /// # Panics
    /// If there is no such file or no such bit.
    pub fn flip(&self, path: &Path, bit: u64) {
        let mut state = self.state();
        let inode = state.inode(path).expect("flip names a file that exists");
        let (at, mask) = ((bit / 8) as usize, 1 << (bit % 8));
        let Inode { now, durable, .. } = &mut state.inodes[inode];
        assert!(at < now.size(), "flip names a bit that exists");
        for content in [now, durable] {
            let mut byte = [0];
            if content.read(at, &mut byte) == 1 {
                content.write(at, &[byte[0] ^ mask]);
            }
        }
    }

    /// Cuts a file durably, as damage would.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn cut(&self, path: &Path, size: usize) {
        let mut state = self.state();
        let inode = state.inode(path).expect("cut names a file that exists");
        let file = &mut state.inodes[inode];
        for content in [&mut file.now, &mut file.durable] {
            content.resize(size.min(content.size()));
        }
        file.pending.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The state for one call of the disk's user.
    fn call(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.calls += 1;
        if self.is_gone(&state) || state.calls >= state.power_off_at {
            Err(io::Error::from_raw_os_error(libc::EIO))
        } else {
            Ok(state)
        }
    }

    fn is_gone(&self, state: &State) -> bool {
        self.life.is_some_and(|life| life != state.life)
    }

    /// The same disk, for what does not outlive `life`.
    fn of_life(&self, life: u64) -> Sim {
        Sim { life: Some(life), ..self.clone() }
    }

    fn handle(&self, inode: usize, life: u64) -> Arc<dyn File> {
        Arc::new(SimFile { sim: self.of_life(life), inode })
    }
}

impl State {
    fn inode(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Entry::File(inode)) => Ok(*inode),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Counts a call and fails it if a fault is due.
    fn call(&mut self, call: Call) -> io::Result<()> {
        let mut due = None;
        self.faults.retain_mut(|fault| {
            if fault.call != call {
                return true;
            }
            fault.nth = fault.nth.saturating_sub(1);
            if fault.nth == 0 {
                due = Some(fault.error);
            }
            fault.nth > 0
        });
        due.map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
    }

    fn tells(&self, lie: Lie) -> bool {
        self.lies.contains(&lie)
    }

    fn used(&self) -> u64 {
        let files = self.names.values().filter_map(|entry| match entry {
            Entry::File(inode) => Some(self.inodes[*inode].now.size() as u64),
            Entry::Folder => None,
        });
        files.sum()
    }

    fn rename(&mut self, folder: &Path, changes: Vec<(PathBuf, Option<Entry>)>) {
        apply(&mut self.names, &changes);
        self.pending_names.push(Rename { folder: folder.to_owned(), changes });
    }

    fn grow(&mut self, inode: usize, size: usize) -> io::Result<()> {
        let more = size.saturating_sub(self.inodes[inode].now.size()) as u64;
        if more > 0 && self.used() + more > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn write(&mut self, inode: usize, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.call(Call::Write)?;
        let position = position as usize;
        self.grow(inode, position + bytes.len())?;
        let mut bytes = bytes.to_vec();
        if self.tells(Lie::Buffer) && self.random.u8(..4) == 0 {
            let half = bytes.len() / 2;
            bytes[half..].fill(0xAA);
        }
        let file = &mut self.inodes[inode];
        file.now.write(position, &bytes);
        file.pending.push(Change::Write { position, bytes });
        Ok(())
    }

    fn sync(&mut self, inode: usize) -> io::Result<()> {
        if let Err(error) = self.call(Call::Sync) {
            // As ext4 does: what was dirty is dropped from the durable future, and the cache goes on showing it.
            self.inodes[inode].pending.clear();
            return if self.tells(Lie::SyncResult) { Ok(()) } else { Err(error) };
        }
        self.settle(inode);
        Ok(())
    }

    /// All files and names.
    fn sync_all(&mut self) -> io::Result<()> {
        if let Err(error) = self.call(Call::Sync) {
            self.inodes.iter_mut().for_each(|inode| inode.pending.clear());
            return if self.tells(Lie::SyncResult) { Ok(()) } else { Err(error) };
        }
        (0..self.inodes.len()).for_each(|inode| self.settle(inode));
        if !self.tells(Lie::SyncFolder) {
            for rename in std::mem::take(&mut self.pending_names) {
                apply(&mut self.durable_names, &rename.changes);
            }
        }
        Ok(())
    }

    fn settle(&mut self, inode: usize) {
        if self.tells(Lie::SyncLate) {
            let file = &mut self.inodes[inode];
            let due = file.pending.len();
            file.settle(file.late.min(due));
            file.late = file.pending.len();
        } else if !self.tells(Lie::Sync) {
            let all = self.inodes[inode].pending.len();
            self.inodes[inode].settle(all);
        }
    }
}

impl Inode {
    /// Makes the oldest `count` changes durable.
    fn settle(&mut self, count: usize) {
        for change in self.pending.drain(..count) {
            match change {
                Change::Write { position, bytes } => self.durable.write(position, &bytes),
                Change::Size(size) => self.durable.resize(size),
            }
        }
    }

    fn crash(&mut self, random: &mut fastrand::Rng) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Size(size) => {
                    if random.bool() {
                        self.durable.resize(size);
                    }
                }
                Change::Write { position, bytes } => {
                    let fate = random.u8(..3);
                    for (index, sector) in bytes.chunks(SECTOR_SIZE).enumerate() {
                        let is_kept = match fate {
                            0 => false,
                            1 => true,
                            _ => random.bool(),
                        };
                        if is_kept {
                            self.durable.write(position + index * SECTOR_SIZE, sector);
                        }
                    }
                }
            }
        }
        self.now = self.durable.clone();
    }
}

fn apply(names: &mut BTreeMap<PathBuf, Entry>, changes: &[(PathBuf, Option<Entry>)]) {
    for (path, entry) in changes {
        match entry {
            Some(entry) => names.insert(path.clone(), *entry),
            None => names.remove(path),
        };
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

impl Disk for Sim {
    fn open_files(&self) -> &OpenFiles {
        &self.open_files
    }

    fn engine(&self) -> io::Result<Box<dyn Engine>> {
        Ok(Box::new(SimEngine))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.call()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let folder = parent(path);
        if state.names.get(&folder) != Some(&Entry::Folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.inodes.push(Inode::default());
        let inode = state.inodes.len() - 1;
        state.rename(&folder, vec![(path.to_owned(), Some(Entry::File(inode)))]);
        Ok(self.handle(inode, state.life))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let state = self.call()?;
        Ok(self.handle(state.inode(path)?, state.life))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        let mut missing: Vec<&Path> = path.ancestors().take_while(|path| !state.names.contains_key(*path)).collect();
        missing.reverse();
        for folder in missing {
            // Made durable at once, as the contract says.
            state.names.insert(folder.to_owned(), Entry::Folder);
            state.durable_names.insert(folder.to_owned(), Entry::Folder);
        }
        Ok(())
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        let folder = parent(path);
        match (state.names.get(path), state.names.get(&folder)) {
            (Some(Entry::Folder), _) => Ok(()),
            (Some(Entry::File(_)), _) => Err(io::ErrorKind::AlreadyExists.into()),
            (None, Some(Entry::Folder)) => {
                state.rename(&folder, vec![(path.to_owned(), Some(Entry::Folder))]);
                Ok(())
            }
            (None, _) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn sync_all(&self, count: usize) -> Option<SyncAll> {
        let sim = self.clone();
        (count > SYNCED_SINGLY_MAX).then(|| Box::new(move || sim.call()?.sync_all()) as SyncAll)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        state.call(Call::SyncFolder)?;
        if state.tells(Lie::SyncFolder) {
            return Ok(());
        }
        let (covered, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.pending_names).into_iter().partition(|p| p.folder == path);
        state.pending_names = rest;
        for rename in covered {
            apply(&mut state.durable_names, &rename.changes);
        }
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.call()?;
        if state.names.get(folder) != Some(&Entry::Folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(state.names.keys().filter(|path| path.parent() == Some(folder)).cloned().collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.state().names.contains_key(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let moved: Vec<_> =
            state.names.iter().filter(|(path, _)| path.starts_with(from)).map(|(p, e)| (p.clone(), *e)).collect();
        let mut changes = Vec::with_capacity(moved.len() * 2);
        for (path, entry) in moved {
            let rest = path.strip_prefix(from).map(Path::to_owned).unwrap_or_default();
            let target = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            changes.push((path, None));
            changes.push((target, Some(entry)));
        }
        state.rename(&parent(to), changes);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        state.inode(path)?;
        state.rename(&parent(path), vec![(path.to_owned(), None)]);
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        let gone: Vec<_> =
            state.names.keys().filter(|name| name.starts_with(path)).map(|name| (name.clone(), None)).collect();
        if gone.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.rename(&parent(path), gone);
        Ok(())
    }

    fn read_whole(&self, path: &Path, size_max: u64) -> io::Result<Vec<u8>> {
        let mut state = self.call()?;
        state.call(Call::Read)?;
        let inode = state.inode(path)?;
        let content = &state.inodes[inode].now;
        if content.size() as u64 > size_max {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(content.to_vec())
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let temporary = path.with_file_name(name);
        if self.exists(&temporary) {
            self.remove_file(&temporary)?;
        }
        let file = self.create(&temporary)?;
        let SimFile { inode, .. } = *ours(&file);
        self.call()?.write(inode, 0, bytes)?;
        self.call()?.sync(inode)?;
        self.rename(&temporary, path)?;
        self.sync_folder(&parent(path))
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let state = self.call()?;
        Ok(Space { free: state.capacity.saturating_sub(state.used()), total: state.capacity })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut state = self.call()?;
        if !state.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { sim: self.of_life(state.life), path: path.to_owned() }))
    }

    fn describe(&self) -> String {
        "simulated disk".to_owned()
    }
}

struct SimLock {
    sim: Sim,
    path: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.sim.state();
        if !self.sim.is_gone(&state) {
            state.locks.remove(&self.path);
        }
    }
}

struct SimFile {
    sim: Sim,
    inode: usize,
}

fn ours(file: &Arc<dyn File>) -> &SimFile {
    let file: &dyn Any = file.as_ref();
    file.downcast_ref::<SimFile>().expect("a round was given a file of another disk")
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = self.sim.call()?;
        state.call(Call::Read)?;
        Ok(state.inodes[self.inode].now.read(position as usize, buffer))
    }

    fn stretch(&self, position: u64, size: usize) -> io::Result<Option<Stretch>> {
        let bytes = self.read(position, size, ReadFrom::Cache)?;
        if bytes.len() < size { Err(io::ErrorKind::UnexpectedEof.into()) } else { Stretch::of(&bytes).map(Some) }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.sim.call()?.inodes[self.inode].now.size() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut state = self.sim.call()?;
        state.grow(self.inode, size as usize)?;
        let file = &mut state.inodes[self.inode];
        file.now.resize(size as usize);
        file.pending.push(Change::Size(size as usize));
        Ok(())
    }

    fn allocate(&self, position: u64, size: u64, how: Allocate) -> io::Result<()> {
        let mut state = self.sim.call()?;
        state.call(Call::Allocate)?;
        let end = (position + size) as usize;
        state.grow(self.inode, end)?;
        let file = &mut state.inodes[self.inode];
        if file.now.size() < end {
            file.now.resize(end);
            file.pending.push(Change::Size(end));
        }
        if how == Allocate::Zeroed { state.sync(self.inode) } else { Ok(()) }
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.sim.call()?.write(self.inode, position, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sim.call()?.sync(self.inode)
    }

    fn drop_cache(&self, _from: u64) -> io::Result<()> {
        // What a failed sync left in the cache alone is gone with it.
        let mut state = self.sim.call()?;
        let file = &mut state.inodes[self.inode];
        if file.pending.is_empty() {
            file.now = file.durable.clone();
        }
        Ok(())
    }
}

struct SimEngine;

impl Engine for SimEngine {
    fn write_round(&mut self, writes: Vec<Write>) -> Vec<(io::Result<()>, Buffer)> {
        let write = |write: Write| {
            let file = ours(&write.file);
            (
                file.sim.call().and_then(|mut state| state.write(file.inode, write.position, write.bytes.as_slice())),
                write.bytes,
            )
        };
        writes.into_iter().map(write).collect()
    }

    fn sync_round(&mut self, files: &[Arc<dyn File>]) -> Vec<io::Result<()>> {
        files.iter().map(|file| file.sync()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sim_with_file(seed: u64) -> (Sim, Arc<dyn File>) {
        let sim = Sim::new(seed);
        sim.create_folder(Path::new("/d")).unwrap();
        let file = sim.create(Path::new("/d/f")).unwrap();
        sim.sync_folder(Path::new("/d")).unwrap();
        (sim, file)
    }

    fn write(sim: &Sim, file: &Arc<dyn File>, position: u64, byte: u8, size: usize) -> io::Result<()> {
        let mut bytes = Buffer::with_capacity(size);
        bytes.extend(&vec![byte; size]);
        let mut engine = sim.engine().unwrap();
        engine.write_round(vec![Write { file: file.clone(), position, bytes }]).remove(0).0
    }

    #[test]
    fn all_that_was_changed_before_a_sync_of_all_survives_every_crash() {
        for seed in 0..50 {
            let (sim, file) = sim_with_file(seed);
            let sync_all = sim.sync_all(9).unwrap();
            write(&sim, &file, 0, 1, 4096).unwrap();
            sim.make_folder(Path::new("/d/new")).unwrap();
            sim.create(Path::new("/d/new/f")).unwrap().write_at(b"x", 0).unwrap();
            sync_all().unwrap();
            sim.crash();
            assert_eq!(sim.read_whole(Path::new("/d/f"), 1 << 20).unwrap(), vec![1; 4096]);
            assert_eq!(sim.read_whole(Path::new("/d/new/f"), 9).unwrap(), b"x");
        }
    }

    #[test]
    fn synced_bytes_survive_every_crash_and_others_tear_by_sector() {
        let mut torn = 0;
        for seed in 0..50 {
            let (sim, file) = sim_with_file(seed);
            write(&sim, &file, 0, 1, 4096).unwrap();
            file.sync().unwrap();
            write(&sim, &file, 4096, 2, 4096).unwrap();
            sim.crash();
            assert!(file.size().is_err(), "a handle outlived the crash");
            let content = sim.read_whole(Path::new("/d/f"), 1 << 20).unwrap();
            assert!(content[..4096].iter().all(|byte| *byte == 1));
            let sectors: Vec<bool> = content[4096..].chunks(SECTOR_SIZE).map(|sector| sector[0] == 2).collect();
            torn += usize::from(sectors.contains(&true) && sectors.contains(&false));
        }
        assert!(torn > 3, "no crash tore a write");
    }

    #[test]
    fn an_unsynced_name_may_vanish() {
        let mut lost = 0;
        for seed in 0..20 {
            let (sim, _) = sim_with_file(seed);
            sim.create(Path::new("/d/g")).unwrap();
            sim.crash();
            lost += usize::from(!sim.exists(Path::new("/d/g")));
            assert!(sim.exists(Path::new("/d/f")));
        }
        assert!((1..20).contains(&lost));
    }

    #[test]
    fn a_failed_sync_drops_the_pages_and_the_next_one_says_clean() {
        let (sim, file) = sim_with_file(1);
        write(&sim, &file, 0, 9, 512).unwrap();
        sim.fail(Fault { call: Call::Sync, nth: 1, error: libc::EIO });
        assert!(file.sync().is_err());
        file.sync().unwrap();
        let mut seen = [0; 512];
        file.read_at(&mut seen, 0).unwrap();
        assert_eq!(seen[0], 9, "the cache still shows it");
        sim.crash();
        assert_eq!(sim.read_whole(Path::new("/d/f"), 4096).unwrap(), b"");
    }

    #[test]
    fn a_full_disk_refuses_bytes_and_keeps_the_old() {
        let (sim, file) = sim_with_file(1);
        sim.set_capacity(4096);
        write(&sim, &file, 0, 1, 4096).unwrap();
        assert_eq!(write(&sim, &file, 4096, 1, 1).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.size().unwrap(), 4096);
    }
}
