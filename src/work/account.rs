//! CPU time by who it is spent for: that of the threads that are enlisted, and of what they offered to a [`super::Pool`], on whichever
//! thread it ran.
//!
//! It is what the threads' own clocks say (`CLOCK_THREAD_CPUTIME_ID`): who waits spends nothing. It is not what a thread spends that
//! nobody enlisted; who reads the sum and what comes of it is the caller's business. What is not booked yet can be looked up from any
//! thread ([`Account::spent_by_now`]): so long work can be told from a wait.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What was spent for somebody.
#[derive(Debug, Default)]
pub struct Account {
    spent_ns: AtomicU64,
    /// Who works for it now.
    workers: Mutex<Vec<Worker>>,
}

/// A thread at work.
#[derive(Debug)]
struct Worker {
    clock: libc::clockid_t,
    /// What its clock said when that was last booked.
    known: Duration,
}

/// For whom this thread works, and what its clock said when that was last booked.
type Post = Option<(Arc<Account>, Duration)>;

thread_local! {
    static POST: RefCell<Post> = const { RefCell::new(None) };
}

/// As long as it is there, what this thread spends is booked for one account; then again for the one before. It stays on its thread.
#[derive(Debug)]
#[must_use]
pub struct Enlisted {
    before: Post,
    stays: PhantomData<*const ()>,
}

impl Account {
    /// CPU time, as far as it is booked: of enlisted threads up to their last [`settle`], of jobs when they end.
    pub fn spent(&self) -> Duration {
        // Relaxed: a count.
        Duration::from_nanos(self.spent_ns.load(Ordering::Relaxed))
    }

    /// CPU time with what those who work for it now have not booked yet. One call to the system for each of them.
    pub fn spent_by_now(&self) -> Duration {
        let workers = self.workers();
        let unbooked = |worker: &Worker| time_of(worker.clock).saturating_sub(worker.known);
        self.spent() + workers.iter().map(unbooked).sum::<Duration>()
    }

    /// This thread works for it from here on.
    pub fn enlist(self: &Arc<Account>) -> Enlisted {
        settle();
        let now = thread_time();
        let before = POST.replace(Some((self.clone(), now)));
        if let Some((other, _)) = &before {
            other.leave();
        }
        self.come(now);
        Enlisted { before, stays: PhantomData }
    }

    /// This thread is one of its workers.
    fn come(&self, known: Duration) {
        self.workers().push(Worker { clock: own_clock(), known });
    }

    /// This thread is no worker of it any more.
    fn leave(&self) {
        let clock = own_clock();
        self.workers().retain(|worker| worker.clock != clock);
    }

    fn book(&self, spent: Duration, now: Duration) {
        let clock = own_clock();
        let mut workers = self.workers();
        self.spent_ns.fetch_add(spent.as_nanos() as u64, Ordering::Relaxed);
        workers.iter_mut().filter(|worker| worker.clock == clock).for_each(|worker| worker.known = now);
    }

    fn workers(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For whom this thread works.
    pub(super) fn of_thread() -> Option<Arc<Account>> {
        POST.with_borrow(|post| post.as_ref().map(|(account, _)| account.clone()))
    }
}

/// Books what this thread has spent since it last did. One call to the system, 0.3 µs.
pub fn settle() {
    POST.with_borrow_mut(|post| {
        let Some((account, known)) = post else { return };
        let now = thread_time();
        let spent = now.saturating_sub(std::mem::replace(known, now));
        account.book(spent, now);
    });
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        settle();
        // What was spent since then was spent for the other.
        let now = thread_time();
        let before = self.before.take().map(|(account, _)| account);
        if let Some((account, _)) = POST.replace(before.clone().map(|account| (account, now))) {
            account.leave();
        }
        if let Some(account) = before {
            account.come(now);
        }
    }
}

