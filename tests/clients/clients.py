"""Clients that are not ours against a running daemon: produce and consume, from the start, an offset, a time; every codec each can do;
large and tiny records, headers, null keys and values. Usage: clients.py HOST:PORT"""

import asyncio
import subprocess
import sys
import time
import uuid

import aiokafka
import confluent_kafka
import kafka

ADDRESS = sys.argv[1]
NOW = int(time.time() * 1000)
LARGE = bytes(range(256)) * 3500  # 896 KB
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
    """(key, value, headers, timestamp): tiny, null, empty, binary."""
    yield None, b"x", [], NOW
    yield b"k", None, [], NOW + 10
    yield b"", b"", [("h", b"1"), ("h", b"2"), ("n", None)], NOW + 20
    yield b"\x00\xff", mark.encode() * 50, [("name", mark.encode())], NOW + 30


def python_client(codec):
    topic, mark = f"py-{codec}-{uuid.uuid4().hex[:6]}", f"kafka-python {codec}"
    producer = kafka.KafkaProducer(bootstrap_servers=ADDRESS, compression_type=None if codec == "none" else codec, acks="all", max_request_size=1_048_000)
    sent = list(records(mark))
    for key, value, headers, ts in sent:
        headers = [(name, value) for name, value in headers if value is not None]
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
    check(f"{mark}: headers", got and list(got[3].headers) == sent[3][2])
    check(f"{mark}: from an offset", [r.offset for r in read(2)] == [2, 3])
    at = consumer.offsets_for_times({part: NOW + 15})[part]
    check(f"{mark}: from a time", at.offset == 2 and at.timestamp == NOW + 20)
    check(f"{mark}: after the last time", consumer.offsets_for_times({part: NOW + 99_999})[part] is None)
    check(f"{mark}: begin and end", (consumer.beginning_offsets([part])[part], consumer.end_offsets([part])[part]) == (0, 4))
    consumer.close()


def confluent_client(codec):
    topic, mark = f"cf-{codec}-{uuid.uuid4().hex[:6]}", f"confluent-kafka {codec}"
    errors = []
    producer = confluent_kafka.Producer({"bootstrap.servers": ADDRESS, "compression.type": codec, "enable.idempotence": True, "linger.ms": 5, "message.max.bytes": 1_000_000})
    sent = list(records(mark)) + [(b"large", LARGE, [], NOW + 40)]
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
    check(f"{mark}: headers", len(got) > 2 and got[2].headers() == sent[2][2])
    check(f"{mark}: times", [m.timestamp()[1] for m in got] == [ts for *_, ts in sent])
    check(f"{mark}: from an offset", [m.offset() for m in read(0, 3, 2)] == [3, 4])
    check(f"{mark}: two thousand in order", [m.value() for m in read(1, 0, 2000)] == [str(n).encode() for n in range(2000)])
    at = consumer.offsets_for_times([confluent_kafka.TopicPartition(topic, 0, NOW + 25)], timeout=10)[0]
    check(f"{mark}: from a time", at.offset == 3)
    check(f"{mark}: watermarks", consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, 0), timeout=10) == (0, len(sent)))
    consumer.close()


async def aio_client(codec):
    topic, mark = f"aio-{codec}-{uuid.uuid4().hex[:6]}", f"aiokafka {codec}"
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=ADDRESS, compression_type=None if codec == "none" else codec, enable_idempotence=True)
    await producer.start()
    sent = list(records(mark))
    for key, value, headers, ts in sent:
        headers = [(name, value) for name, value in headers if value is not None]
        await producer.send_and_wait(topic, key=key, value=value, headers=headers, timestamp_ms=ts, partition=0)
    await producer.stop()
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=ADDRESS, enable_auto_commit=False, group_id=None)
    await consumer.start()
    part = aiokafka.TopicPartition(topic, 0)
    consumer.assign([part])
    await consumer.seek_to_beginning(part)
    got = [await asyncio.wait_for(consumer.getone(), 10) for _ in sent]
    check(f"{mark}: keys and values", [(r.key, r.value) for r in got] == [(k, v) for k, v, _, _ in sent])
    found = await consumer.offsets_for_times({part: NOW + 5})
    check(f"{mark}: from a time", found[part].offset == 1)
    await consumer.stop()


def kcat(codec):
    topic, mark = f"kc-{codec}-{uuid.uuid4().hex[:6]}", f"kcat {codec}"
    base = ["kcat", "-b", ADDRESS, "-t", topic]
    lines = "".join(f"{mark} {n}\n" for n in range(100))
    subprocess.run(base + ["-P", "-p", "0", "-z", codec, "-X", "acks=all"], input=lines.encode(), check=True, timeout=30)
    read = subprocess.run(base + ["-C", "-p", "0", "-o", "beginning", "-e", "-q"], capture_output=True, check=True, timeout=30)
    check(f"{mark}: both ways", read.stdout.decode() == lines)


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
    admin.delete_topics([name])[name].result(10)
    check("admin: gone", name not in admin.list_topics(timeout=10).topics)


def attempt(run, *arguments):
    try:
        run(*arguments)
    except Exception as error:  # noqa: BLE001 - each client has errors of its own
        check(f"{run.__name__} {arguments}: {type(error).__name__}: {error}", False)


import confluent_kafka.admin  # noqa: E402

for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
    attempt(kcat, codec)
    attempt(confluent_client, codec)
# Stock installs bring gzip; the others read what they cannot write, because the door decompresses for them.
for codec in ["none", "gzip"]:
    attempt(python_client, codec)
    attempt(lambda codec: asyncio.run(aio_client(codec)), codec)
attempt(administration)
print(f"{passed} passed, {len(failed)} failed")
sys.exit(1 if failed else 0)
