//! Tables that change while a pipeline runs: files that are swapped under load, broken or taken away, topics that are followed, and kills
//! at any point.

use super::*;
use std::sync::atomic::AtomicUsize;

const ASKED: &str = "[columns]\nn = \"int64\"\nuser = \"string\"\n[[step]]\nenrich = { from = \"users.csv\", key = \"user\", on = \"user\", columns = [\"score\"] }\n";
const ROUTES: &str = "[[route]]\nwhere = \"n % 3 = 0\"\nto = { parquet = \"third\", roll = \"100ms\" }\n[[route]]\nto = { topic = \"out\", key = \"n\" }\n";

fn pipeline() -> String {
    format!("from = \"topic:in\"\n{ASKED}{ROUTES}")
}

/// Of every user the same score.
fn users(score: i64) -> String {
    let rows: String = (0..7).map(|user| format!("u{user},{score}\n")).collect();
    format!("user,score\n{rows}")
}

impl Bench {
    /// Puts a table beside the pipeline's file, in one move as a careful writer does.
    pub(super) fn table(&self, text: &str) {
        let folder = self.folder.path();
        std::fs::write(folder.join("users.csv.new"), text).unwrap();
        std::fs::rename(folder.join("users.csv.new"), folder.join("users.csv")).unwrap();
    }

    pub(super) fn table_job(&self, text: &str) -> Job {
        load::text(&self.folder.path().join("p.toml"), text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
    }

    /// `n` and what was looked up, of every row in the topic, sorted.
    fn looked_up(&self, column: &str) -> Vec<(i64, Option<String>)> {
        let row = |record: Record| {
            let value: serde_json::Value = serde_json::from_slice(&record.value.unwrap()).unwrap();
            let found = &value[column];
            (value["n"].as_i64().unwrap(), (!found.is_null()).then(|| found.to_string()))
        };
        let mut rows: Vec<_> = self.records("out").into_iter().map(row).collect();
        rows.sort();
        rows
    }

    fn put(&self, topic: &Topic, key: &str, value: Option<&str>) {
        let mut builder = BatchBuilder::new();
        let (key, value) = (Some(key.as_bytes()), value.map(str::as_bytes));
        builder.push(NewRecord { timestamp: 0, key, value, headers: &[] });
        let batch = builder.build(Codec::None).unwrap();
        let home = topic.partition(PartitionId(0)).unwrap();
        home.append_blocking(Append { batch, lease: None, leader_epoch: -1 }).unwrap();
    }
}

#[test]
fn a_changed_file_is_swapped_in_whole_under_load_and_no_row_is_lost_or_doubled() {
    let bench = Bench::new();
    let source = bench.topic("in", 2, &[]);
    bench.topic("out", 2, &[]);
    bench.table(&users(0));
    let job = bench.table_job(&pipeline());
    let runs = bench.run(&job);
    let mut sent = 1;
    for score in 0..5 {
        bench.table(&users(score));
        // Rows come all the while; each round ends when the new scores are seen.
        wait_for("the new table", || {
            bench.send(&source, (sent % 2) as i32, sent..sent + 9);
            sent += 9;
            bench.looked_up("score").iter().any(|(_, found)| *found == Some(score.to_string()))
        });
    }
    runs.stop();
    bench.finish(&job);
    let rows = bench.looked_up("score");
    let numbers: Vec<i64> = rows.iter().map(|(n, _)| *n).collect();
    assert_eq!(numbers, good(1..sent));
    assert!(rows.iter().all(|(_, score)| score.is_some()), "there is a table at every moment");
    // In the order of the log scores only rise: old and new never stand side by side.
    for part in 0..2 {
        let own = rows.iter().filter(|(n, _)| (n - 1) / 9 % 2 == 1 - part);
        let scores: Vec<i64> = own.map(|(_, score)| score.as_ref().unwrap().parse().unwrap()).collect();
        assert!(scores.is_sorted(), "{scores:?}");
    }
}

#[test]
fn a_broken_or_missing_file_leaves_the_table_and_is_told_until_it_is_right_again() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.topic("out", 1, &[]);
    bench.table(&users(1));
    let job = bench.table_job(&pipeline());
    let runs = bench.run(&job);
    let warning =
        |part: &str| bench.status().is_some_and(|status| status.warnings.iter().any(|warning| warning.contains(part)));
    bench.table("user,score\nu1,1\nu1,2\n");
    wait_for("the warning", || warning("line 3 has the same user as line 2"));
    bench.send(&source, 0, 1..9);
    wait_for("rows", || bench.looked_up("score").len() == 8);
    std::fs::remove_file(bench.folder.path().join("users.csv")).unwrap();
    wait_for("the warning", || warning("cannot read it"));
    bench.table("user,other\nu1,1\n");
    wait_for("the warning", || warning("no column \"score\" any more"));
    bench.table("user,score\nu1,high\n");
    wait_for("the warning", || warning("\"high\" is no int64"));
    bench.send(&source, 0, 11..19);
    wait_for("rows", || bench.looked_up("score").len() == 16);
    assert!(bench.looked_up("score").iter().all(|(_, score)| score.as_deref() == Some("1")));
    bench.table("user,score\n");
    wait_for("the warning", || warning("has no rows"));
    bench.table(&users(2));
    wait_for("no warning", || bench.status().is_some_and(|status| status.warnings.is_empty()));
    wait_for("the new table", || {
        bench.send(&source, 0, 21..22);
        bench.looked_up("score").iter().any(|(_, score)| score.as_deref() == Some("2"))
    });
    assert_eq!(bench.status().unwrap().state, State::Running);
    runs.stop();
}

