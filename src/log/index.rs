//! The index file of a sealed segment, `BASE.index`: a cache that leads to about where an offset or a time stands. Made again when it is
//! missing or bad; who looks something up checks the batch that it lands on.
//!
//! Pages of 4 KiB, little-endian, each with the CRC-32C of its bytes from position 4 on:
//!
//! | at | size | field |
//! |---:|---:|---|
//! | 0 | 4 | CRC-32C |
//! | 4 | 2 | count of entries in this page, 1 to 170; `0xFFFF` in the footer, which is the last page |
//! | 6 | 10 | zeros |
//! | 16 | 24 each | entry: offset, position, greatest timestamp of all batches before it |
//!
//! The footer has at 16, 8 bytes each: base offset, size of the segment, arrival of its last batch, greatest timestamp, count of entries.

use super::segment::IndexEntry;
use crate::clock::Millis;
use crate::disk::{Disk, File};
use crate::record::Offset;
use std::io;
use std::path::Path;
use std::sync::Arc;

const PAGE_SIZE: usize = 4096;
const HEAD_SIZE: usize = 16;
const ENTRY_SIZE: usize = 24;
const ENTRIES_PER_PAGE: usize = (PAGE_SIZE - HEAD_SIZE) / ENTRY_SIZE;
const FOOTER: u16 = 0xFFFF;

/// What an index says of its segment as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) base: Offset,
    pub(super) size: u64,
    /// When the last batch arrived: what retention counts from.
    pub(super) arrived_ms: Millis,
    pub(super) max_timestamp: i64,
    pub(super) entries: u64,
}

/// An open index whose footer is right; its pages are read and checked one by one.
pub(super) struct IndexFile {
    file: Arc<dyn File>,
    footer: Footer,
}

/// An index is not what it should be.
#[derive(Debug)]
pub(super) struct Bad;

/// The bytes of an index file. Entries ascend.
pub(super) fn encode(footer: &Footer, entries: &[IndexEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity((entries.len() / ENTRIES_PER_PAGE + 2) * PAGE_SIZE);
    for chunk in entries.chunks(ENTRIES_PER_PAGE) {
        let numbers = chunk.iter().flat_map(|e| [e.offset.0, e.position as i64, e.max_timestamp_before]);
        push_page(&mut out, chunk.len() as u16, numbers);
    }
    let Footer { base, size, arrived_ms, max_timestamp, .. } = *footer;
    push_page(&mut out, FOOTER, [base.0, size as i64, arrived_ms, max_timestamp, entries.len() as i64].into_iter());
    out
}

fn push_page(out: &mut Vec<u8>, count: u16, numbers: impl Iterator<Item = i64>) {
    let mut page = Vec::with_capacity(PAGE_SIZE);
    page.extend_from_slice(&[0; 4]);
    page.extend_from_slice(&count.to_le_bytes());
    page.resize(HEAD_SIZE, 0);
    numbers.for_each(|number| page.extend_from_slice(&number.to_le_bytes()));
    page.resize(PAGE_SIZE, 0);
    let crc = crc32c::crc32c(&page[4..]);
    page[..4].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&page);
}

/// Count and numbers of a page whose CRC is right.
fn parse_page(page: &[u8]) -> Option<(u16, impl Iterator<Item = i64>)> {
    let crc = u32::from_le_bytes(*page.first_chunk()?);
    if page.len() != PAGE_SIZE || crc32c::crc32c(&page[4..]) != crc {
        return None;
    }
    let numbers = page[HEAD_SIZE..]
        .chunks_exact(8)
        .map(|bytes| i64::from_le_bytes(bytes.try_into().expect("chunks of eight bytes have eight bytes")));
    Some((u16::from_le_bytes([page[4], page[5]]), numbers))
}

