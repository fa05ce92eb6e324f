//! `multipart/form-data`, `multipart/mixed` and their like: what cameras push, an alert and its pictures in one body.
//!
//! ```text
//! --boundary CRLF  name: value CRLF ...  CRLF  part  CRLF --boundary ...  CRLF --boundary--
//! ```
//!
//! Lenient where cameras are: lines may end with LF alone, a preamble is passed over, the closing line may be missing if the last part
//! said its length. Strict where bytes could be lost: a body that just ends is refused whole.

use super::json::{Fault, Judge};
use super::sniff::{self, BodyError};
use super::split::{BadLine, Found};
use bytes::Bytes;
use std::ops::Range;

/// Bytes and lines of a part's head.
const HEAD_SIZE_MAX: usize = 8 << 10;
const HEAD_LINES_MAX: usize = 32;
/// RFC 2046: a boundary has 1 to 70 characters.
const BOUNDARY_SIZE_MAX: usize = 70;

/// One part, with what its head says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part<'a> {
    pub place: Range<u32>,
    pub content_type: Option<&'a str>,
    pub transfer_encoding: Option<&'a str>,
    /// Of Content-Disposition.
    pub name: Option<String>,
    pub filename: Option<String>,
    length: Option<usize>,
}

/// The boundary of a `multipart/*` content type; `None` for another type.
///
/// # Errors
/// [`BodyError::Multipart`] if it has none.
pub fn boundary(content_type: &str) -> Result<Option<String>, BodyError> {
    if !content_type.trim_start().get(..10).is_some_and(|start| start.eq_ignore_ascii_case("multipart/")) {
        return Ok(None);
    }
    let parameters = content_type.split_once(';').map_or("", |(_, parameters)| parameters);
    match parameter(parameters, "boundary") {
        Some(boundary) if (1..=BOUNDARY_SIZE_MAX).contains(&boundary.len()) => Ok(Some(boundary)),
        _ => Err(BodyError::Multipart("its Content-Type names no boundary of 1 to 70 characters".to_owned())),
    }
}

/// Cuts a body into its parts.
///
/// # Errors
/// [`BodyError::Multipart`]: it has no part, does not close, or a head is none.
pub fn parts<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Part<'a>>, BodyError> {
    let wrong = |reason: &str| Err(BodyError::Multipart(reason.to_owned()));
    let dashed = format!("--{boundary}");
    let finder = memchr::memmem::Finder::new(dashed.as_bytes());
    let Some(mut at) = delimiter(body, 0, &finder) else { return wrong("the boundary is not in the body") };
    let mut parts = Vec::new();
    loop {
        if at.is_close {
            return if parts.is_empty() { Err(BodyError::Empty) } else { Ok(parts) };
        }
        if parts.len() >= super::split::EVENTS_MAX {
            return Err(BodyError::TooMany);
        }
        let (mut part, from) = head(body, at.end)?;
        let next = delimiter(body, from, &finder);
        let end = match &next {
            Some(next) => next.start,
            None if part.length == Some(body.len() - from) => body.len(),
            None => return wrong("the last part does not end with the boundary: the body was cut off"),
        };
        part.place = from as u32..end as u32;
        parts.push(part);
        match next {
            Some(next) => at = next,
            None => return Ok(parts),
        }
    }
}

/// A line that is the boundary: where the part before it ends, and where what follows it begins.
struct Delimiter {
    start: usize,
    end: usize,
    is_close: bool,
}

fn delimiter(body: &[u8], from: usize, finder: &memchr::memmem::Finder<'_>) -> Option<Delimiter> {
    let mut search = from;
    loop {
        let found = search + finder.find(body.get(search..)?)?;
        let after = found + finder.needle().len();
        search = found + 1;
        // At the beginning of a line, or of what is searched: a part may be empty.
        let start = match &body[from..found] {
            [.., b'\r', b'\n'] => found - 2,
            [.., b'\n'] => found - 1,
            [] => found,
            _ => continue,
        };
        let rest = &body[after..];
        if rest.starts_with(b"--") {
            return Some(Delimiter { start, end: after + 2, is_close: true });
        }
        // RFC 2046 lets spaces follow.
        let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let end = match &rest[padding..] {
            [b'\r', b'\n', ..] => after + padding + 2,
            [b'\n', ..] => after + padding + 1,
            _ => continue,
        };
        return Some(Delimiter { start, end, is_close: false });
    }
}

