//! A pipeline whose steps remember: records go through them one batch after the other, all outputs stand together, and where no record
//! comes a mark moves the time.

use super::lanes::Ready;
use super::plan::Transformed;
use super::runner::{Fail, Open, Runner};
use super::state::Times;
use crate::metrics as names;
use crate::record::{Offset, Record};
use std::time::Duration;
use tracing::warn;

/// A partition without records for so long is moved by a mark, to so long ago.
pub(super) const QUIET_AFTER: Duration = Duration::from_secs(30);

impl Runner {
    /// Takes rows through the steps that remember, if there are any.
    pub(super) fn remember(&mut self, open: &mut Open, id: i32, records: &[Record], ready: Ready) -> Ready {
        let plan = self.job.plan.clone();
        if !plan.is_stateful() {
            return ready;
        }
        let mut ready = ready;
        let rows = ready.routes.pop().unwrap_or_else(|| plan.no_rows());
        let state = open.states.of(id, &plan);
        let times = Times::of(records, state.time);
        let done = state.run(&plan, rows, &times, id);
        self.count_evicted(done.evicted);
        ready.bad.extend(done.faults);
        ready.bad.sort_by_key(|(index, _)| *index);
        ready.bad.dedup_by_key(|(index, _)| *index);
        ready.filtered.merge(&done.filtered);
        ready.routes = done.routes;
        ready
    }

    fn count_evicted(&self, count: u64) {
        let pipeline = self.job.spec.name.clone();
        metrics::counter!(names::STREAM_STATE_EVICTED.name, "pipeline" => pipeline).increment(count);
    }

    /// Moves the time of partitions in which nothing comes and something waits for it.
    pub(super) fn mark_quiet(&mut self, open: &mut Open) -> Result<(), Fail> {
        if !self.job.plan.is_stateful() || open.until.is_some() {
            return Ok(());
        }
        let quiet_after = self.hooks.quiet_after();
        let time = self.options.clock.now_ms() - quiet_after.as_millis() as i64;
        let mut due = open.states.due_at(time);
        due.retain(|id| open.quiet.get(id).is_none_or(|since| since.elapsed() >= quiet_after));
        if due.is_empty() {
            return Ok(());
        }
        // What the marks make must come again, and in the same place, if this run ends before it is cut.
        self.marks = due.into_iter().map(|id| (id, time)).collect();
        self.cut_together(open)?;
        self.settle_marks(open)
    }

    /// Lets go what the marks of the checkpoint let go, and cuts.
    pub(super) fn settle_marks(&mut self, open: &mut Open) -> Result<(), Fail> {
        if self.checkpoint.marks.is_empty() {
            return Ok(());
        }
        for (id, time) in self.checkpoint.marks.clone() {
            self.mark(open, id, time)?;
        }
        self.marks.clear();
        self.cut_together(open)
    }

    /// What the time of a partition lets go goes out as if it came of a record that is not there yet.
    fn mark(&mut self, open: &mut Open, id: i32, time: i64) -> Result<(), Fail> {
        let plan = self.job.plan.clone();
        let next = self.positions.get(&id).copied().unwrap_or(0);
        let record = Record { offset: Offset(next), timestamp: time, key: None, value: None, headers: Vec::new() };
        let records = [record];
        let state = open.states.of(id, &plan);
        let times = Times::of(&records, state.time);
        let Transformed { routes, faults, evicted, .. } = state.run(&plan, plan.no_rows(), &times, id);
        self.count_evicted(evicted);
        for (_, fault) in &faults {
            let text = format!("a row that time let go could not be written: {}", fault.message);
            warn!(pipeline = self.job.spec.name, partition = id, "{text}");
            self.status.warn(text);
        }
        for (at, rows) in routes.iter().enumerate() {
            self.write_mark(open, at, id, &records, rows)?;
        }
        Ok(())
    }

    /// Rows that time lets go have no letters: there is no record to keep.
    fn write_mark(
        &mut self,
        open: &mut Open,
        at: usize,
        id: i32,
        records: &[Record],
        rows: &super::step::Rows,
    ) -> Result<(), Fail> {
        let name = self.cut_name(&open.outlets[at].name, true);
        let outlet = &mut open.outlets[at];
        let Some(line) = &mut outlet.line else { return Ok(()) };
        let (shaped, unfit) = line.sink.shape(rows.batch.clone(), &rows.sources, records);
        for (_, fault) in &unfit {
            let text = format!("a row that time let go does not fit {}: {}", outlet.name, fault.message);
            warn!(pipeline = self.job.spec.name, partition = id, "{text}");
            self.status.warn(text);
        }
        let allowed = self.hooks.write(&self.job.spec.name, &outlet.name, records.iter().map(|record| record.offset.0));
        let written = allowed.and_then(|()| line.sink.write(id, &shaped, &rows.sources, records, &name));
        if let Err(error) = written {
            return Err(Fail::Down(format!("output {}: {}", outlet.name, error.reason())));
        }
        let written = (rows.len() - unfit.len()) as u64;
        outlet.written += written;
        metrics::counter!(names::STREAM_ROWS.name, "pipeline" => self.job.spec.name.clone()).increment(written);
        Ok(())
    }
}
