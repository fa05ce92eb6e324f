//! Bytes of a column as files that are named by their content, beside the rows that point to them: pictures.
//!
//! `<folder>/<first two hex digits>/<SHA-256>.<kind>`. A file is written under another name, synced, and renamed before a row that names it
//! can be seen; so whatever a crash leaves, every row points to a whole file. Files that no row names are possible: of rows that became
//! visible by no cut yet, and of those that were never sent again. The same bytes are one file, however often they come.

use super::super::functions::picture_kind;
use super::super::spec::StoreColumn;
use crate::disk::{create_folder, create_within, sync_folder};
use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files that wait for their sync, open.
const PENDING_MAX: usize = 256;

/// A folder of files, for one output.
pub(in crate::stream) struct Store {
    spec: StoreColumn,
    out: PathBuf,
    staging: PathBuf,
    /// Of this opening: a run that was given up meets no name of ours.
    tag: u32,
    /// By path below `out`.
    pending: BTreeMap<PathBuf, Pending>,
    /// Folders with names that may not be durable.
    folders: BTreeSet<PathBuf>,
}

struct Pending {
    file: File,
    staged: PathBuf,
}

/// The columns of rows whose bytes are stored.
pub(in crate::stream) fn schema(spec: &StoreColumn, rows: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| match *field.name() == spec.column {
        true => Arc::new(Field::new(&spec.name, DataType::Utf8, true)),
        false => field.clone(),
    };
    Arc::new(Schema::new(rows.fields().iter().map(field).collect::<Vec<_>>()))
}

/// Whether bytes of such a column can be stored.
pub(in crate::stream) fn takes(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

impl Store {
    /// Removes what this output (by its name) of this pipeline left half done in a folder that is there ([`found`]).
    ///
    /// # Errors
    /// The system's.
    pub(in crate::stream) fn open(spec: &StoreColumn, out: &Path, pipeline: &str, output: &str) -> io::Result<Store> {
        let name = format!("{pipeline}-{:08x}", crc32c::crc32c(output.as_bytes()));
        let staging = out.join(&spec.folder).join("_inrush").join(name);
        create_within(&staging)?;
        for entry in fs::read_dir(&staging)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "open") {
                fs::remove_file(path)?;
            }
        }
        let tag = fastrand::u32(..);
        let (pending, folders) = (BTreeMap::new(), BTreeSet::new());
        Ok(Store { spec: spec.clone(), out: out.to_owned(), staging, tag, pending, folders })
    }

    /// Rows with paths in the place of bytes. The files are durable after [`Store::settle`].
    ///
    /// # Errors
    /// The disk's.
    pub(in crate::stream) fn keep(&mut self, rows: &RecordBatch) -> io::Result<RecordBatch> {
        let schema = rows.schema();
        let Some((at, _)) = schema.column_with_name(&self.spec.column) else { return Ok(rows.clone()) };
        let bytes = rows.column(at);
        let mut paths = StringBuilder::new();
        for row in 0..rows.num_rows() {
            match value(bytes, row) {
                Some(bytes) => paths.append_value(self.file(bytes)?.to_string_lossy()),
                None => paths.append_null(),
            }
        }
        let mut columns = rows.columns().to_vec();
        columns[at] = Arc::new(paths.finish());
        RecordBatch::try_new(self::schema(&self.spec, &schema), columns).map_err(io::Error::other)
    }

    /// The path of these bytes below the output folder; they are written if they are not there.
    fn file(&mut self, bytes: &[u8]) -> io::Result<PathBuf> {
        let hash = hex::encode(Sha256::digest(bytes));
        let name = format!("{hash}.{}", picture_kind(bytes).unwrap_or("bin"));
        let path = self.spec.folder.join(&hash[..2]).join(&name);
        if self.pending.contains_key(&path) {
            return Ok(path);
        }
        let finished = self.out.join(&path);
        if fs::metadata(&finished).is_ok_and(|found| found.len() == bytes.len() as u64) {
            // Who gave it its name may not have lived to make that durable.
            self.folders.extend(finished.parent().map(Path::to_owned));
            return Ok(path);
        }
        let staged = self.staging.join(format!("{name}.{:08x}.open", self.tag));
        let mut file = File::options().write(true).create_new(true).open(&staged)?;
        file.write_all(bytes)?;
        self.pending.insert(path.clone(), Pending { file, staged });
        if self.pending.len() >= PENDING_MAX {
            self.settle()?;
        }
        Ok(path)
    }

    /// All files have their names, durably.
    ///
    /// # Errors
    /// The disk's.
    pub(in crate::stream) fn settle(&mut self) -> io::Result<()> {
        for Pending { file, .. } in self.pending.values() {
            file.sync_all()?;
        }
        while let Some((path, Pending { staged, .. })) = self.pending.pop_first() {
            // Where its disk is away nothing is made in its place.
            fs::symlink_metadata(&staged)?;
            let finished = self.out.join(path);
            if let Some(folder) = finished.parent() {
                create_folder(folder)?;
                self.folders.insert(folder.to_owned());
            }
            // What stands there, if anything, are the same bytes, or a part of them.
            fs::rename(staged, &finished)?;
        }
        while let Some(folder) = self.folders.pop_first() {
            sync_folder(&folder)?;
        }
        Ok(())
    }
}

