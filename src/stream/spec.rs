//! A pipeline file, checked: what it says, in types that cannot be wrong. [`super::parse`] makes it.

pub use super::sink::http::HttpOutput;
use arrow::datatypes::SchemaRef;
use std::path::PathBuf;
use std::time::Duration;

/// One pipeline file, after all checks that need no SQL.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The file's stem.
    pub name: String,
    pub file: PathBuf,
    /// The file's text as read; kept in the checkpoint.
    pub text: String,
    pub from: crate::record::TopicName,
    /// The Kafka cluster that it is a topic of; `None` = of this log.
    pub elsewhere: Option<Elsewhere>,
    pub(super) format: super::format::Format,
    pub columns: Vec<Column>,
    /// Names of those that come of a JSON Schema.
    pub schema_columns: Vec<String>,
    /// In the order in which rows go through them; `where` and `select` of the short form are two of them.
    pub steps: Vec<Step>,
    /// At least one, each with another output; `to` of the short form is one that takes every row.
    pub routes: Vec<Route>,
    pub on_error: OnError,
    /// What it may take of the cores; `None` = no limit.
    pub cpu: Option<super::cpu::CpuShare>,
    pub tests: Vec<Test>,
    pub(super) unread: Unread,
}

/// What of a file is wrong and has no stand-in in its [`Spec`]. What names it is not judged.
#[derive(Clone, Debug, Default)]
pub(super) struct Unread {
    /// Columns that are declared in a wrong way.
    pub(super) columns: Vec<String>,
    /// Any column may be declared.
    pub(super) is_open: bool,
    /// Behind how many of the steps any column may have been made.
    pub(super) steps: Vec<usize>,
    /// Which rows go to outputs that are wrong.
    pub(super) rules: Vec<Rule>,
}

impl Unread {
    pub(super) fn is_nothing(&self) -> bool {
        self.columns.is_empty() && !self.is_open && self.steps.is_empty()
    }
}

/// A Kafka cluster that is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    pub cluster: crate::kafka::Settings,
    /// Members of this group share the partitions; `None` = all of them are read.
    pub group: Option<String>,
}

impl Spec {
    /// The names of its outputs, by route: such as `topic people`.
    pub(super) fn outputs(&self) -> Vec<String> {
        self.routes.iter().map(|route| route.to.to_string()).collect()
    }

    /// What is read, as status and `check` say it.
    pub fn source(&self) -> String {
        match &self.elsewhere {
            None => format!("topic:{}", self.from),
            Some(Elsewhere { cluster, .. }) => format!("kafka:{} at {}", self.from, cluster.servers.join(",")),
        }
    }
}

/// SQL text with its place in the file, for messages.
#[derive(Clone, Debug)]
pub struct Sql {
    /// The key it stands under, such as `where` or `step[1].select`.
    pub field: String,
    pub text: String,
    pub line: usize,
    pub column: usize,
}

/// A column's name with its place in the file, for messages.
#[derive(Clone, Debug)]
pub struct Named {
    pub field: String,
    pub name: String,
    pub line: usize,
    pub column: usize,
}

/// What is done to rows, one step after the other.
#[derive(Clone, Debug)]
pub enum Step {
    /// Keeps the rows of which it is true.
    Where(Sql),
    /// Makes new columns of the old ones, and keeps no other.
    Select(Sql),
    /// Both, as SQL says it.
    Sql(Sql),
    /// A row for each element of a list.
    Unnest(Unnest),
    /// Keeps a share of the rows.
    Sample(Sample),
    /// Adds columns of a table.
    Enrich(Enrich),
    /// Remembers something of each key.
    Keyed(Keyed),
    /// Makes one row of the many of a window.
    Window(Box<Window>),
}

impl Step {
    /// Whether there are other columns behind it than before.
    pub(super) fn makes_columns(&self) -> bool {
        match self {
            Step::Where(_) | Step::Sample(_) => false,
            Step::Keyed(keyed) => matches!(keyed.what, Memory::Sessionize),
            Step::Select(_) | Step::Sql(_) | Step::Unnest(_) | Step::Enrich(_) | Step::Window(_) => true,
        }
    }
}

