//! Rows to a topic of a Kafka cluster elsewhere, as JSON objects, once, as far as that cluster lets itself be read back.
//!
//! As in a [`super::journal::Journal`] the last record of each batch says in the header `inrush-source` how far its partition has come with
//! a source partition, and a start looks behind the ends of the last checkpoint. What differs: a request of a process that died may come
//! after that look. So each source partition has a producer of its own, kept in the checkpoint: the sequence of a row is then its number
//! among the rows of that source partition in that output partition, and whichever of two runs is first, the broker drops the same rows
//! of the other, or says that sequences do not follow, and the partition is looked at once more.

use super::super::checkpoint::{KafkaState, OutputState};
use super::super::closing::WINDOWS;
use super::super::fault::Fault;
use super::super::hooks::{Hooks, Step};
use super::super::life::Life;
use super::super::spec::KafkaOutput;
use super::parquet::CutName;
use super::reached::{Last, Progress, Reached, SourceTopic, missing, reached_by};
use super::row::{BATCH_SIZE, Row, filled, fitting, next_sequence, too_large};
use super::topic::Lines;
use super::{Shaped, Sink, WriteError};
use crate::kafka::{Acked, Cluster, END, Error, FetchLimits, Pulse, START, Stopped, TopicLimits, Why};
use crate::record::{Batch, Producer, Record, partition_for_key};
use arrow::record_batch::RecordBatch;
use kafka_protocol::ResponseError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{error, warn};
use uuid::Uuid;

/// What is read at a time to see what is there already.
const SCAN_SIZE: i32 = 4 << 20;
/// A broker that has nothing to show below its end is asked so often.
const SCAN_ATTEMPTS: usize = 20;
const SCAN_WAIT: Duration = Duration::from_millis(250);
/// What a dead process had under way has come after this, or never does: brokers drop what a closed connection still holds in seconds.
const LATE_MAX: Duration = Duration::from_secs(600);
/// Records of others that are worth a checkpoint of their own.
const NEWS_MIN: i64 = 1_000;
/// How often it is looked where partitions end, so that a start need not read what others wrote meanwhile.
const ENDS_AGE_MAX: Duration = Duration::from_secs(60);
/// Splits of batches and new looks at partitions that one call may need.
const ATTEMPTS_MAX: usize = 32;
/// Rows without a key go to one partition for so many offsets of their source, then to the next: a replay spreads them alike.
const STICKY_OFFSETS: i64 = 4096;
/// Partitions that were added are seen after this.
const VIEW_AGE_MAX: Duration = Duration::from_secs(300);
/// What is kept for less may be gone before a start looks.
const RETENTION_MS_MIN: i64 = 3_600_000;

/// A topic elsewhere that rows go to.
pub(in crate::stream) struct KafkaSink {
    cluster: Cluster,
    out: KafkaOutput,
    source: SourceTopic,
    topic: Uuid,
    limits: TopicLimits,
    /// By source partition the producer of its rows.
    producers: BTreeMap<i32, i64>,
    /// Rows are spread over so many until the next cut.
    partitions: i32,
    progress: Progress,
    /// By source and output partition.
    places: BTreeMap<(i32, i32), Place>,
    /// By output partition what comes behind all that was looked at, and behind the last batch of this run.
    ends: BTreeMap<i32, i64>,
    /// By output partition where the look at the start ended: a batch of a process that died may come behind it.
    opened: BTreeMap<i32, i64>,
    opened_at: Instant,
    ends_at: Instant,
    /// What the last checkpoint says of them, and whether it is to be told more though no row was written.
    told: BTreeMap<i32, i64>,
    has_news: bool,
    /// Source and output partitions of which a batch of this run was seen in its place.
    proven: BTreeSet<(i32, i32)>,
    is_readable: bool,
    hooks: Hooks,
}

/// What the next batch of a producer says of itself in one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    epoch: i16,
    sequence: i32,
}

