"""Consumer groups of clients that are not ours, against a running daemon: kcat (Debian's old librdkafka), confluent-kafka (a current one),
kafka-python, aiokafka. Members are processes, so that they can be killed; scenarios run side by side.
Usage: groups.py HOST:PORT [SCENARIO...]"""

import concurrent.futures
import sys
import threading
import time
import uuid

import checks
import confluent_kafka
import confluent_kafka.admin
import kafka
from checks import check
from members import SESSION_S, Member

ADDRESS = sys.argv[1]
PARTITIONS = 4
# How long anything may take on a busy machine.
PATIENCE_S = 60
SIDE_BY_SIDE = 6
producer = confluent_kafka.Producer({"bootstrap.servers": ADDRESS, "enable.idempotence": True, "linger.ms": 5})
admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": ADDRESS})
python_admin = kafka.KafkaAdminClient(bootstrap_servers=ADDRESS)
# It answers one thread at a time.
asking = threading.Lock()


def wait_for(what, is_true):
    """Waits until it is true; how many seconds that took, and a check that failed if it never was."""
    began = time.monotonic()
    while not is_true():
        if time.monotonic() - began > PATIENCE_S:
            raise TimeoutError(what)
        time.sleep(0.05)
    check(what, True)
    return time.monotonic() - began


def new_topic(name=None):
    name = name or f"group-{uuid.uuid4().hex[:8]}"
    admin.create_topics([confluent_kafka.admin.NewTopic(name, PARTITIONS, 1)])[name].result(30)
    return name


def send(topic, numbers):
    for n in numbers:
        producer.produce(topic, value=str(n), partition=n % PARTITIONS)
    if producer.flush(PATIENCE_S):
        raise TimeoutError(f"{topic}: not flushed")


def committed(group, topic):
    """Offset and words by partition."""
    parts = [kafka.TopicPartition(topic, id) for id in range(PARTITIONS)]
    with asking:
        found = python_admin.list_group_offsets({group: parts})[group]
    return {part.partition: (place.offset, place.metadata) for part, place in found.items()}


def close(member):
    member.close(PATIENCE_S)
    check(f"{member.client}: closed in order", member.is_closed)


def wait_shared(what, topic, members):
    """Waits until the members have all partitions, each as many as the others."""
    wanted = [[topic, id] for id in range(PARTITIONS)]
    each = PARTITIONS // len(members)

    def is_shared():
        return sorted(part for member in members for part in member.assignment) == wanted and all(len(member.assignment) == each for member in members)

    return wait_for(what, is_shared)


def wait_read(what, members, numbers):
    """Waits until the members have read all of these numbers."""
    wanted = set(numbers)
    return wait_for(what, lambda: wanted <= {value for member in members for value in member.values()})


def wait_committed(what, group, topic, end):
    wait_for(what, lambda: all(offset == end for offset, _ in committed(group, topic).values()))


def resumes(client):
    topic, group = new_topic(), f"resumes-{client}-{uuid.uuid4().hex[:6]}"
    send(topic, range(40))
    first = Member(ADDRESS, client, group, topic)
    wait_read(f"{client}: all from the start", [first], range(40))
    wait_committed(f"{client}: committed", group, topic, 10)
    close(first)
    found = committed(group, topic)
    words = {id: (10, None if client == "kcat" else f"{client} «{id}» 10\0") for id in range(PARTITIONS)}
    check(f"{client}: offsets with words, {found}", {id: (offset, text or None) for id, (offset, text) in found.items()} == words)
    send(topic, range(40, 80))
    second = Member(ADDRESS, client, group, topic)
    wait_read(f"{client}: goes on", [second], range(40, 80))
    check(f"{client}: nothing that was committed again", sorted(second.values()) == list(range(40, 80)))
    close(second)


def shares(client):
    topic, group = new_topic(), f"shares-{client}-{uuid.uuid4().hex[:6]}"
    one, two = Member(ADDRESS, client, group, topic), Member(ADDRESS, client, group, topic)
    wait_shared(f"{client}: two share", topic, [one, two])
    send(topic, range(200))
    wait_read(f"{client}: two read", [one, two], range(200))
    check(f"{client}: each record goes to one of them", sorted(one.values() + two.values()) == list(range(200)))
    check(f"{client}: both work", len(one.values()) == len(two.values()) == 100)
    wait_committed(f"{client}: two have committed", group, topic, 50)
    close(one)
    took_s = wait_shared(f"{client}: takes over from one that left", topic, [two])
    check(f"{client}: and at once, {took_s:.1f} s", took_s < SESSION_S - 1)
    send(topic, range(200, 240))
    wait_read(f"{client}: reads what that one would have", [two], range(200, 240))
    three = Member(ADDRESS, client, group, topic)
    wait_shared(f"{client}: a third comes in", topic, [two, three])
    wait_committed(f"{client}: three have committed", group, topic, 60)
    three.kill()
    took_s = wait_shared(f"{client}: takes over from one that was killed", topic, [two])
    check(f"{client}: after its session, {took_s:.1f} s", took_s > SESSION_S - 2)
    send(topic, range(240, 280))
    wait_read(f"{client}: reads all", [two], range(240, 280))
    every = one.values() + two.values() + three.values()
    check(f"{client}: each record once, all the time", sorted(every) == list(range(280)))
    close(two)


