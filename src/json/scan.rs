//! JSON bytes, read once from left to right and without a tree. Everything that is not plainly right is [`Odd`]: the caller then asks the
//! tree of [`super::tree`], which decides what is an error and says why. So this side may refuse too much, and must never take
//! what serde_json would not take, or read it as another value.
//!
//! Unsafe: one load of 16 bytes ([`stops`]).

use super::{Exact, Node};

/// Deeper values are left to the tree, which has its own limit.
const DEPTH_MAX: u32 = 100;
/// Digits that fit a float's 53 bits and an `i64` in any case.
const FLOAT_DIGITS_MAX: usize = 15;
const INT_DIGITS_MAX: usize = 18;

/// The text is not what the fast way reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Odd;

pub(crate) type Scan<T> = Result<T, Odd>;

/// A place in one JSON text.
#[derive(Clone, Copy)]
pub(crate) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

/// What stands between two quotes.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) raw: &'a [u8],
    pub(crate) is_escaped: bool,
}

/// A word that is looked for often: its first 16 bytes are compared at once, without a call.
pub(crate) struct Word {
    bytes: Box<[u8]>,
    head: u128,
    mask: u128,
}

impl Word {
    pub(crate) fn new(bytes: &[u8]) -> Word {
        let (mut head, mut mask) = ([0; 16], [0; 16]);
        for (at, byte) in bytes.iter().take(16).enumerate() {
            (head[at], mask[at]) = (*byte, 0xff);
        }
        Word { bytes: bytes.into(), head: u128::from_le_bytes(head), mask: u128::from_le_bytes(mask) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A number of right grammar.
#[derive(Clone, Copy)]
pub(crate) struct Number<'a> {
    pub(crate) token: &'a [u8],
    is_negative: bool,
    /// All digits before the exponent as one number, if they are at most [`INT_DIGITS_MAX`].
    pub(crate) mantissa: u64,
    digits: usize,
    /// How many of the digits stand behind the point.
    pub(crate) places: usize,
    has_exponent: bool,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Scanner<'a> {
        Scanner { text, at: 0 }
    }

    /// Goes on where another one of this text was.
    #[inline(always)]
    pub(crate) fn at(text: &'a [u8], at: usize) -> Scanner<'a> {
        Scanner { text, at }
    }

    #[inline(always)]
    pub(crate) fn text(&self) -> &'a [u8] {
        self.text
    }

    #[inline(always)]
    pub(crate) fn place(&self) -> usize {
        self.at
    }

    /// Goes back to a place it was at.
    pub(crate) fn go_to(&mut self, place: usize) {
        self.at = place;
    }

    /// The next byte that is not white space; it is not passed.
    #[inline(always)]
    pub(crate) fn token(&mut self) -> Scan<u8> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(byte) => return Ok(*byte),
                None => return Err(Odd),
            }
        }
    }

    /// Passes `byte`, the next that is not white space.
    #[inline(always)]
    pub(crate) fn pass(&mut self, byte: u8) -> Scan<()> {
        if self.token()? == byte {
            self.at += 1;
            Ok(())
        } else {
            Err(Odd)
        }
    }

    /// Passes `word` if it is what comes next to the byte.
    #[inline]
    pub(crate) fn pass_exactly(&mut self, word: &[u8]) -> bool {
        // Slices of equal length compare by one call; the get keeps it in bounds.
        let is_next = self.text.get(self.at..self.at + word.len()) == Some(word);
        if is_next {
            self.at += word.len();
        }
        is_next
    }

    /// As [`Scanner::pass_exactly`].
    #[inline(always)]
    pub(crate) fn pass_word(&mut self, word: &Word) -> bool {
        let Some(block) = self.text.get(self.at..).and_then(|rest| rest.first_chunk::<16>()) else {
            return self.pass_exactly(&word.bytes);
        };
        let is_begun = (u128::from_le_bytes(*block) ^ word.head) & word.mask == 0;
        if !is_begun || word.bytes.len() > block.len() {
            return is_begun && self.pass_exactly(&word.bytes);
        }
        self.at += word.bytes.len();
        true
    }

    #[inline]
    pub(crate) fn literal(&mut self, word: &[u8]) -> Scan<()> {
        if self.pass_exactly(word) { Ok(()) } else { Err(Odd) }
    }

    /// Bytes from a place to here.
    pub(crate) fn since(&self, place: usize) -> &'a [u8] {
        &self.text[place..self.at]
    }

    /// Whether only white space is left and all of the text is UTF-8.
    pub(crate) fn end(mut self) -> Scan<()> {
        let is_end = self.token().is_err();
        let is_text = self.text.is_ascii() || std::str::from_utf8(self.text).is_ok();
        if is_end && is_text { Ok(()) } else { Err(Odd) }
    }

    /// The text of a string whose opening quote was passed; passes the closing one.
    ///
    /// Always inlined: a text that comes back through memory is written by the byte and read by the word, which the processor waits for.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Scan<Text<'a>> {
        let from = self.at;
        let mut is_escaped = false;
        loop {
            self.at = self.stop()?;
            match self.text[self.at] {
                b'"' => {
                    let raw = &self.text[from..self.at];
                    self.at += 1;
                    return Ok(Text { raw, is_escaped });
                }
                // What follows a backslash is no end of the string; whether it is right is looked at by `unescape`.
                b'\\' => {
                    is_escaped = true;
                    self.at += 2;
                }
                _ => return Err(Odd),
            }
        }
    }

    /// The place of the next quote, backslash or control character.
    #[inline(always)]
    fn stop(&mut self) -> Scan<usize> {
        let mut at = self.at;
        while let Some(block) = self.text.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
            let stops = stops(block);
            if stops != 0 {
                return Ok(at + stops.trailing_zeros() as usize);
            }
            at += 16;
        }
        let is_stop = |byte: &u8| *byte == b'"' || *byte == b'\\' || *byte < 0x20;
        self.text.get(at..).ok_or(Odd)?.iter().position(is_stop).map(|count| at + count).ok_or(Odd)
    }

    /// Passes a number. Always inlined, as [`Scanner::string`] is.
    #[inline(always)]
    pub(crate) fn number(&mut self) -> Scan<Number<'a>> {
        let from = self.at;
        let is_negative = self.pass_exactly(b"-");
        let mut mantissa = 0u64;
        let whole_from = self.at;
        self.digits(&mut mantissa);
        let whole = self.at - whole_from;
        if whole == 0 || (whole > 1 && self.text[whole_from] == b'0') {
            return Err(Odd);
        }
        let mut places = 0;
        if self.pass_exactly(b".") {
            let places_from = self.at;
            self.digits(&mut mantissa);
            places = self.at - places_from;
            if places == 0 {
                return Err(Odd);
            }
        }
        let has_exponent = matches!(self.text.get(self.at), Some(b'e' | b'E'));
        if has_exponent {
            self.at += 1;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            let from = self.at;
            self.digits(&mut 0);
            if self.at == from {
                return Err(Odd);
            }
        }
        Ok(Number {
            token: &self.text[from..self.at],
            is_negative,
            mantissa,
            digits: whole + places,
            places,
            has_exponent,
        })
    }

    #[inline]
    fn digits(&mut self, value: &mut u64) {
        while let Some(byte) = self.text.get(self.at).filter(|byte| byte.is_ascii_digit()) {
            *value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
            self.at += 1;
        }
    }

    /// As [`Scanner::skip`], for a value that is nested at most `levels` deep.
    pub(crate) fn skip_within(&mut self, levels: u32) -> Scan<()> {
        self.skip(DEPTH_MAX - levels.min(DEPTH_MAX))
    }

    /// Passes a value that nobody reads. It is checked all the same: a broken record must not become a row.
    pub(crate) fn skip(&mut self, depth: u32) -> Scan<()> {
        match self.token()? {
            b'"' => {
                self.at += 1;
                let text = self.string()?;
                if text.is_escaped { unescape(text.raw, &mut Vec::new()) } else { Ok(()) }
            }
            b'{' => self.members(depth, |scan| {
                scan.pass(b'"')?;
                let name = scan.string()?;
                if name.is_escaped {
                    unescape(name.raw, &mut Vec::new())?;
                }
                scan.pass(b':')?;
                scan.skip(depth + 1)
            }),
            b'[' => self.members(depth, |scan| scan.skip(depth + 1)),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.number().map(drop),
        }
    }

    /// Passes the brace or bracket that comes next; false = nothing lies between it and the one that closes it, which is passed too.
    #[inline(always)]
    pub(crate) fn open(&mut self, depth: u32) -> Scan<bool> {
        if depth >= DEPTH_MAX {
            return Err(Odd);
        }
        // '{' and '}', '[' and ']' are two apart.
        let close = self.token()? + 2;
        self.at += 1;
        if self.token()? == close {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// Passes what follows a member: a comma, or `close`, which ends the object or list: false.
    #[inline(always)]
    pub(crate) fn next(&mut self, close: u8) -> Scan<bool> {
        let next = self.token()?;
        self.at += 1;
        match next {
            b',' => Ok(true),
            _ if next == close => Ok(false),
            _ => Err(Odd),
        }
    }

    /// Passes a list or an object, whose brace or bracket comes next; `member` passes one item or field.
    pub(crate) fn members(&mut self, depth: u32, mut member: impl FnMut(&mut Self) -> Scan<()>) -> Scan<()> {
        // '{' and '}', '[' and ']' are two apart.
        let close = self.token()? + 2;
        let mut more = self.open(depth)?;
        while more {
            member(self)?;
            more = self.next(close)?;
        }
        Ok(())
    }

    /// Passes a value and appends it as the tree would write it: no white space, escapes in one form, numbers as they are.
    pub(crate) fn copy(&mut self, depth: u32, out: &mut Vec<u8>) -> Scan<()> {
        match self.token()? {
            b'"' => {
                self.at += 1;
                self.string()?.copy(out)
            }
            b'{' => {
                out.push(b'{');
                let mut is_first = true;
                self.members(depth, |scan| {
                    if !std::mem::take(&mut is_first) {
                        out.push(b',');
                    }
                    scan.pass(b'"')?;
                    scan.string()?.copy(out)?;
                    scan.pass(b':')?;
                    out.push(b':');
                    scan.copy(depth + 1, out)
                })?;
                out.push(b'}');
                Ok(())
            }
            b'[' => {
                out.push(b'[');
                let mut is_first = true;
                self.members(depth, |scan| {
                    if !std::mem::take(&mut is_first) {
                        out.push(b',');
                    }
                    scan.copy(depth + 1, out)
                })?;
                out.push(b']');
                Ok(())
            }
            b't' | b'f' | b'n' => {
                let from = self.at;
                self.skip(depth)?;
                out.extend_from_slice(self.since(from));
                Ok(())
            }
            _ => {
                out.extend_from_slice(self.number()?.token);
                Ok(())
            }
        }
    }
}

impl Text<'_> {
    /// Appends it as a JSON string in the one form that serde_json writes.
    pub(crate) fn copy(self, out: &mut Vec<u8>) -> Scan<()> {
        if !self.is_escaped {
            out.push(b'"');
            out.extend_from_slice(self.raw);
            out.push(b'"');
            return Ok(());
        }
        let mut plain = Vec::with_capacity(self.raw.len());
        unescape(self.raw, &mut plain)?;
        let plain = std::str::from_utf8(&plain).map_err(|_| Odd)?;
        serde_json::to_writer(out, plain).map_err(|_| Odd)
    }
}

