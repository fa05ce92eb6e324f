//! DescribeConfigs: every setting of a topic with its source, kind and meaning; and of the one node what clients look for, to be read only.
//! ListConfigResources: what has settings.
//!
//! Tools read all of a topic's settings, change some and write them back: what is not listed would be lost.

use super::errors::Code;
use super::metadata::advertised;
use super::{NODE, Service, text};
use crate::record::TopicName as Name;
use crate::store::{ConfigEntry, ConfigSource, TopicConfig};
use kafka_protocol::messages::create_topics_response::CreatableTopicConfigs;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use std::collections::HashSet;
use std::net::SocketAddr;

/// What a resource is, and where a value comes from, in Kafka's numbers.
pub(super) const RESOURCE_TOPIC: i8 = 2;
pub(super) const RESOURCE_BROKER: i8 = 4;
const RESOURCE_BROKER_LOGGER: i8 = 8;
const RESOURCE_CLIENT_METRICS: i8 = 16;
const RESOURCE_GROUP: i8 = 32;
/// What ListConfigResources may be asked for.
const LISTED: &[i8] =
    &[RESOURCE_TOPIC, RESOURCE_BROKER, RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS, RESOURCE_GROUP];
/// From this version on it tells of all kinds; before, of subscriptions to clients' metrics (KIP-1142).
const BY_KIND: i16 = 1;
const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

pub(super) fn describe(
    service: &Service,
    local: SocketAddr,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let (synonyms, documentation) = (request.include_synonyms, request.include_documentation);
    // A resource that is named twice is told once: a short request must not ask for an answer without end.
    let mut told = HashSet::new();
    let mut results = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        if !told.insert((resource.resource_type, resource.resource_name.clone())) {
            continue;
        }
        let out = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        results.push(match entries(service, local, &resource) {
            Err((code, reason)) => out.with_error_code(code.into()).with_error_message(Some(text(&reason))),
            Ok(entries) => {
                // No list asks for all; an empty one too (Kafka's ConfigHelper).
                let keys = resource.configuration_keys.filter(|keys| !keys.is_empty());
                let is_wanted =
                    |entry: &&Entry| keys.as_ref().is_none_or(|keys| keys.iter().any(|key| **key == *entry.name));
                let wanted = entries.iter().filter(is_wanted);
                out.with_configs(wanted.map(|entry| entry.told(synonyms, documentation)).collect())
            }
        });
    }
    DescribeConfigsResponse::default().with_results(results)
}

/// One setting, of a topic or of the node.
struct Entry {
    name: &'static str,
    value: String,
    default: Option<String>,
    source: i8,
    is_read_only: bool,
    kind: &'static str,
    meaning: &'static str,
}

