//! Time, as an argument: the wall clock of the machine, or one that a test moves by hand.
//!
//! Nothing on the lower floors calls the system's clock itself; whoever needs the time is given a [`Clock`].

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tracing::warn;

/// Milliseconds since 1970-01-01 UTC, as Kafka's record timestamps.
pub type Millis = i64;

/// Where the time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's wall clock.
    System,
    /// A clock that stands still until it is moved; all clones show the same time.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that shows `now_ms` until [`Clock::advance`] moves it.
    pub fn manual(now_ms: Millis) -> Clock {
        Clock::Manual(Arc::new(AtomicI64::new(now_ms)))
    }

    /// The wall time now. It may go back: use it for timestamps and retention, never to measure a duration.
    pub fn now_ms(&self) -> Millis {
        match self {
            Clock::System => {
                SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_millis() as Millis).unwrap_or(0)
            }
            // Relaxed: the value stands for itself, nothing is published with it.
            Clock::Manual(now) => now.load(Ordering::Relaxed),
        }
    }

    /// Milliseconds since the first call, which never go back: to measure durations with. A manual clock's are its time.
    pub fn steady_ms(&self) -> Millis {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        match self {
            Clock::System => FIRST.get_or_init(Instant::now).elapsed().as_millis() as Millis,
            Clock::Manual(_) => self.now_ms(),
        }
    }

    /// Moves a manual clock by `by_ms`, which may be negative; the system's clock is left alone.
    pub fn advance(&self, by_ms: Millis) {
        if let Clock::Manual(now) = self {
            now.fetch_add(by_ms, Ordering::Relaxed);
        }
    }
}

/// A jump of the wall clock by more than this stops what deletes by age: a wrong clock must not delete a week of events.
const JUMP_MS: Millis = 60 * 60 * 1000;
/// How long it stops after a jump, for somebody to notice.
const JUMP_PAUSE: Duration = Duration::from_secs(60 * 60);

/// Notices when the wall clock jumps against the monotonic one.
pub struct JumpWatch {
    wall_ms: Millis,
    seen: Instant,
    jumped: Option<Instant>,
}

impl JumpWatch {
    pub fn new(now_ms: Millis) -> JumpWatch {
        JumpWatch { wall_ms: now_ms, seen: Instant::now(), jumped: None }
    }

    /// Whether ages can be believed at `now_ms`: the clock has not jumped within the last hour.
    pub fn is_steady(&mut self, now_ms: Millis) -> bool {
        let passed = self.seen.elapsed().as_millis() as Millis;
        if (now_ms - self.wall_ms - passed).abs() > JUMP_MS {
            warn!(
                by_ms = now_ms - self.wall_ms - passed,
                "the wall clock jumped: nothing is deleted by age for an hour"
            );
            self.jumped = Some(Instant::now());
        }
        self.wall_ms = now_ms;
        self.seen = Instant::now();
        self.jumped.is_none_or(|jumped| jumped.elapsed() > JUMP_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_show_the_same_time() {
        let clock = Clock::manual(1_000);
        let other = clock.clone();
        clock.advance(-250);
        assert_eq!(other.now_ms(), 750);
    }
}
