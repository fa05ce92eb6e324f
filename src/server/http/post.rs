//! `POST /v1/topics/{topic}/events`: a body becomes events, the events a chunk, and the answer waits until they are durable.

use super::HttpDoor;
use super::body;
use super::connection::Caller;
use super::fast_path;
use super::json::Judge;
use super::quarantine;
use super::query;
use super::reply::{Reply, Taken, ranges, refuse, refused};
use super::sniff::{self, BodyError, Packing};
use super::split::Found;
use crate::budget::Lease;
use crate::ingest::{Chunk, Event, Outcome};
use crate::record::TopicName;
use crate::store::{AppendError, HttpCheck, NewTopic, Topic, TopicConfig, TopicError};
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HeaderMap, HeaderName, ORIGIN};
use hyper::{Request, StatusCode};
use std::sync::Arc;
use std::time::Instant;

/// A larger body is split off the socket task: a millisecond at most stays on it.
const SPLIT_INLINE_MAX: usize = 256 << 10;
/// A larger packed body is unpacked off the socket task.
const UNPACK_INLINE_MAX: usize = 16 << 10;

/// What a request for events says beside its body.
struct Asked<'a> {
    topic: &'a str,
    query: Option<&'a str>,
    headers: &'a HeaderMap,
}

/// A request that hyper reads: its body comes after what its head says was looked at.
pub(super) async fn events(door: &HttpDoor, topic: &str, caller: &Caller, request: Request<Incoming>) -> Reply {
    let began = Instant::now();
    let (head, mut incoming) = request.into_parts();
    let asked = Asked { topic, query: head.uri.query(), headers: &head.headers };
    let taken = async {
        let topic = admit(door, &asked).await?;
        let (packed, lease) = body::receive(door, caller, &mut incoming).await?;
        take(door, &asked, caller, topic, packed, lease).await
    };
    let taken = taken.await;
    if taken.is_err() && !incoming.is_end_stream() && !head.headers.contains_key(EXPECT) {
        Box::pin(body::discard(&mut incoming)).await;
    }
    finish(door, &head.headers, began, taken)
}

/// A request whose body is there.
pub(super) async fn whole(door: &HttpDoor, caller: &Caller, request: fast_path::Request) -> Reply {
    let began = Instant::now();
    let fast_path::Request { topic, query, headers, body } = request;
    let asked = Asked { topic: &topic, query: query.as_deref(), headers: &headers };
    let taken = async {
        let topic = admit(door, &asked).await?;
        let lease = body::reserve(door, caller, body.len()).await?;
        take(door, &asked, caller, topic, body, lease).await
    };
    let taken = taken.await;
    finish(door, &headers, began, taken)
}

/// Both kinds of answer, with what a browser needs to see it.
fn finish(door: &HttpDoor, headers: &HeaderMap, began: Instant, taken: Result<Reply, Reply>) -> Reply {
    let (Ok(mut reply) | Err(mut reply)) = taken;
    door.origins.grant(headers, reply.headers_mut());
    door.meters.post_seconds.record(began.elapsed().as_secs_f64());
    reply
}

/// Whether a request may bring events, and where to.
async fn admit(door: &HttpDoor, asked: &Asked<'_>) -> Result<Arc<Topic>, Reply> {
    door.write_keys.check(asked.headers, asked.query).map_err(|reason| refuse(StatusCode::UNAUTHORIZED, reason))?;
    topic(door, asked.topic, asked.headers).await
}

// What this future holds over an await is moved with each request and kept by each connection: what is seldom is boxed.
async fn take(
    door: &HttpDoor,
    asked: &Asked<'_>,
    caller: &Caller,
    topic: Arc<Topic>,
    packed: Bytes,
    lease: Lease,
) -> Result<Reply, Reply> {
    let received_ms = door.clock.now_ms();
    let config = topic.config();
    let judge =
        Judge::new(config.http_check, config.http_key.as_deref(), config.http_timestamp.as_deref(), received_ms);
    let read = read(door, asked.headers, packed, lease, judge).await?;
    let mut shared = shared_headers(door, &config, caller, asked.headers, received_ms);
    if read.found.events.iter().any(|event| !event.headers.is_empty()) {
        describe(&mut shared, &read, asked.query);
    }
    Ok(Post { door, topic, config, shared, received_ms }.store(read).await)
}

