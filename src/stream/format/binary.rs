//! Values that only a schema makes readable, and the frame that Confluent's serialisers put before them.
//!
//! The frame, of 5 bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 0 | 0 |
//! | 1 to 4 | id of the schema, big-endian |
//!
//! Before a Protobuf message comes its place in the schema's file, see [`super::protobuf`].

use super::registry::Registry;
use super::{Language, Schema};
use crate::json::Node;
use crate::stream::fault::{Fault, Reason};
use std::sync::Arc;

/// A format with a schema.
#[derive(Debug)]
pub(in crate::stream) enum Binary {
    /// Of a file. If Confluent's frame stands before the value, its id is not looked at: the schema is known.
    File { schema: Schema, is_framed: bool },
    /// By the id in the frame.
    Registry(Arc<Registry>),
}

/// Why a value was not read.
#[derive(Debug)]
pub(in crate::stream) enum Unread {
    Fault(Fault),
    /// The schema of this id is to be fetched first.
    Wanting(u32),
}

impl From<Fault> for Unread {
    fn from(fault: Fault) -> Unread {
        Unread::Fault(fault)
    }
}

impl Binary {
    pub(in crate::stream) fn in_words(&self) -> &'static str {
        let (language, is_framed) = match self {
            Binary::File { schema, is_framed } => (schema.language(), *is_framed),
            Binary::Registry(registry) => (registry.language(), true),
        };
        match (language, is_framed) {
            (Language::Avro, false) => "one Avro datum",
            (Language::Avro, true) => "one Avro datum in Confluent's frame",
            (Language::Protobuf, false) => "one Protobuf message",
            (Language::Protobuf, true) => "one Protobuf message in Confluent's frame",
        }
    }

    /// Gives a value's tree to `each`.
    ///
    /// # Errors
    /// [`Reason::NotAvro`], [`Reason::NotProtobuf`] or [`Reason::UnknownSchema`], or the error of `each`.
    pub(in crate::stream) fn read(
        &self,
        value: &[u8],
        each: impl FnOnce(&Node<'_>) -> Result<(), Fault>,
    ) -> Result<(), Unread> {
        match self {
            Binary::File { schema, is_framed: false } => Ok(read(schema, value, false, each)?),
            Binary::File { schema, is_framed: true } => {
                let (_, rest) =
                    unframed(value).map_err(|message| Fault::of_value(schema.language().reason(), message))?;
                Ok(read(schema, rest, true, each)?)
            }
            Binary::Registry(registry) => {
                let (id, rest) =
                    unframed(value).map_err(|message| Fault::of_value(registry.language().reason(), message))?;
                let schema = registry.get(id).ok_or(Unread::Wanting(id))?;
                let schema = schema.map_err(|why| Fault::of_value(Reason::UnknownSchema, why.to_string()))?;
                Ok(read(&schema, rest, true, each)?)
            }
        }
    }
}

fn read(
    schema: &Schema,
    value: &[u8],
    is_framed: bool,
    each: impl FnOnce(&Node<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let read = match schema {
        Schema::Avro(schema) => schema.read(value),
        Schema::Protobuf(schema) => schema.read(value, is_framed),
    };
    let fault = |message| Fault::of_value(schema.language().reason(), message);
    match read.map_err(fault)? {
        node @ Node::Object(_) => each(&node),
        _ => Err(fault("its schema is no record, so it has no fields".to_owned())),
    }
}

/// The schema's id, and what stands behind the frame.
fn unframed(value: &[u8]) -> Result<(u32, &[u8]), String> {
    match value.split_first_chunk::<5>() {
        Some(([0, id @ ..], rest)) => Ok((u32::from_be_bytes(*id), rest)),
        Some(([magic, ..], _)) => Err(format!("it begins with {magic} where Confluent's frame has 0")),
        None => Err(format!("it has {} bytes and Confluent's frame has 5", value.len())),
    }
}
