//! One member of a consumer group, by the classic protocol: it joins, is told its partitions, gives signs of life, commits, and leaves.
//!
//! Partitions are divided as Kafka's range assignor does it, so that members which are not ours may be in the group too. All are given back
//! before they are divided anew (eager): whoever holds one has finished with it first.

use super::cluster::{Cluster, END, START, name};
use super::{Error, check};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponse;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A member that gives no sign of life for so long is out.
const SESSION: Duration = Duration::from_secs(30);
/// How long members may take to give back their partitions.
const REBALANCE: Duration = Duration::from_secs(60);
/// Attempts to join while members come and go.
const JOINS_MAX: usize = 20;
const PAUSE: Duration = Duration::from_millis(300);
const PROTOCOL: &str = "range";

/// A member of a group that reads one topic.
pub struct Member {
    cluster: Cluster,
    group: String,
    topic: String,
    id: StrBytes,
    generation: i32,
    /// The broker that coordinates the group, until something goes wrong there: others that hang are then not asked for it.
    coordinator: Option<i32>,
}

/// What a sign of life was answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Steady,
    /// Members come or go: it is to finish with its partitions, and to join again.
    Rebalance,
    /// It was taken for dead: others have its partitions.
    Lost,
}

impl Member {
    pub fn new(cluster: Cluster, group: &str, topic: &str) -> Member {
        Member {
            cluster,
            group: group.to_owned(),
            topic: topic.to_owned(),
            id: StrBytes::default(),
            generation: -1,
            coordinator: None,
        }
    }

    /// Joins, or joins again, and waits until the partitions are divided. Gives those that are its own.
    ///
    /// # Errors
    /// The coordinator does not answer, or refuses.
    pub fn join(&mut self) -> Result<BTreeSet<i32>, Error> {
        let mut last = Error::Silent(format!("group \"{}\"", self.group));
        for _ in 0..JOINS_MAX {
            match self.try_join() {
                Ok(partitions) => return Ok(partitions),
                Err(error) => match error.code() {
                    Some(ResponseError::MemberIdRequired | ResponseError::RebalanceInProgress) => last = error,
                    Some(ResponseError::UnknownMemberId | ResponseError::IllegalGeneration) => {
                        self.id = StrBytes::default();
                        last = error;
                    }
                    Some(code) if code.is_retriable() => {
                        last = error;
                        self.cluster.pause(PAUSE)?;
                    }
                    _ => return Err(error),
                },
            }
        }
        Err(last)
    }

