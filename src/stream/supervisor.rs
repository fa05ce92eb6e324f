//! Starts, watches, reloads and stops the pipelines of a folder. One pipeline's trouble stays its own.

use super::checkpoint::{Checkpoint, make_folder, replace, sync_folder};
use super::hooks::Hooks;
use super::life::{Life, Seat};
use super::load::{self, Job};
use super::opening::state_mismatch;
use super::replays::Replays;
use super::sink::lake;
use super::sink::place::Place;
use super::spec::Output;
use super::{Options, runner, source};
use crate::control::{Answer, Command, CpuStatus, PipelineStatus, Request, ResetTo, State, Tap};
use crate::letters::Ranges;
use crate::metrics as names;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

/// A panicked pipeline is started again after this.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// How often panicked and silent pipelines are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// A pipeline without a sign of life for this long is started again, alone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long a reload, reset or stop of one pipeline waits for its last cut. Then its thread is given up; it goes on from the cut before.
const HALT_PATIENCE: Duration = Duration::from_secs(30);

/// The pipelines of a daemon.
pub struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Cuts and stops all pipelines; gives up waiting after `deadline` (the next start reads on from the last cut).
    pub fn stop(self, deadline: Duration) {
        self.stop.store(true, Ordering::Release);
        let began = Instant::now();
        while !self.thread.is_finished() && began.elapsed() < deadline {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        if self.thread.is_finished() {
            let _ = self.thread.join();
        } else {
            warn!("pipelines did not stop in time; they go on from their last cut at the next start");
        }
    }
}

struct Pipeline {
    job: Job,
    life: Arc<Life>,
    thread: Option<JoinHandle<Result<(), String>>>,
    restart_at: Option<Instant>,
    /// Beats when they were last seen to change, and when that was.
    heard: (u64, Instant),
}

/// Reads the folder, starts what is right in it, and goes on by itself. Mistakes are logged and shown on the board.
///
/// # Errors
/// The system has no thread to give.
pub fn start(options: Options, requests: mpsc::Receiver<Request>) -> io::Result<Running> {
    start_with(options, requests, Hooks::default(), SILENCE_MAX)
}

/// As [`start`], with a test's hooks and patience.
pub(super) fn start_with(
    options: Options,
    requests: mpsc::Receiver<Request>,
    hooks: Hooks,
    silence_max: Duration,
) -> io::Result<Running> {
    let stop = Arc::new(AtomicBool::new(false));
    let options = Arc::new(options);
    let mut supervisor = Supervisor {
        replays: Replays::new(&options, &hooks, silence_max),
        options,
        hooks,
        silence_max,
        pipelines: BTreeMap::new(),
        seats: BTreeMap::new(),
        late: BTreeMap::new(),
    };
    let own = stop.clone();
    let thread = std::thread::Builder::new().name("inrush-pipelines".to_owned());
    Ok(Running { stop, thread: thread.spawn(move || supervisor.run(requests, &own))? })
}

/// What seldom happens to a pipeline, and is counted from its start all the same.
const FROM_ZERO: [names::Metric; 6] = [
    names::STREAM_RETRIES,
    names::STREAM_STALLS,
    names::STREAM_SILENT_RESTARTS,
    names::STREAM_LATE_ROWS,
    names::STREAM_LOST_RECORDS,
    names::STREAM_FILES_TAKEN_AWAY,
];

struct Supervisor {
    options: Arc<Options>,
    hooks: Hooks,
    silence_max: Duration,
    pipelines: BTreeMap<String, Pipeline>,
    /// By pipeline, also of those that are gone: a thread that was given up may still hold one.
    seats: BTreeMap<String, Arc<Seat>>,
    replays: Replays,
    /// Pipelines whose last run is still writing its checkpoint, or for which the system had no thread; with `drop_state`.
    late: BTreeMap<String, (Job, bool)>,
}

