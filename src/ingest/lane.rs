//! Lanes: one a partition, with the events that wait for its next batch.

use super::job::Owed;
use super::seal::{InFlight, Sealed, Sealer};
use super::{Chunk, Indexes, headers_size};
use crate::record::{BatchBuilder, HEADER_SIZE, NewRecord, partition_for_key};
use crate::store::{Partition, Topic};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A batch is sealed at this size, uncompressed.
const BATCH_SIZE: usize = 1 << 20;
/// Where so many requests are about at once, a batch waits until half of them are in it, or it has [`CROWD_SIZE`], or [`CROWD_PATIENCE`]
/// is over: each batch costs a round of the log, half a dozen changes between threads and the waking of its clients, which for few small
/// events is more than all that the events cost. One half gathers while the other is at the disk. Who is among few never waits.
const CROWD_MIN: usize = 16;
const CROWD_PARTS: usize = 2;
const CROWD_SIZE: usize = 128 << 10;
/// Who waited in vain takes the crowd for gone.
const CROWD_PATIENCE: Duration = Duration::from_millis(2);
/// A larger event is a batch of its own: a picture must not hold up clicks.
const ALONE_SIZE: usize = 256 << 10;
/// Room for the header and the frame of a record beside its parts.
const RECORD_FRAME: usize = 64;

/// A chunk that is not wholly in batches yet. It goes with its last event, before the batch is at the disk: the memory of bodies is used
/// again while it is still in the cache.
struct Load {
    chunk: Chunk,
    /// Bytes of the shared headers in each record, at most.
    shared_size: usize,
}

impl Load {
    fn new(chunk: Chunk) -> Load {
        let shared_size = headers_size(&chunk.headers);
        Load { chunk, shared_size }
    }

    /// Bytes that an event takes in a batch, at most.
    fn size_of(&self, index: u32) -> usize {
        let event = &self.chunk.events[index as usize];
        let key = event.key.as_ref().map_or(0, |key| key.len());
        event.value.len() + key + self.shared_size + headers_size(&event.headers) + RECORD_FRAME
    }

    fn has_keys(&self) -> bool {
        self.chunk.events.iter().any(|event| event.key.is_some())
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
    open: VecDeque<(Rc<Load>, Owed)>,
    size: usize,
    since: Instant,
    in_flight: Arc<InFlight>,
    /// How many requests were about lately: in the open batch, or on their way.
    crowd: usize,
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
            let (open, since) = (VecDeque::new(), Instant::now());
            self.lanes.push(Lane { partition, open, size: 0, since, in_flight, crowd: 0 });
        }
    }

    /// Spreads a chunk's events over the lanes.
    pub(super) fn add(&mut self, chunk: Chunk, owed: Owed) {
        if self.lanes.len() < self.topic.partition_count() as usize {
            self.grow();
        }
        let load = Rc::new(Load::new(chunk));
        let count = self.lanes.len();
        if count == 1 || !load.has_keys() {
            let lane = if count == 1 { 0 } else { self.current };
            return self.lanes[lane].add(load, owed);
        }
        let mut spread: Vec<Vec<u32>> = vec![Vec::new(); count];
        for (index, event) in load.chunk.events.iter().enumerate() {
            let lane = match &event.key {
                Some(key) => partition_for_key(key, count as i32).0 as usize,
                None => self.current,
            };
            spread[lane].push(index as u32);
        }
        for (lane, part) in self.lanes.iter_mut().zip(owed.spread(spread.into_iter())) {
            if !part.events.is_empty() {
                lane.add(load.clone(), part);
            }
        }
    }

    /// Seals and sends what may go; returns how many batches. In a hurry no topic's linger is waited for.
    pub(super) fn seal(&mut self, sealer: &Sealer, is_in_hurry: bool) -> usize {
        let config = self.topic.config();
        let linger = if is_in_hurry { Duration::ZERO } else { config.linger };
        let mut sealed = 0;
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            while lane.may_seal(linger) {
                lane.seal(config.max_message_bytes, sealer);
                sealed += 1;
                if at == self.current {
                    self.current += 1;
                }
            }
        }
        self.current %= self.lanes.len().max(1);
        sealed
    }

    /// The least number of requests that a lane waits for before it is sealed, if one waits for nothing else: not for its linger.
    pub(super) fn missing(&self) -> Option<usize> {
        if !self.topic.config().linger.is_zero() {
            return None;
        }
        let may_go = |lane: &&Lane| !lane.open.is_empty() && lane.in_flight.has_room(0, lane.crowd >= CROWD_MIN);
        let waiting = self.lanes.iter().filter(may_go);
        waiting.map(|lane| (lane.crowd / CROWD_PARTS).saturating_sub(lane.open.len()).max(1)).min()
    }

    pub(super) fn has_open(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.open.is_empty())
    }

    /// Batches are on their way, and one of them will wake the batcher.
    pub(super) fn is_waiting(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.in_flight.is_empty())
    }

    /// The topic is gone and nothing waits for it.
    pub(super) fn is_over(&self) -> bool {
        self.topic.is_deleted() && !self.has_open()
    }
}

