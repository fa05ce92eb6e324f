//! Records and their batch: names, offsets, [`Batch`] (a checked view of Kafka's record batch v2), the builder, the codecs.
//!
//! No I/O, no clock. Everything above talks of records in these words.

mod batch;
mod builder;
mod codec;
mod error;
mod header;
mod names;
mod partitioner;
mod retain;
mod walk;
mod zigzag;

pub use batch::{Batch, stamp};
pub use builder::{BatchBuilder, NewRecord};
pub use codec::{Codec, DECODED_SIZE_MAX};
pub use error::BatchError;
pub use header::{HEADER_SIZE, Header, Producer, TimestampType};
pub use names::{CONSUMER_OFFSETS, NameError, Offset, PartitionId, TopicName};
pub use partitioner::{murmur2, partition_for_key};
pub use walk::{Frames, HeadersRef, Record, RecordRef};

/// Producer ids from here on belong to pipelines; the Kafka door refuses them.
pub const PIPELINE_PRODUCER_ID_MIN: i64 = 1 << 62;
