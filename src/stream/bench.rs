//! `inrush pipeline bench`: how fast a pipeline file is, and where its time goes: decoding, each step, the encoding of each output.
//!
//! On one core, which the process is bound to, so that nothing of it is hidden by others. Records lie in memory, so neither the log nor its
//! compression is part of it; Parquet goes to a folder in memory where there is one, so the disk is not either. Rounds are whole: all
//! events, new state, new files. What is told is the median of the rounds, with the least and the most beside it.

use super::explain::told_steps;
use super::horizon::Horizon;
use super::load::{self, Job};
use super::plan::Watch;
use super::rows::{Decoder, ROWS_BYTES_MAX, ROWS_MAX};
use super::sink::Sink;
use super::sink::journal::Last;
use super::sink::lake::Owner;
use super::sink::parquet::{CutName, Parquet};
use super::sink::place::Place;
use super::sink::source;
use super::spec::{Output, ParquetOutput};
use super::state::States;
use super::step::{Found, JsonLines, Rows};
use crate::config::Mistake;
use crate::record::Record;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Values of events that are kept in memory; what is behind is left out.
pub const EVENTS_BYTES_MAX: u64 = 512 << 20;
/// Rounds that are measured: so many at the least, and more for so long.
const ROUNDS_MIN: usize = 5;
const ROUNDS_MAX: usize = 100;
const ROUNDS_TIME: Duration = Duration::from_secs(3);
/// Rounds before them, which are not.
const WARM_UP: usize = 1;

/// What a measurement says.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Benched {
    pub name: String,
    pub events: u64,
    /// Of values, keys and headers: JSON, not what the log makes of it.
    pub bytes: u64,
    /// Rows that go out, each as often as there are outputs that take it.
    pub rows: u64,
    pub filtered: u64,
    pub dead_letters: u64,
    pub rounds: usize,
    /// The core that it ran on; `None` if it could not be bound to one.
    pub core: Option<usize>,
    pub cores: usize,
    /// 10^6 bytes of events a second.
    pub mb_per_second: Spread,
    pub events_per_second: Spread,
    /// In their order.
    pub parts: Vec<Part>,
    /// Name of the part that takes longest.
    pub slowest: String,
    /// How far apart the slowest and the fastest round are, in percent of the median: what the machine did beside.
    pub noise_percent: f64,
}

/// A part of the way.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Part {
    pub name: String,
    /// Of a round.
    pub ms: Spread,
    /// Of the time of all rounds, in percent.
    pub share_percent: f64,
    /// 10^6 bytes of events a second, if there were only this part.
    pub mb_per_second: f64,
    pub rows: u64,
}

/// A figure over all rounds.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

/// Why it cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("the pipeline file has {} mistakes", .0.len())]
    Mistakes(Vec<Mistake>),
    #[error("there are no events")]
    Nothing,
    #[error("{0}")]
    Down(String),
    #[error("cannot write Parquet: {0}")]
    Disk(#[from] std::io::Error),
}

impl Spread {
    /// Of at least one figure.
    fn of(figures: impl Iterator<Item = f64>) -> Spread {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let at = |at: usize| figures.get(at).copied().unwrap_or(0.0);
        Spread { median: at(figures.len() / 2), min: at(0), max: at(figures.len().saturating_sub(1)) }
    }
}

