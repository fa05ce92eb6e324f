//! What an expression gives for each of many rows: what it gives for the row alone, whatever the rows beside it are. Who reads the records again
//! after a crash meets them in another company, and must find the same.

use super::super::caught::caught;
use super::super::sql::readable;
use super::guard::guarded;
use arrow::array::{Array, ArrayRef, UInt32Array, new_null_array};
use arrow::compute::{concat, take};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion_common::Result as SqlResult;
use datafusion_physical_expr::PhysicalExpr;
use std::sync::Arc;

/// Rows that failed together are looked at in so many parts, each of which that fails in as many again: with few bad rows among many that
/// is two or three times the work of all rows, of one expression.
const PARTS: usize = 8;

/// What becomes of an evaluated array.
pub(super) type Finish<'a> = &'a dyn Fn(ArrayRef) -> SqlResult<ArrayRef>;

/// What an expression gives for each row, which is what it gives for the row alone; null where it fails on that, or panics: these rows,
/// ascending, each with why. `kind` is the type of what is finished.
pub(super) fn evaluate(
    expression: &Arc<dyn PhysicalExpr>,
    finish: Finish<'_>,
    kind: &DataType,
    batch: &RecordBatch,
) -> (ArrayRef, Vec<(usize, String)>) {
    let of = |expression: &Arc<dyn PhysicalExpr>, batch: &RecordBatch| {
        caught(|| expression.evaluate(batch)?.into_array(batch.num_rows())).and_then(finish)
    };
    let mut answer = of(expression, batch);
    let guarded = if answer.is_err() { guarded(expression) } else { None };
    if let Some(guarded) = &guarded {
        answer = of(guarded, batch);
    }
    let failure = match answer {
        Ok(values) => return (values, Vec::new()),
        Err(failure) => readable(&failure),
    };
    let all_fail = |why: &str| (0..batch.num_rows()).map(|row| (row, why.to_owned())).collect();
    if batch.num_rows() <= 1 {
        return (new_null_array(kind, batch.num_rows()), all_fail(&failure));
    }
    let expression = guarded.as_ref().unwrap_or(expression);
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    look(&|part| of(expression, part), batch, 0, &mut good, &mut bad);
    if good.is_empty() {
        return (new_null_array(kind, batch.num_rows()), bad);
    }
    match placed(&good, &bad, batch.num_rows()) {
        Ok(values) => (values, bad),
        Err(error) => (new_null_array(kind, batch.num_rows()), all_fail(&error.to_string())),
    }
}

/// Values of good rows where these stand among so many rows, null where the bad ones do.
fn placed(good: &[ArrayRef], bad: &[(usize, String)], rows: usize) -> Result<ArrayRef, ArrowError> {
    let good: Vec<&dyn Array> = good.iter().map(AsRef::as_ref).collect();
    let (mut next, mut bad) = (0.., bad.iter().map(|(row, _)| *row).peekable());
    let place = |row| if bad.next_if_eq(&row).is_some() { None } else { next.next() };
    let places: UInt32Array = (0..rows).map(place).collect();
    take(&concat(&good)?, &places, None)
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
