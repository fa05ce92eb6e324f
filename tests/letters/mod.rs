//! `inrush dlt` against a running daemon, as an operator uses it.

use super::*;

const FILE: &str = "from = \"topic:numbers\"\nselect = \"n\"\nto = { parquet = \"numbers\", roll = \"100ms\" }\n[columns]\nn = \"int64\"\n";

/// A daemon with a pipeline, two letters of it, and one of the HTTP door.
struct Bench {
    daemon: Daemon,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench { daemon: Daemon::start(folder.path(), "auto"), folder };
        std::fs::create_dir_all(bench.folder.path().join("pipelines")).unwrap();
        bench.write(FILE);
        json(
            &bench.daemon.http,
            "POST",
            "/v1/topics/numbers/events",
            "{\"n\":1}\n{\"n\":\"2\"}\n{broken\n{\"n\":\"four\"}",
        );
        wait_for("the letters", || bench.list("numbers").len() == 1 && bench.list("numbers")[0]["letters"] == 2);
        bench
    }

    fn write(&self, text: &str) {
        std::fs::write(self.folder.path().join("pipelines/numbers.toml"), text).unwrap();
        assert_eq!(json(&self.daemon.admin, "POST", "/api/pipelines/reload", "")[0]["ok"], true);
    }

    /// Exit code, and what it says.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let binary = std::env::var_os("INRUSH_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_inrush").into());
        let mut command = Command::new(binary);
        let done = command.args(arguments).args(["--admin", &self.daemon.admin]).stdin(Stdio::null()).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        (done.status.code().unwrap(), text)
    }

    fn well(&self, arguments: &[&str]) -> String {
        let (code, text) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {text}");
        text
    }

    fn list(&self, name: &str) -> Vec<Value> {
        let (code, text) = self.run(&["dlt", "list", name, "--json"]);
        if code == 0 { serde_json::from_str(&text).unwrap() } else { Vec::new() }
    }

    fn numbers(&self) -> Vec<i64> {
        parquet_numbers(&self.folder.path().join("out/numbers"))
    }
}

#[test]
fn letters_are_listed_shown_replayed_and_dropped() {
    let bench = Bench::new();
    let listed = bench.well(&["dlt", "list"]);
    assert!(listed.contains("numbers-dlt") && listed.contains("wrong-type") && listed.contains("http"), "{listed}");
    let shown = bench.well(&["dlt", "show", "numbers", "--reason", "wrong-type"]);
    assert!(shown.contains("{\"n\":\"four\"}") && shown.contains("wrong-type at columns in n"), "{shown}");
    assert!(shown.contains("from numbers/0 offset 1, pipeline numbers, lacked by parquet numbers"), "{shown}");
    let one = bench.well(&["dlt", "show", "numbers", "--limit", "1", "--json"]);
    assert_eq!(one.lines().count(), 1);
    // Strings that are numbers are taken now.
    bench.write(&FILE.replace("n = \"int64\"", "n = { type = \"int64\", coerce = true }"));
    let trial = bench.well(&["dlt", "replay", "numbers", "--dry-run"]);
    assert!(
        trial.contains("2 letters of numbers-dlt would make 1 rows") && trial.contains("1 records would fail again"),
        "{trial}"
    );
    let replayed = bench.well(&["dlt", "replay", "numbers"]);
    assert!(replayed.contains("done: 2 letters, 1 rows, 0 filtered, 1 dead letters again"), "{replayed}");
    assert_eq!(bench.numbers(), [1, 2]);
    let status = bench.well(&["pipeline", "status"]);
    assert!(status.contains("numbers/replay"), "{status}");
    let groups = bench.list("numbers");
    assert_eq!((groups[0]["letters"].as_u64(), groups[0]["open"].as_u64()), (Some(3), Some(1)), "{groups:?}");
    // Of all there are, what is not said --yes to is kept.
    let (code, asked) = bench.run(&["dlt", "drop", "numbers-dlt", "--reason", "wrong-type"]);
    assert!(code == 1 && asked.contains("1 open letters") && asked.contains("--yes"), "{asked}");
    let dropped = bench.well(&["dlt", "drop", "numbers-dlt", "--reason", "wrong-type", "--yes"]);
    assert!(dropped.contains("1 open letters of numbers-dlt were dropped"), "{dropped}");
    assert!(bench.list("numbers").iter().all(|group| group["open"] == 0));
    assert!(bench.well(&["dlt", "replay", "numbers"]).contains("nothing to replay"));
}

#[test]
fn letters_of_the_http_door_are_sent_to_a_topic_and_belong_to_no_pipeline() {
    let bench = Bench::new();
    let (code, refused) = bench.run(&["dlt", "replay", "numbers-dlt"]);
    assert!(code == 1 && refused.contains("HTTP door") && refused.contains("--to-topic"), "{refused}");
    let (code, unknown) = bench.run(&["dlt", "list", "nothing"]);
    assert!(code == 1 && unknown.contains("numbers-dlt"), "{unknown}");
    json(&bench.daemon.http, "POST", "/v1/topics/mended/events", "{}");
    let sent = bench.well(&["dlt", "replay", "numbers-dlt", "--step", "http", "--to-topic", "mended"]);
    assert!(sent.contains("1 letters were sent to mended; every reader of mended gets them"), "{sent}");
    assert_eq!(values(&bench.daemon.http, "mended"), [serde_json::json!({}), "{broken".into()]);
    // They are handled; the pipeline's own are not.
    let open: Vec<_> =
        bench.list("numbers-dlt").iter().map(|group| (group["step"].clone(), group["open"].clone())).collect();
    assert_eq!(open, [("http".into(), 0.into()), ("columns".into(), 2.into())]);
    let (code, wrong) = bench.run(&["dlt", "show", "numbers", "--since", "yesterday"]);
    assert!(code == 2 && wrong.contains("--since") && wrong.contains("yesterday") && wrong.contains("1h"), "{wrong}");
}
