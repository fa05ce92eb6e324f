//! Compressed records behind a right header, in each codec.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inrush::fuzz::run("record_codec", bytes));
