//! `from-schema` of `[columns]`: columns out of a JSON Schema file (draft 7 and 2020-12). What it says that no type holds becomes JSON text.

use super::columns::RECORD_FIELDS;
use super::spec::{Column, From, Kind};
use crate::config::Section;
use serde_json::{Map, Value};
use std::path::Path;

/// A schema's file is not larger.
const SIZE_MAX: u64 = 1 << 20;
/// Columns of one schema.
const COLUMNS_MAX: usize = 2_000;
/// Objects within objects; what lies deeper is JSON text.
const DEPTH_MAX: usize = 8;
/// Schemas that are only a reference to another, in a row.
const REFERENCES_MAX: usize = 16;

/// The columns of the schema that the section names, then those that it declares itself, which go before: one of the same name takes the
/// schema's place, one of the same path too. With the names of those that come of the schema.
pub(super) fn with_schema(section: &Section<'_>, own: Vec<Column>) -> (Vec<Column>, Option<Vec<String>>) {
    if !section.has("from-schema") {
        return (own, Some(Vec::new()));
    }
    let Some(file) = section.string("from-schema").map(|file| file.value) else { return (own, None) };
    let folder = section.mistakes().file.parent().unwrap_or(Path::new("."));
    let read = read(&folder.join(&file)).and_then(|schema| Reading::of(&schema));
    let mut columns = match read {
        Ok(columns) => columns,
        Err(reason) => {
            section.wrong("from-schema", format!("{file}: {reason}"));
            return (own, None);
        }
    };
    columns.retain(|column| !own.iter().any(|own| own.name == column.name || own.from == column.from));
    for (at, column) in columns.iter().enumerate() {
        let name = &column.name;
        let is_double = columns[..at].iter().any(|other| other.name == *name);
        if is_double || RECORD_FIELDS.contains(&name.as_str()) {
            let From::Path(path) = &column.from else { continue };
            let why = if is_double { "two fields would be the column" } else { "a record's own field is called" };
            let message = format!(
                "{file}: {why} {name}; name it yourself: NAME = {{ path = \"/{}\", type = \"{}\" }}",
                path.join("/"),
                super::kinds::word(&column.kind)
            );
            section.wrong("from-schema", message);
        }
    }
    let names = columns.iter().map(|column| column.name.clone()).collect();
    columns.extend(own);
    (columns, Some(names))
}

fn read(file: &Path) -> Result<Value, String> {
    let size = std::fs::metadata(file).map_err(|error| format!("cannot read it: {error}"))?.len();
    if size > SIZE_MAX {
        return Err(format!("it has {size} bytes; a schema's file has at most {SIZE_MAX}"));
    }
    let bytes = std::fs::read(file).map_err(|error| format!("cannot read it: {error}"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("it is no JSON: {error}"))
}

/// A schema that is read.
struct Reading<'s> {
    root: &'s Value,
    columns: Vec<Column>,
}

/// What one schema says of its values.
enum Meant<'s> {
    Column(Kind),
    Fields(&'s Map<String, Value>),
}

impl<'s> Reading<'s> {
    fn of(root: &'s Value) -> Result<Vec<Column>, String> {
        let mut reading = Reading { root, columns: Vec::new() };
        let whole = reading.resolved(root)?;
        match reading.meant(whole)? {
            (Meant::Fields(fields), _) => reading.fields(whole, fields, &mut Vec::new(), true)?,
            (Meant::Column(_), _) => return Err("it is no schema of an object with properties".to_owned()),
        }
        Ok(reading.columns)
    }

