//! What a pipeline tells of itself: its line on the board, and its gauges.

use super::output::{Outlet, lines};
use super::runner::{Open, Runner};
use super::source::Stretch;
use super::spec::{Output, Route};
use crate::control::{PipelineStatus, State, WindowWait};
use crate::metrics as names;
use crate::record::Offset;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

/// While nothing changes, status is published at most this often.
const INTERVAL: Duration = Duration::from_millis(100);
/// Warnings kept; older ones make room.
const WARNINGS_MAX: usize = 8;

/// What is remembered for the status.
#[derive(Default)]
pub(super) struct Board {
    pub(super) published: Option<(Instant, State)>,
    /// Greatest timestamp of the last batch read, by partition.
    read_to_ms: BTreeMap<i32, i64>,
    pub(super) cut_at: Option<Instant>,
    pub(super) cut_took: Duration,
    pub(super) retries: u64,
    pub(super) stalls: u64,
    warnings: Vec<String>,
    windows_wait_for: Vec<WindowWait>,
    /// When a time was last not believed.
    pub(super) ahead_at: Option<Instant>,
    pub(super) crowded: Crowded,
    fall: Option<Fall>,
    /// As the outputs were when they were last looked at; `None` = as in the checkpoint.
    progress: Option<Progress>,
}

/// An attempt that failed. While the next one lasts no longer than it, and has got no further, nobody knows that it will not fail too.
#[derive(Clone, Debug)]
struct Fall {
    why: String,
    /// For how long it is not known; `None` = until a cut, as long as there is something to cut.
    patience: Option<Duration>,
    /// When it is tried again.
    at: Instant,
    /// Schemas that were there then.
    answered: u64,
}

/// What hangs is given up before: an attempt that was longer was none of those.
const FALL_MAX: Duration = Duration::from_secs(15);

impl Fall {
    /// Of an attempt that lasted for so long, and is over now.
    fn new(why: String, lasted: Duration, answered: u64) -> Fall {
        let patience = Some(if lasted < FALL_MAX { lasted * 2 } else { Duration::ZERO });
        Fall { why, patience, at: Instant::now(), answered }
    }

    /// Whether no cut came since, which is made at that time.
    fn is_unproven(&self, cut_at: Option<Instant>) -> bool {
        self.patience.is_none() && cut_at.is_none_or(|at| at <= self.at)
    }

    /// Whether it still says how the pipeline is, which has so many schemas and made its last cut then.
    fn holds(&self, answered: u64, cut_at: Option<Instant>) -> bool {
        let is_further = answered != self.answered || cut_at.is_some_and(|at| at > self.at);
        !is_further && self.patience.is_none_or(|patience| self.at.elapsed() < patience)
    }
}

/// What came of a want of room for what steps remember.
#[derive(Clone, Copy, Default)]
pub(super) struct Crowded {
    /// Keys that left early.
    pub(super) keys: u64,
    /// Rows that are in no window.
    pub(super) rows: u64,
    /// When last.
    pub(super) at: Option<Instant>,
}

/// What all outputs of a pipeline have.
#[derive(Clone)]
struct Progress {
    /// By partition, of the output that is behind the others.
    positions: BTreeMap<i32, i64>,
    written: u64,
    /// Records that an output never took.
    dead: u64,
}

impl Board {
    /// Notes how far in time a partition was read.
    pub(super) fn read_to(&mut self, partition: i32, timestamp: i64) {
        self.read_to_ms.insert(partition, timestamp);
    }

    /// Whether the last attempt failed with rows that no cut has made durable since.
    pub(super) fn is_unproven(&self) -> bool {
        self.fall.as_ref().is_some_and(|fall| fall.is_unproven(self.cut_at))
    }

    /// Outputs are closed: they stand where the checkpoint says.
    pub(super) fn rewind(&mut self) {
        self.progress = None;
        self.windows_wait_for.clear();
    }

    /// Something that a person should look at, though the pipeline goes on; it stays until the pipeline starts again.
    pub(super) fn warn(&mut self, text: String) {
        if self.warnings.contains(&text) {
            return;
        }
        if self.warnings.len() == WARNINGS_MAX {
            self.warnings.remove(0);
        }
        self.warnings.push(text);
    }
}

