//! A pipeline's beginning on a topic: finishes the last cut, makes what is missing, settles whose the outputs are, and finds where each
//! output stands. Everything that later steps rely on is in the checkpoint before the first row is written.

use super::checkpoint::{Checkpoint, ONLY_OUTPUT, OutputState};
use super::closing::{WINDOWS, Waits};
use super::dead_letters::{self, DeadLetters, Sender, Start};
use super::lanes::{self, Lanes};
use super::life::waiting_for;
use super::load::{self, Job};
use super::output::{Line, Outlet, kind_of};
use super::runner::{Fail, Open, Runner, checkpoint_path};
use super::sink::Sink;
use super::sink::bucket::Beat;
use super::sink::http::{self, HttpSink, Opened, Patience};
use super::sink::journal::{self, Journal, SourceTopic};
use super::sink::kafka::{self, KafkaSink};
use super::sink::lake::{self, Claim, Owner};
use super::sink::parquet::Parquet;
use super::sink::place::{Place, found};
use super::sink::staged::{Finished, finish_all, sync_names};
use super::sink::stdout::Stdout;
use super::sink::store::Store;
use super::sink::topic::TopicSink;
use super::source::Source;
use super::spec::{From, HttpOutput, Output, ParquetOutput, RecordField, Route, TopicOutput};
use super::state::States;
use crate::disk::create_within;
use crate::metrics as names;
use crate::store::Topic;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tracing::{error, info, warn};

impl Runner {
    /// Opens source and outputs; the positions are those of the checkpoint then. An output that cannot be opened is down.
    pub(super) fn open(&mut self, topic: Arc<Source>) -> Result<Open, Fail> {
        let chore = self.pace.begin();
        let opened = self.open_all(topic);
        self.pace.end(chore);
        opened
    }

    fn open_all(&mut self, topic: Arc<Source>) -> Result<Open, Fail> {
        self.life.beat();
        self.fill_tables()?;
        let mut next = self.checkpoint.clone();
        next.text.clone_from(&self.job.spec.text);
        self.settle_source(&mut next, &topic);
        self.settle_outputs(&mut next);
        let letters = self.letters_topic(&topic)?;
        if next.letters.as_ref().is_none_or(|state| state.topic != letters.id) {
            next.letters = Some(journal::untouched(&letters));
        }
        self.keep_tables(&mut next)?;
        self.store(next)?;
        self.forget_tables();
        self.positions.clone_from(&self.checkpoint.positions);
        self.marks.clone_from(&self.checkpoint.marks);
        self.window_marks.clone_from(&self.checkpoint.window_marks);
        let names = self.job.spec.outputs();
        let start = Start {
            pipeline: self.checkpoint.id,
            state: self.checkpoint.letters.as_ref(),
            positions: &self.checkpoint.positions,
        };
        let letters = self.letters(&topic, names.join(", "), start)?;
        self.is_still_there(&topic, &letters.journal().progress().whole())?;
        let outlets = names.iter().map(|name| Outlet::at_cut(name, &self.checkpoint.outputs[name])).collect();
        let lanes =
            Arc::new(Lanes::tapped(&lanes::pool(), &self.job.spec.format, &self.job.plan, self.life.taps().clone()));
        let quiet = topic.partitions().iter().map(|partition| (partition.id().0, Instant::now())).collect();
        let states = self.states(&topic)?;
        let partitions = topic.partition_count();
        let waits = Waits::new();
        let mut open = Open { topic, partitions, lanes, outlets, letters, states, quiet, until: None, waits };
        (0..names.len()).try_for_each(|at| self.open_outlet(&mut open, at))?;
        self.settle_past(&open)?;
        self.settle_doubt(&open);
        self.begin_windows(&mut open)?;
        self.settle_marks(&mut open)?;
        Ok(open)
    }

