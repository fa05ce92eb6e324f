//! Text of a pipeline file to its [`Spec`]: the short form (`from`, `where`, `select`, `to`, `on-error`, `[columns]`, `[[test]]`).

use super::columns;
use super::fault::Reason;
use super::spec::{Expect, Given, OnError, ParquetOutput, Spec, Sql, Test};
use crate::config::{Document, Mistake, Mistakes, Section, Value, duration, size};
use crate::record::TopicName;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Keys that belong above `[columns]`: under it, TOML silently gives them to that table.
const TOP_KEYS: [&str; 5] = ["from", "where", "select", "to", "on-error"];
/// What a file rolls at unless it says otherwise.
const ROLL_AGE: Duration = Duration::from_secs(300);
const ROLL_BYTES: u64 = 128 << 20;

/// Reads and checks a pipeline file's text.
///
/// # Errors
/// All mistakes at once, by place.
pub fn parse(file: &Path, text: &str) -> Result<Spec, Vec<Mistake>> {
    let mistakes = Mistakes::new(file, text);
    let Some(document) = Document::parse(&mistakes) else { return Err(mistakes.into_inner()) };
    let spec = read(&document.root(&mistakes), file, text);
    match spec {
        Some(spec) if mistakes.is_empty() => Ok(spec),
        _ => Err(mistakes.into_inner()),
    }
}

fn read(root: &Section<'_>, file: &Path, text: &str) -> Option<Spec> {
    let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if TopicName::new(&name).is_err() {
        root.wrong("", format!("the file name \"{name}\" names the pipeline: use letters, digits, '.', '_' and '-'"));
    }
    let from = root.string("from");
    let from_topic = from.as_ref().and_then(|from| topic(root, "from", &from.value));
    if from.is_none() && !root.has("from") {
        root.wrong("from", "say what to read: from = \"topic:clicks\"");
    }
    if root.item("step").is_some() || root.item("route").is_some() {
        root.wrong("step", "steps and routes are not there yet; write where, select and to");
    }
    let columns = root.table("columns").map(|section| {
        for key in TOP_KEYS {
            let looks_misplaced = section.entries().iter().any(|(name, item)| *name == key && is_top_value(key, item));
            if looks_misplaced {
                section.wrong(key, "move this line above [columns]: TOML gives everything below a header to its table");
            }
        }
        columns::read(&section)
    });
    let filter = root.string("where").map(|sql| sql_of(root, sql));
    let select = root.string("select").map(|sql| sql_of(root, sql));
    let to = output(root);
    let on_error = on_error(root, from_topic.as_ref());
    let tests = root.tables("test").iter().filter_map(|section| test(section)).collect();
    root.finish();
    Some(Spec {
        name,
        file: file.to_owned(),
        text: text.to_owned(),
        from: from_topic?,
        columns: columns.unwrap_or_default(),
        r#where: filter,
        select,
        to: to?,
        on_error: on_error?,
        tests,
    })
}

/// Under `[columns]` a key `from` may well be a column: only what cannot be one is called misplaced.
fn is_top_value(key: &str, item: &toml_edit::Item) -> bool {
    match item.as_str() {
        Some(text) => columns::kind_of(text).is_none(),
        None => key == "to" || key == "on-error",
    }
}

fn sql_of(root: &Section<'_>, sql: Value<String>) -> Sql {
    let at = sql.place.map_or(0, |place| place.start);
    let text = root.mistakes().text;
    // The value's place is its opening quote; the SQL begins behind one quote or three.
    let quotes = if text[at..].starts_with("\"\"\"") || text[at..].starts_with("'''") { 3 } else { 1 };
    let (line, column) = crate::config::position(text, at + quotes);
    Sql { text: sql.value, line, column }
}

