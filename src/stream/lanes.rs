//! Batches of the log to finished rows, several lanes at a time and in the log's order: decompression, JSON, `where` and `select`.
//!
//! Knows no output and no position. The runner asks for a slice of one partition and gets [`Outcome`]s one after another; while it
//! writes one, the pool makes the next ones. Without threads in the pool all is done by the runner, at the moment it asks.

use super::fault::Fault;
use super::format::Format;
use super::load;
use super::plan::{Plan, Watch};
use super::rows::{Decoded, Decoder, ROWS_BYTES_MAX, ROWS_MAX};
use super::step::{Filtered, Rows, Sieve};
use super::tap::{Look, Sights, Taps};
use crate::config::Mistake;
use crate::record::{Batch, Codec, DECODED_SIZE_MAX, Record, TimestampType};
use crate::work::{Pool, Task};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::num::NonZero;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// Decompressed bytes that are in flight ahead of the one that is written, as far as a batch's size tells. One job is always allowed.
const AHEAD_BYTES_MAX: usize = 32 << 20;
/// What all that is in flight may take: records ahead and the rows made of them, and the piece that is written.
pub(super) fn memory_max() -> u64 {
    (2 * AHEAD_BYTES_MAX + 2 * ROWS_BYTES_MAX) as u64
}

/// Records that one read of the log takes at most: events that are like each other take little of it.
pub(super) const READ_RECORDS_MAX: usize = 128 << 10;
/// Threads of the pool.
const THREADS_MAX: usize = 15;
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
    taps: Arc<Taps>,
}

/// What came of a stretch of the log.
pub(super) enum Outcome {
    Piece(Piece),
    /// Its checksum is right and it cannot be decoded.
    Undecodable {
        batch: Batch,
        reason: String,
    },
    /// Without what the records need (a schema) nothing can be said of them: again later.
    Down(String),
}

/// Records that were decoded together, and what became of them.
pub(super) struct Piece {
    /// Of one partition, ascending; the same for all.
    pub(super) kind: TimestampType,
    pub(super) records: Vec<Record>,
    pub(super) ready: Ready,
}

/// Records decoded and transformed.
pub(super) struct Ready {
    /// By route.
    pub(super) routes: Vec<Rows>,
    /// Bad records by index, ascending.
    pub(super) bad: Vec<(u32, Fault)>,
    pub(super) filtered: Filtered,
    /// What those who tap see of it.
    pub(super) sights: Sights,
    /// It is all worth nothing: schemas are to be fetched first.
    lacks_schemas: bool,
}

/// One pool a process, since its cores are the process's. A pipeline's own thread works too: with one core there is no other.
pub(super) fn pool() -> Arc<Pool> {
    static POOL: LazyLock<Arc<Pool>> = LazyLock::new(|| {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        // Without threads all goes on, a core at a time.
        let pool = match cores {
            1 => Pool::without_threads(),
            _ => Pool::start((cores - 1).min(THREADS_MAX), "rows").unwrap_or_else(|_| Pool::without_threads()),
        };
        Arc::new(pool)
    });
    POOL.clone()
}

impl Lanes {
    pub(super) fn new(pool: &Arc<Pool>, format: &Format, plan: &Arc<Plan>) -> Lanes {
        Lanes::tapped(pool, format, plan, Arc::default())
    }

    /// As [`Lanes::new`]; notes what taps want to see.
    pub(super) fn tapped(pool: &Arc<Pool>, format: &Format, plan: &Arc<Plan>, taps: Arc<Taps>) -> Lanes {
        let decoder = Decoder::new(format, plan.columns().to_vec(), plan.input().clone());
        Lanes { pool: pool.clone(), work: Arc::new(Work { decoder, plan: plan.clone(), taps }) }
    }

    /// Decodes and transforms records of one piece here and now; waits for schemas that they lack.
    ///
    /// # Errors
    /// The schema registry is down, or has much to answer.
    pub(super) fn transform(&self, partition: i32, records: &[Record]) -> Result<Ready, String> {
        Ok(self.work.ready(self.work.decoder.decode_fetching_some(partition, records)?).0)
    }

    /// The same of records that may make more rows than fit together: in their order.
    ///
    /// # Errors
    /// The schema registry is down.
    pub(super) fn pieces(&self, partition: i32, records: Vec<Record>) -> Result<Vec<Piece>, String> {
        let mut outcomes = Vec::new();
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let fetching = |records: &[Record]| self.work.decoder.decode_fetching_some(partition, records);
        self.work.piece(&fetching, TimestampType::CreateTime, records, &mut outcomes)?;
        let piece = |outcome| match outcome {
            Outcome::Piece(piece) => Some(piece),
            Outcome::Undecodable { .. } | Outcome::Down(_) => None,
        };
        Ok(outcomes.into_iter().filter_map(piece).collect())
    }

