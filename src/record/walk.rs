//! Walking the records of a decompressed batch:
//!
//! | field | form |
//! |---|---|
//! | length of what follows | varint |
//! | attributes | 1 byte, unused |
//! | timestamp delta | varlong |
//! | offset delta | varint |
//! | key, value | varint length (−1 = null), bytes |
//! | header count, then name and value of each | varint; value may be null, name not |

use super::header::Header;
use super::{BatchError, Offset, TimestampType, zigzag};
use bytes::Bytes;

/// More headers than this on one record are taken for damage.
const HEADERS_MAX: i64 = 100_000;

/// One record; its parts are slices of the batch's decompressed bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: Offset,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// In order; a name may come twice; a value may be null.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// A record looked at where it lies: no allocation, no counted reference.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    pub offset: Offset,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: HeadersRef<'a>,
}

/// The headers of a [`RecordRef`], in order.
#[derive(Clone, Copy, Debug)]
pub enum HeadersRef<'a> {
    Cut(&'a [(Bytes, Option<Bytes>)]),
    /// As they lie in the batch, walked once already.
    Raw {
        bytes: &'a [u8],
        count: u32,
    },
}

/// The records of a batch as places in its decompressed bytes: 56 bytes a record, whatever its parts.
#[derive(Clone, Debug)]
pub struct Frames {
    bytes: Bytes,
    frames: Vec<Frame>,
}

#[derive(Clone, Debug)]
struct Frame {
    offset: Offset,
    timestamp: i64,
    key: Option<Span>,
    value: Option<Span>,
    headers: Span,
    header_count: u32,
}

/// From and to; decompressed bytes are far below 4 GiB ([`super::DECODED_SIZE_MAX`]).
#[derive(Clone, Copy, Debug)]
struct Span {
    from: u32,
    to: u32,
}

impl Record {
    pub fn by_ref(&self) -> RecordRef<'_> {
        RecordRef {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: HeadersRef::Cut(&self.headers),
        }
    }
}

impl<'a> HeadersRef<'a> {
    pub fn len(&self) -> usize {
        match self {
            HeadersRef::Cut(headers) => headers.len(),
            HeadersRef::Raw { count, .. } => *count as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names and values.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let (cut, raw): (&[_], _) = match self {
            HeadersRef::Cut(headers) => (headers, (&[][..], 0)),
            HeadersRef::Raw { bytes, count } => (&[], (bytes, count)),
        };
        let cut = cut.iter().map(|(name, value)| (name.as_ref(), value.as_deref()));
        let mut rest = raw.0;
        cut.chain((0..raw.1).map_while(move |_| Some((nullable(&mut rest)??, nullable(&mut rest)?))))
    }

    /// The value of the last header of that name: a later one replaces an earlier one. The outer `None` = there is none.
    pub fn last(self, wanted: &[u8]) -> Option<Option<&'a [u8]>> {
        self.iter().filter(|(name, _)| *name == wanted).last().map(|(_, value)| value)
    }
}

/// Takes a length and so many bytes from the front; `None` past the end, which a walk has ruled out before.
fn nullable<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, size) = zigzag::get(rest)?;
    *rest = rest.get(size..)?;
    if length < 0 {
        return Some(None);
    }
    let (bytes, after) = rest.split_at_checked(length as usize)?;
    *rest = after;
    Some(Some(bytes))
}

impl Frames {
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Looks at a record.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn get(&self, index: usize) -> RecordRef<'_> {
        self.frames[index].of(&self.bytes)
    }

    /// All records, in order.
    pub fn iter(&self) -> impl Iterator<Item = RecordRef<'_>> {
        self.frames.iter().map(|frame| frame.of(&self.bytes))
    }

    /// A record with parts of its own, that share the batch's bytes.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn record(&self, index: usize) -> Record {
        let frame = &self.frames[index];
        let shared = |span: Span| self.bytes.slice(span.from as usize..span.to as usize);
        let owned = |part: &[u8]| self.bytes.slice_ref(part);
        let headers = self.get(index).headers.iter().map(|(name, value)| (owned(name), value.map(owned)));
        Record {
            offset: frame.offset,
            timestamp: frame.timestamp,
            key: frame.key.map(shared),
            value: frame.value.map(shared),
            headers: headers.collect(),
        }
    }
}

impl Frame {
    /// The record, in the bytes that it was found in.
    fn of<'a>(&self, bytes: &'a [u8]) -> RecordRef<'a> {
        let slice = |span: Span| &bytes[span.from as usize..span.to as usize];
        RecordRef {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.map(slice),
            value: self.value.map(slice),
            headers: HeadersRef::Raw { bytes: slice(self.headers), count: self.header_count },
        }
    }
}

