//! The task that runs the [`Coordinator`]: reads the log once, then takes requests, time and writes that came back, one after the other.
//!
//! ```text
//!  Groups ── requests ──► run ── writes ──► append ── tickets ──► await_all ── done ──► run
//!           (bounded)         (in order)          (in order)               (in order)
//! ```

use super::classic::Now;
use super::coordinator::{Coordinator, Done, GROUP_VALUE_SIZE_MAX, Loaded, Request, Write};
use super::{Error, Groups, OFFSETS_TOPIC, Options};
use crate::clock::{Clock, JumpWatch};
use crate::metrics as names;
use crate::record::{Batch, BatchBuilder, Codec, DECODED_SIZE_MAX, NewRecord, Offset, PartitionId, TopicName};
use crate::store::{Append, NewTopic, Partition, Queued, ReadError, Store, TopicError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

/// Requests that wait for their turn.
const REQUESTS_MAX: usize = 1_024;
/// Writes on their way to the log, and on their way back.
const WRITES_MAX: usize = 1_024;
/// A write is cut into batches of about this size.
const BATCH_SIZE: usize = 512 << 10;
/// How long a write waits for room in the log's queue.
const QUEUE_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that are read at once at the start.
const READ_SIZE: usize = 1 << 20;
/// How often offsets are looked at for their age, and topics for being gone: this often, and twice while offsets are kept if that is sooner.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);
const EXPIRY_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// How often the metrics of groups are set.
const METRICS_INTERVAL: Duration = Duration::from_secs(5);
/// Groups and topics that have a label of their own; lag of the rest is summed as `other`.
const LABELS_MAX: usize = 1_000;
/// Segments of the topic: small, so that cleaning finds something to clean.
const SEGMENT_SIZE: &str = "104857600";

/// A timer that comes later than this waits for the requests that stand in the queue: heartbeats may be among them.
const LATE_MS: i64 = 500;
/// A label is no longer than this.
const LABEL_SIZE_MAX: usize = 200;
/// How long a read that failed at the start waits before it is tried again.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// Starts the groups of a store: they answer [`Error::Loading`] until they are read. They end when `stop` turns true.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn start(store: Store, clock: Clock, options: Options, stop: watch::Receiver<bool>) -> Groups {
    let (requests, asked) = mpsc::channel(REQUESTS_MAX);
    let trouble = Arc::<OnceLock<String>>::default();
    let driver = Driver { store, clock, began: Instant::now(), labels: BTreeSet::new(), trouble: trouble.clone() };
    tokio::spawn(driver.run(options, asked, stop));
    Groups { requests, trouble }
}

struct Driver {
    store: Store,
    clock: Clock,
    began: Instant,
    /// Groups and topics that have had a label: the recorder keeps each for ever.
    labels: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Why groups cannot be read, for [`Groups::trouble`].
    trouble: Arc<OnceLock<String>>,
}

/// Says in the metrics whether groups are served, also if their task should end before its time.
struct Served;

impl Served {
    fn begin() -> Served {
        metrics::gauge!(names::GROUPS_UP.name).set(1.0);
        Served
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        metrics::gauge!(names::GROUPS_UP.name).set(0.0);
    }
}

impl Driver {
    fn now(&self) -> Now {
        Now { steady_ms: self.began.elapsed().as_millis() as i64, wall_ms: self.clock.now_ms() }
    }

