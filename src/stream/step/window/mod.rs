//! `window`: rows of a stretch of time and a key become one.
//!
//! Each partition keeps its own part of every window and decides by its own time, which only its own rows move, whether a row is late. So
//! what is in a window does not depend on how partitions were read beside each other. When the time of all partitions is past a window's
//! end and `late`, the parts are merged, by partition, and the row goes on: all closed windows are one sequence, the same whenever it is
//! made again (docs/decisions/0014-windows.md).

mod aggregate;
mod distinct;
mod pane;
mod percentile;
mod sessions;
mod spans;

pub(in crate::stream::step) use aggregate::canonical;
pub(in crate::stream) use aggregate::{Aggregate, output_of};
pub(in crate::stream) use pane::Pane;
pub(in crate::stream) use spans::Hop;

use super::super::fault::Fault;
use super::super::rows::ROWS_MAX;
use super::keyed::Course;
use super::table::converter;
use super::{Found, Rows, Sieve};
use aggregate::{Partial, Values};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::row::RowConverter;
use pane::{Closed, Taken};
use std::collections::HashSet;
use std::sync::Arc;

/// A key's columns as bytes that compare as they do.
type Key = Arc<[u8]>;

/// Rows of closed windows that go on together, at the least: all of one moment do.
const ROWS_WANTED: usize = 8_192;

/// However many windows each is in, so many records are taken at a time.
const RECORDS_MIN: usize = 16;

/// A window step, planned.
#[derive(Clone)]
pub(in crate::stream) struct Window {
    pub(in crate::stream) frame: Frame,
    pub(in crate::stream) late_ms: i64,
    /// The column that says when a row was.
    pub(in crate::stream) time: usize,
    key: Vec<usize>,
    key_fields: Vec<Field>,
    converter: Option<Arc<RowConverter>>,
    aggregates: Arc<[Aggregate]>,
    grows: bool,
    pub(in crate::stream) size_max: usize,
    /// Columns of rows that came into no window, if they go anywhere.
    late: Option<Vec<usize>>,
    pub(in crate::stream) output: SchemaRef,
    identity: String,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::stream) enum Frame {
    Hop(Hop),
    /// In ms.
    Session {
        gap: i64,
    },
}

/// Rows of windows that closed, and of each its place and time.
pub(in crate::stream) struct Made {
    pub(in crate::stream) rows: Rows,
    /// By row when its window closed, ascending, and when it ended; in ms.
    pub(in crate::stream) places: Vec<(i64, i64)>,
    /// Of rows that cannot be made, by row.
    pub(in crate::stream) faults: Vec<(u32, Fault)>,
}

/// Windows that closed, made rows when they are asked for: those of one moment in one piece.
pub(in crate::stream) struct Pieces<'w> {
    window: &'w Window,
    rest: std::vec::IntoIter<Closed>,
}

impl Iterator for Pieces<'_> {
    type Item = Made;

    fn next(&mut self) -> Option<Made> {
        let rest = self.rest.as_slice();
        let last = rest.get(rest.len().min(ROWS_WANTED).checked_sub(1)?)?.moment;
        let count = rest.partition_point(|one| one.moment <= last);
        let closed: Vec<Closed> = self.rest.by_ref().take(count).collect();
        Some(self.window.made(&closed))
    }
}

/// What comes out of a window step.
pub(in crate::stream) fn output_fields(is_session: bool, key: &[Field], aggregates: &[Field]) -> Vec<Field> {
    let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true);
    let mut fields = vec![time("window_start"), time("window_end")];
    fields.extend(is_session.then(|| Field::new("window_count", DataType::Int64, true)));
    fields.extend(key.iter().chain(aggregates).cloned());
    fields
}

/// What a window step is made of.
pub(in crate::stream) struct Parts {
    pub(in crate::stream) frame: Frame,
    pub(in crate::stream) late_ms: i64,
    pub(in crate::stream) time: usize,
    pub(in crate::stream) key: Vec<usize>,
    pub(in crate::stream) aggregates: Vec<Aggregate>,
    pub(in crate::stream) size_max: usize,
    pub(in crate::stream) late: Option<Vec<usize>>,
}

