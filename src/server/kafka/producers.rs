//! DescribeProducers: the idempotent producers that a partition remembers, for who looks for one that hangs.

use super::errors::{Code, Refusal};
use super::{Service, find_by_name, text};
use crate::record::{PartitionId, TopicName as Name};
use crate::store::ActiveProducer;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, TopicName};
use std::collections::BTreeSet;

/// Producers in one answer: a partition may remember ten thousand, and a request may name ten thousand partitions.
const TOLD_MAX: usize = 50_000;
/// No transaction: no coordinator wrote, none is open.
const NO_TRANSACTION: i32 = -1;

pub(super) async fn describe(service: &Service, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let mut left = TOLD_MAX;
    let mut told = BTreeSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let mut partitions = Vec::with_capacity(asked.partition_indexes.len());
        for index in asked.partition_indexes {
            // A partition that is named twice is told once.
            if !told.insert((asked.name.clone(), index)) {
                continue;
            }
            let out = PartitionResponse::default().with_partition_index(index);
            partitions.push(match active(service, &asked.name, index, left).await {
                Ok(producers) => {
                    left -= producers.len();
                    out.with_error_message(None).with_active_producers(producers.into_iter().map(state).collect())
                }
                Err((code, reason)) => out.with_error_code(code.into()).with_error_message(Some(text(&reason))),
            });
        }
        topics.push(TopicResponse::default().with_name(asked.name).with_partitions(partitions));
    }
    DescribeProducersResponse::default().with_topics(topics)
}

async fn active(
    service: &Service,
    name: &TopicName,
    index: i32,
    count_max: usize,
) -> Result<Vec<ActiveProducer>, Refusal> {
    // No reason repeats the topic's name: it is told for each partition, and a client may have made up a long one.
    Name::new(name).map_err(|_| (Code::InvalidTopic, "no topic can have this name".to_owned()))?;
    let partition = find_by_name(service, name).ok().and_then(|topic| topic.partition(PartitionId(index)));
    let missing = || (Code::UnknownTopicOrPartition, "there is no such partition".to_owned());
    let active = partition.ok_or_else(missing)?.producers().await;
    let active = active.map_err(|error| (Code::from(&error), error.to_string()))?;
    if active.len() > count_max {
        let reason = format!("an answer tells of {TOLD_MAX} producers at most: ask for fewer partitions at a time");
        return Err((Code::InvalidRequest, reason));
    }
    Ok(active)
}

fn state(producer: ActiveProducer) -> ProducerState {
    ProducerState::default()
        .with_producer_id(producer.id.into())
        .with_producer_epoch(i32::from(producer.epoch))
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.seen_ms)
        .with_coordinator_epoch(NO_TRANSACTION)
        .with_current_txn_start_offset(i64::from(NO_TRANSACTION))
}
