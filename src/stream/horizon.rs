//! How far ahead of this machine's clock steps that remember believe a time: no client whose clock runs ahead moves the time of a partition
//! any further, and makes everybody else's rows late.
//!
//! What a clock decides has to come out again when records are read a second time. Where it decides against a time, the checkpoint says so
//! before anything leaves. What it believed once it believes later too, since it has gone on; where it was set back, the checkpoint says
//! how far it had been.

use super::runner::{Fail, Runner};
use super::state::{AHEAD_MAX_MS, Remembered};
use super::step::Sieve;
use crate::record::Record;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Decisions that a checkpoint holds, about: a cut forgets those below it.
const BELIEFS_MAX: usize = 1_000;
/// Status tells of times that were not believed for so long.
pub(super) const TOLD_FOR: Duration = Duration::from_secs(60 * 60);

/// Of records from `from` to before `until` no time behind `ms` was believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Belief {
    partition: i32,
    from: i64,
    until: i64,
    ms: i64,
}

impl Belief {
    /// Whether it is about records at this offset of a partition or behind it.
    pub(super) fn reaches(&self, partition: i32, next: i64) -> bool {
        self.partition == partition && self.until > next
    }

    /// Whether records that it is about are read again after a start at these positions; of a partition without one all are.
    pub(super) fn is_needed(&self, positions: &BTreeMap<i32, i64>) -> bool {
        positions.get(&self.partition).is_none_or(|next| self.until > *next)
    }
}

/// How far times of some records of one partition are believed.
pub(super) struct Horizon {
    now: i64,
    known: Vec<Belief>,
}

impl Horizon {
    /// Every time is believed: what is recorded has no clock.
    pub(super) const NONE: Horizon = Horizon { now: i64::MAX, known: Vec::new() };

    /// In ms, for the record at an offset.
    pub(super) fn at(&self, offset: i64) -> i64 {
        let known = self.known.iter().filter(|belief| (belief.from..belief.until).contains(&offset));
        known.map(|belief| belief.ms).fold(self.now, i64::min)
    }

    /// Whether the checkpoint says as much against times of these records as was decided: a clock that was set back decides more.
    fn is_noted(&self, from: i64, until: i64) -> bool {
        self.known.iter().any(|belief| belief.from <= from && until <= belief.until && belief.ms <= self.now)
    }
}

impl Runner {
    /// How far times of these records are believed, now and when they were read before.
    pub(super) fn horizon(&self, partition: i32, records: &[Record]) -> Horizon {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Horizon::NONE };
        let is_of_them = |belief: &&Belief| belief.reaches(partition, first.offset.0) && belief.from <= last.offset.0;
        let known = self.checkpoint.beliefs.iter().filter(is_of_them).cloned().collect();
        Horizon { now: self.latest_ms().saturating_add(AHEAD_MAX_MS), known }
    }

    /// The latest time that this machine's clock has shown to this pipeline.
    pub(super) fn latest_ms(&self) -> i64 {
        let latest = self.latest_ms.get().max(self.options.clock.now_ms());
        self.latest_ms.set(latest);
        latest
    }

    /// What a person should know of a clock that was set back.
    pub(super) fn clock_warning(&self) -> Option<String> {
        let back = self.latest_ms.get() - self.options.clock.now_ms();
        (self.job.plan.is_stateful() && back > AHEAD_MAX_MS).then(|| {
            format!(
                "this machine's clock is {} minutes behind what it has shown to this pipeline before: times of events are believed up to the later time, and what time lets go (last, where no records come) waits for it; set the clock right, or if it was wrong before, inrush pipeline reset forgets that",
                back / 60_000
            )
        })
    }

    /// Notes what became of records whose times were not believed, durably if the clock decided that.
    pub(super) fn note_ahead(
        &mut self,
        partition: i32,
        records: &[Record],
        done: &Remembered<'_>,
        horizon: &Horizon,
    ) -> Result<(), Fail> {
        let count = u64::from(done.filtered.of(Sieve::Future).max(done.ahead));
        if count > 0 {
            self.counts.ahead += count;
            self.status.ahead_at = Some(Instant::now());
        }
        let (Some(first), Some(last), true) = (records.first(), records.last(), done.ahead > 0) else {
            return Ok(());
        };
        let (from, until) = (first.offset.0, last.offset.0 + 1);
        if horizon.is_noted(from, until) {
            return Ok(());
        }
        let mut next = self.checkpoint.clone();
        next.beliefs.push(Belief { partition, from, until, ms: horizon.now });
        self.store(next)
    }

    /// Whether so much was decided since the last cut that there has to be another.
    pub(super) fn has_decided_much(&self) -> bool {
        self.checkpoint.beliefs.len() >= BELIEFS_MAX
    }

    /// What a person should know of clocks that run ahead.
    pub(super) fn ahead_warning(&self) -> Option<String> {
        self.status.ahead_at.filter(|at| at.elapsed() < TOLD_FOR)?;
        let minutes = AHEAD_MAX_MS / 60_000;
        let count = if self.counts.ahead == 1 { "1 row".to_owned() } else { format!("{} rows", self.counts.ahead) };
        let what = match self.job.plan.window() {
            Some(_) => "they move no time and are in no window",
            None => "they move time no further than that",
        };
        Some(format!(
            "{count} lay more than {minutes} minutes ahead of when they were received or of this machine's clock: {what}; look at the clocks of who sends them, and at this one"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_believed_is_not_believed_later_and_what_was_not_decided_goes_by_now() {
        let belief = |from, until, ms| Belief { partition: 0, from, until, ms };
        let horizon = Horizon { now: 900, known: vec![belief(10, 20, 500), belief(15, 30, 700)] };
        let at: Vec<i64> = [9, 10, 19, 20, 29, 30].map(|offset| horizon.at(offset)).into();
        assert_eq!(at, [900, 500, 500, 700, 700, 900]);
        assert_eq!(Horizon::NONE.at(5), i64::MAX);
    }

    #[test]
    fn what_a_clock_that_was_set_back_decides_is_noted_although_a_milder_decision_is() {
        let belief = Belief { partition: 0, from: 10, until: 20, ms: 700 };
        let horizon = |now| Horizon { now, known: vec![belief.clone()] };
        assert!(horizon(900).is_noted(10, 20) && !horizon(500).is_noted(10, 20));
    }

    #[test]
    fn a_decision_is_needed_until_its_partition_has_passed_it_also_before_that_has_a_position() {
        let belief = Belief { partition: 0, from: 10, until: 20, ms: 700 };
        let needed =
            [None, Some(19), Some(20)].map(|next| belief.is_needed(&next.map(|next| (0, next)).into_iter().collect()));
        assert_eq!(needed, [true, true, false]);
        assert!(belief.is_needed(&BTreeMap::from([(1, 99)])));
    }
}
