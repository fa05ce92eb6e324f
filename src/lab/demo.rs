//! The main job, shown: a daemon on a fresh folder, clicks and pictures through the real doors (HTTP and Kafka), some broken on purpose; then
//! what arrived.

use super::generate::Generator;
use crate::client::{Client, KafkaClient};
use crate::clock::Clock;
use crate::control::PipelineStatus;
use crate::daemon::{self, Running};
use crate::record::{Codec, NewRecord};
use anyhow::{Context, Result, bail};
use arrow::util::pretty::pretty_format_batches;
use hyper::{Method, StatusCode};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Events without `--events`: about half a minute at the pace below.
const EVENTS: u64 = 30_000;
const EVENTS_A_SECOND: u64 = 1_000;
/// Events of one request.
const BATCH: usize = 100;
/// Requests of so many events have a picture and two broken ones among them.
const ODD_FROM: usize = 25;
/// How long the pipelines may take to catch up.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the shipped pipelines are, with files that roll while somebody watches.
const CLICKS: &str = include_str!("../../pipelines/clicks.toml");
const CAMERA: &str = include_str!("../../pipelines/camera.toml");
/// Five orders of which the third fails: it is tried again a second apart, at most twice, and then a dead letter; the others are rows. Only
/// in runs of some length.
const ORDERS: &str = r#"from = "topic:orders"
to = { parquet = "orders", roll = "5s or 128MiB" }
on-error = { retry = { times = 2, of = "all" }, backoff = "1s" }

[columns]
order = "int64"
amount = "float64"
"#;
const ORDERS_FROM: u64 = 1_000;
const TOPICS: [&str; 3] = ["clicks", "camera", "orders"];

/// How the demo is run.
pub struct Options {
    /// A fresh folder; made in the system's temporary folder if none is given. It is kept.
    pub folder: Option<PathBuf>,
    /// Exits by itself after so many events.
    pub events: Option<u64>,
    pub json: bool,
}

/// What became of the events, as the last line of `demo --json` says it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Distinct events; one that was sent again counts once.
    pub sent: u64,
    /// Events that no source topic holds, quarantined ones included.
    pub refused: u64,
    /// Records in the source topics.
    pub stored: u64,
    pub parquet_rows: u64,
    pub filtered: u64,
    /// Records that a pipeline dead-lettered.
    pub dead_letters: u64,
    pub parquet: PathBuf,
    pub data: PathBuf,
    pub seconds: f64,
}

/// Runs the demo; says whether its counts add up.
///
/// # Errors
/// The daemon cannot start, or a request failed.
pub fn run(options: Options) -> Result<bool> {
    let began = Instant::now();
    let folder = fresh_folder(options.folder)?;
    let pipelines = folder.join("pipelines");
    std::fs::create_dir_all(&pipelines)?;
    let has_orders = options.events.unwrap_or(EVENTS) >= ORDERS_FROM;
    let orders = has_orders.then_some(("orders.toml", ORDERS));
    for (name, text) in [("clicks.toml", CLICKS), ("camera.toml", CAMERA)].into_iter().chain(orders) {
        std::fs::write(pipelines.join(name), text.replace("roll = \"5m or 128MiB\"", "roll = \"5s or 128MiB\""))?;
    }
    let any = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let running = daemon::start(daemon::Options {
        pipelines,
        http: any(0),
        kafka: any(0),
        admin: any(0),
        ..daemon::Options::new(folder.join("data"))
    })?;
    let say = |line: &str| {
        if !options.json {
            println!("{line}");
        }
    };
    say(&format!("A daemon runs on http://{} with its data in {}", running.http, folder.display()));
    say(&format!("Metrics: http://{}/metrics    health: http://{}/readyz\n", running.admin, running.admin));
    let shown = send(&running, options.events, has_orders, options.json).and_then(|mut summary| {
        settle(&running, &mut summary, 2 + usize::from(has_orders), began)?;
        Ok((summary, dead_letters(&running)?))
    });
    // Whatever happened, the daemon is stopped in order.
    running.stop()?;
    let (mut summary, dead) = shown?;
    let out = folder.join("data/out");
    summary.parquet_rows = parquet_rows(&out)?;
    summary.parquet = out;
    summary.data = folder.join("data");
    summary.seconds = began.elapsed().as_secs_f64();
    let adds_up = summary.sent == summary.stored + summary.refused
        && summary.stored == summary.parquet_rows + summary.filtered + summary.dead_letters;
    if options.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        show(&summary, &dead)?;
    }
    Ok(adds_up)
}

