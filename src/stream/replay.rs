//! Dead letters fed to the pipeline that failed on them, beside its live run: the same text over the letters that were chosen, into the
//! outputs that lack them, with a checkpoint, producers and file names of its own. A backfill is the same over a range of the source.
//!
//! All outputs stand together, at offsets of the dead letter topic. A crash goes on from the last cut as in the live run: staged files are
//! thrown away, and topics say by `inrush-source` (with the dead letter topic's id) what they have. What was chosen is written down before
//! the first row; letters count as handled when the last cut is made. What fails again is a letter again, behind those that were chosen.

use super::Options;
use super::checkpoint::Checkpoint;
use super::dead_letters::Letter as Again;
use super::fault::{Fault, Reason};
use super::hooks::{Hooks, Step};
use super::lanes::{Lanes, Piece, Ready};
use super::life::Life;
use super::load::{self, Job};
use super::output::lines_mut;
use super::rows::{ROWS_BYTES_MAX, ROWS_MAX};
use super::runner::{self, BACKOFF_MAX, BACKOFF_MIN, Fail, NAP, Open, Runner};
use super::sink::bucket::Beat;
use super::sink::journal::Last;
use super::sink::staged::{finish_all, sync_names};
use super::source::{Source, Stretch};
use super::spec::{Output, Route};
use super::writing::{Wrote, letters};
use crate::control::{PipelineStatus, State};
use crate::disk::{create_folder, replace};
use crate::letters::{Letter, Letters, Offsets, Ranges, before_failing, replay_folder, replay_job};
use crate::record::{Batch, DECODED_SIZE_MAX, Offset, PartitionId, Record, TimestampType, TopicName};
use crate::store::ReadError;
use arrow::array::BooleanArray;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{info, warn};
use uuid::Uuid;

/// Bytes of log that are read at a time.
const READ_SIZE: usize = 4 << 20;
/// A cut at least so often: it bounds what a start does again.
const CUT_AGE: Duration = Duration::from_secs(10);

/// What is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Fed {
    /// Dead letters, as the records that they were.
    Letters,
    /// Records of the source itself.
    Backfill,
}

/// What is replayed: written down once, before it begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Replay {
    pub(super) pipeline: String,
    pub(super) fed: Fed,
    /// The dead letter topic's, or the source's.
    pub(super) topic: Uuid,
    /// By output of the text, such as `parquet clicks`, the folder or topic that is written in its place. If there is one, other outputs
    /// get nothing.
    pub(super) to: BTreeMap<String, String>,
    pub(super) chosen: Offsets,
    pub(super) count: u64,
    /// The pipeline's text: another one that comes meanwhile is the next replay's.
    pub(super) text: String,
    /// When it was asked for, in ms: no two of a pipeline are alike, and so are no names of their files.
    pub(super) number: i64,
}

/// How a replay's thread ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// All letters are handled.
    Done(String),
    /// It was stopped. If it `stands`, all outputs have the letters below its checkpoint, and no other.
    Stopped { stands: bool },
}

/// How feeding ended.
enum Feeding {
    Done,
    /// As [`Ended::Stopped`].
    Stopped {
        stands: bool,
    },
}

/// Where a pipeline's replay keeps its files.
pub(super) fn folder(options: &Options, pipeline: &str) -> PathBuf {
    replay_folder(&options.data, pipeline)
}

fn checkpoint_path(folder: &Path) -> PathBuf {
    folder.join("checkpoint")
}

impl Replay {
    /// What its files are called, before generation and cut.
    pub(super) fn file_name(&self) -> String {
        match self.fed {
            Fed::Letters => format!("{}-replay-{}", self.pipeline, self.number),
            Fed::Backfill => format!("{}-backfill-{}", self.pipeline, self.number),
        }
    }

