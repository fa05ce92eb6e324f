//! Requests that administer topics and the node, right in every version, for `versions`. What they do is told by `alterations`, `partitions`,
//! `records`, `node`.

use crate::door::{Client, name, text};
use kafka_protocol::messages as kp;
use kafka_protocol::messages::ApiKey;

/// The code of an answer to a request that is right in this version.
pub fn asked(client: &mut Client, api: ApiKey, version: i16) -> i16 {
    match api {
        ApiKey::DeleteRecords => {
            let partition = kp::delete_records_request::DeleteRecordsPartition::default().with_offset(1);
            let topic = kp::delete_records_request::DeleteRecordsTopic::default().with_name(name("t"));
            let request = kp::DeleteRecordsRequest::default().with_topics(vec![topic.with_partitions(vec![partition])]);
            let answer: kp::DeleteRecordsResponse = client.call(api, version, &request);
            assert_eq!(answer.topics[0].partitions[0].low_watermark, 1);
            answer.topics[0].partitions[0].error_code
        }
        ApiKey::AlterConfigs => {
            let config = kp::alter_configs_request::AlterableConfig::default().with_name(text("segment.ms"));
            let resource = kp::alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text("t"))
                .with_configs(vec![config.with_value(Some(text("5000")))]);
            let request = kp::AlterConfigsRequest::default().with_resources(vec![resource]);
            client.call::<kp::AlterConfigsResponse>(api, version, &request).responses[0].error_code
        }
        ApiKey::IncrementalAlterConfigs => {
            let config = kp::incremental_alter_configs_request::AlterableConfig::default()
                .with_name(text("segment.ms"))
                .with_value(Some(text("5000")));
            let resource = kp::incremental_alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text("t"))
                .with_configs(vec![config]);
            let request = kp::IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
            client.call::<kp::IncrementalAlterConfigsResponse>(api, version, &request).responses[0].error_code
        }
        ApiKey::DescribeLogDirs => {
            let request = kp::DescribeLogDirsRequest::default().with_topics(None);
            let answer: kp::DescribeLogDirsResponse = client.call(api, version, &request);
            let dir = &answer.results[0];
            assert_eq!((answer.results.len(), dir.total_bytes > 0), (1, version >= 4));
            assert!(dir.topics.iter().any(|topic| topic.name == name("t")));
            answer.error_code + dir.error_code
        }
        ApiKey::CreatePartitions => {
            // Of two at first: one more with each version.
            let topic = kp::create_partitions_request::CreatePartitionsTopic::default().with_name(name("t"));
            let topic = topic.with_count(i32::from(version) + 3).with_assignments(None);
            let request = kp::CreatePartitionsRequest::default().with_topics(vec![topic]);
            client.call::<kp::CreatePartitionsResponse>(api, version, &request).results[0].error_code
        }
        ApiKey::ElectLeaders => {
            let topic = kp::elect_leaders_request::TopicPartitions::default().with_topic(name("t"));
            let topics = vec![topic.with_partitions(vec![0])];
            let request = kp::ElectLeadersRequest::default().with_topic_partitions(Some(topics));
            let answer: kp::ElectLeadersResponse = client.call(api, version, &request);
            assert_eq!(answer.replica_election_results[0].partition_result[0].error_code, 84);
            answer.error_code
        }
        ApiKey::AlterPartitionReassignments => {
            let partition = kp::alter_partition_reassignments_request::ReassignablePartition::default()
                .with_replicas(Some(vec![kp::BrokerId(1)]));
            let topic = kp::alter_partition_reassignments_request::ReassignableTopic::default()
                .with_name(name("t"))
                .with_partitions(vec![partition]);
            let request = kp::AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
            let answer: kp::AlterPartitionReassignmentsResponse = client.call(api, version, &request);
            answer.error_code + answer.responses[0].partitions[0].error_code
        }
        ApiKey::ListPartitionReassignments => {
            let request = kp::ListPartitionReassignmentsRequest::default().with_topics(None);
            let answer: kp::ListPartitionReassignmentsResponse = client.call(api, version, &request);
            assert!(answer.topics.is_empty());
            answer.error_code
        }
        ApiKey::DescribeQuorum => {
            let partition = kp::describe_quorum_request::PartitionData::default();
            let topic = kp::describe_quorum_request::TopicData::default().with_topic_name(name("__cluster_metadata"));
            let request =
                kp::DescribeQuorumRequest::default().with_topics(vec![topic.with_partitions(vec![partition])]);
            let answer: kp::DescribeQuorumResponse = client.call(api, version, &request);
            answer.error_code + answer.topics[0].partitions[0].error_code
        }
        ApiKey::DescribeProducers => {
            let topic = kp::describe_producers_request::TopicRequest::default().with_name(name("t"));
            let request = kp::DescribeProducersRequest::default();
            let request = request.with_topics(vec![topic.with_partition_indexes(vec![0])]);
            client.call::<kp::DescribeProducersResponse>(api, version, &request).topics[0].partitions[0].error_code
        }
        ApiKey::DescribeTopicPartitions => {
            let request = kp::DescribeTopicPartitionsRequest::default().with_cursor(None);
            client.call::<kp::DescribeTopicPartitionsResponse>(api, version, &request).topics[0].error_code
        }
        ApiKey::ListConfigResources => {
            let request = kp::ListConfigResourcesRequest::default();
            client.call::<kp::ListConfigResourcesResponse>(api, version, &request).error_code
        }
        other => panic!("{other:?} is listed and not asked"),
    }
}
