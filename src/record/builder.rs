//! [`BatchBuilder`]: records in, one batch out. Used by the batcher, by pipelines and by tests.

use super::header::{
    AT_ATTRIBUTES, AT_BASE_SEQUENCE, AT_BASE_TIMESTAMP, AT_COUNT, AT_LAST_OFFSET_DELTA, AT_LEADER_EPOCH, AT_MAGIC,
    AT_MAX_TIMESTAMP, AT_PRODUCER_EPOCH, AT_PRODUCER_ID, HEADER_SIZE, Header,
};
use super::{Batch, BatchError, Codec, Offset, Producer, TimestampType, zigzag};

/// One record to be put into a batch.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

/// Gathers encoded records; one growing buffer, no allocation per record.
#[derive(Debug)]
pub struct BatchBuilder {
    /// Room for the header, then the records uncompressed.
    bytes: Vec<u8>,
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
    producer: Option<Producer>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    pub fn new() -> BatchBuilder {
        Self::reusing(Vec::new())
    }

    /// A builder that writes into `buffer`'s memory.
    pub fn reusing(mut buffer: Vec<u8>) -> BatchBuilder {
        buffer.clear();
        buffer.resize(HEADER_SIZE, 0);
        BatchBuilder { bytes: buffer, base_timestamp: 0, max_timestamp: -1, count: 0, producer: None }
    }

    /// Adds a record at the end.
    pub fn push(&mut self, record: NewRecord<'_>) {
        if self.count == 0 {
            self.base_timestamp = record.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        let timestamp_delta = record.timestamp.wrapping_sub(self.base_timestamp);
        let offset_delta = i64::from(self.count);
        let out = &mut self.bytes;
        zigzag::put(out, encoded_size(&record, timestamp_delta, offset_delta) as i64);
        out.push(0);
        zigzag::put(out, timestamp_delta);
        zigzag::put(out, offset_delta);
        put_nullable(out, record.key);
        put_nullable(out, record.value);
        zigzag::put(out, record.headers.len() as i64);
        for (name, value) in record.headers {
            put_nullable(out, Some(name));
            put_nullable(out, *value);
        }
        self.count += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Records so far.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Bytes of the batch so far, uncompressed, with its header.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Makes it the batch of an idempotent producer.
    pub fn producer(&mut self, producer: Producer) {
        self.producer = Some(producer);
    }

    /// The batch, with base offset 0 and no leader epoch: the writer stamps both. Where `codec` does not save a tenth, it stays uncompressed.
    ///
    /// # Errors
    /// [`BatchError::Empty`] without a record.
    pub fn build(self, codec: Codec) -> Result<Batch, BatchError> {
        self.build_reclaiming(codec).map(|(batch, _)| batch)
    }

    /// As [`BatchBuilder::build`], and gives the buffer back if the batch did not take it.
    ///
    /// # Errors
    /// [`BatchError::Empty`] without a record.
    pub fn build_reclaiming(mut self, codec: Codec) -> Result<(Batch, Option<Vec<u8>>), BatchError> {
        if self.count == 0 {
            return Err(BatchError::Empty);
        }
        let records_size = self.bytes.len() - HEADER_SIZE;
        let mut compressed = Vec::new();
        if codec != Codec::None {
            compressed.resize(HEADER_SIZE, 0);
            let done = codec.compress(&self.bytes[HEADER_SIZE..], &mut compressed);
            if done.is_err() || compressed.len() - HEADER_SIZE > records_size - records_size / 10 {
                compressed.clear();
            }
        }
        let is_compressed = !compressed.is_empty();
        let header = self.header(if is_compressed { codec } else { Codec::None });
        let (mut bytes, spare) =
            if is_compressed { (compressed, Some(self.bytes)) } else { (std::mem::take(&mut self.bytes), None) };
        write_header(&mut bytes, &header);
        Ok((Batch::seal(bytes, header), spare))
    }

    fn header(&self, codec: Codec) -> Header {
        Header {
            base_offset: Offset(0),
            size: 0,
            leader_epoch: -1,
            crc: 0,
            codec,
            timestamp_type: TimestampType::CreateTime,
            is_transactional: false,
            is_control: false,
            has_delete_horizon: false,
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer: self.producer,
            count: self.count,
        }
    }
}

fn write_header(bytes: &mut [u8], header: &Header) {
    let producer = header.producer.unwrap_or(Producer { id: -1, epoch: -1, base_sequence: -1 });
    bytes[..8].copy_from_slice(&header.base_offset.0.to_be_bytes());
    bytes[AT_LEADER_EPOCH..][..4].copy_from_slice(&header.leader_epoch.to_be_bytes());
    bytes[AT_MAGIC] = 2;
    bytes[AT_ATTRIBUTES..][..2].copy_from_slice(&header.codec.attributes().to_be_bytes());
    bytes[AT_LAST_OFFSET_DELTA..][..4].copy_from_slice(&header.last_offset_delta.to_be_bytes());
    bytes[AT_BASE_TIMESTAMP..][..8].copy_from_slice(&header.base_timestamp.to_be_bytes());
    bytes[AT_MAX_TIMESTAMP..][..8].copy_from_slice(&header.max_timestamp.to_be_bytes());
    bytes[AT_PRODUCER_ID..][..8].copy_from_slice(&producer.id.to_be_bytes());
    bytes[AT_PRODUCER_EPOCH..][..2].copy_from_slice(&producer.epoch.to_be_bytes());
    bytes[AT_BASE_SEQUENCE..][..4].copy_from_slice(&producer.base_sequence.to_be_bytes());
    bytes[AT_COUNT..][..4].copy_from_slice(&header.count.to_be_bytes());
}

fn encoded_size(record: &NewRecord<'_>, timestamp_delta: i64, offset_delta: i64) -> usize {
    let headers: usize =
        record.headers.iter().map(|(name, value)| nullable_size(Some(name)) + nullable_size(*value)).sum();
    1 + zigzag::size(timestamp_delta)
        + zigzag::size(offset_delta)
        + nullable_size(record.key)
        + nullable_size(record.value)
        + zigzag::size(record.headers.len() as i64)
        + headers
}

pub(super) fn nullable_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(zigzag::size(-1), |bytes| zigzag::size(bytes.len() as i64) + bytes.len())
}

pub(super) fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => zigzag::put(out, -1),
        Some(bytes) => {
            zigzag::put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    type Plain = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

    fn plain() -> impl Strategy<Value = Plain> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
        let nullable = || proptest::option::of(bytes());
        (-10_000i64..1i64 << 42, nullable(), nullable(), proptest::collection::vec((bytes(), nullable()), 0..4))
    }

