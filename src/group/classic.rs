//! The members of one group and how they agree on who reads what: Kafka's classic protocol as a state machine. It owns no clock, no task
//! and no file: time comes in, answers go to those who wait, and what must be written down first comes out as [`Store`].
//!
//! ```text
//!            first join               all joined, or time over          leader's assignment stored
//!   Empty ───────────────► Preparing ─────────────────────────► Completing ───────────────► Stable
//!     ▲                     ▲  │ nobody is left                     │ join, leave, timeout    │
//!     └─────────────────────┼──┘                                    │                         │
//!                           └───────────────────────────────────────┴─────────────────────────┘
//! ```
//!
//! Source: Kafka's group coordinator, KIP-345 (static members), KIP-394 (members are told their id first), KIP-814 (a static leader that
//! comes back skips the assignment).

use super::member::{Answer, Member, subscribed_topics};
use super::records::{StoredGroup, StoredMember};
use super::{Error, Join, Joined, JoinedMember, Leaving, State, Sync, Synced};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use uuid::Uuid;

/// How long a member that is new may wait for its first generation (Kafka's NewMemberJoinTimeoutMs).
const NEW_MEMBER_WAIT_MS: i64 = 5 * 60 * 1000;
/// Members of one group.
const MEMBERS_MAX: usize = 10_000;
/// Ways to share out that one member may know.
const PROTOCOLS_MAX: usize = 32;
/// Static members that did not come back are waited for again, this long at least.
const AGAIN_MS_MIN: i64 = 1_000;
/// What consumers call their protocol; of others nobody knows what they read.
const CONSUMER: &str = "consumer";

/// The time: steady for deadlines, the wall's for what is written down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) steady_ms: i64,
    pub(super) wall_ms: i64,
}

/// What is to be written down before the group goes on.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) value: StoredGroup,
    pub(super) then: Then,
}

/// What happens once it is durable.
#[derive(Debug)]
pub(super) enum Then {
    /// Members get their parts.
    Assigned {
        generation: i32,
        assignments: HashMap<Arc<str>, Bytes>,
    },
    /// A static member that came back is answered.
    Returned {
        member: Arc<str>,
        leader: Option<Arc<str>>,
    },
    Nothing,
}

/// Until when members may come (back) in.
#[derive(Clone, Copy, Debug)]
enum Gathering {
    /// The first generation waits a little for others to start too.
    First {
        until: i64,
        left_ms: i64,
        somebody_came: bool,
    },
    Again {
        until: i64,
    },
}

#[derive(Debug)]
pub(super) struct Members {
    state: State,
    /// Since when, by the wall clock.
    since_ms: i64,
    pub(super) protocol_type: Option<Arc<str>>,
    protocol: Option<Arc<str>>,
    generation: i32,
    leader: Option<Arc<str>>,
    members: BTreeMap<Arc<str>, Member>,
    instances: HashMap<Arc<str>, Arc<str>>,
    /// Ids given out whose owners have not come back with them, and until when they may.
    announced: BTreeMap<Arc<str>, i64>,
    gathering: Option<Gathering>,
    /// Who has not asked for its part of this generation, and until when it may.
    unsynced: BTreeSet<Arc<str>>,
    sync_until: i64,
    first_wait_ms: i64,
}

impl Members {
    pub(super) fn new(first_wait_ms: i64, now: Now) -> Members {
        Members {
            state: State::Empty,
            since_ms: now.wall_ms,
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            announced: BTreeMap::new(),
            gathering: None,
            unsynced: BTreeSet::new(),
            sync_until: 0,
            first_wait_ms,
        }
    }

