//! What the supervisor must not wait for: reading a pipeline's file with its tables, looking at its folders, choosing dead letters, asking
//! a cluster elsewhere. A disk or store that hangs there holds up this one pipeline's command, and nobody else's.
//!
//! A command is done in steps. The supervisor takes each of them, quickly; what lies between two is work on a thread of the pipeline. Of one
//! pipeline one command goes after the other. Who asked hears of all pipelines when the last one has its line; or after [`PATIENCE`] what it
//! is that does not answer, and what was asked is done all the same, once that does.

use super::supervisor::Supervisor;
use crate::control::Answer;
use crate::work::planning_thread;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};
use tracing::{error, info};

/// How long who asks waits for the slowest pipeline.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Errands that run at a time; one that takes longer than `SLOW` is thought to hang, and is not counted: others go on beside it.
const AT_ONCE: usize = 4;
const SLOW: Duration = Duration::from_secs(1);
/// Commands that wait for one pipeline.
const WAITING_MAX: usize = 16;

/// What a command comes to.
pub(super) enum Step {
    Told(Result<String, String>),
    /// It goes on with what comes of work that this thread must not wait for; with whom that waits for.
    Away(&'static str, Work),
}

pub(super) type Work = Box<dyn FnOnce() -> Next + Send>;
pub(super) type Next = Box<dyn FnOnce(&mut Supervisor) -> Step + Send>;

impl Step {
    /// Work that waits for `whom` ("its checkpoint"), and what is done with its result.
    pub(super) fn away<T: Send + 'static>(
        whom: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(&mut Supervisor, T) -> Step + Send + 'static,
    ) -> Step {
        let work = move || -> Next {
            let found = work();
            Box::new(move |supervisor| then(supervisor, found))
        };
        Step::Away(whom, Box::new(work))
    }
}

impl From<Result<String, String>> for Step {
    fn from(told: Result<String, String>) -> Step {
        Step::Told(told)
    }
}

/// What was asked, until all of it is answered.
struct Asked {
    number: u64,
    /// `None` = nobody did: it is the start.
    answer: Option<oneshot::Sender<Answer>>,
    /// A line a pipeline; `None` = not known yet.
    lines: Vec<(String, Option<Result<String, String>>)>,
    /// Then it is answered with what is known.
    until: Option<Instant>,
}

/// A line of what was asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    asked: u64,
    line: usize,
}

struct Errand {
    pipeline: String,
    place: Place,
    whom: &'static str,
    thread: JoinHandle<Next>,
    is_back: Arc<AtomicBool>,
    since: Instant,
}

impl Errand {
    /// Acquire: pairs with the store in [`Back`]. Its thread ends at once then, if it has not.
    fn is_back(&self) -> bool {
        self.is_back.load(Ordering::Acquire)
    }
}

/// All that is on its way.
#[derive(Default)]
pub(super) struct Errands {
    asked: Vec<Asked>,
    count: u64,
    waiting: VecDeque<(String, Place, Next)>,
    away: Vec<Errand>,
    /// Told when one comes back.
    back: Arc<Notify>,
}

impl Errands {
    /// Something to wait for beside commands.
    pub(super) fn back(&self) -> Arc<Notify> {
        self.back.clone()
    }

    /// Begins an answer, which does not wait longer than [`PATIENCE`] for its last line. Nobody waits for one to `None`.
    pub(super) fn open(&mut self, answer: Option<oneshot::Sender<Answer>>) -> u64 {
        self.count += 1;
        let until = answer.is_some().then(|| Instant::now() + PATIENCE);
        self.asked.push(Asked { number: self.count, answer, lines: Vec::new(), until });
        self.count
    }

    /// A line that is to be told.
    pub(super) fn line(&mut self, asked: u64, pipeline: &str) -> Place {
        let known = self.asked.iter_mut().find(|known| known.number == asked);
        let line = known.map_or(0, |known| {
            known.lines.push((pipeline.to_owned(), None));
            known.lines.len() - 1
        });
        Place { asked, line }
    }

    fn tell(&mut self, pipeline: &str, place: Place, told: Result<String, String>) {
        let asked = self.asked.iter_mut().find(|asked| asked.number == place.asked);
        let is_silent = asked.as_ref().is_some_and(|asked| asked.answer.is_none());
        let Some((_, line)) = asked.and_then(|asked| asked.lines.get_mut(place.line)) else {
            // Who asked was told that it takes longer.
            return log(pipeline, &told);
        };
        if is_silent {
            log(pipeline, &told);
        }
        *line = Some(told);
    }

    /// Answers what is known whole, or has been waited for long enough.
    fn answer(&mut self) {
        let is_done = |asked: &Asked| {
            asked.until.is_some_and(|until| until <= Instant::now())
                || asked.lines.iter().all(|(_, told)| told.is_some())
        };
        let (done, rest) = std::mem::take(&mut self.asked).into_iter().partition(is_done);
        self.asked = rest;
        for Asked { number, answer, lines, .. } in done {
            let told = |(line, (name, told)): (usize, (String, Option<_>))| {
                let told = told.unwrap_or_else(|| Err(self.late(Place { asked: number, line })));
                (name, told)
            };
            let lines = lines.into_iter().enumerate().map(told).collect();
            // Who asked may have hung up; the work is done all the same.
            answer.map(|answer| answer.send(lines));
        }
    }

