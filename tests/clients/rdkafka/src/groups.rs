//! Consumer groups of librdkafka through its Rust crate: reading on after a restart, sharing, leaving, being killed, static members, eager and
//! cooperative assignors, patterns, tools. Scenarios run side by side, each with topics of its own.

use crate::{Checks, PATIENCE, config, wait};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 4;
const SESSION: Duration = Duration::from_secs(6);
/// A member commits after so many records, and when none came for a while.
const COMMIT_COUNT: usize = 100;
const SILENCE: Duration = Duration::from_millis(50);

type Options<'a> = &'a [(&'a str, &'a str)];

/// Runs all scenarios; how many checks passed and failed.
pub fn run(address: &str) -> Checks {
    let scenarios: [(&str, fn(&Desk, &mut Checks)); 8] = [
        ("shares", shares),
        ("static", fixed),
        ("resumes", resumes),
        ("matches", matches),
        ("tools", tools),
        ("range", |desk, checks| assigns(desk, checks, "range", PARTITIONS)),
        ("roundrobin", |desk, checks| assigns(desk, checks, "roundrobin", PARTITIONS)),
        ("cooperative-sticky", |desk, checks| assigns(desk, checks, "cooperative-sticky", PARTITIONS / 2)),
    ];
    let mut all = Checks { passed: 0, failed: 0 };
    std::thread::scope(|scope| {
        let running: Vec<_> = scenarios
            .into_iter()
            .map(|(name, scenario)| {
                let run = scope.spawn(move || {
                    let mut checks = Checks { passed: 0, failed: 0 };
                    scenario(&Desk::new(address, name), &mut checks);
                    checks
                });
                (name, run)
            })
            .collect();
        for (name, run) in running {
            match run.join() {
                Ok(checks) => {
                    all.passed += checks.passed;
                    all.failed += checks.failed;
                }
                // It has said why.
                Err(_) => all.that(&format!("groups: {name}"), false),
            }
        }
    });
    all
}

/// One member that is there to be killed.
pub fn member(address: &str, group: &str, topic: &str) {
    let member = Member::start(address, group, topic, &[]);
    let _ = member.thread.join();
}

/// What a scenario works with: clients, and a name for its topics and groups that nobody else has.
struct Desk {
    address: String,
    name: String,
    admin: AdminClient<DefaultClientContext>,
    producer: BaseProducer,
}

impl Desk {
    fn new(address: &str, name: &str) -> Desk {
        Desk {
            address: address.to_owned(),
            name: format!("rd-{name}-{}", std::process::id()),
            admin: config(address).create().expect("an admin client"),
            producer: config(address).set("linger.ms", "5").create().expect("a producer"),
        }
    }

    fn make(&self, topic: &str) {
        let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let made = wait(self.admin.create_topics([&new], &options)).expect("an answer");
        assert!(made[0].is_ok(), "{topic}: {made:?}");
    }

    fn send(&self, topic: &str, numbers: std::ops::Range<i32>) {
        for n in numbers {
            let value = n.to_string();
            let record: BaseRecord<'_, (), str> = BaseRecord::to(topic).partition(n % PARTITIONS).payload(&value);
            self.producer.send(record).map_err(|(error, _)| error).expect("room in the queue");
        }
        self.producer.flush(PATIENCE).expect("flushed");
    }

    fn member(&self, topic: &str, options: Options<'_>) -> Member {
        Member::start(&self.address, &self.name, topic, options)
    }

    /// Offset and words of each partition.
    fn committed(&self, topic: &str) -> Vec<(Offset, String)> {
        let asks: BaseConsumer = config(&self.address).set("group.id", &self.name).create().expect("a consumer");
        let mut places = TopicPartitionList::new();
        places.add_partition_range(topic, 0, PARTITIONS - 1);
        let found = asks.committed_offsets(places, PATIENCE).expect("offsets");
        found.elements().iter().map(|one| (one.offset(), one.metadata().to_owned())).collect()
    }

