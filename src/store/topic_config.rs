//! CONTRACT STUB: one topic's settings under Kafka's names.

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    Fsync,
    Os,
}

/// What the door checks of a JSON event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpCheck {
    Json,
    Utf8,
    None,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    pub retention_ms: Option<i64>,
    pub retention_bytes: Option<u64>,
    pub segment_bytes: u64,
    pub segment_ms: i64,
    pub max_message_bytes: usize,
    pub durability: Durability,
    /// `inrush.http.check`
    pub http_check: HttpCheck,
    /// `inrush.http.quarantine`
    pub http_quarantine: bool,
    /// `inrush.http.capture`: lower-case header names, and "ip"
    pub http_capture: Vec<String>,
    /// `inrush.http.timestamp`: JSON pointer
    pub http_timestamp: Option<String>,
    /// `inrush.http.key`: JSON pointer
    pub http_key: Option<String>,
    /// `inrush.compress.uncompressed` = zstd | none
    pub compress_uncompressed: bool,
    /// `inrush.produce.check` = header | records
    pub check_records: bool,
    /// `inrush.fetch.transcode` = auto | never
    pub transcode: bool,
    /// `message.timestamp.type` = LogAppendTime
    pub log_append_time: bool,
    /// `inrush.retention.by` = arrival | timestamp
    pub retention_by_timestamp: bool,
    /// `inrush.batcher.linger.ms`
    pub linger: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    Topic,
    Default,
}

/// One line of DescribeConfigs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: &'static str,
    pub value: String,
    pub default: String,
    pub source: ConfigSource,
    pub kind: &'static str,
    pub meaning: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("unknown topic config \"{name}\"{hint}")]
    Unknown { name: String, hint: String },
    #[error("topic config {name} cannot be \"{value}\": {reason}")]
    Value { name: String, value: String, reason: String },
}

impl TopicConfig {
    /// Defaults with `overrides` on them.
    pub fn parse(overrides: &[(String, String)]) -> Result<TopicConfig, ConfigError> {
        let _ = overrides;
        unimplemented!()
    }
    /// Every entry with value, default and source, as DescribeConfigs and `topic describe` list them.
    pub fn entries(overrides: &[(String, String)]) -> Vec<ConfigEntry> {
        let _ = overrides;
        unimplemented!()
    }
}
