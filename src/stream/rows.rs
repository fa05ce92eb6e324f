//! Records to Arrow rows: exactly the columns that the plan reads. Every record is judged first, then the good ones are built into
//! arrays, so one bad record never costs its neighbours.

use super::fault::{Fault, Reason};
use super::json::{Found, Node, object_json};
use super::kinds;
use super::spec::{Column, From, Kind, RecordField, Unit};
use crate::record::Record;
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    ListArray, StringArray, StructArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{Field, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use std::borrow::Cow;
use std::sync::Arc;

/// Rows hold at most this many records...
pub const ROWS_MAX: usize = 8_192;
/// ...and this many bytes of source values.
pub const ROWS_BYTES_MAX: usize = 16 << 20;

/// Turns records into rows of one schema.
pub struct Decoder {
    columns: Vec<Column>,
    schema: SchemaRef,
    /// Whether any column looks into the value.
    needs_value: bool,
    /// Top-level fields that columns are read out of: `rest` is what remains.
    taken: Vec<String>,
}

/// What became of the records given.
pub struct Decoded {
    pub rows: RecordBatch,
    /// For each row the index of its record, ascending.
    pub sources: Vec<u32>,
    /// Bad records by index, ascending.
    pub faults: Vec<(u32, Fault)>,
    /// Pictures, passed over because a column wants JSON: `filtered{reason="content-type"}`.
    pub passed_over: u32,
}

/// A value of one column before it is an array's.
#[derive(Clone, Copy)]
enum Cell<'n, 'a> {
    Null,
    Node(&'n Node<'a>),
    Bytes(&'n [u8]),
    Number(i64),
    Headers(&'n Record),
    /// The value, and the fields that other columns take out of it.
    Rest(&'n Node<'a>, &'n [String]),
}

/// Why a value is not of its column's type.
type Wrong = (Reason, String);

impl Decoder {
    /// `schema` has one field a column, in the same order, as [`super::plan::Plan::input`] says.
    pub fn new(columns: Vec<Column>, schema: SchemaRef) -> Decoder {
        let needs_value = columns.iter().any(|column| matches!(column.from, From::Path(_) | From::Rest));
        let first = |column: &Column| match &column.from {
            From::Path(path) => path.first().cloned(),
            _ => None,
        };
        let taken = columns.iter().filter_map(first).collect();
        Decoder { columns, schema, needs_value, taken }
    }

    /// Decodes records of one partition.
    pub fn decode(&self, partition: i32, records: &[Record]) -> Decoded {
        let mut faults = Vec::new();
        let mut passed_over = 0;
        let mut good = Vec::with_capacity(records.len());
        for (index, record) in records.iter().enumerate() {
            if self.needs_value && is_picture(record) {
                passed_over += 1;
                continue;
            }
            match self.judge(record) {
                Ok(node) => good.push((index as u32, record, node)),
                Err(fault) => faults.push((index as u32, fault)),
            }
        }
        let arrays = self.columns.iter().map(|column| {
            let cells: Vec<Cell<'_, '_>> =
                good.iter().map(|(_, record, node)| cell(column, &self.taken, record, node, partition)).collect();
            build(&column.kind, &cells)
        });
        let options = RecordBatchOptions::new().with_row_count(Some(good.len()));
        let arrays: Vec<ArrayRef> = arrays.collect();
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .expect("each array was built to its column's kind, which made the schema's field");
        Decoded { rows, sources: good.iter().map(|(index, _, _)| *index).collect(), faults, passed_over }
    }

    /// Parses the value and looks whether every column fits.
    fn judge<'r>(&self, record: &'r Record) -> Result<Node<'r>, Fault> {
        let fault = |reason, column: Option<&str>, message: String| Fault {
            reason,
            column: column.map(str::to_owned),
            message: message.into(),
        };
        let node = match (&record.value, self.needs_value) {
            (_, false) | (None, _) => Node::Null,
            (Some(value), true) => {
                let node = Node::parse(value).map_err(|error| fault(Reason::NotJson, None, error.to_string()))?;
                if !matches!(node, Node::Object(_)) {
                    return Err(fault(Reason::NotJson, None, "the value is no JSON object".to_owned()));
                }
                node
            }
        };
        let mut has_any = false;
        for column in &self.columns {
            if let From::Path(path) = &column.from
                && node.find(path) == Found::Twice
            {
                return Err(fault(Reason::DuplicateField, Some(&column.name), "the field stands twice".to_owned()));
            }
            let cell = cell(column, &self.taken, record, &node, 0);
            let is_null = matches!(cell, Cell::Null | Cell::Node(Node::Null));
            has_any |= !is_null && !matches!(column.from, From::Record(_));
            if is_null && column.required {
                return Err(fault(Reason::MissingRequired, Some(&column.name), "it is missing or null".to_owned()));
            }
            let judged = judge(&column.kind, cell, column.coerce);
            judged.map_err(|(reason, message)| fault(reason, Some(&column.name), message))?;
        }
        let reads_only_record = self.columns.iter().all(|column| matches!(column.from, From::Record(_)));
        if has_any || reads_only_record {
            Ok(node)
        } else {
            Err(fault(Reason::NoColumns, None, "it has none of the columns".to_owned()))
        }
    }
}

fn is_picture(record: &Record) -> bool {
    let kind = record.headers.iter().rev().find(|(name, _)| name.as_ref() == b"content-type");
    kind.is_some_and(|(_, value)| value.as_ref().is_some_and(|value| value.starts_with(b"image/")))
}

fn cell<'n, 'a>(
    column: &'n Column,
    taken: &'n [String],
    record: &'n Record,
    node: &'n Node<'a>,
    partition: i32,
) -> Cell<'n, 'a> {
    let bytes = |bytes: &'n Option<bytes::Bytes>| bytes.as_deref().map_or(Cell::Null, Cell::Bytes);
    match &column.from {
        From::Path(path) => match node.find(path) {
            Found::Node(Node::Null) | Found::Missing | Found::Twice => Cell::Null,
            Found::Node(node) => Cell::Node(node),
        },
        From::Header(wanted) => {
            let last = record.headers.iter().rev().find(|(name, _)| name.as_ref() == wanted.as_bytes());
            last.map_or(Cell::Null, |(_, value)| bytes(value))
        }
        From::Rest => Cell::Rest(node, taken),
        From::Record(RecordField::Key) => bytes(&record.key),
        From::Record(RecordField::Value) => bytes(&record.value),
        From::Record(RecordField::Offset) => Cell::Number(record.offset.0),
        From::Record(RecordField::Partition) => Cell::Number(i64::from(partition)),
        From::Record(RecordField::Timestamp) => Cell::Number(record.timestamp),
        From::Record(RecordField::Headers) => Cell::Headers(record),
    }
}

/// Whether a cell fits its kind; what passes here is built without loss.
fn judge(kind: &Kind, cell: Cell<'_, '_>, coerce: bool) -> Result<(), Wrong> {
    let node = match cell {
        Cell::Null | Cell::Node(Node::Null) | Cell::Number(_) | Cell::Headers(_) | Cell::Rest(..) => return Ok(()),
        // A header is text: it is read as the column asks.
        Cell::Bytes(bytes) => return judge_bytes(kind, bytes),
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
                Found::Node(node) => judge(inner, Cell::Node(node), coerce),
            })
        }
        (Kind::Json | Kind::Binary | Kind::String, _) => text_of(kind, node).map(drop),
        (Kind::Bool, Node::Bool(_)) => Ok(()),
        (Kind::List(_) | Kind::Struct(_) | Kind::Bool, other) => Err(wrong_type(kind, other)),
        (_, Node::Text(text)) if coerce || matches!(kind, Kind::Date | Kind::Timestamp) => {
            judge_bytes(kind, text.as_bytes())
        }
        (_, node) => number_of(kind, node).map(drop),
    }
}

