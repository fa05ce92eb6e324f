//! Files that are open while they are used: a log has far more of them than the system gives descriptors.
//!
//! [`Handle`] opens its file when it is asked for it; [`OpenFiles`] closes the ones that nobody asked for lately, by a clock's hand over all
//! of a disk. Who has a file in hand keeps it open: closing only lets go of the handle's share, so a round syncs what it wrote by the
//! description it wrote with.

use super::{Disk, File};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Handles keep no more files open than this, however many descriptors there are: opening one again costs microseconds.
const FILES_MAX: usize = 4_096;
const FILES_MIN: usize = 32;
/// A file has two descriptors, and sockets need the other half.
const DESCRIPTORS_A_FILE: u64 = 4;
/// For what is neither: rings, timers, temporary files, the admin door.
const DESCRIPTORS_KEPT: u64 = 64;
const CONNECTIONS_MIN: usize = 16;

/// So many connections a door may take that files, and who asks how it goes, keep some of the process's descriptors.
pub fn connections_max(wanted: usize) -> usize {
    let descriptors = super::machine::raise_descriptor_limit().unwrap_or(1_024);
    let half = usize::try_from(descriptors.saturating_sub(DESCRIPTORS_KEPT) / 2).unwrap_or(wanted);
    wanted.min(half).max(CONNECTIONS_MIN)
}

/// The handles of one disk whose files are open.
pub struct OpenFiles {
    max: usize,
    /// Whose turn it is to be looked at, in the order of their last look. Changed before a slot, never after.
    turn: Mutex<VecDeque<Weak<Slot>>>,
}

/// One file of many, at a path that the owner knows.
#[derive(Default)]
pub struct Handle {
    slot: Arc<Slot>,
}

#[derive(Default)]
struct Slot {
    kept: Mutex<Kept>,
    /// Somebody found the file open since the last look. Relaxed: a wrong guess costs one open.
    is_used: AtomicBool,
}

#[derive(Default)]
struct Kept {
    file: Option<Arc<dyn File>>,
    /// Another file has the path: this one stays open as long as its handle lives.
    is_held: bool,
}

impl Slot {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False if it is held.
    fn close(&self) -> bool {
        let mut kept = self.kept();
        if !kept.is_held {
            kept.file = None;
        }
        !kept.is_held
    }
}

impl Handle {
    /// The open file; opens it if it is not.
    ///
    /// # Errors
    /// As [`Disk::open`].
    pub fn get(&self, disk: &dyn Disk, path: &Path) -> io::Result<Arc<dyn File>> {
        let opened = {
            let mut kept = self.slot.kept();
            if let Some(file) = &kept.file {
                self.slot.is_used.store(true, Ordering::Relaxed);
                return Ok(file.clone());
            }
            let opened = disk.open(path)?;
            kept.file = Some(opened.clone());
            opened
        };
        disk.open_files().admit(&self.slot);
        Ok(opened)
    }

    /// Takes the file that was just created at its path.
    pub fn set(&self, disk: &dyn Disk, file: Arc<dyn File>) {
        self.slot.kept().file = Some(file);
        disk.open_files().admit(&self.slot);
    }

    /// Opens the file and keeps it open: its path is about to be another's.
    ///
    /// # Errors
    /// As [`Disk::open`].
    pub fn hold(&self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        let mut kept = self.slot.kept();
        if kept.file.is_none() {
            kept.file = Some(disk.open(path)?);
        }
        kept.is_held = true;
        Ok(())
    }
}

impl OpenFiles {
    pub fn new(max: usize) -> OpenFiles {
        OpenFiles { max: max.max(1), turn: Mutex::default() }
    }

    /// As many as the process's limit of descriptors allows, after the limit was raised as far as it may be.
    pub fn by_limit() -> OpenFiles {
        let descriptors = super::machine::raise_descriptor_limit().unwrap_or(1_024);
        OpenFiles::new(
            usize::try_from(descriptors / DESCRIPTORS_A_FILE).unwrap_or(FILES_MAX).clamp(FILES_MIN, FILES_MAX),
        )
    }

    /// So many files handles keep open at most, but for those that are held. Who works on many at once takes no more than these.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Closes the files that nobody has asked for, but to open them, since the last call.
    pub fn close_idle(&self) {
        self.turn().retain(|slot| {
            slot.upgrade().is_some_and(|slot| slot.is_used.swap(false, Ordering::Relaxed) || !slot.close())
        });
    }

