//! What compaction leaves of a batch: some of its records, or none, under the same offsets, sequences, codec and epoch.

use super::builder::{nullable_size, put_nullable};
use super::header::{
    AT_ATTRIBUTES, AT_BASE_TIMESTAMP, AT_COUNT, AT_MAX_TIMESTAMP, ATTRIBUTE_CODEC, ATTRIBUTE_DELETE_HORIZON,
    HEADER_SIZE, Header,
};
use super::{Batch, BatchError, Codec, DECODED_SIZE_MAX, Frames, HeadersRef, RecordRef, TimestampType, zigzag};

impl Batch {
    /// The batch with the records alone whose places in `frames`, its own, are `kept`, ascending. They keep offset, timestamp, key, value
    /// and headers; the greatest timestamp is theirs, unless the log set it. A `horizon` becomes the base timestamp, with its attribute
    /// (KIP-534): it is when the batch's tombstones may go. Compresses anew, in the batch's codec.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`] if the records became larger than readers decompress, by times that lie further from a new base;
    /// [`BatchError::Decompress`] as codecs say.
    ///
    /// # Panics
    /// If there are not so many records.
    pub fn with_records(&self, frames: &Frames, kept: &[usize], horizon: Option<i64>) -> Result<Batch, BatchError> {
        let old = self.header();
        let mut header = Header { count: kept.len() as i32, ..*old };
        if let Some(horizon) = horizon {
            (header.has_delete_horizon, header.base_timestamp) = (true, horizon);
        }
        if old.timestamp_type == TimestampType::CreateTime {
            header.max_timestamp = kept.iter().map(|at| frames.get(*at).timestamp).max().unwrap_or(old.max_timestamp);
        }
        let mut records = Vec::with_capacity(self.size());
        for at in kept {
            put(&mut records, &frames.get(*at), &header);
        }
        if records.len() > DECODED_SIZE_MAX {
            return Err(BatchError::TooLarge { limit: DECODED_SIZE_MAX });
        }
        let mut bytes = self.bytes()[..HEADER_SIZE].to_vec();
        let compressed = header.codec.compress(&records, &mut bytes);
        compressed.map_err(|error| BatchError::Decompress { codec: header.codec, reason: error.to_string() })?;
        Ok(self.sealed_as(bytes, header))
    }

    /// The batch without any record: 61 bytes that keep its offsets, and its producer's epoch and sequences.
    pub fn emptied(&self) -> Batch {
        let header = Header {
            count: 0,
            codec: Codec::None,
            has_delete_horizon: false,
            // No record is based on it; Kafka leaves the greatest timestamp.
            base_timestamp: -1,
            ..*self.header()
        };
        self.sealed_as(self.bytes()[..HEADER_SIZE].to_vec(), header)
    }

    /// `bytes` begin with this batch's header; of it those fields are written anew that compaction changes.
    fn sealed_as(&self, mut bytes: Vec<u8>, header: Header) -> Batch {
        let horizon = if header.has_delete_horizon { ATTRIBUTE_DELETE_HORIZON } else { 0 };
        let kept = self.attributes() & !ATTRIBUTE_CODEC & !ATTRIBUTE_DELETE_HORIZON;
        let attributes = kept | header.codec.attributes() | horizon;
        bytes[AT_ATTRIBUTES..][..2].copy_from_slice(&attributes.to_be_bytes());
        bytes[AT_BASE_TIMESTAMP..][..8].copy_from_slice(&header.base_timestamp.to_be_bytes());
        bytes[AT_MAX_TIMESTAMP..][..8].copy_from_slice(&header.max_timestamp.to_be_bytes());
        bytes[AT_COUNT..][..4].copy_from_slice(&header.count.to_be_bytes());
        Batch::seal(bytes, header)
    }
}

/// Encodes a record of the batch that `header` announces.
fn put(out: &mut Vec<u8>, record: &RecordRef<'_>, header: &Header) {
    let HeadersRef::Raw { bytes: headers, count } = record.headers else {
        unreachable!("the records of frames lie raw in their batch")
    };
    let timestamp_delta = record.timestamp.wrapping_sub(header.base_timestamp);
    let offset_delta = record.offset.0 - header.base_offset.0;
    let size = 1
        + zigzag::size(timestamp_delta)
        + zigzag::size(offset_delta)
        + nullable_size(record.key)
        + nullable_size(record.value)
        + zigzag::size(i64::from(count))
        + headers.len();
    zigzag::put(out, size as i64);
    out.push(0);
    zigzag::put(out, timestamp_delta);
    zigzag::put(out, offset_delta);
    put_nullable(out, record.key);
    put_nullable(out, record.value);
    zigzag::put(out, i64::from(count));
    out.extend_from_slice(headers);
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, NewRecord, Offset, Producer};
    use super::*;

    fn batch(codec: Codec) -> Batch {
        let mut builder = BatchBuilder::new();
        for n in 0..20 {
            let value = vec![b'v'; 40];
            let key = format!("k{n}");
            builder.push(NewRecord {
                timestamp: 5_000 - n,
                key: Some(key.as_bytes()),
                value: (n % 5 != 0).then_some(value.as_slice()),
                headers: &[(b"name", Some(b"one")), (b"none", None)],
            });
        }
        builder.producer(Producer { id: 7, epoch: 3, base_sequence: 100 });
        builder.build(codec).unwrap().stamped(Offset(1_000), 4)
    }

    #[test]
    fn what_is_kept_is_as_it_was_in_every_codec_and_the_rest_is_a_hole() {
        for codec in Codec::ALL {
            for horizon in [None, Some(9_999_999)] {
                let batch = batch(codec);
                let before = batch.records(1 << 20).unwrap();
                let kept = [3, 4, 15];
                let left = batch.with_records(&batch.frames(1 << 20).unwrap(), &kept, horizon).unwrap();
                let left = Batch::check(left.bytes().clone()).unwrap();
                let expected: Vec<_> = kept.iter().map(|at| before[*at].clone()).collect();
                assert_eq!(left.records(1 << 20).unwrap(), expected, "{codec}");
                let (new, old) = (left.header(), batch.header());
                assert_eq!((new.base_offset, new.last_offset_delta), (old.base_offset, old.last_offset_delta));
                assert_eq!((new.producer, new.leader_epoch, new.codec), (old.producer, 4, codec));
                assert_eq!((new.count, new.max_timestamp, new.delete_horizon()), (3, 4_997, horizon));
                assert!(!left.is_dense());
            }
        }
    }

    #[test]
    fn a_time_that_the_log_set_stays() {
        let batch = batch(Codec::Zstd).with_timestamps(TimestampType::LogAppendTime, 77);
        let left = batch.with_records(&batch.frames(1 << 20).unwrap(), &[1], Some(5)).unwrap();
        assert_eq!((left.header().max_timestamp, left.records(1 << 20).unwrap()[0].timestamp), (77, 77));
    }

    #[test]
    fn an_emptied_batch_keeps_offsets_and_sequences() {
        let batch = batch(Codec::Lz4);
        let empty = Batch::check(batch.emptied().bytes().clone()).unwrap();
        assert_eq!((empty.size(), empty.records(0).unwrap().len()), (HEADER_SIZE, 0));
        assert_eq!((empty.base_offset(), empty.next_offset()), (Offset(1_000), Offset(1_020)));
        assert_eq!((empty.header().producer, empty.header().offset_count()), (batch.header().producer, 20));
        assert_eq!(empty.header().max_timestamp, 5_000);
    }
}
