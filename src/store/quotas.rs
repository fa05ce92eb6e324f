//! Quotas as the catalog keeps them: whom they are for and their values, as plain data. What names and values mean is for `access/` to
//! say, which checks them before they come here and holds clients to them.

use super::catalog::{self, CatalogFile, Change, FORMAT_WITH_QUOTAS, Meta};
use super::core::Core;
use super::topic::save;
use super::{Store, TopicError, open};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use tracing::info;

/// Entities that may have quotas at a time: they are kept in memory, and anybody who may set quotas could name more.
pub const QUOTA_ENTITIES_MAX: usize = 10_000;

/// Whom a quota is for: a name for each of its types ("user", "client-id", "ip"); `None` is who has no quota of his own.
pub type QuotaEntity = BTreeMap<String, Option<String>>;
/// Values by Kafka's names.
pub type QuotaValues = BTreeMap<String, f64>;

/// All quotas of one entity; none, if there are no values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuotaRecord {
    pub entity: QuotaEntity,
    pub values: QuotaValues,
}

/// All quotas at a time.
#[derive(Clone, Debug)]
pub struct QuotaSnapshot {
    /// A newer one's is greater.
    pub revision: u64,
    pub records: Vec<QuotaRecord>,
}

/// What is to be set (`Some`) and taken away (`None`) of an entity's quotas.
#[derive(Clone, Debug)]
pub struct QuotaChange {
    pub entity: QuotaEntity,
    pub values: Vec<(String, Option<f64>)>,
}

impl Store {
    /// All quotas. May wait for a change of the catalog that is being written.
    pub fn quotas(&self) -> QuotaSnapshot {
        snapshot(&self.core.catalog())
    }

    /// Changes quotas, all or none; gives what holds then. Durable in the catalog when it returns.
    ///
    /// # Errors
    /// [`TopicError::Invalid`]: more than [`QUOTA_ENTITIES_MAX`] entities would have some; the disk's.
    pub async fn alter_quotas(&self, changes: Vec<QuotaChange>) -> Result<QuotaSnapshot, TopicError> {
        self.change(move |core| alter(core, changes)).await
    }
}

fn snapshot(catalog: &CatalogFile) -> QuotaSnapshot {
    let record =
        |(entity, values): (&QuotaEntity, &QuotaValues)| QuotaRecord { entity: entity.clone(), values: values.clone() };
    QuotaSnapshot { revision: catalog.revision(), records: catalog.get().quotas.iter().map(record).collect() }
}

fn alter(core: &Arc<Core>, changes: Vec<QuotaChange>) -> Result<QuotaSnapshot, TopicError> {
    let mut catalog = core.catalog();
    let records = merged(&catalog.get().quotas, changes);
    if records.is_empty() {
        return Ok(snapshot(&catalog));
    }
    let known = &catalog.get().quotas;
    let new = records.iter().filter(|record| !record.values.is_empty() && !known.contains_key(&record.entity)).count();
    if new > 0 && known.len() + new > QUOTA_ENTITIES_MAX {
        return Err(TopicError::Invalid(format!(
            "{} entities have quotas and {new} more are too many: {QUOTA_ENTITIES_MAX} may have some",
            known.len()
        )));
    }
    let count = records.len();
    raise_format(core, &catalog)?;
    save(core, &mut catalog, Change::Quotas(records))?;
    info!(entities = count, "quotas changed");
    Ok(snapshot(&catalog))
}

/// The quotas of each entity that a change touches, as they are to be; those that stay as they are left out.
fn merged(known: &BTreeMap<QuotaEntity, QuotaValues>, changes: Vec<QuotaChange>) -> Vec<QuotaRecord> {
    let mut next: BTreeMap<QuotaEntity, QuotaValues> = BTreeMap::new();
    for QuotaChange { entity, values } in changes {
        let now = next.entry(entity).or_insert_with_key(|entity| known.get(entity).cloned().unwrap_or_default());
        for (key, value) in values {
            match value {
                Some(value) => drop(now.insert(key, value)),
                None => drop(now.remove(&key)),
            }
        }
    }
    let is_new = |(entity, values): &(QuotaEntity, QuotaValues)| match known.get(entity) {
        Some(known) => known != values,
        None => !values.is_empty(),
    };
    next.into_iter().filter(is_new).map(|(entity, values)| QuotaRecord { entity, values }).collect()
}

/// Gives the folder the number that keeps programs out which do not know quotas, before the first of them is written. Whoever holds the
/// catalog changes the meta file.
fn raise_format(core: &Core, _held: &CatalogFile) -> Result<(), TopicError> {
    let mut meta = core.meta.lock().unwrap_or_else(PoisonError::into_inner);
    if meta.format >= FORMAT_WITH_QUOTAS {
        return Ok(());
    }
    if let Some(cause) = core.poisoned() {
        return Err(TopicError::Io(format!("the data folder takes no writes: {cause}")));
    }
    let next = Meta { format: FORMAT_WITH_QUOTAS, ..meta.clone() };
    let path = core.options.data.join(open::META);
    let saved = core.with_reserve(|| catalog::save_meta(core.disk.as_ref(), &path, &next));
    saved.map_err(|error| TopicError::Io(error.to_string()))?;
    info!(format = FORMAT_WITH_QUOTAS, "the data folder has quotas now: versions that do not know them refuse it");
    *meta = next;
    Ok(())
}