    fn fields(
        &mut self,
        object: &Value,
        fields: &'s Map<String, Value>,
        path: &mut Vec<String>,
        is_always: bool,
    ) -> Result<(), String> {
        let is_required = |name: &str| {
            object.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|one| one == name))
        };
        for (name, schema) in fields {
            path.push(name.clone());
            let schema = self.resolved(schema).map_err(|reason| format!("/{}: {reason}", path.join("/")))?;
            let (meant, is_nullable) = self.meant(schema).map_err(|reason| format!("/{}: {reason}", path.join("/")))?;
            let is_required = is_always && is_required(name) && !is_nullable;
            match meant {
                Meant::Fields(inner) if path.len() < DEPTH_MAX => self.fields(schema, inner, path, is_required)?,
                Meant::Fields(_) => self.push(path, Kind::Json, is_required)?,
                Meant::Column(kind) => self.push(path, kind, is_required)?,
            }
            path.pop();
        }
        Ok(())
    }

    fn push(&mut self, path: &[String], kind: Kind, required: bool) -> Result<(), String> {
        if self.columns.len() == COLUMNS_MAX {
            return Err(format!("it has more than {COLUMNS_MAX} fields; declare those that are needed"));
        }
        let from = From::Path(path.to_vec());
        self.columns.push(Column { name: path.join("_"), from, kind, required, coerce: false });
        Ok(())
    }

    /// The schema that a reference is.
    fn resolved(&self, schema: &'s Value) -> Result<&'s Value, String> {
        let mut found = schema;
        for _ in 0..REFERENCES_MAX {
            let Some(reference) = found.get("$ref").and_then(Value::as_str) else { return Ok(found) };
            let pointer = reference.strip_prefix('#').ok_or_else(|| {
                format!("\"{reference}\" is in another file, which is not looked into: copy it under $defs")
            })?;
            let there = self.root.pointer(pointer);
            found = there.ok_or_else(|| format!("\"{reference}\" is not in the file"))?;
        }
        Err("its references go round in a circle".to_owned())
    }

    /// What it is, and whether null is allowed.
    fn meant(&self, schema: &'s Value) -> Result<(Meant<'s>, bool), String> {
        let json = || Meant::Column(Kind::Json);
        let is_choice = ["oneOf", "anyOf", "allOf", "if", "not"].iter().any(|key| schema.get(key).is_some());
        let (words, is_nullable) = types(schema)?;
        if is_choice {
            return Ok((json(), true));
        }
        let meant = match words.as_slice() {
            ["object"] => match schema.get("properties").and_then(Value::as_object) {
                Some(fields) if !fields.is_empty() => Meant::Fields(fields),
                _ => json(),
            },
            ["array"] => match schema.get("items").map(|items| self.resolved(items)).transpose()? {
                Some(items) => match self.meant(items)? {
                    (Meant::Column(kind), _) if !matches!(kind, Kind::Json | Kind::List(_)) => {
                        Meant::Column(Kind::List(Box::new(kind)))
                    }
                    _ => json(),
                },
                None => json(),
            },
            [word] => Meant::Column(scalar(word, schema)?),
            // Several types: what is one of them fits only into text.
            _ => json(),
        };
        Ok((meant, is_nullable))
    }
}

/// The types that values may have beside null, and whether they may be null.
fn types(schema: &Value) -> Result<(Vec<&str>, bool), String> {
    let words: Vec<&str> = match schema.get("type") {
        Some(Value::String(word)) => vec![word],
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
        Some(other) => return Err(format!("its type is {other}")),
        None if schema.get("properties").is_some() => vec!["object"],
        None => match schema.get("enum").and_then(Value::as_array) {
            Some(values) if values.iter().all(Value::is_string) => vec!["string"],
            _ if schema.get("const").is_some_and(Value::is_string) => vec!["string"],
            _ => Vec::new(),
        },
    };
    let is_nullable = words.is_empty() || words.contains(&"null") || schema.get("nullable") == Some(&Value::Bool(true));
    Ok((words.into_iter().filter(|word| *word != "null").collect(), is_nullable))
}

fn scalar(word: &str, schema: &Value) -> Result<Kind, String> {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    Ok(match word {
        "string" => match schema.get("format").and_then(Value::as_str) {
            Some("date-time") => Kind::Timestamp,
            Some("date") => Kind::Date,
            _ => Kind::String,
        },
        "integer"
            if bound("minimum").is_some_and(|low| low >= 0.0)
                && bound("maximum").is_some_and(|high| high > i64::MAX as f64) =>
        {
            Kind::Uint64
        }
        "integer" => Kind::Int64,
        "number" => Kind::Float64,
        "boolean" => Kind::Bool,
        _ => return Err(format!("\"{word}\" is no type of JSON Schema")),
    })
}

#[cfg(test)]
mod tests {
    use crate::stream::{check, test};

