//! Batches of a Kafka topic elsewhere, read ahead by a thread of its own, so that a broker that does not answer holds up no output.
//!
//! The pipeline's thread asks for batches from an offset on. What it asks for next is there already, unless it goes elsewhere: then what
//! was read ahead is thrown away. Only what transactions have committed is given out: batches of others, and the marks of transactions,
//! are given without their records, so that offsets stay.

use super::super::spec::Elsewhere;
use super::ahead::{self, Ahead, FETCH_PARTITION_SIZE, FETCH_SIZE};
use super::keeper::Keeper;
use crate::kafka::{Cluster, END, Error, FetchLimits, Fetched, Member, Pulse, START, Standing};
use crate::record::{Batch, Offset, TopicName};
use crate::store::{ReadError, Slice};
use kafka_protocol::ResponseError;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{info, warn};
use uuid::Uuid;

/// How long a broker may wait for records; a thread that reads from several waits a part of it for each.
const FETCH_WAIT: Duration = Duration::from_millis(500);
/// How long a read elsewhere waits for its first batch.
const SEEK_PATIENCE: Duration = Duration::from_secs(1);
/// While all that may be read ahead is.
const ROOM_WAIT: Duration = Duration::from_millis(100);
/// New partitions are seen after this.
const VIEW_AGE_MAX: Duration = Duration::from_secs(30);
/// A tail that nobody has told for so long may lie behind the partition's end.
const TAIL_AGE_MAX: Duration = Duration::from_secs(5);
/// A transaction that is open for longer is told of.
const TRANSACTION_AGE_MAX: Duration = Duration::from_secs(10);
/// A broker that others need not wait for is left alone for so many times as long as it was waited for in vain.
const REST: u32 = 2;
/// What a feed that ends may take for its last commit and its farewell; its group does without them after its session.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);
/// Between attempts to reach a cluster.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// A topic that is read from elsewhere; its thread ends with it.
pub(in crate::stream) struct Feed {
    pub(super) topic_id: Uuid,
    pub(super) max_message_bytes: usize,
    pub(super) retention_ms: Option<i64>,
    from: Elsewhere,
    topic: TopicName,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the pipeline's thread and the feed's have in common.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Told of each change of the state.
    changed: Condvar,
    moved: watch::Sender<u64>,
    stopped: Arc<OnceLock<Instant>>,
    /// Whoever talks to the group holds it.
    pub(super) member: Option<Mutex<Member>>,
    /// The pipeline's thread waits for the group.
    is_joining: Arc<AtomicBool>,
}

/// While it lives, whoever talks to the group gives signs of life for the pipeline's thread, which waits.
struct Joining<'a>(&'a AtomicBool);

impl Joining<'_> {
    fn begin(is_joining: &AtomicBool) -> Joining<'_> {
        is_joining.store(true, Ordering::Release);
        Joining(is_joining)
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[derive(Default)]
pub(super) struct State {
    partitions: Vec<Ahead>,
    /// When the pipeline last got something.
    taken: Option<Instant>,
    is_gone: bool,
    /// Nobody reads ahead any more.
    has_ended: bool,
    trouble: Option<String>,
    /// Why the group does not hear of it.
    pub(super) group_trouble: Option<String>,
    /// Partitions that are its own; `None` = all.
    own: Option<BTreeSet<i32>>,
    pub(super) standing: Option<Standing>,
    /// What the group had done with when the partitions were divided.
    committed: BTreeMap<i32, i64>,
    /// What is to be committed.
    pub(super) to_commit: Option<BTreeMap<i32, i64>>,
}

impl State {
    fn owns(&self, id: i32) -> bool {
        self.own.as_ref().is_none_or(|own| own.contains(&id))
    }