    async fn run(mut self, options: Options, mut asked: mpsc::Receiver<Request>, mut stop: watch::Receiver<bool>) {
        let kept = Duration::from_millis(options.retention_ms.max(0) as u64);
        let expiry_interval = (kept / 2).clamp(EXPIRY_INTERVAL_MIN, EXPIRY_INTERVAL);
        let mut coordinator = Coordinator::new(options);
        let loading = tokio::spawn(load(self.store.clone()));
        metrics::gauge!(names::GROUPS_UP.name).set(0.0);
        let loaded = tokio::select! {
            loaded = loading => loaded.unwrap_or_else(|ended| Err(ended.to_string())),
            () = refuse_all(&mut asked, &Error::Loading) => return,
            () = stopped(&mut stop) => return,
        };
        let loaded = match loaded {
            Ok(loaded) => loaded,
            // To go on without what was committed would send consumers back, or past what they have not read.
            Err(reason) => {
                let _ = self.trouble.set(reason.clone());
                error!(%reason, "the groups cannot be read: consumer groups are not served; stop the daemon and see inrush log verify");
                let error = Error::NotAvailable(format!("they cannot be read: {reason}"));
                tokio::select! {
                    () = refuse_all(&mut asked, &error) => return,
                    () = stopped(&mut stop) => return,
                }
            }
        };
        let _served = Served::begin();
        coordinator.restore(self.now(), loaded);
        let (writes, to_append) = mpsc::channel(WRITES_MAX);
        let (tickets, to_await) = mpsc::channel(WRITES_MAX);
        let (came_back, mut done) = mpsc::channel(WRITES_MAX);
        tokio::spawn(append_all(self.store.clone(), self.clock.clone(), to_append, tickets));
        tokio::spawn(await_all(to_await, came_back));
        let mut expiry = tokio::time::interval_at(Instant::now() + expiry_interval, expiry_interval);
        let mut watch = JumpWatch::new(self.clock.now_ms());
        let mut metrics = tokio::time::interval(METRICS_INTERVAL);
        loop {
            let deadline = coordinator.next_deadline();
            let due = deadline.map(|at| self.began + Duration::from_millis(at.max(0) as u64));
            let is_free = !coordinator.has_writes();
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                back = done.recv() => match back {
                    Some((back, result)) => coordinator.done(self.now(), back, result),
                    None => break,
                },
                permit = writes.reserve(), if !is_free => match (permit, coordinator.next_write()) {
                    (Ok(permit), Some(write)) => permit.send(write),
                    _ => break,
                },
                () = at(due) => {
                    let is_late = deadline.is_some_and(|at| self.now().steady_ms - at > LATE_MS);
                    for _ in 0..if is_late { REQUESTS_MAX } else { 0 } {
                        let Ok(request) = asked.try_recv() else { break };
                        coordinator.handle(self.now(), request);
                    }
                    coordinator.tick(self.now());
                }
                _ = expiry.tick() => {
                    if watch.is_steady(self.clock.now_ms()) {
                        coordinator.expire(self.now(), |topic| Some(self.store.topic(topic)?.id));
                    }
                }
                _ = metrics.tick() => self.show(&coordinator),
                // New work waits for the writes of what was there before.
                request = asked.recv(), if is_free => match request {
                    Some(request) => coordinator.handle(self.now(), request),
                    None => break,
                },
            }
        }
        coordinator.refuse_all(&Error::NotAvailable("the daemon stops".to_owned()));
    }

    /// Sets the gauges. A group's name is a client's text: the first thousand have a label, the others share one.
    fn show(&mut self, coordinator: &Coordinator) {
        let (groups, members) = coordinator.counts();
        metrics::gauge!(names::GROUPS.name).set(groups as f64);
        metrics::gauge!(names::GROUP_MEMBERS.name).set(members as f64);
        let mut lags: BTreeMap<(Arc<str>, Arc<str>), i64> =
            self.labels.iter().map(|label| (label.clone(), 0)).collect();
        let other: Arc<str> = "other".into();
        for (group, topic, partition, committed) in coordinator.offsets() {
            let Some(found) = self.store.topic(topic) else { continue };
            let Some(partition) = found.partition(PartitionId(partition)) else { continue };
            let lag = partition.tail().0.saturating_sub(committed.offset.max(partition.start().0)).max(0);
            let own = (group.clone(), topic.clone());
            let may_be = lags.len() < LABELS_MAX && group.len() <= LABEL_SIZE_MAX;
            let label = if may_be || lags.contains_key(&own) { own } else { (other.clone(), other.clone()) };
            *lags.entry(label).or_default() += lag;
        }
        for ((group, topic), lag) in &lags {
            set_lag(group, topic, *lag);
        }
        self.labels = lags.into_keys().collect();
    }
}

fn set_lag(group: &str, topic: &str, lag: i64) {
    metrics::gauge!(names::GROUP_LAG_RECORDS.name, "group" => group.to_string(), "topic" => topic.to_string())
        .set(lag as f64);
}

/// Returns at a time; never without one.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stopped| *stopped).await.map(drop);
}

/// Answers every request with an error; returns when nobody can ask any more.
async fn refuse_all(asked: &mut mpsc::Receiver<Request>, error: &Error) {
    while let Some(request) = asked.recv().await {
        request.refuse(error.clone());
    }
}

/// Reads the whole topic.
///
/// # Errors
/// What cannot be read: nothing behind it may be believed.
async fn load(store: Store) -> Result<Loaded, String> {
    let mut loaded = Loaded::default();
    let Some(topic) = store.topic(OFFSETS_TOPIC) else { return Ok(loaded) };
    let mut count = 0u64;
    for partition in topic.partitions().iter() {
        let mut next = partition.start();
        while next < partition.tail() {
            match partition.read(next, READ_SIZE).await {
                Ok(slice) if slice.batches.is_empty() => break,
                Ok(slice) => {
                    for batch in &slice.batches {
                        count += take(&mut loaded, batch, next)?;
                        next = batch.next_offset();
                    }
                }
                Err(ReadError::OutOfRange { start, .. }) if start > next => next = start,
                Err(ReadError::Io(reason)) => {
                    warn!(topic = OFFSETS_TOPIC, offset = %next, reason, "the groups cannot be read, tried again");
                    tokio::time::sleep(READ_PAUSE).await;
                }
                Err(error) => return Err(format!("{OFFSETS_TOPIC} at offset {next}: {error}")),
            }
        }
    }
    info!(records = count, "groups are read");
    Ok(loaded)
}

