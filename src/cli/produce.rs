//! `inrush produce`: lines to events, by HTTP or as a Kafka producer.

use super::Outcome;
use crate::client::{Client, KafkaClient};
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

#[derive(Args)]
pub(super) struct Arguments {
    topic: String,
    /// A file of one JSON value a line; standard input without it.
    file: Option<PathBuf>,
    /// Address of the HTTP door.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    http: String,
    /// Address of the Kafka door: sends there instead. Lines are not looked at, partitions take turns.
    #[arg(long, value_name = "ADDR")]
    kafka: Option<String>,
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<Outcome> {
    let input: Box<dyn Read> = match &arguments.file {
        Some(path) => Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?),
        None => Box::new(std::io::stdin()),
    };
    let mut lines = BufReader::new(input).lines();
    if let Some(address) = &arguments.kafka {
        return by_kafka(address, &arguments.topic, lines, arguments.json);
    }
    let mut client = Client::new(arguments.http)?;
    let path = format!("/v1/topics/{}/events", arguments.topic);
    let (mut taken, mut bad, mut first_line) = (0, 0, 1);
    loop {
        let mut body = String::new();
        let mut count = 0;
        while count < LINES_MAX && body.len() < SIZE_MAX {
            let Some(line) = lines.next() else { break };
            let line = line?;
            let is_value = serde_json::from_str::<serde::de::IgnoredAny>(&line).is_ok();
            body.push_str(&line);
            body.push('\n');
            count += 1;
            // A body whose first line is no value is one value to the door: such a line goes alone, or it would take the others with it.
            if count == 1 && !is_value {
                break;
            }
        }
        if count == 0 {
            break;
        }
        if body.trim().is_empty() {
            continue;
        }
        let answer = client.call(Method::POST, &path, "application/x-ndjson", body)?;
        let said: Value = serde_json::from_slice(&answer.body)?;
        taken += said["taken"].as_u64().unwrap_or(0);
        for line in said["bad"].as_array().into_iter().flatten() {
            bad += 1;
            let number = line["line"].as_u64().unwrap_or(0) + first_line - 1;
            eprintln!("line {number}: {}", line["reason"].as_str().unwrap_or_default());
        }
        first_line += count as u64;
        if answer.status != StatusCode::OK && said["bad"].as_array().is_none_or(Vec::is_empty) {
            anyhow::bail!("{}: {}", answer.status, said["error"].as_str().unwrap_or_default());
        }
    }
    match arguments.json {
        true => println!("{}", serde_json::json!({ "taken": taken, "bad": bad })),
        false => println!("{taken} events are durable, {bad} lines were no events"),
    }
    Ok(if bad == 0 { Outcome::Done } else { Outcome::Found })
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
