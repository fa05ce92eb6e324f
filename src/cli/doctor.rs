//! `inrush doctor`.

use super::Outcome;
use crate::lab::doctor;
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Arguments {
    /// The folder that would hold the data.
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let findings = doctor::examine(&arguments.data).with_context(|| {
        format!("cannot examine {}; name a folder that can be written: --data DIR", arguments.data.display())
    })?;
    if arguments.json {
        println!("{}", serde_json::to_string(&findings)?);
    } else {
        for finding in &findings {
            let mark = if finding.good { "ok  " } else { "LOOK" };
            println!("{mark}  {:<20} {:<42} {}", finding.what, finding.found, finding.advice);
        }
    }
    Ok(if findings.iter().all(|finding| finding.good) { Outcome::Done } else { Outcome::Found })
}