    fn try_join(&mut self) -> Result<BTreeSet<i32>, Error> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str(PROTOCOL))
            .with_metadata(subscription(&self.topic));
        let request = JoinGroupRequest::default()
            .with_group_id(self.group_id())
            .with_session_timeout_ms(SESSION.as_millis() as i32)
            .with_rebalance_timeout_ms(REBALANCE.as_millis() as i32)
            .with_member_id(self.id.clone())
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![protocol]);
        let what = format!("cannot join group \"{}\" of Kafka", self.group);
        let joined = self.coordinated(|link| {
            link.send(&request)?;
            link.receive::<JoinGroupRequest>(REBALANCE)
        })?;
        if !joined.member_id.is_empty() {
            self.id = joined.member_id.clone();
        }
        self.told(joined.error_code, || what.clone())?;
        self.generation = joined.generation_id;
        let assignments = match joined.leader == self.id {
            true => self.divide(&joined)?,
            false => Vec::new(),
        };
        let request = SyncGroupRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_protocol_type(Some(StrBytes::from_static_str("consumer")))
            .with_protocol_name(Some(StrBytes::from_static_str(PROTOCOL)))
            .with_assignments(assignments);
        let synced = self.coordinated(|link| {
            link.send(&request)?;
            link.receive::<SyncGroupRequest>(REBALANCE)
        })?;
        self.told(synced.error_code, || what)?;
        Ok(assigned(synced.assignment, &self.topic))
    }

    /// As the leader: who reads what, of every topic that any member wants.
    fn divide(&mut self, joined: &JoinGroupResponse) -> Result<Vec<SyncGroupRequestAssignment>, Error> {
        let wants: BTreeMap<StrBytes, Vec<String>> = joined
            .members
            .iter()
            .map(|member| (member.member_id.clone(), subscribed(member.metadata.clone())))
            .collect();
        let topics: BTreeSet<&String> = wants.values().flatten().collect();
        let mut shares: BTreeMap<StrBytes, Vec<(String, Vec<i32>)>> =
            wants.keys().map(|id| (id.clone(), Vec::new())).collect();
        for topic in topics {
            let count = self.cluster.topic(topic)?.map_or(0, |view| view.partitions);
            let readers: Vec<&StrBytes> =
                wants.iter().filter(|(_, topics)| topics.contains(topic)).map(|(id, _)| id).collect();
            for (reader, share) in readers.iter().zip(range(count, readers.len())) {
                shares.entry((*reader).clone()).or_default().push((topic.clone(), share));
            }
        }
        let assignment = |(id, share): (StrBytes, Vec<(String, Vec<i32>)>)| {
            SyncGroupRequestAssignment::default().with_member_id(id).with_assignment(assignment(&share))
        };
        Ok(shares.into_iter().map(assignment).collect())
    }

    /// Gives a sign of life.
    ///
    /// # Errors
    /// The coordinator does not answer: nobody knows how the member stands.
    pub fn heartbeat(&mut self) -> Result<Standing, Error> {
        let request = HeartbeatRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone());
        let answer = self.coordinated(|link| link.call(&request))?;
        let what = format!("group \"{}\" of Kafka", self.group);
        standing(self.told(answer.error_code, || what))
    }

    /// Notes for the group that everything below these offsets is done with.
    ///
    /// # Errors
    /// The coordinator does not answer, or refuses.
    pub fn commit(&mut self, positions: &BTreeMap<i32, i64>) -> Result<Standing, Error> {
        let position = |(partition, next): (&i32, &i64)| {
            OffsetCommitRequestPartition::default().with_partition_index(*partition).with_committed_offset(*next)
        };
        let topic = OffsetCommitRequestTopic::default()
            .with_name(name(&self.topic))
            .with_partitions(positions.iter().map(position).collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(self.id.clone())
            .with_topics(vec![topic]);
        let answer = self.coordinated(|link| link.call(&request))?;
        let mut told = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let code = told.find(|told| told.error_code != 0).map_or(0, |told| told.error_code);
        let what = format!("cannot commit to group \"{}\" of Kafka", self.group);
        standing(self.told(code, || what))
    }

    /// What the group has done with, by partition; those that it never committed are missing.
    ///
    /// # Errors
    /// The coordinator does not answer, or refuses.
    pub fn committed(&mut self, partitions: &BTreeSet<i32>) -> Result<BTreeMap<i32, i64>, Error> {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(name(&self.topic))
            .with_partition_indexes(partitions.iter().copied().collect());
        let request = OffsetFetchRequest::default().with_group_id(self.group_id()).with_topics(Some(vec![topic]));
        let answer = self.coordinated(|link| link.call(&request))?;
        let what = format!("cannot read what group \"{}\" of Kafka committed", self.group);
        self.told(answer.error_code, || what.clone())?;
        let mut committed = BTreeMap::new();
        for told in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            self.told(told.error_code, || what.clone())?;
            if told.committed_offset >= 0 {
                committed.insert(told.partition_index, told.committed_offset);
            }
        }
        Ok(committed)
    }

    /// Starts and tails of the topic's partitions, as committed records go.
    ///
    /// # Errors
    /// A leader does not answer.
    pub fn bounds(&mut self) -> Result<BTreeMap<i32, (i64, i64)>, Error> {
        self.cluster.topic(&self.topic)?;
        let starts = self.cluster.offsets(&self.topic, START, true)?;
        let tails = self.cluster.offsets(&self.topic, END, true)?;
        let both = |(id, start): (i32, i64)| Some((id, (start, *tails.get(&id)?)));
        Ok(starts.into_iter().filter_map(both).collect())
    }

    /// Goes, so that others need not wait for its silence.
    ///
    /// # Errors
    /// The coordinator does not answer.
    pub fn leave(&mut self) -> Result<(), Error> {
        let me = MemberIdentity::default().with_member_id(self.id.clone());
        let request = LeaveGroupRequest::default().with_group_id(self.group_id()).with_members(vec![me]);
        self.coordinated(|link| link.call(&request)).map(drop)
    }

    /// Asks the group's coordinator.
    fn coordinated<T>(
        &mut self,
        call: impl FnOnce(&mut super::connection::Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let coordinator = match self.coordinator.take() {
            Some(known) => known,
            None => self.find_coordinator()?,
        };
        let answer = self.cluster.ask(coordinator, call)?;
        self.coordinator = Some(coordinator);
        Ok(answer)
    }

    fn find_coordinator(&mut self) -> Result<i32, Error> {
        let request = FindCoordinatorRequest::default().with_key(StrBytes::from_string(self.group.clone()));
        let answer = self.cluster.any(|link| link.call(&request))?;
        check(answer.error_code, || format!("nobody coordinates group \"{}\" of Kafka", self.group))?;
        self.cluster.know(answer.node_id.0, format!("{}:{}", answer.host, answer.port));
        Ok(answer.node_id.0)
    }

    /// As [`check`]; a coordinator that cannot do it may be none any more.
    fn told(&mut self, code: i16, what: impl FnOnce() -> String) -> Result<(), Error> {
        let checked = check(code, what);
        if checked.as_ref().is_err_and(|error| error.code().is_some_and(|code| code.is_retriable())) {
            self.coordinator = None;
        }
        checked
    }

    fn group_id(&self) -> GroupId {
        GroupId(StrBytes::from_string(self.group.clone()))
    }
}

