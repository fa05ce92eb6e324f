//! `inrush pipeline run`: a pipeline file on recorded events, without a daemon and without positions. The same decoder, plan and Parquet
//! writer as the real one; rows go to a writer as JSON lines, or into a folder.

use super::fault::{Fault, Reason};
use super::load::{self, Job};
use super::rows::{Decoder, ROWS_BYTES_MAX, ROWS_MAX};
use super::sink::lake::{self, Claim, Owner};
use super::sink::parquet::{CutName, Parquet};
use super::sink::staged::finish;
use super::spec::{Output, ParquetOutput, Route};
use super::state::{Remembered, States};
use super::step::{Filtered, Rows};
use crate::clock::Clock;
use crate::config::Mistake;
use crate::record::{Offset, Record};
use arrow::json::writer::{LineDelimited, WriterBuilder};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::Value;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// A recorded event is not longer.
const LINE_SIZE_MAX: u64 = 100 << 20;

/// Where rows go.
pub enum Destination<'a> {
    /// One JSON object a line.
    Lines(&'a mut dyn Write),
    /// The file's Parquet folders below this one; rows of routes to topics are counted only.
    Folder(PathBuf),
}

/// What became of the events.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Ran {
    pub read: u64,
    pub rows: u64,
    pub filtered: u64,
    pub dead_letters: u64,
    pub files: Vec<PathBuf>,
}

/// A record that would become a dead letter.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Dead {
    /// Of the events, from 1; 0 for a row that the end let go.
    pub line: u64,
    pub reason: &'static str,
    pub column: Option<String>,
    pub message: String,
    pub value: String,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the pipeline file has {} mistakes", .0.len())]
    Mistakes(Vec<Mistake>),
    #[error("the pipeline writes into {0}, which is no folder; leave out --to to see its rows")]
    NoFolder(String),
    #[error("no enrich step looks up in topic {0}")]
    NoTable(String),
    #[error("{0}")]
    Down(String),
    #[error("cannot {what}: {source}")]
    Io { what: &'static str, source: io::Error },
}

/// Runs a pipeline file on events: each line is a record as `inrush consume` prints it, or else the value of one. `dead` is told of what
/// would become dead letters.
///
/// # Errors
/// [`RunError`]; rows before it may be written.
pub fn run<'a>(
    file: &Path,
    events: &mut dyn BufRead,
    to: Destination<'a>,
    clock: &'a Clock,
    dead: &mut dyn FnMut(Dead),
) -> Result<Ran, RunError> {
    run_with_tables(file, &[], events, to, clock, dead)
}

/// As [`run`], with files of records that topics which `enrich` looks up in hold; a topic that is not named is empty.
///
/// # Errors
/// As there; a file of records cannot be read.
pub fn run_with_tables<'a>(
    file: &Path,
    tables: &[(String, PathBuf)],
    events: &mut dyn BufRead,
    to: Destination<'a>,
    clock: &'a Clock,
    dead: &mut dyn FnMut(Dead),
) -> Result<Ran, RunError> {
    let job = load::file(file).map_err(RunError::Mistakes)?;
    fill(&job, tables, clock)?;
    let mut run = Run {
        decoder: Decoder::new(&job.spec.format, job.plan.columns().to_vec(), job.plan.input().clone()),
        out: Out::open(&job, to)?,
        job,
        clock,
        states: States::default(),
        ran: Ran::default(),
    };
    let (mut records, mut size, mut line) = (Vec::new(), 0, 0);
    let mut text = Vec::new();
    loop {
        text.clear();
        let failed = |source| RunError::Io { what: "read the events", source };
        let count = io::Read::take(&mut *events, LINE_SIZE_MAX).read_until(b'\n', &mut text).map_err(failed)?;
        if count > 0 {
            line += 1;
            let event = text.trim_ascii();
            if !event.is_empty() {
                let record = record(event, line as i64 - 1, clock);
                size += run.decoder.weight(&record.by_ref());
                records.push((line, record));
            }
        }
        if count == 0 || records.len() == ROWS_MAX || size >= ROWS_BYTES_MAX {
            run.batch(&std::mem::take(&mut records), dead)?;
            size = 0;
        }
        if count == 0 {
            run.end(dead)?;
            run.out.cut(&mut run.ran)?;
            return Ok(run.ran);
        }
    }
}

