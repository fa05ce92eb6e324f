//! What a group has committed: one offset a partition, as it came. Knows no members and no time but what it is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub offset: i64,
    /// Of the record before it; −1 if the client did not say.
    pub leader_epoch: i32,
    /// The client's own words, given back as they came.
    pub metadata: Arc<str>,
    pub commit_ms: i64,
    /// Of the topic that it was committed for: one that is made anew under the old name begins without offsets. Nil: not known.
    pub topic_id: Uuid,
}

/// The offsets of one group, by topic and partition.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    by_topic: BTreeMap<Arc<str>, BTreeMap<i32, Committed>>,
    count: usize,
    size: usize,
}

/// What one offset takes beside its text: the entry and its part of two maps.
const ENTRY_SIZE: usize = 160;

fn size_of(committed: &Committed) -> usize {
    ENTRY_SIZE + committed.metadata.len()
}

impl Offsets {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Bytes that they hold, roughly.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn put(&mut self, topic: &Arc<str>, partition: i32, committed: Committed) {
        self.size += size_of(&committed);
        let partitions = self.by_topic.entry(topic.clone()).or_default();
        match partitions.insert(partition, committed) {
            Some(old) => self.size -= size_of(&old),
            None => self.count += 1,
        }
    }

    pub(super) fn remove(&mut self, topic: &str, partition: i32) {
        let Some(partitions) = self.by_topic.get_mut(topic) else { return };
        if let Some(old) = partitions.remove(&partition) {
            self.count -= 1;
            self.size -= size_of(&old);
        }
        if partitions.is_empty() {
            self.by_topic.remove(topic);
        }
    }

    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<&Committed> {
        self.by_topic.get(topic)?.get(&partition)
    }

    /// All of them, by topic and partition.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, i32, &Committed)> {
        self.by_topic.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, committed)| (topic, *partition, committed))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64, metadata: &str) -> Committed {
        Committed { offset, leader_epoch: -1, metadata: metadata.into(), commit_ms: 0, topic_id: Uuid::nil() }
    }

    #[test]
    fn counts_and_sizes_follow_what_is_there() {
        let mut offsets = Offsets::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        offsets.put(&a, 0, at(1, ""));
        offsets.put(&a, 1, at(2, "longer"));
        offsets.put(&b, 0, at(3, ""));
        offsets.put(&a, 1, at(4, "x"));
        assert_eq!((offsets.count(), offsets.size()), (3, 3 * ENTRY_SIZE + 1));
        assert_eq!(offsets.get("a", 1), Some(&at(4, "x")));
        let all: Vec<_> = offsets.iter().map(|(topic, partition, found)| (&**topic, partition, found.offset)).collect();
        assert_eq!(all, [("a", 0, 1), ("a", 1, 4), ("b", 0, 3)]);
        for (topic, partition) in [("a", 1), ("a", 0), ("b", 0), ("b", 0), ("none", 0)] {
            offsets.remove(topic, partition);
        }
        assert_eq!((offsets.count(), offsets.size(), offsets.iter().count()), (0, 0, 0));
    }
}
