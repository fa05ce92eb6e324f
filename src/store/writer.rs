//! Group commit: one thread a disk takes what is queued, writes it as one round, syncs, moves the tails and answers.
//!
//! While a round is at the disk the next one gathers in the queue, so one sync serves everything that came meanwhile. The thread parks
//! when there is nothing: it sets `is_parked`, looks at the queue once more, parks; who pushes unparks it.

use super::core::Core;
use super::keeper::CHECKPOINT_BYTES;
use super::partition::{LogState, Shared};
use super::topic_config::Durability;
use super::{Append, AppendError, Appended};
use crate::disk::{Buffer, Engine, File, Write, is_full, passes};
use crate::log::{PartitionLog, ROUND_SIZE_MAX, Round, SequenceError, Staged};
use crate::metrics as names;
use crate::record::{Offset, TimestampType};
use crossbeam::queue::ArrayQueue;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};
use tracing::error;

/// Appends that may wait for one writer.
const QUEUE_MAX: usize = 4_096;
/// Bytes of one round over all partitions.
pub const ROUND_TOTAL_MAX: usize = 32 << 20;
/// Memory that is kept between rounds.
const SPARE_BYTES_MAX: usize = 8 << 20;
/// A blocked thread looks again after this long, should a wake-up have gone to another.
const ROOM_PATIENCE: Duration = Duration::from_millis(1);

type Answer = oneshot::Sender<Result<Appended, AppendError>>;

/// One append on its way to the writer.
pub(super) struct Job {
    pub(super) partition: Arc<Shared>,
    pub(super) append: Append,
    pub(super) answer: Answer,
}

/// The way to one writer.
pub(super) struct Queue {
    jobs: ArrayQueue<Job>,
    /// Bytes of the batches in it.
    bytes: AtomicUsize,
    thread: OnceLock<Thread>,
    is_parked: AtomicBool,
    is_stopping: AtomicBool,
    /// The writer has ended: who pushes takes back what nobody else will take.
    is_over: AtomicBool,
    room: Notify,
}

impl Queue {
    pub(super) fn new() -> Queue {
        Queue {
            jobs: ArrayQueue::new(QUEUE_MAX),
            bytes: AtomicUsize::new(0),
            thread: OnceLock::new(),
            is_parked: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            room: Notify::new(),
        }
    }

    /// Queues a job and wakes the writer if it sleeps; a full queue gives the job back. One that comes after the writer's end is answered
    /// with [`AppendError::Closing`].
    pub(super) fn push(&self, job: Job) -> Result<(), Job> {
        let size = job.append.batch.size();
        // Added first, so that the sum never falls below zero. Relaxed: a number for people.
        self.bytes.fetch_add(size, Ordering::Relaxed);
        if let Err(job) = self.jobs.push(job) {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            return Err(job);
        }
        self.wake();
        // SeqCst as in `end`: either the writer finds the job when it empties the queue, or this sees that it is over.
        if self.is_over.load(Ordering::SeqCst) {
            self.turn_away();
        }
        Ok(())
    }

    /// The writer has ended: whoever waits gets an answer, and whoever comes now too. Nothing of theirs was written.
    fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.turn_away();
    }

    fn turn_away(&self) {
        while let Some(job) = self.pop() {
            let _ = job.answer.send(Err(AppendError::Closing));
        }
    }

    fn pop(&self) -> Option<Job> {
        let job = self.jobs.pop()?;
        self.bytes.fetch_sub(job.append.batch.size(), Ordering::Relaxed);
        Some(job)
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Completes after the writer took jobs; make it before trying, so that no wake-up falls between.
    pub(super) fn room(&self) -> tokio::sync::futures::Notified<'_> {
        self.room.notified()
    }

    pub(super) fn wait_for_room_blocking(&self) {
        std::thread::park_timeout(ROOM_PATIENCE);
    }

    /// The writer ends once the queue is empty.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn wake(&self) {
        // SeqCst on both sides: either the writer sees the job after it set the flag, or this sees the flag.
        if self.is_parked.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Waits for a job; `None` when stopping and empty.
    fn wait(&self) -> Option<Job> {
        loop {
            if let Some(job) = self.pop() {
                return Some(job);
            }
            self.is_parked.store(true, Ordering::SeqCst);
            if self.jobs.is_empty() {
                if self.is_stopping.load(Ordering::SeqCst) {
                    return None;
                }
                std::thread::park();
            }
            self.is_parked.store(false, Ordering::SeqCst);
        }
    }
}

