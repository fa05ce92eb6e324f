//! `inrush pipeline tap`: rows of a running pipeline as they pass.

use crate::cli::{Outcome, harmless};
use crate::client::Client;
use anyhow::Result;
use clap::Args;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write;

#[derive(Args)]
pub(super) struct Arguments {
    pipeline: String,
    /// Where to look: a step by its number or kind, `columns` (before the first one), or `routes` (what goes out).
    #[arg(long, value_name = "STEP", default_value = "routes")]
    after: String,
    /// Only rows that go to this output: `topic people`, or `people`.
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Only rows of which this SQL is true; of the columns that are there at that place.
    #[arg(long = "where", value_name = "SQL")]
    filter: Option<String>,
    /// Stops after so many rows.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Rows a second at the most; the others are counted.
    #[arg(long, value_name = "N/s", default_value = "1000/s", value_parser = rate)]
    rate: u32,
    /// Also rows that are left out, with the reason, and dead letters.
    #[arg(long)]
    bad: bool,
}

pub(super) fn run(admin: &str, asked: &Arguments, json: bool) -> Result<Outcome> {
    let mut query = format!("pipeline={}&rate={}", encoded(&asked.pipeline), asked.rate);
    let mut add = |name: &str, value: &str| {
        let _ = write!(query, "&{name}={}", encoded(value));
    };
    add("after", &asked.after);
    asked.output.iter().for_each(|output| add("output", output));
    asked.filter.iter().for_each(|filter| add("where", filter));
    asked.limit.iter().for_each(|limit| add("limit", &limit.to_string()));
    if asked.bad {
        add("bad", "true");
    }
    let mut out = std::io::stdout().lock();
    let mut is_cut = true;
    Client::new(admin)?.lines(&format!("/api/pipelines/tap?{query}"), |line| {
        let told: Value = if json { Value::Null } else { serde_json::from_slice(line)? };
        is_cut &= !line.starts_with(b"{\"end\"");
        match &told {
            Value::Null => {
                out.write_all(line)?;
                out.write_all(b"\n")?;
            }
            _ => tell(&mut out, line, &told)?,
        }
        out.flush()?;
        Ok(true)
    })?;
    if is_cut {
        anyhow::bail!("the connection to the daemon was lost");
    }
    Ok(Outcome::Done)
}

/// A row to standard output as it is; what is said of rows to standard error.
fn tell(out: &mut impl Write, line: &[u8], told: &Value) -> Result<()> {
    let text = |key: &str| told[key].as_str().unwrap_or_default();
    if let Some(reason) = told["filtered"].as_str() {
        match told["count"].as_u64() {
            Some(count) => eprintln!("{count} rows left out at {}: {reason}", text("step")),
            None => eprintln!("left out at {}, {reason}: {}", text("step"), told["row"]),
        }
    } else if let Some(reason) = told["dead"].as_str() {
        let column = told["column"].as_str().map_or(String::new(), |column| format!(" in {column}"));
        let place = format!("{}/{}", told["partition"], told["offset"]);
        let (message, value) = (harmless(text("message")), harmless(text("value")));
        eprintln!("dead letter, {reason}{column}: {message} (record {place}: {value})");
    } else if let Some(count) = told["not_shown"].as_u64() {
        eprintln!("{count} rows were not shown");
    } else if let Some(why) = told["end"].as_str() {
        eprintln!("ended: {why}");
    } else if let Some(row) = row_of(line) {
        out.write_all(row)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// The row in a line, as it was written: its columns keep their order.
fn row_of(line: &[u8]) -> Option<&[u8]> {
    let at = memchr::memmem::find(line, b"\"row\":")?;
    line.get(at + 6..line.len() - 1)
}

/// Percent-encoded, for a query.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(char::from(byte)),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

fn rate(text: &str) -> Result<u32, String> {
    match text.trim_end_matches("/s").parse::<u32>() {
        Ok(rate) if (1..=crate::control::RATE_MAX).contains(&rate) => Ok(rate),
        _ => Err(format!("\"{text}\" is no rate of 1/s to {}/s", crate::control::RATE_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_keeps_sql_whole_and_a_row_keeps_its_text() {
        assert_eq!(encoded("n > 1 and a='ä'"), "n%20%3E%201%20and%20a%3D%27%C3%A4%27");
        let line = br#"{"partition":0,"offset":1,"output":"topic o","row":{"b":1,"a":"\"row\":"}}"#;
        assert_eq!(row_of(line), Some(&br#"{"b":1,"a":"\"row\":"}"#[..]));
        assert!(rate("0").is_err() && rate("5/s") == Ok(5));
    }
}
