//! Requests against the HTTP door of a whole daemon.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inrush::fuzz::run("http_request", bytes));
