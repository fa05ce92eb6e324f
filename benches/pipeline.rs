//! JSON in the zstd log → where and select → Parquet: how many bytes of JSON a second, at which memory.
//!
//! `generate FOLDER [EVENTS]` makes the log (one partition, zstd batches of 1 MiB) and the same events as `events.ndjson`;
//! `json`, `decode`, `transform`, `all FOLDER` measure one stage more each and print one line of JSON: JSON into Arrow alone, with zstd and
//! the records cut out of their batches before it, with `where` and `select` behind it, with Parquet. `arrow-json FOLDER` is what arrow's
//! own reader does where `json` stands, of the same records.
//! Cores are what the process may use: `taskset -c 0`. `benches/pipeline.sh` runs it in turn with DuckDB.

use anyhow::{Context, bail};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::json::ReaderBuilder;
use inrush::clock::Clock;
use inrush::control::Control;
use inrush::disk::{DirectIo, EngineChoice};
use inrush::record::{Batch, BatchBuilder, Codec, DECODED_SIZE_MAX, NewRecord, Offset, PartitionId, Record, TopicName};
use inrush::store::{Append, NewTopic, Store};
use inrush::work::Pool;
use inrush::{store, stream};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EVENTS: usize = 500_000;
/// Uncompressed bytes of a batch.
const BATCH_SIZE: usize = 1 << 20;

/// Rows that are decoded together.
const ROWS: usize = 8_192;
/// Rounds of the stages that keep nothing.
const ROUNDS: usize = 5;

const COLUMNS: &str = r#"
[columns]
event_id   = { path = "/eventId", type = "string" }
event_type = { path = "/type", type = "string" }
ts         = "timestamp"
user_id    = { path = "/userId", type = "string" }
session_id = { path = "/sessionId", type = "string" }
sequence   = "int64"
url        = { path = "/page/url", type = "string" }
title      = { path = "/page/title", type = "string" }
referrer   = { path = "/page/referrer", type = "string" }
user_agent = { path = "/userAgent", type = "string" }
ip         = "string"
country    = "string"
locale     = "string"
timezone   = "string"
device     = "string"
width      = { path = "/viewport/width", type = "int32" }
height     = { path = "/viewport/height", type = "int32" }
price      = { path = "/props/price", type = "float64" }
quantity   = { path = "/props/quantity", type = "int32" }
currency   = { path = "/props/currency", type = "string" }
position   = { path = "/props/position", type = "int32" }
experiment = { path = "/props/experiment", type = "string" }
logged_in  = { path = "/props/loggedIn", type = "bool" }
"#;
const WHERE: &str = "where = \"user_agent NOT LIKE '%bot%' AND user_agent NOT LIKE '%Bot%'\"";
const SELECT: &str = "select = \"event_id, event_type, ts, user_id, session_id, sequence, url, title, referrer, user_agent, ip, country, locale, device, width, height, price * quantity as amount, currency, position, experiment, logged_in\"";

fn main() -> anyhow::Result<()> {
    inrush::work::without_huge_pages();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["generate", folder] => generate(Path::new(folder), EVENTS),
        ["generate", folder, events] => generate(Path::new(folder), events.parse()?),
        [stage @ ("json" | "arrow-json" | "decode" | "transform" | "all"), folder] => measure(stage, Path::new(folder)),
        // `cargo bench` alone: a small run of everything.
        [] => {
            let folder = tempfile::tempdir()?;
            generate(folder.path(), EVENTS / 10)?;
            ["arrow-json", "json", "decode", "transform", "all"]
                .iter()
                .try_for_each(|stage| measure(stage, folder.path()))
        }
        _ => bail!("usage: pipeline generate FOLDER [EVENTS] | json|arrow-json|decode|transform|all FOLDER"),
    }
}

