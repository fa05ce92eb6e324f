//! Against two brokers that do as a script says: they lose connections and leadership, hold back, refuse; and check sequences as Kafka does.

use super::*;
use crate::record::{Batch, BatchBuilder, Codec, NewRecord, Producer};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse,
    ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes, decode_request_header_from_buffer};
use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a broker does with the next batch.
#[derive(Clone, Copy, PartialEq)]
enum Act {
    Take,
    /// Takes it and is gone before it answers.
    TakeAndLeave,
    /// Is gone before it takes it.
    Leave,
    Refuse(ResponseError),
    /// The other broker leads from now on, and this one says so.
    HandOver,
    /// Takes it, and wants to be left alone for so many ms.
    Throttle(i32),
}

#[derive(Default)]
struct State {
    ports: Vec<u16>,
    leader: usize,
    script: VecDeque<Act>,
    log: Vec<Batch>,
    /// Requests with batches.
    asked: usize,
}

#[derive(Clone)]
struct Brokers(Arc<Mutex<State>>);

impl Brokers {
    fn start(script: &[Act]) -> Brokers {
        let brokers = Brokers(Arc::default());
        brokers.0.lock().unwrap().script = script.iter().copied().collect();
        for id in 0..2 {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            brokers.0.lock().unwrap().ports.push(listener.local_addr().unwrap().port());
            let own = brokers.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let own = own.clone();
                    std::thread::spawn(move || while own.serve(id, &stream).is_some() {});
                }
            });
        }
        brokers
    }

    fn cluster(&self) -> Cluster {
        let server = format!("127.0.0.1:{}", self.0.lock().unwrap().ports[1]);
        Cluster::new(Settings { servers: vec![server], tls: None, sasl: None }, Arc::new(|| true))
    }

    /// Base sequences of what is there.
    fn sequences(&self) -> Vec<i32> {
        let state = self.0.lock().unwrap();
        state.log.iter().map(|batch| batch.header().producer.unwrap().base_sequence).collect()
    }

    /// One request; `None` ends the connection.
    fn serve(&self, id: usize, mut stream: &TcpStream) -> Option<()> {
        let mut size = [0; 4];
        stream.read_exact(&mut size).ok()?;
        let mut bytes = vec![0; u32::from_be_bytes(size) as usize];
        stream.read_exact(&mut bytes).ok()?;
        let mut bytes = Bytes::from(bytes);
        let header = decode_request_header_from_buffer(&mut bytes).unwrap();
        let (key, version) = (header.request_api_key, header.request_api_version);
        let mut answer = BytesMut::new();
        let api = ApiKey::try_from(key).unwrap();
        let told = ResponseHeader::default().with_correlation_id(header.correlation_id);
        told.encode(&mut answer, api.response_header_version(version)).unwrap();
        match api {
            ApiKey::ApiVersions => {
                let keys = [(ApiKey::Metadata, 12), (ApiKey::Produce, 11)];
                let range = |(key, max): (ApiKey, i16)| {
                    ApiVersion::default().with_api_key(key as i16).with_min_version(3).with_max_version(max)
                };
                let told = ApiVersionsResponse::default().with_api_keys(keys.into_iter().map(range).collect());
                told.encode(&mut answer, version).unwrap();
            }
            ApiKey::Metadata => {
                MetadataRequest::decode(&mut bytes, version).unwrap();
                self.metadata().encode(&mut answer, version).unwrap();
            }
            ApiKey::Produce => {
                let request = ProduceRequest::decode(&mut bytes, version).unwrap();
                self.produce(id, &request)?.encode(&mut answer, version).unwrap();
            }
            other => panic!("nobody is to ask for {other:?}"),
        }
        stream.write_all(&(answer.len() as u32).to_be_bytes()).ok()?;
        stream.write_all(&answer).ok()
    }

    fn metadata(&self) -> MetadataResponse {
        let state = self.0.lock().unwrap();
        let broker = |(id, port): (usize, &u16)| {
            let host = StrBytes::from_static_str("127.0.0.1");
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(id as i32))
                .with_host(host)
                .with_port(i32::from(*port))
        };
        let partition = MetadataResponsePartition::default().with_leader_id(BrokerId(state.leader as i32));
        let topic = MetadataResponseTopic::default()
            .with_name(Some(super::cluster::name("t")))
            .with_topic_id(uuid::Uuid::from_u128(7))
            .with_partitions(vec![partition]);
        MetadataResponse::default()
            .with_brokers(state.ports.iter().enumerate().map(broker).collect())
            .with_topics(vec![topic])
    }

    fn produce(&self, id: usize, request: &ProduceRequest) -> Option<ProduceResponse> {
        let mut state = self.0.lock().unwrap();
        state.asked += 1;
        let bytes = request.topic_data[0].partition_data[0].records.clone().unwrap();
        let batch = Batch::check(bytes).unwrap();
        let act = match id == state.leader {
            true => state.script.pop_front().unwrap_or(Act::Take),
            false => Act::Refuse(ResponseError::NotLeaderOrFollower),
        };
        let (mut code, mut throttle, mut is_gone) = (0, 0, false);
        match act {
            Act::Take => code = state.take(batch),
            Act::TakeAndLeave => {
                code = state.take(batch);
                is_gone = true;
            }
            Act::Leave => is_gone = true,
            Act::Refuse(error) => code = error.code(),
            Act::HandOver => {
                state.leader = 1 - id;
                code = ResponseError::NotLeaderOrFollower.code();
            }
            Act::Throttle(ms) => {
                throttle = ms;
                code = state.take(batch);
            }
        }
        let told = PartitionProduceResponse::default().with_error_code(code);
        let told =
            TopicProduceResponse::default().with_name(super::cluster::name("t")).with_partition_responses(vec![told]);
        let told = ProduceResponse::default().with_responses(vec![told]).with_throttle_time_ms(throttle);
        (!is_gone).then_some(told)
    }
}

