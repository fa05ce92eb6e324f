//! The records of `__consumer_offsets`, in Kafka's bytes (`OffsetCommitKey` … `GroupMetadataValue` of its group coordinator), so that tools
//! which read that topic read this one. Integers are big-endian; `string` has a 2-byte length (−1 = null), `bytes` a 4-byte one.
//!
//! | key | bytes |
//! |---|---|
//! | of an offset, version 1 (0 is read too) | `int16 version, string group, string topic, int32 partition` |
//! | of a group, version 2 | `int16 version, string group` |
//!
//! | value | bytes |
//! |---|---|
//! | of an offset, version 4 | `int16 version, int64 offset, int32 leader epoch, compact string metadata, int64 commit time, tags {0: uuid topic id}` |
//! | of a group, version 3 | `int16 version, string protocol type, int32 generation, string protocol, string leader, int64 since, array of members` |
//! | one member | `string member, string instance, string client id, string client host, int32 rebalance ms, int32 session ms, bytes subscription, bytes assignment` |
//!
//! Offsets of versions 1 to 3 (no topic id) are read as well. A record without a value takes away what its key names.

use super::offsets::Committed;
use bytes::Bytes;
use std::sync::Arc;
use uuid::Uuid;

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const OFFSET_VALUE: i16 = 4;
const GROUP_VALUE: i16 = 3;
/// A group's value says no more members than this.
const MEMBERS_MAX: usize = 1 << 20;

/// What a record is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Offset {
        group: Arc<str>,
        topic: Arc<str>,
        partition: i32,
    },
    Group {
        group: Arc<str>,
    },
    /// Of a newer kind (consumer and share groups, transactions): left alone.
    Other(i16),
}

/// A group as it was written down: after an assignment, or when its last member left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredGroup {
    pub(super) protocol_type: String,
    pub(super) generation: i32,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    /// Since when it is in this state, ms since 1970.
    pub(super) since_ms: i64,
    pub(super) members: Vec<StoredMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredMember {
    pub(super) id: String,
    pub(super) instance: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) rebalance_ms: i32,
    pub(super) session_ms: i32,
    pub(super) subscription: Bytes,
    pub(super) assignment: Bytes,
}

pub(super) fn offset_key(group: &str, topic: &str, partition: i32) -> Vec<u8> {
    let mut out = OFFSET_KEY.to_be_bytes().to_vec();
    put_string(&mut out, Some(group));
    put_string(&mut out, Some(topic));
    out.extend(partition.to_be_bytes());
    out
}

pub(super) fn group_key(group: &str) -> Vec<u8> {
    let mut out = GROUP_KEY.to_be_bytes().to_vec();
    put_string(&mut out, Some(group));
    out
}

pub(super) fn offset_value(committed: &Committed) -> Vec<u8> {
    let mut out = OFFSET_VALUE.to_be_bytes().to_vec();
    out.extend(committed.offset.to_be_bytes());
    out.extend(committed.leader_epoch.to_be_bytes());
    put_varint(&mut out, committed.metadata.len() + 1);
    out.extend(committed.metadata.as_bytes());
    out.extend(committed.commit_ms.to_be_bytes());
    if committed.topic_id.is_nil() {
        put_varint(&mut out, 0);
    } else {
        out.extend([1, 0, 16]);
        out.extend(committed.topic_id.as_bytes());
    }
    out
}

pub(super) fn group_value(group: &StoredGroup) -> Vec<u8> {
    let mut out = GROUP_VALUE.to_be_bytes().to_vec();
    put_string(&mut out, Some(&group.protocol_type));
    out.extend(group.generation.to_be_bytes());
    put_string(&mut out, group.protocol.as_deref());
    put_string(&mut out, group.leader.as_deref());
    out.extend(group.since_ms.to_be_bytes());
    out.extend((group.members.len() as i32).to_be_bytes());
    for member in &group.members {
        put_string(&mut out, Some(&member.id));
        put_string(&mut out, member.instance.as_deref());
        put_string(&mut out, Some(&member.client_id));
        put_string(&mut out, Some(&member.client_host));
        out.extend(member.rebalance_ms.to_be_bytes());
        out.extend(member.session_ms.to_be_bytes());
        put_bytes(&mut out, &member.subscription);
        put_bytes(&mut out, &member.assignment);
    }
    out
}

