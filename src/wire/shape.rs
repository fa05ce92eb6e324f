//! The shapes of the requests that are served. A request is walked along its shape before the kafka-protocol crate decodes it, because
//! the crate reserves memory for as many items as an array claims: twenty bytes that claim two billion topics would end the process.
//!
//! After [`check`] every count and length in the request is held by bytes that are there.

mod administration;
mod groups;

use super::WireError;
use kafka_protocol::messages::ApiKey;

/// What stands at one place of a message.
#[derive(Clone, Copy)]
enum Kind {
    /// So many bytes: numbers, booleans, uuids.
    Fixed(usize),
    /// Text, perhaps null: 16 bits of length, or a varint in flexible versions.
    Text,
    /// Bytes, perhaps null: 32 bits of length, or a varint.
    Bytes,
    /// Items that are one value, without tagged fields.
    Plain(&'static Kind),
    /// Items with fields, perhaps null.
    Items(&'static [Field]),
    /// The fields of a tagged field that is a struct.
    Struct(&'static [Field]),
    /// A byte, and the fields of a struct if it is 1.
    Maybe(&'static [Field]),
}

/// A field, and in which versions it is there.
#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    kind: Kind,
    from: i16,
    to: i16,
    /// Its number if it is a tagged field.
    tag: Option<u32>,
}

impl Field {
    fn is_in(&self, version: i16) -> bool {
        (self.from..=self.to).contains(&version)
    }
}

const fn field(name: &'static str, kind: Kind) -> Field {
    between(name, kind, 0, i16::MAX)
}

const fn since(name: &'static str, kind: Kind, from: i16) -> Field {
    between(name, kind, from, i16::MAX)
}

const fn between(name: &'static str, kind: Kind, from: i16, to: i16) -> Field {
    Field { name, kind, from, to, tag: None }
}

const fn tagged(name: &'static str, kind: Kind, from: i16, tag: u32) -> Field {
    Field { name, kind, from, to: i16::MAX, tag: Some(tag) }
}

const I8: Kind = Kind::Fixed(1);
const I16: Kind = Kind::Fixed(2);
const I32: Kind = Kind::Fixed(4);
const I64: Kind = Kind::Fixed(8);
const ID: Kind = Kind::Fixed(16);
const TEXTS: Kind = Kind::Plain(&Kind::Text);
const NUMBERS: Kind = Kind::Plain(&I32);

// In the order of Kafka's message descriptions (clients/src/main/resources/common/message of Apache Kafka 4.1).
const API_VERSIONS: &[Field] = &[since("software name", Kind::Text, 3), since("software version", Kind::Text, 3)];

const METADATA: &[Field] = &[
    field("topics", Kind::Items(&[since("topic id", ID, 10), field("topic", Kind::Text)])),
    since("allow auto topic creation", I8, 4),
    between("include cluster operations", I8, 8, 10),
    since("include topic operations", I8, 8),
];

const PRODUCE: &[Field] = &[
    since("transactional id", Kind::Text, 3),
    field("acks", I16),
    field("timeout", I32),
    field(
        "topics",
        Kind::Items(&[
            between("topic", Kind::Text, 0, 12),
            since("topic id", ID, 13),
            field("partitions", Kind::Items(&[field("partition", I32), field("records", Kind::Bytes)])),
        ]),
    ),
];

const FETCH: &[Field] = &[
    tagged("cluster id", Kind::Text, 12, 0),
    between("replica id", I32, 0, 14),
    tagged("replica state", Kind::Struct(&[field("replica id", I32), field("replica epoch", I64)]), 15, 1),
    field("max wait", I32),
    field("min bytes", I32),
    field("max bytes", I32),
    field("isolation level", I8),
    since("session id", I32, 7),
    since("session epoch", I32, 7),
    field(
        "topics",
        Kind::Items(&[
            between("topic", Kind::Text, 0, 12),
            since("topic id", ID, 13),
            field(
                "partitions",
                Kind::Items(&[
                    field("partition", I32),
                    since("current leader epoch", I32, 9),
                    field("fetch offset", I64),
                    since("last fetched epoch", I32, 12),
                    since("log start offset", I64, 5),
                    field("partition max bytes", I32),
                    tagged("replica directory id", ID, 17, 0),
                ]),
            ),
        ]),
    ),
    since(
        "forgotten topics",
        Kind::Items(&[between("topic", Kind::Text, 7, 12), since("topic id", ID, 13), field("partitions", NUMBERS)]),
        7,
    ),
    since("rack id", Kind::Text, 11),
];

const LIST_OFFSETS: &[Field] = &[
    field("replica id", I32),
    since("isolation level", I8, 2),
    field(
        "topics",
        Kind::Items(&[
            field("topic", Kind::Text),
            field(
                "partitions",
                Kind::Items(&[field("partition", I32), since("current leader epoch", I32, 4), field("timestamp", I64)]),
            ),
        ]),
    ),
    since("timeout", I32, 10),
];

const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    since("replica id", I32, 3),
    field(
        "topics",
        Kind::Items(&[
            field("topic", Kind::Text),
            field(
                "partitions",
                Kind::Items(&[
                    field("partition", I32),
                    since("current leader epoch", I32, 2),
                    field("leader epoch", I32),
                ]),
            ),
        ]),
    ),
];

const INIT_PRODUCER_ID: &[Field] = &[
    field("transactional id", Kind::Text),
    field("transaction timeout", I32),
    since("producer id", I64, 3),
    since("producer epoch", I16, 3),
];

const FIND_COORDINATOR: &[Field] =
    &[between("key", Kind::Text, 0, 3), since("key type", I8, 1), since("keys", TEXTS, 4)];

const CREATE_TOPICS: &[Field] = &[
    field(
        "topics",
        Kind::Items(&[
            field("topic", Kind::Text),
            field("partition count", I32),
            field("replication factor", I16),
            field("assignments", Kind::Items(&[field("partition", I32), field("brokers", NUMBERS)])),
            field("configs", Kind::Items(&[field("config name", Kind::Text), field("config value", Kind::Text)])),
        ]),
    ),
    field("timeout", I32),
    since("validate only", I8, 1),
];

const DELETE_TOPICS: &[Field] = &[
    since("topics", Kind::Items(&[field("topic", Kind::Text), field("topic id", ID)]), 6),
    between("topic names", TEXTS, 0, 5),
    field("timeout", I32),
];

const DESCRIBE_CONFIGS: &[Field] = &[
    field(
        "resources",
        Kind::Items(&[field("resource type", I8), field("resource name", Kind::Text), field("config keys", TEXTS)]),
    ),
    since("include synonyms", I8, 1),
    since("include documentation", I8, 3),
];

const DESCRIBE_CLIENT_QUOTAS: &[Field] = &[
    field(
        "components",
        Kind::Items(&[field("entity type", Kind::Text), field("match type", I8), field("match", Kind::Text)]),
    ),
    field("strict", I8),
];

const ALTER_CLIENT_QUOTAS: &[Field] = &[
    field(
        "entries",
        Kind::Items(&[
            field("entity", Kind::Items(&[field("entity type", Kind::Text), field("entity name", Kind::Text)])),
            field("ops", Kind::Items(&[field("key", Kind::Text), field("value", I64), field("remove", I8)])),
        ]),
    ),
    field("validate only", I8),
];

const DESCRIBE_CLUSTER: &[Field] =
    &[field("include operations", I8), since("endpoint type", I8, 1), since("include fenced", I8, 2)];

/// Shape and first flexible version of a served request.
fn shape(api: ApiKey) -> Option<(&'static [Field], i16)> {
    Some(match api {
        ApiKey::ApiVersions => (API_VERSIONS, 3),
        ApiKey::Metadata => (METADATA, 9),
        ApiKey::Produce => (PRODUCE, 9),
        ApiKey::Fetch => (FETCH, 12),
        ApiKey::ListOffsets => (LIST_OFFSETS, 6),
        ApiKey::OffsetForLeaderEpoch => (OFFSET_FOR_LEADER_EPOCH, 4),
        ApiKey::InitProducerId => (INIT_PRODUCER_ID, 2),
        ApiKey::FindCoordinator => (FIND_COORDINATOR, 3),
        ApiKey::CreateTopics => (CREATE_TOPICS, 5),
        ApiKey::DeleteTopics => (DELETE_TOPICS, 4),
        ApiKey::DescribeConfigs => (DESCRIBE_CONFIGS, 4),
        ApiKey::DescribeClientQuotas => (DESCRIBE_CLIENT_QUOTAS, 1),
        ApiKey::AlterClientQuotas => (ALTER_CLIENT_QUOTAS, 1),
        ApiKey::DescribeCluster => (DESCRIBE_CLUSTER, 0),
        ApiKey::JoinGroup => (groups::JOIN_GROUP, 6),
        ApiKey::SyncGroup => (groups::SYNC_GROUP, 4),
        ApiKey::Heartbeat => (groups::HEARTBEAT, 4),
        ApiKey::LeaveGroup => (groups::LEAVE_GROUP, 4),
        ApiKey::OffsetCommit => (groups::OFFSET_COMMIT, 8),
        ApiKey::OffsetFetch => (groups::OFFSET_FETCH, 6),
        ApiKey::DescribeGroups => (groups::DESCRIBE_GROUPS, 5),
        ApiKey::ListGroups => (groups::LIST_GROUPS, 3),
        ApiKey::DeleteGroups => (groups::DELETE_GROUPS, 2),
        ApiKey::OffsetDelete => (groups::OFFSET_DELETE, i16::MAX),
        other => return administration::shape(other),
    })
}

/// Walks `body`, what follows a request's header. Bytes behind the request are no mistake: librdkafka leaves some. Allocates nothing.
///
/// # Errors
/// [`WireError`]: a length or count that the bytes do not hold. An API without a shape is refused too.
pub fn check(api: ApiKey, version: i16, body: &[u8]) -> Result<(), WireError> {
    let (fields, flexible) = shape(api).ok_or(WireError::Short("an API that is not served"))?;
    Walk { rest: body, version, is_flexible: version >= flexible }.fields(fields)
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    is_flexible: bool,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &'static [Field]) -> Result<(), WireError> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.tag.is_none() && field.is_in(version)) {
            self.value(&field.kind, field.name)?;
        }
        if self.is_flexible { self.tags(fields) } else { Ok(()) }
    }

