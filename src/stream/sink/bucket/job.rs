//! Requests to object stores beside the thread that needs them: a small pool for what blocks, and the runtime that the sockets are on.
//! The doors' threads have no part in it: a part of 8 MiB is encrypted here. Two runtimes: the sockets look names up on threads of their
//! own, which jobs that wait for these sockets must not take.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Requests that are under way at a time, of all pipelines. What does not fit waits; each is of one file.
const JOBS_MAX: usize = 16;
/// A sign of life while a request is waited for: each is bounded in time by itself.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// A sign of life of who waits.
pub(in crate::stream) type Beat = Arc<dyn Fn() + Send + Sync>;

/// Names that are looked up at a time.
const NAMES_MAX: usize = 4;

/// Has no thread but those that block.
static JOBS: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_current_thread().max_blocking_threads(JOBS_MAX).thread_name("inrush-objects").build()
});

static SOCKETS: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).max_blocking_threads(NAMES_MAX).thread_name("inrush-sockets").enable_all().build()
});

fn runtime(of: &'static LazyLock<io::Result<Runtime>>) -> io::Result<&'static Runtime> {
    of.as_ref()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start threads for object stores: {error}")))
}

/// A request under way.
pub(in crate::stream) struct Job<T> {
    done: Receiver<std::thread::Result<T>>,
    is_done: Arc<AtomicBool>,
}

impl<T: Send + 'static> Job<T> {
    /// # Errors
    /// The system has no thread to give.
    pub(in crate::stream) fn start(work: impl FnOnce() -> T + Send + 'static) -> io::Result<Job<T>> {
        let (tell, done) = sync_channel(1);
        let is_done = Arc::<AtomicBool>::default();
        let ended = is_done.clone();
        runtime(&JOBS)?.spawn_blocking(move || {
            let given = catch_unwind(AssertUnwindSafe(work));
            // Relaxed: it only says that what the work held is let go.
            ended.store(true, Ordering::Relaxed);
            // Who has asked may be gone.
            let _ = tell.send(given);
        });
        Ok(Job { done, is_done })
    }

    /// Whether it has let go what it worked on.
    pub(in crate::stream) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Relaxed)
    }

    /// What it gave; a panic goes on here.
    ///
    /// # Errors
    /// The process ends.
    pub(in crate::stream) fn join(self, beat: &dyn Fn()) -> io::Result<T> {
        loop {
            match self.done.recv_timeout(BEAT_INTERVAL) {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(panic)) => resume_unwind(panic),
                Err(RecvTimeoutError::Timeout) => beat(),
                Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("the process ends")),
            }
        }
    }
}

/// Runs a future where the sockets are, and waits for it on this thread, whatever that is.
///
/// # Errors
/// The system has no thread to give, or the process ends.
pub(super) fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
    let (tell, done) = sync_channel(1);
    runtime(&SOCKETS)?.spawn(async move {
        let _ = tell.send(future.await);
    });
    done.recv().map_err(|_| io::Error::other("the process ends"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::time::Instant;

    #[test]
    fn requests_look_names_up_while_jobs_have_all_threads() {
        let barrier = Arc::new(Barrier::new(JOBS_MAX));
        let job = || {
            let barrier = barrier.clone();
            Job::start(move || {
                barrier.wait();
                // As a name is looked up: on a thread of the runtime that the request runs on.
                wait(async { tokio::task::spawn_blocking(|| 7).await.unwrap() }).unwrap()
            })
        };
        let jobs: Vec<Job<i32>> = (0..JOBS_MAX).map(|_| job().unwrap()).collect();
        let began = Instant::now();
        for job in jobs {
            let beat = || assert!(began.elapsed() < Duration::from_secs(30), "they wait for one another");
            assert_eq!(job.join(&beat).unwrap(), 7);
        }
    }
}
