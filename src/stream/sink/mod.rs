//! Where rows go: a folder of files, a topic, a web address, the standard output.

pub(super) mod bucket;
mod encode;
pub(super) mod http;
pub(super) mod journal;
pub(super) mod kafka;
pub(super) mod lake;
mod lines;
pub(super) mod parquet;
mod partition;
pub(super) mod place;
mod share;
mod sorting;
pub(super) mod source;
pub(super) mod staged;
mod stdout;
pub(super) mod store;
pub(super) mod topic;
mod written;

use super::checkpoint::{KafkaState, Staged, TopicState};
use super::fault::Fault;
use crate::record::Record;
use arrow::record_batch::RecordBatch;
use http::{HttpSink, Objects};
use kafka::KafkaSink;
use parquet::{CutName, Parquet};
use std::collections::BTreeMap;
use std::time::Duration;
use topic::{Lines, TopicSink};

/// An output of a pipeline.
pub(super) enum Sink {
    Parquet(Box<Parquet>),
    Topic(TopicSink),
    Kafka(Box<KafkaSink>),
    Http(HttpSink),
    Stdout,
}

/// Rows as their output writes them.
pub(super) enum Shaped {
    Rows(RecordBatch),
    Lines(Lines),
    /// Or why they have no such form.
    Objects(Result<Objects, String>),
}

/// Why rows were not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Nothing is known to be written: the output is opened anew, and everything since the last cut is written again or skipped.
    Down(String),
    /// The record at this offset is not taken now and may be later; nothing of the call was written.
    #[cfg_attr(not(test), allow(dead_code))] // Tests play a sink that says so at once; HTTP says it later.
    Refused { offset: i64, message: String },
    /// Nothing of the call was taken: what was taken before is still on its way.
    Full,
}

impl WriteError {
    pub(super) fn reason(self) -> String {
        match self {
            WriteError::Down(reason) => reason,
            WriteError::Refused { message, .. } => message,
            WriteError::Full => "it has no room".to_owned(),
        }
    }
}

/// What became of rows that an output had taken and not delivered.
#[derive(Default)]
pub(super) struct Settled {
    /// Batches with an answer for each of their rows.
    pub(super) batches: u64,
    /// By partition ascending.
    pub(super) refused: Vec<Refused>,
    pub(super) refused_rows: u64,
    /// More attempts at refused records.
    pub(super) retries: u64,
    pub(super) down: Option<Downed>,
}

/// Rows that were refused, also when they were tried again.
pub(super) struct Refused {
    pub(super) partition: i32,
    /// What they were made of, all at one offset.
    pub(super) records: Vec<Record>,
    pub(super) message: String,
    /// Time let them go, and rows of the record whose place they have follow.
    pub(super) is_mark: bool,
}

