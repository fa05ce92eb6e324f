//! The HTTP door.
//!
//! | request | does |
//! |---|---|
//! | `POST /v1/topics/{topic}/events` | takes events; 200 once they are durable |
//! | `GET /v1/topics/{topic}/events?partition=&from=&limit=` | reads records |
//! | `GET /v1/topics/{topic}/tail?partition=&from=` | live records, as server-sent events |
//! | `GET /v1/topics`, `POST /v1/topics` | lists, creates |
//! | `GET`, `PATCH`, `DELETE /v1/topics/{topic}` | describes, alters, deletes |
//!
//! Knows events and batches by `ingest/` and `store/`; knows no pipeline.

mod body;
mod connection;
mod fast_path;
mod fetch;
mod headers;
pub(crate) mod json;
mod keys;
mod limits;
pub mod multipart;
mod origin;
mod post;
mod proxies;
mod quarantine;
pub(super) mod query;
mod quota;
mod record;
mod reply;
pub mod sniff;
pub mod split;
mod tail;
#[cfg(test)]
mod tests;
mod topics;

pub use connection::serve;
pub use keys::WriteKeys;
pub use limits::Limits;
pub use origin::Origins;
pub use proxies::Proxies;
pub use record::text as record_json;

use crate::access::Quotas;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::ingest::Ingest;
use crate::metrics as names;
use crate::pulse::Pulse;
use crate::server::AtWork;
use crate::store::Store;
use crate::work::Pool;
use connection::Caller;
use headers::Headers;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, StatusCode};
use reply::{Reply, refuse};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot, watch};

/// Threads for what must not run on a socket task: unpacking and splitting large bodies, decoding batches.
const WORKERS_MAX: usize = 4;
/// Jobs for them that may wait; more wait in their tasks. Less than the pool's queue holds.
const WORK_WAITING_MAX: usize = 128;
/// Bytes of answers that are being built or sent: readers never take from those who write.
const ANSWERS_SIZE_MAX: usize = 32 << 20;

/// What the config file says about the door.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub origins: Origins,
    pub write_keys: WriteKeys,
    pub proxies: Proxies,
    /// Topics are made when an event names one that does not exist.
    pub auto_create: bool,
    /// With write keys, records are read and topics changed from this machine only, unless this is set: a write key stands in web pages.
    pub is_open: bool,
    pub limits: Limits,
    pub at_work: AtWork,
}

/// The door, made once and shared by its connections.
pub struct HttpDoor {
    store: Store,
    ingest: Ingest,
    clock: Clock,
    /// Bytes of requests in flight, shared with the other doors.
    budget: Budget,
    /// What clients may send and read in a second; shared with the Kafka door.
    quotas: Quotas,
    answers: Budget,
    tails: Arc<Semaphore>,
    workers: Pool,
    work_places: Arc<Semaphore>,
    quarantine: quarantine::Quarantine,
    meters: Meters,
    origins: Origins,
    write_keys: WriteKeys,
    proxies: Proxies,
    auto_create: bool,
    is_open: bool,
    limits: Limits,
    /// Beats while the accept loop turns.
    pulse: Pulse,
    at_work: AtWork,
}

/// Metric handles, looked up once.
struct Meters {
    events: metrics::Counter,
    event_bytes: metrics::Counter,
    quarantined: metrics::Counter,
    times_not_believed: metrics::Counter,
    post_seconds: metrics::Histogram,
}

