//! `inrush pipeline check` and `test`: a file judged, and its own tests run through the real decoder and plan, without a daemon.

use super::checkpoint::Checkpoint;
use super::enrich::TableReport;
use super::explain::Seen;
use super::fault::Reason;
use super::kinds;
use super::load::{self, Job};
use super::rows::Decoder;
use super::sink::place::Place;
use super::sink::{bucket, lake};
use super::spec::{Column, Expect, Given, Output, Route, Rule, Step, TableFrom, Test};
use super::state::States;
use super::step::{JsonLines, Rows};
use crate::config::Mistake;
use crate::json::Node;
use crate::record::{Offset, Record};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// Digits that every float holds.
const FLOAT_DIGITS: usize = 15;

/// A file that is right.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    pub name: String,
    pub source: String,
    /// Columns that are read of each record.
    pub reads: Vec<String>,
    /// Name and Arrow type of what comes out.
    pub writes: Vec<(String, String)>,
    /// Columns that come of a JSON Schema, and their types.
    pub schema_columns: Vec<(String, String)>,
    /// What `enrich` looks up in.
    pub tables: Vec<TableReport>,
    pub tests: usize,
    /// What is right and perhaps not meant.
    pub warnings: Vec<String>,
    /// What events were held against it, if any were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
}

/// How one `[[test]]` went.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Tested {
    pub line: usize,
    pub expected: String,
    pub got: String,
    pub passed: bool,
}

/// Checks a file; with `out`, also that its Parquet folder below that takes its columns.
///
/// # Errors
/// All its mistakes, with line and column.
pub fn check(path: &Path, out: Option<&Path>) -> Result<Report, Vec<Mistake>> {
    let job = load::file(path)?;
    for route in &job.spec.routes {
        let (Output::Parquet(to), Some(out)) = (&route.to, out) else { continue };
        if to.store.is_some() {
            continue;
        }
        let place = Place::Folder(out.join(&to.folder));
        lake::check_schema(&place, &route.schema(job.plan.output())).map_err(|error| {
            let made_by = job.spec.steps.iter().rev().find_map(|step| match step {
                Step::Select(sql) | Step::Sql(sql) => Some(sql),
                _ => None,
            });
            let (line, column) = made_by.map_or((0, 0), |sql| (sql.line, sql.column));
            let field = Some(made_by.map_or("columns".to_owned(), |sql| sql.field.clone()));
            vec![Mistake { file: path.to_owned(), line, column, field, message: error.to_string() }]
        })?;
    }
    let is_unread = |column: &&Column| !job.plan.columns().iter().any(|read| read.name == column.name);
    // A schema has what others need too.
    let is_own = |column: &&Column| !job.spec.schema_columns.contains(&column.name);
    let unread = job.spec.columns.iter().filter(is_unread).filter(is_own);
    let mut warnings: Vec<String> =
        unread.map(|column| format!("column {} is read by no step and no route", column.name)).collect();
    if job.spec.routes.iter().all(|route| matches!(route.rule, Rule::Where(_) | Rule::Late)) {
        warnings.push("rows that no route takes are left out; a route with otherwise = true takes them".to_owned());
    }
    let stores = job.spec.routes.iter().filter_map(|route| match &route.to {
        Output::Parquet(to) => to.store.as_ref(),
        Output::Topic(_) | Output::Kafka(_) | Output::Http(_) | Output::Stdout => None,
    });
    warnings.extend(stores.filter_map(bucket::lacks));
    warnings.extend(job.plan.warnings().iter().cloned());
    warnings.extend(moving_table(&job));
    let fields = job.plan.output().fields().iter();
    Ok(Report {
        name: job.spec.name.clone(),
        source: job.spec.source(),
        reads: job.plan.columns().iter().map(|column| column.name.clone()).collect(),
        writes: fields.map(|field| (field.name().clone(), field.data_type().to_string())).collect(),
        schema_columns: schema_columns(&job),
        tables: job.plan.look_ups().map(|table| table.report()).collect(),
        tests: job.spec.tests.len(),
        warnings,
        seen: None,
    })
}

