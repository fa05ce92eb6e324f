//! Batches of idempotent producers to the leaders of their partitions: several in flight, in order, again where an answer was lost.
//!
//! A broker knows the last five batches of a producer and a partition, so that one which is sent again is there once (KIP-98). No more
//! than that are in flight.

use super::cluster::{Cluster, name};
use super::connection::ANSWER_PATIENCE;
use super::{Error, check};
use crate::record::Batch;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// Batches of one partition without an answer.
const IN_FLIGHT_MAX: usize = 5;
/// Bytes of one request.
const REQUEST_SIZE_MAX: usize = 8 << 20;
/// How long brokers may take to have a batch on all replicas.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// Faults that pass are borne for so long; then whoever sends waits with everything else.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pauses between attempts: the first, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A broker that wants to be left alone for longer is asked again after this.
const THROTTLE_MAX: Duration = Duration::from_secs(10);

/// A batch that all replicas have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    pub partition: i32,
    /// Among the batches of its partition.
    pub at: usize,
    /// -1 if the broker does not know any more where it put it.
    pub base_offset: i64,
}

/// The first batch that was not taken; those before it in its partition are there, those behind it are not.
#[derive(Debug)]
pub struct Stopped {
    pub partition: i32,
    pub at: usize,
    pub why: Why,
}

/// Why a batch was not taken.
#[derive(Debug)]
pub enum Why {
    /// It is larger than the topic takes, or some record in it is none that the topic takes.
    Unfit(String),
    /// The broker has other sequences of the producer than the sender thinks.
    Sequence(ResponseError),
    /// Nobody knows whether it is there.
    Down(Error),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waiting,
    InFlight,
    Acked,
}

/// Batches of one partition on their way.
struct Lane<'a> {
    batches: &'a [Batch],
    fates: Vec<Fate>,
}

/// What goes wrong until all that is out is answered.
struct Round<'a> {
    /// It is tried again.
    passing: &'a mut Option<Error>,
    stopped: &'a mut Option<Stopped>,
    /// A batch that the broker says is corrupt.
    spoilt: &'a mut Option<(i32, usize)>,
    /// All brokers that do not answer are waited for at the same time.
    until: Instant,
}

/// What was sent in one request: partitions with the places of their batches.
type Request = Vec<(i32, usize)>;

impl Lane<'_> {
    fn in_flight(&self) -> usize {
        self.fates.iter().filter(|fate| **fate == Fate::InFlight).count()
    }

    fn next(&self) -> Option<usize> {
        let first = self.fates.iter().position(|fate| *fate == Fate::Waiting)?;
        (self.in_flight() < IN_FLIGHT_MAX).then_some(first)
    }
}

