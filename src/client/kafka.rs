//! A small Kafka client for the commands and the demo: topics' partitions, idempotent batches, reading. One connection; calls block.
//!
//! It speaks to one node, which leads every partition: it follows no leader and no redirection.

use crate::record::{Batch, BatchBuilder, Codec, NewRecord, Offset, Producer};
use anyhow::{Context, Result, bail};
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, FetchRequest, FetchResponse, InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer that takes longer is none; a fetch waits for records on top of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// No answer is larger: what one fetch may bring, and its frame.
const ANSWER_SIZE_MAX: usize = 104 << 20;
/// What one fetch asks for.
const FETCH_SIZE: i32 = 4 << 20;
/// The versions that are spoken: the last that name topics.
const METADATA: i16 = 9;
const PRODUCE: i16 = 9;
const FETCH: i16 = 12;
const INIT_PRODUCER_ID: i16 = 4;
const LIST_OFFSETS: i16 = 7;
/// Times that stand for places.
pub const END: i64 = -1;
pub const START: i64 = -2;

/// A connection to a Kafka door, and the producer that sends through it.
pub struct KafkaClient {
    stream: TcpStream,
    address: String,
    correlation: i32,
    producer: Option<i64>,
    /// The next sequence of each partition.
    sequences: HashMap<(String, i32), i32>,
}

/// What one fetch brought.
#[derive(Debug)]
pub struct Fetched {
    pub batches: Vec<Batch>,
    /// First offset that may not be read yet.
    pub tail: Offset,
}

