//! One pipeline on one thread: read, decode, transform, write, cut; again.
//!
//! Positions move only with a cut: the files are synced, the checkpoint names them, then they get their names. After a crash or an error
//! everything since the last cut is read again, and topics skip what they hold, so each record is in exactly one row, or filtered, or
//! one dead letter.

use super::checkpoint::{Checkpoint, Counts, make_folder};
use super::dead_letters::{DeadLetters, Letter};
use super::fault::{Fault, Reason};
use super::hooks::{Hooks, Step};
use super::lanes::{Lanes, Outcome, Ready};
use super::life::{Life, Seat};
use super::load::{self, Job};
use super::sink::parquet::CutName;
use super::sink::{Shaped, Sink, WriteError};
use super::whole::{Settled, spoil};
use super::{Options, status};
use crate::control::State;
use crate::metrics as names;
use crate::record::{Batch, Offset, PartitionId, Record, TimestampType};
use crate::store::{Partition, ReadError, Topic};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tracing::{error, warn};

/// Bytes of log that one turn reads of a partition.
const READ_SIZE: usize = 4 << 20;
/// The longest sleep while there is nothing to do: a sign of life, the age of files and a stop are looked at this often.
pub(super) const NAP: Duration = Duration::from_millis(200);
/// Pauses while an output is down: from the first to the longest, doubling.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How often a replay with an older text is tried before the new one begins without it.
const REPLAY_ATTEMPTS: usize = 3;

/// Why a turn could not be done.
pub(super) enum Fail {
    /// The pipeline tries again from its last cut.
    Down(String),
    /// Too much died: it ends, and a person looks.
    Broken(String),
}

impl From<String> for Fail {
    fn from(reason: String) -> Fail {
        Fail::Down(reason)
    }
}

/// A partition that waits for a record which its output refused.
struct Held {
    offset: i64,
    attempts: u32,
    until: Instant,
}

/// What became of records given to [`Runner::process`].
#[derive(PartialEq, Eq)]
enum Done {
    All,
    /// One of them is to be tried again later; the position is at it.
    Held,
}

/// Why the rest of a read is left for later.
enum Ended {
    Held,
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
    pub(super) path: PathBuf,
    pub(super) checkpoint: Checkpoint,
    /// Of the run since the last cut.
    pub(super) positions: BTreeMap<i32, i64>,
    pub(super) counts: Counts,
    pub(super) status: status::Board,
    /// When the first record since the last cut was read.
    pub(super) since: Option<Instant>,
    held: BTreeMap<i32, Held>,
    /// The record whose last attempt has failed.
    given_up: Option<(i32, i64)>,
    /// Records, and dead ones among them, since the breaker last looked.
    watched: (u64, u64),
}

/// What is open while the source is there.
pub(super) struct Open {
    pub(super) topic: Arc<Topic>,
    pub(super) lanes: Arc<Lanes>,
    pub(super) sink: Sink,
    pub(super) letters: DeadLetters,
    /// By partition where to stop: a replay of an older text ends where its outputs stand. `None` = never.
    pub(super) until: Option<BTreeMap<i32, i64>>,
}

/// Runs until its life is stopped; cuts before it returns.
///
/// # Errors
/// What makes it impossible to begin or go on: a damaged checkpoint, a breaker.
pub(super) fn run(options: &Arc<Options>, job: &Job, life: &Arc<Life>, hooks: &Hooks) -> Result<(), String> {
    let mut runner = begin(options, job, life, hooks)?;
    runner.replay();
    runner.run()
}

/// Runs one pipeline on this thread up to the end that its topic has now, cuts and returns the rows it has written by then.
///
/// # Errors
/// The file's mistakes; what makes it impossible to go on, also what a daemon would wait for.
pub fn drain(options: Options, file: &Path) -> Result<u64, String> {
    let job =
        load::file(file).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let topic = options.store.topic(job.spec.from.as_str());
    let topic = topic.ok_or_else(|| format!("topic {} does not exist", job.spec.from))?;
    let life = Life::begin(&Arc::<Seat>::default()).ok_or("a new seat is free")?;
    let mut runner = begin(&Arc::new(options), &job, &life, &Hooks::default())?;
    let ends = topic.partitions().iter().map(|partition| (partition.id().0, partition.tail().0)).collect();
    let drained = runner.open(topic).and_then(|mut open| {
        open.until = Some(ends);
        runner.turns(&mut open)
    });
    drained.map_err(|(Fail::Down(reason) | Fail::Broken(reason))| reason)?;
    Ok(runner.counts.written)
}

