//! Compaction of a running store: power cuts and faults at every call of the disk, readers and writers beside it, and what a start makes
//! of what it finds. The model is a plain map of the last record of each key.

use super::*;
use crate::disk::Disk;
use crate::log::compact::Keys;
use crate::store::cleaner;
use std::path::Path;

const KEYS: u64 = 12;

/// What is stored at an offset.
type Found = BTreeMap<i64, (u64, Option<u64>)>;

fn compacted(store: &Store, more: &[(&str, &str)]) -> Partition {
    // Only when a test says so, but for what is due by time.
    let mut config = vec![
        ("cleanup.policy", "compact"),
        ("segment.bytes", "16384"),
        ("min.cleanable.dirty.ratio", "1.0"),
        ("delete.retention.ms", "1000"),
    ];
    config.extend(more);
    topic(store, "t", &config);
    partition(store, "t")
}

/// Records of (key, value); without one it is a tombstone.
fn keyed(records: &[(u64, Option<u64>)], producer: Option<Producer>) -> Batch {
    let mut builder = BatchBuilder::new();
    for (key, value) in records {
        let bytes = value.map(|value| {
            let mut bytes = value.to_be_bytes().to_vec();
            bytes.resize(1_500, 7);
            bytes
        });
        let key = key.to_be_bytes();
        builder.push(NewRecord { timestamp: 1_000, key: Some(&key), value: bytes.as_deref(), headers: &[] });
    }
    if let Some(producer) = producer {
        builder.producer(producer);
    }
    builder.build(Codec::None).unwrap()
}

/// Fills some segments; every third batch is of a producer with a sequence.
fn fill(partition: &Partition, random: &mut fastrand::Rng, batches: usize) {
    let mut sequence = 0;
    for n in 0..batches {
        let record = |n: usize| (random.u64(..KEYS), (n % 7 != 3).then_some(n as u64));
        let records: Vec<_> = (n..n + 1 + n % 3).map(record).collect();
        let producer = (n % 3 == 0).then_some(Producer { id: 4, epoch: 0, base_sequence: sequence });
        sequence += if producer.is_some() { records.len() as i32 } else { 0 };
        append(partition, keyed(&records, producer)).unwrap();
    }
    settle(partition);
}

fn read_found(partition: &Partition) -> Found {
    let mut next = partition.start();
    let mut found = Found::new();
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes[..8].try_into().unwrap());
    while next < partition.tail() {
        let slice = partition.read_blocking(next, 30_000).unwrap();
        assert!(!slice.batches.is_empty(), "nothing at {next} below the tail {}", partition.tail());
        for batch in slice.batches {
            for record in batch.records(8 << 20).unwrap() {
                let value = record.value.as_deref().map(number);
                found.insert(record.offset.0, (number(&record.key.unwrap()), value));
            }
            assert!(batch.next_offset() > next, "the reader does not come forward");
            next = batch.next_offset();
        }
    }
    found
}

/// What a pass up to `until` leaves of `all`.
fn model(all: &Found, until: i64) -> Found {
    let mut last = BTreeMap::new();
    for (offset, (key, _)) in all.range(..until) {
        last.insert(*key, *offset);
    }
    let stays = |(offset, (key, _)): &(&i64, &(u64, Option<u64>))| **offset >= until || last[key] == **offset;
    all.iter().filter(stays).map(|(offset, record)| (*offset, *record)).collect()
}

/// Nothing was made up, nothing lost that a pass keeps.
fn assert_between(found: &Found, all: &Found, least: &Found, what: &str) {
    for (offset, record) in found {
        assert_eq!(all.get(offset), Some(record), "{what}: offset {offset} is another record");
    }
    for offset in least.keys() {
        assert!(found.contains_key(offset), "{what}: offset {offset} is lost");
    }
}

fn clean(store: &Store, partition: &Partition) -> Option<cleaner::Report> {
    cleaner::attempt(&store.core, &partition.shared, Keys::default())
}

