//! DescribeQuorum: who keeps the metadata. One voter, this node; its log is the topic catalog, counted in bytes, and its epoch that of the
//! start.

use super::errors::Code;
use super::metadata::advertised;
use super::{Service, node, text};
use kafka_protocol::messages::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use kafka_protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use std::net::SocketAddr;

/// The metadata's log, by Kafka's name.
const METADATA: &str = "__cluster_metadata";
/// The versions that brought times, and nodes and messages.
const WITH_TIMES: i16 = 1;
const WITH_NODES: i16 = 2;

pub(super) async fn describe(
    service: &Service,
    local: SocketAddr,
    request: DescribeQuorumRequest,
    version: i16,
) -> DescribeQuorumResponse {
    let is_metadata = match request.topics.as_slice() {
        [topic] => {
            topic.topic_name.as_str() == METADATA
                && matches!(topic.partitions.as_slice(), [one] if one.partition_index == 0)
        }
        _ => false,
    };
    let end = if is_metadata { service.store.catalog_size().await } else { Ok(0) };
    let topics = request.topics.into_iter().map(|asked| {
        let partitions = asked.partitions.iter().map(|one| {
            let out = PartitionData::default().with_partition_index(one.partition_index);
            match &end {
                Ok(end) if is_metadata => led(service, *end as i64, version, out),
                Ok(_) => refused(out, Code::UnknownTopicOrPartition, "only the metadata's log has a quorum", version),
                Err(error) => refused(out, Code::from(error), &error.to_string(), version),
            }
        });
        let partitions = partitions.collect();
        TopicData::default().with_topic_name(asked.topic_name).with_partitions(partitions)
    });
    let out = DescribeQuorumResponse::default().with_topics(topics.collect());
    if !is_metadata || version < WITH_NODES {
        return out;
    }
    let (host, port) = advertised(service, local);
    let listener = Listener::default().with_name(text("PLAINTEXT")).with_host(text(&host)).with_port(port as u16);
    out.with_nodes(vec![Node::default().with_node_id(node()).with_listeners(vec![listener])])
}

fn led(service: &Service, end: i64, version: i16, out: PartitionData) -> PartitionData {
    let mut voter = ReplicaState::default().with_replica_id(node()).with_log_end_offset(end);
    if version >= WITH_TIMES {
        // The leader has always just read its own log.
        let now_ms = service.door.clock.now_ms();
        voter = voter.with_last_fetch_timestamp(now_ms).with_last_caught_up_timestamp(now_ms);
    }
    out.with_leader_id(node())
        .with_leader_epoch(service.store.leader_epoch())
        .with_high_watermark(end)
        .with_current_voters(vec![voter])
}

fn refused(out: PartitionData, code: Code, reason: &str, version: i16) -> PartitionData {
    let out = out.with_error_code(code.into());
    if version >= WITH_NODES { out.with_error_message(Some(text(reason))) } else { out }
}
