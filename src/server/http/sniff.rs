//! What a body is. Pure functions: the door trusts neither Content-Type nor Content-Encoding.
//!
//! In this order: gzip or zstd by Content-Encoding or magic (by magic not under `image/*` or octet-stream); a picture's magic, or
//! `image/*`, `audio/*`, `video/*` or `application/octet-stream`: one binary event; `multipart/*` with a boundary: one event a part; where
//! events are to be JSON, what is no text and does not say that it is some: one binary event; everything else is JSON, whatever its type
//! says.

use super::json::Judge;
use super::multipart;
use super::split::{EVENTS_MAX, Found, split};
use crate::store::HttpCheck;
use bytes::Bytes;
use std::io::Read;

/// The largest body, before and after decompression.
pub const BODY_SIZE_MAX: usize = 8 << 20;
/// A body may not decompress to more than this many times its size.
pub const RATIO_MAX: usize = 200;
/// The least that is reserved for what a body unpacks to.
const UNPACK_STEP: usize = 64 << 10;
/// What events usually shrink to, one part in so many: only a first guess at memory.
const RATIO_USUAL: usize = 6;

const OCTETS: &str = "application/octet-stream";

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
    #[error("the multipart body cannot be read: {0}")]
    Multipart(String),
    #[error("too many bytes are in flight to decompress the body; try again")]
    Busy,
}

/// How `body` is compressed, by what the client says and by its first bytes.
///
/// # Errors
/// [`BodyError::Encoding`] for an encoding that is not known and a body that does not show one either.
pub fn packing(body: &[u8], encoding: Option<&str>, content_type: &str) -> Result<Packing, BodyError> {
    let by_magic = match body {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
        _ => Packing::Plain,
    };
    let encoding = encoding.map_or("", str::trim);
    let is = |known: &str| encoding.eq_ignore_ascii_case(known);
    if encoding.is_empty() || is("identity") {
        let is_kept = by_magic == Packing::Plain || is_said_binary(content_type);
        return Ok(if is_kept { Packing::Plain } else { by_magic });
    }
    // A header that lies about plain bytes is passed over, as PostHog's collector had to learn too.
    if by_magic != Packing::Plain || is("gzip") || is("x-gzip") || is("zstd") {
        return Ok(by_magic);
    }
    Err(BodyError::Encoding(encoding.chars().take(40).collect()))
}

/// The body without its packing. `reserve` is asked before memory is taken, in growing steps; what it returns false to is not taken.
///
/// # Errors
/// [`BodyError`]: too large, a bomb, not of that packing, no room.
pub fn unpack(body: &[u8], packing: Packing, reserve: impl FnMut(usize) -> bool) -> Result<Vec<u8>, BodyError> {
    let limit = BODY_SIZE_MAX.min(body.len().saturating_mul(RATIO_MAX));
    let packed = |error: std::io::Error| BodyError::Packing(error.to_string());
    let out = match packing {
        Packing::Plain => return Ok(body.to_vec()),
        Packing::Gzip => read(flate2::read::MultiGzDecoder::new(body), body.len(), limit, reserve)?,
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(packed)?;
            decoder.window_log_max(23).map_err(packed)?;
            read(decoder, body.len(), limit, reserve)?
        }
    };
    match out.len() {
        size if size > BODY_SIZE_MAX => Err(BodyError::TooLarge),
        size if size > limit => Err(BodyError::Bomb),
        _ => Ok(out),
    }
}

/// At most one byte more than `limit`, in memory that doubles only once it was reserved.
fn read(
    decoder: impl Read,
    packed_size: usize,
    limit: usize,
    mut reserve: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, BodyError> {
    let mut decoder = decoder.take(limit as u64 + 1);
    let mut out = Vec::new();
    let mut step = (packed_size * RATIO_USUAL).clamp(UNPACK_STEP, BODY_SIZE_MAX);
    loop {
        if !reserve(step) {
            return Err(BodyError::Busy);
        }
        out.reserve_exact(step);
        let read = decoder.by_ref().take(step as u64).read_to_end(&mut out);
        if read.map_err(|error| BodyError::Packing(error.to_string()))? < step {
            return Ok(out);
        }
        step = out.len().min(BODY_SIZE_MAX);
    }
}

fn is_said_binary(content_type: &str) -> bool {
    let kind = content_type.trim_start();
    let begins = |known: &str| kind.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known));
    let is_media = ["image/", "audio/", "video/"].into_iter().any(begins);
    is_media || begins(OCTETS) && matches!(kind.as_bytes().get(OCTETS.len()), None | Some(b';' | b' '))
}