    /// What is told of a line that is not known yet.
    fn late(&self, place: Place) -> String {
        let errand = self.away.iter().find(|errand| errand.place == place);
        let whom = errand.map_or("what was asked of it before", |errand| errand.whom);
        format!(
            "no answer yet: it waits for {whom}; what was asked is done as soon as that answers, see inrush pipeline status"
        )
    }

    /// What has been on its way for so long at least: of which pipeline, for whom it waits, and since when.
    pub(super) fn slow(&self, least: Duration) -> impl Iterator<Item = (&str, &'static str, Duration)> {
        let slow = move |errand: &&Errand| errand.since.elapsed() > least && !errand.is_back();
        self.away.iter().filter(slow).map(|errand| (errand.pipeline.as_str(), errand.whom, errand.since.elapsed()))
    }

    /// Whether something of this pipeline is on its way.
    pub(super) fn is_away(&self, pipeline: &str) -> bool {
        self.away.iter().any(|errand| errand.pipeline == pipeline && !errand.is_back())
    }
}

fn log(pipeline: &str, told: &Result<String, String>) {
    match told {
        Ok(done) => info!(pipeline, %done, "pipeline"),
        Err(reason) => error!(pipeline, "{reason}"),
    }
}

impl Supervisor {
    /// Does something for a pipeline, once what was asked of it before is done.
    pub(super) fn queue(
        &mut self,
        asked: u64,
        pipeline: &str,
        begin: impl FnOnce(&mut Supervisor) -> Step + Send + 'static,
    ) {
        let place = self.errands.line(asked, pipeline);
        if self.errands.waiting.iter().filter(|(name, ..)| name == pipeline).count() >= WAITING_MAX {
            return self.errands.tell(
                pipeline,
                place,
                Err("too much is asked of it already and waits: try again".to_owned()),
            );
        }
        self.errands.waiting.push_back((pipeline.to_owned(), place, Box::new(begin)));
    }

    /// Does something for a pipeline at once.
    pub(super) fn at_once(&mut self, asked: u64, pipeline: &str, begin: impl FnOnce(&mut Supervisor) -> Step) {
        let place = self.errands.line(asked, pipeline);
        let step = begin(self);
        self.go_on(pipeline, place, step);
    }

    /// Takes the steps whose time has come: of those who are back, then of those who waited.
    pub(super) fn run_errands(&mut self) {
        let (back, away) = std::mem::take(&mut self.errands.away).into_iter().partition(Errand::is_back);
        self.errands.away = away;
        for Errand { pipeline, place, thread, .. } in back {
            match thread.join() {
                Ok(next) => {
                    let step = next(self);
                    self.go_on(&pipeline, place, step);
                }
                Err(_) => self.errands.tell(
                    &pipeline,
                    place,
                    Err("its thread panicked: this is a bug, see the log".to_owned()),
                ),
            }
        }
        while let Some((pipeline, place, begin)) = self.next_waiting() {
            let step = begin(self);
            self.go_on(&pipeline, place, step);
        }
        self.errands.answer();
    }

    fn next_waiting(&mut self) -> Option<(String, Place, Next)> {
        let Errands { waiting, away, .. } = &mut self.errands;
        if away.iter().filter(|errand| errand.since.elapsed() < SLOW).count() >= AT_ONCE {
            return None;
        }
        let is_free = |name: &str| !away.iter().any(|errand| errand.pipeline == name);
        let at = waiting.iter().position(|(name, ..)| is_free(name))?;
        waiting.remove(at)
    }

    fn go_on(&mut self, pipeline: &str, place: Place, step: Step) {
        let (whom, work) = match step {
            Step::Told(told) => return self.errands.tell(pipeline, place, told),
            Step::Away(whom, work) => (whom, work),
        };
        let is_back: Arc<AtomicBool> = Arc::default();
        let back = Back(is_back.clone(), self.errands.back());
        let thread = planning_thread(format!("inrush-{pipeline}/asked"));
        let thread = thread.spawn(move || {
            let _back = back;
            work()
        });
        match thread {
            Ok(thread) => {
                let pipeline = pipeline.to_owned();
                let since = Instant::now();
                self.errands.away.push(Errand { pipeline, place, whom, thread, is_back, since });
            }
            Err(error) => self.errands.tell(pipeline, place, Err(format!("the system has no thread for it: {error}"))),
        }
    }
}

/// Wakes the supervisor, also where the work panicked.
struct Back(Arc<AtomicBool>, Arc<Notify>);

impl Drop for Back {
    fn drop(&mut self) {
        // First: who is woken looks at it. That the thread has ended is not true yet, and would be seen a look later.
        self.0.store(true, Ordering::Release);
        self.1.notify_one();
    }
}
