//! Requests of the Kafka protocol, as the door decodes them: each served API in each served version.

use super::split;
use crate::server::kafka::versions::SERVED;
use crate::wire::shape;
use bytes::Bytes;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, ApiKey, ApiVersionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeClientQuotasRequest, DescribeClusterRequest, DescribeConfigsRequest, FetchRequest, FindCoordinatorRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest, ProduceRequest,
    RequestHeader,
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
