//! `[[step]]`: what is done to rows, one table a step.

use super::enrich;
use super::parse::{misplaced, sql_of};
use super::parse_window as windows;
use super::spec::{Keyed, Memory, Named, Sample, Step, Unnest};
use super::step::SAMPLE_WHOLE;
use crate::config::{Section, Value, position};
use toml_edit::Item;

/// What a step can do; each is the key of its table.
pub(super) const KINDS: [&str; 11] =
    ["where", "select", "sql", "unnest", "sample", "enrich", "dedupe", "debounce", "sessionize", "last", "window"];
/// Those that make no columns.
const MAKE_NONE: [&str; 5] = ["where", "sample", "dedupe", "debounce", "last"];
/// What a step remembers of one partition, unless it says otherwise.
pub(super) const STATE_SIZE_MAX: u64 = 64 << 20;
/// Steps of one pipeline.
const STEPS_MAX: usize = 64;

/// All `[[step]]`s in their order; and of those with mistakes that may make columns, how many of them stand before what comes behind each.
pub(super) fn read(root: &Section<'_>) -> (Vec<Step>, Vec<usize>) {
    let (mut steps, mut unread) = (Vec::new(), Vec::new());
    if !root.has("step") {
        return (steps, unread);
    }
    let sections = root.tables("step");
    if root.mistakes().is_about("step") {
        unread.push(0);
    }
    if sections.len() > STEPS_MAX {
        root.wrong("step", format!("{} steps; a pipeline has at most {STEPS_MAX}", sections.len()));
    }
    for section in &sections {
        let before = root.mistakes().count();
        steps.extend(step(section));
        let is_wrong = root.mistakes().count() > before;
        if is_wrong && !section.entries().iter().all(|(key, _)| MAKE_NONE.contains(key)) {
            unread.push(steps.len());
        }
    }
    (steps, unread)
}

fn step(section: &Section<'_>) -> Option<Step> {
    misplaced(section, "[[step]]", |key, _| key != "where" && key != "select");
    let found = section.which(&KINDS);
    let step = match found.as_slice() {
        ["where"] => section.string("where").map(|sql| Step::Where(sql_of(section, "where", sql))),
        ["select"] => section.string("select").map(|sql| Step::Select(sql_of(section, "select", sql))),
        ["sql"] => section.string("sql").map(|sql| Step::Sql(sql_of(section, "sql", sql))),
        ["unnest"] => unnest(section).map(Step::Unnest),
        // What is not known is told as that.
        [] if !section.entries().is_empty() => None,
        [] => {
            section.wrong("", format!("a step does one thing: {}", KINDS.join(", ")));
            None
        }
        ["enrich"] => enrich::read(section).map(Step::Enrich),
        ["sample"] => sample(section).map(Step::Sample),
        ["window"] => windows::read(section).map(|window| Step::Window(Box::new(window))),
        [kind] => keyed(section, kind).map(Step::Keyed),
        [_, second, ..] => {
            section.wrong(
                second,
                format!(
                    "a step does one thing, and this one has {}: write a [[step]] for each, in their order",
                    found.join(" and ")
                ),
            );
            None
        }
    };
    section.finish();
    step
}

/// `unnest = "items"`, or `unnest = { list = "items", as = "item", keep-empty = true }`.
fn unnest(section: &Section<'_>) -> Option<Unnest> {
    if section.item("unnest").is_some_and(Item::is_str) {
        let list = section.string("unnest").map(|name| named(section, "unnest", name))?;
        return Some(Unnest { list, name: None, keep_empty: false });
    }
    let table = section.table("unnest")?;
    let list = table.string("list").map(|name| named(&table, "list", name));
    if list.is_none() && !table.has("list") {
        table.wrong("", "say which list: unnest = { list = \"items\", as = \"item\" }");
    }
    let name = table.string("as").map(|name| name.value);
    let keep_empty = table.boolean("keep-empty").is_some_and(|keep| keep.value);
    table.finish();
    Some(Unnest { list: list?, name, keep_empty })
}

