//! A bounded number of bytes that many tasks share: whoever holds memory holds a [`Lease`] for it.
//!
//! Used by the doors (bytes of requests in flight). It counts; it allocates nothing itself.
//!
//! Many requests that each hold a part of their bytes and wait for the rest would wait for each other for ever. So the last bytes
//! (the *reserve*) go to one lease at a time, the oldest that waits: it comes to its end and gives everything back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// The last bytes of a budget, for one lease at a time; at most a quarter of it.
const RESERVE_BYTES: usize = 8 << 20;
/// No lease is this old.
const NOBODY: u64 = 0;

/// A budget of bytes; clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    pool: Arc<Pool>,
    /// What this one is a share of: bytes are taken from both.
    above: Option<Arc<Budget>>,
}

/// Bytes taken out of a [`Budget`]; they go back when it is dropped.
#[derive(Debug)]
pub struct Lease {
    pool: Arc<Pool>,
    bytes: usize,
    /// Ascending; the oldest that waits is served first.
    age: u64,
    above: Option<Box<Lease>>,
}

/// The budget had no room for that many bytes within the time given.
#[derive(Debug, thiserror::Error)]
#[error("cannot reserve {wanted} bytes: {taken} of {limit} are taken")]
pub struct NoRoom {
    pub wanted: usize,
    pub taken: usize,
    pub limit: usize,
}

#[derive(Debug)]
struct Pool {
    limit: usize,
    reserve: usize,
    taken: AtomicUsize,
    /// Length of the queue, to be seen without its lock.
    waiting: AtomicUsize,
    /// Age of the lease that may use the reserve, or [`NOBODY`]. Changed under the queue's lock.
    holder: AtomicU64,
    ages: AtomicU64,
    queue: Mutex<BTreeMap<u64, Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    bytes: usize,
    granted: oneshot::Sender<()>,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Budget {
        Budget { pool: Pool::new(limit, RESERVE_BYTES.min(limit / 4)), above: None }
    }

    /// A part of at most `limit` bytes: what is taken from it is taken from this budget too.
    pub fn share(&self, limit: usize) -> Budget {
        Budget { pool: Pool::new(limit, 0), above: Some(Arc::new(self.clone())) }
    }

    pub fn limit(&self) -> usize {
        self.pool.limit
    }

    /// Bytes not taken now.
    pub fn free(&self) -> usize {
        self.pool.limit.saturating_sub(self.taken())
    }

    /// Bytes that are taken now.
    pub fn taken(&self) -> usize {
        self.pool.taken.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, waiting at most `patience` for others to give theirs back.
    ///
    /// # Errors
    /// [`NoRoom`] if that took too long, or at once if `bytes` exceeds the whole budget.
    pub async fn take(&self, bytes: usize, patience: Duration) -> Result<Lease, NoRoom> {
        let mut lease = self.lease();
        lease.grow(bytes, patience).await?;
        Ok(lease)
    }

    /// Takes `bytes` now or not at all; for code that cannot wait.
    pub fn try_take(&self, bytes: usize) -> Option<Lease> {
        let mut lease = self.lease();
        lease.try_grow(bytes).then_some(lease)
    }

    /// A lease of nothing yet; its place in the queue is that of now.
    fn lease(&self) -> Lease {
        let age = self.pool.ages.fetch_add(1, Ordering::Relaxed);
        let above = self.above.as_ref().map(|above| Box::new(above.lease()));
        Lease { pool: self.pool.clone(), bytes: 0, age, above }
    }
}

impl Lease {
    /// How many bytes this lease stands for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes `bytes` more, in the queue at the age of the lease.
    ///
    /// # Errors
    /// [`NoRoom`] as [`Budget::take`]; the lease keeps what it had.
    pub async fn grow(&mut self, bytes: usize, patience: Duration) -> Result<(), NoRoom> {
        if !self.pool.try_take(bytes) {
            if bytes > self.pool.limit {
                return Err(self.pool.no_room(bytes));
            }
            Waiting::wait(&self.pool, self.age, bytes, patience).await?;
        }
        // From here on a drop gives them back, also if the future is dropped while it waits above.
        self.bytes += bytes;
        if let Some(above) = &mut self.above
            && let Err(full) = Box::pin(above.grow(bytes, patience)).await
        {
            self.shrink_own(bytes);
            return Err(full);
        }
        Ok(())
    }