impl Window {
    /// Over rows of this schema.
    ///
    /// # Errors
    /// A key's type does not come back from bytes as it was.
    pub(in crate::stream) fn new(schema: &Schema, parts: Parts) -> Result<Window, ArrowError> {
        let Parts { frame, late_ms, time, key, aggregates, size_max, late } = parts;
        let key_fields: Vec<Field> = key.iter().map(|at| schema.field(*at).clone()).collect();
        let converter = if key.is_empty() { None } else { Some(converter(&key_fields)?) };
        let fields: Vec<Field> = aggregates.iter().map(Aggregate::field).collect();
        let output = output_fields(matches!(frame, Frame::Session { .. }), &key_fields, &fields);
        let columns: Vec<String> =
            key_fields.iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
        let texts: Vec<String> = aggregates.iter().map(Aggregate::identity).collect();
        let identity = format!(
            "window {frame:?} and {late_ms} ms late on {} by {}: {}",
            schema.field(time).name(),
            columns.join(", "),
            texts.join(", ")
        );
        Ok(Window {
            frame,
            late_ms,
            time,
            key,
            key_fields,
            converter,
            grows: aggregates.iter().any(Aggregate::grows),
            aggregates: aggregates.into(),
            size_max,
            late,
            output: Arc::new(Schema::new(output)),
            identity,
        })
    }

    /// Records of which not too many groups are made before they can be let go.
    pub(in crate::stream) fn records_max(&self) -> usize {
        let Frame::Hop(hop) = self.frame else { return ROWS_MAX };
        let windows = usize::try_from(hop.size / hop.every.max(1)).unwrap_or(ROWS_MAX);
        (ROWS_MAX / windows.max(1)).max(RECORDS_MIN)
    }

    /// What its state goes by: a step whose identity differs does not take over another one's.
    pub(in crate::stream) fn identity(&self) -> &str {
        &self.identity
    }

    /// Of a partition whose time begins here, in µs.
    pub(in crate::stream) fn pane(&self, time: i64) -> Pane {
        Pane::new(self, time)
    }

    /// Windows that end no later than this are over at a time; in ms.
    fn past(&self, time: i64) -> i64 {
        time.div_euclid(1_000).saturating_sub(self.late_ms)
    }

    /// Sessions whose last row was before this are over at a time; both in µs. In whole ms of `time`, as moments are.
    fn over(&self, time: i64) -> i64 {
        let Frame::Session { gap } = self.frame else { return i64::MIN };
        (time.div_euclid(1_000).saturating_mul(1_000)).saturating_sub((gap + self.late_ms) * 1_000)
    }

    /// When a session closes whose last row was at `end`: the first ms at which it is over.
    fn moment(&self, end: i64) -> i64 {
        let Frame::Session { gap } = self.frame else { return i64::MAX };
        end.saturating_add((gap + self.late_ms) * 1_000).div_euclid(1_000) + 1
    }

    /// Takes rows of one partition into their windows. Gives back those that came into none, as far as anybody wants them.
    pub(in crate::stream) fn take(&self, rows: Rows, pane: &mut Pane, course: &Course<'_>, found: &mut Found) -> Rows {
        let values: Vec<Values> = self.aggregates.iter().map(|aggregate| aggregate.values(&rows, found)).collect();
        // A record of which one row fails is a dead letter: nothing of it is in a window.
        let bad: HashSet<u32> = found.faults.iter().map(|(index, _)| *index).collect();
        let columns: Vec<ArrayRef> = self.key.iter().map(|at| rows.batch.column(*at).clone()).collect();
        let keys = self.key_bytes(&columns);
        let times = rows.batch.column(self.time).as_primitive::<TimestampMicrosecondType>();
        let mut outside: Vec<u32> = Vec::new();
        for (row, source) in rows.sources.iter().enumerate() {
            if bad.contains(source) {
                continue;
            }
            let cap = course.cap(*source);
            let sieve = if times.is_null(row) {
                Some(Sieve::NoTime)
            } else if times.value(row) > cap.us {
                found.ahead += u32::from(cap.is_of_clock);
                Some(Sieve::Future)
            } else if times.value(row) < 0 {
                Some(Sieve::Late)
            } else {
                match pane.take(self, times.value(row), Window::key_at(keys.as_ref(), row), &values, row) {
                    Taken::Yes => None,
                    Taken::Late => Some(Sieve::Late),
                    Taken::Full => Some(Sieve::Full),
                }
            };
            if let Some(sieve) = sieve {
                found.filtered.add(sieve, 1);
                outside.push(row as u32);
            }
        }
        match &self.late {
            Some(late) => {
                let outside = rows.take(outside).expect("places are of rows");
                let batch = outside.batch.project(late).expect("places are of columns");
                Rows { batch, sources: outside.sources }
            }
            None => Rows { batch: rows.batch.slice(0, 0), sources: Vec::new() },
        }
    }

