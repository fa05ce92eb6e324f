"""A producer and a consumer group that run while the daemon is killed (SIGKILL) and started again, KILLS times (5); then a checker: nothing
acknowledged lost, nothing twice in the log from idempotent producers, order kept, committed offsets never go back and keep their words,
every event read by the group, the group comes to rest after each kill. Members come, go and are killed in between.
Usage: group_kills.py PATH_TO_INRUSH; KILLS, SEED and READER (confluent, kafka-python, aiokafka) in the environment."""

import collections
import os
import random
import subprocess
import sys
import tempfile
import threading
import time

import confluent_kafka
import confluent_kafka.admin
from daemon import Daemon
from members import Member

INRUSH = sys.argv[1]
KILLS = int(os.environ.get("KILLS", "5"))
SEED = int(os.environ.get("SEED", str(time.time_ns() % 1_000_000)))
READER = os.environ.get("READER", "confluent")
TOPIC, GROUP, PARTITIONS = "events", "readers", 6
PRODUCERS, MEMBERS = 2, 3
# How long the group may take to rest, and records a second of each producer.
PATIENCE_S = 60
RATE = 150
# Each kill would be told by each client many times; and they are to come back soon.
QUIET = {"log_level": 0, "reconnect.backoff.max.ms": 500}
chance = random.Random(SEED)
failed = []


def fail(what):
    failed.append(what)
    print("failed:", what, flush=True)


class Sender(threading.Thread):
    """An idempotent producer: numbers in order, one run of them a partition."""

    def __init__(self, name, address):
        super().__init__(daemon=True)
        # No limit for a record's life: what is not acknowledged is sent again until it is.
        settings = {"bootstrap.servers": address, "enable.idempotence": True, "acks": "all", "linger.ms": 5, "message.timeout.ms": 0, **QUIET}
        self.producer = confluent_kafka.Producer({**settings, "error_cb": self.on_error})
        self.mark = name
        self.next = [0] * PARTITIONS
        self.acknowledged = {}
        self.is_ending = threading.Event()

    def on_error(self, error):
        if error.fatal():
            fail(f"producer {self.mark}: {error}")

    def on_delivery(self, error, message):
        if error is not None:
            fail(f"producer {self.mark}: not delivered: {error}")
        else:
            self.acknowledged[message.value().decode()] = (message.partition(), message.offset())

    def run(self):
        while not self.is_ending.wait(0.02):
            for _ in range(max(1, RATE // 50)):
                partition = random.randrange(PARTITIONS)
                value = f"{self.mark} {partition} {self.next[partition]}"
                try:
                    self.producer.produce(TOPIC, value, partition=partition, on_delivery=self.on_delivery)
                    self.next[partition] += 1
                except BufferError:
                    break
            self.producer.poll(0)

    def end(self):
        self.is_ending.set()
        self.join()
        if self.producer.flush(PATIENCE_S):
            fail(f"producer {self.mark}: not flushed")


class Readers:
    """The group: three members at all times, more or less."""

    def __init__(self, address):
        self.address = address
        self.gone, self.members = [], [self.new(n) for n in range(MEMBERS)]

    def new(self, n):
        # One of three is static; with librdkafka one does not wait for its commits.
        options = {"instance": "static"} if n == 2 else {}
        if READER == "confluent":
            options |= {"is_async": n == 1, "assignor": "cooperative-sticky"}
        return Member(self.address, READER, GROUP, TOPIC, **options)

    def replace(self, how):
        """One of them ends, by a close or a kill, and another takes its place."""
        n = chance.randrange(MEMBERS)
        old = self.members[n]
        if how == "close":
            threading.Thread(target=old.close, args=[PATIENCE_S], daemon=True).start()
        else:
            old.kill()
        self.gone.append(old)
        self.members[n] = self.new(n)

    def all(self):
        return self.gone + self.members

    def are_at_rest(self):
        parts = sorted(part for member in self.members for part in member.assignment)
        return parts == [[TOPIC, id] for id in range(PARTITIONS)] and all(member.assignment for member in self.members)

    def acknowledged(self):
        """The commit of each partition that was acknowledged last."""
        last = {}
        for member in self.all():
            for at, _, partition, end in list(member.commits):
                if at > last.get(partition, (0, 0))[0]:
                    last[partition] = (at, end)
        return {partition: end for partition, (_, end) in last.items()}


class Offsets:
    """What OffsetFetch says, against what was acknowledged and what it said before."""

    def __init__(self, address):
        self.consumer = confluent_kafka.Consumer({"bootstrap.servers": address, "group.id": GROUP, "enable.auto.commit": False, **QUIET})
        self.seen = [0] * PARTITIONS
        self.looks = 0

    def look(self, readers):
        before = readers.acknowledged()
        parts = [confluent_kafka.TopicPartition(TOPIC, id) for id in range(PARTITIONS)]
        try:
            found = self.consumer.committed(parts, timeout=PATIENCE_S)
        except confluent_kafka.KafkaException:
            return None
        if any(part.error for part in found):
            return None
        self.looks += 1
        for part in found:
            id, offset = part.partition, max(part.offset, 0)
            for wrong in judge_offset(id, offset, part.metadata, before.get(id, 0), self.seen[id]):
                fail(wrong)
            self.seen[id] = offset
        return {part.partition: max(part.offset, 0) for part in found}


def wait_for(what, is_true):
    began = time.monotonic()
    while not is_true():
        if time.monotonic() - began > PATIENCE_S:
            fail(f"{what}: not within {PATIENCE_S} s")
            break
        time.sleep(0.05)
    return time.monotonic() - began


def ends(consumer):
    """Of all partitions. librdkafka knows no partitions for a while after it lost its only broker."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return {id: consumer.get_watermark_offsets(confluent_kafka.TopicPartition(TOPIC, id), timeout=PATIENCE_S)[1] for id in range(PARTITIONS)}
        except confluent_kafka.KafkaException:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def the_log(address):
    """All records, by partition: their values by offset."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": address, "group.id": "checker", "enable.auto.commit": False, **QUIET})
    wanted = ends(consumer)
    consumer.assign([confluent_kafka.TopicPartition(TOPIC, id, 0) for id in wanted])
    log = {id: {} for id in wanted}
    until = time.monotonic() + PATIENCE_S
    while any(len(log[id]) < end for id, end in wanted.items()) and time.monotonic() < until:
        for message in consumer.consume(1000, 0.5):
            if message.error() is None:
                log[message.partition()][message.offset()] = message.value().decode()
    consumer.close()
    if any(len(log[id]) != end for id, end in wanted.items()):
        fail("the log was not read to its end")
    return log


