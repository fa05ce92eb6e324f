//! What a pipeline writes into topics, rows and dead letters alike, exactly once.
//!
//! It builds its own batches with a producer id that no door lets through. A batch holds rows of one source partition; its last record
//! carries the header `inrush-source`: `PIPELINE TOPIC PARTITION NEXT` (two ids, two numbers), which says that this output partition has
//! everything of the source partition below `NEXT`. A record whose rows fill more than one batch adds a fifth word: so many rows of the
//! record `NEXT` are there too. One batch is whole or not there, by its CRC.
//! A start looks at the headers behind the ends of the last checkpoint and skips what is there. Sequences go on from there too, so a
//! batch of a run that was given up and comes late is refused or known, never a second one.

use super::super::checkpoint::{End, TopicState, new_producer};
use super::super::hooks::{Hooks, Step};
use crate::record::{
    Batch, BatchBuilder, DECODED_SIZE_MAX, NewRecord, Offset, PartitionId, Producer, Record, TopicName,
};
use crate::store::{Append, AppendError, Durability, NewTopic, ReadError, Store, Topic, TopicError};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use tracing::error;
use uuid::Uuid;

/// The header that says how far an output partition is; never copied from a source record.
pub(in crate::stream) const SOURCE_HEADER: &[u8] = b"inrush-source";
/// Uncompressed bytes of one batch.
pub(super) const BATCH_SIZE: usize = 512 << 10;
/// What is read at a time to see what is there already.
const SCAN_SIZE: usize = 4 << 20;
/// What a record adds to a batch beside its parts, at most.
const RECORD_OVERHEAD: usize = 64;
/// What batch header and source header take, at most.
pub(super) const BATCH_OVERHEAD: usize = 256;

/// A topic that a pipeline writes to.
pub(in crate::stream) struct Journal {
    topic: Arc<Topic>,
    source: SourceTopic,
    /// Producer id of its batches.
    producer: i64,
    /// Rows are spread over so many until the next cut.
    partitions: i32,
    /// By source partition: below it everything is there.
    floor: BTreeMap<i32, i64>,
    /// By source and output partition, where it is above the floor.
    held: BTreeMap<(i32, i32), Reached>,
    /// Of those, the offset of the batch that says so.
    said: BTreeMap<(i32, i32), i64>,
    sequences: BTreeMap<i32, i32>,
    /// Batches that were handed to the log, in order.
    waiting: Vec<Waiting>,
    hooks: Hooks,
}

/// A batch whose answer is not there yet.
struct Waiting {
    /// Source and output partition.
    pair: (i32, i32),
    reached: Reached,
    answer: tokio::sync::oneshot::Receiver<Result<crate::store::Appended, AppendError>>,
}

/// How far an output partition is with a source partition: it has everything below `next`, and so many rows of the record there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::stream) struct Reached {
    pub(super) next: i64,
    pub(super) rows: u32,
}

/// What a call says of the last record whose rows it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stream) enum Last {
    /// These are all its rows.
    Whole,
    /// Others follow, behind a cut.
    More,
}

/// Who writes, out of what.
#[derive(Clone, Copy, Debug)]
pub(in crate::stream) struct SourceTopic {
    pub(in crate::stream) pipeline: Uuid,
    pub(in crate::stream) topic: Uuid,
}

/// A record to be written.
pub(in crate::stream) struct Row<'a> {
    /// Of the source record.
    pub(in crate::stream) offset: i64,
    pub(in crate::stream) timestamp: i64,
    pub(in crate::stream) key: Option<&'a [u8]>,
    pub(in crate::stream) value: Option<&'a [u8]>,
    pub(in crate::stream) headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
}

/// Why a topic cannot be written to; the pipeline waits then, nothing is lost.
#[derive(Debug, thiserror::Error)]
pub(in crate::stream) enum Error {
    #[error("cannot make topic {0}: {1}")]
    Topic(TopicName, TopicError),
    #[error("cannot read topic {0}: {1}")]
    Read(TopicName, ReadError),
    #[error("cannot write to topic {0}: {1}")]
    Append(TopicName, AppendError),
    #[error("topic {0} has no partition {1}")]
    NoPartition(TopicName, i32),
}