/// Runs writer `number` until it is stopped. Reports on `ready` whether its engine could be made.
pub(super) fn run(core: &Arc<Core>, number: usize, ready: &crossbeam::channel::Sender<io::Result<()>>) {
    let queue = core.writers[number].clone();
    let _ = queue.thread.set(std::thread::current());
    let engine = match core.disk.engine() {
        Ok(engine) => engine,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let _ = ready.send(Ok(()));
    let files_max = files_at_once(core);
    let mut writer =
        Writer { core: core.clone(), engine, held: None, files_max, spare: Vec::new(), meters: Meters::new() };
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        while let Some(jobs) = writer.gather(&queue) {
            writer.core.rounds_since[number].store(writer.core.started.elapsed().as_millis() as i64, Ordering::Relaxed);
            writer.round(jobs);
            writer.core.rounds_since[number].store(-1, Ordering::Relaxed);
        }
    }));
    if ended.is_err() {
        error!(writer = number, "the log writer panicked");
        core.poison("the log writer panicked: this is a bug, see the log".to_owned());
    }
    queue.end();
}

/// Files that may be in hand at once besides those that handles keep: descriptors are left for sockets.
pub(super) fn files_at_once(core: &Core) -> usize {
    (core.disk.open_files().max() / 4).max(1)
}

struct Writer {
    core: Arc<Core>,
    engine: Box<dyn Engine>,
    /// Did not fit into the last round; the first of the next.
    held: Option<Job>,
    /// Partitions of one round: each has its file in hand until the round is durable.
    files_max: usize,
    /// Buffers of earlier rounds, for the next: fresh memory would cost a page fault a block.
    spare: Vec<Buffer>,
    meters: Meters,
}

/// The appends of one partition in a round.
struct Group {
    partition: Arc<Shared>,
    size: usize,
    jobs: Vec<(Append, Answer)>,
}

/// One partition's part of a round while the disk works.
struct Part<'a> {
    partition: &'a Arc<Shared>,
    state: MutexGuard<'a, LogState>,
    round: Round,
    answers: Vec<(Answer, Appended)>,
    is_os: bool,
    file: Arc<dyn File>,
    /// The write found no room, though space was reserved: a copy-on-write file system.
    no_room: Option<io::Error>,
}

impl Writer {
    /// What is queued now, by partition, within a round's limits. Keeps the order of each partition.
    fn gather(&mut self, queue: &Queue) -> Option<Vec<Group>> {
        let mut next = Some(match self.held.take() {
            Some(job) => job,
            None => queue.wait()?,
        });
        let mut groups: Vec<Group> = Vec::new();
        let mut places: HashMap<*const Shared, usize> = HashMap::new();
        let mut total = 0;
        while let Some(job) = next {
            let size = job.append.batch.size();
            let place = *places.entry(Arc::as_ptr(&job.partition)).or_insert(groups.len());
            let in_partition = groups.get(place).map_or(0, |group| group.size);
            let is_one_too_many = place == groups.len() && groups.len() >= self.files_max;
            if total > 0 && (total + size > ROUND_TOTAL_MAX || in_partition + size > ROUND_SIZE_MAX || is_one_too_many)
            {
                self.held = Some(job);
                break;
            }
            if place == groups.len() {
                groups.push(Group { partition: job.partition, size: 0, jobs: Vec::new() });
            }
            groups[place].size += size;
            groups[place].jobs.push((job.append, job.answer));
            total += size;
            next = queue.pop();
        }
        self.meters.queued.set(queue.len() as f64);
        self.meters.queued_bytes.set(queue.bytes.load(Ordering::Relaxed) as f64);
        queue.room.notify_waiters();
        Some(groups)
    }

