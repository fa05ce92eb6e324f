//! Facts about Protobuf. `golden/order.desc` was written by protoc 35.1, `golden/order.pb` by protobuf 7.36.2 (Python):
//!
//! ```text
//! protoc -I. --include_imports --descriptor_set_out=order.desc order.proto
//!
//! o = order_pb2.Order(id=9007199254740993, small=-7, large=18446744073709551615, fixed=5, yes=True, f=1.5, d=0.1, text='ä"b',
//!     bytes=b'\xff\x00{', kind='SALE', tags=['x','y'], by_name={'k': 5}, maybe='', page=page_pb2.Page(url='https://a.example/b'),
//!     cash=12, items=[dict(sku='s', count=2)])
//! o.at.FromJsonString('2026-01-02T03:04:05.678901Z'); o.took.FromJsonString('1.5s'); o.nick.value = 'nick'; o.count.value = 0
//! o.by_id[-3].sku = 'z'; o.inner.at.FromJsonString('1969-12-31T23:59:59.999999Z')
//! o.SerializeToString(deterministic=True)
//! ```

use super::*;
use proptest::prelude::*;

const DESCRIPTORS: &[u8] = include_bytes!("golden/order.desc");
const ORDER: &[u8] = include_bytes!("golden/order.pb");
const EMPTY: &str =
    r#""id":0,"small":0,"large":0,"fixed":0,"yes":false,"f":0.0,"d":0.0,"text":"","bytes":"","kind":"BUY","#;

fn order() -> Schema {
    Schema::of_descriptors(DESCRIPTORS, "shop.v1.Order").unwrap()
}

#[test]
fn what_another_implementation_wrote_is_read() {
    let expected = format!(
        r#"{{"id":9007199254740993,"small":-7,"large":18446744073709551615,"fixed":5,"yes":true,"f":1.5,"d":0.1,"text":"ä\"b","bytes":"/wB7","kind":"SALE","at":"2026-01-02T03:04:05.678901Z","took":1.500000000,"nick":"nick","count":0,"tags":["x","y"],"by_name":{{"k":5}},"by_id":{{"-3":{{"sku":"z","count":0}}}},"maybe":"","page":{{"url":"https://a.example/b"}},"cash":12,"items":[{{"sku":"s","count":2}}],"unset":0,"other_kind":"BUY","inner":{{{EMPTY}"at":"1969-12-31T23:59:59.999999Z","tags":[],"by_name":{{}},"by_id":{{}},"items":[],"unset":0,"other_kind":"BUY"}}}}"#
    );
    assert_eq!(order().read(ORDER, false).unwrap().to_json(), expected);
}

#[test]
fn a_message_that_is_cut_or_changed_never_panics() {
    let order = order();
    let told = (0..ORDER.len()).filter(|end| order.read(&ORDER[..*end], false).is_err()).count();
    // Cut between two fields it is a message too.
    assert!(told > ORDER.len() / 2, "{told}");
    for at in 0..ORDER.len() {
        for bit in 0..8 {
            let mut bytes = ORDER.to_vec();
            bytes[at] ^= 1 << bit;
            let _ = order.read(&bytes, false);
        }
    }
}