impl IndexFile {
    /// Opens the index at `path`; `None` if there is none, or its footer is not right.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> io::Result<Option<IndexFile>> {
        let file = match disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let size = file.size()?;
        if size < PAGE_SIZE as u64 || !size.is_multiple_of(PAGE_SIZE as u64) {
            return Ok(None);
        }
        let mut page = [0; PAGE_SIZE];
        file.read_at(&mut page, size - PAGE_SIZE as u64)?;
        let Some((FOOTER, mut numbers)) = parse_page(&page) else { return Ok(None) };
        let mut next = || numbers.next().unwrap_or_default();
        let footer = Footer {
            base: Offset(next()),
            size: next() as u64,
            arrived_ms: next(),
            max_timestamp: next(),
            entries: next() as u64,
        };
        let is_whole = size == (footer.entries.div_ceil(ENTRIES_PER_PAGE as u64) + 1) * PAGE_SIZE as u64;
        Ok(is_whole.then_some(IndexFile { file, footer }))
    }

    pub(super) fn footer(&self) -> &Footer {
        &self.footer
    }

    /// The last entry for which `is_before` holds, which must hold for a first part of them; `None` if for none. Reads a page for each
    /// halving, ten at most.
    ///
    /// # Errors
    /// [`Bad`]: a page is damaged or cannot be read.
    pub(super) fn last(&self, is_before: impl Fn(&IndexEntry) -> bool) -> Result<Option<IndexEntry>, Bad> {
        let (mut low, mut high) = (0, self.footer.entries.div_ceil(ENTRIES_PER_PAGE as u64));
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let entries = self.page(middle)?;
            let count = entries.partition_point(&is_before);
            match count.checked_sub(1) {
                None => high = middle,
                Some(last) => {
                    found = Some(entries[last]);
                    if count < entries.len() {
                        break;
                    }
                    low = middle + 1;
                }
            }
        }
        Ok(found)
    }

    fn page(&self, number: u64) -> Result<Vec<IndexEntry>, Bad> {
        let mut page = [0; PAGE_SIZE];
        let read = self.file.read_at(&mut page, number * PAGE_SIZE as u64);
        let (count, numbers) = read.ok().and_then(|_| parse_page(&page)).ok_or(Bad)?;
        if !(1..=ENTRIES_PER_PAGE).contains(&usize::from(count)) {
            return Err(Bad);
        }
        let numbers: Vec<i64> = numbers.take(usize::from(count) * 3).collect();
        let entry = |n: &[i64]| IndexEntry { offset: Offset(n[0]), position: n[1] as u64, max_timestamp_before: n[2] };
        Ok(numbers.chunks_exact(3).map(entry).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::Sim;
    use proptest::prelude::*;

    const PATH: &str = "/d/0.index";

    fn entries(count: usize) -> Vec<IndexEntry> {
        let entry = |n: i64| IndexEntry {
            offset: Offset(n * 3),
            position: n as u64 * 70_000,
            max_timestamp_before: if n == 0 { -1 } else { n * 2 },
        };
        (0..count as i64).map(entry).collect()
    }

    fn written(count: usize) -> (Sim, Footer) {
        let sim = Sim::new(1);
        sim.create_folder(Path::new("/d")).unwrap();
        let footer = Footer { base: Offset(0), size: 99, arrived_ms: 7, max_timestamp: 1_000, entries: count as u64 };
        sim.replace(Path::new(PATH), &encode(&footer, &entries(count))).unwrap();
        (sim, footer)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_look_up_finds_what_a_plain_search_finds(count in 0usize..800, offset in -5i64..2_500) {
            let (sim, footer) = written(count);
            let index = IndexFile::open(&sim, Path::new(PATH)).unwrap().unwrap();
            prop_assert_eq!(index.footer(), &footer);
            let expected = entries(count).into_iter().rfind(|entry| entry.offset <= Offset(offset));
            prop_assert_eq!(index.last(|entry| entry.offset <= Offset(offset)).unwrap(), expected);
        }
    }

    #[test]
    fn a_flipped_bit_in_any_page_is_noticed_and_a_cut_file_is_no_index() {
        for at in (0..3 * PAGE_SIZE).step_by(97) {
            let (sim, _) = written(300);
            sim.flip(Path::new(PATH), at as u64 * 8 + 3);
            match IndexFile::open(&sim, Path::new(PATH)).unwrap() {
                None => assert!(at >= 2 * PAGE_SIZE, "byte {at}"),
                Some(index) => assert!(index.page((at / PAGE_SIZE) as u64).is_err(), "byte {at}"),
            }
        }
        for size in [0, 100, PAGE_SIZE, 2 * PAGE_SIZE, 3 * PAGE_SIZE - 1] {
            let (sim, _) = written(300);
            sim.cut(Path::new(PATH), size);
            assert!(IndexFile::open(&sim, Path::new(PATH)).unwrap().is_none(), "cut to {size}");
        }
    }
}