/// # Errors
/// What is wrong with the bytes.
pub(super) fn read_key(bytes: &[u8]) -> Result<Key, &'static str> {
    let mut rest = Rest(bytes);
    Ok(match rest.int16()? {
        0 | OFFSET_KEY => {
            Key::Offset { group: rest.string()?.into(), topic: rest.string()?.into(), partition: rest.int32()? }
        }
        GROUP_KEY => Key::Group { group: rest.string()?.into() },
        other => Key::Other(other),
    })
}

/// # Errors
/// What is wrong with the bytes.
pub(super) fn read_offset(bytes: &[u8]) -> Result<Committed, &'static str> {
    let mut rest = Rest(bytes);
    let version = rest.int16()?;
    if !(0..=OFFSET_VALUE).contains(&version) {
        return Err("an offset of a version that is not known");
    }
    let offset = rest.int64()?;
    let leader_epoch = if version >= 3 { rest.int32()? } else { -1 };
    let metadata: Arc<str> = match version {
        OFFSET_VALUE => rest.compact_string()?.into(),
        _ => rest.string()?.into(),
    };
    let commit_ms = rest.int64()?;
    let topic_id = if version == OFFSET_VALUE { rest.topic_id()? } else { Uuid::nil() };
    Ok(Committed { offset, leader_epoch, metadata, commit_ms, topic_id })
}

/// # Errors
/// What is wrong with the bytes.
pub(super) fn read_group(bytes: &[u8]) -> Result<StoredGroup, &'static str> {
    let mut rest = Rest(bytes);
    let version = rest.int16()?;
    if !(0..=GROUP_VALUE).contains(&version) {
        return Err("a group of a version that is not known");
    }
    let mut group = StoredGroup {
        protocol_type: rest.string()?,
        generation: rest.int32()?,
        protocol: rest.nullable_string()?,
        leader: rest.nullable_string()?,
        since_ms: if version >= 2 { rest.int64()? } else { -1 },
        members: Vec::new(),
    };
    let count = usize::try_from(rest.int32()?).map_err(|_| "a negative count of members")?;
    if count > MEMBERS_MAX {
        return Err("too many members");
    }
    for _ in 0..count {
        let id = rest.string()?;
        let instance = if version >= 3 { rest.nullable_string()? } else { None };
        let (client_id, client_host) = (rest.string()?, rest.string()?);
        let rebalance_ms = if version >= 1 { Some(rest.int32()?) } else { None };
        let session_ms = rest.int32()?;
        let (subscription, assignment) = (rest.bytes()?, rest.bytes()?);
        let rebalance_ms = rebalance_ms.unwrap_or(session_ms);
        group.members.push(StoredMember {
            id,
            instance,
            client_id,
            client_host,
            rebalance_ms,
            session_ms,
            subscription,
            assignment,
        });
    }
    Ok(group)
}

