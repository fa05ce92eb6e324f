//! One file on its way into a lake: written under a name that no reader's glob meets, synced, and renamed once a checkpoint names it.

use super::super::checkpoint::Staged;
use super::bucket::{self, Beat, Job};
use crate::disk::{create_folder, sync_folder};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Written bytes are handed to the disk in steps of this size, so that the sync at the end does not stall the log's on the same disk.
const FLUSH_SIZE: u64 = 8 << 20;

/// A file being written, with what a checkpoint says of it.
pub(in crate::stream) struct StagedFile {
    file: File,
    size: u64,
    flushed: u64,
    crc: u32,
}

impl StagedFile {
    /// # Errors
    /// The system's; a file of that name is one.
    pub(in crate::stream) fn create(path: &Path) -> io::Result<StagedFile> {
        let file = File::options().write(true).create_new(true).open(path)?;
        Ok(StagedFile { file, size: 0, flushed: 0, crc: 0 })
    }

    /// Bytes so far.
    pub(in crate::stream) fn size(&self) -> u64 {
        self.size
    }

    /// Durable when it returns, but for its name: size and CRC-32C.
    ///
    /// # Errors
    /// `NotFound` if it is not at `path` any more: somebody took it away, or another disk is there. The system's.
    pub(in crate::stream) fn finish(self, path: &Path) -> io::Result<(u64, u32)> {
        self.file.sync_all()?;
        let own = self.file.metadata()?;
        match fs::symlink_metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (own.dev(), own.ino()) => Ok((self.size, self.crc)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("{} was taken away while it was written; its rows are written again", path.display()),
            )),
        }
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, &bytes[..written]);
        self.size += written as u64;
        if self.size - self.flushed >= FLUSH_SIZE {
            // SAFETY: the descriptor is open as long as `self`; the call touches no memory of ours. It only begins to write back: an
            // error shows at the sync.
            let (from, count) = (self.flushed as i64, (self.size - self.flushed) as i64);
            unsafe { libc::sync_file_range(self.file.as_raw_fd(), from, count, libc::SYNC_FILE_RANGE_WRITE) };
            self.flushed = self.size;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many files the process may have open.
pub(super) fn descriptors() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is an rlimit to be filled; it outlives the call.
    let is_known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0;
    if is_known { usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX) } else { 1_024 }
}

/// What became of a file of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stream) enum Finished {
    /// It has its name now.
    Renamed,
    /// It had it before.
    Already,
    /// It is nowhere: somebody took it away after the rename. It is never written again.
    TakenAway,
}

/// [`finish`] of each file: of those on this machine one after the other as the result is asked for, of objects several at a time. The names
/// of the former are durable after [`sync_names`].
///
/// # Errors
/// The system has no thread to give; those of the files are in the results.
pub(in crate::stream) fn finish_all<'a>(
    files: &'a [Staged],
    beat: &'a Beat,
) -> io::Result<impl Iterator<Item = io::Result<Finished>> + 'a> {
    let begin = |file: &'a Staged| match &file.upload {
        None => Ok((file, None)),
        Some(_) => {
            let own = file.clone();
            Job::start(move || finish(&own)).map(|job| (file, Some(job)))
        }
    };
    let begun = files.iter().map(begin).collect::<io::Result<Vec<_>>>()?;
    Ok(begun.into_iter().map(|(file, job)| match job {
        None => put(file),
        Some(job) => job.join(&**beat)?,
    }))
}

/// Gives a file of a checkpoint its name, whatever a crash left of that. The name is durable when it returns, up to the lake's root.
///
/// # Errors
/// `AlreadyExists` if another file has the name; `InvalidData` if the staged one is not what the checkpoint says; `NotFound` if the folder
/// that it was staged in is not there either; the system's.
pub(in crate::stream) fn finish(file: &Staged) -> io::Result<Finished> {
    if let Some(upload) = &file.upload {
        return bucket::finish(file, upload);
    }
    let done = put(file)?;
    sync_names(std::slice::from_ref(file))?;
    Ok(done)
}