/// A body that was understood.
struct Read {
    body: Bytes,
    lease: Lease,
    found: Found,
    is_multipart: bool,
}

/// Unpacks the body and finds its events, off the socket task if it is large.
async fn read(
    door: &HttpDoor,
    headers: &HeaderMap,
    packed: Bytes,
    mut lease: Lease,
    judge: Judge,
) -> Result<Read, Reply> {
    let content_type = text(headers, &CONTENT_TYPE).unwrap_or_default();
    let packing = sniff::packing(&packed, text(headers, &CONTENT_ENCODING), content_type).map_err(bad_body)?;
    let is_small = match packing {
        Packing::Plain => packed.len() <= SPLIT_INLINE_MAX,
        _ => packed.len() <= UNPACK_INLINE_MAX,
    };
    let work = move |content_type: &str| {
        let body = match packing {
            Packing::Plain => packed,
            packing => {
                let unpacked = sniff::unpack(&packed, packing, |bytes| lease.try_grow(bytes))?;
                drop(packed);
                lease.shrink_to(unpacked.capacity());
                Bytes::from(unpacked)
            }
        };
        let found = sniff::events(&body, content_type, &judge)?;
        let is_multipart = content_type.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("multipart/"));
        Ok(Read { body, lease, found, is_multipart })
    };
    if is_small {
        return work(content_type).map_err(bad_body);
    }
    let content_type = content_type.to_owned();
    Box::pin(door.off_task(move || work(&content_type))).await?.map_err(bad_body)
}

fn bad_body(error: BodyError) -> Reply {
    let status = match error {
        BodyError::TooLarge | BodyError::TooMany | BodyError::Bomb => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::Busy => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::BAD_REQUEST,
    };
    refuse(status, error.to_string())
}

/// Headers that all parts of a picture's or a multipart request share: its query parameters, and an id where there are parts.
fn describe(shared: &mut Vec<(Bytes, Bytes)>, read: &Read, query: Option<&str>) {
    for (name, value) in query::pairs(query).filter(|(name, _)| name != b"key") {
        shared.push((Bytes::from(name), Bytes::from(value)));
    }
    if read.is_multipart {
        let id = uuid::Uuid::new_v4().simple().to_string();
        shared.push((Bytes::from_static(b"multipart-id"), Bytes::from(id)));
    }
}

/// What a request is stored with.
struct Post<'a> {
    door: &'a HttpDoor,
    topic: Arc<Topic>,
    config: Arc<TopicConfig>,
    shared: Vec<(Bytes, Bytes)>,
    received_ms: i64,
}

impl Post<'_> {
    async fn store(self, read: Read) -> Reply {
        let Post { door, topic, config, shared, received_ms } = self;
        let Read { body, lease, found, .. } = read;
        let mut answer = Taken::default();
        if !found.bad.is_empty() {
            found.bad.iter().for_each(|bad| answer.list_bad(bad.line, &bad.reason));
            if config.http_quarantine {
                let keep = quarantine::keep(door, &topic, &body, &found.bad, &shared, received_ms);
                answer.quarantined = Box::pin(keep).await;
            }
        }
        if found.events.is_empty() {
            answer.error = Some("no line of the body is an event".to_owned());
            let mut reply = answer.reply(StatusCode::BAD_REQUEST);
            refused(&mut reply);
            return reply;
        }
        let count = found.events.len();
        let size: usize = found.events.iter().map(|event| event.value.len()).sum();
        let is_compressible = size / 2 >= pictures_size(&found.events);
        let chunk = Chunk { body, events: found.events, headers: shared, lease: Some(lease), is_compressible };
        let Ok(outcomes) = door.ingest.send(&topic, chunk).await else {
            return refuse(StatusCode::TOO_MANY_REQUESTS, "the batcher's queue is full; try again");
        };
        let status = settle(&mut answer, &found.lines, outcomes);
        if answer.taken > 0 {
            door.meters.events.increment(answer.taken as u64);
            // Of a request that was taken in part, its part.
            door.meters.event_bytes.increment((size * answer.taken / count) as u64);
        }
        if found.times_off > 0 {
            door.meters.times_not_believed.increment(found.times_off as u64);
        }
        let mut reply = answer.reply(status);
        if status != StatusCode::OK {
            refused(&mut reply);
        }
        reply
    }
}