fn entries(
    service: &Service,
    local: SocketAddr,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Entry>, (Code, String)> {
    let name = &*resource.resource_name;
    match resource.resource_type {
        RESOURCE_TOPIC => {
            Name::new(name).map_err(|error| (Code::InvalidTopic, error.to_string()))?;
            let topic = service.store.topic(name);
            let topic =
                topic.ok_or_else(|| (Code::UnknownTopicOrPartition, format!("there is no topic \"{name}\"")))?;
            Ok(TopicConfig::entries(&topic.overrides()).into_iter().map(Entry::of_topic).collect())
        }
        // The settings of all nodes together: none is set, as in a cluster without dynamic settings.
        RESOURCE_BROKER if name.is_empty() => Ok(Vec::new()),
        RESOURCE_BROKER if name.parse() == Ok(NODE) => Ok(of_node(service, local)),
        RESOURCE_BROKER => Err((Code::InvalidRequest, format!("the only node is {NODE}, not \"{name}\""))),
        other => Err((Code::InvalidRequest, format!("resources of type {other} have no settings here"))),
    }
}

/// What clients and tools look for in a broker, as this node has it.
fn of_node(service: &Service, local: SocketAddr) -> Vec<Entry> {
    let of_topic = |name: &str| {
        let found = TopicConfig::entries(&[]).into_iter().find(|entry| entry.name == name);
        found.map_or_else(String::new, |entry| entry.default)
    };
    let entry = |name, kind, value: String, meaning| Entry {
        name,
        value,
        default: None,
        source: SOURCE_STATIC_BROKER,
        is_read_only: true,
        kind,
        meaning,
    };
    let (host, port) = advertised(service, local);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    vec![
        entry(
            "advertised.listeners",
            "list",
            format!("PLAINTEXT://{host}:{port}"),
            "where clients are told to connect",
        ),
        entry("auto.create.topics.enable", "boolean", service.door.auto_create.to_string(), "topics are made by use"),
        entry("broker.id", "int", NODE.to_string(), "the node's id"),
        entry("compression.type", "string", of_topic("compression.type"), "default of new topics"),
        entry("default.replication.factor", "int", "1".to_owned(), "replicas of new topics: one node has one"),
        entry("log.cleanup.policy", "list", of_topic("cleanup.policy"), "default of new topics"),
        entry("log.retention.ms", "long", of_topic("retention.ms"), "default of new topics"),
        entry("log.segment.bytes", "int", of_topic("segment.bytes"), "default of new topics"),
        entry("message.max.bytes", "int", of_topic("max.message.bytes"), "default of new topics"),
        entry("min.insync.replicas", "int", of_topic("min.insync.replicas"), "default of new topics"),
        entry("node.id", "int", NODE.to_string(), "the node's id"),
        entry(
            "num.partitions",
            "int",
            service.door.partitions.to_string(),
            "partitions of topics that are made by use",
        ),
        entry(
            "offsets.topic.replication.factor",
            "short",
            "1".to_owned(),
            "replicas of what groups commit: one node has one",
        ),
        entry("transaction.state.log.replication.factor", "short", "1".to_owned(), "transactions are not served yet"),
    ]
}

impl Entry {
    fn of_topic(entry: ConfigEntry) -> Entry {
        Entry {
            name: entry.name,
            value: entry.value,
            default: Some(entry.default),
            source: source(entry.source),
            is_read_only: false,
            kind: entry.kind,
            meaning: entry.meaning,
        }
    }

    fn told(&self, with_synonyms: bool, with_documentation: bool) -> DescribeConfigsResourceResult {
        let synonym = |value: &str, source| {
            let out = DescribeConfigsSynonym::default().with_name(text(self.name));
            out.with_value(Some(text(value))).with_source(source)
        };
        // Where the value stands, then what would hold without it.
        let mut synonyms = vec![synonym(&self.value, self.source)];
        if let Some(default) = self.default.as_ref().filter(|_| self.source != SOURCE_DEFAULT) {
            synonyms.push(synonym(default, SOURCE_DEFAULT));
        }
        DescribeConfigsResourceResult::default()
            .with_name(text(self.name))
            .with_value(Some(text(&self.value)))
            .with_read_only(self.is_read_only)
            .with_config_source(self.source)
            .with_synonyms(if with_synonyms { synonyms } else { Vec::new() })
            .with_config_type(kind(self.kind))
            .with_documentation(with_documentation.then(|| text(self.meaning)))
    }
}

/// The resources of the kinds asked for, of all kinds if none is. Only topics and the node have settings: of other kinds there is none.
pub(super) fn list(
    service: &Service,
    request: ListConfigResourcesRequest,
    version: i16,
) -> ListConfigResourcesResponse {
    let kinds: &[i8] = if version < BY_KIND { &[RESOURCE_CLIENT_METRICS] } else { LISTED };
    if request.resource_types.iter().any(|kind| !kinds.contains(kind)) {
        return ListConfigResourcesResponse::default().with_error_code(Code::UnsupportedVersion.into());
    }
    let is_wanted = |kind: &&i8| request.resource_types.is_empty() || request.resource_types.contains(kind);
    let mut found = Vec::new();
    for kind in kinds.iter().filter(is_wanted) {
        let resource = |name: &str| ConfigResource::default().with_resource_name(text(name)).with_resource_type(*kind);
        match *kind {
            RESOURCE_TOPIC => found.extend(service.store.topics().iter().map(|topic| resource(topic.name.as_str()))),
            RESOURCE_BROKER => found.push(resource(&NODE.to_string())),
            _ => {}
        }
    }
    ListConfigResourcesResponse::default().with_config_resources(found)
}

/// The settings of a topic that was just made, as CreateTopics tells them.
pub(super) fn of_new_topic(overrides: &[(String, String)]) -> Vec<CreatableTopicConfigs> {
    let told = |entry: ConfigEntry| {
        CreatableTopicConfigs::default()
            .with_name(text(entry.name))
            .with_value(Some(text(&entry.value)))
            .with_config_source(source(entry.source))
    };
    TopicConfig::entries(overrides).into_iter().map(told).collect()
}

fn source(source: ConfigSource) -> i8 {
    match source {
        ConfigSource::Topic => SOURCE_TOPIC,
        ConfigSource::Default => SOURCE_DEFAULT,
    }
}

/// Kafka's numbers for kinds of values.
fn kind(name: &str) -> i8 {
    match name {
        "boolean" => 1,
        "string" => 2,
        "int" => 3,
        "short" => 4,
        "long" => 5,
        "double" => 6,
        "list" => 7,
        _ => 0,
    }
}
