//! `inrush pipeline check|explain|test|run|new|schema|tap|bench|status|reload|pause|resume|reset|backfill`.

mod bench;
mod sample;
mod tap;

use super::{Asking, Outcome};
use crate::client::Client;
use crate::config::Mistake;
use crate::control::PipelineStatus;
use crate::record::Record;
use crate::stream;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Dead letters of a run that are told one by one.
const DEAD_TOLD_MAX: u64 = 20;
/// How often a run says how far it is.
const PROGRESS_INTERVAL: std::time::Duration = std::time::Duration::from_millis(200);

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    asking: Asking,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Judges files without a daemon; all mistakes at once.
    Check {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The daemon's output folder: columns are held against those that Parquet folders have already.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Events to hold it against: a file, or `topic:NAME` of a running daemon. Names what they have and the files do not read.
        #[arg(long, value_name = "EVENTS")]
        from: Option<String>,
        /// Address of the HTTP door, for `--from topic:…`.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
        http: String,
    },
    /// Says what a file does: what it reads, each step with its SQL and columns, outputs with all their settings, memory and places.
    Explain {
        file: PathBuf,
        /// Events to hold it against: a file, or `topic:NAME` of a running daemon. Names what they have and the file does not read.
        #[arg(long, value_name = "EVENTS")]
        from: Option<String>,
        /// Address of the HTTP door, for `--from topic:…`.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
        http: String,
    },
    /// Runs the tests inside the files, without a daemon.
    Test {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Writes what came out into the tests that fail, and into those that expect nothing; all else in the files stays as it is.
        #[arg(long)]
        update: bool,
    },
    /// Runs a file on recorded events, without a daemon; what would be dead-lettered goes to standard error.
    Run {
        file: PathBuf,
        /// Events, one a line: values, or records as `inrush consume` prints them; packed by gzip or zstd, or Parquet. `-` is standard input.
        #[arg(long, value_name = "FILE", default_value = "-")]
        from: PathBuf,
        /// A folder for Parquet, or `stdout` for JSON lines.
        #[arg(long, value_name = "DIR", default_value = "stdout")]
        to: PathBuf,
        /// Rows to standard output, whatever else is said: nothing is written.
        #[arg(long, conflicts_with = "to")]
        dry: bool,
        /// Records of a topic that `enrich` looks up in, as `inrush consume` prints them; else it is empty.
        #[arg(long = "table", value_name = "TOPIC=FILE", value_parser = table)]
        tables: Vec<(String, PathBuf)>,
    },
    /// Measures a file without a daemon, on one core: MB/s, and the share of decoding, of each step and of each output's encoding.
    Bench(bench::Arguments),
    /// Shows rows of a running pipeline as they pass, as JSON lines.
    Tap(tap::Arguments),
    /// Samples a topic, or a file of events, and writes a pipeline file with types, comments and a test.
    New(super::propose::Arguments),
    /// Prints the JSON Schema of pipeline files, for editors.
    Schema,
    /// What each pipeline does and where it stands, or one of them.
    Status { pipeline: Option<String> },
    /// Reads the files again and swaps what changed.
    Reload {
        pipeline: Option<String>,
        /// `drop` lets go what the steps of the pipeline remember, where its new ones cannot take it over.
        #[arg(long, value_name = "drop", requires = "pipeline")]
        state: Option<StateChange>,
    },
    /// Lets a pipeline cut and stand still, until it is resumed; a restart of the daemon does not resume it.
    Pause { pipeline: String },
    /// Lets a paused pipeline go on where it is.
    Resume { pipeline: String },
    /// Feeds a pipeline what its source has of a time once more, beside its live run; each row once.
    Backfill {
        pipeline: String,
        /// How long ago (`7d`), RFC 3339, a day, or milliseconds since 1970: of the records' own times.
        #[arg(long, value_name = "AGO|TIME", value_parser = super::dlt::moment)]
        from: i64,
        /// Until then, without it.
        #[arg(long, value_name = "AGO|TIME", value_parser = super::dlt::moment)]
        until: i64,
        /// Another folder or topic in place of its output; of several `OUTPUT=NAME`, and outputs that are not named get nothing.
        #[arg(long, value_name = "NAME")]
        to: Vec<String>,
        /// Into its own outputs, though what the live run wrote is there twice then.
        #[arg(long)]
        yes: bool,
    },
    /// Moves a pipeline; what it wrote stays.
    Reset {
        pipeline: String,
        /// `start`, `end`, `offset:N`, how long ago (`1h`), RFC 3339, a day, or milliseconds since 1970.
        #[arg(long, value_name = "WHERE", value_parser = position)]
        to: String,
        /// Only this partition of its source.
        #[arg(long)]
        partition: Option<i32>,
    },
}

