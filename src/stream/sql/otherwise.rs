//! What other engines call it, and how it is written here: names that are like others by letters alone lead the wrong way.

/// By name of a function elsewhere.
const NAMES: [(&[&str], &str); 16] = [
    (&["if", "iff", "ifelse"], "case when … then … else … end"),
    (&["date", "to_date_string"], "cast(t as date)"),
    (&["datetime"], "cast(s as timestamp)"),
    (&["strftime", "date_format", "format_timestamp", "format_datetime"], "to_char(t, '%Y-%m-%d')"),
    (&["strptime", "parse_timestamp", "parse_datetime"], "to_timestamp(s, '%Y-%m-%d %H:%M:%S')"),
    (&["year", "quarter", "month", "week", "day", "hour", "minute", "second"], "extract(year from t)"),
    (&["dayofweek", "weekday", "day_of_week"], "extract(dow from t)"),
    (&["age", "datediff", "date_diff", "timestampdiff"], "cast(b - a as bigint), in microseconds"),
    (&["isnull"], "x is null"),
    (&["mod"], "x % y"),
    (&["sign"], "signum(x)"),
    (&["len"], "length(s)"),
    (&["printf", "format"], "a || b, or concat(a, b)"),
    (&["explode", "flatten", "posexplode"], "a step of its own, unnest = \"LIST\""),
    (
        &["get_json_object", "json_extract", "json_extract_string", "json_extract_scalar", "json_value", "json_query"],
        "json_get(j, '/field')",
    ),
    (&["parse_json", "from_json"], "a column of type json, of which json_get(j, '/field') reads a value"),
];

/// By name of an aggregate elsewhere.
const AGGREGATES: [(&[&str], &str); 1] =
    [(&["median", "quantile", "percentile", "percentile_cont", "approx_quantile"], "approx_percentile(x, 0.5)")];

/// By words of the planner's own message.
const ERRORS: [(&str, &str); 6] = [
    ("Dot access not supported", "a field of an item of a list is written in brackets: zones[1]['name']"),
    ("RLike", "a pattern is asked by regexp_like(s, 'a|b')"),
    (
        "Cannot cast timezone to different timezone",
        "that zone's clock never showed this time, or twice: its summer time began or ended in that hour",
    ),
    ("PGOverlap", "and is written: a and b; whether two lists have something in common says array_has_any(a, b)"),
    ("Operator ->", "a value within a json column is read by json_get(j, '/field')"),
    (
        "Cannot access field at argument 1: type Utf8",
        "it is text, which has no fields; a value within a json column is read by json_get(j, '/field')",
    ),
];

/// How a function is written here.
pub(super) fn of_name(name: &str) -> Option<&'static str> {
    among(&NAMES, name)
}

/// How an aggregate of a window is written here.
pub(super) fn of_aggregate(name: &str) -> Option<&'static str> {
    among(&AGGREGATES, name)
}

fn among(known: &[(&[&str], &'static str)], name: &str) -> Option<&'static str> {
    known.iter().find(|(names, _)| names.contains(&name)).map(|(_, here)| *here)
}

/// What to write instead of what the planner does not take.
pub(super) fn of_error(text: &str) -> Option<&'static str> {
    ERRORS.iter().find(|(words, _)| text.contains(words)).map(|(_, here)| *here)
}
