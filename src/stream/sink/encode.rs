//! One Parquet file that grows: rows to column chunks, a column at a time on whichever thread is free, row groups to the file.
//!
//! Knows nothing of folders, names or cuts. At the settings: zstd pages, row groups of 32 MiB encoded, statistics for each chunk, and for
//! each page of what files are divided or sorted by; the first rows decide which columns get no dictionary, because nearly every value of
//! theirs is a new one.

use super::super::spec::ParquetOutput;
use super::place::Unfinished;
use super::sorting::Sorting;
use crate::work::{Pool, Task};
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;

/// Encoded bytes of a row group, all columns together. It is what an open file keeps in memory.
const ROW_GROUP_SIZE: usize = 32 << 20;
/// Rows of a row group, however small: `i32` is what some readers count in.
const ROW_GROUP_ROWS_MAX: usize = 16 << 20;
/// Rows of one page. Pages are bounded by their size of 1 MiB; small ones cost more than they spare anybody.
const PAGE_ROWS_MAX: usize = 100_000;
/// First rows that are looked at to find columns of ever new values; fewer than the least tell nothing.
const SAMPLE_ROWS_MAX: usize = 2_048;
const SAMPLE_ROWS_MIN: usize = 256;
/// What an open file takes beside its rows: buffers and schema; writers of its columns; what the footer will say of a column of a row group.
const FILE_BYTES: usize = 24 << 10;
const COLUMN_BYTES: usize = 3 << 10;
const CHUNK_BYTES: usize = 1 << 10;
/// A row group that holds less is not ended early: thousands of small ones would take more memory than they free.
const EARLY_MIN: usize = 256 << 10;
/// A bloom filter is told wrongly that a value may be there this often, and has room for so many values of a row group. It is folded to
/// what it needs when the row group ends.
const BLOOM_WRONG: f64 = 0.01;
const BLOOM_VALUES_MAX: u64 = 1 << 18;

/// A file that rows are encoded into.
pub(super) struct Encoder {
    pool: Arc<Pool>,
    schema: SchemaRef,
    file: SerializedFileWriter<Unfinished>,
    factory: ArrowRowGroupWriterFactory,
    /// Of the row group that is open; empty between two.
    columns: Vec<Column>,
    rows: usize,
    /// Rows that wait to be sorted, if they are to be.
    sorting: Option<Sorting>,
}

/// One output column of the open row group, with a writer for each leaf of it.
struct Column {
    field: FieldRef,
    writers: Vec<ArrowColumnWriter>,
}

impl Encoder {
    /// Begins a file; `first` are its first rows, which are not written by this.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn new(
        file: Unfinished,
        pool: &Arc<Pool>,
        spec: &ParquetOutput,
        metadata: Vec<KeyValue>,
        schema: SchemaRef,
        first: &RecordBatch,
    ) -> Result<Encoder> {
        let level = ZstdLevel::try_new(spec.compression_level)?;
        let sorting = Sorting::of(spec, &schema);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_data_page_row_count_limit(PAGE_ROWS_MAX)
            .set_key_value_metadata(Some(metadata));
        let properties = first.columns().iter().zip(schema.fields()).fold(properties, |properties, (array, field)| {
            if is_ever_new(array) { without_dictionary(properties, field) } else { properties }
        });
        let properties = with_indexes(properties, spec, sorting.as_ref());
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties.build()))?;
        let (file, factory) = writer.into_serialized_writer()?;
        Ok(Encoder { pool: pool.clone(), schema, file, factory, columns: Vec::new(), rows: 0, sorting })
    }

    /// Encodes rows; a full row group goes to the file.
    ///
    /// # Errors
    /// The disk's. The file is of no use then.
    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let Some(sorting) = &mut self.sorting else { return self.encode(rows) };
        sorting.push(rows);
        if sorting.memory_size() >= ROW_GROUP_SIZE || sorting.rows() >= ROW_GROUP_ROWS_MAX {
            self.end_row_group()?;
        }
        Ok(())
    }

    fn encode(&mut self, rows: &RecordBatch) -> Result<()> {
        if self.columns.is_empty() {
            self.begin_row_group()?;
        }
        let columns = std::mem::take(&mut self.columns).into_iter().zip(rows.columns().to_vec());
        let jobs = columns.map(|(mut column, array)| {
            move || {
                for (leaf, writer) in compute_leaves(&column.field, &array)?.iter().zip(&mut column.writers) {
                    writer.write(leaf)?;
                }
                Ok(column)
            }
        });
        self.columns = all(&self.pool, jobs)?;
        self.rows += rows.num_rows();
        if self.sorting.is_none() && (self.in_progress_size() >= ROW_GROUP_SIZE || self.rows >= ROW_GROUP_ROWS_MAX) {
            self.write_row_group()?;
        }
        Ok(())
    }

    /// Bytes so far, as they will be in the file.
    pub(super) fn size(&self) -> usize {
        let waiting = self.sorting.as_ref().map_or(0, Sorting::size_encoded);
        self.file.bytes_written() + self.in_progress_size() + waiting
    }

    /// Writes what is left and the footer; durable is it after the file's own finish.
    ///
    /// # Errors
    /// The disk's. The file is of no use then.
    pub(super) fn close(mut self, last: KeyValue) -> Result<Unfinished> {
        self.end_row_group()?;
        self.file.append_key_value_metadata(last);
        self.file.into_inner()
    }

    /// What the file takes in memory.
    pub(super) fn memory_size(&self) -> usize {
        let leaves = self.file.schema_descr().num_columns();
        let fixed = FILE_BYTES + leaves * (COLUMN_BYTES + CHUNK_BYTES * self.file.flushed_row_groups().len());
        self.row_group_memory() + self.file.inner().memory_size() + fixed
    }

    /// What of that [`Encoder::end_row_group`] frees, if it is worth it, or in `need` if it is anything.
    pub(super) fn freed_early(&self, need: bool) -> Option<usize> {
        Some(self.row_group_memory()).filter(|bytes| *bytes >= if need { 1 } else { EARLY_MIN })
    }

    fn row_group_memory(&self) -> usize {
        let waiting = self.sorting.as_ref().map_or(0, Sorting::memory_size);
        let writers = self.columns.iter().flat_map(|column| &column.writers);
        waiting + writers.map(ArrowColumnWriter::memory_size).sum::<usize>()
    }

    /// Takes away what is there of the file.
    pub(super) fn discard(mut self) {
        self.file.inner_mut().discard();
    }

    fn in_progress_size(&self) -> usize {
        self.columns.iter().flat_map(|column| &column.writers).map(ArrowColumnWriter::get_estimated_total_bytes).sum()
    }

    fn begin_row_group(&mut self) -> Result<()> {
        let mut writers = self.factory.create_column_writers(self.file.flushed_row_groups().len())?;
        let leaves = self.file.schema_descr();
        let root = |leaf: usize| leaves.get_column_root_idx(leaf);
        let mut counts = vec![0; self.schema.fields().len()];
        (0..leaves.num_columns()).for_each(|leaf| counts[root(leaf)] += 1);
        let columns = self.schema.fields().iter().zip(counts);
        self.columns = columns
            .map(|(field, count)| Column { field: field.clone(), writers: writers.drain(..count).collect() })
            .collect();
        Ok(())
    }

    /// Writes the open row group to the file, if there is one.
    ///
    /// # Errors
    /// The disk's. The file is of no use then.
    pub(super) fn end_row_group(&mut self) -> Result<()> {
        if let Some(sorted) = self.sorting.as_mut().map(Sorting::take).transpose()? {
            sorted.into_iter().try_for_each(|rows| self.encode(&rows))?;
        }
        self.write_row_group()
    }

    fn write_row_group(&mut self) -> Result<()> {
        self.rows = 0;
        if self.columns.is_empty() {
            return Ok(());
        }
        let jobs = std::mem::take(&mut self.columns).into_iter().map(|column| {
            move || column.writers.into_iter().map(ArrowColumnWriter::close).collect::<Result<Vec<ArrowColumnChunk>>>()
        });
        let chunks = all(&self.pool, jobs)?;
        let mut group = self.file.next_row_group()?;
        for chunk in chunks.into_iter().flatten() {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
    }
}