fn standing(checked: Result<(), Error>) -> Result<Standing, Error> {
    match checked {
        Ok(()) => Ok(Standing::Steady),
        Err(error) => match error.code() {
            Some(ResponseError::RebalanceInProgress) => Ok(Standing::Rebalance),
            Some(
                ResponseError::UnknownMemberId | ResponseError::IllegalGeneration | ResponseError::FencedInstanceId,
            ) => Ok(Standing::Lost),
            _ => Err(error),
        },
    }
}

/// Partitions of one topic for each of its readers, in their order: neighbours together, the first have one more.
fn range(count: i32, readers: usize) -> Vec<Vec<i32>> {
    let readers_count = readers.max(1) as i32;
    let (each, more) = (count / readers_count, count % readers_count);
    let first = |reader: i32| each * reader + reader.min(more);
    (0..readers as i32).map(|reader| (first(reader)..first(reader + 1)).collect()).collect()
}

/// `ConsumerProtocolSubscription`, version 0: i16 version, i32 count, texts with i16 sizes, i32 size of user data (-1 = none).
fn subscription(topic: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(1);
    put_text(&mut bytes, topic);
    bytes.put_i32(-1);
    bytes.freeze()
}

/// Topics of a subscription of whatever version; none of what cannot be read.
fn subscribed(mut bytes: Bytes) -> Vec<String> {
    if bytes.remaining() < 6 {
        return Vec::new();
    }
    let _version = bytes.get_i16();
    let count = bytes.get_i32();
    (0..count).map_while(|_| take_text(&mut bytes)).collect()
}

/// `ConsumerProtocolAssignment`, version 0: i16 version, i32 count, each a text and a list of i32, i32 size of user data.
fn assignment(share: &[(String, Vec<i32>)]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(share.len() as i32);
    for (topic, partitions) in share {
        put_text(&mut bytes, topic);
        bytes.put_i32(partitions.len() as i32);
        partitions.iter().for_each(|partition| bytes.put_i32(*partition));
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

/// Partitions of the topic in an assignment.
fn assigned(mut bytes: Bytes, topic: &str) -> BTreeSet<i32> {
    let mut partitions = BTreeSet::new();
    if bytes.remaining() < 6 {
        return partitions;
    }
    let _version = bytes.get_i16();
    let count = bytes.get_i32();
    for _ in 0..count {
        let Some(named) = take_text(&mut bytes).filter(|_| bytes.remaining() >= 4) else { break };
        let count = bytes.get_i32();
        for _ in 0..count {
            if bytes.remaining() < 4 {
                return partitions;
            }
            let partition = bytes.get_i32();
            if named == topic {
                partitions.insert(partition);
            }
        }
    }
    partitions
}

fn put_text(bytes: &mut BytesMut, text: &str) {
    bytes.put_i16(text.len() as i16);
    bytes.put_slice(text.as_bytes());
}

fn take_text(bytes: &mut Bytes) -> Option<String> {
    if bytes.remaining() < 2 {
        return None;
    }
    let size = usize::try_from(bytes.get_i16()).ok()?;
    (bytes.remaining() >= size).then(|| String::from_utf8_lossy(&bytes.split_to(size)).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_divided_as_kafkas_range_assignor_does() {
        assert_eq!(range(7, 3), [vec![0, 1, 2], vec![3, 4], vec![5, 6]]);
        assert_eq!(range(2, 3), [vec![0], vec![1], vec![]]);
        assert_eq!(range(0, 2), [Vec::<i32>::new(), vec![]]);
        for (count, readers) in [(1, 1), (12, 5), (100, 7)] {
            let all: Vec<i32> = range(count, readers).into_iter().flatten().collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_said_in_a_group_is_read_back_and_rubbish_is_nothing() {
        assert_eq!(subscribed(subscription("orders")), ["orders"]);
        let share = [("a".to_owned(), vec![1, 2]), ("orders".to_owned(), vec![0, 3])];
        let bytes = assignment(&share);
        assert_eq!(assigned(bytes.clone(), "orders"), BTreeSet::from([0, 3]));
        for end in 0..bytes.len() {
            assert!(assigned(bytes.slice(..end), "orders").len() <= 2);
            assert!(subscribed(bytes.slice(..end)).len() <= 2);
        }
        let mut huge = BytesMut::new();
        huge.put_i16(0);
        huge.put_i32(i32::MAX);
        assert!(subscribed(huge.clone().freeze()).is_empty() && assigned(huge.freeze(), "orders").is_empty());
    }
}
