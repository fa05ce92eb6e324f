//! A pipeline's share of the cores: what it may take (`cpu = "50%"`), what it took, and the waits that hold it to the one by the other.
//!
//! What is counted is the CPU time of the pipeline's own thread and of the jobs that it gives to the shared threads (decoding, SQL,
//! encoding; see [`crate::work::Account`]). It is held between two reads of the log: then everything that has begun is done, and cuts, marks
//! of time and signs of life go on. So it may be ahead of its share by one read, which it then waits out; over a longer time it never is.
//!
//! Not taken from its share are [`Chore`]s: to open it, to look after its tables and outputs, to tell how it is. They take a fixed time,
//! however little is read, and from a small share they would leave nothing to read with. They are shown with the rest of what it took.

use super::runner::{Fail, Open, Runner};
use crate::control::CpuStatus;
use crate::record::PartitionId;
use crate::work::{Account, Enlisted, settle, thread_time};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shares, in percent of one core.
const PERCENT_MIN: u32 = 1;
const PERCENT_MAX: u32 = 25_600;
/// What was not taken is kept for so long: a pipeline that had nothing to do is not held at its first record.
const KEPT: Duration = Duration::from_millis(200);
/// Bytes of log that a pipeline with a small share reads at least.
pub(super) const READ_SIZE_MIN: usize = 256 << 10;

/// What a pipeline may take, in percent of one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuShare(u32);

impl CpuShare {
    /// `50%`, or `250%`: two cores and a half.
    ///
    /// # Errors
    /// What a share looks like.
    pub(super) fn read(text: &str) -> Result<CpuShare, String> {
        let number = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
        match number {
            Some(percent) if (PERCENT_MIN..=PERCENT_MAX).contains(&percent) => Ok(CpuShare(percent)),
            Some(percent) => Err(format!("{percent}% is no share; write {PERCENT_MIN}% to {PERCENT_MAX}% of one core")),
            None => Err(format!(
                "\"{text}\" is no share of a core; write \"50%\" for half of one, \"200%\" for two; without it there is no limit"
            )),
        }
    }

    /// CPU time that is its own in so much time.
    fn of(self, time: Duration) -> i64 {
        (nanos(time) as i128 * i128::from(self.0) / 100) as i64
    }

    /// The time in which so much CPU time is its own.
    fn time_for(self, cpu_ns: i64) -> Duration {
        Duration::from_nanos((i128::from(cpu_ns.max(0)) * 100 / i128::from(self.0)) as u64)
    }
}

impl std::fmt::Display for CpuShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// What a pipeline has taken since the daemon started, with all its runs.
#[derive(Default)]
pub(super) struct Taken {
    account: Arc<Account>,
    /// It stood still for so long, because it had taken its share.
    held_ns: AtomicU64,
}

impl Taken {
    /// CPU time up to this moment.
    pub(super) fn by_now(&self) -> Duration {
        self.account.spent_by_now()
    }

    /// As status says it.
    pub(super) fn told(&self, share: Option<CpuShare>, is_held: bool) -> CpuStatus {
        CpuStatus {
            seconds: self.by_now().as_secs_f64(),
            share: share.map(|share| share.to_string()),
            // Relaxed: a count.
            held_seconds: Duration::from_nanos(self.held_ns.load(Ordering::Relaxed)).as_secs_f64(),
            is_held,
        }
    }
}

/// What keeps a pipeline, and reads nothing: when it began, by the thread's own clock. `None` = as a part of another.
#[must_use]
pub(super) struct Chore(Option<Duration>);

/// Holds one run of a pipeline to its share. It stays on the run's thread, which works for the pipeline as long as it is there.
pub(super) struct Pace {
    taken: Arc<Taken>,
    share: Option<CpuShare>,
    purse: Option<Purse>,
    began: Instant,
    is_held: bool,
    /// The partition at which the next turn begins.
    turn_from: i32,
    is_at_chore: bool,
    _enlisted: Enlisted,
}