    /// The same outcome, done again if it lacked schemas: the pool's threads do not wait for a registry.
    fn fetched(&self, partition: i32, outcome: Outcome) -> Vec<Outcome> {
        let Outcome::Piece(piece) = outcome else { return vec![outcome] };
        if !piece.ready.lacks_schemas {
            return vec![Outcome::Piece(piece)];
        }
        let mut outcomes = Vec::new();
        let fetching = |records: &[Record]| self.work.decoder.decode_fetching_some(partition, records);
        if let Err(reason) = self.work.piece(&fetching, piece.kind, piece.records, &mut outcomes) {
            outcomes.push(Outcome::Down(reason));
        }
        outcomes
    }

    /// Gives what comes of the records with these offsets to `each`, in order. Batches may reach beyond them.
    ///
    /// # Errors
    /// The first one of `each`; what was begun ahead is given up then.
    pub(super) fn run<E>(
        &self,
        partition: i32,
        offsets: Range<i64>,
        batches: &[Batch],
        mut each: impl FnMut(Outcome) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = batches;
        // One job for each thread that could take it, this one among them, and one that lies ready.
        let jobs_max = if self.pool.threads() == 0 { 1 } else { self.pool.threads() + 2 };
        let mut ahead: VecDeque<(Task<Vec<Outcome>>, usize)> = VecDeque::new();
        let mut size = 0;
        loop {
            while ahead.len() < jobs_max && !rest.is_empty() && (ahead.is_empty() || size < AHEAD_BYTES_MAX) {
                let (batches, after) = rest.split_at(job_len(rest));
                rest = after;
                let job_size = batches.iter().map(decoded_size).sum();
                let (work, batches, offsets) = (self.work.clone(), batches.to_vec(), offsets.clone());
                let job = move || work.outcomes(partition, &offsets, batches);
                ahead.push_back((self.pool.offer(job), job_size));
                size += job_size;
            }
            let Some((task, job_size)) = ahead.pop_front() else { return Ok(()) };
            size -= job_size;
            // While another thread is at it, this one does what comes next.
            if !task.try_run() {
                while !task.is_done() && ahead.iter().any(|(next, _)| next.try_run()) {}
            }
            for outcome in task.join() {
                for outcome in self.fetched(partition, outcome) {
                    each(outcome)?;
                }
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
    let job = load::file(file)?;
    let lanes = Lanes::new(pool, &job.spec.format, &job.plan);
    let mut counts = Counts::default();
    let ran = lanes.run(0, 0..i64::MAX, batches, |outcome| {
        match outcome {
            Outcome::Piece(piece) => {
                counts.records += piece.records.len() as u64;
                counts.rows += piece.ready.routes.iter().map(|rows| rows.len() as u64).sum::<u64>();
                counts.bad += piece.ready.bad.len() as u64;
            }
            Outcome::Undecodable { .. } | Outcome::Down(_) => counts.bad += 1,
        }
        Ok::<(), Infallible>(())
    });
    ran.unwrap_or_else(|never| match never {});
    Ok(counts)
}

/// Decodes records of JSON that are cut out of their batches already, a piece after the other on this thread, and throws the rows away: how
/// fast that alone is. Gives the rows.
///
/// # Errors
/// The file's mistakes.
pub fn decode(file: &Path, pieces: &[Vec<Record>]) -> Result<u64, Vec<Mistake>> {
    let job = load::file(file)?;
    let decoder = Decoder::new(&job.spec.format, job.plan.columns().to_vec(), job.plan.input().clone());
    let rows = |piece: &Vec<Record>| decoder.decode(0, piece).rows.num_rows() as u64;
    Ok(pieces.iter().map(rows).sum())
}

/// The first of these batches, up to the one that brings so many records together.
pub(super) fn first_of(mut batches: Vec<Batch>, records_max: usize) -> Vec<Batch> {
    let mut records = 0;
    let fits = |batch: &&Batch| {
        let before = records;
        records += batch.header().count.max(0) as usize;
        before < records_max
    };
    let count = batches.iter().take_while(fits).count();
    batches.truncate(count);
    batches
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
    fn outcomes(&self, partition: i32, offsets: &Range<i64>, batches: Vec<Batch>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut records = Vec::new();
        let (mut size, mut kind) = (0, TimestampType::CreateTime);
        for batch in batches {
            if kind != batch.header().timestamp_type {
                size = 0;
                self.finish(partition, kind, &mut records, &mut outcomes);
                kind = batch.header().timestamp_type;
            }
            match batch.frames(DECODED_SIZE_MAX) {
                Ok(found) => {
                    records.reserve(found.len().min(ROWS_MAX));
                    for (index, record) in found.iter().enumerate() {
                        if !offsets.contains(&record.offset.0) {
                            continue;
                        }
                        size += self.decoder.weight(&record);
                        records.push(found.record(index));
                        if records.len() >= self.plan.records_max() || size >= ROWS_BYTES_MAX {
                            size = 0;
                            self.finish(partition, kind, &mut records, &mut outcomes);
                        }
                    }
                }
                Err(error) => {
                    size = 0;
                    self.finish(partition, kind, &mut records, &mut outcomes);
                    outcomes.push(Outcome::Undecodable { batch, reason: error.to_string() });
                }
            }
        }
        self.finish(partition, kind, &mut records, &mut outcomes);
        outcomes
    }

    fn finish(&self, partition: i32, kind: TimestampType, records: &mut Vec<Record>, outcomes: &mut Vec<Outcome>) {
        let records = std::mem::take(records);
        if !records.is_empty() {
            let decode = |records: &[Record]| Ok::<_, Infallible>(self.decoder.decode(partition, records));
            self.piece(&decode, kind, records, outcomes).unwrap_or_else(|never| match never {});
        }
    }

    /// One piece of these records, or several if they make too many rows together.
    fn piece<E>(
        &self,
        decode: &dyn Fn(&[Record]) -> Result<Decoded, E>,
        kind: TimestampType,
        mut records: Vec<Record>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), E> {
        let (ready, is_too_wide) = self.ready(decode(&records)?);
        if is_too_wide && records.len() > 1 {
            let rest = records.split_off(records.len() / 2);
            self.piece(decode, kind, records, outcomes)?;
            return self.piece(decode, kind, rest, outcomes);
        }
        outcomes.push(Outcome::Piece(Piece { kind, records, ready }));
        Ok(())
    }

    /// What became of decoded records, and whether that is worth nothing because they make too many rows together.
    fn ready(&self, decoded: Decoded) -> (Ready, bool) {
        let lacks_schemas = !decoded.wanting.is_empty();
        let mut look = self.taps.look();
        let rows = Rows { batch: decoded.rows, sources: decoded.sources };
        let mut done = self.plan.run_watched(rows, look.as_mut().map(|look| look as &mut dyn Watch));
        let sights = look.map(Look::into_sights).unwrap_or_default();
        done.filtered.add(Sieve::ContentType, decoded.passed_over as usize);
        let mut bad = decoded.faults;
        bad.extend(done.faults);
        bad.sort_by_key(|(index, _)| *index);
        (Ready { routes: done.routes, bad, filtered: done.filtered, sights, lacks_schemas }, done.is_too_wide)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;
    use crate::record::{BatchBuilder, NewRecord, Offset};

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
        let lanes = Lanes::new(&Arc::new(pool), &Format::Json, &Arc::new(plan));
        let mut fates = Vec::new();
        let ran = lanes.run(0, 5..i64::MAX, batches, |outcome| {
            let Outcome::Piece(piece) = outcome else { return Err("a batch was not decoded") };
            let offset = |index: &u32| piece.records[*index as usize].offset.0;
            let sources = &piece.ready.routes[0].sources;
            fates.extend(sources.iter().map(|index| (offset(index), "row")));
            fates.extend(piece.ready.bad.iter().map(|(index, _)| (offset(index), "bad")));
            let rejected = piece.records.len() - sources.len() - piece.ready.bad.len();
            assert_eq!(rejected as u32, piece.ready.filtered.of(Sieve::False));
            // Pieces come in the log's order.
            let last = piece.records[piece.records.len() - 1].offset.0;
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
    fn a_read_ends_with_the_batch_that_fills_it() {
        let batches = batches(5, 10);
        let count = |records_max| first_of(batches.clone(), records_max).len();
        assert_eq!([0, 1, 10, 11, 20, 49, 50, 51].map(count), [0, 1, 1, 2, 2, 5, 5, 5]);
    }

    #[test]
    fn an_error_of_the_writer_gives_up_what_was_begun_ahead() {
        let text = "from = \"topic:t\"\nto = { parquet = \"t\" }\n[columns]\nn = \"int64\"\n";
        let plan = Plan::of(&parse(Path::new("p.toml"), text).unwrap()).unwrap();
        let lanes = Lanes::new(&Arc::new(Pool::start(1, "rows").unwrap()), &Format::Json, &Arc::new(plan));
        let mut seen = 0;
        let ran = lanes.run(0, 0..i64::MAX, &batches(40, 1_000), |_| {
            seen += 1;
            if seen == 2 { Err("full") } else { Ok(()) }
        });
        assert_eq!((ran, seen), (Err("full"), 2));
    }
}