fn judge_bytes(kind: &Kind, bytes: &[u8]) -> Result<(), Wrong> {
    if *kind == Kind::Binary {
        return Ok(());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| (Reason::WrongType, "it is not UTF-8".to_owned()))?;
    match kind {
        Kind::String | Kind::Json => Ok(()),
        Kind::Bool => text
            .parse::<bool>()
            .map(drop)
            .map_err(|_| (Reason::WrongType, format!("\"{}\" is not a bool", short(text)))),
        Kind::List(_) | Kind::Struct(_) => Err((Reason::WrongType, "a header cannot hold it".to_owned())),
        _ => text_number(kind, text).map(drop),
    }
}

/// The number that an array of this kind stores: an integer, days, microseconds, a scaled decimal; floats as their bits' owner.
enum Number {
    Int(i128),
    Float(f64),
}

fn number_of(kind: &Kind, node: &Node<'_>) -> Result<Number, Wrong> {
    let (int, float) = match node {
        Node::Int(value) => (Some(i128::from(*value)), *value as f64),
        Node::Uint(value) => (Some(i128::from(*value)), *value as f64),
        Node::Float(value) => (None, *value),
        other => return Err(wrong_type(kind, other)),
    };
    let whole = || int.or((float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i128));
    let overflow = || (Reason::Overflow, format!("{} does not fit into {}", shown(node), name(kind)));
    let within = |low: i128, high: i128| {
        let value = whole().ok_or_else(|| wrong_type(kind, node))?;
        if (low..=high).contains(&value) { Ok(Number::Int(value)) } else { Err(overflow()) }
    };
    match kind {
        Kind::Int32 => within(i32::MIN.into(), i32::MAX.into()),
        Kind::Int64 => within(i64::MIN.into(), i64::MAX.into()),
        Kind::Uint64 => within(0, u64::MAX.into()),
        Kind::Float64 => Ok(Number::Float(float)),
        Kind::Decimal(precision, scale) => {
            decimal(&int.map_or_else(|| float.to_string(), |int| int.to_string()), *precision, *scale)
                .map(Number::Int)
                .ok_or_else(overflow)
        }
        Kind::EpochTimestamp(unit) => epoch_micros(int, float, *unit)
            .map(Number::Int)
            .ok_or_else(|| (Reason::TimeOutOfRange, format!("{} is no time that can be written", shown(node)))),
        _ => Err(wrong_type(kind, node)),
    }
}