    /// Takes `bytes` more now or not at all; for code that cannot wait. Whether it did.
    pub fn try_grow(&mut self, bytes: usize) -> bool {
        if !self.pool.try_take(bytes) && !self.pool.try_take_reserve(bytes, self.age) {
            return false;
        }
        if self.above.as_mut().is_some_and(|above| !above.try_grow(bytes)) {
            self.pool.give_back(bytes, NOBODY);
            return false;
        }
        self.bytes += bytes;
        true
    }

    /// Gives back what exceeds `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.shrink_own(self.bytes.saturating_sub(bytes));
        if let Some(above) = &mut self.above {
            above.shrink_to(bytes);
        }
    }

    fn shrink_own(&mut self, by: usize) {
        self.bytes -= by;
        if by > 0 {
            self.pool.give_back(by, NOBODY);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.give_back(self.bytes, self.age);
    }
}

impl Pool {
    fn new(limit: usize, reserve: usize) -> Arc<Pool> {
        Arc::new(Pool {
            limit,
            reserve,
            taken: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            holder: AtomicU64::new(NOBODY),
            ages: AtomicU64::new(NOBODY + 1),
            queue: Mutex::default(),
        })
    }

    fn queue(&self) -> MutexGuard<'_, BTreeMap<u64, Waiter>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn no_room(&self, wanted: usize) -> NoRoom {
        NoRoom { wanted, taken: self.taken.load(Ordering::Relaxed), limit: self.limit }
    }

    /// Without a lock, while nobody waits and the reserve is not touched.
    fn try_take(&self, bytes: usize) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0 && self.take_below(bytes, self.limit - self.reserve)
    }

    fn try_take_reserve(&self, bytes: usize, age: u64) -> bool {
        let _queue = self.queue();
        self.holder.load(Ordering::Relaxed) == age && self.take_below(bytes, self.limit)
    }

    fn take_below(&self, bytes: usize, limit: usize) -> bool {
        let more = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= limit);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::Relaxed, more).is_ok()
    }

    /// `gone` is the age of a lease that ends with it.
    fn give_back(&self, bytes: usize, gone: u64) {
        // SeqCst here and where a waiter queues: either this sees the waiter, or the waiter's own look sees the bytes.
        self.taken.fetch_sub(bytes, Ordering::SeqCst);
        let is_holder = gone != NOBODY && self.holder.load(Ordering::SeqCst) == gone;
        if is_holder || self.waiting.load(Ordering::SeqCst) > 0 {
            let mut queue = self.queue();
            if is_holder {
                self.holder.store(NOBODY, Ordering::SeqCst);
            }
            self.serve(&mut queue);
        }
    }

    /// Grants what can be granted: who holds the reserve first, then by age, until one must wait on.
    fn serve(&self, queue: &mut BTreeMap<u64, Waiter>) {
        loop {
            let holder = self.holder.load(Ordering::SeqCst);
            let next = queue.get_key_value(&holder).or_else(|| queue.first_key_value());
            let Some((&age, waiter)) = next else { return };
            let may_use_reserve = holder == NOBODY || holder == age;
            if !self.take_below(waiter.bytes, self.limit - self.reserve) {
                if !may_use_reserve || !self.take_below(waiter.bytes, self.limit) {
                    return;
                }
                self.holder.store(age, Ordering::SeqCst);
            }
            if let Some(waiter) = queue.remove(&age) {
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                // Who waits takes itself out of the queue under the lock before its receiver goes: this is always received.
                let _ = waiter.granted.send(());
            }
        }
    }
}

