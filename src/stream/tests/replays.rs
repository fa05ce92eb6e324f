//! Dead letters that are replayed: each becomes its rows once, in the outputs that lack it, whatever crashes, falls or ends meanwhile.

use super::super::replay;
use super::*;
use crate::control::Replay;
use crate::letters::{Filter, Letters};
use arrow::datatypes::Int32Type;

/// Even numbers to Parquet, all to a topic. `bad 10` is no number, so every tenth record dies.
const BROKEN: &str = "from = \"topic:in\"\nbreaker\n[columns]\nn = \"int64\"\nuser = \"string\"\n
[[step]]\nselect = \"n, user\"
[[route]]\nwhere = \"n % 20 <> 1\"\nto = { parquet = \"even\", roll = \"100ms\" }
[[route]]\nto = { topic = \"all\", key = \"user\" }\n";

fn broken() -> String {
    BROKEN.replace("breaker", "on-error = { retry = 2, backoff = \"10ms\" }")
}

/// What is no number is made one, but for 40.
fn mended() -> String {
    broken().replace("n = \"int64\"\n", "text = { path = \"/n\", type = \"string\" }\n").replace(
        "select = \"n, user\"",
        "select = \"cast(case when text = 'bad 40' then text else replace(text, 'bad ', '') end as bigint) as n, user\"",
    )
}

pub(super) struct Supervised<'a> {
    bench: &'a Bench,
    pub(super) control: Control,
    running: Option<supervisor::Running>,
}

impl Drop for Supervised<'_> {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop(PATIENCE);
        }
    }
}

impl Bench {
    pub(super) fn write(&self, text: &str) {
        std::fs::create_dir_all(&self.options.folder).unwrap();
        std::fs::write(self.options.folder.join("p.toml"), text).unwrap();
    }

    /// What runs the files of the folder, without hooks.
    pub(super) fn supervised(&self) -> (Control, supervisor::Running) {
        self.supervised_with(Hooks::default(), PATIENCE)
    }

    fn supervised_with(&self, hooks: Hooks, silence_max: Duration) -> (Control, supervisor::Running) {
        let (control, requests) = Control::new();
        let options = Options {
            store: self.store.clone(),
            control: control.clone(),
            clock: Clock::System,
            folder: self.options.folder.clone(),
            out: self.options.out.clone(),
            data: self.options.data.clone(),
            runtime: self.runtime.handle().clone(),
        };
        let running = supervisor::start_with(options, requests, hooks, silence_max).unwrap();
        (control, running)
    }

    /// The same with this bench's hooks.
    pub(super) fn steered(&self) -> Supervised<'_> {
        self.steered_with(PATIENCE)
    }

    /// The same, which waits for a silent pipeline no longer than that.
    pub(super) fn steered_with(&self, silence_max: Duration) -> Supervised<'_> {
        let (control, running) = self.supervised_with(self.hooks.clone(), silence_max);
        Supervised { bench: self, control, running: Some(running) }
    }

    /// A pipeline that has read the topic `in`, which has a partition for each range of numbers.
    pub(super) fn begun(&self, text: &str, numbers: &[(i64, i64)]) -> (Arc<Topic>, Supervised<'_>) {
        let source = self.topic("in", numbers.len() as i32, &[]);
        self.write(text);
        let daemon = self.steered();
        for (partition, (from, end)) in numbers.iter().enumerate() {
            self.send(&source, partition as i32, *from..*end);
        }
        daemon.settle(numbers.iter().map(|(from, end)| end - from).sum());
        (source, daemon)
    }

    fn open_letters(&self) -> u64 {
        let letters = Letters::new(self.store.clone(), self.options.data.clone());
        letters.choose(&letters.topic("in").unwrap(), &Filter::default(), false, |_| true).unwrap().count
    }

    fn staged_folders(&self) -> usize {
        std::fs::read_dir(self.options.out.join("even").join("_inrush"))
            .map_or(0, |entries| entries.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count())
    }
}

