//! Which rows were sent together: a file beside the checkpoint, so that a start sends the same batches again, under the same ids, and not
//! the same rows in others.
//!
//! A line is written before a batch is sent for the first time: `GENERATION PARTITION FIRST NEXT CRC`, numbers in decimal but for the CRC-32C
//! of what stands before it, in hex. A line that is no such line ends the file: a crash cut it off. It is not synced: a kill of the process
//! loses nothing of it, and what a power cut loses is sent in other batches.

use crate::disk::replace;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// At a cut a file that is larger is written anew, without what is settled.
const SIZE_MAX: u64 = 64 << 10;

/// Batches by source partition, ascending, as ranges of offsets.
pub(super) type Batches = BTreeMap<i32, VecDeque<Range<i64>>>;

/// The file.
pub(super) struct Begun {
    path: PathBuf,
    generation: u64,
    file: Mutex<(File, u64)>,
}

impl Begun {
    /// Opens it, and gives the batches at and behind these positions.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open(path: &Path, generation: u64, floor: &BTreeMap<i32, i64>) -> io::Result<(Begun, Batches)> {
        let batches = read(path, generation, floor)?;
        let file = write(path, generation, &batches)?;
        Ok((Begun { path: path.to_owned(), generation, file: Mutex::new(file) }, batches))
    }

    /// Before a batch is sent for the first time.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn note(&self, partition: i32, range: &Range<i64>) -> io::Result<()> {
        let line = line(self.generation, partition, range);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.0.write_all(line.as_bytes())?;
        file.1 += line.len() as u64;
        Ok(())
    }

    /// After a checkpoint with these positions.
    ///
    /// # Errors
    /// The system's; the file stands as it was.
    pub(super) fn cut(&self, floor: &BTreeMap<i32, i64>) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.1 > SIZE_MAX {
            let batches = read(&self.path, self.generation, floor)?;
            *file = write(&self.path, self.generation, &batches)?;
        }
        Ok(())
    }
}

fn line(generation: u64, partition: i32, range: &Range<i64>) -> String {
    let text = format!("{generation} {partition} {} {}", range.start, range.end);
    format!("{text} {:08x}\n", crc32c::crc32c(text.as_bytes()))
}

fn read(path: &Path, generation: u64, floor: &BTreeMap<i32, i64>) -> io::Result<Batches> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut batches = Batches::new();
    for line in text.split_inclusive('\n') {
        let Some((of, partition, range)) = parsed(line) else { break };
        let is_settled = floor.get(&partition).is_some_and(|floor| range.end <= *floor);
        let list = batches.entry(partition).or_default();
        // Each begins behind the one before; another generation's are of another life.
        let follows = list.back().is_none_or(|last: &Range<i64>| last.end <= range.start);
        if of == generation && !is_settled && follows {
            list.push_back(range);
        }
    }
    batches.retain(|_, list| !list.is_empty());
    Ok(batches)
}

fn parsed(line: &str) -> Option<(u64, i32, Range<i64>)> {
    let (text, crc) = line.strip_suffix('\n')?.rsplit_once(' ')?;
    if u32::from_str_radix(crc, 16).ok()? != crc32c::crc32c(text.as_bytes()) {
        return None;
    }
    let mut words = text.split(' ');
    let (generation, partition) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((generation, partition, words.next()?.parse().ok()?..words.next()?.parse().ok()?))
}

/// The file with these batches alone, open at its end, and its size.
fn write(path: &Path, generation: u64, batches: &Batches) -> io::Result<(File, u64)> {
    let of_partition = |(partition, list): (&i32, &VecDeque<Range<i64>>)| {
        list.iter().map(|range| line(generation, *partition, range)).collect::<String>()
    };
    let text: String = batches.iter().map(of_partition).collect();
    replace(path, text.as_bytes())?;
    Ok((File::options().append(true).open(path)?, text.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_is_known_to_the_next_start_but_for_what_is_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("begun");
        let floor = BTreeMap::from([(0, 0), (1, 0)]);
        let (begun, batches) = Begun::open(&path, 3, &floor).unwrap();
        assert!(batches.is_empty());
        for (partition, range) in [(0, 0..5), (1, 2..9), (0, 7..8), (0, 8..20)] {
            begun.note(partition, &range).unwrap();
        }
        let floor = BTreeMap::from([(0, 7), (1, 0)]);
        let (_, batches) = Begun::open(&path, 3, &floor).unwrap();
        assert_eq!(batches[&0], [7..8, 8..20]);
        assert!(batches[&1].iter().eq([&(2..9)]));
        let (_, batches) = Begun::open(&path, 4, &floor).unwrap();
        assert!(batches.is_empty(), "another generation sends anew");
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_tells_what_stands_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("begun");
        let floor = BTreeMap::new();
        let whole = format!("{}{}", line(1, 0, &(0..15)), line(1, 0, &(15..21)));
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole.as_bytes()[..length]).unwrap();
            let (_, batches) = Begun::open(&path, 1, &floor).unwrap();
            let found = batches.get(&0).map_or(0, VecDeque::len);
            assert_eq!(found, whole[..length].matches('\n').count(), "{length}");
        }
    }

    #[test]
    fn a_long_file_is_cut_to_what_is_not_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("begun");
        let (begun, _) = Begun::open(&path, 1, &BTreeMap::new()).unwrap();
        for at in 0..5_000 {
            begun.note(0, &(at..at + 1)).unwrap();
        }
        begun.cut(&BTreeMap::from([(0, 4_990)])).unwrap();
        begun.note(0, &(5_000..5_001)).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() < 1_000);
        let (_, batches) = Begun::open(&path, 1, &BTreeMap::from([(0, 4_990)])).unwrap();
        assert_eq!(batches[&0].len(), 11);
    }
}
