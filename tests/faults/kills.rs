//! kill -9 at random under load over both doors: in rounds and rolls, while topics come and go, while retention deletes, and again while
//! the next start recovers.

use std::path::Path;
use std::time::Duration;

use super::load::{Load, RETAINED, World};
use crate::{Daemon, wait_for};

/// `INRUSH_KILLS=100 cargo test --test daemon kills -- --nocapture` is the long run.
fn kills() -> usize {
    std::env::var("INRUSH_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8)
}

fn kill_run(engine: &str) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let world = Load::prepare(folder.path());
    let mut daemon = Daemon::start(folder.path(), engine);
    let load = Load::start(&world, &daemon);
    let mut random = fastrand::Rng::new();
    let (mut killed, mut in_recovery, mut in_retention) = (0, 0, 0);
    while killed < kills() {
        if killed >= 3 && in_retention <= killed / 25 {
            wait_for_retention(folder.path());
            in_retention += 1;
        } else {
            wait_for_answers(&world, random.usize(20..600));
        }
        daemon.kill();
        killed += 1;
        // The next start is killed too, sometimes twice in a row, somewhere between its first instruction and its first answer.
        while killed % 3 == 0 && random.bool() && killed < kills() {
            Daemon::start_and_kill(folder.path(), engine, Duration::from_millis(random.u64(1..250)));
            killed += 1;
            in_recovery += 1;
        }
        daemon = Daemon::start(folder.path(), engine);
        world.moved_to(&daemon);
    }
    load.stop();
    world.judge(daemon);
    // What a clean stop left is read once more by another start.
    let daemon = Daemon::start(folder.path(), engine);
    world.moved_to(&daemon);
    let answered = world.answered();
    world.judge(daemon);
    println!(
        "{engine}: {killed} kills ({in_recovery} in recovery, {in_retention} in retention), {answered} events answered, none lost or doubled"
    );
}

fn wait_for_answers(world: &World, more: usize) {
    let before = world.answered();
    wait_for("answers", || world.answered() > before + more);
}

/// Returns as soon as retention begins to take segments: more of them are to go.
fn wait_for_retention(folder: &Path) {
    let first = || first_segment(&folder.join("data/topics").join(RETAINED.name));
    let before = first();
    wait_for("retention", || first() != before);
}

fn first_segment(folder: &Path) -> Option<String> {
    let mut segments = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "log") {
                segments.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
            }
        }
    }
    segments.into_iter().min()
}

#[test]
fn kills_lose_nothing_that_was_answered_with_pwrite() {
    kill_run("std");
}

#[test]
fn kills_lose_nothing_that_was_answered_with_the_chosen_engine() {
    kill_run("auto");
}
