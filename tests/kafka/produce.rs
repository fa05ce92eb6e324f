//! Produce: what is refused and how, what is stored, and producers that send again.

use crate::door::{Door, NOW, batch, built, changed, produce_request, text};
use bytes::Bytes;
use inrush::record::{Batch, Codec, Offset, Producer, TimestampType, TopicName};
use inrush::store::Append;
use kafka_protocol::messages as kp;
use kafka_protocol::messages::ApiKey;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Places in a batch's header.
const AT_LENGTH: usize = 8;
const AT_MAGIC: usize = 16;
const AT_ATTRIBUTES: usize = 21;
const AT_MAX_TIMESTAMP: usize = 35;
const AT_EPOCH: usize = 51;

fn sent(id: i64, epoch: i16, base_sequence: i32, count: usize) -> Bytes {
    built(Codec::Lz4, count, 20, Some(Producer { id, epoch, base_sequence })).bytes().clone()
}

#[test]
fn behaviour_15_a_partition_takes_exactly_one_batch_of_version_2() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    let one = batch(Codec::Lz4, 2);
    let mut two = one.bytes().to_vec();
    two.extend_from_slice(one.bytes());
    assert_eq!(client.produce("t", two).error_code, 87);
    assert_eq!(client.produce("t", Bytes::new()).error_code, 87);
    for (magic, code) in [(0u8, 87), (1, 87), (3, 2), (0xff, 2)] {
        let mut old = one.bytes().to_vec();
        old[AT_MAGIC] = magic;
        let answer = client.produce("t", old);
        assert_eq!(answer.error_code, code, "magic {magic}");
        assert!(answer.error_message.unwrap().contains("magic"));
    }
    assert_eq!(client.fetch("t", 0).high_watermark, 0, "something was stored");
}

#[test]
fn behaviour_15_zstd_needs_version_7() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    let zstd = batch(Codec::Zstd, 2).bytes().clone();
    assert_eq!(client.produce_at(6, "t", zstd.clone()).error_code, 76);
    assert_eq!(client.produce_at(7, "t", zstd).error_code, 0);
    assert_eq!(client.produce_at(3, "t", batch(Codec::Gzip, 2).bytes().clone()).error_code, 0);
}

#[test]
fn behaviour_16_a_batch_that_is_not_right_is_refused_with_its_reason() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    let good = built(Codec::Lz4, 3, 0, Some(Producer { id: 5, epoch: 0, base_sequence: 0 }));
    let mut broken = good.bytes().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(client.produce("t", broken).error_code, 2, "a wrong checksum");
    // As in Kafka a batch whose end is missing is none, and a size that no batch has is damage.
    for size in [1, 40, 80, good.size() - 1] {
        assert_eq!(client.produce("t", good.bytes().slice(..size)).error_code, 87, "cut off after {size} bytes");
    }
    for (length, code) in [(5_000i32, 87), (20, 2), (0, 2), (-5, 2)] {
        let mut other = good.bytes().to_vec();
        other[AT_LENGTH..AT_LENGTH + 4].copy_from_slice(&length.to_be_bytes());
        assert_eq!(client.produce("t", other).error_code, code, "a length of {length}");
    }
    assert_eq!(client.produce("t", changed(&good, AT_EPOCH, &(-1i16).to_be_bytes())).error_code, 47, "no epoch");
    let transaction = changed(&good, AT_ATTRIBUTES, &0x13i16.to_be_bytes());
    assert_eq!(client.produce("t", transaction).error_code, 53, "a transaction");
    let mut elsewhere = good.bytes().to_vec();
    elsewhere[..8].copy_from_slice(&500i64.to_be_bytes());
    assert_eq!(client.produce("t", elsewhere).error_code, 87, "a base offset that the client chose");
    let refused = [
        ("a count that is not last delta + 1", changed(&good, 57, &2i32.to_be_bytes())),
        ("no record", changed(&good, 57, &0i32.to_be_bytes())),
        ("a negative count", changed(&good, 57, &(-1i32).to_be_bytes())),
        ("a control batch", changed(&good, AT_ATTRIBUTES, &0x23i16.to_be_bytes())),
        ("a producer without a sequence", changed(&good, 53, &(-1i32).to_be_bytes())),
        ("a producer id of pipelines", changed(&good, 43, &(1i64 << 62).to_be_bytes())),
    ];
    for (what, bytes) in refused {
        assert_eq!(client.produce("t", bytes).error_code, 87, "{what}");
    }
    assert_eq!(client.produce("t", changed(&good, AT_ATTRIBUTES, &0x0bi16.to_be_bytes())).error_code, 32);
    assert_eq!(client.produce("t", changed(&good, AT_ATTRIBUTES, &0x07i16.to_be_bytes())).error_code, 76);
    assert_eq!(client.fetch("t", 0).high_watermark, 0, "something was stored");
}

