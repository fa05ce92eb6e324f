//! How far the partitions of an output topic are with those of the source, as marks on its batches say: of a topic here and of one in a
//! cluster elsewhere alike.

use super::row::Row;
use crate::record::{Batch, DECODED_SIZE_MAX, Record};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The header that says how far an output partition is; never copied from a source record.
pub(super) const SOURCE_HEADER: &[u8] = b"inrush-source";

/// How far an output partition is with a source partition: it has everything below `next`, and so many rows there, of the record or of what
/// time let go before it. Ordered as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::stream) struct Reached {
    pub(super) next: i64,
    /// The rows are the record's own.
    pub(super) is_of_record: bool,
    pub(super) rows: u32,
}

/// Ends the mark of rows that time let go.
const TIME: &str = "time";

impl Reached {
    /// Everything below, and nothing of what comes there.
    pub(super) fn below(next: i64) -> Reached {
        Reached { next, is_of_record: false, rows: 0 }
    }

    /// Whether a checkpoint at this position does not say as much. Rows at the position itself it does where time let them go: they are no
    /// rows of the record that will stand there. Those of a record that is half written must be known when it is read again.
    fn is_behind(self, position: Option<&i64>) -> bool {
        position.is_none_or(|position| self.next > *position || self.next == *position && self.is_of_record)
    }
}

/// What a call says of the last record whose rows it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stream) enum Last {
    /// These are all its rows.
    Whole,
    /// Time let them go before the record: its own follow, behind a cut.
    More,
}

/// Who writes, out of what.
#[derive(Clone, Copy, Debug)]
pub(in crate::stream) struct SourceTopic {
    pub(in crate::stream) pipeline: Uuid,
    pub(in crate::stream) topic: Uuid,
}

/// What an output topic has of its source.
pub(in crate::stream) struct Progress {
    /// By source partition: below it everything is there.
    floor: BTreeMap<i32, i64>,
    /// By source and output partition, where it is above the floor, and the offset of the batch that says so.
    held: BTreeMap<(i32, i32), (Reached, i64)>,
}

impl Progress {
    /// As a checkpoint with these positions says.
    pub(super) fn new(floor: &BTreeMap<i32, i64>) -> Progress {
        Progress { floor: floor.clone(), held: BTreeMap::new() }
    }

    /// By source and output partition: a batch was written, or found, at `offset`.
    pub(super) fn write(&mut self, pair: (i32, i32), reached: Reached, offset: i64) {
        if self.held.get(&pair).is_none_or(|(held, _)| *held <= reached) {
            self.held.insert(pair, (reached, offset));
        }
    }

    /// What is in this output partition already.
    pub(super) fn reached(&self, source: i32, partition: i32) -> Reached {
        let floor = Reached::below(self.floor.get(&source).copied().unwrap_or(0));
        self.held.get(&(source, partition)).map_or(floor, |(held, _)| *held).max(floor)
    }

    /// By output partition the first of the batches that say of a source partition more than `positions` do: what a run before has written
    /// behind a checkpoint the next start has to find again.
    pub(super) fn ahead(&self, positions: &BTreeMap<i32, i64>) -> BTreeMap<i32, i64> {
        let mut first: BTreeMap<i32, i64> = BTreeMap::new();
        for ((source, partition), (reached, offset)) in &self.held {
            if reached.is_behind(positions.get(source)) {
                let known = first.entry(*partition).or_insert(*offset);
                *known = (*known).min(*offset);
            }
        }
        first
    }

    /// By source partition what comes behind the last record of which at least one output partition has all rows.
    pub(in crate::stream) fn whole(&self) -> BTreeMap<i32, i64> {
        self.greatest(|reached| reached.next)
    }

    /// By source partition what comes behind the last record of which at least one output partition has a row. Rows that time let go stand
    /// before a record that may not be there yet.
    pub(in crate::stream) fn furthest(&self) -> BTreeMap<i32, i64> {
        self.greatest(|reached| reached.next + i64::from(reached.rows > 0))
    }

    fn greatest(&self, end: fn(&Reached) -> i64) -> BTreeMap<i32, i64> {
        let mut greatest: BTreeMap<i32, i64> = BTreeMap::new();
        for ((source, _), (reached, _)) in &self.held {
            let known = greatest.entry(*source).or_insert(end(reached));
            *known = end(reached).max(*known);
        }
        greatest
    }

    /// After a checkpoint at `positions`.
    pub(super) fn cut(&mut self, positions: &BTreeMap<i32, i64>) {
        self.floor.clone_from(positions);
        self.held.retain(|(source, _), (reached, _)| reached.is_behind(positions.get(source)));
    }
}

impl SourceTopic {
    pub(super) fn mark(&self, partition: i32, reached: Reached) -> String {
        let Reached { next, is_of_record, rows } = reached;
        let mark = format!("{} {} {partition} {next}", self.pipeline, self.topic);
        match (rows, is_of_record) {
            (0, _) => mark,
            (_, true) => format!("{mark} {rows}"),
            (_, false) => format!("{mark} {rows} {TIME}"),
        }
    }

    /// How far a batch says its output partition has come with a source partition, if it speaks of this source.
    pub(super) fn marked(&self, batch: &Batch) -> Option<(i32, Reached)> {
        // Our own batches always decode: their CRC was checked.
        let records = batch.records(DECODED_SIZE_MAX).unwrap_or_default();
        records.last().and_then(|record| self.mark_of(record))
    }

