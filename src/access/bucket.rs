//! [`Bucket`]: what somebody has used of a rate; [`Buckets`]: everybody's.
//!
//! Kafka sums what was used in eleven windows of one second and lets through what keeps the sum below ten seconds' worth of the rate; past
//! it, it tells a client to wait for as long as the excess takes at that rate. A bucket that runs out at the rate and holds ten seconds
//! of it does the same with two numbers. It differs where that is to the good: it forgets steadily and not a window at a time, and what
//! one large request is ahead of the rate is never forgotten before its time.

use crate::clock::Millis;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

/// Seconds of a rate that may be used at once: `quota.window.num` 11 of `quota.window.size.seconds` 1, without the one that runs.
const BURST_SECONDS: f64 = 10.0;
/// Who is told to come again is told a time at most so much behind the first at which there is room.
const LINE_MS_MAX: Millis = 5_000;
/// Buckets at a time, of 48 bytes. Who comes when all are in use shares one with the others of the same entry of the table.
const BUCKETS_MAX: usize = 65_536;
/// Empty buckets are looked for when there are twice as many as were left by the last look, and at least this many.
const SWEEP_COUNT_MIN: usize = 1_024;
/// When all are in use, not more often than this.
const SWEEP_INTERVAL_MS: Millis = 1_000;

/// What may be used at once of a rate.
pub(super) fn burst(rate: f64) -> f64 {
    rate * BURST_SECONDS
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    used: f64,
    at: Millis,
    /// As it was last told.
    rate: f64,
    /// When the last of those that were told to come again is to come.
    line_ends_at: Millis,
}

impl Bucket {
    fn new(now: Millis) -> Bucket {
        Bucket { used: 0.0, at: now, rate: 1.0, line_ends_at: now }
    }

    /// What is in use at `now`. A rate that has changed holds from the last use on, as it does for Kafka's windows.
    fn used_at(&self, rate: f64, now: Millis) -> f64 {
        let passed = (now - self.at).max(0) as f64 / 1_000.0;
        (self.used - passed * rate).max(0.0)
    }

    /// Uses `amount`, whatever was used before; how long to wait until no more than the burst is in use.
    pub(super) fn spend(&mut self, rate: f64, amount: f64, now: Millis) -> Millis {
        let used = self.used_at(rate, now) + amount;
        *self = Bucket { used, at: self.at.max(now), rate, ..*self };
        wait(used - burst(rate), rate)
    }

    /// How long to wait until `amount` may be used within the burst; 0 if it may be now. What is larger than the burst has to find the
    /// bucket empty: it would wait for ever in Kafka.
    pub(super) fn wait_for(&self, rate: f64, amount: f64, now: Millis) -> Millis {
        wait(self.used_at(rate, now) + amount.min(burst(rate)) - burst(rate), rate)
    }

    /// A place in the line of those that wait for room: how long to wait until `amount` may be used, if those before use as much each. A
    /// crowd that was told one time would come at one time, and all but one of it for nothing.
    pub(super) fn queue(&mut self, rate: f64, amount: f64, now: Millis) -> Millis {
        let first = self.wait_for(rate, amount, now);
        let behind = self.line_ends_at - now;
        let turn = if behind > 0 { behind + wait(amount.min(burst(rate)), rate) } else { 0 };
        // Past the end of the line everybody would be told the same.
        let last = first + LINE_MS_MAX - fastrand::i64(0..=LINE_MS_MAX / 2);
        let told = first.max(turn.min(last));
        self.line_ends_at = self.line_ends_at.max(now + told);
        told
    }

    /// As good as a new one.
    fn is_empty(&self, now: Millis) -> bool {
        self.used_at(self.rate, now) == 0.0
    }
}

/// Milliseconds until `excess` has run out, up: a wait of nothing would let a client ask at once again.
fn wait(excess: f64, rate: f64) -> Millis {
    if excess <= 0.0 { 0 } else { (excess / rate * 1_000.0).ceil().min(f64::from(i32::MAX)) as Millis }
}