    /// Only of partitions that are its own.
    fn owned(&self, positions: &BTreeMap<i32, i64>) -> BTreeMap<i32, i64> {
        positions.iter().filter(|(id, _)| self.owns(**id)).map(|(id, next)| (*id, *next)).collect()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let _ = self.shared.stopped.set(Instant::now());
        self.shared.changed.notify_all();
        // It commits what was cut and leaves its group, or others would wait for its partitions.
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Feed {
    /// Looks for the topic and begins to read at its end; `None` if there is no such topic.
    ///
    /// # Errors
    /// The cluster cannot be reached, or refuses.
    pub(super) fn open(
        pipeline: &str,
        from: &Elsewhere,
        topic: &TopicName,
        pulse: Pulse,
    ) -> Result<Option<Feed>, Error> {
        let mut asking = Cluster::new(from.cluster.clone(), pulse.clone());
        let Some(view) = asking.topic(topic.as_str())? else { return Ok(None) };
        let limits = asking.limits(topic.as_str())?;
        let starts = asking.offsets(topic.as_str(), START, true)?;
        let tails = asking.offsets(topic.as_str(), END, true)?;
        let ahead = |id: i32| Ahead::at(starts.get(&id).copied().unwrap_or(0), tails.get(&id).copied().unwrap_or(0));
        let state = State { partitions: (0..view.partitions).map(ahead).collect(), ..State::default() };
        let (is_joining, stopped) = (Arc::new(AtomicBool::new(false)), Arc::new(OnceLock::<Instant>::new()));
        let (waits, end, is_waited_for) = (is_joining.clone(), stopped.clone(), pulse.clone());
        // The group's own thread gives no signs of life for a pipeline that does not wait for it.
        let pulse: Pulse = Arc::new(move || {
            let is_late = end.get().is_some_and(|since| since.elapsed() > LEAVE_PATIENCE);
            !is_late && (!waits.load(Ordering::Acquire) || pulse())
        });
        let member = from
            .group
            .as_ref()
            .map(|group| Mutex::new(Member::new(Cluster::new(from.cluster.clone(), pulse), group, topic.as_str())));
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            moved: watch::Sender::new(0),
            stopped,
            member,
            is_joining,
        });
        if shared.member.is_some() {
            shared.state().standing = Some(Standing::Lost);
            if let Err(error) = shared.join(&BTreeMap::new()) {
                if !is_waited_for() {
                    shared.leave();
                }
                return Err(error);
            }
        }
        let own = shared.clone();
        let stop = shared.clone();
        let cluster = Cluster::new(from.cluster.clone(), Arc::new(move || !stop.is_stopped()));
        let reader = Reader::new(own, cluster, topic.as_str(), view.id);
        let keeper = Keeper::new(shared.clone(), topic.as_str());
        let mut feed = Feed {
            topic_id: view.id,
            max_message_bytes: limits.max_message_bytes,
            retention_ms: limits.retention_ms,
            from: from.clone(),
            topic: topic.clone(),
            shared,
            threads: Vec::new(),
        };
        // What has begun ends with the feed, also if the other does not begin.
        let named = |what| std::thread::Builder::new().name(format!("inrush-{pipeline}-{what}"));
        let failed = |error: std::io::Error| Error::Silent(format!("a thread for \"{topic}\" ({error})"));
        feed.threads.push(named("feed").spawn(move || reader.run()).map_err(failed)?);
        if feed.is_shared() {
            feed.threads.push(named("group").spawn(move || keeper.run()).map_err(failed)?);
        }
        Ok(Some(feed))
    }

    pub(super) fn is_of(&self, from: &Elsewhere, topic: &TopicName) -> bool {
        self.from == *from && self.topic == *topic && !self.shared.state().has_ended
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared.member.is_some()
    }

    pub(super) fn is_called_back(&self) -> bool {
        self.shared.state().standing.is_some_and(|standing| standing != Standing::Steady)
    }

    pub(super) fn is_lost(&self) -> bool {
        self.shared.state().standing == Some(Standing::Lost)
    }

    pub(super) fn committed(&self) -> BTreeMap<i32, i64> {
        self.shared.state().committed.clone()
    }

