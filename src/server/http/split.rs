//! Where the events of a JSON body stand. Pure: no byte is copied, each is looked at once.

use super::json::{Fault, Judge, Said, is_too_deep};
use super::sniff::BodyError;
use crate::ingest::{Event, Events};
use crate::json::{BYTE_ORDER_MARK, Odd, Scan, Scanner};
use crate::store::HttpCheck;
use bytes::Bytes;
use serde::de::{Error, SeqAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;
use std::fmt;
use std::ops::Range;

/// Events of one request.
pub const EVENTS_MAX: usize = 10_000;
/// Room is made at once for so many at most.
const EXPECTED_MAX: usize = 1_000;
/// Nesting of one event.
pub const DEPTH_MAX: usize = 32;

/// A piece of the body that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Of NDJSON the line, of an array the element, of multipart the part; from 1.
    pub line: u32,
    pub place: Range<u32>,
    pub reason: String,
}

/// Why an event is no record of a compacted topic.
pub(super) const NO_KEY: &str =
    "a compacted topic takes no event without a key: inrush.http.key names the value that it is taken from";

/// The line, element or part of each event.
pub type Lines = SmallVec<[u32; 1]>;

/// The events of a body.
#[derive(Default)]
pub struct Found {
    pub events: Events,
    /// Line, element or part of each, from 1.
    pub lines: Lines,
    pub bad: Vec<BadLine>,
    /// Events whose own time was asked for and is not believed.
    pub times_off: usize,
}

impl Found {
    pub(super) fn add(&mut self, line: u32, place: Range<u32>, said: Said) {
        self.times_off += usize::from(said.is_time_off);
        let (key, timestamp) = (said.key, said.timestamp);
        self.events.push(Event { value: place, key, timestamp, headers: Vec::new() });
        self.lines.push(line);
    }

    /// Takes events without a key for bad: of a compacted topic nobody could ever tell which is the last.
    pub(super) fn refuse_keyless(&mut self) {
        if self.events.iter().all(|event| event.key.is_some()) {
            return;
        }
        let (events, lines) = (std::mem::take(&mut self.events), std::mem::take(&mut self.lines));
        for (event, line) in events.into_iter().zip(lines) {
            if event.key.is_some() {
                self.events.push(event);
                self.lines.push(line);
            } else {
                self.bad.push(BadLine { line, place: event.value, reason: NO_KEY.to_owned() });
            }
        }
        self.bad.sort_by_key(|bad| bad.line);
    }

    /// Room for about so many more events.
    fn expect(&mut self, count: usize) {
        let count = count.min(EXPECTED_MAX);
        self.events.reserve(count);
        self.lines.reserve(count);
    }

    /// Bytes of memory that it holds beside the body.
    pub fn size(&self) -> usize {
        let pairs = |headers: &Vec<(Bytes, Bytes)>| {
            let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
            headers.capacity() * size_of::<(Bytes, Bytes)>() + bytes
        };
        let of_event = |event: &Event| event.key.as_ref().map_or(0, Bytes::len) + pairs(&event.headers);
        let places = self.events.capacity() * size_of::<Event>() + self.lines.capacity() * size_of::<u32>();
        let bad = self.bad.capacity() * size_of::<BadLine>();
        let reasons: usize = self.bad.iter().map(|bad| bad.reason.capacity()).sum();
        places + self.events.iter().map(of_event).sum::<usize>() + bad + reasons
    }

    /// # Errors
    /// [`BodyError::TooMany`] if this is one event more than a request may have.
    pub(super) fn make_room(&self) -> Result<(), BodyError> {
        if self.events.len() + self.bad.len() >= EVENTS_MAX { Err(BodyError::TooMany) } else { Ok(()) }
    }

    fn judged(&mut self, line: u32, place: Range<usize>, verdict: Result<Said, Fault>) -> Result<(), BodyError> {
        self.make_room()?;
        let place = place.start as u32..place.end as u32;
        match verdict {
            Ok(said) => self.add(line, place, said),
            Err(fault) => self.bad.push(BadLine { line, place, reason: fault.reason }),
        }
        Ok(())
    }
}

