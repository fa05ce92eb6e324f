//! `inrush doctor`.

use super::Outcome;
use crate::lab::doctor::{self, Verdict};
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
        let wide = findings.iter().map(|finding| finding.found.chars().count()).max().unwrap_or(0);
        for finding in &findings {
            let mark = match finding.verdict {
                Verdict::Ok => "ok  ",
                Verdict::Warn => "warn",
                Verdict::Bad => "BAD ",
            };
            println!("{mark}  {:<17} {:<wide$}  {}", finding.what, finding.found, finding.advice);
        }
    }
    let is_bad = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
    Ok(if is_bad { Outcome::Found } else { Outcome::Done })
}
