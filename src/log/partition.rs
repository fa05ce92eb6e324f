//! [`PartitionLog`]: what the writer of a partition knows: where the log ends, who produced last, and how a round becomes bytes.
//!
//! One writer thread owns the right to append. The order is: [`PartitionLog::stage`] each batch into a [`Round`], write the round's bytes,
//! sync, [`PartitionLog::commit`]. A round that fails is never committed, and the store takes no further one.

use super::producers::{self, Producers, SequenceError, Verdict};
use super::segment::Segment;
use crate::clock::Millis;
use crate::disk::{ALIGNMENT, Allocate, Buffer, Disk};
use crate::record::{Batch, Offset};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Space is reserved ahead in steps that double between these while a partition is written fast.
const STEP_MIN: u64 = 1 << 20;
const STEP_MAX: u64 = 32 << 20;
/// A step that lasted longer than this is small enough.
const STEP_LIFE_MS: Millis = 1_000;
/// What a round makes for itself when nothing was reserved ahead, at least.
const RESERVE_MIN: u64 = 64 << 10;

/// The segment that is written.
pub struct Active {
    pub segment: Arc<Segment>,
    /// Where the next batch goes: bytes of batches in the file.
    pub position: u64,
    /// Up to where space was ordered.
    ordered: u64,
    /// What the last order took, and when.
    step: u64,
    ordered_ms: Millis,
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

/// Space that somebody else makes, ahead of the writer.
pub struct SpaceOrder {
    segment: Arc<Segment>,
    end: u64,
    how: Allocate,
}

impl SpaceOrder {
    /// Makes the space.
    ///
    /// # Errors
    /// As [`Segment::reserve_to`].
    pub fn fill(&self, disk: &dyn Disk) -> io::Result<()> {
        self.segment.reserve_to(disk, self.end, self.how)
    }
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
    before: Before,
}

/// The log as it was when a round began.
struct Before {
    end: Offset,
    epochs: usize,
    /// Each producer as it was before each of its batches, oldest first.
    producers: Vec<(i64, Option<producers::Known>)>,
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
    /// An empty round at the end of the log, in a buffer that may have been used before.
    pub fn begin(&self, mut bytes: Buffer, capacity: usize) -> Round {
        bytes.clear();
        bytes.reserve(self.active.partial.len() + capacity + ALIGNMENT);
        bytes.extend(&self.active.partial);
        let position = self.active.position - self.active.partial.len() as u64;
        let before = Before { end: self.end, epochs: self.epochs.len(), producers: Vec::new() };
        Round { position, bytes, batches: Vec::new(), size: 0, before }
    }

    /// Judges, stamps and copies a batch into the round.
    ///
    /// # Errors
    /// [`SequenceError`]: the batch is not taken, and the log is as before.
    pub fn stage(&mut self, round: &mut Round, batch: Batch, now_ms: Millis) -> Result<Staged, SequenceError> {
        if let Verdict::Duplicate { base_offset, last_offset } = self.producers.judge(batch.header())? {
            return Ok(Staged::Duplicate { base_offset, last_offset });
        }
        let base_offset = self.end;
        if self.epochs.last().is_none_or(|(epoch, _)| *epoch < self.leader_epoch) {
            self.epochs.push((self.leader_epoch, base_offset));
        }
        if let Some(producer) = batch.header().producer {
            round.before.producers.push((producer.id, self.producers.known(producer.id).cloned()));
        }
        self.producers.note(batch.header(), base_offset, now_ms);
        let stamped = batch.into_stamped(base_offset, self.leader_epoch);
        round.bytes.extend(stamped.bytes());
        self.end = stamped.next_offset();
        let last_offset = stamped.last_offset();
        let size = stamped.size() as u64;
        round.batches.push((stamped, self.active.position + round.size));
        round.size += size;
        Ok(Staged::At { base_offset, last_offset })
    }

