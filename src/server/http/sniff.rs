//! What a body is, and where its events stand. Pure functions: the door trusts neither Content-Type nor Content-Encoding.
//!
//! In this order: gzip or zstd by Content-Encoding or magic (by magic not under `image/*` or octet-stream); a picture's magic, or
//! `image/*` or `application/octet-stream`: one binary event; everything else is JSON, whatever its type says.

use crate::store::HttpCheck;
use std::io::Read;
use std::ops::Range;

/// The largest body, before and after decompression.
pub const BODY_SIZE_MAX: usize = 8 << 20;
/// A body may not decompress to more than this many times its size.
pub const RATIO_MAX: usize = 200;
/// Events of one request.
pub const EVENTS_MAX: usize = 10_000;
/// Nesting of one event.
pub const DEPTH_MAX: usize = 32;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// Why a whole body is refused: nothing of it was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body is empty; send one JSON value, an array, or one JSON value a line")]
    Empty,
    #[error("the body has more than {BODY_SIZE_MAX} bytes; send it in parts")]
    TooLarge,
    #[error("the body decompresses to more than {RATIO_MAX} times its size")]
    Bomb,
    #[error("the body cannot be decompressed: {0}")]
    Packing(String),
    #[error("Content-Encoding \"{0}\" is not known; send gzip, zstd or none")]
    Encoding(String),
    #[error("the body has more than {EVENTS_MAX} events; send it in parts")]
    TooMany,
    #[error("the array is not well-formed JSON: {0}")]
    Array(String),
}

/// How `body` is compressed, by what the client says and by its first bytes.
///
/// # Errors
/// [`BodyError::Encoding`] for an encoding that is not known and a body that does not show one either.
pub fn packing(body: &[u8], encoding: Option<&str>, content_type: &str) -> Result<Packing, BodyError> {
    let is_binary = content_type.starts_with("image/") || content_type == "application/octet-stream";
    let by_magic = match body {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
        _ => Packing::Plain,
    };
    match encoding.map(str::trim).map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "identity") if is_binary => Ok(Packing::Plain),
        // A header that lies about plain bytes is passed over, as PostHog's collector had to learn too.
        None | Some("" | "identity" | "gzip" | "x-gzip" | "zstd") => Ok(by_magic),
        Some(_) if by_magic != Packing::Plain => Ok(by_magic),
        Some(other) => Err(BodyError::Encoding(other.to_owned())),
    }
}

/// The body without its packing, in bounded memory.
///
/// # Errors
/// [`BodyError`]: too large, a bomb, not of that packing.
pub fn unpack(body: &[u8], packing: Packing) -> Result<Vec<u8>, BodyError> {
    let limit = BODY_SIZE_MAX.min(body.len().saturating_mul(RATIO_MAX));
    let mut out = Vec::new();
    let packed = |error: std::io::Error| BodyError::Packing(error.to_string());
    match packing {
        Packing::Plain => return Ok(body.to_vec()),
        Packing::Gzip => {
            flate2::read::MultiGzDecoder::new(body).take(limit as u64 + 1).read_to_end(&mut out).map_err(packed)?
        }
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(packed)?;
            decoder.window_log_max(23).map_err(packed)?;
            decoder.take(limit as u64 + 1).read_to_end(&mut out).map_err(packed)?
        }
    };
    match out.len() {
        size if size > BODY_SIZE_MAX => Err(BodyError::TooLarge),
        size if size > limit => Err(BodyError::Bomb),
        _ => Ok(out),
    }
}

/// The content type of a body that is one binary event; `None` if it is JSON.
pub fn binary_type(body: &[u8], content_type: &str) -> Option<String> {
    let by_magic = match body {
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some("image/png"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    };
    let said = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_said = said.starts_with("image/") || said == "application/octet-stream";
    by_magic.map(str::to_owned).or(is_said.then_some(said))
}

/// A piece of the body that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Of NDJSON the line, of an array the element, from 1.
    pub line: usize,
    pub place: Range<u32>,
    pub reason: String,
}

