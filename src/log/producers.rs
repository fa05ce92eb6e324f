//! What a partition remembers of idempotent producers, so that a batch sent twice is stored once (KIP-98, KIP-360).

use crate::clock::Millis;
use crate::record::{Header, Offset, Producer};
use std::collections::{HashMap, VecDeque};

/// Batches remembered per producer: clients keep up to five in flight.
pub const BATCHES_KEPT: usize = 5;
/// Producers remembered per partition; the one that was silent longest makes room.
pub const PRODUCERS_MAX: usize = 10_000;
/// A producer that was silent this long is forgotten (Kafka's producer.id.expiration.ms).
pub const EXPIRY_MS: Millis = 24 * 60 * 60 * 1000;

/// One batch of a producer that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub base_sequence: i32,
    pub count: i32,
    pub base_offset: Offset,
}

/// One producer's last batches, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub epoch: i16,
    pub seen_ms: Millis,
    pub batches: VecDeque<Sent>,
}

impl Known {
    /// Of its last batch.
    pub fn last_offset(&self) -> Option<Offset> {
        self.batches.back().map(|sent| sent.base_offset.plus(i64::from(sent.count) - 1))
    }
}

/// All producers of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producers {
    known: HashMap<i64, Known>,
    /// Batches remembered of each: [`BATCHES_KEPT`], but where a test shows that fewer would be noticed.
    window: usize,
}

impl Default for Producers {
    fn default() -> Producers {
        Producers { known: HashMap::new(), window: BATCHES_KEPT }
    }
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Append,
    /// It is in the log already, at this offset.
    Duplicate {
        base_offset: Offset,
        last_offset: Offset,
    },
}

/// Why a batch of a producer cannot follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    #[error("sequence {found} of producer {producer} is out of order, {expected} is next")]
    OutOfOrder { producer: i64, expected: i32, found: i32 },
    #[error("epoch {found} of producer {producer} is older than {current}")]
    OldEpoch { producer: i64, current: i16, found: i16 },
}

impl Producers {
    /// Judges a batch by its header. A producer that is not known may begin at any sequence: its state may have expired.
    ///
    /// # Errors
    /// [`SequenceError`] inside a known epoch.
    pub fn judge(&self, header: &Header) -> Result<Verdict, SequenceError> {
        let Some(Producer { id, epoch, base_sequence }) = header.producer else { return Ok(Verdict::Append) };
        let Some(known) = self.known.get(&id) else { return Ok(Verdict::Append) };
        if epoch < known.epoch {
            return Err(SequenceError::OldEpoch { producer: id, current: known.epoch, found: epoch });
        }
        let expected = if epoch > known.epoch { 0 } else { known.batches.back().map_or(0, Sent::next_sequence) };
        if epoch == known.epoch {
            let same =
                known.batches.iter().find(|sent| sent.base_sequence == base_sequence && sent.count == header.count);
            if let Some(sent) = same {
                let last_offset = sent.base_offset.plus(i64::from(sent.count) - 1);
                return Ok(Verdict::Duplicate { base_offset: sent.base_offset, last_offset });
            }
        }
        if base_sequence == expected {
            Ok(Verdict::Append)
        } else {
            Err(SequenceError::OutOfOrder { producer: id, expected, found: base_sequence })
        }
    }

    /// Remembers a batch that is being appended at `base_offset`.
    pub fn note(&mut self, header: &Header, base_offset: Offset, now_ms: Millis) {
        let Some(Producer { id, epoch, base_sequence }) = header.producer else { return };
        if !self.known.contains_key(&id) && self.known.len() >= PRODUCERS_MAX {
            self.forget_one();
        }
        let known = self.known.entry(id).or_insert_with(|| Known { epoch, seen_ms: now_ms, batches: VecDeque::new() });
        if known.epoch != epoch {
            known.epoch = epoch;
            known.batches.clear();
        }
        while known.batches.len() >= self.window {
            known.batches.pop_front();
        }
        // By its offsets, not its records: compaction takes records away, and the sequences stay used.
        let count = header.offset_count().min(i64::from(i32::MAX)) as i32;
        known.batches.push_back(Sent { base_sequence, count, base_offset });
        known.seen_ms = now_ms;
    }

    /// Forgets who was silent for [`EXPIRY_MS`].
    pub fn expire(&mut self, now_ms: Millis) {
        self.known.retain(|_, known| now_ms.saturating_sub(known.seen_ms) < EXPIRY_MS);
    }

    #[cfg(test)]
    pub(super) fn set_window(&mut self, window: usize) {
        self.window = window;
        self.known.values_mut().for_each(|known| {
            while known.batches.len() > window {
                known.batches.pop_front();
            }
        });
    }

