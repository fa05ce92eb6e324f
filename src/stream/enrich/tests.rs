//! Tables from files and topics: what is a mistake, what rows get, what `check` and `test` say.

use super::super::check;
use super::super::load;
use super::super::offline::{Destination, Listener, run};
use crate::clock::Clock;
use arrow::array::{ArrayRef, Decimal128Array, Int32Array, StringArray};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::path::Path;
use std::sync::Arc;

const USERS: &str = "user_id,country,plan,since\nu1,SE,free,2026-01-02T03:04:05Z\nu2,,pro,2026-02-03T00:00:00Z\n";

pub(super) const USERS_BY_ID: &str = "from = \"users.csv\", key = \"id\", on = \"id\"";

/// A pipeline file beside the table `users.csv`.
pub(super) fn file(folder: &Path, users: &str, enrich: &str, more: &str) -> std::path::PathBuf {
    std::fs::write(folder.join("users.csv"), users).unwrap();
    let text = format!(
        "from = \"topic:t\"\n[columns]\nid = \"string\"\nn = \"int64\"\n[[step]]\nenrich = {{ {enrich} }}\n[[route]]\nto = {{ topic = \"out\" }}\n{more}"
    );
    let path = folder.join("p.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// Rows as JSON lines, and how many are filtered and dead.
fn ran(pipeline: &Path, tables: &[(&str, &str)], events: &str) -> (Vec<String>, u64, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let write = |(topic, text): &(&str, &str)| {
        let path = folder.path().join(topic);
        std::fs::write(&path, text).unwrap();
        (topic.to_string(), path)
    };
    let tables: Vec<_> = tables.iter().map(write).collect();
    let (mut out, mut dead) = (Vec::new(), Vec::new());
    let mut tell = |letter: super::super::offline::Dead| dead.push(letter.reason.to_owned());
    let mut listener = Listener { dead: &mut tell, progress: &mut |_| {} };
    let ran =
        run(pipeline, &tables, &mut events.as_bytes(), Destination::Lines(&mut out), &Clock::manual(9), &mut listener);
    let ran = ran.unwrap_or_else(|error| panic!("{error:?}"));
    let rows = String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
    (rows, ran.filtered, dead)
}

fn mistake(pipeline: &Path) -> String {
    load::file(pipeline).err().expect("it was taken").iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

const EVENTS: &str = "{\"id\":\"u1\",\"n\":1}\n{\"id\":\"u3\",\"n\":2}\n{\"n\":3}\n{\"id\":\"u2\",\"n\":4}\n";
const ASKED: &str =
    "from = \"users.csv\", key = \"user_id\", on = \"id\", columns = [\"plan as user_plan\", \"country\"]";

#[test]
fn rows_get_the_columns_of_their_key_in_the_order_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, _, dead) = ran(&file(folder.path(), USERS, ASKED, ""), &[], EVENTS);
    let wanted = [
        r#"{"id":"u1","n":1,"user_plan":"free","country":"SE"}"#,
        r#"{"id":"u3","n":2,"user_plan":null,"country":null}"#,
        r#"{"id":null,"n":3,"user_plan":null,"country":null}"#,
        r#"{"id":"u2","n":4,"user_plan":"pro","country":null}"#,
    ];
    assert_eq!((rows, dead.len()), (wanted.map(str::to_owned).to_vec(), 0));
}

#[test]
fn what_the_table_does_not_have_is_left_out_or_a_dead_letter_where_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let asked = format!("{ASKED}, missing = \"drop\"");
    let (rows, filtered, dead) = ran(&file(folder.path(), USERS, &asked, ""), &[], EVENTS);
    assert_eq!((rows.len(), filtered, dead.len()), (2, 2, 0));
    let asked = format!("{ASKED}, missing = \"dead\"");
    let (rows, filtered, dead) = ran(&file(folder.path(), USERS, &asked, ""), &[], EVENTS);
    assert_eq!((rows.len(), filtered, dead), (2, 0, vec!["no-match".to_owned(); 2]));
}

#[test]
fn all_columns_come_with_their_types_and_check_shows_which_were_inferred() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = file(
        folder.path(),
        USERS,
        "from = \"users.csv\", key = \"user_id\", on = \"id\", types = { plan = \"string\" }",
        "",
    );
    let report = check(&pipeline, None).unwrap();
    let table = &report.tables[0];
    assert_eq!((table.rows, table.key[0].clone()), (Some(2), ("user_id".to_owned(), "string".to_owned())));
    assert_eq!(table.columns[2], ("since".to_owned(), "timestamp".to_owned()));
    assert_eq!(table.inferred, ["country", "since"]);
    let (rows, ..) = ran(&pipeline, &[], EVENTS);
    assert_eq!(rows[0], r#"{"id":"u1","n":1,"country":"SE","plan":"free","since":"2026-01-02T03:04:05Z"}"#);
}

