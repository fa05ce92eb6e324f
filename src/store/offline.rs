//! A data folder that no daemon runs, for the commands that look into it and mend it: verify, dump, repair.
//!
//! Verify and repair hold the folder's lock; a dump reads beside a running daemon and changes nothing.

use super::Error;
use super::catalog::{Catalog, Meta};
use super::open::{CATALOG, CHECKPOINT, LOCK, LOST_AND_FOUND, TOPICS, load_checkpoint, load_meta};
use crate::clock::Clock;
use crate::disk::Disk;
use crate::log::{
    Checkpoint, Damage, Found, Gap, Inspected, Known, PartitionCheckpoint, Repaired, ScanEnd, Segment, SyncedBy,
    compact, file_name, inspect, repair, scan_while, whole_batch_from,
};
use crate::record::{Batch, DECODED_SIZE_MAX, Offset};
use bytes::Bytes;
use serde::Serialize;
use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// Findings of one segment that are told one by one.
const FINDINGS_MAX: usize = 100;

/// A data folder as files.
pub struct Offline {
    disk: Arc<dyn Disk>,
    clock: Clock,
    data: PathBuf,
    meta: Meta,
    catalog: Catalog,
    checkpoint: Checkpoint,
    /// Held until this is dropped; `None` beside a running daemon.
    lock: Option<Box<dyn Any + Send + Sync>>,
}

/// A partition of such a folder.
#[derive(Clone, Debug)]
pub struct OfflinePartition {
    pub topic: String,
    pub id: i32,
    topic_id: Uuid,
    folder: PathBuf,
}

/// What was found in one partition.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionReport {
    pub topic: String,
    pub partition: i32,
    /// First offset that readers may ask for, and the next to give out.
    pub start: Offset,
    pub end: Offset,
    pub segments: Vec<SegmentReport>,
    /// What concerns no single segment.
    pub findings: Vec<Finding>,
}

/// What was found in one segment.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentReport {
    pub file: String,
    pub base: Offset,
    pub next: Offset,
    pub batches: u64,
    pub records: u64,
    /// Bytes of whole batches.
    pub bytes: u64,
    /// Bytes of the file, reserved ones included.
    pub file_bytes: u64,
    pub findings: Vec<Finding>,
}

/// Something worth telling.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Stored batches are lost or cannot be read; else it is only good to know.
    pub is_damage: bool,
    pub text: String,
}

impl PartitionReport {
    pub fn is_damaged(&self) -> bool {
        let in_segments = self.segments.iter().flat_map(|segment| &segment.findings);
        self.findings.iter().chain(in_segments).any(|finding| finding.is_damage)
    }
}

