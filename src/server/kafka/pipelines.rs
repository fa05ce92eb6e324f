//! Pipelines as groups, to be looked at only: tools that watch the lag of groups see theirs. `inrush pipeline reset` moves them.

use super::{Service, text, topic_name};
use crate::control::{PipelineStatus, State as Doing};
use crate::group::{Committed, DescribedMember, Description, Fetched, Listed, State};
use crate::record::PartitionId;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition;
use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use kafka_protocol::protocol::Encodable;
use std::sync::Arc;
use uuid::Uuid;

/// A pipeline's group has its name behind this.
const PREFIX: &str = "pipeline:";
/// How its member says what it reads: the oldest version, which every tool knows.
const CONSUMER_VERSION: i16 = 0;

/// Whether this is the name of a pipeline's group, which nobody joins or commits to.
pub(super) fn is_one(group: &str) -> bool {
    group.starts_with(PREFIX)
}

fn find(service: &Service, group: &str) -> Option<PipelineStatus> {
    let name = group.strip_prefix(PREFIX)?;
    service.door.control.statuses().into_iter().find(|status| status.name == name && !status.is_replay())
}

pub(super) fn list(service: &Service) -> impl Iterator<Item = Listed> {
    service.door.control.statuses().into_iter().filter(|status| !status.is_replay()).map(|status| Listed {
        group: format!("{PREFIX}{}", status.name).into(),
        protocol_type: "consumer".into(),
        state: state(&status),
    })
}

fn state(status: &PipelineStatus) -> State {
    match status.state {
        Doing::Starting | Doing::Running | Doing::Stalled => State::Stable,
        Doing::NoTopic | Doing::Paused | Doing::Failed | Doing::Stopped => State::Empty,
    }
}

/// The topic of this log that a pipeline reads; `None` = its source is elsewhere.
fn topic(status: &PipelineStatus) -> Option<&str> {
    status.source.strip_prefix("topic:")
}

/// One member, that reads every partition of the pipeline's source.
pub(super) fn describe(service: &Service, group: &str) -> Option<Description> {
    let status = find(service, group)?;
    let state = state(&status);
    let reads = ConsumerProtocolSubscription::default().with_topics(topic(&status).map(text).into_iter().collect());
    let has = topic(&status).map(|name| {
        let partitions = service.store.topic(name).map_or(0, |topic| topic.partition_count());
        TopicPartition::default().with_topic(topic_name(name)).with_partitions((0..partitions).collect())
    });
    let has = ConsumerProtocolAssignment::default().with_assigned_partitions(has.into_iter().collect());
    let member = DescribedMember {
        id: group.into(),
        instance: None,
        client_id: "inrush".into(),
        client_host: "/127.0.0.1".into(),
        metadata: versioned(&reads),
        assignment: versioned(&has),
    };
    let members = if state == State::Stable { vec![member] } else { Vec::new() };
    let protocol: Arc<str> = if members.is_empty() { "" } else { "range" }.into();
    Some(Description { state, protocol_type: "consumer".into(), protocol, members })
}

fn versioned(message: &impl Encodable) -> Bytes {
    let mut out = BytesMut::from(&CONSUMER_VERSION.to_be_bytes()[..]);
    // Names of topics are short: there is nothing that could not be written.
    let _ = message.encode(&mut out, CONSUMER_VERSION);
    out.freeze()
}

/// What a pipeline has committed; `None` if this is no pipeline.
pub(super) fn offsets(service: &Service, group: &str, wanted: Option<&[(Arc<str>, Vec<i32>)]>) -> Option<Vec<Fetched>> {
    let status = find(service, group)?;
    let source = topic(&status);
    let committed = |topic: &str, partition: i32| {
        let offset = *status.committed.get(&partition).filter(|_| source == Some(topic))?;
        // Before its first cut a pipeline stands where the log begins.
        let start = service.store.topic(topic)?.partition(PartitionId(partition))?.start().0;
        let metadata: Arc<str> = "".into();
        Some(Committed { offset: offset.max(start), leader_epoch: -1, metadata, commit_ms: -1, topic_id: Uuid::nil() })
    };
    // Windows have a place of their own, which is no partition.
    let partitions = || status.committed.keys().copied().filter(|id| *id >= 0).collect();
    let all = || source.map(|topic| (topic.into(), partitions())).into_iter().collect();
    let wanted = wanted.map_or_else(all, <[_]>::to_vec);
    let each = wanted.iter().flat_map(|(topic, ids)| ids.iter().map(move |id| (topic, *id)));
    Some(
        each.map(|(topic, id)| Fetched { topic: topic.clone(), partition: id, committed: committed(topic, id) })
            .collect(),
    )
}