    /// As it was written down. Its members have a session's time to be heard of.
    pub(super) fn restored(stored: StoredGroup, first_wait_ms: i64, now: Now) -> Members {
        let protocol = stored.protocol.unwrap_or_default();
        let restore = |member: StoredMember| {
            let member = Member::restored(member, &protocol, now.steady_ms);
            (member.id.clone(), member)
        };
        let members: BTreeMap<_, _> = stored.members.into_iter().map(restore).collect();
        let instance = |member: &Member| Some((member.instance.clone()?, member.id.clone()));
        let is_empty = members.is_empty();
        Members {
            state: if is_empty { State::Empty } else { State::Stable },
            since_ms: if stored.since_ms >= 0 { stored.since_ms } else { now.wall_ms },
            protocol_type: Some(stored.protocol_type.into()).filter(|name: &Arc<str>| !name.is_empty()),
            protocol: if is_empty { None } else { Some(protocol.as_str().into()) },
            generation: stored.generation,
            leader: stored.leader.map(Arc::from).filter(|leader| members.contains_key(leader)),
            instances: members.values().filter_map(instance).collect(),
            members,
            ..Members::new(first_wait_ms, now)
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn since_ms(&self) -> i64 {
        self.since_ms
    }

    pub(super) fn protocol(&self) -> Option<&Arc<str>> {
        self.protocol.as_ref()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Nobody is in it; somebody may have been told an id.
    pub(super) fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Nobody is in it or on the way in.
    pub(super) fn is_abandoned(&self) -> bool {
        self.is_empty() && self.announced.is_empty()
    }

    /// Bytes that a join would add, beyond what the member holds already.
    pub(super) fn growth(&self, join: &Join) -> usize {
        let asked: usize = join.protocols.iter().map(|(name, bytes)| name.len() + bytes.len()).sum();
        asked.saturating_sub(self.members.get(&join.member).map_or(0, Member::size))
    }

    /// Bytes that members hold, roughly.
    pub(super) fn size(&self) -> usize {
        let announced: usize = self.announced.keys().map(|id| id.len() + 96).sum();
        self.members.values().map(Member::size).sum::<usize>() + announced
    }

    /// The topics that members read; `None` if nobody can know.
    pub(super) fn subscribed(&self) -> Option<BTreeSet<String>> {
        let protocol = self.protocol.as_ref()?;
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscribed_topics(&member.metadata(protocol))?.into_iter().map(str::to_owned));
        }
        Some(topics)
    }

    pub(super) fn join(&mut self, now: Now, request: Join, answer: Answer<Joined>, stores: &mut Vec<Store>) {
        if let Err(error) = self.try_join(now, request, answer, stores) {
            let (answer, error) = *error;
            let _ = answer.send(Err(error));
        }
        self.go_on(now, stores);
    }

    fn try_join(
        &mut self,
        now: Now,
        request: Join,
        answer: Answer<Joined>,
        stores: &mut Vec<Store>,
    ) -> Result<(), Box<(Answer<Joined>, Error)>> {
        let refuse = |answer, error| Err(Box::new((answer, error)));
        if !self.is_compatible(&request) {
            return refuse(answer, Error::InconsistentProtocol);
        }
        if request.member.is_empty() {
            return match request.instance.as_ref().and_then(|instance| self.instances.get(instance)).cloned() {
                Some(old) => {
                    self.come_back(now, &old, request, answer, stores);
                    Ok(())
                }
                None if self.members.len() + self.announced.len() >= MEMBERS_MAX => {
                    refuse(answer, Error::GroupFull(MEMBERS_MAX))
                }
                None => {
                    let prefix = request.instance.as_ref().unwrap_or(&request.client_id);
                    let id: Arc<str> = format!("{prefix}-{}", Uuid::new_v4()).into();
                    if request.must_know_id && request.instance.is_none() {
                        self.announced.insert(id.clone(), now.steady_ms + request.session_ms);
                        return refuse(answer, Error::MemberIdRequired(id));
                    }
                    self.add(now, id, request, answer);
                    Ok(())
                }
            };
        }
        if request.instance.is_none() && self.announced.remove(&request.member).is_some() {
            self.add(now, request.member.clone(), request, answer);
            return Ok(());
        }
        if let Err(error) = self.check(&request.member, request.instance.as_deref()) {
            return refuse(answer, error);
        }
        self.rejoin(now, request, answer);
        Ok(())
    }

    /// Whether a member with these protocols can be in one generation with the others.
    fn is_compatible(&self, request: &Join) -> bool {
        if request.protocol_type.is_empty() || !(1..=PROTOCOLS_MAX).contains(&request.protocols.len()) {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        let all_know = |(name, _): &(Arc<str>, Bytes)| self.members.values().all(|member| member.knows(name));
        self.protocol_type.as_ref() == Some(&request.protocol_type) && request.protocols.iter().any(all_know)
    }

    /// Whether this id, and the instance that says to own it, are in the group.
    fn check(&self, member: &str, instance: Option<&str>) -> Result<(), Error> {
        if let Some(instance) = instance {
            return match self.instances.get(instance) {
                None => Err(Error::UnknownMember),
                Some(id) if &**id != member => Err(Error::FencedInstance),
                Some(_) => Ok(()),
            };
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(Error::UnknownMember) }
    }

    /// As [`Members::check`], and that it speaks of this generation.
    fn check_generation(&self, member: &str, instance: Option<&str>, generation: i32) -> Result<(), Error> {
        self.check(member, instance)?;
        if generation == self.generation { Ok(()) } else { Err(Error::IllegalGeneration) }
    }

    fn add(&mut self, now: Now, id: Arc<str>, request: Join, answer: Answer<Joined>) {
        if let Some(Gathering::First { somebody_came, .. }) = &mut self.gathering {
            *somebody_came = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type);
        }
        if let Some(instance) = &request.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        let member = Member {
            id: id.clone(),
            instance: request.instance,
            client_id: request.client_id,
            client_host: request.client_host,
            session_ms: request.session_ms,
            rebalance_ms: request.rebalance_ms,
            protocols: request.protocols,
            assignment: Bytes::new(),
            deadline: now.steady_ms + NEW_MEMBER_WAIT_MS,
            is_new: true,
            joining: Some(answer),
            syncing: None,
            may_skip: request.may_skip,
        };
        self.members.insert(id, member);
        self.gather(now);
    }

    /// A member that is in the group joins again.
    fn rejoin(&mut self, now: Now, request: Join, answer: Answer<Joined>) {
        let Some(member) = self.members.get(&request.member) else { return };
        let is_same = member.protocols == request.protocols;
        let is_leader = self.leader.as_ref() == Some(&request.member);
        let is_told = match self.state {
            // The answer was lost: it gets the same again. The leader gets the members, as it may still have to assign.
            State::Completing => is_same,
            // A leader asks for a new generation by joining; a follower only if what it tells has changed.
            State::Stable => is_same && !is_leader,
            _ => false,
        };
        let id = request.member.clone();
        if is_told {
            let joined = self.joined(&id, State::Completing == self.state);
            let _ = answer.send(Ok(joined));
            self.hear(now, &id);
            return;
        }
        self.update(&id, request, answer);
        self.gather(now);
    }

    fn update(&mut self, id: &str, request: Join, answer: Answer<Joined>) {
        let Some(member) = self.members.get_mut(id) else { return };
        // It sent this request a second time, on another connection.
        member.answer_join(Err(Error::RebalanceInProgress));
        member.protocols = request.protocols;
        member.session_ms = request.session_ms;
        member.rebalance_ms = request.rebalance_ms;
        member.client_id = request.client_id;
        member.client_host = request.client_host;
        member.may_skip = request.may_skip;
        member.joining = Some(answer);
    }

    /// A static member has restarted: it takes its old place under a new id.
    fn come_back(&mut self, now: Now, old: &Arc<str>, request: Join, answer: Answer<Joined>, stores: &mut Vec<Store>) {
        let Some(mut member) = self.members.remove(old) else { return };
        let instance = request.instance.clone().unwrap_or_default();
        let id: Arc<str> = format!("{instance}-{}", Uuid::new_v4()).into();
        member.refuse(&Error::FencedInstance);
        member.id = id.clone();
        member.is_new = false;
        member.deadline = now.steady_ms + request.session_ms;
        let before = self.protocol.as_ref().map(|protocol| member.metadata(protocol));
        let old_leader = self.leader.clone();
        self.instances.insert(instance, id.clone());
        if self.leader.as_ref() == Some(old) {
            self.leader = Some(id.clone());
        }
        if self.unsynced.remove(old) {
            self.unsynced.insert(id.clone());
        }
        self.members.insert(id.clone(), member);
        self.update(&id, request, answer);
        if self.state != State::Stable {
            // The leader may have been told the old id: its assignment would miss this member.
            self.gather(now);
            return;
        }
        let after = self.members.get(&id).zip(self.protocol.as_ref()).map(|(member, name)| member.metadata(name));
        if self.select_protocol() != self.protocol || reads_others(before.as_deref(), after.as_deref()) {
            self.gather(now);
            return;
        }
        let assignments = self.members.values().map(|member| (member.id.clone(), member.assignment.clone())).collect();
        stores.push(Store {
            value: self.stored(&assignments),
            then: Then::Returned { member: id, leader: old_leader.filter(|leader| leader == old) },
        });
    }

    /// Begins a generation, if one is not being gathered for already.
    fn gather(&mut self, now: Now) {
        let wait_ms = self.rebalance_wait_ms();
        self.gathering = Some(match self.state {
            State::Preparing => return,
            State::Empty => {
                let first_ms = self.first_wait_ms.min(wait_ms);
                let until = now.steady_ms + first_ms;
                Gathering::First { until, left_ms: wait_ms - first_ms, somebody_came: false }
            }
            State::Completing | State::Stable => Gathering::Again { until: now.steady_ms + wait_ms },
        });
        if self.state == State::Completing {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
                member.answer_sync_at(now.steady_ms, Err(Error::RebalanceInProgress));
            }
        }
        self.unsynced.clear();
        self.set_state(State::Preparing, now);
    }