/// The topic of that name, made with `partitions` and `config` if it is not there.
///
/// # Errors
/// [`Error::Topic`]
pub(in crate::stream) fn topic(
    store: &Store,
    runtime: &Handle,
    name: &TopicName,
    partitions: i32,
    config: Vec<(String, String)>,
) -> Result<Arc<Topic>, Error> {
    if let Some(topic) = store.topic(name.as_str()) {
        return Ok(topic);
    }
    let failed = |error| Error::Topic(name.clone(), error);
    match runtime.block_on(store.create_topic(NewTopic { name: name.clone(), partitions, config })) {
        Err(TopicError::Exists(_)) => {
            store.topic(name.as_str()).ok_or_else(|| failed(TopicError::Missing(name.clone())))
        }
        made => made.map_err(failed),
    }
}

/// How a topic stands for a pipeline that never wrote to it: everything in it is somebody else's.
pub(in crate::stream) fn untouched(topic: &Topic) -> TopicState {
    let end = |partition: &crate::store::Partition| (partition.id().0, End { offset: partition.tail().0, sequence: 0 });
    TopicState {
        topic: topic.id,
        partitions: topic.partition_count(),
        ends: topic.partitions().iter().map(end).collect(),
        producer: new_producer(),
    }
}

impl Journal {
    /// Looks at what stands behind `state`, which is of this topic; `floor` are the positions of the same checkpoint.
    ///
    /// # Errors
    /// [`Error::Read`]
    pub(in crate::stream) fn open(
        topic: Arc<Topic>,
        source: SourceTopic,
        state: &TopicState,
        floor: &BTreeMap<i32, i64>,
        hooks: Hooks,
    ) -> Result<Journal, Error> {
        let mut journal = Journal {
            topic,
            source,
            producer: state.producer,
            partitions: state.partitions,
            floor: floor.clone(),
            held: BTreeMap::new(),
            said: BTreeMap::new(),
            sequences: state.ends.iter().map(|(partition, end)| (*partition, end.sequence)).collect(),
            waiting: Vec::new(),
            hooks,
        };
        for partition in journal.topic.clone().partitions().iter() {
            let known = state.ends.get(&partition.id().0).map_or(0, |end| end.offset);
            if known > partition.tail().0 {
                error!(topic = %partition.topic(), partition = partition.id().0, from = partition.tail().0, to = known,
                    "records that the pipeline wrote left the end of the log");
            }
            let mut next = Offset(known.min(partition.tail().0)).max(partition.start());
            while next < partition.tail() {
                let slice = partition.read_blocking(next, SCAN_SIZE);
                let slice = slice.map_err(|error| Error::Read(partition.topic().clone(), error))?;
                let Some(last) = slice.batches.last() else { break };
                let end = last.next_offset();
                slice.batches.iter().for_each(|batch| journal.note(partition.id().0, batch));
                next = end;
            }
        }
        Ok(journal)
    }

    /// Remembers a batch that is there, if it is this pipeline's.
    fn note(&mut self, partition: i32, batch: &Batch) {
        let header = batch.header();
        let Some(producer) = header.producer.filter(|producer| producer.id == self.producer) else { return };
        // By its offsets: compaction takes records away, and their sequences stay used.
        let next = i64::from(producer.base_sequence) + header.offset_count();
        self.sequences.insert(partition, (next & i64::from(i32::MAX)) as i32);
        // Our own batches always decode: their CRC was checked.
        let records = batch.records(DECODED_SIZE_MAX).unwrap_or_default();
        let marked = records.last().and_then(|record| self.source.marked(record));
        if let Some((source, reached)) = marked {
            self.hold((source, partition), reached, batch.base_offset().0);
        }
    }

    /// An output partition is so far with a source partition, as the batch at this offset says.
    fn hold(&mut self, pair: (i32, i32), reached: Reached, offset: i64) {
        if self.held.get(&pair).is_none_or(|held| *held <= reached) {
            self.held.insert(pair, reached);
            self.said.insert(pair, offset);
        }
    }

    pub(in crate::stream) fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// How many partitions rows are spread over.
    pub(in crate::stream) fn partitions(&self) -> i32 {
        self.partitions
    }

    /// What is in this output partition already.
    fn reached(&self, source: i32, partition: i32) -> Reached {
        let floor = Reached { next: self.floor.get(&source).copied().unwrap_or(0), rows: 0 };
        self.held.get(&(source, partition)).copied().unwrap_or(floor).max(floor)
    }

