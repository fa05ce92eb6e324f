//! Where a pipeline stands: the file `<data>/pipelines/<name>/checkpoint`, replaced as a whole at each cut.
//!
//! Two lines: CRC-32C of the second in 8 hex digits, then JSON. What it names is true: the files it lists are synced, the offsets below
//! its positions are in them (or in the output topic, or filtered, or dead-lettered), durably.

use super::enrich::{Kept, Past};
use super::horizon::Belief;
use crate::disk::{checked, replace, with_checksum};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// A pipeline's state on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// This pipeline's own; made once.
    pub(super) id: Uuid,
    /// The source topic; another id means that it was deleted and made again.
    pub(super) topic: Option<Uuid>,
    /// Raised by `reset` and whatever else begins anew: batches of another generation have another producer.
    pub(super) generation: u64,
    /// Cuts so far, of whatever output.
    pub(super) cut: u64,
    /// By source partition: every record below it was read, and is a dead letter if it failed before it came to an output.
    pub(super) positions: BTreeMap<i32, i64>,
    /// The dead letter topic at the last cut.
    pub(super) letters: Option<TopicState>,
    /// By name, such as `topic people`.
    pub(super) outputs: BTreeMap<String, OutputState>,
    /// What the steps remember at these positions, if any does. All outputs stand at the same ones then.
    #[serde(default)]
    pub(super) state: Option<StateFile>,
    /// By partition the time up to which a lack of records has moved it, behind its position. What that makes is not in the outputs yet.
    #[serde(default)]
    pub(super) marks: BTreeMap<i32, i64>,
    /// The same for the time of windows.
    #[serde(default)]
    pub(super) window_marks: BTreeMap<i32, i64>,
    /// The latest time that this machine's clock has shown by then, ms since 1970: what it believed it goes on believing, also where it is
    /// set back. 0 = nothing is known.
    #[serde(default)]
    pub(super) clock_ms: i64,
    /// What this machine's clock decided of records behind these positions.
    #[serde(default)]
    pub(super) beliefs: Vec<Belief>,
    /// Files that rows are looked up in from these positions on.
    #[serde(default)]
    pub(super) tables: Vec<Kept>,
    /// The same of records that outputs lack which are behind, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) past: Vec<Past>,
    /// The pipeline file's text that all of this was made with.
    pub(super) text: String,
    pub(super) counts: Counts,
    /// A person has said where it goes on: folders of an earlier pipeline of its name, whose checkpoint is gone, are its own.
    #[serde(default)]
    pub(super) was_reset: bool,
}

/// A file with what steps remember, beside the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StateFile {
    pub(super) file: String,
    pub(super) size: u64,
    /// CRC-32C of its bytes.
    pub(super) crc: u32,
    /// What each step goes by; others do not take it over.
    pub(super) steps: Vec<String>,
}

/// One output at its last cut.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct OutputState {
    /// Of its files: raised by `reset` and `adopt`, so that no name is used twice.
    pub(super) generation: u64,
    /// By source partition: below it the output is complete.
    pub(super) positions: BTreeMap<i32, i64>,
    /// The output's topic, if it is one.
    pub(super) topic: Option<TopicState>,
    /// The output's topic elsewhere, if it is one.
    #[serde(default)]
    pub(super) kafka: Option<KafkaState>,
    /// The dead letter topic, as far as this output's own letters go.
    pub(super) letters: Option<TopicState>,
    /// Files whose renames are not known to be synced: a start finishes what a crash left.
    pub(super) files: Vec<Staged>,
    pub(super) written: u64,
    /// Records that this output never took.
    pub(super) dead: u64,
    /// Folders of this machine (below the output folder) that it has written to since it began, or began anew.
    #[serde(default)]
    pub(super) folders: BTreeSet<PathBuf>,
}

/// A topic that the pipeline writes to, as it was at a cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TopicState {
    pub(super) topic: Uuid,
    /// Partitions that rows are spread over: it follows the topic only at a cut, or a replay would spread them differently.
    pub(super) partitions: i32,
    /// By partition; a start looks at what stands behind.
    pub(super) ends: BTreeMap<i32, End>,
    /// Of the batches that this output writes there; 0 in checkpoints of before.
    #[serde(default)]
    pub(super) producer: i64,
}

/// A topic of a Kafka cluster elsewhere that the pipeline writes to, as it was at a cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KafkaState {
    /// Nil where the cluster is too old to say it.
    pub(super) topic: Uuid,
    /// As in [`TopicState`].
    pub(super) partitions: i32,
    /// By source partition the producer id of its rows.
    pub(super) producers: BTreeMap<i32, i64>,
    /// By output partition what comes behind the last batch; a start looks there.
    pub(super) ends: BTreeMap<i32, i64>,
    /// Source partition, output partition, and of the next batch from one to the other its epoch and sequence.
    pub(super) places: Vec<(i32, i32, i16, i32)>,
}

