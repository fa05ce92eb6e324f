//! One pipeline on one thread: read, decode, transform, write, cut; again.
//!
//! Positions move only with a cut: the files are synced, the checkpoint names them, then they get their names. After a crash or an error
//! everything since the last cut is read again, and topics skip what they hold, so each record is in exactly one row, or filtered, or
//! one dead letter.

use super::checkpoint::{Checkpoint, Counts};
use super::closing::Waits;
use super::cpu::{Pace, READ_SIZE_MIN};
use super::dead_letters::{DeadLetters, Letter};
use super::enrich::Then;
use super::fault::{Fault, Reason};
use super::format::Registry;
use super::hooks::{Hooks, Step};
use super::lanes::{Lanes, Outcome, READ_RECORDS_MAX, Ready, first_of};
use super::life::{Life, Seat};
use super::load::{self, Job};
use super::output::{Outlet, Waiting, lines};
use super::replay::Replay;
use super::rows::ROWS_MAX;
use super::sink::journal::Last;
use super::source::{Source, Stretch};
use super::state::States;
use super::step::{Filtered, Sieve};
use super::tap::Passed;
use super::writing::{Wrote, letters};
use super::{Options, status};
use crate::control::State;
use crate::disk::create_folder;
use crate::metrics as names;
use crate::record::{Batch, Offset, PartitionId, Record, TimestampType};
use crate::store::ReadError;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tracing::{error, warn};

/// Bytes of log that one turn reads of a partition.
pub(super) const READ_SIZE: usize = 4 << 20;
/// The longest sleep while there is nothing to do: a sign of life, the age of files and a stop are looked at this often.
pub(super) const NAP: Duration = Duration::from_millis(200);
/// Pauses while an output is down: from the first to the longest, doubling.
pub(super) const BACKOFF_MIN: Duration = Duration::from_secs(1);
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Why a turn could not be done.
pub(super) enum Fail {
    /// The pipeline tries again from its last cut.
    Down(String),
    /// It opens everything once more, at once: the checkpoint has changed under it.
    Anew,
    /// Too much died: it ends, and a person looks.
    Broken(String),
}

impl Fail {
    pub(super) fn reason(self) -> String {
        match self {
            Fail::Down(reason) | Fail::Broken(reason) => reason,
            Fail::Anew => "the checkpoint has changed".to_owned(),
        }
    }
}

impl From<String> for Fail {
    fn from(reason: String) -> Fail {
        Fail::Down(reason)
    }
}

/// Why the rest of a read is left for later.
enum Ended {
    /// No output is there any more for it, or no room.
    Left,
    Fail(Fail),
}

impl From<Fail> for Ended {
    fn from(fail: Fail) -> Ended {
        Ended::Fail(fail)
    }
}

pub(super) struct Runner {
    pub(super) options: Arc<Options>,
    pub(super) job: Job,
    pub(super) life: Arc<Life>,
    pub(super) hooks: Hooks,
    /// Holds it to its share of the cores.
    pub(super) pace: Pace,
    pub(super) path: PathBuf,
    pub(super) checkpoint: Checkpoint,
    /// By source partition how far the foremost output is. Below it each record is counted, and a dead letter if it failed before it came
    /// to an output; outputs behind it read records a second time, for themselves alone.
    pub(super) positions: BTreeMap<i32, i64>,
    pub(super) counts: Counts,
    pub(super) status: status::Board,
    /// What the next cut says of marks.
    pub(super) marks: BTreeMap<i32, i64>,
    pub(super) window_marks: BTreeMap<i32, i64>,
    /// By partition the record that failed before it came to an output and waits for another attempt (`retry.of = "all"`).
    held: BTreeMap<i32, Waiting>,
    /// The record whose last attempt has failed.
    given_up: Option<(i32, i64)>,
    /// What is read, if it is elsewhere.
    pub(super) fed: Option<Arc<Source>>,
    /// Records, and dead ones among them, since the breaker last looked.
    pub(super) watched: (u64, u64),
    /// Offsets, of the records that are written now, that an output did not take: the breaker counts each once.
    pub(super) buried: BTreeSet<i64>,
    /// How long an output that all wait for wants to be left alone.
    pub(super) asked_to_wait: Duration,
    /// What is fed, if this is no live run.
    pub(super) replay: Option<Arc<Replay>>,
    /// The latest time of this machine's clock that it has seen.
    pub(super) latest_ms: Cell<i64>,
    /// What may be wrong in its outputs, until it is known whether they hold any of that.
    pub(super) doubt: Option<String>,
    /// What it looks rows up in that an output lacks which is behind.
    pub(super) then: Then,
    /// Dead letters that are fed now, ascending, as they are in their topic.
    pub(super) letters: Vec<Record>,
}

