//! Pipelines against a real store, killed at every step of a cut, refused by their sink, hung, reloaded: each record ends in one row, or
//! filtered, or one dead letter.

mod away;
mod changed;
mod clocks;
mod formats;
mod many;
mod outputs;
mod remembered;
mod replays;
mod routes;
mod silence;
mod steering;
mod stores;
mod tables;
mod taps;
mod twice;
mod windows;

use super::checkpoint::Checkpoint;
use super::hooks::{Hooks, Step};
use super::life::{Life, Seat};
use super::load::{self, Job};
use super::sink::WriteError;
use super::{Options, runner, supervisor};
use crate::clock::Clock;
use crate::control::{Answer, Command, Control, PipelineStatus, ResetTo, State};
use crate::disk::sim::Sim;
use crate::record::{BatchBuilder, Codec, NewRecord, Offset, PartitionId, Record, TopicName};
use crate::store::{Append, NewTopic, Store, Topic};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(240);
const TO_PARQUET: &str = "{ parquet = \"out\", roll = \"100ms\", partition = \"k=%M\", time = \"_timestamp\" }";
const TO_TOPIC: &str = "{ topic = \"out\", key = \"user\" }";

/// A store, a folder for output, and the pipelines of a test.
struct Bench {
    store: Store,
    folder: tempfile::TempDir,
    options: Arc<Options>,
    hooks: Hooks,
    seat: Arc<Seat>,
    runtime: tokio::runtime::Runtime,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Its threads and its simulated disk would stay till the tests end. A poisoned one cannot be closed well.
        let _ = self.runtime.block_on(self.store.close(Duration::from_secs(10)));
    }
}

/// A pipeline's thread.
struct Runs {
    life: Arc<Life>,
    thread: JoinHandle<Result<(), String>>,
}

impl Bench {
    fn new() -> Bench {
        let sim = Sim::new(7);
        let options = crate::store::Options {
            data: "/data".into(),
            writers: 1,
            reader_threads: 1,
            tail_cache_bytes: 1 << 20,
            low_disk_bytes: Some(0),
            checkpoint_interval: Duration::from_millis(5),
        };
        let store = Store::open(options, sim.disk(), Clock::System).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (control, _) = Control::new();
        let options = Options {
            store: store.clone(),
            control,
            clock: Clock::System,
            folder: folder.path().join("pipelines"),
            out: folder.path().join("out"),
            data: folder.path().join("data"),
            runtime: runtime.handle().clone(),
        };
        Bench { store, folder, options: Arc::new(options), hooks: Hooks::default(), seat: Arc::default(), runtime }
    }

