//! A pipeline file planned once: which columns are read, the steps that rows go through, and which output takes which rows. Kept as
//! physical expressions that only evaluate.

mod enrich;

use super::columns::RECORD_FIELDS;
use super::enrich::LookUp;
use super::fault::Fault;
use super::kinds;
use super::spec::{self, Column, From, Kind, Named, RecordField, Rule, Spec};
use super::sql::{Scope, Selected, SqlPlanner, readable};
use super::step::{
    Course, Filtered, Found, Keyed, Keys, RowShape, Rows, Sample, Sieve, Stage, Table, Transform, Unnest, What,
    output_type, session_fields, truths,
};
use crate::config::{Mistake, nearest};
use arrow::array::{Array, BooleanArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion_common::{DFSchema, Result as SqlResult};
use datafusion_expr::Expr;
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A planned pipeline; cheap to share between threads.
#[derive(Clone)]
pub struct Plan {
    columns: Vec<Column>,
    input: SchemaRef,
    output: SchemaRef,
    stages: Vec<Stage>,
    /// The first step that remembers, if any.
    head: usize,
    /// What comes there.
    middle: SchemaRef,
    key_sources: Vec<Vec<From>>,
    routes: Vec<Take>,
}

/// Which rows a route takes.
#[derive(Clone)]
enum Take {
    All,
    Where(Arc<dyn PhysicalExpr>),
    Otherwise,
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
    /// The records make more rows than may be in memory, and all else here is worth nothing: fewer at a time.
    pub(super) is_too_wide: bool,
}

impl Transformed {
    fn new(routes: Vec<Rows>, found: Found) -> Transformed {
        let Found { mut faults, filtered, evicted, is_too_wide } = found;
        faults.sort_by_key(|(index, _)| *index);
        faults.dedup_by_key(|(index, _)| *index);
        Transformed { routes, faults, filtered, evicted, is_too_wide }
    }
}

impl Plan {
    /// Plans a pipeline file.
    ///
    /// # Errors
    /// All mistakes of its SQL, with file, line and column.
    pub fn of(spec: &Spec) -> Result<Plan, Vec<Mistake>> {
        let mut draft = Draft::new(spec);
        spec.steps.iter().for_each(|step| draft.step(step));
        draft.end();
        spec.routes.iter().for_each(|route| draft.route(&route.rule));
        draft.plan()
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
        let mut found = Found::default();
        let rows = self.run_stages(&self.stages[..self.head], rows, &mut found, None);
        let routes = if self.is_stateful() { vec![rows] } else { self.route(rows, &mut found) };
        Transformed::new(routes, found)
    }

    /// Takes what [`Plan::run`] has made of the records of a course through the other steps to their routes. `tables` has one for each step
    /// that remembers.
    pub(super) fn go_on(&self, rows: Rows, tables: &mut [Table], course: &mut Course<'_>) -> Transformed {
        let mut found = Found::default();
        let rows = self.run_stages(&self.stages[self.head..], rows, &mut found, Some((tables, course)));
        let routes = self.route(rows, &mut found);
        Transformed::new(routes, found)
    }

    /// No rows, of the schema that [`Plan::run`] makes.
    pub(super) fn no_rows(&self) -> Rows {
        Rows { batch: RecordBatch::new_empty(self.middle.clone()), sources: Vec::new() }
    }

    fn run_stages(
        &self,
        stages: &[Stage],
        mut rows: Rows,
        found: &mut Found,
        state: Option<(&mut [Table], &mut Course<'_>)>,
    ) -> Rows {
        let (tables, mut course) = state.unzip();
        let mut tables = tables.into_iter().flatten();
        for stage in stages {
            rows = match stage {
                Stage::Transform(transform) => transform.run(rows, found),
                Stage::Unnest(unnest) => unnest.run(rows, found),
                Stage::Sample(sample) => sample.run(rows, found),
                Stage::Enrich(enrich) => enrich.run(rows, found),
                Stage::Keyed(keyed) => match (tables.next(), course.as_deref_mut()) {
                    (Some(table), Some(course)) => keyed.run(rows, table, course, found),
                    _ => rows,
                },
            };
        }
        rows.without(&found.faults)
    }

    /// Rows by route.
    fn route(&self, rows: Rows, found: &mut Found) -> Vec<Rows> {
        if let [Take::All] = self.routes.as_slice() {
            return vec![rows];
        }
        let before = found.faults.len();
        let answers: Vec<Option<BooleanArray>> = self
            .routes
            .iter()
            .map(|take| match take {
                Take::Where(filter) => Some(truths(filter, &rows, found)),
                Take::All | Take::Otherwise => None,
            })
            .collect();
        // A record that one route's SQL fails on goes nowhere.
        let bad: HashSet<u32> = found.faults[before..].iter().map(|(index, _)| *index).collect();
        let is_good = |row: usize| bad.is_empty() || !bad.contains(&rows.sources[row]);
        let is_true = |answers: &BooleanArray, row: usize| answers.is_valid(row) && answers.value(row);
        let is_left = |row: usize| !answers.iter().flatten().any(|answers| is_true(answers, row));
        let taken = |(take, answers): (&Take, &Option<BooleanArray>)| {
            let is_taken = |row: usize| match (take, answers) {
                (Take::Where(_), Some(answers)) => is_true(answers, row),
                (Take::Otherwise, _) => is_left(row),
                _ => true,
            };
            let keep: BooleanArray = (0..rows.len()).map(|row| Some(is_good(row) && is_taken(row))).collect();
            rows.filter(&keep).expect("there is an answer a row")
        };
        let routes = self.routes.iter().zip(&answers).map(taken).collect();
        if self.routes.iter().all(|take| matches!(take, Take::Where(_))) {
            found.filtered.add(Sieve::NoRoute, (0..rows.len()).filter(|row| is_good(*row) && is_left(*row)).count());
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
    routes: Vec<Rule<Expr>>,
    mistakes: Vec<Mistake>,
}

/// A step, typed.
enum Logical {
    Filter(Expr),
    Select(Selected),
    Unnest { list: String, field: FieldRef, keep_empty: bool },
    Sample { share: u32, key: Vec<String> },
    Enrich { on: Vec<String>, table: Arc<LookUp> },
    Keyed { key: Vec<String>, time_ms: i64, size_max: usize, what: Memory },
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
        all.extend(record_columns());
        let fields: Vec<Field> = all.iter().map(kinds::field).collect();
        Draft {
            spec,
            planner: SqlPlanner::new(&spec.file),
            scope: Scope::new(&fields),
            origins: all.iter().map(|column| (column.name.clone(), column.from.clone())).collect(),
            key_sources: Vec::new(),
            all,
            is_source: true,
            used: HashSet::new(),
            steps: Vec::new(),
            routes: Vec::new(),
            mistakes: Vec::new(),
        }
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
        match step {
            spec::Step::Where(sql) => match self.planner.filter(&self.scope, sql) {
                Ok(expr) => self.filter(expr),
                Err(mistake) => self.mistakes.push(mistake),
            },
            spec::Step::Select(sql) => match self.planner.select(&self.scope, sql) {
                Ok(selected) => self.select(selected),
                Err(mistakes) => self.mistakes.extend(mistakes),
            },
            spec::Step::Sql(sql) => match self.planner.query(&self.scope, sql) {
                Ok((filter, selected)) => {
                    filter.into_iter().for_each(|expr| self.filter(expr));
                    self.select(selected);
                }
                Err(mistakes) => self.mistakes.extend(mistakes),
            },
            spec::Step::Unnest(unnest) => self.unnest(unnest),
            spec::Step::Sample(sample) => self.sample(sample),
            spec::Step::Enrich(step) => self.enrich(step),
            spec::Step::Keyed(keyed) => self.keyed(keyed),
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
                let fields: Vec<Field> =
                    self.scope.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
                if let Some(taken) = session_fields().iter().find(|field| self.scope.kind(field.name()).is_some()) {
                    let message = format!(
                        "there is a column {} already, which sessionize makes: select it under another name",
                        taken.name()
                    );
                    return self.wrong(&step.at, message);
                }
                self.scope = Scope::new(&fields.into_iter().chain(session_fields()).collect::<Vec<_>>());
                Memory::Session
            }
            spec::Memory::Last { until } => {
                match until.as_ref().map(|sql| self.planner.filter(&self.scope, sql)).transpose() {
                    Ok(until) => {
                        until.iter().for_each(|expr| self.reads_of(expr));
                        Memory::Last { until }
                    }
                    Err(mistake) => return self.mistakes.push(mistake),
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

    fn select(&mut self, selected: Selected) {
        selected.iter().for_each(|(_, expr)| self.reads_of(expr));
        let field = |(name, expr): &(String, Expr)| {
            use datafusion_expr::ExprSchemable;
            let kind = expr.get_type(self.scope.schema()).unwrap_or(DataType::Null);
            Field::new(name, output_type(&kind), true)
        };
        let origin = |(name, expr): &(String, Expr)| match expr {
            Expr::Column(column) => self.origins.get(&column.name).map(|from| (name.clone(), from.clone())),
            _ => None,
        };
        self.origins = selected.iter().filter_map(origin).collect();
        self.scope = Scope::new(&selected.iter().map(field).collect::<Vec<_>>());
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
        self.scope = Scope::new(&fields.collect::<Vec<_>>());
        self.steps.push(Logical::Unnest { list: list.clone(), field, keep_empty: unnest.keep_empty });
    }

    fn sample(&mut self, sample: &spec::Sample) {
        if let Some(unknown) = sample.key.iter().find(|named| self.scope.kind(&named.name).is_none()) {
            return self.unknown(&unknown.clone());
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
            let shown: Selected = shown.collect();
            self.select(shown);
        }
    }

    fn route(&mut self, rule: &Rule) {
        let rule = match rule {
            Rule::Where(sql) => match self.planner.filter(&self.scope, sql) {
                Ok(expr) => Rule::Where(expr),
                Err(mistake) => return self.mistakes.push(mistake),
            },
            Rule::Always => Rule::Always,
            Rule::Otherwise => Rule::Otherwise,
        };
        self.routes.push(rule);
    }

    fn wrong(&mut self, at: &Named, message: String) {
        let (line, column, field) = (at.line, at.column, Some(at.field.clone()));
        self.mistakes.push(Mistake { file: self.spec.file.clone(), line, column, field, message });
    }

    fn unknown(&mut self, at: &Named) {
        let message = {
            let known = self.scope.names();
            let meant = nearest(&at.name, &known).map_or(String::new(), |meant| format!("did you mean {meant}? "));
            format!("\"{}\" is no column here; {meant}known: {}", at.name, known.join(", "))
        };
        self.wrong(at, message);
    }

    /// Keeps the columns that are read, and makes the physical expressions over them.
    fn plan(self) -> Result<Plan, Vec<Mistake>> {
        let whole =
            |message: String| vec![Mistake { file: self.spec.file.clone(), line: 0, column: 0, field: None, message }];
        if !self.mistakes.is_empty() {
            return Err(self.mistakes);
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
        }
        let take = |rule: &Rule<Expr>| {
            Ok(match rule {
                Rule::Always => Take::All,
                Rule::Where(expr) => Take::Where(physical(expr, &schema)?),
                Rule::Otherwise => Take::Otherwise,
            })
        };
        let routes = self.routes.iter().map(take).collect::<SqlResult<_>>()?;
        let (head, middle) = head.unwrap_or((stages.len(), schema.clone()));
        let key_sources = self.key_sources.clone();
        Ok(Plan { columns, input, output: schema, stages, head, middle, key_sources, routes })
    }
}

fn physical(expr: &Expr, schema: &SchemaRef) -> SqlResult<Arc<dyn PhysicalExpr>> {
    let schema = DFSchema::try_from(schema.as_ref().clone())?;
    create_physical_expr(expr, &schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
}

/// `_key _value _offset _partition _timestamp _headers`: what every record has.
fn record_columns() -> impl Iterator<Item = Column> {
    let fields = [
        (RecordField::Key, Kind::Binary),
        (RecordField::Value, Kind::Binary),
        (RecordField::Offset, Kind::Int64),
        (RecordField::Partition, Kind::Int32),
        (RecordField::Timestamp, Kind::EpochTimestamp(spec::Unit::Millis)),
        (RecordField::Headers, kinds::headers()),
    ];
    RECORD_FIELDS.iter().zip(fields).map(|(name, (field, kind))| Column {
        name: (*name).to_owned(),
        from: From::Record(field),
        kind,
        required: false,
        coerce: false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::fault::Reason;
    use super::super::parse::parse;
    use super::*;
    use arrow::array::AsArray;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use std::path::Path;

    const COLUMNS: &str =
        "[columns]\nuserId = \"string\"\nurl = \"string\"\nn = \"int64\"\nts = \"timestamp\"\nunused = \"string\"\n";

    fn plan(sql: &str) -> Result<Plan, Vec<String>> {
        let text = format!("from = \"topic:t\"\nto = {{ parquet = \"t\" }}\n{sql}\n{COLUMNS}");
        let spec = parse(Path::new("p.toml"), &text).unwrap_or_else(|m| panic!("{m:#?}"));
        Plan::of(&spec).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    fn rows(plan: &Plan, users: Vec<Option<&str>>, n: Vec<Option<i64>>) -> Rows {
        let arrays = plan.input().fields().iter().map(|field| match field.name().as_str() {
            "userId" => Arc::new(StringArray::from(users.clone())) as ArrayRef,
            "n" => Arc::new(Int64Array::from(n.clone())) as ArrayRef,
            other => panic!("{other} is read"),
        });
        let batch = RecordBatch::try_new(plan.input().clone(), arrays.collect()).unwrap();
        Rows { sources: (0..batch.num_rows() as u32).collect(), batch }
    }

    /// What comes out of the only route.
    fn only(done: &Transformed) -> &Rows {
        &done.routes[0]
    }

    #[test]
    fn names_keep_their_case_and_only_what_is_used_is_read() {
        let plan = plan("where = \"n > 1\"\nselect = \"userId as user_id, n * 2 as twice\"").unwrap();
        let names: Vec<&str> = plan.columns().iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["userId", "n"]);
        let done =
            plan.run(rows(&plan, vec![Some("a"), Some("b"), None, Some("d")], vec![Some(1), Some(2), Some(3), None]));
        assert_eq!(only(&done).sources, [1, 2]);
        assert_eq!((done.filtered.of(Sieve::False), done.filtered.of(Sieve::Null)), (1, 1));
        assert_eq!(only(&done).batch.column(1).as_primitive::<arrow::datatypes::Int64Type>().values(), &[4, 6]);
    }

    #[test]
    fn a_row_that_fails_is_told_and_the_others_go_through() {
        let plan = plan("select = \"userId, 10 / n as part\"").unwrap();
        let n: Vec<Option<i64>> = (0..500).map(|at| Some(if at == 77 || at == 300 { 0 } else { 2 })).collect();
        let done = plan.run(rows(&plan, vec![Some("u"); 500], n));
        let failed: Vec<u32> = done.faults.iter().map(|(at, _)| *at).collect();
        assert_eq!((failed, only(&done).len()), (vec![77, 300], 498));
        assert!(!only(&done).sources.contains(&77) && only(&done).sources.contains(&78));
        assert!(done.faults.iter().all(|(_, fault)| fault.reason == Reason::Expression));
    }

    #[test]
    fn a_column_may_be_named_like_a_keyword() {
        let text = "from = \"topic:t\"\nwhere = \"user <> 'x' and current_date is null\"\nselect = \"user, upper(user) as other\"\nto = { parquet = \"t\" }\n[columns]\nuser = \"string\"\ncurrent_date = \"string\"\n";
        let plan = Plan::of(&parse(Path::new("p.toml"), text).unwrap()).unwrap();
        let names: Vec<&str> = plan.output().fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!((names, plan.columns().len()), (vec!["user", "other"], 2));
    }

    #[test]
    fn mistakes_point_into_the_sql() {
        let wrong = |sql: &str| plan(sql).err().unwrap_or_else(|| panic!("{sql} was taken")).remove(0);
        let typo = wrong("select = \"userId, urll as x\"");
        assert!(typo.starts_with("p.toml:3:19: select: ") && typo.contains("urll"), "{typo}");
        let syntax = wrong("where = \"n > > 1\"");
        assert!(syntax.starts_with("p.toml:3:1") && syntax.contains("where"), "{syntax}");
        assert!(wrong("select = \"now() as t\"").contains("_timestamp"));
        assert!(wrong("select = \"count(n) as c\"").contains("one record at a time"));
        assert!(wrong("select = \"sum(n) over () as c\"").contains("one record at a time"));
        assert!(wrong("where = \"n\"").contains("true or false"));
        assert!(wrong("where = \"n in (select 1 from t)\"").contains("one record"));
        assert!(wrong("select = \"n + 1\"").contains("as NAME"));
        assert!(wrong("select = \"n as a, url as a\"").contains("two columns"));
    }

    #[test]
    fn times_come_out_as_microseconds_and_what_does_not_fit_is_a_fault() {
        let plan = plan("select = \"to_timestamp(n) as t\"").unwrap();
        let done = plan.run(rows(&plan, vec![], vec![Some(1_700_000_000), Some(2)]));
        let kind = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()));
        assert_eq!((only(&done).batch.column(0).data_type(), only(&done).len()), (&kind, 2));
    }

    #[test]
    fn fields_of_structs_and_lists_are_sql() {
        let text = "from = \"topic:t\"\nto = { parquet = \"t\" }\nselect = \"page.url as a, page['url'] as b, zones[1] as c, array_has(zones, 'x') as d, substr(page.url, 1, 5) as e\"\n[columns]\nzones = [\"string\"]\npage = { type = { url = \"string\" } }\n";
        let spec = parse(Path::new("p.toml"), text).unwrap_or_else(|m| panic!("{m:#?}"));
        let plan = Plan::of(&spec).unwrap_or_else(|m| panic!("{m:#?}"));
        let record = crate::record::Record {
            offset: crate::record::Offset(0),
            timestamp: 0,
            key: None,
            value: Some(bytes::Bytes::from_static(b"{\"page\":{\"url\":\"https://x\"},\"zones\":[\"x\",\"y\"]}")),
            headers: vec![],
        };
        let decoder = super::super::rows::Decoder::new(&spec.format, plan.columns().to_vec(), plan.input().clone());
        let decoded = decoder.decode(0, &[record]);
        let done = plan.run(Rows { batch: decoded.rows, sources: decoded.sources });
        let text = |at: usize| only(&done).batch.column(at).as_string::<i32>().value(0).to_owned();
        assert_eq!([text(0), text(1), text(2), text(4)], ["https://x", "https://x", "x", "https"]);
        assert!(only(&done).batch.column(3).as_boolean().value(0));
    }

    /// What a file of the long form makes of values, as JSON by route, and how many rows are no output.
    fn made(steps_and_routes: &str, values: &[&str]) -> Result<(Vec<Vec<serde_json::Value>>, Filtered), String> {
        let text = format!(
            "from = \"topic:t\"\n[columns]\nid = \"int64\"\ntags = [\"string\"]\nboxes = {{ type = [{{ x = \"int64\" }}] }}\n{steps_and_routes}"
        );
        let text = match text.contains("[[route]]") {
            true => text,
            false => format!("{text}[[route]]\nto = {{ topic = \"out\" }}\n"),
        };
        let first = |mistakes: Vec<Mistake>| mistakes[0].to_string();
        let spec = parse(Path::new("p.toml"), &text).map_err(first)?;
        let plan = Plan::of(&spec).map_err(first)?;
        let record = |(at, value): (usize, &&str)| crate::record::Record {
            offset: crate::record::Offset(at as i64),
            timestamp: 0,
            key: None,
            value: Some(bytes::Bytes::from(value.to_string())),
            headers: vec![],
        };
        let records: Vec<_> = values.iter().enumerate().map(record).collect();
        let decoder = super::super::rows::Decoder::new(&spec.format, plan.columns().to_vec(), plan.input().clone());
        let decoded = decoder.decode(0, &records);
        let done = plan.run(Rows { batch: decoded.rows, sources: decoded.sources });
        let json = |rows: &Rows| {
            let mut writer = arrow::json::writer::ArrayWriter::new(Vec::new());
            writer.write(&rows.batch).and_then(|()| writer.finish()).unwrap();
            let text = writer.into_inner();
            if text.is_empty() { Vec::new() } else { serde_json::from_slice(&text).unwrap() }
        };
        Ok((done.routes.iter().map(json).collect(), done.filtered))
    }

    fn json(text: &str) -> Vec<serde_json::Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn steps_go_one_after_the_other_and_rows_to_every_route_that_takes_them() {
        let values = [
            "{\"id\":1,\"tags\":[\"a\",\"b\"]}",
            "{\"id\":2,\"tags\":[]}",
            "{\"id\":3}",
            "{\"id\":4,\"tags\":[\"c\",null]}",
        ];
        let steps = "[[step]]\nunnest = { list = \"tags\", as = \"tag\" }\n[[step]]\nsql = \"select id * 10 as id, upper(tag) as tag from rows where tag <> 'b'\"\n";
        let routes = "[[route]]\nwhere = \"id = 10\"\nto = { topic = \"a\" }\n[[route]]\nwhere = \"id > 1000\"\nto = { topic = \"b\" }\n[[route]]\notherwise = true\nto = { topic = \"c\" }\n[[route]]\nto = { topic = \"all\" }\n";
        let (rows, filtered) = made(&format!("{steps}{routes}"), &values).unwrap();
        let (first, last) = ("{\"id\":10,\"tag\":\"A\"}", "{\"id\":40,\"tag\":\"C\"}");
        assert_eq!(
            rows,
            [json(&format!("[{first}]")), vec![], json(&format!("[{last}]")), json(&format!("[{first},{last}]"))]
        );
        let counts = [Sieve::Empty, Sieve::False, Sieve::Null, Sieve::NoRoute].map(|reason| filtered.of(reason));
        assert_eq!(counts, [2, 1, 1, 0]);
        let kept = "[[step]]\nunnest = { list = \"tags\", keep-empty = true }\n[[step]]\nselect = \"id, tags\"\n";
        assert_eq!(made(kept, &values[1..3]).unwrap().0[0], json("[{\"id\":2},{\"id\":3}]"));
        let fields = "[[step]]\nunnest = \"boxes\"\n[[step]]\nselect = \"boxes.x as x\"\n";
        assert_eq!(made(fields, &["{\"boxes\":[{\"x\":5},{\"x\":6}]}"]).unwrap().0[0], json("[{\"x\":5},{\"x\":6}]"));
    }

    #[test]
    fn a_sample_goes_by_its_key_and_is_the_same_when_it_is_read_again() {
        let values: Vec<String> = (0..1_000).map(|n| format!("{{\"id\":{},\"tags\":[]}}", n % 100)).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let keyed = "[[step]]\nsample = { share = \"30%\", key = \"id\" }\n[[step]]\nselect = \"id\"\n";
        let (rows, filtered) = made(keyed, &values).unwrap();
        assert!(
            rows[0].len() > 150 && rows[0].len() < 450 && rows[0].len() % 10 == 0,
            "all of an id or none: {}",
            rows[0].len()
        );
        assert_eq!(rows[0].len() as u32 + filtered.of(Sieve::Sample), 1_000);
        let each = "[[step]]\nsample = \"30%\"\n[[step]]\nselect = \"id\"\n";
        let (rows, _) = made(each, &values).unwrap();
        assert!((230..370).contains(&rows[0].len()), "{}", rows[0].len());
        assert_eq!(made(each, &values).unwrap().0, rows);
    }

    #[test]
    fn steps_that_cannot_be_meant_say_what_to_write() {
        let wrong = |step: &str| made(&format!("[[step]]\n{step}\n"), &[]).unwrap_err();
        assert!(wrong("unnest = \"id\"").contains("needs a list"));
        assert!(wrong("unnest = \"tagz\"").contains("did you mean tags?"));
        assert!(wrong("unnest = { list = \"tags\", as = \"id\" }").contains("call the element otherwise"));
        assert!(wrong("sample = \"200%\"").contains("10%"));
        assert!(wrong("select = \"id\"\n[[step]]\nsample = \"10%\"").contains("needs a key"));
        assert!(wrong("sql = \"select id from rows group by id\"").contains("window"));
        assert!(wrong("sql = \"select distinct id from rows\"").contains("dedupe"));
        assert!(wrong("sql = \"select id from rows limit 5\"").contains("LIMIT"));
        assert!(wrong("sql = \"select id from other\"").contains("FROM rows"));
        assert!(wrong("sql = \"select id from rows r join rows s on true\"").contains("no joins"));
        assert!(wrong("sql = \"select idd from rows\"").starts_with("p.toml:7:"));
        assert!(wrong("where = \"true\"\nselect = \"id\"").contains("does one thing"));
        assert!(wrong("wear = \"true\"").contains("a step does one thing"));
    }

    #[test]
    fn own_functions_and_sql_functions_are_known() {
        let plan =
            plan("where = \"not is_bot(userId)\"\nselect = \"upper(userId) as u, url_host(userId) as h\"").unwrap();
        let done = plan.run(rows(&plan, vec![Some("https://a.example/x"), Some("Googlebot/2.1"), None], vec![]));
        assert_eq!(only(&done).sources, vec![0, 2]);
        assert_eq!(only(&done).batch.column(1).as_string::<i32>().value(0), "a.example");
    }
}