#[test]
fn behaviour_16_records_of_an_uncompressed_batch_are_walked_and_the_bad_one_is_named() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    let good = batch(Codec::None, 3);
    // Its offset delta: behind length, attributes and timestamp delta of the second record.
    let first = good.bytes()[61] as usize / 2 + 1;
    let wrong = changed(&good, 61 + first + 3, &[0]);
    let answer = client.produce("t", wrong);
    assert_eq!(answer.error_code, 87);
    assert_eq!(answer.record_errors.len(), 1);
    assert_eq!(answer.record_errors[0].batch_index, 1);
    let cut = changed(&good, 57, &4i32.to_be_bytes());
    assert_eq!(
        client.produce("t", changed(&Batch::check(good.bytes().clone()).unwrap(), 23, &3i32.to_be_bytes())).error_code,
        87
    );
    assert_eq!(client.produce("t", cut).error_code, 87);
}

#[test]
fn behaviour_16_a_topic_may_have_every_record_checked() {
    let door = Door::open();
    door.topic("strict", &[("inrush.produce.check", "records")]);
    door.topic("header", &[]);
    // The header and its checksum are right, what is compressed in it is not.
    let mut bytes = batch(Codec::Zstd, 3).bytes().to_vec();
    bytes.truncate(70);
    bytes[8..12].copy_from_slice(&58i32.to_be_bytes());
    let lie = changed(&Batch::check(batch(Codec::Zstd, 3).bytes().clone()).unwrap(), 0, &[0; 8]);
    assert_eq!(door.client().produce("strict", lie).error_code, 0);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(door.client().produce("strict", bytes.clone()).error_code, 2);
    assert_eq!(door.client().produce("header", bytes).error_code, 0);
}

#[test]
fn behaviour_17_a_greatest_timestamp_that_the_client_left_out_is_set() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.known_client();
    for codec in Codec::ALL {
        let unset = changed(&built(codec, 3, 50, None), AT_MAX_TIMESTAMP, &(-1i64).to_be_bytes());
        let answer = client.produce("t", unset);
        assert_eq!(answer.error_code, 0, "{codec}");
        let stored = &client.batches("t", answer.base_offset)[0];
        assert_eq!(stored.header().max_timestamp, NOW + 2, "{codec}");
    }
    let found = door.wait(door.partition("t").offset_for_time(NOW + 2)).unwrap().unwrap();
    assert_eq!((found.offset, found.timestamp), (Offset(2), NOW + 2), "a batch without a time is never found by one");
    let lies = changed(&batch(Codec::None, 3), AT_MAX_TIMESTAMP, &(NOW + 9_000_000).to_be_bytes());
    let answer = client.produce("t", lies);
    assert_eq!(client.batches("t", answer.base_offset)[0].header().max_timestamp, NOW + 2);
}

