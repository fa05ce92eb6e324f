//! Recorded events: where they lie, and what a line of them is. A file may be packed (gzip, zstd), or Parquet, whose rows become JSON.

use super::step::JsonLines;
use crate::clock::Clock;
use crate::record::{Offset, Record};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A recorded event is not longer.
pub(super) const LINE_SIZE_MAX: u64 = 100 << 20;
/// What is read of a file at once.
const READ_SIZE: usize = 1 << 20;

/// Events as lines.
pub struct Events {
    pub lines: Box<dyn BufRead>,
    /// Bytes of the file; `None` for what has no end that is known.
    pub size: Option<u64>,
    read: Arc<AtomicU64>,
}

impl Events {
    /// Opens a file; `-` is standard input. What it is, its first bytes say.
    ///
    /// # Errors
    /// The system's; `InvalidData` for a Parquet file that is none.
    pub fn open(path: &Path) -> io::Result<Events> {
        if path.as_os_str() == "-" {
            let read = Arc::<AtomicU64>::default();
            let stdin = Counted { inner: io::stdin(), read: read.clone() };
            return Ok(Events {
                lines: unpacked(Box::new(BufReader::with_capacity(READ_SIZE, stdin)))?,
                size: None,
                read,
            });
        }
        let mut file = File::open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            // A pipe, as of `<(…)`: it is read once.
            let read = Arc::<AtomicU64>::default();
            let lines = BufReader::with_capacity(READ_SIZE, Counted { inner: file, read: read.clone() });
            return Ok(Events { lines: unpacked(Box::new(lines))?, size: None, read });
        }
        let size = about.len();
        let mut magic = Vec::new();
        (&mut file).take(4).read_to_end(&mut magic)?;
        file.rewind()?;
        let read = Arc::<AtomicU64>::default();
        let lines: Box<dyn BufRead> = match magic.as_slice() {
            b"PAR1" => {
                let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(io::Error::other)?;
                let rows = builder.build().map_err(io::Error::other)?;
                return Ok(Events { lines: Box::new(Rows { rows, text: Vec::new(), at: 0 }), size: None, read });
            }
            _ => unpacked(Box::new(BufReader::with_capacity(READ_SIZE, Counted { inner: file, read: read.clone() })))?,
        };
        Ok(Events { lines, size: Some(size), read })
    }

    /// Says how much of the file has been read.
    pub fn progress(&self) -> impl Fn() -> u64 + use<> {
        let read = self.read.clone();
        move || read.load(Ordering::Relaxed)
    }
}

fn unpacked(mut packed: Box<dyn BufRead>) -> io::Result<Box<dyn BufRead>> {
    let begin = packed.fill_buf()?;
    Ok(match begin {
        [0x1f, 0x8b, ..] => Box::new(BufReader::with_capacity(READ_SIZE, flate2::bufread::MultiGzDecoder::new(packed))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(BufReader::with_capacity(READ_SIZE, zstd::stream::read::Decoder::with_buffer(packed)?))
        }
        _ => packed,
    })
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// A Parquet file's rows as lines of JSON.
struct Rows {
    rows: ParquetRecordBatchReader,
    text: Vec<u8>,
    at: usize,
}

impl Read for Rows {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.fill_buf()?;
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Rows {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.text.len() {
            let Some(rows) = self.rows.next() else { break };
            self.text = JsonLines::of(&rows.map_err(io::Error::other)?).map_err(io::Error::other)?.text;
            self.at = 0;
        }
        Ok(&self.text[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.text.len());
    }
}

/// A line as `inrush consume` prints it (an object with `offset`, `timestamp`, `key`, `value`, `headers`), with its `partition` if that stands
/// there; or else the value itself.
pub(super) fn placed_of(line: &[u8], number: i64, clock: &Clock) -> (Option<i32>, Record) {
    let plain = || Record {
        offset: Offset(number),
        timestamp: clock.now_ms(),
        key: None,
        value: Some(Bytes::copy_from_slice(line)),
        headers: Vec::new(),
    };
    let Ok(printed) = serde_json::from_slice::<Printed<'_>>(line) else { return (None, plain()) };
    let decoded = |text: &str| STANDARD.decode(text).ok().map(Bytes::from);
    let bytes = |text: Option<&RawValue>, base64: Option<Cow<'_, str>>| match text {
        None => base64.and_then(|base64| decoded(&base64)),
        Some(text) => text_of(text.get()),
    };
    let header = |(name, value): (&String, &Value)| match (name.strip_suffix("_base64"), value) {
        (Some(name), value) => (Bytes::from(name.to_owned()), value.as_str().and_then(decoded)),
        (None, Value::Null) => (Bytes::from(name.clone()), None),
        (None, Value::String(text)) => (Bytes::from(name.clone()), Some(Bytes::from(text.clone()))),
        (None, other) => (Bytes::from(name.clone()), Some(Bytes::from(other.to_string()))),
    };
    let record = Record {
        offset: Offset(printed.offset),
        timestamp: printed.timestamp,
        key: bytes(printed.key, printed.key_base64),
        value: bytes(printed.value, printed.value_base64),
        headers: printed.headers.iter().map(header).collect(),
    };
    (printed.partition.and_then(|partition| partition.get().parse().ok()), record)
}

/// The record of such a line.
pub fn record_of(line: &[u8], number: i64, clock: &Clock) -> Record {
    placed_of(line, number, clock).1
}

/// A record as it is printed. Its value stays the text that it is.
#[derive(Deserialize)]
struct Printed<'l> {
    #[serde(borrow)]
    partition: Option<&'l RawValue>,
    offset: i64,
    timestamp: i64,
    #[serde(borrow)]
    key: Option<&'l RawValue>,
    key_base64: Option<Cow<'l, str>>,
    #[serde(borrow)]
    value: Option<&'l RawValue>,
    value_base64: Option<Cow<'l, str>>,
    headers: Map<String, Value>,
}

