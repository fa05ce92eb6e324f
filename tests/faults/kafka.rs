//! A Kafka client of the tests' own: raw frames on a plain socket, so that a retry is exactly the bytes of the first try.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use inrush::record::Batch;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, FetchRequest, FetchResponse, InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest,
    ListOffsetsResponse, ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

/// A daemon that hangs fails the run instead of hanging it.
const PATIENCE: Duration = Duration::from_secs(60);
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 7;
const INIT_PRODUCER_ID_VERSION: i16 = 4;
/// ListOffsets asks for these in place of a time.
pub(super) const LATEST: i64 = -1;
pub(super) const EARLIEST: i64 = -2;
pub(super) const OFFSET_OUT_OF_RANGE: i16 = 1;
pub(super) const OUT_OF_ORDER_SEQUENCE: i16 = 45;
pub(super) const STORAGE_ERROR: i16 = 56;

/// A connection to the Kafka door.
pub(super) struct Connection {
    stream: TcpStream,
    correlation: i32,
}

/// What a fetch brought.
pub(super) struct Fetched {
    pub(super) code: i16,
    pub(super) batches: Vec<Batch>,
}

impl Connection {
    pub(super) fn open(address: &str) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection { stream, correlation: 0 })
    }

    pub(super) fn init_producer_id(&mut self) -> io::Result<i64> {
        let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
        self.send(ApiKey::InitProducerId, INIT_PRODUCER_ID_VERSION, &request)?;
        let answer: InitProducerIdResponse = self.receive(ApiKey::InitProducerId, INIT_PRODUCER_ID_VERSION)?;
        match answer.error_code {
            0 => Ok(answer.producer_id.0),
            code => Err(io::Error::other(format!("no producer id: {code}"))),
        }
    }

    /// Sends a batch without waiting: several may be in flight.
    pub(super) fn send_produce(&mut self, topic: &str, partition: i32, batch: &Bytes) -> io::Result<()> {
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.clone()));
        let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
        self.send(ApiKey::Produce, PRODUCE_VERSION, &request)
    }

    /// The answer to the oldest unanswered produce: the base offset, or an error code.
    pub(super) fn receive_produce(&mut self) -> io::Result<Result<i64, i16>> {
        let answer: ProduceResponse = self.receive(ApiKey::Produce, PRODUCE_VERSION)?;
        let partition = answer.responses.first().and_then(|topic| topic.partition_responses.first());
        let partition = partition.ok_or_else(|| io::Error::other("a produce was answered without its partition"))?;
        Ok(if partition.error_code == 0 { Ok(partition.base_offset) } else { Err(partition.error_code) })
    }

    pub(super) fn fetch(&mut self, topic: &str, partition: i32, from: i64) -> io::Result<Fetched> {
        let part = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(from)
            .with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![part]);
        let request = FetchRequest::default()
            .with_max_wait_ms(20)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_topics(vec![topic]);
        self.send(ApiKey::Fetch, FETCH_VERSION, &request)?;
        let answer: FetchResponse = self.receive(ApiKey::Fetch, FETCH_VERSION)?;
        let found = answer.responses.first().and_then(|topic| topic.partitions.first());
        let found = found.ok_or_else(|| io::Error::other("a fetch was answered without its partition"))?;
        let bytes = found.records.clone().unwrap_or_default();
        let batches = Batch::check_chain(bytes).map_err(io::Error::other)?;
        Ok(Fetched { code: found.error_code, batches })
    }

    /// The offset that [`LATEST`] or [`EARLIEST`] names.
    pub(super) fn offset(&mut self, topic: &str, partition: i32, which: i64) -> io::Result<i64> {
        let part = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(which);
        let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![part]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        self.send(ApiKey::ListOffsets, LIST_OFFSETS_VERSION, &request)?;
        let answer: ListOffsetsResponse = self.receive(ApiKey::ListOffsets, LIST_OFFSETS_VERSION)?;
        let found = answer.topics.first().and_then(|topic| topic.partitions.first());
        match found {
            Some(found) if found.error_code == 0 => Ok(found.offset),
            other => Err(io::Error::other(format!("no offset: {other:?}"))),
        }
    }

    fn send(&mut self, api: ApiKey, version: i16, body: &impl Encodable) -> io::Result<()> {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(api as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("inrush-tests")));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header.encode(&mut frame, api.request_header_version(version)).map_err(io::Error::other)?;
        body.encode(&mut frame, version).map_err(io::Error::other)?;
        let size = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        self.stream.write_all(&frame)
    }

    fn receive<T: Decodable>(&mut self, api: ApiKey, version: i16) -> io::Result<T> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let mut frame = vec![0; i32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut frame)?;
        let mut frame = Bytes::from(frame);
        ResponseHeader::decode(&mut frame, api.response_header_version(version)).map_err(io::Error::other)?;
        T::decode(&mut frame, version).map_err(io::Error::other)
    }
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
