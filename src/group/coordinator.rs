//! All groups: which request is whose, what is durable before it is answered, what expires. Owns no task and no file: [`super::driver`] gives it
//! requests, the time and what became of its writes, and carries its writes to the log in their order.
//!
//! Writes of all groups go to one partition and come back in that order, and memory changes when they do: it follows the log, whatever
//! fails. A removal names what commits on their way will have put there, since the log has those before it.

use super::classic::{Members, Now, Store, Then};
use super::member::Answer;
use super::offsets::{Committed, Offsets};
use super::records::{self, Key, StoredGroup};
use super::{
    Commit, CommittedOffset, DescribedMember, Description, Error, Fetched, Join, Joined, Leaving, Listed,
    NAME_SIZE_MAX, Options, State, Sync, Synced,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use uuid::Uuid;

/// The largest value of one group: what the topic takes as a batch, less what stands around it.
pub(super) const GROUP_VALUE_SIZE_MAX: usize = 16 << 20;

/// What is asked.
pub(super) enum Request {
    Join { group: Arc<str>, join: Join, answer: Answer<Joined> },
    Sync { group: Arc<str>, sync: Sync, answer: Answer<Synced> },
    Heartbeat { group: Arc<str>, member: Arc<str>, instance: Option<Arc<str>>, generation: i32, answer: Answer<()> },
    Leave { group: Arc<str>, leaving: Vec<Leaving>, answer: Answer<Vec<Result<(), Error>>> },
    Commit { group: Arc<str>, commit: Commit, answer: Answer<()> },
    Fetch { group: Arc<str>, wanted: Option<Vec<(Arc<str>, Vec<i32>)>>, answer: Answer<Vec<Fetched>> },
    Describe { group: Arc<str>, answer: Answer<Description> },
    List { answer: Answer<Vec<Listed>> },
    Delete { group: Arc<str>, answer: Answer<()> },
    Forget { group: Arc<str>, offsets: Vec<(Arc<str>, i32)>, answer: Answer<Vec<Result<(), Error>>> },
}

impl Request {
    /// Answers with an error, whatever was asked.
    pub(super) fn refuse(self, error: Error) {
        match self {
            Request::Join { answer, .. } => drop(answer.send(Err(error))),
            Request::Sync { answer, .. } => drop(answer.send(Err(error))),
            Request::Heartbeat { answer, .. } | Request::Commit { answer, .. } | Request::Delete { answer, .. } => {
                drop(answer.send(Err(error)));
            }
            Request::Leave { answer, .. } | Request::Forget { answer, .. } => drop(answer.send(Err(error))),
            Request::Fetch { answer, .. } => drop(answer.send(Err(error))),
            Request::Describe { answer, .. } => drop(answer.send(Err(error))),
            Request::List { answer } => drop(answer.send(Err(error))),
        }
    }
}

/// Records for the log, and what then happens.
pub(super) struct Write {
    pub(super) records: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(super) done: Done,
}

/// What happens once a write is durable, or has failed.
pub(super) enum Done {
    Group {
        group: Arc<str>,
        then: Then,
    },
    Committed {
        group: Arc<str>,
        offsets: Vec<CommittedOffset>,
        answer: Answer<()>,
    },
    /// Offsets that go, and with `whole` the record of the group.
    Removed {
        group: Arc<str>,
        offsets: Vec<Place>,
        whole: bool,
        who: Asker,
    },
}

/// A topic and a partition of it.
type Place = (Arc<str>, i32);

/// Who wants to hear of a removal.
pub(super) enum Asker {
    OfGroup(Answer<()>),
    OfOffsets(Vec<Result<(), Error>>, Answer<Vec<Result<(), Error>>>),
    Nobody,
}

struct Group {
    members: Members,
    offsets: Offsets,
    /// Its next time in the coordinator's timers.
    scheduled: Option<i64>,
    /// What it was last counted with, and its members' part of that.
    size: usize,
    members_size: usize,
    /// Something of it stands in the log, or did: it goes when that is old.
    is_stored: bool,
    /// Writes that have not come back, and the places that commits among them are for.
    in_flight: usize,
    committing: BTreeMap<Place, usize>,
}

pub(super) struct Coordinator {
    options: Options,
    groups: BTreeMap<Arc<str>, Group>,
    timers: BTreeSet<(i64, Arc<str>)>,
    writes: VecDeque<Write>,
    /// Bytes of all groups, roughly.
    size: usize,
    /// Until then nobody joins: the log does not take the groups' records.
    refused_until: i64,
}

/// How long nobody joins after a group could not be written down: its members would come again at once.
const REFUSED_MS: i64 = 1_000;

/// A group's part of the maps that hold it.
const GROUP_SIZE: usize = 512;

impl Coordinator {
    pub(super) fn new(options: Options) -> Coordinator {
        Coordinator {
            options,
            groups: BTreeMap::new(),
            timers: BTreeSet::new(),
            writes: VecDeque::new(),
            size: 0,
            refused_until: 0,
        }
    }

    /// The next write, in the order of the log.
    pub(super) fn next_write(&mut self) -> Option<Write> {
        self.writes.pop_front()
    }

    pub(super) fn has_writes(&self) -> bool {
        !self.writes.is_empty()
    }

    /// When [`Coordinator::tick`] has something to do next, on the steady clock.
    pub(super) fn next_deadline(&self) -> Option<i64> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Takes over what the log holds, when it is all read.
    pub(super) fn restore(&mut self, now: Now, loaded: Loaded) {
        for (name, stored) in loaded.groups {
            let mut group = Group::new(&self.options, now);
            group.members = Members::restored(stored, self.options.first_wait_ms, now);
            group.is_stored = true;
            self.groups.insert(name, group);
        }
        for ((name, topic, partition), committed) in loaded.offsets {
            let group = self.groups.entry(name).or_insert_with(|| Group::new(&self.options, now));
            group.is_stored = true;
            group.offsets.put(&topic, partition, committed);
        }
        let names: Vec<_> = self.groups.keys().cloned().collect();
        for name in names {
            self.settle_members(&name);
        }
    }

    pub(super) fn handle(&mut self, now: Now, request: Request) {
        match request {
            Request::List { answer } => {
                let listed = |(name, group): (&Arc<str>, &Group)| Listed {
                    group: name.clone(),
                    protocol_type: group.members.protocol_type.clone().unwrap_or_default(),
                    state: group.members.state(),
                };
                let _ = answer.send(Ok(self.groups.iter().map(listed).collect()));
            }
            Request::Describe { group, answer } => {
                let found = self.groups.get(&group).map(Group::describe);
                let _ = answer.send(found.ok_or(Error::NotFound));
            }
            Request::Fetch { group, wanted, answer } => {
                let _ = answer.send(Ok(self.fetch(&group, wanted)));
            }
            Request::Join { group, join, answer } => self.join(now, group, join, answer),
            Request::Sync { group, answer, .. } if group.is_empty() => drop(answer.send(Err(Error::InvalidGroupId))),
            Request::Heartbeat { group, answer, .. } if group.is_empty() => {
                let _ = answer.send(Err(Error::InvalidGroupId));
            }
            Request::Leave { group, answer, .. } if group.is_empty() => drop(answer.send(Err(Error::InvalidGroupId))),
            Request::Sync { group, sync, answer } => self.sync(now, group, sync, answer),
            Request::Heartbeat { group, member, instance, generation, answer } => {
                let found = self.groups.get_mut(&group);
                let done = found.map_or(Err(Error::UnknownMember), |group| {
                    group.members.heartbeat(now, &member, instance.as_deref(), generation)
                });
                let _ = answer.send(done);
            }
            Request::Leave { group, leaving, answer } => self.leave(now, group, &leaving, answer),
            Request::Commit { group, commit, answer } => self.commit(now, group, commit, answer),
            Request::Delete { group, answer } => self.delete(group, answer),
            Request::Forget { group, offsets, answer } => self.forget(group, offsets, answer),
        }
    }

    fn join(&mut self, now: Now, name: Arc<str>, join: Join, answer: Answer<Joined>) {
        let error = match join.session_ms {
            _ if name.is_empty() || name.len() > NAME_SIZE_MAX => Some(Error::InvalidGroupId),
            _ if join.has_long_name() => Some(Error::NameTooLong),
            _ if now.steady_ms < self.refused_until => {
                Some(Error::NotAvailable("the log does not take them".to_owned()))
            }
            ms if !(self.options.session_ms_min..=self.options.session_ms_max).contains(&ms) => {
                Some(Error::InvalidSessionTimeout)
            }
            _ if !self.groups.contains_key(&name) && !join.member.is_empty() => Some(Error::UnknownMember),
            _ if self.size >= self.options.size_max && self.grows(&name, &join) => Some(Error::Full),
            _ => None,
        };
        if let Some(error) = error {
            let _ = answer.send(Err(error));
            return;
        }
        let group = self.groups.entry(name.clone()).or_insert_with(|| Group::new(&self.options, now));
        let mut stores = Vec::new();
        group.members.join(now, join, answer, &mut stores);
        self.store(now, &name, stores);
    }

    fn grows(&self, name: &str, join: &Join) -> bool {
        join.member.is_empty() || self.groups.get(name).is_none_or(|group| group.members.growth(join) > 0)
    }

    fn sync(&mut self, now: Now, name: Arc<str>, sync: Sync, answer: Answer<Synced>) {
        let Some(group) = self.groups.get_mut(&name) else {
            let _ = answer.send(Err(Error::UnknownMember));
            return;
        };
        let mut stores = Vec::new();
        group.members.sync(now, sync, answer, &mut stores);
        self.store(now, &name, stores);
    }

    fn leave(&mut self, now: Now, name: Arc<str>, leaving: &[Leaving], answer: Answer<Vec<Result<(), Error>>>) {
        let mut stores = Vec::new();
        let mut leave = |leaving: &Leaving| match self.groups.get_mut(&name) {
            Some(group) => group.members.leave(now, leaving, &mut stores),
            None => Err(Error::UnknownMember),
        };
        let results = leaving.iter().map(&mut leave).collect();
        self.store(now, &name, stores);
        let _ = answer.send(Ok(results));
    }

    fn commit(&mut self, now: Now, name: Arc<str>, commit: Commit, answer: Answer<()>) {
        let Commit { generation, member, instance, offsets } = commit;
        let is_full = self.size >= self.options.size_max;
        let checked = match self.groups.get_mut(&name) {
            _ if name.len() > NAME_SIZE_MAX => Err(Error::InvalidGroupId),
            Some(group) if is_full && offsets.iter().any(|one| !group.has(one)) => Err(Error::Full),
            Some(group) => group.members.check_commit(now, &member, instance.as_deref(), generation),
            // Who assigns partitions itself uses a group for its offsets alone.
            None if generation < 0 && is_full => Err(Error::Full),
            None if generation < 0 => Ok(()),
            None => Err(Error::NotFound),
        };
        if let (Ok(()), false) = (&checked, offsets.is_empty()) {
            let group = self.groups.entry(name.clone()).or_insert_with(|| Group::new(&self.options, now));
            group.in_flight += 1;
            let mut offsets = offsets;
            for one in &mut offsets {
                one.committed.commit_ms = now.wall_ms;
                *group.committing.entry((one.topic.clone(), one.partition)).or_default() += 1;
            }
            let record = |one: &CommittedOffset| {
                (records::offset_key(&name, &one.topic, one.partition), Some(records::offset_value(&one.committed)))
            };
            let records = offsets.iter().map(record).collect();
            self.writes.push_back(Write { records, done: Done::Committed { group: name.clone(), offsets, answer } });
        } else {
            let _ = answer.send(checked);
        }
        self.settle(&name);
    }

    fn fetch(&self, name: &str, wanted: Option<Vec<(Arc<str>, Vec<i32>)>>) -> Vec<Fetched> {
        let group = self.groups.get(name);
        let fetched = |topic: &Arc<str>, partition, committed: Option<&Committed>| Fetched {
            topic: topic.clone(),
            partition,
            committed: committed.cloned(),
        };
        match wanted {
            None => group.map_or_else(Vec::new, |group| {
                group.offsets.iter().map(|(topic, partition, found)| fetched(topic, partition, Some(found))).collect()
            }),
            Some(wanted) => {
                let each = wanted.iter().flat_map(|(topic, ids)| ids.iter().map(move |id| (topic, *id)));
                each.map(|(topic, id)| fetched(topic, id, group.and_then(|group| group.offsets.get(topic, id))))
                    .collect()
            }
        }
    }

    fn delete(&mut self, name: Arc<str>, answer: Answer<()>) {
        match self.groups.get(&name) {
            None => drop(answer.send(Err(Error::NotFound))),
            Some(group) if !group.members.is_empty() => drop(answer.send(Err(Error::NonEmpty))),
            Some(group) => {
                let offsets = group.places();
                self.take_away(&name, offsets, true, Asker::OfGroup(answer));
            }
        }
    }

    fn forget(&mut self, name: Arc<str>, offsets: Vec<Place>, answer: Answer<Vec<Result<(), Error>>>) {
        let Some(group) = self.groups.get(&name) else {
            let _ = answer.send(Err(Error::NotFound));
            return;
        };
        let read = match group.members.is_empty() {
            true => Some(BTreeSet::new()),
            false => group.members.subscribed(),
        };
        let Some(read) = read else {
            let _ = answer.send(Err(Error::NonEmpty));
            return;
        };
        let is_read = |(topic, _): &Place| read.contains(&**topic);
        let judge = |place: &Place| if is_read(place) { Err(Error::SubscribedToTopic) } else { Ok(()) };
        let results: Vec<_> = offsets.iter().map(judge).collect();
        let known = group.places();
        let gone: BTreeSet<_> = offsets.into_iter().filter(|place| !is_read(place) && known.contains(place)).collect();
        if gone.is_empty() {
            let _ = answer.send(Ok(results));
        } else {
            self.take_away(&name, gone, false, Asker::OfOffsets(results, answer));
        }
    }

    /// Writes that offsets, or all of a group, are gone.
    fn take_away(&mut self, name: &Arc<str>, offsets: BTreeSet<Place>, whole: bool, who: Asker) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.in_flight += 1;
        let gone = |(topic, partition): &Place| (records::offset_key(name, topic, *partition), None);
        let mut records: Vec<_> = offsets.iter().map(gone).collect();
        if whole {
            records.push((records::group_key(name), None));
        }
        let offsets = offsets.into_iter().collect();
        self.writes.push_back(Write { records, done: Done::Removed { group: name.clone(), offsets, whole, who } });
    }

    /// A write came back.
    pub(super) fn done(&mut self, now: Now, done: Done, result: Result<(), Error>) {
        match done {
            Done::Removed { group: name, offsets, whole, who } => {
                if let (Some(group), Ok(())) = (self.groups.get_mut(&name), &result) {
                    for (topic, partition) in &offsets {
                        group.offsets.remove(topic, *partition);
                    }
                    group.is_stored &= !whole;
                }
                match who {
                    Asker::OfGroup(answer) => drop(answer.send(result)),
                    Asker::OfOffsets(results, answer) => drop(answer.send(result.map(|()| results))),
                    Asker::Nobody => {}
                }
                self.came_back(&name);
            }
            Done::Group { group: name, then } => {
                let mut stores = Vec::new();
                if let Some(group) = self.groups.get_mut(&name) {
                    group.is_stored |= result.is_ok();
                    group.members.stored_is(now, then, &result, &mut stores);
                }
                if result.is_err() {
                    self.refused_until = now.steady_ms + REFUSED_MS;
                }
                self.store(now, &name, stores);
                self.came_back(&name);
            }
            Done::Committed { group: name, offsets, answer } => {
                if let Some(group) = self.groups.get_mut(&name) {
                    group.is_stored |= result.is_ok();
                    for CommittedOffset { topic, partition, committed } in offsets {
                        let place = (topic, partition);
                        match group.committing.get_mut(&place) {
                            Some(count) if *count > 1 => *count -= 1,
                            _ => drop(group.committing.remove(&place)),
                        }
                        if result.is_ok() {
                            group.offsets.put(&place.0, partition, committed);
                        }
                    }
                }
                let _ = answer.send(result);
                self.came_back(&name);
            }
        }
    }

    fn came_back(&mut self, name: &Arc<str>) {
        if let Some(group) = self.groups.get_mut(name) {
            group.in_flight -= 1;
        }
        self.settle(name);
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Now) {
        let later = self.timers.split_off(&(now.steady_ms + 1, "".into()));
        // What becomes due by what is done now is for the next time: one group must not keep the others waiting.
        for (_, name) in std::mem::replace(&mut self.timers, later) {
            let Some(group) = self.groups.get_mut(&name) else { continue };
            group.scheduled = None;
            let mut stores = Vec::new();
            group.members.tick(now, &mut stores);
            self.store(now, &name, stores);
        }
    }

    /// Takes away what is out of date: offsets that nobody came back to, those of topics that are gone (`id_of` says which id a name has
    /// now), and groups that hold nothing any more.
    pub(super) fn expire(&mut self, now: Now, id_of: impl Fn(&str) -> Option<Uuid>) {
        let mut gone = Vec::new();
        for (name, group) in &self.groups {
            let expired = group.expired(now, self.options.retention_ms, &id_of);
            let is_all = expired.len() == group.offsets.count() && group.in_flight == 0;
            let whole = is_all && group.members.is_abandoned() && group.is_stored;
            if whole || !expired.is_empty() {
                gone.push((name.clone(), expired, whole));
            }
        }
        for (name, offsets, whole) in gone {
            self.take_away(&name, offsets, whole, Asker::Nobody);
        }
    }

    /// Ends all waits.
    pub(super) fn refuse_all(&mut self, error: &Error) {
        for group in self.groups.values_mut() {
            group.members.refuse_all(error);
        }
    }

    /// Every committed offset, for metrics of lag.
    pub(super) fn offsets(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, i32, &Committed)> {
        self.groups.iter().flat_map(|(name, group)| {
            group.offsets.iter().map(move |(topic, partition, committed)| (name, topic, partition, committed))
        })
    }

    /// Groups and their members.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.groups.len(), self.groups.values().map(|group| group.members.iter().count()).sum())
    }

    fn store(&mut self, now: Now, name: &Arc<str>, stores: Vec<Store>) {
        for Store { value, then } in stores {
            let bytes = records::group_value(&value);
            let Some(group) = self.groups.get_mut(name) else { continue };
            group.in_flight += 1;
            let done = Done::Group { group: name.clone(), then };
            if bytes.len() > GROUP_VALUE_SIZE_MAX {
                // Its members are told, and share out again, in the hope that they are fewer.
                self.done(now, done, Err(Error::GroupTooLarge(bytes.len())));
                continue;
            }
            let records = vec![(records::group_key(name), Some(bytes))];
            self.writes.push_back(Write { records, done });
        }
        self.settle_members(name);
    }

    /// After every change of a group's members: its timer, and what [`Coordinator::settle`] does.
    fn settle_members(&mut self, name: &Arc<str>) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.members_size = group.members.size();
        let next = group.members.next_deadline();
        // A timer that comes too early looks again; only one that would come too late is moved.
        if let Some(next) = next.filter(|next| group.scheduled.is_none_or(|scheduled| *next < scheduled)) {
            if let Some(scheduled) = group.scheduled.replace(next) {
                self.timers.remove(&(scheduled, name.clone()));
            }
            self.timers.insert((next, name.clone()));
        }
        self.settle(name);
    }

    /// After every change of a group: its size, and whether it is one at all. Costs nothing that grows with it.
    fn settle(&mut self, name: &Arc<str>) {
        let Some(group) = self.groups.get_mut(name) else { return };
        if group.members.is_abandoned() && group.offsets.count() == 0 && group.in_flight == 0 && !group.is_stored {
            self.remove(name);
            return;
        }
        let size = GROUP_SIZE + name.len() + group.members_size + group.offsets.size();
        self.size = self.size + size - group.size;
        group.size = size;
    }

    fn remove(&mut self, name: &Arc<str>) {
        let Some(mut group) = self.groups.remove(name) else { return };
        group.members.refuse_all(&Error::NotFound);
        self.size -= group.size;
        if let Some(scheduled) = group.scheduled {
            self.timers.remove(&(scheduled, name.clone()));
        }
    }
}

