//! One topic's settings, under Kafka's names where Kafka has them and `inrush.*` where it does not.
//!
//! One table (`settings.rs`) says name, kind, default and meaning; describe lists it, parse reads it.

mod settings;

use crate::config::nearest;
use crate::record::{Batch, BatchError, Codec, DECODED_SIZE_MAX};
use settings::{SETTINGS, Setting};
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
    /// Old segments leave, by age and size.
    pub deletes: bool,
    /// Of each key the last record stays.
    pub compacts: bool,
    /// `None`: for ever.
    pub retention_ms: Option<i64>,
    /// `None`: without limit.
    pub retention_bytes: Option<u64>,
    pub segment_bytes: u64,
    /// At least one pass sees each record within [`TopicConfig::max_compaction_lag_ms`]: then it is no longer than that.
    pub segment_ms: i64,
    pub segment_jitter_ms: i64,
    pub delete_retention_ms: i64,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    pub min_cleanable_dirty_ratio: f64,
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
    /// The codec that all batches are stored in; `None`: the one they came in.
    pub compression: Option<Codec>,
    pub compress_uncompressed: bool,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub check_records: bool,
    pub transcode: bool,
    /// What is read from the disk is checked before it is sent.
    pub check_fetched: bool,
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
    /// Kafka's kind: long, int, double, string, list, boolean.
    pub kind: &'static str,
    pub meaning: &'static str,
}

/// A change of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    Set(String),
    /// Back to the default.
    Reset,
    /// These values behind those of the list that it lacks.
    Append(String),
    /// The list without these values.
    Subtract(String),
}

/// Why settings are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("there is no topic setting \"{name}\"{hint}")]
    Unknown { name: String, hint: String },
    #[error("topic setting {name} cannot be \"{value}\": {reason}")]
    Value { name: String, value: String, reason: String },
    #[error("topic setting {name} is no list that one could add to or take from")]
    NoList { name: String },
}

