//! Many pipelines on one node: shares of the cores, commands that wait for no other pipeline's disk, and what windows wait for.

use super::*;
use crate::control::{Replay, WindowWait};
use crate::letters::Filter;

const TO_TOPIC_OF_ONE: &str = "{ topic = \"out\" }";

impl Bench {
    /// Appends numbers in batches of so many; none is broken.
    fn fill(&self, topic: &Topic, partition: i32, numbers: std::ops::Range<i64>, batch: usize) {
        let numbers: Vec<i64> = numbers.collect();
        for some in numbers.chunks(batch) {
            let mut builder = BatchBuilder::new();
            for n in some {
                let value = format!("{{\"n\":{n},\"user\":\"u{}\"}}", n % 7);
                builder.push(NewRecord { timestamp: 0, key: None, value: Some(value.as_bytes()), headers: &[] });
            }
            let batch = builder.build(Codec::None).unwrap();
            let home = topic.partition(PartitionId(partition)).unwrap();
            home.append_blocking(Append { batch, lease: None, leader_epoch: -1 }).unwrap();
        }
    }

    fn is_held(&self) -> bool {
        self.status().is_some_and(|status| status.cpu.is_held)
    }
}

#[test]
fn a_pipeline_that_has_taken_its_share_stands_still_beats_cuts_and_stops_at_once() {
    let bench = Bench::new();
    let source = bench.topic("in", 2, &[]);
    bench.fill(&source, 0, 0..40_000, 5_000);
    bench.fill(&source, 1, 40_000..80_000, 5_000);
    // What that takes of CPU time it has in minutes.
    let runs = bench.run(&bench.job(&text(TO_PARQUET, "cpu = \"5%\"")));
    let read = || bench.status().map_or(0, |status| status.records_read);
    let path = runner::checkpoint_path(&bench.options, "p");
    let cut = || Checkpoint::load(&path).unwrap().map_or(0, |checkpoint| checkpoint.committed().values().sum::<i64>());
    wait_for("the first read", || read() > 0 && bench.is_held());
    let before = runs.life.beats();
    // On a slow machine it may have had its share of another read meanwhile.
    wait_for("a cut of what was read", || cut() as u64 == read());
    wait_for("signs of life", || runs.life.beats() > before + 3);
    let has_waited = || bench.status().is_some_and(|status| status.cpu.held_seconds > 0.0);
    wait_for("the next wait", || bench.is_held() && has_waited());
    let status = bench.status().unwrap();
    assert!(status.records_read < 80_000, "{status:?}");
    assert_eq!((status.state, status.cpu.share.as_deref()), (State::Running, Some("5%")));
    assert!(status.cpu.seconds > 0.0 && status.cpu.held_seconds > 0.0, "{status:?}");
    runs.stop();
    assert!((cut() as u64) < 80_000, "it waited for its share before it stopped");
    bench.finish(&bench.job(&text(TO_PARQUET, "")));
    assert_eq!(bench.rows(TO_PARQUET), (0..80_000).collect::<Vec<_>>());
    assert!(!bench.is_held());
}

#[test]
fn to_open_a_pipeline_takes_nothing_of_the_smallest_share() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.fill(&source, 0, 0..10, 10);
    let runs = bench.run(&bench.job(&text(TO_PARQUET, "cpu = \"1%\"")));
    wait_for("the first read", || bench.status().is_some_and(|status| status.records_read == 10));
    let cpu = bench.status().unwrap().cpu;
    // Were that counted, it would be held half a minute first.
    assert!(cpu.held_seconds < 15.0, "{cpu:?}");
    runs.stop();
}

#[test]
fn a_partition_with_a_long_backlog_leaves_the_others_their_turn_in_a_share_too() {
    let bench = Bench::new();
    let source = bench.topic("in", 3, &[]);
    bench.topic("out", 1, &[]);
    let job = bench.job(&text(TO_TOPIC_OF_ONE, "cpu = \"40%\""));
    // Several reads of the first.
    bench.fill(&source, 0, 0..60_000, 2_000);
    bench.fill(&source, 2, 60_000..60_001, 1);
    let runs = bench.run(&job);
    let rows = || bench.rows(TO_TOPIC).len();
    wait_for("all rows", || rows() == 60_001);
    runs.stop();
    let number = |record: &Record| {
        serde_json::from_slice::<serde_json::Value>(record.value.as_deref().unwrap()).unwrap()["n"].as_i64().unwrap()
    };
    let order: Vec<i64> = bench.records("out").iter().map(number).collect();
    let at = order.iter().position(|n| *n == 60_000).unwrap();
    assert!(at < 59_999, "the first partition was read to its end before the third");
}

