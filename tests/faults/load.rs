//! The load that faults are played against: producers and consumers over both doors, topics that come and go, and a history of all of it.
//!
//! Kafka producers are idempotent and send again, byte for byte, until they are answered; HTTP clients never send again. Every seventh event
//! is one that the pipelines cannot read, so its place is the dead letter topic.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::kafka::{Connection, EARLIEST, LATEST, OFFSET_OUT_OF_RANGE, OUT_OF_ORDER_SEQUENCE};
use crate::{Daemon, call, json, parquet_numbers, wait_or};
use bytes::Bytes;
use inrush::lab::checker::{History, Outcome, Read, Sent, Tail, Value};
use inrush::record::{Batch, BatchBuilder, Codec, NewRecord, Producer};

/// Batches that a Kafka producer has in flight to one partition: as many as the broker must recognise. To many partitions it has one each.
const IN_FLIGHT: usize = 5;
/// Records of one batch, events of one request.
const BATCH: u64 = 5;
const UNREADABLE_EACH: u64 = 7;
/// Topics that come and stay; the others are deleted at once. Each start looks through their folders.
const STAYING_MAX: usize = 40;
/// How long a client that was refused or cut off waits before it tries again.
const PAUSE: Duration = Duration::from_millis(2);
const DECODED_SIZE_MAX: usize = 1 << 20;
/// Passes of the final reads; those of consumers under load are smaller.
const FINAL_PASS: u32 = 1 << 20;

/// A topic of the run; its partitions have numbers of their own in the history.
pub(super) struct Topic {
    pub(super) name: &'static str,
    pub(super) partitions: i32,
    first: i32,
    config: &'static [(&'static str, &'static str)],
}

/// By HTTP, through a pipeline into Parquet. Small segments: a roll is never far from a kill.
const POSTED: Topic = Topic { name: "posted", partitions: 1, first: 0, config: &[("segment.bytes", "65536")] };
/// By Kafka, through a pipeline into Parquet.
const PRODUCED: Topic = Topic { name: "produced", partitions: 3, first: 10, config: &[("segment.bytes", "65536")] };
/// By Kafka; retention takes its head while it is written and read.
pub(super) const RETAINED: Topic = Topic {
    name: "retained",
    partitions: 1,
    first: 20,
    config: &[("segment.bytes", "16384"), ("retention.bytes", "65536")],
};
/// By Kafka, a batch to each partition at a time: rounds over more files than are synced one by one.
const WIDE: Topic = Topic { name: "wide", partitions: 24, first: 30, config: &[("segment.bytes", "65536")] };
const TOPICS: [&Topic; 4] = [&POSTED, &PRODUCED, &RETAINED, &WIDE];
/// Where another pipeline copies what is produced, partition by partition, with dead letters of its own.
const COPIED: &str = "copied";
const PIPELINES: usize = 3;

/// What is known of a topic that came and went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    There,
    Gone,
    Either,
}

#[derive(Default)]
struct Addresses {
    http: String,
    kafka: String,
}

/// What all threads of a run share.
pub(super) struct World {
    folder: PathBuf,
    addresses: Mutex<Addresses>,
    is_over: AtomicBool,
    /// A client found something: the others end, answered or not.
    is_broken: AtomicBool,
    answered: AtomicUsize,
    history: Mutex<History>,
    comings: Mutex<BTreeMap<String, Expected>>,
    final_passes: AtomicU32,
}

/// A run: the world and the threads that load it.
pub(super) struct Load {
    pub(super) world: Arc<World>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Writes the pipelines into `folder`; the daemon that is started there next reads them.
    pub(super) fn prepare(folder: &Path) -> Arc<World> {
        let pipelines = folder.join("pipelines");
        std::fs::create_dir_all(&pipelines).unwrap();
        for topic in [&POSTED, &PRODUCED] {
            let name = topic.name;
            let text = format!(
                "from = \"topic:{name}\"\nto = {{ parquet = \"{name}\", roll = \"150ms\" }}\n[columns]\nn = \"int64\"\n"
            );
            std::fs::write(pipelines.join(format!("{name}.toml")), text).unwrap();
        }
        let text = format!(
            "from = \"topic:{}\"\nto = {{ topic = \"{COPIED}\" }}\non-error = {{ then = \"topic:{COPIED}-dlt\" }}\n[columns]\nn = \"int64\"\n",
            PRODUCED.name
        );
        std::fs::write(pipelines.join(format!("{COPIED}.toml")), text).unwrap();
        Arc::new(World {
            folder: folder.to_owned(),
            addresses: Mutex::default(),
            is_over: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            history: Mutex::default(),
            comings: Mutex::default(),
            final_passes: AtomicU32::new(FINAL_PASS),
        })
    }

