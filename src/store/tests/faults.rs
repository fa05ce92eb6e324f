//! Full disks, durability classes, retention and deletion around crashes.

use super::*;
use crate::disk::Disk;
use std::path::Path;

const RESERVE: &str = "/data/reserve";

fn checkpoint_now(store: &Store) {
    super::super::checkpoints::save(&store.core, false).unwrap();
}

/// The checkpoint on disk, as a start would read it.
fn stored(sim: &Sim) -> crate::log::Checkpoint {
    crate::log::Checkpoint::decode(&sim.disk().read_whole(Path::new("/data/checkpoint"), 1 << 20).unwrap()).checkpoint
}

#[test]
fn a_full_disk_still_takes_a_checkpoint_and_a_topic_out_of_the_reserve() {
    let sim = Sim::new(2);
    let store = open_still(&sim);
    topic(&store, "t", &[]);
    append(&partition(&store, "t"), batch(1, 1, 0, None)).unwrap();
    assert!(sim.exists(Path::new(RESERVE)));
    let space = sim.disk().space(Path::new("/data")).unwrap();
    sim.set_capacity(space.total - space.free);
    checkpoint_now(&store);
    assert!(!sim.exists(Path::new(RESERVE)), "there was no other room");
    let end = stored(&sim).partitions.values().next().unwrap().end;
    assert_eq!(end, Offset(1));
    topic(&store, "u", &[]);
    assert!(store.health().poisoned.is_none());
    sim.set_capacity(1 << 40);
    wait(store.close(Duration::from_secs(10))).unwrap();
    let store = open(&sim);
    assert!(sim.exists(Path::new(RESERVE)) && store.topic("u").is_some());
}

#[test]
fn a_process_without_descriptors_tries_again_and_keeps_its_reserve() {
    let sim = Sim::new(2);
    let store = open_still(&sim);
    topic(&store, "t", &[]);
    let t = partition(&store, "t");
    append(&t, batch(1, 1, 0, None)).unwrap();
    sim.fail(Fault { call: Call::Write, nth: 1, error: libc::EMFILE });
    let error = super::super::checkpoints::save(&store.core, false).unwrap_err();
    assert_eq!((error.raw_os_error(), sim.faults_due()), (Some(libc::EMFILE), 0));
    assert_eq!(store.health().poisoned, None);
    assert!(sim.exists(Path::new(RESERVE)), "the disk has room");
    checkpoint_now(&store);
    assert_eq!(stored(&sim).partitions.values().next().unwrap().end, Offset(1));
    append(&t, batch(2, 1, 0, None)).unwrap();
}

#[test]
fn an_os_topic_syncs_until_a_checkpoint_says_so_and_again_when_it_goes_back() {
    let sim = Sim::new(2);
    let store = open_still(&sim);
    topic(&store, "t", &[("inrush.durability", "os")]);
    let t = partition(&store, "t");
    let is_unsynced = || t.shared.log().is_unsynced;
    append(&t, batch(1, 1, 0, None)).unwrap();
    assert!(!is_unsynced(), "it answered before a sync, and no checkpoint says that it may");
    checkpoint_now(&store);
    assert!(stored(&sim).partitions.values().all(|one| one.os));
    append(&t, batch(2, 1, 0, None)).unwrap();
    assert!(is_unsynced());
    let change = vec![("inrush.durability".to_owned(), Some("fsync".to_owned()))];
    wait(store.alter_topic(&TopicName::new("t").unwrap(), change)).unwrap();
    checkpoint_now(&store);
    assert!(!is_unsynced(), "the checkpoint says fsync of bytes that were not synced");
    assert!(stored(&sim).partitions.values().all(|one| !one.os));
    let change = vec![("inrush.durability".to_owned(), Some("os".to_owned()))];
    wait(store.alter_topic(&TopicName::new("t").unwrap(), change)).unwrap();
    append(&t, batch(3, 1, 0, None)).unwrap();
    assert!(!is_unsynced(), "os again, and the checkpoint still says fsync");
}

#[test]
fn segments_leave_the_disk_only_after_a_checkpoint_without_them() {
    let sim = Sim::new(2);
    let store = open_still(&sim);
    topic(&store, "t", &[("segment.bytes", "16384")]);
    let t = partition(&store, "t");
    for n in 0..40 {
        append(&t, batch(n, 1, 1_000, None)).unwrap();
    }
    checkpoint_now(&store);
    let logs = || sim.disk().list(&t.shared.folder).unwrap().iter().filter(|p| p.extension().unwrap() == "log").count();
    let before = logs();
    // As retention does it: who asks for it waits for the checkpoint.
    super::super::keeper::delete_below(&t.shared, Offset(20));
    assert_eq!((t.start(), logs()), (Offset(20), before));
    assert!(matches!(t.read_blocking(Offset(3), 1), Err(ReadError::OutOfRange { .. })));
    checkpoint_now(&store);
    assert!(logs() < before);
    // A crash between the checkpoint and the removal leaves files that the next start removes.
    let left = logs();
    let first = t.shared.segments.load()[0].base;
    sim.disk().create(&t.shared.folder.join(crate::log::file_name(Offset(0)))).unwrap();
    sim.disk().sync_folder(&t.shared.folder).unwrap();
    sim.crash();
    let store = open(&sim);
    assert_eq!((partition(&store, "t").shared.segments.load()[0].base, logs()), (first, left));
    assert_eq!(read_all(&partition(&store, "t")).first(), Some(&(20, 20)));
}

