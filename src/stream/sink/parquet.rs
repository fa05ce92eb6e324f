//! Rows to Parquet files in a folder of partitions, exactly once.
//!
//! Open files are staged under `<folder>/_inrush/<pipeline>/` with names that do not end in `.parquet`, so no reader's glob meets half a
//! file. A cut closes and syncs all of them; the checkpoint then names them; then they are renamed into place. A start finishes the
//! renames of the last checkpoint and removes what no checkpoint names.

use super::super::checkpoint::{Staged, make_folder, sync_folder};
use super::super::spec::ParquetOutput;
use super::encode::{Encoder, disk_error};
use crate::work::Pool;
use arrow::array::{Array, AsArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use chrono::format::StrftimeItems;
use parquet::file::metadata::KeyValue;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files that are open at a time; one more cuts all.
const OPEN_MAX: usize = 64;
/// Memory of all open row groups together; past it the largest one is written early. Many small partitions would take 32 MiB each.
const OPEN_BYTES_MAX: usize = 64 << 20;
/// What Hive and DuckDB read as a NULL partition value.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// One output folder.
pub(in crate::stream) struct Parquet {
    spec: ParquetOutput,
    pool: Arc<Pool>,
    pipeline: String,
    /// `<out>/<folder>`.
    folder: PathBuf,
    staging: PathBuf,
    open: BTreeMap<String, Open>,
    /// Files of this cut so far, for their names.
    made: u64,
}

struct Open {
    encoder: Encoder,
    staged: PathBuf,
    finished: PathBuf,
}

/// A place in the run of a pipeline, for file names and footers.
#[derive(Clone, Debug)]
pub(in crate::stream) struct CutName {
    pub(in crate::stream) generation: u64,
    pub(in crate::stream) cut: u64,
}

impl Parquet {
    /// Makes the folders, claims the output for this pipeline, finishes the last cut and removes what no checkpoint names.
    ///
    /// # Errors
    /// The system's; `AlreadyExists` if the folder belongs to another pipeline or a file stands in the way.
    pub(in crate::stream) fn open(
        spec: ParquetOutput,
        pipeline: &str,
        out: &Path,
        files: &[Staged],
        pool: &Arc<Pool>,
    ) -> io::Result<Parquet> {
        let folder = out.join(&spec.folder);
        let staging = folder.join("_inrush").join(pipeline);
        make_folder(&staging)?;
        claim(&folder, pipeline, spec.adopt.as_deref())?;
        for file in files {
            finish(file)?;
        }
        for entry in fs::read_dir(&staging)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "open") {
                fs::remove_file(path)?;
            }
        }
        Ok(Parquet {
            spec,
            pool: pool.clone(),
            pipeline: pipeline.to_owned(),
            folder,
            staging,
            open: BTreeMap::new(),
            made: 0,
        })
    }

    /// Writes rows into the files of their partitions. `time` is the record's own time of each row, for `time = "_timestamp"`.
    ///
    /// # Errors
    /// The disk's: what was written since the last cut is then to be thrown away.
    pub(in crate::stream) fn write(&mut self, rows: &RecordBatch, times: &[i64], name: &CutName) -> io::Result<()> {
        for (partition, places) in self.partitions(rows, times) {
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
            file.encoder.write(&part).map_err(disk_error)?;
            self.relieve()?;
        }
        Ok(())
    }

    /// Writes the largest row group to its file while all together hold too much.
    fn relieve(&mut self) -> io::Result<()> {
        // With one file open the row group's own limit holds.
        while self.open.len() > 1
            && self.open.values().map(|file| file.encoder.memory_size()).sum::<usize>() > OPEN_BYTES_MAX
        {
            let Some(largest) = self.open.values_mut().max_by_key(|file| file.encoder.memory_size()) else { break };
            largest.encoder.end_row_group().map_err(disk_error)?;
        }
        Ok(())
    }

    /// Whether it is time for a cut because of size or count.
    pub(in crate::stream) fn is_full(&self) -> bool {
        let size = |file: &Open| file.encoder.size() as u64;
        self.open.len() >= OPEN_MAX || self.open.values().map(size).max().unwrap_or(0) >= self.spec.roll_bytes
    }

    pub(in crate::stream) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Closes and syncs all files; they can be named in a checkpoint then.
    ///
    /// # Errors
    /// The disk's.
    pub(in crate::stream) fn close(&mut self, positions: &BTreeMap<i32, i64>) -> io::Result<Vec<Staged>> {
        let mut staged = Vec::with_capacity(self.open.len());
        let ends: Vec<String> = positions.iter().map(|(partition, offset)| format!("{partition}:{offset}")).collect();
        for (_, file) in std::mem::take(&mut self.open) {
            let positions = KeyValue::new("inrush.positions".to_owned(), ends.join(","));
            let inner = file.encoder.close(positions).map_err(disk_error)?;
            staged.push(Staged { size: inner.metadata()?.len(), staged: file.staged, finished: file.finished });
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
            drop(file.encoder);
            let _ = fs::remove_file(file.staged);
        }
        self.made = 0;
    }

    fn begin(&mut self, partition: &str, name: &CutName, first: &RecordBatch) -> io::Result<Open> {
        let file_name = format!("{}-{}-{}-{}.parquet", self.pipeline, name.generation, name.cut, self.made);
        self.made += 1;
        let staged = self.staging.join(format!("{file_name}.open"));
        let finished = self.folder.join(partition).join(&file_name);
        let metadata = vec![KeyValue::new("inrush.pipeline".to_owned(), self.pipeline.clone())];
        let file = File::create(&staged)?;
        let encoder = Encoder::new(file, &self.pool, self.spec.compression_level, metadata, first);
        Ok(Open { encoder: encoder.map_err(disk_error)?, staged, finished })
    }

    /// Which rows belong to which partition folder.
    fn partitions(&self, rows: &RecordBatch, times: &[i64]) -> BTreeMap<String, Vec<u32>> {
        let mut places: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let Some(pattern) = &self.spec.partition else {
            places.insert(String::new(), (0..rows.num_rows() as u32).collect());
            return places;
        };
        let column =
            self.spec.time.as_deref().filter(|time| *time != "_timestamp").and_then(|time| rows.column_by_name(time));
        // Rows of a batch mostly share their hour: the last folder is made once.
        let mut last: Option<(Option<i64>, String)> = None;
        for row in 0..rows.num_rows() {
            let micros = match column {
                None => times.get(row).map(|ms| ms.saturating_mul(1_000)),
                Some(column) => column
                    .as_primitive_opt::<TimestampMicrosecondType>()
                    .and_then(|column| column.is_valid(row).then(|| column.value(row))),
            };
            // Minutes are finer than any sensible pattern but seconds; a pattern of seconds just hits this less.
            if last.as_ref().is_none_or(|(known, _)| *known != micros) {
                last = Some((micros, folder_of(pattern, micros)));
            }
            if let Some((_, folder)) = &last {
                match places.get_mut(folder) {
                    Some(list) => list.push(row as u32),
                    None => drop(places.insert(folder.clone(), vec![row as u32])),
                }
            }
        }
        places
    }
}

