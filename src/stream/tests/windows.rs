//! Windows against a plain model that knows only the records, killed at any point, with partitions read in any order: the same rows, the
//! same late rows and the same dead letters, in every output.

use super::super::sink::journal::{Journal, Last, Row, SourceTopic};
use super::*;
use std::collections::BTreeSet;

/// Orders of events for each window, and kills of each; with `INRUSH_KILLS` ten orders and so many kills.
const SEEDS: u64 = 1;
const KILLS: usize = 2;
const PARTITIONS: usize = 3;
const EVENTS: i64 = 260;
const BEGAN: i64 = 1_700_000_000_000;
/// What the future is, in ms.
const AHEAD: i64 = 5 * 60 * 1_000;

/// What the model knows of a window: its length and how often one begins, or a gap; then `late`; in ms.
#[derive(Clone, Copy)]
enum Model {
    Hop {
        size: i64,
        every: i64,
        late: i64,
    },
    Session {
        gap: i64,
        late: i64,
    },
    /// Only that kills change nothing.
    None,
}

/// A look-up of users before the window, and one of pages behind it.
const LOOK_UP: &str = "[[step]]\nenrich = { from = \"users.csv\", key = \"user\", on = \"user\" }\n";
const BEHIND: &str =
    "[[step]]\nenrich = { from = \"users.csv\", key = \"user\", on = \"page\", columns = [\"plan as of_page\"] }\n";
const USERS: &str = "user,plan\n1,free\n8,pro\n64,\np0,first\np2,third\n";

const WINDOWS: [(&str, &str, Model); 7] = [
    ("", "tumbling = \"10s\", late = \"2s\"", Model::Hop { size: 10_000, every: 10_000, late: 2_000 }),
    ("", "hopping = { size = \"20s\", every = \"5s\" }", Model::Hop { size: 20_000, every: 5_000, late: 0 }),
    ("", "session = \"900ms\", late = \"4s\"", Model::Session { gap: 900, late: 4_000 }),
    ("", "session = \"500ms\"", Model::Session { gap: 500, late: 0 }),
    (
        "[[step]]\nunnest = \"tags\"\n[[step]]\nlast = { key = [\"_key\", \"ms\"], ttl = \"2s\" }\n[[step]]\nwhere = \"n % 11 <> 0\"\n",
        "tumbling = \"10s\", late = \"2s\"",
        Model::None,
    ),
    (LOOK_UP, "tumbling = \"10s\", late = \"2s\"", Model::Hop { size: 10_000, every: 10_000, late: 2_000 }),
    (
        "[[step]]\nunnest = \"tags\"\n[[step]]\nenrich = { from = \"users.csv\", key = \"user\", on = \"user\" }\n[[step]]\ndedupe = { key = [\"_key\", \"plan\"], ttl = \"5s\" }\n[[step]]\nwhere = \"plan is null or plan <> 'pro'\"\n",
        "session = \"900ms\", late = \"1s\"",
        Model::None,
    ),
];

const SELECT: &str = "count(*) as views, approx_distinct(user) as users, sum(n) as n, min(ms) as fastest, max(user) as top, avg(ms) as mean, sum(price) as total, approx_percentile(ms, 0.9) as p90, sum(ms / (ms % 2)) filter (where ms % 2 = 1) as of_odd, count(*) filter (where ms % 2 = 1) as odd";

