//! Starts, watches, reloads and stops the pipelines of a folder. One pipeline's trouble stays its own.

use super::checkpoint::Checkpoint;
use super::plan::Plan;
use super::runner::{self, Job};
use super::{Options, parse};
use crate::config::Mistake;
use crate::control::{Answer, Command, PipelineStatus, Request, ResetTo, State};
use crate::store::Topic;
use crate::work::Pool;
use std::collections::BTreeMap;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

/// A panicked pipeline is started again after this.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// How often panicked pipelines are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Threads that all pipelines share beside their own.
const POOL_THREADS_MAX: usize = 15;
/// A pipeline file is not larger.
const FILE_SIZE_MAX: u64 = 1 << 20;

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
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), String>>>,
    restart_at: Option<Instant>,
}

/// Reads the folder, starts what is right in it, and goes on by itself. Mistakes are logged and shown on the board.
///
/// # Errors
/// The system has no thread to give.
pub fn start(options: Options, requests: mpsc::Receiver<Request>) -> io::Result<Running> {
    let stop = Arc::new(AtomicBool::new(false));
    let pool = pool()?;
    let mut supervisor = Supervisor { options: Arc::new(options), pool: Arc::new(pool), pipelines: BTreeMap::new() };
    let own = stop.clone();
    let thread = std::thread::Builder::new().name("inrush-pipelines".to_owned());
    Ok(Running { stop, thread: thread.spawn(move || supervisor.run(requests, &own))? })
}

/// The threads that pipelines share. A pipeline's own thread works too: with one core there is no other.
fn pool() -> io::Result<Pool> {
    match std::thread::available_parallelism().map_or(1, NonZero::get) {
        1 => Ok(Pool::without_threads()),
        cores => Pool::start((cores - 1).min(POOL_THREADS_MAX), "rows"),
    }
}

/// Runs one pipeline on this thread up to the end that its topic has then, cuts and returns. Counts are on the board.
///
/// # Errors
/// The file's mistakes, or what makes it impossible to begin.
pub fn drain(options: Options, file: &Path) -> Result<(), String> {
    let job = plan_file(file).map_err(|mistakes| mistakes.iter().map(|m| format!("{m}\n")).collect::<String>())?;
    let pool = pool().map_err(|error| format!("cannot start threads: {error}"))?;
    let stop = Arc::new(AtomicBool::new(false));
    runner::run(&Arc::new(options), &Arc::new(pool), &job, &stop, runner::Until::End)
}

struct Supervisor {
    options: Arc<Options>,
    pool: Arc<Pool>,
    pipelines: BTreeMap<String, Pipeline>,
}

impl Supervisor {
    fn run(&mut self, mut requests: mpsc::Receiver<Request>, stop: &AtomicBool) {
        for (pipeline, result) in self.reload(None) {
            match result {
                Ok(done) => info!(%pipeline, %done, "pipeline"),
                Err(reason) => error!(%pipeline, "{reason}"),
            }
        }
        let runtime = self.options.runtime.clone();
        while !stop.load(Ordering::Acquire) {
            let next = runtime.block_on(async { tokio::time::timeout(LOOK_INTERVAL, requests.recv()).await });
            if let Ok(Some(request)) = next {
                let answer = match request.command {
                    Command::Reload { pipeline } => self.reload(pipeline.as_deref()),
                    Command::Reset { pipeline, to } => vec![(pipeline.clone(), self.reset(&pipeline, to))],
                };
                // Who asked may have hung up; the work is done all the same.
                let _ = request.answer.send(answer);
            }
            self.revive();
        }
        let names: Vec<String> = self.pipelines.keys().cloned().collect();
        self.pipelines.values().for_each(|pipeline| pipeline.stop.store(true, Ordering::Release));
        for name in names {
            self.halt(&name);
        }
    }