    /// What the steps remember at the positions of the checkpoint.
    fn states(&mut self, topic: &Source) -> Result<States, Fail> {
        let plan = self.job.plan.clone();
        if let Some(reason) = state_mismatch(&self.checkpoint, &self.job) {
            return Err(Fail::Broken(reason));
        }
        if !plan.is_stateful() {
            return Ok(States::default());
        }
        if topic.is_shared() {
            return Err(Fail::Broken(load::SHARED_AND_REMEMBERED.to_owned()));
        }
        if topic.partition_count() > 1 {
            keyed_by(topic, &self.job).map_err(Fail::Broken)?;
        }
        let stands = |output: &OutputState| output.positions == self.checkpoint.positions;
        let names = self.job.spec.outputs();
        let mut outputs = self.checkpoint.outputs.iter().filter(|(name, _)| names.contains(name));
        if let Some((name, _)) = outputs.find(|(_, output)| !stands(output)) {
            return Err(Fail::Broken(format!(
                "a pipeline whose steps remember has all its outputs at one place, and {name} is behind: put the old file back until it is there, or begin anew with inrush pipeline reset"
            )));
        }
        match &self.checkpoint.state {
            None => Ok(States::default()),
            Some(known) => States::load(&plan, &self.folder(), known).map_err(|error| match error.kind() {
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::NotFound => Fail::Broken(error.to_string()),
                _ => Fail::Down(error.to_string()),
            }),
        }
    }

    /// Opens one output, or it is down.
    pub(super) fn open_outlet(&mut self, open: &mut Open, at: usize) -> Result<(), Fail> {
        self.life.beat();
        let name = format!("output {}", open.outlets[at].name);
        match waiting_for(|| name, || self.line(open, at)) {
            Ok(line) => {
                let outlet = &mut open.outlets[at];
                outlet.rise(line, &self.checkpoint);
                Ok(())
            }
            Err(Fail::Down(reason)) => self.fall(open, at, reason),
            Err(fail) => Err(fail),
        }
    }

    fn line(&mut self, open: &Open, at: usize) -> Result<Line, Fail> {
        let name = &open.outlets[at].name;
        self.finish_files(name)?;
        let route = self.job.spec.routes[at].clone();
        let mut next = self.checkpoint.clone();
        let state = next.outputs.entry(name.clone()).or_default();
        let mut elsewhere = None;
        match &route.to {
            Output::Parquet(out) => self.settle_folder(state, &route, out)?,
            Output::Http(_) | Output::Stdout => {}
            Output::Topic(out) => {
                let output = self.output_topic(out, &open.topic)?;
                if state.topic.as_ref().is_none_or(|state| state.topic != output.id) {
                    state.topic = Some(journal::untouched(&output));
                }
            }
            Output::Kafka(out) => {
                let sources = kafka::sources(open.topic.partition_count(), self.job.plan.window().is_some());
                let settled = kafka::settle(out, state.kafka.as_ref(), sources, &self.life);
                let (cluster, settled) = settled.map_err(|error| Fail::Down(error.to_string()))?;
                state.kafka = Some(settled);
                elsewhere = Some(cluster);
            }
        }
        let letters = self.letters_topic(&open.topic)?;
        if state.letters.as_ref().is_none_or(|state| state.topic != letters.id) {
            state.letters = Some(journal::untouched(&letters));
        }
        self.store(next)?;
        let state = &self.checkpoint.outputs[name];
        let sink = match (elsewhere, &route.to, &state.kafka) {
            (Some(cluster), Output::Kafka(out), Some(known)) => {
                let source = SourceTopic { pipeline: self.checkpoint.id, topic: open.topic.id };
                let sink = KafkaSink::open(cluster, known, out, source, &state.positions, self.hooks.clone());
                let sink = sink.map_err(|error| Fail::Down(error.to_string()))?;
                if let Some(doubt) = sink.doubt() {
                    warn!(pipeline = self.job.spec.name, "{doubt}");
                    self.status.warn(doubt);
                }
                Box::new(sink)
            }
            _ => self.sink(open, &route, state)?,
        };
        let store = self.file_store(&route, state)?;
        let start = Start { pipeline: self.checkpoint.id, state: state.letters.as_ref(), positions: &state.positions };
        let letters = self.letters(&open.topic, name.clone(), start)?;
        self.is_still_there(&open.topic, &sink.whole())?;
        self.is_still_there(&open.topic, &letters.journal().progress().whole())?;
        Ok(Line { sink, store, letters, opened: Instant::now() })
    }

