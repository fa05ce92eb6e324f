//! Every metric's name, unit, labels and meaning, in one place; [`describe`] tells them to the recorder.
//!
//! Names are `inrush_<room>_<noun>_<unit>[_total]`. Each room counts under its own section here; a client's text is never a label.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// One metric: what dashboards and alerts may rely on. Names are never changed once released.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    /// Label names, comma separated; empty if none.
    pub labels: &'static str,
    pub meaning: &'static str,
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

const fn metric(name: &'static str, kind: Kind, labels: &'static str, meaning: &'static str) -> Metric {
    Metric { name, kind, labels, meaning }
}

// One section a room; each room appends its own lines, and lists them in ALL.

// -- store
pub const STORE_TOPICS: Metric = metric("inrush_store_topics", Kind::Gauge, "", "topics there are");
pub const STORE_APPENDED_BYTES: Metric = metric(
    "inrush_store_appended_bytes_total",
    Kind::Counter,
    "topic",
    "bytes of batches appended to the log, as they are stored",
);
pub const STORE_APPENDED_RECORDS: Metric =
    metric("inrush_store_appended_records_total", Kind::Counter, "topic", "records appended to the log");
pub const STORE_APPENDED_BATCHES: Metric =
    metric("inrush_store_appended_batches_total", Kind::Counter, "", "batches appended to the log");
pub const STORE_QUEUE_APPENDS: Metric = metric(
    "inrush_store_queue_appends",
    Kind::Gauge,
    "",
    "appends that waited for the writer when it took its last round",
);
pub const STORE_QUEUE_BYTES: Metric =
    metric("inrush_store_queue_bytes", Kind::Gauge, "", "bytes of the batches that waited then");
pub const STORE_ROUND_BYTES: Metric = metric(
    "inrush_store_round_bytes",
    Kind::Histogram,
    "",
    "bytes written to one partition in one round, with padding",
);
pub const STORE_WRITE_SECONDS: Metric =
    metric("inrush_store_write_seconds", Kind::Histogram, "", "seconds of a round's writes");
pub const STORE_SYNC_SECONDS: Metric =
    metric("inrush_store_sync_seconds", Kind::Histogram, "", "seconds of a round's syncs");
pub const STORE_COMMIT_SECONDS: Metric =
    metric("inrush_store_commit_seconds", Kind::Histogram, "", "seconds of a whole round: stamp, write, sync, answer");
pub const STORE_READ_BYTES: Metric = metric(
    "inrush_store_read_bytes_total",
    Kind::Counter,
    "from",
    "bytes of batches read: from cache, disk, or unchecked by sendfile",
);
pub const STORE_DAMAGED_READS: Metric =
    metric("inrush_store_damaged_reads_total", Kind::Counter, "", "reads that met a batch with a wrong checksum");
pub const STORE_POISONED: Metric =
    metric("inrush_store_poisoned", Kind::Gauge, "", "1 once a failed write or sync made the data folder read-only");
pub const STORE_LOW_DISK: Metric =
    metric("inrush_store_low_disk", Kind::Gauge, "", "1 while writes are refused for lack of room on the disk");
pub const STORE_FREE_BYTES: Metric =
    metric("inrush_store_free_bytes", Kind::Gauge, "", "bytes free on the data folder's file system");
pub const STORE_CHECKPOINT_SECONDS: Metric =
    metric("inrush_store_checkpoint_seconds", Kind::Histogram, "", "seconds of a checkpoint of the data folder");
pub const STORE_SEGMENTS_DELETED: Metric = metric(
    "inrush_store_segments_deleted_total",
    Kind::Counter,
    "",
    "segments that retention or DeleteRecords took away",
);
pub const STORE_COMPACTION_RUNS: Metric =
    metric("inrush_store_compaction_runs_total", Kind::Counter, "", "passes of compaction that came to their end");