    fn topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) -> Arc<Topic> {
        let config = config.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let new = NewTopic { name: TopicName::new(name).unwrap(), partitions, config };
        self.runtime.block_on(self.store.create_topic(new)).unwrap()
    }

    /// Appends `{"n":…}` for each number, those that are multiples of ten broken, in batches of three; returns when they are durable.
    fn send(&self, topic: &Topic, partition: i32, numbers: std::ops::Range<i64>) {
        let numbers: Vec<i64> = numbers.collect();
        for some in numbers.chunks(3) {
            let mut builder = BatchBuilder::new();
            for n in some {
                let value = match n % 10 {
                    0 => format!("{{\"n\":\"bad {n}\",\"user\":\"u{}\"}}", n % 7),
                    _ => format!("{{\"n\":{n},\"user\":\"u{}\"}}", n % 7),
                };
                let headers: [(&[u8], Option<&[u8]>); 2] =
                    [(b"h", Some(b"kept")), (b"inrush-source", Some(b"of another"))];
                let timestamp = 1_700_000_000_000 + (n % 4) * 60_000;
                builder.push(NewRecord {
                    timestamp,
                    key: Some(b"key"),
                    value: Some(value.as_bytes()),
                    headers: &headers,
                });
            }
            let batch = builder.build(Codec::Zstd).unwrap();
            let home = topic.partition(PartitionId(partition)).unwrap();
            home.append_blocking(Append { batch, lease: None, leader_epoch: -1 }).unwrap();
        }
    }

    fn job(&self, text: &str) -> Job {
        load::text(Path::new("p.toml"), text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
    }

    fn run(&self, job: &Job) -> Runs {
        let life = Life::begin(&self.seat).unwrap();
        let (options, job, own, hooks) = (self.options.clone(), job.clone(), life.clone(), self.hooks.clone());
        Runs { life, thread: std::thread::spawn(move || runner::run(&options, &job, &own, &hooks, false)) }
    }

    fn reload(&self, control: &Control) -> Answer {
        self.runtime.block_on(control.ask(Command::Reload { pipeline: None, drop_state: false })).unwrap()
    }

    fn status(&self) -> Option<PipelineStatus> {
        self.options.control.statuses().into_iter().find(|status| status.name == "p")
    }

    /// Runs a pipeline until it stands durably at the end of its topic, starting it again after each planned crash; then stops it.
    fn finish(&self, job: &Job) {
        let mut runs = self.run(job);
        let ends = || -> BTreeMap<i32, i64> {
            let topic = self.store.topic(job.spec.from.as_str()).unwrap();
            topic.partitions().iter().map(|partition| (partition.id().0, partition.tail().0)).collect()
        };
        let path = runner::checkpoint_path(&self.options, "p");
        let is_there = |runs: &mut Runs| {
            if runs.thread.is_finished() {
                let before = std::mem::replace(runs, self.run(job));
                assert!(before.thread.join().is_err(), "it ended by itself");
            }
            let source = self.store.topic(job.spec.from.as_str()).unwrap().id;
            let is_done = |checkpoint: Checkpoint| {
                (checkpoint.topic, &checkpoint.text) == (Some(source), &job.spec.text)
                    && checkpoint.committed() == ends()
            };
            // Without the last: a run that was started after a crash could be stopped before it finished the renames.
            Checkpoint::load(&path).unwrap().is_some_and(is_done) && !has_staged(self.folder.path())
        };
        loop {
            wait_for("the pipeline", || is_there(&mut runs));
            // The planned crash may fall into the very last step.
            match runs.end() {
                Ok(()) => return,
                Err(_) => runs = self.run(job),
            }
        }
    }

    fn records(&self, topic: &str) -> Vec<Record> {
        let topic = self.store.topic(topic).unwrap();
        let mut all = Vec::new();
        for partition in topic.partitions().iter() {
            let mut next = partition.start();
            while next < partition.tail() {
                for batch in partition.read_blocking(next, 1 << 20).unwrap().batches {
                    all.extend(batch.records(8 << 20).unwrap());
                    next = batch.next_offset();
                }
            }
        }
        all
    }

    /// `n` of every row of an output, sorted.
    fn rows(&self, to: &str) -> Vec<i64> {
        let mut rows = if to == TO_TOPIC {
            let number = |record: Record| {
                serde_json::from_slice::<serde_json::Value>(&record.value.unwrap()).unwrap()["n"].as_i64().unwrap()
            };
            self.records("out").into_iter().map(number).collect()
        } else {
            parquet_rows(&self.folder.path().join("out"))
        };
        rows.sort_unstable();
        rows
    }

    /// The number inside each dead letter, sorted.
    fn letters(&self, topic: &str) -> Vec<i64> {
        let number = |record: &Record| {
            let text = String::from_utf8_lossy(record.value.as_deref().unwrap()).into_owned();
            let digits: String =
                text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap()
        };
        let mut letters: Vec<i64> = self.records(topic).iter().map(number).collect();
        letters.sort_unstable();
        letters
    }
}

impl Runs {
    fn stop(self) {
        self.end().unwrap();
    }

    /// Stops it; says whether it crashed under that.
    fn end(self) -> std::thread::Result<()> {
        self.life.stop();
        self.thread.thread().unpark();
        self.thread.join().map(|ended| ended.unwrap())
    }
}

