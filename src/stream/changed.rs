//! A pipeline file that has changed: what outputs hold behind the last cut was made with the text of before, which the checkpoint keeps.
//! Everything up to there is made once more with it and cut, so that no record is in one output by what was and in another by what is.

use super::enrich::Kept;
use super::load::{self, Job};
use super::runner::{Fail, Open, Runner};
use super::source::Source;
use super::spec::{Step, TableFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{error, warn};

/// An output that is down is waited for so long; then the new text begins without it.
#[cfg(not(test))]
const PATIENCE: Duration = Duration::from_secs(60);
#[cfg(test)]
const PATIENCE: Duration = Duration::from_secs(6);
const PAUSE: Duration = Duration::from_secs(1);

impl Runner {
    /// If the text has changed since the last cut, or a file that rows are looked up in.
    pub(super) fn replay_text(&mut self) {
        let is_same = self.checkpoint.text == self.job.spec.text;
        if is_same && !self.have_tables_changed() {
            return;
        }
        if is_same && !self.job.plan.is_stateful() {
            // Outputs go their own ways, each with the tables of its place.
            return self.begin_past();
        }
        let old = match self.text_of_before() {
            Ok(old) => old,
            Err(reason) => {
                self.doubt = Some(format!(
                    "the file of before cannot be run any more ({reason}): what it wrote behind the last cut is made by the file of now too, and may be there twice, or in an output where it would not be now; leave in place what a file names until its successor runs"
                ));
                return;
            }
        };
        let new = std::mem::replace(&mut self.job, old);
        self.bring_back_tables();
        let began = Instant::now();
        while !self.life.is_stopping() {
            let replayed = match self.source() {
                // Another topic of that name, or none: there is nothing left to replay.
                Ok(None) => break,
                Ok(Some(topic)) if self.checkpoint.topic != Some(topic.id) => break,
                Ok(Some(topic)) => self.replay_to_outputs(topic),
                Err(fail) => Err(fail),
            };
            let reason = match replayed {
                Ok(()) => break,
                Err(fail) => {
                    let is_over = matches!(fail, Fail::Broken(_)) || began.elapsed() > PATIENCE;
                    let reason = fail.reason();
                    self.rewind();
                    if is_over {
                        self.doubt = Some(format!(
                            "the file has changed, and what it wrote before could not be finished ({reason}): rows behind the last cut are made by the file of now, and may be there twice, or in an output where they would not be now"
                        ));
                        break;
                    }
                    reason
                }
            };
            let left = PATIENCE.saturating_sub(began.elapsed()).as_secs();
            warn!(pipeline = self.job.spec.name, %reason, left_s = left, "what was written with the file of before is not finished");
            self.rest(
                PAUSE,
                &format!("what was written with the file of before is finished first, {left} s more: {reason}"),
            );
        }
        self.job = new;
    }

    /// What the last run ran; tables whose files are gone are read from their copies.
    fn text_of_before(&self) -> Result<Job, String> {
        let file = &self.job.spec.file;
        let from_copy = |step: &mut Step| {
            if let Step::Enrich(enrich) = step {
                enrich.copy = self.copy_of(&enrich.from.within(file));
            }
        };
        load::text_with(file, &self.checkpoint.text, from_copy)
            .map_err(|mistakes| mistakes.first().map(ToString::to_string).unwrap_or_default())
    }

    /// The copy of a table's file that is gone.
    fn copy_of(&self, from: &TableFrom) -> Option<PathBuf> {
        let (TableFrom::Csv { file, .. } | TableFrom::Parquet(file)) = from else { return None };
        if file.exists() {
            return None;
        }
        let of_name = |known: &Kept| known.copy_of(&from.to_string(), &self.folder());
        self.checkpoint.tables.iter().find_map(of_name)
    }

    fn replay_to_outputs(&mut self, topic: Arc<Source>) -> Result<(), Fail> {
        let mut open = self.open(topic)?;
        let reached = open.reach(&self.positions);
        open.until = Some(self.until_windows(&mut open, reached));
        if self.is_replayed(&open) {
            return Ok(());
        }
        self.turns(&mut open)
    }

    /// Whether outputs hold what a doubt is about, once they are open; then it is told.
    pub(super) fn settle_doubt(&mut self, open: &Open) {
        let Some(doubt) = self.doubt.take() else { return };
        let furthest = open.furthest();
        let is_behind = |positions: &std::collections::BTreeMap<i32, i64>| {
            furthest.iter().chain(&self.positions).any(|(id, end)| positions.get(id).is_none_or(|next| next < end))
        };
        if open.outlets.iter().any(|outlet| !outlet.is_up() || is_behind(&outlet.positions)) {
            error!(pipeline = self.job.spec.name, "{doubt}");
            self.status.warn(doubt);
        }
    }
}
