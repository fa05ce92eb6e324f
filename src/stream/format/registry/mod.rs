//! Schemas by their ids, from a registry that speaks Confluent's REST API. An id is asked for once: what it stands for never changes.
//!
//! Decoding only looks at what is known and tells which ids it lacks; [`Registry::fetch`] gets them, on a thread that may wait. A registry
//! that is down says nothing about a record, so there the pipeline waits and tries again.

mod answers;
mod http;
#[cfg(test)]
mod tests;

pub(super) use http::Access;

use super::{Language, Schema, avro, protobuf};
use crate::stream::life::waiting_for;
use answers::{Answer, Reference, Versioned};
use http::Connection;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// All schemas that one fetch asks for have come after this time, or the registry is down. A pipeline that needs many stops asking after it,
/// tells so and goes on: it does not beat meanwhile.
pub(in crate::stream) const FETCH_TIME_MAX: Duration = Duration::from_secs(10);
/// An id that the registry does not know is asked for again after this time, and so much more for each other such id: a read of many must
/// not find the first ones forgotten when the last ones are known.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);
const UNKNOWN_MORE: Duration = Duration::from_secs(1);
/// Ids that are kept, so that records with ids out of the air fill no memory; at the limit all are asked for again. Many times those of a
/// read.
const KNOWN_MAX: usize = 100_000;
/// Connections of one fetch.
const AT_ONCE: usize = 4;
/// Schemas that one schema refers to, those of the others counted in.
const REFERENCES_MAX: usize = 200;
/// Those that are kept; at the limit all are asked for again.
const REFERRED_MAX: usize = 1_000;

/// One registry, and what is known of it.
#[derive(Debug)]
pub(in crate::stream) struct Registry {
    access: Access,
    language: Language,
    known: RwLock<HashMap<u32, Known>>,
    /// What schemas refer to, by subject and version, which never changes either: a fetch that took too long goes on where it was.
    referred: Mutex<HashMap<(String, i64), Versioned>>,
    /// Ids that were asked for and answered.
    answered: AtomicU64,
    /// One fetch at a time; the next one finds what it wants.
    fetching: Mutex<()>,
}

/// What an id stands for.
#[derive(Clone, Debug)]
enum Known {
    Schema(Arc<Schema>),
    /// Nothing that a value can be read by; `None` = for good.
    Nothing {
        why: Arc<str>,
        until: Option<Instant>,
    },
}

impl Registry {
    /// It is not asked yet.
    pub(super) fn new(access: Access, language: Language) -> Registry {
        Registry {
            access,
            language,
            known: RwLock::default(),
            referred: Mutex::default(),
            answered: AtomicU64::new(0),
            fetching: Mutex::new(()),
        }
    }

    pub(super) fn language(&self) -> Language {
        self.language
    }

    /// How many ids it has answered.
    pub(in crate::stream) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(in crate::stream) fn address(&self) -> String {
        self.access.address().to_string()
    }

    /// The schema of an id, or why it has none; `None` if it is to be fetched.
    pub(super) fn get(&self, id: u32) -> Option<Result<Arc<Schema>, Arc<str>>> {
        match self.known.read().unwrap_or_else(PoisonError::into_inner).get(&id)? {
            Known::Schema(schema) => Some(Ok(schema.clone())),
            Known::Nothing { until: Some(until), .. } if *until <= Instant::now() => None,
            Known::Nothing { why, .. } => Some(Err(why.clone())),
        }
    }

    /// Asks for schemas. Afterwards each id is known, if only as one that there is no schema of. Blocks for `FETCH_TIME_MAX` at most; not to
    /// be called on a task.
    ///
    /// # Errors
    /// The registry cannot be reached, or it has trouble of its own.
    pub(in crate::stream) fn fetch(&self, ids: &[u32]) -> Result<(), String> {
        let _one: MutexGuard<'_, ()> = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        let down = |reason: String| format!("the schema registry {} is down: {reason}", self.access.address());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| down(error.to_string()))?;
        let fetch = || runtime.block_on(async { tokio::time::timeout(FETCH_TIME_MAX, self.fetch_all(ids)).await });
        let fetched = waiting_for(|| format!("the schema registry {}", self.access.address()), fetch);
        // A name that nobody resolves is still asked for on a thread of the runtime's.
        runtime.shutdown_background();
        fetched.unwrap_or_else(|_| Err(format!("no answer within {} s", FETCH_TIME_MAX.as_secs()))).map_err(down)
    }

