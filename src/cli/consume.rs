//! `inrush consume`: records as JSON lines, or their values as they are; by HTTP or as a Kafka client.

use super::Outcome;
use crate::client::{Client, END, KafkaClient, START};
use crate::record::DECODED_SIZE_MAX;
use crate::server::http::record_json;
use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use hyper::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::Write;
use std::time::Duration;

/// Records of one request.
const PAGE: u64 = 1_000;
/// How often `--follow` asks for more.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(super) struct Arguments {
    topic: String,
    /// Only this partition [default: all, one after the other; 0 with --kafka].
    #[arg(long)]
    partition: Option<i32>,
    /// An offset, `start`, `end`, or `time:MILLISECONDS`.
    #[arg(long, default_value = "start")]
    from: String,
    /// Stops after so many records.
    #[arg(long)]
    limit: Option<u64>,
    /// Waits for more at the end.
    #[arg(long)]
    follow: bool,
    /// Prints values only, as they were sent; pictures and other bytes too.
    #[arg(long)]
    raw: bool,
    /// Records are JSON lines in any case; taken so that all commands know it.
    #[arg(long, conflicts_with = "raw")]
    json: bool,
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
    let Arguments { topic, from, limit, follow, .. } = arguments;
    let partition = arguments.partition.unwrap_or(0);
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
        Err(time) => client.offset_at(topic, partition, time)?,
    };
    let mut left = limit.unwrap_or(u64::MAX);
    let mut out = std::io::stdout().lock();
    let wait = if *follow { FOLLOW_INTERVAL } else { Duration::ZERO };
    while left > 0 {
        let fetched = client.fetch(topic, partition, next, wait)?;
        if fetched.batches.is_empty() && !follow {
            break;
        }
        for batch in fetched.batches {
            // A batch may begin before the offset that was asked for.
            let records = batch.records(DECODED_SIZE_MAX)?.into_iter().filter(|record| record.offset >= next);
            for record in records.take(usize::try_from(left).unwrap_or(usize::MAX)) {
                match arguments.raw {
                    true => {
                        out.write_all(record.value.as_deref().unwrap_or_default())?;
                        out.write_all(b"\n")?;
                    }
                    false => writeln!(out, "{}", record_json(&record))?,
                }
                left -= 1;
            }
            next = batch.next_offset();
        }
    }
    Ok(Outcome::Done)
}

fn by_http(arguments: Arguments) -> Result<Outcome> {
    let mut client = Client::new(arguments.http)?;
    let topic = &arguments.topic;
    let partitions = match arguments.partition {
        Some(partition) => vec![partition],
        None => {
            let described = client.json(Method::GET, &format!("/v1/topics/{topic}"), None)?;
            (0..described["partitions"].as_i64().unwrap_or(1) as i32).collect()
        }
    };
    let mut places: Vec<(i32, String)> =
        partitions.into_iter().map(|partition| (partition, arguments.from.clone())).collect();
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    let mut out = std::io::stdout().lock();
    loop {
        let mut has_more = false;
        for (partition, from) in &mut places {
            if left == 0 {
                return Ok(Outcome::Done);
            }
            let page = client.page(topic, *partition, from, left.min(PAGE))?;
            *from = page.next.to_string();
            has_more |= !page.events.is_empty();
            left -= page.events.len() as u64;
            for event in page.events {
                match arguments.raw {
                    true => write_value(&mut out, event.get())?,
                    false => write_line(&mut out, *partition, event.get())?,
                }
            }
        }
        out.flush()?;
        if !has_more {
            if !arguments.follow {
                return Ok(Outcome::Done);
            }
            std::thread::sleep(FOLLOW_INTERVAL);
        }
    }
}

/// The record as the door wrote it, with its partition before all else.
fn write_line(out: &mut impl Write, partition: i32, event: &str) -> Result<()> {
    let fields = event.trim_start().strip_prefix('{').context("the daemon sent a record that is no object")?;
    Ok(writeln!(out, "{{\"partition\":{partition},{fields}")?)
}

/// What a record holds.
#[derive(Deserialize)]
struct Held<'e> {
    #[serde(borrow)]
    value: Option<&'e RawValue>,
    value_base64: Option<String>,
}

/// The value alone: bytes as they are, text and JSON as a line, nothing for a record without one.
fn write_value(out: &mut impl Write, event: &str) -> Result<()> {
    let held: Held<'_> = serde_json::from_str(event).context("the daemon sent a record that is not understood")?;
    if let Some(text) = held.value_base64 {
        return Ok(out.write_all(&STANDARD.decode(text).context("the daemon sent bytes that are not base64")?)?);
    }
    match held.value.map(RawValue::get) {
        None => {}
        Some(text) if text.starts_with('"') => writeln!(out, "{}", serde_json::from_str::<String>(text)?)?,
        Some(json) => writeln!(out, "{json}")?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_they_were_sent() {
        let written = |event: &str| {
            let mut out = Vec::new();
            write_value(&mut out, event).unwrap();
            out
        };
        assert_eq!(written(r#"{"value_base64":"/9j/4AAQ"}"#), [0xff, 0xd8, 0xff, 0xe0, 0, 0x10]);
        let odd = r#"{"a":1,"a":12345678901234567890123,"f":1.10,"g":1E400,"h":-0}"#;
        assert_eq!(written(&format!(r#"{{"offset":1,"value":{odd}}}"#)), format!("{odd}\n").as_bytes());
        assert_eq!(written(r#"{"value":"te\u0078t"}"#), b"text\n");
        assert!(written(r#"{"value":null}"#).is_empty());
        let mut line = Vec::new();
        write_line(&mut line, 3, &format!(r#"{{"offset":1,"value":{odd}}}"#)).unwrap();
        assert_eq!(line, format!("{{\"partition\":3,\"offset\":1,\"value\":{odd}}}\n").as_bytes());
    }
}