/// A batch that was made, and what it is when it is there.
#[derive(Clone, Copy)]
struct Made {
    /// The first row's.
    offset: i64,
    count: usize,
    /// At most so many bytes, uncompressed.
    size: usize,
    reached: Reached,
    place: Place,
}

/// A sign of life while brokers are waited for; a thread that was given up waits no longer.
fn pulse(life: &Arc<Life>) -> Pulse {
    let life = life.clone();
    Arc::new(move || {
        life.beat();
        life.has_seat()
    })
}

/// Whose rows have producers: the source's partitions, and windows if there are any.
pub(in crate::stream) fn sources(partitions: i32, has_window: bool) -> impl Iterator<Item = i32> {
    (0..partitions).chain(has_window.then_some(WINDOWS))
}

/// Connects, makes the topic if it is not there, and says what the checkpoint is to say before the first row is written: `known`, if that
/// is of this topic, with a producer for each of `sources`.
///
/// # Errors
/// Why it cannot be used now.
pub(in crate::stream) fn settle(
    out: &KafkaOutput,
    known: Option<&KafkaState>,
    sources: impl Iterator<Item = i32>,
    life: &Arc<Life>,
) -> Result<(Cluster, KafkaState), Error> {
    let topic = out.topic.as_str();
    let mut cluster = Cluster::new(out.cluster.clone(), pulse(life));
    let view = cluster.topic_or_new(topic)?;
    let mut state = match known.filter(|known| known.topic == view.id) {
        Some(known) => known.clone(),
        None => {
            if known.is_some() {
                warn!(
                    topic,
                    "this is another topic of Kafka than before: what the pipeline wrote is not looked for in it"
                );
            }
            KafkaState {
                topic: view.id,
                partitions: view.partitions,
                producers: BTreeMap::new(),
                ends: cluster.offsets(topic, END, false)?,
                places: Vec::new(),
            }
        }
    };
    for source in sources {
        if let std::collections::btree_map::Entry::Vacant(vacant) = state.producers.entry(source) {
            vacant.insert(cluster.new_producer()?);
        }
    }
    Ok((cluster, state))
}

/// By output partition, batches and what each of them is.
type Sending = (BTreeMap<i32, Vec<Batch>>, BTreeMap<i32, Vec<Made>>);

impl KafkaSink {
    /// Looks at what stands behind `state`, which [`settle`] gave; `floor` are the positions of the same checkpoint.
    ///
    /// # Errors
    /// Why it cannot be used now.
    pub(in crate::stream) fn open(
        cluster: Cluster,
        state: &KafkaState,
        out: &KafkaOutput,
        source: SourceTopic,
        floor: &BTreeMap<i32, i64>,
        hooks: Hooks,
    ) -> Result<KafkaSink, Error> {
        let place = |(source, partition, epoch, sequence): &(i32, i32, i16, i32)| {
            ((*source, *partition), Place { epoch: *epoch, sequence: *sequence })
        };
        let mut sink = KafkaSink {
            cluster,
            out: out.clone(),
            source,
            topic: state.topic,
            limits: TopicLimits { max_message_bytes: 0, compacts: false, retention_ms: None, is_known: false },
            producers: state.producers.clone(),
            partitions: state.partitions,
            progress: Progress::new(floor),
            places: state.places.iter().map(place).collect(),
            ends: state.ends.clone(),
            opened: BTreeMap::new(),
            opened_at: Instant::now(),
            ends_at: Instant::now(),
            told: state.ends.clone(),
            has_news: false,
            proven: BTreeSet::new(),
            is_readable: true,
            hooks,
        };
        let topic = out.topic.as_str();
        sink.limits = sink.cluster.limits(topic)?;
        let starts = sink.cluster.offsets(topic, START, false)?;
        for (partition, end) in sink.cluster.offsets(topic, END, false)? {
            let known = state.ends.get(&partition).copied().unwrap_or(0);
            if known > end {
                error!(
                    topic,
                    partition,
                    from = end,
                    to = known,
                    "records that were there left the end of Kafka's log, maybe such that the pipeline wrote"
                );
            }
            let from = known.min(end).max(starts.get(&partition).copied().unwrap_or(0));
            match sink.scan(partition, from, end) {
                Err(error) if error.code() == Some(ResponseError::TopicAuthorizationFailed) => {
                    sink.is_readable = false;
                    break;
                }
                scanned => scanned?,
            }
            sink.opened.insert(partition, sink.ends.get(&partition).copied().unwrap_or(end));
        }
        sink.opened_at = Instant::now();
        if !sink.is_readable {
            // Nobody knows which sequences were used.
            sink.places.clear();
            for source in state.producers.keys() {
                sink.producers.insert(*source, sink.cluster.new_producer()?);
            }
        }
        Ok(sink)
    }

