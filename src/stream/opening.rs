//! A pipeline's beginning on a topic: finishes the last cut, makes what is missing, settles whose the output is, and finds where each
//! output stands. Everything that later steps rely on is in the checkpoint before the first row is written.

use super::checkpoint::Checkpoint;
use super::dead_letters::{self, DeadLetters, Sender};
use super::lanes::{self, Lanes};
use super::runner::{Fail, Open, Runner};
use super::sink::Sink;
use super::sink::journal::{self, Journal, SourceTopic};
use super::sink::lake::{self, Claim, Owner};
use super::sink::parquet::Parquet;
use super::sink::staged::{Finished, finish};
use super::sink::topic::TopicSink;
use super::spec::{Output, ParquetOutput, TopicOutput};
use crate::metrics as names;
use crate::store::Topic;
use std::sync::Arc;
use tracing::{error, info, warn};

impl Runner {
    /// Opens source and outputs; the positions are those of the checkpoint then.
    pub(super) fn open(&mut self, topic: Arc<Topic>) -> Result<Open, Fail> {
        self.life.beat();
        self.finish_files()?;
        let mut next = self.checkpoint.clone();
        next.text.clone_from(&self.job.spec.text);
        self.settle_source(&mut next, &topic);
        self.settle_outputs(&mut next, &topic)?;
        self.store(next)?;
        self.positions.clone_from(&self.checkpoint.positions);
        let sink = self.sink(&topic)?;
        let sender = Sender {
            pipeline: &self.job.spec.name,
            output: self.job.spec.to.to_string(),
            then: &self.job.spec.on_error.then,
        };
        let (store, runtime) = (&self.options.store, &self.options.runtime);
        let letters = DeadLetters::open(store, runtime, &topic, sender, &self.checkpoint, self.hooks.clone());
        let letters = letters.map_err(|error| error.to_string())?;
        if self.is_ahead(&topic, [sink.furthest(), letters.journal().furthest()].iter().flatten()) {
            let positions = self.checkpoint.positions.clone();
            let mut next = self.checkpoint.clone();
            next.renew(positions);
            self.store(next)?;
            return self.open(topic);
        }
        let lanes = Lanes::new(&lanes::pool(), &self.job.spec.format, &self.job.plan);
        Ok(Open { topic, lanes: Arc::new(lanes), sink, letters, until: None })
    }

    /// Gives the files of the last cut their names, unless that was done.
    pub(super) fn finish_files(&mut self) -> Result<(), Fail> {
        for file in &self.checkpoint.files {
            match finish(file).map_err(|error| error.to_string())? {
                Finished::Already => {}
                Finished::Renamed => self.hooks.at(super::hooks::Step::Renamed),
                Finished::TakenAway => {
                    warn!(pipeline = self.job.spec.name, file = %file.finished.display(), "a file of the last cut was taken away; it is not written again");
                    metrics::counter!(names::STREAM_FILES_TAKEN_AWAY.name, "pipeline" => self.job.spec.name.clone())
                        .increment(1);
                }
            }
        }
        // The names are durable: the next checkpoint need not carry them.
        self.checkpoint.files.clear();
        Ok(())
    }

    /// Another topic of that name begins anew; a position that the log does not reach any more moves back to its end.
    fn settle_source(&self, next: &mut Checkpoint, topic: &Topic) {
        if next.topic != Some(topic.id) {
            if next.topic.is_some() {
                warn!(pipeline = self.job.spec.name, topic = %topic.name, "this is another topic than before, the pipeline begins at its start");
                next.renew(Default::default());
            }
            next.topic = Some(topic.id);
        }
        if self.is_ahead(topic, next.positions.iter()) {
            let mut positions = next.positions.clone();
            for partition in topic.partitions().iter() {
                positions.entry(partition.id().0).and_modify(|next| *next = (*next).min(partition.tail().0));
            }
            next.renew(positions);
        }
        for partition in topic.partitions().iter() {
            next.positions.entry(partition.id().0).or_insert(partition.start().0);
        }
    }

