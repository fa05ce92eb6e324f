//! Letters sent to another topic as the records that they were: every reader of it gets them.

use super::{Chosen, Error, Letter, Letters, Offsets, before_failing, is_in};
use crate::record::{BatchBuilder, NewRecord, PartitionId, Record, partition_for_key};
use crate::store::{Append, Topic};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Letters between two notes of what is handled: so many may come twice if the daemon is killed meanwhile.
const CHUNK: usize = 500;
/// Their bytes; one is always allowed.
const CHUNK_SIZE: usize = 512 << 10;

/// How many were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Sent {
    pub letters: u64,
}

impl Letters {
    /// Sends the chosen letters to a topic, without what failing added to their headers: to the partition of their key, or else of their
    /// own number. They are handled then; a kill of the daemon may send the last [`CHUNK`] again.
    ///
    /// # Errors
    /// [`Error`]; what was sent before it is sent, and handled.
    pub fn send_to(&self, topic: &Topic, chosen: &Chosen, to: &Topic) -> Result<Sent, Error> {
        let mut sent = Sent::default();
        for (partition, offsets) in &chosen.offsets {
            let (Some(first), Some(end)) = (offsets.first(), offsets.end()) else { continue };
            let filter = super::Filter {
                partition: Some(*partition),
                from: Some(first),
                to: Some(end),
                ..super::Filter::default()
            };
            let (mut chunk, mut size, mut failed) = (Vec::new(), 0, None);
            let mut flush = |chunk: &mut Vec<Record>, size: &mut usize| {
                *size = 0;
                self.send_chunk(topic, *partition, &std::mem::take(chunk), to, &mut sent)
            };
            self.scan(topic, &filter, |letter: &Letter<'_>| {
                if !is_in(&chosen.offsets, *partition, letter.record.offset.0) {
                    return ControlFlow::Continue(());
                }
                size += letter.record.value.as_ref().map_or(0, |value| value.len());
                chunk.push(before_failing(letter.record, None));
                if chunk.len() < CHUNK && size < CHUNK_SIZE {
                    return ControlFlow::Continue(());
                }
                match flush(&mut chunk, &mut size) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        failed = Some(error);
                        ControlFlow::Break(())
                    }
                }
            })?;
            match failed {
                Some(error) => return Err(error),
                None => flush(&mut chunk, &mut size)?,
            }
        }
        Ok(sent)
    }

    fn send_chunk(
        &self,
        topic: &Topic,
        partition: i32,
        records: &[Record],
        to: &Topic,
        sent: &mut Sent,
    ) -> Result<(), Error> {
        let count = to.partition_count().max(1);
        let mut homes: BTreeMap<i32, Vec<&Record>> = BTreeMap::new();
        for record in records {
            let home = record.key.as_deref().map_or(partition % count, |key| partition_for_key(key, count).0);
            homes.entry(home).or_default().push(record);
        }
        for (home, records) in homes {
            let fails = |reason: String| Error::Send { topic: to.name.clone(), reason, sent: sent.letters };
            let home = to.partition(PartitionId(home)).ok_or_else(|| fails(format!("it has no partition {home}")))?;
            let mut builder = BatchBuilder::new();
            for record in &records {
                let headers: Vec<(&[u8], Option<&[u8]>)> =
                    record.headers.iter().map(|(name, value)| (name.as_ref(), value.as_deref())).collect();
                builder.push(NewRecord {
                    timestamp: record.timestamp,
                    key: record.key.as_deref(),
                    value: record.value.as_deref(),
                    headers: &headers,
                });
            }
            let config = to.config();
            let batch = builder.build(config.own_codec()).and_then(|batch| config.in_codec(batch));
            let batch = batch.map_err(|error| fails(error.to_string()))?;
            home.append_blocking(Append { batch, lease: None, leader_epoch: -1 })
                .map_err(|error| fails(error.to_string()))?;
            let mut done = Offsets::new();
            let own = done.entry(partition).or_default();
            records.iter().for_each(|record| own.insert(record.offset.0));
            self.handle(topic, &done)?;
            sent.letters += records.len() as u64;
        }
        Ok(())
    }
}