impl Supervised<'_> {
    pub(super) fn line(&self, name: &str) -> Option<PipelineStatus> {
        self.control.statuses().into_iter().find(|status| status.name == name)
    }

    /// All records of the topic are read and cut.
    pub(super) fn settle(&self, records: i64) {
        wait_for("the pipeline", || {
            self.line("p")
                .is_some_and(|line| line.state == State::Running && line.committed.values().sum::<i64>() == records)
                && !has_staged(self.bench.folder.path())
        });
    }

    pub(super) fn ask(&self, command: Command) -> Result<String, String> {
        self.bench.runtime.block_on(self.control.ask(command)).unwrap().remove(0).1
    }

    fn replay(&self, filter: Filter, how: Replay) -> Result<String, String> {
        self.ask(Command::Replay { pipeline: named(), filter, how })
    }

    /// What the replay says at its end.
    pub(super) fn ended(&self) -> String {
        let is_over = || self.line("p/replay").filter(|line| line.state == State::Stopped);
        wait_for("the replay", || is_over().is_some());
        is_over().unwrap().reason.unwrap()
    }

    fn mend(&self) {
        self.bench.write(&mended());
        let answer = self.bench.reload(&self.control);
        assert!(answer.iter().all(|(_, done)| done.is_ok()), "{answer:?}");
    }
}

/// Numbers of 1 to 149 that an output has once all but 40 is mended.
fn expected(keep: impl Fn(&i64) -> bool) -> Vec<i64> {
    (1..150).filter(|n| *n != 40 && keep(n)).collect()
}

#[test]
fn each_letter_becomes_its_rows_once_after_a_crash_at_any_step_of_a_replay() {
    let one = |step: Step, nth: usize| {
        let bench = Bench::new();
        let (_, daemon) = bench.begun(&broken(), &[(1, 60), (60, 150)]);
        assert_eq!(bench.open_letters(), 14);
        daemon.mend();
        bench.hooks.crash_at(step, nth);
        daemon.replay(Filter::default(), Replay::default()).unwrap();
        let told = daemon.ended();
        assert!(bench.hooks.has_crashed() || nth > 1, "{step:?} was never reached");
        let when = format!("after a crash at {step:?} {nth}: {told}");
        assert_eq!(bench.files("even"), expected(|n| n % 20 != 1), "{when}");
        assert_eq!(bench.numbers("all"), expected(|_| true), "{when}");
        // What failed again is a letter once more, and alone is open.
        assert_eq!(
            bench.letters("in-dlt"),
            [10, 20, 30, 40, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140],
            "{when}"
        );
        assert_eq!(bench.open_letters(), 1, "{when}");
        assert_eq!(bench.staged_folders(), 1, "{when}");
        assert!(told.starts_with("done: 14 letters, 26 rows, 0 filtered, 1 dead letters again"), "{when}");
        // Nothing of it is left, and a second one has only what failed again.
        let again = Replay { again: false, is_dry: true };
        assert!(daemon.replay(Filter::default(), again).unwrap().starts_with("1 letters"));
    };
    std::thread::scope(|scope| {
        for step in [Step::Appended, Step::Written, Step::Lettered, Step::Staged, Step::Saved, Step::Renamed] {
            scope.spawn(move || (1..=3).for_each(|nth| one(step, nth)));
        }
    });
}

#[test]
fn rows_of_a_replay_are_those_that_the_record_would_have_made() {
    let bench = Bench::new();
    let source = bench.topic("in", 2, &[]);
    let select = "select = \"n, user, _offset, _partition, _timestamp, _headers\"";
    bench.write(&broken().replace("select = \"n, user\"", select));
    let daemon = bench.steered();
    bench.send(&source, 1, 1..31);
    daemon.settle(30);
    let mended = mended().replace("as n, user\"", "as n, user, _offset, _partition, _timestamp, _headers\"");
    bench.write(&mended);
    bench.reload(&daemon.control);
    daemon.replay(Filter::default(), Replay::default()).unwrap();
    daemon.ended();
    let rows: Vec<(serde_json::Value, Record)> = bench
        .records("all")
        .into_iter()
        .map(|record| (serde_json::from_slice(record.value.as_deref().unwrap()).unwrap(), record))
        .collect();
    let row = |n: i64| rows.iter().find(|(row, _)| row["n"] == n).unwrap();
    let ((lived, first), (died, second)) = (row(9), row(10));
    assert_eq!((died["_offset"].as_i64(), died["_partition"].as_i64()), (Some(9), Some(1)));
    assert_eq!(second.timestamp, 1_700_000_000_000 + (10 % 4) * 60_000);
    // But for the mark of another pipeline, which no letter keeps.
    assert_eq!(died["_headers"].as_array().unwrap()[..], lived["_headers"].as_array().unwrap()[..1]);
    assert!(first.headers.iter().all(|(name, _)| name.as_ref() == b"h" || name.as_ref() == b"inrush-source"));
    assert!(second.headers.iter().all(|(name, _)| name.as_ref() == b"h" || name.as_ref() == b"inrush-source"));
}

