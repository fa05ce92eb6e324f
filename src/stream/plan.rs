//! A pipeline file planned once: which columns are read, the steps that rows go through, and which output takes which rows. Kept as
//! physical expressions that only evaluate.

mod checked;
mod enrich;
mod window;

use super::enrich::LookUp;
use super::fault::Fault;
use super::functions::GeoFile;
use super::kinds;
use super::rows::ROWS_MAX;
use super::secrets::Hidden;
use super::spec::{self, Column, From, Named, Rule, Spec};
use super::sql::{Missed, Scope, Selected, SqlPlanner, readable};
use super::step::{
    Course, Filtered, Found, Keyed, Keys, RowShape, Rows, Sample, Sieve, Stage, Table, Transform, Unnest, What,
    output_type, session_fields, truths,
};
use crate::config::{Mistake, nearest};
use arrow::array::{Array, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion_common::{DFSchema, Result as SqlResult};
use datafusion_expr::Expr;
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// A planned pipeline; cheap to share between threads.
#[derive(Clone)]
pub struct Plan {
    columns: Vec<Column>,
    input: SchemaRef,
    output: SchemaRef,
    stages: Vec<Stage>,
    /// By step of the file, where it ends.
    places: Vec<Place>,
    /// The first step that remembers, if any.
    head: usize,
    /// What comes there.
    middle: SchemaRef,
    key_sources: Vec<Vec<From>>,
    routes: Vec<Take>,
    /// By route, whether its rows are wanted; others take theirs away all the same.
    wanted: Vec<bool>,
    /// So many records are taken through it at a time at most.
    pieces_of: usize,
    /// Secrets of its SQL.
    hidden: Hidden,
    /// The files of MaxMind's that it asks.
    geo: Vec<Arc<GeoFile>>,
    /// What of its SQL is right and perhaps not meant.
    warnings: Vec<String>,
}

/// Where a step of the file ends among the stages: a `where` shares its stage with the `select` behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) stage: usize,
    /// With the filter of the stage, before its projections.
    pub(super) is_filter: bool,
}

/// Which rows a route takes.
#[derive(Clone)]
enum Take {
    All,
    Where(Arc<dyn PhysicalExpr>),
    Otherwise,
    /// What a window does not take, which does not come here.
    Late,
}

/// What became of the rows given.
pub(super) struct Transformed {
    /// By route.
    pub(super) routes: Vec<Rows>,
    /// Bad records by index, ascending, each once.
    pub(super) faults: Vec<(u32, Fault)>,
    pub(super) filtered: Filtered,
    /// Keys that left a step before their time, for want of room.
    pub(super) evicted: u64,
    /// Rows whose time this machine's clock alone did not believe.
    pub(super) ahead: u32,
    /// The records make more rows than may be in memory, and all else here is worth nothing: fewer at a time.
    pub(super) is_too_wide: bool,
}

/// Looks on while rows go through the stages: a tap, a measurement. `found` is what all stages together have found so far.
pub(super) trait Watch {
    /// Rows come to a stage; behind the last one, to the routes.
    fn before(&mut self, stage: usize, rows: &Rows, found: &Found);
    fn after(&mut self, stage: usize, rows: &Rows, found: &Found);
    /// Rows by route.
    fn routed(&mut self, routes: &[Rows], found: &Found);
    /// Rows go into a window; what it makes of them comes when it closes.
    fn enters(&mut self) {}
    /// They are in it.
    fn entered(&mut self, _stage: usize) {}
}

impl Plan {
    /// What came of rows. An expression that failed may say what it was given.
    fn transformed(&self, routes: Vec<Rows>, found: Found) -> Transformed {
        let Found { mut faults, filtered, evicted, ahead, is_too_wide } = found;
        faults.sort_by_key(|(index, _)| *index);
        faults.dedup_by_key(|(index, _)| *index);
        if !self.hidden.is_empty() {
            faults.iter_mut().for_each(|(_, fault)| fault.message = self.hidden.masked(&fault.message).into());
        }
        Transformed { routes, faults, filtered, evicted, ahead, is_too_wide }
    }

    /// Plans a pipeline file.
    ///
    /// # Errors
    /// All mistakes of its SQL, with file, line and column, and what comes out all the same.
    pub(super) fn of(spec: &Spec) -> Result<Plan, Wrong> {
        Plan::drafted(spec).0
    }