/// Whether a file waits for its name.
fn has_staged(folder: &Path) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().any(|entry| {
        // A file may get its name while the folder is read.
        let Ok(path) = entry.map(|entry| entry.path()) else { return true };
        path.extension().is_some_and(|extension| extension == "open") || path.is_dir() && has_staged(&path)
    })
}

fn parquet_rows(folder: &Path) -> Vec<i64> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            numbers.extend(parquet_rows(&path));
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            let file = std::fs::File::open(&path).unwrap();
            for rows in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
                numbers.extend(rows.unwrap().column_by_name("n").unwrap().as_primitive::<Int64Type>().values());
            }
        }
    }
    numbers
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_there() {
        assert!(began.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn text(to: &str, more: &str) -> String {
    format!(
        "from = \"topic:in\"\nselect = \"n, user\"\nto = {to}\n{more}\n[columns]\nn = \"int64\"\nuser = \"string\"\n"
    )
}

fn good(numbers: std::ops::Range<i64>) -> Vec<i64> {
    numbers.filter(|n| n % 10 != 0).collect()
}

fn bad(numbers: std::ops::Range<i64>) -> Vec<i64> {
    numbers.filter(|n| n % 10 == 0).collect()
}

#[test]
fn a_crash_at_any_step_leaves_each_record_in_one_row_or_one_dead_letter() {
    for to in [TO_PARQUET, TO_TOPIC] {
        for step in [Step::Appended, Step::Written, Step::Lettered, Step::Staged, Step::Saved, Step::Renamed] {
            if to == TO_TOPIC && step == Step::Renamed {
                continue;
            }
            for nth in 1..=3 {
                let bench = Bench::new();
                let source = bench.topic("in", 2, &[]);
                bench.topic("out", 3, &[]);
                let job = bench.job(&text(to, ""));
                bench.send(&source, 0, 1..60);
                bench.send(&source, 1, 100..160);
                bench.hooks.crash_at(step, nth);
                bench.finish(&job);
                bench.send(&source, 0, 60..90);
                bench.send(&source, 1, 160..190);
                bench.finish(&job);
                if nth == 1 {
                    assert!(bench.hooks.has_crashed(), "{to}: {step:?} was never reached");
                }
                let (rows, letters) = (bench.rows(to), bench.letters("in-dlt"));
                assert_eq!(rows, [good(1..90), good(100..190)].concat(), "{to}: rows after a crash at {step:?} {nth}");
                assert_eq!(letters, [bad(1..90), bad(100..190)].concat(), "{to}: letters after {step:?} {nth}");
            }
        }
    }
}

#[test]
fn rows_in_a_topic_carry_key_headers_and_the_mark_of_their_source() {
    let bench = Bench::new();
    let source = bench.topic("in", 2, &[]);
    bench.send(&source, 1, 1..9);
    let job = bench.job(&text(TO_TOPIC, ""));
    bench.finish(&job);
    let out = bench.store.topic("out").unwrap();
    assert_eq!(out.partition_count(), 2, "made with the source's partitions");
    let checkpoint = Checkpoint::load(&runner::checkpoint_path(&bench.options, "p")).unwrap().unwrap();
    let mut marks = 0;
    for partition in out.partitions().iter().filter(|partition| partition.tail() > Offset(0)) {
        for batch in partition.read_blocking(Offset(0), 1 << 20).unwrap().batches {
            assert_eq!(
                batch.header().producer.unwrap().id,
                checkpoint.outputs["topic out"].topic.as_ref().unwrap().producer
            );
            let records = batch.records(1 << 20).unwrap();
            for (at, record) in records.iter().enumerate() {
                let value: serde_json::Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
                assert_eq!(record.key.as_deref(), value["user"].as_str().map(str::as_bytes));
                assert_eq!(record.timestamp, 1_700_000_000_000 + value["n"].as_i64().unwrap() % 4 * 60_000);
                assert_eq!(record.headers[0], ("h".into(), Some("kept".into())));
                let is_last = at + 1 == records.len();
                assert_eq!(record.headers.len(), 1 + usize::from(is_last), "a mark was copied, or one is missing");
                if is_last {
                    let next = value["n"].as_i64().unwrap();
                    let mark = format!("{} {} 1 {next}", checkpoint.id, source.id);
                    assert_eq!(record.headers[1], ("inrush-source".into(), Some(mark.into())));
                    marks += 1;
                }
            }
        }
    }
    assert!(marks >= 2, "one batch by output partition at least");
}

#[test]
fn of_five_events_the_third_fails_is_tried_again_and_buried_and_the_others_follow() {
    // (more of the file, whether the sink is what refuses)
    let cases = [
        ("on-error = { backoff = \"40ms\" }", true),
        ("on-error = { retry = { times = 2, of = \"all\" }, backoff = \"40ms\" }", false),
    ];
    for (more, sink_refuses) in cases {
        let bench = Bench::new();
        let source = bench.topic("in", 1, &[]);
        // 8 9 10 11 12: ten is broken. With a sink that refuses, all of 1..6 are good and the third is not wanted.
        let numbers = if sink_refuses { 1..6 } else { 8..13 };
        bench.send(&source, 0, numbers.clone());
        let calls = Arc::new(Mutex::new(Vec::<(Instant, Vec<i64>)>::new()));
        let seen = calls.clone();
        bench.hooks.sink(move |_, _, offsets| {
            seen.lock().unwrap().push((Instant::now(), offsets.to_vec()));
            match sink_refuses && offsets.contains(&2) {
                true => Err(WriteError::Refused { offset: 2, message: "not now".to_owned() }),
                false => Ok(()),
            }
        });
        bench.finish(&bench.job(&text(TO_TOPIC, more)));
        let order: Vec<i64> = bench.records("out").iter().map(|record| record.timestamp).collect();
        assert_eq!(order.len(), 4);
        let buried = numbers.clone().nth(2).unwrap();
        assert_eq!(bench.rows(TO_TOPIC), numbers.filter(|n| *n != buried).collect::<Vec<_>>());
        assert_eq!(bench.letters("in-dlt"), [buried], "buried once");
        assert_eq!(bench.status().unwrap().retries, 2, "two attempts after the first");
        if sink_refuses {
            let calls = calls.lock().unwrap();
            let attempts: Vec<Instant> =
                calls.iter().filter(|(_, offsets)| offsets.contains(&2)).map(|(at, _)| *at).collect();
            assert_eq!(attempts.len(), 3, "one attempt and two more: {calls:?}");
            assert!(attempts.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(40)), "{attempts:?}");
            let first = calls.iter().position(|(_, offsets)| offsets == &[0, 1]).expect("1 and 2 are written at once");
            let last = calls.iter().position(|(_, offsets)| offsets == &[3, 4]).expect("4 and 5 follow");
            assert!(first < 2 && last > calls.iter().rposition(|(_, offsets)| offsets.contains(&2)).unwrap());
        }
        let letter = &bench.records("in-dlt")[0];
        let header = |name: &str| {
            let found = letter.headers.iter().rev().find(|(known, _)| known.as_ref() == name.as_bytes());
            found.map(|(_, value)| String::from_utf8_lossy(value.as_deref().unwrap()).into_owned())
        };
        let reason = if sink_refuses { "sink-refused" } else { "wrong-type" };
        assert_eq!(header("inrush-dlt-reason").as_deref(), Some(reason));
        assert_eq!(header("inrush-dlt-output").as_deref(), Some("topic out"));
        assert_eq!(header("kafka_dlt-original-topic").as_deref(), Some("in"));
        assert_eq!(header("kafka_dlt-original-timestamp-type").as_deref(), Some("CreateTime"));
        assert_eq!(header("kafka_dlt-original-consumer-group").is_some(), sink_refuses);
        assert_eq!(header("h").as_deref(), Some("kept"));
    }
}

#[test]
fn another_partition_goes_on_while_one_waits() {
    let bench = Bench::new();
    let source = bench.topic("in", 2, &[]);
    bench.send(&source, 0, 1..4);
    bench.send(&source, 1, 11..19);
    let job = bench.job(&text(TO_TOPIC, "on-error = { retry = 100, backoff = \"5m\" }"));
    bench.hooks.sink(|_, _, offsets| match offsets {
        [0, 1, 2] => Err(WriteError::Refused { offset: 1, message: "not now".to_owned() }),
        _ => Ok(()),
    });
    let runs = bench.run(&job);
    wait_for("the other partition", || bench.store.topic("out").is_some() && bench.rows(TO_TOPIC).len() == 9);
    assert_eq!(bench.rows(TO_TOPIC), [&[1][..], &good(11..19)].concat(), "what stands before the refused one is done");
    runs.stop();
}

#[test]
fn an_output_that_is_down_is_tried_for_ever_and_nothing_is_buried() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..9);
    let tries = Arc::new(Mutex::new(0));
    let counted = tries.clone();
    bench.hooks.sink(move |_, _, _| {
        let mut tries = counted.lock().unwrap();
        *tries += 1;
        if *tries <= 2 { Err(WriteError::Down("no connection".to_owned())) } else { Ok(()) }
    });
    let job = bench.job(&text(TO_PARQUET, ""));
    let runs = bench.run(&job);
    wait_for("the stall", || bench.status().is_some_and(|status| status.state == State::Stalled));
    let stalled = bench.status().unwrap();
    assert!(stalled.reason.unwrap().contains("no connection"));
    wait_for("the rows", || parquet_rows(&bench.folder.path().join("out")).len() == 8);
    runs.stop();
    assert_eq!(*tries.lock().unwrap(), 3);
    assert_eq!(bench.rows(TO_PARQUET), good(1..9));
    assert!(bench.records("in-dlt").is_empty(), "something was buried");
    assert_eq!(bench.status().unwrap().stalls, 2);
}

