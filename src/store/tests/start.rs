//! A start that was moved because somebody asked for it: durable when it is answered, and never beyond what is there.

use super::*;
use crate::disk::Disk;
use std::path::Path;

/// A partition with records 0 to 39 in several segments, whose keeper does nothing by itself.
fn filled(sim: &Sim, config: &[(&str, &str)]) -> (Store, Partition) {
    let store = open_still(sim);
    topic(&store, "t", &[&[("segment.bytes", "16384")], config].concat());
    let t = partition(&store, "t");
    for n in 0..40 {
        append(&t, batch(n, 1, 1_000, None)).unwrap();
    }
    (store, t)
}

#[test]
fn a_moved_start_outlives_a_kill_and_a_power_cut() {
    for config in [[].as_slice(), &[("inrush.durability", "os")]] {
        for (seed, end) in [Sim::kill, Sim::crash].into_iter().enumerate() {
            // Inside a segment, at one's first record, at the end of all.
            for start in [1, 13, 20, 39, 40] {
                let sim = Sim::new(seed as u64);
                let (store, t) = filled(&sim, config);
                assert_eq!(wait(t.delete_below(Offset(start))).unwrap(), Offset(start));
                end(&sim);
                drop((t, store));
                let store = open(&sim);
                let t = partition(&store, "t");
                assert_eq!((t.start(), t.tail()), (Offset(start), Offset(40)), "{config:?}");
                assert_eq!(read_all(&t).first().map(|first| first.0), Some(start).filter(|start| *start < 40));
                assert_eq!(append(&t, batch(40, 1, 0, None)).unwrap().base_offset, Offset(40));
            }
        }
    }
}

#[test]
fn segments_below_a_moved_start_have_left_the_disk() {
    let sim = Sim::new(1);
    let (store, t) = filled(&sim, &[]);
    let logs = || sim.disk().list(&t.shared.folder).unwrap().iter().filter(|p| p.extension().unwrap() == "log").count();
    let before = logs();
    wait(t.delete_below(Offset(40))).unwrap();
    assert!(before > 2 && logs() == 1, "{before} segments, {} are left", logs());
    drop(store);
}

#[test]
fn a_log_that_is_deleted_whole_gives_all_its_room_back_and_goes_on() {
    let sim = Sim::new(1);
    let (store, t) = filled(&sim, &[]);
    wait(t.delete_below(Offset(39))).unwrap();
    assert!(t.size() > 0, "the last segment holds a record still");
    wait(t.delete_below(Offset(40))).unwrap();
    // The keeper comes to what was sealed meanwhile.
    super::super::keeper::write_indexes(&store.core);
    let files: Vec<_> = sim.disk().list(&t.shared.folder).unwrap();
    assert_eq!((t.size(), files), (0, vec![t.shared.folder.join("00000000000000000040.log")]));
    wait(t.delete_below(Offset(40))).unwrap();
    assert_eq!(append(&t, batch(40, 2, 0, None)).unwrap().base_offset, Offset(40));
    sim.crash();
    drop((t, store));
    assert_eq!(read_all(&partition(&open(&sim), "t")), vec![(40, 40), (41, 41)]);
}

#[test]
fn a_segment_that_leaves_while_its_index_is_made_leaves_none() {
    let sim = Sim::new(1);
    let (_store, t) = filled(&sim, &[]);
    let first = t.shared.segments.load()[0].clone();
    first.retire();
    first.prepare(&sim).unwrap();
    assert!(!sim.exists(&first.path.with_extension("index")));
    assert_eq!(
        first.seek(&sim, crate::log::Target::Offset(Offset(3))).unwrap().1,
        Offset(0),
        "who reads in it goes on"
    );
}

#[test]
fn a_start_is_moved_neither_back_nor_beyond_the_tail() {
    let sim = Sim::new(1);
    let (_store, t) = filled(&sim, &[]);
    assert_eq!(wait(t.delete_below(Offset(20))).unwrap(), Offset(20));
    assert_eq!(wait(t.delete_below(Offset(5))).unwrap(), Offset(20), "what is deleted already stays deleted");
    for outside in [41, -1, i64::MIN, i64::MAX] {
        assert!(matches!(wait(t.delete_below(Offset(outside))), Err(ReadError::OutOfRange { .. })), "{outside}");
    }
    assert_eq!(t.start(), Offset(20));
}

