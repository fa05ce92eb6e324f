//! What a crowd of records is to one output: its rows are shaped and written, what it refuses is tried again, and what it will never take
//! becomes a dead letter of its own.

use super::closing::WINDOWS;
use super::dead_letters::Letter;
use super::fault::{Fault, Reason};
use super::output::Waiting;
use super::runner::{Fail, NAP, Open, Runner};
use super::sink::WriteError;
use super::sink::journal::Last;
use super::sink::parquet::CutName;
use super::sink::source::RowOrigin;
use super::step::Rows;
use crate::letters::Letter as Stored;
use crate::metrics as names;
use crate::record::{Record, TimestampType};
use std::ops::Range;
use std::time::{Duration, Instant};

/// What became of records given to an output.
pub(super) enum Wrote {
    All,
    /// The output fell, or waits for one of them to be tried again: it is no longer where the others are.
    Waits,
}

/// What became of one attempt to write.
pub(super) enum Tried {
    Done,
    /// The output fell.
    Fell,
    /// The output has no room, and has taken nothing.
    Full,
    /// The record at this index is not taken, by the sink for the reason told, or because it never fits the output.
    Not(usize, Option<String>),
}

impl Runner {
    /// Where the pipeline is, for rows of one output.
    fn cut_name(&self, output: &str, last: Last) -> CutName {
        CutName {
            generation: self.checkpoint.outputs.get(output).map_or(0, |state| state.generation),
            cut: self.checkpoint.cut,
            now_ms: self.options.clock.now_ms(),
            last,
        }
    }

    /// The next attempt of a record, if it has one.
    pub(super) fn attempt(&self, offset: i64, before: Option<&Waiting>) -> Option<Waiting> {
        let attempts = before.filter(|held| held.offset == offset).map_or(0, |held| held.attempts);
        let until = Instant::now() + self.job.spec.on_error.backoff;
        (attempts < self.job.spec.on_error.retries).then(|| Waiting { offset, attempts: attempts + 1, until })
    }

    pub(super) fn count_retry(&mut self) {
        metrics::counter!(names::STREAM_RETRIES.name, "pipeline" => self.job.spec.name.clone()).increment(1);
        self.status.retries += 1;
    }

    /// Gives one output its rows of these records, and what it will never take to the dead letters.
    pub(super) fn write(
        &mut self,
        open: &mut Open,
        at: usize,
        id: i32,
        kind: TimestampType,
        records: &[Record],
        rows: &Rows,
    ) -> Result<Wrote, Fail> {
        let mut from = 0;
        loop {
            let rest = from..records.len();
            let (index, refused) = match self.try_write(open, at, id, kind, records, rows, rest, Last::Whole)? {
                Tried::Done => return Ok(Wrote::All),
                Tried::Fell => return Ok(Wrote::Waits),
                Tried::Full if self.stand_together(open) => {
                    self.make_room(open)?;
                    continue;
                }
                Tried::Full => return Ok(Wrote::Waits),
                Tried::Not(index, refused) => (index, refused),
            };
            // What stands before it is done first. Rows that time let go there have its offset, and go with it.
            let group = group_of(records, index);
            match self.try_write(open, at, id, kind, records, rows, from..group.start, Last::Whole)? {
                Tried::Done => {}
                Tried::Fell | Tried::Full => return Ok(Wrote::Waits),
                Tried::Not(..) => {
                    self.fall(open, at, "it refused a record that it had not refused before".to_owned())?;
                    return Ok(Wrote::Waits);
                }
            }
            let offset = records[index].offset.0;
            let outlet = &mut open.outlets[at];
            if id != WINDOWS {
                outlet.positions.insert(id, offset);
            }
            outlet.since.get_or_insert_with(Instant::now);
            if let Some(held) = self.attempt(offset, outlet.held.get(&id)) {
                outlet.held.insert(id, held);
                self.count_retry();
                if !self.stand_together(open) {
                    return Ok(Wrote::Waits);
                }
                // What the steps remember is past this record: nothing else goes on meanwhile.
                self.pause(self.job.spec.on_error.backoff)?;
                from = group.start;
                continue;
            }
            from = group.end;
            let is_buried = match refused {
                None => {
                    outlet.given_up = Some((id, offset));
                    let tried = self.try_write(open, at, id, kind, records, rows, group, Last::Whole)?;
                    matches!(tried, Tried::Done)
                }
                Some(message) => {
                    let fault = Fault { reason: Reason::SinkRefused, column: None, message: message.into() };
                    let letter = |record| Letter { record, fault: &fault, timestamp_type: kind, outputs: None };
                    let with_rows = group.filter(|index| rows.of_records(&(*index..index + 1)).len() > 0);
                    let letters: Vec<Letter<'_>> = with_rows.map(|index| letter(&records[index])).collect();
                    self.bury(open, at, id, &letters, Last::Whole)?
                }
            };
            if !is_buried {
                return Ok(Wrote::Waits);
            }
        }
    }

    /// Waits, beating.
    fn pause(&self, wait: Duration) -> Result<(), Fail> {
        let began = Instant::now();
        while began.elapsed() < wait {
            if self.life.is_stopping() {
                return Err(Fail::Down("it stops while a record waits for another attempt".to_owned()));
            }
            self.life.beat();
            std::thread::park_timeout(NAP.min(wait.saturating_sub(began.elapsed())));
        }
        Ok(())
    }

