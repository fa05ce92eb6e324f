//! A pipeline file that has changed while outputs hold what was made with the one of before.

use super::*;

/// Numbers below and from 50 on to two topics, and all of them to a third.
fn text(below: &str, from: &str, step: &str) -> String {
    format!(
        "from = \"topic:in\"\n[columns]\nn = \"int64\"\nuser = \"string\"\n{step}[[route]]\nwhere = \"n < 50\"\nto = {{ topic = \"{below}\" }}\n[[route]]\nwhere = \"n >= 50\"\nto = {{ topic = \"{from}\" }}\n[[route]]\nto = {{ topic = \"all\" }}\n"
    )
}

fn bench() -> Bench {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    ["ta", "tb", "all"].iter().for_each(|name| drop(bench.topic(name, 1, &[])));
    bench.send(&source, 0, 1..100);
    bench
}

/// Runs until it has written something behind its last cut, and no further.
fn killed(bench: &Bench, job: &Job) {
    bench.hooks.crash_at(Step::Lettered, 1);
    let runs = bench.run(job);
    wait_for("the planned crash", || runs.thread.is_finished());
    let _ = runs.end();
    assert!(!bench.numbers("ta").is_empty());
}

fn in_both(bench: &Bench) -> usize {
    bench.numbers("ta").iter().filter(|n| bench.numbers("tb").contains(n)).count()
}

#[test]
fn what_was_written_before_is_finished_once_an_output_is_back() {
    for step in ["", "[[step]]\ndedupe = { key = [\"_key\", \"n\"], ttl = \"1h\" }\n"] {
        let bench = bench();
        killed(&bench, &bench.job(&text("ta", "tb", step)));
        let back_at = Instant::now() + Duration::from_secs(4);
        bench.hooks.sink(move |_, output, _| match Instant::now() < back_at && output == "topic all" {
            true => Err(WriteError::Down("planned".to_owned())),
            false => Ok(()),
        });
        let runs = bench.run(&bench.job(&text("tb", "ta", step)));
        let says =
            |part: &str| bench.status().and_then(|status| status.reason).is_some_and(|reason| reason.contains(part));
        wait_for("the reason", || says("is finished first") && says("planned"));
        wait_for("all", || bench.numbers("all") == good(1..100));
        runs.stop();
        assert_eq!((bench.numbers("ta"), bench.numbers("tb")), (good(1..50), good(50..100)), "{step}");
        bench.send(&bench.store.topic("in").unwrap(), 0, 101..120);
        bench.finish(&bench.job(&text("tb", "ta", step)));
        assert_eq!(
            (bench.numbers("ta").len(), in_both(&bench)),
            (good(1..50).len() + good(101..120).len(), 0),
            "{step}"
        );
    }
}

#[test]
fn what_cannot_be_finished_is_told() {
    let bench = bench();
    killed(&bench, &bench.job(&text("ta", "tb", "")));
    let is_down = Arc::new(AtomicBool::new(true));
    let own = is_down.clone();
    bench.hooks.sink(move |_, output, _| match own.load(Ordering::SeqCst) && output == "topic all" {
        true => Err(WriteError::Down("planned".to_owned())),
        false => Ok(()),
    });
    let runs = bench.run(&bench.job(&text("tb", "ta", "")));
    let is_told =
        |status: &PipelineStatus| status.warnings.iter().any(|warning| warning.contains("may be there twice"));
    wait_for("the warning", || bench.status().is_some_and(|status| is_told(&status)));
    is_down.store(false, Ordering::SeqCst);
    wait_for("all", || bench.numbers("all") == good(1..100));
    runs.stop();
}

#[test]
fn a_table_whose_file_is_gone_is_read_from_its_copy_and_what_else_is_gone_is_told() {
    let enrich = |file: &str| format!("[[step]]\nenrich = {{ from = \"{file}\", key = \"user\", on = \"user\" }}\n");
    let bench = bench();
    let users: String = (0..7).map(|user| format!("u{user},1\n")).collect();
    let put = |file: &str| std::fs::write(bench.folder.path().join(file), format!("user,score\n{users}")).unwrap();
    put("a.csv");
    killed(&bench, &bench.table_job(&text("ta", "tb", &enrich("a.csv"))));
    put("b.csv");
    std::fs::remove_file(bench.folder.path().join("a.csv")).unwrap();
    bench.finish(&bench.table_job(&text("tb", "ta", &enrich("b.csv"))));
    assert_eq!((bench.numbers("ta"), bench.numbers("tb")), (good(1..50), good(50..100)));

    // Also where what is finished with it is killed again.
    let bench = self::bench();
    let put = |file: &str| std::fs::write(bench.folder.path().join(file), format!("user,score\n{users}")).unwrap();
    put("a.csv");
    killed(&bench, &bench.table_job(&text("ta", "tb", &enrich("a.csv"))));
    put("b.csv");
    std::fs::remove_file(bench.folder.path().join("a.csv")).unwrap();
    let is_down = Arc::new(AtomicBool::new(true));
    let own = is_down.clone();
    bench.hooks.sink(move |_, output, _| match own.load(Ordering::SeqCst) && output == "topic all" {
        true => Err(WriteError::Down("planned".to_owned())),
        false => Ok(()),
    });
    let job = bench.table_job(&text("tb", "ta", &enrich("b.csv")));
    let runs = bench.run(&job);
    wait_for("an attempt", || {
        bench.status().and_then(|status| status.reason).is_some_and(|why| why.contains("planned"))
    });
    drop(Life::begin(&bench.seat));
    let _ = runs.end();
    is_down.store(false, Ordering::SeqCst);
    bench.finish(&job);
    assert_eq!((bench.numbers("ta"), bench.numbers("tb")), (good(1..50), good(50..100)));

    let bench = self::bench();
    let schema = |file: &str| {
        let schema = r#"{"type":"object","properties":{"m":{"type":"string"}}}"#;
        std::fs::write(bench.folder.path().join(file), schema).unwrap();
        |file: &str, text: String| text.replace("[columns]\n", &format!("[columns]\nfrom-schema = \"{file}\"\n"))
    };
    let with = schema("a.json");
    killed(&bench, &bench.table_job(&with("a.json", text("ta", "tb", ""))));
    let with = schema("b.json");
    std::fs::remove_file(bench.folder.path().join("a.json")).unwrap();
    let runs = bench.run(&bench.table_job(&with("b.json", text("tb", "ta", ""))));
    let is_told = |status: &PipelineStatus| {
        status.warnings.iter().any(|warning| warning.contains("a.json") && warning.contains("may be there twice"))
    };
    wait_for("the warning", || bench.status().is_some_and(|status| is_told(&status)));
    runs.stop();
}
