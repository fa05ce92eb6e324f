//! Facts about schemas from a registry, against one that a test plays.

use super::*;
use crate::stream::format::binary::{Binary, Unread};
use crate::stream::format::tests::fake_registry::{Fake, registered};
use std::net::TcpListener;

fn registry(fake: &Arc<Fake>, language: Language) -> Arc<Registry> {
    Arc::new(Registry::new(Access::new(&format!("http://127.0.0.1:{}", fake.serve())).unwrap(), language))
}

fn framed(id: u32, rest: &[u8]) -> Vec<u8> {
    [&[0], id.to_be_bytes().as_slice(), rest].concat()
}

/// What a value is, fetching what it lacks.
fn read(registry: &Arc<Registry>, value: &[u8]) -> Result<String, String> {
    let binary = Binary::Registry(registry.clone());
    loop {
        let mut json = String::new();
        let read = binary.read(value, |node| {
            json = node.to_json();
            Ok(())
        });
        match read {
            Ok(()) => return Ok(json),
            Err(Unread::Fault(fault)) => return Err(format!("{}: {}", fault.reason.as_str(), fault.message)),
            Err(Unread::Wanting(id)) => registry.fetch(&[id])?,
        }
    }
}

const NONE: serde_json::Value = serde_json::Value::Array(Vec::new());
const NUMBER: &str = r#"{"type":"record","name":"a.N","fields":[{"name":"n","type":"int"}]}"#;

