//! Facts about columns of formats that are richer than JSON, from bytes that other implementations wrote.

pub(in crate::stream) mod fake_registry;

use crate::record::{Offset, Record};
use crate::stream::fault::Reason;
use crate::stream::parse::parse;
use crate::stream::plan::Plan;
use crate::stream::rows::{Decoded, Decoder};
use crate::stream::spec::Spec;
use arrow::json::LineDelimitedWriter;
use bytes::Bytes;
use std::path::Path;

const ORDER: &[u8] = include_bytes!("avro/golden/order.avro");
const AVRO: &str = "avro = { schema = \"order.avsc\" }";

/// A pipeline file that stands beside the golden files of a format.
fn spec(folder: &str, format: &str, columns: &str) -> Result<Spec, String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/stream/format").join(folder).join("golden/p.toml");
    let text = format!("from = \"topic:t\"\nformat = {{ {format} }}\nto = {{ parquet = \"t\" }}\n[columns]\n{columns}");
    parse(&file, &text).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn decoder(folder: &str, format: &str, columns: &str) -> Decoder {
    let spec = spec(folder, format, columns).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let plan = Plan::of(&spec).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    Decoder::new(&spec.format, plan.columns().to_vec(), plan.input().clone())
}

fn records(values: &[&[u8]]) -> Vec<Record> {
    let record = |value: &&[u8]| Record {
        offset: Offset(0),
        timestamp: 0,
        key: None,
        value: Some(Bytes::copy_from_slice(value)),
        headers: Vec::new(),
    };
    values.iter().map(record).collect()
}

fn rows(decoded: &Decoded) -> String {
    assert!(decoded.faults.is_empty(), "{:?}", decoded.faults);
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(&decoded.rows).unwrap();
    writer.finish().unwrap();
    String::from_utf8(writer.into_inner()).unwrap().trim_end().to_owned()
}

fn row(column: &str) -> String {
    rows(&decoder("avro", AVRO, column).decode(0, &records(&[ORDER])))
}

fn reason(column: &str) -> Reason {
    let decoded = decoder("avro", AVRO, column).decode(0, &records(&[ORDER]));
    assert_eq!(decoded.rows.num_rows(), 0, "{column} was taken");
    decoded.faults[0].1.reason
}