pub const STORE_COMPACTION_FAILURES: Metric =
    metric("inrush_store_compaction_failures_total", Kind::Counter, "", "passes that failed; the log is as it was");
pub const STORE_COMPACTION_READ_BYTES: Metric =
    metric("inrush_store_compaction_read_bytes_total", Kind::Counter, "", "bytes of segments before passes");
pub const STORE_COMPACTION_WRITTEN_BYTES: Metric =
    metric("inrush_store_compaction_written_bytes_total", Kind::Counter, "", "bytes of the same segments after them");
pub const STORE_COMPACTION_REMOVED_RECORDS: Metric = metric(
    "inrush_store_compaction_removed_records_total",
    Kind::Counter,
    "reason",
    "records that passes took away: superseded by a later one of their key, tombstone whose time was over, no-key",
);
pub const STORE_COMPACTION_SECONDS: Metric =
    metric("inrush_store_compaction_seconds", Kind::Histogram, "", "seconds of a pass over one partition");
pub const STORE_COMPACTION_DIRTY_RATIO: Metric = metric(
    "inrush_store_compaction_dirty_ratio",
    Kind::Gauge,
    "",
    "of the compacted partition that has most of it, the part of its sealed bytes that no pass has seen",
);
pub const STORE_COMPACTION_DIRTY_BYTES: Metric = metric(
    "inrush_store_compaction_dirty_bytes",
    Kind::Gauge,
    "",
    "of the compacted partition that has most of them, the sealed bytes that no pass has seen",
);
pub const STORE_RECOVERY_SECONDS: Metric =
    metric("inrush_store_recovery_seconds", Kind::Gauge, "", "seconds that the start needed to open all partitions");
pub const STORE_RECOVERY_SCANNED_BYTES: Metric =
    metric("inrush_store_recovery_scanned_bytes", Kind::Gauge, "", "bytes of log that the start had to read");
pub const STORE_RECOVERY_CUT_BYTES: Metric =
    metric("inrush_store_recovery_cut_bytes", Kind::Gauge, "", "bytes that the start cut off and copied to lost+found");
// -- ingest
pub const INGEST_MEMORY_BYTES: Metric =
    metric("inrush_ingest_memory_bytes", Kind::Gauge, "", "bytes that requests in flight hold of the ingest budget");
pub const INGEST_MEMORY_LIMIT_BYTES: Metric =
    metric("inrush_ingest_memory_limit_bytes", Kind::Gauge, "", "the ingest budget");
pub const INGEST_QUEUE_CHUNKS: Metric =
    metric("inrush_ingest_queue_chunks", Kind::Gauge, "", "requests' events that wait for the batcher");
pub const INGEST_BATCH_BYTES: Metric = metric(
    "inrush_ingest_batch_bytes",
    Kind::Histogram,
    "",
    "uncompressed bytes of the batches that the batcher sealed",
);
pub const INGEST_RAW_BYTES: Metric =
    metric("inrush_ingest_raw_bytes_total", Kind::Counter, "", "uncompressed bytes that the batcher sealed");
pub const INGEST_STORED_BYTES: Metric =
    metric("inrush_ingest_stored_bytes_total", Kind::Counter, "", "bytes of the same batches as they are stored");
// -- access
pub const ACCESS_THROTTLED_REQUESTS: Metric = metric(
    "inrush_access_throttled_requests_total",
    Kind::Counter,
    "direction",
    "requests whose client had used up a quota and was told to wait: in (produce), out (fetch)",
);
pub const ACCESS_THROTTLED_MILLISECONDS: Metric = metric(
    "inrush_access_throttled_milliseconds_total",
    Kind::Counter,
    "direction",
    "milliseconds that those clients were told to wait",
);
pub const ACCESS_BUCKETS: Metric =
    metric("inrush_access_buckets", Kind::Gauge, "", "users, client ids and addresses whose use is being counted");
