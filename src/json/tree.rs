//! A JSON text as a tree that keeps duplicate fields, which a map would hide. Texts without escapes are slices of the record.

use super::exact::Exact;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// One JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<Node<'a>>),
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
    /// Never out of JSON.
    Exact(Exact<'a>),
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Found<'n, 'a> {
    Missing,
    Twice,
    Node(&'n Node<'a>),
}

impl<'a> Node<'a> {
    /// Parses a whole text.
    pub(crate) fn parse(text: &'a [u8]) -> serde_json::Result<Node<'a>> {
        serde_json::from_slice(text)
    }

    /// Follows the unescaped segments of a JSON pointer.
    pub(crate) fn find<'n>(&'n self, path: &[String]) -> Found<'n, 'a> {
        let mut node = self;
        for segment in path {
            node = match node {
                Node::Object(fields) => {
                    let mut named = fields.iter().filter(|(name, _)| name == segment);
                    match (named.next(), named.next()) {
                        (None, _) => return Found::Missing,
                        (Some(_), Some(_)) => return Found::Twice,
                        (Some((_, node)), None) => node,
                    }
                }
                Node::List(items) => match segment.parse::<usize>().ok().and_then(|at| items.get(at)) {
                    Some(node) => node,
                    None => return Found::Missing,
                },
                _ => return Found::Missing,
            };
        }
        Found::Node(node)
    }

    /// JSON text of this value.
    pub(crate) fn to_json(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Node::Null => out.push_str("null"),
            Node::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Node::Int(value) => out.push_str(&value.to_string()),
            Node::Uint(value) => out.push_str(&value.to_string()),
            Node::Float(value) => out.push_str(&serde_json::Value::from(*value).to_string()),
            Node::Text(text) => write_text(text, out),
            Node::Exact(exact) if exact.is_number() => out.push_str(&exact.to_text()),
            Node::Exact(exact) => write_text(&exact.to_text(), out),
            Node::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Node::Object(fields) => write_object(fields.iter().map(|(name, node)| (name.as_ref(), node)), out),
        }
    }
}

/// An object of these fields, as JSON text.
pub(crate) fn object_json<'n, 'a: 'n>(fields: impl Iterator<Item = (&'n str, &'n Node<'a>)>) -> String {
    let mut out = String::new();
    write_object(fields, &mut out);
    out
}

fn write_object<'n, 'a: 'n>(fields: impl Iterator<Item = (&'n str, &'n Node<'a>)>, out: &mut String) {
    out.push('{');
    for (at, (name, node)) in fields.enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_text(name, out);
        out.push(':');
        node.write(out);
    }
    out.push('}');
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

impl<'de: 'a, 'a> Deserialize<'de> for Node<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node<'a>, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node<'de>, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node<'de>, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node<'de>, E> {
        Ok(Node::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node<'de>, E> {
        Ok(i64::try_from(value).map_or(Node::Uint(value), Node::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node<'de>, E> {
        Ok(Node::Float(value))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some(Name(name)) = entries.next_key()? {
            fields.push((name, entries.next_value()?));
        }
        Ok(Node::Object(fields))
    }
}

/// A field name, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name<'a>, D::Error> {
        match Node::deserialize(deserializer)? {
            Node::Text(text) => Ok(Name(text)),
            _ => Err(serde::de::Error::custom("a field name is text")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_seen_and_paths_followed() {
        let node = Node::parse(br#"{"a":{"b":[1,{"c":"x\ty"}]},"d":1,"d":2}"#).unwrap();
        let path = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(node.find(&path("a/b/1/c")), Found::Node(&Node::Text("x\ty".into())));
        assert_eq!(node.find(&path("d")), Found::Twice);
        assert_eq!(node.find(&path("a/x")), Found::Missing);
        assert_eq!(node.to_json(), r#"{"a":{"b":[1,{"c":"x\ty"}]},"d":1,"d":2}"#);
        assert!(Node::parse(b"{} {}").is_err());
    }
}
