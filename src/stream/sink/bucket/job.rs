//! Requests to object stores beside the thread that needs them: a small pool for what blocks, and the runtime that the sockets are on.
//! The doors' threads have no part in it: a part of 8 MiB is encrypted here.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
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

static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).max_blocking_threads(JOBS_MAX).thread_name("inrush-objects").enable_all().build()
});

fn runtime() -> io::Result<&'static Runtime> {
    RUNTIME
        .as_ref()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start threads for object stores: {error}")))
}

/// A request under way.
pub(in crate::stream) struct Job<T> {
    done: Receiver<std::thread::Result<T>>,
}

impl<T: Send + 'static> Job<T> {
    /// # Errors
    /// The system has no thread to give.
    pub(in crate::stream) fn start(work: impl FnOnce() -> T + Send + 'static) -> io::Result<Job<T>> {
        let (tell, done) = sync_channel(1);
        runtime()?.spawn_blocking(move || {
            // Who has asked may be gone.
            let _ = tell.send(catch_unwind(AssertUnwindSafe(work)));
        });
        Ok(Job { done })
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
    runtime()?.spawn(async move {
        let _ = tell.send(future.await);
    });
    done.recv().map_err(|_| io::Error::other("the process ends"))
}
