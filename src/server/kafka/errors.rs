//! Kafka's error codes, by Kafka's names.

use crate::store::{AppendError, ReadError, TopicError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(super) enum Code {
    None = 0,
    OffsetOutOfRange = 1,
    CorruptMessage = 2,
    UnknownTopicOrPartition = 3,
    RequestTimedOut = 7,
    MessageTooLarge = 10,
    CoordinatorNotAvailable = 15,
    InvalidTopic = 17,
    NotEnoughReplicas = 19,
    InvalidRequiredAcks = 21,
    InvalidTimestamp = 32,
    UnsupportedVersion = 35,
    TopicAlreadyExists = 36,
    InvalidPartitions = 37,
    InvalidReplicationFactor = 38,
    InvalidReplicaAssignment = 39,
    InvalidConfig = 40,
    InvalidRequest = 42,
    OutOfOrderSequence = 45,
    InvalidProducerEpoch = 47,
    TransactionalIdAuthorizationFailed = 53,
    KafkaStorageError = 56,
    FetchSessionIdNotFound = 70,
    FencedLeaderEpoch = 74,
    UnknownLeaderEpoch = 75,
    UnsupportedCompressionType = 76,
    InvalidRecord = 87,
    UnknownTopicId = 100,
    MismatchedEndpointType = 114,
    UnsupportedEndpointType = 115,
}

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
            TopicError::Invalid(_) => Code::InvalidPartitions,
            TopicError::Config(_) => Code::InvalidConfig,
            TopicError::Io(_) => Code::KafkaStorageError,
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
