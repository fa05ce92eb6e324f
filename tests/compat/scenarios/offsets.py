"""ListOffsets and OffsetForLeaderEpoch."""

import random
import time

import batches
from batches import T
from scenario import scenario

SPECIAL = {
    "latest (-1)": -1,
    "earliest (-2)": -2,
    "max timestamp (-3)": -3,
    "earliest local (-4)": -4,
    "latest tiered (-5)": -5,
    "earliest pending upload (-6)": -6,
    "a special of the future (-7)": -7,
}


def three_batches(broker, suffix="", codec="none"):
    name = broker.topic(suffix)
    broker.fill(name, "a", "b", timestamps=[T, T + 10], codec=codec)
    broker.fill(name, "c", "d", "e", timestamps=[T + 50, T + 30, T + 20], codec=codec)
    broker.fill(name, "f", timestamps=[T + 40], codec=codec)
    return name


@scenario("ListOffsets", behaviours=(2, 3, 6))
def specials(broker):
    """Each special time in each version, on a filled and an empty partition."""
    name, empty = three_batches(broker), broker.topic("empty")
    for version in broker.versions("ListOffsets"):
        for case, timestamp in SPECIAL.items():
            broker.see(case, broker.list_offset(name, timestamp, version=version), version)
            broker.see(f"{case}, empty", broker.list_offset(empty, timestamp, version=version), version)
    connection = broker.connect()
    connection.write(bytes.fromhex("0002000000000001ffffffffffff00000000"))
    broker.see("version 0", connection.frame(3))


@scenario("ListOffsets", behaviours=(1, 3))
def times(broker):
    """The first record at or after a time, wherever in a batch it is; none is -1. Batches of each codec."""
    for codec in batches.CODECS:
        name = three_batches(broker, codec, codec)
        for delta in (-5, 0, 1, 10, 11, 20, 30, 31, 40, 49, 50, 51):
            broker.see(f"{codec}, +{delta}", broker.list_offset(name, T + delta))
        broker.see(f"{codec}, max timestamp", broker.list_offset(name, -3))
    for version in broker.versions("ListOffsets"):
        broker.see("+30 by version", broker.list_offset(name, T + 30, version=version), version)
        broker.see("+51 by version", broker.list_offset(name, T + 51, version=version), version)


@scenario("ListOffsets", behaviours=(4,))
def isolation(broker):
    """READ_COMMITTED without transactions."""
    name = three_batches(broker)
    for timestamp in (-1, -2, T + 30, T + 51):
        broker.see(f"{timestamp if timestamp < 0 else f'+{timestamp - T}'}", broker.list_offset(name, timestamp, IsolationLevel=1))


@scenario("ListOffsets", "DeleteRecords", behaviours=(5,))
def after_deletion(broker):
    """Below the start of the log nothing is answered."""
    name = three_batches(broker)
    broker.see(
        "deletion to 3",
        broker.ask("DeleteRecords", 2, Topics=[{"Name": name, "Partitions": [{"PartitionIndex": 0, "Offset": 3}]}], TimeoutMs=5000),
    )
    for delta in (0, 10, 30, 50):
        broker.see(f"+{delta}", broker.list_offset(name, T + delta))
    for case, timestamp in SPECIAL.items():
        broker.see(case, broker.list_offset(name, timestamp, version=9))
    broker.see(
        "deletion of all",
        broker.ask("DeleteRecords", 2, Topics=[{"Name": name, "Partitions": [{"PartitionIndex": 0, "Offset": -1}]}], TimeoutMs=5000),
    )
    for case, timestamp in {**SPECIAL, "+0": T}.items():
        broker.see(f"{case}, all deleted", broker.list_offset(name, timestamp, version=9))


@scenario("ListOffsets", "Fetch", behaviours=(5, 6))
def after_retention(broker):
    """Retention by size moves the start; time queries and fetches follow."""
    name = broker.topic(configs={"segment.bytes": "1048576", "retention.bytes": "1"})
    for number in range(4):
        broker.fill(name, random.Random(number).randbytes(700_000), timestamps=[T + number])
    start = 0
    for _ in range(150):
        start = broker.list_offset(name, -2)["Offset"]
        if start == 3:
            break
        time.sleep(0.1)
    broker.see("start", start)
    broker.see("a time before it", broker.list_offset(name, T))
    broker.see("a fetch below it", broker.fetch(name, 0, partition_max=10))


@scenario("ListOffsets")
def unknown(broker):
    """Topics and partitions that are not there, a partition twice, none at all."""
    name = broker.topic()
    for version in (1, 4, 7):
        broker.see(
            "unknown",
            broker.ask(
                "ListOffsets",
                version,
                Topics=[
                    {"Name": broker.name("none"), "Partitions": [{"PartitionIndex": 0, "Timestamp": -1}]},
                    {
                        "Name": name,
                        "Partitions": [
                            {"PartitionIndex": 9, "Timestamp": -1},
                            {"PartitionIndex": -1, "Timestamp": -1},
                            {"PartitionIndex": 0, "Timestamp": -1},
                        ],
                    },
                ],
            ),
            version,
        )
    twice = [{"PartitionIndex": 0, "Timestamp": -1}, {"PartitionIndex": 0, "Timestamp": -2}]
    broker.see("twice", broker.ask("ListOffsets", 7, Topics=[{"Name": name, "Partitions": twice}]))
    broker.see("none", broker.ask("ListOffsets", 7, Topics=[]))
    broker.see("invalid name", broker.ask("ListOffsets", 7, Topics=[{"Name": "a/b", "Partitions": twice[:1]}]))


@scenario("OffsetForLeaderEpoch", behaviours=(6, 8))
def leader_epochs(broker):
    """Where the current epoch ends; an epoch of the past before any, one of the future, none; current epochs that are wrong."""
    name, empty = three_batches(broker), broker.topic("empty")
    now = broker.epoch

    def ask(topic, epoch, version, partition=0, current=-1):
        answer = broker.ask(
            "OffsetForLeaderEpoch",
            version,
            ReplicaId=-1,
            Topics=[{"Topic": topic, "Partitions": [{"Partition": partition, "LeaderEpoch": epoch, "CurrentLeaderEpoch": current}]}],
        )
        return answer if isinstance(answer, str) else answer["Topics"][0]["Partitions"][0]

    for version in broker.versions("OffsetForLeaderEpoch"):
        for case, epoch in {"current": now, "future": now + 5, "none (-1)": -1}.items():
            broker.see(case, ask(name, epoch, version), version)
            broker.see(f"{case}, empty", ask(empty, epoch, version), version)
        broker.see("current epoch of the future", ask(name, now, version, current=now + 7), version)
        broker.see("current epoch right", ask(name, now, version, current=now), version)
        broker.see("unknown partition", ask(name, now, version, partition=9), version)
        broker.see("unknown topic", ask(broker.name("none"), now, version), version)
