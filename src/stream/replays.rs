//! Replays of dead letters as the supervisor steers them: chosen, begun, looked after, ended. One a pipeline at a time.

use super::errands::Step;
use super::hooks::Hooks;
use super::life::{Heard, Life, Seat};
use super::load::Job;
use super::replay::{self, Ended, Fed, Replay};
use super::sink::lake::{self, Owner};
use super::sink::place::Place;
use super::spec::{Output, ParquetOutput, Route};
use super::{Options, checkpoint::Checkpoint, runner};
use crate::control::{self, CpuStatus, PipelineStatus, State};
use crate::letters::{Chosen, Filter, Letters, Offsets, Ranges, replays_begun};
use crate::record::TopicName;
use crate::store::Topic;
use crate::work::planning_thread;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};
use uuid::Uuid;

/// A replay that panicked is started again after this.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// Bytes of a file's name, as file systems have it.
const FILE_NAME_MAX: usize = 255;
/// How long the end of one waits for its last cut.
const HALT_PATIENCE: Duration = Duration::from_secs(30);

/// The replays that run, by pipeline.
pub(super) struct Replays {
    options: Arc<Options>,
    hooks: Hooks,
    silence_max: Duration,
    running: BTreeMap<String, Running>,
    seats: BTreeMap<String, Arc<Seat>>,
    /// Those whose last run is still writing its checkpoint, or for which the system had no thread.
    late: Vec<Arc<Replay>>,
    /// Those that were told to end, until they have made their last cut or are given up.
    halting: BTreeSet<String>,
}

struct Running {
    replay: Arc<Replay>,
    life: Arc<Life>,
    thread: Option<JoinHandle<Result<Ended, String>>>,
    restart_at: Option<Instant>,
    /// Beats when they were last seen to change, and when that was.
    heard: Heard,
}

impl Replays {
    pub(super) fn new(options: &Arc<Options>, hooks: &Hooks, silence_max: Duration) -> Replays {
        Replays {
            options: options.clone(),
            hooks: hooks.clone(),
            silence_max,
            running: BTreeMap::new(),
            seats: BTreeMap::new(),
            late: Vec::new(),
            halting: BTreeSet::new(),
        }
    }

    /// Goes on with those that had not ended when the daemon did.
    pub(super) fn resume(&mut self) {
        for pipeline in replays_begun(&self.options.data) {
            match Replay::load(&self.options, &pipeline) {
                Ok(Some(replay)) => {
                    info!(%pipeline, letters = replay.count, "a replay goes on");
                    self.start(Arc::new(replay));
                }
                Ok(None) => {}
                Err(error) => error!(%pipeline, %error, "the replay of the last run cannot be read"),
            }
        }
    }

    /// Chooses letters that `job` left and begins to feed them to it; says why it does not begin, and what to do.
    pub(super) fn begin(&mut self, job: Job, filter: Filter, how: control::Replay) -> Step {
        let topic = match self.may_begin(&job, how) {
            Ok(topic) => topic,
            Err(reason) => return Step::Told(Err(reason)),
        };
        let letters = Letters::new(self.options.store.clone(), self.options.data.clone());
        // Until it is written down what was chosen; who sends letters of it to a topic chooses others.
        let turn = match how.is_dry {
            true => None,
            false => match letters.turn(&topic) {
                Ok(turn) => Some(turn),
                Err(error) => return Step::Told(Err(error.to_string())),
            },
        };
        let (own_job, own_topic, options) = (job.clone(), topic.clone(), self.options.clone());
        let work = move || {
            let (chosen, left) = choose(&letters, &own_job, &own_topic, filter, how)?;
            if how.is_dry {
                return replay::try_out(&own_job, &own_topic, &chosen.offsets).map(|told| Choice::Dry(told + &left));
            }
            folders_fit(&options, &own_job)?;
            Ok(Choice::Letters(chosen, left))
        };
        Step::away("the dead letters' topic, or a folder that it writes to", work, move |supervisor, chosen| {
            let told = match chosen {
                Ok(Choice::Dry(told)) => Ok(told),
                Ok(Choice::Letters(chosen, left)) => supervisor.replays.feed(&job, &topic, chosen, &left, how),
                Err(reason) => Err(reason),
            };
            drop(turn);
            Step::Told(told)
        })
    }