/// Rows of a stretch of time and a key become one, when the time of all partitions is past it.
#[derive(Clone, Debug)]
pub struct Window {
    pub frame: Frame,
    /// The column that says when a row was; `None` = the record's timestamp.
    pub time: Option<Named>,
    pub key: Vec<Named>,
    /// So long a window waits for rows that come late.
    pub late: Duration,
    /// Where rows go that are in no window.
    pub late_to: Option<Route>,
    /// The aggregates.
    pub select: Sql,
    /// Bytes of memory of one partition.
    pub size_max: u64,
    /// Where the step stands.
    pub at: Named,
}

/// Which windows a row is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// As long as `size`, one begins `every` so often; the same for both is tumbling.
    Hopping { size: Duration, every: Duration },
    /// Rows of a key without a longer gap between them.
    Session { gap: Duration },
}

/// Looks rows up in a table.
#[derive(Clone, Debug)]
pub struct Enrich {
    pub from: TableFrom,
    /// What the file held, where it is gone: of a text of before.
    pub copy: Option<PathBuf>,
    /// Columns of the rows, one for each of `key`.
    pub on: Vec<Named>,
    /// Columns of the table; of a topic they are (parts of) its records' key.
    pub key: Vec<Named>,
    /// Columns of the table, and what rows have them as; `None` = all others.
    pub columns: Option<Vec<(Named, String)>>,
    pub types: Vec<(Named, Kind)>,
    pub missing: Missing,
    /// Bytes of memory of the table.
    pub size_max: u64,
    /// Where the step stands.
    pub at: Named,
}

/// Where a table comes from; files as the pipeline file names them.
#[derive(Clone, Debug)]
pub enum TableFrom {
    Csv {
        file: PathBuf,
        delimiter: u8,
    },
    Parquet(PathBuf),
    /// Compacted, of JSON objects.
    Topic(crate::record::TopicName),
}

/// What becomes of a row that the table does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Null,
    Drop,
    Dead,
}

/// A step with a memory by key, which stream time empties.
#[derive(Clone, Debug)]
pub struct Keyed {
    pub key: Vec<Named>,
    pub what: Memory,
    /// `ttl`, `cool-down` or `gap`.
    pub time: Duration,
    /// Bytes of memory of one partition.
    pub size_max: u64,
    /// Where the step stands.
    pub at: Named,
}

#[derive(Clone, Debug)]
pub enum Memory {
    /// Rows of a key that passed before are left out.
    Dedupe,
    /// So are they, until it has been quiet.
    Debounce,
    /// Rows are told the session they are of.
    Sessionize,
    /// Of a key the last row goes on.
    Last { until: Option<Sql> },
}

#[derive(Clone, Debug)]
pub struct Unnest {
    /// The list.
    pub list: Named,
    /// What an element is called; `None` = as the list.
    pub name: Option<String>,
    /// A row without elements stays, with null in their place.
    pub keep_empty: bool,
}

#[derive(Clone, Debug)]
pub struct Sample {
    /// Of a million.
    pub share: u32,
    /// Rows that are alike in these columns stay or go together; empty = each record for itself.
    pub key: Vec<Named>,
    /// Where the step stands.
    pub at: Named,
}

/// Which rows go to which output.
#[derive(Clone, Debug)]
pub struct Route {
    pub rule: Rule,
    pub to: Output,
    /// A column whose bytes become files.
    pub store: Option<StoreColumn>,
    /// Line and column of the column that `to` names (`time`, `key`), for messages.
    pub named_at: (usize, usize),
}