fn open(folder: &Path) -> anyhow::Result<Store> {
    let data = folder.join("data");
    fs::create_dir_all(&data)?;
    let disk = inrush::disk::open(&data, EngineChoice::Auto, DirectIo::Auto)?;
    let options = store::Options {
        data,
        writers: 1,
        reader_threads: 1,
        tail_cache_bytes: 1 << 20,
        low_disk_bytes: Some(64 << 20),
        checkpoint_interval: Duration::from_secs(1),
    };
    Ok(Store::open(options, disk, Clock::System)?)
}

fn generate(folder: &Path, events: usize) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let store = open(folder)?;
    let config = vec![("max.message.bytes".to_owned(), (2 * BATCH_SIZE).to_string())];
    let name = TopicName::new("events")?;
    let topic = runtime.block_on(store.create_topic(NewTopic { name, partitions: 1, config }))?;
    let partition = topic.partition(PartitionId(0)).context("the topic has a partition")?;
    let mut file = std::io::BufWriter::new(fs::File::create(folder.join("events.ndjson"))?);
    let mut events_of = Events { random: fastrand::Rng::with_seed(7), now_ms: 1_767_323_045_000, made: 0 };
    let (mut builder, mut size, mut text) = (BatchBuilder::new(), 0, String::new());
    for number in 0..events {
        events_of.next(&mut text);
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        size += text.len();
        builder.push(NewRecord { timestamp: events_of.now_ms, key: None, value: Some(text.as_bytes()), headers: &[] });
        if builder.size() >= BATCH_SIZE || number + 1 == events {
            let batch = std::mem::take(&mut builder).build(Codec::Zstd)?;
            partition.append_blocking(Append { batch, lease: None, leader_epoch: -1 })?;
        }
    }
    file.flush()?;
    runtime.block_on(store.close(Duration::from_secs(30)))?;
    fs::write(folder.join("size"), size.to_string())?;
    println!("{{\"events\":{events},\"json_bytes\":{size}}}");
    Ok(())
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

fn measure(stage: &str, folder: &Path) -> anyhow::Result<()> {
    let json_bytes: f64 = fs::read_to_string(folder.join("size"))?.trim().parse()?;
    let work = tempfile::tempdir_in(folder)?;
    let (filter, select) = if matches!(stage, "transform" | "all") { (WHERE, SELECT) } else { ("", "") };
    let text = format!("from = \"topic:events\"\n{filter}\n{select}\nto = {{ parquet = \"events\" }}\n{COLUMNS}");
    let pipeline = work.path().join("events.toml");
    fs::write(&pipeline, text)?;
    let store = open(folder)?;
    let runtime = runtime()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (rows, seconds, cpu) = match stage {
        "all" => {
            let (control, _requests) = Control::new();
            let options = stream::Options {
                store: store.clone(),
                control,
                clock: Clock::System,
                folder: work.path().to_owned(),
                out: work.path().to_owned(),
                data: work.path().to_owned(),
                runtime: runtime.handle().clone(),
            };
            let (began, cpu) = (Instant::now(), cpu_seconds());
            let rows = stream::drain(options, &pipeline).map_err(anyhow::Error::msg)?;
            let done = (rows, began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
            keep(folder, work.path())?;
            done
        }
        "json" => {
            let pieces = pieces(&batches(&store)?)?;
            median(|| stream::decode(&pipeline, &pieces).map_err(|mistakes| anyhow::anyhow!("{}", mistakes[0])))?
        }
        "arrow-json" => {
            let pieces = pieces(&batches(&store)?)?;
            median(|| arrow_json(&pieces))?
        }
        _ => {
            let batches = batches(&store)?;
            let pool = Arc::new(if cores == 1 { Pool::without_threads() } else { Pool::start(cores - 1, "rows")? });
            median(|| {
                let counts = stream::transform(&pipeline, &pool, &batches);
                let counts = counts.map_err(|mistakes| anyhow::anyhow!("{}", mistakes[0]))?;
                Ok(counts.rows)
            })?
        }
    };
    runtime.block_on(store.close(Duration::from_secs(30)))?;
    println!(
        "{{\"stage\":\"{stage}\",\"cores\":{cores},\"rows\":{rows},\"seconds\":{seconds:.3},\"mb_per_s\":{:.1},\"cpu_s_per_gb\":{:.2},\"peak_rss_mb\":{:.0}}}",
        json_bytes / seconds / 1e6,
        cpu / json_bytes * 1e9,
        peak_rss_mb()
    );
    Ok(())
}

/// Rows, seconds and CPU seconds of the median of some rounds; what the first one costs, new memory, is not what is measured.
fn median(mut round: impl FnMut() -> anyhow::Result<u64>) -> anyhow::Result<(u64, f64, f64)> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (began, cpu) = (Instant::now(), cpu_seconds());
        let rows = round()?;
        rounds.push((rows, began.elapsed().as_secs_f64(), cpu_seconds() - cpu));
    }
    rounds.sort_by(|a, b| a.1.total_cmp(&b.1));
    Ok(rounds[ROUNDS / 2])
}

