//! `where` and `select` planned once: parsed, typed against the columns, and kept as physical expressions that only evaluate.
//!
//! DataFusion's expressions without its engine. Row-wise by nature: what would depend on where a batch ends is refused.

use super::columns::RECORD_FIELDS;
use super::fault::{Fault, Reason};
use super::functions;
use super::kinds;
use super::secrets;
use super::spec::{Column, From, Kind, RecordField, Spec, Sql};
use crate::config::{Mistake, nearest};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, concat_batches, filter_record_batch, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DFSchema, DataFusionError, Result as SqlResult, TableReference, plan_err};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast::{Expr as Ast, FunctionArguments, Ident, SelectItem, visit_expressions_mut};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::parser::Parser;
use datafusion_sql::sqlparser::tokenizer::Token;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Rows that failed together are halved down to this many, then looked at one by one.
const BISECT_TO: usize = 64;

/// A planned pipeline; cheap to share between threads.
#[derive(Clone)]
pub struct Plan {
    columns: Vec<Column>,
    input: SchemaRef,
    output: SchemaRef,
    filter: Option<Arc<dyn PhysicalExpr>>,
    projections: Vec<(String, Arc<dyn PhysicalExpr>)>,
}

/// What became of the rows given.
pub struct Transformed {
    pub rows: RecordBatch,
    /// For each output row the index of its input row, ascending.
    pub sources: Vec<u32>,
    /// Input rows that failed, ascending.
    pub faults: Vec<(u32, Fault)>,
    /// Rows that `where` rejected, by its answer.
    pub rejected_false: u32,
    pub rejected_null: u32,
}

impl Plan {
    /// Plans a pipeline file.
    ///
    /// # Errors
    /// All mistakes of `where` and `select`, with file, line and column.
    pub fn of(spec: &Spec) -> Result<Plan, Vec<Mistake>> {
        let planner = SqlPlanner::new(spec);
        let filter = spec.r#where.as_ref().map(|sql| planner.filter(sql)).transpose();
        let select = match &spec.select {
            Some(sql) => planner.select(sql),
            None => Ok(spec.columns.iter().map(|c| (c.name.clone(), planner.column(&c.name))).collect()),
        };
        let (filter, select) = match (filter, select) {
            (Ok(filter), Ok(select)) => (filter, select),
            (filter, select) => {
                return Err(filter.err().into_iter().chain(select.err().into_iter().flatten()).collect());
            }
        };
        let whole =
            |message: String| vec![Mistake { file: spec.file.clone(), line: 0, column: 0, field: None, message }];
        if select.is_empty() {
            return Err(whole("nothing is selected: declare [columns], or write select".to_owned()));
        }
        planner.prune(filter, select).map_err(|error| whole(readable(&error)))
    }

