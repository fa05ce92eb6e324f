//! Parts of URLs. The URL is cut, not parsed: what clients send is often no valid URL, and its host is wanted all the same.

use super::call::{Function, Gives, Takes};
use arrow::array::{Int32Array, StringArray};
use std::borrow::Cow;

/// Schemes of apps, whose names are no hosts.
const APPS: [&str; 2] = ["android-app", "ios-app"];
const URL: (&str, Takes) = ("url", Takes::Text);

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "url_fragment",
        takes: &[URL],
        optional: 0,
        gives: Gives::Text,
        meaning: "what follows '#'",
        examples: &[
            ("url_fragment('https://shop.example/a#top')", "top"),
            ("url_fragment('https://shop.example/a')", "NULL"),
        ],
        compute: |call| call.each_text::<StringArray, _>(|url| cut(url).fragment),
    },
    Function {
        name: "url_host",
        takes: &[URL],
        optional: 0,
        gives: Gives::Text,
        meaning: "host, in lower case, without port and user; NULL if none is written",
        examples: &[
            ("url_host('https://me@Shop.example:8443/a')", "shop.example"),
            ("url_host('//cdn.example/x.js')", "cdn.example"),
            ("url_host('/a?x=1')", "NULL"),
        ],
        compute: |call| call.each_text::<StringArray, _>(host),
    },
    Function {
        name: "url_path",
        takes: &[URL],
        optional: 0,
        gives: Gives::Text,
        meaning: "path, as it is written; '/' if there is none",
        examples: &[
            ("url_path('https://shop.example/a/b?x=1#top')", "/a/b"),
            ("url_path('https://shop.example')", "/"),
        ],
        compute: |call| call.each_text::<StringArray, _>(path),
    },
    Function {
        name: "url_port",
        takes: &[URL],
        optional: 0,
        gives: Gives::Int32,
        meaning: "the port that is written; NULL if none is, or no number up to 65535",
        examples: &[("url_port('https://shop.example:8443/')", "8443"), ("url_port('https://shop.example/')", "NULL")],
        compute: |call| call.each_text::<Int32Array, _>(port),
    },
    Function {
        name: "url_query",
        takes: &[URL, ("name", Takes::Text)],
        optional: 0,
        gives: Gives::Text,
        meaning: "value of the first query parameter of that name, decoded ('+' is a space); NULL if it is not there",
        examples: &[
            ("url_query('https://shop.example/?q=red%20shoes&q=x', 'q')", "red shoes"),
            ("url_query('https://shop.example/?q', 'q')", ""),
            ("url_query('https://shop.example/', 'q')", "NULL"),
        ],
        compute: |call| call.each_text_pair::<StringArray, _>(query),
    },
    Function {
        name: "url_scheme",
        takes: &[URL],
        optional: 0,
        gives: Gives::Text,
        meaning: "scheme before '://', in lower case; NULL if there is none",
        examples: &[
            ("url_scheme('HTTPS://shop.example/')", "https"),
            ("url_scheme('//shop.example/')", "NULL"),
            ("url_scheme('mailto:me@shop.example')", "NULL"),
        ],
        compute: |call| call.each_text::<StringArray, _>(|url| cut(url).scheme.map(lower)),
    },
];

/// A URL's parts as they stand.
struct Url<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

/// As browsers do, blanks around it do not count, and a backslash ends the host too.
fn cut(url: &str) -> Url<'_> {
    let url = url.trim_matches(|c: char| c <= ' ');
    let (whole, fragment) = url.split_once('#').map_or((url, None), |(rest, fragment)| (rest, Some(fragment)));
    let (whole, query) = whole.split_once('?').map_or((whole, None), |(rest, query)| (rest, Some(query)));
    let (scheme, rest) = match whole.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) {
        Some((scheme, rest)) => (Some(scheme), Some(rest)),
        None => (None, whole.strip_prefix("//")),
    };
    let Some(rest) = rest else { return Url { scheme, authority: None, path: whole, query, fragment } };
    let (authority, path) = rest.split_at(rest.find(['/', '\\']).unwrap_or(rest.len()));
    Url { scheme, authority: Some(authority), path, query, fragment }
}

/// RFC 3986, 3.1. A path may hold a whole URL.
fn is_scheme(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic()) && text.bytes().all(is_part)
}

impl<'a> Url<'a> {
    /// Whether what stands for the host is an app's name: `android-app://com.example.shop/`.
    fn is_of_app(&self) -> bool {
        self.scheme.is_some_and(|scheme| APPS.iter().any(|app| scheme.eq_ignore_ascii_case(app)))
    }

