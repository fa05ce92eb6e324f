//! CreateTopics and DeleteTopics.

use super::errors::{Code, Refusal};
use super::{Service, configs, find, text, topic_name};
use crate::record::TopicName as Name;
use crate::store::{NewTopic, TOPIC_PARTITIONS_MAX, TopicConfig, TopicError};
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// From this version on topics to delete are named by state (name or id).
const BY_STATE: i16 = 6;

pub(super) async fn create(service: &Service, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut asked: HashMap<TopicName, usize> = HashMap::new();
    for topic in &request.topics {
        *asked.entry(topic.name.clone()).or_default() += 1;
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let out = CreatableTopicResult::default()
            .with_name(topic.name.clone())
            .with_num_partitions(-1)
            .with_replication_factor(-1);
        match asked.remove(&topic.name) {
            // Told once already.
            None => continue,
            Some(1) => {}
            Some(_) => {
                let reason = text("the request names this topic more than once");
                topics.push(out.with_error_code(Code::InvalidRequest.into()).with_error_message(Some(reason)));
                continue;
            }
        }
        topics.push(match create_one(service, topic, request.validate_only).await {
            Ok(made) => out
                .with_topic_id(made.id)
                .with_num_partitions(made.partitions)
                .with_replication_factor(1)
                .with_configs(Some(configs::of_new_topic(&made.config))),
            Err((code, reason)) => out.with_error_code(code.into()).with_error_message(Some(text(&reason))),
        });
    }
    CreateTopicsResponse::default().with_topics(topics)
}

struct Made {
    id: Uuid,
    partitions: i32,
    config: Vec<(String, String)>,
}

async fn create_one(service: &Service, asked: CreatableTopic, only_check: bool) -> Result<Made, Refusal> {
    let name = Name::new(&asked.name).map_err(|error| (Code::InvalidTopic, error.to_string()))?;
    if let Some(other) = collision(service, &name) {
        let reason = format!("topic \"{name}\" collides with \"{other}\": names must differ in more than '.' and '_'");
        return Err((Code::InvalidTopic, reason));
    }
    let partitions = partition_count(service, &asked)?;
    let mut config = Vec::with_capacity(asked.configs.len());
    for entry in asked.configs {
        let Some(value) = entry.value else {
            return Err((Code::InvalidConfig, format!("topic setting {} has no value", &*entry.name)));
        };
        config.push((entry.name.to_string(), value.to_string()));
    }
    TopicConfig::parse(&config).map_err(|error| (Code::InvalidConfig, error.to_string()))?;
    if only_check {
        return match service.store.topic(name.as_str()) {
            Some(_) => Err((Code::TopicAlreadyExists, TopicError::Exists(name).to_string())),
            // As Kafka does, an id that no topic will have: zero is the word for a broker that knows no ids.
            None => Ok(Made { id: Uuid::new_v4(), partitions, config }),
        };
    }
    let topic = service.store.create_topic(NewTopic { name, partitions, config: config.clone() }).await;
    topic.map(|topic| Made { id: topic.id, partitions, config }).map_err(|error| ((&error).into(), error.to_string()))
}

/// Another topic whose name is this one's but for dots and underscores, unless this one exists too. Kafka refuses the second, because
/// in names of its metrics both are underscores.
pub(super) fn collision(service: &Service, name: &Name) -> Option<Name> {
    if !name.as_str().contains(['.', '_']) || service.store.topic(name.as_str()).is_some() {
        return None;
    }
    let topics = service.store.topics();
    topics.iter().map(|topic| &topic.name).find(|other| collide(name, other)).cloned()
}

fn collide(a: &Name, b: &Name) -> bool {
    let unified = |byte| if byte == b'.' { b'_' } else { byte };
    a.as_str().bytes().map(unified).eq(b.as_str().bytes().map(unified))
}

/// How many partitions are asked for: by a count, or by telling each one's replicas.
fn partition_count(service: &Service, asked: &CreatableTopic) -> Result<i32, Refusal> {
    let refuse = |code, reason: &str| Err((code, reason.to_owned()));
    if !asked.assignments.is_empty() {
        if asked.num_partitions != -1 || asked.replication_factor != -1 {
            return refuse(Code::InvalidRequest, "with assignments, partition count and replication factor are -1");
        }
        return assigned(&asked.assignments);
    }
    // −1 is the default in every version, as it is for a real broker: kafkajs sends it in version 3, though KIP-464 speaks of 4.
    let partitions = match asked.num_partitions {
        -1 => service.door.partitions,
        count => count,
    };
    if !(1..=TOPIC_PARTITIONS_MAX).contains(&partitions) {
        return Err((Code::InvalidPartitions, format!("a topic has 1 to {TOPIC_PARTITIONS_MAX} partitions")));
    }
    match asked.replication_factor {
        1 | -1 => Ok(partitions),
        _ => refuse(Code::InvalidReplicationFactor, "one node keeps one replica"),
    }
}

/// Assignments number all partitions from 0 and give each to the one node.
fn assigned(assignments: &[CreatableReplicaAssignment]) -> Result<i32, Refusal> {
    let mut indexes: Vec<i32> = assignments.iter().map(|one| one.partition_index).collect();
    indexes.sort_unstable();
    let are_all = indexes.iter().enumerate().all(|(at, index)| usize::try_from(*index) == Ok(at));
    if !are_all || assignments.len() > TOPIC_PARTITIONS_MAX as usize {
        let reason = "assignments number the partitions from 0 without a gap";
        return Err((Code::InvalidReplicaAssignment, reason.to_owned()));
    }
    if assignments.iter().any(|one| one.broker_ids != [super::node()]) {
        let reason = format!("every partition is on node {}, the only one", super::NODE);
        return Err((Code::InvalidReplicaAssignment, reason));
    }
    Ok(indexes.len() as i32)
}

pub(super) async fn delete(service: &Service, request: DeleteTopicsRequest, version: i16) -> DeleteTopicsResponse {
    let by_state = request.topics.into_iter().map(|state| (state.name, state.topic_id));
    let by_name = request.topic_names.into_iter().map(|name| (Some(name), Uuid::nil()));
    let asked: Vec<_> = if version >= BY_STATE { by_state.collect() } else { by_name.collect() };
    // A topic that is named twice is refused once, as Kafka does.
    let mut times: HashMap<(Option<TopicName>, Uuid), usize> = HashMap::new();
    for one in &asked {
        *times.entry(one.clone()).or_default() += 1;
    }
    let mut responses = Vec::with_capacity(asked.len());
    for (name, id) in asked {
        let Some(times) = times.remove(&(name.clone(), id)) else { continue };
        let out = DeletableTopicResult::default().with_topic_id(id).with_name(name.clone());
        let found = match &name {
            _ if times > 1 => Err(Code::InvalidRequest),
            Some(_) if !id.is_nil() => Err(Code::InvalidRequest),
            None if id.is_nil() => Err(Code::InvalidRequest),
            Some(name) => find(service, name, id, false),
            None => find(service, &TopicName::default(), id, true),
        };
        responses.push(match found {
            Err(code) => out.with_error_code(code.into()),
            Ok(topic) => delete_one(service, &topic, out).await,
        });
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

async fn delete_one(
    service: &Service,
    topic: &Arc<crate::store::Topic>,
    out: DeletableTopicResult,
) -> DeletableTopicResult {
    let out = out.with_name(Some(topic_name(topic.name.as_str()))).with_topic_id(topic.id);
    match service.store.delete_topic(&topic.name).await {
        Ok(()) => out,
        Err(error) => out.with_error_code(Code::from(&error).into()).with_error_message(Some(text(&error.to_string()))),
    }
}