    fn wait_committed(&self, checks: &mut Checks, what: &str, topic: &str, end: i64) {
        wait_for(checks, what, || self.committed(topic).iter().all(|(offset, _)| *offset == Offset::Offset(end)));
    }
}

/// What a member was given and what was taken from it.
#[derive(Default)]
struct Seen {
    values: Mutex<Vec<i32>>,
    parts: Mutex<BTreeSet<(String, i32)>>,
    /// How many partitions it gave back, each time.
    given: Mutex<Vec<i32>>,
    rebalances: AtomicU32,
}

#[derive(Clone, Default)]
struct Watch(Arc<Seen>);

impl ClientContext for Watch {}

impl ConsumerContext for Watch {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        self.0.rebalances.fetch_add(1, Ordering::Relaxed);
        let mut parts = self.0.parts.lock().expect("not poisoned");
        let names = |list: &TopicPartitionList| -> Vec<(String, i32)> {
            list.elements().iter().map(|one| (one.topic().to_owned(), one.partition())).collect()
        };
        match rebalance {
            Rebalance::Assign(list) => parts.extend(names(list)),
            Rebalance::Revoke(list) => {
                let gone = names(list);
                if !gone.is_empty() {
                    self.0.given.lock().expect("not poisoned").push(gone.len() as i32);
                }
                parts.retain(|part| !gone.contains(part));
            }
            Rebalance::Error(_) => {}
        }
    }
}

/// A member on a thread of its own. Commits what it read, with words beside the offsets.
struct Member {
    seen: Arc<Seen>,
    is_leaving: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Member {
    fn start(address: &str, group: &str, topic: &str, options: Options<'_>) -> Member {
        let mut config = config(address);
        config.set("group.id", group).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
        config.set("session.timeout.ms", SESSION.as_millis().to_string()).set("heartbeat.interval.ms", "300");
        config.set("topic.metadata.refresh.interval.ms", "1000");
        for (name, value) in options {
            config.set(*name, *value);
        }
        let watch = Watch::default();
        let seen = watch.0.clone();
        let consumer: BaseConsumer<Watch> = config.create_with_context(watch).expect("a consumer");
        consumer.subscribe(&[topic]).expect("subscribed");
        let is_leaving = Arc::new(AtomicBool::new(false));
        let (own, is_over) = (seen.clone(), is_leaving.clone());
        // A consumer that is dropped leaves its group.
        let thread = std::thread::spawn(move || read(&consumer, &own, &is_over));
        Member { seen, is_leaving, thread }
    }

    /// As a program does that ends in order.
    fn leave(self) -> Arc<Seen> {
        self.is_leaving.store(true, Ordering::Relaxed);
        self.thread.join().expect("closed in order");
        self.seen
    }
}

fn read(consumer: &BaseConsumer<Watch>, seen: &Seen, is_over: &AtomicBool) {
    let mut ends: BTreeMap<(String, i32), i64> = BTreeMap::new();
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        let polled = consumer.poll(SILENCE);
        let is_silent = polled.is_none();
        if let Some(Ok(message)) = polled {
            let value =
                message.payload().and_then(|bytes| std::str::from_utf8(bytes).ok()).and_then(|text| text.parse().ok());
            seen.values.lock().expect("not poisoned").push(value.expect("a number"));
            ends.insert((message.topic().to_owned(), message.partition()), message.offset() + 1);
            count += 1;
        }
        if !ends.is_empty() && (is_silent || count >= COMMIT_COUNT) {
            let mut list = TopicPartitionList::new();
            for ((topic, partition), end) in std::mem::take(&mut ends) {
                let mut place = list.add_partition(&topic, partition);
                place.set_offset(Offset::Offset(end)).expect("an offset");
                place.set_metadata(words(end));
            }
            count = 0;
            // Refused when its partitions are another's by now.
            let _ = consumer.commit(&list, CommitMode::Sync);
        }
    }
}

