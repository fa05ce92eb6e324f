//! Rows to a topic as JSON objects, one record a row, exactly once by way of the [`Journal`].

use super::super::checkpoint::OutputState;
use super::super::fault::{Fault, Reason};
use super::super::step::JsonLines;
use super::journal::{Journal, Row, copied_headers};
use super::parquet::CutName;
use super::{Shaped, Sink, WriteError};
use crate::record::{Record, partition_for_key};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::collections::BTreeMap;
use std::ops::Range;

/// A topic that rows go to.
pub(in crate::stream) struct TopicSink {
    pub(in crate::stream) journal: Journal,
    /// Name of the column that keys come from.
    pub(in crate::stream) key: Option<String>,
}

/// Rows as they will be written.
#[derive(Default)]
pub(in crate::stream) struct Lines {
    json: Vec<u8>,
    /// By row, of `json`; `None` for a row that cannot be written.
    lines: Vec<Option<Range<usize>>>,
    keys: Vec<Option<Vec<u8>>>,
}

impl Sink for TopicSink {
    fn shape(&self, rows: RecordBatch, sources: &[u32], records: &[Record]) -> (Shaped, Vec<(u32, Fault)>) {
        let config = self.journal.topic().config();
        let too_large = |row: &Row<'_>| self.journal.too_large(row).map(|size| (size, config.max_message_bytes));
        Lines::shape(rows, sources, records, self.key.as_deref(), config.compacts, too_large)
    }

    /// Durable as the topic's class says when it returns.
    fn write(
        &mut self,
        source: i32,
        shaped: &Shaped,
        sources: &[u32],
        records: &[Record],
        name: &CutName,
    ) -> Result<(), WriteError> {
        let count = self.journal.partitions().max(1);
        let home = |row: &Row<'_>| row.key.map_or(source.max(0) % count, |key| partition_for_key(key, count).0);
        let rows = shaped.lines.spread(sources, records, home);
        self.journal.write(source, rows, name.last).map_err(|error| WriteError::Down(error.to_string()))
    }

    fn note(&self, state: &mut OutputState, floor: &BTreeMap<i32, i64>) {
        state.topic = Some(self.journal.state(floor));
    }

    fn cut(&mut self, state: &OutputState, floor: &BTreeMap<i32, i64>) {
        if let Some(topic) = &state.topic {
            self.journal.cut(topic, floor);
        }
    }

    fn is_durable(&self) -> bool {
        self.journal.is_durable()
    }

    fn whole(&self) -> BTreeMap<i32, i64> {
        self.journal.progress().whole()
    }

    fn furthest(&self) -> BTreeMap<i32, i64> {
        self.journal.progress().furthest()
    }
}

impl Lines {
    /// Encodes rows with the column `key` as their keys. `too_large` gives the size of a row that the topic does not take, and its limit.
    pub(super) fn shape(
        rows: RecordBatch,
        sources: &[u32],
        records: &[Record],
        key: Option<&str>,
        needs_key: bool,
        too_large: impl Fn(&Row<'_>) -> Option<(usize, usize)>,
    ) -> (Shaped, Vec<(u32, Fault)>) {
        let mut faults = Vec::new();
        let (json, lines) = match JsonLines::of(&rows) {
            Ok(JsonLines { text, places }) => (text, places.into_iter().map(Some).collect()),
            Err(error) => {
                // No type of ours has no JSON form; should one come, its rows are told and not lost.
                let why = error.to_string();
                let all = 0..rows.num_rows() as u32;
                faults.extend(all.map(|row| (row, Fault::of(Reason::Expression, None, why.clone()))));
                (Vec::new(), vec![None; rows.num_rows()])
            }
        };
        let keys = keys(&rows, key);
        let mut shaped = Lines { json, lines, keys };
        for row in 0..rows.num_rows() {
            if needs_key && shaped.keys[row].is_none() && shaped.lines[row].is_some() {
                let message = "a compacted topic takes no row without a key: name its column with key".to_owned();
                faults.push((row as u32, Fault::of(Reason::SinkRefused, key, message)));
                shaped.lines[row] = None;
                continue;
            }
            let record = &records[sources[row] as usize];
            if let Some((size, limit)) = shaped.row(row, record).and_then(|row| too_large(&row)) {
                let message = format!("a batch of {size} bytes exceeds max.message.bytes of {limit}");
                faults.push((row as u32, Fault::of(Reason::TooLarge, None, message)));
                shaped.lines[row] = None;
            }
        }
        // A record of which one row cannot be written is a dead letter, and none of its rows are here.
        for (row, _) in &faults {
            let source = sources[*row as usize];
            let from = sources.partition_point(|other| *other < source);
            let alike = sources[from..].iter().take_while(|other| **other == source).count();
            shaped.lines[from..from + alike].iter_mut().for_each(|line| *line = None);
        }
        (Shaped { rows, lines: shaped }, faults)
    }

    /// The rows that can be written, by the output partition where `home` says they belong.
    pub(super) fn spread<'a>(
        &'a self,
        sources: &[u32],
        records: &'a [Record],
        home: impl Fn(&Row<'a>) -> i32,
    ) -> BTreeMap<i32, Vec<Row<'a>>> {
        let mut spread: BTreeMap<i32, Vec<Row<'a>>> = BTreeMap::new();
        for (at, source) in sources.iter().enumerate() {
            let Some(row) = self.row(at, &records[*source as usize]) else { continue };
            spread.entry(home(&row)).or_default().push(row);
        }
        spread
    }

    fn row<'a>(&'a self, at: usize, record: &'a Record) -> Option<Row<'a>> {
        let line = self.lines[at].clone()?;
        Some(Row {
            offset: record.offset.0,
            timestamp: record.timestamp,
            key: self.keys[at].as_deref(),
            value: Some(&self.json[line]),
            headers: copied_headers(record).collect(),
        })
    }
}

fn keys(rows: &RecordBatch, key: Option<&str>) -> Vec<Option<Vec<u8>>> {
    match key.and_then(|key| rows.column_by_name(key)) {
        Some(column) => (0..rows.num_rows()).map(|row| key_of(column, row)).collect(),
        None => vec![None; rows.num_rows()],
    }
}

/// A key's bytes: text and binary as they are, everything else as its text.
fn key_of(column: &ArrayRef, row: usize) -> Option<Vec<u8>> {
    if column.is_null(row) {
        return None;
    }
    Some(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).as_bytes().to_vec(),
        DataType::Utf8View => column.as_string_view().value(row).as_bytes().to_vec(),
        DataType::Binary => column.as_binary::<i32>().value(row).to_vec(),
        DataType::BinaryView => column.as_binary_view().value(row).to_vec(),
        _ => {
            let options = FormatOptions::default();
            let formatter = ArrayFormatter::try_new(column.as_ref(), &options).ok()?;
            formatter.value(row).try_to_string().ok()?.into_bytes()
        }
    })
}
