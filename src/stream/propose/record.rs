//! Sampled records: what their values are, and one of them as the proposal's test.

use super::field::{cut, masked};
use super::write::Draft;
use super::{Object, TRIALS_MAX, csv, reads_fields};
use crate::json::Node;
use crate::record::Record;
use crate::stream::check::Trial;
use crate::stream::format::Csv;
use crate::stream::load::Job;
use crate::stream::rows::Decoder;
use crate::stream::spec;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Characters of a text in the test's record.
const TEXT_MAX: usize = 200;
/// Bytes of a value that is not looked into, in the test's record.
const RAW_MAX: usize = 64;
/// Schemas that the records of one topic may have.
const SCHEMAS_MAX: usize = 16;
/// Names of headers that are told.
const HEADERS_MAX: usize = 50;

/// What most values are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One JSON object.
    Json,
    /// A JSON object a line.
    Ndjson,
    Csv(Csv),
    Raw,
}

/// The test of a proposal.
pub(super) struct Test {
    pub(super) given: Given,
    pub(super) timestamp: i64,
    pub(super) expect: Expect,
}

pub(super) enum Given {
    Text(String),
    Bytes(Vec<u8>),
}

pub(super) enum Expect {
    Row(Value),
    Dead(&'static str),
}

impl Kind {
    pub(super) fn of(samples: &[Record]) -> Kind {
        let count = |kind: Kind| {
            samples.iter().filter(|sample| kind.objects_of(sample).iter().any(|object| !object.is_empty())).count()
        };
        match (count(Kind::Json), count(Kind::Ndjson)) {
            (0, 0) => csv::of(samples).map_or(Kind::Raw, Kind::Csv),
            // One line is both.
            (single, lines) if single >= lines => Kind::Json,
            _ => Kind::Ndjson,
        }
    }

    pub(super) fn word(&self) -> &'static str {
        match self {
            Kind::Json => "json",
            Kind::Ndjson => "ndjson",
            Kind::Csv(_) => "csv",
            Kind::Raw => "raw",
        }
    }

    /// The objects of one value; none if it is not of this kind.
    fn objects_of(&self, sample: &Record) -> Vec<Object> {
        let value = sample.value.as_deref().unwrap_or_default();
        match self {
            Kind::Json => object(value).into_iter().collect(),
            Kind::Ndjson => {
                let lines = value.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
                lines.map(object).collect::<Option<Vec<Object>>>().unwrap_or_default()
            }
            Kind::Csv(how) => csv::objects(how, sample),
            Kind::Raw => Vec::new(),
        }
    }

    pub(super) fn objects(&self, samples: &[Record]) -> Vec<Object> {
        samples.iter().flat_map(|sample| self.objects_of(sample)).collect()
    }

    /// The type of a column that takes whatever stands there.
    pub(super) fn catch_all(&self) -> spec::Kind {
        match self {
            Kind::Csv(_) => spec::Kind::String,
            Kind::Json | Kind::Ndjson | Kind::Raw => spec::Kind::Json,
        }
    }

    /// Whether a sample only says what the columns of others are called.
    pub(super) fn is_heading(&self, sample: &Record) -> bool {
        matches!(self, Kind::Csv(how) if csv::is_heading(how, sample))
    }

    /// Samples that are not of this kind.
    pub(super) fn strangers(&self, samples: &[Record]) -> usize {
        match self {
            Kind::Raw => 0,
            _ => samples.iter().filter(|sample| self.objects_of(sample).is_empty()).count(),
        }
    }
}

pub(super) fn headers(samples: &[Record]) -> BTreeMap<String, usize> {
    let mut headers = BTreeMap::new();
    for (name, _) in samples.iter().flat_map(|sample| &sample.headers) {
        let name = String::from_utf8_lossy(name).into_owned();
        if headers.len() < HEADERS_MAX || headers.contains_key(&name) {
            *headers.entry(name).or_insert(0) += 1;
        }
    }
    headers
}