    /// Makes the topics and starts the clients.
    pub(super) fn start(world: &Arc<World>, daemon: &Daemon) -> Load {
        world.moved_to(daemon);
        for topic in TOPICS {
            let config: BTreeMap<_, _> = topic.config.iter().copied().collect();
            let body = serde_json::json!({ "name": topic.name, "partitions": topic.partitions, "config": config });
            let (status, _) = call(&daemon.http, "POST", "/v1/topics", "", body.to_string().as_bytes()).unwrap();
            assert_eq!(status, 201);
        }
        let mut threads = Vec::new();
        let mut start = |run: Box<dyn FnOnce(&World) + Send>| {
            let world = world.clone();
            threads.push(std::thread::spawn(move || {
                let _alarm = Alarm(&world);
                run(&world);
            }));
        };
        for producer in 0..3 {
            start(Box::new(move |world| post(world, producer)));
        }
        for producer in 10..12 {
            start(Box::new(move |world| produce(world, &PRODUCED, producer)));
        }
        start(Box::new(|world| produce(world, &RETAINED, 20)));
        start(Box::new(|world| produce(world, &WIDE, 30)));
        start(Box::new(|world| consume(world, 1)));
        start(Box::new(come_and_go));
        Load { world: world.clone(), threads }
    }

    /// Ends the load. Kafka producers first get an answer to everything they sent.
    pub(super) fn stop(self) {
        self.world.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client panicked");
        }
    }
}

/// Ends the load when its thread panics.
struct Alarm<'a>(&'a World);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.is_broken.store(true, Ordering::Relaxed);
            self.0.is_over.store(true, Ordering::Relaxed);
        }
    }
}

impl World {
    /// Clients go on with this daemon.
    pub(super) fn moved_to(&self, daemon: &Daemon) {
        *self.addresses.lock().unwrap() = Addresses { http: daemon.http.clone(), kafka: daemon.kafka.clone() };
    }

    /// Events that were answered so far.
    pub(super) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn http(&self) -> String {
        self.addresses.lock().unwrap().http.clone()
    }

