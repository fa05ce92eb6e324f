"""Stock clients doing what programs do: librdkafka by confluent-kafka, and kafka-python."""

import time

import confluent_kafka
import kafka
from broker import Stopped
from confluent_kafka import admin
from groups import coordinator
from scenario import scenario


def address(broker):
    return f"{broker.server.host}:{broker.server.port}"


def rdkafka_consumer(broker, group, **more):
    settings = {
        "bootstrap.servers": address(broker),
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 500,
    }
    return confluent_kafka.Consumer({**settings, **{key.replace("_", "."): value for key, value in more.items()}}, logger=QUIET)


def rdkafka_producer(broker, **more):
    return confluent_kafka.Producer(
        {"bootstrap.servers": address(broker), **{key.replace("_", "."): value for key, value in more.items()}}, logger=QUIET
    )


class Quiet:
    """librdkafka's own log lines, kept out of the progress."""

    def log(self, *_args, **_more):
        pass


QUIET = Quiet()


def produced(broker, topic, values, **more):
    producer, failed = rdkafka_producer(broker, **more), []
    for number, value in enumerate(values):
        producer.produce(topic, value, key=str(number), on_delivery=lambda error, _message: failed.append(str(error)) if error else None)
    left = producer.flush(20)
    return {"left": left, "failed": sorted(set(failed))}


def consumed(consumer, count, seconds=20):
    values, until = [], time.monotonic() + seconds
    while len(values) < count and time.monotonic() < until:
        message = consumer.poll(0.2)
        if message is not None and not message.error():
            values.append(message.value().decode())
    return sorted(values)


@scenario("Produce", "Fetch", "ListOffsets", behaviours=(21, 36))
def rdkafka_round(broker):
    """confluent-kafka: idempotent producer with each codec, consumer by assignment, watermarks and a time query."""
    topic = broker.topic(partitions=2)
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        broker.see(
            f"produced, {codec}",
            produced(
                broker, topic, [f"{codec} {number}" for number in range(20)], enable_idempotence=True, compression_type=codec, linger_ms=20
            ),
        )
    consumer = rdkafka_consumer(broker, broker.name("unused"))
    consumer.assign([confluent_kafka.TopicPartition(topic, partition, 0) for partition in (0, 1)])
    broker.see("consumed", consumed(consumer, 100))
    ends = [consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, partition), timeout=5) for partition in (0, 1)]
    broker.see("watermarks", [sum(high for _, high in ends), sum(low for low, _ in ends)])
    times = consumer.offsets_for_times([confluent_kafka.TopicPartition(topic, partition, 1000) for partition in (0, 1)], timeout=5)
    broker.see("the first offset after 1970", [one.offset for one in times])
    consumer.close()


@scenario("JoinGroup", "OffsetCommit", "OffsetFetch", behaviours=(25,))
def rdkafka_group(broker):
    """confluent-kafka: a group reads all, commits, and another of the same group goes on from there."""
    topic, group = broker.topic(partitions=2), broker.name()
    coordinator(broker, group)
    produced(broker, topic, [f"a{number}" for number in range(10)])
    consumer = rdkafka_consumer(broker, group)
    consumer.subscribe([topic])
    broker.see("first", consumed(consumer, 10))
    committed = consumer.commit(asynchronous=False)
    broker.see("committed", sorted([one.partition, one.offset > 0] for one in committed))
    consumer.close()
    produced(broker, topic, [f"b{number}" for number in range(10)])
    consumer = rdkafka_consumer(broker, group)
    consumer.subscribe([topic])
    broker.see("second", consumed(consumer, 10))
    consumer.close()


@scenario("JoinGroup", "SyncGroup", "Heartbeat", behaviours=(25,))
def rdkafka_rebalances(broker):
    """confluent-kafka: two members share four partitions, one leaves, the other has all; eager and cooperative."""
    for strategy in ("range", "cooperative-sticky"):
        topic, group = broker.topic(strategy, partitions=4), broker.name(strategy)
        coordinator(broker, group)
        members = [rdkafka_consumer(broker, group, partition_assignment_strategy=strategy) for _ in range(2)]
        for member in members:
            member.subscribe([topic])

        def until(wanted, who):
            end = time.monotonic() + 25
            while time.monotonic() < end:
                for member in who:
                    member.poll(0.1)
                held = sorted(len(member.assignment()) for member in who)
                if held == wanted:
                    return held
            return held

        broker.see(f"{strategy}: both", until([2, 2], members))
        members[0].close()
        broker.see(f"{strategy}: the one that is left", until([4], members[1:]))
        members[1].close()


