//! `inrush consume`: records as JSON lines.

use super::Outcome;
use crate::client::Client;
use anyhow::Result;
use clap::Args;
use hyper::Method;
use std::io::Write;
use std::time::Duration;

/// Records of one request.
const PAGE: u64 = 1_000;
/// How often `--follow` asks for more.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(super) struct Arguments {
    topic: String,
    #[arg(long, default_value_t = 0)]
    partition: i32,
    /// An offset, `start`, `end`, or `time:MILLISECONDS`.
    #[arg(long, default_value = "start")]
    from: String,
    /// Stops after so many records.
    #[arg(long)]
    limit: Option<u64>,
    /// Waits for more at the end.
    #[arg(long)]
    follow: bool,
    /// Address of the HTTP door.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    http: String,
}

pub(super) fn run(arguments: Arguments) -> Result<Outcome> {
    let mut client = Client::new(arguments.http)?;
    let mut from = arguments.from;
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    let mut out = std::io::stdout().lock();
    while left > 0 {
        let (topic, partition) = (&arguments.topic, arguments.partition);
        let path = format!("/v1/topics/{topic}/events?partition={partition}&from={from}&limit={}", left.min(PAGE));
        let answer = client.json(Method::GET, &path, None)?;
        let events = answer["events"].as_array().cloned().unwrap_or_default();
        for event in &events {
            writeln!(out, "{event}")?;
        }
        left -= events.len() as u64;
        from = answer["next"].to_string();
        if events.is_empty() {
            if !arguments.follow {
                break;
            }
            std::thread::sleep(FOLLOW_INTERVAL);
        }
    }
    Ok(Outcome::Done)
}