/// Takes the records of a batch from an offset on; how many they were.
fn take(loaded: &mut Loaded, batch: &Batch, from: Offset) -> Result<u64, String> {
    let records = batch.records(DECODED_SIZE_MAX);
    let records = records.map_err(|error| format!("{OFFSETS_TOPIC} at offset {}: {error}", batch.base_offset()))?;
    let mut count = 0;
    for record in records.iter().filter(|record| record.offset >= from) {
        let Some(key) = &record.key else { continue };
        if let Err(reason) = loaded.take(key, record.value.as_deref()) {
            warn!(topic = OFFSETS_TOPIC, offset = %record.offset, reason, "a record of the groups cannot be read");
        }
        count += 1;
    }
    Ok(count)
}

/// A write whose batches stand in the log's queue, or the reason why they do not.
type Ticket = (Done, Vec<Result<Queued, Error>>);

async fn append_all(store: Store, clock: Clock, mut writes: mpsc::Receiver<Write>, tickets: mpsc::Sender<Ticket>) {
    while let Some(Write { records, done }) = writes.recv().await {
        let queued = match partition(&store).await {
            Ok(partition) => enqueue(&partition, &records, clock.now_ms()).await,
            Err(error) => vec![Err(error)],
        };
        if tickets.send((done, queued)).await.is_err() {
            return;
        }
    }
}

async fn await_all(mut tickets: mpsc::Receiver<Ticket>, came_back: mpsc::Sender<(Done, Result<(), Error>)>) {
    let mut has_failed = false;
    while let Some((done, queued)) = tickets.recv().await {
        let mut result = Ok(());
        for one in queued {
            let stored = match one {
                Ok(queued) => queued.stored().await.map(drop).map_err(|error| Error::NotAvailable(error.to_string())),
                Err(error) => Err(error),
            };
            result = result.and(stored);
        }
        match &result {
            Err(error) if !has_failed => warn!(%error, "groups cannot be written down; told once until they can"),
            Ok(()) if has_failed => info!("groups can be written down again"),
            _ => {}
        }
        has_failed = result.is_err();
        if came_back.send((done, result)).await.is_err() {
            return;
        }
    }
}

async fn enqueue(
    partition: &Partition,
    records: &[(Vec<u8>, Option<Vec<u8>>)],
    now_ms: i64,
) -> Vec<Result<Queued, Error>> {
    let mut queued = Vec::new();
    let mut builder = BatchBuilder::new();
    for (at, (key, value)) in records.iter().enumerate() {
        builder.push(NewRecord { timestamp: now_ms, key: Some(key), value: value.as_deref(), headers: &[] });
        if builder.size() < BATCH_SIZE && at + 1 < records.len() {
            continue;
        }
        let built = std::mem::take(&mut builder).build(Codec::None);
        let one = match built {
            Ok(batch) => {
                let append = Append { batch, lease: None, leader_epoch: -1 };
                partition.enqueue(append, QUEUE_PATIENCE).await.map_err(|error| Error::NotAvailable(error.to_string()))
            }
            Err(error) => Err(Error::NotAvailable(error.to_string())),
        };
        let has_failed = one.is_err();
        queued.push(one);
        if has_failed {
            break;
        }
    }
    queued
}

/// The partition of the groups; its topic is made when the first of them has something to keep.
async fn partition(store: &Store) -> Result<Partition, Error> {
    let unavailable = |error: &dyn std::fmt::Display| Error::NotAvailable(error.to_string());
    let topic = match store.topic(OFFSETS_TOPIC) {
        Some(topic) => topic,
        None => {
            let name = TopicName::new(OFFSETS_TOPIC).map_err(|error| unavailable(&error))?;
            let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            let config = vec![
                set("cleanup.policy", "compact"),
                set("segment.bytes", SEGMENT_SIZE),
                set("max.message.bytes", &(GROUP_VALUE_SIZE_MAX + (1 << 20)).to_string()),
            ];
            match store.create_internal_topic(NewTopic { name, partitions: 1, config }).await {
                Ok(topic) => topic,
                Err(TopicError::Exists(name)) => {
                    store.topic(name.as_str()).ok_or_else(|| unavailable(&"the topic was deleted"))?
                }
                Err(error) => return Err(unavailable(&error)),
            }
        }
    };
    topic.partition(PartitionId(0)).ok_or_else(|| unavailable(&"the topic has no partition"))
}
