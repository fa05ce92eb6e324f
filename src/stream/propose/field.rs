//! What was seen of one field of sampled objects, and which type of column holds all of it.

use super::Object;
use crate::stream::kinds;
use crate::stream::spec::{Kind, Unit};
use serde::Serialize;
use serde_json::Value;

/// Objects within objects that are looked into; what lies deeper is JSON text.
const DEPTH_MAX: usize = 4;
/// An object with more keys than that is a map whose keys are data, unless one of them is in every tenth sample.
const KEYS_MAX: usize = 40;
/// Fields that are kept count of; an object of that many is read whole.
const FIELDS_MAX: usize = 2_000;
/// Of a field that holds less than one in so many samples it is said.
const RARE: usize = 50;
/// Characters of an example.
const EXAMPLE_MAX: usize = 40;
const EXAMPLES: usize = 2;

/// One field: what was seen, and what it becomes.
#[derive(Clone, Debug, Serialize)]
pub struct Field {
    /// Its name in each object on the way.
    pub path: Vec<String>,
    /// The column.
    pub column: String,
    /// The column's type, as a pipeline file writes it.
    #[serde(rename = "type", serialize_with = "as_word")]
    pub(super) kind: Kind,
    /// Objects that have it, null or not.
    pub seen: usize,
    pub nulls: usize,
    /// Of how many objects.
    pub of: usize,
    /// What kinds of values it had.
    pub values: Vec<&'static str>,
    pub examples: Vec<String>,
    /// Its values are not shown: by its name they are nobody's business.
    pub is_secret: bool,
}

fn as_word<S: serde::Serializer>(kind: &Kind, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&kinds::word(kind))
}

impl Field {
    /// Reads it as another type; whether that is something new.
    pub(super) fn make(&mut self, kind: Kind) -> bool {
        let is_new = self.kind != kind;
        self.kind = kind;
        is_new
    }

    pub(super) fn is_rare(&self) -> bool {
        self.seen * RARE < self.of
    }

    /// Whether it is a time that every object has.
    pub(super) fn is_clock(&self) -> bool {
        matches!(self.kind, Kind::Timestamp | Kind::EpochTimestamp(_)) && self.seen == self.of && self.nulls == 0
    }

    /// What a comment says of it.
    pub(super) fn note(&self) -> String {
        let share = match self.seen * 100 / self.of.max(1) {
            100 if self.seen == self.of => "always".to_owned(),
            0 => format!("{} of {}", self.seen, self.of),
            percent => format!("{percent}%"),
        };
        let mut note = share;
        if self.is_rare() {
            note.push_str(", rare");
        }
        if self.nulls > 0 {
            note.push_str(&format!(", null {}%", (self.nulls * 100).div_ceil(self.seen)));
        }
        if self.values.len() > 1 {
            note.push_str(&format!(", mixed: {}", self.values.join(", ")));
        }
        if self.kind == Kind::Json && self.values == ["lists"] {
            note.push_str(", a list: give it a type, [{ a = \"string\" }], and a step unnest makes rows of it");
        }
        match self.is_secret {
            true => note.push_str("; not shown"),
            false if self.examples.is_empty() => {}
            false => note.push_str(&format!("; {}", self.examples.join(", "))),
        }
        note
    }
}

/// What was seen of a field while objects are gone through.
#[derive(Default)]
struct Seen {
    seen: usize,
    nulls: usize,
    values: Values,
    children: Vec<(String, Seen)>,
    /// Of an object: how often it was one.
    objects: usize,
    examples: Vec<String>,
    is_secret: bool,
}

/// Which kinds of values there were.
#[derive(Default)]
struct Values {
    bools: usize,
    ints: Option<(i128, i128)>,
    floats: Option<(f64, f64)>,
    texts: usize,
    times: usize,
    dates: usize,
    lists: Vec<Kind>,
    is_mixed_list: bool,
    has_empty_list: bool,
}

/// The fields of objects, in the order in which they were first seen.
pub(super) fn of(objects: &[&Object]) -> Vec<Field> {
    let mut root = Seen::default();
    let mut left = FIELDS_MAX;
    objects.iter().for_each(|object| root.enter(object, 0, &mut left));
    let mut fields = Vec::new();
    root.flatten(&mut Vec::new(), objects.len(), &mut fields);
    fields
}

/// Leaves the fields that are seen most often, in their order.
pub(super) fn limit(fields: &mut Vec<Field>, count_max: usize) {
    let mut counts: Vec<usize> = fields.iter().map(|field| field.seen).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let Some(least) = counts.get(count_max.saturating_sub(1)).copied().filter(|_| counts.len() > count_max) else {
        return;
    };
    let mut at_least = count_max - counts.iter().filter(|count| **count > least).count();
    fields.retain(|field| {
        let is_last = field.seen == least && at_least > 0;
        at_least -= usize::from(is_last);
        field.seen > least || is_last
    });
}

