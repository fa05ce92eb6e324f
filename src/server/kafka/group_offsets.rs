//! What groups commit: OffsetCommit, OffsetFetch, OffsetDelete.

use super::errors::Code;
use super::groups::shared;
use super::{Service, find_by_name, pipelines, text, topic_name};
use crate::group::{Commit, Committed, CommittedOffset, Error, Fetched, METADATA_CHARS_MAX};
use crate::record::PartitionId;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// Several groups at once, from this version on.
const MANY_GROUPS: i16 = 8;
/// Who commits to a group that is not there is told that, from this version on.
const NOT_FOUND_IS_TOLD: i16 = 9;
/// An error of the whole group can be said, from this version on.
const GROUP_ERROR: i16 = 2;

pub(super) async fn commit(service: &Service, request: OffsetCommitRequest, version: i16) -> OffsetCommitResponse {
    let group = shared(&request.group_id);
    let mut offsets = Vec::new();
    // A code for each partition asked, in the request's order; those that may be kept get the group's word.
    let mut codes: Vec<Option<Code>> = Vec::new();
    for topic in &request.topics {
        let found = find_by_name(service, &topic.name);
        let name = shared(&topic.name);
        for one in &topic.partitions {
            let metadata = one.committed_metadata.as_deref().unwrap_or_default();
            let code = match &found {
                Err(code) => Some(*code),
                Ok(topic) if topic.partition(PartitionId(one.partition_index)).is_none() => {
                    Some(Code::UnknownTopicOrPartition)
                }
                Ok(_) if is_too_long(metadata) => Some(Code::OffsetMetadataTooLarge),
                Ok(topic) => {
                    let committed = Committed {
                        offset: one.committed_offset,
                        leader_epoch: one.committed_leader_epoch,
                        metadata: metadata.into(),
                        commit_ms: 0,
                        topic_id: topic.id,
                    };
                    offsets.push(CommittedOffset { topic: name.clone(), partition: one.partition_index, committed });
                    None
                }
            };
            codes.push(code);
        }
    }
    let commit = Commit {
        generation: request.generation_id_or_member_epoch,
        member: shared(&request.member_id),
        instance: request.group_instance_id.as_ref().map(shared),
        offsets,
    };
    let of_group = match pipelines::is_one(&group) {
        true => Code::GroupAuthorizationFailed,
        false => match service.door.groups.commit(group, commit).await {
            Ok(()) => Code::None,
            Err(Error::NotFound) if version < NOT_FOUND_IS_TOLD => Code::IllegalGeneration,
            Err(error) => Code::from(&error),
        },
    };
    let mut codes = codes.into_iter();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|one| {
            // Of a member that is out nothing is judged but that.
            let code = match codes.next().flatten() {
                Some(Code::OffsetMetadataTooLarge) if of_group != Code::None => of_group,
                Some(code) => code,
                None => of_group,
            };
            OffsetCommitResponsePartition::default()
                .with_partition_index(one.partition_index)
                .with_error_code(code.into())
        });
        OffsetCommitResponseTopic::default().with_partitions(partitions.collect()).with_name(topic.name)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// Kafka counts as Java does, in 16-bit units.
fn is_too_long(metadata: &str) -> bool {
    metadata.len() > METADATA_CHARS_MAX && metadata.encode_utf16().count() > METADATA_CHARS_MAX
}

/// What one group is asked for: topics and partitions, or all.
type Wanted = Option<Vec<(Arc<str>, Vec<i32>)>>;

pub(super) async fn fetch(service: &Service, request: OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
    let out = OffsetFetchResponse::default();
    if version >= MANY_GROUPS {
        let mut groups = Vec::with_capacity(request.groups.len());
        // A group that is named twice is answered once, and so is a partition: a short request must not ask for an answer without end.
        let mut named = HashSet::new();
        for asked in request.groups.into_iter().filter(|asked| named.insert(asked.group_id.clone())) {
            let one = |topic: &kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopics| {
                (shared(&topic.name), topic.partition_indexes.clone())
            };
            let wanted: Wanted = asked.topics.as_ref().map(|topics| topics.iter().map(one).collect());
            let found = of_group(service, &asked.group_id, wanted).await;
            let group = OffsetFetchResponseGroup::default().with_group_id(asked.group_id);
            groups.push(match found {
                Ok(found) => {
                    let topic = |(name, partitions): OfTopic| {
                        OffsetFetchResponseTopics::default()
                            .with_name(topic_name(&name))
                            .with_partitions(partitions.iter().map(partition_of_many).collect())
                    };
                    group.with_topics(found.into_iter().map(topic).collect())
                }
                Err(code) => group.with_error_code(code.into()),
            });
        }
        return out.with_groups(groups);
    }
    let one = |topic: &kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic| {
        (shared(&topic.name), topic.partition_indexes.clone())
    };
    let wanted: Wanted = request.topics.as_ref().map(|topics| topics.iter().map(one).collect());
    let told = |found: Vec<OfTopic>, code: Code| {
        let topic = |(name, partitions): OfTopic| {
            let partition = |one: &Fetched| partition_of_one(one).with_error_code(code.into());
            OffsetFetchResponseTopic::default()
                .with_name(topic_name(&name))
                .with_partitions(partitions.iter().map(partition).collect())
        };
        found.into_iter().map(topic).collect()
    };
    match of_group(service, &request.group_id, wanted.clone()).await {
        Ok(found) => out.with_topics(told(found, Code::None)),
        Err(code) if version >= GROUP_ERROR => out.with_error_code(code.into()),
        Err(code) => {
            let nothing = |(topic, ids): (Arc<str>, Vec<i32>)| {
                let one = |partition| Fetched { topic: topic.clone(), partition, committed: None };
                let none = ids.into_iter().map(one).collect();
                (topic, none)
            };
            out.with_topics(told(wanted.unwrap_or_default().into_iter().map(nothing).collect(), code))
        }
    }
}