/// Puts records of files into the tables that are topics.
fn fill(job: &Job, tables: &[(String, PathBuf)], clock: &Clock) -> Result<(), RunError> {
    for (topic, file) in tables {
        let mut of_topic = job.plan.look_ups().filter(|table| table.topic() == Some(topic)).peekable();
        if of_topic.peek().is_none() {
            return Err(RunError::NoTable(topic.clone()));
        }
        let text =
            std::fs::read(file).map_err(|source| RunError::Io { what: "read the records of a table", source })?;
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        let records: Vec<Record> = lines.zip(0..).map(|(line, number)| record(line, number, clock)).collect();
        of_topic.for_each(|table| table.take(&records));
    }
    Ok(())
}

struct Run<'a> {
    job: Job,
    decoder: Decoder,
    out: Out<'a>,
    clock: &'a Clock,
    states: States,
    ran: Ran,
}

impl Run<'_> {
    fn batch(&mut self, numbered: &[(u64, Record)], dead: &mut dyn FnMut(Dead)) -> Result<(), RunError> {
        let records: Vec<Record> = numbered.iter().map(|(_, record)| record.clone()).collect();
        let decoded = self.decoder.decode_fetching(0, &records).map_err(RunError::Down)?;
        let passed_over = u64::from(decoded.passed_over);
        let plan = self.job.plan.clone();
        let mut done = plan.run(Rows { batch: decoded.rows, sources: decoded.sources });
        if done.is_too_wide && records.len() > 1 {
            let (first, second) = numbered.split_at(numbered.len() / 2);
            self.batch(first, dead)?;
            return self.batch(second, dead);
        }
        let mut bad: Vec<(u32, Fault)> = decoded.faults;
        bad.append(&mut done.faults);
        bad.sort_by_key(|(at, _)| *at);
        self.ran.read += records.len() as u64;
        self.ran.filtered += done.filtered.total() + passed_over;
        if plan.is_stateful() {
            let rows = done.routes.pop().unwrap_or_else(|| plan.no_rows());
            let done = self.states.of(0, &plan).run(&plan, 0, &records, rows, bad);
            let line = |record: &Record| {
                numbered.iter().find(|(_, one)| one.offset == record.offset).map_or(0, |(line, _)| *line)
            };
            return self.finish(done, &line, dead);
        }
        let done = Remembered { records, routes: done.routes, bad, filtered: Filtered::default(), evicted: 0 };
        let lines: Vec<u64> = numbered.iter().map(|(line, _)| *line).collect();
        self.tell(&done, |at| lines[at], dead);
        self.write_all(&done)
    }

    /// Tells what is bad and writes the rest.
    fn finish(
        &mut self,
        done: Remembered,
        line: &dyn Fn(&Record) -> u64,
        dead: &mut dyn FnMut(Dead),
    ) -> Result<(), RunError> {
        self.ran.filtered += done.filtered.total();
        self.tell(&done, |at| line(&done.records[at]), dead);
        self.write_all(&done)
    }

    fn tell(&mut self, done: &Remembered, line: impl Fn(usize) -> u64, dead: &mut dyn FnMut(Dead)) {
        for (at, fault) in &done.bad {
            let value = done.records[*at as usize].value.as_deref().unwrap_or_default();
            dead(Dead {
                line: line(*at as usize),
                reason: Reason::as_str(fault.reason),
                column: fault.column.clone(),
                message: fault.message.to_string(),
                value: String::from_utf8_lossy(value).into_owned(),
            });
        }
        self.ran.dead_letters += done.bad.len() as u64;
    }

    fn write_all(&mut self, done: &Remembered) -> Result<(), RunError> {
        for (at, rows) in done.routes.iter().enumerate().filter(|(_, rows)| rows.len() > 0) {
            self.ran.rows += rows.len() as u64;
            self.write(at, rows, &done.records)?;
        }
        Ok(())
    }

    /// Lets go what waits for its time: nothing comes any more.
    fn end(&mut self, dead: &mut dyn FnMut(Dead)) -> Result<(), RunError> {
        let plan = self.job.plan.clone();
        for done in self.states.let_go(&plan, None) {
            self.finish(done, &|_| 0, dead)?;
        }
        Ok(())
    }

    /// Writes rows of one route.
    fn write(&mut self, route: usize, rows: &Rows, records: &[Record]) -> Result<(), RunError> {
        let failed = |source| RunError::Io { what: "write the rows", source };
        match &mut self.out {
            Out::Lines(out) => {
                let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut **out);
                let written = writer.write(&rows.batch).and_then(|()| writer.finish());
                written.map_err(|error| failed(io::Error::other(error)))
            }
            Out::Folders(folders) => {
                let Some(Some(folder)) = folders.get_mut(route) else { return Ok(()) };
                let times: Vec<i64> = rows.sources.iter().map(|at| records[*at as usize].timestamp).collect();
                let name = CutName {
                    generation: folder.generation,
                    cut: folder.cut,
                    now_ms: self.clock.now_ms(),
                    is_mark: false,
                };
                folder.sink.write(&rows.batch, &times, &name).map_err(failed)?;
                if folder.sink.is_full() { folder.cut(&mut self.ran) } else { Ok(()) }
            }
        }
    }
}

