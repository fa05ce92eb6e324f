//! `enrich`: columns of a table beside each row.

use super::super::enrich::LookUp;
use super::super::fault::{Fault, Reason};
use super::super::spec::Missing;
use super::{Found, Rows, Sieve};
use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

/// Looks rows up by the columns at `on`.
#[derive(Clone)]
pub(in crate::stream) struct Enrich {
    pub(in crate::stream) table: Arc<LookUp>,
    pub(in crate::stream) on: Vec<usize>,
    pub(in crate::stream) output: SchemaRef,
}

impl Enrich {
    /// Adds the columns. What the table does not have stays with nulls, is left out, or is bad, as the step says.
    pub(in crate::stream) fn run(&self, rows: Rows, found: &mut Found) -> Rows {
        let on: Vec<ArrayRef> = self.on.iter().map(|at| rows.batch.column(*at).clone()).collect();
        let (columns, has) = self.table.columns(&on).expect("the table was made for these columns");
        let all = rows.batch.columns().iter().cloned().chain(columns).collect();
        let batch = RecordBatch::try_new(self.output.clone(), all).expect("the columns are the schema's");
        let rows = Rows { batch, sources: rows.sources };
        match self.table.missing {
            Missing::Null => return rows,
            Missing::Drop => found.filtered.add(Sieve::NoMatch, has.iter().filter(|has| !**has).count()),
            Missing::Dead => {
                let message = "the table has no row of its key".into();
                let fault = Fault { reason: Reason::NoMatch, column: None, message };
                let missing = has.iter().zip(&rows.sources).filter(|(has, _)| !**has);
                found.faults.extend(missing.map(|(_, source)| (*source, fault.clone())));
            }
        }
        rows.filter(&BooleanArray::from(has)).expect("there is an answer a row")
    }
}
