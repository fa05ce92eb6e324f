//! A cut: an output of a pipeline stands at a position, durably, and the checkpoint says so.
//!
//! Stage (files closed and synced with their folder), checkpoint, rename, sync of the folders up to the lake's root. A crash between any
//! two of these leaves a state that the next start finishes or throws away; see [`super::sink::staged::finish`].

use super::hooks::Step;
use super::output::{lines, lines_mut};
use super::runner::{Fail, NAP, Open, Runner};
use super::spec::{Output, Route};
use super::state::forget_others;
use crate::control::State;
use crate::metrics as names;
use crate::record::{Offset, PartitionId};
use std::collections::BTreeMap;
use std::ops::Range;

use std::time::{Duration, Instant};
use tracing::info;

/// How often a pipeline into a topic cuts: it bounds what a start has to look through.
const TOPIC_ROLL_AGE: Duration = Duration::from_secs(1);
/// A cut of a pipeline whose steps remember may take one part of so many of its time.
pub(super) const CUT_SHARE: u32 = 10;
/// How long a cut waits for the log to make durable what it was made of.
const DURABLE_PATIENCE: Duration = Duration::from_secs(10);

impl Runner {
    /// Cuts the outputs whose time has come.
    pub(super) fn cut_due(&mut self, open: &mut Open) -> Result<(), Fail> {
        let mut due = Vec::new();
        for at in 0..open.outlets.len() {
            let outlet = &mut open.outlets[at];
            let relieved = outlet.line.as_mut().map_or(Ok(()), |line| line.sink.relieve());
            if let Err(error) = relieved {
                self.fall(open, at, format!("cannot write files: {error}"))?;
                continue;
            }
            let is_full = outlet.line.as_mut().is_some_and(|line| {
                line.sink.look_around();
                line.sink.is_full() || line.sink.has_news()
            });
            if is_full || outlet.since.is_some_and(|since| since.elapsed() >= self.roll_age(open, at)) {
                due.push(at);
            }
        }
        match self.job.plan.is_stateful() {
            true if due.is_empty() => Ok(()),
            true => self.cut_together(open),
            false => due.into_iter().try_for_each(|at| self.cut(open, at)),
        }
    }

    /// Cuts those of a crowd that hold as much as they may, between two batches of records; who falls by that leaves the crowd.
    pub(super) fn cut_full(&mut self, open: &mut Open, crowd: &mut Vec<usize>) -> Result<(), Fail> {
        let is_full = |at: &usize| open.outlets[*at].line.as_mut().is_some_and(|line| line.sink.is_full());
        let full: Vec<usize> = crowd.iter().copied().filter(is_full).collect();
        match self.job.plan.is_stateful() {
            true if self.has_decided_much() || self.is_overdue(open) => self.cut_together(open)?,
            _ if full.is_empty() => return Ok(()),
            true => self.cut_together(open)?,
            false => full.into_iter().try_for_each(|at| self.cut(open, at))?,
        }
        crowd.retain(|at| open.outlets[*at].is_up());
        Ok(())
    }

    /// Whether a cut is due amid what was read: a web address that is slow may take long for all of it.
    fn is_overdue(&self, open: &Open) -> bool {
        let is_late = |(at, route): (usize, &Route)| {
            let since = open.outlets[at].since;
            matches!(route.to, Output::Http(_)) && since.is_some_and(|since| since.elapsed() >= self.roll_age(open, at))
        };
        self.job.spec.routes.iter().enumerate().any(is_late)
    }

    fn roll_age(&self, open: &Open, at: usize) -> Duration {
        // After a fall the first cut says whether it is well again.
        let is_unproven = open.outlets[at].down.is_unproven || self.status.is_unproven();
        let age = match &self.job.spec.routes[at].to {
            Output::Parquet(out) if !is_unproven => out.roll_age,
            Output::Parquet(out) => out.roll_age.min(TOPIC_ROLL_AGE),
            Output::Topic(_) | Output::Kafka(_) | Output::Http(_) | Output::Stdout => TOPIC_ROLL_AGE,
        };
        // What the steps remember is written whole each time.
        if self.job.plan.is_stateful() { age.max(self.status.cut_took * CUT_SHARE) } else { age }
    }

