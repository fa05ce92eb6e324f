//! A data folder whose files were changed behind the log's back: whatever is in them, a start ends, and a read gives a record that was
//! appended or an error.

use crate::clock::Clock;
use crate::disk::Disk;
use crate::disk::sim::Sim;
use crate::record::{Batch, BatchBuilder, Codec, NewRecord, Offset, PartitionId, Producer, TopicName};
use crate::store::{Append, NewTopic, Options, Store};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

const DATA: &str = "/data";
const BATCHES: u64 = 60;
/// An edit of the input: position (3 bytes), what to do, byte.
const EDIT_SIZE: usize = 5;
const EDITS_MAX: usize = 16;
/// A file that is longer is not made longer: sixteen times doubled, a segment is a gigabyte, which takes its time.
const SIZE_MAX: usize = 1 << 20;
const DEADLINE: Duration = Duration::from_secs(60);

/// Files of a right folder: one topic, several segments, a producer; not stopped cleanly.
static FILES: LazyLock<Vec<(PathBuf, Vec<u8>)>> = LazyLock::new(|| {
    let sim = Sim::new(1);
    let store = open(&sim).expect("an empty folder opens");
    let config = vec![("segment.bytes".to_owned(), "16384".to_owned())];
    let new = NewTopic { name: TopicName::new("t").expect("a good name"), partitions: 1, config };
    wait(store.create_topic(new)).expect("a topic is made");
    let topic = store.topic("t").expect("it was just made");
    let partition = topic.partition(PartitionId(0)).expect("it has one partition");
    for n in 0..BATCHES {
        let append = Append { batch: batch(n), lease: None, leader_epoch: -1 };
        partition.append_blocking(append).expect("the simulated disk takes it");
    }
    wait(store.close(DEADLINE)).expect("nothing failed");
    let mut files = Vec::new();
    collect(&sim, Path::new(DATA), &mut files);
    files
});

fn open(sim: &Sim) -> Result<Store, crate::store::Error> {
    let options = Options {
        data: DATA.into(),
        writers: 1,
        reader_threads: 1,
        tail_cache_bytes: 0,
        low_disk_bytes: Some(0),
        checkpoint_interval: Duration::from_secs(1),
    };
    Store::open(options, sim.disk(), Clock::manual(1_000))
}

fn batch(n: u64) -> Batch {
    let mut builder = BatchBuilder::new();
    let mut value = n.to_be_bytes().to_vec();
    value.resize(700, n as u8);
    builder.push(NewRecord { timestamp: n as i64, key: None, value: Some(&value), headers: &[] });
    if n.is_multiple_of(2) {
        builder.producer(Producer { id: 5, epoch: 0, base_sequence: (n / 2) as i32 });
    }
    builder.build(Codec::None).expect("a batch of one record")
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime without threads").block_on(future)
}

fn collect(sim: &Sim, folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for path in sim.list(folder).expect("the folder is there") {
        match sim.read_whole(&path, 1 << 26) {
            // Room for a full disk: its bytes mean nothing, and they are many.
            Ok(_) if path.ends_with("reserve") => files.push((path, Vec::new())),
            Ok(bytes) => files.push((path, bytes)),
            Err(_) => collect(sim, &path, files),
        }
    }
}

/// A file's number, then edits of it.
pub(super) fn damaged(bytes: &[u8]) {
    let Some((chosen, edits)) = super::split(bytes) else { return };
    let sim = Sim::new(2);
    for (at, (path, content)) in FILES.iter().enumerate() {
        let mut content = content.clone();
        if at == chosen % FILES.len() {
            edits.chunks_exact(EDIT_SIZE).take(EDITS_MAX).for_each(|edit| apply(&mut content, edit));
        }
        sim.create_folder(path.parent().expect("files lie in folders")).expect("the simulated disk takes folders");
        sim.replace(path, &content).expect("the simulated disk takes files");
    }
    // A folder that cannot be opened says so; that is all that is asked of it.
    let Ok(store) = open(&sim) else { return };
    if let Some(partition) = store.topic("t").and_then(|topic| topic.partition(PartitionId(0))) {
        let mut next = partition.start();
        while next < partition.tail() {
            let Ok(slice) = partition.read_blocking(next, 10_000) else { break };
            let Some(last) = slice.batches.last() else { break };
            let last = last.next_offset();
            assert!(last > next, "a read does not move on");
            slice.batches.iter().for_each(judge);
            next = last;
        }
        // Its last offset is taken or refused; a new record never lands on an old one.
        let append = Append { batch: batch(BATCHES), lease: None, leader_epoch: -1 };
        if let Ok(appended) = partition.append_blocking(append) {
            assert!(
                appended.is_duplicate || appended.base_offset >= next,
                "offset {} is given twice",
                appended.base_offset
            );
        }
    }
    // Partitions hold their store and the store its topics: without them it ends.
    let _ = wait(store.delete_topic(&TopicName::new("t").expect("a good name")));
    let _ = wait(store.close(DEADLINE));
}

fn apply(content: &mut Vec<u8>, edit: &[u8]) {
    let position = usize::from(edit[0]) << 16 | usize::from(edit[1]) << 8 | usize::from(edit[2]);
    if content.is_empty() {
        return content.push(edit[4]);
    }
    let position = position % content.len();
    match edit[3] % 8 {
        0 => content.truncate(position),
        1 => content.insert(position, edit[4]),
        2 => drop(content.remove(position)),
        3 if content.len() <= SIZE_MAX => content.extend_from_within(position..),
        3 => {}
        4 => content[position] ^= 1 << (edit[4] % 8),
        _ => content[position] = edit[4],
    }
}

/// A record that a read gives is one that was appended, where it was appended.
fn judge(batch: &Batch) {
    for record in batch.records(1 << 20).expect("a checked batch of ours can be read") {
        let value = record.value.expect("every record has a value");
        let number = u64::from_be_bytes(value[..8].try_into().expect("eight bytes"));
        assert_eq!(record.offset, Offset(number as i64), "a record stands where it was not appended");
    }
}
