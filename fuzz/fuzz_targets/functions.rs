//! Functions on a client's bytes: URLs, user agents, addresses, pictures, JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inrush::fuzz::run("functions", bytes));
