//! Frames against the Kafka door of a whole daemon.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inrush::fuzz::run("kafka_frame", bytes));
