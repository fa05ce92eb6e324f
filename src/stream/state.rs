//! What the steps of a running pipeline remember, by source partition: a file beside the checkpoint that names it, written anew at a cut.
//!
//! The file: one line of JSON that says which tables follow and how long each is, then the tables as Arrow IPC streams. Its checksum is in
//! the checkpoint. Times are stream time in ms.

use super::checkpoint::StateFile;
use super::closing::WINDOWS;
use super::fault::Fault;
use super::horizon::Horizon;
use super::plan::{Plan, Watch};
use super::step::{Cap, Course, Filtered, JsonLines, LetGo, Made, Pane, Pieces, Rows, Table};
use crate::disk::sync_folder;
use crate::record::{Offset, Record};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// So far ahead of when it was received a record may move the time.
pub(super) const AHEAD_MAX_MS: i64 = 5 * 60 * 1000;
/// The last moment that a column can hold: the end of the year 9999.
const TIME_MAX_MS: i64 = 253_402_300_799_999;
/// The header in which a door says when it received a record: ms since 1970, in decimal.
const RECEIVED_HEADER: &[u8] = b"received";

/// The state of all partitions.
pub(super) struct States {
    partitions: BTreeMap<i32, State>,
    /// Partitions that windows wait for: those below this number.
    members: i32,
    /// Windows that close at this moment (ms) or before are closed.
    closed: i64,
}

impl Default for States {
    fn default() -> States {
        States { partitions: BTreeMap::new(), members: 0, closed: i64::MIN }
    }
}

/// The state of one partition.
pub(super) struct State {
    /// Greatest time of a record so far.
    pub(super) time: i64,
    /// One for each step that remembers.
    pub(super) tables: Vec<Table>,
    /// Of the window, if there is one.
    pub(super) pane: Option<Pane>,
}

/// The file's first line.
#[derive(Serialize, Deserialize)]
struct Index {
    partitions: Vec<Entry>,
    #[serde(default)]
    members: i32,
    #[serde(default)]
    closed: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    partition: i32,
    time: i64,
    /// Window time in µs.
    #[serde(default)]
    window: Option<i64>,
    /// Bytes of each table; the window's is the last.
    sizes: Vec<usize>,
}

/// What became of records behind the steps that remember.
pub(super) struct Remembered<'r> {
    /// The records given, and before some of them one for each row that time let go there, which has its offset and the row as its value.
    pub(super) records: Cow<'r, [Record]>,
    pub(super) routes: Vec<Rows>,
    /// Bad ones by index in `records`, ascending, each once.
    pub(super) bad: Vec<(u32, Fault)>,
    pub(super) filtered: Filtered,
    pub(super) evicted: u64,
    /// Times that this machine's clock alone did not believe.
    pub(super) ahead: u32,
    /// By source of rows in the steps, its record's index in `records`.
    pub(super) places: Vec<u32>,
}

/// A clock that is wrong moves nobody's time far: what says when it was received is believed up to a while behind that.
fn time_of(record: &Record) -> i64 {
    let time = received(record)
        .map_or(record.timestamp, |received| record.timestamp.min(received.saturating_add(AHEAD_MAX_MS)));
    time.clamp(0, TIME_MAX_MS)
}

fn received(record: &Record) -> Option<i64> {
    let header = record.headers.iter().rev().find(|(name, _)| name.as_ref() == RECEIVED_HEADER);
    header.and_then(|(_, value)| std::str::from_utf8(value.as_deref()?).ok()?.parse::<i64>().ok())
}

/// How far windows believe the time of a record's rows: a while behind what it says of when it came, and no further than the horizon (ms).
fn cap_of(record: &Record, horizon: i64) -> Cap {
    let received = Some(received(record).unwrap_or(record.timestamp)).filter(|received| *received > 0);
    let own = received.map_or(TIME_MAX_MS, |received| received.saturating_add(AHEAD_MAX_MS).min(TIME_MAX_MS));
    Cap { us: own.min(horizon).saturating_mul(1_000), is_of_clock: horizon < own }
}

