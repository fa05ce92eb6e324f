//! What a pipeline does for its tables while it runs: looks whether files have changed, swaps new ones in at a cut, follows topics.

use super::LookUp;
use crate::metrics as names;
use crate::stream::runner::{Fail, Open, Runner};
use std::sync::Arc;
use tracing::{info, warn};

impl Runner {
    /// Before the first row: topics are read from their start to their end.
    pub(in crate::stream) fn fill_tables(&mut self) -> Result<(), Fail> {
        self.job.plan.look_ups().for_each(|table| table.forget());
        self.follow_tables()
    }

    /// Behind a read of the source and before its rows are made: what was durable in a table's topic by then is in the table.
    pub(in crate::stream) fn follow_tables(&mut self) -> Result<(), Fail> {
        let plan = self.job.plan.clone();
        for table in plan.look_ups() {
            table.follow(&self.options.store, &|| self.life.beat())?;
            self.count_tables("bad-record", table.bad_records());
        }
        Ok(())
    }

    /// Once a turn. A cut stands before a swap, and says behind it which file is there now: what is read again after a crash is looked up in
    /// that one.
    pub(in crate::stream) fn tend_tables(&mut self, open: &mut Open) -> Result<(), Fail> {
        let plan = self.job.plan.clone();
        let tables: Vec<&Arc<LookUp>> = plan.look_ups().collect();
        if tables.is_empty() {
            return Ok(());
        }
        tables.iter().for_each(|table| table.look());
        // One that comes behind this question waits for the next turn: no cut would stand before it.
        let is_due = tables.iter().any(|table| table.has_next());
        if is_due {
            self.cut_all(open)?;
        }
        let mut has_swapped = false;
        for table in &tables {
            if let Some(rows) = is_due.then(|| table.swap()).flatten() {
                has_swapped = true;
                info!(pipeline = self.job.spec.name, table = %table.from, rows, "table swapped");
                self.count_tables("swapped", 1);
            }
            if let (refused @ 1.., Some(reason)) = table.trouble() {
                warn!(pipeline = self.job.spec.name, %reason, "table refused");
                self.count_tables("refused", refused);
            }
        }
        if has_swapped {
            self.keep_tables_now()?;
        }
        let size: usize = tables.iter().map(|table| table.contents().size()).sum();
        metrics::gauge!(names::STREAM_TABLE_BYTES.name, "pipeline" => self.job.spec.name.clone()).set(size as f64);
        self.follow_tables()
    }

    fn count_tables(&self, result: &'static str, count: u64) {
        let pipeline = self.job.spec.name.clone();
        metrics::counter!(names::STREAM_TABLE_CHANGES.name, "pipeline" => pipeline, "result" => result)
            .increment(count);
    }

    /// What a person should know of the tables.
    pub(in crate::stream) fn table_warnings(&self) -> Vec<String> {
        let of = |table: &Arc<LookUp>| [table.standing_trouble(), table.last_bad(), table.emptiness()];
        self.job.plan.look_ups().flat_map(of).flatten().collect()
    }
}
