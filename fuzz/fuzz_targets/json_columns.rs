//! JSON into columns of each kind, held against serde_json.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inrush::fuzz::run("json_columns", bytes));
