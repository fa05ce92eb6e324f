//! A JSON text as a tree that keeps duplicate fields, which a map would hide. Texts without escapes are slices of the record.

use super::exact::Exact;
use super::scan::{Odd, Scan, Scanner, Text, unescape_lossy};
use serde::de::IgnoredAny;
use std::borrow::Cow;

/// What some programs write before a text in UTF-8.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Lists and objects that stand in each other at most.
const LEVELS_MAX: usize = 128;

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
    /// Out of JSON only [`Exact::Number`].
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
    /// Parses a whole text. serde_json judges whether it is JSON, and says why not. What it says is read here: numbers keep their digits, and
    /// half of a surrogate pair, as scripts leave it that cut a text within an emoji, is U+FFFD.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Node<'a>, String> {
        std::str::from_utf8(text).map_err(|error| format!("it is no UTF-8: {error}"))?;
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        serde_json::from_slice::<IgnoredAny>(text).map_err(|error| error.to_string())?;
        let node = read(&mut Scanner::new(text), LEVELS_MAX);
        node.map_err(|_| format!("lists and objects stand more than {LEVELS_MAX} deep in each other"))
    }

    /// A field of an object, if it has one of that name, and only one.
    pub(crate) fn field(&self, name: &str) -> Option<&Node<'a>> {
        match self.find(&[name.to_owned()]) {
            Found::Node(node) => Some(node),
            Found::Missing | Found::Twice => None,
        }
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

    /// The same for those who look at what it is like: of fields that come twice the last, of numbers the nearest float.
    pub(crate) fn plain(&self) -> serde_json::Value {
        match self {
            Node::Null => serde_json::Value::Null,
            Node::Bool(value) => (*value).into(),
            Node::Int(value) => (*value).into(),
            Node::Uint(value) => (*value).into(),
            Node::Float(value) => (*value).into(),
            Node::Text(text) => text.as_ref().into(),
            Node::Exact(exact) => match exact.to_text().parse::<f64>().ok().filter(|_| exact.is_number()) {
                Some(float) => float.clamp(f64::MIN, f64::MAX).into(),
                None => exact.to_text().into(),
            },
            Node::List(items) => items.iter().map(Node::plain).collect(),
            Node::Object(fields) => fields.iter().map(|(name, node)| (name.to_string(), node.plain())).collect(),
        }
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
            Node::Float(value) if !value.is_finite() => write_text(unusual(*value), out),
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

/// A float that JSON has no number for, as Protobuf's JSON writes it.
pub(crate) fn unusual(float: f64) -> &'static str {
    match float {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// The value that comes next in a text that is JSON. What can be odd with it is how deep it is.
fn read<'a>(scan: &mut Scanner<'a>, levels: usize) -> Scan<Node<'a>> {
    Ok(match scan.token()? {
        b'"' => {
            scan.pass(b'"')?;
            Node::Text(plain(scan.string()?)?)
        }
        b'{' => {
            let levels = levels.checked_sub(1).ok_or(Odd)?;
            let mut fields = Vec::new();
            let mut more = scan.open(0)?;
            while more {
                scan.pass(b'"')?;
                let name = plain(scan.string()?)?;
                scan.pass(b':')?;
                fields.push((name, read(scan, levels)?));
                more = scan.next(b'}')?;
            }
            Node::Object(fields)
        }
        b'[' => {
            let levels = levels.checked_sub(1).ok_or(Odd)?;
            let mut items = Vec::new();
            let mut more = scan.open(0)?;
            while more {
                items.push(read(scan, levels)?);
                more = scan.next(b']')?;
            }
            Node::List(items)
        }
        b't' => scan.literal(b"true").map(|()| Node::Bool(true))?,
        b'f' => scan.literal(b"false").map(|()| Node::Bool(false))?,
        b'n' => scan.literal(b"null").map(|()| Node::Null)?,
        _ => scan.number()?.node()?,
    })
}

fn plain<'a>(text: Text<'a>) -> Scan<Cow<'a, str>> {
    if !text.is_escaped {
        return std::str::from_utf8(text.raw).map(Cow::Borrowed).map_err(|_| Odd);
    }
    let mut plain = Vec::with_capacity(text.raw.len());
    unescape_lossy(text.raw, &mut plain)?;
    String::from_utf8(plain).map(Cow::Owned).map_err(|_| Odd)
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

    #[test]
    fn numbers_keep_their_digits_and_half_a_pair_is_no_error() {
        let odd = r#"{"a":[1.50,-0,1E400,12345678901234567890123,18446744073709551615,-7],"b":1e2}"#;
        assert_eq!(Node::parse(odd.as_bytes()).unwrap().to_json(), odd);
        let text = |json: &str| match Node::parse(json.as_bytes()) {
            Ok(Node::Text(text)) => text.into_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(text(r#""a\ud83d""#), "a\u{fffd}");
        assert_eq!(text(r#""\ud83d\u0041\ude00\ud83d\ude00""#), "\u{fffd}A\u{fffd}\u{1f600}");
        let plain = Node::parse(odd.as_bytes()).unwrap().plain();
        let numbers = serde_json::json!([1.5, -0.0, f64::MAX, 12345678901234567890123.0, u64::MAX, -7]);
        assert_eq!(plain, serde_json::json!({"a": numbers, "b": 100.0}));
        let floats = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(Node::Float);
        assert_eq!(Node::List(floats.to_vec()).to_json(), r#"["NaN","Infinity","-Infinity"]"#);
        assert_eq!(Node::parse(b"\xef\xbb\xbf{}"), Ok(Node::Object(Vec::new())));
    }

    #[test]
    fn what_is_no_json_or_too_deep_says_so() {
        for wrong in ["", "{", "[1,]", "01", "1.", "\"\u{1}\"", "\"\\x\"", "\"\\u12\"", "nul", "{\"a\" 1}"] {
            assert!(Node::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(Node::parse(b"\"\xff\"").unwrap_err().contains("UTF-8"));
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Node::parse(nested(LEVELS_MAX).as_bytes()).is_ok());
        assert!(Node::parse(nested(LEVELS_MAX + 1).as_bytes()).unwrap_err().contains("deep"));
        assert!(Node::parse(nested(1_000_000).as_bytes()).unwrap_err().contains("deep"));
    }
}
