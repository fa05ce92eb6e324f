//! `POST /v1/topics/{topic}/events`: a body becomes events, the events a chunk, and the answer waits until they are durable.

use super::HttpDoor;
use super::body;
use super::quarantine;
use super::reply::{Reply, Taken, json, ranges, refuse};
use super::sniff::{self, Events, Packing};
use crate::budget::Lease;
use crate::ingest::{Chunk, Event, Outcome};
use crate::record::TopicName;
use crate::store::{AppendError, HttpCheck, NewTopic, Topic, TopicConfig, TopicError};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, ORIGIN};
use hyper::{Request, StatusCode};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// A client's time outside of this window around the arrival is not believed: seven days back, an hour ahead.
const TIME_BACK_MS: i64 = 7 * 24 * 60 * 60 * 1000;
const TIME_AHEAD_MS: i64 = 60 * 60 * 1000;
/// Where a larger body is unpacked and split, off the socket task.
const INLINE_SIZE_MAX: usize = 64 << 10;

pub(super) async fn events(door: &Arc<HttpDoor>, topic: &str, peer: SocketAddr, request: Request<Incoming>) -> Reply {
    let began = Instant::now();
    let (head, incoming) = request.into_parts();
    let mut reply = match take(door, topic, peer, &head.headers, head.uri.query(), incoming).await {
        Ok(reply) | Err(reply) => reply,
    };
    door.origins.grant(&head.headers, reply.headers_mut());
    metrics::histogram!(crate::metrics::HTTP_POST_SECONDS.name).record(began.elapsed().as_secs_f64());
    reply
}

async fn take(
    door: &Arc<HttpDoor>,
    name: &str,
    peer: SocketAddr,
    headers: &HeaderMap,
    query: Option<&str>,
    incoming: Incoming,
) -> Result<Reply, Reply> {
    check_key(door, headers, query)?;
    let topic = topic(door, name, headers).await?;
    let (packed, mut lease) = body::receive(door, incoming).await?;
    let content_type = text(headers, CONTENT_TYPE.as_str()).unwrap_or_default().to_ascii_lowercase();
    let bad_body = |error: sniff::BodyError| {
        let status = match error {
            sniff::BodyError::TooLarge | sniff::BodyError::TooMany | sniff::BodyError::Bomb => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            _ => StatusCode::BAD_REQUEST,
        };
        refuse(status, error.to_string())
    };
    let packing = sniff::packing(&packed, text(headers, CONTENT_ENCODING.as_str()), &content_type).map_err(bad_body)?;
    let body = match packing {
        Packing::Plain => packed,
        packing => {
            // The largest it may become is reserved before it is unpacked; what is not needed goes back with the lease.
            lease.merge(body::reserve(door, sniff::BODY_SIZE_MAX.min(packed.len().saturating_mul(16))).await?);
            let unpacked = off_task(packed.len(), move || sniff::unpack(&packed, packing)).await;
            Bytes::from(unpacked.map_err(bad_body)?)
        }
    };
    let received_ms = door.clock.now_ms();
    let config = topic.config();
    let shared = shared_headers(&config, headers, peer, received_ms);
    if let Some(kind) = sniff::binary_type(&body, &content_type) {
        return Ok(binary(door, &topic, body, kind, query, shared, received_ms, lease).await);
    }
    let check = config.http_check;
    let copy = body.clone();
    let events = off_task(body.len(), move || sniff::split(&copy, check)).await.map_err(bad_body)?;
    Ok(store(door, &topic, &config, body, events, shared, received_ms, lease).await)
}

/// Runs work that grows with the body: here if it is small, else on a blocking thread.
async fn off_task<T: Send + 'static>(size: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if size <= INLINE_SIZE_MAX {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

#[allow(clippy::too_many_arguments)] // The parts of one request, each used once.
async fn store(
    door: &HttpDoor,
    topic: &Arc<Topic>,
    config: &TopicConfig,
    body: Bytes,
    events: Events,
    shared: Vec<(Bytes, Bytes)>,
    received_ms: i64,
    lease: Lease,
) -> Reply {
    let mut answer = Taken::default();
    let mut status = StatusCode::OK;
    for bad in &events.bad {
        answer.list_bad(bad.line, bad.reason.clone());
    }
    if config.http_quarantine && !events.bad.is_empty() {
        answer.quarantined = quarantine::keep(door, topic, &body, &events.bad, &shared, received_ms).await;
    }
    if events.places.is_empty() {
        answer.error = Some("no line of the body is an event".to_owned());
        return json(StatusCode::BAD_REQUEST, &answer);
    }
    let read = |place: &std::ops::Range<u32>| event(config, &body, place.clone(), received_ms);
    let list: Vec<Event> = events.places.iter().map(read).collect();
    let count = list.len();
    let bytes: u64 = list.iter().map(|event| event.value.len() as u64).sum();
    let chunk = Chunk { body, events: list, headers: shared, lease: Some(lease), is_compressible: true };
    match door.ingest.send(topic, chunk).await {
        Err(_) => return refuse(StatusCode::TOO_MANY_REQUESTS, "the batcher's queue is full; try again"),
        Ok(outcomes) => settle(&mut answer, &mut status, &events.lines, outcomes),
    }
    if answer.taken > 0 {
        let share = answer.taken as f64 / count as f64;
        metrics::counter!(crate::metrics::HTTP_EVENTS.name).increment(answer.taken as u64);
        metrics::counter!(crate::metrics::HTTP_EVENT_BYTES.name).increment((bytes as f64 * share) as u64);
    }
    json(status, &answer)
}

