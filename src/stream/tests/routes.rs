//! Several outputs of one pipeline, and rows that multiply: each output has each of its rows once, whatever falls, waits or crashes.

use super::*;

const COLUMNS: &str = "[columns]\nn = \"int64\"\nuser = \"string\"\n";

/// Even numbers to Parquet, those of u1 to a topic, what neither takes to another one.
fn three_ways() -> String {
    format!(
        "from = \"topic:in\"\n{COLUMNS}
[[step]]\nwhere = \"n <> 7\"
[[step]]\nselect = \"n, user\"
[[route]]\nwhere = \"n % 2 = 0\"\nto = {{ parquet = \"even\", roll = \"100ms\" }}
[[route]]\nwhere = \"user = 'u1'\"\nto = {{ topic = \"ones\", key = \"user\" }}
[[route]]\notherwise = true\nto = {{ topic = \"rest\" }}\n"
    )
}

fn is_even(n: &i64) -> bool {
    n % 2 == 0
}

fn is_of_one(n: &i64) -> bool {
    n % 7 == 1
}

impl Bench {
    /// `n` of every row in a topic, sorted.
    pub(super) fn numbers(&self, topic: &str) -> Vec<i64> {
        let number = |record: Record| {
            let value: serde_json::Value = serde_json::from_slice(&record.value.unwrap()).unwrap();
            value["n"].as_i64().unwrap()
        };
        let mut numbers: Vec<i64> = self.records(topic).into_iter().map(number).collect();
        numbers.sort_unstable();
        numbers
    }

    pub(super) fn files(&self, folder: &str) -> Vec<i64> {
        let mut rows = parquet_rows(&self.options.out.join(folder));
        rows.sort_unstable();
        rows
    }

    /// Every output of [`three_ways`] has what is its own of these numbers, once.
    fn is_divided(&self, numbers: std::ops::Range<i64>, when: &str) {
        let rows: Vec<i64> = good(numbers.clone()).into_iter().filter(|n| *n != 7).collect();
        let of = |keep: &dyn Fn(&i64) -> bool| rows.iter().copied().filter(|n| keep(n)).collect::<Vec<i64>>();
        assert_eq!(self.files("even"), of(&is_even), "even, {when}");
        assert_eq!(self.numbers("ones"), of(&is_of_one), "ones, {when}");
        assert_eq!(self.numbers("rest"), of(&|n| !is_even(n) && !is_of_one(n)), "rest, {when}");
        assert_eq!(self.letters("in-dlt"), bad(numbers), "letters, {when}");
    }
}

#[test]
fn each_output_has_its_rows_once_after_a_crash_at_any_step() {
    for step in [Step::Appended, Step::Written, Step::Lettered, Step::Staged, Step::Saved, Step::Renamed] {
        for nth in [1, 2, 5] {
            let bench = Bench::new();
            let source = bench.topic("in", 2, &[]);
            let job = bench.job(&three_ways());
            bench.send(&source, 0, 1..60);
            bench.send(&source, 1, 60..120);
            bench.hooks.crash_at(step, nth);
            bench.finish(&job);
            bench.send(&source, 0, 120..150);
            bench.finish(&job);
            assert!(bench.hooks.has_crashed() || nth > 1, "{step:?} was never reached");
            bench.is_divided(1..150, &format!("after a crash at {step:?} {nth}"));
            let status = bench.status().unwrap();
            let taken = good(1..150).len() as u64 - 1;
            let both = good(1..150).into_iter().filter(|n| is_even(n) && is_of_one(n)).count() as u64;
            assert_eq!((status.records_read, status.filtered, status.dead_letters), (149, 1, bad(1..150).len() as u64));
            assert_eq!(status.rows_written, taken + both, "{step:?} {nth}");
        }
    }
}

#[test]
fn an_output_that_is_down_waits_alone_and_catches_up() {
    for fallen in ["parquet even", "topic ones", "topic rest"] {
        let bench = Bench::new();
        let source = bench.topic("in", 1, &[]);
        let job = bench.job(&three_ways());
        let is_down = Arc::new(AtomicBool::new(false));
        let down = is_down.clone();
        bench.hooks.sink(move |_, output, _| match output == fallen && down.load(Ordering::SeqCst) {
            true => Err(WriteError::Down("the cable is out".to_owned())),
            false => Ok(()),
        });
        bench.send(&source, 0, 1..30);
        let runs = bench.run(&job);
        wait_for("the first rows", || bench.status().is_some_and(|status| status.lag_records == 0));
        is_down.store(true, Ordering::SeqCst);
        bench.send(&source, 0, 30..60);
        let others_are_there = || {
            let even = fallen == "parquet even" || bench.files("even").contains(&58);
            let ones = fallen == "topic ones" || bench.numbers("ones").contains(&57);
            let rest = fallen == "topic rest" || bench.numbers("rest").contains(&59);
            even && ones && rest && bench.letters("in-dlt") == bad(1..60)
        };
        wait_for("the other outputs", others_are_there);
        let status = bench.status().unwrap();
        let reason = status.reason.unwrap();
        assert!(status.state == State::Stalled && reason.contains(fallen) && reason.contains("cable"), "{reason}");
        assert!(status.lag_records > 0, "the one that is behind counts");
        assert!(status.committed[&0] <= status.positions[&0]);
        is_down.store(false, Ordering::SeqCst);
        bench.send(&source, 0, 60..90);
        wait_for("the output that was down", || {
            bench.status().is_some_and(|status| (status.state, status.lag_records) == (State::Running, 0))
        });
        runs.stop();
        bench.finish(&job);
        bench.is_divided(1..90, fallen);
    }
}

#[test]
fn a_record_that_one_output_refuses_waits_there_and_is_in_the_others() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    let text = three_ways().replace("[columns]", "on-error = { backoff = \"40ms\" }\n[columns]");
    let job = bench.job(&text);
    bench.send(&source, 0, 1..40);
    // 12 is at offset 11: even, and of u5.
    bench.hooks.sink(|_, output, offsets| match output == "parquet even" && offsets.contains(&11) {
        true => Err(WriteError::Refused { offset: 11, message: "not this one".to_owned() }),
        false => Ok(()),
    });
    bench.finish(&job);
    let even: Vec<i64> = good(1..40).into_iter().filter(|n| is_even(n) && *n != 12).collect();
    assert_eq!(bench.files("even"), even);
    let rest: Vec<i64> = good(1..40).into_iter().filter(|n| !is_even(n) && !is_of_one(n) && *n != 7).collect();
    assert_eq!(bench.numbers("rest"), rest);
    assert_eq!(bench.letters("in-dlt"), [10, 12, 20, 30]);
    let letters = bench.records("in-dlt");
    let is_refused = |letter: &&Record| letter.value.as_deref().is_some_and(|value| value.starts_with(b"{\"n\":12"));
    let refused = letters.iter().find(is_refused).unwrap();
    let header = |name: &str| {
        let found = refused.headers.iter().find(|(known, _)| known.as_ref() == name.as_bytes());
        found.and_then(|(_, value)| value.clone()).unwrap()
    };
    assert_eq!(header("inrush-dlt-output"), "parquet even");
    assert_eq!(header("inrush-dlt-reason"), "sink-refused");
    assert_eq!(bench.status().unwrap().retries, 2);
}

#[test]
fn a_new_output_begins_where_the_pipeline_is_and_one_that_left_is_forgotten() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    let with = |routes: &str| format!("from = \"topic:in\"\n{COLUMNS}{routes}");
    let a = "[[route]]\nto = { topic = \"a\" }\n";
    let b = "[[route]]\nto = { parquet = \"b\", roll = \"100ms\" }\n";
    let send = |numbers: std::ops::Range<i64>, text: &str| {
        bench.send(&source, 0, numbers);
        bench.finish(&bench.job(text));
    };
    send(1..9, &with(a));
    bench.finish(&bench.job(&with(&[a, b].concat())));
    send(11..19, &with(&[a, b].concat()));
    send(21..29, &with(a));
    bench.finish(&bench.job(&with(&[b, a].concat())));
    send(31..39, &with(&[b, a].concat()));
    assert_eq!(bench.numbers("a"), [good(1..9), good(11..19), good(21..29), good(31..39)].concat());
    assert_eq!(bench.files("b"), [good(11..19), good(31..39)].concat());
    // The log remembers the sequences of a topic's writers for a day: one that comes back is another writer.
    send(41..49, &with(b));
    bench.finish(&bench.job(&with(&[b, a].concat())));
    send(51..59, &with(&[b, a].concat()));
    assert_eq!(bench.numbers("a")[32..], good(51..59));
}

