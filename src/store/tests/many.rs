//! Many partitions on a disk that has few files open, and whose changes are synced by one call where there are many.

use super::*;

const PARTITIONS: i32 = 12;
const OPEN_FILES_MAX: usize = 4;

fn many(store: &Store) -> Vec<Partition> {
    (0..PARTITIONS).map(|id| store.topic("many").unwrap().partition(PartitionId(id)).unwrap()).collect()
}

fn create(store: &Store) {
    let new = NewTopic { name: TopicName::new("many").unwrap(), partitions: PARTITIONS, config: Vec::new() };
    wait(store.create_topic(new)).unwrap();
}

/// One batch to each, queued before any is waited for.
fn append_to_each(partitions: &[Partition], value: u64) {
    let answers: Vec<_> = partitions
        .iter()
        .map(|one| one.try_append(Append { batch: batch(value, 1, 0, None), lease: None, leader_epoch: -1 }))
        .map(|queued| queued.map_err(|(_, error)| error).unwrap())
        .collect();
    for answer in answers {
        answer.blocking_recv().unwrap().unwrap();
    }
}

#[test]
fn all_partitions_are_written_and_read_with_few_files_open() {
    for seed in 0..10 {
        let sim = Sim::with_open_files(seed, OPEN_FILES_MAX);
        let store = open(&sim);
        create(&store);
        for value in 0..3 {
            append_to_each(&many(&store), value);
        }
        sim.disk().open_files().close_idle();
        append_to_each(&many(&store), 3);
        sim.crash();
        drop(store);
        let store = open(&sim);
        let expected = [(0, 0), (1, 1), (2, 2), (3, 3)];
        assert!(many(&store).iter().all(|one| read_all(one) == expected), "seed {seed}");
        wait(store.close(Duration::from_secs(10))).unwrap();
        for one in many(&open(&sim)) {
            assert_eq!(read_all(&one), expected, "seed {seed}, after a clean stop");
        }
    }
}

#[test]
fn a_topic_that_was_made_is_there_after_a_crash_with_all_its_partitions() {
    for seed in 0..20 {
        let sim = Sim::new(seed);
        create(&open(&sim));
        sim.crash();
        let store = open(&sim);
        assert!(
            many(&store).iter().all(|one| one.shared.read_only.is_none() && one.tail() == Offset(0)),
            "seed {seed}"
        );
        append_to_each(&many(&store), 0);
    }
}

#[test]
fn a_sync_of_all_that_fails_fails_the_start() {
    let sim = Sim::new(1);
    let store = open_still(&sim);
    create(&store);
    append_to_each(&many(&store), 0);
    sim.crash();
    drop(store);
    sim.fail(Fault { call: Call::Sync, nth: 1, error: libc::EIO });
    assert!(matches!(Store::open(options(), sim.disk(), Clock::manual(1_000_000)), Err(Error::Io { .. })));
}

#[test]
fn a_log_of_a_few_records_takes_little_room() {
    let sim = Sim::new(1);
    let store = open(&sim);
    create(&store);
    append_to_each(&many(&store), 0);
    for one in many(&store) {
        settle(&one);
        let reserved = one.shared.log().log.active.segment.reserved();
        assert!(reserved <= 64 << 10, "{reserved} bytes for one record");
    }
    let busy = many(&store).remove(0);
    for n in 1..60 {
        append(&busy, batch(n, 1, 1_000, None)).unwrap();
    }
    settle(&busy);
    assert!(busy.shared.log().log.active.segment.reserved() > 1 << 20, "space is made ahead of one that is written on");
}
