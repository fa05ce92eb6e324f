//! Reading: from the tail cache on the asking task, else on a reader thread from the segments, every batch checked against its CRC.

use super::core::Core;
use super::partition::{Partition, Shared};
use super::{ReadError, Slice, TimedOffset};
use crate::disk::{ReadFrom, Stretch};
use crate::log::{MAX_BATCH, Segment, Target, follows};
use crate::metrics as names;
use crate::record::{Batch, DECODED_SIZE_MAX, HEADER_SIZE, Header, Offset};
use bytes::Bytes;
use std::cell::Cell;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The least that one call to the disk fetches.
const PIECE_SIZE: usize = 128 << 10;
/// The most that one call to the disk fetches, unless one batch is larger.
const PIECE_SIZE_MAX: usize = 4 << 20;
/// A piece of this size is a consumer's that catches up: it is read past the page cache, unless somebody read there before.
const DIRECT_SIZE_MIN: usize = 256 << 10;

impl Core {
    /// Runs blocking work on a reader thread; `None` if the pool is gone or the work panicked.
    pub(super) async fn on_reader<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let _place = self.read_places.acquire().await.ok()?;
        let (answer, answered) = oneshot::channel();
        let job = move || drop(answer.send(work()));
        // There are fewer places than the pool's queue has, so it is never full.
        self.readers.run(job).ok()?;
        answered.await.ok()
    }
}

impl Partition {
    /// Whole batches from the one that holds `from` on, up to `size_max` bytes but at least one; empty if `from` is the tail.
    ///
    /// # Errors
    /// [`ReadError`]: outside start and tail, damaged, deleted.
    pub async fn read(&self, from: Offset, size_max: usize) -> Result<Slice, ReadError> {
        if let Some(slice) = self.read_recent(from, size_max)? {
            return Ok(slice);
        }
        let this = self.clone();
        let read = self.core.on_reader(move || this.read_stored(from, size_max)).await;
        read.ok_or_else(|| ReadError::Io("the readers are gone".to_owned()))?
    }

    /// As [`Partition::read`] on the calling thread, which may wait for the disk: for pipelines.
    ///
    /// # Errors
    /// As there.
    pub fn read_blocking(&self, from: Offset, size_max: usize) -> Result<Slice, ReadError> {
        match self.read_recent(from, size_max)? {
            Some(slice) => Ok(slice),
            None => self.read_stored(from, size_max),
        }
    }

    /// Whole batches from the one that holds `from` on, at most `size_max` bytes of them, to be sent as they lie on the disk: nobody has
    /// looked at them. With the tail. `None` where this cannot be had, and [`Partition::read`] can.
    ///
    /// # Errors
    /// As there.
    pub async fn stretch(&self, from: Offset, size_max: usize) -> Result<Option<(Stretch, Offset)>, ReadError> {
        if self.is_recent(from)? {
            return Ok(None);
        }
        let this = self.clone();
        let found = self.core.on_reader(move || this.stretch_stored(from, size_max)).await;
        found.ok_or_else(|| ReadError::Io("the readers are gone".to_owned()))?
    }

    /// The first record whose timestamp is `timestamp` or later; `None` if there is none.
    ///
    /// # Errors
    /// As [`Partition::read`].
    pub async fn offset_for_time(&self, timestamp: i64) -> Result<Option<TimedOffset>, ReadError> {
        let this = self.clone();
        let found = self.core.on_reader(move || this.first_at(timestamp)).await;
        found.ok_or_else(|| ReadError::Io("the readers are gone".to_owned()))?
    }

    /// The first record that has the greatest timestamp.
    ///
    /// # Errors
    /// As [`Partition::read`].
    pub async fn max_timestamp(&self) -> Result<Option<TimedOffset>, ReadError> {
        let this = self.clone();
        let found = self.core.on_reader(move || {
            let greatest = this.shared.segments.load().iter().map(|segment| segment.max_timestamp()).max();
            match greatest {
                Some(greatest) if greatest >= 0 => this.first_at(greatest),
                _ => Ok(None),
            }
        });
        found.await.ok_or_else(|| ReadError::Io("the readers are gone".to_owned()))?
    }

    /// What the tail cache has; `None` if the disk must be asked.
    fn read_recent(&self, from: Offset, size_max: usize) -> Result<Option<Slice>, ReadError> {
        let (start, tail) = self.bounds(from)?;
        if from == tail {
            return Ok(Some(Slice { batches: Vec::new(), start, tail }));
        }
        let recent = self.shared.recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if recent.front().is_none_or(|oldest| oldest.base_offset() > from) {
            return Ok(None);
        }
        let at = recent.partition_point(|batch| batch.last_offset() < from);
        let mut batches = Vec::new();
        let mut size = 0;
        for batch in recent.iter().skip(at).take_while(|batch| batch.base_offset() < tail) {
            if !batches.is_empty() && size + batch.size() > size_max {
                break;
            }
            size += batch.size();
            batches.push(batch.clone());
        }
        metrics::counter!(names::STORE_READ_BYTES.name, "from" => "cache").increment(size as u64);
        Ok((!batches.is_empty()).then_some(Slice { batches, start, tail }))
    }

