//! The Kafka door: what producers and partition-assigned consumers need. Groups come later.
//!
//! Frames are cut and answered here in request order; messages are read and written by the kafka-protocol crate, batches by `record/`.

mod admin;
mod errors;
mod fetch;
mod metadata;
mod offsets;
mod produce;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::pulse::Pulse;
use crate::store::{Store, Topic};
use bytes::{BufMut, Bytes, BytesMut};
use errors::Code;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, BrokerId, InitProducerIdRequest, InitProducerIdResponse,
    ProducerId, RequestHeader, ResponseHeader, TopicName, api_versions_response::ApiVersion,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tracing::{debug, warn};

/// No request is larger: the largest batch a topic may allow, and its frame.
const FRAME_SIZE_MAX: usize = 104 << 20;
/// Bytes are read and reserved in steps of this size.
const STEP: usize = 64 << 10;
/// How long a frame waits for bytes of the budget.
const BUDGET_PATIENCE: Duration = Duration::from_secs(10);
/// A started frame must go on within this; between requests a connection may idle longer.
const FRAME_PATIENCE: Duration = Duration::from_secs(30);
const IDLE_MAX: Duration = Duration::from_secs(600);
/// The one node's id.
const NODE: i32 = 1;

/// What is served: API and versions, as a real broker advertises them. Produce is advertised from 0 because old librdkafka asks for that
/// before it compresses; 0 to 2 are refused (KAFKA-18659). FindCoordinator 0 stands for lz4 there.
const SERVED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 0, 13),
    (ApiKey::Fetch, 4, 17),
    (ApiKey::ListOffsets, 1, 10),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::DescribeCluster, 0, 2),
];

/// What the door needs, and what it is told by the config file.
pub struct KafkaDoor {
    pub store: Store,
    pub clock: Clock,
    /// Bytes of requests in flight, shared with the other doors.
    pub budget: Budget,
    /// Host and port that clients are told to come to.
    pub advertised: (String, u16),
    /// Topics are made when a client asks for one that does not exist.
    pub auto_create: bool,
    pub partitions: i32,
    pub connections_max: usize,
    /// Beats while the accept loop turns.
    pub pulse: Pulse,
}

/// What a connection knows of its client.
struct Client {
    /// Whether it is known to read zstd; others get batches decompressed.
    reads_zstd: bool,
}

