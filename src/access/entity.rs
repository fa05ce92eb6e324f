//! Whom a quota is for, which quotas there are, and how entities are looked for: Kafka's words, checked.

use crate::store::QuotaEntity;
use std::net::IpAddr;

/// Longer names are no client's that can be meant: certificates' subjects fit.
const NAME_SIZE_MAX: usize = 1_024;
/// Bytes a second are counted in whole ones, which a double holds up to here.
const BYTE_RATE_MAX: f64 = 9_007_199_254_740_992.0;
const CONNECTION_RATE_MAX: f64 = i32::MAX as f64;

pub(super) const USER: &str = "user";
pub(super) const CLIENT_ID: &str = "client-id";
pub(super) const IP: &str = "ip";

/// One by name, or each one that has no entry of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name<T> {
    Default,
    Is(T),
}

/// Whom a quota is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entity {
    /// At least one of the two is there.
    Client { user: Option<Name<String>>, client_id: Option<Name<String>> },
    /// A canonical address.
    Address(Name<IpAddr>),
}

/// What a quota limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Bytes of Produce requests a second.
    ProducerByteRate,
    /// Bytes of Fetch answers a second.
    ConsumerByteRate,
    /// Connections that an address opens a second.
    ConnectionCreationRate,
}

/// Why an entity, a key or a value is refused. All are mistakes of who asks.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EntityError {
    #[error("a quota needs an entity: user, client-id, user and client-id, or ip")]
    Empty,
    #[error("there is no entity type \"{0}\": user, client-id and ip are known")]
    Type(String),
    #[error("the entity names its {0} twice")]
    Twice(&'static str),
    #[error("an ip stands alone, without user and client-id")]
    Mixed,
    #[error("a {0} without letters is none; the default has no name at all")]
    NoName(&'static str),
    #[error("a {kind} of {size} bytes exceeds the limit of {NAME_SIZE_MAX}")]
    LongName { kind: &'static str, size: usize },
    #[error("\"{0}\" is not an address: names of hosts are not looked up")]
    NoAddress(String),
    #[error("there is no quota \"{0}\" for this entity")]
    Key(String),
    #[error("{0} is not served here: {1}")]
    NotServed(&'static str, &'static str),
    #[error("{key} must be a whole number from 1 to {max}, not {value}")]
    Value { key: &'static str, value: f64, max: f64 },
}

impl Entity {
    /// The entity of these types and names; no name is the type's default.
    ///
    /// # Errors
    /// [`EntityError`]: no type, an unknown one, one twice, types that do not go together, a name that cannot be.
    pub fn new<'a>(parts: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Result<Entity, EntityError> {
        let (mut user, mut client_id, mut address) = (None, None, None);
        for (kind, name) in parts {
            let (place, kind) = match kind {
                USER => (&mut user, USER),
                CLIENT_ID => (&mut client_id, CLIENT_ID),
                IP => (&mut address, IP),
                other => return Err(EntityError::Type(other.to_owned())),
            };
            let name = match name {
                None => Name::Default,
                Some("") => return Err(EntityError::NoName(kind)),
                Some(name) if name.len() > NAME_SIZE_MAX => {
                    return Err(EntityError::LongName { kind, size: name.len() });
                }
                Some(name) => Name::Is(name.to_owned()),
            };
            if place.replace(name).is_some() {
                return Err(EntityError::Twice(kind));
            }
        }
        match (user, client_id, address) {
            (None, None, None) => Err(EntityError::Empty),
            (user, client_id, None) => Ok(Entity::Client { user, client_id }),
            (None, None, Some(Name::Default)) => Ok(Entity::Address(Name::Default)),
            (None, None, Some(Name::Is(name))) => match name.parse::<IpAddr>() {
                Ok(address) => Ok(Entity::Address(Name::Is(address.to_canonical()))),
                Err(_) => Err(EntityError::NoAddress(name)),
            },
            _ => Err(EntityError::Mixed),
        }
    }

    /// Its types with their names; `None` is the default.
    pub fn parts(&self) -> QuotaEntity {
        let text = |name: &Name<String>| match name {
            Name::Default => None,
            Name::Is(name) => Some(name.clone()),
        };
        match self {
            Entity::Client { user, client_id } => {
                let user = user.iter().map(|name| (USER.to_owned(), text(name)));
                user.chain(client_id.iter().map(|name| (CLIENT_ID.to_owned(), text(name)))).collect()
            }
            Entity::Address(Name::Default) => [(IP.to_owned(), None)].into(),
            Entity::Address(Name::Is(address)) => [(IP.to_owned(), Some(address.to_string()))].into(),
        }
    }
}

impl Key {
    pub const ALL: [Key; 3] = [Key::ProducerByteRate, Key::ConsumerByteRate, Key::ConnectionCreationRate];

    pub fn name(self) -> &'static str {
        match self {
            Key::ProducerByteRate => "producer_byte_rate",
            Key::ConsumerByteRate => "consumer_byte_rate",
            Key::ConnectionCreationRate => "connection_creation_rate",
        }
    }

    pub(super) fn named(name: &str) -> Option<Key> {
        Key::ALL.into_iter().find(|key| key.name() == name)
    }

    /// The quota of this name, if `entity` may have it and it may have this value.
    ///
    /// # Errors
    /// [`EntityError`]: an unknown name, one that this kind of entity has not, one that is not served, a value that cannot be.
    pub fn check(name: &str, entity: &Entity, value: f64) -> Result<Key, EntityError> {
        let of_address = matches!(entity, Entity::Address(_));
        let key = match name {
            // The tasks of many connections share threads and wait inside: no clock here tells whose time a thread spends.
            "request_percentage" if !of_address => {
                return Err(EntityError::NotServed(
                    "request_percentage",
                    "the time that a request takes is not measured",
                ));
            }
            "controller_mutation_rate" if !of_address => {
                return Err(EntityError::NotServed("controller_mutation_rate", "changes of topics are not counted"));
            }
            name => Key::named(name).ok_or_else(|| EntityError::Key(name.to_owned()))?,
        };
        // Bytes by address are ours: Kafka limits connections alone there.
        if key == Key::ConnectionCreationRate && !of_address {
            return Err(EntityError::Key(name.to_owned()));
        }
        let max = if key == Key::ConnectionCreationRate { CONNECTION_RATE_MAX } else { BYTE_RATE_MAX };
        if !(1.0..=max).contains(&value) || value.fract() != 0.0 {
            return Err(EntityError::Value { key: key.name(), value, max });
        }
        Ok(key)
    }
}

/// How one type is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    Exact(String),
    Default,
    /// Any name, and the default.
    Any,
}

