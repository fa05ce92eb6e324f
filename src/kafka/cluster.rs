//! A cluster: its brokers, who leads which partition, and what is asked of them.

use super::connection::Connection;
use super::{Error, Pulse, Settings, check};
use crate::record::{Batch, BatchError, Offset};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DescribeConfigsRequest, DescribeProducersRequest, FetchRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// By producer id the epoch and the last sequence.
pub type LastSequences = HashMap<i64, (i32, i32)>;

/// Times that stand for places.
pub const END: i64 = -1;
pub const START: i64 = -2;
/// How long a broker may take to make a topic.
const CREATE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a new topic may take until all brokers know it.
const APPEAR_PATIENCE: Duration = Duration::from_secs(10);
const APPEAR_PAUSE: Duration = Duration::from_millis(100);
/// A topic's configuration in requests.
const TOPIC_RESOURCE: i8 = 2;
/// What Kafka takes unless it is told otherwise.
const MESSAGE_BYTES_MAX: usize = 1_048_588;

/// Connections to a cluster, opened when they are needed.
pub struct Cluster {
    pub(super) settings: Settings,
    pub(super) pulse: Pulse,
    addresses: HashMap<i32, String>,
    controller: i32,
    pub(super) links: HashMap<i32, Connection>,
    /// By topic who leads each partition; -1 = nobody.
    pub(super) leaders: HashMap<String, Vec<i32>>,
    /// When leaders were asked for.
    asked: HashMap<String, Instant>,
}

/// A topic as brokers know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// Nil where brokers are too old to say it.
    pub id: Uuid,
    pub partitions: i32,
}

/// What a topic takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicLimits {
    pub max_message_bytes: usize,
    pub compacts: bool,
    pub retention_ms: Option<i64>,
    /// Whether the broker said so; else these are Kafka's defaults.
    pub is_known: bool,
}

/// What a fetch may bring, and how. A batch that is larger than a size comes whole, alone.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// Bytes of one partition, and of all.
    pub partition_size: i32,
    pub size: i32,
    /// For the first batch.
    pub wait: Duration,
    /// What transactions have not committed is left out, by the broker's tail and by [`Fetched::aborted`].
    pub is_committed: bool,
}

/// What one fetch of one partition brought.
#[derive(Debug)]
pub struct Fetched {
    pub batches: Vec<Batch>,
    pub start: Offset,
    /// First offset that may not be read yet.
    pub tail: Offset,
    /// Where the partition ends; behind the tail, where a transaction has no end yet.
    pub end: Offset,
    /// Producers whose records from the offset on do not count, since their transaction was given up.
    pub aborted: Vec<(i64, i64)>,
}

impl Cluster {
    /// A cluster that nobody has talked to yet.
    pub fn new(settings: Settings, pulse: Pulse) -> Cluster {
        Cluster {
            settings,
            pulse,
            addresses: HashMap::new(),
            controller: -1,
            links: HashMap::new(),
            leaders: HashMap::new(),
            asked: HashMap::new(),
        }
    }

    /// What brokers know of a topic now; `None` if there is none.
    ///
    /// # Errors
    /// No broker answers, or it may not be asked for.
    pub fn topic(&mut self, topic: &str) -> Result<Option<TopicView>, Error> {
        let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
        let answer = self.any(|link| link.call(&request))?;
        let address = |broker: &kafka_protocol::messages::metadata_response::MetadataResponseBroker| {
            (broker.node_id.0, format!("{}:{}", broker.host, broker.port))
        };
        let addresses: HashMap<i32, String> = answer.brokers.iter().map(address).collect();
        // A broker that moved is another one.
        self.links.retain(|id, _| *id < 0 || addresses.get(id) == self.addresses.get(id));
        self.addresses = addresses;
        self.controller = answer.controller_id.0;
        let told = answer.topics.first().ok_or_else(|| Error::Silent(format!("topic \"{topic}\"")))?;
        match ResponseError::try_from_code(told.error_code) {
            Some(ResponseError::UnknownTopicOrPartition) => {
                self.leaders.remove(topic);
                return Ok(None);
            }
            // Some partition has no leader; the others can be used.
            Some(ResponseError::LeaderNotAvailable) | None => {}
            Some(_) => check(told.error_code, || format!("cannot use topic \"{topic}\" of Kafka"))?,
        }
        let mut leaders = vec![-1; told.partitions.len()];
        for partition in &told.partitions {
            let at = usize::try_from(partition.partition_index).unwrap_or(usize::MAX);
            if let Some(leader) = leaders.get_mut(at) {
                *leader = partition.leader_id.0;
            }
        }
        let partitions = leaders.len() as i32;
        self.leaders.insert(topic.to_owned(), leaders);
        self.asked.insert(topic.to_owned(), Instant::now());
        Ok(Some(TopicView { id: told.topic_id, partitions }))
    }

