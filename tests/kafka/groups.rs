//! Consumer groups through the door: every version, their offsets, and what a restart knows. Who is in and who is not: `members`.

use crate::door::{Client, Door, name, text};
use bytes::Bytes;
use inrush::control::{PipelineStatus, State};
use kafka_protocol::messages as kp;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::protocol::Decodable;

pub fn group(id: &str) -> kp::GroupId {
    kp::GroupId(text(id))
}

pub fn join(id: &str, member: &str, version: i16) -> kp::JoinGroupRequest {
    let metadata = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff");
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(metadata);
    kp::JoinGroupRequest::default()
        .with_group_id(group(id))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(if version > 0 { 60_000 } else { -1 })
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

/// Joins as a client does: with the id that it was told, if it was.
pub fn joined(client: &mut Client, id: &str, version: i16) -> kp::JoinGroupResponse {
    let answer: kp::JoinGroupResponse = client.call(ApiKey::JoinGroup, version, &join(id, "", version));
    match answer.error_code {
        79 if version >= 4 => client.call(ApiKey::JoinGroup, version, &join(id, &answer.member_id, version)),
        _ => answer,
    }
}

pub fn synced(client: &mut Client, id: &str, member: &kp::JoinGroupResponse, version: i16) -> kp::SyncGroupResponse {
    let part = SyncGroupRequestAssignment::default()
        .with_member_id(member.member_id.clone())
        .with_assignment(Bytes::from_static(b"part"));
    let mut request = kp::SyncGroupRequest::default()
        .with_group_id(group(id))
        .with_generation_id(member.generation_id)
        .with_member_id(member.member_id.clone())
        .with_assignments(vec![part]);
    if version >= 5 {
        request = request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")));
    }
    client.call(ApiKey::SyncGroup, version, &request)
}

pub fn beat(client: &mut Client, id: &str, member: &kp::JoinGroupResponse, version: i16) -> i16 {
    let request = kp::HeartbeatRequest::default()
        .with_group_id(group(id))
        .with_generation_id(member.generation_id)
        .with_member_id(member.member_id.clone());
    client.call::<kp::HeartbeatResponse>(ApiKey::Heartbeat, version, &request).error_code
}

fn commit(client: &mut Client, id: &str, offsets: &[(&str, i32, i64, &str)], version: i16) -> Vec<i16> {
    commit_as(client, id, None, offsets, version)
}

fn commit_as(
    client: &mut Client,
    id: &str,
    member: Option<&kp::JoinGroupResponse>,
    offsets: &[(&str, i32, i64, &str)],
    version: i16,
) -> Vec<i16> {
    let topic = |(topic, partition, offset, metadata): &(&str, i32, i64, &str)| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(if version >= 6 { 4 } else { -1 })
            .with_committed_metadata(Some(text(metadata)));
        OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition])
    };
    let request = kp::OffsetCommitRequest::default()
        .with_group_id(group(id))
        .with_generation_id_or_member_epoch(member.map_or(-1, |member| member.generation_id))
        .with_member_id(member.map(|member| member.member_id.clone()).unwrap_or_default())
        .with_topics(offsets.iter().map(topic).collect());
    let answer: kp::OffsetCommitResponse = client.call(ApiKey::OffsetCommit, version, &request);
    answer.topics.iter().flat_map(|topic| topic.partitions.iter().map(|one| one.error_code)).collect()
}

