//! Steps that remember, killed at any point: the same set of rows as without a kill, in every output, with several partitions, late and
//! future records, and where no record comes any more.

use super::*;

/// Orders of events for each kind of step, and kills of each; with `INRUSH_KILLS` ten orders and so many kills.
const SEEDS: u64 = 1;
const KILLS: usize = 3;

/// One kind of step each, and all of them in a row.
const STEPS: [(&str, &str); 7] = [
    ("dedupe", "[[step]]\ndedupe = { key = [\"_key\", \"id\"], ttl = \"10s\" }\n[[step]]\nselect = \"n, id, user\"\n"),
    ("debounce", "[[step]]\ndebounce = { key = \"_key\", cool-down = \"4s\" }\n[[step]]\nselect = \"n, id, user\"\n"),
    (
        "sessionize",
        "[[step]]\nsessionize = { key = \"_key\", gap = \"3s\" }\n[[step]]\nselect = \"n, id, user, session_id, session_start, session_seq\"\n",
    ),
    (
        "last",
        "[[step]]\nlast = { key = [\"_key\", \"id\"], until = \"kind = 'end'\", ttl = \"15s\" }\n[[step]]\nselect = \"n, id, user, kind\"\n",
    ),
    (
        "last at its limit",
        "[[step]]\nlast = { key = [\"_key\", \"n\"], ttl = \"1h\", state-size-max = \"64KiB\" }\n[[step]]\nselect = \"n, id, user, kind\"\n",
    ),
    (
        "dedupe and last behind a look-up",
        "[[step]]\nenrich = { from = \"users.csv\", key = \"user\", on = \"user\", missing = \"drop\" }\n[[step]]\ndedupe = { key = [\"_key\", \"id\", \"plan\"], ttl = \"8s\" }\n[[step]]\nlast = { key = [\"_key\", \"plan\"], until = \"kind = 'end'\", ttl = \"3s\" }\n[[step]]\nselect = \"n, id, user, plan\"\n",
    ),
    (
        "all in a row",
        "[[step]]\nunnest = { list = \"tags\", as = \"tag\" }\n[[step]]\nwhere = \"n % 11 <> 0\"\n[[step]]\ndedupe = { key = [\"_key\", \"id\", \"tag\"], ttl = \"5s\" }\n[[step]]\nsessionize = { key = [\"_key\", \"tag\"], gap = \"2s\" }\n[[step]]\nlast = { key = [\"_key\", \"session_id\"], ttl = \"6s\" }\n[[step]]\nwhere = \"id is not null\"\n[[step]]\nselect = \"n, id, tag, session_id, session_seq, 100 / (n % 17) as part\"\n",
    ),
];

