//! [`Topic`]: a topic as it is now, and the changes to topics: each stands in the catalog file before anybody sees it.

use super::catalog::{self, CatalogFile, Change, FORMAT_COMPACTED, Meta, PRODUCER_ID_BLOCK, TopicRecord};
use super::core::{Core, Topics};
use super::open;
use super::partition::{Partition, Shared};
use super::{ConfigChange, NewTopic, Store, TopicConfig, TopicError};
use crate::log::round_bytes_max;
use crate::record::{PartitionId, TopicName};
use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use tracing::info;
use uuid::Uuid;

/// More partitions than this in one topic are a mistake.
pub const TOPIC_PARTITIONS_MAX: i32 = 10_000;

/// A topic. Partitions are only ever added.
pub struct Topic {
    pub id: Uuid,
    pub name: TopicName,
    pub(super) partitions: ArcSwap<Vec<Partition>>,
    pub(super) config: Arc<ArcSwap<TopicConfig>>,
    pub(super) overrides: ArcSwap<Vec<(String, String)>>,
    pub(super) is_deleted: AtomicBool,
}

/// What is to become of a topic's settings.
#[derive(Clone, Debug)]
pub enum Alteration {
    /// These change one after the other, the rest stays.
    Some(Vec<(String, ConfigChange)>),
    /// These are set, the rest goes back to its default.
    All(Vec<(String, String)>),
}

impl Alteration {
    /// The overrides of a topic after it, and its settings.
    fn of(self, topic: &Topic) -> Result<(Vec<(String, String)>, TopicConfig), TopicError> {
        let overrides = match self {
            Alteration::Some(changes) => TopicConfig::changed(&topic.overrides.load(), &changes)?,
            Alteration::All(overrides) => overrides,
        };
        let config = TopicConfig::parse(&overrides)?;
        Ok((overrides, config))
    }
}

impl Topic {
    /// Its settings now.
    pub fn config(&self) -> Arc<TopicConfig> {
        self.config.load_full()
    }

    /// What was set on it, by Kafka's names; the rest is default.
    pub fn overrides(&self) -> Arc<Vec<(String, String)>> {
        self.overrides.load_full()
    }

    pub fn partition_count(&self) -> i32 {
        self.partitions.load().len() as i32
    }

    pub fn partition(&self, id: PartitionId) -> Option<Partition> {
        self.partitions.load().get(usize::try_from(id.0).ok()?).cloned()
    }

    pub fn partitions(&self) -> Arc<Vec<Partition>> {
        self.partitions.load_full()
    }

    pub fn is_deleted(&self) -> bool {
        self.is_deleted.load(Ordering::Acquire)
    }

    pub(super) fn shared(&self) -> Vec<Arc<Shared>> {
        self.partitions.load().iter().map(|partition| partition.shared.clone()).collect()
    }
}

