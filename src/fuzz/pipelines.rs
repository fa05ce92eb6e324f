//! Pipeline files, their SQL, and the records they are run over; config files.

use crate::record::{Offset, Record};
use crate::stream::Trial;
use bytes::Bytes;
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::LazyLock;

/// One column of each kind.
const COLUMNS: &str = r#"
from = "topic:t"
to = { parquet = "p" }
[columns]
b   = "bool"
i   = "int32"
l   = "int64"
u   = "uint64"
f   = "float64"
d   = "decimal(12,3)"
s   = "string"
x   = "binary"
day = "date"
ts  = "timestamp"
ms  = "timestamp(ms)"
j   = "json"
a   = ["string"]
o   = { type = { p = "int64", q = "string" } }
deep = { path = "/n/m/0", type = "string" }
c   = { type = "int64", coerce = true }
"#;
/// Everything that computes on a client's bytes.
const FUNCTIONS: &str = r#"
from = "topic:t"
to = { parquet = "p" }
select = """
is_bot(t) as a, ua_browser(t) as b, ua_browser_version(t) as c, ua_os(t) as d, ua_device(t) as e, url_host(t) as f,
url_path(t) as g, url_scheme(t) as h, url_fragment(t) as i, url_query(t, 'q') as j, url_query(t, t) as k, ip_mask(t) as l,
json_get(t, '/a/b') as m, json_get(t, t) as n, sha256(t) as o, hmac_sha256(t, 's') as p, image_type(_value) as q,
image_width(_value) as r, image_height(_value) as s, byte_size(_value) as u, lower(t) as v, substr(t, 2, 3) as w,
regexp_replace(t, '[0-9]+', 'n') as x, split_part(t, '/', 2) as y, try_cast(t as bigint) as z, url_port(t) as aa,
utm_source(t) as ab, click_id(t) as ac, click_id_kind(t) as ad, registrable_domain(t) as ae, referer_class(t) as af,
referer_class(t, t) as ag, referer_name(t) as ah, bot_reason(t) as ai, point_in_polygon(1, 2.5, t) as aj,
point_in_polygon(try_cast(t as double), try_cast(t as bigint), '0,0,9,0,9,9') as ak, epoch_to_timestamp(try_cast(t as double)) as al,
box_area([try_cast(t as double), 1, -2, try_cast(t as double)]) as am, box_iou([try_cast(t as double), 0, 1, 1], [0, 0, 1, 1]) as an,
box_overlap([0, 0, 1, 1], [try_cast(t as double), 0, 1, 1]) as ao,
clock_corrected(epoch_to_timestamp(try_cast(t as double)), _timestamp, _timestamp) as ap"""
[columns]
t = { header = "t", type = "string" }
"#;

/// What a value may be beside JSON; the schemas are those of the tests.
const FORMATS: [(&str, &str); 6] = [
    ("\"ndjson\"", COLUMNS_OF_TEXT),
    ("{ csv = { header = true } }", COLUMNS_OF_TEXT),
    ("{ csv = { delimiter = \";\" } }", "[columns]\nn = { path = \"/0\", type = \"int64\" }\nrest = \"json\"\n"),
    ("{ avro = { schema = \"ROOT/avro/golden/order.avsc\" } }", COLUMNS_OF_AVRO),
    (
        "{ protobuf = { descriptor = \"ROOT/protobuf/golden/order.desc\", message = \"shop.v1.Order\" } }",
        COLUMNS_OF_PROTOBUF,
    ),
    (
        "{ protobuf = { descriptor = \"ROOT/protobuf/golden/order.desc\", message = \"shop.v1.Order\", framing = \"confluent\" } }",
        COLUMNS_OF_PROTOBUF,
    ),
];
const COLUMNS_OF_TEXT: &str = "[columns]\nn = \"int64\"\nd = \"decimal(12,3)\"\nts = \"timestamp\"\nrest = \"json\"\n";
const COLUMNS_OF_AVRO: &str = r#"
[columns]
id    = "int64"
small = "int32"
d     = "float64"
text  = "string"
bytes = "binary"
kind  = "string"
day   = "date"
price = "decimal(38,3)"
tags  = ["string"]
url   = { path = "/page/url", type = "string" }
rest  = "json"
"#;
const COLUMNS_OF_PROTOBUF: &str = r#"
[columns]
id    = "int64"
small = "int32"
d     = "float64"
text  = "string"
bytes = "binary"
kind  = "string"
at    = "timestamp"
took  = "decimal(38,9)"
large = "uint64"
tags  = ["string"]
url   = { path = "/page/url", type = "string" }
rest  = "json"
"#;

