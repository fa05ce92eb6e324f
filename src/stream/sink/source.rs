//! `source-columns`: where in its topic each row comes from, as columns of a Parquet output, without a word of it in the SQL.

use super::super::spec::ParquetOutput;
use crate::record::Record;
use arrow::array::{ArrayRef, Int32Array, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

/// Where the record of a row stands in the pipeline's source, and its time in ms.
#[derive(Clone, Copy, Debug)]
pub(in crate::stream) struct RowOrigin {
    pub(in crate::stream) partition: i32,
    pub(in crate::stream) offset: i64,
    pub(in crate::stream) timestamp: i64,
}

impl RowOrigin {
    pub(in crate::stream) fn of(partition: i32, record: &Record) -> RowOrigin {
        RowOrigin { partition, offset: record.offset.0, timestamp: record.timestamp }
    }
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stream) enum SourceColumn {
    Partition,
    Offset,
    Timestamp,
}

impl SourceColumn {
    pub(in crate::stream) const ALL: [SourceColumn; 3] =
        [SourceColumn::Partition, SourceColumn::Offset, SourceColumn::Timestamp];

    pub(in crate::stream) fn name(self) -> &'static str {
        match self {
            SourceColumn::Partition => "_partition",
            SourceColumn::Offset => "_offset",
            SourceColumn::Timestamp => "_timestamp",
        }
    }

    fn kind(self) -> DataType {
        match self {
            SourceColumn::Partition => DataType::Int32,
            SourceColumn::Offset => DataType::Int64,
            SourceColumn::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    fn of(self, rows: usize, origin: &dyn Fn(usize) -> RowOrigin) -> ArrayRef {
        let origins = (0..rows).map(origin);
        match self {
            SourceColumn::Partition => Arc::new(origins.map(|origin| origin.partition).collect::<Int32Array>()),
            SourceColumn::Offset => Arc::new(origins.map(|origin| origin.offset).collect::<Int64Array>()),
            SourceColumn::Timestamp => {
                let micros = origins.map(|origin| origin.timestamp.saturating_mul(1_000));
                Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
            }
        }
    }
}

/// The columns of an output's files, of those that the steps make.
pub(in crate::stream) fn schema(spec: &ParquetOutput, rows: &SchemaRef) -> SchemaRef {
    if spec.source.is_empty() {
        return rows.clone();
    }
    let own = spec.source.iter().map(|column| Arc::new(Field::new(column.name(), column.kind(), true)));
    Arc::new(Schema::new(rows.fields().iter().cloned().chain(own).collect::<Vec<_>>()))
}

/// Rows with the columns of [`schema`].
pub(super) fn with_source(
    spec: &ParquetOutput,
    rows: RecordBatch,
    origin: &dyn Fn(usize) -> RowOrigin,
) -> Result<RecordBatch, ArrowError> {
    if spec.source.is_empty() {
        return Ok(rows);
    }
    let own = spec.source.iter().map(|column| column.of(rows.num_rows(), origin));
    RecordBatch::try_new(schema(spec, &rows.schema()), rows.columns().iter().cloned().chain(own).collect())
}
