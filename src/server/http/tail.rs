//! `GET /v1/topics/{topic}/tail`: records as they come, as server-sent events, of one partition or of all; each event's id says where it
//! stands, so that a browser that lost its connection goes on where it was (`Last-Event-ID`): of one partition the offset, of several what
//! comes next in each, as `0:17,1:4`.
//!
//! | event | data |
//! |---|---|
//! | (none) | a record |
//! | `gap` | `{"from","to"}`: records that had left the log before they were read |
//! | `error` | why it ends |

use super::HttpDoor;
use super::connection::{Caller, Socket, stopped};
use super::fetch::{find, offset, partition};
use super::headers::Headers;
use super::query::parameter;
use super::record;
use super::reply::{Content, Reply, refuse_for};
use crate::record::{DECODED_SIZE_MAX, Offset, PartitionId, Record};
use crate::store::{Partition, ReadError, Slice};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
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
    caller: &Caller,
    request: &Request<Incoming>,
    stop: watch::Receiver<bool>,
) -> Reply {
    let places = match begin(door, topic, request).await {
        Ok(places) => places,
        Err(reply) => return reply,
    };
    let Ok(permit) = door.tails.clone().try_acquire_owned() else {
        return refuse_for(StatusCode::TOO_MANY_REQUESTS, "tails", "too many live tails are open; try again later");
    };
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let socket = request.extensions().get().cloned();
    let address = door.address(caller, &Headers::Map(request.headers()));
    tokio::spawn(Tail { door: door.clone(), address, places, pieces: sender, socket }.run(stop));
    let mut reply = Reply::new(Content::Live { pieces, _permit: permit });
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would gather events until its buffer is full.
    reply.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    reply
}

/// Where a tail begins: after the last event that the client has, else where it asks for, else at the end.
async fn begin(door: &HttpDoor, topic: &str, request: &Request<Incoming>) -> Result<Vec<Place>, Reply> {
    let query = request.uri().query();
    let last = request.headers().get("last-event-id").and_then(|id| id.to_str().ok()).map(str::trim);
    let from = parameter(query, "from");
    let partitions = match parameter(query, "partition") {
        Some(_) => vec![partition(door, topic, query)?],
        None => find(door, topic)?.partitions().to_vec(),
    };
    let is_one = partitions.len() == 1;
    let mut places = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let next = match (last.and_then(|last| next_of(last, partition.id(), is_one)), &from) {
            (Some(next), _) => next,
            (None, Some(from)) => offset(&partition, from).await?,
            (None, None) => partition.tail(),
        };
        places.push(Place { partition, next });
    }
    Ok(places)
}

/// What comes in a partition after the event with this id; `None` if the id does not say.
fn next_of(id: &str, partition: PartitionId, is_one: bool) -> Option<Offset> {
    if let (true, Ok(offset)) = (is_one, id.parse::<i64>()) {
        return Some(Offset(offset.saturating_add(1).max(0)));
    }
    let mut places = id.split(',').filter_map(|place| place.split_once(':'));
    let (_, next) = places.find(|(number, _)| number.parse() == Ok(partition.0))?;
    next.parse::<i64>().ok().map(|next| Offset(next.max(0)))
}

/// A tail under way.
struct Tail {
    door: Arc<HttpDoor>,
    /// Whose quotas hold.
    address: IpAddr,
    /// Never none.
    places: Vec<Place>,
    pieces: mpsc::Sender<Bytes>,
    socket: Option<Socket>,
}

/// Where it stands in a partition.
struct Place {
    partition: Partition,
    next: Offset,
}

