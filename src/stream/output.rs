//! One output of a running pipeline: its sink, how far it is, and whether it waits. In a pipeline without state each output goes its own
//! way: one that is down or refuses a record waits alone, and reads the log again when it comes back.

use super::checkpoint::{Checkpoint, OutputState};
use super::dead_letters::DeadLetters;
use super::runner::{BACKOFF_MAX, BACKOFF_MIN};
use super::sink::Sink;
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
    pub(super) held: BTreeMap<i32, Held>,
    /// The record whose last attempt has failed.
    pub(super) given_up: Option<(i32, i64)>,
    /// When the first record since the last cut was read.
    pub(super) since: Option<Instant>,
    pub(super) written: u64,
    pub(super) dead: u64,
    pub(super) down: Down,
}

/// What is open of an output that is not down.
pub(super) struct Line {
    pub(super) sink: Sink,
    /// For what only this output does not take.
    pub(super) letters: DeadLetters,
    pub(super) opened: Instant,
}

/// A record that its output refused, and that is tried again.
pub(super) struct Held {
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
            dead: state.dead,
            down: Down::default(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.line.is_some()
    }

    /// Whether it takes records of this partition now.
    pub(super) fn takes(&self, partition: i32) -> bool {
        self.is_up() && self.held.get(&partition).is_none_or(|held| Instant::now() >= held.until)
    }

    /// It is open, and stands where its last cut was.
    pub(super) fn rise(&mut self, line: Line, checkpoint: &Checkpoint) {
        let state = checkpoint.outputs.get(&self.name).cloned().unwrap_or_default();
        let pause = self.down.pause;
        *self = Outlet { line: Some(line), ..Outlet::at_cut(&self.name, &state) };
        // It grows on if it falls again soon.
        self.down.pause = pause;
    }

    /// It is closed for a while, and goes on from its last cut then.
    pub(super) fn fall(&mut self, reason: String, checkpoint: &Checkpoint) {
        let was_well = self.line.take().is_some_and(|mut line| {
            line.sink.discard();
            line.opened.elapsed() > BACKOFF_MAX
        });
        let state = checkpoint.outputs.get(&self.name).cloned().unwrap_or_default();
        let pause = if was_well { BACKOFF_MIN } else { self.down.pause.max(BACKOFF_MIN) };
        *self = Outlet::at_cut(&self.name, &state);
        self.down =
            Down { reason: Some(reason), until: Some(Instant::now() + pause), pause: (pause * 2).min(BACKOFF_MAX) };
    }

    /// Whether it is down and its pause is over.
    pub(super) fn is_due(&self) -> bool {
        !self.is_up() && self.down.until.is_none_or(|until| Instant::now() >= until)
    }

    /// Whether there is something to cut.
    pub(super) fn is_ahead(&self, checkpoint: &Checkpoint) -> bool {
        let is_empty = self.line.as_ref().is_none_or(|line| line.sink.is_empty());
        !is_empty || checkpoint.outputs.get(&self.name).is_none_or(|state| state.positions != self.positions)
    }
}