fn schema_columns(job: &Job) -> Vec<(String, String)> {
    let of = job.spec.columns.iter().filter(|column| job.spec.schema_columns.contains(&column.name));
    of.map(|column| (column.name.clone(), kinds::word(&column.kind))).collect()
}

/// Runs a file's tests.
///
/// # Errors
/// The file's mistakes, if it is not right.
pub fn test(path: &Path) -> Result<Vec<Tested>, Vec<Mistake>> {
    let job = load::file(path)?;
    Ok(job.spec.tests.iter().map(|test| run(&job, test)).collect())
}

/// A pipeline file's text, planned, for one record at a time and without a folder.
pub struct Trial {
    job: Job,
}

impl Trial {
    /// # Errors
    /// All mistakes of the text.
    pub fn new(text: &str) -> Result<Trial, Vec<Mistake>> {
        Ok(Trial { job: load::text(Path::new("trial.toml"), text)? })
    }

    /// The first row that a record becomes, as JSON; `None` if it is filtered or a dead letter.
    pub fn run(&self, record: &Record) -> Option<Value> {
        match transform(&self.job, &[(0, record.clone())], Duration::ZERO) {
            Became::Rows(came) => serde_json::from_str(came.rows.first()?).ok(),
            Became::Dead(..) | Became::Down(_) => None,
        }
    }
}

/// Whether a pipeline's checkpoint can be read.
///
/// # Errors
/// The system's; `InvalidData` with what is wrong.
pub fn read_checkpoint(path: &Path) -> std::io::Result<()> {
    Checkpoint::load(path).map(drop)
}

/// What one record becomes.
pub(super) enum Became {
    Rows(Came),
    Dead(Reason, String),
    /// A schema could not be got.
    Down(String),
}

/// Rows as JSON, each once, and the outputs that took any of them, as `topic people`.
#[derive(Default)]
pub(super) struct Came {
    pub(super) rows: Vec<String>,
    pub(super) outputs: Vec<String>,
}

/// What a test's records become.
pub(super) fn became(job: &Job, test: &Test) -> Became {
    job.plan.set_tables(
        &test.tables.iter().map(|(topic, rows)| (topic.as_str(), rows.iter().map(given).collect())).collect(),
    );
    let records: Vec<(i32, Record)> = test.given.iter().map(|one| (one.partition, given(one))).collect();
    transform(job, &records, test.quiet)
}

/// Whether that is what the test expects.
pub(super) fn passes(test: &Test, became: &Became) -> bool {
    match (&test.expect, became) {
        (Expect::Rows { rows, outputs }, Became::Rows(came)) => {
            let is_there = outputs.as_ref().is_none_or(|wanted| *wanted == came.outputs);
            is_there
                && rows.len() == came.rows.len()
                && rows.iter().zip(&came.rows).all(|(wanted, row)| holds(row, wanted))
        }
        (Expect::Dead(wanted), Became::Dead(reason, _)) => wanted == reason,
        _ => false,
    }
}

fn run(job: &Job, test: &Test) -> Tested {
    let became = became(job, test);
    let passed = passes(test, &became);
    let expected = match &test.expect {
        Expect::Rows { rows, outputs } => shown(rows, outputs.as_deref().unwrap_or_default()),
        Expect::Dead(reason) => format!("dead letter: {}", reason.as_str()),
    };
    let got = match &became {
        Became::Rows(came) => {
            let is_asked = matches!(&test.expect, Expect::Rows { outputs: Some(_), .. });
            shown(&came.rows, if is_asked { &came.outputs } else { &[] })
        }
        Became::Dead(reason, message) => format!("dead letter: {} ({message})", reason.as_str()),
        Became::Down(reason) => reason.clone(),
    };
    Tested { line: test.line, expected, got, passed }
}

/// Only the columns that the test names are compared: the others may grow.
fn holds(row: &str, wanted: &str) -> bool {
    match (Node::parse(row.as_bytes()), Node::parse(wanted.as_bytes())) {
        (Ok(row), Ok(Node::Object(wanted))) => {
            wanted.iter().all(|(name, value)| is_same_field(row.field(name), Some(value)))
        }
        _ => false,
    }
}

