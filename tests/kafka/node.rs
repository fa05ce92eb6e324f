//! What one node answers of a cluster: DescribeLogDirs, reassignments, elections, DescribeQuorum, DescribeProducers.

use crate::door::{Client, Door, NOW, built, name, text};
use inrush::record::{Codec, Producer};
use kafka_protocol::messages as kp;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::{describe_quorum_request, list_partition_reassignments_request};

fn log_dir(
    client: &mut Client,
    asked: Option<&[(&str, &[i32])]>,
) -> kp::describe_log_dirs_response::DescribeLogDirsResult {
    let topic = |(topic, partitions): &(&str, &[i32])| {
        DescribableLogDirTopic::default().with_topic(name(topic)).with_partitions(partitions.to_vec())
    };
    let topics = asked.map(|asked| asked.iter().map(topic).collect());
    let request = kp::DescribeLogDirsRequest::default().with_topics(topics);
    let mut answer: kp::DescribeLogDirsResponse = client.call(ApiKey::DescribeLogDirs, 4, &request);
    assert_eq!((answer.error_code, answer.results.len()), (0, 1));
    answer.results.remove(0)
}

/// (topic, partition, size) of each partition of a log dir.
fn sizes(dir: &kp::describe_log_dirs_response::DescribeLogDirsResult) -> Vec<(String, i32, i64)> {
    let of_topic = |topic: &kp::describe_log_dirs_response::DescribeLogDirsTopic| {
        let name = topic.name.to_string();
        let sizes: Vec<_> =
            topic.partitions.iter().map(|one| (name.clone(), one.partition_index, one.partition_size)).collect();
        assert!(topic.partitions.iter().all(|one| one.offset_lag == 0 && !one.is_future_key));
        sizes
    };
    dir.topics.iter().flat_map(of_topic).collect()
}

#[test]
fn the_data_folder_is_the_one_log_dir_with_the_bytes_of_each_partition() {
    let door = Door::open();
    door.topic("t", &[]);
    door.topic("u", &[]);
    let mut client = door.client();
    let batch = built(Codec::Lz4, 10, 50, None);
    client.produce("t", batch.bytes().clone());
    client.produce("t", batch.bytes().clone());
    let dir = log_dir(&mut client, None);
    assert_eq!((dir.error_code, dir.log_dir.as_str()), (0, "/data"));
    let size = batch.size() as i64 * 2;
    let told = |told: &[(&str, i32, i64)]| -> Vec<(String, i32, i64)> {
        told.iter().map(|(topic, index, size)| (topic.to_string(), *index, *size)).collect()
    };
    assert_eq!(sizes(&dir), told(&[("t", 0, size), ("t", 1, 0), ("u", 0, 0), ("u", 1, 0)]));
    assert!(0 < dir.usable_bytes && dir.usable_bytes < dir.total_bytes, "{dir:?}");
    // What is not there is left out, what is named twice is told once.
    let some = log_dir(&mut client, Some(&[("u", &[1, 9, 1]), ("none", &[0]), ("t", &[0]), ("t", &[0])]));
    assert_eq!(sizes(&some), told(&[("t", 0, size), ("u", 1, 0)]));
    assert!(log_dir(&mut client, Some(&[])).topics.is_empty());
}

#[test]
fn partitions_are_reassigned_to_where_they_are_and_nowhere_else() {
    let door = Door::open();
    door.topic("t", &[]);
    let cases: [(&str, i32, Option<&[i32]>, i16); 10] = [
        ("t", 0, Some(&[1]), 0),
        ("t", 1, Some(&[2]), 39),
        ("t", 0, Some(&[1, 2]), 39),
        ("t", 0, Some(&[1, 1]), 39),
        ("t", 0, Some(&[]), 39),
        ("t", 0, Some(&[-1]), 39),
        ("t", 0, None, 85),
        ("t", 9, Some(&[1]), 3),
        ("t", -1, None, 3),
        ("none", 0, Some(&[1]), 3),
    ];
    let topic = |(topic, index, replicas, _): &(&str, i32, Option<&[i32]>, i16)| {
        let replicas = replicas.map(|ids| ids.iter().map(|id| kp::BrokerId(*id)).collect());
        let partition = ReassignablePartition::default().with_partition_index(*index).with_replicas(replicas);
        ReassignableTopic::default().with_name(name(topic)).with_partitions(vec![partition])
    };
    let request = kp::AlterPartitionReassignmentsRequest::default().with_topics(cases.iter().map(topic).collect());
    let mut client = door.client();
    let answer: kp::AlterPartitionReassignmentsResponse = client.call(ApiKey::AlterPartitionReassignments, 1, &request);
    assert_eq!((answer.error_code, answer.responses.len()), (0, cases.len()));
    for (told, (topic, index, replicas, code)) in answer.responses.iter().zip(cases) {
        let partition = &told.partitions[0];
        assert_eq!((told.name.as_str(), partition.partition_index), (topic, index));
        assert_eq!(partition.error_code, code, "{topic} {index} {replicas:?}");
        assert_eq!(partition.error_message.is_some(), code != 0);
    }
    let named = list_partition_reassignments_request::ListPartitionReassignmentsTopics::default()
        .with_name(name("t"))
        .with_partition_indexes(vec![0, 9]);
    for topics in [None, Some(vec![named])] {
        let request = kp::ListPartitionReassignmentsRequest::default().with_topics(topics);
        let answer: kp::ListPartitionReassignmentsResponse =
            client.call(ApiKey::ListPartitionReassignments, 0, &request);
        assert_eq!((answer.error_code, answer.error_message, answer.topics.len()), (0, None, 0));
    }
}

