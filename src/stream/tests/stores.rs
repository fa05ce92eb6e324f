//! Parquet in a bucket: whatever fails or crashes, and wherever, each record is in one row or one dead letter, and no upload stays open.

use super::super::sink::bucket::twin::{Asked, Trouble, Twin};
use super::*;
use bytes::Bytes;

const ASKED: [Asked; 7] =
    [Asked::Get, Asked::Put, Asked::Size, Asked::Begin, Asked::Part, Asked::Complete, Asked::Uploads];

/// A bucket of its own, and what a pipeline writes there.
fn bucket() -> (Arc<Twin>, String) {
    let (name, twin) = Twin::new();
    let to = format!(
        "{{ parquet = \"s3://{name}/lake/out\", roll = \"100ms\", partition = \"k=%M\", time = \"_timestamp\" }}"
    );
    (twin, to)
}

fn numbers(bytes: Bytes) -> Vec<i64> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    reader.flat_map(|rows| rows.unwrap()["n"].as_primitive::<Int64Type>().values().to_vec()).collect()
}

/// `n` of every row in a bucket, sorted.
fn rows(twin: &Twin) -> Vec<i64> {
    let files = twin.objects().into_iter().filter(|(key, _)| key.ends_with(".parquet"));
    let mut rows: Vec<i64> = files.flat_map(|(_, bytes)| numbers(bytes)).collect();
    rows.sort_unstable();
    rows
}

/// As [`Bench::finish`], until no upload is open.
fn settle(bench: &Bench, job: &Job, twin: &Twin) {
    let began = Instant::now();
    loop {
        bench.finish(job);
        let runs = bench.run(job);
        while !twin.open().is_empty() && !runs.thread.is_finished() {
            assert!(began.elapsed() < PATIENCE, "{:?} stay open", twin.open());
            std::thread::park_timeout(Duration::from_millis(5));
        }
        if runs.end().is_ok() && twin.open().is_empty() {
            return;
        }
    }
}

fn is_whole_after(trouble: impl Fn(&Bench, &Twin), when: &str) -> bool {
    let (bench, (twin, to)) = (Bench::new(), bucket());
    let source = bench.topic("in", 2, &[]);
    let job = bench.job(&text(&to, ""));
    bench.send(&source, 0, 1..60);
    bench.send(&source, 1, 100..160);
    trouble(&bench, &twin);
    settle(&bench, &job, &twin);
    bench.send(&source, 0, 60..90);
    bench.send(&source, 1, 160..190);
    settle(&bench, &job, &twin);
    assert_eq!(rows(&twin), [good(1..90), good(100..190)].concat(), "rows {when}");
    assert_eq!(bench.letters("in-dlt"), [bad(1..90), bad(100..190)].concat(), "letters {when}");
    bench.hooks.has_crashed() && twin.has_happened()
}

#[test]
fn a_crash_at_any_step_leaves_each_record_in_one_object() {
    for step in [Step::Written, Step::Lettered, Step::Staged, Step::Saved, Step::Renamed] {
        for nth in 1..=3 {
            let crash = |bench: &Bench, _: &Twin| bench.hooks.crash_at(step, nth);
            let has_happened = is_whole_after(crash, &format!("after a crash at {step:?} {nth}"));
            assert!(has_happened || nth > 1, "{step:?} was never reached");
        }
    }
}

#[test]
fn a_kill_before_or_after_any_request_leaves_each_record_in_one_object() {
    std::thread::scope(|scope| {
        for trouble in [Trouble::KilledBefore, Trouble::KilledAfter] {
            scope.spawn(move || {
                for (asked, nth) in ASKED.into_iter().flat_map(|asked| (1..=4).map(move |nth| (asked, nth))) {
                    let plan = |_: &Bench, twin: &Twin| twin.plan(asked, nth, trouble);
                    let has_happened = is_whole_after(plan, &format!("{trouble:?} {asked:?} {nth}"));
                    assert!(has_happened || nth > 1, "{asked:?} was never asked");
                }
            });
        }
    });
}

#[test]
fn a_request_that_fails_or_whose_answer_is_lost_leaves_each_record_in_one_object() {
    std::thread::scope(|scope| {
        for (trouble, asked) in
            [Trouble::Refused, Trouble::Lost].into_iter().flat_map(|it| ASKED.map(|asked| (it, asked)))
        {
            scope.spawn(move || {
                for nth in [1, 2] {
                    let plan = |_: &Bench, twin: &Twin| twin.plan(asked, nth, trouble);
                    let has_happened = is_whole_after(plan, &format!("{trouble:?} {asked:?} {nth}"));
                    assert!(has_happened || nth > 1, "{asked:?} was never asked");
                }
            });
        }
    });
}

