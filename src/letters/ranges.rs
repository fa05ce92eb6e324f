//! Sets of offsets as ranges, since letters that are handled mostly stand side by side.

use super::{Error, Offsets};
use serde::{Deserialize, Serialize};

/// Ranges of all partitions of a topic together; a set of so many is a file of 20 MB.
const RANGES_MAX: usize = 1_000_000;

/// Offsets: ranges with their end left out, ascending, none touches another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ranges(Vec<(i64, i64)>);

impl Ranges {
    pub fn contains(&self, offset: i64) -> bool {
        let at = self.0.partition_point(|(_, end)| *end <= offset);
        self.0.get(at).is_some_and(|(start, _)| *start <= offset)
    }

    /// Adds an offset above all others.
    pub fn insert(&mut self, offset: i64) {
        match self.0.last_mut() {
            Some((_, end)) if *end == offset => *end = offset + 1,
            _ => self.0.push((offset, offset + 1)),
        }
    }

    /// Adds those of another set.
    pub fn merge(&mut self, other: &Ranges) {
        let mut all: Vec<(i64, i64)> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        self.0.clear();
        for (start, end) in all {
            match self.0.last_mut() {
                Some((_, last)) if *last >= start => *last = end.max(*last),
                _ => self.0.push((start, end)),
            }
        }
    }

    /// Those below `end`.
    pub fn below(&self, end: i64) -> Ranges {
        let cut = self.0.iter().filter(|(start, _)| *start < end);
        Ranges(cut.map(|(start, own)| (*start, end.min(*own))).collect())
    }

    /// Without those below `start`.
    pub fn from(&self, start: i64) -> Ranges {
        let cut = self.0.iter().filter(|(_, end)| *end > start);
        Ranges(cut.map(|(own, end)| (start.max(*own), *end)).collect())
    }

    pub fn first(&self) -> Option<i64> {
        self.0.first().map(|(start, _)| *start)
    }

    /// Behind the last offset.
    pub fn end(&self) -> Option<i64> {
        self.0.last().map(|(_, end)| *end)
    }

    pub fn count(&self) -> u64 {
        self.0.iter().map(|(start, end)| (end - start).unsigned_abs()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// # Errors
/// [`Error::TooScattered`]
pub(super) fn check(offsets: &Offsets) -> Result<(), Error> {
    match offsets.values().map(|ranges| ranges.0.len()).sum::<usize>() > RANGES_MAX {
        true => Err(Error::TooScattered { limit: RANGES_MAX }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn ranges(offsets: &BTreeSet<i64>) -> Ranges {
        let mut ranges = Ranges::default();
        offsets.iter().for_each(|offset| ranges.insert(*offset));
        ranges
    }

    proptest! {
        #[test]
        fn ranges_are_the_set_that_they_were_made_of(
            one in proptest::collection::btree_set(0_i64..60, 0..40),
            other in proptest::collection::btree_set(0_i64..60, 0..40),
            cut in 0_i64..60,
        ) {
            let mut merged = ranges(&one);
            merged.merge(&ranges(&other));
            let both: BTreeSet<i64> = one.union(&other).copied().collect();
            prop_assert_eq!(&merged, &ranges(&both));
            for offset in 0..60 {
                prop_assert_eq!(merged.contains(offset), both.contains(&offset));
                prop_assert_eq!(merged.below(cut).contains(offset), both.contains(&offset) && offset < cut);
                prop_assert_eq!(merged.from(cut).contains(offset), both.contains(&offset) && offset >= cut);
            }
            prop_assert_eq!(merged.count(), both.len() as u64);
            prop_assert_eq!(merged.first(), both.first().copied());
            prop_assert_eq!(merged.end(), both.last().map(|last| last + 1));
        }
    }
}