static TRIALS: LazyLock<Vec<Trial>> = LazyLock::new(|| {
    let trial = |(format, columns): &(&str, &str)| {
        let format = format.replace("ROOT", concat!(env!("CARGO_MANIFEST_DIR"), "/src/stream/format"));
        let text = format!("from = \"topic:t\"\nto = {{ parquet = \"p\" }}\nformat = {format}\n{columns}");
        Trial::new(&text).expect("the formats are right")
    };
    FORMATS.iter().map(trial).collect()
});
static JSON: LazyLock<Trial> = LazyLock::new(|| Trial::new(COLUMNS).expect("the columns are right"));
static CALLS: LazyLock<Trial> = LazyLock::new(|| Trial::new(FUNCTIONS).expect("the functions are right"));

fn record(value: &[u8]) -> Record {
    let value = Bytes::copy_from_slice(value);
    let headers = vec![(Bytes::from_static(b"t"), Some(value.clone()))];
    Record { offset: Offset(0), timestamp: 0, key: None, value: Some(value), headers }
}

/// Which format, and a record's value in it.
pub(super) fn formats(bytes: &[u8]) {
    let Some((which, value)) = super::split(bytes) else { return };
    let _ = TRIALS[which % TRIALS.len()].run(&record(value));
}

/// A record's value. What comes out is held against serde_json's reading of it.
pub(super) fn json(bytes: &[u8]) {
    let Some(row) = JSON.run(&record(bytes)) else { return };
    // What is before the text is passed over.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let fields = match serde_json::from_slice(text) {
        Ok(Value::Object(fields)) => fields,
        // JSON has no largest number, and takes half a surrogate pair; serde_json does not.
        Err(error) if ["number out of range", "hex escape"].iter().any(|why| error.to_string().contains(why)) => return,
        _ => panic!("a row came out of what is no JSON object: {row}"),
    };
    assert_eq!(row["b"], of_kind(&fields, "b", Value::is_boolean, &row["b"]));
    assert_eq!(row["i"], of_kind(&fields, "i", Value::is_i64, &row["i"]));
    assert_eq!(row["l"], of_kind(&fields, "l", Value::is_i64, &row["l"]));
    assert_eq!(row["u"], of_kind(&fields, "u", Value::is_u64, &row["u"]));
    match fields.get("s") {
        // A string column takes every scalar as its text.
        Some(scalar @ (Value::Number(_) | Value::Bool(_))) => {
            let text = row["s"].as_str().expect("a scalar has a text");
            assert_eq!(serde_json::from_str::<Value>(text).expect("the text of a scalar is JSON"), *scalar);
        }
        _ => assert_eq!(row["s"], of_kind(&fields, "s", Value::is_string, &row["s"])),
    }
    let text = row["j"].as_str().map(|text| serde_json::from_str::<Value>(text).expect("json is JSON"));
    assert_eq!(text.unwrap_or_default(), fields.get("j").cloned().unwrap_or_default());
}

/// The field if it is of the column's kind or null; any other would have been a dead letter. Whole numbers may be written `1.0`, which
/// serde_json does not call whole, and reads as a float: what came out has all digits.
fn of_kind(fields: &Map<String, Value>, name: &str, is_kind: impl Fn(&Value) -> bool, came: &Value) -> Value {
    match fields.get(name) {
        None | Some(Value::Null) => Value::Null,
        Some(value) if is_kind(value) => value.clone(),
        Some(Value::Number(number)) => {
            let whole = number.as_f64().filter(|number| number.fract() == 0.0);
            assert!(whole.is_some(), "a column took what is not whole");
            if came.as_f64() == whole { came.clone() } else { Value::from(number.clone()) }
        }
        Some(other) => panic!("column {name} took {other}"),
    }
}

/// A header and a value that all functions look at.
pub(super) fn functions(bytes: &[u8]) {
    let _ = CALLS.run(&record(bytes));
}

/// A pipeline file's text; a right one is run over a record.
pub(super) fn file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(trial) = Trial::new(text) {
        let _ = trial.run(&record(b"{\"a\":1,\"ts\":\"2026-01-02T03:04:05Z\",\"b\":[\"x\",null]}"));
    }
}

/// An expression, as `where` and as `select`.
pub(super) fn sql(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let text = Value::from(text);
    let columns = "[columns]\na = \"int64\"\nts = \"timestamp\"\ns = \"string\"\nf = \"float64\"\nb = [\"string\"]\n";
    for clause in [format!("where = {text}"), format!("select = {text}")] {
        file(format!("from = \"topic:t\"\nto = {{ parquet = \"p\" }}\n{clause}\n{columns}").as_bytes());
    }
}

/// The daemon's config file.
pub(super) fn config(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = crate::daemon::Options::read(Path::new("inrush.toml"), text);
    }
}

/// A pipeline's checkpoint behind a right checksum.
pub(super) fn checkpoint(bytes: &[u8]) {
    let folder = std::env::temp_dir().join(format!("inrush-fuzz-checkpoint-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder takes folders");
    let file = folder.join("checkpoint");
    let mut text = format!("{:08x}\n", crc32c::crc32c(bytes)).into_bytes();
    text.extend_from_slice(bytes);
    std::fs::write(&file, text).expect("the temporary folder takes files");
    let _ = crate::stream::read_checkpoint(&file);
}