    /// Cuts all outputs that are not down.
    pub(super) fn cut_all(&mut self, open: &mut Open) -> Result<(), Fail> {
        match self.job.plan.is_stateful() {
            true => self.cut_together(open),
            false => (0..open.outlets.len()).try_for_each(|at| self.cut(open, at)),
        }
    }

    /// Cuts one output: closes its files, writes the checkpoint, gives the files their names. If that fails the output is down.
    pub(super) fn cut(&mut self, open: &mut Open, at: usize) -> Result<(), Fail> {
        let outlet = &open.outlets[at];
        if !outlet.is_up() {
            return Ok(());
        }
        if !outlet.is_ahead(&self.checkpoint) && self.positions == self.checkpoint.positions {
            open.outlets[at].rest();
            return Ok(());
        }
        self.settle_letters(open)?;
        match self.try_cut(open, at..at + 1) {
            Ok(()) => Ok(()),
            Err(reason) => self.fall(open, at, reason),
        }
    }

    /// Cuts all outputs at the same positions, with what the steps remember there.
    pub(super) fn cut_together(&mut self, open: &mut Open) -> Result<(), Fail> {
        // They are to stand at one place.
        self.settle_all(open, 0..open.outlets.len())?;
        let is_ahead = open.outlets.iter().any(|outlet| outlet.is_ahead(&self.checkpoint));
        if !is_ahead && self.positions == self.checkpoint.positions && self.has_marked() {
            open.outlets.iter_mut().for_each(|outlet| outlet.since = None);
            return Ok(());
        }
        self.cut_now(open)
    }

    /// As [`Runner::cut_together`], also if nothing has moved.
    pub(super) fn cut_now(&mut self, open: &mut Open) -> Result<(), Fail> {
        self.settle_letters(open)?;
        self.try_cut(open, 0..open.outlets.len()).map_err(Fail::Down)
    }

    /// Whether the checkpoint says of marks what the next one would.
    fn has_marked(&self) -> bool {
        self.marks == self.checkpoint.marks && self.window_marks == self.checkpoint.window_marks
    }

    /// Letters that are of no single output: without one of them no cut of any output may be made.
    fn settle_letters(&self, open: &mut Open) -> Result<(), Fail> {
        open.letters.settle().map_err(|error| Fail::Down(error.to_string()))
    }

