//! Metadata, CreateTopics, DeleteTopics, DescribeConfigs, DescribeCluster.

use crate::door::{Client, Door, batch, name, text};
use inrush::record::Codec;
use kafka_protocol::messages as kp;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use std::collections::BTreeMap;
use uuid::Uuid;

fn asked(names: &[&str], may_create: bool) -> kp::MetadataRequest {
    let topics = names.iter().map(|topic| MetadataRequestTopic::default().with_name(Some(name(topic))));
    kp::MetadataRequest::default().with_topics(Some(topics.collect())).with_allow_auto_topic_creation(may_create)
}

fn metadata(client: &mut Client, version: i16, request: &kp::MetadataRequest) -> kp::MetadataResponse {
    client.call(ApiKey::Metadata, version, request)
}

fn codes(answer: &kp::MetadataResponse) -> Vec<i16> {
    answer.topics.iter().map(|topic| topic.error_code).collect()
}

#[test]
fn behaviour_29_a_topic_is_made_by_asking_for_it_and_takes_records_at_once() {
    let door = Door::open();
    let mut client = door.client();
    let answer = metadata(&mut client, 5, &asked(&["new"], true));
    assert_eq!((codes(&answer), answer.topics[0].partitions.len()), (vec![0], 4));
    assert!(answer.topics[0].partitions.iter().all(|one| one.leader_id.0 == 1 && one.isr_nodes == [kp::BrokerId(1)]));
    assert_eq!(client.produce("new", batch(Codec::Lz4, 1).bytes().clone()).error_code, 0);
    // Before version 4 there was no saying no.
    assert_eq!(codes(&metadata(&mut client, 1, &asked(&["old"], true))), [0]);
    assert_eq!(codes(&metadata(&mut client, 4, &asked(&["not-now"], false))), [3]);
    let long = "x".repeat(250);
    for bad in ["a/b", "..", "ä", long.as_str(), ""] {
        assert_eq!(codes(&metadata(&mut client, 5, &asked(&[bad], true))), [17], "{bad:?}");
    }
    let names: Vec<String> = door.store.topics().iter().map(|topic| topic.name.to_string()).collect();
    assert_eq!(names, ["new", "old"]);
}

#[test]
fn behaviour_29_a_topic_that_many_ask_for_at_once_is_made_once_and_all_are_told_of_it() {
    let door = Door::open();
    let ids = std::thread::scope(|scope| {
        let ask = || {
            let answer = metadata(&mut door.client(), 12, &asked(&["new"], true));
            (codes(&answer), answer.topics[0].topic_id, answer.topics[0].partitions.len())
        };
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect::<Vec<_>>()
    });
    let id = door.store.topic("new").unwrap().id;
    assert_eq!(ids, vec![(vec![0], id, 4); 8]);
}

#[test]
fn behaviour_29_a_door_for_others_makes_none() {
    let door = Door::with(|door| door.auto_create = false);
    assert_eq!(codes(&metadata(&mut door.client(), 9, &asked(&["new"], true))), [3]);
    assert!(door.store.topics().is_empty());
}

#[test]
fn what_may_be_done_is_told_where_it_is_asked_of_names_without_a_topic_too() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    let all = (3..=8).chain([10, 11]).map(|bit| 1 << bit).sum();
    for version in 8..=13 {
        let request = asked(&["t", "none", "a/b"], false);
        for (is_asked, told) in [(true, all), (false, i32::MIN)] {
            let request = request.clone().with_include_topic_authorized_operations(is_asked);
            let answer = metadata(&mut client, version, &request);
            let operations: Vec<i32> = answer.topics.iter().map(|topic| topic.topic_authorized_operations).collect();
            assert_eq!((codes(&answer), operations), (vec![0, 3, 17], vec![told; 3]), "version {version}");
        }
    }
}