/// A topic, and the code of each of its partitions.
type Elected = (String, Vec<(i32, i16)>);

fn elect(client: &mut Client, version: i16, kind: i8, asked: Option<&[(&str, &[i32])]>) -> (i16, Vec<Elected>) {
    let topic = |(topic, partitions): &(&str, &[i32])| {
        TopicPartitions::default().with_topic(name(topic)).with_partitions(partitions.to_vec())
    };
    let topics = asked.map(|asked| asked.iter().map(topic).collect());
    let request = kp::ElectLeadersRequest::default().with_election_type(kind).with_topic_partitions(topics);
    let answer: kp::ElectLeadersResponse = client.call(ApiKey::ElectLeaders, version, &request);
    let topics = answer.replica_election_results.into_iter().map(|topic| {
        let results = topic.partition_result.iter().map(|one| (one.partition_id, one.error_code));
        (topic.topic.to_string(), results.collect())
    });
    (answer.error_code, topics.collect())
}

#[test]
fn no_election_is_needed_where_one_node_leads_everything() {
    let door = Door::open();
    door.topic("t", &[]);
    door.topic("u", &[]);
    let mut client = door.client();
    let asked: Option<&[(&str, &[i32])]> = Some(&[("t", &[0, 9, 1]), ("none", &[0])]);
    let told = vec![("t".to_owned(), vec![(0, 84), (9, 3), (1, 84)]), ("none".to_owned(), vec![(0, 3)])];
    for (version, kind) in [(0, 0), (1, 0), (2, 0), (2, 1)] {
        assert_eq!(elect(&mut client, version, kind, asked), (0, told.clone()));
    }
    // Of all partitions a real broker tells those alone whose leader changed, below each topic.
    let none = vec![("t".to_owned(), vec![]), ("u".to_owned(), vec![])];
    assert_eq!(elect(&mut client, 2, 0, None), (0, none));
    let unknown: Option<&[(&str, &[i32])]> = Some(&[("t", &[0])]);
    assert_eq!(elect(&mut client, 2, 7, unknown), (42, vec![("t".to_owned(), vec![(0, 42)])]));
    assert_eq!(elect(&mut client, 1, -1, None), (42, vec![]));
}

fn quorum(client: &mut Client, version: i16, asked: &[(&str, &[i32])]) -> kp::DescribeQuorumResponse {
    let topic = |(topic, partitions): &(&str, &[i32])| {
        let partitions = partitions
            .iter()
            .map(|index| describe_quorum_request::PartitionData::default().with_partition_index(*index));
        describe_quorum_request::TopicData::default().with_topic_name(name(topic)).with_partitions(partitions.collect())
    };
    let request = kp::DescribeQuorumRequest::default().with_topics(asked.iter().map(topic).collect());
    client.call(ApiKey::DescribeQuorum, version, &request)
}