impl HttpDoor {
    /// A door to `store`.
    ///
    /// # Errors
    /// The system has no threads to give.
    pub fn new(
        store: Store,
        ingest: Ingest,
        clock: Clock,
        budget: Budget,
        quotas: Quotas,
        options: Options,
        pulse: Pulse,
    ) -> std::io::Result<HttpDoor> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(HttpDoor {
            store,
            ingest,
            clock,
            budget,
            quotas,
            answers: Budget::new(ANSWERS_SIZE_MAX),
            tails: Arc::new(Semaphore::new(options.limits.tails_max)),
            workers: Pool::start(cores.min(WORKERS_MAX), "http")?,
            work_places: Arc::new(Semaphore::new(WORK_WAITING_MAX)),
            quarantine: quarantine::Quarantine::new(options.limits.quarantine_rate),
            meters: Meters {
                events: metrics::counter!(names::HTTP_EVENTS.name),
                event_bytes: metrics::counter!(names::HTTP_EVENT_BYTES.name),
                quarantined: metrics::counter!(names::HTTP_QUARANTINED.name),
                times_not_believed: metrics::counter!(names::HTTP_TIMES_NOT_BELIEVED.name),
                post_seconds: metrics::histogram!(names::HTTP_POST_SECONDS.name),
            },
            origins: options.origins,
            write_keys: options.write_keys,
            proxies: options.proxies,
            auto_create: options.auto_create,
            is_open: options.is_open,
            limits: options.limits,
            pulse,
            at_work: options.at_work,
        })
    }

    /// Runs work that grows with its input off the socket task.
    ///
    /// # Errors
    /// The answer, if the work panicked.
    async fn off_task<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Reply> {
        let gone = || refuse(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be worked on: see the log");
        let place = self.work_places.clone().acquire_owned().await.map_err(|_| gone())?;
        let (done, result) = oneshot::channel();
        // The job has the place: who hangs up leaves it behind in the queue.
        let job = move || {
            drop(done.send(work()));
            drop(place);
        };
        // There are fewer places than the pool's queue has, so it is never full.
        self.workers.run(job).map_err(|_| gone())?;
        result.await.map_err(|_| gone())
    }

    /// Where a request comes from, as far as that can be believed.
    fn client(&self, caller: &Caller, request: &Headers<'_>) -> Option<IpAddr> {
        self.proxies.client(caller.address, request)
    }

    /// For requests that read or change: refuses pages, names we do not go by, and, with write keys, other machines.
    fn check_reader(&self, caller: &Caller, request: &hyper::HeaderMap) -> Result<(), Reply> {
        self.origins.check_reader(request).map_err(|reason| refuse(StatusCode::FORBIDDEN, reason))?;
        if self.write_keys.is_empty() || self.is_open {
            return Ok(());
        }
        // A proxy that nobody named speaks for others too.
        let is_forwarded = request.contains_key("x-forwarded-for") && !caller.is_proxy;
        if self.client(caller, &Headers::Map(request)).is_some_and(|client| client.is_loopback()) && !is_forwarded {
            return Ok(());
        }
        let hint = "a door with write keys is read and its topics are changed from its own machine only; insecure = true opens it";
        Err(refuse(StatusCode::FORBIDDEN, hint))
    }
}

async fn answer(
    door: &Arc<HttpDoor>,
    caller: &Caller,
    request: Request<Incoming>,
    stop: &watch::Receiver<bool>,
) -> Reply {
    let path = request.uri().path_and_query().cloned();
    let path = path.as_ref().map_or("/", |path| path.path());
    let Some(rest) = path.strip_prefix("/v1/topics") else { return unknown(&request) };
    let mut parts = rest.trim_matches('/').splitn(3, '/');
    match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
        (topic, Some("events"), None) if request.method() == Method::POST => {
            post::events(door, topic, caller, request).await
        }
        // Boxed: a connection has room for the largest of its requests, and what comes thousandfold is small.
        asked => Box::pin(answer_other(door, caller, asked, request, stop)).await,
    }
}

/// Everything but events.
async fn answer_other(
    door: &Arc<HttpDoor>,
    caller: &Caller,
    asked: (&str, Option<&str>, Option<&str>),
    request: Request<Incoming>,
    stop: &watch::Receiver<bool>,
) -> Reply {
    let method = request.method();
    match asked {
        ("", None, None) => {
            if let Err(reply) = door.check_reader(caller, request.headers()) {
                return reply;
            }
            match *method {
                Method::GET | Method::HEAD => topics::list(door),
                Method::POST => topics::create(door, caller, request).await,
                _ => wrong_method("GET, HEAD, POST"),
            }
        }
        (topic, Some("events"), None) => match *method {
            Method::OPTIONS => {
                let mut reply = reply::json(StatusCode::OK, &serde_json::json!({}));
                door.origins.grant_preflight(request.headers(), reply.headers_mut());
                reply
            }
            Method::GET | Method::HEAD => match door.check_reader(caller, request.headers()) {
                Ok(()) => fetch::events(door, topic, caller, &request).await,
                Err(reply) => reply,
            },
            _ => wrong_method("GET, HEAD, POST, OPTIONS"),
        },
        (topic, Some("tail"), None) => match *method {
            Method::GET => match door.check_reader(caller, request.headers()) {
                Ok(()) => tail::events(door, topic, caller, &request, stop.clone()).await,
                Err(reply) => reply,
            },
            _ => wrong_method("GET"),
        },
        (topic, None, None) => {
            if let Err(reply) = door.check_reader(caller, request.headers()) {
                return reply;
            }
            match *method {
                Method::GET | Method::HEAD => topics::describe(door, topic),
                Method::PATCH => topics::alter(door, topic, caller, request).await,
                Method::DELETE => topics::delete(door, topic).await,
                _ => wrong_method("GET, HEAD, PATCH, DELETE"),
            }
        }
        _ => unknown(&request),
    }
}

fn wrong_method(allowed: &'static str) -> Reply {
    let mut reply = refuse(StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {allowed}"));
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    reply
}

fn unknown(request: &Request<Incoming>) -> Reply {
    let (method, path) = (request.method(), request.uri().path());
    refuse(StatusCode::NOT_FOUND, format!("nothing answers {method} {path}; events go to POST /v1/topics/TOPIC/events"))
}
