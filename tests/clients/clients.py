"""Clients that are not ours against a running daemon: produce and consume, from the start, an offset, a time; every codec each can do;
large and tiny records, headers, null keys and values. Usage: clients.py HOST:PORT"""

import asyncio
import random
import subprocess
import sys
import tempfile
import time
import unittest.mock
import uuid
import warnings

import aiokafka
import aiokafka.codec
import confluent_kafka
import confluent_kafka.admin
import kafka
import kafka.codec

ADDRESS = sys.argv[1]
NOW = int(time.time() * 1000)
# 896 KB. Large for each codec that looks back less than half of it; zstd halves it, so that the door stores as zstd what came uncompressed.
LARGE = random.Random(1).randbytes(448_000) * 2
passed = 0
failed = []


def check(what, is_right):
    global passed
    if is_right:
        passed += 1
    else:
        failed.append(what)
        print("failed:", what, flush=True)


def records(mark):
    """(key, value, headers, timestamp): tiny, null, empty, binary, large."""
    yield None, b"x", [], NOW
    yield b"k", None, [], NOW + 10
    yield b"", b"", [("h", b"1"), ("h", b"2"), ("n", None)], NOW + 20
    yield b"\x00\xff", mark.encode() * 50, [("name", mark.encode())], NOW + 30
    yield b"large", LARGE, [("size", b"896000")], NOW + 40


def without_null_headers(sent):
    """What kafka-python and aiokafka can send: they have no null header values."""
    return [(key, value, [header for header in headers if header[1] is not None], ts) for key, value, headers, ts in sent]


def python_client(codec, how=""):
    topic, mark = f"py-{codec}-{uuid.uuid4().hex[:6]}", f"kafka-python {codec}{how}"
    producer = kafka.KafkaProducer(bootstrap_servers=ADDRESS, compression_type=None if codec == "none" else codec, acks="all", max_request_size=1_048_000)
    sent = without_null_headers(records(mark))
    for key, value, headers, ts in sent:
        producer.send(topic, key=key, value=value, headers=headers, timestamp_ms=ts, partition=0).get(30)
    producer.flush()
    producer.close()
    consumer = kafka.KafkaConsumer(bootstrap_servers=ADDRESS, consumer_timeout_ms=2000, group_id=None, enable_auto_commit=False)
    part = kafka.TopicPartition(topic, 0)
    consumer.assign([part])

    def read(offset):
        consumer.seek(part, offset)
        got = []
        while len(got) < len(sent) - offset:
            batch = consumer.poll(timeout_ms=3000)
            if not batch:
                break
            for list_ in batch.values():
                got.extend(list_)
        return got

    got = read(0)
    check(f"{mark}: keys and values", [(r.key, r.value) for r in got] == [(k, v) for k, v, _, _ in sent])
    check(f"{mark}: times", [r.timestamp for r in got] == [ts for _, _, _, ts in sent])
    check(f"{mark}: headers", [list(r.headers) for r in got] == [headers for _, _, headers, _ in sent])
    check(f"{mark}: from an offset", [r.offset for r in read(3)] == [3, 4])
    at = consumer.offsets_for_times({part: NOW + 15})[part]
    check(f"{mark}: from a time", at.offset == 2 and at.timestamp == NOW + 20)
    check(f"{mark}: after the last time", consumer.offsets_for_times({part: NOW + 99_999})[part] is None)
    check(f"{mark}: begin and end", (consumer.beginning_offsets([part])[part], consumer.end_offsets([part])[part]) == (0, len(sent)))
    consumer.close()


