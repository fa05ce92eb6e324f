//! Rows to a topic of a Kafka cluster elsewhere, as JSON objects, once, as far as that cluster lets itself be read back.
//!
//! As in a [`super::journal::Journal`] the last record of each batch says in the header `inrush-source` how far its partition has come with
//! a source partition, and a start looks behind the ends of the last checkpoint. What differs: a request of a process that died may come
//! after that look. So each source partition has a producer of its own, kept in the checkpoint: the sequence of a row is then its number
//! among the rows of that source partition in that output partition, and whichever of two runs is first, the broker drops the same rows
//! of the other, or says that sequences do not follow, and the partition is looked at once more.

use super::super::checkpoint::KafkaState;
use super::super::closing::WINDOWS;
use super::super::fault::Fault;
use super::super::hooks::{Hooks, Step};
use super::super::life::Life;
use super::super::spec::KafkaOutput;
use super::WriteError;
use super::journal::{
    BATCH_OVERHEAD, BATCH_SIZE, Last, Reached, Row, SOURCE_HEADER, SourceTopic, bound, missing, reached_by, said_ahead,
};
use super::topic::Lines;
use crate::kafka::{Acked, Cluster, END, Error, Pulse, START, Stopped, TopicLimits, Why};
use crate::record::{Batch, BatchBuilder, DECODED_SIZE_MAX, NewRecord, Producer, Record, partition_for_key};
use arrow::record_batch::RecordBatch;
use kafka_protocol::ResponseError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tracing::{error, warn};
use uuid::Uuid;

