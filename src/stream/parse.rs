//! Text of a pipeline file to its [`Spec`]: the short form (`from`, `where`, `select`, `to`, `on-error`, `[columns]`, `[[test]]`), and the
//! long one, which has `[[step]]` and `[[route]]` in place of `where`, `select` and `to`.

use super::columns;
use super::cpu::CpuShare;
use super::enrich;
use super::fault::Reason;
use super::format;
use super::schema_columns::with_schema;
use super::spec::{
    Breaker, Enrich, Expect, Given, OnError, Output, Route, Rule, Spec, Sql, Step, TableFrom, Test, TopicOutput, Unread,
};
use super::{parse_kafka, parse_route as routes, parse_step as steps, parse_window as windows};
use crate::config::{Document, Mistake, Mistakes, Section, Value};
use crate::json::Node;
use crate::record::TopicName;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::path::Path;
use std::time::Duration;

/// Keys that belong above `[columns]`: under it, TOML silently gives them to that table.
const TOP_KEYS: [&str; 7] = ["from", "format", "where", "select", "to", "on-error", "cpu"];
/// Attempts after the first, and the pause between them, unless the file says otherwise.
/// A name stands in the names of files, with what tells them apart.
const NAME_SIZE_MAX: usize = 128;
const RETRIES: u32 = 2;
const RETRIES_MAX: i64 = 100;
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// A pipeline that turns nearly everything into dead letters is wrong, not its records.
const BREAKER: Breaker = Breaker { percent: 90, window: 10_000 };

/// What is wrong with a test that says nothing of what it expects.
pub(super) const NO_EXPECT: &str = "a test has expect = '{…}', expect = \"filtered\" or expect-error = \"REASON\"; inrush pipeline test --update writes what comes out";

/// Reads and checks a pipeline file's text. With mistakes there may be a spec all the same, in which what is wrong has a stand-in: enough
/// to judge the SQL.
pub fn parse_all(file: &Path, text: &str) -> (Option<Spec>, Vec<Mistake>) {
    let mistakes = Mistakes::new(file, text);
    let Some(document) = Document::parse(&mistakes) else { return (None, mistakes.into_inner()) };
    let spec = read(&document.root(&mistakes), file, text);
    (spec, mistakes.into_inner())
}

/// As [`parse_all`], for a text that must be right.
#[cfg(test)]
pub fn parse(file: &Path, text: &str) -> Result<Spec, Vec<Mistake>> {
    match parse_all(file, text) {
        (Some(spec), mistakes) if mistakes.is_empty() => Ok(spec),
        (_, mistakes) => Err(mistakes),
    }
}

