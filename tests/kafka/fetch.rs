//! Fetch: whole batches, limits, long polls, sessions, ids and epochs, and batches decompressed for those who may not read zstd.

use crate::door::{Client, Door, NOW, batch, built, fetch_request, frame, produce_request};
use inrush::record::{Batch, Codec};
use kafka_protocol::messages as kp;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::fetch_response::PartitionData;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use uuid::Uuid;

fn filled(config: &[(&str, &str)], batches: usize) -> (Door, Client) {
    let door = Door::open();
    door.topic("t", config);
    let mut client = door.known_client();
    for _ in 0..batches {
        assert_eq!(client.produce("t", built(Codec::Lz4, 10, 200, None).bytes().clone()).error_code, 0);
    }
    (door, client)
}

fn data(answer: &kp::FetchResponse) -> Vec<&PartitionData> {
    answer.responses.iter().flat_map(|topic| &topic.partitions).collect()
}

fn size(data: &PartitionData) -> usize {
    data.records.as_ref().map_or(0, bytes::Bytes::len)
}

#[test]
fn behaviour_09_a_fetch_inside_a_batch_returns_the_whole_batch() {
    let (_door, mut client) = filled(&[], 3);
    for offset in [10, 11, 19] {
        let batches = client.batches("t", offset);
        assert_eq!((batches[0].base_offset().0, batches.len()), (10, 2), "from {offset}");
    }
}

#[test]
fn behaviour_09_it_does_so_from_the_disk_too() {
    let (door, client) = filled(&[("segment.bytes", "16384")], 30);
    drop(client);
    let door = door.restart();
    let batches = door.known_client().batches("t", 155);
    assert_eq!(batches[0].base_offset().0, 150);
    assert!(batches.iter().all(|batch| batch.header().codec == Codec::Lz4));
}

/// All bytes of partition 0 from `from` on, asked for in pieces of `size_max`.
fn all(client: &mut Client, topic: &str, from: i64, size_max: i32) -> Vec<u8> {
    let (mut bytes, mut next) = (Vec::new(), from);
    loop {
        let answer: kp::FetchResponse = client.call(ApiKey::Fetch, 12, &fetch_request(&[(topic, 0, next, size_max)]));
        let found = data(&answer)[0];
        assert_eq!(found.error_code, 0, "{topic} from {next}");
        let records = found.records.clone().unwrap_or_default();
        if records.is_empty() {
            assert_eq!((next, found.high_watermark), (found.high_watermark, found.last_stable_offset));
            return bytes;
        }
        bytes.extend_from_slice(&records);
        let batches = Batch::check_chain(records).expect("whole batches");
        assert!(batches[0].base_offset().0 <= next && batches[0].last_offset().0 >= next);
        next = batches[batches.len() - 1].next_offset().0;
    }
}

#[test]
fn what_goes_out_unchecked_is_what_goes_out_checked() {
    let door = Door::open();
    let config = [("segment.bytes", "300000"), ("inrush.compress.uncompressed", "none")];
    door.topic("checked", &config);
    door.topic("unchecked", &[config[0], config[1], ("inrush.fetch.check", "none")]);
    let mut client = door.known_client();
    for n in 0..200 {
        let codec = if n % 7 == 0 { Codec::Zstd } else { Codec::None };
        let batch = built(codec, 1 + n % 13, 700 * (n % 5), None);
        for topic in ["checked", "unchecked"] {
            assert_eq!(client.produce(topic, batch.bytes().clone()).error_code, 0);
        }
    }
    drop(client);
    // Nothing is in the tail cache then.
    let door = door.restart();
    let end = door.partition("checked").tail().0;
    for is_known in [true, false] {
        let mut client = if is_known { door.known_client() } else { door.client() };
        for (from, size_max) in [(0, 1 << 20), (0, 70_000), (0, 1), (17, 200_000), (end / 2, 1 << 20), (end, 100)] {
            let checked = all(&mut client, "checked", from, size_max);
            let unchecked = all(&mut client, "unchecked", from, size_max);
            assert!(checked == unchecked, "from {from} in pieces of {size_max}, reads zstd: {is_known}");
        }
    }
}

