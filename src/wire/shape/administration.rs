//! The shapes of requests that administer topics and the node.

use super::{Field, I8, I32, I64, Kind, NUMBERS, field, since};
use kafka_protocol::messages::ApiKey;

// In the order of Kafka's message descriptions, as in the parent.
const DELETE_RECORDS: &[Field] = &[
    field(
        "topics",
        Kind::Items(&[
            field("topic", Kind::Text),
            field("partitions", Kind::Items(&[field("partition", I32), field("offset", I64)])),
        ]),
    ),
    field("timeout", I32),
];

const ALTER_CONFIGS: &[Field] = &[
    field(
        "resources",
        Kind::Items(&[
            field("resource type", I8),
            field("resource name", Kind::Text),
            field("configs", Kind::Items(&[field("config name", Kind::Text), field("config value", Kind::Text)])),
        ]),
    ),
    field("validate only", I8),
];

const INCREMENTAL_ALTER_CONFIGS: &[Field] = &[
    field(
        "resources",
        Kind::Items(&[
            field("resource type", I8),
            field("resource name", Kind::Text),
            field(
                "configs",
                Kind::Items(&[
                    field("config name", Kind::Text),
                    field("operation", I8),
                    field("config value", Kind::Text),
                ]),
            ),
        ]),
    ),
    field("validate only", I8),
];

const DESCRIBE_LOG_DIRS: &[Field] =
    &[field("topics", Kind::Items(&[field("topic", Kind::Text), field("partitions", NUMBERS)]))];

const CREATE_PARTITIONS: &[Field] = &[
    field(
        "topics",
        Kind::Items(&[
            field("topic", Kind::Text),
            field("partition count", I32),
            field("assignments", Kind::Items(&[field("brokers", NUMBERS)])),
        ]),
    ),
    field("timeout", I32),
    field("validate only", I8),
];

const ELECT_LEADERS: &[Field] = &[
    since("election type", I8, 1),
    field("topics", Kind::Items(&[field("topic", Kind::Text), field("partitions", NUMBERS)])),
    field("timeout", I32),
];

const ALTER_PARTITION_REASSIGNMENTS: &[Field] = &[
    field("timeout", I32),
    since("allow replication factor change", I8, 1),
    field(
        "topics",
        Kind::Items(&[
            field("topic", Kind::Text),
            field("partitions", Kind::Items(&[field("partition", I32), field("replicas", NUMBERS)])),
        ]),
    ),
];

const LIST_PARTITION_REASSIGNMENTS: &[Field] =
    &[field("timeout", I32), field("topics", Kind::Items(&[field("topic", Kind::Text), field("partitions", NUMBERS)]))];

const DESCRIBE_QUORUM: &[Field] = &[field(
    "topics",
    Kind::Items(&[field("topic", Kind::Text), field("partitions", Kind::Items(&[field("partition", I32)]))]),
)];

const DESCRIBE_PRODUCERS: &[Field] =
    &[field("topics", Kind::Items(&[field("topic", Kind::Text), field("partitions", NUMBERS)]))];

const LIST_CONFIG_RESOURCES: &[Field] = &[since("resource types", Kind::Plain(&I8), 1)];

const DESCRIBE_TOPIC_PARTITIONS: &[Field] = &[
    field("topics", Kind::Items(&[field("topic", Kind::Text)])),
    field("partition limit", I32),
    field("cursor", Kind::Maybe(&[field("topic", Kind::Text), field("partition", I32)])),
];