fn fresh_folder(asked: Option<PathBuf>) -> Result<PathBuf> {
    let folder = match asked {
        Some(folder) => folder,
        None => std::env::temp_dir().join(format!("inrush-demo-{}", std::process::id())),
    };
    if folder.join("data").exists() {
        bail!("{} holds data already; name a fresh folder: --data DIR", folder.display());
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder.canonicalize()?)
}

/// Sends clicks and pictures, some broken, some twice.
fn send(running: &Running, events: Option<u64>, has_orders: bool, is_json: bool) -> Result<Summary> {
    let mut client = Client::new(running.http.to_string())?;
    for topic in TOPICS.into_iter().filter(|topic| has_orders || *topic != "orders") {
        client.json(Method::POST, "/v1/topics", Some(&json!({ "name": topic, "partitions": 1 })))?;
    }
    let mut kafka = KafkaClient::connect(&running.kafka.to_string())?;
    let mut generator = Generator::new(fastrand::u64(..));
    let mut summary = Summary::default();
    let mut turn = 0;
    let (total, paced) = (events.unwrap_or(EVENTS), events.is_none());
    if has_orders {
        let amounts = ["12.5", "3", "\"unknown\"", "8.25", "40"];
        let order = |(at, amount)| format!("{{\"order\":{},\"amount\":{amount}}}", at + 1);
        let orders: Vec<String> = amounts.into_iter().enumerate().map(order).collect();
        post_lines(&mut client, "orders", &orders, &mut summary)?;
        summary.sent += orders.len() as u64;
    }
    let began = Instant::now();
    let mut shown = Instant::now();
    while summary.sent < total {
        let wanted = BATCH.min((total - summary.sent) as usize);
        // One picture, one broken line and one wrong value to a batch of clicks, unless it is a small one. The doors take turns.
        let (mut left, by_kafka) = (wanted, turn % 3 == 1);
        turn += 1;
        let is_odd = wanted >= ODD_FROM;
        if is_odd {
            let picture = if by_kafka {
                kafka_picture(&mut kafka, &mut generator)
            } else {
                picture(&mut client, &mut generator, &mut summary)
            };
            picture?;
            summary.sent += 1;
            left -= 1;
        }
        let lines = lines(&mut generator, left, is_odd);
        if by_kafka {
            kafka_clicks(&mut kafka, &lines, turn == 2)?;
        } else {
            post_lines(&mut client, "clicks", &lines, &mut summary)?;
        }
        summary.sent += left as u64;
        if paced {
            let due = Duration::from_secs_f64(summary.sent as f64 / EVENTS_A_SECOND as f64);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        if !is_json && shown.elapsed() > Duration::from_millis(500) {
            shown = Instant::now();
            print!("\r{}", live(running, &summary));
            std::io::stdout().flush()?;
        }
    }
    if !is_json {
        println!("\r{}", live(running, &summary));
    }
    Ok(summary)
}

fn live(running: &Running, summary: &Summary) -> String {
    let statuses = running.control.statuses();
    let rows: u64 = statuses.iter().map(|status| status.rows_written).sum();
    let filtered: u64 = statuses.iter().map(|status| status.filtered).sum();
    let dead: u64 = statuses.iter().map(|status| status.dead_letters).sum();
    format!(
        "sent {:>7}   refused {:>5}   rows {:>7}   filtered {:>6}   dead letters {:>5}",
        summary.sent, summary.refused, rows, filtered, dead
    )
}

fn picture(client: &mut Client, generator: &mut Generator, summary: &mut Summary) -> Result<()> {
    let (bytes, parameters) = generator.picture()?;
    // Every tenth camera forgets its name: a required header is missing.
    let parameters =
        if summary.sent.is_multiple_of(10 * BATCH as u64) { "label=person".to_owned() } else { parameters };
    let answer = client.call(Method::POST, &format!("/v1/topics/camera/events?{parameters}"), "image/jpeg", bytes)?;
    count(&answer.body, answer.status, 1, summary)
}

/// The same by a Kafka producer: the parameters are the record's headers.
fn kafka_picture(kafka: &mut KafkaClient, generator: &mut Generator) -> Result<()> {
    let (bytes, parameters) = generator.picture()?;
    let parameters = parameters.split('&').filter_map(|pair| pair.split_once('='));
    let headers = parameters.map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())));
    let headers: Vec<_> = headers.chain([(&b"content-type"[..], Some(&b"image/jpeg"[..]))]).collect();
    let record =
        NewRecord { timestamp: Clock::System.now_ms(), key: None, value: Some(bytes.as_slice()), headers: &headers };
    // A JPEG does not shrink.
    let batch = kafka.batch("camera", 0, &[record], Codec::None)?;
    kafka.send("camera", 0, &batch)?;
    Ok(())
}