#[test]
fn a_record_too_large_for_the_output_topic_is_a_dead_letter() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.topic("out", 1, &[("max.message.bytes", "2000")]);
    let mut random = fastrand::Rng::with_seed(3);
    let noise: String = (0..4_000).map(|_| random.alphanumeric()).collect();
    let values = [
        r#"{"n":1,"user":"a"}"#.to_owned(),
        format!("{{\"n\":2,\"user\":\"{noise}\"}}"),
        format!("{{\"n\":3,\"user\":\"{}\"}}", "x".repeat(9_000)),
    ];
    let mut builder = BatchBuilder::new();
    for value in &values {
        builder.push(NewRecord { timestamp: 5, key: None, value: Some(value.as_bytes()), headers: &[] });
    }
    let batch = builder.build(Codec::Zstd).unwrap();
    source.partition(PartitionId(0)).unwrap().append_blocking(Append { batch, lease: None, leader_epoch: -1 }).unwrap();
    bench.finish(&bench.job(&text(TO_TOPIC, "")));
    assert_eq!(bench.rows(TO_TOPIC), [1, 3], "what fits compressed is written");
    let letters = bench.records("in-dlt");
    assert_eq!(letters.len(), 1);
    let has =
        |name: &str, value: &str| letters[0].headers.contains(&(name.to_owned().into(), Some(value.to_owned().into())));
    assert!(has("inrush-dlt-reason", "too-large") && has("inrush-dlt-step", "to"), "{letters:?}");
    assert_eq!(
        bench.store.topic("in-dlt").unwrap().config().max_message_bytes,
        source.config().max_message_bytes + (64 << 10)
    );
}

