"""InitProducerId and the sequences of idempotent producers; DescribeProducers."""

import batches
from batches import batch
from broker import Stopped
from scenario import scenario

INT_MAX = (1 << 31) - 1


def new_producer(broker):
    answer = broker.ask_soon("InitProducerId", 4, TransactionalId=None, TransactionTimeoutMs=60_000)
    if isinstance(answer, str) or answer["ErrorCode"]:
        raise Stopped(f"no producer id: {answer}")
    return answer["ProducerId"], answer["ProducerEpoch"]


def send(broker, name, pid, epoch, sequence, count=1, version=9):
    return broker.produce(name, batch([b"%d" % sequence] * count, producer=(pid, epoch, sequence)), version=version)


@scenario("InitProducerId", behaviours=(22,))
def init(broker):
    """A new id in each version, with epoch 0; ids are different."""
    for version in broker.versions("InitProducerId"):
        broker.see("new", broker.ask_soon("InitProducerId", version, TransactionalId=None, TransactionTimeoutMs=60_000), version)
    for version in (3, 4, 5):
        pid, epoch = new_producer(broker)
        broker.see(
            "with its own id and epoch",
            broker.ask("InitProducerId", version, TransactionalId=None, TransactionTimeoutMs=60_000, ProducerId=pid, ProducerEpoch=epoch),
            version,
        )
        broker.see(
            "with an id but no epoch",
            broker.ask("InitProducerId", version, TransactionalId=None, TransactionTimeoutMs=60_000, ProducerId=pid),
            version,
        )
        broker.see(
            "with an epoch but no id",
            broker.ask("InitProducerId", version, TransactionalId=None, TransactionTimeoutMs=60_000, ProducerEpoch=3),
            version,
        )


@scenario("InitProducerId", behaviours=(22,))
def init_transactional(broker):
    """With a transactional id: epochs grow, timeouts are bounded, an empty id is none."""
    name = broker.name("txn")

    def ask(**body):
        return broker.ask_soon("InitProducerId", 4, **body)

    broker.ask_soon("FindCoordinator", 3, Key=name, KeyType=1)
    broker.see("first", ask(TransactionalId=name, TransactionTimeoutMs=60_000))
    broker.see("again", ask(TransactionalId=name, TransactionTimeoutMs=60_000))
    broker.see("timeout too long", ask(TransactionalId=name, TransactionTimeoutMs=900_001))
    broker.see("timeout zero", ask(TransactionalId=name, TransactionTimeoutMs=0))
    broker.see("empty id", ask(TransactionalId="", TransactionTimeoutMs=60_000))


@scenario("Produce", "Fetch", behaviours=(21,))
def duplicates(broker):
    """One of the last five batches again is answered with its own offset; an older one, or one of another size, is not."""
    name = broker.topic()
    pid, epoch = new_producer(broker)
    for sequence in range(7):
        broker.see(f"sequence {sequence}", send(broker, name, pid, epoch, sequence))
    for sequence in (6, 2, 1, 0):
        broker.see(f"sequence {sequence} again", send(broker, name, pid, epoch, sequence))
    broker.see("sequence 6 again, two records", send(broker, name, pid, epoch, 6, count=2))
    broker.see("sequence 5 again, two records", send(broker, name, pid, epoch, 5, count=2))
    broker.see("the end", broker.list_offset(name, -1))
    for version in (3, 7, 12):
        broker.see("sequence 6 again by version", send(broker, name, pid, epoch, 6, version=version), version)


@scenario("Produce", behaviours=(21,))
def gaps_and_epochs(broker):
    """A gap is out of order; a new epoch begins at 0; an older one is fenced."""
    name = broker.topic()
    pid, _ = new_producer(broker)
    for case, (epoch, sequence) in {
        "first": (0, 0),
        "a gap": (0, 2),
        "next": (0, 1),
        "a new epoch in the middle": (1, 5),
        "a new epoch at 0": (1, 0),
        "the old epoch": (0, 2),
        "next of the new epoch": (1, 1),
        "an epoch left out": (7, 0),
        "the epoch before": (6, 0),
    }.items():
        broker.see(case, send(broker, name, pid, epoch, sequence))


@scenario("Produce", behaviours=(21,))
def no_state(broker):
    """A producer that the partition does not know may begin at any sequence, and an id that nobody gave out is taken."""
    name = broker.topic()
    pid, epoch = new_producer(broker)
    broker.see("begins at 700", send(broker, name, pid, epoch, 700))
    broker.see("goes on at 701", send(broker, name, pid, epoch, 701))
    broker.see("goes on at 703", send(broker, name, pid, epoch, 703))
    broker.see("an id that nobody gave out", send(broker, name, 987_654_321, 3, 11))
    broker.see("a negative epoch", send(broker, name, pid, -1, 702))


@scenario("Produce", behaviours=(21,))
def wrap(broker):
    """After 2^31-1 comes 0, in the middle of a batch too."""
    name = broker.topic()
    pid, epoch = new_producer(broker)
    broker.see("up to the last", send(broker, name, pid, epoch, INT_MAX - 1, count=2))
    broker.see("then 0", send(broker, name, pid, epoch, 0))
    broker.see("the last again", send(broker, name, pid, epoch, INT_MAX - 1, count=2))
    other, epoch = new_producer(broker)
    broker.see("wraps inside a batch", send(broker, name, other, epoch, INT_MAX, count=3))
    broker.see("goes on after it", send(broker, name, other, epoch, 2))
    broker.see("goes on wrong", send(broker, name, other, epoch, 4))


@scenario("Produce", behaviours=(21,))
def partitions_apart(broker):
    """Sequences count by partition."""
    name = broker.topic(partitions=2)
    pid, epoch = new_producer(broker)
    one = lambda partition, sequence: broker.produce(name, batch([b"x"], producer=(pid, epoch, sequence)), partition)
    for partition, sequence in ((0, 0), (0, 1), (1, 0), (1, 2), (1, 1), (0, 2)):
        broker.see(f"partition {partition}, sequence {sequence}", one(partition, sequence))


@scenario("Produce", behaviours=(21,))
def after_a_deletion_of_records(broker):
    """Producers are known even when all their records are deleted."""
    name = broker.topic()
    pid, epoch = new_producer(broker)
    for sequence in (0, 1):
        send(broker, name, pid, epoch, sequence)
    broker.ask("DeleteRecords", 2, Topics=[{"Name": name, "Partitions": [{"PartitionIndex": 0, "Offset": -1}]}], TimeoutMs=5000)
    broker.see("a duplicate", send(broker, name, pid, epoch, 1))
    broker.see("a gap", send(broker, name, pid, epoch, 5))
    broker.see("the next", send(broker, name, pid, epoch, 2))


@scenario("DescribeProducers", behaviours=(21,))
def describe_producers(broker):
    """Active producers of a partition with their last sequence; unknown topics and partitions."""
    name = broker.topic()
    pid, epoch = new_producer(broker)
    send(broker, name, pid, epoch, 0, count=3)
    answer = broker.ask(
        "DescribeProducers", 0, Topics=[{"Name": name, "PartitionIndexes": [0, 9]}, {"Name": broker.name("none"), "PartitionIndexes": [0]}]
    )
    if isinstance(answer, dict):
        for topic in answer["Topics"]:
            for partition in topic["Partitions"]:
                for producer in partition["ActiveProducers"]:
                    producer["LastTimestamp"] = abs(producer["LastTimestamp"] - batches.now_ms()) < 60_000
    broker.see("answer", answer)