    fn mark_of(&self, record: &Record) -> Option<(i32, Reached)> {
        let (_, value) = record.headers.iter().rev().find(|(name, _)| name.as_ref() == SOURCE_HEADER)?;
        let text = std::str::from_utf8(value.as_deref()?).ok()?;
        let mut words = text.split(' ');
        let is_ours = words.next()?.parse() == Ok(self.pipeline) && words.next()?.parse() == Ok(self.topic);
        let (partition, next) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let rows = words.next().map_or(Ok(0), str::parse).ok()?;
        let is_of_record = rows > 0 && words.next() != Some(TIME);
        is_ours.then_some((partition, Reached { next, is_of_record, rows }))
    }
}

/// The rows that are not there yet, and how many rows of the first one's record are.
pub(super) fn missing<'r, 'a>(rows: &'r [Row<'a>], reached: Reached) -> (&'r [Row<'a>], u32) {
    let from = rows.partition_point(|row| row.offset < reached.next);
    let rest = &rows[from..];
    let of_record = rest.iter().take_while(|row| row.offset == reached.next).take(reached.rows as usize).count();
    (&rest[of_record..], of_record as u32)
}

/// How far an output partition is with `now`; `before` rows of the first one's record were there, `later` are the rows that follow.
pub(super) fn reached_by(now: &[Row<'_>], later: &[Row<'_>], before: u32, whole: Last) -> Reached {
    let Some(last) = now.last() else { return Reached::below(0) };
    let is_done = later.first().map_or(whole == Last::Whole, |row| row.offset != last.offset);
    if is_done {
        return Reached::below(last.offset + 1);
    }
    let of_record = now.iter().rev().take_while(|row| row.offset == last.offset).count();
    let before = if of_record == now.len() { before } else { 0 };
    Reached { next: last.offset, is_of_record: whole == Last::Whole, rows: before + of_record as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Offset;

    fn half(next: i64, rows: u32) -> Reached {
        Reached { next, is_of_record: true, rows }
    }

    fn of_time(next: i64, rows: u32) -> Reached {
        Reached { next, is_of_record: false, rows }
    }

    #[test]
    fn a_mark_is_read_by_its_own_pipeline_only() {
        let source = SourceTopic { pipeline: Uuid::new_v4(), topic: Uuid::new_v4() };
        let record = |value: &str| Record {
            offset: Offset(0),
            timestamp: 0,
            key: None,
            value: None,
            headers: vec![("inrush-source".into(), Some(value.to_owned().into()))],
        };
        for reached in [Reached::below(77), half(77, 5), of_time(77, 5)] {
            assert_eq!(source.mark_of(&record(&source.mark(3, reached))), Some((3, reached)));
            let other = SourceTopic { pipeline: Uuid::new_v4(), ..source };
            assert_eq!(other.mark_of(&record(&source.mark(3, reached))), None);
        }
        assert_eq!(source.mark_of(&record("rubbish")), None);
    }

    #[test]
    fn rows_that_time_let_go_at_a_cuts_position_are_none_of_the_record_that_comes_there_also_after_a_start() {
        let mut progress = Progress::new(&BTreeMap::from([(0, 5)]));
        progress.write((0, 2), of_time(5, 3), 70);
        progress.write((0, 1), half(7, 1), 40);
        assert_eq!(progress.ahead(&BTreeMap::from([(0, 4)])), BTreeMap::from([(1, 40), (2, 70)]));
        assert_eq!(progress.ahead(&BTreeMap::from([(0, 5)])), BTreeMap::from([(1, 40)]), "a start looks behind them");
        progress.cut(&BTreeMap::from([(0, 5)]));
        assert_eq!(progress.reached(0, 2), Reached::below(5));
        assert_eq!(progress.reached(0, 1), half(7, 1));
    }

    #[test]
    fn rows_of_a_half_written_record_outlive_a_cut_at_it() {
        let row = |offset| Row { offset, timestamp: 0, key: None, value: None, headers: Vec::new() };
        let rows: Vec<Row<'_>> = [5, 5, 5, 5].map(row).into();
        // The run before has written three of four rows, and time's two before them.
        let mut progress = Progress::new(&BTreeMap::from([(0, 4)]));
        progress.write((0, 2), of_time(5, 2), 60);
        progress.write((0, 2), reached_by(&rows[..3], &rows[3..], 0, Last::Whole), 70);
        // A start that reads again cuts where the record begins.
        let at = BTreeMap::from([(0, 5)]);
        assert_eq!(progress.ahead(&at), BTreeMap::from([(2, 70)]), "the next start does not see them");
        progress.cut(&at);
        let (rest, before) = missing(&rows, progress.reached(0, 2));
        assert_eq!((rest.len(), before), (1, 3));
    }

    #[test]
    fn rows_of_one_record_may_end_one_batch_and_begin_the_next() {
        let row = |offset| Row { offset, timestamp: 0, key: None, value: None, headers: Vec::new() };
        let rows: Vec<Row<'_>> = [4, 5, 5, 5, 5, 6].map(row).into();
        // However they are cut, and whenever that is taken up again, each row is written once.
        for cut in 1..rows.len() {
            let reached = reached_by(&rows[..cut], &rows[cut..], 0, Last::Whole);
            let (rest, before) = missing(&rows, reached);
            assert_eq!((rest.len(), before), (rows.len() - cut, reached.rows), "cut at {cut}");
            for second in 1..rest.len() {
                let reached = reached_by(&rest[..second], &rest[second..], before, Last::Whole);
                assert_eq!(missing(&rows, reached).0.len(), rest.len() - second, "cut at {cut} and {second} more");
            }
        }
        assert_eq!(reached_by(&rows, &[], 0, Last::Whole), Reached::below(7));
        assert_eq!(reached_by(&rows, &[], 0, Last::More), of_time(6, 1));
    }
}
