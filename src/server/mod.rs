//! The doors: HTTP for events and records, admin for metrics, health and pipelines.

pub mod admin;
pub mod http;
