//! What a commit over 1, 10, 100, 1,000 dirty partitions costs with the real writer: one batch of 4 KiB for each, until all are answered.
//!
//! `cargo bench --bench commits -- --folder DIR [--only WAY] [--json] [--beside]`. `--beside` writes 50 MB/s to another file of the same file system,
//! unsynced, as a pipeline does. Each way of syncing runs in turn. `the last` is what is shipped.

use inrush::clock::Clock;
use inrush::disk::{Allocate, DirectIo, EngineChoice, Tuning};
use inrush::record::{BatchBuilder, Codec, NewRecord, TopicName};
use inrush::store::{Append, NewTopic, Options, Store};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ALONE: Tuning = Tuning { syncs_by_ring: false, files_synced_singly_max: 0, space: None };
const BY_RING: Tuning = Tuning { syncs_by_ring: true, ..ALONE };
const AS_SHIPPED: Tuning = Tuning { files_synced_singly_max: 8, ..ALONE };
const WAYS: &[(&str, EngineChoice, DirectIo, Tuning)] = &[
    ("std, buffered, fdatasync", EngineChoice::Std, DirectIo::Off, ALONE),
    ("std, direct, fdatasync", EngineChoice::Std, DirectIo::On, ALONE),
    ("uring, buffered, fdatasync", EngineChoice::Uring, DirectIo::Off, ALONE),
    ("uring, direct, fdatasync", EngineChoice::Uring, DirectIo::On, ALONE),
    ("uring, direct, fsync by ring", EngineChoice::Uring, DirectIo::On, BY_RING),
    ("uring, direct, syncfs above 8", EngineChoice::Uring, DirectIo::On, AS_SHIPPED),
    ("the last, all space zeroed", EngineChoice::Uring, DirectIo::On, in_space(Allocate::Zeroed)),
    ("the last, all space unwritten", EngineChoice::Uring, DirectIo::On, in_space(Allocate::Unwritten)),
];

const fn in_space(how: Allocate) -> Tuning {
    Tuning { space: Some(how), ..AS_SHIPPED }
}

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn has(name: &str) -> bool {
    std::env::args().any(|argument| argument == name)
}

fn main() {
    let folder = PathBuf::from(argument("--folder").unwrap_or_else(|| "target/bench-commits".to_owned()));
    let is_json = has("--json");
    if !is_json {
        println!("{:<32} {:>6} {:>10} {:>10} {:>10}", "way", "dirty", "p50 ms", "p99 ms", "max ms");
    }
    let only = argument("--only").unwrap_or_default();
    for (name, engine, direct, tuning) in WAYS.iter().filter(|way| way.0.contains(&only)) {
        for dirty in [1, 10, 100, 1_000] {
            let mut ms = measure(&folder, *engine, *direct, *tuning, dirty);
            ms.sort_by(f64::total_cmp);
            let at = |share: f64| ms[((ms.len() - 1) as f64 * share) as usize];
            let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
            if is_json {
                println!("{}", serde_json::json!({ "way": name, "dirty": dirty, "p50_ms": p50, "p99_ms": p99 }));
            } else {
                println!("{name:<32} {dirty:>6} {p50:>10.2} {p99:>10.2} {max:>10.2}");
            }
        }
    }
}

fn measure(folder: &Path, engine: EngineChoice, direct: DirectIo, tuning: Tuning, dirty: i32) -> Vec<f64> {
    std::fs::create_dir_all(folder).expect("the folder can be made");
    let disk = inrush::disk::open_tuned(folder, engine, direct, tuning).expect("the disk can be opened");
    let options = Options {
        data: folder.to_owned(),
        writers: 1,
        reader_threads: 1,
        tail_cache_bytes: 64 << 20,
        low_disk_bytes: Some(0),
        checkpoint_interval: Duration::from_secs(1),
    };
    let store = Store::open(options, disk, Clock::System).expect("the store opens");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let name = TopicName::new("commits").expect("a topic name");
    let new = NewTopic { name: name.clone(), partitions: dirty, config: vec![] };
    let topic = runtime.block_on(store.create_topic(new)).expect("the topic is made");
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord { timestamp: 1, key: None, value: Some(&[7; 4_000]), headers: &[] });
    let batch = builder.build(Codec::None).expect("it has a record");
    let partitions = topic.partitions();
    let commit = || {
        let began = Instant::now();
        let append = || Append { batch: batch.clone(), lease: None, leader_epoch: -1 };
        let sent = partitions.iter().map(|partition| partition.try_append(append()).map_err(|(_, error)| error));
        let answers: Vec<_> = sent.map(|answer| answer.expect("the queue has room")).collect();
        for answer in answers {
            answer.blocking_recv().expect("the writer answers").expect("it is stored");
        }
        began.elapsed().as_secs_f64() * 1e3
    };
    // Until space was made ahead everywhere.
    for _ in 0..5 {
        commit();
    }
    let is_done = AtomicBool::new(false);
    let ms = std::thread::scope(|scope| {
        if has("--beside") {
            scope.spawn(|| write_beside(&folder.join("beside"), &is_done));
        }
        let rounds = (4_000 / dirty).clamp(30, 300);
        let ms = (0..rounds).map(|_| commit()).collect();
        is_done.store(true, Ordering::Relaxed);
        ms
    });
    runtime.block_on(store.delete_topic(&name)).expect("the topic is deleted");
    runtime.block_on(store.close(Duration::from_secs(60))).expect("the store closes");
    ms
}

/// 50 MB/s through the page cache, as a pipeline's Parquet.
fn write_beside(path: &Path, is_done: &AtomicBool) {
    let mut file = std::fs::File::create(path).expect("a file can be made");
    let piece = vec![7; 1 << 20];
    while !is_done.load(Ordering::Relaxed) {
        file.write_all(&piece).expect("there is room");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::fs::remove_file(path).expect("it is there");
}
