//! Starts, watches, reloads and stops the pipelines of a folder. One pipeline's trouble stays its own.

use super::checkpoint::Checkpoint;
use super::errands::{Errands, Step};
use super::hooks::Hooks;
use super::life::{Heard, Life, Seat};
use super::load::{self, Job};
use super::neighbours;
use super::opening::{keyed_by, state_mismatch};
use super::replays::Replays;
use super::sink::lake;
use super::sink::place::Place;
use super::source::Source;
use super::spec::Output;
use super::{Options, runner, source};
use crate::control::{Command, CpuStatus, PipelineStatus, Request, ResetTo, State, Tap};
use crate::disk::{create_folder, replace, sync_folder};
use crate::letters::{Offsets, Ranges};
use crate::metrics as names;
use crate::work::planning_thread;
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

/// A panicked pipeline is started again after this.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// How often panicked and silent pipelines are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// A pipeline without a sign of life for this long is started again, alone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long a reload, reset or stop of one pipeline waits for its last cut. Then its thread is given up; it goes on from the cut before.
const HALT_PATIENCE: Duration = Duration::from_secs(30);

/// After this it is told for which one is waited.
const HALT_TOLD: Duration = Duration::from_secs(5);
/// After this the board says for whom a pipeline waits.
const WAIT_TOLD: Duration = Duration::from_secs(5);
/// After this the board says that a pipeline is silent.
const SILENCE_TOLD: Duration = Duration::from_secs(20);
/// How often it is looked whether it has.
const HALT_LOOK: Duration = Duration::from_millis(10);

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
    heard: Heard,
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
        halting: BTreeMap::new(),
        late: BTreeMap::new(),
        errands: Errands::default(),
        refused: BTreeMap::new(),
    };
    let own = stop.clone();
    let thread = planning_thread("inrush-pipelines".to_owned());
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
    pub(super) options: Arc<Options>,
    hooks: Hooks,
    silence_max: Duration,
    pipelines: BTreeMap<String, Pipeline>,
    /// By pipeline, also of those that are gone: a thread that was given up may still hold one.
    pub(super) seats: BTreeMap<String, Arc<Seat>>,
    pub(super) replays: Replays,
    /// Pipelines that were told to stop, as they ran, and are started again by the errand that waits for it.
    pub(super) halting: BTreeMap<String, Job>,
    /// Pipelines whose last run is still writing its checkpoint, or for which the system had no thread; with `drop_state`.
    late: BTreeMap<String, (Job, bool)>,
    pub(super) errands: Errands,
    /// Why the file of a pipeline was refused that runs as it was before.
    refused: BTreeMap<String, String>,
}

impl Supervisor {
    fn run(&mut self, mut requests: mpsc::Receiver<Request>, stop: &AtomicBool) {
        let start = self.errands.open(None);
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
        let patience = self.halt_patience();
        for name in names {
            self.stopping(&name).into_iter().for_each(|thread| wait_for(&name, thread, patience));
        }
        let began = Instant::now();
        while self.halting.keys().chain(self.replays.halting()).any(|name| self.errands.is_away(name))
            && began.elapsed() < patience
        {
            std::thread::park_timeout(HALT_LOOK);
        }
    }