#[test]
fn columns_of_avro_lose_nothing() {
    assert_eq!(row("id = \"int64\""), r#"{"id":9007199254740993}"#);
    assert_eq!(row("at_us = \"timestamp\""), r#"{"at_us":"2026-01-02T03:04:05.678901Z"}"#);
    // The schema knows the unit; the column's own is for numbers.
    assert_eq!(row("at_ms = \"timestamp(s)\""), r#"{"at_ms":"2026-01-02T03:04:05.678Z"}"#);
    assert_eq!(row("before = \"timestamp\""), r#"{"before":"1969-12-31T23:59:59.999999Z"}"#);
    assert_eq!(row("day = \"date\""), r#"{"day":"2026-01-02"}"#);
    assert_eq!(row("price = \"decimal(38,3)\""), r#"{"price":-12345678901234567890123456.789}"#);
    assert_eq!(row("price = \"decimal(38,5)\""), r#"{"price":-12345678901234567890123456.78900}"#);
    assert_eq!(row("fee = \"decimal(4,1)\""), r#"{"fee":12.5}"#);
    assert_eq!(row("fee = \"float64\""), r#"{"fee":12.5}"#);
    assert_eq!(row("bytes = \"binary\""), r#"{"bytes":"ff007b"}"#);
    assert_eq!(row("fixed = \"string\""), r#"{"fixed":"abcd"}"#);
    assert_eq!(row("at_ms = \"string\""), r#"{"at_ms":"2026-01-02T03:04:05.678Z"}"#);
    assert_eq!(row("u = { path = \"/page/size/h\", type = \"uint64\" }"), r#"{"u":4}"#);
    assert_eq!(row("second = { path = \"/tags/1\", type = \"string\" }"), r#"{"second":"y"}"#);
    assert_eq!(
        row("page = { type = { url = \"string\", size = { w = \"int32\" } } }"),
        r#"{"page":{"url":"https://a.example/b","size":{"w":3}}}"#
    );
    assert_eq!(
        row("c = { path = \"/chain/next\", type = { n = \"string\", next = \"string\" } }"),
        r#"{"c":{"n":"2"}}"#,
        "a null within an object is none"
    );
    assert_eq!(
        row("tags = [\"string\"]\nchain = \"json\""),
        r#"{"tags":["x","y"],"chain":"{\"n\":1,\"next\":{\"n\":2,\"next\":null}}"}"#
    );
}

#[test]
fn a_column_that_does_not_fit_its_avro_says_so() {
    assert_eq!(reason("price = \"decimal(10,3)\""), Reason::Overflow);
    assert_eq!(reason("price = \"decimal(38,2)\""), Reason::Overflow);
    assert_eq!(reason("fee = \"int64\""), Reason::WrongType);
    assert_eq!(reason("at_ms = \"int64\""), Reason::WrongType);
    assert_eq!(reason("at_ms = \"date\""), Reason::WrongType);
    assert_eq!(reason("day = \"timestamp\""), Reason::WrongType);
    assert_eq!(reason("id = \"int32\""), Reason::Overflow);
    assert_eq!(reason("bytes = \"string\""), Reason::WrongType);
    assert_eq!(reason("absent = { type = \"string\", required = true }"), Reason::MissingRequired);
    assert_eq!(reason("absent = \"string\""), Reason::NoColumns);
}

#[test]
fn rest_holds_the_fields_of_avro_that_no_column_reads() {
    let all = row("id = \"int64\"\nrest = \"json\"");
    let row: serde_json::Value = serde_json::from_str(&all).unwrap();
    let rest: serde_json::Value = serde_json::from_str(row["rest"].as_str().unwrap()).unwrap();
    assert_eq!((rest.get("id"), &rest["day"], &rest["page"]["size"]["w"]), (None, &"2026-01-02".into(), &3.into()));
}

#[test]
fn bad_avro_spares_its_neighbours_and_the_frame_is_taken_off() {
    let framed: &[u8] = &[&[0, 0, 0, 0, 7], ORDER].concat();
    let decoder = decoder("avro", "avro = { schema = \"order.avsc\", framing = \"confluent\" }", "small = \"int32\"");
    let decoded = decoder.decode(0, &records(&[framed, ORDER, &framed[..9], &[0, 0], b""]));
    assert_eq!((decoded.sources, decoded.faults.len()), (vec![0], 4));
    assert!(decoded.faults.iter().all(|(_, fault)| fault.reason == Reason::NotAvro), "{:?}", decoded.faults);
    assert!(decoded.faults[0].1.message.contains("Confluent"), "{:?}", decoded.faults[0]);
}

#[test]
fn a_schema_file_that_cannot_be_used_is_a_mistake_of_its_line() {
    let wrong = |format: &str| spec("avro", format, "a = \"string\"").unwrap_err();
    assert!(wrong("avro = { schema = \"none.avsc\" }").contains("p.toml:2:"));
    assert!(wrong("avro = { schema = \"order.avro\" }").contains("not UTF-8"));
    assert!(wrong("avro = { schema = \".\" }").contains("no file"));
    assert!(wrong("avro = {}").contains("FILE.avsc"));
    assert!(wrong("avro = { schema = \"order.avsc\", framing = \"x\" }").contains("confluent"));
}

#[test]
fn columns_of_protobuf_lose_nothing() {
    const MESSAGE: &[u8] = include_bytes!("protobuf/golden/order.pb");
    let format = "protobuf = { descriptor = \"order.desc\", message = \"shop.v1.Order\" }";
    let row = |columns: &str| rows(&decoder("protobuf", format, columns).decode(0, &records(&[MESSAGE])));
    assert_eq!(row("large = \"uint64\""), r#"{"large":18446744073709551615}"#);
    assert_eq!(row("at = \"timestamp\""), r#"{"at":"2026-01-02T03:04:05.678901Z"}"#);
    assert_eq!(row("b = { path = \"/inner/at\", type = \"timestamp\" }"), r#"{"b":"1969-12-31T23:59:59.999999Z"}"#);
    assert_eq!(row("took = \"decimal(12,3)\""), r#"{"took":1.500}"#);
    assert_eq!(row("bytes = \"binary\"\nkind = \"string\""), r#"{"bytes":"ff007b","kind":"SALE"}"#);
    assert_eq!(row("unset = \"int64\"\ncount = \"int64\"\nabsent = \"string\""), r#"{"unset":0,"count":0}"#);
    assert_eq!(row("s = { path = \"/by_id/-3/sku\", type = \"string\" }"), r#"{"s":"z"}"#);
    let framed: Vec<u8> = [&[0, 0, 0, 0, 9, 0], MESSAGE].concat();
    let format = format.replace(" }", ", framing = \"confluent\" }");
    let decoded =
        decoder("protobuf", &format, "small = \"int32\"").decode(0, &records(&[&framed, MESSAGE, &framed[..5]]));
    assert_eq!(decoded.sources, [0]);
    assert!(decoded.faults.iter().all(|(_, fault)| fault.reason == Reason::NotProtobuf), "{:?}", decoded.faults);
    assert_eq!(decoded.faults.len(), 2);
    let wrong = |format: &str| spec("protobuf", format, "a = \"string\"").unwrap_err();
    assert!(wrong("protobuf = { descriptor = \"order.desc\" }").contains("package.Message"));
    assert!(wrong("protobuf = { descriptor = \"order.desc\", message = \"Order\" }").contains("no message"));
    assert!(wrong("protobuf = { descriptor = \"order.proto\", message = \"Order\" }").contains("no descriptor set"));
}

#[test]
fn a_column_of_a_field_that_the_schema_does_not_have_is_a_mistake() {
    let avro = spec("avro", AVRO, "id = \"int64\"\nprise = \"string\"").unwrap_err();
    assert!(avro.contains("p.toml:6:") && avro.contains("did you mean \"/price\""), "{avro}");
    let format = "protobuf = { descriptor = \"order.desc\", message = \"shop.v1.Order\" }";
    let wrong = spec("protobuf", format, "u = { path = \"/pages/url\", type = \"string\" }").unwrap_err();
    assert!(wrong.contains("did you mean \"/page\""), "{wrong}");
    let column = |path: &str| format!("c = {{ path = \"{path}\", type = \"json\" }}");
    for (format, format_name, right, lacking) in [
        (
            AVRO,
            "avro",
            ["/page/size/w", "/tags/0", "/chain/next/next/n", "/by_name/k"],
            ["/page/size/ww", "/tags/x", "/by_name/k/x", "/id/x"],
        ),
        (
            format,
            "protobuf",
            ["/page/url", "/items/0/sku", "/inner/inner/at", "/by_id/-3/sku"],
            ["/page/urls", "/items/sku", "/by_id/3/x", "/id/x"],
        ),
    ] {
        for path in right {
            assert!(spec(format_name, format, &column(path)).is_ok(), "{path}");
        }
        for path in lacking {
            let (above, part) = path.rsplit_once('/').unwrap();
            let told = spec(format_name, format, &column(path)).unwrap_err();
            assert!(told.contains(&format!("no field \"{part}\" at \"{above}\"")), "{path}: {told}");
        }
    }
    let told = spec("avro", AVRO, &column("/page/size/ww")).unwrap_err();
    assert!(told.contains("did you mean \"/page/size/w\""), "{told}");
}