    /// The topic of the letters, if they can be replayed now.
    fn may_begin(&mut self, job: &Job, how: control::Replay) -> Result<Arc<Topic>, String> {
        let name = &job.spec.name;
        let then = &job.spec.on_error.then;
        if job.plan.is_stateful() {
            return Err(format!(
                "its steps remember, and what they remembered when the letters came is gone: send the letters through the whole pipeline as new records, inrush dlt replay {name} --to-topic {} (every reader of that topic gets them; a dedupe or debounce step that stood before what failed still knows their keys, and takes them for doubles until its time is over; rows of windows are no records and stay)",
                job.spec.from
            ));
        }
        let begun = self.begun(name)?;
        if let Some(begun) = begun.filter(|_| !how.is_dry) {
            let (count, noun) = (begun.count, begun.noun());
            return Err(format!("{count} {noun} are being replayed; inrush dlt replay {name} --stop ends that"));
        }
        let topic = self.options.store.topic(then.as_str());
        topic.ok_or_else(|| format!("there is no topic {then} yet, so there are no letters"))
    }

    /// Begins to feed a pipeline the letters that were chosen.
    fn feed(
        &mut self,
        job: &Job,
        topic: &Topic,
        chosen: Chosen,
        left: &str,
        how: control::Replay,
    ) -> Result<String, String> {
        let name = &job.spec.name;
        let then = &job.spec.on_error.then;
        self.options.control.withdraw(&PipelineStatus::replay_name(name));
        if chosen.count == 0 {
            let again = if how.again { "" } else { "; --again takes handled ones too" };
            return Ok(format!("nothing to replay: no open letter of {then} is chosen{again}{left}"));
        }
        let known =
            Checkpoint::load(&runner::checkpoint_path(&self.options, name)).map_err(|error| error.to_string())?;
        let known = known.ok_or("it has not run yet, so none of the letters are its own")?;
        let replay = Replay {
            pipeline: name.clone(),
            fed: Fed::Letters,
            to: BTreeMap::new(),
            topic: topic.id,
            chosen: chosen.offsets,
            count: chosen.count,
            text: job.spec.text.clone(),
            number: self.options.clock.now_ms(),
        };
        replay.begin(&self.options, known.id).map_err(|error| format!("cannot write the replay down: {error}"))?;
        self.start(Arc::new(replay));
        Ok(format!("{} letters of {then} are being replayed{left}", chosen.count))
    }

    /// Begins to feed a pipeline the records of its source in these ranges once more; says why it does not begin, and what to do.
    pub(super) fn backfill(&mut self, job: &Job, topic: &Topic, chosen: Offsets, to: &[String], is_sure: bool) -> Step {
        let (replay, known) = match self.chosen(job, topic, chosen, to, is_sure) {
            Ok(Some(found)) => found,
            Ok(None) => return Step::Told(Ok(format!("topic {} has no records of that time", topic.name))),
            Err(reason) => return Step::Told(Err(reason)),
        };
        let (options, own, file, topic) =
            (self.options.clone(), replay.clone(), job.spec.file.clone(), topic.name.clone());
        // What a folder or topic may not be called is told now, and where it could never write.
        let work = move || {
            let redirected = own.job(&file)?;
            owns(&options, &redirected, known)?;
            folders_fit(&options, &redirected)
        };
        Step::away("the folders that it is to write to", work, move |supervisor, fits: Result<(), String>| {
            let own = &mut supervisor.replays;
            let begun = fits.and_then(|()| {
                let begun = replay.begin(&own.options, known);
                begun.map_err(|error| format!("cannot write the backfill down: {error}"))
            });
            Step::Told(begun.map(|()| {
                let count = replay.count;
                own.start(Arc::new(replay));
                format!("{count} records of {topic} are being fed to it")
            }))
        })
    }