impl States {
    /// Of one partition; it begins empty.
    pub(super) fn of(&mut self, partition: i32, plan: &Plan) -> &mut State {
        self.partitions.entry(partition).or_insert_with(|| State::new(plan, i64::MIN))
    }

    /// Windows wait for so many partitions from now on. What is new begins where windows are, since those before are out.
    pub(super) fn admit(&mut self, plan: &Plan, count: i32) {
        let time = if self.members == 0 { i64::MIN } else { self.closed.saturating_mul(1_000) };
        for id in self.members..count {
            self.partitions.entry(id).or_insert_with(|| State::new(plan, time));
        }
        self.members = count;
    }

    pub(super) fn members(&self) -> i32 {
        self.members
    }

    /// Windows that close at this moment (ms) or before are closed.
    pub(super) fn closed(&self) -> i64 {
        self.closed
    }

    /// What nothing comes below again: of the source's partitions, and of windows, whose rows say their moment as an offset.
    pub(super) fn floor(&self, positions: &BTreeMap<i32, i64>) -> BTreeMap<i32, i64> {
        let mut floor = positions.clone();
        if self.members > 0 {
            floor.insert(WINDOWS, self.closed.saturating_add(1));
        }
        floor
    }

    pub(super) fn pane(&self, partition: i32) -> Option<&Pane> {
        self.partitions.get(&partition)?.pane.as_ref()
    }

    /// Of each partition that windows wait for.
    pub(super) fn panes(&self) -> impl Iterator<Item = (i32, &Pane)> {
        self.partitions.iter().filter_map(|(id, state)| Some((*id, state.pane.as_ref()?)))
    }

    /// The window time (ms) that all partitions have passed.
    pub(super) fn passed(&self, plan: &Plan) -> Option<i64> {
        let window = plan.window()?;
        self.panes().map(|(_, pane)| window.time_of(pane)).min()
    }