enum Out<'a> {
    Lines(&'a mut dyn Write),
    /// By route; `None` where rows go to a topic, of which there is none here.
    Folders(Vec<Option<Folder>>),
}

struct Folder {
    sink: Box<Parquet>,
    generation: u64,
    cut: u64,
}

impl<'a> Out<'a> {
    fn open(job: &Job, to: Destination<'a>) -> Result<Out<'a>, RunError> {
        let out = match to {
            Destination::Lines(out) => return Ok(Out::Lines(out)),
            Destination::Folder(out) => out,
        };
        let folder = |route: &Route| match &route.to {
            Output::Parquet(spec) => Folder::open(job, spec, &out).map(Some),
            Output::Topic(_) => Ok(None),
        };
        let folders: Vec<Option<Folder>> = job.spec.routes.iter().map(folder).collect::<Result<_, _>>()?;
        if folders.iter().all(Option::is_none) {
            let outputs: Vec<String> = job.spec.routes.iter().map(|route| route.to.to_string()).collect();
            return Err(RunError::NoFolder(outputs.join(", ")));
        }
        Ok(Out::Folders(folders))
    }

    /// Closes all files and gives them their names.
    fn cut(&mut self, ran: &mut Ran) -> Result<(), RunError> {
        let Out::Folders(folders) = self else { return Ok(()) };
        folders.iter_mut().flatten().try_for_each(|folder| folder.cut(ran))
    }
}

impl Folder {
    fn open(job: &Job, spec: &ParquetOutput, out: &Path) -> Result<Folder, RunError> {
        let failed = |source| RunError::Io { what: "use the folder", source };
        // Nobody's pipeline: the folder of a real one is refused, one of an earlier run is gone on with.
        let (cluster, pipeline, name) = (Uuid::nil(), Uuid::nil(), job.spec.name.clone());
        let folder = out.join(&spec.folder);
        let mut owner = Owner { cluster, pipeline, name, generation: 0 };
        if let Claim::Ours(generation) = lake::whose(&folder, &owner, None).map_err(failed)? {
            owner.generation = generation + 1;
        }
        let schema = job.plan.output().clone();
        let sink = Parquet::open(spec.clone(), schema, out, &owner, &[]).map_err(failed)?;
        Ok(Folder { sink: Box::new(sink), generation: owner.generation, cut: 0 })
    }

