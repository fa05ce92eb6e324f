//! The checkpoint of a data folder: where each partition was known to be durable, so that a start scans only what came after.
//!
//! Text, one record a line: CRC-32C of the rest in 8 hex digits, a space, JSON. The last line is `{"commit":N}` with the count of lines
//! before it; a file without a right one is no checkpoint. It is replaced as a whole.

use super::producers::{Known, Producers, Sent};
use crate::clock::Millis;
use crate::record::Offset;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use uuid::Uuid;

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
    /// Batches may have been answered before they were synced.
    pub os: bool,
    /// The file was cut to `position`: nothing is to be scanned.
    pub clean: bool,
    pub epochs: Vec<(i32, Offset)>,
    pub producers: Vec<PackedProducer>,
    /// All segments but the active one: (base, size, arrival of the last batch, greatest timestamp).
    pub sealed: Vec<(Offset, u64, Millis, i64)>,
    /// Arrival of the last batch and greatest timestamp of the active one.
    pub arrived_ms: Millis,
    pub max_timestamp: i64,
}

/// A producer: id, epoch, last seen, last batches as (base sequence, count, base offset).
pub type PackedProducer = (i64, i16, Millis, Vec<(i32, i32, Offset)>);

#[derive(Serialize, Deserialize)]
struct Commit {
    commit: usize,
}

impl Checkpoint {
    /// The file's bytes.
    ///
    /// # Errors
    /// None is known: all values have a JSON form.
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let mut out = Vec::new();
        for partition in self.partitions.values() {
            push_line(&mut out, serde_json::to_string(partition)?);
        }
        push_line(&mut out, serde_json::to_string(&Commit { commit: self.partitions.len() })?);
        Ok(out)
    }

    /// # Errors
    /// What is wrong, for the log: a start without a checkpoint scans everything.
    pub fn decode(bytes: &[u8]) -> Result<Checkpoint, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let mut checkpoint = Checkpoint::default();
        let mut committed = None;
        for (number, line) in text.lines().enumerate() {
            let bad = |what: &str| format!("line {}: {what}", number + 1);
            let (crc, json) = line.split_once(' ').ok_or_else(|| bad("no checksum"))?;
            if u32::from_str_radix(crc, 16) != Ok(crc32c::crc32c(json.as_bytes())) {
                return Err(bad("wrong checksum"));
            }
            if let Ok(commit) = serde_json::from_str::<Commit>(json) {
                committed = Some(commit.commit);
                continue;
            }
            let partition: PartitionCheckpoint = serde_json::from_str(json).map_err(|error| bad(&error.to_string()))?;
            checkpoint.partitions.insert((partition.topic, partition.partition), partition);
        }
        match committed {
            Some(count) if count == checkpoint.partitions.len() => Ok(checkpoint),
            Some(count) => Err(format!("{count} records were committed, {} are there", checkpoint.partitions.len())),
            None => Err("it has no commit record".to_owned()),
        }
    }
}

impl PartitionCheckpoint {
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

fn push_line(out: &mut Vec<u8>, json: String) {
    out.extend_from_slice(format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())).as_bytes());
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
            sealed: vec![(Offset(0), 100, 900, 800)],
            arrived_ms: 1_000,
            max_timestamp: 990,
        };
        Checkpoint { partitions: (0..3).map(|n| ((Uuid::from_u128(7), n), partition(n))).collect() }
    }

    #[test]
    fn what_is_written_is_read() {
        let checkpoint = example();
        assert_eq!(Checkpoint::decode(&checkpoint.encode().unwrap()).unwrap(), checkpoint);
        let one = &checkpoint.partitions[&(Uuid::from_u128(7), 1)];
        assert_eq!(PartitionCheckpoint::pack(&one.producers()), one.producers);
    }

    #[test]
    fn a_cut_or_a_flipped_bit_is_no_checkpoint() {
        let bytes = example().encode().unwrap();
        for cut in 0..bytes.len() - 1 {
            assert!(Checkpoint::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for bit in (0..bytes.len() * 8).step_by(7) {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = Checkpoint::decode(&bytes) {
                // Only the letter case of a checksum's digits may differ.
                assert_eq!(read, example(), "bit {bit}");
            }
        }
    }
}
