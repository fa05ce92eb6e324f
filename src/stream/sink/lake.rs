//! What stands in `<folder>/_inrush/` beside the staged files: `owner.json`, whose folder it is, and `schema.json`, which columns its files
//! have had. A folder belongs to one pipeline; its columns only grow.

use super::super::checkpoint::replace;
use arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// `owner.json`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::stream) struct Owner {
    pub(in crate::stream) cluster: Uuid,
    pub(in crate::stream) pipeline: Uuid,
    pub(in crate::stream) name: String,
    /// Of its newest files: who adopts the folder takes a higher one, so that names never meet.
    pub(in crate::stream) generation: u64,
}

/// Whose a folder is for a pipeline that wants to write there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stream) enum Claim {
    /// Ours; the generation of its newest files.
    Ours(u64),
    Nobodys,
    /// Another's, and the file says `adopt`; the other one's generation.
    Adopted(u64),
}

/// `schema.json`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Versions {
    versions: Vec<Version>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    version: u32,
    columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Column {
    name: String,
    /// Arrow's name of the type.
    r#type: String,
}

fn owner_path(folder: &Path) -> PathBuf {
    folder.join("_inrush").join("owner.json")
}

fn schema_path(folder: &Path) -> PathBuf {
    folder.join("_inrush").join("schema.json")
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            let message = format!("cannot understand {}: {error}; put a copy of it back", path.display());
            io::Error::new(io::ErrorKind::InvalidData, message)
        }),
    }
}

/// Whose the folder is; writes nothing.
///
/// # Errors
/// `AlreadyExists` if it is another pipeline's and `adopt` does not name that one; the system's.
pub(in crate::stream) fn whose(folder: &Path, own: &Owner, adopt: Option<&str>) -> io::Result<Claim> {
    let Some(owner) = read::<Owner>(&owner_path(folder))? else { return Ok(Claim::Nobodys) };
    if (owner.cluster, owner.pipeline) == (own.cluster, own.pipeline) {
        return Ok(Claim::Ours(owner.generation));
    }
    if adopt == Some(owner.name.as_str()) {
        return Ok(Claim::Adopted(owner.generation));
    }
    let (name, pipeline) = (owner.name, owner.pipeline);
    let message = format!(
        "{} belongs to pipeline \"{name}\" ({pipeline} of cluster {}); choose another folder, or take it over with adopt = \"{name}\"",
        folder.display(),
        owner.cluster
    );
    Err(io::Error::new(io::ErrorKind::AlreadyExists, message))
}

/// Writes `owner.json`, unless it says so already. Durable when it returns.
///
/// # Errors
/// The system's.
pub(in crate::stream) fn claim(folder: &Path, own: &Owner) -> io::Result<()> {
    let path = owner_path(folder);
    if read::<Owner>(&path)?.as_ref() == Some(own) {
        return Ok(());
    }
    replace(&path, serde_json::to_string(own)?.as_bytes())
}

/// Whether files with this schema may go into the folder; writes nothing.
///
/// # Errors
/// `InvalidInput` says which column has changed and the two ways out; the system's.
pub(in crate::stream) fn check_schema(folder: &Path, schema: &Schema) -> io::Result<()> {
    let known: Versions = read(&schema_path(folder))?.unwrap_or_default();
    match known.versions.last() {
        Some(last) => fits(last, schema, folder),
        None => Ok(()),
    }
}

/// The version of this schema in the folder, noted there first if it is a new one.
///
/// # Errors
/// As [`check_schema`].
pub(in crate::stream) fn schema_version(folder: &Path, schema: &Schema) -> io::Result<u32> {
    let mut known: Versions = read(&schema_path(folder))?.unwrap_or_default();
    let column = |field: &arrow::datatypes::FieldRef| Column {
        name: field.name().clone(),
        r#type: field.data_type().to_string(),
    };
    let columns: Vec<Column> = schema.fields().iter().map(column).collect();
    let mut version = 1;
    if let Some(last) = known.versions.last() {
        fits(last, schema, folder)?;
        if last.columns.len() == columns.len() {
            return Ok(last.version);
        }
        version = last.version + 1;
    }
    known.versions.push(Version { version, columns });
    replace(&schema_path(folder), serde_json::to_string_pretty(&known)?.as_bytes())?;
    Ok(version)
}

/// Every column of the last version must still be there, as what it was; what is new can be null.
fn fits(last: &Version, schema: &Schema, folder: &Path) -> io::Result<()> {
    let mut changed = Vec::new();
    for old in &last.columns {
        match schema.field_with_name(&old.name) {
            Ok(new) if new.data_type().to_string() == old.r#type => {}
            Ok(new) => changed.push(format!("{} was {} and is now {}", old.name, old.r#type, new.data_type())),
            Err(_) => changed.push(format!(
                "{} is gone (to leave it empty, select arrow_cast(NULL, '{}') as {})",
                old.name, old.r#type, old.name
            )),
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the columns of {} may only grow, and {}; give the column its old name and type, or write into a new folder",
        folder.display(),
        changed.join("; ")
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, TimeUnit};

    fn owner(name: &str) -> Owner {
        Owner { cluster: Uuid::new_v4(), pipeline: Uuid::new_v4(), name: name.to_owned(), generation: 3 }
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("_inrush")).unwrap();
        folder
    }

    #[test]
    fn a_folder_belongs_to_one_pipeline_of_one_cluster() {
        let folder = folder();
        let (a, b) = (owner("a"), owner("b"));
        assert_eq!(whose(folder.path(), &a, None).unwrap(), Claim::Nobodys);
        claim(folder.path(), &a).unwrap();
        assert_eq!(whose(folder.path(), &a, None).unwrap(), Claim::Ours(3));
        let elsewhere = Owner { cluster: Uuid::new_v4(), ..a.clone() };
        assert!(whose(folder.path(), &elsewhere, None).is_err());
        assert!(whose(folder.path(), &b, None).unwrap_err().to_string().contains("adopt = \"a\""));
        assert_eq!(whose(folder.path(), &b, Some("a")).unwrap(), Claim::Adopted(3));
        claim(folder.path(), &b).unwrap();
        assert_eq!(whose(folder.path(), &b, Some("a")).unwrap(), Claim::Ours(3));
    }

    #[test]
    fn columns_only_grow() {
        let folder = folder();
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = |fields: &[(&str, DataType)]| {
            Schema::new(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>())
        };
        let first = schema(&[("a", DataType::Int64), ("t", time.clone())]);
        assert_eq!(schema_version(folder.path(), &first).unwrap(), 1);
        assert_eq!(schema_version(folder.path(), &first).unwrap(), 1);
        let moved = schema(&[("t", time.clone()), ("a", DataType::Int64)]);
        assert_eq!(schema_version(folder.path(), &moved).unwrap(), 1, "the order of columns means nothing");
        let grown = schema(&[("a", DataType::Int64), ("b", DataType::Utf8), ("t", time.clone())]);
        check_schema(folder.path(), &grown).unwrap();
        assert_eq!(schema_version(folder.path(), &grown).unwrap(), 2);
        let gone = schema(&[("a", DataType::Int64), ("t", time.clone())]);
        let error = schema_version(folder.path(), &gone).unwrap_err().to_string();
        assert!(error.contains("arrow_cast(NULL, 'Utf8') as b") && error.contains("new folder"), "{error}");
        let retyped = schema(&[("a", DataType::Utf8), ("b", DataType::Utf8), ("t", time)]);
        assert!(check_schema(folder.path(), &retyped).unwrap_err().to_string().contains("a was Int64"));
    }
}
