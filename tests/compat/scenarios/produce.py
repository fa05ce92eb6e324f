"""Produce: acks, codecs, what a batch is checked for, sizes, and where a time comes from."""

import random
import uuid

import batches
import lz4.frame
from batches import CODECS, T, batch
from scenario import scenario


@scenario("Produce", "Fetch")
def one_record(broker):
    """One record in each version, and what is read back."""
    name = broker.topic()
    for version in broker.versions("Produce"):
        broker.see("answer", broker.produce(name, batch([f"v{version}".encode()], timestamps=[T]), version=version), version)
    broker.see("read back", broker.fetch(name))


@scenario("Produce", behaviours=(33,))
def acks(broker):
    """acks 1, -1 and 0 (no answer), and numbers that are none."""
    name = broker.topic()
    for number in (1, -1, 2, -2):
        broker.see(f"acks {number}", broker.produce(name, batch([b"x"]), acks=number))
    connection = broker.connect()
    body = {"TopicData": [{"Name": name, "PartitionData": [{"Index": 0, "Records": batch([b"silent"])}]}]}
    connection.send("Produce", 9, Acks=0, TimeoutMs=1000, **body)
    connection.sent.clear()
    connection.send("Metadata", 12, Topics=[])
    answer = connection.take()
    broker.see("acks 0: the next answer is the next request's", answer if isinstance(answer, str) else "Metadata")
    body["TopicData"][0]["Name"] = broker.name("none")
    connection.send("Produce", 9, Acks=0, TimeoutMs=1000, **body)
    broker.see("acks 0 with an error", connection.take(3))
    broker.see("what was stored", broker.fetch(name))


@scenario("Produce")
def several_topics(broker):
    """Good and bad partitions in one request are answered each."""
    name, other = broker.topic("a", partitions=2), broker.topic("b")
    part = lambda index, data=None: {"Index": index, "Records": data or batch([b"x"])}
    for version in (3, 9, 12):
        broker.see(
            "answer",
            broker.ask(
                "Produce",
                version,
                Acks=-1,
                TimeoutMs=5000,
                TopicData=[
                    {"Name": name, "PartitionData": [part(0), part(1), part(7)]},
                    {"Name": broker.name("none"), "PartitionData": [part(0)]},
                    {"Name": other, "PartitionData": [part(0, batch([b"x"], wrong={"crc": 1}))]},
                    {"Name": "a/b", "PartitionData": [part(0)]},
                ],
            ),
            version,
        )
    broker.see("nothing at all", broker.ask("Produce", 9, Acks=-1, TimeoutMs=5000, TopicData=[]))
    broker.see("no partitions", broker.ask("Produce", 9, Acks=-1, TimeoutMs=5000, TopicData=[{"Name": name}]))


@scenario("Produce", behaviours=(32,))
def by_topic_id(broker):
    """Version 13 names topics by id: its own, an unknown one, zero."""
    name = broker.topic()
    data = [{"Index": 0, "Records": batch([b"x"])}]
    for case, held in {"its id": broker.topic_id(name), "unknown": uuid.UUID(int=5 << 100), "zero": uuid.UUID(int=0)}.items():
        broker.see(case, broker.ask("Produce", 13, Acks=-1, TimeoutMs=5000, TopicData=[{"TopicId": held, "PartitionData": data}]))


@scenario("Produce", "Fetch", behaviours=(15, 36))
def codecs(broker):
    """Each codec in versions 3, 7 and 9: zstd needs 7. A codec number that is none."""
    for codec in CODECS:
        name = broker.topic(codec)
        for version in (3, 6, 7, 9):
            values = [f"{codec} {number}".encode() * 9 for number in range(5)]
            broker.see(f"{codec}", broker.produce(name, batch(values, codec=codec, timestamps=[T] * 5), version=version), version)
        broker.see(f"{codec} read back", broker.fetch(name))
    large = random.Random(5).randbytes(200_000)
    linked = lz4.frame.compress(batches.record(0, large), block_linked=True, block_size=lz4.frame.BLOCKSIZE_MAX64KB)
    broker.see(
        "lz4 in linked blocks, which Java cannot read", broker.produce(name, batch([large], wrong={"attributes": 3, "records": linked}))
    )
    for number in (5, 7):
        broker.see(f"codec {number}", broker.produce(name, batch([b"x"], wrong={"attributes": number})))


