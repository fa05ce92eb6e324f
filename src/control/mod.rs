//! What doors and commands may ask of pipelines, and their status: plain data on channels, so that `server/` and `stream/` do not see each other.

mod tap;

pub use tap::{After, PIECES_MAX, RATE, RATE_MAX, Tap};

use crate::clock::Millis;
use crate::letters::Filter;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How many commands may wait; a door that finds the queue full answers 503.
pub const COMMAND_QUEUE_MAX: usize = 64;

/// What can be asked of the pipelines.
#[derive(Debug)]
pub enum Command {
    /// Read the pipelines' folder again and swap what changed; one pipeline or all. `drop_state` lets go what the steps of one remember,
    /// if its new ones cannot take it over.
    Reload {
        pipeline: Option<String>,
        drop_state: bool,
    },
    /// Move a pipeline's positions and raise its generation.
    Reset {
        pipeline: String,
        partition: Option<i32>,
        to: ResetTo,
    },
    /// Let a pipeline cut and stand still, also after a restart, until it is resumed.
    Pause {
        pipeline: String,
    },
    Resume {
        pipeline: String,
    },
    /// Feed a pipeline the dead letters that it left, those that the filter chooses and that are not handled.
    Replay {
        pipeline: String,
        filter: Filter,
        how: Replay,
    },
    /// Feed a pipeline what its source has from one time up to another, in ms, into its outputs or those that `to` names.
    Backfill {
        pipeline: String,
        from: i64,
        until: i64,
        to: Vec<String>,
        is_sure: bool,
    },
    /// End a pipeline's replay where it is; letters behind that stay open. `is_sure` ends also one whose outputs may hold some of those.
    StopReplay {
        pipeline: String,
        is_sure: bool,
    },
    /// Show somebody the rows of a pipeline as they pass.
    Tap {
        pipeline: String,
        tap: Tap,
    },
}

/// How letters are replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Letters that are handled too.
    pub again: bool,
    /// Nothing is written: it is only said what would come of them.
    pub is_dry: bool,
}

/// Where a reset moves a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetTo {
    Start,
    End,
    /// The first records at or after this time, in ms.
    Time(i64),
    /// Of one partition.
    Offset(i64),
}

/// One line a pipeline: what was done, or why not.
pub type Answer = Vec<(String, Result<String, String>)>;

/// A command with the way back for its answer.
#[derive(Debug)]
pub struct Request {
    pub command: Command,
    pub answer: oneshot::Sender<Answer>,
}

/// What a pipeline is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    #[default]
    Starting,
    NoTopic,
    Running,
    /// An output is down; the pipeline tries again for ever.
    Stalled,
    /// A person lets it stand still.
    Paused,
    Failed,
    Stopped,
}

/// A pipeline as `/api/pipelines`, `pipeline status`, `/readyz` and the demo show it.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct PipelineStatus {
    pub name: String,
    pub file: String,
    pub state: State,
    /// Why it is not running, or what the last error was.
    pub reason: Option<String>,
    /// What a person should look at, though it runs: records that left the log unread, a broken file on disk.
    pub warnings: Vec<String>,
    pub source: String,
    /// One line an output, e.g. `parquet clicks` or `topic people`.
    pub outputs: Vec<String>,
    /// Next offset to read by source partition.
    pub positions: BTreeMap<i32, i64>,
    /// Committed offset by source partition (lowest of the outputs).
    pub committed: BTreeMap<i32, i64>,
    pub lag_records: i64,
    /// Age of the oldest record that was not read.
    pub lag_seconds: f64,
    pub records_read: u64,
    pub rows_written: u64,
    pub filtered: u64,
    pub dead_letters: u64,
    /// Since it was started.
    pub retries: u64,
    pub stalls: u64,
    pub cpu: CpuStatus,
    /// Partitions that have not passed the end of windows which others have; empty if no window waits.
    pub windows_wait_for: Vec<WindowWait>,
    /// When the pipeline last gave a sign of life, ms since 1970.
    pub beat_ms: i64,
    /// When its last cut of this run was, ms since 1970; `None` = none yet.
    pub cut_ms: Option<i64>,
}

/// What a pipeline takes of the cores.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct CpuStatus {
    /// CPU time that it took since the daemon started.
    pub seconds: f64,
    /// At most so much of one core: `50%`; `None` = no limit.
    pub share: Option<String>,
    /// It stood still for so long, because it had taken its share.
    pub held_seconds: f64,
    /// It does so now.
    pub is_held: bool,
}

/// A partition that windows wait for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct WindowWait {
    pub partition: i32,
    /// How far its time is, RFC 3339; `None` = it has none yet.
    pub time: Option<String>,
    /// Its time has not moved for so long.
    pub seconds: u64,
}