/// A sample, without what is not to be shown, and what the proposal makes of it: of the first that becomes a row, else of the first.
pub(super) fn test(job: &Job, samples: &[Record], draft: &Draft<'_>) -> Option<Test> {
    let trial = Trial::new(&draft.text()).ok()?;
    let shown = |sample: &Record| shown(sample, &draft.kind);
    let first = samples.iter().take(TRIALS_MAX).map(shown).find_map(|(given, record)| {
        let row = trial.run(&record)?;
        Some(Test { given, timestamp: record.timestamp, expect: Expect::Row(without_variables(row)) })
    });
    first.or_else(|| {
        let (given, record) = shown(samples.first()?);
        let decoder = Decoder::new(&job.spec.format, job.plan.columns().to_vec(), job.plan.input().clone());
        let decoded = decoder.decode(0, std::slice::from_ref(&record));
        let (_, fault) = decoded.faults.first().filter(|_| reads_fields(job))?;
        Some(Test { given, timestamp: record.timestamp, expect: Expect::Dead(fault.reason.as_str()) })
    })
}

/// Whether 5 bytes stand before nearly each value, as with a schema registry: 0, and the id of one of a few schemas.
pub(super) fn are_framed(samples: &[Record]) -> bool {
    let id = |sample: &Record| match sample.value.as_deref() {
        Some([0, a, b, c, d, _, ..]) => Some(u32::from_be_bytes([*a, *b, *c, *d])).filter(|id| *id > 0),
        _ => None,
    };
    let ids: Vec<u32> = samples.iter().filter_map(id).collect();
    let schemas: BTreeSet<u32> = ids.iter().copied().collect();
    ids.len() * 10 >= samples.len() * 9 && !ids.is_empty() && schemas.len() <= SCHEMAS_MAX
}

fn is_line(text: &str) -> bool {
    text.starts_with('{') && !text.contains(|c: char| c.is_control())
}

/// As pipelines read it.
fn object(text: &[u8]) -> Option<Object> {
    match Node::parse(text).ok()?.plain() {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// As it stands in the test.
fn shown(sample: &Record, kind: &Kind) -> (Given, Record) {
    let value = sample.value.as_deref().unwrap_or_default();
    let object = || kind.objects_of(sample).into_iter().next();
    let given = match kind {
        Kind::Json | Kind::Ndjson => match object() {
            Some(object) => {
                let object = Value::from(object);
                let masked = masked(&object, false, TEXT_MAX);
                // What is to be hidden is written anew; else its digits stay as they came.
                let line = std::str::from_utf8(value).ok().filter(|text| masked == object && is_line(text));
                Given::Text(line.map_or_else(|| masked.to_string(), str::to_owned))
            }
            None => Given::Bytes(raw(value)),
        },
        Kind::Csv(how) => {
            let hide = |line: &Object| masked(&Value::from(line.clone()), false, TEXT_MAX);
            csv::shown(how, sample, hide).map_or_else(|| Given::Bytes(raw(value)), Given::Text)
        }
        Kind::Raw => Given::Bytes(raw(value)),
    };
    // Within values of a file `${NAME}` is a variable of the environment.
    let given = match given {
        Given::Text(text) if text.contains("${") => Given::Bytes(text.into_bytes()),
        Given::Bytes(bytes) => match String::from_utf8(bytes) {
            Ok(text) if *kind == Kind::Raw && !text.contains("${") && !text.contains('\0') => Given::Text(text),
            Ok(text) => Given::Bytes(text.into_bytes()),
            Err(error) => Given::Bytes(error.into_bytes()),
        },
        given => given,
    };
    let bytes = match &given {
        Given::Text(text) => text.clone().into_bytes(),
        Given::Bytes(bytes) => bytes.clone(),
    };
    let timestamp = sample.timestamp;
    let record = Record {
        offset: crate::record::Offset(0),
        timestamp,
        key: None,
        value: Some(bytes.into()),
        headers: Vec::new(),
    };
    (given, record)
}

/// The beginning of a value that is not looked into, but for what follows on a word that tells of a secret.
fn raw(value: &[u8]) -> Vec<u8> {
    let value = &value[..value.len().min(RAW_MAX)];
    cut(&String::from_utf8_lossy(value)).map_or_else(|| value.to_vec(), String::into_bytes)
}

/// Without nulls, which are compared as if they were not there, and without texts that a file could not say.
fn without_variables(row: Value) -> Value {
    let Value::Object(columns) = row else { return row };
    let kept = columns.into_iter().filter(|(_, value)| !value.is_null() && !value.to_string().contains("${"));
    kept.collect::<Object>().into()
}
