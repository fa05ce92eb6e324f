//! Facts about Avro. `golden/order.avro` was written by fastavro 1.13.1 (Python) with `order.avsc`:
//!
//! ```text
//! fastavro.schemaless_writer(out, fastavro.parse_schema(schema), {
//!     'id': 9007199254740993, 'small': -7, 'yes': True, 'none': None, 'f': 1.5, 'd': 0.1, 'text': 'ä"b', 'bytes': b'\xff\x00{',
//!     'at_ms': datetime(2026,1,2,3,4,5,678000,utc), 'at_us': datetime(2026,1,2,3,4,5,678901,utc),
//!     'before': datetime(1969,12,31,23,59,59,999999,utc), 'day': date(2026,1,2),
//!     'price': Decimal('-12345678901234567890123456.789'), 'fee': Decimal('12.50'),
//!     'uuid': UUID('123e4567-e89b-12d3-a456-426614174000'), 'kind': 'SALE', 'fixed': b'abcd', 'tags': ['x','y'],
//!     'by_name': {'k': 5}, 'maybe': 'there', 'absent': None,
//!     'page': {'url': 'https://a.example/b', 'size': {'w': 3, 'h': 4}}, 'other': {'w': 1, 'h': 2},
//!     'chain': {'n': 1, 'next': {'n': 2, 'next': None}}})
//! ```

use super::*;
use proptest::prelude::*;

const SCHEMA: &str = include_str!("golden/order.avsc");
const ORDER: &[u8] = include_bytes!("golden/order.avro");
const ORDER_JSON: &str = r#"{"id":9007199254740993,"small":-7,"yes":true,"none":null,"f":1.5,"d":0.1,"text":"ä\"b","bytes":"/wB7","at_ms":"2026-01-02T03:04:05.678Z","at_us":"2026-01-02T03:04:05.678901Z","before":"1969-12-31T23:59:59.999999Z","day":"2026-01-02","price":-12345678901234567890123456.789,"fee":12.50,"uuid":"123e4567-e89b-12d3-a456-426614174000","kind":"SALE","fixed":"YWJjZA==","tags":["x","y"],"by_name":{"k":5},"maybe":"there","absent":null,"page":{"url":"https://a.example/b","size":{"w":3,"h":4}},"other":{"w":1,"h":2},"chain":{"n":1,"next":{"n":2,"next":null}}}"#;

fn read(schema: &str, bytes: &[u8]) -> Result<String, String> {
    Schema::parse([schema])?.read(bytes).map(|node| node.to_json())
}

#[test]
fn what_another_implementation_wrote_is_read() {
    assert_eq!(read(SCHEMA, ORDER).as_deref(), Ok(ORDER_JSON));
}

#[test]
fn a_datum_that_is_cut_anywhere_is_told() {
    let schema = Schema::parse([SCHEMA]).unwrap();
    for end in 0..ORDER.len() {
        assert!(schema.read(&ORDER[..end]).is_err(), "cut at {end}");
    }
    let longer = [ORDER, &[0]].concat();
    assert!(schema.read(&longer).unwrap_err().contains("left over"));
}

#[test]
fn a_changed_byte_never_panics() {
    let schema = Schema::parse([SCHEMA]).unwrap();
    for at in 0..ORDER.len() {
        for bit in 0..8 {
            let mut bytes = ORDER.to_vec();
            bytes[at] ^= 1 << bit;
            let _ = schema.read(&bytes);
        }
    }
}

#[test]
fn bytes_that_would_fill_the_memory_or_the_stack_end() {
    let chain = r#"{"type":"record","name":"N","fields":[{"name":"next","type":["null","N"]}]}"#;
    assert!(read(chain, &vec![2; 1 << 20]).unwrap_err().contains("deep"));
    let endless = r#"{"type":"record","name":"N","fields":[{"name":"next","type":"N"}]}"#;
    assert!(read(endless, &[]).unwrap_err().contains("deep"));
    let nulls = r#"{"type":"array","items":"null"}"#;
    assert!(read(nulls, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0]).unwrap_err().contains("values"));
    assert!(read(nulls, &[1, 2, 0]).is_ok(), "a block with its size");
    assert!(
        read("\"bytes\"", &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).unwrap_err().contains("wanted")
    );
    assert!(read("\"long\"", &[0xff; 11]).unwrap_err().contains("64 bits"));
    assert!(read("\"int\"", &[0xff, 0xff, 0xff, 0xff, 0x7f]).unwrap_err().contains("32 bits"));
}

#[test]
fn names_are_looked_up_in_their_namespace_and_across_texts() {
    let size = r#"{"type":"record","name":"a.Size","fields":[{"name":"w","type":"int"}]}"#;
    let page = r#"{"type":"record","name":"Page","namespace":"a","fields":[{"name":"size","type":"Size"},{"name":"old","type":{"type":"a.Size"}}]}"#;
    assert_eq!(
        Schema::parse([size, page]).unwrap().read(&[2, 4]).unwrap().to_json(),
        r#"{"size":{"w":1},"old":{"w":2}}"#
    );
    let wrong = |text: &str| Schema::parse([text]).unwrap_err();
    assert!(wrong(page).contains("does not define a.Size"));
    assert!(wrong("{").contains("no JSON"));
    assert!(wrong("5").contains("no type"));
    assert!(wrong(r#"{"type":"record","name":"R"}"#).contains("fields"));
    assert!(
        wrong(r#"[{"type":"fixed","name":"F","size":1},{"type":"enum","name":"F","symbols":[]}]"#).contains("twice")
    );
    let twice = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#;
    assert!(wrong(twice).contains("field a twice"));
    assert!(wrong(&format!("{}\"int\"{}", "[".repeat(200), "]".repeat(200))).contains("no JSON"));
}

#[test]
fn logical_types_that_do_not_fit_are_none() {
    assert_eq!(read(r#"{"type":"string","logicalType":"timestamp-millis"}"#, &[2, b'x']).as_deref(), Ok("\"x\""));
    assert_eq!(
        read(r#"{"type":"long","logicalType":"timestamp-millis"}"#, &[[0xff; 9].as_slice(), &[1]].concat()).as_deref(),
        Ok("-9223372036854775808")
    );
    assert_eq!(
        read(r#"{"type":"long","logicalType":"timestamp-nanos"}"#, &[1]).as_deref(),
        Ok("\"1969-12-31T23:59:59.999999Z\"")
    );
    let beside = r#"{"type":"record","name":"R","fields":[{"name":"d","type":"int","logicalType":"date"}]}"#;
    assert_eq!(read(beside, &[0]).as_deref(), Ok(r#"{"d":"1970-01-01"}"#));
    let uuid = r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#;
    assert_eq!(read(uuid, &[0x11; 16]).as_deref(), Ok("\"11111111-1111-1111-1111-111111111111\""));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_told(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(SCHEMA, &bytes);
    }

    #[test]
    fn any_text_is_a_schema_or_told(text in "[\\[\\]{}\":,a-z]{0,60}", at in 0usize..2000, byte in any::<u8>()) {
        let _ = Schema::parse([text.as_str()]);
        let mut changed = SCHEMA.as_bytes().to_vec();
        if let Some(place) = changed.get_mut(at) {
            *place = byte;
        }
        if let Ok(changed) = std::str::from_utf8(&changed) {
            let _ = Schema::parse([changed]).map(|schema| schema.read(ORDER).is_ok());
        }
    }
}
