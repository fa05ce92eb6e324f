//! One file of JSON lines that grows, compressed or not. Knows nothing of folders, names or cuts.

use super::super::spec::Compression;
use super::place::Unfinished;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use arrow::record_batch::RecordBatch;
use flate2::write::GzEncoder;
use std::io::{self, BufWriter, Write};

/// Lines are handed to the disk in pieces of this size.
const BUFFER_SIZE: usize = 256 << 10;

/// A file that rows are written into, a JSON object a line.
pub(super) enum LineEncoder {
    Plain(BufWriter<Unfinished>),
    Gzip(GzEncoder<BufWriter<Unfinished>>),
    Zstd(zstd::Encoder<'static, BufWriter<Unfinished>>),
}

impl LineEncoder {
    /// # Errors
    /// The system has no memory for it.
    pub(super) fn new(file: Unfinished, compression: Compression) -> io::Result<LineEncoder> {
        let file = BufWriter::with_capacity(BUFFER_SIZE, file);
        Ok(match compression {
            Compression::None => LineEncoder::Plain(file),
            Compression::Gzip => LineEncoder::Gzip(GzEncoder::new(file, flate2::Compression::default())),
            Compression::Zstd(level) => LineEncoder::Zstd(zstd::Encoder::new(file, level)?),
        })
    }

    /// # Errors
    /// The disk's. The file is of no use then.
    pub(super) fn write(&mut self, rows: &RecordBatch) -> io::Result<()> {
        let out: &mut dyn Write = match self {
            LineEncoder::Plain(out) => out,
            LineEncoder::Gzip(out) => out,
            LineEncoder::Zstd(out) => out,
        };
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(out);
        writer.write(rows).and_then(|()| writer.finish()).map_err(io::Error::other)
    }

    /// Bytes so far, but for what the compression holds back.
    pub(super) fn size(&self) -> u64 {
        let out = self.buffer();
        out.get_ref().size() + out.buffer().len() as u64
    }

    /// Lines go to the disk as they come; to a bucket they go by parts.
    pub(super) fn memory_size(&self) -> usize {
        let out = self.buffer();
        out.capacity() + out.get_ref().memory_size()
    }

    fn buffer(&self) -> &BufWriter<Unfinished> {
        match self {
            LineEncoder::Plain(out) => out,
            LineEncoder::Gzip(out) => out.get_ref(),
            LineEncoder::Zstd(out) => out.get_ref(),
        }
    }

    /// Takes away what is there of the file.
    pub(super) fn discard(mut self) {
        let out = match &mut self {
            LineEncoder::Plain(out) => out,
            LineEncoder::Gzip(out) => out.get_mut(),
            LineEncoder::Zstd(out) => out.get_mut(),
        };
        out.get_mut().discard();
    }

    /// Writes what is left; durable is it after the file's own finish.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn close(self) -> io::Result<Unfinished> {
        let out = match self {
            LineEncoder::Plain(out) => out,
            LineEncoder::Gzip(out) => out.finish()?,
            LineEncoder::Zstd(out) => out.finish()?,
        };
        out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}
