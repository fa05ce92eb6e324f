//! Whether a text is JSON without white space between its tokens, as nearly all programs send it: 64 bytes at a time, and a step for each
//! bracket and word instead of each byte. Says no to all that is not plain at first sight; others judge that.
//!
//! Masks have a bit a byte, the lowest first. What a mask must know of the block before (is this still a string?) is carried in [`Before`].
//! Strings and separators are judged a block at a time, by what may stand beside what: a value begins behind a separator or an opener, a
//! separator follows a value, a closer follows a value or an opener, a colon follows a string. What is left is that in an object colons and
//! commas take turns, beginning with a colon, and that a list has no colons: [`Walk::are_right`], from bracket to bracket.
//!
//! Numbers are judged the same way ([`Numerals::are_all`]) unless they have an exponent or go on in the next block.
//!
//! Unsafe: loads of 32 and 64 bytes out of a block (both `of_halves`, both `of`, [`padded_at_once`]), and the calls of what needs AVX2 or AVX-512 once
//! they are known to be there.

/// What a value may be nested within: a bit a level in [`Walk::objects`].
const LEVELS_MAX: u32 = 64;
const BLOCK: usize = 64;

/// Whether `text` is one JSON value in UTF-8 without white space between tokens, nested at most `depth_max`. A no says nothing.
pub(super) fn is_compact(text: &[u8], depth_max: u32) -> bool {
    let depth_max = depth_max.min(LEVELS_MAX);
    Width::ALL.into_iter().find(Width::is_there).is_some_and(|width| width.check(text, depth_max))
}

/// How many bytes of a block the processor looks at in one step.
#[derive(Clone, Copy, Debug)]
enum Width {
    All,
    Half,
}

impl Width {
    const ALL: [Width; 2] = [Width::All, Width::Half];

