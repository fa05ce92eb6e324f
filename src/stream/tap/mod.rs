//! Taps: somebody looks at the rows of a running pipeline as they pass.
//!
//! The pipeline pays one relaxed load a batch while nobody does. While somebody does it hands on whole batches, which are shared and not
//! copied, over a bounded queue, and never waits: what finds the queue full is counted and passes by unseen. A thread of the tap's own
//! filters, picks and writes. Rows are seen when the pipeline's thread has them and in its order, whichever thread made them: what is made
//! ahead and thrown away is never shown.

mod look;
mod view;
mod writer;

pub(super) use look::{Look, Sights};

use super::dead_letters::Letter;
use super::fault::Fault;
use super::load::Job;
use super::spec::Spec;
use super::step::{Rows, Sieve};
use crate::control;
use crate::record::Record;
use arrow::record_batch::RecordBatch;
use crossbeam::channel::{Sender, bounded};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use view::View;
use writer::Writer;

/// Taps of one pipeline at a time; each has a thread.
const TAPS_MAX: usize = 8;
/// Batches that wait for a tap's thread.
const WAITING_MAX: usize = 4;
/// Dead letters of one batch that are shown.
const DEAD_MAX: usize = 64;
/// Bytes of a dead letter's value that are shown.
const VALUE_SIZE_MAX: usize = 4 << 10;

/// The taps of one pipeline. It outlives the pipeline's runs.
#[derive(Default)]
pub(super) struct Taps {
    count: AtomicUsize,
    open: Mutex<Vec<Arc<Tap>>>,
}

/// The pipeline's end of a tap.
pub(super) struct Tap {
    view: View,
    /// By stage, what a step is called.
    names: Vec<String>,
    bad: bool,
    queue: Sender<Sight>,
    shared: Arc<Shared>,
}

/// What both ends of a tap know.
#[derive(Default)]
struct Shared {
    /// Rows that found the queue full.
    missed: AtomicU64,
    /// Nobody reads any more.
    is_closed: AtomicBool,
    why: OnceLock<String>,
}

/// Something to be shown.
enum Sight {
    Rows {
        partition: i32,
        rows: RecordBatch,
        offsets: Vec<i64>,
        role: Role,
    },
    /// Rows that were left out, too many or too entangled to be shown.
    Count {
        step: String,
        reason: &'static str,
        count: u64,
    },
    Dead(Vec<Dead>),
}

/// What rows are to who sees them.
enum Role {
    /// At the place that was asked for.
    Passing,
    /// On their way to an output.
    Going { output: String },
    /// Left out by a step.
    Left { step: String, reason: String },
}

struct Dead {
    partition: i32,
    offset: i64,
    output: Option<String>,
    fault: Fault,
    value: String,
}

/// What became of records, for those who look.
pub(super) struct Passed<'a> {
    pub(super) partition: i32,
    pub(super) records: &'a [Record],
    /// By route.
    pub(super) routes: &'a [Rows],
    pub(super) bad: &'a [(u32, Fault)],
    /// Pictures that were passed over.
    pub(super) passed_over: u32,
    pub(super) sights: &'a Sights,
}

impl Taps {
    /// Looks on while rows pass, if somebody taps.
    pub(super) fn look(&self) -> Option<Look> {
        // Relaxed: who taps sees rows from some batch on, and which one is nobody's business.
        (self.count.load(Ordering::Relaxed) > 0).then(|| Look::for_all(&self.current()))
    }

    /// Shows what became of records.
    pub(super) fn show(&self, spec: &Spec, passed: &Passed<'_>) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.current().iter().for_each(|tap| tap.show(spec, passed));
    }

