//! Compacted topics over the wire: what is refused, and what a Fetch sends where records are gone; and the settings that producers meet.

use crate::door::{Client, Door, NOW, changed, name, produce_request, text};
use bytes::Bytes;
use inrush::record::{Batch, BatchBuilder, Codec, NewRecord, Offset, TopicName};
use kafka_protocol::messages as kp;
use kafka_protocol::messages::ApiKey;
use std::time::{Duration, Instant};

const AT_ATTRIBUTES: usize = 21;

/// Records of (key, value), the first at `NOW`, each a millisecond later.
fn keyed(codec: Codec, records: &[(Option<&str>, Option<&str>)]) -> Batch {
    at(codec, NOW, records)
}

fn at(codec: Codec, from: i64, records: &[(Option<&str>, Option<&str>)]) -> Batch {
    let mut builder = BatchBuilder::new();
    for (n, (key, value)) in records.iter().enumerate() {
        builder.push(NewRecord {
            timestamp: from + n as i64,
            key: key.map(str::as_bytes),
            value: value.map(str::as_bytes),
            headers: &[(b"number", Some(b"1"))],
        });
    }
    builder.build(Codec::None).unwrap().recoded(codec, 64 << 20).unwrap()
}

fn compacted(door: &Door) {
    let config = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "16384"),
        ("min.cleanable.dirty.ratio", "1.0"),
        ("delete.retention.ms", "60000"),
    ];
    door.topic("t", &config);
}

/// Fills a compacted topic and waits for its cleaner: what is there then, batch by batch.
fn cleaned(door: &Door, client: &mut Client) -> Vec<Batch> {
    compacted(door);
    let padding = "x".repeat(900);
    let first = [(Some("a"), Some("old")), (Some("b"), Some("kept")), (Some("c"), None), (Some("a"), Some("old"))];
    assert_eq!(client.produce("t", keyed(Codec::Lz4, &first).bytes().clone()).error_code, 0);
    for _ in 0..40 {
        let batch = keyed(Codec::None, &[(Some("a"), Some(&padding)), (Some("d"), Some(&padding))]);
        // Stored as it came: the others are to fill segments.
        let batch = batch.recoded(Codec::Snappy, 1 << 20).unwrap();
        let filler: String = (0..900).map(|_| noise()).collect();
        assert_eq!(client.produce("t", batch.bytes().clone()).error_code, 0);
        let batch = keyed(Codec::Gzip, &[(Some("e"), Some(&filler))]);
        assert_eq!(client.produce("t", batch.bytes().clone()).error_code, 0);
    }
    // Now, and all as one segment: then it is seen at once.
    let changes = [("min.cleanable.dirty.ratio", "0.01"), ("segment.bytes", "10000000")];
    let changes = changes.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).to_vec();
    door.wait(door.store.alter_topic(&TopicName::new("t").unwrap(), changes)).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while client.batches("t", 0)[0].header().count == 4 {
        assert!(Instant::now() < until, "nothing was cleaned");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    chain(door, client)
}

fn noise() -> char {
    // Noise that no codec shrinks; the seed does not matter.
    thread_local!(static STATE: std::cell::Cell<u64> = const { std::cell::Cell::new(88_172_645_463_325_252) });
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        char::from(b'!' + (x % 90) as u8)
    })
}

fn chain(door: &Door, client: &mut Client) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut next = 0;
    while Offset(next) < door.partition("t").tail() {
        batches.extend(client.batches("t", next));
        next = batches.last().unwrap().next_offset().0;
    }
    batches
}

