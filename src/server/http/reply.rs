//! What the HTTP door answers with: always JSON that says what happened and what to do.

use super::split::BadLine;
use crate::budget::Lease;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// An answer.
pub type Reply = Response<Content>;

/// The body of an answer.
pub enum Content {
    /// Sent in one piece; empty once it was.
    Whole(Bytes),
    /// As that, with the bytes that it holds of a budget until it is sent.
    Leased { bytes: Bytes, _lease: Lease },
    /// Pieces as they come, with the place it holds among the live tails.
    Live { pieces: mpsc::Receiver<Bytes>, _permit: OwnedSemaphorePermit },
}

impl Content {
    /// What is left of an answer that is whole; a live one has nothing yet.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Content::Whole(bytes) | Content::Leased { bytes, .. } => bytes,
            Content::Live { .. } => Bytes::new(),
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match &mut *self {
            Content::Whole(bytes) | Content::Leased { bytes, .. } => {
                Some(std::mem::take(bytes)).filter(|b| !b.is_empty())
            }
            Content::Live { pieces, .. } => std::task::ready!(pieces.poll_recv(context)),
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Content::Whole(bytes) | Content::Leased { bytes, .. } if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Whole(bytes) | Content::Leased { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Content::Live { .. } => SizeHint::default(),
        }
    }
}

/// The answer to a POST of events.
pub(super) enum Answer {
    /// One event, and it is stored: by far the most frequent, and kept ready as [`ONE`].
    One,
    Reply(Box<Reply>),
}

/// The body that says that one event is stored.
pub(super) const ONE: &str = "{\"taken\":1,\"bad\":[],\"retry\":[],\"quarantined\":0}\n";

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
    pub retry: Vec<(u32, u32)>,
    /// Bad lines that stand in the dead letter topic.
    pub quarantined: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One bad line.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Bad {
    pub line: u32,
    pub reason: String,
}

impl Taken {
    pub fn list_bad(&mut self, line: u32, reason: &str) {
        if self.bad.len() < BAD_LISTED_MAX {
            self.bad.push(Bad { line, reason: reason.to_owned() });
        }
    }

    /// Whether it is what [`ONE`] says.
    pub(super) fn is_one(&self) -> bool {
        let is_plain = self.bad.is_empty() && self.retry.is_empty() && self.error.is_none();
        is_plain && self.taken == 1 && self.quarantined == 0
    }

    /// As JSON; whatever is not a success is counted as a refusal.
    pub(super) fn answer(&self, status: StatusCode) -> Reply {
        self.answer_for(status, usual_reason(status))
    }

    /// As [`Taken::answer`], with the reason that a refusal is counted under.
    pub(super) fn answer_for(&self, status: StatusCode, reason: &'static str) -> Reply {
        let mut reply = json(status, self);
        if status != StatusCode::OK {
            refused(&mut reply, reason);
        }
        reply
    }
}

/// Bad lines as they are listed.
pub(super) fn listed(bad: &[BadLine]) -> Vec<Bad> {
    bad.iter().take(BAD_LISTED_MAX).map(|bad| Bad { line: bad.line, reason: bad.reason.clone() }).collect()
}

/// Lines as ranges: `[1, 2, 3, 7]` is `[(1, 3), (7, 7)]`. The lines are sorted.
pub fn ranges(lines: &[u32]) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
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
    json_bytes(status, body.into())
}

pub fn json_bytes(status: StatusCode, body: Bytes) -> Reply {
    let mut reply = Response::new(Content::Whole(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// A refusal: nothing was taken.
pub fn refuse(status: StatusCode, error: impl Into<String>) -> Reply {
    refuse_for(status, usual_reason(status), error)
}

/// As [`refuse`], with the reason that it is counted under: one of few words.
pub fn refuse_for(status: StatusCode, reason: &'static str, error: impl Into<String>) -> Reply {
    Taken { error: Some(error.into()), ..Taken::default() }.answer_for(status, reason)
}

/// What a status nearly always means.
fn usual_reason(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "write-key",
        403 => "forbidden",
        404 => "not-found",
        405 => "method",
        408 => "too-slow",
        413 => "too-large",
        416 => "out-of-range",
        429 => "queue-full",
        503 => "not-stored",
        507 => "low-disk",
        400..=499 => "bad-request",
        _ => "internal",
    }
}

/// Counts a refusal, and adds what its status asks for: when to come again, and whether on another connection.
fn refused(reply: &mut Reply, reason: &'static str) {
    let status = reply.status();
    let status_label = status.as_str().to_owned();
    metrics::counter!(crate::metrics::HTTP_REFUSALS.name, "status" => status_label, "reason" => reason).increment(1);
    if status == StatusCode::TOO_MANY_REQUESTS {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE) {
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_ranges() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), [(1, 3), (7, 7), (9, 10)]);
        assert!(ranges(&[]).is_empty());
    }

    #[test]
    fn the_answer_kept_ready_is_the_one_that_would_be_built() {
        let one = Taken { taken: 1, ..Taken::default() };
        assert!(one.is_one() && !Taken { quarantined: 1, ..one.clone() }.is_one());
        assert_eq!(one.answer(StatusCode::OK).into_body().into_bytes(), ONE);
    }
}
