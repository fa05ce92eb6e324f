//! [`Objects`] in memory, for tests: it fails when a test has planned it, before or after it has done what was asked, and knows what was
//! asked of it.

use super::{Note, Objects};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::stream) enum Asked {
    Get,
    Put,
    Size,
    Begin,
    Part,
    Complete,
    Abort,
    Uploads,
}

/// What happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stream) enum Trouble {
    /// It is not done, and the call fails.
    Refused,
    /// It is done, and the answer is lost.
    Lost,
    /// It is not done: the process is killed.
    KilledBefore,
    /// It is done, and the process is killed.
    KilledAfter,
}

#[derive(Default)]
struct Inside {
    objects: BTreeMap<String, (Bytes, u64)>,
    /// Key and parts, by id.
    uploads: BTreeMap<String, (String, BTreeMap<usize, Bytes>)>,
    plan: Option<(Asked, usize, Trouble)>,
    is_down: bool,
    made: u64,
    /// Bytes of the largest part so far.
    part_max: usize,
}

pub(in crate::stream) struct Twin {
    inside: Mutex<Inside>,
}

static TWINS: Mutex<Vec<(String, Arc<Twin>)>> = Mutex::new(Vec::new());

/// The twin that is the bucket of this name.
pub(super) fn known(bucket: &str) -> Option<Arc<dyn Objects>> {
    let twins = TWINS.lock().unwrap_or_else(PoisonError::into_inner);
    twins.iter().find(|(name, _)| name == bucket).map(|(_, twin)| twin.clone() as Arc<dyn Objects>)
}

impl Twin {
    /// A new one, and the name of the bucket that it is.
    pub(in crate::stream) fn new() -> (String, Arc<Twin>) {
        let (name, twin) = (format!("twin-{:016x}", fastrand::u64(..)), Arc::new(Twin { inside: Mutex::default() }));
        TWINS.lock().unwrap_or_else(PoisonError::into_inner).push((name.clone(), twin.clone()));
        (name, twin)
    }

    /// The `nth` call (from 1) of this kind has this trouble.
    pub(in crate::stream) fn plan(&self, asked: Asked, nth: usize, trouble: Trouble) {
        self.inside().plan = Some((asked, nth, trouble));
    }

    /// Whether what was planned has happened.
    pub(in crate::stream) fn has_happened(&self) -> bool {
        self.inside().plan.is_none()
    }

    /// All calls fail while it is.
    pub(in crate::stream) fn set_down(&self, is_down: bool) {
        self.inside().is_down = is_down;
    }

    pub(in crate::stream) fn objects(&self) -> BTreeMap<String, Bytes> {
        self.inside().objects.iter().map(|(key, (bytes, _))| (key.clone(), bytes.clone())).collect()
    }

    /// Keys of open uploads.
    pub(in crate::stream) fn open(&self) -> Vec<String> {
        self.inside().uploads.values().map(|(key, _)| key.clone()).collect()
    }

    pub(in crate::stream) fn part_max(&self) -> usize {
        self.inside().part_max
    }

    /// Takes an object, or an upload of this key, away.
    pub(in crate::stream) fn take_away(&self, key: &str) {
        let mut inside = self.inside();
        inside.objects.remove(key);
        inside.uploads.retain(|_, (of, _)| of != key);
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask<T>(&self, asked: Asked, work: impl FnOnce(&mut Inside) -> io::Result<T>) -> io::Result<T> {
        let mut inside = self.inside();
        if inside.is_down {
            return Err(io::Error::other("the store is down"));
        }
        let mut trouble = None;
        if let Some((planned, left, kind)) = &mut inside.plan
            && *planned == asked
        {
            *left -= 1;
            trouble = (*left == 0).then_some(*kind);
        }
        let Some(trouble) = trouble else { return work(&mut inside) };
        inside.plan = None;
        let done = match trouble {
            Trouble::Lost | Trouble::KilledAfter => work(&mut inside).map(drop),
            Trouble::Refused | Trouble::KilledBefore => Ok(()),
        };
        drop(inside);
        match trouble {
            Trouble::KilledBefore | Trouble::KilledAfter => panic!("a crash that the test planned at {asked:?}"),
            Trouble::Refused | Trouble::Lost => done.and(Err(io::Error::other("a fault that the test planned"))),
        }
    }
}

impl Objects for Twin {
    fn get(&self, key: &str) -> io::Result<Option<Note>> {
        self.ask(Asked::Get, |inside| {
            let note = |(bytes, tag): &(Bytes, u64)| Note { bytes: bytes.clone(), tag: Some(tag.to_string()) };
            Ok(inside.objects.get(key).map(note))
        })
    }