#[test]
fn a_disk_that_does_not_answer_holds_up_its_own_pipeline_s_reload_and_no_other_command() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.fill(&source, 0, 0..10, 10);
    let folder = bench.options.folder.clone();
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("p.toml"), text("{ topic = \"first\" }", "")).unwrap();
    std::fs::write(folder.join("q.toml"), text("{ topic = \"second\" }", "")).unwrap();
    let daemon = bench.steered();
    let state = |name: &str| daemon.line(name).map(|line| line.state);
    wait_for("both", || state("p") == Some(State::Running) && state("q") == Some(State::Running));
    // A disk that hangs: who opens this to read waits for somebody who writes.
    let lake = bench.options.out.join("out/_inrush");
    std::fs::create_dir_all(&lake).unwrap();
    let (versions, hanging) = (lake.join("schema.json"), bench.folder.path().join("hanging"));
    assert!(std::process::Command::new("mkfifo").arg(&versions).status().unwrap().success());
    bench.write(&text("{ parquet = \"out\", roll = \"100ms\" }", ""));
    let reload = |pipeline: Option<&str>| Command::Reload { pipeline: pipeline.map(str::to_owned), drop_state: false };
    let (control, runtime) = (daemon.control.clone(), bench.runtime.handle().clone());
    let all = reload(None);
    let asked = std::thread::spawn(move || runtime.block_on(control.ask(all)).unwrap());
    assert_eq!(daemon.ask(reload(Some("q"))), Ok("unchanged".to_owned()));
    for name in ["q", "p"] {
        daemon.ask(Command::Pause { pipeline: name.to_owned() }).unwrap();
        wait_for("the pause", || state(name) == Some(State::Paused));
        daemon.ask(Command::Resume { pipeline: name.to_owned() }).unwrap();
        wait_for("the rest", || state(name) == Some(State::Running));
    }
    assert!(!asked.is_finished(), "the disk was not waited for");
    std::fs::rename(&versions, &hanging).unwrap();
    std::fs::write(&hanging, "{\"versions\":[]}").unwrap();
    let answer = asked.join().unwrap();
    let told: Vec<_> = answer.iter().map(|(name, told)| (name.as_str(), told.as_deref())).collect();
    assert_eq!(told, [("p", Ok("swapped")), ("q", Ok("unchanged"))]);
    bench.fill(&source, 0, 10..20, 10);
    wait_for("rows of the new text", || bench.rows(TO_PARQUET) == (10..20).collect::<Vec<_>>());
}

#[test]
fn a_replay_whose_folder_got_a_newer_column_meanwhile_ends_in_the_shape_that_it_began_with() {
    let old = |more: &str, right: &str| {
        format!(
            "from = \"topic:in\"\nselect = \"cast({right} as bigint) as n, user{more}\"\nto = {{ parquet = \"out\", roll = \"100ms\" }}\n[columns]\ntext = {{ path = \"/n\", type = \"string\" }}\nuser = \"string\"\n"
        )
    };
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.write(&old("", "text"));
    let daemon = bench.steered();
    bench.send(&source, 0, 1..60);
    daemon.settle(59);
    let mended = "replace(text, 'bad ', '')";
    bench.write(&old("", mended));
    bench.reload(&daemon.control);
    bench.hooks.sink(|_, _, _| Err(WriteError::Down("the cable is out".to_owned())));
    let replay = Command::Replay { pipeline: "p".to_owned(), filter: Filter::default(), how: Replay::default() };
    assert!(daemon.ask(replay).unwrap().contains("5 letters"));
    wait_for("the stalled replay", || daemon.line("p/replay").is_some_and(|line| line.state == State::Stalled));
    bench.write(&old(", 1 as more", mended));
    let answer = bench.reload(&daemon.control);
    assert!(answer.iter().all(|(_, told)| told.as_deref() == Ok("swapped")), "{answer:?}");
    let versions = bench.options.out.join("out/_inrush/schema.json");
    wait_for("the new column", || std::fs::read_to_string(&versions).unwrap().contains("more"));
    bench.hooks.sink(|_, _, _| Ok(()));
    assert!(daemon.ended().starts_with("done: 5 letters"), "{}", daemon.ended());
    bench.send(&source, 0, 61..65);
    daemon.settle(63);
    assert_eq!(bench.rows(TO_PARQUET), (1..60).chain(61..65).collect::<Vec<_>>());
}