/// What becomes of what a pipeline's steps remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum StateChange {
    Drop,
}

pub(super) fn run(arguments: Arguments) -> Result<Outcome> {
    let Asking { admin, json } = arguments.asking;
    match arguments.action {
        Action::Check { files, out, from, http } => {
            let events = from.map(|from| sample::events(&from, &http)).transpose()?;
            check(&files, out.as_deref(), events.as_deref(), json)
        }
        Action::Explain { file, from, http } => {
            let events = from.map(|from| sample::events(&from, &http)).transpose()?;
            explain(&file, events.as_deref(), json)
        }
        Action::Run { file, from, to, dry: _, tables } => run_file(&file, &tables, &from, &to, json),
        Action::Test { files, update: false } => test(&files, json),
        Action::Test { files, update: true } => update(&files, json),
        Action::Bench(asked) => bench::run(&asked, json),
        Action::Tap(asked) => tap::run(&admin, &asked, json),
        Action::New(wish) => super::propose::run(&wish, json),
        Action::Schema => {
            println!("{:#}", stream::file_schema());
            Ok(Outcome::Done)
        }
        Action::Status { pipeline } => {
            let mut pipelines = Client::new(admin)?.json(Method::GET, "/api/pipelines", None)?;
            if let (Some(name), Value::Array(all)) = (pipeline, &mut pipelines) {
                // With what is fed to it.
                let own = PipelineStatus::replay_name(&name);
                all.retain(|line| line["name"] == name.as_str() || line["name"] == own.as_str());
                if all.is_empty() {
                    anyhow::bail!("no pipeline is named {name}; inrush pipeline status lists them");
                }
            }
            match json {
                true => println!("{pipelines}"),
                false => print_status(&pipelines),
            }
            Ok(Outcome::Done)
        }
        Action::Reload { pipeline, state } => {
            let drop = if state.is_some() { "&state=drop" } else { "" };
            let query = pipeline.map_or(String::new(), |pipeline| format!("?pipeline={pipeline}{drop}"));
            ask(&admin, &format!("/api/pipelines/reload{query}"), json)
        }
        Action::Pause { pipeline } => ask(&admin, &format!("/api/pipelines/pause?pipeline={pipeline}"), json),
        Action::Resume { pipeline } => ask(&admin, &format!("/api/pipelines/resume?pipeline={pipeline}"), json),
        Action::Backfill { pipeline, from, until, to, yes } => {
            let asked = super::dlt::Backfill { pipeline, from, until, to, yes };
            super::dlt::backfill(admin, &asked, json)
        }
        Action::Reset { pipeline, to, partition } => {
            let partition = partition.map_or(String::new(), |partition| format!("&partition={partition}"));
            ask(&admin, &format!("/api/pipelines/reset?pipeline={pipeline}&to={to}{partition}"), json)
        }
    }
}

/// Where a pipeline is moved to, as the admin door takes it.
fn position(text: &str) -> Result<String, String> {
    let is_offset = |offset: &str| offset.parse::<u64>().is_ok();
    match text {
        "start" | "end" => Ok(text.to_owned()),
        _ if text.strip_prefix("offset:").is_some_and(is_offset) => Ok(text.to_owned()),
        _ => super::dlt::moment(text)
            .map(|ms| ms.to_string())
            .map_err(|wanted| format!("write start, end or offset:N, or {wanted}")),
    }
}

fn explain(file: &Path, events: Option<&[Record]>, json: bool) -> Result<Outcome> {
    match stream::explain(file, events) {
        Ok(explained) if json => println!("{}", serde_json::to_string(&explained)?),
        Ok(explained) => print!("{explained}"),
        Err(mistakes) => {
            tell(&mistakes, json);
            return Ok(Outcome::Wrong);
        }
    }
    Ok(Outcome::Done)
}

fn check(files: &[PathBuf], out: Option<&Path>, events: Option<&[Record]>, json: bool) -> Result<Outcome> {
    let mut is_right = true;
    for file in files {
        let report = stream::check(file, out).and_then(|mut report| {
            report.seen = events.map(|events| stream::unread(file, events)).transpose()?;
            Ok(report)
        });
        match report {
            Ok(report) if json => println!("{}", serde_json::to_string(&report)?),
            Ok(report) => {
                println!("{}: right; reads {} of {}", file.display(), report.reads.join(", "), report.source);
                report.writes.iter().for_each(|(name, kind)| println!("  {name:<24} {kind}"));
                if !report.schema_columns.is_empty() {
                    let of = report.schema_columns.iter().map(|(name, kind)| format!("{name} {kind}"));
                    println!("  columns of the JSON Schema: {}", of.collect::<Vec<_>>().join(", "));
                }
                report.tables.iter().for_each(print_table);
                report.warnings.iter().for_each(|warning| println!("  warning: {warning}"));
                report.seen.iter().for_each(|seen| print!("{seen}"));
            }
            Err(mistakes) => is_right = tell(&mistakes, json),
        }
    }
    let shared = stream::neighbours(files);
    if !shared.is_empty() {
        is_right = tell(&shared, json);
    }
    Ok(if is_right { Outcome::Done } else { Outcome::Wrong })
}

