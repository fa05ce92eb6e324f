//! The one table of topic settings: name, kind, default and meaning. Names, kinds and defaults are those of Kafka 4.1 where it has the
//! setting. What has no effect here says so.

/// One setting.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) default: &'static str,
    pub(super) meaning: &'static str,
}

const fn setting(name: &'static str, kind: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, kind, default, meaning }
}

/// Seven days.
const WEEK: &str = "604800000";
const DAY: &str = "86400000";
const HOUR: &str = "3600000";
/// Kafka's "never".
const NEVER: &str = "9223372036854775807";

/// By name.
pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "cleanup.policy",
        "list",
        "delete",
        "delete: old segments leave; compact: of each key the last record stays; both may stand together",
    ),
    setting(
        "compression.gzip.level",
        "int",
        "-1",
        "no effect: gzip is written at its usual level, 6, which is what -1 means",
    ),
    setting("compression.lz4.level", "int", "9", "no effect: lz4 is written at one level"),
    setting(
        "compression.type",
        "string",
        "producer",
        "producer: batches are stored in the codec they came in; gzip, snappy, lz4, zstd, uncompressed: all batches are stored in this one",
    ),
    setting("compression.zstd.level", "int", "3", "no effect: zstd is written at level 1"),
    setting(
        "delete.retention.ms",
        "long",
        DAY,
        "how long a tombstone stays in a compacted topic after the first pass that met it",
    ),
    setting(
        "file.delete.delay.ms",
        "long",
        "60000",
        "no effect: files leave with the next checkpoint, and open readers go on",
    ),
    setting(
        "flush.messages",
        "long",
        NEVER,
        "no effect: with inrush.durability=fsync all is synced before it is answered; with os it cannot be set",
    ),
    setting(
        "flush.ms",
        "long",
        NEVER,
        "no effect: with inrush.durability=fsync all is synced before it is answered; with os at each checkpoint, so not below 1000",
    ),
    setting(
        "follower.replication.throttled.replicas",
        "list",
        "",
        "no effect, always empty: one node has no followers",
    ),
    setting("index.interval.bytes", "int", "4096", "no effect: the index has an entry each 64 KiB"),
    setting(
        "inrush.batcher.linger.ms",
        "long",
        "0",
        "how long the HTTP batcher waits for more events before it seals a batch",
    ),
    setting(
        "inrush.compress.uncompressed",
        "string",
        "zstd",
        "zstd or none: what becomes of batches of 1 KiB or more that a Kafka producer did not compress, with compression.type=producer",
    ),
    setting("inrush.durability", "string", "fsync", "fsync: an answer means synced; os: an answer means written"),
    setting(
        "inrush.fetch.check",
        "string",
        "crc",
        "crc: what is read from the disk is checked before a Kafka consumer gets it; none: it goes from the page cache to the socket, and damage is for the consumer to find (check.crcs)",
    ),
    setting(
        "inrush.fetch.transcode",
        "string",
        "auto",
        "auto: consumers that may not read zstd get batches decompressed; never",
    ),
    setting(
        "inrush.http.capture",
        "list",
        "user-agent,referer,origin",
        "request headers that each event keeps; ip for the address",
    ),
    setting("inrush.http.check", "string", "json", "json, utf8 or none: what the HTTP door checks of an event"),
    setting("inrush.http.key", "string", "", "JSON pointer to the value that becomes the record's key"),
    setting("inrush.http.quarantine", "boolean", "true", "bad lines go to the dead letter topic with their reason"),
    setting("inrush.http.timestamp", "string", "", "JSON pointer to the client's time (RFC 3339 or epoch ms)"),
    setting(
        "inrush.produce.check",
        "string",
        "header",
        "header or records: how far a compressed batch of a Kafka producer is checked; in a compacted topic always each record",
    ),
    setting(
        "inrush.retention.by",
        "string",
        "arrival",
        "arrival or timestamp (Kafka's rule): what retention.ms and min.compaction.lag.ms count from",
    ),
    setting("leader.replication.throttled.replicas", "list", "", "no effect, always empty: one node has no followers"),
    setting("local.retention.bytes", "long", "-2", "no effect, always -2: nothing is tiered, retention.bytes holds"),
    setting("local.retention.ms", "long", "-2", "no effect, always -2: nothing is tiered, retention.ms holds"),
    setting(
        "max.compaction.lag.ms",
        "long",
        NEVER,
        "a record of a compacted topic is cleaned at the latest this long after it came, whatever min.cleanable.dirty.ratio says",
    ),
    setting("max.message.bytes", "int", "1048588", "largest batch, as received"),
    setting(
        "message.timestamp.after.max.ms",
        "long",
        HOUR,
        "how far a record of a Kafka producer may lie in the future; else INVALID_TIMESTAMP",
    ),
    setting(
        "message.timestamp.before.max.ms",
        "long",
        NEVER,
        "how far a record of a Kafka producer may lie in the past; else INVALID_TIMESTAMP",
    ),
    setting("message.timestamp.type", "string", "CreateTime", "CreateTime or LogAppendTime"),
    setting(
        "min.cleanable.dirty.ratio",
        "double",
        "0.5",
        "a compacted partition is cleaned when this part of its sealed bytes is new since the last time",
    ),
    setting("min.compaction.lag.ms", "long", "0", "a record of a compacted topic is not cleaned before it is this old"),
    setting(
        "min.insync.replicas",
        "int",
        "1",
        "replicas that acks=all asks for, of those that there are: one node has one, and every answer means that it is durable there",
    ),
    setting("preallocate", "boolean", "false", "no effect: space is always reserved a little ahead"),
    setting("remote.log.copy.disable", "boolean", "false", "no effect, always false: nothing is tiered"),
    setting("remote.log.delete.on.disable", "boolean", "false", "no effect, always false: nothing is tiered"),
    setting("remote.storage.enable", "boolean", "false", "no effect, always false: nothing is tiered"),
    setting("retention.bytes", "long", "-1", "bytes of a partition that are kept; -1 = all"),
    setting("retention.ms", "long", WEEK, "how long a segment is kept; -1 = for ever"),
    setting("segment.bytes", "int", "1073741824", "size at which a segment is sealed"),
    setting("segment.index.bytes", "int", "10485760", "no effect: an index grows with its segment"),
    setting(
        "segment.jitter.ms",
        "long",
        "0",
        "up to this much is taken off segment.ms, by segment, so that not all roll at once",
    ),
    setting("segment.ms", "long", WEEK, "age at which a segment is sealed"),
    setting("unclean.leader.election.enable", "boolean", "false", "no effect: one node leads all partitions"),
];
