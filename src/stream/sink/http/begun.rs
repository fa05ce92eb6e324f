//! Which rows were sent together: a file beside the checkpoint, so that a start sends the same batches again, under the same ids, and not
//! the same rows in others.
//!
//! A line is written before a batch is sent for the first time: `GENERATION PARTITION FIRST NEXT CRC`, numbers in decimal but for the CRC-32C
//! of what stands before it, in hex. A line within a batch that is known parts that batch: it was refused, and its parts are sent by
//! themselves from then on. A line that is no such line ends the file: a crash cut it off. It is not synced: a kill of the process loses
//! nothing of it, and what a power cut loses is sent in other batches.

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

    /// Before a batch is sent for the first time, and before the first part of one that was refused is.
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
        // Another generation's are of another life.
        if of == generation {
            add(batches.entry(partition).or_default(), range);
        }
    }
    for (partition, list) in &mut batches {
        let floor = floor.get(partition).copied().unwrap_or(i64::MIN);
        list.retain(|range| range.end > floor);
    }
    batches.retain(|_, list| !list.is_empty());
    Ok(batches)
}

/// Adds a batch behind all others, or parts the one in which it lies.
fn add(list: &mut VecDeque<Range<i64>>, range: Range<i64>) {
    if list.back().is_none_or(|last| last.end <= range.start) {
        return list.push_back(range);
    }
    let is_around = |whole: &Range<i64>| whole.start <= range.start && range.end <= whole.end;
    let Some(at) = list.iter().rposition(is_around) else { return };
    let whole = list[at].clone();
    let parts = [range.end..whole.end, range.clone(), whole.start..range.start];
    list.remove(at);
    parts.into_iter().filter(|part| !part.is_empty()).for_each(|part| list.insert(at, part));
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
    fn a_refused_batch_is_known_by_its_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("begun");
        let (begun, _) = Begun::open(&path, 1, &BTreeMap::new()).unwrap();
        for range in [0..10, 10..12, 12..20, 12..16, 0..5, 2..3, 30..40] {
            begun.note(0, &range).unwrap();
        }
        let (_, batches) = Begun::open(&path, 1, &BTreeMap::from([(0, 2)])).unwrap();
        assert_eq!(batches[&0], [2..3, 3..5, 5..10, 10..12, 12..16, 16..20, 30..40]);
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