impl Tail {
    /// Reads on until the client hangs up, the door closes or a partition is gone.
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut is_open = self.send(Bytes::from_static(HELLO)).await;
        while is_open {
            let mut has_read = false;
            for at in 0..self.places.len() {
                let Place { partition, next } = &self.places[at];
                match partition.read(*next, READ_SIZE).await {
                    Ok(slice) if slice.batches.is_empty() => continue,
                    Ok(slice) => {
                        is_open = tokio::select! {
                            is_open = self.pass_on(at, slice) => is_open,
                            () = stopped(&mut stop) => false,
                        };
                    }
                    // Retention went by; or the offset is of a topic that was made anew since.
                    Err(ReadError::OutOfRange { start, .. }) => is_open = self.gap(at, start).await,
                    Err(error) => is_open = self.end(&error.to_string()).await,
                }
                has_read = true;
                if !is_open {
                    return;
                }
            }
            if !has_read {
                is_open = tokio::select! {
                    () = past(&self.places) => true,
                    () = tokio::time::sleep(self.door.limits.silence_max) => {
                        self.send(Bytes::from_static(b": still here\n\n")).await
                    }
                    () = self.pieces.closed() => false,
                    () = self.left() => false,
                    () = stopped(&mut stop) => false,
                };
            }
        }
    }

    /// Tells of records that nobody can read any more, and goes on behind them.
    async fn gap(&mut self, at: usize, start: Offset) -> bool {
        let is_one = self.places.len() == 1;
        let place = &mut self.places[at];
        let mut gap = serde_json::json!({ "from": place.next.0, "to": start.0 });
        if !is_one {
            gap["partition"] = place.partition.id().0.into();
        }
        place.next = start;
        self.send(Bytes::from(format!("event: gap\ndata: {gap}\n\n"))).await
    }

    /// How the events of one partition are named.
    fn name(&self, at: usize) -> Name {
        if self.places.len() == 1 {
            return Name::Offset;
        }
        let other = |place: &Place| format!("{}:{}", place.partition.id(), place.next);
        let before: String = self.places[..at].iter().map(|place| other(place) + ",").collect();
        let after: String = self.places[at + 1..].iter().map(|place| format!(",{}", other(place))).collect();
        let partition = self.places[at].partition.id();
        Name::Places { before: format!("{before}{partition}:"), partition, after }
    }

    async fn send(&self, piece: Bytes) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// Returns once the client left. hyper does not look while an answer is under way.
    async fn left(&self) {
        match &self.socket {
            Some(socket) => socket.ended().await,
            None => std::future::pending().await,
        }
    }

    async fn end(&self, reason: &str) -> bool {
        let reason = reason.replace(['\n', '\r'], " ");
        let _ = self.send(Bytes::from(format!("event: error\ndata: {reason}\n\n"))).await;
        false
    }

    /// Sends the records of a slice; whether the client is still there. `next` moves only with what was handed on.
    async fn pass_on(&mut self, at: usize, slice: Slice) -> bool {
        let (from, name) = (self.places[at].next, self.name(at));
        let size: usize = slice.batches.iter().map(|batch| batch.size()).sum();
        let decoded = match size <= DECODE_INLINE_MAX {
            true => Ok(pieces(&slice, from, &name)),
            false => self.door.off_task(move || pieces(&slice, from, &name)).await,
        };
        let Ok((pieces, next, failed)) = decoded else {
            return self.end("the records cannot be read: see the daemon's log").await;
        };
        for piece in pieces {
            while let Some(wait) = self.door.try_send_piece(self.address, piece.len()) {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.pieces.closed() => return false,
                    () = self.left() => return false,
                }
            }
            if !self.send(Bytes::from(piece)).await {
                return false;
            }
        }
        self.places[at].next = next;
        match failed {
            Some(reason) => self.end(&reason).await,
            None => true,
        }
    }
}

/// Waits until there is something to read in one of them.
async fn past(places: &[Place]) {
    let mut waits: Vec<_> = places.iter().map(|place| Box::pin(place.partition.tail_past(place.next))).collect();
    std::future::poll_fn(|context| match waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// How an event is named.
enum Name {
    /// By its offset: there is one partition.
    Offset,
    /// By what comes next in each partition; `before` and `after` are those of the others.
    Places { before: String, partition: PartitionId, after: String },
}

impl Name {
    /// The event's lines up to its data.
    fn put(&self, piece: &mut Vec<u8>, record: &Record) {
        let head = match self {
            Name::Offset => format!("id: {}\ndata: ", record.offset),
            Name::Places { before, after, .. } => format!("id: {before}{}{after}\ndata: ", record.offset.0 + 1),
        };
        piece.extend_from_slice(head.as_bytes());
    }

    fn partition(&self) -> Option<PartitionId> {
        match self {
            Name::Offset => None,
            Name::Places { partition, .. } => Some(*partition),
        }
    }
}

/// The records of a slice from `from` on, in pieces; the offset after them; and what cannot be decoded.
fn pieces(slice: &Slice, from: Offset, name: &Name) -> (Vec<Vec<u8>>, Offset, Option<String>) {
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
                name.put(piece, record);
                record::put_of(piece, name.partition(), record);
                piece.extend_from_slice(b"\n\n");
            }
        }
        next = batch.next_offset();
    }
    pieces.retain(|piece| !piece.is_empty());
    (pieces, next, None)
}
