//! `inrush serve`: options from a file and from flags; flags win.

use super::{Outcome, start_logging};
use crate::daemon::{self, Options, host_and_port};
use crate::stream;
use anyhow::Result;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Arguments {
    /// Config file (TOML); flags win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the log; made if it is not there.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder that Parquet folders are made in [default: DATA/out].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Address of the HTTP door [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Address of the Kafka door [default: 127.0.0.1:9092].
    #[arg(long, value_name = "ADDR")]
    kafka: Option<SocketAddr>,
    /// What Kafka clients are told to come to [default: where they came to].
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    advertise: Option<(String, u16)>,
    /// Address of the admin door: metrics and health [default: 127.0.0.1:9600].
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// Folder of pipeline files [default: pipelines].
    #[arg(long, value_name = "DIR")]
    pipelines: Option<PathBuf>,
    /// Judges the config and all pipeline files, says what it would do, and starts nothing.
    #[arg(long)]
    check: bool,
}

impl Arguments {
    /// Whether the daemon is to be run, and not only judged.
    pub(super) fn is_to_stay(&self) -> bool {
        !self.check
    }
}

pub(super) fn run(arguments: Arguments) -> Result<Outcome> {
    if !arguments.check {
        start_logging("info");
    }
    let mut options = Options::new(arguments.data.clone().unwrap_or_else(|| PathBuf::from("data")));
    if let Some(path) = &arguments.config {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("inrush: cannot read the config file {}: {error}", path.display());
                return Ok(Outcome::Wrong);
            }
        };
        match Options::read(path, &text) {
            Ok(read) => options = read,
            Err(mistakes) => {
                let plural = if mistakes.len() == 1 { "mistake" } else { "mistakes" };
                eprintln!("inrush: {} has {} {plural}:", path.display(), mistakes.len());
                mistakes.iter().for_each(|mistake| eprintln!("  {mistake}"));
                return Ok(Outcome::Wrong);
            }
        }
        if let Some(data) = arguments.data {
            options.out = data.join("out");
            options.data = data;
        }
    }
    options.out = arguments.out.unwrap_or(options.out);
    options.http = arguments.http.unwrap_or(options.http);
    options.kafka = arguments.kafka.unwrap_or(options.kafka);
    options.advertise = arguments.advertise.or(options.advertise);
    options.admin = arguments.admin.unwrap_or(options.admin);
    options.pipelines = arguments.pipelines.unwrap_or(options.pipelines);
    if arguments.check {
        return check(&options);
    }
    let running = match daemon::start(options) {
        Err(error @ daemon::Error::Open { .. }) => {
            eprintln!("inrush: {error}");
            return Ok(Outcome::Wrong);
        }
        started => started?,
    };
    running.wait()?;
    running.stop()?;
    Ok(Outcome::Done)
}

/// The config is read already; what is left are the doors and the pipelines.
fn check(options: &Options) -> Result<Outcome> {
    let mut is_right = true;
    if let Err(error) = options.check_exposure() {
        eprintln!("inrush: {error}");
        is_right = false;
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(&options.pipelines)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    for file in &files {
        match stream::check(file, Some(&options.out)) {
            Ok(report) => println!("pipeline {} reads {}", file.display(), report.source),
            Err(mistakes) => {
                mistakes.iter().for_each(|mistake| eprintln!("{mistake}"));
                is_right = false;
            }
        }
    }
    let shared = stream::neighbours(&files);
    shared.iter().for_each(|mistake| eprintln!("{mistake}"));
    is_right &= shared.is_empty();
    if !options.pipelines.is_dir() {
        println!("no folder {}: no pipeline runs", options.pipelines.display());
    }
    println!("HTTP {}, Kafka {}, admin {}", options.http, options.kafka, options.admin);
    println!("data in {}, Parquet in {}", options.data.display(), options.out.display());
    println!("memory: {} MiB at most, and what pipelines take", options.memory_max() >> 20);
    Ok(if is_right { Outcome::Done } else { Outcome::Wrong })
}