impl Group {
    fn new(options: &Options, now: Now) -> Group {
        Group {
            members: Members::new(options.first_wait_ms, now),
            offsets: Offsets::default(),
            scheduled: None,
            size: 0,
            members_size: 0,
            is_stored: false,
            in_flight: 0,
            committing: BTreeMap::new(),
        }
    }

    /// Whether there is an offset in this place already.
    fn has(&self, one: &CommittedOffset) -> bool {
        self.offsets.get(&one.topic, one.partition).is_some()
    }

    /// All places that have an offset, or will have one when what is on its way has come back.
    fn places(&self) -> BTreeSet<Place> {
        let there = self.offsets.iter().map(|(topic, partition, _)| (topic.clone(), partition));
        there.chain(self.committing.keys().cloned()).collect()
    }

    fn describe(&self) -> Description {
        let members = &self.members;
        let is_shared_out = members.state() == State::Stable;
        let protocol = members.protocol().filter(|_| is_shared_out).cloned();
        let told = |member: &super::member::Member| DescribedMember {
            id: member.id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            // Nobody has a part before all have theirs.
            metadata: protocol.as_ref().map(|protocol| member.metadata(protocol)).unwrap_or_default(),
            assignment: if is_shared_out { member.assignment.clone() } else { Bytes::new() },
        };
        Description {
            state: members.state(),
            protocol_type: members.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.clone().unwrap_or_default(),
            members: members.iter().map(told).collect(),
        }
    }