#[test]
fn a_second_pass_adds_where_it_came_from_and_replaces_why() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 10..11);
    bench.finish(&bench.job(&text(TO_TOPIC, "")));
    let again = text(TO_PARQUET, "on-error = { then = \"topic:second\" }").replace("topic:in", "topic:in-dlt");
    bench.finish(&bench.job(&again));
    let letters = bench.records("second");
    assert_eq!(letters.len(), 1);
    let all = |name: &str| -> Vec<String> {
        let named = letters[0].headers.iter().filter(|(known, _)| known.as_ref() == name.as_bytes());
        named.map(|(_, value)| String::from_utf8_lossy(value.as_deref().unwrap()).into_owned()).collect()
    };
    assert_eq!(all("kafka_dlt-original-topic"), ["in", "in-dlt"], "the first is the origin");
    assert_eq!((all("kafka_dlt-exception-fqcn").len(), all("inrush-dlt-reason").len()), (1, 1));
    assert_eq!(all("inrush-dlt-output"), ["parquet out"]);
}

#[test]
fn a_changed_text_begins_where_the_old_ones_outputs_end() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.topic("out", 4, &[]);
    let old = bench.job(&text(TO_TOPIC, ""));
    bench.send(&source, 0, 1..30);
    // Rows and letters are out, no checkpoint tells of them.
    bench.hooks.crash_at(Step::Lettered, 1);
    assert!(bench.run(&old).thread.join().is_err());
    let before = bench.records("out").len();
    assert!(before > 0);
    // The new text has other keys and other rows: were the same records made anew, they would stand twice.
    let new = bench.job(&text(TO_TOPIC, "").replace("select = \"n, user\"", "select = \"n, 'other' as user\""));
    bench.finish(&new);
    bench.send(&source, 0, 30..40);
    bench.finish(&new);
    assert_eq!(bench.rows(TO_TOPIC), good(1..40));
    assert_eq!(bench.letters("in-dlt"), bad(1..40));
    let others = bench.records("out").iter().filter(|record| record.key.as_deref() == Some(b"other")).count();
    assert_eq!(others, 9, "the new text is for new records");
}

