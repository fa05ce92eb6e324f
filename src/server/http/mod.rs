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
mod fetch;
mod origin;
mod post;
mod quarantine;
mod reply;
mod sniff;
mod tail;
mod topics;

pub use fetch::record_json;
pub use origin::Origins;
pub use sniff::{BODY_SIZE_MAX, DEPTH_MAX, EVENTS_MAX};

use crate::budget::Budget;
use crate::clock::Clock;
use crate::ingest::Ingest;
use crate::pulse::Pulse;
use crate::store::Store;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use reply::{Reply, refuse};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{debug, warn};

/// How long a client may take to send its request's head.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// How long running requests may take once the door closes.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// What the door needs, and what it is told by the config file.
pub struct HttpDoor {
    pub store: Store,
    pub ingest: Ingest,
    pub clock: Clock,
    /// Bytes of requests in flight, shared with the other doors.
    pub budget: Budget,
    pub origins: Origins,
    /// SHA-256 of the keys that may write, in hex; empty: everybody may.
    pub write_keys: Vec<String>,
    /// Topics are made when an event names one that does not exist.
    pub auto_create: bool,
    /// Beats while the accept loop turns.
    pub pulse: Pulse,
    pub connections_max: usize,
    /// Of one address that is not loopback.
    pub connections_per_address_max: usize,
}

/// Counts connections by address.
#[derive(Default)]
struct Callers {
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place; given back when it ends.
struct Place {
    callers: Arc<Callers>,
    address: IpAddr,
}

impl Callers {
    fn admit(self: &Arc<Self>, address: IpAddr, door: &HttpDoor) -> Option<Place> {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = by_address.values().sum();
        let own = by_address.entry(address).or_default();
        if total >= door.connections_max || (!address.is_loopback() && *own >= door.connections_per_address_max) {
            return None;
        }
        *own += 1;
        Some(Place { callers: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_address = self.callers.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// Serves until `stop` turns true; then no connection is accepted, and running requests get [`CLOSE_PATIENCE`] to end.
pub async fn serve(listener: TcpListener, door: Arc<HttpDoor>, mut stop: watch::Receiver<bool>) {
    let callers = Arc::new(Callers::default());
    let mut connections = tokio::task::JoinSet::new();
    let mut beat = tokio::time::interval(crate::pulse::BEAT_INTERVAL);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut stop) => break,
            _ = beat.tick() => {
                door.pulse.beat();
                continue;
            }
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors or memory: others may give some back.
                warn!(%error, "the HTTP door cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(place) = callers.admit(peer.ip(), &door) else {
            metrics::counter!(crate::metrics::HTTP_REFUSALS.name, "status" => "connection").increment(1);
            continue;
        };
        // Answers are small and whole: waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        connections.spawn(connection(stream, peer, door.clone(), stop.clone(), place));
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(CLOSE_PATIENCE, drained).await.is_err() {
        warn!("HTTP connections did not end in time and are cut");
    }
}

async fn connection(
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
    door: Arc<HttpDoor>,
    mut stop: watch::Receiver<bool>,
    _place: Place,
) {
    let stopping = stop.clone();
    let service = service_fn(move |request| {
        let (door, stopping) = (door.clone(), stopping.clone());
        async move { Ok::<_, Infallible>(answer(&door, peer, request, stopping).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, %peer, "HTTP connection ended");
    }
}

/// Returns once the door is to close (or who would say so is gone).
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stopped| *stopped).await.map(drop);
}

async fn answer(
    door: &Arc<HttpDoor>,
    peer: SocketAddr,
    request: Request<Incoming>,
    stop: watch::Receiver<bool>,
) -> Reply {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::POST, ["v1", "topics", topic, "events"]) => post::events(door, topic, peer, request).await,
        (&Method::OPTIONS, ["v1", "topics", _, "events"]) => {
            let mut reply = reply::json(StatusCode::OK, &serde_json::json!({}));
            door.origins.grant_preflight(request.headers(), reply.headers_mut());
            reply
        }
        (method, ["v1", "topics", rest @ ..]) => {
            if let Err(reason) = door.origins.check_reader(request.headers()) {
                return refuse(StatusCode::FORBIDDEN, reason);
            }
            match (method, rest) {
                (&Method::GET, [topic, "events"]) => fetch::events(door, topic, request.uri().query()).await,
                (&Method::GET, [topic, "tail"]) => tail::events(door, topic, request.uri().query(), stop).await,
                (&Method::GET, []) => topics::list(door),
                (&Method::POST, []) => topics::create(door, request).await,
                (&Method::GET, [topic]) => topics::describe(door, topic),
                (&Method::PATCH, [topic]) => topics::alter(door, topic, request).await,
                (&Method::DELETE, [topic]) => topics::delete(door, topic).await,
                _ => unknown(&request),
            }
        }
        _ => unknown(&request),
    }
}

fn unknown(request: &Request<Incoming>) -> Reply {
    let (method, path) = (request.method(), request.uri().path());
    refuse(StatusCode::NOT_FOUND, format!("nothing answers {method} {path}; events go to POST /v1/topics/TOPIC/events"))
}