fn print_table(table: &stream::TableReport) {
    let columns = |columns: &[(String, String)]| {
        let shown = columns.iter().map(|(name, kind)| match table.inferred.contains(name) {
            true => format!("{name} {kind} (by its cells)"),
            false => format!("{name} {kind}"),
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    let rows = table.rows.map_or(String::new(), |rows| format!(" of {rows} rows"));
    println!("  table {}{rows}: by {}: {}", table.from, columns(&table.key), columns(&table.columns));
}

fn test(files: &[PathBuf], json: bool) -> Result<Outcome> {
    let (mut passed, mut failed) = (0, 0);
    let mut is_right = true;
    for file in files {
        let tests = match stream::test(file) {
            Ok(tests) => tests,
            Err(mistakes) => {
                is_right = tell(&mistakes, json);
                continue;
            }
        };
        for tested in tests {
            passed += usize::from(tested.passed);
            failed += usize::from(!tested.passed);
            if json {
                println!("{}", serde_json::to_string(&tested)?);
            } else if !tested.passed {
                println!(
                    "{}:{}: expected {}\n    but got {}",
                    file.display(),
                    tested.line,
                    tested.expected,
                    tested.got
                );
            }
        }
    }
    if !json {
        println!("{passed} passed, {failed} failed");
    }
    Ok(match (is_right, failed) {
        (false, _) => Outcome::Wrong,
        (true, 0) => Outcome::Done,
        _ => Outcome::Found,
    })
}

/// `users=users.ndjson`
fn table(text: &str) -> std::result::Result<(String, PathBuf), String> {
    let (topic, file) = text.split_once('=').ok_or("write TOPIC=FILE")?;
    Ok((topic.to_owned(), file.into()))
}

/// One file after the other; one that is broken leaves the others alone.
fn update(files: &[PathBuf], json: bool) -> Result<Outcome> {
    let mut outcome = Outcome::Done;
    for file in files {
        let changes = match stream::update(file) {
            Ok(changes) => changes,
            Err(stream::UpdateError::Mistakes(mistakes)) => {
                tell(&mistakes, json);
                outcome = Outcome::Wrong;
                continue;
            }
            Err(error) => anyhow::bail!("{}: {error}", file.display()),
        };
        if json {
            println!("{}", serde_json::json!({ "file": file, "changes": changes }));
            continue;
        }
        for change in &changes {
            println!("{}:{}:", file.display(), change.line);
            change.was.iter().for_each(|line| println!("  - {line}"));
            change.now.iter().for_each(|line| println!("  + {line}"));
        }
        println!("{}: {} tests updated", file.display(), changes.len());
    }
    Ok(outcome)
}

fn run_file(file: &Path, tables: &[(String, PathBuf)], from: &Path, to: &Path, json: bool) -> Result<Outcome> {
    let opened = stream::Events::open(from);
    let events = opened.with_context(|| format!("cannot open the events {}", from.display()))?;
    let (size, progress) = (events.size, events.progress());
    let mut events = events.lines;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let to = match to.to_str() {
        Some("stdout") => stream::Destination::Lines(&mut out),
        _ => stream::Destination::Folder(to.to_owned()),
    };
    let mut told = 0_u64;
    let mut tell_dead = |dead: stream::Dead| {
        told += 1;
        if json {
            eprintln!("{}", serde_json::json!(dead));
        } else if told <= DEAD_TOLD_MAX {
            let column = dead.column.map_or(String::new(), |column| format!(" in {column}"));
            eprintln!("line {}: {}{column}: {}", dead.line, dead.reason, dead.message);
        }
    };
    // Rows on the same terminal would be torn apart by it.
    let is_shown = !json && std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
    let mut shown = std::time::Instant::now();
    let mut tell_progress = |ran: &stream::Ran| {
        if is_shown && shown.elapsed() >= PROGRESS_INTERVAL {
            shown = std::time::Instant::now();
            let part = size
                .map_or(String::new(), |size| format!("{:>3.0}%  ", progress() as f64 * 100.0 / size.max(1) as f64));
            eprint!("\r{part}{} events, {} rows, {} dead letters ", ran.read, ran.rows, ran.dead_letters);
        }
    };
    let mut listener = stream::Listener { dead: &mut tell_dead, progress: &mut tell_progress };
    let ran = stream::run(file, tables, &mut events, to, &crate::clock::Clock::System, &mut listener);
    if is_shown {
        eprint!("\r{:70}\r", "");
    }
    let ran = match ran {
        Err(stream::RunError::Mistakes(mistakes)) => {
            tell(&mistakes, json);
            return Ok(Outcome::Wrong);
        }
        ran => ran?,
    };
    out.flush()?;
    if json {
        eprintln!("{}", serde_json::json!(ran));
    } else {
        ran.table_warnings.iter().for_each(|warning| eprintln!("{warning}"));
        if told > DEAD_TOLD_MAX {
            eprintln!("and {} more dead letters; --json tells all of them", told - DEAD_TOLD_MAX);
        }
        ran.files.iter().for_each(|file| eprintln!("wrote {}", file.display()));
        let reasons = |what: &str, reasons: &std::collections::BTreeMap<&'static str, u64>| {
            reasons.iter().for_each(|(reason, count)| eprintln!("  {count} {what}: {reason}"));
        };
        let stream::Ran { read, rows, filtered, dead_letters, .. } = &ran;
        eprintln!("{read} events: {rows} rows, {filtered} filtered, {dead_letters} dead letters");
        if !ran.left_out.is_empty() {
            eprintln!("--to writes folders only; not written: rows of {}", ran.left_out.join(", "));
        }
        reasons("filtered", &ran.filtered_by);
        reasons("dead letters", &ran.dead_by);
    }
    Ok(Outcome::Done)
}

/// Prints mistakes, for programs one a line; nothing is right then.
fn tell(mistakes: &[Mistake], json: bool) -> bool {
    for mistake in mistakes {
        match json {
            true => println!("{}", serde_json::json!({ "mistake": mistake })),
            false => eprintln!("{mistake}"),
        }
    }
    false
}

fn ask(admin: &str, path: &str, json: bool) -> Result<Outcome> {
    let answer = Client::new(admin)?.call(Method::POST, path, "application/json", "")?;
    let lines: Value = serde_json::from_slice(&answer.body)?;
    if let Some(error) = lines.get("error").and_then(Value::as_str) {
        anyhow::bail!("{error}");
    }
    if json {
        println!("{lines}");
    }
    let mut is_well = true;
    for line in lines.as_array().into_iter().flatten() {
        let ok = line["ok"] == true;
        is_well &= ok;
        if !json {
            let mark = if ok { "ok  " } else { "FAIL" };
            println!(
                "{mark}  {:<20} {}",
                line["pipeline"].as_str().unwrap_or_default(),
                line["message"].as_str().unwrap_or_default()
            );
        }
    }
    Ok(if is_well { Outcome::Done } else { Outcome::Found })
}

fn print_status(pipelines: &Value) {
    println!(
        "{:<20} {:<10} {:>10} {:>12} {:>10} {:>12} {:>9}  source",
        "pipeline", "state", "lag", "rows", "filtered", "dead letters", "CPU s"
    );
    for one in pipelines.as_array().into_iter().flatten() {
        let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| one[key].to_string();
        println!(
            "{:<20} {:<10} {:>10} {:>12} {:>10} {:>12} {:>9.1}  {}",
            text("name"),
            text("state"),
            number("lag_records"),
            number("rows_written"),
            number("filtered"),
            number("dead_letters"),
            one["cpu"]["seconds"].as_f64().unwrap_or_default(),
            text("source")
        );
        if !text("reason").is_empty() {
            println!("    {}", text("reason"));
        }
        let outputs = one["outputs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for folder in outputs.filter_map(|output| output.strip_prefix("parquet ")) {
            println!("    SELECT * FROM read_parquet('{folder}/**/*.parquet', union_by_name = true)");
        }
        if let Some(share) = one["cpu"]["share"].as_str() {
            let held = one["cpu"]["held_seconds"].as_f64().unwrap_or_default();
            let now = if one["cpu"]["is_held"] == true { "held back now" } else { "not held back now" };
            println!("    CPU: at most {share} of one core, {now}, {held:.1} s in all");
        }
        for wait in one["windows_wait_for"].as_array().into_iter().flatten() {
            let time =
                wait["time"].as_str().map_or("it has no time yet".to_owned(), |time| format!("its time is {time}"));
            println!("    windows wait for partition {} ({time}, for {} s)", wait["partition"], wait["seconds"]);
        }
        for warning in one["warnings"].as_array().into_iter().flatten() {
            println!("    warning: {}", warning.as_str().unwrap_or_default());
        }
    }
}