fn topic(section: &Section<'_>, key: &str, text: &str) -> Option<TopicName> {
    let Some(name) = text.strip_prefix("topic:") else {
        section.wrong(key, format!("\"{text}\" is not a source; write \"topic:NAME\""));
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

fn output(root: &Section<'_>) -> Option<ParquetOutput> {
    if !root.has("to") {
        root.wrong("to", "say where to write: to = { parquet = \"clicks\" }");
        return None;
    }
    let to = root.table("to")?;
    if to.item("topic").is_some() {
        to.wrong("topic", "outputs to topics are not there yet; write to = { parquet = \"FOLDER\" }");
        return None;
    }
    if !to.has("parquet") {
        to.wrong("", "say which folder: to = { parquet = \"FOLDER\" }");
    }
    let output = parquet(&to);
    to.finish();
    output
}

fn parquet(to: &Section<'_>) -> Option<ParquetOutput> {
    let folder = to.string("parquet").and_then(|folder| clean_folder(to, &folder.value));
    let partition = to.string("partition").map(|pattern| pattern.value);
    let time = to.string("time").map(|time| time.value);
    if let Some(pattern) = &partition {
        let is_bad =
            chrono::format::StrftimeItems::new(pattern).any(|item| matches!(item, chrono::format::Item::Error));
        if is_bad || pattern.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            to.wrong("partition", format!("\"{pattern}\" is not a pattern like dt=%Y-%m-%d/hour=%H"));
        }
        if time.is_none() {
            to.wrong("partition", "say which column the partition is made from: time = \"ts\" (or \"_timestamp\")");
        }
    }
    let roll = to.read("roll", roll).map_or((ROLL_AGE, ROLL_BYTES), |roll| roll.value);
    let compression_level = to.integer("compression-level").map_or(1, |level| level.value);
    if !(1..=22).contains(&compression_level) {
        to.wrong("compression-level", "zstd has levels 1 to 22");
    }
    let adopt = to.string("adopt").map(|name| name.value);
    Some(ParquetOutput {
        folder: folder?,
        partition,
        time,
        roll_age: roll.0,
        roll_bytes: roll.1,
        compression_level: compression_level as i32,
        adopt,
    })
}

/// Output paths are relative to `--out` and stay below it.
fn clean_folder(to: &Section<'_>, text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let is_clean =
        !text.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if is_clean {
        return Some(path.components().filter(|part| matches!(part, Component::Normal(_))).collect());
    }
    to.wrong(
        "parquet",
        format!("\"{text}\" must be a folder below the output folder (--out), without .. and without a leading /"),
    );
    None
}

/// `5m`, `128MiB`, or both: `5m or 128MiB`.
fn roll(text: &str) -> Result<(Duration, u64), String> {
    let mut found = (None, None);
    for part in text.split(" or ") {
        match (duration(part.trim()), size(part.trim())) {
            (Ok(age), _) if found.0.is_none() => found.0 = Some(age),
            (_, Ok(bytes)) if found.1.is_none() => found.1 = Some(bytes),
            _ => return Err(format!("\"{text}\" is not a roll; write an age, a size, or both: \"5m or 128MiB\"")),
        }
    }
    let (age, bytes) = (found.0.unwrap_or(ROLL_AGE), found.1.unwrap_or(ROLL_BYTES));
    if age < Duration::from_millis(100) || bytes < 64 << 10 {
        return Err("files roll at 100ms and 64KiB at the least".to_owned());
    }
    Ok((age, bytes))
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
        return Some(OnError { then: then? });
    };
    for key in ["retry", "backoff"] {
        if section.item(key).is_some() {
            section.wrong(key, "retries are not there yet: a record that fails goes to the dead letters at once, an output that is down is tried for ever");
        }
    }
    let named = section.string("then").and_then(|name| topic(&section, "then", &name.value));
    if named.is_none() && then.is_none() && from.is_some() {
        section.wrong("then", "name the topic that takes what fails: then = \"topic:NAME\"");
    }
    section.finish();
    Some(OnError { then: named.or(then)? })
}

fn test(section: &Section<'_>) -> Option<Test> {
    let line = line_of(section);
    let given = section.table("given").map(|given| {
        let read = Given {
            key: given.string("key").map(|key| key.value.into_bytes()),
            value: given.string("value").map(|value| value.value.into_bytes()),
            headers: given.table("headers").map(|headers| texts(&headers)).unwrap_or_default(),
            timestamp: given.integer("timestamp").map_or(0, |time| time.value),
            offset: given.integer("offset").map_or(0, |offset| offset.value),
            partition: given.integer("partition").map_or(0, |partition| partition.value) as i32,
        };
        given.finish();
        read
    });
    if given.is_none() && !section.has("given") {
        section.wrong("given", "say what comes in: given = { value = '…' }");
    }
    let expect = match (section.string("expect"), section.string("expect-error")) {
        (Some(text), None) if text.value == "filtered" => Some(Expect::Filtered),
        (Some(text), None) => match serde_json::from_str(&text.value) {
            Ok(row) => Some(Expect::Row(row)),
            Err(error) => {
                section.wrong("expect", format!("this is neither \"filtered\" nor a JSON object: {error}"));
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
        _ => {
            section.wrong("", "a test has expect = '{…}', expect = \"filtered\" or expect-error = \"REASON\"");
            None
        }
    };
    section.finish();
    Some(Test { line, given: given?, expect: expect? })
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
        let out = &spec.to;
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
        assert!(found.iter().any(|line| line.starts_with("p.toml:4:") && line.contains("timestamp")), "{found:#?}");
    }

    #[test]
    fn a_line_below_the_wrong_header_is_told_to_move() {
        let found = mistakes("from = \"topic:c\"\n[columns]\nts = \"timestamp\"\nto = { parquet = \"c\" }\n");
        assert!(found.iter().any(|line| line.contains("move this line above [columns]")), "{found:#?}");
    }

    #[test]
    fn a_dead_letter_topic_needs_one_named() {
        let found = mistakes("from = \"topic:c-dlt\"\nto = { parquet = \"c\" }\n");
        assert!(found[0].contains("has none itself"), "{found:#?}");
    }
}
