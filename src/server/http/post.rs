//! `POST /v1/topics/{topic}/events`: a body becomes events, the events a chunk, and the answer waits until they are durable.

use super::HttpDoor;
use super::body;
use super::connection::Caller;
use super::fast_path;
use super::headers::Headers;
use super::json::Judge;
use super::origin::Origins;
use super::quarantine;
use super::query;
use super::reply::{Answer, Bad, Reply, Taken, listed, ranges, refuse, refuse_for};
use super::sniff::{self, BodyError, Packing};
use super::split::{Found, Lines};
use crate::budget::Lease;
use crate::ingest::{Chunk, Event, Headers as Captured, Outcomes, Submitted, headers_size};
use crate::record::TopicName;
use crate::store::{AppendError, HttpCheck, NewTopic, Topic, TopicConfig, TopicError};
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{EXPECT, HeaderValue};
use hyper::{Request, StatusCode};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpStream;

/// A larger body is split off the socket task: a millisecond at most stays on it.
const SPLIT_INLINE_MAX: usize = 256 << 10;
/// A larger packed body is unpacked off the socket task: it may become two hundred times as much.
const UNPACK_INLINE_MAX: usize = 2 << 10;
/// What is captured of a head and a query stands in each record of the request: that may make so many bytes of it.
const SHARED_SIZE_MAX: usize = 16 << 20;

/// What a request for events says beside its body.
pub(super) struct Asked<'a> {
    pub(super) topic: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) headers: Headers<'a>,
    content_type: &'a str,
}

impl<'a> Asked<'a> {
    pub(super) fn new(topic: &'a str, query: Option<&'a str>, headers: Headers<'a>) -> Asked<'a> {
        let content_type = headers.text("content-type").unwrap_or_default();
        Asked { topic, query, headers, content_type }
    }
}

/// A request that hyper reads: its body comes after what its head says was looked at.
pub(super) async fn events(door: &HttpDoor, topic: &str, caller: &Caller, request: Request<Incoming>) -> Reply {
    let (head, mut incoming) = request.into_parts();
    let asked = Asked::new(topic, head.uri.query(), Headers::Map(&head.headers));
    let began = Began::new(door, &asked);
    let mut is_read = false;
    let taken = async {
        let topic = admit(door, caller, &asked).await?;
        let (packed, lease) = body::receive(door, caller, &mut incoming).await?;
        is_read = true;
        door.count_received(caller, &asked.headers, packed.len());
        take(Post::new(door, caller, &asked, topic), packed, lease).await
    };
    let taken = taken.await;
    if let Err(reply) = &taken
        && !is_read
        && !incoming.is_end_stream()
        && !head.headers.contains_key(EXPECT)
    {
        let size = Box::pin(body::discard(&mut incoming)).await;
        door.count_refused(caller, &asked.headers, size, reply);
    }
    began.finish(door, taken)
}

/// A request that has something to wait for, its body for instance. Returns with the answer whether the body was read to its end.
pub(super) async fn patiently(
    door: &HttpDoor,
    caller: &Caller,
    request: fast_path::Request,
    stream: &mut TcpStream,
) -> (Reply, bool) {
    let fast_path::Request { topic, query, headers, body, size } = request;
    let asked = Asked::new(&topic, query.as_deref(), Headers::Map(&headers));
    let mut coming = body::Coming { stream, came: body, size };
    let mut is_read = false;
    let began = Began::new(door, &asked);
    let taken = async {
        let topic = admit(door, caller, &asked).await?;
        let (packed, lease) = coming.receive(door, caller).await?;
        is_read = true;
        door.count_received(caller, &asked.headers, size);
        take(Post::new(door, caller, &asked, topic), packed, lease).await
    };
    let taken = taken.await;
    if let Err(reply) = &taken
        && !is_read
    {
        let left = coming.discard().await;
        door.count_refused(caller, &asked.headers, size - left, reply);
        is_read = left == 0;
    }
    (began.finish(door, taken), is_read)
}

/// How far a request came without waiting.
pub(super) enum First {
    /// Its events are in the batcher's hands.
    Sent(Sent),
    Answered(Box<Reply>),
    /// Something comes first: the rest of its body, a topic that is to be made, bytes or a worker that are to become free, bad lines that
    /// are to be kept. Nothing was done.
    Wait(Box<fast_path::Request>),
}

/// A request whose body is there, as far as it goes at once: nearly all go to the end.
pub(super) fn at_once(door: &HttpDoor, caller: &Caller, asked: &Asked<'_>, body: &[u8]) -> First {
    let began = Began::new(door, asked);
    match send_at_once(door, caller, asked, body) {
        Ok(Some(events)) => {
            door.count_received(caller, &asked.headers, body.len());
            First::Sent(Sent { events, began })
        }
        Ok(None) => First::Wait(Box::new(fast_path::Request::of(asked, body, body.len()))),
        Err(reply) => {
            door.count_refused(caller, &asked.headers, body.len(), &reply);
            First::Answered(Box::new(began.finish(door, Err(reply))))
        }
    }
}

fn send_at_once(door: &HttpDoor, caller: &Caller, asked: &Asked<'_>, body: &[u8]) -> Result<Option<Events>, Reply> {
    let Some(topic) = known(door, caller, asked)? else { return Ok(None) };
    let Some(lease) = caller.budget.try_take(body.len().max(1)) else { return Ok(None) };
    let post = Post::new(door, caller, asked, topic);
    let reading = post.reading(Bytes::copy_from_slice(body), lease)?;
    // Of what is packed nobody knows how much it becomes: where a bad line is found it would all be done again.
    if reading.packing != Packing::Plain || !reading.is_small() {
        return Ok(None);
    }
    let mut read = reading.run(asked.content_type).map_err(bad_body)?;
    post.refuse_keyless(&mut read);
    let has_room = read.lease.try_grow(read.found.size());
    if !has_room || post.keeps_bad(&read) {
        return Ok(None);
    }
    let shared = post.shared_headers(&read)?;
    post.send(read, shared, 0).map(Some)
}

/// A request whose events are on their way.
pub(super) struct Sent {
    events: Events,
    began: Began,
}

impl Sent {
    /// Waits for them.
    pub(super) async fn stored(self, door: &HttpDoor) -> Answer {
        let Sent { events, began } = self;
        let (status, taken) = events.stored(door).await;
        if began.granted.is_none() && status == StatusCode::OK && taken.is_one() {
            began.note(door);
            return Answer::One;
        }
        Answer::Reply(Box::new(began.finish(door, Ok(taken.answer(status)))))
    }
}

/// When a request began, and the page that may see its answer.
struct Began {
    at: Instant,
    // Boxed: few requests come from pages.
    granted: Option<Box<HeaderValue>>,
}

impl Began {
    fn new(door: &HttpDoor, asked: &Asked<'_>) -> Began {
        Began { at: Instant::now(), granted: door.origins.granted(&asked.headers).map(Box::new) }
    }

