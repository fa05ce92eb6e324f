//! Windows of a running pipeline: they close when all partitions of the topic have passed them, and their rows go out as if they came of
//! one more partition, whose offsets are the moments at which windows close. Where a partition says nothing a mark moves its time.

use super::hooks::Step;
use super::plan::{Plan, Watch};
use super::runner::{Fail, Open, Runner};
use super::sink::journal::Last;
use super::source::Stretch;
use super::state::{Remembered, States, closed};
use super::step::Pane;
use super::tap::{Look, Passed};
use super::writing::letters;
use crate::control::WindowWait;
use crate::record::{PartitionId, TimestampType};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tracing::error;

/// What rows of windows say where others say their partition. No position is kept of it: what is remembered at a cut says which windows
/// come next.
pub(super) const WINDOWS: i32 = -1;

/// A partition whose time stands still for so long while windows wait for it is named; so many at a time.
const WAIT_TOLD: Duration = Duration::from_secs(1);
const WAITS_TOLD_MAX: usize = 16;

/// What windows wait for.
pub(super) struct Waits {
    began: Instant,
    /// When marks were last thought of.
    marked: Instant,
    /// By partition when rows last moved its window time.
    moved: BTreeMap<i32, Instant>,
    /// By partition rows that its windows took and that did not move it.
    taken: BTreeMap<i32, Run>,
    /// By partition when it was last read to its end.
    caught_up: BTreeMap<i32, Instant>,
    /// Outputs hold rows of windows up to this moment (ms) already.
    held: i64,
    /// By partition where the log ended when all ends were first known.
    ends: Option<BTreeMap<i32, i64>>,
    /// Whether the log still makes what outputs hold is known.
    is_judged: bool,
    /// Where a replay has read enough, if windows are closed up to there too.
    enough: Option<BTreeMap<i32, i64>>,
}

/// Rows without a long pause between them.
struct Run {
    first: Instant,
    last: Instant,
}

impl Run {
    fn goes_on(&mut self, now: Instant, quiet_after: Duration) {
        if now - self.last >= quiet_after {
            self.first = now;
        }
        self.last = now;
    }

    /// Whether windows wait for what else comes: as long as rows come, and no longer than rows may be late.
    fn holds(&self, now: Instant, quiet_after: Duration, late: Duration) -> bool {
        now - self.last < quiet_after && now - self.first < quiet_after + late
    }
}

impl Waits {
    pub(super) fn new() -> Waits {
        Waits {
            began: Instant::now(),
            marked: Instant::now(),
            moved: BTreeMap::new(),
            taken: BTreeMap::new(),
            caught_up: BTreeMap::new(),
            held: i64::MIN,
            ends: None,
            is_judged: false,
            enough: None,
        }
    }

    pub(super) fn since_marks(&self) -> Duration {
        self.marked.elapsed()
    }

    pub(super) fn moved(&mut self, id: i32) {
        self.moved.insert(id, Instant::now());
        self.taken.remove(&id);
    }

    /// Windows of a partition took rows that did not move its time.
    pub(super) fn taken(&mut self, id: i32, quiet_after: Duration) {
        let now = Instant::now();
        self.taken.entry(id).or_insert(Run { first: now, last: now }).goes_on(now, quiet_after);
    }

    pub(super) fn caught_up(&mut self, id: i32) {
        self.caught_up.insert(id, Instant::now());
    }

    /// Where a replay may end before it has read everything.
    pub(super) fn enough(&self, states: &States) -> Option<&BTreeMap<i32, i64>> {
        self.enough.as_ref().filter(|_| states.closed() >= self.held)
    }
}

impl Runner {
    /// Looks which windows the outputs hold behind the last cut. The first time, says durably which partitions windows wait for, before any
    /// closes.
    pub(super) fn begin_windows(&mut self, open: &mut Open) -> Result<(), Fail> {
        let plan = self.job.plan.clone();
        if plan.window().is_none() {
            return Ok(());
        }
        open.waits.held = open.furthest().get(&WINDOWS).map_or(i64::MIN, |next| next - 1);
        if open.states.members() > 0 {
            return Ok(());
        }
        open.states.admit(&plan, open.partitions);
        self.cut_now(open)
    }

    /// Partitions that are new take part, once everything is made again that outputs hold: a window that is out takes no more rows. The cut
    /// says so before another window closes.
    pub(super) fn admit(&mut self, open: &mut Open, is_idle: bool) -> Result<(), Fail> {
        self.look_for_lost(open);
        let plan = self.job.plan.clone();
        if plan.window().is_none() || open.states.members() >= open.partitions {
            return Ok(());
        }
        let is_waiting = (0..open.states.members()).any(|id| self.is_held(id) || !self.windows_take(open, id));
        // What is not there again when all is read was made of records that are gone.
        if open.states.closed() < open.waits.held && (!is_idle || is_waiting) {
            return Ok(());
        }
        // No position says which rows of windows are still on their way.
        self.settle_all(open, 0..open.outlets.len())?;
        open.states.admit(&plan, open.partitions);
        self.cut_now(open)
    }

