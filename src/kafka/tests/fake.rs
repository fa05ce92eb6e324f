//! A broker for tests: it speaks Kafka's frames and says what the test tells it to.

use super::super::Settings;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, MetadataRequest, MetadataResponse, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes, decode_request_header_from_buffer};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use uuid::Uuid;

/// What one broker was asked.
pub(crate) struct Asked {
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    body: Bytes,
}

impl Asked {
    pub(crate) fn body<Q: Decodable>(&mut self) -> Q {
        Q::decode(&mut self.body, self.version).unwrap()
    }

    /// The answer's bytes.
    #[allow(clippy::unnecessary_wraps)] // As every answer is given.
    pub(crate) fn with(&self, answer: &impl Encodable) -> Option<BytesMut> {
        let mut bytes = BytesMut::new();
        answer.encode(&mut bytes, self.version).unwrap();
        Some(bytes)
    }

    /// The answer to the first question of each connection: what is spoken, from version 0 on.
    pub(crate) fn with_versions(&self, known: &[(ApiKey, i16)]) -> Option<BytesMut> {
        let range = |(key, max): &(ApiKey, i16)| ApiVersion::default().with_api_key(*key as i16).with_max_version(*max);
        self.with(&ApiVersionsResponse::default().with_api_keys(known.iter().map(range).collect()))
    }

    /// All brokers, and the topic that is asked for, with who leads each of its partitions.
    pub(crate) fn with_metadata(&mut self, ports: &[u16], leaders: &[i32]) -> Option<BytesMut> {
        let asked: MetadataRequest = self.body();
        let broker = |(id, port): (usize, &u16)| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(id as i32))
                .with_host(StrBytes::from_static_str("127.0.0.1"))
                .with_port(i32::from(*port))
        };
        let partition = |(id, leader): (usize, &i32)| {
            MetadataResponsePartition::default().with_partition_index(id as i32).with_leader_id(BrokerId(*leader))
        };
        let topic = MetadataResponseTopic::default()
            .with_name(asked.topics.unwrap()[0].name.clone())
            .with_topic_id(Uuid::from_u128(7))
            .with_partitions(leaders.iter().enumerate().map(partition).collect());
        let brokers = ports.iter().enumerate().map(broker).collect();
        self.with(&MetadataResponse::default().with_brokers(brokers).with_topics(vec![topic]))
    }
}

/// Takes connections on a port of its own, each in a thread; gives the port. An answer of `None` closes the connection.
pub(crate) fn listen(answer: impl Fn(&mut Asked) -> Option<BytesMut> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || while serve(&stream, answer.as_ref()).is_some() {});
        }
    });
    port
}

/// How a broker on this port is reached.
pub(crate) fn settings(port: u16) -> Settings {
    Settings { servers: vec![format!("127.0.0.1:{port}")], tls: None, sasl: None }
}

/// One question and its answer; `None` ends the connection.
pub(crate) fn serve(mut stream: &TcpStream, answer: &impl Fn(&mut Asked) -> Option<BytesMut>) -> Option<()> {
    let mut size = [0; 4];
    stream.read_exact(&mut size).ok()?;
    let mut bytes = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut bytes).ok()?;
    let mut body = Bytes::from(bytes);
    let header = decode_request_header_from_buffer(&mut body).unwrap();
    let (api, version) = (ApiKey::try_from(header.request_api_key).unwrap(), header.request_api_version);
    let mut told = BytesMut::new();
    let head = ResponseHeader::default().with_correlation_id(header.correlation_id);
    head.encode(&mut told, api.response_header_version(version)).unwrap();
    told.extend_from_slice(&answer(&mut Asked { api, version, body })?);
    stream.write_all(&(told.len() as u32).to_be_bytes()).ok()?;
    stream.write_all(&told).ok()
}
