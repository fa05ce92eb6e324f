//! Receiving a body: bytes are reserved as they arrive, so that slow and large requests never take more memory than the budget has.

use super::HttpDoor;
use super::reply::{Reply, refuse};
use super::sniff::{BODY_SIZE_MAX, BodyError};
use crate::budget::Lease;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use std::time::Duration;

/// Bytes are reserved in steps of this size.
const RESERVE_STEP: usize = 64 << 10;
/// How long a request waits for bytes of the budget before it is sent away.
const BUDGET_PATIENCE: Duration = Duration::from_millis(500);
/// A body may pause this long; what comes slower than [`RATE_MIN`] after [`RATE_GRACE`] is cut off.
const PAUSE_MAX: Duration = Duration::from_secs(10);
const RATE_GRACE: Duration = Duration::from_secs(10);
/// Bytes a second.
const RATE_MIN: u64 = 1024;

/// The whole body with the lease of its bytes.
///
/// # Errors
/// The answer to give: 408, 413, 429 or 400. Nothing was taken.
pub(super) async fn receive(door: &HttpDoor, body: Incoming) -> Result<(Bytes, Lease), Reply> {
    let announced = body.size_hint().exact();
    if announced.is_some_and(|size| size > BODY_SIZE_MAX as u64) {
        return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, BodyError::TooLarge.to_string()));
    }
    let first = announced.map_or(RESERVE_STEP, |size| (size as usize).min(RESERVE_STEP));
    let mut lease = reserve(door, first.max(1)).await?;
    let began = tokio::time::Instant::now();
    let mut body = body;
    let mut whole = Whole::default();
    loop {
        let frame = tokio::time::timeout(PAUSE_MAX, body.frame()).await;
        let is_slow = began.elapsed() > RATE_GRACE && (whole.size() as u64) < RATE_MIN * began.elapsed().as_secs();
        let frame = match frame {
            Err(_) => return Err(slow()),
            Ok(_) if is_slow => return Err(slow()),
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
            lease.merge(reserve(door, RESERVE_STEP).await?);
        }
        whole.push(data);
    }
    Ok((whole.into_bytes(), lease))
}

/// Takes more bytes of the budget for what a body unpacked to.
pub(super) async fn reserve(door: &HttpDoor, bytes: usize) -> Result<Lease, Reply> {
    let taken = door.budget.take(bytes, BUDGET_PATIENCE).await;
    taken.map_err(|full| {
        refuse(StatusCode::TOO_MANY_REQUESTS, format!("too many bytes are in flight ({full}); try again"))
    })
}

fn slow() -> Reply {
    refuse(StatusCode::REQUEST_TIMEOUT, "the body came too slowly; send at least 1 KiB a second")
}

/// A body of one frame is passed on as it came; only more of them are copied together.
#[derive(Default)]
struct Whole {
    first: Bytes,
    rest: BytesMut,
}

impl Whole {
    fn size(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    fn push(&mut self, data: Bytes) {
        if self.size() == 0 {
            self.first = data;
        } else {
            if !self.first.is_empty() {
                self.rest.extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.rest.extend_from_slice(&data);
        }
    }

    fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() { self.first } else { self.rest.freeze() }
    }
}