impl KafkaClient {
    /// Connects to the door at `HOST:PORT`.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(address: &str) -> Result<KafkaClient> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to Kafka at {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(KafkaClient {
            stream,
            address: address.to_owned(),
            correlation: 0,
            producer: None,
            sequences: HashMap::new(),
        })
    }

    /// How many partitions a topic has; makes it if the door makes topics by use.
    ///
    /// # Errors
    /// What the door says of the topic; the connection broke.
    pub fn partition_count(&mut self, topic: &str) -> Result<i32> {
        let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(true);
        let answer: MetadataResponse = self.call(ApiKey::Metadata, METADATA, &request, Duration::ZERO)?;
        let told = answer.topics.first().context("the door says nothing of the topic")?;
        check(told.error_code, || format!("cannot use topic \"{topic}\""))?;
        Ok(told.partitions.len() as i32)
    }

    /// A batch that this client's producer sends next to a partition. Each one made must be sent, in this order.
    ///
    /// # Errors
    /// The door gives no producer id; there are no records.
    pub fn batch(&mut self, topic: &str, partition: i32, records: &[NewRecord<'_>], codec: Codec) -> Result<Batch> {
        let id = self.producer_id()?;
        let next = self.sequences.entry((topic.to_owned(), partition)).or_default();
        let mut builder = BatchBuilder::new();
        records.iter().for_each(|record| builder.push(*record));
        builder.producer(Producer { id, epoch: 0, base_sequence: *next });
        // Sequences wrap from 2^31−1 to 0.
        *next = ((i64::from(*next) + records.len() as i64) & i64::from(i32::MAX)) as i32;
        Ok(builder.build(codec)?)
    }

    /// Sends a batch and waits until it is durable; gives its first offset. A batch that is sent again, because its answer was lost, is
    /// stored once and has the same answer.
    ///
    /// # Errors
    /// What the door says of the batch; the connection broke: then nobody knows, and it may be sent again.
    pub fn send(&mut self, topic: &str, partition: i32, batch: &Batch) -> Result<Offset> {
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.bytes().clone()));
        let data = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
        let timeout_ms = PATIENCE.as_millis() as i32;
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(timeout_ms).with_topic_data(vec![data]);
        let answer: ProduceResponse = self.call(ApiKey::Produce, PRODUCE, &request, Duration::ZERO)?;
        let told = answer.responses.first().and_then(|topic| topic.partition_responses.first());
        let told = told.context("the door says nothing of the batch")?;
        check(told.error_code, || {
            let reason = told.error_message.as_ref().map_or("", |reason| reason.as_str());
            format!("cannot send to \"{topic}/{partition}\": {reason}")
        })?;
        Ok(Offset(told.base_offset))
    }

    /// Batches from the one that holds `from` on; waits at most `wait` for the first.
    ///
    /// # Errors
    /// The offset is outside the log; what else the door says; damaged batches; the connection broke.
    pub fn fetch(&mut self, topic: &str, partition: i32, from: Offset, wait: Duration) -> Result<Fetched> {
        let asked = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(from.0)
            .with_partition_max_bytes(FETCH_SIZE);
        let request = FetchRequest::default()
            .with_max_wait_ms(wait.as_millis() as i32)
            .with_min_bytes(1)
            .with_max_bytes(FETCH_SIZE)
            .with_topics(vec![FetchTopic::default().with_topic(name(topic)).with_partitions(vec![asked])]);
        let answer: FetchResponse = self.call(ApiKey::Fetch, FETCH, &request, wait)?;
        let told = answer.responses.first().and_then(|topic| topic.partitions.first());
        let told = told.context("the door says nothing of the partition")?;
        check(told.error_code, || format!("cannot read \"{topic}/{partition}\" from {from}"))?;
        let batches = Batch::check_chain(told.records.clone().unwrap_or_default())?;
        Ok(Fetched { batches, tail: Offset(told.high_watermark) })
    }

    /// Where the first record stands that is not older than `time` (ms since 1970; −1: the end, −2: the start); the end if there is none.
    ///
    /// # Errors
    /// What the door says of the partition; the connection broke.
    pub fn offset_at(&mut self, topic: &str, partition: i32, time: i64) -> Result<Offset> {
        let asked = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(time);
        let asked = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default().with_topics(vec![asked]);
        let answer: ListOffsetsResponse = self.call(ApiKey::ListOffsets, LIST_OFFSETS, &request, Duration::ZERO)?;
        let told = answer.topics.first().and_then(|topic| topic.partitions.first());
        let told = told.context("the door says nothing of the partition")?;
        check(told.error_code, || format!("cannot find a place in \"{topic}/{partition}\""))?;
        if told.offset < 0 && time != END { self.offset_at(topic, partition, END) } else { Ok(Offset(told.offset)) }
    }

    fn producer_id(&mut self) -> Result<i64> {
        if let Some(id) = self.producer {
            return Ok(id);
        }
        let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
        let answer: InitProducerIdResponse =
            self.call(ApiKey::InitProducerId, INIT_PRODUCER_ID, &request, Duration::ZERO)?;
        check(answer.error_code, || "cannot get a producer id".to_owned())?;
        self.producer = Some(answer.producer_id.0);
        Ok(answer.producer_id.0)
    }

    /// Sends a request and takes its answer, which may take `wait` longer than others.
    pub(super) fn call<T: Decodable>(
        &mut self,
        api: ApiKey,
        version: i16,
        request: &impl Encodable,
        wait: Duration,
    ) -> Result<T> {
        let context = |what: &str| format!("{what} {api:?} with Kafka at {}", self.address);
        self.correlation = self.correlation.wrapping_add(1);
        self.stream.set_read_timeout(Some(PATIENCE + wait))?;
        let frame = frame(api, version, self.correlation, request)?;
        self.stream.write_all(&frame).with_context(|| context("cannot send"))?;
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).with_context(|| context("no answer to"))?;
        let size = usize::try_from(i32::from_be_bytes(size)).unwrap_or(0);
        if size > ANSWER_SIZE_MAX {
            bail!("an answer of {size} bytes exceeds the limit of {ANSWER_SIZE_MAX}");
        }
        let mut bytes = BytesMut::zeroed(size);
        self.stream.read_exact(&mut bytes).with_context(|| context("no whole answer to"))?;
        let mut bytes: Bytes = bytes.freeze();
        let header = ResponseHeader::decode(&mut bytes, api.response_header_version(version))?;
        if header.correlation_id != self.correlation {
            bail!("the answer to request {} came in place of that to {}", header.correlation_id, self.correlation);
        }
        let answer = T::decode(&mut bytes, version)?;
        if bytes.has_remaining() {
            bail!("{} bytes follow the answer to {api:?}", bytes.remaining());
        }
        Ok(answer)
    }
}

fn frame(api: ApiKey, version: i16, correlation: i32, request: &impl Encodable) -> Result<Vec<u8>> {
    let header = RequestHeader::default()
        .with_request_api_key(api as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str("inrush")));
    let mut body = BytesMut::new();
    header.encode(&mut body, api.request_header_version(version))?;
    request.encode(&mut body, version)?;
    let mut frame = (body.len() as i32).to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    Ok(frame)
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

pub(super) fn check(code: i16, what: impl FnOnce() -> String) -> Result<()> {
    match ResponseError::try_from_code(code) {
        None => Ok(()),
        Some(error) => bail!("{}: {error:?} ({code})", what()),
    }
}