/// Reads a part's head; also where its content begins.
fn head(body: &[u8], from: usize) -> Result<(Part<'_>, usize), BodyError> {
    let wrong = |reason: &str| BodyError::Multipart(reason.to_owned());
    let mut part = Part::default();
    let mut at = from;
    for _ in 0..HEAD_LINES_MAX {
        let rest = &body[at..body.len().min(from + HEAD_SIZE_MAX)];
        let size = memchr::memchr(b'\n', rest).ok_or_else(|| wrong("the head of a part does not end"))?;
        at += size + 1;
        let line = rest[..size].strip_suffix(b"\r").unwrap_or(&rest[..size]);
        if line.is_empty() {
            return Ok((part, at));
        }
        // What is not UTF-8 (a file name in an old encoding) says nothing; it does not cost the picture.
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let (name, value) = line.split_once(':').ok_or_else(|| wrong("a line in the head of a part has no colon"))?;
        let (name, value) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("content-type") {
            part.content_type = Some(value);
        } else if name.eq_ignore_ascii_case("content-length") {
            part.length = value.parse().ok();
        } else if name.eq_ignore_ascii_case("content-transfer-encoding") {
            part.transfer_encoding = Some(value);
        } else if name.eq_ignore_ascii_case("content-disposition") {
            let parameters = value.split_once(';').map_or("", |(_, parameters)| parameters);
            part.name = parameter(parameters, "name");
            part.filename = parameter(parameters, "filename");
        }
    }
    Err(wrong("the head of a part has too many lines"))
}

/// A parameter of a header value: `; name=token; name="quoted \" text"`.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let (value, next) = after.split_once(';').unwrap_or((after, ""));
                (value.trim().to_owned(), next)
            }
        };
        if name.trim_matches([' ', '\t', ';']).eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = next;
    }
}

/// The text of a quoted string whose opening quote is read already, and what follows it. A backslash is taken away only before a quote
/// or another: browsers send `C:\picture.jpg` as it is.
fn unquoted(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        match (char, chars.peek()) {
            ('"', _) => return Some((value, &quoted[at + 1..])),
            ('\\', Some((_, next @ ('"' | '\\')))) => {
                value.push(*next);
                chars.next();
            }
            (other, _) => value.push(other),
        }
    }
    None
}

/// The parts as events, each with what its head said: JSON judged as such where it is, everything else kept with its type.
///
/// # Errors
/// As [`parts`].
pub fn events(body: &[u8], boundary: &str, judge: &Judge) -> Result<Found, BodyError> {
    let mut found = Found::default();
    for (index, part) in parts(body, boundary)?.into_iter().enumerate() {
        found.make_room()?;
        let line = index as u32 + 1;
        let content = &body[part.place.start as usize..part.place.end as usize];
        let (kind, said) = match kind_of(content, part.content_type, judge) {
            Ok(kind) => kind,
            Err(fault) => {
                found.bad.push(BadLine { line, place: part.place, reason: fault.reason });
                continue;
            }
        };
        found.add(line, part.place, said.unwrap_or_else(|| judge.unread()));
        let Some(event) = found.events.last_mut() else { continue };
        let mut header = |name: &'static str, value: Option<String>| {
            event.headers.extend(value.map(|value| (Bytes::from_static(name.as_bytes()), Bytes::from(value))));
        };
        let is_encoded = |encoding: &&str| !["7bit", "8bit", "binary"].iter().any(|e| e.eq_ignore_ascii_case(encoding));
        header("content-type", kind);
        header("content-transfer-encoding", part.transfer_encoding.filter(is_encoded).map(str::to_owned));
        header("multipart-name", part.name);
        header("multipart-filename", part.filename);
    }
    Ok(found)
}