impl Supervisor {
    fn run(&mut self, mut requests: mpsc::Receiver<Request>, stop: &AtomicBool) {
        for (pipeline, result) in self.reload(None, false) {
            match result {
                Ok(done) => info!(%pipeline, %done, "pipeline"),
                Err(reason) => error!(%pipeline, "{reason}"),
            }
        }
        self.replays.resume();
        let runtime = self.options.runtime.clone();
        while !stop.load(Ordering::Acquire) {
            let next = runtime.block_on(async { tokio::time::timeout(LOOK_INTERVAL, requests.recv()).await });
            if let Ok(Some(request)) = next {
                let answer = match request.command {
                    Command::Reload { pipeline, drop_state } => self.reload(pipeline.as_deref(), drop_state),
                    Command::Reset { pipeline, partition, to } => {
                        vec![(pipeline.clone(), self.reset(&pipeline, partition, to))]
                    }
                    Command::Pause { pipeline } => vec![(pipeline.clone(), self.pause(&pipeline))],
                    Command::Resume { pipeline } => vec![(pipeline.clone(), self.resume(&pipeline))],
                    Command::Replay { pipeline, filter, how } => {
                        let begun = self.job(&pipeline).and_then(|job| self.replays.begin(&job, filter, how));
                        vec![(pipeline, begun)]
                    }
                    Command::Backfill { pipeline, from, until, to, is_sure } => {
                        let begun = self.backfill(&pipeline, from..until, &to, is_sure);
                        vec![(pipeline, begun)]
                    }
                    Command::StopReplay { pipeline, is_sure } => {
                        vec![(pipeline.clone(), self.replays.stop(&pipeline, is_sure))]
                    }
                    Command::Tap { pipeline, tap } => vec![(pipeline.clone(), self.tap(&pipeline, &tap))],
                };
                // Who asked may have hung up; the work is done all the same.
                let _ = request.answer.send(answer);
            }
            self.revive();
            self.replays.look();
        }
        self.replays.stop_all();
        let names: Vec<String> = self.pipelines.keys().cloned().collect();
        self.pipelines.values().for_each(|pipeline| pipeline.life.stop());
        for name in names {
            self.halt(&name);
        }
    }

    /// Reads the folder (or one file of it) again and swaps what changed. A broken file leaves the old pipeline running.
    fn reload(&mut self, only: Option<&str>, drop_state: bool) -> Answer {
        let files = match load::files(&self.options.folder) {
            Ok(files) => files,
            Err(error) => return vec![("pipelines".to_owned(), Err(error))],
        };
        let mut answer = Answer::new();
        let named = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        for path in &files {
            let name = named(path);
            if only.is_none_or(|only| only == name) {
                let result = self.reload_file(&name, path, drop_state);
                answer.push((name, result));
            }
        }
        // A file that was never right has a place on the board alone.
        let shown =
            self.options.control.statuses().into_iter().filter(|status| !status.is_replay()).map(|status| status.name);
        let known: BTreeSet<String> = self.pipelines.keys().cloned().chain(shown).collect();
        let gone = known.into_iter().filter(|name| !files.iter().any(|path| named(path) == *name));
        for name in gone.filter(|name| only.is_none_or(|only| only == name)) {
            self.halt(&name);
            self.options.control.withdraw(&name);
            answer.push((name, Ok("stopped: its file is gone; what it wrote and where it stood are kept".to_owned())));
        }
        if let Some(only) = only.filter(|only| !answer.iter().any(|(name, _)| name == only)) {
            answer
                .push((only.to_owned(), Err(format!("there is no {only}.toml in {}", self.options.folder.display()))));
        }
        answer
    }

    fn reload_file(&mut self, name: &str, path: &Path, drop_state: bool) -> Result<String, String> {
        let result = self.swap(name, path, drop_state);
        let label = result.as_ref().map_or("refused", |done| *done);
        metrics::counter!(names::STREAM_RELOADS.name, "result" => label).increment(1);
        let Some(running) = self.pipelines.get(name) else {
            if let Err(reason) = &result {
                self.options.control.publish(broken(name, path, reason, self.options.clock.now_ms()));
            }
            return result.map(str::to_owned);
        };
        running.life.set_note(result.as_ref().err().map(|reason| format!("the file on disk is not run: {reason}")));
        result.map(str::to_owned).map_err(|reason| format!("{reason} (the old one goes on)"))
    }

