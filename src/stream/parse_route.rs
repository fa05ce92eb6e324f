//! `[[route]]` and `to`: which rows go to which output.

use super::parse::{misplaced, sql_of};
use super::parse_parquet;
use super::spec::{Output, Route, Rule, TopicOutput};
use crate::config::Section;
use crate::record::TopicName;

/// Outputs of one pipeline.
const ROUTES_MAX: usize = 32;

/// `to` of the short form: one route that takes every row.
pub(super) fn short(root: &Section<'_>) -> Option<Route> {
    let (to, named_at) = output(root)?;
    Some(Route { rule: Rule::Always, to: to?, named_at })
}

/// All `[[route]]`s.
pub(super) fn read(root: &Section<'_>) -> Vec<Route> {
    if !root.has("route") {
        root.wrong("", "say where rows go: [[route]] with to = { parquet = \"FOLDER\" } or to = { topic = \"NAME\" }");
        return Vec::new();
    }
    let sections = root.tables("route");
    if sections.len() > ROUTES_MAX {
        root.wrong("route", format!("{} routes; a pipeline has at most {ROUTES_MAX}", sections.len()));
    }
    let mut routes: Vec<Route> = Vec::new();
    for section in &sections {
        misplaced(section, "[[route]]", |key, _| key != "where" && key != "to");
        let rule = rule(section);
        let output = output(section);
        section.finish();
        let Some((Some(to), named_at)) = output else { continue };
        if routes.iter().any(|route| route.to.to_string() == to.to_string()) {
            section.wrong("to", format!("another route writes to {to} too: make one of them, joined by or"));
        }
        if matches!(rule, Rule::Otherwise) && routes.iter().any(|route| matches!(route.rule, Rule::Otherwise)) {
            section.wrong("otherwise", "another route takes the rest already");
        }
        routes.push(Route { rule, to, named_at });
    }
    routes
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

/// The output, and where the column that it names stands.
fn output(section: &Section<'_>) -> Option<(Option<Output>, (usize, usize))> {
    if section.item("to").is_none_or(|to| to.is_str()) {
        section.wrong("to", "say where to write: to = { parquet = \"clicks\" } or to = { topic = \"people\" }");
        return None;
    }
    let to = section.table("to")?;
    misplaced(&to, "[to]", |_, _| true);
    let named = if to.has("topic") { to.string("key") } else { to.string("time") };
    let at = named.as_ref().and_then(|named| named.place.clone());
    let at = at.map_or((0, 0), |place| crate::config::position(section.mistakes().text, place.start));
    let output = match (to.has("parquet"), to.has("topic")) {
        (true, false) => parse_parquet::read(&to).map(Output::Parquet),
        (false, true) => topic_output(&to).map(Output::Topic),
        (true, true) => {
            let _ = (to.item("parquet"), to.item("topic"));
            to.wrong("topic", "a route has one output; write a second [[route]] for the other");
            None
        }
        (false, false) => {
            // Asked for, so that a typo is told from them.
            let _ = (to.item("parquet"), to.item("topic"));
            to.wrong("", "say which: to = { parquet = \"FOLDER\" } or to = { topic = \"NAME\" }");
            None
        }
    };
    to.finish();
    Some((output, at))
}

fn topic_output(to: &Section<'_>) -> Option<TopicOutput> {
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
        let outputs: Vec<String> = spec.routes.iter().map(|route| route.to.to_string()).collect();
        assert_eq!(outputs, ["topic people", "parquet rest"]);
        assert!(matches!((&spec.routes[0].rule, &spec.routes[1].rule), (Rule::Where(_), Rule::Otherwise)));
    }

    #[test]
    fn routes_that_cannot_be_meant_are_told() {
        let with = |more: &str| mistakes(&format!("{LONG}{more}"));
        let twice = with("[[route]]\nto = { parquet = \"rest\" }\n");
        assert!(twice.len() == 1 && twice[0].contains("parquet rest too"), "{twice:#?}");
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