impl Offline {
    /// Opens a folder and takes its lock.
    ///
    /// # Errors
    /// [`Error`]: there is no data folder, a daemon runs it, its format is another, its small files are damaged.
    pub fn open(data: &Path, disk: Arc<dyn Disk>, clock: Clock) -> Result<Offline, Error> {
        let mut folder = Offline::open_beside(data, disk, clock)?;
        let lock = folder.disk.lock(&data.join(LOCK)).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Error::Locked(data.to_owned()),
            _ => Error::Io { what: "lock", path: data.to_owned(), source: error },
        })?;
        folder.lock = Some(lock);
        // Read again: what a daemon wrote until it let go of the lock.
        folder.catalog = Catalog::load(folder.disk.as_ref(), &data.join(CATALOG))?;
        folder.checkpoint = load_checkpoint(folder.disk.as_ref(), data);
        Ok(folder)
    }

    /// Opens a folder that a daemon may be running; only [`Offline::dump`] is of use then.
    ///
    /// # Errors
    /// As [`Offline::open`], but for the lock.
    pub fn open_beside(data: &Path, disk: Arc<dyn Disk>, clock: Clock) -> Result<Offline, Error> {
        let Some(meta) = load_meta(disk.as_ref(), data)? else { return Err(Error::NoFolder(data.to_owned())) };
        let catalog = Catalog::load(disk.as_ref(), &data.join(CATALOG))?;
        let checkpoint = load_checkpoint(disk.as_ref(), data);
        Ok(Offline { disk, clock, data: data.to_owned(), meta, catalog, checkpoint, lock: None })
    }

    /// The partitions that `TOPIC` or `TOPIC/P` names, or all, by topic and number.
    ///
    /// # Errors
    /// [`Error::NoPartition`].
    pub fn select(&self, name: Option<&str>) -> Result<Vec<OfflinePartition>, Error> {
        let (topic, id) = match name.map(|name| name.rsplit_once('/').unwrap_or((name, ""))) {
            None => (None, None),
            Some((topic, "")) => (Some(topic), None),
            Some((topic, id)) => {
                let id = id.parse::<i32>().map_err(|_| Error::NoPartition(name.unwrap_or_default().to_owned()))?;
                (Some(topic), Some(id))
            }
        };
        let mut found = Vec::new();
        for record in self.catalog.topics.iter().filter(|record| topic.is_none_or(|topic| record.name == topic)) {
            for number in (0..record.partitions).filter(|number| id.is_none_or(|id| id == *number)) {
                let folder = self.data.join(TOPICS).join(&record.name).join(record.id.to_string());
                let folder = folder.join(number.to_string());
                found.push(OfflinePartition { topic: record.name.clone(), id: number, topic_id: record.id, folder });
            }
        }
        found.sort_by(|a, b| (&a.topic, a.id).cmp(&(&b.topic, b.id)));
        match name {
            Some(name) if found.is_empty() => Err(Error::NoPartition(name.to_owned())),
            _ => Ok(found),
        }
    }

    /// Bytes that a verify of `partition` reads.
    ///
    /// # Errors
    /// The disk's.
    pub fn size(&self, partition: &OfflinePartition) -> Result<u64, Error> {
        let size = |base| self.disk.open(&partition.folder.join(file_name(base)))?.size();
        let found = compact::look(self.disk.as_ref(), &partition.folder, None);
        let sizes = found.and_then(|found| found.bases.into_iter().map(size).sum());
        sizes.map_err(failed("read", &partition.folder))
    }

    /// Reads every batch of every segment: CRC, chain, epochs, and with `is_deep` whether its records can be decoded. `on_bytes` is told
    /// the size of each batch as it is read.
    ///
    /// # Errors
    /// The disk's. Damage is not an error.
    pub fn verify(
        &self,
        partition: &OfflinePartition,
        is_deep: bool,
        mut on_bytes: impl FnMut(u64),
    ) -> Result<PartitionReport, Error> {
        let disk = self.disk.as_ref();
        let io = failed("read", &partition.folder);
        let looked = compact::look(disk, &partition.folder, self.checkpoint_of(partition)).map_err(&io)?;
        let (bases, known) = (looked.bases, looked.checkpoint.as_ref());
        let mut report = PartitionReport {
            topic: partition.topic.clone(),
            partition: partition.id,
            start: known.map_or(bases.first().copied().unwrap_or_default(), |known| known.start),
            end: bases.first().copied().unwrap_or_default(),
            segments: Vec::with_capacity(bases.len()),
            findings: missing(&bases, known),
        };
        report.findings.extend(looked.damage.map(|reason| Finding {
            is_damage: false,
            text: format!("how far compaction has come is lost ({reason}): it begins anew"),
        }));
        let mut epoch = -1;
        for (at, base) in bases.iter().enumerate() {
            let segment = Segment::new(&partition.folder, *base, 0, 0, -1).with_holes(looked.holes_below);
            let mut findings = Vec::new();
            if at > 0 && *base != report.end {
                findings.push(damage(format!("it begins at offset {base}, {} was expected", report.end)));
            }
            let found = inspect(disk, &segment, epoch, self.meta.leader_epoch, |batch| {
                on_bytes(batch.header.size as u64);
                if is_deep && findings.len() < FINDINGS_MAX {
                    findings.extend(undecodable(batch));
                }
            })
            .map_err(&io)?;
            (report.end, epoch) = (found.next, found.epoch);
            let is_last = at + 1 == bases.len();
            for gap in &found.gaps {
                findings.push(self.judge(gap, &segment, known, is_last).map_err(&io)?);
            }
            findings.extend(short(&found, *base, known));
            report.segments.push(SegmentReport {
                file: file_name(*base),
                base: *base,
                next: found.next,
                batches: found.batches,
                records: found.records,
                bytes: found.size,
                file_bytes: found.file_size,
                findings,
            });
        }
        if let Some(known) = known.filter(|known| known.end > report.end) {
            report.findings.push(damage(format!("offsets {} to {} were durable and are lost", report.end, known.end)));
        }
        Ok(report)
    }

    /// Tells each batch of a partition from the one that holds `from` on, with the segment's base and its position, until `on_batch`
    /// answers false. Returns why it ended before the last file's end, if it did: beside a running daemon that may be a round in work.
    ///
    /// # Errors
    /// The disk's.
    pub fn dump(
        &self,
        partition: &OfflinePartition,
        from: Offset,
        mut on_batch: impl FnMut(&Batch, Offset, u64) -> bool,
    ) -> Result<Option<String>, Error> {
        let io = failed("read", &partition.folder);
        let looked = compact::look(self.disk.as_ref(), &partition.folder, None).map_err(&io)?;
        let bases = looked.bases;
        let first = bases.partition_point(|base| *base <= from).saturating_sub(1);
        for base in &bases[first..] {
            let file = match self.disk.open(&partition.folder.join(file_name(*base))) {
                // Retention was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(&io)?,
            };
            let mut goes_on = true;
            let begin = ScanEnd::start(*base, i32::MAX).with_holes(looked.holes_below);
            let end = scan_while(file.as_ref(), begin, |found| {
                if found.header.last_offset() >= from {
                    let batch = Batch::check(Bytes::copy_from_slice(found.bytes));
                    goes_on = batch.is_ok_and(|batch| on_batch(&batch, *base, found.position));
                }
                goes_on
            })
            .map_err(&io)?;
            if !goes_on {
                return Ok(None);
            }
            if let Some(Damage::Bad(reason)) = end.damage {
                return Ok(Some(format!("{} at position {}: {reason}", file_name(*base), end.position)));
            }
        }
        Ok(None)
    }

    /// Cuts a partition that a start opens read-only behind its last batch that can be believed; the rest is kept in `lost+found`. `None`
    /// if a start would open it: then nothing was lost.
    ///
    /// # Errors
    /// The disk's.
    pub fn repair(&mut self, partition: &OfflinePartition) -> Result<Option<Repaired>, Error> {
        assert!(self.lock.is_some(), "a repair holds the folder's lock");
        let name = format!("{}-{}", partition.topic, partition.id);
        let known = Known {
            checkpoint: self.checkpoint_of(partition),
            leader_epoch: self.meta.leader_epoch,
            round_bytes_max: self.meta.round_bytes_max,
            lost_and_found: &self.data.join(LOST_AND_FOUND),
            name: &name,
            now_ms: self.clock.now_ms(),
            synced_by: SyncedBy::Recovery,
        };
        let key = (partition.topic_id, partition.id);
        let repaired =
            repair(self.disk.as_ref(), &partition.folder, &known, key).map_err(failed("repair", &partition.folder))?;
        let Some((repaired, checkpoint)) = repaired else { return Ok(None) };
        self.checkpoint.partitions.insert(key, checkpoint);
        let path = self.data.join(CHECKPOINT);
        let written = self.checkpoint.encode().map_err(io::Error::from);
        let written = written.and_then(|bytes| self.disk.replace(&path, &bytes));
        written.map_err(failed("write", &path))?;
        Ok(Some(repaired))
    }

    fn checkpoint_of(&self, partition: &OfflinePartition) -> Option<&PartitionCheckpoint> {
        self.checkpoint.partitions.get(&(partition.topic_id, partition.id))
    }

    /// A gap at the end of the last segment, above what was durable, is what a crash leaves: the next start cuts it.
    fn judge(
        &self,
        gap: &Gap,
        segment: &Segment,
        known: Option<&PartitionCheckpoint>,
        is_last: bool,
    ) -> io::Result<Finding> {
        let Gap { position, expected, reason, resumes } = gap;
        let is_below = known.is_some_and(|known| {
            segment.base < known.segment || (segment.base == known.segment && *position < known.position)
        });
        let beyond = position + self.meta.round_bytes_max;
        if is_last && !is_below && whole_batch_from(self.disk.as_ref(), segment, beyond, *expected)?.is_none() {
            let text = format!("an unfinished round stands at position {position} ({reason}): the next start cuts it");
            return Ok(Finding { is_damage: false, text });
        }
        let lost = match resumes {
            Some((_, offset)) => format!("offsets {expected} to {offset} are lost"),
            None => format!("offsets from {expected} on are lost in this file"),
        };
        Ok(damage(format!("at position {position}: {reason}; {lost}")))
    }
}

