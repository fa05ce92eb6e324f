//! Requests of the Kafka protocol, each served API in each version.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inrush::fuzz::run("kafka_message", bytes));