/// The type that a part is kept with (none for JSON), and what was read out of it.
fn kind_of(
    content: &[u8],
    said: Option<&str>,
    judge: &Judge,
) -> Result<(Option<String>, Option<super::json::Said>), Fault> {
    if content.is_empty() {
        return Err(Fault { reason: "the part is empty".to_owned(), is_json: false });
    }
    let plain = said.map_or("", |said| said.split(';').next().unwrap_or_default().trim());
    if let Some(kind) = sniff::binary_type(content, plain) {
        return Ok((Some(kind), None));
    }
    let is_said_json = plain.eq_ignore_ascii_case("application/json") || plain.to_ascii_lowercase().ends_with("+json");
    let may_be_json = plain.is_empty()
        || plain.eq_ignore_ascii_case("text/plain")
        || plain.eq_ignore_ascii_case("application/x-www-form-urlencoded");
    match judge.judge(content.trim_ascii()) {
        verdict if is_said_json => verdict.map(|read| (None, Some(read))),
        // A form's field is text; only what cannot be anything else is taken for JSON without saying so.
        Ok(read) if may_be_json && matches!(content.trim_ascii_start(), [b'{' | b'[', ..]) => Ok((None, Some(read))),
        _ if plain.is_empty() && content.trim_ascii_start().starts_with(b"<") => {
            Ok((Some("application/xml".to_owned()), None))
        }
        _ if plain.is_empty() && std::str::from_utf8(content).is_ok() => Ok((Some("text/plain".to_owned()), None)),
        _ if plain.is_empty() => Ok((Some("application/octet-stream".to_owned()), None)),
        _ => Ok((said.map(str::to_owned), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::HttpCheck;
    use proptest::prelude::*;

    const JPEG: &[u8] = b"\xff\xd8\xff\xe0 any bytes, \r\n--boundar or \n-- among them \xff\xd9";

    fn judge() -> Judge {
        Judge::new(HttpCheck::Json, None, None, 0)
    }

    /// Content and headers of an event.
    type Kept = (Vec<u8>, Vec<(String, String)>);

    fn read(body: &[u8], content_type: &str) -> Vec<Kept> {
        let boundary = boundary(content_type).unwrap().unwrap();
        let found = events(body, &boundary, &judge()).unwrap_or_else(|error| panic!("{error}"));
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let event = |event: &crate::ingest::Event| {
            let content = body[event.value.start as usize..event.value.end as usize].to_vec();
            (content, event.headers.iter().map(|(name, value)| (text(name), text(value))).collect())
        };
        assert!(found.bad.is_empty(), "{:?}", found.bad);
        found.events.iter().map(event).collect()
    }

    fn header<'a>(event: &'a Kept, name: &str) -> Option<&'a str> {
        event.1.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_hikvision_alert_with_its_picture() {
        let alert = b"<EventNotificationAlert version=\"2.0\" xmlns=\"http://www.isapi.org/ver20/XMLSchema\">\r\n<ipAddress>192.0.2.64</ipAddress>\r\n<eventType>VMD</eventType>\r\n</EventNotificationAlert>\r\n";
        let mut body = b"--boundary\r\nContent-Disposition: form-data; name=\"MoveDetection.xml\"; filename=\"MoveDetection.xml\"\r\nContent-Type: application/xml\r\nContent-Length: 180\r\n\r\n".to_vec();
        body.extend_from_slice(alert);
        body.extend_from_slice(b"\r\n--boundary\r\nContent-Disposition: form-data; name=\"MoveDetectionImage.jpg\"; filename=\"MoveDetectionImage.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n");
        body.extend_from_slice(JPEG);
        body.extend_from_slice(b"\r\n--boundary--\r\n");
        let events = read(&body, "multipart/form-data; boundary=boundary");
        assert_eq!(events.len(), 2);
        assert_eq!((events[0].0.as_slice(), header(&events[0], "content-type")), (&alert[..], Some("application/xml")));
        assert_eq!((events[1].0.as_slice(), header(&events[1], "content-type")), (JPEG, Some("image/jpeg")));
        assert_eq!(header(&events[1], "multipart-filename"), Some("MoveDetectionImage.jpg"));
    }

    #[test]
    fn parts_that_say_nothing_are_looked_at() {
        let body = b"preamble\n--b\n\n<Alert/>\n--b\n\n{\"a\": 1}\n--b  \n\n\xff\xd8\xff\n--b\nContent-Disposition: form-data; name=camera\n\ndoor\n--b\n\n\xfe\xfe\n--b--";
        let events = read(body, "Multipart/Mixed; boundary=\"b\"");
        let kinds: Vec<_> = events.iter().map(|event| header(event, "content-type")).collect();
        let expected = ["application/xml", "", "image/jpeg", "text/plain", "application/octet-stream"];
        assert_eq!(kinds, expected.map(|kind| Some(kind).filter(|kind| !kind.is_empty())));
        assert_eq!((events[3].0.as_slice(), header(&events[3], "multipart-name")), (&b"door"[..], Some("camera")));
    }

    #[test]
    fn json_that_says_so_is_judged_and_null_is_json() {
        let body = b"--x\r\nContent-Type: application/json; charset=utf-8\r\n\r\n{broken\r\n--x\r\nContent-Type: application/json\r\n\r\nnull\r\n--x\r\n\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\n{broken too\r\n--x--\r\n";
        let found = events(body, "x", &judge()).ok().unwrap();
        assert_eq!(found.lines[..], [2, 4]);
        assert!(found.events[0].headers.is_empty());
        let bad: Vec<_> = found.bad.iter().map(|bad| (bad.line, bad.reason.as_str())).collect();
        assert_eq!((bad[0].0, bad[1]), (1, (3, "the part is empty")));
    }

    #[test]
    fn a_body_that_was_cut_off_is_refused_unless_its_last_part_said_its_length() {
        let cut = b"--x\r\n\r\nabc\r\n--x\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8\xff";
        assert!(matches!(parts(cut, "x"), Err(BodyError::Multipart(_))));
        let said = b"--x\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(parts(said, "x").unwrap()[0].place, 26..29);
        assert!(matches!(parts(b"--x--", "x"), Err(BodyError::Empty)));
        assert!(matches!(parts(b"nothing of the kind", "x"), Err(BodyError::Multipart(_))));
        assert!(matches!(parts(b"--x\r\nno colon\r\n\r\n\r\n--x--", "x"), Err(BodyError::Multipart(_))));
    }

    #[test]
    fn boundaries_are_read_as_they_are_written() {
        let of = |text: &str| boundary(text).unwrap();
        assert_eq!(of("multipart/form-data; charset=utf-8; Boundary=AbC").as_deref(), Some("AbC"));
        assert_eq!(of("multipart/mixed; boundary=\"a b;\\\"c\"").as_deref(), Some("a b;\"c"));
        assert_eq!(of("application/json"), None);
        assert_eq!(of("multi"), None);
        assert!(boundary("multipart/form-data").is_err());
        assert!(boundary(&format!("multipart/form-data; boundary={}", "x".repeat(71))).is_err());
        let name = |text: &str| parameter(text, "filename");
        assert_eq!(name(" name=\"a\"; filename=\"C:\\shot.jpg\"").as_deref(), Some("C:\\shot.jpg"));
        assert_eq!(name(" filename=\"open"), None);
    }

    proptest! {
        #[test]
        fn what_was_put_together_comes_apart_again(contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..6), end in prop::sample::select(vec!["\r\n", "\n"])) {
            let mut body = Vec::new();
            for content in &contents {
                body.extend_from_slice(format!("--the boundary{end}a: b{end}{end}").as_bytes());
                body.extend_from_slice(content);
                body.extend_from_slice(end.as_bytes());
            }
            body.extend_from_slice(b"--the boundary--");
            let read = parts(&body, "the boundary").unwrap();
            let read: Vec<&[u8]> = read.iter().map(|part| &body[part.place.start as usize..part.place.end as usize]).collect();
            // With LF alone a part's last CR cannot be told from a line's end.
            let expected: Vec<&[u8]> = contents.iter().map(|c| if end == "\n" { c.strip_suffix(b"\r").unwrap_or(c) } else { c }).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn rubbish_never_panics(body in proptest::collection::vec(prop::sample::select(b"--x\r\n: ;=\"a\\".to_vec()), 0..120)) {
            if let Ok(parts) = parts(&body, "x") {
                prop_assert!(parts.iter().all(|part| part.place.start <= part.place.end && part.place.end as usize <= body.len()));
            }
            let _ = events(&body, "x", &judge());
            let _ = std::str::from_utf8(&body).map(boundary);
        }
    }
}