    /// By source partition what comes behind the last record of which at least one output partition has all rows.
    pub(in crate::stream) fn whole(&self) -> BTreeMap<i32, i64> {
        self.greatest(|reached| reached.next)
    }

    /// By source partition what comes behind the last record of which at least one output partition has a row. Rows that time let go stand
    /// before a record that may not be there yet.
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

    /// The largest batch that the topic takes.
    fn batch_size_max(&self) -> usize {
        self.topic.config().max_message_bytes
    }

    /// The size of the smallest batch that holds a row, if the topic does not take it.
    pub(in crate::stream) fn too_large(&self, row: &Row<'_>) -> Option<usize> {
        let limit = self.batch_size_max();
        if bound(row) + BATCH_OVERHEAD <= limit {
            return None;
        }
        // It may still fit compressed.
        let reached = Reached { next: row.offset, rows: u32::MAX };
        let size = self.batch(0, 0, std::slice::from_ref(row), reached).map_or(usize::MAX, |batch| batch.size());
        (size > limit).then_some(size)
    }

    /// Writes rows of one source partition, ascending, by output partition; what is there already is skipped. All rows of a record come in
    /// one call, or behind a cut. Durable as the topic's class says when it returns.
    ///
    /// # Errors
    /// [`Error`]; a part may be written: open anew and go on from there.
    pub(in crate::stream) fn write(
        &mut self,
        source: i32,
        rows: BTreeMap<i32, Vec<Row<'_>>>,
        last: Last,
    ) -> Result<(), Error> {
        self.begin(source, rows, last)?;
        self.settle()
    }

    /// As [`Journal::write`], and waits for what was begun before, not for these rows: [`Journal::settle`] does, before a cut.
    ///
    /// # Errors
    /// As there, also of what was begun before.
    pub(in crate::stream) fn begin(
        &mut self,
        source: i32,
        rows: BTreeMap<i32, Vec<Row<'_>>>,
        last: Last,
    ) -> Result<(), Error> {
        self.settle()?;
        let name = self.topic.name.clone();
        let failed = |error| Error::Append(name.clone(), error);
        for (id, rows) in rows {
            let home = self.topic.partition(PartitionId(id)).ok_or_else(|| Error::NoPartition(name.clone(), id))?;
            let (mut rest, mut before) = missing(&rows, self.reached(source, id));
            while !rest.is_empty() {
                let (now, later) = rest.split_at(self.fitting(rest));
                let sequence = self.sequences.get(&id).copied().unwrap_or(0);
                let reached = reached_by(now, later, before, last);
                let batch = self
                    .batch(source, sequence, now, reached)
                    .ok_or_else(|| failed(AppendError::Invalid("rows could not be made a batch".to_owned())))?;
                let next_sequence = (i64::from(sequence) + now.len() as i64) & i64::from(i32::MAX);
                self.sequences.insert(id, next_sequence as i32);
                match home.try_append(Append { batch, lease: None, leader_epoch: -1 }) {
                    Ok(answer) => self.waiting.push(Waiting { pair: (source, id), reached, answer }),
                    // The queue is full: what is in it is answered first.
                    Err((append, AppendError::QueueFull)) => {
                        self.settle()?;
                        let appended = home.append_blocking(append).map_err(failed)?;
                        self.hold((source, id), reached, appended.base_offset.0);
                    }
                    Err((_, error)) => return Err(failed(error)),
                }
                (rest, before) = (later, reached.rows);
            }
        }
        Ok(())
    }

