//! Rows by HTTP: in order, signed, named so that doubles can be dropped, through every kind of answer and through kills.

use super::receiver::{Receiver, Reply};
use super::*;
use std::collections::BTreeSet;

/// Answers that say nothing against the rows, each with what the status says of it.
fn troubles() -> Vec<(&'static str, Reply)> {
    vec![
        ("500", Reply::Status(500, "boom".to_owned())),
        ("502", Reply::Status(502, String::new())),
        ("503", Reply::Status(503, String::new())),
        ("408", Reply::Status(408, String::new())),
        ("429", Reply::Status(429, String::new())),
        ("look at the headers", Reply::Status(401, String::new())),
        ("look at the headers", Reply::Status(403, String::new())),
        ("look at the address", Reply::Status(404, String::new())),
        ("look at the address", Reply::Status(410, String::new())),
        ("another host", Reply::With(308, ("location", "http://192.0.2.1/".to_owned()))),
        ("asked elsewhere", Reply::With(302, ("location", "/in".to_owned()))),
        ("connection", Reply::Close),
        ("no answer within 200 ms", Reply::Hang(Duration::from_secs(1))),
    ]
}

fn quick(more: &str) -> String {
    format!("on-error = {{ backoff = \"20ms\" }}\n{more}")
}

#[test]
fn rows_arrive_in_the_order_of_their_partition_in_named_and_signed_batches() {
    let bench = Bench::new();
    let receiver = Receiver::well();
    let source = bench.topic("in", 2, &[]);
    bench.send(&source, 0, 1..60);
    bench.send(&source, 1, 101..160);
    std::fs::create_dir_all(bench.folder.path().join("secrets")).unwrap();
    std::fs::write(bench.folder.path().join("secrets/key"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    std::fs::write(bench.folder.path().join("secrets/token"), "t0k3n").unwrap();
    let more = ", batch = \"7\", sign = \"key\", headers = { Authorization = \"Bearer {secret:token}\" }";
    let job = load::text(&bench.folder.path().join("p.toml"), &text(&receiver.to(more), ""));
    let job = job.unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    bench.finish(&job);
    let received = receiver.received();
    let checkpoint = Checkpoint::load(&runner::checkpoint_path(&bench.options, "p")).unwrap().unwrap();
    let mut numbers: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for one in &received {
        assert!(one.numbers.len() <= 7 && one.target == "/in", "{one:?}");
        assert_eq!(one.headers["authorization"], "Bearer t0k3n");
        let words: Vec<&str> = one.headers["inrush-source"].split(' ').collect();
        let [pipeline, topic, partition, first, next] = words[..] else { panic!("{words:?}") };
        assert_eq!((pipeline, topic), (checkpoint.id.to_string().as_str(), source.id.to_string().as_str()));
        // The sender of the test puts n at offset n - 1, or n - 101.
        let base = if partition == "0" { 1 } else { 101 };
        assert_eq!(first.parse::<i64>().unwrap() + base, one.numbers[0]);
        assert_eq!(next.parse::<i64>().unwrap() + base - 1, *one.numbers.last().unwrap());
        assert!(ids.insert(one.headers["webhook-id"].clone()), "an id came twice");
        numbers.entry(partition.to_owned()).or_default().extend(&one.numbers);
        assert!(one.headers["webhook-signature"].starts_with("v1,"));
    }
    assert_eq!((&numbers["0"], &numbers["1"]), (&good(1..60), &good(101..160)));
    assert_eq!(bench.letters("in-dlt"), [bad(1..60), bad(101..160)].concat());
    let status = bench.status().unwrap();
    assert_eq!(status.rows_written, receiver.rows().len() as u64);
    let printed = format!("{:?} {status:?}", job.spec);
    assert!(!printed.contains("t0k3n") && !checkpoint.text.contains("t0k3n"));
}

#[test]
fn bodies_are_lines_and_compressed_if_the_file_says_so() {
    let bench = Bench::new();
    let receiver = Receiver::well();
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..40);
    bench.finish(&bench.job(&text(&receiver.to(", body = \"ndjson\", compression = \"gzip\""), "")));
    assert_eq!(receiver.rows(), good(1..40));
    let received = receiver.received();
    assert!(received.iter().all(|one| one.body.starts_with(&[0x1f, 0x8b])));
    assert!(received.iter().all(|one| one.headers["content-type"] == "application/x-ndjson"));
}

#[test]
fn who_drops_the_ids_he_knows_has_each_row_once_after_a_crash_at_any_step() {
    for step in [Step::Appended, Step::Written, Step::Lettered, Step::Staged, Step::Saved] {
        for nth in [1, 2, 3] {
            let bench = Bench::new();
            let receiver = Receiver::well();
            let source = bench.topic("in", 2, &[]);
            let job = bench.job(&text(&receiver.to(", batch = \"4\""), ""));
            bench.send(&source, 0, 1..60);
            bench.send(&source, 1, 101..160);
            bench.hooks.crash_at(step, nth);
            bench.finish(&job);
            bench.send(&source, 0, 60..90);
            bench.finish(&job);
            assert!(bench.hooks.has_crashed() || nth > 1, "{step:?} was never reached");
            assert_eq!(receiver.rows(), [good(1..90), good(101..160)].concat(), "{step:?} {nth}");
            assert_eq!(bench.letters("in-dlt"), [bad(1..90), bad(101..160)].concat(), "{step:?} {nth}");
            assert_eq!(bench.status().unwrap().rows_written, receiver.rows().len() as u64, "{step:?} {nth}");
        }
    }
}

/// Each run ends at a request of its own, answered or not, as a kill of the process would end it.
#[test]
fn kills_between_a_request_and_its_answer_double_no_row_for_who_keeps_ids() {
    for seed in 0..4 {
        let mut random = fastrand::Rng::with_seed(seed);
        let bench = Bench::new();
        let receiver = Receiver::well();
        let source = bench.topic("in", 2, &[]);
        let job = bench.job(&text(&receiver.to(", batch = \"5\""), ""));
        let mut sent = 1;
        for _ in 0..6 {
            bench.send(&source, 0, sent..sent + 20);
            bench.send(&source, 1, sent + 1_000..sent + 1_020);
            sent += 20;
            let stop_after = receiver.received().len() + random.usize(1..6);
            let runs = bench.run(&job);
            wait_for("a request", || receiver.received().len() >= stop_after || is_settled(&bench, &source));
            // Another thread takes its seat: whatever this one knows is lost.
            let thief = Life::begin(&bench.seat);
            drop(thief);
            let _ = runs.end();
        }
        bench.finish(&job);
        assert_eq!(receiver.rows(), [good(1..sent), good(1_001..sent + 1_000)].concat(), "seed {seed}");
        assert_eq!(bench.letters("in-dlt"), [bad(1..sent), bad(1_001..sent + 1_000)].concat(), "seed {seed}");
    }
}

fn is_settled(bench: &Bench, source: &Topic) -> bool {
    let ends: BTreeMap<i32, i64> =
        source.partitions().iter().map(|partition| (partition.id().0, partition.tail().0)).collect();
    let path = runner::checkpoint_path(&bench.options, "p");
    Checkpoint::load(&path).unwrap().is_some_and(|checkpoint| checkpoint.committed() == ends)
}

#[test]
fn a_batch_that_is_refused_is_halved_until_the_bad_records_are_found() {
    let bench = Bench::new();
    let is_bad = |n: &i64| *n == 13 || *n == 14 || *n == 37;
    let receiver = Receiver::start(move |one| match one.numbers.iter().any(is_bad) {
        true => Reply::Status(422, "{\"error\": \"no such user\"}".to_owned()),
        false => Reply::Status(202, String::new()),
    });
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..50);
    bench.finish(&bench.job(&text(&receiver.to(", batch = \"20\""), &quick(""))));
    let wanted: Vec<i64> = good(1..50).into_iter().filter(|n| !is_bad(n)).collect();
    assert_eq!(receiver.rows(), wanted);
    let taken: Vec<i64> =
        receiver.received().iter().filter(|one| one.is_taken).flat_map(|one| one.numbers.clone()).collect();
    assert_eq!(taken.len(), wanted.len(), "a row was taken twice: {taken:?}");
    assert_eq!(bench.letters("in-dlt"), [10, 13, 14, 20, 30, 37, 40]);
    let alone = receiver.received().iter().filter(|one| one.numbers == [13]).count();
    assert_eq!(alone, 3, "one attempt and two more");
    let letters = bench.records("in-dlt");
    let letter = letters.iter().find(|letter| letter.value.as_deref().unwrap().starts_with(b"{\"n\":37")).unwrap();
    let header = |name: &str| {
        let found = letter.headers.iter().rev().find(|(known, _)| known.as_ref() == name.as_bytes());
        found.map(|(_, value)| String::from_utf8_lossy(value.as_deref().unwrap()).into_owned()).unwrap()
    };
    assert_eq!(header("inrush-dlt-reason"), "sink-refused");
    assert!(header("kafka_dlt-exception-message").contains("422 Unprocessable Entity: {\"error\": \"no such user\"}"));
    assert!(header("inrush-dlt-output").starts_with("http http://127.0.0.1"));
    let status = bench.status().unwrap();
    assert_eq!((status.retries, status.rows_written, status.dead_letters), (6, wanted.len() as u64, 7));
}

