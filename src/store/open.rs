//! Opening and closing a data folder:
//!
//! | path | what |
//! |---|---|
//! | `lock` | held by the process that runs the folder |
//! | `inrush.meta` | format, cluster id, node id, leader epoch of the last start |
//! | `catalog` | topics with ids and settings, producer ids |
//! | `checkpoint` | where each partition was durable |
//! | `topics/NAME/ID/N/` | segments of partition N |
//! | `lost+found/` | what recoveries cut off |
//! | `reserve` | room that is kept for catalog and checkpoint on a full disk |

use super::catalog::{self, Catalog, FORMAT, Meta, TopicRecord};
use super::core::{Core, Topics};
use super::keeper;
use super::partition::{Partition, Shared};
use super::tail_cache::TailCache;
use super::topic::Topic;
use super::writer::{self, Queue};
use super::{Error, Health, Options, Store, TopicConfig};
use crate::clock::Clock;
use crate::disk::{Allocate, Disk};
use crate::log::{Checkpoint, Known, PartitionCheckpoint, recover};
use crate::metrics as names;
use crate::record::{PartitionId, TopicName};
use crate::work::Pool;
use arc_swap::ArcSwap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{info, warn};
use uuid::Uuid;

pub(super) const META: &str = "inrush.meta";
pub(super) const CATALOG: &str = "catalog";
pub(super) const CHECKPOINT: &str = "checkpoint";
const LOCK: &str = "lock";
const TOPICS: &str = "topics";
const LOST_AND_FOUND: &str = "lost+found";
const RESERVE: &str = "reserve";
/// Room kept for catalog and checkpoints.
const RESERVE_SIZE: u64 = 16 << 20;
/// The checkpoint file is not larger: 10,000 partitions with a thousand producers each.
const CHECKPOINT_SIZE_MAX: u64 = 2 << 30;

impl Store {
    /// Opens a data folder: locks it, recovers each partition, starts the threads. Blocks; it takes appends when it returns.
    ///
    /// # Errors
    /// [`Error`]: it is locked, of a newer format, damaged in its small files, or the disk failed.
    pub fn open(options: Options, disk: Arc<dyn Disk>, clock: Clock) -> Result<Store, Error> {
        let began = Instant::now();
        let data = options.data.clone();
        let io = |what: &'static str| {
            let path = data.clone();
            move |source: io::Error| Error::Io { what, path, source }
        };
        disk.create_folder(&data.join(TOPICS)).map_err(io("make the folders of"))?;
        let lock = disk.lock(&data.join(LOCK)).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Error::Locked(data.clone()),
            _ => io("lock")(error),
        })?;
        let meta = begin_epoch(disk.as_ref(), &data)?;
        let mut catalog: Catalog = catalog::load(disk.as_ref(), &data.join(CATALOG))?.unwrap_or_default();
        catalog.producer_id_next = catalog.producer_id_limit;
        let checkpoint = load_checkpoint(disk.as_ref(), &data);
        keep_reserve(disk.as_ref(), &data);
        let writers: Vec<_> = (0..options.writers.max(1)).map(|_| Arc::new(Queue::new())).collect();
        let core = Arc::new(Core {
            readers: Pool::start(options.reader_threads.max(1), "read").map_err(io("start threads for"))?,
            read_places: tokio::sync::Semaphore::new(Core::read_place_count()),
            cache: TailCache::new(options.tail_cache_bytes),
            rounds_since: writers.iter().map(|_| AtomicI64::new(-1)).collect(),
            topics: ArcSwap::from_pointee(Topics::default()),
            catalog: Mutex::new(catalog.clone()),
            threads: Mutex::default(),
            cluster_id: meta.cluster_id,
            leader_epoch: meta.leader_epoch,
            writers,
            disk,
            clock,
            options,
            poison: std::sync::OnceLock::new(),
            low_disk: AtomicU64::new(u64::MAX),
            is_closing: AtomicBool::new(false),
            keeper: std::sync::OnceLock::new(),
            started: began,
            lock: Mutex::new(Some(lock)),
        });
        // Told from the start, so that an alert on them has something to look at.
        core.set_low_disk(None);
        metrics::gauge!(names::STORE_POISONED.name).set(0.0);
        open_topics(&core, &catalog, &checkpoint).map_err(io("open the topics of"))?;
        start_threads(&core).map_err(io("start threads for"))?;
        metrics::gauge!(names::STORE_RECOVERY_SECONDS.name).set(began.elapsed().as_secs_f64());
        Ok(Store { core })
    }

    pub fn cluster_id(&self) -> Uuid {
        self.core.cluster_id
    }

    /// What `/readyz` and the doors ask.
    pub fn health(&self) -> Health {
        self.core.health()
    }

    /// The clock that the log runs on.
    pub fn clock(&self) -> &Clock {
        &self.core.clock
    }

    /// Takes no more appends, writes what is queued, cuts and syncs the active segments, writes a clean checkpoint, joins the threads.
    ///
    /// # Errors
    /// [`Error::Close`] if the deadline passed or the folder is poisoned: the next start then recovers as after a crash.
    pub async fn close(&self, deadline: Duration) -> Result<(), Error> {
        let core = self.core.clone();
        let closed = tokio::task::spawn_blocking(move || close(&core));
        match tokio::time::timeout(deadline, closed).await {
            Ok(Ok(done)) => done,
            Ok(Err(panicked)) => Err(Error::Close(panicked.to_string())),
            Err(_) => Err(Error::Close(format!("the log was not closed within {} s", deadline.as_secs()))),
        }
    }
}

