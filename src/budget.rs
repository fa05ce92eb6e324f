//! A bounded number of bytes that many tasks share: whoever holds memory holds a [`Lease`] for it.
//!
//! Used by the doors (bytes of requests in flight) and by pipelines. It counts; it allocates nothing itself.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// A budget of bytes; clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    free: Arc<Semaphore>,
    limit: usize,
}

/// Bytes taken out of a [`Budget`]; they go back when it is dropped.
#[derive(Debug)]
pub struct Lease {
    free: Arc<Semaphore>,
    bytes: usize,
}

/// The budget had no room for that many bytes within the time given.
#[derive(Debug, thiserror::Error)]
#[error("cannot reserve {wanted} bytes: {free} of {limit} are free")]
pub struct NoRoom {
    pub wanted: usize,
    pub free: usize,
    pub limit: usize,
}

impl Budget {
    /// A budget of `limit` bytes (at most 4 GiB - 1 can be taken at once).
    pub fn new(limit: usize) -> Budget {
        Budget { free: Arc::new(Semaphore::new(limit)), limit }
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes not taken now.
    pub fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// Takes `bytes` now or not at all.
    ///
    /// # Errors
    /// [`NoRoom`] if fewer are free.
    pub fn try_take(&self, bytes: usize) -> Result<Lease, NoRoom> {
        let wanted = u32::try_from(bytes).map_err(|_| self.no_room(bytes))?;
        let permit = self.free.try_acquire_many(wanted).map_err(|_| self.no_room(bytes))?;
        permit.forget();
        Ok(Lease { free: self.free.clone(), bytes })
    }

    /// Takes `bytes`, waiting at most `patience` for others to give theirs back; first come, first served.
    ///
    /// # Errors
    /// [`NoRoom`] if that took too long, or at once if `bytes` exceeds the whole budget.
    pub async fn take(&self, bytes: usize, patience: Duration) -> Result<Lease, NoRoom> {
        if bytes > self.limit {
            return Err(self.no_room(bytes));
        }
        if let Ok(lease) = self.try_take(bytes) {
            return Ok(lease);
        }
        let wanted = u32::try_from(bytes).map_err(|_| self.no_room(bytes))?;
        match tokio::time::timeout(patience, self.free.acquire_many(wanted)).await {
            Ok(Ok(permit)) => {
                permit.forget();
                Ok(Lease { free: self.free.clone(), bytes })
            }
            Ok(Err(_)) | Err(_) => Err(self.no_room(bytes)),
        }
    }

    fn no_room(&self, wanted: usize) -> NoRoom {
        NoRoom { wanted, free: self.free(), limit: self.limit }
    }
}

impl Lease {
    /// How many bytes this lease stands for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the bytes of `other`, which must come from the same budget.
    pub fn merge(&mut self, mut other: Lease) {
        debug_assert!(Arc::ptr_eq(&self.free, &other.free), "leases of two budgets were merged");
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.free.add_permits(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_back_when_the_lease_is_dropped() {
        let budget = Budget::new(100);
        let mut lease = budget.try_take(60).unwrap();
        assert!(budget.try_take(60).is_err());
        lease.merge(budget.try_take(40).unwrap());
        assert_eq!((budget.free(), lease.bytes()), (0, 100));
        drop(lease);
        assert_eq!(budget.free(), 100);
    }

    #[tokio::test]
    async fn more_than_the_whole_budget_is_refused_at_once() {
        let refused = Budget::new(10).take(11, Duration::from_secs(3600)).await.unwrap_err();
        assert_eq!(refused.wanted, 11);
    }
}
