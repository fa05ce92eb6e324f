//! Rows to a web address, in batches that are signed and named, at least once.
//!
//! The pipeline's thread never waits for the other side: it hands rows over to a task of their source partition and hears later what
//! became of them. Until then they are not settled, and no checkpoint passes them. Batches hold rows of one partition, end between
//! records, and are the same after a start ([`begun`]), so that a receiver which keeps their ids drops what comes twice.

mod begun;
mod delivery;
mod lane;
mod settings;
mod signature;
mod verdict;

pub(in crate::stream) use delivery::Patience;
pub use settings::HttpOutput;

use super::super::checkpoint::OutputState;
use super::super::closing::WINDOWS;
use super::super::step::JsonLines;
use super::super::web::Connection;
use super::journal::Last;
use super::parquet::CutName;
use super::{Downed, Refused, Settled, Shaped, Sink, WriteError};
use crate::clock::Clock;
use crate::record::Record;
use begun::{Batches, Begun};
use delivery::{Delivered, Down, Held, Origin, Sender, unnoted};
use lane::{Lane, Unit};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;
use uuid::Uuid;

/// Threads that sign, compress and send for all HTTP outputs of the process.
const THREADS: usize = 2;

/// An HTTP output that is open.
pub(in crate::stream) struct HttpSink {
    settings: Arc<HttpOutput>,
    opened: Opened,
    begun: Arc<Begun>,
    /// Of the runs before, of partitions that have no lane yet.
    known: Batches,
    lanes: BTreeMap<i32, Course>,
    permits: Arc<Semaphore>,
    news: Arc<News>,
    held: Arc<Held>,
}

/// What an output is opened with.
#[derive(Clone)]
pub(in crate::stream) struct Opened {
    pub(in crate::stream) pipeline: Uuid,
    pub(in crate::stream) topic: Uuid,
    pub(in crate::stream) generation: u64,
    pub(in crate::stream) patience: Patience,
    pub(in crate::stream) clock: Clock,
    /// All outputs of the pipeline stand together: a batch that fails is tried again in its place for a while.
    pub(in crate::stream) stands_together: bool,
}

/// One source partition on its way out.
struct Course {
    lane: Arc<Lane>,
    /// Ascending; the first ones are under way.
    unsettled: VecDeque<Arc<Unit>>,
    /// Rows of these.
    rows: u64,
    /// Of a mark, until all of it is settled.
    held_back: Vec<Refused>,
    task: AbortHandle,
}

/// What tasks have to tell, in their order.
#[derive(Default)]
struct News {
    told: Mutex<VecDeque<Told>>,
    stirred: Notify,
}

/// What became of the first so many units of a partition.
struct Told {
    partition: i32,
    count: usize,
    result: Result<Delivered, Down>,
}

fn rows(units: &[Arc<Unit>]) -> u64 {
    units.iter().map(|unit| unit.rows).sum()
}

/// Where an output of that name keeps what it has begun, in the folder of its pipeline's checkpoint.
pub(in crate::stream) fn begun_path(folder: &Path, output: &str) -> PathBuf {
    folder.join(format!("http-{:08x}.begun", crc32c::crc32c(output.as_bytes())))
}

fn runtime() -> Result<&'static Runtime, WriteError> {
    static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(THREADS).thread_name("inrush-web").enable_all().build()
    });
    RUNTIME.as_ref().map_err(|error| WriteError::Down(format!("the system has no threads for HTTP: {error}")))
}

impl HttpSink {
    /// `floor` are the positions of the checkpoint.
    ///
    /// # Errors
    /// The system's.
    pub(in crate::stream) fn open(
        settings: &HttpOutput,
        opened: Opened,
        begun: &Path,
        floor: &BTreeMap<i32, i64>,
    ) -> io::Result<HttpSink> {
        let (begun, known) = Begun::open(begun, opened.generation, floor)?;
        Ok(HttpSink {
            permits: Arc::new(Semaphore::new(settings.in_flight)),
            settings: Arc::new(settings.clone()),
            opened,
            begun: Arc::new(begun),
            known,
            lanes: BTreeMap::new(),
            news: Arc::default(),
            held: Arc::default(),
        })
    }

