//! Rows to files in a folder of partitions, or in a bucket, exactly once: Parquet, or JSON lines.
//!
//! Open files are staged where no reader's glob meets half a file (see [`super::place`]). A cut closes all of them and makes their bytes
//! durable; the checkpoint then names them; then they get their names. A start finishes the files of the last checkpoint and removes what
//! no checkpoint names.

use super::super::checkpoint::Staged;
use super::super::lanes;
use super::super::spec::ParquetOutput;
use super::bucket::Beat;
use super::encode::{Encoder, disk_error};
use super::journal::Last;
use super::lake::{self, Owner};
use super::lines::LineEncoder;
use super::partition::places;
use super::place::Place;
use super::share::Share;
use super::source::{RowOrigin, with_source};
use super::staged::descriptors;
use super::written::Written;
use super::{Shaped, Sink, WriteError};
use crate::metrics as names;
use crate::record::Record;
use arrow::array::UInt32Array;
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use parquet::file::metadata::KeyValue;
use std::collections::BTreeMap;
use std::io;

/// Files that are open at a time; one more cuts all. Memory mostly cuts before; so that the machine's descriptors last, an output takes at
/// most one of so many.
const OPEN_MAX: usize = 4_096;
const DESCRIPTORS_PART: usize = 8;

/// What all outputs of folders and buckets may take of memory together.
pub(in crate::stream) fn memory_max() -> u64 {
    super::share::BYTES_MAX as u64
}

/// What one of them may take.
pub(in crate::stream) fn output_memory_max() -> u64 {
    super::share::ONE_MAX as u64
}

/// One output folder.
pub(in crate::stream) struct Parquet {
    spec: ParquetOutput,
    schema: SchemaRef,
    pipeline: String,
    /// What its files' names begin with: the pipeline's name, or that of a replay.
    name: String,
    place: Place,
    /// Of this opening: a run that was given up and still holds a file meets no name of ours.
    tag: u32,
    schema_version: u32,
    open_max: usize,
    open: BTreeMap<String, Open>,
    /// Bytes that the open files hold in memory, all together.
    held: usize,
    share: Share,
    /// Files of this cut so far, for their names.
    made: u64,
    beat: Beat,
}

struct Open {
    written: Written,
    /// Its part of `held`.
    held: usize,
}

/// A place in the run of a pipeline, for file names and footers.
#[derive(Clone, Debug)]
pub(in crate::stream) struct CutName {
    pub(in crate::stream) generation: u64,
    pub(in crate::stream) cut: u64,
    /// The clock when rows are written: it says which times of rows are not believed.
    pub(in crate::stream) now_ms: i64,
    /// Whether rows of their last record follow.
    pub(in crate::stream) last: Last,
}

impl Parquet {
    /// Claims the output for `owner`, whose folder is there ([`Place::found`]), and removes what was staged under `name` but for `files`, which the checkpoint names. `beat` is
    /// called while it waits for others.
    ///
    /// # Errors
    /// The system's, the store's; `InvalidInput` if the schema does not fit the folder's.
    pub(in crate::stream) fn open(
        spec: ParquetOutput,
        schema: SchemaRef,
        place: Place,
        owner: &Owner,
        name: &str,
        files: &[Staged],
        beat: Beat,
    ) -> io::Result<Parquet> {
        place.make(name)?;
        lake::claim(&place, owner)?;
        let schema_version = lake::schema_version(&place, &schema)?;
        place.prepare(name, files)?;
        Ok(Parquet {
            spec,
            schema,
            pipeline: owner.name.clone(),
            name: name.to_owned(),
            place,
            tag: fastrand::u32(..),
            schema_version,
            open_max: OPEN_MAX.min(descriptors() / DESCRIPTORS_PART),
            open: BTreeMap::new(),
            held: 0,
            share: Share::default(),
            made: 0,
            beat,
        })
    }