/// What a text of JSON stands for where a record is printed: a string is its text.
fn text_of(json: &str) -> Option<Bytes> {
    match json.as_bytes() {
        b"null" => None,
        [b'"', ..] => serde_json::from_str::<String>(json).ok().map(Bytes::from),
        other => Some(Bytes::copy_from_slice(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::record_batch::RecordBatch;
    use std::io::Write;

    fn lines(path: &Path) -> String {
        let mut text = String::new();
        Events::open(path).unwrap().lines.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn what_a_record_holds_is_what_was_printed_of_it_to_the_last_byte() {
        let of = |line: &str| record_of(line.as_bytes(), 7, &Clock::manual(9));
        let value = r#"{"a":1,"a":12345678901234567890123,"f":1.10,"g":1E400,"h":-0}"#;
        let line = format!(
            r#"{{"partition":0,"offset":3,"timestamp":5,"key":"k\u0031","value":{value},"headers":{{"h":"x","b_base64":"/w==","n":null}}}}"#
        );
        let record = of(&line);
        assert_eq!((record.offset.0, record.timestamp, record.key.as_deref()), (3, 5, Some(b"k1".as_slice())));
        assert_eq!(record.value.as_deref(), Some(value.as_bytes()));
        let headers: Vec<_> = record.headers.iter().map(|(name, value)| (name.as_ref(), value.as_deref())).collect();
        assert_eq!(headers, [(b"h".as_slice(), Some(b"x".as_slice())), (b"b", Some(&[0xff])), (b"n", None)]);
        let bytes = of(r#"{"offset":3,"timestamp":5,"key":null,"value_base64":"/9g=","headers":{}}"#);
        assert_eq!((bytes.key, bytes.value.as_deref()), (None, Some([0xff, 0xd8].as_slice())));
        assert_eq!(of(r#"{"offset":3,"timestamp":5,"key":null,"value":null,"headers":{}}"#).value, None);
        // No record: the value of one.
        for plain in [value, r#"{"offset":3,"timestamp":5}"#, r#"{"offset":"x","timestamp":5,"headers":{}}"#, "x"] {
            assert_eq!((of(plain).offset.0, of(plain).value.as_deref()), (7, Some(plain.as_bytes())), "{plain}");
        }
    }

    #[test]
    fn events_lie_plain_packed_or_as_parquet_and_are_the_same_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let text = "{\"n\":1}\n{\"n\":2}\n";
        std::fs::write(&path, text).unwrap();
        assert_eq!(lines(&path), text);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(text.as_bytes()).unwrap();
        std::fs::write(&path, gzip.finish().unwrap()).unwrap();
        assert_eq!(lines(&path), text);
        std::fs::write(&path, zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
        assert_eq!(lines(&path), text);
        let n: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let rows = RecordBatch::try_from_iter([("n", n)]).unwrap();
        let mut writer =
            parquet::arrow::ArrowWriter::try_new(File::create(&path).unwrap(), rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
        assert_eq!(lines(&path), text);
    }
}
