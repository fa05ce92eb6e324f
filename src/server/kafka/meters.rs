//! Metric handles of the door, looked up once: a request costs no hashing of names.

use super::errors::Code;
use super::versions::SERVED;
use crate::metrics as names;
use kafka_protocol::messages::ApiKey;

pub(super) struct Meters {
    requests: Vec<(ApiKey, metrics::Counter)>,
    pub(super) produced_records: metrics::Counter,
    pub(super) produced_bytes: metrics::Counter,
    pub(super) fetched_bytes: metrics::Counter,
    pub(super) transcoded_bytes: metrics::Counter,
    pub(super) connections: metrics::Gauge,
}

impl Meters {
    pub(super) fn new() -> Meters {
        let counter = |api: &ApiKey| metrics::counter!(names::KAFKA_REQUESTS.name, "api" => format!("{api:?}"));
        Meters {
            requests: SERVED.iter().map(|(api, _, _)| (*api, counter(api))).collect(),
            produced_records: metrics::counter!(names::KAFKA_PRODUCED_RECORDS.name),
            produced_bytes: metrics::counter!(names::KAFKA_PRODUCED_BYTES.name),
            fetched_bytes: metrics::counter!(names::KAFKA_FETCHED_BYTES.name),
            transcoded_bytes: metrics::counter!(names::KAFKA_TRANSCODED_BYTES.name),
            connections: metrics::gauge!(names::CONNECTIONS.name, "door" => "kafka"),
        }
    }

    pub(super) fn request(&self, api: ApiKey) {
        if let Some((_, counter)) = self.requests.iter().find(|(known, _)| *known == api) {
            counter.increment(1);
        }
    }

    /// A partition of a produce request was refused.
    pub(super) fn refused(&self, code: Code) {
        metrics::counter!(names::KAFKA_ERRORS.name, "code" => format!("{code:?}")).increment(1);
    }

    /// The door closed a connection, or did not take it.
    pub(super) fn closed(&self, reason: &'static str) {
        metrics::counter!(names::KAFKA_CLOSED.name, "reason" => reason).increment(1);
    }
}
