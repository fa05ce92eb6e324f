//! Rows that wait in memory until a row group's worth of them is sorted. Order holds within a row group, not between two: to sort a file
//! would take all of its rows in memory.

use super::super::spec::ParquetOutput;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{SortColumn, SortOptions, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Fields, SchemaRef};
use arrow::record_batch::RecordBatch;
use parquet::errors::Result;
use parquet::file::metadata::SortingColumn;
use std::sync::Arc;

/// Sorted rows are copied and encoded in steps of so many.
const STEP_ROWS: usize = 65_536;
/// How much smaller rows are in the file than in memory, until it is known better.
const ENCODED_PART: usize = 4;

/// Rows of the open row group, as they came.
pub(super) struct Sorting {
    keys: Vec<Key>,
    waiting: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

struct Key {
    column: usize,
    /// Its place among the leaves of the file's schema.
    leaf: usize,
    options: SortOptions,
}

impl Sorting {
    /// `None` if rows stay in the order in which they came.
    pub(super) fn of(spec: &ParquetOutput, schema: &SchemaRef) -> Option<Sorting> {
        let key = |key: &super::super::spec::SortKey| {
            let column = schema.index_of(&key.column.name).ok()?;
            let leaf = leaves(&schema.fields()[..column].iter().cloned().collect());
            Some(Key { column, leaf, options: SortOptions { descending: key.is_descending, nulls_first: false } })
        };
        let keys: Vec<Key> = spec.sort.iter().filter_map(key).collect();
        (!keys.is_empty()).then(|| Sorting { keys, waiting: Vec::new(), rows: 0, bytes: 0 })
    }

    /// For the footer.
    pub(super) fn columns(&self) -> Vec<SortingColumn> {
        let column = |key: &Key| SortingColumn {
            column_idx: key.leaf as i32,
            descending: key.options.descending,
            nulls_first: key.options.nulls_first,
        };
        self.keys.iter().map(column).collect()
    }

    pub(super) fn push(&mut self, rows: &RecordBatch) {
        let columns = rows.columns().iter().map(own).collect();
        let rows = RecordBatch::try_new(rows.schema(), columns).unwrap_or_else(|_| rows.clone());
        self.rows += rows.num_rows();
        self.bytes += rows.get_array_memory_size();
        self.waiting.push(rows);
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn memory_size(&self) -> usize {
        self.bytes
    }

    /// About what the rows will take in the file.
    pub(super) fn size_encoded(&self) -> usize {
        self.bytes / ENCODED_PART
    }

    /// All rows in their order; none is left.
    ///
    /// # Errors
    /// None that is known: the columns can be sorted.
    pub(super) fn take(&mut self) -> Result<Vec<RecordBatch>> {
        (self.rows, self.bytes) = (0, 0);
        let waiting = std::mem::take(&mut self.waiting);
        let Some(first) = waiting.first() else { return Ok(Vec::new()) };
        let rows = concat_batches(&first.schema(), &waiting)?;
        drop(waiting);
        let columns: Vec<SortColumn> = self
            .keys
            .iter()
            .map(|key| SortColumn { values: rows.column(key.column).clone(), options: Some(key.options) })
            .collect();
        let order = lexsort_to_indices(&columns, None)?;
        let steps = (0..order.len()).step_by(STEP_ROWS);
        let step = |from: usize| take_record_batch(&rows, &order.slice(from, STEP_ROWS.min(order.len() - from)));
        Ok(steps.map(step).collect::<std::result::Result<_, _>>()?)
    }
}

/// Views of a few rows keep the bytes of all that were read with them; here they get their own.
fn own(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        _ => column.clone(),
    }
}

/// How many leaves the file's schema has for these columns.
fn leaves(fields: &Fields) -> usize {
    let of = |kind: &DataType| match kind {
        DataType::Struct(fields) => leaves(fields),
        DataType::List(field) | DataType::LargeList(field) | DataType::Map(field, _) => {
            leaves(&Fields::from(vec![field.clone()]))
        }
        _ => 1,
    };
    fields.iter().map(|field| of(field.data_type())).sum()
}