/// Bits of a producer id that are ours to choose.
const FREE_BITS: u64 = crate::record::PIPELINE_PRODUCER_ID_MIN as u64 - 1;

/// A producer id of the range that the Kafka door refuses, which nobody else has: each beginning on a topic has another, since the log
/// remembers the sequences of those before.
pub(super) fn new_producer() -> i64 {
    crate::record::PIPELINE_PRODUCER_ID_MIN | (fastrand::u64(..) & FREE_BITS) as i64
}

/// The end of a partition that is written to, and the pipeline's next sequence there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) offset: i64,
    pub(super) sequence: i32,
}

/// One file of a cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Staged {
    /// Empty for an object.
    pub(super) staged: PathBuf,
    /// An object's is its key.
    pub(super) finished: PathBuf,
    pub(super) size: u64,
    /// CRC-32C of its bytes.
    pub(super) crc: u32,
    /// Where its bytes wait, if it is an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) upload: Option<super::sink::bucket::Upload>,
}

/// What became of the records so far, before they came to an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) read: u64,
    pub(super) filtered: u64,
    pub(super) dead: u64,
    /// Rows whose time was further ahead than is believed.
    #[serde(default)]
    pub(super) ahead: u64,
}

impl Checkpoint {
    pub(super) fn new(text: &str) -> Checkpoint {
        Checkpoint {
            id: Uuid::new_v4(),
            topic: None,
            generation: 0,
            cut: 0,
            positions: BTreeMap::new(),
            letters: None,
            outputs: BTreeMap::new(),
            was_reset: false,
            state: None,
            marks: BTreeMap::new(),
            window_marks: BTreeMap::new(),
            clock_ms: 0,
            beliefs: Vec::new(),
            tables: Vec::new(),
            past: Vec::new(),
            text: text.to_owned(),
            counts: Counts::default(),
        }
    }

    /// Begins anew at `positions` (the log's starts where there is none): what was written so far stays, and is not looked at again.
    pub(super) fn renew(&mut self, positions: BTreeMap<i32, i64>) {
        self.generation += 1;
        for output in self.outputs.values_mut() {
            *output = OutputState {
                generation: output.generation + 1,
                positions: positions.clone(),
                files: std::mem::take(&mut output.files),
                written: output.written,
                dead: output.dead,
                ..OutputState::default()
            };
        }
        self.positions = positions;
        self.letters = None;
        self.state = None;
        self.marks.clear();
        self.window_marks.clear();
        self.beliefs.clear();
        self.past.clear();
        self.clock_ms = 0;
    }

    /// The same for some partitions; in the others all outputs stay where they are.
    pub(super) fn renew_some(&mut self, moved: &BTreeMap<i32, i64>) {
        let positions: BTreeMap<i32, i64> = self.positions.clone().into_iter().chain(moved.clone()).collect();
        let kept: BTreeMap<String, BTreeMap<i32, i64>> =
            self.outputs.iter().map(|(name, output)| (name.clone(), output.positions.clone())).collect();
        let (past, clock_ms) = (std::mem::take(&mut self.past), self.clock_ms);
        self.renew(positions);
        self.clock_ms = clock_ms;
        self.past = past.into_iter().filter_map(|past| past.without(moved)).collect();
        for (name, output) in &mut self.outputs {
            let own = kept.get(name).cloned().unwrap_or_default();
            output.positions = own.into_iter().chain(moved.clone()).collect();
        }
    }

    /// By source partition what all outputs have.
    pub(super) fn committed(&self) -> BTreeMap<i32, i64> {
        let lowest = |(id, next): (&i32, &i64)| {
            let of_outputs = self.outputs.values().filter_map(|output| output.positions.get(id));
            (*id, of_outputs.fold(*next, |lowest, next| lowest.min(*next)))
        };
        self.positions.iter().map(lowest).collect()
    }

    /// Rows in all outputs.
    pub(super) fn written(&self) -> u64 {
        self.outputs.values().map(|output| output.written).sum()
    }

    /// Records that an output never took.
    pub(super) fn dead(&self) -> u64 {
        self.outputs.values().map(|output| output.dead).sum()
    }

