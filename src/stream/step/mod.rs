//! Steps: what is done to rows between columns and routes, one after the other.

mod enrich;
mod evaluate;
mod guard;
mod json_lines;
mod keyed;
mod sample;
mod table;
mod transform;
mod unnest;
mod window;

pub(super) use enrich::Enrich;
pub(super) use json_lines::JsonLines;
pub(super) use keyed::{Cap, Course, Keyed, LetGo, What, session_fields};
pub(super) use sample::{SAMPLE_WHOLE, Sample};
pub(super) use table::{Keys, RowShape, Table};
pub(super) use transform::{Transform, output_type};
pub(super) use unnest::Unnest;
pub(super) use window::{
    Aggregate, Frame, Hop, Made, Pane, Parts, Pieces, Window, output_fields as window_fields, output_of,
};

use self::evaluate::{Finish, evaluate};
use super::fault::{Fault, Reason};
use arrow::array::{ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion_physical_expr::PhysicalExpr;
use std::ops::Range;
use std::sync::Arc;

/// Rows, and the record that each comes from.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    pub(super) batch: RecordBatch,
    /// By row the index of its record, ascending.
    pub(super) sources: Vec<u32>,
}

/// One step, planned.
#[derive(Clone)]
pub(super) enum Stage {
    Transform(Transform),
    Unnest(Unnest),
    Sample(Sample),
    Enrich(Enrich),
    Keyed(Keyed),
    Window(Box<Window>),
}

/// What steps found out beside rows.
#[derive(Default)]
pub(super) struct Found {
    /// Bad records by index.
    pub(super) faults: Vec<(u32, Fault)>,
    pub(super) filtered: Filtered,
    /// Keys that left before their time, for want of room.
    pub(super) evicted: u64,
    /// Rows whose time this machine's clock alone did not believe.
    pub(super) ahead: u32,
    /// The rows do not fit into memory, and what is found is worth nothing.
    pub(super) is_too_wide: bool,
}

/// Rows that are no output and not bad, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Filtered([u32; Sieve::ALL.len()]);

/// Why a row is no output: the label `reason` of `inrush_stream_filtered_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sieve {
    /// `where` was false.
    False,
    /// `where` was null.
    Null,
    /// A picture where fields of JSON are wanted.
    ContentType,
    /// A list without elements.
    Empty,
    /// Left out of a sample.
    Sample,
    /// No route takes it.
    NoRoute,
    /// `enrich` found no row of its key.
    NoMatch,
    /// `dedupe` has seen its key.
    Duplicate,
    /// `debounce` has sent one of its key.
    CoolDown,
    /// `last` has a newer one of its key.
    Replaced,
    /// All windows that it is in are over.
    Late,
    /// Its time is further ahead of when it was received than is believed.
    Future,
    /// A window goes by its time, which is null.
    NoTime,
    /// The windows of its partition have no more room.
    Full,
}

impl Sieve {
    pub(super) const ALL: [Sieve; 14] = [
        Sieve::False,
        Sieve::Null,
        Sieve::ContentType,
        Sieve::Empty,
        Sieve::Sample,
        Sieve::NoRoute,
        Sieve::NoMatch,
        Sieve::Duplicate,
        Sieve::CoolDown,
        Sieve::Replaced,
        Sieve::Late,
        Sieve::Future,
        Sieve::NoTime,
        Sieve::Full,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Sieve::False => "false",
            Sieve::Null => "null",
            Sieve::ContentType => "content-type",
            Sieve::Empty => "empty",
            Sieve::Sample => "sample",
            Sieve::NoRoute => "no-route",
            Sieve::NoMatch => "no-match",
            Sieve::Duplicate => "duplicate",
            Sieve::CoolDown => "cool-down",
            Sieve::Replaced => "replaced",
            Sieve::Late => "late",
            Sieve::Future => "future",
            Sieve::NoTime => "no-time",
            Sieve::Full => "full",
        }
    }
}

impl Filtered {
    pub(super) fn add(&mut self, reason: Sieve, count: usize) {
        self.0[reason as usize] += count as u32;
    }

    pub(super) fn of(&self, reason: Sieve) -> u32 {
        self.0[reason as usize]
    }