    /// What it counts.
    pub(super) fn noun(&self) -> &'static str {
        match self.fed {
            Fed::Letters => "letters",
            Fed::Backfill => "records",
        }
    }

    /// What runs, with the outputs that are to be written alone: no other is opened, or lacks what fails.
    ///
    /// # Errors
    /// The text's mistakes.
    pub(super) fn job(&self, file: &Path) -> Result<Job, String> {
        let mut job = load::text(file, &self.text).map_err(|mistakes| {
            let mistake = mistakes.first().map(ToString::to_string).unwrap_or_default();
            format!("this version does not understand the text that it began with ({mistake})")
        })?;
        if self.to.is_empty() {
            return Ok(job);
        }
        let mut spec = (*job.spec).clone();
        let to = |route: &Route| self.to.get(&route.to.to_string());
        job.plan = Arc::new((*job.plan).clone().only(spec.routes.iter().map(|route| to(route).is_some()).collect()));
        spec.routes.retain(|route| to(route).is_some());
        for route in &mut spec.routes {
            let Some(to) = self.to.get(&route.to.to_string()) else { continue };
            match &mut route.to {
                Output::Parquet(out) => out.folder = PathBuf::from(to),
                Output::Topic(out) => out.topic = TopicName::new(to).map_err(|error| error.to_string())?,
                Output::Kafka(out) => out.topic = TopicName::new(to).map_err(|error| error.to_string())?,
                Output::Http(_) | Output::Stdout => return Err(format!("{} has no other place to go to", route.to)),
            }
        }
        job.spec = Arc::new(spec);
        Ok(job)
    }

    /// Writes it down, with the checkpoint that it begins at; durable when it returns.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn begin(&self, options: &Options, pipeline: Uuid) -> io::Result<()> {
        let folder = folder(options, &self.pipeline);
        create_folder(&folder)?;
        let mut checkpoint = Checkpoint::new(&self.text);
        checkpoint.id = pipeline;
        checkpoint.topic = Some(self.topic);
        checkpoint.positions =
            self.chosen.iter().filter_map(|(partition, ranges)| Some((*partition, ranges.first()?))).collect();
        checkpoint.save(&checkpoint_path(&folder))?;
        replace(&replay_job(&folder), &serde_json::to_vec(self)?)
    }

    /// The one of a pipeline that was begun and has not ended.
    ///
    /// # Errors
    /// The system's; the file is damaged.
    pub(super) fn load(options: &Options, pipeline: &str) -> io::Result<Option<Replay>> {
        match fs::read(replay_job(&folder(options, pipeline))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        }
    }

    /// What is chosen of it that lies below the cuts of its checkpoint.
    pub(super) fn done(&self, options: &Options) -> io::Result<Offsets> {
        let checkpoint = Checkpoint::load(&checkpoint_path(&folder(options, &self.pipeline)))?;
        let positions = checkpoint.map(|checkpoint| checkpoint.committed()).unwrap_or_default();
        let below = |(partition, ranges): (&i32, &Ranges)| {
            (*partition, positions.get(partition).map_or_else(Ranges::default, |next| ranges.below(*next)))
        };
        Ok(self.chosen.iter().map(below).collect())
    }

    /// Notes letters as handled and forgets the replay, in this order: a crash between the two does the first again. Nothing is done to one
    /// that has ended already, or in whose place another was begun.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn end(&self, options: &Options, done: &Offsets) -> Result<(), String> {
        let begun = Replay::load(options, &self.pipeline).map_err(|error| error.to_string())?;
        if begun.is_none_or(|begun| begun.number != self.number) {
            return Ok(());
        }
        self.finish_files(options).map_err(|error| format!("files of its last cut have no names yet: {error}"))?;
        if let (Fed::Letters, Some(topic)) = (self.fed, options.store.topic_by_id(self.topic)) {
            let letters = Letters::new(options.store.clone(), options.data.clone());
            letters.handle(&topic, done).map_err(|error| error.to_string())?;
        }
        let folder = folder(options, &self.pipeline);
        fs::remove_file(replay_job(&folder)).map_err(|error| format!("cannot end the replay: {error}"))?;
        // Nothing names the rest any more.
        let _ = fs::remove_dir_all(&folder);
        if let Ok(job) = self.job(Path::new(&self.pipeline)) {
            for route in &job.spec.routes {
                if let Output::Parquet(out) = &route.to {
                    let _ = fs::remove_dir(options.out.join(&out.folder).join("_inrush").join(self.file_name()));
                }
            }
        }
        Ok(())
    }

    /// Gives the files that its checkpoint names their names: once the checkpoint is gone nobody would.
    fn finish_files(&self, options: &Options) -> io::Result<()> {
        let quiet: Beat = Arc::new(|| {});
        let known = Checkpoint::load(&checkpoint_path(&folder(options, &self.pipeline)))?;
        for output in known.iter().flat_map(|known| known.outputs.values()) {
            finish_all(&output.files, &quiet)?.try_for_each(|done| done.map(drop))?;
            sync_names(&output.files)?;
        }
        Ok(())
    }

    fn left(&self, positions: &BTreeMap<i32, i64>) -> u64 {
        let left = |(partition, ranges): (&i32, &Ranges)| match positions.get(partition) {
            Some(next) => ranges.from(*next).count(),
            None => ranges.count(),
        };
        self.chosen.iter().map(left).sum()
    }
}

