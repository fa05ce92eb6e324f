//! Values inside JSON texts.

use super::call::{Function, Gives, Takes};
use crate::json::Node;
use arrow::array::StringArray;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;

pub(super) const FUNCTIONS: &[Function] = &[Function {
    name: "json_get",
    takes: &[("json", Takes::Text), ("path", Takes::Text)],
    optional: 0,
    gives: Gives::Text,
    meaning: "the value at 'a.b' or '/a/b': text as it is, the rest as the JSON that it is; NULL for what is no JSON, not there, or null",
    examples: &[
        (r#"json_get('{"a":{"b":"x"}}', 'a.b')"#, "x"),
        (r#"json_get('{"a":[1,{"b":true}]}', '/a/1')"#, r#"{"b":true}"#),
        (r#"json_get('{"a":null}', 'a')"#, "NULL"),
    ],
    compute: |call| call.each_text_pair::<StringArray, _>(get),
}];

/// Numbers are never read: what is told of them is their text.
fn get(json: &str, path: &str) -> Option<String> {
    let pointer = if path.starts_with('/') { path.to_owned() } else { format!("/{}", path.replace('.', "/")) };
    let mut value: &RawValue = serde_json::from_str(json).ok()?;
    for segment in pointer.split('/').skip(1) {
        value = match value.get().as_bytes().first()? {
            b'{' => {
                let mut fields: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(value.get()).ok()?;
                fields.remove(segment.replace("~1", "/").replace("~0", "~").as_str())?
            }
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
                *items.get(segment.parse::<usize>().ok()?)?
            }
            _ => return None,
        };
    }
    match value.get() {
        "null" => None,
        text if text.starts_with('"') => match Node::parse(text.as_bytes()) {
            Ok(Node::Text(text)) => Some(text.into_owned()),
            _ => None,
        },
        json => Some(json.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_reached_into() {
        let json = r#"{"a":{"b":"x","c":[1,{"d":true}]},"n":null}"#;
        assert_eq!(get(json, "a.b").as_deref(), Some("x"));
        assert_eq!(get(json, "/a/c/1/d").as_deref(), Some("true"));
        assert_eq!(get(json, "a.c").as_deref(), Some(r#"[1,{"d":true}]"#));
        let odd = r#"{"id":12345678901234567890123,"f":1e400,"m":-0,"a":[ 1.10 ],"x/y~":{"z":1},"d":1,"d":2}"#;
        for (path, wanted) in [
            ("id", Some("12345678901234567890123")),
            ("f", Some("1e400")),
            ("m", Some("-0")),
            ("a", Some("[ 1.10 ]")),
            ("a.0", Some("1.10")),
            ("/x~1y~0/z", Some("1")),
            ("d", Some("2")),
            ("a.1", None),
            ("a.x", None),
            ("id.x", None),
        ] {
            assert_eq!(get(odd, path).as_deref(), wanted, "{path}");
        }
        assert_eq!(get(r#"{"a":"x\ud800\n"}"#, "a").as_deref(), Some("x\u{fffd}\n"), "as in columns");
        assert_eq!((get(json, "n"), get(json, "z"), get("no json", "a")), (None, None, None));
    }
}
