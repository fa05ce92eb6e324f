//! `inrush pipeline check|test|run|new|schema|status|reload|reset`.

use super::Outcome;
use crate::client::Client;
use crate::config::Mistake;
use crate::stream;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub(super) struct Arguments {
    /// Address of the admin door.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9600", global = true)]
    admin: String,
    #[arg(long, global = true)]
    json: bool,
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
    },
    /// Runs the tests inside the files, without a daemon.
    Test {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Runs a file on recorded events, without a daemon; what would be dead-lettered goes to standard error.
    Run {
        file: PathBuf,
        /// Events, one a line: values, or records as `inrush consume` prints them. `-` is standard input.
        #[arg(long, value_name = "FILE", default_value = "-")]
        from: PathBuf,
        /// A folder for Parquet, or `stdout` for JSON lines.
        #[arg(long, value_name = "DIR", default_value = "stdout")]
        to: PathBuf,
        /// Records of a topic that `enrich` looks up in, as `inrush consume` prints them; else it is empty.
        #[arg(long = "table", value_name = "TOPIC=FILE", value_parser = table)]
        tables: Vec<(String, PathBuf)>,
    },
    /// Samples a topic, or a file of events, and writes a pipeline file with types, comments and a test.
    New(super::propose::Arguments),
    /// Prints the JSON Schema of pipeline files, for editors.
    Schema,
    /// What each pipeline does and where it stands.
    Status,
    /// Reads the files again and swaps what changed.
    Reload {
        pipeline: Option<String>,
        /// `drop` lets go what the steps of the pipeline remember, where its new ones cannot take it over.
        #[arg(long, value_name = "drop", requires = "pipeline")]
        state: Option<StateChange>,
    },
    /// Moves a pipeline; what it wrote stays.
    Reset {
        pipeline: String,
        /// `start`, `end` or milliseconds since 1970.
        #[arg(long, value_name = "WHERE")]
        to: String,
    },
}

/// What becomes of what a pipeline's steps remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum StateChange {
    Drop,
}

pub(super) fn run(arguments: Arguments) -> Result<Outcome> {
    match arguments.action {
        Action::Check { files, out } => check(&files, out.as_deref(), arguments.json),
        Action::Run { file, from, to, tables } => run_file(&file, &tables, &from, &to, arguments.json),
        Action::New(wish) => super::propose::run(&wish, arguments.json),
        Action::Schema => {
            println!("{:#}", stream::file_schema());
            Ok(Outcome::Done)
        }
        Action::Test { files } => test(&files, arguments.json),
        Action::Status => {
            let pipelines = Client::new(arguments.admin)?.json(Method::GET, "/api/pipelines", None)?;
            match arguments.json {
                true => println!("{pipelines}"),
                false => print_status(&pipelines),
            }
            Ok(Outcome::Done)
        }
        Action::Reload { pipeline, state } => {
            let drop = if state.is_some() { "&state=drop" } else { "" };
            let query = pipeline.map_or(String::new(), |pipeline| format!("?pipeline={pipeline}{drop}"));
            ask(&arguments.admin, &format!("/api/pipelines/reload{query}"), arguments.json)
        }
        Action::Reset { pipeline, to } => {
            ask(&arguments.admin, &format!("/api/pipelines/reset?pipeline={pipeline}&to={to}"), arguments.json)
        }
    }
}

fn check(files: &[PathBuf], out: Option<&Path>, json: bool) -> Result<Outcome> {
    let mut is_right = true;
    for file in files {
        match stream::check(file, out) {
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
            }
            Err(mistakes) => is_right = tell(&mistakes, json),
        }
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
    for file in files {
        let tests = match stream::test(file) {
            Ok(tests) => tests,
            Err(mistakes) => {
                tell(&mistakes, json);
                return Ok(Outcome::Wrong);
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
    Ok(if failed == 0 { Outcome::Done } else { Outcome::Found })
}

/// `users=users.ndjson`
fn table(text: &str) -> std::result::Result<(String, PathBuf), String> {
    let (topic, file) = text.split_once('=').ok_or("write TOPIC=FILE")?;
    Ok((topic.to_owned(), file.into()))
}

fn run_file(file: &Path, tables: &[(String, PathBuf)], from: &Path, to: &Path, json: bool) -> Result<Outcome> {
    let mut events: Box<dyn BufRead> = match from.to_str() {
        Some("-") => Box::new(std::io::stdin().lock()),
        _ => {
            let opened = std::fs::File::open(from);
            Box::new(BufReader::new(opened.with_context(|| format!("cannot open the events {}", from.display()))?))
        }
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let to = match to.to_str() {
        Some("stdout") => stream::Destination::Lines(&mut out),
        _ => stream::Destination::Folder(to.to_owned()),
    };
    let mut tell_dead = |dead: stream::Dead| {
        if json {
            eprintln!("{}", serde_json::json!(dead));
        } else {
            let column = dead.column.map_or(String::new(), |column| format!(" in {column}"));
            eprintln!("line {}: {}{column}: {}", dead.line, dead.reason, dead.message);
        }
    };
    let ran = match stream::run_with_tables(file, tables, &mut events, to, &crate::clock::Clock::System, &mut tell_dead)
    {
        Err(stream::RunError::Mistakes(mistakes)) => {
            tell(&mistakes, false);
            return Ok(Outcome::Wrong);
        }
        ran => ran?,
    };
    out.flush()?;
    if json {
        eprintln!("{}", serde_json::json!(ran));
    } else {
        ran.files.iter().for_each(|file| eprintln!("wrote {}", file.display()));
        let stream::Ran { read, rows, filtered, dead_letters, .. } = ran;
        eprintln!("{read} events: {rows} rows, {filtered} filtered, {dead_letters} dead letters");
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
        "{:<20} {:<10} {:>10} {:>12} {:>10} {:>12}  source",
        "pipeline", "state", "lag", "rows", "filtered", "dead letters"
    );
    for one in pipelines.as_array().into_iter().flatten() {
        let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| one[key].to_string();
        println!(
            "{:<20} {:<10} {:>10} {:>12} {:>10} {:>12}  {}",
            text("name"),
            text("state"),
            number("lag_records"),
            number("rows_written"),
            number("filtered"),
            number("dead_letters"),
            text("source")
        );
        if !text("reason").is_empty() {
            println!("    {}", text("reason"));
        }
        let outputs = one["outputs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for folder in outputs.filter_map(|output| output.strip_prefix("parquet ")) {
            println!("    SELECT * FROM read_parquet('{folder}/**/*.parquet', union_by_name = true)");
        }
        for warning in one["warnings"].as_array().into_iter().flatten() {
            println!("    warning: {}", warning.as_str().unwrap_or_default());
        }
    }
}
