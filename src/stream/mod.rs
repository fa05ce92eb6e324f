//! Pipelines: a file says what to read, how to transform it and where to write it; this room checks it, runs it and keeps its positions.
//!
//! Knows the store and Arrow; knows no listener and no frame of the Kafka protocol.

mod bench;
mod caught;
mod changed;
mod check;
mod checkpoint;
mod closing;
mod columns;
mod cpu;
mod cut;
mod dead_letters;
mod enrich;
mod errands;
mod events;
mod explain;
pub mod fault;
mod file_schema;
mod format;
pub mod functions;
mod hooks;
mod horizon;
mod keys;
mod kinds;
mod lanes;
mod life;
mod load;
mod memory;
mod moving;
mod neighbours;
mod offline;
mod opening;
mod output;
mod parse;
mod parse_kafka;
mod parse_parquet;
mod parse_route;
mod parse_step;
mod parse_window;
mod plan;
mod propose;
mod replay;
mod replays;
mod rows;
mod runner;
mod schema_columns;
mod secrets;
mod settle;
mod sink;
mod source;
mod spec;
mod sql;
mod state;
mod status;
mod step;
mod supervisor;
mod tap;
#[cfg(test)]
mod tests;
mod update;
mod web;
mod writing;

pub use bench::{BenchError, Benched, EVENTS_BYTES_MAX, Part, Spread, bench, size_of_record};
pub(crate) use caught::catches_panics;
pub use check::{Report, Tested, Trial, check, read_checkpoint, test};
pub use enrich::TableReport;
pub use events::{Events, record_of};
pub use explain::{Explained, Seen, explain, unread};
pub use file_schema::file_schema;
pub use lanes::{Counts, decode, transform};
pub use neighbours::neighbours;
pub use offline::{Dead, Destination, Listener, Ran, RunError, run};
pub use propose::{Field, Proposal, ProposeError, To, Wish, propose};
pub use runner::drain;
pub use supervisor::{Running, start};
pub use update::{Change, UpdateError, update};

use crate::clock::Clock;
use crate::control::Control;
use crate::store::Store;
use std::path::PathBuf;

/// What pipelines need.
pub struct Options {
    pub store: Store,
    pub control: Control,
    pub clock: Clock,
    /// The folder of pipeline files.
    pub folder: PathBuf,
    /// Parquet folders are made below it.
    pub out: PathBuf,
    /// Checkpoints are kept in its folder `pipelines`.
    pub data: PathBuf,
    /// Runs the waits of pipeline threads; no pipeline work runs on it.
    pub runtime: tokio::runtime::Handle,
}
