//! Where a Parquet output is: a folder on this machine, or a bucket. What differs between the two is here; the rest of the sink does not
//! know.

use super::super::checkpoint::Staged;
use super::super::life::waiting_for;
use super::super::spec::ParquetOutput;
use super::bucket::{self, Address, Beat, Job, Note, ObjectFile, Objects};
use super::staged::{StagedFile, create};
use crate::disk::{create_folder, create_within, replace, sync_folder};
use bytes::Bytes;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where an output's files and notes are.
#[derive(Clone)]
pub(in crate::stream) enum Place {
    Folder(PathBuf),
    Bucket(Bucket),
}

#[derive(Clone)]
pub(in crate::stream) struct Bucket {
    objects: Arc<dyn Objects>,
    at: Address,
    /// Keys begin with it and a slash.
    prefix: String,
}

/// A file that is being written; nobody sees it.
pub(in crate::stream) enum Unfinished {
    File { file: StagedFile, staged: PathBuf, finished: PathBuf },
    Object(Box<ObjectFile>),
}

/// A file whose bytes are on their way to being durable.
pub(in crate::stream) enum Closing {
    File(Box<Staged>),
    /// With the bucket's name.
    Object(String, Job<io::Result<bucket::Sealed>>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Folder(folder) => write!(f, "{}", folder.display()),
            Place::Bucket(bucket) => write!(f, "{}/{}", bucket.at, bucket.prefix),
        }
    }
}

impl Place {
    /// Where an output is whose folder stands below `out`; asks nobody.
    ///
    /// # Errors
    /// What is wrong with a bucket's address or its keys.
    pub(in crate::stream) fn of(output: &ParquetOutput, out: &Path) -> io::Result<Place> {
        let Some(at) = &output.store else { return Ok(Place::Folder(out.join(&output.folder))) };
        let (objects, prefix) = (bucket::open(at)?, output.folder.display().to_string());
        Ok(Place::Bucket(Bucket { objects, at: at.clone(), prefix }))
    }

    /// A note of this name in `_inrush/`.
    ///
    /// # Errors
    /// The system's, the store's.
    pub(super) fn note(&self, name: &str) -> io::Result<Option<Note>> {
        match self {
            Place::Folder(folder) => match fs::read(folder.join("_inrush").join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                read => read.map(|bytes| Some(Note { bytes: bytes.into(), tag: None })),
            },
            Place::Bucket(bucket) => bucket.objects.get(&bucket.key(&format!("_inrush/{name}"))),
        }
    }

    /// Replaces a note that was `before`. Durable when it returns.
    ///
    /// # Errors
    /// The system's, the store's; `AlreadyExists` if there is one where none was, or a store's has changed since.
    pub(super) fn set_note(&self, name: &str, bytes: Vec<u8>, before: Option<&Note>) -> io::Result<()> {
        match self {
            Place::Folder(folder) => {
                let path = folder.join("_inrush").join(name);
                if before.is_some() { replace(&path, &bytes) } else { create(&path, &bytes) }
            }
            Place::Bucket(bucket) => {
                bucket.objects.put(&bucket.key(&format!("_inrush/{name}")), Bytes::from(bytes), before)
            }
        }
    }

    /// Makes what is needed to stage a pipeline's files, and removes what was staged but for `files`, which the checkpoint names.
    ///
    /// # Errors
    /// The system's, the store's.
    pub(super) fn prepare(&self, pipeline: &str, files: &[Staged]) -> io::Result<()> {
        match self {
            Place::Folder(folder) => {
                let staging = folder.join("_inrush").join(pipeline);
                for entry in fs::read_dir(staging)? {
                    let path = entry?.path();
                    let is_open = path.extension().is_some_and(|extension| extension == "open");
                    if is_open && !files.iter().any(|file| file.staged == path) {
                        fs::remove_file(path)?;
                    }
                }
                Ok(())
            }
            Place::Bucket(bucket) => bucket::sweep(&*bucket.objects, &bucket.prefix, pipeline, files),
        }
    }

    /// Makes the folder of an output that has nothing there so far, where it is one.
    ///
    /// # Errors
    /// The system's.
    pub(in crate::stream) fn found(&self) -> io::Result<()> {
        match self {
            Place::Folder(folder) => found(folder),
            Place::Bucket(_) => Ok(()),
        }
    }

