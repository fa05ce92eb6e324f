//! What a client may send and read in a second: the quotas of addresses, which the Kafka door counts too. Here clients have neither a user nor
//! an id: a quota of either would make all of them one.
//!
//! Who is past one gets its answer and is then not listened to for a while (KIP-219): that is no error, and costs nobody anything. It holds
//! whoever keeps a connection. Whoever comes on a new one while more is owed is told when to come again, and not listened to until then. Who
//! comes through a proxy is told so each time: others share its connections, which are listened to.

use super::HttpDoor;
use super::connection::{Caller, Phase, ended, stopped};
use super::headers::Headers;
use super::reply::{Reply, refuse_for};
use crate::access::{Caller as Held, Verdict};
use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue, RETRY_AFTER};
use std::net::IpAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;

impl HttpDoor {
    /// Before a request for events is read.
    ///
    /// # Errors
    /// The answer: 429, if its client must not be listened to now.
    pub(super) fn check_sender(&self, caller: &Caller, headers: &Headers<'_>) -> Result<(), Reply> {
        if !self.quotas.limits_received() || !(caller.is_new() || caller.is_proxy) {
            return Ok(());
        }
        let wait = self.quotas.owed(&held(self.address(caller, headers)));
        if wait.is_zero() { Ok(()) } else { Err(self.later(caller, wait)) }
    }

    /// Counts what was read of a body: as soon as it is there, or who leaves before the answer would send for nothing.
    pub(super) fn count_received(&self, caller: &Caller, headers: &Headers<'_>, size: usize) {
        if self.quotas.limits_received() {
            self.mute(caller, self.quotas.received(&held(self.address(caller, headers)), size));
        }
    }

    /// Counts what a refused client sent. Who is to come again would owe ever more.
    pub(super) fn count_refused(&self, caller: &Caller, headers: &Headers<'_>, size: usize, reply: &Reply) {
        if reply.status() != StatusCode::TOO_MANY_REQUESTS {
            self.count_received(caller, headers, size);
        }
    }

    /// Before records are read: the largest answer.
    ///
    /// # Errors
    /// The answer: 429, if hardly anything could be sent now.
    pub(super) fn check_reader_quota(&self, caller: &Caller, address: IpAddr) -> Result<usize, Reply> {
        match self.quotas.withheld(&held(address)) {
            Some(wait) => Err(self.later(caller, wait)),
            None => Ok(self.quotas.sent_size_max(&held(address))),
        }
    }

    /// Counts an answer with records that is about to be sent.
    ///
    /// # Errors
    /// The answer to give in its place: 429, if it may not be sent now.
    pub(super) fn count_sent(&self, caller: &Caller, address: IpAddr, size: usize) -> Result<(), Reply> {
        match self.quotas.sent(&held(address), size) {
            Verdict::Send(wait) => {
                self.mute(caller, wait);
                Ok(())
            }
            Verdict::Withhold(wait) => Err(self.later(caller, wait)),
        }
    }

    /// Counts a piece of a live tail once it may be sent: `None`, or how long to wait before it is asked for again.
    pub(super) fn try_send_piece(&self, address: IpAddr, size: usize) -> Option<Duration> {
        match self.quotas.sent(&held(address), size) {
            Verdict::Send(_) => None,
            Verdict::Withhold(wait) => Some(wait),
        }
    }

    /// Whose quotas hold for a request: a proxy's own, where it does not say for whom it speaks.
    pub(super) fn address(&self, caller: &Caller, headers: &Headers<'_>) -> IpAddr {
        self.client(caller, headers).unwrap_or(caller.address)
    }

    /// Others share a proxy's connection: it is listened to.
    fn mute(&self, caller: &Caller, wait: Duration) {
        if !wait.is_zero() && !caller.is_proxy {
            caller.mute(wait);
        }
    }

    fn later(&self, caller: &Caller, wait: Duration) -> Reply {
        self.mute(caller, wait);
        let seconds = wait.as_millis().div_ceil(1_000).max(1);
        let reason = format!("a quota of bytes a second is used up; come again in {seconds} s");
        let mut reply = refuse_for(StatusCode::TOO_MANY_REQUESTS, "quota", reason);
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds as u64));
        // On a new one it would not have to wait.
        reply.headers_mut().remove(CONNECTION);
        reply
    }

    /// After an answer: returns when its client is listened to again, and whether more may come of it: it sends no more, or the door closes.
    pub(super) async fn muted(&self, caller: &Caller, stream: &TcpStream, stop: &watch::Receiver<bool>) -> bool {
        // It has no request under way, but nothing of it is late either.
        caller.set(Phase::Busy);
        let wait = caller.take_muted();
        let (mut changes, mut stop) = (self.quotas.changes(), stop.clone());
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            // What it was judged by may hold no longer.
            Ok(()) = changes.changed() => true,
            () = stopped(&mut stop) => false,
            () = ended(stream) => false,
        }
    }
}

fn held(address: IpAddr) -> Held<'static> {
    Held { client: None, address }
}