/// Offset, leader epoch and metadata of partition 0 and 1 of a topic.
fn fetched(client: &mut Client, id: &str, topic: &str, version: i16) -> Vec<(i64, i32, String)> {
    let ids = vec![0, 1];
    if version >= 8 {
        let topics = OffsetFetchRequestTopics::default().with_name(name(topic)).with_partition_indexes(ids);
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(group(id))
            .with_member_epoch(-1)
            .with_topics(Some(vec![topics]));
        let request = kp::OffsetFetchRequest::default().with_groups(vec![asked]);
        let answer: kp::OffsetFetchResponse = client.call(ApiKey::OffsetFetch, version, &request);
        assert_eq!((answer.groups[0].error_code, &answer.groups[0].group_id), (0, &group(id)));
        let partitions = answer.groups[0].topics[0].partitions.iter();
        return partitions
            .map(|one| {
                let metadata = one.metadata.as_deref().unwrap_or_default().to_owned();
                (one.committed_offset, one.committed_leader_epoch, metadata)
            })
            .collect();
    }
    let topics = OffsetFetchRequestTopic::default().with_name(name(topic)).with_partition_indexes(ids);
    let request = kp::OffsetFetchRequest::default().with_group_id(group(id)).with_topics(Some(vec![topics]));
    let answer: kp::OffsetFetchResponse = client.call(ApiKey::OffsetFetch, version, &request);
    assert_eq!(answer.error_code, 0);
    let partitions = answer.topics[0].partitions.iter();
    partitions
        .map(|one| {
            let metadata = one.metadata.as_deref().unwrap_or_default().to_owned();
            (one.committed_offset, one.committed_leader_epoch, metadata)
        })
        .collect()
}

/// Waits until the groups are read after a start.
fn until_read(client: &mut Client) {
    let request = kp::ListGroupsRequest::default();
    while client.call::<kp::ListGroupsResponse>(ApiKey::ListGroups, 5, &request).error_code == 14 {}
}

fn state(client: &mut Client, id: &str) -> String {
    let request = kp::DescribeGroupsRequest::default().with_groups(vec![group(id)]);
    let answer: kp::DescribeGroupsResponse = client.call(ApiKey::DescribeGroups, 5, &request);
    answer.groups[0].group_state.to_string()
}

#[test]
fn a_coordinator_is_found_in_every_version() {
    let door = Door::open();
    let mut client = door.client();
    for version in 0..=3 {
        let request = kp::FindCoordinatorRequest::default().with_key(text("g"));
        let found: kp::FindCoordinatorResponse = client.call(ApiKey::FindCoordinator, version, &request);
        assert_eq!((found.error_code, found.node_id.0, found.port), (0, 1, i32::from(door.address.port())));
    }
    for version in 4..=6 {
        let request = kp::FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g"), text("h")]);
        let found: kp::FindCoordinatorResponse = client.call(ApiKey::FindCoordinator, version, &request);
        assert_eq!((found.coordinators.len(), &*found.coordinators[1].key), (2, "h"));
        assert_eq!(found.coordinators[0].error_code, 0);
        let of_transactions = request.clone().with_key_type(1);
        let found: kp::FindCoordinatorResponse = client.call(ApiKey::FindCoordinator, version, &of_transactions);
        assert_eq!((found.coordinators[0].error_code, found.coordinators[0].node_id.0), (53, -1));
    }
}

#[test]
fn a_member_lives_through_every_version() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    for version in 0..=9 {
        let id = format!("g{version}");
        let member = joined(&mut client, &id, version);
        assert_eq!((member.error_code, member.generation_id, &member.leader), (0, 1, &member.member_id));
        assert_eq!((member.members.len(), member.protocol_name.as_deref()), (1, Some("range")));
        assert_eq!(member.protocol_type.as_deref(), if version >= 7 { Some("consumer") } else { None });
        let sync = synced(&mut client, &id, &member, version.min(5));
        assert_eq!((sync.error_code, &sync.assignment[..]), (0, &b"part"[..]));
        assert_eq!(beat(&mut client, &id, &member, version.min(4)), 0);
        let codes = commit_as(&mut client, &id, Some(&member), &[("t", 0, 5, "words")], version.clamp(2, 9));
        assert_eq!(codes, [0]);
        let leave = match version {
            0..=2 => {
                kp::LeaveGroupRequest::default().with_group_id(group(&id)).with_member_id(member.member_id.clone())
            }
            _ => {
                let one = MemberIdentity::default().with_member_id(member.member_id.clone());
                kp::LeaveGroupRequest::default().with_group_id(group(&id)).with_members(vec![one.clone(), one])
            }
        };
        let left: kp::LeaveGroupResponse = client.call(ApiKey::LeaveGroup, version.min(5), &leave);
        let codes: Vec<i16> = left.members.iter().map(|member| member.error_code).collect();
        assert_eq!((left.error_code, codes), (0, if version >= 3 { vec![0, 25] } else { vec![] }));
        assert_eq!(beat(&mut client, &id, &member, version.min(4)), 25);
        assert_eq!(state(&mut client, &id), "Empty");
    }
}