#[test]
fn behaviour_35_a_fetch_in_a_hole_is_the_next_batch_byte_by_byte() {
    let door = Door::open();
    let mut client = door.known_client();
    let batches = cleaned(&door, &mut client);
    // The first batch: of four records two are left, the tombstone's time is its base timestamp.
    let first = &batches[0];
    let bytes = first.bytes();
    assert_eq!(bytes[..8], [0; 8]);
    assert_eq!(bytes[23..27], 3i32.to_be_bytes(), "the last offset delta stays");
    assert_eq!(i16::from_be_bytes([bytes[21], bytes[22]]), 0x43, "lz4, with a delete horizon");
    assert_eq!(bytes[27..35], (NOW + 60_000).to_be_bytes(), "when the tombstone may go");
    assert_eq!(bytes[35..43], (NOW + 2).to_be_bytes(), "the greatest timestamp of what is left");
    assert_eq!(bytes[57..61], 2i32.to_be_bytes());
    assert_eq!(bytes[17..21], crc32c::crc32c(&bytes[21..]).to_be_bytes());
    let records = first.records(1 << 20).unwrap();
    let left: Vec<_> = records.iter().map(|one| (one.offset.0, one.timestamp, one.key.clone().unwrap())).collect();
    assert_eq!(left, [(1, NOW + 1, Bytes::from("b")), (2, NOW + 2, Bytes::from("c"))]);
    assert!(records[1].value.is_none() && records[0].headers[0].1 == Some(Bytes::from("1")));
    let has_hole = batches.windows(2).any(|pair| pair[1].base_offset() > pair[0].next_offset());
    assert!(has_hole, "no batch is gone");
    // From each offset, stored or gone, comes the first batch that ends there or later.
    for offset in 0..door.partition("t").tail().0 {
        let data = client.fetch("t", offset);
        assert_eq!((data.error_code, data.log_start_offset), (0, 0));
        let expected = batches.iter().find(|batch| batch.last_offset().0 >= offset).unwrap();
        let records = data.records.unwrap();
        assert_eq!(records[..expected.size()], expected.bytes()[..], "from {offset}");
    }
    // And after a start, from the disk.
    drop(client);
    let door = door.restart();
    let mut client = door.known_client();
    let again: Vec<Bytes> = chain(&door, &mut client).iter().map(|batch| batch.bytes().clone()).collect();
    assert!(again.iter().eq(batches.iter().map(Batch::bytes)));
    let timestamp = kp::list_offsets_request::ListOffsetsPartition::default().with_timestamp(NOW);
    let timestamp = timestamp.with_current_leader_epoch(-1);
    let topic = kp::list_offsets_request::ListOffsetsTopic::default().with_name(name("t"));
    let request = kp::ListOffsetsRequest::default()
        .with_replica_id(kp::BrokerId(-1))
        .with_topics(vec![topic.with_partitions(vec![timestamp])]);
    let answer: kp::ListOffsetsResponse = client.call(ApiKey::ListOffsets, 5, &request);
    assert_eq!(answer.topics[0].partitions[0].offset, 1, "the record at that time is gone, the next is not");
}

#[test]
fn behaviour_16_a_compacted_topic_names_each_record_without_a_key() {
    let door = Door::open();
    compacted(&door);
    let mut client = door.client();
    for codec in Codec::ALL {
        let answer = client.produce(
            "t",
            keyed(codec, &[(Some("a"), Some("1")), (None, Some("2")), (Some("b"), None), (None, None)]).bytes().clone(),
        );
        assert_eq!((answer.error_code, answer.base_offset), (87, -1), "{codec}");
        let named: Vec<i32> = answer.record_errors.iter().map(|error| error.batch_index).collect();
        assert_eq!(named, [1, 3], "{codec}");
        assert!(answer.error_message.unwrap().contains("2 records"));
    }
    assert_eq!(client.fetch("t", 0).high_watermark, 0, "something was stored");
    assert_eq!(client.produce("t", keyed(Codec::Zstd, &[(Some("a"), None)]).bytes().clone()).error_code, 0);
    let horizon = changed(&keyed(Codec::None, &[(Some("a"), None)]), AT_ATTRIBUTES, &0x40i16.to_be_bytes());
    assert_eq!(client.produce("t", horizon).error_code, 87, "only the log sets a delete horizon");
}

