//! What there is, by group, and page by page.

use super::letter::time_text;
use super::{Error, Filter, Letter, Letters, is_in};
use crate::store::Topic;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Bytes of values that one page shows; one letter is always shown.
const PAGE_SIZE: usize = 4 << 20;
/// Letters of one page.
const PAGE_LETTERS_MAX: usize = 1_000;

/// Letters of one topic that are alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    pub topic: String,
    pub pipeline: Option<String>,
    pub reason: String,
    pub step: String,
    pub output: String,
    pub letters: u64,
    /// Neither replayed nor sent on nor dropped.
    pub open: u64,
    /// Times of the oldest and the newest record, RFC 3339.
    pub first: String,
    pub last: String,
    /// Age of the oldest open one's record.
    pub oldest_open_seconds: Option<f64>,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub partition: i32,
    pub offset: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page {
    pub letters: Vec<Value>,
    /// Where the next one begins, if there may be more.
    pub next: Option<Place>,
}

#[derive(Default)]
struct Sum {
    letters: u64,
    open: u64,
    /// Times.
    first: i64,
    last: i64,
    oldest_open: Option<i64>,
}

impl Letters {
    /// Counts letters that are alike: of all topics that hold some, of one, or of one pipeline. `others` names more topics than those
    /// ending in `-dlt`. Reads them whole.
    ///
    /// # Errors
    /// [`Error`]
    pub fn list(&self, name: Option<&str>, others: &[String], now_ms: i64) -> Result<Vec<Group>, Error> {
        let topics = self.topics(others);
        let own = name.and_then(|name| topics.iter().find(|topic| topic.name.as_str() == name).cloned());
        let filter = match (name, &own) {
            (Some(name), None) => Filter { pipeline: Some(name.to_owned()), ..Filter::default() },
            _ => Filter::default(),
        };
        let mut groups = Vec::new();
        for topic in own.as_ref().map_or(topics.as_slice(), std::slice::from_ref) {
            self.group(topic, &filter, now_ms, &mut groups)?;
        }
        if let (Some(name), None, true) = (name, own, groups.is_empty()) {
            // No pipeline failed by that name: a source's letters, such as those of the HTTP door.
            match topics.iter().find(|topic| topic.name.as_str().strip_suffix("-dlt") == Some(name)) {
                Some(topic) => self.group(topic, &Filter::default(), now_ms, &mut groups)?,
                None => {
                    let known: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
                    let known = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
                    return Err(Error::Unknown { name: name.to_owned(), known });
                }
            }
        }
        Ok(groups)
    }

    fn group(&self, topic: &Topic, filter: &Filter, now_ms: i64, groups: &mut Vec<Group>) -> Result<(), Error> {
        let handled = self.handled(topic)?;
        type Name = (Option<String>, String, String, String);
        let mut sums: BTreeMap<Name, Sum> = BTreeMap::new();
        self.scan(topic, filter, |letter| {
            if filter.takes(letter) {
                let name: Name = (
                    letter.pipeline().map(Into::into),
                    letter.reason().into(),
                    letter.step().into(),
                    letter.outputs().into(),
                );
                let time = letter.record.timestamp;
                let sum = sums.entry(name).or_insert(Sum { first: time, last: time, ..Sum::default() });
                sum.letters += 1;
                (sum.first, sum.last) = (sum.first.min(time), sum.last.max(time));
                if !is_in(&handled, letter.partition, letter.record.offset.0) {
                    sum.open += 1;
                    sum.oldest_open = Some(sum.oldest_open.map_or(time, |oldest| oldest.min(time)));
                }
            }
            ControlFlow::Continue(())
        })?;
        groups.extend(sums.into_iter().map(|((pipeline, reason, step, output), sum)| Group {
            topic: topic.name.to_string(),
            pipeline,
            reason,
            step,
            output,
            letters: sum.letters,
            open: sum.open,
            first: time_text(sum.first),
            last: time_text(sum.last),
            oldest_open_seconds: sum.oldest_open.map(|oldest| (now_ms - oldest) as f64 / 1e3),
        }));
        Ok(())
    }

    /// Shows letters one by one, at most `limit`; handled ones too, as such.
    ///
    /// # Errors
    /// [`Error`]
    pub fn page(&self, topic: &Topic, filter: &Filter, from: Option<Place>, limit: usize) -> Result<Page, Error> {
        let handled = self.handled(topic)?;
        let limit = limit.min(PAGE_LETTERS_MAX);
        let mut page = Page { letters: Vec::new(), next: None };
        let mut size = 0;
        for partition in topic.partitions().iter().map(|partition| partition.id().0).filter(|id| filter.is_of(*id)) {
            let begin = match from {
                Some(place) if place.partition > partition => continue,
                Some(place) if place.partition == partition => filter.begin().max(place.offset),
                _ => filter.begin(),
            };
            let own = Filter { partition: Some(partition), from: Some(begin), ..filter.clone() };
            self.scan(topic, &own, |letter: &Letter<'_>| {
                let offset = letter.record.offset.0;
                if page.letters.len() >= limit || size >= PAGE_SIZE {
                    page.next = Some(Place { partition, offset });
                    return ControlFlow::Break(());
                }
                if own.takes(letter) {
                    size += letter.record.value.as_ref().map_or(0, |value| value.len());
                    page.letters.push(letter.json(is_in(&handled, partition, offset)));
                }
                ControlFlow::Continue(())
            })?;
            if page.next.is_some() {
                break;
            }
        }
        Ok(page)
    }
}
