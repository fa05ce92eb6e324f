//! A pass against a plain map: what stays, what goes, and that nothing else changes.

use super::*;
use crate::disk::Disk;
use crate::disk::sim::Sim;
use crate::log::segment::{Segment, Target, file_name};
use crate::log::{Producers, ScanEnd, scan_while};
use crate::record::{Batch, BatchBuilder, Codec, NewRecord, PIPELINE_PRODUCER_ID_MIN, Producer, Record};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

const FOLDER: &str = "/p";
const NOW: i64 = 1_000_000;
const RETENTION: i64 = 5_000;

/// One batch to be: its codec, its producer if it has one, and its records: key (0 = none), whether it has a value, time.
#[derive(Clone, Debug)]
struct Plain {
    codec: Codec,
    producer: Option<i64>,
    records: Vec<(u8, bool, i64)>,
}

fn plain() -> impl Strategy<Value = Plain> {
    let records = proptest::collection::vec((0u8..9, proptest::bool::weighted(0.7), 0i64..1 << 41), 1..8);
    let producer = proptest::option::of(1i64..4);
    (0usize..5, producer, records).prop_map(|(codec, producer, records)| Plain {
        codec: Codec::ALL[codec],
        producer,
        records,
    })
}

/// A log whose segments are sealed.
struct Log {
    disk: Sim,
    segments: Vec<Arc<Segment>>,
    producers: Producers,
    end: Offset,
}

impl Log {
    fn new() -> Log {
        let disk = Sim::new(1);
        disk.create_folder(Path::new(FOLDER)).unwrap();
        Log { disk, segments: Vec::new(), producers: Producers::default(), end: Offset(0) }
    }

    /// Adds a segment with these batches.
    fn add(&mut self, batches: &[Batch]) {
        let segment = Segment::new(Path::new(FOLDER), self.end, 0, 0, -1);
        let file = self.disk.create(&segment.path).unwrap();
        for batch in batches {
            let stamped = batch.stamped(self.end, 3);
            file.write_at(stamped.bytes(), segment.size()).unwrap();
            segment.grow(stamped.header(), segment.size(), NOW);
            self.producers.note(stamped.header(), self.end, NOW);
            self.end = stamped.next_offset();
        }
        file.sync().unwrap();
        self.disk.sync_folder(Path::new(FOLDER)).unwrap();
        segment.seal();
        self.segments.push(Arc::new(segment));
    }

    fn add_plain(&mut self, batches: &[Plain]) {
        let mut sequences: HashMap<i64, i32> = HashMap::new();
        for (id, known) in self.producers.iter() {
            let last = known.batches.back().unwrap();
            sequences.insert(id, last.base_sequence + last.count);
        }
        let built: Vec<Batch> = batches.iter().map(|plain| build(plain, &mut sequences)).collect();
        self.add(&built);
    }

    fn batches(&self) -> Vec<Batch> {
        let mut batches = Vec::new();
        for segment in &self.segments {
            let from = ScanEnd::start(segment.base, 3).with_holes(segment.holes_below);
            let end = scan_while(segment.file(&self.disk).unwrap().as_ref(), from, |found| {
                batches.push(Batch::check(Bytes::copy_from_slice(found.bytes)).unwrap());
                true
            });
            let end = end.unwrap();
            assert_eq!((end.damage, end.position), (None, segment.size()), "{}", segment.base);
        }
        batches
    }

    fn records(&self) -> Vec<Record> {
        self.batches().iter().flat_map(|batch| batch.records(1 << 20).unwrap()).collect()
    }

    /// One pass, from `from` to the end or as far as `keys` have room; where that was.
    fn pass(&mut self, mut keys: Keys, from: Offset, now_ms: i64, size_max: u64) -> (Offset, Removed, Cleaned) {
        let folder = Path::new(FOLDER);
        let end = fill(&mut keys, &self.disk, &self.segments, (from, self.end), &|| true).unwrap();
        let producers = self.producers.iter().filter_map(|(id, known)| Some((id, known.last_offset()?))).collect();
        let rules = Rules { keys: &keys, end, now_ms, delete_retention_ms: RETENTION, producers: &producers };
        let count = self.segments.partition_point(|segment| segment.base < end);
        let (mut removed, mut cleaned) = (Removed::default(), Cleaned::default());
        let old = self.segments.clone();
        let mut next: Vec<Arc<Segment>> = Vec::new();
        let mut at = 0;
        for group in groups(&old[..count], size_max) {
            at += group.len();
            let group_end = old.get(at).map_or(self.end, |next| next.base);
            let new = rewrite(&self.disk, folder, group, group_end, &rules, &|| true).unwrap();
            removed.add(new.removed);
            cleaned.horizon_ms = cleaned.horizon_ms.into_iter().chain(new.horizon_ms).min();
            swap(&self.disk, folder, group, &new, &mut cleaned).map_err(|(error, _)| error).unwrap();
            next.push(new.segment);
        }
        next.extend_from_slice(&old[count..]);
        self.segments = next;
        (end, removed, cleaned)
    }
}