#[test]
fn all_topics_are_asked_for_by_null_and_none_by_an_empty_list() {
    let door = Door::open();
    door.topic("a", &[]);
    door.topic("b", &[]);
    let mut client = door.client();
    let empty = kp::MetadataRequest::default().with_topics(Some(Vec::new()));
    let null = kp::MetadataRequest::default().with_topics(None);
    assert_eq!(metadata(&mut client, 0, &empty).topics.len(), 2, "version 0 has no null");
    assert_eq!(metadata(&mut client, 1, &empty).topics.len(), 0);
    assert_eq!(metadata(&mut client, 1, &null).topics.len(), 2);
    let answer = metadata(&mut client, 12, &null);
    assert_eq!((answer.topics.len(), answer.controller_id.0, answer.brokers.len()), (2, 1, 1));
    assert_eq!(answer.cluster_id.unwrap().to_string(), door.store.cluster_id().to_string());
    let broker = &answer.brokers[0];
    assert_eq!((broker.host.to_string(), broker.port as u16), ("127.0.0.1".to_owned(), door.address.port()));
    let repeated = metadata(&mut client, 9, &asked(&["a", "a", "a"], false));
    assert_eq!(repeated.topics.len(), 1, "an answer would grow without end");
}

#[test]
fn behaviour_37_clients_are_told_the_address_that_was_configured() {
    let door = Door::with(|door| door.advertised = ("events.example".to_owned(), 19_092));
    assert_eq!(addresses(&door), vec![("events.example".to_owned(), 19_092); 4]);
}

#[test]
fn behaviour_37_clients_are_told_the_address_that_they_came_to_if_none_was_configured() {
    let door = Door::open();
    assert_eq!(addresses(&door), vec![("127.0.0.1".to_owned(), i32::from(door.address.port())); 4]);
}

/// Where each of the requests that tell it sends a client.
fn addresses(door: &Door) -> Vec<(String, i32)> {
    let mut client = door.client();
    let metadata = metadata(&mut client, 9, &asked(&[], false));
    let request = kp::DescribeClusterRequest::default();
    let cluster: kp::DescribeClusterResponse = client.call(ApiKey::DescribeCluster, 0, &request);
    let request = kp::FindCoordinatorRequest::default().with_key(text("group"));
    let one: kp::FindCoordinatorResponse = client.call(ApiKey::FindCoordinator, 3, &request);
    let request = kp::FindCoordinatorRequest::default().with_coordinator_keys(vec![text("group")]);
    let many: kp::FindCoordinatorResponse = client.call(ApiKey::FindCoordinator, 4, &request);
    vec![
        (metadata.brokers[0].host.to_string(), metadata.brokers[0].port),
        (cluster.brokers[0].host.to_string(), cluster.brokers[0].port),
        (one.host.to_string(), one.port),
        (many.coordinators[0].host.to_string(), many.coordinators[0].port),
    ]
}

#[test]
fn behaviour_32_topic_ids_are_told_and_stay_over_a_restart() {
    let door = Door::open();
    let id = door.topic("t", &[]);
    assert!(!id.is_nil());
    let door = door.restart().kill();
    let mut client = door.client();
    for version in 10..=13 {
        let by_name = metadata(&mut client, version, &asked(&["t"], false));
        assert_eq!(by_name.topics[0].topic_id, id, "version {version}");
        let of_all = metadata(&mut client, version, &kp::MetadataRequest::default().with_topics(None));
        assert_eq!(of_all.topics[0].topic_id, id, "version {version}");
    }
    let by_id = |id| {
        let topic = MetadataRequestTopic::default().with_topic_id(id).with_name(None);
        kp::MetadataRequest::default().with_topics(Some(vec![topic]))
    };
    let known = metadata(&mut client, 12, &by_id(id));
    assert_eq!(known.topics[0].name.as_ref().unwrap().to_string(), "t");
    let unknown = metadata(&mut client, 12, &by_id(Uuid::from_u128(5)));
    assert_eq!((codes(&unknown), unknown.topics[0].topic_id), (vec![100], Uuid::from_u128(5)));
}

fn new(topic: &str, partitions: i32) -> CreatableTopic {
    CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions).with_replication_factor(-1)
}