    /// Writes rows of one source partition with what `source-columns` asks for; `sources` says which record each comes from.
    ///
    /// # Errors
    /// As [`Parquet::write`].
    pub(in crate::stream) fn write_of(
        &mut self,
        partition: i32,
        rows: &RecordBatch,
        sources: &[u32],
        records: &[Record],
        name: &CutName,
    ) -> io::Result<()> {
        let origin = |row: usize| RowOrigin::of(partition, &records[sources[row] as usize]);
        let rows = with_source(&self.spec, rows.clone(), &origin).map_err(io::Error::other)?;
        self.write(&rows, &times(sources, records), name)
    }

    /// Writes rows into the files of their partitions. `time` is the record's own time of each row, for `time = "_timestamp"`.
    ///
    /// # Errors
    /// The disk's, the store's: what was written since the last cut is then to be thrown away.
    fn write(&mut self, rows: &RecordBatch, times: &[i64], name: &CutName) -> io::Result<()> {
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
                let written = self.begin(&partition, name, &part)?;
                self.open.insert(partition.clone(), Open { written, held: 0 });
            }
            let Some(file) = self.open.get_mut(&partition) else { continue };
            file.written.write(&part)?;
            self.held -= file.weigh();
            self.held += file.held;
            self.relieve()?;
        }
        Ok(())
    }

    fn free(&mut self, allowed: usize, need: bool) -> io::Result<()> {
        let freed = |file: &Open| file.written.freed_early(need);
        let mut largest: Vec<(usize, &mut Open)> =
            self.open.values_mut().filter_map(|file| Some((freed(file)?, file))).collect();
        largest.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        // Half of the share, or it would be one row group after the other.
        for (_, file) in largest {
            if self.held <= allowed / 2 {
                break;
            }
            file.written.relieve()?;
            self.held -= file.weigh();
            self.held += file.held;
        }
        Ok(())
    }

    fn is_pressed(&mut self) -> bool {
        // One file may hold what a file must: a cut would not make it less.
        let least = self.open.values().map(|file| file.written.least_size()).max().unwrap_or(0);
        self.held.saturating_sub(least) > self.share.allowed(!self.open.is_empty())
    }

    fn begin(&mut self, partition: &str, name: &CutName, first: &RecordBatch) -> io::Result<Written> {
        let file_name =
            format!("{}-{}-{}-{}.{}", self.name, name.generation, name.cut, self.made, self.spec.extension());
        self.made += 1;
        let file = self.place.begin(&self.name, partition, &file_name, self.tag, &self.beat)?;
        if let Some(compression) = self.spec.lines {
            return Ok(Written::Lines(LineEncoder::new(file, compression)?));
        }
        let metadata = vec![
            KeyValue::new("inrush.pipeline".to_owned(), self.pipeline.clone()),
            KeyValue::new("inrush.schema-version".to_owned(), self.schema_version.to_string()),
        ];
        let encoder = Encoder::new(file, &lanes::pool(), &self.spec, metadata, self.schema.clone(), first);
        Ok(Written::Parquet(encoder.map_err(disk_error)?))
    }
}

/// Each row's record's own time.
fn times(sources: &[u32], records: &[Record]) -> Vec<i64> {
    sources.iter().map(|at| records[*at as usize].timestamp).collect()
}

impl Sink for Parquet {
    fn sourced(&self, rows: RecordBatch, origin: &dyn Fn(usize) -> RowOrigin) -> Result<RecordBatch, ArrowError> {
        with_source(&self.spec, rows, origin)
    }

    fn write(
        &mut self,
        _partition: i32,
        shaped: &Shaped,
        sources: &[u32],
        records: &[Record],
        name: &CutName,
    ) -> Result<(), WriteError> {
        if shaped.rows.num_rows() == 0 {
            return Ok(());
        }
        let written = Parquet::write(self, &shaped.rows, &times(sources, records), name);
        written.map_err(|error| WriteError::Down(format!("cannot write files: {error}")))
    }