impl Lane {
    fn add(&mut self, load: Rc<Load>, owed: Owed) {
        if self.open.is_empty() {
            self.since = Instant::now();
        }
        self.size += owed.events.iter().map(|index| load.size_of(index)).sum::<usize>();
        self.open.push_back((load, owed));
    }

    fn may_seal(&self, linger: Duration) -> bool {
        let is_crowd_in = self.is_crowd_in();
        // A topic's own linger takes the place of the crowd's patience.
        let (is_enough, patience) = if linger.is_zero() { (is_crowd_in, CROWD_PATIENCE) } else { (false, linger) };
        !self.open.is_empty()
            && self.in_flight.has_room(self.size, self.crowd >= CROWD_MIN && is_crowd_in)
            && (is_enough || self.size >= BATCH_SIZE || self.since.elapsed() >= patience)
    }

    /// Waiting for more would be in vain.
    fn is_crowd_in(&self) -> bool {
        self.crowd < CROWD_MIN || CROWD_PARTS * self.open.len() >= self.crowd || self.size >= CROWD_SIZE
    }

    /// Fills one batch with the oldest events and sends it on.
    fn seal(&mut self, size_max: usize, sealer: &Sealer) {
        let about = self.open.len() + self.in_flight.requests();
        let remembered = if self.is_crowd_in() { self.crowd - self.crowd.div_ceil(8) } else { 0 };
        self.crowd = about.max(remembered);
        let mut builder = sealer.builder();
        let mut members = Vec::with_capacity(self.open.len());
        let mut is_compressible = false;
        // The estimate is an upper bound, so a batch of several events never exceeds the topic's limit; one too large alone is the log's to refuse.
        let limit = BATCH_SIZE.min(size_max.saturating_sub(HEADER_SIZE));
        while let Some((load, mut owed)) = self.open.pop_front() {
            let (taken, size, is_full) = fill(&mut builder, &load, &owed.events, limit);
            self.size = self.size.saturating_sub(size);
            is_compressible |= taken > 0 && load.chunk.is_compressible;
            if taken < owed.events.len() {
                let rest = owed.split_off(taken);
                self.open.push_front((load, rest));
            }
            members.extend((taken > 0).then_some(owed));
            if is_full {
                break;
            }
        }
        if self.open.is_empty() {
            self.size = 0;
        }
        let partition = self.partition.clone();
        sealer.send(Sealed { builder, is_compressible, members, partition }, &self.in_flight);
    }
}

/// Puts events of a chunk into a batch until it is full; how many, their size, and whether it is.
fn fill(builder: &mut BatchBuilder, load: &Load, events: &Indexes, limit: usize) -> (usize, usize, bool) {
    let chunk = &load.chunk;
    let mut headers = SmallVec::<[(&[u8], Option<&[u8]>); 4]>::new();
    headers.extend(chunk.headers.iter().map(|(name, value)| (name.as_ref(), Some(value.as_ref()))));
    let (mut taken, mut taken_size) = (0, 0);
    for index in events.iter() {
        let event = &chunk.events[index as usize];
        let size = load.size_of(index);
        let is_full = builder.size() + size > limit || size > ALONE_SIZE;
        if is_full && !builder.is_empty() {
            return (taken, taken_size, true);
        }
        headers.truncate(chunk.headers.len());
        headers.extend(event.headers.iter().map(|(name, value)| (name.as_ref(), Some(value.as_ref()))));
        builder.push(NewRecord {
            timestamp: event.timestamp,
            key: event.key.as_deref(),
            value: Some(&chunk.body[event.value.start as usize..event.value.end as usize]),
            headers: &headers,
        });
        taken += 1;
        taken_size += size;
        if is_full {
            return (taken, taken_size, true);
        }
    }
    (taken, taken_size, false)
}

#[cfg(test)]
mod tests {
    use super::super::job::Job;
    use super::super::tests::topic;
    use super::super::{Event, Ingest, Outcomes};
    use super::*;
    use crate::disk::sim::Sim;
    use crate::record::{DECODED_SIZE_MAX, Offset, PartitionId};
    use crate::store::Store;
    use bytes::Bytes;

    fn store() -> Store {
        super::super::tests::store(Sim::new(1).disk())
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
        let headers = smallvec::smallvec![(Bytes::from("received"), Bytes::from("5"))];
        Chunk { body: Bytes::from(text), events, headers, lease: None, is_compressible: true }
    }