@scenario("JoinGroup", "Heartbeat", behaviours=(26,))
def rdkafka_static_members(broker):
    """confluent-kafka: a static member that goes away and comes back within its session has its partitions again, and the other sees no rebalance."""
    topic, group = broker.topic(partitions=4), broker.name()
    coordinator(broker, group)
    changes = []
    stays = rdkafka_consumer(broker, group, group_instance_id="stays", session_timeout_ms=30_000)
    stays.subscribe([topic], on_assign=lambda _consumer, held: changes.append(len(held)))
    goes = rdkafka_consumer(broker, group, group_instance_id="goes", session_timeout_ms=30_000)
    goes.subscribe([topic])
    end = time.monotonic() + 25
    while time.monotonic() < end and not len(stays.assignment()) == len(goes.assignment()) == 2:
        stays.poll(0.1), goes.poll(0.1)
    broker.see("both", [len(stays.assignment()), len(goes.assignment())])
    before, held = len(changes), sorted(one.partition for one in goes.assignment())
    goes.close()
    goes = rdkafka_consumer(broker, group, group_instance_id="goes", session_timeout_ms=30_000)
    goes.subscribe([topic])
    end = time.monotonic() + 15
    while time.monotonic() < end and len(goes.assignment()) != 2:
        stays.poll(0.1), goes.poll(0.1)
    broker.see("the same partitions again", sorted(one.partition for one in goes.assignment()) == held)
    broker.see("the other was left alone", len(changes) == before)
    stays.close(), goes.close()


@scenario("InitProducerId", "EndTxn", "TxnOffsetCommit", behaviours=(14, 22))
def rdkafka_transactions(broker):
    """confluent-kafka: a committed and an aborted transaction, and what read_committed sees."""
    topic = broker.topic()
    producer = rdkafka_producer(broker, transactional_id=broker.name("txn"), transaction_timeout_ms=30_000)
    try:
        producer.init_transactions(8)
        for word, end in (
            ("kept", producer.commit_transaction),
            ("gone", producer.abort_transaction),
            ("kept too", producer.commit_transaction),
        ):
            producer.begin_transaction()
            producer.produce(topic, word)
            producer.flush(10)
            end(10)
    except confluent_kafka.KafkaException as error:
        raise Stopped(f"transactions: {error.args[0].name()}") from error
    for level in ("read_committed", "read_uncommitted"):
        consumer = rdkafka_consumer(broker, broker.name("unused"), isolation_level=level)
        consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
        broker.see(level, consumed(consumer, 3, seconds=3))
        consumer.close()


@scenario("CreateTopics", "DescribeConfigs", "CreatePartitions", "ListGroups", "DeleteRecords")
def rdkafka_admin(broker):
    """confluent-kafka's admin client: topics, configs, partitions, groups, records."""
    client = admin.AdminClient({"bootstrap.servers": address(broker)}, logger=QUIET)
    topic = broker.name()

    def result(futures):
        answers = {}
        for key, future in futures.items():
            try:
                answers[str(key)] = future.result(10)
            except confluent_kafka.KafkaException as error:
                answers[str(key)] = error.args[0].name()
        return next(iter(answers.values()))

    broker.see(
        "created", result(client.create_topics([admin.NewTopic(topic, 2, 1, config={"retention.ms": "777000"})], request_timeout=10))
    )
    broker.until_led(topic, 2)
    broker.see("created again", result(client.create_topics([admin.NewTopic(topic, 2, 1)], request_timeout=10)))
    broker.see("more partitions", result(client.create_partitions([admin.NewPartitions(topic, 3)], request_timeout=10)))
    configs = result(client.describe_configs([admin.ConfigResource(admin.RESOURCE_TOPIC, topic)], request_timeout=10))
    broker.see("retention.ms", configs if isinstance(configs, str) else configs["retention.ms"].value)
    change = admin.ConfigResource(
        admin.RESOURCE_TOPIC,
        topic,
        incremental_configs=[admin.ConfigEntry("retention.ms", "888000", incremental_operation=admin.AlterConfigOpType.SET)],
    )
    broker.see("altered", result(client.incremental_alter_configs([change], request_timeout=10)))
    produced(broker, topic, ["x"] * 5)
    broker.see(
        "records deleted", result_kind(result(client.delete_records([confluent_kafka.TopicPartition(topic, 0, -1)], request_timeout=10)))
    )
    try:
        broker.see("groups", type(client.list_consumer_groups(request_timeout=10).result()).__name__)
    except confluent_kafka.KafkaException as error:
        broker.see("groups", error.args[0].name())
    try:
        cluster = client.describe_cluster(request_timeout=10).result()
        broker.see("cluster", [len(cluster.nodes), cluster.controller.id])
    except confluent_kafka.KafkaException as error:
        broker.see("cluster", error.args[0].name())
    broker.see("deleted", result(client.delete_topics([topic], request_timeout=10)))


