//! What a pipeline cannot make a row of goes here: key, value and headers as they came, with the reason in headers that Spring's
//! tools know. Durable before a checkpoint passes it, and not sent twice, by way of the [`Journal`].

use super::checkpoint::TopicState;
use super::fault::{Fault, Reason};
use super::hooks::Hooks;
use super::sink::journal::{self, Error, Journal, Last, Row, SourceTopic, copied_headers};
use super::source::Source;
use crate::record::{Record, TimestampType, TopicName};
use crate::store::{AppendError, MESSAGE_BYTES_MAX, Store, Topic};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use uuid::Uuid;

/// A letter has room for its headers on top of the largest record of the source.
const HEADERS_SIZE: usize = 64 << 10;
/// Headers that speak of the last failure only: a second pass replaces them. `kafka_dlt-original-*` is added to, the first is the origin.
const REPLACED: [&[u8]; 2] = [b"kafka_dlt-exception-", b"inrush-dlt-"];

/// The dead letter topic of one pipeline.
pub(super) struct DeadLetters {
    store: Store,
    runtime: Handle,
    source: Arc<Source>,
    pipeline: String,
    output: String,
    journal: Journal,
}

/// A record that failed.
#[derive(Clone, Copy)]
pub(super) struct Letter<'a> {
    pub(super) record: &'a Record,
    pub(super) fault: &'a Fault,
    pub(super) timestamp_type: TimestampType,
    /// Which outputs lack it, if those are not all that its sender speaks for.
    pub(super) outputs: Option<&'a str>,
}

/// What letters say of the pipeline that sends them.
pub(super) struct Sender<'a> {
    pub(super) pipeline: &'a str,
    /// As `topic people` or `parquet clicks`; several of them if the record came to none.
    pub(super) output: String,
    pub(super) then: &'a TopicName,
}

/// Where letters of a checkpoint stand.
pub(super) struct Start<'a> {
    pub(super) pipeline: Uuid,
    pub(super) state: Option<&'a TopicState>,
    /// By source partition: below it no letter is missing.
    pub(super) positions: &'a BTreeMap<i32, i64>,
}

/// The topic, made or grown so that it has a partition for each of the source's and room for its records.
///
/// # Errors
/// [`Error::Topic`]
pub(super) fn topic(store: &Store, runtime: &Handle, name: &TopicName, source: &Source) -> Result<Arc<Topic>, Error> {
    let size_max = (source.max_message_bytes() + HEADERS_SIZE).min(MESSAGE_BYTES_MAX);
    let config =
        vec![("retention.ms".to_owned(), "-1".to_owned()), ("max.message.bytes".to_owned(), size_max.to_string())];
    let topic = journal::topic(store, runtime, name, source.partition_count(), config)?;
    if topic.id == source.id {
        // Letters that are replayed fail into their own topic again: it would grow with each replay.
        return Ok(topic);
    }
    let failed = |error| Error::Topic(name.clone(), error);
    if topic.partition_count() < source.partition_count() {
        runtime.block_on(store.add_partitions(name, source.partition_count())).map_err(failed)?;
    }
    if topic.config().max_message_bytes < size_max {
        let room = vec![("max.message.bytes".to_owned(), Some(size_max.to_string()))];
        runtime.block_on(store.alter_topic(name, room)).map_err(failed)?;
    }
    Ok(topic)
}

