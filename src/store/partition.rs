//! [`Partition`]: the handle that doors, batcher and pipelines hold; and what writer, readers and keeper share of one partition.

use super::cleaner::Failed;
use super::core::Core;
use super::writer::{Job, Queue};
use super::{Append, AppendError, Appended, ReadError, TopicConfig};
use crate::clock::Millis;
use crate::log::compact::Cleaned;
use crate::log::{PartitionLog, Segment};
use crate::metrics::TopicMeters;
use crate::record::{Batch, Offset, PartitionId, TopicName};
use arc_swap::ArcSwap;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

/// A partition of a topic. Clones share it; it may outlive its topic, and then answers that it was deleted.
#[derive(Clone)]
pub struct Partition {
    pub(super) core: Arc<Core>,
    pub(super) shared: Arc<Shared>,
}

/// The ticket of a batch that stands in the writer's queue.
#[derive(Debug)]
pub struct Queued {
    answer: oneshot::Receiver<Result<Appended, AppendError>>,
}

impl Queued {
    /// Waits for the round: when it returns, the batch is durable as the topic's class asks.
    ///
    /// # Errors
    /// [`AppendError`]; only `Unknown` leaves open whether the batch will be there after a restart.
    pub async fn stored(self) -> Result<Appended, AppendError> {
        self.answer.await.unwrap_or(Err(AppendError::Unknown("the log writer is gone".to_owned())))
    }
}

/// An idempotent producer that a partition remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    pub id: i64,
    pub epoch: i16,
    /// −1: none of its batches is known.
    pub last_sequence: i32,
    /// When its last batch arrived.
    pub seen_ms: Millis,
}

/// What writer, readers and keeper know of one partition.
pub(super) struct Shared {
    pub(super) topic: TopicName,
    pub(super) topic_id: Uuid,
    pub(super) id: PartitionId,
    pub(super) folder: PathBuf,
    pub(super) config: Arc<ArcSwap<TopicConfig>>,
    pub(super) queue: Arc<Queue>,
    /// Release by who moves it, Acquire by readers: who sees the tail sees the segments and their sizes below it.
    pub(super) tail: AtomicI64,
    pub(super) start: AtomicI64,
    pub(super) tail_moved: watch::Sender<i64>,
    /// Durable in the checkpoint on disk.
    pub(super) checkpointed: AtomicI64,
    pub(super) segments: ArcSwap<Vec<Arc<Segment>>>,
    pub(super) epochs: ArcSwap<Vec<(i32, Offset)>>,
    /// Newest batches, ascending; the tail cache lets the oldest go.
    pub(super) recent: Mutex<VecDeque<Batch>>,
    /// The writer holds it for a round; the keeper takes it between two, and reader threads for a change or a question. Nobody else.
    pub(super) log: Mutex<LogState>,
    pub(super) read_only: Option<String>,
    pub(super) meters: TopicMeters,
    is_deleted: AtomicBool,
}

/// The writer's state.
pub(super) struct LogState {
    pub(super) log: PartitionLog,
    /// Written for `durability = os` and not synced yet.
    pub(super) is_unsynced: bool,
    /// Something a checkpoint holds has changed since the last one.
    pub(super) is_dirty: bool,
    /// The checkpoint on disk says that this partition answers before it syncs. Until it does, it does not.
    pub(super) is_os_recorded: bool,
    /// Segments that left the log and leave the disk after the next checkpoint.
    pub(super) doomed: Vec<Offset>,
    /// How far compaction has come. Only the cleaner changes it.
    pub(super) cleaned: Cleaned,
    /// The cleaner puts a new segment in the place of old ones: until it has, none leaves the log.
    pub(super) is_swapping: bool,
    /// Its last pass failed then: it is left alone for a while.
    pub(super) clean_failed: Option<Failed>,
}

impl Shared {
    #[allow(clippy::too_many_arguments)] // The parts of one record, made in one place.
    pub(super) fn new(
        topic: TopicName,
        topic_id: Uuid,
        id: PartitionId,
        config: Arc<ArcSwap<TopicConfig>>,
        queue: Arc<Queue>,
        log: PartitionLog,
        segments: Vec<Arc<Segment>>,
        start: Offset,
        read_only: Option<String>,
        cleaned: Cleaned,
    ) -> Shared {
        Shared {
            meters: TopicMeters::new(topic.as_str()),
            topic,
            topic_id,
            id,
            folder: log.folder.clone(),
            config,
            queue,
            tail: AtomicI64::new(log.end.0),
            start: AtomicI64::new(start.0),
            tail_moved: watch::Sender::new(log.end.0),
            checkpointed: AtomicI64::new(log.end.0),
            segments: ArcSwap::from_pointee(segments),
            epochs: ArcSwap::from_pointee(log.epochs.clone()),
            recent: Mutex::default(),
            log: Mutex::new(LogState {
                log,
                is_unsynced: false,
                is_dirty: true,
                is_os_recorded: false,
                doomed: Vec::new(),
                cleaned,
                is_swapping: false,
                clean_failed: None,
            }),
            read_only,
            is_deleted: AtomicBool::new(false),
        }
    }