#[test]
fn an_output_topic_that_grows_is_followed_at_the_next_cut() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    let out = bench.topic("out", 1, &[]);
    let job = bench.job(&text(TO_TOPIC, ""));
    bench.send(&source, 0, 1..30);
    bench.hooks.crash_at(Step::Lettered, 1);
    assert!(bench.run(&job).thread.join().is_err());
    bench.runtime.block_on(bench.store.add_partitions(&out.name, 4)).unwrap();
    bench.finish(&job);
    assert_eq!(bench.rows(TO_TOPIC), good(1..30), "the replay spread rows in another way");
    bench.send(&source, 0, 31..60);
    bench.finish(&job);
    assert_eq!(bench.rows(TO_TOPIC), good(1..60));
    assert!(out.partitions().iter().filter(|partition| partition.tail() > Offset(0)).count() > 1);
}

#[test]
fn growing_the_source_grows_its_dead_letters_first() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 10..11);
    let job = bench.job(&text(TO_PARQUET, ""));
    bench.finish(&job);
    bench.runtime.block_on(bench.store.add_partitions(&source.name, 3)).unwrap();
    assert_eq!(bench.store.topic("in-dlt").unwrap().partition_count(), 3);
    bench.send(&source, 2, 20..21);
    bench.finish(&job);
    let letters = bench.store.topic("in-dlt").unwrap().partition(PartitionId(2)).unwrap();
    assert_eq!(letters.tail(), Offset(1), "a letter has its record's partition number");
}

#[test]
fn records_that_left_the_log_are_told_and_the_pipeline_goes_on() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..9);
    let job = bench.job(&text(TO_PARQUET, ""));
    bench.finish(&job);
    bench.send(&source, 0, 11..19);
    let partition = source.partition(PartitionId(0)).unwrap();
    bench.runtime.block_on(partition.delete_below(Offset(12))).unwrap();
    bench.finish(&job);
    assert_eq!(bench.rows(TO_PARQUET), [good(1..9), good(15..19)].concat());
    let warnings = bench.status().unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("4 records (8 to 11) of in/0")), "{warnings:?}");
}

