//! `inrush pipeline explain`: what a pipeline file does, said at length: what it reads, each step with its SQL as it runs, what is remembered,
//! where rows go with all that the file leaves unsaid, and what that takes of memory and disk.
//!
//! What a step is in words stands in [`steps`], what an output is in [`outputs`]; each is one `match`, so that a new kind has its words or
//! does not compile. [`seen`] holds recorded events against what is read.

mod outputs;
mod seen;
mod steps;
#[cfg(test)]
mod tests;
mod text;

pub use outputs::OutputTold;
pub use seen::Seen;
pub use steps::StepTold;
pub(in crate::stream) use text::size;

use super::format::Format;
use super::kinds;
use super::lanes;
use super::load;
use super::plan::{Leaving, Plan};
use super::runner;
use super::sink::parquet;
use super::spec::{Column, From, RecordField, Rule, Spec, Step};
use super::sql::{Scope, SqlPlanner};
use crate::config::Mistake;
use crate::record::Record;
use arrow::datatypes::{Field, Schema};
use std::path::Path;

/// What a pipeline file does. All texts are for people; sizes are bytes.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Explained {
    pub name: String,
    pub file: String,
    pub source: String,
    /// What a record's value is.
    pub format: String,
    pub columns: Vec<ColumnTold>,
    /// Columns that the file declares and nothing reads.
    pub unread_columns: Vec<String>,
    /// What events were seen to have, if some were given.
    pub seen: Option<Seen>,
    pub steps: Vec<StepTold>,
    pub routes: Vec<RouteTold>,
    pub on_error: OnErrorTold,
    pub memory: Vec<MemoryTold>,
    /// What it may take of the cores.
    pub cpu: String,
    pub places: Vec<PlaceTold>,
    pub tests: usize,
}

/// A column that is read of each record.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ColumnTold {
    pub name: String,
    pub from: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub required: bool,
    pub coerce: bool,
}

/// Name and type of what leaves a step.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FieldTold {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Clone, Debug, serde::Serialize)]
pub struct RouteTold {
    /// Which rows it takes, in words.
    pub takes: String,
    pub sql: Option<String>,
    pub output: OutputTold,
}

/// What becomes of records that fail.
#[derive(Clone, Debug, serde::Serialize)]
pub struct OnErrorTold {
    pub then: String,
    pub retries: u32,
    /// `refused`, or `all`: what can never succeed is tried again too.
    pub of: &'static str,
    pub backoff_ms: u64,
    pub breaker: Option<String>,
}

/// A share of the memory that a running pipeline may take.
#[derive(Clone, Debug, serde::Serialize)]
pub struct MemoryTold {
    pub what: String,
    pub bytes: u64,
    /// It is taken once for each partition of the source.
    pub by_partition: bool,
}

/// Something that the pipeline keeps, and where.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PlaceTold {
    pub what: String,
    pub place: String,
}

/// Explains a pipeline file; `events`, if there are any, say which fields its source has.
///
/// # Errors
/// All mistakes of the file.
pub fn explain(file: &Path, events: Option<&[Record]>) -> Result<Explained, Vec<Mistake>> {
    let job = load::file(file)?;
    let (plan, leaving) = Plan::told(&job.spec)?;
    let spec = &job.spec;
    let show = Show { spec, plan: &plan, planner: SqlPlanner::to_show(&spec.file) };
    let steps = steps::all(&show, &leaving)?;
    let routes = show.routes()?;
    let is_read = |column: &&Column| !plan.columns().iter().any(|read| read.name == column.name);
    Ok(Explained {
        name: spec.name.clone(),
        file: spec.file.display().to_string(),
        source: match spec.elsewhere {
            None => format!("topic {}", spec.from),
            Some(_) => spec.source(),
        },
        format: format_in_words(&spec.format).to_owned(),
        columns: plan.columns().iter().map(column).collect(),
        unread_columns: spec.columns.iter().filter(is_read).map(|column| column.name.clone()).collect(),
        seen: events.map(|events| seen::seen(spec, &plan, events)),
        memory: memory(spec, &steps, &routes),
        cpu: match spec.cpu {
            Some(share) => format!("{share} of one core, over a second or more"),
            None => "all cores that others leave it".to_owned(),
        },
        places: places(spec, &steps),
        steps,
        routes,
        on_error: on_error(spec),
        tests: spec.tests.len(),
    })
}

