//! Load at a rate, from many connections, with honest latencies.
//!
//! With a rate the loop is open: requests are due at fixed times, whether or not earlier ones were answered, and a latency counts from the
//! time its request was due. A daemon that stands still for a second shows up as many slow requests, not as one. Without a rate each
//! connection sends as soon as it was answered, and a latency counts from the sending.

use super::generate::Generator;
use super::pictures::{Pictures, Sizes};
use crate::client::{Client, Link};
use crate::clock::Clock;
use anyhow::{Context, Result};
use bytes::Bytes;
use hdrhistogram::Histogram;
use hyper::Method;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Threads of the generator; a daemon beside it needs the other cores.
const THREADS: usize = 2;
/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// The pacer sleeps at most so long, so that it sees the end.
const PACE_MAX: Duration = Duration::from_millis(20);
/// A connection that broke rests before it tries again.
const BROKEN_PAUSE: Duration = Duration::from_millis(20);
/// Latencies up to this are told apart, to three digits.
const LATENCY_MAX_US: u64 = 120_000_000;
/// A request without an answer for so long counts as an error.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Clicks,
    Camera,
}

/// How the load is made.
#[derive(Clone, Debug)]
pub struct Options {
    pub kind: Kind,
    /// HTTP door.
    pub http: String,
    pub write_key: Option<String>,
    pub topic: String,
    /// Events a second; `None`: as many as are answered.
    pub rate: Option<f64>,
    pub seconds: Option<f64>,
    pub events: Option<u64>,
    pub connections: usize,
    /// Events of one request; pictures go one by one.
    pub batch: usize,
    pub seed: u64,
}

/// What came of it; also the one line of `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub events: u64,
    /// Events that the door says are durable.
    pub taken: u64,
    pub requests: u64,
    pub bytes: u64,
    pub seconds: f64,
    pub events_per_second: f64,
    pub bytes_per_second: f64,
    pub latency_ms: Latency,
    /// Answers by status; `broken` = no answer.
    pub answers: BTreeMap<String, u64>,
    /// What the first refused or broken request was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p999: f64,
    pub max: f64,
}

impl Report {
    /// Whether every request was answered with 200.
    pub fn is_clean(&self) -> bool {
        self.answers.keys().all(|status| status == "200")
    }
}

/// Counted by all connections.
struct Tally {
    latencies: Histogram<u64>,
    events: u64,
    taken: u64,
    bytes: u64,
    answers: BTreeMap<String, u64>,
    first_error: Option<String>,
}

/// What the connections share.
struct Shared {
    options: Options,
    began: Instant,
    /// Number of the next request.
    next: AtomicU64,
    /// What cameras send; `None` for clicks.
    pictures: Option<Arc<Pictures>>,
    /// Requests that may be sent at all.
    requests_max: u64,
    /// Permits for requests that are due; unused without a rate.
    due: Semaphore,
    is_over: AtomicBool,
    tally: Mutex<Tally>,
}