#[test]
fn a_position_beyond_the_end_goes_on_at_the_end() {
    for to in [TO_PARQUET, TO_TOPIC] {
        let bench = Bench::new();
        let source = bench.topic("in", 1, &[]);
        bench.send(&source, 0, 1..9);
        let job = bench.job(&text(to, ""));
        bench.finish(&job);
        // As if the log had lost its end: the checkpoint is further than the log.
        let path = runner::checkpoint_path(&bench.options, "p");
        let mut checkpoint = Checkpoint::load(&path).unwrap().unwrap();
        checkpoint.positions.insert(0, 500);
        for output in checkpoint.outputs.values_mut() {
            output.positions.insert(0, 500);
        }
        checkpoint.save(&path).unwrap();
        bench.send(&source, 0, 11..19);
        // What is there now counts as read: which of it is what was lost nobody can say.
        bench.finish(&job);
        bench.send(&source, 0, 21..29);
        bench.finish(&job);
        assert_eq!(bench.rows(to), [good(1..9), good(21..29)].concat(), "{to}");
        assert_eq!(Checkpoint::load(&path).unwrap().unwrap().generation, 1);
    }
}

#[test]
fn a_pipeline_stops_when_nearly_everything_dies() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    let job = bench.job(&text(TO_PARQUET, "on-error = { breaker = \"50% of 4\" }"));
    for n in [1, 10, 20, 2, 30] {
        bench.send(&source, 0, n..n + 1);
    }
    let runs = bench.run(&job);
    let reason = runs.thread.join().unwrap().unwrap_err();
    assert!(reason.contains("became dead letters") && reason.contains("50% of 4"), "{reason}");
    assert_eq!(
        (bench.rows(TO_PARQUET), bench.letters("in-dlt")),
        (vec![1, 2], vec![10, 20, 30]),
        "what was done is kept"
    );
}

#[test]
fn a_foreign_folder_a_foreign_file_and_a_changed_column_stall() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..9);
    bench.finish(&bench.job(&text(TO_PARQUET, "")));
    let stalls = |text: &str, because: &str| {
        bench.send(&source, 0, 11..12);
        let runs = bench.run(&bench.job(text));
        wait_for(because, || {
            bench.status().is_some_and(|status| {
                status.state == State::Stalled && status.reason.is_some_and(|reason| reason.contains(because))
            })
        });
        runs.stop();
    };
    stalls(&text(TO_PARQUET, "").replace("n, user", "cast(n as varchar) as n, user"), "may only grow");
    stalls(&text(TO_PARQUET, "").replace("n, user", "n"), "arrow_cast(NULL, 'Utf8') as user");
    std::fs::remove_dir_all(bench.folder.path().join("data/pipelines/p")).unwrap();
    stalls(&text(TO_PARQUET, ""), "adopt = \"p\"");
    // Adopted, with the lost column left empty, it goes on in a new generation.
    let adopting = text(TO_PARQUET, "")
        .replace("roll", "adopt = \"p\", roll")
        .replace("n, user", "n, arrow_cast(NULL, 'Utf8') as user");
    bench.finish(&bench.job(&adopting));
    let checkpoint = Checkpoint::load(&runner::checkpoint_path(&bench.options, "p")).unwrap().unwrap();
    assert_eq!(checkpoint.outputs["parquet out"].generation, 1);
}

