//! The store on the simulated disk, with producers and a reader on threads of their own, and the checker over what they saw.
//!
//! `src/store/tests.rs` asks the same of one thread's appends; here batches are in flight when the power goes, and are sent again after it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use inrush::clock::Clock;
use inrush::disk::sim::{Call, Fault, Lie, Sim};
use inrush::lab::checker::{History, Outcome, Read, Sent, Tail, Value, Violation};
use inrush::record::{Batch, BatchBuilder, Codec, NewRecord, Offset, PartitionId, Producer, TopicName};
use inrush::store::{Append, AppendError, NewTopic, Options, Partition, Store};

const LIVES: u64 = 4;
const IN_FLIGHT: usize = 5;
const READ_SIZE: usize = 50_000;

/// What a disk may answer. A full one is answered and gone on from; all else ends the writing until the next start.
const FAULTS: [(Call, i32); 6] = [
    (Call::Sync, libc::EIO),
    (Call::Write, libc::EIO),
    (Call::Write, libc::ENOSPC),
    (Call::SyncFolder, libc::EIO),
    (Call::Allocate, libc::EIO),
    (Call::Allocate, libc::ENOSPC),
];

/// A producer with a sequence (odd numbers) sends again until it is answered; one without never does.
struct Client {
    number: u32,
    is_idempotent: bool,
    next: u64,
    sequence: i32,
    pending: VecDeque<(u64, Batch)>,
    random: fastrand::Rng,
}

/// What the threads of one life share.
struct Life<'a> {
    partition: &'a Partition,
    history: &'a Mutex<History>,
    answered: &'a AtomicUsize,
    is_over: AtomicBool,
    /// What no history can hold.
    wrong: Mutex<Option<String>>,
}

fn open(sim: &Sim, now_ms: i64) -> Result<(Store, Partition), String> {
    let options = Options {
        data: "/data".into(),
        writers: 1,
        reader_threads: 1,
        tail_cache_bytes: 16 << 10,
        low_disk_bytes: Some(0),
        checkpoint_interval: Duration::from_millis(3),
    };
    let store = Store::open(options, sim.disk(), Clock::manual(now_ms)).map_err(|error| error.to_string())?;
    if store.topic("t").is_none() && now_ms == 0 {
        let config = vec![("segment.bytes".to_owned(), "16384".to_owned())];
        let new = NewTopic { name: TopicName::new("t").unwrap(), partitions: 1, config };
        wait(store.create_topic(new)).map_err(|error| error.to_string())?;
    }
    let topic = store.topic("t").ok_or("the topic is gone")?;
    if let Some((_, _, reason)) = store.health().read_only.first() {
        return Err(format!("read-only: {reason}"));
    }
    let partition = topic.partition(PartitionId(0)).ok_or("the partition is gone")?;
    Ok((store, partition))
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Runs `LIVES` lives by `seed`, each ended by a power cut, a kill or a clean stop; says what was wrong.
fn simulate(seed: u64, lie: Option<Lie>) -> Result<Vec<Violation>, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let sim = Sim::new(seed);
    let history = Mutex::new(History::default());
    let answered = AtomicUsize::new(0);
    let mut clients: Vec<Client> = (0..4).map(|number| Client::new(number, random.fork())).collect();
    let mut next = 0;
    for life in 0..LIVES {
        let (store, partition) = open(&sim, life as i64)?;
        if life == 0
            && let Some(lie) = lie
        {
            sim.lie(lie);
        }
        if random.u8(..4) == 0 {
            // Lies are about syncs and what they answer.
            let (call, error) = if lie.is_some() { FAULTS[0] } else { FAULTS[random.usize(..FAULTS.len())] };
            sim.fail(Fault { call, nth: random.u64(1..60), error });
        }
        let life = Life {
            partition: &partition,
            history: &history,
            answered: &answered,
            is_over: AtomicBool::new(false),
            wrong: Mutex::default(),
        };
        let enough = answered.load(Ordering::Relaxed) + random.usize(10..150);
        std::thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| client.run(&life));
            }
            scope.spawn(|| life.read(&mut next));
            let is_wrong = || life.wrong.lock().unwrap().is_some();
            while answered.load(Ordering::Relaxed) < enough && store.health().poisoned.is_none() && !is_wrong() {
                std::thread::sleep(Duration::from_micros(200));
            }
            match random.u8(..3) {
                0 => drop(wait(store.close(Duration::from_secs(60)))),
                1 => sim.kill(),
                _ => sim.crash(),
            }
            life.is_over.store(true, Ordering::Relaxed);
        });
        // Joins the threads of a store whose disk is gone; a kill then takes what they held.
        let _ = wait(store.close(Duration::from_secs(60)));
        let wrong = life.wrong.lock().unwrap().take();
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        sim.kill();
    }
    let (_store, partition) = open(&sim, LIVES as i64)?;
    let mut history = history.into_inner().unwrap();
    for pass in 100..102 {
        read_from(&partition, &mut 0, pass, &mut history)?;
    }
    for client in clients {
        let left = client.pending.into_iter().flat_map(|(first, batch)| first..first + batch.header().count as u64);
        let sent = |number| Sent {
            value: Value { producer: client.number, number },
            partition: 0,
            outcome: Outcome::Unknown,
            may_repeat: false,
        };
        history.sent.extend(left.map(sent));
    }
    Ok(history.check())
}