impl Route {
    /// The columns that its output gets, where `rows` come to it.
    pub(super) fn schema(&self, rows: &SchemaRef) -> SchemaRef {
        let rows = self.store.as_ref().map_or_else(|| rows.clone(), |store| super::sink::store::schema(store, rows));
        match &self.to {
            Output::Parquet(out) => super::sink::source::schema(out, &rows),
            Output::Topic(_) | Output::Kafka(_) | Output::Http(_) | Output::Stdout => rows,
        }
    }

    /// Folders of this machine that it writes to, relative to `--out`.
    pub(super) fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        let own = match &self.to {
            Output::Parquet(out) if out.store.is_none() => Some(&out.folder),
            _ => None,
        };
        own.into_iter().chain(self.store.as_ref().map(|store| &store.folder))
    }
}

/// A column whose bytes become files named by their content; rows get the path.
#[derive(Clone, Debug)]
pub struct StoreColumn {
    pub column: String,
    /// Relative to `--out`, cleaned.
    pub folder: PathBuf,
    /// What the path's column is called.
    pub name: String,
    /// Line and column of `store`.
    pub at: (usize, usize),
}

/// Which rows a route takes; `W` is its condition.
#[derive(Clone, Debug)]
pub enum Rule<W = Sql> {
    Always,
    Where(W),
    /// What no `where` of another route took.
    Otherwise,
    /// What came into no window.
    Late,
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub from: From,
    pub kind: Kind,
    pub required: bool,
    pub coerce: bool,
}

/// Where a column comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// JSON pointer into the value, as its unescaped segments.
    Path(Vec<String>),
    /// The last header of that name.
    Header(String),
    /// `rest = "json"`: the top-level fields that no other column takes, as JSON text.
    Rest,
    /// `_key _value _offset _partition _timestamp _headers`: always there, listed only if the SQL uses them.
    Record(RecordField),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordField {
    Key,
    Value,
    Offset,
    Partition,
    Timestamp,
    Headers,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Bool,
    Int32,
    Int64,
    Uint64,
    Float64,
    Decimal(u8, i8),
    String,
    Binary,
    Date,
    /// RFC 3339 text with a zone.
    Timestamp,
    /// A number of seconds, milliseconds or microseconds, fractions allowed.
    EpochTimestamp(Unit),
    /// The subtree's text.
    Json,
    List(Box<Kind>),
    Struct(Vec<(String, Kind)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Millis,
    Micros,
}

/// Where rows go.
#[derive(Clone, Debug)]
pub enum Output {
    Parquet(Box<ParquetOutput>),
    Topic(TopicOutput),
    Kafka(KafkaOutput),
    Http(Box<HttpOutput>),
    /// The process's own.
    Stdout,
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Output::Parquet(out) => match &out.store {
                Some(at) => write!(f, "{} {at}/{}", out.kind(), out.folder.display()),
                None => write!(f, "{} {}", out.kind(), out.folder.display()),
            },
            Output::Topic(out) => write!(f, "topic {}", out.topic),
            Output::Kafka(out) => write!(f, "kafka {} at {}", out.topic, out.cluster.servers.join(",")),
            Output::Http(out) => write!(f, "http {}", out.name),
            Output::Stdout => f.write_str("stdout"),
        }
    }
}

impl Output {
    /// Whether rows of both come to one place.
    pub(super) fn is_where(&self, other: &Output) -> bool {
        match (self, other) {
            // A server tells of the others.
            (Output::Kafka(one), Output::Kafka(two)) => {
                let is_shared = |server| two.cluster.servers.contains(server);
                one.topic == two.topic && one.cluster.servers.iter().any(is_shared)
            }
            _ => self.to_string() == other.to_string(),
        }
    }
}

/// A topic of this log: rows as JSON objects.
#[derive(Clone, Debug)]
pub struct TopicOutput {
    pub topic: crate::record::TopicName,
    /// The output column that becomes the record's key; `None` = no key.
    pub key: Option<String>,
}

/// A topic of a Kafka cluster elsewhere: rows as JSON objects.
#[derive(Clone, Debug)]
pub struct KafkaOutput {
    pub topic: crate::record::TopicName,
    /// The output column that becomes the record's key; `None` = no key.
    pub key: Option<String>,
    pub codec: crate::record::Codec,
    pub cluster: crate::kafka::Settings,
}

