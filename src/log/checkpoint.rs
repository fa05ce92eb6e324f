//! The checkpoint of a data folder: where each partition was known to be durable, so that a start scans only what came after.
//!
//! A journal (see `journal.rs`) of passes. A pass has a record for each partition that changed since the last one, then
//! `{"commit":N}` with their count; it counts only with that. A later record of a partition replaces an earlier one. The file is
//! written whole when it has grown to [`CHECKPOINT_SIZE_MAX`]. Partitions of topics that the catalog does not know are passed over.

use super::journal::{self, Rest};
use super::partition::PartitionLog;
use super::producers::{Known, Producers, Sent};
use super::segment::Segment;
use crate::clock::Millis;
use crate::record::Offset;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// The file is written whole when it has grown past this.
pub const CHECKPOINT_SIZE_MAX: u64 = 64 << 20;

/// All partitions of a data folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    pub partitions: HashMap<(Uuid, i32), PartitionCheckpoint>,
}

/// One partition, as it was between two rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionCheckpoint {
    pub topic: Uuid,
    pub partition: i32,
    /// Base of the active segment, and the bytes of it that are durable.
    pub segment: Offset,
    pub position: u64,
    /// Where the last batch before `position` begins.
    pub last: Option<u64>,
    pub end: Offset,
    /// First offset that readers may ask for.
    pub start: Offset,
    /// Batches may be answered before they are synced.
    pub os: bool,
    /// The file was cut to `position`: nothing is to be scanned.
    pub clean: bool,
    pub epochs: Vec<(i32, Offset)>,
    pub producers: Vec<PackedProducer>,
    /// All segments but the active one, ascending.
    pub sealed: Vec<Sealed>,
    /// Arrival of the last batch and greatest timestamp of the active one.
    pub arrived_ms: Millis,
    pub max_timestamp: i64,
}

/// A segment that is written no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    pub base: Offset,
    pub size: u64,
    /// Of its last batch.
    pub arrived_ms: Millis,
    pub max_timestamp: i64,
}

/// A producer: id, epoch, last seen, last batches as (base sequence, count, base offset).
pub type PackedProducer = (i64, i16, Millis, Vec<(i32, i32, Offset)>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Commit {
    commit: usize,
}

/// What a checkpoint file holds.
#[derive(Debug, PartialEq)]
pub struct Decoded {
    /// As of the last whole pass.
    pub checkpoint: Checkpoint,
    /// Passes that count.
    pub passes: usize,
    /// Why there is no later pass, if it is not the end of the file: worth a line in the log.
    pub damage: Option<String>,
}

impl Checkpoint {
    /// A pass with all partitions.
    ///
    /// # Errors
    /// None is known: all values have a JSON form.
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        Checkpoint::encode_pass(self.partitions.values())
    }

    /// A pass with the partitions that changed.
    ///
    /// # Errors
    /// As [`Checkpoint::encode`].
    pub fn encode_pass<'a>(changed: impl Iterator<Item = &'a PartitionCheckpoint>) -> serde_json::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut count = 0;
        for partition in changed {
            journal::push(&mut out, partition)?;
            count += 1;
        }
        journal::push(&mut out, &Commit { commit: count })?;
        Ok(out)
    }

    /// The last whole pass with all before it: a pass that is cut off, or damaged, takes none of its partitions anywhere.
    pub fn decode(bytes: &[u8]) -> Decoded {
        let mut decoded = Decoded { checkpoint: Checkpoint::default(), passes: 0, damage: None };
        let mut pass: Vec<PartitionCheckpoint> = Vec::new();
        let (records, rest) = journal::records(bytes);
        for (number, json) in records.into_iter().enumerate() {
            if let Ok(Commit { commit }) = serde_json::from_str::<Commit>(json) {
                if commit != pass.len() {
                    decoded.damage = Some(format!("{commit} records were committed, {} are there", pass.len()));
                    return decoded;
                }
                decoded.passes += 1;
                decoded.checkpoint.partitions.extend(pass.drain(..).map(|one| ((one.topic, one.partition), one)));
                continue;
            }
            match serde_json::from_str(json) {
                Ok(partition) => pass.push(partition),
                Err(error) => {
                    decoded.damage = Some(format!("line {}: {error}", number + 1));
                    return decoded;
                }
            }
        }
        if let Rest::Damaged(reason) = rest {
            decoded.damage = Some(reason);
        }
        decoded
    }
}

