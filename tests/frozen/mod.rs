//! Data folders as the first version of their format left them at a clean stop: every later version reads them and goes on from them.
//! Never make one again; what a new version writes otherwise gets a folder of its own. Format 3 is format 2 with quotas, or with segments
//! that were compacted.

use super::{Daemon, json, values, wait_for};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Events of the topic `clicks`, of which the pipeline `copy` copied all but one without an id.
const CLICKS: u64 = 841;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn log(data: &Path, arguments: &[&str]) -> String {
    let binary = env!("CARGO_BIN_EXE_inrush");
    let ran = Command::new(binary).arg("log").args(arguments).arg("--data").arg(data).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).unwrap()
}

fn records(address: &str, topic: &str) -> u64 {
    let topics = json(address, "GET", "/v1/topics", "");
    let of = topics.as_array().unwrap().iter().find(|known| known["name"] == topic);
    of.unwrap_or_else(|| panic!("{topics}"))["records"].as_u64().unwrap()
}

#[test]
fn a_folder_of_format_2_is_read_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen/format-2"), folder.path());
    let data = folder.path().join("data");
    let verified = log(&data, &["verify", "--deep"]);
    assert!(verified.contains("7 partitions, all good"), "{verified}");
    // Two records of each codec, from an idempotent producer each.
    let dumped = log(&data, &["dump", "raw/0", "--records", "--json"]);
    let lines: Vec<Value> = dumped.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let codecs: Vec<_> = lines.iter().filter_map(|line| line["codec"].as_str()).collect();
    assert_eq!(codecs, ["none", "gzip", "snappy", "lz4", "zstd"], "{dumped}");
    let found: Vec<_> = lines.iter().filter_map(|line| line["value"].as_str()).collect();
    // Too short to be worth a codec, or else it would have been given one.
    let text = |codec, word| format!("{codec} {word} {}", "x".repeat(if codec == "none" { 0 } else { 100 }));
    let expected: Vec<_> = codecs.iter().flat_map(|codec| ["one", "two"].map(|word| text(*codec, word))).collect();
    assert_eq!(found, expected, "{dumped}");

    let daemon = Daemon::start(folder.path(), "auto");
    assert_eq!((records(&daemon.http, "clicks"), records(&daemon.http, "clicks-dlt")), (CLICKS, 1));
    let topics = json(&daemon.http, "GET", "/v1/topics", "");
    assert!(topics.as_array().unwrap().iter().all(|topic| topic["name"] != "passing"), "deleted: {topics}");
    // The pipeline stands where it stood: it copies what is new, and nothing twice.
    let before = records(&daemon.http, "copied");
    assert_eq!(before, CLICKS - 1);
    let taken = json(&daemon.http, "POST", "/v1/topics/clicks/events", "{\"id\":\"new\",\"n\":-1}");
    assert_eq!(taken["taken"], 1, "{taken}");
    wait_for("the new event's copy", || records(&daemon.http, "copied") > before);
    assert_eq!(records(&daemon.http, "copied"), before + 1);
    let first: BTreeSet<_> = values(&daemon.http, "clicks").iter().filter_map(|value| value["n"].as_i64()).collect();
    assert!(first.len() as u64 > CLICKS / 3, "{}", first.len());
    assert!(daemon.terminate());
}

#[test]
fn a_folder_of_format_3_keeps_its_quotas() {
    let folder = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen/format-3-quotas"), folder.path());
    assert!(log(&folder.path().join("data"), &["verify", "--deep"]).contains("1 partitions, all good"));
    let quotas = |daemon: &Daemon| -> Value {
        let binary = env!("CARGO_BIN_EXE_inrush");
        let listed = Command::new(binary).args(["quota", "list", "--json", "--kafka", &daemon.kafka]).output().unwrap();
        assert!(listed.status.success(), "{listed:?}");
        serde_json::from_slice(&listed.stdout).unwrap()
    };
    let expected = serde_json::json!([
        { "entity": { "client-id": "loud" }, "quotas": { "producer_byte_rate": 1048576.0, "consumer_byte_rate": 2097152.0 } },
        { "entity": { "user": null }, "quotas": { "producer_byte_rate": 9007199254740992.0 } },
        { "entity": { "client-id": null, "user": "alice" }, "quotas": { "consumer_byte_rate": 3000000.0 } },
        { "entity": { "ip": "2001:db8::1" }, "quotas": { "connection_creation_rate": 20.0 } },
    ]);
    for _ in 0..2 {
        let daemon = Daemon::start(folder.path(), "auto");
        assert_eq!(records(&daemon.http, "clicks"), 1);
        assert_eq!(quotas(&daemon), expected);
        assert!(daemon.terminate());
    }
}

/// Offsets that are left below the clean point of `latest/0`; above it every one is there.
const LEFT: [i64; 10] = [103, 114, 128, 130, 135, 137, 140, 141, 142, 143];
const CLEAN_POINT: i64 = 144;
const END: i64 = 192;

#[test]
fn a_compacted_folder_of_format_3_is_read_with_its_holes_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen/format-3-compacted"), folder.path());
    std::fs::create_dir(folder.path().join("pipelines")).unwrap();
    let data = folder.path().join("data");
    let verified = log(&data, &["verify", "--deep"]);
    assert!(verified.contains("1 partitions, all good"), "{verified}");
    let expected: Vec<i64> = LEFT.into_iter().chain(CLEAN_POINT..END).collect();
    let dumped = log(&data, &["dump", "latest/0", "--records", "--json"]);
    let lines: Vec<Value> = dumped.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let offsets: Vec<i64> = lines.iter().filter_map(|line| line["offset"].as_i64()).collect();
    assert_eq!(offsets, expected);
    // Batches that are kept for their producers' sequences, tombstones with their time.
    let batches = || lines.iter().filter(|line| line["codec"].is_string());
    assert_eq!(batches().filter(|batch| batch["count"] == 0).count(), 8);
    assert_eq!(batches().filter(|batch| batch["delete_horizon"].is_i64()).count(), 2);

    let daemon = Daemon::start(folder.path(), "auto");
    for from in [0, 50, 104, 131] {
        let page = json(&daemon.http, "GET", &format!("/v1/topics/latest/events?from={from}&limit=10000"), "");
        let found = page["events"].as_array().unwrap().iter().map(|event| event["offset"].as_i64().unwrap());
        assert!(found.eq(expected.iter().copied().filter(|offset| *offset >= from)), "{page}");
    }
    assert!(daemon.terminate());
}
