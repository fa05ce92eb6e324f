//! One member of a group, and what it waits for.

use super::records::StoredMember;
use super::{Error, Joined, Synced};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Where an answer goes. Whoever asked may be gone.
pub(super) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// A way to share out partitions that a member knows, with what it tells its leader for it.
pub type Protocol = (Arc<str>, Bytes);

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: Arc<str>,
    /// A static member (KIP-345) keeps its place over restarts under this name.
    pub(super) instance: Option<Arc<str>>,
    pub(super) client_id: Arc<str>,
    pub(super) client_host: Arc<str>,
    pub(super) session_ms: i64,
    pub(super) rebalance_ms: i64,
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// It is dropped unless it is heard of before, on the steady clock. Does not hold while it waits for an answer, unless it is new.
    pub(super) deadline: i64,
    /// It has not been in a generation yet.
    pub(super) is_new: bool,
    pub(super) joining: Option<Answer<Joined>>,
    pub(super) syncing: Option<Answer<Synced>>,
    /// It reads "skip the assignment" in an answer (KIP-814).
    pub(super) may_skip: bool,
}

impl Member {
    /// When it is dropped for silence; `None` while it is us who are silent.
    pub(super) fn expires(&self) -> Option<i64> {
        let is_waiting = self.joining.is_some() || self.syncing.is_some();
        (self.is_new || !is_waiting).then_some(self.deadline)
    }

    pub(super) fn knows(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| &**name == protocol)
    }

    /// What it tells the leader in this protocol.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| &**name == protocol).map(|(_, bytes)| bytes.clone()).unwrap_or_default()
    }

    pub(super) fn answer_join(&mut self, answer: Result<Joined, Error>) {
        if let Some(waiting) = self.joining.take() {
            let _ = waiting.send(answer);
        }
    }

    pub(super) fn answer_sync(&mut self, answer: Result<Synced, Error>) {
        if let Some(waiting) = self.syncing.take() {
            let _ = waiting.send(answer);
        }
    }

    /// As [`Member::answer_sync`], and from now on it is its turn to be heard of.
    pub(super) fn answer_sync_at(&mut self, now_steady_ms: i64, answer: Result<Synced, Error>) {
        if self.syncing.is_some() {
            self.deadline = now_steady_ms + self.session_ms;
        }
        self.answer_sync(answer);
    }

    /// Ends both waits with an error.
    pub(super) fn refuse(&mut self, error: &Error) {
        self.answer_join(Err(error.clone()));
        self.answer_sync(Err(error.clone()));
    }

    /// Bytes that it holds, roughly.
    pub(super) fn size(&self) -> usize {
        let texts = self.id.len() + self.client_id.len() + self.client_host.len() + self.assignment.len();
        let protocols: usize = self.protocols.iter().map(|(name, bytes)| name.len() + bytes.len() + 64).sum();
        size_of::<Member>() + texts + protocols
    }

    pub(super) fn stored(&self, protocol: &str, assignment: Bytes) -> StoredMember {
        StoredMember {
            id: self.id.to_string(),
            instance: self.instance.as_deref().map(str::to_owned),
            client_id: self.client_id.to_string(),
            client_host: self.client_host.to_string(),
            rebalance_ms: self.rebalance_ms as i32,
            session_ms: self.session_ms as i32,
            subscription: self.metadata(protocol),
            assignment,
        }
    }

    /// As it was written down, heard of at `now`.
    pub(super) fn restored(stored: StoredMember, protocol: &str, now_steady_ms: i64) -> Member {
        let session_ms = i64::from(stored.session_ms);
        Member {
            id: stored.id.into(),
            instance: stored.instance.map(Arc::from),
            client_id: stored.client_id.into(),
            client_host: stored.client_host.into(),
            session_ms,
            rebalance_ms: i64::from(stored.rebalance_ms),
            protocols: vec![(protocol.into(), stored.subscription)],
            assignment: stored.assignment,
            deadline: now_steady_ms + session_ms,
            is_new: false,
            joining: None,
            syncing: None,
            may_skip: false,
        }
    }
}

/// The topics of a consumer's subscription (`ConsumerProtocolSubscription`: `int16 version, array of string`); `None` if it is another thing.
pub(super) fn subscribed_topics(metadata: &[u8]) -> Option<Vec<&str>> {
    let (_, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut topics = Vec::new();
    for _ in 0..i32::from_be_bytes(*count) {
        let (size, behind) = rest.split_first_chunk::<2>()?;
        let (topic, behind) = behind.split_at_checked(usize::try_from(i16::from_be_bytes(*size)).ok()?)?;
        topics.push(std::str::from_utf8(topic).ok()?);
        rest = behind;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_out_of_a_subscription() {
        let subscription = b"\0\x03\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff rest";
        assert_eq!(subscribed_topics(subscription), Some(vec!["a", "bc"]));
        assert_eq!(subscribed_topics(b"\0\x00\0\0\0\0"), Some(vec![]));
        for bad in [&b""[..], b"\0\0\0", b"\0\0\0\0\0\x01", b"\0\0\0\0\0\x01\0\x09abc", b"\0\0\x7f\xff\xff\xff\0\x01a"]
        {
            assert_eq!(subscribed_topics(bad), None);
        }
    }
}