impl PartitionCheckpoint {
    /// What a checkpoint keeps of a log that is between two rounds, all of it durable.
    pub fn take(
        topic: Uuid,
        partition: i32,
        log: &PartitionLog,
        segments: &[Arc<Segment>],
        start: Offset,
    ) -> PartitionCheckpoint {
        let active = &log.active;
        let sealed = segments.iter().filter(|segment| segment.base != active.segment.base);
        PartitionCheckpoint {
            topic,
            partition,
            segment: active.segment.base,
            position: active.position,
            last: active.last,
            end: log.end,
            start,
            os: false,
            clean: false,
            epochs: log.epochs.clone(),
            producers: PartitionCheckpoint::pack(&log.producers),
            sealed: sealed.map(|segment| segment.sealed()).collect(),
            arrived_ms: active.segment.arrived_ms(),
            max_timestamp: active.segment.max_timestamp(),
        }
    }

    /// The producers it remembers.
    pub fn producers(&self) -> Producers {
        let mut producers = Producers::default();
        for (id, epoch, seen_ms, sent) in &self.producers {
            let batches = sent
                .iter()
                .map(|(base_sequence, count, base_offset)| Sent {
                    base_sequence: *base_sequence,
                    count: *count,
                    base_offset: *base_offset,
                })
                .collect();
            producers.restore(*id, Known { epoch: *epoch, seen_ms: *seen_ms, batches });
        }
        producers
    }

    /// Producers in the form that a checkpoint keeps.
    pub fn pack(producers: &Producers) -> Vec<PackedProducer> {
        let pack = |sent: &Sent| (sent.base_sequence, sent.count, sent.base_offset);
        producers
            .iter()
            .map(|(id, known)| (id, known.epoch, known.seen_ms, known.batches.iter().map(pack).collect()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Checkpoint {
        let partition = |partition| PartitionCheckpoint {
            topic: Uuid::from_u128(7),
            partition,
            segment: Offset(40),
            position: 5000,
            last: Some(4000),
            end: Offset(90),
            start: Offset(3),
            os: false,
            clean: false,
            epochs: vec![(1, Offset(0)), (3, Offset(50))],
            producers: vec![(12, 0, 1_000, vec![(0, 5, Offset(60)), (5, 1, Offset(65))])],
            sealed: vec![Sealed { base: Offset(0), size: 100, arrived_ms: 900, max_timestamp: 800 }],
            arrived_ms: 1_000,
            max_timestamp: 990,
        };
        Checkpoint { partitions: (0..3).map(|n| ((Uuid::from_u128(7), n), partition(n))).collect() }
    }

    /// Three passes: all partitions, one of them again, two of them again; with the ends of the passes and what stands then.
    fn passes() -> (Vec<u8>, Vec<(usize, Checkpoint)>) {
        let mut checkpoint = example();
        let mut bytes = checkpoint.encode().unwrap();
        let mut stages = vec![(bytes.len(), checkpoint.clone())];
        for changed in [vec![1], vec![0, 2]] {
            let mut pass = Vec::new();
            for n in changed {
                let partition = checkpoint.partitions.get_mut(&(Uuid::from_u128(7), n)).unwrap();
                partition.position += 1_000;
                partition.end = partition.end.plus(10);
                pass.push(partition.clone());
            }
            bytes.extend(Checkpoint::encode_pass(pass.iter()).unwrap());
            stages.push((bytes.len(), checkpoint.clone()));
        }
        (bytes, stages)
    }

    #[test]
    fn what_is_written_is_read() {
        let (bytes, stages) = passes();
        let expected = Decoded { checkpoint: stages[2].1.clone(), passes: 3, damage: None };
        assert_eq!(Checkpoint::decode(&bytes), expected);
        let one = &expected.checkpoint.partitions[&(Uuid::from_u128(7), 1)];
        assert_eq!(PartitionCheckpoint::pack(&one.producers()), one.producers);
    }

    #[test]
    fn a_cut_anywhere_leaves_the_last_whole_pass() {
        let (bytes, stages) = passes();
        for cut in 0..bytes.len() {
            let decoded = Checkpoint::decode(&bytes[..cut]);
            let whole = stages.iter().filter(|(end, _)| *end <= cut).count();
            let expected = whole.checked_sub(1).map(|last| stages[last].1.clone()).unwrap_or_default();
            assert_eq!((decoded.passes, decoded.checkpoint), (whole, expected), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_leaves_the_last_whole_pass_and_is_told() {
        let (bytes, stages) = passes();
        for bit in (0..bytes.len() * 8).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let decoded = Checkpoint::decode(&flipped);
            // Only the letter case of a checksum's digits may differ.
            if decoded.passes == stages.len() {
                assert_eq!(decoded.checkpoint, stages[2].1, "bit {bit}");
                continue;
            }
            let whole = stages.iter().filter(|(end, _)| *end <= bit / 8).count();
            let expected = whole.checked_sub(1).map(|last| stages[last].1.clone()).unwrap_or_default();
            assert_eq!((decoded.passes, decoded.checkpoint), (whole, expected), "bit {bit}");
            assert!(decoded.damage.is_some(), "bit {bit}");
        }
    }
}