#[test]
fn a_reload_leaves_a_pipeline_alone_whose_text_is_the_same_though_its_table_s_file_is_broken() {
    let bench = Bench::new();
    let folder = bench.options.folder.clone();
    std::fs::create_dir_all(&folder).unwrap();
    let users = folder.join("users.csv");
    std::fs::write(&users, self::users(1)).unwrap();
    let (_, daemon) = bench.begun(&pipeline(), &[(1, 9)]);
    let reload = || bench.reload(&daemon.control).remove(0).1;
    std::fs::write(&users, "user,score\nu1,high\n").unwrap();
    assert_eq!(reload(), Ok("unchanged".to_owned()));
    bench.write(&pipeline().replace("n % 3", "n % 5"));
    let refused = reload().unwrap_err();
    assert!(refused.contains("the old one goes on"), "{refused}");
}

#[test]
fn a_row_sees_every_record_that_its_table_s_topic_had_before_it() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.topic("out", 1, &[]);
    let users = bench.topic("users", 1, &[("cleanup.policy", "compact")]);
    let asked = "[columns]\nn = \"int64\"\nuser = \"string\"\n[[step]]\nenrich = { from = \"topic:users\", on = \"user\", types = { score = \"int64\" } }\n";
    let job = bench.table_job(&format!("from = \"topic:in\"\n{asked}{ROUTES}"));
    bench.put(&users, "u1", Some("{\"score\":-1}"));
    bench.put(&users, "u1", Some("{\"score\":0}"));
    let runs = bench.run(&job);
    // 1, 8, 15, … are of u1: whatever is put before an event is sent, that event has.
    for round in 0..40 {
        let value = format!("{{\"score\":{round}}}");
        bench.put(&users, "u1", (round % 4 != 3).then_some(value.as_str()));
        let n = 1 + 70 * round;
        bench.send(&source, 0, n..n + 1);
        if round % 3 == 0 {
            wait_for("the row", || bench.looked_up("score").len() as i64 == round + 1);
        }
    }
    wait_for("all rows", || bench.looked_up("score").len() == 40);
    for (round, (_, score)) in bench.looked_up("score").into_iter().enumerate() {
        let at_least = |score: &String| score.parse::<usize>().unwrap() >= round;
        // Later ones may have come too, a tombstone among them.
        assert!(score.as_ref().is_none_or(at_least), "row {round} has the older score {score:?}");
    }
    // Every third row was waited for: nothing came after its own record.
    let settled = |round: usize| bench.looked_up("score")[round].1.clone();
    assert_eq!((settled(0), settled(3), settled(6)), (Some("0".into()), None, Some("6".into())));
    bench.put(&users, "u1", Some("no json"));
    wait_for("the warning", || {
        bench
            .status()
            .is_some_and(|status| status.warnings.iter().any(|warning| warning.contains("no row of the table")))
    });
    runs.stop();
}