    /// Takes what is to be committed; it is soon.
    pub(super) fn commit(&self, positions: BTreeMap<i32, i64>) {
        if self.is_shared() {
            let mut state = self.shared.state();
            state.to_commit = Some(state.owned(&positions));
        }
    }

    /// Joins its group again, if it was called back; what was cut is committed first.
    ///
    /// # Errors
    /// The coordinator does not answer, or refuses.
    pub(super) fn join_again(&self, positions: &BTreeMap<i32, i64>) -> Result<(), Error> {
        match self.is_called_back() {
            true => self.shared.join(positions),
            false => Ok(()),
        }
    }

    /// Whether the topic has this partition, and it is its own.
    pub(super) fn has(&self, id: i32) -> bool {
        let state = self.shared.state();
        (0..state.partitions.len() as i32).contains(&id) && state.owns(id)
    }

    pub(super) fn partitions(&self) -> i32 {
        self.shared.state().partitions.len() as i32
    }

    /// The topic was deleted, or is another one.
    pub(super) fn is_gone(&self) -> bool {
        self.shared.state().is_gone
    }

    pub(super) fn trouble(&self) -> Option<String> {
        let state = self.shared.state();
        state.trouble.clone().or_else(|| state.group_trouble.clone())
    }

    /// By partition, its tail and the records behind it that a transaction withholds for so long already that nobody means it so.
    pub(super) fn withheld(&self) -> Vec<(i32, i64, i64)> {
        let state = self.shared.state();
        let own = (0..).zip(&state.partitions).filter(|(id, _)| state.owns(*id));
        own.filter_map(|(id, ahead)| Some((id, ahead.tail, ahead.withheld_for(TRANSACTION_AGE_MAX)?))).collect()
    }

    /// Start and tail of a partition.
    pub(super) fn bounds(&self, id: i32) -> (i64, i64) {
        self.shared.state().partitions.get(id as usize).map_or((0, 0), |ahead| (ahead.start, ahead.tail))
    }

    /// Whether the tail of a partition is the end that it has now, as far as anybody can know.
    pub(super) fn is_fresh(&self, id: i32) -> bool {
        let state = self.shared.state();
        let heard = state.partitions.get(id as usize).and_then(|ahead| ahead.heard);
        state.trouble.is_none() && heard.is_some_and(|heard| heard.elapsed() < TAIL_AGE_MAX)
    }

