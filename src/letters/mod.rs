//! Dead letters of the log, as people ask for them: which there are and why, which are handled, sent on or dropped.
//!
//! Reads the topics that pipelines and the HTTP door write letters to, and keeps which of them are handled. Knows no SQL and no pipeline
//! file: feeding letters to the pipeline that failed on them is `stream/`'s.

mod filter;
mod handled;
mod letter;
mod ranges;
mod report;
mod resend;
#[cfg(test)]
pub(crate) mod tests;
mod turn;

pub use filter::Filter;
pub use letter::{Letter, Origin};
pub use ranges::Ranges;
pub use report::{Group, Page, Place};
pub use resend::Sent;
pub use turn::{Turn, replay_folder, replay_job, replays_begun};

use crate::record::{DECODED_SIZE_MAX, Offset, PartitionId, Record, TopicName};
use crate::store::{ReadError, Store, Topic};
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of log that one read takes.
const READ_SIZE: usize = 4 << 20;

/// Why letters cannot be looked at or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no topic {0}; inrush dlt list shows those with dead letters")]
    NoTopic(String),
    #[error(
        "there is no topic {0} to send them to; inrush topic list shows those that there are, inrush topic create makes one"
    )]
    NoTarget(String),
    #[error("{name} is neither a dead letter topic nor a pipeline with dead letters; there are {known}")]
    Unknown { name: String, known: String },
    #[error("cannot read {topic}/{partition}: {error}")]
    Read { topic: TopicName, partition: PartitionId, error: ReadError },
    #[error("cannot delete from {topic}/{partition}: {error}")]
    Delete { topic: TopicName, partition: PartitionId, error: ReadError },
    #[error("cannot send to {topic}: {reason}; {sent} letters were sent before it, and are handled")]
    Send { topic: TopicName, reason: String, sent: u64 },
    #[error("letters of {0} are being chosen and sent just now; ask again when that is done")]
    Busy(TopicName),
    #[error("cannot keep which letters are handled: {0}")]
    Handled(#[from] io::Error),
    #[error("the letters chosen lie in more than {limit} pieces; choose by --partition, --from and --to")]
    TooScattered { limit: usize },
}

/// By partition, offsets.
pub type Offsets = BTreeMap<i32, Ranges>;

/// The dead letters of a data folder.
#[derive(Clone)]
pub struct Letters {
    store: Store,
    /// The data folder; what is handled stands below it.
    data: PathBuf,
}

/// What was chosen of a topic.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    pub offsets: Offsets,
    pub count: u64,
    /// Left, since they are being replayed.
    pub replayed: u64,
}

/// By partition, where its letters ended when somebody looked.
pub type Ends = BTreeMap<i32, i64>;

/// What is met in a topic.
enum Seen<'a> {
    Letter(Letter<'a>),
    /// A batch that cannot be decoded.
    Undecodable,
}

/// How many letters a drop takes away, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Dropped {
    /// Open ones, deleted from the log, since all before them go too.
    pub deleted: u64,
    /// Kept in the log and noted as handled, since others stand before them.
    pub hidden: u64,
    /// Handled before, and deleted with the others.
    pub handled: u64,
    /// Chosen, and left: they are being replayed.
    pub replayed: u64,
}

impl Letters {
    pub fn new(store: Store, data: PathBuf) -> Letters {
        Letters { store, data }
    }

    /// Topics that hold letters: those named `-dlt`, and those of `others` that there are.
    pub fn topics(&self, others: &[String]) -> Vec<Arc<Topic>> {
        let is_one = |topic: &Arc<Topic>| {
            topic.name.is_dead_letters() || others.iter().any(|other| other == topic.name.as_str())
        };
        let mut topics: Vec<_> = self.store.topics().into_iter().filter(is_one).collect();
        topics.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        topics
    }

    /// A topic by its name, or by that of its source.
    ///
    /// # Errors
    /// [`Error::NoTopic`]
    pub fn topic(&self, name: &str) -> Result<Arc<Topic>, Error> {
        let found = self.store.topic(name).filter(|topic| !topic.name.is_internal());
        let of_source = || self.store.topic(&format!("{name}-dlt"));
        match found {
            Some(topic) if topic.name.is_dead_letters() => Ok(topic),
            // A `then` of another name, unless it is the source whose letters are meant.
            Some(topic) => Ok(of_source().unwrap_or(topic)),
            None => of_source().ok_or_else(|| Error::NoTopic(name.to_owned())),
        }
    }