/// Finds the events: one value, the elements of an array, or the lines of NDJSON if the first line is a whole value and more follows.
///
/// # Errors
/// [`BodyError`] if the body as a whole cannot be taken.
pub fn split(body: &[u8], judge: &Judge) -> Result<Found, BodyError> {
    // Of JSON it is no part, and editors write it before all else.
    let has_mark = judge.check == HttpCheck::Json && body.starts_with(BYTE_ORDER_MARK);
    let whole = trim(body, if has_mark { BYTE_ORDER_MARK.len() } else { 0 }..body.len());
    if whole.is_empty() {
        return Err(BodyError::Empty);
    }
    let first_line = memchr::memchr(b'\n', &body[whole.clone()]).map(|at| trim(body, whole.start..whole.start + at));
    if body[whole.start] == b'[' {
        match elements(body, whole.clone(), judge) {
            // Lines that are arrays, or plain text that begins like one.
            Err(BodyError::Array(_)) if judge.check != HttpCheck::Json => {}
            Err(BodyError::Array(error)) => {
                if !first_line.as_ref().is_some_and(|line| is_whole(&judge.judge(&body[line.clone()]))) {
                    return Err(BodyError::Array(error));
                }
            }
            found => return found,
        }
    }
    let mut found = Found::default();
    let Some(first_line) = first_line else {
        found.judged(1, whole.clone(), judge.judge(&body[whole]))?;
        return Ok(found);
    };
    let verdict = judge.judge(&body[first_line.clone()]);
    if !is_whole(&verdict) {
        found.judged(1, whole.clone(), judge.judge(&body[whole]))?;
        return Ok(found);
    }
    let mut line = 1 + memchr::memchr_iter(b'\n', &body[..whole.start]).count() as u32;
    let mut from = first_line.end;
    found.expect(whole.len() / (first_line.len() + 1));
    found.judged(line, first_line, verdict)?;
    while let Some(at) = memchr::memchr(b'\n', &body[from..whole.end]) {
        line += 1;
        from += at + 1;
        let end = memchr::memchr(b'\n', &body[from..whole.end]).map_or(whole.end, |at| from + at);
        let place = trim(body, from..end);
        if !place.is_empty() {
            found.judged(line, place.clone(), judge.judge(&body[place]))?;
        }
        from = end;
    }
    Ok(found)
}

/// Whether a line is a value of its own, good or bad.
fn is_whole(verdict: &Result<Said, Fault>) -> bool {
    !matches!(verdict, Err(Fault { is_json: false, .. }))
}

fn elements(body: &[u8], whole: Range<usize>, judge: &Judge) -> Result<Found, BodyError> {
    match plain_elements(body, whole.clone(), judge) {
        Ok(found) => found,
        Err(Odd) => odd_elements(body, whole, judge),
    }
}

/// As [`odd_elements`] for arrays without anything to complain about, which one pass can tell.
fn plain_elements(body: &[u8], whole: Range<usize>, judge: &Judge) -> Scan<Result<Found, BodyError>> {
    let mut found = Found::default();
    let mut scan = Scanner::new(&body[whole.clone()]);
    scan.pass(b'[')?;
    loop {
        scan.token()?;
        let start = whole.start + scan.place();
        scan.skip_within(DEPTH_MAX as u32)?;
        let place = start..whole.start + scan.place();
        let verdict = if judge.has_pointers() { judge.judge(&body[place.clone()]) } else { Ok(judge.unread()) };
        let number = (found.events.len() + found.bad.len()) as u32 + 1;
        if let Err(refused) = found.judged(number, place, verdict) {
            return Ok(Err(refused));
        }
        if scan.pass(b',').is_err() {
            scan.pass(b']')?;
            scan.end()?;
            return Ok(Ok(found));
        }
    }
}

