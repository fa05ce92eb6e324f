//! The batcher's thread: takes chunks, spreads their events over lanes, seals what may go.

use super::lane::{Job, Lanes};
use super::{Chunk, Outcome};
use crate::metrics as names;
use crate::pulse::{BEAT_INTERVAL, Pulse};
use crate::store::Topic;
use crossbeam::queue::ArrayQueue;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;
use tokio::sync::oneshot;
use uuid::Uuid;

/// Chunks that may wait for the batcher.
const QUEUE_MAX: usize = 16_384;
/// Chunks that are taken before what may go is sealed.
const TAKEN_MAX: usize = 4_096;
/// With open lanes the thread looks again after this long, for lingering batches and as a net under wake-ups.
const NAP: Duration = Duration::from_millis(2);

/// The way in.
pub(super) struct Inbox {
    chunks: ArrayQueue<(Arc<Topic>, Chunk, oneshot::Sender<Vec<Outcome>>)>,
    thread: OnceLock<Thread>,
    is_parked: AtomicBool,
    is_stopping: AtomicBool,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        Inbox {
            chunks: ArrayQueue::new(QUEUE_MAX),
            thread: OnceLock::new(),
            is_parked: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
        }
    }

    pub(super) fn wakes(&self, thread: Thread) {
        let _ = self.thread.set(thread);
        self.wake();
    }
    pub(super) fn push(
        &self,
        topic: Arc<Topic>,
        chunk: Chunk,
        done: oneshot::Sender<Vec<Outcome>>,
    ) -> Result<(), Chunk> {
        self.chunks.push((topic, chunk, done)).map_err(|(_, chunk, _)| chunk)?;
        self.wake();
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.chunks.len()
    }

    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Wakes the thread if it sleeps; after a push, and when a batch was answered.
    pub(super) fn wake(&self) {
        // SeqCst on both sides: either the thread sees the push after it set the flag, or this sees the flag.
        if self.is_parked.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    fn sleep(&self, has_open: bool) {
        self.is_parked.store(true, Ordering::SeqCst);
        if self.chunks.is_empty() && !self.is_stopping.load(Ordering::SeqCst) {
            std::thread::park_timeout(if has_open { NAP } else { BEAT_INTERVAL });
        }
        self.is_parked.store(false, Ordering::SeqCst);
    }
}

/// Runs until stopped and empty.
pub(super) fn run(inbox: &Arc<Inbox>, runtime: &tokio::runtime::Handle, pulse: &Pulse) {
    let mut topics: HashMap<Uuid, Lanes> = HashMap::new();
    let queued = metrics::gauge!(names::INGEST_QUEUE_CHUNKS.name);
    loop {
        pulse.beat();
        queued.set(inbox.len() as f64);
        let mut taken = 0;
        while taken < TAKEN_MAX
            && let Some((topic, chunk, done)) = inbox.chunks.pop()
        {
            taken += 1;
            let lanes = topics.entry(topic.id).or_insert_with(|| Lanes::new(topic));
            lanes.add(Job::new(chunk, done));
        }
        let mut has_open = false;
        let mut sealed = 0;
        topics.retain(|_, lanes| {
            sealed += lanes.seal(inbox, runtime);
            has_open |= lanes.has_open();
            !lanes.is_over()
        });
        if taken == 0 && sealed == 0 {
            if inbox.is_stopping.load(Ordering::SeqCst) && !has_open && inbox.len() == 0 {
                return;
            }
            inbox.sleep(has_open);
        }
    }
}
