//! Rows to files in a folder of partitions, exactly once: Parquet, or JSON lines.
//!
//! Open files are staged under `<folder>/_inrush/<pipeline>/` with names that end in `.open`, so no reader's glob meets half a
//! file. A cut closes and syncs all of them; the checkpoint then names them; then they are renamed into place. A start finishes the
//! renames of the last checkpoint and removes what no checkpoint names.

use super::super::checkpoint::{Staged, make_folder, sync_folder};
use super::super::lanes;
use super::super::spec::ParquetOutput;
use super::encode::{Encoder, disk_error};
use super::lake::{self, Owner};
use super::lines::LineEncoder;
use super::partition::places;
use super::staged::StagedFile;
use super::written::Written;
use crate::metrics as names;
use arrow::array::UInt32Array;
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::file::metadata::KeyValue;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Files that are open at a time; one more cuts all.
const OPEN_MAX: usize = 64;
/// Memory of all open row groups together; past it the largest one is written early. Many small partitions would take 32 MiB each.
const OPEN_BYTES_MAX: usize = 64 << 20;

/// One output folder.
pub(in crate::stream) struct Parquet {
    spec: ParquetOutput,
    schema: SchemaRef,
    pipeline: String,
    /// `<out>/<folder>`.
    folder: PathBuf,
    staging: PathBuf,
    /// Of this opening: a run that was given up and still holds a file meets no name of ours.
    tag: u32,
    schema_version: u32,
    open: BTreeMap<String, Open>,
    /// Files of this cut so far, for their names.
    made: u64,
}

struct Open {
    written: Written,
    staged: PathBuf,
    finished: PathBuf,
}

/// A place in the run of a pipeline, for file names and footers.
#[derive(Clone, Debug)]
pub(in crate::stream) struct CutName {
    pub(in crate::stream) generation: u64,
    pub(in crate::stream) cut: u64,
    /// The clock when rows are written: it says which times of rows are not believed.
    pub(in crate::stream) now_ms: i64,
    /// Time has let the rows go, and rows of the record whose place they have follow.
    pub(in crate::stream) is_mark: bool,
}

impl Parquet {
    /// Makes the folders, claims the output for `owner`, and removes what was staged but for `files`, which the checkpoint names.
    ///
    /// # Errors
    /// The system's; `InvalidInput` if the schema does not fit the folder's.
    pub(in crate::stream) fn open(
        spec: ParquetOutput,
        schema: SchemaRef,
        out: &Path,
        owner: &Owner,
        files: &[Staged],
    ) -> io::Result<Parquet> {
        let folder = out.join(&spec.folder);
        let staging = folder.join("_inrush").join(&owner.name);
        make_folder(&staging)?;
        let schema_version = lake::schema_version(&folder, &schema)?;
        lake::claim(&folder, owner)?;
        for entry in fs::read_dir(&staging)? {
            let path = entry?.path();
            let is_open = path.extension().is_some_and(|extension| extension == "open");
            if is_open && !files.iter().any(|file| file.staged == path) {
                fs::remove_file(path)?;
            }
        }
        Ok(Parquet {
            spec,
            schema,
            pipeline: owner.name.clone(),
            folder,
            staging,
            tag: fastrand::u32(..),
            schema_version,
            open: BTreeMap::new(),
            made: 0,
        })
    }

    /// Writes rows into the files of their partitions. `time` is the record's own time of each row, for `time = "_timestamp"`.
    ///
    /// # Errors
    /// The disk's: what was written since the last cut is then to be thrown away.
    pub(in crate::stream) fn write(&mut self, rows: &RecordBatch, times: &[i64], name: &CutName) -> io::Result<()> {
        let found = places(&self.spec, rows, times, name.now_ms);
        if found.late > 0 {
            metrics::counter!(names::STREAM_LATE_ROWS.name, "pipeline" => self.pipeline.clone()).increment(found.late);
        }
        for (partition, places) in found.rows {
            let part = match places.len() == rows.num_rows() {
                true => rows.clone(),
                false => {
                    let places = UInt32Array::from(places);
                    let columns = rows.columns().iter().map(|column| take(column, &places, None));
                    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
                    RecordBatch::try_new(rows.schema(), columns).map_err(io::Error::other)?
                }
            };
            if !self.open.contains_key(&partition) {
                let file = self.begin(&partition, name, &part)?;
                self.open.insert(partition.clone(), file);
            }
            let Some(file) = self.open.get_mut(&partition) else { continue };
            file.written.write(&part)?;
            self.relieve()?;
        }
        Ok(())
    }

    /// Writes the largest row group to its file while all together hold too much.
    fn relieve(&mut self) -> io::Result<()> {
        // With one file open the row group's own limit holds.
        while self.open.len() > 1
            && self.open.values().map(|file| file.written.memory_size()).sum::<usize>() > OPEN_BYTES_MAX
        {
            let Some(largest) = self.open.values_mut().max_by_key(|file| file.written.memory_size()) else { break };
            largest.written.relieve()?;
        }
        Ok(())
    }

    /// Whether it is time for a cut because of size or count.
    pub(in crate::stream) fn is_full(&self) -> bool {
        let size = |file: &Open| file.written.size();
        self.open.len() >= OPEN_MAX || self.open.values().map(size).max().unwrap_or(0) >= self.spec.roll_bytes
    }

    /// Files that are open.
    pub(in crate::stream) fn open_files(&self) -> usize {
        self.open.len()
    }

    pub(in crate::stream) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Closes and syncs all files; they can be named in a checkpoint then. `offsets` says which records the cut is made of, for footers.
    ///
    /// # Errors
    /// The disk's.
    pub(in crate::stream) fn close(&mut self, offsets: &str) -> io::Result<Vec<Staged>> {
        let mut staged = Vec::with_capacity(self.open.len());
        for (_, file) in std::mem::take(&mut self.open) {
            let (size, crc) = file.written.close(offsets)?.finish()?;
            staged.push(Staged { size, crc, staged: file.staged, finished: file.finished });
        }
        if !staged.is_empty() {
            sync_folder(&self.staging)?;
        }
        self.made = 0;
        Ok(staged)
    }

    /// Throws away what is open: after an error, the records are read again from the last cut.
    pub(in crate::stream) fn discard(&mut self) {
        for (_, file) in std::mem::take(&mut self.open) {
            drop(file.written);
            let _ = fs::remove_file(file.staged);
        }
        self.made = 0;
    }

    fn begin(&mut self, partition: &str, name: &CutName, first: &RecordBatch) -> io::Result<Open> {
        let file_name =
            format!("{}-{}-{}-{}.{}", self.pipeline, name.generation, name.cut, self.made, self.spec.extension());
        self.made += 1;
        let staged = self.staging.join(format!("{file_name}.{:08x}.open", self.tag));
        let finished = self.folder.join(partition).join(&file_name);
        let file = StagedFile::create(&staged)?;
        if let Some(compression) = self.spec.lines {
            return Ok(Open { written: Written::Lines(LineEncoder::new(file, compression)?), staged, finished });
        }
        let metadata = vec![
            KeyValue::new("inrush.pipeline".to_owned(), self.pipeline.clone()),
            KeyValue::new("inrush.schema-version".to_owned(), self.schema_version.to_string()),
        ];
        let level = self.spec.compression_level;
        let encoder = Encoder::new(file, &lanes::pool(), level, metadata, self.schema.clone(), first);
        Ok(Open { written: Written::Parquet(encoder.map_err(disk_error)?), staged, finished })
    }
}