fn odd_elements(body: &[u8], whole: Range<usize>, judge: &Judge) -> Result<Found, BodyError> {
    let array = &body[whole.clone()];
    let Elements(raw) = serde_json::from_slice(array).map_err(|error| match error.to_string() {
        reason if reason.starts_with(TOO_MANY) => BodyError::TooMany,
        reason => BodyError::Array(reason),
    })?;
    let mut found = Found::default();
    for (index, element) in raw.iter().enumerate() {
        // The raw value is a slice of the array: its address says where it stands.
        let start = whole.start + (element.get().as_ptr() as usize - array.as_ptr() as usize);
        let place = start..start + element.get().len();
        let verdict = match judge.has_pointers() {
            true => judge.judge(&body[place.clone()]),
            false if judge.check == HttpCheck::Json && is_too_deep(element.get().as_bytes()) => {
                Err(Fault { reason: format!("nested deeper than {DEPTH_MAX}"), is_json: true })
            }
            // Well-formed JSON in UTF-8, or it were no raw value.
            false => Ok(judge.unread()),
        };
        found.judged(index as u32 + 1, place, verdict)?;
    }
    if raw.is_empty() { Err(BodyError::Empty) } else { Ok(found) }
}

const TOO_MANY: &str = "too many elements";

/// The elements of an array, as they stand in it; never more than a request may have.
struct Elements<'a>(Vec<&'a RawValue>);

impl<'de> serde::Deserialize<'de> for Elements<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ElementsVisitor)
    }
}

struct ElementsVisitor;

