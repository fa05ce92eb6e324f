//! The small files of a data folder: `inrush.meta` (format, cluster, node, epoch, largest round) and `catalog` (topics, producer ids,
//! quotas).
//!
//! `inrush.meta` is two lines, the CRC-32C of the second in 8 hex digits and JSON, and is replaced as a whole. `catalog` is a journal
//! (see `log/journal.rs`) of changes with one writer, which stand in it before anybody sees them:
//!
//! | record | means |
//! |---|---|
//! | `{"topic": {...}}` | the topic with this id is new, or is now as told |
//! | `{"deleted": ID}` | the topic is gone |
//! | `{"producer_id_limit": N}` | all producer ids below N are or were in use |
//! | `{"quotas": [{"entity": {TYPE: NAME or null}, "values": {KEY: N}}]}` | these entities' quotas are now as told, all together; without values they are gone (format 3) |
//!
//! It is written whole at each start and when it has grown past its limit. A cut end is an append that was never answered; a damaged
//! record refuses the start, since nobody knows which topics it made or deleted.

use super::Error;
use super::quotas::{QuotaEntity, QuotaRecord, QuotaValues};
use crate::disk::{Disk, checked, with_checksum};
use crate::log::journal::{self, Journal, Rest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use uuid::Uuid;

/// The formats that this version reads and writes: a folder begins with the oldest and takes a newer number with the first record that
/// needs it (`docs/decisions/0007`). Format 1 was never frozen: it had other checkpoints and catalogs.
pub(super) const FORMAT: u32 = 3;
pub(super) const FORMAT_OLDEST: u32 = 2;
/// Whose catalog may hold quotas.
pub(super) const FORMAT_WITH_QUOTAS: u32 = 3;
/// Whose segments may have holes, which an older program would take for damage (`docs/decisions/0008`).
pub(super) const FORMAT_COMPACTED: u32 = 3;
/// Producer ids are given out of blocks that stand in the catalog before the first of them is used.
pub(super) const PRODUCER_ID_BLOCK: i64 = 1_000;
/// No small file is larger: 100,000 topics with a dozen settings each.
const FILE_SIZE_MAX: u64 = 256 << 20;
/// The catalog is written whole when its changes have grown to this, and to twice of what a whole one takes.
const CATALOG_GROWTH_MAX: u64 = 4 << 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) format: u32,
    pub(super) cluster_id: Uuid,
    pub(super) node_id: i32,
    /// Of the last start.
    pub(super) leader_epoch: i32,
    /// The largest round that a partition may have been written with; only ever grows. Recovery cuts within it.
    #[serde(default)]
    pub(super) round_bytes_max: u64,
}

/// What the catalog says, in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Catalog {
    pub(super) topics: Vec<TopicRecord>,
    /// All producer ids below are or were in use.
    pub(super) producer_id_limit: i64,
    /// Deleted topics whose files may still be there.
    pub(super) deleted: Vec<Uuid>,
    /// None of them empty.
    pub(super) quotas: BTreeMap<QuotaEntity, QuotaValues>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TopicRecord {
    pub(super) name: String,
    pub(super) id: Uuid,
    pub(super) partitions: i32,
    pub(super) config: Vec<(String, String)>,
}

/// One record of the catalog's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    Topic(TopicRecord),
    Deleted(Uuid),
    ProducerIdLimit(i64),
    Quotas(Vec<QuotaRecord>),
}