fn text_number(kind: &Kind, text: &str) -> Result<Number, Wrong> {
    let not = || (Reason::WrongType, format!("\"{}\" is not a {}", short(text), name(kind)));
    match kind {
        Kind::Timestamp => {
            let time = chrono::DateTime::parse_from_rfc3339(text.trim()).map_err(|_| not())?;
            Ok(Number::Int(time.timestamp_micros().into()))
        }
        Kind::Date => {
            let date =
                chrono::NaiveDate::parse_from_str(text.get(..10).unwrap_or(text), "%Y-%m-%d").map_err(|_| not())?;
            Ok(Number::Int(date.signed_duration_since(chrono::NaiveDate::default()).num_days().into()))
        }
        Kind::Decimal(precision, scale) => decimal(text.trim(), *precision, *scale).map(Number::Int).ok_or_else(not),
        _ => match Node::parse(text.trim().as_bytes()) {
            Ok(node @ (Node::Int(_) | Node::Uint(_) | Node::Float(_))) => number_of(kind, &node),
            _ => Err(not()),
        },
    }
}

fn epoch_micros(int: Option<i128>, float: f64, unit: Unit) -> Option<i128> {
    let factor = match unit {
        Unit::Seconds => 1_000_000,
        Unit::Millis => 1_000,
        Unit::Micros => 1,
    };
    let micros = match int {
        Some(int) => int.checked_mul(factor)?,
        None => (float * factor as f64).round() as i128,
    };
    // Years 1 to 9999: what every reader of Parquet can show.
    (-62_135_596_800_000_000..253_402_300_800_000_000).contains(&micros).then_some(micros)
}

/// A decimal text as an integer of `scale` places; `None` if it needs more digits.
fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    if whole.is_empty()
        || fraction.len() > scale as usize
        || !(whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let value: i128 = format!("{whole}{fraction:0<width$}", width = scale as usize).parse().ok()?;
    (value < 10i128.checked_pow(precision.into())?).then_some(sign * value)
}

