//! Avro: a schema's text, and one datum in the binary encoding to a tree. By the specification of Avro 1.12, sections "Schema Declaration" and
//! "Binary Encoding".
//!
//! Our own, since what there is does not stand hostile bytes: a reader of `Value`s goes down as deep as a recursive schema and a record's
//! bytes lead it, and ends the process; one that builds Arrow arrays takes no recursive schema and gives up a whole batch for one record.
//! No schema is resolved against another: columns name what they want, as they do with JSON.

mod datum;
mod schema;
#[cfg(test)]
mod tests;

pub(super) use schema::Schema;
