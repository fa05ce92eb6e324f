//! What tools ask of groups: DescribeGroups, ListGroups, DeleteGroups.

use super::errors::Code;
use super::groups::shared;
use super::{Service, pipelines, text};
use crate::group::{Description, Error};
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    ListGroupsRequest, ListGroupsResponse,
};
use std::collections::HashSet;

/// Nobody asked which operations are allowed.
const NOT_ASKED: i32 = i32::MIN;
/// All that there are on a group, as a set of bits: read, delete, describe, describe and alter configs.
const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
/// A group that is not there is an error, from this version on (KIP-1043); before, it is dead.
const NOT_FOUND_IS_TOLD: i16 = 6;
/// The protocol that all groups here speak.
const TYPE: &str = "classic";
/// What a group that is not there is said to be.
const DEAD: &str = "Dead";

pub(super) async fn describe(
    service: &Service,
    request: DescribeGroupsRequest,
    version: i16,
) -> DescribeGroupsResponse {
    let operations = if request.include_authorized_operations { ALL_OPERATIONS } else { NOT_ASKED };
    let mut told = HashSet::new();
    let mut groups = Vec::with_capacity(request.groups.len());
    // A group that is named twice is told once: a short request must not ask for an answer without end.
    for id in request.groups.into_iter().filter(|id| told.insert(id.clone())) {
        let found = match pipelines::describe(service, &id) {
            Some(found) => Ok(found),
            None => service.door.groups.describe(shared(&id)).await,
        };
        groups.push(described(id, found, version).with_authorized_operations(operations));
    }
    DescribeGroupsResponse::default().with_groups(groups)
}

fn described(id: GroupId, found: Result<Description, Error>, version: i16) -> DescribedGroup {
    let out = DescribedGroup::default();
    match found {
        Ok(found) => {
            let member = |member: crate::group::DescribedMember| {
                DescribedGroupMember::default()
                    .with_member_id(text(&member.id))
                    .with_group_instance_id(member.instance.map(|instance| text(&instance)))
                    .with_client_id(text(&member.client_id))
                    .with_client_host(text(&member.client_host))
                    .with_member_metadata(member.metadata)
                    .with_member_assignment(member.assignment)
            };
            out.with_group_id(id)
                .with_group_state(text(found.state.name()))
                .with_protocol_type(text(&found.protocol_type))
                .with_protocol_data(text(&found.protocol))
                .with_members(found.members.into_iter().map(member).collect())
        }
        Err(Error::NotFound) if version < NOT_FOUND_IS_TOLD => out.with_group_id(id).with_group_state(text(DEAD)),
        Err(Error::NotFound) => {
            let reason = text(&format!("Group {} not found.", &**id));
            out.with_error_code(Code::GroupIdNotFound.into())
                .with_error_message(Some(reason))
                .with_group_state(text(DEAD))
                .with_group_id(id)
        }
        Err(error) => out.with_group_id(id).with_error_code(Code::from(&error).into()),
    }
}

pub(super) async fn list(service: &Service, request: ListGroupsRequest) -> ListGroupsResponse {
    let out = ListGroupsResponse::default();
    let groups = match service.door.groups.list().await {
        Ok(groups) => groups,
        Err(error) => return out.with_error_code(Code::from(&error).into()),
    };
    let is_in = |filter: &[kafka_protocol::protocol::StrBytes], own: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(own))
    };
    let all = groups.into_iter().chain(pipelines::list(service));
    let wanted =
        all.filter(|group| is_in(&request.states_filter, group.state.name()) && is_in(&request.types_filter, TYPE));
    let listed = wanted.map(|group| {
        ListedGroup::default()
            .with_group_id(GroupId(text(&group.group)))
            .with_protocol_type(text(&group.protocol_type))
            .with_group_state(text(group.state.name()))
            .with_group_type(text(TYPE))
    });
    out.with_groups(listed.collect())
}

pub(super) async fn delete(service: &Service, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut told = HashSet::new();
    let mut results = Vec::with_capacity(request.groups_names.len());
    for id in request.groups_names.into_iter().filter(|id| told.insert(id.clone())) {
        let code = match pipelines::is_one(&id) {
            true => Code::GroupAuthorizationFailed,
            false => match service.door.groups.delete(shared(&id)).await {
                Ok(()) => Code::None,
                Err(error) => Code::from(&error),
            },
        };
        results.push(DeletableGroupResult::default().with_group_id(id).with_error_code(code.into()));
    }
    DeleteGroupsResponse::default().with_results(results)
}