    /// A backfill that may begin, and the pipeline's id; `None` = there is nothing to feed.
    fn chosen(
        &mut self,
        job: &Job,
        topic: &Topic,
        chosen: Offsets,
        to: &[String],
        is_sure: bool,
    ) -> Result<Option<(Replay, Uuid)>, String> {
        let name = &job.spec.name;
        if job.plan.is_stateful() {
            return Err(format!(
                "its steps remember, and what they would remember at the range's beginning is not known: let it read all of it again, inrush pipeline reset {name} --to TIME"
            ));
        }
        if let Some(begun) = self.begun(name)? {
            let (count, noun) = (begun.count, begun.noun());
            return Err(format!("{count} {noun} are being fed to it; inrush dlt replay {name} --stop ends that"));
        }
        let count: u64 = chosen.values().map(Ranges::count).sum();
        if count == 0 {
            return Ok(None);
        }
        let outputs = job.spec.outputs();
        let to = redirected(job, to)?;
        if to.is_empty() && !is_sure {
            return Err(format!(
                "{count} records would be fed to {} once more: what the live run has written of them, or will write, is there twice then; write elsewhere with --to, or say --yes",
                outputs.join(", ")
            ));
        }
        let known =
            Checkpoint::load(&runner::checkpoint_path(&self.options, name)).map_err(|error| error.to_string())?;
        let known = known.ok_or("it has not run yet: there is nothing to fill in")?;
        let replay = Replay {
            pipeline: name.clone(),
            fed: Fed::Backfill,
            to,
            topic: topic.id,
            chosen,
            count,
            text: job.spec.text.clone(),
            number: self.options.clock.now_ms(),
        };
        Ok(Some((replay, known.id)))
    }

    /// What has begun and has not ended, whether a thread runs it now or not: another in its place would feed its letters once more. One
    /// whose end was told a moment ago may not have been looked after yet.
    fn begun(&mut self, name: &str) -> Result<Option<Arc<Replay>>, String> {
        let begun = Replay::load(&self.options, name).map_err(|error| error.to_string())?.map(Arc::new);
        match &begun {
            None => {
                if let Some(thread) = self.running.remove(name).and_then(|mut ended| told_to_stop(&mut ended)) {
                    wait_for(name, thread);
                }
            }
            Some(begun) if !self.running.contains_key(name) && !self.is_late(name) => self.start(begun.clone()),
            Some(_) => {}
        }
        Ok(begun)
    }

    /// Whether its last run has not let go of its checkpoint.
    fn is_late(&self, name: &str) -> bool {
        self.halting.contains(name) || self.late.iter().any(|late| late.pipeline == name)
    }

    /// Those that were told to end and have not.
    pub(super) fn halting(&self) -> impl Iterator<Item = &String> {
        self.halting.iter()
    }

    /// Ends a replay where all outputs stand together; letters behind that stay open. With `is_sure` also one whose outputs may hold some of
    /// those. It does not end if there is none, if its outputs do not stand together now, or if the system does not let it.
    pub(super) fn stop(&mut self, name: &str, is_sure: bool) -> Step {
        if self.is_late(name) {
            return Step::Told(Err("its last run is still writing its checkpoint; try again".to_owned()));
        }
        let Some(mut running) = self.running.remove(name) else {
            return Step::Told(Err(format!("no replay of {name} is under way")));
        };
        let Some(thread) = told_to_stop(&mut running) else {
            // What ended by itself cannot go on: there is nothing to wait for.
            let had_ended = running.restart_at.is_none();
            return self.stopped(running, None, had_ended, is_sure).into();
        };
        self.halting.insert(name.to_owned());
        let name = name.to_owned();
        Step::away(
            "its replay's last cut",
            move || wait_for(&name, thread),
            move |own, ended| {
                let own = &mut own.replays;
                own.halting.remove(&running.replay.pipeline);
                own.stopped(running, ended, false, is_sure).into()
            },
        )
    }

    /// What comes of the end of a replay whose thread `ended` so; `None` = it was given up, or had none since it `had_ended` before.
    fn stopped(
        &mut self,
        running: Running,
        ended: Option<Result<Ended, String>>,
        had_ended: bool,
        is_sure: bool,
    ) -> Result<String, String> {
        let replay = running.replay.clone();
        let (stands, is_over) = match ended {
            Some(Ok(Ended::Done(told))) => return Ok(told),
            Some(Ok(Ended::Stopped { stands })) => (stands, true),
            // It failed: its outputs may hold more than its last cut.
            Some(Err(_)) => (false, true),
            None => (false, had_ended),
        };
        let ended = match is_over {
            true => self.end(&replay, stands, is_sure),
            false => Err("its run does not answer, and goes on from its last cut; try again".to_owned()),
        };
        if ended.is_err() {
            match had_ended {
                true => drop(self.running.insert(replay.pipeline.clone(), running)),
                false => self.start(replay),
            }
        }
        ended
    }

