//! Pipeline files.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inrush::fuzz::run("pipeline_file", bytes));