/// A bucket's place: a hash under keys of this process, of twice the width that chance could meet. No client's text is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place(u64, u64);

/// All buckets of a process.
#[derive(Debug)]
pub(super) struct Buckets {
    hashers: [RandomState; 2],
    live: HashMap<Place, Bucket>,
    count_max: usize,
    sweep_count: usize,
    swept_at: Option<Millis>,
}

impl Buckets {
    pub(super) fn new() -> Buckets {
        Buckets::with_at_most(BUCKETS_MAX)
    }

    fn with_at_most(count_max: usize) -> Buckets {
        Buckets {
            hashers: [RandomState::new(), RandomState::new()],
            live: HashMap::new(),
            count_max,
            sweep_count: SWEEP_COUNT_MIN,
            swept_at: None,
        }
    }

    /// Where the bucket of these names is.
    pub(super) fn place(&self, names: impl Hash) -> Place {
        let [one, other] = &self.hashers;
        Place(one.hash_one(&names), other.hash_one(&names))
    }

    pub(super) fn count(&self) -> usize {
        self.live.len()
    }

    /// The bucket at `own`; at `shared`, if it is a new one and all are in use. There are as many shared ones as the table has entries.
    pub(super) fn at(&mut self, own: Place, shared: Place, now: Millis) -> &mut Bucket {
        let is_new = !self.live.contains_key(&own);
        if is_new && self.live.len() >= self.sweep_count.min(self.count_max) {
            self.sweep(now);
        }
        let place = if is_new && self.live.len() >= self.count_max { shared } else { own };
        self.live.entry(place).or_insert_with(|| Bucket::new(now))
    }

