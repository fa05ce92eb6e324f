//! Sends batches of one source partition, one after the other: what is refused is halved until the bad records are found.

use super::super::super::web::{Answer, Asked, Connection};
use super::begun::Begun;
use super::lane::Unit;
use super::settings::{Body, HttpOutput};
use super::verdict::{RETRY_AFTER_MAX, Verdict};
use crate::clock::Clock;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Of an answer so much is read: for its message, and so that the connection can be used again.
const ANSWER_SIZE_MAX: usize = 16 << 10;
/// A batch that is told to come again later waits so long in its place; then the output is down.
const LATER_MAX: Duration = Duration::from_secs(20);
/// Between two attempts at a batch in its place, doubled from the first.
const AGAIN_MIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(1);
/// A batch that waits in its place is told of after this.
const TOLD_AFTER: Duration = Duration::from_secs(5);
/// Places that one request is sent on to.
const REDIRECTS_MAX: usize = 3;

/// Whose rows they are.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) pipeline: Uuid,
    pub(super) topic: Uuid,
    /// `reset` raises it: what is sent again on purpose has other ids.
    pub(super) generation: u64,
    pub(super) partition: i32,
}

/// How often a refused record is tried again.
#[derive(Clone, Copy, Debug)]
pub(in crate::stream) struct Patience {
    pub(in crate::stream) retries: u32,
    pub(in crate::stream) backoff: Duration,
}

/// A batch with an answer for each of its units.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    /// By index, ascending, with the answer's words.
    pub(super) refused: Vec<(usize, String)>,
    /// More attempts at refused records, and at batches in their place.
    pub(super) retries: u64,
}

/// Nothing is wrong with the rows, and nobody takes them.
#[derive(Debug)]
pub(super) struct Down {
    pub(super) reason: String,
    /// The other side asks for it.
    pub(super) wait: Duration,
}

/// Batches that are held up in their place, of all partitions of an output.
#[derive(Default)]
pub(super) struct Held {
    /// By partition, since when its batch waits, and why. It is told of once it has waited for a while.
    all: Mutex<BTreeMap<i32, (Instant, String)>>,
    /// Somebody has taken something: whoever is down from the beginning is told of at once.
    has_sent: AtomicBool,
}

impl Held {
    fn begin(&self, partition: i32, why: String) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(partition).or_insert_with(|| (Instant::now(), String::new())).1 = why;
    }

    fn end(&self, partition: i32) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&partition);
    }

    pub(super) fn told(&self) -> Option<String> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().find(|(since, _)| since.elapsed() > TOLD_AFTER).map(|(_, why)| why.clone())
    }
}

pub(super) struct Sender {
    pub(super) settings: Arc<HttpOutput>,
    pub(super) origin: Origin,
    pub(super) patience: Patience,
    pub(super) clock: Clock,
    /// Requests of all partitions together.
    pub(super) permits: Arc<Semaphore>,
    pub(super) connection: Connection,
    /// Who falls goes back to the last cut, and all behind it is sent once more: so a batch is tried again in its place.
    pub(super) is_patient: bool,
    pub(super) held: Arc<Held>,
}

/// A request without its time and its signature.
struct Request {
    id: String,
    source: String,
    body: Bytes,
}

impl Sender {
    /// Sends units, in order but for those that are refused at first. What part of a refused batch is sent by itself is noted before: whoever
    /// took it may not meet it in the whole again.
    ///
    /// # Errors
    /// Somebody is down, or nothing can be noted; any part of the units may have been taken.
    pub(super) async fn deliver(&mut self, units: &[Arc<Unit>], begun: &Begun) -> Result<Delivered, Down> {
        let mut delivered = Delivered::default();
        let mut left = Vec::new();
        left.push(0..units.len());
        while let Some(range) = left.pop() {
            let Err(message) = self.send(&units[range.clone()], &mut delivered.retries).await? else { continue };
            match range.len() {
                0 | 1 => delivered.refused.push((range.start, message)),
                count => {
                    let middle = range.start + count / 2;
                    let (first, next) = (&units[range.start], &units[middle]);
                    // Of rows at one offset, of windows, no part can be named.
                    if !first.is_mark && first.offset < next.offset {
                        begun.note(self.origin.partition, &(first.offset..next.offset)).map_err(unnoted)?;
                    }
                    left.extend([middle..range.end, range.start..middle]);
                }
            }
        }
        for _ in 0..self.patience.retries {
            if delivered.refused.is_empty() {
                break;
            }
            tokio::time::sleep(self.patience.backoff).await;
            delivered.retries += delivered.refused.len() as u64;
            for (at, _) in std::mem::take(&mut delivered.refused) {
                if let Err(message) = self.send(&units[at..=at], &mut delivered.retries).await? {
                    delivered.refused.push((at, message));
                }
            }
        }
        Ok(delivered)
    }