/// The largest batch a topic may allow: what recovery and readers are ready to hold.
pub const MESSAGE_BYTES_MAX: usize = 100 << 20;
/// Where answers come before syncs, a checkpoint syncs about once a second.
const FLUSH_MS_MIN_OS: i64 = 1_000;

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

    fn ratio(&self) -> Result<f64, ConfigError> {
        let ratio: f64 = self.text.parse().map_err(|_| self.wrong("it is not a number"))?;
        if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err(self.wrong("it must lie between 0 and 1")) }
    }

    /// Whether `delete` and `compact` stand in the list.
    fn policy(&self) -> Result<(bool, bool), ConfigError> {
        let (mut deletes, mut compacts) = (false, false);
        for name in self.text.split(',').map(str::trim) {
            match name {
                "delete" => deletes = true,
                "compact" => compacts = true,
                _ => return Err(self.wrong("it is a list of delete and compact")),
            }
        }
        Ok((deletes, compacts))
    }

    fn is_fixed(&self, to: &str) -> Result<(), ConfigError> {
        let told = if to.is_empty() { "empty" } else { to };
        if self.text == to { Ok(()) } else { Err(self.wrong(format!("it has no effect here and is always {told}"))) }
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
        for setting in SETTINGS {
            check_without_effect(&value(setting.name), setting)?;
        }
        let (deletes, compacts) = value("cleanup.policy").policy()?;
        let segment_ms = value("segment.ms").number(1, i64::MAX)?;
        let max_compaction_lag_ms = value("max.compaction.lag.ms").number(1, i64::MAX)?;
        let config = TopicConfig {
            deletes,
            compacts,
            segment_ms: if compacts { segment_ms.min(max_compaction_lag_ms) } else { segment_ms },
            segment_jitter_ms: value("segment.jitter.ms").number(0, i64::MAX)?,
            delete_retention_ms: value("delete.retention.ms").number(0, i64::MAX)?,
            min_compaction_lag_ms: value("min.compaction.lag.ms").number(0, i64::MAX)?,
            max_compaction_lag_ms,
            min_cleanable_dirty_ratio: value("min.cleanable.dirty.ratio").ratio()?,
            compression: value("compression.type").one_of(&[
                ("producer", None),
                ("gzip", Some(Codec::Gzip)),
                ("snappy", Some(Codec::Snappy)),
                ("lz4", Some(Codec::Lz4)),
                ("zstd", Some(Codec::Zstd)),
                ("uncompressed", Some(Codec::None)),
            ])?,
            timestamp_before_max_ms: value("message.timestamp.before.max.ms").number(0, i64::MAX)?,
            timestamp_after_max_ms: value("message.timestamp.after.max.ms").number(0, i64::MAX)?,
            retention_ms: value("retention.ms").limit()?,
            retention_bytes: value("retention.bytes").limit()?.map(|bytes| bytes as u64),
            segment_bytes: value("segment.bytes").number(1 << 14, i64::from(i32::MAX))? as u64,
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
            check_fetched: value("inrush.fetch.check").one_of(&[("crc", true), ("none", false)])?,
            log_append_time: value("message.timestamp.type")
                .one_of(&[("LogAppendTime", true), ("CreateTime", false)])?,
            retention_by_timestamp: value("inrush.retention.by").one_of(&[("timestamp", true), ("arrival", false)])?,
            linger: Duration::from_millis(value("inrush.batcher.linger.ms").number(0, 60_000)? as u64),
        };
        if config.min_compaction_lag_ms > config.max_compaction_lag_ms {
            return Err(value("min.compaction.lag.ms").wrong("it is more than max.compaction.lag.ms"));
        }
        if config.durability == Durability::Os {
            // A promise that only fsync keeps.
            value("flush.messages").is_fixed(default_of("flush.messages"))?;
            value("flush.ms").number(FLUSH_MS_MIN_OS, i64::MAX)?;
        }
        Ok(config)
    }

    /// The codec of batches that are built here.
    pub fn own_codec(&self) -> Codec {
        self.compression.unwrap_or(Codec::Zstd)
    }

    /// A batch as the topic stores it: in the codec that it names, if it names one, and in a form of it that every client reads.
    ///
    /// # Errors
    /// [`BatchError`]: it cannot be decompressed, or to too much.
    pub fn in_codec(&self, batch: Batch) -> Result<Batch, BatchError> {
        match self.compression {
            Some(codec) if batch.header().codec != codec => batch.recoded(codec, DECODED_SIZE_MAX),
            _ if batch.has_linked_blocks() => batch.recoded(Codec::Lz4, DECODED_SIZE_MAX),
            _ => Ok(batch),
        }
    }

    /// Whether there is a setting of this name.
    ///
    /// # Errors
    /// [`ConfigError::Unknown`] with the nearest one.
    pub fn check_name(name: &str) -> Result<(), ConfigError> {
        setting_of(name).map(drop)
    }

    /// The overrides after these changes, each of which sees those before it. Whether the values are right is for [`TopicConfig::parse`].
    ///
    /// # Errors
    /// [`ConfigError::Unknown`]; [`ConfigError::NoList`].
    pub fn changed(
        overrides: &[(String, String)],
        changes: &[(String, ConfigChange)],
    ) -> Result<Vec<(String, String)>, ConfigError> {
        let mut overrides = overrides.to_vec();
        for (name, change) in changes {
            // A reset of a name that nobody knows is a mistake too.
            let setting = setting_of(name)?;
            let value = match change {
                ConfigChange::Set(value) => Some(value.clone()),
                ConfigChange::Reset => None,
                ConfigChange::Append(_) | ConfigChange::Subtract(_) if setting.kind != "list" => {
                    return Err(ConfigError::NoList { name: name.clone() });
                }
                ConfigChange::Append(more) => {
                    let mut values = list(current(&overrides, setting.name).0);
                    for value in list(more) {
                        if !values.contains(&value) {
                            values.push(value);
                        }
                    }
                    Some(values.join(","))
                }
                ConfigChange::Subtract(less) => {
                    let mut values = list(current(&overrides, setting.name).0);
                    values.retain(|value| !list(less).contains(value));
                    Some(values.join(","))
                }
            };
            overrides.retain(|(known, _)| known != name);
            overrides.extend(value.map(|value| (name.clone(), value)));
        }
        Ok(overrides)
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

fn setting_of(name: &str) -> Result<&'static Setting, ConfigError> {
    SETTINGS.iter().find(|setting| setting.name == name).ok_or_else(|| {
        let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        let hint = nearest(name, &known).map_or(String::new(), |known| format!("; did you mean {known}?"));
        ConfigError::Unknown { name: name.to_owned(), hint }
    })
}

/// The values of a list.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()).collect()
}

/// Settings that change nothing here: their values are checked as Kafka's are, and must be harmless.
fn check_without_effect(value: &Value<'_>, setting: &Setting) -> Result<(), ConfigError> {
    match setting.name {
        "compression.gzip.level" | "compression.lz4.level" | "compression.zstd.level" => {
            value.is_fixed(setting.default)
        }
        "local.retention.bytes" | "local.retention.ms" => value.is_fixed(setting.default),
        "remote.log.copy.disable" | "remote.log.delete.on.disable" | "remote.storage.enable" => {
            value.is_fixed(setting.default)
        }
        "follower.replication.throttled.replicas" | "leader.replication.throttled.replicas" => {
            value.is_fixed(setting.default)
        }
        "file.delete.delay.ms" | "flush.ms" | "index.interval.bytes" => value.number(0, i64::MAX).map(drop),
        "flush.messages" => value.number(1, i64::MAX).map(drop),
        "min.insync.replicas" => value.number(1, i64::from(i32::MAX)).map(drop),
        "segment.index.bytes" => value.number(4, i64::from(i32::MAX)).map(drop),
        "preallocate" | "unclean.leader.election.enable" => value.one_of(&[("true", ()), ("false", ())]),
        _ => Ok(()),
    }
}

