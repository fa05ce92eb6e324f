//! Windows of a fixed length that a partition has rows in: by their end, then by key.

use super::Key;
use super::aggregate::Partial;
use super::pane::{Closed, Room, Taken};
use std::collections::{BTreeMap, HashMap};

/// Ends are ms.
#[derive(Default)]
pub(super) struct Spans {
    by_end: BTreeMap<i64, Span>,
}

#[derive(Default)]
struct Span {
    groups: HashMap<Key, Box<[Partial]>>,
    size: usize,
}

/// Windows of `size`, one every `every`; all in ms.
#[derive(Clone, Copy, Debug)]
pub(in crate::stream) struct Hop {
    pub(in crate::stream) size: i64,
    pub(in crate::stream) every: i64,
}

impl Hop {
    /// Ends of the windows that a moment is in, the last one first.
    fn ends(self, ms: i64) -> impl Iterator<Item = i64> {
        let last = ms.div_euclid(self.every) * self.every;
        (0..)
            .map(move |back| last - back * self.every)
            .take_while(move |start| start + self.size > ms)
            .map(move |start| start + self.size)
    }
}

impl Spans {
    /// Takes a row into those of its windows that end behind `past`, all or none.
    pub(super) fn take(&mut self, hop: Hop, past: i64, ms: i64, key: &[u8], room: &mut Room<'_>) -> Taken {
        let mut ends = hop.ends(ms).take_while(|end| *end > past).peekable();
        if ends.peek().is_none() {
            return Taken::Late;
        }
        if room.is_full() {
            let is_new = |end: i64| self.by_end.get(&end).is_none_or(|span| !span.groups.contains_key(key));
            if room.grows() || hop.ends(ms).take_while(|end| *end > past).any(is_new) {
                return Taken::Full;
            }
        }
        for end in ends {
            let span = self.by_end.entry(end).or_default();
            let before = room.size();
            match span.groups.get_mut(key) {
                Some(group) => room.add(group),
                None => {
                    let mut group = room.begin(key);
                    room.add(&mut group);
                    span.groups.insert(Key::from(key), group);
                }
            }
            // The greatest text may be shorter than the one before.
            span.size = (span.size + room.size()).saturating_sub(before);
        }
        Taken::Yes
    }

    /// Bytes of the windows that end behind `from` and not behind `to`.
    pub(super) fn size_between(&self, from: i64, to: i64) -> usize {
        if from >= to {
            return 0;
        }
        self.by_end.range(from + 1..=to).map(|(_, span)| span.size).sum()
    }

    /// Takes out the windows that end no later than `to`; their bytes too.
    pub(super) fn close(&mut self, hop: Hop, late: i64, to: i64, out: &mut Vec<Closed>) -> usize {
        let mut size = 0;
        while let Some(span) = self.by_end.first_entry().filter(|span| *span.key() <= to) {
            let (end, span) = span.remove_entry();
            size += span.size;
            let one = |(key, partials)| Closed {
                moment: end.saturating_add(late),
                start: (end - hop.size).saturating_mul(1_000),
                end: end.saturating_mul(1_000),
                count: 0,
                key,
                partials,
            };
            out.extend(span.groups.into_iter().map(one));
        }
        size
    }

    /// The greatest end that is not behind `limit`.
    pub(super) fn last_end(&self, limit: i64) -> Option<i64> {
        self.by_end.range(..=limit).next_back().map(|(end, _)| *end)
    }

    /// End, key and what is kept.
    pub(super) fn entries(&self) -> impl Iterator<Item = (i64, &Key, &[Partial])> {
        self.by_end.iter().flat_map(|(end, span)| span.groups.iter().map(|(key, group)| (*end, key, group.as_ref())))
    }

    /// As it was before it was saved.
    pub(super) fn restore(&mut self, end: i64, key: Key, partials: Box<[Partial]>, size: usize) {
        let span = self.by_end.entry(end).or_default();
        span.size += size;
        span.groups.insert(key, partials);
    }
}