def static(client):
    topic, group = new_topic(), f"static-{client}-{uuid.uuid4().hex[:6]}"
    one, two = Member(ADDRESS, client, group, topic, instance="one"), Member(ADDRESS, client, group, topic, instance="two")
    wait_shared(f"{client}: static members share", topic, [one, two])
    described = admin.describe_consumer_groups([group])[group].result(30)
    check(f"{client}: instances are told", sorted(member.group_instance_id for member in described.members) == ["one", "two"])
    before, told = one.assignment, len(two.rebalances)
    for how in ["kill", "close"]:
        send(topic, range(40))
        wait_for(f"{client}: {how}: read", lambda: len(one.records) + len(two.records) >= 40)
        wait_for(f"{client}: {how}: committed", lambda: all(offset % 10 == 0 for offset, _ in committed(group, topic).values()))
        {"kill": Member.kill, "close": close}[how](one)
        one = Member(ADDRESS, client, group, topic, instance="one")
        wait_for(f"{client}: {how}: its old place", lambda: one.assignment == before)
        two.records.clear()
        send(topic, range(40))
        wait_for(f"{client}: {how}: both read on", lambda: set(one.values() + two.values()) == set(range(40)))
        check(f"{client}: {how}: the other saw no rebalance", len(two.rebalances) == told)
        two.records.clear()
        one.records.clear()
    close(two)
    took_s = wait_shared(f"{client}: a static one that closed keeps its place for its session", topic, [one])
    check(f"{client}: as long as that, {took_s:.1f} s", took_s > SESSION_S - 2)
    close(one)


def assigns(client, assignor):
    topic, group = new_topic(), f"assigns-{client}-{assignor}-{uuid.uuid4().hex[:6]}"
    mark = f"{client} {assignor}"
    one = Member(ADDRESS, client, group, topic, assignor=assignor)
    wait_shared(f"{mark}: one has all", topic, [one])
    two = Member(ADDRESS, client, group, topic, assignor=assignor)
    wait_shared(f"{mark}: two share", topic, [one, two])
    described = admin.describe_consumer_groups([group])[group].result(30)
    check(f"{mark}: told, {described.partition_assignor}", described.partition_assignor == assignor)
    given = [parts for what, parts in one.rebalances if what == "revoke" and parts]
    wanted = PARTITIONS - len(one.assignment) if assignor == "cooperative-sticky" else PARTITIONS
    check(f"{mark}: gave {'a part' if wanted < PARTITIONS else 'all'} back, {given}", [len(parts) for parts in given] == [wanted])
    send(topic, range(200))
    wait_read(f"{mark}: both read", [one, two], range(200))
    check(f"{mark}: each record goes to one of them", sorted(one.values() + two.values()) == list(range(200)))
    close(one)
    wait_shared(f"{mark}: the other takes over", topic, [two])
    close(two)


def matches(client):
    prefix = f"match-{uuid.uuid4().hex[:6]}"
    group = f"matches-{client}-{uuid.uuid4().hex[:6]}"
    first, other = new_topic(f"{prefix}-a"), new_topic(f"un{prefix}")
    send(first, range(40))
    send(other, range(1000, 1040))
    member = Member(ADDRESS, client, group, f"^{prefix}-.*")
    wait_read(f"{client}: by pattern", [member], range(40))
    second = new_topic(f"{prefix}-b")
    send(second, range(100, 140))
    wait_read(f"{client}: a topic that came later", [member], range(100, 140))
    check(f"{client}: nothing else", set(member.values()) == {*range(40), *range(100, 140)})
    close(member)


def mixes(*clients):
    """Clients of different makes in one group: whichever leads shares out among all, by the assignor that all know."""
    topic, group = new_topic(), f"mixes-{uuid.uuid4().hex[:6]}"
    members = [Member(ADDRESS, client, group, topic) for client in clients]
    wait_shared("mixed: all share", topic, members)
    send(topic, range(200))
    wait_read("mixed: all read", members, range(200))
    check("mixed: each record goes to one of them", sorted(value for member in members for value in member.values()) == list(range(200)))
    wait_committed("mixed: committed", group, topic, 50)
    members[0].kill()
    close(members[1])
    wait_shared("mixed: two are left", topic, members[2:])
    send(topic, range(200, 240))
    wait_read("mixed: who is left reads all", members[2:], range(200, 240))
    for member in members[2:]:
        close(member)


def scenarios():
    clients = ["kcat", "confluent", "kafka-python", "aiokafka"]
    assignors = {
        "kcat": ["roundrobin", "cooperative-sticky"],
        "confluent": ["range", "roundrobin", "cooperative-sticky"],
        "kafka-python": ["roundrobin", "sticky", "cooperative-sticky"],
        "aiokafka": ["roundrobin", "sticky"],
    }
    # The longest first, so that no one is waited for alone at the end.
    yield (mixes, *clients)
    yield from ((run, client) for run in [shares, static, matches, resumes] for client in clients)
    yield from ((assigns, client, assignor) for client in clients for assignor in assignors[client])


if __name__ == "__main__":
    wanted = sys.argv[2:]
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for scenario in scenarios():
            if not wanted or scenario[0].__name__ in wanted or scenario[1] in wanted:
                pool.submit(checks.attempt, *scenario)
    checks.end("groups")
