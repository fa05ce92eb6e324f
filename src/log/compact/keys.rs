//! [`Keys`]: the last offset of each key, by a hash of 128 bits, in an open table of bounded memory.
//!
//! Kafka's cleaner does the same with MD5. Here two SipHashes of 64 bits under keys that are drawn anew for each table: who chooses record
//! keys cannot choose them to collide. Among as many keys as fit, two meet by chance once in 10^26 passes.

use crate::record::Offset;
use std::hash::{BuildHasher, Hasher, RandomState};

/// 24 bytes each, 48 MiB; half of that more while the table grows into it.
const SLOTS_MAX: usize = 1 << 21;
const SLOTS_MIN: usize = 1 << 10;
/// The most memory that one table takes.
pub const KEY_BYTES_MAX: usize = SLOTS_MAX * size_of::<Slot>() * 3 / 2;

#[derive(Clone, Copy)]
struct Slot {
    hash: (u64, u64),
    /// −1: nothing is here.
    offset: i64,
}

const EMPTY: Slot = Slot { hash: (0, 0), offset: -1 };

/// The keys of one pass.
pub struct Keys {
    hashers: (RandomState, RandomState),
    slots: Vec<Slot>,
    count: usize,
    count_max: usize,
}

impl Default for Keys {
    fn default() -> Keys {
        Keys::with_max(SLOTS_MAX / 4 * 3)
    }
}

impl Keys {
    /// A table that takes so many keys, at most what [`KEY_BYTES_MAX`] allows.
    pub fn with_max(count: usize) -> Keys {
        let count_max = count.min(SLOTS_MAX / 4 * 3);
        Keys { hashers: (RandomState::new(), RandomState::new()), slots: vec![EMPTY; SLOTS_MIN], count: 0, count_max }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Notes that `key` stands at `offset`, later than wherever it stood; false if there is no room for another key.
    #[must_use]
    pub fn note(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = self.hash(key);
        let at = self.place(hash);
        if self.slots[at].offset >= 0 {
            self.slots[at].offset = offset.0;
            return true;
        }
        if self.count >= self.count_max {
            return false;
        }
        self.slots[at] = Slot { hash, offset: offset.0 };
        self.count += 1;
        if self.count > self.slots.len() / 4 * 3 {
            self.grow();
        }
        true
    }

    /// Where `key` stood last; `None` if it was not noted.
    pub fn last(&self, key: &[u8]) -> Option<Offset> {
        let slot = self.slots[self.place(self.hash(key))];
        (slot.offset >= 0).then_some(Offset(slot.offset))
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        let one = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write(key);
            hasher.finish()
        };
        (one(&self.hashers.0), one(&self.hashers.1))
    }

    /// The slot of this hash, or the empty one that it would take: there always is one.
    fn place(&self, hash: (u64, u64)) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash.0 as usize & mask;
        while self.slots[at].offset >= 0 && self.slots[at].hash != hash {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self) {
        let larger = vec![EMPTY; (self.slots.len() * 2).min(SLOTS_MAX)];
        let old = std::mem::replace(&mut self.slots, larger);
        for slot in old.into_iter().filter(|slot| slot.offset >= 0) {
            let at = self.place(slot.hash);
            self.slots[at] = slot;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn each_key_has_its_last_offset_as_in_a_plain_map() {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut keys, mut plain) = (Keys::default(), HashMap::new());
        for offset in 0..40_000 {
            let key = random.u32(..9_000).to_string();
            assert!(keys.note(key.as_bytes(), Offset(offset)));
            plain.insert(key, Offset(offset));
        }
        assert_eq!(keys.len(), plain.len());
        for key in 0..9_500u32 {
            let key = key.to_string();
            assert_eq!(keys.last(key.as_bytes()), plain.get(&key).copied(), "{key}");
        }
    }

    #[test]
    fn a_full_table_takes_known_keys_only() {
        let mut keys = Keys::with_max(3);
        for (offset, key) in ["a", "b", "c"].into_iter().enumerate() {
            assert!(keys.note(key.as_bytes(), Offset(offset as i64)));
        }
        assert!(!keys.note(b"d", Offset(3)) && keys.last(b"d").is_none());
        assert!(keys.note(b"b", Offset(4)));
        assert_eq!((keys.last(b"b"), keys.len()), (Some(Offset(4)), 3));
    }

    #[test]
    fn the_largest_table_keeps_to_its_limit() {
        let keys = Keys::with_max(usize::MAX);
        assert!(keys.count_max < SLOTS_MAX && (SLOTS_MAX + SLOTS_MAX / 2) * size_of::<Slot>() <= KEY_BYTES_MAX);
        assert_eq!(KEY_BYTES_MAX, 72 << 20);
    }
}