    fn cut(&mut self, ran: &mut Ran) -> Result<(), RunError> {
        let failed = |source| RunError::Io { what: "finish the files", source };
        for file in self.sink.close("").map_err(failed)? {
            finish(&file).map_err(failed)?;
            ran.files.push(file.finished);
        }
        self.cut += 1;
        Ok(())
    }
}

/// A record as a line says it: as `inrush consume` prints one, or else the line is its value. `number` is its offset then, and now its time.
pub fn record_of_line(line: &[u8], number: i64) -> Record {
    record(line, number, &Clock::System)
}

/// A line as `inrush consume` prints it (an object with `offset`, `timestamp`, `key`, `value`, `headers`), or else the value itself.
fn record(line: &[u8], number: i64, clock: &Clock) -> Record {
    let plain = || Record {
        offset: Offset(number),
        timestamp: clock.now_ms(),
        key: None,
        value: Some(Bytes::copy_from_slice(line)),
        headers: Vec::new(),
    };
    let Ok(Value::Object(printed)) = serde_json::from_slice::<Value>(line) else { return plain() };
    let is_printed = ["offset", "timestamp", "headers"].iter().all(|key| printed.contains_key(*key));
    let (Some(offset), Some(timestamp), true) =
        (printed.get("offset").and_then(Value::as_i64), printed.get("timestamp").and_then(Value::as_i64), is_printed)
    else {
        return plain();
    };
    let bytes = |name: &str| -> Option<Bytes> {
        match printed.get(name) {
            None => printed
                .get(&format!("{name}_base64"))
                .and_then(Value::as_str)
                .and_then(|text| STANDARD.decode(text).ok())
                .map(Bytes::from),
            Some(value) => text_of(value),
        }
    };
    let headers = printed.get("headers").and_then(Value::as_object);
    let header = |(name, value): (&String, &Value)| match name.strip_suffix("_base64") {
        Some(name) => {
            (Bytes::from(name.to_owned()), value.as_str().and_then(|text| STANDARD.decode(text).ok()).map(Bytes::from))
        }
        None => (Bytes::from(name.clone()), text_of(value)),
    };
    Record {
        offset: Offset(offset),
        timestamp,
        key: bytes("key"),
        value: bytes("value"),
        headers: headers.into_iter().flatten().map(header).collect(),
    }
}

fn text_of(value: &Value) -> Option<Bytes> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(Bytes::from(text.clone())),
        other => Some(Bytes::from(other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "from = \"topic:t\"\nwhere = \"n > 0\"\nselect = \"n, h\"\nto = { parquet = \"lake\" }\n[columns]\nn = \"int64\"\nh = { header = \"h\", type = \"string\" }\n";
    const EVENTS: &str = "{\"n\":1}\n\n{\"n\":\"x\"}\n{\"n\":0}\n{\"offset\":7,\"timestamp\":5,\"key\":null,\"value\":{\"n\":2},\"headers\":{\"h\":\"y\"}}\n";

    fn pipeline(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        std::fs::write(&file, text).unwrap();
        (folder, file)
    }

    #[test]
    fn recorded_events_become_lines_and_what_fails_is_told_with_its_line() {
        let (_folder, file) = pipeline(TEXT);
        let (mut out, mut dead) = (Vec::new(), Vec::new());
        let to = Destination::Lines(&mut out);
        let ran = run(&file, &mut EVENTS.as_bytes(), to, &Clock::manual(9), &mut |letter| dead.push(letter)).unwrap();
        assert_eq!((ran.read, ran.rows, ran.filtered, ran.dead_letters), (4, 2, 1, 1));
        assert_eq!(String::from_utf8(out).unwrap(), "{\"n\":1,\"h\":null}\n{\"n\":2,\"h\":\"y\"}\n");
        assert_eq!((dead[0].line, dead[0].reason, dead[0].column.as_deref()), (3, "wrong-type", Some("n")));
    }

    #[test]
    fn a_folder_can_be_run_into_again_and_again() {
        let (folder, file) = pipeline(TEXT);
        let mut files = Vec::new();
        for _ in 0..2 {
            let to = Destination::Folder(folder.path().join("out"));
            files.extend(run(&file, &mut EVENTS.as_bytes(), to, &Clock::manual(9), &mut drop).unwrap().files);
        }
        assert_eq!(files.len(), 2);
        assert!(files.iter().all(|file| file.is_file()) && files[0] != files[1], "{files:?}");
    }
}