/// Runs a replay until its end, or until its life is stopped; cuts before it returns.
///
/// # Errors
/// What makes it impossible to begin or go on.
pub(super) fn run(
    options: &Arc<Options>,
    file: &Path,
    replay: &Arc<Replay>,
    life: &Arc<Life>,
    hooks: &Hooks,
) -> Result<Ended, String> {
    let job = replay.job(file)?;
    let path = checkpoint_path(&folder(options, &replay.pipeline));
    let mut runner = runner::begin(options, &job, path, life, hooks)?;
    runner.replay = Some(replay.clone());
    // What it was begun with, it ends with: rows of a run before this one were looked up in these.
    runner.bring_back_tables();
    let mut pause = BACKOFF_MIN;
    while !life.is_stopping() {
        let Some(topic) = options.store.topic_by_id(replay.topic) else {
            return Err("the topic that it reads is gone".to_owned());
        };
        let began = Instant::now();
        let fed = runner.open(Source::of_log(topic)).and_then(|mut open| {
            let fed = runner.feed(&mut open, replay);
            if fed.is_err() {
                open.discard();
            }
            fed
        });
        match fed {
            Ok(Feeding::Done) => {
                let checkpoint = &runner.checkpoint;
                let again = checkpoint.dead() + checkpoint.counts.dead;
                let told = format!(
                    "done: {} {}, {} rows, {} filtered, {again} dead letters{}",
                    replay.count,
                    replay.noun(),
                    checkpoint.written(),
                    checkpoint.counts.filtered,
                    if replay.fed == Fed::Letters { " again" } else { "" }
                );
                // One that woke late must not end what another thread goes on with.
                let Some(ended) = life.seated(|| replay.end(options, &replay.chosen)) else { break };
                ended?;
                info!(pipeline = replay.pipeline, %told, "replay");
                runner.publish(State::Stopped, Some(told.clone()));
                return Ok(Ended::Done(told));
            }
            Ok(Feeding::Stopped { stands }) => return Ok(Ended::Stopped { stands }),
            Err(Fail::Broken(reason)) => return Err(reason),
            Err(Fail::Anew) => runner.rewind(),
            Err(Fail::Down(reason)) => {
                if began.elapsed() > BACKOFF_MAX {
                    pause = BACKOFF_MIN;
                }
                warn!(pipeline = replay.pipeline, %reason, again_in_s = pause.as_secs(), "the replay is stalled");
                runner.count_stall();
                runner.rewind();
                runner.rest(pause, &reason);
                pause = (pause * 2).min(BACKOFF_MAX);
            }
        }
    }
    Ok(Ended::Stopped { stands: false })
}

