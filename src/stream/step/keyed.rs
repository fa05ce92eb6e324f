//! Steps that remember: `dedupe`, `debounce`, `sessionize`, `last`. Each works on one partition's rows in the log's order, by stream time
//! alone, so that the same records make the same rows however they are cut into batches and whenever they are read again.

use super::json_lines::JsonLines;
use super::table::{Entry, Keys, RowShape, Table};
use super::{Found, Rows, Sieve};
use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use bytes::Bytes;
use datafusion_physical_expr::PhysicalExpr;
use std::collections::HashSet;
use std::sync::Arc;

/// A keyed step, planned; what it remembers is a [`Table`] a partition.
#[derive(Clone)]
pub(in crate::stream) struct Keyed {
    pub(in crate::stream) keys: Keys,
    /// How long a key is remembered, in ms: behind the row that passed, or behind its last row.
    pub(in crate::stream) time_ms: i64,
    pub(in crate::stream) size_max: usize,
    pub(in crate::stream) what: What,
}

#[derive(Clone)]
pub(in crate::stream) enum What {
    /// A row passes if none with its key has for so long; else it is filtered for this reason.
    Gate(Sieve),
    /// Each row is told its session.
    Session { output: SchemaRef },
    /// The last row of a key goes on when `until` is true of one, or when none has come for so long.
    Last { shape: RowShape, until: Option<Arc<dyn PhysicalExpr>> },
}

/// Sessions that begin with a row which time let go are numbered from here: the record that has its place begins others.
const LET_GO: i64 = 1 << 40;

/// The columns that `sessionize` adds.
pub(in crate::stream) fn session_fields() -> [Field; 3] {
    [
        Field::new("session_id", DataType::Utf8, true),
        Field::new("session_start", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("session_seq", DataType::Int64, true),
    ]
}

/// Records that rows come from, as far as time goes. A source below their count is one of them; the others are rows that time lets go,
/// which stand before the record at which it does.
pub(in crate::stream) struct Course<'a> {
    pub(in crate::stream) partition: i32,
    /// By record its offset and the stream time at it, which never goes back.
    pub(in crate::stream) offsets: &'a [i64],
    pub(in crate::stream) times: &'a [i64],
    /// By record how far a window believes the time of its rows.
    pub(in crate::stream) caps: &'a [Cap],
    pub(in crate::stream) let_go: Vec<LetGo>,
}

/// How far a time is believed.
#[derive(Clone, Copy, Debug)]
pub(in crate::stream) struct Cap {
    pub(in crate::stream) us: i64,
    /// The record itself would allow more.
    pub(in crate::stream) is_of_clock: bool,
}

/// A row that time has let go, or want of room.
pub(in crate::stream) struct LetGo {
    /// The record at which it does, by index.
    pub(in crate::stream) record: u32,
    /// The time of the row.
    pub(in crate::stream) time: i64,
    /// The row as JSON, for a dead letter.
    pub(in crate::stream) value: Option<Bytes>,
}

impl Course<'_> {
    /// The first record at which the time has come, of those there are.
    fn record_at(&self, due: i64) -> u32 {
        self.times.partition_point(|time| *time < due) as u32
    }

    fn is_let_go(&self, source: u32) -> bool {
        source as usize >= self.times.len()
    }

    fn record(&self, source: u32) -> usize {
        match (source as usize).checked_sub(self.times.len()) {
            Some(at) => self.let_go[at].record as usize,
            None => source as usize,
        }
    }

    pub(super) fn cap(&self, source: u32) -> Cap {
        self.caps[self.record(source)]
    }

    fn time(&self, source: u32) -> i64 {
        self.times[self.record(source)]
    }

    /// Keeps rows that are let go as text: there is no record that holds them.
    fn keep(&mut self, batch: &RecordBatch, sources: &[u32]) {
        let records = self.times.len();
        if sources.iter().all(|source| !self.is_let_go(*source)) {
            return;
        }
        let Ok(JsonLines { text, places }) = JsonLines::of(batch) else { return };
        let text = Bytes::from(text);
        for (source, place) in sources.iter().zip(places) {
            if let Some(row) = (*source as usize).checked_sub(records).and_then(|at| self.let_go.get_mut(at)) {
                row.value = Some(text.slice(place));
            }
        }
    }

    /// The source of one more row that is let go.
    fn lets_go(&mut self, record: u32, time: i64) -> u32 {
        self.let_go.push(LetGo { record, time, value: None });
        (self.times.len() + self.let_go.len() - 1) as u32
    }
}