    /// Offsets that are out of date (KIP-211): of a group without members since its last one left; of one with members those of topics
    /// that nobody in it reads; of a group that never had members since they were committed.
    fn expired(&self, now: Now, retention_ms: i64, id_of: &impl Fn(&str) -> Option<Uuid>) -> BTreeSet<Place> {
        let had_members = self.members.protocol_type.is_some();
        let is_empty = self.members.is_abandoned();
        // Between two generations nobody can say what is read.
        let is_stable = self.members.state() == State::Stable;
        let read = if is_stable { self.members.subscribed() } else { None };
        let is_old = |topic: &str, committed: &Committed| {
            let since_ms = match (had_members, is_empty, &read) {
                (true, true, _) => committed.commit_ms.max(self.members.since_ms()),
                (true, false, Some(read)) if !read.contains(topic) => committed.commit_ms,
                (true, false, _) => return false,
                (false, _, _) => committed.commit_ms,
            };
            now.wall_ms.saturating_sub(since_ms) >= retention_ms
        };
        let is_of_another = |topic: &str, committed: &Committed| match id_of(topic) {
            None => true,
            Some(id) => !committed.topic_id.is_nil() && committed.topic_id != id,
        };
        let is_out = |(topic, _, committed): &(&Arc<str>, i32, &Committed)| {
            is_old(topic, committed) || is_of_another(topic, committed)
        };
        // Behind a commit that is on its way, its offset is a new one.
        let is_still = |place: &Place| !self.committing.contains_key(place);
        let out = self.offsets.iter().filter(is_out).map(|(topic, partition, _)| (topic.clone(), partition));
        out.filter(is_still).collect()
    }
}

/// What the log holds, gathered record by record.
#[derive(Default)]
pub(super) struct Loaded {
    groups: HashMap<Arc<str>, StoredGroup>,
    offsets: BTreeMap<(Arc<str>, Arc<str>, i32), Committed>,
}

impl Loaded {
    /// Takes the next record of the log.
    ///
    /// # Errors
    /// What is wrong with it; it is passed over.
    pub(super) fn take(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), &'static str> {
        match (records::read_key(key)?, value) {
            (Key::Offset { group, topic, partition }, Some(value)) => {
                self.offsets.insert((group, topic, partition), records::read_offset(value)?);
            }
            (Key::Offset { group, topic, partition }, None) => drop(self.offsets.remove(&(group, topic, partition))),
            (Key::Group { group }, Some(value)) => drop(self.groups.insert(group, records::read_group(value)?)),
            (Key::Group { group }, None) => drop(self.groups.remove(&group)),
            (Key::Other(_), _) => {}
        }
        Ok(())
    }
}