impl Seen {
    fn enter(&mut self, object: &Object, depth: usize, left: &mut usize) {
        self.objects += 1;
        for (name, value) in object {
            let at = match self.children.iter().position(|(known, _)| known == name) {
                Some(at) => at,
                None if *left == 0 => continue,
                None => {
                    *left -= 1;
                    self.children.push((name.clone(), Seen::default()));
                    self.children.len() - 1
                }
            };
            self.children[at].1.see(value, depth + 1, left);
        }
    }

    fn see(&mut self, value: &Value, depth: usize, left: &mut usize) {
        self.seen += 1;
        self.is_secret |= holds_secret(value);
        match value {
            Value::Null => self.nulls += 1,
            Value::Object(object) if depth < DEPTH_MAX => self.enter(object, depth, left),
            Value::Object(_) => self.objects += 1,
            other => self.values.see(other),
        }
        if !value.is_null() && !value.is_object() && self.examples.len() < EXAMPLES {
            let shown = shown(value);
            if !self.examples.contains(&shown) {
                self.examples.push(shown);
            }
        }
    }

    fn flatten(self, path: &mut Vec<String>, of: usize, fields: &mut Vec<Field>) {
        let often = self.children.iter().map(|(_, child)| child.seen).max().unwrap_or(0);
        let is_map = !path.is_empty() && self.children.len() > KEYS_MAX && often * 10 < self.objects;
        let is_plain = self.objects > 0 && !self.values.is_any() && !self.children.is_empty() && !is_map;
        if path.is_empty() || is_plain {
            for (name, child) in self.children {
                path.push(name);
                child.flatten(path, of, fields);
                path.pop();
            }
            return;
        }
        let is_secret = self.is_secret || path.iter().any(|name| is_secret_name(name));
        let kind = match self.objects > 0 {
            true => Kind::Json,
            false => self.values.kind(path.last().map_or("", String::as_str)),
        };
        let mut values = self.values.words();
        if self.objects > 0 {
            values.push("objects");
        }
        fields.push(Field {
            path: path.clone(),
            column: String::new(),
            kind,
            seen: self.seen,
            nulls: self.nulls,
            of,
            values,
            examples: if is_secret { Vec::new() } else { self.examples },
            is_secret,
        });
    }
}

impl Values {
    fn see(&mut self, value: &Value) {
        match value {
            Value::Bool(_) => self.bools += 1,
            Value::Number(number) => match number.as_i64().map(i128::from).or(number.as_u64().map(i128::from)) {
                Some(int) => {
                    let (low, high) = self.ints.unwrap_or((int, int));
                    self.ints = Some((low.min(int), high.max(int)));
                }
                None => {
                    let float = number.as_f64().unwrap_or(0.0);
                    let (low, high) = self.floats.unwrap_or((float, float));
                    self.floats = Some((low.min(float), high.max(float)));
                }
            },
            Value::String(text) => {
                self.texts += 1;
                self.times += usize::from(chrono::DateTime::parse_from_rfc3339(text).is_ok());
                self.dates +=
                    usize::from(text.len() == 10 && chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok());
            }
            Value::Array(items) => {
                let mut inner = Values::default();
                let is_flat = items.iter().all(|item| !item.is_array() && !item.is_object());
                items.iter().filter(|item| !item.is_null()).for_each(|item| inner.see(item));
                match is_flat && inner.words().len() <= 1 {
                    true => {
                        let kind = match inner.kind("") {
                            // It says nothing of its elements.
                            _ if !inner.is_any() => return self.has_empty_list = true,
                            kind @ (Kind::Bool | Kind::Int64 | Kind::Uint64 | Kind::Float64) => kind,
                            _ => Kind::String,
                        };
                        self.lists.push(Kind::List(Box::new(kind)));
                        self.lists.dedup();
                    }
                    false => self.is_mixed_list = true,
                }
            }
            Value::Null | Value::Object(_) => {}
        }
    }

    fn has_lists(&self) -> bool {
        !self.lists.is_empty() || self.has_empty_list || self.is_mixed_list
    }

    fn is_any(&self) -> bool {
        !self.words().is_empty()
    }