fn text_of<'n>(kind: &Kind, node: &'n Node<'_>) -> Result<Cow<'n, str>, Wrong> {
    match (kind, node) {
        (Kind::Json, node) => Ok(node.to_json().into()),
        (_, Node::Text(text)) => Ok(Cow::Borrowed(text.as_ref())),
        (Kind::String, Node::List(_) | Node::Object(_)) | (Kind::Binary, _) => Err(wrong_type(kind, node)),
        (_, scalar) => Ok(scalar.to_json().into()),
    }
}

fn wrong_type(kind: &Kind, node: &Node<'_>) -> Wrong {
    (Reason::WrongType, format!("{} is not a {}", shown(node), name(kind)))
}

fn name(kind: &Kind) -> String {
    match kind {
        Kind::EpochTimestamp(_) => "number of time units".to_owned(),
        Kind::Struct(_) => "object".to_owned(),
        Kind::List(_) => "list".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn shown(node: &Node<'_>) -> String {
    short(&node.to_json()).to_owned()
}

/// The beginning of a text, for messages.
fn short(text: &str) -> &str {
    text.char_indices().nth(60).map_or(text, |(at, _)| &text[..at])
}

fn build(kind: &Kind, cells: &[Cell<'_, '_>]) -> ArrayRef {
    let int = |cell: &Cell<'_, '_>| match as_number(kind, cell) {
        Some(Number::Int(value)) => Some(value),
        _ => None,
    };
    match kind {
        Kind::Bool => Arc::new(cells.iter().map(as_bool).collect::<BooleanArray>()),
        Kind::Int32 => Arc::new(cells.iter().map(|cell| int(cell).map(|value| value as i32)).collect::<Int32Array>()),
        Kind::Int64 => Arc::new(cells.iter().map(|cell| int(cell).map(|value| value as i64)).collect::<Int64Array>()),
        Kind::Uint64 => Arc::new(cells.iter().map(|cell| int(cell).map(|value| value as u64)).collect::<UInt64Array>()),
        Kind::Date => Arc::new(cells.iter().map(|cell| int(cell).map(|value| value as i32)).collect::<Date32Array>()),
        Kind::Timestamp | Kind::EpochTimestamp(_) => {
            let micros =
                cells.iter().map(|cell| int(cell).map(|value| value as i64)).collect::<TimestampMicrosecondArray>();
            Arc::new(micros.with_timezone("UTC"))
        }
        Kind::Decimal(precision, scale) => {
            let values = cells.iter().map(int).collect::<Decimal128Array>();
            // The kind's precision and scale were checked when the file was read.
            Arc::new(values.with_precision_and_scale(*precision, *scale).expect("1 to 38 digits, scale within"))
        }
        Kind::Float64 => {
            let float = |cell: &Cell<'_, '_>| match as_number(kind, cell) {
                Some(Number::Float(value)) => Some(value),
                _ => None,
            };
            Arc::new(cells.iter().map(float).collect::<Float64Array>())
        }
        Kind::String | Kind::Json => Arc::new(cells.iter().map(|cell| as_text(kind, cell)).collect::<StringArray>()),
        Kind::Binary => {
            let mut builder = BinaryBuilder::new();
            for cell in cells {
                match cell {
                    Cell::Bytes(bytes) => builder.append_value(bytes),
                    Cell::Node(Node::Text(text)) => builder.append_value(text.as_bytes()),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
        Kind::List(inner) => build_list(inner, cells),
        Kind::Struct(fields) => build_struct(fields, cells),
    }
}

fn build_list(inner: &Kind, cells: &[Cell<'_, '_>]) -> ArrayRef {
    if cells.iter().any(|cell| matches!(cell, Cell::Headers(_))) {
        return build_headers(cells);
    }
    let mut items = Vec::new();
    let mut lengths = Vec::with_capacity(cells.len());
    for cell in cells {
        let before = items.len();
        if let Cell::Node(Node::List(list)) = cell {
            items.extend(list.iter().map(|node| if *node == Node::Null { Cell::Null } else { Cell::Node(node) }));
        }
        lengths.push(items.len() - before);
    }
    let nulls: NullBuffer = cells.iter().map(|cell| matches!(cell, Cell::Node(Node::List(_)))).collect();
    let field = Arc::new(Field::new("item", kinds::arrow(inner), true));
    Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), build(inner, &items), Some(nulls)))
}

fn build_headers(cells: &[Cell<'_, '_>]) -> ArrayRef {
    let records: Vec<&Record> =
        cells.iter().filter_map(|cell| if let Cell::Headers(r) = cell { Some(*r) } else { None }).collect();
    let all = || records.iter().flat_map(|record| &record.headers);
    let names = all().map(|(name, _)| Some(String::from_utf8_lossy(name))).collect::<StringArray>();
    let mut values = BinaryBuilder::new();
    all().for_each(|(_, value)| values.append_option(value.as_deref()));
    let fields = kinds::struct_fields(&[("name".to_owned(), Kind::String), ("value".to_owned(), Kind::Binary)]);
    let items = StructArray::new(fields.clone(), vec![Arc::new(names), Arc::new(values.finish())], None);
    let field = Arc::new(Field::new("item", arrow::datatypes::DataType::Struct(fields), true));
    let lengths = records.iter().map(|record| record.headers.len());
    Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), Arc::new(items), None))
}

