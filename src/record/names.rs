//! What records are named by: topic names, partition numbers, offsets.

use std::fmt;
use std::sync::Arc;

/// A record's number in its partition; the first is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

/// A partition's number in its topic, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub i32);

/// A topic's name, checked: 1 to 249 characters of `[A-Za-z0-9._-]`, neither `.` nor `..` (Kafka's rule; it is a folder name too).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// Why a text is not a topic name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a topic name has 1 to 249 characters, this one has {0}")]
    Length(usize),
    #[error("a topic name cannot be \"{0}\"")]
    Dots(String),
    #[error("a topic name has only letters, digits, '.', '_' and '-'; \"{name}\" has {found:?}")]
    Character { name: String, found: char },
}

/// The topic that consumer groups are kept in.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// The longest topic name.
pub const TOPIC_NAME_CHARS_MAX: usize = 249;

impl TopicName {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`NameError`] says which rule it breaks.
    pub fn new(text: &str) -> Result<TopicName, NameError> {
        if text.is_empty() || text.len() > TOPIC_NAME_CHARS_MAX {
            return Err(NameError::Length(text.chars().count()));
        }
        if text == "." || text == ".." {
            return Err(NameError::Dots(text.to_owned()));
        }
        match text.chars().find(|&c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
            Some(found) => Err(NameError::Character { name: text.to_owned(), found }),
            None => Ok(TopicName(text.into())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic that takes this one's dead letters: `<name>-dlt`, as Spring names it. None for a dead letter topic itself, or if the name would be too long.
    pub fn dead_letters(&self) -> Option<TopicName> {
        if self.is_dead_letters() {
            return None;
        }
        TopicName::new(&format!("{}-dlt", self.0)).ok()
    }

    /// Whether it is kept by the daemon itself: `__consumer_offsets`. Only read by others.
    pub fn is_internal(&self) -> bool {
        self.as_str() == CONSUMER_OFFSETS
    }

    pub fn is_dead_letters(&self) -> bool {
        self.0.ends_with("-dlt")
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Offset {
    /// The offset `count` records on.
    pub fn plus(self, count: i64) -> Offset {
        Offset(self.0 + count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_data_folder_are_refused() {
        for bad in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(250)] {
            assert!(TopicName::new(bad).is_err(), "{bad:?}");
        }
        assert!(TopicName::new("clicks.v1_eu-2").is_ok());
    }

    #[test]
    fn a_dead_letter_topic_has_none_itself() {
        let clicks = TopicName::new("clicks").unwrap();
        let dead = clicks.dead_letters().unwrap();
        assert_eq!(dead.as_str(), "clicks-dlt");
        assert_eq!(dead.dead_letters(), None);
    }
}
