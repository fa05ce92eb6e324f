//! Batches of the log to finished rows, several lanes at a time and in the log's order: decompression, JSON, `where` and `select`.
//!
//! Knows no output and no position. The runner asks for a slice of one partition and gets [`Outcome`]s one after another; while it
//! writes one, the pool makes the next ones. Without threads in the pool all is done by the runner, at the moment it asks.

use super::fault::Fault;
use super::plan::Plan;
use super::rows::{Decoder, ROWS_BYTES_MAX, ROWS_MAX};
use super::supervisor::plan_file;
use crate::config::Mistake;
use crate::record::{Batch, Codec, DECODED_SIZE_MAX, Frames, Offset, PartitionId, Record, RecordRef};
use crate::work::{Pool, Task};
use arrow::record_batch::RecordBatch;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

/// Decompressed bytes that are in flight ahead of the one that is written, as far as a batch's size tells. One job is always allowed.
const AHEAD_BYTES_MAX: usize = 32 << 20;
/// What a batch is thought to decompress to; clicks shrink to a sixth.
const RATIO_GUESSED: usize = 8;

/// The way from batches to rows of one pipeline.
pub(super) struct Lanes {
    pool: Arc<Pool>,
    work: Arc<Work>,
}

struct Work {
    decoder: Decoder,
    plan: Arc<Plan>,
}

/// What came of a stretch of the log.
pub(super) enum Outcome {
    Piece(Piece),
    /// Its checksum is right and it cannot be decoded.
    Undecodable {
        batch: Batch,
        reason: String,
    },
}

/// Records that were decoded together, and what became of them.
pub(super) struct Piece {
    pub(super) records: Records,
    pub(super) rows: RecordBatch,
    /// For each row the index of its record, ascending.
    pub(super) sources: Vec<u32>,
    /// Bad records by index, ascending.
    pub(super) bad: Vec<(u32, Fault)>,
    /// What `where` rejected by its answer, and pictures that were passed over.
    pub(super) rejected_false: u32,
    pub(super) rejected_null: u32,
    pub(super) passed_over: u32,
}

/// Records of one partition, where they lie in their batches.
#[derive(Default)]
pub(super) struct Records {
    frames: Vec<Arc<Frames>>,
    /// Which of the frames, and which record of it.
    places: Vec<(u32, u32)>,
    /// Of all values.
    size: usize,
}

impl Records {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Looks at a record.
    ///
    /// # Panics
    /// If there are not so many.
    pub(super) fn get(&self, index: usize) -> RecordRef<'_> {
        let (frames, record) = self.places[index];
        self.frames[frames as usize].get(record as usize)
    }

    /// A record of its own; its parts share the batch's memory.
    ///
    /// # Panics
    /// If there are not so many.
    pub(super) fn record(&self, index: usize) -> Record {
        let (frames, record) = self.places[index];
        self.frames[frames as usize].record(record as usize)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = RecordRef<'_>> {
        self.places.iter().map(|(frames, record)| self.frames[*frames as usize].get(*record as usize))
    }

    fn is_full(&self) -> bool {
        self.places.len() >= ROWS_MAX || self.size >= ROWS_BYTES_MAX
    }

    fn push(&mut self, frames: &Arc<Frames>, index: usize) {
        if !self.frames.last().is_some_and(|last| Arc::ptr_eq(last, frames)) {
            self.frames.push(frames.clone());
        }
        self.places.push((self.frames.len() as u32 - 1, index as u32));
        self.size += frames.get(index).value.map_or(0, <[u8]>::len);
    }
}

impl Lanes {
    pub(super) fn new(pool: &Arc<Pool>, plan: &Arc<Plan>) -> Lanes {
        let decoder = Decoder::new(plan.columns().to_vec(), plan.input().clone());
        Lanes { pool: pool.clone(), work: Arc::new(Work { decoder, plan: plan.clone() }) }
    }

