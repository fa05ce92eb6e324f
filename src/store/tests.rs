//! The store against the simulated disk: what was answered is there after any crash, in order, once; and a disk that lies is noticed.

mod compaction;
mod faults;
mod many;
mod offline;
mod quotas;
mod reads;
mod start;

use super::*;
use crate::clock::Clock;
use crate::disk::sim::{Call, Fault, Lie, Sim};
use crate::record::{BatchBuilder, Codec, NewRecord, Producer};
use std::collections::BTreeMap;

fn options() -> Options {
    Options {
        data: "/data".into(),
        writers: 1,
        reader_threads: 1,
        tail_cache_bytes: 64 << 10,
        low_disk_bytes: Some(0),
        checkpoint_interval: Duration::from_millis(5),
    }
}

fn open(sim: &Sim) -> Store {
    Store::open(options(), sim.disk(), Clock::manual(1_000_000)).unwrap()
}

/// A store whose keeper does nothing by itself for the length of a test.
fn open_still(sim: &Sim) -> Store {
    let options = Options { checkpoint_interval: Duration::from_secs(3_600), ..options() };
    Store::open(options, sim.disk(), Clock::manual(1_000_000)).unwrap()
}

fn topic(store: &Store, name: &str, config: &[(&str, &str)]) -> Arc<Topic> {
    let config = config.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let new = NewTopic { name: TopicName::new(name).unwrap(), partitions: 1, config };
    wait(store.create_topic(new)).unwrap()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn partition(store: &Store, name: &str) -> Partition {
    store.topic(name).unwrap().partition(PartitionId(0)).unwrap()
}

fn batch(value: u64, count: usize, padding: usize, producer: Option<Producer>) -> Batch {
    let mut builder = BatchBuilder::new();
    for n in 0..count as u64 {
        let mut bytes = (value + n).to_be_bytes().to_vec();
        bytes.resize(8 + padding, 7);
        builder.push(NewRecord { timestamp: 1_000 + (value + n) as i64, key: None, value: Some(&bytes), headers: &[] });
    }
    if let Some(producer) = producer {
        builder.producer(producer);
    }
    builder.build(Codec::None).unwrap()
}

fn append(partition: &Partition, batch: Batch) -> Result<Appended, AppendError> {
    partition.append_blocking(Append { batch, lease: None, leader_epoch: -1 })
}

/// Waits until space was made ahead: its sync must not be the one that a fault is meant for.
fn settle(partition: &Partition) {
    while partition.shared.log().log.is_space_due() {
        std::thread::yield_now();
    }
}

/// All records from the start: (offset, value).
fn read_all(partition: &Partition) -> Vec<(i64, u64)> {
    let mut next = partition.start();
    let mut found = Vec::new();
    while next < partition.tail() {
        let slice = partition.read_blocking(next, 50_000).unwrap();
        assert!(!slice.batches.is_empty(), "nothing at {next} below the tail {}", partition.tail());
        for batch in slice.batches {
            for record in batch.records(8 << 20).unwrap() {
                if record.offset >= next {
                    found.push((record.offset.0, u64::from_be_bytes(record.value.unwrap()[..8].try_into().unwrap())));
                }
            }
            next = batch.next_offset();
        }
    }
    found
}

#[test]
fn what_is_appended_is_read_from_cache_and_disk_and_after_a_restart() {
    let sim = Sim::new(1);
    let store = open(&sim);
    topic(&store, "clicks", &[("segment.bytes", "16384")]);
    let clicks = partition(&store, "clicks");
    let mut value = 0;
    for n in 0..60 {
        let appended = append(&clicks, batch(value, n % 5 + 1, 300, None)).unwrap();
        assert_eq!(appended.base_offset.0 as u64, value);
        value += (n % 5 + 1) as u64;
    }
    let expected: Vec<_> = (0..value).map(|n| (n as i64, n)).collect();
    assert_eq!(read_all(&clicks), expected);
    assert!(clicks.shared.segments.load().len() > 3, "it never rolled");
    wait(store.close(Duration::from_secs(10))).unwrap();
    assert!(matches!(append(&clicks, batch(0, 1, 0, None)), Err(AppendError::Closing)));
    drop((store, clicks));
    let store = open(&sim);
    let clicks = partition(&store, "clicks");
    assert_eq!(read_all(&clicks), expected);
    assert_eq!(append(&clicks, batch(value, 1, 0, None)).unwrap().base_offset.0 as u64, value);
    assert_eq!(clicks.epoch_at(Offset(0)), 0);
    assert_eq!(clicks.epoch_at(Offset(value as i64)), 1);
    assert_eq!(clicks.epoch_end(0), Some((0, Offset(value as i64))));
    let timed = wait(clicks.offset_for_time(1_050)).unwrap().unwrap();
    assert_eq!((timed.offset, timed.timestamp), (Offset(50), 1_050));
    assert_eq!(wait(clicks.max_timestamp()).unwrap().unwrap().offset.0 as u64, value);
    assert_eq!(wait(clicks.offset_for_time(9_999)).unwrap(), None);
}

#[test]
fn a_segment_file_is_exactly_its_batches_once_sealed() {
    let sim = Sim::new(1);
    let store = open(&sim);
    topic(&store, "t", &[("segment.bytes", "16384")]);
    let t = partition(&store, "t");
    for n in 0..30 {
        append(&t, batch(n, 1, 1_000, None)).unwrap();
    }
    let segments = t.shared.segments.load_full();
    for segment in &segments[..segments.len() - 1] {
        let bytes = sim.disk().read_whole(&segment.path, 1 << 20).unwrap();
        assert_eq!(bytes.len() as u64, segment.size());
        let size: usize = Batch::check_chain(bytes.into()).unwrap().iter().map(Batch::size).sum();
        assert_eq!(size as u64, segment.size());
    }
}

#[test]
fn a_second_process_is_refused() {
    let sim = Sim::new(1);
    let _store = open(&sim);
    assert!(matches!(Store::open(options(), sim.disk(), Clock::manual(0)), Err(Error::Locked(_))));
}

#[test]
fn an_idempotent_batch_is_stored_once_also_after_a_crash() {
    let sim = Sim::new(5);
    let store = open(&sim);
    topic(&store, "t", &[]);
    let producer = |base_sequence| Some(Producer { id: 4, epoch: 0, base_sequence });
    let first = append(&partition(&store, "t"), batch(10, 2, 0, producer(0))).unwrap();
    let second = append(&partition(&store, "t"), batch(12, 1, 0, producer(2))).unwrap();
    let again = append(&partition(&store, "t"), batch(10, 2, 0, producer(0))).unwrap();
    assert_eq!((again.base_offset, again.is_duplicate), (first.base_offset, true));
    sim.crash();
    drop(store);
    let store = open(&sim);
    let t = partition(&store, "t");
    let again = append(&t, batch(12, 1, 0, producer(2))).unwrap();
    assert_eq!((again.base_offset, again.is_duplicate), (second.base_offset, true));
    let gap = append(&t, batch(99, 1, 0, producer(9)));
    assert!(matches!(gap, Err(AppendError::OutOfOrderSequence { expected: 3, found: 9, .. })), "{gap:?}");
    assert_eq!(read_all(&t), vec![(0, 10), (1, 11), (2, 12)]);
}

#[test]
fn a_failed_write_or_sync_poisons_and_is_never_tried_again() {
    for call in [Call::Sync, Call::Write] {
        let sim = Sim::new(2);
        // Without checkpoints: the call that fails is to be the round's.
        let store = open_still(&sim);
        topic(&store, "t", &[]);
        let t = partition(&store, "t");
        append(&t, batch(1, 1, 0, None)).unwrap();
        settle(&t);
        sim.fail(Fault { call, nth: 1, error: libc::EIO });
        assert!(matches!(append(&t, batch(2, 1, 0, None)), Err(AppendError::Unknown(_))));
        assert!(matches!(append(&t, batch(3, 1, 0, None)), Err(AppendError::Refused(_))));
        assert!(store.health().poisoned.is_some());
        assert_eq!(read_all(&t), vec![(0, 1)], "reads below the tail go on");
        assert!(wait(store.close(Duration::from_secs(10))).is_err());
        sim.crash();
        drop((t, store));
        let values: Vec<u64> = read_all(&partition(&open(&sim), "t")).into_iter().map(|(_, value)| value).collect();
        assert!(values == [1] || values == [1, 2], "{values:?}");
    }
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let sim = Sim::new(2);
    let store = open(&sim);
    topic(&store, "t", &[("max.message.bytes", "4000000")]);
    let t = partition(&store, "t");
    append(&t, batch(1, 1, 0, None)).unwrap();
    let used = 1 << 40;
    sim.set_capacity(18 << 20);
    let refused = append(&t, batch(2, 1, 3_000_000, None));
    assert!(matches!(refused, Err(AppendError::LowDisk(_))), "{refused:?}");
    assert!(store.health().poisoned.is_none());
    sim.set_capacity(used);
    append(&t, batch(2, 1, 3_000_000, None)).unwrap();
    assert_eq!(read_all(&t), vec![(0, 1), (1, 2)]);
}

#[test]
fn a_deleted_topic_comes_back_empty_under_another_id() {
    let sim = Sim::new(2);
    let store = open(&sim);
    let old = topic(&store, "t", &[]);
    let t = partition(&store, "t");
    append(&t, batch(1, 1, 0, None)).unwrap();
    wait(store.delete_topic(&old.name)).unwrap();
    assert!(matches!(append(&t, batch(1, 1, 0, None)), Err(AppendError::NoPartition { .. })));
    assert!(matches!(t.read_blocking(Offset(0), 1), Err(ReadError::Deleted)));
    let new = topic(&store, "t", &[]);
    assert_ne!(new.id, old.id);
    sim.crash();
    drop((t, store));
    let store = open(&sim);
    assert_eq!(store.topic("t").unwrap().id, new.id);
    assert_eq!(read_all(&partition(&store, "t")), vec![]);
}

#[test]
fn settings_and_growth_survive_a_crash() {
    let sim = Sim::new(2);
    let store = open(&sim);
    let t = topic(&store, "t", &[]);
    let change = |name: &str, value: &str| vec![(name.to_owned(), Some(value.to_owned()))];
    wait(store.alter_topic(&t.name, change("max.message.bytes", "1000"))).unwrap();
    assert!(wait(store.alter_topic(&t.name, change("max.message.byte", "1000"))).is_err());
    wait(store.add_partitions(&t.name, 3)).unwrap();
    assert!(matches!(
        append(&partition(&store, "t"), batch(1, 1, 2_000, None)),
        Err(AppendError::TooLarge { limit: 1000, .. })
    ));
    let id = wait(store.next_producer_id()).unwrap();
    sim.crash();
    drop(store);
    let store = open(&sim);
    let t = store.topic("t").unwrap();
    assert_eq!((t.partition_count(), t.config().max_message_bytes), (3, 1000));
    assert!(wait(store.next_producer_id()).unwrap() > id);
}

#[test]
fn retention_takes_whole_segments_and_keeps_the_rest_readable() {
    let sim = Sim::new(2);
    let clock = Clock::manual(1_000_000);
    let store = Store::open(options(), sim.disk(), clock.clone()).unwrap();
    topic(&store, "t", &[("segment.bytes", "16384")]);
    let t = partition(&store, "t");
    for n in 0..40 {
        append(&t, batch(n, 1, 1_000, None)).unwrap();
    }
    assert_eq!(wait(t.delete_below(Offset(20))).unwrap(), Offset(20));
    assert_eq!(read_all(&t).first(), Some(&(20, 20)));
    let first = t.shared.segments.load()[0].base;
    assert!(first > Offset(0) && first <= Offset(20), "{first}");
    assert!(matches!(t.read_blocking(Offset(3), 1), Err(ReadError::OutOfRange { .. })));
    wait(store.close(Duration::from_secs(10))).unwrap();
    drop((t, store));
    assert_eq!(read_all(&partition(&open(&sim), "t")).first(), Some(&(20, 20)));
}

/// Appends, crashes and reopens by `seed`; says what was wrong, if anything.
fn simulate(seed: u64, lie: Option<Lie>) -> Result<(), String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let sim = Sim::new(seed);
    // Offsets that were answered, with their values; and what may be there.
    let mut answered: BTreeMap<i64, u64> = BTreeMap::new();
    let mut value = 0;
    let mut is_lying = false;
    for life in 0..4 {
        let store =
            Store::open(options(), sim.disk(), Clock::manual(1_000_000 + life)).map_err(|error| error.to_string())?;
        if life == 0 {
            topic(&store, "t", &[("segment.bytes", "16384")]);
        }
        let Some(t) = store.topic("t").and_then(|topic| topic.partition(PartitionId(0))) else {
            return Err("the topic is gone".to_owned());
        };
        if let Some(reason) = &t.shared.read_only {
            return Err(format!("life {life}: read-only: {reason}"));
        }
        let found: BTreeMap<i64, u64> = read_all(&t).into_iter().collect();
        for (offset, value) in &answered {
            if found.get(offset) != Some(value) {
                return Err(format!(
                    "life {life}: offset {offset} was answered as {value}, found {:?}",
                    found.get(offset)
                ));
            }
        }
        let values: Vec<u64> = found.values().copied().collect();
        if !values.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(format!("life {life}: out of order or twice: {values:?}"));
        }
        answered.extend(found);
        if !is_lying && let Some(lie) = lie {
            sim.lie(lie);
            is_lying = true;
        }
        if random.u8(..4) == 0 {
            let call = [Call::Sync, Call::Write, Call::SyncFolder, Call::Allocate][random.usize(..4)];
            let call = if lie.is_some() { Call::Sync } else { call };
            sim.fail(Fault { call, nth: random.u64(1..40), error: libc::EIO });
        }
        for _ in 0..random.usize(1..25) {
            // Several in flight: they meet in rounds.
            let mut waiting = Vec::new();
            for _ in 0..random.usize(1..4) {
                let batch = batch(value, random.usize(1..4), random.usize(0..3_000), None);
                value += 10;
                let values: Vec<u64> = (0..batch.header().count as u64).map(|n| value - 10 + n).collect();
                if let Ok(answer) = t.try_append(Append { batch, lease: None, leader_epoch: -1 }) {
                    waiting.push((answer, values));
                }
            }
            for (answer, values) in waiting {
                if let Ok(Ok(appended)) = answer.blocking_recv() {
                    answered.extend(
                        values.into_iter().enumerate().map(|(n, value)| (appended.base_offset.0 + n as i64, value)),
                    );
                }
            }
        }
        match random.u8(..3) {
            0 => drop(wait(store.close(Duration::from_secs(10)))),
            1 => sim.kill(),
            _ => sim.crash(),
        }
        core_of(&store).is_closing.store(true, std::sync::atomic::Ordering::Release);
        super::open::join_threads(core_of(&store));
        // As a process that ends would: else each life of each seed keeps its memory.
        core_of(&store).topics.store(Arc::default());
        sim.kill();
    }
    Ok(())
}