impl State {
    /// As a partition of Kafka judges sequences: a batch among the last five is there already, another must follow the last.
    fn take(&mut self, batch: Batch) -> i16 {
        let sequence = |batch: &Batch| batch.header().producer.unwrap().base_sequence;
        let is_known =
            |known: &&Batch| (sequence(known), known.header().count) == (sequence(&batch), batch.header().count);
        if self.log.iter().rev().take(5).any(|known| is_known(&known)) {
            return 0;
        }
        let next = self.log.last().map_or(0, |last| sequence(last) + last.header().count);
        if sequence(&batch) != next {
            return ResponseError::OutOfOrderSequenceNumber.code();
        }
        self.log.push(batch);
        0
    }
}

/// Batches of two records, from the sequence on.
fn batches(from: i32, count: i32) -> BTreeMap<i32, Vec<Batch>> {
    let batch = |number: i32| {
        let mut builder = BatchBuilder::new();
        builder.producer(Producer { id: 7, epoch: 0, base_sequence: from + number * 2 });
        for _ in 0..2 {
            builder.push(NewRecord { timestamp: 1, key: None, value: Some(b"v"), headers: &[] });
        }
        builder.build(Codec::None).unwrap()
    };
    BTreeMap::from([(0, (0..count).map(batch).collect())])
}

/// Sends ten batches, and what was told of them.
fn send(brokers: &Brokers) -> (Vec<usize>, Result<(), Stopped>) {
    let mut cluster = brokers.cluster();
    assert_eq!(cluster.topic("t").unwrap().unwrap().partitions, 1);
    let mut acked = Vec::new();
    let sent = cluster.produce("t", &batches(0, 10), |ack| acked.push(ack.at));
    acked.sort_unstable();
    (acked, sent)
}

