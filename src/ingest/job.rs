//! A request while its events are on their way: the batcher's side owes it what became of each of them, the door's side waits for that.

use super::{Indexes, Outcome, Outcomes};
use crate::budget::Lease;
use crate::store::AppendError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// What both sides share.
pub(super) struct Job(Mutex<State>);

struct State {
    /// Events of which nothing is known yet.
    left: usize,
    outcomes: Outcomes,
    waiting: Option<Waker>,
    /// What the door holds of the ingest budget: until the last event is settled.
    lease: Option<Lease>,
}

impl Job {
    /// Both sides of a request of `count` events.
    pub(super) fn begin(lease: Option<Lease>, count: u32) -> (Owed, Submitted) {
        let state = State { left: count as usize, outcomes: Outcomes::new(), waiting: None, lease };
        let job = Arc::new(Job(Mutex::new(state)));
        (Owed { job: job.clone(), events: Indexes::Run(0..count) }, Submitted(job))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what became of some events; the last of them wakes the door.
    fn settle(&self, outcome: Outcome) {
        let mut state = self.state();
        state.left -= outcome.events.len();
        state.outcomes.push(outcome);
        if state.left > 0 {
            return;
        }
        let (waiting, lease) = (state.waiting.take(), state.lease.take());
        drop((state, lease));
        // A client that hung up loses nothing: its events are stored.
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

/// Some events of a request, and the duty to say what became of them. Dropping it says that nobody knows.
pub(super) struct Owed {
    job: Arc<Job>,
    pub(super) events: Indexes,
}

impl Owed {
    /// The same duty in parts, which together are these events.
    pub(super) fn spread(mut self, parts: impl Iterator<Item = Vec<u32>>) -> impl Iterator<Item = Owed> {
        self.events = Indexes::NONE;
        parts.map(move |part| Owed { job: self.job.clone(), events: Indexes::List(part) })
    }

    /// Leaves the first `count` here and returns the others.
    pub(super) fn split_off(&mut self, count: usize) -> Owed {
        Owed { job: self.job.clone(), events: self.events.split_off(count) }
    }

    pub(super) fn settle(mut self, outcome: impl FnOnce(Indexes) -> Outcome) {
        self.job.settle(outcome(std::mem::replace(&mut self.events, Indexes::NONE)));
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if !self.events.is_empty() {
            let gone = || AppendError::Unknown("the batcher is gone".to_owned());
            let events = std::mem::replace(&mut self.events, Indexes::NONE);
            self.job.settle(Outcome { events, result: Err(gone()) });
        }
    }
}

/// A chunk in the batcher's hands. Dropping it does not take the events back.
pub struct Submitted(Arc<Job>);

impl Submitted {
    /// Waits until each event is durable or refused.
    pub async fn outcomes(self) -> Outcomes {
        std::future::poll_fn(|context| {
            let mut state = self.0.state();
            if state.left == 0 {
                return Poll::Ready(std::mem::take(&mut state.outcomes));
            }
            if !state.waiting.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
                state.waiting = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use std::task::Context;

    fn refused(events: Indexes) -> Outcome {
        Outcome { events, result: Err(AppendError::QueueFull) }
    }

    #[tokio::test]
    async fn a_request_waits_for_its_last_event_and_holds_its_bytes_until_then() {
        let budget = Budget::new(100);
        let (mut owed, submitted) = Job::begin(budget.try_take(10), 3);
        let mut outcomes = Box::pin(submitted.outcomes());
        let rest = owed.split_off(2);
        owed.settle(refused);
        assert!(outcomes.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(budget.taken(), 10);
        rest.settle(refused);
        assert_eq!(budget.taken(), 0);
        let events: Vec<Vec<u32>> = outcomes.await.iter().map(|outcome| outcome.events.iter().collect()).collect();
        assert_eq!(events, [vec![0, 1], vec![2]]);
    }

    #[tokio::test]
    async fn of_events_that_nobody_settles_the_door_hears_that_nobody_knows() {
        let (owed, submitted) = Job::begin(None, 3);
        let mut parts = owed.spread([vec![0, 2], vec![1]].into_iter());
        parts.next().unwrap().settle(refused);
        drop(parts.next());
        let outcomes = submitted.outcomes().await;
        assert_eq!(outcomes[0].events, Indexes::List(vec![0, 2]));
        assert_eq!(outcomes[1].events, Indexes::List(vec![1]));
        assert!(matches!(outcomes[1].result, Err(AppendError::Unknown(_))));
    }
}