/// Makes the names of files durable, up to the lake's root: each folder once, however many files are in it.
///
/// # Errors
/// The system's.
pub(in crate::stream) fn sync_names(files: &[Staged]) -> io::Result<()> {
    let mut folders = BTreeSet::new();
    for file in files.iter().filter(|file| file.upload.is_none()) {
        let root = root(file);
        let own = file.finished.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
        folders.extend(own.chain(file.staged.parent()));
    }
    for folder in folders {
        match sync_folder(folder) {
            // Taken away with what was in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

/// Staged files are `<root>/_inrush/<pipeline>/<name>`.
fn root(file: &Staged) -> &Path {
    file.staged.ancestors().nth(3).unwrap_or(Path::new("/"))
}

/// As [`finish`], but for the last sync.
fn put(file: &Staged) -> io::Result<Finished> {
    let Staged { staged, finished, .. } = file;
    let folder = finished.parent().unwrap_or(root(file));
    let staging = staged.parent().unwrap_or(root(file));
    match (is_there(staged)?, is_there(finished)?) {
        // It was durable before the file: where it is not there either, the disk is not.
        (false, false) if !is_there(staging)? => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "neither {} nor its folder is there: mount the disk; or, if the file is to be given up, mkdir -p {}",
                staged.display(),
                staging.display()
            ),
        )),
        (false, false) => Ok(Finished::TakenAway),
        (false, true) => Ok(Finished::Already),
        (true, false) => {
            check(file)?;
            create_folder(folder)?;
            rename(staged, finished).map_err(|error| blocked(file, &error))?;
            Ok(Finished::Renamed)
        }
        (true, true) if is_same(file)? => {
            fs::remove_file(staged)?;
            Ok(Finished::Already)
        }
        (true, true) => Err(blocked(file, &io::Error::from(io::ErrorKind::AlreadyExists))),
    }
}

fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn blocked(file: &Staged, error: &io::Error) -> io::Error {
    let (staged, finished) = (file.staged.display(), file.finished.display());
    let to_do = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "the daemon may not write there",
        _ => "look at both, and move one of them away",
    };
    io::Error::new(error.kind(), format!("cannot put {staged} into place as {finished}: {error}; {to_do}"))
}

/// Whether the staged file is what the checkpoint says.
fn check(file: &Staged) -> io::Result<()> {
    let (size, crc) = sum(&file.staged)?;
    if (size, crc) == (file.size, file.crc) {
        return Ok(());
    }
    let message = format!(
        "{} is damaged: {size} bytes with checksum {crc:08x}, the checkpoint says {} and {:08x}",
        file.staged.display(),
        file.size,
        file.crc
    );
    Err(io::Error::new(io::ErrorKind::InvalidData, message))
}

fn is_same(file: &Staged) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (a, b) = (fs::metadata(&file.staged)?, fs::metadata(&file.finished)?);
    Ok(a.ino() == b.ino() && a.dev() == b.dev() || a.len() == b.len() && sum(&file.staged)? == sum(&file.finished)?)
}

fn sum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let (mut size, mut crc) = (0, 0);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((size, crc));
        }
        size += count as u64;
        crc = crc32c::crc32c_append(crc, &buffer[..count]);
    }
}

/// Renames without ever replacing: `renameat2(RENAME_NOREPLACE)`, or a link and an unlink where the file system does not know the flag.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let (from_name, to_name) = (CString::new(from.as_os_str().as_bytes())?, CString::new(to.as_os_str().as_bytes())?);
    let (cwd, flags) = (libc::AT_FDCWD, libc::RENAME_NOREPLACE);
    // SAFETY: both are strings that end in a zero and live past the call.
    if unsafe { libc::renameat2(cwd, from_name.as_ptr(), cwd, to_name.as_ptr(), flags) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => link(from, to),
        _ => Err(error),
    }
}