/// A place in the queue; left when it is dropped.
struct Waiting<'a> {
    pool: &'a Pool,
    age: u64,
    bytes: usize,
    granted: oneshot::Receiver<()>,
    is_taken: bool,
}

impl Waiting<'_> {
    async fn wait(pool: &Pool, age: u64, bytes: usize, patience: Duration) -> Result<(), NoRoom> {
        let (grant, granted) = oneshot::channel();
        let mut waiting = Waiting { pool, age, bytes, granted, is_taken: false };
        {
            let mut queue = pool.queue();
            queue.insert(age, Waiter { bytes, granted: grant });
            pool.waiting.fetch_add(1, Ordering::SeqCst);
            pool.serve(&mut queue);
        }
        waiting.is_taken = matches!(tokio::time::timeout(patience, &mut waiting.granted).await, Ok(Ok(())));
        if waiting.is_taken { Ok(()) } else { Err(pool.no_room(bytes)) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_taken {
            return;
        }
        let mut queue = self.pool.queue();
        if queue.remove(&self.age).is_some() {
            self.pool.waiting.fetch_sub(1, Ordering::SeqCst);
            // Whoever stood behind may fit.
            return self.pool.serve(&mut queue);
        }
        // Granted in the moment in which it gave up.
        drop(queue);
        self.pool.give_back(self.bytes, NOBODY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;
    const EVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn bytes_go_back_when_the_lease_is_dropped_or_shrinks() {
        let budget = Budget::new(100);
        let mut lease = budget.take(60, NOW).await.unwrap();
        assert!(budget.take(60, NOW).await.is_err());
        lease.shrink_to(10);
        assert_eq!((budget.taken(), lease.bytes()), (10, 10));
        drop(lease);
        assert_eq!(budget.taken(), 0);
    }

    #[tokio::test]
    async fn more_than_the_whole_budget_is_refused_at_once() {
        let refused = Budget::new(10).take(11, EVER).await.unwrap_err();
        assert_eq!(refused.wanted, 11);
    }

    #[tokio::test]
    async fn the_oldest_that_waits_gets_the_reserve_and_comes_to_its_end() {
        let budget = Budget::new(100);
        let mut old = budget.take(37, NOW).await.unwrap();
        let mut young = budget.take(37, NOW).await.unwrap();
        // 74 of 75 are taken: each wants more, and without the reserve neither would ever get it.
        {
            let both = async { tokio::join!(young.grow(10, EVER), old.grow(10, EVER)) };
            // The young one asked first and has the reserve; the old one waits for it to end.
            assert!(tokio::time::timeout(NOW, both).await.is_err());
        }
        assert_eq!(budget.taken(), 84);
        assert_eq!((old.bytes(), young.bytes()), (37, 47));
        assert!(!old.try_grow(10));
        assert!(young.try_grow(10));
        drop(young);
        old.grow(60, NOW).await.unwrap();
        assert_eq!(budget.taken(), 97);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_queue_to_those_behind() {
        let budget = Budget::new(100);
        let _held = budget.take(70, NOW).await.unwrap();
        let mut large = budget.lease();
        assert!(large.grow(40, NOW).await.is_err());
        assert_eq!(budget.taken(), 70);
        let small = budget.take(5, NOW).await.unwrap();
        assert_eq!((budget.taken(), small.bytes()), (75, 5));
    }

    #[tokio::test]
    async fn a_share_is_bounded_by_itself_and_by_the_whole() {
        let whole = Budget::new(100);
        let share = whole.share(50);
        let lease = share.take(40, NOW).await.unwrap();
        assert_eq!((share.taken(), whole.taken()), (40, 40));
        assert!(share.take(20, NOW).await.is_err());
        let others = whole.take(35, NOW).await.unwrap();
        assert!(share.take(10, NOW).await.is_ok(), "the reserve is for one that waits");
        drop((lease, others));
        assert_eq!((share.taken(), whole.taken()), (0, 0));
    }
}