#[test]
fn status_names_the_partition_whose_time_holds_windows_open() {
    let text = "from = \"topic:in\"\n[columns]\nn = \"int64\"\nts = \"timestamp(ms)\"\n[[step]]\nwindow = { tumbling = \"1s\", time = \"ts\", select = \"count(*) as views\" }\n[[route]]\nto = { topic = \"out\" }\n";
    let bench = Bench::new();
    // No mark moves anything here.
    bench.hooks.set_quiet_after(Duration::from_secs(1 << 40));
    let source = bench.topic("in", 2, &[]);
    let began = 1_700_000_000_000;
    let send = |partition: i32, ms: i64| {
        let value = format!("{{\"n\":1,\"ts\":{}}}", began + ms);
        bench.send_events(&source, partition, &[(began + ms, "k".to_owned(), value)]);
    };
    let runs = bench.run(&bench.job(text));
    let waits = || bench.status().map_or(Vec::new(), |status| status.windows_wait_for);
    let of_second = |time: Option<&str>| {
        let time = time.map(str::to_owned);
        move |waits: &[WindowWait]| matches!(waits, [wait] if wait.partition == 1 && wait.time == time)
    };
    send(0, 100);
    send(0, 5_000);
    wait_for("an empty partition is named", || of_second(None)(&waits()));
    send(1, 200);
    wait_for("one that stands still is named", || of_second(Some("2023-11-14T22:13:20.200Z"))(&waits()));
    send(1, 6_000);
    wait_for("nothing is waited for", || waits().is_empty() && bench.records("out").len() == 1);
    runs.stop();
}

#[test]
fn windows_that_end_ahead_of_the_clock_wait_for_it_and_for_no_partition() {
    let text = "from = \"topic:in\"\n[columns]\nn = \"int64\"\nts = \"timestamp(ms)\"\n[[step]]\nwindow = { tumbling = \"1s\", time = \"ts\", select = \"count(*) as views\" }\n[[route]]\nto = { topic = \"out\" }\n";
    let bench = Bench::new();
    bench.hooks.set_quiet_after(Duration::from_secs(1 << 40));
    let source = bench.topic("in", 2, &[]);
    let now = bench.options.clock.now_ms();
    let send = |ms: i64| {
        let value = format!("{{\"n\":1,\"ts\":{ms}}}");
        bench.send_events(&source, 0, &[(now, "k".to_owned(), value)]);
    };
    let runs = bench.run(&bench.job(text));
    send(now + 200_000);
    send(now + 210_000);
    let read = || bench.status().filter(|status| status.records_read == 2);
    wait_for("both", || read().is_some());
    let later = read().unwrap().beat_ms + 3_000;
    wait_for("a later status", || read().is_some_and(|status| status.beat_ms > later));
    assert!(read().unwrap().windows_wait_for.is_empty(), "{:?}", read());
    runs.stop();
}