fn words(end: i64) -> String {
    format!("up to «{end}»")
}

fn values(members: &[&Seen]) -> Vec<i32> {
    let mut all: Vec<i32> = members.iter().flat_map(|seen| seen.values.lock().expect("not poisoned").clone()).collect();
    all.sort_unstable();
    all
}

fn have_read(members: &[&Seen], numbers: std::ops::Range<i32>) -> bool {
    values(members).into_iter().eq(numbers)
}

/// Waits until it is true; how long that took.
fn wait_for(checks: &mut Checks, what: &str, is_true: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !is_true() {
        assert!(began.elapsed() < 2 * PATIENCE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(20));
    }
    checks.that(what, true);
    began.elapsed()
}

fn wait_shared(checks: &mut Checks, what: &str, members: &[&Seen]) -> Duration {
    let each = PARTITIONS as usize / members.len();
    wait_for(checks, what, || {
        let parts: Vec<_> = members.iter().map(|seen| seen.parts.lock().expect("not poisoned").clone()).collect();
        let together: BTreeSet<_> = parts.iter().flatten().collect();
        together.len() == PARTITIONS as usize && parts.iter().all(|own| own.len() == each)
    })
}

fn resumes(desk: &Desk, checks: &mut Checks) {
    let topic = &desk.name;
    desk.make(topic);
    desk.send(topic, 0..40);
    let first = desk.member(topic, &[]);
    wait_for(checks, "groups: all from the start", || have_read(&[&first.seen], 0..40));
    desk.wait_committed(checks, "groups: committed", topic, 10);
    first.leave();
    let are_right = desk.committed(topic).iter().all(|(_, own)| *own == words(10));
    checks.that("groups: offsets with words", are_right);
    desk.send(topic, 40..80);
    let second = desk.member(topic, &[]);
    wait_for(checks, "groups: goes on", || values(&[&second.seen]).len() >= 40);
    checks.that("groups: nothing that was committed again", have_read(&[&second.seen], 40..80));
    second.leave();
}

fn shares(desk: &Desk, checks: &mut Checks) {
    let topic = &desk.name;
    desk.make(topic);
    let (one, two) = (desk.member(topic, &[]), desk.member(topic, &[]));
    wait_shared(checks, "groups: two share", &[&one.seen, &two.seen]);
    desk.send(topic, 0..200);
    wait_for(checks, "groups: two read", || values(&[&one.seen, &two.seen]).len() >= 200);
    checks.that("groups: each record goes to one of them", have_read(&[&one.seen, &two.seen], 0..200));
    checks.that("groups: both work", values(&[&one.seen]).len() == 100);
    desk.wait_committed(checks, "groups: two have committed", topic, 50);
    let one = one.leave();
    let took = wait_shared(checks, "groups: takes over from one that left", &[&two.seen]);
    checks.that(&format!("groups: and at once, {took:?}"), took < SESSION - Duration::from_secs(1));
    desk.send(topic, 200..240);
    wait_for(checks, "groups: reads what that one would have", || have_read(&[&one, &two.seen], 0..240));
    let program = std::env::current_exe().expect("this program");
    let mut third = Command::new(program)
        .args(["member", desk.address.as_str(), topic.as_str(), topic.as_str()])
        .spawn()
        .expect("a member");
    wait_for(checks, "groups: a third comes in", || two.seen.parts.lock().expect("not poisoned").len() == 2);
    third.kill().expect("killed");
    third.wait().expect("ended");
    let took = wait_shared(checks, "groups: takes over from one that was killed", &[&two.seen]);
    checks.that(&format!("groups: after its session, {took:?}"), took > SESSION - Duration::from_secs(2));
    desk.send(topic, 240..280);
    wait_for(checks, "groups: reads all", || have_read(&[&one, &two.seen], 0..280));
    two.leave();
}

