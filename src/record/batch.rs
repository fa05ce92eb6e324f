//! CONTRACT STUB: replaced by the owner of `record/`.

use super::Offset;
use bytes::Bytes;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// The idempotent producer of a batch. `None` in a header when the batch has no producer id (-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
}

/// The 61 bytes before the records, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub base_offset: Offset,
    pub leader_epoch: i32,
    pub crc: u32,
    pub codec: Codec,
    pub timestamp_type: TimestampType,
    pub is_transactional: bool,
    pub is_control: bool,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer: Option<Producer>,
    pub count: i32,
    /// Size of the whole batch in bytes (12 + batch length field).
    pub size: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("{0}")]
    Stub(String),
}

/// One whole v2 batch, checked (magic, sizes, CRC-32C, count = last offset delta + 1, known codec). Cheap to clone.
#[derive(Clone, Debug)]
pub struct Batch {
    pub(crate) bytes: Bytes,
    pub(crate) header: Header,
}

/// One record, borrowed from a decoded batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: Offset,
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// In order; a name may come twice; a value may be null.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// One record to be put into a batch.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

impl Batch {
    /// Checks that `bytes` are exactly one v2 batch.
    pub fn check(bytes: Bytes) -> Result<Batch, BatchError> {
        let _ = bytes;
        unimplemented!()
    }
    /// Splits a chain of batches as a fetch or a segment holds it; a cut tail ends it without error.
    pub fn check_chain(bytes: Bytes) -> Result<Vec<Batch>, BatchError> {
        let _ = bytes;
        unimplemented!()
    }
    pub fn header(&self) -> &Header {
        &self.header
    }
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
    pub fn base_offset(&self) -> Offset {
        self.header.base_offset
    }
    pub fn last_offset(&self) -> Offset {
        self.header.base_offset.plus(self.header.last_offset_delta as i64)
    }
    pub fn next_offset(&self) -> Offset {
        self.last_offset().plus(1)
    }
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
    /// Same batch with base offset and leader epoch written in (both lie outside the CRC). Copies the bytes once.
    pub fn stamped(&self, base_offset: Offset, leader_epoch: i32) -> Batch {
        let _ = (base_offset, leader_epoch);
        unimplemented!()
    }
    /// The records, decompressed in bounded memory (`size_max` bytes of records; more is an error) and walked.
    pub fn records(&self, size_max: usize) -> Result<Vec<Record>, BatchError> {
        let _ = size_max;
        unimplemented!()
    }
    /// The same batch with its records in another codec: same offsets, timestamps, producer fields; new CRC. `None` decompresses.
    pub fn recoded(&self, codec: Codec, size_max: usize) -> Result<Batch, BatchError> {
        let _ = (codec, size_max);
        unimplemented!()
    }
    /// The same batch with `max_timestamp` (and, for log append time, the attribute bit) set anew; new CRC.
    pub fn with_timestamps(&self, timestamp_type: TimestampType, max_timestamp: i64) -> Batch {
        let _ = (timestamp_type, max_timestamp);
        unimplemented!()
    }
}

/// Builds one batch out of records, in order.
pub struct BatchBuilder;

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    pub fn new() -> BatchBuilder {
        unimplemented!()
    }
    pub fn push(&mut self, record: NewRecord<'_>) {
        let _ = record;
        unimplemented!()
    }
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }
    pub fn count(&self) -> usize {
        unimplemented!()
    }
    /// Size of the encoded records so far, uncompressed, in bytes.
    pub fn size(&self) -> usize {
        unimplemented!()
    }
    pub fn producer(&mut self, producer: Producer) {
        let _ = producer;
        unimplemented!()
    }
    /// Base offset 0, leader epoch -1; the writer stamps both. Stored uncompressed where `codec` does not save 10 %.
    pub fn build(self, codec: Codec) -> Result<Batch, BatchError> {
        let _ = codec;
        unimplemented!()
    }
}