    /// Makes the folder that a pipeline's staged files are in, where there are folders. Nothing above it: a disk may have gone away since
    /// somebody looked.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn make(&self, pipeline: &str) -> io::Result<()> {
        match self {
            Place::Folder(folder) => {
                let own = folder.join("_inrush").join(pipeline);
                create_within(&own).map_err(|error| named(&own, error))
            }
            Place::Bucket(_) => Ok(()),
        }
    }

    /// Begins a file that will be `<partition>/<name>`. `tag` is of this opening: a run that was given up and still holds a file meets no
    /// name of ours.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn begin(
        &self,
        pipeline: &str,
        partition: &str,
        name: &str,
        tag: u32,
        beat: &Beat,
    ) -> io::Result<Unfinished> {
        match self {
            Place::Folder(folder) => {
                let staged = folder.join("_inrush").join(pipeline).join(format!("{name}.{tag:08x}.open"));
                let file = StagedFile::create(&staged).map_err(|error| named(&staged, error))?;
                let finished = folder.join(partition).join(name);
                Ok(Unfinished::File { file, staged, finished })
            }
            Place::Bucket(bucket) => {
                let within = if partition.is_empty() { name.to_owned() } else { format!("{partition}/{name}") };
                let (objects, at, key) = (bucket.objects.clone(), bucket.at.clone(), bucket.key(&within));
                Ok(Unfinished::Object(Box::new(ObjectFile::create(objects, at, key, beat.clone()))))
            }
        }
    }

    /// Waits until the bytes of all files are durable; they can be named in a checkpoint then.
    ///
    /// # Errors
    /// The first one's; nothing of the others may be named.
    pub(super) fn settle(&self, pipeline: &str, closing: Vec<Closing>, beat: &Beat) -> io::Result<Vec<Staged>> {
        if let Place::Folder(folder) = self
            && !closing.is_empty()
        {
            sync_folder(&folder.join("_inrush").join(pipeline))?;
        }
        // All of them, also behind an error: an upload must not begin after a sweep of the next opening.
        let settled: Vec<io::Result<Staged>> = closing.into_iter().map(|file| file.join(beat)).collect();
        settled.into_iter().collect()
    }
}

impl Bucket {
    fn key(&self, within: &str) -> String {
        format!("{}/{within}", self.prefix)
    }
}

impl Unfinished {
    /// Hands over what is left; durable when [`Closing::join`] returns, but for its name.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn close(self) -> io::Result<Closing> {
        match self {
            Unfinished::File { file, staged, finished } => {
                let (size, crc) = file.finish(&staged)?;
                Ok(Closing::File(Box::new(Staged { staged, finished, size, crc, upload: None })))
            }
            Unfinished::Object(object) => Ok(Closing::Object(object.bucket(), object.seal()?)),
        }
    }

    /// Takes away what is there of it, as far as that can be done now; a start does the rest.
    pub(super) fn discard(&mut self) {
        match self {
            Unfinished::File { staged, .. } => {
                let _ = fs::remove_file(staged);
            }
            Unfinished::Object(object) => object.discard(),
        }
    }

    /// Bytes so far.
    pub(super) fn size(&self) -> u64 {
        match self {
            Unfinished::File { file, .. } => file.size(),
            Unfinished::Object(object) => object.size(),
        }
    }

    /// Bytes that wait in memory.
    pub(super) fn memory_size(&self) -> usize {
        match self {
            Unfinished::File { .. } => 0,
            Unfinished::Object(object) => object.memory_size(),
        }
    }
}

impl Closing {
    fn join(self, beat: &Beat) -> io::Result<Staged> {
        match self {
            Closing::File(file) => Ok(*file),
            Closing::Object(bucket, job) => {
                let sealed = waiting_for(|| bucket, || job.join(&**beat));
                let bucket::Sealed { key, upload, size, crc } = sealed??;
                Ok(Staged { staged: PathBuf::new(), finished: key.into(), size, crc, upload: Some(upload) })
            }
        }
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Unfinished::File { file, .. } => file.write(bytes),
            Unfinished::Object(object) => object.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a folder for files, and within it the one for notes and for files that are not finished.
///
/// # Errors
/// The system's.
pub(in crate::stream) fn found(folder: &Path) -> io::Result<()> {
    let notes = folder.join("_inrush");
    create_folder(&notes).map_err(|error| named(&notes, error))
}

/// The system's error with the path that it is of.
fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
