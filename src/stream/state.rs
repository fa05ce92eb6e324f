//! What the steps of a running pipeline remember, by source partition: a file beside the checkpoint that names it, written anew at a cut.
//!
//! The file: one line of JSON that says which tables follow and how long each is, then the tables as Arrow IPC streams. Its checksum is in
//! the checkpoint. Times are stream time in ms.

use super::checkpoint::{StateFile, sync_folder};
use super::plan::Plan;
use super::step::{Course, Rows, Table};
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

/// When records of one partition came, in stream time.
pub(super) struct Times {
    offsets: Vec<i64>,
    times: Vec<i64>,
}

impl Times {
    /// Of records that follow `time`.
    pub(super) fn of(records: &[Record], time: i64) -> Times {
        let mut now = time;
        let mut times = Vec::with_capacity(records.len());
        for record in records {
            now = now.max(time_of(record));
            times.push(now);
        }
        Times { offsets: records.iter().map(|record| record.offset.0).collect(), times }
    }

    pub(super) fn course(&self, partition: i32) -> Course<'_> {
        Course { partition, offsets: &self.offsets, times: &self.times }
    }

    pub(super) fn last(&self) -> Option<i64> {
        self.times.last().copied()
    }
}

/// A clock that is wrong moves nobody's time far: what says when it was received is believed up to a while behind that.
fn time_of(record: &Record) -> i64 {
    let header = record.headers.iter().rev().find(|(name, _)| name.as_ref() == RECEIVED_HEADER);
    let received = header.and_then(|(_, value)| std::str::from_utf8(value.as_deref()?).ok()?.parse::<i64>().ok());
    received.map_or(record.timestamp, |received| record.timestamp.min(received.saturating_add(AHEAD_MAX_MS)))
}

impl States {
    /// Of one partition; it begins empty.
    pub(super) fn of(&mut self, partition: i32, plan: &Plan) -> &mut State {
        let begin = || State { time: i64::MIN, tables: plan.keyed().map(|_| Table::default()).collect() };
        self.partitions.entry(partition).or_insert_with(begin)
    }

    /// Partitions in which something leaves at this time.
    pub(super) fn due_at(&self, time: i64) -> Vec<i32> {
        let is_due = |state: &State| state.tables.iter().filter_map(Table::next_due).any(|due| due <= time);
        self.partitions.iter().filter(|(_, state)| is_due(state)).map(|(id, _)| *id).collect()
    }

    /// What leaves when no record comes for so long, by partition and route.
    pub(super) fn let_go(&mut self, plan: &Plan, quiet: Duration) -> Vec<Vec<Rows>> {
        let quiet_ms = quiet.as_millis().min(i64::MAX as u128) as i64;
        let go = |(partition, state): (&i32, &mut State)| {
            let timestamp = state.time.saturating_add(quiet_ms);
            let nothing = Record { offset: Offset(i64::MAX), timestamp, key: None, value: None, headers: Vec::new() };
            let times = Times::of(&[nothing], state.time);
            state.run(plan, plan.no_rows(), &times, *partition).routes
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
        let bytes = fs::read(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display())))?;
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
    /// Takes what was made of records without state through the steps that remember and those behind them.
    pub(super) fn run(&mut self, plan: &Plan, rows: Rows, times: &Times, partition: i32) -> super::plan::Transformed {
        let done = plan.go_on(rows, &mut self.tables, &times.course(partition));
        self.time = times.last().map_or(self.time, |last| self.time.max(last));
        done
    }
}
