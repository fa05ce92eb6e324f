//! What the steps of a running pipeline remember, by source partition: a file beside the checkpoint that names it, written anew at a cut.
//!
//! The file: one line of JSON that says which tables follow and how long each is, then the tables as Arrow IPC streams. Its checksum is in
//! the checkpoint. Times are stream time in ms.

use super::checkpoint::{StateFile, sync_folder};
use super::fault::Fault;
use super::plan::{Plan, Watch};
use super::step::{Course, Filtered, LetGo, Rows, Table};
use crate::record::{Offset, Record};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// So far ahead of when it was received a record may move the time.
const AHEAD_MAX_MS: i64 = 5 * 60 * 1000;
/// The last moment that a column can hold: the end of the year 9999.
const TIME_MAX_MS: i64 = 253_402_300_799_999;
/// The header in which a door says when it received a record: ms since 1970, in decimal.
const RECEIVED_HEADER: &[u8] = b"received";

/// The state of all partitions.
#[derive(Default)]
pub(super) struct States {
    partitions: BTreeMap<i32, State>,
}

/// The state of one partition.
pub(super) struct State {
    /// Greatest time of a record so far.
    pub(super) time: i64,
    /// One for each step that remembers.
    pub(super) tables: Vec<Table>,
}

/// The file's first line.
#[derive(Serialize, Deserialize)]
struct Index {
    partitions: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    partition: i32,
    time: i64,
    /// Bytes of each table.
    sizes: Vec<usize>,
}

/// What became of records behind the steps that remember.
pub(super) struct Remembered {
    /// The records given, and before some of them one for each row that time let go there, which has its offset and the row as its value.
    pub(super) records: Vec<Record>,
    pub(super) routes: Vec<Rows>,
    /// Bad ones by index in `records`, ascending, each once.
    pub(super) bad: Vec<(u32, Fault)>,
    pub(super) filtered: Filtered,
    pub(super) evicted: u64,
    /// By source of rows in the steps, its record's index in `records`.
    pub(super) places: Vec<u32>,
}

/// A clock that is wrong moves nobody's time far: what says when it was received is believed up to a while behind that.
fn time_of(record: &Record) -> i64 {
    let header = record.headers.iter().rev().find(|(name, _)| name.as_ref() == RECEIVED_HEADER);
    let received = header.and_then(|(_, value)| std::str::from_utf8(value.as_deref()?).ok()?.parse::<i64>().ok());
    let time =
        received.map_or(record.timestamp, |received| record.timestamp.min(received.saturating_add(AHEAD_MAX_MS)));
    time.clamp(0, TIME_MAX_MS)
}

impl States {
    /// Of one partition; it begins empty.
    pub(super) fn of(&mut self, partition: i32, plan: &Plan) -> &mut State {
        let begin = || State { time: i64::MIN, tables: plan.keyed().map(|_| Table::default()).collect() };
        self.partitions.entry(partition).or_insert_with(begin)
    }

    /// Partitions in which a row is let go at this time.
    pub(super) fn due_at(&self, plan: &Plan, time: i64) -> Vec<i32> {
        let is_due = |state: &State| {
            let mut tables = plan.keyed().zip(&state.tables).filter(|(step, _)| step.holds_rows());
            tables.any(|(_, table)| table.next_due().is_some_and(|due| due <= time))
        };
        self.partitions.iter().filter(|(_, state)| is_due(state)).map(|(id, _)| *id).collect()
    }

    /// What leaves when no record comes for so long (`None` = ever again), by partition.
    pub(super) fn let_go(&mut self, plan: &Plan, quiet: Option<Duration>) -> Vec<Remembered> {
        let go = |(partition, state): (&i32, &mut State)| {
            let last_due = || state.tables.iter().filter_map(Table::last_due).max().unwrap_or(state.time);
            let timestamp = match quiet {
                Some(quiet) => state.time.saturating_add(quiet.as_millis().min(i64::MAX as u128) as i64),
                None => last_due(),
            };
            let nothing = Record { offset: Offset(i64::MAX), timestamp, key: None, value: None, headers: Vec::new() };
            state.run(plan, *partition, &[nothing], plan.no_rows(), Vec::new())
        };
        self.partitions.iter_mut().map(go).collect()
    }

    /// Bytes in memory, about.
    pub(super) fn size(&self) -> usize {
        self.partitions.values().flat_map(|state| &state.tables).map(Table::size).sum()
    }

