//! What stands in `_inrush/` of an output: `owner.json`, whose folder it is, and `schema.json`, which columns its files
//! have had. A folder belongs to one pipeline; its columns only grow.

use super::bucket::Note;
use super::place::Place;
use arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};
use std::io;
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

const OWNER: &str = "owner.json";
const SCHEMA: &str = "schema.json";

fn read<T: serde::de::DeserializeOwned>(place: &Place, name: &str) -> io::Result<Option<(T, Note)>> {
    let Some(note) = place.note(name)? else { return Ok(None) };
    let read = serde_json::from_slice(&note.bytes).map_err(|error| {
        let message = format!("cannot understand {place}/_inrush/{name}: {error}; put a copy of it back");
        io::Error::new(io::ErrorKind::InvalidData, message)
    });
    read.map(|value| Some((value, note)))
}

/// Whose the folder is; writes nothing.
///
/// # Errors
/// `AlreadyExists` if it is another pipeline's and `adopt` does not name that one; the system's.
pub(in crate::stream) fn whose(place: &Place, own: &Owner, adopt: Option<&str>) -> io::Result<Claim> {
    let Some((owner, _)) = read::<Owner>(place, OWNER)? else { return Ok(Claim::Nobodys) };
    if (owner.cluster, owner.pipeline) == (own.cluster, own.pipeline) {
        return Ok(Claim::Ours(owner.generation));
    }
    if adopt == Some(owner.name.as_str()) {
        return Ok(Claim::Adopted(owner.generation));
    }
    let (name, pipeline) = (owner.name, owner.pipeline);
    if (owner.cluster, name.as_str()) == (own.cluster, own.name.as_str()) {
        let message = format!(
            "{place} belongs to an earlier pipeline of this name, whose checkpoint is gone: put the checkpoint back, or say where to begin with inrush pipeline reset {name} --to … (what is read again is there twice); or choose another folder, or take this one over with adopt = \"{name}\""
        );
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    let message = format!(
        "{place} belongs to pipeline \"{name}\" ({pipeline} of cluster {}); choose another folder, or take it over with adopt = \"{name}\" (then what is read again is there twice: first inrush pipeline reset this one to where \"{name}\" stood)",
        owner.cluster
    );
    Err(io::Error::new(io::ErrorKind::AlreadyExists, message))
}

/// Writes `owner.json`, unless it says so already. Durable when it returns.
///
/// # Errors
/// `AlreadyExists` if another was faster; the system's.
pub(in crate::stream) fn claim(place: &Place, own: &Owner) -> io::Result<()> {
    let known = read::<Owner>(place, OWNER)?;
    if known.as_ref().is_some_and(|(owner, _)| owner == own) {
        return Ok(());
    }
    let claimed = place.set_note(OWNER, serde_json::to_string(own)?.into_bytes(), known.as_ref().map(|(_, note)| note));
    claimed.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            io::Error::new(error.kind(), format!("another pipeline claims {place} at the same moment"))
        }
        _ => error,
    })
}

/// Whether files with this schema may go into the folder; writes nothing.
///
/// # Errors
/// `InvalidInput` says which column has changed and the two ways out; the system's.
pub(in crate::stream) fn check_schema(place: &Place, schema: &Schema) -> io::Result<()> {
    let known = read::<Versions>(place, SCHEMA)?;
    match known.as_ref().and_then(|(known, _)| known.versions.last()) {
        Some(last) => fits(last, schema, place),
        None => Ok(()),
    }
}

/// As [`check_schema`]; files of an older version may still come too. What is replayed is of the text that it began with, and another one
/// may have given the folder more columns meanwhile.
///
/// # Errors
/// As [`check_schema`].
pub(in crate::stream) fn check_replayed(place: &Place, schema: &Schema) -> io::Result<()> {
    let known = read::<Versions>(place, SCHEMA)?;
    match known {
        Some((known, _)) if known.versions.iter().any(|version| version.is(schema)) => Ok(()),
        _ => check_schema(place, schema),
    }
}