    fn build(records: &[Plain], codec: Codec) -> Batch {
        let mut builder = BatchBuilder::new();
        for (timestamp, key, value, headers) in records {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref())).collect();
            builder.push(NewRecord {
                timestamp: *timestamp,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &headers,
            });
        }
        builder.producer(Producer { id: 7, epoch: 1, base_sequence: 40 });
        builder.build(codec).unwrap()
    }

    fn unbuild(batch: &Batch) -> Vec<Plain> {
        let vec = |bytes: Option<Bytes>| bytes.map(|bytes| bytes.to_vec());
        let records = batch.records(1 << 20).unwrap();
        for (index, record) in records.iter().enumerate() {
            assert_eq!(record.offset, batch.base_offset().plus(index as i64));
        }
        records
            .into_iter()
            .map(|record| {
                let headers = record.headers.into_iter().map(|(name, value)| (name.to_vec(), vec(value))).collect();
                (record.timestamp, vec(record.key), vec(record.value), headers)
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn records_survive_every_codec_and_recoding(records in proptest::collection::vec(plain(), 1..30)) {
            for codec in Codec::ALL {
                let batch = build(&records, codec);
                let again = Batch::check(batch.bytes().clone()).unwrap();
                prop_assert_eq!(again.header(), batch.header());
                prop_assert!(again.is_dense());
                prop_assert_eq!(unbuild(&again), records.clone());
                for other in Codec::ALL {
                    let stamped = again.stamped(Offset(1000), 3).recoded(other, 1 << 20).unwrap();
                    let checked = Batch::check(stamped.bytes().clone()).unwrap();
                    prop_assert_eq!(checked.header().producer, again.header().producer);
                    prop_assert_eq!((checked.base_offset(), checked.header().leader_epoch), (Offset(1000), 3));
                    prop_assert_eq!(unbuild(&checked), records.clone());
                }
            }
        }

        #[test]
        fn a_flipped_bit_is_caught_or_lies_outside_the_crc(records in proptest::collection::vec(plain(), 1..4), place: prop::sample::Index) {
            let batch = build(&records, Codec::Zstd);
            let bit = place.index(batch.size() * 8);
            let mut bytes = batch.bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let is_outside = matches!(bit / 8, 0..8 | 12..16);
            prop_assert_eq!(Batch::check(bytes.into()).is_ok(), is_outside, "bit {} of byte {}", bit % 8, bit / 8);
        }

        #[test]
        fn rubbish_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0i32..200) {
            prop_assert!(Batch::check(bytes.clone().into()).is_err());
            // With a header that is right, so that the walk is reached.
            if bytes.len() > HEADER_SIZE {
                let header = Header { count, last_offset_delta: count, ..*build(&[(0, None, None, vec![])], Codec::None).header() };
                write_header(&mut bytes, &header);
                let batch = Batch::seal(bytes, header);
                let is_walked = batch.records(1000).is_ok();
                prop_assert!(is_walked || batch.check_records(1000).is_err());
            }
        }
    }

    #[test]
    fn stamping_in_place_is_stamping_a_copy_and_leaves_other_holders_alone() {
        let batch = build(&[(5, None, Some(b"x".to_vec()), vec![])], Codec::None);
        let shared = batch.clone();
        let large: Bytes = [batch.bytes().as_ref(), &[0; 5_000]].concat().into();
        let part = Batch::check(large.slice(..batch.size())).unwrap();
        drop(large);
        let expected = batch.stamped(Offset(77), 4);
        let alone = Batch::check(batch.bytes().to_vec().into()).unwrap();
        for one in [batch, part, alone] {
            let stamped = one.into_stamped(Offset(77), 4);
            assert_eq!((stamped.bytes(), stamped.header()), (expected.bytes(), expected.header()));
        }
        assert_eq!(shared.base_offset(), Offset(0));
        assert_eq!(&shared.bytes()[..8], &[0; 8]);
    }

    #[test]
    fn timestamps_can_be_set_anew() {
        let batch = build(&[(5, None, Some(b"x".to_vec()), vec![]), (3, None, None, vec![])], Codec::Lz4);
        assert_eq!(batch.header().max_timestamp, 5);
        let appended = batch.with_timestamps(TimestampType::LogAppendTime, 99);
        let checked = Batch::check(appended.bytes().clone()).unwrap();
        assert_eq!(checked.header().timestamp_type, TimestampType::LogAppendTime);
        assert!(checked.records(100).unwrap().iter().all(|record| record.timestamp == 99));
    }

    #[test]
    fn a_chain_ends_at_a_cut_batch_and_at_zeros() {
        let batch = build(&[(1, None, Some(b"value".to_vec()), vec![])], Codec::None);
        let mut chain = batch.bytes().to_vec();
        chain.extend_from_slice(&batch.stamped(Offset(1), 0).bytes()[..]);
        let whole = chain.len();
        chain.extend_from_slice(&batch.bytes()[..70]);
        assert_eq!(Batch::check_chain(chain.clone().into()).unwrap().len(), 2);
        chain.truncate(whole);
        chain.resize(whole + 4096, 0);
        assert_eq!(Batch::check_chain(chain.clone().into()).unwrap().len(), 2);
        chain[30] ^= 1;
        assert!(matches!(Batch::check_chain(chain.into()), Err(BatchError::Crc { .. })));
    }

    #[test]
    fn what_does_not_shrink_stays_as_it_is() {
        let mut random = fastrand::Rng::with_seed(7);
        let noise: Vec<u8> = (0..4096).map(|_| random.u8(..)).collect();
        let picture = build(&[(0, None, Some(noise), vec![])], Codec::Zstd);
        assert_eq!(picture.header().codec, Codec::None);
    }
}
