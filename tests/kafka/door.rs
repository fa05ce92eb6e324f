//! A door in this process, and a client that knows frames and nothing else.

use bytes::{Bytes, BytesMut};
use inrush::access::Quotas;
use inrush::budget::Budget;
use inrush::clock::Clock;
use inrush::control::Control;
use inrush::disk::sim::Sim;
use inrush::group;
use inrush::pulse::Pulse;
use inrush::record::{Batch, BatchBuilder, Codec, NewRecord, PartitionId, Producer, TopicName};
use inrush::server::kafka::{KafkaDoor, Patience, serve};
use inrush::store::{NewTopic, Options, Partition, Store};
use inrush::work::Pool;
use kafka_protocol::messages as kp;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// What the manual clock shows at first.
pub const NOW: i64 = 1_700_000_000_000;
/// How long a group's first generation waits for more members.
const FIRST_WAIT_MS: i64 = 50;
/// An answer that takes longer never comes. Shorter than the door lets a Fetch wait (a minute), so that one which waits for nothing fails.
const PATIENCE: Duration = Duration::from_secs(40);

pub struct Door {
    pub address: SocketAddr,
    pub store: Store,
    pub sim: Sim,
    pub clock: Clock,
    pub budget: Budget,
    pub answers: Budget,
    stop: watch::Sender<bool>,
    served: Option<JoinHandle<()>>,
    runtime: Runtime,
}

impl Door {
    pub fn open() -> Door {
        Door::with(|_| ())
    }

    pub fn with(change: impl FnOnce(&mut KafkaDoor)) -> Door {
        Door::on(Sim::new(1), change)
    }

    /// A door over a disk that may hold something already.
    pub fn on(sim: Sim, change: impl FnOnce(&mut KafkaDoor)) -> Door {
        let options = Options {
            data: "/data".into(),
            writers: 1,
            reader_threads: 2,
            tail_cache_bytes: 1 << 20,
            low_disk_bytes: Some(0),
            checkpoint_interval: Duration::from_millis(20),
        };
        let clock = Clock::manual(NOW);
        let store = Store::open(options, sim.disk(), clock.clone()).unwrap();
        let (budget, answers) = (Budget::new(16 << 20), Budget::new(16 << 20));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (stop, stopping) = watch::channel(false);
        let (control, _) = Control::new();
        let groups = {
            let _entered = runtime.enter();
            let options =
                group::Options { first_wait_ms: FIRST_WAIT_MS, session_ms_min: 100, ..group::Options::default() };
            group::start(store.clone(), clock.clone(), options, stopping.clone())
        };
        let mut door = KafkaDoor {
            store: store.clone(),
            groups,
            control,
            clock: clock.clone(),
            quotas: Quotas::load(store.clone(), clock.clone()),
            budget: budget.clone(),
            answers: answers.clone(),
            pool: Arc::new(Pool::start(2, "test").unwrap()),
            advertised: Default::default(),
            auto_create: true,
            partitions: 4,
            connections_max: 1_000,
            connections_per_address_max: 256,
            patience: Patience::default(),
            pulse: Pulse::new("the Kafka door"),
            at_work: Default::default(),
        };
        change(&mut door);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let served = Some(runtime.spawn(serve(listener, Arc::new(door), stopping)));
        Door { address, store, sim, clock, budget, answers, stop, served, runtime }
    }

    /// Waits until what connections held is given back: an answer is with its client a moment before that.
    pub fn wait_until_free(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.budget.free() < self.budget.limit() || self.answers.free() < self.answers.limit() {
            assert!(Instant::now() < until, "{} of {} bytes are free", self.budget.free(), self.budget.limit());
            std::thread::yield_now();
        }
    }

    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Closes the door and waits until every connection has ended.
    pub fn close(&mut self) {
        let _ = self.stop.send(true);
        if let Some(served) = self.served.take() {
            self.runtime.block_on(served).unwrap();
        }
    }

    /// As kill -9 would leave it, and started again.
    pub fn kill(mut self) -> Door {
        self.sim.kill();
        self.close();
        let sim = self.sim.clone();
        drop(self);
        Door::on(sim, |_| ())
    }

    /// Stopped in order, and started again.
    pub fn restart(mut self) -> Door {
        self.close();
        self.wait(self.store.close(Duration::from_secs(20))).unwrap();
        let sim = self.sim.clone();
        drop(self);
        Door::on(sim, |_| ())
    }

    pub fn topic(&self, name: &str, config: &[(&str, &str)]) -> Uuid {
        let config = config.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let new = NewTopic { name: TopicName::new(name).unwrap(), partitions: 2, config };
        self.wait(self.store.create_topic(new)).unwrap().id
    }

    pub fn partition(&self, topic: &str) -> Partition {
        self.store.topic(topic).unwrap().partition(PartitionId(0)).unwrap()
    }

    pub fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, next: 1 }
    }

    /// A client that says it is one that reads zstd.
    pub fn known_client(&self) -> Client {
        let mut client = self.client();
        let request = kp::ApiVersionsRequest::default()
            .with_client_software_name(text("librdkafka"))
            .with_client_software_version(text("2.12.1"));
        let answer: kp::ApiVersionsResponse = client.call(ApiKey::ApiVersions, 3, &request);
        assert_eq!(answer.error_code, 0);
        client
    }
}

pub struct Client {
    pub stream: TcpStream,
    next: i32,
}

