//! `inrush produce`: lines to events.

use super::Outcome;
use crate::client::Client;
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
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<Outcome> {
    let input: Box<dyn Read> = match &arguments.file {
        Some(path) => Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?),
        None => Box::new(std::io::stdin()),
    };
    let mut lines = BufReader::new(input).lines();
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
