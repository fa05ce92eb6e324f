//! Bodies of HTTP requests: what they are, what they unpack to, where their events stand.

use super::split;
use crate::server::http::sniff::{BODY_SIZE_MAX, DEPTH_MAX, binary_type, packing, split as events, unpack};
use crate::store::HttpCheck;

const ENCODINGS: [Option<&str>; 4] = [None, Some("gzip"), Some("zstd"), Some("br")];
const TYPES: [&str; 4] = ["application/json", "text/plain", "image/jpeg", "application/octet-stream"];
const CHECKS: [HttpCheck; 3] = [HttpCheck::Json, HttpCheck::Utf8, HttpCheck::None];

/// How the request names its body, and the body.
pub(super) fn body(bytes: &[u8]) {
    let Some((how, body)) = split(bytes) else { return };
    let (encoding, content_type) = (ENCODINGS[how % 4], TYPES[how / 4 % 4]);
    let Ok(packing) = packing(body, encoding, content_type) else { return };
    let Ok(body) = unpack(body, packing) else { return };
    assert!(body.len() <= BODY_SIZE_MAX.max(bytes.len()));
    if binary_type(&body, content_type).is_some() {
        return;
    }
    let check = CHECKS[how / 16 % 3];
    let Ok(found) = events(&body, check) else { return };
    assert_eq!(found.places.len(), found.lines.len());
    let mut end = 0;
    for place in &found.places {
        assert!(place.start >= end && place.start < place.end, "events overlap or are empty");
        end = place.end;
        let event = &body[place.start as usize..place.end as usize];
        // What the door lets through as JSON is JSON to everybody.
        if check == HttpCheck::Json {
            let value: serde_json::Value = serde_json::from_slice(event).expect("the door lets only JSON through");
            assert!(depth(&value) <= DEPTH_MAX, "deeper than the door lets through");
        }
    }
    assert!(found.bad.iter().all(|bad| bad.place.end as usize <= body.len()));
}

fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