    /// Says so if outputs hold windows that the records do not make any more: they left the log, its end most likely, which only a topic that
    /// answers before it syncs can lose.
    fn look_for_lost(&mut self, open: &mut Open) {
        let (closed, held) = (open.states.closed(), open.waits.held);
        if open.waits.is_judged || closed >= held {
            return;
        }
        let partitions = open.topic.partitions();
        let known = partitions.iter().filter(|partition| partition.id().0 < open.states.members());
        if open.waits.ends.is_none() && known.clone().all(Stretch::is_fresh) {
            open.waits.ends = Some(known.map(|partition| (partition.id().0, partition.tail().0)).collect());
        }
        let is_read = |(id, end): (&i32, &i64)| self.positions.get(id).is_some_and(|next| next >= end);
        if !open.waits.ends.as_ref().is_some_and(|ends| ends.iter().all(is_read)) {
            return;
        }
        open.waits.is_judged = true;
        let (topic, moment) = (&open.topic.name, at_moment(held));
        error!(pipeline = self.job.spec.name, %topic, closed, held,
            "outputs hold windows of records that left the end of the log");
        self.status.warn(format!(
            "outputs hold windows that closed up to {moment}, of records that {topic} has no more (inrush.durability = os loses its end in a power cut): in topics they stay as they are, files may lack them or count other rows"
        ));
    }

    /// Whether records of a partition can be read: windows know it, and those of it that wait for other partitions leave room.
    pub(super) fn windows_take(&self, open: &Open, id: i32) -> bool {
        let Some(window) = self.job.plan.window() else { return true };
        let has_room = || open.states.pane(id).is_none_or(|pane| pane.waiting() <= window.size_max);
        // A replay ends, and nothing moves time in it but records.
        id < open.states.members() && (open.until.is_some() || has_room())
    }

    /// Up to where a replay reads, at most: windows that outputs hold close by records behind those that they hold.
    pub(super) fn until_windows(&self, open: &mut Open, furthest: BTreeMap<i32, i64>) -> BTreeMap<i32, i64> {
        if self.job.plan.window().is_none() {
            return furthest;
        }
        let members = open.states.members();
        let furthest: BTreeMap<i32, i64> = furthest.into_iter().filter(|(id, _)| *id < members).collect();
        let partitions = open.topic.partitions();
        let tails = partitions.iter().map(|partition| (partition.id().0, partition.tail().0));
        let tails = tails.filter(|(id, _)| *id < members).collect();
        open.waits.enough = Some(furthest);
        tails
    }

    /// Lets the rows of windows go that all partitions have passed.
    pub(super) fn close_windows(&mut self, open: &mut Open) -> Result<(), Fail> {
        let plan = self.job.plan.clone();
        let Some(passed) = open.states.passed(&plan) else { return Ok(()) };
        // A partition that is new takes part in all windows that are not out yet.
        let is_whole = open.states.members() >= open.topic.partition_count();
        let moment = if is_whole { passed } else { passed.min(open.waits.held) };
        for made in open.states.close(&plan, moment).into_iter().flatten() {
            // A replay of an older text is not shown.
            let mut look = self.life.taps().look().filter(|_| open.until.is_none());
            let done = closed(&plan, made, look.as_mut().map(|look| look as &mut dyn Watch));
            self.let_out(open, &done)?;
            if let Some(sights) = look.map(Look::into_sights) {
                let Remembered { records, routes, bad, .. } = &done;
                let passed = Passed { partition: WINDOWS, records, routes, bad, passed_over: 0, sights: &sights };
                self.life.taps().show(&self.job.spec, &passed);
            }
        }
        Ok(())
    }

    /// Writes rows of windows, all of a moment in one call.
    fn let_out(&mut self, open: &mut Open, done: &Remembered<'_>) -> Result<(), Fail> {
        self.life.beat();
        let kind = TimestampType::CreateTime;
        for (at, rows) in done.routes.iter().enumerate() {
            self.write(open, at, WINDOWS, kind, &done.records, rows)?;
        }
        self.hooks.at(Step::Written);
        self.let_die(open, WINDOWS, done, Last::Whole)?;
        self.hooks.at(Step::Lettered);
        Ok(())
    }

    /// Rows that time let go and that no output gets: letters of those that are bad, and the counts of all.
    pub(super) fn let_die(&mut self, open: &mut Open, id: i32, done: &Remembered<'_>, last: Last) -> Result<(), Fail> {
        let letters = letters(&done.bad, &done.records, TimestampType::CreateTime);
        open.letters.send(id, &letters, last).map_err(|error| error.to_string())?;
        letters.iter().for_each(|letter| self.count_dead(letter.fault));
        self.counts.dead += letters.len() as u64;
        self.count_filtered(&done.filtered);
        Ok(())
    }

    /// Notes which partitions are read to their end. Whose end nobody can see now was not, and has to be read to it again.
    pub(super) fn look_for_ends(&self, open: &mut Open) {
        for partition in open.topic.partitions().iter().filter(|_| self.job.plan.window().is_some()) {
            let id = partition.id().0;
            if !partition.is_fresh() {
                open.waits.caught_up.remove(&id);
            } else if self.positions.get(&id).is_some_and(|next| *next >= partition.tail().0) {
                open.waits.caught_up(id);
            }
        }
    }

