//! What is noted of rows while they go through the steps, for taps that look there.

use super::super::plan::Watch;
use super::super::step::{Filtered, Found, Rows};
use super::{Tap, View};
use std::collections::HashSet;
use std::sync::Arc;

/// Rows left out by one step that are shown of a batch.
const LEFT_MAX: usize = 64;

/// Notes what the open taps want to see.
pub(in crate::stream) struct Look {
    /// Stage, and whether behind it.
    wanted: Vec<(usize, bool)>,
    bad: bool,
    before: Option<(Rows, Filtered, usize)>,
    sights: Sights,
}

/// What was seen of one batch.
#[derive(Default)]
pub(in crate::stream) struct Sights {
    seen: Vec<Seen>,
    left: Vec<Left>,
}

struct Seen {
    stage: usize,
    is_behind: bool,
    rows: Rows,
}

/// Rows that a step left out.
pub(super) struct Left {
    /// Its stage; behind the last one, the routes.
    pub(super) stage: usize,
    pub(super) reasons: Vec<(&'static str, u32)>,
    pub(super) count: u64,
    /// Some of them, if it can be told which they are.
    pub(super) rows: Option<Rows>,
}

impl Look {
    pub(super) fn for_all(taps: &[Arc<Tap>]) -> Look {
        let mut wanted = Vec::new();
        for tap in taps {
            if let View::Stage { stage, is_behind, .. } = &tap.view
                && !wanted.contains(&(*stage, *is_behind))
            {
                wanted.push((*stage, *is_behind));
            }
        }
        Look { wanted, bad: taps.iter().any(|tap| tap.bad), before: None, sights: Sights::default() }
    }

    pub(in crate::stream) fn into_sights(self) -> Sights {
        self.sights
    }

    fn note(&mut self, stage: usize, is_behind: bool, rows: &Rows) {
        if self.wanted.contains(&(stage, is_behind)) {
            self.sights.seen.push(Seen { stage, is_behind, rows: rows.clone() });
        }
    }

    /// Notes what came and is not in what left.
    fn note_left(&mut self, stage: usize, went: &HashSet<u32>, found: &Found) {
        let Some((before, filtered, faults)) = self.before.take() else { return };
        let reasons: Vec<(&'static str, u32)> = found.filtered.since(&filtered).reasons().collect();
        let count: u64 = reasons.iter().map(|(_, count)| u64::from(*count)).sum();
        if count == 0 {
            return;
        }
        let bad: HashSet<u32> = found.faults[faults.min(found.faults.len())..].iter().map(|(at, _)| *at).collect();
        let is_left = |row: &u32| {
            let source = before.sources[*row as usize];
            !went.contains(&source) && !bad.contains(&source)
        };
        let mut left: Vec<u32> = (0..before.len() as u32).filter(is_left).collect();
        // Rows that a step keeps for later are not there either, and some of a record's rows may go where others stay: then nobody can tell.
        let is_certain = left.len() as u64 == count;
        left.truncate(LEFT_MAX);
        let rows = if is_certain { before.take(left).ok() } else { None };
        self.sights.left.push(Left { stage, reasons, count, rows });
    }
}

impl Watch for Look {
    fn before(&mut self, stage: usize, rows: &Rows, found: &Found) {
        self.note(stage, false, rows);
        if self.bad {
            self.before = Some((rows.clone(), found.filtered, found.faults.len()));
        }
    }

    fn after(&mut self, stage: usize, rows: &Rows, found: &Found) {
        self.note(stage, true, rows);
        if self.bad {
            let went = rows.sources.iter().copied().collect();
            self.note_left(stage, &went, found);
        }
    }

    fn routed(&mut self, routes: &[Rows], found: &Found) {
        if self.bad {
            let went = routes.iter().flat_map(|rows| rows.sources.iter().copied()).collect();
            self.note_left(usize::MAX, &went, found);
        }
    }
}

impl Sights {
    pub(super) fn at(&self, stage: usize, is_behind: bool) -> Option<&Rows> {
        self.seen.iter().find(|seen| (seen.stage, seen.is_behind) == (stage, is_behind)).map(|seen| &seen.rows)
    }

    pub(super) fn left(&self) -> &[Left] {
        &self.left
    }

    pub(in crate::stream) fn append(&mut self, mut other: Sights) {
        self.seen.append(&mut other.seen);
        self.left.append(&mut other.left);
    }

    /// Rows are of the records at these places.
    pub(in crate::stream) fn place(&mut self, places: &[u32]) {
        let rows = self.seen.iter_mut().map(|seen| &mut seen.rows);
        for rows in rows.chain(self.left.iter_mut().filter_map(|left| left.rows.as_mut())) {
            rows.sources.iter_mut().for_each(|source| *source = places[*source as usize]);
        }
    }
}
