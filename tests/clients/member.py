"""One member of a consumer group, as a process, so that it can be killed. Reads, commits after each batch with words of its own beside the
offset, and tells what happens as lines of JSON; closes in order when it is terminated. Started by groups.py.
Usage: member.py CLIENT HOST:PORT GROUP TOPIC OPTIONS(JSON): a topic with ^ in front is a pattern; options are instance, assignor
and, of confluent, is_async: it reads on while it commits."""

import asyncio
import json
import signal
import sys

import members

CLIENT, ADDRESS, GROUP, TOPIC = sys.argv[1:5]
OPTIONS = json.loads(sys.argv[5])
INSTANCE = OPTIONS.get("instance")
# aiokafka 0.14 joins once for each assignor, with one more each time: of several members two never come to rest.
ASSIGNORS = OPTIONS.get("assignor", "range" if CLIENT == "aiokafka" else "range,roundrobin").split(",")
SESSION_MS = members.SESSION_S * 1000
HEARTBEAT_MS = 300
# How soon a new topic is seen by a pattern.
METADATA_MS = 1000
POLL_MS = 200
# confluent-kafka ends the words beside an offset with a zero byte, and reads others' until it finds one.
ZERO = "" if CLIENT == "confluent" else "\0"
# kafka-python 3.0 forgets an assignment that comes just when a poll's time is over: its polls end with records or with a signal.
POLL_KAFKA_PYTHON_MS = 600_000


class Ending(Exception):
    """Ends a poll that waits."""


def tell(**event):
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def tell_rebalance(what, parts):
    tell(rebalance=what, parts=sorted([part.topic, part.partition] for part in parts))


def tell_committed(ends):
    tell(committed=[[topic, id, end] for topic, id, end, *_ in ends])


class Confluent:
    may_be_interrupted = False

    def __init__(self):
        import confluent_kafka as library

        self.library = library
        settings = {
            "bootstrap.servers": ADDRESS,
            "group.id": GROUP,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "reconnect.backoff.max.ms": 500,
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": HEARTBEAT_MS,
            "topic.metadata.refresh.interval.ms": METADATA_MS,
            "partition.assignment.strategy": ",".join(ASSIGNORS),
            "on_commit": self.on_commit,
        }
        if INSTANCE:
            settings["group.instance.id"] = INSTANCE
        self.consumer = library.Consumer(settings)

        # librdkafka sends a commit that failed again behind later ones, which takes offsets back: one at a time, the others wait here.
        self.waiting, self.is_committing = {}, False
        self.consumer.subscribe([TOPIC], on_assign=lambda _, parts: tell_rebalance("assign", parts), on_revoke=self.on_revoke, on_lost=self.on_revoke)
        self.errors = library.KafkaException

    def on_revoke(self, _, parts):
        tell_rebalance("revoke", parts)
        for part in parts:
            self.waiting.pop((part.topic, part.partition), None)

    def on_commit(self, error, parts):
        self.is_committing = False
        if error is None:
            self.tell_done(parts)

    def poll(self):
        self.commit_waiting()
        messages = [one for one in self.consumer.consume(500, POLL_MS / 1000) if one.error() is None]
        return [(one.topic(), one.partition(), one.offset(), one.value(), one.leader_epoch()) for one in messages]

    def tell_done(self, parts):
        tell_committed([(part.topic, part.partition, part.offset) for part in parts if part.error is None])

    def commit(self, ends):
        parts = [self.library.TopicPartition(topic, id, end, words, -1 if epoch is None else epoch) for topic, id, end, words, epoch in ends]
        if OPTIONS.get("is_async"):
            self.waiting.update({(part.topic, part.partition): part for part in parts})
            self.commit_waiting()
        else:
            self.tell_done(self.consumer.commit(offsets=parts, asynchronous=False))

    def commit_waiting(self):
        if self.waiting and not self.is_committing:
            self.is_committing = True
            self.consumer.commit(offsets=list(self.waiting.values()), asynchronous=True)
            self.waiting = {}

    def close(self):
        self.consumer.close()