    /// A file was opened: others make room for it.
    fn admit(&self, slot: &Arc<Slot>) {
        let mut turn = self.turn();
        turn.push_back(Arc::downgrade(slot));
        // Twice around, since the first look forgives a use. More are open only if they are held.
        for _ in 0..turn.len() * 2 {
            if turn.len() <= self.max {
                break;
            }
            let Some(next) = turn.pop_front() else { break };
            let Some(slot) = next.upgrade() else { continue };
            if slot.is_used.swap(false, Ordering::Relaxed) || !slot.close() {
                turn.push_back(next);
            }
        }
    }

    fn turn(&self) -> MutexGuard<'_, VecDeque<Weak<Slot>>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::Sim;
    use std::path::PathBuf;

    const MAX: usize = 4;

    fn disk() -> (Arc<dyn Disk>, Vec<PathBuf>) {
        let disk = Sim::with_open_files(1, MAX).disk();
        disk.create_folder(Path::new("/f")).unwrap();
        let paths: Vec<PathBuf> = (0..20).map(|n| PathBuf::from(format!("/f/{n}"))).collect();
        for (n, path) in paths.iter().enumerate() {
            disk.create(path).unwrap().write_at(&[n as u8], 0).unwrap();
        }
        (disk, paths)
    }

    fn open(handles: &[Handle]) -> usize {
        handles.iter().filter(|handle| handle.slot.kept().file.is_some()).count()
    }

    fn byte(file: &Arc<dyn File>) -> u8 {
        let mut byte = [0];
        file.read_at(&mut byte, 0).unwrap();
        byte[0]
    }

    #[test]
    fn no_more_than_max_are_open_and_each_gives_its_own_file() {
        let (disk, paths) = disk();
        let handles: Vec<Handle> = paths.iter().map(|_| Handle::default()).collect();
        for round in 0..3 {
            for (n, (handle, path)) in handles.iter().zip(&paths).enumerate() {
                assert_eq!(byte(&handle.get(disk.as_ref(), path).unwrap()), n as u8, "round {round}");
                assert!(open(&handles) <= MAX, "{} are open", open(&handles));
            }
        }
    }

    #[test]
    fn what_is_used_between_others_stays_open() {
        let (disk, paths) = disk();
        let handles: Vec<Handle> = paths.iter().map(|_| Handle::default()).collect();
        let first = handles[0].get(disk.as_ref(), &paths[0]).unwrap();
        for n in 1..20 {
            handles[n].get(disk.as_ref(), &paths[n]).unwrap();
            assert!(Arc::ptr_eq(&first, &handles[0].get(disk.as_ref(), &paths[0]).unwrap()), "after {n}");
        }
    }

    #[test]
    fn a_file_in_hand_is_read_after_its_handle_has_let_go() {
        let (disk, paths) = disk();
        let handle = Handle::default();
        let file = handle.get(disk.as_ref(), &paths[7]).unwrap();
        disk.open_files().close_idle();
        disk.open_files().close_idle();
        assert_eq!((open(std::slice::from_ref(&handle)), byte(&file)), (0, 7));
    }

    #[test]
    fn a_held_file_stays_when_its_path_is_anothers() {
        let (disk, paths) = disk();
        let handles: Vec<Handle> = paths.iter().map(|_| Handle::default()).collect();
        handles[0].hold(disk.as_ref(), &paths[0]).unwrap();
        disk.rename(&paths[19], &paths[0]).unwrap();
        for n in 1..19 {
            handles[n].get(disk.as_ref(), &paths[n]).unwrap();
        }
        disk.open_files().close_idle();
        disk.open_files().close_idle();
        assert_eq!(byte(&handles[0].get(disk.as_ref(), &paths[0]).unwrap()), 0);
        assert_eq!(open(&handles), 1);
    }

    #[test]
    fn idle_files_are_closed_and_used_ones_stay_one_look_longer() {
        let (disk, paths) = disk();
        let handles: Vec<Handle> = paths.iter().map(|_| Handle::default()).collect();
        for n in [0, 1, 2, 0, 1, 2] {
            handles[n].get(disk.as_ref(), &paths[n]).unwrap();
        }
        disk.open_files().close_idle();
        assert_eq!(open(&handles), 3);
        handles[1].get(disk.as_ref(), &paths[1]).unwrap();
        disk.open_files().close_idle();
        assert_eq!(open(&handles), 1);
        assert!(disk.open_files().turn().len() == 1, "what is closed has no turn");
    }

    #[test]
    fn a_path_that_is_gone_is_an_error_each_time() {
        let (disk, paths) = disk();
        let handle = Handle::default();
        disk.remove_file(&paths[0]).unwrap();
        for _ in 0..2 {
            assert_eq!(
                handle.get(disk.as_ref(), &paths[0]).err().map(|error| error.kind()),
                Some(io::ErrorKind::NotFound)
            );
        }
    }
}
