//! The thorough way: a record's value as a tree, every column judged. It decides what a bad record is and names the column; records that
//! the fast way finds odd and that are right after all are built from here too.

use super::super::fault::{Fault, Reason};
use super::super::kinds;
use super::super::spec::{Column, From, Kind, RecordField, Unit};
use super::Decoder;
use super::builder::{Builders, Inner};
use super::scalar::{
    Number, Wrong, cell_bool, cell_number, epoch_micros, number_of, short, text_number, text_of, wrong_type,
};
use crate::json::{Exact, Found, Node, object_json};
use crate::record::{HeadersRef, RecordRef};
use std::borrow::Cow;

/// Columns or fields that a message names.
const NAMES_TOLD: usize = 8;

/// Names of columns that are read out of values, the first of them.
pub(super) fn names_read(columns: &[Column]) -> String {
    let of_value = columns.iter().filter(|column| !matches!(column.from, From::Record(_)));
    first_of(of_value.map(|column| column.name.as_str()))
}

/// Names of the fields that a value has, the first of them.
fn names_there(node: &Node<'_>) -> String {
    match node {
        Node::Object(fields) if !fields.is_empty() => {
            format!("; it has {}", first_of(fields.iter().map(|(name, _)| short(name))))
        }
        _ => String::new(),
    }
}

fn first_of<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    let more = if names.len() > NAMES_TOLD { ", ..." } else { "" };
    format!("{}{more}", names[..names.len().min(NAMES_TOLD)].join(", "))
}