    /// Shows dead letters of one output.
    pub(super) fn show_letters(&self, partition: i32, output: &str, letters: &[Letter<'_>]) {
        if letters.is_empty() || self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let letters: Vec<(&Record, &Fault)> = letters.iter().map(|letter| (letter.record, letter.fault)).collect();
        self.current().iter().filter(|tap| tap.bad).for_each(|tap| tap.dead(partition, Some(output), &letters));
    }

    /// Opens a tap on what runs `job`.
    ///
    /// # Errors
    /// What is asked for is not there; there are too many; the system has no thread to give.
    pub(super) fn open(&self, job: &Job, asked: &control::Tap) -> Result<(), String> {
        let (view, names) = (View::of(job, asked)?, View::names(job)?);
        let mut open = self.lock();
        open.retain(|tap| tap.is_open());
        if open.len() >= TAPS_MAX {
            return Err(format!("{TAPS_MAX} taps look at it already: end one of them"));
        }
        let (queue, sights) = bounded(WAITING_MAX);
        let shared = Arc::<Shared>::default();
        let writer = Writer::new(sights, shared.clone(), view.filter(), asked);
        let thread = std::thread::Builder::new().name(format!("inrush-tap-{}", job.spec.name));
        thread.spawn(move || writer.run()).map_err(|error: io::Error| format!("no thread for a tap: {error}"))?;
        open.push(Arc::new(Tap { view, names, bad: asked.bad, queue, shared }));
        self.count.store(open.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Ends all of them.
    pub(super) fn end(&self, why: &str) {
        let mut open = self.lock();
        for tap in open.drain(..) {
            let _ = tap.shared.why.set(why.to_owned());
        }
        self.count.store(0, Ordering::Relaxed);
    }

    fn current(&self) -> Vec<Arc<Tap>> {
        let mut open = self.lock();
        open.retain(|tap| tap.is_open());
        self.count.store(open.len(), Ordering::Relaxed);
        open.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Tap>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap {
    fn is_open(&self) -> bool {
        !self.shared.is_closed.load(Ordering::Relaxed)
    }

    fn show(&self, spec: &Spec, passed: &Passed<'_>) {
        match &self.view {
            View::Routes { only, .. } => {
                let wanted = |at: &usize| only.is_none_or(|only| only == *at);
                for at in (0..passed.routes.len()).filter(wanted) {
                    let output = || Role::Going { output: spec.routes[at].to.to_string() };
                    self.rows(passed, &passed.routes[at], output);
                }
            }
            View::Stage { stage, is_behind, .. } => {
                if let Some(rows) = passed.sights.at(*stage, *is_behind) {
                    self.rows(passed, rows, || Role::Passing);
                }
            }
        }
        if self.bad {
            self.left(passed);
            let bad = passed.bad.iter().map(|(at, fault)| (&passed.records[*at as usize], fault));
            self.dead(passed.partition, None, &bad.collect::<Vec<_>>());
        }
    }

    fn left(&self, passed: &Passed<'_>) {
        for left in passed.sights.left() {
            let step = self.names.get(left.stage).or(self.names.last()).cloned().unwrap_or_default();
            match &left.rows {
                Some(rows) => {
                    let reason = left.reasons.iter().map(|(reason, _)| *reason).collect::<Vec<_>>().join(" or ");
                    self.rows(passed, rows, || Role::Left { step: step.clone(), reason: reason.clone() });
                    let rest = left.count - rows.len() as u64;
                    self.shared.missed.fetch_add(rest, Ordering::Relaxed);
                }
                None => {
                    for (reason, count) in &left.reasons {
                        self.offer(Sight::Count { step: step.clone(), reason, count: u64::from(*count) }, 0);
                    }
                }
            }
        }
        if passed.passed_over > 0 {
            let (step, reason) = ("columns".to_owned(), Sieve::ContentType.as_str());
            self.offer(Sight::Count { step, reason, count: u64::from(passed.passed_over) }, 0);
        }
    }

    fn rows(&self, passed: &Passed<'_>, rows: &Rows, role: impl Fn() -> Role) {
        if rows.len() == 0 {
            return;
        }
        // Before anything is made for it.
        if self.queue.is_full() {
            self.shared.missed.fetch_add(rows.len() as u64, Ordering::Relaxed);
            return;
        }
        let offsets = rows.sources.iter().map(|at| passed.records[*at as usize].offset.0).collect();
        let (partition, rows) = (passed.partition, rows.batch.clone());
        let count = rows.num_rows() as u64;
        self.offer(Sight::Rows { partition, rows, offsets, role: role() }, count);
    }

    fn dead(&self, partition: i32, output: Option<&str>, letters: &[(&Record, &Fault)]) {
        if letters.is_empty() {
            return;
        }
        let one = |(record, fault): &(&Record, &Fault)| {
            let value = record.value.as_deref().unwrap_or_default();
            let value = String::from_utf8_lossy(&value[..value.len().min(VALUE_SIZE_MAX)]).into_owned();
            let (offset, output) = (record.offset.0, output.map(str::to_owned));
            Dead { partition, offset, output, fault: (*fault).clone(), value }
        };
        let shown = letters.len().min(DEAD_MAX);
        self.shared.missed.fetch_add((letters.len() - shown) as u64, Ordering::Relaxed);
        self.offer(Sight::Dead(letters[..shown].iter().map(one).collect()), shown as u64);
    }

    /// Hands it on, or counts it.
    fn offer(&self, sight: Sight, count: u64) {
        if self.queue.try_send(sight).is_err() {
            self.shared.missed.fetch_add(count, Ordering::Relaxed);
        }
    }
}