#[test]
fn a_topic_that_asks_for_more_replicas_than_there_are_has_those_that_there_are() {
    // As Kafka since KIP-966.
    let door = Door::open();
    door.topic("t", &[("min.insync.replicas", "2")]);
    let mut client = door.client();
    let batch = keyed(Codec::Lz4, &[(None, Some("x"))]);
    for (acks, code) in [(-1, 0), (1, 0)] {
        let request = produce_request("t", acks, batch.bytes().clone());
        let answer: kp::ProduceResponse = client.call(ApiKey::Produce, 9, &request);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, code, "acks={acks}");
    }
    assert_eq!(client.fetch("t", 0).high_watermark, 2);
}

#[test]
fn behaviour_16_a_time_outside_of_the_topics_window_is_refused_and_its_records_named() {
    let door = Door::open();
    door.topic("t", &[("message.timestamp.before.max.ms", "5000")]);
    door.topic("appended", &[("message.timestamp.type", "LogAppendTime")]);
    let mut client = door.client();
    let hour = 3_600_000;
    for codec in [Codec::None, Codec::Zstd] {
        let mut send = |topic: &str, from: i64| {
            let batch = at(codec, from, &[(None, Some("one")), (None, Some("two"))]);
            let answer = client.produce(topic, batch.bytes().clone());
            let named: Vec<i32> = answer.record_errors.iter().map(|error| error.batch_index).collect();
            (answer.error_code, named)
        };
        assert_eq!(send("t", NOW + hour), (32, vec![1]), "{codec}");
        assert_eq!(send("t", NOW - 5_001), (32, vec![0]), "{codec}");
        assert_eq!(send("t", NOW + hour - 1), (0, vec![]));
        assert_eq!(send("t", NOW - 5_000), (0, vec![]));
        assert_eq!(send("appended", NOW + 2 * hour), (0, vec![]), "the log sets its own time");
    }
}

#[test]
fn a_topic_may_name_the_codec_of_all_its_batches() {
    let wanted = [
        ("gzip", Codec::Gzip),
        ("snappy", Codec::Snappy),
        ("lz4", Codec::Lz4),
        ("zstd", Codec::Zstd),
        ("uncompressed", Codec::None),
    ];
    for (setting, codec) in wanted {
        let door = Door::open();
        door.topic("t", &[("compression.type", setting)]);
        let mut client = door.known_client();
        for sent in Codec::ALL {
            let batch = keyed(sent, &[(None, Some("value")), (Some("k"), None)]);
            let answer = client.produce("t", batch.bytes().clone());
            assert_eq!(answer.error_code, 0, "{sent} to {setting}");
            let stored = client.batches("t", answer.base_offset).remove(0);
            assert_eq!(stored.header().codec, codec, "{sent} to {setting}");
            let values = |batch: &Batch| -> Vec<_> {
                batch.records(1 << 20).unwrap().into_iter().map(|one| (one.timestamp, one.key, one.value)).collect()
            };
            assert_eq!(values(&stored), values(&batch));
        }
    }
}

#[test]
fn behaviour_30_what_has_no_effect_is_listed_as_a_broker_without_it_lists_it() {
    let door = Door::open();
    door.topic("t", &[]);
    let resource = kp::describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configuration_keys(None);
    let request = kp::DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer: kp::DescribeConfigsResponse = door.client().call(ApiKey::DescribeConfigs, 4, &request);
    let of = |wanted: &str| {
        let found = answer.results[0].configs.iter().find(|config| config.name.as_str() == wanted);
        let found = found.unwrap_or_else(|| panic!("{wanted} is not listed"));
        (found.value.clone().unwrap().to_string(), found.config_source, found.config_type)
    };
    for (name, value, kind) in [
        ("local.retention.ms", "-2", 5),
        ("remote.storage.enable", "false", 1),
        ("leader.replication.throttled.replicas", "", 7),
        ("unclean.leader.election.enable", "false", 1),
        ("min.cleanable.dirty.ratio", "0.5", 6),
        ("delete.retention.ms", "86400000", 5),
        ("message.timestamp.after.max.ms", "3600000", 5),
        ("cleanup.policy", "delete", 7),
    ] {
        assert_eq!(of(name), (value.to_owned(), 5, kind), "{name}");
    }
}
