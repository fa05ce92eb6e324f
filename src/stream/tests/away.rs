//! What an output writes to is taken away while it writes: a disk that is not mounted for a while, a job that cleans up.

use super::*;

/// Waits until the output stands still for this reason.
fn stalls(bench: &Bench, because: &str) {
    wait_for(because, || {
        let told = bench.status().filter(|status| status.state == State::Stalled).and_then(|status| status.reason);
        told.is_some_and(|reason| reason.contains(because))
    });
}

#[test]
fn a_folder_whose_disk_is_away_is_not_made_anew_and_has_all_rows_when_it_is_back() {
    for is_killed in [false, true] {
        let bench = Bench::new();
        let (source, job) = (bench.topic("in", 2, &[]), bench.job(&text(TO_PARQUET, "")));
        bench.send(&source, 0, 1..60);
        bench.finish(&job);
        let (out, away) = (bench.options.out.clone(), bench.folder.path().join("away"));
        let mut runs = bench.run(&job);
        bench.send(&source, 1, 100..130);
        std::fs::rename(&out, &away).unwrap();
        std::fs::create_dir(&out).unwrap();
        bench.send(&source, 0, 60..90);
        stalls(&bench, "mount the disk");
        if is_killed {
            runs.stop();
            runs = bench.run(&job);
            stalls(&bench, "mount the disk");
        }
        // Would fail if anything had been written below it.
        std::fs::remove_dir(&out).unwrap();
        std::fs::rename(&away, &out).unwrap();
        wait_for("what was lacking", || bench.rows(TO_PARQUET).len() >= good(1..90).len() + good(100..130).len());
        runs.stop();
        bench.finish(&job);
        assert_eq!(bench.rows(TO_PARQUET), [good(1..90), good(100..130)].concat(), "killed: {is_killed}");
    }
}

#[test]
fn a_folder_that_is_given_up_is_taken_as_it_was_made_anew() {
    let bench = Bench::new();
    let (source, job) = (bench.topic("in", 1, &[]), bench.job(&text(TO_PARQUET, "")));
    bench.send(&source, 0, 1..10);
    bench.finish(&job);
    let folder = bench.options.out.join("out");
    std::fs::remove_dir_all(&folder).unwrap();
    bench.send(&source, 0, 11..20);
    let runs = bench.run(&job);
    stalls(&bench, &format!("mkdir -p {}", folder.join("_inrush").display()));
    std::fs::create_dir_all(folder.join("_inrush/p")).unwrap();
    wait_for("the rest", || bench.rows(TO_PARQUET) == good(11..20));
    runs.stop();
}

#[test]
fn rows_of_a_file_that_was_taken_away_while_it_was_written_are_written_again() {
    let bench = Bench::new();
    let (source, job) = (bench.topic("in", 1, &[]), bench.job(&text("{ parquet = \"out\", roll = \"1s\" }", "")));
    let runs = bench.run(&job);
    bench.send(&source, 0, 1..60);
    let staging = bench.options.out.join("out/_inrush/p");
    let staged = || {
        let files = std::fs::read_dir(&staging).into_iter().flatten().map(|file| file.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|extension| extension == "open")).collect::<Vec<_>>()
    };
    wait_for("a file", || !staged().is_empty());
    staged().iter().for_each(|file| std::fs::remove_file(file).unwrap());
    bench.send(&source, 0, 60..90);
    wait_for("all rows", || bench.rows(TO_PARQUET).len() >= good(1..90).len());
    runs.stop();
    bench.finish(&job);
    assert_eq!(bench.rows(TO_PARQUET), good(1..90));
}