    /// Gives what comes of the records from `from` on to `each`, in order. Batches may begin below `from`.
    ///
    /// # Errors
    /// The first one of `each`; what was begun ahead is given up then.
    pub(super) fn run<E>(
        &self,
        partition: PartitionId,
        from: Offset,
        batches: &[Batch],
        mut each: impl FnMut(Outcome) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = batches;
        // One job for each thread that could take it, and one that lies ready.
        let jobs_max = self.pool.threads() + 1;
        let mut ahead: VecDeque<(Task<Vec<Outcome>>, usize)> = VecDeque::new();
        let mut size = 0;
        loop {
            while ahead.len() < jobs_max && !rest.is_empty() && (ahead.is_empty() || size < AHEAD_BYTES_MAX) {
                let (batches, after) = rest.split_at(job_len(rest));
                rest = after;
                let job_size = batches.iter().map(decoded_size).sum();
                let (work, batches) = (self.work.clone(), batches.to_vec());
                let job = move || work.outcomes(partition, from, batches);
                ahead.push_back((self.pool.offer(job), job_size));
                size += job_size;
            }
            let Some((task, job_size)) = ahead.pop_front() else { return Ok(()) };
            size -= job_size;
            for outcome in task.join() {
                each(outcome)?;
            }
        }
    }
}

/// What [`transform`] met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub records: u64,
    pub rows: u64,
    pub bad: u64,
}

/// Decodes and transforms batches as a pipeline file says and throws the rows away: how fast that much of the way is.
///
/// # Errors
/// The file's mistakes.
pub fn transform(file: &Path, pool: &Arc<Pool>, batches: &[Batch]) -> Result<Counts, Vec<Mistake>> {
    let lanes = Lanes::new(pool, &plan_file(file)?.plan);
    let mut counts = Counts::default();
    let ran = lanes.run(PartitionId(0), Offset(0), batches, |outcome| {
        match outcome {
            Outcome::Piece(piece) => {
                counts.records += piece.records.len() as u64;
                counts.rows += piece.rows.num_rows() as u64;
                counts.bad += piece.bad.len() as u64;
            }
            Outcome::Undecodable { .. } => counts.bad += 1,
        }
        Ok::<(), std::convert::Infallible>(())
    });
    ran.unwrap_or_else(|never| match never {});
    Ok(counts)
}

/// How many of the batches make one job: about as many records as one piece holds.
fn job_len(batches: &[Batch]) -> usize {
    let (mut records, mut size) = (0, 0);
    let fits = |batch: &&Batch| {
        records += batch.header().count.max(0) as usize;
        size += decoded_size(batch);
        records <= ROWS_MAX && size <= ROWS_BYTES_MAX
    };
    batches.iter().take_while(fits).count().max(1)
}

fn decoded_size(batch: &Batch) -> usize {
    match batch.header().codec {
        Codec::None => batch.size(),
        _ => batch.size().saturating_mul(RATIO_GUESSED).min(DECODED_SIZE_MAX),
    }
}

impl Work {
    fn outcomes(&self, partition: PartitionId, from: Offset, batches: Vec<Batch>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut records = Records::default();
        for batch in batches {
            match batch.frames(DECODED_SIZE_MAX) {
                Ok(frames) => {
                    let frames = Arc::new(frames);
                    for index in 0..frames.len() {
                        if frames.get(index).offset < from {
                            continue;
                        }
                        records.push(&frames, index);
                        if records.is_full() {
                            self.finish(partition, &mut records, &mut outcomes);
                        }
                    }
                }
                Err(error) => {
                    self.finish(partition, &mut records, &mut outcomes);
                    outcomes.push(Outcome::Undecodable { batch, reason: error.to_string() });
                }
            }
        }
        self.finish(partition, &mut records, &mut outcomes);
        outcomes
    }