fn shown(rows: &[String], outputs: &[String]) -> String {
    let shown = match rows {
        [] => "filtered".to_owned(),
        [row] => row.clone(),
        rows => format!("[{}]", rows.join(",")),
    };
    if outputs.is_empty() { shown } else { format!("{shown} to {}", outputs.join(" and ")) }
}

/// Equal values; times are equal if they are the same moment, numbers if they are the same number, and of objects what is not there is null.
fn same(row: &Node<'_>, wanted: &Node<'_>) -> bool {
    let time = |text: &str| chrono::DateTime::parse_from_rfc3339(text).ok();
    match (row, wanted) {
        (Node::Text(row), Node::Text(wanted)) => {
            row == wanted || matches!((time(row), time(wanted)), (Some(row), Some(wanted)) if row == wanted)
        }
        (Node::List(row), Node::List(wanted)) => {
            row.len() == wanted.len() && row.iter().zip(wanted).all(|(row, wanted)| same(row, wanted))
        }
        (Node::Object(fields), Node::Object(others)) => {
            let mut names = fields.iter().chain(others).map(|(name, _)| name);
            names.all(|name| is_same_field(row.field(name), wanted.field(name)))
        }
        _ => row == wanted || is_same_number(&row.to_json(), &wanted.to_json()),
    }
}

fn is_same_field(row: Option<&Node<'_>>, wanted: Option<&Node<'_>>) -> bool {
    match (row, wanted) {
        (Some(row), Some(wanted)) => same(row, wanted),
        (Some(only), None) | (None, Some(only)) => *only == Node::Null,
        (None, None) => true,
    }
}

/// Digit by digit; or both near one float, of which the first has no more digits than every float holds.
fn is_same_number(row: &str, wanted: &str) -> bool {
    let (Some(row_digits), Some(wanted_digits)) = (digits(row), digits(wanted)) else { return false };
    let is_float = row.contains('.')
        && row_digits.1.len() <= FLOAT_DIGITS
        && row.parse().is_ok_and(|row: f64| wanted.parse() == Ok(row));
    row_digits == wanted_digits || is_float
}

/// Whether it is negative, its digits without zeros around them, and how many places before the point they begin; `None` if it is no number.
fn digits(number: &str) -> Option<(bool, String, i64)> {
    let (is_negative, number) = number.strip_prefix('-').map_or((false, number), |number| (true, number));
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = all.trim_start_matches('0');
    let places = exponent.parse::<i64>().ok()?.saturating_add(whole.len() as i64 - (all.len() - digits.len()) as i64);
    let digits = digits.trim_end_matches('0');
    let is_zero = digits.is_empty();
    Some((is_negative && !is_zero, digits.to_owned(), if is_zero { 0 } else { places }))
}

fn given(given: &Given) -> Record {
    let header = |(name, value): &(String, Vec<u8>)| (Bytes::from(name.clone()), Some(Bytes::from(value.clone())));
    Record {
        offset: Offset(given.offset),
        timestamp: given.timestamp,
        key: given.key.clone().map(Bytes::from),
        value: given.value.clone().map(Bytes::from),
        headers: given.headers.iter().map(header).collect(),
    }
}

/// Takes records through a pipeline one by one; then none comes for a while.
fn transform(job: &Job, records: &[(i32, Record)], quiet: Duration) -> Became {
    let plan = &job.plan;
    let decoder = Decoder::new(&job.spec.format, plan.columns().to_vec(), plan.input().clone());
    let mut states = States::default();
    let mut came = Came::default();
    for (partition, record) in records {
        let decoded = match decoder.decode_fetching(*partition, std::slice::from_ref(record)) {
            Ok(decoded) => decoded,
            Err(reason) => return Became::Down(reason),
        };
        if let Some((_, fault)) = decoded.faults.first() {
            return Became::Dead(fault.reason, fault.message.to_string());
        }
        let mut done = plan.run(Rows { batch: decoded.rows, sources: decoded.sources });
        let mut faults = std::mem::take(&mut done.faults);
        if plan.is_stateful() {
            let rows = done.routes.pop().unwrap_or_else(|| plan.no_rows());
            let remembered =
                states.of(*partition, plan).run(plan, *partition, std::slice::from_ref(record), rows, faults);
            (done.routes, faults) = (remembered.routes, remembered.bad);
        }
        if let Some((_, fault)) = faults.first() {
            return Became::Dead(fault.reason, fault.message.to_string());
        }
        came.note(job, &done.routes);
    }
    for done in states.let_go(plan, Some(quiet), None) {
        if let Some((_, fault)) = done.bad.first() {
            return Became::Dead(fault.reason, fault.message.to_string());
        }
        came.note(job, &done.routes);
    }
    Became::Rows(came)
}