impl Cluster {
    /// Sends batches, by partition in order, and tells of each one that all in-sync replicas have. Their producers' sequences follow one
    /// another.
    ///
    /// # Errors
    /// [`Stopped`]: some batch is not there, or nobody knows.
    pub fn produce(
        &mut self,
        topic: &str,
        batches: &BTreeMap<i32, Vec<Batch>>,
        mut acked: impl FnMut(Acked),
    ) -> Result<(), Stopped> {
        let lane = |batches| Lane { batches, fates: vec![Fate::Waiting; <[Batch]>::len(batches)] };
        let mut lanes: BTreeMap<i32, Lane<'_>> =
            batches.iter().map(|(partition, batches)| (*partition, lane(batches.as_slice()))).collect();
        let mut flights: HashMap<i32, VecDeque<Request>> = HashMap::new();
        let mut patience = Instant::now() + PATIENCE;
        let mut pause = PAUSE_MIN;
        loop {
            let mut passing: Option<Error> = None;
            let mut stopped: Option<Stopped> = None;
            let mut spoilt: Option<(i32, usize)> = None;
            // One round: as much as goes out, then all that comes back.
            while passing.is_none() && stopped.is_none() {
                if let Err(error) = self.send_round(topic, &mut lanes, &mut flights) {
                    passing = Some(error);
                }
                let Some(leader) = flights.iter().find(|(_, sent)| !sent.is_empty()).map(|(leader, _)| *leader) else {
                    break;
                };
                let until = Instant::now() + ANSWER_PATIENCE + ACK_TIMEOUT;
                let mut round = Round { passing: &mut passing, stopped: &mut stopped, spoilt: &mut spoilt, until };
                let throttled = self.take_answer(topic, leader, &mut lanes, &mut flights, &mut acked, &mut round);
                if passing.is_none() {
                    (patience, pause) = (Instant::now() + PATIENCE, PAUSE_MIN);
                }
                if !throttled.is_zero() && self.pause(throttled.min(THROTTLE_MAX)).is_ok() {
                    patience += throttled.min(THROTTLE_MAX);
                }
            }
            // What is out is answered before anything goes out again, so that nothing overtakes it.
            let until = Instant::now() + ANSWER_PATIENCE + ACK_TIMEOUT;
            while let Some(leader) = flights.iter().find(|(_, sent)| !sent.is_empty()).map(|(leader, _)| *leader) {
                let mut round = Round { passing: &mut passing, stopped: &mut stopped, spoilt: &mut spoilt, until };
                self.take_answer(topic, leader, &mut lanes, &mut flights, &mut acked, &mut round);
            }
            if let Some(stopped) = stopped {
                return Err(stopped);
            }
            let first = lanes.iter().find_map(|(partition, lane)| {
                let at = lane.fates.iter().position(|fate| *fate != Fate::Acked)?;
                Some((*partition, at))
            });
            let Some((partition, at)) = first else { return Ok(()) };
            let Some(error) = passing else { continue };
            if Instant::now() > patience {
                // A network that spoils batches gets well; a batch that every attempt finds spoilt is so itself.
                return Err(match (spoilt, error.code()) {
                    (Some((partition, at)), Some(code @ ResponseError::CorruptMessage)) => {
                        Stopped { partition, at, why: why(code, error) }
                    }
                    _ => Stopped { partition, at, why: Why::Down(error) },
                });
            }
            if let Err(error) = self.pause(pause) {
                return Err(Stopped { partition, at, why: Why::Down(error) });
            }
            pause = (pause * 2).min(PAUSE_MAX);
            // A cluster that cannot be asked now may be there at the next attempt.
            let _ = self.topic(topic);
        }
    }

    /// Sends what may go out, one request a leader at a time.
    fn send_round(
        &mut self,
        topic: &str,
        lanes: &mut BTreeMap<i32, Lane<'_>>,
        flights: &mut HashMap<i32, VecDeque<Request>>,
    ) -> Result<(), Error> {
        loop {
            let ready: Vec<i32> = lanes.iter().filter_map(|(id, lane)| lane.next().map(|_| *id)).collect();
            if ready.is_empty() {
                return Ok(());
            }
            for (leader, partitions) in self.by_leader(topic, ready.into_iter())? {
                let (mut sent, mut data, mut size): (Request, Vec<PartitionProduceData>, usize) = Default::default();
                for partition in partitions {
                    let Some(lane) = lanes.get_mut(&partition) else { continue };
                    let Some(at) = lane.next() else { continue };
                    let bytes = lane.batches[at].bytes();
                    if !sent.is_empty() && size + bytes.len() > REQUEST_SIZE_MAX {
                        continue;
                    }
                    size += bytes.len();
                    data.push(PartitionProduceData::default().with_index(partition).with_records(Some(bytes.clone())));
                    sent.push((partition, at));
                }
                let data = TopicProduceData::default().with_name(name(topic)).with_partition_data(data);
                let request = ProduceRequest::default()
                    .with_acks(-1)
                    .with_timeout_ms(ACK_TIMEOUT.as_millis() as i32)
                    .with_topic_data(vec![data]);
                for (partition, at) in &sent {
                    if let Some(lane) = lanes.get_mut(partition) {
                        lane.fates[*at] = Fate::InFlight;
                    }
                }
                flights.entry(leader).or_default().push_back(sent);
                if let Err(error) = self.ask(leader, |link| link.send(&request)) {
                    // Nothing that is out with this broker will be answered.
                    self.links.remove(&leader);
                    land(flights.remove(&leader), lanes);
                    return Err(error);
                }
            }
        }
    }