fn active_base(partition: &Partition) -> i64 {
    partition.shared.segments.load().last().unwrap().base.0
}

/// Ends the threads of a store whose machine is off.
fn bury(store: Store) {
    store.core.is_closing.store(true, std::sync::atomic::Ordering::Release);
    super::super::open::join_threads(&store.core);
    store.core.topics.store(Arc::default());
}

fn verify(sim: &Sim) {
    let folder = Offline::open(Path::new("/data"), sim.disk(), Clock::manual(0)).unwrap();
    for partition in folder.select(None).unwrap() {
        let report = folder.verify(&partition, true, |_| {}).unwrap();
        assert!(!report.is_damaged(), "{report:?}");
    }
}

/// A filled store, what is in it and what a pass leaves.
fn filled(seed: u64) -> (Sim, Store, Partition, Found, Found) {
    let sim = Sim::new(seed);
    let store = open_still(&sim);
    let t = compacted(&store, &[]);
    fill(&t, &mut fastrand::Rng::with_seed(seed), 32);
    let all = read_found(&t);
    let least = model(&all, active_base(&t));
    assert!(t.shared.segments.load().len() > 3 && least.len() * 2 < all.len());
    (sim, store, t, all, least)
}

/// A start after whatever happened: everything is right, and another pass comes to its end.
fn assert_recovers(sim: &Sim, all: &Found, least: &Found, what: &str) {
    verify(sim);
    let store = open_still(sim);
    let t = partition(&store, "t");
    assert_eq!(t.shared.read_only, None, "{what}");
    assert_eq!((t.start(), t.tail().0), (Offset(0), all.keys().last().unwrap() + 1), "{what}");
    assert_between(&read_found(&t), all, least, what);
    let (last, ..) = append(&t, keyed(&[(99, Some(1))], None)).map(|appended| (appended.base_offset.0,)).unwrap();
    let mut all = all.clone();
    all.insert(last, (99, Some(1)));
    assert!(clean(&store, &t).is_some(), "{what}: the next pass fails");
    // The last segment of before may be sealed by now.
    assert_eq!(read_found(&t), model(&all, t.shared.log().cleaned.until.0), "{what}");
    let names = sim.disk().list(&t.shared.folder).unwrap();
    assert!(names.iter().all(|name| name.extension().unwrap_or_default() != "cleaned"), "{what}: {names:?}");
    wait(store.close(Duration::from_secs(10))).unwrap();
    drop((store, t));
    // Also without a checkpoint, from the files alone.
    sim.disk().remove_file(Path::new("/data/checkpoint")).unwrap();
    let store = open_still(sim);
    let t = partition(&store, "t");
    assert_eq!(t.shared.read_only, None, "{what}");
    assert_eq!(read_found(&t), model(&all, t.shared.log().cleaned.until.0), "{what}");
    let producer = |base_sequence| Some(Producer { id: 4, epoch: 0, base_sequence });
    let gap = append(&t, keyed(&[(1, None)], producer(9_999)));
    assert!(matches!(gap, Err(AppendError::OutOfOrderSequence { .. })), "{what}: the sequence is forgotten: {gap:?}");
    bury(store);
    sim.kill();
}

