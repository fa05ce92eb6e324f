//! What a pipeline reads: a topic of this log, or one of a Kafka cluster elsewhere. Both are partitions with offsets, a start and a tail.

mod ahead;
mod feed;
mod keeper;
#[cfg(test)]
mod tests;

use self::feed::Feed;
use super::Options;
use super::runner::{Fail, Runner};
use super::sink::journal;
use super::spec::{Elsewhere, Spec};
use crate::control::ResetTo;
use crate::kafka::{Cluster, END, Member, START, Standing};
use crate::record::{Header, Offset, PartitionId, TopicName};
use crate::store::{MESSAGE_BYTES_MAX, Partition, ReadError, Slice, Topic};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// What a pipeline reads.
pub(super) struct Source {
    pub(super) id: Uuid,
    pub(super) name: TopicName,
    kind: Kind,
}

enum Kind {
    Log(Arc<Topic>),
    Kafka(Arc<Feed>),
}

/// One partition of a source.
pub(super) enum Stretch {
    Log(Partition),
    Kafka { feed: Arc<Feed>, id: i32, name: TopicName },
}

impl Source {
    pub(super) fn of_log(topic: Arc<Topic>) -> Arc<Source> {
        Arc::new(Source { id: topic.id, name: topic.name.clone(), kind: Kind::Log(topic) })
    }

    pub(super) fn partition_count(&self) -> i32 {
        match &self.kind {
            Kind::Log(topic) => topic.partition_count(),
            Kind::Kafka(feed) => feed.partitions(),
        }
    }

    pub(super) fn partition(&self, id: PartitionId) -> Option<Stretch> {
        match &self.kind {
            Kind::Log(topic) => topic.partition(id).map(Stretch::Log),
            Kind::Kafka(feed) => {
                feed.has(id.0).then(|| Stretch::Kafka { feed: feed.clone(), id: id.0, name: self.name.clone() })
            }
        }
    }

    pub(super) fn partitions(&self) -> Vec<Stretch> {
        (0..self.partition_count()).filter_map(|id| self.partition(PartitionId(id))).collect()
    }

    pub(super) fn is_deleted(&self) -> bool {
        match &self.kind {
            Kind::Log(topic) => topic.is_deleted(),
            Kind::Kafka(feed) => feed.is_gone(),
        }
    }

    /// The largest batch that may come.
    pub(super) fn max_message_bytes(&self) -> usize {
        match &self.kind {
            Kind::Log(topic) => topic.config().max_message_bytes,
            Kind::Kafka(feed) => feed.max_message_bytes.min(MESSAGE_BYTES_MAX),
        }
    }

    /// Whether timestamps are the log's; each batch from elsewhere says so itself.
    pub(super) fn is_log_append_time(&self) -> bool {
        matches!(&self.kind, Kind::Log(topic) if topic.config().log_append_time)
    }

    /// What the HTTP door keys its records by.
    pub(super) fn http_key(&self) -> Option<String> {
        match &self.kind {
            Kind::Log(topic) => topic.config().http_key.clone(),
            Kind::Kafka(_) => None,
        }
    }

    pub(super) fn retention_ms(&self) -> Option<i64> {
        match &self.kind {
            Kind::Log(topic) => topic.config().retention_ms,
            Kind::Kafka(feed) => feed.retention_ms,
        }
    }

    /// Whether a crash cannot take away records below `next`. What Kafka shows, all in-sync replicas have.
    pub(super) fn is_durable(&self, id: PartitionId, next: Offset) -> bool {
        match &self.kind {
            Kind::Log(topic) => {
                topic.partition(id).is_none_or(|partition| journal::is_durable(topic, &partition, next))
            }
            Kind::Kafka(_) => true,
        }
    }

    /// Whether others may have partitions of it, now or later.
    pub(super) fn is_shared(&self) -> bool {
        matches!(&self.kind, Kind::Kafka(feed) if feed.is_shared())
    }

    /// Its partitions are to be given back, after a cut.
    pub(super) fn is_called_back(&self) -> bool {
        matches!(&self.kind, Kind::Kafka(feed) if feed.is_called_back())
    }

    /// Others have its partitions already: nothing that was not cut counts.
    pub(super) fn is_lost(&self) -> bool {
        matches!(&self.kind, Kind::Kafka(feed) if feed.is_lost())
    }

    /// What its group has done with, whoever did it.
    pub(super) fn committed(&self) -> BTreeMap<i32, i64> {
        match &self.kind {
            Kind::Log(_) => BTreeMap::new(),
            Kind::Kafka(feed) => feed.committed(),
        }
    }

    /// Everything below these offsets was cut.
    pub(super) fn commit(&self, positions: BTreeMap<i32, i64>) {
        if let Kind::Kafka(feed) = &self.kind {
            feed.commit(positions);
        }
    }