    /// Both kinds of answer, with what a browser needs to see it.
    fn finish(self, door: &HttpDoor, taken: Result<Reply, Reply>) -> Reply {
        let (Ok(mut reply) | Err(mut reply)) = taken;
        self.note(door);
        Origins::grant(self.granted.map(|origin| *origin), reply.headers_mut());
        reply
    }

    fn note(&self, door: &HttpDoor) {
        door.meters.post_seconds.record(self.at.elapsed().as_secs_f64());
    }
}

/// Where a request may bring its events; `None` if there is no such topic.
fn known(door: &HttpDoor, caller: &Caller, asked: &Asked<'_>) -> Result<Option<Arc<Topic>>, Reply> {
    door.check_sender(caller, &asked.headers)?;
    door.write_keys.check(&asked.headers, asked.query).map_err(|reason| refuse(StatusCode::UNAUTHORIZED, reason))?;
    match door.store.topic(asked.topic) {
        Some(topic) if topic.name.is_internal() => {
            Err(refuse(StatusCode::FORBIDDEN, TopicError::Internal(topic.name.clone()).to_string()))
        }
        found => Ok(found),
    }
}

/// As [`known`]; a topic that is not there is made, if it may be.
async fn admit(door: &HttpDoor, caller: &Caller, asked: &Asked<'_>) -> Result<Arc<Topic>, Reply> {
    match known(door, caller, asked)? {
        Some(topic) => Ok(topic),
        None => Box::pin(make_topic(door, asked)).await,
    }
}

/// Never for a page of another origin, or anybody could fill the catalog through a visitor's browser.
async fn make_topic(door: &HttpDoor, asked: &Asked<'_>) -> Result<Arc<Topic>, Reply> {
    let name = TopicName::new(asked.topic).map_err(|error| refuse(StatusCode::BAD_REQUEST, error.to_string()))?;
    let is_foreign = asked.headers.get("origin").is_some() && door.origins.granted(&asked.headers).is_none();
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
        Err(error @ TopicError::Internal(_)) => Err(refuse(StatusCode::FORBIDDEN, error.to_string())),
        Err(error) => Err(refuse(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
    }
}

// What this future holds over an await is moved with each request and kept by each connection: what is seldom is boxed.
async fn take(post: Post<'_>, packed: Bytes, lease: Lease) -> Result<Reply, Reply> {
    let door = post.door;
    let content_type = post.asked.content_type;
    let reading = post.reading(packed, lease)?;
    let read = if reading.is_small() {
        reading.run(content_type)
    } else {
        let content_type = content_type.to_owned();
        Box::pin(door.off_task(move || reading.run(&content_type))).await?
    };
    let mut read = read.map_err(bad_body)?;
    post.refuse_keyless(&mut read);
    // Many small events take more memory than their bytes.
    body::grow(door, &mut read.lease, read.found.size()).await?;
    let shared = post.shared_headers(&read)?;
    let mut quarantined = 0;
    if post.keeps_bad(&read) {
        let keep = quarantine::keep(door, &post.topic, &read.body, &read.found.bad, &shared, post.received_ms);
        quarantined = Box::pin(keep).await;
    }
    let (status, taken) = post.send(read, shared, quarantined)?.stored(door).await;
    Ok(taken.answer(status))
}

/// A body that is to be unpacked and split.
struct Reading {
    packed: Bytes,
    packing: Packing,
    lease: Lease,
    judge: Judge,
}

impl Reading {
    /// Whether it is little enough work for the socket's task.
    fn is_small(&self) -> bool {
        match self.packing {
            Packing::Plain => self.packed.len() <= SPLIT_INLINE_MAX,
            _ => self.packed.len() <= UNPACK_INLINE_MAX,
        }
    }

    fn run(self, content_type: &str) -> Result<Read, BodyError> {
        let Reading { packed, packing, mut lease, judge } = self;
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
    }
}

/// A body that was understood.
struct Read {
    body: Bytes,
    lease: Lease,
    found: Found,
    is_multipart: bool,
}

fn bad_body(error: BodyError) -> Reply {
    let (status, reason) = match error {
        BodyError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
        BodyError::TooMany => (StatusCode::PAYLOAD_TOO_LARGE, "too-many"),
        BodyError::Bomb => (StatusCode::PAYLOAD_TOO_LARGE, "bomb"),
        BodyError::Busy => (StatusCode::TOO_MANY_REQUESTS, "memory"),
        BodyError::Empty => (StatusCode::BAD_REQUEST, "empty"),
        BodyError::Packing(_) | BodyError::Encoding(_) => (StatusCode::BAD_REQUEST, "packing"),
        BodyError::Array(_) => (StatusCode::BAD_REQUEST, "not-json"),
        BodyError::Multipart(_) => (StatusCode::BAD_REQUEST, "multipart"),
    };
    refuse_for(status, reason, error.to_string())
}

/// Headers that all parts of a picture's or a multipart request share: its query parameters, and an id where there are parts.
fn describe(shared: &mut Captured, read: &Read, query: Option<&str>) {
    for (name, value) in query::pairs(query).filter(|(name, _)| name != b"key") {
        shared.push((Bytes::from(name), Bytes::from(value)));
    }
    if read.is_multipart {
        let id = uuid::Uuid::new_v4().simple().to_string();
        shared.push((Bytes::from_static(b"multipart-id"), Bytes::from(id)));
    }
}

/// A request that was let in.
struct Post<'a> {
    door: &'a HttpDoor,
    caller: &'a Caller,
    asked: &'a Asked<'a>,
    topic: Arc<Topic>,
    config: Arc<TopicConfig>,
    received_ms: i64,
}

impl<'a> Post<'a> {
    fn new(door: &'a HttpDoor, caller: &'a Caller, asked: &'a Asked<'a>, topic: Arc<Topic>) -> Post<'a> {
        let config = topic.config();
        Post { door, caller, asked, topic, config, received_ms: door.clock.now_ms() }
    }