/// Turns what became of the events into the answer's lines and status.
fn settle(answer: &mut Taken, status: &mut StatusCode, lines: &[usize], outcomes: Vec<Outcome>) {
    let mut retry = Vec::new();
    let mut is_refused_whole = true;
    for outcome in outcomes {
        let of = |index: &u32| lines.get(*index as usize).copied().unwrap_or_default();
        match outcome.result {
            Ok(_) => {
                answer.taken += outcome.events.len();
                is_refused_whole = false;
            }
            // Too large for the topic: the same event would be refused again.
            Err(error @ (AppendError::TooLarge { .. } | AppendError::Invalid(_))) => {
                for index in &outcome.events {
                    answer.list_bad(of(index), error.to_string());
                }
                answer.error.get_or_insert_with(|| error.to_string());
                if *status == StatusCode::OK {
                    *status = StatusCode::PAYLOAD_TOO_LARGE;
                }
                is_refused_whole &= answer.taken == 0;
            }
            Err(error) => {
                retry.extend(outcome.events.iter().map(of));
                *status = match error {
                    AppendError::LowDisk(_) if is_refused_whole => StatusCode::INSUFFICIENT_STORAGE,
                    AppendError::QueueFull if is_refused_whole => StatusCode::TOO_MANY_REQUESTS,
                    _ => StatusCode::SERVICE_UNAVAILABLE,
                };
                answer.error = Some(error.to_string());
            }
        }
    }
    if answer.taken > 0 && !retry.is_empty() {
        *status = StatusCode::SERVICE_UNAVAILABLE;
    } else if answer.taken > 0 {
        // Some lines are stored and others can never be: that is what `bad` says.
        *status = StatusCode::OK;
    }
    retry.sort_unstable();
    answer.retry = ranges(&retry);
}

/// One picture or other binary body as one event; query parameters become headers.
#[allow(clippy::too_many_arguments)] // The parts of one request, each used once.
async fn binary(
    door: &HttpDoor,
    topic: &Arc<Topic>,
    body: Bytes,
    kind: String,
    query: Option<&str>,
    shared: Vec<(Bytes, Bytes)>,
    received_ms: i64,
    lease: Lease,
) -> Reply {
    let mut own = vec![(Bytes::from_static(b"content-type"), Bytes::from(kind.clone()))];
    let parameters = query.into_iter().flat_map(|query| query.split('&')).filter_map(|pair| pair.split_once('='));
    for (name, value) in parameters.filter(|(name, _)| *name != "key") {
        own.push((Bytes::from(percent_decoded(name)), Bytes::from(percent_decoded(value))));
    }
    let size = body.len() as u32;
    let event = Event { value: 0..size, key: None, timestamp: received_ms, headers: own };
    let is_compressible = !kind.starts_with("image/");
    let chunk = Chunk { body, events: vec![event], headers: shared, lease: Some(lease), is_compressible };
    let mut answer = Taken::default();
    let mut status = StatusCode::OK;
    match door.ingest.send(topic, chunk).await {
        Err(_) => return refuse(StatusCode::TOO_MANY_REQUESTS, "the batcher's queue is full; try again"),
        Ok(outcomes) => settle(&mut answer, &mut status, &[1], outcomes),
    }
    if answer.taken > 0 {
        metrics::counter!(crate::metrics::HTTP_EVENTS.name).increment(1);
        metrics::counter!(crate::metrics::HTTP_EVENT_BYTES.name).increment(u64::from(size));
    }
    json(status, &answer)
}

fn event(config: &TopicConfig, body: &Bytes, place: std::ops::Range<u32>, received_ms: i64) -> Event {
    let mut event = Event { value: place, key: None, timestamp: received_ms, headers: Vec::new() };
    if (config.http_key.is_none() && config.http_timestamp.is_none()) || config.http_check != HttpCheck::Json {
        return event;
    }
    let value = &body[event.value.start as usize..event.value.end as usize];
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(value) else { return event };
    let at = |pointer: &Option<String>| pointer.as_deref().and_then(|pointer| value.pointer(pointer));
    event.key = match at(&config.http_key) {
        None | Some(serde_json::Value::Null) => None,
        Some(serde_json::Value::String(text)) => Some(Bytes::from(text.clone())),
        Some(other) => Some(Bytes::from(other.to_string())),
    };
    if config.http_timestamp.is_some() {
        let said = match at(&config.http_timestamp) {
            Some(serde_json::Value::String(text)) => {
                chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
            }
            Some(other) => other.as_f64().map(|ms| ms as i64),
            None => None,
        };
        match said.filter(|ms| (received_ms - TIME_BACK_MS..=received_ms + TIME_AHEAD_MS).contains(ms)) {
            Some(ms) => event.timestamp = ms,
            None => metrics::counter!(crate::metrics::HTTP_TIMES_NOT_BELIEVED.name).increment(1),
        }
    }
    event
}