    /// What it has and does not show: a person who looks for it should know why.
    pub(super) fn withheld_warning(&self) -> Option<String> {
        let Kind::Kafka(feed) = &self.kind else { return None };
        let withheld = feed.withheld();
        let records: i64 = withheld.iter().map(|(_, _, records)| records).sum();
        let places = withheld.iter().map(|(id, tail, _)| format!("{id} at {tail}")).collect::<Vec<_>>().join(", ");
        (records > 0).then(|| {
            format!(
                "{records} records wait behind transactions without an end (partition {places}), and count as no lag: they come when their producers commit or abort, or Kafka does (transaction.timeout.ms; kafka-transactions.sh find-hanging)"
            )
        })
    }

    /// Why nothing comes, if that is known.
    pub(super) fn trouble(&self) -> Option<String> {
        match &self.kind {
            Kind::Log(_) => None,
            Kind::Kafka(feed) => feed.trouble(),
        }
    }
}

impl Stretch {
    pub(super) fn id(&self) -> PartitionId {
        match self {
            Stretch::Log(partition) => partition.id(),
            Stretch::Kafka { id, .. } => PartitionId(*id),
        }
    }

    pub(super) fn topic(&self) -> &TopicName {
        match self {
            Stretch::Log(partition) => partition.topic(),
            Stretch::Kafka { name, .. } => name,
        }
    }

    pub(super) fn start(&self) -> Offset {
        match self {
            Stretch::Log(partition) => partition.start(),
            Stretch::Kafka { feed, id, .. } => Offset(feed.bounds(*id).0),
        }
    }

    /// First offset that may not be read yet.
    pub(super) fn tail(&self) -> Offset {
        match self {
            Stretch::Log(partition) => partition.tail(),
            Stretch::Kafka { feed, id, .. } => Offset(feed.bounds(*id).1),
        }
    }

    /// Whether the tail is where the partition ends now; of one elsewhere nobody knows it while its cluster does not answer.
    pub(super) fn is_fresh(&self) -> bool {
        match self {
            Stretch::Log(_) => true,
            Stretch::Kafka { feed, id, .. } => feed.is_fresh(*id),
        }
    }

    /// Whole batches from the one that holds `next` on; empty = nothing there now.
    ///
    /// # Errors
    /// [`ReadError`]
    pub(super) fn read_blocking(&self, next: Offset, size_max: usize) -> Result<Slice, ReadError> {
        match self {
            Stretch::Log(partition) => partition.read_blocking(next, size_max),
            Stretch::Kafka { feed, id, .. } => feed.read(*id, next.0, size_max),
        }
    }

    /// The header of the batch at an offset, where a look at it is cheap.
    pub(super) fn glance(&self, at: Offset) -> Option<Header> {
        match self {
            Stretch::Log(partition) => {
                partition.read_blocking(at, 1).ok()?.batches.first().map(|batch| *batch.header())
            }
            Stretch::Kafka { .. } => None,
        }
    }

    /// Returns when there is something to read behind `known`, or to be told.
    pub(super) async fn tail_past(&self, known: Offset) {
        match self {
            Stretch::Log(partition) => partition.tail_past(known).await,
            Stretch::Kafka { feed, id, .. } => feed.moved_past(*id, known.0).await,
        }
    }
}

impl Runner {
    /// What is to be read; `None` if there is no such topic.
    pub(super) fn source(&mut self) -> Result<Option<Arc<Source>>, Fail> {
        let spec = self.job.spec.clone();
        let Some(elsewhere) = &spec.elsewhere else {
            return Ok(self.options.store.topic(spec.from.as_str()).map(Source::of_log));
        };
        let is_it = |source: &&Arc<Source>| match &source.kind {
            Kind::Kafka(feed) => feed.is_of(elsewhere, &spec.from) && !feed.is_gone(),
            Kind::Log(_) => false,
        };
        if let Some(known) = self.fed.as_ref().filter(is_it) {
            if let Kind::Kafka(feed) = &known.kind {
                let joined = feed.join_again(&self.checkpoint.committed());
                joined.map_err(|error| Fail::Down(error.to_string()))?;
            }
            return Ok(Some(known.clone()));
        }
        self.fed = None;
        let life = self.life.clone();
        let pulse = Arc::new(move || {
            life.beat();
            !life.is_stopping()
        });
        let feed =
            Feed::open(&spec.name, elsewhere, &spec.from, pulse).map_err(|error| Fail::Down(error.to_string()))?;
        let source = feed.map(|feed| {
            Arc::new(Source { id: feed.topic_id, name: spec.from.clone(), kind: Kind::Kafka(Arc::new(feed)) })
        });
        self.fed.clone_from(&source);
        Ok(source)
    }

    /// What is read, without asking anybody else for it.
    pub(super) fn known_source(&self) -> Option<Arc<Source>> {
        match self.job.spec.elsewhere {
            Some(_) => self.fed.clone(),
            None => self.options.store.topic(self.job.spec.from.as_str()).map(Source::of_log),
        }
    }
}

