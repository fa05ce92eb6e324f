//! Generators, demo and doctor: what shows and measures the daemon. The daemon uses nothing of it.

mod agents;
pub mod checker;
pub mod demo;
pub mod doctor;
pub mod generate;
pub mod load;
mod measure;
pub mod pictures;
