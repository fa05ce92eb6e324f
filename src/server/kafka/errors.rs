//! Kafka's error codes, by Kafka's names.

use crate::group;
use crate::store::{AppendError, ReadError, TopicError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(super) enum Code {
    UnknownServerError = -1,
    None = 0,
    OffsetOutOfRange = 1,
    CorruptMessage = 2,
    UnknownTopicOrPartition = 3,
    RequestTimedOut = 7,
    MessageTooLarge = 10,
    OffsetMetadataTooLarge = 12,
    CoordinatorLoadInProgress = 14,
    CoordinatorNotAvailable = 15,
    InvalidTopic = 17,
    InvalidRequiredAcks = 21,
    IllegalGeneration = 22,
    InconsistentGroupProtocol = 23,
    InvalidGroupId = 24,
    UnknownMemberId = 25,
    InvalidSessionTimeout = 26,
    RebalanceInProgress = 27,
    GroupAuthorizationFailed = 30,
    InvalidTimestamp = 32,
    UnsupportedVersion = 35,
    TopicAlreadyExists = 36,
    InvalidPartitions = 37,
    InvalidReplicationFactor = 38,
    InvalidReplicaAssignment = 39,
    InvalidConfig = 40,
    InvalidRequest = 42,
    PolicyViolation = 44,
    OutOfOrderSequence = 45,
    InvalidProducerEpoch = 47,
    TransactionalIdAuthorizationFailed = 53,
    KafkaStorageError = 56,
    NonEmptyGroup = 68,
    GroupIdNotFound = 69,
    FetchSessionIdNotFound = 70,
    FencedLeaderEpoch = 74,
    UnknownLeaderEpoch = 75,
    UnsupportedCompressionType = 76,
    MemberIdRequired = 79,
    GroupMaxSizeReached = 81,
    FencedInstanceId = 82,
    ElectionNotNeeded = 84,
    NoReassignmentInProgress = 85,
    GroupSubscribedToTopic = 86,
    InvalidRecord = 87,
    UnknownTopicId = 100,
    MismatchedEndpointType = 114,
    UnsupportedEndpointType = 115,
}

/// Why something that a request names is not done.
pub(super) type Refusal = (Code, String);

impl From<Code> for i16 {
    fn from(code: Code) -> i16 {
        code as i16
    }
}

impl From<&AppendError> for Code {
    fn from(error: &AppendError) -> Code {
        match error {
            AppendError::NoPartition { .. } => Code::UnknownTopicOrPartition,
            AppendError::TooLarge { .. } => Code::MessageTooLarge,
            AppendError::Invalid(_) => Code::InvalidRecord,
            AppendError::OutOfOrderSequence { .. } => Code::OutOfOrderSequence,
            AppendError::InvalidProducerEpoch { .. } => Code::InvalidProducerEpoch,
            AppendError::FencedLeaderEpoch { .. } => Code::FencedLeaderEpoch,
            AppendError::QueueFull => Code::RequestTimedOut,
            AppendError::LowDisk(_) | AppendError::Refused(_) | AppendError::Unknown(_) | AppendError::Closing => {
                Code::KafkaStorageError
            }
        }
    }
}

impl From<&ReadError> for Code {
    fn from(error: &ReadError) -> Code {
        match error {
            ReadError::OutOfRange { .. } => Code::OffsetOutOfRange,
            ReadError::Deleted => Code::UnknownTopicOrPartition,
            ReadError::Corrupt { .. } | ReadError::Io(_) => Code::KafkaStorageError,
        }
    }
}

impl From<&TopicError> for Code {
    fn from(error: &TopicError) -> Code {
        match error {
            TopicError::Exists(_) => Code::TopicAlreadyExists,
            TopicError::Missing(_) => Code::UnknownTopicOrPartition,
            TopicError::Internal(_) => Code::InvalidTopic,
            TopicError::Invalid(_) => Code::InvalidPartitions,
            TopicError::Config(_) => Code::InvalidConfig,
            TopicError::Io(_) => Code::KafkaStorageError,
        }
    }
}

impl From<&group::Error> for Code {
    fn from(error: &group::Error) -> Code {
        match error {
            group::Error::Loading => Code::CoordinatorLoadInProgress,
            // The node has no room for more groups; there may be some when others have left.
            group::Error::NotAvailable(_) | group::Error::Full => Code::CoordinatorNotAvailable,
            group::Error::NameTooLong => Code::InvalidRequest,
            group::Error::InvalidGroupId => Code::InvalidGroupId,
            group::Error::InvalidSessionTimeout => Code::InvalidSessionTimeout,
            group::Error::UnknownMember => Code::UnknownMemberId,
            group::Error::IllegalGeneration => Code::IllegalGeneration,
            group::Error::RebalanceInProgress => Code::RebalanceInProgress,
            group::Error::InconsistentProtocol => Code::InconsistentGroupProtocol,
            group::Error::MemberIdRequired(_) => Code::MemberIdRequired,
            group::Error::FencedInstance => Code::FencedInstanceId,
            group::Error::GroupFull(_) => Code::GroupMaxSizeReached,
            // As a broker answers whose offsets topic does not take a record of that size.
            group::Error::GroupTooLarge(_) => Code::UnknownServerError,
            group::Error::NotFound => Code::GroupIdNotFound,
            group::Error::NonEmpty => Code::NonEmptyGroup,
            group::Error::SubscribedToTopic => Code::GroupSubscribedToTopic,
        }
    }
}

/// Whether a request's leader epoch (−1: any) is the partition's.
pub(super) fn judge_epoch(asked: i32, current: i32) -> Result<(), Code> {
    match asked {
        -1 => Ok(()),
        asked if asked < current => Err(Code::FencedLeaderEpoch),
        asked if asked > current => Err(Code::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}