    /// The same, made with the brokers' defaults if it is not there.
    ///
    /// # Errors
    /// As [`Cluster::topic`]; it may not be made.
    pub fn topic_or_new(&mut self, topic: &str) -> Result<TopicView, Error> {
        if let Some(view) = self.topic(topic)?.filter(|view| view.partitions > 0) {
            return Ok(view);
        }
        let new = CreatableTopic::default().with_name(name(topic)).with_num_partitions(-1).with_replication_factor(-1);
        let request =
            CreateTopicsRequest::default().with_topics(vec![new]).with_timeout_ms(CREATE_TIMEOUT.as_millis() as i32);
        let controller = self.controller;
        let answer = match self.broker(controller)?.call(&request) {
            Ok(answer) => answer,
            Err(error) => return Err(self.dropped(controller, error)),
        };
        if let Some(told) = answer.topics.first()
            && let Some(error) = ResponseError::try_from_code(told.error_code)
            && error != ResponseError::TopicAlreadyExists
        {
            let detail = told.error_message.as_ref().map(ToString::to_string);
            let what = format!("topic \"{topic}\" does not exist in Kafka and cannot be made");
            return Err(Error::Refused { what, error, detail });
        }
        let began = Instant::now();
        loop {
            let view = self.topic(topic)?.filter(|view| view.partitions > 0);
            let is_led = self.leaders.get(topic).is_some_and(|leaders| leaders.iter().all(|leader| *leader >= 0));
            match view {
                Some(view) if is_led => return Ok(view),
                _ if began.elapsed() > APPEAR_PATIENCE => {
                    return Err(Error::Silent(format!("the new topic \"{topic}\"")));
                }
                _ => self.pause(APPEAR_PAUSE)?,
            }
        }
    }

    /// When the leaders of a topic were last asked for.
    pub fn is_older(&self, topic: &str, age: Duration) -> bool {
        self.asked.get(topic).is_none_or(|asked| asked.elapsed() > age)
    }

    /// Partitions that the topic had when it was last asked for.
    pub fn partitions(&self, topic: &str) -> i32 {
        self.leaders.get(topic).map_or(0, |leaders| leaders.len() as i32)
    }