fn default_of(name: &str) -> &'static str {
    SETTINGS.iter().find(|setting| setting.name == name).map_or("", |setting| setting.default)
}

fn current<'a>(overrides: &'a [(String, String)], name: &'static str) -> (&'a str, ConfigSource) {
    match overrides.iter().rev().find(|(key, _)| key == name) {
        Some((_, value)) => (value, ConfigSource::Topic),
        None => (default_of(name), ConfigSource::Default),
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
    fn the_table_is_in_order_and_has_what_kafka_4_1_lists() {
        let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        assert!(names.is_sorted());
        let of_kafka: Vec<&str> = names.into_iter().filter(|name| !name.starts_with("inrush.")).collect();
        assert_eq!(of_kafka.len(), 33, "{of_kafka:?}");
    }

    #[test]
    fn a_cleanup_policy_is_a_list() {
        let policy = |text: &str| set("cleanup.policy", text).map(|config| (config.deletes, config.compacts));
        assert_eq!(policy("delete").unwrap(), (true, false));
        assert_eq!(policy("compact").unwrap(), (false, true));
        assert_eq!(policy("compact, delete").unwrap(), (true, true));
        assert!(policy("").is_err() && policy("compact,").is_err() && policy("Compact").is_err());
    }

    #[test]
    fn what_has_no_effect_takes_only_what_is_harmless_and_says_so() {
        for (name, good, bad) in [
            ("remote.storage.enable", "false", "true"),
            ("local.retention.ms", "-2", "1000"),
            ("leader.replication.throttled.replicas", "", "*"),
            ("compression.zstd.level", "3", "19"),
            ("flush.messages", "1", "0"),
            ("preallocate", "true", "yes"),
        ] {
            assert!(set(name, good).is_ok(), "{name}={good}");
            assert!(set(name, bad).is_err(), "{name}={bad}");
            let meaning = SETTINGS.iter().find(|setting| setting.name == name).unwrap().meaning;
            assert!(meaning.starts_with("no effect"), "{name}: {meaning}");
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let both = |a: (&str, &str), b: (&str, &str)| {
            TopicConfig::parse(&[(a.0.to_owned(), a.1.to_owned()), (b.0.to_owned(), b.1.to_owned())])
        };
        assert!(both(("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "9")).is_err());
        assert!(both(("inrush.durability", "os"), ("flush.messages", "1")).is_err());
        assert!(both(("inrush.durability", "os"), ("flush.ms", "999")).is_err());
        assert!(both(("inrush.durability", "fsync"), ("flush.ms", "1")).is_ok());
        let compacted = both(("cleanup.policy", "compact"), ("max.compaction.lag.ms", "60000")).unwrap();
        assert_eq!(compacted.segment_ms, 60_000);
    }

    #[test]
    fn limits_can_be_lifted() {
        assert_eq!(set("retention.ms", "-1").unwrap().retention_ms, None);
        assert_eq!(set("retention.ms", "0").unwrap().retention_ms, Some(0));
        assert!(set("retention.ms", "-2").is_err());
        assert!(set("max.message.bytes", "999999999").is_err());
    }

    #[test]
    fn lists_are_added_to_and_taken_from_and_nothing_else_is() {
        let change = |name: &str, change| vec![(name.to_owned(), change)];
        let capture = |overrides: &[(String, String)]| TopicConfig::parse(overrides).unwrap().http_capture;
        let more = change("inrush.http.capture", ConfigChange::Append("origin, ip".to_owned()));
        let more = TopicConfig::changed(&[], &more).unwrap();
        assert_eq!(capture(&more), ["user-agent", "referer", "origin", "ip"]);
        let less = change("inrush.http.capture", ConfigChange::Subtract("referer,none,user-agent".to_owned()));
        assert_eq!(capture(&TopicConfig::changed(&more, &less).unwrap()), ["origin", "ip"]);
        let all = change("inrush.http.capture", ConfigChange::Subtract("user-agent,referer,origin,ip".to_owned()));
        assert!(capture(&TopicConfig::changed(&more, &all).unwrap()).is_empty());
        assert!(TopicConfig::changed(&more, &change("inrush.http.capture", ConfigChange::Reset)).unwrap().is_empty());
        for wrong in [ConfigChange::Append("5".to_owned()), ConfigChange::Subtract("5".to_owned())] {
            let wrong = TopicConfig::changed(&[], &change("segment.ms", wrong)).unwrap_err();
            assert_eq!(wrong, ConfigError::NoList { name: "segment.ms".to_owned() });
        }
    }

    #[test]
    fn entries_say_where_a_value_comes_from() {
        let entries = TopicConfig::entries(&[("segment.ms".to_owned(), "5".to_owned())]);
        assert_eq!(entries.len(), SETTINGS.len());
        let changed: Vec<_> = entries.iter().filter(|entry| entry.source == ConfigSource::Topic).collect();
        assert_eq!((changed.len(), changed[0].name, changed[0].value.as_str()), (1, "segment.ms", "5"));
    }
}
