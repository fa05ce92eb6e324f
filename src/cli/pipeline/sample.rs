//! Events to look at: some of a topic of a running daemon, or of a file.

use crate::client::Client;
use crate::clock::Clock;
use crate::record::Record;
use crate::stream::{Events, record_of};
use anyhow::{Context, Result};
use hyper::Method;
use serde_json::value::RawValue;
use std::io::{BufRead, Read};
use std::path::Path;

/// Events that are looked at.
pub(super) const EVENTS_MAX: u64 = 1_000;
/// A line of a file is not longer.
const LINE_SIZE_MAX: u64 = 100 << 20;

/// The first events of a file, or the last ones of a topic (`topic:clicks`).
pub(super) fn events(from: &str, http: &str) -> Result<Vec<Record>> {
    match from.strip_prefix("topic:") {
        Some(topic) => of_topic(topic, http),
        None => of_file(Path::new(from)),
    }
}

fn of_topic(topic: &str, http: &str) -> Result<Vec<Record>> {
    let mut client = Client::new(http)?;
    let described = client.json(Method::GET, &format!("/v1/topics/{topic}"), None)?;
    let partitions = described["partitions"].as_i64().unwrap_or(1).max(1);
    let each = EVENTS_MAX / partitions as u64 + 1;
    let mut found = Vec::new();
    for partition in 0..partitions {
        let partition = partition as i32;
        let end = client.page(topic, partition, "end", each)?.next;
        // The beginning may have left the log: the nearest there is.
        let from = (end - each as i64).max(0).to_string();
        let page = client.page(topic, partition, &from, each);
        let page = page.or_else(|_| client.page(topic, partition, "start", each))?;
        let record = |(line, number): (Box<RawValue>, i64)| record_of(line.get().as_bytes(), number, &Clock::System);
        found.extend(page.events.into_iter().zip(0..).map(record));
    }
    Ok(found)
}

fn of_file(path: &Path) -> Result<Vec<Record>> {
    let opened = Events::open(path).with_context(|| format!("cannot open the events {}", path.display()))?;
    let mut lines = opened.lines;
    let (mut found, mut line) = (Vec::new(), Vec::new());
    while (found.len() as u64) < EVENTS_MAX {
        line.clear();
        if (&mut lines).take(LINE_SIZE_MAX).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let event = line.trim_ascii();
        if !event.is_empty() {
            found.push(record_of(event, found.len() as i64, &Clock::System));
        }
    }
    Ok(found)
}