    fn words(&self) -> Vec<&'static str> {
        let all = [
            (self.bools > 0, "true and false"),
            (self.ints.is_some() || self.floats.is_some(), "numbers"),
            (self.texts > 0, "text"),
            (self.has_lists(), "lists"),
        ];
        all.into_iter().filter(|(is_there, _)| *is_there).map(|(_, word)| word).collect()
    }

    /// The type of a column that takes all of these values.
    fn kind(&self, name: &str) -> Kind {
        let numbers = self.ints.is_some() || self.floats.is_some();
        let lists = self.has_lists();
        match (self.bools > 0, numbers, self.texts > 0, lists) {
            (false, false, false, false) => Kind::Json,
            (true, false, false, false) => Kind::Bool,
            (false, true, false, false) => self.number(name),
            (false, false, true, false) if self.times == self.texts => Kind::Timestamp,
            (false, false, true, false) if self.dates == self.texts => Kind::Date,
            // A string takes any single value as its text.
            (_, _, _, false) => Kind::String,
            (false, false, false, true) if !self.is_mixed_list => self.list(),
            _ => Kind::Json,
        }
    }

    fn list(&self) -> Kind {
        let item = |kind: &Kind| if let Kind::List(item) = kind { item.as_ref().clone() } else { Kind::Json };
        let kinds: Vec<Kind> = self.lists.iter().map(item).collect();
        let is_number = |kind: &Kind| matches!(kind, Kind::Int64 | Kind::Uint64 | Kind::Float64);
        let common = match kinds.as_slice() {
            [] => Kind::String,
            [first, rest @ ..] if rest.iter().all(|kind| kind == first) => first.clone(),
            all if all.iter().all(is_number) => Kind::Float64,
            _ => Kind::String,
        };
        Kind::List(Box::new(common))
    }

    fn number(&self, name: &str) -> Kind {
        let (low, high) = match (self.ints, self.floats) {
            (Some((low, high)), None) => (low as f64, high as f64),
            (None, Some(floats)) => floats,
            (Some((low, high)), Some((least, most))) => (least.min(low as f64), most.max(high as f64)),
            (None, None) => (0.0, 0.0),
        };
        if let Some(unit) = epoch(low, high, name) {
            return Kind::EpochTimestamp(unit);
        }
        // Whole numbers of more digits than a float has, ids: as text they keep them.
        let is_large = |number: f64| number.fract() == 0.0 && (MANY_DIGITS..TOO_MANY_DIGITS).contains(&number.abs());
        match (self.ints, self.floats) {
            (Some((low, high)), None) if low < 0 && high > i128::from(i64::MAX) => Kind::String,
            (_, Some((least, most))) if is_large(least) || is_large(most) => Kind::String,
            (Some((_, high)), None) if high <= i128::from(i64::MAX) => Kind::Int64,
            (Some((low, _)), None) if low >= 0 => Kind::Uint64,
            _ => Kind::Float64,
        }
    }
}

/// From here on a whole number is in no integer type, and up to here it may be somebody's id.
const MANY_DIGITS: f64 = 9.2e18;
const TOO_MANY_DIGITS: f64 = 1e40;

/// The unit in which numbers are times between 2001 and 2065, if their name says that they are times.
fn epoch(low: f64, high: f64, name: &str) -> Option<Unit> {
    let is_time = says_time(&words_of(name));
    let within = |unit: f64| low >= 1e9 * unit && high <= 3e9 * unit;
    match () {
        () if !is_time => None,
        () if within(1.0) => Some(Unit::Seconds),
        () if within(1e3) => Some(Unit::Millis),
        () if within(1e6) => Some(Unit::Micros),
        () => None,
    }
}

/// Words that say that a number is a time, wherever they stand in its name.
const TIME_WORDS: [&str; 17] = [
    "time",
    "timestamp",
    "date",
    "datetime",
    "when",
    "created",
    "updated",
    "modified",
    "sent",
    "received",
    "epoch",
    "start",
    "started",
    "end",
    "ended",
    "seen",
    "expires",
];
/// Words that say so only at the end of a name.
const TIME_ENDS: [&str; 4] = ["at", "ts", "on", "t"];
/// What a number of that name is, whatever stands before it.
const OTHER_ENDS: [&str; 15] = [
    "id", "ids", "count", "no", "nr", "num", "number", "amount", "price", "cents", "size", "bytes", "code", "total",
    "index",
];

/// `createdAtMs` is created, at, ms.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for letter in name.chars() {
        if !letter.is_alphabetic() || letter.is_uppercase() && was_lower {
            words.push(String::new());
        }
        if letter.is_alphabetic() {
            words.last_mut().expect("there is one from the beginning").extend(letter.to_lowercase());
        }
        was_lower = letter.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

fn says_time(words: &[String]) -> bool {
    let is_of = |known: &[&str], word: &String| known.contains(&word.as_str());
    let Some(last) = words.last().filter(|last| !is_of(&OTHER_ENDS, last)) else { return false };
    let says = |word: &String| {
        is_of(&TIME_WORDS, word) || ["time", "date"].iter().any(|end| word.ends_with(end) && !is_of(&NO_TIMES, word))
    };
    // A unit may stand behind: ts_ms.
    let before = words
        .len()
        .checked_sub(2)
        .map(|at| &words[at])
        .filter(|_| is_of(&["s", "ms", "us", "sec", "millis", "micros"], last));
    is_of(&TIME_ENDS, last) || before.is_some_and(|word| is_of(&TIME_ENDS, word)) || words.iter().any(says)
}

