//! Records to Arrow rows: exactly the columns that the plan reads. A record is read in one pass straight into the arrays ([`pass`]); one
//! that this pass finds odd is judged as a tree ([`tree`]), which says what is wrong with it, or that nothing is. What it left in the
//! arrays is cut off, so one bad record never costs its neighbours. Other formats are trees or lines ([`lines`]).

mod builder;
mod lines;
mod pass;
mod scalar;
mod shape;
#[cfg(test)]
mod tests;
mod tree;

use super::fault::Fault;
use super::format::{FETCH_TIME_MAX, Format, Unread};
use super::spec::{Column, From};
use crate::record::{Record, RecordRef};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use builder::Slot;
use pass::Pass;
pub(super) use scalar::{DAYS, MICROS};
use shape::Shapes;
use std::time::Instant;

/// Rows hold at most this many records...
pub const ROWS_MAX: usize = 8_192;
/// ...and this many bytes of source values.
pub const ROWS_BYTES_MAX: usize = 16 << 20;

/// Schemas that are told at once as lacking; when they are there, the others are.
const WANTING_MAX: usize = 64;

/// Turns records into rows of one schema.
pub struct Decoder {
    format: Format,
    columns: Vec<Column>,
    schema: SchemaRef,
    slots: Vec<Slot>,
    shapes: Shapes,
    /// Whether any column looks into the value.
    needs_value: bool,
    /// Values are text in all formats but one: cells of CSV, which are read as their columns ask.
    is_all_text: bool,
    /// No column is from value or headers: then every record has what is wanted.
    reads_only_record: bool,
    /// What a record is told that has none of them.
    names_read: String,
    /// The column that takes the fields that no other one takes.
    rest: Option<usize>,
    /// Top-level fields that columns are read out of: `rest` is what remains.
    taken: Vec<String>,
}

/// What became of the records given.
pub struct Decoded {
    pub rows: RecordBatch,
    /// For each row the index of its record, ascending; a record of several lines stands there as often.
    pub sources: Vec<u32>,
    /// Bad records by index, ascending.
    pub faults: Vec<(u32, Fault)>,
    /// Pictures, passed over because a column wants JSON: `filtered{reason="content-type"}`.
    pub passed_over: u32,
    /// Ids of schemas without which the records cannot be read. Unless there are none, what else is told here is worth nothing.
    pub wanting: Vec<u32>,
}

impl Decoder {
    /// `schema` has one field a column, in the same order, as [`super::plan::Plan::input`] says.
    pub(super) fn new(format: &Format, columns: Vec<Column>, schema: SchemaRef) -> Decoder {
        let mut shapes = Shapes::of(&columns);
        let slots = builder::slots(&columns, &mut shapes);
        shapes.note_scalars(|slot| slots[slot].is_scalar());
        let first = |column: &Column| match &column.from {
            From::Path(path) => path.first().cloned(),
            _ => None,
        };
        Decoder {
            // How many rows a record of lines is can be seen only by looking.
            needs_value: format.has_lines()
                || columns.iter().any(|column| matches!(column.from, From::Path(_) | From::Rest)),
            is_all_text: matches!(format, Format::Csv(_)),
            names_read: tree::names_read(&columns),
            reads_only_record: columns.iter().all(|column| matches!(column.from, From::Record(_))),
            rest: columns.iter().position(|column| column.from == From::Rest),
            taken: columns.iter().filter_map(first).collect(),
            format: format.clone(),
            columns,
            schema,
            slots,
            shapes,
        }
    }

    /// Decodes records of one partition.
    pub fn decode(&self, partition: i32, records: &[Record]) -> Decoded {
        self.decode_each(partition, records.len(), records.iter().map(Record::by_ref))
    }

    /// As [`Decoder::decode`], and gets what schemas that lacks; blocks, then.
    ///
    /// # Errors
    /// The schema registry is down.
    pub fn decode_fetching(&self, partition: i32, records: &[Record]) -> Result<Decoded, String> {
        self.decode_fetching_until(partition, records, None)
    }

    /// As [`Decoder::decode_fetching`], for a thread that has to show now and then that it lives: what it has got by then is kept.
    ///
    /// # Errors
    /// The same; there is more to get than fits into [`FETCH_TIME_MAX`].
    pub(super) fn decode_fetching_some(&self, partition: i32, records: &[Record]) -> Result<Decoded, String> {
        self.decode_fetching_until(partition, records, Some(Instant::now() + FETCH_TIME_MAX))
    }

    fn decode_fetching_until(
        &self,
        partition: i32,
        records: &[Record],
        until: Option<Instant>,
    ) -> Result<Decoded, String> {
        loop {
            let decoded = self.decode(partition, records);
            let Some(registry) = self.format.registry().filter(|_| !decoded.wanting.is_empty()) else {
                return Ok(decoded);
            };
            if until.is_some_and(|until| until < Instant::now()) {
                return Err(format!(
                    "the schema registry {} is being asked for many schemas, {} so far",
                    registry.address(),
                    registry.answered()
                ));
            }
            registry.fetch(&decoded.wanting)?;
        }
    }

    /// As [`Decoder::decode`], of records where they lie. `count` is how many they are; it need not be exact.
    pub fn decode_each<'r>(
        &self,
        partition: i32,
        count: usize,
        records: impl Iterator<Item = RecordRef<'r>>,
    ) -> Decoded {
        let mut pass = Pass::new(self, partition, count);
        let mut sources = Vec::with_capacity(count);
        let mut faults = Vec::new();
        let (mut passed_over, mut wanting) = (0, Vec::new());
        for (index, record) in records.enumerate() {
            if wanting.len() == WANTING_MAX {
                break;
            }
            if self.needs_value && is_picture(&record) {
                passed_over += 1;
                continue;
            }
            match self.add(&mut pass, &record) {
                Ok(()) => sources.resize(pass.rows(), index as u32),
                Err(Unread::Fault(fault)) => faults.push((index as u32, fault)),
                Err(Unread::Wanting(id)) if wanting.contains(&id) => {}
                Err(Unread::Wanting(id)) => wanting.push(id),
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(pass.rows()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), pass.finish(), &options)
            .expect("each array was built to its column's kind, which made the schema's field");
        Decoded { rows, sources, faults, passed_over, wanting }
    }
}

fn is_picture(record: &RecordRef<'_>) -> bool {
    record.headers.last(b"content-type").flatten().is_some_and(|kind| kind.starts_with(b"image/"))
}