fn batches(store: &Store) -> anyhow::Result<Vec<Batch>> {
    let topic = store.topic("events").context("run generate first")?;
    let partition = topic.partition(PartitionId(0)).context("the topic has a partition")?;
    let (mut batches, mut next) = (Vec::new(), Offset(0));
    while next < partition.tail() {
        let slice = partition.read_blocking(next, 4 << 20)?;
        next = slice.batches.last().context("a batch below the tail")?.next_offset();
        batches.extend(slice.batches);
    }
    Ok(batches)
}

/// Their records, as many together as rows of either decoder.
fn pieces(batches: &[Batch]) -> anyhow::Result<Vec<Vec<Record>>> {
    let mut pieces = vec![Vec::with_capacity(ROWS)];
    for batch in batches {
        for record in batch.records(DECODED_SIZE_MAX)? {
            if pieces.last().is_none_or(|piece| piece.len() == ROWS) {
                pieces.push(Vec::with_capacity(ROWS));
            }
            pieces.last_mut().context("there is one")?.push(record);
        }
    }
    Ok(pieces)
}

/// Arrow's own reader over the same columns, nested as they are in the JSON; gives the rows.
fn arrow_json(pieces: &[Vec<Record>]) -> anyhow::Result<u64> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let int = |name: &str| Field::new(name, DataType::Int32, true);
    let inner = |name: &str, fields: Vec<Field>| Field::new_struct(name, fields, true);
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let fields = vec![
        text("eventId"),
        text("type"),
        Field::new("ts", time, true),
        text("userId"),
        text("sessionId"),
        Field::new("sequence", DataType::Int64, true),
        inner("page", vec![text("url"), text("title"), text("referrer")]),
        text("userAgent"),
        text("ip"),
        text("country"),
        text("locale"),
        text("timezone"),
        text("device"),
        inner("viewport", vec![int("width"), int("height")]),
        inner(
            "props",
            vec![
                Field::new("price", DataType::Float64, true),
                int("quantity"),
                text("currency"),
                int("position"),
                text("experiment"),
                Field::new("loggedIn", DataType::Boolean, true),
            ],
        ),
    ];
    let mut decoder = ReaderBuilder::new(Arc::new(Schema::new(fields))).with_batch_size(ROWS).build_decoder()?;
    let mut rows = 0;
    for record in pieces.iter().flatten() {
        let mut value = record.value.as_deref().unwrap_or_default();
        loop {
            value = &value[decoder.decode(value)?..];
            if value.is_empty() {
                break;
            }
            rows += decoder.flush()?.map_or(0, |rows| rows.num_rows() as u64);
        }
    }
    Ok(rows + decoder.flush()?.map_or(0, |rows| rows.num_rows() as u64))
}

/// Moves the Parquet files to `FOLDER/parquet`, for a look at them.
fn keep(folder: &Path, work: &Path) -> anyhow::Result<()> {
    let kept = folder.join("parquet");
    fs::create_dir_all(&kept)?;
    for old in fs::read_dir(&kept)? {
        fs::remove_file(old?.path())?;
    }
    let is_parquet = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "parquet");
    for path in fs::read_dir(work.join("events"))?.filter_map(|entry| Some(entry.ok()?.path())).filter(is_parquet) {
        let name = path.file_name().context("a file has a name")?;
        fs::rename(&path, kept.join(name))?;
    }
    Ok(())
}

fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    // utime and stime, in the hundredths of a second that Linux gives all programs.
    (ticks(11) + ticks(12)) / 100.0
}

fn peak_rss_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0.0);
    kib * 1024.0 / 1e6
}

const AGENTS: [&str; 12] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:126.0) Gecko/20100101 Firefox/126.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Safari/537.36 Edg/125.0.0.0",
    "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 13; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
];
const ROBOTS_FROM: usize = 9;
const PATHS: [&str; 8] = [
    "/",
    "/shoes",
    "/shoes/trail-runner-9",
    "/bags/daypack-20l",
    "/cart",
    "/search",
    "/account/orders",
    "/sale/summer",
];
const COUNTRIES: [(&str, &str, &str); 8] = [
    ("DE", "de-DE", "Europe/Berlin"),
    ("GB", "en-GB", "Europe/London"),
    ("FR", "fr-FR", "Europe/Paris"),
    ("US", "en-US", "America/New_York"),
    ("IN", "hi-IN", "Asia/Kolkata"),
    ("BR", "pt-BR", "America/Sao_Paulo"),
    ("JP", "ja-JP", "Asia/Tokyo"),
    ("NG", "en-NG", "Africa/Lagos"),
];

/// Clicks of 25 leaf values and about 666 bytes.
struct Events {
    random: fastrand::Rng,
    now_ms: i64,
    made: u64,
}

impl Events {
    fn next(&mut self, out: &mut String) {
        use std::fmt::Write;
        let random = &mut self.random;
        self.made += 1;
        self.now_ms += random.i64(0..4);
        let time = chrono::DateTime::from_timestamp_millis(self.now_ms).unwrap_or_default();
        let is_robot = random.u32(..100) < 6;
        let agent =
            AGENTS[if is_robot { random.usize(ROBOTS_FROM..AGENTS.len()) } else { random.usize(..ROBOTS_FROM) }];
        let (country, locale, zone) = COUNTRIES[random.usize(..COUNTRIES.len())];
        let path = PATHS[random.usize(..PATHS.len())];
        let user = random.u32(..100_000);
        let campaign = if random.bool() { "?utm_source=newsletter&utm_campaign=spring" } else { "" };
        let referrer = ["", "https://www.google.com/", "https://news.example/today"][random.usize(..3)];
        out.clear();
        let written = write!(
            out,
            r#"{{"eventId":"{:016x}{:016x}","type":"{}","ts":"{}","userId":"u{user}","sessionId":"s{:08x}","sequence":{},"page":{{"url":"https://shop.example{path}{campaign}","title":"Shop {path}","referrer":"{referrer}"}},"userAgent":"{agent}","ip":"203.0.{}.{}","country":"{country}","locale":"{locale}","timezone":"{zone}","device":"{}","viewport":{{"width":{},"height":{}}},"props":{{"price":{}.{:02},"quantity":{},"currency":"EUR","position":{},"experiment":"{}","loggedIn":{}}},"sdk":"js-3.2.{}","consent":true}}"#,
            random.u64(..),
            random.u64(..),
            ["view", "click", "add", "buy"][random.usize(..4)],
            time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            user.wrapping_mul(2_654_435_761),
            self.made,
            random.u8(..),
            random.u8(..),
            ["desktop", "phone", "tablet"][random.usize(..3)],
            360 + 8 * random.i32(0..200),
            640 + 8 * random.i32(0..60),
            random.u32(1..200),
            random.u32(..100),
            random.i32(1..5),
            random.i32(0..40),
            ["checkout-a", "checkout-b", "none"][random.usize(..3)],
            random.bool(),
            random.u8(..10),
        );
        written.expect("text takes everything");
    }
}