    /// What a topic takes; Kafka's defaults where that may not be asked.
    ///
    /// # Errors
    /// No broker answers.
    pub fn limits(&mut self, topic: &str) -> Result<TopicLimits, Error> {
        let keys = ["max.message.bytes", "cleanup.policy", "retention.ms"].map(StrBytes::from_static_str).to_vec();
        let asked = DescribeConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(StrBytes::from_string(topic.to_owned()))
            .with_configuration_keys(Some(keys));
        let request = DescribeConfigsRequest::default().with_resources(vec![asked]);
        let answer = self.any(|link| link.call(&request))?;
        let told = answer.results.first().filter(|told| told.error_code == 0);
        let value = |key: &str| {
            let entry = told?.configs.iter().find(|entry| entry.name.as_str() == key)?;
            entry.value.as_ref().map(|value| value.to_string())
        };
        let max_message_bytes = value("max.message.bytes").and_then(|value| value.parse().ok());
        Ok(TopicLimits {
            max_message_bytes: max_message_bytes.unwrap_or(MESSAGE_BYTES_MAX),
            compacts: value("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
            retention_ms: value("retention.ms").and_then(|value| value.parse().ok()).filter(|ms| *ms >= 0),
            is_known: told.is_some(),
        })
    }

    /// Where each partition's first record stands that is not older than `time` ([`START`], [`END`]: its start and end).
    ///
    /// # Errors
    /// A leader does not answer, or refuses.
    pub fn offsets(&mut self, topic: &str, time: i64, is_committed: bool) -> Result<BTreeMap<i32, i64>, Error> {
        let mut offsets = BTreeMap::new();
        for (leader, partitions) in self.by_leader(topic, 0..self.partitions(topic))? {
            let asked = partitions
                .iter()
                .map(|partition| ListOffsetsPartition::default().with_partition_index(*partition).with_timestamp(time));
            let asked = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(asked.collect());
            let request = ListOffsetsRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_isolation_level(i8::from(is_committed))
                .with_topics(vec![asked]);
            let answer = self.ask(leader, |link| link.call(&request))?;
            for told in answer.topics.iter().flat_map(|topic| &topic.partitions) {
                let partition = told.partition_index;
                let checked =
                    check(told.error_code, || format!("cannot find a place in \"{topic}/{partition}\" of Kafka"));
                self.noted(topic, checked)?;
                offsets.insert(partition, told.offset);
            }
        }
        Ok(offsets)
    }

    /// Batches of one partition from the one that holds `from` on.
    ///
    /// # Errors
    /// The leader does not answer, or refuses: [`ResponseError::OffsetOutOfRange`] is one of its reasons.
    pub fn fetch(&mut self, topic: &str, partition: i32, from: i64, limits: FetchLimits) -> Result<Fetched, Error> {
        let leader = self.leader(topic, partition)?;
        let fetched = self.fetch_from(topic, leader, &[(partition, from)], limits)?;
        let told = fetched.into_iter().next().ok_or_else(|| Error::Silent(format!("\"{topic}/{partition}\"")))?;
        told.1
    }

    /// The same of several partitions that one broker leads, each from an offset on.
    ///
    /// # Errors
    /// The broker does not answer; each partition has its own.
    #[allow(clippy::type_complexity)] // By partition what came of it.
    pub fn fetch_from(
        &mut self,
        topic: &str,
        leader: i32,
        asked: &[(i32, i64)],
        limits: FetchLimits,
    ) -> Result<Vec<(i32, Result<Fetched, Error>)>, Error> {
        let partition = |(partition, from): &(i32, i64)| {
            FetchPartition::default()
                .with_partition(*partition)
                .with_fetch_offset(*from)
                .with_partition_max_bytes(limits.partition_size)
        };
        let partitions = asked.iter().map(partition).collect();
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(limits.wait.as_millis() as i32)
            .with_min_bytes(1)
            .with_max_bytes(limits.size)
            .with_isolation_level(i8::from(limits.is_committed))
            .with_session_epoch(-1)
            .with_topics(vec![FetchTopic::default().with_topic(name(topic)).with_partitions(partitions)]);
        let answer = self.ask(leader, |link| {
            link.send(&request)?;
            link.receive::<FetchRequest>(limits.wait)
        })?;
        check(answer.error_code, || format!("cannot read \"{topic}\" of Kafka"))?;
        let told = answer.responses.iter().flat_map(|topic| &topic.partitions);
        Ok(told.map(|told| (told.partition_index, self.fetched(topic, told, limits.is_committed))).collect())
    }

    fn fetched(&mut self, topic: &str, told: &PartitionData, is_committed: bool) -> Result<Fetched, Error> {
        let partition = told.partition_index;
        let checked = check(told.error_code, || format!("cannot read \"{topic}/{partition}\" of Kafka"));
        self.noted(topic, checked)?;
        let damaged = |error: BatchError| Error::Connection {
            address: format!("{topic}/{partition}"),
            reason: error.to_string(),
        };
        let batches = Batch::check_chain(told.records.clone().unwrap_or_default()).map_err(damaged)?;
        let aborted = told.aborted_transactions.iter().flatten().map(|one| (one.producer_id.0, one.first_offset));
        let tail = match is_committed && told.last_stable_offset >= 0 {
            true => told.last_stable_offset,
            false => told.high_watermark,
        };
        Ok(Fetched {
            batches,
            start: Offset(told.log_start_offset),
            tail: Offset(tail),
            end: Offset(told.high_watermark),
            aborted: aborted.collect(),
        })
    }

    /// By producer the last sequence that a partition has of it, as its leader knows it; `None` where that cannot be asked.
    ///
    /// # Errors
    /// The leader does not answer.
    pub fn producers(&mut self, topic: &str, partition: i32) -> Result<Option<LastSequences>, Error> {
        let leader = self.leader(topic, partition)?;
        let asked = TopicRequest::default().with_name(name(topic)).with_partition_indexes(vec![partition]);
        let request = DescribeProducersRequest::default().with_topics(vec![asked]);
        let answer = self.ask(leader, |link| match link.speaks::<DescribeProducersRequest>() {
            true => link.call(&request).map(Some),
            false => Ok(None),
        })?;
        let told = answer.as_ref().and_then(|answer| answer.topics.first()).and_then(|topic| topic.partitions.first());
        let Some(told) = told.filter(|told| told.error_code == 0) else { return Ok(None) };
        let known =
            told.active_producers.iter().map(|one| (one.producer_id.0, (one.producer_epoch, one.last_sequence)));
        Ok(Some(known.collect()))
    }

    /// A producer id that nobody has.
    ///
    /// # Errors
    /// No broker gives one.
    pub fn new_producer(&mut self) -> Result<i64, Error> {
        let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
        let answer = self.any(|link| link.call(&request))?;
        check(answer.error_code, || "cannot get a producer id of Kafka".to_owned())?;
        Ok(answer.producer_id.0)
    }

    /// Partitions by the broker that leads them.
    ///
    /// # Errors
    /// One of them has no leader.
    pub fn by_leader(
        &self,
        topic: &str,
        partitions: impl Iterator<Item = i32>,
    ) -> Result<BTreeMap<i32, Vec<i32>>, Error> {
        let mut led: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in partitions {
            led.entry(self.leader(topic, partition)?).or_default().push(partition);
        }
        Ok(led)
    }

    pub(super) fn leader(&self, topic: &str, partition: i32) -> Result<i32, Error> {
        let at = usize::try_from(partition).unwrap_or(usize::MAX);
        let leader = self.leaders.get(topic).and_then(|leaders| leaders.get(at)).copied();
        let missing = || Error::NoLeader { topic: topic.to_owned(), partition };
        leader.filter(|leader| *leader >= 0).ok_or_else(missing)
    }

    /// A broker that says it does not lead is asked no more until leaders are asked for again.
    fn noted<T>(&mut self, topic: &str, result: Result<T, Error>) -> Result<T, Error> {
        if result.as_ref().is_err_and(|error| error.code().is_some_and(|code| code.is_retriable())) {
            self.asked.remove(topic);
        }
        result
    }

    /// Where a broker is, if somebody else than the metadata told it.
    pub(super) fn know(&mut self, id: i32, address: String) {
        if self.addresses.get(&id) != Some(&address) {
            self.links.remove(&id);
            self.addresses.insert(id, address);
        }
    }

    /// One broker's link.
    pub(super) fn broker(&mut self, id: i32) -> Result<&mut Connection, Error> {
        self.links.retain(|known, link| *known != id || !link.has_expired());
        if !self.links.contains_key(&id) {
            let unknown = || Error::Silent(format!("broker {id}"));
            let address = self.addresses.get(&id).cloned().ok_or_else(unknown)?;
            let link = Connection::open(&address, &self.settings, &self.pulse)?;
            self.links.insert(id, link);
        }
        self.links.get_mut(&id).ok_or_else(|| Error::Silent(format!("broker {id}")))
    }

    /// Asks one broker; a link that failed is closed.
    pub(super) fn ask<T>(
        &mut self,
        id: i32,
        call: impl FnOnce(&mut Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let answer = self.broker(id).and_then(call);
        answer.map_err(|error| self.dropped(id, error))
    }

    fn dropped(&mut self, id: i32, error: Error) -> Error {
        if matches!(error, Error::Connection { .. }) {
            self.links.remove(&id);
            self.asked.clear();
        }
        error
    }

    /// Asks whoever answers: those who are connected, then those who are known, then the servers of the settings.
    pub(super) fn any<T>(&mut self, call: impl Fn(&mut Connection) -> Result<T, Error>) -> Result<T, Error> {
        self.links.retain(|_, link| !link.has_expired());
        let connected: Vec<i32> = self.links.keys().copied().collect();
        for id in connected {
            match self.ask(id, &call) {
                Err(Error::Connection { .. }) => {}
                answer => return answer,
            }
        }
        let mut last = Error::Silent("a cluster without servers".to_owned());
        let known = self.addresses.values().cloned();
        let mut places: Vec<String> = self.settings.servers.clone();
        places.extend(known.filter(|address| !self.settings.servers.contains(address)));
        for (at, address) in places.iter().enumerate() {
            match Connection::open(address, &self.settings, &self.pulse) {
                Ok(link) => {
                    // Under a number that no broker has, until metadata tells whose it is.
                    let id = -1 - at as i32;
                    self.links.insert(id, link);
                    match self.ask(id, &call) {
                        Err(error @ Error::Connection { .. }) => last = error,
                        answer => return answer,
                    }
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Waits, giving the pulse.
    ///
    /// # Errors
    /// Nobody waits for this any more.
    pub fn pause(&self, wait: Duration) -> Result<(), Error> {
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if !(self.pulse)() {
                return Err(Error::Silent("a call that nobody waits for any more".to_owned()));
            }
            if left.is_zero() {
                return Ok(());
            }
            std::thread::park_timeout(left.min(Duration::from_millis(500)));
        }
    }
}

pub(super) fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
