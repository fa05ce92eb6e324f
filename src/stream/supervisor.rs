//! Starts, watches, reloads and stops the pipelines of a folder. One pipeline's trouble stays its own.

use super::checkpoint::Checkpoint;
use super::errands::{Errands, Step};
use super::hooks::Hooks;
use super::life::{Life, Seat};
use super::load::{self, Job};
use super::opening::state_mismatch;
use super::replays::Replays;
use super::sink::lake;
use super::sink::place::Place;
use super::spec::Output;
use super::{Options, errands, runner, source};
use crate::control::{Command, CpuStatus, PipelineStatus, Request, ResetTo, State, Tap};
use crate::disk::{create_folder, replace, sync_folder};
use crate::letters::{Offsets, Ranges};
use crate::metrics as names;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{error, warn};
use uuid::Uuid;

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
        errands: Errands::default(),
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

pub(super) struct Supervisor {
    options: Arc<Options>,
    hooks: Hooks,
    silence_max: Duration,
    pipelines: BTreeMap<String, Pipeline>,
    /// By pipeline, also of those that are gone: a thread that was given up may still hold one.
    seats: BTreeMap<String, Arc<Seat>>,
    pub(super) replays: Replays,
    /// Pipelines whose last run is still writing its checkpoint, or for which the system had no thread; with `drop_state`.
    late: BTreeMap<String, (Job, bool)>,
    pub(super) errands: Errands,
}

