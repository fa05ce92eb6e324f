//! The key `format` of a pipeline file to a [`Format`], and what columns make of it.

use super::binary::Binary;
use super::registry::{Access, Registry};
use super::{Csv, Format, Language, Schema, avro, protobuf};
use crate::config::{Section, nearest};
use crate::stream::secrets;
use crate::stream::spec::{Column, From, Kind};
use crate::stream::web::Trust;
use std::path::Path;
use std::sync::Arc;

/// A file with a schema is not larger.
const SCHEMA_SIZE_MAX: u64 = 1 << 20;

/// Formats that are one word.
const WORDS: [&str; 3] = ["json", "ndjson", "raw"];
const KNOWN: &str = "\"json\", \"ndjson\", \"raw\", { csv = { header = true } }, { avro = { schema = \"FILE.avsc\" } }, { protobuf = { descriptor = \"FILE.desc\", message = \"NAME\" } }, { avro = { registry = \"http://HOST:PORT\" } }";

/// Reads the key; mistakes are noted, and what is wrong stands for JSON.
pub(in crate::stream) fn read(root: &Section<'_>) -> Format {
    match root.item("format") {
        None => return Format::Json,
        Some(item) if item.is_table_like() => {}
        Some(_) => {
            let word = root.string("format").map(|word| word.value);
            return word.and_then(|word| of_word(root, &word)).unwrap_or_default();
        }
    }
    let Some(section) = root.table("format") else { return Format::Json };
    let format = match section.which(&["csv", "avro", "protobuf"]).as_slice() {
        ["csv"] => csv(&section),
        ["avro"] => avro(&section),
        ["protobuf"] => protobuf(&section),
        _ => None,
    };
    if section.entries().len() != 1 {
        section.wrong("", format!("a pipeline has one format; known: {KNOWN}"));
    }
    section.finish();
    format.unwrap_or_default()
}

fn of_word(root: &Section<'_>, word: &str) -> Option<Format> {
    match word {
        "json" => return Some(Format::Json),
        "ndjson" => return Some(Format::Ndjson),
        "raw" => return Some(Format::Raw),
        "csv" => root.wrong("format", "say how it is written: format = { csv = { header = true } }"),
        _ => {
            let hint = nearest(word, &WORDS).map_or(String::new(), |meant| format!("; did you mean \"{meant}\"?"));
            root.wrong("format", format!("\"{word}\" is no format{hint}; known: {KNOWN}"));
        }
    }
    None
}

fn csv(section: &Section<'_>) -> Option<Format> {
    let csv = section.table("csv")?;
    let header = csv.boolean("header").is_some_and(|header| header.value);
    let delimiter = csv.read("delimiter", delimiter).map_or(b',', |delimiter| delimiter.value);
    let columns = csv.strings("columns").unwrap_or_default();
    if header && !columns.is_empty() {
        csv.wrong("columns", "names come from the header line or from here; leave one out");
    }
    if let Some((_, name)) = columns.iter().enumerate().find(|(at, name)| columns[..*at].contains(name)) {
        csv.wrong("columns", format!("\"{name}\" stands twice"));
    }
    csv.finish();
    Some(Format::Csv(Csv { header, delimiter, columns }))
}

fn avro(section: &Section<'_>) -> Option<Format> {
    let avro = section.table("avro")?;
    if avro.has("registry") {
        return registry(&avro, Language::Avro, &["schema"]);
    }
    let schema = schema_file(&avro, "schema").and_then(|bytes| {
        let text = std::str::from_utf8(&bytes).map_err(|error| format!("the schema is not UTF-8: {error}"));
        let schema = text.and_then(|text| avro::Schema::parse([text])).and_then(|schema| match schema.is_record() {
            true => Ok(schema),
            false => Err("it is no record, so its values have no fields".to_owned()),
        });
        noted(&avro, "schema", schema).map(Schema::Avro)
    });
    if !avro.has("schema") {
        avro.wrong(
            "",
            "say where the schema is: avro = { schema = \"FILE.avsc\" } or avro = { registry = \"http://HOST:PORT\" }",
        );
    }
    let is_framed = is_framed(&avro);
    avro.finish();
    Some(Format::Binary(Arc::new(Binary::File { schema: schema?, is_framed })))
}

fn protobuf(section: &Section<'_>) -> Option<Format> {
    let protobuf = section.table("protobuf")?;
    if protobuf.has("registry") {
        return registry(&protobuf, Language::Protobuf, &["descriptor", "message"]);
    }
    let descriptors = schema_file(&protobuf, "descriptor");
    let message = protobuf.string("message").map(|message| message.value);
    if !protobuf.has("descriptor") || !protobuf.has("message") {
        let hint = "say which message: protobuf = { descriptor = \"FILE.desc\", message = \"package.Message\" }";
        protobuf.wrong("", hint);
    }
    let is_framed = is_framed(&protobuf);
    protobuf.finish();
    let schema = protobuf::Schema::of_descriptors(&descriptors?, &message?);
    let schema = Schema::Protobuf(noted(&protobuf, "descriptor", schema)?);
    Some(Format::Binary(Arc::new(Binary::File { schema, is_framed })))
}

