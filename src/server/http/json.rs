//! Judging one event: whether it is well-formed JSON within the depth, and, in the same pass, the values its topic's pointers name.
//!
//! What the scanner of [`crate::json`] finds plainly right is right; else the walk over the text is serde_json's, which also says what is
//! wrong. Nothing is built of a text but the two values that are asked for.

use super::split::DEPTH_MAX;
use crate::json;
use crate::store::HttpCheck;
use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A client's time outside of this window around the arrival is not believed: seven days back, an hour ahead.
const TIME_BACK_MS: i64 = 7 * 24 * 60 * 60 * 1000;
const TIME_AHEAD_MS: i64 = 60 * 60 * 1000;

/// What is asked of each event of a topic.
#[derive(Clone, Debug)]
pub struct Judge {
    pub check: HttpCheck,
    /// Where the record's key stands, where its time.
    key: Option<Vec<String>>,
    time: Option<Vec<String>>,
    received_ms: i64,
}

/// What an event said about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub key: Option<Bytes>,
    /// The client's if it is to be believed, else the arrival.
    pub timestamp: i64,
    /// A time was asked for, and missing or too far off.
    pub is_time_off: bool,
}

/// Why a text is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub reason: String,
    /// It is JSON all the same: the line ends where it ends.
    pub is_json: bool,
}

impl Judge {
    /// `key` and `time` are JSON pointers.
    pub fn new(check: HttpCheck, key: Option<&str>, time: Option<&str>, received_ms: i64) -> Judge {
        Judge { check, key: key.map(tokens), time: time.map(tokens), received_ms }
    }

    /// What an event says that is not looked into.
    pub fn unread(&self) -> Said {
        Said { key: None, timestamp: self.received_ms, is_time_off: false }
    }

    /// Whether [`Judge::judge`] reads keys or times.
    pub fn has_pointers(&self) -> bool {
        self.check == HttpCheck::Json && (self.key.is_some() || self.time.is_some())
    }

    /// Judges one event.
    ///
    /// # Errors
    /// [`Fault`]: it is not what the topic asks for.
    pub fn judge(&self, value: &[u8]) -> Result<Said, Fault> {
        let fault = |reason: String| Fault { reason, is_json: false };
        match self.check {
            HttpCheck::None => return Ok(self.unread()),
            HttpCheck::Utf8 => {
                std::str::from_utf8(value).map_err(|error| fault(format!("not UTF-8: {error}")))?;
                return Ok(self.unread());
            }
            HttpCheck::Json => {}
        }
        if !self.has_pointers() && json::is_plain(value, DEPTH_MAX as u32) {
            return Ok(self.unread());
        }
        let said = if self.has_pointers() { self.read(value)? } else { check(value).map(|()| self.unread())? };
        let is_json = true;
        std::str::from_utf8(value).map_err(|error| Fault { reason: format!("not UTF-8: {error}"), is_json })?;
        if is_too_deep(value) {
            return Err(Fault { reason: format!("nested deeper than {DEPTH_MAX}"), is_json });
        }
        Ok(said)
    }

    /// Checks and reads in one pass. What the reading does not bear and the check does (a number beyond floats where an object was
    /// looked for) is well-formed and says nothing.
    fn read(&self, value: &[u8]) -> Result<Said, Fault> {
        let mut found = [None, None];
        let mut reader = serde_json::Deserializer::from_slice(value);
        let paths = [self.key.as_deref(), self.time.as_deref()];
        let read = Look { paths, found: &mut found }.deserialize(&mut reader).and_then(|()| reader.end());
        if read.is_err() {
            check(value)?;
            found = [None, None];
        } else if value.iter().any(|byte| *byte < b' ') {
            // Names are read as bytes, in which serde_json lets control characters stand.
            check(value)?;
        }
        let [key, time] = found;
        let key = key.and_then(|raw| match raw.as_bytes() {
            b"null" => None,
            [b'"', ..] => serde_json::from_str::<String>(raw).ok().map(Bytes::from),
            other => Some(Bytes::copy_from_slice(other)),
        });
        let is_near = |ms: &i64| (self.received_ms - TIME_BACK_MS..=self.received_ms + TIME_AHEAD_MS).contains(ms);
        let time = time.and_then(milliseconds).filter(is_near);
        let is_time_off = self.time.is_some() && time.is_none();
        Ok(Said { key, timestamp: time.unwrap_or(self.received_ms), is_time_off })
    }
}

