//! How fast librdkafka produces: to a daemon, or to its own mock broker, which keeps nothing.

use crate::Delivered;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Bytes of a record: a click as text, so that it compresses like one.
const RECORD_SIZE: usize = 500;
/// Different records; they come round only after many batches, or compression would have an easy life.
const VARIANTS: usize = 20_000;
const TOPIC: &str = "bench";
const PARTITIONS: i32 = 4;

pub fn run(target: &str, codec: &str, count: u64) {
    let mock = (target == "mock").then(|| {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        cluster.create_topic(TOPIC, PARTITIONS, 1).expect("a topic");
        cluster
    });
    let address = mock.as_ref().map_or_else(|| target.to_owned(), MockCluster::bootstrap_servers);
    let delivered = Delivered::default();
    let producer: ThreadedProducer<Delivered> = ClientConfig::new()
        .set("bootstrap.servers", &address)
        .set("compression.type", codec)
        .set("linger.ms", "5")
        .set("acks", "all")
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", "524288")
        .create_with_context(delivered.clone())
        .expect("a producer");
    let records = records();
    // Metadata and connections are there before the clock starts.
    for partition in 0..PARTITIONS {
        send(&producer, &records[0], partition);
    }
    producer.flush(Duration::from_secs(30)).expect("flushed");
    let before = delivered.good.load(Ordering::Relaxed);
    let began = Instant::now();
    for n in 0..count {
        send(&producer, &records[n as usize % VARIANTS], (n % PARTITIONS as u64) as i32);
    }
    producer.flush(Duration::from_secs(120)).expect("flushed");
    let seconds = began.elapsed().as_secs_f64();
    let (good, bad) = (delivered.good.load(Ordering::Relaxed) - before, delivered.bad.load(Ordering::Relaxed));
    assert_eq!((good, bad), (count, 0), "not all were delivered");
    println!("{:.0}", count as f64 / seconds);
}

fn send(producer: &ThreadedProducer<Delivered>, value: &[u8], partition: i32) {
    let mut record: BaseRecord<'_, (), [u8]> = BaseRecord::to(TOPIC).partition(partition).payload(value);
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                std::thread::sleep(Duration::from_micros(200));
            }
            Err((error, _)) => panic!("cannot send: {error}"),
        }
    }
}

fn records() -> Vec<Vec<u8>> {
    let mut seed = 12_345u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let record = |n: usize, random: &mut dyn FnMut() -> u64| {
        let mut text = format!(
            "{{\"ts\":\"2026-11-0{}T12:{:02}:{:02}.{:03}Z\",\"eventId\":\"e-{:016x}-{n}\",\"userId\":\"u{}\",\"type\":\"click\",\"page\":{{\"url\":\"https://shop.example/{}\",\"title\":\"Shop\",\"referrer\":\"https://www.google.com/\"}},\"viewport\":{{\"width\":{},\"height\":{}}},\"props\":{{\"price\":{}.{:02},\"quantity\":{},\"currency\":\"EUR\"}},\"userAgent\":\"Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0\",\"ip\":\"203.0.113.{}\",\"pad\":\"",
            random() % 9 + 1, random() % 60, random() % 60, random() % 1000, random() << 20 | random(), random() % 500,
            ["", "shoes", "bags", "cart", "search"][random() as usize % 5], 360 + random() % 1500, 640 + random() % 400,
            random() % 200, random() % 100, random() % 5, random() % 256,
        );
        while text.len() < RECORD_SIZE - 2 {
            text.push((b'a' + (random() % 26) as u8) as char);
        }
        text.truncate(RECORD_SIZE - 2);
        text.push_str("\"}");
        text.into_bytes()
    };
    (0..VARIANTS).map(|n| record(n, &mut random)).collect()
}
