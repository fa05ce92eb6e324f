//! The headers of a request, whoever read them: hyper into its map, or the fast path as slices of what it read.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// Headers by name, which is looked for in any case.
pub(super) enum Headers<'a> {
    Map(&'a HeaderMap),
    Slices(&'a [httparse::Header<'a>]),
}

impl<'a> Headers<'a> {
    /// The values of that name, in order.
    pub(super) fn all(&self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let (map, slices) = match *self {
            Headers::Map(map) => (Some(map), &[][..]),
            Headers::Slices(slices) => (None, slices),
        };
        let of_map = map.into_iter().flat_map(move |map| map.get_all(name)).map(HeaderValue::as_bytes);
        let is_it = move |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
        of_map.chain(slices.iter().filter(is_it).map(|header| header.value))
    }

    /// The first value of that name.
    pub(super) fn get(&self, name: &'a str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// As a map of their own.
    pub(super) fn to_map(&self) -> HeaderMap {
        match *self {
            Headers::Map(map) => map.clone(),
            Headers::Slices(slices) => {
                let pair = |header: &httparse::Header<'_>| {
                    let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
                    Some((name, HeaderValue::from_bytes(header.value).ok()?))
                };
                // What httparse takes for a header is one to hyper too: it reads with httparse.
                slices.iter().filter_map(pair).collect()
            }
        }
    }

    /// The first value of that name, if it is plain text: visible ASCII, spaces and tabs.
    pub(super) fn text(&self, name: &'a str) -> Option<&'a str> {
        self.get(name).and_then(plain_text)
    }
}

/// A header's value as text, if it is visible ASCII, spaces and tabs.
pub(super) fn plain_text(value: &[u8]) -> Option<&str> {
    let is_plain = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    std::str::from_utf8(value).ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_read_them_headers_are_the_same() {
        let slices = [("X-a", "1"), ("Origin", "https://a\u{e4}"), ("x-A", "2")];
        let slices = slices.map(|(name, value)| httparse::Header { name, value: value.as_bytes() });
        let map = Headers::Slices(&slices).to_map();
        for headers in [Headers::Map(&map), Headers::Slices(&slices)] {
            assert_eq!(headers.all("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
            assert_eq!((headers.text("X-A"), headers.get("x")), (Some("1"), None));
            assert_eq!((headers.get("origin").map(<[u8]>::len), headers.text("origin")), (Some(11), None));
        }
    }
}