    pub(super) fn log(&self) -> MutexGuard<'_, LogState> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.is_deleted.load(Ordering::Acquire)
    }

    /// Readers that wait come back and find it deleted. A running round ends first: after this, who holds the state and finds the
    /// partition alive may count on its files.
    pub(super) fn delete(&self) {
        let state = self.log();
        self.is_deleted.store(true, Ordering::Release);
        drop(state);
        self.tail_moved.send_modify(|_| ());
    }

    pub(super) fn tail(&self) -> Offset {
        Offset(self.tail.load(Ordering::Acquire))
    }

    pub(super) fn start(&self) -> Offset {
        Offset(self.start.load(Ordering::Acquire))
    }

    /// How old the segment that begins at `base` may become: `segment.ms` less a part of `segment.jitter.ms` that is its own.
    pub(super) fn segment_ms(&self, config: &TopicConfig, base: Offset) -> Millis {
        let jitter_max = config.segment_jitter_ms.min(config.segment_ms - 1);
        if jitter_max <= 0 {
            return config.segment_ms;
        }
        let seed = self.topic_id.as_u128() as u64 ^ (self.id.0 as u64) << 40 ^ base.0 as u64;
        config.segment_ms - fastrand::Rng::with_seed(seed).i64(0..=jitter_max)
    }

    /// Shows readers all below `tail`.
    pub(super) fn move_tail(&self, tail: Offset) {
        self.tail.store(tail.0, Ordering::Release);
        self.tail_moved.send_replace(tail.0);
    }
}

impl Partition {
    pub fn topic(&self) -> &TopicName {
        &self.shared.topic
    }

    /// The topic's settings now.
    pub fn config(&self) -> Arc<TopicConfig> {
        self.shared.config.load_full()
    }

    pub fn topic_id(&self) -> Uuid {
        self.shared.topic_id
    }

    pub fn id(&self) -> PartitionId {
        self.shared.id
    }

    /// First offset that readers may ask for.
    pub fn start(&self) -> Offset {
        self.shared.start()
    }

    /// First offset that readers may not see: Kafka's high watermark.
    pub fn tail(&self) -> Offset {
        self.shared.tail()
    }

    /// What every batch appended since this start carries.
    pub fn leader_epoch(&self) -> i32 {
        self.core.leader_epoch
    }

    /// Bytes of batches on disk.
    pub fn size(&self) -> u64 {
        self.shared.segments.load().iter().map(|segment| segment.size()).sum()
    }

    /// Durable offset in the log's last checkpoint; a pipeline's checkpoint may not pass it (it matters for `durability = os`).
    pub fn checkpointed(&self) -> Offset {
        Offset(self.shared.checkpointed.load(Ordering::Acquire))
    }

    /// Leader epoch of the batch that holds `offset`; −1 if there is none.
    pub fn epoch_at(&self, offset: Offset) -> i32 {
        if offset < self.start() || offset >= self.tail() {
            return -1;
        }
        let epochs = self.shared.epochs.load();
        let after = epochs.partition_point(|(_, begins)| *begins <= offset);
        after.checked_sub(1).map_or(-1, |at| epochs[at].0)
    }

    /// For OffsetForLeaderEpoch (KIP-279): the greatest epoch that is not above `epoch`, and where it ends. `None` if all are above.
    pub fn epoch_end(&self, epoch: i32) -> Option<(i32, Offset)> {
        if epoch >= self.leader_epoch() {
            return (epoch == self.leader_epoch()).then(|| (epoch, self.tail()));
        }
        let epochs = self.shared.epochs.load();
        let after = epochs.partition_point(|(known, _)| *known <= epoch);
        let found = epochs[after.checked_sub(1)?].0;
        Some((found, epochs.get(after).map_or(self.tail(), |(_, begins)| *begins)))
    }

    /// Appends. Waits for room in the writer's queue until `patience` is over, then for the round: when it returns, the batch is durable
    /// as the topic's class asks. Dropping the future does not undo the append.
    ///
    /// # Errors
    /// [`AppendError`]; only `Unknown` leaves open whether the batch will be there after a restart.
    pub async fn append(&self, append: Append, patience: Duration) -> Result<Appended, AppendError> {
        self.enqueue(append, patience).await?.stored().await
    }

    /// The first half of [`Partition::append`]: waits for room in the writer's queue until `patience` is over. When it returns, the batch
    /// stands behind those that this caller queued before, and will be stored whether or not somebody waits for it.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was taken.
    pub async fn enqueue(&self, append: Append, patience: Duration) -> Result<Queued, AppendError> {
        let answer = match self.try_append(append) {
            Ok(answer) => answer,
            Err((append, AppendError::QueueFull)) => {
                let waited = tokio::time::timeout(patience, self.wait_for_room(append)).await;
                waited.map_err(|_| AppendError::QueueFull)??
            }
            Err((_, error)) => return Err(error),
        };
        Ok(Queued { answer })
    }

