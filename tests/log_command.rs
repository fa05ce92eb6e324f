//! Black box: `inrush log verify|dump|repair` on a folder of real files: what it prints, and its exit codes.

use inrush::clock::Clock;
use inrush::record::{BatchBuilder, Codec, NewRecord, PartitionId, TopicName};
use inrush::store::{Append, NewTopic, Options, Store};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

fn run(data: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_inrush")).arg("log").args(arguments).arg("--data").arg(data).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A closed folder with topic `clicks`, 20 records in 10 batches, and the path of its one segment.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let kept = tempfile::tempdir().unwrap();
    let options = Options {
        data: kept.path().to_owned(),
        writers: 1,
        reader_threads: 1,
        tail_cache_bytes: 1 << 20,
        low_disk_bytes: Some(0),
        checkpoint_interval: Duration::from_secs(1),
    };
    let store = Store::open(options, inrush::disk::plain(), Clock::System).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let new = NewTopic { name: TopicName::new("clicks").unwrap(), partitions: 1, config: vec![] };
    let topic = runtime.block_on(store.create_topic(new)).unwrap();
    let partition = topic.partition(PartitionId(0)).unwrap();
    for n in 0..10 {
        let mut builder = BatchBuilder::new();
        for half in 0..2 {
            let value = format!("{{\"n\":{}}}", n * 2 + half);
            builder.push(NewRecord { timestamp: 7, key: None, value: Some(value.as_bytes()), headers: &[] });
        }
        let batch = builder.build(Codec::None).unwrap();
        partition.append_blocking(Append { batch, lease: None, leader_epoch: -1 }).unwrap();
    }
    runtime.block_on(store.close(Duration::from_secs(10))).unwrap();
    let segment = kept.path().join(format!("topics/clicks/{}/0/{:020}.log", topic.id, 0));
    (kept, segment)
}

#[test]
fn a_good_folder_is_told_good_and_its_records_are_printed() {
    let (kept, _) = folder();
    let (code, out, _) = run(kept.path(), &["verify", "--deep"]);
    assert!(code == 0 && out.contains("clicks/0") && out.contains("all good"), "{out}");
    let (code, out, _) = run(kept.path(), &["dump", "clicks/0", "--records", "--from", "5", "--json"]);
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, lines.len()), (0, 8 * 3));
    assert_eq!((&lines[0]["base_offset"], &lines[2]["value"]["n"]), (&4.into(), &5.into()));
    let (code, out, _) = run(kept.path(), &["repair", "clicks/0"]);
    assert!(code == 0 && out.contains("nothing to repair"), "{out}");
}

#[test]
fn a_damaged_folder_is_told_repaired_and_good_again() {
    let (kept, segment) = folder();
    let mut bytes = fs::read(&segment).unwrap();
    let size = bytes.len();
    bytes[size - 20] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let (code, out, _) = run(kept.path(), &["verify", "clicks"]);
    assert!(code == 1 && out.contains("DAMAGE"), "{out}");
    let (code, out, _) = run(kept.path(), &["verify", "--json"]);
    let report: serde_json::Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!((code, &report["end"]), (1, &18.into()));
    let (code, out, _) = run(kept.path(), &["repair", "clicks/0"]);
    assert!(code == 0 && out.contains("LOST: offsets 18 to 20"), "{out}");
    assert!(fs::read_dir(kept.path().join("lost+found")).unwrap().count() == 1);
    let (code, out, _) = run(kept.path(), &["verify"]);
    assert!(code == 0, "{out}");
}

#[test]
fn what_is_no_folder_or_no_partition_is_said() {
    let (kept, _) = folder();
    let (code, _, error) = run(&kept.path().join("topics"), &["verify"]);
    assert!(code == 1 && error.contains("no data folder"), "{error}");
    let (code, _, error) = run(kept.path(), &["dump", "clicks/9"]);
    assert!(code == 1 && error.contains("no partition clicks/9"), "{error}");
}