/// The version of this schema in the folder, noted there first if it is a new one. An older one stays as it is.
///
/// # Errors
/// As [`check_schema`].
pub(in crate::stream) fn schema_version(place: &Place, schema: &Schema) -> io::Result<u32> {
    let (mut known, before) =
        read::<Versions>(place, SCHEMA)?.map_or_else(Default::default, |(known, note)| (known, Some(note)));
    let column = |field: &arrow::datatypes::FieldRef| Column {
        name: field.name().clone(),
        r#type: field.data_type().to_string(),
    };
    let columns: Vec<Column> = schema.fields().iter().map(column).collect();
    let mut version = 1;
    if let Some(same) = known.versions.iter().rev().find(|version| version.is(schema)) {
        return Ok(same.version);
    }
    if let Some(last) = known.versions.last() {
        fits(last, schema, place)?;
        version = last.version + 1;
    }
    known.versions.push(Version { version, columns });
    place.set_note(SCHEMA, serde_json::to_string_pretty(&known)?.into_bytes(), before.as_ref())?;
    Ok(version)
}

impl Version {
    /// Whether files with this schema are of this version; the order of columns means nothing.
    fn is(&self, schema: &Schema) -> bool {
        let has = |column: &Column| {
            schema.field_with_name(&column.name).is_ok_and(|field| field.data_type().to_string() == column.r#type)
        };
        self.columns.len() == schema.fields().len() && self.columns.iter().all(has)
    }
}

/// Every column of the last version must still be there, as what it was; what is new can be null.
fn fits(last: &Version, schema: &Schema, place: &Place) -> io::Result<()> {
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
        "the columns of {place} may only grow, and {}; give the column its old name and type, or write into a new folder",
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

    fn folder() -> (tempfile::TempDir, Place) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("_inrush")).unwrap();
        let place = Place::Folder(folder.path().to_owned());
        (folder, place)
    }

    #[test]
    fn a_folder_belongs_to_one_pipeline_of_one_cluster() {
        let (_folder, place) = folder();
        let (a, b) = (owner("a"), owner("b"));
        assert_eq!(whose(&place, &a, None).unwrap(), Claim::Nobodys);
        claim(&place, &a).unwrap();
        assert_eq!(whose(&place, &a, None).unwrap(), Claim::Ours(3));
        let elsewhere = Owner { cluster: Uuid::new_v4(), ..a.clone() };
        assert!(whose(&place, &elsewhere, None).is_err());
        assert!(whose(&place, &b, None).unwrap_err().to_string().contains("adopt = \"a\""));
        assert_eq!(whose(&place, &b, Some("a")).unwrap(), Claim::Adopted(3));
        claim(&place, &b).unwrap();
        assert_eq!(whose(&place, &b, Some("a")).unwrap(), Claim::Ours(3));
    }

    #[test]
    fn of_two_who_claim_a_folder_at_the_same_moment_one_has_it() {
        let (folder, place) = folder();
        let (a, b) = (owner("a"), owner("b"));
        assert_eq!(whose(&place, &b, None).unwrap(), Claim::Nobodys);
        claim(&place, &a).unwrap();
        // What b does who saw none.
        let late = place.set_note(OWNER, serde_json::to_vec(&b).unwrap(), None);
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(whose(&place, &a, None).unwrap(), Claim::Ours(3));
        let left: Vec<_> = std::fs::read_dir(folder.path().join("_inrush")).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn columns_only_grow() {
        let (_folder, place) = folder();
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = |fields: &[(&str, DataType)]| {
            Schema::new(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>())
        };
        let first = schema(&[("a", DataType::Int64), ("t", time.clone())]);
        assert_eq!(schema_version(&place, &first).unwrap(), 1);
        assert_eq!(schema_version(&place, &first).unwrap(), 1);
        let moved = schema(&[("t", time.clone()), ("a", DataType::Int64)]);
        assert_eq!(schema_version(&place, &moved).unwrap(), 1, "the order of columns means nothing");
        let grown = schema(&[("a", DataType::Int64), ("b", DataType::Utf8), ("t", time.clone())]);
        check_schema(&place, &grown).unwrap();
        assert_eq!(schema_version(&place, &grown).unwrap(), 2);
        let gone = schema(&[("a", DataType::Int64), ("t", time.clone())]);
        let error = check_schema(&place, &gone).unwrap_err().to_string();
        assert!(error.contains("arrow_cast(NULL, 'Utf8') as b") && error.contains("new folder"), "{error}");
        let retyped = schema(&[("a", DataType::Utf8), ("b", DataType::Utf8), ("t", time)]);
        assert!(check_schema(&place, &retyped).unwrap_err().to_string().contains("a was Int64"));
        assert!(check_replayed(&place, &retyped).is_err() && schema_version(&place, &retyped).is_err());
        // What was begun before the folder grew may still write what it was.
        check_replayed(&place, &gone).unwrap();
        assert_eq!(schema_version(&place, &gone).unwrap(), 1);
        assert_eq!(schema_version(&place, &grown).unwrap(), 2);
    }
}
