//! Opening and closing a data folder:
//!
//! | path | what |
//! |---|---|
//! | `lock` | held by the process that runs the folder |
//! | `inrush.meta` | format, cluster id, node id, leader epoch of the last start, largest round |
//! | `catalog` | topics with ids and settings, producer ids, quotas |
//! | `checkpoint` | where each partition was durable |
//! | `topics/NAME/ID/N/` | segments of partition N, and how far their compaction has come |
//! | `lost+found/` | what recoveries cut off |
//! | `reserve` | room that is kept for catalog and checkpoint on a full disk |

use super::catalog::{self, Catalog, CatalogFile, FORMAT, FORMAT_OLDEST, Meta, TopicRecord};
use super::checkpoints::{self, Checkpoints};
use super::core::{Core, Topics};
use super::partition::{Partition, Shared};
use super::tail_cache::TailCache;
use super::topic::Topic;
use super::writer::{self, Queue};
use super::{Error, Health, Options, Store, TopicConfig};
use super::{cleaner, keeper, space};
use crate::clock::Clock;
use crate::disk::{Disk, Space};
use crate::log::{Checkpoint, Known, PartitionCheckpoint, ROUND_SIZE_MAX, SyncedBy, recover};
use crate::metrics as names;
use crate::record::{PartitionId, TopicName};
use crate::work::Pool;
use arc_swap::ArcSwap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{info, warn};
use uuid::Uuid;

pub(super) const META: &str = "inrush.meta";
pub(super) const CATALOG: &str = "catalog";
pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const LOCK: &str = "lock";
pub(super) const TOPICS: &str = "topics";
pub(super) const LOST_AND_FOUND: &str = "lost+found";
/// The checkpoint file is not larger: 10,000 partitions with a thousand producers each, and what was appended to that.
const CHECKPOINT_FILE_MAX: u64 = 2 << 30;

impl Store {
    /// Opens a data folder: locks it, recovers each partition, starts the threads. Blocks; it takes appends when it returns.
    ///
    /// # Errors
    /// [`Error`]: it is locked, of a newer format, damaged in its small files, or the disk failed.
    pub fn open(options: Options, disk: Arc<dyn Disk>, clock: Clock) -> Result<Store, Error> {
        let began = Instant::now();
        // A counter that appears with its first event hides that event from `increase`.
        let from_the_start = [
            names::STORE_DAMAGED_READS,
            names::STORE_COMPACTION_RUNS,
            names::STORE_COMPACTION_FAILURES,
            names::STORE_COMPACTION_READ_BYTES,
            names::STORE_COMPACTION_WRITTEN_BYTES,
        ];
        from_the_start.iter().for_each(|metric| metrics::counter!(metric.name).increment(0));
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
        let catalog = Catalog::load(disk.as_ref(), &data.join(CATALOG))?;
        remove_deleted(disk.as_ref(), &data, &catalog.deleted).map_err(io("remove deleted topics from"))?;
        let catalog = Catalog { deleted: Vec::new(), ..catalog };
        let catalog_file = CatalogFile::begin(disk.as_ref(), &data.join(CATALOG), catalog.clone());
        let checkpoint = load_checkpoint(disk.as_ref(), &data);
        let writers: Vec<_> = (0..options.writers.max(1)).map(|_| Arc::new(Queue::new())).collect();
        let core = Arc::new(Core {
            readers: Pool::start(options.reader_threads.max(1), "read").map_err(io("start threads for"))?,
            read_places: tokio::sync::Semaphore::new(Core::read_place_count()),
            cache: TailCache::new(options.tail_cache_bytes),
            rounds_since: writers.iter().map(|_| AtomicI64::new(-1)).collect(),
            topics: ArcSwap::from_pointee(Topics::default()),
            catalog: Mutex::new(catalog_file.map_err(io("write the catalog of"))?),
            checkpoints: Mutex::new(Checkpoints::new(data.join(CHECKPOINT), checkpoint.clone())),
            uncheckpointed_bytes: AtomicU64::new(0),
            to_clean: crossbeam::queue::ArrayQueue::new(1),
            cleaner: std::sync::OnceLock::new(),
            is_cleaning: AtomicBool::new(false),
            unindexed: crossbeam::queue::ArrayQueue::new(super::core::UNINDEXED_MAX),
            threads: Mutex::default(),
            cluster_id: meta.cluster_id,
            leader_epoch: meta.leader_epoch,
            meta: Mutex::new(meta),
            writers,
            disk,
            clock,
            options,
            poison: std::sync::OnceLock::new(),
            low_disk: AtomicU64::new(u64::MAX),
            is_closing: AtomicBool::new(false),
            keeper: std::sync::OnceLock::new(),
            space: std::sync::OnceLock::new(),
            space_orders: crossbeam::queue::ArrayQueue::new(super::core::SPACE_ORDERS_MAX),
            started: began,
            lock: Mutex::new(Some(lock)),
        });
        // Told from the start, so that an alert on them has something to look at.
        core.set_low_disk(None);
        metrics::gauge!(names::STORE_POISONED.name).set(0.0);
        core.keep_reserve();
        keeper::look_at_space(&core);
        open_topics(&core, &catalog, &checkpoint).map_err(io("open the topics of"))?;
        start_threads(&core).map_err(io("start threads for"))?;
        metrics::gauge!(names::STORE_RECOVERY_SECONDS.name).set(began.elapsed().as_secs_f64());
        Ok(Store { core })
    }

