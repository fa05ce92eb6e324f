//! Time, as an argument: the wall clock of the machine, or one that a test moves by hand.
//!
//! Nothing on the lower floors calls the system's clock itself; whoever needs the time is given a [`Clock`].

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

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