/// The whole is refused, its first part taken, and then nobody answers; who is asked next takes everything.
#[test]
fn what_was_taken_of_a_refused_batch_does_not_come_in_the_whole_again() {
    for is_killed in [false, true] {
        let bench = Bench::new();
        let receiver = Receiver::start(|one| match (one.numbers.contains(&1), one.numbers.contains(&19)) {
            (true, true) => Reply::Status(400, "too new".to_owned()),
            (true, false) => Reply::Status(200, String::new()),
            (false, _) => Reply::Status(500, String::new()),
        });
        let source = bench.topic("in", 1, &[]);
        bench.send(&source, 0, 1..20);
        let job = bench.job(&text(&receiver.to(", batch = \"20\""), &quick("")));
        let runs = bench.run(&job);
        wait_for("the second part", || receiver.received().len() > 2);
        receiver.script(|_| Reply::Status(200, String::new()));
        if is_killed {
            drop(Life::begin(&bench.seat));
            let _ = runs.end();
        } else {
            wait_for("the rest", || is_settled(&bench, &source));
            runs.stop();
        }
        bench.finish(&job);
        assert_eq!(receiver.rows(), good(1..20), "killed: {is_killed}");
    }
}

#[test]
fn a_receiver_that_refuses_everything_stops_the_pipeline() {
    let bench = Bench::new();
    let receiver = Receiver::start(|_| Reply::Status(400, "not this way".to_owned()));
    let source = bench.topic("in", 1, &[]);
    let errors = "on-error = { retry = 0, breaker = \"90% of 100\" }";
    let runs = bench.run(&bench.job(&text(&receiver.to(", batch = \"20\""), errors)));
    let mut sent = 1;
    while !runs.thread.is_finished() {
        assert!(sent < 5_000, "nothing stops it");
        bench.send(&source, 0, sent..sent + 50);
        sent += 50;
        let buried = || bench.store.topic("in-dlt").is_some() && bench.letters("in-dlt").len() + 1 == sent as usize;
        wait_for("the letters", || runs.thread.is_finished() || buried());
    }
    let why = runs.thread.join().unwrap().unwrap_err();
    assert!(why.contains("became dead letters"), "{why}");
}