#[test]
fn keys_of_several_columns_and_of_numbers_are_looked_up_by_value() {
    let folder = tempfile::tempdir().unwrap();
    let users = "a;b;x\nu1;7;one\nu1;8;two\n;8;nobody\n";
    let asked = "from = \"users.csv\", delimiter = \";\", key = [\"a\", \"b\"], on = [\"id\", \"n\"]";
    let (rows, ..) = ran(
        &file(folder.path(), users, asked, ""),
        &[],
        "{\"id\":\"u1\",\"n\":7}\n{\"id\":\"u1\",\"n\":8}\n{\"n\":8}\n",
    );
    let found: Vec<bool> = rows.iter().map(|row| row.contains("\"one\"") || row.contains("\"two\"")).collect();
    assert_eq!(found, [true, true, false], "{rows:?}");
}

#[test]
fn mistakes_of_step_and_table_are_told_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = |users: &str, asked: &str| mistake(&file(folder.path(), users, asked, ""));
    let twice = wrong("user_id,country,plan\nu1,a,b\n\nu2,a,b\nu1,c,d\n", ASKED);
    assert!(twice.starts_with(folder.path().join("p.toml").to_str().unwrap()) && twice.contains(":6:"), "{twice}");
    assert!(twice.contains("line 5 has the same user_id as line 2"), "{twice}");
    let ragged = wrong("user_id,country,plan\nu1,a\n", ASKED);
    assert!(ragged.contains("line 2"), "{ragged}");
    assert!(wrong(USERS, &ASKED.replace("user_id", "userid")).contains("did you mean user_id"));
    assert!(wrong(USERS, &ASKED.replace("country", "county")).contains("did you mean country"));
    assert!(wrong(USERS, &ASKED.replace("users.csv", "nobody.csv")).contains("cannot read it"));
    assert!(wrong(USERS, &ASKED.replace("users.csv", "users.xls")).contains("FILE.parquet"));
    assert!(wrong(USERS, &ASKED.replace("\"id\"", "\"idd\"")).contains("did you mean id"));
    assert!(wrong(USERS, &ASKED.replace("country", "country as n")).contains("already"));
    assert!(wrong(USERS, &format!("{ASKED}, missing = \"skip\"")).contains("\"drop\""));
    assert!(wrong(USERS, &format!("{ASKED}, mising = \"drop\"")).contains("did you mean \"missing\""));
    let typed = wrong(USERS, &format!("{ASKED}, types = {{ plan = \"int64\" }}"));
    assert!(typed.contains("line 2") && typed.contains("column plan") && typed.contains("free"), "{typed}");
    let number = wrong(USERS, &ASKED.replace("\"id\"", "\"n\""));
    assert!(number.contains("line 2") && number.contains("u1"), "{number}");
    let long: String = (0..20_000).map(|n| format!("k{n},SE,free,2026-01-02\n")).collect();
    let large = wrong(&format!("user_id,country,plan,since\n{long}"), &format!("{ASKED}, table-size-max = \"64KiB\""));
    assert!(large.contains("table-size-max"), "{large}");
    assert!(wrong(USERS, "key = \"user_id\"").contains("enrich = {"));
    assert!(wrong(USERS, "from = \"topic:users\", on = \"id\"").contains("types = {"));
    assert!(wrong(USERS, "from = \"topic:users\", on = \"id\", types = { a = \"strin\" }").contains("one word"));
    std::fs::write(folder.path().join("bad.parquet"), "PAR1").unwrap();
    assert!(wrong(USERS, "from = \"bad.parquet\", on = \"id\"").contains("no Parquet file"));
}

