//! Pipelines: a file says what to read, how to transform it and where to write it; this room checks it, runs it and keeps its positions.
//!
//! Knows the store and Arrow; knows no listener and no frame of the Kafka protocol.

pub mod fault;
pub mod plan;
pub mod rows;
pub mod spec;