    /// As [`super::Stretch::read_blocking`].
    pub(super) fn read(&self, id: i32, next: i64, size_max: usize) -> Result<Slice, ReadError> {
        let mut state = self.shared.state();
        let mut deadline = None;
        loop {
            let Some(ahead) = state.partitions.get_mut(id as usize) else { return Err(ReadError::Deleted) };
            let (start, tail) = (Offset(ahead.start), Offset(ahead.tail));
            if ahead.is_outside && ahead.until == next {
                // The reader goes on there.
                ahead.seek(if next < start.0 { start.0 } else { tail.0 });
                return Err(ReadError::OutOfRange { offset: Offset(next), start, tail });
            }
            if next < ahead.from || next > ahead.until || ahead.is_outside {
                ahead.seek(next);
                deadline = Some(Instant::now() + SEEK_PATIENCE);
            }
            let batches = ahead.take(next, size_max);
            let left = deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(Instant::now()));
            if !batches.is_empty() || left.is_zero() || state.trouble.is_some() {
                state.taken = if batches.is_empty() { state.taken } else { Some(Instant::now()) };
                drop(state);
                self.shared.changed.notify_all();
                return Ok(Slice { batches, start, tail });
            }
            self.shared.changed.notify_all();
            state = self.shared.wait(state, left);
        }
    }

    /// Returns when a read from `known` would bring something.
    pub(super) async fn moved_past(&self, id: i32, known: i64) {
        let mut moved = self.shared.moved.subscribe();
        let is_ready = || {
            let state = self.shared.state();
            let Some(ahead) = state.partitions.get(id as usize) else { return true };
            state.is_gone
                || state.standing.is_some_and(|standing| standing != Standing::Steady)
                || ahead.tail > known && (!ahead.batches.is_empty() || ahead.is_outside || ahead.until != known)
        };
        while !is_ready() {
            if moved.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Shared {
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.get().is_some()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits until the time is over, or the feed.
    pub(super) fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.state();
        while !self.is_stopped() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.wait(state, left);
        }
    }

    /// Commits what was cut, joins, and takes up what the group has done with.
    fn join(&self, positions: &BTreeMap<i32, i64>) -> Result<(), Error> {
        let Some(member) = &self.member else { return Ok(()) };
        let _joining = Joining::begin(&self.is_joining);
        let mut member = member.lock().unwrap_or_else(PoisonError::into_inner);
        let (is_lost, owned) = {
            let state = self.state();
            (state.standing == Some(Standing::Lost), state.owned(positions))
        };
        if !is_lost && !owned.is_empty() {
            // If it is too late for that, whoever has the partitions next reads from the commit before.
            member.commit(&owned)?;
        }
        let own = member.join()?;
        let committed = member.committed(&own)?;
        // What others had was not looked at meanwhile. A broker that hangs is no reason to have everything divided anew.
        let bounds = member.bounds().unwrap_or_else(|error| {
            warn!(%error, "where the partitions end now is not known yet");
            BTreeMap::new()
        });
        info!(partitions = ?own, "Kafka's group has divided its partitions");
        let mut state = self.state();
        for (id, ahead) in (0..).zip(&mut state.partitions) {
            ahead.begin_anew(bounds.get(&id).copied(), committed.get(&id).copied());
        }
        (state.own, state.committed, state.to_commit) = (Some(own), committed, None);
        state.standing = Some(Standing::Steady);
        drop(state);
        self.tell();
        Ok(())
    }

    /// Commits what is left, and leaves the group: else others would wait for it until its session is over.
    pub(super) fn leave(&self) {
        let Some(member) = &self.member else { return };
        let mut member = member.lock().unwrap_or_else(PoisonError::into_inner);
        let to_commit = self.state().to_commit.take();
        if let Some(positions) = to_commit.filter(|positions| !positions.is_empty())
            && let Err(error) = member.commit(&positions)
        {
            warn!(%error, "the group does not know how far the pipeline is");
        }
        let _ = member.leave();
    }

    /// The topic has more partitions than before.
    fn grow(&self, count: usize, starts: &BTreeMap<i32, i64>) {
        let mut state = self.state();
        while state.partitions.len() < count {
            // All of it is new: it is read from its start.
            let start = starts.get(&(state.partitions.len() as i32)).copied().unwrap_or(0);
            state.partitions.push(Ahead::at(start, start));
        }
        // A group divides them only when somebody asks it to.
        if self.member.is_some() && state.standing == Some(Standing::Steady) {
            state.standing = Some(Standing::Rebalance);
        }
        drop(state);
        self.tell();
    }

    pub(super) fn tell(&self) {
        self.changed.notify_all();
        self.moved.send_modify(|moves| *moves += 1);
    }
}

/// Whatever ends a thread of a feed, whoever waits for it hears of it.
pub(super) struct Watch(pub(super) Arc<Shared>);

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.has_ended = true;
        if std::thread::panicking() {
            state.trouble = Some("the thread that reads has failed; it begins anew".to_owned());
            state.standing = Some(Standing::Lost);
        }
        drop(state);
        self.0.tell();
    }
}

/// The thread that reads ahead.
struct Reader {
    shared: Arc<Shared>,
    cluster: Cluster,
    topic: String,
    id: Uuid,
    rounds: usize,
    /// Brokers that did not answer, until when they are left alone, and why.
    resting: BTreeMap<i32, (Instant, String)>,
    /// When it last looked who leads, since something was wrong.
    looked: Instant,
}