def judge(log, sent, acknowledged, read):
    """What is wrong with a log (partition → offset → value), given what each producer sent (by partition), what was acknowledged
    (value → partition and offset), and what the group read (partition, offset, value)."""
    wrong = []
    values = collections.Counter(value for records in log.values() for value in records.values())
    wrong += [f"{count} times in the log: {value}" for value, count in values.items() if count > 1]
    for mark, counts in sent.items():
        count = sum(value.startswith(f"{mark} ") for value in acknowledged)
        if count != sum(counts):
            wrong.append(f"producer {mark}: {count} of {sum(counts)} acknowledged")
    for value, (partition, offset) in acknowledged.items():
        if log[partition].get(offset) != value:
            wrong.append(f"lost: {value} was acknowledged at {partition}/{offset}, where {log[partition].get(offset)!r} stands")
    for partition, records in log.items():
        last = {}
        for offset in sorted(records):
            mark, own, n = records[offset].split()
            if int(own) != partition or int(n) != last.get(mark, -1) + 1:
                wrong.append(f"order: {records[offset]} at {partition}/{offset} after {last.get(mark)}")
            last[mark] = int(n)
    for partition, offset, value in read:
        if log[partition].get(offset) != value:
            wrong.append(f"read: {value!r} at {partition}/{offset}, where {log[partition].get(offset)!r} stands")
    places = {(partition, offset) for partition, offset, _ in read}
    wrong += [f"never read by the group: {id}/{offset}" for id, records in log.items() for offset in records if (id, offset) not in places]
    return wrong


def judge_offset(partition, offset, words, acknowledged, seen):
    """What is wrong with what OffsetFetch says."""
    wrong = []
    if offset < acknowledged:
        wrong.append(f"partition {partition}: committed {offset} after {acknowledged} was acknowledged")
    if offset < seen:
        wrong.append(f"partition {partition}: committed {offset} after {seen} was seen")
    if offset and words != f"{READER} «{partition}» {offset}":
        wrong.append(f"partition {partition}: words {words!r} at {offset}")
    return wrong