    /// The producer id that versions before used for all that a pipeline wrote; topics of their checkpoints go on with it.
    fn old_producer(&self) -> i64 {
        let id = self.id.as_u128();
        let mixed = ((id >> 64) as u64 ^ id as u64).wrapping_add(self.generation.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        crate::record::PIPELINE_PRODUCER_ID_MIN | (mixed & FREE_BITS) as i64
    }

    /// Reads the file; `None` if there is none.
    ///
    /// # Errors
    /// The system's; `InvalidData` with what is wrong.
    pub(super) fn load(path: &Path) -> io::Result<Option<Checkpoint>> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let damaged = |what: String| {
            let message = format!("{} is damaged ({what}); inrush pipeline reset begins anew", path.display());
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        let json = checked(&text).map_err(damaged)?;
        let value: serde_json::Value = serde_json::from_str(json).map_err(|error| damaged(error.to_string()))?;
        let read: serde_json::Result<Checkpoint> = serde_json::from_value(of_today(value));
        let mut checkpoint = read.map_err(|error| damaged(error.to_string()))?;
        let old = checkpoint.old_producer();
        let of_outputs = checkpoint.outputs.values_mut().flat_map(|output| [&mut output.topic, &mut output.letters]);
        for topic in of_outputs.chain([&mut checkpoint.letters]).flatten().filter(|topic| topic.producer == 0) {
            topic.producer = old;
        }
        Ok(Some(checkpoint))
    }

    /// Replaces the file; durable when it returns.
    ///
    /// # Errors
    /// As [`replace`]: either file may stand then.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let json = serde_json::to_string(self)?;
        replace(path, with_checksum(&json).as_bytes())
    }
}

/// The name of an output in a checkpoint that was written while pipelines had one, which had none.
pub(super) const ONLY_OUTPUT: &str = "";

/// Brings a checkpoint of the time when a pipeline had one output into today's form.
fn of_today(mut value: serde_json::Value) -> serde_json::Value {
    let Some(fields) = value.as_object_mut().filter(|fields| !fields.contains_key("outputs")) else { return value };
    let mut take = |name: &str| fields.remove(name).unwrap_or_default();
    let (topic, files) = (take("output"), take("files"));
    let written = fields.get("counts").map(|counts| counts["written"].clone()).unwrap_or_default();
    let output = serde_json::json!({
        "generation": fields.get("generation"),
        "positions": fields.get("positions"), "topic": topic, "letters": null, "files": files, "written": written, "dead": 0
    });
    fields.insert("outputs".to_owned(), serde_json::json!({ ONLY_OUTPUT: output }));
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        assert_eq!(Checkpoint::load(&path).unwrap(), None);
        let mut checkpoint = Checkpoint::new("from = 1");
        checkpoint.positions.insert(0, 17);
        let ends = BTreeMap::from([(3, End { offset: 9, sequence: 4 })]);
        checkpoint.letters = Some(TopicState { topic: Uuid::new_v4(), partitions: 4, ends, producer: 5 });
        checkpoint.save(&path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), Some(checkpoint));
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_checkpoint_of_the_time_of_one_output_is_understood() {
        let old = r#"{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8","topic":null,"generation":2,"cut":7,"positions":{"0":17},"output":null,"letters":null,"files":[{"staged":"a","finished":"b","size":1,"crc":2}],"text":"t","counts":{"read":9,"written":5,"filtered":3,"dead":1}}"#;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        fs::write(&path, with_checksum(old)).unwrap();
        let read = Checkpoint::load(&path).unwrap().unwrap();
        let output = &read.outputs[ONLY_OUTPUT];
        assert_eq!((output.positions[&0], output.written, output.files.len()), (17, 5, 1));
        assert_eq!((read.counts.read, read.counts.dead, read.cut, read.committed()[&0]), (9, 1, 7, 17));
    }

    #[test]
    fn a_partition_that_is_moved_leaves_the_outputs_where_they_are_in_the_others() {
        let mut checkpoint = Checkpoint::new("");
        checkpoint.positions = BTreeMap::from([(0, 10), (1, 20)]);
        let behind = OutputState { positions: BTreeMap::from([(0, 8), (1, 20)]), ..OutputState::default() };
        checkpoint.outputs.insert("topic a".to_owned(), behind);
        checkpoint.renew_some(&BTreeMap::from([(1, 5)]));
        assert_eq!(checkpoint.positions, BTreeMap::from([(0, 10), (1, 5)]));
        assert_eq!(checkpoint.outputs["topic a"].positions, BTreeMap::from([(0, 8), (1, 5)]));
        assert_eq!((checkpoint.generation, checkpoint.outputs["topic a"].generation), (1, 1));
    }

    #[test]
    fn each_beginning_on_a_topic_is_another_producer_of_the_reserved_range() {
        let (first, second) = (new_producer(), new_producer());
        assert_ne!(first, second);
        assert!(first >= crate::record::PIPELINE_PRODUCER_ID_MIN && second >= crate::record::PIPELINE_PRODUCER_ID_MIN);
        assert!(Checkpoint::new("").old_producer() >= crate::record::PIPELINE_PRODUCER_ID_MIN);
    }
}