/// What would come of letters, and is written nowhere.
///
/// # Errors
/// They cannot be read; a schema registry is down.
pub(super) fn try_out(job: &Job, topic: &crate::store::Topic, chosen: &Offsets) -> Result<String, String> {
    let lanes = Lanes::new(&super::lanes::pool(), &job.spec.format, &job.plan);
    let (mut rows, mut dead, mut filtered) = (0, 0, 0);
    for (id, ranges) in chosen {
        let (Some(first), Some(end)) = (ranges.first(), ranges.end()) else { continue };
        let Some(partition) = topic.partition(PartitionId(*id)) else { continue };
        let mut next = first;
        while next < end {
            let records = match read(&Stretch::Log(partition.clone()), &ranges.from(next))
                .map_err(|error| error.to_string())?
            {
                Next::Records { records, next: after, .. } => {
                    next = after;
                    records
                }
                Next::Undecodable(batch, reason) => return Err(format!("offset {}: {reason}", batch.last_offset())),
            };
            let mut from = 0;
            for Piece { records: decoded, ready, .. } in lanes.pieces(*id, originals(*id, &records, job))? {
                let lacks = |at: usize, name: &str| Letter::of(*id, &records[from + at]).is_of_output(name);
                dead += ready.bad.len() + strayed(job, &ready, lacks).len();
                filtered += ready.filtered.total();
                for (route, made) in job.spec.routes.iter().zip(&ready.routes) {
                    let name = route.to.to_string();
                    rows += made.sources.iter().filter(|source| lacks(**source as usize, &name)).count();
                }
                from += decoded.len();
            }
        }
    }
    let count: u64 = chosen.values().map(Ranges::count).sum();
    Ok(format!(
        "{count} letters of {} would make {rows} rows; {filtered} rows would be filtered, {dead} records would fail again",
        topic.name
    ))
}

/// What is read next of a partition.
enum Next {
    /// Chosen records, of one kind of timestamps, and what comes behind them.
    Records { records: Vec<Record>, kind: TimestampType, next: i64 },
    /// A batch that cannot be decoded.
    Undecodable(Batch, String),
}

fn read(partition: &Stretch, rest: &Ranges) -> Result<Next, ReadError> {
    let mut kind = TimestampType::CreateTime;
    let Some(first) = rest.first() else { return Ok(Next::Records { records: Vec::new(), kind, next: i64::MAX }) };
    let slice = match partition.read_blocking(Offset(first), READ_SIZE) {
        // Somebody dropped them meanwhile.
        Err(ReadError::OutOfRange { start, .. }) if start.0 > first => {
            return Ok(Next::Records { records: Vec::new(), kind, next: start.0 });
        }
        read => read?,
    };
    let (mut records, mut size) = (Vec::new(), 0);
    let mut next = rest.end().unwrap_or(first + 1);
    for batch in &slice.batches {
        let found = match batch.records(DECODED_SIZE_MAX) {
            Err(error) if records.is_empty() => return Ok(Next::Undecodable(batch.clone(), error.to_string())),
            Err(_) => break,
            Ok(_) if !records.is_empty() && batch.header().timestamp_type != kind => break,
            Ok(found) => found,
        };
        kind = batch.header().timestamp_type;
        for record in found.into_iter().filter(|record| rest.contains(record.offset.0)) {
            size += record.value.as_ref().map_or(0, |value| value.len());
            next = record.offset.0 + 1;
            records.push(record);
            if records.len() >= ROWS_MAX || size >= ROWS_BYTES_MAX {
                return Ok(Next::Records { records, kind, next });
            }
        }
        next = batch.next_offset().0;
    }
    Ok(Next::Records { records, kind, next })
}

/// The records that failed, as the pipeline first saw them.
fn originals(partition: i32, letters: &[Record], job: &Job) -> Vec<Record> {
    let from = job.spec.from.as_str();
    let original = |letter: &Record| {
        let origin = Letter::of(partition, letter).origin(Some(from));
        let record = before_failing(letter, Some(from));
        Record {
            offset: origin.offset.map_or(letter.offset, Offset),
            timestamp: origin.timestamp.unwrap_or(letter.timestamp),
            ..record
        }
    };
    letters.iter().map(original).collect()
}

/// Letters of which all rows go to outputs that they are not of: the file has changed, or a table that routes go by.
fn strayed(job: &Job, ready: &Ready, lacks: impl Fn(usize, &str) -> bool) -> Vec<(u32, Fault)> {
    let mut found: BTreeMap<u32, Option<String>> = BTreeMap::new();
    for (route, rows) in job.spec.routes.iter().zip(&ready.routes) {
        let name = route.to.to_string();
        for source in &rows.sources {
            match lacks(*source as usize, &name) {
                true => drop(found.insert(*source, None)),
                false => drop(found.entry(*source).or_insert_with(|| Some(name.clone()))),
            }
        }
    }
    let fault = |(at, other): (u32, Option<String>)| {
        let told = format!(
            "its row goes to {} now, and the letter is not of it: bring back the file or table that it failed with, or send it to a topic, inrush dlt replay --to-topic",
            other?
        );
        Some((at, Fault::of_value(Reason::OtherOutput, told)))
    };
    found.into_iter().filter_map(fault).collect()
}