    fn reading(&self, packed: Bytes, lease: Lease) -> Result<Reading, Reply> {
        let (config, asked) = (&self.config, self.asked);
        let (key, time) = (config.http_key.as_deref(), config.http_timestamp.as_deref());
        let judge = Judge::new(config.http_check, key, time, self.received_ms);
        let encoding = asked.headers.text("content-encoding");
        let packing = sniff::packing(&packed, encoding, asked.content_type).map_err(bad_body)?;
        Ok(Reading { packed, packing, lease, judge })
    }

    fn refuse_keyless(&self, read: &mut Read) {
        if self.config.compacts {
            read.found.refuse_keyless();
        }
    }

    /// Whether bad lines go to the dead letters.
    fn keeps_bad(&self, read: &Read) -> bool {
        self.config.http_quarantine && !read.found.bad.is_empty()
    }

    /// What each record carries: when it came, what the topic's config captures of the request's head, and of pictures and parts what the
    /// request says of all of them.
    ///
    /// # Errors
    /// The answer: 413, if that would make too much of many events.
    fn shared_headers(&self, read: &Read) -> Result<Captured, Reply> {
        let Post { config, asked, .. } = self;
        let mut shared = Captured::new();
        shared.push((Bytes::from_static(b"received"), decimal(self.received_ms)));
        // Where anything goes, the type is the only one who knows what it is.
        if config.http_check != HttpCheck::Json
            && let Some(kind) = asked.headers.get("content-type").filter(|kind| is_telling(kind))
        {
            shared.push((Bytes::from_static(b"content-type"), Bytes::copy_from_slice(kind)));
        }
        for name in &config.http_capture {
            if name == "ip" {
                let client = self.door.client(self.caller, &asked.headers);
                shared.extend(client.map(|client| (Bytes::from_static(b"ip"), Bytes::from(client.to_string()))));
            } else if let Some(value) = asked.headers.get(name) {
                shared.push((Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value)));
            }
        }
        if read.found.events.iter().any(|event| !event.headers.is_empty()) {
            describe(&mut shared, read, asked.query);
        }
        let (size, events) = (headers_size(&shared), read.found.events.len() + read.found.bad.len());
        if size * events > SHARED_SIZE_MAX {
            let reason = format!(
                "{size} bytes of captured headers and query would stand in each of {events} events; send them in parts, or capture less (inrush.http.capture)"
            );
            return Err(refuse_for(StatusCode::PAYLOAD_TOO_LARGE, "headers", reason));
        }
        Ok(shared)
    }

    /// Hands the events to the batcher.
    fn send(&self, read: Read, shared: Captured, quarantined: usize) -> Result<Events, Reply> {
        let Read { body, lease, found, .. } = read;
        let Found { events, lines, bad, times_off } = found;
        if events.is_empty() {
            let error = "no line of the body is an event: a topic takes JSON, or with inrush.http.check=utf8 any text by the line";
            let error = Some(error.to_owned());
            return Err(Taken { bad: listed(&bad), quarantined, error, ..Taken::default() }
                .answer_for(StatusCode::BAD_REQUEST, "no-event"));
        }
        let size: usize = events.iter().map(|event| event.value.len()).sum();
        let is_compressible = size / 2 >= pictures_size(&events);
        let chunk = Chunk { body, events, headers: shared, lease: Some(lease), is_compressible };
        match self.door.ingest.submit(&self.topic, chunk) {
            Ok(submitted) => Ok(Events { submitted, bad: listed(&bad), quarantined, lines, size, times_off }),
            Err(_) => Err(refuse(StatusCode::TOO_MANY_REQUESTS, "the batcher's queue is full; try again")),
        }
    }
}

