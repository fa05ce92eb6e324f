"""Pipelines from a topic of Inrush into a real Kafka, and from that Kafka into Parquet and a topic, with daemon and broker killed (SIGKILL) in
turn under load; then what came is counted. Some of what stands in Kafka is of transactions that were given up. Run by tests/kafka_edge.sh.
Usage: kafka_edge.py PATH_TO_INRUSH FOLDER PATH_TO_KAFKA_SH; KILLS and SEED in the environment."""

import collections
import glob
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import confluent_kafka
import confluent_kafka.admin
import pyarrow.parquet
from daemon import Daemon, free_port
from kafka_secure import secure

INRUSH, FOLDER, KAFKA_SH = sys.argv[1:4]
KILLS = int(os.environ.get("KILLS", "6"))
SEED = int(os.environ.get("SEED", str(time.time_ns() % 1_000_000)))
PARTITIONS, TARGET_PARTITIONS, KEYS = 3, 4, 50
RATE = 2_000
PARTS = os.environ.get("PARTS", "edge share secure").split()
PATIENCE_S = 120
QUIET = {"log_level": 0, "reconnect.backoff.max.ms": 300}
chance = random.Random(SEED)


class Kafka:
    """The broker, on one port whenever it is started again."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.address = f"127.0.0.1:{self.port}"

    def start(self, *settings):
        subprocess.run([KAFKA_SH, "start", self.folder, *settings], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "KAFKA_PORT": str(self.port)})

    def kill(self):
        with open(f"{self.folder}/pid", encoding="utf-8") as file:
            pid = int(file.read())
        os.kill(pid, signal.SIGKILL)
        os.remove(f"{self.folder}/pid")
        while not is_gone(pid):
            time.sleep(0.02)


def is_gone(pid):
    """Whether a process is dead, also if nobody has waited for it."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            return "State:\tZ" in file.read()
    except OSError:
        return True


class Edge(Daemon):
    """A daemon with pipelines."""

    def __init__(self, inrush, folder):
        self.admin = free_port()
        super().__init__(inrush, folder)

    def start(self):
        os.makedirs(f"{self.folder}/pipelines", exist_ok=True)
        command = [self.inrush, "serve", "--data", f"{self.folder}/data", "--kafka", self.address, "--http", "127.0.0.1:0", "--admin", f"127.0.0.1:{self.admin}"]
        command += ["--pipelines", f"{self.folder}/pipelines"]
        with open(f"{self.folder}/log", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, env={**os.environ, "RUST_LOG": "info", "INRUSH_LOG_FORMAT": "json"})


def begun(folder):
    node = Edge(INRUSH, folder)
    node.wait_until_it_answers()
    return node