fn create(client: &mut Client, topics: Vec<CreatableTopic>, only_check: bool) -> Vec<CreatableTopicResult> {
    let request = kp::CreateTopicsRequest::default().with_topics(topics).with_validate_only(only_check);
    client.call::<kp::CreateTopicsResponse>(ApiKey::CreateTopics, 7, &request).topics
}

fn config(name: &str, value: Option<&str>) -> CreatableTopicConfig {
    CreatableTopicConfig::default().with_name(text(name)).with_value(value.map(text))
}

#[test]
fn topics_are_created_as_asked_and_told_with_all_their_settings() {
    let door = Door::open();
    let mut client = door.client();
    let asked = new("a", 3).with_configs(vec![config("retention.ms", Some("1000"))]);
    let made = create(&mut client, vec![asked, new("b", -1)], false);
    assert_eq!(made.iter().map(|one| (one.error_code, one.num_partitions)).collect::<Vec<_>>(), [(0, 3), (0, 4)]);
    assert_eq!((made[0].topic_id, made[0].replication_factor), (door.store.topic("a").unwrap().id, 1));
    let configs = made[0].configs.as_ref().unwrap();
    let retention = configs.iter().find(|one| one.name.as_str() == "retention.ms").unwrap();
    assert_eq!((retention.value.as_ref().unwrap().as_str(), retention.config_source), ("1000", 1));
    assert!(configs.len() > 15 && configs.iter().filter(|one| one.config_source == 5).count() == configs.len() - 1);
}

#[test]
fn topics_that_cannot_be_are_refused_by_kafkas_codes() {
    let door = Door::open();
    door.topic("there", &[]);
    let mut client = door.client();
    let assignment = |partition, brokers: &[i32]| {
        let brokers = brokers.iter().map(|id| kp::BrokerId(*id)).collect();
        CreatableReplicaAssignment::default().with_partition_index(partition).with_broker_ids(brokers)
    };
    let assigned = |topic: &str, assignments| new(topic, -1).with_assignments(assignments);
    let cases = [
        (new("there", 1), 36),
        (new("a/b", 1), 17),
        (new("x", 0), 37),
        (new("x", -2), 37),
        (new("x", 100_000), 37),
        (new("x", 1).with_replication_factor(3), 38),
        (new("x", 1).with_replication_factor(0), 38),
        (assigned("x", vec![assignment(0, &[2])]), 39),
        (assigned("x", vec![assignment(0, &[1]), assignment(2, &[1])]), 39),
        (assigned("x", vec![assignment(0, &[1])]).with_num_partitions(1), 42),
        (new("x", 1).with_configs(vec![config("retention.msec", Some("1"))]), 40),
        (new("x", 1).with_configs(vec![config("retention.ms", Some("soon"))]), 40),
        (new("x", 1).with_configs(vec![config("retention.ms", None)]), 40),
    ];
    for only_check in [true, false] {
        for (topic, code) in &cases {
            let refused = &create(&mut client, vec![topic.clone()], only_check)[0];
            assert_eq!(refused.error_code, *code, "{topic:?}");
            assert!(refused.error_message.is_some());
        }
    }
    let twice = create(&mut client, vec![new("twice", 1), new("twice", 2)], false);
    assert_eq!((twice.len(), twice[0].error_code), (1, 42));
    assert_eq!(door.store.topics().len(), 1, "something was made");
    let checked = &create(&mut client, vec![new("x", 5)], true)[0];
    assert_eq!((checked.error_code, checked.num_partitions), (0, 5));
    assert!(!checked.topic_id.is_nil() && door.store.topic("x").is_none(), "an id as Kafka gives one, of no topic");
    let made = &create(&mut client, vec![assigned("x", vec![assignment(1, &[1]), assignment(0, &[1])])], false)[0];
    assert_eq!((made.error_code, made.num_partitions), (0, 2));
}