#[test]
fn the_frame_says_which_message_of_the_file_it_is() {
    let Schema::Message(order) = order() else { panic!("it is one message") };
    let file = Schema::File(order.parent_file());
    let named =
        |indexes: &[u8], message: &[u8]| file.read(&[indexes, message].concat(), true).map(|node| node.to_json());
    assert_eq!(named(&[2, 2], &[8, 5]).as_deref(), Ok(r#"{"n":5}"#));
    // Order, its third child (behind its two maps' entries), that one's first child.
    assert_eq!(named(&[6, 0, 4, 0], &[10, 1, b'x']).as_deref(), Ok(r#"{"text":"x"}"#));
    // The same, counted without the entries of maps.
    assert_eq!(named(&[6, 0, 0, 0], &[10, 1, b'x']).as_deref(), Ok(r#"{"text":"x"}"#));
    let first = named(&[0], ORDER).unwrap();
    assert_eq!(named(&[2, 0], ORDER), Ok(first.clone()));
    // By its own name, wherever the frame says it is.
    assert_eq!(Schema::Message(order).read(&[&[2, 2], ORDER].concat(), true).unwrap().to_json(), first);
    assert!(named(&[2, 4], &[]).unwrap_err().contains("place"));
    assert!(named(&[2, 1], &[]).unwrap_err().contains("-1"));
    assert!(named(&[0xfe, 0xff, 0xff, 0xff, 0x0f], &[]).unwrap_err().contains("numbers"));
    assert!(named(&[], &[]).unwrap_err().contains("ends"));
    assert!(named(&[0x80; 9], &[]).unwrap_err().contains("ends"));
}

/// The frames behind the id are those that Confluent's client for Python (confluent-kafka 2.16.1) wrote of `Order(id=1)`, `Second(n=5)` and
/// `Order.Item.Deep(text='x')`; it registered the schema as here, in base64.
#[test]
fn a_schema_may_come_as_a_descriptor() {
    let set = prost_reflect::prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let text = |name: &str| STANDARD.encode(set.file.iter().find(|file| file.name() == name).unwrap().encode_to_vec());
    let imported = vec![("page.proto".to_owned(), text("page.proto"))];
    let schema = Schema::of_texts(&text("order.proto"), imported).unwrap();
    let read = |value: &[u8]| schema.read(value, true).unwrap().to_json();
    assert!(read(&[0, 8, 1]).starts_with(r#"{"id":1,"#));
    assert_eq!(read(&[2, 2, 8, 5]), r#"{"n":5}"#);
    assert_eq!(read(&[6, 0, 4, 0, 10, 1, 0x78]), r#"{"text":"x"}"#);
    let written = [include_str!("golden/order.proto"), include_str!("golden/page.proto")];
    let imported = vec![("page.proto".to_owned(), written[1].to_owned())];
    let of_text = Schema::of_texts(written[0], imported).unwrap();
    assert_eq!(of_text.read(&[&[0], ORDER].concat(), true).unwrap(), order().read(ORDER, false).unwrap());
    assert_eq!(of_text.read(&[6, 0, 4, 0, 10, 1, 0x78], true).unwrap().to_json(), r#"{"text":"x"}"#);
}

#[test]
fn bytes_that_would_fill_the_memory_or_the_stack_end() {
    let order = order();
    // `inner` in `inner`, each of them a byte shorter than what holds it.
    let mut nested = Vec::new();
    for _ in 0..20_000 {
        let mut outer = vec![0xd2, 0x01];
        let mut size = nested.len();
        while size >= 0x80 {
            outer.push(size as u8 | 0x80);
            size >>= 7;
        }
        outer.push(size as u8);
        outer.extend_from_slice(&nested);
        nested = outer;
    }
    assert!(order.read(&nested, false).unwrap_err().contains("recursion"));
    // Groups that nobody knows, opened and never closed.
    let _ = order.read(&[0xf3, 0x3f].repeat(100_000), false).unwrap_err();
    // A hundred thousand messages of two bytes, each of them with its defaults.
    let items = [0xba, 0x01, 0].repeat(100_000);
    assert!(order.read(&items, false).is_ok());
}

#[test]
fn a_message_that_is_not_there_is_told_with_the_nearest() {
    let wrong = |bytes: &[u8], message: &str| Schema::of_descriptors(bytes, message).map(drop).unwrap_err();
    assert!(wrong(DESCRIPTORS, "shop.v1.Ordr").contains("\"shop.v1.Order\""));
    assert!(wrong(ORDER, "shop.v1.Order").contains("no descriptor set"));
    for end in 0..DESCRIPTORS.len() {
        let _ = Schema::of_descriptors(&DESCRIPTORS[..end], "shop.v1.Order");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_told(bytes in proptest::collection::vec(any::<u8>(), 0..200), is_framed in any::<bool>()) {
        let _ = order().read(&bytes, is_framed);
    }
}

#[test]
fn what_serialisers_do_not_register_is_known() {
    for (name, _) in known::FILES {
        let text = format!("syntax = \"proto3\"; import \"{name}\"; message M {{ int32 n = 1; }}");
        assert!(Schema::of_texts(&text, Vec::new()).is_ok(), "{name}");
    }
    let text = r#"syntax = "proto3";
        import "confluent/meta.proto";
        import "confluent/type/decimal.proto";
        import "google/type/money.proto";
        message Order {
            option (confluent.message_meta).doc = "an order";
            confluent.type.Decimal price = 1 [(confluent.field_meta) = { params: [{ key: "precision", value: "10" }] }];
            google.type.Money paid = 2;
        }"#;
    let schema = Schema::of_texts(text, Vec::new()).unwrap();
    let read = |bytes: &[u8]| schema.read(bytes, true).unwrap().to_json();
    // -12345 and 128, with two places.
    assert_eq!(
        read(
            &[b"\0\x0a\x08\x0a\x02\xcf\xc7\x10\x0a\x18\x02".as_slice(), b"\x12\x09\x0a\x03EUR\x10\x05\x18\x07"]
                .concat()
        ),
        r#"{"price":-123.45,"paid":{"currency_code":"EUR","units":5,"nanos":7}}"#
    );
    assert_eq!(read(b"\0\x0a\x06\x0a\x02\x00\x80\x18\x02"), r#"{"price":1.28}"#);
    assert_eq!(read(b"\0\x0a\x02\x18\x02"), r#"{"price":0.00}"#);
    // More digits than a decimal has: it stays a message.
    let long = [b"\0\x0a\x13\x0a\x11".as_slice(), &[1; 17]].concat();
    assert!(read(&long).contains("precision"));
}

#[test]
fn a_value_of_no_kind_is_null() {
    let text =
        r#"syntax = "proto3"; import "google/protobuf/struct.proto"; message M { google.protobuf.Struct s = 1; }"#;
    let schema = Schema::of_texts(text, Vec::new()).unwrap();
    assert_eq!(schema.read(b"\0\x0a\x07\x0a\x05\x0a\x01x\x12\x00", true).unwrap().to_json(), r#"{"s":{"x":null}}"#);
}
