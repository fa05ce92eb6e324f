//! CreatePartitions and DescribeTopicPartitions.

use crate::door::{Client, Door, batch, name};
use inrush::record::Codec;
use kafka_protocol::messages as kp;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use uuid::Uuid;

fn grown(topic: &str, count: i32) -> CreatePartitionsTopic {
    CreatePartitionsTopic::default().with_name(name(topic)).with_count(count).with_assignments(None)
}

fn assigned(topic: &str, count: i32, assignments: &[&[i32]]) -> CreatePartitionsTopic {
    let one = |brokers: &&[i32]| {
        let brokers = brokers.iter().map(|id| kp::BrokerId(*id)).collect();
        CreatePartitionsAssignment::default().with_broker_ids(brokers)
    };
    grown(topic, count).with_assignments(Some(assignments.iter().map(one).collect()))
}

/// (topic, code) in the order of the answer; each refusal has its reason.
fn create(client: &mut Client, topics: Vec<CreatePartitionsTopic>, only_check: bool) -> Vec<(String, i16)> {
    let request = kp::CreatePartitionsRequest::default().with_topics(topics).with_validate_only(only_check);
    let answer: kp::CreatePartitionsResponse = client.call(ApiKey::CreatePartitions, 3, &request);
    for one in &answer.results {
        assert_eq!(one.error_message.is_some(), one.error_code != 0, "{one:?}");
    }
    answer.results.into_iter().map(|one| (one.name.to_string(), one.error_code)).collect()
}

fn count(door: &Door, topic: &str) -> i32 {
    door.store.topic(topic).unwrap().partition_count()
}

fn codes(told: &[(&str, i16)]) -> Vec<(String, i16)> {
    told.iter().map(|(topic, code)| (topic.to_string(), *code)).collect()
}

#[test]
fn behaviour_30_topics_grow_and_each_is_echoed() {
    let door = Door::open();
    door.topic("a", &[]);
    door.topic("b", &[]);
    let mut client = door.client();
    let asked = vec![grown("b", 5), assigned("a", 4, &[&[1], &[1]])];
    assert_eq!(create(&mut client, asked, false), codes(&[("b", 0), ("a", 0)]));
    assert_eq!((count(&door, "a"), count(&door, "b")), (4, 5));
    let mut request = crate::door::produce_request("b", -1, batch(Codec::Lz4, 1).bytes().clone());
    request.topic_data[0].partition_data[0].index = 4;
    let answer: kp::ProduceResponse = client.call(ApiKey::Produce, 12, &request);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "a new partition takes records at once");
    let door = door.kill();
    assert_eq!((count(&door, "a"), count(&door, "b")), (4, 5));
}

#[test]
fn the_dead_letter_topic_grows_first() {
    let door = Door::open();
    door.topic("a", &[]);
    door.topic("a-dlt", &[]);
    assert_eq!(create(&mut door.client(), vec![grown("a", 6)], false), codes(&[("a", 0)]));
    assert_eq!((count(&door, "a"), count(&door, "a-dlt")), (6, 6));
}

#[test]
fn behaviour_30_what_cannot_grow_is_refused_by_kafkas_codes_and_nothing_changes() {
    let door = Door::open();
    door.topic("a", &[]);
    let mut client = door.client();
    let cases = [
        (grown("none", 5), 3),
        (grown("a/b", 5), 3),
        (grown("a", 2), 37),
        (grown("a", 1), 37),
        (grown("a", -1), 37),
        (grown("a", 10_001), 37),
        (assigned("a", 4, &[&[1]]), 39),
        (assigned("a", 3, &[&[1], &[1]]), 39),
        (assigned("a", 3, &[]), 39),
        (assigned("a", 3, &[&[]]), 39),
        (assigned("a", 3, &[&[2]]), 39),
        (assigned("a", 3, &[&[1, 2]]), 39),
        (assigned("a", 3, &[&[1, 1]]), 39),
    ];
    for only_check in [true, false] {
        for (topic, code) in &cases {
            let told = create(&mut client, vec![topic.clone()], only_check);
            assert_eq!(told, codes(&[(topic.name.as_str(), *code)]), "{topic:?}");
        }
    }
    door.topic("b", &[]);
    let twice = create(&mut client, vec![grown("a", 3), grown("b", 3), grown("a", 4)], false);
    assert_eq!(twice, codes(&[("a", 42), ("b", 0)]));
    assert_eq!((count(&door, "a"), count(&door, "b")), (2, 3));
}

#[test]
fn what_is_only_checked_does_not_grow() {
    let door = Door::open();
    door.topic("a", &[]);
    assert_eq!(create(&mut door.client(), vec![grown("a", 3)], true), codes(&[("a", 0)]));
    assert_eq!(count(&door, "a"), 2);
}