/// Makes a small file that is not there, whole or not at all; durable when it returns.
///
/// # Errors
/// `AlreadyExists` if it is there; the system's.
pub(super) fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Nobody else's name: another process may make the same file.
    let temporary = path.with_extension(format!("{:016x}.new", fastrand::u64(..)));
    let write = || {
        let mut file = StagedFile::create(&temporary)?;
        file.write_all(bytes)?;
        file.finish(&temporary)?;
        rename(&temporary, path)
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// A link fails where a rename would replace.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(root: &Path, text: &str) -> Staged {
        fs::create_dir_all(root.join("_inrush/p")).unwrap();
        let path = root.join("_inrush/p/x.parquet.open");
        let mut file = StagedFile::create(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let (size, crc) = file.finish(&path).unwrap();
        Staged { staged: path, finished: root.join("dt=1/x.parquet"), size, crc, upload: None }
    }

    #[test]
    fn a_file_that_was_taken_away_while_it_was_written_is_told() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.open");
        for is_there_again in [false, true] {
            let file = StagedFile::create(&path).unwrap();
            fs::remove_file(&path).unwrap();
            if is_there_again {
                fs::write(&path, b"").unwrap();
            }
            assert_eq!(file.finish(&path).unwrap_err().kind(), io::ErrorKind::NotFound, "{is_there_again}");
        }
    }

    #[test]
    fn each_state_that_a_crash_leaves_ends_with_one_file() {
        let root = tempfile::tempdir().unwrap();
        let file = staged(root.path(), "abc");
        assert_eq!(finish(&file).unwrap(), Finished::Renamed);
        assert_eq!(fs::read(&file.finished).unwrap(), b"abc");
        assert_eq!(finish(&file).unwrap(), Finished::Already);
        let again = staged(root.path(), "abc");
        assert_eq!(finish(&again).unwrap(), Finished::Already);
        assert!(!again.staged.exists());
        fs::hard_link(&file.finished, &file.staged).unwrap();
        assert_eq!(finish(&file).unwrap(), Finished::Already);
        assert!(!file.staged.exists());
        fs::remove_file(&file.finished).unwrap();
        assert_eq!(finish(&file).unwrap(), Finished::TakenAway);
        assert!(!file.finished.exists(), "it was written again");
    }

    #[test]
    fn a_file_whose_disk_is_not_mounted_is_not_given_up() {
        let disk = tempfile::tempdir().unwrap();
        let (root, away) = (disk.path().join("lake"), disk.path().join("away"));
        let file = staged(&root, "abc");
        fs::rename(&root, &away).unwrap();
        fs::create_dir(&root).unwrap();
        assert!(finish(&file).unwrap_err().to_string().contains("mount the disk"));
        fs::remove_dir(&root).unwrap();
        fs::rename(&away, &root).unwrap();
        assert_eq!(finish(&file).unwrap(), Finished::Renamed);
    }

    #[test]
    fn another_file_in_the_place_is_named_and_neither_is_touched() {
        let root = tempfile::tempdir().unwrap();
        let file = staged(root.path(), "abc");
        fs::create_dir(root.path().join("dt=1")).unwrap();
        fs::write(&file.finished, "xyz").unwrap();
        let error = finish(&file).unwrap_err().to_string();
        assert!(error.contains("x.parquet.open") && error.contains("dt=1/x.parquet"), "{error}");
        assert_eq!(
            (fs::read(&file.staged).unwrap(), fs::read(&file.finished).unwrap()),
            (b"abc".into(), b"xyz".into())
        );
    }

    #[test]
    fn a_damaged_staged_file_gets_no_name() {
        let root = tempfile::tempdir().unwrap();
        let file = staged(root.path(), "abc");
        fs::write(&file.staged, "abd").unwrap();
        assert_eq!(finish(&file).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(!file.finished.exists());
    }

    #[test]
    fn where_the_flag_is_refused_a_link_replaces_nothing_either() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("a"), root.path().join("b"));
        fs::write(&from, "1").unwrap();
        link(&from, &to).unwrap();
        fs::write(&from, "2").unwrap();
        assert_eq!(link(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&to).unwrap(), b"1");
    }
}