    /// Writes the largest row groups to their files while all together hold more than the output's share of memory.
    fn relieve(&mut self) -> io::Result<()> {
        let allowed = self.share.allowed(!self.open.is_empty());
        if self.held <= allowed {
            return Ok(());
        }
        self.free(allowed, false)?;
        // Rows of one batch can lie in thousands of folders: then each has a row group of its own, as the cut behind the batch would give it.
        if self.held > allowed { self.free(allowed, true) } else { Ok(()) }
    }

    fn is_full(&mut self) -> bool {
        let size = |file: &Open| file.written.size();
        self.open.len() >= self.open_max
            || self.is_pressed()
            || self.open.values().map(size).max().unwrap_or(0) >= self.spec.roll_bytes
    }

    fn open_files(&self) -> usize {
        self.open.len()
    }

    fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn close(&mut self, offsets: &str) -> io::Result<Vec<Staged>> {
        let mut closing = Vec::with_capacity(self.open.len());
        let open = std::mem::take(&mut self.open);
        (self.held, self.made) = (0, 0);
        self.share.allowed(false);
        for (_, file) in open {
            closing.push(file.written.close(offsets)?.close()?);
            (self.beat)();
        }
        self.place.settle(&self.name, closing, &self.beat)
    }

    fn discard(&mut self) {
        for (_, file) in std::mem::take(&mut self.open) {
            file.written.discard();
        }
        (self.held, self.made) = (0, 0);
        self.share.allowed(false);
    }

    fn shows_at_once(&self) -> bool {
        false
    }
}