fn value(bytes: &ArrayRef, row: usize) -> Option<&[u8]> {
    if bytes.is_null(row) {
        return None;
    }
    match bytes.data_type() {
        DataType::Binary => Some(bytes.as_binary::<i32>().value(row)),
        DataType::LargeBinary => Some(bytes.as_binary::<i64>().value(row)),
        DataType::BinaryView => Some(bytes.as_binary_view().value(row)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::found;
    use super::*;
    use arrow::array::BinaryArray;

    const GIF: &[u8] = b"GIF89a\x10\x00\x09\x00\x00\x00\x00";

    fn spec() -> StoreColumn {
        StoreColumn { column: "picture".to_owned(), folder: "pictures".into(), name: "path".to_owned(), at: (0, 0) }
    }

    fn rows(pictures: Vec<Option<&[u8]>>) -> RecordBatch {
        let pictures: ArrayRef = Arc::new(BinaryArray::from(pictures));
        RecordBatch::try_from_iter_with_nullable([("picture", pictures, true)]).unwrap()
    }

    #[test]
    fn bytes_become_files_named_by_their_content_once() {
        let out = tempfile::tempdir().unwrap();
        found(&out.path().join("pictures")).unwrap();
        let mut store = Store::open(&spec(), out.path(), "p", "parquet x").unwrap();
        let kept = store.keep(&rows(vec![Some(GIF), None, Some(b"abc"), Some(GIF)])).unwrap();
        let paths: Vec<Option<&str>> = kept.column_by_name("path").unwrap().as_string::<i32>().iter().collect();
        // SHA-256 of "abc", FIPS 180-2.
        let abc = "pictures/ba/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad.bin";
        assert_eq!((paths[1], paths[2]), (None, Some(abc)));
        assert!(paths[0] == paths[3] && paths[0].unwrap().ends_with(".gif"), "{paths:?}");
        assert!(!out.path().join(abc).exists(), "it has its name before it is synced");
        store.settle().unwrap();
        assert_eq!(fs::read(out.path().join(abc)).unwrap(), b"abc");
        assert_eq!(fs::read(out.path().join(paths[0].unwrap())).unwrap(), GIF);
        assert_eq!(fs::read_dir(&store.staging).unwrap().count(), 0);
        let before = fs::metadata(out.path().join(abc)).unwrap().modified().unwrap();
        store.keep(&rows(vec![Some(b"abc")])).unwrap();
        store.settle().unwrap();
        assert_eq!(fs::metadata(out.path().join(abc)).unwrap().modified().unwrap(), before, "it was written twice");
    }

    #[test]
    fn where_the_disk_is_away_no_folder_is_made() {
        let out = tempfile::tempdir().unwrap();
        found(&out.path().join("pictures")).unwrap();
        let mut store = Store::open(&spec(), out.path(), "p", "parquet x").unwrap();
        store.file(b"abc").unwrap();
        fs::rename(out.path().join("pictures"), out.path().join("away")).unwrap();
        assert_eq!(store.settle().unwrap_err().kind(), io::ErrorKind::NotFound);
        let opened = Store::open(&spec(), out.path(), "p", "parquet x");
        assert_eq!(opened.err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
        assert!(!out.path().join("pictures").exists());
    }

    #[test]
    fn what_a_crash_left_half_done_is_removed_and_what_is_cut_off_is_written_again() {
        let out = tempfile::tempdir().unwrap();
        found(&out.path().join("pictures")).unwrap();
        let mut store = Store::open(&spec(), out.path(), "p", "parquet x").unwrap();
        let path = store.file(b"abc").unwrap();
        drop(store);
        let mut store = Store::open(&spec(), out.path(), "p", "parquet x").unwrap();
        assert_eq!(fs::read_dir(&store.staging).unwrap().count(), 0);
        fs::create_dir_all(out.path().join(&path).parent().unwrap()).unwrap();
        fs::write(out.path().join(&path), "a").unwrap();
        store.file(b"abc").unwrap();
        store.settle().unwrap();
        assert_eq!(fs::read(out.path().join(&path)).unwrap(), b"abc");
    }
}