impl Keyed {
    /// What its state goes by: a step whose identity differs does not take over another one's.
    pub(in crate::stream) fn identity(&self) -> String {
        let (kind, rows) = match &self.what {
            What::Gate(reason) => (reason.as_str(), String::new()),
            What::Session { .. } => ("session", String::new()),
            What::Last { shape, .. } => ("last", format!(" of {}", shape.identity())),
        };
        format!("{kind} by {} for {} ms{rows}", self.keys.identity(), self.time_ms)
    }

    /// Whether it lets rows go when their time has come.
    pub(in crate::stream) fn holds_rows(&self) -> bool {
        self.shape().is_some()
    }

    fn shape(&self) -> Option<&RowShape> {
        match &self.what {
            What::Last { shape, .. } => Some(shape),
            What::Gate(_) | What::Session { .. } => None,
        }
    }

    /// # Errors
    /// As Arrow's.
    pub(in crate::stream) fn save(&self, table: &Table) -> Result<RecordBatch, ArrowError> {
        table.save(&self.keys, self.shape())
    }

    /// # Errors
    /// What was saved has other columns.
    pub(in crate::stream) fn load(&self, saved: &RecordBatch) -> Result<Table, ArrowError> {
        Table::load(saved, &self.keys, self.shape())
    }

    /// Takes rows through the step, and lets go what the time of the last record lets go.
    pub(in crate::stream) fn run(
        &self,
        rows: Rows,
        table: &mut Table,
        course: &mut Course<'_>,
        found: &mut Found,
    ) -> Rows {
        match &self.what {
            What::Gate(reason) => self.gate(*reason, rows, table, course, found),
            What::Session { output } => self.session(output, rows, table, course, found),
            What::Last { shape, until } => self.last(shape, until.as_ref(), rows, table, course, found),
        }
    }

    fn gate(&self, reason: Sieve, rows: Rows, table: &mut Table, course: &Course<'_>, found: &mut Found) -> Rows {
        let keys = self.keys.of(&rows.batch);
        let mut passes = |(key, source): (&Option<Arc<[u8]>>, &u32)| {
            let now = course.time(*source);
            while table.pop_due(now).is_some() {}
            // What has no key is like nothing else.
            let Some(key) = key else { return Some(true) };
            if table.get(key).is_some() {
                return Some(false);
            }
            table.set(key, Entry { due: now.saturating_add(self.time_ms), ..Entry::default() });
            found.evicted += std::iter::from_fn(|| table.pop_excess(self.size_max)).count() as u64;
            Some(true)
        };
        let keep: BooleanArray = keys.iter().zip(&rows.sources).map(&mut passes).collect();
        found.filtered.add(reason, rows.len() - keep.true_count());
        self.expire(table, course);
        rows.filter(&keep).expect("there is an answer a row")
    }

    /// Forgets what the last record lets go.
    fn expire(&self, table: &mut Table, course: &Course<'_>) {
        if let Some(now) = course.times.last() {
            while table.pop_due(*now).is_some() {}
        }
    }

