//! The five codecs of record batch v2. Decoding is bounded: what a batch claims about its size is never believed.

use super::BatchError;
use std::cell::RefCell;
use std::fmt;
use std::io::{Read, Write};

/// What a batch's records may decompress to where the caller knows no smaller limit: a batch of 8 MiB on the wire, eightfold.
pub const DECODED_SIZE_MAX: usize = 64 << 20;

/// Level of our own zstd batches. Level 3 costs a fifth more time and gains nothing on events.
const ZSTD_LEVEL: i32 = 1;
/// As a power of two, the entries of the table in which it looks for repetitions: 32 KiB, which stays in a core's first cache. Level 1 would
/// take twice that for more than 256 KiB, which is 9 % slower and saves 0.7 %.
const ZSTD_HASH_LOG: u32 = 13;
/// The shortest repetition that it looks for. Level 1 takes 6 up to 256 KiB; events repeat in longer pieces: 7 is 2 to 3 % faster
/// and saves 2 % (docs/BENCHMARKS.md has the command).
const ZSTD_MIN_MATCH: u32 = 7;
/// Memory that a thread keeps for its next compression.
const SCRATCH_SIZE_MAX: usize = 2 << 20;
/// The largest zstd window that is read, as a power of two: 8 MiB, what RFC 8878 asks every decoder to have.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// What gzip is written with, only for topics whose `compression.type` asks for it.
const GZIP_LEVEL: u32 = 6;

/// How an LZ4 frame begins, and the bit behind it that says that its blocks stand alone.
const LZ4_MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const LZ4_INDEPENDENT: u8 = 1 << 5;

/// snappy-java's stream header: magic, version 1, compatible from 1. Kafka's Java client reads and writes only this form.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\x00";
const XERIAL_HEADER_SIZE: usize = 16;
const XERIAL_BLOCK_SIZE: usize = 32 << 10;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        })
    }
}

impl Codec {
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    pub(super) fn from_attributes(attributes: i16) -> Result<Codec, BatchError> {
        match attributes & super::header::ATTRIBUTE_CODEC {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            other => Err(BatchError::Codec(other as u8)),
        }
    }

    pub(super) fn attributes(self) -> i16 {
        self as i16
    }

    /// Appends `records` in this codec to `out`. Compression contexts are kept by thread: making one costs more than a small batch.
    ///
    /// # Errors
    /// What the codec's library says; none is known to happen on memory.
    pub(super) fn compress(self, records: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Codec::None => out.extend_from_slice(records),
            Codec::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL));
                encoder.write_all(records)?;
                encoder.finish()?;
            }
            Codec::Snappy => compress_xerial(records, out)?,
            Codec::Lz4 => {
                // Kafka's readers want independent blocks; 64 KiB is what its own writer uses.
                let frame = lz4_flex::frame::FrameInfo::new()
                    .block_mode(lz4_flex::frame::BlockMode::Independent)
                    .block_size(lz4_flex::frame::BlockSize::Max64KB);
                let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, out);
                encoder.write_all(records)?;
                encoder.finish().map_err(std::io::Error::other)?;
            }
            Codec::Zstd => compress_zstd(records, out)?,
        }
        Ok(())
    }

    /// The records, decompressed into at most `size_max` bytes.
    ///
    /// # Errors
    /// [`BatchError::Decompress`] for bytes that are not of this codec, [`BatchError::TooLarge`] past the limit; memory stays bounded by it either way.
    pub(super) fn decompress(self, bytes: &[u8], size_max: usize) -> Result<Vec<u8>, BatchError> {
        match self {
            Codec::None if bytes.len() > size_max => Err(BatchError::TooLarge { limit: size_max }),
            Codec::None => Ok(bytes.to_vec()),
            Codec::Gzip => self.read_bounded(flate2::read::MultiGzDecoder::new(bytes), bytes.len(), size_max),
            Codec::Snappy => decompress_snappy(bytes, size_max),
            Codec::Lz4 => self.read_bounded(lz4_flex::frame::FrameDecoder::new(bytes), bytes.len(), size_max),
            Codec::Zstd => decompress_zstd(bytes, size_max),
        }
    }

    fn read_bounded(self, decoder: impl Read, size: usize, size_max: usize) -> Result<Vec<u8>, BatchError> {
        let mut out = Vec::with_capacity(size.saturating_mul(4).min(size_max));
        // One byte more than allowed tells a full buffer from an overflowing one.
        let read = decoder.take(size_max as u64 + 1).read_to_end(&mut out);
        read.map_err(|error| self.cannot(error))?;
        if out.len() > size_max { Err(BatchError::TooLarge { limit: size_max }) } else { Ok(out) }
    }

    fn cannot(self, reason: impl fmt::Display) -> BatchError {
        BatchError::Decompress { codec: self, reason: reason.to_string() }
    }
}