/// Where the events of a JSON body stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    pub places: Vec<Range<u32>>,
    /// Line (or element) of each, from 1.
    pub lines: Vec<usize>,
    pub bad: Vec<BadLine>,
}

/// Finds the events: one value, the elements of an array, or the lines of NDJSON if the first line is a whole value and more follows.
///
/// # Errors
/// [`BodyError`] if the body as a whole cannot be taken.
pub fn split(body: &[u8], check: HttpCheck) -> Result<Events, BodyError> {
    let trimmed = trim(body, 0..body.len());
    if trimmed.is_empty() {
        return Err(BodyError::Empty);
    }
    if check != HttpCheck::None && body[trimmed.start] == b'[' {
        return elements(body, trimmed);
    }
    let mut events = Events::default();
    let first_line = memchr::memchr(b'\n', &body[trimmed.clone()]).map(|at| trimmed.start + at);
    let is_lines = first_line.is_some_and(|end| judge(&body[trim(body, trimmed.start..end)], check).is_ok());
    if !is_lines {
        events.add(body, 1, trimmed, check)?;
        return Ok(events);
    }
    let mut from = trimmed.start;
    let mut line = 1 + memchr::memchr_iter(b'\n', &body[..from]).count();
    while from < trimmed.end {
        let end = memchr::memchr(b'\n', &body[from..trimmed.end]).map_or(trimmed.end, |at| from + at);
        let place = trim(body, from..end);
        if !place.is_empty() {
            events.add(body, line, place, check)?;
        }
        line += 1;
        from = end + 1;
    }
    Ok(events)
}

impl Events {
    fn add(&mut self, body: &[u8], line: usize, place: Range<usize>, check: HttpCheck) -> Result<(), BodyError> {
        if self.places.len() + self.bad.len() >= EVENTS_MAX {
            return Err(BodyError::TooMany);
        }
        let range = place.start as u32..place.end as u32;
        match judge(&body[place], check) {
            Ok(()) => {
                self.places.push(range);
                self.lines.push(line);
            }
            Err(reason) => self.bad.push(BadLine { line, place: range, reason }),
        }
        Ok(())
    }
}

fn elements(body: &[u8], trimmed: Range<usize>) -> Result<Events, BodyError> {
    let array = &body[trimmed.clone()];
    let raw: Vec<&serde_json::value::RawValue> =
        serde_json::from_slice(array).map_err(|error| BodyError::Array(error.to_string()))?;
    let mut events = Events::default();
    for (index, element) in raw.iter().enumerate() {
        // The raw value is a slice of the array: its address says where it stands.
        let start = trimmed.start + (element.get().as_ptr() as usize - array.as_ptr() as usize);
        let place = start..start + element.get().len();
        if events.places.len() + events.bad.len() >= EVENTS_MAX {
            return Err(BodyError::TooMany);
        }
        let range = place.start as u32..place.end as u32;
        match depth_of(&body[place]) > DEPTH_MAX {
            false => {
                events.places.push(range);
                events.lines.push(index + 1);
            }
            true => events.bad.push(BadLine { line: index + 1, place: range, reason: too_deep() }),
        }
    }
    if raw.is_empty() { Err(BodyError::Empty) } else { Ok(events) }
}

fn judge(value: &[u8], check: HttpCheck) -> Result<(), String> {
    match check {
        HttpCheck::None => Ok(()),
        HttpCheck::Utf8 => std::str::from_utf8(value).map(drop).map_err(|error| format!("not UTF-8: {error}")),
        HttpCheck::Json => {
            let mut reader = serde_json::Deserializer::from_slice(value);
            let read = <serde::de::IgnoredAny as serde::Deserialize>::deserialize(&mut reader);
            read.and_then(|_| reader.end()).map_err(|error| format!("not JSON: {error}"))?;
            std::str::from_utf8(value).map_err(|error| format!("not UTF-8: {error}"))?;
            if depth_of(value) > DEPTH_MAX { Err(too_deep()) } else { Ok(()) }
        }
    }
}

fn too_deep() -> String {
    format!("nested deeper than {DEPTH_MAX}")
}