    /// Why rows may be there twice after a crash, if they may.
    pub(in crate::stream) fn doubt(&self) -> Option<String> {
        let (topic, servers) = (&self.out.topic, self.out.cluster.servers.join(","));
        let why = if !self.is_readable {
            "it may not be read (no READ right on it), so nobody sees what is there"
        } else if self.limits.compacts {
            "it is compacted, which may take away the records that say what is there"
        } else if self.limits.retention_ms.is_some_and(|ms| ms < RETENTION_MS_MIN) {
            "its retention.ms is under an hour, and what is there may be gone when the pipeline looks"
        } else {
            return None;
        };
        Some(format!("kafka {topic} at {servers}: rows may be there twice after a crash (at least once): {why}"))
    }

    /// Reads a partition from `from` to `end`, and remembers what is ours; [`KafkaSink::ends`] is then how far it has come.
    ///
    /// # Errors
    /// It cannot be read to that end now. What was not looked at may hold rows of ours, so nothing may be concluded.
    fn scan(&mut self, partition: i32, from: i64, end: i64) -> Result<(), Error> {
        let topic = self.out.topic.as_str().to_owned();
        let (mut next, mut attempts) = (from, 0);
        while next < end {
            if attempts == SCAN_ATTEMPTS {
                return Err(Error::Silent(format!("what \"{topic}/{partition}\" has from {next} to {end}")));
            }
            let fetched = self.cluster.fetch(&topic, partition, next, look(SCAN_SIZE))?;
            attempts = if fetched.batches.is_empty() { attempts + 1 } else { 0 };
            for batch in &fetched.batches {
                self.note(partition, batch);
                next = next.max(batch.next_offset().0);
            }
        }
        self.ends.insert(partition, next);
        Ok(())
    }

    /// Remembers a batch that is there, if it is this pipeline's.
    fn note(&mut self, partition: i32, batch: &Batch) {
        let header = batch.header();
        let Some(producer) = header.producer else { return };
        let Some((source, _)) = self.producers.iter().find(|(_, id)| **id == producer.id) else { return };
        // By its offsets: compaction takes records away, and their sequences stay used.
        let sequence = next_sequence(producer.base_sequence, header.offset_count());
        self.places.insert((*source, partition), Place { epoch: producer.epoch, sequence });
        if let Some((source, reached)) = self.source.marked(batch) {
            self.progress.write((source, partition), reached, batch.base_offset().0);
        }
    }

    /// Asks for the topic's partitions now and then, and whether it is still the same topic.
    fn look_again(&mut self) -> Result<(), Error> {
        let topic = self.out.topic.as_str().to_owned();
        if self.cluster.is_older(&topic, VIEW_AGE_MAX) {
            let view = self.cluster.topic(&topic)?;
            if view.is_none_or(|view| view.id != self.topic) {
                return Err(Error::Silent(format!("topic \"{topic}\" that was there before")));
            }
        }
        Ok(())
    }