    fn connect(&self) -> io::Result<Connection> {
        let address = self.addresses.lock().unwrap().kafka.clone();
        Connection::open(&address)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    fn note(&self, values: impl Iterator<Item = Value>, partition: i32, outcome: impl Fn(usize) -> Outcome) {
        let mut history = self.history();
        for (at, value) in values.enumerate() {
            let outcome = outcome(at);
            self.answered.fetch_add(usize::from(matches!(outcome, Outcome::Ok(_))), Ordering::Relaxed);
            history.sent.push(Sent { value, partition, outcome, may_repeat: false });
        }
    }

    /// Reads everything twice and holds all that was seen against the checker; then topics, Parquet and dead letters. Ends the daemon.
    pub(super) fn judge(&self, daemon: Daemon) {
        let mut connection = self.connect().unwrap();
        let mut last_pass = 0;
        for _ in 0..2 {
            last_pass = self.final_passes.fetch_add(1, Ordering::Relaxed);
            for topic in TOPICS {
                for partition in 0..topic.partitions {
                    self.read_whole(&mut connection, topic, partition, last_pass);
                }
            }
        }
        let violations = self.history().check();
        assert!(violations.is_empty(), "the checker found {violations:#?}");
        let topics = json(&daemon.http, "GET", "/v1/topics", "");
        let names: BTreeSet<&str> = topics.as_array().unwrap().iter().filter_map(|t| t["name"].as_str()).collect();
        for (name, expected) in self.comings.lock().unwrap().iter() {
            let is_there = names.contains(name.as_str());
            let is_right = match expected {
                Expected::There => is_there,
                Expected::Gone => !is_there,
                Expected::Either => true,
            };
            assert!(is_right, "topic {name} should be {expected:?}");
        }
        let status = || json(&daemon.admin, "GET", "/api/pipelines", "");
        let is_done = || {
            let status = status();
            let pipelines = status.as_array().unwrap();
            pipelines.len() == PIPELINES
                && pipelines.iter().all(|pipeline| self.is_caught_up(&mut connection, pipeline))
        };
        wait_or("the pipelines", is_done, || format!("{:#}", status()));
        let mut numbers = |topic: &str, partitions| numbers_in(&mut connection, topic, partitions);
        let dead = [&POSTED, &PRODUCED].map(|topic| numbers(&format!("{}-dlt", topic.name), topic.partitions));
        let copied = ["", "-dlt"].map(|end| numbers(&format!("{COPIED}{end}"), PRODUCED.partitions));
        assert!(daemon.terminate(), "the daemon did not end well");
        for (topic, dead) in [&POSTED, &PRODUCED].into_iter().zip(dead) {
            let (good, bad) = self.stored(topic, last_pass);
            assert_eq!(parquet_numbers(&self.folder.join("out").join(topic.name)), good, "Parquet of {}", topic.name);
            assert_eq!(dead, bad, "dead letters of {}", topic.name);
        }
        let (good, bad) = self.stored(&PRODUCED, last_pass);
        assert_eq!(copied, [good, bad], "copies and dead letters of {}", PRODUCED.name);
    }

    fn is_caught_up(&self, connection: &mut Connection, pipeline: &serde_json::Value) -> bool {
        let topic = if pipeline["name"] == POSTED.name { &POSTED } else { &PRODUCED };
        let is_committed = |partition: i32| {
            let tail = connection.offset(topic.name, partition, LATEST).unwrap();
            tail == 0 || pipeline["committed"][partition.to_string()].as_i64() == Some(tail)
        };
        pipeline["lag_records"] == 0 && (0..topic.partitions).all(is_committed)
    }

    fn read_whole(&self, connection: &mut Connection, topic: &Topic, partition: i32, pass: u32) {
        let id = topic.first + partition;
        // Retention may move the start between the question and the fetch.
        let mut next = connection.offset(topic.name, partition, EARLIEST).unwrap();
        let tail = connection.offset(topic.name, partition, LATEST).unwrap();
        let mut reads = Vec::new();
        while next < tail {
            let fetched = connection.fetch(topic.name, partition, next).unwrap();
            if fetched.code == OFFSET_OUT_OF_RANGE {
                next = connection.offset(topic.name, partition, EARLIEST).unwrap();
                reads.clear();
                continue;
            }
            assert_eq!(fetched.code, 0, "{} at {next}", topic.name);
            assert!(!fetched.batches.is_empty(), "{} has nothing at {next}, its tail is {tail}", topic.name);
            for (offset, value) in values_from(&fetched.batches, &mut next) {
                reads.push(Read { pass, partition: id, offset, value });
            }
        }
        let mut history = self.history();
        let start = reads.first().map_or(tail, |read| read.offset);
        if topic.name == RETAINED.name {
            history.starts.insert(id, start);
        } else {
            assert!(reads.is_empty() || start == 0, "{} begins at {start}", topic.name);
        }
        history.reads.extend(reads);
        history.tails.push(Tail { observer: 0, partition: id, offset: tail });
    }

    /// Numbers of the log's readable and unreadable events, sorted.
    fn stored(&self, topic: &Topic, pass: u32) -> (Vec<i64>, Vec<i64>) {
        let ids = topic.first..topic.first + topic.partitions;
        let history = self.history();
        let of_topic = history.reads.iter().filter(|read| read.pass == pass && ids.contains(&read.partition));
        let (bad, good): (Vec<Value>, Vec<Value>) = of_topic.map(|read| read.value).partition(|value| is_bad(*value));
        let sorted = |values: Vec<Value>| {
            let mut numbers: Vec<i64> = values.into_iter().map(number).collect();
            numbers.sort_unstable();
            numbers
        };
        (sorted(good), sorted(bad))
    }
}

/// All numbers in a topic, sorted.
fn numbers_in(connection: &mut Connection, topic: &str, partitions: i32) -> Vec<i64> {
    let mut numbers = Vec::new();
    for partition in 0..partitions {
        let mut next = 0;
        let tail = connection.offset(topic, partition, LATEST).unwrap();
        while next < tail {
            let fetched = connection.fetch(topic, partition, next).unwrap();
            assert!(!fetched.batches.is_empty(), "{topic} has nothing at {next}");
            numbers.extend(values_from(&fetched.batches, &mut next).into_iter().map(|(_, value)| number(value)));
        }
    }
    numbers.sort_unstable();
    numbers
}

/// Posts batches one after the other; what is not answered is never sent again.
fn post(world: &World, producer: u32) {
    let path = format!("/v1/topics/{}/events", POSTED.name);
    let mut next = 0;
    while !world.is_over() {
        let values: Vec<Value> = (next..next + BATCH).map(|number| Value { producer, number }).collect();
        next += BATCH;
        let lines: Vec<String> = values.iter().map(|value| event(*value)).collect();
        let answer = call(&world.http(), "POST", &path, "", lines.join("\n").as_bytes());
        let outcome = match answer {
            Ok((200, body)) => {
                let taken: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                // A 200 whose body did not arrive whole still says that all of it is durable.
                assert!(taken.is_null() || taken["taken"] == BATCH, "{taken}");
                Outcome::Ok(None)
            }
            Ok((400 | 404 | 413 | 429 | 507, _)) => Outcome::Fail,
            Ok(_) | Err(_) => Outcome::Unknown,
        };
        world.note(values.into_iter(), POSTED.first, |_| outcome);
        if !matches!(outcome, Outcome::Ok(_)) {
            std::thread::sleep(PAUSE);
        }
    }
}

/// A batch that is not answered yet.
struct Pending {
    partition: i32,
    first: u64,
    bytes: Bytes,
}

/// An idempotent producer: some batches in flight, each sent again, byte for byte, until it is answered.
fn produce(world: &World, topic: &Topic, producer: u32) {
    let mut random = fastrand::Rng::with_seed(u64::from(producer));
    let mut sequences = vec![0; topic.partitions as usize];
    let mut pending: VecDeque<Pending> = VecDeque::new();
    let mut next = 0;
    let mut connection = None;
    let mut id = None;
    loop {
        while !world.is_over() && pending.len() < IN_FLIGHT.max(topic.partitions as usize) && id.is_some() {
            let partition = (next / BATCH) as i32 % topic.partitions;
            let sequence = &mut sequences[partition as usize];
            let stamp = Producer { id: id.unwrap_or(-1), epoch: 0, base_sequence: *sequence };
            let codec = Codec::ALL[random.usize(0..Codec::ALL.len())];
            pending.push_back(Pending { partition, first: next, bytes: batch(producer, next, stamp, codec) });
            *sequence += BATCH as i32;
            next += BATCH;
        }
        if world.is_over() && (pending.is_empty() || world.is_broken.load(Ordering::Relaxed)) {
            return;
        }
        let done = exchange(world, topic, producer, &mut connection, &mut id, &mut pending);
        if done.is_err() {
            connection = None;
            std::thread::sleep(PAUSE);
        }
    }
}

/// One turn: sends all that is pending, takes the answers.
fn exchange(
    world: &World,
    topic: &Topic,
    producer: u32,
    connection: &mut Option<Connection>,
    id: &mut Option<i64>,
    pending: &mut VecDeque<Pending>,
) -> io::Result<()> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(world.connect()?),
    };
    if id.is_none() {
        *id = Some(connection.init_producer_id()?);
        return Ok(());
    }
    for batch in pending.iter() {
        connection.send_produce(topic.name, batch.partition, &batch.bytes)?;
    }
    let mut unanswered: VecDeque<Pending> = VecDeque::new();
    while let Some(batch) = pending.pop_front() {
        let answer = match connection.receive_produce() {
            Ok(answer) => answer,
            Err(error) => {
                unanswered.push_back(batch);
                unanswered.append(pending);
                *pending = unanswered;
                return Err(error);
            }
        };
        match answer {
            Ok(base) => {
                let values = (batch.first..batch.first + BATCH).map(|number| Value { producer, number });
                world.note(values, topic.first + batch.partition, |at| Outcome::Ok(Some(base + at as i64)));
            }
            Err(code) => {
                // Behind a refused batch the next ones are out of order; the first never is.
                let is_first = unanswered.iter().all(|earlier| earlier.partition != batch.partition);
                let is_stuck = code == OUT_OF_ORDER_SEQUENCE && is_first;
                assert!(!is_stuck, "{} {}: an unanswered batch is out of order", topic.name, batch.partition);
                unanswered.push_back(batch);
                std::thread::sleep(PAUSE);
            }
        }
    }
    *pending = unanswered;
    Ok(())
}

