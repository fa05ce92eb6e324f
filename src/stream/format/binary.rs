//! Values that only a schema makes readable, and the frame that Confluent's serialisers put before them.
//!
//! The frame, of 5 bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 0 | 0 |
//! | 1 to 4 | id of the schema, big-endian |
//!
//! Before a Protobuf message comes its place in the schema's file, see [`protobuf`].

use super::{avro, protobuf};
use crate::json::Node;
use crate::stream::fault::{Fault, Reason};

/// A format with a schema.
#[derive(Debug)]
pub(in crate::stream) struct Binary {
    pub(super) schema: Schema,
    /// Confluent's frame stands before the value. Its id is not looked at: the schema is known.
    pub(super) is_framed: bool,
}

/// What a value is read by.
#[derive(Debug)]
pub(super) enum Schema {
    Avro(avro::Schema),
    Protobuf(protobuf::Schema),
}

impl Binary {
    /// Gives a value's tree to `each`.
    ///
    /// # Errors
    /// [`Reason::NotAvro`] or [`Reason::NotProtobuf`], or the error of `each`.
    pub(in crate::stream) fn read(
        &self,
        value: &[u8],
        each: impl FnOnce(&Node<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let value =
            if self.is_framed { unframed(value).map_err(|message| self.schema.fault(message))?.1 } else { value };
        let read = match &self.schema {
            Schema::Avro(schema) => schema.read(value),
            Schema::Protobuf(schema) => schema.read(value, self.is_framed),
        };
        match read.map_err(|message| self.schema.fault(message))? {
            node @ Node::Object(_) => each(&node),
            _ => Err(self.schema.fault("its schema is no record, so it has no fields".to_owned())),
        }
    }
}

impl Schema {
    fn fault(&self, message: String) -> Fault {
        let reason = match self {
            Schema::Avro(_) => Reason::NotAvro,
            Schema::Protobuf(_) => Reason::NotProtobuf,
        };
        Fault::of_value(reason, message)
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
