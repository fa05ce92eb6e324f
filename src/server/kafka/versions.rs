//! ApiVersions: what is served, in the versions that a Kafka 4.1 broker serves.

use super::errors::Code;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

/// API and versions. Produce is advertised from 0 because old librdkafka asks for that before it compresses; 0 to 2 are refused
/// (KAFKA-18659). FindCoordinator 0 stands for lz4 there. The same minimum and maximum as a real broker's: kafka-python and librdkafka infer
/// what a broker can do from single versions.
pub(crate) const SERVED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 0, 13),
    (ApiKey::Fetch, 4, 17),
    (ApiKey::ListOffsets, 1, 10),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::OffsetCommit, 2, 9),
    (ApiKey::OffsetFetch, 1, 9),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::DescribeClientQuotas, 0, 1),
    (ApiKey::AlterClientQuotas, 0, 1),
    (ApiKey::DescribeCluster, 0, 2),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::AlterConfigs, 0, 2),
    (ApiKey::DescribeLogDirs, 1, 4),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::ElectLeaders, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::AlterPartitionReassignments, 0, 1),
    (ApiKey::ListPartitionReassignments, 0, 0),
    (ApiKey::DescribeQuorum, 0, 2),
    (ApiKey::DescribeProducers, 0, 0),
    (ApiKey::DescribeTopicPartitions, 0, 0),
    (ApiKey::ListConfigResources, 0, 1),
];
/// The lowest version of Produce that is answered.
const PRODUCE_MIN: i16 = 3;
/// Clients give their name from this version on.
const WITH_NAME: i16 = 3;

/// Which API a request's first bytes ask for, and whether its version is served.
pub(super) fn find(key: i16, version: i16) -> Option<(ApiKey, bool)> {
    let (api, min, max) = SERVED.iter().find(|(api, _, _)| *api as i16 == key)?;
    let min = if *api == ApiKey::Produce { PRODUCE_MIN } else { *min };
    Some((*api, (min..=*max).contains(&version)))
}

/// To a version that is not served: in version 0, with the versions of this API alone, so that the client can choose again (KIP-511).
pub(super) fn other_version() -> ApiVersionsResponse {
    let own = SERVED.iter().filter(|(api, _, _)| *api == ApiKey::ApiVersions);
    answer_with(Code::UnsupportedVersion, own)
}

pub(super) fn answer(request: &ApiVersionsRequest, version: i16) -> ApiVersionsResponse {
    let is_named = version < WITH_NAME
        || (is_software_name(&request.client_software_name) && is_software_name(&request.client_software_version));
    if is_named { answer_with(Code::None, SERVED.iter()) } else { answer_with(Code::InvalidRequest, [].iter()) }
}

fn answer_with<'a>(code: Code, served: impl Iterator<Item = &'a (ApiKey, i16, i16)>) -> ApiVersionsResponse {
    let version = |(api, min, max): &(ApiKey, i16, i16)| {
        ApiVersion::default().with_api_key(*api as i16).with_min_version(*min).with_max_version(*max)
    };
    ApiVersionsResponse::default().with_error_code(code.into()).with_api_keys(served.map(version).collect())
}

/// Kafka's rule: letters, digits, `-` and `.`, the first and the last a letter or digit.
fn is_software_name(name: &str) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

/// Whether clients of this name always carry a zstd decoder. Others get batches decompressed.
pub(super) fn reads_zstd(name: &str) -> bool {
    ["apache-kafka-java", "librdkafka", "confluent-", "kgo", "sarama"].iter().any(|known| name.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_by_kafkas_rule() {
        for good in ["librdkafka", "a", "1.2.3", "apache-kafka-java", "x-.y"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", ".", "a b", "ä", "a\n"] {
            assert!(!is_software_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn old_produce_is_listed_and_not_served() {
        assert_eq!(find(0, 2), Some((ApiKey::Produce, false)));
        assert_eq!(find(0, 3), Some((ApiKey::Produce, true)));
        assert_eq!(find(1, 3), Some((ApiKey::Fetch, false)));
        assert_eq!(find(68, 0), None);
    }
}