    fn rebalance_wait_ms(&self) -> i64 {
        self.members.values().map(|member| member.rebalance_ms).max().unwrap_or(0)
    }

    fn set_state(&mut self, state: State, now: Now) {
        self.state = state;
        self.since_ms = now.wall_ms;
    }

    /// Ends the gathering, if everybody is there or the time is over.
    fn go_on(&mut self, now: Now, stores: &mut Vec<Store>) {
        let is_over = match &mut self.gathering {
            None => false,
            Some(Gathering::First { until, left_ms, somebody_came }) => {
                if now.steady_ms >= *until && *somebody_came && *left_ms > 0 {
                    let more_ms = self.first_wait_ms.min(*left_ms);
                    *left_ms -= more_ms;
                    *until = now.steady_ms + more_ms;
                    *somebody_came = false;
                }
                now.steady_ms >= *until
            }
            Some(Gathering::Again { until }) => {
                let are_all = self.members.values().all(|member| member.joining.is_some());
                (are_all && self.announced.is_empty()) || now.steady_ms >= *until
            }
        };
        if is_over {
            self.begin_generation(now, stores);
        }
    }

    fn begin_generation(&mut self, now: Now, stores: &mut Vec<Store>) {
        let is_late = |member: &Member| member.joining.is_none() && member.instance.is_none();
        let late: Vec<_> = self.members.values().filter(|member| is_late(member)).map(|m| m.id.clone()).collect();
        for id in late {
            self.forget(&id);
        }
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        if leader.is_none_or(|leader| leader.joining.is_none()) {
            match self.members.values().find(|member| member.joining.is_some()) {
                Some(member) => self.leader = Some(member.id.clone()),
                // Static members keep their places until their sessions are over.
                None if !self.members.is_empty() => {
                    let wait_ms = self.rebalance_wait_ms().max(AGAIN_MS_MIN);
                    self.gathering = Some(Gathering::Again { until: now.steady_ms + wait_ms });
                    return;
                }
                None => self.leader = None,
            }
        }
        self.gathering = None;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol = self.select_protocol();
        if self.members.is_empty() {
            self.set_state(State::Empty, now);
            stores.push(Store { value: self.stored(&HashMap::new()), then: Then::Nothing });
            return;
        }
        self.set_state(State::Completing, now);
        self.unsynced = self.members.keys().cloned().collect();
        self.sync_until = now.steady_ms + self.rebalance_wait_ms();
        for id in self.unsynced.clone() {
            let joined = self.joined(&id, true);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.is_new = false;
            member.deadline = now.steady_ms + member.session_ms;
            member.answer_join(Ok(joined));
        }
    }

