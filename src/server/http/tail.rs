//! `GET /v1/topics/{topic}/tail`: records as they come, as server-sent events; each event's id is its offset, so that a browser that
//! lost its connection goes on where it was (`Last-Event-ID`).
//!
//! | event | data |
//! |---|---|
//! | (none) | a record |
//! | `gap` | `{"from","to"}`: records that had left the log before they were read |
//! | `error` | why it ends |

use super::HttpDoor;
use super::connection::stopped;
use super::fetch::{partition, place};
use super::record;
use super::reply::{Content, Reply, refuse};
use crate::record::{DECODED_SIZE_MAX, Offset};
use crate::store::{Partition, ReadError, Slice};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Pieces that may wait for a slow reader; then the reading waits.
const PIECES_MAX: usize = 4;
/// A piece is sent once it has this size.
const PIECE_SIZE: usize = 64 << 10;
/// Bytes of batches that are read at once.
const READ_SIZE: usize = 128 << 10;
/// A smaller read is decoded on the tail's own task.
const DECODE_INLINE_MAX: usize = 16 << 10;
/// Sent first: it opens proxies' buffers, and tells browsers to come again after a second.
const HELLO: &[u8] = b"retry: 1000\n\n";

pub(super) async fn events(
    door: &Arc<HttpDoor>,
    topic: &str,
    request: &Request<Incoming>,
    stop: watch::Receiver<bool>,
) -> Reply {
    let (partition, from) = match begin(door, topic, request).await {
        Ok(begin) => begin,
        Err(reply) => return reply,
    };
    let Ok(permit) = door.tails.clone().try_acquire_owned() else {
        return refuse(StatusCode::TOO_MANY_REQUESTS, "too many live tails are open; try again later");
    };
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    tokio::spawn(Tail { door: door.clone(), partition, next: from, pieces: sender }.run(stop));
    let mut reply = Reply::new(Content::Live { pieces, _permit: permit });
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would gather events until its buffer is full.
    reply.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    reply
}

/// Where a tail begins: after the last event that the client has, else where it asks for, else at the end.
async fn begin(door: &HttpDoor, topic: &str, request: &Request<Incoming>) -> Result<(Partition, Offset), Reply> {
    let query = request.uri().query();
    let last = request.headers().get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse::<i64>().ok());
    if let Some(last) = last {
        return Ok((partition(door, topic, query)?, Offset(last.saturating_add(1).max(0))));
    }
    if super::query::parameter(query, "from").is_some() {
        return place(door, topic, query).await;
    }
    let partition = partition(door, topic, query)?;
    let tail = partition.tail();
    Ok((partition, tail))
}

/// A tail under way.
struct Tail {
    door: Arc<HttpDoor>,
    partition: Partition,
    next: Offset,
    pieces: mpsc::Sender<Bytes>,
}

impl Tail {
    /// Reads on until the client hangs up, the door closes or the partition is gone.
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut is_open = self.send(Bytes::from_static(HELLO)).await;
        while is_open {
            is_open = match self.partition.read(self.next, READ_SIZE).await {
                Ok(slice) if slice.batches.is_empty() => {
                    tokio::select! {
                        () = self.partition.tail_past(self.next) => true,
                        () = tokio::time::sleep(self.door.limits.silence_max) => {
                            self.send(Bytes::from_static(b": still here\n\n")).await
                        }
                        () = self.pieces.closed() => false,
                        () = stopped(&mut stop) => false,
                    }
                }
                Ok(slice) => tokio::select! {
                    is_open = self.pass_on(slice) => is_open,
                    () = stopped(&mut stop) => false,
                },
                // Retention went by; or the offset is of a topic that was made anew since.
                Err(ReadError::OutOfRange { start, .. }) => {
                    let gap = format!("event: gap\ndata: {{\"from\":{},\"to\":{start}}}\n\n", self.next);
                    self.next = start;
                    self.send(Bytes::from(gap)).await
                }
                Err(error) => self.end(&error.to_string()).await,
            };
        }
    }

    async fn send(&self, piece: Bytes) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    async fn end(&self, reason: &str) -> bool {
        let reason = reason.replace(['\n', '\r'], " ");
        let _ = self.send(Bytes::from(format!("event: error\ndata: {reason}\n\n"))).await;
        false
    }

    /// Sends the records of a slice; whether the client is still there. `next` moves only with what was handed on.
    async fn pass_on(&mut self, slice: Slice) -> bool {
        let from = self.next;
        let size: usize = slice.batches.iter().map(|batch| batch.size()).sum();
        let decoded = match size <= DECODE_INLINE_MAX {
            true => Ok(pieces(&slice, from)),
            false => self.door.off_task(move || pieces(&slice, from)).await,
        };
        let Ok((pieces, next, failed)) = decoded else {
            return self.end("the records cannot be read: see the daemon's log").await;
        };
        for piece in pieces {
            if !self.send(Bytes::from(piece)).await {
                return false;
            }
        }
        self.next = next;
        match failed {
            Some(reason) => self.end(&reason).await,
            None => true,
        }
    }
}

/// The records of a slice from `from` on, in pieces; the offset after them; and what cannot be decoded.
fn pieces(slice: &Slice, from: Offset) -> (Vec<Vec<u8>>, Offset, Option<String>) {
    let mut pieces = vec![Vec::new()];
    let mut next = from;
    for batch in &slice.batches {
        let records = match batch.records(DECODED_SIZE_MAX) {
            Ok(records) => records,
            Err(error) => {
                let reason = format!("the batch at offset {} cannot be decoded: {error}", batch.base_offset());
                return (pieces, next, Some(reason));
            }
        };
        for record in records.iter().filter(|record| record.offset >= from) {
            if pieces.last().is_none_or(|piece| piece.len() >= PIECE_SIZE) {
                pieces.push(Vec::new());
            }
            if let Some(piece) = pieces.last_mut() {
                piece.extend_from_slice(format!("id: {}\ndata: ", record.offset).as_bytes());
                record::put(piece, record);
                piece.extend_from_slice(b"\n\n");
            }
        }
        next = batch.next_offset();
    }
    pieces.retain(|piece| !piece.is_empty());
    (pieces, next, None)
}