impl Runner {
    /// Says how it is, and which of its outputs are down.
    pub(super) fn publish_running(&mut self, open: &Open) {
        let trouble = open.topic.trouble().map(|trouble| format!("source: {trouble}"));
        let down = open.outlets.iter().filter_map(|outlet| outlet.down.reason.as_deref());
        let waits = waiting(open);
        let down: Vec<&str> = down.chain(trouble.as_deref()).chain(waits.as_deref()).collect();
        let state = if down.is_empty() { State::Running } else { State::Stalled };
        let shown = if self.fallen(state).is_some() { State::Stalled } else { state };
        if !self.is_news(shown) {
            return self.life.beat();
        }
        let mut lowest = self.positions.clone();
        // What was taken and is not delivered is still to be done.
        for (id, next) in open.outlets.iter().flat_map(Outlet::settled) {
            lowest.entry(id).and_modify(|lowest| *lowest = next.min(*lowest));
        }
        self.status.progress = Some(Progress {
            positions: lowest,
            written: open.outlets.iter().map(Outlet::delivered).sum(),
            dead: open.outlets.iter().map(|outlet| outlet.dead).sum(),
        });
        self.status.windows_wait_for = self.windows_wait_for(open);
        let open_files: usize = lines(&open.outlets).map(|line| line.sink.open_files()).sum();
        for (metric, value) in [(names::STREAM_STATE_BYTES, open.states.size()), (names::STREAM_OPEN_FILES, open_files)]
        {
            metrics::gauge!(metric.name, "pipeline" => self.job.spec.name.clone()).set(value as f64);
        }
        self.publish(state, (!down.is_empty()).then(|| down.join("; ")));
    }

    /// Says how it is while it waits for an output.
    pub(super) fn publish_waiting(&mut self, open: &Open) {
        match waiting(open) {
            Some(why) => self.publish(State::Stalled, Some(why)),
            None => self.publish(State::Running, None),
        }
    }

    /// Whether it is time to say how it is.
    fn is_news(&self, state: State) -> bool {
        let is_fresh = |(at, known): &(Instant, State)| *known == state && at.elapsed() < INTERVAL;
        !self.status.published.as_ref().is_some_and(is_fresh) && self.life.has_seat()
    }

    /// Gives a sign of life, and says how it is.
    pub(super) fn publish(&mut self, state: State, reason: Option<String>) {
        self.life.beat();
        let (state, reason) = match self.fallen(state) {
            Some(why) => (State::Stalled, Some(why)),
            None => (state, reason),
        };
        if !self.is_news(state) {
            return;
        }
        self.status.published = Some((Instant::now(), state));
        // Also while it is paused or rests.
        let chore = self.pace.begin();
        self.tell(state, reason);
        self.pace.end(chore);
    }

    /// Notes that an attempt has failed that lasted for so long; what comes is another one. `is_unproven`: with rows that no cut has made
    /// durable.
    pub(super) fn note_fall(&mut self, why: String, lasted: Duration, is_unproven: bool) {
        let fall = Fall::new(why, lasted, self.answered());
        let patience = fall.patience.filter(|_| !is_unproven);
        self.status.fall = Some(Fall { patience, ..fall });
    }

    /// Why it is as stalled as before, though it tries again.
    fn fallen(&mut self, state: State) -> Option<String> {
        let fall = self.status.fall.clone().filter(|_| state == State::Running)?;
        let cut_at = self.status.cut_at;
        let has_more =
            !fall.is_unproven(cut_at) || self.positions != self.checkpoint.positions || self.lag().records > 0;
        (has_more && fall.holds(self.answered(), cut_at)).then(|| format!("{}; it is tried again now", fall.why))
    }

    fn tell(&mut self, state: State, reason: Option<String>) {
        if let Some(replay) = self.replay.clone() {
            return self.publish_replay(&replay, state, reason);
        }
        let lag = self.lag();
        let pipeline = &self.job.spec.name;
        let gauge = |metric: names::Metric, value: f64| {
            metrics::gauge!(metric.name, "pipeline" => pipeline.clone()).set(value);
        };
        gauge(names::STREAM_LAG_RECORDS, lag.records as f64);
        gauge(names::STREAM_LAG_SECONDS, lag.seconds);
        let retention_ms = self.known_source().and_then(|topic| topic.retention_ms());
        gauge(names::STREAM_RETENTION_USED, retention_ms.map_or(0.0, |ms| lag.seconds * 1e3 / ms.max(1) as f64));
        let output = |route: &Route| match &route.to {
            Output::Parquet(out) if out.store.is_some() => route.to.to_string(),
            Output::Parquet(out) => format!("{} {}", out.kind(), self.options.out.join(&out.folder).display()),
            other => other.to_string(),
        };
        let outputs = self.job.spec.routes.iter().map(output);
        let progress = self.progress();
        self.options.control.publish(PipelineStatus {
            name: pipeline.clone(),
            file: self.job.spec.file.display().to_string(),
            state,
            reason,
            warnings: self
                .status
                .warnings
                .iter()
                .cloned()
                .chain(self.life.note())
                .chain(self.ahead_warning())
                .chain(self.clock_warning())
                .chain(self.crowded_warning())
                .chain(self.table_warnings())
                .chain(self.known_source().and_then(|source| source.withheld_warning()))
                .chain(lag.warning().filter(|_| state == State::Paused))
                .collect(),
            source: self.job.spec.source(),
            outputs: outputs.chain([format!("dead letters {}", self.job.spec.on_error.then)]).collect(),
            positions: progress.positions,
            committed: self.checkpoint.committed(),
            lag_records: lag.records,
            lag_seconds: lag.seconds,
            records_read: self.counts.read,
            rows_written: progress.written,
            filtered: self.counts.filtered,
            dead_letters: self.counts.dead + progress.dead,
            retries: self.status.retries,
            stalls: self.status.stalls,
            cpu: self.pace.told(),
            windows_wait_for: self.status.windows_wait_for.clone(),
            beat_ms: self.options.clock.now_ms(),
            cut_ms: self.status.cut_at.map(|at| self.options.clock.now_ms() - at.elapsed().as_millis() as i64),
        });
    }

