//! rskafka against a running daemon: topics made, listed and deleted; producing with every codec that it has, one batch at a time and by its
//! batch producer; reading by offset and as a stream; offsets of places and times; records deleted. It knows no groups.
//! Usage: inrush-rskafka HOST:PORT

use futures::StreamExt;
use rskafka::chrono::{DateTime, TimeDelta, Utc};
use rskafka::client::consumer::{StartOffset, StreamConsumerBuilder};
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::producer::BatchProducerBuilder;
use rskafka::client::producer::aggregator::RecordAggregator;
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::{Record, RecordAndOffset};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_MS: i32 = 30_000;
/// The most that one fetch asks for.
const FETCH_SIZE: i32 = 1 << 20;
const CODECS: [(&str, Compression); 5] = [
    ("none", Compression::NoCompression),
    ("gzip", Compression::Gzip),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
    ("zstd", Compression::Zstd),
];

#[derive(Default)]
struct Checks {
    passed: u32,
    failed: u32,
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

fn main() {
    let address = std::env::args().nth(1).expect("HOST:PORT");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut checks = Checks::default();
    runtime.block_on(async {
        // It would try again without end.
        let ran = tokio::time::timeout(4 * PATIENCE, run(&mut checks, address)).await;
        match ran {
            Ok(Ok(())) => {}
            Ok(Err(error)) => checks.that(&format!("goes on: {error}"), false),
            Err(_) => checks.that("comes to its end in time", false),
        }
    });
    println!("rskafka: {} passed, {} failed", checks.passed, checks.failed);
    std::process::exit(i32::from(checks.failed > 0));
}

async fn run(checks: &mut Checks, address: String) -> Result<(), Error> {
    let client = ClientBuilder::new(vec![address]).client_id("rskafka").build().await?;
    for (name, codec) in CODECS {
        both_ways(checks, &client, name, codec).await?;
    }
    deletes(checks, &client).await
}

fn code_of<T>(result: Result<T, Error>) -> Option<ProtocolError> {
    match result {
        Err(Error::ServerError { protocol_error, .. }) => Some(protocol_error),
        _ => None,
    }
}

fn time(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_700_000_000_000 + ms).expect("a time")
}

/// Tiny, null, empty, binary, large; with headers; ten milliseconds apart.
fn records() -> Vec<Record> {
    let large: Vec<u8> = (0..900_000u32).map(|n| (n * 31 + n / 255) as u8).collect();
    let headers = BTreeMap::from([("h".to_owned(), b"1".to_vec()), ("e".to_owned(), Vec::new())]);
    let plain: [(Option<&[u8]>, Option<&[u8]>); 5] =
        [(None, Some(b"x")), (Some(b"k"), None), (Some(b""), Some(b"")), (Some(b"\x00\xff"), Some(b"y")), (None, Some(&large))];
    let record = |(n, (key, value)): (usize, &(Option<&[u8]>, Option<&[u8]>))| Record {
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers: if n == 2 { headers.clone() } else { BTreeMap::new() },
        timestamp: time(n as i64 * 10),
    };
    plain.iter().enumerate().map(record).collect()
}

async fn new_topic(client: &Client, name: &str) -> Result<String, Error> {
    let topic = format!("rs-{name}-{}", std::process::id());
    client.controller_client()?.create_topic(&topic, 2, 1, PATIENCE_MS).await?;
    Ok(topic)
}

async fn partition(client: &Client, topic: &str, id: i32) -> Result<PartitionClient, Error> {
    client.partition_client(topic, id, UnknownTopicHandling::Error).await
}

/// All from an offset up to the end of the log, fetch by fetch.
async fn read(partition: &PartitionClient, mut offset: i64) -> Result<Vec<RecordAndOffset>, Error> {
    let mut all = Vec::new();
    loop {
        let (got, end) = partition.fetch_records(offset, 1..FETCH_SIZE, 1_000).await?;
        offset = got.last().map_or(offset, |last| last.offset + 1);
        all.extend(got);
        if offset >= end {
            return Ok(all);
        }
    }
}