#[test]
fn a_parquet_file_of_others_is_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(StringArray::from(vec![Some("u1"), None, Some("u2")]))),
        ("small", Arc::new(Int32Array::from(vec![Some(5), Some(6), None]))),
        ("price", Arc::new(Decimal128Array::from(vec![150, 2, 3]).with_precision_and_scale(9, 2).unwrap())),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let out = std::fs::File::create(folder.path().join("t.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(out, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let (rows, ..) = ran(&file(folder.path(), USERS, "from = \"t.parquet\", on = \"id\"", ""), &[], EVENTS);
    assert_eq!(rows[0], r#"{"id":"u1","n":1,"small":5,"price":1.50}"#);
    assert_eq!(rows[3], r#"{"id":"u2","n":4,"small":null,"price":0.03}"#);
    // By a number where the file has text: nothing is guessed.
    let misfit = mistake(&file(folder.path(), USERS, "from = \"t.parquet\", key = \"id\", on = \"n\"", ""));
    assert!(misfit.contains("int64 is wanted"), "{misfit}");
}

const TOPIC: &str = "from = \"topic:users\", on = \"id\", columns = [\"country\", \"plan as user_plan\"], types = { country = \"string\", plan = \"string\" }";

#[test]
fn of_a_topic_the_last_record_of_a_key_counts_and_a_tombstone_takes_it_away() {
    let folder = tempfile::tempdir().unwrap();
    let record = |key: &str, value: &str| {
        format!("{{\"offset\":0,\"timestamp\":0,\"headers\":{{}},\"key\":\"{key}\",\"value\":{value}}}\n")
    };
    let users = [
        record("u1", r#"{"country":"SE","plan":"free","more":1}"#),
        record("u2", r#"{"country":"DE"}"#),
        record("u1", r#"{"country":"NO","plan":"pro"}"#),
        record("u1", r#"{"country":7,"plan":[]}"#),
        record("u3", r#"{"country":"FI"}"#),
        record("u3", "null"),
        record("u2", "{}"),
    ]
    .concat();
    let pipeline = file(folder.path(), USERS, TOPIC, "");
    let (rows, ..) = ran(&pipeline, &[("users", &users)], EVENTS);
    // What is no row of the table leaves the one before it.
    assert_eq!(rows[0], r#"{"id":"u1","n":1,"country":"NO","user_plan":"pro"}"#);
    assert_eq!(rows[1], r#"{"id":"u3","n":2,"country":null,"user_plan":null}"#);
    assert_eq!(rows[3], r#"{"id":"u2","n":4,"country":null,"user_plan":null}"#);
    let drop = file(folder.path(), USERS, &format!("{TOPIC}, missing = \"drop\""), "");
    assert_eq!(ran(&drop, &[("users", &users)], EVENTS).0.len(), 2, "u2 is there, without values");
}

#[test]
fn a_test_brings_the_records_of_a_topic_and_knows_which_topics_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let tests = r#"
[[test]]
tables = { users = [{ key = "u1", value = '{"country":"SE"}' }, { key = "u2", value = '{"country":"DE"}' }, { key = "u2" }] }
given  = [{ value = '{"id":"u1"}' }, { value = '{"id":"u2"}' }]
expect = '[{"country":"SE"},{"id":"u2","country":null}]'
[[test]]
given  = { value = '{"id":"u1"}' }
expect = '{"country":null}'
"#;
    let tested =
        super::super::test(&file(folder.path(), USERS, TOPIC, tests)).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    assert!(tested.len() == 2 && tested.iter().all(|test| test.passed), "{tested:#?}");
    let wrong = mistake(&file(folder.path(), USERS, TOPIC, &tests.replace("users =", "user =")));
    assert!(wrong.contains("topics that are: users"), "{wrong}");
}

#[test]
fn a_topic_of_several_key_columns_has_objects_for_keys() {
    let folder = tempfile::tempdir().unwrap();
    let asked =
        "from = \"topic:users\", key = [\"user\", \"n\"], on = [\"id\", \"n\"], types = { country = \"string\" }";
    let tests = r#"
[[test]]
tables = { users = [{ key = '{"n":5,"user":"u1"}', value = '{"country":"SE"}' }, { key = "u1", value = '{"country":"DE"}' }] }
given  = [{ value = '{"id":"u1","n":5}' }, { value = '{"id":"u1","n":6}' }]
expect = '[{"country":"SE"},{"n":6,"country":null}]'
"#;
    let tested =
        super::super::test(&file(folder.path(), USERS, asked, tests)).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    assert!(tested.len() == 1 && tested[0].passed, "{tested:#?}");
}

#[test]
fn a_record_s_own_key_is_looked_up_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let asked = "from = \"users.csv\", key = \"user_id\", on = \"_key\", columns = [\"country\"]";
    let tests = "[[test]]\ngiven = { key = \"u1\", value = '{\"n\":1}' }\nexpect = '{\"country\":\"SE\"}'\n";
    let tested =
        super::super::test(&file(folder.path(), USERS, asked, tests)).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    assert!(tested[0].passed, "{tested:#?}");
}

#[test]
fn the_example_of_the_page_passes_its_test() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PIPELINES.md")).unwrap();
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let example = blocks.into_iter().find(|block| block.contains("products.csv")).expect("the page has it");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("products.csv"), "sku,name,price\ns-1,shoe,2.50\ns-2,sock,1\n").unwrap();
    let path = folder.path().join("p.toml");
    std::fs::write(&path, example).unwrap();
    let tested = super::super::test(&path).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    assert!(tested.len() == 1 && tested[0].passed, "{tested:#?}");
}

#[test]
fn a_damaged_parquet_file_is_a_mistake_wherever_it_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let ids = (0..500).map(|n| format!("u{n}")).collect::<Vec<_>>();
    let columns: Vec<(&str, ArrayRef)> =
        vec![("id", Arc::new(StringArray::from(ids))), ("n2", Arc::new(Int32Array::from_iter_values(0..500)))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let pipeline = file(folder.path(), USERS, "from = \"t.parquet\", on = \"id\"", "");
    let mut refused = 0;
    for at in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        std::fs::write(folder.path().join("t.parquet"), &damaged).unwrap();
        // Values that became others cannot be told: Parquet has no checksum here. What is refused is a mistake, and nothing panics.
        refused += usize::from(load::file(&pipeline).is_err());
        std::fs::write(folder.path().join("t.parquet"), &bytes[..at]).unwrap();
        assert!(mistake(&pipeline).contains("no Parquet file"));
    }
    assert!(refused > 10, "{refused}");
}