    pub fn cluster_id(&self) -> Uuid {
        self.core.cluster_id
    }

    /// Where the log lies.
    pub fn folder(&self) -> &Path {
        &self.core.options.data
    }

    /// Room on the file system of the log.
    ///
    /// # Errors
    /// The system's; the log is closing.
    pub async fn space(&self) -> io::Result<Space> {
        let core = self.core.clone();
        let space = self.core.on_reader(move || core.disk.space(&core.options.data));
        space.await.ok_or_else(|| io::Error::other("the readers are gone"))?
    }

    /// This start's: higher than every earlier one's.
    pub fn leader_epoch(&self) -> i32 {
        self.core.leader_epoch
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
    join_threads(core);
    let saved = save(core);
    // Partitions hold the core, and the core holds its topics: somebody has to let go.
    core.topics.store(Arc::new(Topics::default()));
    saved?;
    info!("the log is closed");
    Ok(())
}

/// Cuts every file to its batches and writes the last checkpoint; a poisoned log is left as it is.
fn save(core: &Arc<Core>) -> Result<(), Error> {
    if let Some(cause) = core.poisoned() {
        return Err(Error::Close(cause.to_owned()));
    }
    // One that nobody wrote to since it was opened is cut and synced already.
    let is_open = |partition: &Arc<Shared>| {
        let state = partition.log();
        partition.read_only.is_none() && (state.is_unsynced || !state.log.is_cut())
    };
    let open: Vec<_> = core.partitions().into_iter().filter(is_open).collect();
    let sync_all = core.disk.sync_all(open.len());
    for partition in &open {
        let mut state = partition.log();
        // Writes that were answered before their sync: only the file itself tells for sure that one of them failed.
        let is_single = sync_all.is_none() || state.is_unsynced;
        let disk = core.disk.as_ref();
        let cut = if is_single { state.log.cut(disk) } else { state.log.cut_unsynced(disk) };
        cut.map_err(|error| Error::Close(format!("{}/{}: {error}", partition.topic, partition.id)))?;
        state.is_unsynced = false;
    }
    if let Some(sync) = sync_all {
        sync().map_err(|error| Error::Close(format!("cannot sync the log: {error}")))?;
    }
    checkpoints::save(core, true).map_err(|error| Error::Close(error.to_string()))?;
    core.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(())
}

/// Lets the writers end what is queued and waits for all threads.
pub(super) fn join_threads(core: &Core) {
    for queue in &core.writers {
        queue.stop();
    }
    for thread in [core.keeper.get(), core.space.get(), core.cleaner.get()].into_iter().flatten() {
        thread.unpark();
    }
    for thread in core.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let _ = thread.join();
    }
}

/// Reads the folder's meta file, or makes one, and writes down that another epoch begins.
fn begin_epoch(disk: &dyn Disk, data: &Path) -> Result<Meta, Error> {
    let path = data.join(META);
    let mut meta = load_meta(disk, data)?.unwrap_or_else(|| Meta {
        format: FORMAT_OLDEST,
        cluster_id: Uuid::new_v4(),
        node_id: 1,
        leader_epoch: -1,
        round_bytes_max: ROUND_SIZE_MAX as u64,
    });
    meta.leader_epoch += 1;
    catalog::save_meta(disk, &path, &meta).map_err(|source| Error::Io { what: "write", path, source })?;
    Ok(meta)
}

/// The meta file of a folder, whose format is ours; `None` if there is none.
pub(super) fn load_meta(disk: &dyn Disk, data: &Path) -> Result<Option<Meta>, Error> {
    let meta = catalog::load_meta(disk, &data.join(META))?;
    match &meta {
        Some(Meta { format, .. }) if *format > FORMAT => {
            Err(Error::Format { path: data.to_owned(), found: *format, known: FORMAT })
        }
        Some(Meta { format, .. }) if *format < FORMAT_OLDEST => {
            Err(Error::OldFormat { path: data.to_owned(), found: *format, known: FORMAT_OLDEST })
        }
        _ => Ok(meta),
    }
}

