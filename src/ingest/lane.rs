//! Lanes: one a partition, with the events that wait for its next batch.

use super::batcher::Inbox;
use super::{Chunk, Outcome};
use crate::metrics as names;
use crate::record::{Batch, BatchBuilder, Codec, HEADER_SIZE, NewRecord, partition_for_key};
use crate::store::{Append, AppendError, Appended, Partition, Topic};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A batch is sealed at this size, uncompressed.
const BATCH_SIZE: usize = 1 << 20;
/// A larger event is a batch of its own: a picture must not hold up clicks.
const ALONE_SIZE: usize = 256 << 10;
/// Batches of one partition between seal and answer: one at the disk and one behind it, so that the writer never waits for the batcher.
const IN_FLIGHT_MAX: usize = 2;
/// How long a batch waits for room in the writer's queue.
const PATIENCE: Duration = Duration::from_millis(500);
/// Room for the header and the frame of a record beside its parts.
const RECORD_FRAME: usize = 64;

/// A chunk while its events are on their way.
pub(super) struct Job {
    chunk: Chunk,
    state: Mutex<JobState>,
}

struct JobState {
    left: usize,
    outcomes: Vec<Outcome>,
    done: Option<oneshot::Sender<Vec<Outcome>>>,
}

impl Job {
    pub(super) fn new(chunk: Chunk, done: oneshot::Sender<Vec<Outcome>>) -> Arc<Job> {
        let state = JobState { left: chunk.events.len(), outcomes: Vec::new(), done: Some(done) };
        Arc::new(Job { chunk, state: Mutex::new(state) })
    }

    /// Notes what became of some events; the last of them answers the door.
    fn settle(&self, outcome: Outcome) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.left -= outcome.events.len();
        state.outcomes.push(outcome);
        if state.left == 0
            && let Some(done) = state.done.take()
        {
            // A client that hung up loses nothing: its events are stored.
            let _ = done.send(std::mem::take(&mut state.outcomes));
        }
    }

    /// Bytes that an event takes in a batch, at most.
    fn size_of(&self, index: u32) -> usize {
        let event = &self.chunk.events[index as usize];
        let headers = self.chunk.headers.iter().chain(&event.headers);
        let headers: usize = headers.map(|(name, value)| name.len() + value.len() + 10).sum();
        event.value.len() + event.key.as_ref().map_or(0, |key| key.len()) + headers + RECORD_FRAME
    }
}

/// All lanes of a topic.
pub(super) struct Lanes {
    topic: Arc<Topic>,
    lanes: Vec<Lane>,
    /// Where keyless events go until that lane is sealed.
    current: usize,
}

struct Lane {
    partition: Partition,
    open: VecDeque<(Arc<Job>, Vec<u32>)>,
    size: usize,
    since: Instant,
    in_flight: Arc<AtomicUsize>,
}

impl Lanes {
    pub(super) fn new(topic: Arc<Topic>) -> Lanes {
        let mut lanes = Lanes { topic, lanes: Vec::new(), current: 0 };
        lanes.grow();
        lanes
    }

    /// Follows a topic that got more partitions.
    fn grow(&mut self) {
        for partition in self.topic.partitions().iter().skip(self.lanes.len()) {
            let in_flight = Arc::default();
            let partition = partition.clone();
            self.lanes.push(Lane { partition, open: VecDeque::new(), size: 0, since: Instant::now(), in_flight });
        }
    }

    /// Spreads a chunk's events over the lanes.
    pub(super) fn add(&mut self, job: Arc<Job>) {
        if self.lanes.len() < self.topic.partition_count() as usize {
            self.grow();
        }
        let count = self.lanes.len();
        if job.chunk.events.iter().all(|event| event.key.is_none()) || count == 1 {
            let all = (0..job.chunk.events.len() as u32).collect();
            let lane = if count == 1 { 0 } else { self.current };
            return self.lanes[lane].add(job, all);
        }
        let mut spread: Vec<Vec<u32>> = vec![Vec::new(); count];
        for (index, event) in job.chunk.events.iter().enumerate() {
            let lane = match &event.key {
                Some(key) => partition_for_key(key, count as i32).0 as usize,
                None => self.current,
            };
            spread[lane].push(index as u32);
        }
        for (lane, events) in spread.into_iter().enumerate().filter(|(_, events)| !events.is_empty()) {
            self.lanes[lane].add(job.clone(), events);
        }
    }