fn close(core: &Arc<Core>) -> Result<(), Error> {
    if core.is_closing.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    for queue in &core.writers {
        queue.stop();
    }
    if let Some(keeper) = core.keeper.get() {
        keeper.unpark();
    }
    for thread in core.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let _ = thread.join();
    }
    if let Some(cause) = core.poisoned() {
        return Err(Error::Close(cause.to_owned()));
    }
    for partition in core.partitions() {
        if partition.read_only.is_none() {
            let cut = partition.log().log.cut(core.disk.as_ref());
            cut.map_err(|error| Error::Close(format!("{}/{}: {error}", partition.topic, partition.id)))?;
        }
    }
    keeper::save(core, &mut Checkpoint::default(), true).map_err(|error| Error::Close(error.to_string()))?;
    core.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    info!("the log is closed");
    Ok(())
}

/// Reads the folder's meta file, or makes one, and writes down that another epoch begins.
fn begin_epoch(disk: &dyn Disk, data: &Path) -> Result<Meta, Error> {
    let path = data.join(META);
    let mut meta = match catalog::load::<Meta>(disk, &path)? {
        Some(meta) if meta.format > FORMAT => {
            return Err(Error::Format { path: data.to_owned(), found: meta.format, known: FORMAT });
        }
        Some(meta) => meta,
        None => Meta { format: FORMAT, cluster_id: Uuid::new_v4(), node_id: 1, leader_epoch: -1 },
    };
    meta.leader_epoch += 1;
    catalog::save(disk, &path, &meta).map_err(|source| Error::Io { what: "write", path, source })?;
    Ok(meta)
}

fn load_checkpoint(disk: &dyn Disk, data: &Path) -> Checkpoint {
    match disk.read_whole(&data.join(CHECKPOINT), CHECKPOINT_SIZE_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Checkpoint::default(),
        Err(error) => {
            warn!(%error, "the checkpoint cannot be read, every segment is scanned");
            Checkpoint::default()
        }
        Ok(bytes) => Checkpoint::decode(&bytes).unwrap_or_else(|reason| {
            warn!(%reason, "the checkpoint is damaged, every segment is scanned");
            Checkpoint::default()
        }),
    }
}

/// A full disk must still take a catalog and a checkpoint: somebody deletes this file then. Best effort, the log works without.
fn keep_reserve(disk: &dyn Disk, data: &Path) {
    let path = data.join(RESERVE);
    if !disk.exists(&path)
        && let Err(error) = disk.create(&path).and_then(|file| file.allocate(0, RESERVE_SIZE, Allocate::Unwritten))
    {
        warn!(%error, "no room could be reserved for catalog and checkpoints");
    }
}

/// Opens all partitions of the catalog, on several threads: recovery reads what came after the checkpoint.
fn open_topics(core: &Arc<Core>, catalog: &Catalog, checkpoint: &Checkpoint) -> io::Result<()> {
    let opened: Mutex<Vec<Arc<Topic>>> = Mutex::default();
    let failed: Mutex<Option<io::Error>> = Mutex::default();
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(record) = catalog.topics.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let topic = TopicName::new(&record.name).map_err(io::Error::other).and_then(|name| {
                        let config = TopicConfig::parse(&record.config).map_err(io::Error::other)?;
                        topic(core, record, name, config, Some(checkpoint))
                    });
                    match topic {
                        Ok(topic) => opened.lock().unwrap_or_else(PoisonError::into_inner).push(topic),
                        Err(error) => drop(failed.lock().unwrap_or_else(PoisonError::into_inner).insert(error)),
                    }
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut topics = Topics::default();
    for topic in opened.into_inner().unwrap_or_else(PoisonError::into_inner) {
        topics.by_name.insert(topic.name.clone(), topic.clone());
        topics.by_id.insert(topic.id, topic);
    }
    info!(topics = topics.by_name.len(), epoch = core.leader_epoch, "log opened");
    core.topics.store(Arc::new(topics));
    Ok(())
}

