//! One pipeline on one thread: read, decode, transform, write, cut; again.
//!
//! Positions move only with a cut: the files are synced, the checkpoint names them, then they get their names. After a crash or an error
//! everything since the last cut is read again, so each record is in exactly one file, or filtered, or one dead letter.

use super::Options;
use super::checkpoint::{Checkpoint, Counts, make_folder};
use super::dead_letters::DeadLetters;
use super::fault::{Fault, Reason};
use super::lanes::{Lanes, Outcome, Piece};
use super::plan::Plan;
use super::sink::parquet::{CutName, Parquet, finish};
use super::spec::{ParquetOutput, Spec};
use crate::control::{PipelineStatus, State};
use crate::metrics as names;
use crate::record::{Batch, Offset, PartitionId, Record};
use crate::store::{ReadError, Topic};
use crate::work::Pool;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// Bytes of log that one turn reads of a partition.
const READ_SIZE: usize = 4 << 20;
/// The longest sleep while there is nothing to do: a sign of life, the age of files and a stop are looked at this often.
const NAP: Duration = Duration::from_millis(200);
/// Status is published at most this often.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// Pauses while an output is down: from the first to the longest, doubling.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// A planned pipeline.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) spec: Arc<Spec>,
    pub(super) plan: Arc<Plan>,
}

/// When a pipeline is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Stop,
    /// Or when it has read all there is.
    End,
}

/// Why a turn could not be done; the pipeline tries again from its last cut.
type Down = String;

struct Runner {
    options: Arc<Options>,
    pool: Arc<Pool>,
    job: Job,
    output: ParquetOutput,
    path: PathBuf,
    checkpoint: Checkpoint,
    /// Of the run since the last cut.
    positions: BTreeMap<i32, i64>,
    counts: Counts,
    /// When the first record since the last cut was read.
    since: Option<Instant>,
    published: Instant,
    stop: Arc<AtomicBool>,
    until: Until,
}

/// What is open while the source is there.
struct Open {
    topic: Arc<Topic>,
    lanes: Arc<Lanes>,
    sink: Parquet,
    letters: DeadLetters,
}