    async fn fetch_all(&self, ids: &[u32]) -> Result<(), String> {
        let own = |at: usize| ids.iter().skip(at).step_by(AT_ONCE);
        let all = [0, 1, 2, 3].map(|at| self.fetch_each(own(at)));
        let [a, b, c, d]: [_; AT_ONCE] = all;
        tokio::try_join!(a, b, c, d).map(|_| ())
    }

    async fn fetch_each(&self, ids: impl Iterator<Item = &u32>) -> Result<(), String> {
        let mut connection = Connection::new(&self.access);
        for id in ids.filter(|id| self.get(**id).is_none()) {
            let known = match answers::by_id(&mut connection, *id).await? {
                Answer::Schema(found) => {
                    let made = self.schema(&mut connection, found).await?;
                    made.map_or_else(|why| nothing(*id, &why, None), |schema| Known::Schema(Arc::new(schema)))
                }
                Answer::Nothing(why) => {
                    let others = self.known.read().unwrap_or_else(PoisonError::into_inner).len() as u32;
                    nothing(*id, &why, Some(Instant::now() + UNKNOWN_FOR + UNKNOWN_MORE * others))
                }
            };
            self.answered.fetch_add(1, Ordering::Relaxed);
            let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= KNOWN_MAX {
                all.clear();
            }
            all.insert(*id, known);
        }
        Ok(())
    }

    async fn referred(&self, connection: &mut Connection<'_>, reference: &Reference) -> Result<Answer, String> {
        let place = (reference.subject.clone(), reference.version);
        let all = || self.referred.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all().get(&place) {
            return Ok(Answer::Schema(known.clone()));
        }
        let answer = answers::by_version(connection, reference).await?;
        self.answered.fetch_add(1, Ordering::Relaxed);
        if let Answer::Schema(found) = &answer {
            let mut all = all();
            if all.len() >= REFERRED_MAX {
                all.clear();
            }
            all.insert(place, found.clone());
        }
        Ok(answer)
    }

    /// A schema with all that it refers to; within, why values cannot be read by it.
    async fn schema(
        &self,
        connection: &mut Connection<'_>,
        found: Versioned,
    ) -> Result<Result<Schema, String>, String> {
        if found.kind != self.language.as_str() {
            return Ok(Err(format!("it is of the type {}, not {}", found.kind, self.language.as_str())));
        }
        // Each before those that refer to it. Taken from the end: what a schema refers to stands above it until it is there.
        let mut texts: Vec<(String, String)> = Vec::new();
        let mut waiting: Vec<(Reference, Option<Versioned>)> = wanted(found.references);
        let mut asked = 0;
        while let Some((reference, fetched)) = waiting.pop() {
            if texts.iter().any(|(name, _)| *name == reference.name) {
                continue;
            }
            if let Some(fetched) = fetched {
                texts.push((reference.name, fetched.text));
                continue;
            }
            asked += 1;
            if asked > REFERENCES_MAX {
                return Ok(Err(format!("it refers to more than {REFERENCES_MAX} schemas")));
            }
            match self.referred(connection, &reference).await? {
                Answer::Schema(mut fetched) => {
                    let below = wanted(std::mem::take(&mut fetched.references));
                    waiting.push((reference, Some(fetched)));
                    waiting.extend(below);
                }
                Answer::Nothing(why) => return Ok(Err(format!("it refers to {}: {why}", reference.name))),
            }
        }
        Ok(match self.language {
            Language::Avro => {
                let others = texts.iter().map(|(_, text)| text.as_str());
                avro::Schema::parse(others.chain([found.text.as_str()])).map(Schema::Avro)
            }
            Language::Protobuf => protobuf::Schema::of_texts(&found.text, texts).map(Schema::Protobuf),
        })
    }
}

fn wanted(references: Vec<Reference>) -> Vec<(Reference, Option<Versioned>)> {
    references.into_iter().rev().map(|reference| (reference, None)).collect()
}

fn nothing(id: u32, why: &str, until: Option<Instant>) -> Known {
    Known::Nothing { why: format!("schema {id}: {why}").into(), until }
}