#[test]
fn behaviour_18_log_append_time_is_written_in_and_found_by_time() {
    let door = Door::open();
    door.topic("t", &[("message.timestamp.type", "LogAppendTime")]);
    let mut client = door.known_client();
    door.clock.advance(5_000);
    let sent = built(Codec::Lz4, 3, 50, None);
    let answer = client.produce("t", sent.bytes().clone());
    assert_eq!((answer.error_code, answer.log_append_time_ms), (0, NOW + 5_000));
    // The checksum is right again, or this would not be a batch.
    let stored = &client.batches("t", 0)[0];
    assert_eq!(stored.header().timestamp_type, TimestampType::LogAppendTime);
    assert_eq!(stored.header().max_timestamp, NOW + 5_000);
    assert_eq!(stored.header().base_timestamp, sent.header().base_timestamp, "Kafka leaves it alone");
    let found = door.wait(door.partition("t").offset_for_time(NOW + 4_000)).unwrap().unwrap();
    assert_eq!((found.offset, found.timestamp), (Offset(0), NOW + 5_000));
    // Nor does it get lost where the door compresses, or decompresses for who may not read zstd.
    for codec in [Codec::None, Codec::Zstd] {
        let answer = client.produce("t", built(codec, 3, 500, None).bytes().clone());
        assert_eq!((answer.error_code, answer.log_append_time_ms), (0, NOW + 5_000), "{codec}");
        for mut client in [door.known_client(), door.client()] {
            let got = client.batches("t", answer.base_offset).remove(0);
            let times = (got.header().timestamp_type, got.header().max_timestamp);
            assert_eq!(times, (TimestampType::LogAppendTime, NOW + 5_000), "{codec}");
        }
    }
}

#[test]
fn behaviour_19_a_compressed_batch_is_stored_as_it_came() {
    let door = Door::open();
    door.topic("t", &[]);
    let door = door.restart();
    let epoch = door.partition("t").leader_epoch();
    assert!(epoch > 0);
    let mut client = door.known_client();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let sent = built(codec, 7, 30, Some(Producer { id: 9, epoch: 0, base_sequence: 0 }));
        let sent = changed(&sent, 43, &(codec as i64 + 100).to_be_bytes());
        let answer = client.produce("t", sent.clone());
        let stored = client.batches("t", answer.base_offset)[0].bytes().clone();
        assert_eq!(stored[..8], answer.base_offset.to_be_bytes());
        assert_eq!(stored[12..16], epoch.to_be_bytes(), "the leader's epoch, whatever the producer wrote there");
        assert_eq!(stored[16..], sent[16..], "{codec}");
    }
}

#[test]
fn an_uncompressed_batch_is_stored_as_zstd_unless_the_topic_says_no_or_it_does_not_shrink() {
    let door = Door::open();
    door.topic("t", &[]);
    door.topic("plain", &[("inrush.compress.uncompressed", "none")]);
    let mut client = door.known_client();
    // One that is packed on the socket task, one on the pool.
    for padding in [200, 20_000] {
        let sent = built(Codec::None, 10, padding, Some(Producer { id: 9, epoch: 3, base_sequence: 0 }));
        let sent = Batch::check(changed(&sent, 43, &(padding as i64).to_be_bytes())).unwrap();
        let answer = client.produce("t", sent.bytes().clone());
        assert_eq!(answer.error_code, 0);
        let stored = client.batches("t", answer.base_offset).remove(0);
        assert_eq!((stored.header().codec, stored.header().producer), (Codec::Zstd, sent.header().producer));
        let same = |batch: &Batch| -> Vec<_> {
            let records = batch.records(8 << 20).unwrap().into_iter();
            records.map(|record| (record.timestamp, record.key, record.value, record.headers)).collect()
        };
        assert_eq!(same(&stored), same(&sent));
    }
    client.produce("plain", built(Codec::None, 10, 200, None).bytes().clone());
    assert_eq!(client.batches("plain", 0)[0].header().codec, Codec::None);
    let answer = client.produce("t", batch(Codec::None, 1).bytes().clone());
    assert_eq!(client.batches("t", answer.base_offset)[0].header().codec, Codec::None);
}