impl<'de> Visitor<'de> for ElementsVisitor {
    type Value = Elements<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element::<&RawValue>()? {
            if elements.len() == EVENTS_MAX {
                return Err(A::Error::custom(TOO_MANY));
            }
            elements.push(element);
        }
        Ok(Elements(elements))
    }
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
    use proptest::prelude::*;

    fn judge(check: HttpCheck) -> Judge {
        Judge::new(check, None, None, 0)
    }

    fn found(body: &[u8]) -> Result<Found, BodyError> {
        split(body, &judge(HttpCheck::Json))
    }

    fn texts_by(body: &str, check: HttpCheck) -> Vec<&str> {
        let found = split(body.as_bytes(), &judge(check)).ok().unwrap();
        found.events.iter().map(|event| &body[event.value.start as usize..event.value.end as usize]).collect()
    }

    fn texts(body: &str) -> Vec<&str> {
        texts_by(body, HttpCheck::Json)
    }

    #[test]
    fn one_value_may_span_lines_and_be_no_object() {
        assert_eq!(texts("{\n \"a\": 1\n}\n"), ["{\n \"a\": 1\n}"]);
        assert_eq!(texts(" 17 "), ["17"]);
        assert_eq!(texts("null\n"), ["null"]);
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        for (body, wanted) in [("{\"a\":1}", &["{\"a\":1}"][..]), ("[1,2]", &["1", "2"]), ("\r\n1\n{}\n", &["1", "{}"])]
        {
            assert_eq!(texts(&format!("\u{feff}{body}")), *wanted);
        }
        assert!(matches!(found(BYTE_ORDER_MARK), Err(BodyError::Empty)));
        assert_eq!(texts_by("\u{feff}x", HttpCheck::Utf8), ["\u{feff}x"]);
    }

    #[test]
    fn lines_are_events_and_a_bad_one_ends_at_its_newline() {
        let found = found(b"\n{\"a\":1}\n\n{\"a\":\r\n{\"a\":3}\n \n").ok().unwrap();
        assert_eq!((found.events.len(), found.lines.to_vec(), found.bad.len()), (2, vec![2, 5], 1));
        assert_eq!(found.bad[0].line, 4);
    }

    #[test]
    fn a_first_line_that_is_json_but_no_event_is_a_line_too() {
        let body = format!("{}{}\n{{\"a\":2}}", "[".repeat(40), "]".repeat(40));
        let found = found(body.as_bytes()).ok().unwrap();
        assert_eq!((found.lines.to_vec(), found.bad[0].line), (vec![2], 1));
    }

    #[test]
    fn an_array_gives_its_elements_and_is_refused_if_it_does_not_close() {
        assert_eq!(texts("[{\"a\":[1]} , 2,\"x\"]"), ["{\"a\":[1]}", "2", "\"x\""]);
        assert_eq!(texts("[\n{\"a\":1},\n{\"a\":2}\n]\n"), ["{\"a\":1}", "{\"a\":2}"]);
        assert!(matches!(found(b"[1,2"), Err(BodyError::Array(_))));
        assert!(matches!(found(b"[]"), Err(BodyError::Empty)));
    }

    #[test]
    fn lines_of_arrays_are_lines() {
        assert_eq!(texts("[1,2]\n[3]\n4"), ["[1,2]", "[3]", "4"]);
    }

    #[test]
    fn text_that_begins_like_an_array_is_text_where_text_is_taken() {
        assert_eq!(texts_by("[12:00] started\n[12:01] done", HttpCheck::Utf8), ["[12:00] started", "[12:01] done"]);
        assert_eq!(texts_by("[1,2]", HttpCheck::Utf8), ["1", "2"]);
        assert_eq!(split(b"\xff\nx", &judge(HttpCheck::None)).ok().unwrap().events.len(), 2);
    }

    #[test]
    fn depth_and_encoding_are_judged_by_event() {
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        let body = format!("{{\"a\":1}}\n{{\"a\":{deep}}}\n{{\"a\":\"}}}}]]\\\"\"}}");
        let lines = found(body.as_bytes()).ok().unwrap();
        assert_eq!((lines.events.len(), lines.bad.len()), (2, 1));
        assert_eq!(found(b"{\"a\":\"\xff\"}").ok().unwrap().bad.len(), 1);
        let array = found(format!("[1,{deep}]").as_bytes()).ok().unwrap();
        assert_eq!((array.lines.to_vec(), array.bad[0].line), (vec![1], 2));
    }

    #[test]
    fn more_events_than_a_request_may_have_are_refused_whole() {
        let lines = "1\n".repeat(EVENTS_MAX);
        assert_eq!(found(lines.as_bytes()).ok().unwrap().events.len(), EVENTS_MAX);
        assert!(matches!(found((lines.clone() + "1").as_bytes()), Err(BodyError::TooMany)));
        let array = format!("[{}1]", "1,".repeat(EVENTS_MAX));
        assert!(matches!(found(array.as_bytes()), Err(BodyError::TooMany)));
    }

    proptest! {
        #[test]
        fn an_array_is_read_alike_at_first_sight_and_thoroughly(body in proptest::collection::vec(prop::sample::select(b"[[]]{}\",,,:\n 1ae-.\\\xff".to_vec()), 0..40)) {
            let body = [b"[".as_slice(), &body, b"]"].concat();
            let (plain, key) = (judge(HttpCheck::Json), Judge::new(HttpCheck::Json, Some("/a"), None, 0));
            for judge in [plain, key] {
                let Ok(Ok(fast)) = plain_elements(&body, 0..body.len(), &judge) else { continue };
                let thorough = odd_elements(&body, 0..body.len(), &judge).ok().unwrap();
                prop_assert_eq!(fast.lines, thorough.lines);
                prop_assert_eq!(fast.bad, thorough.bad);
                let places = |events: Events| events.into_iter().map(|event| (event.value, event.key)).collect::<Vec<_>>();
                prop_assert_eq!(places(fast.events), places(thorough.events));
            }
        }

        #[test]
        fn what_is_found_lies_in_the_body_in_order(body in proptest::collection::vec(prop::sample::select(b"[]{}\",:\n\r 1ae\\\xff".to_vec()), 0..80)) {
            for check in [HttpCheck::Json, HttpCheck::Utf8, HttpCheck::None] {
                let Ok(found) = split(&body, &judge(check)) else { continue };
                let mut places: Vec<_> = found.events.iter().map(|event| event.value.clone()).chain(found.bad.iter().map(|bad| bad.place.clone())).collect();
                places.sort_by_key(|place| place.start);
                prop_assert!(places.iter().all(|place| place.start < place.end && place.end as usize <= body.len()));
                prop_assert!(places.windows(2).all(|pair| pair[0].end <= pair[1].start));
                prop_assert!(!places.is_empty());
                if check == HttpCheck::Json {
                    for event in &found.events {
                        let value = &body[event.value.start as usize..event.value.end as usize];
                        prop_assert!(serde_json::from_slice::<serde_json::Value>(value).is_ok());
                    }
                }
            }
        }
    }
}