/// Opens (or makes) the partitions of a topic.
pub(super) fn topic(
    core: &Arc<Core>,
    record: &TopicRecord,
    name: TopicName,
    config: TopicConfig,
    checkpoint: Option<&Checkpoint>,
) -> io::Result<Arc<Topic>> {
    let config = Arc::new(ArcSwap::from_pointee(config));
    let mut partitions = Vec::with_capacity(record.partitions as usize);
    for id in 0..record.partitions {
        let known = checkpoint.and_then(|checkpoint| checkpoint.partitions.get(&(record.id, id)));
        partitions.push(partition(core, &name, record.id, PartitionId(id), config.clone(), known)?);
    }
    Ok(Arc::new(Topic {
        id: record.id,
        name,
        partitions: ArcSwap::from_pointee(partitions),
        config,
        overrides: ArcSwap::from_pointee(record.config.clone()),
        is_deleted: AtomicBool::new(false),
    }))
}

/// Recovers (or makes) one partition.
pub(super) fn partition(
    core: &Arc<Core>,
    topic: &TopicName,
    topic_id: Uuid,
    id: PartitionId,
    config: Arc<ArcSwap<TopicConfig>>,
    checkpoint: Option<&PartitionCheckpoint>,
) -> io::Result<Partition> {
    let data = &core.options.data;
    // The id stands in the path: a topic that is made again under its old name never meets the old one's files.
    let folder = data.join(TOPICS).join(topic.as_str()).join(topic_id.to_string()).join(id.to_string());
    core.disk.create_folder(&folder)?;
    let name = format!("{topic}-{id}");
    let known = Known {
        checkpoint,
        leader_epoch: core.leader_epoch,
        lost_and_found: &data.join(LOST_AND_FOUND),
        name: &name,
        now_ms: core.clock.now_ms(),
    };
    let found = recover(core.disk.as_ref(), &folder, &known)?;
    if found.cut_bytes > 0 {
        warn!(partition = %name, bytes = found.cut_bytes, end = found.log.end.0, "the end was damaged and cut; it is kept in lost+found");
    }
    if let Some(reason) = &found.read_only {
        warn!(partition = %name, %reason, "the partition is read-only");
    }
    metrics::gauge!(names::STORE_RECOVERY_SCANNED_BYTES.name).increment(found.scanned_bytes as f64);
    metrics::gauge!(names::STORE_RECOVERY_CUT_BYTES.name).increment(found.cut_bytes as f64);
    let queue = core.writer_of(topic_id, id.0);
    let shared = Shared::new(
        topic.clone(),
        topic_id,
        id,
        config,
        queue,
        found.log,
        found.segments,
        found.start,
        found.read_only,
    );
    Ok(Partition { core: core.clone(), shared: Arc::new(shared) })
}

/// Renames a partition's folder, so that a crash leaves no half of it, and removes it.
pub(super) fn remove_folder(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    let dead = folder.with_extension("deleted");
    disk.rename(folder, &dead)?;
    if let Some(parent) = folder.parent() {
        disk.sync_folder(parent)?;
    }
    disk.remove_folder(&dead)
}

fn start_threads(core: &Arc<Core>) -> io::Result<()> {
    let mut threads = Vec::new();
    let (ready, readiness) = crossbeam::channel::bounded(core.writers.len());
    for number in 0..core.writers.len() {
        let (core, ready) = (core.clone(), ready.clone());
        let thread = std::thread::Builder::new().name(format!("inrush-writer-{number}"));
        threads.push(thread.spawn(move || writer::run(&core, number, &ready))?);
    }
    for _ in 0..core.writers.len() {
        readiness.recv().map_err(io::Error::other)??;
    }
    let keeper = core.clone();
    let thread = std::thread::Builder::new().name("inrush-keeper".to_owned()).spawn(move || keeper::run(&keeper))?;
    let _ = core.keeper.set(thread.thread().clone());
    threads.push(thread);
    *core.threads.lock().unwrap_or_else(PoisonError::into_inner) = threads;
    Ok(())
}