impl Runner {
    /// Feeds all letters that are left, and cuts; also where it is stopped before the last.
    fn feed(&mut self, open: &mut Open, replay: &Replay) -> Result<Feeding, Fail> {
        // All outputs stand together: one that falls ends this run.
        open.until = Some(self.positions.clone());
        if let Some(reason) = open.outlets.iter().find_map(|outlet| outlet.down.reason.clone()) {
            return Err(Fail::Down(reason));
        }
        let mut cut_at = Instant::now();
        for (id, ranges) in &replay.chosen {
            loop {
                let rest = ranges.from(self.positions.get(id).copied().unwrap_or(0));
                if rest.is_empty() {
                    break;
                }
                self.publish(State::Running, None);
                if self.life.is_stopping() {
                    self.cut_together(open)?;
                    // What a run before this one wrote behind the last cut is there, and was not passed yet.
                    let is_passed = |(id, next): (&i32, &i64)| self.positions.get(id).copied().unwrap_or(0) >= *next;
                    return Ok(Feeding::Stopped { stands: open.furthest().iter().all(is_passed) });
                }
                match self.pace.wait() {
                    Some(wait) => self.pace.nap(wait, NAP),
                    None if self.feed_next(open, replay, *id, &rest)? => {}
                    None => break,
                }
                let is_full = lines_mut(&mut open.outlets).any(|line| line.sink.is_full());
                if is_full || cut_at.elapsed() > CUT_AGE {
                    self.cut_together(open)?;
                    cut_at = Instant::now();
                }
            }
        }
        self.cut_together(open)?;
        Ok(Feeding::Done)
    }

    /// Feeds what is read next of a partition. `false` if the topic has no such partition.
    fn feed_next(&mut self, open: &mut Open, replay: &Replay, id: i32, rest: &Ranges) -> Result<bool, Fail> {
        let Some(partition) = open.topic.partition(PartitionId(id)) else { return Ok(false) };
        let read = match read(&partition, rest) {
            Err(ReadError::Deleted) => return Err(Fail::Broken("the topic that it reads is gone".to_owned())),
            read => read.map_err(|error| error.to_string())?,
        };
        let all: Vec<usize> = (0..open.outlets.len()).collect();
        match read {
            Next::Records { records, kind, next } => {
                match replay.fed {
                    Fed::Letters => self.feed_letters(open, id, records)?,
                    Fed::Backfill => self.feed_records(open, id, kind, records)?,
                }
                self.advance(open, &all, id, next);
            }
            Next::Undecodable(batch, reason) => self.undecodable(open, &all, id, &batch, reason)?,
        }
        Ok(true)
    }

    /// Feeds records as they are, to all outputs.
    fn feed_records(
        &mut self,
        open: &mut Open,
        id: i32,
        kind: TimestampType,
        records: Vec<Record>,
    ) -> Result<(), Fail> {
        for Piece { records, ready, .. } in open.lanes.pieces(id, records)? {
            for at in 0..open.outlets.len() {
                let wrote = self.write(open, at, id, kind, &records, &ready.routes[at])?;
                self.is_taken(open, at, wrote)?;
            }
            self.hooks.at(Step::Written);
            let letters = letters(&ready.bad, &records, kind);
            open.letters.send(id, &letters, Last::Whole).map_err(|error| error.to_string())?;
            self.count(&ready, records.len() as u64);
            self.hooks.at(Step::Lettered);
        }
        Ok(())
    }

    /// All outputs stand together: what one does not take now holds up all.
    fn is_taken(&self, open: &Open, at: usize, wrote: Wrote) -> Result<(), Fail> {
        match wrote {
            Wrote::All => Ok(()),
            Wrote::Waits => Err(Fail::Down(format!("output {} does not take it now", open.outlets[at].name))),
        }
    }

