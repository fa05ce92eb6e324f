//! Steps: what is done to rows between columns and routes, one after the other.

mod enrich;
mod keyed;
mod sample;
mod table;
mod transform;
mod unnest;

pub(super) use enrich::Enrich;
pub(super) use keyed::{Course, Keyed, LetGo, What, session_fields};
pub(super) use sample::{SAMPLE_WHOLE, Sample};
pub(super) use table::{Keys, RowShape, Table};
pub(super) use transform::{Transform, output_type};
pub(super) use unnest::Unnest;

use super::fault::{Fault, Reason};
use super::sql::readable;
use arrow::array::{Array, AsArray, BooleanArray, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion_common::Result as SqlResult;
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
}

/// What steps found out beside rows.
#[derive(Default)]
pub(super) struct Found {
    /// Bad records by index.
    pub(super) faults: Vec<(u32, Fault)>,
    pub(super) filtered: Filtered,
    /// Keys that left before their time, for want of room.
    pub(super) evicted: u64,
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
}

impl Sieve {
    pub(super) const ALL: [Sieve; 10] = [
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

    pub(super) fn merge(&mut self, other: &Filtered) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own += other);
    }
}

impl Found {
    pub(super) fn merge(&mut self, other: Found) {
        self.faults.extend(other.faults);
        self.filtered.merge(&other.filtered);
        self.evicted += other.evicted;
        self.is_too_wide |= other.is_too_wide;
    }
}

impl Stage {
    pub(super) fn keyed(&self) -> Option<&Keyed> {
        match self {
            Stage::Keyed(keyed) => Some(keyed),
            Stage::Transform(_) | Stage::Unnest(_) | Stage::Sample(_) | Stage::Enrich(_) => None,
        }
    }
}

/// What SQL says of each row; records that it fails on are told, and null.
pub(super) fn truths(filter: &Arc<dyn PhysicalExpr>, rows: &Rows, found: &mut Found) -> BooleanArray {
    let whole = |batch: &RecordBatch| -> SqlResult<BooleanArray> {
        Ok(filter.evaluate(batch)?.into_array(batch.num_rows())?.as_boolean().clone())
    };
    if let Ok(answers) = whole(&rows.batch) {
        return answers;
    }
    let mut one = |row: usize| match whole(&rows.batch.slice(row, 1)) {
        Ok(answer) => answer.is_valid(0).then(|| answer.value(0)),
        Err(error) => {
            let fault = Fault { reason: Reason::Expression, column: None, message: readable(&error).into() };
            found.faults.push((rows.sources[row], fault));
            None
        }
    };
    (0..rows.len()).map(&mut one).collect()
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
