//! The doors: HTTP and Kafka for events and records, admin for metrics, health and pipelines.

pub mod admin;
mod callers;
mod host;
pub mod http;
pub mod kafka;

pub use callers::AtWork;
