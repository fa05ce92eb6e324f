//! What was read ahead of the partitions of a topic elsewhere, and what is to be fetched next, within one limit for all of them.

use crate::record::Batch;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// What is read ahead of one partition, and of all; a fetch goes beyond that by at most one batch.
pub(super) const AHEAD_PARTITION_MAX: usize = 4 << 20;
pub(super) const AHEAD_MAX: usize = 48 << 20;
/// What one fetch asks for of one partition, and of all.
pub(super) const FETCH_PARTITION_SIZE: usize = 2 << 20;
pub(super) const FETCH_SIZE: usize = 16 << 20;
/// The pipeline comes again within this for what it did not find.
const MISSED_AGE_MAX: Duration = Duration::from_secs(2);

/// One partition.
#[derive(Default)]
pub(super) struct Ahead {
    pub(super) start: i64,
    pub(super) tail: i64,
    /// Records behind the tail that a transaction without an end withholds, and since when at this tail.
    pub(super) withheld: i64,
    pub(super) withheld_since: Option<Instant>,
    /// When the cluster last told the tail.
    pub(super) heard: Option<Instant>,
    pub(super) batches: VecDeque<Batch>,
    pub(super) size: usize,
    /// What is read ahead begins at an offset and ends before one, which is fetched next.
    pub(super) from: i64,
    pub(super) until: i64,
    /// Kafka has no offset `until`.
    pub(super) is_outside: bool,
    /// When the pipeline last came for more and found nothing.
    missed: Option<Instant>,
}

impl Ahead {
    pub(super) fn at(start: i64, tail: i64) -> Ahead {
        Ahead { start, tail, heard: Some(Instant::now()), from: tail, until: tail, ..Ahead::default() }
    }

    pub(super) fn seek(&mut self, to: i64) {
        self.batches.clear();
        (self.size, self.from, self.until, self.is_outside) = (0, to, to, false);
    }

    /// Others may have read it meanwhile: nothing of what was read ahead counts. Where nobody could say where it begins and ends, what others
    /// have done with is there.
    pub(super) fn begin_anew(&mut self, bounds: Option<(i64, i64)>, done: Option<i64>) {
        match bounds {
            Some((start, tail)) => (self.start, self.tail, self.heard) = (start, tail, Some(Instant::now())),
            None => (self.tail, self.heard) = (self.tail.max(done.unwrap_or(0)), None),
        }
        self.seek(self.tail);
    }

    /// A broker says that it has not what comes at an offset, and then what it has: whether the offset is outside that.
    pub(super) fn judge(&mut self, at: i64, start: Option<i64>, tail: Option<i64>) -> bool {
        (self.start, self.tail) = (start.unwrap_or(self.start), tail.unwrap_or(self.tail));
        let is_outside = !(self.start..=self.tail).contains(&at);
        self.is_outside = is_outside && self.until == at;
        is_outside
    }

    /// Whole batches from the one that holds `next` on; what comes before is let go.
    pub(super) fn take(&mut self, next: i64, size_max: usize) -> Vec<Batch> {
        let (mut taken, mut size) = (Vec::new(), 0);
        while let Some(batch) = self.batches.front() {
            if !taken.is_empty() && size + batch.size() > size_max {
                break;
            }
            self.size -= batch.size();
            self.from = batch.next_offset().0;
            let Some(batch) = self.batches.pop_front() else { break };
            if batch.next_offset().0 > next {
                size += batch.size();
                taken.push(batch);
            }
        }
        self.missed = (taken.is_empty() && self.tail > next).then(Instant::now);
        taken
    }

    /// What the cluster tells of the tail, and of what comes behind.
    pub(super) fn hear(&mut self, tail: i64, end: i64) {
        let is_same = self.tail == tail && self.withheld > 0;
        self.withheld = (end - tail).max(0);
        self.withheld_since = match self.withheld > 0 {
            true => self.withheld_since.filter(|_| is_same).or_else(|| Some(Instant::now())),
            false => None,
        };
        (self.tail, self.heard) = (tail, Some(Instant::now()));
    }

    /// Records that were withheld for so long, and are.
    pub(super) fn withheld_for(&self, time: Duration) -> Option<i64> {
        self.withheld_since.filter(|since| since.elapsed() >= time).map(|_| self.withheld)
    }

    /// Puts batches behind what is there.
    pub(super) fn put(&mut self, batches: Vec<Batch>) {
        for batch in batches {
            self.until = batch.next_offset().0;
            self.size += batch.size();
            self.batches.push_back(batch);
        }
    }

    fn is_missed(&self) -> bool {
        self.missed.is_some_and(|missed| missed.elapsed() < MISSED_AGE_MAX)
    }
}

/// How much more may be read ahead.
pub(super) fn room(partitions: &[Ahead]) -> usize {
    AHEAD_MAX.saturating_sub(partitions.iter().map(|ahead| ahead.size).sum())
}