#[test]
fn source_columns_of_a_replay_are_those_of_the_record_and_not_of_its_letter() {
    let bench = Bench::new();
    let source = bench.topic("in", 2, &[]);
    let sourced = |text: String| text.replace("roll = \"100ms\"", "source-columns = true, roll = \"100ms\"");
    bench.write(&sourced(broken()));
    let daemon = bench.steered();
    bench.send(&source, 1, 1..31);
    daemon.settle(30);
    bench.write(&sourced(mended()));
    bench.reload(&daemon.control);
    daemon.replay(Filter::default(), Replay::default()).unwrap();
    daemon.ended();
    let mut places = Vec::new();
    for file in std::fs::read_dir(bench.options.out.join("even")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "parquet") {
            continue;
        }
        let file = std::fs::File::open(path).unwrap();
        let rows = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        for rows in rows.map(Result::unwrap) {
            let of = |name: &str| rows.column_by_name(name).unwrap();
            let (n, offset) = (of("n").as_primitive::<Int64Type>(), of("_offset").as_primitive::<Int64Type>());
            let partition = of("_partition").as_primitive::<Int32Type>();
            places.extend((0..rows.num_rows()).map(|at| (n.value(at), partition.value(at), offset.value(at))));
        }
    }
    places.sort_unstable();
    let expected: Vec<_> = (1..31).filter(|n| n % 20 != 1).map(|n| (n, 1, n - 1)).collect();
    assert_eq!(places, expected);
}

/// One of nine records is too large for the topic `all`, and so a letter of it alone; the pipeline's text, and what makes room.
fn one_letter(bench: &Bench) -> (String, Supervised<'_>, impl Fn()) {
    let source = bench.topic("in", 1, &[]);
    let all = bench.topic("all", 1, &[("max.message.bytes", "400"), ("compression.type", "uncompressed")]);
    let text = broken()
        .replace("select = \"n, user\"", "select = \"n, repeat(user, case n when 7 then 200 else 1 end) as user\"");
    bench.write(&text);
    let daemon = bench.steered();
    bench.send(&source, 0, 1..10);
    daemon.settle(9);
    assert_eq!((bench.files("even").len(), bench.numbers("all").len()), (8, 8), "7 is too large for the topic");
    let make_room = move || {
        let room = vec![("max.message.bytes".to_owned(), Some("100000".to_owned()))];
        bench.runtime.block_on(bench.store.alter_topic(&all.name, room)).unwrap();
    };
    (text, daemon, make_room)
}

#[test]
fn only_the_output_that_lacks_a_letter_gets_it() {
    let bench = Bench::new();
    let (_, daemon, make_room) = one_letter(&bench);
    let why = |filter: Filter| daemon.replay(filter, Replay { is_dry: true, ..Replay::default() }).unwrap();
    assert!(why(Filter::default()).contains("1 letters of in-dlt would make 1 rows"), "{}", why(Filter::default()));
    assert!(why(Filter { reason: Some("overflow".to_owned()), ..Filter::default() }).starts_with("0 letters"));
    // It does not fit yet: a letter again, which names the topic alone, and where it first came from.
    daemon.replay(Filter::default(), Replay::default()).unwrap();
    assert!(daemon.ended().contains("1 dead letters again"));
    let letter = bench.records("in-dlt").pop().unwrap();
    let header =
        |name: &str| letter.headers.iter().find(|(own, _)| own.as_ref() == name.as_bytes()).unwrap().1.clone().unwrap();
    assert_eq!(header("inrush-dlt-output"), "topic all");
    assert_eq!(header("kafka_dlt-original-topic"), "in");
    make_room();
    daemon.replay(Filter::default(), Replay::default()).unwrap();
    assert!(daemon.ended().starts_with("done: 1 letters, 1 rows, 0 filtered, 0 dead"));
    assert_eq!((bench.files("even").len(), bench.numbers("all")), (8, (1..10).collect::<Vec<i64>>()));
    assert_eq!(bench.open_letters(), 0);
    let nothing = daemon.replay(Filter::default(), Replay::default()).unwrap();
    assert!(nothing.contains("nothing to replay") && nothing.contains("--again"), "{nothing}");
    // Who insists gets it twice.
    daemon.replay(Filter { from: Some(1), ..Filter::default() }, Replay { again: true, is_dry: false }).unwrap();
    daemon.ended();
    assert_eq!((bench.files("even").len(), bench.numbers("all").len()), (8, 10));
}

