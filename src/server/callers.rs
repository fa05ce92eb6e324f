//! Who comes to a door, by address: one address cannot take all the places, and who comes stands behind those who are in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many newcomers are let in before their pace is looked at.
const NEWCOMERS: u32 = 16;
/// They come fast if that took no longer than this: four thousand a second.
const FAST: Duration = Duration::from_millis(4);
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Who asked within this time is at work.
const AT_WORK: Duration = Duration::from_millis(500);

/// Returns when other tasks have had a turn, and sockets have been looked at.
pub(super) async fn others_first() {
    // tokio wakes who yields after its next look at the sockets, not with the tasks that are ready now.
    tokio::task::yield_now().await;
}

/// Noted by who asks more than once on one connection, until a gate looks.
#[derive(Clone, Debug, Default)]
pub(super) struct AtWork(Arc<AtomicBool>);

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
/// and where many come while others work, they get half of the time. They wait in the system's queue meanwhile.
pub(super) struct Gate {
    at_work: AtWork,
    /// Others worked, and are taken to go on until then.
    at_work_until: Option<Instant>,
    count: u32,
    since: Instant,
}

impl Gate {
    pub(super) fn new(at_work: AtWork) -> Gate {
        Gate { at_work, at_work_until: None, count: 0, since: Instant::now() }
    }

    /// To be waited for after each connection that was accepted.
    pub(super) async fn pass(&mut self) {
        others_first().await;
        if let Some(pause) = self.pause(Instant::now()) {
            tokio::time::sleep(pause).await;
            self.since = Instant::now();
        }
    }

    /// One more is in; how long the next waits.
    fn pause(&mut self, now: Instant) -> Option<Duration> {
        self.count += 1;
        if self.count < NEWCOMERS {
            return None;
        }
        let took = now.saturating_duration_since(self.since);
        (self.count, self.since) = (0, now);
        if self.at_work.take() {
            self.at_work_until = Some(now + AT_WORK);
        }
        let is_any_at_work = self.at_work_until.is_some_and(|until| now <= until);
        (is_any_at_work && took <= FAST).then_some(took.max(PAUSE_MIN))
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
    fn a_crowd_of_newcomers_makes_room_only_for_others_at_work() {
        let at_work = AtWork::default();
        let mut gate = Gate::new(at_work.clone());
        let mut now = gate.since;
        let mut pauses = |each: Duration, is_at_work: bool| -> Vec<Duration> {
            let one = |_| {
                if is_at_work {
                    at_work.note();
                }
                now += each;
                gate.pause(now)
            };
            (0..10 * NEWCOMERS).filter_map(one).collect()
        };
        let quick = FAST / NEWCOMERS / 2;
        assert_eq!(pauses(quick, false), [], "nobody is at work");
        assert_eq!(pauses(quick, true), [FAST / 2; 10], "half of the time");
        assert_eq!(pauses(quick, false).len(), 10, "they have not been silent for long");
        assert_eq!(pauses(AT_WORK / 10, false), []);
        assert_eq!(pauses(quick, false), [], "now they have");
        assert_eq!(pauses(Duration::ZERO, true), [PAUSE_MIN; 10]);
        assert_eq!(pauses(FAST, true), [], "who comes seldom does not wait");
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
