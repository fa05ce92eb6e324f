//! A proposal as the text of a pipeline file.

use super::record::{Expect, Given, Kind, Test};
use super::{Field, ProposeError, To, Wish, load, path_of, wrong};
use crate::record::TopicName;
use crate::stream::format::Csv;
use crate::stream::kinds;
use crate::stream::load::Job;
use crate::stream::spec;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// What the file will say.
pub(super) struct Draft<'a> {
    pub(super) wish: &'a Wish,
    pub(super) kind: Kind,
    pub(super) samples: usize,
    /// Records that only say what the columns of the others are called.
    pub(super) headings: usize,
    /// A schema's id stands before each value.
    pub(super) is_framed: bool,
    pub(super) fields: Vec<Field>,
    pub(super) headers: BTreeMap<String, usize>,
    pub(super) test: Option<Test>,
}

impl Draft<'_> {
    pub(super) fn path(&self) -> PathBuf {
        path_of(&self.wish.name)
    }

    /// The file as it is now, planned.
    pub(super) fn job(&self) -> Result<Job, ProposeError> {
        load::text(&self.path(), &self.text()).map_err(wrong)
    }

    pub(super) fn text(&self) -> String {
        let Wish { name, from, .. } = self.wish;
        let mut out = format!(
            "# Rows out of topic {from}, proposed by {} of its records: look through types and names, then let it run.\n#   inrush pipeline check {name}.toml\n#   inrush pipeline test {name}.toml\n\nfrom   = {}\n",
            self.samples,
            quoted(&format!("topic:{from}"))
        );
        match &self.kind {
            Kind::Json => {}
            Kind::Csv(how) => {
                let _ = writeln!(out, "format = {}", csv_text(how));
            }
            other => {
                let _ = writeln!(out, "format = {}", quoted(other.word()));
            }
        }
        if self.headings > 0 {
            let _ = writeln!(
                out,
                "# {} more of its records only say what the columns are called: they become dead letters.",
                self.headings
            );
        }
        match self.kind {
            Kind::Raw if self.is_framed => out.push_str("# A zero byte and a schema's id stand before each value, as clients of a schema registry write it. With the registry's address its fields\n# can be columns, instead of the two lines around this:\n# format = { avro = { registry = \"http://HOST:8081\" } }   # or protobuf = { … }\nselect = \"_value, _key, _timestamp\"\n"),
            Kind::Raw => out.push_str("select = \"_value, _key, _timestamp\"\n"),
            _ => out.push_str("# where  = \"…\"          # SQL that is true of the rows to keep; without it, all\n# select = \"a, b as c\"   # columns and SQL over them; without it, all columns as they are\n"),
        }
        let _ = writeln!(out, "to     = {}", self.to());
        if from.dead_letters().is_none() {
            let _ = writeln!(out, "on-error = {{ then = {} }}", quoted(&format!("topic:{}", self.beside("failed"))));
        }
        self.columns(&mut out);
        self.headers(&mut out);
        if let Some(test) = &self.test {
            out.push_str(&test_text(test));
        }
        out
    }

    fn to(&self) -> String {
        let time = self.fields.iter().find(|field| field.is_clock()).map_or("_timestamp", |field| &field.column);
        match self.wish.to {
            To::Parquet => format!(
                "{{ parquet = {}, partition = \"dt=%Y-%m-%d\", time = {}, roll = \"5m or 128MiB\" }}",
                quoted(&self.wish.name),
                quoted(time)
            ),
            To::Topic => format!(
                "{{ topic = {} }}   # key = \"COLUMN\" makes a column the record's key",
                quoted(&self.beside("rows"))
            ),
        }
    }

    /// The name of a topic beside the pipeline that is neither its source nor what takes the source's dead letters.
    fn beside(&self, word: &str) -> String {
        let Wish { name, from, .. } = self.wish;
        let names = [format!("{name}-{word}"), word.to_owned(), format!("{word}-2")];
        let is_free = |topic: &&String| {
            let topic = TopicName::new(topic.as_str()).ok();
            topic.is_some_and(|topic| topic != *from && Some(topic) != from.dead_letters())
        };
        names.iter().find(is_free).unwrap_or(&names[2]).clone()
    }

    fn columns(&self, out: &mut String) {
        if self.fields.is_empty() {
            return;
        }
        let catch_all = kinds::word(&self.kind.catch_all());
        let _ = write!(
            out,
            "\n# How often each field was there, and what was in it. A value of another type makes its record a dead letter that names the column;\n# \"{catch_all}\" takes everything, as text.\n[columns]\n"
        );
        let lines: Vec<(String, String)> = self
            .fields
            .iter()
            .map(|field| (format!("{} = {}", key(&field.column), column(field)), plain(&field.note())))
            .collect();
        let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(72);
        for (line, note) in lines {
            let _ = writeln!(out, "{line:<width$}   # {note}");
        }
        out.push_str("# rest = \"json\"   # the fields that no column reads, as one JSON text\n");
    }

    fn headers(&self, out: &mut String) {
        if self.headers.is_empty() {
            return;
        }
        match self.kind {
            // It has no columns so far.
            Kind::Raw => out.push_str("# Headers of its records can be columns, for select to name:\n# [columns]\n"),
            _ => out.push_str("# Headers of its records can be columns too:\n"),
        }
        for (name, seen) in &self.headers {
            let line = format!("{{ header = {}, type = \"string\" }}", quoted(name));
            let _ = writeln!(out, "# NAME = {}   # {}%", plain(&line), seen * 100 / self.samples.max(1));
        }
    }
}