    /// Takes away what is empty: nobody can tell it from a new one.
    fn sweep(&mut self, now: Millis) {
        let is_recent = |swept_at| (0..SWEEP_INTERVAL_MS).contains(&(now - swept_at));
        if self.live.len() >= self.count_max && self.swept_at.is_some_and(is_recent) {
            return;
        }
        self.live.retain(|_, bucket| !bucket.is_empty(now));
        self.sweep_count = (self.live.len() * 2).max(SWEEP_COUNT_MIN);
        self.swept_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use proptest::prelude::*;

    #[test]
    fn ten_seconds_of_the_rate_are_free_and_the_rest_waits_for_its_time() {
        let clock = Clock::manual(0);
        let mut bucket = Bucket::new(0);
        assert_eq!(bucket.spend(1_000.0, 10_000.0, clock.steady_ms()), 0);
        assert_eq!(bucket.spend(1_000.0, 500.0, clock.steady_ms()), 500);
        clock.advance(500);
        assert_eq!(bucket.spend(1_000.0, 1.0, clock.steady_ms()), 1);
        clock.advance(10_001);
        assert!(bucket.is_empty(clock.steady_ms()));
        assert_eq!(bucket.spend(1_000.0, 10_000.0, clock.steady_ms()), 0);
    }

    #[test]
    fn what_is_larger_than_the_burst_waits_for_an_empty_bucket_and_then_owes() {
        let mut bucket = Bucket::new(0);
        assert_eq!(bucket.wait_for(100.0, 1_000.0, 0), 0);
        assert_eq!(bucket.wait_for(100.0, 5_000.0, 0), 0);
        assert_eq!(bucket.spend(100.0, 5_000.0, 0), 40_000);
        assert_eq!(bucket.wait_for(100.0, 1.0, 0), 40_010);
        assert_eq!(bucket.wait_for(100.0, 5_000.0, 40_000), 10_000);
        assert_eq!(bucket.wait_for(100.0, 5_000.0, 50_000), 0);
    }

    #[test]
    fn who_waits_for_the_same_room_is_told_one_time_after_the_other() {
        let mut bucket = Bucket::new(0);
        bucket.spend(1_000.0, 10_000.0, 0);
        let mut told = |now| bucket.queue(1_000.0, 500.0, now);
        assert_eq!((told(0), told(0), told(0)), (500, 1_000, 1_500));
        assert_eq!(told(1_400), 600, "two have had their turn");
        // Time has passed, nobody used anything: there is room for all of the line.
        assert_eq!(told(5_000), 0);
        let mut bucket = Bucket::new(0);
        bucket.spend(1_000.0, 10_000.0, 0);
        let told: std::collections::HashSet<Millis> = (0..1_000).map(|_| bucket.queue(1_000.0, 500.0, 0)).collect();
        assert!(told.iter().all(|told| (500..=500 + LINE_MS_MAX).contains(told)), "nobody is put off without end");
        assert!(told.len() > 300, "nor told the same as hundreds of others: {}", told.len());
    }

    #[test]
    fn a_changed_rate_holds_for_what_was_used_before() {
        let mut bucket = Bucket::new(0);
        assert_eq!(bucket.spend(100.0, 2_000.0, 0), 10_000);
        assert_eq!(bucket.wait_for(1_000.0, 1.0, 0), 0);
        assert_eq!(bucket.wait_for(50.0, 500.0, 0), 40_000);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_away() {
        let mut bucket = Bucket::new(1_000);
        assert_eq!(bucket.spend(1.0, 10.0, 1_000), 0);
        assert_eq!(bucket.spend(1.0, 1.0, 0), 1_000);
        assert_eq!(bucket.wait_for(1.0, 1.0, 1_000), 2_000);
    }

    #[test]
    fn buckets_past_the_most_share_one_and_empty_ones_make_room() {
        let mut buckets = Buckets::with_at_most(4);
        let shared = buckets.place("shared");
        let spend = |buckets: &mut Buckets, name: &str, now| {
            let own = buckets.place(name);
            buckets.at(own, shared, now).spend(1.0, 10.0, now)
        };
        for name in ["a", "b", "c", "d"] {
            assert_eq!(spend(&mut buckets, name, 0), 0);
        }
        // All four are in use: two strangers use one together.
        assert_eq!(spend(&mut buckets, "e", 0), 0);
        assert_eq!(spend(&mut buckets, "f", 0), 10_000);
        assert_eq!(buckets.count(), 5);
        for n in 0..1_000 {
            spend(&mut buckets, &n.to_string(), 5_000);
        }
        assert_eq!(buckets.count(), 5, "nobody makes it grow");
        // After ten seconds the four are empty and go.
        assert_eq!(spend(&mut buckets, "g", 10_000), 0);
        assert_eq!(spend(&mut buckets, "g", 10_000), 10_000);
        assert_eq!(buckets.count(), 2);
    }

    proptest! {
        /// Whoever waits as told uses no more than the rate and ten seconds of it in advance, and no less while it has something to send.
        #[test]
        fn who_waits_as_told_has_the_rate(rate in 10u32..10_000, sizes in prop::collection::vec(1u32..50_000, 50..150)) {
            let clock = Clock::manual(0);
            let mut bucket = Bucket::new(0);
            let mut sum = 0.0;
            for size in &sizes {
                sum += f64::from(*size);
                let wait = bucket.spend(f64::from(rate), f64::from(*size), clock.steady_ms());
                clock.advance(wait);
                let allowed = burst(f64::from(rate)) + f64::from(rate) * clock.steady_ms() as f64 / 1_000.0;
                prop_assert!(sum <= allowed + 0.5, "{sum} of {allowed}");
            }
            // Waits are rounded up to whole milliseconds, one a request.
            let needed = (sum - burst(f64::from(rate))).max(0.0) / f64::from(rate) * 1_000.0;
            prop_assert!(clock.steady_ms() as f64 <= needed + sizes.len() as f64 + 1.0);
        }
    }
}