    /// Swaps one pipeline, if its file is right and says something new.
    fn swap(&mut self, name: &str, path: &Path, drop_state: bool) -> Result<&'static str, String> {
        let job = load::file(path).map_err(|mistakes| {
            let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            let count = lines.len();
            format!("{count} mistake{}: {}", if count == 1 { "" } else { "s" }, lines.join("; "))
        })?;
        for route in &job.spec.routes {
            let Output::Parquet(out) = &route.to else { continue };
            // A store is asked by the pipeline itself: this thread must not wait for it.
            if out.store.is_some() {
                continue;
            }
            let folder = Place::Folder(self.options.out.join(&out.folder));
            match lake::check_schema(&folder, &route.schema(job.plan.output())) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error.to_string()),
                // A folder that is not there yet, a disk that is mounted late: the pipeline waits for it.
                _ => {}
            }
        }
        let known = self.pipelines.get(name);
        let is_running = known.is_some_and(|running| running.thread.is_some());
        if is_running && !drop_state && known.is_some_and(|running| running.job.spec.text == job.spec.text) {
            return Ok("unchanged");
        }
        let path = runner::checkpoint_path(&self.options, name);
        if drop_state && runner::paused_path(&self.options, name).exists() {
            return Err(format!("it is paused: inrush pipeline resume {name} first"));
        }
        // What cannot be read is told by the pipeline itself.
        let mismatch = || state_mismatch(&Checkpoint::load(&path).ok().flatten()?, &job);
        if !drop_state && let Some(reason) = mismatch() {
            return Err(reason);
        }
        let old = self.pipelines.get(name).map(|pipeline| pipeline.job.clone());
        self.halt(name);
        // Its last cut may have been the first with anything to remember.
        if !drop_state && let (Some(reason), Some(old)) = (mismatch(), old) {
            self.start(old, false);
            return Err(reason);
        }
        self.start(job, drop_state);
        Ok(if is_running { "swapped" } else { "started" })
    }

    /// Starts it now, or as soon as it can be.
    fn start(&mut self, job: Job, drop_state: bool) {
        let Err(error) = self.try_start(&job, drop_state) else { return };
        let (name, file) = (job.spec.name.clone(), &job.spec.file);
        let reason = format!("{error}; it is started as soon as it can be");
        let line = broken(&name, file, &reason, self.options.clock.now_ms());
        self.options.control.publish(PipelineStatus { state: State::Starting, ..line });
        self.pipelines.remove(&name);
        self.late.insert(name, (job, drop_state));
    }

    fn try_start(&mut self, job: &Job, drop_state: bool) -> io::Result<()> {
        let seat = self.seats.entry(job.spec.name.clone()).or_default();
        let busy = || io::Error::new(io::ErrorKind::ResourceBusy, "its last run is still writing its checkpoint");
        let life = Life::begin(seat).ok_or_else(busy)?;
        let (options, own_job, own_life, hooks) = (self.options.clone(), job.clone(), life.clone(), self.hooks.clone());
        let thread = std::thread::Builder::new().name(format!("inrush-{}", job.spec.name));
        let thread = thread.spawn(move || runner::run(&options, &own_job, &own_life, &hooks, drop_state))?;
        // A counter that appears with its first event hides that event from `increase`.
        for counter in FROM_ZERO {
            metrics::counter!(counter.name, "pipeline" => job.spec.name.clone()).increment(0);
        }
        let heard = (0, Instant::now());
        let pipeline = Pipeline { job: job.clone(), life, thread: Some(thread), restart_at: None, heard };
        self.pipelines.insert(pipeline.job.spec.name.clone(), pipeline);
        Ok(())
    }

    fn tap(&self, name: &str, asked: &Tap) -> Result<String, String> {
        let running = self.pipelines.get(name).filter(|pipeline| pipeline.thread.is_some());
        let (Some(running), Some(seat)) = (running, self.seats.get(name)) else {
            return Err(format!("no pipeline {name} runs; inrush pipeline status lists them"));
        };
        seat.taps.open(&running.job, asked).map(|()| "tapped".to_owned())
    }

    fn end_taps(&self, name: &str, why: &str) {
        self.seats.get(name).iter().for_each(|seat| seat.taps.end(why));
    }

    /// Stops a pipeline after a last cut and waits for it, but not for ever.
    fn halt(&mut self, name: &str) {
        self.late.remove(name);
        let Some(mut pipeline) = self.pipelines.remove(name) else { return };
        pipeline.life.stop();
        self.end_taps(name, "the pipeline was stopped, changed or reset: tap it again");
        let Some(thread) = pipeline.thread.take() else { return };
        thread.thread().unpark();
        let began = Instant::now();
        while !thread.is_finished() && began.elapsed() < HALT_PATIENCE.min(self.silence_max) {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        if thread.is_finished() {
            let _ = thread.join();
        } else {
            warn!(pipeline = name, "it did not stop in time and is given up; its next run goes on from its last cut");
        }
    }

    /// Names pipelines that ended by themselves, and starts panicked and silent ones again.
    fn revive(&mut self) {
        let mut again: Vec<(Job, bool)> = std::mem::take(&mut self.late).into_values().collect();
        for (name, pipeline) in &mut self.pipelines {
            if pipeline.thread.as_ref().is_some_and(JoinHandle::is_finished)
                && let Some(thread) = pipeline.thread.take()
            {
                let reason = match thread.join() {
                    Ok(Ok(())) => continue,
                    Ok(Err(reason)) => reason,
                    Err(_) => {
                        pipeline.restart_at = Some(Instant::now() + RESTART_PAUSE);
                        "it panicked and is started again: this is a bug, see the log".to_owned()
                    }
                };
                error!(pipeline = %name, %reason, "the pipeline ended");
                if pipeline.restart_at.is_none() {
                    self.seats
                        .get(name)
                        .iter()
                        .for_each(|seat| seat.taps.end(&format!("the pipeline ended: {reason}")));
                }
                let spec = &pipeline.job.spec;
                // Where its dead letters are is asked for now more than ever.
                let outputs = vec![format!("dead letters {}", spec.on_error.then)];
                let line = broken(name, &spec.file, &reason, self.options.clock.now_ms());
                self.options.control.publish(PipelineStatus { outputs, ..line });
            }
            let beats = pipeline.life.beats();
            if beats != pipeline.heard.0 {
                pipeline.heard = (beats, Instant::now());
            }
            let is_silent = pipeline.thread.is_some() && pipeline.heard.1.elapsed() > self.silence_max;
            if is_silent {
                pipeline.life.stop();
                pipeline.heard.1 = Instant::now();
                pipeline.restart_at = Some(Instant::now());
                error!(pipeline = %name, seconds = self.silence_max.as_secs(), "the pipeline gave no sign of life: it is started again from its last cut");
                metrics::counter!(names::STREAM_SILENT_RESTARTS.name, "pipeline" => name.clone()).increment(1);
            }
            if pipeline.restart_at.is_some_and(|at| at <= Instant::now()) {
                again.push((pipeline.job.clone(), false));
            }
        }
        again.into_iter().for_each(|(job, drop_state)| self.start(job, drop_state));
    }

    /// A pipeline as it runs, or as its file says.
    fn job(&self, name: &str) -> Result<Job, String> {
        let late = || self.late.get(name).map(|(job, _)| job.clone());
        let running = self.pipelines.get(name).map(|pipeline| pipeline.job.clone()).or_else(late);
        // One that was refused for what it remembers is in its file alone.
        let job = running.or_else(|| load::file(&self.options.folder.join(format!("{name}.toml"))).ok());
        job.ok_or_else(|| format!("no pipeline is named {name}; inrush pipeline status lists them"))
    }

    /// Moves a pipeline: its next files belong to a new generation, what it wrote stays.
    fn reset(&mut self, name: &str, partition: Option<i32>, to: ResetTo) -> Result<String, String> {
        let job = self.job(name)?;
        if partition.is_some() && job.plan.is_stateful() {
            return Err("what its steps remember is of all partitions: move all of them".to_owned());
        }
        let (topic, positions) = source::places(&self.options, &job.spec, partition, to)?;
        self.halt(name);
        let path = runner::checkpoint_path(&self.options, name);
        let known = match Checkpoint::load(&path) {
            // A damaged one is what a reset is for.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            Err(error) => {
                self.start(job, false);
                return Err(format!("cannot read {}: {error}; it was not moved", path.display()));
            }
            Ok(known) => known,
        };
        let mut checkpoint = known.unwrap_or_else(|| Checkpoint::new(&job.spec.text));
        let grouped = source::move_group(&job.spec, &positions);
        match partition {
            None => checkpoint.renew(positions),
            Some(_) => checkpoint.renew_some(&positions),
        }
        checkpoint.topic = Some(topic);
        // Whoever still holds the seat loses it: nothing overwrites what is saved here.
        let moved = match Life::begin(self.seats.entry(name.to_owned()).or_default()) {
            Some(life) => grouped.and_then(|()| life.save(&checkpoint, &path).map_err(|error| error.to_string())),
            None => Err("its last run is still writing its checkpoint; try again".to_owned()),
        };
        self.start(job, false);
        moved.map(|()| format!("moved to {:?}", checkpoint.positions))
    }

    /// Feeds a pipeline a range of its source beside its live run.
    fn backfill(&mut self, name: &str, times: Range<i64>, to: &[String], is_sure: bool) -> Result<String, String> {
        let job = self.job(name)?;
        if job.spec.elsewhere.is_some() {
            return Err("its source is a cluster elsewhere, and a backfill reads topics of this log: give a second pipeline that source and inrush pipeline reset it to the time".to_owned());
        }
        let topic = self.options.store.topic(job.spec.from.as_str());
        let topic = topic.ok_or_else(|| format!("topic {} does not exist", job.spec.from))?;
        let at = |time| source::places(&self.options, &job.spec, None, ResetTo::Time(time)).map(|(_, places)| places);
        let (from, until) = (at(times.start)?, at(times.end)?);
        let range = |(id, from): (i32, i64)| (id, Ranges::span(from, until.get(&id).copied().unwrap_or(from)));
        let chosen = from.into_iter().map(range).filter(|(_, ranges)| !ranges.is_empty()).collect();
        self.replays.backfill(&job, &topic, chosen, to, is_sure)
    }

    /// Lets a pipeline cut and stand still.
    fn pause(&mut self, name: &str) -> Result<String, String> {
        let path = runner::paused_path(&self.options, name);
        if path.exists() {
            return Ok("is paused already".to_owned());
        }
        let job = self.job(name)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let noted = make_folder(folder).and_then(|()| replace(&path, b""));
        noted.map_err(|error| format!("cannot note that it is paused: {error}"))?;
        self.halt(name);
        self.start(job, false);
        Ok("paused; inrush pipeline resume lets it go on where it is".to_owned())
    }

    fn resume(&mut self, name: &str) -> Result<String, String> {
        self.job(name)?;
        let path = runner::paused_path(&self.options, name);
        match std::fs::remove_file(&path).and_then(|()| sync_folder(path.parent().unwrap_or(Path::new(".")))) {
            Ok(()) => Ok("goes on".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok("is not paused".to_owned()),
            Err(error) => Err(format!("cannot resume it: {error}")),
        }
    }
}

fn broken(name: &str, path: &Path, reason: &str, now_ms: i64) -> PipelineStatus {
    PipelineStatus {
        name: name.to_owned(),
        file: path.display().to_string(),
        state: State::Failed,
        reason: Some(reason.to_owned()),
        warnings: Vec::new(),
        source: String::new(),
        outputs: Vec::new(),
        positions: BTreeMap::new(),
        committed: BTreeMap::new(),
        lag_records: 0,
        lag_seconds: 0.0,
        records_read: 0,
        rows_written: 0,
        filtered: 0,
        dead_letters: 0,
        retries: 0,
        stalls: 0,
        cpu: CpuStatus::default(),
        windows_wait_for: Vec::new(),
        beat_ms: now_ms,
    }
}
