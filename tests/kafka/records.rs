//! DeleteRecords: where the log begins afterwards, also after a kill.

use crate::door::{Client, Door, NOW, batch, name};
use inrush::record::Codec;
use kafka_protocol::messages as kp;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};

/// A topic "t" with three batches of ten records in partition 0.
fn filled() -> Door {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    for _ in 0..3 {
        assert_eq!(client.produce("t", batch(Codec::Lz4, 10).bytes().clone()).error_code, 0);
    }
    door
}

/// (partition, low watermark, code) for each (partition, offset) of a topic.
fn delete(client: &mut Client, topic: &str, asked: &[(i32, i64)]) -> Vec<(i32, i64, i16)> {
    let partition = |(index, offset): &(i32, i64)| {
        DeleteRecordsPartition::default().with_partition_index(*index).with_offset(*offset)
    };
    let topic = DeleteRecordsTopic::default().with_name(name(topic));
    let topic = topic.with_partitions(asked.iter().map(partition).collect());
    let request = kp::DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let answer: kp::DeleteRecordsResponse = client.call(ApiKey::DeleteRecords, 2, &request);
    let partitions = &answer.topics[0].partitions;
    partitions.iter().map(|one| (one.partition_index, one.low_watermark, one.error_code)).collect()
}

fn list(client: &mut Client, timestamp: i64) -> i64 {
    let partition = kp::list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
    let topic = kp::list_offsets_request::ListOffsetsTopic::default().with_name(name("t"));
    let request = kp::ListOffsetsRequest::default().with_topics(vec![topic.with_partitions(vec![partition])]);
    client.call::<kp::ListOffsetsResponse>(ApiKey::ListOffsets, 7, &request).topics[0].partitions[0].offset
}

#[test]
fn records_below_an_offset_are_gone_and_the_answer_says_where_the_log_begins() {
    let door = filled();
    let mut client = door.client();
    assert_eq!(delete(&mut client, "t", &[(0, 13)]), [(0, 13, 0)]);
    assert_eq!(client.fetch("t", 12).error_code, 1);
    let rest = client.fetch("t", 13);
    assert_eq!((rest.error_code, rest.log_start_offset, rest.high_watermark), (0, 13, 30));
    assert_eq!(delete(&mut client, "t", &[(0, 5)]), [(0, 13, 0)], "what is gone stays gone");
    assert_eq!(delete(&mut client, "t", &[(0, 0)]), [(0, 13, 0)]);
}

#[test]
fn minus_one_means_all_records_up_to_the_high_watermark() {
    let door = filled();
    let mut client = door.client();
    assert_eq!(delete(&mut client, "t", &[(0, -1), (1, -1)]), [(0, 30, 0), (1, 0, 0)]);
    assert_eq!((list(&mut client, -2), list(&mut client, -1)), (30, 30));
    let appended = client.produce("t", batch(Codec::Lz4, 1).bytes().clone());
    assert_eq!((appended.base_offset, appended.log_start_offset), (30, 30));
}

#[test]
fn what_cannot_be_deleted_is_refused_by_kafkas_codes_and_the_rest_is_deleted() {
    let door = filled();
    let mut client = door.client();
    let refused = [(0, 31), (1, -2), (2, -1), (-1, 0)];
    assert_eq!(delete(&mut client, "t", &refused), [(-1, -1, 3), (0, -1, 1), (1, -1, 1), (2, -1, 3)]);
    assert_eq!(delete(&mut client, "none", &[(0, -1)]), [(0, -1, 3)]);
    assert_eq!(delete(&mut client, "a/b", &[(0, -1)]), [(0, -1, 3)]);
    assert_eq!(delete(&mut client, "t", &[(0, 7), (1, 9)]), [(0, 7, 0), (1, -1, 1)]);
    // As in Kafka, of a partition that is named twice the last counts.
    assert_eq!(delete(&mut client, "t", &[(0, 99), (0, 8)]), [(0, 8, 0)]);
}

#[test]
fn deleted_records_stay_deleted_after_a_kill() {
    let door = filled();
    assert_eq!(delete(&mut door.client(), "t", &[(0, 17)]), [(0, 17, 0)]);
    let door = door.kill();
    let mut client = door.client();
    assert_eq!((list(&mut client, -2), list(&mut client, -1)), (17, 30));
    assert_eq!(client.fetch("t", 16).error_code, 1);
}

#[test]
fn behaviour_05_a_time_never_gives_an_offset_below_the_start() {
    let door = filled();
    let mut client = door.client();
    delete(&mut client, "t", &[(0, 13)]);
    assert_eq!((list(&mut client, 0), list(&mut client, NOW + 1)), (13, 13));
    delete(&mut client, "t", &[(0, -1)]);
    assert_eq!((list(&mut client, 0), list(&mut client, -3)), (-1, -1));
}