    /// One request, again while it is told to come later, and for a while where it fails; within, why some row of it is not taken.
    async fn send(&mut self, units: &[Arc<Unit>], retries: &mut u64) -> Result<Result<(), String>, Down> {
        let sent = self.send_patiently(units, retries).await;
        self.held.end(self.origin.partition);
        sent
    }

    async fn send_patiently(&mut self, units: &[Arc<Unit>], retries: &mut u64) -> Result<Result<(), String>, Down> {
        let request = self.request(units);
        let mut target = self.settings.address.target();
        let (mut waited, mut redirects) = (Duration::ZERO, 0);
        let (mut fails_since, mut pause): (Option<Instant>, _) = (None, AGAIN_MIN);
        loop {
            match self.ask(&request, &target).await {
                Verdict::Down(reason) if self.may_wait(&mut fails_since, pause) => {
                    self.held.begin(self.origin.partition, reason);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(AGAIN_MAX);
                    *retries += 1;
                }
                Verdict::Down(reason) => return Err(down(&reason, Duration::ZERO)),
                Verdict::Done => {
                    self.held.has_sent.store(true, Ordering::Relaxed);
                    return Ok(Ok(()));
                }
                Verdict::Refused(message) => return Ok(Err(message)),
                Verdict::Later { wait, why } if waited + wait > LATER_MAX => return Err(down(&why, wait)),
                Verdict::Later { wait, why } => {
                    self.held.begin(self.origin.partition, why);
                    // A word of "now" is none: whoever is busy is not asked in a circle.
                    let wait = wait.max(Duration::from_secs(1));
                    waited += wait;
                    tokio::time::sleep(wait).await;
                }
                Verdict::Elsewhere(location) => {
                    redirects += 1;
                    target = match self.settings.address.redirected(&location) {
                        Some(target) if redirects <= REDIRECTS_MAX => target,
                        Some(_) => return Err(down("it redirects in a circle", Duration::ZERO)),
                        None => {
                            return Err(down(
                                "it redirects to another host, or to a place that begins with no slash: name that address",
                                Duration::ZERO,
                            ));
                        }
                    };
                }
            }
        }
    }

    /// Whether a batch that fails, since then, is tried once more after this pause.
    fn may_wait(&self, since: &mut Option<Instant>, pause: Duration) -> bool {
        let waited = since.get_or_insert_with(Instant::now).elapsed();
        self.is_patient && self.held.has_sent.load(Ordering::Relaxed) && waited + pause < LATER_MAX
    }

    async fn ask(&mut self, request: &Request, target: &str) -> Verdict {
        let headers = self.headers(request);
        let asked = Asked {
            method: Method::POST,
            target,
            headers: &headers,
            body: request.body.clone(),
            answer_size_max: ANSWER_SIZE_MAX,
        };
        // Waiting for others of this output is no fault of the other side. The semaphore is never closed.
        let permit = self.permits.clone().acquire_owned().await;
        let answered = tokio::time::timeout(self.settings.timeout, self.connection.ask(&asked)).await;
        drop(permit);
        match answered {
            Ok(Ok(answer)) => {
                let body = self.settings.filled.mask(answer.body);
                Verdict::of(&Answer { body, ..answer }, self.clock.now_ms() / 1_000)
            }
            Ok(Err(reason)) => Verdict::Down(reason),
            Err(_) => {
                self.connection.close();
                // The status decides.
                if let Some(answer) = self.connection.heard() {
                    return Verdict::of(&answer, self.clock.now_ms() / 1_000);
                }
                Verdict::Down(format!("no answer within {} ms", self.settings.timeout.as_millis()))
            }
        }
    }

