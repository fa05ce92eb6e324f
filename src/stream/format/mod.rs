//! What a record's value is: the key `format` of a pipeline file, and how each format becomes a tree that columns are read out of.
//!
//! Knows no column and no row; [`super::rows`] asks it record by record.

mod avro;
mod binary;
mod csv;
mod protobuf;
mod read;
#[cfg(test)]
mod tests;

pub(super) use read::{misfits, read};

pub(super) use binary::Binary;
pub(super) use csv::Csv;

use std::sync::Arc;

/// How a pipeline's records are read.
#[derive(Clone, Debug, Default)]
pub(super) enum Format {
    /// One JSON object.
    #[default]
    Json,
    /// A JSON object a line, each of them a row.
    Ndjson,
    /// Lines of CSV, each of them a row.
    Csv(Csv),
    /// Avro or Protobuf.
    Binary(Arc<Binary>),
    /// Bytes that are not looked into.
    Raw,
}

impl Format {
    /// Whether a record may give more than one row, or none.
    pub(super) fn has_lines(&self) -> bool {
        matches!(self, Format::Ndjson | Format::Csv(_))
    }
}
