//! The shapes of requests that concern consumer groups.

use super::{Field, I8, I32, I64, Kind, NUMBERS, TEXTS, between, field, since};

pub(super) const JOIN_GROUP: &[Field] = &[
    field("group", Kind::Text),
    field("session timeout", I32),
    since("rebalance timeout", I32, 1),
    field("member", Kind::Text),
    since("instance", Kind::Text, 5),
    field("protocol type", Kind::Text),
    field("protocols", Kind::Items(&[field("protocol", Kind::Text), field("metadata", Kind::Bytes)])),
    since("reason", Kind::Text, 8),
];

pub(super) const SYNC_GROUP: &[Field] = &[
    field("group", Kind::Text),
    field("generation", I32),
    field("member", Kind::Text),
    since("instance", Kind::Text, 3),
    since("protocol type", Kind::Text, 5),
    since("protocol", Kind::Text, 5),
    field("assignments", Kind::Items(&[field("member", Kind::Text), field("assignment", Kind::Bytes)])),
];

pub(super) const HEARTBEAT: &[Field] = &[
    field("group", Kind::Text),
    field("generation", I32),
    field("member", Kind::Text),
    since("instance", Kind::Text, 3),
];

pub(super) const LEAVE_GROUP: &[Field] = &[
    field("group", Kind::Text),
    between("member", Kind::Text, 0, 2),
    since(
        "members",
        Kind::Items(&[field("member", Kind::Text), since("instance", Kind::Text, 3), since("reason", Kind::Text, 5)]),
        3,
    ),
];

pub(super) const OFFSET_COMMIT: &[Field] = &[
    field("group", Kind::Text),
    since("generation", I32, 1),
    since("member", Kind::Text, 1),
    since("instance", Kind::Text, 7),
    between("retention time", I64, 2, 4),
    field(
        "topics",
        Kind::Items(&[
            field("topic", Kind::Text),
            field(
                "partitions",
                Kind::Items(&[
                    field("partition", I32),
                    field("offset", I64),
                    since("leader epoch", I32, 6),
                    field("metadata", Kind::Text),
                ]),
            ),
        ]),
    ),
];

pub(super) const OFFSET_FETCH: &[Field] = &[
    between("group", Kind::Text, 0, 7),
    between("topics", Kind::Items(&[field("topic", Kind::Text), field("partitions", NUMBERS)]), 0, 7),
    since(
        "groups",
        Kind::Items(&[
            field("group", Kind::Text),
            since("member", Kind::Text, 9),
            since("member epoch", I32, 9),
            field("topics", Kind::Items(&[field("topic", Kind::Text), field("partitions", NUMBERS)])),
        ]),
        8,
    ),
    since("require stable", I8, 7),
];

pub(super) const DESCRIBE_GROUPS: &[Field] = &[field("groups", TEXTS), since("include operations", I8, 3)];

pub(super) const LIST_GROUPS: &[Field] = &[since("states", TEXTS, 4), since("types", TEXTS, 5)];

pub(super) const DELETE_GROUPS: &[Field] = &[field("groups", TEXTS)];

pub(super) const OFFSET_DELETE: &[Field] = &[
    field("group", Kind::Text),
    field(
        "topics",
        Kind::Items(&[field("topic", Kind::Text), field("partitions", Kind::Items(&[field("partition", I32)]))]),
    ),
];

#[cfg(test)]
mod tests {
    use super::super::tests::{is_exact, text, topic};
    use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
    use kafka_protocol::messages::leave_group_request::MemberIdentity;
    use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
    use kafka_protocol::messages::offset_fetch_request::{
        OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    };
    use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
    use kafka_protocol::messages::*;

