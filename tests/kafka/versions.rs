//! ApiVersions, headers, and that every version that is listed is answered so that it can be read.

use crate::administration;
use crate::door::{Door, batch, fetch_request, frame, name, produce_request, text};
use inrush::record::Codec;
use kafka_protocol::messages as kp;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::Decodable;
use std::io::Write;

/// What is to be listed: the versions of a Kafka 4.1 broker, as kafka-broker-api-versions lists them, but Fetch up to 17.
const LISTED: [(ApiKey, i16, i16); 36] = [
    (ApiKey::Produce, 0, 13),
    (ApiKey::Fetch, 4, 17),
    (ApiKey::ListOffsets, 1, 10),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::OffsetCommit, 2, 9),
    (ApiKey::OffsetFetch, 1, 9),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::AlterConfigs, 0, 2),
    (ApiKey::DescribeLogDirs, 1, 4),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::ElectLeaders, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::AlterPartitionReassignments, 0, 1),
    (ApiKey::ListPartitionReassignments, 0, 0),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::DescribeClientQuotas, 0, 1),
    (ApiKey::AlterClientQuotas, 0, 1),
    (ApiKey::DescribeQuorum, 0, 2),
    (ApiKey::DescribeCluster, 0, 2),
    (ApiKey::DescribeProducers, 0, 0),
    (ApiKey::ListConfigResources, 0, 1),
    (ApiKey::DescribeTopicPartitions, 0, 0),
];

fn named() -> kp::ApiVersionsRequest {
    kp::ApiVersionsRequest::default()
        .with_client_software_name(text("a-test"))
        .with_client_software_version(text("1.0"))
}

#[test]
fn the_versions_of_a_real_broker_are_listed_and_no_feature() {
    let door = Door::open();
    let answer: kp::ApiVersionsResponse = door.client().call(ApiKey::ApiVersions, 4, &named());
    let mut listed: Vec<_> =
        answer.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
    listed.sort_unstable();
    assert_eq!(listed, LISTED.map(|(api, min, max)| (api as i16, min, max)));
    assert!(answer.supported_features.is_empty() && answer.finalized_features.is_empty());
}

#[test]
fn api_versions_of_an_unknown_version_is_answered_in_version_0_with_its_own_range() {
    let door = Door::open();
    let mut client = door.client();
    for version in [5, 99] {
        // The rest of the request is of a version that nobody here knows.
        let mut request = frame(ApiKey::ApiVersions, 3, 7, &named());
        request[6..8].copy_from_slice(&i16::to_be_bytes(version));
        client.raw(&request);
        let answer: kp::ApiVersionsResponse = client.answer(ApiKey::ApiVersions, 0, 7);
        assert_eq!(answer.error_code, 35);
        let api = &answer.api_keys[0];
        assert_eq!((answer.api_keys.len(), api.api_key, api.min_version, api.max_version), (1, 18, 0, 4));
    }
    let answer: kp::ApiVersionsResponse = client.call(ApiKey::ApiVersions, 4, &named());
    assert_eq!(answer.error_code, 0);
}

#[test]
fn the_header_of_an_api_versions_answer_is_version_0_whatever_was_asked() {
    let door = Door::open();
    let mut client = door.client();
    client.raw(&frame(ApiKey::ApiVersions, 3, 0x0102_0304, &named()));
    let answer = client.read_frame().unwrap();
    // Correlation id, error code 0, then a compact array of them all: no byte of tagged fields between.
    assert_eq!(&answer[..7], &[1, 2, 3, 4, 0, 0, LISTED.len() as u8 + 1]);
}

#[test]
fn a_software_name_out_of_form_is_an_invalid_request() {
    let door = Door::open();
    for (name, version) in [("", "1"), ("-x", "1"), ("x", ""), ("x y", "1"), ("x", "1_0")] {
        let request = kp::ApiVersionsRequest::default()
            .with_client_software_name(text(name))
            .with_client_software_version(text(version));
        let answer: kp::ApiVersionsResponse = door.client().call(ApiKey::ApiVersions, 3, &request);
        assert_eq!(answer.error_code, 42, "{name:?} {version:?}");
    }
}