#[test]
fn a_letter_of_which_all_rows_go_elsewhere_by_now_is_a_letter_again() {
    let bench = Bench::new();
    let (text, daemon, make_room) = one_letter(&bench);
    make_room();
    // The other output has it already, and this one gets it no more.
    bench.write(&text.replace("[[route]]\nto = { topic", "[[route]]\nwhere = \"n <> 7\"\nto = { topic"));
    bench.reload(&daemon.control);
    let why = daemon.replay(Filter::default(), Replay { is_dry: true, ..Replay::default() }).unwrap();
    assert!(why.contains("0 rows; 0 rows would be filtered, 1 records would fail again"), "{why}");
    daemon.replay(Filter::default(), Replay::default()).unwrap();
    let told = daemon.ended();
    assert!(told.starts_with("done: 1 letters, 0 rows, 0 filtered, 1 dead letters again"), "{told}");
    let letter = bench.records("in-dlt").pop().unwrap();
    let header = |name: &str| letter.headers.iter().find(|(own, _)| own.as_ref() == name.as_bytes()).unwrap().1.clone();
    assert_eq!(header("inrush-dlt-reason").unwrap(), "other-output");
    assert_eq!(header("inrush-dlt-output").unwrap(), "topic all");
    assert_eq!((bench.files("even").len(), bench.open_letters()), (8, 1));
    bench.write(&text);
    bench.reload(&daemon.control);
    daemon.replay(Filter::default(), Replay::default()).unwrap();
    assert!(daemon.ended().starts_with("done: 1 letters, 1 rows, 0 filtered, 0 dead"));
    assert_eq!((bench.files("even").len(), bench.numbers("all")), (8, (1..10).collect::<Vec<i64>>()));
}

#[test]
fn a_replay_whose_output_is_down_waits_and_goes_on_after_the_daemon_does() {
    let bench = Bench::new();
    let (_, daemon) = bench.begun(&broken(), &[(1, 150)]);
    daemon.mend();
    let is_down = Arc::new(AtomicBool::new(true));
    let down = is_down.clone();
    bench.hooks.sink(move |_, output, _| match output == "parquet even" && down.load(Ordering::SeqCst) {
        true => Err(WriteError::Down("the cable is out".to_owned())),
        false => Ok(()),
    });
    daemon.replay(Filter::default(), Replay::default()).unwrap();
    let stalled = || daemon.line("p/replay").filter(|line| line.state == State::Stalled);
    wait_for("the stalled replay", || stalled().is_some());
    assert!(stalled().unwrap().reason.unwrap().contains("cable"));
    let busy = daemon.replay(Filter::default(), Replay::default()).unwrap_err();
    assert!(busy.contains("14 letters are being replayed") && busy.contains("--stop"), "{busy}");
    // One output may have what the other lacks: it cannot end here.
    let refused = daemon.ask(Command::StopReplay { pipeline: named(), is_sure: false }).unwrap_err();
    assert!(refused.contains("goes on"), "{refused}");
    // The live run is not held up by it, and a reload with another text does not touch it.
    drop(daemon);
    bench.write(&broken());
    let daemon = bench.steered();
    wait_for("the replay that goes on", || daemon.line("p/replay").is_some());
    is_down.store(false, Ordering::SeqCst);
    assert!(daemon.ended().starts_with("done: 14 letters, 26 rows"));
    assert_eq!(bench.files("even"), expected(|n| n % 20 != 1));
    assert_eq!(bench.numbers("all"), expected(|_| true));
    assert_eq!(bench.open_letters(), 1);
}

