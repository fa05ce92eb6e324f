//! Signs of life of the loops that must never stand still: accept loops and the batcher.
//!
//! A loop beats once a turn, and turns at least every [`BEAT_INTERVAL`] when it has nothing to do; the daemon feeds systemd's watchdog only
//! while all of them beat. Log writers are judged apart, since a disk may take its time. Pipelines have no pulse: one that hangs must
//! never take the daemon down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A loop without work beats this often.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(5);
/// A loop that has not beaten for so long hangs.
pub const SILENCE_MAX: Duration = Duration::from_secs(20);

/// The pulse of one loop; clones share it.
#[derive(Clone, Debug)]
pub struct Pulse {
    /// Which loop, for people.
    pub name: &'static str,
    began: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Pulse {
    pub fn new(name: &'static str) -> Pulse {
        Pulse { name, began: Instant::now(), last_ms: Arc::default() }
    }

    /// One turn was made. Cost: a clock reading and a store.
    pub fn beat(&self) {
        // Relaxed: the value stands for itself, nothing is published with it.
        self.last_ms.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// How long ago the last beat was; since the making, if there was none.
    pub fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(last)
    }

    /// Whether the loop beat lately enough.
    pub fn is_alive(&self) -> bool {
        self.silence() <= SILENCE_MAX
    }

    /// A pulse that last beat `silence` ago, for tests of those who judge.
    #[cfg(test)]
    pub(crate) fn silent_for(name: &'static str, silence: Duration) -> Pulse {
        let began = Instant::now().checked_sub(silence).unwrap_or_else(Instant::now);
        Pulse { name, began, last_ms: Arc::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_ends_the_silence() {
        let pulse = Pulse::silent_for("a loop", SILENCE_MAX * 2);
        assert!(!pulse.is_alive());
        pulse.clone().beat();
        assert!(pulse.is_alive());
    }
}