#[test]
fn every_batch_is_there_once_and_in_order_whatever_fails_and_passes() {
    use Act::{HandOver, Leave, Refuse, Take, TakeAndLeave, Throttle};
    let passing = [ResponseError::NotEnoughReplicas, ResponseError::KafkaStorageError, ResponseError::RequestTimedOut];
    let mut scripts = vec![
        vec![Take, HandOver],
        vec![TakeAndLeave],
        vec![Take, Take, TakeAndLeave, Take, Leave],
        vec![Leave, TakeAndLeave, HandOver, Take, TakeAndLeave, HandOver],
        vec![Throttle(1), TakeAndLeave, Throttle(1)],
        vec![Refuse(ResponseError::UnknownTopicOrPartition)],
    ];
    scripts.extend(passing.map(|error| vec![Take, Refuse(error), Take, Refuse(error)]));
    for seed in 0..12 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let any = [Take, TakeAndLeave, Leave, HandOver, Refuse(ResponseError::NotEnoughReplicas)];
        scripts.push((0..8).map(|_| any[chance.usize(..any.len())]).collect());
    }
    for (number, script) in scripts.iter().enumerate() {
        let brokers = Brokers::start(script);
        let (acked, sent) = send(&brokers);
        sent.unwrap_or_else(|stopped| panic!("script {number}: {stopped:?}"));
        assert_eq!(acked, (0..10).collect::<Vec<_>>(), "script {number}");
        assert_eq!(brokers.sequences(), (0..20).step_by(2).collect::<Vec<_>>(), "script {number}");
    }
}

#[test]
fn a_batch_that_is_too_large_stops_its_partition_there() {
    let brokers = Brokers::start(&[Act::Take, Act::Take, Act::Refuse(ResponseError::MessageTooLarge)]);
    let (acked, sent) = send(&brokers);
    let stopped = sent.unwrap_err();
    assert!(matches!(stopped, Stopped { partition: 0, at: 2, why: Why::Unfit(_) }), "{stopped:?}");
    assert_eq!((acked, brokers.sequences()), (vec![0, 1], vec![0, 2]));
}

#[test]
fn a_batch_with_a_record_that_the_topic_does_not_take_stops_its_partition_there() {
    let codes = [ResponseError::InvalidTimestamp, ResponseError::InvalidRecord, ResponseError::CorruptMessage];
    for code in codes {
        let script = [vec![Act::Take, Act::Take], vec![Act::Refuse(code); 200]].concat();
        let brokers = Brokers::start(&script);
        let (acked, sent) = send(&brokers);
        let stopped = sent.unwrap_err();
        assert!(matches!(stopped, Stopped { partition: 0, at: 2, why: Why::Unfit(_) }), "{stopped:?}");
        assert_eq!((acked, brokers.sequences()), (vec![0, 1], vec![0, 2]));
    }
}

#[test]
fn sequences_that_do_not_follow_are_told_and_not_tried_again() {
    let brokers = Brokers::start(&[]);
    assert!(send(&brokers).1.is_ok());
    let mut cluster = brokers.cluster();
    cluster.topic("t").unwrap();
    let before = brokers.0.lock().unwrap().asked;
    let stopped = cluster.produce("t", &batches(30, 1), |_| {}).unwrap_err();
    assert!(matches!(stopped.why, Why::Sequence(ResponseError::OutOfOrderSequenceNumber)), "{stopped:?}");
    assert_eq!(brokers.0.lock().unwrap().asked, before + 1);
}

#[test]
fn a_broker_that_wants_to_be_left_alone_is() {
    let brokers = Brokers::start(&[Act::Throttle(400)]);
    let mut cluster = brokers.cluster();
    cluster.topic("t").unwrap();
    let began = Instant::now();
    cluster.produce("t", &batches(0, 1), |_| {}).unwrap();
    cluster.produce("t", &batches(2, 1), |_| {}).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
}

#[test]
fn who_never_gets_an_answer_is_told_so_soon() {
    let brokers = Brokers::start(&[Act::Leave; 200]);
    let began = Instant::now();
    let (acked, sent) = send(&brokers);
    let stopped = sent.unwrap_err();
    assert!(matches!(stopped.why, Why::Down(Error::Connection { .. })), "{stopped:?}");
    assert!(acked.is_empty() && began.elapsed() < Duration::from_secs(20));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut cluster = Cluster::new(Settings { servers: vec![nobody], tls: None, sasl: None }, Arc::new(|| true));
    assert!(cluster.topic("t").unwrap_err().to_string().contains("cannot talk to Kafka"));
}
