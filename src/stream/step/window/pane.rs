//! What a window step remembers of one partition: how far its time is, and what its rows have become so far. Rows of one partition alone
//! decide all of it, in their order, but for when a window that is over leaves: that waits for the other partitions.

use super::aggregate::{Aggregate, PARTIAL_SIZE, Partial, Values};
use super::sessions::Sessions;
use super::spans::Spans;
use super::{Frame, Key, Window};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::error::ArrowError;
use std::sync::Arc;

/// What a group takes beside its key and its partials, about.
const GROUP_SIZE: usize = 96;

/// The windows of one partition.
pub(in crate::stream) struct Pane {
    /// Greatest time of a row so far, in µs; the least there is while there was none.
    pub(super) time: i64,
    held: Held,
    /// Bytes, about.
    size: usize,
    /// Of those, of windows that may still take rows of this partition.
    open: usize,
    /// Rows that its windows have taken since it was opened.
    taken: u64,
}

enum Held {
    Spans(Spans),
    Sessions(Sessions),
}

/// A group as it is saved: start, end, rows, key and what is kept.
type Saved<'p> = (i64, i64, i64, &'p Key, &'p [Partial]);

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    /// All its windows are over.
    Late,
    /// There is no room for it.
    Full,
}

/// A window that is over, of one key.
#[derive(Debug)]
pub(super) struct Closed {
    /// When it closed, in ms of window time: its place in the order of all of them.
    pub(super) moment: i64,
    /// In µs.
    pub(super) start: i64,
    pub(super) end: i64,
    /// Rows of a session.
    pub(super) count: i64,
    pub(super) key: Key,
    pub(super) partials: Box<[Partial]>,
}

/// One row on its way into groups, and the room that there is.
pub(super) struct Room<'a> {
    aggregates: &'a [Aggregate],
    values: &'a [Values],
    row: usize,
    size: usize,
    is_full: bool,
    grows: bool,
}

impl Room<'_> {
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether a group that is there becomes larger too.
    pub(super) fn grows(&self) -> bool {
        self.grows
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn begin(&mut self, key: &[u8]) -> Box<[Partial]> {
        self.size += GROUP_SIZE + key.len() + self.aggregates.len() * PARTIAL_SIZE;
        self.aggregates.iter().map(Aggregate::begin).collect()
    }

    pub(super) fn add(&mut self, group: &mut [Partial]) {
        for ((aggregate, partial), values) in self.aggregates.iter().zip(group).zip(self.values) {
            let before = if aggregate.grows() { partial.size() } else { 0 };
            aggregate.add(partial, values, self.row);
            if aggregate.grows() {
                self.size = (self.size + partial.size()).saturating_sub(before);
            }
        }
    }

    pub(super) fn merge(&mut self, group: &mut [Partial], other: &[Partial]) {
        let before = size_of_all(group);
        merge(self.aggregates, group, other);
        self.size = (self.size + size_of_all(group)).saturating_sub(before);
    }

    pub(super) fn forget(&mut self, key: &[u8], group: &[Partial]) {
        self.size = self.size.saturating_sub(size_of_group(key, group));
    }
}

fn size_of_all(group: &[Partial]) -> usize {
    group.iter().map(Partial::size).sum()
}

fn size_of_group(key: &[u8], group: &[Partial]) -> usize {
    GROUP_SIZE + key.len() + size_of_all(group)
}

pub(super) fn merge(aggregates: &[Aggregate], group: &mut [Partial], other: &[Partial]) {
    for ((aggregate, partial), other) in aggregates.iter().zip(group).zip(other) {
        aggregate.merge(partial, other);
    }
}

impl Pane {
    pub(super) fn new(window: &Window, time: i64) -> Pane {
        let held = match window.frame {
            Frame::Hop(_) => Held::Spans(Spans::default()),
            Frame::Session { .. } => Held::Sessions(Sessions::default()),
        };
        Pane { time, held, size: 0, open: 0, taken: 0 }
    }

    /// Greatest time of a row so far, in µs.
    pub(in crate::stream) fn time(&self) -> i64 {
        self.time
    }

    /// Rows that its windows have taken since it was opened.
    pub(in crate::stream) fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes in memory, about.
    pub(in crate::stream) fn size(&self) -> usize {
        self.size
    }

    /// Bytes of windows that are over for this partition and wait for others.
    pub(in crate::stream) fn waiting(&self) -> usize {
        self.size - self.open
    }

    /// Its time goes on, if that is later; windows end by it.
    pub(super) fn pass(&mut self, window: &Window, time: i64) {
        if time <= self.time {
            return;
        }
        let over = match &self.held {
            Held::Spans(spans) => spans.size_between(window.past(self.time), window.past(time)),
            Held::Sessions(sessions) => sessions.size_between(window.over(self.time), window.over(time)),
        };
        self.open = self.open.saturating_sub(over);
        self.time = time;
    }

    /// Takes in a row of this time, if one of its windows is not over.
    pub(super) fn take(&mut self, window: &Window, time: i64, key: &[u8], values: &[Values], row: usize) -> Taken {
        let is_late = match window.frame {
            Frame::Hop(hop) => {
                let latest = time.div_euclid(1_000).div_euclid(hop.every) * hop.every + hop.size;
                latest <= window.past(self.time)
            }
            Frame::Session { .. } => time.saturating_add(window.late_ms * 1_000) < self.time,
        };
        if is_late {
            return Taken::Late;
        }
        self.pass(window, time);
        let mut room = Room {
            aggregates: &window.aggregates,
            values,
            row,
            size: self.size,
            is_full: self.open >= window.size_max,
            grows: window.grows,
        };
        let past = window.past(self.time);
        let taken = match (&mut self.held, window.frame) {
            (Held::Spans(spans), Frame::Hop(hop)) => spans.take(hop, past, time.div_euclid(1_000), key, &mut room),
            (Held::Sessions(sessions), Frame::Session { gap }) => sessions.take(gap * 1_000, time, key, &mut room),
            _ => Taken::Late,
        };
        self.open = (self.open + room.size).saturating_sub(self.size);
        self.size = room.size;
        self.taken += u64::from(taken == Taken::Yes);
        taken
    }

