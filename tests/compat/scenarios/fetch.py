"""Fetch: where it begins, how much it gives, when it waits, and what it says of a partition besides."""

import time
import uuid

import batches
from scenario import scenario


def asked(partition, offset, maximum=1 << 20, **more):
    return {"Partition": partition, "FetchOffset": offset, "PartitionMaxBytes": maximum, **more}


def timed(call):
    began = time.monotonic()
    answer = call()
    return answer, time.monotonic() - began


@scenario("Fetch", behaviours=(12,))
def all_versions(broker):
    """Three batches by each version, from the start and from the end."""
    name = broker.topic()
    for number in range(3):
        broker.fill(name, f"a{number}", f"b{number}")
    for version in broker.versions("Fetch"):
        topic = {"Topic": name, "TopicId": broker.topic_id(name), "Partitions": [asked(0, 0)]}
        broker.see("from the start", broker.ask("Fetch", version, MaxWaitMs=0, MinBytes=1, MaxBytes=1 << 20, Topics=[topic]), version)
        broker.see("from the end", broker.fetch(name, 6, version=version), version)


@scenario("Fetch", behaviours=(9,))
def inside_a_batch(broker):
    """An offset inside a batch gives the whole batch."""
    name = broker.topic()
    broker.fill(name, *"abcde")
    broker.fill(name, *"fgh", codec="lz4")
    for offset in range(9):
        broker.see(f"offset {offset}", broker.fetch(name, offset))


@scenario("Fetch", behaviours=(12,))
def out_of_range(broker):
    """Past the end, before the start, negative: the error, with watermarks where Kafka has them."""
    name = broker.topic()
    broker.fill(name, *"abc")
    for offset in (4, 1000, -1, -2, -5, 1 << 62):
        broker.see(f"offset {offset}", broker.fetch(name, offset))
    for version in (4, 11, 17):
        broker.see("past the end by version", broker.fetch(name, 9, version=version), version)


@scenario("Fetch", behaviours=(12, 32))
def unknown(broker):
    """A topic, a partition, an id that is not there; good ones beside them."""
    name = broker.topic()
    broker.fill(name, "x")
    none = broker.name("none")
    for version in (4, 9, 12):
        broker.see(
            "topic and partition",
            broker.ask(
                "Fetch",
                version,
                MaxBytes=1 << 20,
                Topics=[
                    {"Topic": none, "Partitions": [asked(0, 0)]},
                    {"Topic": name, "Partitions": [asked(0, 0), asked(8, 0), asked(-1, 0)]},
                ],
            ),
            version,
        )
    for version in (13, 17):
        broker.see(
            "ids",
            broker.ask(
                "Fetch",
                version,
                MaxBytes=1 << 20,
                Topics=[
                    {"TopicId": uuid.UUID(int=7 << 100), "Partitions": [asked(0, 0)]},
                    {"TopicId": broker.topic_id(name), "Partitions": [asked(0, 0), asked(8, 0)]},
                ],
            ),
            version,
        )
        broker.see(
            "zero id",
            broker.ask("Fetch", version, MaxBytes=1 << 20, Topics=[{"TopicId": uuid.UUID(int=0), "Partitions": [asked(0, 0)]}]),
            version,
        )


@scenario("Fetch", behaviours=(10,))
def at_least_one_batch(broker):
    """A batch larger than any limit is given whole, of the first partition that has any; the others wait their turn."""
    name = broker.topic(partitions=3)
    for partition in (1, 2):
        broker.fill(name, "x" * 5000, partition=partition)
        broker.fill(name, "y" * 5000, partition=partition)
    small = {"MaxWaitMs": 0, "MinBytes": 1}

    def ask(max_bytes, partition_max, order=(0, 1, 2)):
        answer = broker.ask(
            "Fetch",
            12,
            MaxBytes=max_bytes,
            **small,
            Topics=[{"Topic": name, "Partitions": [asked(one, 0, partition_max) for one in order]}],
        )
        return (
            answer
            if isinstance(answer, str)
            else [
                [one["PartitionIndex"], [read["base"] for read in batches.read(one["Records"])]]
                for one in answer["Responses"][0]["Partitions"]
            ]
        )

    broker.see("one byte in all", ask(1, 1 << 20))
    broker.see("one byte a partition", ask(1 << 20, 1))
    broker.see("one byte, other order", ask(1, 1, (2, 1, 0)))
    broker.see("room for one", ask(6000, 1 << 20))
    broker.see("room for three", ask(16_000, 1 << 20))
    broker.see("a partition's room for one and a half", ask(1 << 20, 7500))
    broker.see("zero", ask(0, 0))


