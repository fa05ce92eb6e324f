//! `enrich = { … }` of a `[[step]]`, and `tables = { … }` of a `[[test]]`.

use crate::config::{Section, Value};
use crate::record::TopicName;
use crate::stream::columns::kind_of as scalar;
use crate::stream::parse::given;
use crate::stream::parse_step::{named, names};
use crate::stream::spec::{Enrich, Given, Kind, Missing, Named, TableFrom};
use std::path::PathBuf;
use toml_edit::Item;

/// What a table takes in memory, unless it says otherwise.
const TABLE_SIZE_MAX: u64 = 256 << 20;
const EXAMPLE: &str = "enrich = { from = \"users.csv\", key = \"user_id\", on = \"id\", columns = [\"country\"] }";
/// Columns that a record's key is, where nothing else is said.
const RECORD_KEY: &str = "_key";

/// The step; mistakes are noted.
pub(in crate::stream) fn read(section: &Section<'_>) -> Option<Enrich> {
    let place = section.item("enrich").and_then(Item::span);
    let at = named(section, "enrich", Value { value: String::new(), place });
    let table = section.table("enrich")?;
    let from = from(&table);
    let on = if table.has("on") { names(&table, "on") } else { None };
    let key = if table.has("key") { names(&table, "key") } else { None };
    let is_topic = matches!(from, Some(TableFrom::Topic(_)));
    if !table.has("from") || !table.has("on") && !table.has("key") {
        table.wrong("", format!("it needs a table, and what to look up in it: {EXAMPLE}"));
    }
    let (on, key) = match (on, key) {
        (Some(on), None) if is_topic && on.len() == 1 => {
            let key = vec![Named { name: RECORD_KEY.to_owned(), ..on[0].clone() }];
            (Some(on), Some(key))
        }
        (on, key) => (on.clone().or(key.clone()), key.or(on)),
    };
    if let (Some(on), Some(key)) = (&on, &key)
        && on.len() != key.len()
    {
        table.wrong("on", format!("{} columns are looked up by {}: as many of each", on.len(), key.len()));
    }
    let types = types(&table);
    if is_topic && types.is_empty() {
        table.wrong("types", "records have no schema: say what to read of them, as types = { country = \"string\" }");
    }
    if table.has("types") && matches!(from, Some(TableFrom::Parquet(_))) {
        table.wrong("types", "a Parquet file says the types of its columns; cast them in a select");
    }
    let columns = columns(&table);
    let missing = table.read("missing", missing).map_or(Missing::Null, |missing| missing.value);
    let size_max = table.size("table-size-max").map_or(TABLE_SIZE_MAX, |size| size.value);
    if !(1 << 16..=16 << 30).contains(&size_max) {
        table.wrong("table-size-max", "it is 64KiB at the least and 16GiB at the most");
    }
    table.finish();
    Some(Enrich { from: from?, copy: None, on: on?, key: key?, columns: columns?, types, missing, size_max, at })
}

/// `"users.csv"`, `"products.parquet"`, `"topic:users"`.
fn from(table: &Section<'_>) -> Option<TableFrom> {
    let delimiter = table.read("delimiter", delimiter);
    let text = table.string("from")?.value;
    if delimiter.is_some() && !text.ends_with(".csv") {
        table.wrong("delimiter", "only a CSV file has one");
    }
    if let Some(topic) = text.strip_prefix("topic:") {
        return TopicName::new(topic)
            .map(TableFrom::Topic)
            .map_err(|error| table.wrong("from", error.to_string()))
            .ok();
    }
    let file = PathBuf::from(&text);
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Some(TableFrom::Csv { file, delimiter: delimiter.map_or(b',', |delimiter| delimiter.value) }),
        Some("parquet") => Some(TableFrom::Parquet(file)),
        _ => {
            let message = format!("\"{text}\" is no table; write \"FILE.csv\", \"FILE.parquet\" or \"topic:NAME\"");
            table.wrong("from", message);
            None
        }
    }
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n') => Ok(*byte),
        _ => Err("a delimiter is one ASCII character, no quote and no line end".to_owned()),
    }
}

fn missing(text: &str) -> Result<Missing, String> {
    match text {
        "null" => Ok(Missing::Null),
        "drop" => Ok(Missing::Drop),
        "dead" => Ok(Missing::Dead),
        _ => Err(format!(
            "\"{text}\" is not known; a row that the table does not have is \"null\", \"drop\" or \"dead\""
        )),
    }
}

/// `columns = ["country", "plan as user_plan"]`; `None` within = all.
#[allow(clippy::option_option)]
fn columns(table: &Section<'_>) -> Option<Option<Vec<(Named, String)>>> {
    if !table.has("columns") {
        return Some(None);
    }
    let place = table.item("columns").and_then(Item::span);
    let texts = table.strings("columns")?;
    if texts.is_empty() {
        table.wrong("columns", "name at least one column, or leave it out for all");
    }
    let mut columns: Vec<(Named, String)> = Vec::new();
    for text in texts {
        let (name, known_as) = text.split_once(" as ").unwrap_or((&text, &text));
        let (name, known_as) = (name.trim().to_owned(), known_as.trim().to_owned());
        if columns.iter().any(|(known, _)| known.name == name) {
            table.wrong("columns", format!("\"{name}\" stands twice; select it under another name behind the step"));
            continue;
        }
        columns.push((named(table, "columns", Value { value: name, place: place.clone() }), known_as));
    }
    Some(Some(columns))
}

/// `types = { country = "string" }`.
fn types(table: &Section<'_>) -> Vec<(Named, Kind)> {
    let Some(section) = table.table("types") else { return Vec::new() };
    let of = |(name, item): (&str, &Item)| match item.as_str().and_then(scalar) {
        Some(kind) => Some((named(&section, name, Value { value: name.to_owned(), place: item.span() }), kind)),
        None => {
            section.wrong(name, "its type is one word, such as \"string\", \"int64\" or \"timestamp\"");
            None
        }
    };
    section.entries().into_iter().filter_map(of).collect()
}

/// `tables = { users = [{ key = "u1", value = '{…}' }] }`: the records that a topic has for a test. `topics` are those that steps look up in.
pub(in crate::stream) fn test_tables(test: &Section<'_>, topics: &[&str]) -> Vec<(String, Vec<Given>)> {
    let Some(section) = test.has("tables").then(|| test.table("tables")).flatten() else { return Vec::new() };
    let mut tables = Vec::new();
    for (name, _) in section.entries() {
        if !topics.contains(&name) {
            let known = if topics.is_empty() { "none".to_owned() } else { topics.join(", ") };
            section.wrong(name, format!("no enrich step looks up in topic {name}; topics that are: {known}"));
        }
        let records = section.tables(name).iter().enumerate().map(|(at, record)| given(record, at as i64)).collect();
        tables.push((name.to_owned(), records));
    }
    tables
}