fn read(root: &Section<'_>, file: &Path, text: &str) -> Option<Spec> {
    let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if TopicName::new(&name).is_err() || name.len() > NAME_SIZE_MAX {
        root.wrong(
            "",
            format!(
                "the file name \"{name}\" names the pipeline: use letters, digits, '.', '_' and '-', at most {NAME_SIZE_MAX}"
            ),
        );
    }
    let (mut moved, mut schema_columns) = (Vec::new(), Vec::new());
    let format = format::read(root);
    let mut unread = Unread::default();
    let columns = root.table("columns").map(|section| {
        moved = misplaced(&section, "[columns]", is_top_value);
        let own;
        (own, unread.columns) = columns::read(&section, &moved);
        let (columns, of_schema) = with_schema(&section, own);
        unread.is_open = of_schema.is_none();
        schema_columns = of_schema.unwrap_or_default();
        format::misfits(&format, &section, &columns);
        columns
    });
    unread.is_open |= columns.is_none() && root.has("columns");
    let elsewhere = parse_kafka::source(root);
    let from = if elsewhere.is_some() { None } else { root.string("from") };
    let own_topic = from.as_ref().and_then(|from| topic(root, "from", &from.value));
    let from_topic = elsewhere.as_ref().and_then(|source| source.topic.clone()).or_else(|| own_topic.clone());
    if from.is_none() && !root.has("from") && !moved.contains(&"from") {
        root.wrong("from", "say what to read: from = \"topic:clicks\"");
    }
    let is_long = root.has("step") || root.has("route");
    let steps;
    (steps, unread.steps) = if is_long { steps::read(root) } else { short_steps(root) };
    if moved.contains(&"select") {
        unread.steps.push(steps.len());
    }
    let is_moved = moved.contains(&"to");
    let mut routes;
    (routes, unread.rules) = match is_long {
        true => routes::read(root, own_topic.as_ref()),
        false if is_moved => Default::default(),
        false => (routes::short(root).into_iter().collect(), Vec::new()),
    };
    windows::late_routes(root, &steps, &mut routes);
    if is_long {
        short_keys(root);
    }
    let on_error = on_error(root, from_topic.as_ref());
    routes.iter().for_each(|route| circles(root, own_topic.as_ref(), route, on_error.as_ref()));
    if let Some(source) = &elsewhere {
        routes.iter().filter(|route| source.is_written_by(&route.to)).for_each(|_| root.wrong("from", CIRCLE));
    }
    let cpu = root.read("cpu", CpuShare::read).map(|share| share.value);
    let tests = root.tables("test").iter().filter_map(|section| test(section, &steps)).collect();
    // Known only if it is there.
    if root.entries().iter().any(|(key, _)| *key == "rest") && root.has("rest") {
        root.wrong("rest", "move this line below [columns]: it is a column");
    }
    root.finish();
    let stand_in = TopicName::new("unknown").ok()?;
    Some(Spec {
        name,
        file: file.to_owned(),
        text: text.to_owned(),
        from: from_topic.unwrap_or_else(|| stand_in.clone()),
        elsewhere: elsewhere.and_then(|source| source.elsewhere),
        format,
        columns: columns.unwrap_or_default(),
        schema_columns,
        steps,
        routes: if routes.is_empty() { vec![unknown_route(&stand_in)] } else { routes },
        on_error: on_error.unwrap_or_else(|| default_on_error(stand_in)),
        cpu,
        tests,
        unread,
    })
}

/// Keys of the top that stand below a header, where TOML gives them to that table without a word.
pub(super) fn misplaced(
    section: &Section<'_>,
    header: &str,
    is_it: fn(&str, &toml_edit::Item) -> bool,
) -> Vec<&'static str> {
    let mut found = Vec::new();
    for key in TOP_KEYS {
        let is_there = section.entries().iter().any(|(name, item)| *name == key && is_it(key, item));
        // Known only then: it is not told once more.
        if is_there && section.has(key) {
            section.wrong(
                key,
                format!("move this line above {header}: TOML gives everything below a header to its table"),
            );
            found.push(key);
        }
    }
    found
}

/// `where` and `select` of the short form, and where a `select` would stand that cannot be read.
fn short_steps(root: &Section<'_>) -> (Vec<Step>, Vec<usize>) {
    let filter = root.string("where").map(|sql| Step::Where(sql_of(root, "where", sql)));
    let select = root.string("select").map(|sql| Step::Select(sql_of(root, "select", sql)));
    let unread = (root.has("select") && select.is_none()).then_some(usize::from(filter.is_some()));
    (filter.into_iter().chain(select).collect(), unread.into_iter().collect())
}

/// In the long form each of the short one's keys has a table of its own.
fn short_keys(root: &Section<'_>) {
    for (key, header) in [("where", "[[step]]"), ("select", "[[step]]"), ("to", "[[route]]")] {
        let Some(item) = root.item(key) else { continue };
        let written = item.span().and_then(|span| root.mistakes().text.get(span)).unwrap_or("…");
        root.wrong(
            key,
            format!("with [[step]] or [[route]] this has a table of its own:\n{header}\n{key} = {written}"),
        );
    }
}

fn unknown_route(stand_in: &TopicName) -> Route {
    let to = Output::Topic(TopicOutput { topic: stand_in.clone(), key: None });
    Route { rule: Rule::Always, to, store: None, named_at: (0, 0) }
}

pub(super) const CIRCLE: &str = "this is the topic that is read: the pipeline would read what it writes";

