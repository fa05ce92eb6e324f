//! Topics over HTTP: what the command line lists, makes, changes and deletes them with.

use super::connection::Caller;
use super::fetch::find;
use super::reply::{Reply, json, refuse};
use super::{HttpDoor, body};
use crate::record::TopicName;
use crate::store::{NewTopic, Topic, TopicConfig, TopicError};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    #[serde(default = "one")]
    partitions: i32,
    #[serde(default)]
    config: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Alter {
    partitions: Option<i32>,
    /// A null resets to the default.
    #[serde(default)]
    config: BTreeMap<String, Option<String>>,
}

fn one() -> i32 {
    1
}

pub(super) fn list(door: &HttpDoor) -> Reply {
    let topics: Vec<Value> = door.store.topics().iter().map(|topic| summary(topic)).collect();
    json(StatusCode::OK, &topics)
}

pub(super) fn describe(door: &HttpDoor, topic: &str) -> Reply {
    let topic = match find(door, topic) {
        Ok(topic) => topic,
        Err(reply) => return reply,
    };
    let mut out = summary(&topic);
    let entries = TopicConfig::entries(&topic.overrides());
    let config: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let is_default = entry.source == crate::store::ConfigSource::Default;
            json!({ "name": entry.name, "value": entry.value, "default": is_default, "meaning": entry.meaning })
        })
        .collect();
    let partitions = topic.partitions();
    let partitions = partitions.iter().map(|partition| {
        json!({ "partition": partition.id(), "start": partition.start(), "tail": partition.tail(), "bytes": partition.size() })
    });
    out["config"] = config.into();
    out["partition_list"] = partitions.collect::<Vec<_>>().into();
    json(StatusCode::OK, &out)
}

pub(super) async fn create(door: &HttpDoor, caller: &Caller, request: Request<Incoming>) -> Reply {
    let create: Create = match parse(door, caller, request).await {
        Ok(create) => create,
        Err(reply) => return reply,
    };
    let name = match TopicName::new(&create.name) {
        Ok(name) => name,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let new = NewTopic { name, partitions: create.partitions, config: create.config.into_iter().collect() };
    match door.store.create_topic(new).await {
        Ok(topic) => json(StatusCode::CREATED, &summary(&topic)),
        Err(error) => failed(&error),
    }
}

pub(super) async fn alter(door: &HttpDoor, topic: &str, caller: &Caller, request: Request<Incoming>) -> Reply {
    let topic = match find(door, topic) {
        Ok(topic) => topic,
        Err(reply) => return reply,
    };
    let alter: Alter = match parse(door, caller, request).await {
        Ok(alter) => alter,
        Err(reply) => return reply,
    };
    if !alter.config.is_empty()
        && let Err(error) = door.store.alter_topic(&topic.name, alter.config.into_iter().collect()).await
    {
        return failed(&error);
    }
    if let Some(partitions) = alter.partitions
        && let Err(error) = grow(door, &topic, partitions).await
    {
        return failed(&error);
    }
    json(StatusCode::OK, &summary(&topic))
}

/// Its dead letters first: a dead letter goes to the partition of its record.
async fn grow(door: &HttpDoor, topic: &Topic, partitions: i32) -> Result<(), TopicError> {
    let dead = topic.name.dead_letters().and_then(|name| door.store.topic(name.as_str()));
    if let Some(dead) = dead.filter(|dead| dead.partition_count() < partitions && topic.partition_count() < partitions)
    {
        door.store.add_partitions(&dead.name, partitions).await?;
    }
    door.store.add_partitions(&topic.name, partitions).await
}

pub(super) async fn delete(door: &HttpDoor, topic: &str) -> Reply {
    let topic = match find(door, topic) {
        Ok(topic) => topic,
        Err(reply) => return reply,
    };
    match door.store.delete_topic(&topic.name).await {
        Ok(()) => json(StatusCode::OK, &json!({ "deleted": topic.name.as_str() })),
        Err(error) => failed(&error),
    }
}

async fn parse<T: for<'de> Deserialize<'de>>(
    door: &HttpDoor,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<T, Reply> {
    let (bytes, _lease) = body::receive(door, caller, &mut request.into_body()).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| refuse(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}")))
}

fn summary(topic: &Topic) -> Value {
    let partitions = topic.partitions();
    let records: i64 = partitions.iter().map(|partition| partition.tail().0 - partition.start().0).sum();
    let bytes: u64 = partitions.iter().map(|partition| partition.size()).sum();
    json!({ "name": topic.name.as_str(), "id": topic.id, "partitions": partitions.len(), "records": records, "bytes": bytes })
}

fn failed(error: &TopicError) -> Reply {
    let status = match error {
        TopicError::Exists(_) => StatusCode::CONFLICT,
        TopicError::Missing(_) => StatusCode::NOT_FOUND,
        TopicError::Internal(_) => StatusCode::FORBIDDEN,
        TopicError::Invalid(_) | TopicError::Config(_) => StatusCode::BAD_REQUEST,
        TopicError::Io(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    refuse(status, error.to_string())
}