#[test]
fn behaviour_20_the_limit_holds_for_the_batch_as_received() {
    let door = Door::open();
    door.topic("t", &[("max.message.bytes", "2000")]);
    let mut client = door.client();
    let small = built(Codec::Lz4, 50, 1_000, None);
    assert!(small.size() < 2_000, "{} bytes", small.size());
    assert_eq!(client.produce("t", small.bytes().clone()).error_code, 0, "50 KB that came in less than 2,000 bytes");
    assert_eq!(client.produce("t", built(Codec::None, 50, 1_000, None).bytes().clone()).error_code, 10);
    // To the byte.
    let (exact, less) = (small.size().to_string(), (small.size() - 1).to_string());
    door.topic("exact", &[("max.message.bytes", &exact)]);
    door.topic("less", &[("max.message.bytes", &less)]);
    assert_eq!(client.produce("exact", small.bytes().clone()).error_code, 0);
    assert_eq!(client.produce("less", small.bytes().clone()).error_code, 10);
}

#[test]
fn behaviour_21_a_batch_that_is_sent_again_is_stored_once() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    for n in 0..6 {
        let stored = client.produce("t", sent(7, 0, n * 2, 2));
        assert_eq!((stored.base_offset, stored.log_append_time_ms), (i64::from(n) * 2, -1));
    }
    for n in 1..6 {
        let again = client.produce("t", sent(7, 0, n * 2, 2));
        assert_eq!((again.error_code, again.base_offset), (0, i64::from(n) * 2), "the original's offset");
        assert_eq!(again.log_append_time_ms, NOW + 1, "its greatest timestamp, as a real broker tells it");
    }
    assert_eq!(client.produce("t", sent(7, 0, 0, 2)).error_code, 45, "six batches ago");
    assert_eq!(client.produce("t", sent(7, 0, 14, 2)).error_code, 45, "a gap");
    assert_eq!(client.produce("t", sent(7, 1, 5, 1)).error_code, 45, "a new epoch begins at 0");
    assert_eq!(client.produce("t", sent(7, 1, 0, 1)).base_offset, 12);
    assert_eq!(client.produce("t", sent(7, 0, 12, 1)).error_code, 47, "the old epoch is fenced");
    assert_eq!(client.produce("t", sent(8, 0, 77, 1)).base_offset, 13, "no state: any sequence");
    assert_eq!(client.produce("t", sent(9, 0, i32::MAX, 1)).base_offset, 14);
    assert_eq!(client.produce("t", sent(9, 0, 0, 1)).base_offset, 15, "sequences wrap to 0");
    assert_eq!(client.fetch("t", 0).high_watermark, 16);
}

#[test]
fn behaviour_21_who_was_silent_for_a_day_goes_on_or_begins_anywhere() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    for id in [7, 9] {
        assert_eq!(client.produce("t", sent(id, 0, 0, 2)).error_code, 0);
    }
    assert_eq!(client.produce("t", sent(9, 0, 500, 1)).error_code, 45);
    door.clock.advance(24 * 60 * 60 * 1_000);
    // Forgotten by the first checkpoint after somebody wrote.
    let until = Instant::now() + Duration::from_secs(60);
    while client.produce("t", sent(9, 0, 500, 1)).error_code == 45 {
        assert_eq!(client.produce("t", batch(Codec::Lz4, 1).bytes().clone()).error_code, 0);
        assert!(Instant::now() < until, "never forgotten");
    }
    assert_eq!(client.produce("t", sent(7, 0, 2, 1)).error_code, 0, "an idle producer's next sequence");
    assert_eq!(client.produce("t", sent(9, 0, 501, 1)).error_code, 0, "and it is known again");
    assert_eq!(client.produce("t", sent(9, 0, 600, 1)).error_code, 45);
}

#[test]
fn behaviour_21_two_of_a_batch_in_flight_are_one() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    let request = produce_request("t", -1, sent(7, 0, 0, 3));
    let correlations = [0; 4].map(|_| client.send(ApiKey::Produce, 9, &request));
    for correlation in correlations {
        let answer: kp::ProduceResponse = client.answer(ApiKey::Produce, 9, correlation);
        let answer = &answer.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    }
    assert_eq!(client.fetch("t", 0).high_watermark, 3);
}

