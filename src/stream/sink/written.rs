//! A file of a lake while it is written, whatever its form.

use super::encode::{Encoder, disk_error};
use super::lines::LineEncoder;
use super::place::Unfinished;
use arrow::record_batch::RecordBatch;
use parquet::file::metadata::KeyValue;
use std::io;

/// The forms that files of a lake have.
pub(super) enum Written {
    Parquet(Encoder),
    Lines(LineEncoder),
}

impl Written {
    /// # Errors
    /// The disk's. The file is of no use then.
    pub(super) fn write(&mut self, rows: &RecordBatch) -> io::Result<()> {
        match self {
            Written::Parquet(encoder) => encoder.write(rows).map_err(disk_error),
            Written::Lines(encoder) => encoder.write(rows),
        }
    }

    /// Bytes so far, as they will be in the file.
    pub(super) fn size(&self) -> u64 {
        match self {
            Written::Parquet(encoder) => encoder.size() as u64,
            Written::Lines(encoder) => encoder.size(),
        }
    }

    /// What of its memory [`Written::relieve`] would set free, if it is worth it, or in `need` if it is anything.
    pub(super) fn freed_early(&self, need: bool) -> Option<usize> {
        match self {
            Written::Parquet(encoder) => encoder.freed_early(need),
            Written::Lines(_) => None,
        }
    }

    /// Takes away what is there of the file.
    pub(super) fn discard(self) {
        match self {
            Written::Parquet(encoder) => encoder.discard(),
            Written::Lines(encoder) => encoder.discard(),
        }
    }

    pub(super) fn memory_size(&self) -> usize {
        match self {
            Written::Parquet(encoder) => encoder.memory_size(),
            Written::Lines(encoder) => encoder.memory_size(),
        }
    }

    /// Bytes in memory that a file of this kind has from its beginning.
    pub(super) fn least_size(&self) -> usize {
        match self {
            Written::Parquet(_) => 0,
            Written::Lines(encoder) => encoder.least_size(),
        }
    }

    /// Writes what is in memory to the file.
    ///
    /// # Errors
    /// The disk's. The file is of no use then.
    pub(super) fn relieve(&mut self) -> io::Result<()> {
        match self {
            Written::Parquet(encoder) => encoder.end_row_group().map_err(disk_error),
            Written::Lines(_) => Ok(()),
        }
    }

    /// Writes what is left; `offsets` are for a footer, if the form has one. Durable is it after the file's own finish.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn close(self, offsets: &str) -> io::Result<Unfinished> {
        match self {
            Written::Parquet(encoder) => {
                let offsets = KeyValue::new("inrush.offsets".to_owned(), offsets.to_owned());
                encoder.close(offsets).map_err(disk_error)
            }
            Written::Lines(encoder) => encoder.close(),
        }
    }
}
