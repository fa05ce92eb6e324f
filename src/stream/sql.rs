//! SQL of pipeline files: parsed and typed against what is in scope, with mistakes that point into the file. What becomes of it stands in
//! [`super::plan`].
//!
//! DataFusion's expressions without its engine. Row-wise by nature: what would depend on where a batch ends is refused.

mod aggregates;
mod beside;
mod constants;
mod depth;
mod dialect;
mod otherwise;
mod scope;
mod times;

pub(super) use aggregates::{Call, Fold};
pub(super) use scope::Scope;

use super::caught::caught;
use super::functions::{self, GeoFile};
use super::secrets::{self, Hidden};
use super::spec::Sql;
use crate::config::{Mistake, nearest};
use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DataFusionError, Result as SqlResult, ScalarValue, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{AggregateUDF, Expr, ExprSchemable, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast::{
    ExcludeSelectItem, Expr as Ast, Function, FunctionArguments, GroupByExpr, Ident, IdentWithAlias, ObjectName,
    RenameSelectItem, Select, SelectItem, SetExpr, TableFactor, WildcardAdditionalOptions, visit_expressions,
    visit_expressions_mut,
};
use datafusion_sql::sqlparser::keywords::ALL_KEYWORDS;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Token, Tokenizer};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

const ONE_RECORD: &str =
    "a pipeline's SQL sees one record at a time: FROM is left out, or FROM rows; no joins, no subqueries";

/// Names and expressions of a `select`.
pub(super) type Selected = Vec<(String, Expr)>;

/// SQL that is wrong, or names what nobody knows, and what is known of its columns all the same.
pub(super) struct Missed {
    /// None, where all that is wrong follows of what is wrong before.
    pub(super) mistakes: Vec<Mistake>,
    /// Its columns, those that are wrong as null.
    pub(super) rest: Selected,
    /// Those that are wrong.
    pub(super) wrong: Vec<String>,
    /// It may have others.
    pub(super) is_open: bool,
}

impl Missed {
    fn whole(mistakes: Vec<Mistake>) -> Missed {
        Missed { mistakes, rest: Vec::new(), wrong: Vec::new(), is_open: true }
    }
}

impl From<Missed> for Vec<Mistake> {
    fn from(missed: Missed) -> Vec<Mistake> {
        missed.mistakes
    }
}

/// Plans the SQL of one file.
pub(super) struct SqlPlanner<'a> {
    file: &'a Path,
    context: Context,
    /// What becomes of calls of `secret`.
    secrets: fn(Expr, &Path, &mut Vec<String>) -> SqlResult<Expr>,
    /// What they hold.
    filled: RefCell<Vec<String>>,
    geo: RefCell<Vec<Arc<GeoFile>>>,
    warnings: RefCell<BTreeSet<String>>,
}

