//! The binary from outside: started, loaded, killed, restarted, counted.

mod faults;
mod frozen;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon; killed when dropped.
struct Daemon {
    child: Child,
    http: String,
    kafka: String,
    admin: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    /// Starts `inrush serve` on free ports and waits until it says that it is ready.
    fn start(folder: &Path, engine: &str) -> Daemon {
        Daemon::start_with(folder, engine, "low-disk = \"1MiB\"")
    }

    /// As [`Daemon::start`], with more lines for its config file.
    fn start_with(folder: &Path, engine: &str, more: &str) -> Daemon {
        let mut child = Daemon::spawn(folder, engine, more);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = Vec::new();
        let ready = loop {
            let line = lines.next().unwrap_or_else(|| panic!("the daemon ended: {seen:#?}")).unwrap();
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["fields"]["message"] == "inrush is ready" {
                break event;
            }
            seen.push(line);
        };
        // Somebody must read on, or the daemon would block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let address = |door: &str| ready["fields"][door].as_str().unwrap().to_owned();
        Daemon { http: address("http"), kafka: address("kafka"), admin: address("admin"), child }
    }

    /// Starts the daemon and kills it after a while, ready or not.
    fn start_and_kill(folder: &Path, engine: &str, after: Duration) {
        Daemon::start_and(folder, engine, |child| {
            std::thread::sleep(after);
            child.kill().unwrap();
        });
    }

    /// Starts the daemon without waiting until it is ready; `end` ends it.
    fn start_and(folder: &Path, engine: &str, end: impl FnOnce(&mut Child)) {
        let mut child = Daemon::spawn(folder, engine, "low-disk = \"1MiB\"");
        let stderr = child.stderr.take().unwrap();
        let reader = std::thread::spawn(move || BufReader::new(stderr).lines().for_each(drop));
        end(&mut child);
        child.wait().unwrap();
        reader.join().unwrap();
    }

    fn spawn(folder: &Path, engine: &str, more: &str) -> Child {
        let config = folder.join("inrush.toml");
        let shown = folder.display();
        let text = format!(
            "data = \"{shown}/data\"\nout = \"{shown}/out\"\npipelines = \"{shown}/pipelines\"\nhttp = \"127.0.0.1:0\"\nkafka = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nengine = \"{engine}\"\n{more}\n"
        );
        std::fs::write(&config, text).unwrap();
        // Long runs may name another build of the binary, a release one say.
        let binary = std::env::var_os("INRUSH_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_inrush").into());
        let mut command = Command::new(binary);
        // tests/mutants.sh takes the daemon's syncs away by this.
        if let Some(library) = std::env::var_os("INRUSH_PRELOAD") {
            command.env("LD_PRELOAD", library);
        }
        command
            .args(["serve", "--config"])
            .arg(&config)
            .env("INRUSH_LOG_FORMAT", "json")
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; says whether it ended well.
    fn terminate(mut self) -> bool {
        let kill = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        kill.success() && self.child.wait().unwrap().success()
    }
}

/// One request on a connection of its own; status and body.
fn call(address: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = String::from_utf8_lossy(&answer[..end]).split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or(std::io::ErrorKind::InvalidData)?, answer[end + 4..].to_vec()))
}

fn json(address: &str, method: &str, path: &str, body: &str) -> Value {
    let (_, answer) = call(address, method, path, "", body.as_bytes()).unwrap();
    serde_json::from_slice(&answer).unwrap_or_else(|_| panic!("{path}: {}", String::from_utf8_lossy(&answer)))
}

/// All values of a topic's first partition.
fn values(address: &str, topic: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut from = "start".to_owned();
    loop {
        let page = json(address, "GET", &format!("/v1/topics/{topic}/events?from={from}&limit=10000"), "");
        let events = page["events"].as_array().unwrap_or_else(|| panic!("{page}"));
        if events.is_empty() {
            return all;
        }
        all.extend(events.iter().map(|event| event["value"].clone()));
        from = page["next"].to_string();
    }
}

fn wait_for(what: &str, is_there: impl FnMut() -> bool) {
    wait_or(what, is_there, String::new);
}

/// As [`wait_for`]; `state` says what there is instead, when it was too long.
fn wait_or(what: &str, mut is_there: impl FnMut() -> bool, state: impl FnOnce() -> String) {
    let began = Instant::now();
    while !is_there() {
        if began.elapsed() > PATIENCE {
            panic!("waited too long for {what}: {}", state());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `n` of every row of every Parquet file below a folder.
fn parquet_numbers(folder: &Path) -> Vec<i64> {
    let mut numbers = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                let file = std::fs::File::open(&path).unwrap();
                for rows in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
                    let rows = rows.unwrap();
                    let column = rows.column_by_name("n").unwrap();
                    let column = column.as_any().downcast_ref::<arrow::array::Int64Array>().unwrap();
                    numbers.extend(column.values().iter().copied());
                }
            }
        }
    }
    numbers.sort_unstable();
    numbers
}

