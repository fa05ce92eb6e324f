//! What became of rows that outputs took before they had delivered them: refused ones become dead letters, and where nobody takes
//! anything the output is down. Outputs that deliver before they return have nothing here.

use super::dead_letters::Letter;
use super::fault::{Fault, Reason};
use super::output::lines;
use super::runner::{Fail, NAP, Open, Runner};
use super::sink::journal::Last;
use super::sink::{Refused, Settled};
use crate::metrics as names;
use crate::record::TimestampType;
use std::ops::Range;
use std::time::{Duration, Instant};

/// At its end a pipeline waits so long for answers; what is not answered is sent again by the next run.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(5);

impl Runner {
    /// Looks at what has been settled meanwhile.
    pub(super) fn settle(&mut self, open: &mut Open) -> Result<(), Fail> {
        (0..open.outlets.len()).try_for_each(|at| self.settle_one(open, at))
    }

    fn settle_one(&mut self, open: &mut Open, at: usize) -> Result<(), Fail> {
        let outlet = &mut open.outlets[at];
        let Some(line) = &mut outlet.line else { return Ok(()) };
        let Settled { batches, refused, refused_rows, retries, down } = line.sink.settle();
        if batches > 0 {
            outlet.is_well();
        }
        outlet.written = outlet.written.saturating_sub(refused_rows);
        let delivered = outlet.count();
        metrics::counter!(names::STREAM_ROWS.name, "pipeline" => self.job.spec.name.clone()).increment(delivered);
        (0..retries).for_each(|_| self.count_retry());
        if !self.bury_refused(open, at, refused)? {
            return Ok(());
        }
        let Some(down) = down else { return Ok(()) };
        // What was taken is not sent again when it comes back.
        if !self.stand_together(open) {
            self.cut(open, at)?;
        }
        let reason = match down.wait {
            Duration::ZERO => down.reason,
            wait => format!(
                "{}; it asked to be left alone for {} s: pause and resume the pipeline to try at once",
                down.reason,
                wait.as_secs()
            ),
        };
        if let Err(fail) = self.fall(open, at, reason) {
            // All stand together, and wait together.
            self.asked_to_wait = down.wait;
            return Err(fail);
        }
        open.outlets[at].wait(down.wait);
        Ok(())
    }

    /// Letters of what an output refused for good; says whether they are there, or else the output fell.
    fn bury_refused(&mut self, open: &mut Open, at: usize, refused: Vec<Refused>) -> Result<bool, Fail> {
        let timestamp_type = match open.topic.is_log_append_time() {
            true => TimestampType::LogAppendTime,
            false => TimestampType::CreateTime,
        };
        // Those of one partition ascend; all of one offset go in one call.
        for group in refused.chunk_by(|one, next| (one.partition, one.is_mark) == (next.partition, next.is_mark)) {
            let fault = |one: &Refused| Fault::of_value(Reason::SinkRefused, one.message.clone());
            let faults: Vec<Fault> = group.iter().map(fault).collect();
            let of_one = |(one, fault)| letters_of(one, fault, timestamp_type);
            let letters: Vec<Letter<'_>> = group.iter().zip(&faults).flat_map(of_one).collect();
            let last = if group[0].is_mark { Last::More } else { Last::Whole };
            if !self.bury(open, at, group[0].partition, &letters, last)? {
                return Ok(false);
            }
            // They come late: the pipeline has read on, and the breaker has not seen them.
            let front = self.positions.get(&group[0].partition).copied().unwrap_or(0);
            self.watched.1 += letters.iter().filter(|letter| letter.record.offset.0 < front).count() as u64;
        }
        Ok(true)
    }

    /// Waits until outputs have delivered what they took, or are down: each request of theirs has an end. At a stop not for long.
    pub(super) fn settle_all(&mut self, open: &mut Open, which: Range<usize>) -> Result<(), Fail> {
        let mut stops_since: Option<Instant> = None;
        while self.is_on_its_way(open, which.clone()) {
            if self.life.is_stopping() && stops_since.get_or_insert_with(Instant::now).elapsed() > LAST_ANSWERS_MAX {
                return Err(Fail::Down("it stops while an output delivers".to_owned()));
            }
            self.settle(open)?;
            self.publish_waiting(open);
            std::thread::park_timeout(NAP / 20);
        }
        Ok(())
    }

    /// Before the pipeline's last cut: as [`Runner::settle_all`], but not for ever, unless what comes next relies on it. Outputs may fall.
    pub(super) fn settle_end(&mut self, open: &mut Open) -> Result<(), Fail> {
        if open.until.is_some() {
            return self.settle_all(open, 0..open.outlets.len());
        }
        let began = Instant::now();
        let all = 0..open.outlets.len();
        while began.elapsed() < LAST_ANSWERS_MAX && self.is_on_its_way(open, all.clone()) {
            self.settle(open)?;
            self.publish_waiting(open);
            std::thread::park_timeout(NAP / 20);
        }
        Ok(())
    }

    fn is_on_its_way(&self, open: &Open, which: Range<usize>) -> bool {
        let waiting: Vec<_> = lines(&open.outlets[which]).filter(|line| line.sink.unsettled_rows() > 0).collect();
        waiting.iter().for_each(|line| line.sink.hurry());
        !waiting.is_empty()
    }

    /// Waits until an output has room again. Only where all outputs stand together: elsewhere it is left behind.
    pub(super) fn make_room(&mut self, open: &mut Open) -> Result<(), Fail> {
        if self.life.is_stopping() {
            return Err(Fail::Down("it stops while an output has no room".to_owned()));
        }
        self.settle(open)?;
        self.publish_waiting(open);
        std::thread::park_timeout(NAP / 20);
        Ok(())
    }
}

fn letters_of<'a>(
    refused: &'a Refused,
    fault: &'a Fault,
    timestamp_type: TimestampType,
) -> impl Iterator<Item = Letter<'a>> {
    refused.records.iter().map(move |record| Letter { record, fault, timestamp_type, outputs: None })
}