#[test]
fn what_is_not_served_closes_the_connection() {
    let door = Door::open();
    let closes = |bytes: &[u8]| {
        let mut client = door.client();
        client.raw(bytes);
        assert!(client.is_closed(), "{bytes:?}");
    };
    for version in 0..3 {
        let mut request = frame(ApiKey::Produce, 3, 1, &produce_request("t", 1, batch(Codec::None, 1).bytes().clone()));
        request[6..8].copy_from_slice(&i16::to_be_bytes(version));
        closes(&request);
    }
    for key in [-1i16, 11, 68, 999] {
        let mut request = frame(ApiKey::Metadata, 1, 1, &kp::MetadataRequest::default());
        request[4..6].copy_from_slice(&key.to_be_bytes());
        closes(&request);
    }
    closes(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    closes(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0]);
}

#[test]
fn every_listed_version_is_answered_and_readable() {
    let door = Door::open();
    let id = door.topic("t", &[]);
    let mut client = door.client();
    for (api, min, max) in LISTED {
        for version in min.max(if api == ApiKey::Produce { 3 } else { 0 })..=max {
            let code: i16 = match api {
                ApiKey::Produce => {
                    let mut request = produce_request("t", -1, batch(Codec::Lz4, 3).bytes().clone());
                    if version >= 13 {
                        request.topic_data[0].name = Default::default();
                        request.topic_data[0].topic_id = id;
                    }
                    let answer: kp::ProduceResponse = client.call(api, version, &request);
                    answer.responses[0].partition_responses[0].error_code
                }
                ApiKey::Fetch => {
                    let mut request = fetch_request(&[("t", 0, 0, 1 << 20)]);
                    if version >= 13 {
                        request.topics[0].topic = Default::default();
                        request.topics[0].topic_id = id;
                    }
                    let answer: kp::FetchResponse = client.call(api, version, &request);
                    let data = &answer.responses[0].partitions[0];
                    assert!(data.records.as_ref().is_some_and(|records| !records.is_empty()), "Fetch {version}");
                    data.error_code
                }
                ApiKey::ListOffsets => {
                    let partition = kp::list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1);
                    let topic = kp::list_offsets_request::ListOffsetsTopic::default();
                    let topic = topic.with_name(name("t")).with_partitions(vec![partition]);
                    let request = kp::ListOffsetsRequest::default().with_topics(vec![topic]);
                    let answer: kp::ListOffsetsResponse = client.call(api, version, &request);
                    answer.topics[0].partitions[0].error_code
                }
                ApiKey::Metadata => {
                    let topic = kp::metadata_request::MetadataRequestTopic::default().with_name(Some(name("t")));
                    let request = kp::MetadataRequest::default().with_topics(Some(vec![topic]));
                    let answer: kp::MetadataResponse = client.call(api, version, &request);
                    answer.topics[0].error_code
                }
                ApiKey::ApiVersions => {
                    let request = if version >= 3 { named() } else { Default::default() };
                    client.call::<kp::ApiVersionsResponse>(api, version, &request).error_code
                }
                ApiKey::CreateTopics => {
                    let topic = kp::create_topics_request::CreatableTopic::default()
                        .with_name(name(&format!("made-{version}")))
                        .with_num_partitions(1)
                        .with_replication_factor(1);
                    let request = kp::CreateTopicsRequest::default().with_topics(vec![topic]);
                    client.call::<kp::CreateTopicsResponse>(api, version, &request).topics[0].error_code
                }
                ApiKey::DeleteTopics => {
                    let name = name(&format!("made-{}", version.max(2)));
                    let state = kp::delete_topics_request::DeleteTopicState::default().with_name(Some(name.clone()));
                    let request = match version {
                        6.. => kp::DeleteTopicsRequest::default().with_topics(vec![state]),
                        _ => kp::DeleteTopicsRequest::default().with_topic_names(vec![name]),
                    };
                    let code = client.call::<kp::DeleteTopicsResponse>(api, version, &request).responses[0].error_code;
                    // Version 1 has deleted the topic of version 2.
                    if version == 2 { code - 3 } else { code }
                }
                ApiKey::InitProducerId => {
                    let answer: kp::InitProducerIdResponse =
                        client.call(api, version, &kp::InitProducerIdRequest::default().with_transactional_id(None));
                    assert!(answer.producer_id.0 >= 0 && answer.producer_epoch == 0);
                    answer.error_code
                }
                ApiKey::OffsetForLeaderEpoch => {
                    let partition =
                        kp::offset_for_leader_epoch_request::OffsetForLeaderPartition::default().with_leader_epoch(0);
                    let topic = kp::offset_for_leader_epoch_request::OffsetForLeaderTopic::default();
                    let topic = topic.with_topic(name("t")).with_partitions(vec![partition]);
                    let request = kp::OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
                    client.call::<kp::OffsetForLeaderEpochResponse>(api, version, &request).topics[0].partitions[0]
                        .error_code
                }
                ApiKey::DescribeConfigs => {
                    let resource = kp::describe_configs_request::DescribeConfigsResource::default()
                        .with_resource_type(2)
                        .with_resource_name(text("t"));
                    let request = kp::DescribeConfigsRequest::default()
                        .with_resources(vec![resource])
                        .with_include_synonyms(true);
                    client.call::<kp::DescribeConfigsResponse>(api, version, &request).results[0].error_code
                }
                ApiKey::FindCoordinator => {
                    let request = match version {
                        4.. => kp::FindCoordinatorRequest::default().with_coordinator_keys(vec![text("group")]),
                        _ => kp::FindCoordinatorRequest::default().with_key(text("group")),
                    };
                    let answer: kp::FindCoordinatorResponse = client.call(api, version, &request);
                    answer.coordinators.first().map_or(answer.error_code, |one| one.error_code)
                }
                ApiKey::DescribeClientQuotas => {
                    let request = kp::DescribeClientQuotasRequest::default();
                    client.call::<kp::DescribeClientQuotasResponse>(api, version, &request).error_code
                }
                ApiKey::AlterClientQuotas => {
                    let part = kp::alter_client_quotas_request::EntityData::default().with_entity_type(text("user"));
                    let part = part.with_entity_name(None);
                    let entry = kp::alter_client_quotas_request::EntryData::default().with_entity(vec![part]);
                    let request = kp::AlterClientQuotasRequest::default().with_entries(vec![entry]);
                    client.call::<kp::AlterClientQuotasResponse>(api, version, &request).entries[0].error_code
                }
                // Each version of these is asked in groups.rs.
                ApiKey::OffsetCommit
                | ApiKey::OffsetFetch
                | ApiKey::OffsetDelete
                | ApiKey::JoinGroup
                | ApiKey::SyncGroup
                | ApiKey::Heartbeat
                | ApiKey::LeaveGroup
                | ApiKey::DescribeGroups
                | ApiKey::ListGroups
                | ApiKey::DeleteGroups => continue,
                ApiKey::DescribeCluster => {
                    let request = kp::DescribeClusterRequest::default();
                    client.call::<kp::DescribeClusterResponse>(api, version, &request).error_code
                }
                _ => administration::asked(&mut client, api, version),
            };
            assert_eq!(code, 0, "{api:?} {version}");
        }
    }
}