/// `dt=%Y-%m-%d/hour=%H` at a time; without one, each value is Hive's null.
fn folder_of(pattern: &str, micros: Option<i64>) -> String {
    let time = micros.and_then(chrono::DateTime::from_timestamp_micros);
    match time {
        Some(time) => time.format_with_items(StrftimeItems::new(pattern)).to_string(),
        None => {
            let null = |part: &str| match part.split_once('=') {
                Some((name, _)) => format!("{name}={NULL_PARTITION}"),
                None => NULL_PARTITION.to_owned(),
            };
            pattern.split('/').map(null).collect::<Vec<_>>().join("/")
        }
    }
}

/// Renames a file of a cut into its place, unless that was done before the crash.
pub(in crate::stream) fn finish(file: &Staged) -> io::Result<()> {
    if !file.staged.exists() {
        // Renamed already; or taken away after the rename, and then never written again.
        return Ok(());
    }
    if let Some(folder) = file.finished.parent() {
        make_folder(folder)?;
    }
    // A link fails where a rename would replace: nothing that stands there is ever overwritten.
    match fs::hard_link(&file.staged, &file.finished) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_same(file)? => {}
        Err(error) => {
            let message =
                format!("cannot put {} into place as {}: {error}", file.staged.display(), file.finished.display());
            return Err(io::Error::new(error.kind(), message));
        }
    }
    if let Some(folder) = file.finished.parent() {
        sync_folder(folder)?;
    }
    fs::remove_file(&file.staged)
}

fn is_same(file: &Staged) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (a, b) = (fs::metadata(&file.staged)?, fs::metadata(&file.finished)?);
    Ok(a.ino() == b.ino() || (a.len() == b.len() && fs::read(&file.staged)? == fs::read(&file.finished)?))
}

/// Two pipelines must not write into one folder: the first one's name stands in it.
fn claim(folder: &Path, pipeline: &str, adopt: Option<&str>) -> io::Result<()> {
    let path = folder.join("_inrush").join("owner.json");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let owner: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let owner = owner["pipeline"].as_str().unwrap_or_default();
            if owner == pipeline {
                return Ok(());
            }
            if adopt != Some(owner) {
                let message = format!(
                    "{} belongs to pipeline \"{owner}\"; choose another folder, or take it over with adopt = \"{owner}\"",
                    folder.display()
                );
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let temporary = path.with_extension("new");
    fs::write(&temporary, serde_json::json!({ "pipeline": pipeline }).to_string())?;
    File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, &path)?;
    sync_folder(&folder.join("_inrush"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_time_is_hives_null() {
        let pattern = "dt=%Y-%m-%d/hour=%H";
        assert_eq!(folder_of(pattern, Some(1_700_000_000_000_000)), "dt=2023-11-14/hour=22");
        assert_eq!(folder_of(pattern, None), format!("dt={NULL_PARTITION}/hour={NULL_PARTITION}"));
    }

    #[test]
    fn a_folder_belongs_to_one_pipeline() {
        let folder = tempfile::tempdir().unwrap();
        make_folder(&folder.path().join("_inrush")).unwrap();
        claim(folder.path(), "a", None).unwrap();
        claim(folder.path(), "a", None).unwrap();
        assert!(claim(folder.path(), "b", None).unwrap_err().to_string().contains("adopt"));
        claim(folder.path(), "b", Some("a")).unwrap();
    }

    #[test]
    fn a_rename_that_a_crash_cut_off_is_finished_once() {
        let folder = tempfile::tempdir().unwrap();
        let file =
            Staged { staged: folder.path().join("x.open"), finished: folder.path().join("p/x.parquet"), size: 3 };
        fs::write(&file.staged, "abc").unwrap();
        finish(&file).unwrap();
        finish(&file).unwrap();
        assert_eq!(fs::read(&file.finished).unwrap(), b"abc");
        fs::write(&file.staged, "abc").unwrap();
        finish(&file).unwrap();
        assert!(!file.staged.exists());
        fs::write(&file.staged, "xyz").unwrap();
        assert!(finish(&file).is_err(), "another file was overwritten");
    }
}
