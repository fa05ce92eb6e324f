//! A cut: an output of a pipeline stands at a position, durably, and the checkpoint says so.
//!
//! Stage (files closed and synced with their folder), checkpoint, rename, sync of the folders up to the lake's root. A crash between any
//! two of these leaves a state that the next start finishes or throws away; see [`super::sink::staged::finish`].

use super::hooks::Step;
use super::runner::{Fail, NAP, Open, Runner};
use super::sink::journal::is_durable;
use super::spec::Output;
use crate::control::State;
use crate::metrics as names;
use crate::record::{Offset, PartitionId};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tracing::info;

/// How often a pipeline into a topic cuts: it bounds what a start has to look through.
const TOPIC_ROLL_AGE: Duration = Duration::from_secs(1);
/// How long a cut waits for the log to make durable what it was made of.
const DURABLE_PATIENCE: Duration = Duration::from_secs(10);

impl Runner {
    /// Cuts the outputs whose time has come.
    pub(super) fn cut_due(&mut self, open: &mut Open) -> Result<(), Fail> {
        for at in 0..open.outlets.len() {
            let outlet = &open.outlets[at];
            let age = match &self.job.spec.routes[at].to {
                Output::Parquet(out) => out.roll_age,
                Output::Topic(_) => TOPIC_ROLL_AGE,
            };
            let is_full = outlet.line.as_ref().is_some_and(|line| line.sink.is_full());
            if is_full || outlet.since.is_some_and(|since| since.elapsed() >= age) {
                self.cut(open, at)?;
            }
        }
        Ok(())
    }

    /// Cuts all outputs that are not down.
    pub(super) fn cut_all(&mut self, open: &mut Open) -> Result<(), Fail> {
        (0..open.outlets.len()).try_for_each(|at| self.cut(open, at))
    }

    /// Cuts one output: closes its files, writes the checkpoint, gives the files their names. If that fails the output is down.
    fn cut(&mut self, open: &mut Open, at: usize) -> Result<(), Fail> {
        let outlet = &open.outlets[at];
        if !outlet.is_up() {
            return Ok(());
        }
        if !outlet.is_ahead(&self.checkpoint) && self.positions == self.checkpoint.positions {
            open.outlets[at].since = None;
            return Ok(());
        }
        match self.try_cut(open, at) {
            Ok(()) => Ok(()),
            Err(reason) => self.fall(open, at, reason),
        }
    }

    fn try_cut(&mut self, open: &mut Open, at: usize) -> Result<(), String> {
        let began = Instant::now();
        self.wait_until_durable(open, at)?;
        let outlet = &mut open.outlets[at];
        let Some(line) = &mut outlet.line else { return Ok(()) };
        let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        let mut next = self.checkpoint.clone();
        let state = next.outputs.entry(outlet.name.clone()).or_default();
        let offsets = offsets(&state.positions, &outlet.positions);
        let files = line.sink.close(&offsets).map_err(failed("cannot close the Parquet files"))?;
        self.hooks.at(Step::Staged);
        let (count, bytes) = (files.len(), files.iter().map(|file| file.size).sum::<u64>());
        let (topic, letters) = (line.sink.state(), line.letters.journal().state());
        state.positions.clone_from(&outlet.positions);
        state.topic.clone_from(&topic);
        state.letters = Some(letters.clone());
        state.files.extend(files);
        (state.written, state.dead) = (outlet.written, outlet.dead);
        let own_letters = open.letters.journal().state();
        next.cut += 1;
        next.positions.clone_from(&self.positions);
        next.letters = Some(own_letters.clone());
        next.counts = self.counts;
        self.life.save(&next, &self.path).map_err(failed("cannot write the pipeline's checkpoint"))?;
        line.sink.cut(topic.as_ref(), &outlet.positions);
        line.letters.cut(&letters, &outlet.positions);
        open.letters.cut(&own_letters, &next.positions);
        outlet.since = None;
        let name = outlet.name.clone();
        self.checkpoint = next;
        self.status.cut_at = Some(Instant::now());
        self.hooks.at(Step::Saved);
        self.finish_files(&name)?;
        let pipeline = self.job.spec.name.clone();
        metrics::counter!(names::STREAM_FILES.name, "pipeline" => pipeline.clone()).increment(count as u64);
        metrics::counter!(names::STREAM_SINK_BYTES.name, "pipeline" => pipeline.clone()).increment(bytes);
        metrics::histogram!(names::STREAM_CUT_SECONDS.name, "pipeline" => pipeline)
            .record(began.elapsed().as_secs_f64());
        if count > 0 {
            let (cut, rows) = (self.checkpoint.cut, self.checkpoint.outputs[&name].written);
            info!(pipeline = self.job.spec.name, output = name, files = count, cut, rows, "cut");
        }
        Ok(())
    }

    /// A checkpoint may not pass what a crash of the machine could still take away from the source, nor name ends of topics that are not
    /// durable. Topics that sync before they answer never wait here.
    fn wait_until_durable(&mut self, open: &Open, at: usize) -> Result<(), String> {
        let began = Instant::now();
        let outlet = &open.outlets[at];
        let is_safe = |runner: &Runner| {
            let mut read = runner.positions.iter().chain(&outlet.positions);
            let source = read.all(|(id, next)| match open.topic.partition(PartitionId(*id)) {
                Some(partition) => is_durable(&open.topic, &partition, Offset(*next)),
                None => true,
            });
            let is_written =
                outlet.line.as_ref().is_none_or(|line| line.sink.is_durable() && line.letters.journal().is_durable());
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
