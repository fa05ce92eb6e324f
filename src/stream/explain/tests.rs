//! What is said of pipeline files.

use super::*;
use crate::clock::Clock;
use crate::stream::record_of;

const CAMERA: &str = r#"from = "topic:cam"
[columns]
camera = { path = "/after/camera", type = "string", required = true }
id     = { path = "/after/id", type = "string" }
n      = { header = "n", type = "int32", coerce = true }
at     = { path = "/at", type = { x = "int64" } }
spare  = "int64"
[[step]]
where = "n + 1 > 2.5"
[[step]]
last = { key = "id", until = "n = 7", ttl = "2h", state-size-max = "1MiB" }
[[step]]
select = "camera, n * 2 as twice, hmac_sha256(id, secret('v')) as pid, at"
[[step]]
where = "twice > 4"
[[route]]
where = "camera = 'door'"
to    = { topic = "people", key = "camera" }
[[route]]
otherwise = true
to        = { parquet = "camera" }
"#;

fn pipeline(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.toml");
    std::fs::write(&file, text).unwrap();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    std::fs::write(folder.path().join("secrets/v"), "do not tell").unwrap();
    (folder, file)
}

#[test]
fn each_step_has_its_words_its_sql_as_it_runs_and_what_leaves_it() {
    let (_folder, file) = pipeline(CAMERA);
    let told = explain(&file, None).unwrap();
    assert_eq!(told.unread_columns, ["spare"]);
    assert_eq!(told.columns[0].from, "value /after/camera");
    assert_eq!((told.columns[2].from.as_str(), told.columns[2].coerce), ("header n", true));
    let kinds: Vec<(usize, &str)> = told.steps.iter().map(|step| (step.number, step.kind.as_str())).collect();
    assert_eq!(kinds, [(1, "where"), (2, "last"), (3, "select"), (4, "where")]);
    assert!(told.steps[0].sql[0].contains("CAST(n AS BIGINT) + 1"), "{:?}", told.steps[0].sql);
    assert!(told.steps[0].leaves.iter().all(|field| field.name != "spare"), "{:?}", told.steps[0].leaves);
    assert_eq!(told.steps[1].sql, ["until n = 7"]);
    let state = told.steps[1].remembers.as_ref().unwrap();
    assert_eq!((state.key.as_slice(), state.time_ms, state.size_max), (&["id".to_owned()][..], 7_200_000, 1 << 20));
    let leaves: Vec<(&str, &str)> =
        told.steps[2].leaves.iter().map(|field| (field.name.as_str(), field.kind.as_str())).collect();
    assert_eq!(leaves, [("camera", "string"), ("twice", "int64"), ("pid", "string"), ("at", "{ x int64 }")]);
    assert!(told.places.iter().any(|place| place.place.contains("pipelines/p/state-")));
}

#[test]
fn outputs_of_files_count_together_what_they_share_and_the_share_of_cpu_is_said() {
    let route = |name: &str| format!("[[route]]\nwhere = \"n > 1\"\nto = {{ parquet = \"{name}\" }}\n");
    let told = |count: usize| {
        let routes: String = (0..count).map(|at| route(&format!("f{at}"))).collect();
        let (_folder, file) =
            pipeline(&format!("from = \"topic:t\"\ncpu = \"150%\"\n[columns]\nn = \"int64\"\n{routes}"));
        explain(&file, None).unwrap()
    };
    let of_files = |told: &Explained| {
        let lines: Vec<u64> =
            told.memory.iter().filter(|line| line.what.contains("parquet f")).map(|line| line.bytes).collect();
        lines.iter().sum::<u64>() >> 20
    };
    assert_eq!([1, 2, 5].map(|count| of_files(&told(count))), [128, 256, 256]);
    let said = told(2).to_string();
    assert!(said.contains("may take of CPU: 150% of one core"), "{said}");
    let sum: u64 = told(5).memory.iter().map(|line| line.bytes).sum();
    assert!(sum < 512 << 20, "{sum}");
}

#[test]
fn a_secret_is_named_and_never_shown() {
    let (_folder, file) = pipeline(CAMERA);
    let told = explain(&file, None).unwrap();
    let said = format!("{told}{}", serde_json::to_string(&told).unwrap());
    assert!(said.contains("<secret v>") && !said.contains("do not tell"), "{said}");
}

#[test]
fn what_the_file_leaves_unsaid_is_said() {
    let (_folder, file) = pipeline(CAMERA);
    let said = explain(&file, None).unwrap().to_string();
    for wanted in [
        "to topic people: rows where camera = 'door'",
        "camera, which also says the partition",
        "rows that no other route's where takes",
        "after 5 min or at 128 MiB",
        "zstd level 1",
        "what fails goes to topic cam-dlt",
        "2 more attempts, 1000 ms apart",
        "90% of 10000",
        "1 MiB for each partition",
    ] {
        assert!(said.contains(wanted), "{wanted}:\n{said}");
    }
}

#[test]
fn fields_that_were_seen_and_are_not_read_are_told_with_type_and_count() {
    let (_folder, file) = pipeline(CAMERA);
    let lines = [
        r#"{"after":{"camera":"door","id":"1","score":1,"box":[1,2]},"at":{"x":1,"y":2}}"#,
        r#"{"after":{"camera":"door","score":0.5,"when":"2026-01-02T03:04:05Z"},"spare":null}"#,
        "no JSON",
        r#"{"offset":1,"timestamp":2,"key":null,"value":{"after":{}},"headers":{"n":"1","m":"x"}}"#,
    ];
    let events: Vec<Record> = lines.iter().map(|line| record_of(line.as_bytes(), 0, &Clock::manual(1))).collect();
    let seen = explain(&file, Some(&events)).unwrap().seen.unwrap();
    let unread: Vec<(&str, &str, u64)> =
        seen.unread.iter().map(|field| (field.place.as_str(), field.kind.as_str(), field.count)).collect();
    assert_eq!(
        unread,
        [
            ("/after/score", "float64", 2),
            ("/after/box", "[int64]", 1),
            ("/after/when", "timestamp", 1),
            ("/at/y", "int64", 1),
            ("/spare", "null", 1),
            ("header m", "string", 1),
        ]
    );
    assert_eq!(seen.events, 4);
    assert!(seen.missing.is_empty(), "{:?}", seen.missing);
    let seen = unread_of(&file, &events[2..3]);
    assert_eq!(seen.missing, ["camera", "id", "n", "at"]);
}

fn unread_of(file: &Path, events: &[Record]) -> Seen {
    unread(file, events).unwrap()
}

#[test]
fn a_where_behind_a_select_filters() {
    let text = "from = \"topic:t\"\n[columns]\nn = \"int64\"\n[[step]]\nselect = \"n + 1 as m\"\n[[step]]\nwhere = \"m > 5\"\n[[route]]\nto = { topic = \"o\" }\n[[test]]\ngiven = { value = '{\"n\":1}' }\nexpect = \"filtered\"\n[[test]]\ngiven = { value = '{\"n\":9}' }\nexpect = '{\"m\":10}'\n";
    let (_folder, file) = pipeline(text);
    let tested = crate::stream::test(&file).unwrap();
    assert!(tested.iter().all(|test| test.passed), "{tested:#?}");
}