// -- server
pub const READY: Metric = metric("inrush_server_ready", Kind::Gauge, "", "1 while /readyz is green");
pub const CONNECTIONS: Metric =
    metric("inrush_server_connections", Kind::Gauge, "door", "connections open now, by door");
// -- server: http
pub const HTTP_EVENTS: Metric =
    metric("inrush_server_http_events_total", Kind::Counter, "", "events taken over HTTP and durable");
pub const HTTP_EVENT_BYTES: Metric =
    metric("inrush_server_http_event_bytes_total", Kind::Counter, "", "bytes of their values");
pub const HTTP_REFUSALS: Metric = metric(
    "inrush_server_http_refusals_total",
    Kind::Counter,
    "status, reason",
    "requests refused, by status and reason; `connection` for connections over the limits",
);
pub const HTTP_QUARANTINED: Metric =
    metric("inrush_server_http_quarantined_total", Kind::Counter, "", "bad lines stored in dead letter topics");
pub const HTTP_TIMES_NOT_BELIEVED: Metric = metric(
    "inrush_server_http_times_not_believed_total",
    Kind::Counter,
    "",
    "events whose own time was missing or far off; the arrival counts",
);
pub const HTTP_POST_SECONDS: Metric = metric(
    "inrush_server_http_post_seconds",
    Kind::Histogram,
    "",
    "seconds from the head of a POST of events to its answer",
);
// -- server: kafka
pub const KAFKA_REQUESTS: Metric =
    metric("inrush_server_kafka_requests_total", Kind::Counter, "api", "requests of Kafka clients");
pub const KAFKA_PRODUCED_RECORDS: Metric = metric(
    "inrush_server_kafka_produced_records_total",
    Kind::Counter,
    "",
    "records that Kafka producers sent and the checks let through",
);
pub const KAFKA_PRODUCED_BYTES: Metric = metric(
    "inrush_server_kafka_produced_bytes_total",
    Kind::Counter,
    "",
    "bytes of the same batches as they go to the log",
);
pub const KAFKA_FETCHED_BYTES: Metric =
    metric("inrush_server_kafka_fetched_bytes_total", Kind::Counter, "", "bytes of batches sent to Kafka consumers");
pub const KAFKA_TRANSCODED_BYTES: Metric = metric(
    "inrush_server_kafka_transcoded_bytes_total",
    Kind::Counter,
    "",
    "bytes of batches after they were decompressed for clients that may not read zstd",
);
pub const KAFKA_CLOSED: Metric = metric(
    "inrush_server_kafka_closed_total",
    Kind::Counter,
    "reason",
    "connections that the door closed or did not take: slow, idle, malformed, too-large, not-served, no-room, connections, ...",
);
pub const KAFKA_ERRORS: Metric = metric(
    "inrush_server_kafka_errors_total",
    Kind::Counter,
    "code",
    "partitions of produce requests that were refused, by error",
);
// -- stream
pub const STREAM_RECORDS: Metric = metric(
    "inrush_stream_records_total",
    Kind::Counter,
    "pipeline",
    "records read, again after a restart from the last cut",
);
pub const STREAM_ROWS: Metric =
    metric("inrush_stream_rows_total", Kind::Counter, "pipeline", "rows written to outputs");
pub const STREAM_FILTERED: Metric = metric(
    "inrush_stream_filtered_total",
    Kind::Counter,
    "pipeline,reason",
    "rows that are no output: where was false or null, no-route, empty, sample, duplicate, cool-down, replaced, late, future, no-time, full; or passed over (content-type)",
);
pub const STREAM_DEAD_LETTERS: Metric =
    metric("inrush_stream_dead_letters_total", Kind::Counter, "pipeline,reason", "records that became dead letters");
