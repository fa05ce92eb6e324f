//! The commands: parse, call, print for a person or with `--json`, map an error to an exit code. No logic lives here.

mod consume;
mod demo;
mod doctor;
mod functions;
mod generate;
mod log;
mod pipeline;
mod produce;
mod propose;
mod quota;
mod serve;
mod topic;

use clap::{Parser, Subcommand};
use std::io::IsTerminal;
use std::process::ExitCode;

/// Events in, a durable log, pipelines out.
///
/// Exit codes: 0 done; 1 it failed, or a check found something; 2 the command line, a config file or a pipeline file is wrong.
#[derive(Parser)]
#[command(name = "inrush", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the daemon until SIGTERM.
    Serve(serve::Arguments),
    /// Shows the main job on a fresh folder: clicks and pictures in, Parquet and dead letters out.
    Demo(demo::Arguments),
    /// Lists, makes, describes, alters and deletes topics.
    Topic(topic::Arguments),
    /// Lists, sets and removes quotas of users, client ids and addresses at the Kafka door.
    Quota(quota::Arguments),
    /// Sends events: each line of a file or of standard input is one.
    Produce(produce::Arguments),
    /// Prints records of a topic, one JSON object a line.
    Consume(consume::Arguments),
    /// Checks, tests and steers pipelines.
    Pipeline(pipeline::Arguments),
    /// Lists the functions that a pipeline's SQL has beside SQL's own.
    Functions(functions::Arguments),
    /// Checks, prints and mends the files of a data folder.
    Log(log::Arguments),
    /// Sends load to a running daemon and measures latencies: clicks or pictures.
    Gen(generate::Arguments),
    /// Looks at this machine: io_uring, disk, limits; what to expect and what to do.
    Doctor(doctor::Arguments),
}

/// How a command ended without an error.
enum Outcome {
    Done,
    /// A check found something.
    Found,
    /// A file is wrong.
    Wrong,
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let command = Arguments::parse().command;
    if !matches!(command, Command::Serve(_) | Command::Demo(_) | Command::Gen(_) | Command::Produce(_)) {
        end_quietly_at_a_closed_pipe();
    }
    let outcome = match command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Topic(arguments) => topic::run(arguments),
        Command::Quota(arguments) => quota::run(arguments),
        Command::Produce(arguments) => produce::run(arguments),
        Command::Consume(arguments) => consume::run(arguments),
        Command::Pipeline(arguments) => pipeline::run(arguments),
        Command::Functions(arguments) => functions::run(&arguments),
        Command::Log(arguments) => log::run(arguments),
        Command::Gen(arguments) => generate::run(arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
    };
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Found) => ExitCode::from(1),
        Ok(Outcome::Wrong) => ExitCode::from(2),
        Err(error) => {
            eprintln!("inrush: {error:#}");
            ExitCode::from(1)
        }
    }
}

/// `inrush topic list | head -1` ends with the pipe, as every Unix command does. Not where sockets are written and may close:
/// that is an error to tell of.
fn end_quietly_at_a_closed_pipe() {
    // SAFETY: sets a disposition before any thread is started; the default action touches no memory of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Structured logs on standard error: for people, or JSON with `INRUSH_LOG_FORMAT=json`. `RUST_LOG` chooses what is shown.
fn start_logging(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    let is_json = std::env::var("INRUSH_LOG_FORMAT").is_ok_and(|format| format == "json");
    // A second subscriber in one process is refused; the first then stays.
    let _ = if is_json { builder.json().try_init() } else { builder.try_init() };
}