    /// Ends one that no thread runs, if its outputs hold nothing behind its last cut, or somebody says that they may.
    fn end(&self, replay: &Replay, stands: bool, is_sure: bool) -> Result<String, String> {
        let done = replay.done(&self.options).map_err(|error| error.to_string())?;
        let count: u64 = done.values().map(Ranges::count).sum();
        let has_gone = replay.fed == Fed::Letters && self.options.store.topic_by_id(replay.topic).is_none();
        // Behind the last of them there is nothing; and letters that are gone can be written by no other replay.
        if !stands && !is_sure && count < replay.count && !has_gone {
            let name = &replay.pipeline;
            return Err(format!(
                "an output holds {noun} that another does not, or does not answer, or the replay failed: it goes on until they stand together, see inrush pipeline status; inrush dlt replay {name} --stop --yes ends it all the same after {count} of {all} {noun}, and the next replay may write some of the others twice",
                noun = replay.noun(),
                all = replay.count,
            ));
        }
        replay.end(&self.options, &done)?;
        self.options.control.withdraw(&PipelineStatus::replay_name(&replay.pipeline));
        Ok(match replay.fed {
            Fed::Letters => {
                let others = if has_gone { "went with their topic" } else { "stay open" };
                format!("the replay ended after {count} of {} letters; the others {others}", replay.count)
            }
            Fed::Backfill => {
                let next: Vec<String> = replay
                    .chosen
                    .iter()
                    .map(|(partition, ranges)| {
                        let done = done.get(partition).and_then(Ranges::end).or(ranges.first()).unwrap_or(0);
                        format!("{partition}:{done}")
                    })
                    .collect();
                format!("the backfill ended after {count} of {} records, at {}", replay.count, next.join(", "))
            }
        })
    }

    /// Tells of those that ended, and starts panicked and silent ones again.
    pub(super) fn look(&mut self) {
        let mut again = std::mem::take(&mut self.late);
        let silence_max = self.silence_max;
        let options = self.options.clone();
        self.running.retain(|name, running| {
            if running.thread.as_ref().is_some_and(JoinHandle::is_finished)
                && let Some(thread) = running.thread.take()
            {
                match thread.join() {
                    Ok(Ok(Ended::Done(_))) => return false,
                    Ok(Ok(Ended::Stopped { .. })) => {}
                    Ok(Err(reason)) => {
                        error!(pipeline = %name, %reason, "the replay ended");
                        let reason = format!("{reason}; inrush dlt replay {name} --stop gives it up");
                        options.control.publish(line(
                            &running.replay,
                            State::Failed,
                            Some(reason),
                            options.clock.now_ms(),
                        ));
                    }
                    Err(_) => running.restart_at = Some(Instant::now() + RESTART_PAUSE),
                }
            }
            running.heard.listen(&running.life);
            if running.thread.is_some() && running.heard.silence() > silence_max {
                warn!(pipeline = %name, "the replay gave no sign of life: it is started again from its last cut");
                running.life.stop();
                running.heard = Heard::now();
                running.restart_at = Some(Instant::now());
            }
            if running.restart_at.is_some_and(|at| at <= Instant::now()) {
                again.push(running.replay.clone());
            }
            true
        });
        again.into_iter().for_each(|replay| self.start(replay));
    }

    /// Cuts and stops all; they go on at the next start of the daemon.
    pub(super) fn stop_all(&mut self) {
        self.running.values().for_each(|running| running.life.stop());
        for (name, mut running) in std::mem::take(&mut self.running) {
            told_to_stop(&mut running).map(|thread| wait_for(&name, thread));
        }
    }

