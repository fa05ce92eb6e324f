//! `[[route]]` and `to`: which rows go to which output.

use super::neighbours;
use super::parse::{CIRCLE, misplaced, sql_of};
use super::parse_kafka;
use super::parse_parquet;
use super::spec::{Compression, HttpOutput, Output, ParquetOutput, Route, Rule, StoreColumn, TopicOutput};
use crate::config::{Section, nearest};
use crate::record::TopicName;

/// Outputs of one pipeline.
const ROUTES_MAX: usize = 32;
/// The keys of which an output has one.
const KINDS: [&str; 6] = ["parquet", "topic", "kafka", "http", "files", "stdout"];
const KNOWN: &str = "to = { parquet = \"FOLDER\" }, { topic = \"NAME\" }, { kafka = \"NAME\", servers = \"HOST:PORT\" }, { http = \"https://…\" }, { files = \"FOLDER\" } or { stdout = true }";

/// `to` of the short form: one route that takes every row.
pub(super) fn short(root: &Section<'_>) -> Option<Route> {
    let To { output, store, named_at } = output(root)?;
    Some(Route { rule: Rule::Always, to: output?, store, named_at })
}

/// All `[[route]]`s of what reads a topic here, or elsewhere, and the rules of those whose output is wrong.
pub(super) fn read(root: &Section<'_>, source: Option<&TopicName>) -> (Vec<Route>, Vec<Rule>) {
    if !root.has("route") {
        root.wrong("", format!("say where rows go: [[route]] with {KNOWN}"));
        return (Vec::new(), Vec::new());
    }
    let sections = root.tables("route");
    if sections.len() > ROUTES_MAX {
        root.wrong("route", format!("{} routes; a pipeline has at most {ROUTES_MAX}", sections.len()));
    }
    let (mut routes, mut rules): (Vec<Route>, Vec<Rule>) = (Vec::new(), Vec::new());
    for section in &sections {
        misplaced(section, "[[route]]", |key, _| key != "where" && key != "to");
        let rule = rule(section);
        let output = output(section);
        section.finish();
        let Some(To { output: Some(to), store, named_at }) = output else {
            rules.push(rule);
            continue;
        };
        if routes.iter().any(|route| route.to.is_where(&to)) {
            section.wrong("to", format!("another route writes to {to} too: make one of them, joined by or"));
        } else if let Some(other) = routes.iter().find(|route| shares_folder(&route.to, &to)) {
            let told =
                format!("another route writes to {}: who reads one folder would read both, name another", other.to);
            section.wrong("to", told);
        }
        if let Output::Topic(out) = &to
            && source == Some(&out.topic)
        {
            section.wrong("to", CIRCLE);
        }
        if matches!(rule, Rule::Otherwise) && routes.iter().any(|route| matches!(route.rule, Rule::Otherwise)) {
            section.wrong("otherwise", "another route takes the rest already");
        }
        routes.push(Route { rule, to, store, named_at });
    }
    (routes, rules)
}

fn shares_folder(one: &Output, other: &Output) -> bool {
    let (Output::Parquet(one), Output::Parquet(other)) = (one, other) else { return false };
    neighbours::shares(one, other)
}

fn rule(section: &Section<'_>) -> Rule {
    let filter = section.string("where").map(|sql| sql_of(section, "where", sql));
    match (filter, section.boolean("otherwise")) {
        (Some(_), Some(_)) => {
            section.wrong("otherwise", "a route has where, or otherwise = true, or neither (it takes every row)");
            Rule::Otherwise
        }
        (Some(sql), None) => Rule::Where(sql),
        (None, Some(otherwise)) if !otherwise.value => {
            section.wrong("otherwise", "it is true, or left out: a route without where takes every row");
            Rule::Always
        }
        (None, Some(_)) => Rule::Otherwise,
        (None, None) => Rule::Always,
    }
}

/// What `to` says.
struct To {
    output: Option<Output>,
    store: Option<StoreColumn>,
    /// Where the column that it names stands.
    named_at: (usize, usize),
}

