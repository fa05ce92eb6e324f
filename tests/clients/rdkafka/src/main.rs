//! librdkafka through its Rust crate, against a running daemon. `inrush-rdkafka check HOST:PORT` produces with every codec and reads from the
//! start, an offset and a time, and by groups. `inrush-rdkafka bench (HOST:PORT | mock) CODEC COUNT` measures producing, against librdkafka's own mock
//! broker too, and prints records a second.

mod bench;
mod groups;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
const NOW: i64 = 1_700_000_000_000;

/// Counts what was delivered and what was not.
#[derive(Clone, Default)]
pub struct Delivered {
    pub good: Arc<AtomicU64>,
    pub bad: Arc<AtomicU64>,
}

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.good } else { &self.bad };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["check", address] => std::process::exit(check(address)),
        ["member", address, group, topic] => groups::member(address, group, topic),
        ["bench", target, codec, count] => bench::run(target, codec, count.parse().expect("COUNT is a number")),
        _ => panic!("check HOST:PORT, or bench (HOST:PORT | mock) CODEC COUNT"),
    }
}

pub struct Checks {
    pub passed: u32,
    pub failed: u32,
}

impl Checks {
    fn that(&mut self, what: &str, is_right: bool) {
        if is_right {
            self.passed += 1;
        } else {
            self.failed += 1;
            println!("failed: {what}");
        }
    }
}

fn check(address: &str) -> i32 {
    let mut checks = Checks { passed: 0, failed: 0 };
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        both_ways(&mut checks, address, codec);
    }
    let of_groups = groups::run(address);
    checks.passed += of_groups.passed;
    checks.failed += of_groups.failed;
    println!("rdkafka: {} passed, {} failed", checks.passed, checks.failed);
    i32::from(checks.failed > 0)
}

fn config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    config
}

/// A future that rdkafka completes from its own threads.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    loop {
        if let std::task::Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn both_ways(checks: &mut Checks, address: &str, codec: &str) {
    let topic = format!("rd-{codec}-{}", std::process::id());
    let admin: AdminClient<DefaultClientContext> = config(address).create().expect("an admin client");
    let new = NewTopic::new(&topic, 2, TopicReplication::Fixed(1)).set("max.message.bytes", "9000000");
    let made = wait(admin.create_topics([&new], &AdminOptions::new().operation_timeout(Some(PATIENCE))));
    checks.that(&format!("{codec}: topic made"), made.is_ok_and(|made| made[0].is_ok()));

    let delivered = Delivered::default();
    let producer: ThreadedProducer<Delivered> = config(address)
        .set("compression.type", codec)
        .set("enable.idempotence", "true")
        .set("message.max.bytes", "9000000")
        .set("linger.ms", "5")
        .create_with_context(delivered.clone())
        .expect("a producer");
    let large: Vec<u8> = (0..8_000_000u32).map(|n| (n * 31 + n / 255) as u8).collect();
    let sent: [(Option<&[u8]>, Option<&[u8]>); 5] =
        [(None, Some(b"x")), (Some(b"k"), None), (Some(b""), Some(b"")), (Some(b"\x00\xff"), Some(&large[..900_000])), (Some(b"large"), Some(&large))];
    for (n, (key, value)) in sent.iter().enumerate() {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&topic).partition(0).timestamp(NOW + n as i64 * 10);
        (record.key, record.payload) = (*key, *value);
        if n == 2 {
            let headers = OwnedHeaders::new().insert(Header { key: "h", value: Some("1") });
            record.headers = Some(headers.insert(Header { key: "n", value: None::<&str> }));
        }
        producer.send(record).map_err(|(error, _)| error).expect("room in the queue");
        // Each in a batch of its own, in order.
        producer.flush(PATIENCE).expect("flushed");
    }
    for n in 0..5_000 {
        let value = n.to_string();
        let record: BaseRecord<'_, (), str> = BaseRecord::to(&topic).partition(1).payload(&value);
        producer.send(record).map_err(|(error, _)| error).expect("room in the queue");
    }
    producer.flush(PATIENCE).expect("flushed");
    let counts = (delivered.good.load(Ordering::Relaxed), delivered.bad.load(Ordering::Relaxed));
    checks.that(&format!("{codec}: all delivered, {counts:?}"), counts == (5_005, 0));

    let consumer: BaseConsumer = config(address).set("group.id", "none").set("enable.auto.commit", "false").create().expect("a consumer");
    let got = read(&consumer, &topic, 0, Offset::Beginning, sent.len());
    let plain: Vec<(Option<&[u8]>, Option<&[u8]>)> = got.iter().map(|message| (message.key(), message.payload())).collect();
    checks.that(&format!("{codec}: keys and values"), plain == sent);
    let times: Vec<Option<i64>> = got.iter().map(|message| message.timestamp().to_millis()).collect();
    checks.that(&format!("{codec}: times"), times == (0..5).map(|n| Some(NOW + n * 10)).collect::<Vec<_>>());
    let headers = got.get(2).and_then(Message::headers);
    let are_right = headers.is_some_and(|headers| {
        headers.count() == 2 && headers.get(0).value == Some(b"1".as_slice()) && headers.get(1).value.is_none()
    });
    checks.that(&format!("{codec}: headers"), are_right);
    let from_three: Vec<i64> = read(&consumer, &topic, 0, Offset::Offset(3), 2).iter().map(Message::offset).collect();
    checks.that(&format!("{codec}: from an offset"), from_three == [3, 4]);
    let many = read(&consumer, &topic, 1, Offset::Beginning, 5_000);
    let in_order = many.iter().enumerate().all(|(n, message)| message.payload() == Some(n.to_string().as_bytes()));
    checks.that(&format!("{codec}: five thousand in order"), many.len() == 5_000 && in_order);
    let mut times = TopicPartitionList::new();
    times.add_partition_offset(&topic, 0, Offset::Offset(NOW + 15)).expect("a place in the list");
    let found = consumer.offsets_for_times(times, PATIENCE).expect("an answer");
    checks.that(&format!("{codec}: from a time"), found.elements()[0].offset() == Offset::Offset(2));
    let ends = consumer.fetch_watermarks(&topic, 0, PATIENCE).expect("an answer");
    checks.that(&format!("{codec}: watermarks"), ends == (0, 5));
}

fn read(consumer: &BaseConsumer, topic: &str, partition: i32, from: Offset, count: usize) -> Vec<OwnedMessage> {
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(topic, partition, from).expect("a place in the list");
    consumer.assign(&place).expect("assigned");
    let until = Instant::now() + PATIENCE;
    let mut got = Vec::new();
    while got.len() < count && Instant::now() < until {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) {
            got.push(message.detach());
        }
    }
    got
}