/// Cuts `records` (decompressed) into the records that `header` announces.
pub(super) fn walk(header: &Header, records: Bytes) -> Result<Frames, BatchError> {
    // Seven bytes is the smallest record: a count that the bytes cannot hold reserves no memory.
    let mut frames = Vec::with_capacity((header.count.max(0) as usize).min(records.len() / 7 + 1));
    each(header, &records, |_, frame| {
        frames.push(frame);
        Ok(())
    })?;
    Ok(Frames { bytes: records, frames })
}

/// Shows every record as [`walk`] finds it and keeps none: no allocation. A producer's batch has one record for each offset, in order.
pub(super) fn check(
    header: &Header,
    records: &[u8],
    mut on_record: impl FnMut(i32, RecordRef<'_>),
) -> Result<(), BatchError> {
    each(header, records, |index, frame| {
        if frame.offset != header.base_offset.plus(i64::from(index)) {
            return Err(BatchError::Record { index, what: "its offset is not its place in the batch" });
        }
        on_record(index, frame.of(records));
        Ok(())
    })
}

/// Tells each record's number and place.
fn each(
    header: &Header,
    records: &[u8],
    mut on_frame: impl FnMut(i32, Frame) -> Result<(), BatchError>,
) -> Result<(), BatchError> {
    let mut at = 0;
    for index in 0..header.count {
        let bad = |what| BatchError::Record { index, what };
        let (length, size) = zigzag::get(&records[at..]).ok_or(bad("its length is cut off"))?;
        at += size;
        let length = usize::try_from(length).map_err(|_| bad("its length is negative"))?;
        let end = at.checked_add(length).filter(|end| *end <= records.len()).ok_or(bad("it is cut off"))?;
        on_frame(index, Cursor { bytes: records, at, end, index }.frame(header)?)?;
        at = end;
    }
    if at < records.len() {
        return Err(BatchError::Record { index: header.count, what: "bytes follow the last one" });
    }
    Ok(())
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
    index: i32,
}

impl Cursor<'_> {
    fn frame(mut self, header: &Header) -> Result<Frame, BatchError> {
        if self.at == self.end {
            return Err(self.bad("it is empty"));
        }
        self.at += 1;
        let timestamp_delta = self.number("its timestamp")?;
        let offset_delta = self.number("its offset")?;
        if !(0..=i64::from(header.last_offset_delta)).contains(&offset_delta) {
            return Err(self.bad("its offset lies outside the batch"));
        }
        let key = self.nullable("its key")?;
        let value = self.nullable("its value")?;
        let count = self.number("its header count")?;
        if !(0..=HEADERS_MAX).contains(&count) {
            return Err(self.bad("its header count is impossible"));
        }
        let headers_from = self.at;
        for _ in 0..count {
            self.nullable("a header name")?.ok_or_else(|| self.bad("a header name is null"))?;
            self.nullable("a header value")?;
        }
        if self.at != self.end {
            return Err(self.bad("bytes follow its headers"));
        }
        Ok(Frame {
            offset: header.base_offset.plus(offset_delta),
            timestamp: match header.timestamp_type {
                TimestampType::CreateTime => header.base_timestamp.wrapping_add(timestamp_delta),
                TimestampType::LogAppendTime => header.max_timestamp,
            },
            key,
            value,
            headers: self.span(headers_from, self.end)?,
            header_count: count as u32,
        })
    }

    fn number(&mut self, what: &'static str) -> Result<i64, BatchError> {
        let (value, size) = zigzag::get(&self.bytes[self.at..self.end]).ok_or_else(|| self.bad(what))?;
        self.at += size;
        Ok(value)
    }

    fn nullable(&mut self, what: &'static str) -> Result<Option<Span>, BatchError> {
        let length = self.number(what)?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| self.bad(what))?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.end).ok_or_else(|| self.bad(what))?;
        let span = self.span(self.at, end)?;
        self.at = end;
        Ok(Some(span))
    }

    fn span(&self, from: usize, to: usize) -> Result<Span, BatchError> {
        let place = |at: usize| u32::try_from(at).map_err(|_| self.bad("it lies beyond 4 GiB"));
        Ok(Span { from: place(from)?, to: place(to)? })
    }

    fn bad(&self, what: &'static str) -> BatchError {
        BatchError::Record { index: self.index, what }
    }
}
