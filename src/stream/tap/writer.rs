//! A tap's own thread: takes what the pipeline hands on, picks the rows that are asked for, and writes them as lines.

use super::super::step::{Found, JsonLines, Rows, truths};
use super::view::Filter;
use super::{Dead, Role, Shared, Sight};
use crate::control::Tap;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use crossbeam::channel::{Receiver, RecvTimeoutError};
use datafusion_physical_expr::PhysicalExpr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A piece is sent once it has this size, or there is nothing more.
const PIECE_SIZE: usize = 64 << 10;
/// An empty line is sent after so long without another: it finds out who has gone.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// What is not shown is told this often.
const TOLD_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    sights: Receiver<Sight>,
    shared: Arc<Shared>,
    lines: mpsc::Sender<Bytes>,
    filter: Filter,
    /// Made for the schema that came.
    asked: Option<(SchemaRef, Option<Arc<dyn PhysicalExpr>>)>,
    rate: f64,
    left: Option<u64>,
    /// Rows that may be shown now, and when that was so.
    allowed: (f64, Instant),
    not_shown: u64,
    told: Instant,
    piece: Vec<u8>,
}

/// When it is let go, in a panic too, no more is handed on, whoever still holds the other end.
struct Closed(Arc<Shared>);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::Relaxed);
    }
}

/// Why it ends.
enum End {
    /// Nobody reads any more.
    Gone,
    Why(String),
}

impl Writer {
    pub(super) fn new(sights: Receiver<Sight>, shared: Arc<Shared>, filter: Filter, asked: &Tap) -> Writer {
        let rate = f64::from(asked.rate.max(1));
        Writer {
            sights,
            shared,
            lines: asked.lines.clone(),
            filter,
            asked: None,
            rate,
            left: asked.limit,
            allowed: (rate, Instant::now()),
            not_shown: 0,
            told: Instant::now(),
            piece: Vec::new(),
        }
    }

    pub(super) fn run(mut self) {
        let end = {
            let _closed = Closed(self.shared.clone());
            loop {
                if let Err(end) = self.turn() {
                    break end;
                }
            }
        };
        if let End::Why(why) = end {
            self.not_shown += self.shared.missed.swap(0, Ordering::Relaxed);
            let _ = self.tell_not_shown();
            self.line(&serde_json::json!({ "end": why }));
            let _ = self.flush();
        }
    }

