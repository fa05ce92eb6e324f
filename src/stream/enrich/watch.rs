//! Notices that a table's file has changed, loads the new one aside on a thread of its own, and keeps it until the pipeline swaps it in
//! between two reads. A file that is broken leaves the old table as it is.

use super::{Contents, LookUp, TableFrom, file};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How often a file is looked at.
#[cfg(not(test))]
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
#[cfg(test)]
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What tells a file from what it was, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: (i64, i64),
    changed_ns: (i64, i64),
}

/// What is known of a table's file.
#[derive(Default)]
pub(super) struct Watch {
    /// The file that was read last, broken or not.
    seen: Option<Identity>,
    /// Of what the table was made of.
    hash: Vec<u8>,
    /// What the table was made of, until there is a copy: the file may change at any moment.
    raw: Option<Bytes>,
    looked_at: Option<Instant>,
    is_looking: bool,
    /// It stays what it is, whatever becomes of the file.
    is_pinned: bool,
    /// Loaded and not swapped in.
    next: Option<Loaded>,
    trouble: Option<String>,
    /// Files that were refused since somebody asked.
    refused: u64,
}

impl Identity {
    /// # Errors
    /// It is not there, or is no file.
    pub(super) fn of(file: &Path) -> Result<Identity, String> {
        let found = std::fs::metadata(file).map_err(|error| format!("cannot read it: {error}"))?;
        if !found.is_file() {
            return Err("it is no file".to_owned());
        }
        Ok(Identity {
            device: found.dev(),
            inode: found.ino(),
            size: found.len(),
            modified_ns: (found.mtime(), found.mtime_nsec()),
            changed_ns: (found.ctime(), found.ctime_nsec()),
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

/// A table that is not in use yet.
struct Loaded {
    contents: Contents,
    hash: Vec<u8>,
    raw: Bytes,
}

/// The file that was looked at and what it says, if that is new; or what is wrong with it.
type Changed = Result<Option<(Identity, Option<Loaded>)>, (Option<Identity>, String)>;

/// A look at the file. It ends when this is dropped, in a panic too, and the next one can begin.
struct Looking<'a>(&'a LookUp);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.watch().is_looking = false;
    }
}

impl Watch {
    pub(super) fn of(seen: Identity, raw: Bytes) -> Watch {
        Watch { seen: Some(seen), hash: Sha256::digest(&raw).to_vec(), raw: Some(raw), ..Watch::default() }
    }
}

impl LookUp {
    /// Looks at the file if that is due; returns at once. A disk that hangs holds up nothing but the thread that looks.
    pub(super) fn look(self: &Arc<Self>) {
        if matches!(self.from, TableFrom::Topic(_)) {
            return;
        }
        let mut watch = self.watch();
        if watch.is_pinned || watch.is_looking || watch.looked_at.is_some_and(|at| at.elapsed() < LOOK_INTERVAL) {
            return;
        }
        watch.looked_at = Some(Instant::now());
        let own = self.clone();
        let thread = std::thread::Builder::new().name("inrush-table".to_owned());
        // Without a thread it is looked at again later.
        watch.is_looking = thread.spawn(move || own.look_here()).is_ok();
    }

    fn look_here(&self) {
        self.note(|| self.changed());
    }

    fn note(&self, look: impl FnOnce() -> Changed) {
        // Dropped behind the lock below.
        let _looking = Looking(self);
        let looked = look();
        let mut watch = self.watch();
        match looked {
            Ok(None) => {}
            Ok(Some((seen, loaded))) => {
                watch.seen = Some(seen);
                watch.trouble = None;
                // `None`: the same bytes as now, also after a broken file between.
                watch.next = loaded;
            }
            Err((seen, reason)) => {
                let text = format!("{}: {reason}; the table goes on as it was", self.from);
                let is_new = watch.trouble.as_ref() != Some(&text) || watch.seen != seen;
                watch.refused += u64::from(is_new);
                watch.seen = seen;
                // What was good a moment ago and is not there any more is not swapped in either.
                watch.next = None;
                watch.trouble = Some(text);
            }
        }
    }

    /// The file, if it is another one than was read last; without contents if it says what the table says.
    fn changed(&self) -> Changed {
        let (TableFrom::Csv { file, .. } | TableFrom::Parquet(file)) = &self.from else { return Ok(None) };
        let seen = Identity::of(file).map_err(|reason| (None, reason))?;
        let (known, hash) = {
            let watch = self.watch();
            (watch.seen, watch.hash.clone())
        };
        if known == Some(seen) {
            return Ok(None);
        }
        let (bytes, seen) = file::read(file).map_err(|reason| (Some(seen), reason))?;
        // Who writes into a file in place is met half-way: it is read again when it has come to rest.
        if Identity::of(file).ok() != Some(seen) {
            return Ok(None);
        }
        let found = Sha256::digest(&bytes).to_vec();
        if found == hash {
            return Ok(Some((seen, None)));
        }
        let contents = self.load(&bytes).map_err(|reason| (Some(seen), reason))?;
        Ok(Some((seen, Some(Loaded { contents, hash: found, raw: bytes }))))
    }

    /// What the table was made of, unless there is a copy already.
    pub(super) fn raw(&self) -> Option<Bytes> {
        self.watch().raw.clone()
    }

    /// There is a copy.
    pub(super) fn is_copied(&self) {
        self.watch().raw = None;
    }

    /// SHA-256 of what the table was made of.
    pub(super) fn hash(&self) -> Vec<u8> {
        self.watch().hash.clone()
    }

    /// The table was made of what has this hash, and does not follow its file.
    pub(super) fn pin(&self, hash: Vec<u8>) {
        let mut watch = self.watch();
        (watch.hash, watch.is_pinned, watch.next, watch.raw) = (hash, true, None, None);
    }

    /// Whether a new table waits.
    pub(super) fn has_next(&self) -> bool {
        self.watch().next.is_some()
    }

    /// Puts the table that waits in the place of the old one; how many rows it has.
    pub(super) fn swap(&self) -> Option<usize> {
        let mut watch = self.watch();
        let Loaded { contents, hash, raw } = watch.next.take()?;
        (watch.hash, watch.raw) = (hash, Some(raw));
        drop(watch);
        let count = contents.len();
        // The old one is let go outside the lock.
        let _old = std::mem::replace(&mut *self.contents_mut(), contents);
        Some(count)
    }

    /// Files that were refused since the last time this was asked, and what is wrong with the last one, if it still is.
    pub(super) fn trouble(&self) -> (u64, Option<String>) {
        let mut watch = self.watch();
        (std::mem::take(&mut watch.refused), watch.trouble.clone())
    }

    /// What is wrong with the file as it is now.
    pub(super) fn standing_trouble(&self) -> Option<String> {
        self.watch().trouble.clone()
    }

    fn watch(&self) -> std::sync::MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::load;
    use super::super::tests::{USERS_BY_ID, file};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn a_panic_ends_the_look_and_the_next_can_begin() {
        let folder = tempfile::tempdir().unwrap();
        let job = load::file(&file(folder.path(), "id,plan\nu1,free\n", USERS_BY_ID, "")).unwrap();
        let table = job.plan.look_ups().next().unwrap();
        table.watch().is_looking = true;
        let looked = catch_unwind(AssertUnwindSafe(|| table.note(|| panic!("a panic that the test planned"))));
        assert!(looked.is_err() && !table.watch().is_looking);
    }
}
