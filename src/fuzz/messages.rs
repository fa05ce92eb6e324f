//! Requests of the Kafka protocol, as the door decodes them: each served API in each served version.

use super::split;
use crate::server::kafka::versions::SERVED;
use crate::wire::shape;
use bytes::Bytes;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterConfigsRequest, AlterPartitionReassignmentsRequest, ApiKey, ApiVersionsRequest,
    CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeClientQuotasRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    DescribeLogDirsRequest, DescribeProducersRequest, DescribeQuorumRequest, DescribeTopicPartitionsRequest,
    ElectLeadersRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest, IncrementalAlterConfigsRequest,
    InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListConfigResourcesRequest, ListGroupsRequest,
    ListOffsetsRequest, ListPartitionReassignmentsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, RequestHeader, SyncGroupRequest,
};
use kafka_protocol::protocol::{Decodable, Message};

/// A served API, a version of it, and a frame behind its size.
pub(super) fn message(bytes: &[u8]) {
    let Some((kind, rest)) = split(bytes) else { return };
    let Some((version, frame)) = split(rest) else { return };
    let (api, min, max) = SERVED[kind % SERVED.len()];
    match api {
        ApiKey::Produce => decode::<ProduceRequest>(api, min..=max, version, frame),
        ApiKey::Fetch => decode::<FetchRequest>(api, min..=max, version, frame),
        ApiKey::ListOffsets => decode::<ListOffsetsRequest>(api, min..=max, version, frame),
        ApiKey::Metadata => decode::<MetadataRequest>(api, min..=max, version, frame),
        ApiKey::FindCoordinator => decode::<FindCoordinatorRequest>(api, min..=max, version, frame),
        ApiKey::ApiVersions => decode::<ApiVersionsRequest>(api, min..=max, version, frame),
        ApiKey::CreateTopics => decode::<CreateTopicsRequest>(api, min..=max, version, frame),
        ApiKey::DeleteTopics => decode::<DeleteTopicsRequest>(api, min..=max, version, frame),
        ApiKey::InitProducerId => decode::<InitProducerIdRequest>(api, min..=max, version, frame),
        ApiKey::OffsetForLeaderEpoch => decode::<OffsetForLeaderEpochRequest>(api, min..=max, version, frame),
        ApiKey::DescribeConfigs => decode::<DescribeConfigsRequest>(api, min..=max, version, frame),
        ApiKey::DescribeClientQuotas => decode::<DescribeClientQuotasRequest>(api, min..=max, version, frame),
        ApiKey::AlterClientQuotas => decode::<AlterClientQuotasRequest>(api, min..=max, version, frame),
        ApiKey::DescribeCluster => decode::<DescribeClusterRequest>(api, min..=max, version, frame),
        ApiKey::JoinGroup => decode::<JoinGroupRequest>(api, min..=max, version, frame),
        ApiKey::SyncGroup => decode::<SyncGroupRequest>(api, min..=max, version, frame),
        ApiKey::Heartbeat => decode::<HeartbeatRequest>(api, min..=max, version, frame),
        ApiKey::LeaveGroup => decode::<LeaveGroupRequest>(api, min..=max, version, frame),
        ApiKey::OffsetCommit => decode::<OffsetCommitRequest>(api, min..=max, version, frame),
        ApiKey::OffsetFetch => decode::<OffsetFetchRequest>(api, min..=max, version, frame),
        ApiKey::OffsetDelete => decode::<OffsetDeleteRequest>(api, min..=max, version, frame),
        ApiKey::DescribeGroups => decode::<DescribeGroupsRequest>(api, min..=max, version, frame),
        ApiKey::ListGroups => decode::<ListGroupsRequest>(api, min..=max, version, frame),
        ApiKey::DeleteGroups => decode::<DeleteGroupsRequest>(api, min..=max, version, frame),
        ApiKey::DeleteRecords => decode::<DeleteRecordsRequest>(api, min..=max, version, frame),
        ApiKey::AlterConfigs => decode::<AlterConfigsRequest>(api, min..=max, version, frame),
        ApiKey::DescribeLogDirs => decode::<DescribeLogDirsRequest>(api, min..=max, version, frame),
        ApiKey::CreatePartitions => decode::<CreatePartitionsRequest>(api, min..=max, version, frame),
        ApiKey::ElectLeaders => decode::<ElectLeadersRequest>(api, min..=max, version, frame),
        ApiKey::IncrementalAlterConfigs => decode::<IncrementalAlterConfigsRequest>(api, min..=max, version, frame),
        ApiKey::AlterPartitionReassignments => {
            decode::<AlterPartitionReassignmentsRequest>(api, min..=max, version, frame)
        }
        ApiKey::ListPartitionReassignments => {
            decode::<ListPartitionReassignmentsRequest>(api, min..=max, version, frame)
        }
        ApiKey::DescribeQuorum => decode::<DescribeQuorumRequest>(api, min..=max, version, frame),
        ApiKey::DescribeProducers => decode::<DescribeProducersRequest>(api, min..=max, version, frame),
        ApiKey::ListConfigResources => decode::<ListConfigResourcesRequest>(api, min..=max, version, frame),
        ApiKey::DescribeTopicPartitions => decode::<DescribeTopicPartitionsRequest>(api, min..=max, version, frame),
        other => panic!("{other:?} is served and not fuzzed"),
    }
}

fn decode<T: Decodable + Message>(api: ApiKey, served: std::ops::RangeInclusive<i16>, version: usize, frame: &[u8]) {
    // Produce is advertised from 0 and read from 3.
    let min = *served.start().max(&T::VERSIONS.min);
    let version = min + (version % (served.end() - min + 1) as usize) as i16;
    let mut body = Bytes::copy_from_slice(frame);
    let is_header = RequestHeader::decode(&mut body, api.request_header_version(version)).is_ok();
    if is_header && shape::check(api, version, &body).is_ok() {
        let _ = T::decode(&mut body, version);
    }
}