pub(super) fn load_checkpoint(disk: &dyn Disk, data: &Path) -> Checkpoint {
    match disk.read_whole(&data.join(CHECKPOINT), CHECKPOINT_FILE_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Checkpoint::default(),
        Err(error) => {
            warn!(%error, "the checkpoint cannot be read, every segment is scanned");
            Checkpoint::default()
        }
        Ok(bytes) => {
            let decoded = Checkpoint::decode(&bytes);
            if let Some(reason) = decoded.damage {
                warn!(%reason, passes = decoded.passes, "the checkpoint is damaged, its passes before that are used");
            }
            decoded.checkpoint
        }
    }
}

/// A process that ended while it deleted a topic has left its files: the catalog still names it then.
fn remove_deleted(disk: &dyn Disk, data: &Path, deleted: &[Uuid]) -> io::Result<()> {
    if deleted.is_empty() {
        return Ok(());
    }
    let deleted: Vec<String> = deleted.iter().map(Uuid::to_string).collect();
    for name in disk.list(&data.join(TOPICS))? {
        for folder in disk.list(&name)? {
            let id = folder.file_stem().and_then(|id| id.to_str()).unwrap_or_default().to_owned();
            if deleted.contains(&id) {
                info!(folder = %folder.display(), "files of a deleted topic are removed");
                disk.remove_folder(&folder)?;
            }
        }
    }
    Ok(())
}

/// Threads that open partitions: recovery waits for the disk, so more than there are cores.
const OPENERS_MAX: usize = 16;

/// A sync of all waits for what others have written too. It is worth so many syncs of single files, which the threads share. (Tests have
/// few partitions.)
const SINGLE_SYNCS: usize = if cfg!(test) { 1 } else { 100 };

