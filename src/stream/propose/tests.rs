//! Proposals of all sorts of records: right, tested, and never a secret.

use super::super::{check, test};
use super::*;
use crate::record::Offset;
use bytes::Bytes;
use proptest::prelude::*;

fn record(value: &[u8]) -> Record {
    let value = Some(Bytes::copy_from_slice(value));
    Record { offset: Offset(3), timestamp: 1_767_323_045_000, key: None, value, headers: Vec::new() }
}

fn proposed(values: &[&str], to: To) -> Proposal {
    let samples: Vec<Record> = values.iter().map(|value| record(value.as_bytes())).collect();
    let wish = Wish { name: "p".to_owned(), from: TopicName::new("clicks").unwrap(), to };
    let proposal = propose(&wish, &samples).unwrap_or_else(|error| panic!("{error}"));
    holds(&proposal.text);
    proposal
}

/// The text passes `check` and `test` as a file.
fn holds(text: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.toml");
    std::fs::write(&file, text).unwrap();
    check(&file, None).unwrap_or_else(|mistakes| panic!("{mistakes:#?}\n{text}"));
    let tested = test(&file).unwrap_or_else(|mistakes| panic!("{mistakes:#?}\n{text}"));
    assert!(!tested.is_empty(), "no test:\n{text}");
    assert!(tested.iter().all(|tested| tested.passed), "{tested:#?}\n{text}");
}

fn kinds_of(proposal: &Proposal) -> Vec<(String, String)> {
    proposal.fields.iter().map(|field| (field.column.clone(), super::super::kinds::word(&field.kind))).collect()
}

#[test]
fn types_are_those_of_what_was_seen() {
    let first = r#"{"ts":"2026-01-02T03:04:05Z","userId":"u1","n":1,"price":2,"big":18446744073709551615,"day":"2026-01-02","ok":true,"created_at":1767323045,"sentAt":1767323045123,"usTime":1767323045123456,"id":1767323045,"tags":["a"],"page":{"url":"https://a.example","size":{"w":1}},"mixed":1,"odd":{"a":1},"none":null,"boxes":[{"x":1}],"empty":{}}"#;
    let second = r#"{"ts":"2026-01-02T03:04:06+01:00","userId":"u2","n":-1,"price":2.5,"big":1,"day":"2026-01-03","ok":false,"created_at":1767323046.5,"sentAt":1767323045124,"usTime":1767323045123457,"id":1767323046,"tags":[],"page":{"url":null},"mixed":"x","odd":5,"none":null,"boxes":[],"empty":{}}"#;
    let proposal = proposed(&[first, second], To::Parquet);
    let wanted = [
        ("ts", "timestamp"),
        ("user_id", "string"),
        ("n", "int64"),
        ("price", "float64"),
        ("big", "uint64"),
        ("day", "date"),
        ("ok", "bool"),
        ("created_at", "timestamp(s)"),
        ("sent_at", "timestamp(ms)"),
        ("us_time", "timestamp(us)"),
        ("id", "int64"),
        ("tags", "[string]"),
        ("page_url", "string"),
        ("page_size_w", "int64"),
        ("mixed", "string"),
        ("odd", "json"),
        ("none", "json"),
        ("boxes", "json"),
        ("empty", "json"),
    ];
    let wanted: Vec<_> = wanted.iter().map(|(name, kind)| (name.to_string(), kind.to_string())).collect();
    assert_eq!((kinds_of(&proposal), proposal.dead), (wanted, 0));
    assert!(proposal.text.contains("time = \"ts\""), "{}", proposal.text);
    assert!(proposal.text.contains("50%") && proposal.text.contains("mixed: numbers, text"), "{}", proposal.text);
}

#[test]
fn secrets_are_neither_in_comments_nor_in_the_test() {
    let long = "x".repeat(5_000);
    let event = format!(
        r#"{{"password":"hunter2","auth":{{"api_token":"abc123","n":77777}},"header":"Bearer zzzzzz","jwt_like":"eyJhbGciOi.qqq","text":"{long}","ok":1}}"#
    );
    let proposal = proposed(&[&event], To::Topic);
    for secret in ["hunter2", "abc123", "77777", "zzzzzz", "qqq"] {
        assert!(!proposal.text.contains(secret), "{secret} in\n{}", proposal.text);
        assert!(!serde_json::to_string(&proposal).unwrap().contains(secret), "{secret} in --json");
    }
    assert!(proposal.text.len() < 4_000);
}