/// The fields that recorded events have and a pipeline file does not read.
///
/// # Errors
/// All mistakes of the file.
pub fn unread(file: &Path, events: &[Record]) -> Result<Seen, Vec<Mistake>> {
    let job = load::file(file)?;
    Ok(seen::seen(&job.spec, &job.plan, events))
}

/// The steps of a file, told.
///
/// # Errors
/// All mistakes of the file.
pub(super) fn told_steps(spec: &Spec) -> Result<Vec<StepTold>, Vec<Mistake>> {
    let (plan, leaving) = Plan::told(spec)?;
    steps::all(&Show { spec, plan: &plan, planner: SqlPlanner::to_show(&spec.file) }, &leaving)
}

/// What is explained, and what plans its SQL once more, to be shown.
struct Show<'a> {
    spec: &'a Spec,
    plan: &'a Plan,
    planner: SqlPlanner<'a>,
}

impl Show<'_> {
    fn routes(&self) -> Result<Vec<RouteTold>, Vec<Mistake>> {
        let scope = Scope::new(&fields_of(self.plan.output()));
        let route = |route: &super::spec::Route| {
            let has_windows = self.spec.steps.iter().any(|step| matches!(step, Step::Window(_)));
            let of_windows = has_windows && !matches!(route.rule, Rule::Late);
            let (takes, sql) = match &route.rule {
                Rule::Always => ("every row".to_owned(), None),
                Rule::Late => ("rows that come too late for their window".to_owned(), None),
                Rule::Otherwise => ("rows that no other route's where takes".to_owned(), None),
                Rule::Where(sql) => {
                    let shown = steps::shown(&self.planner.filter(&scope, sql)?);
                    (format!("rows where {shown}"), Some(shown))
                }
            };
            Ok(RouteTold { takes, sql, output: outputs::told(&route.to, self.spec, of_windows) })
        };
        self.spec.routes.iter().map(route).collect()
    }

    /// What a step leaves, without columns of the record that no later one reads.
    fn fields(&self, leaving: &Leaving) -> Vec<FieldTold> {
        let declared = |name: &str| {
            self.spec.columns.iter().any(|column| column.name == name) || super::columns::RECORD_FIELDS.contains(&name)
        };
        let is_read = |field: &&Field| {
            !leaving.is_source || !declared(field.name()) || self.plan.input().index_of(field.name()).is_ok()
        };
        leaving.fields.iter().filter(is_read).map(field_told).collect()
    }
}

fn field_told(field: &Field) -> FieldTold {
    FieldTold { name: field.name().clone(), kind: type_in_words(field.data_type()) }
}

fn fields_of(schema: &Schema) -> Vec<Field> {
    schema.fields().iter().map(|field| field.as_ref().clone()).collect()
}

fn format_in_words(format: &Format) -> &'static str {
    match format {
        Format::Json => "one JSON object",
        Format::Ndjson => "JSON objects, one a line, each a row",
        Format::Csv(_) => "lines of CSV, each a row",
        Format::Binary(binary) => binary.in_words(),
        Format::Raw => "bytes that are not looked into",
    }
}

