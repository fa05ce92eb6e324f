//! Pipelines that a person lets stand still, go on, or go elsewhere.

use super::replays::named;
use super::*;

const TEXT: &str =
    "from = \"topic:in\"\nselect = \"n\"\nto = { topic = \"out\" }\n[columns]\nn = \"int64\"\nuser = \"string\"\n";

#[test]
fn a_paused_pipeline_stands_still_through_a_restart_and_tells_how_far_behind_it_is() {
    let bench = Bench::new();
    let (source, daemon) = bench.begun(TEXT, &[(1, 10)]);
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
fn what_leaves_the_log_while_a_pipeline_is_paused_is_told_then() {
    let bench = Bench::new();
    let (source, daemon) = bench.begun(TEXT, &[(1, 10)]);
    daemon.settle(9);
    assert!(daemon.ask(Command::Pause { pipeline: named() }).unwrap().starts_with("paused"));
    bench.send(&source, 0, 11..20);
    bench.runtime.block_on(source.partition(PartitionId(0)).unwrap().delete_below(Offset(12))).unwrap();
    let warns = |of: &str| daemon.line("p").is_some_and(|line| line.warnings.iter().any(|told| told.contains(of)));
    wait_for("the warning", || warns("3 records left the log while the pipeline was paused"));
    assert_eq!(daemon.line("p").unwrap().lag_records, 6);
    assert_eq!(daemon.ask(Command::Resume { pipeline: named() }).unwrap(), "goes on");
    daemon.settle(18);
    assert!(warns("3 records (9 to 11) of in/0 left the log before they were read") && !warns("was paused"));
    assert_eq!(bench.numbers("out"), good(1..10).into_iter().chain(good(14..20)).collect::<Vec<_>>());
}

#[test]
fn a_folder_that_is_away_stops_nothing_and_hidden_files_are_no_pipelines() {
    let bench = Bench::new();
    let (source, daemon) = bench.begun(TEXT, &[(1, 10)]);
    let (folder, away) = (bench.options.folder.clone(), bench.folder.path().join("away"));
    std::fs::write(folder.join("._p.toml"), "no TOML").unwrap();
    std::fs::rename(&folder, &away).unwrap();
    let told = bench.reload(&daemon.control);
    assert!(told.iter().all(|(_, line)| line.as_ref().unwrap_err().contains("is not there")), "{told:?}");
    bench.send(&source, 0, 11..20);
    daemon.settle(18);
    std::fs::rename(&away, &folder).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.join("q.toml")).unwrap();
    let told: BTreeMap<_, _> = bench.reload(&daemon.control).into_iter().collect();
    assert_eq!((told.len(), told["p"].as_deref()), (2, Ok("unchanged")));
    assert!(told["q"].as_ref().unwrap_err().contains("a link to a file that is not there"), "{told:?}");
}

const REMEMBERS: &str = "from = \"topic:in\"\n[columns]\nn = \"int64\"\nuser = \"string\"\n[[step]]\ndedupe = { key = [\"n\"], ttl = \"1h\" }\n[[route]]\nto = { topic = \"out\" }\n";

#[test]
fn a_checkpoint_that_is_gone_is_told_where_something_remembers_that_it_was_there() {
    let bench = Bench::new();
    let (_, daemon) = bench.begun(REMEMBERS, &[(1, 10)]);
    drop(daemon);
    std::fs::remove_file(runner::checkpoint_path(&bench.options, "p")).unwrap();
    let daemon = bench.steered();
    let is_told = |status: &PipelineStatus| {
        status.reason.as_ref().is_some_and(|reason| reason.contains("state-") && reason.contains("reset p --to"))
    };
    wait_for("the error", || daemon.line("p").is_some_and(|line| line.state == State::Failed && is_told(&line)));
    assert_eq!(bench.numbers("out"), good(1..10), "nothing is doubled");
    daemon.ask(Command::Reset { pipeline: named(), partition: None, to: ResetTo::End }).unwrap();
    daemon.settle(9);
    assert_eq!(bench.numbers("out"), good(1..10));
}

