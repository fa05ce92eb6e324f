//! A pipeline whose steps remember: records go through them one batch after the other, all outputs stand together, and where no record
//! comes a mark moves the time.

use super::cut::CUT_SHARE;
use super::horizon::{Horizon, TOLD_FOR};
use super::lanes::Ready;
use super::plan::Watch;
use super::runner::{Fail, Open, Runner};
use super::sink::journal::Last;
use super::status::Crowded;
use super::step::{Pane, Sieve};
use super::tap::{Look, Passed};
use super::writing::Tried;
use crate::metrics as names;
use crate::record::{Offset, PartitionId, Record, TimestampType};
use std::borrow::Cow;
use std::time::{Duration, Instant};
use tracing::warn;

/// A partition without records for so long is moved by a mark, to so long ago.
pub(super) const QUIET_AFTER: Duration = Duration::from_secs(30);

/// Between a cut and the next mark.
const MARK_PAUSE_MIN: Duration = Duration::from_millis(200);

impl Runner {
    /// Takes rows through the steps that remember, if there are any; then also the records, between which stand those of rows that time let
    /// go.
    pub(super) fn remember<'r>(
        &mut self,
        open: &mut Open,
        id: i32,
        records: &'r [Record],
        mut ready: Ready,
    ) -> Result<(Cow<'r, [Record]>, Ready), Fail> {
        let plan = self.job.plan.clone();
        if !plan.is_stateful() {
            return Ok((records.into(), ready));
        }
        let rows = ready.routes.pop().unwrap_or_else(|| plan.no_rows());
        let mut look = self.life.taps().look();
        let watch = look.as_mut().map(|look| look as &mut dyn Watch);
        let horizon = self.horizon(id, records);
        let state = open.states.of(id, &plan);
        let told = |pane: &Pane| (pane.time(), pane.taken());
        let before = state.pane.as_ref().map(told);
        let done = state.run_watched(&plan, id, records, rows, ready.bad, &horizon, watch);
        match (before, state.pane.as_ref().map(told)) {
            (None, Some(_)) => open.waits.moved(id),
            (Some((time, _)), Some((now, _))) if now != time => open.waits.moved(id),
            (Some((_, taken)), Some((_, now))) if now != taken => open.waits.taken(id, self.hooks.quiet_after()),
            _ => {}
        }
        if let Some(look) = look {
            ready.sights.append(look.into_sights());
            ready.sights.place(&done.places);
        }
        self.note_ahead(id, records, &done, &horizon)?;
        self.count_evicted(done.evicted, done.filtered.of(Sieve::Full).into());
        ready.filtered.merge(&done.filtered);
        (ready.routes, ready.bad) = (done.routes, done.bad);
        Ok((done.records, ready))
    }

    /// Notes keys that left early, and rows that a window had no room for.
    fn count_evicted(&mut self, keys: u64, rows: u64) {
        let pipeline = self.job.spec.name.clone();
        metrics::counter!(names::STREAM_STATE_EVICTED.name, "pipeline" => pipeline).increment(keys);
        if keys + rows == 0 {
            return;
        }
        let crowded = &mut self.status.crowded;
        if crowded.at.is_none() {
            warn!(
                pipeline = self.job.spec.name,
                keys, rows, "what steps remember reached state-size-max: keys leave early, rows are in no window"
            );
        }
        crowded.keys += keys;
        crowded.rows += rows;
        crowded.at = Some(Instant::now());
    }

    /// What a person should know of steps that may not remember more.
    pub(super) fn crowded_warning(&self) -> Option<String> {
        let Crowded { keys, rows, at } = self.status.crowded;
        at.filter(|at| at.elapsed() < TOLD_FOR)?;
        let told = match (keys, rows) {
            (keys, 0) => format!("{keys} keys were let go before their time"),
            (0, rows) => format!("{rows} rows are in no window"),
            (keys, rows) => format!("{keys} keys were let go before their time, {rows} rows are in no window"),
        };
        Some(format!("state-size-max was reached: {told} since the pipeline started; raise it, or let keys go sooner"))
    }

    /// Moves the time of partitions in which nothing comes and a row waits for it.
    pub(super) fn mark_quiet(&mut self, open: &mut Open) -> Result<(), Fail> {
        self.look_for_ends(open);
        let pause = MARK_PAUSE_MIN.max(self.status.cut_took * CUT_SHARE);
        let is_soon = self.status.cut_at.is_some_and(|at| at.elapsed() < pause);
        let quiet_after = self.hooks.quiet_after();
        // Cuts that take long come one behind the other, and windows wait no longer for that.
        let is_starved = self.job.plan.window().is_some() && open.waits.since_marks() >= quiet_after;
        if !self.job.plan.is_stateful() || open.until.is_some() || is_soon && !is_starved {
            return Ok(());
        }
        let time = self.options.clock.now_ms().saturating_sub(quiet_after.as_millis().min(i64::MAX as u128) as i64);
        let is_quiet = |id: &i32| {
            // First: the tail is at least as new.
            let partition = open.topic.partition(PartitionId(*id)).filter(|partition| partition.is_fresh());
            let tail = partition.map(|partition| partition.tail().0);
            tail.is_some()
                && tail == self.positions.get(id).copied()
                && !self.is_held(*id)
                && open.quiet.get(id).is_some_and(|since| since.elapsed() >= quiet_after)
        };
        let mut due = open.states.due_at(&self.job.plan, time);
        due.retain(is_quiet);
        if due.is_empty() {
            return self.mark_windows(open, time);
        }
        // What the marks make must come again, and in the same place, if this run ends before it is cut.
        self.marks = due.into_iter().map(|id| (id, time)).collect();
        self.cut_together(open)?;
        self.settle_marks(open)
    }

    /// Lets go what the marks of the checkpoint let go, and cuts.
    pub(super) fn settle_marks(&mut self, open: &mut Open) -> Result<(), Fail> {
        if self.checkpoint.marks.is_empty() && self.checkpoint.window_marks.is_empty() {
            return Ok(());
        }
        for (id, time) in self.checkpoint.marks.clone() {
            self.mark(open, id, time)?;
        }
        self.settle_window_marks(open)?;
        self.marks.clear();
        self.window_marks.clear();
        self.cut_together(open)
    }

    /// What the time of a partition lets go goes out as if it came of a record that is not there yet.
    fn mark(&mut self, open: &mut Open, id: i32, time: i64) -> Result<(), Fail> {
        let plan = self.job.plan.clone();
        let next = self.positions.get(&id).copied().unwrap_or(0);
        let record = [Record { offset: Offset(next), timestamp: time, key: None, value: None, headers: Vec::new() }];
        let mut look = self.life.taps().look();
        let watch = look.as_mut().map(|look| look as &mut dyn Watch);
        let state = open.states.of(id, &plan);
        let done = state.run_watched(&plan, id, &record, plan.no_rows(), Vec::new(), &Horizon::NONE, watch);
        let mut sights = look.map(Look::into_sights).unwrap_or_default();
        sights.place(&done.places);
        self.life.taps().show(
            &self.job.spec,
            &Passed {
                partition: id,
                records: &done.records,
                routes: &done.routes,
                bad: &done.bad,
                passed_over: 0,
                sights: &sights,
            },
        );
        self.count_evicted(done.evicted, 0);
        let (kind, all) = (TimestampType::CreateTime, 0..done.records.len());
        for (at, rows) in done.routes.iter().enumerate() {
            let tried = self.try_write(open, at, id, kind, &done.records, rows, all.clone(), Last::More)?;
            let Tried::Done = tried else {
                return Err(Fail::Down(format!(
                    "output {}: it did not take what a mark let go",
                    open.outlets[at].name
                )));
            };
        }
        self.let_die(open, id, &done, Last::More)
    }
}