#[test]
fn behaviour_31_null_client_ids_and_unknown_tagged_fields_are_passed_over() {
    let door = Door::open();
    let mut client = door.client();
    // Metadata 9, header version 2: client id null (16 bits, not compact), one unknown tag; the body ends with another.
    let mut body = vec![0, 3, 0, 9, 0, 0, 0, 42, 0xff, 0xff, 1, 77, 2, 9, 9];
    body.extend_from_slice(&[0, 1, 0, 0, 1, 99, 1, 5]);
    let mut frame = (body.len() as i32).to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    client.raw(&frame);
    let answer: kp::MetadataResponse = client.answer(ApiKey::Metadata, 9, 42);
    assert_eq!(answer.brokers.len(), 1);
}

#[test]
fn behaviour_31_tagged_fields_stand_in_every_struct_and_may_be_null() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    // Metadata 9 with an unknown tag in its one topic.
    let mut body = vec![0, 3, 0, 9, 0, 0, 0, 43, 0, 1, b'x', 0];
    body.extend_from_slice(&[2, 2, b't', 1, 50, 2, 9, 9, 0, 0, 0, 0]);
    client.raw(&(body.len() as i32).to_be_bytes());
    client.raw(&body);
    let answer: kp::MetadataResponse = client.answer(ApiKey::Metadata, 9, 43);
    assert_eq!((answer.topics.len(), answer.topics[0].error_code), (1, 0));
    // Fetch 12, which ends without tags: the cluster id (tag 0) is null, and another is unknown.
    let mut fetch = frame(ApiKey::Fetch, 12, 44, &fetch_request(&[("t", 0, 0, 1 << 20)]));
    assert_eq!(fetch.pop(), Some(0));
    fetch.extend_from_slice(&[2, 0, 1, 0, 99, 1, 5]);
    let size = fetch.len() as i32 - 4;
    fetch[..4].copy_from_slice(&size.to_be_bytes());
    client.raw(&fetch);
    let answer: kp::FetchResponse = client.answer(ApiKey::Fetch, 12, 44);
    assert_eq!(answer.responses[0].partitions[0].error_code, 0);
}

