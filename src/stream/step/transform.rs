//! `where` and `select` over rows: each expression is asked of all that are left, and those that it fails on go.

use super::super::fault::{Fault, Reason};
use super::super::rows::{DAYS, MICROS};
use super::super::sql::readable;
use super::{Found, Rows, Sieve, evaluate};
use arrow::array::{Array, ArrayRef, ArrowNumericType, AsArray, BooleanArray, PrimitiveArray};
use arrow::compute::{CastOptions, cast_with_options, filter, max, min};
use arrow::datatypes::{DataType, Date32Type, Field, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::Result as SqlResult;
use datafusion_physical_expr::PhysicalExpr;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// A filter, then what each row becomes.
#[derive(Clone)]
pub(in crate::stream) struct Transform {
    pub(in crate::stream) filter: Option<Arc<dyn PhysicalExpr>>,
    /// One a column of `output`; `None` = all as they are.
    pub(in crate::stream) projections: Option<Vec<Arc<dyn PhysicalExpr>>>,
    pub(in crate::stream) output: SchemaRef,
}

impl Transform {
    /// Filters and projects; records that an expression fails on for one of their rows are told, the others go through.
    pub(in crate::stream) fn run(&self, rows: Rows, found: &mut Found) -> Rows {
        let mut way = Way { rows, made: Vec::new(), found };
        if let Some(filter) = &self.filter {
            way.pass(filter);
        }
        let Some(projections) = &self.projections else { return way.rows };
        for (expression, field) in projections.iter().zip(self.output.fields()) {
            way.make(expression, field);
        }
        let Way { rows, made, .. } = way;
        if rows.len() == 0 {
            return Rows { batch: RecordBatch::new_empty(self.output.clone()), sources: Vec::new() };
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let made = RecordBatch::try_new_with_options(self.output.clone(), made, &options);
        Rows { batch: made.expect("each array was brought to its column's type"), sources: rows.sources }
    }
}

/// Rows on their way through expressions, and what these have made of them so far. None asks an expression where no rows are left: a constant
/// that cannot be evaluated fails without any row, too, and that is no row's fault.
struct Way<'a> {
    rows: Rows,
    made: Vec<ArrayRef>,
    found: &'a mut Found,
}

impl Way<'_> {
    /// Keeps the rows of which it is true.
    fn pass(&mut self, filter: &Arc<dyn PhysicalExpr>) {
        let Some(answers) = self.ask(filter, &DataType::Boolean) else { return };
        let answers: &BooleanArray = answers.as_boolean();
        let passed = self.rows.filter(answers).expect("there is an answer a row");
        self.found.filtered.add(Sieve::Null, answers.null_count());
        self.found.filtered.add(Sieve::False, self.rows.len() - passed.len() - answers.null_count());
        self.rows = passed;
    }

    /// Makes a column.
    fn make(&mut self, expression: &Arc<dyn PhysicalExpr>, field: &Field) {
        let Some(values) = self.ask(expression, field.data_type()) else { return };
        match settled(&values, field.data_type()) {
            Ok((settled, unwritten)) => {
                let message = "the time is out of the range that can be written";
                let fault = |row| (row, Fault::of(Reason::TimeOutOfRange, Some(field.name()), message.to_owned()));
                self.made.push(settled);
                self.lose(unwritten.into_iter().map(fault).collect());
            }
            Err(error) => {
                let why = readable(&error);
                let fault = |row| (row, Fault::of(Reason::Expression, None, why.clone()));
                self.lose((0..self.rows.len()).map(fault).collect());
            }
        }
    }

    /// What an expression gives for the rows that are left then: those that it fails on go. `None` = no rows are left.
    fn ask(&mut self, expression: &Arc<dyn PhysicalExpr>, kind: &DataType) -> Option<ArrayRef> {
        if self.rows.len() == 0 {
            return None;
        }
        let (values, bad) = evaluate(expression, &Ok, kind, &self.rows.batch);
        self.made.push(values);
        self.lose(bad.into_iter().map(|(row, why)| (row, Fault::of(Reason::Expression, None, why))).collect());
        self.made.pop().filter(|_| self.rows.len() > 0)
    }

    /// Bad rows go, with all others of their records: these are dead letters.
    fn lose(&mut self, bad: Vec<(usize, Fault)>) {
        if bad.is_empty() {
            return;
        }
        let mut dead = HashSet::new();
        for (row, fault) in bad {
            let source = self.rows.sources[row];
            if dead.insert(source) {
                self.found.faults.push((source, fault));
            }
        }
        let keep: BooleanArray = self.rows.sources.iter().map(|source| Some(!dead.contains(source))).collect();
        self.rows = self.rows.filter(&keep).expect("there is an answer a row");
        self.made.iter_mut().for_each(|made| *made = filter(made, &keep).expect("there is an answer a row"));
    }
}

/// An evaluated array as its output type, and the places of times that cannot be written.
fn settled(array: &ArrayRef, kind: &DataType) -> SqlResult<(ArrayRef, Vec<usize>)> {
    let mut settled = array.clone();
    let mut unwritten = Vec::new();
    if array.data_type() != kind {
        settled = cast_with_options(array, kind, &CastOptions { safe: true, ..CastOptions::default() })?;
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
    Ok((settled, unwritten))
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