/// Reads all partitions from the start, over all restarts, and asks where they end.
fn consume(world: &World, pass: u32) {
    let mut places = Vec::new();
    for topic in TOPICS {
        places.extend((0..topic.partitions).map(|partition| (topic, partition, 0, pass)));
    }
    let mut connection = None;
    while !world.is_over() {
        for (topic, partition, next, pass) in &mut places {
            if follow(world, &mut connection, topic, *partition, next, pass).is_err() {
                connection = None;
                std::thread::sleep(PAUSE);
            }
        }
    }
}

fn follow(
    world: &World,
    connection: &mut Option<Connection>,
    topic: &Topic,
    partition: i32,
    next: &mut i64,
    pass: &mut u32,
) -> io::Result<()> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(world.connect()?),
    };
    let id = topic.first + partition;
    let tail = connection.offset(topic.name, partition, LATEST)?;
    world.history().tails.push(Tail { observer: 1, partition: id, offset: tail });
    let fetched = connection.fetch(topic.name, partition, *next)?;
    if fetched.code == OFFSET_OUT_OF_RANGE {
        assert_eq!(topic.name, RETAINED.name, "offset {next} of partition {partition} is gone");
        // Retention was faster: what follows is another pass.
        *next = connection.offset(topic.name, partition, EARLIEST)?;
        *pass += 1;
        return Ok(());
    }
    let values = values_from(&fetched.batches, next);
    let read = |(offset, value)| Read { pass: *pass, partition: id, offset, value };
    world.history().reads.extend(values.into_iter().map(read));
    Ok(())
}

