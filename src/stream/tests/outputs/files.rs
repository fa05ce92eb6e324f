//! Files of JSON lines, and pictures beside the rows that point to them, through kills.

use super::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;

/// Files of a folder and those below it whose names end so.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let bytes = std::fs::read(path).unwrap();
    let mut text = String::new();
    match path.extension().unwrap().to_str().unwrap() {
        "zst" => text = String::from_utf8(zstd::decode_all(&bytes[..]).unwrap()).unwrap(),
        "gz" => drop(flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap()),
        _ => text = String::from_utf8(bytes).unwrap(),
    }
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn lines_in_files_are_there_once_after_a_crash_at_any_step() {
    let forms = [("zstd", ".ndjson.zst"), ("gzip", ".ndjson.gz"), ("none", ".ndjson")];
    for (at, step) in [Step::Written, Step::Lettered, Step::Staged, Step::Saved, Step::Renamed].into_iter().enumerate()
    {
        for nth in 1..=3 {
            let (compression, end) = forms[(at + nth) % forms.len()];
            let bench = Bench::new();
            let source = bench.topic("in", 2, &[]);
            let to = format!(
                "{{ files = \"out\", roll = \"100ms\", partition = \"k=%M\", time = \"_timestamp\", compression = \"{compression}\" }}"
            );
            let job = bench.job(&text(&to, ""));
            bench.send(&source, 0, 1..60);
            bench.send(&source, 1, 100..160);
            bench.hooks.crash_at(step, nth);
            bench.finish(&job);
            bench.send(&source, 0, 60..90);
            bench.finish(&job);
            assert!(bench.hooks.has_crashed() || nth > 1, "{step:?} was never reached");
            let found = files(&bench.options.out.join("out"), end);
            assert!(found.len() >= 4, "{found:?}");
            let rows = found.iter().flat_map(|path| lines(path));
            let mut numbers: Vec<i64> = rows.map(|row| row["n"].as_i64().unwrap()).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, [good(1..90), good(100..160)].concat(), "{compression} {step:?} {nth}");
            assert_eq!(bench.letters("in-dlt"), [bad(1..90), bad(100..160)].concat(), "{step:?} {nth}");
        }
    }
}

/// Appends pictures, of which every third is the same, one a record; `None` without a value.
fn send_pictures(bench: &Bench, topic: &Topic, numbers: std::ops::Range<u64>) {
    let _ = bench;
    for n in numbers {
        let picture = picture(n);
        let mut builder = BatchBuilder::new();
        builder.push(NewRecord { timestamp: 1_700_000_000_000, key: None, value: picture.as_deref(), headers: &[] });
        let batch = builder.build(Codec::None).unwrap();
        let home = topic.partition(PartitionId(0)).unwrap();
        home.append_blocking(Append { batch, lease: None, leader_epoch: -1 }).unwrap();
    }
}

fn picture(n: u64) -> Option<Vec<u8>> {
    match n % 10 {
        9 => None,
        _ if n.is_multiple_of(3) => Some(b"GIF89a the one that comes again and again".to_vec()),
        _ => Some(format!("\u{89}PNG picture {n} {}", "x".repeat(3_000)).into_bytes()),
    }
}

/// Each path names a file whose content has that name; gives the hashes.
fn hashes(out: &Path, paths: &[String]) -> Vec<String> {
    let hash = |path: &String| {
        let bytes = std::fs::read(out.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let hash = hex::encode(Sha256::digest(&bytes));
        assert!(path.starts_with(&format!("pictures/{}/{hash}.", &hash[..2])), "{path} has another content");
        hash
    };
    paths.iter().map(hash).collect()
}

fn paths_of(folder: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    for path in files(folder, ".parquet") {
        let file = std::fs::File::open(path).unwrap();
        for rows in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            let rows = rows.unwrap();
            let column = rows.column_by_name("picture_path").unwrap().as_string::<i32>();
            paths.extend(column.iter().map(|path| path.map_or("null".to_owned(), str::to_owned)));
        }
    }
    paths
}

