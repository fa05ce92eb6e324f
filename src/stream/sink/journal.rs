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
pub(in crate::stream) use super::reached::{Last, SourceTopic};
use super::reached::{Progress, Reached, missing, reached_by};
use super::row::{self, BATCH_SIZE, filled, fitting, next_sequence};
pub(in crate::stream) use super::row::{Row, copied_headers};
use crate::record::{Batch, Offset, PartitionId, Producer, TopicName};
use crate::store::{Append, AppendError, Durability, NewTopic, ReadError, Store, Topic, TopicError};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use tracing::error;

/// What is read at a time to see what is there already.
const SCAN_SIZE: usize = 4 << 20;
/// A topic that a pipeline writes to.
pub(in crate::stream) struct Journal {
    topic: Arc<Topic>,
    source: SourceTopic,
    /// Producer id of its batches.
    producer: i64,
    /// Rows are spread over so many until the next cut.
    partitions: i32,
    progress: Progress,
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
            progress: Progress::new(floor),
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
        self.sequences.insert(partition, next_sequence(producer.base_sequence, header.offset_count()));
        if let Some((source, reached)) = self.source.marked(batch) {
            self.progress.write((source, partition), reached, batch.base_offset().0);
        }
    }

    pub(in crate::stream) fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// How many partitions rows are spread over.
    pub(in crate::stream) fn partitions(&self) -> i32 {
        self.partitions
    }

    /// What is there, of rows that no checkpoint tells of.
    pub(in crate::stream) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The largest batch that the topic takes.
    fn batch_size_max(&self) -> usize {
        self.topic.config().max_message_bytes
    }

    /// The size of the smallest batch that holds a row, if the topic does not take it.
    pub(in crate::stream) fn too_large(&self, row: &Row<'_>) -> Option<usize> {
        row::too_large(row, self.batch_size_max(), |rows, reached| self.batch(0, 0, rows, reached))
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
            let (mut rest, mut before) = missing(&rows, self.progress.reached(source, id));
            while !rest.is_empty() {
                let (now, later) = rest.split_at(fitting(rest, BATCH_SIZE.min(self.batch_size_max())));
                let sequence = self.sequences.get(&id).copied().unwrap_or(0);
                let reached = reached_by(now, later, before, last);
                let batch = self
                    .batch(source, sequence, now, reached)
                    .ok_or_else(|| failed(AppendError::Invalid("rows could not be made a batch".to_owned())))?;
                self.sequences.insert(id, next_sequence(sequence, now.len() as i64));
                match home.try_append(Append { batch, lease: None, leader_epoch: -1 }) {
                    Ok(answer) => self.waiting.push(Waiting { pair: (source, id), reached, answer }),
                    // The queue is full: what is in it is answered first.
                    Err((append, AppendError::QueueFull)) => {
                        self.settle()?;
                        let appended = home.append_blocking(append).map_err(failed)?;
                        self.progress.write((source, id), reached, appended.base_offset.0);
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
            self.progress.write(pair, reached, appended.base_offset.0);
            self.hooks.at(Step::Appended);
        }
        Ok(())
    }

    fn batch(&self, source: i32, sequence: i32, rows: &[Row<'_>], reached: Reached) -> Option<Batch> {
        let producer = Producer { id: self.producer, epoch: 0, base_sequence: sequence };
        let builder = filled(producer, rows, &self.source.mark(source, reached));
        let config = self.topic.config();
        builder.build(config.own_codec()).and_then(|batch| config.in_codec(batch)).ok()
    }

    /// Whether everything written is durable in the sense of the log's checkpoint; at once for topics that sync before they answer.
    pub(in crate::stream) fn is_durable(&self) -> bool {
        self.topic.partitions().iter().all(|partition| is_durable(&self.topic, partition, partition.tail()))
    }

    /// For a checkpoint at `positions`. What a run before has written behind them has to be found again by the next start.
    pub(in crate::stream) fn state(&self, positions: &BTreeMap<i32, i64>) -> TopicState {
        let ahead = self.progress.ahead(positions);
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
        self.progress.cut(positions);
    }
}

/// Whether a crash of the machine cannot take away records below `offset`.
pub(in crate::stream) fn is_durable(topic: &Topic, partition: &crate::store::Partition, offset: Offset) -> bool {
    topic.config().durability == Durability::Fsync || partition.checkpointed() >= offset
}