    fn values(topic: &Topic, partition: i32) -> Vec<String> {
        let partition = topic.partition(PartitionId(partition)).unwrap();
        let slice = partition.read_blocking(Offset(0), 64 << 20).unwrap();
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

    #[tokio::test]
    async fn large_batches_take_the_pool_and_keep_their_order() {
        let store = store();
        let topic = topic(&store, 1).await;
        let ingest = Ingest::start(tokio::runtime::Handle::current()).unwrap();
        let mut sends = tokio::task::JoinSet::new();
        let mut expected = Vec::new();
        for batch in 0..12 {
            let words: Vec<String> = (0..40).map(|word| format!("{batch}-{word}-{}", "x".repeat(40_000))).collect();
            expected.extend(words.iter().map(|word| word[..8].to_owned()));
            let (ingest, topic) = (ingest.clone(), topic.clone());
            let chunk = chunk(words.join(" ").leak(), &[]);
            let sent = ingest.inbox.push(topic, chunk, Job::begin(None, 40).0);
            assert!(sent.is_ok());
        }
        sends.spawn(async move { ingest.send(&topic, chunk("last", &[])).await.map(|_| topic) });
        let topic = sends.join_next().await.unwrap().unwrap().ok().unwrap();
        let stored = values(&topic, 0);
        assert_eq!(stored.last().map(String::as_str), Some("last"));
        let stored: Vec<_> = stored[..stored.len() - 1].iter().map(|value| value[..8].to_owned()).collect();
        assert_eq!(stored, expected);
    }

    async fn futures_in_order<F: Future<Output = Result<Outcomes, Chunk>>>(sends: [F; 3]) -> Vec<Outcomes> {
        let [a, b, c] = sends;
        let (a, b, c) = tokio::join!(a, b, c);
        [a, b, c].into_iter().map(|sent| sent.ok().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_crowd_is_waited_for_and_who_is_among_few_is_not() {
        let store = store();
        let mut lanes = Lanes::new(topic(&store, 1).await);
        let may_seal_at = |lanes: &mut Lanes, crowd: usize, requests: usize| {
            let lane = &mut lanes.lanes[0];
            (lane.crowd, lane.size) = (crowd, 0);
            lane.open.clear();
            for _ in 0..requests {
                lane.add(Rc::new(Load::new(chunk("a", &[]))), Job::begin(None, 1).0);
            }
            // Patience is no part of this.
            lane.since = Instant::now() + Duration::from_secs(3_600);
            lane.may_seal(Duration::ZERO)
        };
        assert!(may_seal_at(&mut lanes, CROWD_MIN - 1, 1));
        assert!(!may_seal_at(&mut lanes, 60, 29));
        assert_eq!(lanes.missing(), Some(1));
        assert!(may_seal_at(&mut lanes, 60, 30));
        lanes.lanes[0].since = Instant::now() - CROWD_PATIENCE;
        lanes.lanes[0].crowd = 1_000;
        assert!(lanes.lanes[0].may_seal(Duration::ZERO));
    }

    #[tokio::test]
    async fn a_topics_linger_is_waited_for_and_not_longer() {
        let store = store();
        let mut lanes = Lanes::new(topic(&store, 1).await);
        lanes.lanes[0].add(Rc::new(Load::new(chunk("a", &[]))), Job::begin(None, 1).0);
        let waited = CROWD_PATIENCE / 2;
        lanes.lanes[0].since = Instant::now() - waited;
        assert!(lanes.lanes[0].may_seal(waited));
        assert!(!lanes.lanes[0].may_seal(Duration::from_secs(3_600)));
    }

    #[tokio::test]
    async fn a_stop_waits_for_no_linger_and_a_lingering_lane_wakes_nobody() {
        let store = store();
        let topic = topic(&store, 1).await;
        store.alter_topic(&topic.name, vec![("inrush.batcher.linger.ms".into(), Some("60000".into()))]).await.unwrap();
        let mut lanes = Lanes::new(topic.clone());
        lanes.add(chunk("a", &[]), Job::begin(None, 1).0);
        assert_eq!(lanes.missing(), None);
        let ingest = Ingest::start(tokio::runtime::Handle::current()).unwrap();
        let sent = ingest.send(&topic, chunk("b", &[]));
        tokio::pin!(sent);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut sent).await.is_err());
        ingest.hurry();
        assert!(sent.await.ok().unwrap()[0].result.is_ok());
        ingest.close().await;
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
        let refused: Vec<u32> =
            outcomes.iter().filter(|outcome| outcome.result.is_err()).flat_map(|o| o.events.iter()).collect();
        assert_eq!(refused, [1]);
        assert_eq!(values(&topic, 0), ["small", "tiny"]);
        ingest.close().await;
    }
}
