//! Against two brokers that do as a script says: they lose connections and leadership, hold back, refuse; and check sequences as Kafka does.

pub(crate) mod fake;

use super::*;
use crate::record::{Batch, BatchBuilder, Codec, NewRecord, Producer};
use bytes::BytesMut;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse, ProduceRequest,
    ProduceResponse, SaslAuthenticateResponse, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, VecDeque};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
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
            let own = brokers.clone();
            let port = fake::listen(move |asked| own.answer(id, asked));
            brokers.0.lock().unwrap().ports.push(port);
        }
        brokers
    }

    fn cluster(&self) -> Cluster {
        Cluster::new(fake::settings(self.0.lock().unwrap().ports[1]), Arc::new(|| true))
    }

    /// Base sequences of what is there.
    fn sequences(&self) -> Vec<i32> {
        let state = self.0.lock().unwrap();
        state.log.iter().map(|batch| batch.header().producer.unwrap().base_sequence).collect()
    }

    fn answer(&self, id: usize, asked: &mut fake::Asked) -> Option<BytesMut> {
        match asked.api {
            ApiKey::ApiVersions => asked.with_versions(&[(ApiKey::Metadata, 12), (ApiKey::Produce, 11)]),
            ApiKey::Metadata => {
                let (ports, leader) = {
                    let state = self.0.lock().unwrap();
                    (state.ports.clone(), state.leader as i32)
                };
                asked.with_metadata(&ports, &[leader])
            }
            ApiKey::Produce => {
                let request = asked.body();
                asked.with(&self.produce(id, &request)?)
            }
            other => panic!("nobody is to ask for {other:?}"),
        }
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
        let told = TopicProduceResponse::default().with_name(cluster::name("t")).with_partition_responses(vec![told]);
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

/// Pulses that are counted.
fn counted() -> (Arc<AtomicUsize>, Pulse) {
    let count = Arc::new(AtomicUsize::new(0));
    let own = count.clone();
    (count, Arc::new(move || own.fetch_add(1, Ordering::Relaxed) < usize::MAX))
}

#[test]
fn each_of_many_dead_servers_is_waited_for_with_a_sign_of_life() {
    let dead = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let settings = Settings { servers: (0..20).map(|_| dead()).collect(), tls: None, sasl: None };
    let (count, pulse) = counted();
    assert!(Cluster::new(settings.clone(), pulse).topic("t").is_err());
    assert!(count.load(Ordering::Relaxed) >= 20, "{count:?}");
    // Who is not waited for asks no further server.
    let told = Cluster::new(settings, Arc::new(|| false)).topic("t").unwrap_err().to_string();
    assert!(told.contains("nobody waits"), "{told}");
}

#[test]
fn a_broker_that_takes_no_bytes_is_waited_for_with_signs_of_life() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answered = std::thread::spawn(move || {
        // It says what it speaks, and then takes nothing any more.
        let (stream, _) = listener.accept().unwrap();
        let known = |asked: &mut fake::Asked| asked.with_versions(&[(ApiKey::Metadata, 12), (ApiKey::Produce, 11)]);
        fake::serve(&stream, &known).unwrap();
        stream
    });
    let (count, pulse) = counted();
    let mut cluster = Cluster::new(fake::settings(port), pulse.clone());
    cluster.know(0, format!("127.0.0.1:{port}"));
    cluster.leaders.insert("t".to_owned(), vec![0]);
    let mut builder = BatchBuilder::new();
    builder.producer(Producer { id: 7, epoch: 0, base_sequence: 0 });
    builder.push(NewRecord { timestamp: 1, key: None, value: Some(&vec![b'v'; 64 << 20]), headers: &[] });
    let large = BTreeMap::from([(0, vec![builder.build(Codec::None).unwrap()])]);
    let sender = std::thread::spawn(move || cluster.produce("t", &large, |_| {}));
    let stream = answered.join().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let late = count.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(2));
    assert!(count.load(Ordering::Relaxed) > late, "nobody gives a sign of life while a broker takes no bytes");
    drop(stream);
    assert!(sender.join().unwrap().is_err());
}