    /// Waits for what was begun, in order.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub(in crate::stream) fn settle(&mut self) -> Result<(), Error> {
        for Waiting { pair, reached, answer } in std::mem::take(&mut self.waiting) {
            let gone = || Err(AppendError::Unknown("the log writer is gone".to_owned()));
            let appended = answer
                .blocking_recv()
                .unwrap_or_else(|_| gone())
                .map_err(|error| Error::Append(self.topic.name.clone(), error))?;
            self.hold(pair, reached, appended.base_offset.0);
            self.hooks.at(Step::Appended);
        }
        Ok(())
    }

    /// How many of the first rows make one batch: at least one, and whole records if one fits.
    fn fitting(&self, rows: &[Row<'_>]) -> usize {
        let limit = BATCH_SIZE.min(self.batch_size_max());
        let mut size = BATCH_OVERHEAD;
        let fits = |row: &&Row<'_>| {
            size += bound(row);
            size <= limit
        };
        let count = rows.iter().take_while(fits).count().max(1);
        let ends_record = |count: &usize| *count == rows.len() || rows[*count].offset != rows[count - 1].offset;
        (1..=count).rev().find(ends_record).unwrap_or(count)
    }

    fn batch(&self, source: i32, sequence: i32, rows: &[Row<'_>], reached: Reached) -> Option<Batch> {
        let mut builder = BatchBuilder::new();
        builder.producer(Producer { id: self.producer, epoch: 0, base_sequence: sequence });
        let mark = self.source.mark(source, reached);
        for (at, row) in rows.iter().enumerate() {
            let is_last = at + 1 == rows.len();
            let mark = is_last.then_some((SOURCE_HEADER, Some(mark.as_bytes())));
            let headers: Vec<_> = row.headers.iter().copied().chain(mark).collect();
            builder.push(NewRecord { timestamp: row.timestamp, key: row.key, value: row.value, headers: &headers });
        }
        let config = self.topic.config();
        builder.build(config.own_codec()).and_then(|batch| config.in_codec(batch)).ok()
    }

    /// Whether everything written is durable in the sense of the log's checkpoint; at once for topics that sync before they answer.
    pub(in crate::stream) fn is_durable(&self) -> bool {
        self.topic.partitions().iter().all(|partition| is_durable(&self.topic, partition, partition.tail()))
    }

    /// For a checkpoint at `positions`. What a run before has written behind them has to be found again by the next start.
    pub(in crate::stream) fn state(&self, positions: &BTreeMap<i32, i64>) -> TopicState {
        let ahead = said_ahead(&self.held, &self.said, positions);
        let end = |partition: &crate::store::Partition| {
            let id = partition.id().0;
            let sequence = self.sequences.get(&id).copied().unwrap_or(0);
            let tail = partition.tail().0;
            (id, End { offset: ahead.get(&id).map_or(tail, |offset| tail.min(*offset)), sequence })
        };
        TopicState {
            topic: self.topic.id,
            partitions: self.topic.partition_count(),
            ends: self.topic.partitions().iter().map(end).collect(),
            producer: self.producer,
        }
    }

    /// After a checkpoint with [`Journal::state`] at `positions`.
    pub(in crate::stream) fn cut(&mut self, state: &TopicState, positions: &BTreeMap<i32, i64>) {
        self.partitions = state.partitions;
        self.floor.clone_from(positions);
        self.held.retain(|(source, _), reached| positions.get(source).is_none_or(|position| reached.next > *position));
    }
}

/// By output partition the first of the batches that say of a source partition more than `positions` do.
pub(super) fn said_ahead(
    held: &BTreeMap<(i32, i32), Reached>,
    said: &BTreeMap<(i32, i32), i64>,
    positions: &BTreeMap<i32, i64>,
) -> BTreeMap<i32, i64> {
    let mut first: BTreeMap<i32, i64> = BTreeMap::new();
    for ((source, partition), reached) in held {
        let floor = positions.get(source).map(|next| Reached { next: *next, rows: 0 });
        let Some(offset) = said.get(&(*source, *partition)).filter(|_| floor.is_none_or(|floor| *reached > floor))
        else {
            continue;
        };
        let known = first.entry(*partition).or_insert(*offset);
        *known = (*known).min(*offset);
    }
    first
}

/// Whether a crash of the machine cannot take away records below `offset`.
pub(in crate::stream) fn is_durable(topic: &Topic, partition: &crate::store::Partition, offset: Offset) -> bool {
    topic.config().durability == Durability::Fsync || partition.checkpointed() >= offset
}

impl SourceTopic {
    pub(super) fn mark(&self, partition: i32, reached: Reached) -> String {
        let Reached { next, rows } = reached;
        let mark = format!("{} {} {partition} {next}", self.pipeline, self.topic);
        if rows == 0 { mark } else { format!("{mark} {rows}") }
    }