/// A folder of Parquet files, or of JSON lines, on this machine or in a bucket.
#[derive(Clone, Debug)]
pub struct ParquetOutput {
    /// Where the bucket is that the folder is in; `None` = this machine.
    pub(super) store: Option<super::sink::bucket::Address>,
    /// Relative to `--out` or to the bucket, cleaned.
    pub folder: PathBuf,
    /// strftime pattern such as `dt=%Y-%m-%d/hour=%H`; empty = none.
    pub partition: Option<String>,
    /// The output column that `partition` is made from; `_timestamp` is allowed.
    pub time: Option<String>,
    pub roll_age: Duration,
    pub roll_bytes: u64,
    /// zstd level, 1 by default.
    pub compression_level: i32,
    /// What rows are sorted by within each row group.
    pub sort: Vec<SortKey>,
    /// Columns with a bloom filter.
    pub bloom: Vec<Named>,
    /// Columns that say where a row comes from.
    pub(super) source: Vec<super::sink::source::SourceColumn>,
    pub source_at: Option<Named>,
    /// Takes over a folder that this other pipeline owned.
    pub adopt: Option<String>,
    /// Files of JSON lines, so compressed; `None` = Parquet.
    pub lines: Option<Compression>,
}

impl ParquetOutput {
    /// The key that names it in a pipeline file.
    pub(super) fn kind(&self) -> &'static str {
        if self.lines.is_some() { "files" } else { "parquet" }
    }

    /// What its files' names end in, one of [`EXTENSIONS`].
    pub(super) fn extension(&self) -> &'static str {
        match self.lines {
            None => "parquet",
            Some(Compression::None) => "ndjson",
            Some(Compression::Gzip) => "ndjson.gz",
            Some(Compression::Zstd(_)) => "ndjson.zst",
        }
    }
}

/// What names of files of outputs end in.
pub(super) const EXTENSIONS: [&str; 4] = ["parquet", "ndjson", "ndjson.gz", "ndjson.zst"];

/// Of JSON lines; zstd with its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd(i32),
}

/// A column to sort by; null stands last.
#[derive(Clone, Debug)]
pub struct SortKey {
    pub column: Named,
    pub is_descending: bool,
}

impl std::fmt::Display for SortKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.column.name, if self.is_descending { " desc" } else { "" })
    }
}

/// What becomes of records that fail.
#[derive(Clone, Debug)]
pub struct OnError {
    /// Dead letter topic; `<from>-dlt` unless the file names another.
    pub then: crate::record::TopicName,
    /// More attempts after the first, for what the output refused and may take later.
    pub retries: u32,
    /// Spring's way: what can never succeed is tried again too.
    pub retries_all: bool,
    pub backoff: Duration,
    /// `None`: never stops by itself.
    pub breaker: Option<Breaker>,
}

/// Stops the pipeline when of the last `window` records at least `percent` became dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    pub percent: u64,
    pub window: u64,
}

#[derive(Clone, Debug)]
pub struct Test {
    pub line: usize,
    /// By topic that steps look up in, what is in it.
    pub tables: Vec<(String, Vec<Given>)>,
    /// One record, or several, one after the other.
    pub given: Vec<Given>,
    /// For so long no record comes after the last one.
    pub quiet: Duration,
    pub expect: Expect,
}

#[derive(Clone, Debug)]
pub struct Given {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub timestamp: i64,
    pub offset: i64,
    pub partition: i32,
}

#[derive(Clone, Debug)]
pub enum Expect {
    /// `expect = '{…}'` or `'[{…}, {…}]'`, each as JSON text; none for `"filtered"`. `outputs`, if it is said, are those that take any.
    Rows { rows: Vec<String>, outputs: Option<Vec<String>> },
    /// `expect-error = "wrong-type"`
    Dead(super::fault::Reason),
}