impl Client {
    /// Sends a request and reads its answer; every byte of it must be understood.
    pub fn call<T: Decodable>(&mut self, api: ApiKey, version: i16, request: &impl Encodable) -> T {
        let correlation = self.send(api, version, request);
        self.answer(api, version, correlation)
    }

    pub fn send(&mut self, api: ApiKey, version: i16, request: &impl Encodable) -> i32 {
        let correlation = self.next;
        self.next += 1;
        self.raw(&frame(api, version, correlation, request));
        correlation
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn answer<T: Decodable>(&mut self, api: ApiKey, version: i16, correlation: i32) -> T {
        let mut bytes = Bytes::from(self.read_frame().unwrap_or_else(|| panic!("{api:?} {version}: no answer came")));
        let header = kp::ResponseHeader::decode(&mut bytes, api.response_header_version(version)).unwrap();
        assert_eq!(header.correlation_id, correlation, "{api:?} {version}: another request's answer");
        let answer = T::decode(&mut bytes, version).unwrap_or_else(|error| panic!("{api:?} {version}: {error}"));
        assert!(bytes.is_empty(), "{api:?} {version}: {} bytes are left", bytes.len());
        answer
    }

    /// The next frame without its length; `None` if the door has closed the connection.
    pub fn read_frame(&mut self) -> Option<Vec<u8>> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).ok()?;
        let mut frame = vec![0; i32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut frame).ok()?;
        Some(frame)
    }

    /// Waits until the door closes the connection; nothing may come before.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// One batch to partition 0, by the newest version that names topics.
    pub fn produce(&mut self, topic: &str, records: impl Into<Bytes>) -> PartitionProduceResponse {
        self.produce_at(12, topic, records.into())
    }

    pub fn produce_at(&mut self, version: i16, topic: &str, records: Bytes) -> PartitionProduceResponse {
        let answer: kp::ProduceResponse = self.call(ApiKey::Produce, version, &produce_request(topic, -1, records));
        answer.responses[0].partition_responses[0].clone()
    }

    /// Partition 0 from `offset` on; does not wait.
    pub fn fetch(&mut self, topic: &str, offset: i64) -> PartitionData {
        let answer: kp::FetchResponse = self.call(ApiKey::Fetch, 12, &fetch_request(&[(topic, 0, offset, 1 << 20)]));
        answer.responses[0].partitions[0].clone()
    }

    /// Batches of partition 0 from `offset` on.
    pub fn batches(&mut self, topic: &str, offset: i64) -> Vec<Batch> {
        let data = self.fetch(topic, offset);
        assert_eq!(data.error_code, 0);
        Batch::check_chain(data.records.unwrap_or_default()).unwrap()
    }
}

pub fn frame(api: ApiKey, version: i16, correlation: i32, request: &impl Encodable) -> Vec<u8> {
    frame_of(Some("a test"), api, version, correlation, request)
}

/// A request of a client of this id.
pub fn frame_of(id: Option<&str>, api: ApiKey, version: i16, correlation: i32, request: &impl Encodable) -> Vec<u8> {
    let mut out = BytesMut::new();
    let header = kp::RequestHeader::default()
        .with_request_api_key(api as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(id.map(text));
    header.encode(&mut out, api.request_header_version(version)).unwrap();
    request.encode(&mut out, version).unwrap();
    let mut frame = (out.len() as i32).to_be_bytes().to_vec();
    frame.extend_from_slice(&out);
    frame
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn name(name: &str) -> kp::TopicName {
    kp::TopicName(text(name))
}

pub fn produce_request(topic: &str, acks: i16, records: Bytes) -> kp::ProduceRequest {
    let data = kp::produce_request::PartitionProduceData::default().with_records(Some(records));
    let topic = kp::produce_request::TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    kp::ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic])
}

/// (topic, partition, offset, most bytes), answered at once.
pub fn fetch_request(partitions: &[(&str, i32, i64, i32)]) -> kp::FetchRequest {
    let topics = partitions.iter().map(|(topic, partition, offset, size_max)| {
        let partition = kp::fetch_request::FetchPartition::default()
            .with_partition(*partition)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(*size_max);
        kp::fetch_request::FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition])
    });
    kp::FetchRequest::default()
        .with_max_bytes(50 << 20)
        .with_min_bytes(1)
        .with_max_wait_ms(0)
        .with_topics(topics.collect())
}

/// A batch of records "0", "1", ... a millisecond apart.
pub fn batch(codec: Codec, count: usize) -> Batch {
    built(codec, count, 0, None)
}

/// The same with `padding` bytes that shrink well, of a producer.
pub fn built(codec: Codec, count: usize, padding: usize, producer: Option<Producer>) -> Batch {
    let mut builder = BatchBuilder::new();
    for n in 0..count {
        let value = format!("{n}{}", " ".repeat(padding));
        let headers: [(&[u8], Option<&[u8]>); 1] = [(b"number", Some(value.as_bytes()))];
        let record =
            NewRecord { timestamp: NOW + n as i64, key: None, value: Some(value.as_bytes()), headers: &headers };
        builder.push(record);
    }
    if let Some(producer) = producer {
        builder.producer(producer);
    }
    // The builder leaves what hardly shrinks; here the codec is what is meant.
    builder.build(Codec::None).unwrap().recoded(codec, 64 << 20).unwrap()
}

/// The batch with other bytes in its header, and a checksum that is right again.
pub fn changed(batch: &Batch, at: usize, bytes: &[u8]) -> Bytes {
    let mut out = batch.bytes().to_vec();
    out[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.into()
}
