//! Rows that somebody looks at while they pass: the right ones, in order, once, and never in the pipeline's way.

use super::*;
use crate::control::{After, PIECES_MAX, RATE_MAX, Tap};
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;

const STEPS: &str = "from = \"topic:in\"\n[columns]\nn = \"int64\"\nuser = \"string\"\n[[step]]\nwhere = \"n % 2 = 1\"\n[[step]]\nselect = \"n, user, n * 2 as twice\"\n[[route]]\nwhere = \"n < 5\"\nto = { topic = \"low\" }\n[[route]]\notherwise = true\nto = { topic = \"high\" }\n";
const STATEFUL: &str = "from = \"topic:in\"\n[columns]\nn = \"int64\"\nuser = \"string\"\n[[step]]\nwhere = \"n > 0\"\n[[step]]\ndedupe = { key = \"user\", ttl = \"100h\" }\n[[step]]\nlast = { key = \"n\", ttl = \"1ms\" }\n[[step]]\nselect = \"n, user\"\n[[route]]\nto = { topic = \"low\" }\n";

fn tap(after: &str, lines: mpsc::Sender<Bytes>) -> Tap {
    Tap { after: After::of(Some(after)), output: None, filter: None, rate: RATE_MAX, limit: None, bad: false, lines }
}

/// Lines as they come, but empty ones.
struct Reader {
    pieces: mpsc::Receiver<Bytes>,
}

impl Reader {
    /// Reads lines until so many were rows, or the tap ended.
    fn read(&mut self, rows: usize) -> Vec<Value> {
        let mut lines: Vec<Value> = Vec::new();
        let began = Instant::now();
        while lines.iter().filter(|line| line.get("row").is_some()).count() < rows && !lines.iter().any(is_end) {
            assert!(began.elapsed() < PATIENCE, "{lines:#?}");
            match self.pieces.try_recv() {
                Ok(piece) => lines.extend(
                    piece
                        .split(|byte| *byte == b'\n')
                        .filter(|line| !line.is_empty())
                        .map(|line| serde_json::from_slice(line).unwrap()),
                ),
                Err(mpsc::error::TryRecvError::Empty) => std::thread::park_timeout(Duration::from_millis(2)),
                Err(mpsc::error::TryRecvError::Disconnected) => break,
            }
        }
        lines
    }
}

fn is_end(line: &Value) -> bool {
    line.get("end").is_some()
}

fn numbers(lines: &[Value]) -> Vec<i64> {
    lines.iter().filter_map(|line| line["row"]["n"].as_i64()).collect()
}

impl Bench {
    /// Opens a tap on what this bench runs next.
    fn tapped(&self, job: &Job, make: impl FnOnce(mpsc::Sender<Bytes>) -> Tap) -> Result<Reader, String> {
        let (lines, pieces) = mpsc::channel(PIECES_MAX);
        self.seat.taps.open(job, &make(lines)).map(|()| Reader { pieces })
    }
}

#[test]
fn rows_are_seen_behind_each_step_in_their_order_and_once() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    let job = bench.job(STEPS);
    let mut readers: Vec<Reader> = ["columns", "1", "select", "routes"]
        .into_iter()
        .map(|after| bench.tapped(&job, |lines| tap(after, lines)).unwrap())
        .collect();
    let only = |lines| Tap { output: Some("low".to_owned()), ..tap("routes", lines) };
    readers.push(bench.tapped(&job, only).unwrap());
    let asked = |lines| Tap { filter: Some("twice > 20 and user = 'u4'".to_owned()), ..tap("2", lines) };
    readers.push(bench.tapped(&job, asked).unwrap());
    bench.send(&source, 0, 1..30);
    let runs = bench.run(&job);
    let good: Vec<i64> = (1..30).filter(|n| n % 10 != 0).collect();
    let odd: Vec<i64> = good.iter().copied().filter(|n| n % 2 == 1).collect();
    assert_eq!(numbers(&readers[0].read(good.len())), good);
    let behind_where = readers[1].read(odd.len());
    assert_eq!(numbers(&behind_where), odd);
    assert!(behind_where[0]["row"].get("twice").is_none(), "before the select: {behind_where:?}");
    let behind_select = readers[2].read(odd.len());
    assert_eq!(
        behind_select[1],
        serde_json::json!({ "partition": 0, "offset": 2, "row": { "n": 3, "user": "u3", "twice": 6 } })
    );
    let mut outputs: Vec<(i64, String)> = readers[3]
        .read(odd.len())
        .iter()
        .map(|line| (line["row"]["n"].as_i64().unwrap(), line["output"].as_str().unwrap().to_owned()))
        .collect();
    outputs.sort();
    let output = |n: &i64| (*n, if *n < 5 { "topic low" } else { "topic high" }.to_owned());
    assert_eq!(outputs, odd.iter().map(output).collect::<Vec<_>>());
    assert_eq!(numbers(&readers[4].read(2)), [1, 3]);
    assert_eq!(numbers(&readers[5].read(2)), [11, 25]);
    runs.end().unwrap();
}