#[test]
fn the_quorum_is_one_voter_that_leads_and_has_everything() {
    let door = Door::open();
    let mut client = door.client();
    let metadata: &[(&str, &[i32])] = &[("__cluster_metadata", &[0])];
    let end = |client: &mut Client| {
        let answer = quorum(client, 2, metadata);
        let partition = &answer.topics[0].partitions[0];
        let voter = &partition.current_voters[0];
        assert_eq!((answer.error_code, partition.error_code, partition.leader_id.0), (0, 0, 1));
        assert_eq!((partition.current_voters.len(), partition.observers.len(), voter.replica_id.0), (1, 0, 1));
        assert_eq!((voter.log_end_offset, voter.last_caught_up_timestamp), (partition.high_watermark, NOW));
        let listener = &answer.nodes[0].listeners[0];
        assert_eq!((answer.nodes[0].node_id.0, listener.port), (1, door.address.port()));
        (partition.leader_epoch, partition.high_watermark)
    };
    let before = end(&mut client);
    door.topic("t", &[]);
    let after = end(&mut client);
    assert!(after.1 > before.1, "a topic is a record of the metadata");
    let old = quorum(&mut client, 0, metadata);
    assert_eq!((old.topics[0].partitions[0].high_watermark, old.nodes.len()), (after.1, 0));
    for other in [&[("t", &[0][..])][..], &[("__cluster_metadata", &[0, 1])], &[("__cluster_metadata", &[1])]] {
        let answer = quorum(&mut client, 2, other);
        let codes: Vec<i16> = answer.topics[0].partitions.iter().map(|one| one.error_code).collect();
        assert_eq!((answer.error_code, codes), (0, vec![3; other[0].1.len()]));
    }
    let door = door.restart();
    let again = quorum(&mut door.client(), 2, metadata);
    assert_eq!(again.topics[0].partitions[0].leader_epoch, before.0 + 1);
}

#[test]
fn producers_are_told_with_epoch_last_sequence_and_time_also_after_a_kill() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    let producer = |id, epoch, base_sequence| Some(Producer { id, epoch, base_sequence });
    for (count, producer) in [(5, producer(9, 0, 0)), (3, producer(9, 0, 5)), (1, producer(4, 2, 0)), (2, None)] {
        assert_eq!(client.produce("t", built(Codec::Lz4, count, 0, producer).bytes().clone()).error_code, 0);
    }
    let ask = |client: &mut Client| {
        let topic = |topic: &str, partitions: &[i32]| {
            TopicRequest::default().with_name(name(topic)).with_partition_indexes(partitions.to_vec())
        };
        let topics = vec![topic("t", &[0, 1, 0, 9]), topic("none", &[0]), topic("a/b", &[0])];
        let request = kp::DescribeProducersRequest::default().with_topics(topics);
        let answer: kp::DescribeProducersResponse = client.call(ApiKey::DescribeProducers, 0, &request);
        let told = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let told: Vec<_> = told.map(|one| (one.partition_index, one.error_code)).collect();
        assert_eq!(told, [(0, 0), (1, 0), (9, 3), (0, 3), (0, 17)], "a partition that is named twice is told once");
        assert!(answer.topics[0].partitions[1].active_producers.is_empty());
        let known = answer.topics[0].partitions[0].active_producers.iter();
        assert!(known.clone().all(|one| one.coordinator_epoch == -1 && one.current_txn_start_offset == -1));
        let known = known.map(|one| (one.producer_id.0, one.producer_epoch, one.last_sequence, one.last_timestamp));
        known.collect::<Vec<_>>()
    };
    let known = [(4, 2, 0, NOW), (9, 0, 7, NOW)];
    assert_eq!(ask(&mut client), known);
    let door = door.kill();
    assert_eq!(ask(&mut door.client()), known);
}

#[test]
fn an_answer_does_not_repeat_a_long_name_for_each_partition() {
    let door = Door::open();
    let mut client = door.client();
    let (long, indexes) = (text(&"x".repeat(200_000)), (0..1_000).collect::<Vec<i32>>());
    let long = kp::TopicName(long);
    let elected = TopicPartitions::default().with_topic(long.clone()).with_partitions(indexes.clone());
    let elected = kp::ElectLeadersRequest::default().with_topic_partitions(Some(vec![elected]));
    let moved = indexes.iter().map(|index| ReassignablePartition::default().with_partition_index(*index));
    let moved = ReassignableTopic::default().with_name(long.clone()).with_partitions(moved.collect());
    let moved = kp::AlterPartitionReassignmentsRequest::default().with_topics(vec![moved]);
    let asked = TopicRequest::default().with_name(long.clone()).with_partition_indexes(indexes.clone());
    let asked = kp::DescribeProducersRequest::default().with_topics(vec![asked]);
    let voters =
        indexes.iter().map(|index| describe_quorum_request::PartitionData::default().with_partition_index(*index));
    let voters = describe_quorum_request::TopicData::default().with_topic_name(long).with_partitions(voters.collect());
    let voters = kp::DescribeQuorumRequest::default().with_topics(vec![voters]);
    client.send(ApiKey::ElectLeaders, 2, &elected);
    client.send(ApiKey::AlterPartitionReassignments, 1, &moved);
    client.send(ApiKey::DescribeProducers, 0, &asked);
    client.send(ApiKey::DescribeQuorum, 2, &voters);
    for _ in 0..4 {
        let answer = client.read_frame().unwrap();
        assert!((200_000..400_000).contains(&answer.len()), "{} bytes", answer.len());
    }
}
