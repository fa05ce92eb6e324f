//! DescribeLogDirs: the data folder as the one log dir, with the bytes of each partition.

use super::{Service, text, topic_name};
use crate::record::PartitionId;
use crate::store::{Partition, Topic};
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The file system does not say.
const UNKNOWN_BYTES: i64 = -1;

pub(super) async fn describe(service: &Service, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let topics: Vec<_> = match request.topics {
        None => service.store.topics().iter().map(|topic| told(topic, topic.partitions().iter())).collect(),
        Some(asked) => {
            // What does not exist is left out, what is named twice is told once.
            let mut wanted: BTreeMap<_, BTreeSet<i32>> = BTreeMap::new();
            for topic in asked {
                wanted.entry(topic.topic).or_default().extend(topic.partitions);
            }
            let found = wanted.into_iter().filter_map(|(name, indexes)| {
                let topic = service.store.topic(&name)?;
                let partitions = indexes.into_iter().filter_map(|index| topic.partition(PartitionId(index)));
                let partitions: Vec<_> = partitions.collect();
                (!partitions.is_empty()).then(|| told(&topic, partitions.iter()))
            });
            found.collect()
        }
    };
    let folder = service.store.folder();
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let (total, usable) = match service.store.space().await {
        Ok(space) => (space.total as i64, space.free as i64),
        Err(error) => {
            tracing::debug!(%error, "the file system of the log does not say its room");
            (UNKNOWN_BYTES, UNKNOWN_BYTES)
        }
    };
    let result = DescribeLogDirsResult::default()
        .with_log_dir(text(&folder.to_string_lossy()))
        .with_topics(topics)
        .with_total_bytes(total)
        .with_usable_bytes(usable);
    DescribeLogDirsResponse::default().with_results(vec![result])
}

fn told<'a>(topic: &Arc<Topic>, partitions: impl Iterator<Item = &'a Partition>) -> DescribeLogDirsTopic {
    let one = |partition: &Partition| {
        DescribeLogDirsPartition::default()
            .with_partition_index(partition.id().0)
            .with_partition_size(partition.size() as i64)
    };
    DescribeLogDirsTopic::default()
        .with_name(topic_name(topic.name.as_str()))
        .with_partitions(partitions.map(one).collect())
}
