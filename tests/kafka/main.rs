//! The Kafka door, spoken to in bytes over a socket: each behaviour that broke clients of other brokers is a test, and what lies or floods
//! takes nobody down. The door runs in this process over the simulated disk.

mod administration;
mod alterations;
mod compacted;
mod door;
mod fetch;
mod groups;
mod limits;
mod members;
mod node;
mod offsets;
mod partitions;
mod produce;
mod quotas;
mod records;
mod topics;
mod versions;
