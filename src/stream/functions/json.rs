//! Values inside JSON texts.

use super::call::{Function, Gives, Takes};
use arrow::array::StringArray;

pub(super) const FUNCTIONS: &[Function] = &[Function {
    name: "json_get",
    takes: &[("json", Takes::Text), ("path", Takes::Text)],
    optional: 0,
    gives: Gives::Text,
    meaning: "the value at 'a.b' or '/a/b': text as it is, the rest as JSON; NULL for what is no JSON, not there, or null",
    examples: &[
        (r#"json_get('{"a":{"b":"x"}}', 'a.b')"#, "x"),
        (r#"json_get('{"a":[1,{"b":true}]}', '/a/1')"#, r#"{"b":true}"#),
        (r#"json_get('{"a":null}', 'a')"#, "NULL"),
    ],
    compute: |call| call.each_text_pair::<StringArray, _>(get),
}];

fn get(json: &str, path: &str) -> Option<String> {
    let mut value: serde_json::Value = serde_json::from_str(json).ok()?;
    let pointer = if path.starts_with('/') { path.to_owned() } else { format!("/{}", path.replace('.', "/")) };
    match value.pointer_mut(&pointer)?.take() {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text),
        other => Some(other.to_string()),
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
        assert_eq!((get(json, "n"), get(json, "z"), get("no json", "a")), (None, None, None));
    }
}