fn fixed(desk: &Desk, checks: &mut Checks) {
    let topic = &desk.name;
    desk.make(topic);
    let named = |name| desk.member(topic, &[("group.instance.id", name)]);
    let (one, two) = (named("one"), named("two"));
    wait_shared(checks, "groups: static members share", &[&one.seen, &two.seen]);
    let before = one.seen.parts.lock().expect("not poisoned").clone();
    let told = two.seen.rebalances.load(Ordering::Relaxed);
    one.leave();
    let again = named("one");
    wait_for(checks, "groups: its old place", || *again.seen.parts.lock().expect("not poisoned") == before);
    desk.send(topic, 0..40);
    wait_for(checks, "groups: both read on", || have_read(&[&again.seen, &two.seen], 0..40));
    checks.that("groups: the other saw no rebalance", two.seen.rebalances.load(Ordering::Relaxed) == told);
    again.leave();
    two.leave();
}

fn assigns(desk: &Desk, checks: &mut Checks, assignor: &str, given: i32) {
    let topic = &desk.name;
    desk.make(topic);
    let options = [("partition.assignment.strategy", assignor)];
    let one = desk.member(topic, &options);
    wait_shared(checks, &format!("{assignor}: one has all"), &[&one.seen]);
    let two = desk.member(topic, &options);
    wait_shared(checks, &format!("{assignor}: two share"), &[&one.seen, &two.seen]);
    let sizes = one.seen.given.lock().expect("not poisoned").clone();
    checks.that(&format!("{assignor}: gave back {sizes:?}"), sizes == [given]);
    desk.send(topic, 0..200);
    wait_for(checks, &format!("{assignor}: both read"), || values(&[&one.seen, &two.seen]).len() >= 200);
    checks.that(&format!("{assignor}: each record goes to one of them"), have_read(&[&one.seen, &two.seen], 0..200));
    one.leave();
    wait_shared(checks, &format!("{assignor}: the other takes over"), &[&two.seen]);
    two.leave();
}

fn matches(desk: &Desk, checks: &mut Checks) {
    let (first, second) = (format!("{}-a", desk.name), format!("{}-b", desk.name));
    desk.make(&first);
    desk.send(&first, 0..40);
    let member = desk.member(&format!("^{}-.*", desk.name), &[]);
    wait_for(checks, "groups: by pattern", || have_read(&[&member.seen], 0..40));
    desk.make(&second);
    desk.send(&second, 40..80);
    wait_for(checks, "groups: a topic that came later", || have_read(&[&member.seen], 0..80));
    member.leave();
}

fn tools(desk: &Desk, checks: &mut Checks) {
    let topic = &desk.name;
    desk.make(topic);
    desk.send(topic, 0..40);
    let member = desk.member(topic, &[]);
    desk.wait_committed(checks, "tools: committed", topic, 10);
    let delete =
        || wait(desk.admin.delete_groups(&[topic.as_str()], &AdminOptions::new())).expect("an answer").remove(0);
    let code = |result: Result<String, (String, RDKafkaErrorCode)>| result.err().map(|(_, code)| code);
    checks.that("tools: not deleted with members", code(delete()) == Some(RDKafkaErrorCode::NonEmptyGroup));
    let asks: BaseConsumer = config(&desk.address).create().expect("a consumer");
    let list = asks.fetch_group_list(Some(topic.as_str()), PATIENCE).expect("an answer");
    let group = &list.groups()[0];
    checks.that(
        "tools: described as stable",
        (group.state(), group.protocol(), group.protocol_type()) == ("Stable", "range", "consumer"),
    );
    let hosts: Vec<&str> = group.members().iter().map(|member| member.client_host()).collect();
    checks.that("tools: its member", hosts == ["/127.0.0.1"]);
    member.leave();
    checks.that("tools: deleted", code(delete()).is_none());
    checks.that("tools: deleted once", code(delete()) == Some(RDKafkaErrorCode::GroupIdNotFound));
    checks.that("tools: without offsets", desk.committed(topic).iter().all(|(offset, _)| *offset == Offset::Invalid));
}