impl Store {
    /// All topics, by name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        let mut topics: Vec<_> = self.core.topics.load().by_name.values().cloned().collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.core.topics.load().by_name.get(name).cloned()
    }

    pub fn topic_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.core.topics.load().by_id.get(&id).cloned()
    }

    /// Durable in the catalog, its folders made, when it returns.
    ///
    /// # Errors
    /// [`TopicError`]: it exists or is internal, a setting or the partition count is wrong, the disk failed.
    pub async fn create_topic(&self, new: NewTopic) -> Result<Arc<Topic>, TopicError> {
        not_internal(&new.name)?;
        self.change(move |core| create(core, new)).await
    }

    /// As [`Store::create_topic`], for the topics that the daemon keeps itself; nobody else may make, alter, delete or grow them.
    ///
    /// # Errors
    /// As there.
    pub async fn create_internal_topic(&self, new: NewTopic) -> Result<Arc<Topic>, TopicError> {
        self.change(move |core| create(core, new)).await
    }

    /// Readers and writers of the topic get errors from now on; its files are gone when it returns.
    ///
    /// # Errors
    /// [`TopicError::Missing`], or the disk's.
    pub async fn delete_topic(&self, name: &TopicName) -> Result<(), TopicError> {
        not_internal(name)?;
        let name = name.clone();
        self.change(move |core| delete(core, &name)).await
    }

    /// Sets (`Some`) or resets (`None`) settings, all or none; they hold at once.
    ///
    /// # Errors
    /// [`TopicError::Missing`], [`TopicError::Config`], or the disk's.
    pub async fn alter_topic(
        &self,
        name: &TopicName,
        changes: Vec<(String, Option<String>)>,
    ) -> Result<(), TopicError> {
        let change = |value: Option<String>| value.map_or(ConfigChange::Reset, ConfigChange::Set);
        let changes = changes.into_iter().map(|(key, value)| (key, change(value))).collect();
        self.alter_topic_by(name, Alteration::Some(changes)).await
    }

    /// Alters settings, all or none; they hold at once.
    ///
    /// # Errors
    /// [`TopicError::Missing`], [`TopicError::Config`], or the disk's.
    pub async fn alter_topic_by(&self, name: &TopicName, alteration: Alteration) -> Result<(), TopicError> {
        not_internal(name)?;
        let name = name.clone();
        self.change(move |core| alter(core, &name, alteration)).await
    }

    /// Whether [`Store::alter_topic_by`] would take this; nothing changes.
    ///
    /// # Errors
    /// As there, but for the disk's.
    pub fn check_alteration(&self, name: &TopicName, alteration: Alteration) -> Result<(), TopicError> {
        not_internal(name)?;
        alteration.of(find(&self.core, name)?.as_ref()).map(drop)
    }

    /// Grows a topic to `total` partitions, its dead letter topic first: a letter has the partition number of its record.
    ///
    /// # Errors
    /// [`TopicError::Missing`]; [`TopicError::Invalid`] unless it grows; the disk's.
    pub async fn add_partitions(&self, name: &TopicName, total: i32) -> Result<(), TopicError> {
        not_internal(name)?;
        let name = name.clone();
        self.change(move |core| {
            let letters =
                name.dead_letters().filter(|letters| find(core, letters).is_ok_and(|t| t.partition_count() < total));
            if let (Some(letters), Ok(topic)) = (letters, find(core, &name))
                && topic.partition_count() < total
            {
                grow(core, &letters, total)?;
            }
            grow(core, &name, total)
        })
        .await
    }

    /// Bytes of the topic catalog, all of them durable. A start writes it anew, so it may be less than before.
    ///
    /// # Errors
    /// The log is closing.
    pub async fn catalog_size(&self) -> Result<u64, TopicError> {
        self.change(|core| Ok(core.catalog().size())).await
    }

    /// A producer id that was never given out before, also over restarts.
    ///
    /// # Errors
    /// The disk's, when a new block has to be written.
    pub async fn next_producer_id(&self) -> Result<i64, TopicError> {
        self.change(|core| {
            let mut catalog = core.catalog();
            if let Some(id) = catalog.producer_id() {
                return Ok(id);
            }
            let limit = catalog.get().producer_id_limit + PRODUCER_ID_BLOCK;
            save(core, &mut catalog, Change::ProducerIdLimit(limit))?;
            catalog.producer_id().ok_or_else(|| TopicError::Io("no producer id is left".to_owned()))
        })
        .await
    }

    /// Runs a change on a reader thread: it syncs files, which a socket task must not wait for.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Arc<Core>) -> Result<T, TopicError> + Send + 'static,
    ) -> Result<T, TopicError> {
        let core = self.core.clone();
        let closing = || TopicError::Io("the log is closing".to_owned());
        self.core.on_reader(move || change(&core)).await.ok_or_else(closing)?
    }
}

fn not_internal(name: &TopicName) -> Result<(), TopicError> {
    if name.is_internal() { Err(TopicError::Internal(name.clone())) } else { Ok(()) }
}

fn create(core: &Arc<Core>, new: NewTopic) -> Result<Arc<Topic>, TopicError> {
    if !(1..=TOPIC_PARTITIONS_MAX).contains(&new.partitions) {
        return Err(TopicError::Invalid(format!(
            "a topic has 1 to {TOPIC_PARTITIONS_MAX} partitions, not {}",
            new.partitions
        )));
    }
    let config = TopicConfig::parse(&new.config)?;
    let mut catalog = core.catalog();
    if core.topics.load().by_name.contains_key(&new.name) {
        return Err(TopicError::Exists(new.name));
    }
    allow_rounds(core, config.max_message_bytes)?;
    let record =
        TopicRecord { name: new.name.to_string(), id: Uuid::new_v4(), partitions: new.partitions, config: new.config };
    let topic = open::topic(core, &record, new.name, config).map_err(|error| TopicError::Io(error.to_string()))?;
    save(core, &mut catalog, Change::Topic(record))?;
    publish(core, |topics| {
        topics.by_name.insert(topic.name.clone(), topic.clone());
        topics.by_id.insert(topic.id, topic.clone());
    });
    info!(topic = %topic.name, partitions = new.partitions, id = %topic.id, "topic created");
    Ok(topic)
}

fn delete(core: &Arc<Core>, name: &TopicName) -> Result<(), TopicError> {
    let mut catalog = core.catalog();
    let topic = find(core, name)?;
    save(core, &mut catalog, Change::Deleted(topic.id))?;
    topic.is_deleted.store(true, Ordering::Release);
    publish(core, |topics| {
        topics.by_name.remove(name);
        topics.by_id.remove(&topic.id);
    });
    for partition in topic.shared() {
        partition.delete();
        open::remove_folder(core.disk.as_ref(), &partition.folder)
            .map_err(|error| TopicError::Io(error.to_string()))?;
    }
    catalog.forget(topic.id);
    info!(topic = %name, id = %topic.id, "topic deleted");
    Ok(())
}