/// Runs the jobs, this thread among others, and gives the results in order.
fn all<T: Send + 'static>(
    pool: &Pool,
    jobs: impl Iterator<Item = impl FnOnce() -> Result<T> + Send + 'static>,
) -> Result<Vec<T>> {
    if pool.threads() == 0 {
        return jobs.map(|job| job()).collect();
    }
    let tasks: Vec<Task<Result<T>>> = jobs.map(|job| pool.offer(job)).collect();
    // The pool begins with the first, this thread with the last.
    let mut results: Vec<Result<T>> = tasks.into_iter().rev().map(Task::join).collect();
    results.reverse();
    results.into_iter().collect()
}

/// Whether more than half of the first values differ: a dictionary of such a column is as large as the column.
fn is_ever_new(array: &ArrayRef) -> bool {
    let rows = array.len().min(SAMPLE_ROWS_MAX);
    let kind = array.data_type();
    // Booleans have none, and what is nested has leaves of its own.
    if rows < SAMPLE_ROWS_MIN || kind.is_nested() || *kind == DataType::Boolean {
        return false;
    }
    let sample = array.slice(0, rows);
    let Ok(converter) = RowConverter::new(vec![SortField::new(kind.clone())]) else { return false };
    let Ok(values) = converter.convert_columns(&[sample]) else { return false };
    let distinct: HashSet<&[u8]> = values.iter().map(|row| row.data()).collect();
    distinct.len() > rows / 2
}

/// Statistics of pages for what files are divided or sorted by, bloom filters, and the order of rows.
fn with_indexes(
    properties: WriterPropertiesBuilder,
    spec: &ParquetOutput,
    sorting: Option<&Sorting>,
) -> WriterPropertiesBuilder {
    let path = |name: &str| ColumnPath::from(vec![name.to_owned()]);
    let by_page = spec.time.iter().map(String::as_str).chain(spec.sort.iter().map(|key| key.column.name.as_str()));
    let properties = by_page.fold(properties, |properties, name| {
        properties.set_column_statistics_enabled(path(name), EnabledStatistics::Page)
    });
    let properties = spec.bloom.iter().fold(properties, |properties, column| {
        properties
            .set_column_bloom_filter_enabled(path(&column.name), true)
            .set_column_bloom_filter_fpp(path(&column.name), BLOOM_WRONG)
            .set_column_bloom_filter_max_ndv(path(&column.name), BLOOM_VALUES_MAX)
    });
    match sorting {
        Some(sorting) => properties.set_sorting_columns(Some(sorting.columns())),
        None => properties,
    }
}

fn without_dictionary(properties: WriterPropertiesBuilder, field: &FieldRef) -> WriterPropertiesBuilder {
    let path = ColumnPath::from(vec![field.name().clone()]);
    let properties = properties.set_column_dictionary_enabled(path.clone(), false);
    match field.data_type() {
        DataType::Utf8 => properties.set_column_encoding(path, Encoding::DELTA_LENGTH_BYTE_ARRAY),
        kind if kind.is_integer() || kind.is_temporal() => {
            properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
        }
        // Pictures, numbers with a point and decimals as they are.
        _ => properties,
    }
}

/// The disk's own error out of Parquet's.
pub(super) fn disk_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(io) => *io,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}
