//! Who may do how much: today quotas, of bytes by user, client id and address, and of new connections by address. Users, keys and rules
//! come here too; until then every client is [`ANONYMOUS`].
//!
//! Asked by doors before they read on; knows no socket and no frame. The table stands in the store's catalog, so it is durable and
//! outlives a restart; what clients have used lives in memory alone.
//!
//! Kafka's rules: the most specific of eight levels holds (`table.rs`), a rate is held over ten seconds (`bucket.rs`), everybody whom one
//! entry means by the same names shares what it allows, over all connections.

mod bucket;
mod entity;
mod quotas;
mod table;

pub use entity::{Entity, EntityError, Filter, Key, Match, Name};
pub use quotas::{Alteration, Caller, Quotas, Rates, Verdict};

/// The user of a client that did not say who it is, by Kafka's name.
pub const ANONYMOUS: &str = "ANONYMOUS";
