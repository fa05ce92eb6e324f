//! CONTRACT STUB: records to Arrow rows: exactly the columns that the plan reads, faults marked in the same pass.

use super::fault::Fault;
use super::spec::Column;
use crate::record::Record;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

/// Rows hold at most this many records...
pub const ROWS_MAX: usize = 8_192;
/// ...and this many bytes of source values.
pub const ROWS_BYTES_MAX: usize = 16 << 20;

/// Turns records into rows of one schema. One per source partition; keeps its buffers.
pub struct Decoder {
    _columns: Vec<Column>,
}

/// What became of the records given.
pub struct Decoded {
    pub rows: RecordBatch,
    /// For each row the index of its record in the slice given, ascending.
    pub sources: Vec<u32>,
    /// Bad records by index, ascending.
    pub faults: Vec<(u32, Fault)>,
    /// Records passed over because the value is a picture and a column wants JSON: `filtered{reason="content-type"}`.
    pub passed_over: u32,
}

impl Decoder {
    /// `schema` has one field a column, in the same order, as [`super::plan::Plan::input`] says.
    pub fn new(columns: Vec<Column>, schema: SchemaRef) -> Decoder {
        let _ = schema;
        Decoder { _columns: columns }
    }
    pub fn decode(&mut self, partition: i32, records: &[Record]) -> Decoded {
        let _ = (partition, records);
        unimplemented!()
    }
}