#[test]
fn many_partitions_are_moved_by_one_checkpoint_and_each_is_answered() {
    let sim = Sim::new(1);
    let (store, t) = filled(&sim, &[]);
    topic(&store, "u", &[]);
    topic(&store, "gone", &[]);
    let (u, gone) = (partition(&store, "u"), partition(&store, "gone"));
    append(&u, batch(0, 3, 0, None)).unwrap();
    wait(store.delete_topic(gone.topic())).unwrap();
    let asked = vec![(u.clone(), Offset(2)), (t.clone(), Offset(41)), (gone, Offset(0)), (t.clone(), Offset(7))];
    let size = || sim.disk().read_whole(Path::new("/data/checkpoint"), 1 << 20).map_or(0, |bytes| passes(&bytes));
    let before = size();
    let moved = wait(store.delete_below(asked));
    assert_eq!(size(), before + 1);
    assert!(matches!(moved[0], Ok(Offset(2))) && matches!(moved[3], Ok(Offset(7))), "{moved:?}");
    assert!(matches!(moved[1], Err(ReadError::OutOfRange { .. })) && matches!(moved[2], Err(ReadError::Deleted)));
    sim.kill();
    drop((t, u, store));
    let store = open(&sim);
    assert_eq!((partition(&store, "t").start(), partition(&store, "u").start()), (Offset(7), Offset(2)));
}

fn passes(bytes: &[u8]) -> usize {
    crate::log::Checkpoint::decode(bytes).passes
}

#[test]
fn a_checkpoint_that_fails_is_told_and_the_next_one_takes_the_start() {
    let sim = Sim::new(1);
    let (store, t) = filled(&sim, &[]);
    settle(&t);
    let space = sim.disk().space(Path::new("/data")).unwrap();
    sim.disk().remove_file(Path::new("/data/reserve")).unwrap();
    let reserve = sim.disk().space(Path::new("/data")).unwrap().free - space.free;
    sim.set_capacity(space.total - space.free - reserve);
    assert!(matches!(wait(t.delete_below(Offset(20))), Err(ReadError::Io(_))));
    assert!(store.health().poisoned.is_none(), "a full disk passes");
    sim.set_capacity(1 << 40);
    assert_eq!(wait(t.delete_below(Offset(10))).unwrap(), Offset(20), "readers have seen it");
    sim.kill();
    drop((t, store));
    assert_eq!(partition(&open(&sim), "t").start(), Offset(20));
}

#[test]
fn no_start_is_moved_once_the_disk_failed_or_the_log_closes() {
    let sim = Sim::new(1);
    let (store, t) = filled(&sim, &[]);
    wait(store.close(Duration::from_secs(10))).unwrap();
    assert!(matches!(wait(t.delete_below(Offset(20))), Err(ReadError::Io(_))));
    drop((t, store));
    let store = open_still(&sim);
    let t = partition(&store, "t");
    assert_eq!(t.start(), Offset(0), "a checkpoint was written behind the last one");
    sim.fail(Fault { call: Call::SyncFolder, nth: 1, error: libc::EIO });
    assert!(matches!(wait(t.delete_below(Offset(20))), Err(ReadError::Io(_))));
    assert!(store.health().poisoned.is_some());
    assert!(matches!(wait(t.delete_below(Offset(30))), Err(ReadError::Io(_))), "nothing is made durable any more");
}

#[test]
fn producers_are_told_with_their_last_sequence_until_they_expire() {
    let sim = Sim::new(1);
    let clock = Clock::manual(1_000_000);
    let store = Store::open(options(), sim.disk(), clock.clone()).unwrap();
    topic(&store, "t", &[]);
    let t = partition(&store, "t");
    let producer = |id, epoch, base_sequence| Some(Producer { id, epoch, base_sequence });
    append(&t, batch(0, 5, 0, producer(9, 0, 0))).unwrap();
    append(&t, batch(5, 2, 0, producer(9, 0, 5))).unwrap();
    append(&t, batch(7, 1, 0, producer(4, 3, 0))).unwrap();
    append(&t, batch(8, 1, 0, None)).unwrap();
    let told = || wait(t.producers()).unwrap();
    let active = |id, epoch, last_sequence| ActiveProducer { id, epoch, last_sequence, seen_ms: 1_000_000 };
    assert_eq!(told(), [active(4, 3, 0), active(9, 0, 6)]);
    clock.advance(24 * 60 * 60 * 1_000);
    assert!(told().is_empty(), "no checkpoint looks at a partition that nobody writes to");
    wait(store.delete_topic(t.topic())).unwrap();
    assert!(matches!(wait(t.producers()), Err(ReadError::Deleted)));
}
