//! From a filled builder to the log: compression (here, or on a pool if it is large), the append, and the answers.

use super::Outcome;
use super::batcher::Inbox;
use super::job::Owed;
use crate::metrics as names;
use crate::record::{BatchBuilder, Codec};
use crate::store::{Append, AppendError, Appended, Partition};
use crate::work::Pool;
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Batches of one partition between seal and answer, at most.
const IN_FLIGHT_MAX: usize = 6;
/// With nothing on the way a batch goes at once, be it one event. With one on the way the next must have this size or be half of a crowd,
/// with each more twice that size: what is behind the disk is compressed while it waits, and a round takes all of it. Two of any size,
/// sealed as soon as there was room, made the one behind the disk small and let everything else wait for two rounds: 2.5 times the disk's
/// time instead of 1.5.
const BEHIND_SIZE: usize = 128 << 10;
/// Batches up to this size are compressed on the batcher's own thread: handing them over would cost more. On one core all are.
const INLINE_SIZE_MAX: usize = 64 << 10;
/// Threads for larger ones, at most.
const COMPRESSORS_MAX: usize = 4;
/// How long a batch waits for room in the writer's queue.
const PATIENCE: Duration = Duration::from_millis(500);
/// Buffers that are kept for the next batches, and the largest that is.
const SPARE_BUFFERS_MAX: usize = 8;
const SPARE_SIZE_MAX: usize = 2 << 20;

/// How many batches of one partition are on their way. One at a time is compressed or waits for room in the writer's queue, which keeps
/// their order.
#[derive(Default)]
pub(super) struct InFlight {
    count: AtomicUsize,
    requests: AtomicUsize,
    is_held: AtomicBool,
}

impl InFlight {
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Requests with events in these batches.
    pub(super) fn requests(&self) -> usize {
        // Relaxed: an estimate.
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether another batch may be sealed if it has `size` bytes, or is half of a crowd.
    pub(super) fn has_room(&self, size: usize, is_crowd: bool) -> bool {
        // Acquire pairs with the Releases of the guards below: who sees room sees what the earlier batch queued.
        if self.is_held.load(Ordering::Acquire) {
            return false;
        }
        match self.count.load(Ordering::Acquire) {
            0 => true,
            1 if is_crowd => true,
            count => count < IN_FLIGHT_MAX && size >= BEHIND_SIZE << (count - 1),
        }
    }
}

/// One batch's part of [`InFlight`]; also a panic gives it back.
struct Flight {
    of: Arc<InFlight>,
    requests: usize,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.of.requests.fetch_sub(self.requests, Ordering::Relaxed);
        self.of.count.fetch_sub(1, Ordering::Release);
    }
}

/// While it lives no other batch of the partition is sealed.
struct Hold {
    in_flight: Arc<InFlight>,
    inbox: Arc<Inbox>,
}

impl Hold {
    /// Only before another batch may be sealed: on the batcher's thread, or while there is one.
    fn new(in_flight: &Arc<InFlight>, inbox: &Arc<Inbox>) -> Hold {
        in_flight.is_held.store(true, Ordering::Relaxed);
        Hold { in_flight: in_flight.clone(), inbox: inbox.clone() }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.in_flight.is_held.store(false, Ordering::Release);
        self.inbox.tell();
    }
}

/// A batch that takes no more events.
pub(super) struct Sealed {
    pub(super) builder: BatchBuilder,
    pub(super) is_compressible: bool,
    pub(super) members: Vec<Owed>,
    pub(super) partition: Partition,
}

/// What sealed batches go through. The batcher owns it; dropping it finishes what its pool holds.
pub(super) struct Sealer {
    line: Arc<Line>,
    pool: Pool,
    inline_max: usize,
}

/// What the batcher and the pool's threads share.
struct Line {
    inbox: Arc<Inbox>,
    runtime: tokio::runtime::Handle,
    spares: ArrayQueue<Vec<u8>>,
    batch_bytes: metrics::Histogram,
    raw_bytes: metrics::Counter,
    stored_bytes: metrics::Counter,
}