    /// The latest moment at which something here closes, of those not behind `limit`; in ms.
    pub(super) fn last_moment(&self, window: &Window, limit: i64) -> Option<i64> {
        match &self.held {
            Held::Spans(spans) => {
                spans.last_end(limit.saturating_sub(window.late_ms)).map(|end| end.saturating_add(window.late_ms))
            }
            Held::Sessions(sessions) => {
                sessions.last_end(window.over(limit.saturating_mul(1_000))).map(|end| window.moment(end))
            }
        }
    }

    pub(super) fn sessions(&self) -> &Sessions {
        static NONE: std::sync::LazyLock<Sessions> = std::sync::LazyLock::new(Sessions::default);
        match &self.held {
            Held::Sessions(sessions) => sessions,
            Held::Spans(_) => &NONE,
        }
    }

    /// Takes out a stretch: what it kept, and how many rows it had.
    pub(super) fn remove_session(&mut self, key: &Key, start: i64) -> Option<(Box<[Partial]>, i64)> {
        let Held::Sessions(sessions) = &mut self.held else { return None };
        let (partials, count, size) = sessions.take_out(key, start)?;
        self.shrink(size);
        Some((partials, count))
    }

    /// Takes out the windows that close no later than `moment`.
    pub(super) fn close_spans(&mut self, window: &Window, moment: i64, out: &mut Vec<Closed>) {
        let (Held::Spans(spans), Frame::Hop(hop)) = (&mut self.held, window.frame) else { return };
        let size = spans.close(hop, window.late_ms, moment.saturating_sub(window.late_ms), out);
        self.shrink(size);
    }

    fn shrink(&mut self, size: usize) {
        self.size = self.size.saturating_sub(size);
        // Only at the end of all records something leaves that is not over.
        self.open = self.open.min(self.size);
    }

    /// All groups as rows: the key's columns, start, end and count, and a column for each aggregate.
    ///
    /// # Errors
    /// As Arrow's.
    pub(in crate::stream) fn save(&self, window: &Window) -> Result<RecordBatch, ArrowError> {
        let mut rows: Vec<Saved<'_>> = match &self.held {
            Held::Spans(spans) => spans.entries().map(|(end, key, group)| (end, end, 0, key, group)).collect(),
            Held::Sessions(sessions) => sessions.entries().collect(),
        };
        rows.sort_unstable_by_key(|(start, _, _, key, _)| (*start, *key));
        let mut columns = window.keys(rows.iter().map(|(_, _, _, key, _)| *key))?;
        let number = |of: &dyn Fn(&Saved<'_>) -> i64| -> ArrayRef {
            Arc::new(rows.iter().map(|row| Some(of(row))).collect::<Int64Array>())
        };
        columns.extend([number(&|row| row.0), number(&|row| row.1), number(&|row| row.2)]);
        for (at, aggregate) in window.aggregates.iter().enumerate() {
            let partials: Vec<&Partial> = rows.iter().map(|(.., group)| &group[at]).collect();
            columns.push(aggregate.save(&partials)?);
        }
        RecordBatch::try_new(Arc::new(saved_schema(window)), columns)
    }

    /// From what [`Pane::save`] made.
    ///
    /// # Errors
    /// Other columns than this step has.
    pub(in crate::stream) fn load(window: &Window, time: i64, saved: &RecordBatch) -> Result<Pane, ArrowError> {
        if saved.schema().fields() != saved_schema(window).fields() {
            return Err(ArrowError::SchemaError("it has other columns than the step".to_owned()));
        }
        let of_key = window.key_fields.len();
        let keys = window.key_bytes(&saved.columns()[..of_key]);
        let number = |at: usize, row: usize| saved.column(of_key + at).as_primitive::<Int64Type>().value(row);
        let mut columns = Vec::new();
        for (at, aggregate) in window.aggregates.iter().enumerate() {
            columns.push(aggregate.load(saved.column(of_key + 3 + at))?.into_iter());
        }
        let mut pane = Pane::new(window, time);
        for row in 0..saved.num_rows() {
            let key = Key::from(Window::key_at(keys.as_ref(), row));
            let group: Box<[Partial]> = columns.iter_mut().filter_map(Iterator::next).collect();
            let size = size_of_group(&key, &group);
            pane.size += size;
            let (start, end) = (number(0, row), number(1, row));
            match &mut pane.held {
                Held::Spans(spans) => spans.restore(end, key, group, size),
                Held::Sessions(sessions) => sessions.restore((start, end), number(2, row), key, group, size),
            }
        }
        let over = match &pane.held {
            Held::Spans(spans) => spans.size_between(i64::MIN, window.past(time)),
            Held::Sessions(sessions) => sessions.size_between(i64::MIN, window.over(time)),
        };
        pane.open = pane.size - over;
        Ok(pane)
    }
}

fn saved_schema(window: &Window) -> Schema {
    let key = |field: &Field| Field::new(format!("key.{}", field.name()), field.data_type().clone(), true);
    let mut fields: Vec<Field> = window.key_fields.iter().map(key).collect();
    fields.extend(["start", "end", "count"].map(|name| Field::new(name, DataType::Int64, true)));
    fields.extend(window.aggregates.iter().enumerate().map(|(at, aggregate)| aggregate.saved_field(at)));
    Schema::new(fields)
}