fn alter(core: &Arc<Core>, name: &TopicName, alteration: Alteration) -> Result<(), TopicError> {
    let mut catalog = core.catalog();
    let topic = find(core, name)?;
    let (overrides, config) = alteration.of(&topic)?;
    allow_rounds(core, config.max_message_bytes)?;
    let record = TopicRecord { config: overrides.clone(), ..record_of(&catalog, &topic)? };
    save(core, &mut catalog, Change::Topic(record))?;
    topic.overrides.store(Arc::new(overrides));
    topic.config.store(Arc::new(config));
    for partition in topic.shared() {
        // The next checkpoint says how this partition answers from now on.
        partition.log().is_dirty = true;
    }
    info!(topic = %name, "topic settings changed");
    Ok(())
}

fn grow(core: &Arc<Core>, name: &TopicName, total: i32) -> Result<(), TopicError> {
    let mut catalog = core.catalog();
    let topic = find(core, name)?;
    let count = topic.partition_count();
    if total <= count || total > TOPIC_PARTITIONS_MAX {
        return Err(TopicError::Invalid(format!(
            "topic \"{name}\" has {count} partitions and can grow to {TOPIC_PARTITIONS_MAX} at most, not to {total}"
        )));
    }
    let mut partitions = topic.partitions.load().as_ref().clone();
    let new = open::new_partitions(core, &topic.name, topic.id, count..total, &topic.config);
    partitions.extend(new.map_err(|error| TopicError::Io(error.to_string()))?);
    let record = TopicRecord { partitions: total, ..record_of(&catalog, &topic)? };
    save(core, &mut catalog, Change::Topic(record))?;
    topic.partitions.store(Arc::new(partitions));
    info!(topic = %name, partitions = total, "topic grown");
    Ok(())
}

fn find(core: &Core, name: &TopicName) -> Result<Arc<Topic>, TopicError> {
    core.topics.load().by_name.get(name).cloned().ok_or_else(|| TopicError::Missing(name.clone()))
}

fn record_of(catalog: &CatalogFile, topic: &Topic) -> Result<TopicRecord, TopicError> {
    catalog.get().topic(topic.id).cloned().ok_or_else(|| TopicError::Missing(topic.name.clone()))
}

/// Makes a change durable in the catalog.
pub(super) fn save(core: &Core, catalog: &mut CatalogFile, change: Change) -> Result<(), TopicError> {
    if let Some(cause) = core.poisoned() {
        return Err(TopicError::Io(format!("the data folder takes no writes: {cause}")));
    }
    let saved = core.with_reserve(|| catalog.change(core.disk.as_ref(), change.clone()));
    saved.map_err(|error| {
        core.poison_unless_passing("a write of the topic catalog", &error);
        TopicError::Io(error.to_string())
    })
}

/// Writes down that rounds may become as large as these batches, before the first of them is taken: recovery relies on it.
fn allow_rounds(core: &Core, message_bytes_max: usize) -> Result<(), TopicError> {
    let mut meta = core.meta.lock().unwrap_or_else(PoisonError::into_inner);
    let round_bytes_max = round_bytes_max(message_bytes_max);
    if round_bytes_max > meta.round_bytes_max {
        let next = Meta { round_bytes_max, ..meta.clone() };
        let path = core.options.data.join(open::META);
        let saved = core.with_reserve(|| catalog::save_meta(core.disk.as_ref(), &path, &next));
        saved.map_err(|error| TopicError::Io(error.to_string()))?;
        *meta = next;
    }
    Ok(())
}

/// Writes down that segments may have holes, before the first of them: an older program must not open the folder then.
///
/// # Errors
/// The disk's.
pub(super) fn allow_holes(core: &Core) -> std::io::Result<()> {
    let _catalog = core.catalog();
    let mut meta = core.meta.lock().unwrap_or_else(PoisonError::into_inner);
    if meta.format < FORMAT_COMPACTED {
        let next = Meta { format: FORMAT_COMPACTED, ..meta.clone() };
        let path = core.options.data.join(open::META);
        core.with_reserve(|| catalog::save_meta(core.disk.as_ref(), &path, &next))?;
        *meta = next;
        info!(format = FORMAT_COMPACTED, "the data folder has compacted segments from now on");
    }
    Ok(())
}

/// Changes the snapshot. The catalog's lock is held, so there is one at a time.
fn publish(core: &Core, change: impl FnOnce(&mut Topics)) {
    let old = core.topics.load();
    let mut topics = Topics { by_name: old.by_name.clone(), by_id: old.by_id.clone() };
    change(&mut topics);
    core.topics.store(Arc::new(topics));
}