@scenario("Fetch", behaviours=(10,))
def order_of_partitions(broker):
    """Answers come in the order of the request."""
    first, second = broker.topic("a", partitions=2), broker.topic("b", partitions=2)
    for name in (first, second):
        for partition in (0, 1):
            broker.fill(name, "x", partition=partition)
    answer = broker.need(
        "Fetch",
        12,
        MaxBytes=1 << 20,
        Topics=[{"Topic": second, "Partitions": [asked(1, 0), asked(0, 0)]}, {"Topic": first, "Partitions": [asked(1, 0), asked(0, 0)]}],
    )
    broker.see("order", [[topic["Topic"], [one["PartitionIndex"] for one in topic["Partitions"]]] for topic in answer["Responses"]])


@scenario("Fetch", behaviours=(11,))
def waits(broker):
    """Nothing new: the answer comes after max wait. Too little for min bytes: so it does. An error or a record: at once."""
    name = broker.topic(partitions=2)
    broker.fill(name, "x")

    def ask(partitions, wait=1500, min_bytes=1, **more):
        answer, seconds = timed(
            lambda: broker.ask(
                "Fetch",
                12,
                MaxWaitMs=wait,
                MinBytes=min_bytes,
                MaxBytes=1 << 20,
                Topics=[{"Topic": name, "Partitions": partitions}],
                **more,
            )
        )
        return "at once" if seconds < wait / 2000 else "after max wait" if seconds < wait / 1000 + 3 else f"after {seconds:.1f} s"

    broker.see("at the end", ask([asked(0, 1)]))
    broker.see("records there", ask([asked(0, 0)]))
    broker.see("too few bytes", ask([asked(0, 0)], min_bytes=10_000))
    broker.see("min bytes 0", ask([asked(0, 1)], min_bytes=0))
    broker.see("an error beside it", ask([asked(0, 1), asked(9, 0)]))
    broker.see("out of range beside it", ask([asked(0, 1), asked(1, 77)]))
    broker.see("min bytes more than the partition's max", ask([asked(0, 0, 10)], min_bytes=10_000))
    broker.fill(name, "y", partition=1)
    broker.see("records in one of two", ask([asked(0, 1), asked(1, 0)]))
    broker.see("no partitions", ask([], wait=800))


@scenario("Fetch", "Produce", behaviours=(11,))
def wakes(broker):
    """A poll at the end is answered when a record comes."""
    name = broker.topic()
    reader = broker.connect()
    reader.send("Fetch", 12, MaxWaitMs=8000, MinBytes=1, MaxBytes=1 << 20, Topics=[{"Topic": name, "Partitions": [asked(0, 0)]}])
    time.sleep(0.3)
    broker.fill(name, "news")
    answer, seconds = timed(lambda: reader.take(12))
    broker.see("answer", answer)
    broker.see("in time", seconds < 2)


