//! [`PartitionLog`]: what the writer of a partition knows: where the log ends, who produced last, and how a round becomes bytes.
//!
//! One writer thread owns the right to append. The order is: [`PartitionLog::stage`] each batch into a [`Round`], write the round's bytes,
//! sync, [`PartitionLog::commit`]. A round that fails is never committed, and the store takes no further one.

use super::producers::{Producers, SequenceError, Verdict};
use super::segment::Segment;
use crate::clock::Millis;
use crate::disk::{ALIGNMENT, Allocate, Buffer, Disk};
use crate::record::{Batch, Offset};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Space is reserved in steps that double between these.
const RESERVE_MIN: u64 = 1 << 20;
const RESERVE_MAX: u64 = 32 << 20;

/// The segment that is written.
pub struct Active {
    pub segment: Arc<Segment>,
    /// Where the next batch goes: bytes of batches in the file.
    pub position: u64,
    /// Up to where the file has space.
    pub reserved: u64,
    /// What the next reservation takes.
    pub step: u64,
    /// Bytes of the last, partly filled block: written again, with what follows, by the next round.
    pub partial: Vec<u8>,
    /// Where its last batch begins, if it has one: a start looks whether it is whole.
    pub last: Option<u64>,
    /// When its first batch arrived; 0 before.
    pub began_ms: Millis,
}

/// The writer's view of one partition.
pub struct PartitionLog {
    pub folder: PathBuf,
    pub end: Offset,
    /// Given to every batch that is appended from now on.
    pub leader_epoch: i32,
    /// First offset of each leader epoch, ascending.
    pub epochs: Vec<(i32, Offset)>,
    pub producers: Producers,
    pub active: Active,
}

/// Batches of one partition that are written and synced together.
pub struct Round {
    /// Where its bytes go; a multiple of [`ALIGNMENT`].
    pub position: u64,
    /// Begins with the last partial block; padded by [`PartitionLog::seal_round`].
    pub bytes: Buffer,
    /// With their positions in the file, in order.
    pub batches: Vec<(Batch, u64)>,
    size: u64,
}

/// Where a staged batch will stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staged {
    At {
        base_offset: Offset,
        last_offset: Offset,
    },
    /// Sent before; it stands there, or will with this round.
    Duplicate {
        base_offset: Offset,
        last_offset: Offset,
    },
}

impl PartitionLog {
    /// An empty round at the end of the log.
    pub fn begin(&self, capacity: usize) -> Round {
        let mut bytes = Buffer::with_capacity(self.active.partial.len() + capacity);
        bytes.extend(&self.active.partial);
        Round { position: self.active.position - self.active.partial.len() as u64, bytes, batches: Vec::new(), size: 0 }
    }

    /// Judges, stamps and copies a batch into the round.
    ///
    /// # Errors
    /// [`SequenceError`]: the batch is not taken, and the log is as before.
    pub fn stage(&mut self, round: &mut Round, batch: &Batch, now_ms: Millis) -> Result<Staged, SequenceError> {
        if let Verdict::Duplicate { base_offset, last_offset } = self.producers.judge(batch.header())? {
            return Ok(Staged::Duplicate { base_offset, last_offset });
        }
        let base_offset = self.end;
        if self.epochs.last().is_none_or(|(epoch, _)| *epoch < self.leader_epoch) {
            self.epochs.push((self.leader_epoch, base_offset));
        }
        self.producers.note(batch.header(), base_offset, now_ms);
        let stamped = batch.stamped(base_offset, self.leader_epoch);
        round.batches.push((stamped.clone(), self.active.position + round.size));
        round.bytes.extend(stamped.bytes());
        round.size += stamped.size() as u64;
        self.end = stamped.next_offset();
        Ok(Staged::At { base_offset, last_offset: stamped.last_offset() })
    }

    /// Pads the round to whole blocks; after this it can be written.
    pub fn seal_round(round: &mut Round) {
        round.bytes.pad();
    }

    /// Whether `size` more bytes belong into a new segment.
    pub fn must_roll(&self, size: u64, segment_bytes: u64, segment_ms: Millis, now_ms: Millis) -> bool {
        let is_full = self.active.position + size > segment_bytes;
        let is_old = self.active.began_ms > 0 && now_ms.saturating_sub(self.active.began_ms) >= segment_ms;
        self.active.position > 0 && (is_full || is_old)
    }

