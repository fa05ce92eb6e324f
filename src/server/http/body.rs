//! Receiving a body: bytes are reserved as they arrive, so that slow and large requests never take more memory than the budget has.

use super::HttpDoor;
use super::connection::Caller;
use super::reply::{Reply, refuse};
use super::sniff::{BODY_SIZE_MAX, BodyError};
use crate::budget::{Lease, NoRoom};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes are reserved in steps of this size.
const RESERVE_STEP: usize = 64 << 10;
/// What is read of a refused body and thrown away, so that its sender reads the answer instead of a reset.
const DISCARD_SIZE_MAX: usize = 4 * BODY_SIZE_MAX;
const DISCARD_PATIENCE: Duration = Duration::from_secs(2);

/// The whole body with the lease of its bytes. One connection has one request at a time: its bytes and what they unpack to, twice
/// [`BODY_SIZE_MAX`], are the most it holds.
///
/// # Errors
/// The answer to give: 408, 413, 429 or 400. Nothing was taken.
pub(super) async fn receive(door: &HttpDoor, caller: &Caller, body: &mut Incoming) -> Result<(Bytes, Lease), Reply> {
    let limits = &door.limits;
    let announced = body.size_hint().exact();
    if announced.is_some_and(|size| size > BODY_SIZE_MAX as u64) {
        return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, BodyError::TooLarge.to_string()));
    }
    let announced = announced.map(|size| size as usize);
    let first = announced.map_or(RESERVE_STEP, |size| size.min(RESERVE_STEP));
    let mut lease = reserve(door, caller, first).await?;
    let began = Instant::now();
    let mut now = began;
    let mut whole = Whole { first: Bytes::new(), rest: BytesMut::new(), announced: announced.unwrap_or(0) };
    loop {
        // The latest moment at which the next bytes still keep the pace.
        let paced = Duration::from_millis(whole.size() as u64 * 1000 / limits.rate_min.max(1));
        let last = (began + paced.max(limits.rate_grace)).min(now + limits.pause_max);
        let frame = match tokio::time::timeout_at(last, body.frame()).await {
            Err(_) => {
                let reason = format!("the body came too slowly; send at least {} bytes a second", limits.rate_min);
                return Err(refuse(StatusCode::REQUEST_TIMEOUT, reason));
            }
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                return Err(refuse(StatusCode::BAD_REQUEST, format!("the body broke off: {error}")));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if whole.size() + data.len() > BODY_SIZE_MAX {
            return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, BodyError::TooLarge.to_string()));
        }
        while lease.bytes() < whole.size() + data.len() {
            grow(door, &mut lease, RESERVE_STEP).await?;
        }
        whole.push(data);
        if announced == Some(whole.size()) {
            break;
        }
        now = Instant::now();
    }
    lease.shrink_to(whole.size().max(1));
    Ok((whole.into_bytes(), lease))
}

/// A lease of the first or all bytes of a body.
///
/// # Errors
/// The answer: 429.
pub(super) async fn reserve(door: &HttpDoor, caller: &Caller, bytes: usize) -> Result<Lease, Reply> {
    let taken = caller.budget.take(bytes.max(1), door.limits.budget_patience).await;
    taken.map_err(|full| busy(&full))
}

/// Takes more bytes of the budget.
///
/// # Errors
/// The answer: 429.
pub(super) async fn grow(door: &HttpDoor, lease: &mut Lease, bytes: usize) -> Result<(), Reply> {
    lease.grow(bytes, door.limits.budget_patience).await.map_err(|full| busy(&full))
}

fn busy(full: &NoRoom) -> Reply {
    refuse(StatusCode::TOO_MANY_REQUESTS, format!("too many bytes are in flight ({full}); try again"))
}

/// Reads on what a refused client still sends, within bounds: a connection closed with bytes unread is reset, and its client sees that
/// instead of the answer. Not for who waits for "100 Continue": that one sends nothing.
pub(super) async fn discard(body: &mut Incoming) {
    let mut discarded = 0;
    let discard = async {
        while discarded < DISCARD_SIZE_MAX {
            match body.frame().await {
                Some(Ok(frame)) => discarded += frame.data_ref().map_or(0, Bytes::len),
                _ => return,
            }
        }
    };
    // Who goes on sending after that is cut.
    let _ = tokio::time::timeout(DISCARD_PATIENCE, discard).await;
}

/// A body of one frame is passed on as it came; only more of them are copied together.
struct Whole {
    first: Bytes,
    rest: BytesMut,
    /// Content-Length, which is believed only as far as memory is reserved anyway.
    announced: usize,
}

impl Whole {
    fn size(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    fn push(&mut self, data: Bytes) {
        if self.size() == 0 {
            self.first = data;
            return;
        }
        if !self.first.is_empty() {
            self.rest.reserve(self.announced.min(4 * RESERVE_STEP).max(self.first.len() + data.len()));
            self.rest.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.rest.extend_from_slice(&data);
    }

    fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() { self.first } else { self.rest.freeze() }
    }
}