fn build(plain: &Plain, sequences: &mut HashMap<i64, i32>) -> Batch {
    let mut builder = BatchBuilder::new();
    for (key, has_value, timestamp) in &plain.records {
        let value = vec![*key; 30 + usize::from(*key)];
        let name = [b'k', *key];
        builder.push(NewRecord {
            timestamp: *timestamp,
            key: (*key > 0).then_some(name.as_slice()),
            value: has_value.then_some(value.as_slice()),
            headers: &[(b"h", Some(name.as_slice())), (b"n", None)],
        });
    }
    if let Some(id) = plain.producer {
        let sequence = sequences.entry(id).or_insert(0);
        builder.producer(Producer { id, epoch: 0, base_sequence: *sequence });
        *sequence += plain.records.len() as i32;
    }
    builder.build(Codec::None).unwrap().recoded(plain.codec, 1 << 20).unwrap()
}

/// What must be left of `records`, by a plain map: the last of each key.
fn expected(records: &[Record], end: Offset, tombstones: bool) -> Vec<Record> {
    let mut last: BTreeMap<Bytes, Offset> = BTreeMap::new();
    for record in records.iter().filter(|record| record.offset < end) {
        last.extend(record.key.clone().map(|key| (key, record.offset)));
    }
    let stays = |record: &&Record| {
        let is_last = record.key.as_ref().is_some_and(|key| last[key] == record.offset);
        record.offset >= end || (is_last && (tombstones || record.value.is_some()))
    };
    records.iter().filter(stays).cloned().collect()
}