    /// How far a record says its output partition has come with a source partition, if it speaks of this source.
    pub(super) fn marked(&self, record: &Record) -> Option<(i32, Reached)> {
        let (_, value) = record.headers.iter().rev().find(|(name, _)| name.as_ref() == SOURCE_HEADER)?;
        let text = std::str::from_utf8(value.as_deref()?).ok()?;
        let mut words = text.split(' ');
        let is_ours = words.next()?.parse() == Ok(self.pipeline) && words.next()?.parse() == Ok(self.topic);
        let (partition, next) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let rows = words.next().map_or(Ok(0), str::parse).ok()?;
        is_ours.then_some((partition, Reached { next, rows }))
    }
}

/// The rows that are not there yet, and how many rows of the first one's record are.
pub(super) fn missing<'r, 'a>(rows: &'r [Row<'a>], reached: Reached) -> (&'r [Row<'a>], u32) {
    let from = rows.partition_point(|row| row.offset < reached.next);
    let rest = &rows[from..];
    let of_record = rest.iter().take_while(|row| row.offset == reached.next).take(reached.rows as usize).count();
    (&rest[of_record..], of_record as u32)
}

/// How far an output partition is with `now`; `before` rows of the first one's record were there, `later` are the rows that follow.
pub(super) fn reached_by(now: &[Row<'_>], later: &[Row<'_>], before: u32, whole: Last) -> Reached {
    let Some(last) = now.last() else { return Reached { next: 0, rows: 0 } };
    let is_done = later.first().map_or(whole == Last::Whole, |row| row.offset != last.offset);
    if is_done {
        return Reached { next: last.offset + 1, rows: 0 };
    }
    let of_record = now.iter().rev().take_while(|row| row.offset == last.offset).count();
    let before = if of_record == now.len() { before } else { 0 };
    Reached { next: last.offset, rows: before + of_record as u32 }
}

pub(super) fn bound(row: &Row<'_>) -> usize {
    let headers: usize = row.headers.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len) + 10).sum();
    row.key.map_or(0, <[u8]>::len) + row.value.map_or(0, <[u8]>::len) + headers + RECORD_OVERHEAD
}

/// A record's headers without the mark of the pipeline that wrote it.
pub(in crate::stream) fn copied_headers(record: &Record) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let all = record.headers.iter().map(|(name, value)| (name.as_ref(), value.as_deref()));
    all.filter(|(name, _)| *name != SOURCE_HEADER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_by_its_own_pipeline_only() {
        let source = SourceTopic { pipeline: Uuid::new_v4(), topic: Uuid::new_v4() };
        let record = |value: &str| Record {
            offset: Offset(0),
            timestamp: 0,
            key: None,
            value: None,
            headers: vec![("inrush-source".into(), Some(value.to_owned().into()))],
        };
        for reached in [Reached { next: 77, rows: 0 }, Reached { next: 77, rows: 5 }] {
            assert_eq!(source.marked(&record(&source.mark(3, reached))), Some((3, reached)));
            let other = SourceTopic { pipeline: Uuid::new_v4(), ..source };
            assert_eq!(other.marked(&record(&source.mark(3, reached))), None);
        }
        assert_eq!(source.marked(&record("rubbish")), None);
    }

    #[test]
    fn rows_of_one_record_may_end_one_batch_and_begin_the_next() {
        let row = |offset| Row { offset, timestamp: 0, key: None, value: None, headers: Vec::new() };
        let rows: Vec<Row<'_>> = [4, 5, 5, 5, 5, 6].map(row).into();
        // However they are cut, and whenever that is taken up again, each row is written once.
        for cut in 1..rows.len() {
            let reached = reached_by(&rows[..cut], &rows[cut..], 0, Last::Whole);
            let (rest, before) = missing(&rows, reached);
            assert_eq!((rest.len(), before), (rows.len() - cut, reached.rows), "cut at {cut}");
            for second in 1..rest.len() {
                let reached = reached_by(&rest[..second], &rest[second..], before, Last::Whole);
                assert_eq!(missing(&rows, reached).0.len(), rest.len() - second, "cut at {cut} and {second} more");
            }
        }
        assert_eq!(reached_by(&rows, &[], 0, Last::Whole), Reached { next: 7, rows: 0 });
        assert_eq!(reached_by(&rows, &[], 0, Last::More), Reached { next: 6, rows: 1 });
    }
}