impl Open {
    /// Takes its size in memory anew; gives what it was.
    fn weigh(&mut self) -> usize {
        std::mem::replace(&mut self.held, self.written.memory_size())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::spec::Output;
    use super::super::share::BYTES_MAX;
    use super::super::staged::finish;
    use super::*;
    use arrow::array::{AsArray, Int64Array, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::{Int64Type, Schema};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use std::path::Path;
    use std::sync::Arc;
    use uuid::Uuid;

    const ROWS: i64 = 8_192;

    fn output(folder: &Path, more: &str) -> Parquet {
        let text = format!(
            "from = \"topic:t\"\nto = {{ parquet = \"x\"{more} }}\n[columns]\nts = \"timestamp\"\nn = \"int64\"\nuser = \"string\"\n"
        );
        let job =
            super::super::super::load::text(Path::new("p.toml"), &text).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
        let Output::Parquet(spec) = job.spec.routes[0].to.clone() else { panic!("{:?}", job.spec.routes) };
        let owner = Owner { cluster: Uuid::nil(), pipeline: Uuid::nil(), name: "p".to_owned(), generation: 0 };
        let place = Place::of(&spec, folder).unwrap();
        let schema = job.plan.output().clone();
        place.found().unwrap();
        Parquet::open(*spec, schema, place, &owner, "p", &[], Arc::new(|| {})).unwrap()
    }

    #[test]
    fn where_the_disk_is_away_no_folder_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner { cluster: Uuid::nil(), pipeline: Uuid::nil(), name: "p".to_owned(), generation: 0 };
        let Parquet { spec, schema, .. } = output(folder.path(), "");
        std::fs::remove_dir_all(folder.path().join("x")).unwrap();
        let place = Place::of(&spec, folder.path()).unwrap();
        let opened = Parquet::open(spec, schema, place, &owner, "p", &[], Arc::new(|| {}));
        assert_eq!(opened.err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
        assert!(!folder.path().join("x").exists());
    }

    /// Rows numbered from `from`; row n lies on day `day(n)` of the years after 2001.
    fn rows(schema: &Arc<Schema>, from: i64, day: impl Fn(i64) -> i64) -> RecordBatch {
        let numbers = from..from + ROWS;
        let times = numbers.clone().map(|n| (day(n) + 11_323) * 86_400_000_000);
        let users = numbers.clone().map(|n| format!("user {:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15u64 as i64)));
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")),
            Arc::new(Int64Array::from_iter_values(numbers)),
            Arc::new(StringArray::from_iter_values(users)),
        ];
        RecordBatch::try_new(schema.clone(), columns).unwrap()
    }

    fn name(cut: u64) -> CutName {
        CutName { generation: 0, cut, now_ms: 1_700_000_000_000, last: Last::Whole }
    }

    fn finish_cut(parquet: &mut Parquet) -> Vec<std::path::PathBuf> {
        let files = parquet.close("").unwrap();
        files.iter().for_each(|file| assert_ne!(finish(file).unwrap(), super::super::staged::Finished::TakenAway));
        files.into_iter().map(|file| file.finished).collect()
    }

    fn read(file: &Path) -> ParquetRecordBatchReaderBuilder<std::fs::File> {
        ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap()).unwrap()
    }

    fn numbers(file: &Path) -> Vec<i64> {
        let rows = read(file).build().unwrap();
        rows.flat_map(|rows| rows.unwrap()["n"].as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    #[test]
    fn a_thousand_partitions_wide_open_and_a_backfill_of_two_thousand_hold_the_budget() {
        for (days, batches) in [(1_000, 4), (2_000, 2)] {
            // In memory, where there is such a place: thousands of files are synced.
            let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
            let mut parquet = output(folder.path(), ", partition = \"dt=%Y-%m-%d\", time = \"ts\"");
            let (mut cut, mut most, mut most_open, mut files) = (0, 0, 0, Vec::new());
            for batch in 0..batches {
                let rows = rows(&parquet.schema.clone(), batch * ROWS, |n| n * 7 % days);
                parquet.write(&rows, &[], &name(cut)).unwrap();
                most = most.max(parquet.held);
                most_open = most_open.max(parquet.open_files());
                if parquet.is_full() {
                    files.extend(finish_cut(&mut parquet));
                    cut += 1;
                }
            }
            files.extend(finish_cut(&mut parquet));
            // Other tests of this process hold shares too: the budget is the bound that always holds.
            assert!(most < BYTES_MAX / 2, "{days} days: {most} bytes in {most_open} files");
            assert!(most_open <= parquet.open_max + days as usize, "{most_open}");
            let mut all: Vec<i64> = files.iter().flat_map(|file| numbers(file)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..batches * ROWS).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rows_are_sorted_within_each_row_group_and_the_footer_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut parquet = output(folder.path(), ", sort = [\"ts desc\", \"n\"], bloom = [\"user\"]");
        for batch in 0..3 {
            let rows = rows(&parquet.schema.clone(), batch * ROWS, |n| n * 7_919 % 400);
            parquet.write(&rows, &[], &name(0)).unwrap();
        }
        let file = finish_cut(&mut parquet).remove(0);
        let reader = read(&file);
        let group = reader.metadata().row_group(0);
        let sorted = group.sorting_columns().unwrap();
        assert_eq!((sorted[0].column_idx, sorted[0].descending, sorted[1].column_idx), (0, true, 1));
        assert!(group.column(2).bloom_filter_offset().is_some() && group.column(1).bloom_filter_offset().is_none());
        assert!(group.column(0).column_index_offset().is_some(), "pages have statistics of what is sorted by");
        let mut before = (i64::MAX, i64::MIN);
        let mut count = 0;
        for rows in reader.build().unwrap() {
            let rows = rows.unwrap();
            let times = rows["ts"].as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
            let numbers = rows["n"].as_primitive::<Int64Type>();
            for at in 0..rows.num_rows() {
                let now = (times.value(at), numbers.value(at));
                assert!(now.0 < before.0 || now.0 == before.0 && now.1 > before.1, "{before:?} {now:?}");
                before = now;
                count += 1;
            }
        }
        assert_eq!(count, 3 * ROWS);
    }
}