#[test]
fn a_reader_goes_on_in_a_segment_that_retention_takes_away() {
    let sim = Sim::new(2);
    let store = open_still(&sim);
    topic(&store, "t", &[("segment.bytes", "16384")]);
    let t = partition(&store, "t");
    for n in 0..40 {
        append(&t, batch(n, 1, 1_000, None)).unwrap();
    }
    let first = t.shared.segments.load()[0].clone();
    first.file(&sim).unwrap();
    wait(t.delete_below(Offset(39))).unwrap();
    checkpoint_now(&store);
    assert!(!sim.exists(&first.path));
    let mut bytes = vec![0; first.size() as usize];
    assert_eq!(
        first.file(&sim).unwrap().read_at(&mut bytes, 0).unwrap(),
        bytes.len(),
        "an open file outlives its name"
    );
    assert!(Batch::check_chain(bytes.into()).is_ok());
    assert!(matches!(t.read_blocking(Offset(0), 1), Err(ReadError::OutOfRange { .. })));
}

#[test]
fn files_of_a_topic_whose_deletion_was_cut_off_are_removed_at_the_next_start() {
    let sim = Sim::new(2);
    let store = open(&sim);
    let old = topic(&store, "t", &[]);
    append(&partition(&store, "t"), batch(1, 1, 0, None)).unwrap();
    let folder = Path::new("/data/topics/t").join(old.id.to_string());
    // The catalog takes the deletion, then the process ends.
    let change = super::super::catalog::Change::Deleted(old.id);
    store.core.catalog().change(&sim, change).unwrap();
    assert!(sim.exists(&folder.join("0")));
    sim.kill();
    let store = open(&sim);
    assert!(!sim.exists(&folder) && store.topic("t").is_none());
}

#[test]
fn larger_batches_are_allowed_only_after_the_meta_file_says_so() {
    let sim = Sim::new(2);
    let store = open(&sim);
    let t = topic(&store, "t", &[]);
    let round = || super::super::open::load_meta(&sim, Path::new("/data")).unwrap().unwrap().round_bytes_max;
    assert_eq!(round(), crate::log::ROUND_SIZE_MAX as u64);
    let change = vec![("max.message.bytes".to_owned(), Some("20000000".to_owned()))];
    wait(store.alter_topic(&t.name, change)).unwrap();
    assert_eq!(round(), 20_000_000 + 65_536);
    wait(store.alter_topic(&t.name, vec![("max.message.bytes".to_owned(), None)])).unwrap();
    assert_eq!(round(), 20_000_000 + 65_536, "batches of that size may be in the log");
}

