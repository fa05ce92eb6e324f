//! The JSON Schema of pipeline files, for editors: out of [`super::keys`].

use super::columns::KIND_NAMES;
use super::keys::{FILE, Key, Table, Takes};
use serde_json::{Map, Value, json};

/// `inrush pipeline schema`.
pub fn file_schema() -> Value {
    let mut schema = of_table(&FILE);
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "Inrush pipeline file".into();
    schema["definitions"] = json!({ "type": {
        "anyOf": [
            { "type": "string", "enum": KIND_NAMES },
            { "type": "string", "pattern": "^decimal\\(" },
            { "type": "array", "items": { "$ref": "#/definitions/type" }, "minItems": 1, "maxItems": 1 },
            { "type": "object", "additionalProperties": { "$ref": "#/definitions/type" } },
        ],
    } });
    schema
}

fn of_table(table: &Table) -> Value {
    let mut schema = json!({ "type": "object", "properties": properties(table.keys), "additionalProperties": false });
    if !table.needs.is_empty() {
        schema["required"] = table.needs.into();
    }
    if table.is_choice {
        schema["minProperties"] = 1.into();
        schema["maxProperties"] = 1.into();
    }
    schema
}

fn properties(keys: &[Key]) -> Value {
    let property = |key: &Key| {
        let mut schema = of(&key.takes);
        schema["description"] = key.meaning.into();
        (key.name.to_owned(), schema)
    };
    Value::Object(keys.iter().map(property).collect::<Map<_, _>>())
}