fn csv_text(how: &Csv) -> String {
    let mut keys = Vec::new();
    if how.header {
        keys.push("header = true".to_owned());
    }
    if how.delimiter != b',' {
        keys.push(format!("delimiter = {}", quoted(&char::from(how.delimiter).to_string())));
    }
    if !how.columns.is_empty() {
        let names: Vec<String> = how.columns.iter().map(|name| quoted(name)).collect();
        keys.push(format!("columns = [{}]", names.join(", ")));
    }
    if keys.is_empty() { "{ csv = {} }".to_owned() } else { format!("{{ csv = {{ {} }} }}", keys.join(", ")) }
}

/// `"int64"`, or the long form where name and path differ.
fn column(field: &Field) -> String {
    let kind = kind_text(&field.kind);
    if field.path.as_slice() == [field.column.as_str()] {
        return kind;
    }
    let pointer: String =
        field.path.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect();
    format!("{{ path = {}, type = {kind} }}", quoted(&pointer))
}

fn kind_text(kind: &spec::Kind) -> String {
    match kind {
        spec::Kind::List(item) => format!("[{}]", kind_text(item)),
        other => quoted(&kinds::word(other)),
    }
}

fn test_text(test: &Test) -> String {
    let given = match &test.given {
        Given::Text(text) => format!("value = {}", quoted(text)),
        Given::Bytes(bytes) => format!("value-base64 = \"{}\"", STANDARD.encode(bytes)),
    };
    let expect = match &test.expect {
        Expect::Row(row) => format!("expect = {}", quoted(&row.to_string())),
        Expect::Dead(reason) => format!("expect-error = \"{reason}\""),
    };
    format!(
        "\n# A record that was sampled (long texts are cut, secrets hidden), and what becomes of it.\n[[test]]\ngiven  = {{ {given}, timestamp = {} }}\n{expect}\n",
        test.timestamp
    )
}

/// A name before `=`.
fn key(name: &str) -> String {
    let is_bare =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if is_bare { name.to_owned() } else { quoted(name) }
}

/// A TOML text on one line: as it is within single quotes where that can be, else with escapes.
fn quoted(text: &str) -> String {
    let text = &crate::config::unexpanded(text);
    let is_plain = |letter: char| !letter.is_control() && letter != '\'';
    if text.contains(['"', '\\']) && text.chars().all(is_plain) {
        return format!("'{text}'");
    }
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// What may stand in a comment.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}