#[test]
fn damage_on_the_disk_is_told_or_left_to_the_consumer_as_the_topic_says() {
    for (check, code) in [("crc", 56), ("none", 0)] {
        let (door, client) = filled(&[("inrush.fetch.check", check), ("inrush.compress.uncompressed", "none")], 500);
        drop(client);
        let (folder, door) = (format!("/data/topics/t/{}/0", door.store.topic("t").unwrap().id), door.restart());
        let path = std::path::Path::new(&folder).join(format!("{:020}.log", 0));
        door.sim.flip(&path, 8 * 1_000);
        let found = door.known_client().fetch("t", 0);
        assert_eq!(found.error_code, code, "{check}");
        if code == 0 {
            let bytes = found.records.unwrap();
            assert!(bytes.len() > 64 << 10 && Batch::check_chain(bytes).is_err());
        }
    }
}

#[test]
fn behaviour_10_at_least_one_whole_batch_comes_and_the_rest_keeps_to_the_limits() {
    let (_door, mut client) = filled(&[], 5);
    for _ in 0..4 {
        let mut request = produce_request("t", -1, built(Codec::Lz4, 10, 200, None).bytes().clone());
        request.topic_data[0].partition_data[0].index = 1;
        let answer: kp::ProduceResponse = client.call(ApiKey::Produce, 9, &request);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
    let one = size(&client.fetch("t", 40));
    let mut call = |request: &kp::FetchRequest| -> Vec<usize> {
        let answer: kp::FetchResponse = client.call(ApiKey::Fetch, 12, request);
        data(&answer).into_iter().map(size).collect()
    };
    assert_eq!(call(&fetch_request(&[("t", 0, 0, 1)])), [one], "a partition's limit below one batch");
    assert_eq!(call(&fetch_request(&[("t", 0, 0, 2 * one as i32 + 1)])), [2 * one]);
    let both = [("t", 0, 0, 1 << 20), ("t", 1, 0, 1 << 20)];
    let mut request = fetch_request(&both);
    request.max_bytes = 1;
    assert_eq!(call(&request), [one, 0], "the first in the request's order gets its batch");
    request.max_bytes = 3 * one as i32;
    assert_eq!(call(&request), [3 * one, 0]);
    request.max_bytes = 50 << 20;
    assert_eq!(call(&request), [5 * one, 4 * one]);
}

#[test]
fn behaviour_10_the_batch_that_always_comes_is_of_the_first_partition_that_has_one() {
    let (_door, mut client) = filled(&[], 2);
    let one = size(&client.fetch("t", 10));
    let mut request = fetch_request(&[("t", 1, 0, 1 << 20), ("t", 0, 0, 1)]);
    request.max_bytes = 1;
    let answer: kp::FetchResponse = client.call(ApiKey::Fetch, 12, &request);
    assert_eq!(data(&answer).into_iter().map(size).collect::<Vec<_>>(), [0, one]);
}

#[test]
fn behaviour_10_an_answer_has_its_limit_whatever_is_asked_and_the_rest_follows() {
    let door = Door::with(|door| door.answers = inrush::budget::Budget::new(256 << 20));
    door.topic("t", &[]);
    let mut client = door.client();
    // Each is small as it is stored, and 800 KB for a client that does not say that it reads zstd.
    for _ in 0..25 {
        client.produce("t", built(Codec::Zstd, 10, 40_000, None).bytes().clone());
    }
    let mut request = fetch_request(&[("t", 1, 0, i32::MAX), ("t", 0, 0, i32::MAX)]);
    request.max_bytes = i32::MAX;
    let answer: kp::FetchResponse = client.call(ApiKey::Fetch, 12, &request);
    let sizes: Vec<usize> = data(&answer).into_iter().map(size).collect();
    let total: usize = sizes.iter().sum();
    assert!((15 << 20..=16 << 20).contains(&total), "{sizes:?}");
    let first = Batch::check_chain(data(&answer)[1].records.clone().unwrap()).unwrap();
    let rest = client.batches("t", first.last().unwrap().next_offset().0);
    assert_eq!(rest[0].base_offset(), first.last().unwrap().next_offset());
}

#[test]
fn behaviour_11_a_long_poll_ends_when_enough_has_come() {
    let (door, mut client) = filled(&[], 1);
    let one = size(&client.fetch("t", 0));
    let mut request = fetch_request(&[("t", 0, 0, 1 << 20)]);
    (request.max_wait_ms, request.min_bytes) = (60_000, 3 * one as i32);
    let correlation = client.send(ApiKey::Fetch, 12, &request);
    let mut other = door.client();
    for _ in 0..2 {
        other.produce("t", built(Codec::Lz4, 10, 200, None).bytes().clone());
    }
    let answer: kp::FetchResponse = client.answer(ApiKey::Fetch, 12, correlation);
    assert_eq!(size(data(&answer)[0]), 3 * one);
}

#[test]
fn behaviour_11_a_long_poll_ends_at_once_when_waiting_gains_nothing() {
    let (_door, mut client) = filled(&[], 3);
    // Would these wait, the test would end by its read timeout.
    let mut call = |partitions: &[(&str, i32, i64, i32)]| -> Vec<i16> {
        let mut request = fetch_request(partitions);
        (request.max_wait_ms, request.min_bytes) = (600_000, 40 << 20);
        let answer: kp::FetchResponse = client.call(ApiKey::Fetch, 12, &request);
        data(&answer).into_iter().map(|data| data.error_code).collect()
    };
    assert_eq!(call(&[("t", 0, 0, 400)]), [0], "the partition has more than it may send");
    assert_eq!(call(&[("t", 0, 20, 1)]), [0], "it sends all that it may, and there is no more");
    assert_eq!(call(&[("t", 0, 0, 1 << 20), ("t", 9, 0, 1 << 20)]), [0, 3], "an error");
    assert_eq!(call(&[("t", 1, 5, 1 << 20)]), [1]);
}

#[test]
fn behaviour_11_a_poll_of_nothing_ends_at_once() {
    let (_door, mut client) = filled(&[], 1);
    let mut bare = fetch_request(&[("t", 0, 0, 1 << 20)]);
    bare.topics[0].partitions.clear();
    for mut request in [fetch_request(&[]), bare] {
        // Would it wait, the test would end by its read timeout.
        request.max_wait_ms = 600_000;
        let answer: kp::FetchResponse = client.call(ApiKey::Fetch, 12, &request);
        assert_eq!((answer.error_code, answer.responses.len()), (0, 0));
    }
}

#[test]
fn a_partition_that_is_named_twice_is_answered_once_by_the_last_word_on_it() {
    let (_door, mut client) = filled(&[], 5);
    let request = fetch_request(&[("t", 0, 0, 1 << 20), ("t", 1, 0, 1 << 20), ("t", 0, 40, 1 << 20)]);
    let answer: kp::FetchResponse = client.call(ApiKey::Fetch, 12, &request);
    let told: Vec<_> = data(&answer).into_iter().map(|data| data.partition_index).collect();
    assert_eq!((answer.responses.len(), told), (2, vec![0, 1]));
    let batches = Batch::check_chain(data(&answer)[0].records.clone().unwrap()).unwrap();
    assert_eq!((batches.len(), batches[0].base_offset().0), (1, 40));
}

#[test]
fn behaviour_11_a_long_poll_without_records_ends_by_its_time_or_with_the_client() {
    let (mut door, mut client) = filled(&[], 0);
    let mut request = fetch_request(&[("t", 0, 0, 1 << 20)]);
    request.max_wait_ms = 30;
    let answer: kp::FetchResponse = client.call(ApiKey::Fetch, 12, &request);
    assert_eq!((size(data(&answer)[0]), data(&answer)[0].error_code), (0, 0));
    request.max_wait_ms = 600_000;
    let correlation = client.send(ApiKey::Fetch, 12, &request);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let _: kp::FetchResponse = client.answer(ApiKey::Fetch, 12, correlation);
    assert!(client.is_closed());
    // And the door does not wait for those who do.
    let mut other = door.client();
    // In one piece, so that the poll has been read when the first answer is there.
    let mut both = frame(ApiKey::Metadata, 9, 90, &kp::MetadataRequest::default());
    both.extend(frame(ApiKey::Fetch, 12, 91, &request));
    other.raw(&both);
    let _: kp::MetadataResponse = other.answer(ApiKey::Metadata, 9, 90);
    door.close();
    let _: kp::FetchResponse = other.answer(ApiKey::Fetch, 12, 91);
}

#[test]
fn behaviour_12_every_answer_says_where_the_log_begins_and_ends() {
    let (door, mut client) = filled(&[("segment.bytes", "16384")], 60);
    door.wait(door.partition("t").delete_below(inrush::record::Offset(300))).unwrap();
    for offset in [0, 299, 601, -5] {
        let data = client.fetch("t", offset);
        assert_eq!(data.error_code, 1, "offset {offset}");
        assert_eq!((data.high_watermark, data.last_stable_offset, data.log_start_offset), (600, 600, 300));
        assert_eq!(size(&data), 0);
    }
    let at_the_end = client.fetch("t", 600);
    let marks = (at_the_end.high_watermark, at_the_end.log_start_offset);
    assert_eq!((at_the_end.error_code, marks), (0, (600, 300)));
    assert_eq!(client.fetch("t", 300).error_code, 0);
    for version in [5, 11, 12] {
        let request = fetch_request(&[("t", 1, 7, 1 << 20), ("t", 9, 0, 1 << 20), ("none", 4, 0, 1 << 20)]);
        let answer: kp::FetchResponse = client.call(ApiKey::Fetch, version, &request);
        let told = data(&answer).into_iter().map(|one| {
            let marks = [one.high_watermark, one.last_stable_offset, one.log_start_offset];
            (one.partition_index, one.error_code, marks)
        });
        let told: Vec<_> = told.collect();
        assert_eq!(told, [(1, 1, [0; 3]), (9, 3, [-1; 3]), (4, 3, [-1; 3])], "version {version}");
    }
}

#[test]
fn behaviour_13_there_are_no_sessions_and_clients_stay_in_full_fetches() {
    let (_door, mut client) = filled(&[], 1);
    let mut request = fetch_request(&[("t", 0, 0, 1 << 20)]);
    for (id, epoch) in [(0, 0), (0, -1), (77, -1)] {
        (request.session_id, request.session_epoch) = (id, epoch);
        let answer: kp::FetchResponse = client.call(ApiKey::Fetch, 11, &request);
        assert_eq!((answer.error_code, answer.session_id, answer.responses.len()), (0, 0, 1), "{id} {epoch}");
    }
    (request.session_id, request.session_epoch) = (77, 1);
    let answer: kp::FetchResponse = client.call(ApiKey::Fetch, 11, &request);
    assert_eq!((answer.error_code, answer.session_id, answer.responses.len()), (70, 0, 0));
    // A full answer has what was asked for, no more and no less, or Java asks again for ever: also what has nothing new, or an error.
    let asked = [("t", 1, 0, 1 << 20), ("none", 0, 0, 1 << 20), ("t", 0, 10, 1 << 20), ("t", 7, 0, 1 << 20)];
    let answer: kp::FetchResponse = client.call(ApiKey::Fetch, 11, &fetch_request(&asked));
    let told: Vec<(&str, i32)> = answer
        .responses
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|one| (topic.topic.as_str(), one.partition_index)))
        .collect();
    assert_eq!(told, asked.map(|(topic, partition, ..)| (topic, partition)));
}

