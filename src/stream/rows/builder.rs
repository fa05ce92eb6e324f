//! Arrays that grow by one row and can be cut back to an earlier length: a record that turns out bad half-way leaves nothing behind.
//! Arrow's own builders cannot do that.
//!
//! Lists and structs have their items and fields in slots of their own; a slot knows the others by number.

use super::super::kinds;
use super::super::spec::{Column, Kind};
use super::shape::Shapes;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, ListArray,
    StringArray, StructArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::Field;
use std::sync::Arc;

/// Bytes that are copied at once: most names, ids and codes are shorter.
const BLOCK: usize = 32;

/// What a slot holds; the same for all passes of a decoder.
pub(super) struct Slot {
    pub(super) kind: Kind,
    pub(super) coerce: bool,
    pub(super) inner: Inner,
}

impl Slot {
    /// Whether its values are single JSON strings, numbers or booleans.
    pub(super) fn is_scalar(&self) -> bool {
        matches!(self.inner, Inner::None) && self.kind != Kind::Json
    }
}

/// Slots below a slot.
pub(super) enum Inner {
    None,
    Item(usize),
    /// Of a struct: a slot for each field, and the shape that finds them in an object.
    Fields {
        slots: Vec<usize>,
        shape: usize,
    },
}

/// The slots of all columns; those of the columns come first, in order.
pub(super) fn slots(columns: &[Column], shapes: &mut Shapes) -> Vec<Slot> {
    let slot = |kind: &Kind, coerce| Slot { kind: kind.clone(), coerce, inner: Inner::None };
    let mut slots: Vec<Slot> = columns.iter().map(|column| slot(&column.kind, column.coerce)).collect();
    let mut next = 0;
    while next < slots.len() {
        let coerce = slots[next].coerce;
        let inner = match slots[next].kind.clone() {
            Kind::List(item) => {
                slots.push(slot(&item, coerce));
                Inner::Item(slots.len() - 1)
            }
            Kind::Struct(fields) => {
                let from = slots.len();
                slots.extend(fields.iter().map(|(_, kind)| slot(kind, coerce)));
                let named = fields.iter().map(|(name, _)| name.as_str()).zip(from..);
                Inner::Fields { slots: (from..slots.len()).collect(), shape: shapes.of_struct(named) }
            }
            _ => Inner::None,
        };
        slots[next].inner = inner;
        next += 1;
    }
    slots
}

/// One growing array for each slot.
pub(super) struct Builders<'d> {
    slots: &'d [Slot],
    all: Vec<Builder>,
}

struct Builder {
    len: usize,
    /// Rows that are null, ascending.
    nulls: Vec<u32>,
    values: Values,
}

enum Values {
    Bools(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Uint64(Vec<u64>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>),
    Bytes { ends: Vec<i32>, bytes: Vec<u8> },
    List { ends: Vec<i32> },
    Struct,
}

impl<'d> Builders<'d> {
    /// Empty ones with room for `rows`.
    pub(super) fn new(slots: &'d [Slot], rows: usize) -> Builders<'d> {
        let ends = || {
            let mut ends = Vec::with_capacity(rows + 1);
            ends.push(0);
            ends
        };
        let values = |slot: &Slot| match &slot.kind {
            Kind::Bool => Values::Bools(Vec::with_capacity(rows)),
            Kind::Int32 | Kind::Date => Values::Int32(Vec::with_capacity(rows)),
            Kind::Int64 | Kind::Timestamp | Kind::EpochTimestamp(_) => Values::Int64(Vec::with_capacity(rows)),
            Kind::Uint64 => Values::Uint64(Vec::with_capacity(rows)),
            Kind::Float64 => Values::Float64(Vec::with_capacity(rows)),
            Kind::Decimal(..) => Values::Decimal(Vec::with_capacity(rows)),
            Kind::String | Kind::Json | Kind::Binary => {
                Values::Bytes { ends: ends(), bytes: Vec::with_capacity(rows * 8) }
            }
            Kind::List(_) => Values::List { ends: ends() },
            Kind::Struct(_) => Values::Struct,
        };
        let all = slots.iter().map(|slot| Builder { len: 0, nulls: Vec::new(), values: values(slot) }).collect();
        Builders { slots, all }
    }

    #[inline]
    pub(super) fn slot(&self, slot: usize) -> &'d Slot {
        &self.slots[slot]
    }

    #[inline]
    pub(super) fn len(&self, slot: usize) -> usize {
        self.all[slot].len
    }