@scenario("Produce", behaviours=(15, 16))
def batches_that_are_wrong(broker):
    """One thing wrong each time."""
    good = batch([b"x"])
    refused = {
        "bad CRC": batch([b"x"], wrong={"crc": 77}),
        "two batches": good + good,
        "no bytes": b"",
        "cut": good[:-1],
        "cut in its header": good[:40],
        "magic 3": batch([b"x"], wrong={"magic": 3}),
        "magic 0": batches.old_message_set(b"x", 0),
        "magic 1": batches.old_message_set(b"x", 1),
        "count too large": batch([b"x"], wrong={"count": 2}),
        "count zero": batch([b"x"], wrong={"count": 0}),
        "count negative": batch([b"x"], wrong={"count": -1}),
        "last delta too large": batch([b"x"], wrong={"last_delta": 5}),
        "last delta negative": batch([b"x"], wrong={"last_delta": -1}),
        "no records": batch([], wrong={"last_delta": -1}),
        "last delta and count too large": batch([b"x"], wrong={"last_delta": 1, "count": 2}),
        "control batch": batch([b"x"], wrong={"attributes": 32}),
        "transactional without a producer": batch([b"x"], wrong={"attributes": 16}),
        "size field too small": batch([b"x"], wrong={"size": 20}),
        "size field zero": batch([b"x"], wrong={"size": 0}),
        "size field negative": batch([b"x"], wrong={"size": -5}),
        "size field too large": batch([b"x"], wrong={"size": 5000}),
        "records that are not": batch([b"x"], wrong={"records": b"\x7f\x7f\x7f"}),
        "bytes after the records": batch([b"x"], wrong={"records": batches.record(0, b"x") + b"\0\0"}),
        "producer id without sequence": batch([b"x"], producer=(5, 0, -1)),
        "unknown attribute bits": batch([b"x"], wrong={"attributes": 0x4000}),
    }
    # What one of the two takes, on a topic of its own: offsets of what follows would tell only that.
    by_one = {
        "a byte too many": good + b"\0",
        "inner offsets with a gap": batch([b"x", b"y"], wrong={"deltas": [0, 2], "last_delta": 1}),
        "a codec's rubbish (lz4)": batch([b"x"], wrong={"attributes": 3, "records": b"rubbish"}),
        "a codec's rubbish (zstd)": batch([b"x"], wrong={"attributes": 4, "records": b"rubbish"}),
        "a codec's rubbish (gzip)": batch([b"x"], wrong={"attributes": 1, "records": b"rubbish"}),
        "delete horizon bit": batch([b"x"], wrong={"attributes": 64}),
    }
    for name, cases in ((broker.topic(), refused), (broker.topic("by-one"), by_one)):
        for case, data in cases.items():
            # From version 7 on zstd may be sent, which is not what these are about.
            for version in (7, 9, 13):
                broker.see(case, broker.produce(name, data, version=version), version)
    broker.see("the end after them", broker.list_offset(broker.name(), -1))


@scenario("Produce", "Fetch", behaviours=(19,))
def fields_of_the_broker(broker):
    """Base offset and leader epoch of a batch are the broker's; what the producer wrote there does not count, and the CRC stays good."""
    name = broker.topic()
    for case, wrong in {
        "leader epoch 99": {"epoch": 99},
        "base offset 500": {"base_offset": 500},
        "base offset negative": {"base_offset": -5},
    }.items():
        broker.see(case, broker.produce(name, batch([b"x"], wrong=wrong)))
    answer = broker.fetch(name)
    read = batches.read(answer["Records"])
    broker.see("read back", [[one["base"], one["last"], one["crc"], one["epoch"] == broker.epoch] for one in read])


@scenario("Produce", behaviours=(20,))
def too_large(broker):
    """max.message.bytes counts the batch as received: one byte more than it is refused."""
    plain = batch([b"x" * 200])
    name = broker.topic(configs={"max.message.bytes": str(len(plain))})
    broker.see("exactly as large", broker.produce(name, plain))
    broker.see("one byte more", broker.produce(name, batch([b"x" * 201])))
    broker.see("larger, but compressed below", broker.produce(name, batch([b"x" * 5000], codec="zstd")))
    whole = broker.topic("default")
    broker.see("over the default", broker.produce(whole, batch([b"x" * 1_048_600])))
    broker.see("under the default", broker.produce(whole, batch([b"x" * 1_000_000])))
    broker.see("the end", broker.list_offset(whole, -1))


@scenario("Produce", "Fetch", behaviours=(17,))
def greatest_timestamp(broker):
    """Sarama leaves the greatest timestamp unset: the broker finds it, or time queries break."""
    name = broker.topic()
    times = [T + 5, T + 9, T + 1]
    cases = [
        (f"{case}, {codec}", held, codec)
        for case, held in {"unset": -1, "too small": T, "too large": T + 50_000}.items()
        for codec in ("none", "lz4")
    ]
    for case, held, codec in cases:
        broker.see(case, broker.produce(name, batch([b"a", b"b", b"c"], timestamps=times, codec=codec, wrong={"max_ts": held})))
    read = batches.read(broker.fetch(name)["Records"])
    for (case, *_), one in zip(cases, read, strict=True):
        broker.see(f"{case}, read back", [one["base"], one["max_ts"] - T, one["crc"]])
    for target in (T + 6, T + 9, T + 10):
        broker.see(f"time query at +{target - T}", broker.list_offset(name, target))


