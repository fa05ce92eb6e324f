//! Who is slow, floods or lies never takes the others down.

use crate::door::{Client, Door, batch, built, fetch_request, frame, produce_request};
use inrush::record::Codec;
use kafka_protocol::messages as kp;
use kafka_protocol::messages::ApiKey;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// The door still does its work.
fn is_well(door: &Door) {
    let mut client = door.client();
    let end = client.fetch("t", 0).high_watermark;
    let answer = client.produce("t", batch(Codec::Lz4, 1).bytes().clone());
    assert_eq!((answer.error_code, answer.base_offset), (0, end));
}

fn open() -> Door {
    let door = Door::open();
    door.topic("t", &[]);
    door
}

#[test]
fn frames_that_cannot_be_are_refused_by_their_first_bytes() {
    let door = open();
    let head = |size: i32, key: i16, version: i16| {
        let mut bytes = size.to_be_bytes().to_vec();
        bytes.extend_from_slice(&key.to_be_bytes());
        bytes.extend_from_slice(&version.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes
    };
    let limits = [
        head(-1, 3, 9),
        head(0, 3, 9),
        head(7, 3, 9),
        head(i32::MAX, 0, 9),
        head(105 << 20, 0, 9),
        head((1 << 20) + 1, 3, 9),
        head((8 << 20) + 1, 1, 12),
    ];
    for bytes in limits {
        let mut client = door.client();
        client.raw(&bytes);
        assert!(client.is_closed(), "{bytes:?}");
    }
    // Announced and never sent: nothing is kept for it.
    let waiting: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = door.client();
            client.raw(&head(100 << 20, 0, 9));
            client
        })
        .collect();
    is_well(&door);
    drop(waiting);
    door.wait_until_free();
}

#[test]
fn a_length_that_no_request_has_closes_the_connection_before_anything_follows_it() {
    let door = Door::with(|door| door.patience.request = Duration::from_secs(3_600));
    door.topic("t", &[]);
    for size in [-1, i32::MIN, 0, 7, (104 << 20) + 1, i32::MAX] {
        let mut client = door.client();
        client.raw(&size.to_be_bytes());
        assert!(client.is_closed(), "{size}");
    }
    is_well(&door);
}

#[test]
fn counts_that_lie_end_a_connection_and_not_the_process() {
    let door = open();
    let two_billion = [0x7f, 0xff, 0xff, 0xff];
    let compact = [0xff, 0xff, 0xff, 0xff, 0x0f];
    // A Metadata request of version 1 and of version 9, whose topics are as many as a number can say.
    let mut old = vec![0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff];
    old.extend_from_slice(&two_billion);
    let mut new = vec![0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0];
    new.extend_from_slice(&compact);
    // And a header whose tagged fields are.
    let mut tags = vec![0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff];
    tags.extend_from_slice(&compact);
    for body in [old, new, tags] {
        let mut client = door.client();
        client.raw(&(body.len() as i32).to_be_bytes());
        client.raw(&body);
        assert!(client.is_closed());
    }
    is_well(&door);
    door.wait_until_free();
}

#[test]
fn garbage_and_requests_with_changed_or_missing_bytes_harm_nobody_else() {
    let door = open();
    let mut random = fastrand::Rng::with_seed(11);
    let samples = [
        frame(ApiKey::Produce, 9, 1, &produce_request("t", 1, built(Codec::Zstd, 5, 50, None).bytes().clone())),
        frame(ApiKey::Fetch, 12, 1, &fetch_request(&[("t", 0, 0, 100)])),
        frame(ApiKey::Metadata, 9, 1, &kp::MetadataRequest::default()),
        frame(ApiKey::CreateTopics, 7, 1, &kp::CreateTopicsRequest::default()),
        frame(ApiKey::DescribeConfigs, 4, 1, &kp::DescribeConfigsRequest::default()),
    ];
    for round in 0..600 {
        let mut bytes = random.choice(&samples).unwrap().clone();
        match round % 3 {
            // Behind the length, API and version, or the first look would end it.
            0 => (0..random.usize(1..6)).for_each(|_| {
                let at = random.usize(8..bytes.len());
                bytes[at] = random.u8(..);
            }),
            1 => bytes.truncate(random.usize(1..bytes.len())),
            _ => bytes.iter_mut().skip(random.usize(0..12)).for_each(|byte| *byte = random.u8(..)),
        }
        let mut client = door.client();
        // The door may have closed it already.
        let _ = client.stream.write_all(&bytes);
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = client.stream.read_to_end(&mut answer);
    }
    is_well(&door);
    door.wait_until_free();
}

