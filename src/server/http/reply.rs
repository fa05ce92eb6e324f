//! What the HTTP door answers with: always JSON that says what happened and what to do.

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use std::convert::Infallible;

/// An answer; its body is whole, or a stream for the live tail.
pub type Reply = Response<BoxBody<Bytes, Infallible>>;

/// At most this many bad lines are listed.
const BAD_LISTED_MAX: usize = 100;

/// What became of a POST of events.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Taken {
    /// Events that are durable.
    pub taken: usize,
    /// Lines that are no events, the first hundred.
    pub bad: Vec<Bad>,
    /// Ranges of lines, first and last, to be sent again.
    pub retry: Vec<(usize, usize)>,
    /// Bad lines that stand in the dead letter topic.
    pub quarantined: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One bad line.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Bad {
    pub line: usize,
    pub reason: String,
}

impl Taken {
    pub fn list_bad(&mut self, line: usize, reason: String) {
        if self.bad.len() < BAD_LISTED_MAX {
            self.bad.push(Bad { line, reason });
        }
    }
}

/// Lines as ranges: `[1, 2, 3, 7]` is `[(1, 3), (7, 7)]`. The lines are sorted.
pub fn ranges(lines: &[usize]) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for line in lines {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *line || *last == *line => *last = *line,
            _ => ranges.push((*line, *line)),
        }
    }
    ranges
}

pub fn json(status: StatusCode, value: &impl serde::Serialize) -> Reply {
    // The values are our own structs and JSON trees: they have a JSON form.
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    let mut reply = Response::new(Full::new(Bytes::from(body)).boxed());
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// A refusal: nothing was taken.
pub fn refuse(status: StatusCode, error: impl Into<String>) -> Reply {
    metrics::counter!(crate::metrics::HTTP_REFUSALS.name, "status" => status.as_str().to_owned()).increment(1);
    let mut reply = json(status, &Taken { error: Some(error.into()), ..Taken::default() });
    if status == StatusCode::TOO_MANY_REQUESTS {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_ranges() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), [(1, 3), (7, 7), (9, 10)]);
        assert!(ranges(&[]).is_empty());
    }
}
