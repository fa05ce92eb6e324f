//! Log append alone: batches of one size into one fresh partition, each answered after its sync. `benches/append.sh` runs fio beside it.
//!
//! `cargo bench --bench append -- --folder DIR [--mib 2048] [--batch 1048576] [--depth 2] [--json]`. With two appends in flight each round
//! still carries one batch: the second waits while the first is at the disk.

use inrush::clock::Clock;
use inrush::disk::{DirectIo, EngineChoice};
use inrush::record::{BatchBuilder, Codec, NewRecord, Offset, PartitionId, TopicName};
use inrush::store::{Append, AppendError, Appended, NewTopic, Options, Store};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Answer = tokio::sync::oneshot::Receiver<Result<Appended, AppendError>>;

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}

fn number(name: &str, default: usize) -> usize {
    argument(name).map_or(default, |text| text.parse().expect("a number follows"))
}

fn main() {
    let folder = PathBuf::from(argument("--folder").unwrap_or_else(|| "target/bench-append".to_owned()));
    let (total, size, depth) = (number("--mib", 2048) << 20, number("--batch", 1 << 20), number("--depth", 2));
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let disk = inrush::disk::open(&folder, EngineChoice::Auto, DirectIo::Auto).expect("the disk can be opened");
    let set_up = disk.describe();
    let options = Options {
        data: folder,
        writers: 1,
        reader_threads: 1,
        tail_cache_bytes: 64 << 20,
        low_disk_bytes: Some(0),
        checkpoint_interval: Duration::from_secs(1),
    };
    let store = Store::open(options, disk, Clock::System).expect("the store opens");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let name = TopicName::new("append").expect("a topic name");
    let config = vec![("max.message.bytes".to_owned(), (size + 4096).to_string())];
    let topic = runtime.block_on(store.create_topic(NewTopic { name: name.clone(), partitions: 1, config }));
    let partition = topic.expect("the topic is made").partition(PartitionId(0)).expect("it has a partition");
    let mut random = fastrand::Rng::with_seed(7);
    let value: Vec<u8> = (0..size - 100).map(|_| random.u8(..)).collect();
    let mut builder = BatchBuilder::new();
    builder.push(NewRecord { timestamp: 1, key: None, value: Some(&value), headers: &[] });
    let batch = builder.build(Codec::None).expect("it has a record");
    let count = total / size;
    let mut waiting: VecDeque<(Answer, Instant)> = VecDeque::with_capacity(depth);
    let mut taken = Vec::with_capacity(count);
    let began = Instant::now();
    for n in 0..count + depth {
        if n >= depth {
            let (answer, sent) = waiting.pop_front().expect("depth");
            answer.blocking_recv().expect("the writer answers").expect("it is stored");
            taken.push(sent.elapsed());
        }
        if n < count {
            // A copy of its own, as a door hands it over.
            let batch = batch.stamped(Offset(0), 0);
            let append = Append { batch, lease: None, leader_epoch: -1 };
            let answer = partition.try_append(append).map_err(|(_, error)| error).expect("the queue has room");
            waiting.push_back((answer, Instant::now()));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    taken.sort();
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let rate = (count * batch.size()) as f64 / seconds / 1e6;
    runtime.block_on(store.delete_topic(&name)).expect("the topic is deleted");
    runtime.block_on(store.close(Duration::from_secs(30))).expect("the store closes");
    if std::env::args().any(|argument| argument == "--json") {
        let (p50, p99) = (at(0.5), at(0.99));
        println!("{}", serde_json::json!({ "mb_per_s": rate, "p50_ms": p50, "p99_ms": p99, "set_up": set_up }));
    } else {
        println!("{set_up}\n{count} batches of {} bytes, {depth} in flight, fsync each round", batch.size());
        println!("{rate:.0} MB/s, answered in p50 {:.2} ms, p99 {:.2} ms", at(0.5), at(0.99));
    }
}