#[test]
fn what_is_taken_on_another_attempt_is_no_dead_letter() {
    let bench = Bench::new();
    let mut refusals = 3;
    let receiver = Receiver::start(move |one| {
        let refuses = one.numbers.contains(&5) && refusals > 0;
        refusals -= i32::from(refuses);
        Reply::Status(if refuses { 409 } else { 200 }, String::new())
    });
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..8);
    bench.finish(&bench.job(&text(&receiver.to(""), &quick(""))));
    assert_eq!(receiver.rows(), good(1..8));
    assert!(bench.letters("in-dlt").is_empty());
}

#[test]
fn trouble_of_the_other_side_waits_and_loses_nothing() {
    for (word, trouble) in troubles() {
        let bench = Bench::new();
        let mut trouble = Some(trouble);
        let receiver = Receiver::start(move |_| trouble.take().unwrap_or(Reply::Status(200, String::new())));
        let source = bench.topic("in", 1, &[]);
        bench.send(&source, 0, 1..30);
        // Nothing else is to be the first trouble on a busy machine.
        let timeout = if word.starts_with("no answer") { "200ms" } else { "10s" };
        let runs = bench.run(&bench.job(&text(&receiver.to(&format!(", timeout = \"{timeout}\"")), "")));
        let mut reason = String::new();
        wait_for(word, || {
            let status = bench.status().filter(|status| status.state == State::Stalled);
            reason = status.and_then(|status| status.reason).unwrap_or_default();
            reason.contains(word) || receiver.rows() == good(1..30)
        });
        assert!(reason.contains("output http"), "{word}: {reason}");
        wait_for("the rows", || receiver.rows() == good(1..30));
        wait_for("a good state", || bench.status().is_some_and(|status| status.state == State::Running));
        runs.stop();
        assert_eq!(bench.letters("in-dlt"), bad(1..30), "{word}");
    }
}

