//! Whether a text is JSON without white space between its tokens, as nearly all programs send it: 64 bytes at a time, and a step for each
//! value and name instead of each byte. Says no to all that is not plain at first sight; others judge that.
//!
//! Masks have a bit a byte, the lowest first. What a mask must know of the block before (is this still a string?) is carried in [`Before`].
//!
//! Unsafe: loads of 32 bytes out of a block ([`Block::of`]), and the call of what needs AVX2 once it is known to be there.

/// What a value may be nested within: a bit a level in [`Walk::objects`].
const LEVELS_MAX: u32 = 64;
const BLOCK: usize = 64;

/// Whether `text` is one JSON value in UTF-8 without white space between tokens, nested at most `depth_max`. A no says nothing.
pub(super) fn is_compact(text: &[u8], depth_max: u32) -> bool {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") {
        // SAFETY: the processor was just asked for both.
        return unsafe { check(text, depth_max.min(LEVELS_MAX)) };
    }
    let _ = (text, depth_max);
    false
}

/// Which of 64 bytes are what.
struct Block {
    quotes: u64,
    backslashes: u64,
    /// Control characters, which strings must not have and of which some are white space.
    controls: u64,
    spaces: u64,
    /// `,` and `:`.
    separators: u64,
    /// `{` and `[`.
    openers: u64,
    /// `}` and `]`.
    closers: u64,
    /// Not ASCII.
    high: u64,
}

/// What a block leaves to the next one.
#[derive(Default)]
struct Before {
    /// All ones within a string.
    in_string: u64,
    /// One, if the block's first byte follows a backslash.
    is_escaped: u64,
    /// One, if a scalar's byte was the last.
    scalar: u64,
    /// One, if a value's last byte was the last.
    value_end: u64,
    high: u64,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Value,
    ValueOrClose,
    Name,
    NameOrClose,
    Close,
    Nothing,
}