/// By partition, of those that it `owns`, from where on it is to be read. Where there is no more room, only one that the pipeline came for,
/// if it `is_starved`, that is, reads nothing of all that is there (windows may wait for just this one): others make room for it, and are
/// fetched once more.
pub(super) fn wanted(
    partitions: &mut [Ahead],
    owns: impl Fn(i32) -> bool,
    round: usize,
    is_starved: bool,
) -> BTreeMap<i32, i64> {
    let own = |(id, ahead): &(usize, &Ahead)| owns(*id as i32) && !ahead.is_outside;
    if room(partitions) > 0 {
        let own = partitions.iter().enumerate().filter(own);
        let has_room = own.filter(|(_, ahead)| ahead.size < AHEAD_PARTITION_MAX);
        return has_room.map(|(id, ahead)| (id as i32, ahead.until)).collect();
    }
    let missed = partitions.iter().enumerate().filter(own).filter(|(_, ahead)| ahead.size == 0 && ahead.is_missed());
    let missed: Vec<usize> = missed.map(|(id, _)| id).collect();
    let Some(turn) = missed.get(round % missed.len().max(1)).copied().filter(|_| is_starved) else {
        return BTreeMap::new();
    };
    while room(partitions) < FETCH_PARTITION_SIZE {
        let least_needed = |ahead: &&mut Ahead| (!ahead.is_missed(), ahead.size);
        let Some(other) = partitions.iter_mut().filter(|ahead| ahead.size > 0).max_by_key(least_needed) else { break };
        other.seek(other.from);
    }
    BTreeMap::from([(turn as i32, partitions[turn].until)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(size: usize) -> Ahead {
        Ahead { size, from: 7, until: 30, tail: 40, ..Ahead::default() }
    }

    #[test]
    fn what_a_transaction_withholds_is_known_until_its_end() {
        let mut ahead = Ahead::at(0, 10);
        ahead.hear(10, 10);
        assert_eq!(ahead.withheld_for(Duration::ZERO), None);
        ahead.hear(10, 15);
        ahead.hear(10, 17);
        assert_eq!(ahead.withheld_for(Duration::ZERO), Some(7));
        let since = ahead.withheld_since;
        ahead.hear(10, 18);
        assert_eq!(ahead.withheld_since, since, "the same transaction");
        ahead.hear(12, 18);
        assert!(ahead.withheld_since > since, "another one");
        assert_eq!(ahead.withheld_for(Duration::from_secs(60)), None);
        ahead.hear(18, 18);
        assert_eq!((ahead.withheld_for(Duration::ZERO), ahead.tail), (None, 18));
    }

    #[test]
    fn a_partition_that_comes_back_begins_with_what_is_known_of_it() {
        let mut told = full(9);
        told.begin_anew(Some((3, 50)), Some(45));
        assert_eq!((told.start, told.tail, told.size, told.until), (3, 50, 0, 50));
        // Its broker hangs: what others have read of it is there, and nobody takes its end for known.
        let mut silent = Ahead::at(0, 40);
        silent.begin_anew(None, Some(45));
        assert_eq!((silent.tail, silent.until, silent.heard), (45, 45, None));
        silent.begin_anew(None, None);
        assert_eq!(silent.tail, 45);
    }

    #[test]
    fn all_that_have_room_are_fetched_while_there_is_room() {
        let mut partitions = vec![full(AHEAD_PARTITION_MAX), full(1), full(0), Ahead::at(0, 9)];
        partitions[2].is_outside = true;
        assert_eq!(wanted(&mut partitions, |_| true, 0, false), BTreeMap::from([(1, 30), (3, 9)]));
        assert_eq!(wanted(&mut partitions, |id| id != 3, 0, false), BTreeMap::from([(1, 30)]));
    }

    #[test]
    fn without_room_nothing_is_fetched_but_what_a_starved_pipeline_came_for() {
        let part = AHEAD_MAX / 3;
        let mut partitions = vec![full(part), full(part + 1), full(part), Ahead::at(0, 0), Ahead::at(0, 0)];
        for ahead in &mut partitions[3..] {
            ahead.tail = 9;
            assert!(ahead.take(0, 1).is_empty());
        }
        assert!(wanted(&mut partitions, |_| true, 0, false).is_empty());
        assert_eq!(room(&partitions), 0, "it reads what is there, and that makes room");
        assert_eq!(wanted(&mut partitions, |_| true, 0, true), BTreeMap::from([(3, 0)]));
        assert_eq!((partitions[1].size, partitions[1].from, partitions[1].until), (0, 7, 7), "the largest made room");
        assert!(room(&partitions) >= FETCH_PARTITION_SIZE);
        partitions[..3].iter_mut().for_each(|ahead| ahead.size = part);
        assert_eq!(wanted(&mut partitions, |_| true, 1, true), BTreeMap::from([(4, 0)]));
        // Nobody came for it lately.
        partitions[..3].iter_mut().for_each(|ahead| ahead.size = part);
        partitions.iter_mut().for_each(|ahead| ahead.missed = Instant::now().checked_sub(MISSED_AGE_MAX));
        assert!(wanted(&mut partitions, |_| true, 0, true).is_empty());
    }

    #[test]
    fn with_any_number_of_partitions_no_more_is_asked_for_than_there_is_room() {
        let mut partitions: Vec<Ahead> = (0..500).map(|_| full(0)).collect();
        let mut most = 0;
        for round in 0..2_000 {
            // As brokers answer: the first few are full.
            let asked = wanted(&mut partitions, |_| true, round, true);
            let mut size = room(&partitions).min(FETCH_SIZE);
            for id in asked.keys() {
                let part = size.min(FETCH_PARTITION_SIZE);
                partitions[*id as usize].size += part;
                size -= part;
            }
            most = most.max(partitions.iter().map(|ahead| ahead.size).sum());
            let missed = &mut partitions[round % 500];
            missed.missed = (missed.size == 0).then(Instant::now);
        }
        assert_eq!(most, AHEAD_MAX);
    }
}
