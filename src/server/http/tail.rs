//! `GET /v1/topics/{topic}/tail`: records as they come, as server-sent events; each event's id is its offset.

use super::HttpDoor;
use super::fetch::{failed, place, record_json};
use super::reply::Reply;
use crate::record::{DECODED_SIZE_MAX, Offset};
use crate::store::Partition;
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Pieces that may wait for a slow reader; then the reading waits.
const PIECES_MAX: usize = 16;
/// A comment is sent after this much silence, so that proxies keep the connection.
const SILENCE_MAX: Duration = Duration::from_secs(15);
const READ_SIZE: usize = 256 << 10;

pub(super) async fn events(door: &HttpDoor, topic: &str, query: Option<&str>, stop: watch::Receiver<bool>) -> Reply {
    let query = query.unwrap_or_default();
    // Unlike a read, a tail begins at the end unless told otherwise.
    let query = if query.contains("from=") { query.to_owned() } else { format!("{query}&from=end") };
    let (partition, from) = match place(door, topic, Some(&query)).await {
        Ok(found) => found,
        Err(reply) => return reply,
    };
    if let Err(error) = partition.read(from, 1).await {
        return failed(&error);
    }
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    tokio::spawn(follow(partition, from, sender, stop));
    let mut reply = Response::new(StreamBody::new(Pieces(pieces)).boxed());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

/// Reads on until the client hangs up, the door closes or the partition is gone.
async fn follow(partition: Partition, from: Offset, pieces: mpsc::Sender<Bytes>, mut stop: watch::Receiver<bool>) {
    let mut next = from;
    loop {
        let piece = match partition.read(next, READ_SIZE).await {
            Ok(slice) if slice.batches.is_empty() => {
                tokio::select! {
                    () = partition.tail_past(next) => continue,
                    () = tokio::time::sleep(SILENCE_MAX) => Bytes::from_static(b": still here\n\n"),
                    () = pieces.closed() => return,
                    () = super::stopped(&mut stop) => return,
                }
            }
            Ok(slice) => {
                let mut text = String::new();
                for batch in slice.batches {
                    for record in batch.records(DECODED_SIZE_MAX).unwrap_or_default() {
                        if record.offset >= next {
                            text.push_str(&format!("id: {}\ndata: {}\n\n", record.offset, record_json(&record)));
                        }
                    }
                    next = batch.next_offset();
                }
                Bytes::from(text)
            }
            Err(error) => {
                let _ = pieces.send(Bytes::from(format!("event: error\ndata: {error}\n\n"))).await;
                return;
            }
        };
        if pieces.send(piece).await.is_err() {
            return;
        }
    }
}

struct Pieces(mpsc::Receiver<Bytes>);

impl futures_core::Stream for Pieces {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
