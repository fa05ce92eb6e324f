//! [`Batch`]: one whole record batch v2 whose bytes were checked once; everything past the edge relies on it.

use super::header::{
    AT_ATTRIBUTES, AT_CRC, AT_LEADER_EPOCH, AT_LENGTH, AT_MAX_TIMESTAMP, ATTRIBUTE_CODEC, ATTRIBUTE_LOG_APPEND_TIME,
    BEFORE_LENGTH, CRC_FROM, HEADER_SIZE, Header,
};
use super::{BatchError, Codec, Frames, Offset, Record, RecordRef, TimestampType, codec, walk};
use bytes::Bytes;

/// One checked batch. Clones share its bytes.
#[derive(Clone, Debug)]
pub struct Batch {
    bytes: Bytes,
    header: Header,
}

impl Batch {
    /// Checks that `bytes` are exactly one batch: magic, sizes, counts, codec, CRC. The records are not decompressed.
    ///
    /// # Errors
    /// [`BatchError`] with the first thing that is wrong.
    pub fn check(bytes: Bytes) -> Result<Batch, BatchError> {
        let header = Batch::check_bytes(&bytes)?;
        Ok(Batch { bytes, header })
    }

    /// As [`Batch::check`] for bytes that stay where they are: nothing is copied or kept.
    ///
    /// # Errors
    /// As there.
    pub fn check_bytes(bytes: &[u8]) -> Result<Header, BatchError> {
        let header = Header::parse(bytes)?;
        if bytes.len() < header.size {
            return Err(BatchError::Short { found: bytes.len(), needed: header.size });
        }
        if bytes.len() > header.size {
            return Err(BatchError::Trailing(bytes.len() - header.size));
        }
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        if crc != header.crc {
            return Err(BatchError::Crc { expected: header.crc, found: crc });
        }
        Ok(header)
    }