fn shared_headers(
    config: &TopicConfig,
    headers: &HeaderMap,
    peer: SocketAddr,
    received_ms: i64,
) -> Vec<(Bytes, Bytes)> {
    let mut shared = vec![(Bytes::from_static(b"received"), Bytes::from(received_ms.to_string()))];
    for name in &config.http_capture {
        if name == "ip" {
            shared.push((Bytes::from_static(b"ip"), Bytes::from(peer.ip().to_string())));
        } else if let Some(value) = headers.get(name.as_str()) {
            shared.push((Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value.as_bytes())));
        }
    }
    shared
}

/// The topic, made if it may be: never for a page of another origin, or anybody could fill the catalog through a visitor's browser.
async fn topic(door: &HttpDoor, name: &str, headers: &HeaderMap) -> Result<Arc<Topic>, Reply> {
    if let Some(topic) = door.store.topic(name) {
        return Ok(topic);
    }
    let name = TopicName::new(name).map_err(|error| refuse(StatusCode::BAD_REQUEST, error.to_string()))?;
    let is_foreign =
        headers.get(ORIGIN).is_some_and(|origin| !origin.to_str().is_ok_and(|origin| door.origins.allows(origin)));
    if !door.auto_create || is_foreign {
        let hint = format!("topic \"{name}\" does not exist; create it: inrush topic create {name}");
        return Err(refuse(StatusCode::NOT_FOUND, hint));
    }
    match door.store.create_topic(NewTopic { name: name.clone(), partitions: 1, config: Vec::new() }).await {
        Ok(topic) => Ok(topic),
        // Another request was first.
        Err(TopicError::Exists(name)) => {
            door.store.topic(name.as_str()).ok_or_else(|| refuse(StatusCode::SERVICE_UNAVAILABLE, "try again"))
        }
        Err(error) => Err(refuse(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
    }
}

/// Keys are public identifiers that stand in web pages: what they are good for is to be taken away from one sender.
fn check_key(door: &HttpDoor, headers: &HeaderMap, query: Option<&str>) -> Result<(), Reply> {
    if door.write_keys.is_empty() {
        return Ok(());
    }
    let by_query = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("key=")));
    let by_basic =
        text(headers, AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Basic ")).and_then(basic_user);
    let key = text(headers, "x-write-key").map(str::to_owned).or(by_basic).or(by_query.map(str::to_owned));
    let Some(key) = key else {
        return Err(refuse(
            StatusCode::UNAUTHORIZED,
            "a write key is needed: header X-Write-Key, Basic user, or ?key=",
        ));
    };
    let hash: String = Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    if door.write_keys.iter().any(|known| known.eq_ignore_ascii_case(&hash)) {
        return Ok(());
    }
    Err(refuse(
        StatusCode::UNAUTHORIZED,
        "this write key is not known; its SHA-256 must stand under write-keys in the config",
    ))
}

/// The user of HTTP Basic: base64 of `user:password` or `user`.
fn basic_user(encoded: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0u32, 0u32);
    for symbol in encoded.trim().trim_end_matches('=').bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    Some(text.split(':').next().unwrap_or_default().to_owned())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Undoes percent-encoding; what is not valid stays as it is.
pub(super) fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match (bytes[at], hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (b'+', _) => {
                out.push(b' ');
                at += 1;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_basic_auth_is_the_key() {
        assert_eq!(basic_user("d3JpdGVLZXk6").as_deref(), Some("writeKey"));
        assert_eq!(basic_user("a2V5OnBhc3M=").as_deref(), Some("key"));
        assert_eq!(basic_user("!!"), None);
    }

    #[test]
    fn parameters_are_decoded() {
        assert_eq!(percent_decoded("front%20door+2%"), b"front door 2%");
    }

    #[test]
    fn a_partly_failed_request_names_the_lines_to_send_again() {
        let mut answer = Taken::default();
        let mut status = StatusCode::OK;
        let appended = crate::store::Appended {
            base_offset: crate::record::Offset(0),
            last_offset: crate::record::Offset(0),
            log_start: crate::record::Offset(0),
            append_time_ms: -1,
            is_duplicate: false,
        };
        let outcomes = vec![
            Outcome { events: vec![0], result: Ok((crate::record::PartitionId(0), appended)) },
            Outcome { events: vec![1, 2], result: Err(AppendError::Unknown("sync".into())) },
        ];
        settle(&mut answer, &mut status, &[1, 4, 5], outcomes);
        assert_eq!((answer.taken, answer.retry, status), (1, vec![(4, 5)], StatusCode::SERVICE_UNAVAILABLE));
    }
}
