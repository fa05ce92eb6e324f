//! Stretches of a key's rows in one partition, without a longer gap between them. Which of several partitions are one session is found
//! out when they close.

use super::Key;
use super::aggregate::Partial;
use super::pane::{Closed, Pane, Room, Taken};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};

/// Times are µs.
#[derive(Default)]
pub(super) struct Sessions {
    by_key: HashMap<Key, Stretches>,
    /// All stretches by their end.
    ends: BTreeSet<(i64, Key)>,
}

/// Of one key by their start; further apart than the gap.
type Stretches = BTreeMap<i64, Stretch>;

/// From the first row to the last.
struct Stretch {
    end: i64,
    count: i64,
    size: usize,
    partials: Box<[Partial]>,
}

impl Sessions {
    /// Takes a row in.
    pub(super) fn take(&mut self, gap: i64, time: i64, key: &[u8], room: &mut Room<'_>) -> Taken {
        let key = &self.by_key.get_key_value(key).map_or_else(|| Key::from(key), |(key, _)| key.clone());
        let known = self.by_key.get_mut(key);
        let (before, after) = known.as_ref().map_or((None, None), |stretches| {
            let before = stretches.range(..=time).next_back().filter(|(_, one)| one.end.saturating_add(gap) >= time);
            let after = stretches.range((Excluded(time), Unbounded)).next();
            let after = after.filter(|(start, _)| start.saturating_sub(gap) <= time);
            (before.map(|(start, _)| *start), after.map(|(start, _)| *start))
        });
        let near = before.or(after);
        if room.is_full() && (near.is_none() || room.grows()) {
            return Taken::Full;
        }
        let size_before = room.size();
        let stretches = match known {
            Some(stretches) => stretches,
            None => self.by_key.entry(key.clone()).or_default(),
        };
        let Some((start, mut stretch)) = near.and_then(|start| stretches.remove_entry(&start)) else {
            let mut partials = room.begin(key);
            room.add(&mut partials);
            let size = room.size() - size_before;
            stretches.insert(time, Stretch { end: time, count: 1, size, partials });
            self.ends.insert((time, key.clone()));
            return Taken::Yes;
        };
        self.ends.remove(&(stretch.end, key.clone()));
        stretch.end = stretch.end.max(time);
        stretch.count += 1;
        room.add(&mut stretch.partials);
        // The greatest text may be shorter than the one before.
        stretch.size = (stretch.size + room.size()).saturating_sub(size_before);
        // The row has closed a gap.
        if let Some(other) = before.and(after).and_then(|start| stretches.remove(&start)) {
            self.ends.remove(&(other.end, key.clone()));
            stretch.end = stretch.end.max(other.end);
            stretch.count += other.count;
            let size_before = room.size();
            room.merge(&mut stretch.partials, &other.partials);
            room.forget(key, &other.partials);
            stretch.size = (stretch.size + room.size() + other.size).saturating_sub(size_before);
        }
        self.ends.insert((stretch.end, key.clone()));
        stretches.insert(start.min(time), stretch);
        Taken::Yes
    }

    /// Bytes of the stretches that end at `from` or behind it, and before `to`.
    pub(super) fn size_between(&self, from: i64, to: i64) -> usize {
        if from >= to {
            return 0;
        }
        let range = self.ends.range((from, Key::from([]))..(to, Key::from([])));
        let of = |(end, key): &(i64, Key)| {
            let last = self.by_key.get(key).and_then(|stretches| stretches.range(..=*end).next_back());
            last.map_or(0, |(_, stretch)| stretch.size)
        };
        range.map(of).sum()
    }

    /// The greatest end before `limit`.
    pub(super) fn last_end(&self, limit: i64) -> Option<i64> {
        self.ends.range(..(limit, Key::from([]))).next_back().map(|(end, _)| *end)
    }

    fn ended(&self, limit: i64) -> impl Iterator<Item = &Key> {
        self.ends.range(..(limit, Key::from([]))).map(|(_, key)| key)
    }

    fn remove(&mut self, key: &Key, start: i64) -> Option<Stretch> {
        let stretches = self.by_key.get_mut(key)?;
        let stretch = stretches.remove(&start)?;
        self.ends.remove(&(stretch.end, key.clone()));
        if stretches.is_empty() {
            self.by_key.remove(key);
        }
        Some(stretch)
    }

    /// Start, end, count, key and what is kept.
    pub(super) fn entries(&self) -> impl Iterator<Item = (i64, i64, i64, &Key, &[Partial])> {
        self.by_key.iter().flat_map(|(key, stretches)| {
            stretches.iter().map(move |(start, one)| (*start, one.end, one.count, key, one.partials.as_ref()))
        })
    }

    /// As it was before it was saved.
    pub(super) fn restore(&mut self, times: (i64, i64), count: i64, key: Key, partials: Box<[Partial]>, size: usize) {
        let (start, end) = times;
        self.ends.insert((end, key.clone()));
        self.by_key.entry(key).or_default().insert(start, Stretch { end, count, size, partials });
    }
}

/// Takes out the sessions that end before `limit`, over all partitions. `moment` says when one closes that ends then.
pub(super) fn close(
    panes: &mut [&mut Pane],
    gap: i64,
    limit: i64,
    moment: &dyn Fn(i64) -> i64,
    merge: &dyn Fn(&mut [Partial], &[Partial]),
) -> Vec<Closed> {
    let keys: BTreeSet<Key> = panes.iter().flat_map(|pane| pane.sessions().ended(limit)).cloned().collect();
    let mut closed = Vec::new();
    for key in keys {
        // (start, partition, end) of the key's stretches everywhere.
        let mut parts: Vec<(i64, usize, i64)> = Vec::new();
        for (at, pane) in panes.iter().enumerate() {
            let stretches = pane.sessions().by_key.get(&key).into_iter();
            // What begins later is of no session that ends before `limit`.
            let stretches = stretches.flat_map(|stretches| stretches.range(..=limit.saturating_add(gap)));
            parts.extend(stretches.map(|(start, stretch)| (*start, at, stretch.end)));
        }
        parts.sort_unstable();
        let mut from = 0;
        while from < parts.len() {
            let (mut to, mut end) = (from + 1, parts[from].2);
            while to < parts.len() && parts[to].0 <= end.saturating_add(gap) {
                end = end.max(parts[to].2);
                to += 1;
            }
            if end < limit {
                let mut own = parts[from..to].to_vec();
                // By partition, so that sums of floats come out the same however partitions were read.
                own.sort_unstable_by_key(|(start, at, _)| (*at, *start));
                let mut session: Option<Closed> = None;
                for (start, at, _) in own {
                    let Some(stretch) = panes[at].remove_session(&key, start) else { continue };
                    match &mut session {
                        Some(session) => {
                            session.count += stretch.1;
                            merge(&mut session.partials, &stretch.0);
                        }
                        None => {
                            let (start, moment, key) = (parts[from].0, moment(end), key.clone());
                            session = Some(Closed { moment, start, end, count: stretch.1, key, partials: stretch.0 });
                        }
                    }
                }
                closed.extend(session);
            }
            from = to;
        }
    }
    closed
}

impl Sessions {
    /// Takes out one stretch: what it kept, how many rows it had, and its bytes.
    pub(super) fn take_out(&mut self, key: &Key, start: i64) -> Option<(Box<[Partial]>, i64, usize)> {
        self.remove(key, start).map(|stretch| (stretch.partials, stretch.count, stretch.size))
    }
}
