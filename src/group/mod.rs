//! Consumer groups: who is in a group, who reads which partitions, and what was committed. Kafka's classic protocol; everything that a
//! restart must know stands in the topic `__consumer_offsets`, in Kafka's records, durable before it is answered.
//!
//! | file | what |
//! |---|---|
//! | `classic` | the members of one group as a state machine |
//! | `offsets` | what one group has committed |
//! | `records` | bytes of `__consumer_offsets` |
//! | `coordinator` | all groups, without a task or a file |
//! | `driver` | the task that runs it: requests, timers, the log |
//!
//! Knows no socket and no Kafka frame: doors ask through [`Groups`].

mod classic;
mod coordinator;
mod driver;
mod member;
mod offsets;
mod records;
#[cfg(test)]
mod tests;

pub use driver::start;
pub use member::Protocol;
pub use offsets::Committed;

use crate::record::CONSUMER_OFFSETS as OFFSETS_TOPIC;
use bytes::Bytes;
use coordinator::Request;
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, oneshot};

/// The longest words that a client may put beside an offset (Kafka's `offset.metadata.max.bytes`, which counts UTF-16 units).
pub const METADATA_CHARS_MAX: usize = 4_096;

/// The longest name of a group, member, instance or protocol.
pub const NAME_SIZE_MAX: usize = 4_096;

/// How groups are kept; the defaults are Kafka's.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long the first generation of a group waits for more members (`group.initial.rebalance.delay.ms`).
    pub first_wait_ms: i64,
    pub session_ms_min: i64,
    pub session_ms_max: i64,
    /// How long offsets of a group without members are kept (`offsets.retention.minutes`).
    pub retention_ms: i64,
    /// Bytes of all groups; past them no group, member or new committer is let in.
    pub size_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            first_wait_ms: 3_000,
            session_ms_min: 6_000,
            session_ms_max: 30 * 60 * 1000,
            retention_ms: 7 * 24 * 60 * 60 * 1000,
            size_max: 64 << 20,
        }
    }
}

/// Why a group says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the groups are being read from the log; try again")]
    Loading,
    /// Nothing was taken, or it is not known whether it was; try again.
    #[error("the groups cannot be written: {0}")]
    NotAvailable(String),
    #[error("a group has a name of at most {NAME_SIZE_MAX} bytes")]
    InvalidGroupId,
    #[error("names of members, instances and protocols have at most {NAME_SIZE_MAX} bytes")]
    NameTooLong,
    #[error("session timeouts lie between the limits of this node")]
    InvalidSessionTimeout,
    #[error("the group has no such member")]
    UnknownMember,
    #[error("that generation of the group is over")]
    IllegalGeneration,
    #[error("the group shares out its partitions anew")]
    RebalanceInProgress,
    #[error("the members of the group have no protocol in common with this one")]
    InconsistentProtocol,
    /// The id to join with.
    #[error("join again with the id {0}")]
    MemberIdRequired(Arc<str>),
    #[error("another member took the place of this instance")]
    FencedInstance,
    #[error("a group has at most {0} members")]
    GroupFull(usize),
    #[error("the group takes {0} bytes to write down, which is too much")]
    GroupTooLarge(usize),
    #[error("there is no room for more groups")]
    Full,
    #[error("there is no such group")]
    NotFound,
    #[error("the group has members")]
    NonEmpty,
    #[error("members of the group read this topic")]
    SubscribedToTopic,
}

/// What a group is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Empty,
    Preparing,
    Completing,
    Stable,
}

impl State {
    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Preparing => "PreparingRebalance",
            State::Completing => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// Who wants to be in.
#[derive(Clone, Debug)]
pub struct Join {
    /// Empty the first time.
    pub member: Arc<str>,
    pub instance: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub session_ms: i64,
    pub rebalance_ms: i64,
    pub protocol_type: Arc<str>,
    /// The best first.
    pub protocols: Vec<Protocol>,
    /// It can be told its id and join again with it (KIP-394).
    pub must_know_id: bool,
    /// It reads "skip the assignment" (KIP-814).
    pub may_skip: bool,
}

impl Join {
    fn has_long_name(&self) -> bool {
        let names = [&self.member, &self.protocol_type, &self.client_host].into_iter().chain(&self.instance);
        names.chain(self.protocols.iter().map(|(name, _)| name)).any(|name| name.len() > NAME_SIZE_MAX)
    }
}

/// A member's place in a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub leader: Arc<str>,
    pub member: Arc<str>,
    /// All of them, for the leader.
    pub members: Vec<JoinedMember>,
    pub skip_assignment: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub id: Arc<str>,
    pub instance: Option<Arc<str>>,
    pub metadata: Bytes,
}

/// Who asks for its part, and the leader's word on everybody's.
#[derive(Clone, Debug)]
pub struct Sync {
    pub generation: i32,
    pub member: Arc<str>,
    pub instance: Option<Arc<str>>,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub assignment: Bytes,
}

