//! How much of everything one client, one address and all together may have. [`Limits::default`] is what the daemon runs with.

use std::time::Duration;

/// The door's limits on connections and time; those on bodies stand in `sniff`.
#[derive(Clone, Debug)]
pub struct Limits {
    pub connections_max: usize,
    /// Of one address; loopback and trusted proxies are exempt.
    pub connections_per_address_max: usize,
    /// From the first byte of a request's head to its last.
    pub head_patience: Duration,
    /// Between two requests.
    pub idle_max: Duration,
    /// A client that reads nothing of its answer for so long is cut.
    pub answer_stall_max: Duration,
    /// How long a request waits for bytes of the budget before it is sent away.
    pub budget_patience: Duration,
    /// A body may pause this long.
    pub pause_max: Duration,
    /// A body slower than `rate_min` bytes a second after `rate_grace` is cut off.
    pub rate_grace: Duration,
    pub rate_min: u64,
    /// How long running requests may take once the door closes.
    pub close_patience: Duration,
    /// Live tails at one time.
    pub tails_max: usize,
    /// A live tail sends a comment after this much silence, so that proxies keep the connection.
    pub silence_max: Duration,
    /// Bytes of bad lines that go to dead letter topics in a second; twice as much at once.
    pub quarantine_rate: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 10_000,
            connections_per_address_max: 256,
            head_patience: Duration::from_secs(5),
            idle_max: Duration::from_secs(600),
            answer_stall_max: Duration::from_secs(60),
            budget_patience: Duration::from_millis(500),
            pause_max: Duration::from_secs(10),
            rate_grace: Duration::from_secs(10),
            rate_min: 1024,
            close_patience: Duration::from_secs(10),
            tails_max: 256,
            silence_max: Duration::from_secs(15),
            quarantine_rate: 4 << 20,
        }
    }
}
