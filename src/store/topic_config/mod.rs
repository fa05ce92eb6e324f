//! One topic's settings, under Kafka's names where Kafka has them and `inrush.*` where it does not.
//!
//! One table says name, kind, default and meaning; describe lists it, parse reads it.

use crate::config::nearest;
use std::time::Duration;

/// When an append is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After the sync.
    Fsync,
    /// After the write: a power cut may take the last moments.
    Os,
}

/// What the HTTP door checks of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpCheck {
    Json,
    Utf8,
    None,
}

/// The settings of a topic, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// `None`: for ever.
    pub retention_ms: Option<i64>,
    /// `None`: without limit.
    pub retention_bytes: Option<u64>,
    pub segment_bytes: u64,
    pub segment_ms: i64,
    /// Of a batch as it is received.
    pub max_message_bytes: usize,
    pub durability: Durability,
    pub http_check: HttpCheck,
    pub http_quarantine: bool,
    /// Lower-case header names, and "ip".
    pub http_capture: Vec<String>,
    /// JSON pointer.
    pub http_timestamp: Option<String>,
    /// JSON pointer.
    pub http_key: Option<String>,
    pub compress_uncompressed: bool,
    pub check_records: bool,
    pub transcode: bool,
    pub log_append_time: bool,
    pub retention_by_timestamp: bool,
    pub linger: Duration,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    Topic,
    Default,
}

/// One line of DescribeConfigs and of `topic describe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: &'static str,
    pub value: String,
    pub default: String,
    pub source: ConfigSource,
    /// Kafka's kind: long, int, string, list, boolean.
    pub kind: &'static str,
    pub meaning: &'static str,
}

/// Why settings are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("there is no topic setting \"{name}\"{hint}")]
    Unknown { name: String, hint: String },
    #[error("topic setting {name} cannot be \"{value}\": {reason}")]
    Value { name: String, value: String, reason: String },
}

struct Setting {
    name: &'static str,
    kind: &'static str,
    default: &'static str,
    meaning: &'static str,
}

const fn setting(name: &'static str, kind: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, kind, default, meaning }
}

/// Seven days.
const WEEK: &str = "604800000";
/// The largest batch a topic may allow: what recovery and readers are ready to hold.
pub const MESSAGE_BYTES_MAX: usize = 100 << 20;

const SETTINGS: &[Setting] = &[
    setting("cleanup.policy", "list", "delete", "delete: old segments leave; compaction is not there yet"),
    setting("compression.type", "string", "producer", "producer: batches are stored in the codec they came in"),
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
        "zstd or none: what becomes of batches that a Kafka producer did not compress",
    ),
    setting("inrush.durability", "string", "fsync", "fsync: an answer means synced; os: an answer means written"),
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
        "header or records: how far a compressed batch of a Kafka producer is checked",
    ),
    setting(
        "inrush.retention.by",
        "string",
        "arrival",
        "arrival or timestamp (Kafka's rule): what retention.ms counts from",
    ),
    setting("max.message.bytes", "int", "1048576", "largest batch, as received"),
    setting("message.timestamp.type", "string", "CreateTime", "CreateTime or LogAppendTime"),
    setting(
        "min.insync.replicas",
        "int",
        "1",
        "replicas that must have a batch before acks=all is answered; one node has one",
    ),
    setting("retention.bytes", "long", "-1", "bytes of a partition that are kept; -1 = all"),
    setting("retention.ms", "long", WEEK, "how long a segment is kept; -1 = for ever"),
    setting("segment.bytes", "int", "1073741824", "size at which a segment is sealed"),
    setting("segment.ms", "long", WEEK, "age at which a segment is sealed"),
];

/// Reads values and keeps the name for the error.
struct Value<'a> {
    name: &'static str,
    text: &'a str,
}

impl Value<'_> {
    fn wrong(&self, reason: impl Into<String>) -> ConfigError {
        ConfigError::Value { name: self.name.to_owned(), value: self.text.to_owned(), reason: reason.into() }
    }

    fn number(&self, from: i64, to: i64) -> Result<i64, ConfigError> {
        let number: i64 = self.text.parse().map_err(|_| self.wrong("it is not a whole number"))?;
        if (from..=to).contains(&number) {
            Ok(number)
        } else {
            Err(self.wrong(format!("it must lie between {from} and {to}")))
        }
    }

    /// −1 stands for no limit.
    fn limit(&self) -> Result<Option<i64>, ConfigError> {
        Ok(Some(self.number(-1, i64::MAX)?).filter(|number| *number >= 0))
    }

    fn one_of<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let found = choices.iter().find(|(name, _)| *name == self.text);
        let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        found.map(|(_, choice)| *choice).ok_or_else(|| self.wrong(format!("it is one of {}", names())))
    }

    fn pointer(&self) -> Result<Option<String>, ConfigError> {
        match self.text {
            "" => Ok(None),
            text if text.starts_with('/') => Ok(Some(text.to_owned())),
            _ => Err(self.wrong("a JSON pointer begins with '/', as in /user/id")),
        }
    }

    fn names(&self) -> Result<Vec<String>, ConfigError> {
        let names = self.text.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty());
        let names: Vec<String> = names.collect();
        match names
            .iter()
            .find(|name| !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')))
        {
            Some(bad) => Err(self.wrong(format!("\"{bad}\" is not the name of a header"))),
            None => Ok(names),
        }
    }
}

