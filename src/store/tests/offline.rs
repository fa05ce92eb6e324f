//! Verify, dump and repair of a folder that nobody runs, and what a start makes of it before and after.

use super::*;
use crate::log::file_name;
use std::path::PathBuf;

/// A folder with one topic of `count` batches in segments of 16 KiB, closed cleanly, and the paths of its segments.
fn folder(count: u64) -> (Sim, Vec<PathBuf>) {
    let sim = Sim::new(3);
    let store = open(&sim);
    topic(&store, "t", &[("segment.bytes", "16384")]);
    let t = partition(&store, "t");
    for n in 0..count {
        append(&t, batch(n, 1, 1_000, None)).unwrap();
    }
    let paths = t.shared.segments.load().iter().map(|segment| segment.path.clone()).collect();
    wait(store.close(Duration::from_secs(10))).unwrap();
    (sim, paths)
}

fn offline(sim: &Sim) -> Offline {
    Offline::open(std::path::Path::new("/data"), sim.disk(), Clock::manual(5)).unwrap()
}

fn verified(folder: &Offline) -> PartitionReport {
    let partition = folder.select(Some("t/0")).unwrap().remove(0);
    folder.verify(&partition, true, |_| ()).unwrap()
}

fn damages(report: &PartitionReport) -> Vec<&str> {
    let findings = report.segments.iter().flat_map(|segment| &segment.findings).chain(&report.findings);
    findings.filter(|finding| finding.is_damage).map(|finding| finding.text.as_str()).collect()
}