    /// A lane with its task, if the partition has none.
    fn begin(&mut self, partition: i32) -> Result<(), WriteError> {
        if self.lanes.contains_key(&partition) {
            return Ok(());
        }
        let known = self.known.get(&partition).cloned().unwrap_or_default();
        let lane = Arc::new(Lane::new(&self.settings, known));
        let Opened { pipeline, topic, generation, patience, clock, stands_together } = self.opened.clone();
        let sender = Sender {
            settings: self.settings.clone(),
            origin: Origin { pipeline, topic, generation, partition },
            patience,
            clock,
            permits: self.permits.clone(),
            connection: Connection::new(self.settings.address.clone(), self.settings.trust.clone()),
            is_patient: stands_together,
            held: self.held.clone(),
        };
        let task = runtime()?.spawn(run(partition, lane.clone(), sender, self.begun.clone(), self.news.clone()));
        let course =
            Course { lane, unsettled: VecDeque::new(), rows: 0, held_back: Vec::new(), task: task.abort_handle() };
        self.lanes.insert(partition, course);
        Ok(())
    }
}

impl Sink for HttpSink {
    /// Takes all rows or none.
    fn write(
        &mut self,
        partition: i32,
        shaped: &Shaped,
        sources: &[u32],
        records: &[Record],
        name: &CutName,
    ) -> Result<(), WriteError> {
        let Some(last) = records.last() else { return Ok(()) };
        let is_mark = name.last == Last::More;
        let passed = if is_mark { last.offset.0 } else { last.offset.0 + 1 };
        if sources.is_empty() && !self.lanes.contains_key(&partition) && !self.known.contains_key(&partition) {
            return Ok(());
        }
        self.begin(partition)?;
        let Some(course) = self.lanes.get_mut(&partition) else { return Ok(()) };
        // What a mark lets go is bounded by the steps' own limit.
        if !sources.is_empty() && !is_mark && !course.lane.has_room() {
            return Err(WriteError::Full);
        }
        let lines = JsonLines::of(&shaped.rows).map_err(|error| WriteError::Down(error.to_string()))?;
        let units = units(&lines, sources, records, (partition, is_mark));
        course.rows += rows(&units);
        course.unsettled.extend(units.iter().cloned());
        course.lane.push(&units, passed);
        Ok(())
    }

    fn has_room(&self, partition: i32) -> bool {
        self.lanes.get(&partition).is_none_or(|course| course.lane.has_room())
    }

    fn unsettled(&self) -> BTreeMap<i32, i64> {
        let first = |(partition, course): (&i32, &Course)| Some((*partition, course.unsettled.front()?.offset));
        self.lanes.iter().filter_map(first).collect()
    }

    fn unsettled_rows(&self) -> u64 {
        self.lanes.values().map(|course| course.rows).sum()
    }

    fn hurry(&self) {
        self.lanes.values().for_each(|course| course.lane.hurry());
    }

    fn trouble(&self) -> Option<String> {
        self.held.told()
    }

    fn stirred(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let news = self.news.clone();
        Some(Box::pin(async move { news.stirred.notified().await }))
    }