    fn round(&mut self, groups: Vec<Group>) {
        let began = Instant::now();
        let core = self.core.clone();
        let now_ms = core.clock.now_ms();
        let split = |group: Group| (group.partition, (group.size, group.jobs));
        let (partitions, work): (Vec<_>, Vec<_>) = groups.into_iter().map(split).unzip();
        let mut parts: Vec<Part<'_>> = Vec::with_capacity(partitions.len());
        for (partition, (size, jobs)) in partitions.iter().zip(work) {
            let buffer = self.spare.pop().unwrap_or_else(|| Buffer::with_capacity(0));
            parts.extend(stage(&core, partition, size, jobs, now_ms, buffer));
        }
        if let Err(error) = self.write(&mut parts) {
            return fail(&core, parts, "write", &error);
        }
        let (without_room, mut parts): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| part.no_room.is_some());
        for part in without_room {
            give_back(&core, part);
        }
        for part in &mut parts {
            part.state.log.commit(&part.round, now_ms);
            part.state.is_dirty = true;
            part.state.is_unsynced |= part.is_os && !part.round.batches.is_empty();
        }
        let (os, fsync): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| part.is_os);
        for part in os {
            self.answer(part);
        }
        if let Err(error) = self.sync(&fsync) {
            return fail(&core, fsync, "sync", &error);
        }
        for mut part in fsync {
            part.state.is_unsynced = false;
            self.answer(part);
        }
        self.meters.commit_seconds.record(began.elapsed().as_secs_f64());
    }

    fn write(&mut self, parts: &mut [Part<'_>]) -> io::Result<()> {
        let began = Instant::now();
        let mut writes = Vec::with_capacity(parts.len());
        let mut written = Vec::with_capacity(parts.len());
        for (at, part) in parts.iter_mut().enumerate() {
            if part.round.batches.is_empty() {
                continue;
            }
            PartitionLog::seal_round(&mut part.round);
            let bytes = std::mem::replace(&mut part.round.bytes, Buffer::with_capacity(0));
            self.meters.round_bytes.record(bytes.len() as f64);
            self.meters.batches.increment(part.round.batches.len() as u64);
            written.push(at);
            writes.push(Write { file: part.file.clone(), position: part.round.position, bytes });
        }
        if writes.is_empty() {
            return Ok(());
        }
        let mut failed = None;
        for ((result, bytes), at) in self.engine.write_round(writes).into_iter().zip(written) {
            parts[at].round.bytes = bytes;
            match result {
                Ok(()) => {}
                Err(error) if is_full(&error) => parts[at].no_room = Some(error),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        self.meters.write_seconds.record(began.elapsed().as_secs_f64());
        failed.map_or(Ok(()), Err)
    }

    fn sync(&mut self, parts: &[Part<'_>]) -> io::Result<()> {
        let written = parts.iter().filter(|part| !part.round.batches.is_empty());
        let files: Vec<_> = written.map(|part| part.file.clone()).collect();
        if files.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let results: io::Result<()> = self.engine.sync_round(&files).into_iter().collect();
        self.meters.sync_seconds.record(began.elapsed().as_secs_f64());
        results
    }

    /// Shows readers what was written, then answers: a client that reads after its answer finds its record.
    fn answer(&mut self, part: Part<'_>) {
        let Part { partition, mut state, mut round, answers, .. } = part;
        self.keep(std::mem::replace(&mut round.bytes, Buffer::with_capacity(0)));
        if let Some(order) = state.log.order(self.core.clock.now_ms())
            && self.core.space_orders.push(order).is_ok()
        {
            self.core.space.get().inspect(|space| space.unpark());
        }
        if !round.batches.is_empty() {
            let bytes: usize = round.batches.iter().map(|(batch, _)| batch.size()).sum();
            let records: u64 = round.batches.iter().map(|(batch, _)| batch.header().count as u64).sum();
            partition.meters.bytes.increment(bytes as u64);
            partition.meters.records.increment(records);
            let since = self.core.uncheckpointed_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            if since < CHECKPOINT_BYTES && since + bytes as u64 >= CHECKPOINT_BYTES {
                self.core.keeper.get().inspect(|keeper| keeper.unpark());
            }
            self.core.cache.keep(partition, round.batches.into_iter().map(|(batch, _)| batch));
            if partition.epochs.load().len() != state.log.epochs.len() {
                partition.epochs.store(Arc::new(state.log.epochs.clone()));
            }
            partition.move_tail(state.log.end);
        }
        drop(state);
        for (answer, appended) in answers {
            // Who does not wait any more loses nothing: the batch is stored.
            let _ = answer.send(Ok(appended));
        }
    }
}

impl Writer {
    /// Keeps a round's buffer for a later one.
    fn keep(&mut self, buffer: Buffer) {
        let kept: usize = self.spare.iter().map(Buffer::capacity).sum();
        if buffer.capacity() > 0 && kept + buffer.capacity() <= SPARE_BYTES_MAX {
            self.spare.push(buffer);
        }
    }
}

/// Takes the round of one partition back whose write found no room: the log is cut to what was there before, and goes on.
fn give_back(core: &Core, part: Part<'_>) {
    let Part { partition, mut state, round, answers, no_room, .. } = part;
    let reason = no_room.map_or_else(String::new, |error| error.to_string());
    if let Err(error) = state.log.undo(round, core.disk.as_ref()) {
        core.poison(format!("cannot cut {}/{} after a write without room: {error}", partition.topic, partition.id));
    }
    state.is_dirty = true;
    state.is_unsynced = false;
    drop(state);
    for (answer, _) in answers {
        let _ = answer.send(Err(AppendError::Unknown(format!("there was no room for it: {reason}"))));
    }
}

/// Judges and stamps the appends of one partition; answers those that are refused. `None` if nothing is left of it.
fn stage<'a>(
    core: &Arc<Core>,
    partition: &'a Arc<Shared>,
    size: usize,
    jobs: Vec<(Append, Answer)>,
    now_ms: i64,
    buffer: Buffer,
) -> Option<Part<'a>> {
    let refuse = |jobs: Vec<(Append, Answer)>, error: AppendError| {
        for (_, answer) in jobs {
            let _ = answer.send(Err(error.clone()));
        }
    };
    if let Some(cause) = core.poisoned() {
        refuse(jobs, AppendError::Refused(cause.to_owned()));
        return None;
    }
    let config = partition.config.load();
    let mut state = partition.log();
    // Asked with the state in hand: a deletion waits for it before it takes the files away.
    if partition.is_deleted() {
        drop(state);
        refuse(jobs, AppendError::NoPartition { topic: partition.topic.clone(), partition: partition.id });
        return None;
    }
    if let Err(error) = make_room(core, partition, &mut state, size, now_ms) {
        drop(state);
        if partition.is_deleted() {
            refuse(jobs, AppendError::NoPartition { topic: partition.topic.clone(), partition: partition.id });
        } else if is_full(&error) {
            refuse(jobs, AppendError::LowDisk(error.to_string()));
        } else {
            let cause = format!("cannot extend {}/{}: {error}", partition.topic, partition.id);
            if !passes(&error) {
                core.poison(cause.clone());
            }
            refuse(jobs, AppendError::Refused(cause));
        }
        return None;
    }
    let file = match state.log.active.segment.file(core.disk.as_ref()) {
        Ok(file) => file,
        Err(error) => {
            refuse(jobs, AppendError::Refused(format!("cannot open the active segment: {error}")));
            return None;
        }
    };
    let mut round = state.log.begin(buffer, size);
    let mut answers = Vec::with_capacity(jobs.len());
    for (append, answer) in jobs {
        let batch = if config.log_append_time {
            append.batch.with_timestamps(TimestampType::LogAppendTime, now_ms)
        } else {
            append.batch
        };
        let sent_ms = batch.header().max_timestamp;
        let (base_offset, last_offset, is_duplicate) = match state.log.stage(&mut round, batch, now_ms) {
            Ok(Staged::At { base_offset, last_offset }) => (base_offset, last_offset, false),
            Ok(Staged::Duplicate { base_offset, last_offset }) => (base_offset, last_offset, true),
            Err(error) => {
                let _ = answer.send(Err(error.into()));
                continue;
            }
        };
        let append_time_ms = match is_duplicate {
            _ if config.log_append_time => now_ms,
            true => sent_ms,
            false => -1,
        };
        let log_start = Offset(partition.start.load(Ordering::Relaxed));
        answers.push((answer, Appended { base_offset, last_offset, log_start, append_time_ms, is_duplicate }));
        // The lease goes back when the bytes are in the round's buffer, which a round bounds by itself.
        drop(append.lease);
    }
    let is_os = config.durability == Durability::Os && state.is_os_recorded;
    Some(Part { partition, state, round, answers, is_os, file, no_room: None })
}

/// Rolls to a new segment if it is time, and reserves space for the round.
fn make_room(core: &Core, partition: &Shared, state: &mut LogState, size: usize, now_ms: i64) -> io::Result<()> {
    let config = partition.config.load();
    let segment_ms = partition.segment_ms(&config, state.log.active.segment.base);
    if state.log.must_roll(size as u64, config.segment_bytes, segment_ms, now_ms) {
        roll(core, partition, state)?;
    }
    state.log.reserve(core.disk.as_ref(), size as u64)
}

/// Seals the active segment and shows readers the new one.
pub(super) fn roll(core: &Core, partition: &Shared, state: &mut LogState) -> io::Result<()> {
    let sealed = state.log.active.segment.clone();
    begin_segment(core, partition, state)?;
    let _ = core.unindexed.push(sealed);
    Ok(())
}

/// As [`roll`], of a segment that nobody will read: it gets no index.
pub(super) fn begin_segment(core: &Core, partition: &Shared, state: &mut LogState) -> io::Result<()> {
    let rolled = state.log.roll(core.disk.as_ref());
    let segment = rolled.inspect_err(|error| {
        // The files of a deleted topic may go under its last round.
        if !partition.is_deleted() {
            core.poison_unless_passing("a roll to a new segment", error);
        }
    })?;
    state.is_unsynced = false;
    state.is_dirty = true;
    partition.segments.rcu(|segments| {
        let mut segments = segments.as_ref().clone();
        segments.push(segment.clone());
        segments
    });
    Ok(())
}

/// A round failed: nobody knows what of it the disk holds.
fn fail(core: &Core, parts: Vec<Part<'_>>, what: &str, error: &io::Error) {
    let cause = format!("a {what} of the log failed: {error}");
    core.poison(cause.clone());
    for part in parts {
        for (answer, _) in part.answers {
            let _ = answer.send(Err(AppendError::Unknown(cause.clone())));
        }
    }
}

impl From<SequenceError> for AppendError {
    fn from(error: SequenceError) -> AppendError {
        match error {
            SequenceError::OutOfOrder { producer, expected, found } => {
                AppendError::OutOfOrderSequence { producer, expected, found }
            }
            SequenceError::OldEpoch { producer, current, found } => {
                AppendError::InvalidProducerEpoch { producer, current, found }
            }
        }
    }
}

/// Metric handles, looked up once.
struct Meters {
    batches: metrics::Counter,
    queued: metrics::Gauge,
    queued_bytes: metrics::Gauge,
    round_bytes: metrics::Histogram,
    write_seconds: metrics::Histogram,
    sync_seconds: metrics::Histogram,
    commit_seconds: metrics::Histogram,
}

impl Meters {
    fn new() -> Meters {
        Meters {
            batches: metrics::counter!(names::STORE_APPENDED_BATCHES.name),
            queued: metrics::gauge!(names::STORE_QUEUE_APPENDS.name),
            queued_bytes: metrics::gauge!(names::STORE_QUEUE_BYTES.name),
            round_bytes: metrics::histogram!(names::STORE_ROUND_BYTES.name),
            write_seconds: metrics::histogram!(names::STORE_WRITE_SECONDS.name),
            sync_seconds: metrics::histogram!(names::STORE_SYNC_SECONDS.name),
            commit_seconds: metrics::histogram!(names::STORE_COMMIT_SECONDS.name),
        }
    }
}
