//! Members of consumer groups through the door: how they come in, share a generation and come back. What a group then does is told by
//! `src/group/tests.rs`, on a clock that stands still.

use crate::door::{Client, Door, name, text};
use crate::groups::{beat, group, join, joined, synced};
use kafka_protocol::messages as kp;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use std::time::{Duration, Instant};

/// Loading, not available, not here.
const COORDINATOR_NOT_READY: [i16; 3] = [14, 15, 16];
const PATIENCE: Duration = Duration::from_secs(240);
const UNKNOWN_MEMBER_ID: i16 = 25;
const ILLEGAL_GENERATION: i16 = 22;
const REBALANCE_IN_PROGRESS: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;
const FENCED_INSTANCE_ID: i16 = 82;

/// State of the group and how many are in it.
fn described(client: &mut Client, id: &str) -> (String, usize) {
    let request = kp::DescribeGroupsRequest::default().with_groups(vec![group(id)]);
    let answer: kp::DescribeGroupsResponse = client.call(ApiKey::DescribeGroups, 5, &request);
    (answer.groups[0].group_state.to_string(), answer.groups[0].members.len())
}

/// The answer to a first join, once there is a coordinator: where the disk is slow, clients are told to ask again.
fn joined_at_last(client: &mut Client, version: i16, id: &str) -> kp::JoinGroupResponse {
    let began = Instant::now();
    loop {
        let answer: kp::JoinGroupResponse = client.call(ApiKey::JoinGroup, version, &join(id, "", version));
        let is_later = COORDINATOR_NOT_READY.contains(&answer.error_code);
        if !is_later || began.elapsed() > PATIENCE {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn behaviour_25_from_version_4_on_a_member_is_told_its_id_before_it_is_in() {
    let door = Door::open();
    let mut client = door.client();
    for version in 0..=9 {
        let id = format!("g{version}");
        let first = joined_at_last(&mut client, version, &id);
        assert!(!first.member_id.is_empty(), "version {version}: {first:?}");
        if version < 4 {
            assert_eq!((first.error_code, first.generation_id), (0, 1), "version {version}");
            continue;
        }
        assert_eq!((first.error_code, first.generation_id), (MEMBER_ID_REQUIRED, -1), "version {version}");
        assert_eq!(described(&mut client, &id), ("Empty".to_owned(), 0), "version {version}");
        let again: kp::JoinGroupResponse =
            client.call(ApiKey::JoinGroup, version, &join(&id, &first.member_id, version));
        assert_eq!((again.error_code, again.generation_id, again.member_id), (0, 1, first.member_id));
        let unknown: kp::JoinGroupResponse = client.call(ApiKey::JoinGroup, version, &join(&id, "nobody", version));
        assert_eq!(unknown.error_code, UNKNOWN_MEMBER_ID, "version {version}");
    }
    // A static member has a name, and is in at once.
    let named = join("static", "", 5).with_group_instance_id(Some(text("i")));
    assert_eq!(client.call::<kp::JoinGroupResponse>(ApiKey::JoinGroup, 5, &named).error_code, 0);
}

#[test]
fn behaviour_25_session_timeouts_have_kafkas_limits() {
    let limits = inrush::group::Options::default();
    assert_eq!((limits.session_ms_min, limits.session_ms_max, limits.first_wait_ms), (6_000, 1_800_000, 3_000));
    let door = Door::open();
    let mut client = door.client();
    for (session_ms, code) in [(1_800_001, 26), (1_800_000, 0), (-1, 26)] {
        let request = join(&format!("g{session_ms}"), "", 3).with_session_timeout_ms(session_ms);
        let answer: kp::JoinGroupResponse = client.call(ApiKey::JoinGroup, 3, &request);
        assert_eq!(answer.error_code, code, "{session_ms} ms");
    }
}

#[test]
fn behaviour_25_sync_always_carries_an_assignment_even_for_who_gets_nothing() {
    let door = Door::open();
    let mut client = door.client();
    let member = joined(&mut client, "g", 5);
    let request = kp::SyncGroupRequest::default()
        .with_group_id(group("g"))
        .with_generation_id(1)
        .with_member_id(member.member_id.clone());
    for version in 0..=5 {
        let sync: kp::SyncGroupResponse = client.call(ApiKey::SyncGroup, version, &request);
        assert_eq!((sync.error_code, sync.assignment.len()), (0, 0));
    }
}

#[test]
fn behaviour_25_members_that_come_at_once_end_in_one_generation_and_none_becomes_unknown() {
    const MEMBERS: usize = 8;
    let door = Door::open();
    let generations = std::thread::scope(|scope| {
        let come = || {
            let mut client = door.client();
            let mut member = joined(&mut client, "g", 9);
            let until = Instant::now() + Duration::from_secs(60);
            loop {
                assert!(Instant::now() < until, "they never came to rest");
                let mut code = member.error_code;
                if code == 0 {
                    code = synced(&mut client, "g", &member, 5).error_code;
                }
                if code == 0 {
                    code = beat(&mut client, "g", &member, 4);
                }
                match code {
                    0 if described(&mut client, "g") == ("Stable".to_owned(), MEMBERS) => return member.generation_id,
                    0 => std::thread::park_timeout(Duration::from_millis(5)),
                    REBALANCE_IN_PROGRESS | ILLEGAL_GENERATION => {
                        let again = join("g", &member.member_id, 9);
                        let id = member.member_id.clone();
                        member = client.call(ApiKey::JoinGroup, 9, &again);
                        assert_eq!(member.member_id, id);
                    }
                    code => panic!("code {code}"),
                }
            }
        };
        let coming: Vec<_> = (0..MEMBERS).map(|_| scope.spawn(come)).collect();
        coming.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(generations.iter().all(|one| *one == generations[0]), "{generations:?}");
}

#[test]
fn behaviour_26_who_comes_back_under_its_name_is_the_same_and_whom_it_replaced_is_fenced_whatever_it_asks() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    let named = |member: &str| join("g", member, 9).with_group_instance_id(Some(text("i")));
    let old: kp::JoinGroupResponse = client.call(ApiKey::JoinGroup, 9, &named(""));
    assert_eq!(synced(&mut client, "g", &old, 5).error_code, 0);
    let new: kp::JoinGroupResponse = client.call(ApiKey::JoinGroup, 9, &named(""));
    assert_eq!((new.error_code, new.generation_id), (0, old.generation_id), "nobody shares out anew");
    assert_ne!(new.member_id, old.member_id);
    assert_eq!(described(&mut client, "g"), ("Stable".to_owned(), 1));
    assert_eq!(&synced(&mut client, "g", &new, 5).assignment[..], b"part");
    for (id, code) in [(&old.member_id, FENCED_INSTANCE_ID), (&new.member_id, 0)] {
        let beat = kp::HeartbeatRequest::default()
            .with_group_id(group("g"))
            .with_generation_id(1)
            .with_member_id(id.clone())
            .with_group_instance_id(Some(text("i")));
        assert_eq!(client.call::<kp::HeartbeatResponse>(ApiKey::Heartbeat, 4, &beat).error_code, code);
        let sync = kp::SyncGroupRequest::default()
            .with_group_id(group("g"))
            .with_generation_id(1)
            .with_member_id(id.clone())
            .with_group_instance_id(Some(text("i")));
        assert_eq!(client.call::<kp::SyncGroupResponse>(ApiKey::SyncGroup, 4, &sync).error_code, code);
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(7);
        let topic = OffsetCommitRequestTopic::default().with_name(name("t")).with_partitions(vec![partition]);
        let commit = kp::OffsetCommitRequest::default()
            .with_group_id(group("g"))
            .with_generation_id_or_member_epoch(1)
            .with_member_id(id.clone())
            .with_group_instance_id(Some(text("i")))
            .with_topics(vec![topic]);
        let answer: kp::OffsetCommitResponse = client.call(ApiKey::OffsetCommit, 7, &commit);
        assert_eq!(answer.topics[0].partitions[0].error_code, code);
        let one = MemberIdentity::default().with_member_id(id.clone()).with_group_instance_id(Some(text("i")));
        let leave = kp::LeaveGroupRequest::default().with_group_id(group("g")).with_members(vec![one]);
        let answer: kp::LeaveGroupResponse = client.call(ApiKey::LeaveGroup, 5, &leave);
        assert_eq!(answer.members[0].error_code, code);
    }
    assert_eq!(described(&mut client, "g"), ("Empty".to_owned(), 0), "the one that is known left");
    let rejoined: kp::JoinGroupResponse = client.call(ApiKey::JoinGroup, 9, &named(&old.member_id));
    assert_eq!(rejoined.error_code, UNKNOWN_MEMBER_ID, "the name is nobody's now");
}