impl Pace {
    pub(super) fn new(taken: &Arc<Taken>, share: Option<CpuShare>) -> Pace {
        let _enlisted = taken.account.enlist();
        let purse = share.map(|share| Purse::new(share, taken.account.spent()));
        Pace {
            taken: taken.clone(),
            share,
            purse,
            began: Instant::now(),
            is_held: false,
            turn_from: 0,
            is_at_chore: false,
            _enlisted,
        }
    }

    /// How long it has to wait before it may read again; `None` = it may.
    pub(super) fn wait(&mut self) -> Option<Duration> {
        let purse = self.purse.as_mut()?;
        settle();
        let wait = purse.wait(self.began.elapsed(), self.taken.account.spent());
        self.is_held = wait.is_some();
        wait
    }

    /// What this thread takes from here to [`Pace::end`] is not of the pipeline's share.
    pub(super) fn begin(&mut self) -> Chore {
        let is_part = std::mem::replace(&mut self.is_at_chore, true);
        Chore((!is_part).then(thread_time))
    }

    pub(super) fn end(&mut self, Chore(began): Chore) {
        let Some(began) = began else { return };
        self.is_at_chore = false;
        if let Some(purse) = &mut self.purse {
            purse.give_back(thread_time().saturating_sub(began));
        }
    }

    /// Waits a part of that: until somebody wakes the thread, and never longer than `longest`.
    pub(super) fn nap(&self, wait: Duration, longest: Duration) {
        let began = Instant::now();
        std::thread::park_timeout(wait.min(longest));
        self.taken.held_ns.fetch_add(nanos(began.elapsed()) as u64, Ordering::Relaxed);
    }

    /// What one read takes, of as much as it would without a share, and not less than `least`: the less it may take, the sooner it is held.
    pub(super) fn part_of(&self, most: usize, least: usize) -> usize {
        let part = |share: CpuShare| (most as u64 * u64::from(share.0) / 100) as usize;
        self.share.map_or(most, |share| part(share).clamp(least.min(most), most))
    }

    pub(super) fn told(&self) -> CpuStatus {
        self.taken.told(self.share, self.is_held)
    }
}

impl Runner {
    /// A turn of each partition, up to one at which the pipeline has taken its share of the cores. Says whether there was anything, and how
    /// long it is to be held then.
    pub(super) fn turn_all(&mut self, open: &mut Open) -> Result<(bool, Option<Duration>), Fail> {
        let (count, from) = (open.topic.partition_count(), std::mem::take(&mut self.pace.turn_from));
        let mut has_read = false;
        for partition in (from..count).chain(0..from.min(count)) {
            if let Some(wait) = self.pace.wait() {
                self.pace.turn_from = partition;
                return Ok((has_read, Some(wait)));
            }
            has_read |= self.turn(open, PartitionId(partition))?;
            self.life.beat();
            if self.life.is_stopping() {
                break;
            }
        }
        Ok((has_read, None))
    }
}

/// CPU time that is had and was not taken, or was taken and is not had yet.
struct Purse {
    share: CpuShare,
    /// Nanoseconds; what is owed is below 0.
    left: i64,
    time: Duration,
    spent: Duration,
}

impl Purse {
    fn new(share: CpuShare, spent: Duration) -> Purse {
        Purse { share, left: share.of(KEPT), time: Duration::ZERO, spent }
    }

    /// Of what is booked by the next wait, so much is not to be counted.
    fn give_back(&mut self, time: Duration) {
        self.left = self.left.saturating_add(nanos(time));
    }