fn damage(text: String) -> Finding {
    Finding { is_damage: true, text }
}

/// Segments that the checkpoint names and the folder lacks.
fn missing(bases: &[Offset], known: Option<&PartitionCheckpoint>) -> Vec<Finding> {
    let Some(known) = known else { return Vec::new() };
    let named = known.sealed.iter().map(|sealed| sealed.base).chain([known.segment]);
    let lost = named.filter(|base| bases.binary_search(base).is_err());
    lost.map(|base| damage(format!("segment {} is missing", file_name(base)))).collect()
}

/// A file that ends before what the checkpoint says was durable, without anything else being wrong.
fn short(found: &Inspected, base: Offset, known: Option<&PartitionCheckpoint>) -> Option<Finding> {
    let known = known?;
    let sealed = known.sealed.iter().find(|sealed| sealed.base == base).map(|sealed| sealed.size);
    let durable = if known.segment == base { known.position } else { sealed? };
    (found.position < durable && found.gaps.is_empty())
        .then(|| damage(format!("its batches end at position {}, they were durable up to {durable}", found.position)))
}

fn undecodable(found: &Found<'_>) -> Option<Finding> {
    let batch = Batch::check(Bytes::copy_from_slice(found.bytes)).ok()?;
    let error = batch.records(DECODED_SIZE_MAX).err()?;
    let (position, offset) = (found.position, found.header.base_offset);
    Some(damage(format!("the batch of offset {offset} at position {position} cannot be decoded: {error}")))
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Error + 'a {
    move |source| Error::Io { what, path: path.to_owned(), source }
}