/// The content type of a body that is one binary event; `None` if it is none.
pub fn binary_type(body: &[u8], content_type: &str) -> Option<String> {
    let by_magic = match body {
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some("image/png"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    };
    by_magic.map(str::to_owned).or_else(|| is_said_binary(content_type).then(|| plain_type(content_type)))
}

/// The content type without parameters, in small letters.
fn plain_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// As [`binary_type`], of a body that shows it only by being no text: a PDF, say. Its type must not say that it is text, and without one it
/// must not begin as JSON does: then one bad line would be meant.
fn type_of_no_text(body: &[u8], content_type: &str) -> Option<String> {
    let kind = plain_type(content_type);
    let is_said_text = kind.starts_with("text/") || kind.contains("json") || kind.ends_with("x-www-form-urlencoded");
    let begins_as_json = || matches!(body.trim_ascii_start().first(), Some(b'{' | b'[' | b'"'));
    if is_said_text || kind.is_empty() && begins_as_json() || std::str::from_utf8(body).is_ok() {
        return None;
    }
    Some(if kind.is_empty() { OCTETS.to_owned() } else { kind })
}

/// The events of an unpacked body.
///
/// # Errors
/// [`BodyError`] if the body as a whole cannot be taken.
pub fn events(body: &[u8], content_type: &str, judge: &Judge) -> Result<Found, BodyError> {
    let boundary = multipart::boundary(content_type)?;
    let is_text = boundary.is_some() || judge.check != HttpCheck::Json;
    let no_text = || if is_text { None } else { type_of_no_text(body, content_type) };
    if let Some(kind) = binary_type(body, content_type).or_else(no_text) {
        let mut found = Found::default();
        if body.is_empty() {
            return Err(BodyError::Empty);
        }
        found.add(1, 0..body.len() as u32, judge.unread());
        found.events[0].headers.push((Bytes::from_static(b"content-type"), Bytes::from(kind)));
        return Ok(found);
    }
    match boundary {
        Some(boundary) => multipart::events(body, &boundary, judge),
        None => split(body, judge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn packing_is_seen_and_a_header_that_lies_is_passed_over() {
        let gzip = gzip(b"{\"a\":1}");
        // RudderStack's node client sends gzipped JSON as a form, without a Content-Encoding.
        let found = packing(&gzip, None, "application/x-www-form-urlencoded").unwrap();
        assert_eq!(unpack(&gzip, found, |_| true).unwrap(), b"{\"a\":1}");
        assert_eq!(packing(b"{}", Some("GZIP"), "application/json"), Ok(Packing::Plain));
        assert_eq!(packing(&gzip, Some("br"), ""), Ok(Packing::Gzip));
        assert_eq!(packing(&gzip, None, "image/jpeg"), Ok(Packing::Plain));
        assert_eq!(packing(&gzip, Some("gzip"), "image/jpeg"), Ok(Packing::Gzip));
        assert!(packing(b"{}", Some("br"), "").is_err());
    }

    #[test]
    fn bombs_are_refused_by_ratio_and_by_size() {
        let bomb = zstd::bulk::compress(&vec![0; 4 << 20], 1).unwrap();
        assert_eq!(unpack(&bomb, Packing::Zstd, |_| true), Err(BodyError::Bomb));
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = (0..300 << 10).map(|_| random.u8(..)).collect();
        let large = gzip(&[noise, vec![0; BODY_SIZE_MAX]].concat());
        assert_eq!(unpack(&large, Packing::Gzip, |_| true), Err(BodyError::TooLarge));
        let mut reserved = 0;
        let refused = unpack(&large, Packing::Gzip, |bytes| {
            reserved += bytes;
            reserved <= 4 << 20
        });
        assert_eq!(refused, Err(BodyError::Busy));
        assert!(matches!(unpack(b"\x1f\x8bnot gzip", Packing::Gzip, |_| true), Err(BodyError::Packing(_))));
        assert!(matches!(unpack(&gzip(b"[1,2]")[..12], Packing::Gzip, |_| true), Err(BodyError::Packing(_))));
    }

    #[test]
    fn pictures_are_known_by_their_first_bytes() {
        assert_eq!(binary_type(&[0xff, 0xd8, 0xff, 0xe0], "text/plain").as_deref(), Some("image/jpeg"));
        assert_eq!(
            binary_type(b"anything", "Application/Octet-Stream; x=y").as_deref(),
            Some("application/octet-stream")
        );
        assert_eq!(binary_type(b"{}", "application/json"), None);
        assert_eq!(binary_type(b"x", "video/mp4; codecs=avc1").as_deref(), Some("video/mp4"));
    }

    #[test]
    fn what_is_no_text_is_one_event_unless_it_says_that_it_is_text() {
        let pdf = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj";
        for (body, content_type, expected) in [
            (&pdf[..], "application/pdf", Some("application/pdf")),
            (pdf, "", Some("application/octet-stream")),
            (pdf, "application/json", None),
            (pdf, "text/plain;charset=UTF-8", None),
            (pdf, "application/x-www-form-urlencoded", None),
            (b"{\"a\":1}\n{\"a\":\"\xff\"}", "", None),
            (b"{\"a\":1}", "application/pdf", None),
        ] {
            assert_eq!(type_of_no_text(body, content_type).as_deref(), expected, "{content_type}");
            let judge = Judge::new(HttpCheck::Json, None, None, 0);
            let found = events(body, content_type, &judge).unwrap_or_default();
            assert_eq!(found.events.first().is_some_and(|event| !event.headers.is_empty()), expected.is_some());
        }
    }
}