#[test]
fn secrets_in_texts_are_hidden_too() {
    let raw = proposed(&["user=a password=hunter2 host=h"], To::Topic);
    assert!(raw.text.contains("user=a password hidden") && !raw.text.contains("hunter2"), "{}", raw.text);
    let token = proposed(&["call with Bearer zzzzzz"], To::Topic);
    assert!(!token.text.contains("zzzzzz"), "{}", token.text);
    let stranger = proposed(&["api-token: abc123", "x"], To::Topic);
    assert!(!stranger.text.contains("abc123"), "{}", stranger.text);
    let event = serde_json::json!({
        "body": r#"{"n":1,"deep":{"password":"hunter2"}}"#, "url": "https://a.example/?token=abc123", "list": [{ "pin": "4711" }], "n": 1
    });
    let within = proposed(&[&event.to_string()], To::Topic);
    for secret in ["hunter2", "abc123", "4711"] {
        assert!(!within.text.contains(secret), "{secret} in\n{}", within.text);
        assert!(!serde_json::to_string(&within).unwrap().contains(secret), "{secret} in --json");
    }
    assert!(proposed(&["a passenger list"], To::Topic).text.contains("hidden"), "rather too much than too little");
    assert!(proposed(&[r#"{"text":"the author said so"}"#], To::Topic).text.contains("the author said so"));
}

#[test]
fn what_is_no_json_is_taken_as_it_is_and_lines_as_lines() {
    let raw = proposed(&["plain ${HOME} text", "{}", ""], To::Parquet);
    assert_eq!((raw.format, raw.fields.len()), ("raw", 0));
    let lines = proposed(&["{\"a\":1}\n{\"a\":2}\n", "{\"a\":3}"], To::Parquet);
    assert_eq!((lines.format, lines.strangers, lines.fields.len()), ("ndjson", 0, 1));
    let some = proposed(&["no", "[1]", "{\"a\":1}"], To::Parquet);
    assert_eq!((some.format, some.strangers, some.dead), ("json", 2, 2));
}

#[test]
fn a_map_whose_keys_are_data_is_one_column_and_many_fields_are_limited() {
    let events: Vec<String> =
        (0..100).map(|n| format!(r#"{{"n":{n},"by_user":{{"u{n}":1}},"f{n}":1,"g{n}":2}}"#)).collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let proposal = proposed(&events, To::Parquet);
    assert_eq!(proposal.fields.len(), COLUMNS_MAX);
    let found = kinds_of(&proposal);
    assert!(
        found.contains(&("by_user".to_owned(), "json".to_owned()))
            && found.contains(&("n".to_owned(), "int64".to_owned()))
    );
    assert!(proposal.text.contains("1 of 100, rare") || proposal.text.contains("1%, rare"), "{}", proposal.text);
}

#[test]
fn a_dead_letter_topic_and_a_topic_of_the_pipeline_s_name_can_be_read() {
    for (from, to) in [
        ("clicks-dlt", To::Topic),
        ("p", To::Topic),
        ("p-rows", To::Topic),
        ("rows", To::Topic),
        ("p-failed", To::Parquet),
    ] {
        let wish = Wish { name: "p".to_owned(), from: TopicName::new(from).unwrap(), to };
        holds(&propose(&wish, &[record(b"{\"a\":1}")]).unwrap().text);
    }
    let wish = Wish { name: "no name".to_owned(), from: TopicName::new("t").unwrap(), to: To::Parquet };
    assert!(propose(&wish, &[record(b"{}")]).unwrap_err().to_string().contains("letters"));
    let wish = Wish { name: "p".to_owned(), from: TopicName::new("t").unwrap(), to: To::Parquet };
    assert!(matches!(propose(&wish, &[]), Err(ProposeError::Empty)));
}

#[test]
fn an_empty_list_says_nothing_of_its_elements() {
    for (values, kind) in [
        (["{\"l\":[1,2.5]}", "{\"l\":[]}"], "[\"float64\"]"),
        (["{\"l\":[]}", "{\"l\":[true]}"], "[\"bool\"]"),
        (["{\"l\":[]}", "{\"l\":[null]}"], "[\"string\"]"),
        (["{\"l\":[]}", "{\"l\":[[1]]}"], "json"),
    ] {
        let proposal = proposed(&values, To::Topic);
        let line = proposal.text.lines().find(|line| line.starts_with("l ")).unwrap();
        assert!(line.contains(kind), "{values:?}: {line}");
        holds(&proposal.text);
    }
}

/// Names that mean something somewhere, and any others.
fn name() -> impl Strategy<Value = String> {
    let odd = [
        "",
        " ",
        "a.b",
        "a",
        "A",
        "_key",
        "_value",
        "_offset",
        "rest",
        "from",
        "to",
        "where",
        "select",
        "on-error",
        "format",
        "type",
        "path",
        "header",
        "/",
        "~1",
        "0",
        "1",
        "from-schema",
        "user",
        "order",
        "ts",
        "created_at",
        "Ä",
        "ä",
        "a b",
        "\"",
        "'",
        "\\",
        "\n",
        "\u{7f}",
        "\u{85}",
        "${HOME}",
        "İ",
        "ß",
        "日本",
        "🦀",
        "a\u{301}",
        "#",
        "=",
        "[",
        "null",
        "time",
        "given",
        "expect",
    ];
    prop_oneof![3 => prop::sample::select(odd.to_vec()).prop_map(str::to_owned), 1 => ".{0,6}"]
}

fn text() -> impl Strategy<Value = String> {
    let odd = [
        "",
        "x",
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05",
        "2026-01-02",
        "9999-12-31T23:59:59.999999999+14:00",
        "0000-01-01T00:00:00Z",
        "'",
        "''' \"\"\"",
        "${HOME}",
        "${",
        "\\",
        "\n\r\t",
        "\0",
        "\u{7f}",
        "true",
        "1",
        "1e400",
        "null",
        "eyJ.x",
        "-0001-01-01",
    ];
    prop_oneof![3 => prop::sample::select(odd.to_vec()).prop_map(str::to_owned), 1 => ".{0,12}"]
}

/// JSON as text, so that numbers are what nothing else would make them.
fn json(depth: u32) -> BoxedStrategy<String> {
    let numbers = [
        "0",
        "-0",
        "1",
        "-1",
        "1.5",
        "1e2",
        "1E-7",
        "0.1",
        "1767323045",
        "1767323045.25",
        "1767323045123",
        "1767323045123456",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        "123456789012345678901234567890",
        "1e308",
        "1e400",
        "-1e300",
        "4.9e-324",
        "253402300800000",
        "-62135596800001",
    ];
    let leaf = prop_oneof![
        2 => Just("null".to_owned()),
        1 => Just("true".to_owned()),
        4 => prop::sample::select(numbers.to_vec()).prop_map(str::to_owned),
        4 => text().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    prop_oneof![
        5 => leaf,
        2 => prop::collection::vec(json(depth - 1), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
        2 => object(depth - 1),
    ]
    .boxed()
}

/// Fields may stand twice.
fn object(depth: u32) -> impl Strategy<Value = String> {
    prop::collection::vec((name(), json(depth)), 0..6).prop_map(|fields| {
        let fields = fields.iter().map(|(name, value)| format!("{}:{value}", serde_json::to_string(name).unwrap()));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    })
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => object(3).prop_map(String::into_bytes),
        1 => json(2).prop_map(String::into_bytes),
        1 => prop::collection::vec(object(1), 1..4).prop_map(|lines| lines.join("\n").into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn every_proposal_passes_check_and_its_own_test(
        values in prop::collection::vec(value(), 1..6),
        headers in prop::collection::vec((name(), any::<bool>()), 0..3),
        is_topic in any::<bool>(),
    ) {
        let mut samples: Vec<Record> = values.iter().map(|value| record(value)).collect();
        let header = |(name, is_null): &(String, bool)| (Bytes::from(name.clone()), (!is_null).then(|| Bytes::from_static(b"v")));
        samples[0].headers = headers.iter().map(header).collect();
        let wish = Wish { name: "p".to_owned(), from: TopicName::new("t").unwrap(), to: if is_topic { To::Topic } else { To::Parquet } };
        let proposal = propose(&wish, &samples).unwrap_or_else(|error| panic!("{error}"));
        holds(&proposal.text);
    }
}

fn kinds_by_name(proposal: &Proposal) -> Vec<String> {
    kinds_of(proposal).into_iter().map(|(column, kind)| format!("{column} {kind}")).collect()
}

#[test]
fn csv_is_told_by_its_lines_and_names_come_of_its_header() {
    let proposal = proposed(
        &[
            "id;created_at;amount;zip;ok;note\n1;2026-01-02 03:04:05;1.50;00501;true;\"a;b\"\n2;2026-01-02 03:04:06;2;10115;FALSE;\n",
            "id;created_at;amount;zip;ok;note\n3;2026-01-02 03:04:07;-7.25;00501;true;say \"\"\n",
        ],
        To::Parquet,
    );
    assert!(proposal.text.contains("format = { csv = { header = true, delimiter = \";\" } }\n"), "{}", proposal.text);
    let wanted = ["id int64", "created_at timestamp", "amount float64", "zip string", "ok bool", "note string"];
    assert_eq!(kinds_by_name(&proposal), wanted);
    assert!(proposal.text.contains("time = \"created_at\""), "{}", proposal.text);
    assert_eq!((proposal.format, proposal.headings, proposal.strangers, proposal.dead), ("csv", 0, 0, 0));
}

#[test]
fn one_record_that_names_the_columns_of_csv_is_no_row() {
    let proposal = proposed(&["sku,price,token", "a-1,2.5,t1", "a-2,,t2", "b,3,t3"], To::Topic);
    let format = "format = { csv = { columns = [\"sku\", \"price\", \"token\"] } }\n# 1 more of its records only say";
    assert!(proposal.text.contains(format), "{}", proposal.text);
    assert_eq!(kinds_by_name(&proposal), ["sku string", "price float64", "token string"]);
    assert!(proposal.text.contains("value = \"a-1,2.5,hidden\"") && !proposal.text.contains("t1"), "{}", proposal.text);
    assert_eq!((proposal.headings, proposal.dead), (1, 0));
}

#[test]
fn lines_of_csv_without_names_are_read_by_their_places() {
    let proposal =
        proposed(&["1\tx, y\t\t2026-01-02", "2\tz\t\t2026-01-03", "3\t\"q\"\"r\"\t\t2026-01-03"], To::Parquet);
    assert!(proposal.text.contains("format = { csv = { delimiter = \"\\t\" } }\n"), "{}", proposal.text);
    assert_eq!(kinds_by_name(&proposal), ["f_0 int64", "f_1 string", "f_2 string", "f_3 date"]);
    assert!(proposal.text.contains("f_0 = { path = \"/0\", type = \"int64\" }"), "{}", proposal.text);
    let comma = proposed(&["1,2", "3,4", "5,6"], To::Parquet);
    assert!(comma.text.contains("format = { csv = {} }\n"), "{}", comma.text);
}

#[test]
fn a_cell_of_csv_that_no_type_takes_is_text() {
    let many = ["12345678901234567890123", "1e400", "007", "+5", "0x1f", "1_000", "-", "1e5", "-0", "0.10", "NaN"];
    for cell in many {
        let proposal = proposed(&[&format!("a,b,{cell}"), "a,b,x"], To::Topic);
        assert_eq!((proposal.dead, proposal.format), (0, "csv"), "{cell}\n{}", proposal.text);
        let proposal = proposed(&[&format!("{cell},1,x"), &format!("{cell},2,y")], To::Topic);
        assert_eq!((proposal.dead, proposal.format), (0, "csv"), "{cell}\n{}", proposal.text);
    }
}

#[test]
fn text_is_not_taken_for_csv_and_a_schema_id_is_seen() {
    for texts in [
        &["hello, world", "well"][..],
        &["hello, world"],
        &["one", "two"],
        &["a,b,c", "a,b", "c"],
        &["[1,2,3]", "[4,5,6]"],
    ] {
        assert_eq!(proposed(texts, To::Parquet).format, "raw", "{texts:?}");
    }
    let framed = |id: u8| String::from_utf8(vec![0, 0, 0, 0, id, 2, 3]).unwrap();
    let proposal = proposed(&[&framed(7), &framed(8)], To::Parquet);
    assert!(proposal.text.contains("# format = { avro = { registry"), "{}", proposal.text);
    assert!(!proposed(&["plain text", "of no form"], To::Parquet).text.contains("registry"));
}