#[test]
fn a_word_when_to_come_again_is_kept() {
    let bench = Bench::new();
    let mut left = 1;
    let receiver = Receiver::start(move |_| {
        left -= 1;
        if left == 0 { Reply::With(429, ("retry-after", "2".to_owned())) } else { Reply::Status(200, String::new()) }
    });
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..5);
    bench.finish(&bench.job(&text(&receiver.to(""), "")));
    let received = receiver.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].headers["webhook-id"], received[1].headers["webhook-id"], "the same batch, the same id");
    assert!(received[1].at - received[0].at >= Duration::from_secs(2));
    assert_eq!(bench.status().unwrap().stalls, 0, "a short wait is no stall");
}

#[test]
fn a_status_counts_though_the_answer_breaks_off_or_does_not_end_and_a_redirect_at_the_same_host_is_followed() {
    let bench = Bench::new();
    let mut count = 0;
    let receiver = Receiver::start(move |one| {
        count += 1;
        match (count, one.target.as_str()) {
            (1, _) => Reply::CloseInBody(200),
            (2, _) => Reply::HangInBody(200),
            (_, "/in") => Reply::With(307, ("location", "/there?x=1".to_owned())),
            _ => Reply::Slow(Duration::from_millis(150), 200),
        }
    });
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..9);
    bench.finish(&bench.job(&text(&receiver.to(", batch = \"3\", timeout = \"400ms\""), "")));
    let received = receiver.received();
    let taken: Vec<(&str, &[i64])> =
        received.iter().filter(|one| one.is_taken).map(|one| (one.target.as_str(), one.numbers.as_slice())).collect();
    assert_eq!(taken, [("/in", &[1, 2, 3][..]), ("/in", &[4, 5, 6]), ("/there?x=1", &[7, 8])]);
}

