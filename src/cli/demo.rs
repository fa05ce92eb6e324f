//! `inrush demo`.

use super::{Outcome, start_logging};
use crate::lab::demo;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Arguments {
    /// Fresh folder for data, pipelines and Parquet; a temporary one without it. It is kept.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Sends so many events as fast as they are taken, and exits.
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Prints one JSON object at the end.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<Outcome> {
    start_logging("warn");
    let adds_up = demo::run(demo::Options { folder: arguments.data, events: arguments.events, json: arguments.json })?;
    if adds_up {
        return Ok(Outcome::Done);
    }
    eprintln!("inrush: the counts do not add up; please report this with the folder's content");
    Ok(Outcome::Found)
}
