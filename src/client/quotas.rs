//! Quotas, as [`KafkaClient`] asks for them and sets them: Kafka's own requests, so any broker answers.

use super::kafka::{KafkaClient, check};
use anyhow::{Context, Result};
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, ApiKey, DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
};
use kafka_protocol::protocol::StrBytes;
use std::time::Duration;

const DESCRIBE: i16 = 1;
const ALTER: i16 = 1;

/// Whom a quota is for: types with names, `None` for the type's default.
pub type QuotaEntity = Vec<(String, Option<String>)>;

/// The quotas of one entity.
#[derive(Clone, Debug)]
pub struct QuotaEntry {
    pub entity: QuotaEntity,
    pub values: Vec<(String, f64)>,
}

impl KafkaClient {
    /// All quotas there are.
    ///
    /// # Errors
    /// What the door says; the connection broke.
    pub fn quotas(&mut self) -> Result<Vec<QuotaEntry>> {
        let request = DescribeClientQuotasRequest::default();
        let answer: DescribeClientQuotasResponse =
            self.call(ApiKey::DescribeClientQuotas, DESCRIBE, &request, Duration::ZERO)?;
        check(answer.error_code, || "cannot list the quotas".to_owned())?;
        let entry = |entry: kafka_protocol::messages::describe_client_quotas_response::EntryData| {
            let part = |name: Option<StrBytes>| name.map(|name| name.to_string());
            QuotaEntry {
                entity: entry
                    .entity
                    .into_iter()
                    .map(|one| (one.entity_type.to_string(), part(one.entity_name)))
                    .collect(),
                values: entry.values.into_iter().map(|one| (one.key.to_string(), one.value)).collect(),
            }
        };
        Ok(answer.entries.unwrap_or_default().into_iter().map(entry).collect())
    }

    /// Sets (`Some`) quotas of an entity or takes them away (`None`). They hold when it returns.
    ///
    /// # Errors
    /// What the door says of the entity or a value; the connection broke.
    pub fn alter_quotas(&mut self, entity: &QuotaEntity, values: &[(&str, Option<f64>)]) -> Result<()> {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        let part = |(kind, name): &(String, Option<String>)| {
            EntityData::default().with_entity_type(text(kind)).with_entity_name(name.as_deref().map(text))
        };
        let op = |(key, value): &(&str, Option<f64>)| {
            OpData::default().with_key(text(key)).with_value(value.unwrap_or_default()).with_remove(value.is_none())
        };
        let entry = EntryData::default()
            .with_entity(entity.iter().map(part).collect())
            .with_ops(values.iter().map(op).collect());
        let request = AlterClientQuotasRequest::default().with_entries(vec![entry]);
        let answer: AlterClientQuotasResponse =
            self.call(ApiKey::AlterClientQuotas, ALTER, &request, Duration::ZERO)?;
        let told = answer.entries.first().context("the door says nothing of the entity")?;
        check(told.error_code, || {
            format!("cannot change the quotas: {}", told.error_message.as_deref().unwrap_or("no reason is told"))
        })
    }
}