fn build_struct(fields: &[(String, Kind)], cells: &[Cell<'_, '_>]) -> ArrayRef {
    let nulls: NullBuffer = cells.iter().map(|cell| matches!(cell, Cell::Node(Node::Object(_)))).collect();
    let arrays = fields.iter().map(|(name, kind)| {
        let inner = cells.iter().map(|cell| match cell {
            Cell::Node(node) => match node.find(std::slice::from_ref(name)) {
                Found::Node(Node::Null) | Found::Missing | Found::Twice => Cell::Null,
                Found::Node(node) => Cell::Node(node),
            },
            _ => Cell::Null,
        });
        build(kind, &inner.collect::<Vec<_>>())
    });
    Arc::new(StructArray::new(kinds::struct_fields(fields), arrays.collect(), Some(nulls)))
}

fn as_bool(cell: &Cell<'_, '_>) -> Option<bool> {
    match cell {
        Cell::Node(Node::Bool(value)) => Some(*value),
        Cell::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}

fn as_number(kind: &Kind, cell: &Cell<'_, '_>) -> Option<Number> {
    match cell {
        Cell::Node(Node::Text(text)) => text_number(kind, text).ok(),
        Cell::Node(node) => number_of(kind, node).ok(),
        Cell::Bytes(bytes) => text_number(kind, std::str::from_utf8(bytes).ok()?).ok(),
        // Record fields: the timestamp is in milliseconds.
        Cell::Number(value) if matches!(kind, Kind::EpochTimestamp(_)) => {
            epoch_micros(Some(i128::from(*value)), 0.0, Unit::Millis).map(Number::Int)
        }
        Cell::Number(value) => Some(Number::Int(i128::from(*value))),
        _ => None,
    }
}

fn as_text<'n>(kind: &Kind, cell: &Cell<'n, '_>) -> Option<Cow<'n, str>> {
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

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::super::plan::Plan;
    use super::*;
    use crate::record::Offset;
    use arrow::json::ArrayWriter;
    use bytes::Bytes;
    use std::path::Path;

    fn decode(columns: &str, values: &[&str]) -> Decoded {
        let text = format!("from = \"topic:t\"\nto = {{ parquet = \"t\" }}\n[columns]\n{columns}");
        let spec = parse(Path::new("p.toml"), &text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        let plan = Plan::of(&spec).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        let record = |(offset, value): (usize, &&str)| Record {
            offset: Offset(offset as i64),
            timestamp: 1_700_000_000_123,
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: vec![(Bytes::from("h"), Some(Bytes::from("41")))],
        };
        let records: Vec<Record> = values.iter().enumerate().map(record).collect();
        Decoder::new(plan.columns().to_vec(), plan.input().clone()).decode(3, &records)
    }

    fn json(decoded: &Decoded) -> serde_json::Value {
        let mut writer = ArrayWriter::new(Vec::new());
        writer.write(&decoded.rows).unwrap();
        writer.finish().unwrap();
        serde_json::from_slice(&writer.into_inner()).unwrap()
    }

    fn reason(columns: &str, value: &str) -> Reason {
        let decoded = decode(columns, &[value]);
        assert_eq!(decoded.rows.num_rows(), 0, "{value} was taken");
        decoded.faults[0].1.reason
    }

    #[test]
    fn every_kind_comes_out_as_it_went_in() {
        let columns = "b = \"bool\"\ni = \"int32\"\nu = \"uint64\"\nf = \"float64\"\nd = \"decimal(6,2)\"\ns = \"string\"\nday = \"date\"\nt = \"timestamp\"\ne = \"timestamp(s)\"\nj = \"json\"\nl = { type = [\"int64\"] }\nst = { type = { x = \"string\", y = \"bool\" } }\nh = { header = \"h\", type = \"int32\" }\n";
        let value = r#"{"b":true,"i":-7,"u":18446744073709551615,"f":1,"d":12.5,"s":17,"day":"2026-01-02","t":"2026-01-02T03:04:05.5+01:00","e":1.5,"j":{"a":[1]},"l":[1,null,3],"st":{"x":"z"}}"#;
        let decoded = decode(columns, &[value]);
        assert!(decoded.faults.is_empty(), "{:?}", decoded.faults);
        let expected = serde_json::json!([{
            "b": true, "i": -7, "u": 18446744073709551615u64, "f": 1.0, "d": 12.5, "s": "17", "day": "2026-01-02",
            "t": "2026-01-02T02:04:05.500Z", "e": "1970-01-01T00:00:01.500Z", "j": "{\"a\":[1]}", "l": [1, null, 3],
            "st": { "x": "z" }, "h": 41
        }]);
        let mut got = json(&decoded);
        // Arrow writes a list's null, and decimals as numbers of their own text.
        if let Some(d) = got[0].get_mut("d") {
            *d = serde_json::json!(d.as_f64().or(d.as_str().and_then(|d| d.parse().ok())).unwrap());
        }
        assert_eq!(got, expected);
    }

    #[test]
    fn a_bad_record_names_its_column_and_spares_its_neighbours() {
        let decoded =
            decode("n = \"int32\"\ns = \"string\"", &[r#"{"n":1}"#, r#"{"n":"x"}"#, "nonsense", r#"{"n":3,"s":"y"}"#]);
        assert_eq!((decoded.sources.clone(), decoded.rows.num_rows()), (vec![0, 3], 2));
        assert_eq!(decoded.faults[0].0, 1);
        assert_eq!((decoded.faults[0].1.reason, decoded.faults[0].1.column.as_deref()), (Reason::WrongType, Some("n")));
        assert_eq!(decoded.faults[1].1.reason, Reason::NotJson);
    }

    #[test]
    fn each_reason_has_its_case() {
        assert_eq!(reason("n = \"int32\"", r#"{"n":3000000000}"#), Reason::Overflow);
        assert_eq!(reason("n = \"int32\"", r#"{"n":1,"n":2}"#), Reason::DuplicateField);
        assert_eq!(reason("n = \"int32\"", r#"{"m":1}"#), Reason::NoColumns);
        assert_eq!(reason("n = { type = \"int32\", required = true }", r#"{"n":null}"#), Reason::MissingRequired);
        assert_eq!(reason("n = \"timestamp(s)\"", r#"{"n":1e300}"#), Reason::TimeOutOfRange);
        assert_eq!(reason("n = \"timestamp\"", r#"{"n":"yesterday"}"#), Reason::WrongType);
        assert_eq!(reason("n = \"int64\"", "[1]"), Reason::NotJson);
        assert_eq!(reason("n = \"int64\"", r#"{"n":"5"}"#), Reason::WrongType);
        assert_eq!(reason("n = \"string\"", r#"{"n":{"a":1}}"#), Reason::WrongType);
        assert_eq!(decode("n = { type = \"int64\", coerce = true }", &[r#"{"n":"5"}"#]).rows.num_rows(), 1);
    }
}