/// What is read at a time to see what is there already.
const SCAN_SIZE: i32 = 4 << 20;
/// A broker that has nothing to show below its end is asked so often.
const SCAN_ATTEMPTS: usize = 20;
const SCAN_WAIT: Duration = Duration::from_millis(250);
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
    /// By source partition: below it everything is there.
    floor: BTreeMap<i32, i64>,
    /// By source and output partition, where it is above the floor.
    held: BTreeMap<(i32, i32), Reached>,
    /// Of those, the offset of the batch that says so.
    said: BTreeMap<(i32, i32), i64>,
    /// By source and output partition.
    places: BTreeMap<(i32, i32), Place>,
    /// By output partition what comes behind the last batch of ours that was seen there.
    ends: BTreeMap<i32, i64>,
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
            floor: floor.clone(),
            held: BTreeMap::new(),
            said: BTreeMap::new(),
            places: state.places.iter().map(place).collect(),
            ends: state.ends.clone(),
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
                    "records that the pipeline wrote left the end of Kafka's log"
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
        }
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
        let topic = &self.out.topic;
        let why = if !self.is_readable {
            "it may not be read (no READ right on it), so nobody sees what is there"
        } else if self.limits.compacts {
            "it is compacted, which may take away the records that say what is there"
        } else if self.limits.retention_ms.is_some_and(|ms| ms < RETENTION_MS_MIN) {
            "its retention.ms is under an hour, and what is there may be gone when the pipeline looks"
        } else {
            return None;
        };
        Some(format!("kafka {topic}: rows may be there twice after a crash (at least once): {why}"))
    }

    /// Reads a partition from `from` to `end`, and remembers what is ours.
    fn scan(&mut self, partition: i32, from: i64, end: i64) -> Result<(), Error> {
        let topic = self.out.topic.as_str().to_owned();
        let (mut next, mut attempts) = (from, 0);
        while next < end && attempts < SCAN_ATTEMPTS {
            let fetched = self.cluster.fetch(&topic, partition, next, SCAN_SIZE, SCAN_WAIT, false)?;
            attempts = if fetched.batches.is_empty() { attempts + 1 } else { 0 };
            for batch in &fetched.batches {
                self.note(partition, batch);
                next = next.max(batch.next_offset().0);
            }
        }
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
        self.ends.insert(partition, batch.next_offset().0);
        if let Some((source, reached)) = self.marked(batch) {
            let pair = (source, partition);
            if self.held.get(&pair).is_none_or(|held| *held <= reached) {
                self.held.insert(pair, reached);
                self.said.insert(pair, batch.base_offset().0);
            }
        }
    }

    fn marked(&self, batch: &Batch) -> Option<(i32, Reached)> {
        let records = batch.records(DECODED_SIZE_MAX).unwrap_or_default();
        records.last().and_then(|record| self.source.marked(record))
    }

    /// As [`super::topic::TopicSink::shape`].
    pub(in crate::stream) fn shape(
        &self,
        rows: &RecordBatch,
        sources: &[u32],
        records: &[Record],
    ) -> (Lines, Vec<(u32, Fault)>) {
        let limit = self.limits.max_message_bytes;
        let too_large = |row: &Row<'_>| {
            if bound(row) + BATCH_OVERHEAD <= limit {
                return None;
            }
            // It may still fit compressed.
            let reached = Reached { next: row.offset, rows: u32::MAX };
            let batch = self.batch(0, 0, Place::default(), std::slice::from_ref(row), reached);
            let size = batch.map_or(usize::MAX, |batch| batch.size());
            (size > limit).then_some((size, limit))
        };
        Lines::shape(rows, sources, records, self.out.key.as_deref(), self.limits.compacts, too_large)
    }

    /// Writes rows of one source partition; what is there already is skipped. All in-sync replicas have them when it returns.
    ///
    /// # Errors
    /// [`WriteError::Down`]: a part may be written. [`WriteError::Refused`]: the broker takes one record not even alone; what comes before
    /// it in its partition is there.
    pub(in crate::stream) fn write(
        &mut self,
        source: i32,
        shaped: &Lines,
        sources: &[u32],
        records: &[Record],
        is_mark: bool,
    ) -> Result<(), WriteError> {
        let down = |error: Error| WriteError::Down(error.to_string());
        let Some(producer) = self.producers.get(&source).copied() else {
            return Err(WriteError::Down(format!(
                "partition {source} of the source is new: the output is opened anew for it"
            )));
        };
        self.look_again().map_err(down)?;
        let count = self.partitions.max(1);
        let mut rows: BTreeMap<i32, Vec<Row<'_>>> = BTreeMap::new();
        for (at, source_at) in sources.iter().enumerate() {
            let Some(row) = shaped.row(at, &records[*source_at as usize]) else { continue };
            let home = row.key.map_or_else(|| sticky(source, row.offset, count), |key| partition_for_key(key, count).0);
            rows.entry(home).or_default().push(row);
        }
        let last = if is_mark { Last::More } else { Last::Whole };
        let mut size_max = BATCH_SIZE.min(self.limits.max_message_bytes);
        for _ in 0..ATTEMPTS_MAX {
            let (batches, made) = self.batches(source, producer, &rows, last, size_max);
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
    ) -> (BTreeMap<i32, Vec<Batch>>, BTreeMap<i32, Vec<Made>>) {
        let (mut batches, mut made): (BTreeMap<i32, Vec<Batch>>, BTreeMap<i32, Vec<Made>>) = Default::default();
        for (id, rows) in rows {
            let (mut rest, mut before) = missing(rows, self.reached(source, *id));
            let mut place = self.places.get(&(source, *id)).copied().unwrap_or_default();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(fitting(rest, size_max));
                let reached = reached_by(now, later, before, last);
                let Some(batch) = self.batch(source, producer, place, now, reached) else { break };
                batches.entry(*id).or_default().push(batch);
                let size = now.iter().map(bound).sum();
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
        (batches, made)
    }

    fn batch(&self, source: i32, producer: i64, place: Place, rows: &[Row<'_>], reached: Reached) -> Option<Batch> {
        let mut builder = BatchBuilder::new();
        builder.producer(Producer { id: producer, epoch: place.epoch, base_sequence: place.sequence });
        let mark = self.source.mark(source, reached);
        for (at, row) in rows.iter().enumerate() {
            let is_last = at + 1 == rows.len();
            let mark = is_last.then_some((SOURCE_HEADER, Some(mark.as_bytes())));
            let headers: Vec<_> = row.headers.iter().copied().chain(mark).collect();
            builder.push(NewRecord { timestamp: row.timestamp, key: row.key, value: row.value, headers: &headers });
        }
        builder.build(self.out.codec).ok()
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
            self.held.insert(pair, this.reached);
            // Of a batch that was there already a broker may not say where.
            let known = self.ends.get(&ack.partition).copied().unwrap_or(0);
            self.said.insert(pair, if ack.base_offset < 0 { known } else { ack.base_offset });
            let end = self.ends.entry(ack.partition).or_insert(0);
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
            let fetched = self.cluster.fetch(&topic, partition, ack.base_offset.max(0), 1, SCAN_WAIT, false)?;
            let wanted = Producer { id: producer, epoch: made.place.epoch, base_sequence: made.place.sequence };
            let is_ours = fetched.batches.first().is_some_and(|batch| {
                batch.header().producer == Some(wanted)
                    && batch.header().offset_count() == made.count as i64
                    && self.marked(batch) == Some((source, made.reached))
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
            let from = self.ends.get(&partition).copied().unwrap_or(0).min(end).max(start);
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

    /// What is in this output partition already.
    fn reached(&self, source: i32, partition: i32) -> Reached {
        let floor = Reached { next: self.floor.get(&source).copied().unwrap_or(0), rows: 0 };
        self.held.get(&(source, partition)).copied().unwrap_or(floor).max(floor)
    }

    /// As [`super::journal::Journal::whole`].
    pub(in crate::stream) fn whole(&self) -> BTreeMap<i32, i64> {
        self.greatest(|reached| reached.next)
    }

    /// As [`super::journal::Journal::furthest`].
    pub(in crate::stream) fn furthest(&self) -> BTreeMap<i32, i64> {
        self.greatest(|reached| reached.next + i64::from(reached.rows > 0))
    }

    fn greatest(&self, end: fn(&Reached) -> i64) -> BTreeMap<i32, i64> {
        let mut greatest: BTreeMap<i32, i64> = BTreeMap::new();
        for ((source, _), reached) in &self.held {
            let known = greatest.entry(*source).or_insert(end(reached));
            *known = end(reached).max(*known);
        }
        greatest
    }

    /// For a checkpoint at `positions`, as [`super::journal::Journal::state`].
    pub(in crate::stream) fn state(&self, positions: &BTreeMap<i32, i64>) -> KafkaState {
        let mut ends = self.ends.clone();
        for (partition, offset) in said_ahead(&self.held, &self.said, positions) {
            ends.entry(partition).and_modify(|end| *end = (*end).min(offset));
        }
        let place =
            |((source, partition), place): (&(i32, i32), &Place)| (*source, *partition, place.epoch, place.sequence);
        KafkaState {
            topic: self.topic,
            partitions: self.cluster.partitions(self.out.topic.as_str()).max(self.partitions),
            producers: self.producers.clone(),
            ends,
            places: self.places.iter().map(place).collect(),
        }
    }

    /// After a checkpoint with [`KafkaSink::state`] at `positions`.
    pub(in crate::stream) fn cut(&mut self, state: &KafkaState, positions: &BTreeMap<i32, i64>) {
        self.partitions = state.partitions;
        self.floor.clone_from(positions);
        self.held.retain(|(source, _), reached| positions.get(source).is_none_or(|position| reached.next > *position));
    }
}

/// Sequences wrap from 2^31−1 to 0.
fn next_sequence(sequence: i32, count: i64) -> i32 {
    ((i64::from(sequence) + count) & i64::from(i32::MAX)) as i32
}

/// Where a row without a key goes: by its source's offset alone, so that it goes there again.
fn sticky(source: i32, offset: i64, count: i32) -> i32 {
    (i64::from(source) + offset / STICKY_OFFSETS).rem_euclid(i64::from(count)) as i32
}

/// How many of the first rows make one batch: at least one, and whole records if one fits.
fn fitting(rows: &[Row<'_>], limit: usize) -> usize {
    let mut size = BATCH_OVERHEAD;
    let fits = |row: &&Row<'_>| {
        size += bound(row);
        size <= limit
    };
    let count = rows.iter().take_while(fits).count().max(1);
    let ends_record = |count: &usize| *count == rows.len() || rows[*count].offset != rows[count - 1].offset;
    (1..=count).rev().find(ends_record).unwrap_or(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_a_key_stay_for_a_while_and_are_spread_alike_again() {
        assert_eq!((sticky(1, 0, 3), sticky(1, STICKY_OFFSETS - 1, 3), sticky(1, STICKY_OFFSETS, 3)), (1, 1, 2));
        let used: BTreeSet<i32> = (0..12).map(|n| sticky(0, n * STICKY_OFFSETS, 4)).collect();
        assert_eq!(used.len(), 4);
    }

    #[test]
    fn rows_of_windows_have_a_producer_of_their_own() {
        assert!(sources(2, false).eq([0, 1]) && sources(2, true).eq([0, 1, WINDOWS]));
    }

    #[test]
    fn sequences_wrap_as_kafkas() {
        assert_eq!((next_sequence(i32::MAX, 1), next_sequence(i32::MAX - 1, 3), next_sequence(7, 5)), (0, 1, 12));
    }
}