    /// As [`Plan::of`], with what stands before the first step and leaves each.
    ///
    /// # Errors
    /// All mistakes of its SQL.
    pub(super) fn told(spec: &Spec) -> Result<(Plan, Vec<Leaving>), Vec<Mistake>> {
        let (plan, leaving) = Plan::drafted(spec);
        plan.map(|plan| (plan, leaving)).map_err(|wrong| wrong.mistakes)
    }

    fn drafted(spec: &Spec) -> (Result<Plan, Wrong>, Vec<Leaving>) {
        let mut draft = Draft::new(spec);
        let mut leaving = vec![draft.leaving()];
        for (at, step) in spec.steps.iter().enumerate() {
            draft.opens(at);
            draft.step(step);
            draft.ends.push(draft.steps.len());
            leaving.push(draft.leaving());
        }
        draft.opens(spec.steps.len());
        draft.end();
        let rules = spec.routes.iter().map(|route| &route.rule);
        rules.chain(&spec.unread.rules).for_each(|rule| draft.route(rule));
        (draft.plan(), leaving)
    }

    /// What is read of each record: the columns that steps and routes use, and the required ones; in the order of `input`.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub fn input(&self) -> &SchemaRef {
        &self.input
    }

    /// What comes out, whatever the route. Timestamps are microseconds in UTC.
    pub fn output(&self) -> &SchemaRef {
        &self.output
    }

    /// Whether a step remembers something: then rows of one partition go through it one batch after the other.
    pub(super) fn is_stateful(&self) -> bool {
        self.head < self.stages.len()
    }

    /// Whether databases that it names are others by now than those that it holds.
    pub(super) fn has_newer_files(&self) -> bool {
        self.geo.iter().any(|file| file.has_newer())
    }

    /// What of its SQL is right and perhaps not meant.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// The last stage that remembers.
    pub(super) fn remembering(&self) -> Option<usize> {
        self.stages.iter().rposition(|stage| stage.keyed().is_some() || stage.window().is_some())
    }

    /// The steps that remember, in their order.
    pub(super) fn keyed(&self) -> impl Iterator<Item = &Keyed> {
        self.stages.iter().filter_map(Stage::keyed)
    }

    /// For each step that remembers, the places in a record that its key's columns are read from as they are.
    pub(super) fn key_sources(&self) -> &[Vec<From>] {
        &self.key_sources
    }

    /// Takes rows of the input as far as they go without state: to their routes, or up to the first step that remembers, as if that were
    /// the only route. Records that fail on the way are told, the others go through.
    pub(super) fn run(&self, rows: Rows) -> Transformed {
        self.run_watched(rows, None)
    }

    /// As [`Plan::run`], before somebody who looks on.
    pub(super) fn run_watched(&self, rows: Rows, watch: Option<&mut (dyn Watch + '_)>) -> Transformed {
        let mut found = Found::default();
        let mut watch = watch;
        let rows = self.run_stages(0..self.head, rows, &mut found, None, &mut watch);
        let routes = if self.is_stateful() { vec![rows] } else { self.route_watched(rows, &mut found, &mut watch) };
        self.transformed(routes, found)
    }

    pub(super) fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// By step of the file, where it ends.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// No rows, of the schema that [`Plan::run`] makes.
    pub(super) fn no_rows(&self) -> Rows {
        Rows { batch: RecordBatch::new_empty(self.middle.clone()), sources: Vec::new() }
    }

    fn run_stages(
        &self,
        which: Range<usize>,
        mut rows: Rows,
        found: &mut Found,
        state: Option<(&mut [Table], &mut Course<'_>)>,
        watch: &mut Option<&mut (dyn Watch + '_)>,
    ) -> Rows {
        let (tables, mut course) = state.unzip();
        let mut tables = tables.into_iter().flatten();
        for (at, stage) in which.clone().zip(&self.stages[which]) {
            watch.iter_mut().for_each(|watch| watch.before(at, &rows, found));
            rows = match stage {
                Stage::Transform(transform) => transform.run(rows, found),
                Stage::Unnest(unnest) => unnest.run(rows, found),
                Stage::Sample(sample) => sample.run(rows, found),
                Stage::Enrich(enrich) => enrich.run(rows, found),
                Stage::Keyed(keyed) => match (tables.next(), course.as_deref_mut()) {
                    (Some(table), Some(course)) => keyed.run(rows, table, course, found),
                    _ => rows,
                },
                Stage::Window(_) => rows,
            };
            watch.iter_mut().for_each(|watch| watch.after(at, &rows, found));
        }
        rows.without(&found.faults)
    }

    fn route_watched(&self, rows: Rows, found: &mut Found, watch: &mut Option<&mut (dyn Watch + '_)>) -> Vec<Rows> {
        watch.iter_mut().for_each(|watch| watch.before(self.stages.len(), &rows, found));
        let routes = self.route(rows, found);
        watch.iter_mut().for_each(|watch| watch.routed(&routes, found));
        routes
    }

    /// The same, which takes no more records at a time.
    pub(super) fn in_pieces_of(mut self, records: usize) -> Plan {
        self.pieces_of = records.min(self.pieces_of);
        self
    }

    /// The same with the rows of some routes only, in their order.
    pub(super) fn only(mut self, wanted: Vec<bool>) -> Plan {
        debug_assert_eq!(wanted.len(), self.routes.len(), "there is an answer a route");
        self.wanted = wanted;
        self
    }

    /// Rows by route.
    fn route(&self, rows: Rows, found: &mut Found) -> Vec<Rows> {
        if let [Take::All] = self.routes.as_slice() {
            return vec![rows];
        }
        let before = found.faults.len();
        let mut taken = BooleanBuffer::new_unset(rows.len());
        let mut answers: Vec<Option<BooleanBuffer>> = Vec::with_capacity(self.routes.len());
        for take in &self.routes {
            answers.push(match take {
                Take::Where(filter) => {
                    let answers = truths(filter, &rows, found);
                    let is_true = answers.nulls().map(|nulls| answers.values() & nulls.inner());
                    let is_true = is_true.unwrap_or_else(|| answers.values().clone());
                    taken = &taken | &is_true;
                    Some(is_true)
                }
                Take::All | Take::Otherwise | Take::Late => None,
            });
        }
        // A record that one route's SQL fails on goes nowhere.
        let bad: HashSet<u32> = found.faults[before..].iter().map(|(index, _)| *index).collect();
        let good = match bad.is_empty() {
            true => BooleanBuffer::new_set(rows.len()),
            false => BooleanBuffer::collect_bool(rows.len(), |row| !bad.contains(&rows.sources[row])),
        };
        let left = &good & &!&taken;
        let kept = |(take, answers): (&Take, &Option<BooleanBuffer>)| {
            let keep = match (take, answers) {
                (Take::Where(_), Some(answers)) => &good & answers,
                (Take::Otherwise, _) => left.clone(),
                (Take::Late, _) => BooleanBuffer::new_unset(rows.len()),
                _ => good.clone(),
            };
            rows.filter(&BooleanArray::from(keep)).expect("there is an answer a row")
        };
        let wanted = self.routes.iter().zip(&answers).zip(&self.wanted).filter(|(_, is_wanted)| **is_wanted);
        let routes = wanted.map(|(route, _)| kept(route)).collect();
        if self.routes.iter().all(|take| matches!(take, Take::Where(_) | Take::Late)) {
            found.filtered.add(Sieve::NoRoute, left.count_set_bits());
        }
        routes
    }
}

/// A plan in the making: typed, not yet cut down to the columns that are read.
struct Draft<'a> {
    spec: &'a Spec,
    planner: SqlPlanner<'a>,
    /// What can be read of a record.
    all: Vec<Column>,
    scope: Scope,
    /// No step has made other columns of them yet.
    is_source: bool,
    used: HashSet<String>,
    /// By name of a column that is what is read of a record, where that is.
    origins: HashMap<String, From>,
    key_sources: Vec<Vec<From>>,
    steps: Vec<Logical>,
    /// By step of the file, how many of `steps` there are behind it.
    ends: Vec<usize>,
    routes: Vec<Rule<Expr>>,
    mistakes: Vec<Mistake>,
    /// All is known that there is to know.
    is_whole: bool,
}

/// What is wrong with a file's SQL.
#[derive(Debug)]
pub(super) struct Wrong {
    /// None, where all that is wrong follows of what is wrong with the rest of the file.
    pub(super) mistakes: Vec<Mistake>,
    /// What comes out all the same, columns of a type that nobody knows as null; `None` = there may be others.
    pub(super) output: Option<SchemaRef>,
}

/// What SQL may name at a place between two steps.
pub(super) struct Leaving {
    pub(super) fields: Vec<Field>,
    /// They are still those of the record: what no later step names is not read at all.
    pub(super) is_source: bool,
}

/// A step, typed.
enum Logical {
    Filter(Expr),
    Select(Selected),
    Unnest { list: String, field: FieldRef, keep_empty: bool },
    Sample { share: u32, key: Vec<String> },
    Enrich { on: Vec<String>, table: Arc<LookUp> },
    Keyed { key: Vec<String>, time_ms: i64, size_max: usize, what: Memory },
    Window(window::Typed),
}

/// What a keyed step does, typed.
enum Memory {
    Gate(Sieve),
    Session,
    Last { until: Option<Expr> },
}

impl<'a> Draft<'a> {
    fn new(spec: &'a Spec) -> Draft<'a> {
        let mut all = spec.columns.clone();
        all.extend(kinds::of_record());
        // Of a schema it may be right, and is not what is meant.
        all.retain(|column| !spec.unread.columns.contains(&column.name));
        let vague = spec.unread.columns.iter().map(|name| Field::new(name, DataType::Null, true));
        let fields: Vec<Field> = all.iter().map(kinds::field).chain(vague).collect();
        let mut scope = Scope::new(&fields);
        scope.blur(spec.unread.columns.iter().cloned());
        if spec.unread.is_open {
            scope.open();
        }
        Draft {
            spec,
            planner: SqlPlanner::new(&spec.file),
            scope,
            origins: all.iter().map(|column| (column.name.clone(), column.from.clone())).collect(),
            key_sources: Vec::new(),
            all,
            is_source: true,
            used: HashSet::new(),
            steps: Vec::new(),
            ends: Vec::new(),
            routes: Vec::new(),
            mistakes: Vec::new(),
            is_whole: spec.unread.is_nothing(),
        }
    }

    /// What cannot be read there may have made any column.
    fn opens(&mut self, step: usize) {
        if self.spec.unread.steps.contains(&step) {
            self.scope.open();
        }
    }

    fn leaving(&self) -> Leaving {
        Leaving { fields: self.scope.fields(), is_source: self.is_source }
    }

    /// Notes that a column is read.
    fn reads(&mut self, name: &str) {
        if self.is_source {
            self.used.insert(name.to_owned());
        }
    }

    fn reads_of(&mut self, expr: &Expr) {
        let names: Vec<String> = expr.column_refs().into_iter().map(|column| column.name.clone()).collect();
        names.iter().for_each(|name| self.reads(name));
    }

    fn step(&mut self, step: &spec::Step) {
        let before = self.steps.len();
        if !self.is_behind_window(step) {
            self.take(step);
        }
        if self.steps.len() == before {
            self.is_whole = false;
            if step.makes_columns() {
                self.scope.open();
            }
        }
    }

    fn take(&mut self, step: &spec::Step) {
        match step {
            spec::Step::Where(sql) => match self.planner.filter(&self.scope, sql) {
                Ok(expr) => self.filter(expr),
                Err(mistakes) => self.mistakes.extend(mistakes),
            },
            spec::Step::Select(sql) => match self.planner.select(&self.scope, sql) {
                Ok(selected) => self.select(selected, &[]),
                Err(missed) => self.missed(missed),
            },
            spec::Step::Sql(sql) => match self.planner.query(&self.scope, sql) {
                Ok((filter, selected)) => {
                    filter.into_iter().for_each(|expr| self.filter(expr));
                    self.select(selected, &[]);
                }
                Err(missed) => self.missed(missed),
            },
            spec::Step::Unnest(unnest) => self.unnest(unnest),
            spec::Step::Sample(sample) => self.sample(sample),
            spec::Step::Enrich(step) => self.enrich(step),
            spec::Step::Keyed(keyed) => self.keyed(keyed),
            spec::Step::Window(window) => self.window(window),
        }
    }

    /// SQL that is wrong: what comes behind it is judged by what is known of its columns.
    fn missed(&mut self, missed: Missed) {
        self.is_whole = false;
        self.mistakes.extend(missed.mistakes);
        self.select(missed.rest, &missed.wrong);
        if missed.is_open {
            self.scope.open();
        }
    }

    fn keyed(&mut self, step: &spec::Keyed) {
        if let Some(unknown) = step.key.iter().find(|named| self.scope.kind(&named.name).is_none()) {
            return self.unknown(unknown);
        }
        let key: Vec<String> = step.key.iter().map(|named| named.name.clone()).collect();
        key.iter().for_each(|name| self.reads(name));
        self.key_sources.push(key.iter().filter_map(|name| self.origins.get(name).cloned()).collect());
        let what = match &step.what {
            spec::Memory::Dedupe => Memory::Gate(Sieve::Duplicate),
            spec::Memory::Debounce => Memory::Gate(Sieve::CoolDown),
            spec::Memory::Sessionize => {
                let fields = self.scope.fields();
                if let Some(taken) = session_fields().iter().find(|field| self.scope.kind(field.name()).is_some()) {
                    let message = format!(
                        "there is a column {} already, which sessionize makes: select it under another name",
                        taken.name()
                    );
                    return self.wrong(&step.at, message);
                }
                self.scope = self.scope.with(&fields.into_iter().chain(session_fields()).collect::<Vec<_>>());
                Memory::Session
            }
            spec::Memory::Last { until } => {
                match until.as_ref().map(|sql| self.planner.filter(&self.scope, sql)).transpose() {
                    Ok(until) => {
                        until.iter().for_each(|expr| self.reads_of(expr));
                        Memory::Last { until }
                    }
                    Err(mistakes) => return self.mistakes.extend(mistakes),
                }
            }
        };
        let time_ms = step.time.as_millis().min(i64::MAX as u128) as i64;
        self.steps.push(Logical::Keyed { key, time_ms, size_max: step.size_max as usize, what });
    }

    fn filter(&mut self, expr: Expr) {
        self.reads_of(&expr);
        self.steps.push(Logical::Filter(expr));
    }

    /// Takes what a `select` makes; of `wrong` nobody knows the type, nor of what is made of a column of which nobody does.
    fn select(&mut self, selected: Selected, wrong: &[String]) {
        selected.iter().for_each(|(_, expr)| self.reads_of(expr));
        let is_vague = |(name, expr): &&(String, Expr)| wrong.contains(name) || self.scope.makes_vague(expr);
        let vague: Vec<String> = selected.iter().filter(is_vague).map(|(name, _)| name.clone()).collect();
        let field = |(name, expr): &(String, Expr)| {
            use datafusion_expr::ExprSchemable;
            let kind = expr.get_type(self.scope.schema()).unwrap_or(DataType::Null);
            let kind = if vague.contains(name) { DataType::Null } else { output_type(&kind) };
            Field::new(name, kind, true)
        };
        let origin = |(name, expr): &(String, Expr)| match expr {
            Expr::Column(column) => self.origins.get(&column.name).map(|from| (name.clone(), from.clone())),
            _ => None,
        };
        self.origins = selected.iter().filter_map(origin).collect();
        self.scope = Scope::new(&selected.iter().map(field).collect::<Vec<_>>());
        self.scope.blur(vague);
        self.is_source = false;
        self.steps.push(Logical::Select(selected));
    }

    fn unnest(&mut self, unnest: &spec::Unnest) {
        if !self.key_sources.is_empty() {
            let message = "unnest stands before the steps that remember: they see its rows then";
            return self.wrong(&unnest.list, message.to_owned());
        }
        let list = &unnest.list.name;
        let element = match self.scope.kind(list) {
            Some(_) if self.scope.is_vague(list) => return,
            Some(DataType::List(element)) => element.clone(),
            Some(other) => {
                let message =
                    format!("{list} is {other}; a row for each element needs a list, a column of type [\"TYPE\"]");
                return self.wrong(&unnest.list, message);
            }
            None => return self.unknown(&unnest.list),
        };
        let name = unnest.name.as_ref().unwrap_or(list);
        if name != list && self.scope.kind(name).is_some() {
            return self.wrong(
                &unnest.list,
                format!("there is a column {name} already; call the element otherwise: as = \"…\""),
            );
        }
        self.reads(list);
        self.origins.remove(list);
        let field = Arc::new(Field::new(name, element.data_type().clone(), true));
        let fields = self.scope.schema().fields().iter();
        let fields = fields.map(|old| if old.name() == list { field.as_ref().clone() } else { old.as_ref().clone() });
        self.scope = self.scope.with(&fields.collect::<Vec<_>>());
        self.steps.push(Logical::Unnest { list: list.clone(), field, keep_empty: unnest.keep_empty });
    }

    fn sample(&mut self, sample: &spec::Sample) {
        if let Some(unknown) = sample.key.iter().find(|named| self.scope.kind(&named.name).is_none()) {
            return self.unknown(unknown);
        }
        let mut key: Vec<String> = sample.key.iter().map(|named| named.name.clone()).collect();
        if key.is_empty() && !self.is_source {
            let message =
                "behind a select a sample needs a key, such as sample = { share = \"10%\", key = \"user_id\" }";
            return self.wrong(&sample.at, message.to_owned());
        }
        if key.is_empty() {
            // Each record for itself, wherever it is read again.
            key = vec!["_partition".to_owned(), "_offset".to_owned()];
        }
        key.iter().for_each(|name| self.reads(name));
        self.steps.push(Logical::Sample { share: sample.share, key });
    }

    /// After the last step: what is not selected is every column.
    fn end(&mut self) {
        if self.is_source {
            let shown = self.scope.shown().iter().map(|name| (name.clone(), Scope::column(name)));
            let (shown, is_open): (Selected, bool) = (shown.collect(), self.scope.is_open());
            self.select(shown, &[]);
            if is_open {
                self.scope.open();
            }
        }
    }

    fn route(&mut self, rule: &Rule) {
        let rule = match rule {
            Rule::Where(sql) => match self.planner.filter(&self.scope, sql) {
                Ok(expr) => Rule::Where(expr),
                Err(mistakes) => {
                    self.is_whole = false;
                    return self.mistakes.extend(mistakes);
                }
            },
            Rule::Always => Rule::Always,
            Rule::Otherwise => Rule::Otherwise,
            Rule::Late => Rule::Late,
        };
        self.routes.push(rule);
    }

    fn wrong(&mut self, at: &Named, message: String) {
        let (line, column, field) = (at.line, at.column, Some(at.field.clone()));
        self.mistakes.push(Mistake { file: self.spec.file.clone(), line, column, field, message });
    }

    /// A name that is none, as far as anybody can know.
    fn unknown(&mut self, at: &Named) {
        if self.scope.is_open() {
            return;
        }
        let message = {
            let known = self.scope.names();
            let meant = nearest(&at.name, &known).map_or(String::new(), |meant| format!("did you mean {meant}? "));
            format!("\"{}\" is no column here; {meant}known: {}", at.name, known.join(", "))
        };
        self.wrong(at, message);
    }

    /// Keeps the columns that are read, and makes the physical expressions over them.
    fn plan(self) -> Result<Plan, Wrong> {
        let whole = |message: String| {
            let mistake = Mistake { file: self.spec.file.clone(), line: 0, column: 0, field: None, message };
            Wrong { mistakes: vec![mistake], output: None }
        };
        if !self.is_whole || !self.mistakes.is_empty() {
            let output = (!self.scope.is_open()).then(|| Arc::new(self.scope.schema().as_arrow().clone()));
            return Err(Wrong { mistakes: self.mistakes, output });
        }
        if self.scope.names().is_empty() {
            return Err(whole("nothing is selected: declare [columns], or write select".to_owned()));
        }
        self.physical().map_err(|error| whole(readable(&error)))
    }

    fn physical(&self) -> SqlResult<Plan> {
        let is_read = |column: &&Column| column.required || self.used.contains(&column.name);
        let columns: Vec<Column> = self.all.iter().filter(is_read).cloned().collect();
        let input = Arc::new(Schema::new(columns.iter().map(kinds::field).collect::<Vec<_>>()));
        let mut schema = input.clone();
        let mut stages = Vec::with_capacity(self.steps.len());
        let mut head = None;
        let mut filter = None;
        let mut reached: Vec<Place> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            if !matches!(step, Logical::Filter(_) | Logical::Select(_))
                && let Some(filter) = filter.take()
            {
                stages.push(Stage::Transform(Transform {
                    filter: Some(filter),
                    projections: None,
                    output: schema.clone(),
                }));
            }
            match step {
                Logical::Filter(expr) => {
                    let next = physical(expr, &schema)?;
                    if let Some(filter) = filter.replace(next) {
                        let output = schema.clone();
                        stages.push(Stage::Transform(Transform { filter: Some(filter), projections: None, output }));
                    }
                }
                Logical::Select(selected) => {
                    let mut projections = Vec::with_capacity(selected.len());
                    let mut fields = Vec::with_capacity(selected.len());
                    for (name, expr) in selected {
                        let expression = physical(expr, &schema)?;
                        fields.push(Field::new(name, output_type(&expression.data_type(&schema)?), true));
                        projections.push(expression);
                    }
                    schema = Arc::new(Schema::new(fields));
                    let (filter, projections) = (filter.take(), Some(projections));
                    stages.push(Stage::Transform(Transform { filter, projections, output: schema.clone() }));
                }
                Logical::Unnest { list, field, keep_empty } => {
                    let place = schema.index_of(list)?;
                    let fields = schema.fields().iter().enumerate();
                    let fields = fields.map(|(at, old)| if at == place { field.clone() } else { old.clone() });
                    schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
                    let (keep_empty, output) = (*keep_empty, schema.clone());
                    stages.push(Stage::Unnest(Unnest { list: place, keep_empty, output }));
                }
                Logical::Sample { share, key } => {
                    let key = key.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
                    let fields = key.iter().map(|at| SortField::new(schema.field(*at).data_type().clone()));
                    let converter = Arc::new(RowConverter::new(fields.collect())?);
                    stages.push(Stage::Sample(Sample { share: *share, key, converter }));
                }
                Logical::Window(typed) => {
                    head.get_or_insert((stages.len(), schema.clone()));
                    let window = typed.physical(&schema)?;
                    schema = window.output.clone();
                    stages.push(Stage::Window(Box::new(window)));
                }
                Logical::Enrich { on, table } => stages.push(enrich::stage(on, table, &mut schema)?),
                Logical::Keyed { key, time_ms, size_max, what } => {
                    head.get_or_insert((stages.len(), schema.clone()));
                    let places = key.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
                    let keys = Keys::new(&schema, places)?;
                    let what = match what {
                        Memory::Gate(reason) => What::Gate(*reason),
                        Memory::Session => {
                            let fields = schema.fields().iter().cloned();
                            let fields = fields.chain(session_fields().map(Arc::new));
                            schema = Arc::new(Schema::new(fields.collect::<Vec<FieldRef>>()));
                            What::Session { output: schema.clone() }
                        }
                        Memory::Last { until } => {
                            let until = until.as_ref().map(|expr| physical(expr, &schema)).transpose()?;
                            What::Last { shape: RowShape::new(schema.clone())?, until }
                        }
                    };
                    stages.push(Stage::Keyed(Keyed { keys, time_ms: *time_ms, size_max: *size_max, what }));
                }
            }
            reached.push(match step {
                Logical::Filter(_) => Place { stage: stages.len(), is_filter: true },
                _ => Place { stage: stages.len() - 1, is_filter: false },
            });
        }
        if let Some(filter) = filter.take() {
            stages.push(Stage::Transform(Transform {
                filter: Some(filter),
                projections: None,
                output: schema.clone(),
            }));
        }
        let place = |end: &usize| reached.get(end.saturating_sub(1)).copied().unwrap_or_default();
        let places = self.ends.iter().map(place).collect();
        let take = |rule: &Rule<Expr>| {
            Ok(match rule {
                Rule::Always => Take::All,
                Rule::Where(expr) => Take::Where(physical(expr, &schema)?),
                Rule::Otherwise => Take::Otherwise,
                Rule::Late => Take::Late,
            })
        };
        let routes: Vec<Take> = self.routes.iter().map(take).collect::<SqlResult<_>>()?;
        let (head, middle) = head.unwrap_or((stages.len(), schema.clone()));
        let key_sources = self.key_sources.clone();
        let (hidden, geo, warnings) = (self.planner.filled(), self.planner.geo(), self.planner.warnings());
        Ok(Plan {
            columns,
            input,
            output: schema,
            stages,
            places,
            head,
            middle,
            key_sources,
            wanted: vec![true; routes.len()],
            pieces_of: ROWS_MAX,
            routes,
            hidden,
            geo,
            warnings,
        })
    }
}

pub(super) fn physical(expr: &Expr, schema: &SchemaRef) -> SqlResult<Arc<dyn PhysicalExpr>> {
    let schema = DFSchema::try_from(schema.as_ref().clone())?;
    let made = create_physical_expr(expr, &schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
    checked::checked(made, schema.as_arrow())
}

#[cfg(test)]
mod tests;
