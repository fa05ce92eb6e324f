//! `inrush pipeline reset`: a pipeline is moved to other offsets. The group of its source, if it has one, goes first, then its checkpoint.

use super::checkpoint::Checkpoint;
use super::errands::Step;
use super::life::Life;
use super::load::Job;
use super::supervisor::{GONE, Supervisor, is_gone};
use super::{runner, source};
use crate::control::ResetTo;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use uuid::Uuid;

/// Where a reset moves a pipeline.
struct Move {
    /// `None` = all.
    partition: Option<i32>,
    topic: Uuid,
    positions: BTreeMap<i32, i64>,
}

impl Supervisor {
    /// Moves a pipeline: its next files belong to a new generation, what it wrote stays.
    pub(super) fn reset(&mut self, job: Job, partition: Option<i32>, to: ResetTo) -> Step {
        if partition.is_some() && job.plan.is_stateful() {
            return Step::Told(Err("what its steps remember is of all partitions: leave --partition out, and move all of them to start, end or a time".to_owned()));
        }
        let (options, spec) = (self.options.clone(), job.spec.clone());
        let work = move || source::places(&options, &spec, partition, to);
        Step::away("its source", work, move |own, places| match places {
            Ok((topic, positions)) => own.move_to(job, Move { partition, topic, positions }),
            Err(reason) => Step::Told(Err(reason)),
        })
    }

    /// Halts it, moves the group of its source, if it has one, and then its checkpoint.
    fn move_to(&mut self, job: Job, to: Move) -> Step {
        // It may have been changed meanwhile.
        let job = self.job(&job.spec.name).unwrap_or(job);
        if is_gone(&job.spec.file) {
            return Step::Told(Err(format!("it was not moved: {GONE}")));
        }
        let name = job.spec.name.clone();
        self.halt(&name, move |own| {
            if job.spec.elsewhere.is_none() {
                return own.moved(job, &to).into();
            }
            // Before the group is moved for good: what forbids to move the checkpoint forbids both.
            if let Err(reason) = own.may_move(&job) {
                return own.not_moved(job, reason).into();
            }
            own.halting.insert(job.spec.name.clone(), job.clone());
            let (spec, places) = (job.spec.clone(), to.positions.clone());
            let group = move || source::move_group(&spec, &places);
            Step::away("the group of its source", group, move |own, grouped: Result<(), String>| {
                own.halting.remove(&job.spec.name);
                if let Err(reason) = grouped {
                    return own.not_moved(job, reason).into();
                }
                let moved = own.moved(job, &to);
                moved.map_err(|reason| format!("{reason}; the group of its source was moved: reset it again")).into()
            })
        })
    }

    /// What a move of its checkpoint begins with: the seat, so that nothing overwrites what is saved then, and what it says now.
    fn may_move(&mut self, job: &Job) -> Result<(Arc<Life>, Checkpoint), String> {
        let seat = self.seats.entry(job.spec.name.clone()).or_default();
        let life = Life::begin(seat).ok_or("its last run is still writing its checkpoint; try again")?;
        let path = runner::checkpoint_path(&self.options, &job.spec.name);
        let known = match Checkpoint::load(&path) {
            // A damaged one is what a reset is for.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            known => known.map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        };
        Ok((life, known.unwrap_or_else(|| Checkpoint::new(&job.spec.text))))
    }

    /// Moves the checkpoint as it is now, and starts the pipeline there.
    fn moved(&mut self, job: Job, to: &Move) -> Result<String, String> {
        let (life, mut checkpoint) = match self.may_move(&job) {
            Ok(found) => found,
            Err(reason) => return self.not_moved(job, reason),
        };
        match to.partition {
            None => checkpoint.renew(to.positions.clone()),
            Some(_) => checkpoint.renew_some(&to.positions),
        }
        checkpoint.topic = Some(to.topic);
        checkpoint.was_reset = true;
        if let Err(error) = life.save(&checkpoint, &runner::checkpoint_path(&self.options, &job.spec.name)) {
            return self.not_moved(job, error.to_string());
        }
        let told = format!("moved to {:?}", checkpoint.positions);
        match self.start(job, false) {
            Ok(()) => Ok(told),
            Err(reason) => Err(format!("{told}, and {reason}")),
        }
    }

    /// It goes on where it was.
    fn not_moved(&mut self, job: Job, reason: String) -> Result<String, String> {
        let started = self.start(job, false);
        Err(format!("{reason}; it was not moved")
            + &started.err().map_or(String::new(), |gone| format!(", and {gone}")))
    }
}