    /// Writes a file beside the checkpoint for the cut of this number; durable when it returns.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn save(&self, plan: &Plan, folder: &Path, cut: u64) -> io::Result<StateFile> {
        let bytes = self.bytes(plan).map_err(io::Error::other)?;
        // A run that was given up and wakes late writes over nobody's file.
        let file = format!("state-{cut}-{:08x}", fastrand::u32(..));
        let mut out = File::create(folder.join(&file))?;
        out.write_all(&bytes)?;
        out.sync_all()?;
        sync_folder(folder)?;
        let steps = plan.keyed().map(|step| step.identity()).collect();
        Ok(StateFile { file, size: bytes.len() as u64, crc: crc32c::crc32c(&bytes), steps })
    }

    fn bytes(&self, plan: &Plan) -> Result<Vec<u8>, arrow::error::ArrowError> {
        let mut index = Index { partitions: Vec::new() };
        let mut tables = Vec::new();
        for (partition, state) in &self.partitions {
            let mut sizes = Vec::new();
            for (step, table) in plan.keyed().zip(&state.tables) {
                let from = tables.len();
                let rows = step.save(table)?;
                let mut writer = StreamWriter::try_new(&mut tables, &rows.schema())?;
                writer.write(&rows)?;
                writer.finish()?;
                sizes.push(tables.len() - from);
            }
            index.partitions.push(Entry { partition: *partition, time: state.time, sizes });
        }
        let mut bytes =
            serde_json::to_vec(&index).map_err(|error| arrow::error::ArrowError::JsonError(error.to_string()))?;
        bytes.push(b'\n');
        bytes.extend(tables);
        Ok(bytes)
    }

    /// Reads what [`States::save`] wrote.
    ///
    /// # Errors
    /// The system's; `InvalidData` with what is wrong.
    pub(super) fn load(plan: &Plan, folder: &Path, known: &StateFile) -> io::Result<States> {
        let path = folder.join(&known.file);
        let damaged = |what: String| {
            let message = format!(
                "{} is damaged ({what}); inrush pipeline reset begins anew, without what the steps remembered",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        let bytes = fs::read(&path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "cannot read {}: {error}; inrush pipeline reset begins anew, without what the steps remembered",
                    path.display()
                ),
            )
        })?;
        if bytes.len() as u64 != known.size || crc32c::crc32c(&bytes) != known.crc {
            return Err(damaged("its checksum is wrong".to_owned()));
        }
        let end = memchr::memchr(b'\n', &bytes).ok_or_else(|| damaged("it is cut off".to_owned()))?;
        let index: Index = serde_json::from_slice(&bytes[..end]).map_err(|error| damaged(error.to_string()))?;
        let mut rest = &bytes[end + 1..];
        let mut states = States::default();
        for Entry { partition, time, sizes } in index.partitions {
            let mut tables = Vec::new();
            for (step, size) in plan.keyed().zip(sizes) {
                let (table, after) = rest.split_at_checked(size).ok_or_else(|| damaged("it is cut off".to_owned()))?;
                rest = after;
                let read = StreamReader::try_new(table, None).and_then(|mut reader| reader.next().transpose());
                let rows = read.map_err(|error| damaged(error.to_string()))?;
                let rows = rows.ok_or_else(|| damaged("a table is missing".to_owned()))?;
                tables.push(step.load(&rows).map_err(|error| damaged(error.to_string()))?);
            }
            states.partitions.insert(partition, State { time, tables });
        }
        Ok(states)
    }
}

/// Takes away the files of other cuts.
pub(super) fn forget_others(folder: &Path, known: Option<&StateFile>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("state-") && known.is_none_or(|known| known.file != name) {
            // It stays if it will not go: the next cut tries again, and nobody reads it.
            let _ = fs::remove_file(path);
        }
    }
}

impl State {
    /// Takes what was made of records without state through the steps that remember and those behind them. `bad` are those of the records
    /// that failed before.
    pub(super) fn run(
        &mut self,
        plan: &Plan,
        partition: i32,
        records: &[Record],
        rows: Rows,
        bad: Vec<(u32, Fault)>,
    ) -> Remembered {
        self.run_watched(plan, partition, records, rows, bad, None)
    }

    /// As [`State::run`], before somebody who looks on. Sources of the rows that he sees are by [`Remembered::places`].
    pub(super) fn run_watched(
        &mut self,
        plan: &Plan,
        partition: i32,
        records: &[Record],
        rows: Rows,
        bad: Vec<(u32, Fault)>,
        watch: Option<&mut (dyn Watch + '_)>,
    ) -> Remembered {
        let mut times = Vec::with_capacity(records.len());
        for record in records {
            self.time = self.time.max(time_of(record));
            times.push(self.time);
        }
        let offsets: Vec<i64> = records.iter().map(|record| record.offset.0).collect();
        let mut course = Course { partition, offsets: &offsets, times: &times, let_go: Vec::new() };
        let done = plan.go_on(rows, &mut self.tables, &mut course, watch);
        let mut all = bad;
        all.extend(done.faults);
        let (records, places) = spread(records, course.let_go);
        let routes = done.routes.into_iter().map(|rows| settled(rows, &places)).collect();
        let mut bad: Vec<(u32, Fault)> =
            all.into_iter().map(|(source, fault)| (places[source as usize], fault)).collect();
        bad.sort_by_key(|(index, _)| *index);
        bad.dedup_by_key(|(index, _)| *index);
        Remembered { records, routes, bad, filtered: done.filtered, evicted: done.evicted, places }
    }
}

/// Records with those that stand for rows which were let go before them, and by source the place among all of them.
fn spread(records: &[Record], let_go: Vec<LetGo>) -> (Vec<Record>, Vec<u32>) {
    let mut order: Vec<usize> = (0..let_go.len()).collect();
    order.sort_by_key(|at| let_go[*at].record);
    let mut places = vec![0; records.len() + let_go.len()];
    let mut all = Vec::with_capacity(places.len());
    let mut waiting = order.into_iter().peekable();
    for (index, record) in records.iter().enumerate() {
        while let Some(at) = waiting.next_if(|at| let_go[*at].record as usize == index) {
            places[records.len() + at] = all.len() as u32;
            let LetGo { time, value, .. } = &let_go[at];
            let (timestamp, value) = (*time, value.clone());
            all.push(Record { offset: record.offset, timestamp, key: None, value, headers: Vec::new() });
        }
        places[index] = all.len() as u32;
        all.push(record.clone());
    }
    (all, places)
}

/// Rows by their places, ascending.
fn settled(rows: Rows, places: &[u32]) -> Rows {
    let sources: Vec<u32> = rows.sources.iter().map(|source| places[*source as usize]).collect();
    let rows = Rows { batch: rows.batch, sources };
    if rows.sources.is_sorted() {
        return rows;
    }
    let mut order: Vec<u32> = (0..rows.len() as u32).collect();
    order.sort_by_key(|row| rows.sources[*row as usize]);
    rows.take(order).expect("places are of rows")
}
