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
    use super::super::tests::{is_exact, text, topic};
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

    // Two of each item.

    #[test]
    fn shapes_of_configs_and_records_take_exactly_their_bytes() {
        is_exact(ApiKey::DeleteRecords, 0..=2, |_| {
            let partition = DeleteRecordsPartition::default().with_offset(-1);
            let topic = DeleteRecordsTopic::default().with_name(topic()).with_partitions(vec![partition; 2]);
            DeleteRecordsRequest::default().with_topics(vec![topic; 2])
        });
        is_exact(ApiKey::AlterConfigs, 0..=2, |_| {
            let config = AlterableConfig::default().with_name(text("a")).with_value(Some(text("b")));
            let resource = AlterConfigsResource::default().with_resource_name(text("clicks"));
            AlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config; 2]); 2])
        });
        is_exact(ApiKey::IncrementalAlterConfigs, 0..=1, |_| {
            let config = incremental::AlterableConfig::default().with_name(text("a")).with_value(None);
            let resource = incremental::AlterConfigsResource::default().with_resource_name(text("clicks"));
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config; 2]); 2])
        });
        is_exact(ApiKey::DescribeLogDirs, 1..=4, |_| {
            let topic = DescribableLogDirTopic::default().with_topic(topic()).with_partitions(vec![1, 2]);
            DescribeLogDirsRequest::default().with_topics(Some(vec![topic; 2]))
        });
        is_exact(ApiKey::DescribeProducers, 0..=0, |_| {
            let topic = producers::TopicRequest::default().with_name(topic()).with_partition_indexes(vec![1, 2]);
            DescribeProducersRequest::default().with_topics(vec![topic; 2])
        });
    }

    #[test]
    fn shapes_of_partitions_and_the_quorum_take_exactly_their_bytes() {
        is_exact(ApiKey::CreatePartitions, 0..=3, |_| {
            let assignment = CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1)]);
            let topic = CreatePartitionsTopic::default().with_name(topic());
            CreatePartitionsRequest::default().with_topics(vec![topic.with_assignments(Some(vec![assignment; 2])); 2])
        });
        is_exact(ApiKey::ElectLeaders, 0..=2, |_| {
            let topic = TopicPartitions::default().with_topic(topic()).with_partitions(vec![1, 2]);
            ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic; 2]))
        });
        is_exact(ApiKey::ElectLeaders, 0..=2, |_| ElectLeadersRequest::default().with_topic_partitions(None));
        is_exact(ApiKey::AlterPartitionReassignments, 0..=1, |_| {
            let partition = ReassignablePartition::default().with_replicas(Some(vec![BrokerId(1); 2]));
            let topic = ReassignableTopic::default().with_name(topic()).with_partitions(vec![partition; 2]);
            AlterPartitionReassignmentsRequest::default().with_topics(vec![topic; 2])
        });
        is_exact(ApiKey::ListPartitionReassignments, 0..=0, |_| {
            let topic = ListPartitionReassignmentsTopics::default().with_name(topic());
            let topic = topic.with_partition_indexes(vec![1, 2]);
            ListPartitionReassignmentsRequest::default().with_topics(Some(vec![topic; 2]))
        });
        is_exact(ApiKey::DescribeQuorum, 0..=2, |_| {
            let topic =
                TopicData::default().with_topic_name(topic()).with_partitions(vec![PartitionData::default(); 2]);
            DescribeQuorumRequest::default().with_topics(vec![topic; 2])
        });
        is_exact(ApiKey::ListConfigResources, 0..=1, |version| {
            let kinds = if version >= 1 { vec![2, 4] } else { Vec::new() };
            ListConfigResourcesRequest::default().with_resource_types(kinds)
        });
        for cursor in [None, Some(pages::Cursor::default().with_topic_name(topic()).with_partition_index(3))] {
            is_exact(ApiKey::DescribeTopicPartitions, 0..=0, |_| {
                let topic = pages::TopicRequest::default().with_name(topic());
                DescribeTopicPartitionsRequest::default().with_topics(vec![topic; 2]).with_cursor(cursor.clone())
            });
        }
    }
}