    /// Gives the files of an output's last cut their names, unless that was done.
    pub(super) fn finish_files(&mut self, output: &str) -> Result<(), String> {
        let beat = self.beat();
        let Some(state) = self.checkpoint.outputs.get_mut(output) else { return Ok(()) };
        for done in finish_all(&state.files, &beat).map_err(|error| error.to_string())?.zip(&state.files) {
            let (done, file) = done;
            beat();
            match done.map_err(|error| error.to_string())? {
                Finished::Already => {}
                Finished::Renamed => self.hooks.at(super::hooks::Step::Renamed),
                Finished::TakenAway => {
                    self.status.warn(format!(
                        "{} is not there: somebody collected it, or took it away, around a stop; it is not written again",
                        file.finished.display()
                    ));
                    warn!(pipeline = self.job.spec.name, file = %file.finished.display(), "a file of the last cut was taken away; it is not written again");
                    metrics::counter!(names::STREAM_FILES_TAKEN_AWAY.name, "pipeline" => self.job.spec.name.clone())
                        .increment(1);
                }
            }
        }
        sync_names(&state.files).map_err(|error| error.to_string())?;
        // The names are durable: the next checkpoint need not carry them.
        state.files.clear();
        Ok(())
    }

    /// Another topic of that name begins anew; a position that the log does not reach any more moves back to its end.
    fn settle_source(&mut self, next: &mut Checkpoint, topic: &Source) {
        if next.topic != Some(topic.id) {
            // A cluster that has got topic ids has the same topics as before.
            if next.topic.is_some_and(|known| !known.is_nil()) {
                let lost = match self.job.plan.is_stateful() {
                    true => "; what its steps remembered, held and counted of the old one is gone",
                    false => "",
                };
                let told = format!(
                    "topic {} was made anew: the pipeline begins at the start of the new one{lost}",
                    topic.name
                );
                warn!(pipeline = self.job.spec.name, "{told}");
                self.status.warn(told);
                next.renew(BTreeMap::new());
            }
            next.topic = Some(topic.id);
        }
        // Other members of a group have read so far; what this one has done with and not committed it does not read again.
        for (id, done) in topic.committed() {
            let of_outputs = next.outputs.values_mut().map(|output| &mut output.positions);
            of_outputs.chain([&mut next.positions]).for_each(|positions| {
                let known = positions.entry(id).or_insert(done);
                *known = done.max(*known);
            });
        }
        let outputs = next.outputs.values().flat_map(|output| &output.positions);
        if self.is_ahead(topic, next.positions.iter().chain(outputs)) {
            self.turn_back(next, topic);
        }
        for partition in topic.partitions().iter() {
            let (id, start) = (partition.id().0, partition.start().0);
            // A partition that came while the pipeline ran is known to its outputs first.
            let known = next.outputs.values().filter_map(|output| output.positions.get(&id)).min();
            let known = known.copied().unwrap_or(start);
            next.positions.entry(id).or_insert(known);
            next.outputs.values_mut().for_each(|output| {
                output.positions.entry(id).or_insert(start);
            });
        }
    }

    /// No position lies beyond the end of the log; marks of what was there do not count.
    fn turn_back(&self, next: &mut Checkpoint, topic: &Source) {
        let back = |positions: &mut BTreeMap<i32, i64>| {
            for partition in topic.partitions().iter() {
                positions.entry(partition.id().0).and_modify(|next| *next = (*next).min(partition.tail().0));
            }
        };
        let mut kept: BTreeMap<String, BTreeMap<i32, i64>> =
            next.outputs.iter().map(|(name, output)| (name.clone(), output.positions.clone())).collect();
        let (before, state) = (next.positions.clone(), next.state.clone());
        let marks = (next.marks.clone(), next.window_marks.clone());
        let mut positions = before.clone();
        back(&mut positions);
        next.renew(positions);
        for (name, output) in &mut next.outputs {
            output.positions = kept.remove(name).unwrap_or_default();
            back(&mut output.positions);
        }
        if next.positions == before {
            // Only what comes behind the last cut is gone: what was remembered there still holds.
            (next.state, (next.marks, next.window_marks)) = (state, marks);
        }
    }