    /// Batches by output partition of the rows that are missing there, and what each of them is.
    fn batches(
        &self,
        source: i32,
        producer: i64,
        rows: &BTreeMap<i32, Vec<Row<'_>>>,
        last: Last,
        size_max: usize,
    ) -> Result<Sending, WriteError> {
        let (mut batches, mut made) = Sending::default();
        for (id, rows) in rows {
            let (mut rest, mut before) = missing(rows, self.progress.reached(source, *id));
            let mut place = self.places.get(&(source, *id)).copied().unwrap_or_default();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(fitting(rest, size_max));
                let reached = reached_by(now, later, before, last);
                let batch = self.batch(source, producer, place, now, reached);
                let batch = batch.ok_or_else(|| WriteError::Down("rows could not be made a batch".to_owned()))?;
                batches.entry(*id).or_default().push(batch);
                let size = now.iter().map(Row::bound).sum();
                made.entry(*id).or_default().push(Made {
                    offset: now[0].offset,
                    count: now.len(),
                    size,
                    reached,
                    place,
                });
                place.sequence = next_sequence(place.sequence, now.len() as i64);
                (rest, before) = (later, reached.rows);
            }
        }
        Ok((batches, made))
    }

    fn batch(&self, source: i32, producer: i64, place: Place, rows: &[Row<'_>], reached: Reached) -> Option<Batch> {
        let producer = Producer { id: producer, epoch: place.epoch, base_sequence: place.sequence };
        filled(producer, rows, &self.source.mark(source, reached)).build(self.out.codec).ok()
    }

    /// Takes up what is there; gives by partition the first batch of this call, where none of this run was looked at yet.
    fn settle_acks(&mut self, source: i32, made: &BTreeMap<i32, Vec<Made>>, acked: &[Acked]) -> Vec<(Acked, Made)> {
        let mut first = Vec::new();
        let mut acked = acked.to_vec();
        acked.sort_by_key(|ack| (ack.partition, ack.at));
        let mut whole: BTreeMap<i32, usize> = BTreeMap::new();
        for ack in acked {
            let this = made[&ack.partition][ack.at];
            let so_far = whole.entry(ack.partition).or_default();
            // One behind a hole is there, but what tells of it is not to be believed before the hole is filled.
            if *so_far != ack.at {
                continue;
            }
            *so_far += 1;
            let pair = (source, ack.partition);
            let sequence = next_sequence(this.place.sequence, this.count as i64);
            self.places.insert(pair, Place { sequence, ..this.place });
            let end = self.ends.entry(ack.partition).or_insert(0);
            // Where the broker does not know it any more, it is behind what was looked at.
            let offset = if ack.base_offset < 0 { *end } else { ack.base_offset };
            self.progress.write(pair, this.reached, offset);
            *end = (*end).max(ack.base_offset + this.count as i64);
            if ack.at == 0 && !self.proven.contains(&pair) {
                first.push((ack, this));
            }
            self.hooks.at(Step::Appended);
        }
        first
    }

    /// A batch of a process that died and this one may have had the same sequences; then the broker keeps the first and says of the other
    /// that it has it. Looks whether what lies there is what was sent.
    fn prove(&mut self, source: i32, producer: i64, first: &[(Acked, Made)]) -> Result<(), Error> {
        let topic = self.out.topic.as_str().to_owned();
        for (ack, made) in first.iter().filter(|_| self.is_readable).copied().collect::<Vec<_>>() {
            let partition = ack.partition;
            let fetched = self.cluster.fetch(&topic, partition, ack.base_offset.max(0), look(1))?;
            let wanted = Producer { id: producer, epoch: made.place.epoch, base_sequence: made.place.sequence };
            let is_ours = fetched.batches.first().is_some_and(|batch| {
                batch.header().producer == Some(wanted)
                    && batch.header().offset_count() == made.count as i64
                    && self.source.marked(batch) == Some((source, made.reached))
            });
            if !is_ours {
                return Err(Error::Silent(format!(
                    "the batch at {} of \"{topic}/{partition}\": another one lies there, of a run before; the partition is looked at anew",
                    ack.base_offset
                )));
            }
            self.proven.insert((source, partition));
        }
        Ok(())
    }

    /// The broker has other sequences than were thought. Either a batch of a process that died has come since: then it is found. Or the
    /// broker's log lost some: then the producer goes on with its next epoch, as Kafka's own does (KIP-360).
    fn recover(&mut self, source: i32, producer: i64, partition: i32, code: ResponseError) -> Result<(), Error> {
        let topic = self.out.topic.as_str().to_owned();
        let pair = (source, partition);
        let before = self.places.get(&pair).copied().unwrap_or_default();
        let what = || format!("the sequences of \"{topic}/{partition}\" of Kafka are others than the pipeline's");
        let unclear = |detail: &str| Error::Refused { what: what(), error: code, detail: Some(detail.to_owned()) };
        if self.is_readable {
            let end = self.cluster.offsets(&topic, END, false)?.get(&partition).copied().unwrap_or(0);
            let start = self.cluster.offsets(&topic, START, false)?.get(&partition).copied().unwrap_or(0);
            let from = self.looked_at(partition).min(end).max(start);
            self.scan(partition, from, end)?;
            let now = self.places.get(&pair).copied().unwrap_or_default();
            if now != before {
                warn!(topic, partition, "a batch of a run before came late, and is there");
                return Ok(());
            }
            let known = self.cluster.producers(&topic, partition)?;
            let known = known.ok_or_else(|| unclear("and the broker does not tell its own"))?;
            if let Some((epoch, last)) = known.get(&producer).copied() {
                let next = next_sequence(last, 1);
                if epoch > i32::from(before.epoch) || epoch == i32::from(before.epoch) && next >= before.sequence {
                    // It is not on all replicas yet, and nobody can read it.
                    return Err(unclear("a batch that nobody can read yet may be there"));
                }
            }
        }
        let epoch =
            before.epoch.checked_add(1).ok_or_else(|| unclear("and there is no further epoch: reset the pipeline"))?;
        warn!(topic, partition, epoch, %code, "Kafka's log lost sequences of the pipeline's producer: it goes on in its next epoch");
        self.places.insert(pair, Place { epoch, sequence: 0 });
        Ok(())
    }

    /// Below it nothing of the pipeline is in an output partition that is not known. While some producer has no batch of this run in it, one
    /// of a run before may have come behind what was looked at, and before others of ours.
    fn looked_at(&self, partition: i32) -> i64 {
        let end = self.ends.get(&partition).copied().unwrap_or(0);
        let is_over = self.opened_at.elapsed() > LATE_MAX;
        if is_over || self.producers.keys().all(|source| self.proven.contains(&(*source, partition))) {
            return end;
        }
        self.opened.get(&partition).map_or(end, |opened| end.min(*opened))
    }

    /// Where the next start is to look from: what goes beyond a checkpoint's positions it has to find, for it is sent once more.
    fn settled(&self, partition: i32, ahead: &BTreeMap<i32, i64>) -> i64 {
        let end = self.looked_at(partition);
        ahead.get(&partition).map_or(end, |offset| end.min(*offset))
    }
}