fn column(column: &Column) -> ColumnTold {
    let from = match &column.from {
        From::Path(path) => {
            let escaped = path.iter().map(|part| part.replace('~', "~0").replace('/', "~1"));
            format!("value /{}", escaped.collect::<Vec<_>>().join("/"))
        }
        From::Header(name) => format!("header {name}"),
        From::Rest => "value, the fields that no other column takes".to_owned(),
        From::Record(field) => match field {
            RecordField::Key => "the record's key",
            RecordField::Value => "the record's value, as it is",
            RecordField::Offset => "the record's offset",
            RecordField::Partition => "the record's partition",
            RecordField::Timestamp => "the record's timestamp",
            RecordField::Headers => "the record's headers",
        }
        .to_owned(),
    };
    let (required, coerce) = (column.required, column.coerce);
    ColumnTold { name: column.name.clone(), from, kind: kinds::word(&column.kind), required, coerce }
}

/// A type between steps: as a column's where a file can say it, else as Arrow does.
fn type_in_words(kind: &arrow::datatypes::DataType) -> String {
    use arrow::datatypes::DataType;
    match kind {
        DataType::Boolean => "bool".to_owned(),
        DataType::Int32 => "int32".to_owned(),
        DataType::Int64 => "int64".to_owned(),
        DataType::UInt64 => "uint64".to_owned(),
        DataType::Float64 => "float64".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(..) => "timestamp".to_owned(),
        DataType::List(item) => format!("[{}]", type_in_words(item.data_type())),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| format!("{} {}", field.name(), type_in_words(field.data_type())));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn on_error(spec: &Spec) -> OnErrorTold {
    let on_error = &spec.on_error;
    OnErrorTold {
        then: format!("topic {}", on_error.then),
        retries: on_error.retries,
        of: if on_error.retries_all { "all" } else { "refused" },
        backoff_ms: on_error.backoff.as_millis() as u64,
        breaker: on_error.breaker.map(|breaker| format!("{}% of {}", breaker.percent, breaker.window)),
    }
}

/// What bounds memory, summed up: these are limits, not what a quiet pipeline has.
fn memory(spec: &Spec, steps: &[StepTold], routes: &[RouteTold]) -> Vec<MemoryTold> {
    let once = |what: String, bytes: u64| MemoryTold { what, bytes, by_partition: false };
    let mut all = vec![
        once("a read of the log".to_owned(), runner::READ_SIZE as u64),
        once("records decoded ahead of the one that is written, and their rows".to_owned(), lanes::memory_max()),
    ];
    all.extend(steps.iter().filter_map(|step| {
        let state = step.remembers.as_ref()?;
        let what = format!("what step {} ({}) remembers", step.number, step.kind);
        Some(MemoryTold { what, bytes: state.size_max, by_partition: true })
    }));
    let (files, others): (Vec<_>, Vec<_>) =
        spec.routes.iter().zip(routes).partition(|(route, _)| matches!(route.to, super::spec::Output::Parquet(_)));
    all.extend(others.iter().map(|(_, told)| once(format!("output {}", told.output.name), told.output.memory)));
    if !files.is_empty() {
        // Their shares are of one budget: together they never take more than it.
        let names: Vec<&str> = files.iter().map(|(_, told)| told.output.name.as_str()).collect();
        let bytes = files.iter().map(|(_, told)| told.output.memory).sum::<u64>().min(parquet::memory_max());
        let shared = "of what outputs of files of all pipelines share";
        all.push(once(format!("output {} ({shared}, {})", names.join(", "), text::size(parquet::memory_max())), bytes));
    }
    all.push(once(format!("dead letters to {}", spec.on_error.then), outputs::BATCH_MEMORY));
    all
}

fn places(spec: &Spec, steps: &[StepTold]) -> Vec<PlaceTold> {
    let name = &spec.name;
    let place = |what: &str, place: String| PlaceTold { what: what.to_owned(), place };
    let mut all = vec![place(
        "positions, of the source and of each output",
        format!("DATA/pipelines/{name}/checkpoint, replaced whole at each cut"),
    )];
    if steps.iter().any(|step| step.remembers.is_some()) {
        all.push(place("what steps remember", format!("DATA/pipelines/{name}/state-CUT-…, written whole at each cut")));
    }
    all
}