    /// Whether one of these offsets lies beyond the end of its partition: the log has lost what was read, which only a topic that answers
    /// before it syncs can. What comes there next are other records, so marks of the old ones must not count.
    fn is_ahead<'a>(&self, topic: &Source, offsets: impl Iterator<Item = (&'a i32, &'a i64)>) -> bool {
        let mut is_ahead = false;
        // Rows of windows come of no partition.
        for (id, next) in offsets.filter(|(id, _)| **id != WINDOWS) {
            let partition = topic.partition(crate::record::PartitionId(*id));
            if partition.is_none() && topic.is_shared() {
                // It is another member's now.
                continue;
            }
            let tail = partition.map_or(0, |partition| partition.tail().0);
            if *next > tail {
                is_ahead = true;
                error!(pipeline = self.job.spec.name, topic = %topic.name, partition = id, from = tail, to = next,
                    "records that the pipeline had read left the end of the log: it goes on at the end");
            }
        }
        is_ahead
    }

    /// What an output or its letters have of the source is there; else their marks must not count, and everything is opened once more.
    fn is_still_there(&mut self, topic: &Source, furthest: &BTreeMap<i32, i64>) -> Result<(), Fail> {
        if !self.is_ahead(topic, furthest.iter()) {
            return Ok(());
        }
        let mut next = self.checkpoint.clone();
        self.turn_back(&mut next, topic);
        self.store(next)?;
        Err(Fail::Anew)
    }

    /// Each route has its output in the checkpoint. A new one begins where the pipeline is, or where one of its kind stood that is gone: what
    /// waited for a place with a wrong name goes to the right one. One that is gone is forgotten once its files have their names.
    fn settle_outputs(&mut self, next: &mut Checkpoint) {
        let names = self.job.spec.outputs();
        if let (Some(only), Some(name)) = (next.outputs.remove(ONLY_OUTPUT), names.first()) {
            next.outputs.insert(name.clone(), only);
        }
        for (before, now) in renamed(&self.job.spec.routes, next.outputs.keys()) {
            if let Some(state) = next.outputs.remove(&before) {
                next.outputs.insert(now, state);
            }
        }
        let gone: Vec<String> = next.outputs.keys().filter(|name| !names.contains(name)).cloned().collect();
        let mut heirs = Vec::new();
        for name in &names {
            if !next.outputs.contains_key(name) {
                let positions = beginning(next, name, &gone);
                heirs.extend(gone.iter().filter(|gone| kind_of(gone) == kind_of(name)).cloned());
                next.outputs.insert(name.clone(), OutputState { positions, ..OutputState::default() });
            }
        }
        for name in gone {
            let behind = behind(&next.outputs[&name], &next.positions);
            if behind > 0 {
                let pipeline = &self.job.spec.name;
                match heirs.contains(&name) {
                    true => {
                        info!(
                            pipeline,
                            output = name,
                            records = behind,
                            "an output is gone; the new one of its kind gets what it lacks"
                        );
                    }
                    false => {
                        warn!(pipeline, output = name, records = behind, "an output is taken out that lacks records")
                    }
                }
            }
            match self.finish_files(&name) {
                Ok(()) => drop(next.outputs.remove(&name)),
                Err(reason) => {
                    warn!(pipeline = self.job.spec.name, output = name, %reason, "files of an output that the pipeline no longer has wait for their names");
                }
            }
        }
    }

    fn settle_folder(&self, state: &mut OutputState, route: &Route, out: &ParquetOutput) -> Result<(), Fail> {
        let failed = |error: std::io::Error| Fail::Down(error.to_string());
        let place = Place::of(out, &self.options.out).map_err(failed)?;
        let schema = route.schema(self.job.plan.output());
        let claim = self.claim_of(&place, state.generation, out).map_err(failed)?;
        match self.replay {
            None => lake::check_schema(&place, &schema).map_err(failed)?,
            Some(_) => lake::check_replayed(&place, &schema).map_err(failed)?,
        }
        match claim {
            // An output that was taken out of the pipeline and comes back, or a checkpoint that is older than its folder.
            Claim::Ours(generation) => state.generation = state.generation.max(generation),
            Claim::Nobodys => {
                if let (true, Place::Folder(folder)) = (self.has_written(state, &out.folder)?, &place) {
                    is_mounted(folder)?;
                }
            }
            Claim::Adopted(generation) => {
                info!(pipeline = self.job.spec.name, folder = %place, "adopted");
                state.generation = state.generation.max(generation + 1);
            }
        }
        Ok(())
    }

    /// Whose the folder is; after a reset that of an earlier pipeline of this name is its own.
    fn claim_of(&self, place: &Place, generation: u64, out: &ParquetOutput) -> std::io::Result<Claim> {
        let own = self.checkpoint.was_reset.then_some(self.job.spec.name.as_str());
        lake::whose(place, &self.owner(generation), out.adopt.as_deref().or(own))
    }

    /// A sign of life, for who waits for others.
    fn beat(&self) -> Beat {
        let life = self.life.clone();
        Arc::new(move || life.beat())
    }

    fn owner(&self, generation: u64) -> Owner {
        Owner {
            cluster: self.options.store.cluster_id(),
            pipeline: self.checkpoint.id,
            name: self.job.spec.name.clone(),
            generation,
        }
    }

    fn letters_topic(&self, source: &Source) -> Result<Arc<Topic>, Fail> {
        let (store, runtime) = (&self.options.store, &self.options.runtime);
        let letters = dead_letters::topic(store, runtime, &self.job.spec.on_error.then, source);
        letters.map_err(|error| Fail::Down(error.to_string()))
    }

    fn letters(&self, topic: &Arc<Source>, output: String, start: Start<'_>) -> Result<DeadLetters, Fail> {
        let sender = Sender { pipeline: &self.job.spec.name, output, then: &self.job.spec.on_error.then };
        let (store, runtime) = (&self.options.store, &self.options.runtime);
        let letters = DeadLetters::open(store, runtime, topic, sender, start, self.hooks.clone());
        letters.map_err(|error| Fail::Down(error.to_string()))
    }

    fn output_topic(&self, out: &TopicOutput, source: &Source) -> Result<Arc<Topic>, Fail> {
        let (store, runtime) = (&self.options.store, &self.options.runtime);
        journal::topic(store, runtime, &out.topic, source.partition_count(), Vec::new())
            .map_err(|error| Fail::Down(error.to_string()))
    }

    fn sink(&self, open: &Open, route: &Route, state: &OutputState) -> Result<Box<dyn Sink>, Fail> {
        let topic = &open.topic;
        match &route.to {
            Output::Parquet(out) => {
                let schema = route.schema(self.job.plan.output());
                let owner = self.owner(state.generation);
                let name = self.replay.as_ref().map_or_else(|| owner.name.clone(), |replay| replay.file_name());
                let place = Place::of(out, &self.options.out).map_err(|error| error.to_string())?;
                if !self.has_written(state, &out.folder)? {
                    place.found().map_err(|error| error.to_string())?;
                }
                let sink = Parquet::open((**out).clone(), schema, place, &owner, &name, &state.files, self.beat());
                Ok(Box::new(sink.map_err(|error| error.to_string())?))
            }
            Output::Kafka(_) => Err(Fail::Down("a topic elsewhere is opened with its cluster".to_owned())),
            Output::Http(out) => self.http(open, out, &route.to.to_string(), state),
            Output::Stdout => Ok(Box::new(Stdout)),
            Output::Topic(out) => {
                let output = self.output_topic(out, topic)?;
                let source = SourceTopic { pipeline: self.checkpoint.id, topic: topic.id };
                let known = state.topic.clone().unwrap_or_else(|| journal::untouched(&output));
                let journal = Journal::open(output, source, &known, &state.positions, self.hooks.clone());
                Ok(Box::new(TopicSink { journal: journal.map_err(|error| error.to_string())?, key: out.key.clone() }))
            }
        }
    }

    fn http(&self, open: &Open, out: &HttpOutput, name: &str, state: &OutputState) -> Result<Box<dyn Sink>, Fail> {
        let on_error = &self.job.spec.on_error;
        let opened = Opened {
            pipeline: self.checkpoint.id,
            topic: open.topic.id,
            // What is sent again on purpose has other ids.
            generation: self.replay.as_ref().map_or(state.generation, |replay| replay.number.unsigned_abs()),
            patience: Patience { retries: on_error.retries, backoff: on_error.backoff },
            clock: self.options.clock.clone(),
            stands_together: self.stand_together(open),
        };
        let begun = http::begun_path(&self.folder(), name);
        let sink = HttpSink::open(out, opened, &begun, &open.states.floor(&state.positions));
        Ok(Box::new(sink.map_err(|error| format!("cannot use {}: {error}", begun.display()))?))
    }

    /// Whether this output has written to a folder; of a replay also whether the live run has.
    fn has_written(&self, state: &OutputState, folder: &Path) -> Result<bool, Fail> {
        if self.replay.is_none() || state.folders.contains(folder) {
            return Ok(state.folders.contains(folder));
        }
        let live = Checkpoint::load(&checkpoint_path(&self.options, &self.job.spec.name));
        let live = live.map_err(|error| Fail::Down(format!("cannot read the pipeline's checkpoint: {error}")))?;
        Ok(live.is_some_and(|live| live.outputs.values().any(|output| output.folders.contains(folder))))
    }

    fn file_store(&self, route: &Route, state: &OutputState) -> Result<Option<Store>, Fail> {
        let Some(spec) = &route.store else { return Ok(None) };
        let failed = |error: std::io::Error| format!("cannot store files: {error}");
        let folder = self.options.out.join(&spec.folder);
        match self.has_written(state, &spec.folder)? {
            true => is_mounted(&folder)?,
            false => found(&folder).map_err(failed)?,
        }
        let pipeline = &self.job.spec.name;
        // A replay beside the live run leaves its staged files alone.
        let name = self.replay.as_ref().map_or_else(|| pipeline.clone(), |replay| replay.file_name());
        let store = Store::open(spec, &self.options.out, &name, &route.to.to_string());
        Ok(Some(store.map_err(failed)?))
    }

    /// Makes a checkpoint durable, if it says anything new.
    pub(super) fn store(&mut self, mut next: Checkpoint) -> Result<(), Fail> {
        if next != self.checkpoint {
            next.clock_ms = self.latest_ms();
        }
        self.life
            .keep(&next, &self.checkpoint, &self.path)
            .map_err(|error| format!("cannot write the checkpoint {}: {error}", self.path.display()))?;
        self.checkpoint = next;
        Ok(())
    }
}