/// A pipeline that reads what it writes never ends.
fn circles(root: &Section<'_>, from: Option<&TopicName>, route: &Route, on_error: Option<&OnError>) {
    let out = match &route.to {
        Output::Topic(out) => Some(&out.topic),
        Output::Parquet(_) | Output::Kafka(_) | Output::Http(_) | Output::Stdout => None,
    };
    let key = if root.has("to") { "to" } else { "route" };
    let then = on_error.map(|on_error| &on_error.then);
    // Another route's is told where it stands.
    if from.is_some() && out == from && (root.has("to") || matches!(route.rule, Rule::Late)) {
        root.wrong(key, CIRCLE);
    }
    if from.is_some() && then == from {
        root.wrong("on-error", "this is the topic that is read: what fails would come back for ever");
    }
    if then.is_some() && out == then {
        root.wrong(key, "this is the topic that takes what fails: rows and dead letters would be mixed");
    }
}

/// Under `[columns]` a key `from` may well be a column: only what cannot be one is called misplaced.
fn is_top_value(key: &str, item: &toml_edit::Item) -> bool {
    match item.as_str() {
        Some(text) => columns::kind_of(text).is_none(),
        None => {
            let is_column = item.as_table_like().is_some_and(|table| table.contains_key("type"));
            key == "to" || key == "on-error" || key == "format" && !is_column
        }
    }
}

/// SQL that stands under `key` of a section.
pub(super) fn sql_of(section: &Section<'_>, key: &str, sql: Value<String>) -> Sql {
    let at = sql.place.map_or(0, |place| place.start);
    let text = section.mistakes().text;
    // The value's place is its opening quote; the SQL begins behind one quote or three.
    let quotes = if text[at..].starts_with("\"\"\"") || text[at..].starts_with("'''") { 3 } else { 1 };
    let (line, column) = crate::config::position(text, at + quotes);
    Sql { field: section.path(key), text: sql.value, line, column }
}

fn topic(section: &Section<'_>, key: &str, text: &str) -> Option<TopicName> {
    let Some(name) = text.strip_prefix("topic:") else {
        let to_do = match text.strip_prefix("kafka:") {
            Some(name) => {
                format!("a topic of a cluster elsewhere is {{ kafka = \"{name}\", servers = \"HOST:9092\" }}")
            }
            None => "write \"topic:NAME\"".to_owned(),
        };
        section.wrong(key, format!("\"{text}\" is not a source; {to_do}"));
        return None;
    };
    match TopicName::new(name) {
        Ok(name) => Some(name),
        Err(error) => {
            section.wrong(key, error.to_string());
            None
        }
    }
}

fn default_on_error(then: TopicName) -> OnError {
    OnError { then, retries: RETRIES, retries_all: false, backoff: BACKOFF, breaker: Some(BREAKER) }
}

fn on_error(root: &Section<'_>, from: Option<&TopicName>) -> Option<OnError> {
    let then = from.and_then(TopicName::dead_letters);
    let Some(section) = root.has("on-error").then(|| root.table("on-error")).flatten() else {
        if let (Some(from), None) = (from, &then) {
            root.wrong(
                "from",
                format!(
                    "{from} is a dead letter topic and has none itself; name one: on-error = {{ then = \"topic:…\" }}"
                ),
            );
        }
        return then.map(default_on_error);
    };
    misplaced(&section, "[on-error]", |_, _| true);
    let named = section.string("then").and_then(|name| topic(&section, "then", &name.value));
    if named.is_none() && then.is_none() && from.is_some() {
        section.wrong("then", "name the topic that takes what fails: then = \"topic:NAME\"");
    }
    let (retries, retries_all) = retry(&section);
    let backoff = section.duration("backoff").map_or(BACKOFF, |backoff| backoff.value);
    if backoff > BACKOFF_MAX {
        section.wrong("backoff", format!("a partition waits {} s at most between two attempts", BACKOFF_MAX.as_secs()));
    }
    let breaker = section.read("breaker", breaker).map_or(Some(BREAKER), |breaker| breaker.value);
    section.finish();
    Some(OnError { then: named.or(then)?, retries, retries_all, backoff, breaker })
}