/// Schemas by the ids in the frames. `elsewhere` are keys of schemas from files.
fn registry(section: &Section<'_>, language: Language, elsewhere: &[&'static str]) -> Option<Format> {
    for key in elsewhere.iter().filter(|key| section.item(key).is_some()) {
        section.wrong(key, "the frame of each value says which schema of the registry it has; leave this out");
    }
    let url = section.string("registry");
    if section.has("framing") && !is_framed(section) {
        section.wrong("framing", "with a registry a value stands in Confluent's frame, which names its schema");
    }
    let access = access(section, url.map(|url| url.value));
    section.finish();
    Some(Format::Binary(Arc::new(Binary::Registry(Arc::new(Registry::new(access?, language))))))
}

/// Where the registry is, who asks, and whose certificate is believed.
fn access(section: &Section<'_>, url: Option<String>) -> Option<Access> {
    let file = section.mistakes().file;
    let user = section.string("user");
    let password = section.read("password", |text| secrets::fill(text, file));
    let trust = section.read("ca", |ca| Trust::of_file(&file.parent().unwrap_or(Path::new(".")).join(ca)));
    let mut access = noted(section, "registry", Access::new(&url?))?;
    match (user, password) {
        (Some(user), Some(password)) => access = access.of_user(&user.value, &password.value),
        (Some(_), None) if !section.has("password") => {
            section.wrong("user", "say its password too: password = \"{secret:NAME}\"");
        }
        (None, Some(_)) => section.wrong("password", "say whose it is: user = \"NAME\""),
        _ => {}
    }
    Some(trust.map_or(access.clone(), |trust| access.trusting(trust.value)))
}

/// What was made of a key's value, or the mistake in it.
fn noted<T>(section: &Section<'_>, key: &str, made: Result<T, String>) -> Option<T> {
    made.map_err(|reason| section.wrong(key, reason)).ok()
}

fn is_framed(section: &Section<'_>) -> bool {
    let framing = |text: &str| match text {
        "confluent" => Ok(true),
        "none" => Ok(false),
        _ => Err(format!("\"{text}\" is no framing; known: \"confluent\", \"none\"")),
    };
    section.read("framing", framing).is_some_and(|framing| framing.value)
}

/// What a file holds that the section names; beside the pipeline file, unless the name is a whole path.
fn schema_file(section: &Section<'_>, key: &'static str) -> Option<Vec<u8>> {
    let name = section.string(key)?.value;
    let folder = section.mistakes().file.parent().unwrap_or(Path::new(""));
    let path = folder.join(&name);
    let read = std::fs::metadata(&path).and_then(|found| match found.is_file() && found.len() <= SCHEMA_SIZE_MAX {
        true => std::fs::read(&path),
        false => Err(std::io::Error::other(format!("it is no file of at most {SCHEMA_SIZE_MAX} bytes"))),
    });
    noted(section, key, read.map_err(|error| format!("cannot read {}: {error}", path.display())))
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        _ => Err(format!("{text:?} is no delimiter; write one ASCII character such as \",\", \";\" or \"\\t\"")),
    }
}

/// Notes columns of the section that this format cannot have.
pub(in crate::stream) fn misfits(format: &Format, section: &Section<'_>, columns: &[Column]) {
    if let Format::Binary(binary) = format
        && let Binary::File { schema, .. } = binary.as_ref()
    {
        return not_in_schema(section, columns, schema);
    }
    for column in columns {
        let message = match (format, &column.from) {
            (Format::Raw, From::Path(_) | From::Rest) => {
                "a raw value has no fields: take it whole by the name _value, or read a header with { header = \"name\", type = \"TYPE\" }"
            }
            (Format::Csv(_), From::Path(path)) if path.len() > 1 => {
                "a line of CSV has cells and nothing below them: path = \"/NAME\""
            }
            (Format::Csv(csv), From::Path(path)) if !csv.columns.is_empty() && !csv.columns.contains(&path[0]) => {
                "the format's columns have none of that name"
            }
            (Format::Csv(csv), From::Path(path))
                if !csv.header && csv.columns.is_empty() && path[0].parse::<usize>().is_err() =>
            {
                "the format names no columns: take a cell by its position from 0, path = \"/0\", or write columns = […] into the format"
            }
            (Format::Csv(_), _) if matches!(column.kind, Kind::List(_) | Kind::Struct(_)) => {
                "a cell of CSV is no list and no object; take it as a string"
            }
            _ => continue,
        };
        section.wrong(&column.name, message);
    }
}