#[test]
fn behaviour_07_offsets_come_back_as_they_were_committed_in_every_version() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    for version in 2..=9 {
        let id = format!("g{version}");
        assert_eq!(commit(&mut client, &id, &[("t", 0, 70 + i64::from(version), "mine")], version), [0]);
        for fetch in 1..=9 {
            let epoch = if version >= 6 && fetch >= 5 { 4 } else { -1 };
            let expected = [(70 + i64::from(version), epoch, "mine".to_owned()), (-1, -1, String::new())];
            assert_eq!(fetched(&mut client, &id, "t", fetch), expected, "{version}, {fetch}");
        }
        // All of them.
        let all = kp::OffsetFetchRequest::default().with_group_id(group(&id)).with_topics(None);
        let answer: kp::OffsetFetchResponse = client.call(ApiKey::OffsetFetch, 5, &all);
        assert_eq!((answer.topics.len(), answer.topics[0].partitions.len()), (1, 1));
    }
    assert_eq!(fetched(&mut client, "nobody", "t", 9)[0].0, -1);
}

#[test]
fn behaviour_28_words_that_are_too_long_and_what_else_is_refused_of_a_commit_by_partition() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    // Counted as Java counts.
    let (long, longest) = ("x".repeat(4_097), "ä".repeat(4_096));
    let asked = [("t", 0, 1, long.as_str()), ("t", 1, 2, longest.as_str()), ("t", 9, 1, ""), ("none", 0, 1, "")];
    assert_eq!(commit(&mut client, "g", &asked, 9), [12, 0, 3, 3]);
    assert_eq!(fetched(&mut client, "g", "t", 9)[1].2, longest);
    // A group with members takes offsets of its members alone.
    let member = joined(&mut client, "g", 5);
    synced(&mut client, "g", &member, 5);
    assert_eq!(commit(&mut client, "g", &asked, 9), [25, 25, 3, 3]);
    let old = member.clone().with_generation_id(7);
    assert_eq!(commit_as(&mut client, "g", Some(&old), &[("t", 0, 1, "")], 9), [22]);
    assert_eq!(commit_as(&mut client, "other", Some(&old), &[("t", 0, 1, "")], 9), [69]);
    assert_eq!(commit_as(&mut client, "other", Some(&old), &[("t", 0, 1, "")], 8), [22]);
}

#[test]
fn groups_and_offsets_are_there_after_kill_9() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    let member = joined(&mut client, "g", 5);
    synced(&mut client, "g", &member, 5);
    assert_eq!(commit_as(&mut client, "g", Some(&member), &[("t", 0, 42, "words")], 9), [0]);
    let door = door.kill();
    let mut client = door.client();
    until_read(&mut client);
    assert_eq!(beat(&mut client, "g", &member, 4), 0, "the member lives on in its generation");
    assert_eq!(&synced(&mut client, "g", &member, 5).assignment[..], b"part");
    assert_eq!(fetched(&mut client, "g", "t", 9)[0], (42, 4, "words".to_owned()));
    // Twice, since the second restart reads what the first wrote.
    assert_eq!(commit_as(&mut client, "g", Some(&member), &[("t", 1, 43, "")], 9), [0]);
    let door = door.restart();
    let mut client = door.client();
    until_read(&mut client);
    let offsets: Vec<i64> = fetched(&mut client, "g", "t", 9).iter().map(|one| one.0).collect();
    assert_eq!(offsets, [42, 43]);
}