/// `retry = 2`, or Spring's way `retry = { times = 2, of = "all" }`.
fn retry(section: &Section<'_>) -> (u32, bool) {
    let is_table = section.item("retry").is_some_and(|retry| !retry.is_integer());
    let (times, is_all) = if is_table {
        let Some(retry) = section.table("retry") else { return (RETRIES, false) };
        let of = retry.string("of").map(|of| of.value);
        if !matches!(of.as_deref(), None | Some("all" | "refused")) {
            retry.wrong("of", "it is \"refused\" (what may succeed later) or \"all\" (Spring's way)");
        }
        let times = retry.integer("times");
        retry.finish();
        (times, of.as_deref() == Some("all"))
    } else {
        (section.integer("retry"), false)
    };
    let times = times.map_or(i64::from(RETRIES), |times| times.value);
    if !(0..=RETRIES_MAX).contains(&times) {
        section.wrong("retry", format!("it is 0 to {RETRIES_MAX} more attempts"));
    }
    (times.clamp(0, RETRIES_MAX) as u32, is_all)
}

/// `50% of 10000`, or `off`.
fn breaker(text: &str) -> Result<Option<Breaker>, String> {
    if text == "off" {
        return Ok(None);
    }
    let parts = text.split_once("% of ").and_then(|(percent, window)| {
        Some(Breaker { percent: percent.trim().parse().ok()?, window: window.trim().parse().ok()? })
    });
    match parts {
        Some(breaker) if (1..=100).contains(&breaker.percent) && (1..=1 << 32).contains(&breaker.window) => {
            Ok(Some(breaker))
        }
        _ => Err(format!("\"{text}\" is no breaker; write \"50% of 10000\" or \"off\"")),
    }
}

fn test(section: &Section<'_>, steps: &[Step]) -> Option<Test> {
    let line = line_of(section);
    misplaced(section, "[[test]]", |_, _| true);
    let given = match section.item("given") {
        None => {
            section.wrong("given", "say what comes in: given = { value = '…' }, or a list of such");
            None
        }
        Some(item) if item.is_array() || item.is_array_of_tables() => {
            let records = section.tables("given");
            Some(records.iter().enumerate().map(|(at, record)| given(record, at as i64)).collect())
        }
        Some(_) => section.table("given").map(|record| vec![given(&record, 0)]),
    };
    let quiet = section.duration("quiet").map_or(Duration::ZERO, |quiet| quiet.value);
    let outputs = if section.has("outputs") { section.strings("outputs") } else { None };
    let expect = match (section.string("expect"), section.string("expect-error")) {
        (Some(text), None) => match rows_of(&text.value) {
            Ok(rows) => Some(Expect::Rows { rows, outputs }),
            Err(error) => {
                section.wrong("expect", error);
                None
            }
        },
        (None, Some(reason)) => match Reason::ALL.iter().find(|known| known.as_str() == reason.value) {
            Some(reason) => Some(Expect::Dead(*reason)),
            None => {
                let known: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
                section
                    .wrong("expect-error", format!("\"{}\" is no reason; known: {}", reason.value, known.join(", ")));
                None
            }
        },
        (None, None) if section.has("expect") || section.has("expect-error") => None,
        _ => {
            section.wrong("", NO_EXPECT);
            None
        }
    };
    let tables = enrich::test_tables(section, &topics(steps));
    section.finish();
    Some(Test { line, tables, given: given?, quiet, expect: expect? })
}

/// Topics that steps look up in.
fn topics(steps: &[Step]) -> Vec<&str> {
    let topic = |step| match step {
        &Step::Enrich(Enrich { from: TableFrom::Topic(ref topic), .. }) => Some(topic.as_str()),
        _ => None,
    };
    steps.iter().filter_map(topic).collect()
}

/// A test's record; `number` is its offset, if it does not say another.
pub(super) fn given(section: &Section<'_>, number: i64) -> Given {
    let read = Given {
        key: section.string("key").map(|key| key.value.into_bytes()),
        value: value(section),
        headers: section.table("headers").map(|headers| texts(&headers)).unwrap_or_default(),
        timestamp: section.integer("timestamp").map_or(0, |time| time.value),
        offset: section.integer("offset").map_or(number, |offset| offset.value),
        partition: section.integer("partition").map_or(0, |partition| partition.value) as i32,
    };
    section.finish();
    read
}