/// Where in the nesting the walk is.
struct Walk<'a> {
    text: &'a [u8],
    want: Want,
    depth: u32,
    depth_max: u32,
    /// The lowest bit is the innermost level; set for an object.
    objects: u64,
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1")]
fn check(text: &[u8], depth_max: u32) -> bool {
    let mut walk = Walk { text, want: Want::Value, depth: 0, depth_max, objects: 0 };
    let mut before = Before::default();
    let (blocks, rest) = text.as_chunks::<BLOCK>();
    for (at, block) in blocks.iter().enumerate() {
        if !walk.block(at * BLOCK, &Block::of(block), !0, &mut before) {
            return false;
        }
    }
    if !rest.is_empty() {
        let mut last = [b' '; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        let present = !0 >> (BLOCK - rest.len());
        if !walk.block(blocks.len() * BLOCK, &Block::of(&last), present, &mut before) {
            return false;
        }
    }
    let is_text = before.high == 0 || std::str::from_utf8(text).is_ok();
    walk.want == Want::Nothing && before.in_string == 0 && is_text
}

#[cfg(target_arch = "x86_64")]
impl Block {
    #[target_feature(enable = "avx2,bmi1")]
    #[inline]
    fn of(bytes: &[u8; BLOCK]) -> Block {
        use std::arch::x86_64::{
            __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256,
            _mm256_set1_epi8,
        };
        // SAFETY: the array makes 64 bytes readable, and these loads want no alignment.
        let halves = unsafe {
            [_mm256_loadu_si256(bytes.as_ptr().cast()), _mm256_loadu_si256(bytes.as_ptr().add(BLOCK / 2).cast())]
        };
        let mask = |is: [__m256i; 2]| {
            let [low, high] = is.map(|half| _mm256_movemask_epi8(half) as u32);
            u64::from(low) | u64::from(high) << 32
        };
        let equal =
            |halves: [__m256i; 2], byte: u8| halves.map(|half| _mm256_cmpeq_epi8(half, _mm256_set1_epi8(byte as i8)));
        // '[' and '{', ']' and '}' differ in one bit, and nothing else falls on them.
        let folded = halves.map(|half| _mm256_or_si256(half, _mm256_set1_epi8(0x20)));
        let ([c0, c1], [d0, d1]) = (equal(halves, b','), equal(halves, b':'));
        Block {
            quotes: mask(equal(halves, b'"')),
            backslashes: mask(equal(halves, b'\\')),
            controls: mask(halves.map(|half| _mm256_cmpeq_epi8(_mm256_min_epu8(half, _mm256_set1_epi8(0x1f)), half))),
            spaces: mask(equal(halves, b' ')),
            separators: mask([_mm256_or_si256(c0, d0), _mm256_or_si256(c1, d1)]),
            openers: mask(equal(folded, b'{')),
            closers: mask(equal(folded, b'}')),
            high: mask(halves),
        }
    }
}

impl Walk<'_> {
    /// Goes through the block that begins at `from`; bytes that are not `present` are padding.
    #[inline]
    fn block(&mut self, from: usize, block: &Block, present: u64, before: &mut Before) -> bool {
        let escaped = before.is_escaped | if block.backslashes == 0 { 0 } else { 1 };
        let quotes = match escaped {
            0 => block.quotes,
            _ => match self.escaped(from, block.backslashes & present, before) {
                Some(escaped) => block.quotes & !escaped,
                None => return false,
            },
        };
        // From each opening quote up to its closing one, which is not in it.
        let in_string = prefix_xor(quotes) ^ before.in_string;
        before.in_string = ((in_string as i64) >> 63) as u64;
        let ends = quotes & !in_string;
        let outside = !(in_string | ends) & present;
        let (separators, openers, closers) =
            (block.separators & outside, block.openers & outside, block.closers & outside);
        let scalars = outside & !(separators | openers | closers);
        let value_ends = ends | scalars | closers;
        let is_odd = block.controls & in_string
            | (block.controls | block.spaces) & outside
            | separators & !(value_ends << 1 | before.value_end);
        if is_odd != 0 {
            return false;
        }
        let starts = scalars & !(scalars << 1 | before.scalar);
        (before.scalar, before.value_end) = (scalars >> 63, value_ends >> 63);
        before.high |= block.high;
        let mut tokens = ends | starts | openers | closers;
        while tokens != 0 {
            let at = from + tokens.trailing_zeros() as usize;
            tokens &= tokens - 1;
            if !self.token(at) {
                return false;
            }
        }
        true
    }

    /// The bytes that follow a backslash which is none of these itself; none, if one of them makes no escape.
    #[cold]
    fn escaped(&self, from: usize, backslashes: u64, before: &mut Before) -> Option<u64> {
        let mut escaped = before.is_escaped;
        before.is_escaped = 0;
        let mut left = backslashes & !escaped;
        while left != 0 {
            let bit = left.trailing_zeros();
            let at = from + bit as usize;
            match self.text.get(at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                b'u' if self.text.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => {}
                _ => return None,
            }
            left &= left - 1;
            if bit == 63 {
                before.is_escaped = 1;
            } else {
                escaped |= 2 << bit;
                left &= !escaped;
            }
        }
        Some(escaped)
    }

    /// One value's last quote or first byte, a name's last quote, or a bracket.
    #[inline]
    fn token(&mut self, at: usize) -> bool {
        use Want::{Close, Name, NameOrClose, Nothing, Value, ValueOrClose};
        let byte = self.text[at];
        match (byte, self.want) {
            (b'"', Name | NameOrClose) => {
                self.want = Value;
                self.text.get(at + 1) == Some(&b':')
            }
            (b'"', Value | ValueOrClose) => self.after_value(at + 1),
            (b'{' | b'[', Value | ValueOrClose) => {
                let is_object = byte == b'{';
                self.objects = self.objects << 1 | u64::from(is_object);
                self.depth += 1;
                self.want = if is_object { NameOrClose } else { ValueOrClose };
                self.depth <= self.depth_max
            }
            (b'}' | b']', Close | NameOrClose | ValueOrClose) => {
                let is_object = self.objects & 1 == 1;
                self.objects >>= 1;
                self.depth = self.depth.wrapping_sub(1);
                is_object == (byte == b'}') && self.after_value(at + 1)
            }
            (_, Name | NameOrClose | Close | Nothing) => false,
            (_, Value | ValueOrClose) => match scalar_end(self.text, at) {
                Some(end) => self.after_value(end),
                None => false,
            },
        }
    }

    /// A value ends before `at`: what stands there says what comes next.
    #[inline]
    fn after_value(&mut self, at: usize) -> bool {
        if self.depth == 0 {
            self.want = Want::Nothing;
            return at == self.text.len();
        }
        match self.text.get(at) {
            Some(b',') => self.want = if self.objects & 1 == 1 { Want::Name } else { Want::Value },
            Some(b'}' | b']') => self.want = Want::Close,
            _ => return false,
        }
        true
    }
}