/// Measures a file on events; `progress` is told of rounds that are done. Binds the calling thread to the core it is on.
///
/// # Errors
/// [`BenchError`]
pub fn bench(file: &Path, events: Vec<Record>, mut progress: impl FnMut(usize)) -> Result<Benched, BenchError> {
    let job = load::file(file).map_err(BenchError::Mistakes)?;
    if events.is_empty() {
        return Err(BenchError::Nothing);
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let core = bind();
    let bytes = events.iter().map(size_of_record).sum();
    let mut course = Course::new(&job, events)?;
    for _ in 0..WARM_UP {
        course.round()?;
    }
    let began = Instant::now();
    let mut rounds = Vec::new();
    while rounds.len() < ROUNDS_MIN || rounds.len() < ROUNDS_MAX && began.elapsed() < ROUNDS_TIME {
        rounds.push(course.round()?);
        progress(rounds.len());
    }
    Ok(summed(&job, &course, &rounds, Measured { bytes, core, cores }))
}

struct Measured {
    bytes: u64,
    core: Option<usize>,
    cores: usize,
}

fn summed(job: &Job, course: &Course<'_>, rounds: &[Round], measured: Measured) -> Benched {
    let Measured { bytes, core, cores } = measured;
    let seconds = |round: &Round| round.whole.as_secs_f64();
    let whole = Spread::of(rounds.iter().map(seconds));
    let mut parts: Vec<Part> = Vec::new();
    for (at, name) in course.names.iter().enumerate() {
        let ms = Spread::of(rounds.iter().map(|round| round.parts[at].time.as_secs_f64() * 1e3));
        let rows = rounds.last().map_or(0, |round| round.parts[at].rows);
        // Of all rounds together, so that shares are of one whole; medians are each of another round.
        let took: f64 = rounds.iter().map(|round| round.parts[at].time.as_secs_f64()).sum();
        let share_percent = took * 100.0 / rounds.iter().map(seconds).sum::<f64>().max(1e-9);
        let mb_per_second = bytes as f64 / 1e3 / ms.median.max(1e-6);
        parts.push(Part { name: name.clone(), ms, share_percent, mb_per_second, rows });
    }
    let slowest = parts.iter().max_by(|a, b| a.ms.median.total_cmp(&b.ms.median));
    let last = rounds.last();
    Benched {
        name: job.spec.name.clone(),
        events: course.events.len() as u64,
        bytes,
        rows: last.map_or(0, |round| round.rows),
        filtered: last.map_or(0, |round| round.filtered),
        dead_letters: last.map_or(0, |round| round.dead),
        rounds: rounds.len(),
        core,
        cores,
        mb_per_second: Spread::of(rounds.iter().map(|round| bytes as f64 / 1e6 / seconds(round).max(1e-9))),
        events_per_second: Spread::of(rounds.iter().map(|round| course.events.len() as f64 / seconds(round).max(1e-9))),
        slowest: slowest.map_or(String::new(), |part| part.name.clone()),
        noise_percent: (whole.max - whole.min) / whole.median.max(1e-9) * 100.0,
        parts,
    }
}

/// Binds this thread, and those that it starts, to the core it is on.
fn bind() -> Option<usize> {
    // SAFETY: the calls read and write a set of ours, of the size that is told.
    unsafe {
        let core = usize::try_from(libc::sched_getcpu()).ok()?;
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        (libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0).then_some(core)
    }
}

/// Bytes of a record's value, key and headers.
pub fn size_of_record(record: &Record) -> u64 {
    let of = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len());
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + of(value)).sum();
    (of(&record.value) + of(&record.key) + headers) as u64
}

/// All events, and what they go through.
struct Course<'a> {
    job: &'a Job,
    events: Vec<Record>,
    decoder: Decoder,
    /// Of the parts: decoding, each stage, the routes, each output.
    names: Vec<String>,
    stages: usize,
    folder: Folder,
    number: u64,
}

#[derive(Clone, Default)]
struct Took {
    time: Duration,
    rows: u64,
}

/// One time through all events.
struct Round {
    whole: Duration,
    parts: Vec<Took>,
    rows: u64,
    filtered: u64,
    dead: u64,
}

/// Notes how long each stage takes.
struct Stopwatch<'a> {
    since: Instant,
    /// Of the stages, then the routes.
    parts: &'a mut [Took],
}