#[test]
fn behaviour_32_topics_are_found_by_id_and_a_topic_made_again_has_another() {
    let (door, mut client) = filled(&[], 1);
    let id = door.store.topic("t").unwrap().id;
    let mut by_id = |id: Uuid| {
        let mut request = fetch_request(&[("", 0, 0, 1 << 20)]);
        request.topics[0].topic_id = id;
        let answer: kp::FetchResponse = client.call(ApiKey::Fetch, 13, &request);
        assert_eq!(answer.responses[0].topic_id, id);
        answer.responses[0].partitions[0].error_code
    };
    assert_eq!(by_id(id), 0);
    assert_eq!((by_id(Uuid::from_u128(1)), by_id(Uuid::nil())), (100, 100));
    door.wait(door.store.delete_topic(&inrush::record::TopicName::new("t").unwrap())).unwrap();
    let again = door.topic("t", &[]);
    assert_ne!(again, id);
    assert_eq!((by_id(id), by_id(again)), (100, 0));
}

#[test]
fn a_topic_that_is_deleted_ends_the_poll_on_it() {
    let (door, mut client) = filled(&[], 0);
    let mut request = fetch_request(&[("t", 0, 0, 1 << 20)]);
    request.max_wait_ms = 600_000;
    let correlation = client.send(ApiKey::Fetch, 12, &request);
    // The fetch may come before or after this: both end.
    door.wait(door.store.delete_topic(&inrush::record::TopicName::new("t").unwrap())).unwrap();
    let answer: kp::FetchResponse = client.answer(ApiKey::Fetch, 12, correlation);
    assert_eq!(data(&answer)[0].error_code, 3);
}