#[test]
fn a_pass_leaves_the_last_record_of_each_key_and_all_that_is_newer() {
    let (sim, store, t, all, least) = filled(3);
    let old = t.shared.segments.load_full();
    let report = clean(&store, &t).unwrap();
    assert_eq!(read_found(&t), least);
    assert_eq!(report.removed.total() as usize, all.len() - least.len());
    assert!(report.bytes_after < report.bytes_before / 2 && report.until.0 == active_base(&t));
    // Who holds old segments reads on in them.
    for segment in &old[..old.len() - 1] {
        let mut bytes = vec![0; segment.size() as usize];
        assert_eq!(segment.file(&sim).unwrap().read_at(&mut bytes, 0).unwrap(), bytes.len());
        assert!(Batch::check_chain(bytes.into()).is_ok());
    }
    // At each offset, in holes too, comes the next batch.
    for offset in 0..t.tail().0 {
        let slice = t.read_blocking(Offset(offset), 1).unwrap();
        let first = slice.batches.first().unwrap();
        assert!(first.last_offset().0 >= offset);
        let next = least.range(offset..).next().map_or(t.tail().0, |(offset, _)| *offset);
        assert!(first.base_offset().0 <= next, "{offset}: {} is past {next}", first.base_offset());
    }
    let timed = wait(t.offset_for_time(1)).unwrap().unwrap();
    assert_eq!(timed.offset.0, *least.keys().next().unwrap());
    assert!(wait(t.max_timestamp()).unwrap().is_some());
    // Nothing is new: the next pass takes nothing away, but makes one segment of small neighbours.
    assert_eq!(clean(&store, &t).unwrap().removed.total(), 0);
    assert_eq!(read_found(&t), least);
    assert!(t.shared.segments.load().len() < old.len());
    bury(store);
    sim.crash();
    assert_recovers(&sim, &all, &least, "after a crash");
}

#[test]
fn a_power_cut_or_kill_at_every_call_of_the_disk_leaves_the_old_or_the_new() {
    let (sim, store, t, ..) = filled(7);
    let before = sim.calls();
    clean(&store, &t).unwrap();
    let calls = sim.calls() - before;
    bury(store);
    assert!(calls > 60, "{calls}");
    let mut cut_off = 0;
    for nth in 1..=calls {
        // A kill leaves what a crash may leave too, at its kindest.
        for is_kill in [false, true].into_iter().take(if nth % 4 == 0 { 2 } else { 1 }) {
            let (sim, store, t, all, least) = filled(7);
            sim.power_off_at(nth);
            cut_off += u64::from(clean(&store, &t).is_none());
            drop(t);
            bury(store);
            if is_kill {
                sim.kill()
            } else {
                sim.crash()
            }
            assert_recovers(&sim, &all, &least, &format!("call {nth}, kill {is_kill}"));
        }
    }
    assert!(cut_off > 60, "of {calls} calls only {cut_off} were the pass's");
}

#[test]
fn a_call_that_fails_loses_nothing_and_a_full_disk_poisons_nothing() {
    let of_disk = [Call::Read, Call::Write, Call::Sync, Call::SyncFolder].map(|call| (call, libc::EIO));
    for (call, error) in of_disk.into_iter().chain([(Call::Write, libc::ENOSPC)]) {
        // A pass reads much, and one read is as good as another.
        for nth in (1..).step_by(if call == Call::Read { 5 } else { 1 }) {
            let (sim, store, t, all, least) = filled(11);
            sim.fail(Fault { call, nth, error });
            let report = clean(&store, &t);
            let what = format!("{call:?} {nth} failed with {error}");
            if sim.faults_due() > 0 {
                assert!(nth > 1 && report.is_some(), "{what}: it was never made");
                bury(store);
                break;
            }
            assert_between(&read_found(&t), &all, &least, &what);
            if error == libc::ENOSPC {
                assert_eq!(store.health().poisoned, None, "{what}");
            }
            bury(store);
            sim.crash();
            assert_recovers(&sim, &all, &least, &what);
        }
    }
}

#[test]
fn writers_and_readers_go_on_beside_passes() {
    let sim = Sim::new(5);
    let store = open(&sim);
    let t = compacted(&store, &[]);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let mut all = Found::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                read_found(&t);
            }
        });
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                clean(&store, &t).unwrap();
            }
        });
        for n in 0..600u64 {
            let record = (n * 31 % KEYS, Some(n));
            let offset = append(&t, keyed(&[record], None)).unwrap().base_offset.0;
            all.insert(offset, record);
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    clean(&store, &t).unwrap();
    assert_eq!(read_found(&t), model(&all, t.shared.log().cleaned.until.0));
    assert_eq!(store.health().poisoned, None);
}