impl<'a> Number<'a> {
    /// Its value, if it is a plain integer that its own digits show.
    #[inline]
    pub(crate) fn int(&self) -> Option<i64> {
        let is_plain = self.places == 0 && !self.has_exponent && self.digits <= INT_DIGITS_MAX;
        // To the tree −0 is a float.
        if !is_plain || (self.is_negative && self.mantissa == 0) {
            return None;
        }
        Some(if self.is_negative { -(self.mantissa as i64) } else { self.mantissa as i64 })
    }

    /// Its value, if it has a point and so few digits that one division rounds right.
    #[inline]
    pub(crate) fn float(&self) -> Option<f64> {
        const POWERS: [f64; FLOAT_DIGITS_MAX + 1] =
            [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
        if self.has_exponent || self.places == 0 || self.digits > FLOAT_DIGITS_MAX {
            return None;
        }
        let value = self.mantissa as f64 / POWERS[self.places];
        Some(if self.is_negative { -value } else { value })
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.is_negative
    }

    /// As the tree has it.
    pub(crate) fn node(&self) -> Scan<Node<'a>> {
        if let Some(value) = self.int() {
            return Ok(Node::Int(value));
        }
        let text = std::str::from_utf8(self.token).map_err(|_| Odd)?;
        let is_whole = self.places == 0 && !self.has_exponent && text != "-0";
        let int = || text.parse().map(Node::Int).or_else(|_| text.parse().map(Node::Uint)).ok();
        Ok(is_whole.then(int).flatten().unwrap_or(Node::Exact(Exact::Number(text.into()))))
    }
}

