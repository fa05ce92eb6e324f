//! A Fetch answer in pieces: what stands before a partition's batches is written into one buffer, the batches follow as they are.
//!
//! The crate's own encoder takes one piece of bytes a partition and copies it: twice over for a partition of many batches.

use crate::disk::Stretch;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::TopicName;
use uuid::Uuid;

/// First versions of what is added or changed in the answer (FetchResponse.json).
const WITH_SESSIONS: i16 = 7;
const WITH_LOG_START: i16 = 5;
const WITH_PREFERRED_REPLICA: i16 = 11;
const FLEXIBLE: i16 = 12;
const BY_TOPIC_ID: i16 = 13;

/// What is answered, versions 4 to 17.
#[derive(Debug, Default)]
pub struct FetchAnswer {
    /// How long the client is not listened to after it.
    pub throttle_ms: i32,
    /// Of the whole request; no topics then.
    pub error_code: i16,
    pub topics: Vec<FetchedTopic>,
}

impl FetchAnswer {
    /// Bytes of all its batches.
    pub fn size(&self) -> usize {
        self.topics.iter().flat_map(|topic| &topic.partitions).map(FetchedPartition::size).sum()
    }
}

#[derive(Debug)]
pub struct FetchedTopic {
    pub name: TopicName,
    pub id: Uuid,
    pub partitions: Vec<FetchedPartition>,
}

#[derive(Debug)]
pub struct FetchedPartition {
    pub partition: i32,
    pub error_code: i16,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    /// Whole batches, in order.
    pub batches: Vec<Piece>,
}

/// Bytes of an answer.
#[derive(Clone, Debug)]
pub enum Piece {
    Memory(Bytes),
    /// They go from the file to the socket.
    File(Stretch),
}