def confluent_client(codec):
    topic, mark = f"cf-{codec}-{uuid.uuid4().hex[:6]}", f"confluent-kafka {codec}"
    errors = []
    producer = confluent_kafka.Producer({"bootstrap.servers": ADDRESS, "compression.type": codec, "enable.idempotence": True, "linger.ms": 5, "message.max.bytes": 1_000_000})
    sent = list(records(mark))
    for key, value, headers, ts in sent:
        producer.produce(topic, key=key, value=value, headers=headers, timestamp=ts, partition=0, on_delivery=lambda error, _: errors.append(error))
        producer.flush(20)
    check(f"{mark}: delivered", errors == [None] * len(sent))
    for n in range(2000):
        producer.produce(topic, value=f"{n}", partition=1)
    check(f"{mark}: flushed", producer.flush(30) == 0)
    consumer = confluent_kafka.Consumer({"bootstrap.servers": ADDRESS, "group.id": "none", "enable.auto.commit": False})

    def read(partition, offset, count):
        consumer.assign([confluent_kafka.TopicPartition(topic, partition, offset)])
        got = []
        until = time.time() + 20
        while len(got) < count and time.time() < until:
            message = consumer.poll(1)
            if message is not None and message.error() is None:
                got.append(message)
        return got

    got = read(0, 0, len(sent))
    check(f"{mark}: keys and values", [(m.key(), m.value()) for m in got] == [(k, v) for k, v, _, _ in sent])
    check(f"{mark}: headers", [m.headers() or [] for m in got] == [headers for _, _, headers, _ in sent])
    check(f"{mark}: times", [m.timestamp()[1] for m in got] == [ts for *_, ts in sent])
    check(f"{mark}: from an offset", [m.offset() for m in read(0, 3, 2)] == [3, 4])
    check(f"{mark}: two thousand in order", [m.value() for m in read(1, 0, 2000)] == [str(n).encode() for n in range(2000)])
    at = consumer.offsets_for_times([confluent_kafka.TopicPartition(topic, 0, NOW + 25)], timeout=10)[0]
    check(f"{mark}: from a time", at.offset == 3)
    check(f"{mark}: watermarks", consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, 0), timeout=10) == (0, len(sent)))
    consumer.close()


async def aio_client(codec, how=""):
    topic, mark = f"aio-{codec}-{uuid.uuid4().hex[:6]}", f"aiokafka {codec}{how}"
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=ADDRESS, compression_type=None if codec == "none" else codec, enable_idempotence=True)
    await producer.start()
    sent = without_null_headers(records(mark))
    for key, value, headers, ts in sent:
        await producer.send_and_wait(topic, key=key, value=value, headers=headers, timestamp_ms=ts, partition=0)
    await producer.stop()
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=ADDRESS, enable_auto_commit=False, group_id=None)
    await consumer.start()
    part = aiokafka.TopicPartition(topic, 0)
    consumer.assign([part])
    await consumer.seek_to_beginning(part)
    got = [await asyncio.wait_for(consumer.getone(), 10) for _ in sent]
    check(f"{mark}: keys and values", [(r.key, r.value) for r in got] == [(k, v) for k, v, _, _ in sent])
    check(f"{mark}: times", [r.timestamp for r in got] == [ts for *_, ts in sent])
    check(f"{mark}: headers", [list(r.headers) for r in got] == [headers for _, _, headers, _ in sent])
    consumer.seek(part, 3)
    check(f"{mark}: from an offset", [(await asyncio.wait_for(consumer.getone(), 10)).offset for _ in range(2)] == [3, 4])
    at = (await consumer.offsets_for_times({part: NOW + 5}))[part]
    check(f"{mark}: from a time", at.offset == 1 and at.timestamp == NOW + 10)
    check(f"{mark}: after the last time", (await consumer.offsets_for_times({part: NOW + 99_999}))[part] is None)
    begin, end = await consumer.beginning_offsets([part]), await consumer.end_offsets([part])
    check(f"{mark}: begin and end", (begin[part], end[part]) == (0, len(sent)))
    await consumer.stop()


def kcat(codec):
    topic, mark = f"kc-{codec}-{uuid.uuid4().hex[:6]}", f"kcat {codec}"

    def kcat_does(mode, partition, *options, sends=None):
        command = ["kcat", "-b", ADDRESS, "-t", topic, mode, "-p", str(partition), *options]
        return subprocess.run(command, input=sends, stdout=subprocess.PIPE, check=True, timeout=30).stdout

    def send(partition, sends, *options):
        kcat_does("-P", partition, "-z", codec, "-X", "acks=all", *options, sends=sends)

    def read(partition, start, *options):
        # The end is told by an empty answer, for which the door may wait as long as it is asked to: half a second unless told.
        return kcat_does("-C", partition, "-o", str(start), "-e", "-q", "-X", "fetch.wait.max.ms=10", *options)

    lines = [f"{mark} {n}\n".encode() for n in range(100)]
    send(0, b"".join(lines))
    check(f"{mark}: both ways", read(0, "beginning") == b"".join(lines))
    check(f"{mark}: from an offset", read(0, 97) == b"".join(lines[97:]))
    check(f"{mark}: the last two", read(0, -2) == b"".join(lines[98:]))

    # An empty key or value is null with -Z and empty without; its size is printed as -1 or 0. The same headers go with each record of a run.
    send(1, b"k:x\n:\n:v\nk:\n", "-K", ":", "-Z", "-H", "h=1", "-H", "h=2", "-H", "n", "-H", "e=")
    first = [int(ts) for ts in read(1, "beginning", "-f", r"%T\n").split()]
    send(1, b"k:x\n:\nno key\n", "-K", ":", "-H", f"name={mark}")
    shown = read(1, "beginning", "-f", r"%o %K[%k] %S[%s] %h\n").decode().splitlines()
    nulls = [f"{n} {record} h=1,h=2,n=NULL,e=" for n, record in enumerate(["1[k] 1[x]", "-1[] -1[]", "-1[] 1[v]", "1[k] -1[]"])]
    empty = [f"{n} {record} name={mark}" for n, record in enumerate(["1[k] 1[x]", "0[] 0[]", "-1[] 6[no key]"], 4)]
    check(f"{mark}: tiny, null, empty, headers", shown == nulls + empty)
    check(f"{mark}: times", all(NOW <= ts <= time.time() * 1000 for ts in first) and len(first) == 4)
    check(f"{mark}: from a time", read(1, f"s@{first[-1] + 1}", "-f", r"%o\n").split() == [b"4", b"5", b"6"])
    check(f"{mark}: after the last time", read(1, f"s@{NOW + 9_999_999}", "-f", r"%o\n") == b"")

    with tempfile.NamedTemporaryFile() as file:
        file.write(LARGE)
        file.flush()
        send(1, None, "-k", "large", "-H", "size=896000", file.name)
    check(f"{mark}: large", read(1, 7, "-D", "") == LARGE)
    check(f"{mark}: large, its key and headers", read(1, 7, "-f", "%o %k %S %h") == b"7 large 896000 size=896000")


