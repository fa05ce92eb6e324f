//! CONTRACT STUB: `where` and `select` planned once: typed, checked against the columns, run per rows.

use super::fault::Fault;
use super::spec::{Column, Spec};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

/// A planned pipeline; cheap to share between threads.
pub struct Plan {
    pub columns: Vec<Column>,
    pub input: SchemaRef,
    pub output: SchemaRef,
}

/// What became of the rows given.
pub struct Transformed {
    pub rows: RecordBatch,
    /// For each output row the index of its input row, ascending.
    pub sources: Vec<u32>,
    pub faults: Vec<(u32, Fault)>,
    /// Rows that `where` rejected, by answer.
    pub rejected_false: u32,
    pub rejected_null: u32,
}

impl Plan {
    /// All mistakes at once, each with file, line, column.
    pub fn of(spec: &Spec) -> Result<Plan, Vec<crate::config::Mistake>> {
        let _ = spec;
        unimplemented!()
    }
    /// Columns actually read (declared columns that the SQL uses, plus record fields it names), in the order of `input`.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }
    pub fn input(&self) -> &SchemaRef {
        &self.input
    }
    /// Timestamps are microseconds UTC.
    pub fn output(&self) -> &SchemaRef {
        &self.output
    }
    pub fn run(&self, rows: &RecordBatch) -> Transformed {
        let _ = rows;
        unimplemented!()
    }
}