    fn turn(&mut self) -> Result<(), End> {
        let came = self.sights.recv_timeout(SILENCE_MAX);
        self.not_shown += self.shared.missed.swap(0, Ordering::Relaxed);
        match came {
            Ok(sight) => self.tell(sight)?,
            Err(RecvTimeoutError::Timeout) if self.not_shown == 0 => self.piece.push(b'\n'),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                let why = self.shared.why.get().cloned();
                return Err(End::Why(why.unwrap_or_else(|| "the pipeline ended".to_owned())));
            }
        }
        if self.told.elapsed() >= TOLD_EVERY {
            self.tell_not_shown()?;
        }
        self.flush()
    }

    fn tell(&mut self, sight: Sight) -> Result<(), End> {
        match sight {
            Sight::Rows { partition, rows, offsets, role } => self.rows(partition, rows, offsets, &role),
            Sight::Count { step, reason, count } => {
                self.line(&serde_json::json!({ "filtered": reason, "step": step, "count": count }));
                Ok(())
            }
            Sight::Dead(letters) => letters.iter().try_for_each(|letter| self.dead(letter)),
        }
    }

    fn rows(&mut self, partition: i32, batch: RecordBatch, offsets: Vec<i64>, role: &Role) -> Result<(), End> {
        // The place of a row's offset takes the place of its record.
        let mut rows = Rows { batch, sources: (0..offsets.len() as u32).collect() };
        if !matches!(role, Role::Left { .. }) {
            if let Some(filter) = self.filter.step.clone() {
                rows = kept(&filter, rows);
            }
            if let Some(asked) = self.asked(&rows.batch.schema())? {
                rows = kept(&asked, rows);
            }
        }
        let shown = self.take(rows.len());
        let lines = JsonLines::of(&rows.batch.slice(0, shown)).map_err(|error| End::Why(error.to_string()))?;
        let of_role = match role {
            Role::Passing => String::new(),
            Role::Going { output } => format!("\"output\":{},", serde_json::json!(output)),
            Role::Left { step, reason } => {
                format!("\"filtered\":{},\"step\":{},", serde_json::json!(reason), serde_json::json!(step))
            }
        };
        for (line, source) in lines.iter().zip(&rows.sources) {
            let offset = offsets[*source as usize];
            self.piece.extend_from_slice(
                format!("{{\"partition\":{partition},\"offset\":{offset},{of_role}\"row\":").as_bytes(),
            );
            self.piece.extend_from_slice(line);
            self.piece.extend_from_slice(b"}\n");
            self.send_full()?;
        }
        match self.left {
            Some(0) => Err(End::Why("as many as were asked for".to_owned())),
            _ => Ok(()),
        }
    }

    fn dead(&mut self, letter: &Dead) -> Result<(), End> {
        let Dead { partition, offset, output, fault, value } = letter;
        let mut line = serde_json::json!({
            "partition": partition, "offset": offset, "dead": fault.reason.as_str(),
            "column": fault.column, "message": fault.message, "value": value,
        });
        if let (Some(output), Some(line)) = (output, line.as_object_mut()) {
            line.insert("output".to_owned(), output.clone().into());
        }
        self.line(&line);
        self.send_full()
    }

    /// How many of so many rows may be shown now.
    fn take(&mut self, count: usize) -> usize {
        let (allowed, since) = self.allowed;
        let allowed = (allowed + since.elapsed().as_secs_f64() * self.rate).min(self.rate);
        let left = self.left.unwrap_or(u64::MAX);
        let shown = (count as u64).min(allowed as u64).min(left);
        self.allowed = (allowed - shown as f64, Instant::now());
        // What comes behind the last one that was asked for is not missed.
        self.not_shown += (count as u64).min(left) - shown;
        if let Some(left) = &mut self.left {
            *left -= shown;
        }
        shown as usize
    }

    fn asked(&mut self, schema: &SchemaRef) -> Result<Option<Arc<dyn PhysicalExpr>>, End> {
        match &self.asked {
            Some((known, asked)) if Arc::ptr_eq(known, schema) => Ok(asked.clone()),
            _ => {
                let asked = self.filter.asked(schema).map_err(End::Why)?;
                self.asked = Some((schema.clone(), asked.clone()));
                Ok(asked)
            }
        }
    }

    fn tell_not_shown(&mut self) -> Result<(), End> {
        self.told = Instant::now();
        if self.not_shown > 0 {
            let count = std::mem::take(&mut self.not_shown);
            self.line(&serde_json::json!({ "not_shown": count }));
        }
        self.flush()
    }

    fn line(&mut self, line: &serde_json::Value) {
        self.piece.extend_from_slice(line.to_string().as_bytes());
        self.piece.push(b'\n');
    }

    fn send_full(&mut self) -> Result<(), End> {
        if self.piece.len() >= PIECE_SIZE { self.flush() } else { Ok(()) }
    }

    /// Waits for a reader that is slow; the pipeline does not.
    fn flush(&mut self) -> Result<(), End> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        self.lines.blocking_send(piece).map_err(|_| End::Gone)
    }
}

/// The rows of which it is true.
fn kept(filter: &Arc<dyn PhysicalExpr>, rows: Rows) -> Rows {
    let answers = truths(filter, &rows, &mut Found::default());
    rows.filter(&answers).expect("there is an answer a row")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn a_panic_closes_the_tap() {
        let (_queue, sights) = crossbeam::channel::bounded(1);
        let (lines, _pieces) = mpsc::channel(1);
        let shared = Arc::<Shared>::default();
        let after = crate::control::After::Routes;
        let asked = Tap { after, output: None, filter: None, rate: 1, limit: None, bad: false, lines };
        let writer = Writer::new(sights, shared.clone(), Filter::default(), &asked);
        // Within a runtime a line cannot be waited for: the first one panics.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let ran = runtime.block_on(async { catch_unwind(AssertUnwindSafe(|| writer.run())) });
        assert!(ran.is_err() && shared.is_closed.load(Ordering::Relaxed));
    }
}
