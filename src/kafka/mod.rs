//! A client of Kafka clusters that are not ours: brokers, leaders, batches out and in. Calls block; a pulse is given while they wait.
//!
//! Knows no pipeline and no topic of this log. `stream` writes to and reads from clusters with it. Batches are built above, by
//! [`crate::record`]; here they are bytes with a header.

mod cluster;
mod connection;
mod group;
mod produce;
mod sasl;
#[cfg(test)]
pub(crate) mod tests;

pub use cluster::{Cluster, END, FetchLimits, Fetched, START, TopicLimits, TopicView};
pub use connection::Tls;
pub use group::{Member, Standing};
pub use produce::{Acked, Stopped, Why};
pub use sasl::{Mechanism, Sasl};

use kafka_protocol::ResponseError;
use std::sync::Arc;

/// How a cluster is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `HOST:PORT`, asked in this order for all brokers.
    pub servers: Vec<String>,
    /// `None` = in the clear.
    pub tls: Option<Tls>,
    pub sasl: Option<Sasl>,
}

/// Called again and again while a call waits, at least every 3 s (that long a connection may take); false = nobody waits for it any more.
pub type Pulse = Arc<dyn Fn() -> bool + Send + Sync>;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot talk to Kafka at {address}: {reason}")]
    Connection { address: String, reason: String },
    #[error("{what}: {error}{}", detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default())]
    Refused { what: String, error: ResponseError, detail: Option<String> },
    #[error("Kafka at {address} does not speak {api} in a version that is known here ({min} to {max})")]
    Version { address: String, api: String, min: i16, max: i16 },
    #[error("partition {partition} of \"{topic}\" has no leader now")]
    NoLeader { topic: String, partition: i32 },
    #[error("Kafka said nothing of {0}")]
    Silent(String),
}

impl Error {
    /// What the broker said, if it said it.
    pub fn code(&self) -> Option<ResponseError> {
        match self {
            Error::Refused { error, .. } => Some(*error),
            _ => None,
        }
    }
}

/// Turns a code of an answer into an error.
fn check(code: i16, what: impl FnOnce() -> String) -> Result<(), Error> {
    match ResponseError::try_from_code(code) {
        None => Ok(()),
        Some(error) => Err(Error::Refused { what: what(), error, detail: None }),
    }
}