#[test]
fn behaviour_21_producers_are_known_after_a_restart_and_after_kill_9() {
    let mut door = Door::open();
    door.topic("t", &[]);
    let id = {
        let request = kp::InitProducerIdRequest::default().with_transactional_id(None);
        let answer: kp::InitProducerIdResponse = door.client().call(ApiKey::InitProducerId, 4, &request);
        answer.producer_id.0
    };
    let mut next = 0;
    for round in 0..4 {
        let mut client = door.client();
        if next > 0 {
            let again = client.produce("t", sent(id, 0, next - 2, 2));
            assert_eq!((again.error_code, again.base_offset), (0, i64::from(next) - 2), "round {round}");
            assert_eq!(client.produce("t", sent(id, 0, next + 1, 2)).error_code, 45, "round {round}");
        }
        for _ in 0..3 {
            assert_eq!(client.produce("t", sent(id, 0, next, 2)).base_offset, i64::from(next));
            next += 2;
        }
        drop(client);
        door = if round % 2 == 0 { door.kill() } else { door.restart() };
    }
    let request = kp::InitProducerIdRequest::default().with_transactional_id(None);
    let answer: kp::InitProducerIdResponse = door.client().call(ApiKey::InitProducerId, 4, &request);
    assert!(answer.producer_id.0 > id, "an id was given out twice");
}

#[test]
fn behaviour_32_records_go_to_the_topic_of_an_id_and_to_none_that_has_its_name() {
    let door = Door::open();
    let old = door.topic("t", &[]);
    door.wait(door.store.delete_topic(&TopicName::new("t").unwrap())).unwrap();
    let new = door.topic("t", &[]);
    assert_ne!(old, new);
    let mut client = door.client();
    for (id, code) in [(old, 100), (Uuid::nil(), 100), (new, 0)] {
        let mut request = produce_request("", -1, batch(Codec::Lz4, 1).bytes().clone());
        request.topic_data[0].topic_id = id;
        let answer: kp::ProduceResponse = client.call(ApiKey::Produce, 13, &request);
        assert_eq!(answer.responses[0].topic_id, id);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, code, "{id}");
    }
    assert_eq!(client.fetch("t", 0).high_watermark, 1);
}

#[test]
fn acks_are_0_1_or_all() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    for (acks, code) in [(1, 0), (-1, 0), (2, 21), (-2, 21)] {
        let request = produce_request("t", acks, batch(Codec::Lz4, 1).bytes().clone());
        let answer: kp::ProduceResponse = client.call(ApiKey::Produce, 9, &request);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, code, "acks {acks}");
    }
}

#[test]
fn each_partition_of_a_request_is_judged_alone_and_in_order() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut request = produce_request("t", -1, batch(Codec::Lz4, 2).bytes().clone());
    let data = request.topic_data[0].partition_data[0].clone();
    let big = built(Codec::None, 10, 20_000, None);
    request.topic_data[0].partition_data = vec![
        data.clone().with_records(Some(big.bytes().clone())),
        data.clone().with_index(9),
        data.clone(),
        data.clone().with_index(1).with_records(Some(Bytes::from_static(b"rubbish"))),
        data,
    ];
    let answer: kp::ProduceResponse = door.client().call(ApiKey::Produce, 9, &request);
    let told: Vec<_> = answer.responses[0]
        .partition_responses
        .iter()
        .map(|one| (one.index, one.error_code, one.base_offset))
        .collect();
    assert_eq!(told, [(0, 0, 0), (9, 3, -1), (0, 0, 10), (1, 87, -1), (0, 0, 12)]);
}

#[test]
fn a_topic_without_partitions_is_not_answered() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    let mut request = produce_request("t", -1, batch(Codec::Lz4, 2).bytes().clone());
    let bare = request.topic_data[0].clone().with_partition_data(Vec::new());
    request.topic_data = vec![bare.clone(), request.topic_data[0].clone(), bare.clone()];
    let answer: kp::ProduceResponse = client.call(ApiKey::Produce, 9, &request);
    assert_eq!((answer.responses.len(), answer.responses[0].partition_responses[0].error_code), (1, 0));
    request.topic_data = vec![bare];
    let answer: kp::ProduceResponse = client.call(ApiKey::Produce, 9, &request);
    assert!(answer.responses.is_empty());
    // What wants no answer has not failed: the connection goes on.
    client.send(ApiKey::Produce, 9, &request.with_acks(0));
    assert_eq!(client.fetch("t", 0).high_watermark, 2);
}