/// Makes topics and deletes every second one; what was answered must hold after every kill.
fn come_and_go(world: &World) {
    let (mut count, mut staying) = (0, 0);
    while !world.is_over() {
        // At the pace of the other clients, or a long run would make more folders than records.
        let before = world.answered();
        while world.answered() < before + 100 && !world.is_over() {
            std::thread::sleep(PAUSE);
        }
        let name = format!("come-{count}");
        count += 1;
        let expect = |expected| {
            world.comings.lock().unwrap().insert(name.clone(), expected);
        };
        expect(Expected::Either);
        let body = serde_json::json!({ "name": name, "partitions": 2, "config": {} }).to_string();
        let Ok((201, _)) = call(&world.http(), "POST", "/v1/topics", "", body.as_bytes()) else { continue };
        expect(Expected::There);
        let _ = call(&world.http(), "POST", &format!("/v1/topics/{name}/events"), "", b"{\"n\":1}");
        if count % 4 == 0 && staying < STAYING_MAX {
            staying += 1;
            continue;
        }
        expect(Expected::Either);
        if let Ok((200, _)) = call(&world.http(), "DELETE", &format!("/v1/topics/{name}"), "", b"") {
            expect(Expected::Gone);
        }
    }
}

fn is_bad(value: Value) -> bool {
    value.number % UNREADABLE_EACH == UNREADABLE_EACH - 1
}

fn number(value: Value) -> i64 {
    i64::from(value.producer) << 32 | value.number as i64
}

/// A number, or one written as a string, which an int64 column does not take.
fn event(value: Value) -> String {
    let n = number(value);
    if is_bad(value) { format!("{{\"n\":\"{n}\"}}") } else { format!("{{\"n\":{n}}}") }
}

fn batch(producer: u32, first: u64, stamp: Producer, codec: Codec) -> Bytes {
    let mut builder = BatchBuilder::new();
    for number in first..first + BATCH {
        let event = event(Value { producer, number });
        let timestamp = 1_700_000_000_000 + number as i64;
        builder.push(NewRecord { timestamp, key: None, value: Some(event.as_bytes()), headers: &[] });
    }
    builder.producer(stamp);
    builder.build(codec).unwrap().bytes().clone()
}

/// Offsets and values from `next` on; moves it behind them.
fn values_from(batches: &[Batch], next: &mut i64) -> Vec<(i64, Value)> {
    let mut values = Vec::new();
    for batch in batches {
        for record in batch.records(DECODED_SIZE_MAX).unwrap() {
            if record.offset.0 >= *next {
                let event: serde_json::Value = serde_json::from_slice(&record.value.unwrap_or_default()).unwrap();
                let n = event["n"].as_i64().or_else(|| event["n"].as_str()?.parse().ok()).expect("an event of ours");
                values.push((record.offset.0, Value { producer: (n >> 32) as u32, number: n as u64 & 0xffff_ffff }));
            }
        }
        *next = batch.next_offset().0;
    }
    values
}