impl Piece {
    pub fn len(&self) -> usize {
        match self {
            Piece::Memory(bytes) => bytes.len(),
            Piece::File(stretch) => stretch.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl FetchedPartition {
    /// Bytes of its batches.
    pub fn size(&self) -> usize {
        self.batches.iter().map(Piece::len).sum()
    }
}

/// The whole frame, length and header first, in pieces to be sent one after the other. The batches are not copied.
///
/// # Panics
/// If a topic's name is longer than 32,767 bytes: it stood in a request.
pub fn encode(answer: &FetchAnswer, correlation: i32, version: i16) -> Vec<Piece> {
    let mut pieces = Pieces { done: Vec::new(), open: BytesMut::with_capacity(256), size: 0 };
    let is_flexible = version >= FLEXIBLE;
    // The length of the frame is known at the end.
    pieces.open.put_i32(0);
    pieces.open.put_i32(correlation);
    pieces.tags(is_flexible);
    pieces.open.put_i32(answer.throttle_ms);
    if version >= WITH_SESSIONS {
        pieces.open.put_i16(answer.error_code);
        pieces.open.put_i32(0); // no session
    }
    pieces.length(answer.topics.len(), is_flexible);
    for topic in &answer.topics {
        if version >= BY_TOPIC_ID {
            pieces.open.put_slice(topic.id.as_bytes());
        } else if is_flexible {
            pieces.varint(topic.name.len() as u32 + 1);
            pieces.open.put_slice(topic.name.as_bytes());
        } else {
            let length =
                i16::try_from(topic.name.len()).expect("a name came in a request, where its length has 16 bits");
            pieces.open.put_i16(length);
            pieces.open.put_slice(topic.name.as_bytes());
        }
        pieces.length(topic.partitions.len(), is_flexible);
        for partition in &topic.partitions {
            pieces.partition(partition, version);
        }
        pieces.tags(is_flexible);
    }
    pieces.tags(is_flexible);
    pieces.finish()
}

struct Pieces {
    done: Vec<Piece>,
    open: BytesMut,
    /// Bytes of what is done.
    size: usize,
}

impl Pieces {
    fn partition(&mut self, partition: &FetchedPartition, version: i16) {
        let is_flexible = version >= FLEXIBLE;
        self.open.put_i32(partition.partition);
        self.open.put_i16(partition.error_code);
        self.open.put_i64(partition.high_watermark);
        self.open.put_i64(partition.last_stable_offset);
        if version >= WITH_LOG_START {
            self.open.put_i64(partition.log_start_offset);
        }
        // No transactions: none was aborted.
        self.length(0, is_flexible);
        if version >= WITH_PREFERRED_REPLICA {
            self.open.put_i32(-1);
        }
        self.length(partition.size(), is_flexible);
        if !partition.batches.is_empty() {
            self.close();
            for batch in &partition.batches {
                self.size += batch.len();
                self.done.push(batch.clone());
            }
        }
        self.tags(is_flexible);
    }

    /// A length or count: 32 bits, or one more as a varint.
    fn length(&mut self, length: usize, is_flexible: bool) {
        if is_flexible {
            self.varint(length as u32 + 1);
        } else {
            self.open.put_i32(length as i32);
        }
    }

    fn tags(&mut self, is_flexible: bool) {
        if is_flexible {
            self.open.put_u8(0);
        }
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.open.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.open.put_u8(value as u8);
    }

    fn close(&mut self) {
        self.size += self.open.len();
        self.done.push(Piece::Memory(self.open.split().freeze()));
    }

    fn finish(mut self) -> Vec<Piece> {
        self.close();
        let length = (self.size - 4) as i32;
        // The first piece holds the frame's length; it is small and ours alone.
        if let Some(Piece::Memory(first)) = self.done.first_mut() {
            let mut bytes = BytesMut::from(first.as_ref());
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            *first = bytes.freeze();
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{ApiKey, FetchResponse, ResponseHeader};
    use kafka_protocol::protocol::{Decodable, StrBytes};

    fn joined(pieces: &[Piece]) -> Bytes {
        let bytes = |piece: &Piece| match piece {
            Piece::Memory(bytes) => bytes.to_vec(),
            Piece::File(_) => panic!("nothing here lies in a file"),
        };
        pieces.iter().flat_map(bytes).collect()
    }

    #[test]
    fn the_crate_reads_what_is_written_in_every_version() {
        let partition = |number: i32, batches: &[&'static [u8]]| FetchedPartition {
            partition: number,
            error_code: if batches.is_empty() { 3 } else { 0 },
            high_watermark: 100,
            last_stable_offset: 90,
            log_start_offset: 5,
            batches: batches.iter().map(|bytes| Piece::Memory(Bytes::from_static(bytes))).collect(),
        };
        let long: &'static [u8] = &[7; 5_000];
        let topic = FetchedTopic {
            name: TopicName(StrBytes::from_static_str("clicks")),
            id: Uuid::from_u128(99),
            partitions: vec![partition(0, &[b"first", b"second"]), partition(1, &[]), partition(2, &[long])],
        };
        let answer = FetchAnswer { throttle_ms: 250, error_code: 0, topics: vec![topic] };
        for version in 4..=17 {
            let pieces = encode(&answer, 77, version);
            let mut bytes = joined(&pieces);
            let length = i32::from_be_bytes(bytes[..4].try_into().unwrap());
            assert_eq!(length as usize, bytes.len() - 4);
            bytes = bytes.slice(4..);
            let header = ResponseHeader::decode(&mut bytes, ApiKey::Fetch.response_header_version(version)).unwrap();
            assert_eq!(header.correlation_id, 77);
            let read = FetchResponse::decode(&mut bytes, version).unwrap();
            assert!(bytes.is_empty(), "version {version}");
            assert_eq!((read.throttle_time_ms, read.session_id, read.responses.len()), (250, 0, 1));
            let topic = &read.responses[0];
            match version {
                13.. => assert_eq!(topic.topic_id, Uuid::from_u128(99)),
                _ => assert_eq!(topic.topic.as_str(), "clicks"),
            }
            let records: Vec<_> = topic.partitions.iter().map(|p| p.records.clone().unwrap_or_default()).collect();
            assert_eq!(records, [&b"firstsecond"[..], b"", long]);
            let first = &topic.partitions[0];
            assert_eq!((first.high_watermark, first.last_stable_offset, topic.partitions[1].error_code), (100, 90, 3));
            assert_eq!(first.log_start_offset, if version >= 5 { 5 } else { -1 });
        }
        let failed = FetchAnswer { error_code: 70, ..FetchAnswer::default() };
        let mut bytes = joined(&encode(&failed, 1, 11)).slice(8..);
        assert_eq!(FetchResponse::decode(&mut bytes, 11).unwrap().error_code, 70);
    }
}
