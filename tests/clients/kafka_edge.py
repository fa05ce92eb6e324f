"""A pipeline from a topic of Inrush into a real Kafka, with daemon and broker killed (SIGKILL) in turn under load; then what is in Kafka is
counted. Run by tests/kafka_edge.sh.
Usage: kafka_edge.py PATH_TO_INRUSH FOLDER PATH_TO_KAFKA_SH; KILLS and SEED in the environment."""

import collections
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import confluent_kafka
import confluent_kafka.admin
from daemon import Daemon, free_port

INRUSH, FOLDER, KAFKA_SH = sys.argv[1:4]
KILLS = int(os.environ.get("KILLS", "6"))
SEED = int(os.environ.get("SEED", str(time.time_ns() % 1_000_000)))
PARTITIONS, TARGET_PARTITIONS, KEYS = 3, 4, 50
RATE = 2_000
PATIENCE_S = 120
QUIET = {"log_level": 0, "reconnect.backoff.max.ms": 300}
chance = random.Random(SEED)


class Kafka:
    """The broker, on one port whenever it is started again."""

    def __init__(self):
        self.folder, self.port = f"{FOLDER}/kafka", free_port()
        self.address = f"127.0.0.1:{self.port}"

    def start(self):
        subprocess.run([KAFKA_SH, "start", self.folder], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "KAFKA_PORT": str(self.port)})

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
    """A daemon with one pipeline."""

    def start(self):
        os.makedirs(f"{self.folder}/pipelines", exist_ok=True)
        command = [self.inrush, "serve", "--data", f"{self.folder}/data", "--kafka", self.address, "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        command += ["--pipelines", f"{self.folder}/pipelines"]
        with open(f"{self.folder}/log", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, env={**os.environ, "RUST_LOG": "info", "INRUSH_LOG_FORMAT": "json"})


class Sender(threading.Thread):
    """Numbers to Inrush, until it is told to stop; what was acknowledged is what must arrive."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.producer = confluent_kafka.Producer({"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 5, "message.timeout.ms": 0, **QUIET})
        self.acknowledged, self.is_done = set(), False

    def run(self):
        number = 0
        while not self.is_done:
            for _ in range(RATE // 100):
                value = json.dumps({"n": number, "key": f"k{number % KEYS}"})
                note = lambda error, _, n=number: error or self.acknowledged.add(n)
                self.producer.produce("in", value, key=f"k{number % KEYS}", on_delivery=note)
                number += 1
            self.producer.poll(0.01)
        assert self.producer.flush(PATIENCE_S) == 0, "Inrush does not acknowledge what is left"


def read_all(address, topic, until):
    """By number how often it is there; and whether each key is in order. Reads until `until` says that it is enough."""
    seen, last, wrong = collections.Counter(), {}, 0
    consumer = confluent_kafka.Consumer({"bootstrap.servers": address, "group.id": "none", "enable.auto.commit": False, **QUIET})
    ids = consumer.list_topics(topic, 30).topics[topic].partitions
    consumer.assign([confluent_kafka.TopicPartition(topic, id, confluent_kafka.OFFSET_BEGINNING) for id in ids])
    used, deadline = set(), time.monotonic() + PATIENCE_S
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


def main():
    kafka = Kafka()
    kafka.start()
    make(kafka.address, "orders", TARGET_PARTITIONS)
    os.makedirs(f"{FOLDER}/pipelines")
    with open(f"{FOLDER}/pipelines/edge.toml", "w", encoding="utf-8") as file:
        file.write(f'from = "topic:in"\nselect = "n, key"\nto = {{ kafka = "orders", servers = "{kafka.address}", key = "key" }}\n[columns]\nn = "int64"\nkey = "string"\n')
    edge = Edge(INRUSH, FOLDER)
    edge.wait_until_it_answers()
    make(edge.address, "in", PARTITIONS)
    sender = Sender(edge.address)
    sender.start()
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
    sender.is_done = True
    sender.join()
    took = time.monotonic() - began
    seen, wrong, used = read_all(kafka.address, "orders", lambda seen: len(seen) >= len(sender.acknowledged))
    edge.process.terminate()
    edge.process.wait(60)
    missing = sender.acknowledged - set(seen)
    doubled = [n for n, times in seen.items() if times > 1]
    late = sum("came late" in line or "next epoch" in line or "another one lies there" in line for line in open(f"{FOLDER}/log", encoding="utf-8"))
    print(f"topic -> kafka: {len(sender.acknowledged)} events in {took:.0f} s, {KILLS} kills (seed {SEED}), {used} of {TARGET_PARTITIONS} partitions: "
          f"{len(missing)} missing, {len(doubled)} doubled, {wrong} out of order; {late} late batches of dead processes met")
    if missing or doubled or wrong or used != TARGET_PARTITIONS:
        print("missing", sorted(missing)[:10], "doubled", sorted(doubled)[:10])
        with open(f"{FOLDER}/log", encoding="utf-8") as log:
            print("".join([line for line in log if '"WARN"' in line or '"ERROR"' in line][-20:]))
        sys.exit(1)


main()
