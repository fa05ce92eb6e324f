//! `where` and `select` over rows: evaluated together, and where that fails by halves, so that one bad row costs no other.

use super::super::fault::{Fault, Reason};
use super::super::sql::readable;
use super::{Found, Rows, Sieve};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::Result as SqlResult;
use datafusion_physical_expr::PhysicalExpr;
use std::sync::Arc;

/// Rows that failed together are halved down to this many, then looked at one by one.
const BISECT_TO: usize = 64;

/// A filter, then what each row becomes.
#[derive(Clone)]
pub(in crate::stream) struct Transform {
    pub(in crate::stream) filter: Option<Arc<dyn PhysicalExpr>>,
    /// One a column of `output`; `None` = all as they are.
    pub(in crate::stream) projections: Option<Vec<Arc<dyn PhysicalExpr>>>,
    pub(in crate::stream) output: SchemaRef,
}

impl Transform {
    /// Filters and projects; rows that an expression fails on are told, the others go through.
    pub(in crate::stream) fn run(&self, rows: Rows, found: &mut Found) -> Rows {
        let mut parts = Vec::new();
        self.run_part(&rows.batch, &rows.sources, &mut parts, found);
        if parts.len() == 1 {
            return parts.remove(0);
        }
        let batch = concat_batches(&self.output, parts.iter().map(|part| &part.batch));
        let batch = batch.expect("all parts have the output's schema");
        Rows { batch, sources: parts.into_iter().flat_map(|part| part.sources).collect() }
    }

    fn run_part(&self, batch: &RecordBatch, sources: &[u32], parts: &mut Vec<Rows>, found: &mut Found) {
        match self.evaluate(batch, sources) {
            Ok((rows, own)) => {
                parts.push(rows);
                found.merge(own);
            }
            Err(error) if batch.num_rows() <= 1 => {
                let fault = Fault { reason: Reason::Expression, column: None, message: readable(&error).into() };
                found.faults.extend(sources.iter().map(|source| (*source, fault.clone())));
            }
            Err(_) => {
                let step = if batch.num_rows() <= BISECT_TO { 1 } else { batch.num_rows().div_ceil(2) };
                for from in (0..batch.num_rows()).step_by(step) {
                    let count = step.min(batch.num_rows() - from);
                    self.run_part(&batch.slice(from, count), &sources[from..from + count], parts, found);
                }
            }
        }
    }

    /// Evaluates all rows or none.
    fn evaluate(&self, batch: &RecordBatch, sources: &[u32]) -> SqlResult<(Rows, Found)> {
        let mut found = Found::default();
        let mut rows = Rows { batch: batch.clone(), sources: sources.to_vec() };
        if let Some(filter) = &self.filter {
            let answers = filter.evaluate(batch)?.into_array(batch.num_rows())?;
            let answers: &BooleanArray = answers.as_boolean();
            rows = rows.filter(answers)?;
            found.filtered.add(Sieve::Null, answers.null_count());
            found.filtered.add(Sieve::False, batch.num_rows() - rows.len() - answers.null_count());
        }
        let Some(projections) = &self.projections else { return Ok((rows, found)) };
        let mut arrays = Vec::with_capacity(projections.len());
        let mut faults = Vec::new();
        for (expression, field) in projections.iter().zip(self.output.fields()) {
            let array = expression.evaluate(&rows.batch)?.into_array(rows.len())?;
            arrays.push(settled(array, field.data_type(), field.name(), &mut faults)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        rows.batch = RecordBatch::try_new_with_options(self.output.clone(), arrays, &options)?;
        if !faults.is_empty() {
            faults.sort_by_key(|(at, _): &(usize, Fault)| *at);
            faults.dedup_by_key(|(at, _)| *at);
            let is_good = |at: &u32| !faults.iter().any(|(bad, _)| *bad == *at as usize);
            let good: Vec<u32> = (0..rows.len() as u32).filter(is_good).collect();
            let good = rows.take(good)?;
            found.faults.extend(faults.into_iter().map(|(at, fault)| (rows.sources[at], fault)));
            rows = good;
        }
        Ok((rows, found))
    }
}

/// Brings an evaluated array to its output type; a timestamp that does not fit is a fault of its row.
fn settled(array: ArrayRef, kind: &DataType, name: &str, faults: &mut Vec<(usize, Fault)>) -> SqlResult<ArrayRef> {
    if array.data_type() == kind {
        return Ok(array);
    }
    let cast = cast_with_options(&array, kind, &CastOptions { safe: true, ..CastOptions::default() })?;
    for at in 0..array.len() {
        if cast.is_null(at) && !array.is_null(at) {
            let message = "the time is out of the range that can be written".into();
            faults.push((at, Fault { reason: Reason::TimeOutOfRange, column: Some(name.to_owned()), message }));
        }
    }
    Ok(cast)
}

/// The type that a column has in an output.
pub(in crate::stream) fn output_type(kind: &DataType) -> DataType {
    match kind {
        DataType::Timestamp(_, _) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Null => DataType::Utf8,
        other => other.clone(),
    }
}
