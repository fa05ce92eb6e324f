//! [`Table`]: all quotas, and which of them holds for a client. Never changed; a change makes another.
//!
//! Kafka's order for users and client ids (`ClientQuotaManager`): the first of these entries that has the key holds, and who shares
//! what it allows is told by the names of that entry, defaults standing for the client's own:
//!
//! | | entry | shared by |
//! |---|---|---|
//! | 1 | user, client id | connections of the user with the client id |
//! | 2 | user, default client id | the same |
//! | 3 | user | all of the user |
//! | 4 | default user, client id | of the user with the client id |
//! | 5 | default user, default client id | the same |
//! | 6 | default user | all of the user |
//! | 7 | client id | all with the client id |
//! | 8 | default client id | the same |
//!
//! An address has its own entry or the default, beside all that.

use super::entity::{Entity, Key, Name};
use crate::store::QuotaRecord;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

#[derive(Debug, Default)]
pub(super) struct Table {
    entities: BTreeMap<Entity, Values>,
    clients: Level<Level<Values>>,
    addresses: HashMap<IpAddr, Values>,
    default_address: Values,
    /// Keys that any entry has, as bits.
    keys: u8,
}

/// What an entity may do, a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Values {
    rates: [Option<f64>; Key::ALL.len()],
}

/// What is said of one type of names.
#[derive(Debug)]
struct Level<T> {
    named: HashMap<String, T>,
    default: Option<T>,
    /// The type is not named at all.
    absent: Option<T>,
}

/// The entry that holds for a client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limit<'a> {
    pub(super) rate: f64,
    /// Who shares it: these two, where they are there.
    pub(super) user: Option<&'a str>,
    pub(super) client_id: Option<&'a str>,
    /// Which of the eight levels, from 0: with the names of the entry, where they are not defaults, it tells entries apart.
    pub(super) level: u8,
}

impl<T> Default for Level<T> {
    fn default() -> Level<T> {
        Level { named: HashMap::new(), default: None, absent: None }
    }
}

impl<T> Level<T> {
    /// Most specific first.
    fn each(&self, name: &str) -> [Option<&T>; 3] {
        [self.named.get(name), self.default.as_ref(), self.absent.as_ref()]
    }
}

impl<T: Default> Level<T> {
    fn place(&mut self, name: Option<&Name<String>>) -> &mut T {
        match name {
            Some(Name::Is(name)) => self.named.entry(name.clone()).or_default(),
            Some(Name::Default) => self.default.get_or_insert_default(),
            None => self.absent.get_or_insert_default(),
        }
    }
}

impl Values {
    pub(super) fn get(&self, key: Key) -> Option<f64> {
        self.rates[key as usize]
    }

    /// Those that are there.
    pub(super) fn list(&self) -> Vec<(Key, f64)> {
        Key::ALL.into_iter().filter_map(|key| Some((key, self.get(key)?))).collect()
    }
}

impl Table {
    /// The table of what the catalog keeps. Entries that this version does not know are told by `passed_over` and left out.
    pub(super) fn new(records: &[QuotaRecord], mut passed_over: impl FnMut(&QuotaRecord)) -> Table {
        let mut table = Table::default();
        for record in records {
            let parts = record.entity.iter().map(|(kind, name)| (kind.as_str(), name.as_deref()));
            let mut values = Values::default();
            let mut is_known = true;
            for (name, value) in &record.values {
                match Key::named(name) {
                    Some(key) if *value >= 1.0 => values.rates[key as usize] = Some(*value),
                    _ => is_known = false,
                }
            }
            match Entity::new(parts) {
                Ok(entity) => table.insert(entity, values),
                Err(_) => is_known = false,
            }
            if !is_known {
                passed_over(record);
            }
        }
        table
    }

    fn insert(&mut self, entity: Entity, values: Values) {
        for (key, _) in values.list() {
            self.keys |= 1 << key as u8;
        }
        match &entity {
            Entity::Client { user, client_id } => {
                *self.clients.place(user.as_ref()).place(client_id.as_ref()) = values;
            }
            Entity::Address(Name::Is(address)) => drop(self.addresses.insert(*address, values)),
            Entity::Address(Name::Default) => self.default_address = values,
        }
        self.entities.insert(entity, values);
    }

    /// Which keys any entry has, as bits: bit N for the key of number N.
    pub(super) fn keys(&self) -> u8 {
        self.keys
    }

    /// All entries, in order.
    pub(super) fn entities(&self) -> impl Iterator<Item = (&Entity, &Values)> {
        self.entities.iter()
    }

