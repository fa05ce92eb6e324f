//! Membership of consumer groups: JoinGroup, SyncGroup, Heartbeat, LeaveGroup, and FindCoordinator, which always finds this node.

use super::answer::Client;
use super::connection::Ends;
use super::errors::Code;
use super::{Service, node, pipelines, text};
use crate::group::{Error, Join, Joined, Leaving, Sync};
use bytes::Bytes;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use std::net::SocketAddr;
use std::sync::Arc;

/// A client id is cut to this where it becomes part of a member's.
const CLIENT_ID_CHARS_MAX: usize = 255;
/// What a coordinator is asked for.
const OF_GROUP: i8 = 0;
const OF_TRANSACTION: i8 = 1;
/// Several keys at once, from this version on.
const MANY_KEYS: i16 = 4;
/// A member that is new is told its id first, from this version on (KIP-394).
const ID_FIRST: i16 = 4;
/// A null protocol can be said, from this version on.
const NULL_PROTOCOL: i16 = 7;
/// A leader can be told to skip the assignment, from this version on (KIP-814).
const SKIPS: i16 = 9;
/// Several members leave at once, from this version on (KIP-345).
const MANY_LEAVE: i16 = 3;

pub(super) fn shared(text: &StrBytes) -> Arc<str> {
    Arc::from(&**text)
}

/// Bytes that are kept: a slice would keep the whole request.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn shared_option(text: Option<&StrBytes>) -> Option<Arc<str>> {
    text.map(shared)
}

fn told(text: Option<Arc<str>>) -> Option<StrBytes> {
    text.map(|text| super::text(&text))
}

pub(super) fn coordinator(
    service: &Service,
    local: SocketAddr,
    request: &FindCoordinatorRequest,
    version: i16,
) -> FindCoordinatorResponse {
    let (code, reason) = match request.key_type {
        OF_GROUP => (Code::None, None),
        // Not one that clients wait for: InitProducerId would answer the same.
        OF_TRANSACTION => (Code::TransactionalIdAuthorizationFailed, Some("transactions are not served yet")),
        _ => (Code::InvalidRequest, Some("key types are 0 (groups) and 1 (transactions)")),
    };
    let message = reason.map(text);
    let (host, port) = super::metadata::advertised(service, local);
    let (id, host, port) = match code {
        Code::None => (node(), text(&host), port),
        _ => (BrokerId(-1), StrBytes::default(), -1),
    };
    if version < MANY_KEYS {
        return FindCoordinatorResponse::default()
            .with_error_code(code.into())
            .with_error_message(if version > 0 { message } else { None })
            .with_node_id(id)
            .with_host(host)
            .with_port(port);
    }
    let one = |key: &StrBytes| {
        Coordinator::default()
            .with_key(key.clone())
            .with_node_id(id)
            .with_host(host.clone())
            .with_port(port)
            .with_error_code(code.into())
            .with_error_message(message.clone())
    };
    FindCoordinatorResponse::default().with_coordinators(request.coordinator_keys.iter().map(one).collect())
}

pub(super) async fn join(
    service: &Service,
    client: &Client,
    client_id: &str,
    request: JoinGroupRequest,
    version: i16,
    ends: &mut Ends,
) -> JoinGroupResponse {
    let session_ms = i64::from(request.session_timeout_ms);
    let group = shared(&request.group_id);
    let join = Join {
        member: shared(&request.member_id),
        instance: shared_option(request.group_instance_id.as_ref()),
        client_id: client_id.chars().take(CLIENT_ID_CHARS_MAX).collect::<String>().into(),
        // As Kafka shows it, and its tools do.
        client_host: format!("/{}", client.address).into(),
        session_ms,
        // Version 0 has none.
        rebalance_ms: if version == 0 { session_ms } else { i64::from(request.rebalance_timeout_ms) },
        protocol_type: shared(&request.protocol_type),
        protocols: request.protocols.into_iter().map(|one| (shared(&one.name), own(&one.metadata))).collect(),
        must_know_id: version >= ID_FIRST,
        may_skip: version >= SKIPS,
    };
    let joined = match pipelines::is_one(&group) {
        true => Err(Code::GroupAuthorizationFailed),
        false => tokio::select! {
            joined = service.door.groups.join(group, join) => match joined {
                Err(Error::MemberIdRequired(id)) => {
                    return refused_join(Code::MemberIdRequired, text(&id), version);
                }
                joined => joined.map_err(|error| Code::from(&error)),
            },
            // The member stays in until its session is over, as with Kafka.
            () = ends.over() => Err(Code::CoordinatorNotAvailable),
        },
    };
    match joined {
        Ok(joined) => joined_response(joined, version),
        Err(code) => refused_join(code, request.member_id, version),
    }
}

