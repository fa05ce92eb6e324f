//! Generators, demo and doctor: what shows and measures the daemon. The daemon uses nothing of it.

pub mod checker;
pub mod demo;
pub mod doctor;
pub mod generate;
