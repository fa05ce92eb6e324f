//! The `[columns]` table: what to read out of each record, and as what.

use super::spec::{Column, From, Kind, Unit};
use crate::config::{Section, nearest};
use toml_edit::{Item, Value};

/// Names that always mean a record's own fields.
pub(super) const RECORD_FIELDS: [&str; 6] = ["_key", "_value", "_offset", "_partition", "_timestamp", "_headers"];

const KINDS: &str = "bool, int32, int64, uint64, float64, decimal(p,s), string, binary, date, timestamp, timestamp(s|ms|us), json, [\"TYPE\"], { name = \"TYPE\" }";
/// Of these the ones that are one word.
pub(super) const KIND_NAMES: [&str; 13] = [
    "bool",
    "int32",
    "int64",
    "uint64",
    "float64",
    "string",
    "binary",
    "date",
    "timestamp",
    "timestamp(s)",
    "timestamp(ms)",
    "timestamp(us)",
    "json",
];

/// Reads all columns but the keys that belong elsewhere; mistakes are noted, and which columns are wrong.
pub(super) fn read(section: &Section<'_>, elsewhere: &[&str]) -> (Vec<Column>, Vec<String>) {
    let (mut columns, mut wrong) = (Vec::new(), Vec::new());
    for (name, item) in section.entries() {
        if name == "from-schema" || elsewhere.contains(&name) {
            continue;
        }
        match column(section, name, item) {
            Some(column) => columns.push(column),
            // What is called like a record's own field means that.
            None if RECORD_FIELDS.contains(&name) => {}
            None => wrong.push(name.to_owned()),
        }
    }
    (columns, wrong)
}

fn column(section: &Section<'_>, name: &str, item: &Item) -> Option<Column> {
    if RECORD_FIELDS.contains(&name) {
        section.wrong(name, "this name always means the record's own field; choose another");
        return None;
    }
    if name == "rest" && item.as_str() == Some("json") {
        return Some(Column {
            name: name.to_owned(),
            from: From::Rest,
            kind: Kind::Json,
            required: false,
            coerce: false,
        });
    }
    let is_struct = item.as_inline_table().is_some_and(|table| {
        !table.is_dotted() && !table.is_empty() && !["type", "path", "header"].iter().any(|key| table.contains_key(key))
    });
    if item.is_str() || item.is_array() || is_struct {
        let kind = kind(section, name, item.as_value()?)?;
        return Some(Column {
            name: name.to_owned(),
            from: From::Path(vec![name.to_owned()]),
            kind,
            required: false,
            coerce: false,
        });
    }
    let Some(table) = item.as_table_like() else {
        section.wrong(name, "a column is \"TYPE\" or { path = \"/a/b\", type = \"TYPE\" }");
        return None;
    };
    if !table.contains_key("type") && !table.contains_key("path") && !table.contains_key("header") {
        // `page.url = "string"` is a table `page` to TOML.
        let inner = table.iter().next().map(|(key, _)| key.to_owned()).unwrap_or_default();
        section.wrong(name, format!("TOML reads a dotted key as a table; write {name}_{inner} = {{ path = \"/{name}/{inner}\", type = \"string\" }}"));
        return None;
    }
    let known = ["path", "header", "type", "required", "coerce"];
    for (key, _) in table.iter().filter(|(key, _)| !known.contains(key)) {
        section.wrong(name, format!("\"{key}\" is not known here; known: {}", known.join(", ")));
    }
    let flag = |key: &str| match table.get(key).map(|item| item.as_bool()) {
        None => Some(false),
        Some(Some(flag)) => Some(flag),
        Some(None) => {
            section.wrong(name, format!("{key} is true or false"));
            None
        }
    };
    let from = match (table.get("path").and_then(Item::as_str), table.get("header").and_then(Item::as_str)) {
        (Some(path), None) => pointer(section, name, &section.expanded(name, path)?)?,
        (None, Some("")) => {
            section.wrong(name, "a header has a name: header = \"user-agent\"");
            return None;
        }
        (None, Some(header)) => From::Header(section.expanded(name, header)?),
        (None, None) if !table.contains_key("path") && !table.contains_key("header") => {
            From::Path(vec![name.to_owned()])
        }
        _ => {
            section.wrong(name, "a column has either path = \"/a/b\" or header = \"name\"");
            return None;
        }
    };
    let kind = match table.get("type").and_then(Item::as_value) {
        Some(value) => kind(section, name, value)?,
        None => {
            section.wrong(name, format!("say its type; known: {KINDS}"));
            return None;
        }
    };
    Some(Column { name: name.to_owned(), from, kind, required: flag("required")?, coerce: flag("coerce")? })
}