    fn finish(&self, partition: PartitionId, records: &mut Records, outcomes: &mut Vec<Outcome>) {
        let records = std::mem::take(records);
        if records.len() == 0 {
            return;
        }
        let decoded = self.decoder.decode_each(partition.0, records.len(), records.iter());
        let done = self.plan.run(&decoded.rows);
        let source = |row: u32| decoded.sources[row as usize];
        let mut bad = decoded.faults;
        bad.extend(done.faults.into_iter().map(|(row, fault)| (source(row), fault)));
        bad.sort_by_key(|(index, _)| *index);
        outcomes.push(Outcome::Piece(Piece {
            sources: done.sources.iter().map(|row| source(*row)).collect(),
            rows: done.rows,
            bad,
            rejected_false: done.rejected_false,
            rejected_null: done.rejected_null,
            passed_over: decoded.passed_over,
            records,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;
    use crate::record::{BatchBuilder, NewRecord};

    fn batches(count: i64, each: i64) -> Vec<Batch> {
        let batch = |number: i64| {
            let mut builder = BatchBuilder::new();
            for record in 0..each {
                let value = match record % 7 {
                    3 => "broken".to_owned(),
                    _ => format!("{{\"n\":{}}}", number * each + record),
                };
                builder.push(NewRecord { timestamp: 0, key: None, value: Some(value.as_bytes()), headers: &[] });
            }
            builder.build(Codec::Zstd).unwrap().stamped(Offset(number * each), 0)
        };
        (0..count).map(batch).collect()
    }

    /// By offset, what became of each record from 5 on.
    fn fates(pool: Pool, batches: &[Batch]) -> Vec<(i64, &'static str)> {
        let text = "from = \"topic:t\"\nwhere = \"n % 2 = 0\"\nto = { parquet = \"t\" }\n[columns]\nn = \"int64\"\n";
        let plan = Plan::of(&parse(Path::new("p.toml"), text).unwrap()).unwrap();
        let lanes = Lanes::new(&Arc::new(pool), &Arc::new(plan));
        let mut fates = Vec::new();
        let ran = lanes.run(PartitionId(0), Offset(5), batches, |outcome| {
            let Outcome::Piece(piece) = outcome else { return Err("a batch was not decoded") };
            let offset = |index: &u32| piece.records.get(*index as usize).offset.0;
            fates.extend(piece.sources.iter().map(|index| (offset(index), "row")));
            fates.extend(piece.bad.iter().map(|(index, _)| (offset(index), "bad")));
            let rejected = piece.records.len() - piece.sources.len() - piece.bad.len();
            assert_eq!(rejected as u32, piece.rejected_false);
            // Pieces come in the log's order.
            let last = piece.records.get(piece.records.len() - 1).offset.0;
            assert!(fates.iter().all(|(offset, _)| *offset <= last));
            Ok(())
        });
        ran.unwrap();
        fates.sort_unstable();
        fates
    }

    #[test]
    fn many_threads_and_none_make_the_same_rows_in_the_same_order() {
        let batches = batches(40, 1_000);
        let alone = fates(Pool::without_threads(), &batches);
        assert_eq!(alone.first(), Some(&(6, "row")));
        assert!(alone.iter().filter(|(_, fate)| *fate == "bad").count() > 5_000);
        assert_eq!(fates(Pool::start(3, "rows").unwrap(), &batches), alone);
    }

    #[test]
    fn an_error_of_the_writer_gives_up_what_was_begun_ahead() {
        let text = "from = \"topic:t\"\nto = { parquet = \"t\" }\n[columns]\nn = \"int64\"\n";
        let plan = Plan::of(&parse(Path::new("p.toml"), text).unwrap()).unwrap();
        let lanes = Lanes::new(&Arc::new(Pool::start(1, "rows").unwrap()), &Arc::new(plan));
        let mut seen = 0;
        let ran = lanes.run(PartitionId(0), Offset(0), &batches(40, 1_000), |_| {
            seen += 1;
            if seen == 2 { Err("full") } else { Ok(()) }
        });
        assert_eq!((ran, seen), (Err("full"), 2));
    }
}