/// What is open while the source is there.
pub(super) struct Open {
    pub(super) topic: Arc<Source>,
    /// How many the topic had when it was opened.
    pub(super) partitions: i32,
    pub(super) lanes: Arc<Lanes>,
    /// By route.
    pub(super) outlets: Vec<Outlet>,
    /// For what fails before it comes to an output.
    pub(super) letters: DeadLetters,
    /// What the steps remember; then all outputs stand together.
    pub(super) states: States,
    /// When each partition was last read to its end, for those that have nothing more.
    pub(super) quiet: BTreeMap<i32, Instant>,
    /// By partition where to stop: a replay of an older text ends where its outputs stand. `None` = never.
    pub(super) until: Option<BTreeMap<i32, i64>>,
    /// What windows wait for.
    pub(super) waits: Waits,
}

/// Runs until its life is stopped; cuts before it returns. With `drop_state` it forgets what its steps remember before it begins.
///
/// # Errors
/// What makes it impossible to begin or go on: a damaged checkpoint, a breaker.
pub(super) fn run(
    options: &Arc<Options>,
    job: &Job,
    life: &Arc<Life>,
    hooks: &Hooks,
    drop_state: bool,
) -> Result<(), String> {
    life.is_of_this_thread();
    let mut runner = begin(options, job, checkpoint_path(options, &job.spec.name), life, hooks)?;
    runner.wait_while_paused();
    if life.is_stopping() {
        runner.publish(State::Stopped, None);
        return Ok(());
    }
    runner.replay_text();
    if drop_state {
        runner.drop_state()?;
    }
    if let Some(why) = life.hung_before() {
        runner.note_fall(why, Duration::ZERO, true);
    }
    runner.run()
}

/// Runs one pipeline on this thread up to the end that its topic has now, cuts and returns the rows it has written by then.
///
/// # Errors
/// The file's mistakes; what makes it impossible to go on, also what a daemon would wait for.
pub fn drain(options: Options, file: &Path) -> Result<u64, String> {
    let job =
        load::file(file).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let life = Life::begin(&Arc::<Seat>::default()).ok_or("a new seat is free")?;
    let path = checkpoint_path(&options, &job.spec.name);
    let mut runner = begin(&Arc::new(options), &job, path, &life, &Hooks::default())?;
    let topic = runner.source().map_err(Fail::reason)?;
    let topic = topic.ok_or_else(|| format!("topic {} does not exist", job.spec.from))?;
    let ends = topic.partitions().iter().map(|partition| (partition.id().0, partition.tail().0)).collect();
    let drained = runner.open(topic).and_then(|mut open| {
        open.until = Some(ends);
        runner.turns(&mut open)
    });
    drained.map_err(Fail::reason)?;
    Ok(runner.checkpoint.written())
}