/// A value of one column before it is an array's.
#[derive(Clone, Copy)]
pub(super) enum Cell<'n, 'a> {
    Null,
    Node(&'n Node<'a>),
    Bytes(&'n [u8]),
    Number(i64),
    Headers(HeadersRef<'n>),
    /// The value, and the fields that other columns take out of it.
    Rest(&'n Node<'a>, &'n [String]),
}

impl Decoder {
    /// Parses the value and looks whether every column fits.
    pub(super) fn judge<'r>(&self, record: &RecordRef<'_>, text: Option<&'r [u8]>) -> Result<Node<'r>, Fault> {
        let node = match (text, self.needs_value) {
            (_, false) | (None, _) => Node::Null,
            (Some(text), true) => {
                let not_json = |message: String| Fault::of_value(Reason::NotJson, message);
                let node = Node::parse(text).map_err(not_json)?;
                if !matches!(node, Node::Object(_)) {
                    return Err(not_json("the value is no JSON object".to_owned()));
                }
                node
            }
        };
        self.judge_tree(record, &node)?;
        Ok(node)
    }

    /// Looks whether every column fits.
    pub(super) fn judge_tree(&self, record: &RecordRef<'_>, node: &Node<'_>) -> Result<(), Fault> {
        let mut has_any = false;
        for (at, column) in self.columns.iter().enumerate() {
            if let From::Path(path) = &column.from
                && node.find(path) == Found::Twice
            {
                return Err(Fault::of(Reason::DuplicateField, Some(&column.name), "the field stands twice"));
            }
            let cell = self.cell(at, record, node, 0);
            let is_null = matches!(cell, Cell::Null | Cell::Node(Node::Null));
            has_any |= !is_null && !matches!(column.from, From::Record(_));
            if is_null && column.required {
                return Err(Fault::of(Reason::MissingRequired, Some(&column.name), "it is missing or null"));
            }
            let judged = judge(&column.kind, cell, column.coerce);
            judged.map_err(|(reason, message)| Fault::of(reason, Some(&column.name), message))?;
        }
        if has_any || self.reads_only_record {
            Ok(())
        } else {
            let there = names_there(node);
            let message = format!("it has a value for none of the columns that are read: {}{there}", self.names_read);
            Err(Fault::of_value(Reason::NoColumns, message))
        }
    }

    /// What a column reads of a record.
    pub(super) fn cell<'n, 'a>(
        &'n self,
        at: usize,
        record: &RecordRef<'n>,
        node: &'n Node<'a>,
        partition: i32,
    ) -> Cell<'n, 'a> {
        match cell(&self.columns[at], &self.taken, record, node, partition) {
            Cell::Node(Node::Text(text)) if self.is_all_text => Cell::Bytes(text.as_bytes()),
            cell => cell,
        }
    }
}

/// What a column reads of a record.
pub(super) fn cell<'n, 'a>(
    column: &'n Column,
    taken: &'n [String],
    record: &RecordRef<'n>,
    node: &'n Node<'a>,
    partition: i32,
) -> Cell<'n, 'a> {
    let bytes = |bytes: Option<&'n [u8]>| bytes.map_or(Cell::Null, Cell::Bytes);
    match &column.from {
        From::Path(path) => match node.find(path) {
            Found::Node(Node::Null) | Found::Missing | Found::Twice => Cell::Null,
            Found::Node(node) => Cell::Node(node),
        },
        From::Header(wanted) => bytes(record.headers.last(wanted.as_bytes()).flatten()),
        From::Rest => Cell::Rest(node, taken),
        From::Record(RecordField::Key) => bytes(record.key),
        From::Record(RecordField::Value) => bytes(record.value),
        From::Record(RecordField::Offset) => Cell::Number(record.offset.0),
        From::Record(RecordField::Partition) => Cell::Number(i64::from(partition)),
        From::Record(RecordField::Timestamp) => Cell::Number(record.timestamp),
        From::Record(RecordField::Headers) => Cell::Headers(record.headers),
    }
}

/// Whether a cell fits its kind; what passes here is built without loss.
pub(super) fn judge(kind: &Kind, cell: Cell<'_, '_>, coerce: bool) -> Result<(), Wrong> {
    let node = match cell {
        Cell::Null | Cell::Node(Node::Null) | Cell::Number(_) | Cell::Headers(_) | Cell::Rest(..) => return Ok(()),
        // A header and a cell of CSV are text: it is read as the column asks.
        Cell::Bytes(bytes) => return judge_bytes(kind, bytes, cell_number),
        Cell::Node(node) => node,
    };
    match (kind, node) {
        (Kind::List(inner), Node::List(items)) => {
            items.iter().try_for_each(|item| judge(inner, Cell::Node(item), coerce))
        }
        (Kind::Struct(fields), Node::Object(_)) => {
            fields.iter().try_for_each(|(name, inner)| match node.find(std::slice::from_ref(name)) {
                Found::Missing => Ok(()),
                Found::Twice => Err((Reason::DuplicateField, format!("its field {name} stands twice"))),
                Found::Node(node) => {
                    let within = |(reason, message)| (reason, format!("its field {name}: {message}"));
                    judge(inner, Cell::Node(node), coerce).map_err(within)
                }
            })
        }
        (Kind::Binary, Node::Exact(Exact::Bytes(_))) => Ok(()),
        (Kind::Json | Kind::Binary | Kind::String, _) => text_of(kind, node).map(drop),
        (Kind::Bool, Node::Bool(_)) => Ok(()),
        (Kind::List(_) | Kind::Struct(_) | Kind::Bool, other) => Err(wrong_type(kind, other)),
        (_, Node::Text(text)) if coerce || matches!(kind, Kind::Date | Kind::Timestamp) => {
            judge_bytes(kind, text.as_bytes(), text_number)
        }
        (_, node) => number_of(kind, node).map(drop),
    }
}

/// Text, of which `number` makes what is no text.
fn judge_bytes(kind: &Kind, bytes: &[u8], number: fn(&Kind, &str) -> Result<Number, Wrong>) -> Result<(), Wrong> {
    if *kind == Kind::Binary {
        return Ok(());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| (Reason::WrongType, "it is not UTF-8".to_owned()))?;
    match kind {
        Kind::String | Kind::Json => Ok(()),
        Kind::Bool => {
            cell_bool(text).map(drop).ok_or_else(|| (Reason::WrongType, format!("\"{}\" is not a bool", short(text))))
        }
        Kind::List(_) | Kind::Struct(_) => Err((Reason::WrongType, "text cannot hold it".to_owned())),
        _ => number(kind, text).map(drop),
    }
}

/// Pushes a cell that was judged.
pub(super) fn push(builders: &mut Builders<'_>, slot: usize, cell: Cell<'_, '_>) {
    let of = builders.slot(slot);
    match (&of.kind, &of.inner, cell) {
        (_, _, Cell::Node(Node::Null)) => builders.push_null(slot),
        (Kind::List(_), Inner::Item(item), Cell::Headers(headers)) => {
            headers.iter().for_each(|(name, value)| push_header(builders, *item, name, value));
            builders.push_list(slot);
        }
        (Kind::List(_), Inner::Item(item), Cell::Node(Node::List(nodes))) => {
            nodes.iter().for_each(|node| push(builders, *item, Cell::Node(node)));
            builders.push_list(slot);
        }
        (Kind::Struct(fields), Inner::Fields { slots, .. }, Cell::Node(node @ Node::Object(_))) => {
            for ((name, _), field) in fields.iter().zip(slots) {
                match node.find(std::slice::from_ref(name)) {
                    Found::Node(node) => push(builders, *field, Cell::Node(node)),
                    Found::Missing | Found::Twice => builders.push_null(*field),
                }
            }
            builders.push_struct(slot);
        }
        (Kind::Bool, _, cell) => match as_bool(&cell) {
            Some(value) => builders.push_bool(slot, value),
            None => builders.push_null(slot),
        },
        (Kind::String | Kind::Json, _, cell) => match as_text(&of.kind, &cell) {
            Some(text) => builders.push_bytes(slot, text.as_bytes()),
            None => builders.push_null(slot),
        },
        (Kind::Binary, _, Cell::Bytes(bytes)) => builders.push_bytes(slot, bytes),
        (Kind::Binary, _, Cell::Node(Node::Exact(Exact::Bytes(bytes)))) => builders.push_bytes(slot, bytes),
        (Kind::Binary, _, Cell::Node(Node::Text(text))) => builders.push_bytes(slot, text.as_bytes()),
        (Kind::List(_) | Kind::Struct(_) | Kind::Binary, _, _) => builders.push_null(slot),
        (kind, _, cell) => match as_number(kind, &cell) {
            Some(Number::Int(value)) => builders.push_int(slot, value),
            Some(Number::Float(value)) => builders.push_float(slot, value),
            None => builders.push_null(slot),
        },
    }
}

/// One item of `_headers`, whose kind [`kinds::headers`] says.
fn push_header(builders: &mut Builders<'_>, slot: usize, name: &[u8], value: Option<&[u8]>) {
    debug_assert_eq!(Kind::List(Box::new(builders.slot(slot).kind.clone())), kinds::headers());
    if let Inner::Fields { slots, .. } = &builders.slot(slot).inner
        && let [name_slot, value_slot] = slots.as_slice()
    {
        builders.push_bytes(*name_slot, String::from_utf8_lossy(name).as_bytes());
        match value {
            Some(value) => builders.push_bytes(*value_slot, value),
            None => builders.push_null(*value_slot),
        }
        builders.push_struct(slot);
    }
}

pub(super) fn as_bool(cell: &Cell<'_, '_>) -> Option<bool> {
    match cell {
        Cell::Node(Node::Bool(value)) => Some(*value),
        Cell::Bytes(bytes) => cell_bool(std::str::from_utf8(bytes).ok()?),
        _ => None,
    }
}

pub(super) fn as_number(kind: &Kind, cell: &Cell<'_, '_>) -> Option<Number> {
    match cell {
        Cell::Node(Node::Text(text)) => text_number(kind, text).ok(),
        Cell::Node(node) => number_of(kind, node).ok(),
        Cell::Bytes(bytes) => cell_number(kind, std::str::from_utf8(bytes).ok()?).ok(),
        // Record fields: the timestamp is in milliseconds.
        Cell::Number(value) if matches!(kind, Kind::EpochTimestamp(_)) => {
            epoch_micros(Some(i128::from(*value)), 0.0, Unit::Millis).map(Number::Int)
        }
        Cell::Number(value) => Some(Number::Int(i128::from(*value))),
        _ => None,
    }
}

pub(super) fn as_text<'n>(kind: &Kind, cell: &Cell<'n, '_>) -> Option<Cow<'n, str>> {
    match cell {
        Cell::Node(node) => text_of(kind, node).ok(),
        Cell::Bytes(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cell::Rest(Node::Object(fields), taken) => {
            let rest = fields.iter().filter(|(name, _)| !taken.iter().any(|taken| taken == name));
            Some(object_json(rest.map(|(name, node)| (name.as_ref(), node))).into())
        }
        _ => None,
    }
}
