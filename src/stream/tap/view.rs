//! Where a tap looks, found in the pipeline that runs.

use super::super::explain::{StepTold, told_steps};
use super::super::load::Job;
use super::super::plan::physical;
use super::super::spec::Sql;
use super::super::sql::{Scope, SqlPlanner};
use super::super::step::Stage;
use crate::control::{After, Tap};
use arrow::datatypes::{Field, SchemaRef};
use datafusion_expr::Expr;
use datafusion_physical_expr::PhysicalExpr;
use std::sync::Arc;

/// A place in a plan.
pub(in crate::stream) enum View {
    Stage {
        stage: usize,
        /// What leaves the stage, or else what comes to it.
        is_behind: bool,
        filter: Filter,
    },
    Routes {
        /// This route's rows alone.
        only: Option<usize>,
        filter: Filter,
    },
}

/// Which of the rows that come there are meant.
#[derive(Clone, Default)]
pub(super) struct Filter {
    /// The filter of the stage they come to: a `where` that shares it with a `select`.
    pub(super) step: Option<Arc<dyn PhysicalExpr>>,
    /// What who taps asks for.
    asked: Option<Expr>,
}

impl View {
    /// Finds what is asked for.
    ///
    /// # Errors
    /// What there is instead; what is wrong with the SQL.
    pub(in crate::stream) fn of(job: &Job, asked: &Tap) -> Result<View, String> {
        let told = || {
            let wrong =
                |mistakes: Vec<crate::config::Mistake>| mistakes.iter().map(ToString::to_string).collect::<String>();
            told_steps(&job.spec).map_err(wrong)
        };
        if asked.after != After::Routes && asked.output.is_some() {
            return Err("an output is of what goes out: leave out --after, or --output".to_owned());
        }
        match &asked.after {
            After::Columns => {
                let fields = job.plan.input().fields().iter().map(|field| field.as_ref().clone());
                let filter = Filter { step: None, asked: filter(job, fields.collect(), asked)? };
                Ok(View::Stage { stage: 0, is_behind: false, filter })
            }
            After::Step(named) => {
                let steps = told()?;
                let at = step(&steps, named)?;
                let place = job.plan.places()[at];
                let stage_filter = match &job.plan.stages()[place.stage] {
                    Stage::Transform(transform) if place.is_filter => match &transform.projections {
                        Some(_) => transform.filter.clone(),
                        None => None,
                    },
                    _ => None,
                };
                let is_behind = stage_filter.is_none();
                let is_there = |field: &Field| steps[at].leaves.iter().any(|told| told.name == *field.name());
                let fields = fields_at(job, at)?.into_iter().filter(is_there).collect();
                let filter = Filter { step: stage_filter, asked: filter(job, fields, asked)? };
                Ok(View::Stage { stage: place.stage, is_behind, filter })
            }
            After::Routes => {
                let names = job.spec.outputs();
                let is_it = |name: &String, wanted: &str| {
                    name == wanted || name.split_once(' ').is_some_and(|(_, it)| it == wanted)
                };
                let find = |wanted: &String| {
                    let found = names.iter().position(|name| is_it(name, wanted));
                    found.ok_or_else(|| format!("no output is named {wanted}; there are: {}", names.join(", ")))
                };
                let only = asked.output.as_ref().map(find).transpose()?;
                let fields = job.plan.output().fields().iter().map(|field| field.as_ref().clone());
                Ok(View::Routes { only, filter: Filter { step: None, asked: filter(job, fields.collect(), asked)? } })
            }
        }
    }

    /// By stage, the step that leaves rows out there.
    ///
    /// # Errors
    /// The file's mistakes, of which there are none.
    pub(in crate::stream) fn names(job: &Job) -> Result<Vec<String>, String> {
        let wrong =
            |mistakes: Vec<crate::config::Mistake>| mistakes.iter().map(ToString::to_string).collect::<String>();
        let steps = told_steps(&job.spec).map_err(wrong)?;
        let places = job.plan.places();
        let name = |stage: usize| {
            let at = places.iter().position(|place| place.stage == stage);
            at.map_or("columns".to_owned(), |at| format!("{} {}", steps[at].number, steps[at].kind))
        };
        Ok((0..job.plan.stages().len()).map(name).chain(["routes".to_owned()]).collect())
    }

    pub(super) fn filter(&self) -> Filter {
        match self {
            View::Stage { filter, .. } | View::Routes { filter, .. } => filter.clone(),
        }
    }
}

impl Filter {
    /// What is asked for, over rows of this schema.
    ///
    /// # Errors
    /// As DataFusion's.
    pub(super) fn asked(&self, schema: &SchemaRef) -> Result<Option<Arc<dyn PhysicalExpr>>, String> {
        let asked = self.asked.as_ref().map(|expr| physical(expr, schema)).transpose();
        asked.map_err(|error| super::super::sql::readable(&error))
    }
}

/// The step of that number or kind.
fn step(steps: &[StepTold], named: &str) -> Result<usize, String> {
    let all = || {
        let all: Vec<String> = steps.iter().map(|step| format!("{} {}", step.number, step.kind)).collect();
        if all.is_empty() { "it has no steps; columns and routes are there".to_owned() } else { all.join(", ") }
    };
    if let Ok(number) = named.parse::<usize>() {
        return match number.checked_sub(1).filter(|at| *at < steps.len()) {
            Some(at) => Ok(at),
            None => Err(format!("there is no step {number}: {}", all())),
        };
    }
    let found: Vec<usize> = (0..steps.len()).filter(|at| steps[*at].kind == named).collect();
    match found.as_slice() {
        [at] => Ok(*at),
        [] => Err(format!("no step is a {named}: {}", all())),
        several => {
            let numbers: Vec<String> = several.iter().map(|at| (at + 1).to_string()).collect();
            Err(format!("several steps are a {named}: say {}", numbers.join(" or ")))
        }
    }
}

/// Fields behind a step, with those of the record that are not read.
fn fields_at(job: &Job, at: usize) -> Result<Vec<Field>, String> {
    let told = super::super::plan::Plan::told(&job.spec);
    let (_, mut leaving) = told.map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<String>())?;
    Ok(leaving.swap_remove(at + 1).fields)
}

fn filter(job: &Job, fields: Vec<Field>, asked: &Tap) -> Result<Option<Expr>, String> {
    let Some(text) = &asked.filter else { return Ok(None) };
    let sql = Sql { field: "--where".to_owned(), text: text.clone(), line: 1, column: 1 };
    let planned = SqlPlanner::new(&job.spec.file).filter(&Scope::new(&fields), &sql);
    planned.map(Some).map_err(|wrong| wrong.iter().map(|mistake| format!("--where: {}", mistake.message)).collect())
}