#[test]
fn behaviour_33_answers_come_in_the_order_of_requests() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    let produce = produce_request("t", -1, batch(Codec::Lz4, 2).bytes().clone());
    // A fetch that waits is not overtaken by what was sent behind it on its connection.
    let mut slow = fetch_request(&[("t", 1, 0, 1 << 20)]);
    slow.max_wait_ms = 150;
    let mut all = Vec::new();
    for n in 0..20 {
        all.extend(frame(ApiKey::Produce, 9, n, &produce));
    }
    all.extend(frame(ApiKey::Fetch, 12, 20, &slow));
    all.extend(frame(ApiKey::Metadata, 9, 21, &kp::MetadataRequest::default()));
    all.extend(frame(ApiKey::Fetch, 12, 22, &fetch_request(&[("t", 0, 39, 1 << 20)])));
    client.raw(&all);
    for n in 0..20 {
        let answer: kp::ProduceResponse = client.answer(ApiKey::Produce, 9, n);
        assert_eq!(answer.responses[0].partition_responses[0].base_offset, i64::from(n) * 2);
    }
    let _: kp::FetchResponse = client.answer(ApiKey::Fetch, 12, 20);
    let _: kp::MetadataResponse = client.answer(ApiKey::Metadata, 9, 21);
    let last: kp::FetchResponse = client.answer(ApiKey::Fetch, 12, 22);
    assert_eq!(last.responses[0].partitions[0].high_watermark, 40);
}

#[test]
fn behaviour_33_a_slow_fetch_of_one_connection_holds_up_no_other() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut waits = door.client();
    let mut slow = fetch_request(&[("t", 0, 0, 1 << 20)]);
    slow.max_wait_ms = 60_000;
    let correlation = waits.send(ApiKey::Fetch, 12, &slow);
    assert_eq!(door.client().produce("t", batch(Codec::Lz4, 2).bytes().clone()).error_code, 0);
    let answer: kp::FetchResponse = waits.answer(ApiKey::Fetch, 12, correlation);
    assert!(!answer.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
}

#[test]
fn behaviour_33_acks_0_has_no_answer_and_an_error_closes() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    client.send(ApiKey::Produce, 9, &produce_request("t", 0, batch(Codec::Lz4, 2).bytes().clone()));
    // The next answer is the next request's, and what was produced is there.
    assert_eq!(client.fetch("t", 0).high_watermark, 2);
    client.send(ApiKey::Produce, 9, &produce_request("no-such-topic", 0, batch(Codec::Lz4, 2).bytes().clone()));
    assert!(client.is_closed());
}

#[test]
fn requests_may_come_in_any_pieces() {
    let door = Door::open();
    let mut client = door.client();
    let mut both = frame(ApiKey::Metadata, 9, 1, &kp::MetadataRequest::default());
    both.extend(frame(ApiKey::ApiVersions, 3, 2, &named()));
    for piece in both.chunks(3) {
        client.stream.write_all(piece).unwrap();
        client.stream.flush().unwrap();
    }
    let mut first = bytes::Bytes::from(client.read_frame().unwrap());
    kp::ResponseHeader::decode(&mut first, 1).unwrap();
    assert_eq!(kp::MetadataResponse::decode(&mut first, 9).unwrap().brokers.len(), 1);
    let second: kp::ApiVersionsResponse = client.answer(ApiKey::ApiVersions, 3, 2);
    assert_eq!(second.error_code, 0);
}
