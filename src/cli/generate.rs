//! `inrush gen`: load for a running daemon.

use super::Outcome;
use crate::lab::load::{self, Kind, Options, Report};
use anyhow::Result;
use clap::{Args, Subcommand};
use std::io::{IsTerminal, Write};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Clicks of about 650 bytes with the user agents of real browsers and, 6 in 100, of robots.
    Clicks(Load),
    /// JPEGs of 15 kB to half a megabyte, one a request.
    Camera(Load),
}

#[derive(Args)]
struct Load {
    /// Events a second (5000 or 5000/s), or max: as many as are answered [default: 1000/s clicks, 20/s pictures].
    #[arg(long, value_name = "N/s", value_parser = rate)]
    rate: Option<Rate>,
    /// How long [default: 10, unless --events is given].
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// How many events in all.
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Connections that share the load.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    connections: u16,
    /// Events of one request (clicks).
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    batch: u16,
    /// Address of the HTTP door.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    http: String,
    /// Topic [default: clicks or camera].
    #[arg(long)]
    topic: Option<String>,
    /// The same seed sends the same events.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[arg(long)]
    json: bool,
}

/// `None` = as many as are answered.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate(Option<f64>);

pub(super) fn run(arguments: Arguments) -> Result<Outcome> {
    let (kind, load, topic, usual) = match arguments.what {
        What::Clicks(load) => (Kind::Clicks, load, "clicks", 1_000.0),
        What::Camera(load) => (Kind::Camera, load, "camera", 20.0),
    };
    let options = Options {
        kind,
        http: load.http,
        write_key: std::env::var("INRUSH_WRITE_KEY").ok(),
        topic: load.topic.unwrap_or_else(|| topic.to_owned()),
        rate: load.rate.map_or(Some(usual), |rate| rate.0),
        seconds: load.seconds.or(if load.events.is_none() { Some(10.0) } else { None }),
        events: load.events,
        connections: usize::from(load.connections),
        batch: usize::from(load.batch),
        seed: load.seed.unwrap_or_else(|| fastrand::u64(..)),
    };
    let is_shown = !load.json && std::io::stderr().is_terminal();
    let report = load::run(options, |elapsed, taken| {
        if is_shown {
            eprint!("\r{:>5.1} s  {taken:>10} events are durable ", elapsed.as_secs_f64());
            let _ = std::io::stderr().flush();
        }
    })?;
    if is_shown {
        eprint!("\r{:60}\r", "");
    }
    match load.json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => print(&report),
    }
    Ok(if report.is_clean() { Outcome::Done } else { Outcome::Found })
}

fn print(report: &Report) {
    println!(
        "{} events in {} requests over {:.1} s; {} are durable",
        report.events, report.requests, report.seconds, report.taken
    );
    println!("{:.0} events/s  {:.1} MB/s", report.events_per_second, report.bytes_per_second / 1e6);
    let latency = &report.latency_ms;
    println!("{:>10} {:>10} {:>10} {:>10} {:>10}   latency, ms", "p50", "p90", "p99", "p99.9", "max");
    println!(
        "{:>10.2} {:>10.2} {:>10.2} {:>10.2} {:>10.2}",
        latency.p50, latency.p90, latency.p99, latency.p999, latency.max
    );
    for (status, count) in &report.answers {
        println!("answers {status}: {count}");
    }
    if let Some(error) = &report.first_error {
        println!("the first refusal said: {error}");
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate(None));
    }
    match text.trim_end_matches("/s").parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e8 => Ok(Rate(Some(rate))),
        _ => Err(format!("\"{text}\" is neither a rate like 5000/s nor max")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        assert_eq!(rate("5000/s"), Ok(Rate(Some(5_000.0))));
        assert_eq!(rate("0.5"), Ok(Rate(Some(0.5))));
        assert_eq!(rate("max"), Ok(Rate(None)));
        assert!(rate("fast").is_err() && rate("0").is_err() && rate("-3/s").is_err());
    }
}