/// Appends the text of `raw`, whose escapes are replaced. Lone surrogates are odd.
pub(crate) fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Scan<()> {
    unescaped(raw, out, None)
}

/// As [`unescape`], with U+FFFD for each lone surrogate.
pub(super) fn unescape_lossy(raw: &[u8], out: &mut Vec<u8>) -> Scan<()> {
    unescaped(raw, out, Some(char::REPLACEMENT_CHARACTER))
}

#[inline]
fn unescaped(mut raw: &[u8], out: &mut Vec<u8>, lone: Option<char>) -> Scan<()> {
    while let Some(at) = memchr::memchr(b'\\', raw) {
        out.extend_from_slice(&raw[..at]);
        let kind = *raw.get(at + 1).ok_or(Odd)?;
        raw = &raw[at + 2..];
        out.push(match kind {
            b'"' | b'\\' | b'/' => kind,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let code = hex(&mut raw)?;
                let letter = match (0xd800..0xdc00).contains(&code).then(|| low(raw)).flatten() {
                    Some((low, rest)) => {
                        raw = rest;
                        char::from_u32(0x10000 + ((code - 0xd800) << 10) + low)
                    }
                    None => char::from_u32(code),
                };
                let letter = letter.or(lone).ok_or(Odd)?;
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return Err(Odd),
        });
    }
    out.extend_from_slice(raw);
    Ok(())
}