    /// How long nothing may be taken now that it is `time` since the beginning and `spent` was taken in all.
    fn wait(&mut self, time: Duration, spent: Duration) -> Option<Duration> {
        let had = self.share.of(time.saturating_sub(self.time));
        let took = nanos(spent.saturating_sub(self.spent));
        (self.time, self.spent) = (time, spent);
        self.left = self.left.saturating_add(had).saturating_sub(took).min(self.share.of(KEPT));
        (self.left < 0).then(|| self.share.time_for(-self.left))
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A pipeline with always more to read: each read takes so much CPU time on `lanes` threads at once. Gives what it took by `end`.
    fn taken_by(end: Duration, share: &str, read: Duration, lanes: u32) -> Duration {
        let mut purse = Purse::new(CpuShare::read(share).unwrap(), Duration::ZERO);
        let (mut time, mut spent) = (Duration::ZERO, Duration::ZERO);
        while time < end {
            match purse.wait(time, spent) {
                // A nap that a sign of life cuts short.
                Some(wait) => time += wait.clamp(MS, MS * 200),
                None => {
                    time += read / lanes;
                    spent += read;
                }
            }
        }
        spent
    }

    #[test]
    fn over_the_same_backlog_each_takes_its_share_and_never_more_than_a_read_and_what_was_kept_ahead() {
        let end = Duration::from_secs(100);
        for (share, percent) in [("1%", 1), ("10%", 10), ("40%", 40), ("150%", 150)] {
            for read in [MS, MS * 40, MS * 700] {
                let spent = taken_by(end, share, read, 4);
                let own = end * percent / 100;
                assert!(spent + read >= own, "{share} in reads of {read:?}: {spent:?} of {own:?}");
                assert!(
                    spent <= own + read + KEPT * percent / 100,
                    "{share} in reads of {read:?}: {spent:?} of {own:?}"
                );
            }
        }
        let (small, large) = (taken_by(end, "10%", MS * 20, 1), taken_by(end, "40%", MS * 20, 1));
        let ratio = large.as_secs_f64() / small.as_secs_f64();
        assert!((3.9..4.1).contains(&ratio), "{ratio}");
    }

    #[test]
    fn who_had_nothing_to_do_keeps_little_of_it() {
        let share = CpuShare::read("50%").unwrap();
        let mut purse = Purse::new(share, Duration::ZERO);
        let hour = Duration::from_secs(3600);
        assert_eq!(purse.wait(hour, Duration::ZERO), None);
        // 100 ms are left of it; 300 were taken at once.
        assert_eq!(purse.wait(hour, MS * 300), Some(MS * 400));
        assert_eq!(purse.wait(hour + MS * 399, MS * 300), Some(MS));
        assert_eq!(purse.wait(hour + MS * 400, MS * 300), None);
    }

    #[test]
    fn chores_are_shown_and_leave_the_share_to_what_is_read() {
        let taken: Arc<Taken> = Arc::default();
        let mut pace = Pace::new(&taken, Some(CpuShare::read("1%").unwrap()));
        let work = |time: Duration| {
            let began = thread_time();
            while thread_time() - began < time {
                std::hint::black_box((0..1_000u64).sum::<u64>());
            }
        };
        let opening = pace.begin();
        work(MS * 50);
        // One that is part of another is given back once.
        let telling = pace.begin();
        work(MS * 50);
        pace.end(telling);
        pace.end(opening);
        assert_eq!(pace.wait(), None);
        assert!(pace.told().seconds >= 0.1, "it is shown");
        work(MS * 50);
        let wait = pace.wait().unwrap();
        assert!(wait > Duration::from_secs(4), "a read is counted: {wait:?}");
    }

    #[test]
    fn shares_are_read_and_others_are_told_what_one_is() {
        for (text, share) in [("1%", 1), ("50%", 50), ("250 %", 250), ("25600%", 25_600)] {
            assert_eq!(CpuShare::read(text), Ok(CpuShare(share)), "{text}");
        }
        for text in ["0%", "25601%", "50", "0.5", "half", "-5%", "1.5%", "%", ""] {
            let told = CpuShare::read(text).unwrap_err();
            assert!(told.contains("write"), "{text}: {told}");
        }
    }

    #[test]
    fn who_may_take_little_reads_little() {
        let pace = |share: Option<&str>| {
            Pace::new(&Arc::default(), share.map(|share| CpuShare::read(share).unwrap()))
                .part_of(4 << 20, READ_SIZE_MIN)
        };
        assert_eq!(
            [pace(None), pace(Some("200%")), pace(Some("50%")), pace(Some("1%"))],
            [4 << 20, 4 << 20, 2 << 20, READ_SIZE_MIN]
        );
    }
}
