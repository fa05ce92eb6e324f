//! CreateTopics, DeleteTopics, DescribeConfigs.

use super::errors::Code;
use super::{KafkaDoor, find, text, topic_name};
use crate::record::TopicName as Name;
use crate::store::{ConfigSource, NewTopic, TopicConfig};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest,
    DescribeConfigsResponse,
};
use uuid::Uuid;

/// What a resource is, and where a value comes from, in DescribeConfigs.
const RESOURCE_TOPIC: i8 = 2;
const SOURCE_TOPIC: i8 = 1;
const SOURCE_DEFAULT: i8 = 5;

pub(super) async fn create(door: &KafkaDoor, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let out = CreatableTopicResult::default()
            .with_name(asked.name.clone())
            .with_num_partitions(-1)
            .with_replication_factor(-1);
        topics.push(match create_one(door, asked, request.validate_only).await {
            Ok((id, partitions)) => out.with_topic_id(id).with_num_partitions(partitions).with_replication_factor(1),
            Err((code, reason)) => out.with_error_code(code.into()).with_error_message(Some(text(&reason))),
        });
    }
    CreateTopicsResponse::default().with_topics(topics)
}

async fn create_one(door: &KafkaDoor, asked: CreatableTopic, only_check: bool) -> Result<(Uuid, i32), (Code, String)> {
    let name = Name::new(&asked.name).map_err(|error| (Code::InvalidTopic, error.to_string()))?;
    if !matches!(asked.replication_factor, -1..=1) || asked.replication_factor == 0 {
        return Err((Code::InvalidReplicationFactor, "one node keeps one replica".to_owned()));
    }
    let partitions = match (asked.assignments.len() as i32, asked.num_partitions) {
        (0, -1) => door.partitions,
        (0, count) => count,
        (assigned, _) => assigned,
    };
    let pair = |entry: kafka_protocol::messages::create_topics_request::CreatableTopicConfig| {
        entry.value.map(|value| (entry.name.to_string(), value.to_string()))
    };
    let config: Vec<(String, String)> = asked.configs.into_iter().filter_map(pair).collect();
    TopicConfig::parse(&config).map_err(|error| (Code::InvalidConfig, error.to_string()))?;
    if only_check {
        return match door.store.topic(name.as_str()) {
            Some(_) => Err((Code::TopicAlreadyExists, format!("topic \"{name}\" exists already"))),
            None => Ok((Uuid::nil(), partitions)),
        };
    }
    let topic = door.store.create_topic(NewTopic { name, partitions, config }).await;
    topic.map(|topic| (topic.id, partitions)).map_err(|error| ((&error).into(), error.to_string()))
}

pub(super) async fn delete(door: &KafkaDoor, request: DeleteTopicsRequest, version: i16) -> DeleteTopicsResponse {
    let by_state = request.topics.into_iter().map(|state| (state.name, state.topic_id));
    let by_name = request.topic_names.into_iter().map(|name| (Some(name), Uuid::nil()));
    let asked: Vec<_> = if version >= 6 { by_state.collect() } else { by_name.collect() };
    let mut responses = Vec::with_capacity(asked.len());
    for (name, id) in asked {
        let out = DeletableTopicResult::default().with_topic_id(id).with_name(name.clone());
        responses.push(match find(door, &name.unwrap_or_else(|| topic_name("")), id) {
            Err(code) => out.with_error_code(code.into()),
            Ok(topic) => {
                let out = out.with_name(Some(topic_name(topic.name.as_str()))).with_topic_id(topic.id);
                match door.store.delete_topic(&topic.name).await {
                    Ok(()) => out,
                    Err(error) => out
                        .with_error_code(Code::from(&error).into())
                        .with_error_message(Some(text(&error.to_string()))),
                }
            }
        });
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

pub(super) fn describe_configs(door: &KafkaDoor, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let with_documentation = request.include_documentation;
    let results = request.resources.into_iter().map(|resource| {
        let out = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        if resource.resource_type != RESOURCE_TOPIC {
            // A broker has no settings that could be read or changed here.
            return out;
        }
        let Some(topic) = door.store.topic(&resource.resource_name) else {
            return out.with_error_code(Code::UnknownTopicOrPartition.into());
        };
        let wanted =
            |name: &str| resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| **key == *name));
        let entries = TopicConfig::entries(&topic.overrides());
        let entry = |entry: &crate::store::ConfigEntry| {
            DescribeConfigsResourceResult::default()
                .with_name(text(entry.name))
                .with_value(Some(text(&entry.value)))
                .with_config_source(if entry.source == ConfigSource::Topic { SOURCE_TOPIC } else { SOURCE_DEFAULT })
                .with_config_type(kind(entry.kind))
                .with_documentation(with_documentation.then(|| text(entry.meaning)))
        };
        out.with_configs(entries.iter().filter(|entry| wanted(entry.name)).map(entry).collect())
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

/// Kafka's numbers for kinds of values.
fn kind(name: &str) -> i8 {
    match name {
        "boolean" => 1,
        "string" => 2,
        "int" => 3,
        "long" => 5,
        "list" => 7,
        _ => 0,
    }
}
