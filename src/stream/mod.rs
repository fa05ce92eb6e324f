//! Pipelines: a file says what to read, how to transform it and where to write it; this room checks it, runs it and keeps its positions.
//!
//! Knows the store and Arrow; knows no listener and no frame of the Kafka protocol.

mod check;
mod checkpoint;
mod columns;
mod cut;
mod dead_letters;
mod enrich;
pub mod fault;
mod file_schema;
mod format;
pub mod functions;
mod hooks;
mod keys;
mod kinds;
mod lanes;
mod life;
mod load;
mod memory;
mod offline;
mod opening;
mod output;
mod parse;
mod parse_route;
mod parse_step;
mod plan;
mod propose;
mod rows;
mod runner;
mod schema_columns;
mod secrets;
mod sink;
mod spec;
mod sql;
mod state;
mod status;
mod step;
mod supervisor;
#[cfg(test)]
mod tests;
mod writing;

pub use check::{Report, Tested, Trial, check, read_checkpoint, test};
pub use enrich::TableReport;
pub use file_schema::file_schema;
pub use lanes::{Counts, transform};
pub use offline::{Dead, Destination, Ran, RunError, record_of_line, run, run_with_tables};
pub use propose::{Field, Proposal, ProposeError, To, Wish, propose};
pub use runner::drain;
pub use supervisor::{Running, start};

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