    /// Reads the folder (or one file of it) again and swaps what changed. A broken file leaves the old pipeline running.
    fn reload(&mut self, only: Option<&str>) -> Answer {
        let files = match files(&self.options.folder) {
            Ok(files) => files,
            Err(error) => return vec![("pipelines".to_owned(), Err(error))],
        };
        let mut answer = Answer::new();
        let named = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        for path in &files {
            let name = named(path);
            if only.is_none_or(|only| only == name) {
                let result = self.reload_file(&name, path);
                answer.push((name, result));
            }
        }
        let gone = self.pipelines.keys().filter(|name| !files.iter().any(|path| named(path) == **name));
        let gone: Vec<String> = gone.filter(|name| only.is_none_or(|only| only == *name)).cloned().collect();
        for name in gone {
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

    fn reload_file(&mut self, name: &str, path: &Path) -> Result<String, String> {
        let job = match plan_file(path) {
            Ok(job) => job,
            Err(mistakes) => {
                let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                let keeps_on = if self.pipelines.contains_key(name) { " (the old one goes on)" } else { "" };
                let reason = format!("{} mistakes{keeps_on}: {}", lines.len(), lines.join("; "));
                if !self.pipelines.contains_key(name) {
                    self.options.control.publish(broken(name, path, &reason, self.options.clock.now_ms()));
                }
                return Err(reason);
            }
        };
        if self.pipelines.get(name).is_some_and(|running| running.job.spec.text == job.spec.text) {
            return Ok("unchanged".to_owned());
        }
        let is_new = !self.pipelines.contains_key(name);
        self.halt(name);
        self.start(job).map_err(|error| error.to_string())?;
        Ok(if is_new { "started" } else { "swapped" }.to_owned())
    }

    fn start(&mut self, job: Job) -> io::Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        let (options, pool) = (self.options.clone(), self.pool.clone());
        let (own_job, own_stop) = (job.clone(), stop.clone());
        let thread = std::thread::Builder::new().name(format!("inrush-{}", job.spec.name));
        let thread = thread.spawn(move || runner::run(&options, &pool, &own_job, &own_stop, runner::Until::Stop))?;
        self.pipelines.insert(job.spec.name.clone(), Pipeline { job, stop, thread: Some(thread), restart_at: None });
        Ok(())
    }

    /// Stops a pipeline after a last cut and waits for it.
    fn halt(&mut self, name: &str) {
        let Some(mut pipeline) = self.pipelines.remove(name) else { return };
        pipeline.stop.store(true, Ordering::Release);
        if let Some(thread) = pipeline.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }

    /// Names pipelines that ended by themselves, and starts panicked ones again.
    fn revive(&mut self) {
        let mut again = Vec::new();
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
                let file = &pipeline.job.spec.file;
                self.options.control.publish(broken(name, file, &reason, self.options.clock.now_ms()));
            }
            if pipeline.restart_at.is_some_and(|at| at <= Instant::now()) {
                again.push(pipeline.job.clone());
            }
        }
        for job in again {
            if let Err(error) = self.start(job) {
                error!(%error, "a pipeline cannot be started again");
            }
        }
    }

    /// Moves a pipeline: its next files belong to a new generation, what it wrote stays.
    fn reset(&mut self, name: &str, to: ResetTo) -> Result<String, String> {
        let job = self.pipelines.get(name).map(|pipeline| pipeline.job.clone());
        let job = job.ok_or_else(|| format!("no pipeline is named {name}; inrush pipeline status lists them"))?;
        let topic = self.options.store.topic(job.spec.from.as_str());
        let topic =
            topic.ok_or_else(|| format!("topic {} does not exist, so there is nothing to move in", job.spec.from))?;
        self.halt(name);
        let path = runner::checkpoint_path(&self.options, name);
        let mut checkpoint = Checkpoint::load(&path).ok().flatten().unwrap_or_else(|| Checkpoint::new(&job.spec.text));
        checkpoint.generation += 1;
        checkpoint.cut = 0;
        checkpoint.topic = Some(topic.id);
        checkpoint.positions = self.positions(&topic, to)?;
        let moved = checkpoint.save(&path).map_err(|error| error.to_string());
        self.start(job).map_err(|error| error.to_string())?;
        moved.map(|()| format!("moved to {:?}", checkpoint.positions))
    }

    fn positions(&self, topic: &Topic, to: ResetTo) -> Result<BTreeMap<i32, i64>, String> {
        let mut positions = BTreeMap::new();
        for partition in topic.partitions().iter() {
            let offset = match to {
                ResetTo::Start => partition.start(),
                ResetTo::End => partition.tail(),
                ResetTo::Time(ms) => {
                    let found = self.options.runtime.block_on(partition.offset_for_time(ms));
                    found.map_err(|error| error.to_string())?.map_or(partition.tail(), |found| found.offset)
                }
            };
            positions.insert(partition.id().0, offset.0);
        }
        Ok(positions)
    }
}

/// The pipeline files of a folder, by name. A folder that does not exist has none.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", folder.display())),
        Ok(entries) => entries,
    };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}

/// Reads, checks and plans one file.
///
/// # Errors
/// All its mistakes.
pub(super) fn plan_file(path: &Path) -> Result<Job, Vec<Mistake>> {
    let unreadable =
        |message: String| vec![Mistake { file: path.to_owned(), line: 0, column: 0, field: None, message }];
    let size = std::fs::metadata(path).map_err(|error| unreadable(format!("cannot read it: {error}")))?.len();
    if size > FILE_SIZE_MAX {
        return Err(unreadable(format!("it has {size} bytes; a pipeline file has at most {FILE_SIZE_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(format!("cannot read it: {error}")))?;
    let spec = parse(path, &text)?;
    let plan = Plan::of(&spec)?;
    Ok(Job { spec: Arc::new(spec), plan: Arc::new(plan) })
}

fn broken(name: &str, path: &Path, reason: &str, now_ms: i64) -> PipelineStatus {
    PipelineStatus {
        name: name.to_owned(),
        file: path.display().to_string(),
        state: State::Failed,
        reason: Some(reason.to_owned()),
        source: String::new(),
        outputs: Vec::new(),
        positions: BTreeMap::new(),
        committed: BTreeMap::new(),
        lag_records: 0,
        records_read: 0,
        rows_written: 0,
        filtered: 0,
        dead_letters: 0,
        beat_ms: now_ms,
    }
}