/// Clicks as lines; in an odd batch one is cut off and one has a value of a wrong type.
fn lines(generator: &mut Generator, count: usize, is_odd: bool) -> Vec<String> {
    let now_ms = Clock::System.now_ms();
    let mut lines: Vec<String> = (0..count).map(|_| generator.click(now_ms).to_string()).collect();
    if is_odd {
        lines[10] = "{\"ts\": \"2026-01-01T00:00:00Z\", \"eventId\": ".to_owned();
        lines[20] = lines[20].replace("\"quantity\":", "\"quantity\":\"many\",\"q\":");
    }
    lines
}

/// A Kafka door takes records of any kind: what is broken in them is the pipeline's to judge. `is_lost`: the answer was lost on its way, and
/// the producer sends the batch again, as every Kafka client does; it is stored once.
fn kafka_clicks(kafka: &mut KafkaClient, lines: &[String], is_lost: bool) -> Result<()> {
    let timestamp = Clock::System.now_ms();
    let record = |line| NewRecord { timestamp, key: None, value: Some(line), headers: &[] };
    let records: Vec<NewRecord<'_>> = lines.iter().map(|line| record(line.as_bytes())).collect();
    let batch = kafka.batch("clicks", 0, &records, Codec::Zstd)?;
    let first = kafka.send("clicks", 0, &batch)?;
    if is_lost {
        let again = kafka.send("clicks", 0, &batch)?;
        if again != first {
            bail!("a batch that was sent again was stored at {again} too, it is at {first}");
        }
    }
    Ok(())
}

fn post_lines(client: &mut Client, topic: &str, lines: &[String], summary: &mut Summary) -> Result<()> {
    let path = format!("/v1/topics/{topic}/events");
    let answer = client.call(Method::POST, &path, "application/x-ndjson", lines.join("\n"))?;
    count(&answer.body, answer.status, lines.len() as u64, summary)
}

/// What the door said of a request.
fn count(body: &[u8], status: StatusCode, sent: u64, summary: &mut Summary) -> Result<()> {
    let answer: Value = serde_json::from_slice(body)?;
    let taken = answer["taken"].as_u64().unwrap_or(0);
    if status != StatusCode::OK && status != StatusCode::BAD_REQUEST {
        bail!("the door answered {status}: {answer}");
    }
    summary.refused += sent - taken;
    Ok(())
}

