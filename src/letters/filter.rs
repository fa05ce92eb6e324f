//! Which letters are meant: by reason, pipeline, output, step, column, time, offset, partition. What is not said holds of all.

use super::Letter;
use serde::{Deserialize, Serialize};

/// As the commands send it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    pub reason: Option<String>,
    pub pipeline: Option<String>,
    /// An output that lacks it, such as `topic people`.
    pub output: Option<String>,
    pub step: Option<String>,
    pub column: Option<String>,
    /// Of the record's own time, in ms since 1970.
    pub since: Option<i64>,
    /// Its end, left out.
    pub until: Option<i64>,
    /// Offsets in the dead letter topic.
    pub from: Option<i64>,
    /// Their end, left out.
    pub to: Option<i64>,
    pub partition: Option<i32>,
}

impl Filter {
    /// Whether it takes a letter; partition and offsets are those of the scan.
    pub fn takes(&self, letter: &Letter<'_>) -> bool {
        let is =
            |wanted: &Option<String>, name: &dyn Fn() -> String| wanted.as_ref().is_none_or(|wanted| *wanted == name());
        let time = letter.record.timestamp;
        self.since.is_none_or(|since| time >= since)
            && self.until.is_none_or(|until| time < until)
            && is(&self.reason, &|| letter.reason().into_owned())
            && is(&self.pipeline, &|| letter.pipeline().unwrap_or_default().into_owned())
            && is(&self.step, &|| letter.step().into_owned())
            && is(&self.column, &|| letter.column().unwrap_or_default().into_owned())
            && self.output.as_ref().is_none_or(|output| letter.is_of_output(output))
    }

    pub(super) fn is_of(&self, partition: i32) -> bool {
        self.partition.is_none_or(|own| own == partition)
    }

    pub(super) fn begin(&self) -> i64 {
        self.from.unwrap_or(0)
    }

    pub(super) fn end(&self) -> i64 {
        self.to.unwrap_or(i64::MAX)
    }

    pub(super) fn is_between(&self, offset: i64) -> bool {
        (self.begin()..self.end()).contains(&offset)
    }
}