#[test]
fn behaviour_36_lz4_in_linked_blocks_is_stored_in_blocks_that_every_client_reads() {
    let door = Door::open();
    door.topic("t", &[]);
    door.topic("zstd", &[("compression.type", "zstd")]);
    let mut client = door.known_client();
    // One that is written anew on the socket task, one on the pool.
    for count in [3, 10_000] {
        let plain = built(Codec::None, count, 50, None);
        let frame = lz4_flex::frame::FrameInfo::new().block_mode(lz4_flex::frame::BlockMode::Linked);
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
        std::io::Write::write_all(&mut encoder, &plain.bytes()[61..]).unwrap();
        let mut bytes = plain.bytes()[..61].to_vec();
        bytes.extend(encoder.finish().unwrap());
        let length = bytes.len() as i32 - 12;
        bytes[AT_LENGTH..AT_LENGTH + 4].copy_from_slice(&length.to_be_bytes());
        bytes[AT_ATTRIBUTES + 1] = 3;
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let linked = Batch::check(bytes.into()).unwrap();
        assert!(linked.has_linked_blocks() && (linked.size() > 64 << 10) == (count == 10_000));
        for (topic, codec) in [("t", Codec::Lz4), ("zstd", Codec::Zstd)] {
            let answer = client.produce(topic, linked.bytes().clone());
            assert_eq!(answer.error_code, 0);
            let stored = client.batches(topic, answer.base_offset).remove(0);
            assert_eq!((stored.header().codec, stored.has_linked_blocks()), (codec, false));
            let values = |batch: &Batch| -> Vec<_> {
                batch.records(64 << 20).unwrap().into_iter().map(|record| (record.timestamp, record.value)).collect()
            };
            assert_eq!(values(&stored), values(&plain));
        }
    }
}

#[test]
fn a_transactional_producer_is_refused_at_once() {
    let door = Door::open();
    let request = kp::InitProducerIdRequest::default().with_transactional_id(Some(text("tx").into()));
    let answer: kp::InitProducerIdResponse = door.client().call(ApiKey::InitProducerId, 4, &request);
    assert_eq!((answer.error_code, answer.producer_id.0), (53, -1));
}

#[test]
fn decompression_bombs_are_refused_within_their_limit() {
    let door = Door::open();
    door.topic("strict", &[("inrush.produce.check", "records"), ("max.message.bytes", "8388608")]);
    let zeros = vec![0u8; 65 << 20];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut builder = inrush::record::BatchBuilder::new();
        let record = inrush::record::NewRecord { timestamp: NOW, key: None, value: Some(&zeros), headers: &[] };
        builder.push(record);
        let bomb = builder.build(codec).unwrap();
        assert!(bomb.size() < 8 << 20, "{codec}: {} bytes", bomb.size());
        assert_eq!(door.client().produce("strict", bomb.bytes().clone()).error_code, 10, "{codec}");
    }
}

#[test]
fn a_full_queue_is_answered_in_time_and_the_batch_may_be_sent_again() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    let partition = door.partition("t");
    let filler = || Append { batch: batch(Codec::None, 1), lease: None, leader_epoch: -1 };
    let mut queued = 0;
    let answer = {
        let _hold = door.sim.hold();
        // The writer takes one round more before it hangs.
        let mut refusals = 0;
        while refusals < 3 {
            match partition.try_append(filler()) {
                Ok(_) => queued += 1,
                Err(_) => {
                    refusals += 1;
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
        let request = produce_request("t", -1, batch(Codec::None, 1).bytes().clone()).with_timeout_ms(200);
        let answer: kp::ProduceResponse = client.call(ApiKey::Produce, 12, &request);
        answer.responses[0].partition_responses[0].clone()
    };
    assert_eq!(answer.error_code, 7, "{answer:?}");
    // Sent again it is stored once, behind what waited.
    assert_eq!(client.produce("t", batch(Codec::None, 1).bytes().clone()).base_offset, queued);
}
