//! Where rows go: a folder of Parquet files, or a topic.

pub(super) mod bucket;
mod encode;
pub(super) mod journal;
pub(super) mod lake;
pub(super) mod parquet;
mod partition;
pub(super) mod place;
mod share;
mod sorting;
pub(super) mod source;
pub(super) mod staged;
pub(super) mod topic;

use super::checkpoint::{Staged, TopicState};
use super::fault::Fault;
use crate::record::Record;
use arrow::record_batch::RecordBatch;
use parquet::{CutName, Parquet};
use std::collections::BTreeMap;
use topic::{Lines, TopicSink};

/// The one output of a pipeline in its short form.
pub(super) enum Sink {
    Parquet(Box<Parquet>),
    Topic(TopicSink),
}

/// Rows as their output writes them.
pub(super) enum Shaped {
    Rows(RecordBatch),
    Lines(Lines),
}

/// Why rows were not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Nothing is known to be written: the output is opened anew, and everything since the last cut is written again or skipped.
    Down(String),
    /// The record at this offset is not taken now and may be later; nothing of the call was written.
    #[cfg_attr(not(test), allow(dead_code))] // Sinks that ask somebody else come later; tests play one.
    Refused { offset: i64, message: String },
}

impl WriteError {
    pub(super) fn reason(self) -> String {
        match self {
            WriteError::Down(reason) => reason,
            WriteError::Refused { message, .. } => message,
        }
    }
}

impl Sink {
    /// Brings rows into the output's form. Rows that it can never take are told by their row.
    pub(super) fn shape(&self, rows: RecordBatch, sources: &[u32], records: &[Record]) -> (Shaped, Vec<(u32, Fault)>) {
        match self {
            Sink::Parquet(_) => (Shaped::Rows(rows), Vec::new()),
            Sink::Topic(topic) => {
                let (lines, faults) = topic.shape(&rows, sources, records);
                (Shaped::Lines(lines), faults)
            }
        }
    }

    /// Writes rows of one source partition; `sources` says which record each comes from.
    ///
    /// # Errors
    /// [`WriteError`]
    pub(super) fn write(
        &mut self,
        partition: i32,
        shaped: &Shaped,
        sources: &[u32],
        records: &[Record],
        name: &CutName,
    ) -> Result<(), WriteError> {
        match (self, shaped) {
            (Sink::Parquet(parquet), Shaped::Rows(rows)) if rows.num_rows() > 0 => {
                let times: Vec<i64> = sources.iter().map(|at| records[*at as usize].timestamp).collect();
                let written = source::with_source(parquet.spec(), rows, partition, sources, records)
                    .map_err(std::io::Error::other)
                    .and_then(|rows| parquet.write(&rows, &times, name));
                written.map_err(|error| WriteError::Down(format!("cannot write Parquet: {error}")))
            }
            (Sink::Topic(topic), Shaped::Lines(lines)) => {
                let written = topic.write(partition, lines, sources, records, name.is_mark);
                written.map_err(|error| WriteError::Down(error.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is time for a cut because of size or count.
    pub(super) fn is_full(&mut self) -> bool {
        match self {
            Sink::Parquet(parquet) => parquet.is_full(),
            Sink::Topic(_) => false,
        }
    }

    /// Gives up memory that it has no share of any more.
    ///
    /// # Errors
    /// The disk's, the store's.
    pub(super) fn relieve(&mut self) -> std::io::Result<()> {
        match self {
            Sink::Parquet(parquet) => parquet.relieve(),
            Sink::Topic(_) => Ok(()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !matches!(self, Sink::Parquet(parquet) if !parquet.is_empty())
    }

    /// Files that are open.
    pub(super) fn open_files(&self) -> usize {
        match self {
            Sink::Parquet(parquet) => parquet.open_files(),
            Sink::Topic(_) => 0,
        }
    }

    /// Closes and syncs what the next checkpoint will name.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn close(&mut self, offsets: &str) -> std::io::Result<Vec<Staged>> {
        match self {
            Sink::Parquet(parquet) => parquet.close(offsets),
            Sink::Topic(_) => Ok(Vec::new()),
        }
    }

    /// For a checkpoint, if it is a topic.
    pub(super) fn state(&self) -> Option<TopicState> {
        match self {
            Sink::Parquet(_) => None,
            Sink::Topic(topic) => Some(topic.journal.state()),
        }
    }

    /// After a checkpoint with [`Sink::state`].
    pub(super) fn cut(&mut self, state: Option<&TopicState>, positions: &BTreeMap<i32, i64>) {
        if let (Sink::Topic(topic), Some(state)) = (self, state) {
            topic.journal.cut(state, positions);
        }
    }

    /// Whether what it has cannot be taken away by a crash of the machine; Parquet is judged at its cut.
    pub(super) fn is_durable(&self) -> bool {
        !matches!(self, Sink::Topic(topic) if !topic.journal.is_durable())
    }

    /// As [`journal::Journal::whole`], of rows that no checkpoint tells of.
    pub(super) fn whole(&self) -> BTreeMap<i32, i64> {
        match self {
            Sink::Parquet(_) => BTreeMap::new(),
            Sink::Topic(topic) => topic.journal.whole(),
        }
    }

    /// As [`journal::Journal::furthest`], of rows that no checkpoint tells of.
    pub(super) fn furthest(&self) -> BTreeMap<i32, i64> {
        match self {
            Sink::Parquet(_) => BTreeMap::new(),
            Sink::Topic(topic) => topic.journal.furthest(),
        }
    }

    /// Throws away what is open: after an error, the records are read again from the last cut.
    pub(super) fn discard(&mut self) {
        if let Sink::Parquet(parquet) = self {
            parquet.discard();
        }
    }
}
