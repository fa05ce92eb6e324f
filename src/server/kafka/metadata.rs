//! Metadata, DescribeCluster, FindCoordinator: one node leads everything.

use super::errors::Code;
use super::{KafkaDoor, node, text, topic_name};
use crate::record::TopicName as Name;
use crate::store::{NewTopic, Topic, TopicError};
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterResponse, FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest,
    MetadataResponse,
};
use std::net::SocketAddr;
use std::sync::Arc;

/// No authorisation: no set of allowed operations is told.
const NO_OPERATIONS: i32 = i32::MIN;

pub(super) async fn answer(
    door: &KafkaDoor,
    local: SocketAddr,
    request: MetadataRequest,
    version: i16,
) -> MetadataResponse {
    let mut topics = Vec::new();
    match request.topics {
        // Version 0 has no null: an empty list asks for all.
        None => topics.extend(door.store.topics().iter().map(known)),
        Some(list) if list.is_empty() && version == 0 => topics.extend(door.store.topics().iter().map(known)),
        Some(list) => {
            let may_create = door.auto_create && (version < 4 || request.allow_auto_topic_creation);
            for asked in list {
                topics.push(match asked.name {
                    None => match door.store.topic_by_id(asked.topic_id) {
                        Some(topic) => known(&topic),
                        None => unknown(Code::UnknownTopicId).with_topic_id(asked.topic_id),
                    },
                    Some(name) => match find_or_create(door, &name, may_create).await {
                        Ok(topic) => known(&topic),
                        Err(code) => unknown(code).with_name(Some(name)),
                    },
                });
            }
        }
    }
    let (host, port) = advertised(door, local);
    let broker = MetadataResponseBroker::default().with_node_id(node()).with_host(text(&host)).with_port(port);
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(text(&door.store.cluster_id().to_string())))
        .with_controller_id(node())
        .with_topics(topics)
        .with_cluster_authorized_operations(NO_OPERATIONS)
}

async fn find_or_create(door: &KafkaDoor, name: &str, may_create: bool) -> Result<Arc<Topic>, Code> {
    if let Some(topic) = door.store.topic(name) {
        return Ok(topic);
    }
    let name = Name::new(name).map_err(|_| Code::InvalidTopic)?;
    if !may_create {
        return Err(Code::UnknownTopicOrPartition);
    }
    match door
        .store
        .create_topic(NewTopic { name: name.clone(), partitions: door.partitions, config: Vec::new() })
        .await
    {
        Ok(topic) => Ok(topic),
        Err(TopicError::Exists(_)) => door.store.topic(name.as_str()).ok_or(Code::UnknownTopicOrPartition),
        Err(error) => Err((&error).into()),
    }
}

fn known(topic: &Arc<Topic>) -> MetadataResponseTopic {
    let partitions = topic.partitions();
    let partition = |partition: &crate::store::Partition| {
        MetadataResponsePartition::default()
            .with_partition_index(partition.id().0)
            .with_leader_id(node())
            .with_leader_epoch(partition.leader_epoch())
            .with_replica_nodes(vec![node()])
            .with_isr_nodes(vec![node()])
    };
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(topic.name.as_str())))
        .with_topic_id(topic.id)
        .with_partitions(partitions.iter().map(partition).collect())
        .with_topic_authorized_operations(NO_OPERATIONS)
}

fn unknown(code: Code) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_error_code(code.into()).with_topic_authorized_operations(NO_OPERATIONS)
}

pub(super) fn cluster(door: &KafkaDoor, local: SocketAddr) -> DescribeClusterResponse {
    let (host, port) = advertised(door, local);
    let broker = DescribeClusterBroker::default().with_broker_id(node()).with_host(text(&host)).with_port(port);
    DescribeClusterResponse::default()
        .with_cluster_id(text(&door.store.cluster_id().to_string()))
        .with_controller_id(node())
        .with_brokers(vec![broker])
        .with_cluster_authorized_operations(NO_OPERATIONS)
}

/// Groups are not there yet: clients ask again later.
pub(super) fn coordinator(request: &FindCoordinatorRequest, version: i16) -> FindCoordinatorResponse {
    let code = Code::CoordinatorNotAvailable.into();
    let message = Some(text("consumer groups are not served yet; assign partitions"));
    if version < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(code)
            .with_error_message(if version > 0 { message } else { None })
            .with_node_id(BrokerId(-1))
            .with_port(-1);
    }
    let one = |key: &kafka_protocol::protocol::StrBytes| {
        Coordinator::default()
            .with_key(key.clone())
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(code)
            .with_error_message(message.clone())
    };
    FindCoordinatorResponse::default().with_coordinators(request.coordinator_keys.iter().map(one).collect())
}

/// Where clients are told to come: as configured, or where this one came to.
fn advertised(door: &KafkaDoor, local: SocketAddr) -> (String, i32) {
    match door.advertised.0.as_str() {
        "" => (local.ip().to_string(), i32::from(local.port())),
        host => (host.to_owned(), i32::from(door.advertised.1)),
    }
}