#[test]
fn a_schema_is_asked_for_once() {
    let fake = Fake::with(&[("/schemas/ids/7", 200, registered(NUMBER, None, NONE))]);
    let registry = registry(&fake, Language::Avro);
    for _ in 0..3 {
        assert_eq!(read(&registry, &framed(7, &[8])).as_deref(), Ok(r#"{"n":4}"#));
    }
    assert!(read(&registry, &framed(7, &[])).unwrap_err().starts_with("not-avro"));
    assert!(read(&registry, &[1, 0, 0, 0, 7]).unwrap_err().contains("Confluent"));
    assert_eq!(*fake.asked.lock().unwrap(), ["/schemas/ids/7"]);
}

#[test]
fn an_id_without_a_schema_is_the_records_fault_and_a_registry_in_trouble_is_not() {
    let unknown = r#"{"error_code":40403,"message":"Schema 9 not found"}"#.to_owned();
    let fake = Fake::with(&[
        ("/schemas/ids/1", 404, unknown),
        ("/schemas/ids/2", 200, registered("{\"type\":\"object\"}", Some("JSON"), NONE)),
        ("/schemas/ids/3", 200, registered("{\"type\":\"rcord\"}", None, NONE)),
        ("/schemas/ids/4", 500, "{\"error_code\":50001,\"message\":\"no leader\"}".to_owned()),
        ("/schemas/ids/5", 200, "<html>".to_owned()),
        ("/schemas/ids/7", 401, "{\"error_code\":401,\"message\":\"Unauthorized\"}".to_owned()),
    ]);
    let registry = registry(&fake, Language::Avro);
    let why = |id| read(&registry, &framed(id, &[0])).unwrap_err();
    assert!(why(1).starts_with("unknown-schema: schema 1: the registry does not know it"), "{}", why(1));
    assert!(why(2).starts_with("unknown-schema: schema 2: it is of the type JSON"), "{}", why(2));
    assert!(why(3).starts_with("unknown-schema: schema 3: the schema does not define rcord"), "{}", why(3));
    assert!(why(4).contains("is down") && why(4).contains("no leader"), "{}", why(4));
    assert!(why(5).contains("is down"), "{}", why(5));
    // A path where no registry is: nothing is known of the record.
    assert!(why(6).contains("is down"), "{}", why(6));
    assert!(why(7).contains("is down") && why(7).contains("Unauthorized"), "{}", why(7));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = Arc::new(Registry::new(Access::new(&format!("http://{nobody}")).unwrap(), Language::Avro));
    assert!(read(&gone, &framed(1, &[0])).unwrap_err().contains(&format!("http://{nobody} is down")));
}

#[test]
fn what_a_schema_refers_to_is_fetched_with_it() {
    let refers = |name: &str| serde_json::json!([{ "name": name, "subject": format!("of {name}/x"), "version": 2 }]);
    let both = serde_json::json!([
        { "name": "a.P", "subject": "of a.P/x", "version": 2 }, { "name": "a.N", "subject": "of a.N/x", "version": 2 }]);
    let page = r#"{"type":"record","name":"a.P","fields":[{"name":"n","type":"a.N"}]}"#;
    let order = r#"{"type":"record","name":"a.O","fields":[{"name":"p","type":"P"},{"name":"q","type":"N"}]}"#;
    let fake = Fake::with(&[
        ("/schemas/ids/1", 200, registered(order, Some("AVRO"), both)),
        ("/subjects/of%20a.P%2Fx/versions/2", 200, registered(page, None, refers("a.N"))),
        ("/subjects/of%20a.N%2Fx/versions/2", 200, registered(NUMBER, None, NONE)),
        ("/schemas/ids/2", 200, registered(order, None, refers("a.X"))),
        ("/subjects/of%20a.X%2Fx/versions/2", 404, r#"{"error_code":40401}"#.to_owned()),
        // One that refers to itself.
        ("/schemas/ids/3", 200, registered(order, None, refers("a.Y"))),
        ("/subjects/of%20a.Y%2Fx/versions/2", 200, registered(NUMBER, None, refers("a.Y"))),
    ]);
    let registry = registry(&fake, Language::Avro);
    assert_eq!(read(&registry, &framed(1, &[2, 4])).as_deref(), Ok(r#"{"p":{"n":{"n":1}},"q":{"n":2}}"#));
    assert!(read(&registry, &framed(2, &[])).unwrap_err().starts_with("unknown-schema: schema 2: it refers to a.X"));
    assert!(
        read(&registry, &framed(3, &[])).unwrap_err().starts_with("unknown-schema: schema 3: it refers to more than")
    );
}

#[test]
fn what_was_fetched_before_the_registry_went_away_is_not_asked_for_again() {
    let both = serde_json::json!([
        { "name": "a.N", "subject": "n", "version": 1 }, { "name": "a.P", "subject": "p", "version": 1 }]);
    let page = r#"{"type":"record","name":"a.P","fields":[{"name":"n","type":"a.N"}]}"#;
    let order = r#"{"type":"record","name":"a.O","fields":[{"name":"p","type":"P"}]}"#;
    let fake = Fake::with(&[
        ("/schemas/ids/1", 200, registered(order, None, both)),
        ("/subjects/n/versions/1", 200, registered(NUMBER, None, NONE)),
        ("/subjects/p/versions/1", 503, "soon".to_owned()),
    ]);
    let registry = registry(&fake, Language::Avro);
    assert!(read(&registry, &framed(1, &[2])).unwrap_err().contains("is down"));
    fake.answer("/subjects/p/versions/1", 200, &registered(page, None, NONE));
    assert_eq!(read(&registry, &framed(1, &[2])).as_deref(), Ok(r#"{"p":{"n":{"n":1}}}"#));
    let asked = fake.asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|path| path.starts_with("/subjects/n")).count(), 1, "{asked:?}");
}

#[test]
fn protobuf_comes_as_text_with_its_imports() {
    let order = "syntax = \"proto3\";\npackage shop.v1;\nimport \"page.proto\";\nimport \"google/protobuf/timestamp.proto\";\n\
        message Other {}\nmessage Order {\n  message Line { Page page = 1; google.protobuf.Timestamp at = 2; }\n}\n";
    let page = include_str!("../protobuf/golden/page.proto");
    let refers = serde_json::json!([{ "name": "page.proto", "subject": "page", "version": 1 }]);
    let fake = Fake::with(&[
        ("/schemas/ids/1", 200, registered(order, Some("PROTOBUF"), refers)),
        ("/subjects/page/versions/1", 200, registered(page, Some("PROTOBUF"), NONE)),
        ("/schemas/ids/2", 200, registered(order, Some("PROTOBUF"), NONE)),
        ("/schemas/ids/3", 200, registered("message {", Some("PROTOBUF"), NONE)),
    ]);
    let registry = registry(&fake, Language::Protobuf);
    // The second message of the file, its first child.
    let line = framed(1, &[4, 2, 0, 10, 3, 10, 1, b'u', 18, 2, 8, 1]);
    let expected = r#"{"page":{"url":"u"},"at":"1970-01-01T00:00:01Z"}"#;
    assert_eq!(read(&registry, &line).as_deref(), Ok(expected));
    assert_eq!(read(&registry, &framed(1, &[0])).as_deref(), Ok("{}"));
    assert!(read(&registry, &framed(1, &[2, 6])).unwrap_err().starts_with("not-protobuf"));
    assert!(read(&registry, &framed(2, &[0])).unwrap_err().contains("page.proto"));
    assert!(read(&registry, &framed(3, &[0])).unwrap_err().starts_with("unknown-schema"));
}

#[test]
fn ids_of_no_schema_are_remembered_the_longer_the_more_there_are() {
    let unknown = r#"{"error_code":40403,"message":"Schema not found"}"#;
    let paths: Vec<String> = (0..100).map(|id| format!("/schemas/ids/{id}")).collect();
    let answers: Vec<_> = paths.iter().map(|path| (path.as_str(), 404, unknown.to_owned())).collect();
    let fake = Fake::with(&answers);
    let registry = registry(&fake, Language::Avro);
    registry.fetch(&(0..100).collect::<Vec<u32>>()).unwrap();
    registry.fetch(&(0..100).collect::<Vec<u32>>()).unwrap();
    assert_eq!((fake.asked.lock().unwrap().len(), registry.answered()), (100, 100), "each was asked for once");
    let until = |known: &Known| match known {
        Known::Nothing { until: Some(until), .. } => *until,
        other => panic!("{other:?}"),
    };
    let known = registry.known.read().unwrap();
    let (first, last) = (known.values().map(until).min().unwrap(), known.values().map(until).max().unwrap());
    assert!(last - first >= UNKNOWN_MORE * 95, "{:?}", last - first);
}