impl TopicConfig {
    /// The defaults with `overrides` on them; of a name that stands twice the last counts.
    ///
    /// # Errors
    /// [`ConfigError`] for the first that is wrong.
    pub fn parse(overrides: &[(String, String)]) -> Result<TopicConfig, ConfigError> {
        for (name, _) in overrides {
            TopicConfig::check_name(name)?;
        }
        let value = |name: &'static str| Value { name, text: current(overrides, name).0 };
        let on_off = [("true", true), ("false", false)];
        value("cleanup.policy").one_of(&[("delete", ())])?;
        value("compression.type").one_of(&[("producer", ())])?;
        value("min.insync.replicas").number(1, 1)?;
        Ok(TopicConfig {
            retention_ms: value("retention.ms").limit()?,
            retention_bytes: value("retention.bytes").limit()?.map(|bytes| bytes as u64),
            segment_bytes: value("segment.bytes").number(1 << 14, i64::from(i32::MAX))? as u64,
            segment_ms: value("segment.ms").number(1, i64::MAX)?,
            max_message_bytes: value("max.message.bytes").number(0, MESSAGE_BYTES_MAX as i64)? as usize,
            durability: value("inrush.durability").one_of(&[("fsync", Durability::Fsync), ("os", Durability::Os)])?,
            http_check: value("inrush.http.check").one_of(&[
                ("json", HttpCheck::Json),
                ("utf8", HttpCheck::Utf8),
                ("none", HttpCheck::None),
            ])?,
            http_quarantine: value("inrush.http.quarantine").one_of(&on_off)?,
            http_capture: value("inrush.http.capture").names()?,
            http_timestamp: value("inrush.http.timestamp").pointer()?,
            http_key: value("inrush.http.key").pointer()?,
            compress_uncompressed: value("inrush.compress.uncompressed").one_of(&[("zstd", true), ("none", false)])?,
            check_records: value("inrush.produce.check").one_of(&[("records", true), ("header", false)])?,
            transcode: value("inrush.fetch.transcode").one_of(&[("auto", true), ("never", false)])?,
            log_append_time: value("message.timestamp.type")
                .one_of(&[("LogAppendTime", true), ("CreateTime", false)])?,
            retention_by_timestamp: value("inrush.retention.by").one_of(&[("timestamp", true), ("arrival", false)])?,
            linger: Duration::from_millis(value("inrush.batcher.linger.ms").number(0, 60_000)? as u64),
        })
    }

    /// Whether there is a setting of this name.
    ///
    /// # Errors
    /// [`ConfigError::Unknown`] with the nearest one.
    pub fn check_name(name: &str) -> Result<(), ConfigError> {
        if SETTINGS.iter().any(|setting| setting.name == name) {
            return Ok(());
        }
        let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        let hint = nearest(name, &known).map_or(String::new(), |known| format!("; did you mean {known}?"));
        Err(ConfigError::Unknown { name: name.to_owned(), hint })
    }

    /// Every setting with its value under `overrides`, as DescribeConfigs and `topic describe` list them, by name.
    pub fn entries(overrides: &[(String, String)]) -> Vec<ConfigEntry> {
        let entry = |setting: &Setting| {
            let (value, source) = current(overrides, setting.name);
            ConfigEntry {
                name: setting.name,
                value: value.to_owned(),
                default: setting.default.to_owned(),
                source,
                kind: setting.kind,
                meaning: setting.meaning,
            }
        };
        SETTINGS.iter().map(entry).collect()
    }
}

fn current<'a>(overrides: &'a [(String, String)], name: &'static str) -> (&'a str, ConfigSource) {
    match overrides.iter().rev().find(|(key, _)| key == name) {
        Some((_, value)) => (value, ConfigSource::Topic),
        None => {
            let found = SETTINGS.iter().find(|setting| setting.name == name);
            (found.map_or("", |setting| setting.default), ConfigSource::Default)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> Result<TopicConfig, ConfigError> {
        TopicConfig::parse(&[(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn defaults_parse_and_setting_one_to_its_default_changes_nothing() {
        let defaults = TopicConfig::parse(&[]).unwrap();
        for setting in SETTINGS {
            assert_eq!(set(setting.name, setting.default).unwrap(), defaults, "{}", setting.name);
            assert!(set(setting.name, "?rubbish?").is_err(), "{}", setting.name);
        }
    }

    #[test]
    fn a_typo_is_told_what_was_meant() {
        let error = set("retention.msec", "5").unwrap_err().to_string();
        assert!(error.contains("retention.ms"), "{error}");
    }

    #[test]
    fn limits_can_be_lifted() {
        assert_eq!(set("retention.ms", "-1").unwrap().retention_ms, None);
        assert_eq!(set("retention.ms", "0").unwrap().retention_ms, Some(0));
        assert!(set("retention.ms", "-2").is_err());
        assert!(set("max.message.bytes", "999999999").is_err());
    }

    #[test]
    fn entries_say_where_a_value_comes_from() {
        let entries = TopicConfig::entries(&[("segment.ms".to_owned(), "5".to_owned())]);
        assert_eq!(entries.len(), SETTINGS.len());
        let changed: Vec<_> = entries.iter().filter(|entry| entry.source == ConfigSource::Topic).collect();
        assert_eq!((changed.len(), changed[0].name, changed[0].value.as_str()), (1, "segment.ms", "5"));
    }
}