#[test]
fn a_receiver_that_hangs_holds_up_no_other_output() {
    let bench = Bench::new();
    let receiver = Receiver::start(|_| Reply::Hang(Duration::from_secs(600)));
    let source = bench.topic("in", 1, &[]);
    let file = format!(
        "from = \"topic:in\"\n[columns]\nn = \"int64\"\nuser = \"string\"
[[route]]\nto = {}\n[[route]]\nto = {{ parquet = \"all\", roll = \"100ms\" }}\n[[route]]\nto = {{ topic = \"out\" }}\n",
        receiver.to(", timeout = \"30s\", batch = \"10 or 1KiB\"")
    );
    let runs = bench.run(&bench.job(&file));
    let mut slowest = Duration::ZERO;
    for from in (1..2_000).step_by(200) {
        bench.send(&source, 0, from..from + 200);
        let began = Instant::now();
        let all = good(1..from + 200);
        let files = || {
            let mut rows = parquet_rows(&bench.options.out.join("all"));
            rows.sort_unstable();
            rows
        };
        wait_for("the files", || files() == all && bench.store.topic("out").is_some() && bench.rows(TO_TOPIC) == all);
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    assert!(receiver.rows().is_empty() && !receiver.received().is_empty());
    let status = bench.status().unwrap();
    assert!(status.committed[&0] == 0 && status.lag_records > 0, "it may not pass what was not taken: {status:?}");
    // It is given up at the stop, and everything is sent by the next run.
    let began = Instant::now();
    runs.stop();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    receiver.script(|_| Reply::Status(200, String::new()));
    bench.finish(&bench.job(&file));
    assert_eq!(receiver.rows(), good(1..2_001));
    assert_eq!(bench.rows(TO_TOPIC), good(1..2_001));
}

#[test]
fn rows_that_nobody_has_answered_for_are_behind_and_not_written() {
    let bench = Bench::new();
    let receiver = Receiver::start(|one| match one.numbers.iter().any(|n| *n > 11) {
        true => Reply::Hang(Duration::from_secs(600)),
        false => Reply::Status(200, String::new()),
    });
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..31);
    let runs = bench.run(&bench.job(&text(&receiver.to(", batch = \"10\", timeout = \"500ms\""), &quick(""))));
    let asked = || receiver.received().iter().filter(|one| one.numbers.contains(&12)).count();
    let (rows, left) = (good(1..12).len() as u64, 30 - 11);
    wait_for("the first answer", || bench.status().is_some_and(|status| status.rows_written == rows));
    let mut seen = BTreeSet::new();
    wait_for("three attempts", || {
        let status = bench.status().unwrap();
        seen.insert((status.rows_written, status.lag_records));
        asked() >= 3
    });
    assert_eq!(seen, BTreeSet::from([(rows, left)]));
    receiver.script(|_| Reply::Status(200, String::new()));
    wait_for("all of it", || bench.status().is_some_and(|status| status.lag_records == 0));
    assert_eq!(bench.status().unwrap().rows_written, good(1..31).len() as u64);
    runs.stop();
}

#[test]
fn steps_that_remember_send_the_same_rows_through_kills() {
    for step in [Step::Written, Step::Lettered, Step::Remembered, Step::Saved] {
        for nth in [1, 2, 3] {
            let bench = Bench::new();
            bench.hooks.set_quiet_after(Duration::from_millis(300));
            let receiver = Receiver::well();
            let source = bench.topic("in", 1, &[]);
            let file = format!(
                "from = \"topic:in\"\n[columns]\nn = \"int64\"\nuser = \"string\"
[[step]]\nlast = {{ key = \"n\", until = \"n % 2 = 0\", ttl = \"1s\" }}\n[[step]]\nselect = \"n, user\"
[[route]]\nto = {}\n[[route]]\nto = {{ topic = \"out\" }}\n",
                receiver.to(", batch = \"4\"")
            );
            let job = bench.job(&file);
            bench.send(&source, 0, 1..60);
            bench.hooks.crash_at(step, nth);
            let mut runs = bench.run(&job);
            wait_for("all rows", || {
                if runs.thread.is_finished() {
                    let before = std::mem::replace(&mut runs, bench.run(&job));
                    assert!(before.thread.join().is_err(), "it ended by itself");
                }
                receiver.rows().len() >= good(1..60).len() && bench.store.topic("out").is_some()
            });
            wait_for("the topic", || {
                if runs.thread.is_finished() {
                    runs = bench.run(&job);
                }
                bench.rows(TO_TOPIC).len() >= good(1..60).len()
            });
            let _ = runs.end();
            assert_eq!(receiver.rows(), good(1..60), "{step:?} {nth}");
            assert_eq!(bench.rows(TO_TOPIC), good(1..60), "{step:?} {nth}");
        }
    }
}

#[test]
fn a_changed_file_sends_nothing_twice_in_two_forms() {
    let bench = Bench::new();
    let receiver = Receiver::well();
    let source = bench.topic("in", 1, &[]);
    let old = bench.job(&text(&receiver.to(", batch = \"5\""), ""));
    bench.send(&source, 0, 1..40);
    bench.hooks.crash_at(Step::Lettered, 1);
    let runs = bench.run(&old);
    wait_for("the crash", || runs.thread.is_finished());
    assert!(runs.thread.join().is_err());
    let new = text(&receiver.to(", batch = \"9\""), "").replace("n, user", "n, upper(user) as user");
    bench.finish(&bench.job(&new));
    bench.send(&source, 0, 40..50);
    bench.finish(&bench.job(&new));
    assert_eq!(receiver.rows(), good(1..50));
}

/// Windows of a second, for tests of rows that all have one moment.
fn windowed(to: &str) -> String {
    format!(
        "from = \"topic:in\"\non-error = {{ retry = 0 }}\n[columns]\nn = \"int64\"\nts = \"timestamp(ms)\"\n[[step]]\nwindow = {{ tumbling = \"1s\", time = \"ts\", key = \"n\", select = \"count(*) as views\" }}\n[[step]]\nselect = \"n\"\n[[route]]\nto = {to}\n"
    )
}

fn event(n: i64, at: i64) -> (i64, String, String) {
    let time = 1_700_000_000_000 + at;
    (time, format!("k{n}"), format!("{{\"n\":{n},\"ts\":{time}}}"))
}

#[test]
fn rows_of_one_moment_are_sent_in_batches_and_only_the_refused_ones_are_letters() {
    let bench = Bench::new();
    let is_bad = |n: &i64| *n == 13 || *n == 37;
    let receiver = Receiver::start(move |one| match one.numbers.iter().any(is_bad) {
        true => Reply::Status(422, "no".to_owned()),
        false => Reply::Status(200, String::new()),
    });
    let source = bench.topic("in", 1, &[]);
    let job = bench.job(&windowed(&receiver.to(", batch = \"10\"")));
    let mut events: Vec<_> = (1..=40).map(|n| event(n, 100)).collect();
    events.push(event(99, 5_000));
    bench.send_events(&source, 0, &events);
    bench.finish(&job);
    let largest = receiver.received().iter().map(|one| one.numbers.len()).max();
    assert_eq!(largest, Some(10));
    assert_eq!(receiver.rows(), (1..=40).filter(|n| !is_bad(n)).collect::<Vec<_>>());
    let letters: Vec<String> = bench
        .records("in-dlt")
        .iter()
        .map(|letter| String::from_utf8_lossy(letter.value.as_deref().unwrap()).into_owned())
        .collect();
    assert_eq!(letters.len(), 2, "{letters:?}");
    assert!(letters[0].contains("\"n\":13,") && letters[1].contains("\"n\":37,"), "{letters:?}");
    // What is delivered is not noted for ever.
    bench.send_events(&source, 0, &[event(99, 5_001)]);
    bench.finish(&job);
    let folder = bench.folder.path().join("data/pipelines/p");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let begun: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "begun")).collect();
    assert_eq!((begun.len(), std::fs::read_to_string(&begun[0]).unwrap().as_str()), (1, ""));
}

#[test]
fn rows_of_windows_that_are_on_their_way_when_a_partition_is_added_are_not_lost() {
    let bench = Bench::new();
    bench.hooks.set_quiet_after(Duration::from_secs(1 << 40));
    let receiver = Receiver::start(|_| Reply::Hang(Duration::from_secs(600)));
    let source = bench.topic("in", 1, &[]);
    let job = bench.job(&windowed(&receiver.to(", timeout = \"1s\"")));
    bench.send_events(&source, 0, &(1..=4).map(|n| event(n, n * 1_000)).collect::<Vec<_>>());
    let runs = bench.run(&job);
    wait_for("a request", || !receiver.received().is_empty());
    let thief = Life::begin(&bench.seat);
    drop(thief);
    let _ = runs.end();
    bench.runtime.block_on(bench.store.add_partitions(&TopicName::new("in").unwrap(), 2)).unwrap();
    let asked = receiver.received().len();
    let runs = bench.run(&job);
    wait_for("the same request", || receiver.received().len() > asked);
    wait_for("a stall", || bench.status().is_some_and(|status| status.state == State::Stalled));
    receiver.script(|_| Reply::Status(200, String::new()));
    wait_for("the rows", || receiver.rows() == [1, 2, 3]);
    runs.stop();
}

#[test]
fn what_is_fed_again_on_purpose_has_ids_of_its_own() {
    let bench = Bench::new();
    let receiver = Receiver::well();
    let source = bench.topic("in", 1, &[]);
    bench.write(&text(&receiver.to(""), ""));
    let daemon = bench.steered();
    bench.send(&source, 0, 1..10);
    daemon.settle(9);
    for _ in 0..2 {
        let (pipeline, from, until) = ("p".to_owned(), 0, 1_800_000_000_000);
        daemon.ask(Command::Backfill { pipeline, from, until, to: Vec::new(), is_sure: true }).unwrap();
        daemon.ended();
    }
    let received = receiver.received();
    let ids: BTreeSet<&String> = received.iter().map(|one| &one.headers["webhook-id"]).collect();
    assert_eq!(received.iter().map(|one| one.numbers.len()).sum::<usize>(), 27);
    assert_eq!(ids.len(), received.len(), "whoever drops ids that he knows would drop rows that were asked for");
}

fn filed(to: &str, more: &str) -> String {
    format!("from = \"topic:in\"\nto = {to}\n{more}\n[columns]\nn = \"int64\"\nuser = \"string\"\n")
}

#[test]
fn a_backfill_of_more_than_an_output_holds_waits_for_room() {
    let bench = Bench::new();
    let receiver = Receiver::start(|_| Reply::Slow(Duration::from_millis(50), 200));
    let source = bench.topic("in", 1, &[]);
    bench.write(&filed(&receiver.to(", batch = \"10000 or 64KiB\""), ""));
    let count = 4 * crate::stream::rows::ROWS_MAX as i64;
    let home = source.partition(PartitionId(0)).unwrap();
    for from in (0..count).step_by(1_024) {
        let mut builder = BatchBuilder::new();
        for n in from..from + 1_024 {
            let value = format!("{{\"n\":{n},\"user\":\"u\"}}");
            let timestamp = 1_700_000_000_000;
            builder.push(NewRecord { timestamp, key: None, value: Some(value.as_bytes()), headers: &[] });
        }
        let batch = builder.build(Codec::None).unwrap();
        home.append_blocking(Append { batch, lease: None, leader_epoch: -1 }).unwrap();
    }
    let daemon = bench.steered();
    daemon.settle(count);
    let (from, until) = (1_699_999_999_000, 1_700_000_001_000);
    let backfill = Command::Backfill { pipeline: "p".to_owned(), from, until, to: Vec::new(), is_sure: true };
    daemon.ask(backfill).unwrap();
    let told = daemon.ended();
    assert!(told.starts_with(&format!("done: {count} records, {count} rows")), "{told}");
    assert_eq!(daemon.line("p/replay").unwrap().stalls, 0);
}

#[test]
fn what_is_refused_again_in_a_replay_is_a_letter_of_the_first_topic() {
    let bench = Bench::new();
    let receiver = Receiver::start(|one| match one.numbers.iter().any(|n| n % 3 == 0) {
        true => Reply::Status(422, "no".to_owned()),
        false => Reply::Status(200, String::new()),
    });
    let source = bench.topic("in", 2, &[]);
    bench.write(&filed(&receiver.to(", batch = \"4\""), "on-error = { retry = 0, breaker = \"off\" }"));
    let daemon = bench.steered();
    bench.send(&source, 0, 1..30);
    bench.send(&source, 1, 31..60);
    daemon.settle(58);
    let before = bench.letters("in-dlt");
    let replay = crate::control::Replay::default();
    daemon
        .ask(Command::Replay { pipeline: "p".to_owned(), filter: crate::letters::Filter::default(), how: replay })
        .unwrap();
    daemon.ended();
    let letters = bench.records("in-dlt");
    assert_eq!(letters.len(), 2 * before.len(), "each is a letter again");
    for letter in letters {
        let origin = letter.headers.iter().find(|(name, _)| name.as_ref() == b"kafka_dlt-original-topic").unwrap();
        assert_eq!(origin.1.as_deref(), Some(&b"in"[..]), "{letter:?}");
    }
}

fn remembering(to: &str) -> String {
    format!(
        "from = \"topic:in\"\n[columns]\nn = \"int64\"\nuser = \"string\"\n[[step]]\ndedupe = {{ key = [\"n\"], ttl = \"1h\" }}\n[[route]]\nto = {to}\n"
    )
}

#[test]
fn a_slow_receiver_holds_up_no_stop_of_a_pipeline_that_remembers() {
    let bench = Bench::new();
    let receiver = Receiver::start(|_| Reply::Slow(Duration::from_secs(1), 200));
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..80);
    let job = bench.job(&remembering(&receiver.to(", batch = \"1\"")));
    let runs = bench.run(&job);
    wait_for("a request", || !receiver.received().is_empty());
    let _ = runs.end();
    assert!(receiver.received().len() < 40, "it waits for some answers and not for all");
    receiver.script(|_| Reply::Status(200, String::new()));
    bench.finish(&job);
    assert_eq!(receiver.rows(), good(1..80));
}

#[test]
fn a_pipeline_that_remembers_keeps_a_word_when_to_come_again() {
    let bench = Bench::new();
    let mut left = 1;
    let receiver = Receiver::start(move |_| {
        left -= 1;
        // More than a batch waits in its place.
        if left == 0 { Reply::With(503, ("retry-after", "22".to_owned())) } else { Reply::Status(200, String::new()) }
    });
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..5);
    bench.finish(&bench.job(&remembering(&receiver.to(""))));
    let received = receiver.received();
    let waited = received[1].at - received[0].at;
    assert!(waited >= Duration::from_secs(22), "{waited:?}");
}

#[test]
fn a_receiver_that_fails_now_and_then_gets_nothing_twice_from_a_pipeline_that_remembers() {
    let bench = Bench::new();
    let mut asked = 0;
    let receiver = Receiver::start(move |_| {
        asked += 1;
        match asked % 5 {
            2 => Reply::Status(500, String::new()),
            4 => Reply::Close,
            _ => Reply::Status(200, String::new()),
        }
    });
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..120);
    bench.finish(&bench.job(&remembering(&receiver.to(", batch = \"1\""))));
    assert_eq!(receiver.rows(), good(1..120));
    let ids: Vec<String> =
        receiver.received().iter().filter(|one| one.is_taken).map(|one| one.headers["webhook-id"].clone()).collect();
    assert_eq!(ids.len(), good(1..120).len(), "it never went back to its last cut");
    assert_eq!(bench.status().unwrap().stalls, 0);
}

#[test]
fn who_is_asked_to_wait_by_a_receiver_says_so() {
    let bench = Bench::new();
    let busy = Arc::new(AtomicBool::new(true));
    let own = busy.clone();
    let mut asked = 0;
    let receiver = Receiver::start(move |_| {
        asked += 1;
        match asked > 1 && own.load(Ordering::SeqCst) {
            true => Reply::With(429, ("retry-after", "1".to_owned())),
            false => Reply::Status(200, String::new()),
        }
    });
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..20);
    let runs = bench.run(&bench.job(&remembering(&receiver.to(", batch = \"1\""))));
    let reason = || bench.status().filter(|line| line.state == State::Stalled).and_then(|line| line.reason);
    wait_for("the reason", || reason().is_some_and(|reason| reason.contains("429") && reason.contains("in its place")));
    busy.store(false, Ordering::SeqCst);
    wait_for("the rows", || receiver.rows() == good(1..20));
    runs.end().unwrap();
}

#[test]
fn a_slow_receiver_is_passed_bit_by_bit_by_a_pipeline_that_remembers() {
    let bench = Bench::new();
    let slow = Arc::new(AtomicBool::new(true));
    let is_slow = slow.clone();
    let receiver = Receiver::start(move |_| match is_slow.load(Ordering::SeqCst) {
        true => Reply::Slow(Duration::from_millis(20), 200),
        false => Reply::Status(200, String::new()),
    });
    let source = bench.topic("in", 1, &[]);
    bench.send(&source, 0, 1..2_000);
    let job = bench.job(&remembering(&receiver.to(", batch = \"1\"")));
    let runs = bench.run(&job);
    let committed = || bench.status().map_or(0, |line| line.committed.values().sum::<i64>());
    wait_for("a cut", || committed() > 0);
    assert!(receiver.received().len() < good(1..2_000).len(), "it was made amid what was read");
    slow.store(false, Ordering::SeqCst);
    wait_for("the end", || committed() == 1_999);
    runs.end().unwrap();
    assert_eq!(receiver.rows(), good(1..2_000));
}