#[test]
fn a_groups_coordinator_is_asked_for_again_only_when_it_cannot_answer() {
    let (finds, beats) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (found, beaten) = (finds.clone(), beats.clone());
    let known = [(ApiKey::FindCoordinator, 3), (ApiKey::Heartbeat, 4)];
    let own = Arc::new(Mutex::new(0));
    let port = own.clone();
    let listening = fake::listen(move |asked| match asked.api {
        ApiKey::ApiVersions => asked.with_versions(&known),
        ApiKey::FindCoordinator => {
            asked.body::<FindCoordinatorRequest>();
            found.fetch_add(1, Ordering::Relaxed);
            let host = StrBytes::from_static_str("127.0.0.1");
            let told = FindCoordinatorResponse::default().with_host(host).with_port(*port.lock().unwrap());
            asked.with(&told)
        }
        ApiKey::Heartbeat => {
            asked.body::<HeartbeatRequest>();
            let is_third = beaten.fetch_add(1, Ordering::Relaxed) == 2;
            let code = if is_third { ResponseError::NotCoordinator.code() } else { 0 };
            asked.with(&HeartbeatResponse::default().with_error_code(code))
        }
        other => panic!("nobody is to ask for {other:?}"),
    });
    *own.lock().unwrap() = i32::from(listening);
    let mut member = Member::new(Cluster::new(fake::settings(listening), Arc::new(|| true)), "g", "t");
    assert!(member.heartbeat().is_ok() && member.heartbeat().is_ok());
    assert_eq!(finds.load(Ordering::Relaxed), 1);
    assert!(member.heartbeat().is_err() && member.heartbeat().is_ok());
    assert_eq!((finds.load(Ordering::Relaxed), beats.load(Ordering::Relaxed)), (2, 4));
}

/// What is said of a login that a broker answers so, or of none.
fn login(mechanism: ResponseError, password: ResponseError, sasl: Option<Sasl>) -> Result<(), String> {
    let known = [(ApiKey::SaslHandshake, 1), (ApiKey::SaslAuthenticate, 2), (ApiKey::Metadata, 12)];
    let port = fake::listen(move |asked| match asked.api {
        ApiKey::ApiVersions => asked.with_versions(&known),
        ApiKey::SaslHandshake => {
            let theirs = vec![StrBytes::from_static_str("SCRAM-SHA-256"), StrBytes::from_static_str("GSSAPI")];
            asked.with(&SaslHandshakeResponse::default().with_error_code(mechanism.code()).with_mechanisms(theirs))
        }
        ApiKey::SaslAuthenticate => {
            let message = Some(StrBytes::from_static_str("Authentication failed"));
            asked
                .with(&SaslAuthenticateResponse::default().with_error_code(password.code()).with_error_message(message))
        }
        _ => None,
    });
    let settings = Settings { sasl, ..fake::settings(port) };
    Cluster::new(settings, Arc::new(|| true)).topic("t").map(drop).map_err(|error| error.to_string())
}

#[test]
fn a_login_that_fails_says_what_to_do() {
    let plain = || {
        let (username, password) = ("someone".to_owned(), "hunter2".to_owned());
        Some(Sasl { mechanism: Mechanism::Plain, username, password })
    };
    let none = ResponseError::Unknown(0);
    let cases = [
        (none, ResponseError::SaslAuthenticationFailed, plain(), "look at username, password and mechanism"),
        (ResponseError::UnsupportedSaslMechanism, none, plain(), "it takes SCRAM-SHA-256, GSSAPI"),
        (ResponseError::IllegalSaslState, none, plain(), "this port wants no login"),
        (none, none, None, "if the broker wants a login, say it with sasl"),
    ];
    for (mechanism, password, sasl, wanted) in cases {
        let told = login(mechanism, password, sasl).unwrap_err();
        assert!(told.contains(wanted) && !told.contains("someone") && !told.contains("hunter2"), "{told}");
    }
}
