//! The batcher's thread: takes chunks, spreads their events over lanes, seals what may go.

use super::Chunk;
use super::job::Owed;
use super::lane::Lanes;
use super::seal::Sealer;
use crate::metrics as names;
use crate::pulse::{BEAT_INTERVAL, Pulse};
use crate::store::Topic;
use crossbeam::queue::ArrayQueue;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;
use uuid::Uuid;

/// Chunks that may wait for the batcher.
const QUEUE_MAX: usize = 16_384;
/// Chunks that are taken before what may go is sealed.
const TAKEN_MAX: usize = 4_096;
/// With open lanes the thread looks again after this long, for batches that wait for more and as a net under wake-ups.
const NAP: Duration = Duration::from_micros(500);
/// While batches are on their way, whose answers wake the thread anyway, or wait for a crowd, it is woken for a large chunk, for what the
/// crowd still misses, or for this many: a wake-up for each would cost more than all else that is done for a small event.
const WAKE_AT_MAX: usize = 32;
const LARGE_SIZE: usize = 16 << 10;

/// The way in.
pub(super) struct Inbox {
    chunks: ArrayQueue<(Arc<Topic>, Chunk, Owed)>,
    thread: OnceLock<Thread>,
    is_parked: AtomicBool,
    /// Chunks in the queue that wake the thread.
    wake_at: AtomicUsize,
    /// Counts what lanes learnt from other threads: room for a next batch.
    news: AtomicUsize,
    is_in_hurry: AtomicBool,
    is_stopping: AtomicBool,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        Inbox {
            chunks: ArrayQueue::new(QUEUE_MAX),
            thread: OnceLock::new(),
            is_parked: AtomicBool::new(false),
            wake_at: AtomicUsize::new(1),
            news: AtomicUsize::new(0),
            is_in_hurry: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
        }
    }

    pub(super) fn wakes(&self, thread: Thread) {
        let _ = self.thread.set(thread);
        self.wake();
    }

    pub(super) fn push(&self, topic: Arc<Topic>, chunk: Chunk, owed: Owed) -> Result<(), Chunk> {
        let is_large = chunk.body.len() >= LARGE_SIZE;
        self.chunks.push((topic, chunk, owed)).map_err(|(_, chunk, _)| chunk)?;
        if is_large || self.chunks.len() >= self.wake_at.load(Ordering::SeqCst) {
            self.wake();
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.chunks.len()
    }

    pub(super) fn hurry(&self) {
        self.is_in_hurry.store(true, Ordering::SeqCst);
    }

    pub(super) fn stop(&self) {
        self.hurry();
        self.is_stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// A lane has room again: tells the thread, which may be on its way to sleep.
    pub(super) fn tell(&self) {
        self.news.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    /// Wakes the thread if it sleeps.
    fn wake(&self) {
        // SeqCst on both sides: either the thread sees the push after it set the flag, or this sees the flag.
        if self.is_parked.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Until so many chunks wait, or a large one, or there are other news than what the thread knew when it last looked at its lanes.
    fn sleep(&self, news: usize, wake_at: usize, nap: Duration) {
        self.wake_at.store(wake_at, Ordering::SeqCst);
        self.is_parked.store(true, Ordering::SeqCst);
        let is_new = self.chunks.len() >= wake_at || self.news.load(Ordering::SeqCst) != news;
        if !is_new {
            let is_stopping = self.is_stopping.load(Ordering::SeqCst);
            std::thread::park_timeout(if is_stopping { NAP } else { nap });
        }
        self.is_parked.store(false, Ordering::SeqCst);
    }
}

/// Runs until stopped and empty.
pub(super) fn run(inbox: &Inbox, sealer: &Sealer, pulse: &Pulse) {
    let mut topics: HashMap<Uuid, Lanes> = HashMap::new();
    let queued = metrics::gauge!(names::INGEST_QUEUE_CHUNKS.name);
    loop {
        pulse.beat();
        queued.set(inbox.len() as f64);
        let mut taken = 0;
        while taken < TAKEN_MAX
            && let Some((topic, chunk, owed)) = inbox.chunks.pop()
        {
            taken += 1;
            let lanes = topics.entry(topic.id).or_insert_with(|| Lanes::new(topic));
            lanes.add(chunk, owed);
        }
        let news = inbox.news.load(Ordering::SeqCst);
        let is_in_hurry = inbox.is_in_hurry.load(Ordering::SeqCst);
        let (mut has_open, mut is_waiting, mut missing) = (false, false, WAKE_AT_MAX);
        let mut sealed = 0;
        topics.retain(|_, lanes| {
            sealed += lanes.seal(sealer, is_in_hurry);
            has_open |= lanes.has_open();
            missing = missing.min(lanes.missing().unwrap_or(WAKE_AT_MAX));
            is_waiting |= lanes.is_waiting();
            !lanes.is_over()
        });
        if taken == 0 && sealed == 0 {
            if inbox.is_stopping.load(Ordering::SeqCst) && !has_open && inbox.len() == 0 {
                return;
            }
            if has_open || is_waiting {
                inbox.sleep(news, missing, NAP);
            } else {
                inbox.sleep(news, 1, BEAT_INTERVAL);
            }
        }
    }
}