#[test]
fn a_store_that_is_down_is_waited_for_and_holds_up_no_other_output() {
    let (bench, (twin, to)) = (Bench::new(), bucket());
    let source = bench.topic("in", 1, &[]);
    let both = format!(
        "from = \"topic:in\"\n[columns]\nn = \"int64\"\nuser = \"string\"\n[[route]]\nto = {to}\n[[route]]\nto = {{ topic = \"out\" }}\n"
    );
    let job = bench.job(&both);
    let runs = bench.run(&job);
    bench.send(&source, 0, 1..30);
    wait_for("the first rows", || rows(&twin) == good(1..30));
    twin.set_down(true);
    bench.send(&source, 0, 30..60);
    wait_for("the other output", || bench.rows(TO_TOPIC) == good(1..60));
    let told = |status: PipelineStatus| status.reason.is_some_and(|reason| reason.contains("the store is down"));
    wait_for("its reason", || bench.status().is_some_and(told));
    assert_eq!(rows(&twin), good(1..30));
    twin.set_down(false);
    wait_for("the rest", || rows(&twin) == good(1..60));
    runs.stop();
    assert!(twin.open().is_empty());
}

#[test]
fn uploads_that_no_checkpoint_names_are_ended_and_those_of_others_are_not() {
    use super::super::sink::bucket::{self, Objects};
    let (bench, (twin, to)) = (Bench::new(), bucket());
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..9);
    let own = ["lake/out/k=13/p-0-7-0.parquet", "lake/out/p-3-0-0.parquet"];
    let others = [
        "lake/out/k=13/q-0-7-0.parquet",
        "lake/out/k=13/p-2-0-7-0.parquet",
        "lake/out/eu/k=1/p-0-7-0.parquet",
        "lake/outer/p-0-7-0.parquet",
    ];
    twin.put("lake/out/eu/_inrush/owner.json", Bytes::from_static(b"{}"), None).unwrap();
    own.iter().chain(&others).for_each(|key| drop(twin.begin(key).unwrap()));
    bench.finish(&bench.job(&text(&to, "")));
    wait_for("the files", || rows(&twin) == good(1..9));
    let mut left = twin.open();
    left.sort();
    let mut wanted = others.map(str::to_owned).to_vec();
    wanted.sort();
    assert_eq!(left, wanted);
    assert!(
        bucket::open(&bucket::Address {
            bucket: "none".to_owned(),
            endpoint: Some("minio".to_owned()),
            region: None,
            path_style: None,
            credentials: None,
            pipeline: "p.toml".into()
        })
        .is_err()
    );
}

#[test]
fn what_was_taken_away_is_told_and_never_written_again() {
    let (bench, (twin, to)) = (Bench::new(), bucket());
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..9);
    let job = bench.job(&text(&to, ""));
    bench.hooks.crash_at(Step::Saved, 1);
    let runs = bench.run(&job);
    wait_for("the crash", || runs.thread.is_finished());
    assert!(runs.thread.join().is_err() && !twin.open().is_empty() && rows(&twin).is_empty());
    let taken = twin.open()[0].clone();
    let before = twin.open().len();
    twin.take_away(&taken);
    settle(&bench, &job, &twin);
    let there: Vec<String> = twin.objects().into_keys().filter(|key| key.ends_with(".parquet")).collect();
    assert!(before >= 2, "the rows have several minutes");
    assert!(there.len() >= before - 1 && !there.contains(&taken));
}

#[test]
fn a_bucket_has_an_owner_and_columns_that_only_grow_as_a_folder_has() {
    let (bench, (twin, to)) = (Bench::new(), bucket());
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..9);
    bench.finish(&bench.job(&text(&to, "")));
    let stalls = |text: &str, because: &str| {
        bench.send(&source, 0, 11..12);
        let runs = bench.run(&bench.job(text));
        wait_for(because, || {
            let told = |status: PipelineStatus| status.reason.is_some_and(|reason| reason.contains(because));
            bench.status().is_some_and(told)
        });
        runs.stop();
    };
    stalls(&text(&to, "").replace("n, user", "n"), "arrow_cast(NULL, 'Utf8') as user");
    std::fs::remove_dir_all(bench.folder.path().join("data/pipelines/p")).unwrap();
    stalls(&text(&to, ""), "adopt = \"p\"");
    let growing = text(&to, "").replace("roll", "adopt = \"p\", source-columns = true, roll");
    settle(&bench, &bench.job(&growing), &twin);
    let checkpoint = Checkpoint::load(&runner::checkpoint_path(&bench.options, "p")).unwrap().unwrap();
    assert_eq!(checkpoint.outputs.values().next().unwrap().generation, 1);
    let schema = twin.objects()["lake/out/_inrush/schema.json"].clone();
    let schema: serde_json::Value = serde_json::from_slice(&schema).unwrap();
    assert_eq!(schema["versions"][1]["columns"].as_array().unwrap().len(), 5, "{schema}");
}

#[test]
fn uploads_of_an_output_that_the_file_no_longer_has_are_completed() {
    let (bench, (twin, to)) = (Bench::new(), bucket());
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..9);
    bench.hooks.crash_at(Step::Saved, 1);
    let runs = bench.run(&bench.job(&text(&to, "")));
    wait_for("the crash", || runs.thread.is_finished());
    assert!(!twin.open().is_empty());
    let other = bench.job(&text(TO_PARQUET, ""));
    bench.finish(&other);
    assert!(twin.open().is_empty());
    assert_eq!(rows(&twin), good(1..9));
}