impl Reader {
    fn new(shared: Arc<Shared>, cluster: Cluster, topic: &str, id: Uuid) -> Reader {
        let (topic, looked) = (topic.to_owned(), Instant::now());
        Reader { shared, cluster, topic, id, rounds: 0, resting: BTreeMap::new(), looked }
    }

    fn run(mut self) {
        let _watch = Watch(self.shared.clone());
        let _ = self.cluster.topic(&self.topic);
        while !self.shared.is_stopped() {
            let (has_brought, trouble) = match self.round() {
                Ok(done) => done,
                Err(error) => (false, Some(error.to_string())),
            };
            let is_new =
                std::mem::replace(&mut self.shared.state().trouble, trouble.clone()).is_some() != trouble.is_some();
            match trouble {
                None if is_new => info!(topic = self.topic, "Kafka is there again"),
                None => {}
                Some(reason) => {
                    if is_new {
                        warn!(topic = self.topic, %reason, "something cannot be read from Kafka now");
                    }
                    self.shared.tell();
                    // Where other partitions bring something they need not wait.
                    if !has_brought && self.cluster.pause(PAUSE).is_err() {
                        break;
                    }
                    if self.looked.elapsed() >= PAUSE {
                        let _ = self.cluster.topic(&self.topic);
                        self.looked = Instant::now();
                    }
                }
            }
        }
    }

    /// Asks each broker once; says whether anything came, and what is wrong. What is wrong with one partition or one broker holds up no
    /// other.
    fn round(&mut self) -> Result<(bool, Option<String>), Error> {
        if self.cluster.is_older(&self.topic, VIEW_AGE_MAX) {
            self.look_again()?;
        }
        let wanted = self.wanted();
        if wanted.is_empty() {
            let state = self.shared.state();
            let trouble = state.trouble.clone();
            drop(self.shared.wait(state, ROOM_WAIT));
            return Ok((true, trouble));
        }
        let mut trouble: Vec<String> = Vec::new();
        let mut by_leader: BTreeMap<i32, Vec<(i32, i64)>> = BTreeMap::new();
        for (id, from) in &wanted {
            match self.cluster.by_leader(&self.topic, std::iter::once(*id)) {
                Ok(led) => led.into_keys().for_each(|leader| by_leader.entry(leader).or_default().push((*id, *from))),
                Err(error) => trouble.push(error.to_string()),
            }
        }
        self.rounds = self.rounds.wrapping_add(1);
        trouble.extend(self.let_rest(&mut by_leader));
        let wait = FETCH_WAIT / by_leader.len().max(1) as u32;
        let mut has_brought = false;
        for (leader, mut asked) in by_leader {
            let room = ahead::room(&self.shared.state().partitions);
            if room == 0 {
                break;
            }
            // A broker fills its answer in the order that it is asked in.
            let first = self.rounds % asked.len().max(1);
            asked.rotate_left(first);
            let limits = FetchLimits {
                partition_size: FETCH_PARTITION_SIZE as i32,
                size: room.min(FETCH_SIZE) as i32,
                wait,
                is_committed: true,
            };
            let began = Instant::now();
            match self.cluster.fetch_from(&self.topic, leader, &asked, limits) {
                Ok(told) => {
                    self.resting.remove(&leader);
                    for (id, fetched) in told {
                        // A broker may tell of a partition that it was not asked for.
                        let Some(from) = wanted.get(&id).copied() else { continue };
                        has_brought |= fetched.as_ref().is_ok_and(|fetched| !fetched.batches.is_empty());
                        trouble.extend(self.take(id, from, fetched).err().map(|error| error.to_string()));
                    }
                }
                Err(error) => {
                    let rest = Instant::now() + began.elapsed() * REST;
                    self.resting.insert(leader, (rest, error.to_string()));
                    trouble.push(error.to_string());
                }
            }
        }
        Ok((has_brought, trouble.into_iter().next()))
    }

