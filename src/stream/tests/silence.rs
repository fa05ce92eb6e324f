//! Pipelines without a sign of life: those that hang are started again, those that work are not.

use super::*;
use crate::work::thread_time;

#[test]
fn a_run_that_was_given_up_and_wakes_late_adds_nothing_and_ingest_never_waits() {
    for to in [TO_PARQUET, TO_TOPIC] {
        let bench = Bench::new();
        let source = bench.topic("in", 1, &[]);
        let job = bench.job(&text(to, ""));
        bench.send(&source, 0, 1..30);
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let is_hung = Arc::new(AtomicBool::new(false));
        let hung = is_hung.clone();
        bench.hooks.sink(move |_, _, _| {
            if !hung.swap(true, Ordering::SeqCst) {
                let _ = gate.recv();
            }
            Ok(())
        });
        let first = bench.run(&job);
        wait_for("the sink to hang", || is_hung.load(Ordering::SeqCst));
        // Each of these returns only when its batch is durable.
        bench.send(&source, 0, 30..300);
        bench.finish(&job);
        release.send(()).unwrap();
        first.thread.join().unwrap().unwrap();
        assert_eq!(bench.rows(to), good(1..300), "{to}");
        assert_eq!(bench.letters("in-dlt"), bad(1..300), "{to}");
        bench.send(&source, 0, 300..310);
        bench.finish(&job);
        assert_eq!(bench.rows(to), good(1..310), "{to}");
    }
}

#[test]
fn a_silent_pipeline_is_started_again_alone() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    let folder = bench.options.folder.clone();
    std::fs::create_dir_all(&folder).unwrap();
    let roll = "roll = \"100ms\"";
    std::fs::write(folder.join("p.toml"), text(&format!("{{ parquet = \"out\", {roll} }}"), "")).unwrap();
    std::fs::write(folder.join("q.toml"), text(&format!("{{ parquet = \"other\", {roll} }}"), "")).unwrap();
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let runs_of_p = Arc::new(Mutex::new(0));
    let counted = runs_of_p.clone();
    bench.hooks.sink(move |pipeline, _, _| {
        if pipeline == "p" {
            let mut runs = counted.lock().unwrap();
            *runs += 1;
            if *runs == 1 {
                drop(runs);
                let _ = gate.recv();
            }
        }
        Ok(())
    });
    let (control, requests) = Control::new();
    let options = Options {
        store: bench.store.clone(),
        control,
        clock: Clock::System,
        folder,
        out: bench.options.out.clone(),
        data: bench.options.data.clone(),
        runtime: bench.runtime.handle().clone(),
    };
    bench.send(&source, 0, 1..30);
    let running = supervisor::start_with(options, requests, bench.hooks.clone(), Duration::from_millis(500)).unwrap();
    let out = bench.folder.path().join("out");
    let sorted = |folder: &str| {
        let mut rows = parquet_rows(&out.join(folder));
        rows.sort_unstable();
        rows
    };
    wait_for("the other pipeline", || sorted("other") == good(1..30));
    wait_for("the silent pipeline's second run", || sorted("out") == good(1..30));
    release.send(()).unwrap();
    bench.send(&source, 0, 30..60);
    wait_for("both", || sorted("out") == good(1..60) && sorted("other") == good(1..60));
    running.stop(PATIENCE);
    assert_eq!((sorted("out"), sorted("other")), (good(1..60), good(1..60)));
}

#[test]
fn who_works_for_long_without_a_word_is_not_started_again() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.write(&text("{ topic = \"out\" }", ""));
    let runs = Arc::new(Mutex::new(0));
    let counted = runs.clone();
    bench.hooks.sink(move |_, _, _| {
        *counted.lock().unwrap() += 1;
        let began = thread_time();
        while thread_time() - began < Duration::from_secs(3) {
            std::hint::black_box((0..1_000u64).sum::<u64>());
        }
        Ok(())
    });
    bench.send(&source, 0, 1..30);
    let daemon = bench.steered_with(Duration::from_secs(1));
    daemon.settle(29);
    assert_eq!((*runs.lock().unwrap(), bench.rows(TO_TOPIC)), (1, good(1..30)));
    wait_for("what it took", || daemon.line("p").is_some_and(|line| line.cpu.seconds >= 3.0));
}