    /// Takes a command. What stops, or only looks at a pipeline that runs, waits for nothing else that is asked of it.
    fn command(&mut self, Request { command, answer }: Request) {
        let asked = self.errands.open(Some(answer));
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
                self.at_once(asked, &pipeline, |own| own.with_job(name, Supervisor::pause));
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
                self.at_once(asked, &pipeline, |own| own.replays.stop(&pipeline, is_sure));
            }
            Command::Tap { pipeline, tap } => self.at_once(asked, &pipeline, |own| own.tap(&pipeline, &tap).into()),
        }
    }

    /// Reads the folder (or one file of it) again and swaps what changed. A broken file leaves the old pipeline running.
    fn reload(&mut self, asked: u64, only: Option<&str>, drop_state: bool) {
        let files = match load::files(&self.options.folder) {
            // A mount that is away is no order to stop.
            Ok(files) if files.is_empty() && !self.pipelines.is_empty() && !self.options.folder.exists() => {
                let folder = self.options.folder.display();
                let gone = format!("{folder} is not there: all pipelines go on; empty it to stop them");
                return self.at_once(asked, "pipelines", |_| Step::Told(Err(gone)));
            }
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
            let own_name = name.clone();
            self.at_once(asked, &name, |own| {
                let step = own.halt(&name, move |own| {
                    own.options.control.withdraw(&own_name);
                    Step::Told(Ok(format!("stopped: {GONE}")))
                });
                // It is not started again.
                own.halting.remove(&name);
                step
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
        let running = if drop_state { None } else { self.runs(&name).cloned() };
        let work = move || {
            // What runs goes on, whatever became of the tables that it names: it watches them itself.
            let is_same = |job: Job| load::is_text(&own_path, &job.spec.text) && !job.plan.has_newer_files();
            if running.is_some_and(is_same) {
                return Ok(None);
            }
            looked_at(&options, &own_path).map(Some)
        };
        Step::away("its file, tables or folders", work, move |own: &mut Supervisor, job| {
            own.reload_file(name, path, job, drop_state)
        })
    }

    /// `None` = the file says what runs.
    fn reload_file(&mut self, name: String, path: PathBuf, job: Result<Option<Job>, String>, drop_state: bool) -> Step {
        if !path.exists() {
            self.options.control.withdraw(&name);
            let why = match path.is_symlink() {
                true => "is a link to a file that is not there",
                false => "went away while it was read",
            };
            return Step::Told(Err(format!("{} {why}", path.display())));
        }
        let judged = job.and_then(|job| match job {
            Some(job) => Ok(self.is_news(&name, &job, drop_state)?.then_some(job)),
            None => Ok(None),
        });
        let job = match judged {
            Ok(Some(job)) => job,
            Ok(None) => return self.reloaded(&name, &path, Ok("unchanged")).into(),
            Err(reason) => return self.reloaded(&name, &path, Err(reason)).into(),
        };
        let halting = || self.halting.get(&name).map(|job| (job.clone(), true));
        let running = self.pipelines.get(&name).map(|running| (running.job.clone(), running.thread.is_some()));
        let old = running.or_else(halting);
        let own_name = name.clone();
        self.halt(&name, move |own| {
            let swapped = own.swap(job, old, drop_state);
            own.reloaded(&own_name, &path, swapped).into()
        })
    }

    /// Says what came of a reload, also beside the pipeline that runs.
    fn reloaded(&mut self, name: &str, path: &Path, result: Result<&'static str, String>) -> Result<String, String> {
        let label = result.as_ref().map_or("refused", |done| *done);
        metrics::counter!(names::STREAM_RELOADS.name, "result" => label).increment(1);
        match &result {
            Ok(_) => drop(self.refused.remove(name)),
            Err(reason) => drop(self.refused.insert(name.to_owned(), format!("the file on disk is not run: {reason}"))),
        }
        let Some(running) = self.pipelines.get(name) else {
            if let Err(reason) = &result
                && !is_gone(path)
            {
                self.options.control.publish(self.line(name, path, reason));
            }
            return result.map(str::to_owned);
        };
        let refused = self.refused.get(name).cloned();
        self.options.control.note_warning(name, running.life.note().as_deref(), refused.as_deref());
        running.life.set_note(refused);
        result.map(str::to_owned).map_err(|reason| format!("{reason} (the old one goes on)"))
    }

    /// Whether a pipeline's file says something new.
    ///
    /// # Errors
    /// It may not be run so.
    fn is_news(&self, name: &str, job: &Job, drop_state: bool) -> Result<bool, String> {
        let is_same = |running: &Job| running.spec.text == job.spec.text && !running.plan.has_newer_files();
        if !drop_state && self.runs(name).is_some_and(is_same) {
            return Ok(false);
        }
        if drop_state && runner::paused_path(&self.options, name).exists() {
            return Err(format!("it is paused: inrush pipeline resume {name} first"));
        }
        let others =
            self.pipelines.values().filter(|other| other.job.spec.name != name && !is_gone(&other.job.spec.file));
        for other in others {
            if let Some((own, theirs)) = neighbours::nested(&job.spec, &other.job.spec) {
                return Err(neighbours::told(own, theirs, &other.job.spec.name));
            }
        }
        match self.mismatch(job) {
            Some(reason) if !drop_state => Err(reason),
            _ => Ok(true),
        }
    }

    /// What runs, or goes on as soon as its last cut is made.
    fn runs(&self, name: &str) -> Option<&Job> {
        let running = self.pipelines.get(name).filter(|known| known.thread.is_some()).map(|known| &known.job);
        running.or_else(|| self.halting.get(name))
    }

    /// Why it cannot go on from what was remembered. What cannot be read is told by the pipeline itself.
    fn mismatch(&self, job: &Job) -> Option<String> {
        let path = runner::checkpoint_path(&self.options, &job.spec.name);
        state_mismatch(&Checkpoint::load(&path).ok().flatten()?, job)
    }

    /// Starts a pipeline that stands in the place of the one that ran, if one did; with whether that was not over.
    fn swap(&mut self, job: Job, old: Option<(Job, bool)>, drop_state: bool) -> Result<&'static str, String> {
        let is_running = old.as_ref().is_some_and(|(_, is_running)| *is_running);
        // Its last cut may have been the first with anything to remember.
        if !drop_state && let (Some(reason), Some((old, _))) = (self.mismatch(&job), old) {
            self.start(old, false)?;
            return Err(reason);
        }
        self.start(job, drop_state)?;
        Ok(if is_running { "swapped" } else { "started" })
    }

    /// Starts it now, or as soon as it can be.
    ///
    /// # Errors
    /// Its file went away meanwhile, and with it the pipeline.
    pub(super) fn start(&mut self, job: Job, drop_state: bool) -> Result<(), String> {
        if is_gone(&job.spec.file) {
            self.pipelines.remove(&job.spec.name).iter().for_each(|running| running.life.stop());
            self.options.control.withdraw(&job.spec.name);
            return Err(format!("it does not run: {GONE}"));
        }
        let Err(error) = self.try_start(&job, drop_state) else { return Ok(()) };
        let (name, file) = (job.spec.name.clone(), &job.spec.file);
        let reason = format!("{error}; it is started as soon as it can be");
        let line = self.line(&name, file, &reason);
        self.options.control.publish(PipelineStatus { state: State::Starting, ..line });
        self.pipelines.remove(&name);
        self.late.insert(name, (job, drop_state));
        Ok(())
    }

    fn try_start(&mut self, job: &Job, drop_state: bool) -> io::Result<()> {
        let seat = self.seats.entry(job.spec.name.clone()).or_default();
        let busy = || io::Error::new(io::ErrorKind::ResourceBusy, "its last run is still writing its checkpoint");
        let life = Life::begin(seat).ok_or_else(busy)?;
        life.set_note(self.refused.get(&job.spec.name).cloned());
        let (options, own_job, own_life, hooks) = (self.options.clone(), job.clone(), life.clone(), self.hooks.clone());
        self.options.control.note_start(&job.spec.name);
        let thread = planning_thread(format!("inrush-{}", job.spec.name));
        let thread = thread.spawn(move || runner::run(&options, &own_job, &own_life, &hooks, drop_state))?;
        // A counter that appears with its first event hides that event from `increase`.
        for counter in FROM_ZERO {
            metrics::counter!(counter.name, "pipeline" => job.spec.name.clone()).increment(0);
        }
        let heard = Heard::now();
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

    /// Stops a pipeline, and goes on once it has made its last cut, or is given up. Nobody else waits for that.
    pub(super) fn halt(&mut self, name: &str, then: impl FnOnce(&mut Supervisor) -> Step + Send + 'static) -> Step {
        let job = self.job(name);
        let (Some(thread), Some(job)) = (self.stopping(name), job) else { return then(self) };
        self.halting.insert(name.to_owned(), job);
        let (name, own_name, patience) = (name.to_owned(), name.to_owned(), self.halt_patience());
        Step::away(
            "its last cut",
            move || wait_for(&own_name, thread, patience),
            move |own, ()| {
                own.halting.remove(&name);
                then(own)
            },
        )
    }

    /// Tells a pipeline to stop; gives its thread, if there is one.
    fn stopping(&mut self, name: &str) -> Option<JoinHandle<Result<(), String>>> {
        self.late.remove(name);
        let mut pipeline = self.pipelines.remove(name)?;
        pipeline.life.stop();
        self.end_taps(name, "the pipeline was stopped, changed or reset: tap it again");
        let thread = pipeline.thread.take()?;
        thread.thread().unpark();
        Some(thread)
    }

    fn halt_patience(&self) -> Duration {
        HALT_PATIENCE.min(self.silence_max)
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
            pipeline.heard.listen(&pipeline.life);
            let (quiet, silence) = (pipeline.heard.quiet(), pipeline.heard.silence());
            let waits = pipeline.life.waits_for().filter(|(_, since)| since.elapsed() > WAIT_TOLD);
            match waits.filter(|_| pipeline.thread.is_some()) {
                Some((whom, since)) => self.options.control.note_wait(name, &whom, since.elapsed().as_secs()),
                None if pipeline.thread.is_some() && silence > SILENCE_TOLD => {
                    self.options.control.note_silence(name, silence.as_secs());
                }
                None if pipeline.thread.is_some() && quiet > SILENCE_TOLD => {
                    let (cpu, now_ms) = (pipeline.life.taken().by_now(), self.options.clock.now_ms());
                    self.options.control.note_work(name, quiet.as_secs(), cpu, now_ms);
                }
                None => {}
            }
            let is_silent = pipeline.thread.is_some() && silence > self.silence_max;
            if is_silent {
                let whom =
                    pipeline.life.waits_for().map_or("an output, its source or a disk".to_owned(), |(whom, _)| whom);
                pipeline.life.give_up(format!("{whom} hung for {} s", self.silence_max.as_secs()));
                pipeline.heard = Heard::now();
                pipeline.restart_at = Some(Instant::now());
                error!(pipeline = %name, seconds = self.silence_max.as_secs(), "the pipeline gave no sign of life: it is started again from its last cut");
                metrics::counter!(names::STREAM_SILENT_RESTARTS.name, "pipeline" => name.clone()).increment(1);
            }
            if pipeline.restart_at.is_some_and(|at| at <= Instant::now()) {
                again.push((pipeline.job.clone(), false));
            }
        }
        let reads = |name: &str| !self.pipelines.contains_key(name) && !self.halting.contains_key(name);
        for (name, whom, since) in self.errands.slow(WAIT_TOLD).filter(|(name, ..)| reads(name)) {
            self.options.control.note_wait(name, whom, since.as_secs());
        }
        for (job, drop_state) in again {
            let name = job.spec.name.clone();
            if let Err(reason) = self.start(job, drop_state) {
                warn!(pipeline = %name, %reason, "the pipeline is not started again");
            }
        }
    }

    /// Does something with a pipeline as it runs, or as its file says: one that was refused for what it remembers is in its file alone.
    fn with_job(&mut self, name: String, then: impl FnOnce(&mut Supervisor, Job) -> Step + Send + 'static) -> Step {
        if let Some(job) = self.job(&name) {
            if is_gone(&job.spec.file) {
                return Step::Told(Err(format!(
                    "{} is gone: put it back, or inrush pipeline reload to stop the pipeline",
                    job.spec.file.display()
                )));
            }
            return then(self, job);
        }
        let path = self.options.folder.join(format!("{name}.toml"));
        Step::away(
            "its file",
            move || load::file(&path).ok(),
            move |own, job| match job {
                Some(job) => then(own, job),
                None => Step::Told(Err(format!("no pipeline is named {name}; inrush pipeline status lists them"))),
            },
        )
    }

    /// A pipeline as it runs, or will as soon as it can.
    pub(super) fn job(&self, name: &str) -> Option<Job> {
        let late = || self.late.get(name).map(|(job, _)| job.clone());
        let halting = || self.halting.get(name).cloned();
        self.pipelines.get(name).map(|pipeline| pipeline.job.clone()).or_else(late).or_else(halting)
    }

    /// Feeds a pipeline a range of its source beside its live run.
    fn backfill(&mut self, job: Job, times: Range<i64>, to: Vec<String>, is_sure: bool) -> Step {
        if job.spec.elsewhere.is_some() {
            return Step::Told(Err("its source is a cluster elsewhere, and a backfill reads topics of this log: give a second pipeline that source and inrush pipeline reset it to the time".to_owned()));
        }
        let Some(topic) = self.options.store.topic(job.spec.from.as_str()) else {
            return Step::Told(Err(format!("topic {} does not exist", job.spec.from)));
        };
        if times.start >= times.end {
            return Step::Told(Err("--from is not before --until: from when to when is to be fed?".to_owned()));
        }
        let (options, own_job) = (self.options.clone(), job.clone());
        let work = move || {
            let at =
                |time| source::places(&options, &own_job.spec, None, ResetTo::Time(time)).map(|(_, places)| places);
            let (from, until) = (at(times.start)?, at(times.end)?);
            let range = |(id, from): (i32, i64)| (id, Ranges::span(from, until.get(&id).copied().unwrap_or(from)));
            Ok(from.into_iter().map(range).filter(|(_, ranges)| !ranges.is_empty()).collect())
        };
        Step::away("its source", work, move |own, chosen: Result<Offsets, String>| match chosen {
            Ok(chosen) => own.replays.backfill(&job, &topic, chosen, &to, is_sure),
            Err(reason) => Step::Told(Err(reason)),
        })
    }

    /// Lets a pipeline cut and stand still.
    fn pause(&mut self, job: Job) -> Step {
        let name = job.spec.name.clone();
        let path = runner::paused_path(&self.options, &name);
        if path.exists() {
            return Step::Told(Ok("is paused already".to_owned()));
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let noted = create_folder(folder).and_then(|()| replace(&path, b""));
        if let Err(error) = noted {
            return Step::Told(Err(format!("cannot note that it is paused: {error}")));
        }
        // Who halts it already starts it again, and it stands still then.
        let is_halting = self.halting.contains_key(&name);
        let told = || "paused; inrush pipeline resume lets it go on where it is".to_owned();
        if is_halting {
            return Step::Told(Ok(told()));
        }
        self.halt(&name, move |own| {
            let is_started = own.pipelines.contains_key(&job.spec.name);
            let started = if is_started { Ok(()) } else { own.start(job, false) };
            started.map(|()| told()).into()
        })
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

/// Of a pipeline without a file.
pub(super) const GONE: &str = "its file is gone; what it wrote and where it stood are kept";

/// Whether a pipeline's file was taken away; a disk that cannot say so has not lost it.
pub(super) fn is_gone(file: &Path) -> bool {
    matches!(file.try_exists(), Ok(false))
}

/// Waits for a thread that was told to stop, but not for ever.
fn wait_for(name: &str, thread: JoinHandle<Result<(), String>>, patience: Duration) {
    let began = Instant::now();
    let mut is_told = false;
    while !thread.is_finished() && began.elapsed() < patience {
        std::thread::park_timeout(HALT_LOOK);
        if !is_told && began.elapsed() > HALT_TOLD {
            is_told = true;
            warn!(pipeline = name, patience_s = patience.as_secs(), "its last cut is waited for");
        }
    }
    if thread.is_finished() {
        let _ = thread.join();
    } else {
        warn!(pipeline = name, "it did not stop in time and is given up; its next run goes on from its last cut");
    }
}

/// Reads a pipeline's file and what it names; judges whether its folders can take its rows.
fn looked_at(options: &Options, path: &Path) -> Result<Job, String> {
    let job = load::file(path).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        let count = lines.len();
        format!("{count} mistake{}: {}", if count == 1 { "" } else { "s" }, lines.join("; "))
    })?;
    if job.plan.is_stateful()
        && job.spec.elsewhere.is_none()
        && let Some(topic) = options.store.topic(job.spec.from.as_str()).filter(|topic| topic.partition_count() > 1)
    {
        keyed_by(&Source::of_log(topic), &job)?;
    }
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
        cut_ms: None,
    }
}
