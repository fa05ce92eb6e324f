//! The task that runs the [`Coordinator`]: reads the log once, then takes requests, time and writes that came back, one after the other.
//!
//! ```text
//!  Groups ── requests ──► run ── writes ──► append ── tickets ──► await_all ── done ──► run
//!           (bounded)         (in order)          (in order)               (in order)
//! ```

use super::classic::Now;
use super::coordinator::{Coordinator, Done, GROUP_VALUE_SIZE_MAX, Loaded, Request, Write};
use super::{Error, Groups, OFFSETS_TOPIC, Options};
use crate::clock::Clock;
use crate::metrics as names;
use crate::record::{Batch, BatchBuilder, Codec, DECODED_SIZE_MAX, NewRecord, Offset, TopicName};
use crate::store::{Append, NewTopic, Partition, Queued, Store, TopicError};
use std::collections::BTreeMap;
use std::sync::Arc;
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
/// How often offsets are looked at for their age, and topics for being gone.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);
/// How often the metrics of groups are set.
const METRICS_INTERVAL: Duration = Duration::from_secs(5);
/// Groups and topics that have a label of their own; lag of the rest is summed as `other`.
const LABELS_MAX: usize = 1_000;
/// Segments of the topic: small, so that cleaning finds something to clean.
const SEGMENT_SIZE: &str = "104857600";

/// Starts the groups of a store: they answer [`Error::Loading`] until they are read. They end when `stop` turns true.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn start(store: Store, clock: Clock, options: Options, stop: watch::Receiver<bool>) -> Groups {
    let (requests, asked) = mpsc::channel(REQUESTS_MAX);
    let driver = Driver { store, clock, began: Instant::now(), labels: BTreeMap::new() };
    tokio::spawn(driver.run(options, asked, stop));
    Groups { requests }
}

struct Driver {
    store: Store,
    clock: Clock,
    began: Instant,
    /// Lag that was told of last, to be set to zero when its group is gone.
    labels: BTreeMap<(Arc<str>, Arc<str>), i64>,
}

impl Driver {
    fn now(&self) -> Now {
        Now { steady_ms: self.began.elapsed().as_millis() as i64, wall_ms: self.clock.now_ms() }
    }

    async fn run(mut self, options: Options, mut asked: mpsc::Receiver<Request>, mut stop: watch::Receiver<bool>) {
        let mut coordinator = Coordinator::new(options);
        let loading = tokio::spawn(load(self.store.clone()));
        let loaded = tokio::select! {
            loaded = loading => loaded.unwrap_or_default(),
            () = refuse_all(&mut asked, &Error::Loading) => return,
            () = stopped(&mut stop) => return,
        };
        coordinator.restore(self.now(), loaded);
        let (writes, to_append) = mpsc::channel(WRITES_MAX);
        let (tickets, to_await) = mpsc::channel(WRITES_MAX);
        let (came_back, mut done) = mpsc::channel(WRITES_MAX);
        tokio::spawn(append_all(self.store.clone(), self.clock.clone(), to_append, tickets));
        tokio::spawn(await_all(to_await, came_back));
        let mut expiry = tokio::time::interval(EXPIRY_INTERVAL);
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
                () = at(due) => coordinator.tick(self.now()),
                _ = expiry.tick() => coordinator.expire(self.now(), |topic| Some(self.store.topic(topic)?.id)),
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
        let mut lags: BTreeMap<(Arc<str>, Arc<str>), i64> = BTreeMap::new();
        let other: Arc<str> = "other".into();
        for (group, topic, partition, committed) in coordinator.offsets() {
            let Some(found) = self.store.topic(topic) else { continue };
            let Some(partition) = found.partition(crate::record::PartitionId(partition)) else { continue };
            let lag = partition.tail().0.saturating_sub(committed.offset.max(partition.start().0)).max(0);
            let own = (group.clone(), topic.clone());
            let is_known = lags.contains_key(&own) || lags.len() < LABELS_MAX;
            *lags.entry(if is_known { own } else { (other.clone(), other.clone()) }).or_default() += lag;
        }
        for gone in self.labels.keys().filter(|label| !lags.contains_key(label)) {
            set_lag(gone, 0);
        }
        for (label, lag) in &lags {
            set_lag(label, *lag);
        }
        self.labels = lags;
    }
}

fn set_lag((group, topic): &(Arc<str>, Arc<str>), lag: i64) {
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

/// Reads the whole topic. What cannot be read is told and passed over: a group without its offsets is better than no groups at all.
async fn load(store: Store) -> Loaded {
    let mut loaded = Loaded::default();
    let Some(topic) = store.topic(OFFSETS_TOPIC) else { return loaded };
    let mut count = 0u64;
    for partition in topic.partitions().iter() {
        let mut next = partition.start();
        while next < partition.tail() {
            match partition.read(next, READ_SIZE).await {
                Ok(slice) if slice.batches.is_empty() => break,
                Ok(slice) => {
                    for batch in &slice.batches {
                        count += take(&mut loaded, batch, next);
                        next = batch.next_offset();
                    }
                }
                Err(error) => {
                    error!(topic = OFFSETS_TOPIC, offset = %next, %error, "committed offsets cannot be read");
                    break;
                }
            }
        }
    }
    info!(records = count, "groups are read");
    loaded
}

/// Takes the records of a batch from an offset on; how many they were.
fn take(loaded: &mut Loaded, batch: &Batch, from: Offset) -> u64 {
    let records = match batch.records(DECODED_SIZE_MAX) {
        Ok(records) => records,
        Err(error) => {
            error!(topic = OFFSETS_TOPIC, offset = %batch.base_offset(), %error, "committed offsets cannot be decoded");
            return 0;
        }
    };
    let mut count = 0;
    for record in records.iter().filter(|record| record.offset >= from) {
        let Some(key) = &record.key else { continue };
        if let Err(reason) = loaded.take(key, record.value.as_deref()) {
            warn!(topic = OFFSETS_TOPIC, offset = %record.offset, reason, "a record of the groups cannot be read");
        }
        count += 1;
    }
    count
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
    while let Some((done, queued)) = tickets.recv().await {
        let mut result = Ok(());
        for one in queued {
            let stored = match one {
                Ok(queued) => queued.stored().await.map(drop).map_err(|error| Error::NotAvailable(error.to_string())),
                Err(error) => Err(error),
            };
            result = result.and(stored);
        }
        if let Err(error) = &result {
            warn!(%error, "groups could not be written down");
        }
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
                set("retention.ms", "-1"),
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
    topic.partition(crate::record::PartitionId(0)).ok_or_else(|| unavailable(&"the topic has no partition"))
}