#[test]
fn another_leader_epoch_is_fenced_or_unknown() {
    let (door, client) = filled(&[], 1);
    drop(client);
    let door = door.restart();
    let current = door.partition("t").leader_epoch();
    for (epoch, code) in [(current, 0), (-1, 0), (current - 1, 74), (current + 1, 75)] {
        let mut request = fetch_request(&[("t", 0, 0, 1 << 20)]);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let answer: kp::FetchResponse = door.client().call(ApiKey::Fetch, 12, &request);
        assert_eq!(data(&answer)[0].error_code, code, "epoch {epoch} of {current}");
        assert_eq!(data(&answer)[0].high_watermark, 10, "on an error too");
    }
}

#[test]
fn behaviour_36_who_is_not_known_to_read_zstd_gets_batches_decompressed() {
    let door = Door::open();
    door.topic("t", &[]);
    door.topic("never", &[("inrush.fetch.transcode", "never")]);
    let mut known = door.known_client();
    for topic in ["t", "never"] {
        for codec in [Codec::Zstd, Codec::Lz4, Codec::Zstd] {
            known.produce(topic, built(codec, 5, 100, None).bytes().clone());
        }
    }
    let straight = known.batches("t", 0);
    let plain = door.client().batches("t", 0);
    let codecs = |batches: &[Batch]| -> Vec<Codec> { batches.iter().map(|batch| batch.header().codec).collect() };
    assert_eq!(codecs(&straight), [Codec::Zstd, Codec::Lz4, Codec::Zstd]);
    assert_eq!(codecs(&plain), [Codec::None, Codec::Lz4, Codec::None]);
    for (straight, plain) in straight.iter().zip(&plain) {
        assert_eq!(straight.records(1 << 20), plain.records(1 << 20), "same offsets, times, keys, values, headers");
    }
    assert_eq!(codecs(&door.client().batches("never", 0))[0], Codec::Zstd);
}

