//! A data folder whose files were changed: meta, catalog, checkpoint, indexes, segments.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inrush::fuzz::run("data_folder", bytes));
