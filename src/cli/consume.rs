//! `inrush consume`: records as JSON lines, by HTTP or as a Kafka client.

use super::Outcome;
use crate::client::{Client, END, KafkaClient, START};
use crate::record::DECODED_SIZE_MAX;
use crate::server::http::record_json;
use anyhow::{Context, Result};
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
    /// Address of the Kafka door: reads there instead, from any Kafka broker that leads the partition.
    #[arg(long, value_name = "ADDR")]
    kafka: Option<String>,
}

pub(super) fn run(arguments: Arguments) -> Result<Outcome> {
    match arguments.kafka.clone() {
        Some(address) => by_kafka(&arguments, &address),
        None => by_http(arguments),
    }
}

fn by_kafka(arguments: &Arguments, address: &str) -> Result<Outcome> {
    let Arguments { topic, partition, from, limit, follow, .. } = arguments;
    let mut client = KafkaClient::connect(address)?;
    let place = match from.as_str() {
        "start" => Err(START),
        "end" => Err(END),
        other => match other.strip_prefix("time:") {
            Some(time) => {
                Err(time.parse().with_context(|| format!("--from {other}: a time is milliseconds since 1970"))?)
            }
            None => {
                Ok(other.parse().with_context(|| format!("--from {other}: it is an offset, start, end, or time:MS"))?)
            }
        },
    };
    let mut next = match place {
        Ok(offset) => crate::record::Offset(offset),
        Err(time) => client.offset_at(topic, *partition, time)?,
    };
    let mut left = limit.unwrap_or(u64::MAX);
    let mut out = std::io::stdout().lock();
    let wait = if *follow { FOLLOW_INTERVAL } else { Duration::ZERO };
    while left > 0 {
        let fetched = client.fetch(topic, *partition, next, wait)?;
        if fetched.batches.is_empty() && !follow {
            break;
        }
        for batch in fetched.batches {
            // A batch may begin before the offset that was asked for.
            let records = batch.records(DECODED_SIZE_MAX)?.into_iter().filter(|record| record.offset >= next);
            for record in records.take(usize::try_from(left).unwrap_or(usize::MAX)) {
                writeln!(out, "{}", record_json(&record))?;
                left -= 1;
            }
            next = batch.next_offset();
        }
    }
    Ok(Outcome::Done)
}

fn by_http(arguments: Arguments) -> Result<Outcome> {
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