#[test]
fn a_reset_brings_a_pipeline_back_to_its_own_folder_when_its_checkpoint_is_gone_or_damaged() {
    let bench = Bench::new();
    let text = TEXT.replace("{ topic = \"out\" }", "{ parquet = \"out\", roll = \"100ms\" }");
    let (source, mut daemon) = bench.begun(&text, &[(1, 10)]);
    let path = runner::checkpoint_path(&bench.options, "p");
    for (damage, next) in [(None, 11), (Some("damaged"), 21)] {
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        damage.iter().for_each(|bytes| std::fs::write(&path, bytes).unwrap());
        daemon = bench.steered();
        wait_for("what to do", || {
            let told = daemon.line("p").and_then(|line| line.reason);
            told.is_some_and(|told| told.contains("reset"))
        });
        daemon.ask(Command::Reset { pipeline: named(), partition: None, to: ResetTo::End }).unwrap();
        bench.send(&source, 0, next..next + 9);
        wait_for("its rows", || bench.rows(TO_PARQUET).contains(&(next + 8)));
    }
    let all = [good(1..10), good(11..20), good(21..30)].concat();
    assert_eq!(bench.rows(TO_PARQUET), all);
}

#[test]
fn a_pipeline_that_writes_within_anothers_folder_is_refused() {
    let bench = Bench::new();
    let text = TEXT.replace("{ topic = \"out\" }", "{ parquet = \"lake\", roll = \"100ms\" }");
    let (_, daemon) = bench.begun(&text, &[(1, 10)]);
    std::fs::write(bench.options.folder.join("q.toml"), text.replace("lake", "lake/within")).unwrap();
    let told: BTreeMap<_, _> = bench.reload(&daemon.control).into_iter().collect();
    let refused = told["q"].as_ref().unwrap_err();
    assert!(refused.contains("it writes to lake/within, and pipeline p to lake"), "{refused}");
    // Not by one whose file is gone.
    std::fs::remove_file(bench.options.folder.join("p.toml")).unwrap();
    bench.reload(&daemon.control);
    wait_for("the other one", || daemon.line("q").is_some_and(|line| line.state == State::Running));
}

#[test]
fn what_was_remembered_of_a_topic_that_is_made_anew_is_told_to_be_gone() {
    let bench = Bench::new();
    let (_, daemon) = bench.begun(REMEMBERS, &[(1, 10)]);
    bench.runtime.block_on(bench.store.delete_topic(&TopicName::new("in").unwrap())).unwrap();
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..5);
    wait_for("the warning", || {
        daemon
            .line("p")
            .is_some_and(|line| line.warnings.iter().any(|one| one.contains("made anew") && one.contains("is gone")))
    });
    daemon.settle(4);
}

#[test]
fn a_reload_refuses_steps_that_remember_on_a_topic_that_is_not_keyed() {
    let bench = Bench::new();
    let (_, daemon) = bench.begun(TEXT, &[(1, 10), (11, 20)]);
    bench.write(REMEMBERS);
    let told = bench.reload(&daemon.control);
    assert!(told[0].1.as_ref().unwrap_err().contains("2 partitions"), "{told:?}");
    let line = daemon.line("p").unwrap();
    assert!(line.warnings.iter().any(|one| one.contains("2 partitions")), "at once: {line:?}");
}