impl std::fmt::Display for WindowWait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let WindowWait { partition, time, seconds } = self;
        match time {
            Some(time) => write!(f, "windows wait for partition {partition} (its time is {time}, for {seconds} s)"),
            None => write!(f, "windows wait for partition {partition} (it has no time yet, for {seconds} s)"),
        }
    }
}

impl PipelineStatus {
    /// The line of a pipeline's replay, which is behind the pipeline's own.
    pub fn replay_name(pipeline: &str) -> String {
        format!("{pipeline}{REPLAY}")
    }

    /// Whether it is the line of a replay, and of no pipeline.
    pub fn is_replay(&self) -> bool {
        self.name.ends_with(REPLAY)
    }
}

/// No file's stem has a slash in it.
const REPLAY: &str = "/replay";

/// The one board that pipelines write their status on and doors read.
#[derive(Clone, Debug)]
pub struct Control {
    board: Arc<Mutex<BTreeMap<String, Posted>>>,
    commands: mpsc::Sender<Request>,
}

/// What the board has of a pipeline.
#[derive(Debug)]
struct Posted {
    status: PipelineStatus,
    /// The reason that it gave itself.
    own: Option<String>,
}

/// The commands could not be handed over.
#[derive(Debug, thiserror::Error)]
#[error("the pipelines do not take commands now: {0}")]
pub struct Busy(pub &'static str);

impl Control {
    /// The board, and the receiver that the pipelines' supervisor reads.
    pub fn new() -> (Control, mpsc::Receiver<Request>) {
        let (commands, requests) = mpsc::channel(COMMAND_QUEUE_MAX);
        (Control { board: Arc::default(), commands }, requests)
    }

    pub fn publish(&self, status: PipelineStatus) {
        self.board().insert(status.name.clone(), Posted { own: status.reason.clone(), status });
    }

    /// Says of a pipeline that it begins again; what else is told of it is from before.
    pub fn note_start(&self, pipeline: &str) {
        if let Some(Posted { status, own }) = self.board().get_mut(pipeline) {
            (status.state, status.reason) = (State::Starting, None);
            status.warnings.clear();
            *own = None;
        }
    }

    /// Says what became of a file on disk, without waiting for the pipeline to tell.
    pub fn note_warning(&self, pipeline: &str, old: Option<&str>, new: Option<&str>) {
        if let Some(Posted { status, .. }) = self.board().get_mut(pipeline) {
            status.warnings.retain(|warning| Some(warning.as_str()) != old && Some(warning.as_str()) != new);
            status.warnings.extend(new.map(str::to_owned));
        }
    }

    /// Says for whom a pipeline waits.
    pub fn note_wait(&self, pipeline: &str, whom: &str, seconds: u64) {
        if let Some(Posted { status, .. }) = self.board().get_mut(pipeline) {
            status.state = State::Stalled;
            status.reason =
                Some(format!("no answer from {whom} for {seconds} s; what else is told here is from before"));
        }
    }

    /// Says of a pipeline that has told nothing for long that it is at work all the same.
    pub fn note_work(&self, pipeline: &str, seconds: u64, cpu: Duration, now_ms: Millis) {
        if let Some(Posted { status, .. }) = self.board().get_mut(pipeline) {
            status.beat_ms = now_ms;
            status.cpu.seconds = cpu.as_secs_f64();
            status.reason = Some(format!(
                "it has worked on one read of its source for {seconds} s, heavy SQL or large records, or has too little CPU; what else is told here is from before"
            ));
        }
    }

    /// Says of a pipeline that gives no sign of life that what stands on the board is from before.
    pub fn note_silence(&self, pipeline: &str, seconds: u64) {
        if let Some(Posted { status, own }) = self.board().get_mut(pipeline) {
            // What it said last says most of whom it waits for.
            let words = own.as_ref().map(|own| format!("; its last words: {own}")).unwrap_or_default();
            status.state = State::Stalled;
            status.reason = Some(format!(
                "no sign of life for {seconds} s: an output, its source or a disk hangs; what else is told here is from before{words}"
            ));
        }
    }

    pub fn withdraw(&self, pipeline: &str) {
        self.board().remove(pipeline);
    }

    /// All pipelines by name.
    pub fn statuses(&self) -> Vec<PipelineStatus> {
        self.board().values().map(|posted| posted.status.clone()).collect()
    }

    /// Hands a command to the supervisor and waits for its answer.
    ///
    /// # Errors
    /// [`Busy`] if the queue is full or no pipeline runs any more.
    pub async fn ask(&self, command: Command) -> Result<Answer, Busy> {
        let (answer, answered) = oneshot::channel();
        self.commands.try_send(Request { command, answer }).map_err(|_| Busy("queue full or stopped"))?;
        answered.await.map_err(|_| Busy("stopped"))
    }

    fn board(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Posted>> {
        self.board.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