    /// What is read of each record: the columns that the SQL uses, and the required ones; in the order of `input`.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub fn input(&self) -> &SchemaRef {
        &self.input
    }

    /// What comes out. Timestamps are microseconds in UTC.
    pub fn output(&self) -> &SchemaRef {
        &self.output
    }

    /// Filters and projects; rows that an expression fails on are told, the others go through.
    pub fn run(&self, rows: &RecordBatch) -> Transformed {
        let mut done = Transformed {
            rows: RecordBatch::new_empty(self.output.clone()),
            sources: Vec::with_capacity(rows.num_rows()),
            faults: Vec::new(),
            rejected_false: 0,
            rejected_null: 0,
        };
        let mut parts = Vec::new();
        self.run_part(rows, 0, &mut parts, &mut done);
        done.rows = match parts.len() {
            1 => parts.remove(0),
            _ => concat_batches(&self.output, &parts).unwrap_or_else(|_| RecordBatch::new_empty(self.output.clone())),
        };
        done
    }

    fn run_part(&self, rows: &RecordBatch, base: u32, parts: &mut Vec<RecordBatch>, done: &mut Transformed) {
        match self.evaluate(rows, base, done) {
            Ok(part) => parts.push(part),
            Err(error) if rows.num_rows() <= 1 => {
                let fault = Fault { reason: Reason::Expression, column: None, message: readable(&error).into() };
                done.faults.push((base, fault));
            }
            Err(_) => {
                let step = if rows.num_rows() <= BISECT_TO { 1 } else { rows.num_rows().div_ceil(2) };
                for from in (0..rows.num_rows()).step_by(step) {
                    let part = rows.slice(from, step.min(rows.num_rows() - from));
                    self.run_part(&part, base + from as u32, parts, done);
                }
            }
        }
    }

    /// Evaluates all rows or none.
    fn evaluate(&self, rows: &RecordBatch, base: u32, done: &mut Transformed) -> SqlResult<RecordBatch> {
        let (kept, kept_at, nulls) = match &self.filter {
            None => (rows.clone(), (0..rows.num_rows() as u32).collect::<Vec<_>>(), 0),
            Some(filter) => {
                let answers = filter.evaluate(rows)?.into_array(rows.num_rows())?;
                let answers: &BooleanArray = answers.as_boolean();
                let kept_at =
                    answers.iter().enumerate().filter(|(_, a)| *a == Some(true)).map(|(at, _)| at as u32).collect();
                (filter_record_batch(rows, answers)?, kept_at, answers.null_count() as u32)
            }
        };
        let mut arrays = Vec::with_capacity(self.projections.len());
        let mut faults = Vec::new();
        for ((name, expression), field) in self.projections.iter().zip(self.output.fields()) {
            let array = expression.evaluate(&kept)?.into_array(kept.num_rows())?;
            arrays.push(settled(array, field.data_type(), name, &mut faults)?);
        }
        // Nothing is told before everything has succeeded: a part that fails is evaluated again.
        if self.filter.is_some() {
            let rejected = (rows.num_rows() - kept_at.len()) as u32;
            done.rejected_null += nulls;
            done.rejected_false += rejected - nulls;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(kept_at.len()));
        let mut part = RecordBatch::try_new_with_options(self.output.clone(), arrays, &options)?;
        let mut sources: Vec<u32> = kept_at.into_iter().map(|at| base + at).collect();
        if !faults.is_empty() {
            faults.sort_by_key(|(at, _): &(usize, Fault)| *at);
            faults.dedup_by_key(|(at, _)| *at);
            let good: Vec<u32> =
                (0..sources.len() as u32).filter(|at| !faults.iter().any(|(bad, _)| bad == &(*at as usize))).collect();
            done.faults.extend(faults.into_iter().map(|(at, fault)| (sources[at], fault)));
            let places = UInt32Array::from(good.clone());
            let columns =
                part.columns().iter().map(|column| take(column, &places, None)).collect::<Result<Vec<_>, _>>()?;
            part = RecordBatch::try_new(self.output.clone(), columns)?;
            sources = good.into_iter().map(|at| sources[at as usize]).collect();
        }
        done.sources.extend(sources);
        Ok(part)
    }
}

/// Brings an evaluated array to its output type; a timestamp that does not fit is a fault of its row.
fn settled(array: ArrayRef, kind: &DataType, name: &str, faults: &mut Vec<(usize, Fault)>) -> SqlResult<ArrayRef> {
    if array.data_type() == kind {
        return Ok(array);
    }
    let cast = cast_with_options(&array, kind, &CastOptions { safe: true, ..CastOptions::default() })?;
    for at in 0..array.len() {
        if cast.is_null(at) && !array.is_null(at) {
            let message = "the time is out of the range that can be written".into();
            faults.push((at, Fault { reason: Reason::TimeOutOfRange, column: Some(name.to_owned()), message }));
        }
    }
    Ok(cast)
}

/// The type that a column has in an output.
fn output_type(kind: &DataType) -> DataType {
    match kind {
        DataType::Timestamp(_, _) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Null => DataType::Utf8,
        other => other.clone(),
    }
}

