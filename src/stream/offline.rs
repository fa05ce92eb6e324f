//! `inrush pipeline run`: a pipeline file on recorded events, without a daemon and without positions. The same decoder, plan and Parquet
//! writer as the real one; rows go to a writer as JSON lines, or into a folder.

use super::events::{LINE_SIZE_MAX, placed_of, record_of};
use super::fault::{Fault, Reason};
use super::format::Format;
use super::load::{self, Job};
use super::rows::{Decoder, ROWS_BYTES_MAX, ROWS_MAX};
use super::sink::Sink;
use super::sink::journal::Last;
use super::sink::lake::{self, Claim, Owner};
use super::sink::parquet::{CutName, Parquet};
use super::sink::place::{Place, found};
use super::sink::staged::finish;
use super::sink::store::Store;
use super::spec::{Output, ParquetOutput, Route};
use super::state::{Remembered, States, closed};
use super::step::{Filtered, JsonLines, Rows, Sieve};
use crate::clock::Clock;
use crate::config::Mistake;
use crate::record::Record;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// Where rows go.
pub enum Destination<'a> {
    /// One JSON object a line.
    Lines(&'a mut dyn Write),
    /// The file's folders below this one; rows of other routes are counted only.
    Folder(PathBuf),
}

/// What became of the events.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Ran {
    pub read: u64,
    pub rows: u64,
    pub filtered: u64,
    /// By reason.
    pub filtered_by: BTreeMap<&'static str, u64>,
    pub dead_letters: u64,
    /// By reason.
    pub dead_by: BTreeMap<&'static str, u64>,
    pub files: Vec<PathBuf>,
    /// Outputs that are no folder: their rows were counted, and went nowhere. Empty where all rows are shown.
    pub left_out: Vec<String>,
    /// Of each table that is a topic and was given records that are no rows of it: how many, and why the last one is none.
    pub table_warnings: Vec<String>,
}

impl Ran {
    fn filter(&mut self, filtered: &Filtered) {
        self.filtered += filtered.total();
        for (reason, count) in filtered.reasons() {
            *self.filtered_by.entry(reason).or_default() += u64::from(count);
        }
    }
}

/// Who is told while a run goes on.
pub struct Listener<'a> {
    /// Of what would become a dead letter.
    pub dead: &'a mut dyn FnMut(Dead),
    /// Of what came of the events so far, a few thousand at a time.
    pub progress: &'a mut dyn FnMut(&Ran),
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
    // Whoever prints it prints what it came of, too.
    #[error("cannot {what}")]
    Io { what: String, source: io::Error },
}

/// Runs a pipeline file on events: each line is a record as `inrush consume` prints it, or else the value of one. Of CSV whose first line
/// names the columns, that line stands once, on top. `tables` are files of records that topics hold which `enrich` looks up in; one that is
/// not named is empty.
///
/// # Errors
/// [`RunError`]; rows before it may be written.
pub fn run<'a>(
    file: &Path,
    tables: &[(String, PathBuf)],
    events: &mut dyn BufRead,
    to: Destination<'a>,
    clock: &'a Clock,
    listener: &mut Listener<'_>,
) -> Result<Ran, RunError> {
    let job = load::file(file).map_err(RunError::Mistakes)?;
    let table_warnings = fill(&job, tables, clock)?;
    let out = Out::open(&job, to)?;
    let left_out = out.left_out(&job);
    let mut run = Run {
        decoder: Decoder::new(&job.spec.format, job.plan.columns().to_vec(), job.plan.input().clone()),
        out,
        job,
        clock,
        states: States::default(),
        is_of_many: false,
        ran: Ran { table_warnings, left_out, ..Ran::default() },
    };
    let mut heading = Heading::of(&run.job.spec.format);
    let (mut records, mut size, mut line) = (Vec::new(), 0, 0);
    let mut text = Vec::new();
    loop {
        text.clear();
        let failed = |source| RunError::Io { what: "read the events".to_owned(), source };
        let count = io::Read::take(&mut *events, LINE_SIZE_MAX).read_until(b'\n', &mut text).map_err(failed)?;
        if count > 0 {
            line += 1;
            let event = text.trim_ascii();
            if !event.is_empty()
                && let Some(event) = heading.above(event)
            {
                let (partition, record) = placed_of(&event, line as i64 - 1, clock);
                // Whoever remembers nothing has the rows in the order of the file.
                let partition = partition.filter(|_| run.job.plan.is_stateful());
                run.is_of_many |= partition.is_some();
                size += run.decoder.weight(&record.by_ref());
                records.push(Event { line, partition: partition.unwrap_or(0), record });
            }
        }
        if count == 0 || records.len() == ROWS_MAX || size >= ROWS_BYTES_MAX {
            run.take(std::mem::take(&mut records), listener.dead)?;
            (listener.progress)(&run.ran);
            size = 0;
        }
        if count == 0 {
            run.end(listener.dead)?;
            run.out.cut(&mut run.ran)?;
            return Ok(run.ran);
        }
    }
}

