//! JSON texts: checked ([`is_plain`]), read from left to right without building anything ([`Scanner`]), or as a tree ([`Node`]). The first
//! two are the fast ways and the tree (and serde_json below it) the judge: what they find odd it decides. Knows neither events nor columns. A tree may also come
//! out of another format, with [`Exact`] values in it.

mod compact;
mod exact;
mod scan;
mod tree;

pub(crate) use exact::{Exact, with_point};
pub(crate) use scan::{Number, Odd, Scan, Scanner, Text, Word, unescape};
pub(crate) use tree::{BYTE_ORDER_MARK, Found, Node, object_json, unusual};

/// Whether a text is plainly one JSON value in UTF-8, nested at most `depth_max` (100 or less). A no is a doubt, not a verdict: serde_json
/// is asked then, which also says why.
pub(crate) fn is_plain(text: &[u8], depth_max: u32) -> bool {
    if compact::is_compact(text, depth_max) {
        return true;
    }
    let mut scan = Scanner::new(text);
    scan.skip_within(depth_max).is_ok() && scan.end().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_plain_is_seen() {
        for text in ["{}", " [1, -2.5e3, \"\\u00e4\\n\", {\"a\": {\"b\": null}}]\n", "\"ä\"", "true"] {
            assert!(is_plain(text.as_bytes(), 32), "{text}");
        }
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_plain(nested(32).as_bytes(), 32));
        assert!(!is_plain(nested(33).as_bytes(), 32));
    }

    proptest! {
        #[test]
        fn what_is_plain_is_json(text in proptest::collection::vec(prop::sample::select(b"[]{}\",:\n 01ae-.+\\u\x01tru\xc3\xa4".to_vec()), 0..24)) {
            if is_plain(&text, 3) {
                prop_assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok());
                prop_assert!(std::str::from_utf8(&text).is_ok());
            }
        }
    }
}