#[test]
fn another_format_is_refused_by_name() {
    let sim = Sim::new(2);
    drop(open(&sim));
    let path = Path::new("/data/inrush.meta");
    let meta = super::super::open::load_meta(&sim, Path::new("/data")).unwrap().unwrap();
    for (format, text) in [(1, "does not read"), (99, "newer version")] {
        sim.kill();
        super::super::catalog::save_meta(&sim, path, &super::super::catalog::Meta { format, ..meta.clone() }).unwrap();
        let error = Store::open(options(), sim.disk(), Clock::manual(0)).err().unwrap().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn a_write_without_room_takes_its_own_partition_back_and_no_other() {
    let sim = Sim::new(2);
    let store = open_still(&sim);
    topic(&store, "t", &[]);
    topic(&store, "u", &[]);
    let (t, u) = (partition(&store, "t"), partition(&store, "u"));
    let producer = |base_sequence| Some(Producer { id: 4, epoch: 0, base_sequence });
    append(&t, batch(1, 1, 0, producer(0))).unwrap();
    settle(&t);
    sim.fail(Fault { call: Call::Write, nth: 1, error: libc::ENOSPC });
    assert!(matches!(append(&t, batch(2, 1, 0, producer(1))), Err(AppendError::Unknown(_))));
    assert_eq!(store.health().poisoned, None);
    append(&u, batch(9, 1, 0, None)).unwrap();
    // The same batch again is no duplicate: it was taken back.
    let again = append(&t, batch(2, 1, 0, producer(1))).unwrap();
    assert_eq!((again.base_offset, again.is_duplicate), (Offset(1), false));
    sim.crash();
    drop((t, u, store));
    let store = open(&sim);
    assert_eq!(read_all(&partition(&store, "t")), vec![(0, 1), (1, 2)]);
    assert_eq!(read_all(&partition(&store, "u")), vec![(0, 9)]);
}

#[test]
fn deleting_topics_under_load_poisons_nothing() {
    let sim = Sim::new(2);
    let store = open(&sim);
    for round in 0..30 {
        let name = format!("t{round}");
        topic(&store, &name, &[("segment.bytes", "16384"), ("inrush.durability", ["os", "fsync"][round % 2])]);
        let t = partition(&store, &name);
        let sent: Vec<_> = (0..40)
            .filter_map(|n| {
                let append = Append { batch: batch(n, 1, 2_000, None), lease: None, leader_epoch: -1 };
                t.try_append(append).ok()
            })
            .collect();
        wait(store.delete_topic(&TopicName::new(&name).unwrap())).unwrap();
        drop(sent.into_iter().map(|answer| answer.blocking_recv()).collect::<Vec<_>>());
        assert_eq!(store.health().poisoned, None, "round {round}");
    }
    topic(&store, "last", &[]);
    append(&partition(&store, "last"), batch(1, 1, 0, None)).unwrap();
}

#[test]
fn a_segment_that_cannot_be_begun_poisons_and_loses_nothing() {
    for call in [Call::SyncFolder, Call::Allocate] {
        let sim = Sim::new(3);
        let store = open_still(&sim);
        topic(&store, "t", &[("segment.bytes", "16384")]);
        let t = partition(&store, "t");
        sim.fail(Fault { call, nth: 1, error: libc::EIO });
        let taken = (1..40).take_while(|value| append(&t, batch(*value, 1, 2_000, None)).is_ok()).count() as u64;
        let poisoned = store.health().poisoned.is_some();
        assert_eq!(poisoned, taken < 39, "{call:?}");
        assert!(poisoned || call == Call::Allocate, "space that is not made ahead is made by the round");
        let _ = wait(store.close(Duration::from_secs(10)));
        sim.crash();
        drop((t, store));
        let values: Vec<u64> = read_all(&partition(&open(&sim), "t")).into_iter().map(|(_, value)| value).collect();
        assert!(values.len() as u64 >= taken && values.iter().copied().eq(1..=values.len() as u64), "{values:?}");
    }
}

#[test]
fn a_read_that_fails_is_told_and_the_next_one_reads() {
    let sim = Sim::new(4);
    let store = open(&sim);
    topic(&store, "t", &[]);
    append(&partition(&store, "t"), batch(1, 2, 0, None)).unwrap();
    wait(store.close(Duration::from_secs(10))).unwrap();
    drop(store);
    let store = open(&sim);
    let t = partition(&store, "t");
    sim.fail(Fault { call: Call::Read, nth: 1, error: libc::EIO });
    assert!(matches!(t.read_blocking(Offset(0), 1 << 20), Err(ReadError::Io(_))));
    assert_eq!(read_all(&t), vec![(0, 1), (1, 2)]);
    assert!(store.health().poisoned.is_none());
}

#[test]
fn a_start_that_cannot_read_cuts_nothing() {
    for nth in 1..40 {
        let sim = Sim::new(nth);
        let store = open(&sim);
        topic(&store, "t", &[]);
        append(&partition(&store, "t"), batch(1, 2, 0, None)).unwrap();
        sim.crash();
        drop(store);
        sim.fail(Fault { call: Call::Read, nth, error: libc::EIO });
        // Refused, or read-only, or the call never came: whatever it was, the next start has everything.
        if let Ok(store) = Store::open(options(), sim.disk(), Clock::manual(1_000_000)) {
            let _ = wait(store.close(Duration::from_secs(10)));
        }
        sim.crash();
        assert_eq!(read_all(&partition(&open(&sim), "t")), vec![(0, 1), (1, 2)], "read {nth} failed");
    }
}

#[test]
fn a_segment_whose_beginning_was_cut_short_after_a_clean_stop_is_durable_before_it_is_written() {
    for seed in 0..16 {
        let sim = Sim::new(seed);
        let store = open_still(&sim);
        topic(&store, "t", &[("segment.bytes", "16384")]);
        for n in 0..5 {
            append(&partition(&store, "t"), batch(n, 1, 3_000, None)).unwrap();
        }
        wait(store.close(Duration::from_secs(10))).unwrap();
        // The next batch rolls: the new file is there, and the process ends before its name is durable.
        let store = open_still(&sim);
        sim.fail(Fault { call: Call::SyncFolder, nth: 1, error: libc::EIO });
        append(&partition(&store, "t"), batch(5, 1, 3_000, None)).unwrap_err();
        sim.kill();
        let _ = wait(store.close(Duration::from_secs(10)));
        let store = open_still(&sim);
        let t = partition(&store, "t");
        assert_eq!((t.tail(), t.shared.segments.load().len()), (Offset(5), 2), "the new file is there");
        append(&t, batch(6, 1, 3_000, None)).unwrap();
        checkpoint_now(&store);
        sim.crash();
        let _ = wait(store.close(Duration::from_secs(10)));
        let store = open_still(&sim);
        assert_eq!((store.health().read_only, partition(&store, "t").tail()), (vec![], Offset(6)), "seed {seed}");
    }
}