#[test]
fn a_pipeline_waits_for_the_topic_of_its_table() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    bench.topic("out", 1, &[]);
    bench.send(&source, 0, 1..9);
    let asked = "[columns]\nn = \"int64\"\nuser = \"string\"\n[[step]]\nenrich = { from = \"topic:users\", on = \"user\", types = { score = \"int64\" } }\n";
    let job = bench.table_job(&format!("from = \"topic:in\"\n{asked}{ROUTES}"));
    let runs = bench.run(&job);
    wait_for("the reason", || {
        bench
            .status()
            .and_then(|status| status.reason)
            .is_some_and(|reason| reason.contains("topic users does not exist"))
    });
    let users = bench.topic("users", 1, &[]);
    bench.put(&users, "u1", Some("{\"score\":5}"));
    wait_for("rows", || bench.looked_up("score").len() == 8);
    runs.stop();
}

#[test]
fn every_row_is_there_once_with_its_look_up_after_a_kill_at_any_point() {
    let steps = [Step::Appended, Step::Written, Step::Lettered, Step::Staged, Step::Saved, Step::Renamed];
    let run = |crash: Option<(Step, usize)>| {
        let bench = Bench::new();
        let source = bench.topic("in", 2, &[]);
        bench.topic("out", 3, &[]);
        bench.table("user,score\nu1,1\nu2,2\nu3,3\n");
        let job = bench.table_job(&pipeline());
        if let Some((step, nth)) = crash {
            bench.hooks.crash_at(step, nth);
        }
        for stage in [1..60, 60..61, 61..150] {
            bench.send(&source, 0, stage.clone());
            bench.send(&source, 1, stage.start + 1_000..stage.end + 1_000);
            bench.finish(&job);
        }
        let mut files = parquet_rows(&bench.options.out.join("third"));
        files.sort_unstable();
        (bench.looked_up("score"), files, bench.letters("in-dlt"))
    };
    let whole = run(None);
    assert_eq!(whole.0.len(), good(1..150).len() * 2);
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..5 {
        let crash = (steps[random.usize(0..steps.len())], random.usize(1..7));
        assert!(run(Some(crash)) == whole, "killed at {crash:?}");
    }
}

#[test]
fn a_file_that_changed_while_the_pipeline_lay_dead_sends_no_row_to_two_places() {
    let text = |step: &str| {
        format!(
            "from = \"topic:in\"\n[columns]\nn = \"int64\"\nuser = \"string\"\n[[step]]\nenrich = {{ from = \"users.csv\", key = \"user\", on = \"user\", types = {{ plan = \"string\" }} }}\n{step}[[step]]\nselect = \"n, plan\"\n[[route]]\nwhere = \"plan = 'pro'\"\nto = {{ topic = \"pros\" }}\n[[route]]\notherwise = true\nto = {{ topic = \"out\" }}\n[[route]]\nto = {{ parquet = \"third\", roll = \"100ms\" }}\n"
        )
    };
    let table = |pro: i64| {
        let rows: String =
            (0..7).map(|user| format!("u{user},{}\n", if user % 2 == pro { "pro" } else { "free" })).collect();
        format!("user,plan\n{rows}")
    };
    let is_pro = |n: &i64, pro: i64| n % 7 % 2 == pro;
    let remembers = "[[step]]\ndedupe = { key = [\"_key\", \"n\", \"plan\"], ttl = \"1h\" }\n";
    for (step, crash) in [Step::Appended, Step::Written, Step::Lettered, Step::Staged, Step::Saved]
        .into_iter()
        .flat_map(|crash| [("", crash), (remembers, crash)])
    {
        let bench = Bench::new();
        bench.hooks.set_quiet_after(Duration::from_secs(1 << 40));
        let source = bench.topic("in", 2, &[]);
        ["out", "pros"].iter().for_each(|name| drop(bench.topic(name, 1, &[])));
        bench.table(&table(0));
        (0..2).for_each(|id| bench.send(&source, id, i64::from(id) * 100 + 1..i64::from(id) * 100 + 40));
        // Outputs that stand together are cut once.
        bench.hooks.crash_at(crash, if matches!(crash, Step::Staged | Step::Saved) { 1 } else { 2 });
        let runs = bench.run(&bench.table_job(&text(step)));
        wait_for("the planned crash", || runs.thread.is_finished());
        // Everybody has the other plan; what is out was looked up before.
        bench.table(&table(1));
        let before = bench.numbers("pros");
        bench.finish(&bench.table_job(&text(step)));
        let all: Vec<i64> = [good(1..40), good(101..140)].concat();
        let mut out = [bench.numbers("pros"), bench.numbers("out")].concat();
        out.sort_unstable();
        assert_eq!(out, all, "{crash:?} {step}");
        assert_eq!(bench.files("third"), all, "{crash:?} {step}");
        assert!(before.iter().all(|n| bench.numbers("pros").contains(n)), "{crash:?} {step}");
        // What comes now meets the new file.
        bench.send(&source, 0, 201..240);
        bench.finish(&bench.table_job(&text(step)));
        let pros: Vec<i64> = bench.numbers("pros").into_iter().filter(|n| *n > 200).collect();
        assert_eq!(pros, good(201..240).into_iter().filter(|n| is_pro(n, 1)).collect::<Vec<_>>(), "{crash:?} {step}");
        let copies = std::fs::read_dir(bench.options.data.join("pipelines/p")).unwrap();
        let is_copy = |name: &String| name.starts_with("table-");
        let copies = copies.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).filter(is_copy);
        assert_eq!(copies.count(), 1, "{crash:?} {step}");
    }
}