    /// A topic that letters are sent to.
    ///
    /// # Errors
    /// [`Error::NoTarget`]
    pub fn target(&self, name: &str) -> Result<Arc<Topic>, Error> {
        let found = self.store.topic(name).filter(|topic| !topic.name.is_internal());
        found.ok_or_else(|| Error::NoTarget(name.to_owned()))
    }

    /// Which letters of a topic are handled.
    ///
    /// # Errors
    /// [`Error::Handled`]
    pub fn handled(&self, topic: &Topic) -> Result<Offsets, Error> {
        Ok(handled::load(&self.data, topic)?)
    }

    /// Notes letters as handled; durable when it returns.
    ///
    /// # Errors
    /// [`Error::Handled`], [`Error::TooScattered`]
    pub fn handle(&self, topic: &Topic, more: &Offsets) -> Result<(), Error> {
        handled::add(&self.data, topic, more)
    }

    /// Which open letters a filter chooses, without those that a replay has begun with; with `again` also those that are handled. `is_fit`
    /// may refuse some. Who hands them on has the topic's [`Letters::turn`] until they are handled.
    ///
    /// # Errors
    /// [`Error`]
    pub fn choose(
        &self,
        topic: &Topic,
        filter: &Filter,
        again: bool,
        mut is_fit: impl FnMut(&Letter<'_>) -> bool,
    ) -> Result<Chosen, Error> {
        let handled = self.handled(topic)?;
        let mut chosen = Chosen::default();
        // Before the scan: what ends meanwhile is left out, and is handled at the next look.
        let begun = self.begun(topic)?;
        self.scan(topic, filter, |letter| {
            let partition = letter.partition;
            let offset = letter.record.offset.0;
            let is_open = again || !is_in(&handled, partition, offset);
            if is_open && filter.takes(letter) && is_fit(letter) {
                match is_in(&begun, partition, offset) {
                    true => chosen.replayed += 1,
                    false => {
                        chosen.offsets.entry(partition).or_default().insert(offset);
                        chosen.count += 1;
                    }
                }
            }
            ControlFlow::Continue(())
        })?;
        ranges::check(&chosen.offsets)?;
        Ok(chosen)
    }

    /// Where the partitions of a topic end now.
    pub fn ends(&self, topic: &Topic) -> Ends {
        topic.partitions().iter().map(|partition| (partition.id().0, partition.tail().0)).collect()
    }

    /// Drops the letters that a filter chooses, also handled ones where they go with them: a prefix is deleted from the log, what stands
    /// behind another letter, or behind a batch that cannot be decoded, is noted as handled. Nothing from `ends` on is dropped: it came after
    /// whoever agreed to it was told how much goes. Nor is a letter that is being replayed. With `is_dry` it only counts.
    ///
    /// # Errors
    /// [`Error`]; what was done before it is done.
    pub async fn drop_letters(
        &self,
        topic: &Topic,
        filter: &Filter,
        ends: &Ends,
        is_dry: bool,
    ) -> Result<Dropped, Error> {
        let (mut dropped, mut hidden) = (Dropped::default(), Offsets::new());
        let (handled, begun) = (self.handled(topic)?, self.begun(topic)?);
        let mut prefixes = Vec::new();
        for partition in topic.partitions().iter().filter(|partition| filter.is_of(partition.id().0)) {
            // Below it everything is chosen.
            let mut prefix = partition.start();
            let mut is_prefix = true;
            let mut rest = Ranges::default();
            let own = Filter { partition: Some(partition.id().0), ..filter.clone() };
            let whole = Filter { partition: own.partition, ..Filter::default() };
            let end = ends.get(&partition.id().0).copied().unwrap_or(0);
            self.read(topic, &whole, |seen| {
                let Seen::Letter(letter) = seen else {
                    // Nobody has chosen what nobody can read.
                    is_prefix = false;
                    return ControlFlow::Continue(());
                };
                let offset = letter.record.offset;
                if offset.0 >= end {
                    return ControlFlow::Break(());
                }
                let mut is_chosen = own.takes(&letter) && own.is_between(offset.0);
                if is_chosen && is_in(&begun, letter.partition, offset.0) {
                    dropped.replayed += 1;
                    is_chosen = false;
                }
                is_prefix &= is_chosen;
                if is_prefix {
                    prefix = Offset(offset.0 + 1);
                    match is_in(&handled, letter.partition, offset.0) {
                        true => dropped.handled += 1,
                        false => dropped.deleted += 1,
                    }
                } else if is_chosen && !is_in(&handled, letter.partition, offset.0) {
                    rest.insert(offset.0);
                    dropped.hidden += 1;
                }
                ControlFlow::Continue(())
            })?;
            hidden.insert(partition.id().0, rest);
            if prefix > partition.start() {
                prefixes.push((partition.clone(), prefix));
            }
        }
        ranges::check(&hidden)?;
        if is_dry {
            return Ok(dropped);
        }
        self.handle(topic, &hidden)?;
        let asked: Vec<PartitionId> = prefixes.iter().map(|(partition, _)| partition.id()).collect();
        for (partition, result) in asked.into_iter().zip(self.store.delete_below(prefixes).await) {
            result.map_err(|error| Error::Delete { topic: topic.name.clone(), partition, error })?;
        }
        Ok(dropped)
    }

    /// Shows each record of the partitions and offsets that a filter names, ascending. Batches that cannot be decoded are passed over.
    ///
    /// # Errors
    /// [`Error::Read`]
    pub fn scan(
        &self,
        topic: &Topic,
        filter: &Filter,
        mut each: impl FnMut(&Letter<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.read(topic, filter, |seen| match seen {
            Seen::Letter(letter) => each(&letter),
            Seen::Undecodable => ControlFlow::Continue(()),
        })
    }

    fn read(
        &self,
        topic: &Topic,
        filter: &Filter,
        mut each: impl FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        for partition in topic.partitions().iter().filter(|partition| filter.is_of(partition.id().0)) {
            let (id, end) = (partition.id(), filter.end().min(partition.tail().0));
            let mut next = Offset(filter.begin()).max(partition.start());
            while next.0 < end {
                let slice = match partition.read_blocking(next, READ_SIZE) {
                    // Somebody deletes while we read.
                    Err(ReadError::OutOfRange { start, .. }) if start > next => {
                        next = start;
                        continue;
                    }
                    read => read.map_err(|error| Error::Read { topic: topic.name.clone(), partition: id, error })?,
                };
                let Some(last) = slice.batches.last() else { break };
                let after = last.next_offset();
                for batch in &slice.batches {
                    let Ok(records) = batch.records(DECODED_SIZE_MAX) else {
                        if each(Seen::Undecodable).is_break() {
                            return Ok(());
                        }
                        continue;
                    };
                    for record in records.iter().filter(|record| record.offset >= next && record.offset.0 < end) {
                        if each(Seen::Letter(Letter::of(id.0, record))).is_break() {
                            return Ok(());
                        }
                    }
                }
                next = after;
            }
        }
        Ok(())
    }
}

/// Whether an offset of a partition is among these.
pub fn is_in(offsets: &Offsets, partition: i32, offset: i64) -> bool {
    offsets.get(&partition).is_some_and(|ranges| ranges.contains(offset))
}

/// A record without what failing has added to its headers: those of the failure in the source `from`, and of all after it.
pub fn before_failing(record: &Record, from: Option<&str>) -> Record {
    let origin = letter::first_origin_header(record, from);
    let is_own = |at: usize, name: &[u8]| {
        let is_origin = name.starts_with(letter::ORIGINAL) && origin.is_none_or(|first| at >= first);
        !is_origin && !letter::OF_LAST.iter().any(|prefix| name.starts_with(prefix))
    };
    let headers = record.headers.iter().enumerate().filter(|(at, (name, _))| is_own(*at, name));
    Record { headers: headers.map(|(_, header)| header.clone()).collect(), ..record.clone() }
}
