//! Facts about decoding, and the fast way held against a plain one that builds each column from trees.

use super::super::fault::Reason;
use super::super::kinds;
use super::super::parse::parse;
use super::super::plan::Plan;
use super::super::spec::Kind;
use super::scalar::{Number, plain_rfc3339, text_number};
use super::tree::{Cell, as_bool, as_number, as_text, cell};
use super::*;
use crate::json::{Found, Node};
use crate::record::Offset;
use arrow::array::AsArray;
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    ListArray, StringArray, StructArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::Field;
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use arrow::json::ArrayWriter;
use bytes::Bytes;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

fn decode(columns: &str, values: &[&str]) -> Decoded {
    let records = records(values);
    decoder(columns, "").decode(3, &records)
}

/// A decoder of these columns and, beside them, of the record fields that are selected.
fn decoder(columns: &str, select: &str) -> Decoder {
    let text = format!("from = \"topic:t\"\n{select}\nto = {{ parquet = \"t\" }}\n[columns]\n{columns}");
    let spec = parse(Path::new("p.toml"), &text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    let plan = Plan::of(&spec).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    Decoder::new(&spec.format, plan.columns().to_vec(), plan.input().clone())
}

fn records(values: &[&str]) -> Vec<Record> {
    let record = |(offset, value): (usize, &&str)| Record {
        offset: Offset(offset as i64),
        timestamp: 1_700_000_000_123,
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: vec![(Bytes::from("h"), Some(Bytes::from("41")))],
    };
    values.iter().enumerate().map(record).collect()
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
    let within = decode("o = { type = { a = { b = \"bool\" } } }", &[r#"{"o":{"a":{"b":1}}}"#]);
    assert_eq!(within.faults[0].1.message, "its field a: its field b: 1 is no bool");
}

#[test]
fn each_reason_has_its_case() {
    assert_eq!(reason("n = \"int32\"", r#"{"n":3000000000}"#), Reason::Overflow);
    for (text, told) in [
        ("2e2147483648", Reason::Overflow),
        ("-2e+99999999999", Reason::Overflow),
        ("2e", Reason::WrongType),
        ("2e+-1", Reason::WrongType),
    ] {
        let value = format!("{{\"n\":\"{text}\"}}");
        assert_eq!(reason("n = { type = \"decimal(10,2)\", coerce = true }", &value), told, "{text}");
    }
    assert_eq!(reason("n = \"int32\"", r#"{"n":1,"n":2}"#), Reason::DuplicateField);
    assert_eq!(reason("n = \"int32\"", r#"{"m":1}"#), Reason::NoColumns);
    assert_eq!(reason("n = { type = \"int32\", required = true }", r#"{"n":null}"#), Reason::MissingRequired);
    assert_eq!(reason("n = \"timestamp(s)\"", r#"{"n":1e300}"#), Reason::TimeOutOfRange);
    assert_eq!(reason("n = \"timestamp\"", r#"{"n":"yesterday"}"#), Reason::WrongType);
    let seconds = decode("n = \"timestamp(s)\"", &[r#"{"n":1726910696.0365574}"#, r#"{"n":-0.5}"#]);
    let micros = seconds.rows.column(0).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(micros.values().to_vec(), [1_726_910_696_036_557, -500_000], "to the nearest microsecond");
    assert_eq!(reason("n = \"int64\"", "[1]"), Reason::NotJson);
    assert_eq!(reason("n = \"int64\"", r#"{"n":"5"}"#), Reason::WrongType);
    assert_eq!(reason("n = \"string\"", r#"{"n":{"a":1}}"#), Reason::WrongType);
    assert_eq!(decode("n = { type = \"int64\", coerce = true }", &[r#"{"n":"5"}"#]).rows.num_rows(), 1);
}

// -- the plain way

fn plainly(decoder: &Decoder, partition: i32, records: &[Record]) -> Decoded {
    let (mut good, mut faults, mut passed_over) = (Vec::new(), Vec::new(), 0);
    for (index, record) in records.iter().enumerate() {
        let record = record.by_ref();
        if decoder.needs_value && is_picture(&record) {
            passed_over += 1;
            continue;
        }
        match decoder.judge(&record, record.value) {
            Ok(node) => good.push((index as u32, record, node)),
            Err(fault) => faults.push((index as u32, fault)),
        }
    }
    let arrays = decoder.columns.iter().map(|column| {
        let cells: Vec<Cell<'_, '_>> =
            good.iter().map(|(_, record, node)| cell(column, &decoder.taken, record, node, partition)).collect();
        build(&column.kind, &cells)
    });
    let options = RecordBatchOptions::new().with_row_count(Some(good.len()));
    let rows = RecordBatch::try_new_with_options(decoder.schema.clone(), arrays.collect(), &options).unwrap();
    Decoded {
        rows,
        sources: good.iter().map(|(index, _, _)| *index).collect(),
        faults,
        passed_over,
        wanting: Vec::new(),
    }
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
    let records: Vec<_> =
        cells.iter().filter_map(|cell| if let Cell::Headers(headers) = cell { Some(*headers) } else { None }).collect();
    let all = || records.iter().flat_map(|headers| headers.iter());
    let names = all().map(|(name, _)| Some(String::from_utf8_lossy(name))).collect::<StringArray>();
    let mut values = BinaryBuilder::new();
    all().for_each(|(_, value)| values.append_option(value));
    let fields = kinds::struct_fields(&[("name".to_owned(), Kind::String), ("value".to_owned(), Kind::Binary)]);
    let items = StructArray::new(fields.clone(), vec![Arc::new(names), Arc::new(values.finish())], None);
    let field = Arc::new(Field::new("item", arrow::datatypes::DataType::Struct(fields), true));
    let lengths = records.iter().map(|headers| headers.len());
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

// -- records to compare on

/// Each kind at least once, at paths that share fields, with lists, structs, headers, `rest`, and record fields.
const COLUMNS: &str = r#"
b = "bool"
i = "int32"
l = "int64"
u = "uint64"
f = "float64"
d = "decimal(9,3)"
s = "string"
day = "date"
t = "timestamp"
ms = "timestamp(ms)"
sec = "timestamp(s)"
j = "json"
bin = "binary"
list = { type = ["int32"] }
rows = { type = [{ x = "string", y = ["float64"] }] }
st = { type = { x = "string", n = { m = "int64", k = "json" } } }
inner = { path = "/o/a/b", type = "string" }
beside = { path = "/o/a/c", type = "float64" }
whole = { path = "/o", type = "json" }
second = { path = "/list/1", type = "int64" }
coerced = { path = "/c", type = "int64", coerce = true }
money = { path = "/c", type = "decimal(12,2)", coerce = true }
odd = { path = "/q\"\\~1é", type = "string" }
h = { header = "h", type = "int32" }
"#;

const NAMES: [&str; 24] = [
    "b", "i", "l", "u", "f", "d", "s", "day", "t", "ms", "sec", "j", "bin", "list", "rows", "st", "o", "c", "a", "x",
    "y", "n", "m", "k",
];

fn scalar_text() -> impl Strategy<Value = String> {
    const TEXTS: &[&str] = &[
        r#""""#,
        r#""a b""#,
        r#""17""#,
        r#"" 12.5 ""#,
        r#""\u00e9\n\"""#,
        r#""\ud83d\ude00""#,
        r#""\ud83d""#,
        r#""\x""#,
        "\"\u{1}\"",
        "\"é€😀\"",
        r#""0123456789abcdef0123456789 longer than a block""#,
        r#""true""#,
        r#""2026-01-02T03:04:05.678Z""#,
        r#""2026-02-29T00:00:00Z""#,
        r#""2024-02-29T23:59:60+14:00""#,
        r#""1969-12-31T23:59:59.999999999-05:30""#,
        r#""2026-01-02""#,
        r#""2026-01-02 03:04:05Z""#,
        r#""\/a\/b""#,
        "null",
        "true",
        "false",
        "nul",
        "0",
        "-0",
        "-1",
        "7",
        "2147483647",
        "2147483648",
        "-9223372036854775808",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "0.1",
        "-0.0",
        "12.500",
        "1e3",
        "1E-2",
        "1.5e300",
        "1e400",
        "-1e400",
        "123456789.123",
        "999999.9999",
        "0.30000000000000004",
        "1700000000123.25",
        "01",
        "1.",
        ".5",
        "-",
        "+1",
        "1e",
        "253402300800",
        "123456789012345678901234567890.5",
    ];
    prop_oneof![
        4 => proptest::sample::select(TEXTS).prop_map(str::to_owned),
        1 => any::<i64>().prop_map(|value| value.to_string()),
        1 => any::<f64>().prop_map(|value| serde_json::Value::from(value).to_string()),
        1 => (0i64..253_402_300_800, 0u32..7).prop_map(|(seconds, places)| {
            let time = chrono::DateTime::from_timestamp(seconds, 123_456_000).unwrap();
            let form = match places { 0 => chrono::SecondsFormat::Secs, 1..=3 => chrono::SecondsFormat::Millis, _ => chrono::SecondsFormat::Micros };
            format!("\"{}\"", time.to_rfc3339_opts(form, true))
        }),
        1 => any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
    ]
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => Just(""), 1 => Just(" "), 1 => Just("\r\n\t")]
}

fn value_text() -> impl Strategy<Value = String> {
    scalar_text().prop_recursive(4, 24, 5, |inner| {
        let member = (proptest::sample::select(&NAMES[..]), space(), inner.clone());
        let members = proptest::collection::vec(
            member.prop_map(|(name, space, value)| format!("\"{name}\":{space}{value}")),
            0..5,
        );
        prop_oneof![
            (proptest::collection::vec(inner, 0..4), space())
                .prop_map(|(items, space)| format!("[{space}{}]", items.join(","))),
            (members, space())
                .prop_map(|(members, space)| format!("{{{space}{}}}", members.join(&format!("{space},")))),
        ]
    })
}

/// A value that mostly fits the field's column, so that whole records are right now and then.
fn fitting(name: &str) -> BoxedStrategy<String> {
    let strings = |texts: &'static [&'static str]| proptest::sample::select(texts).prop_map(str::to_owned).boxed();
    match name {
        "b" => strings(&["true", "false"]),
        "i" | "l" | "u" => (0u32..100_000).prop_map(|value| value.to_string()).boxed(),
        "f" => (any::<i32>(), 0u32..5)
            .prop_map(|(value, places)| format!("{}", f64::from(value) / 10f64.powi(places as i32)))
            .boxed(),
        "d" => (-999_999i32..999_999, 0u32..4)
            .prop_map(|(value, places)| format!("{}", f64::from(value) / 10f64.powi(places as i32)))
            .boxed(),
        "s" | "bin" => prop_oneof![
            any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
            Just(r#""\u00e9\/""#.to_owned())
        ]
        .boxed(),
        "day" => strings(&[r#""2026-01-02""#, r#""2026-01-02T00:00:00Z""#]),
        "t" => strings(&[
            r#""2026-01-02T03:04:05Z""#,
            r#""2026-01-02T03:04:05.5+01:00""#,
            r#""1969-07-20T20:17:40.123456789Z""#,
        ]),
        "ms" | "sec" => strings(&["0", "1700000000", "-12.75", "1e9", "123.456"]),
        "list" => strings(&["[]", "[1, null,3]", "[1]", "[ -5 , 6]"]),
        "rows" => strings(&["[]", r#"[{"x":"a","y":[1,2.5]},null,{"y":null,"z":{}},{}]"#, r#"[{"y":[],"x":7}]"#]),
        "st" => strings(&[
            "{}",
            r#"{"x":"a","n":{"m":5,"k":[1,{"a": 1.50}]}}"#,
            r#"{"n":null}"#,
            r#"{"n":{"k":"\u0041"},"z":1}"#,
        ]),
        "o" => strings(&[
            "{}",
            r#"{"a":{"b":"x","c":2}}"#,
            r#"{"a":5}"#,
            r#"{"a":[{"b":1}],"z":"q"}"#,
            "7",
            r#"{"a":null}"#,
        ]),
        "c" => strings(&["5", r#""5""#, r#""12.00""#, "12.0"]),
        "q" => strings(&[r#""v""#]),
        _ => value_text().boxed(),
    }
}

fn record_text() -> impl Strategy<Value = String> {
    let names = prop_oneof![12 => proptest::sample::select(&NAMES[..18]), 1 => Just("other"), 1 => Just("q")];
    let field = names.prop_flat_map(|name| {
        let key = if name == "q" { r#"q\"\\/é"# } else { name };
        (Just(key), prop_oneof![60 => fitting(name), 1 => value_text()], space())
    });
    let fields = proptest::collection::vec(field, 0..12);
    let object = (fields, any::<bool>()).prop_map(|(fields, may_repeat)| {
        let mut seen = std::collections::HashSet::new();
        let kept = fields.into_iter().filter(|(name, _, _)| seen.insert(*name) || may_repeat);
        let fields: Vec<String> =
            kept.map(|(name, value, space)| format!("{space}\"{name}\"{space}:{value}{space}")).collect();
        format!("{{{}}}", fields.join(","))
    });
    prop_oneof![30 => object, 1 => value_text(), 1 => any::<String>()]
}

fn same(a: &Decoded, b: &Decoded) -> Result<(), TestCaseError> {
    prop_assert_eq!(&a.faults, &b.faults);
    prop_assert_eq!(&a.sources, &b.sources);
    prop_assert_eq!(a.passed_over, b.passed_over);
    for (place, field) in a.rows.schema().fields().iter().enumerate() {
        prop_assert_eq!(a.rows.column(place), b.rows.column(place), "column {}", field.name());
    }
    Ok(())
}

const SELECT: &str = r#"select = "*, _key, _value, _offset, _partition, _timestamp, _headers""#;

#[test]
fn a_date_is_a_day_or_the_day_that_a_time_says() {
    for text in [
        "2024-02-29",
        "2024-02-29T23:00:00-05:00",
        "2024-02-29 10:00:00",
        "2024-02-29T10:00:00.000+0000",
        "2024-02-29 10:00:00+00",
        "2024-02-29t10:00",
        "2024-02-29 ",
    ] {
        assert!(matches!(text_number(&Kind::Date, text), Ok(Number::Int(19_782))), "{text}");
    }
    for text in ["+2024-02-29T12:00:00Z", "+2024-02-2", "2024-02-29x", "2024-02-30", "2024-2-29T1", "2024-02-2910"] {
        assert!(text_number(&Kind::Date, text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn a_float_is_read_to_its_last_bit(value in any::<f64>().prop_filter("JSON has no other", |value| value.is_finite()), part in 0.0..1e6) {
        for value in [value, part, part / 3.0] {
            for text in [format!("{value:?}"), format!("{value:e}"), format!("{value}")] {
                let columns = "f = \"float64\"\nj = { path = \"/f\", type = \"json\" }\nt = { path = \"/t\", type = \"float64\", coerce = true }";
                let decoded = decode(columns, &[&format!("{{\"f\":{text},\"t\":\"{text}\"}}"), &format!("{{\"f\":{text},\"\\u0074\":\"{text}\"}}")]);
                prop_assert!(decoded.faults.is_empty(), "{:?}", decoded.faults);
                let floats = |at: usize| decoded.rows.column(at).as_primitive::<Float64Type>().values().to_vec();
                prop_assert_eq!((floats(0), floats(2)), (vec![value; 2], vec![value; 2]));
                let texts = decoded.rows.column(1).as_string::<i32>();
                prop_assert_eq!(texts.value(0).parse::<f64>(), Ok(value));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_fast_way_makes_the_same_rows_and_faults(
        values in proptest::collection::vec(record_text(), 1..12),
        has_rest in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let columns = if has_rest { format!("{COLUMNS}rest = \"json\"\n") } else { COLUMNS.to_owned() };
        let decoder = decoder(&columns, SELECT);
        let texts: Vec<&str> = values.iter().map(String::as_str).collect();
        let mut records = records(&texts);
        for (at, record) in records.iter_mut().enumerate() {
            match at % 4 {
                1 => record.headers.clear(),
                2 => record.key = Some(Bytes::from_static(b"k\xff")),
                _ => {}
            }
        }
        // One is cut off anywhere, also within a letter.
        if let Some(value) = records[0].value.as_mut() {
            value.truncate(cut.index(value.len() + 1));
        }
        same(&decoder.decode(3, &records), &plainly(&decoder, 3, &records))?;
    }

    #[test]
    fn a_byte_changed_changes_both_alike(value in record_text(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let decoder = decoder(COLUMNS, "");
        let mut bytes = value.into_bytes();
        let place = at.index(bytes.len().max(1));
        if let Some(changed) = bytes.get_mut(place) {
            *changed = byte;
        }
        let mut records = records(&["{}", r#"{"s":"kept"}"#]);
        records[0].value = Some(bytes.into());
        same(&decoder.decode(3, &records), &plainly(&decoder, 3, &records))?;
    }

    #[test]
    fn plain_times_are_chronos(text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,10})?(Z|[+-][0-2][0-9]:[0-6][0-9])") {
        if let Some(micros) = plain_rfc3339(text.as_bytes()) {
            prop_assert_eq!(Ok(micros), chrono::DateTime::parse_from_rfc3339(&text).map(|time| time.timestamp_micros()));
        }
    }
}

#[test]
fn every_day_of_eight_centuries_is_chronos() {
    for day in (-150_000..150_000).step_by(1) {
        let time = chrono::DateTime::from_timestamp(day * 86_400, 0).unwrap();
        assert_eq!(
            plain_rfc3339(time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true).as_bytes()),
            Some(time.timestamp_micros())
        );
    }
}

#[test]
fn tombstones_pictures_and_deep_values_are_the_same_both_ways() {
    let decoder = decoder("j = \"json\"\nrest = \"json\"\n", SELECT);
    let deep = |depth: usize| format!("{{\"j\":{}1{},\"z\":1}}", "[".repeat(depth), "]".repeat(depth));
    let texts = [deep(50), deep(110), deep(126), deep(200), "{}".to_owned(), "{} x".to_owned()];
    let mut records = records(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    records[4].value = None;
    records.push(Record {
        headers: vec![(Bytes::from("content-type"), Some(Bytes::from("image/png")))],
        ..records[0].clone()
    });
    let (fast, plain) = (decoder.decode(1, &records), plainly(&decoder, 1, &records));
    same(&fast, &plain).unwrap();
    assert_eq!((fast.sources, fast.passed_over), (vec![0, 1, 2, 4], 1));
}

/// Most records go the fast way: else the comparison above would compare the tree with itself.
#[test]
fn usual_records_are_not_odd() {
    let decoder = decoder(COLUMNS, SELECT);
    let mut pass = Pass::new(&decoder, 0, 1);
    let mut fast = 0;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..2_000 {
        let value = proptest::strategy::ValueTree::current(&record_text().new_tree(&mut runner).unwrap());
        let record = &records(&[&value])[0];
        fast += usize::from(pass.is_fast(&record.by_ref()));
    }
    assert!(fast > 800, "only {fast} of 2000 records are read the fast way");
}