#[test]
fn the_first_hour_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), "auto");
    let http = &daemon.http;
    let taken = json(http, "POST", "/v1/topics/hello/events", r#"{"event":"hello"}"#);
    assert_eq!((taken["taken"].as_u64(), taken["error"].is_null()), (Some(1), true));
    assert_eq!(values(http, "hello"), [serde_json::json!({ "event": "hello" })]);
    let mixed = json(http, "POST", "/v1/topics/hello/events", "{\"a\":1}\n{broken\n{\"a\":2}");
    assert_eq!(
        (mixed["taken"].as_u64(), mixed["quarantined"].as_u64(), mixed["bad"][0]["line"].as_u64()),
        (Some(2), Some(1), Some(2))
    );
    let dead = json(http, "GET", "/v1/topics/hello-dlt/events", "");
    assert_eq!(dead["events"][0]["value"], "{broken");
    assert_eq!(dead["events"][0]["headers"]["inrush-dlt-reason"], "not-json");
    let picture: Vec<u8> =
        [&[0xff, 0xd8, 0xff][..], &(0..200_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect::<Vec<_>>()]
            .concat();
    let (status, _) =
        call(http, "POST", "/v1/topics/camera/events?camera=front%20door", "content-type: image/jpeg\r\n", &picture)
            .unwrap();
    assert_eq!(status, 200);
    let stored = json(http, "GET", "/v1/topics/camera/events", "");
    assert_eq!(stored["events"][0]["headers"]["camera"], "front door");
    assert!(stored["events"][0]["value_base64"].is_string());
    let status =
        |method: &str, path: &str, headers: &str, body: &[u8]| call(http, method, path, headers, body).unwrap().0;
    assert_eq!(status("POST", "/v1/topics/a%2Fb/events", "", b"{}"), 400);
    assert_eq!(status("POST", "/v1/topics/hello/events", "", b""), 400);
    assert_eq!(status("GET", "/v1/topics/none/events", "", b""), 404);
    assert_eq!(status("POST", "/v1/topics/new/events", "origin: https://evil.example\r\n", b"{}"), 404);
    assert_eq!(status("GET", "/v1/topics", "origin: https://evil.example\r\n", b""), 403);
    let (_, metrics) = call(&daemon.admin, "GET", "/metrics", "", b"").unwrap();
    assert!(
        String::from_utf8_lossy(&metrics).contains("inrush_server_http_events_total 4"),
        "{}",
        String::from_utf8_lossy(&metrics)
    );
    assert_eq!(call(&daemon.admin, "GET", "/readyz", "", b"").unwrap().0, 200);
    assert!(daemon.terminate());
}

#[test]
fn a_reload_swaps_a_pipeline_and_a_broken_file_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let pipelines = folder.path().join("pipelines");
    std::fs::create_dir(&pipelines).unwrap();
    let file = pipelines.join("numbers.toml");
    let text = "from = \"topic:numbers\"\nselect = \"n\"\nto = { parquet = \"numbers\", roll = \"100ms\" }\n[columns]\nn = \"int64\"\n";
    std::fs::write(&file, text).unwrap();
    let daemon = Daemon::start(folder.path(), "auto");
    json(&daemon.http, "POST", "/v1/topics/numbers/events", "{\"n\":1}\n{\"n\":2}");
    let out = folder.path().join("out/numbers");
    wait_for("the first rows", || parquet_numbers(&out) == [1, 2]);
    std::fs::write(&file, text.replace("select = \"n\"", "select = \"m\"")).unwrap();
    let answer = json(&daemon.admin, "POST", "/api/pipelines/reload", "");
    assert_eq!(answer[0]["ok"], false, "{answer}");
    assert!(answer[0]["message"].as_str().unwrap().contains("numbers.toml:2:11"), "{answer}");
    json(&daemon.http, "POST", "/v1/topics/numbers/events", "{\"n\":3}");
    wait_for("the old pipeline", || parquet_numbers(&out) == [1, 2, 3]);
    std::fs::write(&file, text.replace("select = \"n\"", "select = \"n * 100 as n\"")).unwrap();
    assert_eq!(json(&daemon.admin, "POST", "/api/pipelines/reload", "")[0]["ok"], true);
    json(&daemon.http, "POST", "/v1/topics/numbers/events", "{\"n\":4}");
    wait_for("the new pipeline", || parquet_numbers(&out) == [1, 2, 3, 400]);
    assert!(daemon.terminate());
}

#[test]
fn a_file_is_proposed_out_of_a_topic_and_runs_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let pipelines = folder.path().join("pipelines");
    std::fs::create_dir(&pipelines).unwrap();
    let daemon = Daemon::start(folder.path(), "auto");
    let events: String = (1..=50)
        .map(|n| format!("{{\"n\":{n},\"ts\":\"2026-01-02T03:04:{n:02}Z\",\"page\":{{\"url\":\"/{n}\"}}}}\n"))
        .collect();
    json(&daemon.http, "POST", "/v1/topics/numbers/events", &events);
    let file = pipelines.join("numbers.toml");
    let new = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inrush"));
        command.args(["pipeline", "new", "numbers", "--from", "topic:numbers", "--samples", "20", "--json"]);
        command.args(["--http", &daemon.http, "--output"]).arg(&file).output().unwrap()
    };
    let made = new();
    let found: Value = serde_json::from_slice(&made.stdout).unwrap_or_else(|_| panic!("{made:?}"));
    assert_eq!((found["samples"].as_u64(), found["fields"].as_array().unwrap().len()), (Some(20), 3), "{found}");
    assert_eq!(found["fields"][2]["column"], "page_url");
    assert!(!new().status.success(), "it is there already");
    let tested = Command::new(env!("CARGO_BIN_EXE_inrush")).args(["pipeline", "test"]).arg(&file).output().unwrap();
    assert!(tested.status.success(), "{tested:?}");
    let text = std::fs::read_to_string(&file).unwrap().replace("5m or 128MiB", "100ms");
    std::fs::write(&file, text).unwrap();
    assert_eq!(json(&daemon.admin, "POST", "/api/pipelines/reload", "")[0]["ok"], true);
    let out = folder.path().join("out/numbers");
    wait_for("all rows", || parquet_numbers(&out) == (1..=50).collect::<Vec<_>>());
    assert!(daemon.terminate());
}
