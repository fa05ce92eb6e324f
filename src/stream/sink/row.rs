//! Records that a pipeline writes to a topic, and the batches that they become: of a topic here and of one in a cluster elsewhere alike.

use super::reached::{Reached, SOURCE_HEADER};
use crate::record::{Batch, BatchBuilder, NewRecord, Producer, Record};

/// Uncompressed bytes of one batch.
pub(super) const BATCH_SIZE: usize = 512 << 10;
/// What a record adds to a batch beside its parts, at most.
const RECORD_OVERHEAD: usize = 64;
/// What batch header and source header take, at most.
const BATCH_OVERHEAD: usize = 256;

/// A record to be written.
pub(in crate::stream) struct Row<'a> {
    /// Of the source record.
    pub(in crate::stream) offset: i64,
    pub(in crate::stream) timestamp: i64,
    pub(in crate::stream) key: Option<&'a [u8]>,
    pub(in crate::stream) value: Option<&'a [u8]>,
    pub(in crate::stream) headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
}

impl Row<'_> {
    /// Its bytes in a batch, at most.
    pub(super) fn bound(&self) -> usize {
        let size = |(name, value): &(&[u8], Option<&[u8]>)| name.len() + value.map_or(0, <[u8]>::len) + 10;
        let headers: usize = self.headers.iter().map(size).sum();
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers + RECORD_OVERHEAD
    }
}

/// A record's headers without the mark of the pipeline that wrote it.
pub(in crate::stream) fn copied_headers(record: &Record) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let all = record.headers.iter().map(|(name, value)| (name.as_ref(), value.as_deref()));
    all.filter(|(name, _)| *name != SOURCE_HEADER)
}

/// How many of the first rows make one batch: at least one, and whole records if one fits.
pub(super) fn fitting(rows: &[Row<'_>], limit: usize) -> usize {
    let mut size = BATCH_OVERHEAD;
    let fits = |row: &&Row<'_>| {
        size += row.bound();
        size <= limit
    };
    let count = rows.iter().take_while(fits).count().max(1);
    let ends_record = |count: &usize| *count == rows.len() || rows[*count].offset != rows[count - 1].offset;
    (1..=count).rev().find(ends_record).unwrap_or(count)
}

/// The size of the smallest batch that holds a row, if that exceeds `limit`.
pub(super) fn too_large(
    row: &Row<'_>,
    limit: usize,
    batch: impl FnOnce(&[Row<'_>], Reached) -> Option<Batch>,
) -> Option<usize> {
    if row.bound() + BATCH_OVERHEAD <= limit {
        return None;
    }
    // It may still fit compressed.
    let reached = Reached { next: row.offset, is_of_record: false, rows: u32::MAX };
    let size = batch(std::slice::from_ref(row), reached).map_or(usize::MAX, |batch| batch.size());
    (size > limit).then_some(size)
}

/// The rows of a batch, of which the last says `mark`.
pub(super) fn filled(producer: Producer, rows: &[Row<'_>], mark: &str) -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    builder.producer(producer);
    for (at, row) in rows.iter().enumerate() {
        let is_last = at + 1 == rows.len();
        let mark = is_last.then_some((SOURCE_HEADER, Some(mark.as_bytes())));
        let headers: Vec<_> = row.headers.iter().copied().chain(mark).collect();
        builder.push(NewRecord { timestamp: row.timestamp, key: row.key, value: row.value, headers: &headers });
    }
    builder
}

/// Sequences wrap from 2^31−1 to 0.
pub(super) fn next_sequence(sequence: i32, count: i64) -> i32 {
    ((i64::from(sequence) + count) & i64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_as_kafkas() {
        assert_eq!((next_sequence(i32::MAX, 1), next_sequence(i32::MAX - 1, 3), next_sequence(7, 5)), (0, 1, 12));
    }
}