#[test]
fn a_topic_that_is_made_anew_begins_without_offsets() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    assert_eq!(commit(&mut client, "g", &[("t", 0, 42, "")], 9), [0]);
    let topic = door.store.topic("t").unwrap();
    door.wait(door.store.delete_topic(&topic.name)).unwrap();
    assert_eq!(fetched(&mut client, "g", "t", 9)[0].0, -1);
    door.topic("t", &[]);
    assert_eq!(fetched(&mut client, "g", "t", 9)[0].0, -1);
    assert_eq!(commit(&mut client, "g", &[("t", 0, 1, "")], 9), [0]);
    assert_eq!(fetched(&mut client, "g", "t", 9)[0].0, 1);
}

#[test]
fn tools_see_groups_and_delete_what_nobody_uses() {
    let door = Door::open();
    door.topic("t", &[]);
    door.topic("u", &[]);
    let mut client = door.client();
    commit(&mut client, "alone", &[("t", 0, 1, ""), ("u", 0, 1, "")], 9);
    let member = joined(&mut client, "g", 5);
    synced(&mut client, "g", &member, 5);
    assert_eq!(commit_as(&mut client, "g", Some(&member), &[("t", 0, 1, ""), ("u", 0, 1, "")], 9), [0, 0]);
    for version in 0..=5 {
        let listed: kp::ListGroupsResponse =
            client.call(ApiKey::ListGroups, version, &kp::ListGroupsRequest::default());
        let groups: Vec<_> = listed.groups.iter().map(|one| (&*one.group_id.0, &*one.protocol_type)).collect();
        assert_eq!((listed.error_code, groups), (0, vec![("alone", ""), ("g", "consumer")]));
    }
    let by_state = kp::ListGroupsRequest::default().with_states_filter(vec![text("stable")]);
    let listed: kp::ListGroupsResponse = client.call(ApiKey::ListGroups, 5, &by_state);
    assert_eq!(
        (listed.groups.len(), &*listed.groups[0].group_state, &*listed.groups[0].group_type),
        (1, "Stable", "classic")
    );
    let by_type = kp::ListGroupsRequest::default().with_types_filter(vec![text("consumer")]);
    assert!(client.call::<kp::ListGroupsResponse>(ApiKey::ListGroups, 5, &by_type).groups.is_empty());

    for version in 0..=6 {
        let request = kp::DescribeGroupsRequest::default().with_groups(vec![group("g"), group("none"), group("g")]);
        let answer: kp::DescribeGroupsResponse = client.call(ApiKey::DescribeGroups, version, &request);
        let (found, none) = (&answer.groups[0], &answer.groups[1]);
        assert_eq!((answer.groups.len(), &*found.group_state, &*found.protocol_data), (2, "Stable", "range"));
        let shown = &found.members[0];
        assert_eq!((&shown.member_id, &*shown.client_host), (&member.member_id, "/127.0.0.1"));
        assert_eq!((&shown.member_assignment[..], &shown.member_metadata[4..6]), (&b"part"[..], &b"\0\x01"[..]));
        assert_eq!((none.error_code, &*none.group_state), (if version >= 6 { 69 } else { 0 }, "Dead"));
    }

    let forget = |client: &mut Client, id: &str| {
        let one = OffsetDeleteRequestPartition::default().with_partition_index(0);
        let of =
            |topic: &str| OffsetDeleteRequestTopic::default().with_name(name(topic)).with_partitions(vec![one.clone()]);
        let request =
            kp::OffsetDeleteRequest::default().with_group_id(group(id)).with_topics(vec![of("t"), of("none"), of("u")]);
        let answer: kp::OffsetDeleteResponse = client.call(ApiKey::OffsetDelete, 0, &request);
        let codes: Vec<i16> = answer.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
        (answer.error_code, codes)
    };
    assert_eq!(forget(&mut client, "g"), (0, vec![86, 3, 0]));
    assert_eq!(forget(&mut client, "nobody"), (69, vec![]));
    for version in 0..=2 {
        commit(&mut client, "alone", &[("t", 0, 1, "")], 9);
        let request =
            kp::DeleteGroupsRequest::default().with_groups_names(vec![group("alone"), group("g"), group("none")]);
        let answer: kp::DeleteGroupsResponse = client.call(ApiKey::DeleteGroups, version, &request);
        let codes: Vec<i16> = answer.results.iter().map(|one| one.error_code).collect();
        assert_eq!(codes, [0, 68, 69]);
    }
}