#[test]
fn a_backfill_ends_with_the_table_that_it_began_with() {
    let text = "from = \"topic:in\"\n[columns]\nn = \"int64\"\nuser = \"string\"\n[[step]]\nenrich = { from = \"users.csv\", key = \"user\", on = \"user\" }\n[[step]]\nselect = \"n, score\"\n[[route]]\nwhere = \"score = 1\"\nto = { topic = \"ones\" }\n[[route]]\notherwise = true\nto = { topic = \"out\" }\n";
    for crash in [Step::Appended, Step::Written, Step::Lettered, Step::Staged, Step::Saved] {
        let bench = Bench::new();
        let table = |score: i64| {
            std::fs::create_dir_all(&bench.options.folder).unwrap();
            let (new, path) = (bench.options.folder.join("users.new"), bench.options.folder.join("users.csv"));
            std::fs::write(&new, users(score)).unwrap();
            std::fs::rename(new, path).unwrap();
        };
        table(1);
        let (_, daemon) = bench.begun(text, &[(1, 40), (101, 140)]);
        bench.hooks.crash_at(crash, if matches!(crash, Step::Staged | Step::Saved) { 1 } else { 2 });
        let to = ["topic ones=b1", "topic out=b2"].map(str::to_owned).to_vec();
        let asked = Command::Backfill { pipeline: "p".to_owned(), from: 0, until: i64::MAX, to, is_sure: false };
        daemon.ask(asked).unwrap();
        wait_for("the crash", || bench.hooks.has_crashed());
        // Before it is started again.
        table(2);
        assert!(daemon.ended().starts_with("done"), "{crash:?}");
        let all: Vec<i64> = [good(1..40), good(101..140)].concat();
        let mut out = [bench.numbers("b1"), bench.numbers("b2")].concat();
        out.sort_unstable();
        assert_eq!(out, all, "{crash:?}");
    }
}

