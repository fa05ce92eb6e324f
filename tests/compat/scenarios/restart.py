"""What must be the same after a restart of the server. A scenario goes on after its yield when both have restarted."""

from batches import T, batch
from groups import Member, coordinator
from scenario import scenario


@scenario("Produce", "Fetch", "Metadata", behaviours=(8, 32))
def records_ids_and_epochs(broker):
    """Records, topic id, and a leader epoch that does not go back; the epoch of old records ends where the new begins."""
    name = broker.topic(partitions=2)
    broker.fill(name, "a", "b", timestamps=[T, T + 1])
    held, before = broker.topic_id(name), broker.epoch
    yield
    broker.topic_names.clear()
    broker.see("the id is the same", broker.until_led(name, 2) == held)
    broker.see("the epoch did not go back", broker.epoch >= before)
    broker.see("records", broker.fetch(name))
    broker.see("produce goes on", broker.produce(name, batch([b"c"])))
    broker.see("a time query", broker.list_offset(name, T + 1)["Offset"])
    epoch = broker.list_offset(name, T, version=7)["LeaderEpoch"]
    broker.see("the first record's epoch is that of its batch", epoch == before)
    answer = broker.ask(
        "OffsetForLeaderEpoch", 4, ReplicaId=-1, Topics=[{"Topic": name, "Partitions": [{"Partition": 0, "LeaderEpoch": before}]}]
    )
    one = answer["Topics"][0]["Partitions"][0]
    broker.see(
        "where the old epoch ends",
        {
            "ErrorCode": one["ErrorCode"],
            "its own": one["LeaderEpoch"] == before,
            "EndOffset": one["EndOffset"] if broker.epoch > before else 2,
        },
    )


@scenario("Produce", "InitProducerId", behaviours=(21,))
def producers(broker):
    """A producer goes on where it was: duplicates are known, gaps are not taken."""
    from scenarios.idempotence import new_producer, send

    name = broker.topic()
    pid, epoch = new_producer(broker)
    for sequence in range(3):
        send(broker, name, pid, epoch, sequence)
    yield
    broker.until_led(name)
    broker.see("the last again", send(broker, name, pid, epoch, 2))
    broker.see("a gap", send(broker, name, pid, epoch, 5))
    broker.see("the next", send(broker, name, pid, epoch, 3))
    other, _ = new_producer(broker)
    broker.see("a new producer has another id", other != pid)


@scenario("CreateTopics", "DescribeConfigs", "DeleteRecords", behaviours=(5,))
def topics(broker):
    """Configs, partitions, deleted topics and the start of the log are what they were."""
    from scenarios.configs import changed, value_of

    name, gone = broker.topic(partitions=3, configs={"retention.ms": "77000000"}), broker.topic("gone")
    changed(broker, 1, name, (0, "retention.bytes", "123456789"))
    broker.ask("CreatePartitions", 3, TimeoutMs=5000, Topics=[{"Name": name, "Count": 4, "Assignments": None}])
    broker.need("DeleteTopics", 6, Topics=[{"Name": gone}], TimeoutMs=5000)
    for number in range(4):
        broker.fill(name, str(number))
    broker.ask("DeleteRecords", 2, TimeoutMs=5000, Topics=[{"Name": name, "Partitions": [{"PartitionIndex": 0, "Offset": 2}]}])
    yield
    with broker.part("partitions"):
        broker.until_led(name, 4)
    broker.see("retention.ms", value_of(broker, name, "retention.ms", "77000000"))
    broker.see("retention.bytes", value_of(broker, name, "retention.bytes", "123456789"))
    broker.see("earliest", broker.list_offset(name, -2)["Offset"])
    broker.see("the deleted one", broker.ask("Metadata", 12, Topics=[{"Name": gone}], AllowAutoTopicCreation=False))


@scenario("OffsetCommit", "OffsetFetch", "DescribeGroups", behaviours=(7,))
def commits(broker):
    """Committed offsets with their metadata; the group is there."""
    topic, group = broker.topic(), broker.name()
    coordinator(broker, group)
    broker.see("commit", Member(broker, group).commit(topic, offset=17, metadata="kept", epoch=broker.epoch))
    before = broker.epoch
    yield
    coordinator(broker, group)
    broker.until_led(topic)
    broker.epoch = before
    broker.see("fetched", broker.ask_soon("OffsetFetch", 7, GroupId=group, Topics=[{"Name": topic, "PartitionIndexes": [0]}]))
    broker.see("group", broker.ask("DescribeGroups", 5, Groups=[group]))


@scenario("JoinGroup", "Heartbeat", behaviours=(25,))
def members(broker):
    """A member of before goes on in its group, or is told to join again."""
    from groups import stable

    group = broker.name()
    coordinator(broker, group)
    member = stable(broker, group, Member(broker, group, session_ms=60_000))
    yield
    coordinator(broker, group)
    member.connection = broker.connect()
    broker.see("heartbeat", member.heartbeat())