thread_local! {
    static ZSTD: RefCell<(Option<zstd::bulk::Compressor<'static>>, Vec<u8>)> = const { RefCell::new((None, Vec::new())) };
    static UNZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

fn compress_zstd(records: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    ZSTD.with_borrow_mut(|(kept, scratch)| {
        let compressor = match kept {
            Some(compressor) => compressor,
            None => {
                let compressor = kept.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL)?);
                compressor.set_parameter(zstd::zstd_safe::CParameter::HashLog(ZSTD_HASH_LOG))?;
                compressor.set_parameter(zstd::zstd_safe::CParameter::MinMatch(ZSTD_MIN_MATCH))?;
                compressor
            }
        };
        // Into memory that is there already, then copied: a batch that kept the room for the worst case would hold five times its size in
        // the tail cache, all of it zeroed first.
        scratch.clear();
        scratch.reserve(zstd::zstd_safe::compress_bound(records.len()));
        compressor.compress_to_buffer(records, scratch)?;
        out.extend_from_slice(scratch);
        if scratch.capacity() > SCRATCH_SIZE_MAX {
            *scratch = Vec::new();
        }
        Ok(())
    })
}

fn decompress_zstd(bytes: &[u8], size_max: usize) -> Result<Vec<u8>, BatchError> {
    match zstd::zstd_safe::get_frame_content_size(bytes) {
        Ok(Some(claimed)) if claimed > size_max as u64 => Err(BatchError::TooLarge { limit: size_max }),
        // One frame of known size, as producers write it: one pass into a buffer of that size.
        Ok(Some(claimed)) if is_single_frame(bytes) => UNZSTD.with_borrow_mut(|kept| {
            let decompressor = match kept {
                Some(decompressor) => decompressor,
                None => kept.insert(zstd::bulk::Decompressor::new().map_err(|error| Codec::Zstd.cannot(error))?),
            };
            decompressor.decompress(bytes, claimed as usize).map_err(|error| Codec::Zstd.cannot(error))
        }),
        _ => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(bytes).map_err(|error| Codec::Zstd.cannot(error))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| Codec::Zstd.cannot(error))?;
            Codec::Zstd.read_bounded(decoder, bytes.len(), size_max)
        }
    }
}

fn is_single_frame(bytes: &[u8]) -> bool {
    zstd::zstd_safe::find_frame_compressed_size(bytes) == Ok(bytes.len())
}

fn compress_xerial(records: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    out.extend_from_slice(XERIAL_MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK_SIZE) {
        let at = out.len();
        out.resize(at + 4 + snap::raw::max_compress_len(block.len()), 0);
        let size = encoder.compress(block, &mut out[at + 4..]).map_err(std::io::Error::other)?;
        out[at..at + 4].copy_from_slice(&(size as u32).to_be_bytes());
        out.truncate(at + 4 + size);
    }
    Ok(())
}

/// Whether a frame's blocks refer to those before them, by the descriptor behind its magic number (LZ4 frame format 1.6: bit 5 of the byte
/// says that they do not).
pub(super) fn is_linked_lz4(bytes: &[u8]) -> bool {
    bytes.starts_with(&LZ4_MAGIC) && bytes.get(LZ4_MAGIC.len()).is_some_and(|flags| flags & LZ4_INDEPENDENT == 0)
}

