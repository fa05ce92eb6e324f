//! ListOffsets and OffsetForLeaderEpoch: times, places, epochs.

use crate::door::{Client, Door, NOW, built, changed, frame, name};
use bytes::Bytes;
use inrush::record::{Codec, Offset};
use kafka_protocol::messages as kp;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use std::time::{Duration, Instant};

fn request(topic: &str, timestamps: &[i64]) -> kp::ListOffsetsRequest {
    let partitions = timestamps.iter().map(|timestamp| ListOffsetsPartition::default().with_timestamp(*timestamp));
    let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(partitions.collect());
    kp::ListOffsetsRequest::default().with_topics(vec![topic])
}

fn list(client: &mut Client, version: i16, timestamp: i64) -> ListOffsetsPartitionResponse {
    let answer: kp::ListOffsetsResponse = client.call(ApiKey::ListOffsets, version, &request("t", &[timestamp]));
    answer.topics[0].partitions[0].clone()
}

fn place(client: &mut Client, version: i16, timestamp: i64) -> (i16, i64, i64) {
    let found = list(client, version, timestamp);
    (found.error_code, found.offset, found.timestamp)
}

/// Where the base timestamp stands in a batch's header; the greatest one follows.
const AT_TIMESTAMPS: usize = 27;

/// Ten records, a millisecond apart, the first `after_ms` after [`NOW`].
fn ten(after_ms: i64) -> Bytes {
    let batch = built(Codec::Lz4, 10, 100, None);
    let times = [batch.header().base_timestamp + after_ms, batch.header().max_timestamp + after_ms];
    changed(&batch, AT_TIMESTAMPS, times.map(i64::to_be_bytes).as_flattened())
}

/// Three batches of ten records, a millisecond apart, each batch beginning at [`NOW`].
fn filled() -> Door {
    let door = Door::open();
    door.topic("t", &[("segment.bytes", "16384")]);
    for _ in 0..3 {
        door.client().produce("t", ten(0));
    }
    door
}

#[test]
fn behaviour_01_a_time_gives_the_first_record_that_is_not_older() {
    let door = filled();
    let mut client = door.client();
    assert_eq!(place(&mut client, 7, NOW + 4), (0, 4, NOW + 4));
    assert_eq!(place(&mut client, 7, 0), (0, 0, NOW));
    assert_eq!(place(&mut client, 7, NOW + 10), (0, -1, -1), "later than all: none, not the end");
    assert_eq!(place(&mut client, 1, NOW + 10), (0, -1, -1));
    // Later ones in a batch of their own, and behind them older ones, which nobody is to find first.
    client.produce("t", ten(100));
    client.produce("t", ten(-1_000));
    let expected = [(NOW - 999, 0, NOW), (NOW + 10, 30, NOW + 100), (NOW + 104, 34, NOW + 104), (NOW + 110, -1, -1)];
    for (asked, offset, timestamp) in expected {
        assert_eq!(place(&mut client, 7, asked), (0, offset, timestamp), "{} ms", asked - NOW);
    }
    // From what a start reads.
    drop(client);
    let door = door.restart();
    for (asked, offset, timestamp) in expected {
        assert_eq!(place(&mut door.client(), 7, asked), (0, offset, timestamp), "{} ms", asked - NOW);
    }
}

#[test]
fn behaviour_02_version_0_has_other_semantics_and_is_neither_listed_nor_answered() {
    let door = filled();
    let listed: kp::ApiVersionsResponse =
        door.client().call(ApiKey::ApiVersions, 0, &kp::ApiVersionsRequest::default());
    let own = listed.api_keys.iter().find(|api| api.api_key == ApiKey::ListOffsets as i16).unwrap();
    assert_eq!((own.min_version, own.max_version), (1, 10));
    let mut bytes = frame(ApiKey::ListOffsets, 1, 1, &request("t", &[-1]));
    bytes[6..8].copy_from_slice(&0i16.to_be_bytes());
    let mut client = door.client();
    client.raw(&bytes);
    assert!(client.is_closed());
}

#[test]
fn behaviour_03_the_specials_stand_for_places_in_the_versions_that_know_them() {
    let door = filled();
    let mut client = door.client();
    assert_eq!(place(&mut client, 1, -1), (0, 30, -1));
    assert_eq!(place(&mut client, 1, -2), (0, 0, -1));
    // The first record that has the greatest timestamp, inside a compressed batch (KAFKA-16342).
    assert_eq!(place(&mut client, 7, -3), (0, 9, NOW + 9));
    assert_eq!(place(&mut client, 8, -4), (0, 0, -1));
    assert_eq!(place(&mut client, 9, -5), (0, -1, -1));
    for (version, timestamp) in [(6, -3), (7, -4), (8, -5), (10, -6), (10, -7)] {
        assert_eq!(place(&mut client, version, timestamp), (35, -1, -1), "{timestamp} in version {version}");
    }
}

#[test]
fn behaviour_04_committed_readers_see_the_same_without_transactions() {
    let door = filled();
    for (timestamp, offset) in [(-1, 30), (-2, 0), (-3, 9), (NOW + 4, 4), (NOW + 10, -1)] {
        let mut request = request("t", &[timestamp]);
        request.isolation_level = 1;
        let answer: kp::ListOffsetsResponse = door.client().call(ApiKey::ListOffsets, 7, &request);
        assert_eq!(answer.topics[0].partitions[0].offset, offset, "{timestamp}");
    }
}