fn page(
    client: &mut Client,
    topics: &[&str],
    limit: i32,
    from: Option<(&str, i32)>,
) -> kp::DescribeTopicPartitionsResponse {
    let cursor = from.map(|(topic, index)| Cursor::default().with_topic_name(name(topic)).with_partition_index(index));
    let topics = topics.iter().map(|topic| TopicRequest::default().with_name(name(topic)));
    let request = kp::DescribeTopicPartitionsRequest::default()
        .with_topics(topics.collect())
        .with_response_partition_limit(limit)
        .with_cursor(cursor);
    client.call(ApiKey::DescribeTopicPartitions, 0, &request)
}

/// "topic code partitions" of each topic, and the cursor.
fn shown(answer: &kp::DescribeTopicPartitionsResponse) -> (Vec<String>, Option<(String, i32)>) {
    let topics = answer.topics.iter().map(|topic| {
        let indexes: Vec<i32> = topic.partitions.iter().map(|one| one.partition_index).collect();
        format!("{} {} {indexes:?}", topic.name.as_ref().unwrap().as_str(), topic.error_code)
    });
    let cursor = answer.next_cursor.as_ref();
    (topics.collect(), cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index)))
}

/// Topics a, b and c with two partitions each.
fn three() -> (Door, Vec<Uuid>) {
    let door = Door::open();
    let ids = ["c", "a", "b"].map(|topic| door.topic(topic, &[]));
    (door, vec![ids[1], ids[2], ids[0]])
}

#[test]
fn topics_are_described_by_name_each_once_with_leader_replicas_and_id() {
    let (door, ids) = three();
    let answer = page(&mut door.client(), &["b", "a", "none", "a/b", "a"], 2_000, None);
    assert_eq!(shown(&answer).0, ["a 0 [0, 1]", "a/b 17 []", "b 0 [0, 1]", "none 3 []"]);
    assert_eq!(answer.next_cursor, None);
    let (a, none) = (&answer.topics[0], &answer.topics[3]);
    assert_eq!((a.topic_id, a.is_internal, none.topic_id), (ids[0], false, Uuid::nil()));
    let partition = &a.partitions[1];
    let one = [kp::BrokerId(1)];
    assert_eq!((partition.error_code, partition.leader_id.0, partition.leader_epoch), (0, 1, 0));
    assert_eq!((partition.replica_nodes.as_slice(), partition.isr_nodes.as_slice()), (&one[..], &one[..]));
    assert!(partition.offline_replicas.is_empty());
    assert_eq!(shown(&page(&mut door.client(), &[], 2_000, None)).0, ["a 0 [0, 1]", "b 0 [0, 1]", "c 0 [0, 1]"]);
}

#[test]
fn pages_follow_each_other_by_their_cursor_and_hold_every_partition_once() {
    let (door, _) = three();
    let mut client = door.client();
    for limit in 1..8 {
        for topics in [&[][..], &["c", "b", "a"]] {
            let (mut seen, mut from) = (Vec::new(), None);
            loop {
                let from_text = from.as_ref().map(|(topic, index): &(String, i32)| (topic.as_str(), *index));
                let answer = page(&mut client, topics, limit, from_text);
                let count: usize = answer.topics.iter().map(|topic| topic.partitions.len()).sum();
                for topic in &answer.topics {
                    let name = topic.name.as_ref().unwrap();
                    seen.extend(topic.partitions.iter().map(|one| format!("{}{}", name.as_str(), one.partition_index)));
                }
                from = shown(&answer).1;
                assert!(count == limit as usize || from.is_none() && count <= limit as usize, "{limit}: {answer:?}");
                if from.is_none() {
                    break;
                }
            }
            assert_eq!(seen, ["a0", "a1", "b0", "b1", "c0", "c1"], "limit {limit}");
        }
    }
}

#[test]
fn cursors_and_limits_out_of_the_ordinary_are_answered_as_kafka_does() {
    let (door, _) = three();
    let mut client = door.client();
    let told = |told: &kp::DescribeTopicPartitionsResponse| shown(told);
    let next = |topic: &str, index| Some((topic.to_owned(), index));
    // A limit below one is one.
    for limit in [0, -1, i32::MIN] {
        assert_eq!(told(&page(&mut client, &[], limit, None)), (vec!["a 0 [0]".to_owned()], next("a", 1)));
    }
    // A full page whose topic is told to its end points to the next one, even if that does not exist.
    assert_eq!(told(&page(&mut client, &["a", "z"], 2, None)).1, next("z", 0));
    // Behind the last partition: the topic is told without any.
    let behind = page(&mut client, &["a", "b"], 9, Some(("a", 99)));
    assert_eq!(told(&behind).0, ["a 0 []", "b 0 [0, 1]"]);
    // Of a topic that was deleted between two pages.
    assert_eq!(told(&page(&mut client, &[], 9, Some(("aa", 1)))).0, ["b 0 [0, 1]", "c 0 [0, 1]"]);
    // That no answer can have given.
    assert_eq!(told(&page(&mut client, &["b", "a"], 9, Some(("aa", 1)))).0, ["b 42 []", "a 42 []"]);
    assert_eq!(told(&page(&mut client, &["b"], 9, Some(("b", -1)))).0, ["b 42 []"]);
    assert_eq!(told(&page(&mut client, &[], 9, Some(("b", -1)))), (vec![], None));
}