    pub(super) fn push_null(&mut self, slot: usize) {
        let builder = &mut self.all[slot];
        builder.nulls.push(builder.len as u32);
        builder.len += 1;
        match &mut builder.values {
            Values::Bools(values) => values.push(false),
            Values::Int32(values) => values.push(0),
            Values::Int64(values) => values.push(0),
            Values::Uint64(values) => values.push(0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal(values) => values.push(0),
            Values::Bytes { ends, bytes } => ends.push(bytes.len() as i32),
            Values::List { ends } => ends.push(ends[ends.len() - 1]),
            Values::Struct => {}
        }
        if let Inner::Fields { slots, .. } = &self.slots[slot].inner {
            slots.iter().for_each(|field| self.push_null(*field));
        }
    }

    #[inline]
    pub(super) fn push_bool(&mut self, slot: usize, value: bool) {
        let builder = &mut self.all[slot];
        if let Values::Bools(values) = &mut builder.values {
            values.push(value);
            builder.len += 1;
        }
    }

    /// An integer, days, microseconds, a scaled decimal: it was found to fit the slot's kind.
    #[inline(always)]
    pub(super) fn push_int(&mut self, slot: usize, value: i128) {
        let builder = &mut self.all[slot];
        match &mut builder.values {
            Values::Int32(values) => values.push(value as i32),
            Values::Int64(values) => values.push(value as i64),
            Values::Uint64(values) => values.push(value as u64),
            Values::Decimal(values) => values.push(value),
            _ => return,
        }
        builder.len += 1;
    }

    #[inline(always)]
    pub(super) fn push_float(&mut self, slot: usize, value: f64) {
        let builder = &mut self.all[slot];
        if let Values::Float64(values) = &mut builder.values {
            values.push(value);
            builder.len += 1;
        }
    }

    /// The first `len` bytes of `text`, which goes on behind them: short values are copied as one block of fixed size, without a call.
    #[inline(always)]
    pub(super) fn push_head(&mut self, slot: usize, text: &[u8], len: usize) {
        self.push_written(slot, |bytes| {
            match text.first_chunk::<BLOCK>() {
                Some(block) if len <= BLOCK => {
                    let end = bytes.len() + len;
                    bytes.extend_from_slice(block);
                    bytes.truncate(end);
                }
                _ => bytes.extend_from_slice(&text[..len]),
            }
            Ok::<(), std::convert::Infallible>(())
        })
        .unwrap_or_else(|never| match never {});
    }

    #[inline(always)]
    pub(super) fn push_bytes(&mut self, slot: usize, value: &[u8]) {
        self.push_written(slot, |bytes| {
            bytes.extend_from_slice(value);
            Ok::<(), std::convert::Infallible>(())
        })
        .unwrap_or_else(|never| match never {});
    }

    /// As [`Builders::push_bytes`], with a value that `write` appends in place. After an error the row is to be cut off.
    #[inline(always)]
    pub(super) fn push_written<E>(
        &mut self,
        slot: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let builder = &mut self.all[slot];
        if let Values::Bytes { ends, bytes } = &mut builder.values {
            write(bytes)?;
            // A pass reads at most `ROWS_BYTES_MAX` and one record more: far below 2 GiB, also when escapes lengthen it.
            ends.push(i32::try_from(bytes.len()).expect("a column of one pass is below 2 GiB"));
            builder.len += 1;
        }
        Ok(())
    }

    /// Ends a list whose items were pushed.
    pub(super) fn push_list(&mut self, slot: usize) {
        if let Inner::Item(item) = self.slots[slot].inner {
            let items = self.all[item].len;
            let builder = &mut self.all[slot];
            if let Values::List { ends } = &mut builder.values {
                ends.push(i32::try_from(items).expect("a pass has fewer than 2 Gi items"));
                builder.len += 1;
            }
        }
    }

    /// Ends a struct; fields that were not pushed are null.
    pub(super) fn push_struct(&mut self, slot: usize) {
        if let Inner::Fields { slots, .. } = &self.slots[slot].inner {
            for field in slots {
                if self.all[*field].len == self.all[slot].len {
                    self.push_null(*field);
                }
            }
            self.all[slot].len += 1;
        }
    }

    /// Cuts a slot and what is below it back to `len`, also if a row was begun and not ended.
    pub(super) fn truncate(&mut self, slot: usize, len: usize) {
        let builder = &mut self.all[slot];
        builder.len = builder.len.min(len);
        while builder.nulls.last().is_some_and(|row| *row as usize >= len) {
            builder.nulls.pop();
        }
        let mut items = 0;
        match &mut builder.values {
            Values::Bools(values) => values.truncate(len),
            Values::Int32(values) => values.truncate(len),
            Values::Int64(values) => values.truncate(len),
            Values::Uint64(values) => values.truncate(len),
            Values::Float64(values) => values.truncate(len),
            Values::Decimal(values) => values.truncate(len),
            Values::Bytes { ends, bytes } => {
                ends.truncate(len + 1);
                bytes.truncate(ends[ends.len() - 1] as usize);
            }
            Values::List { ends } => {
                ends.truncate(len + 1);
                items = ends[ends.len() - 1] as usize;
            }
            Values::Struct => {}
        }
        match &self.slots[slot].inner {
            Inner::None => {}
            Inner::Item(item) => self.truncate(*item, items),
            Inner::Fields { slots, .. } => slots.iter().for_each(|field| self.truncate(*field, len)),
        }
    }

    /// The array of a slot, which is empty afterwards.
    pub(super) fn finish(&mut self, slot: usize) -> ArrayRef {
        let of = &self.slots[slot];
        let builder = &mut self.all[slot];
        let len = std::mem::take(&mut builder.len);
        let nulls = null_buffer(&std::mem::take(&mut builder.nulls), len);
        match (&of.kind, std::mem::replace(&mut builder.values, Values::Struct)) {
            (_, Values::Bools(values)) => {
                Arc::new(BooleanArray::new(BooleanBuffer::from(values.as_slice()), nulls)) as ArrayRef
            }
            (Kind::Date, Values::Int32(values)) => Arc::new(Date32Array::new(values.into(), nulls)),
            (_, Values::Int32(values)) => Arc::new(Int32Array::new(values.into(), nulls)),
            (Kind::Int64, Values::Int64(values)) => Arc::new(Int64Array::new(values.into(), nulls)),
            (_, Values::Int64(values)) => {
                Arc::new(TimestampMicrosecondArray::new(values.into(), nulls).with_timezone("UTC"))
            }
            (_, Values::Uint64(values)) => Arc::new(UInt64Array::new(values.into(), nulls)),
            (_, Values::Float64(values)) => Arc::new(Float64Array::new(values.into(), nulls)),
            (kind, Values::Decimal(values)) => {
                let Kind::Decimal(precision, scale) = kind else { unreachable!("only decimals are kept so") };
                let values = Decimal128Array::new(values.into(), nulls);
                // The kind's precision and scale were checked when the file was read.
                Arc::new(values.with_precision_and_scale(*precision, *scale).expect("1 to 38 digits, scale within"))
            }
            (kind, Values::Bytes { ends, bytes }) => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
                match kind {
                    Kind::Binary => Arc::new(BinaryArray::new(offsets, Buffer::from_vec(bytes), nulls)),
                    // Checked once more, by the column: a thirtieth of the decoding, and no unsafe.
                    _ => Arc::new(StringArray::new(offsets, Buffer::from_vec(bytes), nulls)),
                }
            }
            (_, Values::List { ends }) => {
                let Inner::Item(item) = of.inner else { unreachable!("a list has an item") };
                let field = Arc::new(Field::new("item", kinds::arrow(&self.slots[item].kind), true));
                Arc::new(ListArray::new(field, OffsetBuffer::new(ScalarBuffer::from(ends)), self.finish(item), nulls))
            }
            (kind, Values::Struct) => {
                let (Inner::Fields { slots, .. }, Kind::Struct(fields)) = (&of.inner, kind) else {
                    unreachable!("only structs are kept so")
                };
                let fields = kinds::struct_fields(fields);
                let arrays: Vec<ArrayRef> = slots.iter().map(|slot| self.finish(*slot)).collect();
                match arrays.is_empty() {
                    true => Arc::new(StructArray::new_empty_fields(len, nulls)),
                    false => Arc::new(StructArray::new(fields, arrays, nulls)),
                }
            }
        }
    }
}

fn null_buffer(nulls: &[u32], len: usize) -> Option<NullBuffer> {
    if nulls.is_empty() {
        return None;
    }
    let mut bits = vec![0xffu8; len.div_ceil(8)];
    nulls.iter().for_each(|row| bits[*row as usize / 8] &= !(1 << (row % 8)));
    Some(NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(bits), 0, len)))
}