    /// Whether the disk need not be asked for `from`.
    fn is_recent(&self, from: Offset) -> Result<bool, ReadError> {
        let (_, tail) = self.bounds(from)?;
        let recent = self.shared.recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(from == tail || recent.front().is_some_and(|oldest| oldest.base_offset() <= from))
    }

    /// It ends where the index has an entry, or with its segment: the next one then begins without a search.
    fn stretch_stored(&self, from: Offset, size_max: usize) -> Result<Option<(Stretch, Offset)>, ReadError> {
        let (_, tail) = self.bounds(from)?;
        let segments = self.shared.segments.load_full();
        let at = segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        let Some(segment) = segments.get(at) else { return Ok(None) };
        let limit = segments.get(at + 1).map(|next| next.base);
        let walk = Walk { core: &self.core, shared: &self.shared, segment, limit, tail };
        let Some(begin) = walk.position_of(from)? else { return Ok(None) };
        let far = begin + size_max as u64;
        let end = match limit {
            // What follows it is visible, so it is sealed, and all of it is.
            Some(limit) if limit <= tail && segment.size() <= far => segment.size(),
            _ => {
                let (end, next) = walk.seek(Target::Position(far))?;
                if next > tail { begin } else { end }
            }
        };
        if end <= begin {
            return Ok(None);
        }
        let io = |error: std::io::Error| walk.failed(&error);
        let size = (end - begin) as usize;
        let stretch = segment.file(self.core.disk.as_ref()).map_err(io)?.stretch(begin, size).map_err(io)?;
        if stretch.is_some() {
            metrics::counter!(names::STORE_READ_BYTES.name, "from" => "sendfile").increment(size as u64);
        }
        Ok(stretch.map(|stretch| (stretch, tail)))
    }

    fn read_stored(&self, from: Offset, size_max: usize) -> Result<Slice, ReadError> {
        let (start, tail) = self.bounds(from)?;
        let segments = self.shared.segments.load_full();
        let mut at = segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        let mut batches = Vec::new();
        while batches.is_empty() && from < tail && at < segments.len() {
            let limit = segments.get(at + 1).map(|next| next.base);
            let walk = Walk { core: &self.core, shared: &self.shared, segment: &segments[at], limit, tail };
            let want = Want::new(size_max);
            walk.from(walk.seek(Target::Offset(from))?, &want, |batch| {
                if batch.last_offset() >= from {
                    want.took(batch.size());
                    batches.push(batch);
                }
                want.left() > 0
            })?;
            metrics::counter!(names::STORE_READ_BYTES.name, "from" => "disk").increment(want.taken.get() as u64);
            at += 1;
        }
        Ok(Slice { batches, start, tail })
    }

