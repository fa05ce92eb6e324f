//! The Kafka door, spoken to in bytes over a socket: each behaviour that broke clients of other brokers is a test, and what lies or floods
//! takes nobody down. The door runs in this process over the simulated disk.

mod compacted;
mod door;
mod fetch;
mod limits;
mod offsets;
mod produce;
mod topics;
mod versions;
