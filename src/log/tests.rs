//! A partition's log against a plain vector: appends, producers that send again, rolls, restarts and crashes by any plan; and a log that
//! remembers too little of its producers, which must be noticed.

use super::*;
use crate::disk::sim::Sim;
use crate::disk::{Buffer, Disk, Engine, Write};
use crate::record::{Batch, BatchBuilder, Codec, NewRecord, Offset, Producer};
use proptest::prelude::*;
use std::collections::HashMap;
use std::path::Path;

const FOLDER: &str = "/p";

#[derive(Clone, Debug)]
enum Step {
    /// A batch without a producer.
    Append {
        count: usize,
        size: usize,
    },
    /// The next batch of a producer.
    Produce {
        producer: i64,
        count: usize,
    },
    /// One of its last five batches again, 0 = the last.
    Again {
        producer: i64,
        back: usize,
    },
    Roll,
    Restart {
        is_crash: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1usize..5, 0usize..6_000).prop_map(|(count, size)| Step::Append { count, size }),
        4 => (0i64..3, 1usize..4).prop_map(|(producer, count)| Step::Produce { producer, count }),
        3 => (0i64..3, 0usize..5).prop_map(|(producer, back)| Step::Again { producer, back }),
        1 => Just(Step::Roll),
        1 => any::<bool>().prop_map(|is_crash| Step::Restart { is_crash }),
    ]
}

/// The log, and what it should hold.
struct Model {
    sim: Sim,
    engine: Box<dyn Engine>,
    log: PartitionLog,
    epoch: i32,
    /// Batches that a producer's state keeps.
    window: usize,
    values: Vec<u64>,
    /// By producer: (base sequence, count, base offset, first value) of each batch.
    sent: HashMap<i64, Vec<(i32, usize, i64, u64)>>,
}

impl Model {
    fn new(window: usize) -> Model {
        let sim = Sim::new(7);
        sim.create_folder(Path::new(FOLDER)).unwrap();
        let log = open(&sim, 0, window);
        let engine = sim.engine().unwrap();
        Model { sim, engine, log, epoch: 0, window, values: Vec::new(), sent: HashMap::new() }
    }

    fn batch(&self, first: u64, count: usize, size: usize, producer: Option<Producer>) -> Batch {
        let mut builder = BatchBuilder::new();
        for n in 0..count as u64 {
            let mut value = (first + n).to_be_bytes().to_vec();
            value.resize(8 + size, 1);
            builder.push(NewRecord { timestamp: 1, key: None, value: Some(&value), headers: &[] });
        }
        if let Some(producer) = producer {
            builder.producer(producer);
        }
        builder.build(Codec::None).unwrap()
    }

    /// One batch as one durable round.
    fn store(&mut self, batch: Batch) -> Result<Staged, String> {
        self.log.reserve(&self.sim, batch.size() as u64).map_err(|error| error.to_string())?;
        let mut round = self.log.begin(Buffer::with_capacity(0), batch.size());
        let staged = self.log.stage(&mut round, batch, 1).map_err(|error| error.to_string())?;
        if !round.batches.is_empty() {
            PartitionLog::seal_round(&mut round);
            let file = self.log.active.segment.file(&self.sim).unwrap().clone();
            let bytes = std::mem::replace(&mut round.bytes, Buffer::with_capacity(0));
            let write = Write { file: file.clone(), position: round.position, bytes };
            let (result, bytes) = self.engine.write_round(vec![write]).remove(0);
            result.unwrap();
            round.bytes = bytes;
            file.sync().unwrap();
            self.log.commit(&round, 1);
        }
        Ok(staged)
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        let next = self.values.len() as u64;
        match *step {
            Step::Append { count, size } => {
                let batch = self.batch(next, count, size, None);
                self.expect_at(batch, next, count)
            }
            Step::Produce { producer, count } => {
                let base_sequence =
                    self.sent.get(&producer).and_then(|sent| sent.last()).map_or(0, |s| s.0 + s.1 as i32);
                let batch = self.batch(next, count, 0, Some(Producer { id: producer, epoch: 0, base_sequence }));
                self.expect_at(batch, next, count)?;
                self.sent.entry(producer).or_default().push((base_sequence, count, next as i64, next));
                Ok(())
            }
            Step::Again { producer, back } => {
                let sent = self.sent.get(&producer).and_then(|sent| sent.iter().rev().nth(back)).copied();
                let Some((base_sequence, count, offset, first)) = sent else { return Ok(()) };
                let batch = self.batch(first, count, 0, Some(Producer { id: producer, epoch: 0, base_sequence }));
                match self.store(batch)? {
                    Staged::Duplicate { base_offset, .. } if base_offset.0 == offset => Ok(()),
                    other => Err(format!("offset {offset} was sent again and answered {other:?}")),
                }
            }
            // An empty segment is never rolled: its successor would have its name.
            Step::Roll if self.log.active.position == 0 => Ok(()),
            Step::Roll => self.log.roll(&self.sim).map(drop).map_err(|error| error.to_string()),
            Step::Restart { is_crash } => {
                if is_crash {
                    self.sim.crash()
                } else {
                    self.sim.kill()
                }
                self.epoch += 1;
                self.log = open(&self.sim, self.epoch, self.window);
                self.check()
            }
        }
    }

