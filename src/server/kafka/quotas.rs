//! DescribeClientQuotas and AlterClientQuotas (KIP-546); what of a request a quota asks for.
//!
//! Kafka's rules, with these differences: addresses have byte rates too; all entries of an entity that a request names twice are refused,
//! where Kafka takes the first; so is an entity that names a type twice, where Kafka takes the last.

use super::answer::Client;
use super::errors::Code;
use super::{Service, text};
use crate::access::{ANONYMOUS, Alteration, Caller, Entity, EntityError, Filter, Key, Match};
use crate::store::TopicError;
use kafka_protocol::messages::alter_client_quotas_request::{EntityData as AskedEntity, EntryData as Asked};
use kafka_protocol::messages::alter_client_quotas_response::{EntityData as AlteredEntity, EntryData as Altered};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How a filter's component matches, in Kafka's numbers.
const MATCH_EXACT: i8 = 0;
const MATCH_DEFAULT: i8 = 1;
const MATCH_ANY: i8 = 2;

/// Who sent a request with this client id.
pub(super) fn caller<'a>(client: &Client, client_id: &'a str) -> Caller<'a> {
    Caller { client: Some((ANONYMOUS, client_id)), address: client.address }
}

/// A throttle time as answers carry it.
pub(super) fn millis(throttle: Duration) -> i32 {
    i32::try_from(throttle.as_millis()).unwrap_or(i32::MAX)
}

pub(super) fn describe(service: &Service, request: DescribeClientQuotasRequest) -> DescribeClientQuotasResponse {
    let out = DescribeClientQuotasResponse::default().with_error_message(None);
    match filter(request) {
        Err((code, reason)) => {
            out.with_error_code(code.into()).with_error_message(Some(text(&reason))).with_entries(None)
        }
        Ok(filter) => {
            let found = service.door.quotas.describe(&filter);
            out.with_entries(Some(found.into_iter().map(|(entity, values)| told(&entity, values)).collect()))
        }
    }
}

fn told(entity: &Entity, values: Vec<(Key, f64)>) -> EntryData {
    let part = |(kind, name): (String, Option<String>)| {
        let out = EntityData::default().with_entity_type(text(&kind));
        out.with_entity_name(name.map(|name| text(&name)))
    };
    let value = |(key, value): (Key, f64)| ValueData::default().with_key(text(key.name())).with_value(value);
    EntryData::default()
        .with_entity(entity.parts().into_iter().map(part).collect())
        .with_values(values.into_iter().map(value).collect())
}

fn filter(request: DescribeClientQuotasRequest) -> Result<Filter, (Code, String)> {
    let mut filter = Filter { is_strict: request.strict, ..Filter::default() };
    let wrong = |reason: String| Err((Code::InvalidRequest, reason));
    for component in request.components {
        let kind = component.entity_type.clone();
        let place = match &*kind {
            "user" => &mut filter.user,
            "client-id" => &mut filter.client_id,
            "ip" => &mut filter.ip,
            "" => return wrong("an entity type has no name".to_owned()),
            // Kafka's code: another version may know it.
            other => return Err((Code::UnsupportedVersion, EntityError::Type(other.to_owned()).to_string())),
        };
        let is_new = place.is_none();
        *place = Some(matching(component).map_err(|reason| (Code::InvalidRequest, reason))?);
        if !is_new {
            return wrong(format!("the filter names {} twice", &*kind));
        }
    }
    if filter.ip.is_some() && (filter.user.is_some() || filter.client_id.is_some()) {
        return wrong(EntityError::Mixed.to_string());
    }
    Ok(filter)
}

fn matching(component: ComponentData) -> Result<Match, String> {
    match (component.match_type, component._match) {
        (MATCH_EXACT, Some(name)) => Ok(Match::Exact(name.to_string())),
        (MATCH_EXACT, None) => Err("an exact match needs a name".to_owned()),
        (MATCH_DEFAULT, None) => Ok(Match::Default),
        (MATCH_ANY, None) => Ok(Match::Any),
        (MATCH_DEFAULT | MATCH_ANY, Some(_)) => Err("only an exact match has a name".to_owned()),
        (other, _) => Err(format!("there is no match type {other}")),
    }
}

pub(super) async fn alter(service: &Service, request: AlterClientQuotasRequest) -> AlterClientQuotasResponse {
    let mut asked: HashMap<Vec<(String, Option<String>)>, usize> = HashMap::new();
    for entry in &request.entries {
        *asked.entry(name(entry)).or_default() += 1;
    }
    let mut entries = Vec::with_capacity(request.entries.len());
    let mut alterations = Vec::new();
    for entry in request.entries {
        let checked = match asked.remove(&name(&entry)) {
            // Told once already.
            None => continue,
            Some(1) => checked(&entry),
            Some(_) => Err("the request names this entity more than once".to_owned()),
        };
        let refusal = checked.map(|alteration| alterations.push(alteration)).err();
        entries.push((entry, refusal.map(|reason| (Code::InvalidRequest, reason))));
    }
    // A change of nothing is none, and the store is not asked.
    alterations.retain(|alteration| !alteration.values.is_empty());
    let done = match request.validate_only || alterations.is_empty() {
        true => Ok(()),
        false => service.door.quotas.alter(alterations).await.map_err(|error| (code(&error), error.to_string())),
    };
    let told = |(entry, refusal): (Asked, Option<(Code, String)>)| {
        let part = |part: &AskedEntity| {
            let out = AlteredEntity::default().with_entity_type(part.entity_type.clone());
            out.with_entity_name(part.entity_name.clone())
        };
        let out = Altered::default().with_entity(entry.entity.iter().map(part).collect());
        match refusal.or_else(|| done.clone().err()) {
            None => out.with_error_message(None),
            Some((code, reason)) => out.with_error_code(code.into()).with_error_message(Some(text(&reason))),
        }
    };
    AlterClientQuotasResponse::default().with_entries(entries.into_iter().map(told).collect())
}

/// What tells the entity of an entry from others, whatever the order of its types.
fn name(entry: &Asked) -> Vec<(String, Option<String>)> {
    let part = |part: &AskedEntity| (part.entity_type.to_string(), part.entity_name.as_ref().map(ToString::to_string));
    let mut parts: Vec<_> = entry.entity.iter().map(part).collect();
    parts.sort();
    parts
}

fn checked(entry: &Asked) -> Result<Alteration, String> {
    let parts = entry.entity.iter().map(|part| (&*part.entity_type, part.entity_name.as_deref()));
    let entity = Entity::new(parts).map_err(|error| error.to_string())?;
    let mut keys = HashSet::new();
    let mut values = Vec::with_capacity(entry.ops.len());
    for op in &entry.ops {
        if !keys.insert(op.key.clone()) {
            return Err(format!("the entity's entry names {} twice", &*op.key));
        }
        // What is taken away is not judged, in Kafka neither: there is none of that name.
        if !op.remove {
            Key::check(&op.key, &entity, op.value).map_err(|error| error.to_string())?;
        }
        values.push((op.key.to_string(), (!op.remove).then_some(op.value)));
    }
    Ok(Alteration { entity, values })
}

fn code(error: &TopicError) -> Code {
    match error {
        // More entities than may have quotas.
        TopicError::Invalid(_) => Code::InvalidRequest,
        error => error.into(),
    }
}