/// A pipeline whose last cut waits until the file that this gives is opened to be read.
fn hang_the_next_cut(bench: &Bench, name: &str) -> std::path::PathBuf {
    let path = runner::checkpoint_path(&bench.options, name).with_extension("new");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

fn let_go(hanging: &Path) -> std::fs::File {
    use std::os::unix::fs::OpenOptionsExt;
    let reader = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(hanging).unwrap();
    std::fs::remove_file(hanging).unwrap();
    reader
}

/// Two pipelines that run, of which `p` hangs in its next cut.
fn begin_hanging(bench: &Bench) -> (replays::Supervised<'_>, std::path::PathBuf) {
    let source = bench.topic("in", 1, &[]);
    std::fs::create_dir_all(&bench.options.folder).unwrap();
    std::fs::write(bench.options.folder.join("q.toml"), text("{ topic = \"second\" }", "")).unwrap();
    bench.write(&text(TO_TOPIC_OF_ONE, ""));
    let daemon = bench.steered();
    bench.fill(&source, 0, 0..10, 10);
    daemon.settle(10);
    let hanging = hang_the_next_cut(bench, "p");
    bench.fill(&source, 0, 10..20, 10);
    wait_for("its rows", || bench.records("out").len() == 20);
    (daemon, hanging)
}

fn asked(
    bench: &Bench,
    daemon: &replays::Supervised<'_>,
    command: Command,
) -> std::thread::JoinHandle<Result<String, String>> {
    let (control, runtime) = (daemon.control.clone(), bench.runtime.handle().clone());
    std::thread::spawn(move || runtime.block_on(control.ask(command)).unwrap().remove(0).1)
}

#[test]
fn a_last_cut_that_takes_long_holds_up_no_command_of_another_pipeline() {
    let bench = Bench::new();
    let (daemon, hanging) = begin_hanging(&bench);
    let pause = |name: &str| Command::Pause { pipeline: name.to_owned() };
    let reset =
        asked(&bench, &daemon, Command::Reset { pipeline: "p".to_owned(), partition: None, to: ResetTo::Start });
    assert!(daemon.ask(pause("q")).unwrap().starts_with("paused"));
    wait_for("the pause", || daemon.line("q").is_some_and(|line| line.state == State::Paused));
    assert!(!reset.is_finished(), "nothing hung");
    let reader = let_go(&hanging);
    assert!(reset.join().unwrap().unwrap().starts_with("moved"));
    drop(reader);
    wait_for("all rows twice", || bench.records("out").len() == 40);
}

#[test]
fn what_was_paused_or_reset_is_not_brought_back_without_its_file() {
    let bench = Bench::new();
    let (daemon, hanging) = begin_hanging(&bench);
    let reset = || Command::Reset { pipeline: "p".to_owned(), partition: None, to: ResetTo::Start };
    let halted = asked(&bench, &daemon, Command::Pause { pipeline: "p".to_owned() });
    wait_for("its note", || runner::paused_path(&bench.options, "p").exists());
    std::fs::remove_file(bench.options.folder.join("p.toml")).unwrap();
    let reader = let_go(&hanging);
    let told = halted.join().unwrap().unwrap_err();
    assert!(told.contains("its file is gone"), "{told}");
    drop(reader);
    assert!(daemon.line("p").is_none(), "it is off the board");
    assert!(daemon.ask(reset()).unwrap_err().contains("no pipeline is named p"));
    // One that runs on, because nobody has told the daemon yet.
    std::fs::remove_file(bench.options.folder.join("q.toml")).unwrap();
    for command in [Command::Pause { pipeline: "q".to_owned() }, Command::Resume { pipeline: "q".to_owned() }] {
        assert!(daemon.ask(command).unwrap_err().contains("q.toml is gone"));
    }
    bench.reload(&daemon.control);
    assert!(daemon.line("q").is_none());
}

#[test]
fn who_asks_for_a_backfill_is_told_what_does_not_answer() {
    let bench = Bench::new();
    let (_, daemon) = bench.begun(&text("{ parquet = \"out\", roll = \"100ms\" }", ""), &[(1, 10)]);
    let lake = bench.options.out.join("again/_inrush");
    std::fs::create_dir_all(&lake).unwrap();
    let versions = lake.join("schema.json");
    assert!(std::process::Command::new("mkfifo").arg(&versions).status().unwrap().success());
    let (from, until, to) = (0, i64::MAX, vec!["again".to_owned()]);
    let told = daemon.ask(Command::Backfill { pipeline: "p".to_owned(), from, until, to, is_sure: false }).unwrap_err();
    assert!(told.contains("waits for the folders that it is to write to"), "{told}");
    // It is begun all the same.
    let aside = bench.folder.path().join("aside");
    std::fs::rename(&versions, &aside).unwrap();
    std::fs::write(&aside, "{\"versions\":[]}").unwrap();
    daemon.ended();
    assert_eq!(bench.files("again"), good(1..10));
}