/// The source's id, and where each of its partitions is moved to.
///
/// # Errors
/// There is no such topic; it cannot be asked.
pub(super) fn places(
    options: &Options,
    spec: &Spec,
    only: Option<i32>,
    to: ResetTo,
) -> Result<(Uuid, BTreeMap<i32, i64>), String> {
    match &spec.elsewhere {
        Some(elsewhere) => places_elsewhere(elsewhere, spec, only, to),
        None => places_here(options, spec, only, to),
    }
}

/// Says the source's group, if it has one, that everything below these offsets is done with, and nothing behind: else it would undo the
/// move. Nobody may be in the group then.
///
/// # Errors
/// Others are; it cannot be asked.
pub(super) fn move_group(spec: &Spec, places: &BTreeMap<i32, i64>) -> Result<(), String> {
    let Some((elsewhere, group)) = spec.elsewhere.as_ref().and_then(|from| Some((from, from.group.as_ref()?))) else {
        return Ok(());
    };
    let cluster = Cluster::new(elsewhere.cluster.clone(), Arc::new(|| true));
    match Member::new(cluster, group, spec.from.as_str()).commit(places).map_err(|error| error.to_string())? {
        Standing::Steady => Ok(()),
        Standing::Rebalance | Standing::Lost => Err(format!(
            "others read in group \"{group}\" of Kafka, and it is moved for all: stop them, reset, and let them go on"
        )),
    }
}

fn missing(spec: &Spec) -> String {
    format!("topic {} does not exist, so there is nothing to move in", spec.from)
}

/// Whether it can be moved so.
fn judge(spec: &Spec, count: i32, only: Option<i32>, to: ResetTo) -> Result<(), String> {
    if let Some(only) = only.filter(|only| !(0..count).contains(only)) {
        return Err(format!("topic {} has no partition {only}, it has 0 to {}", spec.from, count - 1));
    }
    match to {
        ResetTo::Offset(_) if only.is_none() && count > 1 => Err(format!(
            "topic {} has {count} partitions: say which, --partition N, or move all of them to start, end or a time",
            spec.from
        )),
        _ => Ok(()),
    }
}

/// The offset, if it is one of the partition's.
fn among(spec: &Spec, id: i32, start: i64, tail: i64, offset: i64) -> Result<i64, String> {
    match (start..=tail).contains(&offset) {
        true => Ok(offset),
        false => Err(format!("{}/{id} has offsets {start} to {tail}, and not {offset}", spec.from)),
    }
}

fn places_elsewhere(
    elsewhere: &Elsewhere,
    spec: &Spec,
    only: Option<i32>,
    to: ResetTo,
) -> Result<(Uuid, BTreeMap<i32, i64>), String> {
    let mut cluster = Cluster::new(elsewhere.cluster.clone(), Arc::new(|| true));
    let topic = spec.from.as_str();
    let view = cluster.topic(topic).map_err(|error| error.to_string())?.ok_or_else(|| missing(spec))?;
    let mut at = |time: i64| cluster.offsets(topic, time, true).map_err(|error| error.to_string());
    let ends = at(END)?;
    judge(spec, ends.len() as i32, only, to)?;
    let mut places = match to {
        ResetTo::Start => at(START)?,
        ResetTo::End => ends.clone(),
        ResetTo::Time(ms) => at(ms)?,
        ResetTo::Offset(offset) => {
            let mut places = at(START)?;
            for (id, place) in &mut places {
                if only.is_none_or(|only| only == *id) {
                    *place = among(spec, *id, *place, ends.get(id).copied().unwrap_or(0), offset)?;
                }
            }
            places
        }
    };
    // Where nothing is as young as that.
    for (id, place) in places.iter_mut().filter(|(_, place)| **place < 0) {
        *place = ends.get(id).copied().unwrap_or(0);
    }
    places.retain(|id, _| only.is_none_or(|only| only == *id));
    Ok((view.id, places))
}

fn places_here(
    options: &Options,
    spec: &Spec,
    only: Option<i32>,
    to: ResetTo,
) -> Result<(Uuid, BTreeMap<i32, i64>), String> {
    let topic = options.store.topic(spec.from.as_str()).ok_or_else(|| missing(spec))?;
    judge(spec, topic.partition_count(), only, to)?;
    let mut places = BTreeMap::new();
    for partition in topic.partitions().iter().filter(|own| only.is_none_or(|only| own.id().0 == only)) {
        let (id, start, tail) = (partition.id().0, partition.start().0, partition.tail().0);
        let offset = match to {
            ResetTo::Start => start,
            ResetTo::End => tail,
            ResetTo::Offset(offset) => among(spec, id, start, tail, offset)?,
            ResetTo::Time(ms) => {
                let found = options.runtime.block_on(partition.offset_for_time(ms));
                found.map_err(|error| error.to_string())?.map_or(tail, |found| found.offset.0)
            }
        };
        places.insert(id, offset);
    }
    Ok((topic.id, places))
}