    /// Reserves space for `size` more bytes, in doubling steps.
    ///
    /// # Errors
    /// `StorageFull`: nothing changed, the batch must not be staged. Others poison.
    pub fn reserve(&mut self, disk: &dyn Disk, size: u64) -> io::Result<()> {
        let needed = (self.active.position + size).next_multiple_of(ALIGNMENT as u64);
        if needed <= self.active.reserved {
            return Ok(());
        }
        let from = self.active.reserved.next_multiple_of(ALIGNMENT as u64);
        let room = self.active.step.max(needed - from).next_multiple_of(ALIGNMENT as u64);
        // Small steps are zeroed: a commit of a few blocks then changes no metadata. Large ones mean a stream, where unwritten space is cheaper.
        let how = if self.active.step <= RESERVE_MIN { Allocate::Zeroed } else { Allocate::Unwritten };
        self.active.segment.file(disk)?.allocate(from, room, how)?;
        self.active.reserved = from + room;
        self.active.step = (self.active.step * 2).min(RESERVE_MAX);
        Ok(())
    }

    /// The round's bytes stand in the file: moves the end of the data. Whether they are durable is the caller's to know.
    pub fn commit(&mut self, round: &Round, now_ms: Millis) {
        for (batch, position) in &round.batches {
            self.active.segment.grow(batch.header(), *position, now_ms);
            self.active.last = Some(*position);
        }
        if self.active.began_ms == 0 {
            self.active.began_ms = now_ms;
        }
        self.active.position += round.size;
        let partial = (self.active.position % ALIGNMENT as u64) as usize;
        let data = (self.active.position - round.position) as usize;
        self.active.partial.clear();
        self.active.partial.extend_from_slice(&round.bytes.as_slice()[data - partial..data]);
    }

    /// Cuts the active file to its last batch and syncs it: at a roll, at a clean stop and after recovery.
    ///
    /// # Errors
    /// The disk's; they poison.
    pub fn cut(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let file = self.active.segment.file(disk)?;
        file.set_size(self.active.position)?;
        file.sync()?;
        self.active.reserved = self.active.position;
        Ok(())
    }

    /// Seals the active segment and begins the next; durable in the folder when it returns.
    ///
    /// # Errors
    /// The disk's; they poison, but `StorageFull`, after which the log stands as before.
    pub fn roll(&mut self, disk: &dyn Disk) -> io::Result<Arc<Segment>> {
        self.cut(disk)?;
        self.active = Active::create(disk, &self.folder, self.end)?;
        Ok(self.active.segment.clone())
    }
}

impl Active {
    /// Makes an empty segment file and syncs the folder.
    ///
    /// # Errors
    /// The disk's.
    pub fn create(disk: &dyn Disk, folder: &std::path::Path, base: Offset) -> io::Result<Active> {
        let segment = Segment::new(folder, base, 0, 0, -1);
        segment.set_file(disk.create(&segment.path)?);
        disk.sync_folder(folder)?;
        Ok(Active {
            segment: Arc::new(segment),
            position: 0,
            reserved: 0,
            step: RESERVE_MIN,
            partial: Vec::new(),
            last: None,
            began_ms: 0,
        })
    }

    /// The end of a partition whose files are lost: nothing is made on the disk, nothing can be written.
    pub(super) fn unwritten(folder: &std::path::Path, base: Offset) -> Active {
        let segment = Arc::new(Segment::new(folder, base, 0, 0, -1));
        Active { segment, position: 0, reserved: 0, step: RESERVE_MIN, partial: Vec::new(), last: None, began_ms: 0 }
    }

    /// Goes on writing a segment whose batches end at `position`: reads its last partial block.
    ///
    /// # Errors
    /// The disk's, or a file that is shorter than `position`.
    pub fn resume(disk: &dyn Disk, segment: Arc<Segment>, position: u64, last: Option<u64>) -> io::Result<Active> {
        let mut partial = vec![0; (position % ALIGNMENT as u64) as usize];
        let block = position - partial.len() as u64;
        let read = segment.file(disk)?.read_at(&mut partial, block)?;
        if read < partial.len() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} ends before {position}", segment.path.display()),
            ));
        }
        let segment_began = segment.arrived_ms();
        Ok(Active { segment, position, reserved: position, step: RESERVE_MIN, partial, last, began_ms: segment_began })
    }
}