    /// Closes the windows whose moment (ms) has come. Rows of one moment are in one piece, and pieces are ascending; each is made when it is
    /// asked for.
    pub(super) fn close<'p>(&mut self, plan: &'p Plan, moment: i64) -> Option<Pieces<'p>> {
        let window = plan.window().filter(|_| moment > self.closed)?;
        self.closed = moment;
        let mut panes: Vec<&mut Pane> = self.partitions.values_mut().filter_map(|state| state.pane.as_mut()).collect();
        Some(window.close(&mut panes, moment))
    }

    /// Partitions in which a row is let go at this time.
    pub(super) fn due_at(&self, plan: &Plan, time: i64) -> Vec<i32> {
        let is_due = |state: &State| {
            let mut tables = plan.keyed().zip(&state.tables).filter(|(step, _)| step.holds_rows());
            tables.any(|(_, table)| table.next_due().is_some_and(|due| due <= time))
        };
        self.partitions.iter().filter(|(_, state)| is_due(state)).map(|(id, _)| *id).collect()
    }

    /// What leaves when no record comes for so long (`None` = ever again), by partition; then all windows close.
    pub(super) fn let_go(
        &mut self,
        plan: &Plan,
        quiet: Option<Duration>,
        mut watch: Option<&mut (dyn Watch + '_)>,
    ) -> Vec<Remembered<'static>> {
        let mut gone: Vec<Remembered<'static>> = Vec::new();
        for (partition, state) in &mut self.partitions {
            let last_due = || state.tables.iter().filter_map(Table::last_due).max().unwrap_or(state.time);
            let timestamp = match quiet {
                Some(quiet) => state.time.saturating_add(quiet.as_millis().min(i64::MAX as u128) as i64),
                None => last_due(),
            };
            let nothing = Record { offset: Offset(i64::MAX), timestamp, key: None, value: None, headers: Vec::new() };
            let nothing = std::slice::from_ref(&nothing);
            let watch = watch.as_deref_mut().map(|watch| watch as &mut dyn Watch);
            let (rows, none) = (plan.no_rows(), Vec::new());
            let done = state.run_watched(plan, *partition, nothing, rows, none, &Horizon::NONE, watch);
            gone.push(Remembered { records: done.records.into_owned().into(), ..done });
        }
        for made in self.close(plan, i64::MAX).into_iter().flatten() {
            let watch = watch.as_deref_mut().map(|watch| watch as &mut dyn Watch);
            gone.push(closed(plan, made, watch));
        }
        gone
    }

    /// Bytes in memory, about.
    pub(super) fn size(&self) -> usize {
        let tables = self.partitions.values().flat_map(|state| &state.tables).map(Table::size);
        tables.chain(self.panes().map(|(_, pane)| pane.size())).sum()
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
        let steps = plan.identities();
        Ok(StateFile { file, size: bytes.len() as u64, crc: crc32c::crc32c(&bytes), steps })
    }

    fn bytes(&self, plan: &Plan) -> Result<Vec<u8>, arrow::error::ArrowError> {
        let mut index = Index { partitions: Vec::new(), members: self.members, closed: Some(self.closed) };
        let mut tables = Vec::new();
        for (partition, state) in &self.partitions {
            let mut sizes = Vec::new();
            let keyed = plan.keyed().zip(&state.tables).map(|(step, table)| step.save(table));
            let window = plan.window().zip(state.pane.as_ref());
            for rows in keyed.chain(window.map(|(window, pane)| pane.save(window))) {
                let from = tables.len();
                let rows = rows?;
                let mut writer = StreamWriter::try_new(&mut tables, &rows.schema())?;
                writer.write(&rows)?;
                writer.finish()?;
                sizes.push(tables.len() - from);
            }
            let window = state.pane.as_ref().map(Pane::time);
            index.partitions.push(Entry { partition: *partition, time: state.time, window, sizes });
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
        let named = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let to_do = format!(
            "inrush pipeline reload {named} --state drop goes on at the last cut without what the steps remembered"
        );
        let damaged = |what: String| {
            let message = format!("{} is damaged ({what}); {to_do}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        let bytes = fs::read(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot read {}: {error}; {to_do}", path.display()))
        })?;
        if bytes.len() as u64 != known.size || crc32c::crc32c(&bytes) != known.crc {
            return Err(damaged("its checksum is wrong".to_owned()));
        }
        let end = memchr::memchr(b'\n', &bytes).ok_or_else(|| damaged("it is cut off".to_owned()))?;
        let index: Index = serde_json::from_slice(&bytes[..end]).map_err(|error| damaged(error.to_string()))?;
        let mut rest = &bytes[end + 1..];
        let closed = index.closed.unwrap_or(i64::MIN);
        let mut states = States { partitions: BTreeMap::new(), members: index.members, closed };
        for Entry { partition, time, window: window_time, sizes } in index.partitions {
            let mut read = Vec::with_capacity(sizes.len());
            for size in sizes {
                let (table, after) = rest.split_at_checked(size).ok_or_else(|| damaged("it is cut off".to_owned()))?;
                rest = after;
                let rows = StreamReader::try_new(table, None).and_then(|mut reader| reader.next().transpose());
                let rows = rows.map_err(|error| damaged(error.to_string()))?;
                read.push(rows.ok_or_else(|| damaged("a table is missing".to_owned()))?);
            }
            let mut read = read.into_iter();
            let mut tables = Vec::new();
            for (step, rows) in plan.keyed().zip(read.by_ref()) {
                tables.push(step.load(&rows).map_err(|error| damaged(error.to_string()))?);
            }
            let pane = plan.window().map(|window| match (window_time, read.next()) {
                (Some(time), Some(rows)) => Pane::load(window, time, &rows).map_err(|error| damaged(error.to_string())),
                _ => Err(damaged("a window is missing".to_owned())),
            });
            states.partitions.insert(partition, State { time, tables, pane: pane.transpose()? });
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
    fn new(plan: &Plan, window_time: i64) -> State {
        let pane = plan.window().map(|window| window.pane(window_time));
        State { time: i64::MIN, tables: plan.keyed().map(|_| Table::default()).collect(), pane }
    }

    /// Takes what was made of records without state through the steps that remember and those behind them. `bad` are those of the records
    /// that failed before.
    pub(super) fn run<'r>(
        &mut self,
        plan: &Plan,
        partition: i32,
        records: &'r [Record],
        rows: Rows,
        bad: Vec<(u32, Fault)>,
    ) -> Remembered<'r> {
        self.run_watched(plan, partition, records, rows, bad, &Horizon::NONE, None)
    }

    /// As [`State::run`], as far as times are believed, and before somebody who looks on. Sources of the rows that he sees are by
    /// [`Remembered::places`].
    #[allow(clippy::too_many_arguments)] // Records, what became of them so far, and who judges and sees them.
    pub(super) fn run_watched<'r>(
        &mut self,
        plan: &Plan,
        partition: i32,
        records: &'r [Record],
        rows: Rows,
        bad: Vec<(u32, Fault)>,
        horizon: &Horizon,
        watch: Option<&mut (dyn Watch + '_)>,
    ) -> Remembered<'r> {
        let mut times = Vec::with_capacity(records.len());
        let mut ahead = 0;
        for record in records {
            let (time, believed) = (time_of(record), horizon.at(record.offset.0));
            ahead += u32::from(time > believed && !self.tables.is_empty());
            self.time = self.time.max(time.min(believed));
            times.push(self.time);
        }
        let offsets: Vec<i64> = records.iter().map(|record| record.offset.0).collect();
        let cap = |record: &Record| cap_of(record, horizon.at(record.offset.0));
        let caps: Vec<Cap> = if self.pane.is_some() { records.iter().map(cap).collect() } else { Vec::new() };
        let mut course = Course { partition, offsets: &offsets, times: &times, caps: &caps, let_go: Vec::new() };
        let done = plan.go_on(rows, &mut self.tables, self.pane.as_mut(), &mut course, watch);
        ahead += done.ahead;
        let mut all = bad;
        all.extend(done.faults);
        if course.let_go.is_empty() {
            all.sort_by_key(|(index, _)| *index);
            all.dedup_by_key(|(index, _)| *index);
            let (records, evicted) = (Cow::Borrowed(records), done.evicted);
            let (filtered, places) = (done.filtered, Vec::new());
            return Remembered { records, routes: done.routes, bad: all, filtered, evicted, ahead, places };
        }
        let (records, places) = spread(records, course.let_go);
        let routes = done.routes.into_iter().map(|rows| settled(rows, &places)).collect();
        let mut bad: Vec<(u32, Fault)> =
            all.into_iter().map(|(source, fault)| (places[source as usize], fault)).collect();
        bad.sort_by_key(|(index, _)| *index);
        bad.dedup_by_key(|(index, _)| *index);
        let (records, filtered, evicted) = (records.into(), done.filtered, done.evicted);
        Remembered { records, routes, bad, filtered, evicted, ahead, places }
    }
}

/// Rows of windows that closed, on their way to the outputs. Each has a place of its own, as if it were a record: its offset is the moment
/// at which it closed, and its value the row.
pub(super) fn closed(plan: &Plan, made: Made, watch: Option<&mut (dyn Watch + '_)>) -> Remembered<'static> {
    let Made { rows, places, faults: mut bad } = made;
    // No type of ours has no JSON form.
    let lines = JsonLines::of(&rows.batch)
        .map_or(Vec::new(), |lines| lines.iter().map(bytes::Bytes::copy_from_slice).collect());
    let mut lines = lines.into_iter();
    let record = |(moment, end): (i64, i64)| Record {
        offset: Offset(moment),
        timestamp: end,
        key: None,
        value: lines.next(),
        headers: Vec::new(),
    };
    let records: Vec<Record> = places.into_iter().map(record).collect();
    let done = plan.behind_window(rows.without(&bad), watch);
    bad.extend(done.faults);
    bad.sort_by_key(|(index, _)| *index);
    bad.dedup_by_key(|(index, _)| *index);
    let (filtered, evicted, places) = (done.filtered, done.evicted, Vec::new());
    Remembered { records: records.into(), routes: done.routes, bad, filtered, evicted, ahead: 0, places }
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
