//! Where partitions are and who leads them, on one node that keeps and leads them all: AlterPartitionReassignments,
//! ListPartitionReassignments, ElectLeaders. The answers are those of a cluster of one broker.

use super::errors::{Code, Refusal};
use super::{NODE, Service, find_by_name, node, text, topic_name};
use crate::record::PartitionId;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId, ElectLeadersRequest,
    ElectLeadersResponse, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, TopicName,
};

/// Elections of the preferred leader, and of one that is not in sync.
const ELECTIONS: std::ops::RangeInclusive<i8> = 0..=1;

/// Whether a partition can have these replicas.
pub(super) fn check(replicas: &[BrokerId]) -> Result<(), Refusal> {
    let refuse = |reason: String| Err((Code::InvalidReplicaAssignment, reason));
    match replicas {
        [] => refuse("a partition has at least one replica".to_owned()),
        replicas if replicas.iter().any(|id| *id != node()) => {
            refuse(format!("every partition is on node {NODE}, the only one"))
        }
        [_] => Ok(()),
        _ => refuse(format!("node {NODE} is named more than once")),
    }
}

/// Whether there is such a partition. The reason does not repeat the topic's name: it is told for each partition, and a client may have
/// made up a long one.
fn look_for(service: &Service, topic: &TopicName, partition: i32) -> Result<(), Refusal> {
    let missing = |reason: &str| (Code::UnknownTopicOrPartition, reason.to_owned());
    let found = find_by_name(service, topic).map_err(|_| missing("there is no such topic"))?;
    let found = found.partition(PartitionId(partition)).map(drop);
    found.ok_or_else(|| missing("the topic has no such partition"))
}

/// Every partition is where it can be: a reassignment is done, or impossible.
pub(super) fn reassign(
    service: &Service,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let may_change = request.allow_replication_factor_change;
    let topics = request.topics.into_iter().map(|asked| {
        let partitions = asked.partitions.iter().map(|one| {
            let done = look_for(service, &asked.name, one.partition_index).and_then(|()| match &one.replicas {
                Some(replicas) => check(replicas),
                None => Err((Code::NoReassignmentInProgress, "no reassignment is in progress".to_owned())),
            });
            let out = ReassignablePartitionResponse::default().with_partition_index(one.partition_index);
            match done {
                Ok(()) => out.with_error_message(None),
                Err((code, reason)) => out.with_error_code(code.into()).with_error_message(Some(text(&reason))),
            }
        });
        let partitions = partitions.collect();
        ReassignableTopicResponse::default().with_name(asked.name).with_partitions(partitions)
    });
    let topics = topics.collect();
    AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(may_change)
        .with_error_message(None)
        .with_responses(topics)
}

/// None ever runs.
pub(super) fn reassignments(_request: &ListPartitionReassignmentsRequest) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default().with_error_message(None)
}

pub(super) fn elect(service: &Service, request: ElectLeadersRequest, version: i16) -> ElectLeadersResponse {
    // Version 0 knows one kind.
    let is_election = version == 0 || ELECTIONS.contains(&request.election_type);
    let unknown = || (Code::InvalidRequest, format!("there is no election of type {}", request.election_type));
    let topics = match request.topic_partitions {
        Some(topics) => topics
            .into_iter()
            .map(|asked| {
                let result = |index: &i32| {
                    let found = if is_election { look_for(service, &asked.topic, *index) } else { Err(unknown()) };
                    let not_needed = (Code::ElectionNotNeeded, format!("node {NODE} leads the partition already"));
                    let (code, reason) = found.err().unwrap_or(not_needed);
                    let out = PartitionResult::default().with_partition_id(*index);
                    out.with_error_code(code.into()).with_error_message(Some(text(&reason)))
                };
                let results = asked.partitions.iter().map(result).collect();
                ReplicaElectionResult::default().with_topic(asked.topic).with_partition_result(results)
            })
            .collect(),
        None if !is_election => Vec::new(),
        // Of all partitions Kafka tells only those whose leader changed or could not: here none.
        None => service
            .store
            .topics()
            .iter()
            .map(|topic| ReplicaElectionResult::default().with_topic(topic_name(topic.name.as_str())))
            .collect(),
    };
    let code = if is_election || version == 0 { Code::None } else { Code::InvalidRequest };
    ElectLeadersResponse::default().with_error_code(code.into()).with_replica_election_results(topics)
}
