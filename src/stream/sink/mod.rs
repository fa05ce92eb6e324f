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
mod reached;
mod row;
mod share;
mod sorting;
pub(super) mod source;
pub(super) mod staged;
pub(super) mod stdout;
pub(super) mod store;
pub(super) mod topic;
mod written;

use super::checkpoint::{OutputState, Staged};
use super::fault::Fault;
use crate::record::Record;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use parquet::CutName;
use source::RowOrigin;
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use topic::Lines;

/// An output of a pipeline. What it does not say of itself is as of one that has delivered when it returns, shows rows at once, and keeps
/// nothing for a cut.
pub(super) trait Sink {
    /// Brings rows into the output's form. Rows that it can never take are told by their row.
    fn shape(&self, rows: RecordBatch, _sources: &[u32], _records: &[Record]) -> (Shaped, Vec<(u32, Fault)>) {
        (Shaped { rows, lines: Lines::default() }, Vec::new())
    }

    /// The rows with what this output adds of where each comes from.
    ///
    /// # Errors
    /// None that Arrow knows: there is an origin a row.
    fn sourced(&self, rows: RecordBatch, _origin: &dyn Fn(usize) -> RowOrigin) -> Result<RecordBatch, ArrowError> {
        Ok(rows)
    }

    /// Writes rows of one source partition; `sources` says which record each comes from.
    ///
    /// # Errors
    /// [`WriteError`]
    fn write(
        &mut self,
        partition: i32,
        shaped: &Shaped,
        sources: &[u32],
        records: &[Record],
        name: &CutName,
    ) -> Result<(), WriteError>;

    /// Whether it is time for a cut because of size, count or memory that only a cut frees.
    fn is_full(&mut self) -> bool {
        false
    }

    /// Gives up memory that it has no share of any more. To be called from time to time also while nothing is written: the share becomes less
    /// when other outputs begin.
    ///
    /// # Errors
    /// The disk's, the store's: what was written since the last cut is then to be thrown away.
    fn relieve(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Looks now and then at what others do to what it writes to.
    fn look_around(&mut self) {}

    /// Whether a checkpoint is to say something that no row has changed.
    fn has_news(&self) -> bool {
        false
    }

    /// Whether nothing is open that a cut would close.
    fn is_empty(&self) -> bool {
        true
    }

    /// Whether it takes rows of this partition now.
    fn has_room(&self, _partition: i32) -> bool {
        true
    }

    /// By source partition the first record with a row that is taken and not delivered.
    fn unsettled(&self) -> BTreeMap<i32, i64> {
        BTreeMap::new()
    }

    /// Rows that are taken and not delivered.
    fn unsettled_rows(&self) -> u64 {
        0
    }

    /// What became of rows since the last call.
    fn settle(&mut self) -> Settled {
        Settled::default()
    }

    /// Delivers what waits for more to come with it.
    fn hurry(&self) {}

    /// Why nothing has been delivered for a while, though it is tried.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Returns when there is something to settle; `None` of one that delivers before it returns.
    fn stirred(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        None
    }

    /// Whether readers see rows when they are written, and not at a cut.
    fn shows_at_once(&self) -> bool {
        true
    }

    /// Files that are open.
    fn open_files(&self) -> usize {
        0
    }

    /// Closes all files and makes their bytes durable; the next checkpoint can name them then. `offsets` says which records the cut is made
    /// of, for footers.
    ///
    /// # Errors
    /// The disk's, the store's.
    fn close(&mut self, _offsets: &str) -> io::Result<Vec<Staged>> {
        Ok(Vec::new())
    }

    /// Puts what it wants to know at its next start into a checkpoint; `floor` as for [`Sink::cut`].
    fn note(&self, _state: &mut OutputState, _floor: &BTreeMap<i32, i64>) {}

    /// After a checkpoint with `state`. Below `floor` nothing comes again: of the source's partitions, and of windows.
    fn cut(&mut self, _state: &OutputState, _floor: &BTreeMap<i32, i64>) {}

    /// Whether what it has cannot be taken away by a crash of the machine; files are judged at their cut.
    fn is_durable(&self) -> bool {
        true
    }

    /// As [`reached::Progress::whole`], of rows that no checkpoint tells of.
    fn whole(&self) -> BTreeMap<i32, i64> {
        BTreeMap::new()
    }

    /// As [`reached::Progress::furthest`], of rows that no checkpoint tells of.
    fn furthest(&self) -> BTreeMap<i32, i64> {
        BTreeMap::new()
    }

    /// Throws away what is open: after an error, the records are read again from the last cut.
    fn discard(&mut self) {}
}

/// Rows as their output writes them.
pub(super) struct Shaped {
    rows: RecordBatch,
    /// For topics.
    lines: Lines,
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
