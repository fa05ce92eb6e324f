//! A bounded number of bytes that many tasks share: whoever holds memory holds a [`Lease`] for it.
//!
//! Used by the doors (bytes of requests in flight) and by pipelines. It counts; it allocates nothing itself.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};

/// A budget of bytes; clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    free: Arc<Semaphore>,
    limit: usize,
    /// What [`Claim`]s get one after the other when the rest is gone; part of the limit.
    last: Arc<Semaphore>,
    turn: Arc<Mutex<()>>,
}

/// Bytes that one request gathers as they arrive. When the budget has run out, unfinished requests get its reserve one after the other, who
/// waited longest first: else each could hold a part and none get on.
#[derive(Debug)]
pub struct Claim {
    budget: Budget,
    lease: Lease,
    /// Bytes of the reserve; nobody else has any while this is held.
    last: Option<(Lease, OwnedMutexGuard<()>)>,
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
        Budget::with_reserve(limit, 0)
    }

    /// A budget of `limit` bytes, `reserve` of which go only to [`Claim`]s, one at a time.
    pub fn with_reserve(limit: usize, reserve: usize) -> Budget {
        let reserve = reserve.min(limit);
        Budget {
            free: Arc::new(Semaphore::new(limit - reserve)),
            limit,
            last: Arc::new(Semaphore::new(reserve)),
            turn: Arc::default(),
        }
    }

    /// A claim that holds nothing yet.
    pub fn claim(&self) -> Claim {
        Claim { budget: self.clone(), lease: Lease { free: self.free.clone(), bytes: 0 }, last: None }
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes not taken now.
    pub fn free(&self) -> usize {
        self.free.available_permits() + self.last.available_permits()
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

impl Claim {
    /// How many bytes it holds.
    pub fn bytes(&self) -> usize {
        self.lease.bytes + self.last.as_ref().map_or(0, |(lease, _)| lease.bytes)
    }

    /// Takes `bytes` more, waiting at most `patience`.
    ///
    /// # Errors
    /// [`NoRoom`] if that took too long, or at once if the claim would exceed the whole budget. What it holds it keeps.
    pub async fn grow(&mut self, bytes: usize, patience: Duration) -> Result<(), NoRoom> {
        let wanted = u32::try_from(bytes).map_err(|_| self.budget.no_room(bytes))?;
        if self.bytes() + bytes > self.budget.limit {
            return Err(self.budget.no_room(self.bytes() + bytes));
        }
        let (free, last, turn) = (self.budget.free.clone(), self.budget.last.clone(), self.budget.turn.clone());
        if let Ok(more) = self.budget.try_take(bytes) {
            self.lease.merge(more);
            return Ok(());
        }
        let grown = tokio::time::timeout(patience, async {
            if self.last.is_none() {
                tokio::select! {
                    more = free.acquire_many(wanted) => return self.add(more, bytes),
                    turn = turn.lock_owned() => self.last = Some((Lease { free: last.clone(), bytes: 0 }, turn)),
                }
            }
            if let (Ok(more), Some((lease, _))) = (last.try_acquire_many(wanted), &mut self.last) {
                more.forget();
                lease.bytes += bytes;
                return;
            }
            // The reserve is all its own and used up: the others give back what they have.
            let more = free.acquire_many(wanted).await;
            self.add(more, bytes);
        });
        let is_in_time = grown.await.is_ok();
        if is_in_time { Ok(()) } else { Err(self.budget.no_room(bytes)) }
    }

    fn add(&mut self, more: Result<tokio::sync::SemaphorePermit<'_>, tokio::sync::AcquireError>, bytes: usize) {
        more.expect("a budget's semaphore is never closed").forget();
        self.lease.bytes += bytes;
    }
}

impl Lease {
    /// How many bytes this lease stands for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back what it has beyond `bytes`.
    pub fn keep(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.bytes -= surplus;
        self.free.add_permits(surplus);
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
        lease.keep(30);
        assert_eq!((budget.free(), lease.bytes()), (70, 30));
        drop(lease);
        assert_eq!(budget.free(), 100);
    }

    #[tokio::test]
    async fn unfinished_claims_get_the_reserve_one_after_the_other() {
        let budget = Budget::with_reserve(100, 20);
        let patience = Duration::from_secs(3600);
        let mut claims = [budget.claim(), budget.claim()];
        for claim in &mut claims {
            claim.grow(40, patience).await.unwrap();
        }
        assert!(budget.try_take(1).is_err(), "the reserve is for claims only");
        let [mut first, mut second] = claims;
        first.grow(20, patience).await.unwrap();
        // The second waits for its turn, and gets on when the first is done.
        let second = tokio::spawn(async move {
            second.grow(20, patience).await.unwrap();
            second.bytes()
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        assert_eq!(second.await.unwrap(), 60);
        assert_eq!(budget.free(), 100);
        assert!(budget.claim().grow(101, patience).await.is_err());
    }

    #[tokio::test]
    async fn more_than_the_whole_budget_is_refused_at_once() {
        let refused = Budget::new(10).take(11, Duration::from_secs(3600)).await.unwrap_err();
        assert_eq!(refused.wanted, 11);
    }
}