/// A runner at the checkpoint of that path.
///
/// # Errors
/// The checkpoint is damaged; the system's.
pub(super) fn begin(
    options: &Arc<Options>,
    job: &Job,
    path: PathBuf,
    life: &Arc<Life>,
    hooks: &Hooks,
) -> Result<Runner, String> {
    if let Some(folder) = path.parent() {
        create_folder(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    }
    let loaded = Checkpoint::load(&path).map_err(|error| error.to_string())?;
    if loaded.is_none()
        && let Some(left) = left_behind(&path)
    {
        return Err(format!(
            "{} is gone, and {left} of it is there: put it back, or say with inrush pipeline reset {} --to … where to begin",
            path.display(),
            job.spec.name
        ));
    }
    let checkpoint = loaded.unwrap_or_else(|| Checkpoint::new(&job.spec.text));
    let latest_ms = Cell::new(checkpoint.clock_ms);
    Ok(Runner {
        options: options.clone(),
        job: job.clone(),
        life: life.clone(),
        hooks: hooks.clone(),
        pace: Pace::new(life.taken(), job.spec.cpu),
        path,
        positions: checkpoint.positions.clone(),
        counts: checkpoint.counts,
        marks: checkpoint.marks.clone(),
        window_marks: checkpoint.window_marks.clone(),
        checkpoint,
        status: status::Board::default(),
        held: BTreeMap::new(),
        given_up: None,
        fed: None,
        watched: (0, 0),
        buried: BTreeSet::new(),
        asked_to_wait: Duration::ZERO,
        replay: None,
        then: Then::default(),
        latest_ms,
        doubt: None,
        letters: Vec::new(),
    })
}

/// A file beside a checkpoint that is only there behind one.
fn left_behind(checkpoint: &Path) -> Option<String> {
    let names =
        std::fs::read_dir(checkpoint.parent()?).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.into_iter().find(|name| name.starts_with("state-") || name.ends_with(".begun"))
}

/// Where a pipeline keeps its checkpoint.
pub(super) fn checkpoint_path(options: &Options, name: &str) -> PathBuf {
    options.data.join("pipelines").join(name).join("checkpoint")
}

/// A file that is there while a pipeline is paused.
pub(super) fn paused_path(options: &Options, name: &str) -> PathBuf {
    options.data.join("pipelines").join(name).join("paused")
}

impl Runner {
    /// Stands still, and goes on telling how far behind it is.
    fn wait_while_paused(&mut self) {
        let path = paused_path(&self.options, &self.job.spec.name);
        while path.exists() && !self.life.is_stopping() {
            self.publish(State::Paused, None);
            std::thread::park_timeout(NAP);
        }
    }

    /// Forgets what the steps remember.
    fn drop_state(&mut self) -> Result<(), String> {
        self.checkpoint.state = None;
        self.checkpoint.marks.clear();
        self.checkpoint.window_marks.clear();
        let saved = self.life.save(&self.checkpoint, &self.path);
        saved.map_err(|error| format!("cannot write the checkpoint {}: {error}", self.path.display()))
    }

    fn run(&mut self) -> Result<(), String> {
        let mut pause = BACKOFF_MIN;
        let mut progress = self.got_on();
        while !self.life.is_stopping() {
            self.say_whom_it_waits_for();
            let source = self.source();
            if let Ok(None) = source {
                self.publish(State::NoTopic, Some(format!("topic {} does not exist", self.job.spec.from)));
                std::thread::park_timeout(NAP);
                continue;
            }
            if self.status.published.is_none_or(|(_, state)| state == State::NoTopic) {
                // What it opens may hang; its file is read, and the topic is there.
                self.publish(State::Starting, None);
            }
            let began = Instant::now();
            let opened = source.and_then(|topic| self.open(topic.ok_or(Fail::Anew)?));
            match opened.and_then(|mut open| self.turns(&mut open)) {
                Ok(()) => pause = BACKOFF_MIN,
                Err(Fail::Broken(reason)) => return Err(reason),
                Err(Fail::Anew) => self.rewind(),
                Err(Fail::Down(reason)) => {
                    let (now, lasted) = (self.got_on(), began.elapsed());
                    if lasted > BACKOFF_MAX || now != progress {
                        (pause, progress) = (BACKOFF_MIN, now);
                    }
                    warn!(pipeline = self.job.spec.name, %reason, again_in_s = pause.as_secs(), "the pipeline is stalled");
                    self.count_stall();
                    let is_unproven = self.positions != self.checkpoint.positions || self.status.is_unproven();
                    self.rewind();
                    self.rest(pause, &reason);
                    self.note_fall(reason, lasted, is_unproven);
                    pause = (pause * 2).min(BACKOFF_MAX);
                }
            }
        }
        self.publish(State::Stopped, None);
        Ok(())
    }

    /// A group elsewhere lets nobody in before it has given up those who were there and do not answer.
    fn say_whom_it_waits_for(&mut self) {
        let Some(group) = self.job.spec.elsewhere.as_ref().and_then(|from| from.group.clone()) else { return };
        // Who is stalled, or has no topic, says more.
        let says_more = matches!(self.status.published, Some((_, State::Stalled | State::NoTopic)));
        if self.fed.is_none() && self.replay.is_none() && !says_more {
            let why = format!(
                "it waits until Kafka's group {group} has divided the partitions: 30 s where a member was killed; how far it is behind is not known yet"
            );
            self.publish(State::Starting, Some(why));
        }
    }

    /// What changes only where it gets on: where the last cut is, and how many schemas are known.
    fn got_on(&self) -> (BTreeMap<i32, i64>, u64) {
        (self.checkpoint.positions.clone(), self.answered())
    }

    /// How many schemas its registry has answered.
    pub(super) fn answered(&self) -> u64 {
        self.job.spec.format.registry().map_or(0, Registry::answered)
    }

    /// Back to the last cut.
    pub(super) fn rewind(&mut self) {
        self.positions.clone_from(&self.checkpoint.positions);
        self.counts = self.checkpoint.counts;
        self.status.rewind();
        self.marks.clone_from(&self.checkpoint.marks);
        self.window_marks.clone_from(&self.checkpoint.window_marks);
        self.held.clear();
        self.given_up = None;
        self.watched = (0, 0);
    }

    /// Waits out a pause, beating.
    pub(super) fn rest(&mut self, pause: Duration, why: &str) {
        let pause = pause.max(std::mem::take(&mut self.asked_to_wait));
        let began = Instant::now();
        while began.elapsed() < pause && !self.life.is_stopping() {
            self.publish(State::Stalled, Some(why.to_owned()));
            std::thread::park_timeout(NAP);
        }
    }

    /// Reads and writes until the stop, the topic's end of life, or an error.
    pub(super) fn turns(&mut self, open: &mut Open) -> Result<(), Fail> {
        let result = self.turns_until_stop(open);
        self.status.rewind();
        if result.is_err() {
            open.discard();
        }
        result
    }

    fn turns_until_stop(&mut self, open: &mut Open) -> Result<(), Fail> {
        self.publish_running(open);
        while !self.life.is_stopping()
            && !open.topic.is_deleted()
            && !open.topic.is_called_back()
            && !self.is_replayed(open)
        {
            let chore = self.pace.begin();
            let tended = self.revive(open).and_then(|()| self.tend_tables(open));
            self.pace.end(chore);
            tended?;
            self.settle(open)?;
            if self.job.plan.is_stateful() && open.topic.partition_count() != open.partitions {
                // Keys may come in other partitions now: it is judged as a whole.
                self.cut_together(open)?;
                return Err(Fail::Anew);
            }
            let (has_read, held) = self.turn_all(open)?;
            if let Some(reason) = self.breaker() {
                self.cut_all(open)?;
                return Err(Fail::Broken(reason));
            }
            self.admit(open, !has_read && held.is_none())?;
            self.cut_due(open)?;
            let chore = self.pace.begin();
            self.publish_running(open);
            self.pace.end(chore);
            self.mark_quiet(open)?;
            match held {
                Some(wait) => self.pace.nap(wait, NAP),
                None if has_read => {}
                None => self.wait(open),
            }
        }
        if open.topic.is_lost() {
            return Err(Fail::Anew);
        }
        self.settle_end(open)?;
        self.cut_all(open)
    }

    pub(super) fn is_replayed(&self, open: &Open) -> bool {
        let Some(until) = &open.until else { return false };
        let are_at = |until: &BTreeMap<i32, i64>| {
            let is_there = |outlet: &Outlet| {
                until.iter().all(|(partition, end)| outlet.positions.get(partition).is_some_and(|next| next >= end))
            };
            open.outlets.iter().all(is_there)
        };
        are_at(until) || open.waits.enough(&open.states).is_some_and(are_at)
    }

    /// A record of this partition waits for another attempt.
    pub(super) fn is_held(&self, id: i32) -> bool {
        self.held.contains_key(&id)
    }

    /// Opens outputs that are down and whose pause is over.
    fn revive(&mut self, open: &mut Open) -> Result<(), Fail> {
        for at in 0..open.outlets.len() {
            if open.outlets[at].is_due() {
                self.open_outlet(open, at)?;
            }
        }
        Ok(())
    }

    /// Whether no output goes its own way: what the steps remember is that of one place, and a replay has one end.
    pub(super) fn stand_together(&self, open: &Open) -> bool {
        self.job.plan.is_stateful() || self.replay.is_some() || open.until.is_some()
    }

    /// An output is down: it waits alone, or all do if they are to stand together.
    pub(super) fn fall(&mut self, open: &mut Open, at: usize, reason: String) -> Result<(), Fail> {
        let reason = format!("output {}: {reason}", open.outlets[at].name);
        if self.stand_together(open) {
            return Err(Fail::Down(reason));
        }
        open.outlets[at].fall(reason.clone(), &self.checkpoint);
        warn!(pipeline = self.job.spec.name, %reason, "an output of the pipeline is stalled");
        self.count_stall();
        Ok(())
    }

    pub(super) fn count_stall(&mut self) {
        metrics::counter!(names::STREAM_STALLS.name, "pipeline" => self.job.spec.name.clone()).increment(1);
        self.status.stalls += 1;
    }

    /// One read of one partition for each place where outputs are. Says whether there was anything.
    pub(super) fn turn(&mut self, open: &mut Open, id: PartitionId) -> Result<bool, Fail> {
        if self.held.get(&id.0).is_some_and(|held| Instant::now() < held.until) {
            return Ok(false);
        }
        let Some(partition) = open.topic.partition(id).filter(|_| self.windows_take(open, id.0)) else {
            return Ok(false);
        };
        let until = open.until.as_ref().map_or(i64::MAX, |until| until.get(&id.0).copied().unwrap_or(0));
        let mut has_read = false;
        let places = self.places(open, &partition);
        for place in &places {
            // Who is behind stops where the next ones are, and where counting begins, and goes on from there with them.
            let front = self.positions.get(&id.0);
            let bounds = places.iter().chain(front).filter(|bound| *bound > place);
            has_read |= self.read(open, &partition, *place, bounds.min().map_or(until, |bound| until.min(*bound)))?;
        }
        Ok(has_read)
    }

    /// Where outputs are that take records of this partition, ascending.
    fn places(&self, open: &mut Open, partition: &Stretch) -> Vec<i64> {
        let (id, together) = (partition.id().0, self.stand_together(open));
        let takes = open.outlets.iter_mut().filter(|outlet| outlet.takes(id, together));
        let mut places: Vec<i64> =
            takes.map(|outlet| *outlet.positions.entry(id).or_insert(partition.start().0)).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// One read for the outputs at `next`, with the tables that its records were looked up in by the others.
    fn read(&mut self, open: &mut Open, partition: &Stretch, next: i64, until: i64) -> Result<bool, Fail> {
        match self.past_of(partition.id().0, next) {
            Some((at, end)) => self.looking_back(at, |own| own.read_here(open, partition, next, until.min(end))),
            None => self.read_here(open, partition, next, until),
        }
    }

    fn read_here(&mut self, open: &mut Open, partition: &Stretch, next: i64, until: i64) -> Result<bool, Fail> {
        let (id, together) = (partition.id().0, self.stand_together(open));
        let is_there = |outlet: &Outlet| outlet.takes(id, together) && outlet.positions.get(&id) == Some(&next);
        let mut crowd: Vec<usize> = (0..open.outlets.len()).filter(|at| is_there(&open.outlets[*at])).collect();
        let next = Offset(next);
        if next == partition.tail() || next.0 >= until || crowd.is_empty() {
            return Ok(false);
        }
        let tail = partition.tail().0;
        let batches = match partition.read_blocking(next, self.pace.part_of(READ_SIZE, READ_SIZE_MIN)) {
            Ok(slice) => first_of(slice.batches, self.pace.part_of(READ_RECORDS_MAX, ROWS_MAX)),
            // Its end was lost: what comes there next are other records, so everything is judged anew.
            Err(ReadError::OutOfRange { tail, .. }) if next > tail => return Err(Fail::Anew),
            Err(ReadError::OutOfRange { start, tail, .. }) => {
                self.skip(open, &crowd, partition, next, if next < start { start } else { tail });
                return Ok(true);
            }
            Err(ReadError::Deleted) => return Ok(false),
            Err(error) => return Err(Fail::Down(error.to_string())),
        };
        self.follow_tables()?;
        let lanes = open.lanes.clone();
        let ran = lanes.run(id, next.0..until, &batches, |outcome| {
            match outcome {
                Outcome::Piece(piece) => {
                    self.process(open, &mut crowd, id, piece.kind, &piece.records, Some(piece.ready))?;
                    self.cut_full(open, &mut crowd)?;
                }
                Outcome::Undecodable { batch, reason } => self.undecodable(open, &crowd, id, &batch, reason)?,
                Outcome::Down(reason) => return Err(Ended::Fail(Fail::Down(reason))),
            }
            // What waits for other partitions has a limit too.
            let is_over = crowd.is_empty() || !self.windows_take(open, id) || self.life.is_stopping();
            if is_over { Err(Ended::Left) } else { Ok(()) }
        });
        match ran {
            Ok(()) => {
                let end = batches.last().map_or(next, Batch::next_offset).0.min(until);
                self.advance(open, &crowd, id, end);
                if end >= tail {
                    open.waits.caught_up(id);
                }
            }
            Err(Ended::Left) => {}
            Err(Ended::Fail(fail)) => return Err(fail),
        }
        if let Some(last) = batches.last() {
            self.status.read_to(id, last.header().max_timestamp);
            open.quiet.insert(id, Instant::now());
        }
        Ok(!batches.is_empty())
    }

    /// These outputs, and so the pipeline, have what lies below `next`.
    pub(super) fn advance(&mut self, open: &mut Open, crowd: &[usize], id: i32, next: i64) {
        for at in crowd {
            let outlet = &mut open.outlets[*at];
            outlet.positions.insert(id, next);
            outlet.since.get_or_insert_with(Instant::now);
            if outlet.held.get(&id).is_some_and(|held| held.offset < next) {
                outlet.held.remove(&id);
            }
        }
        self.pass(id, next);
    }

    /// Nothing below `next` is left to be counted.
    fn pass(&mut self, id: i32, next: i64) {
        let known = self.positions.entry(id).or_insert(next);
        *known = next.max(*known);
        if self.held.get(&id).is_some_and(|held| held.offset < next) {
            self.held.remove(&id);
        }
    }

    /// Goes on elsewhere, because there are no records at the position.
    fn skip(&mut self, open: &mut Open, crowd: &[usize], partition: &Stretch, from: Offset, to: Offset) {
        let (topic, id) = (partition.topic(), partition.id().0);
        error!(pipeline = self.job.spec.name, %topic, partition = id, from = from.0, to = to.0,
            "records left the log before the pipeline read them: it goes on behind them");
        let lost = (to.0 - from.0).max(0);
        metrics::counter!(names::STREAM_LOST_RECORDS.name, "pipeline" => self.job.spec.name.clone())
            .increment(lost as u64);
        // Others may have them.
        let names: Vec<&str> = crowd.iter().map(|at| open.outlets[*at].name.as_str()).collect();
        let whom = match names.len() < open.outlets.len() {
            true => format!("output {} had read them", names.join(", ")),
            false => "they were read".to_owned(),
        };
        self.status.warn(format!(
            "{lost} records ({from} to {}) of {topic}/{id} left the log before {whom}: raise retention.ms or make the output faster",
            to.0 - 1
        ));
        self.advance(open, crowd, id, to.0);
    }

    /// Decodes, transforms and writes records of one partition, ascending, for a crowd of outputs that stand before them; who is not behind
    /// them afterwards has left the crowd. `ready` is what became of them, if that was made ahead.
    fn process(
        &mut self,
        open: &mut Open,
        crowd: &mut Vec<usize>,
        id: i32,
        kind: TimestampType,
        records: &[Record],
        ready: Option<Ready>,
    ) -> Result<(), Fail> {
        let Some(last) = records.last() else { return Ok(()) };
        self.life.beat();
        let ready = match ready {
            Some(ready) => ready,
            None => open.lanes.transform(id, records)?,
        };
        let front = self.positions.get(&id).copied().unwrap_or(0);
        if let Some((at, _)) = ready.bad.first().filter(|_| self.job.spec.on_error.retries_all)
            && let at = *at as usize
            && records[at].offset.0 >= front
            && self.given_up != Some((id, records[at].offset.0))
        {
            return self.process_again(open, crowd, id, kind, records, at);
        }
        let count = records.len() as u64;
        let (records, ready) = self.remember(open, id, records, ready)?;
        let records = records.as_ref();
        let mut left = Vec::new();
        self.buried.clear();
        for at in crowd.iter().copied() {
            if let Wrote::Waits = self.write(open, at, id, kind, records, &ready.routes[at])? {
                left.push(at);
            }
        }
        self.hooks.at(Step::Written);
        // A read ends where the foremost output was, so either all of these records are new, or none.
        if last.offset.0 >= front {
            let letters = letters(&ready.bad, records, kind);
            open.letters.send(id, &letters, Last::Whole).map_err(|error| error.to_string())?;
            self.count(&ready, count);
            self.show(open, id, records, &ready);
        }
        self.hooks.at(Step::Lettered);
        crowd.retain(|at| !left.contains(at));
        self.advance(open, crowd, id, last.offset.0 + 1);
        self.close_windows(open)
    }

    /// Shows those who tap what became of records; a replay of an older text is not shown.
    fn show(&self, open: &Open, partition: i32, records: &[Record], ready: &Ready) {
        if open.until.is_none() {
            let Ready { routes, bad, sights, .. } = ready;
            let passed_over = ready.filtered.of(Sieve::ContentType);
            self.life.taps().show(&self.job.spec, &Passed { partition, records, routes, bad, passed_over, sights });
        }
    }

    /// One record failed before it came to an output and is to be tried again: what stands before it is done first, then its partition waits,
    /// or it was its last time.
    fn process_again(
        &mut self,
        open: &mut Open,
        crowd: &mut Vec<usize>,
        id: i32,
        kind: TimestampType,
        records: &[Record],
        at: usize,
    ) -> Result<(), Fail> {
        self.process(open, crowd, id, kind, &records[..at], None)?;
        let offset = records[at].offset.0;
        self.advance(open, crowd, id, offset);
        if let Some(held) = self.attempt(offset, self.held.get(&id)) {
            self.held.insert(id, held);
            self.count_retry();
            crowd.clear();
            return Ok(());
        }
        self.given_up = Some((id, offset));
        self.process(open, crowd, id, kind, &records[at..=at], None)?;
        self.process(open, crowd, id, kind, &records[at + 1..], None)
    }

    /// A batch with a right checksum that cannot be decoded is one dead letter with its bytes, and the pipeline goes on.
    pub(super) fn undecodable(
        &mut self,
        open: &mut Open,
        crowd: &[usize],
        id: i32,
        batch: &Batch,
        reason: String,
    ) -> Result<(), Fail> {
        if batch.last_offset().0 >= self.positions.get(&id).copied().unwrap_or(0) {
            let record = Record {
                offset: batch.last_offset(),
                timestamp: batch.header().max_timestamp,
                key: None,
                value: Some(batch.bytes().clone()),
                headers: Vec::new(),
            };
            let fault = Fault { reason: Reason::BadBatch, column: None, message: reason.into() };
            let letter =
                Letter { record: &record, fault: &fault, timestamp_type: batch.header().timestamp_type, outputs: None };
            open.letters
                .send(id, std::slice::from_ref(&letter), Last::Whole)
                .map_err(|error| Fail::Down(error.to_string()))?;
            let records = batch.header().count.max(0) as u64;
            self.count_dead(&fault);
            metrics::counter!(names::STREAM_RECORDS.name, "pipeline" => self.job.spec.name.clone()).increment(records);
            self.counts.read += records;
            self.counts.dead += records;
            self.watched.0 += records;
            self.watched.1 += records;
        }
        self.advance(open, crowd, id, batch.next_offset().0);
        Ok(())
    }

    pub(super) fn count_dead(&self, fault: &Fault) {
        let pipeline = self.job.spec.name.clone();
        metrics::counter!(names::STREAM_DEAD_LETTERS.name, "pipeline" => pipeline, "reason" => fault.reason.as_str())
            .increment(1);
    }

    pub(super) fn count_filtered(&mut self, filtered: &Filtered) {
        for (reason, count) in filtered.reasons() {
            let pipeline = self.job.spec.name.clone();
            metrics::counter!(names::STREAM_FILTERED.name, "pipeline" => pipeline, "reason" => reason)
                .increment(u64::from(count));
        }
        self.counts.filtered += filtered.total();
    }

    pub(super) fn count(&mut self, ready: &Ready, records: u64) {
        let pipeline = &self.job.spec.name;
        ready.bad.iter().for_each(|(_, fault)| self.count_dead(fault));
        metrics::counter!(names::STREAM_RECORDS.name, "pipeline" => pipeline.clone()).increment(records);
        let dead = ready.bad.len() as u64;
        self.counts.read += records;
        self.count_filtered(&ready.filtered);
        self.counts.dead += dead;
        self.watched.0 += records;
        self.watched.1 += dead;
    }

    /// Why the pipeline has to stop, if too much of what it read last has died.
    fn breaker(&mut self) -> Option<String> {
        let breaker = self.job.spec.on_error.breaker?;
        let (read, dead) = self.watched;
        if read < breaker.window {
            return None;
        }
        self.watched = (0, 0);
        (dead * 100 >= breaker.percent * read).then(|| {
            format!(
                "{dead} of the last {read} records became dead letters (breaker = \"{}% of {}\"); look at {}, mend the file or the source, then inrush pipeline reload {}",
                breaker.percent, breaker.window, self.job.spec.on_error.then, self.job.spec.name
            )
        })
    }

    /// Sleeps until there is more to read, or for a nap.
    fn wait(&self, open: &Open) {
        let (now, together) = (Instant::now(), self.stand_together(open));
        let partitions = open.topic.partitions();
        let mut moves: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = Vec::with_capacity(partitions.len());
        let can_go_on = |id: i32| !self.held.contains_key(&id) && self.windows_take(open, id);
        for partition in partitions.iter().filter(|partition| can_go_on(partition.id().0)) {
            let id = partition.id().0;
            // Nothing was there to read for any that takes: all of them are at the end.
            let takes = open.outlets.iter().filter(|outlet| outlet.takes(id, together));
            let Some(known) = takes.filter_map(|outlet| outlet.positions.get(&id)).max() else { continue };
            // A replay has no business behind its end.
            if open.until.as_ref().is_some_and(|until| until.get(&id).is_none_or(|until| known >= until)) {
                continue;
            }
            moves.push(Box::pin(partition.tail_past(Offset(*known))));
        }
        for line in lines(&open.outlets) {
            let Some(stirred) = line.sink.stirred() else { continue };
            moves.push(stirred);
        }
        let any = poll_fn(|context| {
            let is_ready = moves.iter_mut().any(|moved| moved.as_mut().poll(context).is_ready());
            if is_ready { Poll::Ready(()) } else { Poll::Pending }
        });
        let held = open.outlets.iter().flat_map(|outlet| outlet.held.values()).chain(self.held.values());
        let due = held.map(|held| held.until.saturating_duration_since(now)).filter(|wait| !wait.is_zero()).min();
        let nap = due.map_or(NAP, |due| due.min(NAP));
        let _ = self.options.runtime.block_on(async { tokio::time::timeout(nap, any).await });
    }
}