class KafkaPython:
    may_be_interrupted = True

    def __init__(self):
        import kafka as library
        from kafka.coordinator.assignors import cooperative_sticky, range, roundrobin
        from kafka.coordinator.assignors.sticky import sticky_assignor

        self.library = library
        assignors = {
            "range": range.RangePartitionAssignor,
            "roundrobin": roundrobin.RoundRobinPartitionAssignor,
            "sticky": sticky_assignor.StickyPartitionAssignor,
            "cooperative-sticky": cooperative_sticky.CooperativeStickyAssignor,
        }
        self.consumer = library.KafkaConsumer(
            bootstrap_servers=ADDRESS,
            group_id=GROUP,
            group_instance_id=INSTANCE,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            metadata_max_age_ms=METADATA_MS,
            partition_assignment_strategy=[assignors[name] for name in ASSIGNORS],
        )


        class Listener(library.ConsumerRebalanceListener):
            def on_partitions_assigned(self, assigned):
                tell_rebalance("assign", assigned)

            def on_partitions_revoked(self, revoked):
                tell_rebalance("revoke", revoked)

        how = {"pattern": TOPIC} if TOPIC.startswith("^") else {"topics": [TOPIC]}
        self.consumer.subscribe(listener=Listener(), **how)
        self.errors = library.errors.KafkaError

    def poll(self):
        batches = self.consumer.poll(timeout_ms=POLL_KAFKA_PYTHON_MS).values()
        return [(one.topic, one.partition, one.offset, one.value, one.leader_epoch) for batch in batches for one in batch]

    def commit(self, ends):
        place = lambda end, words, epoch: self.library.OffsetAndMetadata(end, words, -1 if epoch is None else epoch)  # noqa: E731
        self.consumer.commit({self.library.TopicPartition(topic, id): place(*rest) for topic, id, *rest in ends})
        tell_committed(ends)

    def close(self):
        self.consumer.close()


class Aiokafka:
    """Its loop runs while something is asked of it: all the time but for a few lines."""

    may_be_interrupted = False

    def __init__(self):
        import aiokafka as library
        import aiokafka.errors
        from aiokafka.coordinator.assignors import range, roundrobin
        from aiokafka.coordinator.assignors.sticky import sticky_assignor

        self.library = library
        self.loop = asyncio.new_event_loop()
        assignors = {
            "range": range.RangePartitionAssignor,
            "roundrobin": roundrobin.RoundRobinPartitionAssignor,
            "sticky": sticky_assignor.StickyPartitionAssignor,
        }

        class Listener(library.ConsumerRebalanceListener):
            async def on_partitions_assigned(self, assigned):
                tell_rebalance("assign", assigned)

            async def on_partitions_revoked(self, revoked):
                tell_rebalance("revoke", revoked)

        async def start():
            consumer = library.AIOKafkaConsumer(
                bootstrap_servers=ADDRESS,
                group_id=GROUP,
                group_instance_id=INSTANCE,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                session_timeout_ms=SESSION_MS,
                heartbeat_interval_ms=HEARTBEAT_MS,
                metadata_max_age_ms=METADATA_MS,
                partition_assignment_strategy=[assignors[name] for name in ASSIGNORS],
            )
            how = {"pattern": TOPIC} if TOPIC.startswith("^") else {"topics": [TOPIC]}
            consumer.subscribe(listener=Listener(), **how)
            try:
                await consumer.start()
            except aiokafka.errors.KafkaConnectionError:
                # The daemon is killed at times; who is started then waits for it.
                await consumer.stop()
                await asyncio.sleep(0.2)
                return None
            return consumer

        self.consumer = None
        while self.consumer is None:
            self.consumer = self.loop.run_until_complete(start())
        self.errors = aiokafka.errors.KafkaError

    def poll(self):
        batches = self.loop.run_until_complete(self.consumer.getmany(timeout_ms=POLL_MS)).values()
        return [(one.topic, one.partition, one.offset, one.value, None) for batch in batches for one in batch]

    def commit(self, ends):
        places = {self.library.TopicPartition(topic, id): (end, words) for topic, id, end, words, _ in ends}
        self.loop.run_until_complete(self.consumer.commit(places))
        tell_committed(ends)

    def close(self):
        self.loop.run_until_complete(self.consumer.stop())


def run():
    member = {"confluent": Confluent, "kafka-python": KafkaPython, "aiokafka": Aiokafka}[CLIENT]()
    is_closing = is_polling = False

    def end(*_):
        nonlocal is_closing
        is_closing = True
        if is_polling and member.may_be_interrupted:
            raise Ending

    signal.signal(signal.SIGTERM, end)
    while not is_closing:
        records = []
        try:
            is_polling = True
            records = member.poll()
        except Ending:
            pass
        is_polling = False
        if not records:
            continue
        tell(got=[[topic, id, offset, value.decode()] for topic, id, offset, value, _ in records])
        last = {(topic, id): (offset + 1, epoch) for topic, id, offset, _, epoch in records}
        # What stands beside an offset; groups.py and group_kills.py know these words too.
        ends = [(topic, id, end, f"{CLIENT} «{id}» {end}{ZERO}", epoch) for (topic, id), (end, epoch) in last.items()]
        try:
            member.commit(ends)
        except member.errors as error:
            # Some of its partitions are another's by now.
            tell(refused=repr(error))
    member.close()
    tell(closed=True)


run()