    fn value(&mut self, kind: &'static Kind, what: &'static str) -> Result<(), WireError> {
        match kind {
            Kind::Fixed(size) => self.skip(*size, what),
            Kind::Text => {
                let length = if self.is_flexible { self.compact(what)? } else { i64::from(self.i16(what)?) };
                self.skip_counted(length, what)
            }
            Kind::Bytes => {
                let length = if self.is_flexible { self.compact(what)? } else { i64::from(self.i32(what)?) };
                self.skip_counted(length, what)
            }
            Kind::Plain(item) => {
                for _ in 0..self.count(self.size_min(item), what)? {
                    self.value(item, what)?;
                }
                Ok(())
            }
            Kind::Items(fields) => {
                for _ in 0..self.count(self.size_min(kind), what)? {
                    self.fields(fields)?;
                }
                Ok(())
            }
            Kind::Struct(fields) => self.fields(fields),
            Kind::Maybe(fields) => match self.take::<1>(what)? {
                [1] => self.fields(fields),
                _ => Ok(()),
            },
        }
    }

    /// The fewest bytes that one item takes: a count that needs more than there are is a lie before its items are looked at.
    fn size_min(&self, item: &'static Kind) -> usize {
        let of_fields = |fields: &'static [Field]| {
            let there = fields.iter().filter(|field| field.tag.is_none() && field.is_in(self.version));
            let sizes = there.map(|field| match &field.kind {
                Kind::Fixed(size) => *size,
                Kind::Text if !self.is_flexible => 2,
                Kind::Maybe(_) => 1,
                _ if !self.is_flexible => 4,
                _ => 1,
            });
            sizes.sum::<usize>() + usize::from(self.is_flexible)
        };
        match item {
            Kind::Fixed(size) => *size,
            Kind::Text if !self.is_flexible => 2,
            Kind::Items(fields) | Kind::Struct(fields) => of_fields(fields).max(1),
            _ => 1,
        }
    }

    fn count(&mut self, size_min: usize, what: &'static str) -> Result<i64, WireError> {
        let count = if self.is_flexible { self.compact(what)? } else { i64::from(self.i32(what)?) };
        if count > (self.rest.len() / size_min) as i64 {
            return Err(WireError::Length { what, claimed: count, left: self.rest.len() });
        }
        Ok(count)
    }

    fn tags(&mut self, fields: &'static [Field]) -> Result<(), WireError> {
        let what = "tagged fields";
        let count = self.varint(what)?;
        if u64::from(count) > self.rest.len() as u64 / 2 {
            return Err(WireError::Length { what, claimed: i64::from(count), left: self.rest.len() });
        }
        for _ in 0..count {
            let (tag, size) = (self.varint(what)?, self.varint(what)? as usize);
            let Some((value, rest)) = self.rest.split_at_checked(size) else {
                return Err(WireError::Length { what, claimed: size as i64, left: self.rest.len() });
            };
            let known = fields.iter().find(|field| field.tag == Some(tag) && field.is_in(self.version));
            if let Some(field) = known {
                // The crate reads a field that it knows from the message itself: were its size a lie, all that follows would shift.
                let mut inside = Walk { rest: value, ..*self };
                inside.value(&field.kind, field.name)?;
                if !inside.rest.is_empty() {
                    return Err(WireError::Tag { size });
                }
            }
            self.rest = rest;
        }
        Ok(())
    }

    fn skip_counted(&mut self, length: i64, what: &'static str) -> Result<(), WireError> {
        // −1 is null; the crate refuses it where null is not allowed, and every other negative length.
        let size = usize::try_from(length).unwrap_or(0);
        if size > self.rest.len() {
            return Err(WireError::Length { what, claimed: length, left: self.rest.len() });
        }
        self.skip(size, what)
    }

    fn skip(&mut self, size: usize, what: &'static str) -> Result<(), WireError> {
        self.rest = self.rest.get(size..).ok_or(WireError::Short(what))?;
        Ok(())
    }

    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Short(what))?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn i16(&mut self, what: &'static str) -> Result<i16, WireError> {
        self.take(what).map(i16::from_be_bytes)
    }

    fn i32(&mut self, what: &'static str) -> Result<i32, WireError> {
        self.take(what).map(i32::from_be_bytes)
    }

    /// A length of a flexible version: one more than it stands for, 0 for null.
    fn compact(&mut self, what: &'static str) -> Result<i64, WireError> {
        self.varint(what).map(|length| i64::from(length) - 1)
    }

    fn varint(&mut self, what: &'static str) -> Result<u32, WireError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take::<1>(what)?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::create_topics_request::{
        CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
    };
    use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
    use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
    use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
    use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::*;
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
    use std::ops::RangeInclusive;
    use uuid::Uuid;

    pub(super) fn text(text: &'static str) -> StrBytes {
        StrBytes::from_static_str(text)
    }

    pub(super) fn topic() -> TopicName {
        TopicName(text("clicks"))
    }

    fn bytes(message: &impl Encodable, version: i16) -> Vec<u8> {
        let mut out = BytesMut::new();
        message.encode(&mut out, version).unwrap();
        out.to_vec()
    }

    /// Every version that `make` gives takes exactly its bytes, is refused wherever it is cut, and neither claims nor flipped bytes in it make
    /// the crate panic or reserve what is not there.
    pub(super) fn is_exact<T: Encodable + Decodable>(
        api: ApiKey,
        versions: RangeInclusive<i16>,
        make: impl Fn(i16) -> T,
    ) {
        for version in versions {
            let body = bytes(&make(version), version);
            let (fields, flexible) = shape(api).unwrap();
            let mut walk = Walk { rest: &body, version, is_flexible: version >= flexible };
            walk.fields(fields).unwrap_or_else(|error| panic!("{api:?} {version}: {error}"));
            assert!(walk.rest.is_empty(), "{api:?} {version}: {} bytes are left", walk.rest.len());
            for size in 0..body.len() {
                assert!(check(api, version, &body[..size]).is_err(), "{api:?} {version} cut at {size}");
            }
            for at in 0..body.len() {
                for claim in [&b"\x7f\xff\xff\xff"[..], b"\xff\xff\xff\xff\x0f", b"\x00", b"\xff"] {
                    let mut changed = body.clone();
                    changed.splice(at..(at + claim.len()).min(body.len()), claim.iter().copied());
                    if check(api, version, &changed).is_ok() {
                        let _ = T::decode(&mut Bytes::from(changed), version);
                    }
                }
            }
        }
    }

    /// From version 13 on by id.
    fn named(version: i16) -> (TopicName, Uuid) {
        if version >= 13 { (TopicName::default(), Uuid::from_u128(7)) } else { (topic(), Uuid::nil()) }
    }

    fn fetch(version: i16) -> FetchRequest {
        let (name, id) = named(version);
        let mut partition = FetchPartition::default().with_partition(1).with_partition_max_bytes(9);
        if version >= 17 {
            partition = partition.with_replica_directory_id(Uuid::from_u128(9));
        }
        let topic = FetchTopic::default().with_topic(name.clone()).with_topic_id(id).with_partitions(vec![partition]);
        let forgotten = ForgottenTopic::default().with_topic(name).with_topic_id(id).with_partitions(vec![1, 2]);
        let mut request = FetchRequest::default().with_topics(vec![topic]);
        if version >= 7 {
            request = request.with_forgotten_topics_data(vec![forgotten]);
        }
        if version >= 12 {
            request = request.with_cluster_id(Some(text("a cluster")));
        }
        if version >= 15 {
            request = request.with_replica_state(ReplicaState::default().with_replica_id(BrokerId(4)));
        }
        request
    }

    #[test]
    fn shapes_of_records_and_offsets_take_exactly_their_bytes() {
        is_exact(ApiKey::Produce, 3..=13, |version| {
            let (name, id) = named(version);
            let data = PartitionProduceData::default().with_index(3).with_records(Some(Bytes::from_static(b"batch")));
            let topic = TopicProduceData::default().with_name(name).with_topic_id(id);
            let topic = topic.with_partition_data(vec![data.clone(), data]);
            ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic])
        });
        is_exact(ApiKey::Fetch, 4..=17, fetch);
        is_exact(ApiKey::ListOffsets, 1..=10, |_| {
            let partition = ListOffsetsPartition::default().with_timestamp(-1);
            let topic = ListOffsetsTopic::default().with_name(topic()).with_partitions(vec![partition]);
            ListOffsetsRequest::default().with_topics(vec![topic])
        });
        is_exact(ApiKey::OffsetForLeaderEpoch, 2..=4, |_| {
            let topic = OffsetForLeaderTopic::default().with_topic(topic());
            let topic = topic.with_partitions(vec![OffsetForLeaderPartition::default()]);
            OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
        });
        is_exact(ApiKey::InitProducerId, 0..=5, |_| InitProducerIdRequest::default());
    }

    #[test]
    fn shapes_of_the_cluster_take_exactly_their_bytes() {
        is_exact(ApiKey::ApiVersions, 0..=4, |version| match version {
            3.. => ApiVersionsRequest::default()
                .with_client_software_name(text("x"))
                .with_client_software_version(text("1")),
            _ => ApiVersionsRequest::default(),
        });
        is_exact(ApiKey::Metadata, 0..=13, |_| {
            let topic = MetadataRequestTopic::default().with_name(Some(topic()));
            MetadataRequest::default().with_topics(Some(vec![topic.clone(), topic]))
        });
        is_exact(ApiKey::DescribeCluster, 0..=2, |_| DescribeClusterRequest::default());
        is_exact(ApiKey::FindCoordinator, 0..=6, |version| match version {
            4.. => FindCoordinatorRequest::default().with_coordinator_keys(vec![text("a"), text("b")]),
            _ => FindCoordinatorRequest::default().with_key(text("a")),
        });
    }

    #[test]
    fn shapes_of_topics_and_quotas_take_exactly_their_bytes() {
        is_exact(ApiKey::CreateTopics, 2..=7, |_| {
            let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1)]);
            let config = CreatableTopicConfig::default().with_name(text("a")).with_value(Some(text("b")));
            let topic = CreatableTopic::default().with_name(topic());
            let topic = topic.with_assignments(vec![assignment]).with_configs(vec![config]);
            CreateTopicsRequest::default().with_topics(vec![topic])
        });
        is_exact(ApiKey::DeleteTopics, 1..=6, |version| match version {
            6.. => {
                let topic = DeleteTopicState::default().with_name(Some(topic()));
                DeleteTopicsRequest::default().with_topics(vec![topic])
            }
            _ => DeleteTopicsRequest::default().with_topic_names(vec![topic()]),
        });
        is_exact(ApiKey::DescribeConfigs, 1..=4, |_| {
            let resource = DescribeConfigsResource::default()
                .with_resource_name(text("clicks"))
                .with_configuration_keys(Some(vec![text("a"), text("b")]));
            DescribeConfigsRequest::default().with_resources(vec![resource])
        });
        is_exact(ApiKey::DescribeClientQuotas, 0..=1, |_| {
            let component = describe_client_quotas_request::ComponentData::default()
                .with_entity_type(text("user"))
                .with_match(Some(text("u")));
            DescribeClientQuotasRequest::default().with_components(vec![component])
        });
        is_exact(ApiKey::AlterClientQuotas, 0..=1, |_| {
            let part = alter_client_quotas_request::EntityData::default().with_entity_type(text("user"));
            let op = alter_client_quotas_request::OpData::default().with_key(text("k")).with_value(1.5);
            let entry = alter_client_quotas_request::EntryData::default().with_entity(vec![part]).with_ops(vec![op]);
            AlterClientQuotasRequest::default().with_entries(vec![entry])
        });
    }

    #[test]
    fn a_count_that_the_bytes_do_not_hold_is_refused() {
        let claims = [&i32::MAX.to_be_bytes()[..], &[0xff, 0xff, 0xff, 0xff, 0x0f]];
        assert!(matches!(check(ApiKey::Metadata, 1, claims[0]), Err(WireError::Length { what: "topics", .. })));
        assert!(matches!(check(ApiKey::Metadata, 9, claims[1]), Err(WireError::Length { what: "topics", .. })));
    }

    #[test]
    fn a_tagged_field_whose_size_lies_is_refused() {
        let mut body = bytes(&fetch(12), 12);
        // The cluster id is the last field: tag 0, its size, its length and text.
        let size_at = body.len() - "a cluster".len() - 2;
        body[size_at] -= 1;
        assert!(check(ApiKey::Fetch, 12, &body).is_err());
    }
}
