//! One output of a running pipeline: its sink, how far it is, and whether it waits. In a pipeline without state each output goes its own
//! way: one that is down or refuses a record waits alone, and reads the log again when it comes back.

use super::checkpoint::{Checkpoint, OutputState};
use super::dead_letters::DeadLetters;
use super::runner::{BACKOFF_MAX, BACKOFF_MIN, Open};
use super::sink::store::Store;
use super::sink::{Sink, WriteError};
use arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// An output by its place among the routes.
pub(super) struct Outlet {
    /// Such as `topic people`: the output's name in the checkpoint and in dead letters.
    pub(super) name: String,
    /// `None` while it is down.
    pub(super) line: Option<Line>,
    /// By source partition what comes next; behind the last cut it is not durable.
    pub(super) positions: BTreeMap<i32, i64>,
    /// By source partition the record that waits for another attempt.
    pub(super) held: BTreeMap<i32, Waiting>,
    /// The record whose last attempt has failed.
    pub(super) given_up: Option<(i32, i64)>,
    /// When the first record since the last cut was read.
    pub(super) since: Option<Instant>,
    /// Rows that it has taken.
    pub(super) written: u64,
    /// Rows that are counted in the metrics: those that are delivered.
    counted: u64,
    pub(super) dead: u64,
    pub(super) down: Down,
}

/// What is open of an output that is not down.
pub(super) struct Line {
    pub(super) sink: Box<dyn Sink>,
    /// For a column whose bytes become files.
    pub(super) store: Option<Store>,
    /// For what only this output does not take.
    pub(super) letters: DeadLetters,
    pub(super) opened: Instant,
}

impl Line {
    /// Rows with paths in the place of the bytes that become files; those are durable where readers see rows at once.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn keep(&mut self, rows: RecordBatch) -> Result<RecordBatch, WriteError> {
        let Some(store) = self.store.as_mut().filter(|_| rows.num_rows() > 0) else { return Ok(rows) };
        let kept = store.keep(&rows).and_then(|kept| {
            if self.sink.shows_at_once() {
                store.settle()?;
            }
            Ok(kept)
        });
        kept.map_err(|error| WriteError::Down(format!("cannot store files: {error}")))
    }

    /// What the next checkpoint's rows point to is durable.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn settle_files(&mut self) -> std::io::Result<()> {
        self.store.as_mut().map_or(Ok(()), Store::settle)
    }
}

/// What is open of some outputs.
pub(super) fn lines(outlets: &[Outlet]) -> impl Iterator<Item = &Line> {
    outlets.iter().filter_map(|outlet| outlet.line.as_ref())
}

/// The same, to be changed.
pub(super) fn lines_mut(outlets: &mut [Outlet]) -> impl Iterator<Item = &mut Line> {
    outlets.iter_mut().filter_map(|outlet| outlet.line.as_mut())
}

impl Open {
    /// By source partition what comes behind the last record of which an output or a dead letter topic has something.
    pub(super) fn furthest(&self) -> BTreeMap<i32, i64> {
        let of_lines =
            lines(&self.outlets).flat_map(|line| [line.sink.furthest(), line.letters.journal().progress().furthest()]);
        let mut furthest = self.letters.journal().progress().furthest();
        for (partition, next) in of_lines.flatten() {
            let known = furthest.entry(partition).or_insert(next);
            *known = next.max(*known);
        }
        furthest
    }

    /// By source partition how far the outputs are of a pipeline that is so far, at most as far as its source.
    pub(super) fn reach(&self, front: &BTreeMap<i32, i64>) -> BTreeMap<i32, i64> {
        let furthest = self.furthest();
        let reached = |id| [front, &furthest].into_iter().filter_map(|ends| ends.get(&id).copied()).max();
        let within = |(id, tail): (i32, i64)| Some((id, reached(id)?.min(tail)));
        self.tails().into_iter().filter_map(within).collect()
    }

    /// By source partition what comes behind its last record.
    pub(super) fn tails(&self) -> BTreeMap<i32, i64> {
        self.topic.partitions().iter().map(|partition| (partition.id().0, partition.tail().0)).collect()
    }

    /// After an error: what is open is thrown away, and the records are read again from the last cut.
    pub(super) fn discard(&mut self) {
        lines_mut(&mut self.outlets).for_each(|line| line.sink.discard());
    }
}

/// The kind of an output, by its name.
pub(super) fn kind_of(name: &str) -> &str {
    name.split(' ').next().unwrap_or(name)
}

/// A record that its output refused, and that is tried again.
pub(super) struct Waiting {
    pub(super) offset: i64,
    pub(super) attempts: u32,
    pub(super) until: Instant,
}

/// How an output is down, or was last.
#[derive(Default)]
pub(super) struct Down {
    pub(super) reason: Option<String>,
    until: Option<Instant>,
    pause: Duration,
    /// It fell with rows that no cut has made durable; until one does, nobody knows that it will not fall again.
    pub(super) is_unproven: bool,
}

