"""Compacted topics as a reader sees them."""

import random
import time

import batches
from batches import T, batch
from scenario import scenario

# Rolls a segment of 1 MiB; its bytes cannot be compressed away.
ROLLER = random.Random(7)


def keyed(broker, topic, *pairs, timestamps=None):
    return broker.produce(
        topic,
        batch(
            [value for _, value in pairs],
            keys=[key for key, _ in pairs],
            timestamps=timestamps or [T + number for number in range(len(pairs))],
        ),
    )


def read_small(broker, topic, end):
    """(offset, key, value, time) of all records but the large ones."""
    offset, found, bounds = 0, [], []
    while offset < end:
        answer = broker.fetch(topic, offset)
        if isinstance(answer, str) or not answer["Records"]:
            break
        for one in batches.read(answer["Records"]):
            offset = one["last"] + 1
            bounds.append([one["base"], one["last"]])
            found += [
                [record["offset"], record["key"], record["value"], record["timestamp"] - T]
                for record in one["records"]
                if "bytes" not in str(record["value"])
            ]
    return found, bounds


@scenario("Produce", "Fetch", "ListOffsets", behaviours=(35,))
def survivors(broker):
    """The last value of each key stays with its offset and time; tombstones stay for a day; offsets inside a hole give the next batch."""
    name = broker.topic(configs={"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.01"})
    keyed(broker, name, (b"a", b"1"), (b"b", b"1"), (b"c", b"1"))
    keyed(broker, name, (b"a", b"2"), (b"d", None), (b"b", b"2"))
    keyed(broker, name, (b"a", b"3"), (b"c", None))
    for number in range(3):
        keyed(broker, name, (b"large %d" % number, ROLLER.randbytes(600_000)))
    end = broker.list_offset(name, -1)["Offset"]
    wanted = [[5, "b", "2", 2], [6, "a", "3", 0], [4, "d", None, 1], [7, "c", None, 1]]
    until = time.monotonic() + 20
    found, bounds = read_small(broker, name, end)
    while sorted(found, key=str) != sorted(wanted, key=str) and time.monotonic() < until:
        time.sleep(0.3)
        found, bounds = read_small(broker, name, end)
    broker.see("records", found)
    broker.see("bounds of the first batches", [one for one in bounds if one[0] < 8])
    broker.see("earliest", broker.list_offset(name, -2))
    broker.see("latest", broker.list_offset(name, -1))
    answer = broker.fetch(name, 1)
    broker.see("a fetch in the hole begins at", batches.read(answer["Records"])[0]["last"] if isinstance(answer, dict) else answer)
    broker.see("a time query", broker.list_offset(name, T))


@scenario("Produce", "Fetch", behaviours=(35,))
def delete_too(broker):
    """compact,delete: the start moves as well when it is old enough."""
    name = broker.topic(configs={"cleanup.policy": "compact,delete", "segment.bytes": "1048576", "retention.ms": "1000"})
    old = [batches.now_ms() - 50_000]
    for number in range(3):
        keyed(broker, name, (b"large %d" % number, ROLLER.randbytes(600_000)), timestamps=old)
    until = time.monotonic() + 20
    while broker.list_offset(name, -2)["Offset"] == 0 and time.monotonic() < until:
        time.sleep(0.3)
    broker.see("the start moved", broker.list_offset(name, -2)["Offset"] > 0)
