//! A record is in the output with all of its rows, or it is one dead letter: where one of its rows is bad, the others go too.

use super::fault::Fault;
use super::plan::Transformed;
use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;

/// Rows of which each belongs to a record, and the records that have none because they are bad.
pub(super) struct Settled {
    pub(super) rows: RecordBatch,
    /// For each row the index of its record, ascending.
    pub(super) sources: Vec<u32>,
    /// By index, ascending; each record once, with the first thing that was found.
    pub(super) bad: Vec<(u32, Fault)>,
}

/// Brings what decoding (`sources`, `faults`) and SQL said together. `sources` is by row of what went into the SQL.
pub(super) fn settle(sources: &[u32], faults: Vec<(u32, Fault)>, done: Transformed) -> Settled {
    let source = |row: u32| sources[row as usize];
    let mut bad = faults;
    bad.extend(done.faults.into_iter().map(|(row, fault)| (source(row), fault)));
    let sources = done.sources.into_iter().map(source).collect();
    spoil(Settled { rows: done.rows, sources, bad: Vec::new() }, bad)
}

/// The same with more bad records, whose rows are taken away.
pub(super) fn spoil(settled: Settled, more: Vec<(u32, Fault)>) -> Settled {
    let Settled { rows, sources, mut bad } = settled;
    bad.extend(more);
    bad.sort_by_key(|(at, _)| *at);
    bad.dedup_by_key(|(at, _)| *at);
    let is_good = |at: &u32| bad.binary_search_by_key(at, |(at, _)| *at).is_err();
    if bad.is_empty() || sources.iter().all(is_good) {
        return Settled { rows, sources, bad };
    }
    let kept: BooleanArray = sources.iter().map(|at| Some(is_good(at))).collect();
    let rows = filter_record_batch(&rows, &kept).expect("there is one answer for each row");
    let sources = sources.into_iter().filter(is_good).collect();
    Settled { rows, sources, bad }
}

#[cfg(test)]
mod tests {
    use super::super::fault::Reason;
    use super::*;
    use arrow::array::{AsArray, Int32Array};
    use arrow::datatypes::Int32Type;
    use std::sync::Arc;

    #[test]
    fn a_row_that_fails_takes_the_rows_of_its_record_along() {
        let column = Arc::new(Int32Array::from(vec![0, 1, 2, 4, 5]));
        let rows = RecordBatch::try_from_iter([("n", column as _)]).unwrap();
        let fault = |text: &'static str| Fault::of_value(Reason::Expression, text);
        // Records 0 (rows 0 and 1), 2 (rows 2, 3 and 4) and 3 (row 5); row 3 and record 1 failed.
        let done = Transformed {
            rows,
            sources: vec![0, 1, 2, 4, 5],
            faults: vec![(3, fault("row"))],
            rejected_false: 0,
            rejected_null: 0,
        };
        let settled = settle(&[0, 0, 2, 2, 2, 3], vec![(1, fault("record"))], done);
        assert_eq!(settled.sources, [0, 0, 3]);
        assert_eq!(settled.rows.column(0).as_primitive::<Int32Type>().values(), &[0, 1, 5]);
        assert_eq!(settled.bad, [(1, fault("record")), (2, fault("row"))]);
        let spoilt = spoil(settled, vec![(2, fault("again")), (3, fault("large"))]);
        assert_eq!((spoilt.sources, spoilt.bad.len()), (vec![0, 0], 3));
        assert_eq!(spoilt.bad[1].1.message, "row");
    }
}
