//! The memory of all Parquet outputs of the process: one budget, in equal shares, whatever comes. An output that holds more than its share
//! writes row groups early; if that is not enough, it cuts.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that all Parquet outputs of the process hold: row groups that are not full, files that are open, parts on their way.
pub(super) const BYTES_MAX: usize = 256 << 20;
/// Of one output: more would not make its files better.
pub(super) const ONE_MAX: usize = 128 << 20;
/// Below it nothing useful can be held: a thousand outputs still write.
const ONE_MIN: usize = 1 << 20;

static HOLDERS: AtomicUsize = AtomicUsize::new(0);

/// What one output may hold; it counts among the others while it holds anything.
#[derive(Default)]
pub(super) struct Share {
    is_held: bool,
}

impl Share {
    /// Tells whether the output holds anything, and gives the bytes it may hold now. Others that come make it less.
    pub(super) fn allowed(&mut self, is_held: bool) -> usize {
        // Relaxed: it is a count, and each output looks again within a moment.
        let holders = match (self.is_held, is_held) {
            (false, true) => HOLDERS.fetch_add(1, Ordering::Relaxed) + 1,
            (true, false) => HOLDERS.fetch_sub(1, Ordering::Relaxed) - 1,
            _ => HOLDERS.load(Ordering::Relaxed),
        };
        self.is_held = is_held;
        part(holders)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.allowed(false);
    }
}

fn part(holders: usize) -> usize {
    (BYTES_MAX / holders.max(1)).clamp(ONE_MIN, ONE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_budget() {
        for holders in 1..=BYTES_MAX / ONE_MIN {
            assert!(part(holders) * holders <= BYTES_MAX, "{holders}");
        }
        assert_eq!((part(1), part(100_000)), (ONE_MAX, ONE_MIN));
    }
}
