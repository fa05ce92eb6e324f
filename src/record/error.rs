//! What can be wrong with the bytes of a batch.

/// Why bytes are not a batch, or a batch cannot be decoded or built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("the batch is cut off: {found} bytes of {needed}")]
    Short { found: usize, needed: usize },
    #[error("{0} bytes follow the batch, exactly one was expected")]
    Trailing(usize),
    #[error("magic {0} is not 2: only record batch v2 is taken (clients since Kafka 0.11)")]
    Magic(i8),
    #[error("a batch length of {0} is impossible")]
    Length(i32),
    #[error("crc is {found:#010x}, the header says {expected:#010x}")]
    Crc { expected: u32, found: u32 },
    #[error("the header counts {count} records up to offset delta {last_offset_delta}")]
    Count { count: i32, last_offset_delta: i32 },
    #[error("codec {0} is unknown: none, gzip, snappy, lz4 and zstd are (0 to 4)")]
    Codec(u8),
    #[error("attributes {0:#06x} have bits that record batch v2 does not know")]
    Attributes(i16),
    #[error("cannot decompress {codec}: {reason}")]
    Decompress { codec: super::Codec, reason: String },
    #[error("the records decompress to more than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("record {index} is malformed: {what}")]
    Record { index: i32, what: &'static str },
    #[error("the batch has no records")]
    Empty,
}
