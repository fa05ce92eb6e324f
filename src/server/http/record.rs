//! Records as JSON, for people and small programs. Values that are JSON stand in it as they were sent, number for number.

use super::json::is_json;
use crate::record::{Offset, PartitionId, Record};
use base64::{Engine, engine::general_purpose::STANDARD};

/// A record as one line of JSON, see [`put`].
pub fn text(record: &Record) -> String {
    let mut out = Vec::new();
    put(&mut out, record);
    // JSON that stands in it was checked to be UTF-8; all else is made of strings.
    String::from_utf8_lossy(&out).into_owned()
}

/// Appends one record: JSON values as they are, other text as a string, bytes as base64 under `value_base64`. On one line.
pub(super) fn put(out: &mut Vec<u8>, record: &Record) {
    put_of(out, None, record);
}

/// As [`put`], with the number of its partition where that is to be told.
pub(super) fn put_of(out: &mut Vec<u8>, partition: Option<PartitionId>, record: &Record) {
    out.push(b'{');
    if let Some(partition) = partition {
        out.extend_from_slice(format!("\"partition\":{partition},").as_bytes());
    }
    out.extend_from_slice(format!("\"offset\":{},\"timestamp\":{},", record.offset, record.timestamp).as_bytes());
    put_field(out, "key", record.key.as_deref());
    out.push(b',');
    match record.value.as_deref() {
        Some(value) if is_json(value) => {
            out.extend_from_slice(b"\"value\":");
            let from = out.len();
            out.extend_from_slice(value);
            // Between tokens a line break is a space; within strings JSON has none.
            out[from..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        }
        value => put_field(out, "value", value),
    }
    out.extend_from_slice(b",\"headers\":{");
    let mut is_first = true;
    for (at, (name, value)) in record.headers.iter().enumerate() {
        // JSON has a name once: the last one counts, as Kafka's lastHeader has it.
        if record.headers[at + 1..].iter().any(|(later, _)| later == name) {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        put_field(out, &String::from_utf8_lossy(name), value.as_deref());
    }
    out.extend_from_slice(b"}}");
}

/// `"name":null`, `"name":"text"` or `"name_base64":"..."`.
fn put_field(out: &mut Vec<u8>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => {
            put_text(out, name);
            out.extend_from_slice(b":null");
        }
        Some((Ok(text), _)) => {
            put_text(out, name);
            out.push(b':');
            put_text(out, text);
        }
        Some((Err(_), bytes)) => {
            put_text(out, &format!("{name}_base64"));
            out.extend_from_slice(b":\"");
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    // Writing to memory cannot fail, and a string has a JSON form.
    let _ = serde_json::to_writer(out, text);
}

/// An answer with the records that `events` already holds as JSON.
pub(super) fn page(
    topic: &str,
    partition: PartitionId,
    bounds: (Offset, Offset),
    next: Offset,
    events: &[u8],
) -> Vec<u8> {
    let (start, tail) = bounds;
    let mut out = Vec::with_capacity(events.len() + 200);
    // A topic's name needs no escapes.
    let head = format!(
        "{{\"topic\":\"{topic}\",\"partition\":{partition},\"start\":{start},\"tail\":{tail},\"next\":{next},\"events\":["
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(events);
    out.extend_from_slice(b"]}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn values_stand_as_they_were_sent_on_one_line() {
        let bytes = |text: &[u8]| Some(Bytes::copy_from_slice(text));
        let json = |value: &[u8]| {
            let headers =
                vec![(Bytes::from("a"), bytes(b"1")), (Bytes::from("b"), None), (Bytes::from("a"), bytes(b"\xff"))];
            let record = Record { offset: Offset(3), timestamp: 5, key: bytes(b"k"), value: bytes(value), headers };
            let mut out = Vec::new();
            put(&mut out, &record);
            String::from_utf8(out).unwrap()
        };
        let rest = "\"headers\":{\"b\":null,\"a_base64\":\"/w==\"}}";
        let start = "{\"offset\":3,\"timestamp\":5,\"key\":\"k\",";
        let number = "12345678901234567890.10";
        assert_eq!(
            json(format!("{{\"n\":\n{number}}}").as_bytes()),
            format!("{start}\"value\":{{\"n\": {number}}},{rest}")
        );
        assert_eq!(json(b"{broken"), format!("{start}\"value\":\"{{broken\",{rest}"));
        assert_eq!(json(b"\xff\xd8"), format!("{start}\"value_base64\":\"/9g=\",{rest}"));
    }
}