/// librdkafka, franz-go and others write one raw block; Java and Python write snappy-java's stream. Both are legal in a batch.
fn decompress_snappy(bytes: &[u8], size_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    if !bytes.starts_with(XERIAL_MAGIC) {
        unsnap(bytes, &mut out, size_max)?;
        return Ok(out);
    }
    let mut rest =
        bytes.get(XERIAL_HEADER_SIZE..).ok_or_else(|| Codec::Snappy.cannot("the stream header is cut off"))?;
    while !rest.is_empty() {
        let (size, after) =
            rest.split_first_chunk::<4>().ok_or_else(|| Codec::Snappy.cannot("a block length is cut off"))?;
        let size = u32::from_be_bytes(*size) as usize;
        let block = after.get(..size).ok_or_else(|| Codec::Snappy.cannot("a block is cut off"))?;
        unsnap(block, &mut out, size_max)?;
        rest = &after[size..];
    }
    Ok(out)
}

fn unsnap(block: &[u8], out: &mut Vec<u8>, size_max: usize) -> Result<(), BatchError> {
    let claimed = snap::raw::decompress_len(block).map_err(|error| Codec::Snappy.cannot(error))?;
    let from = out.len();
    if from.saturating_add(claimed) > size_max {
        return Err(BatchError::TooLarge { limit: size_max });
    }
    // Snappy cannot expand more than this; a larger claim is a lie that would cost memory before it shows.
    if claimed > block.len().saturating_mul(64) + 64 {
        return Err(Codec::Snappy.cannot("the claimed size is impossible"));
    }
    out.resize(from + claimed, 0);
    let size =
        snap::raw::Decoder::new().decompress(block, &mut out[from..]).map_err(|error| Codec::Snappy.cannot(error))?;
    out.truncate(from + size);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn what_is_compressed_comes_back(bytes in proptest::collection::vec(0u8..8, 0..100_000)) {
            for codec in Codec::ALL {
                let mut packed = Vec::new();
                codec.compress(&bytes, &mut packed).unwrap();
                prop_assert_eq!(&codec.decompress(&packed, bytes.len()).unwrap(), &bytes);
                if !bytes.is_empty() {
                    let refused = codec.decompress(&packed, bytes.len() - 1);
                    prop_assert_eq!(refused, Err(BatchError::TooLarge { limit: bytes.len() - 1 }));
                }
            }
        }

        #[test]
        fn rubbish_is_an_error_within_the_limit(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for codec in Codec::ALL {
                if let Ok(out) = codec.decompress(&bytes, 1000) {
                    prop_assert!(out.len() <= 1000);
                }
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_without_its_memory() {
        let zeros = vec![0u8; 32 << 20];
        for codec in Codec::ALL {
            let mut packed = Vec::new();
            codec.compress(&zeros, &mut packed).unwrap();
            assert_eq!(codec.decompress(&packed, 1 << 20), Err(BatchError::TooLarge { limit: 1 << 20 }), "{codec}");
        }
    }

    #[test]
    fn snappy_is_read_raw_as_librdkafka_writes_it() {
        let raw = snap::raw::Encoder::new().compress_vec(b"one raw block, one raw block").unwrap();
        assert_eq!(Codec::Snappy.decompress(&raw, 100).unwrap(), b"one raw block, one raw block");
    }

    #[test]
    fn lz4_is_written_in_blocks_that_stand_alone_and_linked_ones_are_seen_and_read() {
        let records: Vec<u8> = (0..200_000u32).flat_map(|n| n.wrapping_mul(n).to_be_bytes()).collect();
        let mut own = Vec::new();
        Codec::Lz4.compress(&records, &mut own).unwrap();
        assert!(!is_linked_lz4(&own));
        let frame = lz4_flex::frame::FrameInfo::new().block_mode(lz4_flex::frame::BlockMode::Linked);
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
        encoder.write_all(&records).unwrap();
        let linked = encoder.finish().unwrap();
        assert!(is_linked_lz4(&linked));
        assert_eq!(Codec::Lz4.decompress(&linked, records.len()).unwrap(), records);
        assert!(!is_linked_lz4(&linked[..4]) && !is_linked_lz4(b"rubbish"));
    }

    #[test]
    fn gzip_members_and_zstd_frames_may_follow_each_other() {
        for codec in [Codec::Gzip, Codec::Zstd] {
            let mut packed = Vec::new();
            codec.compress(b"first ", &mut packed).unwrap();
            codec.compress(b"second", &mut packed).unwrap();
            assert_eq!(codec.decompress(&packed, 100).unwrap(), b"first second", "{codec}");
        }
    }
}