    /// As [`Partition::append`] for a plain thread; waits for room without a limit.
    ///
    /// # Errors
    /// As there.
    pub fn append_blocking(&self, append: Append) -> Result<Appended, AppendError> {
        let mut append = append;
        let answer = loop {
            match self.try_append(append) {
                Ok(answer) => break answer,
                Err((back, AppendError::QueueFull)) => {
                    append = back;
                    self.shared.queue.wait_for_room_blocking();
                }
                Err((_, error)) => return Err(error),
            }
        };
        answer.blocking_recv().unwrap_or(Err(AppendError::Unknown("the log writer is gone".to_owned())))
    }

    /// Queues the append now, or gives it back. Appends of one caller are stored in the order of their calls.
    ///
    /// # Errors
    /// The append with [`AppendError::QueueFull`], or with what makes it impossible now.
    #[allow(clippy::type_complexity)] // The batch goes back to the caller by value: that is the point.
    pub fn try_append(
        &self,
        append: Append,
    ) -> Result<oneshot::Receiver<Result<Appended, AppendError>>, (Append, AppendError)> {
        if let Err(error) = self.admit(&append) {
            return Err((append, error));
        }
        let (answer, answered) = oneshot::channel();
        match self.shared.queue.push(Job { partition: self.shared.clone(), append, answer }) {
            Ok(()) => Ok(answered),
            Err(job) => Err((job.append, AppendError::QueueFull)),
        }
    }

    /// The idempotent producers of the last 24 hours, by id. Waits for a running round.
    ///
    /// # Errors
    /// [`ReadError::Deleted`]; the log is closing.
    pub async fn producers(&self) -> Result<Vec<ActiveProducer>, ReadError> {
        let this = self.clone();
        let found = self.core.on_reader(move || {
            if this.shared.is_deleted() {
                return Err(ReadError::Deleted);
            }
            let now_ms = this.core.clock.now_ms();
            let state = this.shared.log();
            let active = state.log.producers.active(now_ms).map(|(id, known)| ActiveProducer {
                id,
                epoch: known.epoch,
                last_sequence: known.batches.back().map_or(-1, crate::log::Sent::last_sequence),
                seen_ms: known.seen_ms,
            });
            let mut active: Vec<_> = active.collect();
            drop(state);
            active.sort_unstable_by_key(|producer| producer.id);
            Ok(active)
        });
        found.await.ok_or_else(|| ReadError::Io("the readers are gone".to_owned()))?
    }

    /// Returns when the tail is past `known`, at once if it is already, or when the partition was deleted.
    pub async fn tail_past(&self, known: Offset) {
        let mut moved = self.shared.tail_moved.subscribe();
        // An error means that the sender is gone, which `self` prevents.
        let _ = moved.wait_for(|tail| *tail > known.0 || self.shared.is_deleted()).await;
    }

    async fn wait_for_room(
        &self,
        append: Append,
    ) -> Result<oneshot::Receiver<Result<Appended, AppendError>>, AppendError> {
        let mut append = append;
        loop {
            let room = self.shared.queue.room();
            match self.try_append(append) {
                Ok(answer) => return Ok(answer),
                Err((back, AppendError::QueueFull)) => append = back,
                Err((_, error)) => return Err(error),
            }
            room.await;
        }
    }

    /// What can be judged before the queue.
    fn admit(&self, append: &Append) -> Result<(), AppendError> {
        let shared = &self.shared;
        if shared.is_deleted() {
            return Err(AppendError::NoPartition { topic: shared.topic.clone(), partition: shared.id });
        }
        if let Some(cause) = self.core.poisoned() {
            return Err(AppendError::Refused(cause.to_owned()));
        }
        if let Some(reason) = &shared.read_only {
            return Err(AppendError::Refused(format!("{}/{} is read-only: {reason}", shared.topic, shared.id)));
        }
        // What the daemon keeps itself is small, and consumers must go on where producers have filled the disk.
        if let Some(free) = self.core.low_disk().filter(|_| !shared.topic.is_internal()) {
            return Err(AppendError::LowDisk(format!("{} MiB free", free >> 20)));
        }
        if self.core.is_closing() {
            return Err(AppendError::Closing);
        }
        if append.leader_epoch >= 0 && append.leader_epoch != self.leader_epoch() {
            return Err(AppendError::FencedLeaderEpoch { current: self.leader_epoch(), found: append.leader_epoch });
        }
        let limit = shared.config.load().max_message_bytes;
        if append.batch.size() > limit {
            return Err(AppendError::TooLarge { size: append.batch.size(), limit });
        }
        if !append.batch.is_dense() {
            return Err(AppendError::Invalid("offsets of a batch must be dense".to_owned()));
        }
        Ok(())
    }
}
