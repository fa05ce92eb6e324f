//! DeleteRecords: moves the start of partitions up. The answer comes once the new start outlives a restart.

use super::errors::Code;
use super::{Service, find_by_name};
use crate::record::{CONSUMER_OFFSETS, Offset, PartitionId};
use crate::store::Partition;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse, TopicName};
use std::collections::{BTreeMap, BTreeSet};

/// Stands for the high watermark: all records.
const ALL: i64 = -1;
/// What is told where there is an error.
const NO_WATERMARK: i64 = -1;

pub(super) async fn delete(service: &Service, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    // Of a partition that is named twice the last counts, and it is told once, as Kafka does.
    let mut asked: BTreeMap<TopicName, BTreeMap<i32, i64>> = BTreeMap::new();
    for topic in request.topics {
        let partitions = asked.entry(topic.name).or_default();
        partitions.extend(topic.partitions.into_iter().map(|one| (one.partition_index, one.offset)));
    }
    let (mut moves, mut refused) = (Vec::new(), BTreeSet::new());
    for (name, partitions) in &asked {
        let topic = find_by_name(service, name).ok().filter(|topic| !topic.name.is_internal());
        // Of a compacted topic the last record of each key stays: Kafka lets nobody delete there by offset.
        let topic = match topic {
            Some(topic) if !topic.config().deletes => {
                refused.insert(name.clone());
                None
            }
            topic => topic,
        };
        let found = |index: &i32| topic.as_ref().and_then(|topic| topic.partition(PartitionId(*index)));
        moves.extend(partitions.iter().filter_map(|(index, offset)| Some(place(found(index)?, *offset))));
    }
    let keys: Vec<_> = moves.iter().map(|(partition, _)| (partition.topic().to_string(), partition.id().0)).collect();
    let starts = service.store.delete_below(moves).await;
    let starts: BTreeMap<_, _> = keys.into_iter().zip(starts).collect();
    let topics = asked.into_iter().map(|(name, partitions)| {
        let result = |index| {
            let out = DeleteRecordsPartitionResult::default().with_partition_index(index);
            match starts.get(&(name.to_string(), index)) {
                Some(Ok(start)) => out.with_low_watermark(start.0),
                Some(Err(error)) => out.with_low_watermark(NO_WATERMARK).with_error_code(Code::from(error).into()),
                None if refused.contains(&name) => {
                    out.with_low_watermark(NO_WATERMARK).with_error_code(Code::PolicyViolation.into())
                }
                None if name.as_str() == CONSUMER_OFFSETS => {
                    out.with_low_watermark(NO_WATERMARK).with_error_code(Code::InvalidTopic.into())
                }
                None => out.with_low_watermark(NO_WATERMARK).with_error_code(Code::UnknownTopicOrPartition.into()),
            }
        };
        let partitions = partitions.into_keys().map(result).collect();
        DeleteRecordsTopicResult::default().with_name(name.clone()).with_partitions(partitions)
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

fn place(partition: Partition, offset: i64) -> (Partition, Offset) {
    let offset = if offset == ALL { partition.tail() } else { Offset(offset) };
    (partition, offset)
}
