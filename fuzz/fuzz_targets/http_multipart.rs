//! `multipart/form-data`: what cameras push.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inrush::fuzz::run("http_multipart", bytes));