fn of(takes: &Takes) -> Value {
    match takes {
        Takes::Text => json!({ "type": "string" }),
        Takes::Flag => json!({ "type": "boolean" }),
        Takes::Whole => json!({ "type": "integer" }),
        Takes::Duration => json!({ "type": "string", "examples": ["500ms", "30s", "5m", "2h", "7d"] }),
        Takes::Size => json!({ "type": "string", "examples": ["64KiB", "128MiB", "1GiB"] }),
        Takes::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Takes::Names => json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] }),
        Takes::Words(words) => json!({ "type": "string", "enum": words }),
        // Beside `$ref` an older reader sees nothing else.
        Takes::Type => json!({ "allOf": [{ "$ref": "#/definitions/type" }] }),
        Takes::Table(table) => of_table(table),
        Takes::Tables(table) => json!({ "type": "array", "items": of_table(table) }),
        Takes::Map(inner) => json!({ "type": "object", "additionalProperties": of(inner) }),
        Takes::MapWith(inner, keys) => {
            json!({ "type": "object", "properties": properties(keys), "additionalProperties": of(inner) })
        }
        Takes::Any(all) => json!({ "anyOf": all.iter().map(of).collect::<Vec<_>>() }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::*;
    use super::super::parse::parse_all;
    use super::super::{load, parse_step};
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Why a value does not fit a schema, of those words that [`file_schema`] uses.
    fn misfit(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
        for word in schema.as_object().into_iter().flatten() {
            let wrong = match (word.0.as_str(), word.1) {
                ("$ref", to) => {
                    let to = to.as_str().unwrap().strip_prefix('#').unwrap();
                    misfit(root, root.pointer(to).unwrap(), value, at)
                }
                ("anyOf", all) => {
                    let all: Vec<_> = all.as_array().unwrap().iter().map(|one| misfit(root, one, value, at)).collect();
                    all.iter().all(Option::is_some).then(|| format!("{at}: none fits: {all:?}"))
                }
                ("allOf", all) => all.as_array().unwrap().iter().find_map(|one| misfit(root, one, value, at)),
                ("type", kind) => {
                    let is_it = match kind.as_str().unwrap() {
                        "object" => value.is_object(),
                        "array" => value.is_array(),
                        "string" => value.is_string(),
                        "integer" => value.is_i64(),
                        "boolean" => value.is_boolean(),
                        other => panic!("{other}"),
                    };
                    (!is_it).then(|| format!("{at}: {value} is no {kind}"))
                }
                ("enum", words) => {
                    (!words.as_array().unwrap().contains(value)).then(|| format!("{at}: {value} is none of {words}"))
                }
                ("pattern", start) => {
                    let start = start.as_str().unwrap().trim_start_matches('^').replace('\\', "");
                    value.as_str().filter(|text| !text.starts_with(&start)).map(|text| format!("{at}: {text}"))
                }
                ("items", inner) => {
                    value.as_array().into_iter().flatten().find_map(|item| misfit(root, inner, item, at))
                }
                ("minItems" | "maxItems", one) => {
                    value.as_array().filter(|items| one != items.len()).map(|_| format!("{at}: {value}"))
                }
                ("minProperties" | "maxProperties", one) => {
                    value.as_object().filter(|fields| one != fields.len()).map(|_| format!("{at}: {value}"))
                }
                ("required", names) => names
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(|name| value.is_object() && value.get(name.as_str().unwrap()).is_none())
                    .map(|name| format!("{at}: {name} is missing")),
                ("properties", properties) => value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .find_map(|(name, inner)| misfit(root, properties.get(name)?, inner, &format!("{at}/{name}"))),
                ("additionalProperties", more) => {
                    let known = schema.get("properties").and_then(Value::as_object);
                    let others = value.as_object().into_iter().flatten();
                    let mut others = others.filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
                    others.find_map(|(name, inner)| match more {
                        Value::Bool(false) => Some(format!("{at}: {name} is not known")),
                        more => misfit(root, more, inner, &format!("{at}/{name}")),
                    })
                }
                ("$schema" | "title" | "definitions" | "description" | "examples", _) => None,
                (other, _) => panic!("{other} is not looked at"),
            };
            if wrong.is_some() {
                return wrong;
            }
        }
        None
    }

    fn json_of(item: &toml_edit::Item) -> Value {
        fn value(of: &toml_edit::Value) -> Value {
            match of {
                toml_edit::Value::String(text) => text.value().as_str().into(),
                toml_edit::Value::Integer(number) => (*number.value()).into(),
                toml_edit::Value::Boolean(flag) => (*flag.value()).into(),
                toml_edit::Value::Array(items) => items.iter().map(value).collect(),
                toml_edit::Value::InlineTable(fields) => {
                    fields.iter().map(|(name, of)| (name.to_owned(), value(of))).collect::<Map<_, _>>().into()
                }
                other => panic!("{other}"),
            }
        }
        match item {
            toml_edit::Item::Value(of) => value(of),
            toml_edit::Item::Table(fields) => {
                fields.iter().map(|(name, item)| (name.to_owned(), json_of(item))).collect::<Map<_, _>>().into()
            }
            toml_edit::Item::ArrayOfTables(tables) => {
                tables.iter().map(|table| json_of(&toml_edit::Item::Table(table.clone()))).collect()
            }
            toml_edit::Item::None => Value::Null,
        }
    }

    fn judged(text: &str) -> Option<String> {
        let document: toml_edit::DocumentMut = text.parse().unwrap();
        let schema = file_schema();
        misfit(&schema, &schema, &json_of(document.as_item()), "")
    }

    #[test]
    fn all_example_pipelines_and_those_of_the_pages_fit() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut count = 0;
        for file in load::files(&root.join("pipelines")).unwrap() {
            assert_eq!(judged(&std::fs::read_to_string(&file).unwrap()), None, "{}", file.display());
            count += 1;
        }
        for page in ["README.md", "docs/PIPELINES.md"] {
            let text = std::fs::read_to_string(root.join(page)).unwrap();
            let blocks = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
            for block in blocks.filter(|block| block.contains("\nto ") || block.contains("[[route]]")) {
                if block.parse::<toml_edit::DocumentMut>().is_ok() && block.contains("from") {
                    assert_eq!(judged(block), None, "{page}:\n{block}");
                    count += 1;
                }
            }
        }
        assert!(count >= 4, "{count}");
    }

    #[test]
    fn what_the_parser_refuses_by_its_form_the_schema_refuses() {
        let good =
            "from = \"topic:t\"\nto = { topic = \"o\" }\n[columns]\na = \"decimal(10,2)\"\nb = [{ x = \"int32\" }]\n";
        assert_eq!(judged(good), None);
        for (what, with) in [
            ("topic = \"o\"", "topc = \"o\""),
            ("decimal(10,2)", "decimals"),
            ("[{ x = \"int32\" }]", "[\"int32\", \"string\"]"),
            ("from = \"topic:t\"", "form = \"topic:t\""),
            ("from = \"topic:t\"", "from = 7"),
        ] {
            let text = good.replace(what, with);
            assert!(judged(&text).is_some(), "{text}");
            assert!(load::text(Path::new("p.toml"), &text).is_err(), "{text}");
        }
    }

    /// What the parser says it knows where `qqqqqqqq` stands.
    fn known(texts: &[&str]) -> BTreeSet<String> {
        let mut known = BTreeSet::new();
        for text in texts {
            let text = text.replace('%', "qqqqqqqq = 1");
            let (_, mistakes) = parse_all(Path::new("p.toml"), &text);
            let told = mistakes.iter().find_map(|mistake| {
                let is_it = mistake.field.as_deref().is_some_and(|field| field.ends_with("qqqqqqqq"));
                (is_it || mistake.message.contains("qqqqqqqq"))
                    .then(|| mistake.message.split("known: ").nth(1))
                    .flatten()
            });
            let told = told.unwrap_or_else(|| panic!("nothing is known in {text}: {mistakes:#?}"));
            known.extend(told.split(", ").map(str::to_owned));
        }
        known
    }

    #[test]
    fn the_parser_and_the_table_know_the_same_keys() {
        let step = |text: &str| format!("[[step]]\n{text} = {{ % }}\n");
        let keyed = |text: &str| format!("[[step]]\n{text} = {{ key = \"a\", % }}\n");
        let within = |table: &Table, texts: &[&str]| {
            let names: BTreeSet<String> = table.keys.iter().map(|key| key.name.to_owned()).collect();
            let known = known(texts);
            assert_eq!(names, known, "what keys.rs has, and what the parser knows: {texts:?}");
        };
        let short = "%\n[columns]\na = \"string\"\n[[test]]\ngiven = {}\n";
        let long = format!("{short}[[step]]\nwhere = \"a\"\n[[route]]\nto = {{ topic = \"o\" }}\n");
        within(&FILE, &[short, &long, &format!("on-error = {{}}\n{short}")]);
        within(&FORMAT, &["format = { % }"]);
        within(&CSV, &["format = { csv = { % } }"]);
        within(&AVRO, &["format = { avro = { % } }", "format = { avro = { registry = \"http://x\", % } }"]);
        within(&PROTOBUF, &["format = { protobuf = { % } }", "format = { protobuf = { registry = \"http://x\", % } }"]);
        within(&LONG_COLUMN, &["[columns]\na = { type = \"string\", % }"]);
        within(&PARQUET, &["to = { parquet = \"x\", % }"]);
        within(&FILES, &["to = { files = \"x\", % }"]);
        within(&TOPIC, &["to = { topic = \"x\", % }"]);
        within(&KAFKA, &["to = { kafka = \"x\", % }"]);
        within(&HTTP, &["to = { http = \"http://x/\", % }"]);
        within(&STDOUT, &["to = { stdout = true, % }"]);
        within(&STORED, &["to = { topic = \"x\", store = { % } }"]);
        within(&SOURCE, &["from = { kafka = \"x\", % }"]);
        within(&LOGIN, &["from = { kafka = \"x\", sasl = { % } }"]);
        within(&CERTIFICATES, &["from = { kafka = \"x\", tls = { % } }"]);
        within(&WINDOW, &[&step("window")]);
        within(&HOPPING, &[&step("window").replace('%', "hopping = { % }")]);
        within(&LATE_TO, &[&step("window").replace('%', "late-to = { topic = \"x\", % }")]);
        within(&ON_ERROR, &["from = \"topic:t\"\non-error = { % }"]);
        within(&RETRY, &["from = \"topic:t\"\non-error = { retry = { % } }"]);
        within(&STEP, &["[[step]]\n%"]);
        within(&UNNEST, &[&step("unnest")]);
        within(&SAMPLE, &["[[step]]\nsample = { key = \"a\", % }"]);
        within(&ENRICH, &[&step("enrich"), "[[step]]\nenrich = { on = \"a\", key = \"a\", columns = [], % }"]);
        within(&DEDUPE, &[&keyed("dedupe")]);
        within(&DEBOUNCE, &[&keyed("debounce")]);
        within(&SESSIONIZE, &[&keyed("sessionize")]);
        within(&LAST, &[&keyed("last")]);
        within(&ROUTE, &["[[route]]\nto = { topic = \"x\" }\n%"]);
        within(
            &TEST,
            &["[[test]]\ngiven = {}\nexpect = \"filtered\"\n%", "[[test]]\ngiven = {}\noutputs = []\ntables = {}\n%"],
        );
        within(&GIVEN, &["[[test]]\ngiven = { % }"]);
        let kinds: Vec<&str> = STEP.keys.iter().map(|key| key.name).collect();
        assert_eq!(kinds, parse_step::KINDS, "in one order");
    }
}