fn output(section: &Section<'_>) -> Option<To> {
    if section.item("to").is_none_or(|to| to.is_str()) {
        section.wrong("to", format!("say where to write: {KNOWN}"));
        return None;
    }
    let to = section.table("to")?;
    if section.item("to").is_some_and(toml_edit::Item::is_table) {
        misplaced(&to, "[to]", |_, _| true);
    }
    let kinds = to.which(&KINDS);
    let named = match ["topic", "kafka", "parquet", "files"].into_iter().find(|kind| kinds.contains(kind)) {
        Some("topic" | "kafka") => to.string("key"),
        Some(_) => to.string("time"),
        None => None,
    };
    let at = named.as_ref().and_then(|named| named.place.clone());
    let at = at.map_or((0, 0), |place| crate::config::position(section.mistakes().text, place.start));
    let output = match kinds.as_slice() {
        ["parquet"] => parse_parquet::read(&to, "parquet").map(|out| Output::Parquet(Box::new(out))),
        ["files"] => files(&to).map(|out| Output::Parquet(Box::new(out))),
        ["topic"] => topic_output(&to).map(Output::Topic),
        ["kafka"] => parse_kafka::output(&to).map(Output::Kafka),
        ["http"] => HttpOutput::read(&to).map(|out| Output::Http(Box::new(out))),
        ["stdout"] => stdout(&to),
        [] => {
            let keys: Vec<&str> = to.entries().into_iter().map(|(key, _)| key).collect();
            let meant = keys.iter().find_map(|key| Some((*key, nearest(key, &KINDS)?)));
            let meant = meant.map_or(String::new(), |(key, meant)| format!("{key} is none; did you mean {meant}? "));
            to.wrong("", format!("{meant}say which: {KNOWN}"));
            // Which keys it may have is not known then.
            for key in keys {
                let _ = to.item(key);
            }
            None
        }
        [.., other] => {
            to.wrong(other, "a route has one output; write a second [[route]] for the other");
            None
        }
    };
    let store = if to.has("store") { store(&to) } else { None };
    to.finish();
    Some(To { output, store, named_at: at })
}

fn stdout(to: &Section<'_>) -> Option<Output> {
    if !to.boolean("stdout")?.value {
        to.wrong("stdout", "it is true; without it there is no such output");
    }
    Some(Output::Stdout)
}

/// `store = { column = "picture", folder = "pictures", as = "path" }`
fn store(to: &Section<'_>) -> Option<StoreColumn> {
    let store = to.table("store")?;
    let at = store.place().map_or((0, 0), |place| crate::config::position(store.mistakes().text, place.start));
    let (column, folder) = (store.string("column"), store.string("folder"));
    let name = store.string("as").map(|name| name.value);
    if column.is_none() || folder.is_none() {
        store.wrong("", "say which bytes become files, and where: store = { column = \"picture\", folder = \"pictures\", as = \"picture_path\" }");
    }
    let folder = folder.and_then(|folder| parse_parquet::folder_here(&store, "folder", &folder.value));
    store.finish();
    let column = column?.value;
    Some(StoreColumn { name: name.unwrap_or_else(|| column.clone()), column, folder: folder?, at })
}

/// `to = { files = "FOLDER" }`: as Parquet, but for the form of its files.
fn files(to: &Section<'_>) -> Option<ParquetOutput> {
    if to.has("format") && to.string("format").is_some_and(|format| format.value != "ndjson") {
        to.wrong(
            "format",
            "files have the format \"ndjson\", a JSON object a line; of Parquet is to = { parquet = \"FOLDER\" }",
        );
    }
    let level = |out: &ParquetOutput| out.compression_level;
    let compression = to.string("compression").map_or("zstd".to_owned(), |compression| compression.value);
    let out = parse_parquet::read(to, "files")?;
    let lines = match compression.as_str() {
        "zstd" => Compression::Zstd(level(&out)),
        "gzip" => Compression::Gzip,
        "none" => Compression::None,
        _ => {
            to.wrong("compression", "it is \"zstd\", \"gzip\" or \"none\"");
            return None;
        }
    };
    Some(ParquetOutput { lines: Some(lines), ..out })
}