    /// Takes a round back that found no room on the disk: the log is as it was before, and its file is cut to that and synced.
    ///
    /// # Errors
    /// The disk's; they poison.
    pub fn undo(&mut self, round: Round, disk: &dyn Disk) -> io::Result<()> {
        self.end = round.before.end;
        self.epochs.truncate(round.before.epochs);
        for (id, known) in round.before.producers.into_iter().rev() {
            self.producers.put_back(id, known);
        }
        self.cut(disk)
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

    /// Sees that there is space for `size` more bytes; makes as much itself if nothing was made ahead.
    ///
    /// # Errors
    /// `StorageFull`: nothing changed, the batch must not be staged. Others poison.
    pub fn reserve(&mut self, disk: &dyn Disk, size: u64) -> io::Result<()> {
        let needed = (self.active.position + size).next_multiple_of(ALIGNMENT as u64);
        if needed <= self.active.segment.reserved() {
            return Ok(());
        }
        let end = needed.max((self.active.position + RESERVE_MIN).next_multiple_of(ALIGNMENT as u64));
        self.active.segment.reserve_to(disk, end, Allocate::Unwritten)
    }

    /// What should be reserved ahead now, if anything: when less than half of the last step is left. A log of a few records keeps what its
    /// first round made for itself: zeros ahead would cost a disk of many such partitions a thousand times their records. The caller has it made by another
    /// thread, or drops it: then the next round makes its own.
    pub fn order(&mut self, now_ms: Millis) -> Option<SpaceOrder> {
        let active = &mut self.active;
        let ahead = active.ordered.max(active.segment.reserved());
        if active.position + active.step / 2 < ahead {
            return None;
        }
        let is_slow = active.ordered == 0 || now_ms.saturating_sub(active.ordered_ms) > STEP_LIFE_MS;
        active.step = if is_slow { STEP_MIN } else { (active.step * 2).min(STEP_MAX) };
        active.ordered_ms = now_ms;
        active.ordered = (ahead.max(active.position) + active.step).next_multiple_of(ALIGNMENT as u64);
        // Written zeros for the slow: a commit of a few blocks then changes no metadata. For a stream unwritten space is cheaper.
        let how = if is_slow { Allocate::Zeroed } else { Allocate::Unwritten };
        Some(SpaceOrder { segment: active.segment.clone(), end: active.ordered, how })
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

    /// Whether space that was ordered is not there yet.
    #[cfg(test)]
    pub(crate) fn is_space_due(&self) -> bool {
        self.active.ordered > self.active.segment.reserved()
    }

    /// Whether the file ends with its last batch.
    pub fn is_cut(&self) -> bool {
        self.active.segment.reserved() == self.active.position
    }

    /// Cuts the active file to its last batch and syncs it: at a clean stop, after recovery, after a round without room.
    ///
    /// # Errors
    /// The disk's; they poison.
    pub fn cut(&mut self, disk: &dyn Disk) -> io::Result<()> {
        self.active.segment.cut(disk, self.active.position, false)?;
        self.active.ordered = 0;
        Ok(())
    }

    /// As [`PartitionLog::cut`], durable when the caller has synced it, which it does before anything is appended.
    ///
    /// # Errors
    /// The disk's.
    pub fn cut_unsynced(&mut self, disk: &dyn Disk) -> io::Result<()> {
        self.active.segment.cut_unsynced(disk, self.active.position)?;
        self.active.ordered = 0;
        Ok(())
    }

    /// Seals the active segment and begins the next; durable in the folder when it returns.
    ///
    /// # Errors
    /// The disk's; they poison, but `StorageFull`, after which the log stands as before.
    pub fn roll(&mut self, disk: &dyn Disk) -> io::Result<Arc<Segment>> {
        // Space that was ordered before must not come behind the cut: a sealed segment is exactly its batches.
        self.active.segment.cut(disk, self.active.position, true)?;
        let next = match Active::create(disk, &self.folder, self.end) {
            Ok(next) => next,
            Err(error) => {
                // Without room for another segment this one is the active one still.
                self.cut(disk)?;
                return Err(error);
            }
        };
        self.active.segment.seal();
        self.active = next;
        Ok(self.active.segment.clone())
    }
}

impl Active {
    /// Makes an empty segment file and syncs the folder.
    ///
    /// # Errors
    /// The disk's.
    pub fn create(disk: &dyn Disk, folder: &std::path::Path, base: Offset) -> io::Result<Active> {
        let active = Active::create_unsynced(disk, folder, base)?;
        disk.sync_folder(folder)?;
        Ok(active)
    }

    /// As [`Active::create`], durable when the caller has synced the folder.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn create_unsynced(disk: &dyn Disk, folder: &std::path::Path, base: Offset) -> io::Result<Active> {
        let segment = Segment::new(folder, base, 0, 0, -1);
        segment.set_file(disk, disk.create(&segment.path)?);
        Ok(Active::at(Arc::new(segment), 0))
    }

    /// The end of a partition whose files are lost: nothing is made on the disk, nothing can be written.
    pub(super) fn unwritten(folder: &std::path::Path, base: Offset) -> Active {
        Active::at(Arc::new(Segment::new(folder, base, 0, 0, -1)), 0)
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
        let began_ms = segment.arrived_ms();
        segment.set_reserved(position);
        Ok(Active { partial, last, began_ms, ..Active::at(segment, position) })
    }

    fn at(segment: Arc<Segment>, position: u64) -> Active {
        Active {
            segment,
            position,
            ordered: 0,
            step: RESERVE_MIN,
            ordered_ms: 0,
            partial: Vec::new(),
            last: None,
            began_ms: 0,
        }
    }
}