#[test]
fn behaviour_35_tombstones_stay_for_their_time_and_go_though_nobody_writes_any_more() {
    let sim = Sim::new(5);
    let clock = Clock::manual(1_000_000);
    let store = Store::open(options(), sim.disk(), clock.clone()).unwrap();
    let t = compacted(&store, &[("min.cleanable.dirty.ratio", "0.01")]);
    append(&t, keyed(&[(1, Some(1)), (1, None), (2, Some(2))], None)).unwrap();
    for n in 0..40 {
        append(&t, keyed(&[(3 + n % 2, Some(n))], None)).unwrap();
    }
    let is_there = |offset: i64| read_found(&t).contains_key(&offset);
    let wait_until = |what: &str, is: &dyn Fn() -> bool| {
        let began = std::time::Instant::now();
        while !is() {
            assert!(began.elapsed() < Duration::from_secs(30), "{what}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    };
    // By the store's own threads.
    wait_until("no pass came", &|| !is_there(0));
    assert!(is_there(1) && is_there(2), "the first pass keeps the tombstone");
    clock.advance(1_001);
    wait_until("the tombstone stayed", &|| !is_there(1));
    assert!(is_there(2));
    wait(store.close(Duration::from_secs(10))).unwrap();
}

#[test]
fn what_is_young_is_left_alone_and_what_is_late_is_due() {
    let sim = Sim::new(5);
    let clock = Clock::manual(1_000_000);
    let options = Options { checkpoint_interval: Duration::from_secs(3_600), ..options() };
    let store = Store::open(options, sim.disk(), clock.clone()).unwrap();
    let t = compacted(&store, &[("min.compaction.lag.ms", "5000")]);
    fill(&t, &mut fastrand::Rng::with_seed(1), 70);
    let all = read_found(&t);
    assert_eq!(clean(&store, &t).unwrap().removed.total(), 0);
    clock.advance(4_999);
    assert_eq!(clean(&store, &t).unwrap().removed.total(), 0);
    clock.advance(1);
    assert!(clean(&store, &t).unwrap().removed.total() > 0);
    assert_eq!(read_found(&t), model(&all, active_base(&t)));
    // Late: due though the ratio says no.
    fill(&partition(&store, "t"), &mut fastrand::Rng::with_seed(2), 0);
    for n in 0..60 {
        append(&t, keyed(&[(n % 3, Some(n))], None)).unwrap();
    }
    let change = |name: &str, value: &str| vec![(name.to_owned(), Some(value.to_owned()))];
    let name = TopicName::new("t").unwrap();
    wait(store.alter_topic(&name, change("min.compaction.lag.ms", "0"))).unwrap();
    assert!(!cleaner::is_due(&store.core, &t.shared));
    wait(store.alter_topic(&name, change("max.compaction.lag.ms", "60000"))).unwrap();
    clock.advance(60_001);
    assert!(cleaner::is_due(&store.core, &t.shared));
    bury(store);
}

#[test]
fn retention_takes_nothing_from_a_compacted_topic_unless_it_is_told_to() {
    let sim = Sim::new(2);
    let clock = Clock::manual(1_000_000);
    let store = Store::open(options(), sim.disk(), clock.clone()).unwrap();
    let t = compacted(&store, &[("retention.ms", "1"), ("retention.bytes", "1")]);
    for n in 0..40 {
        append(&t, keyed(&[(n, Some(n))], None)).unwrap();
    }
    clock.advance(50_000);
    for shared in store.core.partitions() {
        super::super::keeper::retain(&store.core, &shared, true).unwrap();
    }
    assert_eq!(t.start(), Offset(0));
    let change = vec![("cleanup.policy".to_owned(), Some("compact,delete".to_owned()))];
    wait(store.alter_topic(&TopicName::new("t").unwrap(), change)).unwrap();
    for shared in store.core.partitions() {
        super::super::keeper::retain(&store.core, &shared, true).unwrap();
    }
    assert_eq!(t.start(), t.tail());
}

#[test]
fn a_checkpoint_that_is_older_than_a_pass_is_not_believed() {
    let (sim, store, t, ..) = filled(9);
    super::super::checkpoints::save(&store.core, false).unwrap();
    let old = sim.disk().read_whole(Path::new("/data/checkpoint"), 1 << 20).unwrap();
    fill_more(&t);
    let all = read_found(&t);
    clean(&store, &t).unwrap();
    let least = read_found(&t);
    drop(t);
    bury(store);
    sim.crash();
    sim.disk().replace(Path::new("/data/checkpoint"), &old).unwrap();
    let store = open_still(&sim);
    let t = partition(&store, "t");
    assert_eq!((t.shared.read_only.clone(), read_found(&t)), (None, least.clone()));
    assert_between(&least, &all, &least, "with an old checkpoint");
    bury(store);
}

/// Rolls over what a checkpoint calls active.
fn fill_more(partition: &Partition) {
    for n in 0..60 {
        append(partition, keyed(&[(n % KEYS, Some(n))], None)).unwrap();
    }
}

#[test]
fn a_damaged_state_of_compaction_costs_another_pass_and_nothing_else() {
    let (sim, store, t, all, least) = filled(9);
    clean(&store, &t).unwrap();
    let path = t.shared.folder.join("compaction");
    wait(store.close(Duration::from_secs(10))).unwrap();
    drop((store, t));
    sim.flip(&path, 8 * 20);
    assert_recovers(&sim, &all, &least, "damaged state");
}

#[test]
fn a_deleted_topic_ends_its_pass_and_poisons_nothing() {
    let sim = Sim::new(4);
    let store = open_still(&sim);
    for round in 0..12u64 {
        let name = format!("gone-{round}");
        topic(&store, &name, &[("cleanup.policy", "compact"), ("segment.bytes", "16384")]);
        let t = partition(&store, &name);
        fill(&t, &mut fastrand::Rng::with_seed(round), 60);
        std::thread::scope(|scope| {
            scope.spawn(|| cleaner::attempt(&store.core, &t.shared, Keys::default()));
            while sim.calls() % 13 != round {
                std::thread::yield_now();
                let _ = sim.exists(Path::new("/data"));
                let _ = sim.disk().space(Path::new("/data"));
            }
            wait(store.delete_topic(&TopicName::new(&name).unwrap())).unwrap();
        });
        assert_eq!(store.health().poisoned, None, "{name}");
    }
}

#[test]
fn the_first_pass_makes_the_folder_one_that_older_programs_refuse() {
    let (sim, store, t, ..) = filled(9);
    let format = || super::super::open::load_meta(&sim, Path::new("/data")).unwrap().unwrap().format;
    assert_eq!(format(), 2);
    clean(&store, &t).unwrap();
    assert_eq!(format(), 3);
    bury(store);
}

#[test]
fn deleted_records_leave_with_their_segments_also_where_a_pass_was() {
    let (sim, store, t, _, least) = filled(9);
    clean(&store, &t).unwrap();
    let to = *least.keys().nth(least.len() / 2).unwrap();
    wait(t.delete_below(Offset(to))).unwrap();
    super::super::checkpoints::save(&store.core, false).unwrap();
    assert_eq!(read_found(&t).keys().find(|offset| **offset >= to), least.keys().find(|offset| **offset >= to));
    fill_more(&t);
    clean(&store, &t).unwrap();
    let (start, found) = (t.start(), read_found(&t));
    drop(t);
    bury(store);
    sim.crash();
    let store = open_still(&sim);
    let t = partition(&store, "t");
    assert_eq!((t.start(), read_found(&t)), (start, found));
    bury(store);
}