pub const STREAM_LOST_RECORDS: Metric = metric(
    "inrush_stream_lost_records_total",
    Kind::Counter,
    "pipeline",
    "records that left the log before the pipeline read them",
);
pub const STREAM_LAG_RECORDS: Metric = metric(
    "inrush_stream_lag_records",
    Kind::Gauge,
    "pipeline",
    "records between the pipeline and the end of its topic; as it told last, while it is silent",
);
pub const STREAM_LAG_SECONDS: Metric = metric(
    "inrush_stream_lag_seconds",
    Kind::Gauge,
    "pipeline",
    "age of the oldest record that was not read; 0 at the end; as it told last, while it is silent",
);
pub const STREAM_RETENTION_USED: Metric = metric(
    "inrush_stream_retention_used_ratio",
    Kind::Gauge,
    "pipeline",
    "the lag in seconds as a part of its topic's retention.ms: at 1 records leave the log unread",
);
pub const STREAM_RETRIES: Metric = metric(
    "inrush_stream_retries_total",
    Kind::Counter,
    "pipeline",
    "attempts after the first for a record that an output refused",
);
pub const STREAM_STALLS: Metric =
    metric("inrush_stream_stalls_total", Kind::Counter, "pipeline", "times that an output was found down");
pub const STREAM_STALLED: Metric =
    metric("inrush_stream_stalled", Kind::Gauge, "pipeline", "1 while the pipeline waits for an output that is down");
pub const STREAM_SILENT_RESTARTS: Metric = metric(
    "inrush_stream_silent_restarts_total",
    Kind::Counter,
    "pipeline",
    "times that a pipeline gave no sign of life and was started again",
);
pub const STREAM_RELOADS: Metric = metric(
    "inrush_stream_reloads_total",
    Kind::Counter,
    "result",
    "pipeline files read by a start or a reload: started, swapped, unchanged, stopped, refused",
);
pub const STREAM_LATE_ROWS: Metric = metric(
    "inrush_stream_late_rows_total",
    Kind::Counter,
    "pipeline",
    "rows whose partition time lies before 1970 or more than a day ahead; they are in __HIVE_DEFAULT_PARTITION__",
);
pub const STREAM_SINK_BYTES: Metric = metric(
    "inrush_stream_sink_bytes_total",
    Kind::Counter,
    "pipeline",
    "bytes of the files that outputs have finished",
);
pub const STREAM_OPEN_FILES: Metric =
    metric("inrush_stream_open_files", Kind::Gauge, "pipeline", "files that the output has open");
pub const STREAM_FILES_TAKEN_AWAY: Metric = metric(
    "inrush_stream_files_taken_away_total",
    Kind::Counter,
    "pipeline",
    "files of a last cut that were gone when the pipeline started",
);
pub const STREAM_LAST_CUT_AGE: Metric = metric(
    "inrush_stream_last_cut_age_seconds",
    Kind::Gauge,
    "pipeline",
    "seconds since the last cut of this run; 0 before the first",
);
pub const STREAM_FILES: Metric =
    metric("inrush_stream_files_total", Kind::Counter, "pipeline", "files that outputs have finished");
pub const STREAM_CUT_SECONDS: Metric = metric(
    "inrush_stream_cut_seconds",
    Kind::Histogram,
    "pipeline",
    "seconds of a cut: close, sync, checkpoint, rename",
);
pub const STREAM_STATE_BYTES: Metric =
    metric("inrush_stream_state_bytes", Kind::Gauge, "pipeline", "memory of what the steps remember, about");
pub const STREAM_STATE_EVICTED: Metric = metric(
    "inrush_stream_state_evicted_keys_total",
    Kind::Counter,
    "pipeline",
    "keys that a step forgot before their time, because it may remember no more",
);
pub const STREAM_TABLE_BYTES: Metric =
    metric("inrush_stream_table_bytes", Kind::Gauge, "pipeline", "memory of the tables that enrich looks up in");
pub const STREAM_TABLE_CHANGES: Metric = metric(
    "inrush_stream_table_changes_total",
    Kind::Counter,
    "pipeline, result",
    "files of tables that were swapped in or refused, and records of their topics that are no row (bad-record)",
);
pub const STREAM_UP: Metric =
    metric("inrush_stream_up", Kind::Gauge, "pipeline", "0 while the pipeline is stalled or has failed");