/// Bytes of events that are compressed already.
fn pictures_size(events: &[Event]) -> usize {
    let is_picture = |event: &&Event| {
        let kinds = event.headers.iter().filter(|(name, _)| name.as_ref() == b"content-type");
        kinds.into_iter().any(|(_, kind)| kind.starts_with(b"image/") || kind.starts_with(b"video/"))
    };
    events.iter().filter(is_picture).map(|event| event.value.len()).sum()
}

/// Turns what became of the events into the answer and its status: 200, 503 with the lines to send again, or a refusal of all.
fn settle(answer: &mut Taken, lines: &[u32], outcomes: Vec<Outcome>) -> StatusCode {
    let (mut retry, mut reasons, mut too_large) = (Vec::new(), Vec::new(), None);
    for outcome in outcomes {
        let of = |index: u32| lines.get(index as usize).copied().unwrap_or_default();
        match outcome.result {
            Ok(_) => answer.taken += outcome.events.len(),
            // The same event would be refused again.
            Err(error @ (AppendError::TooLarge { .. } | AppendError::Invalid(_))) => {
                let reason = match error {
                    AppendError::TooLarge { .. } => format!("{error}; inrush topic alter can raise it"),
                    error => error.to_string(),
                };
                outcome.events.iter().for_each(|index| answer.list_bad(of(index), &reason));
                too_large = Some(reason);
            }
            Err(error) => {
                retry.extend(outcome.events.iter().map(of));
                reasons.push(error);
            }
        }
    }
    retry.sort_unstable();
    answer.retry = ranges(&retry);
    answer.error = reasons.first().map(ToString::to_string).or(too_large);
    let all = |is: fn(&AppendError) -> bool| answer.taken == 0 && reasons.iter().all(is);
    match answer.taken {
        // Some lines are stored and others can never be: that is what `bad` says.
        taken if reasons.is_empty() && taken > 0 => StatusCode::OK,
        _ if reasons.is_empty() => StatusCode::PAYLOAD_TOO_LARGE,
        _ if all(|error| matches!(error, AppendError::LowDisk(_))) => StatusCode::INSUFFICIENT_STORAGE,
        _ if all(|error| matches!(error, AppendError::QueueFull)) => StatusCode::TOO_MANY_REQUESTS,
        _ if all(|error| matches!(error, AppendError::NoPartition { .. })) => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// What each record of a request carries: when it came, and what the topic's config captures of the request's head.
fn shared_headers(
    door: &HttpDoor,
    config: &TopicConfig,
    caller: &Caller,
    headers: &HeaderMap,
    received_ms: i64,
) -> Vec<(Bytes, Bytes)> {
    let mut shared = Vec::with_capacity(2 + config.http_capture.len());
    shared.push((Bytes::from_static(b"received"), Bytes::from(received_ms.to_string())));
    // Where anything goes, the type is the only one who knows what it is.
    if config.http_check != HttpCheck::Json
        && let Some(kind) = headers.get(CONTENT_TYPE).filter(|kind| is_telling(kind.as_bytes()))
    {
        shared.push((Bytes::from_static(b"content-type"), Bytes::copy_from_slice(kind.as_bytes())));
    }
    for name in &config.http_capture {
        if name == "ip" {
            let client = door.client(caller, headers);
            shared.push((Bytes::from_static(b"ip"), Bytes::from(client.to_string())));
        } else if let Some(value) = headers.get(name.as_str()) {
            shared.push((Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value.as_bytes())));
        }
    }
    shared
}

/// Whether a content type says more than a tool's default. Binary ones and parts have a header of their own.
fn is_telling(kind: &[u8]) -> bool {
    let kind = kind.to_ascii_lowercase();
    let silent: [&[u8]; 6] = [
        b"application/json",
        b"application/x-www-form-urlencoded",
        b"application/octet-stream",
        b"text/plain",
        b"multipart/",
        b"image/",
    ];
    !silent.iter().any(|silent| kind.starts_with(silent))
}

/// The topic, made if it may be: never for a page of another origin, or anybody could fill the catalog through a visitor's browser.
async fn topic(door: &HttpDoor, name: &str, headers: &HeaderMap) -> Result<Arc<Topic>, Reply> {
    if let Some(topic) = door.store.topic(name) {
        return Ok(topic);
    }
    let name = TopicName::new(name).map_err(|error| refuse(StatusCode::BAD_REQUEST, error.to_string()))?;
    Box::pin(make_topic(door, name, headers)).await
}

async fn make_topic(door: &HttpDoor, name: TopicName, headers: &HeaderMap) -> Result<Arc<Topic>, Reply> {
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

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Indexes;
    use crate::record::{Offset, PartitionId};
    use crate::store::Appended;

    type Result = std::result::Result<(PartitionId, Appended), AppendError>;

    fn stored() -> Result {
        let (base_offset, last_offset, log_start) = (Offset(0), Offset(0), Offset(0));
        Ok((PartitionId(0), Appended { base_offset, last_offset, log_start, append_time_ms: -1, is_duplicate: false }))
    }

    /// Status and answer to events 0, 1, ... of lines 1, 4, 5.
    fn settled(results: Vec<Result>) -> (u16, Taken) {
        let mut answer = Taken::default();
        let outcome = |(at, result)| Outcome { events: Indexes::Run(at as u32..at as u32 + 1), result };
        let outcomes = results.into_iter().enumerate().map(outcome).collect();
        let status = settle(&mut answer, &[1, 4, 5], outcomes);
        (status.as_u16(), answer)
    }

    #[test]
    fn a_partly_failed_request_names_the_lines_to_send_again() {
        let unknown = || Err(AppendError::Unknown("sync".into()));
        let (status, answer) = settled(vec![stored(), unknown(), unknown()]);
        assert_eq!((status, answer.taken, answer.retry), (503, 1, vec![(4, 5)]));
        let (status, answer) = settled(vec![unknown(), stored()]);
        assert_eq!((status, answer.taken, answer.retry), (503, 1, vec![(1, 1)]));
    }

    #[test]
    fn a_refusal_means_that_nothing_was_taken() {
        let low = || Err(AppendError::LowDisk("1 MiB".into()));
        let full = || Err(AppendError::QueueFull);
        let large = || Err(AppendError::TooLarge { size: 2, limit: 1 });
        assert_eq!(settled(vec![low(), low()]).0, 507);
        assert_eq!(settled(vec![full()]).0, 429);
        assert_eq!(settled(vec![large()]).0, 413);
        assert_eq!(settled(vec![stored(), low()]).0, 503);
        assert_eq!(settled(vec![low(), stored()]).0, 503);
        assert_eq!(settled(vec![full(), Err(AppendError::Unknown("sync".into()))]).0, 503);
        let (status, answer) = settled(vec![large(), stored()]);
        assert_eq!((status, answer.taken, answer.bad.len()), (200, 1, 1));
        assert_eq!(settled(vec![large(), low()]).0, 507);
    }
}