    /// Seals and sends what may go; returns how many batches.
    pub(super) fn seal(&mut self, inbox: &Arc<Inbox>, runtime: &tokio::runtime::Handle) -> usize {
        let config = self.topic.config();
        let mut sealed = 0;
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            while lane.may_seal(config.linger) {
                lane.seal(config.max_message_bytes, inbox, runtime);
                sealed += 1;
                if at == self.current {
                    self.current += 1;
                }
            }
        }
        self.current %= self.lanes.len().max(1);
        sealed
    }

    pub(super) fn has_open(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.open.is_empty())
    }

    /// The topic is gone and nothing waits for it.
    pub(super) fn is_over(&self) -> bool {
        self.topic.is_deleted() && !self.has_open()
    }
}

impl Lane {
    fn add(&mut self, job: Arc<Job>, events: Vec<u32>) {
        if self.open.is_empty() {
            self.since = Instant::now();
        }
        self.size += events.iter().map(|index| job.size_of(*index)).sum::<usize>();
        self.open.push_back((job, events));
    }

    fn may_seal(&self, linger: Duration) -> bool {
        let is_due = self.size >= BATCH_SIZE || self.since.elapsed() >= linger;
        // Acquire pairs with the Release of the task that was answered.
        !self.open.is_empty() && is_due && self.in_flight.load(Ordering::Acquire) < IN_FLIGHT_MAX
    }

    /// Builds one batch of the oldest events and sends it to the log.
    fn seal(&mut self, size_max: usize, inbox: &Arc<Inbox>, runtime: &tokio::runtime::Handle) {
        let mut builder = BatchBuilder::new();
        let mut members: Vec<(Arc<Job>, Vec<u32>)> = Vec::new();
        let mut is_compressible = false;
        // The estimate is an upper bound, so a batch of several events never exceeds the topic's limit; one too large alone is the log's to refuse.
        let limit = BATCH_SIZE.min(size_max.saturating_sub(HEADER_SIZE));
        'filling: while let Some((job, mut events)) = self.open.pop_front() {
            let mut taken = 0;
            for index in &events {
                let size = job.size_of(*index);
                let is_full = builder.size() + size > limit || size > ALONE_SIZE;
                if is_full && !builder.is_empty() {
                    break;
                }
                push(&mut builder, &job.chunk, *index);
                is_compressible |= job.chunk.is_compressible;
                self.size = self.size.saturating_sub(size);
                taken += 1;
                if is_full {
                    break;
                }
            }
            let rest = events.split_off(taken);
            if taken > 0 {
                members.push((job.clone(), events));
            }
            if !rest.is_empty() {
                self.open.push_front((job, rest));
                break 'filling;
            }
        }
        if self.open.is_empty() {
            self.size = 0;
        }
        let raw = builder.size();
        let codec = if is_compressible { Codec::Zstd } else { Codec::None };
        let Ok(batch) = builder.build(codec) else { return };
        metrics::histogram!(names::INGEST_BATCH_BYTES.name).record(raw as f64);
        metrics::counter!(names::INGEST_RAW_BYTES.name).increment(raw as u64);
        metrics::counter!(names::INGEST_STORED_BYTES.name).increment(batch.size() as u64);
        self.send(batch, members, inbox, runtime);
    }

    fn send(
        &self,
        batch: Batch,
        members: Vec<(Arc<Job>, Vec<u32>)>,
        inbox: &Arc<Inbox>,
        runtime: &tokio::runtime::Handle,
    ) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let (partition, in_flight, inbox) = (self.partition.clone(), self.in_flight.clone(), inbox.clone());
        // Queued here and not in the task, so that batches of a lane keep their order.
        let append = Append { batch, lease: None, leader_epoch: -1 };
        let queued = partition.try_append(append);
        runtime.spawn(async move {
            let result = match queued {
                Ok(answer) => answer.await.unwrap_or(Err(AppendError::Unknown("the log writer is gone".to_owned()))),
                Err((append, AppendError::QueueFull)) => partition.append(append, PATIENCE).await,
                Err((_, error)) => Err(error),
            };
            settle(&partition, members, result);
            in_flight.fetch_sub(1, Ordering::Release);
            inbox.wake();
        });
    }
}

fn settle(partition: &Partition, members: Vec<(Arc<Job>, Vec<u32>)>, result: Result<Appended, AppendError>) {
    for (job, events) in members {
        job.settle(Outcome { events, result: result.clone().map(|appended| (partition.id(), appended)) });
    }
}

fn push(builder: &mut BatchBuilder, chunk: &Chunk, index: u32) {
    let event = &chunk.events[index as usize];
    let headers = chunk.headers.iter().chain(&event.headers);
    let headers: Vec<(&[u8], Option<&[u8]>)> =
        headers.map(|(name, value)| (name.as_ref(), Some(value.as_ref()))).collect();
    builder.push(NewRecord {
        timestamp: event.timestamp,
        key: event.key.as_deref(),
        value: Some(&chunk.body[event.value.start as usize..event.value.end as usize]),
        headers: &headers,
    });
}