    /// Moves the window time of partitions that say nothing, as far as it lets something go, and no further than `limit` (ms).
    pub(super) fn mark_windows(&mut self, open: &mut Open, limit: i64) -> Result<(), Fail> {
        let plan = self.job.plan.clone();
        if plan.window().is_none() {
            return Ok(());
        }
        open.waits.marked = Instant::now();
        let marks = self.window_marks_due(open, &plan, limit);
        if marks.is_empty() {
            return Ok(());
        }
        // They must act again, and at the same place, if this run ends before it is cut.
        self.window_marks = marks;
        self.cut_together(open)?;
        self.settle_marks(open)
    }

    /// The partitions whose time holds windows open that others have passed, and has not moved for a while.
    pub(super) fn windows_wait_for(&self, open: &Open) -> Vec<WindowWait> {
        let Some(window) = self.job.plan.window() else { return Vec::new() };
        let waiting = open.states.panes().filter(|(_, pane)| pane.waiting() > 0);
        // Rows may be minutes ahead: what ends then waits for the clock.
        let now = self.latest_ms();
        let due = waiting.filter_map(|(_, pane)| window.last_moment(pane, window.time_of(pane).min(now))).max();
        let Some(due) = due else { return Vec::new() };
        let behind = open.states.panes().filter(|(_, pane)| window.time_of(pane) < due);
        let told = behind.filter_map(|(id, pane)| {
            let still = open.waits.moved.get(&id).unwrap_or(&open.waits.began).elapsed();
            let time = chrono::DateTime::from_timestamp_millis(window.time_of(pane));
            // A partition that nothing came of yet is as far as no date is.
            let time = time.map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true));
            (still >= WAIT_TOLD).then_some(WindowWait { partition: id, time, seconds: still.as_secs() })
        });
        told.take(WAITS_TOLD_MAX).collect()
    }

    fn window_marks_due(&self, open: &Open, plan: &Plan, limit: i64) -> BTreeMap<i32, i64> {
        let Some(window) = plan.window() else { return BTreeMap::new() };
        let late = Duration::from_millis(window.late_ms.unsigned_abs());
        let is_quiet = |id: i32| self.is_quiet(open, id, late);
        // Who is not quiet holds windows open by itself.
        let busy = open.states.panes().filter(|(id, _)| !is_quiet(*id)).map(|(_, pane)| window.time_of(pane));
        let limit = busy.min().map_or(limit, |busy| limit.min(busy));
        let due = open.states.panes().filter_map(|(_, pane)| window.last_moment(pane, limit)).max();
        let Some(due) = due else { return BTreeMap::new() };
        let is_behind = |(id, pane): &(i32, &Pane)| window.time_of(pane) < due && is_quiet(*id);
        open.states.panes().filter(is_behind).map(|(id, _)| (id, due)).collect()
    }

    /// Whether nothing has moved the window time of a partition for a while, though all of it was read, and its windows take nothing either.
    fn is_quiet(&self, open: &Open, id: i32, late: Duration) -> bool {
        let quiet_after = self.hooks.quiet_after();
        let takes = open.waits.taken.get(&id).is_some_and(|run| run.holds(Instant::now(), quiet_after, late));
        let moved = open.waits.moved.get(&id).copied().unwrap_or(open.waits.began);
        let was_at_end = open.waits.caught_up.get(&id).is_some_and(|at| at.elapsed() < quiet_after);
        let is_fresh = open.topic.partition(PartitionId(id)).is_some_and(|partition| partition.is_fresh());
        is_fresh && was_at_end && moved.elapsed() >= quiet_after && !takes && !self.is_held(id)
    }

    /// Moves window time as the marks of the checkpoint say.
    pub(super) fn settle_window_marks(&mut self, open: &mut Open) -> Result<(), Fail> {
        let plan = self.job.plan.clone();
        if let Some(window) = plan.window() {
            for (id, time) in self.checkpoint.window_marks.clone() {
                if let Some(pane) = &mut open.states.of(id, &plan).pane {
                    window.mark(pane, time);
                }
            }
        }
        self.close_windows(open)
    }
}

/// A moment as a person reads it.
fn at_moment(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms).map_or_else(|| format!("{ms} ms"), |time| time.to_rfc3339())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_come_hold_windows_open_until_all_that_may_be_late_could_have_come() {
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let (quiet, late) = (Duration::from_secs(30), Duration::from_secs(60));
        let mut run = Run { first: began, last: began };
        let holds = |run: &Run, seconds| run.holds(at(seconds), quiet, late);
        assert!(holds(&run, 29) && !holds(&run, 30));
        (1..=9).for_each(|tenth| run.goes_on(at(10 * tenth - 1), quiet));
        assert!(holds(&run, 89), "rows come all the time");
        assert!(!holds(&run, 90), "one client whose clock stands still holds nobody up for ever");
        run.goes_on(at(200), quiet);
        assert!(holds(&run, 229), "what comes behind a pause has its time anew");
    }
}