#[test]
fn a_geoip_file_that_changed_while_the_pipeline_lay_dead_sends_no_row_to_two_places() {
    let text = "from = \"topic:in\"\n[columns]\nn = \"int64\"\n[[step]]\nselect = \"n, geoip_country(case when n % 2 = 0 then '203.0.113.77' end, 'geo.mmdb') as c\"\n[[route]]\nwhere = \"c = 'SE'\"\nto = { topic = \"pros\" }\n[[route]]\notherwise = true\nto = { topic = \"out\" }\n[[route]]\nto = { parquet = \"third\", roll = \"100ms\" }\n";
    let sweden = super::super::functions::tests::mmdb::city();
    let at = sweden.windows(2).position(|bytes| bytes == b"SE").unwrap();
    let mut norway = sweden.clone();
    norway[at..at + 2].copy_from_slice(b"NO");
    for crash in [Step::Appended, Step::Written, Step::Lettered, Step::Staged, Step::Saved] {
        let bench = Bench::new();
        let source = bench.topic("in", 2, &[]);
        ["out", "pros"].iter().for_each(|name| drop(bench.topic(name, 1, &[])));
        let put = |bytes: &[u8]| {
            std::fs::write(bench.folder.path().join("geo.new"), bytes).unwrap();
            std::fs::rename(bench.folder.path().join("geo.new"), bench.folder.path().join("geo.mmdb")).unwrap();
        };
        put(&sweden);
        (0..2).for_each(|id| bench.send(&source, id, i64::from(id) * 100 + 1..i64::from(id) * 100 + 40));
        bench.hooks.crash_at(crash, 2);
        let runs = bench.run(&bench.table_job(text));
        wait_for("the planned crash", || runs.thread.is_finished());
        put(&norway);
        let before = bench.numbers("pros");
        bench.finish(&bench.table_job(text));
        let all: Vec<i64> = [good(1..40), good(101..140)].concat();
        let mut out = [bench.numbers("pros"), bench.numbers("out")].concat();
        out.sort_unstable();
        assert_eq!((out, bench.files("third")), (all.clone(), all), "{crash:?}");
        assert!(before.iter().all(|n| bench.numbers("pros").contains(n)), "{crash:?}");
        // What comes now meets the new file.
        bench.send(&source, 0, 201..240);
        bench.finish(&bench.table_job(text));
        assert!(bench.numbers("pros").iter().all(|n| *n < 200), "{crash:?}");
        assert_eq!(bench.numbers("out").iter().filter(|n| **n > 200).count(), good(201..240).len(), "{crash:?}");
    }
}

#[test]
fn a_reload_takes_up_a_newer_geoip_file() {
    let bench = Bench::new();
    let folder = bench.options.folder.clone();
    std::fs::create_dir_all(&folder).unwrap();
    let sweden = super::super::functions::tests::mmdb::city();
    let at = sweden.windows(2).position(|bytes| bytes == b"SE").unwrap();
    let mut norway = sweden.clone();
    norway[at..at + 2].copy_from_slice(b"NO");
    let put = |bytes: &[u8]| {
        std::fs::write(folder.join("geo.new"), bytes).unwrap();
        std::fs::rename(folder.join("geo.new"), folder.join("geo.mmdb")).unwrap();
    };
    put(&sweden);
    bench.topic("out", 1, &[]);
    let text = "from = \"topic:in\"\n[columns]\nn = \"int64\"\n[[step]]\nselect = \"n, geoip_country('203.0.113.77', 'geo.mmdb') as c\"\n[[route]]\nto = { topic = \"out\" }\n";
    let (source, daemon) = bench.begun(text, &[(1, 9)]);
    let reload = || bench.reload(&daemon.control).remove(0).1;
    assert_eq!(reload(), Ok("unchanged".to_owned()));
    put(b"half a file");
    let refused = reload().unwrap_err();
    assert!(refused.contains("geo.mmdb") && refused.contains("the old one goes on"), "{refused}");
    std::fs::remove_file(folder.join("geo.mmdb")).unwrap();
    assert_eq!(reload(), Ok("unchanged".to_owned()), "there is no newer one");
    put(&norway);
    assert_eq!(reload(), Ok("swapped".to_owned()));
    assert_eq!(reload(), Ok("unchanged".to_owned()));
    bench.send(&source, 0, 9..20);
    daemon.settle(19);
    let countries: Vec<_> = bench.looked_up("c").into_iter().map(|(n, c)| (n < 9, c.unwrap())).collect();
    assert!(countries.iter().all(|(is_before, c)| c == if *is_before { "\"SE\"" } else { "\"NO\"" }), "{countries:?}");
}