/// The line that names the columns of CSV: each record needs it, and a file has it once.
enum Heading {
    None,
    Awaited,
    Line(Vec<u8>),
}

impl Heading {
    fn of(format: &Format) -> Heading {
        match format {
            Format::Csv(csv) if csv.header => Heading::Awaited,
            _ => Heading::None,
        }
    }

    /// A line with the heading above it; `None` for the heading itself. What `inrush consume` printed has its own.
    fn above<'l>(&mut self, line: &'l [u8]) -> Option<Cow<'l, [u8]>> {
        match self {
            Heading::Awaited if !line.starts_with(b"{") => {
                *self = Heading::Line(line.to_vec());
                None
            }
            Heading::Line(heading) if !line.starts_with(b"{") => {
                Some(Cow::Owned([heading.as_slice(), b"\n", line].concat()))
            }
            _ => Some(Cow::Borrowed(line)),
        }
    }
}

/// Puts records of files into the tables that are topics; gives what is to be said of those that are no rows.
fn fill(job: &Job, tables: &[(String, PathBuf)], clock: &Clock) -> Result<Vec<String>, RunError> {
    let mut warnings = Vec::new();
    for (topic, file) in tables {
        let mut of_topic = job.plan.look_ups().filter(|table| table.topic() == Some(topic)).peekable();
        if of_topic.peek().is_none() {
            return Err(RunError::NoTable(topic.clone()));
        }
        let failed = |source| RunError::Io { what: format!("read {}, for table {topic}", file.display()), source };
        let text = std::fs::read(file).map_err(failed)?;
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        let records: Vec<Record> = lines.zip(0..).map(|(line, number)| record_of(line, number, clock)).collect();
        for table in of_topic {
            table.take(&records);
            let (bad, last) = (table.bad_records(), table.last_bad());
            warnings.extend(last.filter(|_| bad > 0).map(|last| {
                format!(
                    "{bad} of {} lines of {} are no rows of the table; the last: {last}; a line is a record as inrush consume prints it",
                    records.len(),
                    file.display()
                )
            }));
        }
    }
    Ok(warnings)
}

struct Run<'a> {
    job: Job,
    decoder: Decoder,
    out: Out<'a>,
    clock: &'a Clock,
    states: States,
    /// Other partitions may follow, and what is in a window goes by the records of each: windows stay open until the end.
    is_of_many: bool,
    ran: Ran,
}

/// An event with its line and its partition.
struct Event {
    line: u64,
    partition: i32,
    record: Record,
}