/// Events that are on their way, and what is known of the others.
struct Events {
    submitted: Submitted,
    /// Line of each.
    lines: Lines,
    size: usize,
    times_off: usize,
    bad: Vec<Bad>,
    quarantined: usize,
}

impl Events {
    /// Waits for them.
    async fn stored(self, door: &HttpDoor) -> (StatusCode, Taken) {
        let Events { submitted, lines, size, times_off, bad, quarantined } = self;
        let mut taken = Taken { bad, quarantined, ..Taken::default() };
        let status = settle(&mut taken, &lines, submitted.outcomes().await);
        if taken.taken > 0 {
            door.meters.events.increment(taken.taken as u64);
            // Of a request that was taken in part, its part.
            door.meters.event_bytes.increment((size * taken.taken / lines.len()) as u64);
        }
        if times_off > 0 {
            door.meters.times_not_believed.increment(times_off as u64);
        }
        (status, taken)
    }
}

/// A time as text; the requests of one millisecond share it.
fn decimal(ms: i64) -> Bytes {
    thread_local! {
        static LAST: RefCell<(i64, Bytes)> = const { RefCell::new((0, Bytes::from_static(b"0"))) };
    }
    LAST.with_borrow_mut(|(of, text)| {
        if *of != ms {
            (*of, *text) = (ms, Bytes::from(ms.to_string()));
        }
        text.clone()
    })
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
fn settle(answer: &mut Taken, lines: &[u32], outcomes: Outcomes) -> StatusCode {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::{Indexes, Outcome};
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