/// Each bit: whether the bits up to it are odd in number.
#[inline]
fn prefix_xor(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

/// Where the number or word ends that begins at `at`.
#[inline]
fn scalar_end(text: &[u8], at: usize) -> Option<usize> {
    let rest = &text[at..];
    let size = match rest[0] {
        b't' => rest.starts_with(b"true").then_some(4),
        b'n' => rest.starts_with(b"null").then_some(4),
        b'f' => rest.starts_with(b"false").then_some(5),
        _ => number_size(rest),
    };
    size.map(|size| at + size)
}

#[inline]
fn number_size(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| from + text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let first = usize::from(text[0] == b'-');
    let mut end = digits(first);
    if end == first || (text[first] == b'0' && end - first > 1) {
        return None;
    }
    if text.get(end) == Some(&b'.') {
        let from = end + 1;
        end = digits(from);
        if end == from {
            return None;
        }
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let from = end + 1 + usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        if from > text.len() {
            return None;
        }
        end = digits(from);
        if end == from {
            return None;
        }
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holds(text: &[u8]) -> bool {
        !is_compact(text, 32)
            || serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok() && std::str::from_utf8(text).is_ok()
    }

    /// Whether this machine has what it takes.
    fn is_there() -> bool {
        is_compact(b"1", 32)
    }

    #[test]
    fn events_as_programs_send_them_are_seen_at_once() {
        let long =
            format!("{{\"a\":\"{}\",\"b\":[{}1]}}", "\\\"x\\\\\\u00e4 ".repeat(30), "-1.5e+3,null,true,".repeat(30));
        for text in
            ["{}", "[]", "\"\"", "-0.5", "{\"a\":{\"b\":[[],{}]},\"ä\":\"[1,\"}", "[{\"a\":\"b\"},\"c\",false]", &long]
        {
            assert!(!is_there() || is_compact(text.as_bytes(), 32), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!is_there() || is_compact(nested(32).as_bytes(), 32));
        assert!(!is_compact(nested(33).as_bytes(), 32));
        assert!(!is_compact(nested(65).as_bytes(), 100));
    }

    #[test]
    fn no_byte_more_or_less_or_changed_goes_unseen() {
        let text = br#"{"id":"a\\\"b\u00e9","n":[-1,2.5e-3,0,{"t":true,"f":false}],"z":null,"long":"0123456789012345678901234567890123456789","e":{},"a":[]}"#;
        assert!(!is_there() || is_compact(text, 32));
        for at in 0..text.len() {
            assert!(!is_compact(&text[..at], 32), "cut at {at}");
            for byte in 0..=255 {
                let mut changed = text.to_vec();
                changed[at] = byte;
                assert!(holds(&changed), "{byte} at {at}");
                changed.insert(at, text[at]);
                assert!(holds(&changed), "{byte} before {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_compact_is_json(text in proptest::collection::vec(prop::sample::select(b"[[]]{}{}\"\"\"\",,:: 01-.eE\\u\x01tn\xc3\xa4".to_vec()), 0..24), before in 0usize..70) {
            // Behind a long string the tokens fall on the border between two blocks.
            let shifted = [b"[\"".as_slice(), &vec![b'x'; before], b"\",", &text, b"]"].concat();
            prop_assert!(holds(&text));
            prop_assert!(holds(&shifted));
        }

        #[test]
        fn what_serde_writes_is_compact(value in value()) {
            let text = value.to_string();
            prop_assert!(!is_there() || is_compact(text.as_bytes(), 32), "{}", text);
        }
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let text = || proptest::string::string_regex("[a-z\"\\\\/\n\u{1}ä€𝄞]{0,70}").expect("a regex");
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text().prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 40, 8, move |inner| {
            let fields = proptest::collection::vec((text(), inner.clone()), 0..8);
            prop_oneof![
                proptest::collection::vec(inner, 0..8).prop_map(Value::from),
                fields.prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }
}