#[test]
fn every_row_that_can_be_seen_points_to_a_whole_picture_whatever_was_killed() {
    const STORE: &str = "store = { column = \"picture\", folder = \"pictures\", as = \"picture_path\" }";
    for step in [Step::Appended, Step::Written, Step::Lettered, Step::Staged, Step::Saved, Step::Renamed] {
        for nth in [1, 2, 4] {
            let bench = Bench::new();
            let source = bench.topic("in", 1, &[]);
            let job = bench.job(&format!(
                "from = \"topic:in\"\nformat = \"raw\"\n[[step]]\nselect = \"_value as picture, _offset as at\"
[[route]]\nto = {{ parquet = \"seen\", roll = \"100ms\", {STORE} }}\n[[route]]\nto = {{ topic = \"out\", {STORE} }}\n"
            ));
            send_pictures(&bench, &source, 0..30);
            bench.hooks.crash_at(step, nth);
            let runs = bench.run(&job);
            wait_for("the crash or the end", || {
                runs.thread.is_finished() || bench.status().is_some_and(|status| status.lag_records == 0)
            });
            // What can be seen now is whole, though nothing was finished.
            let seen = paths_of(&bench.options.out.join("seen"));
            hashes(&bench.options.out, &seen.into_iter().filter(|path| path != "null").collect::<Vec<_>>());
            let _ = runs.end();
            send_pictures(&bench, &source, 30..50);
            bench.finish(&job);
            let mut wanted: Vec<String> = (0..50)
                .map(|n| picture(n).map_or("null".to_owned(), |bytes| hex::encode(Sha256::digest(&bytes))))
                .collect();
            wanted.sort();
            let in_topic = |record: Record| {
                let row: serde_json::Value = serde_json::from_slice(&record.value.unwrap()).unwrap();
                row["picture_path"].as_str().unwrap_or("null").to_owned()
            };
            let of_topic: Vec<String> = bench.records("out").into_iter().map(in_topic).collect();
            for paths in [paths_of(&bench.options.out.join("seen")), of_topic] {
                let (empty, full): (Vec<String>, Vec<String>) = paths.into_iter().partition(|path| path == "null");
                let mut found = [hashes(&bench.options.out, &full), empty].concat();
                found.sort();
                assert_eq!(found, wanted, "{step:?} {nth}");
            }
            let stored: BTreeSet<PathBuf> = files(&bench.options.out.join("pictures"), "").into_iter().collect();
            wanted.dedup();
            assert_eq!(stored.len(), wanted.len() - 1, "the same bytes are one file: {stored:?}");
        }
    }
}

#[test]
fn a_column_that_cannot_become_files_is_a_mistake() {
    let mistakes = |store: &str| {
        let text = format!(
            "from = \"topic:in\"\nselect = \"n, user\"\nto = {{ parquet = \"x\", store = {store} }}\n[columns]\nn = \"int64\"\nuser = \"string\"\n"
        );
        load::text(Path::new("p.toml"), &text).err().unwrap()[0].to_string()
    };
    assert!(mistakes("{ column = \"n\", folder = \"x\" }").contains("only bytes"));
    assert!(mistakes("{ column = \"m\", folder = \"x\" }").contains("no column of the output; known: n, user"));
    assert!(mistakes("{ column = \"n\" }").contains("say which bytes"));
    assert!(mistakes("{ column = \"n\", folder = \"../x\" }").contains("below the output folder"));
    let files = load::text(
        Path::new("p.toml"),
        "from = \"topic:in\"\nto = { files = \"x\", format = \"csv\", compression = \"xz\" }\n[columns]\nn = \"int64\"\n",
    );
    let files: Vec<String> = files.err().unwrap().iter().map(ToString::to_string).collect();
    assert!(files.iter().any(|line| line.contains("ndjson")) && files.iter().any(|line| line.contains("gzip")));
}

#[test]
fn a_replay_leaves_alone_what_the_live_run_has_half_stored() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.write(
        "from = \"topic:in\"\nformat = \"raw\"\nselect = \"_value as picture, _offset as at\"\nto = { parquet = \"seen\", roll = \"100ms\", store = { column = \"picture\", folder = \"pictures\", as = \"picture_path\" } }\n",
    );
    let daemon = bench.steered();
    send_pictures(&bench, &source, 0..30);
    daemon.settle(30);
    let staging =
        std::fs::read_dir(bench.options.out.join("pictures/_inrush")).unwrap().next().unwrap().unwrap().path();
    let half = staging.join("half.open");
    std::fs::write(&half, "GIF").unwrap();
    let (from, until) = (0, i64::MAX);
    let backfill = Command::Backfill { pipeline: "p".to_owned(), from, until, to: Vec::new(), is_sure: true };
    daemon.ask(backfill).unwrap();
    let told = daemon.ended();
    assert!(told.starts_with("done: 30 records") && half.exists(), "{told}");
    std::fs::remove_file(half).unwrap();
}