/// RFC 6901.
fn pointer(section: &Section<'_>, name: &str, text: &str) -> Option<From> {
    match text.strip_prefix('/') {
        Some(rest) => {
            Some(From::Path(rest.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect()))
        }
        None => {
            let meant = text.replace('.', "/");
            section.wrong(name, format!("a path is a JSON pointer and begins with '/': write \"/{meant}\""));
            None
        }
    }
}

fn kind(section: &Section<'_>, name: &str, value: &Value) -> Option<Kind> {
    let found = match value {
        Value::String(text) => kind_of(text.value()),
        Value::Array(list) if list.len() == 1 => {
            return list.get(0).and_then(|inner| kind(section, name, inner)).map(|inner| Kind::List(Box::new(inner)));
        }
        Value::InlineTable(fields) => {
            let fields = fields.iter().map(|(field, value)| Some((field.to_owned(), kind(section, name, value)?)));
            return fields.collect::<Option<Vec<_>>>().map(Kind::Struct);
        }
        _ => None,
    };
    if found.is_none() {
        let shown = value.to_string();
        let meant = value.as_str().and_then(|text| nearest(usual_name(text), &KIND_NAMES));
        let hint = meant.map_or(String::new(), |meant| format!("; did you mean \"{meant}\"?"));
        section.wrong(name, format!("{} is no type{hint}; known: {KINDS}", shown.trim()));
        // What reads it is judged as if it said so.
        return meant.and_then(kind_of);
    }
    found
}

/// What a type is called here that other systems call otherwise.
fn usual_name(text: &str) -> &str {
    match text.to_ascii_lowercase().as_str() {
        "int" | "integer" | "long" | "bigint" => "int64",
        "float" | "double" | "number" | "real" => "float64",
        "text" | "str" | "varchar" | "utf8" => "string",
        "boolean" => "bool",
        "bytes" | "blob" => "binary",
        "datetime" | "time" => "timestamp",
        "object" | "map" => "json",
        _ => text,
    }
}

/// A type by its text; `None` if there is none of that name.
pub(super) fn kind_of(text: &str) -> Option<Kind> {
    Some(match text {
        "bool" => Kind::Bool,
        "int32" => Kind::Int32,
        "int64" => Kind::Int64,
        "uint64" => Kind::Uint64,
        "float64" => Kind::Float64,
        "string" => Kind::String,
        "binary" => Kind::Binary,
        "date" => Kind::Date,
        "timestamp" => Kind::Timestamp,
        "timestamp(s)" => Kind::EpochTimestamp(Unit::Seconds),
        "timestamp(ms)" => Kind::EpochTimestamp(Unit::Millis),
        "timestamp(us)" => Kind::EpochTimestamp(Unit::Micros),
        "json" => Kind::Json,
        _ => {
            let (precision, scale) = text.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
            let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
            if !(1..=38).contains(&precision) || scale < 0 || scale as u8 > precision {
                return None;
            }
            Kind::Decimal(precision, scale)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;
    use std::path::Path;

    fn columns(text: &str) -> Result<Vec<Column>, String> {
        let text = format!("from = \"topic:t\"\nto = {{ parquet = \"t\" }}\n[columns]\n{text}");
        parse(Path::new("p.toml"), &text).map(|spec| spec.columns).map_err(|mistakes| mistakes[0].to_string())
    }

    #[test]
    fn every_type_is_read() {
        let read = columns(
            "a = \"decimal(10, 2)\"\nb = [\"string\"]\nc = { type = { x = \"float64\", y = [\"int32\"] } }\nd = \"timestamp(ms)\"\nrest = \"json\"",
        )
        .unwrap();
        let kinds: Vec<Kind> = read.iter().map(|column| column.kind.clone()).collect();
        let structure =
            Kind::Struct(vec![("x".into(), Kind::Float64), ("y".into(), Kind::List(Box::new(Kind::Int32)))]);
        assert_eq!(
            kinds,
            [
                Kind::Decimal(10, 2),
                Kind::List(Box::new(Kind::String)),
                structure,
                Kind::EpochTimestamp(Unit::Millis),
                Kind::Json
            ]
        );
        assert_eq!(read[4].from, From::Rest);
    }

    #[test]
    fn what_cannot_be_a_column_says_what_to_write() {
        assert!(columns("page.url = \"string\"").unwrap_err().contains("path = \"/page/url\""));
        assert!(columns("_offset = \"int64\"").unwrap_err().contains("record's own"));
        assert!(columns("a = { path = \"a.b\", type = \"string\" }").unwrap_err().contains("/a/b"));
        assert!(columns("a = \"text\"").unwrap_err().contains("string"));
    }
}