#[test]
fn a_replay_whose_letters_topic_is_deleted_can_be_given_up() {
    let bench = Bench::new();
    let (_, daemon) = bench.begun(&broken(), &[(1, 150)]);
    daemon.mend();
    bench.hooks.sink(|_, output, _| match output == "parquet even" {
        true => Err(WriteError::Down("the cable is out".to_owned())),
        false => Ok(()),
    });
    daemon.replay(Filter::default(), Replay::default()).unwrap();
    wait_for("the stalled replay", || daemon.line("p/replay").is_some_and(|line| line.state == State::Stalled));
    let letters = bench.store.topic("in-dlt").unwrap();
    bench.runtime.block_on(bench.store.delete_topic(&letters.name)).unwrap();
    let stop = || daemon.ask(Command::StopReplay { pipeline: named(), is_sure: false });
    let mut told = Err(String::new());
    wait_for("its end", || {
        told = stop();
        told.is_ok()
    });
    assert_eq!(told.unwrap(), "the replay ended after 0 of 14 letters; the others went with their topic");
    let next = daemon.replay(Filter::default(), Replay::default()).unwrap_err();
    assert!(next.contains("there is no topic in-dlt"), "{next}");
}

#[test]
fn a_replay_into_a_folder_whose_disk_is_away_makes_none_and_waits() {
    let bench = Bench::new();
    let (_, daemon) = bench.begun(&broken(), &[(1, 150)]);
    daemon.mend();
    let (out, away) = (bench.options.out.clone(), bench.folder.path().join("away"));
    std::fs::rename(&out, &away).unwrap();
    std::fs::create_dir(&out).unwrap();
    daemon.replay(Filter::default(), Replay::default()).unwrap();
    let reason = || daemon.line("p/replay").filter(|line| line.state == State::Stalled).and_then(|line| line.reason);
    wait_for("the stalled replay", || reason().is_some_and(|reason| reason.contains("mount the disk")));
    // Would fail if anything had been made in it.
    std::fs::remove_dir(&out).unwrap();
    std::fs::rename(&away, &out).unwrap();
    assert!(daemon.ended().starts_with("done: 14 letters, 26 rows"));
    assert_eq!(bench.files("even"), expected(|n| n % 20 != 1));
    assert_eq!(bench.numbers("all"), expected(|_| true));
}

#[test]
fn a_replay_that_is_ended_leaves_the_other_letters_open_and_the_next_one_does_not_double() {
    let bench = Bench::new();
    let (_, daemon) = bench.begun(&broken(), &[(1, 60), (60, 150)]);
    daemon.mend();
    // The second partition takes so long that it is ended before.
    let slow = Arc::new(AtomicBool::new(true));
    let (own, seen) = (slow.clone(), Arc::new(AtomicBool::new(false)));
    let at_second = seen.clone();
    bench.hooks.sink(move |_, _, offsets| {
        // Letters of the first partition are five: it is the second's once there are more.
        if offsets.len() > 5 {
            at_second.store(true, Ordering::SeqCst);
            while own.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
        Ok(())
    });
    daemon.replay(Filter { partition: Some(0), ..Filter::default() }, Replay::default()).unwrap();
    assert!(daemon.ended().starts_with("done: 5 letters"));
    daemon.replay(Filter::default(), Replay::default()).unwrap();
    wait_for("the second partition", || seen.load(Ordering::SeqCst));
    slow.store(false, Ordering::SeqCst);
    // Whether it had ended by itself meanwhile or not, each row is there once in the end.
    let _ = daemon.ask(Command::StopReplay { pipeline: named(), is_sure: false });
    let told = daemon.replay(Filter::default(), Replay::default());
    if told.is_ok_and(|told| told.contains("are being replayed")) {
        daemon.ended();
    }
    assert_eq!(bench.numbers("all"), expected(|_| true));
    assert_eq!(bench.files("even"), expected(|n| n % 20 != 1));
}

impl Supervised<'_> {
    /// Somebody who waits for the end of the replay, which has been told to stop.
    fn stopping(&self) -> std::thread::JoinHandle<Result<String, String>> {
        let stop = || {
            let (control, runtime) = (self.control.clone(), self.bench.runtime.handle().clone());
            let stop = Command::StopReplay { pipeline: named(), is_sure: false };
            std::thread::spawn(move || runtime.block_on(control.ask(stop)).unwrap().remove(0).1)
        };
        let mut stops = vec![stop(), stop()];
        wait_for("the second stop", || stops.iter().any(std::thread::JoinHandle::is_finished));
        let second = stops.iter().position(std::thread::JoinHandle::is_finished).unwrap();
        assert!(stops.remove(second).join().unwrap().is_err_and(|told| told.contains("still writing")));
        stops.remove(0)
    }
}

