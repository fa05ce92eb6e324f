//! One file of JSON lines that grows, compressed or not. Knows nothing of folders, names or cuts.

use super::super::spec::Compression;
use super::place::Unfinished;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use arrow::record_batch::RecordBatch;
use flate2::write::GzEncoder;
use std::io::{self, BufWriter, Write};

/// Lines are handed to the disk in pieces of this size.
const BUFFER_SIZE: usize = 256 << 10;

/// What gzip keeps of a stream.
const GZIP_SIZE: usize = 320 << 10;
/// What zstd keeps of a stream, by level from 1, in MiB: its window, its tables and two blocks.
const ZSTD_MIB: [usize; 22] = [2, 2, 4, 5, 6, 6, 8, 8, 15, 25, 25, 45, 37, 53, 69, 37, 57, 58, 90, 194, 386, 778];

/// A file that rows are written into, a JSON object a line.
pub(super) enum LineEncoder {
    Plain(BufWriter<Unfinished>),
    Gzip(GzEncoder<BufWriter<Unfinished>>),
    Zstd(zstd::Encoder<'static, BufWriter<Unfinished>>, i32),
}

impl LineEncoder {
    /// # Errors
    /// The system has no memory for it.
    pub(super) fn new(file: Unfinished, compression: Compression) -> io::Result<LineEncoder> {
        let file = BufWriter::with_capacity(BUFFER_SIZE, file);
        Ok(match compression {
            Compression::None => LineEncoder::Plain(file),
            Compression::Gzip => LineEncoder::Gzip(GzEncoder::new(file, flate2::Compression::default())),
            Compression::Zstd(level) => LineEncoder::Zstd(zstd::Encoder::new(file, level)?, level),
        })
    }

    /// # Errors
    /// The disk's. The file is of no use then.
    pub(super) fn write(&mut self, rows: &RecordBatch) -> io::Result<()> {
        let out: &mut dyn Write = match self {
            LineEncoder::Plain(out) => out,
            LineEncoder::Gzip(out) => out,
            LineEncoder::Zstd(out, _) => out,
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
        self.least_size() + self.buffer().get_ref().memory_size()
    }

    /// Of that what it holds from its beginning, and the file behind a cut would hold again.
    pub(super) fn least_size(&self) -> usize {
        let compression = match self {
            LineEncoder::Plain(_) => 0,
            LineEncoder::Gzip(_) => GZIP_SIZE,
            LineEncoder::Zstd(_, level) => zstd_size(*level),
        };
        self.buffer().capacity() + compression
    }

    fn buffer(&self) -> &BufWriter<Unfinished> {
        match self {
            LineEncoder::Plain(out) => out,
            LineEncoder::Gzip(out) => out.get_ref(),
            LineEncoder::Zstd(out, _) => out.get_ref(),
        }
    }

    /// Takes away what is there of the file.
    pub(super) fn discard(mut self) {
        let out = match &mut self {
            LineEncoder::Plain(out) => out,
            LineEncoder::Gzip(out) => out.get_mut(),
            LineEncoder::Zstd(out, _) => out.get_mut(),
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
            LineEncoder::Zstd(out, _) => out.finish()?,
        };
        out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

fn zstd_size(level: i32) -> usize {
    let at = usize::try_from(level).unwrap_or(0).clamp(1, ZSTD_MIB.len()) - 1;
    ZSTD_MIB[at] << 20
}

#[cfg(test)]
mod tests {
    use super::super::staged::StagedFile;
    use super::*;
    use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

    #[test]
    fn what_the_compression_holds_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        // The last three levels want more memory than a test should.
        for level in 1..=19 {
            let mut context = CCtx::create();
            context.set_parameter(CParameter::CompressionLevel(level)).unwrap();
            let (mut out, bytes) = (vec![0; 1 << 20], vec![7; 1 << 20]);
            context.compress_stream(&mut OutBuffer::around(&mut out[..]), &mut InBuffer::around(&bytes)).unwrap();
            let staged = folder.path().join(level.to_string());
            let (file, finished) = (StagedFile::create(&staged).unwrap(), staged.clone());
            let file = Unfinished::File { file, staged, finished };
            let counted = LineEncoder::new(file, Compression::Zstd(level)).unwrap().memory_size() - BUFFER_SIZE;
            let held = context.sizeof();
            assert!(held <= counted && counted <= held * 3 / 2 + (1 << 20), "level {level}: {counted} for {held}");
        }
    }
}
