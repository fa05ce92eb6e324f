//! The fast way: one pass over a record's JSON, straight into the columns' builders. What is odd about a record is left to the tree.

use super::super::fault::Fault;
use super::super::spec::{From, Kind};
use super::Decoder;
use super::builder::{Builders, Inner};
use super::scalar::{MICROS, Number, epoch_micros, number_of, plain_decimal, plain_rfc3339, text_number, text_of};
use super::shape::{Field, Met, Order, Use};
use super::tree::{self, Cell};
use crate::json::Node;
use crate::json::{Number as Digits, Odd, Scan, Scanner, Text, unescape};
use crate::record::RecordRef;
use arrow::array::ArrayRef;

/// Decodes records one after another; lives as long as one batch of rows.
pub(super) struct Pass<'d> {
    decoder: &'d Decoder,
    partition: i32,
    rows: usize,
    builders: Builders<'d>,
    /// By shape.
    orders: Vec<Order>,
    met: Met,
    /// Texts without their escapes.
    plain: Vec<u8>,
}

impl<'d> Pass<'d> {
    pub(super) fn new(decoder: &'d Decoder, partition: i32, rows_hint: usize) -> Pass<'d> {
        Pass {
            decoder,
            partition,
            rows: 0,
            builders: Builders::new(&decoder.slots, rows_hint),
            orders: decoder.shapes.all.iter().map(|_| Order::new()).collect(),
            met: Met::new(decoder.shapes.fields),
            plain: Vec::new(),
        }
    }

    /// Adds the record's row, or tells why it has none and leaves nothing of it.
    pub(super) fn record(&mut self, record: &RecordRef<'_>) -> Result<(), Fault> {
        self.text(record, record.value)
    }

    /// Adds a row of the record out of this JSON text, which is its value or a part of it.
    pub(super) fn text(&mut self, record: &RecordRef<'_>, text: Option<&[u8]>) -> Result<(), Fault> {
        if self.fast(record, text).is_ok() {
            self.rows += 1;
            return Ok(());
        }
        self.cut();
        let node = self.decoder.judge(record, text)?;
        self.push(record, &node);
        Ok(())
    }

    /// Adds a row of the record out of this tree.
    pub(super) fn tree(&mut self, record: &RecordRef<'_>, node: &Node<'_>) -> Result<(), Fault> {
        self.decoder.judge_tree(record, node)?;
        self.push(record, node);
        Ok(())
    }

    /// The row of a tree that was judged.
    fn push(&mut self, record: &RecordRef<'_>, node: &Node<'_>) {
        for slot in 0..self.decoder.columns.len() {
            let cell = self.decoder.cell(slot, record, node, self.partition);
            tree::push(&mut self.builders, slot, cell);
        }
        self.rows += 1;
    }

    /// Takes all rows from this one on away.
    pub(super) fn take_back(&mut self, to: usize) {
        self.rows = to;
        self.cut();
    }

    /// Whether a record is read without its tree; it leaves no row.
    #[cfg(test)]
    pub(super) fn is_fast(&mut self, record: &RecordRef<'_>) -> bool {
        let is_fast = self.fast(record, record.value).is_ok();
        self.cut();
        is_fast
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// One array a column.
    pub(super) fn finish(mut self) -> Vec<ArrayRef> {
        (0..self.decoder.columns.len()).map(|slot| self.builders.finish(slot)).collect()
    }

    fn cut(&mut self) {
        (0..self.decoder.columns.len()).for_each(|slot| self.builders.truncate(slot, self.rows));
    }

    fn fast(&mut self, record: &RecordRef<'_>, text: Option<&[u8]>) -> Scan<()> {
        if self.decoder.needs_value {
            let mut scan = Scanner::new(text.ok_or(Odd)?);
            if scan.token()? != b'{' {
                return Err(Odd);
            }
            self.value_object(&mut scan)?;
            scan.end()?;
        }
        let mut has_any = self.decoder.reads_only_record;
        for (slot, column) in self.decoder.columns.iter().enumerate() {
            if !matches!(column.from, From::Path(_) | From::Rest) {
                let cell = tree::cell(column, &[], record, &Node::Null, self.partition);
                tree::judge(&column.kind, cell, column.coerce).map_err(|_| Odd)?;
                if !matches!(cell, Cell::Null) {
                    tree::push(&mut self.builders, slot, cell);
                    has_any |= matches!(column.from, From::Header(_));
                }
            } else {
                has_any |= self.builders.len(slot) > self.rows;
            }
            if self.builders.len(slot) == self.rows {
                if column.required {
                    return Err(Odd);
                }
                self.builders.push_null(slot);
            }
        }
        if has_any { Ok(()) } else { Err(Odd) }
    }

    /// The record's value: its fields, and what of it is `rest`.
    fn value_object(&mut self, scan: &mut Scanner<'_>) -> Scan<()> {
        let Some(rest) = self.decoder.rest else { return self.object(scan, 0, 1) };
        let (shape, object) = (&self.decoder.shapes.all[0], self.met.begin());
        let mut last = Order::START;
        // Built aside: fields that are read lie between those that are not.
        let mut text = vec![b'{'];
        scan.members(0, |scan| {
            let (field, name) = self.orders[0].name(shape, scan, &mut last)?;
            match field {
                Some(field) => self.field(scan, &self.decoder.shapes.all[0].fields[field], object, 1),
                None => {
                    if text.len() > 1 {
                        text.push(b',');
                    }
                    name.copy(&mut text)?;
                    text.push(b':');
                    scan.copy(1, &mut text)
                }
            }
        })?;
        text.push(b'}');
        self.builders.push_bytes(rest, &text);
        Ok(())
    }

    /// An object, whose brace comes next.
    fn object(&mut self, scan: &mut Scanner<'_>, shape: usize, depth: u32) -> Scan<()> {
        let mut order = std::mem::take(&mut self.orders[shape]);
        let end = self.members(*scan, shape, &mut order, depth);
        self.orders[shape] = order;
        scan.go_to(end?);
        Ok(())
    }

    /// The place behind an object, whose brace comes next. The scanner is this call's own, and what is called takes and gives places: so
    /// the place stays in a register from field to field, and does not go through memory, where each would wait for the one before.
    fn members(&mut self, mut scan: Scanner<'_>, shape: usize, order: &mut Order, depth: u32) -> Scan<usize> {
        let object = self.met.begin();
        let shape = &self.decoder.shapes.all[shape];
        let mut last = Order::START;
        let mut more = scan.open(depth)?;
        while more {
            let (field, _) = order.name(shape, &mut scan, &mut last)?;
            match field.map(|field| &shape.fields[field]) {
                None => scan.go_to(skip(scan.text(), scan.place(), depth + 1)?),
                Some(field) => match (field.scalar, scan.token()?) {
                    (Some(slot), b'"') => {
                        self.met.meet(object, field.id)?;
                        scan.pass(b'"')?;
                        let from = scan.place();
                        let text = scan.string()?;
                        match self.builders.slot(slot).kind {
                            Kind::String if !text.is_escaped => {
                                self.builders.push_head(slot, &scan.text()[from..], text.raw.len());
                            }
                            _ => self.string(slot, text)?,
                        }
                    }
                    (Some(slot), b'-' | b'0'..=b'9') => {
                        self.met.meet(object, field.id)?;
                        let digits = scan.number()?;
                        self.number(slot, &digits)?;
                    }
                    (Some(slot), b't' | b'f') if self.builders.slot(slot).kind == Kind::Bool => {
                        self.met.meet(object, field.id)?;
                        let is_true = scan.pass_exactly(b"true");
                        if !is_true {
                            scan.literal(b"false")?;
                        }
                        self.builders.push_bool(slot, is_true);
                    }
                    _ => scan.go_to(self.field_at(scan.text(), scan.place(), field, object, depth)?),
                },
            }
            more = scan.next(b'}')?;
        }
        Ok(scan.place())
    }

    /// The place behind a field's value.
    #[inline(never)]
    fn field_at(&mut self, text: &[u8], place: usize, field: &Field, object: u64, depth: u32) -> Scan<usize> {
        let mut scan = Scanner::at(text, place);
        self.field(&mut scan, field, object, depth)?;
        Ok(scan.place())
    }

    #[inline]
    fn field(&mut self, scan: &mut Scanner<'_>, field: &Field, object: u64, depth: u32) -> Scan<()> {
        self.met.meet(object, field.id)?;
        let from = scan.place();
        for wanted in &field.uses {
            scan.go_to(from);
            match *wanted {
                Use::Slot(slot) => drop(self.value(scan, slot, depth + 1)?),
                Use::Object(inner) => match scan.token()? {
                    b'{' => self.object(scan, inner, depth + 1)?,
                    b'[' if self.decoder.shapes.all[inner].has_index => return Err(Odd),
                    _ => scan.skip(depth + 1)?,
                },
            }
        }
        Ok(())
    }

    /// A value into a slot. A null is passed and not pushed: false.
    #[inline]
    fn value(&mut self, scan: &mut Scanner<'_>, slot: usize, depth: u32) -> Scan<bool> {
        let of = self.builders.slot(slot);
        match (scan.token()?, &of.kind, &of.inner) {
            (b'n', _, _) => return scan.literal(b"null").map(|()| false),
            (_, Kind::Json, _) => self.builders.push_written(slot, |bytes| scan.copy(depth, bytes))?,
            (b'"', _, _) => {
                scan.pass(b'"')?;
                let text = scan.string()?;
                self.string(slot, text)?;
            }
            (byte @ (b't' | b'f'), kind, _) => {
                let word: &[u8] = if byte == b't' { b"true" } else { b"false" };
                scan.literal(word)?;
                match kind {
                    Kind::Bool => self.builders.push_bool(slot, byte == b't'),
                    Kind::String => self.builders.push_bytes(slot, word),
                    _ => return Err(Odd),
                }
            }
            (b'[', _, Inner::Item(item)) => {
                scan.members(depth, |scan| {
                    if !self.value(scan, *item, depth + 1)? {
                        self.builders.push_null(*item);
                    }
                    Ok(())
                })?;
                self.builders.push_list(slot);
            }
            (b'{', _, Inner::Fields { shape, .. }) => {
                self.object(scan, *shape, depth)?;
                self.builders.push_struct(slot);
            }
            (b'[' | b'{', _, _) => return Err(Odd),
            _ => {
                let digits = scan.number()?;
                self.number(slot, &digits)?;
            }
        }
        Ok(true)
    }

    fn string(&mut self, slot: usize, text: Text<'_>) -> Scan<()> {
        let of = self.builders.slot(slot);
        let raw = if text.is_escaped {
            self.plain.clear();
            unescape(text.raw, &mut self.plain)?;
            &self.plain
        } else {
            text.raw
        };
        match &of.kind {
            Kind::String | Kind::Binary => self.builders.push_bytes(slot, raw),
            kind @ (Kind::Timestamp | Kind::Date) => {
                let plain = if *kind == Kind::Timestamp { plain_rfc3339(raw) } else { None };
                let plain = plain.filter(|micros| MICROS.contains(micros));
                match plain {
                    Some(micros) => self.builders.push_int(slot, micros.into()),
                    None => push_number(&mut self.builders, slot, text_number(kind, utf8(raw)?).map_err(|_| Odd)?),
                }
            }
            Kind::Bool | Kind::List(_) | Kind::Struct(_) | Kind::Json => return Err(Odd),
            kind if of.coerce => push_number(&mut self.builders, slot, text_number(kind, utf8(raw)?).map_err(|_| Odd)?),
            _ => return Err(Odd),
        }
        Ok(())
    }

    #[inline(always)]
    fn number(&mut self, slot: usize, digits: &Digits<'_>) -> Scan<()> {
        let kind = &self.builders.slot(slot).kind;
        let int = digits.int();
        match (kind, int) {
            (Kind::Int64, Some(value)) => self.builders.push_int(slot, value.into()),
            (Kind::Int32, Some(value)) if i32::try_from(value).is_ok() => self.builders.push_int(slot, value.into()),
            (Kind::Uint64, Some(value)) if value >= 0 => self.builders.push_int(slot, value.into()),
            (Kind::Float64, Some(value)) => self.builders.push_float(slot, value as f64),
            (Kind::String, Some(_)) => self.builders.push_bytes(slot, digits.token),
            (Kind::String, None) => {
                let node = digits.node()?;
                let text = text_of(kind, &node).map_err(|_| Odd)?;
                self.builders.push_bytes(slot, text.as_bytes());
            }
            (Kind::EpochTimestamp(unit), Some(value)) => {
                let micros = epoch_micros(Some(value.into()), 0.0, *unit).ok_or(Odd)?;
                self.builders.push_int(slot, micros);
            }
            (Kind::Decimal(precision, scale), _) => match plain_decimal(digits, *precision, *scale) {
                Some(value) => self.builders.push_int(slot, value),
                None => push_number(&mut self.builders, slot, number_of(kind, &digits.node()?).map_err(|_| Odd)?),
            },
            // Among the others are those that are wrong: the tree says how.
            _ => match (kind, digits.float()) {
                (Kind::Float64, Some(value)) => self.builders.push_float(slot, value),
                _ => push_number(&mut self.builders, slot, number_of(kind, &digits.node()?).map_err(|_| Odd)?),
            },
        }
        Ok(())
    }
}

/// The place behind a value that nobody reads.
#[inline(never)]
fn skip(text: &[u8], place: usize, depth: u32) -> Scan<usize> {
    let mut scan = Scanner::at(text, place);
    scan.skip(depth)?;
    Ok(scan.place())
}

fn utf8(text: &[u8]) -> Scan<&str> {
    std::str::from_utf8(text).map_err(|_| Odd)
}

fn push_number(builders: &mut Builders<'_>, slot: usize, number: Number) {
    match number {
        Number::Int(value) => builders.push_int(slot, value),
        Number::Float(value) => builders.push_float(slot, value),
    }
}