#[test]
fn what_waited_for_a_place_with_a_wrong_name_goes_to_the_right_one() {
    let bench = Bench::new();
    let source = bench.topic("in", 2, &[]);
    let to = |topic: &str| {
        format!(
            "from = \"topic:in\"\n{COLUMNS}[[route]]\nto = {{ topic = \"{topic}\" }}\n[[route]]\nto = {{ parquet = \"b\", roll = \"100ms\" }}\n"
        )
    };
    bench.hooks.sink(|_, output, _| match output {
        "topic wrong" => Err(WriteError::Down("nobody is there".to_owned())),
        _ => Ok(()),
    });
    let runs = bench.run(&bench.job(&to("wrong")));
    (0..2).for_each(|id| bench.send(&source, id, i64::from(id) * 100 + 1..i64::from(id) * 100 + 40));
    let all: Vec<i64> = [good(1..40), good(101..140)].concat();
    wait_for("the other output", || bench.files("b") == all);
    runs.stop();
    bench.finish(&bench.job(&to("right")));
    assert_eq!((bench.numbers("right"), bench.files("b")), (all.clone(), all.clone()));
    // One that lacks nothing leaves nothing to its like.
    bench.finish(&bench.job(&to("third")));
    bench.send(&source, 0, 201..209);
    bench.finish(&bench.job(&to("third")));
    assert_eq!(bench.numbers("third"), good(201..209));
}