    /// Those that were met.
    pub(super) fn reasons(&self) -> impl Iterator<Item = (&'static str, u32)> + '_ {
        Sieve::ALL.into_iter().map(|reason| (reason.as_str(), self.of(reason))).filter(|(_, count)| *count > 0)
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|count| u64::from(*count)).sum()
    }

    /// What came to it since it was so.
    pub(super) fn since(&self, before: &Filtered) -> Filtered {
        let mut since = *self;
        since.0.iter_mut().zip(before.0).for_each(|(now, before)| *now -= before);
        since
    }

    pub(super) fn merge(&mut self, other: &Filtered) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own += other);
    }
}

impl Stage {
    pub(super) fn keyed(&self) -> Option<&Keyed> {
        match self {
            Stage::Keyed(keyed) => Some(keyed),
            Stage::Transform(_) | Stage::Unnest(_) | Stage::Sample(_) | Stage::Enrich(_) | Stage::Window(_) => None,
        }
    }

    pub(super) fn window(&self) -> Option<&Window> {
        match self {
            Stage::Window(window) => Some(window),
            Stage::Transform(_) | Stage::Unnest(_) | Stage::Sample(_) | Stage::Enrich(_) | Stage::Keyed(_) => None,
        }
    }
}

/// What SQL says of each row; records that it fails on are told, and null.
pub(super) fn truths(filter: &Arc<dyn PhysicalExpr>, rows: &Rows, found: &mut Found) -> BooleanArray {
    values(filter, &Ok, &DataType::Boolean, None, rows, found).as_boolean().clone()
}

/// What an expression gives for each row, which is of this type; records that it fails on are told, of the column named, and null.
fn values(
    expression: &Arc<dyn PhysicalExpr>,
    finish: Finish<'_>,
    kind: &DataType,
    column: Option<&str>,
    rows: &Rows,
    found: &mut Found,
) -> ArrayRef {
    let (values, bad) = evaluate(expression, finish, kind, &rows.batch);
    let fault = |(row, why): (usize, String)| (rows.sources[row], Fault::of(Reason::Expression, column, why));
    found.faults.extend(bad.into_iter().map(fault));
    values
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// The rows at these places.
    ///
    /// # Errors
    /// None that Arrow knows: places are of rows.
    pub(super) fn take(&self, places: Vec<u32>) -> Result<Rows, ArrowError> {
        if places.len() == self.len() && places.iter().enumerate().all(|(at, place)| at == *place as usize) {
            return Ok(self.clone());
        }
        let sources = places.iter().map(|place| self.sources[*place as usize]).collect();
        Ok(Rows { batch: take_record_batch(&self.batch, &UInt32Array::from(places))?, sources })
    }

    /// The rows of which `keep` is true.
    ///
    /// # Errors
    /// None that Arrow knows: there is an answer a row.
    pub(super) fn filter(&self, keep: &BooleanArray) -> Result<Rows, ArrowError> {
        if keep.true_count() == self.len() {
            return Ok(self.clone());
        }
        let sources =
            self.sources.iter().zip(keep).filter(|(_, keep)| *keep == Some(true)).map(|(at, _)| *at).collect();
        Ok(Rows { batch: filter_record_batch(&self.batch, keep)?, sources })
    }

    /// Those of some of the records, by index.
    pub(super) fn of_records(&self, some: &Range<usize>) -> Rows {
        let place = |index: usize| self.sources.partition_point(|source| (*source as usize) < index);
        let (from, to) = (place(some.start), place(some.end));
        Rows { batch: self.batch.slice(from, to - from), sources: self.sources[from..to].to_vec() }
    }

    /// Without those of records that are bad: what fails in one of its rows is a dead letter and no row.
    pub(super) fn without(self, faults: &[(u32, Fault)]) -> Rows {
        if faults.is_empty() {
            return self;
        }
        let bad: std::collections::HashSet<u32> = faults.iter().map(|(bad, _)| *bad).collect();
        let keep: BooleanArray = self.sources.iter().map(|source| Some(!bad.contains(source))).collect();
        self.filter(&keep).expect("there is an answer a row")
    }
}