/// Shape and first flexible version; version 0 of what came after KIP-482 is flexible.
pub(super) fn shape(api: ApiKey) -> Option<(&'static [Field], i16)> {
    Some(match api {
        ApiKey::DeleteRecords => (DELETE_RECORDS, 2),
        ApiKey::AlterConfigs => (ALTER_CONFIGS, 2),
        ApiKey::IncrementalAlterConfigs => (INCREMENTAL_ALTER_CONFIGS, 1),
        ApiKey::DescribeLogDirs => (DESCRIBE_LOG_DIRS, 2),
        ApiKey::CreatePartitions => (CREATE_PARTITIONS, 2),
        ApiKey::ElectLeaders => (ELECT_LEADERS, 2),
        ApiKey::AlterPartitionReassignments => (ALTER_PARTITION_REASSIGNMENTS, 0),
        ApiKey::ListPartitionReassignments => (LIST_PARTITION_REASSIGNMENTS, 0),
        ApiKey::DescribeQuorum => (DESCRIBE_QUORUM, 0),
        ApiKey::DescribeProducers => (DESCRIBE_PRODUCERS, 0),
        ApiKey::ListConfigResources => (LIST_CONFIG_RESOURCES, 0),
        ApiKey::DescribeTopicPartitions => (DESCRIBE_TOPIC_PARTITIONS, 0),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::super::tests::{bytes, takes_exactly};
    use bytes::Bytes;
    use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
    use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
    use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
    use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
    use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
    use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
    use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
    use kafka_protocol::messages::*;
    use kafka_protocol::messages::{
        describe_producers_request as producers, describe_topic_partitions_request as pages,
        incremental_alter_configs_request as incremental,
    };
    use kafka_protocol::protocol::{Decodable, StrBytes};
    use proptest::prelude::*;

    const ALL: &[(ApiKey, i16, i16)] = &[
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
        (ApiKey::ListConfigResources, 0, 1),
        (ApiKey::DescribeTopicPartitions, 0, 0),
    ];

    fn name() -> TopicName {
        TopicName(StrBytes::from_static_str("clicks"))
    }

    /// One full request of each API in `version`, two of each item.
    fn request(api: ApiKey, version: i16) -> Vec<u8> {
        let text = StrBytes::from_static_str;
        let numbers = || vec![1, 2];
        match api {
            ApiKey::DeleteRecords => {
                let partition = DeleteRecordsPartition::default().with_offset(-1);
                let topic = DeleteRecordsTopic::default().with_name(name()).with_partitions(vec![partition; 2]);
                bytes(&DeleteRecordsRequest::default().with_topics(vec![topic; 2]), version)
            }
            ApiKey::AlterConfigs => {
                let config = AlterableConfig::default().with_name(text("a")).with_value(Some(text("b")));
                let resource =
                    AlterConfigsResource::default().with_resource_name(text("clicks")).with_configs(vec![config; 2]);
                bytes(&AlterConfigsRequest::default().with_resources(vec![resource; 2]), version)
            }
            ApiKey::IncrementalAlterConfigs => {
                let config = incremental::AlterableConfig::default().with_name(text("a")).with_value(None);
                let resource = incremental::AlterConfigsResource::default()
                    .with_resource_name(text("clicks"))
                    .with_configs(vec![config; 2]);
                bytes(&IncrementalAlterConfigsRequest::default().with_resources(vec![resource; 2]), version)
            }
            ApiKey::DescribeLogDirs => {
                let topic = DescribableLogDirTopic::default().with_topic(name()).with_partitions(numbers());
                bytes(&DescribeLogDirsRequest::default().with_topics(Some(vec![topic; 2])), version)
            }
            ApiKey::CreatePartitions => {
                let assignment = CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1)]);
                let topic =
                    CreatePartitionsTopic::default().with_name(name()).with_assignments(Some(vec![assignment; 2]));
                bytes(&CreatePartitionsRequest::default().with_topics(vec![topic; 2]), version)
            }
            ApiKey::ElectLeaders => {
                let topic = TopicPartitions::default().with_topic(name()).with_partitions(numbers());
                bytes(&ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic; 2])), version)
            }
            ApiKey::AlterPartitionReassignments => {
                let partition = ReassignablePartition::default().with_replicas(Some(vec![BrokerId(1); 2]));
                let topic = ReassignableTopic::default().with_name(name()).with_partitions(vec![partition; 2]);
                bytes(&AlterPartitionReassignmentsRequest::default().with_topics(vec![topic; 2]), version)
            }
            ApiKey::ListPartitionReassignments => {
                let topic =
                    ListPartitionReassignmentsTopics::default().with_name(name()).with_partition_indexes(numbers());
                bytes(&ListPartitionReassignmentsRequest::default().with_topics(Some(vec![topic; 2])), version)
            }
            ApiKey::DescribeQuorum => {
                let partitions = vec![PartitionData::default(); 2];
                let topic = TopicData::default().with_topic_name(name()).with_partitions(partitions);
                bytes(&DescribeQuorumRequest::default().with_topics(vec![topic; 2]), version)
            }
            ApiKey::DescribeProducers => {
                let topic = producers::TopicRequest::default().with_name(name()).with_partition_indexes(numbers());
                bytes(&DescribeProducersRequest::default().with_topics(vec![topic; 2]), version)
            }
            ApiKey::ListConfigResources => {
                let kinds = if version >= 1 { vec![2, 4] } else { Vec::new() };
                bytes(&ListConfigResourcesRequest::default().with_resource_types(kinds), version)
            }
            ApiKey::DescribeTopicPartitions => {
                let topic = pages::TopicRequest::default().with_name(name());
                let cursor = pages::Cursor::default().with_topic_name(name()).with_partition_index(3);
                let request = DescribeTopicPartitionsRequest::default().with_topics(vec![topic; 2]);
                bytes(&request.with_cursor(Some(cursor)), version)
            }
            other => panic!("{other:?} has no sample"),
        }
    }

    #[test]
    fn shapes_take_exactly_the_bytes_of_every_request_in_every_version() {
        for (api, min, max) in ALL {
            for version in *min..=*max {
                takes_exactly(*api, version, &request(*api, version));
            }
        }
        let first_page = bytes(&DescribeTopicPartitionsRequest::default().with_cursor(None), 0);
        takes_exactly(ApiKey::DescribeTopicPartitions, 0, &first_page);
        takes_exactly(ApiKey::ElectLeaders, 0, &bytes(&ElectLeadersRequest::default().with_topic_partitions(None), 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// What passes may be decoded: neither panics, whatever the bytes are.
        #[test]
        fn changed_requests_neither_panic_nor_reserve_what_they_claim(
            which in 0..ALL.len(), version in 0i16..4, at: prop::sample::Index, with in prop::collection::vec(any::<u8>(), 1..6)
        ) {
            let (api, min, max) = ALL[which];
            let version = min + version % (max - min + 1);
            let mut body = request(api, version);
            let at = at.index(body.len());
            for (place, byte) in body[at..].iter_mut().zip(&with) {
                *place = *byte;
            }
            if check(api, version, &body).is_ok() {
                let mut body = Bytes::from(body);
                match api {
                    ApiKey::DeleteRecords => drop(DeleteRecordsRequest::decode(&mut body, version)),
                    ApiKey::AlterConfigs => drop(AlterConfigsRequest::decode(&mut body, version)),
                    ApiKey::DescribeLogDirs => drop(DescribeLogDirsRequest::decode(&mut body, version)),
                    ApiKey::CreatePartitions => drop(CreatePartitionsRequest::decode(&mut body, version)),
                    ApiKey::ElectLeaders => drop(ElectLeadersRequest::decode(&mut body, version)),
                    ApiKey::IncrementalAlterConfigs => drop(IncrementalAlterConfigsRequest::decode(&mut body, version)),
                    ApiKey::AlterPartitionReassignments => drop(AlterPartitionReassignmentsRequest::decode(&mut body, version)),
                    ApiKey::ListPartitionReassignments => drop(ListPartitionReassignmentsRequest::decode(&mut body, version)),
                    ApiKey::DescribeQuorum => drop(DescribeQuorumRequest::decode(&mut body, version)),
                    ApiKey::DescribeProducers => drop(DescribeProducersRequest::decode(&mut body, version)),
                    ApiKey::ListConfigResources => drop(ListConfigResourcesRequest::decode(&mut body, version)),
                    ApiKey::DescribeTopicPartitions => drop(DescribeTopicPartitionsRequest::decode(&mut body, version)),
                    other => panic!("{other:?} is not decoded"),
                }
            }
        }
    }
}