    /// The entry that holds for a user's client.
    pub(super) fn of_client<'a>(&self, user: &'a str, client_id: &'a str, key: Key) -> Option<Limit<'a>> {
        for (at, of_user) in self.clients.each(user).into_iter().enumerate() {
            let Some(of_user) = of_user else { continue };
            for (then, values) in of_user.each(client_id).into_iter().enumerate() {
                if let Some(rate) = values.and_then(|values| values.get(key)) {
                    let user = (at < 2).then_some(user);
                    let client_id = (then < 2).then_some(client_id);
                    return Some(Limit { rate, user, client_id, level: (at * 3 + then) as u8 });
                }
            }
        }
        None
    }

    /// What an address may do, and whether by an entry of its own.
    pub(super) fn of_address(&self, address: IpAddr, key: Key) -> Option<(f64, bool)> {
        let own = self.addresses.get(&address).and_then(|values| values.get(key));
        own.map(|rate| (rate, true)).or_else(|| Some((self.default_address.get(key)?, false)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(parts: &[(&str, Option<&str>)], values: &[(&str, f64)]) -> QuotaRecord {
        QuotaRecord {
            entity: parts.iter().map(|(kind, name)| (kind.to_string(), name.map(str::to_owned))).collect(),
            values: values.iter().map(|(key, value)| (key.to_string(), *value)).collect(),
        }
    }

    fn table(records: &[QuotaRecord]) -> Table {
        Table::new(records, |record| panic!("{record:?} was passed over"))
    }

    #[test]
    fn the_first_of_kafkas_eight_levels_that_has_the_key_holds() {
        let (user, client) = (("user", Some("u")), ("client-id", Some("c")));
        let (any_user, any_client) = (("user", None), ("client-id", None));
        let levels: [&[(&str, Option<&str>)]; 8] = [
            &[user, client],
            &[user, any_client],
            &[user],
            &[any_user, client],
            &[any_user, any_client],
            &[any_user],
            &[client],
            &[any_client],
        ];
        let shared: [(Option<&str>, Option<&str>); 8] = [
            (Some("u"), Some("c")),
            (Some("u"), Some("c")),
            (Some("u"), None),
            (Some("u"), Some("c")),
            (Some("u"), Some("c")),
            (Some("u"), None),
            (None, Some("c")),
            (None, Some("c")),
        ];
        let key = Key::ProducerByteRate;
        // From the weakest up, each level wins over all below it, whose rates stay in the table.
        for first in (0..8).rev() {
            let records: Vec<_> =
                (first..8).map(|at| record(levels[at], &[("producer_byte_rate", (at + 1) as f64)])).collect();
            let limit = table(&records).of_client("u", "c", key).unwrap();
            assert_eq!(
                (limit.rate, limit.user, limit.client_id),
                ((first + 1) as f64, shared[first].0, shared[first].1)
            );
            assert_eq!(limit.level as usize, first);
        }
        // A level without the key is no level.
        let other = record(levels[0], &[("consumer_byte_rate", 5.0)]);
        let table = table(&[other, record(levels[7], &[("producer_byte_rate", 8.0)])]);
        assert_eq!(table.of_client("u", "c", key).unwrap().rate, 8.0);
        assert_eq!(table.of_client("u", "c", Key::ConsumerByteRate).unwrap().rate, 5.0);
        assert_eq!(table.of_client("u", "d", Key::ConsumerByteRate), None);
        assert_eq!(
            table.of_client("u", "d", key).unwrap().client_id,
            Some("d"),
            "each client id has the default for itself"
        );
    }

    #[test]
    fn an_address_has_its_own_entry_or_the_default() {
        let records = [
            record(&[("ip", Some("10.0.0.1"))], &[("connection_creation_rate", 3.0)]),
            record(&[("ip", None)], &[("connection_creation_rate", 9.0), ("producer_byte_rate", 100.0)]),
        ];
        let table = table(&records);
        let of = |address: &str, key| table.of_address(address.parse().unwrap(), key);
        assert_eq!(of("10.0.0.1", Key::ConnectionCreationRate), Some((3.0, true)));
        assert_eq!(of("10.0.0.2", Key::ConnectionCreationRate), Some((9.0, false)));
        assert_eq!(of("10.0.0.1", Key::ProducerByteRate), Some((100.0, false)));
        assert_eq!(of("10.0.0.1", Key::ConsumerByteRate), None);
        assert_eq!(table.keys(), 0b101);
    }

    #[test]
    fn an_entry_that_is_not_known_is_told_and_the_rest_holds() {
        let records = [
            record(&[("team", Some("x"))], &[("producer_byte_rate", 1.0)]),
            record(&[("user", Some("u"))], &[("request_percentage", 1.0), ("producer_byte_rate", 7.0)]),
        ];
        let mut told = 0;
        let table = Table::new(&records, |_| told += 1);
        assert_eq!((told, table.entities().count()), (2, 1));
        assert_eq!(table.of_client("u", "", Key::ProducerByteRate).unwrap().rate, 7.0);
    }
}