pub const STREAM_SILENCE_SECONDS: Metric = metric(
    "inrush_stream_silence_seconds",
    Kind::Gauge,
    "pipeline",
    "seconds since the pipeline gave a sign of life; over 60 it is started again",
);
pub const STREAM_CPU_SECONDS: Metric = metric(
    "inrush_stream_cpu_seconds_total",
    Kind::Counter,
    "pipeline",
    "CPU time that the pipeline took: its own thread, and its jobs on the shared ones",
);
pub const STREAM_CPU_HELD_SECONDS: Metric = metric(
    "inrush_stream_cpu_held_seconds_total",
    Kind::Counter,
    "pipeline",
    "seconds that the pipeline stood still because it had taken its share of the cores (cpu)",
);
// -- daemon
pub const DAEMON_RESIDENT_BYTES: Metric =
    metric("inrush_daemon_resident_bytes", Kind::Gauge, "", "memory that the process holds");
pub const DAEMON_OPEN_FILES: Metric =
    metric("inrush_daemon_open_files", Kind::Gauge, "", "files and sockets that the process has open");
pub const DAEMON_START_SECONDS: Metric =
    metric("inrush_daemon_start_seconds", Kind::Gauge, "", "seconds from process start until the doors were open");

// -- group
pub const GROUPS: Metric = metric("inrush_group_groups", Kind::Gauge, "", "consumer groups");
pub const GROUPS_UP: Metric = metric(
    "inrush_group_up",
    Kind::Gauge,
    "",
    "1 while consumer groups are served, 0 while they are read or cannot be",
);
pub const GROUP_MEMBERS: Metric = metric("inrush_group_members", Kind::Gauge, "", "members of all consumer groups");
pub const GROUP_LAG_RECORDS: Metric = metric(
    "inrush_group_lag_records",
    Kind::Gauge,
    "group, topic",
    "records between what a group has committed and the end; the first 1000 pairs, then other",
);

