//! The Kafka door: producers, consumers and their groups, administration of topics.
//!
//! Frames are cut in `frames`, requests go through `connection` and come out in their order; `answer` knows which API is whose. Messages
//! are read and written by the kafka-protocol crate (after `wire/` has walked them), batches by `record/`.

mod admin;
mod alterations;
mod answer;
mod configs;
mod connection;
mod errors;
mod fetch;
mod frames;
mod group_admin;
mod group_offsets;
mod groups;
mod log_dirs;
mod metadata;
mod meters;
mod offsets;
mod partitions;
mod pipelines;
mod placement;
mod produce;
mod producers;
mod quorum;
mod quotas;
mod records;
pub(crate) mod versions;

use super::callers::{AtWork, Callers, Full, Gate};
use crate::access::Quotas;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::control::Control;
use crate::group::Groups;
use crate::pulse::Pulse;
use crate::store::{Store, Topic};
use crate::work::Pool;
use errors::Code;
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;
use meters::Meters;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};
use tracing::{debug, warn};

/// The one node's id.
const NODE: i32 = 1;
/// Jobs of this door that wait for a thread of the pool; more wait in their connections. Fewer than the pool's queue has places.
const JOBS_MAX: usize = 64;
/// How long running requests may take once the door closes.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// What the door needs, and what it is told by the config file.
pub struct KafkaDoor {
    pub store: Store,
    pub groups: Groups,
    /// What pipelines are doing: their positions are shown as groups.
    pub control: Control,
    pub clock: Clock,
    /// What clients may send and fetch in a second.
    pub quotas: Quotas,
    /// Bytes of requests in flight, shared with the other doors.
    pub budget: Budget,
    /// Bytes of Fetch answers that are being read or sent.
    pub answers: Budget,
    /// Where large batches are compressed and decompressed.
    pub pool: Arc<Pool>,
    /// Host and port that clients are told to come to; an empty host: where they came to.
    pub advertised: (String, u16),
    /// Topics are made when a client asks for one that does not exist.
    pub auto_create: bool,
    pub partitions: i32,
    pub connections_max: usize,
    /// Of one address that is not loopback.
    pub connections_per_address_max: usize,
    pub patience: Patience,
    /// Beats while the accept loop turns.
    pub pulse: Pulse,
    pub at_work: AtWork,
}

/// How long the door waits for a client. Who is slower is closed: it would hold memory that others need.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between two requests.
    pub idle: Duration,
    /// For the rest of a request that has begun, or 10 KiB of it.
    pub request: Duration,
    /// For an answer to be taken, or 256 KiB of it.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { idle: Duration::from_secs(600), request: Duration::from_secs(10), answer: Duration::from_secs(30) }
    }
}

/// The door while it is open: what it was given, and what its connections share.
struct Service {
    door: Arc<KafkaDoor>,
    store: Store,
    meters: Meters,
    jobs: Semaphore,
}

impl Service {
    /// Runs CPU-heavy work on the pool; `None` if it panicked.
    async fn on_pool<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let _place = self.jobs.acquire().await.ok()?;
        let (answer, answered) = oneshot::channel();
        let job = move || drop(answer.send(work()));
        if let Err(crate::work::Full(job)) = self.door.pool.run(job) {
            // Other doors filled the queue: this thread does it, so that the work is done and the queue is no longer for it.
            job();
        }
        answered.await.ok()
    }
}

/// Serves until `stop` turns true; a request that is being answered is answered.
pub async fn serve(listener: TcpListener, door: Arc<KafkaDoor>, mut stop: watch::Receiver<bool>) {
    let callers = Arc::new(Callers::default());
    let service = Arc::new(Service {
        store: door.store.clone(),
        meters: Meters::new(),
        jobs: Semaphore::new(JOBS_MAX),
        door: door.clone(),
    });
    let mut gate = Gate::new(door.at_work.clone());
    let mut connections = tokio::task::JoinSet::new();
    let mut beat = tokio::time::interval(crate::pulse::BEAT_INTERVAL);
    loop {
        let accepted = tokio::select! {
            accepted = gate.accept(&listener) => accepted,
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
                warn!(%error, "the Kafka door cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        gate.pass().await;
        let place = match callers.admit(peer.ip(), door.connections_max, door.connections_per_address_max) {
            Ok(place) => place,
            Err(full) => {
                let reason = if full == Full::Door { "connections" } else { "connections-of-address" };
                service.meters.closed(reason);
                debug!(%peer, reason, "a Kafka connection is one too many");
                continue;
            }
        };
        let (service, mut stop) = (service.clone(), stop.clone());
        let too_soon = door.quotas.connected(peer.ip().to_canonical());
        connections.spawn(async move {
            let _place = place;
            if let Some(wait) = too_soon {
                // Closed at once it would come again at once.
                service.meters.closed("connection-rate");
                let _ = tokio::time::timeout(wait, stopped(&mut stop)).await;
                return;
            }
            if let Err(closed) = connection::run(stream, &service, stop).await {
                service.meters.closed(closed.reason());
                debug!(%closed, %peer, "Kafka connection closed");
            }
        });
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(CLOSE_PATIENCE, drained).await.is_err() {
        warn!("Kafka connections did not end in time and are cut");
    }
}

/// Returns once the door is to close (or who would say so is gone).
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stopped| *stopped).await.map(drop);
}

/// The topic of this name.
fn find_by_name(service: &Service, name: &str) -> Result<Arc<Topic>, Code> {
    service.store.topic(name).ok_or(Code::UnknownTopicOrPartition)
}

/// The topic that a request names, by id where its version has ids.
fn find(service: &Service, name: &TopicName, id: uuid::Uuid, is_by_id: bool) -> Result<Arc<Topic>, Code> {
    if is_by_id {
        return service.store.topic_by_id(id).ok_or(Code::UnknownTopicId);
    }
    find_by_name(service, name)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn node() -> BrokerId {
    BrokerId(NODE)
}

/// A name in the protocol's type.
fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}
