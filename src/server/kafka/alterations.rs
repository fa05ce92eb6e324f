//! AlterConfigs and IncrementalAlterConfigs: the settings of topics, all that a resource is asked or nothing. The node's settings stand in
//! its config file and are read at its start: what would change them is refused, never taken and ignored.

use super::configs::{RESOURCE_BROKER, RESOURCE_TOPIC};
use super::errors::{Code, Refusal};
use super::{NODE, Service, text};
use crate::record::TopicName as Name;
use crate::store::{Alteration, ConfigChange, TopicConfig, TopicError};
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalResponse;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::{HashMap, HashSet};

/// What an incremental change does, in Kafka's numbers.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// A resource by Kafka's number for its kind, and its name.
type Resource = (i8, StrBytes);

/// How often each resource is named: more than once is a mistake, told with each.
struct Named(HashMap<Resource, usize>);

impl Named {
    fn new(resources: impl Iterator<Item = Resource>) -> Named {
        let mut named = HashMap::new();
        resources.for_each(|resource| *named.entry(resource).or_default() += 1);
        Named(named)
    }

    fn once(&self, resource: &Resource) -> Result<(), Refusal> {
        match self.0.get(resource) {
            Some(1) => Ok(()),
            _ => refuse("the request names this resource more than once"),
        }
    }
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, Refusal> {
    Err((Code::InvalidRequest, reason.into()))
}

/// AlterConfigs: what is not named goes back to its default.
pub(super) async fn replace(service: &Service, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let named = request.resources.iter().map(|one| (one.resource_type, one.resource_name.clone()));
    let named = Named::new(named);
    let mut responses = Vec::with_capacity(request.resources.len());
    for asked in request.resources {
        let resource = (asked.resource_type, asked.resource_name);
        let done = match named.once(&resource).and_then(|()| {
            let keys = asked.configs.iter().map(|config| &config.name);
            distinct(keys)?;
            let values =
                asked.configs.iter().map(|config| Ok((config.name.to_string(), valued(&config.name, &config.value)?)));
            values.collect::<Result<Vec<_>, Refusal>>()
        }) {
            Ok(values) => {
                apply(service, &resource, !values.is_empty(), Alteration::All(values), request.validate_only).await
            }
            Err(refusal) => Err(refusal),
        };
        let (code, reason) = told(done);
        responses.push(
            AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(reason)
                .with_resource_type(resource.0)
                .with_resource_name(resource.1),
        );
    }
    AlterConfigsResponse::default().with_responses(responses)
}

/// IncrementalAlterConfigs: what is not named stays.
pub(super) async fn alter(
    service: &Service,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let named = request.resources.iter().map(|one| (one.resource_type, one.resource_name.clone()));
    let named = Named::new(named);
    let mut responses = Vec::with_capacity(request.resources.len());
    for asked in request.resources {
        let resource = (asked.resource_type, asked.resource_name);
        let done = match named.once(&resource).and_then(|()| {
            distinct(asked.configs.iter().map(|config| &config.name))?;
            asked.configs.iter().map(change).collect::<Result<Vec<_>, Refusal>>()
        }) {
            Ok(changes) => {
                let changes: Vec<_> = changes.into_iter().flatten().collect();
                // The node has nothing that was set while it ran, so that a deletion is done already: kafka-reassign-partitions asks for it.
                let is_change = changes.iter().any(|(_, change)| *change != ConfigChange::Reset);
                apply(service, &resource, is_change, Alteration::Some(changes), request.validate_only).await
            }
            Err(refusal) => Err(refusal),
        };
        let (code, reason) = told(done);
        responses.push(
            IncrementalResponse::default()
                .with_error_code(code)
                .with_error_message(reason)
                .with_resource_type(resource.0)
                .with_resource_name(resource.1),
        );
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

fn told(done: Result<(), Refusal>) -> (i16, Option<StrBytes>) {
    match done {
        Ok(()) => (Code::None.into(), None),
        Err((code, reason)) => (code.into(), Some(text(&reason))),
    }
}

fn distinct<'a>(mut names: impl Iterator<Item = &'a StrBytes>) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    match names.find(|name| !seen.insert(*name)) {
        Some(twice) => refuse(format!("setting {} is named more than once", &**twice)),
        None => Ok(()),
    }
}

fn valued(name: &StrBytes, value: &Option<StrBytes>) -> Result<String, Refusal> {
    match value {
        Some(value) => Ok(value.to_string()),
        None => refuse(format!("setting {} has no value", &**name)),
    }
}

/// `None` for what changes nothing: the deletion of a name that no topic has. Kafka takes it too, and a tool that takes away what it once
/// set on another broker may.
fn change(config: &AlterableConfig) -> Result<Option<(String, ConfigChange)>, Refusal> {
    let value = || valued(&config.name, &config.value);
    let change = match config.config_operation {
        SET => ConfigChange::Set(value()?),
        DELETE if TopicConfig::check_name(&config.name).is_err() => return Ok(None),
        DELETE => ConfigChange::Reset,
        APPEND => ConfigChange::Append(value()?),
        SUBTRACT => ConfigChange::Subtract(value()?),
        other => return refuse(format!("operation {other} is none of 0 (set), 1 (delete), 2 (append), 3 (subtract)")),
    };
    Ok(Some((config.name.to_string(), change)))
}

async fn apply(
    service: &Service,
    (kind, name): &Resource,
    is_change: bool,
    alteration: Alteration,
    only_check: bool,
) -> Result<(), Refusal> {
    match *kind {
        RESOURCE_TOPIC if name.is_empty() => refuse("topics have no settings in common"),
        RESOURCE_TOPIC => {
            let name = Name::new(name).map_err(|error| (Code::InvalidTopic, error.to_string()))?;
            let done = if only_check {
                service.store.check_alteration(&name, alteration)
            } else {
                service.store.alter_topic_by(&name, alteration).await
            };
            done.map_err(|error: TopicError| ((&error).into(), error.to_string()))
        }
        RESOURCE_BROKER if !name.is_empty() && name.parse() != Ok(NODE) => {
            refuse(format!("the only node is {NODE}, not \"{}\"", &**name))
        }
        RESOURCE_BROKER if is_change => refuse(
            "settings of the node stand in its config file and are read at its start: none can be changed while it runs",
        ),
        RESOURCE_BROKER => Ok(()),
        other => refuse(format!("resources of type {other} have no settings here")),
    }
}
