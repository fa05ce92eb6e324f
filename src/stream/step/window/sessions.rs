//! Stretches of a key's rows in one partition, without a longer gap between them. Which of several partitions are one session is found
//! out when they close.

use super::Key;
use super::aggregate::Partial;
use super::pane::{Closed, Pane, Room, Taken};
use std::collections::{BTreeSet, HashMap};

/// Times are µs.
#[derive(Default)]
pub(super) struct Sessions {
    by_key: HashMap<Key, Vec<Stretch>>,
    /// All stretches by their end.
    ends: BTreeSet<(i64, Key)>,
}

/// From the first row to the last; of one key they are ascending and further apart than the gap.
struct Stretch {
    start: i64,
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
        let near = known.as_ref().map_or(0..0, |stretches| {
            let from = stretches.partition_point(|stretch| stretch.end.saturating_add(gap) < time);
            let count =
                stretches[from..].iter().take_while(|stretch| stretch.start.saturating_sub(gap) <= time).count();
            from..from + count
        });
        if room.is_full() && (near.is_empty() || room.grows()) {
            return Taken::Full;
        }
        let before = room.size();
        let stretches = match known {
            Some(stretches) => stretches,
            None => self.by_key.entry(key.clone()).or_default(),
        };
        if near.is_empty() {
            let mut partials = room.begin(key);
            room.add(&mut partials);
            let size = room.size() - before;
            stretches.insert(
                near.start.max(stretches.partition_point(|stretch| stretch.end < time)),
                Stretch { start: time, end: time, count: 1, size, partials },
            );
            self.ends.insert((time, key.clone()));
            return Taken::Yes;
        }
        let mut rest: Vec<Stretch> = stretches.drain(near.start + 1..near.end).collect();
        let stretch = &mut stretches[near.start];
        self.ends.remove(&(stretch.end, key.clone()));
        stretch.start = stretch.start.min(time);
        stretch.end = stretch.end.max(time);
        stretch.count += 1;
        room.add(&mut stretch.partials);
        // The greatest text may be shorter than the one before.
        stretch.size = (stretch.size + room.size()).saturating_sub(before);
        // The row has closed a gap.
        for other in rest.drain(..) {
            self.ends.remove(&(other.end, key.clone()));
            stretch.end = stretch.end.max(other.end);
            stretch.count += other.count;
            let before = room.size();
            room.merge(&mut stretch.partials, &other.partials);
            room.forget(key, &other.partials);
            stretch.size = (stretch.size + room.size() + other.size).saturating_sub(before);
        }
        self.ends.insert((stretch.end, key.clone()));
        Taken::Yes
    }

    /// Bytes of the stretches that end at `from` or behind it, and before `to`.
    pub(super) fn size_between(&self, from: i64, to: i64) -> usize {
        if from >= to {
            return 0;
        }
        let range = self.ends.range((from, Key::from([]))..(to, Key::from([])));
        let of = |(end, key): &(i64, Key)| {
            let stretches = self.by_key.get(key).map_or(&[][..], Vec::as_slice);
            stretches.iter().find(|stretch| stretch.end == *end).map_or(0, |stretch| stretch.size)
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
        let at = stretches.iter().position(|stretch| stretch.start == start)?;
        let stretch = stretches.remove(at);
        self.ends.remove(&(stretch.end, key.clone()));
        if stretches.is_empty() {
            self.by_key.remove(key);
        }
        Some(stretch)
    }

    /// Start, end, count, key and what is kept.
    pub(super) fn entries(&self) -> impl Iterator<Item = (i64, i64, i64, &Key, &[Partial])> {
        self.by_key.iter().flat_map(|(key, stretches)| {
            stretches.iter().map(move |one| (one.start, one.end, one.count, key, one.partials.as_ref()))
        })
    }

    /// As it was before it was saved.
    pub(super) fn restore(&mut self, times: (i64, i64), count: i64, key: Key, partials: Box<[Partial]>, size: usize) {
        let (start, end) = times;
        self.ends.insert((end, key.clone()));
        let stretches = self.by_key.entry(key).or_default();
        let at = stretches.partition_point(|stretch| stretch.start < start);
        stretches.insert(at, Stretch { start, end, count, size, partials });
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
            let stretches = pane.sessions().by_key.get(&key).map_or(&[][..], Vec::as_slice);
            parts.extend(stretches.iter().map(|stretch| (stretch.start, at, stretch.end)));
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