/// Plans the SQL of one file.
struct SqlPlanner<'a> {
    spec: &'a Spec,
    all: Vec<Column>,
    schema: Arc<DFSchema>,
    context: Context,
}

impl<'a> SqlPlanner<'a> {
    fn new(spec: &'a Spec) -> SqlPlanner<'a> {
        let fields = [
            (RecordField::Key, Kind::Binary),
            (RecordField::Value, Kind::Binary),
            (RecordField::Offset, Kind::Int64),
            (RecordField::Partition, Kind::Int32),
            (RecordField::Timestamp, Kind::EpochTimestamp(super::spec::Unit::Millis)),
            (RecordField::Headers, kinds::headers()),
        ];
        let mut all = spec.columns.clone();
        all.extend(RECORD_FIELDS.iter().zip(fields).map(|(name, (field, kind))| Column {
            name: (*name).to_owned(),
            from: From::Record(field),
            kind,
            required: false,
            coerce: false,
        }));
        let schema = Schema::new(all.iter().map(kinds::field).collect::<Vec<_>>());
        // Column names are unique: TOML has one value a key, and record fields are reserved.
        let schema = DFSchema::try_from(schema).unwrap_or_else(|_| DFSchema::empty());
        SqlPlanner { spec, all, schema: Arc::new(schema), context: Context::new() }
    }

    fn column(&self, name: &str) -> Expr {
        Expr::Column(datafusion_common::Column::from_name(name))
    }

    fn filter(&self, sql: &Sql) -> Result<Expr, Mistake> {
        let ast = self.parse(sql, "where", |parser| parser.parse_expr())?;
        let expr = self.plan(sql, "where", ast)?;
        let kind = self.schema_type(&expr).map_err(|error| self.mistake(sql, "where", readable(&error)))?;
        if kind != DataType::Boolean {
            return Err(self.mistake(sql, "where", format!("it must be true or false, this is {kind}")));
        }
        Ok(expr)
    }

    fn select(&self, sql: &Sql) -> Result<Vec<(String, Expr)>, Vec<Mistake>> {
        let items = self.parse(sql, "select", |parser| parser.parse_projection()).map_err(|wrong| vec![wrong])?;
        let mut out: Vec<(String, Expr)> = Vec::new();
        let mut wrong = Vec::new();
        for item in items {
            let (name, ast) = match item {
                SelectItem::Wildcard(_) => {
                    out.extend(self.spec.columns.iter().map(|column| (column.name.clone(), self.column(&column.name))));
                    continue;
                }
                SelectItem::ExprWithAlias { expr, alias } => (alias.value, expr),
                SelectItem::UnnamedExpr(expr) => match self.with_columns(expr) {
                    Ast::Identifier(name) => (name.value.clone(), Ast::Identifier(name)),
                    expr => {
                        wrong.push(self.mistake(sql, "select", format!("give this a name: {expr} as NAME")));
                        continue;
                    }
                },
                other => {
                    let message = format!("{other} is not a column; write an expression as NAME");
                    wrong.push(self.mistake(sql, "select", message));
                    continue;
                }
            };
            match self.plan(sql, "select", ast) {
                Ok(expr) => out.push((name, expr)),
                Err(mistake) => wrong.push(mistake),
            }
        }
        let mut names: Vec<&String> = out.iter().map(|(name, _)| name).collect();
        names.sort();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            wrong.push(self.mistake(sql, "select", format!("two columns are named {}", twice[0])));
        }
        if wrong.is_empty() { Ok(out) } else { Err(wrong) }
    }

