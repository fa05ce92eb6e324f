//! Record batches as they come.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inrush::fuzz::run("record_batch", bytes));