impl Outlet {
    /// As it was at its last cut, and down until it is opened.
    pub(super) fn at_cut(name: &str, state: &OutputState) -> Outlet {
        Outlet {
            name: name.to_owned(),
            line: None,
            positions: state.positions.clone(),
            held: BTreeMap::new(),
            given_up: None,
            since: None,
            written: state.written,
            counted: state.written,
            dead: state.dead,
            down: Down::default(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.line.is_some()
    }

    /// Whether it takes records of this partition now. Where all outputs stand together each is offered them, and waited for if it has no
    /// room.
    pub(super) fn takes(&self, partition: i32, together: bool) -> bool {
        let has_room = self.line.as_ref().is_some_and(|line| together || line.sink.has_room(partition));
        has_room && self.held.get(&partition).is_none_or(|held| Instant::now() >= held.until)
    }

    /// It is open, and stands where its last cut was.
    pub(super) fn rise(&mut self, line: Line, checkpoint: &Checkpoint) {
        let state = checkpoint.outputs.get(&self.name).cloned().unwrap_or_default();
        let mut down = std::mem::take(&mut self.down);
        // Whoever has not answered yet is not known to be well.
        down.reason = down.reason.filter(|_| down.is_unproven || line.sink.stirred().is_some());
        down.until = None;
        // The pause grows on if it falls again soon.
        *self = Outlet { line: Some(line), down, ..Outlet::at_cut(&self.name, &state) };
    }

    /// It is closed for a while, and goes on from its last cut then.
    pub(super) fn fall(&mut self, reason: String, checkpoint: &Checkpoint) {
        let was_well = self.line.take().is_some_and(|mut line| {
            line.sink.discard();
            line.opened.elapsed() > BACKOFF_MAX
        });
        let state = checkpoint.outputs.get(&self.name).cloned().unwrap_or_default();
        let pause = if was_well { BACKOFF_MIN } else { self.down.pause.max(BACKOFF_MIN) };
        let down = Down {
            reason: Some(reason),
            until: Some(Instant::now() + pause),
            pause: (pause * 2).min(BACKOFF_MAX),
            is_unproven: self.down.is_unproven || self.positions != state.positions,
        };
        *self = Outlet { down, ..Outlet::at_cut(&self.name, &state) };
    }

    /// Somebody took rows of it: should it fall again, the pause begins small.
    pub(super) fn is_well(&mut self) {
        self.down.pause = Duration::ZERO;
        self.down.reason = None;
    }

    /// A cut has made durable what it took.
    pub(super) fn is_proven(&mut self) {
        if std::mem::take(&mut self.down.is_unproven) {
            self.is_well();
        }
    }

    /// Is not opened for so long at least, if it is down.
    pub(super) fn wait(&mut self, wait: Duration) {
        let until = Instant::now() + wait;
        self.down.until = self.down.until.map(|known| known.max(until));
    }

    /// By source partition what is delivered: below it nothing is on its way.
    pub(super) fn settled(&self) -> BTreeMap<i32, i64> {
        let mut settled = self.positions.clone();
        for (id, first) in self.line.iter().flat_map(|line| line.sink.unsettled()) {
            settled.entry(id).and_modify(|next| *next = first.min(*next));
        }
        settled
    }

    /// Rows that it has taken and delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.written.saturating_sub(self.line.as_ref().map_or(0, |line| line.sink.unsettled_rows()))
    }

    /// Rows that were delivered since the last call.
    pub(super) fn count(&mut self) -> u64 {
        let delivered = self.delivered();
        delivered.saturating_sub(std::mem::replace(&mut self.counted, delivered))
    }

    /// After a cut: when the next one is due counts from now, if there is something on its way, or from the next record.
    pub(super) fn rest(&mut self) {
        let is_settled = self.line.as_ref().is_none_or(|line| line.sink.unsettled_rows() == 0);
        self.since = (!is_settled).then(Instant::now);
    }

    /// Whether it is down and its pause is over.
    pub(super) fn is_due(&self) -> bool {
        !self.is_up() && self.down.until.is_none_or(|until| Instant::now() >= until)
    }

    /// Whether there is something to cut.
    pub(super) fn is_ahead(&self, checkpoint: &Checkpoint) -> bool {
        let is_empty = self.line.as_ref().is_none_or(|line| line.sink.is_empty() && !line.sink.has_news());
        !is_empty || checkpoint.outputs.get(&self.name).is_none_or(|state| state.positions != self.settled())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fell_with_rows_of_no_cut_is_well_again_with_a_cut_and_not_before() {
        let checkpoint = Checkpoint::new("");
        let mut outlet = Outlet::at_cut("parquet p", &OutputState::default());
        outlet.fall("no folder".to_owned(), &checkpoint);
        assert!(!outlet.down.is_unproven, "there was nothing that a cut would have made durable");
        outlet.positions.insert(0, 5);
        outlet.fall("the disk is full".to_owned(), &checkpoint);
        outlet.fall("it cannot be opened".to_owned(), &checkpoint);
        assert!(outlet.down.is_unproven && outlet.down.reason.as_deref() == Some("it cannot be opened"));
        outlet.is_proven();
        assert!(!outlet.down.is_unproven && outlet.down.reason.is_none());
    }
}
