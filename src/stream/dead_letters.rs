//! What a pipeline cannot make a row of goes here: key, value and headers as they came, with the reason in headers that Spring's
//! tools know. Durable before a checkpoint passes it, and not sent twice: a start looks what is there already.

use super::fault::Fault;
use crate::record::{BatchBuilder, Codec, DECODED_SIZE_MAX, NewRecord, Offset, PartitionId, Record, TopicName};
use crate::store::{Append, AppendError, NewTopic, ReadError, Store, Topic, TopicError};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Handle;

const PIPELINE: &[u8] = b"inrush-dlt-pipeline";
const ORIGINAL_OFFSET: &[u8] = b"kafka_dlt-original-offset";
const ORIGINAL_TOPIC: &[u8] = b"kafka_dlt-original-topic";
const ORIGINAL_PARTITION: &[u8] = b"kafka_dlt-original-partition";
/// Uncompressed bytes of one batch of dead letters.
const BATCH_SIZE: usize = 512 << 10;
/// What is read at a time to see what is there already.
const SCAN_SIZE: usize = 4 << 20;

/// The dead letter topic of one pipeline.
pub(super) struct DeadLetters {
    topic: Arc<Topic>,
    source: TopicName,
    pipeline: String,
    /// By source partition: letters of records up to this offset are there.
    sent: BTreeMap<i32, i64>,
}

/// Why dead letters cannot be kept; the pipeline waits then, nothing is lost.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot make the dead letter topic: {0}")]
    Topic(#[from] TopicError),
    #[error("cannot read the dead letter topic: {0}")]
    Read(#[from] ReadError),
    #[error("cannot write to the dead letter topic: {0}")]
    Append(#[from] AppendError),
}

impl DeadLetters {
    /// Makes the topic if it is not there, and looks which letters newer than the checkpoint (`ends`) it holds.
    ///
    /// # Errors
    /// [`Error`]
    pub(super) fn open(
        store: &Store,
        runtime: &Handle,
        name: &TopicName,
        source: &Topic,
        pipeline: &str,
        ends: &BTreeMap<i32, i64>,
    ) -> Result<DeadLetters, Error> {
        let topic = match store.topic(name.as_str()) {
            Some(topic) => topic,
            None => {
                let size_max = source.config().max_message_bytes + (64 << 10);
                let config = vec![
                    ("retention.ms".to_owned(), "-1".to_owned()),
                    ("max.message.bytes".to_owned(), size_max.to_string()),
                ];
                let new = NewTopic { name: name.clone(), partitions: source.partition_count(), config };
                match runtime.block_on(store.create_topic(new)) {
                    Err(TopicError::Exists(_)) => {
                        store.topic(name.as_str()).ok_or(TopicError::Missing(name.clone()))?
                    }
                    made => made?,
                }
            }
        };
        let mut letters =
            DeadLetters { topic, source: source.name.clone(), pipeline: pipeline.to_owned(), sent: BTreeMap::new() };
        for partition in letters.topic.clone().partitions().iter() {
            let mut next = Offset(ends.get(&partition.id().0).copied().unwrap_or(0)).max(partition.start());
            while next < partition.tail() {
                let slice = partition.read_blocking(next, SCAN_SIZE)?;
                let Some(last) = slice.batches.last() else { break };
                let end = last.next_offset();
                for batch in &slice.batches {
                    // What cannot be decoded is no letter of ours.
                    let records = batch.records(DECODED_SIZE_MAX).unwrap_or_default();
                    records.iter().filter(|record| record.offset >= next).for_each(|record| letters.note(record));
                }
                next = end;
            }
        }
        Ok(letters)
    }

    /// Where a later start has to begin to look.
    pub(super) fn ends(&self) -> BTreeMap<i32, i64> {
        self.topic.partitions().iter().map(|partition| (partition.id().0, partition.tail().0)).collect()
    }

    /// Stores letters of records of one partition, in order; durable when it returns.
    ///
    /// # Errors
    /// [`Error`]
    pub(super) fn send(&mut self, partition: PartitionId, bad: &[(&Record, &Fault)]) -> Result<(), Error> {
        let sent = self.sent.get(&partition.0).copied().unwrap_or(-1);
        let mut rest = bad.iter().filter(|(record, _)| record.offset.0 > sent).peekable();
        while rest.peek().is_some() {
            let mut builder = BatchBuilder::new();
            let mut last = sent;
            while let Some((record, fault)) = rest.next_if(|_| builder.size() < BATCH_SIZE) {
                self.push(&mut builder, partition, record, fault);
                last = record.offset.0;
            }
            let Ok(batch) = builder.build(Codec::Zstd) else { break };
            let count = self.topic.partition_count();
            let home = PartitionId(partition.0 % count.max(1));
            let Some(home) = self.topic.partition(home) else { break };
            home.append_blocking(Append { batch, lease: None, leader_epoch: -1 })?;
            self.sent.insert(partition.0, last);
        }
        Ok(())
    }

    fn push(&self, builder: &mut BatchBuilder, partition: PartitionId, record: &Record, fault: &Fault) {
        let (offset, timestamp) = (record.offset.0.to_be_bytes(), record.timestamp.to_be_bytes());
        let number = partition.0.to_be_bytes();
        let column = fault.column.as_deref().unwrap_or_default();
        let output = self.pipeline.as_str();
        let ours: [(&[u8], &[u8]); 12] = [
            (ORIGINAL_TOPIC, self.source.as_str().as_bytes()),
            (ORIGINAL_PARTITION, &number),
            (ORIGINAL_OFFSET, &offset),
            (b"kafka_dlt-original-timestamp", &timestamp),
            (b"kafka_dlt-original-timestamp-type", b"CreateTime"),
            (b"kafka_dlt-exception-fqcn", fault.reason.exception().as_bytes()),
            (b"kafka_dlt-exception-message", fault.message.as_bytes()),
            (b"kafka_dlt-exception-stacktrace", b""),
            (PIPELINE, output.as_bytes()),
            (b"inrush-dlt-step", if fault.reason == super::fault::Reason::Expression { b"select" } else { b"columns" }),
            (b"inrush-dlt-column", column.as_bytes()),
            (b"inrush-dlt-reason", fault.reason.as_str().as_bytes()),
        ];
        let old = record.headers.iter().map(|(name, value)| (name.as_ref(), value.as_deref()));
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            old.chain(ours.iter().map(|(name, value)| (*name, Some(*value)))).collect();
        builder.push(NewRecord {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        });
    }

    /// Remembers a letter that is there, if it is this pipeline's.
    fn note(&mut self, record: &Record) {
        let last = |wanted: &[u8]| {
            let found = record.headers.iter().rev().find(|(name, _)| name.as_ref() == wanted);
            found.and_then(|(_, value)| value.as_deref())
        };
        let is_ours = last(PIPELINE) == Some(self.pipeline.as_bytes())
            && last(ORIGINAL_TOPIC) == Some(self.source.as_str().as_bytes());
        let partition = last(ORIGINAL_PARTITION).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
        let offset = last(ORIGINAL_OFFSET).and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
        if let (true, Some(partition), Some(offset)) = (is_ours, partition, offset) {
            let sent = self.sent.entry(partition).or_insert(-1);
            *sent = (*sent).max(offset);
        }
    }
}