    /// Takes the oldest answer of one broker; says how long it wants to be left alone.
    fn take_answer(
        &mut self,
        topic: &str,
        leader: i32,
        lanes: &mut BTreeMap<i32, Lane<'_>>,
        flights: &mut HashMap<i32, VecDeque<Request>>,
        acked: &mut impl FnMut(Acked),
        round: &mut Round<'_>,
    ) -> Duration {
        // The link may have been closed and opened again since: then the request is not known there.
        let answer = match self.links.contains_key(&leader) {
            true => {
                // What has come meanwhile is taken.
                let until = round.until.max(Instant::now() + PAUSE_MAX);
                self.ask(leader, |link| link.receive_until::<ProduceRequest>(until))
            }
            false => Err(Error::Silent(format!("broker {leader}"))),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.links.remove(&leader);
                land(flights.remove(&leader), lanes);
                round.passing.get_or_insert(error);
                return Duration::ZERO;
            }
        };
        let sent = flights.get_mut(&leader).and_then(VecDeque::pop_front).unwrap_or_default();
        let told = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        let told: HashMap<i32, _> = told.map(|told| (told.index, told)).collect();
        let mut failed: HashSet<i32> = HashSet::new();
        for (partition, at) in sent {
            let Some(lane) = lanes.get_mut(&partition) else { continue };
            let result = match told.get(&partition) {
                Some(told) => check(told.error_code, || format!("cannot write to \"{topic}/{partition}\" of Kafka"))
                    .map(|()| told.base_offset)
                    .map_err(|error| with_detail(error, told.error_message.as_ref().map(ToString::to_string))),
                None => Err(Error::Silent(format!("a batch for \"{topic}/{partition}\""))),
            };
            match result {
                Ok(base_offset) => {
                    lane.fates[at] = Fate::Acked;
                    acked(Acked { partition, at, base_offset });
                }
                Err(error) => {
                    lane.fates[at] = Fate::Waiting;
                    failed.insert(partition);
                    // Behind one that failed sequences are bound to be wrong; it alone says why.
                    let is_first = lane.fates[..at].iter().all(|fate| *fate == Fate::Acked);
                    match (error.code(), is_first) {
                        (Some(code), _) if code.is_retriable() || code == ResponseError::UnknownTopicOrPartition => {
                            if code == ResponseError::CorruptMessage && is_first {
                                round.spoilt.get_or_insert((partition, at));
                            }
                            round.passing.get_or_insert(error);
                        }
                        (None, _) | (_, false) => {
                            round.passing.get_or_insert(error);
                        }
                        (Some(code), true) => {
                            round.stopped.get_or_insert(Stopped { partition, at, why: why(code, error) });
                        }
                    }
                }
            }
        }
        Duration::from_millis(answer.throttle_time_ms.max(0) as u64)
    }
}

fn why(code: ResponseError, error: Error) -> Why {
    match code {
        ResponseError::MessageTooLarge
        | ResponseError::RecordListTooLarge
        | ResponseError::InvalidTimestamp
        | ResponseError::InvalidRecord
        | ResponseError::CorruptMessage => Why::Unfit(error.to_string()),
        ResponseError::OutOfOrderSequenceNumber
        | ResponseError::DuplicateSequenceNumber
        | ResponseError::InvalidProducerEpoch
        | ResponseError::UnknownProducerId => Why::Sequence(code),
        _ => Why::Down(error),
    }
}

fn with_detail(error: Error, detail: Option<String>) -> Error {
    match error {
        Error::Refused { what, error, .. } => Error::Refused { what, error, detail },
        other => other,
    }
}

/// Batches whose answers will not come are to be sent again.
fn land(sent: Option<VecDeque<Request>>, lanes: &mut BTreeMap<i32, Lane<'_>>) {
    for (partition, at) in sent.into_iter().flatten().flatten() {
        if let Some(lane) = lanes.get_mut(&partition)
            && lane.fates[at] == Fate::InFlight
        {
            lane.fates[at] = Fate::Waiting;
        }
    }
}