    /// Cuts a chain of batches, as a segment or a fetch holds it. A batch that is cut off at the end, or zeros there, end the chain
    /// without an error (a fetch may cut its last batch, an active segment is padded).
    ///
    /// # Errors
    /// The first whole batch that is not right.
    pub fn check_chain(mut bytes: Bytes) -> Result<Vec<Batch>, BatchError> {
        let mut batches = Vec::new();
        while bytes.len() >= HEADER_SIZE && bytes[..HEADER_SIZE].iter().any(|byte| *byte != 0) {
            let size = Header::parse(&bytes)?.size;
            if size > bytes.len() {
                break;
            }
            batches.push(Batch::check(bytes.split_to(size))?);
        }
        Ok(batches)
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The batch as it goes to disk and wire.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn base_offset(&self) -> Offset {
        self.header.base_offset
    }

    pub fn last_offset(&self) -> Offset {
        self.header.last_offset()
    }

    pub fn next_offset(&self) -> Offset {
        self.header.next_offset()
    }

    /// Bytes of the whole batch.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Whether every offset has its record, as a producer must send it: only compaction leaves gaps.
    pub fn is_dense(&self) -> bool {
        self.header.count > 0 && self.header.count - 1 == self.header.last_offset_delta
    }

    /// Whether it is lz4 in blocks that need those before them. Kafka's own reader refuses them, so they must not reach a log that it reads.
    pub fn has_linked_blocks(&self) -> bool {
        self.header.codec == Codec::Lz4 && codec::is_linked_lz4(&self.bytes[HEADER_SIZE..])
    }

    /// The same batch with base offset and leader epoch written in. Both lie outside the CRC. Copies the bytes once.
    pub fn stamped(&self, base_offset: Offset, leader_epoch: i32) -> Batch {
        let bytes = stamped_copy(&self.bytes, base_offset, leader_epoch);
        Batch { bytes, header: Header { base_offset, leader_epoch, ..self.header } }
    }

    /// As [`Batch::stamped`], in place where nobody else holds the bytes and they are not a small part of something larger: then nothing
    /// is copied. Else once, so that a batch in a cache keeps no whole request alive.
    pub fn into_stamped(self, base_offset: Offset, leader_epoch: i32) -> Batch {
        let header = Header { base_offset, leader_epoch, ..self.header };
        let bytes = match self.bytes.try_into_mut() {
            Ok(mut bytes) if bytes.capacity() <= 2 * bytes.len() => {
                stamp(&mut bytes, base_offset, leader_epoch);
                bytes.freeze()
            }
            Ok(part) => stamped_copy(&part, base_offset, leader_epoch),
            Err(shared) => stamped_copy(&shared, base_offset, leader_epoch),
        };
        Batch { bytes, header }
    }

    /// The records in order; their parts share one decompressed buffer of at most `size_max` bytes.
    ///
    /// # Errors
    /// [`BatchError::Decompress`], [`BatchError::TooLarge`], [`BatchError::Record`]: a right CRC says only that the client meant it so.
    pub fn records(&self, size_max: usize) -> Result<Vec<Record>, BatchError> {
        let frames = self.frames(size_max)?;
        Ok((0..frames.len()).map(|index| frames.record(index)).collect())
    }

    /// As [`Batch::records`], without an allocation and counted references a record: for who goes through many and keeps few.
    ///
    /// # Errors
    /// As there.
    pub fn frames(&self, size_max: usize) -> Result<Frames, BatchError> {
        walk::walk(&self.header, self.decompressed(size_max)?)
    }

    /// Looks at every record of a producer's batch without keeping any: each whole, one for each offset, in order. Returns the greatest of
    /// their timestamps. Decompresses where it must; an uncompressed batch costs no allocation.
    ///
    /// # Errors
    /// As [`Batch::records`].
    pub fn check_records(&self, size_max: usize) -> Result<i64, BatchError> {
        let mut greatest = i64::MIN;
        self.check_each(size_max, |_, record| greatest = greatest.max(record.timestamp))?;
        Ok(greatest)
    }

    /// As [`Batch::check_records`], and shows each record with its place in the batch.
    ///
    /// # Errors
    /// As there.
    pub fn check_each(&self, size_max: usize, on_record: impl FnMut(i32, RecordRef<'_>)) -> Result<(), BatchError> {
        walk::check(&self.header, &self.decompressed(size_max)?, on_record)
    }

    /// The same records in another codec: offsets, timestamps and producer fields stay, the CRC is new. Decompresses and compresses whole.
    ///
    /// # Errors
    /// [`BatchError::Decompress`] or [`BatchError::TooLarge`] for the old records.
    pub fn recoded(&self, codec: Codec, size_max: usize) -> Result<Batch, BatchError> {
        let records = self.decompressed(size_max)?;
        let mut bytes = Vec::with_capacity(HEADER_SIZE + records.len() / 2);
        bytes.extend_from_slice(&self.bytes[..HEADER_SIZE]);
        let compressed = codec.compress(&records, &mut bytes);
        compressed.map_err(|error| BatchError::Decompress { codec, reason: error.to_string() })?;
        let attributes = self.attributes() & !ATTRIBUTE_CODEC | codec.attributes();
        bytes[AT_ATTRIBUTES..AT_ATTRIBUTES + 2].copy_from_slice(&attributes.to_be_bytes());
        Ok(Batch::seal(bytes, Header { codec, ..self.header }))
    }

    /// The same batch with `max_timestamp` written in, for clients that leave it unset, and for log append time with its attribute bit. New CRC.
    pub fn with_timestamps(&self, timestamp_type: TimestampType, max_timestamp: i64) -> Batch {
        let mut bytes = self.bytes.to_vec();
        let attributes = match timestamp_type {
            TimestampType::CreateTime => self.attributes() & !ATTRIBUTE_LOG_APPEND_TIME,
            TimestampType::LogAppendTime => self.attributes() | ATTRIBUTE_LOG_APPEND_TIME,
        };
        bytes[AT_ATTRIBUTES..AT_ATTRIBUTES + 2].copy_from_slice(&attributes.to_be_bytes());
        bytes[AT_MAX_TIMESTAMP..AT_MAX_TIMESTAMP + 8].copy_from_slice(&max_timestamp.to_be_bytes());
        Batch::seal(bytes, Header { timestamp_type, max_timestamp, ..self.header })
    }

    /// Writes length and CRC over finished bytes; `header` must be what they decode to but for size and CRC.
    pub(super) fn seal(mut bytes: Vec<u8>, header: Header) -> Batch {
        let length = (bytes.len() - BEFORE_LENGTH) as i32;
        bytes[AT_LENGTH..AT_LENGTH + 4].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[AT_CRC..AT_CRC + 4].copy_from_slice(&crc.to_be_bytes());
        Batch { header: Header { size: bytes.len(), crc, ..header }, bytes: bytes.into() }
    }

    pub(super) fn attributes(&self) -> i16 {
        i16::from_be_bytes([self.bytes[AT_ATTRIBUTES], self.bytes[AT_ATTRIBUTES + 1]])
    }

    fn decompressed(&self, size_max: usize) -> Result<Bytes, BatchError> {
        let records = self.bytes.slice(HEADER_SIZE..);
        match self.header.codec {
            Codec::None if records.len() <= size_max => Ok(records),
            codec => codec.decompress(&records, size_max).map(Bytes::from),
        }
    }
}

fn stamped_copy(bytes: &[u8], base_offset: Offset, leader_epoch: i32) -> Bytes {
    let mut copy = bytes.to_vec();
    stamp(&mut copy, base_offset, leader_epoch);
    copy.into()
}

/// Writes base offset and leader epoch into the bytes of a batch, which stays valid: the CRC covers neither.
///
/// # Panics
/// If `bytes` are shorter than a batch's header.
pub fn stamp(bytes: &mut [u8], base_offset: Offset, leader_epoch: i32) {
    bytes[..8].copy_from_slice(&base_offset.0.to_be_bytes());
    bytes[AT_LEADER_EPOCH..AT_LEADER_EPOCH + 4].copy_from_slice(&leader_epoch.to_be_bytes());
}
