//! A bounded pool of threads for CPU work: compression of large batches, decoding, Parquet encoding.
//!
//! Such work never runs on a socket task or on a log writer. It is not for blocking I/O.

use crossbeam::channel::{Sender, TrySendError, bounded};
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce() + Send>;

/// How many jobs may wait for a thread.
const QUEUE_JOBS_MAX: usize = 256;

/// The pool; dropping it lets the queued jobs finish and joins its threads.
#[derive(Debug)]
pub struct Pool {
    queue: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

/// The pool's queue is full; the job comes back to the caller.
pub struct Full<F>(pub F);

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

    /// Queues `job`.
    ///
    /// # Errors
    /// [`Full`] with the job, if the queue is full.
    pub fn run<F: FnOnce() + Send + 'static>(&self, job: F) -> Result<(), Full<F>> {
        let queue = self.queue.as_ref().expect("the queue is taken only by drop");
        if queue.is_full() {
            return Err(Full(job));
        }
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
}