    /// One attempt to give one output its rows of some of the records. Those behind which more follow are of a mark: what the output never
    /// takes of them is not tried again.
    #[allow(clippy::too_many_arguments)] // Which output, which records of which partition, and their rows: a struct would have one use.
    pub(super) fn try_write(
        &mut self,
        open: &mut Open,
        at: usize,
        id: i32,
        kind: TimestampType,
        records: &[Record],
        rows: &Rows,
        some: Range<usize>,
        last: Last,
    ) -> Result<Tried, Fail> {
        if some.is_empty() {
            return Ok(Tried::Done);
        }
        let Rows { batch, sources } = rows.of_records(&some);
        let outlet = &mut open.outlets[at];
        let Some(line) = &mut outlet.line else { return Ok(Tried::Fell) };
        let batch = match line.keep(batch) {
            Ok(batch) => batch,
            Err(error) => {
                self.fall(open, at, error.reason())?;
                return Ok(Tried::Fell);
            }
        };
        // A letter's row is of the record that the letter is of.
        let origin = |row: usize| {
            let record = &records[sources[row] as usize];
            let own = RowOrigin::of(id, record);
            let Some(letter) = self.letter_of(record) else { return own };
            let origin = Stored::of(id, letter).origin(Some(self.job.spec.from.as_str()));
            RowOrigin { partition: origin.partition.unwrap_or(id), offset: origin.offset.unwrap_or(own.offset), ..own }
        };
        let batch = line.sink.sourced(batch, &origin).expect("there is an origin a row");
        let (shaped, unfit) = line.sink.shape(batch, &sources, records);
        let (dead, written) = dead_of(unfit, &sources);
        if let Some((index, _)) = dead.first().filter(|_| self.job.spec.on_error.retries_all && last == Last::Whole)
            && outlet.given_up != Some((id, records[*index as usize].offset.0))
        {
            return Ok(Tried::Not(*index as usize, None));
        }
        let name = self.cut_name(&outlet.name, last);
        let offsets = sources.iter().map(|at| records[*at as usize].offset.0);
        let allowed = self.hooks.write(&self.job.spec.name, &outlet.name, offsets);
        match allowed.and_then(|()| line.sink.write(id, &shaped, &sources, records, &name)) {
            Ok(()) => {}
            Err(WriteError::Down(reason)) => {
                self.fall(open, at, reason)?;
                return Ok(Tried::Fell);
            }
            Err(WriteError::Full) => return Ok(Tried::Full),
            Err(WriteError::Refused { offset, message }) => {
                let index = records[some.clone()].iter().position(|record| record.offset.0 == offset);
                return match index {
                    Some(index) => Ok(Tried::Not(some.start + index, Some(message))),
                    None => {
                        self.fall(open, at, format!("it refused a record that it was not given: {message}"))?;
                        Ok(Tried::Fell)
                    }
                };
            }
        }
        outlet.written += written;
        outlet.since.get_or_insert_with(Instant::now);
        let delivered = outlet.count();
        metrics::counter!(names::STREAM_ROWS.name, "pipeline" => self.job.spec.name.clone()).increment(delivered);
        let is_buried = self.bury(open, at, id, &letters(&dead, records, kind), last)?;
        Ok(if is_buried { Tried::Done } else { Tried::Fell })
    }

    /// Letters of what only this output does not take; says whether they are there, or else the output fell.
    pub(super) fn bury(
        &mut self,
        open: &mut Open,
        at: usize,
        id: i32,
        letters: &[Letter<'_>],
        last: Last,
    ) -> Result<bool, Fail> {
        let outlet = &mut open.outlets[at];
        let Some(line) = &mut outlet.line else { return Ok(false) };
        // Of a replay the letter itself fails again, with what its headers say of the times before.
        let whole = letters
            .iter()
            .map(|letter| Letter { record: self.letter_of(letter.record).unwrap_or(letter.record), ..*letter });
        let sent = line.letters.send(id, &whole.collect::<Vec<_>>(), last);
        if let Err(error) = sent {
            self.fall(open, at, error.to_string())?;
            return Ok(false);
        }
        outlet.dead += letters.len() as u64;
        self.life.taps().show_letters(id, &outlet.name, letters);
        for letter in letters {
            self.count_dead(letter.fault);
        }
        // An output that is behind reads what the breaker has counted.
        let front = self.positions.get(&id).copied().unwrap_or(0);
        let new = letters.iter().map(|letter| letter.record.offset.0).filter(|offset| *offset >= front);
        // Another output may not have taken the same record.
        self.watched.1 += new.filter(|offset| self.buried.insert(*offset)).count() as u64;
        Ok(true)
    }
}

/// Records with the offset of this one.
fn group_of(records: &[Record], index: usize) -> Range<usize> {
    let offset = records[index].offset;
    let start = records[..index].iter().rposition(|record| record.offset != offset).map_or(0, |at| at + 1);
    let count = records[start..].iter().take_while(|record| record.offset == offset).count();
    start..start + count
}

/// Letters of bad records, by index.
pub(super) fn letters<'a>(bad: &'a [(u32, Fault)], records: &'a [Record], kind: TimestampType) -> Vec<Letter<'a>> {
    let letter = |(at, fault): &'a (u32, Fault)| Letter {
        record: &records[*at as usize],
        fault,
        timestamp_type: kind,
        outputs: None,
    };
    bad.iter().map(letter).collect()
}

/// What an output does not take, once a record and ascending by its index, and how many of its rows are good.
fn dead_of(unfit: Vec<(u32, Fault)>, sources: &[u32]) -> (Vec<(u32, Fault)>, u64) {
    let mut dead: Vec<(u32, Fault)> = unfit.into_iter().map(|(row, fault)| (sources[row as usize], fault)).collect();
    dead.sort_by_key(|(index, _)| *index);
    dead.dedup_by_key(|(index, _)| *index);
    let is_dead = |source: &&u32| dead.binary_search_by_key(*source, |(index, _)| *index).is_ok();
    let lost = if dead.is_empty() { 0 } else { sources.iter().filter(is_dead).count() };
    (dead, (sources.len() - lost) as u64)
}