    fn feed_letters(&mut self, open: &mut Open, id: i32, records: Vec<Record>) -> Result<(), Fail> {
        let pieces = open.lanes.pieces(id, originals(id, &records, &self.job))?;
        // What outputs see of a record: its place is that of the letter, or they could not tell how far they are.
        let own = |(letter, original): (&Record, Record)| Record { offset: letter.offset, ..original };
        self.letters = records;
        let mut from = 0;
        for Piece { records: originals, ready, .. } in pieces {
            let letters = &self.letters[from..from + originals.len()];
            from += originals.len();
            let own: Vec<Record> = letters.iter().zip(originals).map(own).collect();
            self.feed_piece(open, id, &own, ready)?;
        }
        // What outputs refuse later has its letter as long as these are known.
        self.settle_all(open, 0..open.outlets.len())?;
        self.letters.clear();
        Ok(())
    }

    fn feed_piece(&mut self, open: &mut Open, id: i32, records: &[Record], mut ready: Ready) -> Result<(), Fail> {
        let lacks = |at: usize, name: &str| {
            self.letter_of(&records[at]).is_some_and(|letter| Letter::of(id, letter).is_of_output(name))
        };
        let strayed = strayed(&self.job, &ready, lacks);
        ready.bad.extend(strayed);
        ready.bad.sort_by_key(|(at, _)| *at);
        for at in 0..open.outlets.len() {
            let name = open.outlets[at].name.clone();
            let rows = &ready.routes[at];
            let lacks = |source: &u32| {
                let letter = self.letter_of(&records[*source as usize]);
                Some(letter.is_some_and(|letter| Letter::of(id, letter).is_of_output(&name)))
            };
            let lacked: BooleanArray = rows.sources.iter().map(lacks).collect();
            let rows = rows.filter(&lacked).expect("there is an answer a row");
            let wrote = self.write(open, at, id, TimestampType::CreateTime, records, &rows)?;
            self.is_taken(open, at, wrote)?;
        }
        self.hooks.at(Step::Written);
        let mut again = Vec::with_capacity(ready.bad.len());
        for (at, fault) in &ready.bad {
            let Some(letter) = self.letter_of(&records[*at as usize]) else { continue };
            again.push((letter, Letter::of(id, letter).outputs(), fault));
        }
        let again: Vec<Again<'_>> = again
            .iter()
            .map(|(record, outputs, fault)| Again {
                record,
                fault,
                timestamp_type: TimestampType::CreateTime,
                outputs: Some(outputs),
            })
            .collect();
        open.letters.send(id, &again, Last::Whole).map_err(|error| error.to_string())?;
        self.count(&ready, records.len() as u64);
        self.hooks.at(Step::Lettered);
        Ok(())
    }

    /// The letter that a record of a replay is of; none in a live run.
    pub(super) fn letter_of(&self, record: &Record) -> Option<&Record> {
        let at = self.letters.binary_search_by_key(&record.offset, |letter| letter.offset).ok()?;
        self.letters.get(at)
    }

    /// A replay's line on the board.
    pub(super) fn publish_replay(&self, replay: &Replay, state: State, reason: Option<String>) {
        let left = replay.left(&self.positions);
        let (rows_written, dead_letters) = (self.checkpoint.written(), self.checkpoint.dead());
        let topic = self.options.store.topic_by_id(replay.topic);
        self.options.control.publish(PipelineStatus {
            name: PipelineStatus::replay_name(&replay.pipeline),
            file: self.job.spec.file.display().to_string(),
            state,
            reason,
            warnings: Vec::new(),
            source: topic.map_or_else(String::new, |topic| format!("topic:{}", topic.name)),
            outputs: Vec::new(),
            positions: self.positions.clone(),
            committed: self.checkpoint.committed(),
            lag_records: left as i64,
            lag_seconds: 0.0,
            records_read: replay.count - left.min(replay.count),
            rows_written,
            filtered: self.counts.filtered,
            dead_letters: self.counts.dead + dead_letters,
            retries: self.status.retries,
            stalls: self.status.stalls,
            cpu: self.pace.told(),
            windows_wait_for: Vec::new(),
            beat_ms: self.options.clock.now_ms(),
            cut_ms: None,
        });
    }
}