    fn put(&self, key: &str, bytes: Bytes, before: Option<&Note>) -> io::Result<()> {
        self.ask(Asked::Put, |inside| {
            let is = inside.objects.get(key).map(|(_, tag)| tag.to_string());
            if is.as_ref() != before.and_then(|note| note.tag.as_ref()) {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            inside.made += 1;
            let tag = inside.made;
            inside.objects.insert(key.to_owned(), (bytes, tag));
            Ok(())
        })
    }

    fn size(&self, key: &str) -> io::Result<Option<u64>> {
        self.ask(Asked::Size, |inside| Ok(inside.objects.get(key).map(|(bytes, _)| bytes.len() as u64)))
    }

    fn sum(&self, key: &str) -> io::Result<(u64, u32)> {
        let found = self.get(key)?.ok_or(io::ErrorKind::NotFound)?;
        Ok((found.bytes.len() as u64, crc32c::crc32c(&found.bytes)))
    }

    fn begin(&self, key: &str) -> io::Result<String> {
        self.ask(Asked::Begin, |inside| {
            inside.made += 1;
            let id = format!("upload-{}", inside.made);
            inside.uploads.insert(id.clone(), (key.to_owned(), BTreeMap::new()));
            Ok(id)
        })
    }

    fn part(&self, key: &str, id: &str, number: usize, bytes: Bytes) -> io::Result<String> {
        self.ask(Asked::Part, |inside| {
            inside.part_max = inside.part_max.max(bytes.len());
            let (of, parts) = inside.uploads.get_mut(id).ok_or_else(|| io::Error::other("NoSuchUpload"))?;
            assert_eq!(of, key);
            let name = format!("{number}-{:08x}", crc32c::crc32c(&bytes));
            parts.insert(number, bytes);
            Ok(name)
        })
    }

    fn complete(&self, key: &str, id: &str, parts: &[String]) -> io::Result<bool> {
        self.ask(Asked::Complete, |inside| {
            let Some((of, kept)) = inside.uploads.remove(id) else { return Ok(false) };
            let names: Vec<String> =
                kept.iter().map(|(number, bytes)| format!("{number}-{:08x}", crc32c::crc32c(bytes))).collect();
            assert_eq!((of.as_str(), names.as_slice()), (key, parts));
            // What S3 asks of all parts but the last.
            assert!(kept.values().rev().skip(1).all(|part| part.len() >= 5 << 20), "a part is too small");
            inside.made += 1;
            let whole: Vec<u8> = kept.values().flatten().copied().collect();
            let tag = inside.made;
            inside.objects.insert(key.to_owned(), (whole.into(), tag));
            Ok(true)
        })
    }

    fn abort(&self, key: &str, id: &str) -> io::Result<()> {
        self.ask(Asked::Abort, |inside| {
            if let Some((of, _)) = inside.uploads.remove(id) {
                assert_eq!(of, key);
            }
            Ok(())
        })
    }

    fn uploads(&self, prefix: &str) -> io::Result<Vec<(String, String)>> {
        self.ask(Asked::Uploads, |inside| {
            let named = inside.uploads.iter().filter(|(_, (key, _))| key.starts_with(prefix));
            Ok(named.map(|(id, (key, _))| (key.clone(), id.clone())).collect())
        })
    }
}