def check_the_judges():
    """Nothing is wrong with a small history, and each injury is noticed."""

    def history():
        log = {0: {0: "p0 0 0", 1: "p0 0 1"}, 1: {0: "p0 1 0"}}
        acknowledged = {value: (id, offset) for id, records in log.items() for offset, value in records.items()}
        return log, {"p0": [2, 1]}, acknowledged, [(id, offset, value) for value, (id, offset) in acknowledged.items()]

    def injured(injure):
        log, sent, acknowledged, read = history()
        injure(log, sent, acknowledged, read)
        return judge(log, sent, acknowledged, read)

    assert judge(*history()) == []
    assert any("lost" in one for one in injured(lambda log, *_: log[1].clear()))
    assert any("times in the log" in one for one in injured(lambda log, *_: log[0].update({2: "p0 0 1"})))
    assert any("order" in one for one in injured(lambda log, *_: log[0].update({0: "p0 0 1", 1: "p0 0 0"})))
    assert any("of 3 acknowledged" in one for one in injured(lambda _, sent, acknowledged, read: acknowledged.popitem()))
    assert any("never read" in one for one in injured(lambda *all: all[3].pop()))
    assert any("read:" in one for one in injured(lambda *all: all[3].append((1, 0, "p0 1 9"))))
    assert judge_offset(1, 7, f"{READER} «1» 7", 7, 7) == judge_offset(1, 0, "", 0, 0) == []
    for wrong in [(1, 7, f"{READER} «1» 7", 8, 0), (1, 7, f"{READER} «1» 7", 0, 8), (1, 7, f"{READER} «1» 6", 0, 0)]:
        assert len(judge_offset(*wrong)) == 1, wrong


def run(daemon):
    daemon.wait_until_it_answers()
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": daemon.address, **QUIET})
    admin.create_topics([confluent_kafka.admin.NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)
    senders = [Sender(f"p{n}", daemon.address) for n in range(PRODUCERS)]
    for sender in senders:
        sender.start()
    readers, offsets = Readers(daemon.address), Offsets(daemon.address)
    wait_for("at rest before the first kill", readers.are_at_rest)
    rests, done = [], collections.Counter()
    for kill in range(KILLS):
        time.sleep(chance.uniform(0.1, 1.5))
        # What is under way when it is killed: nothing, or a rebalance.
        how = chance.choice(["", "", "close", "kill"])
        if how:
            readers.replace(how)
            done[f"members by {how}"] += 1
            time.sleep(chance.choice([0, 0.2, chance.uniform(0, 4)]))
        offsets.look(readers)
        daemon.kill()
        time.sleep(chance.choice([0, 0.5, 2]))
        daemon.start()
        if chance.random() < 0.2:
            # Again, while it recovers and reads its groups.
            time.sleep(chance.uniform(0, 0.5))
            daemon.kill()
            daemon.start()
            done["killed while they started"] += 1
        daemon.wait_until_it_answers()
        began = time.monotonic()
        target = ends(offsets.consumer)
        wait_for(f"kill {kill}: at rest", readers.are_at_rest)

        def have_caught_up(target=target):
            found = offsets.look(readers)
            return found is not None and all(found[id] >= end for id, end in target.items())

        wait_for(f"kill {kill}: caught up", have_caught_up)
        rests.append(time.monotonic() - began)
        if failed:
            break
    for sender in senders:
        sender.end()
    target = ends(offsets.consumer)
    wait_for("at the end: all committed", lambda: offsets.look(readers) == target)
    for member in readers.members:
        member.close(PATIENCE_S)
    if offsets.look(readers) != target:
        fail("after all members closed: the offsets are not at the end")
    log = the_log(daemon.address)
    acknowledged = {value: place for sender in senders for value, place in sender.acknowledged.items()}
    read = [record[1:] for member in readers.all() for record in member.records]
    for wrong in judge(log, {sender.mark: sender.next for sender in senders}, acknowledged, read):
        fail(wrong)
    count = sum(len(records) for records in log.values())
    again = len(read) - len(set(read))
    words = ", ".join(f"{count} {what}" for what, count in sorted(done.items()))
    print(f"{len(rests)} kills ({words}): {count} records, {again} read again, {offsets.looks} looks at offsets, at rest after {max(rests, default=0):.1f} s at most")


if __name__ == "__main__":
    check_the_judges()
    print(f"seed {SEED}, {KILLS} kills", flush=True)
    folder = tempfile.mkdtemp(prefix="inrush-group-kills-")
    daemon = Daemon(INRUSH, folder)
    try:
        run(daemon)
    finally:
        daemon.kill()
    if failed:
        print(f"what the daemon said: {folder}/log")
    else:
        subprocess.run(["rm", "-r", folder], check=True)
    print(f"group_kills: {len(failed)} failures")
    os._exit(1 if failed else 0)