    fn first_at(&self, timestamp: i64) -> Result<Option<TimedOffset>, ReadError> {
        let (start, tail) = (self.start(), self.tail());
        let segments = self.shared.segments.load_full();
        for (at, segment) in segments.iter().enumerate() {
            if segment.max_timestamp() < timestamp {
                continue;
            }
            let mut found = None;
            let mut failed = None;
            let limit = segments.get(at + 1).map(|next| next.base);
            let walk = Walk { core: &self.core, shared: &self.shared, segment, limit, tail };
            let from = walk.seek(Target::Offset(start))?.max(walk.seek(Target::Time(timestamp))?);
            walk.from(from, &Want::new(PIECE_SIZE), |batch| {
                if batch.header().max_timestamp < timestamp || batch.last_offset() < start {
                    return true;
                }
                match batch.records(DECODED_SIZE_MAX) {
                    Ok(records) => {
                        let fits =
                            |record: &crate::record::Record| record.timestamp >= timestamp && record.offset >= start;
                        found = records.into_iter().find(fits).map(|record| TimedOffset {
                            offset: record.offset,
                            timestamp: record.timestamp,
                            leader_epoch: batch.header().leader_epoch,
                        });
                    }
                    Err(error) => failed = Some(corrupt(batch.base_offset(), error.to_string())),
                }
                found.is_none() && failed.is_none()
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn bounds(&self, from: Offset) -> Result<(Offset, Offset), ReadError> {
        if self.shared.is_deleted() {
            return Err(ReadError::Deleted);
        }
        // The tail first: it never falls, so a start read after it is not beyond a later tail.
        let tail = self.tail();
        let start = self.start();
        if from < start || from > tail {
            return Err(ReadError::OutOfRange { offset: from, start, tail });
        }
        Ok((start, tail))
    }
}

/// How much a walk is to bring.
struct Want {
    size_max: usize,
    taken: Cell<usize>,
}

impl Want {
    fn new(size_max: usize) -> Want {
        Want { size_max, taken: Cell::new(0) }
    }

    fn took(&self, size: usize) {
        self.taken.set(self.taken.get() + size);
    }

    fn left(&self) -> usize {
        self.size_max.saturating_sub(self.taken.get())
    }

    /// Whether a next batch, which has `size` bytes or more, is too much. The first never is.
    fn is_too_much(&self, size: usize) -> bool {
        self.taken.get() > 0 && size > self.left()
    }
}

/// A walk over the batches of one segment below a tail.
struct Walk<'a> {
    core: &'a Core,
    shared: &'a Shared,
    segment: &'a Arc<Segment>,
    /// Where the next one begins; `None` for the last.
    limit: Option<Offset>,
    tail: Offset,
}

impl Walk<'_> {
    /// Tells each batch from a position, where the batch with offset `next` begins, until `on_batch` answers false, the next one is more
    /// than `want` has left, the tail or the segment's end. Not a byte more is read than that takes: it would be read again.
    ///
    /// Base offsets lie outside of a batch's CRC: that they follow each other is checked here, and that they stay within
    /// their segment; only where compaction was, they may leave offsets out.
    fn from(
        &self,
        (mut position, mut next): (u64, Offset),
        want: &Want,
        mut on_batch: impl FnMut(Batch) -> bool,
    ) -> Result<(), ReadError> {
        let size = self.segment.size();
        let mut piece = Bytes::new();
        while position < size && next < self.tail {
            let needed = match Header::parse(&piece) {
                Ok(header)
                    if !follows(header.base_offset, next, self.segment.holes_below)
                        || self.limit.is_some_and(|limit| header.next_offset() > limit) =>
                {
                    let reason = format!("base offset {} where {next} was expected", header.base_offset);
                    return Err(self.bad(position, &reason));
                }
                Ok(header) if want.is_too_much(header.size) => return Ok(()),
                Ok(header) if header.size <= piece.len() => {
                    let batch =
                        Batch::check(piece.split_to(header.size)).map_err(|error| self.bad(position, &error))?;
                    position += header.size as u64;
                    next = header.next_offset();
                    if !on_batch(batch) {
                        return Ok(());
                    }
                    continue;
                }
                Ok(header) => header.size,
                Err(_) if piece.len() < HEADER_SIZE => HEADER_SIZE,
                Err(error) => return Err(self.bad(position, &error)),
            };
            if needed as u64 > size - position || needed > MAX_BATCH {
                return Err(self.bad(position, &"a batch reaches past the end of its segment"));
            }
            if want.is_too_much(needed) {
                return Ok(());
            }
            let wanted = want.left().clamp(PIECE_SIZE, PIECE_SIZE_MAX).max(needed);
            piece = self.read(position, wanted.min((size - position) as usize))?;
            if piece.len() < needed {
                return Err(self.bad(position, &"the file is shorter than its segment"));
            }
        }
        Ok(())
    }

    /// Where the batch that holds `offset` begins; `None` if it is not in this segment.
    fn position_of(&self, offset: Offset) -> Result<Option<u64>, ReadError> {
        let (mut position, next) = self.seek(Target::Offset(offset))?;
        if next == offset {
            return Ok(Some(position));
        }
        let mut is_found = false;
        self.from((position, next), &Want::new(PIECE_SIZE), |batch| {
            is_found = batch.last_offset() >= offset;
            if !is_found {
                position += batch.size() as u64;
            }
            !is_found
        })?;
        Ok(is_found.then_some(position))
    }

    /// Where to begin for `target`, by the segment's index.
    fn seek(&self, target: Target) -> Result<(u64, Offset), ReadError> {
        self.segment.seek(self.core.disk.as_ref(), target).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &std::io::Error) -> ReadError {
        match error.kind() {
            _ if self.shared.is_deleted() => ReadError::Deleted,
            std::io::ErrorKind::NotFound if self.is_retired() => self.retired(),
            _ => ReadError::Io(error.to_string()),
        }
    }

    fn read(&self, position: u64, count: usize) -> Result<Bytes, ReadError> {
        let io = |error: std::io::Error| self.failed(&error);
        let is_first = count >= DIRECT_SIZE_MIN && self.segment.is_read_first(position, count);
        let from = if is_first { ReadFrom::Device } else { ReadFrom::Cache };
        self.segment.file(self.core.disk.as_ref()).map_err(io)?.read(position, count, from).map_err(io)
    }

    /// Whether retention took the segment away under this reader.
    fn is_retired(&self) -> bool {
        self.shared.segments.load().first().is_none_or(|first| first.base > self.segment.base)
    }

    fn retired(&self) -> ReadError {
        ReadError::OutOfRange { offset: self.segment.base, start: self.shared.start(), tail: self.tail }
    }

    fn bad(&self, position: u64, reason: &dyn std::fmt::Display) -> ReadError {
        let (topic, partition) = (&self.shared.topic, self.shared.id);
        let base = self.segment.base;
        if self.is_retired() {
            return self.retired();
        }
        metrics::counter!(names::STORE_DAMAGED_READS.name).increment(1);
        let reason = format!("{topic}/{partition}, {} at position {position}: {reason}", crate::log::file_name(base));
        tracing::error!(%reason, "a stored batch is damaged");
        corrupt(base, reason)
    }
}

fn corrupt(offset: Offset, reason: String) -> ReadError {
    ReadError::Corrupt { offset, reason }
}
