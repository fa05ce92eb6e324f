//! Bodies of HTTP requests: packing, kind, events.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inrush::fuzz::run("http_body", bytes));
