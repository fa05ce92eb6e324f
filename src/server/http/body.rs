//! Receiving a body: bytes are reserved as they arrive, so that slow and large requests never take more memory than the budget has.

use super::HttpDoor;
use super::connection::Caller;
use super::limits::Limits;
use super::reply::{Reply, refuse, refuse_for};
use super::sniff::{BODY_SIZE_MAX, BodyError};
use crate::budget::{Lease, NoRoom};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Bytes are reserved in steps of this size.
const RESERVE_STEP: usize = 64 << 10;
/// What is read of a refused body and thrown away, so that its sender reads the answer instead of a reset.
const DISCARD_SIZE_MAX: usize = 4 * BODY_SIZE_MAX;
const SCRAP_SIZE: usize = 4 << 10;
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
    let mut pace = Pace::new(limits);
    let mut whole = Whole { first: Bytes::new(), rest: BytesMut::new(), announced: announced.unwrap_or(0) };
    loop {
        let frame = match pace.wait(whole.size(), body.frame()).await? {
            None => break,
            Some(Err(error)) => return Err(broke_off(&error)),
            Some(Ok(frame)) => frame,
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
    }
    lease.shrink_to(whole.size().max(1));
    Ok((whole.into_bytes(), lease))
}

/// A body on a socket that the fast path reads: what came of it, and its whole size.
pub(super) struct Coming<'a> {
    pub(super) stream: &'a mut TcpStream,
    pub(super) came: Vec<u8>,
    pub(super) size: usize,
}

impl Coming<'_> {
    /// As [`receive`].
    ///
    /// # Errors
    /// As there.
    pub(super) async fn receive(&mut self, door: &HttpDoor, caller: &Caller) -> Result<(Bytes, Lease), Reply> {
        // Of who sent much at once more is believed.
        let first = self.size.min(RESERVE_STEP.max(8 * self.came.len()));
        let mut lease = reserve(door, caller, first).await?;
        let mut came = Vec::with_capacity(first);
        came.append(&mut self.came);
        self.came = came;
        let mut pace = Pace::new(&door.limits);
        while self.came.len() < self.size {
            let missing = lease.bytes().min(self.size) - self.came.len();
            if missing == 0 {
                let more = self.came.len().max(RESERVE_STEP).min(self.size - self.came.len());
                grow(door, &mut lease, more).await?;
                continue;
            }
            self.came.reserve_exact(missing);
            let mut rest = (&mut *self.stream).take(missing as u64);
            match pace.wait(self.came.len(), rest.read_buf(&mut self.came)).await? {
                Ok(1..) => {}
                Ok(0) => return Err(broke_off(&"the connection was closed")),
                Err(error) => return Err(broke_off(&error)),
            }
        }
        lease.shrink_to(self.size.max(1));
        Ok((std::mem::take(&mut self.came).into(), lease))
    }

    /// Reads to the end of the body, see [`discard`]; how many bytes of it did not come.
    pub(super) async fn discard(&mut self) -> usize {
        let mut left = self.size - self.came.len();
        if left == 0 {
            return 0;
        }
        // What came is no longer reserved.
        self.came = Vec::new();
        let discard = async {
            let mut scrap = vec![0; SCRAP_SIZE];
            while left > 0 {
                let read_max = left.min(scrap.len());
                match self.stream.read(&mut scrap[..read_max]).await {
                    Ok(read @ 1..) => left -= read,
                    _ => return,
                }
            }
        };
        let _ = tokio::time::timeout(DISCARD_PATIENCE, discard).await;
        left
    }
}

/// How fast a body has to come.
struct Pace<'a> {
    limits: &'a Limits,
    began: Instant,
    /// When its last bytes came.
    last: Instant,
}

impl Pace<'_> {
    fn new(limits: &Limits) -> Pace<'_> {
        let now = Instant::now();
        Pace { limits, began: now, last: now }
    }

    /// Waits for bytes behind the first `size`.
    ///
    /// # Errors
    /// The answer to who is too slow: 408.
    async fn wait<T>(&mut self, size: usize, bytes: impl Future<Output = T>) -> Result<T, Reply> {
        let Pace { limits, began, last } = self;
        // The latest moment at which the next bytes still keep the pace.
        let paced = Duration::from_millis(size as u64 * 1000 / limits.rate_min.max(1));
        let patience = (*began + paced.max(limits.rate_grace)).min(*last + limits.pause_max);
        let Ok(bytes) = tokio::time::timeout_at(patience, bytes).await else {
            let reason = format!("the body came too slowly; send at least {} bytes a second", limits.rate_min);
            return Err(refuse(StatusCode::REQUEST_TIMEOUT, reason));
        };
        *last = Instant::now();
        Ok(bytes)
    }
}

fn broke_off(reason: &dyn std::fmt::Display) -> Reply {
    refuse_for(StatusCode::BAD_REQUEST, "broke-off", format!("the body broke off: {reason}"))
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
    refuse_for(StatusCode::TOO_MANY_REQUESTS, "memory", format!("too many bytes are in flight ({full}); try again"))
}

/// Reads on what a refused client still sends, within bounds: a connection closed with bytes unread is reset, and its client sees that
/// instead of the answer. Not for who waits for "100 Continue": that one sends nothing. How much came.
pub(super) async fn discard(body: &mut Incoming) -> usize {
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
    discarded
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