impl Came {
    fn note(&mut self, job: &Job, routes: &[Rows]) {
        let mut rows_of_now: Vec<String> = Vec::new();
        for (rows, route) in routes.iter().zip(&job.spec.routes).filter(|(rows, _)| rows.len() > 0) {
            let name = route.to.to_string();
            if !self.outputs.contains(&name) {
                self.outputs.push(name);
            }
            for row in as_json(&rows.batch) {
                if !rows_of_now.contains(&row) {
                    rows_of_now.push(row);
                }
            }
        }
        self.rows.append(&mut rows_of_now);
    }
}

fn as_json(rows: &RecordBatch) -> Vec<String> {
    let lines = JsonLines::of(rows).ok();
    let text = |line: &[u8]| String::from_utf8(line.to_vec()).ok();
    lines.and_then(|lines| lines.iter().map(text).collect()).unwrap_or_default()
}

/// A topic has no copies: an output that is behind, or a start after a crash, meets what its table says by then.
fn moving_table(job: &Job) -> Option<String> {
    let spec = &job.spec;
    let topic = spec.steps.iter().find_map(|step| match step {
        Step::Enrich(enrich) => matches!(enrich.from, TableFrom::Topic(_)).then(|| enrich.from.to_string()),
        _ => None,
    })?;
    let goes_by_rows = |route: &Route| {
        let is_keyed = matches!(&route.to, Output::Topic(to) if to.key.is_some());
        is_keyed || (matches!(route.rule, Rule::Where(_)) && spec.routes.len() > 1)
    };
    let is_moving = !job.plan.is_stateful() && spec.routes.iter().any(goes_by_rows);
    is_moving.then(|| {
        format!(
            "{topic} goes on while an output is down or behind: if a route's where, or a topic's key, goes by what is looked up in it, a row may come to two places then, or to none; go by a file, or by what the event says"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_moves_on_is_warned_of_where_routes_may_go_by_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        let is_warned = |step: &str, route: &str| {
            let text = format!(
                "from = \"topic:t\"\n[columns]\nid = \"string\"\n[[step]]\nenrich = {{ from = \"topic:users\", on = \"id\", types = {{ plan = \"string\" }} }}\n{step}[[route]]\n{route}to = {{ topic = \"a\" }}\n[[route]]\nto = {{ topic = \"b\" }}\n"
            );
            std::fs::write(&file, text).unwrap();
            let report = check(&file, None).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
            report.warnings.iter().any(|told| told.contains("topic:users goes on"))
        };
        assert!(is_warned("", "where = \"plan = 'pro'\"\n"));
        assert!(!is_warned("", ""), "all rows go everywhere");
        assert!(is_warned("", "to = { topic = \"c\", key = \"plan\" }\n[[route]]\n"), "two partitions of one topic");
        let together = "[[step]]\ndedupe = { key = [\"_key\", \"id\"], ttl = \"1h\" }\n";
        assert!(!is_warned(together, "where = \"plan = 'pro'\"\n"), "outputs stand together");
    }

    #[test]
    fn a_column_that_nobody_reads_is_named_and_all_mistakes_come_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        let columns = "[columns]\na = \"string\"\nspare = \"string\"\n";
        std::fs::write(&file, format!("from = \"topic:t\"\nselect = \"a\"\nto = {{ parquet = \"t\" }}\n{columns}"))
            .unwrap();
        let warnings = check(&file, None).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains("spare"), "{warnings:?}");
        // A text beside a number is read as one, unless somebody says so.
        for (sql, is_told) in [("spare = 1", true), ("cast(spare as bigint) = 1", false), ("spare = '1'", false)] {
            let text =
                format!("from = \"topic:t\"\nwhere = \"{sql}\"\nselect = \"a\"\nto = {{ parquet = \"t\" }}\n{columns}");
            std::fs::write(&file, text).unwrap();
            let warnings = check(&file, None).unwrap().warnings;
            assert_eq!(warnings.iter().any(|told| told.contains("spare is text")), is_told, "{sql}: {warnings:?}");
        }
        let wrong = "from = \"queue:t\"\nwhere = \"b = 1\"\nselect = \"c, upper(d) as e\"\nto = { parquet = \"t\", time = \"x\", partition = \"dt=%Y\" }\n";
        std::fs::write(&file, format!("{wrong}{columns}")).unwrap();
        let found: Vec<String> = check(&file, None).unwrap_err().iter().map(ToString::to_string).collect();
        for wanted in ["queue:t", "b", "c", "d"] {
            assert!(found.iter().any(|line| line.contains(wanted)), "{wanted}: {found:#?}");
        }
        assert!(found.len() >= 4, "{found:#?}");
        std::fs::write(&file, format!("from = \"topic:t\"\nselect = \"a\"\nto = {{ parquet = \"t\", time = \"a\", partition = \"dt=%Y\" }}\n{columns}")).unwrap();
        let misfit = check(&file, None).unwrap_err()[0].to_string();
        assert!(misfit.contains("p.toml:3:") && misfit.contains("timestamp or a date"), "{misfit}");
    }

    #[test]
    fn what_is_wrong_hides_no_other_mistake_and_makes_none() {
        let of = |text: &str| {
            let mistakes = load::text(Path::new("p.toml"), text).err().unwrap();
            mistakes.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let columns = "[columns]\nid = \"string\"\nn = \"int64\"\n";
        let to = "to = { parquet = \"a\", partition = \"dt=%Y\", time = \"tss\", sort = [\"nope\", \"m\", \"q\"] }\n";
        let select = "select = \"id, nosuch(id) as m, cast(n as integr) as k, n + 1 as q\"\n";
        let told = of(&format!("from = \"topic:c\"\n{select}{to}{columns}"));
        let all = ["nosuch", "integr", "\"tss\" is no column", "\"nope\" is no column"];
        assert!(
            told.len() == all.len() && all.iter().all(|one| told.iter().any(|told| told.contains(one))),
            "{told:#?}"
        );
        // Of a column that is declared in a wrong way nothing else is wrong, of others it is; a step that cannot be read may make any.
        let told = of(&format!(
            "from = \"topic:c\"\nselect = \"gone, idd, n as m\"\nto = {{ topic = \"t\", key = \"x\" }}\n{columns}gone = \"decimal\"\n"
        ));
        let all = ["no column idd", "\"x\" is no column", "columns.gone"];
        assert!(
            told.len() == all.len() && all.iter().all(|one| told.iter().any(|told| told.contains(one))),
            "{told:#?}"
        );
        let told = of(&format!(
            "from = \"topic:c\"\nselect = \"n as x, ${{INRUSH_NONE}}\"\nto = {{ topic = \"t\", key = \"x\" }}\n{columns}"
        ));
        assert!(told.len() == 1 && told[0].contains("INRUSH_NONE"), "{told:#?}");
        // What a step makes that is wrong may be any column; what it is made of may be of any type.
        let steps = "[[step]]\nenrich = { from = \"none.csv\", key = \"id\" }\n[[step]]\nselect = \"id, price, upper(price) as p, nosuch(n) as m\"\n[[step]]\nwhere = \"m > 1 and length(m) > 2 and idd = 'x'\"\n";
        let told =
            of(&format!("from = \"topic:c\"\n{columns}{steps}[[route]]\nto = {{ topic = \"t\", key = \"price\" }}\n"));
        // Behind a select that names all its columns they are known again.
        let all = ["none.csv", "nosuch", "no column idd"];
        assert!(told.len() == 3 && all.iter().zip(&told).all(|(one, told)| told.contains(one)), "{told:#?}");
        let steps = "[[step]]\nselect = \"nosuch(n) as m\"\n[[step]]\nwhere = \"m > 1 and m = 'x' and m\"\n[[step]]\ndedupe = { key = \"mm\", ttl = \"1h\" }\n";
        let told =
            of(&format!("from = \"topic:c\"\n{columns}{steps}[[route]]\nto = {{ topic = \"t\", key = \"m\" }}\n"));
        assert!(
            told.len() == 2 && told[0].contains("nosuch") && told[1].contains("\"mm\" is no column here"),
            "{told:#?}"
        );
        // What is made of a column of an unknown type is of one too; a function that is none is none whatever it is given.
        let steps = "[[step]]\nselect = \"nosuch(n) as m, id\"\n[[step]]\nselect = \"m as k, m + 1 as l, nosuch2(m) as o, id\"\n[[step]]\nwhere = \"k and l and o and id\"\n[[step]]\nunnest = \"k\"\n[[step]]\nselect = \"*, p\"\n";
        let told = of(&format!("from = \"topic:c\"\n{columns}{steps}[[route]]\nto = {{ topic = \"t\" }}\n"));
        assert!(told.len() == 2 && told[0].contains("nosuch") && told[1].contains("nosuch2"), "{told:#?}");
        // A step that cannot be read stands where it stands; one that makes no column hides none.
        let steps = "[[step]]\nwhere = \"a\"\n[[step]]\ndedupe = { key = \"id\" }\n[[step]]\nwhere = \"b\"\n[[step]]\nenrich = { key = \"id\" }\n[[step]]\nwhere = \"c\"\n";
        let told =
            of(&format!("from = \"topic:c\"\n{columns}{steps}[[route]]\nto = {{ topic = \"t\", key = \"d\" }}\n"));
        let all = ["no column a:", "step[1].dedupe", "no column b:", "step[3].enrich"];
        assert!(told.len() == 4 && all.iter().zip(&told).all(|(one, told)| told.contains(one)), "{told:#?}");
        let told = of(
            "from = \"topic:c\"\nselect = \"a\"\nto = { topic = \"t\" }\n[columns]\na = { path = \"b\", type = \"string\" }\n",
        );
        assert!(told.len() == 1 && told[0].contains("JSON pointer"), "{told:#?}");
        let told =
            of("from = \"topic:c\"\nto = { topic = \"t\" }\n[columns]\na = { path = \"b\", type = \"string\" }\n");
        assert!(told.len() == 1 && told[0].contains("JSON pointer"), "{told:#?}");
        let told = of(
            "from = \"topic:c\"\nselect = \"a\"\nto = { topic = \"t\", key = \"k\" }\n[columns]\nfrom-schema = \"none.json\"\n",
        );
        assert!(
            told.len() == 2 && told[0].contains("\"k\" is no column") && told[1].contains("none.json"),
            "{told:#?}"
        );
    }

    #[test]
    fn a_mistake_is_told_once_and_where_it_is() {
        let columns = "[columns]\na = \"int64\"\n";
        let route = "[[route]]\nto = { topic = \"x\" }\n";
        for (text, wanted) in [
            (
                "[[step]]\nselect = \"a as q, a + 1 as q, a as b, a as b\"\n[[step]]\nwhere = \"q > 1 and b > 1\"\n",
                &["named b", "named q"][..],
            ),
            ("[[step]]\nwher = \"a > 1\"\n", &["step[0].wher: this key is not known"]),
            ("[[step]]\nselect = \"a, a + 1\"\n[[step]]\nwhere = \"total > 1\"\n", &["give this a name"]),
            (
                "[[step]]\nsql = \"select a from rows limit 5\"\n[[step]]\nwhere = \"aa > 1\"\n",
                &["no DISTINCT", "no column aa"],
            ),
            ("[[step]]\nsql = \"select a, count(*) as n from rows group by a\"\n", &["no DISTINCT"]),
            ("[[step]]\nsql = \"with t as (select a from rows) select a from t\"\n", &["no subqueries"]),
            (
                "[[step]]\ndebounce = { key = \"a\", cool-down = \"30\" }\n[[step]]\nwhere = \"aa > 1\"\n",
                &["cool-down", "no column aa"],
            ),
            (
                "[[step]]\nunnest = { list = \"l\", ass = \"item\" }\n[[step]]\nselect = \"item, b as c\"\n[[step]]\nwhere = \"d > 1\"\n",
                &["unnest.ass", "no column d"],
            ),
            (
                "[[step]]\nselect = \"a, upper(b\"\n[[step]]\nwindow = { tumbling = \"1m\", key = \"a\", select = \"count(*) as n\" }\n[[step]]\nwhere = \"user = 1\"\n",
                &["Expected"],
            ),
            (
                "[[step]]\nwindow = { tumbling = \"1m\", time = \"a\", key = \"nope\", select = \"count(*) as c, sum(a) as c\" }\n",
                &["a window goes by a timestamp", "no column here", "two columns of the window"],
            ),
            ("[[step]]\nselect = \"[] as e\"\n[[step]]\nunnest = \"e\"\n[[step]]\nwhere = \"e\"\n", &["true or false"]),
        ] {
            let text = format!("from = \"topic:t\"\n{columns}l = [\"int64\"]\n{text}{route}");
            let told: Vec<String> =
                load::text(Path::new("p.toml"), &text).err().unwrap().iter().map(ToString::to_string).collect();
            let is_so = told.len() == wanted.len() && wanted.iter().zip(&told).all(|(one, told)| told.contains(one));
            assert!(is_so, "{text}{told:#?}");
        }
        let none = format!("from = \"topic:t\"\nstep = []\n{columns}{route}");
        assert!(load::text(Path::new("p.toml"), &none).is_ok());
        let moved = "from = \"topic:t\"\nto = { topic = \"x\", key = \"b\" }\n[columns]\na = \"string\"\nselect = \"a, upper(a) as b\"\n";
        let told = load::text(Path::new("p.toml"), moved).err().unwrap();
        assert!(told.len() == 1 && told[0].message.contains("move this line above"), "{told:#?}");
        let folder = tempfile::tempdir().unwrap();
        let schema = r#"{"type":"object","properties":{"a":{"type":"string"}}}"#;
        std::fs::write(folder.path().join("s.json"), schema).unwrap();
        let own = "from = \"topic:t\"\nselect = \"*, a as b\"\nto = { topic = \"x\" }\n[columns]\nfrom-schema = \"s.json\"\na = { path = \"x\", type = \"string\" }\n";
        let told = load::text(&folder.path().join("p.toml"), own).err().unwrap();
        assert!(told.len() == 1 && told[0].message.contains("JSON pointer"), "{told:#?}");
        for (to, wanted) in [
            ("{ topik = \"big\", key = \"id\" }", "topik is none; did you mean topic?"),
            ("{ files = \"x\", format = \"csv\" }", "the format \"ndjson\""),
            ("{ topic = \"t\" }", "7:6: route[1].to: this is the topic that is read"),
        ] {
            let text = format!("from = \"topic:t\"\n{columns}{route}[[route]]\nwhere = \"a > 1\"\nto = {to}\n");
            let text = text.replace("where = \"a > 1\"\nto = { topic = \"t\" }", "to = { topic = \"t\" }");
            let told = load::text(Path::new("p.toml"), &text).err().unwrap();
            assert!(told.len() == 1 && told[0].to_string().contains(wanted), "{told:#?}");
        }
        let text =
            format!("from = \"topic:t\"\n{columns}{route}[[route]]\nwhere = \"aa > 1\"\nto = {{ topik = \"big\" }}\n");
        let told = load::text(Path::new("p.toml"), &text).err().unwrap();
        assert!(told.len() == 2 && told[0].message.contains("no column aa"), "{told:#?}");
        let text = format!(
            "from = \"topic:t\"\nto = {{ topic = \"x\" }}\n{columns}h = {{ header = \"\", type = \"string\" }}\n"
        );
        let told = load::text(Path::new("p.toml"), &text).err().unwrap();
        assert!(told.len() == 1 && told[0].message.contains("a header has a name"), "{told:#?}");
    }

    #[test]
    fn numbers_are_the_same_digit_by_digit() {
        for (row, wanted) in
            [("1.0", "1"), ("0.1", "0.1000000000000000055"), ("100", "1e2"), ("-0.0", "0"), ("1.50", "1.5")]
        {
            assert!(is_same_number(row, wanted), "{row} {wanted}");
        }
        for (row, wanted) in [
            ("9007199254740993", "9007199254740992"),
            ("18446744073709551615", "18446744073709551616"),
            ("123456789012345.67", "123456789012345.671"),
            ("12345678901234567890.1201", "12345678901234567890.12"),
            ("1", "1e9223372036854775807"),
            ("1", "x"),
        ] {
            assert!(!is_same_number(row, wanted), "{row} {wanted}");
        }
    }

    #[test]
    fn what_reads_a_column_of_a_misspelt_type_is_judged_too() {
        let text = "from = \"topic:c\"\nselect = \"nosuch(n) as x\"\nto = { topic = \"x\" }\n[columns]\nn = \"int\"\n";
        let mistakes = load::text(Path::new("p.toml"), text).err().unwrap();
        let told: Vec<&str> = mistakes.iter().map(|mistake| mistake.message.as_str()).collect();
        assert!(told.len() == 2 && told[0].contains("nosuch") && told[1].contains("int64"), "{told:?}");
    }

    #[test]
    fn a_test_gives_text_or_bytes_and_expects_each_row_of_its_record() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        let tests = |format: &str, tests: &[(&str, &str)]| {
            let tests: String =
                tests.iter().map(|(given, expect)| format!("[[test]]\ngiven = {{ {given} }}\n{expect}\n")).collect();
            let sql = "where = \"n > 0\"\nselect = \"10 / (n - 3) as m\"";
            let text = format!(
                "from = \"topic:t\"\n{format}\nto = {{ parquet = \"t\" }}\n{sql}\n[columns]\nn = \"int64\"\n{tests}"
            );
            std::fs::write(&file, text).unwrap();
            let tested = test(&file).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
            tested.into_iter().map(|tested| (tested.passed, tested.got)).collect::<Vec<_>>()
        };
        let lines = [
            (r#"value = "{\"n\":1}\n{\"n\":0}\n{\"n\":4}""#, r#"expect = '[{"m":-5},{"m":10}]'"#),
            (r#"value-base64 = "eyJuIjoxfQ==""#, r#"expect = '{"m":-5}'"#),
            (r#"value = '{"n":0}'"#, r#"expect = "filtered""#),
            // The second line divides by zero: the first one is no row either.
            (r#"value = "{\"n\":1}\n{\"n\":3}""#, r#"expect-error = "expression""#),
            (r#"value = "{\"n\":1}\n{""#, r#"expect-error = "not-json""#),
        ];
        let lines = tests("format = \"ndjson\"", &lines);
        assert!(lines.iter().all(|(passed, _)| *passed), "{lines:#?}");
        let csv = [
            (r#"value = '1'"#, r#"expect = '{"m":-5}'"#),
            (r#"value = "1,2""#, r#"expect-error = "not-csv""#),
            (r#"value = "1\n2""#, r#"expect = '{"m":-5}'"#),
        ];
        let csv = tests("format = { csv = { columns = [\"n\"] } }", &csv);
        assert_eq!(csv.iter().map(|(passed, _)| *passed).collect::<Vec<_>>(), [true, true, false], "{csv:#?}");
        let wrong = "from = \"topic:t\"\nto = { parquet = \"t\" }\n[columns]\nn = \"int64\"\n[[test]]\ngiven = { value-base64 = \"%\" }\nexpect = \"filtered\"\n";
        std::fs::write(&file, wrong).unwrap();
        assert!(test(&file).unwrap_err()[0].to_string().contains("no base64"));
    }

    #[test]
    fn the_shipped_pipelines_are_right_and_pass_their_tests() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
        let files = super::super::load::files(&folder).unwrap();
        assert!(files.len() >= 2, "{files:?}");
        for file in files {
            let report = check(&file, None).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
            assert!(report.tests > 0, "{} has no test", file.display());
            assert!(report.warnings.is_empty(), "{:?}", report.warnings);
            for tested in test(&file).unwrap() {
                assert!(tested.passed, "{}: {tested:#?}", file.display());
            }
        }
    }
}
