//! Objects in a bucket of an S3-compatible store, as an output of Parquet files needs them.
//!
//! An object that is being written is a multipart upload, however small: its parts are there and nobody sees it. The checkpoint names the
//! upload; what completes it afterwards makes the object be there at once and whole. Uploads that no checkpoint names are ended by a start.

mod finish;
mod job;
mod s3;
#[cfg(test)]
pub(in crate::stream) mod twin;
mod upload;

pub(in crate::stream) use finish::finish;
pub(in crate::stream) use job::{Beat, Job};
pub(in crate::stream) use upload::{ObjectFile, Sealed};

use super::super::checkpoint::Staged;
use super::super::spec::EXTENSIONS;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Where a bucket is and whose keys open it, as a pipeline file says. Holds no secret: it stands in checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::stream) struct Address {
    pub(in crate::stream) bucket: String,
    /// `None`: what the environment says, else AWS.
    pub(in crate::stream) endpoint: Option<String>,
    pub(in crate::stream) region: Option<String>,
    /// The bucket's name stands in the path, not in the host; `None`: if there is an endpoint.
    pub(in crate::stream) path_style: Option<bool>,
    /// The secret that holds the keys; `None`: what the environment says.
    pub(in crate::stream) credentials: Option<String>,
    /// The pipeline file, beside which secrets are.
    pub(in crate::stream) pipeline: PathBuf,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)
    }
}

/// An upload that a checkpoint names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::stream) struct Upload {
    pub(in crate::stream) at: Address,
    pub(in crate::stream) id: String,
    /// What the store calls each part, in their order.
    pub(in crate::stream) parts: Vec<String>,
}

/// A small object and what it is replaced by, if it has not changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::stream) struct Note {
    pub(in crate::stream) bytes: Bytes,
    pub(in crate::stream) tag: Option<String>,
}

/// What is asked of a store. Each call is bounded in time and blocks; errors say what was tried, why it failed and what to do, and hold no
/// secret. A key is a path without a slash at its ends.
pub(in crate::stream) trait Objects: Send + Sync {
    /// `None` if there is no such object.
    fn get(&self, key: &str) -> io::Result<Option<Note>>;
    /// Durable when it returns. `AlreadyExists` if the object is no longer what `before` says (`None`: not there).
    fn put(&self, key: &str, bytes: Bytes, before: Option<&Note>) -> io::Result<()>;
    /// Size of an object; `None` if there is none.
    fn size(&self, key: &str) -> io::Result<Option<u64>>;
    /// Size and CRC-32C of an object's bytes; reads all of them.
    fn sum(&self, key: &str) -> io::Result<(u64, u32)>;
    /// Begins an upload and gives its id.
    fn begin(&self, key: &str) -> io::Result<String>;
    /// Durable when it returns; `number` counts from 0. Gives what the store calls the part.
    fn part(&self, key: &str, id: &str, number: usize, bytes: Bytes) -> io::Result<String>;
    /// The object is there, whole and durable, when it returns true. False: there is no such upload.
    fn complete(&self, key: &str, id: &str, parts: &[String]) -> io::Result<bool>;
    /// Ends an upload and what it has; one that is gone is ended.
    fn abort(&self, key: &str, id: &str) -> io::Result<()>;
    /// Key and id of the uploads that were begun under a prefix and are neither complete nor ended.
    fn uploads(&self, prefix: &str) -> io::Result<Vec<(String, String)>>;
}

/// Stores that somebody uses.
static OPEN: Mutex<Vec<(Address, Weak<dyn Objects>)>> = Mutex::new(Vec::new());

/// The store of an address. Asks it nothing.
///
/// # Errors
/// What is wrong with the address or its keys.
pub(in crate::stream) fn open(address: &Address) -> io::Result<Arc<dyn Objects>> {
    #[cfg(test)]
    if let Some(twin) = twin::known(&address.bucket) {
        return Ok(twin);
    }
    let mut stores = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    stores.retain(|(_, store)| store.strong_count() > 0);
    if let Some(store) = stores.iter().find_map(|(of, store)| store.upgrade().filter(|_| of == address)) {
        return Ok(store);
    }
    let store: Arc<dyn Objects> = Arc::new(s3::S3::open(address)?);
    stores.push((address.clone(), Arc::downgrade(&store)));
    Ok(store)
}

/// What the environment or the address lacks, if it can be told without asking anybody.
pub(in crate::stream) fn lacks(address: &Address) -> Option<String> {
    s3::lacks(address)
}

/// Ends the uploads of a pipeline under `prefix` that no checkpoint names: their records are read again.
///
/// # Errors
/// The store's.
pub(in crate::stream) fn sweep(
    objects: &dyn Objects,
    prefix: &str,
    pipeline: &str,
    named: &[Staged],
) -> io::Result<()> {
    let is_named = |id: &str| named.iter().any(|file| file.upload.as_ref().is_some_and(|upload| upload.id == id));
    let mut others: Vec<(String, bool)> = Vec::new();
    for (key, id) in objects.uploads(&format!("{prefix}/"))? {
        let Some(within) = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')) else { continue };
        let (folder, name) = within.rsplit_once('/').unwrap_or(("", within));
        if is_named(&id) || !is_of(name, pipeline) {
            continue;
        }
        // A folder within ours may be an output of another cluster's pipeline of the same name.
        let is_anothers = match others.iter().find(|(known, _)| known == folder) {
            Some((_, is_anothers)) => *is_anothers,
            None => {
                let is_anothers = is_owned(objects, prefix, folder)?;
                others.push((folder.to_owned(), is_anothers));
                is_anothers
            }
        };
        if !is_anothers {
            objects.abort(&key, &id)?;
        }
    }
    Ok(())
}

/// Whether a folder below `prefix`, or one between, is an output of its own.
fn is_owned(objects: &dyn Objects, prefix: &str, folder: &str) -> io::Result<bool> {
    let mut path = prefix.to_owned();
    for part in folder.split('/').filter(|part| !part.is_empty()) {
        path = format!("{path}/{part}");
        if objects.get(&format!("{path}/_inrush/owner.json"))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a file's name is `PIPELINE-GENERATION-CUT-N.EXTENSION`, of files of any kind: the output may have been of another before.
fn is_of(name: &str, pipeline: &str) -> bool {
    let numbers = name.strip_prefix(pipeline).and_then(|rest| rest.strip_prefix('-'));
    let Some((numbers, extension)) = numbers.and_then(|rest| rest.split_once('.')) else { return false };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    EXTENSIONS.contains(&extension) && numbers.split('-').count() == 3 && numbers.split('-').all(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pipelines_own_names_are_its_own() {
        for own in ["p-0-12-3.parquet", "p-0-12-3.ndjson", "p-0-12-3.ndjson.gz", "p-0-12-3.ndjson.zst"] {
            assert!(is_of(own, "p"), "{own}");
        }
        for other in ["p-1-2-3-4.parquet", "p-1-2.parquet", "q-1-2-3.parquet", "p-1-2-x.parquet", "p-1-2-3.parquet.new"]
        {
            assert!(!is_of(other, "p"), "{other}");
        }
        assert!(is_of("p-1-2-3-4.parquet", "p-1"));
    }
}