    pub(super) fn known(&self, id: i64) -> Option<&Known> {
        self.known.get(&id)
    }

    /// Sets a producer back to what [`Producers::known`] said of it.
    pub(super) fn put_back(&mut self, id: i64, known: Option<Known>) {
        match known {
            Some(known) => drop(self.known.insert(id, known)),
            None => drop(self.known.remove(&id)),
        }
    }

    /// Forgets all batches from `end` on, which are not in the log any more.
    pub(super) fn forget_from(&mut self, end: Offset) {
        for known in self.known.values_mut() {
            known.batches.retain(|sent| sent.base_offset < end);
        }
        self.known.retain(|_, known| !known.batches.is_empty());
    }

    /// Those who were not silent for [`EXPIRY_MS`].
    pub fn active(&self, now_ms: Millis) -> impl Iterator<Item = (i64, &Known)> {
        self.iter().filter(move |(_, known)| now_ms.saturating_sub(known.seen_ms) < EXPIRY_MS)
    }

    pub fn iter(&self) -> impl Iterator<Item = (i64, &Known)> {
        self.known.iter().map(|(id, known)| (*id, known))
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(super) fn restore(&mut self, id: i64, known: Known) {
        self.known.insert(id, known);
    }

    fn forget_one(&mut self) {
        if let Some(oldest) = self.known.iter().min_by_key(|(_, known)| known.seen_ms).map(|(id, _)| *id) {
            self.known.remove(&oldest);
        }
    }
}

impl Sent {
    /// Sequences wrap from 2^31−1 to 0.
    fn next_sequence(&self) -> i32 {
        ((i64::from(self.base_sequence) + i64::from(self.count)) & i64::from(i32::MAX)) as i32
    }

    /// Of its last record.
    pub fn last_sequence(&self) -> i32 {
        ((i64::from(self.base_sequence) + i64::from(self.count) - 1) & i64::from(i32::MAX)) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, Codec, NewRecord};

    fn header(epoch: i16, base_sequence: i32, count: usize) -> Header {
        let mut builder = BatchBuilder::new();
        for _ in 0..count {
            builder.push(NewRecord { timestamp: 0, key: None, value: Some(b"v"), headers: &[] });
        }
        builder.producer(Producer { id: 9, epoch, base_sequence });
        *builder.build(Codec::None).unwrap().header()
    }

    fn append(producers: &mut Producers, header: Header, at: i64) {
        assert_eq!(producers.judge(&header), Ok(Verdict::Append), "{header:?}");
        producers.note(&header, Offset(at), 0);
    }

    #[test]
    fn the_last_five_batches_are_recognised() {
        let mut producers = Producers::default();
        for n in 0..6 {
            append(&mut producers, header(0, n * 2, 2), i64::from(n) * 2);
        }
        for n in 1..6 {
            let at = Offset(i64::from(n) * 2);
            let same = Verdict::Duplicate { base_offset: at, last_offset: at.plus(1) };
            assert_eq!(producers.judge(&header(0, n * 2, 2)), Ok(same));
        }
        assert!(matches!(producers.judge(&header(0, 0, 2)), Err(SequenceError::OutOfOrder { expected: 12, .. })));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut producers = Producers::default();
        append(&mut producers, header(0, i32::MAX - 1, 2), 0);
        assert_eq!(producers.known(9).unwrap().batches.back().unwrap().last_sequence(), i32::MAX);
        append(&mut producers, header(0, 0, 1), 2);
        let mut inside = Producers::default();
        append(&mut inside, header(0, i32::MAX - 1, 3), 0);
        append(&mut inside, header(0, 1, 1), 3);
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_an_old_one_is_fenced() {
        let mut producers = Producers::default();
        append(&mut producers, header(3, 700, 1), 0);
        assert!(matches!(producers.judge(&header(4, 1, 1)), Err(SequenceError::OutOfOrder { expected: 0, .. })));
        append(&mut producers, header(4, 0, 1), 1);
        assert!(matches!(producers.judge(&header(3, 701, 1)), Err(SequenceError::OldEpoch { current: 4, .. })));
    }

    #[test]
    fn the_silent_are_forgotten_and_may_begin_anywhere() {
        let mut producers = Producers::default();
        append(&mut producers, header(0, 0, 1), 0);
        assert_eq!((producers.active(EXPIRY_MS - 1).count(), producers.active(EXPIRY_MS).count()), (1, 0));
        producers.expire(EXPIRY_MS);
        append(&mut producers, header(0, 55, 1), 1);
    }
}
