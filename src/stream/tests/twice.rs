//! A pipeline that ends twice: what topics hold behind the last cut is not made again either if the start that found it is itself ended
//! before it has read so far, with a cut in between.

use super::*;

const TO_BOTH: &str = "[columns]\nn = \"int64\"\nuser = \"string\"\n[[step]]\nwhere = \"n > 0\"\nSTEP[[route]]\nto = { topic = \"out\" }\n[[route]]\nto = { parquet = \"third\", roll = \"100ms\" }\n";

#[test]
fn a_stop_amid_what_is_read_again_doubles_no_row_and_no_letter() {
    for step in ["", "[[step]]\ndedupe = { key = [\"_key\", \"n\"], ttl = \"1h\" }\n"] {
        let bench = Bench::new();
        bench.hooks.set_quiet_after(Duration::from_secs(1 << 40));
        let source = bench.topic("in", 3, &[]);
        bench.topic("out", 1, &[]);
        let job = bench.job(&format!("from = \"topic:in\"\n{}", TO_BOTH.replace("STEP", step)));
        (0..3).for_each(|id| bench.send(&source, id, i64::from(id) * 100 + 1..i64::from(id) * 100 + 30));
        // All three partitions are out, and no cut says so.
        bench.hooks.crash_at(Step::Lettered, 3);
        assert!(bench.run(&job).thread.join().is_err());
        // What was given to the log before the crash may still be on its way.
        wait_for("all that is out", || (bench.numbers("out").len(), bench.letters("in-dlt").len()) == (81, 6));
        // Each start is stopped when it has read one partition more; its stop cuts there.
        for _ in 0..2 {
            let life: Arc<Mutex<Option<Arc<Life>>>> = Arc::default();
            let own = life.clone();
            bench.hooks.sink(move |_, _, _| {
                wait_for("the life", || own.lock().unwrap().is_some());
                own.lock().unwrap().as_ref().unwrap().stop();
                Ok(())
            });
            let runs = bench.run(&job);
            *life.lock().unwrap() = Some(runs.life.clone());
            runs.thread.join().unwrap().unwrap();
        }
        bench.hooks.sink(|_, _, _| Ok(()));
        let checkpoint = Checkpoint::load(&runner::checkpoint_path(&bench.options, "p")).unwrap().unwrap();
        assert!(checkpoint.positions.values().any(|next| *next == 0), "it has read all: {:?}", checkpoint.positions);
        bench.finish(&job);
        let wanted: Vec<i64> = (0..3).flat_map(|id| good(id * 100 + 1..id * 100 + 30)).collect();
        assert_eq!(bench.numbers("out"), wanted, "{step}");
        assert_eq!(bench.files("third"), wanted, "{step}");
        assert_eq!(bench.letters("in-dlt").len(), 6, "{step}");
    }
}