impl Run<'_> {
    /// Takes events, which may be of several partitions where steps remember.
    fn take(&mut self, events: Vec<Event>, dead: &mut dyn FnMut(Dead)) -> Result<(), RunError> {
        let mut by_partition: BTreeMap<i32, Vec<(u64, Record)>> = BTreeMap::new();
        for Event { line, partition, record } in events {
            by_partition.entry(partition).or_default().push((line, record));
        }
        by_partition.iter().try_for_each(|(partition, numbered)| self.batch(*partition, numbered, dead))
    }

    fn batch(
        &mut self,
        partition: i32,
        numbered: &[(u64, Record)],
        dead: &mut dyn FnMut(Dead),
    ) -> Result<(), RunError> {
        let records: Vec<Record> = numbered.iter().map(|(_, record)| record.clone()).collect();
        let decoded = self.decoder.decode_fetching(partition, &records).map_err(RunError::Down)?;
        let passed_over = decoded.passed_over;
        let plan = self.job.plan.clone();
        let mut done = plan.run(Rows { batch: decoded.rows, sources: decoded.sources });
        if done.is_too_wide && records.len() > 1 {
            let (first, second) = numbered.split_at(numbered.len() / 2);
            self.batch(partition, first, dead)?;
            return self.batch(partition, second, dead);
        }
        let mut bad: Vec<(u32, Fault)> = decoded.faults;
        bad.append(&mut done.faults);
        bad.sort_by_key(|(at, _)| *at);
        self.ran.read += records.len() as u64;
        done.filtered.add(Sieve::ContentType, passed_over as usize);
        self.ran.filter(&done.filtered);
        if plan.is_stateful() {
            let rows = done.routes.pop().unwrap_or_else(|| plan.no_rows());
            let done = self.states.of(partition, &plan).run(&plan, partition, &records, rows, bad);
            let line = |record: &Record| {
                numbered.iter().find(|(_, one)| one.offset == record.offset).map_or(0, |(line, _)| *line)
            };
            self.finish(done, &line, dead)?;
            let passed = self.states.passed(&plan).filter(|_| !self.is_of_many);
            let pieces = passed.and_then(|moment| self.states.close(&plan, moment));
            let mut pieces = pieces.into_iter().flatten();
            return pieces.try_for_each(|made| self.finish(closed(&plan, made, None), &|_| 0, dead));
        }
        let done = Remembered {
            records: records.into(),
            routes: done.routes,
            bad,
            filtered: Filtered::default(),
            evicted: 0,
            ahead: 0,
            places: Vec::new(),
        };
        let lines: Vec<u64> = numbered.iter().map(|(line, _)| *line).collect();
        self.tell(&done, |at| lines[at], dead);
        self.write_all(&done)
    }

    /// Tells what is bad and writes the rest.
    fn finish(
        &mut self,
        done: Remembered<'_>,
        line: &dyn Fn(&Record) -> u64,
        dead: &mut dyn FnMut(Dead),
    ) -> Result<(), RunError> {
        self.ran.filter(&done.filtered);
        self.tell(&done, |at| line(&done.records[at]), dead);
        self.write_all(&done)
    }

    fn tell(&mut self, done: &Remembered<'_>, line: impl Fn(usize) -> u64, dead: &mut dyn FnMut(Dead)) {
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
        for (_, fault) in &done.bad {
            *self.ran.dead_by.entry(fault.reason.as_str()).or_default() += 1;
        }
    }

    fn write_all(&mut self, done: &Remembered<'_>) -> Result<(), RunError> {
        for (at, rows) in done.routes.iter().enumerate().filter(|(_, rows)| rows.len() > 0) {
            self.ran.rows += rows.len() as u64;
            self.write(at, rows, &done.records)?;
        }
        Ok(())
    }

    /// Lets go what waits for its time: nothing comes any more.
    fn end(&mut self, dead: &mut dyn FnMut(Dead)) -> Result<(), RunError> {
        let plan = self.job.plan.clone();
        for done in self.states.let_go(&plan, None, None) {
            self.finish(done, &|_| 0, dead)?;
        }
        Ok(())
    }

    /// Writes rows of one route.
    fn write(&mut self, route: usize, rows: &Rows, records: &[Record]) -> Result<(), RunError> {
        let failed = |source| RunError::Io { what: "write the rows".to_owned(), source };
        match &mut self.out {
            Out::Lines(out) => {
                let lines = JsonLines::of(&rows.batch).map_err(|error| failed(io::Error::other(error)))?;
                out.write_all(&lines.text).map_err(failed)
            }
            Out::Folders(folders) => {
                let Some(Some(folder)) = folders.get_mut(route) else { return Ok(()) };
                let name = CutName {
                    generation: folder.generation,
                    cut: folder.cut,
                    now_ms: self.clock.now_ms(),
                    last: Last::Whole,
                };
                let kept = folder.store.as_mut().map(|store| store.keep(&rows.batch)).transpose().map_err(failed)?;
                let batch = kept.as_ref().unwrap_or(&rows.batch);
                folder.sink.write_of(0, batch, &rows.sources, records, &name).map_err(failed)?;
                if folder.sink.is_full() { folder.cut(&mut self.ran) } else { Ok(()) }
            }
        }
    }
}