#[test]
fn rows_of_one_record_that_fill_many_batches_are_there_once_after_a_crash_between_them() {
    for nth in [1, 2, 3, 7] {
        let bench = Bench::new();
        let source = bench.topic("in", 1, &[]);
        bench.topic("out", 2, &[("max.message.bytes", "4096")]);
        let text = "from = \"topic:in\"\n[columns]\nid = \"int64\"\nitems = [\"int64\"]\n[[step]]\nunnest = { list = \"items\", as = \"n\" }\n[[step]]\nwhere = \"n % 3 <> 0\"\n[[route]]\nto = { topic = \"out\", key = \"n\" }\n";
        let job = bench.job(text);
        let items: Vec<String> = (0..1_500).map(|n| n.to_string()).collect();
        for id in 0..3 {
            let mut builder = BatchBuilder::new();
            let value = format!("{{\"id\":{id},\"items\":[{}]}}", items.join(","));
            builder.push(NewRecord { timestamp: 0, key: None, value: Some(value.as_bytes()), headers: &[] });
            let batch = builder.build(Codec::Zstd).unwrap();
            let home = source.partition(PartitionId(0)).unwrap();
            home.append_blocking(Append { batch, lease: None, leader_epoch: -1 }).unwrap();
        }
        bench.hooks.crash_at(Step::Appended, nth);
        bench.finish(&job);
        assert!(bench.hooks.has_crashed(), "there were not so many batches");
        let wanted: Vec<i64> = (0..1_500).filter(|n| n % 3 != 0).flat_map(|n| [n; 3]).collect();
        assert!(bench.numbers("out") == wanted, "after a crash behind batch {nth}");
    }
}

#[test]
fn a_record_of_which_one_row_fails_is_a_dead_letter_and_no_row() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    let text = "from = \"topic:in\"\n[columns]\nitems = [\"int64\"]\n[[step]]\nunnest = { list = \"items\", as = \"n\" }\n[[step]]\nselect = \"n, 10 / n as part\"\n[[route]]\nwhere = \"n > 1\"\nto = { topic = \"out\" }\n";
    let mut builder = BatchBuilder::new();
    for value in ["{\"items\":[1,2,3]}", "{\"items\":[4,0,5]}", "{\"items\":[]}", "{\"items\":[6]}"] {
        builder.push(NewRecord { timestamp: 0, key: None, value: Some(value.as_bytes()), headers: &[] });
    }
    let home = source.partition(PartitionId(0)).unwrap();
    home.append_blocking(Append { batch: builder.build(Codec::Zstd).unwrap(), lease: None, leader_epoch: -1 }).unwrap();
    bench.finish(&bench.job(text));
    assert_eq!(bench.numbers("out"), [2, 3, 6]);
    assert_eq!(bench.letters("in-dlt"), [4]);
    // One row that no route takes, and one record without rows.
    assert_eq!(bench.status().unwrap().filtered, 2);
}

#[test]
fn a_record_that_several_outputs_do_not_take_counts_once_for_the_breaker() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    for name in ["a", "b"] {
        bench.topic(name, 1, &[("max.message.bytes", "400"), ("compression.type", "uncompressed")]);
    }
    // Four of nine are too large for both: eight letters, and less than a half of the records.
    let text = format!(
        "from = \"topic:in\"\non-error = {{ breaker = \"60% of 9\" }}\n{COLUMNS}
[[step]]\nselect = \"n, repeat('x', case when n % 2 = 0 then 400 else 1 end) as text\"
[[route]]\nto = {{ topic = \"a\" }}
[[route]]\nto = {{ topic = \"b\" }}\n"
    );
    bench.send(&source, 0, 1..10);
    let job = bench.job(&text);
    bench.finish(&job);
    assert_eq!(bench.letters("in-dlt"), [2, 2, 4, 4, 6, 6, 8, 8]);
    assert_eq!((bench.numbers("a"), bench.numbers("b")), (vec![1, 3, 5, 7, 9], vec![1, 3, 5, 7, 9]));
}