/// Whether the folder of an output that has rows is there, and not empty as a place where no disk is mounted. Who makes it anew then writes
/// what nobody sees once the disk is back, and what was on its way there is lost. What somebody took out of it besides its rows is made again
/// at once; behind that nobody makes more than a last folder, for the disk may go away meanwhile.
fn is_mounted(folder: &Path) -> Result<(), Fail> {
    let notes = folder.join("_inrush");
    match std::fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => create_within(&notes).map_err(|error| Fail::Down(format!("{}: {error}", notes.display()))),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Fail::Down(format!("cannot read {}: {error}", folder.display())))
        }
        _ => Err(Fail::Down(format!(
            "{} is gone or empty, though this output has written there: mount the disk; or, if what it had is to be given up, mkdir -p {}",
            folder.display(),
            notes.display()
        ))),
    }
}

/// Why a pipeline cannot take over what another text's steps remember.
pub(super) fn state_mismatch(checkpoint: &Checkpoint, job: &Job) -> Option<String> {
    let known = checkpoint.state.as_ref()?;
    let steps = job.plan.identities();
    (known.steps != steps).then(|| {
        format!(
            "its steps remember other things than those of the last run ({}; now {}): bring them back, or let go what was remembered with inrush pipeline reload {} --state drop",
            listed(&known.steps),
            listed(&steps),
            job.spec.name
        )
    })
}