/// One reads a topic of this log, and has windows, whose place is no partition; the other reads a cluster elsewhere.
#[test]
fn tools_see_where_pipelines_are() {
    let mut control = None;
    let door = Door::with(|door| control = Some(door.control.clone()));
    let (control, mut client) = (control.unwrap(), door.client());
    door.topic("t", &[]);
    for (named, source) in [("here", "topic:t"), ("there", "kafka:t at example:9092")] {
        let committed = std::collections::BTreeMap::from([(-1, 3), (0, 5)]);
        let (name, source) = (named.to_owned(), source.to_owned());
        control.publish(PipelineStatus { name, source, state: State::Running, committed, ..PipelineStatus::default() });
    }
    for version in 1..=9 {
        let found = fetched(&mut client, "pipeline:here", "t", version);
        assert_eq!(found, [(5, -1, String::new()), (-1, -1, String::new())], "version {version}");
    }
    let all = |client: &mut Client, id: &str| {
        let asked = OffsetFetchRequestGroup::default().with_group_id(group(id)).with_member_epoch(-1).with_topics(None);
        let request = kp::OffsetFetchRequest::default().with_groups(vec![asked]);
        let answer: kp::OffsetFetchResponse = client.call(ApiKey::OffsetFetch, 9, &request);
        let of = |topic: &kp::offset_fetch_response::OffsetFetchResponseTopics| {
            topic
                .partitions
                .iter()
                .map(|one| (topic.name.to_string(), one.partition_index, one.committed_offset))
                .collect()
        };
        answer.groups[0].topics.iter().flat_map(|topic| -> Vec<(String, i32, i64)> { of(topic) }).collect::<Vec<_>>()
    };
    assert_eq!(all(&mut client, "pipeline:here"), [("t".to_owned(), 0, 5)]);
    assert_eq!(all(&mut client, "pipeline:there"), []);
    let request =
        kp::DescribeGroupsRequest::default().with_groups(vec![group("pipeline:here"), group("pipeline:there")]);
    let told: kp::DescribeGroupsResponse = client.call(ApiKey::DescribeGroups, 5, &request);
    let reads = |at: usize| {
        let mut bytes = told.groups[at].members[0].member_assignment.slice(2..);
        let read = kp::ConsumerProtocolAssignment::decode(&mut bytes, 0).unwrap().assigned_partitions;
        read.into_iter().map(|one| (one.topic.to_string(), one.partitions)).collect::<Vec<_>>()
    };
    assert_eq!((reads(0), reads(1)), (vec![("t".to_owned(), vec![0, 1])], vec![]));
}

#[test]
fn what_is_asked_again_and_again_is_answered_once() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    commit(&mut client, "g", &[("t", 0, 1, &"x".repeat(4_000))], 9);
    let topic = OffsetFetchRequestTopics::default().with_name(name("t")).with_partition_indexes(vec![0; 10_000]);
    let of =
        |topics| OffsetFetchRequestGroup::default().with_group_id(group("g")).with_member_epoch(-1).with_topics(topics);
    let request =
        kp::OffsetFetchRequest::default().with_groups(vec![of(Some(vec![topic.clone(), topic])), of(None), of(None)]);
    let answer: kp::OffsetFetchResponse = client.call(ApiKey::OffsetFetch, 9, &request);
    let partitions: usize = answer.groups[0].topics.iter().map(|topic| topic.partitions.len()).sum();
    assert_eq!((answer.groups.len(), partitions), (1, 1));
    let topic = OffsetFetchRequestTopic::default().with_name(name("t")).with_partition_indexes(vec![0; 10_000]);
    let request = kp::OffsetFetchRequest::default().with_group_id(group("g")).with_topics(Some(vec![topic]));
    let answer: kp::OffsetFetchResponse = client.call(ApiKey::OffsetFetch, 7, &request);
    assert_eq!(answer.topics[0].partitions.len(), 1);
}

