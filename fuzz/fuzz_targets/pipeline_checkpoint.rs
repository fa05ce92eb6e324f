//! A pipeline's checkpoint.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inrush::fuzz::run("pipeline_checkpoint", bytes));