#[cfg(test)]
mod tests {
    use super::super::{Event, Ingest};
    use super::*;
    use crate::clock::Clock;
    use crate::disk::sim::Sim;
    use crate::record::{DECODED_SIZE_MAX, Offset, PartitionId, TopicName};
    use crate::store::{NewTopic, Options, Store};
    use bytes::Bytes;

    fn store() -> Store {
        let options = Options {
            data: "/data".into(),
            writers: 1,
            reader_threads: 1,
            tail_cache_bytes: 1 << 20,
            low_disk_bytes: Some(0),
            checkpoint_interval: Duration::from_secs(1),
        };
        Store::open(options, Sim::new(1).disk(), Clock::manual(0)).unwrap()
    }

    async fn topic(store: &Store, partitions: i32) -> Arc<Topic> {
        let new = NewTopic { name: TopicName::new("t").unwrap(), partitions, config: vec![] };
        store.create_topic(new).await.unwrap()
    }

    fn chunk(text: &'static str, keys: &[Option<&'static str>]) -> Chunk {
        let mut at = 0;
        let event = |(index, word): (usize, &str)| {
            let value = at..at + word.len() as u32;
            at = value.end + 1;
            let key = keys.get(index).copied().flatten().map(Bytes::from);
            Event { value, key, timestamp: 5, headers: vec![] }
        };
        let events = text.split(' ').enumerate().map(event).collect();
        let headers = vec![(Bytes::from("received"), Bytes::from("5"))];
        Chunk { body: Bytes::from(text), events, headers, lease: None, is_compressible: true }
    }

    fn values(topic: &Topic, partition: i32) -> Vec<String> {
        let partition = topic.partition(PartitionId(partition)).unwrap();
        let slice = partition.read_blocking(Offset(0), 1 << 20).unwrap();
        let records = slice.batches.iter().flat_map(|batch| batch.records(DECODED_SIZE_MAX).unwrap());
        records.map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()).collect()
    }

    #[tokio::test]
    async fn events_keep_their_order_and_every_waiter_is_answered() {
        let store = store();
        let topic = topic(&store, 1).await;
        let ingest = Ingest::start(tokio::runtime::Handle::current()).unwrap();
        let sends = ["a b c", "d", "e f"].map(|text| ingest.send(&topic, chunk(text, &[])));
        for outcomes in futures_in_order(sends).await {
            assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
        }
        assert_eq!(values(&topic, 0), ["a", "b", "c", "d", "e", "f"]);
        ingest.close().await;
    }

    async fn futures_in_order<F: Future<Output = Result<Vec<Outcome>, Chunk>>>(sends: [F; 3]) -> Vec<Vec<Outcome>> {
        let [a, b, c] = sends;
        let (a, b, c) = tokio::join!(a, b, c);
        [a, b, c].into_iter().map(|sent| sent.ok().unwrap()).collect()
    }

    #[tokio::test]
    async fn equal_keys_meet_in_the_partition_that_kafka_would_choose() {
        let store = store();
        let topic = topic(&store, 3).await;
        let ingest = Ingest::start(tokio::runtime::Handle::current()).unwrap();
        let keys = [Some("21"), Some("foobar"), Some("21"), Some("abc")];
        let outcomes = ingest.send(&topic, chunk("a b c d", &keys)).await.ok().unwrap();
        assert_eq!(outcomes.iter().map(|outcome| outcome.events.len()).sum::<usize>(), 4);
        let home = partition_for_key(b"21", 3);
        let stored = values(&topic, home.0);
        let of_key: Vec<_> = stored.iter().filter(|value| *value == "a" || *value == "c").collect();
        assert_eq!(of_key, ["a", "c"]);
        ingest.close().await;
    }

    #[tokio::test]
    async fn an_event_too_large_for_its_topic_is_refused_and_the_rest_stored() {
        let store = store();
        let topic = topic(&store, 1).await;
        store.alter_topic(&topic.name, vec![("max.message.bytes".into(), Some("200".into()))]).await.unwrap();
        let ingest = Ingest::start(tokio::runtime::Handle::current()).unwrap();
        let mut random = fastrand::Rng::with_seed(4);
        let noise: String = (0..1_000).map(|_| random.alphanumeric()).collect();
        let text: &'static str = format!("small {noise} tiny").leak();
        let outcomes = ingest.send(&topic, chunk(text, &[])).await.ok().unwrap();
        let refused: Vec<_> =
            outcomes.iter().filter(|outcome| outcome.result.is_err()).flat_map(|o| o.events.clone()).collect();
        assert_eq!(refused, [1]);
        assert_eq!(values(&topic, 0), ["small", "tiny"]);
        ingest.close().await;
    }
}