@scenario("ListGroups", "DescribeGroups", "OffsetFetch", "OffsetCommit", "DeleteGroups")
def rdkafka_group_admin(broker):
    """confluent-kafka's admin client on a group: listed, described, its offsets read and set, deleted."""
    topic, group = broker.topic(partitions=2), broker.name()
    coordinator(broker, group)
    produced(broker, topic, ["x"] * 10)
    consumer = rdkafka_consumer(broker, group)
    consumer.subscribe([topic])
    broker.see("consumed", len(consumed(consumer, 10)))
    consumer.commit(asynchronous=False)
    client = admin.AdminClient({"bootstrap.servers": address(broker)}, logger=QUIET)

    def told(case, ask, show):
        try:
            broker.see(case, show(ask()))
        except confluent_kafka.KafkaException as error:
            broker.see(case, error.args[0].name())

    describe = lambda: client.describe_consumer_groups([group], request_timeout=10)[group].result(10)
    told("described", describe, lambda one: [one.state.name, one.partition_assignor, len(one.members), one.is_simple_consumer_group])
    told(
        "its member",
        describe,
        lambda one: [
            sorted([part.topic == topic, part.partition] for part in member.assignment.topic_partitions) for member in one.members
        ],
    )
    told("delete while it has a member", lambda: client.delete_consumer_groups([group], request_timeout=10)[group].result(10), str)
    consumer.close()
    told("described, empty", describe, lambda one: [one.state.name, len(one.members)])
    told(
        "listed",
        lambda: client.list_consumer_groups(request_timeout=10).result(10),
        lambda all_: [[one.is_simple_consumer_group, one.state.name] for one in all_.valid if one.group_id == group],
    )
    offsets = lambda: client.list_consumer_group_offsets([confluent_kafka.ConsumerGroupTopicPartitions(group)], request_timeout=10)[
        group
    ].result(10)
    told("offsets", offsets, lambda found: sum(one.offset for one in found.topic_partitions))
    wanted = confluent_kafka.ConsumerGroupTopicPartitions(group, [confluent_kafka.TopicPartition(topic, 0, 3)])
    told(
        "offset set",
        lambda: client.alter_consumer_group_offsets([wanted], request_timeout=10)[group].result(10),
        lambda found: [one.offset for one in found.topic_partitions],
    )
    told("offsets after it", offsets, lambda found: [one.offset for one in found.topic_partitions if one.partition == 0])
    told("deleted", lambda: client.delete_consumer_groups([group], request_timeout=10)[group].result(10), str)
    told("described after it", describe, lambda one: one.state.name)


@scenario("Fetch", "ListOffsets", "DeleteRecords", behaviours=(5,))
def rdkafka_reset(broker):
    """confluent-kafka: a position below the start of the log, or past its end, goes to where auto.offset.reset says."""
    topic = broker.topic()
    for number in range(10):
        broker.fill(topic, str(number))
    broker.see(
        "deletion",
        broker.ask("DeleteRecords", 2, TimeoutMs=5000, Topics=[{"Name": topic, "Partitions": [{"PartitionIndex": 0, "Offset": 4}]}]),
    )
    for case, offset in {"below the start": 1, "past the end": 500}.items():
        consumer = rdkafka_consumer(broker, broker.name("unused"))
        consumer.assign([confluent_kafka.TopicPartition(topic, 0, offset)])
        broker.see(case, consumed(consumer, 6, seconds=10))
        consumer.close()


def result_kind(value):
    return value if isinstance(value, str) else type(value).__name__


@scenario("Produce", "Fetch", "JoinGroup", behaviours=(25, 36))
def kafka_python_round(broker):
    """kafka-python: producer, consumer by assignment, time queries; then a group that commits and goes on."""
    topic, group = broker.topic(partitions=2), broker.name()
    producer = kafka.KafkaProducer(bootstrap_servers=address(broker), acks="all", compression_type="gzip")
    places = [producer.send(topic, f"v{number}".encode(), partition=number % 2).get(10) for number in range(10)]
    broker.see("offsets", [[place.partition, place.offset] for place in places])
    producer.close()
    consumer = kafka.KafkaConsumer(bootstrap_servers=address(broker), consumer_timeout_ms=4000, auto_offset_reset="earliest")
    partitions = [kafka.TopicPartition(topic, number) for number in (0, 1)]
    consumer.assign(partitions)
    broker.see("assigned reads", read_python(consumer, 10))
    broker.see("ends", sorted(consumer.end_offsets(partitions).values()))
    broker.see("times", sorted(found.offset for found in consumer.offsets_for_times(dict.fromkeys(partitions, 1000)).values()))
    consumer.close()
    coordinator(broker, group)
    for turn in ("first", "second"):
        consumer = kafka.KafkaConsumer(
            topic,
            bootstrap_servers=address(broker),
            group_id=group,
            consumer_timeout_ms=9000 if turn == "first" else 5000,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=1000,
        )
        broker.see(f"group, {turn}", read_python(consumer, 10))
        consumer.commit()
        consumer.close()


def read_python(consumer, count):
    values = []
    for message in consumer:
        values.append(message.value.decode())
        if len(values) == count:
            break
    return sorted(values)


@scenario("Fetch", "Produce", behaviours=(11,))
def rdkafka_tail(broker):
    """confluent-kafka: a consumer at the end sees each record soon after it was produced."""
    topic = broker.topic()
    consumer = rdkafka_consumer(broker, broker.name("unused"), fetch_wait_max_ms=3000)
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, confluent_kafka.OFFSET_END)])
    consumer.poll(1.0)
    producer = rdkafka_producer(broker, linger_ms=0)
    seen = []
    for number in range(5):
        producer.produce(topic, str(number))
        producer.flush(5)
        began = time.monotonic()
        seen += [value for value in consumed(consumer, 1, seconds=5)]
        broker.see(f"record {number} within a second", time.monotonic() - began < 1)
    broker.see("records", seen)
    consumer.close()
