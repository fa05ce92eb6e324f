//! The doors: HTTP, Kafka, admin, and the limits they share.

pub mod admin;
pub mod http;
pub mod kafka;
