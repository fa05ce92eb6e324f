//! ListOffsets and OffsetForLeaderEpoch.

use super::errors::{Code, judge_epoch};
use super::{Service, find_by_name};
use crate::record::{Offset, PartitionId};
use crate::store::Partition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, TopicName,
};
use std::collections::HashMap;

/// Times that stand for places, with the version that brought them.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// The first record that has the greatest timestamp; 7.
const MAX_TIMESTAMP: i64 = -3;
/// Nothing is tiered: what is local begins at the start; 8.
const EARLIEST_LOCAL: i64 = -4;
/// Nothing is tiered: there is no such offset; 9.
const LATEST_TIERED: i64 = -5;
/// Nothing is tiered: nothing waits for its upload; 11, which is not served.
const EARLIEST_PENDING_UPLOAD: i64 = -6;

pub(super) async fn list(service: &Service, request: ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    // A time costs a look into the log: a partition that is named twice is refused once, as Kafka does.
    let mut named: HashMap<(TopicName, i32), usize> = HashMap::new();
    for asked in &request.topics {
        for one in &asked.partitions {
            *named.entry((asked.name.clone(), one.partition_index)).or_default() += 1;
        }
    }
    for asked in request.topics {
        let topic = find_by_name(service, &asked.name);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for one in asked.partitions {
            let Some(times) = named.remove(&(asked.name.clone(), one.partition_index)) else { continue };
            let found = match topic.clone().and_then(|topic| {
                if times > 1 {
                    return Err(Code::InvalidRequest);
                }
                let partition =
                    topic.partition(PartitionId(one.partition_index)).ok_or(Code::UnknownTopicOrPartition)?;
                judge_epoch(one.current_leader_epoch, partition.leader_epoch()).map(|()| partition)
            }) {
                Ok(partition) => place(&partition, one.timestamp, version).await,
                Err(code) => Err(code),
            };
            let out = ListOffsetsPartitionResponse::default().with_partition_index(one.partition_index);
            partitions.push(match found {
                Ok((offset, timestamp, epoch)) => out
                    .with_offset(offset)
                    .with_timestamp(timestamp)
                    .with_leader_epoch(if version >= 4 { epoch } else { -1 }),
                Err(code) => out.with_error_code(code.into()).with_offset(-1).with_timestamp(-1).with_leader_epoch(-1),
            });
        }
        topics.push(ListOffsetsTopicResponse::default().with_name(asked.name).with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(topics)
}

/// Offset, timestamp and leader epoch of what a time asks for; −1 for what is not there.
async fn place(partition: &Partition, timestamp: i64, version: i16) -> Result<(i64, i64, i32), Code> {
    let nothing = (-1, -1, -1);
    let failed = |error: crate::store::ReadError| Code::from(&error);
    Ok(match timestamp {
        LATEST => (partition.tail().0, -1, partition.leader_epoch()),
        EARLIEST_LOCAL if version < 8 => return Err(Code::UnsupportedVersion),
        EARLIEST | EARLIEST_LOCAL => {
            let start = partition.start();
            // Of an empty partition that of the next record, as Kafka has it.
            let epoch = if start < partition.tail() { partition.epoch_at(start) } else { partition.leader_epoch() };
            (start.0, -1, epoch)
        }
        MAX_TIMESTAMP if version >= 7 => match partition.max_timestamp().await.map_err(failed)? {
            Some(found) => (found.offset.0, found.timestamp, found.leader_epoch),
            None => nothing,
        },
        LATEST_TIERED if version >= 9 => nothing,
        EARLIEST_PENDING_UPLOAD if version >= 11 => nothing,
        negative if negative < 0 => return Err(Code::UnsupportedVersion),
        time => match partition.offset_for_time(time).await.map_err(failed)? {
            Some(found) => (found.offset.0, found.timestamp, found.leader_epoch),
            None => nothing,
        },
    })
}

pub(super) fn epochs(service: &Service, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|asked| {
        let topic = find_by_name(service, &asked.topic);
        let partitions = asked.partitions.iter().map(|one| {
            let out = EpochEndOffset::default().with_partition(one.partition).with_leader_epoch(-1).with_end_offset(-1);
            let found = topic.clone().and_then(|topic| {
                let partition = topic.partition(PartitionId(one.partition)).ok_or(Code::UnknownTopicOrPartition)?;
                judge_epoch(one.current_leader_epoch, partition.leader_epoch())
                    .map(|()| partition.epoch_end(one.leader_epoch))
            });
            match found {
                Ok(Some((epoch, Offset(end)))) => out.with_leader_epoch(epoch).with_end_offset(end),
                Ok(None) => out,
                Err(code) => out.with_error_code(code.into()),
            }
        });
        OffsetForLeaderTopicResult::default().with_partitions(partitions.collect()).with_topic(asked.topic)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}