    fn session(
        &self,
        output: &SchemaRef,
        rows: Rows,
        table: &mut Table,
        course: &Course<'_>,
        found: &mut Found,
    ) -> Rows {
        let keys = self.keys.of(&rows.batch);
        let (mut ids, mut starts, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        let mut before: Option<usize> = None;
        let mut ordinal = 0;
        for (key, source) in keys.iter().zip(&rows.sources) {
            let record = course.record(*source);
            ordinal = if before == Some(record) { ordinal + 1 } else { 0 };
            before = Some(record);
            let now = course.times[record];
            while table.pop_due(now).is_some() {}
            let Some(key) = key else {
                ids.push(None);
                starts.push(None);
                counts.push(None);
                continue;
            };
            let begins = || {
                let apart = if course.is_let_go(*source) { LET_GO } else { 0 };
                let (offset, ordinal) = (course.offsets[record], ordinal + apart);
                Entry { start: now, offset, ordinal, ..Entry::default() }
            };
            let mut entry = table.get(key).cloned().unwrap_or_else(begins);
            entry.count += 1;
            entry.due = now.saturating_add(self.time_ms);
            // Its first row's place in the log: unique, and the same when it is read again.
            ids.push(Some(match entry.ordinal {
                0 => format!("{}-{}", course.partition, entry.offset),
                LET_GO.. => format!("{}-{}-{}@{}", course.partition, entry.offset, entry.ordinal - LET_GO, entry.start),
                ordinal => format!("{}-{}-{ordinal}", course.partition, entry.offset),
            }));
            starts.push(Some(entry.start.saturating_mul(1_000)));
            counts.push(Some(entry.count));
            table.set(key, entry);
            found.evicted += std::iter::from_fn(|| table.pop_excess(self.size_max)).count() as u64;
        }
        self.expire(table, course);
        let mut columns = rows.batch.columns().to_vec();
        columns.extend([
            Arc::new(StringArray::from(ids)) as ArrayRef,
            Arc::new(TimestampMicrosecondArray::from(starts).with_timezone("UTC")),
            Arc::new(Int64Array::from(counts)),
        ]);
        let batch = RecordBatch::try_new(output.clone(), columns).expect("the three columns are in the schema");
        Rows { batch, sources: rows.sources }
    }

    fn last(
        &self,
        shape: &RowShape,
        until: Option<&Arc<dyn PhysicalExpr>>,
        rows: Rows,
        table: &mut Table,
        course: &mut Course<'_>,
        found: &mut Found,
    ) -> Rows {
        let keys = self.keys.of(&rows.batch);
        let ends = until.map(|until| super::truths(until, &rows, found));
        let bad: HashSet<u32> = found.faults.iter().map(|(index, _)| *index).collect();
        let bytes = shape.rows(&rows.batch);
        let (mut out, mut sources): (Vec<Box<[u8]>>, Vec<u32>) = (Vec::new(), Vec::new());
        let mut emit = |row: Option<Box<[u8]>>, source: u32| {
            if let Some(row) = row {
                out.push(row);
                sources.push(source);
            }
        };
        for (at, source) in rows.sources.iter().enumerate() {
            let now = course.time(*source);
            while let Some(entry) = table.pop_due(now) {
                let record = course.record_at(entry.due);
                emit(entry.row, course.lets_go(record, entry.due));
            }
            if ends.is_some() && bad.contains(source) {
                continue;
            }
            let row: Box<[u8]> = bytes.row(at).as_ref().into();
            let is_end = ends.as_ref().is_some_and(|ends| ends.is_valid(at) && ends.value(at));
            match &keys[at] {
                // What has no key is the last of its own.
                None => emit(Some(row), *source),
                Some(key) if is_end => {
                    found.filtered.add(Sieve::Replaced, usize::from(table.remove(key).is_some()));
                    emit(Some(row), *source);
                }
                Some(key) => {
                    found.filtered.add(Sieve::Replaced, usize::from(table.get(key).is_some()));
                    table.set(key, Entry { due: now.saturating_add(self.time_ms), row: Some(row), ..Entry::default() });
                    while let Some(entry) = table.pop_excess(self.size_max) {
                        found.evicted += 1;
                        let record = course.record(*source) as u32;
                        emit(entry.row, course.lets_go(record, now));
                    }
                }
            }
        }
        if let Some(now) = course.times.last().copied() {
            while let Some(entry) = table.pop_due(now) {
                let record = course.record_at(entry.due);
                emit(entry.row, course.lets_go(record, entry.due));
            }
        }
        let batch = shape.batch(out.iter().map(AsRef::as_ref));
        course.keep(&batch, &sources);
        Rows { batch, sources }
    }
}
