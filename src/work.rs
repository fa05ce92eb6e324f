//! A bounded pool of threads for CPU work: compression of large batches, decoding, Parquet encoding.
//!
//! Such work never runs on a socket task or on a log writer. It is not for blocking I/O. What a task spends is booked for whom the thread
//! works that offered it ([`Account`]).

mod account;

pub use account::{Account, Enlisted, settle, thread_time};

use crossbeam::channel::{Sender, TrySendError, bounded};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce() + Send>;

/// What a thread has that plans SQL or drops a plan: whoever does calls himself once a level of an expression. Pages that nobody touches are
/// not there.
const STACK_SIZE: usize = 8 << 20;

/// A thread that may plan SQL.
pub fn planning_thread(name: String) -> std::thread::Builder {
    std::thread::Builder::new().name(name).stack_size(STACK_SIZE)
}

/// How many jobs may wait for a thread.
const QUEUE_JOBS_MAX: usize = 256;

/// A huge page is zeroed as a whole by whoever touches it first: a thread that serves a thousand clients stands still for 3 to 10 ms. To be
/// called first in a process; the system's choice stays where it does not know the call.
pub fn without_huge_pages() {
    // SAFETY: it takes numbers only. An older kernel that does not know it goes on as before.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// The pool; dropping it lets the queued jobs finish and joins its threads.
#[derive(Debug)]
pub struct Pool {
    queue: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

/// The pool's queue is full; the job comes back to the caller.
pub struct Full<F>(pub F);

/// A job that whoever comes first runs: a thread of the pool, or the one that waits for its result. So a waiting thread is never idle
/// while its own work lies in the queue, and a pool without threads is right too. Dropped before it began, it is not run.
#[derive(Debug)]
pub struct Task<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    done: Condvar,
    /// Who pays.
    account: Option<Arc<Account>>,
}

enum State<T> {
    Waiting(Box<dyn FnOnce() -> T + Send>),
    Running,
    Done(std::thread::Result<T>),
    Taken,
}

impl<T> std::fmt::Debug for State<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::Waiting(_) => "waiting",
            State::Running => "running",
            State::Done(_) => "done",
            State::Taken => "taken",
        })
    }
}

impl Pool {
    /// Starts `threads` threads named `inrush-NAME-N`.
    ///
    /// # Errors
    /// What the system says when it has no more threads to give.
    pub fn start(threads: usize, name: &str) -> std::io::Result<Pool> {
        let (queue, jobs) = bounded::<Job>(QUEUE_JOBS_MAX);
        let threads = (0..threads.max(1))
            .map(|number| {
                let jobs = jobs.clone();
                std::thread::Builder::new().name(format!("inrush-{name}-{number}")).spawn(move || {
                    for job in jobs {
                        // A panicking job must not take a thread out of the pool: who waits for its answer sees the channel close.
                        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                    }
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Pool { queue: Some(queue), threads })
    }

    /// A pool whose tasks are run by those who wait for them.
    pub fn without_threads() -> Pool {
        Pool { queue: None, threads: Vec::new() }
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Queues `work`, whose result is wanted later. If the queue is full, it is run by who waits for it.
    pub fn offer<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Task<T> {
        let (state, account) = (Mutex::new(State::Waiting(Box::new(work))), Account::of_thread());
        let shared = Arc::new(Shared { state, done: Condvar::new(), account });
        if let Some(queue) = &self.queue {
            let own = shared.clone();
            let _ = queue.try_send(Box::new(move || {
                own.run();
            }));
        }
        Task(shared)
    }

    /// Queues `job`.
    ///
    /// # Errors
    /// [`Full`] with the job, if the queue is full, as that of a pool without threads always is.
    pub fn run<F: FnOnce() + Send + 'static>(&self, job: F) -> Result<(), Full<F>> {
        let Some(queue) = self.queue.as_ref().filter(|queue| !queue.is_full()) else { return Err(Full(job)) };
        // Another thread may fill the queue in between: then this waits for one job, which is bounded by that job's work.
        match queue.try_send(Box::new(job)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(job)) | Err(TrySendError::Disconnected(job)) => {
                let _ = queue.send(job);
                Ok(())
            }
        }
    }
}

impl<T> Task<T> {
    /// Runs the work on this thread, unless another has begun it. Says whether it did.
    pub fn try_run(&self) -> bool {
        self.0.run()
    }

    /// Whether the result is there.
    pub fn is_done(&self) -> bool {
        matches!(*self.0.lock(), State::Done(_))
    }

    /// The result; runs the work on this thread if no other has begun it.
    ///
    /// # Panics
    /// As the work did.
    pub fn join(self) -> T {
        self.0.run();
        let mut state = self.0.lock();
        loop {
            match std::mem::replace(&mut *state, State::Taken) {
                State::Done(Ok(result)) => return result,
                State::Done(Err(panic)) => std::panic::resume_unwind(panic),
                other => {
                    *state = other;
                    state = self.0.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if matches!(*state, State::Waiting(_)) {
            *state = State::Taken;
        }
    }
}

impl<T> Shared<T> {
    /// Runs the work, if nobody has begun it; says whether it did.
    fn run(&self) -> bool {
        let mut state = self.lock();
        if !matches!(*state, State::Waiting(_)) {
            return false;
        }
        let State::Waiting(work) = std::mem::replace(&mut *state, State::Running) else { return false };
        drop(state);
        let enlisted = self.account.as_ref().map(Account::enlist);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // Booked when the result is there.
        drop(enlisted);
        let mut state = self.lock();
        *state = State::Done(result);
        self.done.notify_all();
        true
    }

    /// The state is whole at any time: a panic under the lock cannot leave it half done.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_panics_does_not_take_a_thread_with_it() {
        let pool = Pool::start(1, "work").unwrap();
        let (answer, answers) = bounded(1);
        assert!(pool.run(|| panic!("on purpose")).is_ok());
        assert!(pool.run(move || answer.send(7).unwrap()).is_ok());
        assert_eq!(answers.recv().unwrap(), 7);
    }

    #[test]
    fn a_pool_without_threads_gives_jobs_back() {
        assert!(Pool::without_threads().run(|| ()).is_err());
    }

    #[test]
    fn a_task_is_run_once_by_whoever_comes_first() {
        for pool in [Pool::without_threads(), Pool::start(2, "work").unwrap()] {
            let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let tasks: Vec<Task<usize>> = (0..2 * QUEUE_JOBS_MAX)
                .map(|number| {
                    let count = count.clone();
                    pool.offer(move || {
                        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        number
                    })
                })
                .collect();
            let last = &tasks[tasks.len() - 1];
            last.try_run();
            assert!(!last.try_run(), "it was begun");
            let results: Vec<usize> = tasks.into_iter().map(Task::join).collect();
            assert_eq!(results, (0..2 * QUEUE_JOBS_MAX).collect::<Vec<_>>());
            assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 2 * QUEUE_JOBS_MAX);
        }
    }

    #[test]
    fn a_task_that_panics_panics_its_waiter_and_one_that_is_dropped_does_not_run() {
        let pool = Pool::start(1, "work").unwrap();
        let (begun, begins) = bounded(1);
        let (go, goes) = bounded::<()>(1);
        let first = pool.offer(move || {
            begun.send(()).unwrap();
            goes.recv().unwrap();
        });
        begins.recv().unwrap();
        drop(pool.offer(|| panic!("a dropped task ran")));
        go.send(()).unwrap();
        first.join();
        let panics = pool.offer(|| -> usize { panic!("on purpose") });
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panics.join())).is_err());
    }
}