/// One output is down while the file changes twice; the rest goes on. How the run ends in between, if it does.
#[test]
fn an_output_that_is_behind_has_its_rows_by_the_file_that_the_others_had_theirs_by() {
    let text = "from = \"topic:in\"\n[columns]\nn = \"int64\"\nuser = \"string\"\n[[step]]\nenrich = { from = \"users.csv\", key = \"user\", on = \"user\", types = { plan = \"string\" } }\n[[step]]\nselect = \"n, plan\"\n[[route]]\nwhere = \"plan = 'pro'\"\nto = { topic = \"pros\" }\n[[route]]\notherwise = true\nto = { topic = \"out\" }\n";
    let table = |pro: i64| {
        let rows: String =
            (0..7).map(|user| format!("u{user},{}\n", if user % 2 == pro { "pro" } else { "free" })).collect();
        format!("user,plan\n{rows}")
    };
    let of = |range: std::ops::Range<i64>, pro: i64| -> Vec<i64> {
        good(range).into_iter().filter(|n| n % 7 % 2 == pro).collect()
    };
    for ending in ["", "stop", "kill"] {
        let bench = Bench::new();
        let source = bench.topic("in", 2, &[]);
        ["out", "pros"].iter().for_each(|name| drop(bench.topic(name, 1, &[])));
        let is_down = Arc::new(AtomicBool::new(true));
        let refused = Arc::new(AtomicUsize::new(0));
        let own = (is_down.clone(), refused.clone());
        bench.hooks.sink(move |_, output, _| match own.0.load(Ordering::SeqCst) && output == "topic pros" {
            true => {
                own.1.fetch_add(1, Ordering::SeqCst);
                Err(WriteError::Down("planned".to_owned()))
            }
            false => Ok(()),
        });
        let mut runs = None;
        // The file of the first rows comes again and goes again, the last one stays.
        let tables = [1, 0, 1, 0];
        for (at, pro) in tables.into_iter().enumerate() {
            bench.table(&table(pro));
            let run = runs.take().unwrap_or_else(|| bench.run(&bench.table_job(text)));
            if at > 0 && ending.is_empty() {
                // Until the new file is in use: who is free by it shows that.
                let from = 10_000 * at as i64;
                let mut probes = (from..from + 10_000).filter(|n| n % 7 % 2 != pro && n % 10 != 0);
                wait_for("the swap", || {
                    let probe = probes.next().unwrap();
                    bench.send(&source, 0, probe..probe + 1);
                    bench.numbers("out").iter().any(|n| *n >= from)
                });
            }
            let from = at as i64 * 100 + 1;
            bench.send(&source, 0, from..from + 40);
            bench.send(&source, 1, from + 50..from + 90);
            let wanted = [of(from..from + 40, 1 - pro), of(from + 50..from + 90, 1 - pro)].concat();
            wait_for("the others", || wanted.iter().all(|n| bench.numbers("out").contains(n)));
            // The second file goes again unseen; with the first one there, its rows are looked up and refused.
            let before = refused.load(Ordering::SeqCst);
            wait_for("an attempt", || at == 1 || refused.load(Ordering::SeqCst) > before);
            match ending {
                "stop" => run.stop(),
                "kill" => {
                    drop(Life::begin(&bench.seat));
                    let _ = run.end();
                }
                _ => runs = Some(run),
            }
        }
        is_down.store(false, Ordering::SeqCst);
        if let Some(run) = runs {
            let last = tables.len() as i64 * 100 - 99;
            wait_for("what was lacking", || bench.numbers("pros").iter().any(|n| (last..last + 90).contains(n)));
            run.stop();
        }
        bench.finish(&bench.table_job(text));
        for (at, pro) in tables.into_iter().enumerate() {
            let from = at as i64 * 100 + 1;
            let within = |topic: &str| -> Vec<i64> {
                bench.numbers(topic).into_iter().filter(|n| (from..from + 90).contains(n)).collect()
            };
            let wanted = |pro| [of(from..from + 40, pro), of(from + 50..from + 90, pro)].concat();
            assert_eq!((within("pros"), within("out")), (wanted(pro), wanted(1 - pro)), "{ending} {at}");
        }
        assert_eq!(bench.numbers("pros").iter().filter(|n| bench.numbers("out").contains(n)).count(), 0, "{ending}");
        let path = runner::checkpoint_path(&bench.options, "p");
        assert!(Checkpoint::load(&path).unwrap().unwrap().past.is_empty(), "{ending}: it is let go");
    }
}
