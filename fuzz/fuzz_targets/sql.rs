//! The SQL of `where` and `select`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inrush::fuzz::run("sql", bytes));
