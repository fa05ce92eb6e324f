//! Who comes to a door, by address: one address cannot take all the places, and who comes stands behind those who are in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// What an accept loop waits for after each connection that it took: other tasks have had a turn, and sockets have been looked at. A crowd
/// that comes and goes would else keep those who are in from their turns; it waits in the system's queue meanwhile.
pub(super) async fn others_first() {
    // tokio wakes who yields after its next look at the sockets, not with the tasks that are ready now.
    tokio::task::yield_now().await;
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
