//! Inrush: takes in events that come fast, keeps them in a durable log, and moves them on.
//!
//! The rooms and the floors they stand on are drawn in `docs/ARCHITECTURE.md`; `tests/tidy.rs` holds that table against the code.

pub mod budget;
pub mod clock;
pub(crate) mod json;
pub mod metrics;
pub mod pulse;
pub mod work;

pub mod config;
pub mod disk;
pub mod record;

pub mod kafka;
pub mod log;
pub mod wire;

pub mod store;

pub mod ingest;
pub mod letters;

pub mod access;
pub mod control;
pub mod group;

pub mod server;
pub mod stream;

pub mod daemon;

pub mod client;
pub mod lab;

pub mod cli;

pub mod fuzz;
