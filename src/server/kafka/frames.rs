//! Frames of a connection: four bytes of length, then a request. Bytes are reserved as they arrive, not as they are announced, and what is
//! announced is judged by the API that asks before anything is kept for it.

use super::{Patience, Service, stopped, versions};
use crate::budget::{Lease, NoRoom};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// The largest Produce request: the largest batch a topic may allow, and its frame.
const PRODUCE_SIZE_MAX: usize = 104 << 20;
/// The largest Fetch request: a hundred thousand partitions.
const FETCH_SIZE_MAX: usize = 8 << 20;
/// The largest SyncGroup request: the parts of all members of a group.
const SYNC_SIZE_MAX: usize = 16 << 20;
/// The largest JoinGroup request: what one member tells.
const JOIN_SIZE_MAX: usize = 4 << 20;
/// The largest of all others.
const OTHER_SIZE_MAX: usize = 1 << 20;
/// The smallest request: API key, version, correlation id.
const REQUEST_SIZE_MIN: usize = 8;
/// Length and these: enough to judge a request by.
const HEAD_SIZE: usize = 4 + REQUEST_SIZE_MIN;
/// What is read before it is known how much will come; not counted in the budget.
const READ_AHEAD: usize = 4 << 10;
/// Bytes are reserved in steps of this size.
const STEP: usize = 64 << 10;
/// Address space that is set aside for a frame at once; memory comes with the bytes.
const CAPACITY_MAX: usize = 1 << 20;
/// How long a frame waits for bytes of the budget.
const BUDGET_PATIENCE: Duration = Duration::from_secs(10);
/// What must come within the door's patience, or the rest of the request: 1 KiB a second.
const WINDOW_SIZE_MIN: usize = 10 << 10;

/// Why the door closes a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("a frame of {0} bytes is none{1}")]
    NoFrame(i32, &'static str),
    #[error("a {api:?} request of {size} bytes exceeds the limit of {limit}")]
    TooLarge { api: ApiKey, size: usize, limit: usize },
    #[error("API {0} is not served here")]
    Api(i16),
    #[error("{0:?} version {1} is not served")]
    Version(ApiKey, i16),
    #[error("the {api:?} request, version {version}, cannot be read: {reason}")]
    Malformed { api: ApiKey, version: i16, reason: String },
    #[error("it was idle for too long")]
    Idle,
    #[error("the client is too slow in {0}")]
    Slow(&'static str),
    #[error("no memory for its request: {0}")]
    NoRoom(#[from] NoRoom),
    /// There is no other way to tell: the client then asks for metadata and goes on.
    #[error("a produce that wanted no answer failed")]
    Unanswered,
}

impl Closed {
    /// For the metric's label.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Closed::Broken(_) => "broken",
            Closed::NoFrame(..) | Closed::Malformed { .. } => "malformed",
            Closed::TooLarge { .. } => "too-large",
            Closed::Api(_) | Closed::Version(..) => "not-served",
            Closed::Idle => "idle",
            Closed::Slow(_) => "slow",
            Closed::NoRoom(_) => "no-room",
            Closed::Unanswered => "unanswered",
        }
    }
}

/// One request as it came.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) api: ApiKey,
    pub(super) version: i16,
    /// False only for ApiVersions, which is answered in any version.
    pub(super) is_served: bool,
    pub(super) correlation: i32,
    /// Header and body.
    pub(super) bytes: Bytes,
    pub(super) lease: Lease,
}

impl Frame {
    /// The client id of its header, which every version has at the same place; empty if there is none, as for Kafka.
    pub(super) fn client_id(&self) -> &str {
        let size = self.bytes.get(8..10).map_or(-1, |size| i16::from_be_bytes([size[0], size[1]]));
        let text = usize::try_from(size).ok().and_then(|size| self.bytes.get(10..10 + size));
        text.and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }

    pub(super) fn malformed(&self, error: impl std::fmt::Display) -> Closed {
        Closed::Malformed { api: self.api, version: self.version, reason: error.to_string() }
    }
}

/// The reading side of a connection.
pub(super) struct Frames<S> {
    stream: S,
    buffer: BytesMut,
}

impl<S: AsyncRead + Unpin> Frames<S> {
    pub(super) fn new(stream: S) -> Frames<S> {
        Frames { stream, buffer: BytesMut::new() }
    }

