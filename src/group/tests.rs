//! Groups against what Kafka does, on a clock that the tests move and a log that is a list.

mod static_members;

use super::classic::Now;
use super::coordinator::{Coordinator, Loaded, Request, Write};
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::oneshot::{Receiver, channel, error::TryRecvError};
use uuid::Uuid;

const SESSION_MS: i64 = 10_000;
const REBALANCE_MS: i64 = 60_000;
const WALL_MS: i64 = 1_700_000_000_000;
const T: Uuid = Uuid::from_u128(1);

/// A coordinator, its clock and its log.
struct Table {
    coordinator: Coordinator,
    steady_ms: i64,
    log: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Writes that the log has not taken yet.
    on_the_way: VecDeque<Write>,
}

type Asked<T> = Receiver<Result<T, Error>>;

fn got<T>(asked: &mut Asked<T>) -> Result<T, Error> {
    asked.try_recv().expect("there should be an answer")
}

fn waits<T>(asked: &mut Asked<T>) -> bool {
    matches!(asked.try_recv(), Err(TryRecvError::Empty))
}

fn subscription(topics: &[&str]) -> Bytes {
    let mut out = vec![0, 0];
    out.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        out.extend((topic.len() as i16).to_be_bytes());
        out.extend(topic.as_bytes());
    }
    out.extend((-1i32).to_be_bytes());
    out.into()
}

fn member(id: &str) -> Join {
    Join {
        member: id.into(),
        instance: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_ms: SESSION_MS,
        rebalance_ms: REBALANCE_MS,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), subscription(&["t"])), ("sticky".into(), subscription(&["t"]))],
        must_know_id: false,
        may_skip: false,
    }
}

fn instance(name: &str) -> Join {
    Join { instance: Some(name.into()), ..member("") }
}

fn at(offset: i64) -> Committed {
    Committed { offset, leader_epoch: 3, metadata: "m".into(), commit_ms: 0, topic_id: T }
}

impl Table {
    fn new() -> Table {
        Table::with(Options::default())
    }

    fn with(options: Options) -> Table {
        Table { coordinator: Coordinator::new(options), steady_ms: 0, log: Vec::new(), on_the_way: VecDeque::new() }
    }

    fn now(&self) -> Now {
        Now { steady_ms: self.steady_ms, wall_ms: WALL_MS + self.steady_ms }
    }

    fn ask<T>(&mut self, request: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Request) -> Asked<T> {
        let (answer, asked) = channel();
        self.coordinator.handle(self.now(), request(answer));
        self.take_writes();
        asked
    }

    fn take_writes(&mut self) {
        while let Some(write) = self.coordinator.next_write() {
            self.on_the_way.push_back(write);
        }
    }

    /// The log takes the next write, or fails.
    fn land_one(&mut self, result: Result<(), Error>) -> bool {
        let Some(write) = self.on_the_way.pop_front() else { return false };
        if result.is_ok() {
            self.log.extend(write.records);
        }
        self.coordinator.done(self.now(), write.done, result);
        self.take_writes();
        true
    }

    fn land(&mut self) {
        while self.land_one(Ok(())) {}
    }

    fn fail(&mut self) {
        while self.land_one(Err(Error::NotAvailable("the disk".to_owned()))) {}
    }

    /// Lets time pass, timer by timer.
    fn pass(&mut self, ms: i64) {
        let end = self.steady_ms + ms;
        while let Some(next) = self.coordinator.next_deadline().filter(|next| *next <= end) {
            self.steady_ms = self.steady_ms.max(next);
            self.coordinator.tick(self.now());
            self.take_writes();
            self.land();
        }
        self.steady_ms = end;
    }

    fn join(&mut self, join: Join) -> Asked<Joined> {
        self.ask(|answer| Request::Join { group: "g".into(), join, answer })
    }