    const CLICK: &str = r##"{
        "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["id", "page", "note"],
        "properties": {
            "id": { "type": "string", "format": "uuid" }, "ts": { "type": "string", "format": "date-time" },
            "day": { "type": ["string", "null"], "format": "date" }, "n": { "type": "integer" },
            "big": { "type": "integer", "minimum": 0, "maximum": 18446744073709551615 },
            "price": { "type": "number" }, "ok": { "type": "boolean" }, "note": { "type": ["string", "null"] },
            "page": { "type": "object", "required": ["url"], "properties": { "url": { "$ref": "#/$defs/url" }, "title": { "type": "string" } } },
            "user": { "properties": { "id": { "type": "string" } }, "required": ["id"] },
            "tags": { "type": "array", "items": { "type": "string" } }, "boxes": { "type": "array", "items": { "type": "object" } },
            "any": { "oneOf": [{ "type": "string" }, { "type": "integer" }] }, "two": { "type": ["string", "integer"] },
            "free": { "type": "object" }, "kind": { "enum": ["a", "b"] }, "all": true
        },
        "$defs": { "url": { "type": "string" } }
    }"##;

    fn folder(schema: &str, columns: &str, more: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("click.schema.json"), schema).unwrap();
        let file = folder.path().join("p.toml");
        let text = format!(
            "from = \"topic:t\"\nto = {{ topic = \"out\" }}\n[columns]\nfrom-schema = \"click.schema.json\"\n{columns}\n{more}"
        );
        std::fs::write(&file, text).unwrap();
        (folder, file)
    }

    #[test]
    fn every_property_is_a_column_of_its_type_and_check_says_so() {
        let (_kept, file) = folder(
            CLICK,
            "",
            "[[test]]\ngiven = { value = '{\"id\":\"x\",\"page\":{\"url\":\"u\"},\"any\":5}' }\nexpect = '{\"page_url\":\"u\",\"any\":\"5\"}'\n[[test]]\ngiven = { value = '{\"id\":\"x\",\"page\":{}}' }\nexpect-error = \"missing-required\"\n",
        );
        let report = check(&file, None).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        let found: Vec<String> = report.schema_columns.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
        let wanted = [
            "id string",
            "ts timestamp",
            "day date",
            "n int64",
            "big uint64",
            "price float64",
            "ok bool",
            "note string",
            "page_url string",
            "page_title string",
            "user_id string",
            "tags [string]",
            "boxes json",
            "any json",
            "two json",
            "free json",
            "kind string",
            "all json",
        ];
        assert_eq!(found, wanted);
        let tested = test(&file).unwrap();
        assert!(tested.iter().all(|tested| tested.passed), "{tested:#?}");
    }

    #[test]
    fn declared_columns_go_before_the_schema_s() {
        let (_kept, file) = folder(
            CLICK,
            "n = { path = \"/page/n\", type = \"int32\" }\nurl = { path = \"/page/url\", type = \"string\" }\nip = { header = \"ip\", type = \"string\" }",
            "",
        );
        let report = check(&file, None).unwrap();
        let names: Vec<&str> = report.writes.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.contains(&"ip") && names.contains(&"url") && !names.contains(&"page_url"), "{names:?}");
        assert_eq!(report.writes.iter().find(|(name, _)| name == "n").unwrap().1, "Int32");
    }

    #[test]
    fn what_is_no_schema_is_a_mistake_that_says_where() {
        let wrong = |schema: &str| {
            let (_kept, file) = folder(schema, "", "");
            let mistakes = check(&file, None).unwrap_err();
            let of_schema = mistakes.iter().find(|mistake| mistake.field.as_deref() == Some("columns.from-schema"));
            of_schema.unwrap_or_else(|| panic!("{mistakes:?}")).to_string()
        };
        let object = |properties: &str| format!("{{\"type\":\"object\",\"properties\":{{{properties}}}}}");
        assert!(
            wrong("{").contains("p.toml:4:15: columns.from-schema: click.schema.json: it is no JSON"),
            "{}",
            wrong("{")
        );
        assert!(wrong("{\"type\":\"string\"}").contains("object with properties"));
        assert!(wrong(&object("\"a\":{\"properties\":{\"b\":{\"type\":\"text\"}}}")).contains("/a/b: \"text\""));
        assert!(wrong(&object("\"a\":{\"$ref\":\"other.json\"}")).contains("another file"));
        assert!(wrong(&object("\"a\":{\"$ref\":\"#/$defs/x\"}")).contains("not in the file"));
        assert!(wrong(&object("\"a\":{\"$ref\":\"#/properties/a\"}")).contains("circle"));
        assert!(
            wrong(&object("\"a_b\":{\"type\":\"string\"},\"a\":{\"properties\":{\"b\":{\"type\":\"string\"}}}"))
                .contains("path = \"/a/b\"")
        );
        assert!(wrong(&object("\"_key\":{\"type\":\"string\"}")).contains("record's own"));
    }

    #[test]
    fn a_schema_within_itself_ends() {
        let tree = r##"{"type":"object","properties":{"name":{"type":"string"},"child":{"$ref":"#"}}}"##;
        let (_kept, file) = folder(tree, "", "");
        let report = check(&file, None).unwrap();
        assert_eq!(report.schema_columns.len(), super::DEPTH_MAX + 1);
        assert_eq!(report.schema_columns.last().unwrap().1, "json");
    }
}
