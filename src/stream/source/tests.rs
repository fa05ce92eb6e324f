//! A feed in a group, against brokers that a test plays.

use super::super::spec::Elsewhere;
use super::feed::Feed;
use crate::kafka::tests::fake::{self, Asked};
use crate::record::TopicName;
use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{
    ApiKey, BrokerId, DescribeConfigsResponse, FindCoordinatorResponse, HeartbeatResponse, JoinGroupResponse,
    LeaveGroupResponse, ListOffsetsResponse, OffsetFetchResponse, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const KNOWN: [(ApiKey, i16); 10] = [
    (ApiKey::Metadata, 12),
    (ApiKey::DescribeConfigs, 4),
    (ApiKey::ListOffsets, 7),
    (ApiKey::Fetch, 12),
    (ApiKey::FindCoordinator, 3),
    (ApiKey::JoinGroup, 7),
    (ApiKey::SyncGroup, 5),
    (ApiKey::OffsetFetch, 7),
    (ApiKey::Heartbeat, 4),
    (ApiKey::LeaveGroup, 4),
];

/// Two brokers: 0 leads the only partition and hangs when it is read, 1 coordinates the group.
#[derive(Default)]
struct Brokers {
    ports: OnceLock<[u16; 2]>,
    is_read: AtomicBool,
    is_over: AtomicBool,
    heartbeats: AtomicUsize,
    leaves: AtomicUsize,
}

impl Brokers {
    fn start() -> Arc<Brokers> {
        let brokers = Arc::new(Brokers::default());
        let port = |_| {
            let own = brokers.clone();
            fake::listen(move |asked| own.answer(asked))
        };
        brokers.ports.set([0, 1].map(port)).unwrap();
        brokers
    }

    fn answer(&self, asked: &mut Asked) -> Option<BytesMut> {
        let ports = *self.ports.wait();
        match asked.api {
            ApiKey::ApiVersions => asked.with_versions(&KNOWN),
            ApiKey::Metadata => asked.with_metadata(&ports, &[0]),
            ApiKey::DescribeConfigs => {
                asked.with(&DescribeConfigsResponse::default().with_results(vec![DescribeConfigsResult::default()]))
            }
            ApiKey::ListOffsets => {
                let partition = ListOffsetsPartitionResponse::default().with_offset(0);
                let topic = ListOffsetsTopicResponse::default().with_partitions(vec![partition]);
                asked.with(&ListOffsetsResponse::default().with_topics(vec![topic]))
            }
            ApiKey::Fetch => {
                self.is_read.store(true, Ordering::Release);
                while !self.is_over.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                None
            }
            ApiKey::FindCoordinator => {
                let host = StrBytes::from_static_str("127.0.0.1");
                let told = FindCoordinatorResponse::default().with_node_id(BrokerId(1));
                asked.with(&told.with_host(host).with_port(i32::from(ports[1])))
            }
            ApiKey::JoinGroup => {
                let (me, other) = (StrBytes::from_static_str("me"), StrBytes::from_static_str("other"));
                asked.with(&JoinGroupResponse::default().with_generation_id(1).with_member_id(me).with_leader(other))
            }
            ApiKey::SyncGroup => asked.with(&SyncGroupResponse::default().with_assignment(assignment())),
            ApiKey::OffsetFetch => asked.with(&OffsetFetchResponse::default()),
            ApiKey::Heartbeat => {
                self.heartbeats.fetch_add(1, Ordering::Relaxed);
                asked.with(&HeartbeatResponse::default())
            }
            ApiKey::LeaveGroup => {
                self.leaves.fetch_add(1, Ordering::Relaxed);
                asked.with(&LeaveGroupResponse::default())
            }
            other => panic!("nobody is to ask for {other:?}"),
        }
    }
}

/// Partition 0 of "t", as [`crate::kafka::Member`] reads it.
fn assignment() -> bytes::Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(1);
    bytes.put_i16(1);
    bytes.put_slice(b"t");
    bytes.put_i32(1);
    bytes.put_i32(0);
    bytes.put_i32(-1);
    bytes.freeze()
}

#[test]
fn a_broker_that_hangs_while_it_is_read_costs_no_membership() {
    let brokers = Brokers::start();
    let cluster = fake::settings(brokers.ports.wait()[1]);
    let from = Elsewhere { cluster, group: Some("g".to_owned()) };
    let feed = Feed::open("p", &from, &TopicName::new("t").unwrap(), Arc::new(|| true)).unwrap().unwrap();
    assert!(feed.has(0) && !feed.is_called_back());
    let began = Instant::now();
    // A broker that does not answer is waited for 15 s; signs of life are due every 3 s.
    while !(brokers.is_read.load(Ordering::Acquire) && brokers.heartbeats.load(Ordering::Relaxed) >= 2) {
        assert!(began.elapsed() < Duration::from_secs(12), "the group does not hear of the member");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(feed);
    assert!(brokers.leaves.load(Ordering::Relaxed) == 1 && began.elapsed() < Duration::from_secs(14));
    brokers.is_over.store(true, Ordering::Release);
}
