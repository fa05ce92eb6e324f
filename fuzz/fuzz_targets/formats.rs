//! NDJSON, CSV, Avro and Protobuf into columns.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inrush::fuzz::run("formats", bytes));