    fn expect_at(&mut self, batch: Batch, next: u64, count: usize) -> Result<(), String> {
        match self.store(batch)? {
            Staged::At { base_offset, .. } if base_offset.0 as u64 == next => {
                self.values.extend(next..next + count as u64);
                Ok(())
            }
            other => Err(format!("the batch for offset {next} was answered {other:?}")),
        }
    }

    /// All values that the files hold, in order, are those of the model.
    fn check(&self) -> Result<(), String> {
        let mut found = Vec::new();
        for base in super::segment::list(&self.sim, Path::new(FOLDER)).unwrap() {
            let file = self.sim.open(&Path::new(FOLDER).join(file_name(base))).unwrap();
            super::scan::scan(file.as_ref(), ScanEnd::start(base, i32::MAX), |batch| {
                let batch = Batch::check(batch.bytes.to_vec().into()).unwrap();
                let value = |bytes: bytes::Bytes| u64::from_be_bytes(bytes[..8].try_into().unwrap());
                found.extend(batch.records(1 << 20).unwrap().into_iter().map(|record| value(record.value.unwrap())));
            })
            .unwrap();
        }
        if found == self.values && self.log.end == Offset(found.len() as i64) {
            Ok(())
        } else {
            Err(format!("the log holds {found:?} and ends at {}, not {:?}", self.log.end, self.values))
        }
    }
}

fn open(sim: &Sim, leader_epoch: i32, window: usize) -> PartitionLog {
    let known = Known {
        checkpoint: None,
        leader_epoch,
        round_bytes_max: ROUND_SIZE_MAX as u64,
        lost_and_found: Path::new("/lost"),
        name: "t-0",
        now_ms: 1,
        synced_by: SyncedBy::Recovery,
    };
    let found = recover(sim, Path::new(FOLDER), &known).unwrap();
    assert_eq!(found.read_only, None);
    let mut log = found.log;
    log.producers.set_window(window);
    log
}

fn run(steps: &[Step], window: usize) -> Result<(), String> {
    let mut model = Model::new(window);
    for (number, step) in steps.iter().enumerate() {
        model.take(step).map_err(|wrong| format!("step {number}: {wrong}"))?;
    }
    model.check()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_log_is_what_a_vector_says(steps in proptest::collection::vec(step(), 1..60)) {
        if let Err(wrong) = run(&steps, producers::BATCHES_KEPT) {
            prop_assert!(false, "{}", wrong);
        }
    }
}

#[test]
fn a_dedupe_window_of_one_is_noticed() {
    let produce = Step::Produce { producer: 1, count: 2 };
    let steps = [produce.clone(), produce, Step::Again { producer: 1, back: 1 }];
    assert_eq!(run(&steps, producers::BATCHES_KEPT), Ok(()));
    assert!(run(&steps, 1).is_err());
}