impl Sink for KafkaSink {
    fn shape(&self, rows: RecordBatch, sources: &[u32], records: &[Record]) -> (Shaped, Vec<(u32, Fault)>) {
        let limit = self.limits.max_message_bytes;
        let batch = |rows: &[Row<'_>], reached: Reached| self.batch(0, 0, Place::default(), rows, reached);
        let too_large = |row: &Row<'_>| too_large(row, limit, batch).map(|size| (size, limit));
        Lines::shape(rows, sources, records, self.out.key.as_deref(), self.limits.compacts, too_large)
    }

    /// What is there already is skipped. All in-sync replicas have them when it returns.
    ///
    /// # Errors
    /// [`WriteError::Down`]: a part may be written. [`WriteError::Refused`]: the broker takes one record not even alone; what comes before
    /// it in its partition is there.
    fn write(
        &mut self,
        source: i32,
        shaped: &Shaped,
        sources: &[u32],
        records: &[Record],
        name: &CutName,
    ) -> Result<(), WriteError> {
        let down = |error: Error| WriteError::Down(error.to_string());
        let Some(producer) = self.producers.get(&source).copied() else {
            return Err(WriteError::Down(format!(
                "partition {source} of the source is new: the output is opened anew for it"
            )));
        };
        self.look_again().map_err(down)?;
        let count = self.partitions.max(1);
        let home = |row: &Row<'_>| {
            row.key.map_or_else(|| sticky(source, row.offset, count), |key| partition_for_key(key, count).0)
        };
        let rows = shaped.lines.spread(sources, records, home);
        let mut size_max = BATCH_SIZE.min(self.limits.max_message_bytes);
        for _ in 0..ATTEMPTS_MAX {
            let (batches, made) = self.batches(source, producer, &rows, name.last, size_max)?;
            let topic = self.out.topic.as_str().to_owned();
            let mut acked: Vec<Acked> = Vec::new();
            let sent = self.cluster.produce(&topic, &batches, |ack| acked.push(ack));
            let first = self.settle_acks(source, &made, &acked);
            self.prove(source, producer, &first).map_err(down)?;
            let Err(Stopped { partition, at, why }) = sent else { return Ok(()) };
            let stopped = made[&partition][at];
            match why {
                Why::Down(error) => return Err(down(error)),
                Why::Unfit(message) if stopped.count == 1 => {
                    return Err(WriteError::Refused { offset: stopped.offset, message });
                }
                Why::Unfit(_) => size_max = (stopped.size / 2).max(1),
                Why::Sequence(code) => self.recover(source, producer, partition, code).map_err(down)?,
            }
        }
        Err(WriteError::Down(format!("Kafka still refuses after {ATTEMPTS_MAX} attempts")))
    }