/// Words that end like times and are none.
const NO_TIMES: [&str; 3] = ["candidate", "mandate", "consolidate"];

/// A value as an example, short.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(EXAMPLE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Names whose values do not belong into a file that is shown around.
pub(super) fn is_secret_name(name: &str) -> bool {
    const WORDS: [&str; 19] = [
        "pass",
        "secret",
        "token",
        "auth",
        "cookie",
        "credential",
        "apikey",
        "privatekey",
        "accesskey",
        "writekey",
        "session",
        "cvv",
        "cvc",
        "cardnumber",
        "creditcard",
        "iban",
        "ssn",
        "signature",
        "jwt",
    ];
    let plain: String = name.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    WORDS.iter().any(|word| plain.contains(word)) || plain == "pin"
}

/// What a key or a token begins with.
const BEGINNINGS: [&str; 9] = ["eyJ", "Bearer ", "Basic ", "sk_", "sk-", "ghp_", "AKIA", "xox", "-----BEGIN"];

/// Texts that look like a key or a token, say one (`password=…`), or are JSON with one.
fn is_secret_text(text: &str) -> bool {
    let is_said =
        |(end, is_name): (usize, bool)| !is_name || text[end..].trim_start_matches(QUOTES).starts_with(['=', ':']);
    if words(text).any(is_said) {
        return true;
    }
    let is_json = text.trim_start().starts_with(['{', '[', '"']);
    is_json && serde_json::from_str(text).is_ok_and(|inner: Value| holds_secret(&inner))
}

/// What may stand between a name and its value.
const QUOTES: [char; 4] = ['"', '\'', '\\', ' '];

/// Where the words of a text that tell of secrets are: the end of each that is a name of one, or the beginning of what looks like one.
fn words(text: &str) -> impl Iterator<Item = (usize, bool)> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let begins = text.char_indices().scan(false, move |was_word, (at, c)| {
        let begins = is_word(c) && !*was_word;
        *was_word = is_word(c);
        Some(begins.then_some(at))
    });
    begins.flatten().filter_map(move |begin| {
        let rest = &text[begin..];
        let end = rest.find(|c| !is_word(c)).map_or(text.len(), |end| begin + end);
        match BEGINNINGS.iter().any(|start| rest.starts_with(start)) {
            true => Some((begin, false)),
            false => is_secret_name(&text[begin..end]).then_some((end, true)),
        }
    })
}

fn holds_secret(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(name, inner)| is_secret_name(name) || holds_secret(inner)),
        Value::Array(items) => items.iter().any(holds_secret),
        Value::String(text) => is_secret_text(text),
        _ => false,
    }
}

/// Text of no known form up to the first word that tells of a secret: where its value ends nobody knows.
pub(super) fn cut(text: &str) -> Option<String> {
    words(text).next().map(|(end, _)| format!("{} hidden", text[..end].trim_end()).trim_start().to_owned())
}

/// The same value without what is not to be shown: secrets, and what makes texts long.
pub(super) fn masked(value: &Value, is_secret: bool, text_max: usize) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, inner)| (name.clone(), masked(inner, is_secret || is_secret_name(name), text_max)))
            .collect::<Object>()
            .into(),
        Value::Array(items) => items.iter().map(|item| masked(item, is_secret, text_max)).collect(),
        Value::String(text) if is_secret || is_secret_text(text) => "hidden".into(),
        Value::String(text) => text.char_indices().nth(text_max).map_or(text.as_str(), |(end, _)| &text[..end]).into(),
        Value::Number(_) if is_secret => 0.into(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_time_by_its_words() {
        for time in [
            "created_at",
            "createdAt",
            "ts",
            "t",
            "at",
            "ts_ms",
            "sentTime",
            "eventTimeMs",
            "timestamp",
            "updated",
            "start",
            "end_time",
            "starttime",
            "lastSeen",
            "expires_on",
            "uploadDate",
            "occurredOn",
        ] {
            assert!(says_time(&words_of(time)), "{time}");
        }
        for other in [
            "vendor_id",
            "sender_id",
            "candidate",
            "spend",
            "id",
            "created_id",
            "time_count",
            "version",
            "weekend",
            "presented",
            "amount",
            "price",
            "",
            "123",
            "start_id",
            "format",
        ] {
            assert!(!says_time(&words_of(other)), "{other}");
        }
    }
}