#[test]
fn a_replay_is_not_ended_before_it_has_passed_what_a_killed_run_of_it_wrote() {
    let bench = Bench::new();
    let (_, daemon) = bench.begun(&broken(), &[(1, 60), (60, 150)]);
    daemon.mend();
    // Rows of both partitions are in the topic, and no cut says so.
    bench.hooks.crash_at(Step::Lettered, 2);
    let (hangs, is_in) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let (own_hangs, own_is_in, hooks) = (hangs.clone(), is_in.clone(), bench.hooks.clone());
    bench.hooks.sink(move |_, _, _| {
        while hooks.has_crashed() && own_hangs.load(Ordering::SeqCst) {
            own_is_in.store(true, Ordering::SeqCst);
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Ok(())
    });
    daemon.replay(Filter::default(), Replay::default()).unwrap();
    wait_for("the next run's first rows", || is_in.load(Ordering::SeqCst));
    assert_eq!(bench.numbers("all").len(), 148, "the first run wrote all of them");
    let asked = daemon.stopping();
    hangs.store(false, Ordering::SeqCst);
    let refused = asked.join().unwrap().unwrap_err();
    assert!(refused.contains("goes on until they stand together"), "{refused}");
    assert!(daemon.ended().starts_with("done: 14 letters"));
    assert_eq!(bench.numbers("all"), expected(|_| true));
    assert_eq!(bench.files("even"), expected(|n| n % 20 != 1));
}

#[test]
fn a_replay_that_takes_long_to_end_holds_up_no_other_command() {
    let bench = Bench::new();
    let (_, daemon) = bench.begun(&broken(), &[(1, 60)]);
    daemon.mend();
    let (hangs, is_in) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let (own_hangs, own_is_in) = (hangs.clone(), is_in.clone());
    bench.hooks.sink(move |_, _, _| {
        own_is_in.store(true, Ordering::SeqCst);
        while own_hangs.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Ok(())
    });
    daemon.replay(Filter::default(), Replay::default()).unwrap();
    wait_for("its output", || is_in.load(Ordering::SeqCst));
    let asked = daemon.stopping();
    assert!(daemon.ask(Command::Pause { pipeline: named() }).unwrap().starts_with("paused"));
    assert!(!asked.is_finished(), "nothing hung");
    hangs.store(false, Ordering::SeqCst);
    let told = asked.join().unwrap();
    assert!(told.is_ok() || told.as_ref().is_err_and(|told| told.contains("goes on")), "{told:?}");
    daemon.ask(Command::Resume { pipeline: named() }).unwrap();
    // The rest is fed by it, or by the next.
    match told {
        Ok(_) if bench.open_letters() > 1 => drop(daemon.replay(Filter::default(), Replay::default())),
        _ => {}
    }
    wait_for("every row", || bench.numbers("all") == (1..60).filter(|n| *n != 40).collect::<Vec<_>>());
}

#[test]
fn letters_that_a_pipeline_cannot_take_are_refused_with_the_way_out() {
    let bench = Bench::new();
    let (_, daemon) = bench.begun(&broken(), &[(1, 31)]);
    bench.write(
        &broken().replace("[[step]]\nselect", "[[step]]\ndedupe = { key = \"n\", ttl = \"1h\" }\n[[step]]\nselect"),
    );
    bench.reload(&daemon.control);
    let refused = daemon.replay(Filter::default(), Replay::default()).unwrap_err();
    assert!(refused.contains("remember") && refused.contains("--to-topic in"), "{refused}");
    let none =
        daemon.ask(Command::Replay { pipeline: "q".to_owned(), filter: Filter::default(), how: Replay::default() });
    assert!(none.unwrap_err().contains("no pipeline is named q"));
    let none = daemon.ask(Command::StopReplay { pipeline: named(), is_sure: false }).unwrap_err();
    assert!(none.contains("no replay"), "{none}");
    // The outputs that letters name are gone: they stay.
    bench.write(
        &mended().replace("parquet = \"even\"", "parquet = \"other\"").replace("topic = \"all\"", "topic = \"new\""),
    );
    bench.reload(&daemon.control);
    let told = daemon.replay(Filter::default(), Replay::default()).unwrap();
    assert!(told.contains("nothing to replay") && told.contains("3 letters stay"), "{told}");
}

#[test]
fn a_replay_whose_end_cannot_be_noted_is_not_replaced_by_another() {
    let bench = Bench::new();
    let (_, daemon) = bench.begun(&broken(), &[(1, 150)]);
    daemon.mend();
    let handled = bench.options.data.join("dead-letters").join(bench.store.topic("in-dlt").unwrap().id.to_string());
    let own = handled.clone();
    bench.hooks.sink(move |_, _, _| {
        std::fs::create_dir_all(own.parent().unwrap()).unwrap();
        std::fs::write(&own, "damaged").unwrap();
        Ok(())
    });
    daemon.replay(Filter::default(), Replay::default()).unwrap();
    wait_for("the failed replay", || daemon.line("p/replay").is_some_and(|line| line.state == State::Failed));
    let stop = |is_sure| daemon.ask(Command::StopReplay { pipeline: named(), is_sure });
    assert!(stop(false).unwrap_err().contains("damaged"));
    std::fs::remove_file(&handled).unwrap();
    bench.hooks.sink(|_, _, _| Ok(()));
    let refused = daemon.replay(Filter::default(), Replay::default()).unwrap_err();
    assert!(refused.contains("14 letters are being replayed"), "{refused}");
    assert!(stop(false).unwrap().contains("after 14 of 14 letters"));
    assert_eq!(bench.open_letters(), 1);
    assert_eq!(bench.numbers("all"), expected(|_| true));
    assert_eq!(bench.files("even"), expected(|n| n % 20 != 1));
}

#[test]
fn a_replay_that_cannot_go_on_ends_if_somebody_agrees_that_letters_may_come_twice() {
    let bench = Bench::new();
    let (_, daemon) = bench.begun(&broken(), &[(1, 150)]);
    daemon.mend();
    bench.hooks.sink(|_, output, _| match output == "parquet even" {
        true => Err(WriteError::Down("the cable is out".to_owned())),
        false => Ok(()),
    });
    daemon.replay(Filter::default(), Replay::default()).unwrap();
    wait_for("the stalled replay", || daemon.line("p/replay").is_some_and(|line| line.state == State::Stalled));
    let stop = |is_sure| daemon.ask(Command::StopReplay { pipeline: named(), is_sure });
    let refused = stop(false).unwrap_err();
    assert!(refused.contains("--stop --yes") && refused.contains("twice"), "{refused}");
    assert!(stop(true).unwrap().contains("after 0 of 14 letters"));
    assert!(stop(true).unwrap_err().contains("no replay"));
    assert_eq!(bench.open_letters(), 14);
}

#[test]
fn a_run_of_a_replay_that_woke_late_does_not_end_the_next_one() {
    let bench = Bench::new();
    let topic = bench.topic("in-dlt", 1, &[]);
    let replay = |number| replay::Replay {
        pipeline: named(),
        fed: replay::Fed::Letters,
        to: BTreeMap::new(),
        topic: topic.id,
        chosen: BTreeMap::from([(0, crate::letters::Ranges::span(0, 2))]),
        count: 2,
        text: mended(),
        number,
    };
    let (first, second) = (replay(1), replay(2));
    second.begin(&bench.options, uuid::Uuid::nil()).unwrap();
    first.end(&bench.options, &first.chosen).unwrap();
    let begun = || replay::Replay::load(&bench.options, "p").unwrap();
    assert_eq!(begun(), Some(second.clone()));
    let letters = Letters::new(bench.store.clone(), bench.options.data.clone());
    assert!(letters.handled(&topic).unwrap().is_empty());
    second.end(&bench.options, &second.chosen).unwrap();
    assert_eq!(begun(), None);
    assert_eq!(letters.handled(&topic).unwrap(), second.chosen);
}

pub(super) fn named() -> String {
    "p".to_owned()
}
