//! Fields of recorded events, held against what a pipeline reads: which were seen and are not read, and which are read and were not seen.

use super::super::format::Format;
use super::super::plan::Plan;
use super::super::spec::{Column, From, Kind, RecordField, Spec};
use crate::json::Node;
use crate::record::Record;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Fields that are told apart; objects whose names are data would have no end.
const FIELDS_MAX: usize = 2_000;
/// Fields that are listed.
const LISTED_MAX: usize = 60;
/// Objects in objects that are looked into.
const DEPTH_MAX: usize = 16;

/// What some events were seen to have.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Seen {
    pub events: u64,
    /// Fields and headers that no column reads, most frequent first.
    pub unread: Vec<SeenField>,
    /// How many more there are.
    pub more: u64,
    /// Columns that are read and that none of the events had.
    pub missing: Vec<String>,
    /// Why values were not looked into, if they were not.
    pub not_looked: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SeenField {
    /// `/page/url`, as a column's `path`; or `header NAME`.
    pub place: String,
    /// Column types that take its values; most often it is one.
    #[serde(rename = "type")]
    pub kind: String,
    /// Events that have it.
    pub count: u64,
}

/// A place in an event: the way into its value, or a header.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Field(Vec<String>),
    Header(String),
}

#[derive(Default)]
struct Met {
    count: u64,
    kinds: BTreeSet<&'static str>,
}

/// Looks at all of the events.
pub(super) fn seen(spec: &Spec, plan: &Plan, events: &[Record]) -> Seen {
    let mut met: BTreeMap<Place, Met> = BTreeMap::new();
    let mut note = |place: Place, kind: &'static str| {
        if met.len() < FIELDS_MAX || met.contains_key(&place) {
            let met = met.entry(place).or_default();
            met.count += 1;
            met.kinds.insert(kind);
        }
    };
    let is_json = matches!(spec.format, Format::Json | Format::Ndjson);
    // Who takes the value as it is reads all of it.
    let takes_all = plan
        .columns()
        .iter()
        .any(|column| column.from == From::Rest || column.from == From::Record(RecordField::Value));
    for event in events {
        for (name, _) in &event.headers {
            note(Place::Header(String::from_utf8_lossy(name).into_owned()), "string");
        }
        let value = event.value.as_deref().unwrap_or_default();
        if is_json {
            let mut once = BTreeMap::new();
            for line in lines(&spec.format, value) {
                fields(&line, &mut Vec::new(), &mut once);
            }
            once.into_iter().for_each(|(path, kind)| note(Place::Field(path), kind));
        }
    }
    let columns = plan.columns();
    let takes_headers = columns.iter().any(|column| column.from == From::Record(RecordField::Headers));
    let is_unread = |place: &Place| match place {
        Place::Field(path) => !takes_all && !columns.iter().any(|column| reads(column, path) || is_above(path, column)),
        Place::Header(name) => {
            !takes_headers && !columns.iter().any(|column| column.from == From::Header(name.clone()))
        }
    };
    let missing = columns.iter().filter(|column| match &column.from {
        From::Path(path) => {
            is_json && !met.keys().any(|place| matches!(place, Place::Field(met) if met.starts_with(path)))
        }
        From::Header(name) => !met.contains_key(&Place::Header(name.clone())),
        From::Rest | From::Record(_) => false,
    });
    let missing = missing.map(|column| column.name.clone()).collect();
    let mut unread: Vec<SeenField> =
        met.iter().filter(|(place, _)| is_unread(place)).map(|(place, met)| told(place, met)).collect();
    unread.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.place.cmp(&b.place)));
    let more = unread.len().saturating_sub(LISTED_MAX) as u64;
    unread.truncate(LISTED_MAX);
    let not_looked = (!is_json).then(|| "since only JSON values are looked into".to_owned());
    Seen { events: events.len() as u64, unread, more, missing, not_looked }
}

fn lines(format: &Format, value: &[u8]) -> Vec<Value> {
    let plain = |text| Some(Node::parse(text).ok()?.plain());
    match format {
        Format::Ndjson => value.split(|byte| *byte == b'\n').filter_map(plain).collect(),
        _ => plain(value).into_iter().collect(),
    }
}

/// Notes the fields of a value that hold something, each with a type that takes it.
fn fields(value: &Value, path: &mut Vec<String>, met: &mut BTreeMap<Vec<String>, &'static str>) {
    match value {
        Value::Object(object) if path.len() < DEPTH_MAX && (path.is_empty() || !object.is_empty()) => {
            for (name, value) in object {
                path.push(name.clone());
                fields(value, path, met);
                path.pop();
            }
        }
        _ if path.is_empty() => {}
        _ if met.len() >= FIELDS_MAX => {}
        _ => {
            met.insert(path.clone(), kind(value));
        }
    }
}

/// A column type that takes this value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(number) if number.is_u64() => "uint64",
        Value::Number(_) => "float64",
        Value::String(text) if chrono::DateTime::parse_from_rfc3339(text).is_ok() => "timestamp",
        Value::String(_) => "string",
        Value::Array(items) => {
            match items.iter().map(kind).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()[..] {
                ["string"] | ["timestamp"] | ["string", "timestamp"] => "[string]",
                ["int64"] => "[int64]",
                ["float64"] | ["float64", "int64"] => "[float64]",
                ["bool"] => "[bool]",
                _ => "json",
            }
        }
        Value::Object(_) => "json",
    }
}

/// Whether a column takes the field at this path, alone or with all that is beside it.
fn reads(column: &Column, path: &[String]) -> bool {
    let From::Path(own) = &column.from else { return false };
    path.starts_with(own) && takes(&column.kind, &path[own.len()..])
}

/// An empty object where columns look into one.
fn is_above(path: &[String], column: &Column) -> bool {
    matches!(&column.from, From::Path(own) if own.starts_with(path))
}

fn takes(kind: &Kind, rest: &[String]) -> bool {
    match (kind, rest) {
        (Kind::Struct(known), [name, rest @ ..]) => {
            known.iter().any(|(field, kind)| field == name && takes(kind, rest))
        }
        _ => true,
    }
}

fn told(place: &Place, met: &Met) -> SeenField {
    let place = match place {
        Place::Field(path) => {
            let escaped = path.iter().map(|part| part.replace('~', "~0").replace('/', "~1"));
            format!("/{}", escaped.collect::<Vec<_>>().join("/"))
        }
        Place::Header(name) => format!("header {name}"),
    };
    let mut kinds: Vec<&str> = met.kinds.iter().copied().filter(|kind| *kind != "null").collect();
    if kinds == ["float64", "int64"] {
        kinds = vec!["float64"];
    }
    let kind = if kinds.is_empty() { "null".to_owned() } else { kinds.join(" or ") };
    SeenField { place, kind, count: met.count }
}
