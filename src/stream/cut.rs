//! A cut: all outputs of a pipeline stand at the same position, durably, and the checkpoint says so.
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
use std::time::{Duration, Instant};
use tracing::info;

/// How often a pipeline into a topic cuts: it bounds what a start has to look through.
const TOPIC_ROLL_AGE: Duration = Duration::from_secs(1);
/// How long a cut waits for the log to make durable what it was made of.
const DURABLE_PATIENCE: Duration = Duration::from_secs(10);

impl Runner {
    pub(super) fn is_cut_due(&self, open: &Open) -> bool {
        let age = match &self.job.spec.to {
            Output::Parquet(out) => out.roll_age,
            Output::Topic(_) => TOPIC_ROLL_AGE,
        };
        open.sink.is_full() || self.since.is_some_and(|since| since.elapsed() >= age)
    }

    /// Closes all files, writes the checkpoint, gives the files their names.
    pub(super) fn cut(&mut self, open: &mut Open) -> Result<(), Fail> {
        if open.sink.is_empty() && self.positions == self.checkpoint.positions {
            self.since = None;
            return Ok(());
        }
        let began = Instant::now();
        self.wait_until_durable(open)?;
        let failed = |what: &'static str| move |error: std::io::Error| Fail::Down(format!("{what}: {error}"));
        let files = open.sink.close(&self.offsets()).map_err(failed("cannot close the Parquet files"))?;
        self.hooks.at(Step::Staged);
        let (count, bytes) = (files.len(), files.iter().map(|file| file.size).sum::<u64>());
        let mut next = self.checkpoint.clone();
        next.cut += 1;
        next.positions.clone_from(&self.positions);
        next.output = open.sink.state();
        let letters = open.letters.journal().state();
        next.letters = Some(letters.clone());
        next.counts = self.counts;
        next.files.extend(files);
        self.life.save(&next, &self.path).map_err(failed("cannot write the pipeline's checkpoint"))?;
        open.sink.cut(next.output.as_ref(), &next.positions);
        open.letters.cut(&letters, &next.positions);
        self.checkpoint = next;
        self.since = None;
        self.status.cut_at = Some(Instant::now());
        self.hooks.at(Step::Saved);
        self.finish_files()?;
        let pipeline = self.job.spec.name.clone();
        metrics::counter!(names::STREAM_FILES.name, "pipeline" => pipeline.clone()).increment(count as u64);
        metrics::counter!(names::STREAM_SINK_BYTES.name, "pipeline" => pipeline.clone()).increment(bytes);
        metrics::histogram!(names::STREAM_CUT_SECONDS.name, "pipeline" => pipeline)
            .record(began.elapsed().as_secs_f64());
        if count > 0 {
            info!(
                pipeline = self.job.spec.name,
                files = count,
                cut = self.checkpoint.cut,
                rows = self.counts.written,
                "cut"
            );
        }
        Ok(())
    }

    /// A checkpoint may not pass what a crash of the machine could still take away from the source, nor name ends of topics that are not
    /// durable. Topics that sync before they answer never wait here.
    fn wait_until_durable(&mut self, open: &Open) -> Result<(), Fail> {
        let began = Instant::now();
        let is_safe = |runner: &Runner| {
            let source = runner.positions.iter().all(|(id, next)| match open.topic.partition(PartitionId(*id)) {
                Some(partition) => is_durable(&open.topic, &partition, Offset(*next)),
                None => true,
            });
            source && open.sink.is_durable() && open.letters.journal().is_durable()
        };
        while !is_safe(self) {
            if began.elapsed() > DURABLE_PATIENCE {
                return Err(Fail::Down(format!(
                    "the log did not make what was read durable within {} s",
                    DURABLE_PATIENCE.as_secs()
                )));
            }
            self.publish(State::Running, None);
            std::thread::park_timeout(NAP / 4);
        }
        Ok(())
    }

    /// Which records the cut is made of: `PARTITION:FIRST..NEXT`, comma separated.
    fn offsets(&self) -> String {
        let range = |(partition, next): (&i32, &i64)| {
            let from = self.checkpoint.positions.get(partition).copied().unwrap_or(0);
            (from != *next).then(|| format!("{partition}:{from}..{next}"))
        };
        self.positions.iter().filter_map(range).collect::<Vec<_>>().join(",")
    }
}
