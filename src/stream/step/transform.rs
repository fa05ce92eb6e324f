//! `where` and `select` over rows: evaluated together, and where that fails without the rows that the expression fails on alone.

use super::super::fault::{Fault, Reason};
use super::super::rows::{DAYS, MICROS};
use super::super::sql::readable;
use super::{Found, Rows, Sieve, evaluate};
use arrow::array::{Array, ArrayRef, ArrowNumericType, AsArray, BooleanArray, PrimitiveArray};
use arrow::compute::{CastOptions, cast_with_options, max, min};
use arrow::datatypes::{DataType, Date32Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::Result as SqlResult;
use datafusion_physical_expr::PhysicalExpr;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// Rows that an expression was evaluated for, and those of them that it fails on, each with why.
struct Failed {
    rows: Rows,
    bad: Vec<(usize, String)>,
}

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
    pub(in crate::stream) fn run(&self, mut rows: Rows, found: &mut Found) -> Rows {
        let mut dead = HashSet::new();
        loop {
            match self.evaluate(&rows) {
                Ok((mut made, own)) => {
                    found.merge(own);
                    // A record of which a row has failed is a dead letter, whatever its other rows were.
                    if !dead.is_empty() {
                        let is_good: BooleanArray =
                            made.sources.iter().map(|source| Some(!dead.contains(source))).collect();
                        made = made.filter(&is_good).expect("there is an answer a row");
                    }
                    return made;
                }
                // Its rows are taken out, and the others evaluated again without them: one pass more for each expression that fails.
                Err(Failed { rows: passed, mut bad }) => {
                    if bad.is_empty() {
                        // No expression of ours fails on none: and nothing may be lost, or be tried for ever, by one.
                        bad = (0..passed.len()).map(|row| (row, "the expression fails".to_owned())).collect();
                    }
                    for (row, why) in bad {
                        if dead.insert(passed.sources[row]) {
                            found.faults.push((passed.sources[row], Fault::of(Reason::Expression, None, why)));
                        }
                    }
                    let keep: BooleanArray = rows.sources.iter().map(|source| Some(!dead.contains(source))).collect();
                    rows = rows.filter(&keep).expect("there is an answer a row");
                }
            }
        }
    }

    /// Evaluates all rows, or says on which an expression failed: on one at least.
    fn evaluate(&self, all: &Rows) -> Result<(Rows, Found), Failed> {
        let mut found = Found::default();
        let mut rows = all.clone();
        // A constant that cannot be evaluated fails without any row, too; it is no row's fault.
        let none = || Rows { batch: RecordBatch::new_empty(self.output.clone()), sources: Vec::new() };
        if all.len() == 0 {
            return Ok((if self.projections.is_some() { none() } else { rows }, found));
        }
        if let Some(filter) = &self.filter {
            let answers = match evaluate(filter, &Ok, &rows.batch) {
                Ok(answers) => answers,
                Err(bad) => return Err(Failed { rows, bad }),
            };
            let answers: &BooleanArray = answers.as_boolean();
            let passed = rows.filter(answers).expect("there is an answer a row");
            found.filtered.add(Sieve::Null, answers.null_count());
            found.filtered.add(Sieve::False, rows.len() - passed.len() - answers.null_count());
            rows = passed;
        }
        let Some(projections) = &self.projections else { return Ok((rows, found)) };
        if rows.len() == 0 {
            return Ok((none(), found));
        }
        let mut arrays = Vec::with_capacity(projections.len());
        let mut faults = Vec::new();
        for (expression, field) in projections.iter().zip(self.output.fields()) {
            let array = match evaluate(expression, &Ok, &rows.batch) {
                Ok(array) => settled(array, field.data_type(), field.name(), &mut faults),
                Err(bad) => return Err(Failed { rows, bad }),
            };
            match array {
                Ok(array) => arrays.push(array),
                Err(error) => {
                    let bad = (0..rows.len()).map(|row| (row, readable(&error))).collect();
                    return Err(Failed { rows, bad });
                }
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let made = RecordBatch::try_new_with_options(self.output.clone(), arrays, &options);
        rows.batch = made.expect("each array was brought to its column's type");
        if !faults.is_empty() {
            faults.sort_by_key(|(at, _): &(usize, Fault)| *at);
            faults.dedup_by_key(|(at, _)| *at);
            let is_good = |at: &u32| faults.binary_search_by_key(&(*at as usize), |(bad, _)| *bad).is_err();
            let good: Vec<u32> = (0..rows.len() as u32).filter(is_good).collect();
            let good = rows.take(good).expect("places are of rows");
            found.faults.extend(faults.into_iter().map(|(at, fault)| (rows.sources[at], fault)));
            rows = good;
        }
        Ok((rows, found))
    }
}

/// Brings an evaluated array to its output type; a time that cannot be written is a fault of its row.
fn settled(array: ArrayRef, kind: &DataType, name: &str, faults: &mut Vec<(usize, Fault)>) -> SqlResult<ArrayRef> {
    let mut settled = array.clone();
    let mut unwritten = Vec::new();
    if array.data_type() != kind {
        settled = cast_with_options(&array, kind, &CastOptions { safe: true, ..CastOptions::default() })?;
        let nulls = array.logical_nulls();
        let was_null = |at: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(at));
        unwritten.extend((0..array.len()).filter(|at| settled.is_null(*at) && !was_null(*at)));
    }
    match kind {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            outside(settled.as_primitive::<TimestampMicrosecondType>(), MICROS, &mut unwritten);
        }
        DataType::Date32 => outside(settled.as_primitive::<Date32Type>(), DAYS, &mut unwritten),
        _ => {}
    }
    let message = "the time is out of the range that can be written";
    let fault = |at| (at, Fault::of(Reason::TimeOutOfRange, Some(name), message.to_owned()));
    faults.extend(unwritten.into_iter().map(fault));
    Ok(settled)
}

/// Places of values that are not within a range.
fn outside<T: ArrowNumericType>(array: &PrimitiveArray<T>, range: Range<T::Native>, found: &mut Vec<usize>) {
    let is_within = |value: &T::Native| range.contains(value);
    if !min(array).iter().chain(&max(array)).all(is_within) {
        found.extend((0..array.len()).filter(|at| array.is_valid(*at) && !is_within(&array.value(*at))));
    }
}

/// The type that a column has in an output.
pub(in crate::stream) fn output_type(kind: &DataType) -> DataType {
    match kind {
        DataType::Timestamp(_, _) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Null => DataType::Utf8,
        other => other.clone(),
    }
}