impl Sealer {
    pub(super) fn start(inbox: Arc<Inbox>, runtime: tokio::runtime::Handle) -> std::io::Result<Sealer> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let line = Line {
            inbox,
            runtime,
            spares: ArrayQueue::new(SPARE_BUFFERS_MAX),
            batch_bytes: metrics::histogram!(names::INGEST_BATCH_BYTES.name),
            raw_bytes: metrics::counter!(names::INGEST_RAW_BYTES.name),
            stored_bytes: metrics::counter!(names::INGEST_STORED_BYTES.name),
        };
        let inline_max = if cores == 1 { usize::MAX } else { INLINE_SIZE_MAX };
        Ok(Sealer { line: Arc::new(line), pool: Pool::start(cores.min(COMPRESSORS_MAX), "compress")?, inline_max })
    }

    /// An empty builder in memory that an earlier one left.
    pub(super) fn builder(&self) -> BatchBuilder {
        BatchBuilder::reusing(self.line.spares.pop().unwrap_or_default())
    }

    /// Compresses and appends. Only while `in_flight` has room.
    pub(super) fn send(&self, sealed: Sealed, in_flight: &Arc<InFlight>) {
        // Relaxed: only the batcher adds, and it is the one that looks.
        in_flight.count.fetch_add(1, Ordering::Relaxed);
        let requests = sealed.members.len();
        in_flight.requests.fetch_add(requests, Ordering::Relaxed);
        let flight = Flight { of: in_flight.clone(), requests };
        if sealed.builder.size() <= self.inline_max || !sealed.is_compressible {
            return self.line.append(sealed, flight, None);
        }
        let hold = Hold::new(in_flight, &self.line.inbox);
        let line = self.line.clone();
        let job = move || line.append(sealed, flight, Some(hold));
        if let Err(full) = self.pool.run(job) {
            (full.0)();
        }
    }
}

impl Line {
    fn append(&self, sealed: Sealed, flight: Flight, hold: Option<Hold>) {
        let Sealed { builder, is_compressible, members, partition } = sealed;
        let raw = builder.size();
        let config = partition.config();
        let codec = if is_compressible { config.own_codec() } else { Codec::None };
        let built = builder.build_reclaiming(codec).and_then(|(batch, spare)| Ok((config.in_codec(batch)?, spare)));
        let batch = match built {
            Ok((batch, spare)) => {
                if let Some(spare) = spare.filter(|spare| spare.capacity() <= SPARE_SIZE_MAX) {
                    // One too many is freed.
                    let _ = self.spares.push(spare);
                }
                batch
            }
            Err(error) => return settle(&partition, members, Err(AppendError::Invalid(error.to_string()))),
        };
        self.batch_bytes.record(raw as f64);
        self.raw_bytes.increment(raw as u64);
        self.stored_bytes.increment(batch.size() as u64);
        // Queued here and not in the task, so that batches of a partition keep their order.
        let queued = partition.try_append(Append { batch, lease: None, leader_epoch: -1 });
        let hold = match &queued {
            Err((_, AppendError::QueueFull)) => hold.or_else(|| Some(Hold::new(&flight.of, &self.inbox))),
            _ => None,
        };
        let inbox = self.inbox.clone();
        self.runtime.spawn(async move {
            let result = match queued {
                Ok(answer) => answer.await.unwrap_or(Err(AppendError::Unknown("the log writer is gone".to_owned()))),
                Err((append, AppendError::QueueFull)) => match partition.enqueue(append, PATIENCE).await {
                    Ok(queued) => {
                        drop(hold);
                        queued.stored().await
                    }
                    Err(error) => Err(error),
                },
                Err((_, error)) => Err(error),
            };
            // First the batcher, then the clients: the next batch is built while these are answered.
            drop(flight);
            inbox.tell();
            settle(&partition, members, result);
        });
    }
}

fn settle(partition: &Partition, members: Vec<Owed>, result: Result<Appended, AppendError>) {
    let result = result.map(|appended| (partition.id(), appended));
    for owed in members {
        owed.settle(|events| Outcome { events, result: result.clone() });
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::Job;
    use super::super::tests::{store, topic};
    use super::*;
    use crate::disk::sim::Sim;
    use crate::record::NewRecord;

    fn builder() -> BatchBuilder {
        let mut builder = BatchBuilder::new();
        builder.push(NewRecord { timestamp: 1, key: None, value: Some(b"v"), headers: &[] });
        builder
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_batch_that_waits_for_the_writers_queue_is_not_overtaken() {
        let sim = Sim::new(1);
        let store = store(sim.disk());
        let topic = topic(&store, 1).await;
        let partition = topic.partitions()[0].clone();
        let sealer = Sealer::start(Arc::new(Inbox::new()), tokio::runtime::Handle::current()).unwrap();
        let in_flight = Arc::<InFlight>::default();
        let (owed, submitted) = Job::begin(None, 1);
        {
            let _hold = sim.hold();
            let filler = || Append { batch: builder().build(Codec::None).unwrap(), lease: None, leader_epoch: -1 };
            // The writer takes one round more before it hangs.
            let mut left = 3;
            while left > 0 {
                if partition.try_append(filler()).is_err() {
                    left -= 1;
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            let members = vec![owed];
            let sealed = Sealed { builder: builder(), is_compressible: false, members, partition: partition.clone() };
            sealer.send(sealed, &in_flight);
            assert!(!in_flight.has_room(1 << 20, true));
        }
        assert!(submitted.outcomes().await[0].result.is_ok());
        assert!(in_flight.has_room(0, false));
        store.close(Duration::from_secs(5)).await.unwrap();
    }
}