    /// Leaves out brokers that did not answer and are to be left alone, if there are others; says what was wrong with them.
    fn let_rest<T>(&self, by_leader: &mut BTreeMap<i32, T>) -> Vec<String> {
        let now = Instant::now();
        let why = |leader: &i32| self.resting.get(leader).filter(|(until, _)| now < *until).map(|(_, why)| why.clone());
        if by_leader.keys().all(|leader| why(leader).is_some()) {
            return Vec::new();
        }
        let told = by_leader.keys().filter_map(why).collect();
        by_leader.retain(|leader, _| why(leader).is_none());
        told
    }

    fn take(&mut self, id: i32, from: i64, fetched: Result<Fetched, Error>) -> Result<(), Error> {
        match fetched {
            Ok(fetched) => self.give(id, from, fetched),
            Err(error) if error.code() == Some(ResponseError::OffsetOutOfRange) => {
                if !self.is_outside(id, from)? {
                    // A leader that is not as far yet as the one before.
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// By partition from where on it is to be read, if there is room for more.
    fn wanted(&self) -> BTreeMap<i32, i64> {
        let mut state = self.shared.state();
        let is_starved = state.taken.is_none_or(|taken| taken.elapsed() >= ROOM_WAIT);
        let State { partitions, own, .. } = &mut *state;
        let owns = |id: i32| own.as_ref().is_none_or(|own| own.contains(&id));
        ahead::wanted(partitions, owns, self.rounds, is_starved)
    }

    fn give(&self, id: i32, from: i64, fetched: Fetched) {
        // Copies: a part of an answer would keep all of it.
        let whole = committed(fetched.batches, &fetched.aborted);
        let copy = |batch: &Batch| batch.stamped(batch.base_offset(), batch.header().leader_epoch);
        let batches: Vec<Batch> = whole.iter().map(copy).collect();
        drop(whole);
        let mut state = self.shared.state();
        let Some(ahead) = state.partitions.get_mut(id as usize) else { return };
        let is_news = ahead.tail != fetched.tail.0 || !batches.is_empty();
        // Old brokers do not tell the start here.
        ahead.start = ahead.start.max(fetched.start.0);
        ahead.hear(fetched.tail.0, fetched.end.0);
        // The pipeline may have gone elsewhere meanwhile.
        if ahead.until == from && !ahead.is_outside {
            ahead.put(batches);
        }
        drop(state);
        if is_news {
            self.shared.tell();
        }
    }

    /// Asks what there is in place of an offset; says whether it is really not there.
    fn is_outside(&mut self, id: i32, at: i64) -> Result<bool, Error> {
        let start = self.cluster.offsets(&self.topic, START, true)?.get(&id).copied();
        let tail = self.cluster.offsets(&self.topic, END, true)?.get(&id).copied();
        let mut state = self.shared.state();
        let is_outside = state.partitions.get_mut(id as usize).is_none_or(|ahead| ahead.judge(at, start, tail));
        drop(state);
        self.shared.tell();
        Ok(is_outside)
    }

    fn look_again(&mut self) -> Result<(), Error> {
        let view = self.cluster.topic(&self.topic)?;
        let Some(view) = view.filter(|view| view.id == self.id) else {
            self.shared.state().is_gone = true;
            self.shared.tell();
            return Ok(());
        };
        if view.partitions as usize > self.shared.state().partitions.len() {
            let starts = self.cluster.offsets(&self.topic, START, true)?;
            self.shared.grow(view.partitions as usize, &starts);
        }
        Ok(())
    }
}

/// The batches, those without their records that no reader of committed records may see: what transactions that were given up have
/// written, and the marks of their ends.
fn committed(batches: Vec<Batch>, aborted: &[(i64, i64)]) -> Vec<Batch> {
    let mut given_up: HashSet<i64> = HashSet::new();
    let mut to_come: Vec<(i64, i64)> = aborted.to_vec();
    let seen = |batch: Batch| {
        let header = *batch.header();
        to_come.retain(|(producer, first)| {
            let begins = *first <= header.last_offset().0;
            if begins {
                given_up.insert(*producer);
            }
            !begins
        });
        let is_given_up = header.producer.is_some_and(|producer| given_up.contains(&producer.id));
        if header.is_control {
            // What ends one transaction says nothing of the next.
            header.producer.map(|producer| given_up.remove(&producer.id));
            return batch.emptied();
        }
        if header.is_transactional && is_given_up { batch.emptied() } else { batch }
    };
    batches.into_iter().map(seen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::Settings;
    use crate::record::{BatchBuilder, Codec, NewRecord, Producer};

    fn batch(offset: i64) -> Batch {
        let mut builder = BatchBuilder::new();
        builder.producer(Producer { id: 5, epoch: 0, base_sequence: 0 });
        for _ in 0..10 {
            builder.push(NewRecord { timestamp: 0, key: None, value: Some(b"v"), headers: &[] });
        }
        builder.build(Codec::None).unwrap().stamped(Offset(offset), 0)
    }

    fn feed(start: i64, tail: i64) -> Feed {
        let state = State { partitions: vec![Ahead::at(start, tail)], ..State::default() };
        Feed {
            topic_id: Uuid::nil(),
            max_message_bytes: 0,
            retention_ms: None,
            from: Elsewhere { cluster: Settings { servers: Vec::new(), tls: None, sasl: None }, group: None },
            topic: TopicName::new("t").unwrap(),
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changed: Condvar::new(),
                moved: watch::Sender::new(0),
                stopped: Arc::default(),
                member: None,
                is_joining: Arc::default(),
            }),
            threads: Vec::new(),
        }
    }

    /// A reader's answer to what is wanted.
    fn answer(feed: &Feed, batches: Vec<Batch>, tail: i64) {
        let cluster = Cluster::new(feed.from.cluster.clone(), Arc::new(|| true));
        let reader = Reader::new(feed.shared.clone(), cluster, "t", Uuid::nil());
        let from = reader.wanted()[&0];
        reader.give(
            0,
            from,
            Fetched { batches, start: Offset(0), tail: Offset(tail), end: Offset(tail), aborted: Vec::new() },
        );
    }

    #[test]
    fn reads_follow_one_another_and_one_elsewhere_throws_away_what_was_ahead() {
        let feed = feed(0, 40);
        assert!(feed.read(0, 5, 1 << 20).unwrap().batches.is_empty());
        answer(&feed, vec![batch(0), batch(10), batch(20)], 40);
        let offsets = |next, size| {
            let slice = feed.read(0, next, size).unwrap();
            slice.batches.iter().map(|batch| batch.base_offset().0).collect::<Vec<_>>()
        };
        assert_eq!(offsets(5, 1), [0]);
        assert_eq!(offsets(10, 1), [10]);
        assert_eq!(offsets(20, 1 << 20), [20]);
        assert_eq!((feed.bounds(0), feed.shared.state().partitions[0].until), ((0, 40), 30));
        // Another output is behind.
        assert!(offsets(10, 1 << 20).is_empty());
        answer(&feed, vec![batch(10)], 50);
        assert_eq!((offsets(12, 1 << 20), feed.bounds(0)), (vec![10], (0, 50)));
    }

    #[test]
    fn the_tail_of_a_cluster_that_does_not_answer_is_no_end() {
        let feed = feed(0, 40);
        assert!(feed.is_fresh(0) && !feed.is_fresh(1));
        feed.shared.state().trouble = Some("nobody answers".to_owned());
        assert!(!feed.is_fresh(0));
        feed.shared.state().trouble = None;
        feed.shared.state().partitions[0].heard = Instant::now().checked_sub(TAIL_AGE_MAX);
        assert!(!feed.is_fresh(0), "a connection hangs");
        answer(&feed, Vec::new(), 40);
        assert!(feed.is_fresh(0));
    }

    #[test]
    fn an_offset_that_is_gone_is_told_with_what_is_there() {
        let feed = feed(100, 140);
        assert!(feed.read(0, 7, 1).unwrap().batches.is_empty());
        feed.shared.state().partitions[0].is_outside = true;
        let told = feed.read(0, 7, 1).unwrap_err();
        assert!(matches!(told, ReadError::OutOfRange { start: Offset(100), tail: Offset(140), .. }), "{told}");
        assert_eq!(feed.shared.state().partitions[0].until, 100);
    }

    #[test]
    fn an_offset_that_is_there_after_all_is_not_passed_over() {
        let feed = feed(100, 140);
        assert!(feed.read(0, 120, 1).unwrap().batches.is_empty());
        let judge = |at| feed.shared.state().partitions[0].judge(at, Some(100), Some(150));
        assert!(!judge(120));
        assert_eq!((feed.read(0, 120, 1).unwrap().tail, judge(150)), (Offset(150), false));
        assert!(feed.read(0, 160, 1).unwrap().batches.is_empty());
        assert!(judge(160) && feed.read(0, 160, 1).is_err());
    }

    #[test]
    fn new_partitions_are_asked_for_in_the_group() {
        let mut feed = feed(0, 0);
        let cluster = Cluster::new(feed.from.cluster.clone(), Arc::new(|| true));
        let shared = Arc::get_mut(&mut feed.shared).unwrap();
        shared.member = Some(Mutex::new(Member::new(cluster, "g", "t")));
        shared.state().standing = Some(Standing::Steady);
        shared.state().own = Some(BTreeSet::from([0]));
        assert!(!feed.is_called_back());
        feed.shared.grow(2, &BTreeMap::from([(1, 7)]));
        assert!(feed.is_called_back() && !feed.is_lost());
        assert_eq!((feed.partitions(), feed.bounds(1)), (2, (7, 7)));
    }

    #[test]
    fn a_reader_that_failed_is_opened_anew() {
        let feed = feed(0, 0);
        assert!(feed.is_of(&feed.from, &feed.topic) && !feed.is_called_back());
        let watch = Watch(feed.shared.clone());
        let thread = std::thread::spawn(move || {
            let _watch = watch;
            panic!("a broker answers what nobody foresaw");
        });
        assert!(thread.join().is_err());
        assert!(feed.is_lost() && feed.trouble().is_some() && !feed.is_of(&feed.from, &feed.topic));
    }

    #[test]
    fn brokers_that_do_not_answer_are_left_alone_while_others_do() {
        let feed = feed(0, 0);
        let cluster = Cluster::new(feed.from.cluster.clone(), Arc::new(|| true));
        let mut reader = Reader::new(feed.shared.clone(), cluster, "t", Uuid::nil());
        let leaders = || BTreeMap::from([(1, ()), (2, ()), (3, ())]);
        let later = Instant::now() + Duration::from_secs(60);
        reader.resting = BTreeMap::from([(2, (later, "it hangs".to_owned())), (3, (Instant::now(), "x".to_owned()))]);
        let mut asked = leaders();
        assert_eq!((reader.let_rest(&mut asked), asked.len()), (vec!["it hangs".to_owned()], 2));
        reader.resting = (1..4).map(|id| (id, (later, "it hangs".to_owned()))).collect();
        let mut asked = leaders();
        assert!(reader.let_rest(&mut asked).is_empty() && asked == leaders(), "nobody would be asked");
    }

    #[test]
    fn a_batch_read_ahead_does_not_keep_the_answer_that_it_came_in() {
        let feed = feed(0, 40);
        assert!(feed.read(0, 0, 1).unwrap().batches.is_empty());
        let answer_bytes = bytes::Bytes::from([batch(0).bytes().as_ref(), batch(10).bytes().as_ref()].concat());
        answer(&feed, Batch::check_chain(answer_bytes.clone()).unwrap(), 40);
        assert_eq!(feed.shared.state().partitions[0].batches.len(), 2);
        assert!(answer_bytes.is_unique(), "a part of it is still held");
    }
}