pub(super) fn topic_output(to: &Section<'_>) -> Option<TopicOutput> {
    let name = to.string("topic")?;
    // `topic:people`, as in `from`, is understood too.
    let topic = match TopicName::new(name.value.strip_prefix("topic:").unwrap_or(&name.value)) {
        Ok(topic) if topic.is_internal() => {
            to.wrong("topic", format!("\"{topic}\" is kept by the daemon itself; write to another topic"));
            return None;
        }
        Ok(topic) => topic,
        Err(error) => {
            to.wrong("topic", error.to_string());
            return None;
        }
    };
    Some(TopicOutput { topic, key: to.string("key").map(|key| key.value) })
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::super::spec::Step;
    use super::*;
    use std::path::Path;

    fn mistakes(text: &str) -> Vec<String> {
        parse(Path::new("p.toml"), text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    const LONG: &str = r#"
from = "topic:c"
[columns]
a = "string"
[[step]]
where = "a <> 'x'"
[[step]]
select = "a, upper(a) as b"
[[route]]
where = "b = 'X'"
to    = { topic = "people", key = "a" }
[[route]]
otherwise = true
to        = { parquet = "rest" }
"#;

    #[test]
    fn the_long_form_is_read_whole() {
        let spec = parse(Path::new("p.toml"), LONG).unwrap();
        let fields = spec.steps.iter().map(|step| match step {
            Step::Where(sql) | Step::Select(sql) => sql.field.as_str(),
            other => panic!("{other:?}"),
        });
        assert_eq!(fields.collect::<Vec<_>>(), ["step[0].where", "step[1].select"]);
        let outputs = spec.outputs();
        assert_eq!(outputs, ["topic people", "parquet rest"]);
        assert!(matches!((&spec.routes[0].rule, &spec.routes[1].rule), (Rule::Where(_), Rule::Otherwise)));
    }

    #[test]
    fn routes_that_cannot_be_meant_are_told() {
        let with = |more: &str| mistakes(&format!("{LONG}{more}"));
        let twice = with("[[route]]\nto = { parquet = \"rest\" }\n");
        assert!(twice.len() == 1 && twice[0].contains("parquet rest too"), "{twice:#?}");
        for to in ["{ files = \"rest\" }", "{ parquet = \"rest/some\" }", "{ files = \"rest/a/b\" }"] {
            let within = with(&format!("[[route]]\nto = {to}\n"));
            assert!(within.len() == 1 && within[0].contains("writes to parquet rest: who reads"), "{within:#?}");
        }
        let beside = format!("{LONG}[[route]]\nto = {{ parquet = \"rest-of\" }}\n");
        assert!(parse(Path::new("p.toml"), &beside).is_ok());
        let rest = with("[[route]]\notherwise = true\nto = { parquet = \"more\" }\n");
        assert!(rest.len() == 1 && rest[0].contains("takes the rest already"), "{rest:#?}");
        let both = with("[[route]]\notherwise = true\nwhere = \"a = 'z'\"\nto = { parquet = \"more\" }\n");
        assert!(both.iter().any(|line| line.contains("or neither")), "{both:#?}");
        let none = with("[[route]]\nwhere = \"a = 'z'\"\n");
        assert!(none.len() == 1 && none[0].contains("say where to write"), "{none:#?}");
        let source = with("[[route]]\nwhere = \"a = 'z'\"\nto = { topic = \"c\" }\n");
        assert!(source[0].contains("read what it writes"), "{source:#?}");
        let key = with("[[route]]\nwhen = \"a = 'z'\"\nto = { topic = \"d\" }\n");
        assert!(key[0].contains("route[2].when"), "{key:#?}");
        let nowhere = mistakes("from = \"topic:c\"\n[[step]]\nwhere = \"true\"\n[columns]\na = \"string\"\n");
        assert!(nowhere[0].contains("say where rows go"), "{nowhere:#?}");
    }

    #[test]
    fn the_forms_are_not_mixed_and_the_long_one_is_shown() {
        let text = LONG.replace("[columns]", "where = \"a = 'y'\"\nto = { parquet = \"x\" }\n[columns]");
        let mixed = mistakes(&text);
        assert!(mixed[0].contains("[[step]]\nwhere = \"a = 'y'\""), "{mixed:#?}");
        assert!(mixed[1].contains("[[route]]\nto = { parquet = \"x\" }"), "{mixed:#?}");
    }
}
