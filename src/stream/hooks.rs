//! The places where tests make a pipeline crash, hang or meet a sink that refuses. Outside of tests there is nothing here.

use super::memory::QUIET_AFTER;
use super::sink::WriteError;
use std::time::Duration;

/// A moment between two steps that a crash can fall into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// A batch was appended to an output topic or a dead letter topic; others of the same rows may be missing.
    Appended,
    /// Rows are with the output, dead letters of the same records are not sent.
    Written,
    /// Rows and dead letters are out, the cut is not made.
    Lettered,
    /// Files are closed and synced, no checkpoint names them.
    Staged,
    /// What the steps remember is written and synced, no checkpoint names it.
    Remembered,
    /// The checkpoint names the files, none has its name.
    Saved,
    /// One file has its name, others may not.
    Renamed,
}

/// Nothing.
#[cfg(not(test))]
#[derive(Clone, Default)]
pub(super) struct Hooks {}

#[cfg(not(test))]
impl Hooks {
    #[inline]
    pub(super) fn quiet_after(&self) -> Duration {
        QUIET_AFTER
    }

    #[inline]
    pub(super) fn cut_took(&self, measured: Duration) -> Duration {
        measured
    }

    #[inline]
    pub(super) fn at(&self, _step: Step) {}

    #[inline]
    pub(super) fn write(
        &self,
        _pipeline: &str,
        _output: &str,
        _offsets: impl Iterator<Item = i64>,
    ) -> Result<(), WriteError> {
        Ok(())
    }
}

/// What a test has planned; clones share it.
#[cfg(test)]
#[derive(Clone, Default)]
pub(super) struct Hooks {
    script: std::sync::Arc<std::sync::Mutex<Script>>,
}

#[cfg(test)]
type Verdict = dyn FnMut(&str, &str, &[i64]) -> Result<(), WriteError> + Send;

#[cfg(test)]
#[derive(Default)]
struct Script {
    /// Panic at the n-th time (from 1) that this step is reached.
    crash: Option<(Step, usize)>,
    sink: Option<Box<Verdict>>,
    quiet_after: Option<Duration>,
}

#[cfg(test)]
impl Hooks {
    /// Crashes the pipeline's thread at the `nth` time that it reaches `step`, as a kill of the process would.
    pub(super) fn crash_at(&self, step: Step, nth: usize) {
        self.script().crash = Some((step, nth));
    }

    /// After how long a partition without records is moved by a mark.
    pub(super) fn set_quiet_after(&self, wait: Duration) {
        self.script().quiet_after = Some(wait);
    }

    pub(super) fn quiet_after(&self) -> Duration {
        self.script().quiet_after.unwrap_or(QUIET_AFTER)
    }

    /// What a cut is said to have cost. Pauses are many times that: on a loaded machine a test would wait minutes for its disk.
    pub(super) fn cut_took(&self, _measured: Duration) -> Duration {
        Duration::ZERO
    }

    /// Whether the planned crash has happened.
    pub(super) fn has_crashed(&self) -> bool {
        self.script().crash.is_none()
    }

    /// Asks `verdict` (pipeline, output, offsets) before rows are written.
    pub(super) fn sink(&self, verdict: impl FnMut(&str, &str, &[i64]) -> Result<(), WriteError> + Send + 'static) {
        self.script().sink = Some(Box::new(verdict));
    }

    pub(super) fn at(&self, step: Step) {
        let mut script = self.script();
        let is_due = match &mut script.crash {
            Some((planned, left)) if *planned == step => {
                *left -= 1;
                *left == 0
            }
            _ => false,
        };
        if is_due {
            script.crash = None;
            drop(script);
            panic!("a crash that the test planned at {step:?}");
        }
    }

    pub(super) fn write(
        &self,
        pipeline: &str,
        output: &str,
        offsets: impl Iterator<Item = i64>,
    ) -> Result<(), WriteError> {
        let sink = self.script().sink.take();
        let Some(mut sink) = sink else { return Ok(()) };
        // Not under the lock: a verdict may take as long as it likes.
        let verdict = sink(pipeline, output, &offsets.collect::<Vec<_>>());
        self.script().sink.get_or_insert(sink);
        verdict
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