    #[test]
    fn shapes_of_membership_take_exactly_their_bytes() {
        is_exact(ApiKey::JoinGroup, 0..=9, |version| {
            let one = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata("metadata".into());
            let join = JoinGroupRequest::default().with_group_id(GroupId(text("group"))).with_member_id(text("member"));
            let join = join.with_protocol_type(text("consumer")).with_protocols(vec![one.clone(), one]);
            let join = if version >= 5 { join.with_group_instance_id(Some(text("instance"))) } else { join };
            if version >= 8 { join.with_reason(Some(text("reason"))) } else { join }
        });
        is_exact(ApiKey::SyncGroup, 0..=5, |version| {
            let one = SyncGroupRequestAssignment::default().with_member_id(text("a")).with_assignment("part".into());
            let sync = SyncGroupRequest::default().with_group_id(GroupId(text("group")));
            let sync = sync.with_member_id(text("member")).with_assignments(vec![one.clone(), one]);
            let sync = if version >= 3 { sync.with_group_instance_id(Some(text("instance"))) } else { sync };
            let of = (Some(text("consumer")), Some(text("range")));
            if version >= 5 { sync.with_protocol_type(of.0).with_protocol_name(of.1) } else { sync }
        });
        is_exact(ApiKey::Heartbeat, 0..=4, |version| {
            let beat = HeartbeatRequest::default().with_group_id(GroupId(text("group"))).with_member_id(text("member"));
            if version >= 3 { beat.with_group_instance_id(Some(text("instance"))) } else { beat }
        });
        is_exact(ApiKey::LeaveGroup, 0..=5, |version| {
            let leave = LeaveGroupRequest::default().with_group_id(GroupId(text("group")));
            let one = MemberIdentity::default().with_member_id(text("a")).with_group_instance_id(Some(text("i")));
            match version {
                0..=2 => leave.with_member_id(text("member")),
                _ => leave.with_members(vec![one.clone(), one]),
            }
        });
    }

    #[test]
    fn shapes_of_offsets_and_administration_take_exactly_their_bytes() {
        is_exact(ApiKey::OffsetCommit, 2..=9, |version| {
            let one = OffsetCommitRequestPartition::default().with_committed_metadata(Some(text("words")));
            let one = if version >= 6 { one.with_committed_leader_epoch(7) } else { one };
            let of = OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(vec![one.clone(), one]);
            let commit = OffsetCommitRequest::default().with_group_id(GroupId(text("group"))).with_topics(vec![of]);
            let commit = commit.with_member_id(text("member"));
            if version >= 7 { commit.with_group_instance_id(Some(text("instance"))) } else { commit }
        });
        is_exact(ApiKey::OffsetFetch, 1..=9, |version| {
            let fetch = OffsetFetchRequest::default();
            let fetch = if version >= 7 { fetch.with_require_stable(true) } else { fetch };
            if version < 8 {
                let of = OffsetFetchRequestTopic::default().with_name(topic()).with_partition_indexes(vec![1, 2]);
                return fetch.with_group_id(GroupId(text("group"))).with_topics(Some(vec![of.clone(), of]));
            }
            let of = OffsetFetchRequestTopics::default().with_name(topic()).with_partition_indexes(vec![1, 2]);
            let group = OffsetFetchRequestGroup::default().with_group_id(GroupId(text("group")));
            let group = group.with_topics(Some(vec![of]));
            let group = if version >= 9 { group.with_member_id(Some(text("m"))).with_member_epoch(1) } else { group };
            fetch.with_groups(vec![group.clone(), group])
        });
        is_exact(ApiKey::OffsetDelete, 0..=0, |_| {
            let one = OffsetDeleteRequestPartition::default().with_partition_index(3);
            let of = OffsetDeleteRequestTopic::default().with_name(topic()).with_partitions(vec![one.clone(), one]);
            OffsetDeleteRequest::default().with_group_id(GroupId(text("group"))).with_topics(vec![of])
        });
        let groups = || vec![GroupId(text("a")), GroupId(text("bc"))];
        is_exact(ApiKey::DescribeGroups, 0..=6, |_| DescribeGroupsRequest::default().with_groups(groups()));
        is_exact(ApiKey::DeleteGroups, 0..=2, |_| DeleteGroupsRequest::default().with_groups_names(groups()));
        is_exact(ApiKey::ListGroups, 0..=5, |version| {
            let list = ListGroupsRequest::default();
            let list = if version >= 4 { list.with_states_filter(vec![text("Stable")]) } else { list };
            if version >= 5 { list.with_types_filter(vec![text("classic")]) } else { list }
        });
    }
}