enum Out<'a> {
    Lines(&'a mut dyn Write),
    /// By route; `None` where rows go to a topic or an address, of which there is none here.
    Folders(Vec<Option<Folder>>),
}

struct Folder {
    sink: Box<Parquet>,
    store: Option<Store>,
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
            Output::Parquet(spec) => Folder::open(job, route, spec, &out).map(Some),
            Output::Topic(_) | Output::Kafka(_) | Output::Http(_) | Output::Stdout => Ok(None),
        };
        let folders: Vec<Option<Folder>> = job.spec.routes.iter().map(folder).collect::<Result<_, _>>()?;
        if folders.iter().all(Option::is_none) {
            let outputs = job.spec.outputs();
            return Err(RunError::NoFolder(outputs.join(", ")));
        }
        Ok(Out::Folders(folders))
    }

    /// Outputs whose rows are written nowhere.
    fn left_out(&self, job: &Job) -> Vec<String> {
        let Out::Folders(folders) = self else { return Vec::new() };
        let names = job.spec.outputs();
        names.into_iter().zip(folders).filter(|(_, folder)| folder.is_none()).map(|(name, _)| name).collect()
    }

    /// Closes all files and gives them their names.
    fn cut(&mut self, ran: &mut Ran) -> Result<(), RunError> {
        let Out::Folders(folders) = self else { return Ok(()) };
        folders.iter_mut().flatten().try_for_each(|folder| folder.cut(ran))
    }
}

impl Folder {
    fn open(job: &Job, route: &Route, spec: &ParquetOutput, out: &Path) -> Result<Folder, RunError> {
        let failed = |source| RunError::Io { what: "use the folder".to_owned(), source };
        // Nobody's pipeline: the folder of a real one is refused, one of an earlier run is gone on with.
        let (cluster, pipeline, name) = (Uuid::nil(), Uuid::nil(), job.spec.name.clone());
        // What a bucket would get stays here too: trying a file must not write into it.
        let spec = ParquetOutput { store: None, ..spec.clone() };
        let place = Place::Folder(out.join(&spec.folder));
        let mut owner = Owner { cluster, pipeline, name, generation: 0 };
        if let Claim::Ours(generation) = lake::whose(&place, &owner, None).map_err(failed)? {
            owner.generation = generation + 1;
        }
        let schema = route.schema(job.plan.output());
        let name = owner.name.clone();
        place.found().map_err(failed)?;
        let sink = Parquet::open(spec, schema, place, &owner, &name, &[], Arc::new(|| {})).map_err(failed)?;
        let store = route.store.as_ref().map(|store| {
            found(&out.join(&store.folder))?;
            Store::open(store, out, "run", &route.to.to_string())
        });
        let store = store.transpose().map_err(failed)?;
        Ok(Folder { sink: Box::new(sink), store, generation: owner.generation, cut: 0 })
    }

    fn cut(&mut self, ran: &mut Ran) -> Result<(), RunError> {
        let failed = |source| RunError::Io { what: "finish the files".to_owned(), source };
        self.store.as_mut().map_or(Ok(()), Store::settle).map_err(failed)?;
        for file in self.sink.close("").map_err(failed)? {
            finish(&file).map_err(failed)?;
            ran.files.push(file.finished);
        }
        self.cut += 1;
        Ok(())
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
        let mut counts = Vec::new();
        let mut listener =
            Listener { dead: &mut |letter| dead.push(letter), progress: &mut |ran| counts.push(ran.read) };
        let ran = run(&file, &[], &mut EVENTS.as_bytes(), to, &Clock::manual(9), &mut listener).unwrap();
        assert_eq!(counts, [4]);
        assert_eq!((ran.read, ran.rows, ran.filtered, ran.dead_letters), (4, 2, 1, 1));
        assert_eq!((ran.filtered_by["false"], ran.dead_by["wrong-type"]), (1, 1));
        assert_eq!(String::from_utf8(out).unwrap(), "{\"n\":1,\"h\":null}\n{\"n\":2,\"h\":\"y\"}\n");
        assert_eq!((dead[0].line, dead[0].reason, dead[0].column.as_deref()), (3, "wrong-type", Some("n")));
    }