    /// The next request; `None` when the client has left between two, or the door closes.
    pub(super) async fn next(
        &mut self,
        service: &Service,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Option<Frame>, Closed> {
        let Some((size, api, version, is_served)) = self.head(service.door.patience, stop).await? else {
            return Ok(None);
        };
        let whole = 4 + size;
        let began = Instant::now();
        let budget = &service.door.budget;
        if size > budget.limit() {
            // Waiting for its bytes would take the budget from others and end here all the same.
            budget.take(size, Duration::ZERO).await?;
        }
        let mut lease = budget.take(size.min(STEP), BUDGET_PATIENCE).await?;
        self.buffer.reserve((whole.saturating_sub(self.buffer.len())).min(CAPACITY_MAX));
        let mut window = (began, self.buffer.len());
        while self.buffer.len() < whole {
            let missing = whole - self.buffer.len();
            if 4 + lease.bytes() <= self.buffer.len() {
                lease.grow(missing.min(STEP), BUDGET_PATIENCE).await?;
            }
            let room = missing.min(4 + lease.bytes() - self.buffer.len());
            if self.buffer.len() - window.1 >= WINDOW_SIZE_MIN {
                window = (Instant::now(), self.buffer.len());
            }
            let read = timeout_at(window.0 + service.door.patience.request, self.fill(room)).await;
            if read.map_err(|_| Closed::Slow("sending its request"))?? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        let mut frame = self.buffer.split_to(whole);
        if self.buffer.is_empty() {
            // Or an idle connection would keep the memory of its last request.
            self.buffer = BytesMut::new();
        }
        let bytes = frame.split_off(4).freeze();
        let correlation = i32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        Ok(Some(Frame { api, version, is_served, correlation, bytes, lease }))
    }

    /// Completes when the client has hung up; keeps a little of what it sends meanwhile. May be dropped at any time.
    pub(super) async fn hang_up(&mut self) {
        while self.buffer.len() < READ_AHEAD {
            if !matches!(self.fill(READ_AHEAD).await, Ok(1..)) {
                return;
            }
        }
        std::future::pending().await
    }

    /// Completes when the client has hung up and has left no request behind; keeps a little of what it sends meanwhile. May be dropped at
    /// any time.
    pub(super) async fn left(&mut self) {
        while self.buffer.len() < READ_AHEAD {
            match self.fill(READ_AHEAD).await {
                Ok(1..) => {}
                Ok(0) if !self.buffer.is_empty() => break,
                Ok(0) | Err(_) => return,
            }
        }
        std::future::pending().await
    }

    /// Size, API and version of the next request, and whether that is served.
    async fn head(
        &mut self,
        patience: Patience,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Option<(usize, ApiKey, i16, bool)>, Closed> {
        let mut began = None;
        while self.buffer.len() < HEAD_SIZE {
            // A length that no request has is told at once: nothing need follow it.
            if let Some(size) = self.buffer.first_chunk() {
                length(*size)?;
            }
            let read = if self.buffer.is_empty() {
                tokio::select! {
                    read = timeout(patience.idle, self.fill(READ_AHEAD)) => read.map_err(|_| Closed::Idle)?,
                    () = stopped(stop) => return Ok(None),
                }
            } else {
                let deadline = *began.get_or_insert_with(Instant::now) + patience.request;
                let read = timeout_at(deadline, self.fill(READ_AHEAD)).await;
                read.map_err(|_| Closed::Slow("sending its request"))?
            };
            match read? {
                // The end between two requests is how clients leave.
                0 if self.buffer.is_empty() => return Ok(None),
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                _ => {}
            }
        }
        judge(&self.buffer).map(Some)
    }

    async fn fill(&mut self, limit: usize) -> io::Result<usize> {
        self.buffer.reserve(limit);
        (&mut self.stream).take(limit as u64).read_buf(&mut self.buffer).await
    }
}

/// A frame's size by the four bytes in front of it.
fn length(bytes: [u8; 4]) -> Result<usize, Closed> {
    let size = i32::from_be_bytes(bytes);
    match usize::try_from(size) {
        Ok(size @ REQUEST_SIZE_MIN..=PRODUCE_SIZE_MAX) => Ok(size),
        _ => Err(Closed::NoFrame(size, other_protocol(bytes))),
    }
}

/// Judges a frame by its first [`HEAD_SIZE`] bytes.
fn judge(head: &[u8]) -> Result<(usize, ApiKey, i16, bool), Closed> {
    let size = length([head[0], head[1], head[2], head[3]])?;
    let (key, version) = (i16::from_be_bytes([head[4], head[5]]), i16::from_be_bytes([head[6], head[7]]));
    let (api, is_served) = versions::find(key, version).ok_or(Closed::Api(key))?;
    if !is_served && api != ApiKey::ApiVersions {
        return Err(Closed::Version(api, version));
    }
    let limit = match api {
        ApiKey::Produce => PRODUCE_SIZE_MAX,
        ApiKey::Fetch => FETCH_SIZE_MAX,
        ApiKey::SyncGroup => SYNC_SIZE_MAX,
        ApiKey::JoinGroup => JOIN_SIZE_MAX,
        _ => OTHER_SIZE_MAX,
    };
    if size > limit {
        return Err(Closed::TooLarge { api, size, limit });
    }
    Ok((size, api, version, is_served))
}

/// What somebody who came to the wrong door speaks.
fn other_protocol(first: [u8; 4]) -> &'static str {
    match &first {
        b"GET " | b"POST" | b"PUT " | b"HEAD" | b"OPTI" => ": this is HTTP, whose door is another port",
        [0x16, 0x03, ..] => ": this is TLS, which is not spoken here",
        _ => ": is this a Kafka client?",
    }
}
