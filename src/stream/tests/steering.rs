//! Pipelines that a person lets stand still, go on, or go elsewhere.

use super::*;

const TEXT: &str =
    "from = \"topic:in\"\nselect = \"n\"\nto = { topic = \"out\" }\n[columns]\nn = \"int64\"\nuser = \"string\"\n";

fn named() -> String {
    "p".to_owned()
}

#[test]
fn a_paused_pipeline_stands_still_through_a_restart_and_tells_how_far_behind_it_is() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.write(TEXT);
    let daemon = bench.steered();
    bench.send(&source, 0, 1..10);
    daemon.settle(9);
    assert!(daemon.ask(Command::Pause { pipeline: named() }).unwrap().starts_with("paused"));
    assert!(daemon.ask(Command::Pause { pipeline: named() }).unwrap().contains("already"));
    bench.send(&source, 0, 11..20);
    let is_behind = |daemon: &replays::Supervised<'_>| {
        daemon.line("p").is_some_and(|line| (line.state, line.lag_records) == (State::Paused, 9))
    };
    wait_for("the lag of the paused pipeline", || is_behind(&daemon));
    drop(daemon);
    let daemon = bench.steered();
    wait_for("the lag after the restart", || is_behind(&daemon));
    // A reload of another text does not wake it either.
    bench.write(&TEXT.replace("select = \"n\"", "select = \"n * 100 as n\""));
    bench.reload(&daemon.control);
    wait_for("the lag after the reload", || is_behind(&daemon));
    assert_eq!(bench.numbers("out"), good(1..10));
    assert_eq!(daemon.ask(Command::Resume { pipeline: named() }).unwrap(), "goes on");
    daemon.settle(18);
    let later = good(11..20).into_iter().map(|n| n * 100);
    assert_eq!(bench.numbers("out"), good(1..10).into_iter().chain(later).collect::<Vec<_>>());
    assert_eq!(daemon.ask(Command::Resume { pipeline: named() }).unwrap(), "is not paused");
    assert!(daemon.ask(Command::Pause { pipeline: "q".to_owned() }).unwrap_err().contains("no pipeline is named q"));
}

#[test]
fn a_reset_of_one_partition_reads_that_one_again_from_an_offset() {
    let bench = Bench::new();
    let source = bench.topic("in", 2, &[]);
    bench.write(TEXT);
    let daemon = bench.steered();
    bench.send(&source, 0, 1..10);
    bench.send(&source, 1, 11..20);
    daemon.settle(18);
    let reset = |partition, to| daemon.ask(Command::Reset { pipeline: named(), partition, to });
    assert!(reset(None, ResetTo::Offset(3)).unwrap_err().contains("--partition"));
    assert!(reset(Some(2), ResetTo::Start).unwrap_err().contains("no partition 2"));
    assert!(reset(Some(1), ResetTo::Offset(10)).unwrap_err().contains("offsets 0 to 9"));
    reset(Some(1), ResetTo::Offset(6)).unwrap();
    daemon.settle(18);
    let mut expected = [good(1..10), good(11..20), vec![17, 18, 19]].concat();
    expected.sort_unstable();
    assert_eq!(bench.numbers("out"), expected);
}