#[test]
fn behaviour_05_a_time_never_gives_an_offset_below_the_start() {
    let door = filled();
    door.wait(door.partition("t").delete_below(Offset(15))).unwrap();
    let mut client = door.client();
    assert_eq!(place(&mut client, 7, NOW + 2), (0, 15, NOW + 5));
    assert_eq!(place(&mut client, 7, 0), (0, 15, NOW + 5));
    assert_eq!(place(&mut client, 7, -2), (0, 15, -1));
}

#[test]
fn behaviour_05_a_time_never_gives_an_offset_that_retention_took() {
    let door = Door::open();
    let config = [("segment.bytes", "16384"), ("retention.ms", "1000"), ("inrush.compress.uncompressed", "none")];
    door.topic("t", &config);
    let mut client = door.client();
    // About sixty records a segment.
    for n in 0..60 {
        client.produce("t", built(Codec::None, 10, 100, None).bytes().clone());
        if n == 40 {
            door.clock.advance(10_000);
        }
    }
    let until = Instant::now() + Duration::from_secs(60);
    let mut start = 0;
    while start < 300 {
        // Retention looks every five seconds.
        std::thread::park_timeout(Duration::from_millis(50));
        start = place(&mut client, 7, -2).1;
        let found = place(&mut client, 7, 0);
        assert!(found.1 >= start && found.2 == NOW + found.1 % 10, "from {start}: {found:?}");
        assert!(Instant::now() < until, "retention took nothing above {start}");
    }
    assert!(start <= 410, "what is young stays: {start}");
}

#[test]
fn behaviour_06_the_epoch_is_that_of_the_records_batch() {
    let door = filled();
    let first = door.partition("t").leader_epoch();
    let mut door = door.restart();
    let mut later = Vec::new();
    for after_ms in [100, 200] {
        later.push(door.partition("t").leader_epoch());
        door.client().produce("t", ten(after_ms));
        door = door.kill();
    }
    let current = door.partition("t").leader_epoch();
    assert!(first < later[0] && later[0] < later[1] && later[1] < current);
    let mut client = door.client();
    let mut epoch = |timestamp| list(&mut client, 7, timestamp).leader_epoch;
    assert_eq!((epoch(NOW + 4), epoch(-2)), (first, first));
    assert_eq!((epoch(NOW + 10), epoch(NOW + 205), epoch(-3)), (later[0], later[1], later[1]));
    assert_eq!(epoch(-1), current);
    assert_eq!(epoch(NOW + 999), -1, "nothing found");
    let empty = Door::open();
    empty.topic("t", &[]);
    // A real broker gives the epoch of the record that would come.
    assert_eq!(list(&mut empty.client(), 7, -2).leader_epoch, empty.partition("t").leader_epoch());
}

#[test]
fn behaviour_08_epochs_grow_over_restarts_and_tell_where_each_ended() {
    let mut door = filled();
    let mut ends = vec![(door.partition("t").leader_epoch(), 30)];
    for n in 1..4 {
        door = if n == 2 { door.kill() } else { door.restart() };
        let epoch = door.partition("t").leader_epoch();
        assert!(epoch > ends[n - 1].0, "the epoch went back");
        door.client().produce("t", ten(0));
        ends.push((epoch, 30 + n as i64 * 10));
    }
    let current = door.partition("t").leader_epoch();
    let topic = kp::metadata_request::MetadataRequestTopic::default().with_name(Some(name("t")));
    let told: kp::MetadataResponse =
        door.client().call(ApiKey::Metadata, 9, &kp::MetadataRequest::default().with_topics(Some(vec![topic])));
    assert!(
        told.topics[0].partitions.iter().all(|one| one.leader_epoch == current),
        "librdkafka passes an older one over"
    );
    let ask = |epoch: i32, own: i32| {
        let partition = OffsetForLeaderPartition::default().with_leader_epoch(epoch).with_current_leader_epoch(own);
        let topic = OffsetForLeaderTopic::default().with_topic(name("t")).with_partitions(vec![partition]);
        let request = kp::OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let answer: kp::OffsetForLeaderEpochResponse = door.client().call(ApiKey::OffsetForLeaderEpoch, 4, &request);
        let found = &answer.topics[0].partitions[0];
        (found.error_code, found.leader_epoch, found.end_offset)
    };
    for (epoch, end) in ends {
        assert_eq!(ask(epoch, -1), (0, epoch, end));
    }
    assert_eq!(ask(current + 1, -1), (0, -1, -1), "nobody knows the future");
    assert_eq!(ask(-1, -1), (0, -1, -1));
    assert_eq!((ask(0, current - 1).0, ask(0, current + 1).0), (74, 75));
}

#[test]
fn a_partition_that_is_asked_twice_is_refused_once() {
    let door = filled();
    let answer: kp::ListOffsetsResponse = door.client().call(ApiKey::ListOffsets, 7, &request("t", &[NOW, NOW, -1]));
    let codes: Vec<i16> = answer.topics[0].partitions.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, [42]);
}

#[test]
fn what_does_not_exist_is_told_so() {
    let door = filled();
    let answer: kp::ListOffsetsResponse = door.client().call(ApiKey::ListOffsets, 7, &request("none", &[-1]));
    let found = &answer.topics[0].partitions[0];
    assert_eq!((found.error_code, found.offset, found.timestamp, found.leader_epoch), (3, -1, -1, -1));
}
