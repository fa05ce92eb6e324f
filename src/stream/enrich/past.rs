//! What rows were looked up in before a file changed: an output that is behind has its rows made by the files that the others had theirs
//! made by, or a record could go to two of them, or to none. The checkpoint names these files, and copies of them stand beside it, until no
//! output needs them.

use super::keep::{Kept, Loaded, held};
use crate::stream::checkpoint::Checkpoint;
use crate::stream::output::kind_of;
use crate::stream::runner::{Fail, Open, Runner};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tracing::warn;

/// So many files of before are kept for an output that is behind.
const PASTS_MAX: usize = 32;

/// Records of the source that were looked up in other files than those of now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::stream) struct Past {
    /// By source partition, what comes behind them. `None` = as far as outputs prove to be: a start found other files than the last run.
    until: Option<BTreeMap<i32, i64>>,
    tables: Vec<Kept>,
}

impl Past {
    fn until(&self, partition: i32) -> Option<i64> {
        self.until.as_ref()?.get(&partition).copied()
    }

    pub(super) fn tables(&self) -> &[Kept] {
        &self.tables
    }

    /// As it is where these partitions are read anew; `None` if nothing is left.
    pub(in crate::stream) fn without(mut self, moved: &BTreeMap<i32, i64>) -> Option<Past> {
        if let Some(until) = &mut self.until {
            until.retain(|id, _| !moved.contains_key(id));
        }
        self.until.as_ref().is_none_or(|until| !until.is_empty()).then_some(self)
    }
}

/// Files of before that are read, one a table; `None` = the one of now will do.
#[derive(Default)]
pub(in crate::stream) struct Then {
    of: Option<Past>,
    held: Vec<Option<Loaded>>,
}

impl Runner {
    /// Which of the pasts a record belongs to, and what comes behind the records that do.
    pub(in crate::stream) fn past_of(&self, partition: i32, offset: i64) -> Option<(usize, i64)> {
        if self.job.plan.is_stateful() {
            // All outputs stand together.
            return None;
        }
        let ends = self.checkpoint.past.iter().map(|past| past.until(partition));
        ends.enumerate().find_map(|(at, end)| end.filter(|end| offset < *end).map(|end| (at, end)))
    }

    /// A start found other files than the last run had.
    pub(in crate::stream) fn begin_past(&mut self) {
        self.checkpoint.past.push(Past { until: None, tables: self.checkpoint.tables.clone() });
    }

    /// Once the outputs are open: what they hold behind the last cut was looked up in the files of before. Of one elsewhere that is down
    /// nobody knows how much that is.
    pub(in crate::stream) fn settle_past(&mut self, open: &Open) -> Result<(), Fail> {
        if self.checkpoint.past.iter().all(|past| past.until.is_some()) {
            return Ok(());
        }
        let is_known = open.outlets.iter().all(|outlet| outlet.is_up() || kind_of(&outlet.name) != "kafka");
        let until = if is_known { open.reach(&self.positions) } else { open.tails() };
        let mut next = self.checkpoint.clone();
        let open_ended = next.past.iter_mut().filter(|past| past.until.is_none());
        open_ended.for_each(|past| past.until = Some(until.clone()));
        self.store(next)
    }

    /// Before other files are in use: those of now are kept for outputs that are behind.
    pub(super) fn keep_past(&mut self, next: &mut Checkpoint) {
        // What "the one of now will do" was said of is not the one of now any more.
        self.then = Then::default();
        let names = self.job.spec.outputs();
        let stands = |name: &String| next.outputs.get(name).is_some_and(|output| output.positions == self.positions);
        if self.job.plan.is_stateful() || names.iter().all(stands) {
            return;
        }
        next.past.push(Past { until: Some(self.positions.clone()), tables: self.checkpoint.tables.clone() });
        if next.past.len() > PASTS_MAX {
            next.past.remove(0);
            let told = format!(
                "an output is behind {PASTS_MAX} changes of its tables: what it lacks from before them is looked up in a later one, and may be in another output too, or in none"
            );
            warn!(pipeline = self.job.spec.name, "{told}");
            self.status.warn(told);
        }
    }

    /// Lets go what no output needs any more; says whether there was any.
    pub(in crate::stream) fn forget_past(&mut self, next: &mut Checkpoint, open: &Open) -> bool {
        if next.past.is_empty() {
            return false;
        }
        let (committed, before) = (next.committed(), next.past.len());
        let partitions = open.topic.partitions();
        let is_needed = |past: &Past| {
            let mut ids = partitions.iter().map(|partition| partition.id().0);
            ids.any(|id| past.until(id).is_some_and(|end| committed.get(&id).is_none_or(|next| *next < end)))
        };
        next.past.retain(is_needed);
        if next.past.is_empty() {
            self.then = Then::default();
        }
        next.past.len() < before
    }

    /// Does something while rows are looked up in the files of a past.
    pub(in crate::stream) fn looking_back<T>(&mut self, at: usize, act: impl FnOnce(&mut Runner) -> T) -> T {
        if self.then.of.as_ref() != self.checkpoint.past.get(at) {
            self.then = self.read_past(at);
        }
        self.exchange();
        let done = act(self);
        self.exchange();
        done
    }

    /// Files of before in the place of those of now, or the other way round.
    fn exchange(&mut self) {
        let plan = self.job.plan.clone();
        for (table, held) in plan.origins().zip(&mut self.then.held) {
            *held = held.take().map(|held| table.exchange(held));
        }
    }

    fn read_past(&mut self, at: usize) -> Then {
        let plan = self.job.plan.clone();
        let Some(past) = self.checkpoint.past.get(at).cloned() else { return Then::default() };
        let mut all = Vec::new();
        for (known, table) in past.tables.iter().zip(plan.origins()) {
            self.life.beat();
            // A topic has no copy, and is followed as it is.
            let is_other = known.is_of(table) && !known.says_same(table);
            let read = is_other.then(|| held(table, &self.folder(), known)).transpose();
            all.push(read.unwrap_or_else(|reason| {
                let told = format!(
                    "{}: what an output that is behind lacks was looked up in a file that is gone ({reason}), and is looked up in the one of now",
                    table.name()
                );
                warn!(pipeline = self.job.spec.name, "{told}");
                self.status.warn(told);
                None
            }));
        }
        Then { of: Some(past), held: all }
    }
}