    fn start(&mut self, replay: Arc<Replay>) {
        let name = replay.pipeline.clone();
        match Replay::load(&self.options, &name) {
            Ok(begun) if begun.as_ref().is_none_or(|begun| begun.number != replay.number) => {
                // A run that was given up has ended it after all.
                self.running.remove(&name);
                return;
            }
            // What cannot be read now is looked at again.
            Err(error) => {
                error!(pipeline = name, %error, "the replay cannot be read");
                self.running.remove(&name);
                self.late.push(replay);
                return;
            }
            Ok(_) => {}
        }
        let now_ms = self.options.clock.now_ms();
        self.options.control.publish(line(&replay, State::Starting, None, now_ms));
        let Some(life) = Life::begin(self.seats.entry(name.clone()).or_default()) else {
            self.running.remove(&name);
            self.late.push(replay);
            return;
        };
        let file: PathBuf = self.options.folder.join(format!("{name}.toml"));
        let (options, own, own_life, hooks) = (self.options.clone(), replay.clone(), life.clone(), self.hooks.clone());
        let thread = planning_thread(format!("inrush-{name}/replay"));
        match thread.spawn(move || replay::run(&options, &file, &own, &own_life, &hooks)) {
            Ok(thread) => {
                let heard = Heard::now();
                let running = Running { replay, life, thread: Some(thread), restart_at: None, heard };
                self.running.insert(name, running);
            }
            Err(error) => {
                error!(pipeline = name, %error, "a replay cannot be started yet");
                self.running.remove(&name);
                self.late.push(replay);
            }
        }
    }
}

/// What was chosen to be replayed.
enum Choice {
    Letters(Chosen, String),
    /// What would come of it.
    Dry(String),
}

/// The letters of a pipeline that a filter takes, and what is left where it is.
fn choose(
    letters: &Letters,
    job: &Job,
    topic: &Topic,
    filter: Filter,
    how: control::Replay,
) -> Result<(Chosen, String), String> {
    let outputs = job.spec.outputs();
    let (mut batches, mut without_output, mut partly) = (0, 0, 0);
    let mut gone = BTreeSet::new();
    let filter = Filter { pipeline: Some(job.spec.name.clone()), ..filter };
    let chosen = letters.choose(topic, &filter, how.again, |letter| {
        let is_fit = !letter.is_batch();
        batches += u64::from(!is_fit);
        let has_output = outputs.iter().any(|output| letter.is_of_output(output));
        without_output += u64::from(is_fit && !has_output);
        if is_fit && has_output {
            let lacking = letter.outputs();
            let mut left = lacking.split(", ").filter(|one| outputs.iter().all(|output| output != one)).peekable();
            partly += u64::from(left.peek().is_some());
            gone.extend(left.map(str::to_owned));
        }
        is_fit && has_output
    });
    let chosen = chosen.map_err(|error| error.to_string())?;
    let mut left = String::new();
    if batches > 0 {
        left += &format!("; {batches} letters of batches that cannot be decoded stay");
    }
    if without_output > 0 {
        left += &format!(
            "; {without_output} letters stay that only outputs lack which the pipeline no longer has (it has {})",
            outputs.join(", ")
        );
    }
    if partly > 0 {
        let gone = gone.into_iter().collect::<Vec<_>>().join(", ");
        left += &format!(
            "; {partly} letters are lacked by {gone} too, which the pipeline no longer has: no row comes there"
        );
    }
    Ok((chosen, left))
}

/// The folders of this machine that a pipeline writes into.
fn folders<'a>(options: &'a Options, job: &'a Job) -> impl Iterator<Item = (&'a Route, &'a ParquetOutput, Place)> {
    job.spec.routes.iter().filter_map(|route| {
        // A store is asked by the replay itself, which waits for it.
        let Output::Parquet(out) = &route.to else { return None };
        let place = || Place::Folder(options.out.join(&out.folder));
        out.store.is_none().then(|| (route, out.as_ref(), place()))
    })
}

/// Whether each folder that it would write into is its own or nobody's: it could not be opened, ever.
fn owns(options: &Options, job: &Job, pipeline: Uuid) -> Result<(), String> {
    let owner = Owner { cluster: options.store.cluster_id(), pipeline, name: job.spec.name.clone(), generation: 0 };
    for (_, out, folder) in folders(options, job) {
        match lake::whose(&folder, &owner, out.adopt.as_deref()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error.to_string()),
            // A disk that is mounted late: it waits for it.
            _ => {}
        }
    }
    Ok(())
}