/// Waits until the pipelines have read everything and cut, then counts through the door.
fn settle(running: &Running, summary: &mut Summary, pipelines: usize, began: Instant) -> Result<()> {
    let mut client = Client::new(running.http.to_string())?;
    let topics = client.json(Method::GET, "/v1/topics", None)?;
    let records = |name: &str| {
        let found = topics.as_array().into_iter().flatten().find(|topic| topic["name"] == name);
        found.and_then(|topic| topic["records"].as_u64()).unwrap_or(0)
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let statuses = running.control.statuses();
        // Held against what the topics have: a status may be of a moment before the last events, or the first.
        let is_read = |status: &PipelineStatus| {
            let committed: i64 = status.committed.values().sum();
            committed as u64 == records(status.source.trim_start_matches("topic:"))
        };
        let is_done = statuses.len() == pipelines && statuses.iter().all(is_read);
        if is_done {
            summary.filtered = statuses.iter().map(|status| status.filtered).sum();
            summary.dead_letters = statuses.iter().map(|status| status.dead_letters).sum();
            break;
        }
        if Instant::now() > deadline {
            bail!("the pipelines did not catch up within {} s: {statuses:#?}", began.elapsed().as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    summary.stored = TOPICS.into_iter().map(records).sum();
    Ok(())
}

/// The first dead letters with their reasons, for people.
fn dead_letters(running: &Running) -> Result<Vec<Value>> {
    let mut client = Client::new(running.http.to_string())?;
    let mut letters = Vec::new();
    for topic in TOPICS {
        if let Ok(answer) = client.json(Method::GET, &format!("/v1/topics/{topic}-dlt/events?limit=400"), None) {
            letters.extend(answer["events"].as_array().cloned().unwrap_or_default());
        }
    }
    Ok(letters)
}

/// Rows of all Parquet files below a folder, from their footers.
fn parquet_rows(folder: &Path) -> Result<u64> {
    let mut rows = 0;
    for path in parquet_files(folder)? {
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(File::open(&path)?).with_context(|| path.display().to_string())?;
        rows += reader.metadata().file_metadata().num_rows() as u64;
    }
    Ok(rows)
}

fn parquet_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(parquet_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn show(summary: &Summary, dead: &[Value]) -> Result<()> {
    let Summary { sent, refused, stored, parquet_rows, filtered, dead_letters, .. } = summary;
    println!("\nWhat arrived");
    println!("  sent {sent} = stored {stored} + refused {refused}");
    println!("  stored {stored} = rows in Parquet {parquet_rows} + filtered {filtered} + dead letters {dead_letters}");
    println!("\nParquet in {}", summary.parquet.display());
    if let Some(first) = parquet_files(&summary.parquet.join("clicks"))?.first() {
        let mut reader = ParquetRecordBatchReaderBuilder::try_new(File::open(first)?)?.with_batch_size(5).build()?;
        if let Some(rows) = reader.next() {
            let rows = rows?;
            let few: Vec<usize> = ["ts", "user_id", "host", "path", "browser", "os", "amount"]
                .iter()
                .filter_map(|name| rows.schema().index_of(name).ok())
                .collect();
            println!("{}", pretty_format_batches(&[rows.project(&few)?])?);
        }
    }
    println!(
        "  read it: duckdb -c \"SELECT * FROM read_parquet('{}/clicks/**/*.parquet', union_by_name = true) LIMIT 5\"",
        summary.parquet.display()
    );
    if parquet_files(&summary.parquet.join("orders")).is_ok_and(|files| !files.is_empty()) {
        println!(
            "\nOf five orders the third failed: it was tried again twice, a second apart, and is a dead letter; the others are rows"
        );
    }
    println!("\nDead letters (the first of each reason)");
    let mut seen = std::collections::BTreeSet::new();
    for letter in dead {
        let headers = &letter["headers"];
        let reason = headers["inrush-dlt-reason"].as_str().unwrap_or("?").to_owned();
        let column = headers["inrush-dlt-column"].as_str().unwrap_or_default().to_owned();
        if seen.insert((reason.clone(), column.clone())) {
            let message = headers["kafka_dlt-exception-message"].as_str().unwrap_or_default();
            println!("  {reason:<17} {column:<9} {message}");
        }
    }
    println!("\nData and Parquet are kept in {}", summary.data.display());
    Ok(())
}
