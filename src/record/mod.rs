//! Records and their batch: names, offsets, [`Batch`] (a checked view of Kafka's record batch v2), the builder, the codecs.
//!
//! No I/O, no clock. Everything above talks of records in these words.

mod batch;
mod names;

pub use batch::{Batch, BatchBuilder, BatchError, Codec, Header, NewRecord, Producer, Record, TimestampType};
pub use names::{NameError, Offset, PartitionId, TopicName};