/// Runs until `stop`; cuts before it returns.
///
/// # Errors
/// What makes it impossible to begin: a damaged checkpoint.
pub(super) fn run(
    options: &Arc<Options>,
    pool: &Arc<Pool>,
    job: &Job,
    stop: &Arc<AtomicBool>,
    until: Until,
) -> Result<(), String> {
    let output = job.spec.to.clone();
    let path = checkpoint_path(options, &job.spec.name);
    if let Some(folder) = path.parent() {
        make_folder(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    }
    let loaded = Checkpoint::load(&path).map_err(|error| error.to_string())?;
    let mut checkpoint = loaded.unwrap_or_else(|| Checkpoint::new(&job.spec.text));
    checkpoint.text.clone_from(&job.spec.text);
    let mut runner = Runner {
        options: options.clone(),
        pool: pool.clone(),
        job: job.clone(),
        output,
        path,
        positions: checkpoint.positions.clone(),
        counts: checkpoint.counts,
        checkpoint,
        since: None,
        published: Instant::now(),
        stop: stop.clone(),
        until,
    };
    runner.run();
    Ok(())
}

/// Where a pipeline keeps its checkpoint.
pub(super) fn checkpoint_path(options: &Options, name: &str) -> PathBuf {
    options.data.join("pipelines").join(name).join("checkpoint")
}

impl Runner {
    fn run(&mut self) {
        let mut pause = BACKOFF_MIN;
        while !self.is_stopping() {
            let Some(topic) = self.options.store.topic(self.job.spec.from.as_str()) else {
                self.publish(State::NoTopic, Some(format!("topic {} does not exist", self.job.spec.from)));
                std::thread::park_timeout(NAP);
                continue;
            };
            match self.open(topic).and_then(|mut open| self.turns(&mut open)) {
                Ok(()) => pause = BACKOFF_MIN,
                Err(down) => {
                    warn!(pipeline = self.job.spec.name, reason = %down, again_in_s = pause.as_secs(), "the pipeline is stalled");
                    self.positions.clone_from(&self.checkpoint.positions);
                    self.counts = self.checkpoint.counts;
                    self.since = None;
                    self.rest(pause, &down);
                    pause = (pause * 2).min(BACKOFF_MAX);
                }
            }
        }
        self.publish(State::Stopped, None);
    }

    /// Waits out a pause, beating.
    fn rest(&mut self, pause: Duration, why: &str) {
        let began = Instant::now();
        while began.elapsed() < pause && !self.is_stopping() {
            self.published = Instant::now() - STATUS_INTERVAL;
            self.publish(State::Stalled, Some(why.to_owned()));
            std::thread::park_timeout(NAP);
        }
    }

    fn open(&mut self, topic: Arc<Topic>) -> Result<Open, Down> {
        if self.checkpoint.topic != Some(topic.id) {
            if self.checkpoint.topic.is_some() {
                warn!(pipeline = self.job.spec.name, topic = %topic.name, "the topic was made anew, the pipeline begins at its start");
                self.checkpoint.generation += 1;
                self.checkpoint.cut = 0;
            }
            self.checkpoint.topic = Some(topic.id);
            self.checkpoint.positions.clear();
            self.positions.clear();
        }
        let plan = &self.job.plan;
        let name = &self.job.spec.name;
        let sink = Parquet::open(self.output.clone(), name, &self.options.out, &self.checkpoint.files, &self.pool);
        let sink = sink.map_err(|error| format!("output {}: {error}", self.output.folder.display()))?;
        let letters = DeadLetters::open(
            &self.options.store,
            &self.options.runtime,
            &self.job.spec.on_error.then,
            &topic,
            name,
            &self.checkpoint.dead_letter_ends,
        );
        let letters = letters.map_err(|error| error.to_string())?;
        Ok(Open { topic, lanes: Arc::new(Lanes::new(&self.pool, plan)), sink, letters })
    }

    /// Reads and writes until the stop, the topic's end of life, or an error.
    fn turns(&mut self, open: &mut Open) -> Result<(), Down> {
        let result = self.turns_until_stop(open);
        if result.is_err() {
            open.sink.discard();
        }
        result
    }

    fn turns_until_stop(&mut self, open: &mut Open) -> Result<(), Down> {
        while !self.is_stopping() && !open.topic.is_deleted() {
            let mut has_read = false;
            for partition in 0..open.topic.partition_count() {
                has_read |= self.turn(open, PartitionId(partition))?;
                if self.is_stopping() {
                    break;
                }
            }
            let is_old = self.since.is_some_and(|since| since.elapsed() >= self.output.roll_age);
            if is_old || open.sink.is_full() {
                self.cut(open)?;
            }
            self.publish(State::Running, None);
            if !has_read && self.until == Until::End {
                self.stop.store(true, Ordering::Release);
            } else if !has_read {
                self.wait(&open.topic);
            }
        }
        self.cut(open)
    }

    /// One read of one partition. Says whether there was anything.
    fn turn(&mut self, open: &mut Open, id: PartitionId) -> Result<bool, Down> {
        let Some(partition) = open.topic.partition(id) else { return Ok(false) };
        let next = Offset(*self.positions.entry(id.0).or_insert(partition.start().0));
        if next >= partition.tail() && next <= partition.tail() {
            return Ok(false);
        }
        let slice = match partition.read_blocking(next, READ_SIZE) {
            Ok(slice) => slice,
            Err(ReadError::OutOfRange { start, tail, .. }) => {
                let to = if next < start { start } else { tail };
                error!(
                    pipeline = self.job.spec.name,
                    partition = id.0,
                    from = next.0,
                    to = to.0,
                    "records left the log before the pipeline read them, or the log ends earlier: it goes on"
                );
                metrics::counter!(names::STREAM_LOST_RECORDS.name, "pipeline" => self.job.spec.name.clone())
                    .increment((to.0 - next.0).unsigned_abs());
                self.positions.insert(id.0, to.0);
                return Ok(true);
            }
            Err(ReadError::Deleted) => return Ok(false),
            Err(error) => return Err(error.to_string()),
        };
        let lanes = open.lanes.clone();
        lanes.run(id, next, &slice.batches, |outcome| match outcome {
            Outcome::Piece(piece) => self.piece(open, id, &piece),
            Outcome::Undecodable { batch, reason } => self.undecodable(open, id, &batch, reason),
        })?;
        let position = slice.batches.last().map_or(next, Batch::next_offset);
        self.positions.insert(id.0, position.0);
        if !slice.batches.is_empty() {
            self.since.get_or_insert_with(Instant::now);
        }
        Ok(!slice.batches.is_empty())
    }

    /// Writes what became of records of one partition.
    fn piece(&mut self, open: &mut Open, id: PartitionId, piece: &Piece) -> Result<(), Down> {
        let times: Vec<i64> = piece.sources.iter().map(|index| piece.records.get(*index as usize).timestamp).collect();
        let name = CutName { generation: self.checkpoint.generation, cut: self.checkpoint.cut };
        if piece.rows.num_rows() > 0 {
            open.sink.write(&piece.rows, &times, &name).map_err(|error| format!("cannot write Parquet: {error}"))?;
        }
        let bad: Vec<(Record, &Fault)> =
            piece.bad.iter().map(|(index, fault)| (piece.records.record(*index as usize), fault)).collect();
        let letters: Vec<(&Record, &Fault)> = bad.iter().map(|(record, fault)| (record, *fault)).collect();
        open.letters.send(id, &letters).map_err(|error| error.to_string())?;
        let pipeline = &self.job.spec.name;
        for (_, fault) in &bad {
            metrics::counter!(names::STREAM_DEAD_LETTERS.name, "pipeline" => pipeline.clone(), "reason" => fault.reason.as_str()).increment(1);
        }
        let filtered =
            [("false", piece.rejected_false), ("null", piece.rejected_null), ("content-type", piece.passed_over)];
        for (reason, count) in filtered.iter().filter(|(_, count)| *count > 0) {
            metrics::counter!(names::STREAM_FILTERED.name, "pipeline" => pipeline.clone(), "reason" => *reason)
                .increment(u64::from(*count));
            self.counts.filtered += u64::from(*count);
        }
        metrics::counter!(names::STREAM_RECORDS.name, "pipeline" => pipeline.clone())
            .increment(piece.records.len() as u64);
        metrics::counter!(names::STREAM_ROWS.name, "pipeline" => pipeline.clone())
            .increment(piece.rows.num_rows() as u64);
        self.counts.read += piece.records.len() as u64;
        self.counts.written += piece.rows.num_rows() as u64;
        self.counts.dead += bad.len() as u64;
        Ok(())
    }

    /// A batch with a right checksum that cannot be decoded is one dead letter with its bytes, and the pipeline goes on.
    fn undecodable(&mut self, open: &mut Open, id: PartitionId, batch: &Batch, reason: String) -> Result<(), Down> {
        let record = Record {
            offset: batch.last_offset(),
            timestamp: batch.header().max_timestamp,
            key: None,
            value: Some(batch.bytes().clone()),
            headers: Vec::new(),
        };
        let fault = Fault { reason: Reason::BadBatch, column: None, message: reason.into() };
        open.letters.send(id, &[(&record, &fault)]).map_err(|error| error.to_string())?;
        self.counts.dead += batch.header().count.max(0) as u64;
        self.counts.read += batch.header().count.max(0) as u64;
        Ok(())
    }

    /// Closes all files, writes the checkpoint, gives the files their names.
    fn cut(&mut self, open: &mut Open) -> Result<(), Down> {
        if open.sink.is_empty() && self.positions == self.checkpoint.positions {
            self.since = None;
            return Ok(());
        }
        let began = Instant::now();
        let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        let files = open.sink.close(&self.positions).map_err(failed("cannot close the Parquet files"))?;
        let count = files.len();
        let mut next = self.checkpoint.clone();
        next.cut += 1;
        next.positions.clone_from(&self.positions);
        next.dead_letter_ends = open.letters.ends();
        next.counts = self.counts;
        next.files = files;
        next.save(&self.path).map_err(failed("cannot write the pipeline's checkpoint"))?;
        self.checkpoint = next;
        self.since = None;
        for file in &self.checkpoint.files {
            finish(file).map_err(failed("cannot put a Parquet file into place"))?;
        }
        let pipeline = self.job.spec.name.clone();
        metrics::counter!(names::STREAM_FILES.name, "pipeline" => pipeline.clone()).increment(count as u64);
        metrics::histogram!(names::STREAM_CUT_SECONDS.name, "pipeline" => pipeline)
            .record(began.elapsed().as_secs_f64());
        info!(
            pipeline = self.job.spec.name,
            files = count,
            cut = self.checkpoint.cut,
            rows = self.counts.written,
            "cut"
        );
        Ok(())
    }

    /// Sleeps until there is more to read, or for a nap.
    fn wait(&self, topic: &Topic) {
        let partitions = topic.partitions();
        let mut moves: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = Vec::with_capacity(partitions.len());
        for partition in partitions.iter() {
            let known = self.positions.get(&partition.id().0).map_or(partition.start(), |next| Offset(*next));
            moves.push(Box::pin(partition.tail_past(known)));
        }
        let any = poll_fn(|context| {
            let is_ready = moves.iter_mut().any(|moved| moved.as_mut().poll(context).is_ready());
            if is_ready { Poll::Ready(()) } else { Poll::Pending }
        });
        let _ = self.options.runtime.block_on(async { tokio::time::timeout(NAP, any).await });
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn publish(&mut self, state: State, reason: Option<String>) {
        if self.published.elapsed() < STATUS_INTERVAL && state == State::Running {
            return;
        }
        self.published = Instant::now();
        let topic = self.options.store.topic(self.job.spec.from.as_str());
        let lag: i64 = topic
            .iter()
            .flat_map(|topic| topic.partitions().as_ref().clone())
            .map(|partition| {
                let next = self.positions.get(&partition.id().0).copied().unwrap_or(partition.start().0);
                (partition.tail().0 - next).max(0)
            })
            .sum();
        metrics::gauge!(names::STREAM_LAG_RECORDS.name, "pipeline" => self.job.spec.name.clone()).set(lag as f64);
        self.options.control.publish(PipelineStatus {
            name: self.job.spec.name.clone(),
            file: self.job.spec.file.display().to_string(),
            state,
            reason,
            source: format!("topic:{}", self.job.spec.from),
            outputs: vec![format!("parquet {}", self.options.out.join(&self.output.folder).display())],
            positions: self.positions.clone(),
            committed: self.checkpoint.positions.clone(),
            lag_records: lag,
            records_read: self.counts.read,
            rows_written: self.counts.written,
            filtered: self.counts.filtered,
            dead_letters: self.counts.dead,
            beat_ms: self.options.clock.now_ms(),
        });
    }
}