    /// Time goes on where no rows move it.
    pub(in crate::stream) fn mark(&self, pane: &mut Pane, ms: i64) {
        pane.pass(self, ms.saturating_mul(1_000));
    }

    /// How far a partition's time is, in whole ms.
    pub(in crate::stream) fn time_of(&self, pane: &Pane) -> i64 {
        pane.time.div_euclid(1_000)
    }

    /// The latest moment at which something closes, of those not behind `limit`; in ms.
    pub(in crate::stream) fn last_moment(&self, pane: &Pane, limit: i64) -> Option<i64> {
        pane.last_moment(self, limit)
    }

    /// Takes out what closes no later than `moment` (ms), of all partitions in their order: by its moment, start and key.
    pub(in crate::stream) fn close(&self, panes: &mut [&mut Pane], moment: i64) -> Pieces<'_> {
        let merge = |group: &mut [Partial], other: &[Partial]| pane::merge(&self.aggregates, group, other);
        let mut closed = match self.frame {
            Frame::Hop(_) => self.close_spans(panes, moment),
            Frame::Session { gap } => {
                let over = self.over(moment.saturating_mul(1_000));
                sessions::close(panes, gap * 1_000, over, &|end| self.moment(end), &merge)
            }
        };
        closed.sort_by(|a, b| (a.moment, a.start, &a.key).cmp(&(b.moment, b.start, &b.key)));
        Pieces { window: self, rest: closed.into_iter() }
    }

    fn close_spans(&self, panes: &mut [&mut Pane], moment: i64) -> Vec<Closed> {
        let mut parts = Vec::new();
        panes.iter_mut().for_each(|pane| pane.close_spans(self, moment, &mut parts));
        // Stable: parts of one window stay in the order of their partitions.
        parts.sort_by(|a, b| (a.end, &a.key).cmp(&(b.end, &b.key)));
        let mut closed: Vec<Closed> = Vec::new();
        for part in parts {
            match closed.last_mut().filter(|last| last.end == part.end && last.key == part.key) {
                Some(last) => pane::merge(&self.aggregates, &mut last.partials, &part.partials),
                None => closed.push(part),
            }
        }
        closed
    }

    fn made(&self, closed: &[Closed]) -> Made {
        let time = |of: fn(&Closed) -> i64| -> ArrayRef {
            Arc::new(closed.iter().map(|one| Some(of(one))).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        };
        let mut columns = vec![time(|one| one.start), time(|one| one.end)];
        if matches!(self.frame, Frame::Session { .. }) {
            columns.push(Arc::new(closed.iter().map(|one| Some(one.count)).collect::<Int64Array>()));
        }
        columns.extend(self.keys(closed.iter().map(|one| &one.key)).expect("the bytes are of this converter"));
        let mut faults = Vec::new();
        for (at, aggregate) in self.aggregates.iter().enumerate() {
            let partials: Vec<&Partial> = closed.iter().map(|one| &one.partials[at]).collect();
            columns.push(aggregate.column(&partials, &mut faults));
        }
        let batch = RecordBatch::try_new(self.output.clone(), columns).expect("the columns are the schema's");
        let rows = Rows { batch, sources: (0..closed.len() as u32).collect() };
        let places = closed.iter().map(|one| (one.moment, one.end.div_euclid(1_000))).collect();
        Made { rows, places, faults }
    }

    /// Keys of rows; none if there are no columns of a key.
    fn key_bytes(&self, columns: &[ArrayRef]) -> Option<arrow::row::Rows> {
        let converter = self.converter.as_ref()?;
        let columns: Vec<ArrayRef> = columns.iter().map(aggregate::canonical).collect();
        Some(converter.convert_columns(&columns).expect("the converter was made for these columns"))
    }

    /// The key of one row.
    fn key_at(keys: Option<&arrow::row::Rows>, row: usize) -> &[u8] {
        keys.map_or(&[], |keys| keys.row(row).data())
    }

    /// The columns that keys are.
    fn keys<'k>(&self, keys: impl Iterator<Item = &'k Key>) -> Result<Vec<ArrayRef>, ArrowError> {
        let Some(converter) = &self.converter else { return Ok(Vec::new()) };
        let parser = converter.parser();
        converter.convert_rows(keys.map(|key| parser.parse(key)))
    }
}