#[test]
fn a_topic_that_is_asked_without_partitions_is_answered_so() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    commit(&mut client, "g", &[("t", 0, 1, "")], 9);
    let asked = [("bare", vec![]), ("t", vec![1, 0]), ("t", vec![0]), ("u", vec![])];
    for version in 1..=9 {
        let told: Vec<(String, Vec<i64>)> = if version >= 8 {
            let topic = |(topic, ids): &(&str, Vec<i32>)| {
                OffsetFetchRequestTopics::default().with_name(name(topic)).with_partition_indexes(ids.clone())
            };
            let group = OffsetFetchRequestGroup::default().with_group_id(group("g")).with_member_epoch(-1);
            let group = group.with_topics(Some(asked.iter().map(topic).collect()));
            let request = kp::OffsetFetchRequest::default().with_groups(vec![group]);
            let answer: kp::OffsetFetchResponse = client.call(ApiKey::OffsetFetch, version, &request);
            let of = |topic: &kp::offset_fetch_response::OffsetFetchResponseTopics| {
                (topic.name.to_string(), topic.partitions.iter().map(|one| one.committed_offset).collect())
            };
            answer.groups[0].topics.iter().map(of).collect()
        } else {
            let topic = |(topic, ids): &(&str, Vec<i32>)| {
                OffsetFetchRequestTopic::default().with_name(name(topic)).with_partition_indexes(ids.clone())
            };
            let request = kp::OffsetFetchRequest::default().with_group_id(group("g"));
            let request = request.with_topics(Some(asked.iter().map(topic).collect()));
            let answer: kp::OffsetFetchResponse = client.call(ApiKey::OffsetFetch, version, &request);
            let of = |topic: &kp::offset_fetch_response::OffsetFetchResponseTopic| {
                (topic.name.to_string(), topic.partitions.iter().map(|one| one.committed_offset).collect())
            };
            answer.topics.iter().map(of).collect()
        };
        let expected = [("bare", vec![]), ("t", vec![-1, 1]), ("u", vec![])];
        let expected: Vec<_> = expected.into_iter().map(|(topic, offsets)| (topic.to_owned(), offsets)).collect();
        assert_eq!(told, expected, "version {version}");
    }
}

#[test]
fn who_hangs_up_while_it_waits_leaves_the_door_well() {
    let door = Door::open();
    let mut waiting = door.client();
    waiting.send(ApiKey::JoinGroup, 3, &join("g", "", 3));
    drop(waiting);
    let mut client = door.client();
    let member = joined(&mut client, "g", 5);
    // The one that left is dropped when it does not ask for its part, or was never in.
    assert!(member.error_code == 0 && member.generation_id >= 1);
    door.wait_until_free();
}

#[test]
fn the_topic_of_the_groups_is_theirs_alone() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    commit(&mut client, "g", &[("t", 0, 1, "")], 9);
    let all: kp::MetadataResponse =
        client.call(ApiKey::Metadata, 12, &kp::MetadataRequest::default().with_topics(None));
    let internal: Vec<_> =
        all.topics.iter().map(|topic| (topic.name.as_ref().unwrap().as_str(), topic.is_internal)).collect();
    assert_eq!(internal, [("__consumer_offsets", true), ("t", false)]);
    let batch = crate::door::batch(inrush::record::Codec::None, 1);
    assert_eq!(client.produce("__consumer_offsets", batch.bytes().clone()).error_code, 17);
    let topic = kp::create_topics_request::CreatableTopic::default().with_name(name("__consumer_offsets"));
    let create =
        kp::CreateTopicsRequest::default().with_topics(vec![topic.with_num_partitions(3).with_replication_factor(1)]);
    let answer: kp::CreateTopicsResponse = client.call(ApiKey::CreateTopics, 7, &create);
    assert_eq!(answer.topics[0].error_code, 17);
    let delete = kp::DeleteTopicsRequest::default().with_topic_names(vec![name("__consumer_offsets")]);
    let answer: kp::DeleteTopicsResponse = client.call(ApiKey::DeleteTopics, 5, &delete);
    assert_eq!(answer.responses[0].error_code, 17);
}