    fn sync(&mut self, joined: &Joined, assignments: &[(&Arc<str>, &'static [u8])]) -> Asked<Synced> {
        let assignments = assignments.iter().map(|(id, part)| ((*id).clone(), Bytes::from_static(part))).collect();
        let sync = Sync {
            generation: joined.generation,
            member: joined.member.clone(),
            instance: None,
            protocol_type: joined.protocol_type.clone(),
            protocol: joined.protocol.clone(),
            assignments,
        };
        self.ask(|answer| Request::Sync { group: "g".into(), sync, answer })
    }

    fn beat(&mut self, joined: &Joined) -> Result<(), Error> {
        let (group, member, generation) = ("g".into(), joined.member.clone(), joined.generation);
        got(&mut self.ask(|answer| Request::Heartbeat { group, member, instance: None, generation, answer }))
    }

    fn leave(&mut self, member: &str, instance: Option<&str>) -> Result<(), Error> {
        let leaving = vec![Leaving { member: member.into(), instance: instance.map(Arc::from) }];
        got(&mut self.ask(|answer| Request::Leave { group: "g".into(), leaving, answer })).unwrap().remove(0)
    }

    fn commit_as(&mut self, joined: Option<&Joined>, offsets: &[(&str, i32, i64)]) -> Asked<()> {
        let one = |(topic, partition, offset): &(&str, i32, i64)| CommittedOffset {
            topic: (*topic).into(),
            partition: *partition,
            committed: at(*offset),
        };
        let commit = Commit {
            generation: joined.map_or(-1, |joined| joined.generation),
            member: joined.map_or("".into(), |joined| joined.member.clone()),
            instance: None,
            offsets: offsets.iter().map(one).collect(),
        };
        self.ask(|answer| Request::Commit { group: "g".into(), commit, answer })
    }

    fn offsets(&mut self) -> Vec<(String, i32, i64)> {
        let found = got(&mut self.ask(|answer| Request::Fetch { group: "g".into(), wanted: None, answer })).unwrap();
        found.into_iter().map(|one| (one.topic.to_string(), one.partition, one.committed.unwrap().offset)).collect()
    }

    fn delete(&mut self) -> Asked<()> {
        self.ask(|answer| Request::Delete { group: "g".into(), answer })
    }

    fn state(&mut self) -> Option<State> {
        got(&mut self.ask(|answer| Request::Describe { group: "g".into(), answer })).ok().map(|found| found.state)
    }

    /// Both members in one stable generation; the first leads.
    fn pair(&mut self) -> (Joined, Joined) {
        let (mut a, mut b) = (self.join(member("")), self.join(member("")));
        self.pass(6_000);
        let (a, b) = (got(&mut a).unwrap(), got(&mut b).unwrap());
        let (leader, other) = if a.leader == a.member { (a, b) } else { (b, a) };
        self.share_out(&leader, &other);
        (leader, other)
    }

    fn share_out(&mut self, leader: &Joined, other: &Joined) {
        let mut second = self.sync(other, &[]);
        let mut first = self.sync(leader, &[(&leader.member, b"one"), (&other.member, b"two")]);
        assert!(waits(&mut first) && waits(&mut second), "nobody has a part before it is durable");
        self.land();
        assert_eq!(&got(&mut first).unwrap().assignment[..], b"one");
        assert_eq!(&got(&mut second).unwrap().assignment[..], b"two");
        assert_eq!(self.state(), Some(State::Stable));
    }

    /// The daemon was killed and reads its log.
    fn restarted(&self, options: Options) -> Table {
        let mut loaded = Loaded::default();
        for (key, value) in &self.log {
            loaded.take(key, value.as_deref()).unwrap();
        }
        let mut table = Table::with(options);
        table.log = self.log.clone();
        table.coordinator.restore(table.now(), loaded);
        table
    }
}

#[test]
fn behaviour_25_a_new_member_is_told_its_id_first_and_the_first_generation_waits_for_others() {
    let mut table = Table::new();
    let knows = |id: &str| Join { must_know_id: true, ..member(id) };
    let Err(Error::MemberIdRequired(id)) = got(&mut table.join(knows(""))) else { panic!("it should be told its id") };
    assert!(id.starts_with("c-"), "{id}");
    let mut a = table.join(knows(&id));
    table.pass(2_999);
    // Who comes in the last moment makes the others wait once more.
    let mut b = table.join(member(""));
    table.pass(3_000);
    assert!(waits(&mut a) && waits(&mut b));
    table.pass(1);
    let (a, b) = (got(&mut a).unwrap(), got(&mut b).unwrap());
    assert_eq!((a.generation, &a.leader, a.members.len(), b.members.len()), (1, &id, 2, 0));
    assert_eq!((a.member.clone(), a.protocol.as_deref()), (id, Some("range")));
    // An id that nobody came back with is forgotten.
    assert!(matches!(got(&mut table.join(knows(""))), Err(Error::MemberIdRequired(_))));
    table.pass(SESSION_MS + 1);
}

#[test]
fn a_member_that_comes_makes_the_others_join_again() {
    let mut table = Table::new();
    let (a, b) = table.pair();
    let mut c = table.join(Join { protocols: vec![("sticky".into(), subscription(&["t"]))], ..member("") });
    assert_eq!(table.beat(&a), Err(Error::RebalanceInProgress));
    // It still has its partitions until it joins, and may commit.
    table.commit_as(Some(&a), &[("t", 0, 5)]);
    table.land();
    assert_eq!(table.offsets(), [("t".to_owned(), 0, 5)]);
    let (mut a2, mut b2) = (table.join(member(&a.member)), table.join(member(&b.member)));
    let (a2, b2, c) = (got(&mut a2).unwrap(), got(&mut b2).unwrap(), got(&mut c).unwrap());
    assert_eq!((a2.generation, b2.generation, c.generation), (2, 2, 2));
    assert_eq!(a2.protocol.as_deref(), Some("sticky"), "the one that all know");
    assert_eq!(table.beat(&a), Err(Error::IllegalGeneration));
    // Between the answer and the assignment: heartbeats are fine, commits are not.
    assert_eq!(table.beat(&a2), Ok(()));
    assert_eq!(got(&mut table.commit_as(Some(&a2), &[("t", 0, 6)])), Err(Error::RebalanceInProgress));
}

#[test]
fn who_is_silent_is_dropped_and_who_beats_is_not() {
    let mut table = Table::new();
    let (a, b) = table.pair();
    for _ in 0..10 {
        table.pass(SESSION_MS / 2);
        match table.beat(&a) {
            Ok(()) => {}
            // The other was dropped: from now on there is a new generation.
            Err(Error::RebalanceInProgress) => {
                let a = got(&mut table.join(member(&a.member))).unwrap();
                assert_eq!((a.generation, a.members.len()), (2, 1));
                assert_eq!(table.beat(&b), Err(Error::UnknownMember));
                return;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("a silent member stayed");
}

#[test]
fn who_does_not_join_again_in_time_or_never_asks_for_its_part_is_dropped() {
    let mut table = Table::new();
    let (a, b) = table.pair();
    let mut a = table.join(member(&a.member));
    // The other beats, but does not join.
    for _ in 0..REBALANCE_MS / 5_000 {
        assert!(waits(&mut a));
        table.pass(5_000);
        let _ = table.beat(&b);
    }
    let a = got(&mut a).unwrap();
    assert_eq!((a.generation, a.members.len()), (2, 1));
    // And now it does not ask for its part.
    for _ in 0..=REBALANCE_MS / 5_000 {
        table.pass(5_000);
        let _ = table.beat(&a);
    }
    assert_eq!(table.beat(&a), Err(Error::UnknownMember));
    assert_eq!(table.state(), Some(State::Empty));
}

#[test]
fn behaviour_25_a_leader_that_joins_or_other_words_begin_a_generation_and_lost_answers_are_given_again() {
    let mut table = Table::new();
    let (a, b) = table.pair();
    let again = got(&mut table.join(member(&b.member))).unwrap();
    assert_eq!(again, b, "a follower with the same words gets the same answer");
    let mut a2 = table.join(member(&a.member));
    assert!(waits(&mut a2));
    let b2 = got(&mut table.join(member(&b.member))).unwrap();
    let a2 = got(&mut a2).unwrap();
    assert_eq!((a2.generation, b2.generation, a2.members.len()), (2, 2, 2));
    // Before the assignment even the leader gets its answer again, with the members.
    assert_eq!(got(&mut table.join(member(&a.member))).unwrap(), a2);
    table.share_out(&a2, &b2);
    // After it each gets its part as often as it asks.
    assert_eq!(&got(&mut table.sync(&b2, &[])).unwrap().assignment[..], b"two");
    let mut changed = table.join(Join { protocols: vec![("range".into(), subscription(&["u"]))], ..member(&b.member) });
    assert!(waits(&mut changed) && table.beat(&a2) == Err(Error::RebalanceInProgress));
}

#[test]
fn an_assignment_that_cannot_be_stored_is_nobodys() {
    let mut table = Table::new();
    let (mut a, mut b) = (table.join(member("")), table.join(member("")));
    table.pass(6_000);
    let (a, b) = (got(&mut a).unwrap(), got(&mut b).unwrap());
    let (leader, other) = if a.leader == a.member { (a, b) } else { (b, a) };
    let mut second = table.sync(&other, &[]);
    let mut first = table.sync(&leader, &[(&other.member, b"two")]);
    table.fail();
    assert!(matches!(got(&mut first), Err(Error::NotAvailable(_))));
    assert!(matches!(got(&mut second), Err(Error::NotAvailable(_))));
    assert_eq!(table.beat(&leader), Err(Error::RebalanceInProgress));
    assert!(table.log.is_empty());
}

#[test]
fn who_may_not_join_is_told_why() {
    let mut table = Table::with(Options { size_max: 3_000, ..Options::default() });
    let refused = |table: &mut Table, join| got(&mut table.join(join)).unwrap_err();
    assert_eq!(refused(&mut table, member("unknown")), Error::UnknownMember);
    assert_eq!(refused(&mut table, Join { session_ms: 5_999, ..member("") }), Error::InvalidSessionTimeout);
    assert_eq!(refused(&mut table, Join { session_ms: 1_800_001, ..member("") }), Error::InvalidSessionTimeout);
    assert_eq!(refused(&mut table, Join { protocols: vec![], ..member("") }), Error::InconsistentProtocol);
    assert_eq!(refused(&mut table, Join { protocol_type: "".into(), ..member("") }), Error::InconsistentProtocol);
    assert_eq!(table.state(), None, "who was refused leaves no group behind");
    let nameless = |answer| Request::Join { group: "".into(), join: member(""), answer };
    assert_eq!(got(&mut table.ask(nameless)).unwrap_err(), Error::InvalidGroupId);
    table.pair();
    assert_eq!(
        refused(&mut table, Join { protocol_type: "connect".into(), ..member("") }),
        Error::InconsistentProtocol
    );
    let other = Join { protocols: vec![("other".into(), Bytes::new())], ..member("") };
    assert_eq!(refused(&mut table, other), Error::InconsistentProtocol);
    assert_eq!(refused(&mut table, Join { instance: Some("i".into()), ..member("x") }), Error::UnknownMember);
    let mut held = Vec::new();
    while held.len() < 100 {
        held.push(table.join(member("")));
        if !waits(held.last_mut().unwrap()) {
            break;
        }
    }
    assert!(held.len() < 100, "groups grow without bound");
}

#[test]
fn who_may_commit_is_a_member_of_its_generation_or_anybody_while_there_is_none() {
    let mut table = Table::new();
    let mut alone = table.commit_as(None, &[("t", 0, 7), ("t", 1, 8)]);
    assert!(waits(&mut alone) && table.offsets().is_empty(), "seen before it is durable");
    table.land();
    assert_eq!(got(&mut alone), Ok(()));
    assert_eq!(table.offsets(), [("t".to_owned(), 0, 7), ("t".to_owned(), 1, 8)]);
    let nobody = Joined {
        generation: 1,
        protocol_type: None,
        protocol: None,
        leader: "x".into(),
        member: "x".into(),
        members: vec![],
        skip_assignment: false,
    };
    assert_eq!(got(&mut table.commit_as(Some(&nobody), &[("t", 0, 1)])), Err(Error::UnknownMember));
    let (a, _) = table.pair();
    assert_eq!(got(&mut table.commit_as(None, &[("t", 0, 1)])), Err(Error::UnknownMember));
    let old = Joined { generation: 0, ..a.clone() };
    assert_eq!(got(&mut table.commit_as(Some(&old), &[("t", 0, 1)])), Err(Error::IllegalGeneration));
    let mut failed = table.commit_as(Some(&a), &[("t", 0, 9)]);
    table.fail();
    assert!(matches!(got(&mut failed), Err(Error::NotAvailable(_))));
    assert_eq!(table.offsets()[0].2, 7);
}

#[test]
fn behaviour_07_a_restart_knows_members_generation_offsets_epochs_and_words() {
    let mut table = Table::new();
    let (a, b) = table.pair();
    table.commit_as(Some(&a), &[("t", 0, 41)]);
    table.commit_as(Some(&a), &[("t", 0, 42)]);
    table.land();
    let mut again = table.restarted(Options::default());
    assert_eq!(again.state(), Some(State::Stable));
    assert_eq!((again.beat(&a), again.beat(&b)), (Ok(()), Ok(())));
    assert_eq!(&got(&mut again.sync(&b, &[])).unwrap().assignment[..], b"two");
    let wanted = Some(vec![("t".into(), vec![0, 9])]);
    let found = got(&mut again.ask(|answer| Request::Fetch { group: "g".into(), wanted, answer })).unwrap();
    let committed = found[0].committed.clone().unwrap();
    assert_eq!((committed.offset, committed.leader_epoch, &*committed.metadata, committed.topic_id), (42, 3, "m", T));
    assert_eq!((committed.commit_ms > 0, found[1].committed.clone()), (true, None));
    // Members that died with the daemon are dropped after a session.
    again.pass(SESSION_MS + 1);
    assert_eq!(again.state(), Some(State::Empty));
    // And a group whose last member left is empty after a restart too, and goes on counting generations.
    let mut empty = again.restarted(Options::default());
    assert_eq!(empty.state(), Some(State::Empty));
    assert!(empty.pair().0.generation > a.generation);
}

#[test]
fn a_group_without_members_can_be_deleted_and_stays_deleted() {
    let mut table = Table::new();
    assert_eq!(got(&mut table.delete()), Err(Error::NotFound));
    let (a, b) = table.pair();
    table.commit_as(Some(&a), &[("t", 0, 1)]);
    table.land();
    assert_eq!(got(&mut table.delete()), Err(Error::NonEmpty));
    assert_eq!((table.leave(&a.member, None), table.leave(&b.member, None)), (Ok(()), Ok(())));
    assert_eq!(table.leave(&b.member, None), Err(Error::UnknownMember));
    table.land();
    // A commit that is on its way is deleted with the rest.
    table.commit_as(None, &[("t", 5, 1)]);
    let mut deleted = table.delete();
    assert!(waits(&mut deleted));
    table.land();
    assert_eq!((got(&mut deleted), table.state()), (Ok(()), None));
    let mut again = table.restarted(Options::default());
    assert_eq!((again.state(), again.offsets().len()), (None, 0));
}

#[test]
fn offsets_of_topics_that_members_read_are_not_taken_away() {
    let mut table = Table::new();
    table.commit_as(None, &[("t", 0, 1), ("u", 0, 2)]);
    table.land();
    let (a, b) = table.pair();
    let forget = |table: &mut Table| {
        let offsets = vec![("t".into(), 0), ("u".into(), 0), ("u".into(), 9)];
        let mut asked = table.ask(|answer| Request::Forget { group: "g".into(), offsets, answer });
        table.land();
        got(&mut asked)
    };
    assert_eq!(forget(&mut table), Ok(vec![Err(Error::SubscribedToTopic), Ok(()), Ok(())]));
    assert_eq!(table.offsets(), [("t".to_owned(), 0, 1)]);
    assert_eq!((table.leave(&a.member, None), table.leave(&b.member, None)), (Ok(()), Ok(())));
    assert_eq!(forget(&mut table), Ok(vec![Ok(()), Ok(()), Ok(())]));
    assert_eq!((table.offsets().len(), table.restarted(Options::default()).offsets().len()), (0, 0));
}

#[test]
fn behaviour_27_offsets_age_from_when_the_last_member_left() {
    let week_ms = Options::default().retention_ms;
    let expire = |table: &mut Table, id: Option<Uuid>| {
        table.coordinator.expire(table.now(), |_| id);
        table.take_writes();
        table.land();
        table.offsets().len()
    };
    // Of somebody who never was a member: from the commit.
    let mut table = Table::new();
    table.commit_as(None, &[("t", 0, 1)]);
    table.land();
    table.pass(week_ms - 1);
    assert_eq!(expire(&mut table, Some(T)), 1);
    table.pass(1);
    assert_eq!((expire(&mut table, Some(T)), table.state()), (0, None));
    // While members read the topic it never ages; others do.
    let (a, b) = table.pair();
    table.commit_as(Some(&a), &[("t", 0, 1), ("u", 0, 1)]);
    table.land();
    let mut old = table.restarted(Options::default());
    old.steady_ms = 3 * week_ms;
    let (alive, also) = (old.beat(&a), old.beat(&b));
    assert_eq!((alive, also, expire(&mut old, Some(T))), (Ok(()), Ok(()), 1));
    assert_eq!((old.leave(&a.member, None), old.leave(&b.member, None)), (Ok(()), Ok(())));
    old.land();
    old.pass(week_ms - 1);
    assert_eq!(expire(&mut old, Some(T)), 1);
    old.pass(1);
    assert_eq!((expire(&mut old, Some(T)), old.state()), (0, None));
    assert_eq!(old.restarted(Options::default()).state(), None);
    // A topic that is gone, or was made anew, takes its offsets with it.
    for id in [None, Some(Uuid::from_u128(2))] {
        table.commit_as(Some(&a), &[("t", 0, 1)]);
        table.land();
        assert_eq!(expire(&mut table, id), 0);
    }
}

#[test]
fn who_waits_for_its_part_has_a_session_from_when_it_is_told_to_join_again() {
    let mut table = Table::new();
    let (mut a, mut b) = (table.join(member("")), table.join(member("")));
    table.pass(6_000);
    let (a, b) = (got(&mut a).unwrap(), got(&mut b).unwrap());
    let (leader, other) = if a.leader == a.member { (a, b) } else { (b, a) };
    // The leader dies before it assigns; the other waits, and does not beat while it does.
    table.pass(1_000);
    let mut part = table.sync(&other, &[]);
    table.pass(SESSION_MS - 500);
    assert_eq!(got(&mut part), Err(Error::RebalanceInProgress));
    table.pass(SESSION_MS - 1_000);
    let joined = got(&mut table.join(member(&other.member))).unwrap();
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
    assert_eq!(table.beat(&leader), Err(Error::UnknownMember));
}

#[test]
fn static_members_that_wait_no_time_do_not_keep_the_clock_busy() {
    let mut table = Table::new();
    let impatient = Join { rebalance_ms: 0, ..instance("i") };
    let mut a = table.join(impatient.clone());
    table.pass(6_000);
    let a = got(&mut a).unwrap();
    table.sync(&a, &[]);
    table.land();
    // Another joins and goes; the static one is silent, but in its session.
    let b = table.join(member(""));
    drop(b);
    let ticks = |table: &mut Table| {
        let mut count = 0;
        while table.coordinator.next_deadline().is_some_and(|at| at <= table.steady_ms) && count < 100 {
            table.coordinator.tick(table.now());
            count += 1;
        }
        count
    };
    for _ in 0..20 {
        table.steady_ms += 500;
        let count = ticks(&mut table);
        assert!(count < 5, "{count} ticks at one time");
        table.take_writes();
        table.land();
    }
}

#[test]
fn a_removal_that_fails_takes_nothing_away() {
    let mut table = Table::new();
    table.commit_as(None, &[("t", 0, 1)]);
    table.land();
    let mut deleted = table.delete();
    table.fail();
    assert!(matches!(got(&mut deleted), Err(Error::NotAvailable(_))));
    assert_eq!(table.offsets().len(), 1);
    let offsets = vec![("t".into(), 0)];
    let mut forgotten = table.ask(|answer| Request::Forget { group: "g".into(), offsets, answer });
    table.fail();
    assert!(got(&mut forgotten).is_err());
    assert_eq!(table.offsets().len(), 1);
    // A commit behind the removal stays; one before it goes, though it came back after it was asked for.
    table.commit_as(None, &[("t", 1, 1)]);
    let mut deleted = table.delete();
    table.commit_as(None, &[("t", 2, 1)]);
    table.land();
    assert_eq!(got(&mut deleted), Ok(()));
    assert_eq!(table.offsets(), [("t".to_owned(), 2, 1)]);
    assert_eq!(table.restarted(Options::default()).offsets(), [("t".to_owned(), 2, 1)]);
}

#[test]
fn names_that_the_log_could_not_hold_are_refused() {
    let mut table = Table::new();
    let long: Arc<str> = "x".repeat(NAME_SIZE_MAX + 1).into();
    let refused = |table: &mut Table, join| got(&mut table.join(join)).unwrap_err();
    assert_eq!(refused(&mut table, Join { instance: Some(long.clone()), ..member("") }), Error::NameTooLong);
    assert_eq!(
        refused(&mut table, Join { protocols: vec![(long.clone(), Bytes::new())], ..member("") }),
        Error::NameTooLong
    );
    let named = |answer| Request::Join { group: long.clone(), join: member(""), answer };
    assert_eq!(got(&mut table.ask(named)).unwrap_err(), Error::InvalidGroupId);
    let many = (0..33).map(|n| (format!("p{n}").into(), Bytes::new())).collect();
    assert_eq!(refused(&mut table, Join { protocols: many, ..member("") }), Error::InconsistentProtocol);
}

/// What may happen to a group's offsets.
#[derive(Clone, Debug)]
enum Step {
    Commit(i32, i64),
    Forget(i32),
    Delete,
    Land(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3i32, 0..100i64).prop_map(|(partition, offset)| Step::Commit(partition, offset)),
        1 => (0..3i32).prop_map(Step::Forget),
        1 => Just(Step::Delete),
        6 => prop::bool::weighted(0.9).prop_map(Step::Land),
    ]
}

proptest! {
    /// Whatever is on its way when, and whatever fails: what memory shows is what a restart shows.
    #[test]
    fn memory_and_log_agree(steps in prop::collection::vec(step(), 1..60)) {
        let mut table = Table::new();
        let mut failed = false;
        for step in steps {
            match step {
                Step::Commit(partition, offset) => drop(table.commit_as(None, &[("t", partition, offset)])),
                Step::Forget(partition) => {
                    let offsets = vec![("t".into(), partition)];
                    drop(table.ask(|answer| Request::Forget { group: "g".into(), offsets, answer }));
                }
                Step::Delete => drop(table.delete()),
                Step::Land(is_well) => {
                    failed |= !is_well;
                    table.land_one(if is_well { Ok(()) } else { Err(Error::NotAvailable(String::new())) });
                }
            }
        }
        table.land();
        let (mut seen, mut restarted) = (BTreeMap::new(), BTreeMap::new());
        for (topic, partition, offset) in table.offsets() {
            seen.insert((topic, partition), offset);
        }
        for (topic, partition, offset) in table.restarted(Options::default()).offsets() {
            restarted.insert((topic, partition), offset);
        }
        prop_assert_eq!(seen, restarted, "a write had failed: {}", failed);
    }

    /// Members come, go, fall silent and come back in any order; whenever all is quiet they are in one generation and each has its part.
    #[test]
    fn every_group_comes_to_rest(steps in prop::collection::vec((0..6usize, 0..4usize), 1..50)) {
        let mut table = Table::new();
        let mut joined: Vec<Option<Joined>> = vec![None; 4];
        let mut asked: Vec<Option<Asked<Joined>>> = (0..4).map(|_| None).collect();
        for (what, who) in steps {
            match what {
                0 | 1 => {
                    let id = joined[who].as_ref().map_or("".into(), |joined| joined.member.clone());
                    asked[who] = Some(table.join(member(&id)));
                }
                2 => drop(joined[who].take().map(|joined| table.leave(&joined.member, None))),
                3 => table.pass(1_000),
                4 => table.pass(SESSION_MS),
                _ => drop(joined[who].clone().map(|joined| table.beat(&joined))),
            }
            for (joined, asked) in joined.iter_mut().zip(&mut asked) {
                match asked.as_mut().map(|asked| asked.try_recv()) {
                    Some(Ok(answer)) => (*joined, *asked) = (answer.ok(), None),
                    Some(Err(TryRecvError::Closed)) => *asked = None,
                    _ => {}
                }
            }
        }
        // All of them do what clients do, until nothing changes any more.
        for _ in 0..40 {
            for who in 0..4 {
                let is_fine = joined[who].clone().is_some_and(|joined| table.beat(&joined) == Ok(()));
                if !is_fine && asked[who].is_none() {
                    let known = joined[who].clone().filter(|joined| table.beat(joined) != Err(Error::UnknownMember));
                    let id = known.map_or("".into(), |joined| joined.member);
                    asked[who] = Some(table.join(member(&id)));
                }
            }
            table.pass(1_000);
            for (joined, asked) in joined.iter_mut().zip(&mut asked) {
                match asked.as_mut().map(|asked| asked.try_recv()) {
                    Some(Ok(answer)) => (*joined, *asked) = (answer.ok(), None),
                    Some(Err(TryRecvError::Closed)) => *asked = None,
                    _ => {}
                }
            }
            let leader = joined.iter().flatten().find(|joined| joined.leader == joined.member).cloned();
            if let Some(leader) = leader {
                let parts: Vec<_> = leader.members.iter().map(|member| (&member.id, &b"part"[..])).collect();
                drop(table.sync(&leader, &parts));
                table.land();
                for one in joined.clone().into_iter().flatten() {
                    drop(table.sync(&one, &[]));
                }
            }
        }
        prop_assert_eq!(table.state(), Some(State::Stable));
        let generations: Vec<_> = joined.iter().map(|joined| joined.as_ref().map(|joined| joined.generation)).collect();
        prop_assert!(generations.iter().all(|one| one.is_some() && *one == generations[0]), "{:?}", generations);
        for one in joined.iter().flatten() {
            prop_assert_eq!(&got(&mut table.sync(one, &[])).unwrap().assignment[..], b"part");
        }
    }
}