#[test]
fn two_topics_differ_in_more_than_dots_and_underscores() {
    let door = Door::open();
    for there in ["a.b_c", "plain"] {
        door.topic(there, &[]);
    }
    let mut client = door.client();
    for (topic, code) in [("a_b.c", 17), ("a.b.c", 17), ("a.b_c", 36), ("plain", 36), ("a-b-c", 0), ("a.b_cd", 0)] {
        for only_check in [true, false] {
            let told = &create(&mut client, vec![new(topic, 1)], only_check)[0];
            assert_eq!(told.error_code, code, "{topic}");
        }
    }
    let answer = metadata(&mut client, 9, &asked(&["a_b_c", "a.b_c", "x_y"], true));
    assert_eq!(codes(&answer), [17, 0, 0], "nor is one made by asking for it");
}

#[test]
fn topics_are_deleted_by_name_and_by_id() {
    let door = Door::open();
    let ids = ["a", "b", "c"].map(|name| door.topic(name, &[]));
    let mut client = door.client();
    let old = kp::DeleteTopicsRequest::default().with_topic_names(vec![name("a"), name("none")]);
    let answer: kp::DeleteTopicsResponse = client.call(ApiKey::DeleteTopics, 5, &old);
    assert_eq!(answer.responses.iter().map(|one| one.error_code).collect::<Vec<_>>(), [0, 3]);
    let state = |name: Option<kp::TopicName>, id| DeleteTopicState::default().with_name(name).with_topic_id(id);
    let states = vec![
        state(None, ids[1]),
        state(Some(name("c")), ids[2]),
        state(None, Uuid::nil()),
        state(Some(name("c")), Uuid::nil()),
    ];
    let request = kp::DeleteTopicsRequest::default().with_topics(states);
    let answer: kp::DeleteTopicsResponse = client.call(ApiKey::DeleteTopics, 6, &request);
    assert_eq!(answer.responses.iter().map(|one| one.error_code).collect::<Vec<_>>(), [0, 42, 42, 0]);
    assert_eq!(answer.responses[0].name.as_ref().unwrap().to_string(), "b");
    assert!(door.store.topics().is_empty());
    // Named twice: refused once.
    let id = door.topic("d", &[]);
    let twice = kp::DeleteTopicsRequest::default().with_topics(vec![state(None, id), state(None, id)]);
    let answer: kp::DeleteTopicsResponse = client.call(ApiKey::DeleteTopics, 6, &twice);
    assert_eq!((answer.responses.len(), answer.responses[0].error_code), (1, 42));
    assert!(door.store.topic("d").is_some());
}

fn described(client: &mut Client, kind: i8, resource: &str, keys: Option<&[&str]>) -> kp::DescribeConfigsResponse {
    let keys = keys.map(|keys| keys.iter().map(|key| text(key)).collect());
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(resource))
        .with_configuration_keys(keys);
    let request = kp::DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(true);
    client.call(ApiKey::DescribeConfigs, 4, &request)
}

/// A topic's settings in Kafka 4.1, by name.
const SETTINGS: [&str; 33] = [
    "cleanup.policy",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
];

