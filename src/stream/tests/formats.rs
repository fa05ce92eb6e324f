//! Records of several rows through crashes, and a schema registry that is away for a while.

use super::*;
use crate::stream::format::tests::fake_registry::{Fake, registered};

/// Appends records of these values to partition 0, each in a batch of its own.
fn send(bench: &Bench, values: &[Vec<u8>]) {
    let topic = bench.store.topic("in").unwrap();
    for value in values {
        let mut builder = BatchBuilder::new();
        builder.push(NewRecord { timestamp: 1_700_000_000_000, key: None, value: Some(value), headers: &[] });
        let batch = builder.build(Codec::Zstd).unwrap();
        let home = topic.partition(PartitionId(0)).unwrap();
        home.append_blocking(Append { batch, lease: None, leader_epoch: -1 }).unwrap();
    }
}

/// A record of several lines; of every fifth the last one is bad. Lines are long, so that few records make a batch.
fn lines(record: i64) -> Vec<u8> {
    let line = |n: i64| match n % 50 {
        5 => "{\"n\":\"bad\"}".to_owned(),
        _ => format!("{{\"n\":{n},\"user\":\"u{}{}\"}}", n % 7, "x".repeat(8_000)),
    };
    (record * 10..record * 10 + 6).map(line).collect::<Vec<_>>().join("\n").into_bytes()
}

fn rows_of(records: std::ops::Range<i64>) -> Vec<i64> {
    records.filter(|record| record % 5 != 0).flat_map(|record| record * 10..record * 10 + 6).collect()
}

#[test]
fn a_crash_at_any_step_leaves_all_rows_of_a_record_or_none() {
    for to in [TO_PARQUET, TO_TOPIC] {
        for step in [Step::Appended, Step::Written, Step::Lettered, Step::Saved] {
            for nth in 1..=2 {
                let bench = Bench::new();
                bench.topic("in", 1, &[]);
                bench.topic("out", 2, &[]);
                let job = bench.job(&text(to, "format = \"ndjson\""));
                send(&bench, &(1..18).map(lines).collect::<Vec<_>>());
                bench.hooks.crash_at(step, nth);
                bench.finish(&job);
                send(&bench, &(18..24).map(lines).collect::<Vec<_>>());
                bench.finish(&job);
                assert_eq!(bench.rows(to), rows_of(1..24), "{to}: rows after a crash at {step:?} {nth}");
                assert_eq!(bench.records("in-dlt").len(), 4, "{to}: letters after {step:?} {nth}");
            }
        }
    }
}

#[test]
fn rows_of_one_record_that_do_not_fit_into_a_batch_together_are_all_there() {
    let bench = Bench::new();
    bench.topic("in", 1, &[("max.message.bytes", "4194304")]);
    bench.topic("out", 1, &[]);
    let many: Vec<u8> = (1..=40).flat_map(|record| [lines(record * 5 + 1), b"\n".to_vec()].concat()).collect();
    send(&bench, &[lines(1), many, lines(2)]);
    bench.finish(&bench.job(&text(TO_TOPIC, "format = \"ndjson\"")));
    let mut wanted: Vec<i64> = [1, 2]
        .into_iter()
        .chain((1..=40).map(|record| record * 5 + 1))
        .flat_map(|record| record * 10..record * 10 + 6)
        .collect();
    wanted.sort_unstable();
    assert_eq!(bench.rows(TO_TOPIC), wanted);
    assert!(bench.records("in-dlt").is_empty());
}

#[test]
fn a_registry_that_is_down_stalls_the_pipeline_and_buries_nothing() {
    let schema =
        r#"{"type":"record","name":"R","fields":[{"name":"n","type":"long"},{"name":"user","type":"string"}]}"#;
    let fake = Fake::with(&["/schemas/ids/7", "/schemas/ids/9"].map(|path| (path, 503, "busy".to_owned())));
    let port = fake.serve();
    let bench = Bench::new();
    bench.topic("in", 1, &[]);
    let framed = |id: u8, datum: &[u8]| [&[0, 0, 0, 0, id], datum].concat();
    // 1, 2 and 3; one of a schema that there is none of, one that is cut.
    let values = [framed(7, &[2, 2, b'a']), framed(7, &[4, 0]), framed(9, &[0]), framed(7, &[4]), framed(7, &[6, 0])];
    send(&bench, &values);
    let format = format!("format = {{ avro = {{ registry = \"http://127.0.0.1:{port}\" }} }}");
    let job = bench.job(&text(TO_PARQUET, &format));
    let runs = bench.run(&job);
    wait_for("the stall", || bench.status().is_some_and(|status| status.state == State::Stalled));
    let reason = bench.status().unwrap().reason.unwrap();
    assert!(reason.contains(&format!("http://127.0.0.1:{port}")) && reason.contains("503"), "{reason}");
    assert!(bench.store.topic("in-dlt").is_none_or(|_| bench.records("in-dlt").is_empty()), "something was buried");
    fake.answer("/schemas/ids/9", 404, r#"{"error_code":40403,"message":"Schema not found"}"#);
    fake.answer("/schemas/ids/7", 200, &registered(schema, None, serde_json::json!([])));
    wait_for("the rows", || parquet_rows(&bench.folder.path().join("out")).len() == 3);
    let asked = fake.asked.lock().unwrap().len();
    send(&bench, &[framed(7, &[8, 0])]);
    wait_for("one more", || parquet_rows(&bench.folder.path().join("out")).len() == 4);
    assert_eq!(fake.asked.lock().unwrap().len(), asked, "a schema is asked for once");
    runs.stop();
    assert_eq!(bench.rows(TO_PARQUET), [1, 2, 3, 4]);
    let reasons: Vec<_> = bench
        .records("in-dlt")
        .iter()
        .filter_map(|letter| {
            let (_, reason) = letter.headers.iter().find(|(name, _)| name == "inrush-dlt-reason")?;
            Some(String::from_utf8_lossy(reason.as_deref()?).into_owned())
        })
        .collect();
    assert_eq!(reasons, ["unknown-schema", "not-avro"]);
}