fn listed(steps: &[String]) -> String {
    if steps.is_empty() { "none".to_owned() } else { steps.join("; ") }
}

/// Each key of a step that remembers must come in one partition only.
pub(super) fn keyed_by(topic: &Source, job: &Job) -> Result<(), String> {
    let http_key = topic.http_key();
    let pointer = |path: &[String]| {
        path.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect::<String>()
    };
    for sources in job.plan.key_sources() {
        let is_keyed = sources.iter().any(|source| match source {
            From::Record(RecordField::Key) => true,
            From::Path(path) => http_key.as_deref() == Some(pointer(path).as_str()),
            From::Header(_) | From::Rest | From::Record(_) => false,
        });
        if !is_keyed {
            let proposed = sources.iter().find_map(|source| match source {
                From::Path(path) => Some(pointer(path)),
                _ => None,
            });
            let proposed = proposed.map_or(String::new(), |path| {
                format!("say so with inrush.http.key={path} on the topic, if its producers key records by that, or ")
            });
            return Err(format!(
                "topic {} has {} partitions, and a step that remembers sees one of them: all records of a key must be in one; {proposed}put _key into the step's key, if the records' own keys say it, or write them into another topic by a first pipeline, to = {{ topic = \"…\", key = \"…\" }}",
                topic.name,
                topic.partition_count()
            ));
        }
    }
    Ok(())
}