@scenario("Produce", "Fetch", "ListOffsets", behaviours=(18,))
def log_append_time(broker):
    """The broker's clock: bit and greatest timestamp set, CRC good, the producer's base timestamp left alone; the answer says when."""
    name = broker.topic(configs={"message.timestamp.type": "LogAppendTime"})
    for codec in ("none", "lz4", "zstd"):
        broker.see(f"produced, {codec}", broker.produce(name, batch([b"a", b"b"], timestamps=[T, T + 1], codec=codec)))
    read = batches.read(broker.fetch(name)["Records"])
    now = batches.now_ms()
    broker.see(
        "read back",
        [
            {
                "bit": one["append_time"],
                "greatest is now": abs(one["max_ts"] - now) < 60_000,
                "base": one["base_ts"] - T,
                "crc": one["crc"],
                "bounds": [one["base"], one["last"]],
            }
            for one in read
        ],
    )
    found = broker.list_offset(name, T)
    broker.see("time query at the producer's time", found if isinstance(found, str) else found["Offset"])
    broker.see("time query in the future", broker.list_offset(name, now + 600_000))


@scenario("Produce", behaviours=(16,))
def timestamps(broker):
    """The window of timestamps: far in the future is refused with the record's number; none at all; the past is fine."""
    now = batches.now_ms()
    for case, times in {
        "two hours ahead": [now, now + 7_200_000],
        "half an hour ahead": [now + 1_800_000],
        "1970": [0],
        "none": [-1],
        "negative": [-5],
        "year 9999": [253_370_764_800_000],
    }.items():
        name = broker.topic(case.replace(" ", "-"), configs={"retention.ms": "-1"})
        for version in (7, 9):
            broker.see(case, broker.produce(name, batch([b"x"] * len(times), timestamps=times), version=version), version)
    narrow = broker.topic("narrow", configs={"message.timestamp.before.max.ms": "1000", "message.timestamp.after.max.ms": "1000"})
    broker.see("older than the topic allows", broker.produce(narrow, batch([b"x"], timestamps=[now - 60_000])))


@scenario("Produce", behaviours=(16, 35))
def compacted_topics_want_keys(broker):
    """A record without a key is refused on a compacted topic, with its number; a good one beside it is not stored either."""
    name = broker.topic(configs={"cleanup.policy": "compact"})
    for version in (7, 9):
        broker.see("no key", broker.produce(name, batch([b"x"]), version=version), version)
        broker.see(
            "one of three", broker.produce(name, batch([b"a", b"b", b"c"], keys=[b"k", None, b"k"], codec="lz4"), version=version), version
        )
        broker.see("all keyed", broker.produce(name, batch([b"a", None], keys=[b"k", b"k"]), version=version), version)


@scenario("Produce", "Fetch")
def records_as_they_are(broker):
    """Null and empty keys and values, headers with null and double names, tombstones."""
    name = broker.topic()
    held = [(b"h", b"1"), (b"h", None), (b"", b""), ("ü".encode(), b"2")]
    broker.see(
        "answer",
        broker.produce(
            name, batch([None, b"", b"v", b"w"], keys=[None, b"", b"k", None], headers=[(), (), held, ()], timestamps=[T, T + 1, T, T - 5])
        ),
    )
    broker.see("read back", broker.fetch(name))
    broker.see("timestamps", [record["timestamp"] - T for record in batches.read(broker.fetch(name)["Records"])[0]["records"]])


@scenario("Produce", "Fetch")
def topic_compression(broker):
    """compression.type of the topic: what a consumer finds when the producer used another codec."""
    # Inrush unpacks zstd for clients that may not read it; this one says who it is.
    broker.need("ApiVersions", 3, ClientSoftwareName="apache-kafka-java", ClientSoftwareVersion="4.4.0")
    for codec in ("gzip", "snappy", "lz4", "zstd", "uncompressed", "producer"):
        with broker.part(codec):
            name = broker.topic(codec, configs={"compression.type": codec})
            broker.see(f"{codec}: produce lz4", broker.produce(name, batch([b"abc" * 50] * 3, codec="lz4", timestamps=[T] * 3)))
            read = batches.read(broker.fetch(name)["Records"])
            broker.see(f"{codec}: read back", [[one["base"], one["codec"], one["count"], one["crc"]] for one in read])


@scenario("Produce")
def min_isr(broker):
    """More replicas in sync are wanted than there are."""
    name = broker.topic(configs={"min.insync.replicas": "2"})
    for number in (1, -1):
        broker.see(f"acks {number}", broker.produce(name, batch([b"x"]), acks=number))


@scenario("Produce")
def transactional(broker):
    """A transactional batch without a transaction, and a transactional id in the request."""
    name = broker.topic()
    pid = broker.need("InitProducerId", 4, TransactionalId=None, TransactionTimeoutMs=1000)
    broker.see(
        "transactional bit without a transactional id",
        broker.produce(name, batch([b"x"], producer=(pid["ProducerId"], pid["ProducerEpoch"], 0), transactional=True)),
    )
    broker.see("a transactional id, plain batch", broker.produce(name, batch([b"x"]), TransactionalId=broker.name("txn")))