/// RFC 3339 in a string, or a number of milliseconds.
fn milliseconds(raw: &str) -> Option<i64> {
    if raw.starts_with('"') {
        let text = serde_json::from_str::<String>(raw).ok()?;
        return chrono::DateTime::parse_from_rfc3339(&text).ok().map(|time| time.timestamp_millis());
    }
    raw.parse::<i64>().ok().or_else(|| raw.parse::<f64>().ok().map(|ms| ms as i64))
}

fn check(value: &[u8]) -> Result<(), Fault> {
    let mut reader = serde_json::Deserializer::from_slice(value);
    let read = <IgnoredAny as serde::Deserialize>::deserialize(&mut reader);
    read.and_then(|_| reader.end()).map_err(|error| Fault { reason: format!("not JSON: {error}"), is_json: false })
}

/// Whether a text is one JSON value that a reader with a usual depth can take.
pub(super) fn is_json(value: &[u8]) -> bool {
    json::is_plain(value, DEPTH_MAX as u32)
        || check(value).is_ok() && std::str::from_utf8(value).is_ok() && !is_too_deep(value)
}

/// The tokens of a pointer (RFC 6901) that begins with '/'.
fn tokens(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect()
}

/// Nesting of a JSON text that is known to be well-formed. Nearly all have fewer brackets than the limit, which is seen at memory speed.
pub(super) fn is_too_deep(value: &[u8]) -> bool {
    // '[' and '{' differ in one bit. Sums of 255 fit a byte, which lets the compiler use whole vectors.
    let openers = |piece: &[u8]| piece.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>();
    let openers: usize = value.chunks(255).map(|piece| usize::from(openers(piece))).sum();
    openers > DEPTH_MAX && depth_of(value) > DEPTH_MAX
}

fn depth_of(value: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = string_end(value, at + 1),
            _ => {}
        }
        at += 1;
    }
    deepest
}

/// Position of the quote that ends a string which begins at `from`.
fn string_end(value: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(found) = memchr::memchr2(b'"', b'\\', value.get(at..).unwrap_or_default()) {
        at += found;
        if value[at] == b'"' {
            return at;
        }
        at += 2;
    }
    value.len()
}

/// Walks one value on the way to what the paths name. A path that ends here takes the value as it stands in the text.
struct Look<'p, 'f, 'de> {
    paths: [Option<&'p [String]>; 2],
    found: &'f mut [Option<&'de str>; 2],
}