#[test]
fn a_whole_folder_verifies_and_one_that_is_run_is_locked() {
    let (sim, paths) = folder(40);
    let report = verified(&offline(&sim));
    assert_eq!(damages(&report), Vec::<&str>::new());
    assert_eq!((report.start, report.end, report.segments.len()), (Offset(0), Offset(40), paths.len()));
    assert_eq!(report.segments.iter().map(|segment| segment.records).sum::<u64>(), 40);
    let store = open(&sim);
    let data = std::path::Path::new("/data");
    assert!(matches!(Offline::open(data, sim.disk(), Clock::manual(5)), Err(Error::Locked(_))));
    assert!(Offline::open_beside(data, sim.disk(), Clock::manual(5)).is_ok());
    drop(store);
    let nowhere = Offline::open(std::path::Path::new("/other"), sim.disk(), Clock::manual(5));
    assert!(matches!(nowhere, Err(Error::NoFolder(_))));
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_what_follows_is_still_counted() {
    let (sim, paths) = folder(40);
    // In the third batch of the second segment: each has a header and some more than a thousand bytes.
    sim.flip(&paths[1], 8 * 2_500);
    let report = verified(&offline(&sim));
    let found = damages(&report);
    assert!(found.len() == 1 && found[0].contains("crc"), "{found:?}");
    assert_eq!(report.segments.iter().map(|segment| segment.records).sum::<u64>(), 39);
    assert!(report.is_damaged());
    // A start takes it: the damage is old, and fails only who reads there.
    let store = open(&sim);
    let t = partition(&store, "t");
    assert_eq!(t.shared.read_only, None);
    let base = report.segments[1].base;
    assert!(matches!(t.read_blocking(base.plus(2), 1), Err(ReadError::Corrupt { .. })));
    assert!(t.read_blocking(base.plus(4), 1).is_err() || t.read_blocking(report.segments[2].base, 1).is_ok());
    append(&t, batch(40, 1, 0, None)).unwrap();
}

#[test]
fn a_missing_old_segment_fails_its_range_and_no_other() {
    let (sim, paths) = folder(40);
    sim.disk().remove_file(&paths[1]).unwrap();
    sim.disk().sync_folder(paths[1].parent().unwrap()).unwrap();
    assert!(damages(&verified(&offline(&sim))).iter().any(|text| text.contains("missing")));
    let store = open(&sim);
    let t = partition(&store, "t");
    assert_eq!(t.shared.read_only, None);
    let bases: Vec<Offset> = t.shared.segments.load().iter().map(|segment| segment.base).collect();
    assert!(t.read_blocking(bases[1], 1).is_err());
    assert_eq!(t.read_blocking(bases[2], 1).unwrap().batches[0].base_offset(), bases[2]);
}

#[test]
fn damage_below_the_durable_position_stays_read_only_until_it_is_repaired() {
    let (sim, paths) = folder(40);
    let last = paths.last().unwrap();
    let size = sim.disk().open(last).unwrap().size().unwrap();
    sim.cut(last, size as usize - 100);
    for _ in 0..2 {
        let store = open(&sim);
        let t = partition(&store, "t");
        assert!(t.shared.read_only.as_ref().is_some_and(|reason| reason.contains("repair")));
        assert!(matches!(append(&t, batch(40, 1, 0, None)), Err(AppendError::Refused(_))));
        assert_eq!(read_all(&t).len(), 39, "what is whole can be read");
        assert!(store.health().read_only.len() == 1);
        wait(store.close(Duration::from_secs(10))).unwrap();
    }
    let mut folder = offline(&sim);
    assert!(damages(&verified(&folder)).iter().any(|text| text.contains("offsets 39 to 40")));
    let t = folder.select(Some("t/0")).unwrap().remove(0);
    let repaired = folder.repair(&t).unwrap().unwrap();
    assert_eq!((repaired.end, repaired.known_end), (Offset(39), Some(Offset(40))));
    assert!(repaired.kept_bytes > 0);
    let kept = sim.disk().list(std::path::Path::new("/data/lost+found")).unwrap();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(folder.repair(&t).unwrap().is_none(), "it was repaired twice");
    assert_eq!(damages(&verified(&folder)), Vec::<&str>::new());
    drop(folder);
    let store = open(&sim);
    let t = partition(&store, "t");
    assert_eq!(append(&t, batch(39, 1, 0, None)).unwrap().base_offset, Offset(39));
    assert_eq!(read_all(&t).len(), 40);
}

#[test]
fn a_lost_active_segment_or_all_of_them_are_repaired_too() {
    for lost in [false, true] {
        let (sim, paths) = folder(40);
        let gone = if lost { &paths[..] } else { &paths[paths.len() - 1..] };
        for path in gone {
            sim.disk().remove_file(path).unwrap();
        }
        sim.disk().sync_folder(paths[0].parent().unwrap()).unwrap();
        for _ in 0..2 {
            let store = open(&sim);
            assert!(partition(&store, "t").shared.read_only.is_some(), "all lost: {lost}");
            wait(store.close(Duration::from_secs(10))).unwrap();
        }
        let mut folder = offline(&sim);
        let t = folder.select(Some("t")).unwrap().remove(0);
        let end = folder.repair(&t).unwrap().unwrap().end;
        // Nothing left: offsets are not given out twice.
        assert_eq!(end == Offset(40), lost);
        drop(folder);
        let store = open(&sim);
        let t = partition(&store, "t");
        assert_eq!(append(&t, batch(7, 1, 0, None)).unwrap().base_offset, end);
        assert_eq!(read_all(&t).len(), if lost { 1 } else { end.0 as usize + 1 });
    }
}

#[test]
fn a_dump_reads_beside_a_daemon_from_any_offset() {
    let sim = Sim::new(3);
    let store = open(&sim);
    topic(&store, "t", &[("segment.bytes", "16384")]);
    let t = partition(&store, "t");
    for n in 0..30 {
        append(&t, batch(n * 2, 2, 900, None)).unwrap();
    }
    let folder = Offline::open_beside(std::path::Path::new("/data"), sim.disk(), Clock::manual(5)).unwrap();
    let place = folder.select(Some("t/0")).unwrap().remove(0);
    let mut offsets = Vec::new();
    let ended = folder.dump(&place, Offset(33), |batch, base, _| {
        assert!(base <= batch.base_offset());
        offsets.push(batch.base_offset().0);
        offsets.len() < 10
    });
    assert_eq!((ended.unwrap(), offsets), (None, (16..26).map(|n| n * 2).collect()));
    assert!(matches!(folder.select(Some("t/1")), Err(Error::NoPartition(_))));
    assert_eq!(file_name(Offset(7)), "00000000000000000007.log");
}
