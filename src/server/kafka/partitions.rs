//! CreatePartitions: topics grow, their dead letter topics with them; DescribeTopicPartitions: what Metadata tells of topics, in pages.

use super::errors::{Code, Refusal};
use super::{Service, find_by_name, node, placement, text, topic_name};
use crate::record::TopicName as Name;
use crate::store::{Partition, TOPIC_PARTITIONS_MAX, Topic, TopicError};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    TopicName,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Partitions in one page at most (Kafka's max.request.partition.size.limit).
const PAGE_PARTITIONS_MAX: i32 = 2_000;
/// Nothing is forbidden to anybody yet: every operation that a topic has, as a broker without authorizer tells (KIP-430): read, write,
/// create, delete, alter, describe, describe and alter settings.
const ALL_OPERATIONS: i32 = 0b1101_1111_1000;

pub(super) async fn create(service: &Service, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mut asked: HashMap<TopicName, usize> = HashMap::new();
    for topic in &request.topics {
        *asked.entry(topic.name.clone()).or_default() += 1;
    }
    let mut results = Vec::with_capacity(asked.len());
    for topic in request.topics {
        let grown = match asked.remove(&topic.name) {
            // Told once already.
            None => continue,
            Some(1) => grow(service, &topic, request.validate_only).await,
            Some(_) => Err((Code::InvalidRequest, "the request names this topic more than once".to_owned())),
        };
        let out = CreatePartitionsTopicResult::default().with_name(topic.name);
        results.push(match grown {
            Ok(()) => out.with_error_message(None),
            Err((code, reason)) => out.with_error_code(code.into()).with_error_message(Some(text(&reason))),
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}

async fn grow(service: &Service, asked: &CreatePartitionsTopic, only_check: bool) -> Result<(), Refusal> {
    let missing = |code| (code, format!("there is no topic \"{}\"", &**asked.name));
    let topic = find_by_name(service, &asked.name).map_err(missing)?;
    let count = topic.partition_count();
    if asked.count <= count || asked.count > TOPIC_PARTITIONS_MAX {
        let reason = format!("the topic has {count} partitions and can grow to {TOPIC_PARTITIONS_MAX} at most");
        return Err((Code::InvalidPartitions, format!("{reason}, not to {}", asked.count)));
    }
    if let Some(assignments) = &asked.assignments {
        let more = asked.count - count;
        if assignments.len() != more as usize {
            let reason = format!("{more} partitions are added, {} are assigned", assignments.len());
            return Err((Code::InvalidReplicaAssignment, reason));
        }
        assignments.iter().try_for_each(|one| placement::check(&one.broker_ids))?;
    }
    if only_check {
        return Ok(());
    }
    let grown = service.store.add_partitions(&topic.name, asked.count).await;
    grown.map_err(|error: TopicError| ((&error).into(), error.to_string()))
}

pub(super) fn describe(service: &Service, request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let (from, first) =
        request.cursor.map_or_else(Default::default, |cursor| (cursor.topic_name, cursor.partition_index));
    let are_all = request.topics.is_empty();
    let is_named = |name: &TopicName| request.topics.iter().any(|topic| topic.name == *name);
    // A cursor that this request cannot have been given: each topic named is told so.
    if first < 0 || !(are_all || from.is_empty() || is_named(&from)) {
        let topics = request.topics.into_iter().map(|topic| unknown(topic.name, Code::InvalidRequest));
        return DescribeTopicPartitionsResponse::default().with_topics(topics.collect());
    }
    // By name; one that is named twice is told once.
    let topics: BTreeMap<TopicName, Option<Arc<Topic>>> = if are_all {
        service.store.topics().into_iter().map(|topic| (topic_name(topic.name.as_str()), Some(topic))).collect()
    } else {
        request.topics.into_iter().map(|topic| (topic.name.clone(), service.store.topic(&topic.name))).collect()
    };
    let mut left = request.response_partition_limit.clamp(1, PAGE_PARTITIONS_MAX) as usize;
    let mut out = DescribeTopicPartitionsResponse::default();
    for (name, topic) in topics.into_iter().filter(|(name, _)| name.as_str() >= from.as_str()) {
        let begin = if name == from { first as usize } else { 0 };
        if left == 0 {
            return out.with_next_cursor(Some(cursor(name, begin)));
        }
        let Some(topic) = topic else {
            let code = Name::new(&name).map_or(Code::InvalidTopic, |_| Code::UnknownTopicOrPartition);
            out.topics.push(unknown(name, code).with_topic_authorized_operations(ALL_OPERATIONS));
            continue;
        };
        let partitions = topic.partitions();
        let page: Vec<_> = partitions.iter().skip(begin).take(left).map(partition).collect();
        left -= page.len();
        let next = begin + page.len();
        out.topics.push(
            DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(name.clone()))
                .with_topic_id(topic.id)
                .with_partitions(page)
                .with_topic_authorized_operations(ALL_OPERATIONS),
        );
        if next < partitions.len() {
            return out.with_next_cursor(Some(cursor(name, next)));
        }
    }
    out
}

fn cursor(name: TopicName, partition: usize) -> Cursor {
    Cursor::default().with_topic_name(name).with_partition_index(partition as i32)
}

fn unknown(name: TopicName, code: Code) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default().with_error_code(code.into()).with_name(Some(name))
}

fn partition(partition: &Partition) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition::default()
        .with_partition_index(partition.id().0)
        .with_leader_id(node())
        .with_leader_epoch(partition.leader_epoch())
        .with_replica_nodes(vec![node()])
        .with_isr_nodes(vec![node()])
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
}