impl<'de> DeserializeSeed<'de> for Look<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.paths.iter().all(Option::is_none) {
            return deserializer.deserialize_ignored_any(IgnoredAny).map(drop);
        }
        if !self.paths.iter().flatten().any(|path| path.is_empty()) {
            return deserializer.deserialize_any(self);
        }
        let raw = <&RawValue as serde::Deserialize>::deserialize(deserializer)?;
        for (path, found) in self.paths.iter().zip(self.found.iter_mut()) {
            match path {
                Some([]) => *found = Some(raw.get()),
                // One pointer leads on into the value that the other one takes.
                Some(_) => {
                    let mut inner = [None, None];
                    let mut reader = serde_json::Deserializer::from_str(raw.get());
                    let look = Look { paths: [*path, None], found: &mut inner };
                    look.deserialize(&mut reader).map_err(D::Error::custom)?;
                    *found = inner[0];
                }
                None => {}
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Look<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(paths) = map.next_key_seed(Key(self.paths))? {
            map.next_value_seed(Look { paths, found: self.found })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0usize;
        loop {
            let here = |path: &'_ [String]| path[0].parse() == Ok(index);
            let paths = self.paths.map(|path| path.filter(|path| here(path)).map(|path| &path[1..]));
            if seq.next_element_seed(Look { paths, found: self.found })?.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A key of an object, read as what is left of the paths that go through it. As bytes: a lone surrogate is well-formed JSON.
struct Key<'p>([Option<&'p [String]>; 2]);

impl<'de, 'p> DeserializeSeed<'de> for Key<'p> {
    type Value = [Option<&'p [String]>; 2];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl<'p> Visitor<'_> for Key<'p> {
    type Value = [Option<&'p [String]>; 2];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<Self::Value, E> {
        Ok(self.0.map(|path| path.filter(|path| path[0].as_bytes() == key).map(|path| &path[1..])))
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        self.visit_bytes(key.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn judge(key: &str, time: &str, value: &str) -> Said {
        let some = |text: &'static str| Some(text).filter(|text| !text.is_empty());
        let (key, time) = (key.to_owned().leak(), time.to_owned().leak());
        Judge::new(HttpCheck::Json, some(key), some(time), NOW).judge(value.as_bytes()).unwrap()
    }

    fn key(pointer: &str, value: &str) -> Option<String> {
        judge(pointer, "", value).key.map(|key| String::from_utf8(key.to_vec()).unwrap())
    }

    #[test]
    fn a_key_is_what_its_pointer_names() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(key("/user/id", r#"{"a":[1,{"id":2}],"user":{"id":"u\u00e4"}}"#), some("uä"));
        assert_eq!(key("/user/id", r#"{"user":{"id":17.50}}"#), some("17.50"));
        assert_eq!(key("/a/1/b", r#"{"a":[{"b":1},{"b":true}]}"#), some("true"));
        assert_eq!(key("/a~1b", r#"{"a/b":"x"}"#), some("x"));
        assert_eq!(key("/a", r#"{"a":1,"a":"last"}"#), some("last"));
        for without in [r#"{"user":{"id":null}}"#, r#"{"user":7}"#, r#"{"user":[]}"#, "null", "17", r#""user""#] {
            assert_eq!(key("/user/id", without), None, "{without}");
        }
        // One pointer inside the value of the other.
        let both = judge("/a", "/a/t", &format!(r#"{{"a":{{"t":{NOW}}}}}"#));
        assert_eq!((both.key.is_some(), both.is_time_off), (true, false));
    }

    #[test]
    fn a_time_is_believed_near_the_arrival() {
        let time = |value: &str| judge("", "/ts", value).timestamp;
        assert_eq!(time(r#"{"ts":"2023-11-14T22:13:19Z"}"#), NOW - 1000);
        assert_eq!(time(&format!(r#"{{"ts":{}}}"#, NOW - 5)), NOW - 5);
        assert_eq!(time(&format!(r#"{{"ts":{}.7}}"#, NOW - 5)), NOW - 5);
        for off in [r#"{"ts":"1999-01-01T00:00:00Z"}"#, r#"{"ts":5}"#, r#"{"ts":"soon"}"#, "{}", r#"{"ts":1e300}"#] {
            let said = judge("", "/ts", off);
            assert_eq!((said.timestamp, said.is_time_off), (NOW, true), "{off}");
        }
    }

    #[test]
    fn reading_a_key_judges_as_the_plain_check_does() {
        let plain = Judge::new(HttpCheck::Json, None, None, NOW);
        let reading = Judge::new(HttpCheck::Json, Some("/a/b"), Some("/t"), NOW);
        for text in [
            "{}",
            "{\"a\":1e999}",
            "{\"a\":{\"b\":1e999}}",
            "{\"\\ud800\":1}",
            "{\"a\":{\"b\":\"\\ud800\"}}",
            "{\"a\":",
            "{\"a\":1}x",
            "[1,2",
            "\"\u{1}\"",
            "01",
            "{\"a\":{\"b\"}}",
            "{\"t\":[}",
            "tru",
            "",
        ] {
            assert_eq!(plain.judge(text.as_bytes()).is_ok(), reading.judge(text.as_bytes()).is_ok(), "{text}");
        }
        assert!(reading.judge(b"{\"a\":{\"b\":\"\xff\"}}").is_err());
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!is_too_deep(nested(DEPTH_MAX).as_bytes()));
        assert!(is_too_deep(nested(DEPTH_MAX + 1).as_bytes()));
        let wide = format!("[{}]", vec!["{}"; 300].join(","));
        assert!(!is_too_deep(wide.as_bytes()));
        let quoted = format!("[\"\\\"{}\"]", "[".repeat(900));
        assert!(!is_too_deep(quoted.as_bytes()));
    }
}