#[test]
fn an_append_that_comes_after_the_writer_ended_is_answered() {
    let sim = Sim::new(2);
    let store = open(&sim);
    topic(&store, "t", &[]);
    let t = partition(&store, "t");
    core_of(&store).writers[0].stop();
    // The log itself is not closing: so the append passes every question before the queue, as one does that was on its way there.
    let answers = std::iter::from_fn(|| {
        let append = Append { batch: batch(1, 1, 0, None), lease: None, leader_epoch: -1 };
        let answer = t.try_append(append).map_err(|(_, error)| error).unwrap();
        Some(wait(async { tokio::time::timeout(Duration::from_secs(60), answer).await }).expect("nobody answers"))
    });
    let refused = answers.map(Result::unwrap).find(Result::is_err);
    assert!(matches!(refused, Some(Err(AppendError::Closing))), "{refused:?}");
}

#[test]
fn appends_that_overtake_each_other_are_noticed() {
    let sim = Sim::new(2);
    let store = open(&sim);
    topic(&store, "t", &[]);
    let t = partition(&store, "t");
    let producer = |base_sequence| Some(Producer { id: 4, epoch: 0, base_sequence });
    append(&t, batch(0, 1, 0, producer(0))).unwrap();
    // A queue that lets the second of two batches pass the first.
    let send = |value: u64| {
        let append = Append { batch: batch(value, 1, 0, producer(value as i32)), lease: None, leader_epoch: -1 };
        t.try_append(append).map_err(|(_, error)| error).unwrap()
    };
    let (second, first) = (send(2), send(1));
    let late = second.blocking_recv().unwrap();
    assert!(matches!(late, Err(AppendError::OutOfOrderSequence { expected: 1, found: 2, .. })), "{late:?}");
    assert_eq!(first.blocking_recv().unwrap().unwrap().base_offset, Offset(1));
    assert_eq!(read_all(&t), vec![(0, 0), (1, 1)]);
}

fn core_of(store: &Store) -> &Arc<core::Core> {
    &store.core
}

#[test]
fn no_crash_loses_what_was_answered() {
    for seed in 0..40 {
        if let Err(wrong) = simulate(seed, None) {
            panic!("seed {seed}: {wrong}");
        }
    }
}

#[test]
fn a_disk_that_lies_is_noticed() {
    for lie in [Lie::Sync, Lie::SyncLate, Lie::SyncFolder, Lie::SyncResult, Lie::Buffer] {
        let noticed = (0..100).any(|seed| {
            let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| simulate(seed, Some(lie))));
            !matches!(run, Ok(Ok(())))
        });
        assert!(noticed, "{lie:?} went unnoticed");
    }
}