    #[test]
    fn windows_of_printed_records_hold_all_their_partitions() {
        let text = "from = \"topic:t\"\n[columns]\nts = \"timestamp\"\n[[step]]\nwindow = { tumbling = \"1m\", time = \"ts\", select = \"count(*) as n\" }\n[[route]]\nto = { topic = \"w\" }\n";
        let (_folder, file) = pipeline(text);
        let line = |(partition, minute): (i32, i64)| {
            let value = format!("{{\"ts\":\"2026-11-29T08:{minute:02}:00Z\"}}");
            let place = format!("\"partition\":{partition},\"offset\":{minute},\"timestamp\":0,\"key\":null");
            format!("{{{place},\"value\":{value},\"headers\":{{}}}}\n")
        };
        let events: String = (0..3).flat_map(|id| (0..10).map(move |minute| (id, minute))).map(line).collect();
        let mut out = Vec::new();
        let mut listener = Listener { dead: &mut |_| {}, progress: &mut |_| {} };
        let to = Destination::Lines(&mut out);
        let ran = run(&file, &[], &mut events.as_bytes(), to, &Clock::manual(9), &mut listener).unwrap();
        assert_eq!((ran.read, ran.rows, ran.filtered), (30, 10, 0));
        assert_eq!(String::from_utf8(out).unwrap().matches("\"n\":3}").count(), 10);
    }

    #[test]
    fn a_folder_can_be_run_into_again_and_again() {
        let (folder, file) = pipeline(TEXT);
        let mut files = Vec::new();
        for _ in 0..2 {
            let to = Destination::Folder(folder.path().join("out"));
            let mut listener = Listener { dead: &mut drop, progress: &mut |_| {} };
            files.extend(run(&file, &[], &mut EVENTS.as_bytes(), to, &Clock::manual(9), &mut listener).unwrap().files);
        }
        assert_eq!(files.len(), 2);
        assert!(files.iter().all(|file| file.is_file()) && files[0] != files[1], "{files:?}");
    }

    #[test]
    fn outputs_that_are_no_folders_are_told_and_a_file_that_is_not_there_is_named() {
        let text = "from = \"topic:t\"\n[columns]\nn = \"int64\"\n[[route]]\nwhere = \"n > 1\"\nto = { topic = \"o\" }\n[[route]]\nto = { parquet = \"lake\" }\n";
        let (folder, file) = pipeline(text);
        let to = || Destination::Folder(folder.path().join("out"));
        let clock = Clock::manual(9);
        let mut listener = Listener { dead: &mut drop, progress: &mut |_| {} };
        let ran = run(&file, &[], &mut EVENTS.as_bytes(), to(), &clock, &mut listener).unwrap();
        assert_eq!(ran.left_out, ["topic o"]);
        let enriched = text.replace("[[route]]\nwhere", "[[step]]\nenrich = { from = \"topic:users\", on = \"n\", columns = [\"a\"], types = { a = \"string\" } }\n[[route]]\nwhere");
        std::fs::write(&file, enriched).unwrap();
        let tables = [("users".to_owned(), folder.path().join("none.ndjson"))];
        let wrong = run(&file, &tables, &mut EVENTS.as_bytes(), to(), &clock, &mut listener).unwrap_err();
        let told = format!("{:#}", anyhow::Error::from(wrong));
        assert!(told.contains("none.ndjson, for table users") && told.matches("os error").count() == 1, "{told}");
    }

    #[test]
    fn a_file_of_csv_has_its_heading_once() {
        let (_folder, file) = pipeline(
            "from = \"topic:t\"\nformat = { csv = { header = true } }\nto = { topic = \"o\" }\n[columns]\nn = \"int64\"\nb = \"string\"\n",
        );
        let (mut out, mut dead) = (Vec::new(), Vec::new());
        let mut listener = Listener { dead: &mut |letter| dead.push(letter), progress: &mut |_| {} };
        let mut events = "b,n\nx,1\ny,2,3\nz,4\n".as_bytes();
        run(&file, &[], &mut events, Destination::Lines(&mut out), &Clock::manual(9), &mut listener).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "{\"n\":1,\"b\":\"x\"}\n{\"n\":4,\"b\":\"z\"}\n");
        assert_eq!((dead[0].line, dead[0].reason), (3, "not-csv"));
    }
}