/// Where a new output begins.
fn beginning(next: &Checkpoint, name: &str, gone: &[String]) -> BTreeMap<i32, i64> {
    let mut positions = next.positions.clone();
    for gone in gone.iter().filter(|gone| kind_of(gone) == kind_of(name)) {
        // What it never had of a partition it lacks from the beginning.
        let stood = &next.outputs[gone].positions;
        positions.iter_mut().for_each(|(id, at)| *at = stood.get(id).copied().unwrap_or(0).min(*at));
    }
    positions
}

/// Records below `front` that an output lacks.
fn behind(output: &OutputState, front: &BTreeMap<i32, i64>) -> i64 {
    let front = front.iter().filter(|(id, _)| **id != WINDOWS);
    front.map(|(id, at)| (at - output.positions.get(id).copied().unwrap_or(0)).max(0)).sum()
}

/// Outputs to a Kafka topic that are known by other servers, or of a time when their names had none: by the old name the new one. If that is
/// another cluster in truth its topic has another id, and what was written is not looked for there.
fn renamed<'a>(routes: &[Route], known: impl Iterator<Item = &'a String>) -> Vec<(String, String)> {
    let names: Vec<String> = routes.iter().map(|route| route.to.to_string()).collect();
    let (known, mut gone): (Vec<&String>, Vec<&String>) = known.partition(|name| names.contains(name));
    let mut renamed = Vec::new();
    for (route, name) in routes.iter().zip(names) {
        let Output::Kafka(out) = &route.to else { continue };
        if known.contains(&&name) {
            continue;
        }
        let topic = format!("kafka {}", out.topic);
        let servers = |old: &str| old.strip_prefix(&topic)?.strip_prefix(" at ").map(str::to_owned);
        let is_of_topic = |old: &&&String| ***old == topic || servers(old).is_some();
        let shares = |old: &&&String| {
            servers(old)
                .is_some_and(|servers| servers.split(',').any(|one| out.cluster.servers.iter().any(|own| own == one)))
        };
        let mut candidates = gone.iter().filter(is_of_topic);
        let shared = gone.iter().filter(is_of_topic).find(shares);
        let only = candidates.next().filter(|_| candidates.next().is_none());
        let Some(before) = shared.or(only).map(|before| (*before).clone()) else { continue };
        gone.retain(|old| **old != before);
        renamed.push((before, name));
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn an_output_elsewhere_is_the_one_it_was_under_other_servers() {
        let to = |servers: &str| format!("[[route]]\nto = {{ kafka = \"orders\", servers = \"{servers}\" }}\n");
        let routes = |all: &[&str]| {
            let routes: String = all.iter().map(|servers| to(servers)).collect();
            let text = format!("from = \"topic:in\"\n{routes}[columns]\na = \"string\"\n");
            let spec = super::super::parse::parse(Path::new("p.toml"), &text);
            spec.map(|spec| spec.routes)
                .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<String>())
        };
        let known = |names: &[&str], all: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            renamed(&routes(all).unwrap(), names.iter())
        };
        let is = |old: &str, new: &str| vec![(old.to_owned(), new.to_owned())];
        assert_eq!(known(&["kafka orders"], &["a:1"]), is("kafka orders", "kafka orders at a:1"));
        assert_eq!(known(&["kafka orders at a:1"], &["a:1"]), []);
        assert_eq!(known(&["kafka orders at a:1"], &["b:1,a:1"]), is("kafka orders at a:1", "kafka orders at b:1,a:1"));
        assert_eq!(known(&["kafka orders at a:1"], &["b:1"]), is("kafka orders at a:1", "kafka orders at b:1"));
        let two = ["kafka orders at a:1", "kafka orders at c:1"];
        assert_eq!(known(&two, &["b:1,c:1", "a:1"]), is("kafka orders at c:1", "kafka orders at b:1,c:1"));
        assert_eq!(known(&two, &["b:1"]), [], "nobody knows which");
        assert_eq!(known(&["kafka orders-2 at a:1", "topic orders"], &["a:1"]), []);
        // Two clusters may have topics of one name; one cluster has not.
        assert_eq!(routes(&["a:1", "b:1"]).unwrap().len(), 2);
        let told = routes(&["a:1,b:1", "c:1,b:1"]).unwrap_err();
        assert!(told.contains("another route writes to kafka orders at c:1,b:1 too"), "{told}");
    }
}