    fn note(&self, state: &mut OutputState, floor: &BTreeMap<i32, i64>) {
        let ahead = self.progress.ahead(floor);
        let place =
            |((source, partition), place): (&(i32, i32), &Place)| (*source, *partition, place.epoch, place.sequence);
        state.kafka = Some(KafkaState {
            topic: self.topic,
            partitions: self.cluster.partitions(self.out.topic.as_str()).max(self.partitions),
            producers: self.producers.clone(),
            ends: self.ends.keys().map(|partition| (*partition, self.settled(*partition, &ahead))).collect(),
            places: self.places.iter().map(place).collect(),
        });
    }

    fn cut(&mut self, state: &OutputState, floor: &BTreeMap<i32, i64>) {
        let Some(kafka) = &state.kafka else { return };
        self.partitions = kafka.partitions;
        self.progress.cut(floor);
        self.told.clone_from(&kafka.ends);
        self.has_news = false;
    }

    fn look_around(&mut self) {
        if self.ends_at.elapsed() < ENDS_AGE_MAX || !self.is_readable {
            return;
        }
        self.ends_at = Instant::now();
        // A cluster that does not answer says so to the next row.
        let topic = self.out.topic.as_str().to_owned();
        let Ok(ends) = self.cluster.offsets(&topic, END, false) else { return };
        self.ends.extend(&ends);
        let told = |partition: &i32| self.told.get(partition).copied().unwrap_or(0);
        let news: i64 = ends.keys().map(|partition| self.looked_at(*partition) - told(partition)).sum();
        self.has_news = news >= NEWS_MIN;
    }

    fn has_news(&self) -> bool {
        self.has_news
    }

    fn whole(&self) -> BTreeMap<i32, i64> {
        self.progress.whole()
    }

    fn furthest(&self) -> BTreeMap<i32, i64> {
        self.progress.furthest()
    }
}

/// How partitions are read back: whatever transactions say, ours are in none.
fn look(size: i32) -> FetchLimits {
    FetchLimits { partition_size: size, size, wait: SCAN_WAIT, is_committed: false }
}

/// Where a row without a key goes: by its source's offset alone, so that it goes there again.
fn sticky(source: i32, offset: i64, count: i32) -> i32 {
    (i64::from(source) + offset / STICKY_OFFSETS).rem_euclid(i64::from(count)) as i32
}

#[cfg(test)]
mod tests;