#[test]
fn behaviour_30_every_setting_is_described_with_its_source_kind_and_meaning() {
    let door = Door::open();
    door.topic("t", &[("retention.ms", "1000")]);
    let mut client = door.client();
    let answer = described(&mut client, 2, "t", None);
    let configs: BTreeMap<_, _> =
        answer.results[0].configs.iter().map(|config| (config.name.to_string(), config)).collect();
    for name in ["cleanup.policy", "compression.type", "max.message.bytes", "segment.bytes", "inrush.durability"] {
        let config = configs[name];
        assert_eq!((config.config_source, config.read_only, config.is_sensitive), (5, false, false), "{name}");
        assert!(config.documentation.as_ref().is_some_and(|meaning| !meaning.is_empty()) && config.config_type > 0);
        assert_eq!(config.synonyms.len(), 1);
    }
    // Tools read all, change one and write all back: a name that is left out would go back to its default.
    let kafkas: Vec<&str> = configs.keys().map(String::as_str).filter(|name| !name.starts_with("inrush.")).collect();
    assert_eq!(kafkas, SETTINGS);
    let set = configs["retention.ms"];
    assert_eq!((set.value.as_ref().unwrap().as_str(), set.config_source, set.config_type), ("1000", 1, 5));
    let synonyms: Vec<_> =
        set.synonyms.iter().map(|one| (one.value.clone().unwrap().to_string(), one.source)).collect();
    assert_eq!(synonyms, [("1000".to_owned(), 1), ("604800000".to_owned(), 5)]);
    let some = described(&mut client, 2, "t", Some(&["retention.ms", "no.such"]));
    assert_eq!(some.results[0].configs.len(), 1);
    assert_eq!(described(&mut client, 2, "t", Some(&[])).results[0].configs.len(), configs.len());
    for (kind, name, code) in [(2, "none", 3), (2, "a/b", 17), (4, "7", 42), (99, "t", 42)] {
        assert_eq!(described(&mut client, kind, name, None).results[0].error_code, code, "{kind} {name}");
    }
}

#[test]
fn the_node_is_described_read_only() {
    let door = Door::open();
    let answer = described(&mut door.client(), 4, "1", None);
    let configs = &answer.results[0].configs;
    let value =
        |name: &str| configs.iter().find(|one| one.name.as_str() == name).unwrap().value.clone().unwrap().to_string();
    assert_eq!(
        (value("num.partitions"), value("node.id"), value("auto.create.topics.enable")),
        ("4".into(), "1".into(), "true".into())
    );
    assert_eq!(value("advertised.listeners"), format!("PLAINTEXT://{}", door.address));
    assert_eq!((value("log.cleanup.policy"), value("message.max.bytes")), ("delete".into(), "1048588".into()));
    let replicas = configs.iter().find(|one| one.name.as_str() == "offsets.topic.replication.factor").unwrap();
    assert_eq!((replicas.value.as_ref().unwrap().as_str(), replicas.config_type), ("1", 4));
    assert!(configs.iter().all(|one| one.read_only && one.config_source == 4));
    assert!(described(&mut door.client(), 4, "", None).results[0].configs.is_empty());
}

#[test]
fn what_has_settings_is_listed_by_kind() {
    let door = Door::open();
    door.topic("t", &[]);
    let mut client = door.client();
    let mut ask = |version: i16, kinds: &[i8]| {
        let request = kp::ListConfigResourcesRequest::default().with_resource_types(kinds.to_vec());
        let answer: kp::ListConfigResourcesResponse = client.call(ApiKey::ListConfigResources, version, &request);
        let found = answer.config_resources.iter().map(|one| (one.resource_type, one.resource_name.to_string()));
        (answer.error_code, found.collect::<Vec<_>>())
    };
    let (topic, node) = ((2, "t".to_owned()), (4, "1".to_owned()));
    assert_eq!(ask(1, &[]), (0, vec![topic.clone(), node.clone()]));
    assert_eq!(ask(1, &[4, 4]), (0, vec![node]));
    assert_eq!(ask(1, &[2, 8, 16, 32]), (0, vec![topic]));
    assert_eq!(ask(1, &[2, 99]), (35, vec![]));
    // Before version 1 it told of subscriptions to clients' metrics alone.
    assert_eq!(ask(0, &[]), (0, vec![]));
}

#[test]
fn the_cluster_is_one_node() {
    let door = Door::open();
    let mut client = door.client();
    let mut ask = |kind: i8| -> kp::DescribeClusterResponse {
        client.call(ApiKey::DescribeCluster, 2, &kp::DescribeClusterRequest::default().with_endpoint_type(kind))
    };
    let answer = ask(1);
    assert_eq!((answer.error_code, answer.controller_id.0, answer.brokers.len()), (0, 1, 1));
    assert_eq!(answer.brokers[0].port as u16, door.address.port());
    assert_eq!((ask(2).error_code, ask(3).error_code), (114, 115));
}