impl Supervisor {
    fn run(&mut self, mut requests: mpsc::Receiver<Request>, stop: &AtomicBool) {
        let start = self.errands.open(None, None);
        self.reload(start, None, false);
        self.replays.resume();
        let (runtime, back) = (self.options.runtime.clone(), self.errands.back());
        while !stop.load(Ordering::Acquire) {
            self.run_errands();
            let next = runtime.block_on(async {
                tokio::select! {
                    request = requests.recv() => request,
                    () = back.notified() => None,
                    () = tokio::time::sleep(LOOK_INTERVAL) => None,
                }
            });
            if let Some(request) = next {
                self.command(request);
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

    /// Takes a command. What stops, or only looks at a pipeline that runs, waits for nothing else that is asked of it.
    fn command(&mut self, Request { command, answer }: Request) {
        let patience = match command {
            Command::Reload { .. } => errands::PATIENCE,
            _ => errands::PATIENCE_ALONE,
        };
        let asked = self.errands.open(Some(answer), Some(patience));
        match command {
            Command::Reload { pipeline, drop_state } => self.reload(asked, pipeline.as_deref(), drop_state),
            Command::Reset { pipeline, partition, to } => {
                let name = pipeline.clone();
                self.queue(asked, &pipeline, move |own| {
                    own.with_job(name, move |own, job| own.reset(job, partition, to))
                });
            }
            Command::Pause { pipeline } => {
                let name = pipeline.clone();
                self.at_once(asked, &pipeline, |own| own.with_job(name, |own, job| own.pause(job).into()));
            }
            Command::Resume { pipeline } => {
                let name = pipeline.clone();
                self.at_once(asked, &pipeline, |own| own.with_job(name, |own, job| own.resume(&job).into()));
            }
            Command::Replay { pipeline, filter, how } => {
                let name = pipeline.clone();
                let begin = move |own: &mut Supervisor, job| own.replays.begin(job, filter, how);
                self.queue(asked, &pipeline, move |own| own.with_job(name, begin));
            }
            Command::Backfill { pipeline, from, until, to, is_sure } => {
                let name = pipeline.clone();
                let begin = move |own: &mut Supervisor, job| own.backfill(job, from..until, to, is_sure);
                self.queue(asked, &pipeline, move |own| own.with_job(name, begin));
            }
            Command::StopReplay { pipeline, is_sure } => {
                self.at_once(asked, &pipeline, |own| own.replays.stop(&pipeline, is_sure).into());
            }
            Command::Tap { pipeline, tap } => self.at_once(asked, &pipeline, |own| own.tap(&pipeline, &tap).into()),
        }
    }

    /// Reads the folder (or one file of it) again and swaps what changed. A broken file leaves the old pipeline running.
    fn reload(&mut self, asked: u64, only: Option<&str>, drop_state: bool) {
        let files = match load::files(&self.options.folder) {
            Ok(files) => files,
            Err(error) => return self.at_once(asked, "pipelines", |_| Step::Told(Err(error))),
        };
        let named = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let mut is_known = false;
        for path in &files {
            let name = named(path);
            if only.is_none_or(|only| only == name) {
                is_known = true;
                let (own_name, path) = (name.clone(), path.clone());
                self.queue(asked, &name, move |own| own.look(own_name, path, drop_state));
            }
        }
        // A file that was never right has a place on the board alone.
        let shown =
            self.options.control.statuses().into_iter().filter(|status| !status.is_replay()).map(|status| status.name);
        let known: BTreeSet<String> = self.pipelines.keys().cloned().chain(shown).collect();
        let gone = known.into_iter().filter(|name| !files.iter().any(|path| named(path) == *name));
        for name in gone.filter(|name| only.is_none_or(|only| only == name)) {
            is_known = true;
            self.at_once(asked, &name, |own| {
                own.halt(&name);
                own.options.control.withdraw(&name);
                Step::Told(Ok("stopped: its file is gone; what it wrote and where it stood are kept".to_owned()))
            });
        }
        if let Some(only) = only.filter(|_| !is_known) {
            let folder = self.options.folder.display();
            let missing = Err(format!("there is no {only}.toml in {folder}"));
            self.at_once(asked, only, |_| Step::Told(missing));
        }
    }

    /// Reads a file with its tables, and looks whether its folders can take its rows.
    fn look(&mut self, name: String, path: PathBuf, drop_state: bool) -> Step {
        if !self.pipelines.contains_key(&name) {
            let reason = "its file is being read, with the tables and folders that it names";
            let line = self.line(&name, &path, reason);
            self.options.control.publish(PipelineStatus { state: State::Starting, ..line });
        }
        let (options, own_path) = (self.options.clone(), path.clone());
        let work = move || looked_at(&options, &own_path);
        Step::away(work, move |own: &mut Supervisor, job| own.reload_file(&name, &path, job, drop_state).into())
    }

    fn reload_file(
        &mut self,
        name: &str,
        path: &Path,
        job: Result<Job, String>,
        drop_state: bool,
    ) -> Result<String, String> {
        if !path.exists() {
            self.options.control.withdraw(name);
            return Err(format!("{} went away while it was read", path.display()));
        }
        let result = job.and_then(|job| self.swap(name, job, drop_state));
        let label = result.as_ref().map_or("refused", |done| *done);
        metrics::counter!(names::STREAM_RELOADS.name, "result" => label).increment(1);
        let Some(running) = self.pipelines.get(name) else {
            if let Err(reason) = &result {
                self.options.control.publish(self.line(name, path, reason));
            }
            return result.map(str::to_owned);
        };
        running.life.set_note(result.as_ref().err().map(|reason| format!("the file on disk is not run: {reason}")));
        result.map(str::to_owned).map_err(|reason| format!("{reason} (the old one goes on)"))
    }

    /// Swaps one pipeline, if its file says something new.
    fn swap(&mut self, name: &str, job: Job, drop_state: bool) -> Result<&'static str, String> {
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
        let line = self.line(&name, file, &reason);
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

    /// The line of a pipeline that does not run.
    fn line(&self, name: &str, path: &Path, reason: &str) -> PipelineStatus {
        let cpu = self.seats.get(name).map(|seat| seat.taken.told(None, false)).unwrap_or_default();
        broken(name, path, reason, self.options.clock.now_ms(), cpu)
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
                let cpu = pipeline.life.taken().told(spec.cpu, false);
                let line = broken(name, &spec.file, &reason, self.options.clock.now_ms(), cpu);
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

    /// Does something with a pipeline as it runs, or as its file says: one that was refused for what it remembers is in its file alone.
    fn with_job(&mut self, name: String, then: impl FnOnce(&mut Supervisor, Job) -> Step + Send + 'static) -> Step {
        if let Some(job) = self.job(&name) {
            return then(self, job);
        }
        let path = self.options.folder.join(format!("{name}.toml"));
        Step::away(
            move || load::file(&path).ok(),
            move |own, job| match job {
                Some(job) => then(own, job),
                None => Step::Told(Err(format!("no pipeline is named {name}; inrush pipeline status lists them"))),
            },
        )
    }

    /// A pipeline as it runs, or will as soon as it can.
    fn job(&self, name: &str) -> Option<Job> {
        let late = || self.late.get(name).map(|(job, _)| job.clone());
        self.pipelines.get(name).map(|pipeline| pipeline.job.clone()).or_else(late)
    }

    /// Moves a pipeline: its next files belong to a new generation, what it wrote stays.
    fn reset(&mut self, job: Job, partition: Option<i32>, to: ResetTo) -> Step {
        if partition.is_some() && job.plan.is_stateful() {
            return Step::Told(Err("what its steps remember is of all partitions: move all of them".to_owned()));
        }
        let (options, spec) = (self.options.clone(), job.spec.clone());
        let work = move || source::places(&options, &spec, partition, to);
        Step::away(work, move |own, places| match places {
            Ok((topic, positions)) => own.move_to(job, partition, topic, positions),
            Err(reason) => Step::Told(Err(reason)),
        })
    }

    fn move_to(&mut self, job: Job, partition: Option<i32>, topic: Uuid, positions: BTreeMap<i32, i64>) -> Step {
        // It may have been changed meanwhile.
        let job = self.job(&job.spec.name).unwrap_or(job);
        self.halt(&job.spec.name);
        let path = runner::checkpoint_path(&self.options, &job.spec.name);
        let known = match Checkpoint::load(&path) {
            // A damaged one is what a reset is for.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            Err(error) => {
                self.start(job, false);
                return Step::Told(Err(format!("cannot read {}: {error}; it was not moved", path.display())));
            }
            Ok(known) => known,
        };
        let mut checkpoint = known.unwrap_or_else(|| Checkpoint::new(&job.spec.text));
        let (spec, places) = (job.spec.clone(), positions.clone());
        match partition {
            None => checkpoint.renew(positions),
            Some(_) => checkpoint.renew_some(&positions),
        }
        checkpoint.topic = Some(topic);
        let then = move |own: &mut Supervisor, grouped: Result<(), String>| {
            // Whoever still holds the seat loses it: nothing overwrites what is saved here.
            let moved = match Life::begin(own.seats.entry(job.spec.name.clone()).or_default()) {
                Some(life) => grouped.and_then(|()| life.save(&checkpoint, &path).map_err(|error| error.to_string())),
                None => Err("its last run is still writing its checkpoint; try again".to_owned()),
            };
            // It may have been taken away meanwhile.
            let (goes_on, told) = match job.spec.file.exists() {
                true => (Some(job), ""),
                false => (None, "; its file is gone, so it does not run"),
            };
            goes_on.into_iter().for_each(|job| own.start(job, false));
            Step::Told(moved.map(|()| format!("moved to {:?}{told}", checkpoint.positions)))
        };
        match spec.elsewhere {
            None => then(self, Ok(())),
            Some(_) => Step::away(move || source::move_group(&spec, &places), then),
        }
    }

    /// Feeds a pipeline a range of its source beside its live run.
    fn backfill(&mut self, job: Job, times: Range<i64>, to: Vec<String>, is_sure: bool) -> Step {
        if job.spec.elsewhere.is_some() {
            return Step::Told(Err("its source is a cluster elsewhere, and a backfill reads topics of this log: give a second pipeline that source and inrush pipeline reset it to the time".to_owned()));
        }
        let Some(topic) = self.options.store.topic(job.spec.from.as_str()) else {
            return Step::Told(Err(format!("topic {} does not exist", job.spec.from)));
        };
        let (options, own_job) = (self.options.clone(), job.clone());
        let work = move || {
            let at =
                |time| source::places(&options, &own_job.spec, None, ResetTo::Time(time)).map(|(_, places)| places);
            let (from, until) = (at(times.start)?, at(times.end)?);
            let range = |(id, from): (i32, i64)| (id, Ranges::span(from, until.get(&id).copied().unwrap_or(from)));
            Ok(from.into_iter().map(range).filter(|(_, ranges)| !ranges.is_empty()).collect())
        };
        Step::away(work, move |own, chosen: Result<Offsets, String>| match chosen {
            Ok(chosen) => own.replays.backfill(&job, &topic, chosen, &to, is_sure),
            Err(reason) => Step::Told(Err(reason)),
        })
    }

    /// Lets a pipeline cut and stand still.
    fn pause(&mut self, job: Job) -> Result<String, String> {
        let path = runner::paused_path(&self.options, &job.spec.name);
        if path.exists() {
            return Ok("is paused already".to_owned());
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let noted = create_folder(folder).and_then(|()| replace(&path, b""));
        noted.map_err(|error| format!("cannot note that it is paused: {error}"))?;
        self.halt(&job.spec.name);
        self.start(job, false);
        Ok("paused; inrush pipeline resume lets it go on where it is".to_owned())
    }

    fn resume(&mut self, job: &Job) -> Result<String, String> {
        let path = runner::paused_path(&self.options, &job.spec.name);
        match std::fs::remove_file(&path).and_then(|()| sync_folder(path.parent().unwrap_or(Path::new(".")))) {
            Ok(()) => Ok("goes on".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok("is not paused".to_owned()),
            Err(error) => Err(format!("cannot resume it: {error}")),
        }
    }
}

/// Reads a pipeline's file and what it names; judges whether its folders can take its rows.
fn looked_at(options: &Options, path: &Path) -> Result<Job, String> {
    let job = load::file(path).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        let count = lines.len();
        format!("{count} mistake{}: {}", if count == 1 { "" } else { "s" }, lines.join("; "))
    })?;
    for route in &job.spec.routes {
        let Output::Parquet(out) = &route.to else { continue };
        // A store is asked by the pipeline itself, which waits for it.
        if out.store.is_some() {
            continue;
        }
        let folder = Place::Folder(options.out.join(&out.folder));
        match lake::check_schema(&folder, &route.schema(job.plan.output())) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error.to_string()),
            // A folder that is not there yet, a disk that is mounted late: the pipeline waits for it.
            _ => {}
        }
    }
    Ok(job)
}

fn broken(name: &str, path: &Path, reason: &str, now_ms: i64, cpu: CpuStatus) -> PipelineStatus {
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
        cpu,
        windows_wait_for: Vec::new(),
        beat_ms: now_ms,
    }
}