fn refused_join(code: Code, member: StrBytes, version: i16) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(code.into())
        .with_generation_id(-1)
        .with_protocol_name(if version >= NULL_PROTOCOL { None } else { Some(StrBytes::default()) })
        .with_member_id(member)
}

fn joined_response(joined: Joined, version: i16) -> JoinGroupResponse {
    let member = |member: crate::group::JoinedMember| {
        JoinGroupResponseMember::default()
            .with_member_id(text(&member.id))
            .with_group_instance_id(told(member.instance))
            .with_metadata(member.metadata)
    };
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(if version >= NULL_PROTOCOL { told(joined.protocol_type) } else { None })
        .with_protocol_name(Some(text(joined.protocol.as_deref().unwrap_or_default())))
        .with_leader(text(&joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(text(&joined.member))
        .with_members(joined.members.into_iter().map(member).collect())
}

pub(super) async fn sync(service: &Service, request: SyncGroupRequest, ends: &mut Ends) -> SyncGroupResponse {
    let part = |one: kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment| {
        (shared(&one.member_id), own(&one.assignment))
    };
    let group = shared(&request.group_id);
    let sync = Sync {
        generation: request.generation_id,
        member: shared(&request.member_id),
        instance: shared_option(request.group_instance_id.as_ref()),
        protocol_type: shared_option(request.protocol_type.as_ref()),
        protocol: shared_option(request.protocol_name.as_ref()),
        assignments: request.assignments.into_iter().map(part).collect(),
    };
    let synced = tokio::select! {
        synced = service.door.groups.sync(group, sync) => synced.map_err(|error| match error {
            // Java knows no other word for "try again" here.
            Error::Loading => Code::RebalanceInProgress,
            error => Code::from(&error),
        }),
        () = ends.over() => Err(Code::CoordinatorNotAvailable),
    };
    match synced {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(told(synced.protocol_type))
            .with_protocol_name(told(synced.protocol))
            .with_assignment(synced.assignment),
        Err(code) => SyncGroupResponse::default().with_error_code(code.into()),
    }
}

pub(super) async fn heartbeat(service: &Service, request: HeartbeatRequest) -> HeartbeatResponse {
    let instance = shared_option(request.group_instance_id.as_ref());
    let (group, member) = (shared(&request.group_id), shared(&request.member_id));
    let beat = service.door.groups.heartbeat(group, member, instance, request.generation_id).await;
    let code = match beat {
        // As Kafka: a member that lived before the restart lives on, and some clients leave at any error.
        Ok(()) | Err(Error::Loading) => Code::None,
        Err(error) => Code::from(&error),
    };
    HeartbeatResponse::default().with_error_code(code.into())
}

pub(super) async fn leave(service: &Service, request: LeaveGroupRequest, version: i16) -> LeaveGroupResponse {
    let leaving: Vec<Leaving> = match version {
        0..MANY_LEAVE => vec![Leaving { member: shared(&request.member_id), instance: None }],
        _ => {
            let one = |member: &kafka_protocol::messages::leave_group_request::MemberIdentity| Leaving {
                member: shared(&member.member_id),
                instance: shared_option(member.group_instance_id.as_ref()),
            };
            request.members.iter().map(one).collect()
        }
    };
    let out = LeaveGroupResponse::default();
    let results = match service.door.groups.leave(shared(&request.group_id), leaving).await {
        Ok(results) => results,
        Err(error) => return out.with_error_code(Code::from(&error).into()),
    };
    let code = |result: &Result<(), Error>| i16::from(result.as_ref().map_or_else(Code::from, |()| Code::None));
    if version < MANY_LEAVE {
        return out.with_error_code(results.first().map_or(0, code));
    }
    let told = |(member, result): (kafka_protocol::messages::leave_group_request::MemberIdentity, _)| {
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code(&result))
    };
    out.with_members(request.members.into_iter().zip(results).map(told).collect())
}
