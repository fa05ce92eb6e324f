//! What a record's value is: the key `format` of a pipeline file, and how each format becomes a tree that columns are read out of.
//!
//! Knows no column and no row; [`super::rows`] asks it record by record.

mod avro;
mod binary;
mod csv;
mod protobuf;
mod read;
mod registry;
#[cfg(test)]
pub(super) mod tests;

pub(super) use read::{misfits, read};

pub(super) use binary::{Binary, Unread};
pub(super) use csv::Csv;
pub(super) use registry::{FETCH_TIME_MAX, Registry};

use super::fault::Reason;
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

    /// The registry that schemas come from, if they do.
    pub(super) fn registry(&self) -> Option<&Registry> {
        match self {
            Format::Binary(binary) => match &**binary {
                Binary::Registry(registry) => Some(registry),
                Binary::File { .. } => None,
            },
            Format::Json | Format::Ndjson | Format::Csv(_) | Format::Raw => None,
        }
    }
}

/// What a schema is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Avro,
    Protobuf,
}

/// What a value is read by.
#[derive(Debug)]
pub(super) enum Schema {
    Avro(avro::Schema),
    Protobuf(protobuf::Schema),
}

impl Language {
    /// What a registry calls it.
    fn as_str(self) -> &'static str {
        match self {
            Language::Avro => "AVRO",
            Language::Protobuf => "PROTOBUF",
        }
    }

    /// What a value is that is not of its schema.
    fn reason(self) -> Reason {
        match self {
            Language::Avro => Reason::NotAvro,
            Language::Protobuf => Reason::NotProtobuf,
        }
    }
}

impl Schema {
    /// Which part of a path is the first that no value has, and the fields that there are in its place.
    fn lacks(&self, path: &[String]) -> Option<(usize, Vec<String>)> {
        match self {
            Schema::Avro(schema) => schema.lacks(path),
            Schema::Protobuf(schema) => schema.lacks(path),
        }
    }

    fn language(&self) -> Language {
        match self {
            Schema::Avro(_) => Language::Avro,
            Schema::Protobuf(_) => Language::Protobuf,
        }
    }
}
