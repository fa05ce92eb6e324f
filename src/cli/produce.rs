//! `inrush produce`: lines to events, or a file to one event; by HTTP or as a Kafka producer.

use super::Outcome;
use crate::client::{Answer, Client, KafkaClient};
use crate::clock::Clock;
use crate::record::{Codec, NewRecord};
use anyhow::{Context, Result};
use clap::Args;
use hyper::{Method, StatusCode};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

/// Lines and bytes of one request.
const LINES_MAX: usize = 1_000;
const SIZE_MAX: usize = 1 << 20;
/// A file that is one event is not larger; the door takes no more.
const RAW_SIZE_MAX: u64 = 8 << 20;

#[derive(Args)]
pub(super) struct Arguments {
    topic: String,
    /// A file of one JSON value a line; standard input without it.
    file: Option<PathBuf>,
    /// The whole input is one event, as it is: a picture, say.
    #[arg(long)]
    raw: bool,
    /// Content type of a raw event.
    #[arg(long = "type", value_name = "TYPE", default_value = "application/octet-stream", requires = "raw")]
    content_type: String,
    /// Header of a raw event's record, as often as needed.
    #[arg(long = "header", value_name = "NAME=VALUE", requires = "raw")]
    headers: Vec<String>,
    /// Address of the HTTP door. A write key is read from the environment: INRUSH_WRITE_KEY.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    http: String,
    /// Address of the Kafka door: sends there instead. Lines are not looked at, partitions take turns.
    #[arg(long, value_name = "ADDR")]
    kafka: Option<String>,
    #[arg(long)]
    json: bool,
}

/// What became of the events so far.
#[derive(Default)]
struct Sent {
    taken: u64,
    bad: u64,
    /// Lines that requests before this one had.
    lines: u64,
}

pub(super) fn run(arguments: Arguments) -> Result<Outcome> {
    let mut input: Box<dyn Read> = match &arguments.file {
        Some(path) => Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?),
        None => Box::new(std::io::stdin()),
    };
    if let Some(address) = &arguments.kafka {
        return by_kafka(address, &arguments.topic, BufReader::new(input).lines(), arguments.json);
    }
    let mut client = Client::new(arguments.http)?.with_write_key(std::env::var("INRUSH_WRITE_KEY").ok());
    let path = format!("/v1/topics/{}/events", arguments.topic);
    let mut sent = Sent::default();
    if arguments.raw {
        let mut body = Vec::new();
        input.by_ref().take(RAW_SIZE_MAX + 1).read_to_end(&mut body).context("cannot read the event")?;
        anyhow::ensure!(body.len() as u64 <= RAW_SIZE_MAX, "an event has at most {} MiB", RAW_SIZE_MAX >> 20);
        let query = query(&arguments.headers)?;
        let answer = client.call(Method::POST, &format!("{path}{query}"), &arguments.content_type, body)?;
        sent.count(&answer, 1)?;
    } else {
        let mut lines = BufReader::new(input).lines();
        while let Some((body, count)) = next_body(&mut lines)? {
            if body.trim().is_empty() {
                sent.lines += count;
                continue;
            }
            let answer = client.call(Method::POST, &path, "application/x-ndjson", body)?;
            sent.count(&answer, count)?;
        }
    }
    match arguments.json {
        true => println!("{}", serde_json::json!({ "taken": sent.taken, "bad": sent.bad })),
        false => println!("{} events are durable, {} lines were no events", sent.taken, sent.bad),
    }
    Ok(if sent.bad == 0 { Outcome::Done } else { Outcome::Found })
}