fn begin(options: &Arc<Options>, job: &Job, life: &Arc<Life>, hooks: &Hooks) -> Result<Runner, String> {
    let path = checkpoint_path(options, &job.spec.name);
    if let Some(folder) = path.parent() {
        make_folder(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    }
    let loaded = Checkpoint::load(&path).map_err(|error| error.to_string())?;
    let checkpoint = loaded.unwrap_or_else(|| Checkpoint::new(&job.spec.text));
    Ok(Runner {
        options: options.clone(),
        job: job.clone(),
        life: life.clone(),
        hooks: hooks.clone(),
        path,
        positions: checkpoint.positions.clone(),
        counts: checkpoint.counts,
        checkpoint,
        status: status::Board::default(),
        since: None,
        held: BTreeMap::new(),
        given_up: None,
        watched: (0, 0),
    })
}

/// Where a pipeline keeps its checkpoint.
pub(super) fn checkpoint_path(options: &Options, name: &str) -> PathBuf {
    options.data.join("pipelines").join(name).join("checkpoint")
}

impl Runner {
    /// If the text has changed since the last cut: what topics hold behind that cut was made with the old text. Everything up to there is
    /// made once more with it and cut, so that no record is in one output by the old text and in another by the new one.
    fn replay(&mut self) {
        if self.checkpoint.text == self.job.spec.text {
            return;
        }
        let Ok(old) = load::text(&self.job.spec.file, &self.checkpoint.text) else {
            warn!(
                pipeline = self.job.spec.name,
                "this version does not understand the text of the last run: the new one begins at its last cut"
            );
            return;
        };
        let new = std::mem::replace(&mut self.job, old);
        for attempt in 1..=REPLAY_ATTEMPTS {
            let Some(topic) = self.options.store.topic(self.job.spec.from.as_str()) else { break };
            // Another topic of that name: there is nothing left to replay.
            if self.checkpoint.topic != Some(topic.id) || self.life.is_stopping() {
                break;
            }
            match self.replay_to_outputs(topic) {
                Ok(()) => break,
                Err(Fail::Down(reason) | Fail::Broken(reason)) => {
                    warn!(pipeline = self.job.spec.name, attempt, %reason, "the replay with the text of the last run failed");
                    self.rewind();
                    self.rest(BACKOFF_MIN, &reason);
                }
            }
        }
        self.job = new;
    }

    fn replay_to_outputs(&mut self, topic: Arc<Topic>) -> Result<(), Fail> {
        let mut open = self.open(topic)?;
        let mut furthest = open.sink.furthest();
        for (partition, next) in open.letters.journal().furthest() {
            let known = furthest.entry(partition).or_insert(next);
            *known = next.max(*known);
        }
        furthest.retain(|partition, next| self.positions.get(partition).is_none_or(|position| position < next));
        if furthest.is_empty() {
            return Ok(());
        }
        open.until = Some(furthest);
        self.turns(&mut open)
    }

    fn run(&mut self) -> Result<(), String> {
        let mut pause = BACKOFF_MIN;
        while !self.life.is_stopping() {
            let Some(topic) = self.options.store.topic(self.job.spec.from.as_str()) else {
                self.publish(State::NoTopic, Some(format!("topic {} does not exist", self.job.spec.from)));
                std::thread::park_timeout(NAP);
                continue;
            };
            let began = Instant::now();
            match self.open(topic).and_then(|mut open| self.turns(&mut open)) {
                Ok(()) => pause = BACKOFF_MIN,
                Err(Fail::Broken(reason)) => return Err(reason),
                Err(Fail::Down(reason)) => {
                    if began.elapsed() > BACKOFF_MAX {
                        pause = BACKOFF_MIN;
                    }
                    warn!(pipeline = self.job.spec.name, %reason, again_in_s = pause.as_secs(), "the pipeline is stalled");
                    metrics::counter!(names::STREAM_STALLS.name, "pipeline" => self.job.spec.name.clone()).increment(1);
                    self.status.stalls += 1;
                    self.rewind();
                    self.rest(pause, &reason);
                    pause = (pause * 2).min(BACKOFF_MAX);
                }
            }
        }
        self.publish(State::Stopped, None);
        Ok(())
    }

    /// Back to the last cut.
    fn rewind(&mut self) {
        self.positions.clone_from(&self.checkpoint.positions);
        self.counts = self.checkpoint.counts;
        self.since = None;
        self.held.clear();
        self.given_up = None;
        self.watched = (0, 0);
    }

    /// Waits out a pause, beating.
    fn rest(&mut self, pause: Duration, why: &str) {
        let began = Instant::now();
        while began.elapsed() < pause && !self.life.is_stopping() {
            self.publish(State::Stalled, Some(why.to_owned()));
            std::thread::park_timeout(NAP);
        }
    }

    /// Reads and writes until the stop, the topic's end of life, or an error.
    fn turns(&mut self, open: &mut Open) -> Result<(), Fail> {
        let result = self.turns_until_stop(open);
        if result.is_err() {
            open.sink.discard();
        }
        result
    }

    fn turns_until_stop(&mut self, open: &mut Open) -> Result<(), Fail> {
        while !self.life.is_stopping() && !open.topic.is_deleted() && !self.is_replayed(open) {
            let mut has_read = false;
            for partition in 0..open.topic.partition_count() {
                has_read |= self.turn(open, PartitionId(partition))?;
                self.life.beat();
                if self.life.is_stopping() {
                    break;
                }
            }
            if let Some(reason) = self.breaker() {
                self.cut(open)?;
                return Err(Fail::Broken(reason));
            }
            if self.is_cut_due(open) {
                self.cut(open)?;
            }
            self.publish_running(open);
            if !has_read {
                self.wait(&open.topic);
            }
        }
        self.cut(open)
    }

    fn is_replayed(&self, open: &Open) -> bool {
        let is_there = |(partition, end): (&i32, &i64)| self.positions.get(partition).is_some_and(|next| next >= end);
        open.until.as_ref().is_some_and(|until| until.iter().all(is_there))
    }

    /// One read of one partition. Says whether there was anything.
    fn turn(&mut self, open: &mut Open, id: PartitionId) -> Result<bool, Fail> {
        if self.held.get(&id.0).is_some_and(|held| Instant::now() < held.until) {
            return Ok(false);
        }
        let Some(partition) = open.topic.partition(id) else { return Ok(false) };
        let next = Offset(*self.positions.entry(id.0).or_insert(partition.start().0));
        let until = open.until.as_ref().map_or(i64::MAX, |until| until.get(&id.0).copied().unwrap_or(0));
        if next == partition.tail() || next.0 >= until {
            return Ok(false);
        }
        let batches = match partition.read_blocking(next, READ_SIZE) {
            Ok(slice) => slice.batches,
            Err(ReadError::OutOfRange { start, tail, .. }) => {
                self.skip(&partition, next, if next < start { start } else { tail });
                return Ok(true);
            }
            Err(ReadError::Deleted) => return Ok(false),
            Err(error) => return Err(Fail::Down(error.to_string())),
        };
        let lanes = open.lanes.clone();
        let ran = lanes.run(id.0, next.0..until, &batches, |outcome| {
            let done = match outcome {
                Outcome::Piece(piece) => self.process(open, id.0, piece.kind, &piece.records, Some(piece.ready))?,
                Outcome::Undecodable { batch, reason } => {
                    self.undecodable(open, id.0, batch.header().timestamp_type, &batch, reason)?;
                    Done::All
                }
                Outcome::Down(reason) => return Err(Ended::Fail(Fail::Down(reason))),
            };
            if done == Done::All { Ok(()) } else { Err(Ended::Held) }
        });
        match ran {
            Ok(()) => {
                let position = batches.last().map_or(next, Batch::next_offset);
                self.positions.insert(id.0, position.0.min(until));
            }
            Err(Ended::Held) => {}
            Err(Ended::Fail(fail)) => return Err(fail),
        }
        if let Some(last) = batches.last() {
            self.since.get_or_insert_with(Instant::now);
            self.status.read_to(id.0, last.header().max_timestamp);
        }
        Ok(!batches.is_empty())
    }

    /// Goes on elsewhere, because there are no records at the position.
    fn skip(&mut self, partition: &Partition, from: Offset, to: Offset) {
        let (topic, id) = (partition.topic(), partition.id().0);
        error!(pipeline = self.job.spec.name, %topic, partition = id, from = from.0, to = to.0,
            "records left the log before the pipeline read them: it goes on behind them");
        let lost = (to.0 - from.0).max(0);
        metrics::counter!(names::STREAM_LOST_RECORDS.name, "pipeline" => self.job.spec.name.clone())
            .increment(lost as u64);
        self.status.warn(format!(
            "{lost} records ({from} to {to}) of {topic}/{id} left the log before they were read: raise retention.ms or make the output faster"
        ));
        self.positions.insert(id, to.0);
        self.held.remove(&id);
        self.since.get_or_insert_with(Instant::now);
    }

    /// Decodes, transforms and writes records of one partition, ascending; moves the position as far as it comes.
    /// `ready` is what became of them, if that was made ahead.
    fn process(
        &mut self,
        open: &mut Open,
        id: i32,
        kind: TimestampType,
        records: &[Record],
        ready: Option<Ready>,
    ) -> Result<Done, Fail> {
        let Some(last) = records.last() else { return Ok(Done::All) };
        self.life.beat();
        let ready = match ready {
            Some(ready) => ready,
            None => open.lanes.transform(id, records)?,
        };
        let work = shape(open, records, ready);
        let first_bad = work.bad.first().map(|(at, _)| *at as usize);
        if let Some(at) = first_bad.filter(|_| self.job.spec.on_error.retries_all)
            && self.given_up != Some((id, records[at].offset.0))
        {
            return self.try_again(open, id, kind, records, at, None);
        }
        let offsets = work.sources.iter().map(|at| records[*at as usize].offset.0);
        let name = CutName {
            generation: self.checkpoint.generation,
            cut: self.checkpoint.cut,
            now_ms: self.options.clock.now_ms(),
        };
        let written = self.hooks.write(&self.job.spec.name, offsets);
        match written.and_then(|()| open.sink.write(id, &work.shaped, &work.sources, records, &name)) {
            Ok(()) => {}
            Err(WriteError::Down(reason)) => return Err(Fail::Down(reason)),
            Err(WriteError::Refused { offset, message }) => {
                let Some(at) = records.iter().position(|record| record.offset.0 == offset) else {
                    return Err(Fail::Down(format!("the output refused a record that it was not given: {message}")));
                };
                return self.try_again(open, id, kind, records, at, Some(message));
            }
        }
        self.hooks.at(Step::Written);
        let letter = |(at, fault)| Letter { record: &records[at as usize], fault, timestamp_type: kind };
        let letters: Vec<Letter<'_>> = work.bad.iter().map(|(at, fault)| letter((*at, fault))).collect();
        open.letters.send(id, &letters).map_err(|error| error.to_string())?;
        self.hooks.at(Step::Lettered);
        self.count(&work, records.len() as u64);
        self.positions.insert(id, last.offset.0 + 1);
        Ok(Done::All)
    }

    /// One record failed and may be tried again: what stands before it is done first, then its partition waits, or it was its last time.
    fn try_again(
        &mut self,
        open: &mut Open,
        id: i32,
        kind: TimestampType,
        records: &[Record],
        at: usize,
        refused: Option<String>,
    ) -> Result<Done, Fail> {
        if self.process(open, id, kind, &records[..at], None)? == Done::Held {
            return Ok(Done::Held);
        }
        let offset = records[at].offset.0;
        self.positions.insert(id, offset);
        self.since.get_or_insert_with(Instant::now);
        let before = self.held.get(&id).filter(|held| held.offset == offset).map_or(0, |held| held.attempts);
        if before < self.job.spec.on_error.retries {
            let until = Instant::now() + self.job.spec.on_error.backoff;
            self.held.insert(id, Held { offset, attempts: before + 1, until });
            metrics::counter!(names::STREAM_RETRIES.name, "pipeline" => self.job.spec.name.clone()).increment(1);
            self.status.retries += 1;
            return Ok(Done::Held);
        }
        self.held.remove(&id);
        match refused {
            Some(message) => {
                let fault = Fault { reason: Reason::SinkRefused, column: None, message: message.into() };
                self.bury(open, id, kind, &records[at], &fault)?;
                self.count_dead(&fault, 1);
            }
            None => {
                self.given_up = Some((id, offset));
                self.process(open, id, kind, &records[at..=at], None)?;
            }
        }
        self.positions.insert(id, offset + 1);
        self.process(open, id, kind, &records[at + 1..], None)
    }

    /// One dead letter that is not the decoder's or the plan's.
    fn bury(
        &mut self,
        open: &mut Open,
        id: i32,
        timestamp_type: TimestampType,
        record: &Record,
        fault: &Fault,
    ) -> Result<(), Fail> {
        let letter = Letter { record, fault, timestamp_type };
        open.letters.send(id, &[letter]).map_err(|error| Fail::Down(error.to_string()))
    }

    /// A batch with a right checksum that cannot be decoded is one dead letter with its bytes, and the pipeline goes on.
    fn undecodable(
        &mut self,
        open: &mut Open,
        id: i32,
        kind: TimestampType,
        batch: &Batch,
        reason: String,
    ) -> Result<(), Fail> {
        let record = Record {
            offset: batch.last_offset(),
            timestamp: batch.header().max_timestamp,
            key: None,
            value: Some(batch.bytes().clone()),
            headers: Vec::new(),
        };
        let fault = Fault { reason: Reason::BadBatch, column: None, message: reason.into() };
        self.bury(open, id, kind, &record, &fault)?;
        self.count_dead(&fault, batch.header().count.max(0) as u64);
        self.positions.insert(id, batch.next_offset().0);
        Ok(())
    }

    fn count_dead(&mut self, fault: &Fault, records: u64) {
        let pipeline = self.job.spec.name.clone();
        metrics::counter!(names::STREAM_DEAD_LETTERS.name, "pipeline" => pipeline.clone(), "reason" => fault.reason.as_str()).increment(records);
        metrics::counter!(names::STREAM_RECORDS.name, "pipeline" => pipeline).increment(records);
        self.counts.read += records;
        self.counts.dead += records;
        self.watched.0 += records;
        self.watched.1 += records;
    }

    fn count(&mut self, work: &Work, records: u64) {
        let pipeline = &self.job.spec.name;
        for (_, fault) in &work.bad {
            metrics::counter!(names::STREAM_DEAD_LETTERS.name, "pipeline" => pipeline.clone(), "reason" => fault.reason.as_str()).increment(1);
        }
        for (reason, count) in work.filtered.iter().filter(|(_, count)| *count > 0) {
            metrics::counter!(names::STREAM_FILTERED.name, "pipeline" => pipeline.clone(), "reason" => *reason)
                .increment(u64::from(*count));
            self.counts.filtered += u64::from(*count);
        }
        metrics::counter!(names::STREAM_RECORDS.name, "pipeline" => pipeline.clone()).increment(records);
        metrics::counter!(names::STREAM_ROWS.name, "pipeline" => pipeline.clone()).increment(work.written);
        let dead = work.bad.len() as u64;
        self.counts.read += records;
        self.counts.written += work.written;
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
    fn wait(&self, topic: &Topic) {
        let partitions = topic.partitions();
        let mut moves: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = Vec::with_capacity(partitions.len());
        for partition in partitions.iter().filter(|partition| !self.held.contains_key(&partition.id().0)) {
            let known = self.positions.get(&partition.id().0).map_or(partition.start(), |next| Offset(*next));
            moves.push(Box::pin(partition.tail_past(known)));
        }
        let any = poll_fn(|context| {
            let is_ready = moves.iter_mut().any(|moved| moved.as_mut().poll(context).is_ready());
            if is_ready { Poll::Ready(()) } else { Poll::Pending }
        });
        let due = self.held.values().map(|held| held.until.saturating_duration_since(Instant::now())).min();
        let nap = due.map_or(NAP, |due| due.min(NAP));
        let _ = self.options.runtime.block_on(async { tokio::time::timeout(nap, any).await });
    }
}

/// Records of one partition, transformed.
struct Work {
    shaped: Shaped,
    /// By row the index of its record.
    sources: Vec<u32>,
    written: u64,
    /// By index of their record, ascending.
    bad: Vec<(u32, Fault)>,
    filtered: [(&'static str, u32); 3],
}

/// Brings rows into their output's form; what it can never take is bad too.
fn shape(open: &Open, records: &[Record], ready: Ready) -> Work {
    let Ready { mut settled, filtered, .. } = ready;
    let (mut shaped, unfit) = open.sink.shape(settled.rows.clone(), &settled.sources, records);
    if !unfit.is_empty() {
        let unfit = unfit.into_iter().map(|(row, fault)| (settled.sources[row as usize], fault)).collect();
        settled = spoil(settled, unfit);
        (shaped, _) = open.sink.shape(settled.rows.clone(), &settled.sources, records);
    }
    let Settled { rows, sources, bad } = settled;
    Work { shaped, sources, written: rows.num_rows() as u64, bad, filtered }
}