impl Client {
    fn new(number: u32, random: fastrand::Rng) -> Client {
        let is_idempotent = number % 2 == 1;
        Client { number, is_idempotent, next: 0, sequence: 0, pending: VecDeque::new(), random }
    }

    fn run(&mut self, life: &Life<'_>) {
        while !life.is_over.load(Ordering::Relaxed) {
            while self.pending.len() < IN_FLIGHT {
                self.make();
            }
            let mut waiting = Vec::with_capacity(IN_FLIGHT);
            for (first, batch) in std::mem::take(&mut self.pending) {
                let append = Append { batch: batch.clone(), lease: None, leader_epoch: -1 };
                waiting.push((first, batch, life.partition.try_append(append).map_err(|(_, error)| error)));
            }
            // The network may lose the answers to all that is in flight: the producer then sends it again.
            let is_lost = self.is_idempotent && self.random.u8(..8) == 0;
            let mut is_broken = false;
            for (first, batch, queued) in waiting {
                let answer = queued.and_then(|answer| {
                    answer.blocking_recv().unwrap_or(Err(AppendError::Unknown("the writer is gone".to_owned())))
                });
                is_broken |= answer.is_err();
                self.note(life, first, batch, answer, is_lost);
            }
            if is_broken {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    }

    fn make(&mut self) {
        let count = self.random.i32(1..4);
        let mut builder = BatchBuilder::new();
        for n in 0..count as u64 {
            let mut bytes = (self.next + n).to_be_bytes().to_vec();
            bytes.extend(self.number.to_be_bytes());
            bytes.resize(12 + self.random.usize(0..2_000), 7);
            builder.push(NewRecord { timestamp: 1_000, key: None, value: Some(&bytes), headers: &[] });
        }
        if self.is_idempotent {
            builder.producer(Producer { id: i64::from(self.number), epoch: 0, base_sequence: self.sequence });
        }
        self.pending.push_back((self.next, builder.build(Codec::None).unwrap()));
        self.next += count as u64;
        self.sequence += count;
    }

    fn note(
        &mut self,
        life: &Life<'_>,
        first: u64,
        batch: Batch,
        answer: Result<inrush::store::Appended, AppendError>,
        is_lost: bool,
    ) {
        let outcome = |at: i64| match &answer {
            Ok(appended) => Outcome::Ok(Some(appended.base_offset.0 + at)),
            Err(AppendError::Unknown(_)) => Outcome::Unknown,
            Err(_) => Outcome::Fail,
        };
        if let Ok(appended) = &answer {
            life.answered.fetch_add(1, Ordering::Relaxed);
            // Read your own write: what is answered is below the tail.
            if life.partition.tail() <= appended.last_offset {
                life.fail(format!("{} was answered above the tail {}", appended.last_offset, life.partition.tail()));
            }
        }
        // One that stands behind a refused batch is sent again with it, in their order; the log knows it then.
        if is_lost || self.is_idempotent && (answer.is_err() || !self.pending.is_empty()) {
            // The oldest unanswered batch is either there or next: out of order means that its place was forgotten.
            if self.pending.is_empty() && matches!(answer, Err(AppendError::OutOfOrderSequence { .. })) {
                life.fail(format!("producer {} is stuck: {answer:?}", self.number));
            }
            self.pending.push_back((first, batch));
            return;
        }
        let mut history = life.history.lock().unwrap();
        for at in 0..i64::from(batch.header().count) {
            let value = Value { producer: self.number, number: first + at as u64 };
            history.sent.push(Sent { value, partition: 0, outcome: outcome(at), may_repeat: false });
        }
    }
}

impl Life<'_> {
    fn fail(&self, wrong: String) {
        self.wrong.lock().unwrap().get_or_insert(wrong);
    }

    /// Follows the log over all lives, and where it ends.
    fn read(&self, next: &mut i64) {
        while !self.is_over.load(Ordering::Relaxed) {
            let mut seen = History::default();
            seen.tails.push(Tail { observer: 0, partition: 0, offset: self.partition.tail().0 });
            let done = read_from(self.partition, next, 1, &mut seen);
            self.history.lock().unwrap().merge(seen);
            // The disk may be gone under it: the next life reads on.
            if done.is_err() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// Reads up to the tail and moves `next` there.
fn read_from(partition: &Partition, next: &mut i64, pass: u32, history: &mut History) -> Result<(), String> {
    while Offset(*next) < partition.tail() {
        let slice = partition.read_blocking(Offset(*next), READ_SIZE).map_err(|error| error.to_string())?;
        if slice.batches.is_empty() {
            return Err(format!("nothing at {next} below the tail {}", partition.tail()));
        }
        for batch in slice.batches {
            for record in batch.records(8 << 20).map_err(|error| error.to_string())? {
                if record.offset.0 >= *next {
                    let bytes = record.value.unwrap_or_default();
                    let number = u64::from_be_bytes(bytes[..8].try_into().unwrap());
                    let producer = u32::from_be_bytes(bytes[8..12].try_into().unwrap());
                    let value = Value { producer, number };
                    history.reads.push(Read { pass, partition: 0, offset: record.offset.0, value });
                }
            }
            *next = batch.next_offset().0;
        }
    }
    Ok(())
}

#[test]
fn the_checker_finds_nothing_after_crashes_of_the_simulated_disk() {
    for seed in 0..25 {
        match simulate(seed, None) {
            Ok(violations) => assert!(violations.is_empty(), "seed {seed}: {violations:#?}"),
            Err(wrong) => panic!("seed {seed}: {wrong}"),
        }
    }
}

#[test]
fn the_checker_notices_a_disk_that_lies() {
    for lie in [Lie::Sync, Lie::SyncFolder, Lie::SyncResult, Lie::Buffer] {
        let is_noticed = |seed| {
            let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| simulate(seed, Some(lie))));
            !matches!(run, Ok(Ok(violations)) if violations.is_empty())
        };
        assert!((0..100).any(is_noticed), "{lie:?} went unnoticed");
    }
}

#[test]
fn topics_that_are_deleted_while_they_are_written_poison_nothing() {
    let sim = Sim::new(3);
    let (store, _) = open(&sim, 0).unwrap();
    for round in 0..40 {
        let name = TopicName::new(&format!("gone-{round}")).unwrap();
        let config = vec![("segment.bytes".to_owned(), "16384".to_owned())];
        let topic = wait(store.create_topic(NewTopic { name: name.clone(), partitions: 1, config })).unwrap();
        let partition = topic.partition(PartitionId(0)).unwrap();
        let appended = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut builder = BatchBuilder::new();
                builder.push(NewRecord { timestamp: 1, key: None, value: Some(&[7; 3_000]), headers: &[] });
                let batch = builder.build(Codec::None).unwrap();
                let append = || Append { batch: batch.clone(), lease: None, leader_epoch: -1 };
                let ended = loop {
                    match partition.append_blocking(append()) {
                        Ok(_) => appended.fetch_add(1, Ordering::Relaxed),
                        Err(error) => break error,
                    };
                };
                assert!(matches!(ended, AppendError::NoPartition { .. }), "{ended:?}");
            });
            while appended.load(Ordering::Relaxed) < 1 + round % 13 {
                std::thread::yield_now();
            }
            wait(store.delete_topic(&name)).unwrap();
        });
        assert_eq!(store.health().poisoned, None, "deleting gone-{round} poisoned the log");
    }
    wait(store.close(Duration::from_secs(60))).unwrap();
}