    /// How far all outputs are.
    fn progress(&self) -> Progress {
        self.status.progress.clone().unwrap_or_else(|| Progress {
            positions: self.checkpoint.committed(),
            written: self.checkpoint.written(),
            dead: self.checkpoint.dead(),
        })
    }

    /// Each partition's start is read once: retention moves it meanwhile, and what is told must agree.
    fn lag(&mut self) -> Lag {
        let partitions = self.known_source().map(|topic| topic.partitions()).unwrap_or_default();
        let positions = self.progress().positions;
        let now_ms = self.options.clock.now_ms();
        let (mut lag, mut oldest_ms) = (Lag::default(), now_ms);
        for partition in partitions.iter() {
            let start = partition.start();
            let next = positions.get(&partition.id().0).map_or(start, |next| Offset(*next));
            let readable = next.max(start);
            lag.gone += readable.0 - next.0;
            let tail = partition.tail();
            if tail > readable {
                lag.records += tail.0 - readable.0;
                oldest_ms = oldest_ms.min(self.read_to_ms(partition, next).unwrap_or(now_ms));
            }
        }
        lag.seconds = (now_ms - oldest_ms) as f64 / 1000.0;
        lag
    }

    /// The time up to which a partition was read; of one that was not read yet, that of its next batch.
    fn read_to_ms(&mut self, partition: &Stretch, next: Offset) -> Option<i64> {
        let known = match self.status.read_to_ms.entry(partition.id().0) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(unknown) => {
                let header = partition.glance(next.max(partition.start()))?;
                // Compaction writes another time there: when tombstones go.
                *unknown.insert(header.delete_horizon().map_or(header.base_timestamp, |_| header.max_timestamp))
            }
        };
        // Clients may set no time at all.
        (known >= 0).then_some(known)
    }
}

/// How far a pipeline is behind the end of its topic.
#[derive(Default)]
struct Lag {
    /// Records that are still to be read.
    records: i64,
    /// The age of the oldest of them.
    seconds: f64,
    /// Records that left the log unread.
    gone: i64,
}

impl Lag {
    fn warning(&self) -> Option<String> {
        (self.gone > 0).then(|| {
            format!("{} records left the log while the pipeline was paused, unread, and count as no lag: inrush pipeline resume goes on behind them; raise retention.ms", self.gone)
        })
    }
}

/// Why an output has delivered nothing for a while, though it is not given up.
fn waiting(open: &Open) -> Option<String> {
    let mut waits =
        open.outlets.iter().filter_map(|outlet| Some((&outlet.name, outlet.line.as_ref()?.sink.trouble()?)));
    waits.next().map(|(name, why)| format!("output {name}: {why}; it is tried again in its place"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_fallen_is_up_again_when_it_gets_on_or_lasts_longer_than_before() {
        let s = Duration::from_secs;
        let fall = |lasted, ago| {
            let fall = Fall::new("no answer".to_owned(), lasted, 3);
            Fall { at: fall.at.checked_sub(ago).unwrap(), ..fall }
        };
        assert!(fall(s(10), s(0)).holds(3, None) && fall(s(10), s(12)).holds(3, None), "it hangs for 10 s each time");
        assert!(!fall(s(10), s(21)).holds(3, None), "it lasts longer");
        assert!(!fall(s(10), s(1)).holds(4, None) && !fall(s(10), s(1)).holds(3, Some(Instant::now())), "it gets on");
        assert!(fall(s(10), s(1)).holds(3, Instant::now().checked_sub(s(2))), "a cut of before is none");
        assert!(!fall(s(0), s(0)).holds(3, None), "who falls at once shows nothing else");
        let unproven = |ago| Fall { patience: None, ..fall(s(8 * 3_600), ago) };
        assert!(unproven(s(3_600)).holds(3, None) && unproven(s(1)).is_unproven(None), "rows wait for a cut");
        assert!(!unproven(s(1)).is_unproven(Some(Instant::now())) && !fall(s(1), s(1)).is_unproven(None));
        assert!(!fall(s(8 * 3_600), s(0)).holds(3, None), "a good day says nothing of the next hour");
    }
}