/// All metrics, in the order of the sections above.
pub const ALL: &[Metric] = &[
    // -- store
    STORE_TOPICS,
    STORE_APPENDED_BYTES,
    STORE_APPENDED_RECORDS,
    STORE_APPENDED_BATCHES,
    STORE_QUEUE_APPENDS,
    STORE_QUEUE_BYTES,
    STORE_ROUND_BYTES,
    STORE_WRITE_SECONDS,
    STORE_SYNC_SECONDS,
    STORE_COMMIT_SECONDS,
    STORE_READ_BYTES,
    STORE_DAMAGED_READS,
    STORE_POISONED,
    STORE_LOW_DISK,
    STORE_FREE_BYTES,
    STORE_CHECKPOINT_SECONDS,
    STORE_SEGMENTS_DELETED,
    STORE_COMPACTION_RUNS,
    STORE_COMPACTION_FAILURES,
    STORE_COMPACTION_READ_BYTES,
    STORE_COMPACTION_WRITTEN_BYTES,
    STORE_COMPACTION_REMOVED_RECORDS,
    STORE_COMPACTION_SECONDS,
    STORE_COMPACTION_DIRTY_RATIO,
    STORE_COMPACTION_DIRTY_BYTES,
    STORE_RECOVERY_SECONDS,
    STORE_RECOVERY_SCANNED_BYTES,
    STORE_RECOVERY_CUT_BYTES,
    // -- ingest
    INGEST_MEMORY_BYTES,
    INGEST_MEMORY_LIMIT_BYTES,
    INGEST_QUEUE_CHUNKS,
    INGEST_BATCH_BYTES,
    INGEST_RAW_BYTES,
    INGEST_STORED_BYTES,
    // -- group
    GROUPS,
    GROUPS_UP,
    GROUP_MEMBERS,
    GROUP_LAG_RECORDS,
    // -- access
    ACCESS_THROTTLED_REQUESTS,
    ACCESS_THROTTLED_MILLISECONDS,
    ACCESS_BUCKETS,
    // -- server
    READY,
    CONNECTIONS,
    // -- server: http
    HTTP_EVENTS,
    HTTP_EVENT_BYTES,
    HTTP_REFUSALS,
    HTTP_QUARANTINED,
    HTTP_TIMES_NOT_BELIEVED,
    HTTP_POST_SECONDS,
    // -- server: kafka
    KAFKA_REQUESTS,
    KAFKA_PRODUCED_RECORDS,
    KAFKA_PRODUCED_BYTES,
    KAFKA_FETCHED_BYTES,
    KAFKA_TRANSCODED_BYTES,
    KAFKA_CLOSED,
    KAFKA_ERRORS,
    // -- stream
    STREAM_RECORDS,
    STREAM_ROWS,
    STREAM_FILTERED,
    STREAM_DEAD_LETTERS,
    STREAM_LOST_RECORDS,
    STREAM_LAG_RECORDS,
    STREAM_LAG_SECONDS,
    STREAM_RETENTION_USED,
    STREAM_RETRIES,
    STREAM_STALLS,
    STREAM_STALLED,
    STREAM_SILENT_RESTARTS,
    STREAM_RELOADS,
    STREAM_LATE_ROWS,
    STREAM_SINK_BYTES,
    STREAM_OPEN_FILES,
    STREAM_FILES_TAKEN_AWAY,
    STREAM_LAST_CUT_AGE,
    STREAM_STATE_BYTES,
    STREAM_STATE_EVICTED,
    STREAM_FILES,
    STREAM_CUT_SECONDS,
    STREAM_TABLE_BYTES,
    STREAM_TABLE_CHANGES,
    STREAM_UP,
    STREAM_SILENCE_SECONDS,
    STREAM_CPU_SECONDS,
    STREAM_CPU_HELD_SECONDS,
    // -- daemon
    DAEMON_RESIDENT_BYTES,
    DAEMON_OPEN_FILES,
    DAEMON_START_SECONDS,
];

/// Topics that get a label of their own; later ones share `other`, so that nobody can fill the metrics with names.
const TOPICS_LABELLED_MAX: usize = 1_000;

/// Counters of what is appended to one topic. Handles: made once, counted on without a look-up.
pub struct TopicMeters {
    pub bytes: metrics::Counter,
    pub records: metrics::Counter,
}

impl TopicMeters {
    pub fn new(topic: &str) -> TopicMeters {
        let topic = topic_label(topic, TOPICS_LABELLED_MAX);
        TopicMeters {
            bytes: metrics::counter!(STORE_APPENDED_BYTES.name, "topic" => topic.clone()),
            records: metrics::counter!(STORE_APPENDED_RECORDS.name, "topic" => topic),
        }
    }
}

/// The name itself for the first `max` topics of this process, then `other`.
fn topic_label(topic: &str, max: usize) -> String {
    static LABELLED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut labelled = LABELLED.lock().unwrap_or_else(PoisonError::into_inner);
    if labelled.len() < max {
        labelled.insert(topic.to_owned());
    }
    if labelled.contains(topic) { topic.to_owned() } else { "other".to_owned() }
}

/// Tells the installed recorder what each metric means.
pub fn describe() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.meaning),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.meaning),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.meaning),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_past_the_limit_share_a_label() {
        assert_eq!(topic_label("first", usize::MAX), "first");
        assert_eq!(topic_label("one-too-many", 0), "other");
        assert_eq!(topic_label("first", 0), "first");
    }

    #[test]
    fn names_follow_the_house_form_and_are_unique() {
        let mut names: Vec<&str> = ALL.iter().map(|metric| metric.name).collect();
        for metric in ALL {
            assert!(metric.name.starts_with("inrush_"), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