impl Catalog {
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Topic(record) => match self.topics.iter_mut().find(|known| known.id == record.id) {
                Some(known) => *known = record,
                None => self.topics.push(record),
            },
            Change::Deleted(id) => {
                self.topics.retain(|known| known.id != id);
                self.deleted.push(id);
            }
            Change::ProducerIdLimit(limit) => self.producer_id_limit = self.producer_id_limit.max(limit),
            Change::Quotas(records) => {
                for QuotaRecord { entity, values } in records {
                    match values.is_empty() {
                        true => drop(self.quotas.remove(&entity)),
                        false => drop(self.quotas.insert(entity, values)),
                    }
                }
            }
        }
    }

    pub(super) fn topic(&self, id: Uuid) -> Option<&TopicRecord> {
        self.topics.iter().find(|known| known.id == id)
    }

    fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let mut out = Vec::new();
        journal::push(&mut out, &Change::ProducerIdLimit(self.producer_id_limit))?;
        for record in &self.topics {
            journal::push(&mut out, &Change::Topic(record.clone()))?;
        }
        for id in &self.deleted {
            journal::push(&mut out, &Change::Deleted(*id))?;
        }
        for (entity, values) in &self.quotas {
            let record = QuotaRecord { entity: entity.clone(), values: values.clone() };
            journal::push(&mut out, &Change::Quotas(vec![record]))?;
        }
        Ok(out)
    }

    /// The changes of a file's whole records, in order.
    fn decode(bytes: &[u8]) -> Result<Catalog, String> {
        let mut catalog = Catalog::default();
        let (records, rest) = journal::records(bytes);
        for (number, json) in records.into_iter().enumerate() {
            catalog.apply(serde_json::from_str(json).map_err(|error| format!("line {}: {error}", number + 1))?);
        }
        match rest {
            Rest::Damaged(reason) => Err(reason),
            Rest::Torn | Rest::Nothing => Ok(catalog),
        }
    }

    /// Reads the catalog of a folder; an empty one if there is none.
    pub(super) fn load(disk: &dyn Disk, path: &Path) -> Result<Catalog, Error> {
        match read(disk, path)? {
            Some(bytes) => Catalog::decode(&bytes).map_err(|reason| Error::Damaged { path: path.to_owned(), reason }),
            None => Ok(Catalog::default()),
        }
    }
}

/// The catalog with its file: held by who changes topics.
pub(super) struct CatalogFile {
    catalog: Catalog,
    journal: Journal,
    whole_size: u64,
    /// Counts this process's changes.
    revision: u64,
    /// The next producer id to give out; a start begins at the limit.
    producer_id_next: i64,
}

impl CatalogFile {
    /// Takes over the catalog that was read from `path` and writes it whole, without what a crash left at its end.
    pub(super) fn begin(disk: &dyn Disk, path: &Path, catalog: Catalog) -> io::Result<CatalogFile> {
        let mut journal = Journal::new(path.to_owned());
        let bytes = catalog.encode()?;
        journal.rewrite(disk, &bytes)?;
        let producer_id_next = catalog.producer_id_limit;
        Ok(CatalogFile { catalog, journal, whole_size: bytes.len() as u64, revision: 0, producer_id_next })
    }

    pub(super) fn get(&self) -> &Catalog {
        &self.catalog
    }

    /// Bytes of the file that are whole.
    pub(super) fn size(&self) -> u64 {
        self.journal.size().unwrap_or(self.whole_size)
    }

    /// Grows with each change: of two looks at the catalog, which one is newer.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Makes a change durable, then takes it over.
    ///
    /// # Errors
    /// The disk's. Whether a start finds the change is unknown then, but for `StorageFull`: it does not.
    pub(super) fn change(&mut self, disk: &dyn Disk, change: Change) -> io::Result<()> {
        let grown_max = self.whole_size * 2 + CATALOG_GROWTH_MAX;
        if self.journal.size().is_some_and(|size| size < grown_max) {
            let mut bytes = Vec::new();
            journal::push(&mut bytes, &change)?;
            self.journal.append(disk, &bytes)?;
            self.catalog.apply(change);
        } else {
            let mut next = self.catalog.clone();
            next.apply(change);
            let bytes = next.encode()?;
            self.journal.rewrite(disk, &bytes)?;
            self.whole_size = bytes.len() as u64;
            self.catalog = next;
        }
        self.revision += 1;
        Ok(())
    }

    /// The files of a deleted topic are gone: a later start need not look for them.
    pub(super) fn forget(&mut self, id: Uuid) {
        self.catalog.deleted.retain(|known| *known != id);
    }

    /// A producer id that was never given out; `None` if a block must be written first.
    pub(super) fn producer_id(&mut self) -> Option<i64> {
        let id = self.producer_id_next;
        (id < self.catalog.producer_id_limit).then(|| {
            self.producer_id_next += 1;
            id
        })
    }
}

/// Reads the meta file of a folder; `None` if there is none.
pub(super) fn load_meta(disk: &dyn Disk, path: &Path) -> Result<Option<Meta>, Error> {
    let Some(bytes) = read(disk, path)? else { return Ok(None) };
    let damaged = |reason: String| Error::Damaged { path: path.to_owned(), reason };
    decode_whole(&bytes).map(Some).map_err(damaged)
}

/// Replaces the meta file; durable when it returns.
pub(super) fn save_meta(disk: &dyn Disk, path: &Path, meta: &Meta) -> io::Result<()> {
    let json = serde_json::to_string(meta)?;
    disk.replace(path, with_checksum(&json).as_bytes())
}

