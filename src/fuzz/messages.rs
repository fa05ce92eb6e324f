//! Requests of the Kafka protocol, as the door decodes them: each served API in each version.

use super::split;
use bytes::Bytes;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, FetchRequest, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest,
    MetadataRequest, OffsetForLeaderEpochRequest, ProduceRequest, RequestHeader,
};
use kafka_protocol::protocol::{Decodable, Message};

/// A message kind, a version, and a frame behind its size.
pub(super) fn message(bytes: &[u8]) {
    let Some((kind, rest)) = split(bytes) else { return };
    let Some((version, frame)) = split(rest) else { return };
    match kind % 12 {
        0 => decode::<ProduceRequest>(ApiKey::Produce, version, frame),
        1 => decode::<FetchRequest>(ApiKey::Fetch, version, frame),
        2 => decode::<ListOffsetsRequest>(ApiKey::ListOffsets, version, frame),
        3 => decode::<MetadataRequest>(ApiKey::Metadata, version, frame),
        4 => decode::<FindCoordinatorRequest>(ApiKey::FindCoordinator, version, frame),
        5 => decode::<ApiVersionsRequest>(ApiKey::ApiVersions, version, frame),
        6 => decode::<CreateTopicsRequest>(ApiKey::CreateTopics, version, frame),
        7 => decode::<DeleteTopicsRequest>(ApiKey::DeleteTopics, version, frame),
        8 => decode::<InitProducerIdRequest>(ApiKey::InitProducerId, version, frame),
        9 => decode::<OffsetForLeaderEpochRequest>(ApiKey::OffsetForLeaderEpoch, version, frame),
        10 => decode::<DescribeConfigsRequest>(ApiKey::DescribeConfigs, version, frame),
        _ => decode::<DescribeClusterRequest>(ApiKey::DescribeCluster, version, frame),
    }
}

fn decode<T: Decodable + Message>(api: ApiKey, version: usize, frame: &[u8]) {
    let versions = T::VERSIONS.min..=T::VERSIONS.max;
    let version = T::VERSIONS.min + (version % versions.count()) as i16;
    let mut body = Bytes::copy_from_slice(frame);
    if RequestHeader::decode(&mut body, api.request_header_version(version)).is_ok() {
        let _ = T::decode(&mut body, version);
    }
}
