//! Rows to the process's standard output, a JSON object a line: for a daemon in the foreground, in a container, or under journald.
//!
//! Who reads there has what was written; nothing says what he did with it. So rows are there at least once.

use super::WriteError;
use super::http::Objects;
use std::io::Write;

/// Writes all lines in one piece, so that those of two pipelines do not mix.
///
/// # Errors
/// Nobody reads any more.
pub(super) fn write(objects: &Objects) -> Result<(), WriteError> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(objects.text()).and_then(|()| out.flush());
    written.map_err(|error| WriteError::Down(format!("cannot write to the standard output: {error}")))
}
