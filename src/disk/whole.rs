//! Small files that are replaced as a whole, and folders: for rooms that keep such files on the machine's own file system, and need none of
//! what a [`super::Disk`] does for the log.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces a small file as a whole; durable when it returns.
///
/// # Errors
/// The system's; the old file then stands, unless it was the folder's sync that failed.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Before the rename: behind it nothing fails for want of a descriptor.
    let folder = File::open(parent(path))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    folder.sync_all()
}

/// Makes names in a folder durable.
///
/// # Errors
/// The system's.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder and its missing parents, durably.
///
/// # Errors
/// The system's.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if folder.parent().is_some() {
        create_folder(parent(folder))?;
    }
    create_within(folder)
}

/// Makes a folder in one that is there, durably.
///
/// # Errors
/// The system's; `NotFound` if its parent is gone.
pub fn create_within(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| sync_folder(parent(folder))),
    }
}

/// A text behind a line with its checksum, CRC-32C in 8 hex digits: what small files hold, so that damage is seen.
pub fn with_checksum(text: &str) -> String {
    format!("{:08x}\n{text}", crc32c::crc32c(text.as_bytes()))
}

/// The text behind a right checksum.
///
/// # Errors
/// What is wrong, in words.
pub fn checked(file: &str) -> Result<&str, String> {
    let (crc, text) = file.split_once('\n').ok_or("it is cut off")?;
    match u32::from_str_radix(crc, 16) == Ok(crc32c::crc32c(text.as_bytes())) {
        true => Ok(text),
        false => Err("its checksum is wrong".to_owned()),
    }
}

/// The folder that a name stands in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
