//! `inrush quota list|set|remove`.

use super::Outcome;
use crate::access::Key;
use crate::client::{KafkaClient, QuotaEntity, QuotaEntry};
use crate::config::size;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

#[derive(Args)]
pub(super) struct Arguments {
    /// Address of the Kafka door, or of any Kafka broker.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9092", global = true)]
    kafka: String,
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// All quotas.
    List,
    /// Sets quotas of a user, a client id, both together, or an address. They hold at once.
    Set {
        #[command(flatten)]
        entity: Entity,
        /// Bytes that its producers may send a second, as 10MiB.
        #[arg(long, value_name = "SIZE", value_parser = size)]
        producer_byte_rate: Option<u64>,
        /// Bytes that its consumers may fetch a second.
        #[arg(long, value_name = "SIZE", value_parser = size)]
        consumer_byte_rate: Option<u64>,
        /// Connections that an address may open a second.
        #[arg(long, value_name = "COUNT")]
        connection_creation_rate: Option<u64>,
    },
    /// Takes all quotas of an entity away.
    Remove {
        #[command(flatten)]
        entity: Entity,
    },
}

#[derive(Args)]
struct Entity {
    /// Clients are ANONYMOUS until they can say who they are.
    #[arg(long, value_name = "NAME", conflicts_with = "default_user")]
    user: Option<String>,
    /// Each user that has no quota of its own.
    #[arg(long)]
    default_user: bool,
    #[arg(long, value_name = "NAME", conflicts_with = "default_client_id")]
    client_id: Option<String>,
    /// Each client id that has no quota of its own.
    #[arg(long)]
    default_client_id: bool,
    #[arg(long, value_name = "ADDRESS", conflicts_with = "default_ip")]
    ip: Option<String>,
    /// Each address that has no quota of its own.
    #[arg(long)]
    default_ip: bool,
}

impl Entity {
    fn parts(self) -> QuotaEntity {
        let types = [
            ("user", self.user, self.default_user),
            ("client-id", self.client_id, self.default_client_id),
            ("ip", self.ip, self.default_ip),
        ];
        let named = types.into_iter().filter(|(_, name, is_default)| name.is_some() || *is_default);
        named.map(|(kind, name, _)| (kind.to_owned(), name)).collect()
    }
}

pub(super) fn run(arguments: Arguments) -> Result<Outcome> {
    let mut client = KafkaClient::connect(&arguments.kafka)?;
    match arguments.action {
        Action::List => print(&client.quotas()?, arguments.json),
        Action::Set { entity, producer_byte_rate, consumer_byte_rate, connection_creation_rate } => {
            let values: Vec<(&str, Option<f64>)> = [
                (Key::ProducerByteRate, producer_byte_rate),
                (Key::ConsumerByteRate, consumer_byte_rate),
                (Key::ConnectionCreationRate, connection_creation_rate),
            ]
            .into_iter()
            .filter_map(|(key, value)| Some((key.name(), Some(value? as f64))))
            .collect();
            if values.is_empty() {
                bail!("nothing to set: name a rate, as --producer-byte-rate 10MiB");
            }
            client.alter_quotas(&entity.parts(), &values)?;
        }
        Action::Remove { entity } => {
            client.alter_quotas(&entity.parts(), &Key::ALL.map(|key| (key.name(), None)))?;
        }
    }
    Ok(Outcome::Done)
}

fn print(entries: &[QuotaEntry], is_json: bool) {
    if is_json {
        let entry = |entry: &QuotaEntry| {
            let entity: Map<String, Value> =
                entry.entity.iter().map(|(kind, name)| (kind.clone(), name.clone().into())).collect();
            let values: Map<String, Value> =
                entry.values.iter().map(|(key, value)| (key.clone(), (*value).into())).collect();
            json!({ "entity": entity, "quotas": values })
        };
        println!("{}", Value::from_iter(entries.iter().map(entry)));
        return;
    }
    for QuotaEntry { entity, values } in entries {
        let part = |(kind, name): &(String, Option<String>)| match name {
            Some(name) => format!("{kind} {name}"),
            None => format!("default {kind}"),
        };
        let entity = entity.iter().map(part).collect::<Vec<_>>().join(", ");
        let values = values.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
        println!("{entity:<50} {values}");
    }
}