#[test]
fn footers_tell_schema_and_offsets() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..9);
    bench.finish(&bench.job(&text("{ parquet = \"out\", roll = \"100ms\" }", "")));
    let file = std::fs::read_dir(bench.folder.path().join("out/out")).unwrap().map(|entry| entry.unwrap().path());
    let file = file.filter(|path| path.is_file()).min().unwrap();
    assert!(file.file_name().unwrap().to_string_lossy().starts_with("p-0-0-0.parquet"), "{file:?}");
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap()).unwrap();
    let footer = reader.metadata().file_metadata().key_value_metadata().unwrap().clone();
    let value = |key: &str| footer.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
    assert_eq!(value("inrush.schema-version").as_deref(), Some("1"));
    assert!(value("inrush.offsets").unwrap().starts_with("0:0.."), "{footer:?}");
}

#[test]
fn a_broken_file_leaves_the_old_pipeline_and_says_so() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    let folder = bench.options.folder.clone();
    std::fs::create_dir_all(&folder).unwrap();
    let right = text("{ parquet = \"out\", roll = \"100ms\" }", "");
    std::fs::write(folder.join("p.toml"), &right).unwrap();
    let (control, running) = bench.supervised();
    let reload = || bench.reload(&control).remove(0).1;
    let warnings = || control.statuses().first().map(|status| status.warnings.clone()).unwrap_or_default();
    bench.send(&source, 0, 1..9);
    wait_for("the rows", || parquet_rows(&bench.folder.path().join("out")).len() == 8);
    for (wrong, because) in
        [(right.replace("n, user", "m"), "p.toml:2"), (right.replace("n, user", "user"), "may only grow")]
    {
        std::fs::write(folder.join("p.toml"), wrong).unwrap();
        let refused = reload().unwrap_err();
        assert!(refused.contains(because) && refused.contains("the old one goes on"), "{refused}");
        wait_for("the note", || warnings().iter().any(|warning| warning.contains(because)));
    }
    bench.send(&source, 0, 11..19);
    wait_for("more rows", || parquet_rows(&bench.folder.path().join("out")).len() == 16);
    std::fs::write(folder.join("p.toml"), &right).unwrap();
    assert_eq!(reload(), Ok("unchanged".to_owned()));
    wait_for("the note to go", || warnings().is_empty());
    std::fs::write(folder.join("p.toml"), right.replace("n, user", "n * 100 as n, user")).unwrap();
    assert_eq!(reload(), Ok("swapped".to_owned()));
    bench.send(&source, 0, 21..22);
    wait_for("the new text", || parquet_rows(&bench.folder.path().join("out")).contains(&2100));
    let moved = bench.runtime.block_on(control.ask(Command::Reset {
        pipeline: "p".to_owned(),
        partition: None,
        to: ResetTo::Start,
    }));
    assert!(moved.unwrap()[0].1.is_ok());
    wait_for("everything once more", || parquet_rows(&bench.folder.path().join("out")).len() == 17 + 17);
    running.stop(PATIENCE);
}

#[test]
fn a_file_that_was_never_right_leaves_with_its_file_and_a_folder_may_come_later() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    let folder = bench.options.folder.clone();
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("bad.toml"), "from = 1").unwrap();
    std::fs::write(folder.join("p.toml"), text("{ parquet = \"out\", roll = \"100ms\" }", "")).unwrap();
    // A file where the lake is to be mounted.
    let out = bench.folder.path().join("out");
    std::fs::create_dir_all(out.parent().unwrap()).unwrap();
    std::fs::write(&out, "").unwrap();
    let (control, running) = bench.supervised();
    let state = |name: &str| control.statuses().iter().find(|status| status.name == name).map(|status| status.state);
    wait_for("the broken file", || state("bad") == Some(State::Failed));
    std::fs::remove_file(folder.join("bad.toml")).unwrap();
    let answer = bench.reload(&control);
    assert!(answer.iter().any(|(name, done)| name == "bad" && done.is_ok()), "{answer:?}");
    assert_eq!(state("bad"), None);
    bench.send(&source, 0, 1..9);
    wait_for("the stall", || state("p") == Some(State::Stalled));
    std::fs::remove_file(&out).unwrap();
    wait_for("the rows", || parquet_rows(&out).len() == 8);
    running.stop(PATIENCE);
}