/// Nobody takes anything.
pub(super) struct Downed {
    pub(super) reason: String,
    /// Before this nobody wants to be asked again.
    pub(super) wait: Duration,
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
            Sink::Kafka(kafka) => {
                let (lines, faults) = kafka.shape(&rows, sources, records);
                (Shaped::Lines(lines), faults)
            }
            Sink::Http(_) | Sink::Stdout => (Shaped::Objects(Objects::of(&rows)), Vec::new()),
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
                let written = parquet.write_of(partition, rows, sources, records, name);
                written.map_err(|error| WriteError::Down(format!("cannot write Parquet: {error}")))
            }
            (Sink::Topic(topic), Shaped::Lines(lines)) => {
                let written = topic.write(partition, lines, sources, records, name.last);
                written.map_err(|error| WriteError::Down(error.to_string()))
            }
            (Sink::Kafka(kafka), Shaped::Lines(lines)) => {
                kafka.write(partition, lines, sources, records, name.last == journal::Last::More)
            }
            (Sink::Http(http), Shaped::Objects(Ok(objects))) => {
                http.write(partition, objects, sources, records, name.last == journal::Last::More)
            }
            (Sink::Stdout, Shaped::Objects(Ok(objects))) => stdout::write(objects),
            (_, Shaped::Objects(Err(why))) => Err(WriteError::Down(why.clone())),
            _ => Ok(()),
        }
    }

    /// Whether it is time for a cut because of size or count.
    pub(super) fn is_full(&mut self) -> bool {
        match self {
            Sink::Parquet(parquet) => parquet.is_full(),
            Sink::Topic(_) | Sink::Kafka(_) | Sink::Http(_) | Sink::Stdout => false,
        }
    }

    /// Gives up memory that it has no share of any more.
    ///
    /// # Errors
    /// The disk's, the store's.
    pub(super) fn relieve(&mut self) -> std::io::Result<()> {
        match self {
            Sink::Parquet(parquet) => parquet.relieve(),
            Sink::Topic(_) | Sink::Kafka(_) | Sink::Http(_) | Sink::Stdout => Ok(()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !matches!(self, Sink::Parquet(parquet) if !parquet.is_empty())
    }

    /// Whether it takes rows of this partition now.
    pub(super) fn has_room(&self, partition: i32) -> bool {
        !matches!(self, Sink::Http(http) if !http.has_room(partition))
    }

    /// By source partition the first record with a row that is taken and not delivered.
    pub(super) fn unsettled(&self) -> BTreeMap<i32, i64> {
        match self {
            Sink::Http(http) => http.unsettled(),
            _ => BTreeMap::new(),
        }
    }

    /// Rows that are taken and not delivered.
    pub(super) fn unsettled_rows(&self) -> u64 {
        match self {
            Sink::Http(http) => http.unsettled_rows(),
            _ => 0,
        }
    }

    /// What became of rows since the last call; nothing of outputs that deliver before they return.
    pub(super) fn settle(&mut self) -> Settled {
        match self {
            Sink::Http(http) => http.settle(),
            _ => Settled::default(),
        }
    }

    /// Whether it takes rows before they are delivered, so that only an answer shows that it is well.
    pub(super) fn settles_later(&self) -> bool {
        matches!(self, Sink::Http(_))
    }

    /// Delivers what waits for more to come with it.
    pub(super) fn hurry(&self) {
        if let Sink::Http(http) = self {
            http.hurry();
        }
    }

    /// Returns when there is something to settle; `None` where there never is.
    pub(super) fn stirred(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        match self {
            Sink::Http(http) => Some(http.stirred()),
            _ => None,
        }
    }

    /// Whether readers see rows when they are written, and not at a cut.
    pub(super) fn shows_at_once(&self) -> bool {
        !matches!(self, Sink::Parquet(_))
    }

    /// Files that are open.
    pub(super) fn open_files(&self) -> usize {
        match self {
            Sink::Parquet(parquet) => parquet.open_files(),
            Sink::Topic(_) | Sink::Kafka(_) | Sink::Http(_) | Sink::Stdout => 0,
        }
    }

    /// Closes and syncs what the next checkpoint will name.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn close(&mut self, offsets: &str) -> std::io::Result<Vec<Staged>> {
        match self {
            Sink::Parquet(parquet) => parquet.close(offsets),
            Sink::Topic(_) | Sink::Kafka(_) | Sink::Http(_) | Sink::Stdout => Ok(Vec::new()),
        }
    }

    /// For a checkpoint at `positions`, if it is a topic.
    pub(super) fn state(&self, positions: &BTreeMap<i32, i64>) -> Option<TopicState> {
        match self {
            Sink::Parquet(_) | Sink::Kafka(_) | Sink::Http(_) | Sink::Stdout => None,
            Sink::Topic(topic) => Some(topic.journal.state(positions)),
        }
    }

    /// For a checkpoint at `positions`, if it is a topic elsewhere.
    pub(super) fn kafka_state(&self, positions: &BTreeMap<i32, i64>) -> Option<KafkaState> {
        match self {
            Sink::Kafka(kafka) => Some(kafka.state(positions)),
            Sink::Parquet(_) | Sink::Topic(_) | Sink::Http(_) | Sink::Stdout => None,
        }
    }

    /// After a checkpoint with [`Sink::kafka_state`].
    pub(super) fn cut_kafka(&mut self, state: Option<&KafkaState>, positions: &BTreeMap<i32, i64>) {
        if let (Sink::Kafka(kafka), Some(state)) = (self, state) {
            kafka.cut(state, positions);
        }
    }

    /// After a checkpoint with [`Sink::state`].
    pub(super) fn cut(&mut self, state: Option<&TopicState>, positions: &BTreeMap<i32, i64>) {
        match (self, state) {
            (Sink::Topic(topic), Some(state)) => topic.journal.cut(state, positions),
            (Sink::Http(http), _) => http.cut(positions),
            _ => {}
        }
    }

    /// Whether what it has cannot be taken away by a crash of the machine; Parquet is judged at its cut.
    pub(super) fn is_durable(&self) -> bool {
        !matches!(self, Sink::Topic(topic) if !topic.journal.is_durable())
    }

    /// As [`journal::Journal::whole`], of rows that no checkpoint tells of.
    pub(super) fn whole(&self) -> BTreeMap<i32, i64> {
        match self {
            Sink::Parquet(_) | Sink::Stdout => BTreeMap::new(),
            Sink::Topic(topic) => topic.journal.whole(),
            Sink::Kafka(kafka) => kafka.whole(),
            Sink::Http(http) => http.furthest(),
        }
    }

    /// As [`journal::Journal::furthest`], of rows that no checkpoint tells of.
    pub(super) fn furthest(&self) -> BTreeMap<i32, i64> {
        match self {
            Sink::Parquet(_) | Sink::Stdout => BTreeMap::new(),
            Sink::Topic(topic) => topic.journal.furthest(),
            Sink::Kafka(kafka) => kafka.furthest(),
            Sink::Http(http) => http.furthest(),
        }
    }

    /// Throws away what is open: after an error, the records are read again from the last cut.
    pub(super) fn discard(&mut self) {
        if let Sink::Parquet(parquet) = self {
            parquet.discard();
        }
    }
}