def administration():
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": ADDRESS})
    name = f"admin-{uuid.uuid4().hex[:6]}"
    new = confluent_kafka.admin.NewTopic(name, num_partitions=3, replication_factor=1, config={"retention.ms": "1000000"})
    admin.create_topics([new])[name].result(10)
    meta = admin.list_topics(name, timeout=10).topics[name]
    check("admin: three partitions", len(meta.partitions) == 3)
    resource = confluent_kafka.admin.ConfigResource(confluent_kafka.admin.RESOURCE_TOPIC, name)
    config = admin.describe_configs([resource])[resource].result(10)
    check("admin: a set value", config["retention.ms"].value == "1000000")
    check("admin: defaults are listed", config["segment.bytes"].value == "1073741824")
    try:
        admin.create_topics([new])[name].result(10)
        check("admin: a second one is refused", False)
    except confluent_kafka.KafkaException as error:
        check("admin: a second one is refused", error.args[0].code() == confluent_kafka.KafkaError.TOPIC_ALREADY_EXISTS)
    admin.create_partitions([confluent_kafka.admin.NewPartitions(name, 5)])[name].result(10)
    check("admin: five partitions", len(admin.list_topics(name, timeout=10).topics[name].partitions) == 5)
    op, entry = confluent_kafka.admin.AlterConfigOpType, confluent_kafka.admin.ConfigEntry
    changes = [entry("segment.ms", "5000", incremental_operation=op.SET), entry("retention.ms", None, incremental_operation=op.DELETE)]
    asked = confluent_kafka.admin.ConfigResource(confluent_kafka.admin.RESOURCE_TOPIC, name, incremental_configs=changes)
    admin.incremental_alter_configs([asked])[asked].result(10)
    config = admin.describe_configs([resource])[resource].result(10)
    check("admin: altered by steps", (config["segment.ms"].value, config["retention.ms"].value) == ("5000", "604800000"))
    asked = confluent_kafka.admin.ConfigResource(confluent_kafka.admin.RESOURCE_TOPIC, name, set_config={"max.message.bytes": "2000000"})
    with warnings.catch_warnings(action="ignore"):  # deprecated, and what old clients send
        admin.alter_configs([asked])[asked].result(10)
    config = admin.describe_configs([resource])[resource].result(10)
    check("admin: altered as a whole", (config["segment.ms"].value, config["max.message.bytes"].value) == ("604800000", "2000000"))
    producer = confluent_kafka.Producer({"bootstrap.servers": ADDRESS})
    for n in range(10):
        producer.produce(name, f"{n}", partition=4)
    producer.flush(10)
    part = confluent_kafka.TopicPartition(name, 4, 7)
    check("admin: records deleted", admin.delete_records([part])[part].result(10).low_watermark == 7)
    preferred = confluent_kafka.ElectionType.PREFERRED
    told = admin.elect_leaders(preferred, [confluent_kafka.TopicPartition(name, 4)]).result(10)
    check("admin: no election needed", [error.code() for error in told.values()] == [confluent_kafka.KafkaError.ELECTION_NOT_NEEDED])
    admin.delete_topics([name])[name].result(10)
    check("admin: gone", name not in admin.list_topics(timeout=10).topics)