#[test]
fn what_steps_leave_out_is_seen_with_its_reason_and_dead_letters_too() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    let job = bench.job(STATEFUL);
    let bad = |lines| Tap { bad: true, ..tap("routes", lines) };
    let mut reader = bench.tapped(&job, bad).unwrap();
    let mut behind = bench.tapped(&job, |lines| tap("dedupe", lines)).unwrap();
    bench.send(&source, 0, 0..21);
    bench.hooks.set_quiet_after(Duration::from_millis(50));
    let runs = bench.run(&job);
    // Of seven users the first record that is good.
    let first = [1, 2, 3, 4, 5, 6, 7];
    assert_eq!(numbers(&behind.read(first.len())), first);
    // Eleven that are left out, and seven that time lets go.
    let lines = reader.read(18);
    let of = |key: &str, value: &str| -> Vec<&Value> { lines.iter().filter(|line| line[key] == value).collect() };
    let doubles = of("filtered", "duplicate");
    assert_eq!(doubles.len(), 18 - first.len(), "{lines:#?}");
    assert!(doubles.iter().all(|line| line["step"] == "2 dedupe" && line["row"]["n"].as_i64().unwrap() > 7));
    let dead = of("dead", "wrong-type");
    assert_eq!(dead.iter().map(|line| line["offset"].as_i64().unwrap()).collect::<Vec<_>>(), [0, 10, 20]);
    assert!(dead[1]["value"].as_str().unwrap().contains("bad 10") && dead[1]["column"] == "n");
    // What a mark lets go is seen as it goes out.
    let mut out: Vec<i64> = of("output", "topic low").iter().filter_map(|line| line["row"]["n"].as_i64()).collect();
    out.sort_unstable();
    assert_eq!(out, first);
    runs.end().unwrap();
}

#[test]
fn who_does_not_read_holds_up_nothing_and_is_told_how_much_he_missed() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    let job = bench.job(STEPS);
    let mut slow = bench.tapped(&job, |lines| Tap { rate: 10, ..tap("columns", lines) }).unwrap();
    bench.send(&source, 0, 0..3_000);
    // It ends at the end of its topic, whoever looks.
    bench.finish(&job);
    bench.seat.taps.end("enough");
    let lines = slow.read(usize::MAX);
    assert_eq!(lines.last().unwrap(), &serde_json::json!({ "end": "enough" }));
    let missed: i64 = lines.iter().filter_map(|line| line["not_shown"].as_i64()).sum();
    let seen = numbers(&lines).len() as i64;
    assert!(seen >= 10 && seen + missed == 2_700, "{seen} seen, {missed} missed");
    assert!(bench.tapped(&job, |lines| tap("nothing", lines)).is_err_and(|why| why.contains("1 where, 2 select")));
}

#[test]
fn a_tap_that_nobody_reads_any_more_is_let_go_and_there_are_only_so_many() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    let job = bench.job(STEPS);
    let readers: Vec<Reader> = (0..8).map(|_| bench.tapped(&job, |lines| tap("columns", lines)).unwrap()).collect();
    assert!(bench.tapped(&job, |lines| tap("columns", lines)).is_err_and(|why| why.contains("8 taps")));
    drop(readers);
    bench.send(&source, 0, 1..4);
    let runs = bench.run(&job);
    wait_for("the taps", || bench.seat.taps.look().is_none());
    let limit = |lines| Tap { limit: Some(1), ..tap("columns", lines) };
    let mut one = bench.tapped(&job, limit).unwrap();
    bench.send(&source, 0, 4..9);
    let lines = one.read(usize::MAX);
    assert_eq!((numbers(&lines).len(), is_end(lines.last().unwrap())), (1, true), "{lines:?}");
    runs.end().unwrap();
}

#[test]
fn a_pipeline_that_is_changed_ends_its_taps() {
    let bench = Bench::new();
    bench.topic("in", 1, &[]);
    std::fs::create_dir_all(&bench.options.folder).unwrap();
    std::fs::write(bench.options.folder.join("p.toml"), STEPS).unwrap();
    let (control, running) = bench.supervised();
    wait_for("the pipeline", || control.statuses().iter().any(|status| status.state == State::Running));
    let (lines, pieces) = mpsc::channel(PIECES_MAX);
    let ask = |tap: Tap, name: &str| {
        bench.runtime.block_on(control.ask(Command::Tap { pipeline: name.to_owned(), tap })).unwrap().remove(0).1
    };
    ask(tap("1", lines.clone()), "p").unwrap();
    assert!(ask(tap("1", lines), "q").is_err_and(|why| why.contains("no pipeline q runs")));
    std::fs::write(bench.options.folder.join("p.toml"), STEPS.replace("% 2", "% 3")).unwrap();
    bench.reload(&control);
    let lines = Reader { pieces }.read(usize::MAX);
    assert!(lines.last().unwrap()["end"].as_str().unwrap().contains("changed"), "{lines:?}");
    running.stop(PATIENCE);
}

#[test]
fn rows_that_windows_let_go_are_seen_behind_the_window_and_as_they_go_out() {
    let bench = Bench::new();
    let source = bench.topic("in", 1, &[]);
    let job = bench.job("from = \"topic:in\"\n[columns]\nn = \"int64\"\nts = \"timestamp(ms)\"\n[[step]]\nwindow = { tumbling = \"1s\", time = \"ts\", key = \"n\", select = \"count(*) as views\" }\n[[step]]\nwhere = \"n > 1\"\n[[route]]\nto = { topic = \"low\" }\n");
    let mut readers: Vec<Reader> = ["window", "where", "routes"]
        .into_iter()
        .map(|after| bench.tapped(&job, |lines| tap(after, lines)).unwrap())
        .collect();
    let event = |n: i64| {
        let time = 1_700_000_000_000 + n * 1_000;
        (time, format!("k{n}"), format!("{{\"n\":{n},\"ts\":{time}}}"))
    };
    bench.send_events(&source, 0, &(1..=4).map(event).collect::<Vec<_>>());
    let runs = bench.run(&job);
    assert_eq!(numbers(&readers[0].read(3)), [1, 2, 3]);
    assert_eq!(numbers(&readers[1].read(2)), [2, 3]);
    assert_eq!(numbers(&readers[2].read(2)), [2, 3]);
    runs.end().unwrap();
}