/// CPU time of this thread; none where the system does not tell.
pub fn thread_time() -> Duration {
    time_of(libc::CLOCK_THREAD_CPUTIME_ID)
}

thread_local! {
    static OWN_CLOCK: libc::clockid_t = {
        let mut clock = libc::CLOCK_THREAD_CPUTIME_ID;
        // SAFETY: the call writes into `clock`, which is this function's own; the thread that is asked for is the one that asks.
        unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) };
        clock
    };
}

/// This thread's clock as any thread can read it, as long as this one is there.
fn own_clock() -> libc::clockid_t {
    OWN_CLOCK.with(|clock| *clock)
}

fn time_of(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes into `time`, which is this function's own, and keeps nothing of it. A clock that is gone is an error.
    match unsafe { libc::clock_gettime(clock, &mut time) } {
        0 => Duration::new(time.tv_sec as u64, time.tv_nsec as u32),
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pool;
    use super::*;

    const WORK: Duration = Duration::from_millis(20);

    /// Works until this thread's clock has moved by [`WORK`].
    fn work() {
        let began = thread_time();
        while thread_time() - began < WORK {
            std::hint::black_box((0..1_000u64).sum::<u64>());
        }
    }

    #[test]
    fn what_a_thread_spends_is_booked_for_whom_it_works_and_waiting_costs_nothing() {
        let (first, second): (Arc<Account>, Arc<Account>) = Default::default();
        work();
        let of_first = first.enlist();
        work();
        let of_second = second.enlist();
        work();
        work();
        drop(of_second);
        std::thread::park_timeout(WORK * 5);
        drop(of_first);
        work();
        assert!(first.spent() >= WORK && first.spent() < WORK * 2, "{first:?}");
        assert!(second.spent() >= WORK * 2 && second.spent() < WORK * 3, "{second:?}");
    }

    #[test]
    fn what_is_not_booked_yet_can_be_seen_from_another_thread() {
        let account: Arc<Account> = Arc::default();
        let pool = Pool::start(1, "work").unwrap();
        let (worked, works) = std::sync::mpsc::channel();
        let (go, goes) = std::sync::mpsc::channel::<()>();
        let of_thread = account.enlist();
        let task = pool.offer(move || {
            work();
            worked.send(()).unwrap();
            goes.recv().unwrap();
        });
        works.recv().unwrap();
        assert_eq!(account.workers().len(), 2);
        assert!(account.spent() < WORK && account.spent_by_now() >= WORK, "{account:?}");
        go.send(()).unwrap();
        task.join();
        drop(of_thread);
        assert!(account.spent() >= WORK && account.spent_by_now() == account.spent(), "{account:?}");
    }

    #[test]
    fn jobs_are_booked_once_for_who_offered_them_on_whichever_thread_they_run() {
        let account: Arc<Account> = Arc::default();
        for pool in [Pool::without_threads(), Pool::start(2, "work").unwrap()] {
            let before = account.spent();
            let of_thread = account.enlist();
            let tasks: Vec<_> = (0..4).map(|_| pool.offer(work)).collect();
            tasks.into_iter().for_each(|task| task.join());
            drop(of_thread);
            pool.offer(work).join();
            let spent = account.spent() - before;
            assert!(spent >= WORK * 4 && spent < WORK * 5, "{spent:?} on {} threads", pool.threads());
        }
    }

    #[test]
    fn a_job_that_panics_is_booked_and_leaves_its_thread_to_nobody() {
        let account: Arc<Account> = Arc::default();
        let pool = Pool::start(1, "work").unwrap();
        let of_thread = account.enlist();
        let task = pool.offer(|| {
            work();
            panic!("on purpose");
        });
        while !task.is_done() {
            std::thread::yield_now();
        }
        drop(of_thread);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task.join())).is_err());
        let spent = account.spent();
        assert!(spent >= WORK, "{spent:?}");
        pool.offer(work).join();
        assert_eq!(account.spent(), spent);
    }
}