#[test]
fn behaviour_36_what_is_decompressed_keeps_to_the_limits_and_a_batch_that_cannot_be_goes_as_it_is() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut known = door.known_client();
    // Each is small on the disk and 1 MB decompressed.
    for _ in 0..20 {
        known.produce("t", built(Codec::Zstd, 10, 50_000, None).bytes().clone());
    }
    let mut unknown = door.client();
    let mut offset = 0;
    while offset < 200 {
        let batches = unknown.batches("t", offset);
        let total: usize = batches.iter().map(Batch::size).sum();
        assert!(batches.len() == 1 || total <= 1 << 20, "{total} bytes in {} batches", batches.len());
        assert_eq!(batches[0].base_offset().0, offset);
        offset = batches.last().unwrap().next_offset().0;
    }
    door.wait_until_free();
    let mut bytes = batch(Codec::Zstd, 3).bytes().to_vec();
    bytes.truncate(75);
    bytes[8..12].copy_from_slice(&63i32.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(known.produce("t", bytes).error_code, 0);
    assert_eq!(unknown.batches("t", 200)[0].header().codec, Codec::Zstd);
}

#[test]
fn many_readers_share_the_budget_of_answers_and_all_get_on() {
    let door = Door::with(|door| door.answers = inrush::budget::Budget::new(256 << 10));
    door.topic("t", &[]);
    let mut writer = door.client();
    for _ in 0..30 {
        writer.produce("t", built(Codec::None, 10, 10_000, None).bytes().clone());
    }
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let mut client = door.client();
                let mut offset = 0;
                while offset < 300 {
                    let batches = client.batches("t", offset);
                    offset = batches.last().map_or(offset, |last| last.next_offset().0);
                }
            });
        }
    });
}