/// Nesting of a JSON text that is known to be well-formed.
fn depth_of(value: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = string_end(value, at + 1),
            _ => {}
        }
        at += 1;
    }
    deepest
}

/// Position of the quote that ends a string which begins at `from`.
fn string_end(value: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(found) = memchr::memchr2(b'"', b'\\', value.get(at..).unwrap_or_default()) {
        at += found;
        if value[at] == b'"' {
            return at;
        }
        at += 2;
    }
    value.len()
}

fn trim(body: &[u8], place: Range<usize>) -> Range<usize> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let slice = &body[place.clone()];
    let Some(first) = slice.iter().position(|byte| !is_space(byte)) else { return place.start..place.start };
    let last = slice.iter().rposition(|byte| !is_space(byte)).unwrap_or(first);
    place.start + first..place.start + last + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn texts(body: &str) -> Vec<&str> {
        let events = split(body.as_bytes(), HttpCheck::Json).unwrap();
        events.places.iter().map(|place| &body[place.start as usize..place.end as usize]).collect()
    }

    #[test]
    fn one_value_may_span_lines_and_be_no_object() {
        assert_eq!(texts("{\n \"a\": 1\n}\n"), ["{\n \"a\": 1\n}"]);
        assert_eq!(texts(" 17 "), ["17"]);
    }

    #[test]
    fn lines_are_events_and_a_bad_one_ends_at_its_newline() {
        let body = "{\"a\":1}\n\n{\"a\":\r\n{\"a\":3}";
        let events = split(body.as_bytes(), HttpCheck::Json).unwrap();
        assert_eq!((events.places.len(), events.lines, events.bad.len()), (2, vec![1, 4], 1));
        assert_eq!(events.bad[0].line, 3);
    }

    #[test]
    fn an_array_gives_its_elements_and_is_refused_if_it_does_not_close() {
        assert_eq!(texts("[{\"a\":[1]} , 2,\"x\"]"), ["{\"a\":[1]}", "2", "\"x\""]);
        assert!(matches!(split(b"[1,2", HttpCheck::Json), Err(BodyError::Array(_))));
        assert_eq!(split(b"[]", HttpCheck::Json), Err(BodyError::Empty));
    }

    #[test]
    fn depth_and_encoding_are_judged_by_event() {
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        let body = format!("{{\"a\":1}}\n{{\"a\":{deep}}}\n{{\"a\":\"}}}}]]\\\"\"}}");
        let events = split(body.as_bytes(), HttpCheck::Json).unwrap();
        assert_eq!((events.places.len(), events.bad.len()), (2, 1));
        assert_eq!(split(b"{\"a\":\"\xff\"}", HttpCheck::Json).unwrap().bad.len(), 1);
    }

    #[test]
    fn packing_is_seen_and_a_bomb_is_refused() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"{\"a\":1}").unwrap();
        let gzip = gzip.finish().unwrap();
        // RudderStack's node client sends gzipped JSON as a form, without a Content-Encoding.
        let found = packing(&gzip, None, "application/x-www-form-urlencoded").unwrap();
        assert_eq!(unpack(&gzip, found).unwrap(), b"{\"a\":1}");
        assert_eq!(packing(b"{}", Some("gzip"), "application/json"), Ok(Packing::Plain));
        assert_eq!(packing(&gzip, None, "image/jpeg"), Ok(Packing::Plain));
        assert!(packing(b"{}", Some("br"), "").is_err());
        let bomb = zstd::bulk::compress(&vec![0; 4 << 20], 1).unwrap();
        assert_eq!(unpack(&bomb, Packing::Zstd), Err(BodyError::Bomb));
    }

    #[test]
    fn pictures_are_known_by_their_first_bytes() {
        assert_eq!(binary_type(&[0xff, 0xd8, 0xff, 0xe0], "text/plain").as_deref(), Some("image/jpeg"));
        assert_eq!(binary_type(b"anything", "application/octet-stream").as_deref(), Some("application/octet-stream"));
        assert_eq!(binary_type(b"{}", "application/json"), None);
    }
}