async fn both_ways(checks: &mut Checks, client: &Client, name: &str, codec: Compression) -> Result<(), Error> {
    let topic = new_topic(client, name).await?;
    let listed = client.list_topics().await?;
    let found = listed.iter().find(|one| one.name == topic).map(|one| one.partitions.iter().copied().collect::<Vec<_>>());
    checks.that(&format!("{name}: listed with its partitions"), found == Some(vec![0, 1]));

    let zero = partition(client, &topic, 0).await?;
    let sent = records();
    let mut offsets = zero.produce(sent[..4].to_vec(), codec).await?;
    offsets.extend(zero.produce(sent[4..].to_vec(), codec).await?);
    checks.that(&format!("{name}: offsets of what was produced"), offsets == [0, 1, 2, 3, 4]);
    let got = read(&zero, 0).await?;
    checks.that(&format!("{name}: keys, values, headers, times"), got.iter().map(|one| &one.record).eq(&sent));
    checks.that(&format!("{name}: at their offsets"), got.iter().map(|one| one.offset).eq(0..5));
    let inside = read(&zero, 2).await?;
    checks.that(&format!("{name}: from an offset inside a batch"), inside.iter().map(|one| one.offset).eq(2..5));
    let mut places = Vec::new();
    for at in [OffsetAt::Earliest, OffsetAt::Latest, OffsetAt::Timestamp(time(15)), OffsetAt::Timestamp(time(41))] {
        places.push(zero.get_offset(at).await?);
    }
    checks.that(&format!("{name}: offsets of places and times, {places:?}"), places == [0, 5, 2, -1]);
    checks.that(&format!("{name}: beyond the end"), code_of(zero.fetch_records(6, 1..FETCH_SIZE, 0).await) == Some(ProtocolError::OffsetOutOfRange));
    // At the end it waits for its time and gets nothing.
    let (none, end) = zero.fetch_records(5, 1..FETCH_SIZE, 50).await?;
    checks.that(&format!("{name}: nothing at the end"), none.is_empty() && end == 5);

    // By its batch producer, read as a stream.
    let one = Arc::new(partition(client, &topic, 1).await?);
    let producer = BatchProducerBuilder::new(one.clone())
        .with_compression(codec)
        .with_linger(Duration::from_millis(2))
        .build(RecordAggregator::new(8 << 10));
    let record = |n: i64| Record {
        key: None,
        value: Some(n.to_string().into_bytes()),
        headers: BTreeMap::new(),
        timestamp: time(0) + TimeDelta::milliseconds(n),
    };
    let sending = futures::future::join_all((0..2_000).map(|n| producer.produce(record(n))));
    let acknowledged: Vec<i64> = sending.await.into_iter().filter_map(Result::ok).collect();
    checks.that(&format!("{name}: two thousand acknowledged"), acknowledged.iter().copied().eq(0..2_000));
    let mut stream = StreamConsumerBuilder::new(one, StartOffset::Earliest).with_max_wait_ms(100).build();
    let mut values = Vec::new();
    while values.len() < 2_000 {
        match stream.next().await {
            Some(Ok((record, _))) => values.push(record.record.value.unwrap_or_default()),
            Some(Err(error)) => return Err(error),
            None => break,
        }
    }
    let in_order = values.iter().enumerate().all(|(n, value)| *value == n.to_string().into_bytes());
    checks.that(&format!("{name}: two thousand in order"), values.len() == 2_000 && in_order);
    Ok(())
}

async fn deletes(checks: &mut Checks, client: &Client) -> Result<(), Error> {
    let topic = new_topic(client, "deletes").await?;
    let controller = client.controller_client()?;
    let again = code_of(controller.create_topic(&topic, 2, 1, PATIENCE_MS).await);
    checks.that("a topic that is there", again == Some(ProtocolError::TopicAlreadyExists));
    let zero = partition(client, &topic, 0).await?;
    for _ in 0..2 {
        zero.produce(records()[..4].to_vec(), Compression::Zstd).await?;
    }
    zero.delete_records(5, PATIENCE_MS).await?;
    checks.that("deleted: the log begins later", zero.get_offset(OffsetAt::Earliest).await? == 5);
    checks.that("deleted: what is left", read(&zero, 5).await?.iter().map(|one| one.offset).eq(5..8));
    checks.that("deleted: no more", code_of(zero.fetch_records(4, 1..FETCH_SIZE, 0).await) == Some(ProtocolError::OffsetOutOfRange));
    // A time finds nothing below the start, though older records than it were there.
    checks.that("deleted: by time", zero.get_offset(OffsetAt::Timestamp(time(0))).await? == 5);
    checks.that("deletion beyond the end", code_of(zero.delete_records(9, PATIENCE_MS).await) == Some(ProtocolError::OffsetOutOfRange));
    controller.delete_topic(&topic, PATIENCE_MS).await?;
    let listed = client.list_topics().await?;
    checks.that("a topic deleted is listed no more", listed.iter().all(|one| one.name != topic));
    checks.that("nor deleted again", code_of(controller.delete_topic(&topic, PATIENCE_MS).await) == Some(ProtocolError::UnknownTopicOrPartition));
    checks.that("nor written to", code_of(zero.produce(records()[..1].to_vec(), Compression::NoCompression).await) == Some(ProtocolError::UnknownTopicOrPartition));
    Ok(())
}
