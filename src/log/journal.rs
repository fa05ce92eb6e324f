//! Checksummed lines, appended one after the other: what the checkpoint and the topic catalog are made of.
//!
//! One record a line: CRC-32C of the JSON in 8 hex digits, a space, JSON, a newline. A file is written whole (temporary file, sync,
//! rename) and grows by appends that are synced; after a crash its end may be cut off or be zeros, which is no damage: that append was
//! never answered.

use crate::disk::{Disk, File};
use serde::Serialize;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// What a disk writes as a whole.
const SECTOR_SIZE: usize = 512;

/// What stands behind the last whole record of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rest {
    Nothing,
    /// An append that a crash cut off.
    Torn,
    /// A record that was whole once.
    Damaged(String),
}

/// Adds a record to `out`.
///
/// # Errors
/// The record has no JSON form.
pub fn push<T: Serialize>(out: &mut Vec<u8>, record: &T) -> serde_json::Result<()> {
    let json = serde_json::to_vec(record)?;
    out.extend_from_slice(format!("{:08x} ", crc32c::crc32c(&json)).as_bytes());
    out.extend_from_slice(&json);
    out.push(b'\n');
    Ok(())
}

/// The JSON of each whole record up to the first that is not, and what follows.
pub fn records(bytes: &[u8]) -> (Vec<&str>, Rest) {
    let mut found = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(end) = memchr::memchr(b'\n', rest) else { break };
        match record(&rest[..end]) {
            Some(json) => found.push(json),
            None => break,
        }
        rest = &rest[end + 1..];
    }
    let is_torn = match memchr::memchr(b'\n', rest) {
        _ if rest.is_empty() => return (found, Rest::Nothing),
        _ if has_lost_sector(bytes, bytes.len() - rest.len()) => true,
        // A whole record whose newline alone differs was whole once.
        None => record(&rest[..rest.len() - 1]).is_none(),
        Some(_) => false,
    };
    let number = found.len() + 1;
    (found, if is_torn { Rest::Torn } else { Rest::Damaged(format!("line {number} has a wrong checksum")) })
}

/// Sectors that the disk had not taken yet hold zeros, of which a text has none. A zero elsewhere is a flipped space.
fn has_lost_sector(bytes: &[u8], from: usize) -> bool {
    let is_end = |at: usize| at == bytes.len() || at.is_multiple_of(SECTOR_SIZE);
    (from..bytes.len()).any(|at| bytes[at] == 0 && is_end(at + 1))
}

fn record(line: &[u8]) -> Option<&str> {
    let (crc, json) = (line.get(..8)?, line.get(9..)?);
    let expected = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
    let is_right = line[8] == b' ' && crc32c::crc32c(json) == expected;
    is_right.then(|| std::str::from_utf8(json).ok()).flatten()
}

/// The file of a journal that this process writes. The first write replaces what an earlier process left, since its end may be torn.
pub struct Journal {
    path: PathBuf,
    /// `None`: what the file holds is not known to be whole.
    file: Option<Arc<dyn File>>,
    size: u64,
}

impl Journal {
    pub fn new(path: PathBuf) -> Journal {
        Journal { path, file: None, size: 0 }
    }

    /// Bytes of the file; `None` if it must be written whole before anything can be appended.
    pub fn size(&self) -> Option<u64> {
        self.file.is_some().then_some(self.size)
    }

    /// Writes the whole file anew. Durable when it returns; after a crash it is the old or the new one.
    ///
    /// # Errors
    /// The disk's; the old file then stands.
    pub fn rewrite(&mut self, disk: &dyn Disk, bytes: &[u8]) -> io::Result<()> {
        self.file = None;
        disk.replace(&self.path, bytes)?;
        self.file = Some(disk.open(&self.path)?);
        self.size = bytes.len() as u64;
        Ok(())
    }

    /// Appends records. Durable when it returns.
    ///
    /// # Errors
    /// The disk's, or that the file was never written whole: a part of it may stand there, so the next write has to be a
    /// [`Journal::rewrite`].
    pub fn append(&mut self, disk: &dyn Disk, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = self.file.take() else {
            return Err(io::Error::other(format!("{} was not written whole yet", self.path.display())));
        };
        let done = file.write_at(bytes, self.size).and_then(|()| file.sync());
        if let Err(error) = done {
            // What is torn stays at the end: cut it, so that a start until then reads what was answered. Best effort.
            if error.kind() == io::ErrorKind::StorageFull {
                let _ = disk.open(&self.path).and_then(|file| file.set_size(self.size));
            }
            return Err(error);
        }
        self.size += bytes.len() as u64;
        self.file = Some(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for n in 0..4 {
            push(&mut bytes, &format!("record {n}")).unwrap();
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn an_end_that_is_cut_anywhere_or_zero_is_torn_and_the_rest_stands() {
        let (bytes, ends) = lines();
        for at in 0..bytes.len() {
            let whole = ends.iter().filter(|end| **end <= at).count();
            let is_end = at == 0 || ends.contains(&at);
            for zeros in [0, 700] {
                let mut cut = bytes[..at].to_vec();
                cut.resize(at + zeros, 0);
                let (found, rest) = records(&cut);
                assert_eq!(found.len(), whole, "cut at {at}");
                match (zeros, is_end) {
                    (0, true) => assert_eq!(rest, Rest::Nothing, "cut at {at}"),
                    _ => assert_eq!(rest, Rest::Torn, "cut at {at}"),
                }
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_damage_wherever_it_is() {
        let (bytes, ends) = lines();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let hit = ends.iter().filter(|end| **end <= bit / 8).count();
            let (found, rest) = records(&flipped);
            // Only the letter case of a checksum's digits may differ.
            let is_same = found.len() == ends.len() && rest == Rest::Nothing;
            assert!(is_same || (found.len() == hit && matches!(rest, Rest::Damaged(_))), "bit {bit}: {rest:?}");
        }
    }
}