    fn request(&self, units: &[Arc<Unit>]) -> Request {
        let lines: Vec<u8> = units.iter().flat_map(|unit| unit.lines.iter().copied()).collect();
        let (first, last) = (units.first().map_or(0, |unit| unit.offset), units.last().map_or(0, |unit| unit.offset));
        let id = self.id(first..last, &lines, units);
        let Origin { pipeline, topic, partition, .. } = &self.origin;
        let source = format!("{pipeline} {topic} {partition} {first} {}", last + 1);
        let body = match self.settings.body {
            Body::Lines => lines,
            Body::Array => array(lines),
        };
        let body = if self.settings.gzip { gzipped(body) } else { body };
        Request { id, source, body: Bytes::from(body) }
    }

    /// The same for the same rows of the same records, and for nothing else. Time may let go alike rows at one offset: what it is then
    /// counts too.
    fn id(&self, offsets: Range<i64>, lines: &[u8], units: &[Arc<Unit>]) -> String {
        let Origin { pipeline, topic, generation, partition } = &self.origin;
        let mut hash = Sha256::new();
        hash.update(topic.as_bytes());
        hash.update(generation.to_be_bytes());
        for unit in units.iter().filter(|unit| unit.is_mark) {
            hash.update(unit.place.to_be_bytes());
            unit.records.iter().for_each(|record| hash.update(record.timestamp.to_be_bytes()));
        }
        // Parts of one moment may be alike.
        let part = units.first().filter(|unit| !unit.is_mark && unit.place > 0);
        part.iter().for_each(|unit| hash.update(unit.place.to_be_bytes()));
        hash.update(lines);
        let hash = hex::encode(&hash.finalize()[..8]);
        format!("{}_{partition}_{}_{}_{hash}", pipeline.simple(), offsets.start, offsets.end)
    }

    fn headers(&self, request: &Request) -> HeaderMap {
        let timestamp_s = self.clock.now_ms() / 1_000;
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: &str| {
            // Of our own making: ids, numbers, base64.
            let value = HeaderValue::from_str(value).expect("it is plain ASCII");
            headers.insert(HeaderName::from_static(name), value);
        };
        set("user-agent", concat!("inrush/", env!("CARGO_PKG_VERSION")));
        set(
            "content-type",
            match self.settings.body {
                Body::Array => "application/json",
                Body::Lines => "application/x-ndjson",
            },
        );
        if self.settings.gzip {
            set("content-encoding", "gzip");
        }
        set("webhook-id", &request.id);
        set("webhook-timestamp", &timestamp_s.to_string());
        if let Some(signature) = self.settings.keys.sign(&request.id, timestamp_s, &request.body) {
            set("webhook-signature", &signature);
        }
        set("inrush-source", &request.source);
        headers.extend(self.settings.headers.clone());
        headers
    }
}

/// Nothing is sent that the next run would not know of.
pub(super) fn unnoted(error: std::io::Error) -> Down {
    down(&format!("cannot note which rows are sent together: {error}"), Duration::ZERO)
}

fn down(reason: &str, wait: Duration) -> Down {
    Down { reason: reason.to_owned(), wait: wait.min(RETRY_AFTER_MAX) }
}

/// Lines as one JSON array.
fn array(mut lines: Vec<u8>) -> Vec<u8> {
    // No line break stands inside JSON of one line.
    for byte in lines.iter_mut().filter(|byte| **byte == b'\n') {
        *byte = b',';
    }
    lines.pop();
    [b"[", lines.as_slice(), b"]"].concat()
}

fn gzipped(body: Vec<u8>) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    let written = gzip.write_all(&body);
    written.and_then(|()| gzip.finish()).expect("memory takes whatever is written")
}