/// Who leaves: by its id, or an instance by its name alone.
#[derive(Clone, Debug)]
pub struct Leaving {
    pub member: Arc<str>,
    pub instance: Option<Arc<str>>,
}

/// Offsets to be kept. A negative generation: of who is in no group.
#[derive(Clone, Debug)]
pub struct Commit {
    pub generation: i32,
    pub member: Arc<str>,
    pub instance: Option<Arc<str>>,
    pub offsets: Vec<CommittedOffset>,
}

#[derive(Clone, Debug)]
pub struct CommittedOffset {
    pub topic: Arc<str>,
    pub partition: i32,
    /// Its time is set when it is taken.
    pub committed: Committed,
}

/// What a group has for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub topic: Arc<str>,
    pub partition: i32,
    pub committed: Option<Committed>,
}

/// One line of a list of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub group: Arc<str>,
    pub protocol_type: Arc<str>,
    pub state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub state: State,
    pub protocol_type: Arc<str>,
    /// Empty unless it is stable.
    pub protocol: Arc<str>,
    pub members: Vec<DescribedMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    pub id: Arc<str>,
    pub instance: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// The way to the groups. Clones share it.
#[derive(Clone)]
pub struct Groups {
    requests: mpsc::Sender<Request>,
    /// Why they are not served, if they cannot be read.
    trouble: Arc<OnceLock<String>>,
}

impl Groups {
    /// Why groups are not served until the daemon is started anew; `None` if they are, or are still being read.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.get().map(String::as_str)
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Request) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let gone = || Error::NotAvailable("the daemon stops".to_owned());
        self.requests.send(request(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Joins a group; returns when its next generation begins. Dropping the future leaves the member in.
    ///
    /// # Errors
    /// [`Error`]; [`Error::MemberIdRequired`] brings the id to join with.
    pub async fn join(&self, group: Arc<str>, join: Join) -> Result<Joined, Error> {
        self.ask(|answer| Request::Join { group, join, answer }).await
    }

    /// Asks for the member's part; returns when the leader's assignment is durable.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn sync(&self, group: Arc<str>, sync: Sync) -> Result<Synced, Error> {
        self.ask(|answer| Request::Sync { group, sync, answer }).await
    }

    /// Says that a member lives.
    ///
    /// # Errors
    /// [`Error::RebalanceInProgress`]: join again. Others: the member is out.
    pub async fn heartbeat(
        &self,
        group: Arc<str>,
        member: Arc<str>,
        instance: Option<Arc<str>>,
        generation: i32,
    ) -> Result<(), Error> {
        self.ask(|answer| Request::Heartbeat { group, member, instance, generation, answer }).await
    }

    /// Takes members out; one result each.
    ///
    /// # Errors
    /// [`Error::Loading`], [`Error::NotAvailable`].
    pub async fn leave(&self, group: Arc<str>, leaving: Vec<Leaving>) -> Result<Vec<Result<(), Error>>, Error> {
        self.ask(|answer| Request::Leave { group, leaving, answer }).await
    }

    /// Keeps offsets: all of them, durable when it returns, or none that anybody sees.
    ///
    /// # Errors
    /// [`Error`]; after [`Error::NotAvailable`] they may be there after a restart.
    pub async fn commit(&self, group: Arc<str>, commit: Commit) -> Result<(), Error> {
        self.ask(|answer| Request::Commit { group, commit, answer }).await
    }

    /// What a group has committed, in the order asked; `None` asks for all. A group that is not there has committed nothing.
    ///
    /// # Errors
    /// [`Error::Loading`], [`Error::NotAvailable`].
    pub async fn fetch(
        &self,
        group: Arc<str>,
        wanted: Option<Vec<(Arc<str>, Vec<i32>)>>,
    ) -> Result<Vec<Fetched>, Error> {
        self.ask(|answer| Request::Fetch { group, wanted, answer }).await
    }

    /// # Errors
    /// [`Error::NotFound`], [`Error::Loading`], [`Error::NotAvailable`].
    pub async fn describe(&self, group: Arc<str>) -> Result<Description, Error> {
        self.ask(|answer| Request::Describe { group, answer }).await
    }

    /// All groups, by name.
    ///
    /// # Errors
    /// [`Error::Loading`], [`Error::NotAvailable`].
    pub async fn list(&self) -> Result<Vec<Listed>, Error> {
        self.ask(|answer| Request::List { answer }).await
    }

    /// Deletes a group without members; durable when it returns.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NonEmpty`], [`Error::Loading`], [`Error::NotAvailable`].
    pub async fn delete(&self, group: Arc<str>) -> Result<(), Error> {
        self.ask(|answer| Request::Delete { group, answer }).await
    }

    /// Deletes offsets of topics that no member reads; one result each, durable when it returns.
    ///
    /// # Errors
    /// As [`Groups::delete`]; [`Error::NonEmpty`] if nobody knows what its members read.
    pub async fn forget(
        &self,
        group: Arc<str>,
        offsets: Vec<(Arc<str>, i32)>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        self.ask(|answer| Request::Forget { group, offsets, answer }).await
    }
}
