//! `[[step]] window = { … }`: text to [`Window`].

use super::parse::sql_of;
use super::parse_route::topic_output;
use super::parse_step::{named, names, size_max};
use super::spec::{Frame, Output, Route, Rule, Step, Window};
use crate::config::{Section, Value, position};
use std::time::Duration;
use toml_edit::Item;

/// Windows that one row may be in.
const WINDOWS_MAX: u128 = 1_000;
/// A window, a gap and a wait are not longer.
const LENGTH_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

const EXAMPLE: &str =
    "window = { tumbling = \"1m\", time = \"ts\", key = [\"page\"], late = \"10s\", select = \"count(*) as views\" }";

/// `window = { tumbling | hopping | session, time, key, late, late-to, select, state-size-max }`.
pub(super) fn read(section: &Section<'_>) -> Option<Window> {
    let place = section.item("window").and_then(Item::span);
    let at = named(section, "window", Value { value: String::new(), place });
    let table = section.table("window")?;
    let frame = frame(&table);
    let time = table.string("time").map(|time| named(&table, "time", time));
    let key = if table.has("key") { names(&table, "key") } else { Some(Vec::new()) };
    let late = if table.has("late") { late(&table) } else { Some(Duration::ZERO) };
    let late_to = late_to(&table);
    let select = table.string("select").map(|sql| sql_of(&table, "select", sql));
    if select.is_none() && !table.has("select") {
        table.wrong("", format!("say what its rows become: {EXAMPLE}"));
    }
    let size_max = size_max(&table);
    table.finish();
    Some(Window { frame: frame?, time, key: key?, late: late?, late_to, select: select?, size_max, at })
}

fn frame(table: &Section<'_>) -> Option<Frame> {
    let found = table.which(&["tumbling", "hopping", "session"]);
    match found.as_slice() {
        ["tumbling"] => {
            let size = length(table, "tumbling", MILLISECOND)?;
            Some(Frame::Hopping { size, every: size })
        }
        ["hopping"] => hopping(table),
        ["session"] => Some(Frame::Session { gap: length(table, "session", MILLISECOND)? }),
        _ => {
            let example = "tumbling = \"1m\", or hopping = { size = \"10m\", every = \"1m\" }, or session = \"30m\"";
            table.wrong(found.get(1).copied().unwrap_or(""), format!("a window is one of: {example}"));
            None
        }
    }
}

fn hopping(table: &Section<'_>) -> Option<Frame> {
    let hopping = table.table("hopping")?;
    let (size, every) = (length(&hopping, "size", MILLISECOND), length(&hopping, "every", MILLISECOND));
    if !hopping.has("size") || !hopping.has("every") {
        hopping.wrong("", "it needs both: hopping = { size = \"10m\", every = \"1m\" }");
    }
    hopping.finish();
    let (size, every) = (size?, every?);
    if every > size {
        hopping.wrong("every", "it is no longer than size, or rows between two windows would be in none");
    }
    if size.as_millis().div_ceil(every.as_millis()) > WINDOWS_MAX {
        hopping.wrong("every", format!("a row would be in more than {WINDOWS_MAX} windows"));
    }
    Some(Frame::Hopping { size, every })
}

const MILLISECOND: Duration = Duration::from_millis(1);

/// In whole milliseconds.
fn length(table: &Section<'_>, key: &'static str, least: Duration) -> Option<Duration> {
    let length = table.duration(key)?.value;
    if length < least || length > LENGTH_MAX || length.subsec_nanos() % 1_000_000 != 0 {
        table.wrong(key, "it is whole milliseconds, longer than nothing and no longer than 366 days");
        return None;
    }
    Some(length)
}

/// How long after a window's end its rows are taken.
fn late(table: &Section<'_>) -> Option<Duration> {
    if let Some(name) = table.string("late")?.value.strip_prefix("topic:") {
        table.wrong("late", format!("it is a duration; rows that come later go to late-to = {{ topic = \"{name}\" }}"));
        return None;
    }
    length(table, "late", Duration::ZERO)
}

/// `late-to = { topic = "clicks-late", key = "page" }`.
fn late_to(table: &Section<'_>) -> Option<Route> {
    if !table.has("late-to") {
        return None;
    }
    let to = table.table("late-to")?;
    let key = to.string("key").and_then(|key| key.place);
    let named_at = key.map_or((0, 0), |place| position(to.mistakes().text, place.start));
    if !to.has("topic") {
        to.wrong("", "say which topic: late-to = { topic = \"NAME\" }");
    }
    let topic = topic_output(&to);
    to.finish();
    Some(Route { rule: Rule::Late, to: Output::Topic(topic?), named_at, store: None })
}

/// Each topic for what comes too late is one more output.
pub(super) fn late_routes(root: &Section<'_>, steps: &[Step], routes: &mut Vec<Route>) {
    let late_to = steps.iter().filter_map(|step| match step {
        Step::Window(window) => window.late_to.as_ref(),
        _ => None,
    });
    for route in late_to {
        if routes.iter().any(|other| other.to.to_string() == route.to.to_string()) {
            root.wrong("step", format!("late-to and a route both write to {}: they are other rows", route.to));
        }
        routes.push(route.clone());
    }
}