    fn settle(&mut self) -> Settled {
        let mut settled = Settled::default();
        let told = std::mem::take(&mut *self.news.told.lock().unwrap_or_else(PoisonError::into_inner));
        for Told { partition, count, result } in told {
            let Some(course) = self.lanes.get_mut(&partition) else { continue };
            let delivered = match result {
                Ok(delivered) => delivered,
                Err(Down { reason, wait }) => {
                    settled.down.get_or_insert(Downed { reason, wait });
                    continue;
                }
            };
            settled.batches += 1;
            settled.retries += delivered.retries;
            let units: Vec<Arc<Unit>> = course.unsettled.drain(..count).collect();
            course.rows -= rows(&units);
            for (at, message) in delivered.refused {
                let unit = &units[at];
                settled.refused_rows += unit.rows;
                let (records, is_mark) = (unit.records.clone(), unit.is_mark);
                course.held_back.push(Refused { partition, records, message, is_mark });
            }
            // Letters of one offset are sent together.
            let last = units.last().map(|unit| unit.offset);
            if course.unsettled.front().is_none_or(|unit| !unit.is_mark && Some(unit.offset) != last) {
                settled.refused.append(&mut course.held_back);
            }
        }
        settled
    }

    fn cut(&mut self, _: &OutputState, floor: &BTreeMap<i32, i64>) {
        if let Err(error) = self.begun.cut(floor) {
            tracing::warn!(%error, "the file of begun batches is not cut and grows");
        }
    }

    fn whole(&self) -> BTreeMap<i32, i64> {
        self.furthest()
    }

    /// By source partition what comes behind the last record that a run before has begun to send.
    fn furthest(&self) -> BTreeMap<i32, i64> {
        let end = |(partition, list): (&i32, &VecDeque<Range<i64>>)| Some((*partition, list.back()?.end));
        self.known.iter().filter_map(end).collect()
    }
}

impl Drop for HttpSink {
    fn drop(&mut self) {
        self.lanes.values().for_each(|course| course.task.abort());
    }
}

/// Sends what comes along a lane, until somebody is down.
async fn run(partition: i32, lane: Arc<Lane>, mut sender: Sender, begun: Arc<Begun>, news: Arc<News>) {
    loop {
        let batch = lane.next().await;
        let range = batch.units.first().zip(batch.units.last()).map(|(first, last)| first.offset..last.offset + 1);
        let noted = match range.filter(|_| batch.is_new && !batch.units.iter().any(|unit| unit.is_mark)) {
            Some(range) => begun.note(partition, &range),
            None => Ok(()),
        };
        let result = match noted {
            Ok(()) => sender.deliver(&batch.units, &begun).await,
            Err(error) => Err(unnoted(error)),
        };
        let is_down = result.is_err();
        let told = Told { partition, count: batch.units.len(), result };
        news.told.lock().unwrap_or_else(PoisonError::into_inner).push_back(told);
        news.stirred.notify_one();
        if is_down {
            return;
        }
    }
}

/// Rows by their records' offset; those that a mark lets go, and those of windows, by record: there may be very many at one offset.
fn units(lines: &JsonLines, sources: &[u32], records: &[Record], of: (i32, bool)) -> Vec<Arc<Unit>> {
    let (partition, is_mark) = of;
    let mut units: Vec<Unit> = Vec::new();
    let mut last = None;
    for (row, source) in sources.iter().enumerate() {
        let record = &records[*source as usize];
        let line = &lines.text[lines.places[row].clone()];
        let is_same_record = last == Some(*source);
        let is_alone = is_mark || partition == WINDOWS;
        let joins = |unit: &&mut Unit| if is_alone { is_same_record } else { unit.offset == record.offset.0 };
        let place = match units.last() {
            _ if is_mark => units.len() as u32,
            Some(before) if before.offset == record.offset.0 => before.place + 1,
            _ => 0,
        };
        let unit = match units.last_mut().filter(joins) {
            Some(unit) => unit,
            None => {
                units.push(Unit {
                    offset: record.offset.0,
                    rows: 0,
                    lines: Vec::new(),
                    records: Vec::new(),
                    is_mark,
                    place,
                });
                let at = units.len() - 1;
                &mut units[at]
            }
        };
        if !is_same_record || unit.records.is_empty() {
            unit.records.push(record.clone());
        }
        unit.rows += 1;
        unit.lines.extend_from_slice(line);
        unit.lines.push(b'\n');
        last = Some(*source);
    }
    units.into_iter().map(Arc::new).collect()
}