impl<'a> SqlPlanner<'a> {
    pub(super) fn new(file: &'a Path) -> SqlPlanner<'a> {
        SqlPlanner {
            file,
            context: Context::new(),
            secrets: secrets::resolve,
            filled: RefCell::default(),
            geo: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// For expressions that are shown and never run: secrets are named in them, and not read.
    pub(super) fn to_show(file: &'a Path) -> SqlPlanner<'a> {
        SqlPlanner { secrets: secrets::name, ..SqlPlanner::new(file) }
    }

    /// The secrets that were filled in so far.
    pub(super) fn filled(&self) -> Hidden {
        Hidden::of(self.filled.borrow().clone())
    }

    /// The files of MaxMind's that its SQL asks.
    pub(super) fn geo(&self) -> Vec<Arc<GeoFile>> {
        self.geo.borrow().clone()
    }

    /// A truth.
    ///
    /// # Errors
    /// What is wrong, and where; nothing, if that follows of what is wrong before.
    pub(super) fn filter(&self, scope: &Scope, sql: &Sql) -> Result<Expr, Vec<Mistake>> {
        let ast = self.parse(sql, |parser| parser.parse_expr()).map_err(|wrong| vec![wrong])?;
        self.truth(scope, sql, ast)
    }

    fn truth(&self, scope: &Scope, sql: &Sql, ast: Ast) -> Result<Expr, Vec<Mistake>> {
        let expr = self.plan(scope, sql, ast)?;
        match expr.get_type(scope.schema()) {
            Ok(DataType::Boolean) => Ok(expr),
            Ok(_) if scope.makes_vague(&expr) => Err(Vec::new()),
            Ok(kind) => Err(vec![self.mistake(sql, format!("it must be true or false, this is {kind}"))]),
            Err(error) => Err(vec![self.mistake(sql, readable(&error))]),
        }
    }

    /// Named expressions, comma separated.
    ///
    /// # Errors
    /// All that is wrong, and where.
    pub(super) fn select(&self, scope: &Scope, sql: &Sql) -> Result<Selected, Missed> {
        let items = self.parse(sql, |parser| parser.parse_projection());
        let items = items.map_err(|wrong| Missed::whole(vec![wrong]))?;
        self.selected(scope, sql, items)
    }

    /// `SELECT … [FROM rows] [WHERE …]`: what is kept, and what becomes of it.
    ///
    /// # Errors
    /// All that is wrong, and where.
    pub(super) fn query(&self, scope: &Scope, sql: &Sql) -> Result<(Option<Expr>, Selected), Missed> {
        let query = self.parse(sql, |parser| parser.parse_query()).map_err(|wrong| Missed::whole(vec![wrong]))?;
        let wrong = |message: &str| Missed::whole(vec![self.mistake(sql, message.to_owned())]);
        let whole = query.to_string();
        let SetExpr::Select(select) = *query.body else {
            return Err(wrong("it is one SELECT, without UNION and the like"));
        };
        let mut mistakes = Vec::new();
        let has_groups = !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
        if whole != plain(&select) {
            let message = "a pipeline's SQL sees one record at a time: SELECT … [FROM rows] [WHERE …], and no DISTINCT (a dedupe step), GROUP BY (a window step), ORDER BY, LIMIT or WITH";
            if has_groups {
                return Err(wrong(message));
            }
            mistakes.push(self.mistake(sql, message.to_owned()));
        }
        let is_rows = match select.from.as_slice() {
            [] => true,
            [from] => {
                from.joins.is_empty()
                    && matches!(&from.relation, TableFactor::Table { .. })
                    && from.relation.to_string() == "rows"
            }
            _ => false,
        };
        if !is_rows {
            // What it selects is of something else.
            return Err(Missed::whole([mistakes, vec![self.mistake(sql, ONE_RECORD.to_owned())]].concat()));
        }
        let Select { projection, selection, .. } = *select;
        let filter = selection.map(|ast| self.truth(scope, sql, ast)).transpose();
        let is_right = filter.is_ok() && mistakes.is_empty();
        let filter = filter.unwrap_or_else(|told| {
            mistakes.extend(told);
            None
        });
        match self.selected(scope, sql, projection) {
            Ok(selected) if is_right => Ok((filter, selected)),
            Ok(rest) => Err(Missed { mistakes, rest, wrong: Vec::new(), is_open: false }),
            Err(missed) => {
                mistakes.extend(missed.mistakes);
                Err(Missed { mistakes, ..missed })
            }
        }
    }

    fn selected(&self, scope: &Scope, sql: &Sql, items: Vec<SelectItem>) -> Result<Selected, Missed> {
        let mut out: Selected = Vec::new();
        let (mut mistakes, mut wrong, mut is_open) = (Vec::new(), Vec::new(), false);
        for item in items {
            let (name, ast) = match item {
                SelectItem::Wildcard(but) => {
                    is_open |= scope.is_open();
                    match self.all_but(scope, sql, but) {
                        Ok(columns) => out.extend(columns),
                        Err(told) => {
                            is_open = true;
                            mistakes.extend(told);
                        }
                    }
                    continue;
                }
                SelectItem::ExprWithAlias { expr, alias } => (alias.value, expr),
                SelectItem::UnnamedExpr(expr) => match with_columns(scope, expr) {
                    Ast::Identifier(name) => (name.value.clone(), Ast::Identifier(name)),
                    expr => {
                        // What names it by its alias-to-be is right.
                        is_open = true;
                        mistakes.push(self.mistake(sql, format!("give this a name: {expr} as NAME")));
                        continue;
                    }
                },
                other => {
                    let message = format!("{other} is not a column; write an expression as NAME");
                    is_open = true;
                    mistakes.push(self.mistake(sql, message));
                    continue;
                }
            };
            if matches!(&ast, Ast::Identifier(word) if word.value.eq_ignore_ascii_case("distinct") && scope.kind(&word.value).is_none())
            {
                let message = "distinct needs many rows, and a pipeline's SQL sees one record at a time: dedupe is a step of its own, dedupe = { key = [\"…\"], ttl = \"1h\" }";
                is_open = true;
                mistakes.push(self.mistake(sql, message.to_owned()));
                continue;
            }
            match self.plan(scope, sql, ast) {
                Ok(expr) => match expr.get_type(scope.schema()) {
                    Ok(DataType::Interval(_)) => {
                        let message = format!(
                            "{name} is an interval, which is not written: cast({name} as string), or what is between two times as microseconds, cast(b - a as bigint)"
                        );
                        mistakes.push(self.mistake(sql, message));
                        out.push((name.clone(), Expr::Literal(ScalarValue::Null, None)));
                        wrong.push(name);
                    }
                    _ => out.push((name, expr)),
                },
                Err(told) => {
                    mistakes.extend(told);
                    out.push((name.clone(), Expr::Literal(ScalarValue::Null, None)));
                    wrong.push(name);
                }
            }
        }
        let mut names = BTreeSet::new();
        let mut is_twice = |(name, _): &(String, Expr)| !names.insert(name.clone());
        let twice: BTreeSet<String> = out.extract_if(.., |one| is_twice(one)).map(|(name, _)| name).collect();
        mistakes.extend(twice.iter().map(|name| self.mistake(sql, format!("two columns are named {name}"))));
        wrong.extend(twice);
        match mistakes.is_empty() && wrong.is_empty() && !is_open {
            true => Ok(out),
            false => Err(Missed { mistakes, rest: out, wrong, is_open }),
        }
    }

    /// `*`, and what is said behind it: `except (a)`, `exclude (a)`, `replace (upper(a) as a)`, `rename (a as b)`.
    fn all_but(&self, scope: &Scope, sql: &Sql, but: WildcardAdditionalOptions) -> Result<Selected, Vec<Mistake>> {
        let WildcardAdditionalOptions {
            opt_ilike, opt_exclude, opt_except, opt_replace, opt_rename, opt_alias, ..
        } = but;
        let wrong = |message: String| vec![self.mistake(sql, message)];
        if opt_ilike.is_some() || opt_alias.is_some() {
            return Err(wrong(
                "behind * stand except (…), replace (… as …) and rename (… as …), and nothing else".to_owned(),
            ));
        }
        let excluded = match opt_exclude {
            Some(ExcludeSelectItem::Single(name)) => vec![name],
            Some(ExcludeSelectItem::Multiple(names)) => names,
            None => Vec::new(),
        };
        // Names as they are written, without their quotes.
        let plain = |name: ObjectName| {
            name.0
                .iter()
                .filter_map(|part| part.as_ident())
                .map(|name| name.value.clone())
                .collect::<Vec<_>>()
                .join(".")
        };
        let mut gone: Vec<String> = excluded.into_iter().map(plain).collect();
        gone.extend(
            opt_except
                .into_iter()
                .flat_map(|list| [vec![list.first_element], list.additional_elements].concat())
                .map(|name| name.value),
        );
        let renamed = match opt_rename {
            Some(RenameSelectItem::Single(one)) => vec![one],
            Some(RenameSelectItem::Multiple(all)) => all,
            None => Vec::new(),
        };
        let replaced =
            opt_replace.into_iter().flat_map(|list| list.items).map(|item| (item.column_name.value, item.expr));
        let mut made = BTreeMap::new();
        for (name, ast) in replaced {
            made.insert(name, self.plan(scope, sql, ast)?);
        }
        let renamed: BTreeMap<String, String> =
            renamed.into_iter().map(|IdentWithAlias { ident, alias }| (ident.value, alias.value)).collect();
        let named = gone.iter().chain(made.keys()).chain(renamed.keys());
        let known: Vec<&str> = scope.shown().iter().map(String::as_str).collect();
        let is_none = |name: &&String| !scope.is_open() && !known.contains(&name.as_str());
        if let Some(unknown) = named.into_iter().find(is_none) {
            let meant = nearest(unknown, &known)
                .map_or_else(|| format!("known: {}", known.join(", ")), |meant| format!("did you mean {meant}?"));
            return Err(wrong(format!("* has no column {unknown}; {meant}")));
        }
        let shown = scope.shown().iter().filter(|name| !gone.contains(name));
        Ok(shown
            .map(|name| {
                let expr = made.remove(name).unwrap_or_else(|| Scope::column(name));
                (renamed.get(name).unwrap_or(name).clone(), expr)
            })
            .collect())
    }

    fn parse<T>(&self, sql: &Sql, read: impl FnOnce(&mut Parser<'_>) -> Result<T, ParserError>) -> Result<T, Mistake> {
        let dialect = dialect::Patient::new(&sql.text);
        let tokens = Tokenizer::new(&dialect, &sql.text).tokenize_with_location().map_err(ParserError::from);
        let parsed = tokens.and_then(|tokens| {
            if let Some(token) = depth::too_deep(&tokens) {
                return Err(ParserError::ParserError(format!(
                    "it is more than {} levels deep: a list is shorter as x in ('a', 'b') or regexp_like(x, 'a|b'), the rest in a step of its own{}",
                    depth::DEPTH_MAX,
                    token.span.start
                )));
            }
            if let Some(token) = depth::inner_query(&tokens) {
                return Err(ParserError::ParserError(format!("{ONE_RECORD}{}", token.span.start)));
            }
            let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
            let read = read(&mut parser)?;
            let rest = parser.peek_token();
            if rest.token == Token::EOF { Ok(read) } else { parser.expected("end of expression", rest) }
        });
        parsed.map_err(|error| {
            let text = match error {
                ParserError::RecursionLimitExceeded if dialect.is_lost() => format!(
                    "there is a mistake here or before, behind so much that stands within each other that it cannot be told better: take it apart{}",
                    dialect.farthest()
                ),
                ParserError::RecursionLimitExceeded => format!(
                    "too much stands within each other here: what is within goes into a select step of its own, before this{}",
                    dialect.farthest()
                ),
                other => other.to_string(),
            };
            let place = place_in(&text);
            let message = text.trim_start_matches("sql parser error: ");
            let message = message.rsplit_once(" at Line: ").map_or(message, |(message, _)| message);
            let message = format!("{message}{}", word_of_sql(message));
            match place {
                Some((1, column)) => Mistake { column: sql.column + column - 1, ..self.mistake(sql, message) },
                Some((line, column)) => Mistake { line: sql.line + line - 1, column, ..self.mistake(sql, message) },
                None => self.mistake(sql, message),
            }
        })
    }

    /// Types an expression, coerces and simplifies it.
    ///
    /// # Errors
    /// What is wrong, and where; nothing, if that follows of what is wrong before.
    fn plan(&self, scope: &Scope, sql: &Sql, ast: Ast) -> Result<Expr, Vec<Mistake>> {
        let options = ParserOptions {
            enable_ident_normalization: false,
            map_string_types_to_utf8view: false,
            ..ParserOptions::new()
        };
        let ast = with_columns(scope, ast);
        let shown = ast.to_string();
        if let Some(message) = unheard(&ast) {
            return Err(vec![self.mistake(sql, message)]);
        }
        let is_vague = visit_expressions(&ast, |expr| match expr {
            Ast::Identifier(name) if scope.is_vague(&name.value) => ControlFlow::Break(()),
            Ast::CompoundIdentifier(names) if scope.is_vague(&names[0].value) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        let is_vague = is_vague.is_break();
        // Names are judged first, whatever types columns have.
        let is_typing = Cell::new(false);
        self.context.hint.replace(None);
        let planner = SqlToRel::new_with_options(&self.context, options);
        let plan = || {
            let expr = planner.sql_to_expr(ast, scope.schema(), &mut PlannerContext::new())?;
            row_wise(&expr)?;
            let info = SimplifyContext::builder().with_schema(scope.schema().clone()).build();
            let simplifier = ExprSimplifier::new(info);
            let expr = (self.secrets)(expr, self.file, &mut self.filled.borrow_mut())?;
            let expr = functions::bind(expr, self.file, &mut self.geo.borrow_mut())?;
            is_typing.set(true);
            let expr = times::in_micros(expr, scope.schema(), &self.context, &simplifier)?;
            let coerced = simplifier.coerce(expr.clone(), scope.schema())?;
            self.note_texts_as_numbers(scope, &expr, &coerced);
            constants::fit(&coerced, &simplifier)?;
            constants::say_something(&expr, scope.schema(), &simplifier)?;
            let expr = simplifier.simplify(coerced)?;
            // A function judges its arguments when it is asked for its type; here the place in the SQL is still known.
            expr.get_type(scope.schema()).map(|_| expr)
        };
        caught(plan).map_err(|error| {
            // What is made of constants is made now, and fails with them.
            let hint = self.context.hint.take();
            let told = readable(&error);
            let name = no_column(&told).filter(|_| hint.is_none());
            let follows = match name {
                Some(name) => scope.is_open() || is_vague && name.contains('.'),
                None => is_vague && is_typing.get() && hint.is_none(),
            };
            if follows {
                return Vec::new();
            }
            let hint = hint.or_else(|| name.map(|name| what_is_meant(scope, name)));
            let reason = hint.unwrap_or_else(|| self.filled().masked(&told));
            let place = sql.text.find(&shown).filter(|at| !sql.text[..*at].contains('\n')).unwrap_or(0);
            vec![Mistake { column: sql.column + sql.text[..place].chars().count(), ..self.mistake(sql, reason) }]
        })
    }

    /// A text beside a number is read as one, which few mean.
    fn note_texts_as_numbers(&self, scope: &Scope, before: &Expr, after: &Expr) {
        let asked = texts_as_numbers(scope, before);
        for (name, kind) in texts_as_numbers(scope, after).difference(&asked) {
            self.warnings.borrow_mut().insert(format!(
                "{name} is text and is read as {kind}: \"01\" is 1 then, and what is no number becomes a dead letter; write the other side in quotes, or cast({name} as …) if it is meant"
            ));
        }
    }

    /// What is right and perhaps not meant.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings.borrow().iter().cloned().collect()
    }

    /// Something that is wrong with SQL as a whole.
    pub(super) fn mistake(&self, sql: &Sql, message: String) -> Mistake {
        Mistake {
            file: self.file.to_owned(),
            line: sql.line,
            column: sql.column,
            field: Some(sql.field.clone()),
            message,
        }
    }
}

/// What to do about a word of SQL that stands where none is expected: it may be a column.
fn word_of_sql(message: &str) -> String {
    let found = message.rsplit_once("found: ").map_or("", |(_, found)| found);
    match ALL_KEYWORDS.contains(&found.to_uppercase().as_str()) {
        true => {
            format!("; it is a word of SQL: a column of that name is written in double quotes, as \\\"{found}\\\" here")
        }
        false => String::new(),
    }
}

/// `user` and its like are calls to a SQL parser; where a column has that name, the column is meant.
fn with_columns(scope: &Scope, mut ast: Ast) -> Ast {
    let _ = visit_expressions_mut(&mut ast, |expr| {
        let name = match expr {
            Ast::Function(call) if matches!(call.args, FunctionArguments::None) => call.name.to_string(),
            _ => return ControlFlow::Continue(()),
        };
        if scope.kind(&name).is_some() || scope.is_open() {
            *expr = Ast::Identifier(Ident::new(name));
        }
        ControlFlow::<()>::Continue(())
    });
    ast
}

/// What a call says beside its arguments, which the planner of row-wise functions passes over.
fn unheard(ast: &Ast) -> Option<String> {
    let found = visit_expressions(ast, |expr| {
        let Ast::Function(call) = expr else { return ControlFlow::Continue(()) };
        let said = call.to_string();
        if said == heard(call) { ControlFlow::Continue(()) } else { ControlFlow::Break(said) }
    });
    let ControlFlow::Break(call) = found else { return None };
    Some(format!(
        "{call}: a pipeline's SQL sees one record at a time, and a function has its arguments alone, without over, filter, distinct, order by or nulls; windows are a step of their own, window = {{ tumbling = \"1m\", select = \"…\" }}"
    ))
}

/// The text of a call with its name and its arguments, and nothing else.
fn heard(call: &Function) -> String {
    match &call.args {
        FunctionArguments::None => call.name.to_string(),
        FunctionArguments::Subquery(query) => format!("{}({query})", call.name),
        FunctionArguments::List(list) => {
            let arguments: Vec<String> = list.args.iter().map(ToString::to_string).collect();
            format!("{}({})", call.name, arguments.join(", "))
        }
    }
}

/// The name that is none, of what DataFusion says then.
fn no_column(told: &str) -> Option<&str> {
    let name = told.strip_prefix("No field named ")?;
    let name = name.split(". ").next().unwrap_or(name);
    Some(name.trim_end_matches('.').trim_matches('"'))
}

/// What is said of a name that is none.
fn what_is_meant(scope: &Scope, name: &str) -> String {
    let known = scope.names();
    let to_do = match nearest(name, &known) {
        Some(meant) => format!("did you mean {meant}?"),
        None if scope.shown().is_empty() => format!("[columns] declares what is read of a record: {name} = \"string\""),
        None => format!("known: {}; a text stands in single quotes, '{name}'", known.join(", ")),
    };
    format!("there is no column {name}: {to_do}")
}

/// The text of a query with what it selects, from where and what it keeps, and nothing else.
fn plain(select: &Select) -> String {
    let list = |items: Vec<String>| items.join(", ");
    let items = list(select.projection.iter().map(ToString::to_string).collect());
    let from = list(select.from.iter().map(ToString::to_string).collect());
    let from = if from.is_empty() { from } else { format!(" FROM {from}") };
    let filter = select.selection.as_ref().map_or(String::new(), |filter| format!(" WHERE {filter}"));
    format!("SELECT {items}{from}{filter}")
}

/// Nothing in it needs more than one row, or values from elsewhere.
fn row_wise(expr: &Expr) -> SqlResult<()> {
    expr.apply(|expr| match expr {
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => {
            plan_err!("{ONE_RECORD}")
        }
        Expr::Placeholder(placeholder) => plan_err!("{} is a placeholder, and nothing fills it", placeholder.id),
        _ => Ok(TreeNodeRecursion::Continue),
    })
    .map(|_| ())
}

/// DataFusion's message without its layers.
pub(super) fn readable(error: &DataFusionError) -> String {
    let text = error.strip_backtrace().lines().next().unwrap_or_default().to_owned();
    if let Some(here) = otherwise::of_error(&text) {
        return here.to_owned();
    }
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
const AGGREGATES: [&str; 21] = [
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
    "approx_percentile",
    "row_number",
    "rank",
    "dense_rank",
    "ntile",
    "lag",
    "lead",
    "nth_value",
    "string_agg",
];

impl Context {
    fn new() -> Context {
        let lists = datafusion_functions_nested::all_default_nested_functions();
        let default = datafusion_functions::all_default_functions().into_iter().chain(lists);
        let usable = default.filter(|function| !CLOCKS.contains(&function.name()));
        let mut functions = HashMap::new();
        for function in usable.map(functions::limited).chain(functions::all()) {
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
        self.hint.replace(Some(ONE_RECORD.to_owned()));
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
        if name == "unnest" {
            self.hint.replace(Some("unnest makes rows, and is a step of its own: unnest = \"LIST\"".to_owned()));
        }
        let found = self.functions.get(name).cloned();
        if found.is_none() && self.hint.borrow().is_none() {
            let known: Vec<&str> = self.functions.keys().map(String::as_str).collect();
            let meant = match otherwise::of_name(name) {
                Some(here) => format!("; here it is {here}"),
                None => nearest(name, &known).map_or(String::new(), |meant| format!("; did you mean {meant}?")),
            };
            self.hint.replace(Some(format!("there is no function {name}{meant}")));
        }
        found
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        if AGGREGATES.contains(&name) {
            self.hint.replace(Some(format!("{name} needs many rows, and a pipeline's SQL sees one record at a time; windows are a step of their own, window = {{ tumbling = \"1m\", select = \"…\" }}")));
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
/// Columns that hold text and that an expression makes a number, and which.
fn texts_as_numbers(scope: &Scope, expr: &Expr) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let visited = expr.apply(|expr| {
        if let Expr::Cast(cast) = expr
            && let Expr::Column(column) = &*cast.expr
            && scope.kind(&column.name) == Some(&DataType::Utf8)
            && cast.field.data_type().is_numeric()
        {
            found.insert((column.name.clone(), cast.field.data_type().to_string()));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "it cannot fail");
    found
}