    fn parse<T>(
        &self,
        sql: &Sql,
        field: &str,
        read: impl FnOnce(&mut Parser<'_>) -> Result<T, datafusion_sql::sqlparser::parser::ParserError>,
    ) -> Result<T, Mistake> {
        let dialect = GenericDialect {};
        let parsed = Parser::new(&dialect).try_with_sql(&sql.text).and_then(|mut parser| {
            let read = read(&mut parser)?;
            let rest = parser.peek_token();
            if rest.token == Token::EOF { Ok(read) } else { parser.expected("end of expression", rest) }
        });
        parsed.map_err(|error| {
            let text = error.to_string();
            let place = place_in(&text);
            let message = text.trim_start_matches("sql parser error: ").to_owned();
            match place {
                Some((1, column)) => Mistake { column: sql.column + column - 1, ..self.mistake(sql, field, message) },
                Some((line, column)) => {
                    Mistake { line: sql.line + line - 1, column, ..self.mistake(sql, field, message) }
                }
                None => self.mistake(sql, field, message),
            }
        })
    }

    /// `user` and its like are calls to a SQL parser; where a column has that name, the column is meant.
    fn with_columns(&self, mut ast: Ast) -> Ast {
        let _ = visit_expressions_mut(&mut ast, |expr| {
            let name = match expr {
                Ast::Function(call) if matches!(call.args, FunctionArguments::None) => call.name.to_string(),
                _ => return ControlFlow::Continue(()),
            };
            if self.all.iter().any(|column| column.name == name) {
                *expr = Ast::Identifier(Ident::new(name));
            }
            ControlFlow::<()>::Continue(())
        });
        ast
    }

    /// Types an expression, coerces and simplifies it.
    fn plan(&self, sql: &Sql, field: &str, ast: Ast) -> Result<Expr, Mistake> {
        let options = ParserOptions {
            enable_ident_normalization: false,
            map_string_types_to_utf8view: false,
            ..ParserOptions::new()
        };
        let ast = self.with_columns(ast);
        let shown = ast.to_string();
        self.context.hint.replace(None);
        let planner = SqlToRel::new_with_options(&self.context, options);
        let planned = planner.sql_to_expr(ast, &self.schema, &mut PlannerContext::new()).and_then(|expr| {
            let info = SimplifyContext::builder().with_schema(self.schema.clone()).build();
            let simplifier = ExprSimplifier::new(info);
            let expr = functions::bind(secrets::resolve(expr, &self.spec.file)?, &self.spec.file)?;
            let expr = simplifier.simplify(simplifier.coerce(expr, &self.schema)?)?;
            // A function judges its arguments when it is asked for its type; here the place in the SQL is still known.
            self.schema_type(&expr).map(|_| expr)
        });
        planned.map_err(|error| {
            let reason = self.context.hint.take().unwrap_or_else(|| readable(&error));
            let place = sql.text.find(&shown).filter(|at| !sql.text[..*at].contains('\n')).unwrap_or(0);
            Mistake { column: sql.column + sql.text[..place].chars().count(), ..self.mistake(sql, field, reason) }
        })
    }

    fn schema_type(&self, expr: &Expr) -> SqlResult<DataType> {
        use datafusion_expr::ExprSchemable;
        expr.get_type(self.schema.as_ref())
    }

    fn mistake(&self, sql: &Sql, field: &str, message: String) -> Mistake {
        Mistake {
            file: self.spec.file.clone(),
            line: sql.line,
            column: sql.column,
            field: Some(field.to_owned()),
            message,
        }
    }

    /// Keeps the columns that are read, and makes the physical expressions over them.
    fn prune(&self, filter: Option<Expr>, select: Vec<(String, Expr)>) -> SqlResult<Plan> {
        let mut used = std::collections::HashSet::new();
        for expr in filter.iter().chain(select.iter().map(|(_, expr)| expr)) {
            used.extend(expr.column_refs().into_iter().map(|column| column.name.clone()));
        }
        let columns: Vec<Column> = self.all.iter().filter(|c| c.required || used.contains(&c.name)).cloned().collect();
        let input = Arc::new(Schema::new(columns.iter().map(kinds::field).collect::<Vec<_>>()));
        let schema = DFSchema::try_from(input.as_ref().clone())?;
        let properties = ExecutionProps::new();
        let context = PhysicalPlanningContext::default();
        let physical = |expr: &Expr| create_physical_expr(expr, &schema, &properties, &context);
        let mut projections = Vec::with_capacity(select.len());
        let mut fields = Vec::with_capacity(select.len());
        for (name, expr) in &select {
            let expression = physical(expr)?;
            fields.push(Field::new(name, output_type(&expression.data_type(&input)?), true));
            projections.push((name.clone(), expression));
        }
        let filter = filter.as_ref().map(physical).transpose()?;
        Ok(Plan { columns, input, output: Arc::new(Schema::new(fields)), filter, projections })
    }
}

/// DataFusion's message without its layers.
fn readable(error: &DataFusionError) -> String {
    let text = error.strip_backtrace().lines().next().unwrap_or_default().to_owned();
    for layer in [
        "Error during planning: ",
        "Schema error: ",
        "Execution error: ",
        "Arrow error: ",
        "This feature is not implemented: ",
    ] {
        if let Some(rest) = text.strip_prefix(layer) {
            return rest.to_owned();
        }
    }
    text
}

/// `… at Line: 1, Column: 8` of the SQL parser.
fn place_in(text: &str) -> Option<(usize, usize)> {
    let (_, rest) = text.rsplit_once("Line: ")?;
    let (line, rest) = rest.split_once(", Column: ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((line.parse().ok()?, digits.parse().ok()?))
}

/// What the planner may know: functions, and nothing that has state or a clock.
struct Context {
    functions: HashMap<String, Arc<ScalarUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    options: ConfigOptions,
    /// What to write instead of a name that was asked for and refused.
    hint: RefCell<Option<String>>,
}

const CLOCKS: [&str; 7] = ["now", "current_timestamp", "current_date", "current_time", "today", "random", "uuid"];
const AGGREGATES: [&str; 12] = [
    "count",
    "sum",
    "avg",
    "mean",
    "min",
    "max",
    "median",
    "stddev",
    "array_agg",
    "first_value",
    "last_value",
    "approx_distinct",
];

impl Context {
    fn new() -> Context {
        let lists = datafusion_functions_nested::all_default_nested_functions();
        let default = datafusion_functions::all_default_functions().into_iter().chain(lists);
        let usable = default.filter(|function| !CLOCKS.contains(&function.name()));
        let mut functions = HashMap::new();
        for function in usable.chain(functions::all()) {
            for alias in function.aliases().iter().filter(|alias| !CLOCKS.contains(&alias.as_str())) {
                functions.insert(alias.clone(), function.clone());
            }
            functions.insert(function.name().to_owned(), function);
        }
        Context {
            functions,
            planners: vec![
                Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
                Arc::new(datafusion_functions_nested::planner::NestedFunctionPlanner),
                Arc::new(datafusion_functions_nested::planner::FieldAccessPlanner),
                Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
                Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
            ],
            options: ConfigOptions::default(),
            hint: RefCell::default(),
        }
    }
}

impl ContextProvider for Context {
    fn get_table_source(&self, name: TableReference) -> SqlResult<Arc<dyn TableSource>> {
        self.hint
            .replace(Some("a pipeline's SQL sees one record at a time: no FROM, no joins, no subqueries".to_owned()));
        plan_err!("there is no table {name}")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        if CLOCKS.contains(&name) {
            self.hint.replace(Some(format!(
                "{name} would give another answer when a record is read again; use _timestamp, or a column of the header \"received\""
            )));
        }
        let found = self.functions.get(name).cloned();
        if found.is_none() && self.hint.borrow().is_none() {
            let known: Vec<&str> = self.functions.keys().map(String::as_str).collect();
            let meant = nearest(name, &known).map_or(String::new(), |meant| format!("; did you mean {meant}?"));
            self.hint.replace(Some(format!("there is no function {name}{meant}")));
        }
        found
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        if AGGREGATES.contains(&name) {
            self.hint.replace(Some(format!("{name} needs many rows, and a pipeline's SQL sees one record at a time; windows are a step of their own")));
        }
        None
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use std::path::Path;

    const COLUMNS: &str =
        "[columns]\nuserId = \"string\"\nurl = \"string\"\nn = \"int64\"\nts = \"timestamp\"\nunused = \"string\"\n";

    fn plan(sql: &str) -> Result<Plan, Vec<String>> {
        let text = format!("from = \"topic:t\"\nto = {{ parquet = \"t\" }}\n{sql}\n{COLUMNS}");
        let spec = parse(Path::new("p.toml"), &text).unwrap_or_else(|m| panic!("{m:#?}"));
        Plan::of(&spec).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    fn rows(plan: &Plan, users: Vec<Option<&str>>, n: Vec<Option<i64>>) -> RecordBatch {
        let arrays = plan.input().fields().iter().map(|field| match field.name().as_str() {
            "userId" => Arc::new(StringArray::from(users.clone())) as ArrayRef,
            "n" => Arc::new(Int64Array::from(n.clone())) as ArrayRef,
            other => panic!("{other} is read"),
        });
        RecordBatch::try_new(plan.input().clone(), arrays.collect()).unwrap()
    }

    #[test]
    fn names_keep_their_case_and_only_what_is_used_is_read() {
        let plan = plan("where = \"n > 1\"\nselect = \"userId as user_id, n * 2 as twice\"").unwrap();
        let names: Vec<&str> = plan.columns().iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["userId", "n"]);
        let done =
            plan.run(&rows(&plan, vec![Some("a"), Some("b"), None, Some("d")], vec![Some(1), Some(2), Some(3), None]));
        assert_eq!((done.sources, done.rejected_false, done.rejected_null), (vec![1, 2], 1, 1));
        assert_eq!(done.rows.column(1).as_primitive::<arrow::datatypes::Int64Type>().values(), &[4, 6]);
    }

    #[test]
    fn a_row_that_fails_is_told_and_the_others_go_through() {
        let plan = plan("select = \"userId, 10 / n as part\"").unwrap();
        let n: Vec<Option<i64>> = (0..500).map(|at| Some(if at == 77 || at == 300 { 0 } else { 2 })).collect();
        let done = plan.run(&rows(&plan, vec![Some("u"); 500], n));
        let failed: Vec<u32> = done.faults.iter().map(|(at, _)| *at).collect();
        assert_eq!((failed, done.rows.num_rows()), (vec![77, 300], 498));
        assert!(!done.sources.contains(&77) && done.sources.contains(&78));
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
        let done = plan.run(&rows(&plan, vec![], vec![Some(1_700_000_000), Some(2)]));
        assert_eq!(done.rows.column(0).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
        assert_eq!(done.rows.num_rows(), 2);
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
        let decoder = super::super::rows::Decoder::new(plan.columns().to_vec(), plan.input().clone());
        let done = plan.run(&decoder.decode(0, &[record]).rows);
        let text = |at: usize| done.rows.column(at).as_string::<i32>().value(0).to_owned();
        assert_eq!([text(0), text(1), text(2), text(4)], ["https://x", "https://x", "x", "https"]);
        assert!(done.rows.column(3).as_boolean().value(0));
    }

    #[test]
    fn own_functions_and_sql_functions_are_known() {
        let plan =
            plan("where = \"not is_bot(userId)\"\nselect = \"upper(userId) as u, url_host(userId) as h\"").unwrap();
        let done = plan.run(&rows(&plan, vec![Some("https://a.example/x"), Some("Googlebot/2.1"), None], vec![]));
        assert_eq!(done.sources, vec![0, 2]);
        assert_eq!(done.rows.column(1).as_string::<i32>().value(0), "a.example");
    }
}