/// The lines of one request and how many there are; `None` at the end.
fn next_body(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Result<Option<(String, u64)>> {
    let mut body = String::new();
    let mut count = 0;
    while count < LINES_MAX && body.len() < SIZE_MAX {
        let Some(line) = lines.next() else { break };
        let line = line.context("cannot read a line; for bytes that are not text use --raw")?;
        let is_value = serde_json::from_str::<serde::de::IgnoredAny>(&line).is_ok();
        body.push_str(&line);
        body.push('\n');
        count += 1;
        // A body whose first line is no value is one value to the door: such a line goes alone, or it would take the others with it.
        if count == 1 && !is_value {
            break;
        }
    }
    Ok((count > 0).then_some((body, count as u64)))
}

impl Sent {
    fn count(&mut self, answer: &Answer, lines: u64) -> Result<()> {
        let said: Value = serde_json::from_slice(&answer.body)
            .with_context(|| format!("{} with something that is not JSON; is this the HTTP door?", answer.status))?;
        self.taken += said["taken"].as_u64().unwrap_or(0);
        for line in said["bad"].as_array().into_iter().flatten() {
            self.bad += 1;
            let number = line["line"].as_u64().unwrap_or(0) + self.lines;
            eprintln!("line {number}: {}", line["reason"].as_str().unwrap_or_default());
        }
        self.lines += lines;
        if answer.status != StatusCode::OK && said["bad"].as_array().is_none_or(Vec::is_empty) {
            let error = said["error"].as_str().unwrap_or_default();
            anyhow::bail!("{}: {error} ({} events were durable before)", answer.status, self.taken);
        }
        Ok(())
    }
}

/// Headers as query parameters, which the door makes record headers of.
fn query(headers: &[String]) -> Result<String> {
    let mut out = String::new();
    for header in headers {
        let (name, value) = header.split_once('=').with_context(|| format!("--header {header}: write NAME=VALUE"))?;
        out.push(if out.is_empty() { '?' } else { '&' });
        out.push_str(&encoded(name));
        out.push('=');
        out.push_str(&encoded(value));
    }
    Ok(out)
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn by_kafka(
    address: &str,
    topic: &str,
    mut lines: impl Iterator<Item = std::io::Result<String>>,
    is_json: bool,
) -> Result<Outcome> {
    let mut client = KafkaClient::connect(address)?;
    let partitions = client.partition_count(topic)?;
    let (mut taken, mut partition) = (0, 0);
    loop {
        let (mut values, mut size) = (Vec::new(), 0);
        while values.len() < LINES_MAX && size < SIZE_MAX / 2 {
            let Some(line) = lines.next() else { break };
            let line = line?;
            size += line.len();
            values.push(line);
        }
        if values.is_empty() {
            break;
        }
        let timestamp = Clock::System.now_ms();
        let mut records = Vec::with_capacity(values.len());
        for line in &values {
            records.push(NewRecord { timestamp, key: None, value: Some(line.as_bytes()), headers: &[] });
        }
        let batch = client.batch(topic, partition, &records, Codec::Zstd)?;
        client.send(topic, partition, &batch)?;
        taken += values.len();
        partition = (partition + 1) % partitions;
    }
    match is_json {
        true => println!("{}", serde_json::json!({ "taken": taken, "bad": 0 })),
        false => println!("{taken} events are durable"),
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_become_a_query() {
        let headers = ["camera=front door".to_owned(), "note=a&b=c".to_owned()];
        assert_eq!(query(&headers).unwrap(), "?camera=front%20door&note=a%26b%3Dc");
        assert!(query(&["nothing".to_owned()]).is_err());
    }

    #[test]
    fn a_first_line_that_is_no_value_goes_alone() {
        let mut lines = ["{broken", "{\"a\":1}", "{broken too", "2"].map(|line| Ok(line.to_owned())).into_iter();
        assert_eq!(next_body(&mut lines).unwrap(), Some(("{broken\n".to_owned(), 1)));
        assert_eq!(next_body(&mut lines).unwrap(), Some(("{\"a\":1}\n{broken too\n2\n".to_owned(), 3)));
        assert_eq!(next_body(&mut lines).unwrap(), None);
    }
}