/// What holds of every log after a pass, whatever was in it.
fn assert_sound(log: &Log, before: &[Batch]) {
    let mut next = log.segments[0].base;
    let after = log.batches();
    for batch in &after {
        let header = batch.header();
        assert!(batch.base_offset() >= next, "{} after {next}", batch.base_offset());
        next = batch.next_offset();
        let old = before.iter().find(|old| old.base_offset() == batch.base_offset()).unwrap();
        let of = |header: &crate::record::Header| {
            (header.last_offset_delta, header.leader_epoch, header.producer, header.timestamp_type)
        };
        assert_eq!(of(header), of(old.header()));
        let codec = if header.count == 0 { Codec::None } else { old.header().codec };
        assert_eq!(header.codec, codec);
        let records = batch.records(1 << 20).unwrap();
        if let Some(greatest) = records.iter().map(|record| record.timestamp).max() {
            assert_eq!(header.max_timestamp, greatest);
        }
    }
    assert_eq!(next, log.end, "nobody finds the end");
    for (at, segment) in log.segments.iter().enumerate() {
        let last = after.iter().rfind(|batch| {
            batch.base_offset() >= segment.base && {
                log.segments.get(at + 1).is_none_or(|next| batch.base_offset() < next.base)
            }
        });
        let end = log.segments.get(at + 1).map_or(log.end, |next| next.base);
        assert_eq!(last.map(Batch::next_offset), Some(end), "segment {}", segment.base);
    }
    // Whoever starts without a checkpoint knows each producer's last sequence.
    let mut found = Producers::default();
    after.iter().for_each(|batch| found.note(batch.header(), batch.base_offset(), NOW));
    for (id, known) in log.producers.iter() {
        let of = |known: &crate::log::KnownProducer| (known.epoch, known.batches.back().copied());
        let found = found.iter().find(|(other, _)| *other == id).map(|(_, known)| of(known));
        assert_eq!(found, Some(of(known)), "producer {id}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn of_each_key_the_last_record_is_left_as_it_was(
        segments in proptest::collection::vec(proptest::collection::vec(plain(), 1..6), 1..5),
        size_max in 1u64..3_000,
    ) {
        let mut log = Log::new();
        segments.iter().for_each(|batches| log.add_plain(batches));
        let (records, batches) = (log.records(), log.batches());
        let (end, removed, cleaned) = log.pass(Keys::default(), Offset(0), NOW, size_max);
        prop_assert_eq!(end, log.end);
        prop_assert_eq!(log.records(), expected(&records, end, true));
        prop_assert_eq!(removed.total() as usize, records.len() - log.records().len());
        assert_sound(&log, &batches);
        let has_tombstone = log.records().iter().any(|record| record.value.is_none());
        prop_assert_eq!(cleaned.horizon_ms, has_tombstone.then_some(NOW + RETENTION));
        // Before their time tombstones stay, whatever came meanwhile; then they go.
        let (_, removed, _) = log.pass(Keys::default(), end, NOW + RETENTION - 1, size_max);
        prop_assert_eq!(removed, Removed::default());
        prop_assert_eq!(log.records(), expected(&records, end, true));
        let (.., cleaned) = log.pass(Keys::default(), end, NOW + RETENTION, size_max);
        prop_assert_eq!(log.records(), expected(&records, end, false));
        prop_assert_eq!(cleaned.horizon_ms, None);
        assert_sound(&log, &batches);
    }

    #[test]
    fn what_does_not_fit_into_one_pass_is_done_by_the_next_ones(
        segments in proptest::collection::vec(proptest::collection::vec(plain(), 1..6), 1..5),
        room in 1usize..6,
    ) {
        let mut log = Log::new();
        segments.iter().for_each(|batches| log.add_plain(batches));
        let (records, batches) = (log.records(), log.batches());
        let mut from = Offset(0);
        while from < log.end {
            let (end, ..) = log.pass(Keys::with_max(room), from, NOW, 2_000);
            prop_assert!(end > from, "stuck at {}", from);
            // What lies behind is as it was.
            let behind = |records: Vec<Record>| records.into_iter().filter(|one| one.offset >= end).collect::<Vec<_>>();
            prop_assert_eq!(behind(log.records()), behind(records.clone()));
            from = end;
        }
        prop_assert_eq!(log.records(), expected(&records, log.end, true));
        assert_sound(&log, &batches);
    }
}

fn one(key: u8, has_value: bool) -> Plain {
    Plain { codec: Codec::Zstd, producer: None, records: vec![(key, has_value, 77)] }
}

#[test]
fn small_neighbours_become_one_segment_and_its_index_leads_to_what_is_left() {
    let mut log = Log::new();
    for round in 0..20u8 {
        let batches: Vec<Plain> = (1..60u8).map(|key| one(key.wrapping_mul(round + 1).max(1), true)).collect();
        log.add_plain(&batches);
    }
    let old = log.segments.clone();
    log.pass(Keys::default(), Offset(0), NOW, 1 << 20);
    assert_eq!(log.segments.len(), 1);
    let new = &log.segments[0];
    assert!(new.size() < old.iter().map(|segment| segment.size()).sum::<u64>() / 3);
    assert_eq!((new.arrived_ms(), new.max_timestamp()), (NOW, 77));
    let batches = log.batches();
    for batch in &batches {
        let (position, offset) = new.seek(&log.disk, Target::Offset(batch.base_offset())).unwrap();
        assert!(offset <= batch.base_offset() && position < new.size());
    }
    // Who holds an old one reads on in it, and leaves the names to the new one.
    for segment in &old {
        assert!(segment.seek(&log.disk, Target::Offset(segment.base.plus(30))).is_ok());
        let file = segment.file(&log.disk).unwrap();
        let end = scan_while(file.as_ref(), ScanEnd::start(segment.base, 3), |_| true).unwrap();
        assert_eq!((end.position, end.damage), (segment.size(), None));
    }
    let names = log.disk.list(Path::new(FOLDER)).unwrap();
    let expected = ["00000000000000000000.index", "00000000000000000000.log", "compaction"];
    assert!(names.iter().map(|path| path.file_name().unwrap()).eq(expected), "{names:?}");
}

#[test]
fn a_control_batch_and_one_that_cannot_be_decoded_stay_byte_by_byte() {
    let mut log = Log::new();
    let batch = build(&one(1, true), &mut HashMap::new());
    let changed = |at: usize, new: &[u8]| {
        let mut bytes = batch.bytes().to_vec();
        bytes[at..at + new.len()].copy_from_slice(new);
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        Batch::check(bytes.into()).unwrap()
    };
    let control = changed(21, &0x34i16.to_be_bytes());
    let broken = changed(70, &[0xFF; 8]);
    log.add(&[control, broken, batch.clone()]);
    let before = log.batches();
    log.pass(Keys::default(), Offset(0), NOW, 1 << 20);
    let after = log.batches();
    assert!(before.iter().zip(&after).all(|(old, new)| old.bytes() == new.bytes()) && after.len() == 3);
}

#[test]
fn a_pipelines_mark_stays_for_a_day() {
    for (age, left) in [(0, 2), (25 * 60 * 60 * 1000, 1)] {
        let mut log = Log::new();
        let mut marked = one(1, true);
        marked.producer = Some(PIPELINE_PRODUCER_ID_MIN);
        marked.records.push((2, true, 5));
        log.add_plain(&[marked, one(1, true), one(2, true)]);
        // The pipeline has gone on.
        log.producers = Producers::default();
        let mut later = Log { producers: Producers::default(), ..log };
        later.pass(Keys::default(), Offset(0), NOW + age, 1 << 20);
        let offsets: Vec<i64> = later.records().iter().map(|record| record.offset.0).collect();
        assert_eq!(offsets.first() == Some(&1), left == 2, "{offsets:?}");
    }
}

#[test]
fn damage_ends_a_pass_and_nothing_is_copied() {
    let mut log = Log::new();
    log.add_plain(&[one(1, true), one(2, true), one(1, true)]);
    let path = Path::new(FOLDER).join(file_name(Offset(0)));
    log.disk.flip(&path, 8 * 80);
    let failed = fill(&mut Keys::default(), &log.disk, &log.segments, (Offset(0), log.end), &|| true);
    assert!(matches!(failed, Err(Error::Damaged { .. })), "{failed:?}");
    let mut log = Log::new();
    log.add_plain(&[one(1, true)]);
    let stopped = fill(&mut Keys::default(), &log.disk, &log.segments, (Offset(0), log.end), &|| false);
    assert!(matches!(stopped, Err(Error::Stopped)));
}