    /// In lower case, if one is written.
    fn host(&self) -> Option<Cow<'a, str>> {
        let (host, _) = host_and_port(self.authority?);
        (!host.is_empty()).then(|| lower(host))
    }

    /// As [`host_or_itself`].
    fn host_or_itself(&self) -> Option<Cow<'a, str>> {
        if self.authority.is_some() {
            return self.host();
        }
        let bare = self.path.split(['/', '\\', ':']).next().unwrap_or_default();
        let is_host = bare.contains('.') && !bare.contains(|c: char| c.is_whitespace() || c == '@');
        is_host.then(|| lower(bare))
    }
}

/// Host and port of an authority; an IPv6 address without its brackets.
fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    match place.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((address, rest))) => (address, rest.strip_prefix(':')),
        // A bracket that is not closed: no host is written.
        Some(None) => ("", None),
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    }
}

/// The host in lower case, if one is written.
pub(super) fn host(url: &str) -> Option<Cow<'_, str>> {
    cut(url).host()
}

/// The host of a URL, or the text itself if it looks like one: `utm_source` is `chatgpt.com` for some, and logs hold bare hosts.
pub(super) fn host_or_itself(text: &str) -> Option<Cow<'_, str>> {
    cut(text).host_or_itself()
}

/// [`host_or_itself`], but for an app's name.
pub(super) fn host_of_site(text: &str) -> Option<Cow<'_, str>> {
    let url = cut(text);
    if url.is_of_app() { None } else { url.host_or_itself() }
}

/// Each query parameter as it is written: name and value, not decoded.
pub(super) fn parameters(url: &str) -> impl Iterator<Item = (&str, &str)> {
    cut(url).query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn query<'a>(url: &'a str, name: &str) -> Option<Cow<'a, str>> {
    // A URL without a query has no parameter, not one without a name.
    cut(url).query?;
    parameters(url).find(|(key, _)| decoded(key) == name).map(|(_, value)| decoded(value))
}

fn path(url: &str) -> Option<&str> {
    let path = cut(url).path;
    Some(if path.is_empty() { "/" } else { path })
}

fn port(url: &str) -> Option<i32> {
    let (_, port) = host_and_port(cut(url).authority?);
    let digits = port.filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse::<u16>().ok().map(i32::from)
}

/// In lower case; copied only if it may not be so.
fn lower(text: &str) -> Cow<'_, str> {
    match text.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
        true => Cow::Owned(text.to_lowercase()),
        false => Cow::Borrowed(text),
    }
}

/// Undoes percent-encoding; bytes that are no UTF-8 become replacement characters. Copied only if there is something to undo.
pub(super) fn decoded(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16)).map(|digit| digit as u8);
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 2;
            }
            (b'+', _, _) => out.push(b' '),
            (byte, _, _) => out.push(byte),
        }
        at += 1;
    }
    Cow::Owned(String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_cut_even_if_they_are_odd() {
        let url = "HTTPS://user@Shop.Example:8443/a/b?q=x%20y+z&utm_source=a#top";
        assert_eq!(host(url).as_deref(), Some("shop.example"));
        assert_eq!(path(url), Some("/a/b"));
        assert_eq!(query(url, "q").as_deref(), Some("x y z"));
        assert_eq!((query(url, "none"), query("/", "")), (None, None));
        assert_eq!((host("/only/path?x=1"), path("/only/path?x=1")), (None, Some("/only/path")));
        assert_eq!(host("http://[2001:db8::1]:80/").as_deref(), Some("2001:db8::1"));
        assert_eq!(port("http://[2001:db8::1]:80/"), Some(80));
        assert_eq!(
            (host("https://BÜCHER.example/").as_deref(), path(" https://a.example/ ")),
            (Some("bücher.example"), Some("/"))
        );
        assert_eq!(host(r"https://shop.example\@evil.example/").as_deref(), Some("shop.example"));
        assert_eq!(
            (host("/to/https://a.example/"), path("/to/https://a.example/")),
            (None, Some("/to/https://a.example/"))
        );
        assert_eq!((port("http://a:/"), port("http://a:65536/"), port("http://a:+1/")), (None, None, None));
    }

    #[test]
    fn only_two_hex_digits_are_decoded() {
        assert_eq!(decoded("%41%zz%+1%4"), "A%zz% 1%4");
        assert_eq!(decoded("%C3%A4%ff"), "ä\u{fffd}");
        assert_eq!(decoded("ä%"), "ä%");
    }

    #[test]
    fn a_bare_host_is_one_and_words_and_paths_are_not() {
        assert_eq!(host_or_itself("ChatGPT.com").as_deref(), Some("chatgpt.com"));
        assert_eq!(host_or_itself("shop.example:8080/a?x=1").as_deref(), Some("shop.example"));
        for other in ["newsletter", "/a.html", "me@shop.example", "mailto:me@shop.example", "", "a b.example"] {
            assert_eq!(host_or_itself(other), None, "{other}");
        }
    }
}
