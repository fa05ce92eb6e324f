//! Recorded events: where they lie, and what a line of them is. A file may be packed (gzip, zstd), or Parquet, whose rows become JSON.

use super::step::JsonLines;
use crate::clock::Clock;
use crate::record::{Offset, Record};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde_json::Value;
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
        let size = file.metadata()?.len();
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

/// A line as `inrush consume` prints it (an object with `offset`, `timestamp`, `key`, `value`, `headers`), or else the value itself.
pub fn record_of(line: &[u8], number: i64, clock: &Clock) -> Record {
    let plain = || Record {
        offset: Offset(number),
        timestamp: clock.now_ms(),
        key: None,
        value: Some(Bytes::copy_from_slice(line)),
        headers: Vec::new(),
    };
    let Ok(Value::Object(printed)) = serde_json::from_slice::<Value>(line) else { return plain() };
    let is_printed = ["offset", "timestamp", "headers"].iter().all(|key| printed.contains_key(*key));
    let (Some(offset), Some(timestamp), true) =
        (printed.get("offset").and_then(Value::as_i64), printed.get("timestamp").and_then(Value::as_i64), is_printed)
    else {
        return plain();
    };
    let bytes = |name: &str| -> Option<Bytes> {
        match printed.get(name) {
            None => printed
                .get(&format!("{name}_base64"))
                .and_then(Value::as_str)
                .and_then(|text| STANDARD.decode(text).ok())
                .map(Bytes::from),
            Some(value) => text_of(value),
        }
    };
    let headers = printed.get("headers").and_then(Value::as_object);
    let header = |(name, value): (&String, &Value)| match name.strip_suffix("_base64") {
        Some(name) => {
            (Bytes::from(name.to_owned()), value.as_str().and_then(|text| STANDARD.decode(text).ok()).map(Bytes::from))
        }
        None => (Bytes::from(name.clone()), text_of(value)),
    };
    Record {
        offset: Offset(offset),
        timestamp,
        key: bytes("key"),
        value: bytes("value"),
        headers: headers.into_iter().flatten().map(header).collect(),
    }
}

fn text_of(value: &Value) -> Option<Bytes> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(Bytes::from(text.clone())),
        other => Some(Bytes::from(other.to_string())),
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