#[test]
fn nobody_takes_more_than_a_part_of_what_the_budget_of_answers_has_left() {
    let door = Door::open();
    door.topic("t", &[("inrush.compress.uncompressed", "none")]);
    let mut client = door.client();
    for _ in 0..20 {
        assert_eq!(client.produce("t", built(Codec::None, 10, 45_000, None).bytes().clone()).error_code, 0);
    }
    let one = size(&client.fetch("t", 199));
    let mut got = || {
        let answer: kp::FetchResponse = client.call(ApiKey::Fetch, 12, &fetch_request(&[("t", 0, 0, 16 << 20)]));
        door.wait_until_free();
        size(data(&answer)[0])
    };
    assert_eq!(got(), (door.answers.limit() / 4) / one * one);
    // Others do not take what they were sent: there is less for who comes, and not less than a batch.
    for (taken, batches) in [(8 << 20, 2), (11 << 20, 1)] {
        let lease = door.wait(door.answers.take(taken, std::time::Duration::ZERO)).unwrap();
        let answer: kp::FetchResponse = door.client().call(ApiKey::Fetch, 12, &fetch_request(&[("t", 0, 0, 16 << 20)]));
        assert_eq!(size(data(&answer)[0]), batches * one, "{taken} are taken");
        drop(lease);
        door.wait_until_free();
    }
}

#[test]
fn who_asks_for_much_gets_no_more_turns_than_who_asks_for_little() {
    const GREEDY: usize = 6;
    const TURNS: usize = 100;
    let (door, client) = filled(&[("segment.bytes", "65536")], 0);
    drop(client);
    let mut writer = door.client();
    for _ in 0..60 {
        assert_eq!(writer.produce("t", built(Codec::None, 10, 5_000, None).bytes().clone()).error_code, 0);
    }
    drop(writer);
    // From the disk, where readers share threads, and from memory, where they share the sockets'.
    let count = |door: &Door, from: i64| {
        let (answered, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..GREEDY {
                scope.spawn(|| {
                    let mut client = door.known_client();
                    while !is_over.load(Ordering::Relaxed) {
                        let request = fetch_request(&[("t", 0, from, 16 << 20)]);
                        let answer: kp::FetchResponse = client.call(ApiKey::Fetch, 12, &request);
                        assert!(size(data(&answer)[0]) > 0);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let mut modest = door.known_client();
            while answered.load(Ordering::Relaxed) < GREEDY {
                std::thread::yield_now();
            }
            let before = answered.load(Ordering::Relaxed);
            for _ in 0..TURNS {
                let answer: kp::FetchResponse = modest.call(ApiKey::Fetch, 12, &fetch_request(&[("t", 0, from, 1)]));
                assert!(size(data(&answer)[0]) > 0);
            }
            is_over.store(true, Ordering::Relaxed);
            answered.load(Ordering::Relaxed) - before
        })
    };
    let from_memory = count(&door, 500);
    let door = door.restart();
    let from_disk = count(&door, 0);
    let fair = GREEDY * TURNS;
    assert!(
        from_memory <= 2 * fair && from_disk <= 2 * fair,
        "{from_memory} and {from_disk} answers where {fair} are fair"
    );
}

#[test]
fn a_reader_at_the_end_sees_each_record_that_is_appended_at_once() {
    let (door, mut client) = filled(&[], 0);
    let mut writer = door.client();
    for n in 0..50 {
        let mut request = fetch_request(&[("t", 0, n * 2, 1 << 20)]);
        request.max_wait_ms = 600_000;
        let correlation = client.send(ApiKey::Fetch, 12, &request);
        writer.produce("t", batch(Codec::Lz4, 2).bytes().clone());
        let answer: kp::FetchResponse = client.answer(ApiKey::Fetch, 12, correlation);
        let batches = Batch::check_chain(data(&answer)[0].records.clone().unwrap()).unwrap();
        assert_eq!((batches[0].base_offset().0, batches[0].header().max_timestamp), (n * 2, NOW + 1));
    }
    door.wait_until_free();
}
