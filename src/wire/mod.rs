//! The Kafka protocol as pure functions, where the kafka-protocol crate is not enough: [`shape`] walks a request before the crate
//! decodes it, [`fetch`] writes a Fetch answer around batches that are not copied.
//!
//! Does no I/O; used by the Kafka door.

pub mod fetch;
pub mod shape;

/// Why bytes are not the request they claim to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the request ends inside {0}")]
    Short(&'static str),
    #[error("{what} claims {claimed} items or bytes, {left} bytes follow")]
    Length { what: &'static str, claimed: i64, left: usize },
    #[error("a tagged field of {size} bytes does not hold what it should")]
    Tag { size: usize },
}