/// Whether each folder that it would write into has had columns like its own, or can have them: else it would wait for ever.
fn folders_fit(options: &Options, job: &Job) -> Result<(), String> {
    for (route, _, folder) in folders(options, job) {
        match lake::check_replayed(&folder, &route.schema(job.plan.output())) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error.to_string()),
            _ => {}
        }
    }
    Ok(())
}

/// By output what is written in its place: `NAME` for the only one, `OUTPUT=NAME` for one of several. Never a place that the pipeline itself
/// reads or writes.
fn redirected(job: &Job, to: &[String]) -> Result<BTreeMap<String, String>, String> {
    let outputs = job.spec.outputs();
    let mut redirected: BTreeMap<String, String> = BTreeMap::new();
    for asked in to {
        let (output, name) = match (asked.split_once('='), outputs.as_slice()) {
            (Some((output, name)), _) if outputs.iter().any(|own| own == output) => (output.to_owned(), name),
            (None, [only]) => (only.clone(), asked.as_str()),
            _ => {
                return Err(format!(
                    "--to {asked}: say for which output, as --to '{}=NAME'; there are {}",
                    outputs[0],
                    outputs.join(", ")
                ));
            }
        };
        let (kind, _) = output.split_once(' ').unwrap_or((&output, ""));
        let is_name = |part: Component<'_>| matches!(part, Component::Normal(part) if part.len() <= FILE_NAME_MAX);
        let is_inside = !name.is_empty() && Path::new(name).components().all(is_name);
        // Also a topic that the daemon keeps for itself.
        let is_kept = kind == "topic" && TopicName::new(name).map_or(true, |name| name.is_internal());
        let mut own = outputs.iter().filter_map(|own| own.strip_prefix(kind)?.strip_prefix(' '));
        let is_own = own.any(|own| match kind {
            "kafka" => own == name || own.starts_with(&format!("{name} at ")),
            "topic" => own == name,
            // A reader of the one would meet files of the other.
            _ => Path::new(own).starts_with(name) || Path::new(name).starts_with(own),
        });
        let is_read = kind == "topic" && (name == job.spec.from.as_str() || name == job.spec.on_error.then.as_str());
        if is_own || is_read || is_kept || !is_inside {
            return Err(format!(
                "--to {name}: name another folder or topic than those that the pipeline reads and writes, below the output folder"
            ));
        }
        let mut others = redirected.values().map(Path::new);
        let is_taken = others.any(|other: &Path| other.starts_with(name) || Path::new(name).starts_with(other));
        if is_taken || redirected.insert(output.clone(), name.to_owned()).is_some() {
            return Err(format!("--to {asked}: {output}, or {name}, is named twice"));
        }
    }
    Ok(redirected)
}

/// Tells one to stop; gives its thread, if there is one.
fn told_to_stop(running: &mut Running) -> Option<JoinHandle<Result<Ended, String>>> {
    running.life.stop();
    let thread = running.thread.take()?;
    thread.thread().unpark();
    Some(thread)
}

/// How a thread that was told to stop ended; `None` if it was given up.
fn wait_for(pipeline: &str, thread: JoinHandle<Result<Ended, String>>) -> Option<Result<Ended, String>> {
    let began = Instant::now();
    while !thread.is_finished() && began.elapsed() < HALT_PATIENCE {
        std::thread::park_timeout(Duration::from_millis(10));
    }
    match thread.is_finished() {
        true => thread.join().ok(),
        false => {
            warn!(pipeline, "its replay did not stop in time and is given up");
            None
        }
    }
}

/// A replay's line while no thread tells of it.
fn line(replay: &Replay, state: State, reason: Option<String>, now_ms: i64) -> PipelineStatus {
    PipelineStatus {
        name: PipelineStatus::replay_name(&replay.pipeline),
        file: String::new(),
        state,
        reason,
        warnings: Vec::new(),
        source: String::new(),
        outputs: Vec::new(),
        positions: BTreeMap::new(),
        committed: BTreeMap::new(),
        lag_records: replay.count as i64,
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
        cut_ms: None,
    }
}
