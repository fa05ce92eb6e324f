//! Who comes to a door, by address: one address cannot take all the places, and who comes stands behind those who are in.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

/// So many newcomers are let in one after the other before those who are at work get as much time.
const NEWCOMERS: u32 = 4;
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(4);
/// Who asked within this time is at work.
const AT_WORK: Duration = Duration::from_millis(500);

/// Returns when other tasks have had a turn, and sockets have been looked at.
async fn others_first() {
    // tokio wakes who yields after its next look at the sockets, not with the tasks that are ready now.
    tokio::task::yield_now().await;
}

/// Noted by who asks more than once on one connection, until a gate looks. One for all doors: they share their threads.
#[derive(Clone, Debug, Default)]
pub struct AtWork(Arc<AtomicBool>);

impl AtWork {
    pub(super) fn note(&self) {
        // Relaxed: a hint, nothing is published with it. Read first, since it is written by all and mostly set.
        if !self.0.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// What newcomers come through. A crowd that comes and goes would keep those who are in from their turns: each newcomer lets them go first,
/// and as long as more come than can be let in while others work, the others get at least half of the time. The crowd waits in the system's queue.
pub(super) struct Gate {
    at_work: AtWork,
    /// Others worked, and are taken to go on until then.
    at_work_until: Option<Instant>,
    /// Let in since the queue was empty, or since the last pause; the first of them then.
    count: u32,
    since: Instant,
}

impl Gate {
    pub(super) fn new(at_work: AtWork) -> Gate {
        Gate { at_work, at_work_until: None, count: 0, since: Instant::now() }
    }

    /// The next who comes. May be dropped at any time.
    pub(super) async fn accept(&mut self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|context| {
            let accepted = listener.poll_accept(context);
            if accepted.is_pending() {
                self.caught_up();
            }
            accepted
        })
        .await
    }

    /// To be waited for after each that was accepted.
    pub(super) async fn pass(&mut self) {
        others_first().await;
        if let Some(pause) = self.pause(Instant::now()) {
            tokio::time::sleep(pause).await;
        }
    }

    /// Nobody waits to be let in.
    fn caught_up(&mut self) {
        self.count = 0;
    }

    /// One more is in; how long the next waits.
    fn pause(&mut self, now: Instant) -> Option<Duration> {
        if self.count == 0 {
            self.since = now;
        }
        self.count += 1;
        if self.count < NEWCOMERS {
            return None;
        }
        let took = now.saturating_duration_since(self.since);
        self.count = 0;
        if self.at_work.take() {
            self.at_work_until = Some(now + AT_WORK);
        }
        let is_any_at_work = self.at_work_until.is_some_and(|until| now <= until);
        is_any_at_work.then_some(took.clamp(PAUSE_MIN, PAUSE_MAX))
    }
}

/// Counts the connections of a door.
#[derive(Debug, Default)]
pub(super) struct Callers {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place; given back when it ends.
#[derive(Debug)]
pub(super) struct Place {
    callers: Arc<Callers>,
    address: IpAddr,
}

/// Why a connection gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The door has as many as it may.
    Door,
    /// The address has as many as it may; loopback has no limit of its own.
    Address,
}

impl Callers {
    pub(super) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        connections_max: usize,
        connections_per_address_max: usize,
    ) -> Result<Place, Full> {
        let address = address.to_canonical();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let own = known.by_address.get(&address).copied().unwrap_or(0);
        if known.total >= connections_max {
            return Err(Full::Door);
        }
        if !address.is_loopback() && own >= connections_per_address_max {
            return Err(Full::Address);
        }
        known.total += 1;
        known.by_address.insert(address, own + 1);
        Ok(Place { callers: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.callers.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.total -= 1;
        if let Some(count) = known.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                known.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_that_does_not_end_makes_room_for_others_at_work() {
        let at_work = AtWork::default();
        let mut gate = Gate::new(at_work.clone());
        let mut now = gate.since;
        let mut pauses = |each: Duration, is_at_work: bool, is_endless: bool| -> Vec<Duration> {
            let one = |_| {
                if is_at_work {
                    at_work.note();
                }
                if !is_endless {
                    gate.caught_up();
                }
                now += each;
                gate.pause(now)
            };
            (0..10 * NEWCOMERS).filter_map(one).collect()
        };
        let (quick, slow) = (PAUSE_MIN * 2 / NEWCOMERS, AT_WORK / 8);
        assert_eq!(pauses(quick, false, true), [], "nobody is at work");
        assert_eq!(pauses(quick, true, false), [], "all who come are let in");
        let paused = pauses(quick, true, true);
        assert!(
            paused.len() == 10 && paused.iter().all(|pause| (PAUSE_MIN..=PAUSE_MIN * 2).contains(pause)),
            "{paused:?}"
        );
        assert_eq!(pauses(quick, false, true).len(), 10, "they have not been silent for long");
        assert_eq!(pauses(slow, true, true), [PAUSE_MAX; 10]);
        pauses(slow, false, true);
        assert_eq!(pauses(quick, false, true), [], "now they have");
    }

    #[test]
    fn one_address_cannot_take_all_places_but_loopback_may() {
        let callers = Arc::new(Callers::default());
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let admit = |text: &str| callers.admit(address(text), 5, 2);
        let first = admit("10.0.0.1").unwrap();
        let _second = admit("::ffff:10.0.0.1").unwrap();
        assert_eq!(admit("10.0.0.1").unwrap_err(), Full::Address);
        let _other = admit("10.0.0.2").unwrap();
        drop(first);
        let _loopback: Vec<Place> = (0..3).map(|_| admit("127.0.0.1").unwrap()).collect();
        assert_eq!(admit("127.0.0.1").unwrap_err(), Full::Door);
    }
}