fn decode_whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    serde_json::from_str(checked(text)?).map_err(|error| error.to_string())
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match disk.read_whole(path, FILE_SIZE_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { what: "read", path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::Sim;

    fn topic(n: u128) -> TopicRecord {
        let config = vec![("retention.ms".to_owned(), n.to_string())];
        TopicRecord { name: format!("t{n}"), id: Uuid::from_u128(n), partitions: 1, config }
    }

    fn quota(client: &str, rate: Option<f64>) -> QuotaRecord {
        QuotaRecord {
            entity: [("client-id".to_owned(), Some(client.to_owned())), ("user".to_owned(), None)].into(),
            values: rate.map(|rate| ("producer_byte_rate".to_owned(), rate)).into_iter().collect(),
        }
    }

    fn changes() -> Vec<Change> {
        vec![
            Change::Topic(topic(1)),
            Change::ProducerIdLimit(1_000),
            Change::Topic(topic(2)),
            Change::Topic(TopicRecord { partitions: 4, ..topic(1) }),
            Change::Deleted(Uuid::from_u128(2)),
            Change::ProducerIdLimit(2_000),
            Change::Quotas(vec![quota("a", Some(1.0)), quota("b", Some(2.5))]),
            Change::Quotas(vec![quota("a", None), quota("b", Some(3.0))]),
        ]
    }

    /// The file after all changes, with its size and its catalog after each.
    fn written() -> (Vec<u8>, Vec<(usize, Catalog)>) {
        let (disk, path) = (Sim::new(1), Path::new("/d/catalog"));
        disk.create_folder(Path::new("/d")).unwrap();
        let mut file = CatalogFile::begin(&disk, path, Catalog::default()).unwrap();
        let size = || disk.read_whole(path, 1 << 20).unwrap().len();
        let mut stages = vec![(size(), Catalog::default())];
        for change in changes() {
            file.change(&disk, change).unwrap();
            stages.push((size(), file.get().clone()));
        }
        (disk.read_whole(path, 1 << 20).unwrap(), stages)
    }

    #[test]
    fn a_catalog_that_is_cut_anywhere_is_that_of_its_last_whole_change() {
        let (bytes, stages) = written();
        for cut in stages[0].0..=bytes.len() {
            let expected = stages.iter().rfind(|(end, _)| *end <= cut).map(|(_, catalog)| catalog).unwrap();
            assert_eq!(&Catalog::decode(&bytes[..cut]).unwrap(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_is_damage_and_not_another_catalog() {
        let (bytes, stages) = written();
        for bit in (0..bytes.len() * 8).step_by(3) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match Catalog::decode(&flipped) {
                // Only the letter case of a checksum's digits may differ.
                Ok(catalog) => assert_eq!(catalog, stages.last().unwrap().1, "bit {bit}"),
                Err(reason) => assert!(reason.contains("checksum"), "bit {bit}: {reason}"),
            }
        }
        let (disk, path) = (Sim::new(1), Path::new("/d/meta"));
        disk.create_folder(Path::new("/d")).unwrap();
        let meta = Meta {
            format: FORMAT_OLDEST,
            cluster_id: Uuid::nil(),
            node_id: 1,
            leader_epoch: 2,
            round_bytes_max: 8 << 20,
        };
        save_meta(&disk, path, &meta).unwrap();
        assert_eq!(load_meta(&disk, path).unwrap().unwrap().leader_epoch, 2);
        disk.flip(path, 8 * 30);
        assert!(matches!(load_meta(&disk, path), Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_start_drops_a_torn_end_and_goes_on_behind_it() {
        let (bytes, stages) = written();
        let (disk, path) = (Sim::new(1), Path::new("/d/catalog"));
        disk.create_folder(Path::new("/d")).unwrap();
        disk.replace(path, &bytes[..bytes.len() - 3]).unwrap();
        let mut file = CatalogFile::begin(&disk, path, Catalog::load(&disk, path).unwrap()).unwrap();
        assert_eq!(file.get(), &stages[stages.len() - 2].1);
        file.change(&disk, Change::Topic(topic(9))).unwrap();
        assert_eq!(&Catalog::load(&disk, path).unwrap(), file.get());
        assert_eq!(file.get().quotas.len(), 2, "the change of quotas that was cut off never was");
        assert!(file.get().topic(Uuid::from_u128(9)).is_some());
    }
}
