//! Metadata and DescribeCluster: one node leads everything.

use super::errors::Code;
use super::{Service, admin, find_by_name, node, text, topic_name};
use crate::record::TopicName as Name;
use crate::store::{NewTopic, Topic, TopicError};
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse, MetadataRequest, MetadataResponse};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

/// Nobody asked which operations are allowed.
const NOT_ASKED: i32 = i32::MIN;
/// All that there are on a topic: read, write, create, delete, alter, describe, describe and alter configs.
const TOPIC_OPERATIONS: i32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// All that there are on a cluster: create, alter, describe, cluster action, describe and alter configs, idempotent write.
const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// The name of a topic may be null, from this version on.
const WITHOUT_NAME: i16 = 12;
/// Whose addresses DescribeCluster may be asked for (KIP-919).
const ENDPOINT_BROKERS: i8 = 1;
const ENDPOINT_CONTROLLERS: i8 = 2;

pub(super) async fn answer(
    service: &Service,
    local: SocketAddr,
    request: MetadataRequest,
    version: i16,
) -> MetadataResponse {
    let of_cluster = request.include_cluster_authorized_operations;
    let of_topics = request.include_topic_authorized_operations;
    let mut topics = Vec::new();
    match request.topics {
        // Version 0 has no null: an empty list asks for all.
        None => topics.extend(service.store.topics().iter().map(known)),
        Some(list) if list.is_empty() && version == 0 => topics.extend(service.store.topics().iter().map(known)),
        Some(list) => {
            let may_create = service.door.auto_create && (version < 4 || request.allow_auto_topic_creation);
            // A topic that is named twice is told once: a short request must not ask for an answer without end.
            let mut told = HashSet::new();
            for asked in list.into_iter().filter(|asked| told.insert((asked.name.clone(), asked.topic_id))) {
                topics.push(match asked.name {
                    None => match service.store.topic_by_id(asked.topic_id) {
                        Some(topic) => known(&topic),
                        // A version before this one cannot say that there is no name.
                        None if version >= WITHOUT_NAME => {
                            unknown(Code::UnknownTopicId).with_name(None).with_topic_id(asked.topic_id)
                        }
                        None => unknown(Code::UnknownTopicId).with_topic_id(asked.topic_id),
                    },
                    Some(name) => match find_or_create(service, &name, may_create).await {
                        Ok(topic) => known(&topic),
                        Err(code) => unknown(code).with_name(Some(name)),
                    },
                });
            }
        }
    }
    // Of a name that is no topic's too, as Kafka does: kafka-python 2.3 cannot read "not asked" where it asked.
    let has_name = |topic: &&mut MetadataResponseTopic| topic.error_code != i16::from(Code::UnknownTopicId);
    for topic in topics.iter_mut().filter(|topic| of_topics && has_name(topic)) {
        topic.topic_authorized_operations = TOPIC_OPERATIONS;
    }
    let (host, port) = advertised(service, local);
    let broker = MetadataResponseBroker::default().with_node_id(node()).with_host(text(&host)).with_port(port);
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(text(&service.store.cluster_id().to_string())))
        .with_controller_id(node())
        .with_topics(topics)
        .with_cluster_authorized_operations(if of_cluster { CLUSTER_OPERATIONS } else { NOT_ASKED })
}

async fn find_or_create(service: &Service, name: &str, may_create: bool) -> Result<Arc<Topic>, Code> {
    if let Ok(topic) = find_by_name(service, name) {
        return Ok(topic);
    }
    let name = Name::new(name).map_err(|_| Code::InvalidTopic)?;
    if !may_create {
        return Err(Code::UnknownTopicOrPartition);
    }
    if admin::collision(service, &name).is_some() {
        return Err(Code::InvalidTopic);
    }
    let new = NewTopic { name: name.clone(), partitions: service.door.partitions, config: Vec::new() };
    match service.store.create_topic(new).await {
        Ok(topic) => Ok(topic),
        Err(TopicError::Exists(_)) => find_by_name(service, name.as_str()),
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
        .with_is_internal(topic.name.is_internal())
        .with_partitions(partitions.iter().map(partition).collect())
        .with_topic_authorized_operations(NOT_ASKED)
}

fn unknown(code: Code) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_error_code(code.into()).with_topic_authorized_operations(NOT_ASKED)
}

pub(super) fn cluster(
    service: &Service,
    local: SocketAddr,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let is_asked = request.include_cluster_authorized_operations;
    let operations = if is_asked { CLUSTER_OPERATIONS } else { NOT_ASKED };
    let (host, port) = advertised(service, local);
    let broker = DescribeClusterBroker::default().with_broker_id(node()).with_host(text(&host)).with_port(port);
    let refuse = |code: Code, reason: &str| {
        DescribeClusterResponse::default().with_error_code(code.into()).with_error_message(Some(text(reason)))
    };
    match request.endpoint_type {
        ENDPOINT_BROKERS => {}
        ENDPOINT_CONTROLLERS => return refuse(Code::MismatchedEndpointType, "this is a broker's listener"),
        _ => return refuse(Code::UnsupportedEndpointType, "endpoint types are 1 (brokers) and 2 (controllers)"),
    }
    DescribeClusterResponse::default()
        .with_cluster_id(text(&service.store.cluster_id().to_string()))
        .with_controller_id(node())
        .with_brokers(vec![broker])
        .with_cluster_authorized_operations(operations)
}

/// Where clients are told to come: as configured, or where this one came to.
pub(super) fn advertised(service: &Service, local: SocketAddr) -> (String, i32) {
    let (host, port) = &service.door.advertised;
    match host.as_str() {
        // A listener for both kinds of addresses sees the older kind inside the newer; its clients may not.
        "" => (local.ip().to_canonical().to_string(), i32::from(local.port())),
        host => (host.to_owned(), i32::from(*port)),
    }
}