    /// Each member votes for the first of its protocols that all know; of two with as many votes the first by name.
    fn select_protocol(&self) -> Option<Arc<str>> {
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        let first = self.members.values().next()?;
        let all_know = |name: &str| self.members.values().all(|other| other.knows(name));
        let common: Vec<_> = first.protocols.iter().map(|(name, _)| name).filter(|name| all_know(name)).collect();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| common.contains(&name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// What a member is told of this generation; the leader sees all members if it is to assign.
    fn joined(&self, id: &Arc<str>, is_to_assign: bool) -> Joined {
        let is_leader = self.leader.as_ref() == Some(id);
        let protocol = self.protocol.clone().unwrap_or_default();
        let told = |member: &Member| JoinedMember {
            id: member.id.clone(),
            instance: member.instance.clone(),
            metadata: member.metadata(&protocol),
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member: id.clone(),
            members: if is_leader && is_to_assign { self.members.values().map(told).collect() } else { Vec::new() },
            skip_assignment: false,
            protocol: Some(protocol),
        }
    }

    /// Notes that a member was heard of.
    fn hear(&mut self, now: Now, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.deadline = now.steady_ms + member.session_ms;
        }
    }

    /// Takes a member out, without a word to the others.
    fn forget(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.unsynced.remove(id);
        if let Some(instance) = &member.instance
            && self.instances.get(instance).is_some_and(|owner| **owner == *id)
        {
            self.instances.remove(instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Takes a member out; the others share out anew.
    fn remove(&mut self, now: Now, id: &str) {
        if let Some(mut member) = self.forget(id) {
            member.refuse(&Error::UnknownMember);
            if matches!(self.state, State::Stable | State::Completing) {
                self.gather(now);
            }
        }
    }

    pub(super) fn sync(&mut self, now: Now, request: Sync, answer: Answer<Synced>, stores: &mut Vec<Store>) {
        if let Err(error) = self.check_sync(&request) {
            let _ = answer.send(Err(error));
            return;
        }
        self.unsynced.remove(&request.member);
        self.hear(now, &request.member);
        let is_leader = self.leader.as_ref() == Some(&request.member);
        if self.state == State::Stable {
            let assignment = self.members.get(&request.member).map(|m| m.assignment.clone()).unwrap_or_default();
            let _ = answer.send(Ok(self.synced(assignment)));
            return;
        }
        if let Some(member) = self.members.get_mut(&request.member) {
            member.answer_sync(Err(Error::RebalanceInProgress));
            member.syncing = Some(answer);
        }
        if is_leader {
            let mut assignments: HashMap<Arc<str>, Bytes> = request.assignments.into_iter().collect();
            assignments.retain(|id, _| self.members.contains_key(id));
            let value = self.stored(&assignments);
            stores.push(Store { value, then: Then::Assigned { generation: self.generation, assignments } });
        }
    }

    fn check_sync(&self, request: &Sync) -> Result<(), Error> {
        self.check_generation(&request.member, request.instance.as_deref(), request.generation)?;
        let differs = |asked: &Option<Arc<str>>, own: &Option<Arc<str>>| asked.is_some() && asked != own;
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol, &self.protocol) {
            return Err(Error::InconsistentProtocol);
        }
        match self.state {
            State::Empty => Err(Error::UnknownMember),
            State::Preparing => Err(Error::RebalanceInProgress),
            State::Completing | State::Stable => Ok(()),
        }
    }

    fn synced(&self, assignment: Bytes) -> Synced {
        Synced { protocol_type: self.protocol_type.clone(), protocol: self.protocol.clone(), assignment }
    }

    /// What was asked of the log is durable, or is not.
    pub(super) fn stored_is(&mut self, now: Now, then: Then, done: &Result<(), Error>, stores: &mut Vec<Store>) {
        match then {
            Then::Nothing => {}
            Then::Returned { member: id, leader } => {
                let may_skip = self.members.get(&id).is_some_and(|member| member.may_skip);
                let mut joined = self.joined(&id, may_skip);
                match leader {
                    // It knows that it leads and that there is nothing to assign; before, it must not take itself for the leader.
                    Some(_) if may_skip => joined.skip_assignment = true,
                    Some(old) => joined.leader = old,
                    None => {}
                }
                self.hear(now, &id);
                if let Some(member) = self.members.get_mut(&id).filter(|_| self.state == State::Stable) {
                    member.answer_join(done.clone().map(|()| joined));
                }
            }
            Then::Assigned { generation, mut assignments } => {
                if self.state != State::Completing || self.generation != generation {
                    return;
                }
                match done {
                    Ok(()) => self.assign(now, &mut assignments),
                    Err(error) => {
                        for member in self.members.values_mut() {
                            member.answer_sync_at(now.steady_ms, Err(error.clone()));
                        }
                        self.gather(now);
                    }
                }
            }
        }
        self.go_on(now, stores);
    }

    fn assign(&mut self, now: Now, assignments: &mut HashMap<Arc<str>, Bytes>) {
        let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&member.id).unwrap_or_default();
            let assignment = member.assignment.clone();
            let (protocol_type, protocol) = (protocol_type.clone(), protocol.clone());
            member.answer_sync_at(now.steady_ms, Ok(Synced { protocol_type, protocol, assignment }));
        }
        self.set_state(State::Stable, now);
    }

    pub(super) fn heartbeat(
        &mut self,
        now: Now,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), Error> {
        self.check_generation(member, instance, generation)?;
        self.hear(now, member);
        match self.state {
            State::Empty => Err(Error::UnknownMember),
            State::Preparing => Err(Error::RebalanceInProgress),
            State::Completing | State::Stable => Ok(()),
        }
    }

    /// Whether who commits may: a member in its generation, or anybody while the group has none.
    pub(super) fn check_commit(
        &mut self,
        now: Now,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), Error> {
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation < 0 && member.is_empty() && instance.is_none() {
            return Err(Error::UnknownMember);
        }
        self.check_generation(member, instance, generation)?;
        // It will be told by its next heartbeat; until it joins again it still has its partitions.
        if self.state == State::Completing {
            return Err(Error::RebalanceInProgress);
        }
        self.hear(now, member);
        Ok(())
    }

    pub(super) fn leave(&mut self, now: Now, leaving: &Leaving, stores: &mut Vec<Store>) -> Result<(), Error> {
        let id = match &leaving.instance {
            Some(instance) if leaving.member.is_empty() => {
                self.instances.get(instance).cloned().ok_or(Error::UnknownMember)?
            }
            None if self.announced.remove(&leaving.member).is_some() => {
                self.go_on(now, stores);
                return Ok(());
            }
            instance => {
                self.check(&leaving.member, instance.as_deref())?;
                leaving.member.clone()
            }
        };
        self.remove(now, &id);
        self.go_on(now, stores);
        Ok(())
    }

    /// When [`Members::tick`] has something to do next.
    pub(super) fn next_deadline(&self) -> Option<i64> {
        let gathering = self.gathering.map(|gathering| match gathering {
            Gathering::First { until, .. } | Gathering::Again { until } => until,
        });
        let sync = (!self.unsynced.is_empty()).then_some(self.sync_until);
        let members = self.members.values().filter_map(Member::expires).min();
        [gathering, sync, members, self.announced.values().copied().min()].into_iter().flatten().min()
    }

    /// Drops who was silent for too long.
    pub(super) fn tick(&mut self, now: Now, stores: &mut Vec<Store>) {
        self.announced.retain(|_, until| *until > now.steady_ms);
        let is_over = |member: &&Member| member.expires().is_some_and(|deadline| deadline <= now.steady_ms);
        let mut gone: Vec<_> = self.members.values().filter(is_over).map(|member| member.id.clone()).collect();
        if !self.unsynced.is_empty() && now.steady_ms >= self.sync_until {
            gone.extend(self.unsynced.iter().cloned());
        }
        for id in gone {
            self.remove(now, &id);
        }
        self.go_on(now, stores);
    }

    /// Ends all waits: the group is deleted, or the daemon stops.
    pub(super) fn refuse_all(&mut self, error: &Error) {
        for member in self.members.values_mut() {
            member.refuse(error);
        }
    }

    fn stored(&self, assignments: &HashMap<Arc<str>, Bytes>) -> StoredGroup {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let part = |member: &Member| assignments.get(&member.id).cloned().unwrap_or_default();
        StoredGroup {
            protocol_type: self.protocol_type.as_deref().unwrap_or_default().to_owned(),
            generation: self.generation,
            protocol: self.protocol.as_deref().map(str::to_owned),
            leader: self.leader.as_deref().map(str::to_owned),
            since_ms: self.since_ms,
            members: self.members.values().map(|member| member.stored(protocol, part(member))).collect(),
        }
    }
}

/// Whether a member that came back reads other topics than before. What it owned is no reason to share out anew.
fn reads_others(before: Option<&[u8]>, after: Option<&[u8]>) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return before != after };
    match (subscribed_topics(before), subscribed_topics(after)) {
        (Some(before), Some(after)) => {
            before.into_iter().collect::<BTreeSet<_>>() != after.into_iter().collect::<BTreeSet<_>>()
        }
        _ => before != after,
    }
}
