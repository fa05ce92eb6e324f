//! What somebody asks to see of a running pipeline: rows as they pass, as lines of JSON on a bounded channel.
//!
//! | line | what |
//! |---|---|
//! | `{"partition","offset","row":{…}}` | a row; with `"output"` if it is one that goes out |
//! | `{"partition","offset","filtered":REASON,"step","row":{…}}` | a row that a step left out, if bad ones are asked for |
//! | `{"filtered":REASON,"step","count"}` | so many rows were left out, which are not shown one by one |
//! | `{"partition","offset","dead":REASON,"step","column","output","message","value"}` | a dead letter, if bad ones are asked for |
//! | `{"not_shown":N}` | so many since the last such line were too many for the rate, or came while the reader was slow |
//! | `{"end":WHY}` | the last line |
//! | (empty) | nothing came for a while |

use bytes::Bytes;
use tokio::sync::mpsc;

/// Pieces of lines that may wait for a slow reader; then rows pass by unseen, and are counted.
pub const PIECES_MAX: usize = 16;
/// Rows a second that are shown, unless another rate is asked for.
pub const RATE: u32 = 1_000;
pub const RATE_MAX: u32 = 100_000;

/// What to show, and whom.
#[derive(Debug)]
pub struct Tap {
    pub after: After,
    /// Only rows for this output, by its name: `topic people`, or `people`.
    pub output: Option<String>,
    /// SQL: only rows of which it is true.
    pub filter: Option<String>,
    /// Rows a second.
    pub rate: u32,
    /// Ends after so many rows.
    pub limit: Option<u64>,
    /// Also what is filtered, and dead letters.
    pub bad: bool,
    pub lines: mpsc::Sender<Bytes>,
}

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// Records as columns, before the first step.
    Columns,
    /// A step by its number from 1, or its kind.
    Step(String),
    /// Behind everything: rows by the output that takes them.
    Routes,
}

impl After {
    /// As people write it: `columns`, `routes`, or a step.
    pub fn of(text: Option<&str>) -> After {
        match text {
            None | Some("routes") => After::Routes,
            Some("columns") => After::Columns,
            Some(step) => After::Step(step.to_owned()),
        }
    }
}
