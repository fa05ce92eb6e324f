//! Bodies of HTTP requests: what they are, what they unpack to, where their events stand.

use super::split;
use crate::server::http::json::Judge;
use crate::server::http::multipart;
use crate::server::http::sniff::{BODY_SIZE_MAX, events, packing, unpack};
use crate::server::http::split::{EVENTS_MAX, Found};
use crate::store::HttpCheck;

const ENCODINGS: [Option<&str>; 4] = [None, Some("gzip"), Some("zstd"), Some("br")];
const TYPES: [&str; 6] =
    ["application/json", "text/plain", "image/jpeg", "application/octet-stream", "application/pdf", ""];
const CHECKS: [HttpCheck; 3] = [HttpCheck::Json, HttpCheck::Utf8, HttpCheck::None];
const BOUNDARY: &str = "x";

/// How the request names its body, and the body.
pub(super) fn body(bytes: &[u8]) {
    let Some((how, body)) = split(bytes) else { return };
    let (encoding, content_type) = (ENCODINGS[how % 4], TYPES[how / 4 % 6]);
    let Ok(packing) = packing(body, encoding, content_type) else { return };
    let Ok(body) = unpack(body, packing, |_| true) else { return };
    assert!(body.len() <= BODY_SIZE_MAX.max(bytes.len()), "it unpacks to more than is allowed");
    let check = CHECKS[how / 24 % 3];
    let judge = if how / 72 % 2 == 0 { judge(check) } else { Judge::new(check, None, None, 0) };
    let Ok(found) = events(&body, content_type, &judge) else { return };
    whole(&body, &found);
    let is_binary = found.events.iter().any(|event| !event.headers.is_empty());
    if check != HttpCheck::Json || is_binary {
        return;
    }
    for event in &found.events {
        // What the door lets through as JSON is JSON to everybody; how large a number may be is a reader's own matter.
        let event = &body[event.value.start as usize..event.value.end as usize];
        std::str::from_utf8(event).expect("JSON is UTF-8");
        let _: serde::de::IgnoredAny = serde_json::from_slice(event).expect("the door lets only JSON through");
    }
}

/// A `multipart/form-data` body.
pub(super) fn multipart(body: &[u8]) {
    if let Ok(found) = multipart::events(body, BOUNDARY, &judge(HttpCheck::Json)) {
        whole(body, &found);
    }
}

fn judge(check: HttpCheck) -> Judge {
    Judge::new(check, Some("/user/id"), Some("/ts"), 1_700_000_000_000)
}

/// Events lie within the body, one behind the other.
fn whole(body: &[u8], found: &Found) {
    assert_eq!(found.events.len(), found.lines.len());
    assert!(found.events.len() + found.bad.len() <= EVENTS_MAX);
    let mut end = 0;
    for event in &found.events {
        assert!(event.value.start >= end && event.value.start <= event.value.end, "events overlap");
        end = event.value.end;
    }
    assert!(end as usize <= body.len() && found.bad.iter().all(|bad| bad.place.end as usize <= body.len()));
}
