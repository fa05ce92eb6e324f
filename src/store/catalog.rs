//! The two small files of a data folder: `inrush.meta` (format, cluster, node, epoch) and `catalog` (topics, producer ids).
//!
//! Each is two lines: the CRC-32C of the second in 8 hex digits, then JSON. They are replaced as a whole.

use super::Error;
use crate::disk::Disk;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;
use uuid::Uuid;

/// The format that this version writes.
pub(super) const FORMAT: u32 = 1;
/// Producer ids are given out of blocks that stand in the catalog before the first of them is used.
pub(super) const PRODUCER_ID_BLOCK: i64 = 1_000;
/// Neither file is larger: 100,000 topics with a dozen settings each.
const FILE_SIZE_MAX: u64 = 256 << 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) format: u32,
    pub(super) cluster_id: Uuid,
    pub(super) node_id: i32,
    /// Of the last start.
    pub(super) leader_epoch: i32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Catalog {
    pub(super) topics: Vec<TopicRecord>,
    /// All producer ids below are or were in use.
    pub(super) producer_id_limit: i64,
    /// The next one to give out; not written, a start begins at the limit.
    #[serde(skip)]
    pub(super) producer_id_next: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TopicRecord {
    pub(super) name: String,
    pub(super) id: Uuid,
    pub(super) partitions: i32,
    pub(super) config: Vec<(String, String)>,
}

/// Reads such a file; `None` if there is none.
pub(super) fn load<T: DeserializeOwned>(disk: &dyn Disk, path: &Path) -> Result<Option<T>, Error> {
    let damaged = |reason: String| Error::Damaged { path: path.to_owned(), reason };
    let bytes = match disk.read_whole(path, FILE_SIZE_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Io { what: "read", path: path.to_owned(), source }),
    };
    let text = String::from_utf8(bytes).map_err(|error| damaged(error.to_string()))?;
    let (crc, json) = text.split_once('\n').ok_or_else(|| damaged("it is cut off".to_owned()))?;
    if u32::from_str_radix(crc, 16) != Ok(crc32c::crc32c(json.as_bytes())) {
        return Err(damaged("its checksum is wrong".to_owned()));
    }
    serde_json::from_str(json).map(Some).map_err(|error| damaged(error.to_string()))
}

/// Replaces such a file; durable when it returns.
pub(super) fn save<T: Serialize>(disk: &dyn Disk, path: &Path, value: &T) -> std::io::Result<()> {
    let json = serde_json::to_string(value)?;
    disk.replace(path, format!("{:08x}\n{json}", crc32c::crc32c(json.as_bytes())).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::Sim;

    #[test]
    fn a_flipped_bit_is_damage_and_not_another_catalog() {
        let disk = Sim::new(1);
        let path = Path::new("/d/catalog");
        disk.create_folder(Path::new("/d")).unwrap();
        assert!(load::<Catalog>(&disk, path).unwrap().is_none());
        let catalog = Catalog { producer_id_limit: 3_000, ..Catalog::default() };
        save(&disk, path, &catalog).unwrap();
        assert_eq!(load::<Catalog>(&disk, path).unwrap().unwrap().producer_id_limit, 3_000);
        disk.flip(path, 8 * 30);
        assert!(matches!(load::<Catalog>(&disk, path), Err(Error::Damaged { .. })));
    }
}
