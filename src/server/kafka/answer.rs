//! Which request is whose: reads it, has it answered, writes the answer.

use super::connection::Ends;
use super::frames::{Closed, Frame};
use super::{
    Service, admin, alterations, configs, fetch, group_admin, group_offsets, groups, log_dirs, metadata, offsets,
    partitions, placement, produce, producers, quorum, quotas, records, versions,
};
use crate::access::Verdict;
use crate::budget::Lease;
use crate::wire;
use crate::wire::fetch::{FetchAnswer, Piece};
use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, FetchRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What a connection knows of its client.
#[derive(Debug)]
pub(super) struct Client {
    /// Canonical.
    pub(super) address: IpAddr,
    /// Whether it is known to read zstd; others get batches decompressed.
    reads_zstd: bool,
}

impl Client {
    pub(super) fn new(address: IpAddr) -> Client {
        Client { address: address.to_canonical(), reads_zstd: false }
    }
}

/// A frame to be sent.
pub(super) struct Answer {
    pub(super) pieces: Vec<Piece>,
    /// For the bytes of its batches in memory.
    pub(super) leases: Vec<Lease>,
    /// How long the client is not listened to once it is sent.
    pub(super) throttle: Duration,
}

/// What an answer's header needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply {
    pub(super) api: ApiKey,
    pub(super) version: i16,
    pub(super) correlation: i32,
}

/// Answers everything but Produce.
pub(super) async fn answer(
    service: &Arc<Service>,
    client: &mut Client,
    local: SocketAddr,
    frame: Frame,
    ends: &mut Ends,
) -> Result<Answer, Closed> {
    let version = frame.version;
    let reply = Reply { api: frame.api, version, correlation: frame.correlation };
    if !frame.is_served {
        return Reply { version: 0, ..reply }.with(&versions::other_version());
    }
    match frame.api {
        ApiKey::ApiVersions => {
            let request: ApiVersionsRequest = decode(&frame)?;
            client.reads_zstd = versions::reads_zstd(&request.client_software_name);
            reply.with(&versions::answer(&request, version))
        }
        ApiKey::Metadata => reply.with(&metadata::answer(service, local, decode(&frame)?, version).await),
        ApiKey::DescribeCluster => reply.with(&metadata::cluster(service, local, &decode(&frame)?)),
        ApiKey::FindCoordinator => reply.with(&groups::coordinator(service, local, &decode(&frame)?, version)),
        ApiKey::JoinGroup => {
            let (request, id) = (decode(&frame)?, frame.client_id().to_owned());
            // What was asked is read: a member that waits for the others holds no bytes of the budget.
            drop(frame);
            reply.with(&groups::join(service, client, &id, request, version, ends).await)
        }
        ApiKey::SyncGroup => {
            let request = decode(&frame)?;
            drop(frame);
            reply.with(&groups::sync(service, request, ends).await)
        }
        ApiKey::Heartbeat => reply.with(&groups::heartbeat(service, decode(&frame)?).await),
        ApiKey::LeaveGroup => reply.with(&groups::leave(service, decode(&frame)?, version).await),
        ApiKey::OffsetCommit => reply.with(&group_offsets::commit(service, decode(&frame)?, version).await),
        ApiKey::OffsetFetch => reply.with(&group_offsets::fetch(service, decode(&frame)?, version).await),
        ApiKey::OffsetDelete => reply.with(&group_offsets::delete(service, decode(&frame)?).await),
        ApiKey::DescribeGroups => reply.with(&group_admin::describe(service, decode(&frame)?, version).await),
        ApiKey::ListGroups => reply.with(&group_admin::list(service, decode(&frame)?).await),
        ApiKey::DeleteGroups => reply.with(&group_admin::delete(service, decode(&frame)?).await),
        ApiKey::Fetch => {
            let request: FetchRequest = decode(&frame)?;
            let client_id = frame.client_id().to_owned();
            // What was asked is read: a long poll holds no bytes of the budget.
            drop(frame);
            let caller = quotas::caller(client, &client_id);
            if let Some(throttle) = service.door.quotas.withheld(&caller) {
                return Ok(reply.withheld(throttle, 0));
            }
            let size_max = service.door.quotas.sent_size_max(&caller);
            let (answer, leases) = fetch::answer(service, client.reads_zstd, request, version, size_max, ends).await;
            Ok(reply.with_records(service, client, &client_id, answer, leases))
        }
        ApiKey::ListOffsets => reply.with(&offsets::list(service, decode(&frame)?, version).await),
        ApiKey::OffsetForLeaderEpoch => reply.with(&offsets::epochs(service, decode(&frame)?)),
        ApiKey::InitProducerId => reply.with(&produce::init_producer(service, &decode(&frame)?).await),
        ApiKey::CreateTopics => reply.with(&admin::create(service, decode(&frame)?).await),
        ApiKey::DeleteTopics => reply.with(&admin::delete(service, decode(&frame)?, version).await),
        ApiKey::DescribeClientQuotas => reply.with(&quotas::describe(service, decode(&frame)?)),
        ApiKey::AlterClientQuotas => reply.with(&quotas::alter(service, decode(&frame)?).await),
        ApiKey::DescribeConfigs => reply.with(&configs::describe(service, local, decode(&frame)?)),
        ApiKey::ListConfigResources => reply.with(&configs::list(service, decode(&frame)?, version)),
        ApiKey::CreatePartitions => reply.with(&partitions::create(service, decode(&frame)?).await),
        ApiKey::DescribeTopicPartitions => reply.with(&partitions::describe(service, decode(&frame)?)),
        ApiKey::DeleteRecords => reply.with(&records::delete(service, decode(&frame)?).await),
        ApiKey::AlterConfigs => reply.with(&alterations::replace(service, decode(&frame)?).await),
        ApiKey::IncrementalAlterConfigs => reply.with(&alterations::alter(service, decode(&frame)?).await),
        ApiKey::DescribeLogDirs => reply.with(&log_dirs::describe(service, decode(&frame)?).await),
        ApiKey::AlterPartitionReassignments => reply.with(&placement::reassign(service, decode(&frame)?)),
        ApiKey::ListPartitionReassignments => reply.with(&placement::reassignments(&decode(&frame)?)),
        ApiKey::ElectLeaders => reply.with(&placement::elect(service, decode(&frame)?, version)),
        ApiKey::DescribeQuorum => reply.with(&quorum::describe(service, local, decode(&frame)?, version).await),
        ApiKey::DescribeProducers => reply.with(&producers::describe(service, decode(&frame)?).await),
        other => Err(Closed::Version(other, version)),
    }
}