#[test]
fn a_reset_of_one_partition_reads_that_one_again_from_an_offset() {
    let bench = Bench::new();
    let (_, daemon) = bench.begun(TEXT, &[(1, 10), (11, 20)]);
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

/// Odd numbers to one output, even ones to another.
const ROUTES: &str = "from = \"topic:in\"\n[columns]\nn = \"int64\"\n[[step]]\nselect = \"n\"
[[route]]\nwhere = \"n % 2 = 0\"\nto = { parquet = \"even\", roll = \"100ms\" }
[[route]]\notherwise = true\nto = { topic = \"odd\" }\n";

/// Times of the bench's records are minutes 0 to 3.
fn minute(n: i64) -> i64 {
    1_700_000_000_000 + n * 60_000
}

#[test]
fn a_backfill_has_each_row_of_its_range_once_after_a_crash_at_any_step() {
    let one = |step: Step| {
        let bench = Bench::new();
        let (_, daemon) = bench.begun(ROUTES, &[(1, 40), (41, 80)]);
        bench.hooks.crash_at(step, 1);
        let backfill = |to: &[&str], is_sure| {
            let to = to.iter().map(|to| (*to).to_owned()).collect();
            daemon.ask(Command::Backfill { pipeline: named(), from: minute(0), until: minute(9), to, is_sure })
        };
        backfill(&["parquet even=again", "topic odd=odd-again"], false).unwrap();
        let told = daemon.ended();
        assert!(bench.hooks.has_crashed(), "{step:?} was never reached");
        assert!(told.starts_with("done: 78 records"), "{told}");
        let is_even = |n: &i64| n % 2 == 0;
        let all = [good(1..40), good(41..80)].concat();
        let of = |even: bool| all.iter().copied().filter(|n| is_even(n) == even).collect::<Vec<i64>>();
        for (files, topic) in [("even", "odd"), ("again", "odd-again")] {
            assert_eq!((bench.files(files), bench.numbers(topic)), (of(true), of(false)), "{files} after {step:?}");
        }
        // What fails is a letter again.
        assert_eq!(bench.letters("in-dlt").len(), 2 * [bad(1..40), bad(41..80)].concat().len());
    };
    std::thread::scope(|scope| {
        for step in [Step::Appended, Step::Written, Step::Lettered, Step::Staged, Step::Saved, Step::Renamed] {
            scope.spawn(move || one(step));
        }
    });
}

#[test]
fn a_backfill_into_the_same_output_is_asked_for_twice_and_one_of_several_outputs_is_named() {
    let bench = Bench::new();
    let (_, daemon) = bench.begun(ROUTES, &[(1, 10)]);
    let backfill = |to: &[&str], is_sure| {
        let to = to.iter().map(|to| (*to).to_owned()).collect();
        daemon.ask(Command::Backfill { pipeline: named(), from: minute(0), until: minute(9), to, is_sure })
    };
    let refused = backfill(&[], false).unwrap_err();
    assert!(refused.contains("twice") && refused.contains("--to") && refused.contains("--yes"), "{refused}");
    assert!(backfill(&["again"], false).unwrap_err().contains("parquet even=NAME"));
    assert!(backfill(&["parquet even=even"], false).unwrap_err().contains("another folder"));
    assert!(backfill(&["parquet even=../x"], false).unwrap_err().contains("below the output folder"));
    for own in ["parquet even=even/", "parquet even=even/sub", "topic odd=odd", "topic odd=in", "topic odd=in-dlt"] {
        assert!(backfill(&[own], true).unwrap_err().contains("another folder or topic"), "{own}");
    }
    assert!(backfill(&["topic odd=x", "topic odd=y"], true).unwrap_err().contains("named twice"));
    backfill(&["topic odd=more"], false).unwrap();
    daemon.ended();
    // The output that is not named gets nothing.
    assert_eq!((bench.files("even"), bench.numbers("more")), (vec![2, 4, 6, 8], vec![1, 3, 5, 7, 9]));
    backfill(&[], true).unwrap();
    daemon.ended();
    assert_eq!(bench.files("even"), [2, 2, 4, 4, 6, 6, 8, 8]);
    assert_eq!(bench.numbers("odd"), [1, 1, 3, 3, 5, 5, 7, 7, 9, 9]);
}

#[test]
fn a_backfill_into_one_output_neither_waits_for_another_nor_says_that_it_lacks_a_row() {
    let bench = Bench::new();
    let (_, daemon) = bench.begun(ROUTES, &[(1, 30)]);
    let outputs = || {
        let letters = bench.records("in-dlt").into_iter();
        let output = |letter: Record| {
            letter.headers.iter().find(|(name, _)| name.as_ref() == b"inrush-dlt-output").unwrap().1.clone().unwrap()
        };
        letters.map(output).collect::<Vec<_>>()
    };
    assert_eq!(outputs(), ["parquet even, topic odd"; 2]);
    bench.hooks.sink(|_, output, _| match output == "parquet even" {
        true => Err(WriteError::Down("the cable is out".to_owned())),
        false => Ok(()),
    });
    let to = vec!["topic odd=more".to_owned()];
    let backfill = Command::Backfill { pipeline: named(), from: minute(0), until: minute(9), to, is_sure: false };
    daemon.ask(backfill).unwrap();
    daemon.ended();
    assert_eq!(bench.numbers("more"), good(1..30).into_iter().filter(|n| n % 2 == 1).collect::<Vec<_>>());
    assert_eq!(outputs()[2..], ["topic more"; 2]);
}

#[test]
fn a_reset_does_not_begin_anew_where_the_checkpoint_cannot_be_read_now() {
    let bench = Bench::new();
    let (source, daemon) = bench.begun(TEXT, &[(1, 10)]);
    daemon.ask(Command::Pause { pipeline: named() }).unwrap();
    wait_for("the pause", || daemon.line("p").is_some_and(|line| line.state == State::Paused));
    // The system cannot follow it: an error that passes.
    let path = runner::checkpoint_path(&bench.options, "p");
    let aside = path.with_extension("aside");
    std::fs::rename(&path, &aside).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let refused = daemon.ask(Command::Reset { pipeline: named(), partition: None, to: ResetTo::Start }).unwrap_err();
    assert!(refused.contains("not moved"), "{refused}");
    assert!(path.is_symlink(), "nothing was written in its place");
    wait_for("the failure", || daemon.line("p").is_some_and(|line| line.state == State::Failed));
    std::fs::rename(&aside, &path).unwrap();
    bench.reload(&daemon.control);
    daemon.ask(Command::Resume { pipeline: named() }).unwrap();
    bench.send(&source, 0, 11..20);
    daemon.settle(18);
    assert_eq!(bench.numbers("out"), [good(1..10), good(11..20)].concat());
}

#[test]
fn a_pipeline_that_hangs_at_its_checkpoint_while_it_is_paused_is_there_once_it_wakes() {
    use std::os::unix::fs::OpenOptionsExt;
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.write(TEXT);
    let daemon = bench.steered_with(Duration::from_millis(500));
    bench.send(&source, 0, 1..10);
    daemon.settle(9);
    // Whoever writes into it waits for a reader.
    let path = runner::checkpoint_path(&bench.options, "p").with_extension("new");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    bench.send(&source, 0, 11..20);
    wait_for("the rows", || bench.numbers("out").len() == 18);
    assert!(daemon.ask(Command::Pause { pipeline: named() }).unwrap().starts_with("paused"));
    assert!(daemon.line("p").unwrap().reason.unwrap().contains("as soon as it can be"));
    let reader = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    wait_for("the pause", || daemon.line("p").is_some_and(|line| line.state == State::Paused));
    drop(reader);
    assert_eq!(daemon.ask(Command::Resume { pipeline: named() }).unwrap(), "goes on");
    daemon.settle(18);
    assert_eq!(bench.numbers("out"), [good(1..10), good(11..20)].concat());
}

#[test]
fn a_backfill_into_a_folder_of_another_pipeline_does_not_begin() {
    use super::super::sink::{lake, place::Place};
    let bench = Bench::new();
    let (_, daemon) = bench.begun(&TEXT.replace("topic = \"out\"", "parquet = \"out\", roll = \"100ms\""), &[(1, 10)]);
    let other = lake::Owner {
        cluster: bench.store.cluster_id(),
        pipeline: uuid::Uuid::from_u128(7),
        name: "other".to_owned(),
        generation: 0,
    };
    let taken = bench.options.out.join("taken");
    std::fs::create_dir_all(taken.join("_inrush")).unwrap();
    lake::claim(&Place::Folder(taken), &other).unwrap();
    let backfill = |to: &str| {
        let (from, until, to) = (minute(0), minute(9), vec![to.to_owned()]);
        daemon.ask(Command::Backfill { pipeline: named(), from, until, to, is_sure: false })
    };
    assert!(backfill("taken").unwrap_err().contains("belongs to pipeline \"other\""));
    assert!(backfill("free").unwrap().contains("being fed"));
    daemon.ended();
}

#[test]
fn a_topic_of_a_cluster_that_gets_topic_ids_is_the_one_it_was() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..31);
    let job = bench.job(&text(TO_PARQUET, ""));
    bench.finish(&job);
    let path = runner::checkpoint_path(&bench.options, "p");
    let mut checkpoint = Checkpoint::load(&path).unwrap().unwrap();
    checkpoint.topic = Some(uuid::Uuid::nil());
    checkpoint.save(&path).unwrap();
    bench.send(&source, 0, 31..60);
    bench.finish(&job);
    assert_eq!(bench.rows(TO_PARQUET), good(1..60));
    assert_eq!(Checkpoint::load(&path).unwrap().unwrap().topic, Some(source.id));
}