/// Serves until `stop` turns true; a request that is being answered is answered.
pub async fn serve(listener: TcpListener, door: Arc<KafkaDoor>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(door.connections_max));
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
                warn!(%error, "the Kafka door cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (door, stop) = (door.clone(), stop.clone());
        connections.spawn(async move {
            let _place = place;
            if let Err(error) = connection(stream, &door, stop).await {
                debug!(%error, %peer, "Kafka connection ended");
            }
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Returns once the door is to close (or who would say so is gone).
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stopped| *stopped).await.map(drop);
}

async fn connection(mut stream: TcpStream, door: &Arc<KafkaDoor>, mut stop: watch::Receiver<bool>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let mut client = Client { reads_zstd: false };
    loop {
        let mut head = [0; 4];
        tokio::select! {
            read = tokio::time::timeout(IDLE_MAX, stream.read_exact(&mut head)) => match read {
                Ok(Ok(_)) => {}
                // The end between two requests is how clients leave.
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(()),
            },
            () = stopped(&mut stop) => return Ok(()),
        }
        let size = i32::from_be_bytes(head);
        if size < 8 || size as usize > FRAME_SIZE_MAX {
            return Err(invalid(format!("a frame of {size} bytes is none; is this a Kafka client?")));
        }
        let (frame, lease) = receive(&mut stream, size as usize, door).await?;
        let answer = answer(door, &mut client, local, frame, &mut stop).await?;
        drop(lease);
        if let Some(pieces) = answer {
            for piece in pieces {
                stream.write_all(&piece).await?;
            }
        }
    }
}

/// Reads a frame; bytes are reserved as they arrive, not as they are announced.
async fn receive(stream: &mut TcpStream, size: usize, door: &KafkaDoor) -> io::Result<(Bytes, crate::budget::Lease)> {
    let busy = |error: crate::budget::NoRoom| io::Error::new(io::ErrorKind::OutOfMemory, error.to_string());
    let mut lease = door.budget.take(size.min(STEP), BUDGET_PATIENCE).await.map_err(busy)?;
    let mut frame = BytesMut::with_capacity(size.min(STEP));
    while frame.len() < size {
        let step = (size - frame.len()).min(STEP);
        if frame.len() + step > lease.bytes() {
            lease.grow(step, BUDGET_PATIENCE).await.map_err(busy)?;
        }
        let from = frame.len();
        frame.resize(from + step, 0);
        let read = tokio::time::timeout(FRAME_PATIENCE, stream.read_exact(&mut frame[from..])).await;
        read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    }
    Ok((frame.freeze(), lease))
}

/// Answers one request; `None` for a produce that wants no answer.
async fn answer(
    door: &Arc<KafkaDoor>,
    client: &mut Client,
    local: SocketAddr,
    frame: Bytes,
    stop: &mut watch::Receiver<bool>,
) -> io::Result<Option<Vec<Bytes>>> {
    let (key, version) = (i16::from_be_bytes([frame[0], frame[1]]), i16::from_be_bytes([frame[2], frame[3]]));
    let correlation = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
    let served = SERVED.iter().find(|(api, _, _)| *api as i16 == key);
    let Some((api, min, max)) = served else {
        return Err(invalid(format!("API {key} is not served here")));
    };
    if !(*min..=*max).contains(&version) || (*api == ApiKey::Produce && version < 3) {
        if *api != ApiKey::ApiVersions {
            return Err(invalid(format!("{api:?} version {version} is not served, {min} to {max} are")));
        }
        // Answered in version 0, so that the client can choose again (KIP-511).
        return encode(ApiKey::ApiVersions, 0, correlation, &api_versions(Code::UnsupportedVersion)).map(Some);
    }
    metrics::counter!(crate::metrics::KAFKA_REQUESTS.name, "api" => format!("{api:?}")).increment(1);
    let mut body = frame;
    RequestHeader::decode(&mut body, api.request_header_version(version)).map_err(invalid)?;
    let reply = Reply { api: *api, version, correlation };
    match api {
        ApiKey::ApiVersions => {
            let request: ApiVersionsRequest = decode(&mut body, version)?;
            client.reads_zstd = reads_zstd(&request.client_software_name);
            reply.with(&api_versions(Code::None))
        }
        ApiKey::Metadata => reply.with(&metadata::answer(door, local, decode(&mut body, version)?, version).await),
        ApiKey::DescribeCluster => reply.with(&metadata::cluster(door, local)),
        ApiKey::FindCoordinator => reply.with(&metadata::coordinator(&decode(&mut body, version)?, version)),
        ApiKey::Produce => {
            let request: kafka_protocol::messages::ProduceRequest = decode(&mut body, version)?;
            let wants_answer = request.acks != 0;
            let (answered, failed) = produce::answer(door, request, version).await;
            match (wants_answer, failed) {
                (true, _) => reply.with(&answered),
                (false, false) => Ok(None),
                // There is no other way to tell: the client then asks for metadata and goes on.
                (false, true) => Err(invalid("a produce without an answer failed".to_owned())),
            }
        }
        ApiKey::Fetch => {
            let request = decode(&mut body, version)?;
            reply.with(&fetch::answer(door, client.reads_zstd, request, version, stop).await)
        }
        ApiKey::ListOffsets => reply.with(&offsets::list(door, decode(&mut body, version)?, version).await),
        ApiKey::OffsetForLeaderEpoch => reply.with(&offsets::epochs(door, decode(&mut body, version)?)),
        ApiKey::InitProducerId => reply.with(&init_producer(door, &decode(&mut body, version)?).await),
        ApiKey::CreateTopics => reply.with(&admin::create(door, decode(&mut body, version)?).await),
        ApiKey::DeleteTopics => reply.with(&admin::delete(door, decode(&mut body, version)?, version).await),
        ApiKey::DescribeConfigs => reply.with(&admin::describe_configs(door, decode(&mut body, version)?)),
        other => Err(invalid(format!("{other:?} is listed and not served"))),
    }
}

/// What an answer's header needs.
struct Reply {
    api: ApiKey,
    version: i16,
    correlation: i32,
}

impl Reply {
    fn with(&self, body: &impl Encodable) -> io::Result<Option<Vec<Bytes>>> {
        encode(self.api, self.version, self.correlation, body).map(Some)
    }
}

/// Bytes behind the request are passed over, as Kafka does: librdkafka leaves three behind a Metadata request for one topic.
fn decode<T: Decodable>(body: &mut Bytes, version: i16) -> io::Result<T> {
    T::decode(body, version).map_err(invalid)
}

fn encode(api: ApiKey, version: i16, correlation: i32, body: &impl Encodable) -> io::Result<Vec<Bytes>> {
    let mut out = BytesMut::new();
    out.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(correlation);
    header.encode(&mut out, api.response_header_version(version)).map_err(invalid)?;
    body.encode(&mut out, version).map_err(invalid)?;
    let size = (out.len() - 4) as i32;
    out[..4].copy_from_slice(&size.to_be_bytes());
    Ok(vec![out.freeze()])
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

fn api_versions(code: Code) -> ApiVersionsResponse {
    let version = |(api, min, max): &(ApiKey, i16, i16)| {
        ApiVersion::default().with_api_key(*api as i16).with_min_version(*min).with_max_version(*max)
    };
    ApiVersionsResponse::default().with_error_code(code.into()).with_api_keys(SERVED.iter().map(version).collect())
}

/// Names that clients give which always carry a zstd decoder.
fn reads_zstd(name: &str) -> bool {
    ["apache-kafka-java", "librdkafka", "confluent-", "kgo", "sarama"].iter().any(|known| name.starts_with(known))
}

async fn init_producer(door: &KafkaDoor, request: &InitProducerIdRequest) -> InitProducerIdResponse {
    let none = InitProducerIdResponse::default().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
    if request.transactional_id.is_some() {
        return none.with_error_code(Code::TransactionalIdAuthorizationFailed.into());
    }
    match door.store.next_producer_id().await {
        Ok(id) => none.with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(_) => none.with_error_code(Code::CoordinatorNotAvailable.into()),
    }
}

/// The topic that a request names, by id where it has one.
fn find(door: &KafkaDoor, name: &TopicName, id: uuid::Uuid) -> Result<Arc<Topic>, Code> {
    if !id.is_nil() {
        return door.store.topic_by_id(id).ok_or(Code::UnknownTopicId);
    }
    door.store.topic(name).ok_or(Code::UnknownTopicOrPartition)
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