/// Which entities are looked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub user: Option<Match>,
    pub client_id: Option<Match>,
    pub ip: Option<Match>,
    /// Only entities with no other type than those above.
    pub is_strict: bool,
}

impl Filter {
    pub fn finds(&self, entity: &Entity) -> bool {
        match entity {
            Entity::Client { user, client_id } => {
                let is_same = |wanted: &str, name: &String| wanted == name;
                self.ip.is_none()
                    && self.part(&self.user, user.as_ref(), is_same)
                    && self.part(&self.client_id, client_id.as_ref(), is_same)
            }
            Entity::Address(address) => {
                let is_same = |wanted: &str, address: &IpAddr| {
                    wanted.parse::<IpAddr>().is_ok_and(|wanted| wanted.to_canonical() == *address)
                };
                self.user.is_none() && self.client_id.is_none() && self.part(&self.ip, Some(address), is_same)
            }
        }
    }

    fn part<T>(&self, wanted: &Option<Match>, name: Option<&Name<T>>, is_same: impl Fn(&str, &T) -> bool) -> bool {
        match (wanted, name) {
            (None, None) => true,
            (None, Some(_)) => !self.is_strict,
            (Some(_), None) => false,
            (Some(Match::Any), Some(_)) | (Some(Match::Default), Some(Name::Default)) => true,
            (Some(Match::Exact(wanted)), Some(Name::Is(name))) => is_same(wanted, name),
            (Some(Match::Default | Match::Exact(_)), Some(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(parts: &[(&str, Option<&str>)]) -> Result<Entity, EntityError> {
        Entity::new(parts.iter().copied())
    }

    #[test]
    fn an_entity_is_user_and_or_client_id_or_an_address() {
        for parts in [
            &[("user", Some("u"))][..],
            &[("client-id", None)],
            &[("client-id", Some("c")), ("user", None)],
            &[("ip", Some("10.0.0.1"))],
            &[("ip", None)],
        ] {
            let known: QuotaEntity =
                parts.iter().map(|(kind, name)| ((*kind).to_owned(), name.map(str::to_owned))).collect();
            assert_eq!(entity(parts).unwrap().parts(), known);
        }
        assert_eq!(entity(&[("ip", Some("::ffff:10.0.0.1"))]), entity(&[("ip", Some("10.0.0.1"))]));
        assert_eq!(entity(&[]), Err(EntityError::Empty));
        assert_eq!(entity(&[("group", Some("g"))]), Err(EntityError::Type("group".into())));
        assert_eq!(entity(&[("user", None), ("user", Some("u"))]), Err(EntityError::Twice("user")));
        assert_eq!(entity(&[("user", None), ("ip", None)]), Err(EntityError::Mixed));
        assert_eq!(entity(&[("client-id", Some(""))]), Err(EntityError::NoName("client-id")));
        assert_eq!(entity(&[("ip", Some("localhost"))]), Err(EntityError::NoAddress("localhost".into())));
        let long = "x".repeat(NAME_SIZE_MAX + 1);
        assert!(matches!(entity(&[("user", Some(&long))]), Err(EntityError::LongName { .. })));
    }

    #[test]
    fn keys_belong_to_entities_and_values_are_whole_and_positive() {
        let (user, address) = (entity(&[("user", None)]).unwrap(), entity(&[("ip", None)]).unwrap());
        assert_eq!(Key::check("producer_byte_rate", &user, 1.0), Ok(Key::ProducerByteRate));
        assert_eq!(Key::check("consumer_byte_rate", &address, 1e12), Ok(Key::ConsumerByteRate));
        assert_eq!(Key::check("connection_creation_rate", &address, 5.0), Ok(Key::ConnectionCreationRate));
        for (name, of) in [
            ("connection_creation_rate", &user),
            ("request_percentage", &address),
            ("controller_mutation_rate", &address),
            ("bytes", &user),
        ] {
            assert_eq!(Key::check(name, of, 1.0), Err(EntityError::Key(name.to_owned())));
        }
        for name in ["request_percentage", "controller_mutation_rate"] {
            assert!(matches!(Key::check(name, &user, 1.0), Err(EntityError::NotServed(..))));
        }
        for value in [0.0, -1.0, 0.5, 1.5, f64::NAN, f64::INFINITY, 1e300] {
            assert!(
                matches!(Key::check("producer_byte_rate", &user, value), Err(EntityError::Value { .. })),
                "{value}"
            );
        }
        assert!(Key::check("connection_creation_rate", &address, 3e9).is_err());
    }

    #[test]
    fn a_filter_finds_by_name_default_or_type_and_strictly_nothing_else() {
        let all: Vec<Entity> = [
            &[("user", Some("u"))][..],
            &[("user", None)],
            &[("user", Some("u")), ("client-id", Some("c"))],
            &[("user", Some("u")), ("client-id", None)],
            &[("client-id", Some("c"))],
            &[("ip", Some("10.0.0.1"))],
            &[("ip", None)],
        ]
        .iter()
        .map(|parts| entity(parts).unwrap())
        .collect();
        let found = |filter: Filter| -> Vec<usize> { (0..all.len()).filter(|at| filter.finds(&all[*at])).collect() };
        let exact = |name: &str| Some(Match::Exact(name.to_owned()));
        let user = |user, is_strict| Filter { user, is_strict, ..Filter::default() };
        assert_eq!(found(Filter::default()), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(found(Filter { is_strict: true, ..Filter::default() }), [0; 0]);
        assert_eq!(found(user(exact("u"), false)), [0, 2, 3]);
        assert_eq!(found(user(exact("u"), true)), [0]);
        assert_eq!(found(user(Some(Match::Default), false)), [1]);
        assert_eq!(found(user(Some(Match::Any), false)), [0, 1, 2, 3]);
        assert_eq!(found(user(Some(Match::Any), true)), [0, 1]);
        let both = |client_id| Filter { user: exact("u"), client_id, ..Filter::default() };
        assert_eq!(found(both(Some(Match::Any))), [2, 3]);
        assert_eq!(found(both(exact("c"))), [2]);
        let ip = |ip| Filter { ip, ..Filter::default() };
        assert_eq!(found(ip(exact("::ffff:10.0.0.1"))), [5]);
        assert_eq!(found(ip(Some(Match::Any))), [5, 6]);
        assert_eq!(found(ip(exact("nowhere"))), [0; 0]);
    }
}