impl DeadLetters {
    /// Looks which letters newer than `start` are there.
    ///
    /// # Errors
    /// [`Error`]
    pub(super) fn open(
        store: &Store,
        runtime: &Handle,
        source: &Arc<Source>,
        sender: Sender<'_>,
        start: Start<'_>,
        hooks: Hooks,
    ) -> Result<DeadLetters, Error> {
        let topic = topic(store, runtime, sender.then, source)?;
        let untouched = journal::untouched(&topic);
        let from = SourceTopic { pipeline: start.pipeline, topic: source.id };
        let journal = Journal::open(topic, from, start.state.unwrap_or(&untouched), start.positions, hooks)?;
        Ok(DeadLetters {
            store: store.clone(),
            runtime: runtime.clone(),
            source: source.clone(),
            pipeline: sender.pipeline.to_owned(),
            output: sender.output,
            journal,
        })
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// After a checkpoint with its state.
    pub(super) fn cut(&mut self, state: &TopicState, positions: &BTreeMap<i32, i64>) {
        self.journal.cut(state, positions);
    }

    /// Stores letters of records of one partition, ascending, at the same partition number; durable after [`DeadLetters::settle`]: a wait for
    /// the disk for each few letters would cost more than they do. `last` is as in [`Journal::write`].
    ///
    /// # Errors
    /// [`Error`]: to be opened anew.
    pub(super) fn send(&mut self, partition: i32, letters: &[Letter<'_>], last: Last) -> Result<(), Error> {
        if letters.is_empty() {
            return Ok(());
        }
        if self.journal.topic().partition_count() <= partition {
            topic(&self.store, &self.runtime, &self.journal.topic().name, &self.source)?;
        }
        let ours: Vec<Vec<(&'static [u8], Vec<u8>)>> =
            letters.iter().map(|letter| self.headers(partition, letter)).collect();
        let rows: Vec<Row<'_>> = letters.iter().zip(&ours).map(|(letter, ours)| self.row(letter, ours)).collect();
        if let Some(size) = rows.iter().find_map(|row| self.journal.too_large(row)) {
            // The source may have grown since; if not, somebody has to give the topic more room.
            let name = self.journal.topic().name.clone();
            topic(&self.store, &self.runtime, &name, &self.source)?;
            let limit = self.journal.topic().config().max_message_bytes;
            if size > limit {
                return Err(Error::Append(name, AppendError::TooLarge { size, limit }));
            }
        }
        // Rows of windows come of no partition.
        self.journal.begin(partition, BTreeMap::from([(partition.max(0), rows)]), last)
    }

    /// Waits until all letters are durable; before a checkpoint passes them.
    ///
    /// # Errors
    /// [`Error`]: to be opened anew.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        self.journal.settle()
    }

    fn row<'a>(&self, letter: &Letter<'a>, ours: &'a [(&'static [u8], Vec<u8>)]) -> Row<'a> {
        let is_kept = |name: &[u8]| !REPLACED.iter().any(|prefix| name.starts_with(prefix));
        let old = copied_headers(letter.record).filter(|(name, _)| is_kept(name));
        Row {
            offset: letter.record.offset.0,
            timestamp: letter.record.timestamp,
            key: letter.record.key.as_deref(),
            value: letter.record.value.as_deref(),
            headers: old.chain(ours.iter().map(|(name, value)| (*name, Some(value.as_slice())))).collect(),
        }
    }

    /// The headers that Spring's and Kafka's tools read, and ours.
    fn headers(&self, partition: i32, letter: &Letter<'_>) -> Vec<(&'static [u8], Vec<u8>)> {
        let Letter { record, fault, timestamp_type, outputs } = letter;
        let kind = match timestamp_type {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        };
        let mut headers: Vec<(&'static [u8], Vec<u8>)> = vec![
            (b"kafka_dlt-original-topic", self.source.name.as_str().into()),
            (b"kafka_dlt-original-partition", partition.to_be_bytes().into()),
            (b"kafka_dlt-original-offset", record.offset.0.to_be_bytes().into()),
            (b"kafka_dlt-original-timestamp", record.timestamp.to_be_bytes().into()),
            (b"kafka_dlt-original-timestamp-type", kind.into()),
        ];
        if fault.reason == Reason::SinkRefused {
            // As Spring: only a failure of the listener itself, which its consumer group names.
            headers.push((b"kafka_dlt-original-consumer-group", self.pipeline.as_str().into()));
        }
        headers.extend([
            (&b"kafka_dlt-exception-fqcn"[..], fault.reason.exception().into()),
            (b"kafka_dlt-exception-message", fault.message.as_bytes().into()),
            (b"kafka_dlt-exception-stacktrace", Vec::new()),
            (b"inrush-dlt-pipeline", self.pipeline.as_str().into()),
            (b"inrush-dlt-step", fault.reason.step().into()),
            (b"inrush-dlt-output", outputs.unwrap_or(&self.output).into()),
            (b"inrush-dlt-column", fault.column.as_deref().unwrap_or_default().into()),
            (b"inrush-dlt-reason", fault.reason.as_str().into()),
        ]);
        headers
    }
}