def python_administration():
    admin = kafka.KafkaAdminClient(bootstrap_servers=ADDRESS)
    name = f"py-admin-{uuid.uuid4().hex[:6]}"
    admin.create_topics({name: {"num_partitions": 2, "replication_factor": 1}})
    admin.create_partitions({name: 3})
    page = admin.describe_topic_partitions([name], response_partition_limit=2)
    check("py-admin: a page", (len(page["topics"][0]["partitions"]), page["next_cursor"]["partition_index"]) == (2, 2))
    page = admin.describe_topic_partitions([name], cursor=page["next_cursor"])
    check("py-admin: the next page", ([one["partition_index"] for one in page["topics"][0]["partitions"]], page["next_cursor"]) == ([2], None))

    resource = kafka.admin.ConfigResource("TOPIC", name, {"segment.ms": "5000", "cleanup.policy": ("APPEND", "delete")})
    admin.alter_configs([resource])

    def modified():
        described = admin.describe_configs([kafka.admin.ConfigResource("TOPIC", name)])["topic"][name]
        return {key: config["value"] if isinstance(config, dict) else config for key, config in described.items()}

    check("py-admin: altered by steps", modified().get("segment.ms") == "5000")
    admin.alter_configs([kafka.admin.ConfigResource("TOPIC", name, {"max.message.bytes": "2000000"})], incremental=False)
    check("py-admin: altered by an old request", modified().get("max.message.bytes") == "2000000")
    admin.reset_configs([kafka.admin.ConfigResource("TOPIC", name, ["segment.ms"])])
    check("py-admin: reset", "segment.ms" not in modified())

    producer = kafka.KafkaProducer(bootstrap_servers=ADDRESS, acks="all")
    for n in range(10):
        producer.send(name, b"x", partition=0).get(30)
    producer.close()
    part = kafka.TopicPartition(name, 0)
    states = admin.describe_producers([part])[part].active_producers
    check("py-admin: one producer, its last sequence", [state.last_sequence for state in states] == [9])
    check("py-admin: records deleted", admin.delete_records({part: 4})[part]["low_watermark"] == 4)
    dirs = admin.describe_log_dirs([name])
    topics = [topic for broker in dirs for one in (broker.get("log_dirs") or broker.get("results")) for topic in one["topics"]]
    check("py-admin: sizes", [one["partition_size"] > 0 for one in sorted(topics[0]["partitions"], key=lambda one: one["partition_index"])] == [True, False, False])
    check("py-admin: all of them", admin.delete_records({part: -1})[part]["low_watermark"] == 10)
    check("py-admin: reassigned to where it is", admin.alter_partition_reassignments({part: [1]})[part] is None)
    check("py-admin: not to another", admin.alter_partition_reassignments({part: [2]})[part].errno == 39)
    check("py-admin: nothing to cancel", admin.alter_partition_reassignments({part: None})[part].errno == 85)
    check("py-admin: no reassignment runs", admin.list_partition_reassignments() == {})
    told = admin.elect_leaders(0, {name: [0]}, raise_errors=False)
    check("py-admin: no election needed", "84" in str(told) or "ElectionNotNeeded" in str(told))
    quorum = admin.describe_metadata_quorum()["topics"][0]["partitions"][0]
    check("py-admin: one voter", (quorum["leader_id"], [one["replica_id"] for one in quorum["current_voters"]]) == (1, [1]))
    admin.delete_topics([name])
    check("py-admin: gone", name not in admin.list_topics())
    admin.close()


def attempt(run, *arguments):
    try:
        run(*arguments)
    except Exception as error:  # noqa: BLE001 - each client has errors of its own
        check(f"{run.__name__} {arguments}: {type(error).__name__}: {error}", False)


def python_client_alone():
    """As pip brings it without extras it reads no zstd; the door must decompress for it what it stored as zstd."""
    with unittest.mock.patch.multiple(kafka.codec, zstd=None, snappy=None, lz4=None):
        python_client("none", ", no extras")
        python_client("gzip", ", no extras")


def aio_client_alone():
    """The same of aiokafka."""
    with unittest.mock.patch.object(aiokafka.codec, "cramjam", None):
        asyncio.run(aio_client("none", ", no extras"))
        asyncio.run(aio_client("gzip", ", no extras"))


def aiokafka_client(codec):
    asyncio.run(aio_client(codec))


for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
    attempt(kcat, codec)
    attempt(confluent_client, codec)
    attempt(python_client, codec)
    attempt(aiokafka_client, codec)
attempt(python_client_alone)
attempt(aio_client_alone)
attempt(administration)
attempt(python_administration)
print(f"{passed} passed, {len(failed)} failed")
sys.exit(1 if failed else 0)