/// Reads a request whose shape is right. Bytes behind it are passed over, as Kafka does: librdkafka leaves three behind a Metadata request
/// for one topic.
pub(super) fn decode<T: Decodable>(frame: &Frame) -> Result<T, Closed> {
    let mut body = frame.bytes.clone();
    RequestHeader::decode(&mut body, frame.api.request_header_version(frame.version))
        .map_err(|error| frame.malformed(error))?;
    wire::shape::check(frame.api, frame.version, &body).map_err(|error| frame.malformed(error))?;
    T::decode(&mut body, frame.version).map_err(|error| frame.malformed(error))
}

impl Reply {
    pub(super) fn with(&self, body: &impl Encodable) -> Result<Answer, Closed> {
        let Reply { api, version, correlation } = *self;
        // Our own answer that cannot be written is a mistake in this door; the client sees the connection end, and the log says why.
        let cannot = |error: String| {
            tracing::error!(?api, version, %error, "an answer cannot be written");
            Closed::Malformed { api, version, reason: error }
        };
        let mut out = BytesMut::with_capacity(128);
        out.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(correlation);
        header.encode(&mut out, api.response_header_version(version)).map_err(|error| cannot(error.to_string()))?;
        body.encode(&mut out, version).map_err(|error| cannot(error.to_string()))?;
        let size = (out.len() - 4) as i32;
        out[..4].copy_from_slice(&size.to_be_bytes());
        Ok(Answer { pieces: vec![Piece::Memory(out.freeze())], leases: Vec::new(), throttle: Duration::ZERO })
    }

    /// A Fetch answer as the client's quotas let it have it: with its records, or without and when to ask again (KIP-219).
    fn with_records(
        &self,
        service: &Service,
        client: &Client,
        client_id: &str,
        answer: FetchAnswer,
        leases: Vec<Lease>,
    ) -> Answer {
        let encode = |answer: &FetchAnswer| wire::fetch::encode(answer, self.correlation, self.version);
        let pieces = encode(&answer);
        let size = pieces.iter().map(Piece::len).sum::<usize>() - 4;
        match service.door.quotas.sent(&quotas::caller(client, client_id), size) {
            Verdict::Send(throttle) => {
                service.meters.fetched_bytes.increment(answer.size() as u64);
                let pieces = if throttle.is_zero() {
                    pieces
                } else {
                    encode(&FetchAnswer { throttle_ms: quotas::millis(throttle), ..answer })
                };
                Answer { pieces, leases, throttle }
            }
            Verdict::Withhold(throttle) => self.withheld(throttle, answer.error_code),
        }
    }

    /// A Fetch answer without its records.
    fn withheld(&self, throttle: Duration, error_code: i16) -> Answer {
        let answer = FetchAnswer { throttle_ms: quotas::millis(throttle), error_code, topics: Vec::new() };
        Answer { pieces: wire::fetch::encode(&answer, self.correlation, self.version), leases: Vec::new(), throttle }
    }
}
