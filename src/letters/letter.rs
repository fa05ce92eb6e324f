//! One dead letter, read from its headers: ours, those of Spring's recoverer, and what an operator wants to see of it.

use crate::record::Record;
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Headers that say where a letter comes from; each failure adds its own, the first are the origin.
pub(super) const ORIGINAL: &[u8] = b"kafka_dlt-original-";
/// Headers that speak of the last failure, and marks of who wrote the letter.
pub(super) const OF_LAST: [&[u8]; 3] = [b"kafka_dlt-exception-", b"inrush-dlt-", b"inrush-source"];
/// The partition that rows name which no single record made.
const NO_PARTITION: i32 = -1;
const ORIGINAL_TOPIC: &[u8] = b"kafka_dlt-original-topic";
/// What a letter of a batch that could not be decoded says: its value is that batch.
const BAD_BATCH: &str = "bad-batch";
/// Of a letter that names none of ours, such as Spring's.
const UNKNOWN: &str = "-";

/// A record of a dead letter topic.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'a> {
    pub partition: i32,
    pub record: &'a Record,
}

/// Where a letter's record stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub partition: Option<i32>,
    pub offset: Option<i64>,
    pub timestamp: Option<i64>,
}

impl<'a> Letter<'a> {
    pub fn of(partition: i32, record: &'a Record) -> Letter<'a> {
        Letter { partition, record }
    }

    /// The last header of that name, as text.
    fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut headers = self.record.headers.iter().rev();
        let (_, value) = headers.find(|(own, _)| own.as_ref() == name.as_bytes())?;
        value.as_deref().map(String::from_utf8_lossy)
    }

    /// The pipeline that failed on it; none of one that the HTTP door did not take.
    pub fn pipeline(&self) -> Option<Cow<'a, str>> {
        self.text("inrush-dlt-pipeline")
    }

    pub fn reason(&self) -> Cow<'a, str> {
        self.text("inrush-dlt-reason").unwrap_or(UNKNOWN.into())
    }

    pub fn column(&self) -> Option<Cow<'a, str>> {
        self.text("inrush-dlt-column").filter(|column| !column.is_empty())
    }

    pub fn step(&self) -> Cow<'a, str> {
        self.text("inrush-dlt-step").unwrap_or(UNKNOWN.into())
    }

    /// The outputs that lack it, comma separated.
    pub fn outputs(&self) -> Cow<'a, str> {
        self.text("inrush-dlt-output").unwrap_or(UNKNOWN.into())
    }

    /// Whether this output lacks it.
    pub fn is_of_output(&self, output: &str) -> bool {
        self.outputs().split(", ").any(|one| one == output)
    }

    /// Whether its value is a batch of the log, and no record.
    pub fn is_batch(&self) -> bool {
        self.reason() == BAD_BATCH
    }

    /// Whether it is a row of a window, which no record of the source is.
    pub fn is_of_window(&self) -> bool {
        self.origin(None).partition == Some(NO_PARTITION)
    }

    /// Where its record stood in the topic `from`; without it, or if it never was there, where it first failed.
    pub fn origin(&self, from: Option<&str>) -> Origin {
        let first = first_origin_header(self.record, from).unwrap_or(0);
        let number = |name: &str| {
            let mut own = self.record.headers[first.min(self.record.headers.len())..].iter();
            own.find(|(own, _)| own.as_ref() == name.as_bytes()).and_then(|(_, value)| value.as_deref())
        };
        Origin {
            partition: number("kafka_dlt-original-partition")
                .and_then(|bytes| Some(i32::from_be_bytes(bytes.try_into().ok()?))),
            offset: number("kafka_dlt-original-offset")
                .and_then(|bytes| Some(i64::from_be_bytes(bytes.try_into().ok()?))),
            timestamp: number("kafka_dlt-original-timestamp")
                .and_then(|bytes| Some(i64::from_be_bytes(bytes.try_into().ok()?))),
        }
    }

    /// For people and programs: where it comes from, why it is here, what it holds.
    pub fn json(&self, is_handled: bool) -> Value {
        let origin = self.origin(None);
        let topic = first_origin_header(self.record, None)
            .and_then(|at| self.record.headers[at].1.as_deref())
            .map(String::from_utf8_lossy);
        let text = |name: &str| self.text(name).filter(|text| !text.is_empty());
        let mut letter = json!({
            "partition": self.partition,
            "offset": self.record.offset.0,
            "time": time_text(self.record.timestamp),
            "handled": is_handled,
            "pipeline": self.pipeline(),
            "reason": self.reason(),
            "step": self.step(),
            "output": text("inrush-dlt-output"),
            "column": text("inrush-dlt-column"),
            "message": text("kafka_dlt-exception-message"),
            "from": { "topic": topic, "partition": origin.partition, "offset": origin.offset },
            "key": self.record.key.as_deref().map(String::from_utf8_lossy),
        });
        if let Value::Object(fields) = &mut letter {
            put_bytes(fields, "value", self.record.value.as_deref());
            let mut headers = Map::new();
            for (name, value) in &self.record.headers {
                let is_told = name.starts_with(ORIGINAL) || OF_LAST.iter().any(|prefix| name.starts_with(prefix));
                if !is_told {
                    put_bytes(&mut headers, &String::from_utf8_lossy(name), value.as_deref());
                }
            }
            fields.insert("headers".to_owned(), Value::Object(headers));
        }
        letter
    }
}

/// Text as it is, other bytes as base64 with their length.
fn put_bytes(fields: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    let value = match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => text.into(),
        Some((bytes, Err(_))) => {
            fields.insert(format!("{name}_bytes"), bytes.len().into());
            fields.insert(format!("{name}_base64"), STANDARD.encode(bytes).into());
            return;
        }
    };
    fields.insert(name.to_owned(), value);
}

/// Where the headers of the failure in the topic `from` begin; without it, or if none speaks of it, those of the first failure.
pub(super) fn first_origin_header(record: &Record, from: Option<&str>) -> Option<usize> {
    let is_origin = |(name, _): &(bytes::Bytes, Option<bytes::Bytes>)| name.as_ref() == ORIGINAL_TOPIC;
    let of_source = from.and_then(|from| {
        let is_source = |value: &Option<bytes::Bytes>| value.as_deref() == Some(from.as_bytes());
        record.headers.iter().position(|header| is_origin(header) && is_source(&header.1))
    });
    of_source.or_else(|| record.headers.iter().position(is_origin))
}

/// A timestamp as RFC 3339, or its number where that has no form.
pub(super) fn time_text(ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(ms);
    time.map_or(ms.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
}