    /// Whether one of these offsets lies beyond the end of its partition: the log has lost what was read, which only a topic that answers
    /// before it syncs can. What comes there next are other records, so marks of the old ones must not count.
    fn is_ahead<'a>(&self, topic: &Topic, offsets: impl Iterator<Item = (&'a i32, &'a i64)>) -> bool {
        let mut is_ahead = false;
        for (id, next) in offsets {
            let tail = topic.partition(crate::record::PartitionId(*id)).map_or(0, |partition| partition.tail().0);
            if *next > tail {
                is_ahead = true;
                error!(pipeline = self.job.spec.name, topic = %topic.name, partition = id, from = tail, to = next,
                    "records that the pipeline had read left the end of the log: it goes on at the end");
            }
        }
        is_ahead
    }

    /// Whose the outputs are, and how they stand if the pipeline never wrote to them.
    fn settle_outputs(&self, next: &mut Checkpoint, topic: &Topic) -> Result<(), Fail> {
        let (store, runtime) = (&self.options.store, &self.options.runtime);
        match &self.job.spec.to {
            Output::Parquet(out) => self.settle_folder(next, out)?,
            Output::Topic(out) => {
                let output = self.output_topic(out, topic)?;
                if next.output.as_ref().is_none_or(|state| state.topic != output.id) {
                    next.output = Some(journal::untouched(&output));
                }
            }
        }
        let letters = dead_letters::topic(store, runtime, &self.job.spec.on_error.then, topic);
        let letters = letters.map_err(|error| error.to_string())?;
        if next.letters.as_ref().is_none_or(|state| state.topic != letters.id) {
            next.letters = Some(journal::untouched(&letters));
        }
        Ok(())
    }

    fn settle_folder(&self, next: &mut Checkpoint, out: &ParquetOutput) -> Result<(), Fail> {
        let failed = |error: std::io::Error| Fail::Down(format!("output {}: {error}", out.folder.display()));
        let folder = self.options.out.join(&out.folder);
        lake::check_schema(&folder, self.job.plan.output()).map_err(failed)?;
        if let Claim::Adopted(generation) =
            lake::whose(&folder, &self.owner(next), out.adopt.as_deref()).map_err(failed)?
        {
            info!(pipeline = self.job.spec.name, folder = %folder.display(), "adopted");
            let positions = next.positions.clone();
            next.generation = next.generation.max(generation);
            next.renew(positions);
        }
        next.output = None;
        Ok(())
    }

    fn owner(&self, checkpoint: &Checkpoint) -> Owner {
        Owner {
            cluster: self.options.store.cluster_id(),
            pipeline: checkpoint.id,
            name: self.job.spec.name.clone(),
            generation: checkpoint.generation,
        }
    }

    fn output_topic(&self, out: &TopicOutput, source: &Topic) -> Result<Arc<Topic>, Fail> {
        let (store, runtime) = (&self.options.store, &self.options.runtime);
        journal::topic(store, runtime, &out.topic, source.partition_count(), Vec::new())
            .map_err(|error| Fail::Down(error.to_string()))
    }

    fn sink(&self, topic: &Arc<Topic>) -> Result<Sink, Fail> {
        match &self.job.spec.to {
            Output::Parquet(out) => {
                let schema = self.job.plan.output().clone();
                let (owner, files) = (self.owner(&self.checkpoint), &self.checkpoint.files);
                let sink = Parquet::open(out.clone(), schema, &self.options.out, &owner, files);
                let sink = sink.map_err(|error| format!("output {}: {error}", out.folder.display()))?;
                Ok(Sink::Parquet(Box::new(sink)))
            }
            Output::Topic(out) => {
                let output = self.output_topic(out, topic)?;
                let source =
                    SourceTopic { pipeline: self.checkpoint.id, topic: topic.id, producer: self.checkpoint.producer() };
                let state = self.checkpoint.output.clone().unwrap_or_else(|| journal::untouched(&output));
                let journal = Journal::open(output, source, &state, &self.checkpoint.positions, self.hooks.clone());
                Ok(Sink::Topic(TopicSink {
                    journal: journal.map_err(|error| error.to_string())?,
                    key: out.key.clone(),
                }))
            }
        }
    }

    /// Makes a checkpoint durable, if it says anything new.
    fn store(&mut self, next: Checkpoint) -> Result<(), Fail> {
        if next != self.checkpoint || !self.path.exists() {
            self.life
                .save(&next, &self.path)
                .map_err(|error| format!("cannot write the checkpoint {}: {error}", self.path.display()))?;
        }
        self.checkpoint = next;
        Ok(())
    }
}
