//! Who may hand letters of a topic on: one at a time, and none that a replay has begun with.

use super::{Error, Letters, Offsets};
use crate::store::Topic;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// Topics whose letters are being chosen and handed on, by data folder: a job of the admin door outlives who asked for it.
static TAKEN: Mutex<BTreeSet<(PathBuf, Uuid)>> = Mutex::new(BTreeSet::new());

/// The right to choose letters of a topic and to hand them on.
pub struct Turn {
    key: (PathBuf, Uuid),
}

impl Drop for Turn {
    fn drop(&mut self) {
        TAKEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// What a begun replay says of itself to those who choose letters.
#[derive(Deserialize)]
struct Begun {
    topic: Uuid,
    chosen: Offsets,
}

/// Where a pipeline's replay is written down from its beginning to its end.
pub fn replay_folder(data: &Path, pipeline: &str) -> PathBuf {
    data.join("pipelines").join(pipeline).join("replay")
}

/// The file in it that says what was chosen.
pub fn replay_job(folder: &Path) -> PathBuf {
    folder.join("job")
}

/// Pipelines with a replay that has begun and has not ended.
pub fn replays_begun(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data.join("pipelines")).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| replay_job(&replay_folder(data, name)).exists()).collect()
}

impl Letters {
    /// Held from the choice of letters until they are handled, or written down as a replay's: whoever comes meanwhile would choose them too.
    ///
    /// # Errors
    /// [`Error::Busy`]
    pub fn turn(&self, topic: &Topic) -> Result<Turn, Error> {
        let key = (self.data.clone(), topic.id);
        match TAKEN.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            true => Ok(Turn { key }),
            false => Err(Error::Busy(topic.name.clone())),
        }
    }

    /// Letters of a topic that replays have begun with: they are handled at its end.
    pub(super) fn begun(&self, topic: &Topic) -> io::Result<Offsets> {
        let mut all = Offsets::new();
        for pipeline in replays_begun(&self.data) {
            let path = replay_job(&replay_folder(&self.data, &pipeline));
            let bytes = match fs::read(&path) {
                // It ended meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read?,
            };
            let begun: Begun = serde_json::from_slice(&bytes)?;
            if begun.topic == topic.id {
                for (partition, ranges) in begun.chosen {
                    all.entry(partition).or_default().merge(&ranges);
                }
            }
        }
        Ok(all)
    }
}
