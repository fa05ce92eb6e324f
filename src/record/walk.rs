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
use std::ops::Range;

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

/// Cuts `records` (decompressed) into the records that `header` announces.
pub(super) fn walk(header: &Header, records: &Bytes) -> Result<Vec<Record>, BatchError> {
    // Seven bytes is the smallest record: a count that the bytes cannot hold reserves no memory.
    let mut out = Vec::with_capacity((header.count.max(0) as usize).min(records.len() / 7 + 1));
    each(header, records, |cursor| {
        out.push(cursor.record(header, records)?);
        Ok(())
    })?;
    Ok(out)
}

/// Looks at every record as [`walk`] does and keeps none: no allocation. A producer's batch has one record for each offset, in order.
/// The greatest timestamp comes back; log append time is not looked at.
pub(super) fn check(header: &Header, records: &[u8]) -> Result<i64, BatchError> {
    let mut greatest = i64::MIN;
    each(header, records, |mut cursor| {
        let (timestamp_delta, offset_delta) = cursor.head(header)?;
        if offset_delta != i64::from(cursor.index) {
            return Err(cursor.bad("its offset is not its place in the batch"));
        }
        cursor.span("its key")?;
        cursor.span("its value")?;
        for _ in 0..cursor.header_count()? {
            cursor.span("a header name")?.ok_or_else(|| cursor.bad("a header name is null"))?;
            cursor.span("a header value")?;
        }
        greatest = greatest.max(header.base_timestamp.wrapping_add(timestamp_delta));
        cursor.finish()
    })?;
    Ok(greatest)
}

/// Tells each record's place.
fn each<'a>(
    header: &Header,
    records: &'a [u8],
    mut on_record: impl FnMut(Cursor<'a>) -> Result<(), BatchError>,
) -> Result<(), BatchError> {
    let mut at = 0;
    for index in 0..header.count {
        let bad = |what| BatchError::Record { index, what };
        let (length, size) = zigzag::get(&records[at..]).ok_or(bad("its length is cut off"))?;
        at += size;
        let length = usize::try_from(length).map_err(|_| bad("its length is negative"))?;
        let end = at.checked_add(length).filter(|end| *end <= records.len()).ok_or(bad("it is cut off"))?;
        on_record(Cursor { bytes: records, at, end, index })?;
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
    /// Copies nothing: the record's parts are slices of `records`, which the cursor walks.
    fn record(mut self, header: &Header, records: &Bytes) -> Result<Record, BatchError> {
        let (timestamp_delta, offset_delta) = self.head(header)?;
        let slice = |span: Option<Range<usize>>| span.map(|span| records.slice(span));
        let key = slice(self.span("its key")?);
        let value = slice(self.span("its value")?);
        let count = self.header_count()?;
        let mut headers = Vec::with_capacity((count as usize).min((self.end - self.at) / 2));
        for _ in 0..count {
            let name = self.span("a header name")?.ok_or_else(|| self.bad("a header name is null"))?;
            headers.push((records.slice(name), slice(self.span("a header value")?)));
        }
        self.finish()?;
        Ok(Record {
            offset: header.base_offset.plus(offset_delta),
            timestamp: match header.timestamp_type {
                TimestampType::CreateTime => header.base_timestamp.wrapping_add(timestamp_delta),
                TimestampType::LogAppendTime => header.max_timestamp,
            },
            key,
            value,
            headers,
        })
    }

    /// Deltas of timestamp and offset.
    fn head(&mut self, header: &Header) -> Result<(i64, i64), BatchError> {
        if self.at == self.end {
            return Err(self.bad("it is empty"));
        }
        self.at += 1;
        let timestamp_delta = self.number("its timestamp")?;
        let offset_delta = self.number("its offset")?;
        if !(0..=i64::from(header.last_offset_delta)).contains(&offset_delta) {
            return Err(self.bad("its offset lies outside the batch"));
        }
        Ok((timestamp_delta, offset_delta))
    }

    fn header_count(&mut self) -> Result<i64, BatchError> {
        let count = self.number("its header count")?;
        if (0..=HEADERS_MAX).contains(&count) { Ok(count) } else { Err(self.bad("its header count is impossible")) }
    }

    fn finish(&self) -> Result<(), BatchError> {
        if self.at == self.end { Ok(()) } else { Err(self.bad("bytes follow its headers")) }
    }

    fn number(&mut self, what: &'static str) -> Result<i64, BatchError> {
        let (value, size) = zigzag::get(&self.bytes[self.at..self.end]).ok_or_else(|| self.bad(what))?;
        self.at += size;
        Ok(value)
    }

    /// Where the next key, value or header part stands; `None` for null.
    fn span(&mut self, what: &'static str) -> Result<Option<Range<usize>>, BatchError> {
        let length = self.number(what)?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| self.bad(what))?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.end).ok_or_else(|| self.bad(what))?;
        let span = self.at..end;
        self.at = end;
        Ok(Some(span))
    }

    fn bad(&self, what: &'static str) -> BatchError {
        BatchError::Record { index: self.index, what }
    }
}
