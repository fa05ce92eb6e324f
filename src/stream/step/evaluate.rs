//! What an expression gives for each of many rows: what it gives for the row alone, whatever the rows beside it are. Who reads the records again
//! after a crash meets them in another company, and must find the same.

use super::super::caught::caught;
use super::super::sql::readable;
use super::guard::guarded;
use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use arrow::record_batch::RecordBatch;
use datafusion_common::Result as SqlResult;
use datafusion_physical_expr::PhysicalExpr;
use std::sync::Arc;

/// Rows that failed together are looked at in so many parts, each of which that fails in as many again: with few bad rows among many that
/// is two or three times the work of all rows, of one expression.
const PARTS: usize = 8;

/// What becomes of an evaluated array.
pub(super) type Finish<'a> = &'a dyn Fn(ArrayRef) -> SqlResult<ArrayRef>;

/// What an expression gives for each row, which is what it gives for the row alone; where it fails, or panics, on some of them, these, ascending,
/// each with why.
pub(super) fn evaluate(
    expression: &Arc<dyn PhysicalExpr>,
    finish: Finish<'_>,
    batch: &RecordBatch,
) -> Result<ArrayRef, Vec<(usize, String)>> {
    let of = |expression: &Arc<dyn PhysicalExpr>, batch: &RecordBatch| {
        caught(|| expression.evaluate(batch)?.into_array(batch.num_rows())).and_then(finish)
    };
    if let Ok(values) = of(expression, batch) {
        return Ok(values);
    }
    let guarded = guarded(expression);
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    match of(&guarded, batch) {
        Ok(values) => return Ok(values),
        Err(error) if batch.num_rows() <= 1 => bad.extend((0..batch.num_rows()).map(|row| (row, readable(&error)))),
        Err(_) => look(&|part| of(&guarded, part), batch, 0, &mut good, &mut bad),
    }
    let good: Vec<&dyn Array> = good.iter().map(AsRef::as_ref).collect();
    match concat(&good) {
        Ok(values) if bad.is_empty() => Ok(values),
        Err(error) if bad.is_empty() => Err((0..batch.num_rows()).map(|row| (row, error.to_string())).collect()),
        _ => Err(bad),
    }
}

/// Evaluates parts: what rows give, and which fail, each alone.
fn look(
    evaluate: &dyn Fn(&RecordBatch) -> SqlResult<ArrayRef>,
    batch: &RecordBatch,
    first: usize,
    good: &mut Vec<ArrayRef>,
    bad: &mut Vec<(usize, String)>,
) {
    let size = batch.num_rows().div_ceil(PARTS);
    for from in (0..batch.num_rows()).step_by(size.max(1)) {
        let part = batch.slice(from, size.min(batch.num_rows() - from));
        match evaluate(&part) {
            Ok(values) => good.push(values),
            Err(error) if part.num_rows() == 1 => bad.push((first + from, readable(&error))),
            Err(_) => look(evaluate, &part, first + from, good, bad),
        }
    }
}