/// The value of a record that a test gives: text, or bytes in base64.
fn value(given: &Section<'_>) -> Option<Vec<u8>> {
    let text = given.string("value").map(|value| value.value.into_bytes());
    let bytes =
        given.read("value-base64", |text| STANDARD.decode(text).map_err(|error| format!("this is no base64: {error}")));
    if text.is_some() && bytes.is_some() {
        given.wrong("value-base64", "a record has one value; leave out value or value-base64");
    }
    text.or(bytes.map(|bytes| bytes.value))
}

/// `"filtered"`, a JSON object, or a list of them.
/// Each row as JSON text.
fn rows_of(text: &str) -> Result<Vec<String>, String> {
    let rows = match text {
        "filtered" => Vec::new(),
        _ => match Node::parse(text.as_bytes()) {
            Ok(Node::List(rows)) => rows,
            Ok(row) => vec![row],
            Err(error) => return Err(format!("this is neither \"filtered\" nor a JSON object: {error}")),
        },
    };
    match rows.iter().find(|row| !matches!(row, Node::Object(_))) {
        Some(other) => Err(format!("a row is a JSON object, not {}", other.to_json())),
        None => Ok(rows.iter().map(Node::to_json).collect()),
    }
}

fn line_of(section: &Section<'_>) -> usize {
    section.place().map_or(1, |place| crate::config::position(section.mistakes().text, place.start).0)
}