#[test]
fn who_begins_a_request_and_does_not_go_on_is_closed() {
    let door = Door::with(|door| door.patience.request = Duration::from_millis(50));
    door.topic("t", &[]);
    let whole = frame(ApiKey::Produce, 9, 1, &produce_request("t", 1, batch(Codec::Lz4, 9).bytes().clone()));
    for sent in [1, 5, 30, whole.len() - 1] {
        let mut client = door.client();
        client.raw(&whole[..sent]);
        assert!(client.is_closed(), "after {sent} bytes");
    }
    is_well(&door);
    door.wait_until_free();
}

#[test]
fn who_asks_nothing_is_closed() {
    let door = Door::with(|door| door.patience.idle = Duration::from_millis(50));
    let mut client = door.client();
    assert!(client.is_closed());
}

#[test]
fn who_does_not_take_its_answers_is_closed_and_its_bytes_come_back() {
    let door = Door::with(|door| door.patience.answer = Duration::from_millis(100));
    door.topic("t", &[]);
    let mut writer = door.client();
    for _ in 0..10 {
        writer.produce("t", built(Codec::None, 10, 50_000, None).bytes().clone());
    }
    // Decompressed this is 5 MB an answer: more than the sockets of both sides hold after a few.
    let mut slow = door.client();
    let mut request = fetch_request(&[("t", 0, 0, 16 << 20)]);
    request.min_bytes = 0;
    slow.stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    let ask = frame(ApiKey::Fetch, 12, 1, &request);
    // It asks on and never reads, until the door has had enough.
    while slow.stream.write_all(&ask).is_ok() {}
    is_well(&door);
    door.wait_until_free();
}

#[test]
fn a_connection_too_many_is_closed_and_the_place_of_one_that_left_is_given_again() {
    let door = Door::with(|door| door.connections_max = 2);
    door.topic("t", &[]);
    let mut first = door.client();
    let _second = door.client();
    assert_eq!(first.fetch("t", 0).error_code, 0);
    assert!(door.client().is_closed());
    drop(first);
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let mut again = door.client();
        again.stream.write_all(&frame(ApiKey::Metadata, 9, 1, &kp::MetadataRequest::default())).unwrap();
        if again.read_frame().is_some() {
            break;
        }
        assert!(Instant::now() < until, "the place never came back");
    }
}

#[test]
fn a_request_larger_than_all_memory_for_requests_is_refused_at_once() {
    let door = Door::with(|door| door.budget = inrush::budget::Budget::new(1 << 20));
    door.topic("t", &[("max.message.bytes", "8388608")]);
    let mut client = door.client();
    let large =
        frame(ApiKey::Produce, 9, 1, &produce_request("t", 1, built(Codec::None, 10, 100_000, None).bytes().clone()));
    let _ = client.stream.write_all(&large);
    assert!(client.is_closed());
    is_well(&door);
}

#[test]
fn requests_share_the_memory_and_all_come_through() {
    let door = Door::with(|door| door.budget = inrush::budget::Budget::new(8 << 20));
    door.topic("t", &[]);
    let bytes = built(Codec::None, 10, 40_000, None).bytes().clone();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = door.client();
                for _ in 0..5 {
                    assert_eq!(client.produce("t", bytes.clone()).error_code, 0);
                }
            });
        }
    });
    assert_eq!(door.client().fetch("t", 0).high_watermark, 16 * 5 * 10);
}

#[test]
fn a_full_disk_is_an_error_of_the_partition_and_reads_go_on() {
    let door = open();
    is_well(&door);
    let mut client = door.client();
    // A checkpoint may meet the fault in the producer's place, and is written again later: then the next round's turn comes.
    let mut stored = 1;
    loop {
        door.sim.fail(inrush::disk::sim::Fault { call: inrush::disk::sim::Call::Sync, nth: 1, error: 5 });
        match client.produce("t", batch(Codec::Lz4, 1).bytes().clone()).error_code {
            0 => stored += 1,
            code => break assert_eq!(code, 56),
        }
        assert!(stored < 100, "a failed sync was never told");
    }
    assert_eq!(client.produce("t", batch(Codec::Lz4, 1).bytes().clone()).error_code, 56);
    assert_eq!(client.fetch("t", 0).high_watermark, stored, "what was durable is read on");
}