/// No text is longer than its length can say: the coordinator takes no name above [`super::NAME_SIZE_MAX`].
fn put_string(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        None => out.extend((-1i16).to_be_bytes()),
        Some(text) => {
            out.extend((text.len() as i16).to_be_bytes());
            out.extend(text.as_bytes());
        }
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as i32).to_be_bytes());
    out.extend(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, size: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(size).ok_or("it is cut off")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or("it is cut off")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn int16(&mut self) -> Result<i16, &'static str> {
        self.array().map(i16::from_be_bytes)
    }

    fn int32(&mut self) -> Result<i32, &'static str> {
        self.array().map(i32::from_be_bytes)
    }

    fn int64(&mut self) -> Result<i64, &'static str> {
        self.array().map(i64::from_be_bytes)
    }

    fn varint(&mut self) -> Result<usize, &'static str> {
        let mut value = 0usize;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number that does not end")
    }

    fn text(&mut self, size: usize) -> Result<String, &'static str> {
        let text = std::str::from_utf8(self.take(size)?).map_err(|_| "a text that is not UTF-8")?;
        Ok(text.to_owned())
    }

    fn nullable_string(&mut self) -> Result<Option<String>, &'static str> {
        match self.int16()? {
            -1 => Ok(None),
            size => self.text(usize::try_from(size).map_err(|_| "a negative length")?).map(Some),
        }
    }

    fn string(&mut self) -> Result<String, &'static str> {
        self.nullable_string()?.ok_or("null where a text must stand")
    }

    fn compact_string(&mut self) -> Result<String, &'static str> {
        let size = self.varint()?.checked_sub(1).ok_or("null where a text must stand")?;
        self.text(size)
    }

    fn bytes(&mut self) -> Result<Bytes, &'static str> {
        let size = usize::try_from(self.int32()?).map_err(|_| "a negative length")?;
        self.take(size).map(Bytes::copy_from_slice)
    }

    /// The tags of an offset: 0 is the topic's id, others are passed over.
    fn topic_id(&mut self) -> Result<Uuid, &'static str> {
        let mut id = Uuid::nil();
        for _ in 0..self.varint()? {
            let (tag, size) = (self.varint()?, self.varint()?);
            let value = self.take(size)?;
            if tag == 0 {
                id = Uuid::from_slice(value).map_err(|_| "a topic id that is none")?;
            }
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(id: &str, instance: Option<&str>) -> StoredMember {
        StoredMember {
            id: id.to_owned(),
            instance: instance.map(str::to_owned),
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            rebalance_ms: 300_000,
            session_ms: 45_000,
            subscription: Bytes::from_static(b"\0\x01"),
            assignment: Bytes::from_static(b"\0\x01\0"),
        }
    }

    #[test]
    fn the_bytes_are_kafkas() {
        assert_eq!(offset_key("g", "t", 3), b"\0\x01\0\x01g\0\x01t\0\0\0\x03");
        assert_eq!(group_key("g"), b"\0\x02\0\x01g");
        let committed = Committed {
            offset: 5,
            leader_epoch: 2,
            metadata: "m".into(),
            commit_ms: 258,
            topic_id: Uuid::from_u128(7),
        };
        let mut expected = b"\0\x04\0\0\0\0\0\0\0\x05\0\0\0\x02\x02m\0\0\0\0\0\0\x01\x02\x01\0\x10".to_vec();
        expected.extend(7u128.to_be_bytes());
        assert_eq!(offset_value(&committed), expected);
        // Version 3, as Kafka up to 4.0 writes it.
        let old = b"\0\x03\0\0\0\0\0\0\0\x05\0\0\0\x02\0\x01m\0\0\0\0\0\0\x01\x02";
        assert_eq!(read_offset(old).unwrap(), Committed { topic_id: Uuid::nil(), ..committed });
        let group = StoredGroup {
            protocol_type: "consumer".to_owned(),
            generation: 1,
            protocol: None,
            leader: None,
            since_ms: 9,
            members: vec![],
        };
        let expected = b"\0\x03\0\x08consumer\0\0\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\x09\0\0\0\0";
        assert_eq!(group_value(&group), expected);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_what_is_cut_is_told(
            name in "[a-zé]{0,9}", partition: i32, offset: i64, epoch: i32, ms: i64, id: u128, has_instance: bool
        ) {
            let key = Key::Offset { group: name.as_str().into(), topic: "t".into(), partition };
            prop_assert_eq!(read_key(&offset_key(&name, "t", partition)), Ok(key));
            prop_assert_eq!(read_key(&group_key(&name)), Ok(Key::Group { group: name.as_str().into() }));
            let committed = Committed {
                offset, leader_epoch: epoch, metadata: name.as_str().into(), commit_ms: ms, topic_id: Uuid::from_u128(id)
            };
            let bytes = offset_value(&committed);
            prop_assert_eq!(read_offset(&bytes), Ok(committed));
            for cut in 0..bytes.len() {
                prop_assert!(read_offset(&bytes[..cut]).is_err());
            }
            let group = StoredGroup {
                protocol_type: name.clone(), generation: epoch, protocol: Some(name.clone()), leader: Some("a".to_owned()),
                since_ms: ms, members: vec![member("a", has_instance.then_some("i")), member(&name, None)],
            };
            let bytes = group_value(&group);
            prop_assert_eq!(read_group(&bytes), Ok(group));
            for cut in 0..bytes.len() {
                prop_assert!(read_group(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn garbage_is_told(bytes: Vec<u8>) {
            let _ = (read_key(&bytes), read_offset(&bytes), read_group(&bytes));
        }
    }
}
