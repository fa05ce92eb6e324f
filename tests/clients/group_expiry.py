"""How long committed offsets are kept (behaviour 27), by clients that are not ours: from when the last member left, or from the commit of a
consumer that assigns partitions itself, and never while members read; over kill -9 too. Whoever comes back later begins anew. Starts a
daemon of its own that keeps offsets for seconds. Usage: group_expiry.py PATH_TO_INRUSH"""

import concurrent.futures
import subprocess
import sys
import tempfile
import time

import checks
import confluent_kafka
import confluent_kafka.admin
from checks import check
from daemon import Daemon
from members import Member

RETENTION_S = 8
TOPIC, PARTITIONS, RECORDS = "events", 2, 40
END = [RECORDS // PARTITIONS] * PARTITIONS
CLIENTS = ["kcat", "confluent", "kafka-python", "aiokafka"]
# How long anything may take on a busy machine.
PATIENCE_S = 60
QUIET = {"log_level": 0, "reconnect.backoff.max.ms": 500}


class Desk:
    """What tools see of groups."""

    def __init__(self, address):
        self.admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": address, **QUIET})

    def committed(self, group):
        """The offsets that there are; None while nobody answers."""
        asked = confluent_kafka.ConsumerGroupTopicPartitions(group, [confluent_kafka.TopicPartition(TOPIC, id) for id in range(PARTITIONS)])
        try:
            found = self.admin.list_consumer_group_offsets([asked])[group].result(PATIENCE_S).topic_partitions
        except confluent_kafka.KafkaException:
            return None
        return None if any(part.error for part in found) else [part.offset for part in found if part.offset >= 0]

    def groups(self):
        return {group.group_id for group in self.admin.list_consumer_groups().result(PATIENCE_S).valid}

    def stay(self, what, groups, until):
        """At each look before that time all of these groups have their offsets."""
        looks = 0
        while True:
            found = {group: self.committed(group) for group in groups}
            if time.monotonic() >= until:
                break
            gone = [group for group, offsets in found.items() if offsets == []]
            if gone:
                check(f"{what}: {gone} gone {until - time.monotonic():.1f} s too early", False)
                return
            looks += all(found.values())
            time.sleep(0.2)
        check(f"{what}: {looks} looks", looks > 0)


def wait_for(what, is_true):
    until = time.monotonic() + PATIENCE_S
    while not is_true():
        if time.monotonic() > until:
            raise TimeoutError(what)
        time.sleep(0.1)
    check(what, True)


def run(daemon):
    daemon.wait_until_it_answers()
    desk = Desk(daemon.address)
    desk.admin.create_topics([confluent_kafka.admin.NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(PATIENCE_S)
    producer = confluent_kafka.Producer({"bootstrap.servers": daemon.address, **QUIET})
    for n in range(RECORDS):
        producer.produce(TOPIC, str(n), partition=n % PARTITIONS)
    check("all sent", producer.flush(PATIENCE_S) == 0)

    members = {client: Member(daemon.address, client, f"of-{client}", TOPIC) for client in CLIENTS}
    stays = Member(daemon.address, "confluent", "stays", TOPIC)
    groups = [f"of-{client}" for client in CLIENTS] + ["stays"]
    for group in groups:
        wait_for(f"{group}: read and committed", lambda group=group: desk.committed(group) == END)
    began = time.monotonic()
    alone = confluent_kafka.Consumer({"bootstrap.servers": daemon.address, "group.id": "alone", **QUIET})
    alone.commit(offsets=[confluent_kafka.TopicPartition(TOPIC, id, 7) for id in range(PARTITIONS)], asynchronous=False)
    alone.close()
    desk.stay("of nobody's: kept for their time", ["alone"], began + RETENTION_S)
    wait_for("of nobody's: gone after it", lambda: desk.committed("alone") == [])
    desk.stay("while members read: kept for longer", groups, began + 2 * RETENTION_S)

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(len(members)) as pool:
        list(pool.map(lambda member: member.close(PATIENCE_S), members.values()))
    check("closed in order", all(member.is_closed for member in members.values()))
    daemon.kill()
    daemon.start()
    daemon.wait_until_it_answers()
    # librdkafka may hang what is asked just when it lost its only broker on a handle that it gives up.
    desk = Desk(daemon.address)
    desk.stay("of who left: kept from then on, over kill -9", groups[:-1], began + RETENTION_S)
    for group in groups[:-1]:
        wait_for(f"{group}: gone after its time", lambda group=group: desk.committed(group) == [])
    wait_for("groups without offsets are none", lambda: desk.groups() == {"stays"})
    check("who still reads keeps its own", desk.committed("stays") == END)
    for client in CLIENTS:
        again = Member(daemon.address, client, f"of-{client}", TOPIC)
        wait_for(f"{client}: begins anew", lambda again=again: sorted(again.values()) == list(range(RECORDS)))
        again.close(PATIENCE_S)
    stays.close(PATIENCE_S)


folder = tempfile.mkdtemp(prefix="inrush-group-expiry-")
daemon = Daemon(sys.argv[1], folder, f'offsets-retention = "{RETENTION_S}s"\ngroup-initial-delay = "100ms"\n')
try:
    checks.attempt(run, daemon)
finally:
    daemon.kill()
if checks.failed:
    print(f"what the daemon said: {folder}/log")
else:
    subprocess.run(["rm", "-r", folder], check=True)
checks.end("group expiry")
