//! Clocks that run ahead, of those who send and of this machine, before and behind a kill: nobody's rows are late for them, and what was not
//! believed once is not believed when it is read again.

use super::*;

const BEGAN: i64 = 1_700_000_000_000;
const MINUTE: i64 = 60_000;
const COUNTING: &str = "from = \"topic:in\"\n[columns]\nn = \"int64\"\nts = \"timestamp(ms)\"\n[[step]]\nwindow = { tumbling = \"1m\", time = \"ts\", late-to = { topic = \"late\" }, select = \"count(*) as views, sum(n) as n\" }\n[[route]]\nto = { topic = \"out\" }\n[[route]]\nto = { parquet = \"third\", roll = \"100ms\" }\n";

/// Sent by a client whose clock says so.
fn row(n: i64, time: i64) -> (i64, String, String) {
    (time, format!("k{n}"), format!("{{\"n\":{n},\"ts\":{time},\"id\":\"i{}\"}}", n % 100))
}

fn bench_at(now: i64) -> (Bench, Clock) {
    let mut bench = Bench::new();
    let clock = Clock::manual(now);
    Arc::get_mut(&mut bench.options).unwrap().clock = clock.clone();
    bench.hooks.set_quiet_after(Duration::from_secs(1 << 40));
    (bench, clock)
}

#[test]
fn a_client_whose_clock_runs_ahead_makes_nobody_late_and_a_kill_changes_no_decision() {
    let steps =
        [None, Some(Step::Appended), Some(Step::Written), Some(Step::Lettered), Some(Step::Staged), Some(Step::Saved)];
    for crash in steps {
        let (bench, clock) = bench_at(BEGAN);
        let source = bench.topic("in", 2, &[]);
        bench.topic("out", 1, &[]);
        bench.topic("late", 1, &[]);
        let job = bench.job(COUNTING);
        if let Some(step) = crash {
            bench.hooks.crash_at(step, 2);
        }
        // 50 and 51 say ten minutes and a year; 4 minutes are believed.
        let ahead = [row(50, BEGAN + 10 * MINUTE), row(51, BEGAN + 525_600 * MINUTE)];
        let first =
            [row(1, BEGAN), ahead[0].clone(), row(2, BEGAN + 1_000), ahead[1].clone(), row(3, BEGAN + 4 * MINUTE)];
        bench.send_events(&source, 0, &first);
        bench.send_events(&source, 1, &[row(4, BEGAN + 2_000), row(5, BEGAN + 4 * MINUTE)]);
        let mut runs = bench.run(&job);
        wait_for("the first window, or the crash", || match crash {
            Some(_) => runs.thread.is_finished(),
            None => bench.numbers("out") == [7],
        });
        // Behind a kill the clock would believe ten minutes, and it believes what comes then.
        clock.advance(20 * MINUTE);
        let later: Vec<_> = (0..2).map(|id| row(100 + id, BEGAN + 20 * MINUTE)).collect();
        (0..2).for_each(|id| bench.send_events(&source, id, &later[id as usize..=id as usize]));
        if runs.thread.is_finished() {
            runs = bench.run(&job);
        }
        // Behind a cut that a kill follows the count stays, and nothing new is to be told.
        let is_told = || {
            let warnings = bench.status().map_or(Vec::new(), |status| status.warnings);
            crash.is_some() || warnings.iter().any(|one| one.starts_with("2 rows lay"))
        };
        wait_for("all windows", || bench.numbers("out").len() == 2 && bench.files("third").len() == 2 && is_told());
        if runs.end().is_err() {
            bench.run(&job).end().unwrap();
        }
        assert_eq!(bench.numbers("out"), [7, 8], "{crash:?}");
        assert_eq!(bench.files("third"), [7, 8], "{crash:?}");
        assert_eq!(bench.numbers("late"), [50, 51], "{crash:?}");
        let checkpoint = Checkpoint::load(&runner::checkpoint_path(&bench.options, "p")).unwrap().unwrap();
        assert_eq!((checkpoint.beliefs.len(), checkpoint.counts.ahead), (0, 2), "{crash:?}");
    }
}

/// As on a box without a clock of its own, before it has asked for the time.
#[test]
fn a_clock_that_is_behind_after_a_kill_takes_nothing_back_that_was_believed() {
    for crash in [Step::Appended, Step::Written, Step::Lettered, Step::Staged, Step::Saved] {
        let (bench, clock) = bench_at(BEGAN + 30 * MINUTE);
        let source = bench.topic("in", 1, &[]);
        ["out", "late"].iter().for_each(|name| drop(bench.topic(name, 1, &[])));
        let events: Vec<_> = (0..6).map(|n| row(1 << n, BEGAN + n * MINUTE)).collect();
        bench.hooks.crash_at(crash, 1);
        bench.send_events(&source, 0, &events);
        let runs = bench.run(&bench.job(COUNTING));
        wait_for("the planned crash", || runs.thread.is_finished());
        let _ = runs.end();
        let before = bench.numbers("out");
        clock.advance(-1_440 * MINUTE);
        let runs = bench.run(&bench.job(COUNTING));
        wait_for("the windows", || bench.numbers("out") == [1, 2, 4, 8, 16]);
        let is_told =
            |status: &PipelineStatus| status.warnings.iter().any(|warning| warning.contains("minutes behind"));
        wait_for("the warning", || bench.status().is_some_and(|status| is_told(&status)));
        runs.stop();
        assert!(
            before.iter().all(|n| bench.numbers("out").contains(n)) && bench.numbers("late").is_empty(),
            "{crash:?}"
        );
    }
}

#[test]
fn a_record_of_the_far_future_makes_steps_forget_nothing() {
    let (bench, _) = bench_at(BEGAN + MINUTE);
    let source = bench.topic("in", 1, &[]);
    let text = "from = \"topic:in\"\n[columns]\nn = \"int64\"\nid = \"string\"\n[[step]]\ndedupe = { key = \"id\", ttl = \"1h\" }\n[[route]]\nto = { topic = \"out\" }\n";
    bench.send_events(&source, 0, &[row(1, BEGAN), row(2, BEGAN + 525_600 * MINUTE), row(101, BEGAN + 1_000)]);
    bench.finish(&bench.job(text));
    assert_eq!(bench.numbers("out"), [1, 2], "101 is of the id of 1");
    assert!(bench.status().unwrap().warnings.iter().any(|warning| warning.starts_with("1 row lay")));
}
