//! Rows to the process's standard output, a JSON object a line: for a daemon in the foreground, in a container, or under journald.
//!
//! Who reads there has what was written; nothing says what he did with it. So rows are there at least once.

use super::super::life::waiting_for;
use super::super::step::JsonLines;
use super::parquet::CutName;
use super::{Shaped, Sink, WriteError};
use crate::record::Record;
use std::io::Write;

/// The standard output.
pub(in crate::stream) struct Stdout;

impl Sink for Stdout {
    /// Writes all lines in one piece, so that those of two pipelines do not mix.
    fn write(&mut self, _: i32, shaped: &Shaped, _: &[u32], _: &[Record], _: &CutName) -> Result<(), WriteError> {
        let lines = JsonLines::of(&shaped.rows).map_err(|error| WriteError::Down(error.to_string()))?;
        // Another run of a pipeline that hangs there has the lock.
        let write = || {
            let mut out = std::io::stdout().lock();
            out.write_all(&lines.text).and_then(|()| out.flush())
        };
        let written = waiting_for(|| "output stdout, which nobody reads".to_owned(), write);
        written.map_err(|error| WriteError::Down(format!("cannot write to the standard output: {error}")))
    }
}