/// The second half of a surrogate pair, if it comes next, and what comes behind it.
fn low(raw: &[u8]) -> Option<(u32, &[u8])> {
    let mut rest = raw.strip_prefix(b"\\u")?;
    let low = hex(&mut rest).ok()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
    Some((low, rest))
}

fn hex(raw: &mut &[u8]) -> Scan<u32> {
    let (digits, rest) = raw.split_first_chunk::<4>().ok_or(Odd)?;
    *raw = rest;
    digits.iter().try_fold(0, |code, digit| Ok(code << 4 | char::from(*digit).to_digit(16).ok_or(Odd)?))
}

/// Bit by byte: which are quotes, backslashes or control characters, and which are not ASCII.
#[cfg(target_arch = "x86_64")]
#[inline]
fn stops(block: &[u8; 16]) -> u32 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    // SAFETY: the reference makes 16 bytes readable, the load wants no alignment, and every x86_64 has SSE2.
    unsafe {
        let block = _mm_loadu_si128(block.as_ptr().cast());
        let quotes = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'"' as i8));
        let slashes = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'\\' as i8));
        let controls = _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(0x1f)), block);
        let stops = _mm_or_si128(_mm_or_si128(quotes, slashes), controls);
        _mm_movemask_epi8(stops) as u32
    }
}

/// As above, a byte at a time.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn stops(block: &[u8; 16]) -> u32 {
    let bit = |(at, byte): (usize, &u8)| u32::from(*byte == b'"' || *byte == b'\\' || *byte < 0x20) << at;
    block.iter().enumerate().map(bit).fold(0, |stops, bit| stops | bit)
}