    #[cfg(target_arch = "x86_64")]
    fn is_there(&self) -> bool {
        let has_bits = is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("pclmulqdq");
        match self {
            Width::All => has_bits && is_x86_feature_detected!("avx512bw"),
            Width::Half => has_bits && is_x86_feature_detected!("avx2"),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_there(&self) -> bool {
        false
    }

    /// Only if it [`Width::is_there`].
    #[cfg(target_arch = "x86_64")]
    fn check(self, text: &[u8], depth_max: u32) -> bool {
        #[target_feature(enable = "avx512bw,bmi1,pclmulqdq")]
        fn by_all(text: &[u8], depth_max: u32) -> bool {
            let (block, numerals) = (|bytes: &_| Block::of(bytes), |bytes: &_| Numerals::of(bytes));
            check(text, depth_max, block, numerals, |rest| padded_at_once(rest), |bits| prefix_xor(bits))
        }
        #[target_feature(enable = "avx2,bmi1,pclmulqdq")]
        fn by_halves(text: &[u8], depth_max: u32) -> bool {
            let (block, numerals) = (|bytes: &_| Block::of_halves(bytes), |bytes: &_| Numerals::of_halves(bytes));
            check(text, depth_max, block, numerals, padded, |bits| prefix_xor(bits))
        }
        // SAFETY: the processor was asked for both before.
        match self {
            Width::All => unsafe { by_all(text, depth_max) },
            Width::Half => unsafe { by_halves(text, depth_max) },
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn check(self, text: &[u8], depth_max: u32) -> bool {
        check(text, depth_max, |_| Block::default(), |_| Numerals::default(), padded, |bits| bits)
    }
}

/// Which of 64 bytes are what.
#[derive(Default)]
struct Block {
    quotes: u64,
    backslashes: u64,
    /// Control characters, which strings must not have, and of which white space is made.
    controls: u64,
    spaces: u64,
    commas: u64,
    colons: u64,
    /// `{` and `[`.
    openers: u64,
    /// `}` and `]`.
    closers: u64,
    /// Not ASCII.
    high: u64,
}

/// Which of 64 bytes are what in a number.
#[derive(Default)]
struct Numerals {
    digits: u64,
    zeros: u64,
    minuses: u64,
    points: u64,
}

/// What a block leaves to the next one. Of a mask all ones or none, else the lowest bit, of the block's last byte.
struct Before {
    /// All ones within a string.
    in_string: u64,
    /// The next byte follows a backslash.
    is_escaped: u64,
    scalar: u64,
    value_end: u64,
    string_end: u64,
    opener: u64,
    /// A value may begin.
    room: u64,
    /// Not all is ASCII.
    high: u64,
}

/// Where in the nesting the walk is.
struct Walk<'a> {
    text: &'a [u8],
    depth: u32,
    depth_max: u32,
    /// The lowest bit is the innermost level; set for an object.
    objects: u64,
    /// In an object: all ones or none, such that `parity ^ turn` is set at the separators that are to be colons.
    turn: u64,
}

/// The separators of a block.
struct Separators {
    all: u64,
    colons: u64,
    /// At each bit: whether the separators up to it are odd in number.
    parity: u64,
}

// Always inlined: so all of it is made for the processor that `of` is for.
#[inline(always)]
fn check(
    text: &[u8],
    depth_max: u32,
    of: impl Fn(&[u8; BLOCK]) -> Block,
    numerals: impl Fn(&[u8; BLOCK]) -> Numerals,
    padded: impl Fn(&[u8]) -> [u8; BLOCK],
    prefix_xor: impl Fn(u64) -> u64,
) -> bool {
    let mut walk = Walk { text, depth: 0, depth_max, objects: 0, turn: 0 };
    // A value may begin where the text does.
    let mut before =
        Before { in_string: 0, is_escaped: 0, scalar: 0, value_end: 0, string_end: 0, opener: 0, room: 1, high: 0 };
    let (blocks, rest) = text.as_chunks::<BLOCK>();
    for (at, block) in blocks.iter().enumerate() {
        if !walk.block(at * BLOCK, &of(block), !0, &mut before, || numerals(block), &prefix_xor) {
            return false;
        }
    }
    if !rest.is_empty() {
        let last = padded(rest);
        let present = !0 >> (BLOCK - rest.len());
        if !walk.block(blocks.len() * BLOCK, &of(&last), present, &mut before, || numerals(&last), &prefix_xor) {
            return false;
        }
    }
    let is_text = before.high == 0 || std::str::from_utf8(text).is_ok();
    walk.depth == 0 && before.value_end == 1 && before.in_string == 0 && is_text
}

/// Less than a block, with spaces behind.
fn padded(rest: &[u8]) -> [u8; BLOCK] {
    let mut block = [b' '; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// As [`padded`], without a copy of unknown size, whose bytes could not be loaded as one before all of them are stored.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw")]
#[inline]
fn padded_at_once(rest: &[u8]) -> [u8; BLOCK] {
    use std::arch::x86_64::{_mm512_mask_loadu_epi8, _mm512_set1_epi8, _mm512_storeu_si512};
    let mut block = [b' '; BLOCK];
    let present = (1u64 << rest.len().min(BLOCK - 1)) - 1;
    // SAFETY: only the bytes of the mask are read, and `rest` has so many; the array has room for 64, and neither wants an alignment.
    unsafe {
        let all = _mm512_mask_loadu_epi8(_mm512_set1_epi8(b' ' as i8), present, rest.as_ptr().cast());
        _mm512_storeu_si512(block.as_mut_ptr().cast(), all);
    }
    block
}

#[cfg(target_arch = "x86_64")]
impl Block {
    #[target_feature(enable = "avx512bw")]
    #[inline]
    fn of(bytes: &[u8; BLOCK]) -> Block {
        use std::arch::x86_64::{
            _mm512_cmpeq_epi8_mask, _mm512_cmplt_epu8_mask, _mm512_loadu_si512, _mm512_movepi8_mask, _mm512_or_si512,
            _mm512_set1_epi8,
        };
        // SAFETY: the array makes 64 bytes readable, and this load wants no alignment.
        let all = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
        let is = |byte: u8| _mm512_cmpeq_epi8_mask(all, _mm512_set1_epi8(byte as i8));
        // '[' and '{', ']' and '}' differ in one bit, and nothing else falls on them.
        let folded = _mm512_or_si512(all, _mm512_set1_epi8(0x20));
        Block {
            quotes: is(b'"'),
            backslashes: is(b'\\'),
            controls: _mm512_cmplt_epu8_mask(all, _mm512_set1_epi8(0x20)),
            spaces: is(b' '),
            commas: is(b','),
            colons: is(b':'),
            openers: _mm512_cmpeq_epi8_mask(folded, _mm512_set1_epi8(b'{' as i8)),
            closers: _mm512_cmpeq_epi8_mask(folded, _mm512_set1_epi8(b'}' as i8)),
            high: _mm512_movepi8_mask(all),
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn of_halves(bytes: &[u8; BLOCK]) -> Block {
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
        Block {
            quotes: mask(equal(halves, b'"')),
            backslashes: mask(equal(halves, b'\\')),
            controls: mask(halves.map(|half| _mm256_cmpeq_epi8(_mm256_min_epu8(half, _mm256_set1_epi8(0x1f)), half))),
            spaces: mask(equal(halves, b' ')),
            commas: mask(equal(halves, b',')),
            colons: mask(equal(halves, b':')),
            openers: mask(equal(folded, b'{')),
            closers: mask(equal(folded, b'}')),
            high: mask(halves),
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Numerals {
    #[target_feature(enable = "avx512bw")]
    #[inline]
    fn of(bytes: &[u8; BLOCK]) -> Numerals {
        use std::arch::x86_64::{
            _mm512_cmpeq_epi8_mask, _mm512_cmplt_epu8_mask, _mm512_loadu_si512, _mm512_set1_epi8, _mm512_sub_epi8,
        };
        // SAFETY: the array makes 64 bytes readable, and this load wants no alignment.
        let all = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
        let is = |byte: u8| _mm512_cmpeq_epi8_mask(all, _mm512_set1_epi8(byte as i8));
        let values = _mm512_sub_epi8(all, _mm512_set1_epi8(b'0' as i8));
        let digits = _mm512_cmplt_epu8_mask(values, _mm512_set1_epi8(10));
        Numerals { digits, zeros: is(b'0'), minuses: is(b'-'), points: is(b'.') }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn of_halves(bytes: &[u8; BLOCK]) -> Numerals {
        use std::arch::x86_64::{
            __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_set1_epi8,
            _mm256_sub_epi8,
        };
        // SAFETY: the array makes 64 bytes readable, and these loads want no alignment.
        let halves = unsafe {
            [_mm256_loadu_si256(bytes.as_ptr().cast()), _mm256_loadu_si256(bytes.as_ptr().add(BLOCK / 2).cast())]
        };
        let mask = |is: [__m256i; 2]| {
            let [low, high] = is.map(|half| _mm256_movemask_epi8(half) as u32);
            u64::from(low) | u64::from(high) << 32
        };
        let is = |byte: u8| mask(halves.map(|half| _mm256_cmpeq_epi8(half, _mm256_set1_epi8(byte as i8))));
        let values = halves.map(|half| _mm256_sub_epi8(half, _mm256_set1_epi8(b'0' as i8)));
        let digits = values.map(|half| _mm256_cmpeq_epi8(_mm256_min_epu8(half, _mm256_set1_epi8(9)), half));
        Numerals { digits: mask(digits), zeros: is(b'0'), minuses: is(b'-'), points: is(b'.') }
    }
}

impl Numerals {
    /// Whether all scalars of a block are seen at once to be numbers: a minus or not, digits, perhaps a point and digits. What goes on in
    /// the next block is not.
    #[inline(always)]
    fn are_all(&self, scalars: u64, starts: u64) -> bool {
        let digits = self.digits & scalars;
        let (minuses, points) = (self.minuses & scalars, self.points & scalars);
        let firsts = starts & !minuses | minuses << 1;
        let fractions = points << 1;
        // The sum carries from the first digit behind a point to what follows the last one: that must be no part of the number.
        let behind_fractions = digits.wrapping_add(fractions) & !digits;
        let is_odd = scalars >> 63
            | scalars & !(digits | minuses | points)
            | minuses & !starts
            | (firsts | fractions) & !digits
            | (firsts & self.zeros) << 1 & digits
            | behind_fractions & scalars;
        is_odd == 0
    }
}

impl Walk<'_> {
    /// Goes through the block that begins at `from`; bytes that are not `present` are padding.
    #[inline(always)]
    fn block(
        &mut self,
        from: usize,
        block: &Block,
        present: u64,
        before: &mut Before,
        numerals: impl Fn() -> Numerals,
        prefix_xor: &impl Fn(u64) -> u64,
    ) -> bool {
        let quotes = if block.backslashes == 0 && before.is_escaped == 0 {
            block.quotes
        } else {
            match escaped(self.text, from, block.backslashes & present, before.is_escaped) {
                Some((escaped, is_next_escaped)) => {
                    before.is_escaped = is_next_escaped;
                    block.quotes & !escaped
                }
                None => return false,
            }
        };
        // From each opening quote up to its closing one, which is not in it.
        let in_string = prefix_xor(quotes) ^ before.in_string;
        before.in_string = ((in_string as i64) >> 63) as u64;
        let ends = quotes & !in_string;
        let outside = !(in_string | ends) & present;
        let (commas, colons) = (block.commas & outside, block.colons & outside);
        let (openers, closers) = (block.openers & outside, block.closers & outside);
        let separators = commas | colons;
        let scalars = outside & !(separators | openers | closers);
        let scalar_starts = scalars & !(scalars << 1 | before.scalar);
        let value_starts = quotes & in_string | scalar_starts | openers;
        let value_ends = ends | scalars | closers;
        let room = separators | openers;
        let (ended, opened) = (value_ends << 1 | before.value_end, openers << 1 | before.opener);
        let is_odd = block.controls
            | block.spaces & outside
            | value_starts & !(room << 1 | before.room)
            | separators & !ended
            | closers & !(ended | opened)
            | colons & !(ends << 1 | before.string_end);
        if is_odd != 0 {
            return false;
        }
        let unused = present.leading_zeros();
        let last = |mask: u64| mask << unused >> 63;
        before.scalar = last(scalars);
        before.value_end = last(value_ends);
        before.string_end = last(ends);
        before.opener = last(openers);
        before.room = last(room);
        before.high |= block.high;
        let are_scalars =
            scalars == 0 || numerals().are_all(scalars, scalar_starts) || self.are_scalars(from, scalar_starts);
        are_scalars && {
            let separators = Separators { all: separators, colons, parity: prefix_xor(separators) };
            self.brackets(from, openers, closers, opened, &separators)
        }
    }

    /// Whether the numbers and words that begin at these bits are any.
    #[inline(always)]
    fn are_scalars(&self, from: usize, mut starts: u64) -> bool {
        while starts != 0 {
            let at = from + starts.trailing_zeros() as usize;
            starts &= starts - 1;
            let Some(end) = scalar_end(self.text, at) else { return false };
            if !matches!(self.text.get(end), None | Some(b',' | b'}' | b']')) {
                return false;
            }
        }
        true
    }

    /// Goes from bracket to bracket.
    #[inline(always)]
    fn brackets(&mut self, from: usize, openers: u64, closers: u64, opened: u64, separators: &Separators) -> bool {
        let mut left = openers | closers;
        // What no bracket has come after yet.
        let mut rest = !0u64;
        while left != 0 {
            let bit = left & left.wrapping_neg();
            left &= left - 1;
            if !self.are_right(separators, rest & (bit - 1)) {
                return false;
            }
            rest = !(bit - 1);
            let byte = self.text[from + bit.trailing_zeros() as usize];
            let parity = if separators.parity & bit == 0 { 0 } else { !0 };
            let is_in_object = self.objects & 1 == 1;
            let is_comma_next = self.turn != parity;
            if openers & bit != 0 {
                // In an object a value stands behind a colon.
                if self.depth == self.depth_max || is_in_object && !is_comma_next {
                    return false;
                }
                self.depth += 1;
                self.objects = self.objects << 1 | u64::from(byte == b'{');
                self.turn = parity;
            } else {
                let is_whole = !is_in_object || is_comma_next || opened & bit != 0;
                if self.depth == 0 || is_in_object != (byte == b'}') || !is_whole {
                    return false;
                }
                self.depth -= 1;
                self.objects >>= 1;
                self.turn = !parity;
            }
        }
        let is_right = self.are_right(separators, rest);
        // The next block counts anew.
        self.turn ^= ((separators.parity as i64) >> 63) as u64;
        is_right
    }

    /// Whether the separators of a stretch without brackets may stand there.
    #[inline(always)]
    fn are_right(&self, separators: &Separators, stretch: u64) -> bool {
        let Separators { all, colons, parity } = separators;
        let (all, colons) = (all & stretch, colons & stretch);
        match (self.depth, self.objects & 1) {
            (0, _) => all == 0,
            (_, 0) => colons == 0,
            _ => colons == all & (parity ^ self.turn),
        }
    }
}

/// The bytes of a block that follow a backslash which is none of these itself, and whether the next block begins with one; none, if one of
/// them makes no escape. `is_escaped`: the block begins with one.
#[cold]
fn escaped(text: &[u8], from: usize, backslashes: u64, is_escaped: u64) -> Option<(u64, u64)> {
    let (mut escaped, mut is_next_escaped) = (is_escaped, 0);
    let mut left = backslashes & !escaped;
    while left != 0 {
        let bit = left.trailing_zeros();
        let at = from + bit as usize;
        match text.get(at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
            b'u' if text.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => {}
            _ => return None,
        }
        left &= left - 1;
        if bit == 63 {
            is_next_escaped = 1;
        } else {
            escaped |= 2 << bit;
            left &= !escaped;
        }
    }
    Some((escaped, is_next_escaped))
}

/// Each bit: whether the bits up to it are odd in number. It is the product with all ones, where sums carry nothing.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "pclmulqdq")]
#[inline]
fn prefix_xor(bits: u64) -> u64 {
    use std::arch::x86_64::{_mm_clmulepi64_si128, _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_set1_epi8};
    _mm_cvtsi128_si64(_mm_clmulepi64_si128(_mm_cvtsi64_si128(bits as i64), _mm_set1_epi8(-1), 0)) as u64
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

    /// By every width that this machine has; they agree.
    fn is_compact(text: &[u8], depth_max: u32) -> bool {
        let by_all = Width::ALL.map(|width| width.is_there().then(|| width.check(text, depth_max.min(LEVELS_MAX))));
        let mut said = by_all.into_iter().flatten();
        let first = said.next().unwrap_or_default();
        assert!(said.all(|other| other == first), "{:?}", String::from_utf8_lossy(text));
        assert_eq!(super::is_compact(text, depth_max), first);
        first
    }

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