/// One topic, and what there is for its partitions.
type OfTopic = (Arc<str>, Vec<Fetched>);

/// What a group, or a pipeline, has for what is wanted, by topic, in the order of the request. Offsets of a topic that was deleted since are
/// none.
async fn of_group(service: &Service, group: &GroupId, wanted: Wanted) -> Result<Vec<OfTopic>, Code> {
    let group = shared(group);
    let mut named = HashSet::new();
    // A topic that is asked without partitions is answered so.
    let once = |(topic, ids): (Arc<str>, Vec<i32>)| {
        let is_bare = ids.is_empty();
        let ids: Vec<i32> = ids.into_iter().filter(|id| named.insert((topic.clone(), *id))).collect();
        (is_bare || !ids.is_empty()).then_some((topic, ids))
    };
    let wanted: Wanted = wanted.map(|wanted| wanted.into_iter().filter_map(once).collect());
    let counts: Option<Vec<(Arc<str>, usize)>> =
        wanted.as_ref().map(|wanted| wanted.iter().map(|(topic, ids)| (topic.clone(), ids.len())).collect());
    let found = match pipelines::offsets(service, &group, wanted.as_deref()) {
        Some(found) => found,
        None => committed(service, group, wanted).await?,
    };
    let Some(counts) = counts else {
        let of_topics = found.chunk_by(|a, b| a.topic == b.topic);
        return Ok(of_topics.map(|of_topic| (of_topic[0].topic.clone(), of_topic.to_vec())).collect());
    };
    let mut found = found.into_iter();
    Ok(counts.into_iter().map(|(topic, count)| (topic, found.by_ref().take(count).collect())).collect())
}

/// What a group has: for all that is wanted, in order, or all that there is.
async fn committed(service: &Service, group: Arc<str>, wanted: Wanted) -> Result<Vec<Fetched>, Code> {
    let is_all = wanted.is_none();
    let found = service.door.groups.fetch(group, wanted).await.map_err(|error| Code::from(&error))?;
    let mut ids: HashMap<Arc<str>, Option<Uuid>> = HashMap::new();
    let judged = found.into_iter().map(|mut one| {
        let id = ids.entry(one.topic.clone()).or_insert_with(|| Some(service.store.topic(&one.topic)?.id));
        one.committed =
            one.committed.filter(|committed| committed.topic_id.is_nil() || *id == Some(committed.topic_id));
        one
    });
    Ok(judged.filter(|one| !is_all || one.committed.is_some()).collect())
}

fn partition_of_many(one: &Fetched) -> OffsetFetchResponsePartitions {
    let (offset, epoch, metadata) = parts(one);
    OffsetFetchResponsePartitions::default()
        .with_partition_index(one.partition)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(epoch)
        .with_metadata(Some(text(metadata)))
}

fn partition_of_one(one: &Fetched) -> OffsetFetchResponsePartition {
    let (offset, epoch, metadata) = parts(one);
    OffsetFetchResponsePartition::default()
        .with_partition_index(one.partition)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(epoch)
        .with_metadata(Some(text(metadata)))
}

/// Offset, leader epoch and metadata; −1, −1 and nothing for what was not committed.
fn parts(one: &Fetched) -> (i64, i32, &str) {
    one.committed.as_ref().map_or((-1, -1, ""), |found| (found.offset, found.leader_epoch, &*found.metadata))
}

pub(super) async fn delete(service: &Service, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let group = shared(&request.group_id);
    let out = OffsetDeleteResponse::default();
    if pipelines::is_one(&group) {
        return out.with_error_code(Code::GroupAuthorizationFailed.into());
    }
    let exists = |name: &str, id: i32| {
        let topic = service.store.topic(name);
        topic.is_some_and(|topic| topic.partition(PartitionId(id)).is_some())
    };
    let (mut are_there, mut known) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        for one in &topic.partitions {
            let is_there = exists(&topic.name, one.partition_index);
            are_there.push(is_there);
            if is_there {
                known.push((shared(&topic.name), one.partition_index));
            }
        }
    }
    let results = match service.door.groups.forget(group, known).await {
        Ok(results) => results,
        Err(error) => return out.with_error_code(Code::from(&error).into()),
    };
    let (mut results, mut are_there) = (results.into_iter(), are_there.into_iter());
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|one| {
            let code = match are_there.next().filter(|is_there| *is_there).and_then(|_| results.next()) {
                None => Code::UnknownTopicOrPartition,
                Some(result) => result.as_ref().map_or_else(Code::from, |()| Code::None),
            };
            OffsetDeleteResponsePartition::default()
                .with_partition_index(one.partition_index)
                .with_error_code(code.into())
        });
        OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    out.with_topics(topics.collect())
}
