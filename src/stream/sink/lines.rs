//! One file of JSON lines that grows, compressed or not. Knows nothing of folders, names or cuts.

use super::super::spec::Compression;
use super::staged::StagedFile;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use arrow::record_batch::RecordBatch;
use flate2::write::GzEncoder;
use std::io::{self, BufWriter, Write};

/// Lines are handed to the disk in pieces of this size.
const BUFFER_SIZE: usize = 256 << 10;

/// A file that rows are written into, a JSON object a line.
pub(super) enum LineEncoder {
    Plain(BufWriter<StagedFile>),
    Gzip(GzEncoder<BufWriter<StagedFile>>),
    Zstd(zstd::Encoder<'static, BufWriter<StagedFile>>),
}

impl LineEncoder {
    /// # Errors
    /// The system has no memory for it.
    pub(super) fn new(file: StagedFile, compression: Compression) -> io::Result<LineEncoder> {
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
        let out = match self {
            LineEncoder::Plain(out) => out,
            LineEncoder::Gzip(out) => out.get_ref(),
            LineEncoder::Zstd(out) => out.get_ref(),
        };
        out.get_ref().size() + out.buffer().len() as u64
    }

    /// Writes what is left; durable is it after the file's own finish.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn close(self) -> io::Result<StagedFile> {
        let out = match self {
            LineEncoder::Plain(out) => out,
            LineEncoder::Gzip(out) => out.finish()?,
            LineEncoder::Zstd(out) => out.finish()?,
        };
        out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}
