//! The 61 bytes before the records of a batch (KIP-98), big-endian:
//!
//! | at | size | field |
//! |---:|---:|---|
//! | 0 | 8 | base offset (outside the CRC: the writer stamps it) |
//! | 8 | 4 | batch length: bytes from position 12 on |
//! | 12 | 4 | partition leader epoch (outside the CRC too) |
//! | 16 | 1 | magic, 2 |
//! | 17 | 4 | CRC-32C of everything from position 21 on |
//! | 21 | 2 | attributes: 0–2 codec, 3 log append time, 4 transactional, 5 control, 6 delete horizon |
//! | 23 | 4 | last offset delta |
//! | 27 | 8 | base timestamp, ms; with attribute 6 the time at which its tombstones may go (KIP-534) |
//! | 35 | 8 | max timestamp, ms |
//! | 43 | 8 | producer id, −1 = none |
//! | 51 | 2 | producer epoch |
//! | 53 | 4 | base sequence |
//! | 57 | 4 | record count |
//! | 61 | | records, compressed as a whole |

use super::{BatchError, Codec, Offset};

/// Bytes before the records.
pub const HEADER_SIZE: usize = 61;
/// Bytes that the length field does not count.
pub(super) const BEFORE_LENGTH: usize = 12;
/// Where the bytes that the CRC covers begin.
pub(super) const CRC_FROM: usize = 21;

pub(super) const AT_LENGTH: usize = 8;
pub(super) const AT_LEADER_EPOCH: usize = 12;
pub(super) const AT_MAGIC: usize = 16;
pub(super) const AT_CRC: usize = 17;
pub(super) const AT_ATTRIBUTES: usize = 21;
pub(super) const AT_LAST_OFFSET_DELTA: usize = 23;
pub(super) const AT_BASE_TIMESTAMP: usize = 27;
pub(super) const AT_MAX_TIMESTAMP: usize = 35;
pub(super) const AT_PRODUCER_ID: usize = 43;
pub(super) const AT_PRODUCER_EPOCH: usize = 51;
pub(super) const AT_BASE_SEQUENCE: usize = 53;
pub(super) const AT_COUNT: usize = 57;

pub(super) const ATTRIBUTE_CODEC: i16 = 0x07;
pub(super) const ATTRIBUTE_LOG_APPEND_TIME: i16 = 0x08;
const ATTRIBUTE_TRANSACTIONAL: i16 = 0x10;
const ATTRIBUTE_CONTROL: i16 = 0x20;
pub(super) const ATTRIBUTE_DELETE_HORIZON: i16 = 0x40;

/// What a record's timestamp means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// The idempotent producer of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    /// Sequence of the batch's first record; wraps from 2^31−1 to 0.
    pub base_sequence: i32,
}

/// The header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub base_offset: Offset,
    /// Bytes of the whole batch.
    pub size: usize,
    pub leader_epoch: i32,
    pub crc: u32,
    pub codec: Codec,
    pub timestamp_type: TimestampType,
    pub is_transactional: bool,
    pub is_control: bool,
    /// The base timestamp is when its tombstones may go: set by the first compaction that met them (KIP-534).
    pub has_delete_horizon: bool,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    /// −1 if the client left it unset.
    pub max_timestamp: i64,
    /// `None` for producer id −1.
    pub producer: Option<Producer>,
    pub count: i32,
}

impl Header {
    /// Decodes the header in front of `bytes`, which may go on or end anywhere after it. Sizes and counts are plausible when it
    /// returns; the CRC is not looked at, since its bytes may not be there.
    ///
    /// # Errors
    /// [`BatchError`]: fewer than [`HEADER_SIZE`] bytes, other magic, impossible length or count, unknown codec.
    pub fn parse(bytes: &[u8]) -> Result<Header, BatchError> {
        let Some(head) = bytes.first_chunk::<HEADER_SIZE>() else {
            return Err(BatchError::Short { found: bytes.len(), needed: HEADER_SIZE });
        };
        let magic = head[AT_MAGIC] as i8;
        if magic != 2 {
            return Err(BatchError::Magic(magic));
        }
        let length = read_i32(head, AT_LENGTH);
        if length < (HEADER_SIZE - BEFORE_LENGTH) as i32 {
            return Err(BatchError::Length(length));
        }
        let attributes = i16::from_be_bytes([head[AT_ATTRIBUTES], head[AT_ATTRIBUTES + 1]]);
        let (last_offset_delta, count) = (read_i32(head, AT_LAST_OFFSET_DELTA), read_i32(head, AT_COUNT));
        // Compaction may leave fewer records than offsets; a producer may not (checked at the door: `Batch::is_dense`).
        if count < 0 || last_offset_delta < 0 || i64::from(count) > i64::from(last_offset_delta) + 1 {
            return Err(BatchError::Count { count, last_offset_delta });
        }
        let producer_id = read_i64(head, AT_PRODUCER_ID);
        Ok(Header {
            base_offset: Offset(read_i64(head, 0)),
            size: length as usize + BEFORE_LENGTH,
            leader_epoch: read_i32(head, AT_LEADER_EPOCH),
            crc: read_i32(head, AT_CRC) as u32,
            codec: Codec::from_attributes(attributes)?,
            timestamp_type: if attributes & ATTRIBUTE_LOG_APPEND_TIME == 0 {
                TimestampType::CreateTime
            } else {
                TimestampType::LogAppendTime
            },
            is_transactional: attributes & ATTRIBUTE_TRANSACTIONAL != 0,
            is_control: attributes & ATTRIBUTE_CONTROL != 0,
            has_delete_horizon: attributes & ATTRIBUTE_DELETE_HORIZON != 0,
            last_offset_delta,
            base_timestamp: read_i64(head, AT_BASE_TIMESTAMP),
            max_timestamp: read_i64(head, AT_MAX_TIMESTAMP),
            producer: (producer_id >= 0).then(|| Producer {
                id: producer_id,
                epoch: i16::from_be_bytes([head[AT_PRODUCER_EPOCH], head[AT_PRODUCER_EPOCH + 1]]),
                base_sequence: read_i32(head, AT_BASE_SEQUENCE),
            }),
            count,
        })
    }

    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }

    pub fn next_offset(&self) -> Offset {
        self.last_offset().plus(1)
    }

    /// Offsets, and with a producer sequences, that it takes: after compaction more than it has records.
    pub fn offset_count(&self) -> i64 {
        i64::from(self.last_offset_delta) + 1
    }

    /// When its tombstones may go, ms since 1970; `None` before a compaction has met them.
    pub fn delete_horizon(&self) -> Option<i64> {
        self.has_delete_horizon.then_some(self.base_timestamp)
    }
}

fn read_i32(head: &[u8; HEADER_SIZE], at: usize) -> i32 {
    i32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

fn read_i64(head: &[u8; HEADER_SIZE], at: usize) -> i64 {
    (i64::from(read_i32(head, at)) << 32) | i64::from(read_i32(head, at + 4) as u32)
}
