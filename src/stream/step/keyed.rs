//! Steps that remember: `dedupe`, `debounce`, `sessionize`, `last`. Each works on one partition's rows in the log's order, by stream time
//! alone, so that the same records make the same rows however they are cut into batches and whenever they are read again.

use super::table::{Entry, Keys, RowShape, Table};
use super::{Found, Rows, Sieve};
use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use datafusion_physical_expr::PhysicalExpr;
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

/// The columns that `sessionize` adds.
pub(in crate::stream) fn session_fields() -> [Field; 3] {
    [
        Field::new("session_id", DataType::Utf8, true),
        Field::new("session_start", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("session_seq", DataType::Int64, true),
    ]
}

/// Records that rows come from, as far as time goes.
pub(in crate::stream) struct Course<'a> {
    pub(in crate::stream) partition: i32,
    /// By record its offset and the stream time at it, which never goes back.
    pub(in crate::stream) offsets: &'a [i64],
    pub(in crate::stream) times: &'a [i64],
}

impl Course<'_> {
    /// The first record at which the time has come, of those there are.
    fn record_at(&self, due: i64) -> u32 {
        self.times.partition_point(|time| *time < due) as u32
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
    pub(in crate::stream) fn run(&self, rows: Rows, table: &mut Table, course: &Course<'_>, found: &mut Found) -> Rows {
        match &self.what {
            What::Gate(reason) => self.gate(*reason, rows, table, course, found),
            What::Session { output } => self.session(output, rows, table, course, found),
            What::Last { shape, until } => self.last(shape, until.as_ref(), rows, table, course, found),
        }
    }

    fn gate(&self, reason: Sieve, rows: Rows, table: &mut Table, course: &Course<'_>, found: &mut Found) -> Rows {
        let keys = self.keys.of(&rows.batch);
        let mut passes = |(key, source): (&Option<Arc<[u8]>>, &u32)| {
            let now = course.times[*source as usize];
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
        let mut before: Option<u32> = None;
        let mut ordinal = 0;
        for (key, source) in keys.iter().zip(&rows.sources) {
            ordinal = if before == Some(*source) { ordinal + 1 } else { 0 };
            before = Some(*source);
            let now = course.times[*source as usize];
            while table.pop_due(now).is_some() {}
            let Some(key) = key else {
                ids.push(None);
                starts.push(None);
                counts.push(None);
                continue;
            };
            let offset = course.offsets[*source as usize];
            let mut entry =
                table.get(key).cloned().unwrap_or(Entry { start: now, offset, ordinal, ..Entry::default() });
            entry.count += 1;
            entry.due = now.saturating_add(self.time_ms);
            // Its first row's place in the log: unique, and the same when it is read again.
            ids.push(Some(match entry.ordinal {
                0 => format!("{}-{}", course.partition, entry.offset),
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
        course: &Course<'_>,
        found: &mut Found,
    ) -> Rows {
        let keys = self.keys.of(&rows.batch);
        let ends = until.map(|until| super::truths(until, &rows, found));
        let bad: Vec<u32> = found.faults.iter().map(|(index, _)| *index).collect();
        let bytes = shape.rows(&rows.batch);
        let (mut out, mut sources): (Vec<Box<[u8]>>, Vec<u32>) = (Vec::new(), Vec::new());
        let mut emit = |row: Option<Box<[u8]>>, source: u32| {
            if let Some(row) = row {
                out.push(row);
                sources.push(source);
            }
        };
        for (at, source) in rows.sources.iter().enumerate() {
            let now = course.times[*source as usize];
            while let Some(entry) = table.pop_due(now) {
                emit(entry.row, course.record_at(entry.due));
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
                        emit(entry.row, *source);
                    }
                }
            }
        }
        if let Some(now) = course.times.last() {
            while let Some(entry) = table.pop_due(*now) {
                emit(entry.row, course.record_at(entry.due));
            }
        }
        Rows { batch: shape.batch(out.iter().map(AsRef::as_ref)), sources }
    }
}
