//! [`Core`]: what all parts of a running store share. Each part changes only its own fields.

use super::catalog::{CatalogFile, Meta};
use super::checkpoints::Checkpoints;
use super::partition::Shared;
use super::tail_cache::TailCache;
use super::writer::Queue;
use super::{Health, Options, Topic};
use crate::clock::Clock;
use crate::disk::{Allocate, Disk, is_full, passes};
use crate::log::{Segment, SpaceOrder};
use crate::work::Pool;
use arc_swap::ArcSwap;
use crossbeam::queue::ArrayQueue;
use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tracing::{error, warn};
use uuid::Uuid;

/// A full disk must still take a catalog and a checkpoint: this file goes then.
const RESERVE: &str = "reserve";
const RESERVE_SIZE: u64 = 16 << 20;
/// Sealed segments that may wait for their index file; more get it from their first reader.
pub(super) const UNINDEXED_MAX: usize = 1_024;
/// Orders for space that may wait; a round whose order was dropped makes its own.
pub(super) const SPACE_ORDERS_MAX: usize = 1_024;
/// Reads that may wait for a reader thread; more wait in their tasks.
const READS_WAITING_MAX: usize = 128;

/// Topics by name and id, as one snapshot.
#[derive(Default)]
pub(super) struct Topics {
    pub(super) by_name: HashMap<crate::record::TopicName, Arc<Topic>>,
    pub(super) by_id: HashMap<Uuid, Arc<Topic>>,
}

pub(super) struct Core {
    pub(super) options: Options,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Clock,
    pub(super) cluster_id: Uuid,
    /// This start's: higher than every earlier one's.
    pub(super) leader_epoch: i32,
    pub(super) topics: ArcSwap<Topics>,
    /// Held while topics change; the file and the snapshot change together.
    pub(super) catalog: Mutex<CatalogFile>,
    /// Changed only by who holds the catalog.
    pub(super) meta: Mutex<Meta>,
    pub(super) checkpoints: Mutex<Checkpoints>,
    /// Segments that were just sealed: the keeper writes their index files.
    pub(super) unindexed: ArrayQueue<Arc<Segment>>,
    /// A partition that the keeper hands to the cleaner, who wakes for it.
    pub(super) to_clean: ArrayQueue<Arc<Shared>>,
    pub(super) cleaner: OnceLock<std::thread::Thread>,
    pub(super) is_cleaning: AtomicBool,
    /// Bytes appended since the last checkpoint began.
    pub(super) uncheckpointed_bytes: AtomicU64,
    pub(super) writers: Vec<Arc<Queue>>,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
    pub(super) readers: Pool,
    pub(super) read_places: Semaphore,
    pub(super) cache: TailCache,
    /// The first cause; set once.
    pub(super) poison: OnceLock<String>,
    /// Free bytes while under the limit, else `u64::MAX`.
    pub(super) low_disk: AtomicU64,
    pub(super) is_closing: AtomicBool,
    /// Wakes the keeper before its time.
    pub(super) keeper: OnceLock<std::thread::Thread>,
    /// Space to be made ahead of the writers, and who makes it.
    pub(super) space_orders: ArrayQueue<SpaceOrder>,
    pub(super) space: OnceLock<std::thread::Thread>,
    /// When each writer's running round began, in ms since `started`; −1 between rounds.
    pub(super) rounds_since: Vec<AtomicI64>,
    pub(super) started: Instant,
    /// Falls when the store is closed, though handles on its partitions may live on.
    pub(super) lock: Mutex<Option<Box<dyn Any + Send + Sync>>>,
}

impl Core {
    pub(super) fn read_place_count() -> usize {
        READS_WAITING_MAX
    }

    /// The data folder takes no writes from now on; the first cause is kept.
    pub(super) fn poison(&self, cause: String) {
        if self.poison.set(cause.clone()).is_ok() {
            error!(%cause, "the data folder takes no more writes: restart when the disk is well");
            metrics::gauge!(crate::metrics::STORE_POISONED.name).set(1.0);
        }
    }

    /// A write beside the rounds failed: poison, unless that passes.
    pub(super) fn poison_unless_passing(&self, what: &str, error: &io::Error) {
        if !passes(error) {
            self.poison(format!("{what} failed: {error}"));
        }
    }

    pub(super) fn poisoned(&self) -> Option<&str> {
        self.poison.get().map(String::as_str)
    }

    pub(super) fn set_low_disk(&self, free: Option<u64>) {
        self.low_disk.store(free.unwrap_or(u64::MAX), Ordering::Relaxed);
        metrics::gauge!(crate::metrics::STORE_LOW_DISK.name).set(f64::from(u8::from(free.is_some())));
    }

    pub(super) fn low_disk(&self) -> Option<u64> {
        Some(self.low_disk.load(Ordering::Relaxed)).filter(|free| *free != u64::MAX)
    }

    pub(super) fn is_closing(&self) -> bool {
        // Acquire pairs with the Release in `Store::close`.
        self.is_closing.load(Ordering::Acquire)
    }

    pub(super) fn catalog(&self) -> MutexGuard<'_, CatalogFile> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a write of catalog, checkpoint or meta file. On a full disk the reserve goes, and it is tried once more.
    pub(super) fn with_reserve<T>(&self, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match write() {
            Err(error) if is_full(&error) && self.give_up_reserve() => write(),
            done => done,
        }
    }

    fn give_up_reserve(&self) -> bool {
        let path = self.options.data.join(RESERVE);
        let is_gone = self.disk.exists(&path) && self.disk.remove_file(&path).is_ok();
        if is_gone {
            warn!("the disk is full: the reserve was given up for catalog and checkpoint");
        }
        is_gone
    }

    /// Makes the reserve if it is not there. Best effort, the log works without.
    pub(super) fn keep_reserve(&self) {
        let path = self.options.data.join(RESERVE);
        if self.disk.exists(&path) {
            return;
        }
        let made = self.disk.create(&path).and_then(|file| file.allocate(0, RESERVE_SIZE, Allocate::Unwritten));
        if let Err(error) = made {
            warn!(%error, "no room could be reserved for catalog and checkpoints");
            let _ = self.disk.remove_file(&path);
        }
    }

    /// The queue of the writer that owns this partition.
    pub(super) fn writer_of(&self, topic: Uuid, partition: i32) -> Arc<Queue> {
        let spread = topic.as_u128() as usize ^ partition as usize;
        self.writers[spread % self.writers.len()].clone()
    }

    /// All partitions of all topics.
    pub(super) fn partitions(&self) -> Vec<Arc<Shared>> {
        self.topics.load().by_name.values().flat_map(|topic| topic.shared()).collect()
    }

    pub(super) fn health(&self) -> Health {
        let now_ms = self.started.elapsed().as_millis() as i64;
        let waits = self.rounds_since.iter().map(|since| since.load(Ordering::Relaxed)).filter(|since| *since >= 0);
        let longest = waits.map(|since| now_ms - since).max().unwrap_or(0);
        let read_only = self
            .partitions()
            .into_iter()
            .filter_map(|partition| Some((partition.topic.clone(), partition.id, partition.read_only.clone()?)));
        Health {
            poisoned: self.poisoned().map(str::to_owned),
            low_disk: self.low_disk(),
            writer_waits: Duration::from_millis(longest.max(0) as u64),
            read_only: read_only.collect(),
        }
    }
}