fn pipeline(before: &str, window: &str) -> String {
    let behind = if before.contains("enrich") { BEHIND } else { "" };
    format!(
        "from = \"topic:in\"\n[columns]\nn = \"int64\"\nts = \"timestamp(ms)\"\npage = \"string\"\nuser = \"string\"\nms = \"int64\"\nprice = \"float64\"\ntags = [\"string\"]\n{before}
[[step]]\nwindow = {{ {window}, time = \"ts\", key = \"page\", late-to = {{ topic = \"late\" }}, select = \"{}\" }}
{behind}[[step]]\nselect = \"*, 100 / (views % 7) as part\"
[[route]]\nwhere = \"views >= 2\"\nto = {{ parquet = \"third\", roll = \"100ms\" }}
[[route]]\nto = {{ topic = \"out\", key = \"page\" }}\n",
        SELECT
    )
}

#[derive(Clone, Debug)]
struct Event {
    arrived: i64,
    time: Option<i64>,
    page: Option<String>,
    user: String,
    n: i64,
    ms: i64,
    price: f64,
    is_bad: bool,
}

impl Event {
    fn record(&self) -> (i64, String, String) {
        let Event { n, ms, price, user, .. } = self;
        let shown = if self.is_bad { format!("\"bad {n}\"") } else { n.to_string() };
        let time = self.time.map_or("null".to_owned(), |time| time.to_string());
        let page = self.page.as_ref().map_or("null".to_owned(), |page| format!("\"{page}\""));
        let value = format!(
            "{{\"n\":{shown},\"ts\":{time},\"page\":{page},\"user\":\"{user}\",\"ms\":{ms},\"price\":{price},\"tags\":[\"a\",\"b\"]}}"
        );
        (self.arrived, format!("k{n}"), value)
    }
}

/// Mostly forward, some late, some very late, some of the future, some of no time, some broken; the last one closes what is open.
fn events(seed: u64, partition: usize) -> Vec<Event> {
    let mut random = fastrand::Rng::with_seed(seed * 10 + partition as u64);
    let mut now = BEGAN + random.i64(0..5_000);
    let event = |at: i64| {
        now += random.i64(0..900);
        let time = match random.u8(0..40) {
            0..=5 => Some(now - random.i64(0..6_000)),
            6..=7 => Some(now - random.i64(0..60_000)),
            8 => Some(now + 2 * AHEAD),
            9 => None,
            10 => Some(-5),
            11 => Some(now + random.i64(0..2_000)),
            _ => Some(now),
        };
        let page = (random.u8(0..20) > 0).then(|| format!("p{}", random.u8(0..3)));
        let (user, ms, price) =
            (8_u64.pow(random.u32(0..9)).to_string(), random.i64(1..500), random.i64(0..400) as f64 / 4.0);
        let is_bad = random.u8(0..25) == 0;
        Event { arrived: now, time, page, user, n: partition as i64 * 1_000 + at, ms, price, is_bad }
    };
    let mut all: Vec<Event> = (0..EVENTS).map(event).collect();
    let last = BEGAN + 86_400_000;
    all.push(Event { arrived: last, time: Some(last), is_bad: false, ..all[0].clone() });
    all
}

/// A row as the model makes it: start, end, page, views, users, n, fastest, mean, total, odd, and all `ms` for the percentile.
#[derive(Clone, Debug)]
struct Wanted {
    start: i64,
    end: i64,
    page: Option<String>,
    of: Vec<Event>,
}

/// What windows there are, and which events are in none.
fn wanted(model: Model, partitions: &[Vec<Event>]) -> (Vec<Wanted>, BTreeSet<i64>) {
    let (mut accepted, mut outside) = (Vec::<Event>::new(), BTreeSet::new());
    let mut least = i64::MAX;
    for events in partitions {
        let mut clock = i64::MIN;
        for event in events.iter().filter(|event| !event.is_bad) {
            let is_in = event.time.is_some_and(|time| {
                let is_late = match model {
                    Model::Hop { size, every, late } => {
                        let mut ends = (time - size..=time).filter(|start| start % every == 0 && start + size > time);
                        time < 0 || !ends.any(|start| clock == i64::MIN || start + size + late > clock)
                    }
                    Model::Session { late, .. } => time < 0 || time + late < clock,
                    Model::None => false,
                };
                time <= event.arrived + AHEAD && !is_late
            });
            match event.time.filter(|_| is_in) {
                None => drop(outside.insert(event.n)),
                Some(time) => {
                    let mut event = event.clone();
                    // Of hopping windows some may be over already.
                    event.arrived = clock;
                    accepted.push(event);
                    clock = clock.max(time);
                }
            }
        }
        least = least.min(clock);
    }
    let pages: BTreeSet<Option<String>> = accepted.iter().map(|event| event.page.clone()).collect();
    let mut rows = Vec::new();
    for page in pages {
        let mut own: Vec<(i64, &Event)> =
            accepted.iter().filter(|event| event.page == page).map(|event| (event.time.unwrap(), event)).collect();
        match model {
            Model::Hop { size, every, late } => {
                let mut windows: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
                for (time, event) in own {
                    let mut start = time - time % every;
                    while start + size > time {
                        if event.arrived == i64::MIN || start + size + late > event.arrived {
                            windows.entry(start).or_default().push(event.clone());
                        }
                        start -= every;
                    }
                }
                let row = |(start, of)| Wanted { start, end: start + size, page: page.clone(), of };
                rows.extend(windows.into_iter().map(row).filter(|row| row.end + late <= least));
            }
            Model::Session { gap, late } => {
                own.sort_by_key(|(time, _)| *time);
                let mut sessions: Vec<Wanted> = Vec::new();
                for (time, event) in own {
                    match sessions.last_mut().filter(|session| session.end + gap >= time) {
                        Some(session) => {
                            session.end = time;
                            session.of.push(event.clone());
                        }
                        None => {
                            sessions.push(Wanted {
                                start: time,
                                end: time,
                                page: page.clone(),
                                of: vec![event.clone()],
                            });
                        }
                    }
                }
                rows.extend(sessions.into_iter().filter(|session| session.end + gap + late < least));
            }
            Model::None => {}
        }
    }
    (rows, outside)
}

fn ms_of(value: &serde_json::Value) -> i64 {
    chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap().timestamp_millis()
}

/// Compares what came out with what the model wants.
fn compare(name: &str, model: Model, made: &Made, wanted: &(Vec<Wanted>, BTreeSet<i64>)) {
    let mut missing = wanted.0.clone();
    let mut check = |text: &String| {
        let row: serde_json::Value = serde_json::from_str(text).unwrap();
        let (start, end) = (ms_of(&row["window_start"]), ms_of(&row["window_end"]));
        let page = row["page"].as_str().map(str::to_owned);
        let at = missing.iter().position(|one| (one.start, one.end, &one.page) == (start, end, &page));
        let one = missing.swap_remove(at.unwrap_or_else(|| panic!("{name}: nobody wants {row}")));
        let count = one.of.len() as i64;
        let number = |key: &str| row[key].as_i64().unwrap_or_else(|| panic!("{key} of {row}"));
        let users: BTreeSet<&String> = one.of.iter().map(|event| &event.user).collect();
        assert_eq!((number("views"), number("users")), (count, users.len() as i64), "{name}: {row}");
        assert_eq!(number("n"), one.of.iter().map(|event| event.n).sum::<i64>(), "{name}: {row}");
        assert_eq!(number("fastest"), one.of.iter().map(|event| event.ms).min().unwrap(), "{name}: {row}");
        assert_eq!(row["top"].as_str(), users.last().map(|user| user.as_str()), "{name}: {row}");
        let mean = one.of.iter().map(|event| event.ms).sum::<i64>() as f64 / count as f64;
        // The test's reader of JSON is not exact to the last bit.
        let is_near = |key: &str, right: f64| (row[key].as_f64().unwrap() - right).abs() <= right.abs() * 1e-12;
        assert!(is_near("mean", mean), "{name}: {row}");
        assert!(is_near("total", one.of.iter().map(|event| event.price).sum()), "{name}: {row}");
        assert_eq!(number("odd"), one.of.iter().filter(|event| event.ms % 2 == 1).count() as i64, "{name}: {row}");
        if matches!(model, Model::Session { .. }) {
            assert_eq!(number("window_count"), count, "{name}: {row}");
        }
        let mut ms: Vec<i64> = one.of.iter().map(|event| event.ms).collect();
        ms.sort_unstable();
        let right = ms[((0.9 * count as f64).ceil() as usize).max(1) - 1] as f64;
        let told = row["p90"].as_f64().unwrap();
        assert!((told - right).abs() <= right / 100.0, "{name}: {told} for {right}");
        count
    };
    assert!(made.out.iter().map(&mut check).all(|count| count % 7 != 0), "{name}: it was divided by 0");
    let of_windows = made.letters.iter().filter(|letter| letter.contains("window_start"));
    assert!(of_windows.map(&mut check).all(|count| count % 7 == 0), "{name}: a letter that could be a row");
    assert!(missing.is_empty(), "{name}: {} windows are missing, such as {:?}", missing.len(), missing[0]);
    let mut files: Vec<i64> = wanted
        .0
        .iter()
        .filter(|one| one.of.len() >= 2 && one.of.len() % 7 != 0)
        .map(|one| one.of.iter().map(|event| event.n).sum())
        .collect();
    files.sort_unstable();
    assert_eq!(made.files, files, "{name}: files");
    let number = |text: &String| serde_json::from_str::<serde_json::Value>(text).unwrap()["n"].as_i64().unwrap();
    assert_eq!(made.late.iter().map(number).collect::<BTreeSet<i64>>(), wanted.1, "{name}: rows in no window");
    assert_eq!(made.late.len(), wanted.1.len(), "{name}: one came twice");
}

/// Everything that has come out, sorted.
#[derive(PartialEq, Debug)]
struct Made {
    out: Vec<String>,
    files: Vec<i64>,
    late: Vec<String>,
    letters: Vec<String>,
}

fn made(bench: &Bench) -> Made {
    let values = |topic: &str| {
        let text = |record: Record| String::from_utf8_lossy(record.value.as_deref().unwrap()).into_owned();
        let mut values: Vec<String> = bench.records(topic).into_iter().map(text).collect();
        values.sort_unstable();
        values
    };
    let mut files = parquet_rows(&bench.options.out.join("third"));
    files.sort_unstable();
    Made { out: values("out"), files, late: values("late"), letters: values("in-dlt") }
}

/// Sends all, partition by partition in an order of `order`, and runs to the end of each stretch; crashes where `crashes` says.
fn ran(text: &str, all: &[Vec<Event>], order: u64, crashes: &[(Step, usize)]) -> Made {
    let bench = Bench::new();
    bench.hooks.set_quiet_after(Duration::from_secs(1 << 40));
    let source = bench.topic("in", PARTITIONS as i32, &[("inrush.http.key", "/n")]);
    bench.topic("out", 2, &[("max.message.bytes", "2000")]);
    bench.table(USERS);
    let job = bench.table_job(text);
    let mut random = fastrand::Rng::with_seed(order);
    let mut sent = [0; PARTITIONS];
    let mut crashes = crashes.iter();
    while sent.iter().zip(all).any(|(sent, events)| *sent < events.len()) {
        if let Some((step, nth)) = crashes.next() {
            bench.hooks.crash_at(*step, *nth);
        }
        let mut partitions: Vec<usize> = (0..PARTITIONS).collect();
        random.shuffle(&mut partitions);
        for id in partitions {
            let end = (sent[id] + random.usize(0..150)).min(all[id].len());
            let records: Vec<_> = all[id][sent[id]..end].iter().map(Event::record).collect();
            bench.send_events(&source, id as i32, &records);
            sent[id] = end;
        }
        bench.finish(&job);
    }
    made(&bench)
}

#[test]
fn windows_are_what_a_plain_model_makes_of_the_records_however_they_are_read_and_killed() {
    let steps =
        [Step::Appended, Step::Written, Step::Lettered, Step::Staged, Step::Remembered, Step::Saved, Step::Renamed];
    let longer = std::env::var("INRUSH_KILLS").ok().and_then(|kills| kills.parse::<usize>().ok());
    for (before, window, model) in WINDOWS {
        let text = pipeline(before, window);
        for seed in 0..if longer.is_some() { 10 } else { SEEDS } {
            let mut random = fastrand::Rng::with_seed(seed);
            let all: Vec<Vec<Event>> = (0..PARTITIONS).map(|partition| events(seed, partition)).collect();
            let whole = ran(&text, &all, 1, &[]);
            let sizes = (whole.out.len(), whole.files.len(), whole.late.len(), whole.letters.len());
            let is_enough = sizes.0 > 20 && sizes.1 > 8 && sizes.2 > 8 && sizes.3 > 8;
            assert!(is_enough, "{before}{window} makes too little: {sizes:?}");
            if before == LOOK_UP {
                let first = |row: &String| row.contains("\"page\":\"p0\"") == row.contains("\"of_page\":\"first\"");
                assert!(whole.out.iter().all(first) && whole.late.iter().any(|row| row.contains("\"plan\":\"free\"")));
            }
            if !matches!(model, Model::None) {
                compare(window, model, &whole, &wanted(model, &all));
            }
            for kill in 0..longer.unwrap_or(KILLS) {
                let crashes: Vec<(Step, usize)> =
                    (0..6).map(|_| (steps[random.usize(0..steps.len())], random.usize(1..14))).collect();
                let killed = ran(&text, &all, 2 + kill as u64, &crashes);
                assert!(killed == whole, "{window}, seed {seed}, killed at {crashes:?}: {killed:#?}\n{whole:#?}");
            }
        }
    }
}

/// `{"n":…,"ts":…}` with a time in ms, sent then.
fn row(n: i64, time: i64, page: &str) -> (i64, String, String) {
    (time, format!("k{n}"), format!("{{\"n\":{n},\"ts\":{time},\"page\":\"{page}\"}}"))
}

const COUNTING: &str = "from = \"topic:in\"\n[columns]\nn = \"int64\"\nts = \"timestamp(ms)\"\npage = \"string\"\n[[step]]\nwhere = \"n > 0\"\n[[step]]\nwindow = { tumbling = \"1s\", time = \"ts\", key = \"page\", late-to = { topic = \"late\" }, select = \"count(*) as views, sum(n) as n\" }\n[[route]]\nto = { topic = \"out\" }\n[[route]]\nto = { parquet = \"third\", roll = \"100ms\" }\n";

/// `n` of each row of a topic, sorted.
fn numbers(bench: &Bench, topic: &str) -> Vec<i64> {
    let number = |record: &Record| -> i64 {
        serde_json::from_slice::<serde_json::Value>(record.value.as_deref().unwrap()).unwrap()["n"].as_i64().unwrap()
    };
    let mut numbers: Vec<i64> = match bench.store.topic(topic) {
        Some(_) => bench.records(topic).iter().map(number).collect(),
        None => Vec::new(),
    };
    numbers.sort_unstable();
    numbers
}

fn files(bench: &Bench) -> Vec<i64> {
    let mut files = parquet_rows(&bench.options.out.join("third"));
    files.sort_unstable();
    files
}

/// Runs until something is so, starting again after each crash.
fn run_until(bench: &Bench, job: &Job, runs: &mut Runs, what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        let made = [numbers(bench, "out"), files(bench), numbers(bench, "late")];
        assert!(began.elapsed() < PATIENCE, "waited too long for {what}: {made:?}, {:?}", bench.status());
        if runs.thread.is_finished() {
            let before = std::mem::replace(runs, bench.run(job));
            assert!(before.thread.join().is_err(), "it ended by itself");
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn partitions_that_say_nothing_hold_no_window_open_and_a_kill_then_doubles_nothing() {
    let crashes = [
        None,
        Some((Step::Appended, 1)),
        Some((Step::Written, 2)),
        Some((Step::Saved, 2)),
        Some((Step::Saved, 3)),
        Some((Step::Remembered, 2)),
        Some((Step::Lettered, 3)),
    ];
    for crash in crashes {
        let bench = Bench::new();
        bench.hooks.set_quiet_after(Duration::from_millis(300));
        // One has rows, one only such as no window sees, and one nothing at all.
        let source = bench.topic("in", 3, &[]);
        let job = bench.job(COUNTING);
        let began = bench.options.clock.now_ms() / 1_000 * 1_000 - 20_000;
        let all: Vec<_> = (1..=20).map(|n| row(n, began + n * 250, "p")).collect();
        bench.send_events(&source, 0, &all);
        bench.send_events(&source, 1, &[row(-1, began, "p")]);
        if let Some((step, nth)) = crash {
            bench.hooks.crash_at(step, nth);
        }
        let mut runs = bench.run(&job);
        let wanted = [6, 20, 22, 38, 54, 70];
        let are_there = || numbers(&bench, "out").len() >= 6 && files(&bench).len() >= 6;
        run_until(&bench, &job, &mut runs, &format!("windows that nobody closes, {crash:?}"), are_there);
        // What comes now is too late, wherever it comes; the future is not.
        bench.send_events(&source, 0, &[row(101, began + 3_000, "p")]);
        bench.send_events(&source, 2, &[row(102, began + 3_000, "p"), row(103, began + 40_000, "p")]);
        run_until(&bench, &job, &mut runs, "late rows", || numbers(&bench, "late").len() >= 2);
        if runs.end().is_err() {
            bench.run(&job).end().unwrap();
        }
        assert_eq!(numbers(&bench, "out"), wanted, "{crash:?}");
        assert_eq!(files(&bench), wanted, "{crash:?}");
        assert_eq!(numbers(&bench, "late"), [101, 102], "{crash:?}");
    }
}

#[test]
fn rows_that_come_within_late_hold_their_windows_open_though_they_move_no_time() {
    let bench = Bench::new();
    bench.hooks.set_quiet_after(Duration::from_secs(5));
    let source = bench.topic("in", 1, &[]);
    let job = bench.job(&COUNTING.replace("late-to", "late = \"10m\", late-to"));
    let began = bench.options.clock.now_ms() / 1_000 * 1_000 - 3_000_000;
    let runs = bench.run(&job);
    bench.send_events(&source, 0, &[row(1_000, began + 100_000, "p")]);
    // Far longer than a partition is quiet, each in a window of its own.
    for n in 1..=70 {
        bench.send_events(&source, 0, &[row(n, began + n * 1_000, "p")]);
        std::thread::sleep(Duration::from_millis(100));
    }
    wait_for("all windows", || numbers(&bench, "out").len() == 71);
    runs.stop();
    assert_eq!(numbers(&bench, "late"), [0; 0]);
}

#[test]
fn a_partition_that_is_added_takes_part_and_changes_no_window_that_is_out() {
    // The partition comes while the pipeline runs, or while it lies dead with windows out that no cut tells of.
    let crashes =
        [(Step::Lettered, 2), (Step::Lettered, 3), (Step::Appended, 1), (Step::Staged, 2), (Step::Saved, 2)].map(Some);
    for crash in [None].into_iter().chain(crashes) {
        let bench = Bench::new();
        bench.hooks.set_quiet_after(Duration::from_secs(1 << 40));
        let source = bench.topic("in", 2, &[]);
        let job = bench.job(COUNTING);
        for id in 0..2 {
            bench.send_events(&source, id, &(1..=8).map(|n| row(n, BEGAN + n * 500, "p")).collect::<Vec<_>>());
        }
        if let Some((step, nth)) = crash {
            bench.hooks.crash_at(step, nth);
        }
        let mut runs = bench.run(&job);
        match crash {
            None => wait_for("the first windows", || numbers(&bench, "out").len() == 4),
            Some(_) => wait_for("a crash", || runs.thread.is_finished()),
        }
        bench.runtime.block_on(bench.store.add_partitions(&TopicName::new("in").unwrap(), 3)).unwrap();
        let source = bench.store.topic("in").unwrap();
        // Of windows that are out, or will be; of the one that is open; of one to come.
        let new = [row(1_001, BEGAN + 600, "p"), row(1_002, BEGAN + 4_300, "p"), row(1_003, BEGAN + 5_000, "p")];
        bench.send_events(&source, 2, &new);
        for id in 0..3 {
            bench.send_events(&source, id, &[row(2_000, BEGAN + 9_000, "p")]);
        }
        let is_there = || numbers(&bench, "out").len() >= 6 && files(&bench).len() >= 6;
        run_until(&bench, &job, &mut runs, &format!("all windows, {crash:?}"), is_there);
        if runs.end().is_err() {
            bench.run(&job).end().unwrap();
        }
        // Windows of [1], [2 3], [4 5], [6 7] of two partitions, then [8 8 1002] and [1003]; if the first was not out, it has 1001 too.
        let late = numbers(&bench, "late");
        let wanted = if late == [1_001] { [2, 10, 18, 26, 1_003, 1_018] } else { [10, 18, 26, 1_003, 1_003, 1_018] };
        assert!(late == [1_001] || late.is_empty() && crash == Some((Step::Lettered, 2)), "{crash:?}: {late:?}");
        assert_eq!(numbers(&bench, "out"), wanted, "{crash:?}");
        assert_eq!(files(&bench), wanted, "{crash:?}");
    }
}

#[test]
fn windows_that_a_topic_holds_are_not_made_again_by_another_text() {
    for nth in 1..6 {
        let bench = Bench::new();
        bench.hooks.set_quiet_after(Duration::from_secs(1 << 40));
        let source = bench.topic("in", 2, &[]);
        let old = bench.job(COUNTING);
        // The new text counts otherwise behind the window, and its window is the same.
        let new = bench.job(&COUNTING.replace(
            "[[route]]\nto = { topic",
            "[[step]]\nselect = \"window_start, window_end, page, views, n + 1000000 as n\"\n[[route]]\nto = { topic",
        ));
        let send = |numbers: std::ops::RangeInclusive<i64>| {
            for id in 0..2 {
                bench.send_events(
                    &source,
                    id,
                    &numbers.clone().map(|n| row(n, BEGAN + n * 1_000, "p")).collect::<Vec<_>>(),
                );
            }
        };
        send(1..=4);
        bench.finish(&old);
        send(5..=9);
        bench.hooks.crash_at(Step::Lettered, nth);
        let runs = bench.run(&old);
        wait_for("a crash, or the end", || runs.thread.is_finished() || numbers(&bench, "out").len() == 8);
        let before = numbers(&bench, "out");
        assert!(runs.end().is_err() || nth > 3);
        send(10..=12);
        bench.finish(&new);
        let made: Vec<i64> = numbers(&bench, "out").into_iter().map(|n| n % 1_000_000).collect();
        let whole: BTreeSet<i64> = made.iter().copied().collect();
        assert_eq!(whole, (1..=11).map(|n| n * 2).collect(), "crash {nth}");
        assert_eq!(made.len(), 11, "crash {nth}: one is there twice");
        assert!(before.iter().all(|n| numbers(&bench, "out").contains(n)), "crash {nth}");
        assert_eq!(files(&bench), numbers(&bench, "out"), "crash {nth}: both outputs by the same text");
    }
}

#[test]
fn a_window_that_is_another_one_is_refused_until_its_state_is_let_go() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    let folder = bench.options.folder.clone();
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("p.toml"), COUNTING).unwrap();
    let (control, running) = bench.supervised();
    bench.send_events(&source, 0, &[row(1, BEGAN, "p"), row(2, BEGAN + 1_000, "p"), row(3, BEGAN + 1_100, "p")]);
    wait_for("the first window", || numbers(&bench, "out") == [1]);
    wait_for("a cut", || {
        let checkpoint = Checkpoint::load(&runner::checkpoint_path(&bench.options, "p")).unwrap();
        checkpoint.is_some_and(|checkpoint| checkpoint.positions.get(&0) == Some(&3))
    });
    std::fs::write(folder.join("p.toml"), COUNTING.replace("\"1s\"", "\"2s\"")).unwrap();
    let refused = bench.reload(&control).remove(0).1.unwrap_err();
    assert!(refused.contains("--state drop") && refused.contains("the old one goes on"), "{refused}");
    let drop = Command::Reload { pipeline: Some("p".to_owned()), drop_state: true };
    assert_eq!(bench.runtime.block_on(control.ask(drop)).unwrap().remove(0).1, Ok("swapped".to_owned()));
    // What was open is forgotten, and what comes is in windows of two seconds.
    bench.send_events(
        &source,
        0,
        &[row(5, BEGAN + 1_200, "p"), row(6, BEGAN + 2_200, "p"), row(7, BEGAN + 4_200, "p")],
    );
    wait_for("the next windows", || numbers(&bench, "out") == [1, 5, 6]);
    running.stop(PATIENCE);
}

#[test]
fn what_has_no_room_is_in_no_window_and_says_so_and_a_sum_that_does_not_fit_is_a_letter() {
    let text = COUNTING.replace("late-to", "state-size-max = \"64KiB\", late-to");
    let made = |order: u64| {
        let bench = Bench::new();
        bench.hooks.set_quiet_after(Duration::from_secs(1 << 40));
        let source = bench.topic("in", 2, &[]);
        let job = bench.job(&text);
        let mut random = fastrand::Rng::with_seed(order);
        let mut all: Vec<Vec<_>> = vec![Vec::new(), Vec::new()];
        for n in 1..=1_500 {
            all[n as usize % 2].push(row(n, BEGAN + n / 2, &format!("p{}", n % 1_200)));
        }
        let large = i64::MAX / 2 + 1;
        all[0].push(row(large, BEGAN + 2_000, "large"));
        all[1].push(row(large, BEGAN + 2_000, "large"));
        (0..2).for_each(|id| all[id].push(row(1, BEGAN + 9_000, "end")));
        let mut sent = [0, 0];
        while (0..2).any(|id| sent[id] < all[id].len()) {
            let id = random.usize(0..2);
            let end = (sent[id] + random.usize(1..400)).min(all[id].len());
            bench.send_events(&source, id as i32, &all[id][sent[id]..end]);
            sent[id] = end;
            if random.bool() {
                bench.finish(&job);
            }
        }
        bench.finish(&job);
        let letter = String::from_utf8(bench.records("in-dlt")[0].value.as_deref().unwrap().to_vec()).unwrap();
        assert_eq!(bench.records("in-dlt").len(), 1);
        assert!(letter.contains("\"page\":\"large\",\"views\":2,\"n\":null"), "{letter}");
        (numbers(&bench, "out"), numbers(&bench, "late"))
    };
    let (out, late) = made(1);
    assert!(late.len() > 50 && out.len() > 300, "{} {}", out.len(), late.len());
    assert_eq!(out.iter().sum::<i64>() + late.iter().sum::<i64>(), 1_500 * 1_501 / 2, "each row is here or there");
    assert_eq!(made(2), (out, late), "however it was read");
}

#[test]
fn what_a_window_cannot_be_is_told_with_its_place() {
    let wrong = |window: &str| {
        let text = COUNTING.replace("tumbling = \"1s\", time = \"ts\"", window);
        let mistakes = load::text(Path::new("p.toml"), &text).err().unwrap_or_else(|| panic!("{window} was taken"));
        mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let selects = |select: &str| {
        let text = COUNTING.replace("count(*) as views, sum(n) as n", select);
        load::text(Path::new("p.toml"), &text).err().unwrap_or_else(|| panic!("{select} was taken"))[0].to_string()
    };
    for (window, part) in [
        ("time = \"ts\"", "a window is one of"),
        ("tumbling = \"1s\", session = \"1s\"", "a window is one of"),
        ("tumbling = \"0s\"", "longer than nothing"),
        ("hopping = { size = \"1s\" }", "it needs both"),
        ("hopping = { size = \"1s\", every = \"2s\" }", "no longer than size"),
        ("hopping = { size = \"1h\", every = \"1s\" }", "more than 1000 windows"),
        ("tumbling = \"1s\", time = \"n\"", "goes by a timestamp"),
        ("tumbling = \"1s\", time = \"tss\"", "did you mean ts?"),
        ("tumbling = \"1s\", latte = \"1s\"", "latte"),
        ("tumbling = \"1s\", late = \"topic:later\"", "late-to = { topic = \"later\" }"),
    ] {
        let told = wrong(window);
        assert!(told.contains(part) && told.contains("p.toml:"), "{window}: {told}");
    }
    for (select, part) in [
        ("count(distinct page) as x", "approx_distinct"),
        ("median(n) as x", "a window makes"),
        ("sum(page) as x", "needs a number"),
        ("sum(nn) as x", "nn"),
        ("count(*)", "give this a name"),
        ("n + 1 as x", "no aggregate"),
        ("approx_percentile(n, 99) as x", "from 0 to 1"),
        ("count(*) as page", "two columns"),
        ("sum(n) over () as x", "only the function"),
    ] {
        let told = selects(select);
        assert!(told.contains(part) && told.starts_with("p.toml:9:"), "{select}: {told}");
    }
    let behind = |step: &str| {
        let text = COUNTING.replacen("[[route]]", &format!("[[step]]\n{step}\n[[route]]"), 1);
        load::text(Path::new("p.toml"), &text).err().unwrap_or_else(|| panic!("{step} was taken"))[0].to_string()
    };
    assert!(behind("dedupe = { key = \"page\", ttl = \"1h\" }").contains("behind a window"));
    assert!(
        behind("window = { tumbling = \"1m\", time = \"window_start\", select = \"count(*) as c\" }")
            .contains("behind a window")
    );
}

#[test]
fn a_partition_that_runs_ahead_is_read_no_further_than_its_windows_have_room() {
    let bench = Bench::new();
    bench.hooks.set_quiet_after(Duration::from_secs(1 << 40));
    let source = bench.topic("in", 2, &[]);
    let text = "from = \"topic:in\"\n[columns]\nn = \"int64\"\nts = \"timestamp(ms)\"\n[[step]]\nwindow = { hopping = { size = \"100s\", every = \"1s\" }, time = \"ts\", key = \"n\", state-size-max = \"64KiB\", select = \"count(*) as views, count(null) as none\" }\n[[step]]\nselect = \"n, none\"\n[[route]]\nto = { topic = \"out\" }\n";
    let job = bench.job(text);
    let rows: Vec<_> = (1..=600).map(|n| row(n, BEGAN + n * 1_000_000, "p")).collect();
    bench.send_events(&source, 0, &rows);
    let runs = bench.run(&job);
    let position = || bench.status().and_then(|status| status.positions.get(&0).copied()).unwrap_or(0);
    wait_for("a piece", || position() > 0);
    std::thread::sleep(Duration::from_millis(500));
    assert!(position() < 300, "{} of 600 rows wait", position());
    bench.send_events(&source, 1, &[row(1, BEGAN + 700_000_000, "p")]);
    wait_for("the rest", || position() == 600 && numbers(&bench, "out").len() == 599 * 100);
    runs.end().unwrap();
    let nothing = |record: &Record| String::from_utf8_lossy(record.value.as_deref().unwrap()).contains("\"none\":0");
    assert!(bench.records("out").iter().all(nothing), "null is no value");
}

#[test]
fn a_group_and_steps_that_remember_are_refused_by_the_file() {
    let text = COUNTING.replace("\"topic:in\"", "{ kafka = \"in\", servers = \"127.0.0.1:9\", group = \"g\" }");
    let mistakes = load::text(Path::new("p.toml"), &text).err().unwrap();
    let told = mistakes.iter().map(ToString::to_string).collect::<String>();
    assert!(told.contains("p.toml:1:") && told.contains("leave out group"), "{told}");
}

#[test]
fn a_session_of_one_key_with_very_many_stretches_is_no_quadratic_work() {
    let bench = Bench::new();
    bench.hooks.set_quiet_after(Duration::from_secs(1 << 40));
    let source = bench.topic("in", 2, &[]);
    let job = bench.job(&COUNTING.replace("tumbling = \"1s\"", "session = \"1ms\""));
    for from in (1..=60_000).step_by(5_000) {
        let rows: Vec<_> = (from..from + 5_000).map(|n| row(n, BEGAN + n * 10, "p")).collect();
        bench.send_events(&source, 0, &rows);
    }
    bench.send_events(&source, 1, &[row(1, BEGAN + 86_400_000, "end")]);
    bench.send_events(&source, 0, &[row(1, BEGAN + 86_400_000, "end")]);
    bench.finish(&job);
    assert_eq!(bench.records("out").len(), 60_000);
}

#[test]
fn windows_of_records_that_left_the_log_are_told() {
    let bench = Bench::new();
    bench.hooks.set_quiet_after(Duration::from_secs(1 << 40));
    let source = bench.topic("in", 1, &[]);
    let job = bench.job(COUNTING);
    bench.send_events(&source, 0, &(1..=4).map(|n| row(n, BEGAN + n * 1_000, "p")).collect::<Vec<_>>());
    bench.finish(&job);
    assert_eq!(numbers(&bench, "out"), [1, 2, 3]);
    // As if two more windows had been let go by records that a power cut has taken away since.
    let checkpoint = Checkpoint::load(&runner::checkpoint_path(&bench.options, "p")).unwrap().unwrap();
    let state = &checkpoint.outputs["topic out"];
    let from = SourceTopic { pipeline: checkpoint.id, topic: source.id };
    let out = bench.store.topic("out").unwrap();
    let known = state.topic.as_ref().unwrap();
    let mut journal = Journal::open(out, from, known, &state.positions, bench.hooks.clone()).unwrap();
    for n in [4, 5] {
        let value = format!("{{\"n\":{n}}}");
        let (offset, headers) = (BEGAN + (n + 1) * 1_000, Vec::new());
        let gone = Row { offset, timestamp: offset, key: None, value: Some(value.as_bytes()), headers };
        journal.write(-1, BTreeMap::from([(0, vec![gone])]), Last::Whole).unwrap();
    }
    let runs = bench.run(&job);
    let is_told = || {
        let warnings = bench.status().map_or(Vec::new(), |status| status.warnings);
        warnings.iter().any(|warning| warning.contains("2023-11-14T22:13:26") && warning.contains("has no more"))
    };
    wait_for("the warning", is_told);
    // What comes now goes on behind them: windows that are out come no second time.
    bench.send_events(
        &source,
        0,
        &[row(40, BEGAN + 4_500, "p"), row(7, BEGAN + 7_000, "p"), row(8, BEGAN + 9_000, "p")],
    );
    wait_for("the next window", || numbers(&bench, "out").contains(&7));
    runs.end().unwrap();
    assert_eq!(numbers(&bench, "out"), [1, 2, 3, 4, 5, 7]);
}