impl Watch for Stopwatch<'_> {
    fn before(&mut self, _: usize, _: &Rows, _: &Found) {
        self.since = Instant::now();
    }

    fn after(&mut self, stage: usize, rows: &Rows, _: &Found) {
        self.parts[stage].time += self.since.elapsed();
        self.parts[stage].rows += rows.len() as u64;
    }

    fn enters(&mut self) {
        self.since = Instant::now();
    }

    fn entered(&mut self, stage: usize) {
        self.parts[stage].time += self.since.elapsed();
        self.since = Instant::now();
    }

    fn routed(&mut self, routes: &[Rows], _: &Found) {
        if let Some(part) = self.parts.last_mut() {
            part.time += self.since.elapsed();
            part.rows += routes.iter().map(|rows| rows.len() as u64).sum::<u64>();
        }
    }
}

impl<'a> Course<'a> {
    fn new(job: &'a Job, events: Vec<Record>) -> Result<Course<'a>, BenchError> {
        let (stages, plan) = (job.plan.stages().len(), &job.plan);
        let steps = told_steps(&job.spec).map_err(BenchError::Mistakes)?;
        let name = |stage: usize| {
            let of_stage = steps.iter().zip(plan.places()).filter(|(_, place)| place.stage == stage);
            let names: Vec<String> = of_stage.map(|(step, _)| format!("{} {}", step.number, step.kind)).collect();
            if names.is_empty() {
                "the columns that go out".to_owned()
            } else {
                format!("step {}", names.join(" and "))
            }
        };
        let outputs = job.spec.routes.iter().map(|route| format!("encoding for {}", route.to));
        let names = ["decoding".to_owned()].into_iter().chain((0..stages).map(name)).chain(["routes".to_owned()]);
        Ok(Course {
            job,
            events,
            decoder: Decoder::new(&job.spec.format, plan.columns().to_vec(), plan.input().clone()),
            names: names.chain(outputs).collect(),
            stages,
            folder: Folder::make()?,
            number: 0,
        })
    }

    fn round(&mut self) -> Result<Round, BenchError> {
        self.number += 1;
        let mut sinks = self.sinks()?;
        let mut states = States::default();
        let parts = vec![Took::default(); self.names.len()];
        let mut round = Round { whole: Duration::ZERO, parts, rows: 0, filtered: 0, dead: 0 };
        let began = Instant::now();
        let mut rest = self.events.as_slice();
        while !rest.is_empty() {
            let mut size = 0;
            let fits = |record: &&Record| {
                size += self.decoder.weight(&record.by_ref());
                size <= ROWS_BYTES_MAX
            };
            let count = rest.iter().take(ROWS_MAX).take_while(fits).count().max(1);
            let (some, after) = rest.split_at(count);
            rest = after;
            self.piece(some, &mut states, &mut sinks, &mut round)?;
        }
        let since = Instant::now();
        let all = |parts: &[Took]| parts.iter().map(|part| part.time).sum::<Duration>();
        let behind = all(&round.parts);
        let mut watch = Stopwatch { since, parts: &mut round.parts[1..self.stages + 2] };
        let gone = states.let_go(&self.job.plan, None, Some(&mut watch));
        if let Some(stage) = self.job.plan.remembering() {
            // What steps behind it took is theirs.
            let noted = all(&round.parts).saturating_sub(behind);
            round.parts[1 + stage].time += since.elapsed().saturating_sub(noted);
        }
        for done in gone {
            self.encode(&done.routes, &done.records, &mut sinks, &mut round)?;
        }
        for (at, sink) in sinks.iter_mut().enumerate() {
            let since = Instant::now();
            sink.iter_mut().try_for_each(|sink| sink.close("").map(drop))?;
            round.parts[self.stages + 2 + at].time += since.elapsed();
        }
        round.whole = began.elapsed();
        drop(sinks);
        self.folder.empty()?;
        Ok(round)
    }

    fn piece(
        &self,
        records: &[Record],
        states: &mut States,
        sinks: &mut [Option<Parquet>],
        round: &mut Round,
    ) -> Result<(), BenchError> {
        let plan = &self.job.plan;
        let since = Instant::now();
        let decoded = self.decoder.decode_fetching(0, records).map_err(BenchError::Down)?;
        round.parts[0].time += since.elapsed();
        round.parts[0].rows += decoded.rows.num_rows() as u64;
        let rows = Rows { batch: decoded.rows, sources: decoded.sources };
        let stages = 1..self.stages + 2;
        let mut watch = Stopwatch { since, parts: &mut round.parts[stages.clone()] };
        let mut done = plan.run_watched(rows, Some(&mut watch));
        if done.is_too_wide && records.len() > 1 {
            let (first, second) = records.split_at(records.len() / 2);
            self.piece(first, states, sinks, round)?;
            return self.piece(second, states, sinks, round);
        }
        round.filtered += done.filtered.total() + u64::from(decoded.passed_over);
        let mut bad = decoded.faults;
        bad.append(&mut done.faults);
        if !plan.is_stateful() {
            round.dead += bad.len() as u64;
            return self.encode(&done.routes, records, sinks, round);
        }
        let rows = done.routes.pop().unwrap_or_else(|| plan.no_rows());
        let mut watch = Stopwatch { since, parts: &mut round.parts[stages] };
        let done = states.of(0, plan).run_watched(plan, 0, records, rows, bad, &Horizon::NONE, Some(&mut watch));
        round.filtered += done.filtered.total();
        round.dead += done.bad.len() as u64;
        self.encode(&done.routes, &done.records, sinks, round)
    }

    /// Brings rows into the form of each output.
    fn encode(
        &self,
        routes: &[Rows],
        records: &[Record],
        sinks: &mut [Option<Parquet>],
        round: &mut Round,
    ) -> Result<(), BenchError> {
        for (at, rows) in routes.iter().enumerate().filter(|(_, rows)| rows.len() > 0) {
            let since = Instant::now();
            match &mut sinks[at] {
                Some(sink) => {
                    let now_ms = crate::clock::Clock::System.now_ms();
                    let name = CutName { generation: self.number, cut: 0, now_ms, last: Last::Whole };
                    sink.write_of(0, &rows.batch, &rows.sources, records, &name)?;
                    if sink.is_full() {
                        sink.close("")?;
                    }
                }
                None => {
                    let lines = JsonLines::of(&rows.batch).map_err(|error| BenchError::Down(error.to_string()))?;
                    std::hint::black_box(lines.text.len());
                }
            }
            round.parts[self.stages + 2 + at].time += since.elapsed();
            round.parts[self.stages + 2 + at].rows += rows.len() as u64;
            round.rows += rows.len() as u64;
        }
        Ok(())
    }

    /// By route; `None` for what becomes JSON lines.
    fn sinks(&self) -> Result<Vec<Option<Parquet>>, BenchError> {
        let name = self.job.spec.name.clone();
        let owner = Owner { cluster: Uuid::nil(), pipeline: Uuid::nil(), name, generation: self.number };
        let schema = self.job.plan.output();
        let sink = |route: &super::spec::Route| match &route.to {
            Output::Parquet(out) => {
                // What a bucket or files beside the rows cost is no matter of this machine's cores.
                let out = ParquetOutput { store: None, ..(**out).clone() };
                let place = Place::Folder(self.folder.path.join(&out.folder));
                let schema = source::schema(&out, schema);
                place.found()?;
                Parquet::open(out, schema, place, &owner, &owner.name, &[], Arc::new(|| {})).map(Some)
            }
            Output::Topic(_) | Output::Kafka(_) | Output::Http(_) | Output::Stdout => Ok(None),
        };
        Ok(self.job.spec.routes.iter().map(sink).collect::<Result<_, _>>()?)
    }
}

/// A folder for one measurement, in memory if there is such a place; gone with it.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn make() -> std::io::Result<Folder> {
        let memory = Path::new("/dev/shm");
        let above = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = above.join(format!("inrush-bench-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        std::fs::create_dir(&path)?;
        Ok(Folder { path })
    }

    fn empty(&self) -> std::io::Result<()> {
        std::fs::remove_dir_all(&self.path)?;
        std::fs::create_dir(&self.path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::stream::record_of;

    #[test]
    fn what_a_step_keeps_until_the_end_is_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        let steps = [
            "window = { tumbling = \"1m\", key = \"n\", select = \"count(*) as c\" }",
            "last = { key = \"n\", ttl = \"1h\" }",
            "window = { tumbling = \"1m\", key = \"n\", select = \"count(*) as c\" }\n[[step]]\nselect = \"*, c * 2 as d\"",
        ];
        for step in steps {
            let text = format!(
                "from = \"topic:t\"\n[columns]\nn = \"int64\"\n[[step]]\n{step}\n[[route]]\nto = {{ topic = \"o\" }}\n"
            );
            std::fs::write(&file, text).unwrap();
            let line = |n: u64| format!("{{\"n\":{}}}", n % 100);
            let events = (0..20_000).map(|n| record_of(line(n).as_bytes(), n as i64, &Clock::manual(1))).collect();
            let own = file.clone();
            let told = std::thread::spawn(move || bench(&own, events, |_| {}).unwrap()).join().unwrap();
            let part = &told.parts[1];
            assert!(part.name.starts_with("step 1") && part.rows == 100 && part.ms.median > 0.0, "{step}: {part:#?}");
            let behind = &told.parts[2..told.parts.len() - 1];
            assert!(behind.iter().all(|part| part.rows == 100 && part.ms.median > 0.0), "{step}: {behind:#?}");
            assert_eq!(told.rows, 100, "{step}");
        }
    }

    #[test]
    fn each_part_of_the_way_has_its_rows_and_its_share() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        let text = "from = \"topic:t\"\n[columns]\nn = \"int64\"\n[[step]]\nwhere = \"n % 2 = 0\"\n[[step]]\nselect = \"n, n * 2 as m\"\n[[step]]\ndedupe = { key = \"n\", ttl = \"1h\" }\n[[route]]\nto = { topic = \"o\" }\n[[route]]\nwhere = \"n < 10\"\nto = { parquet = \"q\" }\n";
        std::fs::write(&file, text).unwrap();
        let line = |n: u64| match n % 100 {
            7 => "{".to_owned(),
            _ => format!("{{\"n\":{}}}", n % 1_000),
        };
        let events = (0..10_000).map(|n| record_of(line(n).as_bytes(), n as i64, &Clock::manual(1))).collect();
        // Bound to one core as it is, the thread of this test alone.
        let told = std::thread::spawn(move || bench(&file, events, |_| {}).unwrap()).join().unwrap();
        let parts: Vec<(&str, u64)> = told.parts.iter().map(|part| (part.name.as_str(), part.rows)).collect();
        let wanted = [
            ("decoding", 9_900),
            ("step 1 where and 2 select", 5_000),
            ("step 3 dedupe", 500),
            ("routes", 505),
            ("encoding for topic o", 500),
            ("encoding for parquet q", 5),
        ];
        assert_eq!(parts, wanted);
        assert_eq!((told.events, told.rows, told.dead_letters, told.filtered), (10_000, 505, 100, 4_900 + 4_500));
        let shares: f64 = told.parts.iter().map(|part| part.share_percent).sum();
        assert!(told.rounds >= ROUNDS_MIN && shares > 10.0 && shares <= 101.0, "{told:#?}");
        assert!(
            told.mb_per_second.min <= told.mb_per_second.median && told.mb_per_second.median <= told.mb_per_second.max
        );
        assert!(told.parts.iter().any(|part| part.name == told.slowest));
    }
}