@scenario("Fetch", "Produce", behaviours=(11,))
def wakes_late(broker):
    """A poll that wants more bytes goes on waiting after a small record, and ends when there are enough."""
    name = broker.topic()
    reader = broker.connect()
    reader.send("Fetch", 12, MaxWaitMs=6000, MinBytes=3000, MaxBytes=1 << 20, Topics=[{"Topic": name, "Partitions": [asked(0, 0)]}])
    broker.fill(name, "little")
    time.sleep(0.5)
    broker.fill(name, "".join(chr(97 + one * 7919 % 26) + str(one * one) for one in range(3000)))
    answer, seconds = timed(lambda: reader.take(12))
    records = batches.read(answer["Responses"][0]["Partitions"][0]["Records"]) if isinstance(answer, dict) else answer
    broker.see("bounds", [[one["base"], one["last"]] for one in records])
    broker.see("in time", seconds < 2)


@scenario("Fetch", behaviours=(13,))
def sessions(broker):
    """Full fetches need no session; what comes of asking for one, of an unknown one, and of a wrong epoch."""
    name = broker.topic()
    broker.fill(name, "x")
    topics = [{"Topic": name, "Partitions": [asked(0, 0)]}]
    for case, body in {
        "no session (epoch -1)": {"SessionEpoch": -1},
        "asks for one (epoch 0)": {"SessionEpoch": 0},
        "an unknown one": {"SessionId": 12_345, "SessionEpoch": 1},
        "an unknown one, closing": {"SessionId": 12_345, "SessionEpoch": -1},
        "epoch 1 without an id": {"SessionEpoch": 1},
    }.items():
        for version in (7, 12):
            broker.see(case, broker.ask("Fetch", version, MaxBytes=1 << 20, Topics=topics, **body), version)


@scenario("Fetch", "OffsetForLeaderEpoch", behaviours=(8,))
def epochs(broker):
    """A leader epoch of the past is fenced, one of the future is unknown."""
    name = broker.topic()
    broker.fill(name, "x")
    for case, epoch in {"current": broker.epoch, "none": -1, "future": broker.epoch + 10}.items():
        broker.see(f"fetch, {case}", broker.fetch(name, inner={"CurrentLeaderEpoch": epoch}))
        broker.see(f"list offsets, {case}", broker.list_offset(name, -1, inner={"CurrentLeaderEpoch": epoch}))
    broker.see("last fetched epoch current", broker.fetch(name, 1, inner={"LastFetchedEpoch": broker.epoch}))


@scenario("Fetch", behaviours=(14,))
def isolation(broker):
    """Both isolation levels without transactions: the same records, no aborted ones."""
    name = broker.topic()
    broker.fill(name, "x")
    for level in (0, 1):
        for version in (4, 11, 12):
            broker.see(f"level {level}", broker.fetch(name, version=version, IsolationLevel=level), version)


@scenario("Fetch")
def twice_in_one_request(broker):
    """The same partition twice."""
    name = broker.topic()
    broker.fill(name, "x")
    broker.see("answer", broker.ask("Fetch", 12, MaxBytes=1 << 20, Topics=[{"Topic": name, "Partitions": [asked(0, 0), asked(0, 0)]}]))


@scenario("Fetch", "DeleteRecords", behaviours=(5, 12))
def below_the_start(broker):
    """After a deletion of records: below the start is out of range, and all answers tell the start."""
    name = broker.topic()
    for number in range(4):
        broker.fill(name, f"a{number}", f"b{number}")
    broker.see(
        "deletion",
        broker.ask("DeleteRecords", 2, Topics=[{"Name": name, "Partitions": [{"PartitionIndex": 0, "Offset": 3}]}], TimeoutMs=5000),
    )
    for offset in (0, 2, 3, 4):
        broker.see(f"offset {offset}", broker.fetch(name, offset))
    broker.see("produce tells the start", broker.produce(name, batches.batch([b"x"])))


@scenario("Fetch", "Produce", behaviours=(36,))
def codecs_by_client(broker):
    """What a client that gives no software name reads of each codec: the bytes it was produced with, or something it can read as well."""
    for codec in batches.CODECS:
        name = broker.topic(codec)
        broker.fill(name, *["value " * 20] * 4, codec=codec)
        for version in (4, 9, 10, 12):
            answer = broker.fetch(name, version=version)
            broker.see(f"{codec}", answer, version)