/// A column of a field that no value can have would be null for ever.
fn not_in_schema(section: &Section<'_>, columns: &[Column], schema: &Schema) {
    for column in columns {
        let From::Path(path) = &column.from else { continue };
        let Some((at, known)) = schema.lacks(path) else { continue };
        let (part, above) = (&path[at], path[..at].iter().map(|one| format!("/{one}")).collect::<String>());
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let hint = nearest(part, &known).map_or(String::new(), |meant| format!("; did you mean \"{above}/{meant}\"?"));
        let place = if above.is_empty() { String::new() } else { format!(" at \"{above}\"") };
        section.wrong(&column.name, format!("the schema has no field \"{part}\"{place}{hint}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::parse::parse;
    use std::path::Path;

    fn format(line: &str, columns: &str) -> Result<Format, String> {
        let text = format!("from = \"topic:t\"\nto = {{ parquet = \"t\" }}\n{line}\n[columns]\n{columns}\n");
        let spec = parse(Path::new("p.toml"), &text);
        spec.map(|spec| spec.format)
            .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn every_format_is_read() {
        assert!(matches!(format("", "a = \"string\""), Ok(Format::Json)));
        assert!(matches!(format("format = \"json\"", "a = \"string\""), Ok(Format::Json)));
        assert!(matches!(format("format = \"ndjson\"", "a = \"string\""), Ok(Format::Ndjson)));
        assert!(matches!(format("format = \"raw\"", "a = { header = \"a\", type = \"string\" }"), Ok(Format::Raw)));
        let csv = format("format = { csv = { delimiter = \"\\t\", columns = [\"a\", \"b\"] } }", "a = \"string\"");
        let Ok(Format::Csv(csv)) = csv else { panic!("{csv:?}") };
        assert_eq!(csv, Csv { header: false, delimiter: b'\t', columns: vec!["a".to_owned(), "b".to_owned()] });
    }

    #[test]
    fn what_is_no_format_says_what_is() {
        let wrong = |line: &str, columns: &str| format(line, columns).unwrap_err();
        assert!(wrong("format = \"jsn\"", "").contains("did you mean \"json\""));
        assert!(wrong("format = \"csv\"", "").contains("header = true"));
        assert!(wrong("format = 5", "").contains("format"));
        assert!(wrong("format = {}", "").contains("one format"));
        assert!(wrong("format = { cvs = {} }", "").contains("\"csv\""));
        assert!(wrong("format = { csv = { headr = true } }", "").contains("\"header\""));
        assert!(wrong("format = { csv = { delimiter = \"::\" } }", "").contains("delimiter"));
        assert!(wrong("format = { csv = { header = true, columns = [\"a\"] } }", "").contains("leave one out"));
        assert!(wrong("format = { csv = { columns = [\"a\", \"a\"] } }", "").contains("twice"));
        assert!(wrong("formt = \"json\"", "").contains("\"format\""));
    }

    #[test]
    fn a_registry_says_all_that_a_file_would() {
        let wrong = |line: &str| format(line, "a = \"string\"").unwrap_err();
        assert!(matches!(
            format("format = { avro = { registry = \"http://r:8081\", framing = \"confluent\" } }", "a = \"string\""),
            Ok(Format::Binary(_))
        ));
        assert!(matches!(
            format("format = { protobuf = { registry = \"http://r\" } }", "a = \"string\""),
            Ok(Format::Binary(_))
        ));
        assert!(matches!(
            format(
                "format = { avro = { registry = \"https://r\", user = \"u\", password = \"p\" } }",
                "a = \"string\""
            ),
            Ok(Format::Binary(_))
        ));
        assert!(wrong("format = { avro = { registry = \"http://r\", user = \"u\" } }").contains("password"));
        assert!(wrong("format = { avro = { registry = \"http://r\", password = \"p\" } }").contains("whose"));
        assert!(wrong("format = { avro = { registry = \"http://r/?x\" } }").contains("question mark"));
        assert!(wrong("format = { avro = { registry = \"http://r\", schema = \"x\" } }").contains("leave this out"));
        assert!(
            wrong("format = { protobuf = { registry = \"http://r\", message = \"x\" } }").contains("leave this out")
        );
        assert!(wrong("format = { avro = { registry = \"http://r\", framing = \"none\" } }").contains("frame"));
        assert!(wrong("format = { avro = { registry = 5 } }").contains("registry"));
    }

    #[test]
    fn columns_that_a_format_cannot_have_are_mistakes_of_their_own_line() {
        let wrong = |line: &str, columns: &str| format(line, columns).unwrap_err();
        let raw = wrong("format = \"raw\"", "a = \"string\"");
        assert!(raw.starts_with("p.toml:5:") && raw.contains("_value"), "{raw}");
        assert!(
            wrong("format = { csv = { header = true } }", "a = { path = \"/a/b\", type = \"string\" }")
                .contains("/NAME")
        );
        assert!(wrong("format = { csv = {} }", "a = \"string\"").contains("/0"));
        assert!(wrong("format = { csv = { columns = [\"b\"] } }", "a = \"string\"").contains("none of that name"));
        assert!(wrong("format = { csv = { header = true } }", "a = [\"string\"]").contains("no list"));
    }

    #[test]
    fn a_format_below_the_columns_is_told_to_move() {
        let found = format("", "a = \"string\"\nformat = { csv = { header = true } }").unwrap_err();
        assert!(found.contains("move this line above [columns]"), "{found}");
        // A column may well have that name.
        assert!(format("", "format = \"json\"").is_ok());
    }
}