fn pipeline(steps: &str) -> String {
    format!(
        "from = \"topic:in\"\n[columns]\nn = \"int64\"\nid = \"string\"\nuser = \"string\"\nkind = \"string\"\ntags = [\"string\"]\n{steps}
[[route]]\nwhere = \"n % 3 = 0\"\nto = {{ parquet = \"third\", roll = \"100ms\" }}
[[route]]\nto = {{ topic = \"out\", key = \"n\" }}\n"
    )
}

/// Events of one partition in an order that real ones come in: mostly forward, some late, some far ahead, some broken, some of nobody.
fn events(seed: u64, partition: i64, count: i64) -> Vec<(i64, String, String)> {
    let mut random = fastrand::Rng::with_seed(seed * 10 + partition as u64);
    let mut now = 1_700_000_000_000;
    let event = |at: i64| {
        now += random.i64(0..1_500);
        let time = match random.u8(0..20) {
            0 => now - random.i64(0..20_000),
            1 => now + random.i64(0..3_000),
            _ => now,
        };
        let (user, id, n) = (random.u8(0..4), random.u8(0..30), partition * 1_000_000 + at);
        let kind = if random.u8(0..5) == 0 { "end" } else { "update" };
        let id = if random.u8(0..25) == 0 { "null".to_owned() } else { format!("\"i{id}\"") };
        let tags = ["\"a\"", "\"a\",\"b\"", "", "\"c\",\"c\",\"a\""][random.usize(0..4)];
        let value = match random.u8(0..15) {
            0 => format!("{{\"n\":\"bad {n}\"}}"),
            _ => format!("{{\"n\":{n},\"id\":{id},\"user\":\"u{user}\",\"kind\":\"{kind}\",\"tags\":[{tags}]}}"),
        };
        (time, format!("p{partition}u{user}"), value)
    };
    (0..count).map(event).collect()
}

impl Bench {
    pub(super) fn send_events(&self, topic: &Topic, partition: i32, events: &[(i64, String, String)]) {
        for some in events.chunks(7) {
            let mut builder = BatchBuilder::new();
            for (timestamp, key, value) in some {
                let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
                builder.push(NewRecord { timestamp: *timestamp, key, value, headers: &[] });
            }
            let batch = builder.build(Codec::Zstd).unwrap();
            let home = topic.partition(PartitionId(partition)).unwrap();
            home.append_blocking(Append { batch, lease: None, leader_epoch: -1 }).unwrap();
        }
    }

    /// Everything that has come out: rows of the topic, numbers in the folder, dead letters; each sorted.
    fn all(&self) -> (Vec<String>, Vec<i64>, Vec<String>) {
        let values = |topic: &str| {
            let text = |record: Record| String::from_utf8_lossy(record.value.as_deref().unwrap()).into_owned();
            let mut values: Vec<String> = self.records(topic).into_iter().map(text).collect();
            values.sort_unstable();
            values
        };
        let mut files = parquet_rows(&self.options.out.join("third"));
        files.sort_unstable();
        (values("out"), files, values("in-dlt"))
    }
}

/// Sends all in stages and runs to the end of each, crashing where the hooks say.
fn ran(steps: &str, seed: u64, crash: Option<(Step, usize)>) -> (Vec<String>, Vec<i64>, Vec<String>) {
    let bench = Bench::new();
    bench.hooks.set_quiet_after(Duration::from_secs(1 << 40));
    let source = bench.topic("in", 2, &[]);
    bench.topic("out", 3, &[]);
    bench.table("user,plan\nu0,free\nu1,pro\nu2,\n");
    let job = bench.table_job(&pipeline(steps));
    let all = [events(seed, 0, 400), events(seed, 1, 400)];
    if let Some((step, nth)) = crash {
        bench.hooks.crash_at(step, nth);
    }
    let stages = [0, 90, 91, 250, 400];
    for stage in stages.windows(2) {
        for (partition, events) in all.iter().enumerate() {
            bench.send_events(&source, partition as i32, &events[stage[0]..stage[1]]);
        }
        bench.finish(&job);
    }
    bench.all()
}

#[test]
fn every_step_makes_the_same_rows_when_it_is_killed_anywhere() {
    let steps =
        [Step::Appended, Step::Written, Step::Lettered, Step::Staged, Step::Remembered, Step::Saved, Step::Renamed];
    let longer = std::env::var("INRUSH_KILLS").ok().and_then(|kills| kills.parse::<usize>().ok());
    for (name, step) in STEPS {
        let mut random = fastrand::Rng::with_seed(7);
        for seed in 0..if longer.is_some() { 10 } else { SEEDS } {
            let whole = ran(step, seed, None);
            assert!(whole.0.len() > 20 && whole.1.len() > 5, "{name} makes too little: {}", whole.0.len());
            for _ in 0..longer.unwrap_or(KILLS) {
                let crash = (steps[random.usize(0..steps.len())], random.usize(1..9));
                let killed = ran(step, seed, Some(crash));
                assert!(
                    killed == whole,
                    "{name}, seed {seed}, killed at {crash:?}: {} rows, {} without a kill",
                    killed.0.len(),
                    whole.0.len()
                );
            }
        }
    }
}

#[test]
fn where_no_record_comes_any_more_time_goes_on_and_a_kill_then_doubles_nothing() {
    let text = "from = \"topic:in\"\n[columns]\nn = \"int64\"\nid = \"string\"\n[[step]]\nlast = { key = \"id\", ttl = \"1s\" }\n[[route]]\nto = { topic = \"out\" }\n[[route]]\nto = { parquet = \"third\", roll = \"100ms\" }\n";
    let crashes = [
        None,
        Some((Step::Appended, 1)),
        Some((Step::Appended, 2)),
        Some((Step::Saved, 1)),
        Some((Step::Saved, 2)),
        Some((Step::Saved, 3)),
        Some((Step::Remembered, 2)),
        Some((Step::Staged, 3)),
    ];
    for crash in crashes {
        let bench = Bench::new();
        bench.hooks.set_quiet_after(Duration::from_millis(150));
        let source = bench.topic("in", 1, &[]);
        bench.topic("out", 1, &[("max.message.bytes", "4096")]);
        let job = bench.job(text);
        let now = bench.options.clock.now_ms();
        // So many rows that a mark's do not fit into one batch.
        let all: Vec<(i64, String, String)> = (0..200)
            .map(|n| {
                (now - 10_000 + n % 3, String::new(), format!("{{\"n\":{n},\"id\":\"i{}-{}\"}}", n / 2, "x".repeat(60)))
            })
            .collect();
        bench.send_events(&source, 0, &all);
        if let Some((step, nth)) = crash {
            bench.hooks.crash_at(step, nth);
        }
        let mut runs = bench.run(&job);
        let numbers = || {
            let number = |record: Record| {
                serde_json::from_slice::<serde_json::Value>(&record.value.unwrap()).unwrap()["n"].as_i64().unwrap()
            };
            let mut numbers: Vec<i64> = bench.records("out").into_iter().map(number).collect();
            numbers.sort_unstable();
            numbers
        };
        let wanted: Vec<i64> = (0..200).filter(|n| n % 2 == 1).collect();
        wait_for(&format!("rows that time lets go, {crash:?}"), || {
            if runs.thread.is_finished() {
                let before = std::mem::replace(&mut runs, bench.run(&job));
                assert!(before.thread.join().is_err(), "it ended by itself");
            }
            numbers().len() >= wanted.len() && parquet_rows(&bench.options.out.join("third")).len() >= wanted.len()
        });
        // A record behind the mark takes its place in the log, and is no row of the mark.
        bench.send_events(
            &source,
            0,
            &[
                (now + 60_000, String::new(), "{\"n\":1000,\"id\":\"new\"}".to_owned()),
                (now + 90_000, String::new(), "{\"n\":1001}".to_owned()),
            ],
        );
        let all: Vec<i64> = wanted.into_iter().chain([1000, 1001]).collect();
        wait_for("the records behind", || {
            if runs.thread.is_finished() {
                let before = std::mem::replace(&mut runs, bench.run(&job));
                assert!(before.thread.join().is_err(), "it ended by itself");
            }
            numbers().contains(&1001) && parquet_rows(&bench.options.out.join("third")).contains(&1001)
        });
        if runs.end().is_err() {
            bench.run(&job).end().unwrap();
        }
        assert_eq!(numbers(), all, "{crash:?}");
        let mut files = parquet_rows(&bench.options.out.join("third"));
        files.sort_unstable();
        assert_eq!(files, all, "{crash:?}");
    }
}

#[test]
fn steps_that_remember_other_things_are_refused_until_their_state_is_let_go() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    let folder = bench.options.folder.clone();
    std::fs::create_dir_all(&folder).unwrap();
    let text = |ttl: &str| {
        format!(
            "from = \"topic:in\"\n[columns]\nn = \"int64\"\nuser = \"string\"\n[[step]]\ndedupe = {{ key = \"user\", ttl = \"{ttl}\" }}\n[[route]]\nto = {{ topic = \"out\" }}\n"
        )
    };
    std::fs::write(folder.join("p.toml"), text("1h")).unwrap();
    let (control, running) = bench.supervised();
    bench.send(&source, 0, 1..9);
    let count = || bench.store.topic("out").map_or(0, |_| bench.records("out").len());
    wait_for("the first of each user", || count() == 7);
    wait_for("a cut", || {
        let checkpoint = Checkpoint::load(&runner::checkpoint_path(&bench.options, "p")).unwrap();
        checkpoint.is_some_and(|checkpoint| checkpoint.state.is_some())
    });
    std::fs::write(folder.join("p.toml"), text("2h")).unwrap();
    let refused = bench.reload(&control).remove(0).1.unwrap_err();
    assert!(refused.contains("--state drop") && refused.contains("the old one goes on"), "{refused}");
    let drop = Command::Reload { pipeline: Some("p".to_owned()), drop_state: true };
    assert_eq!(bench.runtime.block_on(control.ask(drop)).unwrap().remove(0).1, Ok("swapped".to_owned()));
    bench.send(&source, 0, 11..19);
    wait_for("what was forgotten", || count() == 14);
    running.stop(PATIENCE);
}

#[test]
fn a_key_that_may_come_in_every_partition_is_refused_with_the_way_out() {
    let bench = Bench::new();
    bench.topic("in", 3, &[]);
    let text = "from = \"topic:in\"\n[columns]\nn = \"int64\"\nuser = { path = \"/who/id\", type = \"string\" }\n[[step]]\ndedupe = { key = \"user\", ttl = \"1h\" }\n[[route]]\nto = { topic = \"out\" }\n";
    let reason = bench.run(&bench.job(text)).thread.join().unwrap().unwrap_err();
    assert!(reason.contains("3 partitions") && reason.contains("inrush.http.key=/who/id"), "{reason}");
    let keyed = Bench::new();
    keyed.topic("in", 3, &[("inrush.http.key", "/who/id")]);
    keyed.finish(&keyed.job(text));
}

/// Appends records of these values to partition 0, a second apart, and one more a day later.
fn send_values(bench: &Bench, values: &[&str]) {
    let topic = bench.store.topic("in").unwrap();
    let event =
        |(at, value): (usize, &&str)| (1_700_000_000_000 + at as i64 * 1_000, "key".to_owned(), value.to_string());
    let mut events: Vec<(i64, String, String)> = values.iter().enumerate().map(event).collect();
    events.push((1_700_086_400_000, "key".to_owned(), "{\"n\":1000,\"id\":\"end\"}".to_owned()));
    bench.send_events(&topic, 0, &events);
}

#[test]
fn a_row_that_time_lets_go_and_that_fails_is_a_letter_of_its_own_and_costs_no_other_row() {
    let bench = Bench::new();
    bench.topic("in", 1, &[]);
    bench.topic("out", 1, &[("max.message.bytes", "512")]);
    // Text that does not shrink.
    let hashes: Vec<String> = (0..24).map(|at| format!("sha256(concat(id, '{at}'))")).collect();
    let text = "from = \"topic:in\"\n[columns]\nn = \"int64\"\nid = \"string\"\n[[step]]\nlast = { key = \"id\", ttl = \"1h\" }\n[[step]]\nselect = \"n, id, 10 / n as part, case when n = 3 then concat(HASHES) end as long\"\n[[route]]\nwhere = \"100 / (n - 5) <> 7777\"\nto = { topic = \"out\" }\n";
    // All are let go by the same record: of 0 the select fails, of 5 the route, and 3 is too large for the topic.
    let values: Vec<String> = (0..8).map(|n| format!("{{\"n\":{n},\"id\":\"i{n}{n}{n}\"}}")).collect();
    send_values(&bench, &values.iter().map(String::as_str).collect::<Vec<_>>());
    bench.finish(&bench.job(&text.replace("HASHES", &hashes.join(", "))));
    let number = |record: &Record| {
        let value: serde_json::Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        value["n"].as_i64().unwrap()
    };
    let sorted = |topic: &str| {
        let mut numbers: Vec<i64> = bench.records(topic).iter().map(number).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(sorted("out"), [1, 2, 4, 6, 7]);
    assert_eq!(sorted("in-dlt"), [0, 3, 5], "each with its own row as its value");
    let out = bench.records("out");
    assert!(out.iter().all(|record| record.timestamp == 1_700_000_000_000 + number(record) * 1_000 + 3_600_000));
    let status = bench.status().unwrap();
    assert_eq!((status.rows_written, status.dead_letters, status.records_read), (5, 3, 9));
}

#[test]
fn a_record_that_fails_behind_a_step_that_remembers_is_a_letter_and_no_row() {
    let bench = Bench::new();
    bench.topic("in", 1, &[]);
    let text = "from = \"topic:in\"\n[columns]\nn = [\"int64\"]\n[[step]]\nunnest = \"n\"\n[[step]]\ndedupe = { key = \"n\", ttl = \"1h\" }\n[[step]]\nselect = \"n, 10 / n as part\"\n[[route]]\nto = { topic = \"out\" }\n";
    let topic = bench.store.topic("in").unwrap();
    let event = |value: &str| (1_700_000_000_000, "key".to_owned(), value.to_owned());
    bench.send_events(&topic, 0, &[event("{\"n\":[4,0,5]}"), event("{\"n\":[6,7]}")]);
    bench.finish(&bench.job(text));
    let rows: Vec<Option<i64>> = bench
        .records("out")
        .iter()
        .map(|record| {
            serde_json::from_slice::<serde_json::Value>(record.value.as_deref().unwrap()).unwrap()["n"].as_i64()
        })
        .collect();
    assert_eq!((rows, bench.records("in-dlt").len()), (vec![Some(6), Some(7)], 1));
}