class Sender(threading.Thread):
    """Numbers to Inrush, until it is told to stop; what was acknowledged is what must arrive."""

    def __init__(self, address, topic, first=0):
        super().__init__(daemon=True)
        self.topic, self.first = topic, first
        self.producer = confluent_kafka.Producer({"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 5, "message.timeout.ms": 0, **QUIET})
        self.acknowledged, self.is_done = set(), False

    def run(self):
        number = self.first
        while not self.is_done:
            for _ in range(RATE // 100):
                value = json.dumps({"n": number, "key": f"k{number % KEYS}"})
                note = lambda error, _, n=number: error or self.acknowledged.add(n)
                self.producer.produce(self.topic, value, key=f"k{number % KEYS}", on_delivery=note)
                number += 1
            self.producer.poll(0.01)
        assert self.producer.flush(PATIENCE_S) == 0, f"{self.topic}: what is left is not acknowledged"


class Liar(threading.Thread):
    """Transactions in Kafka: every second one is given up, and its numbers, all negative, must not arrive."""

    def __init__(self, address, topic):
        super().__init__(daemon=True)
        self.address, self.topic, self.is_done = address, topic, False
        self.committed, self.unclear, self.given_up = set(), set(), 0
        self.producer = confluent_kafka.Producer({"bootstrap.servers": address, "transactional.id": "liar", "transaction.timeout.ms": 10_000, **QUIET})

    def run(self):
        number = 0
        self.producer.init_transactions(60)
        while not self.is_done:
            try:
                self.producer.begin_transaction()
                numbers = range(number, number + 20)
                number += 20
                for n in numbers:
                    self.producer.produce(self.topic, json.dumps({"n": -1 - n, "key": "t"}), key="t")
                if numbers[0] % 40:
                    self.producer.flush(30)
                    self.producer.abort_transaction(60)
                    self.given_up += 1
                else:
                    self.producer.commit_transaction(60)
                    self.committed.update(-1 - n for n in numbers)
            except confluent_kafka.KafkaException as error:
                # The broker was killed under it: nobody knows, so these numbers are not judged.
                self.unclear.update(-1 - n for n in numbers)
                try:
                    self.producer.abort_transaction(60)
                except confluent_kafka.KafkaException:
                    self.producer = confluent_kafka.Producer({"bootstrap.servers": self.address, "transactional.id": "liar", **QUIET})
                    self.producer.init_transactions(60)
            time.sleep(0.05)


def read_all(address, topic, until, patience_s=PATIENCE_S):
    """By number how often it is there; and whether each key is in order. Reads until `until` says that it is enough."""
    seen, last, wrong = collections.Counter(), {}, 0
    consumer = confluent_kafka.Consumer({"bootstrap.servers": address, "group.id": "none", "enable.auto.commit": False, **QUIET})
    deadline = time.monotonic() + patience_s
    # An output makes its topic when it first writes.
    while not (ids := consumer.list_topics(topic, 30).topics[topic].partitions) and time.monotonic() < deadline:
        time.sleep(0.2)
    consumer.assign([confluent_kafka.TopicPartition(topic, id, confluent_kafka.OFFSET_BEGINNING) for id in ids])
    used = set()
    while time.monotonic() < deadline and not until(seen):
        for message in consumer.consume(5_000, 0.5):
            if message.error():
                continue
            row = json.loads(message.value())
            assert message.key().decode() == row["key"], "the row's key is not its record's"
            wrong += row["n"] < last.get(row["key"], -1)
            last[row["key"]] = row["n"]
            seen[row["n"]] += 1
            used.add(message.partition())
    # What comes twice may come late.
    for message in consumer.consume(100_000, 2):
        if not message.error():
            seen[json.loads(message.value())["n"]] += 1
    consumer.close()
    return seen, wrong, len(used)


def make(address, topic, partitions):
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": address, **QUIET})
    admin.create_topics([confluent_kafka.admin.NewTopic(topic, partitions, 1)])[topic].result(30)


def parquet_numbers(folder):
    files = glob.glob(f"{folder}/**/*.parquet", recursive=True)
    return collections.Counter(n for file in files for n in pyarrow.parquet.read_table(file, columns=["n"], partitioning=None)["n"].to_pylist())


def judge(name, wanted, seen, allowed=frozenset()):
    """Prints what is wrong with what came; says whether anything is."""
    missing = wanted - set(seen)
    doubled = [n for n, times in seen.items() if times > 1]
    foreign = [n for n in seen if n < 0 and n not in wanted and n not in allowed]
    print(f"{name}: {len(wanted)} events, {len(missing)} missing, {len(doubled)} doubled, {len(foreign)} of transactions that were given up")
    if missing or doubled or foreign:
        print("missing", sorted(missing)[:10], "doubled", sorted(doubled)[:10], "foreign", sorted(foreign)[:10])
    return bool(missing or doubled or foreign)


PIPELINES = {
    "edge": """from = "topic:in"
select = "n, key"
to = {{ kafka = "orders", servers = "{kafka}", key = "key" }}
""",
    "lake": """from = {{ kafka = "source", servers = "{kafka}" }}
[[route]]
to = {{ parquet = "lake", roll = "700ms" }}
[[route]]
to = {{ topic = "copy", key = "key" }}
""",
}


SHARED = """from = {{ kafka = "shared", servers = "{kafka}", group = "edge" }}
to = {{ topic = "copy", key = "key" }}
"""


def divided(node):
    """The partitions that a node last said were its own."""
    with open(f"{node.folder}/log", encoding="utf-8") as log:
        said = [line for line in log if "has divided its partitions" in line]
    numbers = re.search(r'"partitions":"\{([\d, ]*)\}"', said[-1]) if said else None
    return {int(number) for number in re.findall(r"\d+", numbers[1])} if numbers else set()


def tell(nodes):
    for node in nodes:
        with open(f"{node.folder}/log", encoding="utf-8") as log:
            print("".join([line for line in log if '"WARN"' in line or '"ERROR"' in line or "group" in line][-20:]))


def share(kafka):
    """Two nodes whose pipelines are one group: one comes, goes, and is killed, under load. Says whether anything is wrong."""
    make(kafka.address, "shared", TARGET_PARTITIONS)
    nodes = []
    for name in "ab":
        folder = f"{FOLDER}/{name}"
        os.makedirs(f"{folder}/pipelines")
        with open(f"{folder}/pipelines/share.toml", "w", encoding="utf-8") as file:
            file.write(SHARED.format(kafka=kafka.address) + '[columns]\nn = "int64"\nkey = "string"\n')
        nodes.append(Edge(INRUSH, folder))
        nodes[-1].wait_until_it_answers()
        make(nodes[-1].address, "copy", TARGET_PARTITIONS)
        time.sleep(1)
    sender = Sender(kafka.address, "shared")
    sender.start()
    a, b = nodes
    time.sleep(3)
    for node in (a, b):
        node.process.terminate()
        node.process.wait(60)
        time.sleep(2)
        node.start()
        node.wait_until_it_answers()
        # Under load: whoever has all of them has to hear of the other meanwhile.
        deadline = time.monotonic() + 25
        while not divided(a) or not divided(b) or divided(a) & divided(b):
            if time.monotonic() > deadline:
                print(f"a node that comes gets no partitions under load: {divided(a)} and {divided(b)}")
                tell(nodes)
                return True
            time.sleep(0.2)
        time.sleep(4)

    def count():
        seen = collections.Counter()
        by_node = []
        for node in nodes:
            numbers, _, _ = read_all(node.address, "copy", lambda seen: False, 4)
            by_node.append(len(numbers))
            seen.update(numbers)
        return seen, by_node

    sender.is_done = True
    sender.join(PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        seen, by_node = count()
        if sender.acknowledged <= set(seen) or time.monotonic() > deadline:
            break
    failed = judge("kafka -> two nodes of a group, handed over four times", sender.acknowledged, seen)
    print(f"  of them {by_node[0]} and {by_node[1]} at each node")
    # A node that dies has its partitions read by the other from the last commit: none is missing, some may be there twice.
    again = Sender(kafka.address, "shared", 10_000_000)
    again.start()
    time.sleep(3)
    b.kill()
    again.is_done = True
    again.join(PATIENCE_S)
    b.start()
    b.wait_until_it_answers()
    deadline = time.monotonic() + PATIENCE_S
    while True:
        seen, _ = count()
        if again.acknowledged <= set(seen) or time.monotonic() > deadline:
            break
    missing = again.acknowledged - set(seen)
    doubled = sum(times > 1 for n, times in seen.items() if n in again.acknowledged)
    print(f"kafka -> two nodes, one killed: {len(again.acknowledged)} events, {len(missing)} missing, {doubled} doubled (at least once)")
    for node in nodes:
        node.process.terminate()
        node.process.wait(60)
    if failed or missing or not all(by_node):
        tell(nodes)
        return True
    return False


def main():
    if "secure" in PARTS:
        os.makedirs(f"{FOLDER}/secure")
        guarded = Kafka(f"{FOLDER}/secure/kafka")
        try:
            if secure(guarded, begun, make, read_all, judge):
                sys.exit(1)
        finally:
            subprocess.run([KAFKA_SH, "stop", guarded.folder], check=False)
    if not {"edge", "share"} & set(PARTS):
        return
    kafka = Kafka(f"{FOLDER}/kafka")
    kafka.start()
    if "share" in PARTS and share(kafka):
        sys.exit(1)
    if "edge" not in PARTS:
        return
    make(kafka.address, "orders", TARGET_PARTITIONS)
    make(kafka.address, "source", TARGET_PARTITIONS)
    os.makedirs(f"{FOLDER}/pipelines")
    for name, text in PIPELINES.items():
        with open(f"{FOLDER}/pipelines/{name}.toml", "w", encoding="utf-8") as file:
            file.write(text.format(kafka=kafka.address) + '[columns]\nn = "int64"\nkey = "string"\n')
    edge = Edge(INRUSH, FOLDER)
    edge.wait_until_it_answers()
    make(edge.address, "in", PARTITIONS)
    threads = [Sender(edge.address, "in"), Sender(kafka.address, "source"), Liar(kafka.address, "source")]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    for number in range(KILLS):
        time.sleep(chance.uniform(0.7, 2.5))
        if number % 3 == 2:
            kafka.kill()
            time.sleep(chance.uniform(0, 2))
            kafka.start()
        else:
            edge.kill()
            edge.start()
            edge.wait_until_it_answers()
    time.sleep(1)
    for thread in threads:
        thread.is_done = True
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), thread
    took = time.monotonic() - began
    out, into, liar = threads
    seen, wrong, used = read_all(kafka.address, "orders", lambda seen: len(seen) >= len(out.acknowledged))
    wanted = into.acknowledged | liar.committed
    copied, _, _ = read_all(edge.address, "copy", lambda seen: wanted <= set(seen))
    edge.process.terminate()
    edge.process.wait(60)
    late = sum("came late" in line or "next epoch" in line or "another one lies there" in line for line in open(f"{FOLDER}/log", encoding="utf-8"))
    print(f"{took:.0f} s, {KILLS} kills (seed {SEED}), {liar.given_up} transactions given up, {len(liar.unclear)} events of unclear ones; "
          f"{used} of {TARGET_PARTITIONS} partitions written, {wrong} out of order, {late} late batches of dead processes met")
    failed = [judge("topic -> kafka", out.acknowledged, seen), judge("kafka -> topic", wanted, copied, liar.unclear),
              judge("kafka -> parquet", wanted, parquet_numbers(f"{FOLDER}/data/out/lake"), liar.unclear)]
    if any(failed) or wrong or used != TARGET_PARTITIONS or not liar.given_up:
        with open(f"{FOLDER}/log", encoding="utf-8") as log:
            print("".join([line for line in log if '"WARN"' in line or '"ERROR"' in line][-20:]))
        sys.exit(1)


main()