fn texts(section: &Section<'_>) -> Vec<(String, Vec<u8>)> {
    let text = |(name, item): (&str, &toml_edit::Item)| match item.as_str() {
        Some(text) => Some((name.to_owned(), text.as_bytes().to_vec())),
        None => {
            section.wrong(name, "a header is text in quotes");
            None
        }
    };
    section.entries().into_iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::spec::{From, Kind};

    fn mistakes(text: &str) -> Vec<String> {
        parse(Path::new("p.toml"), text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    const GOOD: &str = r#"
from     = "topic:clicks"
where    = "user_agent is not null"
select   = "ts, userId as user_id"
to       = { parquet = "clicks", partition = "dt=%Y-%m-%d", time = "ts", roll = "5s or 1MiB" }
on-error = { then = "topic:broken" }
[columns]
ts         = "timestamp"
userId     = { path = "/user/id", type = "string", required = true }
user_agent = { header = "user-agent", type = "string" }
[[test]]
given  = { value = '{"ts":"2026-01-02T03:04:05Z"}', headers = { user-agent = "x" } }
expect = '{"user_id":null}'
"#;

    #[test]
    fn the_short_form_is_read_whole() {
        let spec = parse(Path::new("dir/clicks.toml"), GOOD).unwrap();
        assert_eq!((spec.name.as_str(), spec.from.as_str()), ("clicks", "clicks"));
        assert_eq!(spec.columns[1].from, From::Path(vec!["user".into(), "id".into()]));
        assert_eq!((spec.columns[0].kind.clone(), spec.columns[1].required), (Kind::Timestamp, true));
        assert_eq!(spec.on_error.then.as_str(), "broken");
        let Output::Parquet(out) = &spec.routes[0].to else { panic!("{:?}", spec.routes) };
        assert_eq!((out.roll_age, out.roll_bytes), (Duration::from_secs(5), 1 << 20));
        assert_eq!(spec.tests.len(), 1);
    }

    #[test]
    fn mistakes_come_together_with_line_column_and_what_was_meant() {
        let found = mistakes(
            "form = \"topic:clicks\"\nto = { parquet = \"../x\", rol = \"5m\" }\n[columns]\nts = \"timestmp\"\n",
        );
        assert!(
            found.iter().any(|line| line.starts_with("p.toml:1:1: form") && line.contains("\"from\"")),
            "{found:#?}"
        );
        assert!(found.iter().any(|line| line.contains(":2:") && line.contains("--out")), "{found:#?}");
        assert!(found.iter().any(|line| line.contains("to.rol") && line.contains("\"roll\"")), "{found:#?}");
        let of_type = |line: &String| line.starts_with("p.toml:4:") && line.contains("did you mean \"timestamp\"?");
        assert!(found.iter().any(of_type), "{found:#?}");
    }

    #[test]
    fn a_line_below_the_wrong_header_is_told_to_move() {
        for below in ["ts = \"timestamp\"\nto = { parquet = \"c\" }\n", "from = \"topic:c\"\n"] {
            let above = if below.contains("from") { "to = { parquet = \"c\" }" } else { "from = \"topic:c\"" };
            let found = mistakes(&format!("{above}\n[columns]\n{below}"));
            assert!(found.len() == 1 && found[0].contains("move this line above [columns]"), "{found:#?}");
        }
    }

    #[test]
    fn a_line_below_a_test_is_told_to_move_too() {
        let found = mistakes(
            "from = \"topic:c\"\n[[test]]\ngiven = { value = \"{}\" }\nexpect = \"filtered\"\nto = { parquet = \"c\" }\n",
        );
        assert!(found.iter().any(|line| line.contains(":5:") && line.contains("above [[test]]")), "{found:#?}");
    }

    #[test]
    fn errors_have_attempts_a_pause_and_a_breaker() {
        let on_error = |text: &str| {
            let text = format!(
                "from = \"topic:c\"\nto = {{ topic = \"out\", key = \"a\" }}\n{text}\n[columns]\na = \"string\"\n"
            );
            parse(Path::new("p.toml"), &text).map(|spec| spec.on_error).map_err(|found| found[0].to_string())
        };
        let default = on_error("").unwrap();
        assert_eq!((default.retries, default.retries_all, default.backoff), (2, false, Duration::from_secs(1)));
        assert_eq!((default.then.as_str(), default.breaker), ("c-dlt", Some(BREAKER)));
        let spring =
            on_error("on-error = { retry = { times = 3, of = \"all\" }, backoff = \"20ms\", breaker = \"off\" }")
                .unwrap();
        assert_eq!((spring.retries, spring.retries_all, spring.backoff), (3, true, Duration::from_millis(20)));
        assert_eq!(spring.breaker, None);
        let strict = on_error("on-error = { retry = 0, breaker = \"5% of 200\" }").unwrap();
        assert_eq!((strict.retries, strict.breaker), (0, Some(Breaker { percent: 5, window: 200 })));
        assert!(on_error("on-error = { retry = { times = 2, of = \"some\" } }").unwrap_err().contains("Spring"));
        assert!(on_error("on-error = { breaker = \"half\" }").unwrap_err().contains("50% of 10000"));
        assert!(on_error("on-error = { retry = -1 }").unwrap_err().contains("0 to 100"));
        assert!(on_error("on-error = { retires = 2 }").unwrap_err().contains("\"retry\""));
    }

    #[test]
    fn an_output_is_one_folder_or_one_topic_and_never_the_source() {
        let both = mistakes("from = \"topic:c\"\nto = { parquet = \"c\", topic = \"d\" }\n[columns]\na = \"string\"\n");
        assert!(both.len() == 1 && both[0].contains("one output"), "{both:#?}");
        assert!(mistakes("from = \"topic:c\"\nto = { topic = \"c\" }\n")[0].contains("read what it writes"));
        assert!(mistakes("from = \"topic:c\"\nto = { topic = \"c-dlt\" }\n")[0].contains("mixed"));
        let back = mistakes("from = \"topic:c\"\nto = { topic = \"d\" }\non-error = { then = \"topic:c\" }\n");
        assert!(back[0].contains("for ever"), "{back:#?}");
        let key = mistakes("from = \"topic:c\"\nto = { topic = \"d\", partition = \"x\" }\n");
        assert!(key[0].contains("to.partition"), "{key:#?}");
    }

    #[test]
    fn a_dead_letter_topic_needs_one_named() {
        let found = mistakes("from = \"topic:c-dlt\"\nto = { parquet = \"c\" }\n");
        assert!(found[0].contains("has none itself"), "{found:#?}");
    }
}