/// `sample = "10%"`, or `sample = { share = "10%", key = "user_id" }`.
fn sample(section: &Section<'_>) -> Option<Sample> {
    let place = section.item("sample").and_then(Item::span);
    let at = named(section, "sample", Value { value: String::new(), place });
    if section.item("sample").is_some_and(Item::is_str) {
        let share = section.read("sample", share)?.value;
        return Some(Sample { share, key: Vec::new(), at });
    }
    if section.item("sample").is_some_and(|sample| sample.is_integer() || sample.is_float()) {
        section.wrong("sample", "say which share, in quotes: sample = \"10%\"");
        return None;
    }
    let table = section.table("sample")?;
    let share = table.read("share", share);
    if share.is_none() && !table.has("share") {
        table.wrong("", "say how many: sample = { share = \"10%\", key = \"user_id\" }");
    }
    let key = if table.has("key") { names(&table, "key") } else { Some(Vec::new()) };
    table.finish();
    Some(Sample { share: share?.value, key: key?, at })
}

/// `dedupe = { key, ttl }`, `debounce = { key, cool-down }`, `sessionize = { key, gap }`, `last = { key, until, ttl }`.
fn keyed(section: &Section<'_>, kind: &str) -> Option<Keyed> {
    let (kind, time_key, example): (&'static str, &'static str, &str) = match kind {
        "dedupe" => ("dedupe", "ttl", "{ key = \"id\", ttl = \"1h\" }"),
        "debounce" => ("debounce", "cool-down", "{ key = [\"camera\", \"label\"], cool-down = \"30s\" }"),
        "sessionize" => ("sessionize", "gap", "{ key = \"user_id\", gap = \"30m\" }"),
        _ => ("last", "ttl", "{ key = \"id\", until = \"kind = 'end'\", ttl = \"2h\" }"),
    };
    let place = section.item(kind).and_then(Item::span);
    let at = named(section, kind, Value { value: String::new(), place });
    let table = section.table(kind)?;
    let key = if table.has("key") { names(&table, "key") } else { None };
    let time = table.duration(time_key).map(|time| time.value);
    if !table.has("key") || !table.has(time_key) {
        table.wrong("", format!("it needs a key and a {time_key}: {kind} = {example}"));
    }
    if time.is_some_and(|time| time.is_zero()) {
        table.wrong(time_key, "it must be longer than nothing");
    }
    let what = match kind {
        "dedupe" => Memory::Dedupe,
        "debounce" => Memory::Debounce,
        "sessionize" => Memory::Sessionize,
        _ => Memory::Last { until: table.string("until").map(|sql| sql_of(&table, "until", sql)) },
    };
    let size_max = size_max(&table);
    table.finish();
    Some(Keyed { key: key?, what, time: time?, size_max, at })
}

/// How much a step may remember.
pub(super) fn size_max(table: &Section<'_>) -> u64 {
    let size_max = table.size("state-size-max").map_or(STATE_SIZE_MAX, |size| size.value);
    if !(1 << 16..=1 << 30).contains(&size_max) {
        table.wrong("state-size-max", "it is 64KiB at the least and 1GiB at the most");
    }
    size_max
}

fn share(text: &str) -> Result<u32, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match percent {
        Some(percent) if percent > 0.0 && percent <= 100.0 => {
            Ok((percent / 100.0 * SAMPLE_WHOLE as f64).round() as u32)
        }
        _ => Err(format!("\"{text}\" is no share; write \"10%\" or \"0.5%\"")),
    }
}

/// One column or several: `"id"` or `["camera", "label"]`.
pub(super) fn names(section: &Section<'_>, key: &'static str) -> Option<Vec<Named>> {
    if section.item(key).is_some_and(Item::is_str) {
        return section.string(key).map(|name| vec![named(section, key, name)]);
    }
    let place = section.item(key).and_then(Item::span);
    let names = section.strings(key)?;
    if names.is_empty() {
        section.wrong(key, "name at least one column");
    }
    let of = |value: String| named(section, key, Value { value, place: place.clone() });
    Some(names.into_iter().map(of).collect())
}

/// A column's name and where it stands.
pub(super) fn named(section: &Section<'_>, key: &str, name: Value<String>) -> Named {
    let (line, column) = name.place.map_or((0, 0), |place| position(section.mistakes().text, place.start));
    Named { field: section.path(key), name: name.value, line, column }
}