/// Opens all partitions of the catalog, on several threads: recovery reads what came after the checkpoint.
fn open_topics(core: &Arc<Core>, catalog: &Catalog, checkpoint: &Checkpoint) -> io::Result<()> {
    let mut topics = Vec::with_capacity(catalog.topics.len());
    for record in &catalog.topics {
        let name = TopicName::new(&record.name).map_err(io::Error::other)?;
        let config = TopicConfig::parse(&record.config).map_err(io::Error::other)?;
        topics.push((record, name, Arc::new(ArcSwap::from_pointee(config))));
    }
    let all: Vec<(usize, i32)> = topics
        .iter()
        .enumerate()
        .flat_map(|(at, (record, ..))| (0..record.partitions).map(move |id| (at, id)))
        .collect();
    let opened: Mutex<Vec<Vec<(i32, Partition)>>> = Mutex::new(vec![Vec::new(); topics.len()]);
    let failed: Mutex<Option<io::Error>> = Mutex::default();
    let next = AtomicU64::new(0);
    let is_clean = |(at, id): &&(usize, i32)| {
        checkpoint.partitions.get(&(topics[*at].0.id, *id)).is_some_and(|checkpoint| checkpoint.clean)
    };
    // After a crash all files are made durable as they are found, then as they are left: of very many by a call each.
    let unclean = all.len() - all.iter().filter(is_clean).count();
    let sync_all = core.disk.sync_all(unclean / SINGLE_SYNCS);
    let synced_by = if sync_all.is_some() { SyncedBy::Caller } else { SyncedBy::Recovery };
    sync_all.iter().try_for_each(|sync| sync())?;
    std::thread::scope(|scope| {
        for _ in 0..OPENERS_MAX.min(all.len()) {
            scope.spawn(|| {
                while let Some((at, id)) = all.get(next.fetch_add(1, Ordering::Relaxed) as usize).copied() {
                    let (record, name, config) = &topics[at];
                    let known = checkpoint.partitions.get(&(record.id, id));
                    match partition(core, name, record.id, PartitionId(id), config.clone(), known, synced_by) {
                        Ok(one) => opened.lock().unwrap_or_else(PoisonError::into_inner)[at].push((id, one)),
                        Err(error) => drop(failed.lock().unwrap_or_else(PoisonError::into_inner).insert(error)),
                    }
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    sync_all.iter().try_for_each(|sync| sync())?;
    let mut snapshot = Topics::default();
    let opened = opened.into_inner().unwrap_or_else(PoisonError::into_inner);
    for ((record, name, config), mut partitions) in topics.into_iter().zip(opened) {
        partitions.sort_by_key(|(id, _)| *id);
        let topic = Arc::new(Topic {
            id: record.id,
            name: name.clone(),
            partitions: ArcSwap::from_pointee(partitions.into_iter().map(|(_, one)| one).collect()),
            config,
            overrides: ArcSwap::from_pointee(record.config.clone()),
            is_deleted: AtomicBool::new(false),
        });
        snapshot.by_id.insert(topic.id, topic.clone());
        snapshot.by_name.insert(name, topic);
    }
    info!(topics = snapshot.by_name.len(), partitions = all.len(), epoch = core.leader_epoch, "log opened");
    core.topics.store(Arc::new(snapshot));
    Ok(())
}

/// Makes the partitions of a new topic.
pub(super) fn topic(
    core: &Arc<Core>,
    record: &TopicRecord,
    name: TopicName,
    config: TopicConfig,
) -> io::Result<Arc<Topic>> {
    let config = Arc::new(ArcSwap::from_pointee(config));
    let partitions = new_partitions(core, &name, record.id, 0..record.partitions, &config)?;
    Ok(Arc::new(Topic {
        id: record.id,
        name,
        partitions: ArcSwap::from_pointee(partitions),
        config,
        overrides: ArcSwap::from_pointee(record.config.clone()),
        is_deleted: AtomicBool::new(false),
    }))
}

/// Makes partitions that no catalog names yet; durable when it returns.
pub(super) fn new_partitions(
    core: &Arc<Core>,
    topic: &TopicName,
    topic_id: Uuid,
    ids: std::ops::Range<i32>,
    config: &Arc<ArcSwap<TopicConfig>>,
) -> io::Result<Vec<Partition>> {
    let sync_all = core.disk.sync_all(ids.len());
    let synced_by = if sync_all.is_some() { SyncedBy::Caller } else { SyncedBy::Recovery };
    core.disk.create_folder(&topic_folder(core, topic, topic_id))?;
    let make = |id| partition(core, topic, topic_id, PartitionId(id), config.clone(), None, synced_by);
    let partitions = ids.map(make).collect::<io::Result<Vec<_>>>()?;
    sync_all.iter().try_for_each(|sync| sync())?;
    Ok(partitions)
}

/// The id stands in the path: a topic that is made again under its old name never meets the old one's files.
fn topic_folder(core: &Core, topic: &TopicName, topic_id: Uuid) -> PathBuf {
    core.options.data.join(TOPICS).join(topic.as_str()).join(topic_id.to_string())
}

/// Recovers (or makes) one partition.
pub(super) fn partition(
    core: &Arc<Core>,
    topic: &TopicName,
    topic_id: Uuid,
    id: PartitionId,
    config: Arc<ArcSwap<TopicConfig>>,
    checkpoint: Option<&PartitionCheckpoint>,
    synced_by: SyncedBy,
) -> io::Result<Partition> {
    let data = &core.options.data;
    let in_folder = topic_folder(core, topic, topic_id);
    let folder = in_folder.join(id.to_string());
    match synced_by {
        SyncedBy::Caller if core.disk.exists(&in_folder) => core.disk.make_folder(&folder)?,
        // Also where a start finds that a whole topic is lost.
        _ => core.disk.create_folder(&folder)?,
    }
    let name = format!("{topic}-{id}");
    let known = Known {
        checkpoint,
        leader_epoch: core.leader_epoch,
        round_bytes_max: core.meta.lock().unwrap_or_else(PoisonError::into_inner).round_bytes_max,
        lost_and_found: &data.join(LOST_AND_FOUND),
        name: &name,
        now_ms: core.clock.now_ms(),
        synced_by,
    };
    let found = recover(core.disk.as_ref(), &folder, &known)?;
    if found.cut_bytes > 0 {
        warn!(partition = %name, bytes = found.cut_bytes, end = found.log.end.0, "the end was damaged and cut; it is kept in lost+found");
    }
    for base in &found.missing {
        warn!(partition = %name, segment = %crate::log::file_name(*base), "a segment is missing: reads of its offsets fail");
    }
    if let Some(reason) = &found.cleaned_damage {
        warn!(partition = %name, %reason, "how far compaction had come is lost: it begins anew");
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
        found.cleaned,
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
    let space = core.clone();
    let thread = std::thread::Builder::new().name("inrush-space".to_owned()).spawn(move || space::run(&space))?;
    let _ = core.space.set(thread.thread().clone());
    threads.push(thread);
    let cleaner = core.clone();
    let thread = std::thread::Builder::new().name("inrush-cleaner".to_owned()).spawn(move || cleaner::run(&cleaner))?;
    let _ = core.cleaner.set(thread.thread().clone());
    threads.push(thread);
    let keeper = core.clone();
    let thread = std::thread::Builder::new().name("inrush-keeper".to_owned()).spawn(move || keeper::run(&keeper))?;
    let _ = core.keeper.set(thread.thread().clone());
    threads.push(thread);
    *core.threads.lock().unwrap_or_else(PoisonError::into_inner) = threads;
    Ok(())
}
