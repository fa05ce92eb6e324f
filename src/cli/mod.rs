//! The commands: parse, call, print for a person or with `--json`, map an error to an exit code. No logic lives here.

mod consume;
mod demo;
mod dlt;
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

use clap::{Args, Parser, Subcommand};
use std::io::{IsTerminal, Write};
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
    /// Lists, shows, replays and drops dead letters.
    Dlt(dlt::Arguments),
    /// Lists the functions that a pipeline's SQL has beside SQL's own.
    Functions(functions::Arguments),
    /// Checks, prints and mends the files of a data folder.
    Log(log::Arguments),
    /// Sends load to a running daemon and measures latencies: clicks or pictures.
    Gen(generate::Arguments),
    /// Looks at this machine: io_uring, disk, limits; what to expect and what to do.
    Doctor(doctor::Arguments),
}

/// Of commands that ask the daemon's admin door.
#[derive(Args)]
struct Asking {
    /// Address of the admin door.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9600", global = true)]
    admin: String,
    /// Prints for programs.
    #[arg(long, global = true)]
    json: bool,
}

/// What strangers sent, without what steers a terminal.
fn harmless(text: &str) -> String {
    let shown = |letter: char| match letter {
        letter if letter.is_control() => format!("\\u{:04x}", letter as u32),
        letter => letter.to_string(),
    };
    text.chars().map(shown).collect()
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
    // What nobody reads ends a command, never the daemon.
    let is_daemon = matches!(&command, Command::Serve(arguments) if arguments.is_to_stay());
    if !is_daemon {
        end_quietly_with_the_reader();
        crate::client::tell_who_waits(|told| eprintln!("inrush: {told}"));
    }
    let outcome = match command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Topic(arguments) => topic::run(arguments),
        Command::Quota(arguments) => quota::run(arguments),
        Command::Produce(arguments) => produce::run(arguments),
        Command::Consume(arguments) => consume::run(arguments),
        Command::Pipeline(arguments) => pipeline::run(arguments),
        Command::Dlt(arguments) => dlt::run(arguments),
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
            let told = format!("inrush: {error:#}");
            if !is_daemon && told.contains(BROKEN_PIPE) && has_lost_its_reader() {
                end_by_sigpipe();
            }
            // Where that is closed too there is the exit code.
            let _ = writeln!(std::io::stderr(), "{told}");
            ExitCode::from(1)
        }
    }
}

/// What the system's error says of a pipe, or a socket, that nobody reads any more.
const BROKEN_PIPE: &str = "(os error 32)";

/// `inrush topic list | head -1` ends with the pipe, as every Unix command does. Not by the signal itself: a socket that the other side
/// closed while it is written would be the end too, and that is an error to tell of. Standard error is the same, but for a daemon.
fn end_quietly_with_the_reader() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_of_print = |text: &str| text.starts_with("failed printing to std") && text.ends_with(BROKEN_PIPE);
        match panic.payload_as_str() {
            Some(text) if is_of_print(text) => end_by_sigpipe(),
            Some(text) if text.starts_with("failed printing to std") => {
                let reason = text.trim_start_matches("failed printing to ");
                let _ = writeln!(std::io::stderr(), "inrush: cannot write to {reason}");
                std::process::exit(1);
            }
            _ if crate::stream::catches_panics() => {}
            _ => tell(panic),
        }
    }));
}

/// Whether standard output is a pipe that nobody reads any more.
fn has_lost_its_reader() -> bool {
    let mut stdout = libc::pollfd { fd: libc::STDOUT_FILENO, events: 0, revents: 0 };
    // SAFETY: one pollfd that outlives the call, which does not wait.
    unsafe { libc::poll(&mut stdout, 1, 0) == 1 && stdout.revents & libc::POLLERR != 0 }
}

fn end_by_sigpipe() {
    // SAFETY: numbers only. The default action ends the process at once.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::raise(libc::SIGPIPE);
    }
}

/// Structured logs on standard error: for people, or JSON with `INRUSH_LOG_FORMAT=json`. `RUST_LOG` chooses what is shown.
fn start_logging(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A line that cannot be written is left out. The default tells so on standard error as well, and panics where that fails.
    let builder = builder.with_ansi(std::io::stderr().is_terminal()).log_internal_errors(false);
    let is_json = std::env::var("INRUSH_LOG_FORMAT").is_ok_and(|format| format == "json");
    // A second subscriber in one process is refused; the first then stays.
    let _ = if is_json { builder.json().try_init() } else { builder.try_init() };
}