    fn try_cut(&mut self, open: &mut Open, which: Range<usize>) -> Result<(), String> {
        let began = Instant::now();
        for line in lines_mut(&mut open.outlets[which.clone()]) {
            line.letters.settle().map_err(|error| error.to_string())?;
        }
        self.wait_until_durable(open, &which)?;
        let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        let mut next = self.checkpoint.clone();
        let (mut count, mut bytes) = (0, 0);
        let routes = &self.job.spec.routes[which.clone()];
        for (outlet, route) in open.outlets[which.clone()].iter_mut().zip(routes) {
            let (settled, delivered) = (outlet.settled(), outlet.delivered());
            let Some(line) = &mut outlet.line else { continue };
            let state = next.outputs.entry(outlet.name.clone()).or_default();
            let offsets = offsets(&state.positions, &settled);
            line.settle_files().map_err(failed("cannot store files"))?;
            let files = line.sink.close(&offsets).map_err(failed("cannot close the files"))?;
            count += files.len();
            bytes += files.iter().map(|file| file.size).sum::<u64>();
            state.positions = settled;
            let floor = open.states.floor(&state.positions);
            line.sink.note(state, &floor);
            state.letters = Some(line.letters.journal().state(&floor));
            state.files.extend(files);
            (state.written, state.dead) = (delivered, outlet.dead);
            if delivered > 0 {
                state.folders.extend(route.folders().cloned());
            }
        }
        self.hooks.at(Step::Staged);
        next.cut += 1;
        next.clock_ms = self.latest_ms();
        next.positions.clone_from(&self.positions);
        next.letters = Some(open.letters.journal().state(&open.states.floor(&self.positions)));
        next.counts = self.counts;
        next.marks.clone_from(&self.marks);
        next.window_marks.clone_from(&self.window_marks);
        let has_past_gone = self.forget_past(&mut next, open);
        next.beliefs.retain(|belief| belief.is_needed(&self.positions));
        let folder = self.folder();
        if self.job.plan.is_stateful() {
            let saved = open.states.save(&self.job.plan, &folder, next.cut);
            next.state = Some(saved.map_err(failed("cannot write what the steps remember"))?);
            self.hooks.at(Step::Remembered);
        }
        self.life.save(&next, &self.path).map_err(failed("cannot write the pipeline's checkpoint"))?;
        self.checkpoint = next;
        open.topic.commit(self.checkpoint.committed());
        let mut names = Vec::new();
        for outlet in &mut open.outlets[which] {
            let Some(line) = &mut outlet.line else { continue };
            let state = &self.checkpoint.outputs[&outlet.name];
            line.sink.cut(state, &open.states.floor(&state.positions));
            if let Some(letters) = &state.letters {
                line.letters.cut(letters, &open.states.floor(&state.positions));
            }
            outlet.rest();
            outlet.is_proven();
            names.push(outlet.name.clone());
        }
        if let Some(letters) = &self.checkpoint.letters {
            open.letters.cut(letters, &open.states.floor(&self.checkpoint.positions));
        }
        if has_past_gone {
            self.forget_tables();
        }
        self.status.cut_at = Some(Instant::now());
        self.hooks.at(Step::Saved);
        for name in &names {
            self.finish_files(name)?;
        }
        if self.job.plan.is_stateful() {
            forget_others(&folder, self.checkpoint.state.as_ref());
        }
        self.status.cut_took = self.hooks.cut_took(began.elapsed());
        let pipeline = self.job.spec.name.clone();
        metrics::counter!(names::STREAM_FILES.name, "pipeline" => pipeline.clone()).increment(count as u64);
        metrics::counter!(names::STREAM_SINK_BYTES.name, "pipeline" => pipeline.clone()).increment(bytes);
        metrics::histogram!(names::STREAM_CUT_SECONDS.name, "pipeline" => pipeline)
            .record(began.elapsed().as_secs_f64());
        if count > 0 {
            let rows: u64 = names.iter().map(|name| self.checkpoint.outputs[name].written).sum();
            let (cut, outputs) = (self.checkpoint.cut, names.join(", "));
            info!(pipeline = self.job.spec.name, outputs, files = count, cut, rows, "cut");
        }
        Ok(())
    }

    /// A checkpoint may not pass what a crash of the machine could still take away from the source, nor name ends of topics that are not
    /// durable. Topics that sync before they answer never wait here.
    fn wait_until_durable(&mut self, open: &Open, which: &Range<usize>) -> Result<(), String> {
        let began = Instant::now();
        let outlets = &open.outlets[which.clone()];
        let is_safe = |runner: &Runner| {
            let of_outlets = outlets.iter().flat_map(|outlet| &outlet.positions);
            let mut read = runner.positions.iter().chain(of_outlets);
            let source = read.all(|(id, next)| open.topic.is_durable(PartitionId(*id), Offset(*next)));
            let is_written = lines(outlets).all(|line| line.sink.is_durable() && line.letters.journal().is_durable());
            source && is_written && open.letters.journal().is_durable()
        };
        while !is_safe(self) {
            if began.elapsed() > DURABLE_PATIENCE {
                let seconds = DURABLE_PATIENCE.as_secs();
                return Err(format!("the log did not make what was read durable within {seconds} s"));
            }
            self.publish(State::Running, None);
            std::thread::park_timeout(NAP / 4);
        }
        Ok(())
    }
}

/// Which records a cut is made of: `PARTITION:FIRST..NEXT`, comma separated.
fn offsets(before: &BTreeMap<i32, i64>, now: &BTreeMap<i32, i64>) -> String {
    let range = |(partition, next): (&i32, &i64)| {
        let from = before.get(partition).copied().unwrap_or(0);
        (from != *next).then(|| format!("{partition}:{from}..{next}"))
    };
    now.iter().filter_map(range).collect::<Vec<_>>().join(",")
}