/// Sends; `progress` hears from time to time how many events are taken.
///
/// # Errors
/// No daemon answers. Refused and broken requests are counted, not errors.
pub fn run(options: Options, mut progress: impl FnMut(Duration, u64)) -> Result<Report> {
    // A wrong address should be told at once and once, not by each connection.
    Client::new(options.http.clone())?.call(Method::GET, "/v1/topics", "application/json", "")?;
    let batch = if options.kind == Kind::Camera { 1 } else { options.batch.max(1) as u64 };
    let by_time = options.rate.zip(options.seconds).map(|(rate, seconds)| (rate * seconds).ceil().max(1.0) as u64);
    let events_max = options.events.or(by_time).unwrap_or(u64::MAX);
    let pictures = match options.kind {
        Kind::Clicks => None,
        Kind::Camera => Some(Arc::new(Pictures::new(Sizes::Mixed, &mut fastrand::Rng::with_seed(options.seed))?)),
    };
    let latencies = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).context("cannot make a histogram")?;
    let shared = Arc::new(Shared {
        options,
        began: Instant::now(),
        next: AtomicU64::new(0),
        pictures,
        requests_max: events_max.div_ceil(batch),
        due: Semaphore::new(0),
        is_over: AtomicBool::new(false),
        tally: Mutex::new(Tally {
            latencies,
            events: 0,
            taken: 0,
            bytes: 0,
            answers: BTreeMap::new(),
            first_error: None,
        }),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("inrush-gen")
        .enable_all()
        .build()?;
    let pacer = shared.options.rate.map(|rate| {
        let shared = shared.clone();
        std::thread::spawn(move || pace(&shared, batch as f64 / rate))
    });
    runtime.block_on(async {
        let mut connections = tokio::task::JoinSet::new();
        for number in 0..shared.options.connections.max(1) {
            connections.spawn(connection(shared.clone(), number as u64, batch as usize, events_max));
        }
        let mut tick = tokio::time::interval(PROGRESS_INTERVAL);
        loop {
            tokio::select! {
                ended = connections.join_next() => match ended {
                    Some(ended) => ended.context("a connection's task panicked")??,
                    None => return anyhow::Ok(()),
                },
                _ = tick.tick() => progress(shared.began.elapsed(), shared.tally().taken),
            }
        }
    })?;
    shared.is_over.store(true, Ordering::Relaxed);
    if let Some(pacer) = pacer {
        let _ = pacer.join();
    }
    Ok(shared.report())
}

/// Lets requests go when they are due. A thread of its own: the timers of tasks are good to a millisecond only.
fn pace(shared: &Shared, interval_s: f64) {
    let mut let_go = 0;
    while let_go < shared.requests_max && !shared.is_over.load(Ordering::Relaxed) {
        let due = (shared.began.elapsed().as_secs_f64() / interval_s) as u64 + 1;
        let due = due.min(shared.requests_max);
        if due > let_go {
            shared.due.add_permits((due - let_go) as usize);
            let_go = due;
        }
        let next = Duration::from_secs_f64(let_go as f64 * interval_s);
        std::thread::sleep(next.saturating_sub(shared.began.elapsed()).min(PACE_MAX));
    }
}

async fn connection(shared: Arc<Shared>, number: u64, batch: usize, events_max: u64) -> Result<()> {
    let Options { kind, topic, rate, seconds, http, write_key, seed, .. } = &shared.options;
    let mut generator = Generator::new(seed.wrapping_mul(1 << 20).wrapping_add(number));
    if let Some(pictures) = &shared.pictures {
        generator = generator.with_pictures(pictures.clone());
    }
    let mut link = Link::new(http.clone()).with_write_key(write_key.clone());
    let clock = Clock::System;
    loop {
        // The next request is made before it is due, so that making it costs no latency.
        let mut body = Vec::new();
        let mut path = format!("/v1/topics/{topic}/events");
        let content_type = match kind {
            Kind::Clicks => {
                for _ in 0..batch {
                    generator.write_click(&mut body, clock.now_ms());
                    body.push(b'\n');
                }
                "application/x-ndjson"
            }
            Kind::Camera => {
                let (picture, parameters) = generator.picture()?;
                path = format!("{path}?{parameters}");
                body = picture;
                "image/jpeg"
            }
        };
        if rate.is_some() {
            match shared.due.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_) => return Ok(()),
            }
        }
        let ticket = shared.next.fetch_add(1, Ordering::Relaxed);
        let is_late = rate.is_none() && seconds.is_some_and(|seconds| shared.began.elapsed().as_secs_f64() >= seconds);
        if ticket >= shared.requests_max || is_late {
            // Others may wait for a permit that will never come.
            shared.due.close();
            return Ok(());
        }
        let events = (batch as u64).min(events_max - ticket * batch as u64);
        if events < batch as u64 {
            cut_to_lines(&mut body, events as usize);
        }
        let due = rate.map(|rate| Duration::from_secs_f64(ticket as f64 * batch as f64 / rate));
        let due = due.map_or_else(Instant::now, |due| shared.began + due);
        let size = body.len() as u64;
        let call = link.call(&Method::POST, &path, content_type, Bytes::from(body));
        let answer = tokio::time::timeout(PATIENCE, call).await;
        let latency = due.elapsed();
        let is_broken =
            shared.count(latency, events, size, answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer"))));
        if is_broken {
            tokio::time::sleep(BROKEN_PAUSE).await;
        }
        if ticket + 1 == shared.requests_max {
            shared.due.close();
        }
    }
}

fn cut_to_lines(body: &mut Vec<u8>, lines: usize) {
    let end = memchr::memchr_iter(b'\n', body).nth(lines.saturating_sub(1));
    body.truncate(end.map_or(body.len(), |end| end + 1));
}

/// What is read of an answer.
#[derive(Deserialize)]
struct Said {
    taken: u64,
    error: Option<String>,
}

impl Shared {
    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes one answer; says whether the connection is broken.
    fn count(&self, latency: Duration, events: u64, bytes: u64, answer: Result<crate::client::Answer>) -> bool {
        let mut tally = self.tally();
        tally.events += events;
        tally.bytes += bytes;
        let latency_us = (latency.as_micros() as u64).clamp(1, LATENCY_MAX_US);
        tally.latencies.saturating_record(latency_us);
        let (status, error) = match &answer {
            Ok(answer) => {
                let said = serde_json::from_slice(&answer.body).unwrap_or(Said { taken: 0, error: None });
                tally.taken += said.taken;
                (answer.status.as_str().to_owned(), said.error.filter(|_| !answer.status.is_success()))
            }
            Err(error) => ("broken".to_owned(), Some(format!("{error:#}"))),
        };
        if let Some(error) = error {
            tally.first_error.get_or_insert(error);
        }
        *tally.answers.entry(status).or_default() += 1;
        answer.is_err()
    }

    fn report(&self) -> Report {
        let seconds = self.began.elapsed().as_secs_f64();
        let tally = self.tally();
        let at = |quantile| tally.latencies.value_at_quantile(quantile) as f64 / 1e3;
        Report {
            events: tally.events,
            taken: tally.taken,
            requests: tally.latencies.len(),
            bytes: tally.bytes,
            seconds,
            events_per_second: tally.taken as f64 / seconds,
            bytes_per_second: tally.bytes as f64 / seconds,
            latency_ms: Latency {
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p999: at(0.999),
                max: tally.latencies.max() as f64 / 1e3,
            },
            answers: tally.answers.clone(),
            first_error: tally.first_error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_cut_after_whole_lines() {
        let mut body = b"a\nb\nc\n".to_vec();
        cut_to_lines(&mut body, 2);
        assert_eq!(body, b"a\nb\n");
    }
}
