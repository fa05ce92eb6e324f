"""CreateTopics, DeleteTopics, CreatePartitions, DeleteRecords."""

import time
import uuid

import batches
from scenario import scenario


def create(broker, version, *topics, **more):
    return broker.ask("CreateTopics", version, Topics=list(topics), timeoutMs=10_000, **more)


def topic(name, partitions=1, replication=1, configs=None, **more):
    return {
        "Name": name,
        "NumPartitions": partitions,
        "ReplicationFactor": replication,
        "Configs": [{"Name": key, "Value": value} for key, value in (configs or {}).items()],
        **more,
    }


def without_configs(answer):
    """The configs of a new topic are what scenario configs.of_a_topic looks at."""
    if isinstance(answer, dict):
        for one in answer["Topics"]:
            if "Configs" in one:
                one["Configs"] = "given" if one["Configs"] else one["Configs"]
    return answer


@scenario("CreateTopics")
def made(broker):
    """A topic in each version; again; only validated."""
    for version in broker.versions("CreateTopics"):
        name = broker.name(f"v{version}")
        broker.see("only validated", without_configs(create(broker, version, topic(name, 2), validateOnly=True)), version)
        broker.see("made", without_configs(create(broker, version, topic(name, 2))), version)
        broker.until_led(name, 2)
        broker.see("again", without_configs(create(broker, version, topic(name, 2))), version)


@scenario("CreateTopics")
def defaults(broker):
    """-1 partitions and -1 replicas are the broker's defaults (version 4 on)."""
    for version in (2, 4, 7):
        broker.see("both -1", without_configs(create(broker, version, topic(broker.name(f"v{version}"), -1, -1))), version)


@scenario("CreateTopics", behaviours=(29,))
def mistakes(broker):
    """Names, counts, replicas and configs that no topic may have."""
    for case, one in {
        "slash": topic("a/b"),
        "empty name": topic(""),
        "dot": topic("."),
        "dots": topic(".."),
        "250 letters": topic("x" * 250),
        "space": topic("a b"),
        "no partitions": topic(broker.name("a"), 0),
        "-2 partitions": topic(broker.name("a"), -2),
        "2 replicas": topic(broker.name("a"), 1, 2),
        "0 replicas": topic(broker.name("a"), 1, 0),
        "unknown config": topic(broker.name("a"), configs={"no.such.thing": "1"}),
        "config out of range": topic(broker.name("a"), configs={"max.message.bytes": "-1"}),
        "config that is no number": topic(broker.name("a"), configs={"retention.ms": "soon"}),
        "config null": topic(broker.name("a"), configs={"retention.ms": None}),
        "compact and delete": topic(broker.name("ok"), configs={"cleanup.policy": "compact,delete"}),
        "unknown policy": topic(broker.name("a"), configs={"cleanup.policy": "keep"}),
    }.items():
        for version in (2, 7):
            broker.see(
                case,
                without_configs(
                    create(broker, version, {**one, "Name": one["Name"] + (str(version) if case == "compact and delete" else "")})
                ),
                version,
            )
    twice = broker.name("twice")
    broker.see("twice in one request", without_configs(create(broker, 7, topic(twice), topic(twice))))
    broker.see("good and bad", without_configs(create(broker, 7, topic(broker.name("good")), topic("a/b"))))
    broker.see("none", create(broker, 7))


@scenario("CreateTopics")
def collisions(broker):
    """Names that differ in dots and underscores only would be one metric."""
    broker.see("with a dot", without_configs(create(broker, 7, topic("topics.collisions.x"))))
    broker.see("with an underscore", without_configs(create(broker, 7, topic("topics.collisions_x"))))
    broker.see("only validated", without_configs(create(broker, 7, topic("topics_collisions_x"), validateOnly=True)))
    broker.see("the one that is there", without_configs(create(broker, 7, topic("topics.collisions.x"))))
    broker.see("made by asking", broker.ask("Metadata", 9, Topics=[{"Name": "topics_collisions.x"}], AllowAutoTopicCreation=True)["Topics"])


@scenario("CreateTopics")
def assignments(broker):
    """Replicas by hand: on the one node, on one that is not there, with counts beside."""
    hand = lambda *replicas: [{"PartitionIndex": index, "BrokerIds": list(held)} for index, held in enumerate(replicas)]
    for case, one in {
        "on the node": topic(broker.name("a"), -1, -1, Assignments=hand([1], [1])),
        "on a stranger": topic(broker.name("b"), -1, -1, Assignments=hand([7])),
        "twice on the node": topic(broker.name("c"), -1, -1, Assignments=hand([1, 1])),
        "counts beside": topic(broker.name("d"), 2, 1, Assignments=hand([1], [1])),
        "none": topic(broker.name("e"), -1, -1, Assignments=hand([])),
        "a gap": topic(broker.name("f"), -1, -1, Assignments=[{"PartitionIndex": 1, "BrokerIds": [1]}]),
    }.items():
        broker.see(case, without_configs(create(broker, 7, one)))


@scenario("DeleteTopics", behaviours=(32,))
def deleted(broker):
    """By name in each version, by id in 6; unknown ones; gone from Metadata, Produce and Fetch."""
    for version in broker.versions("DeleteTopics"):
        name = broker.topic(f"v{version}")
        body = {"Topics": [{"Name": name}, {"Name": broker.name("none")}]} if version >= 6 else {"TopicNames": [name, broker.name("none")]}
        broker.see("by name", broker.ask("DeleteTopics", version, TimeoutMs=10_000, **body), version)
    for _ in range(200):
        gone = broker.need("Metadata", 12, Topics=[{"Name": name}], AllowAutoTopicCreation=False)
        if gone["Topics"][0]["ErrorCode"]:
            break
        time.sleep(0.02)
    broker.see("metadata after it", gone)
    broker.see("produce after it", broker.produce(name, batches.batch([b"x"])))
    broker.see("fetch after it", broker.fetch(name))
    broker.see("fetch by its id after it", broker.fetch(name, version=13))
    name = broker.topic("by-id")
    held = broker.topic_id(name)
    broker.see("by id", broker.ask("DeleteTopics", 6, TimeoutMs=10_000, Topics=[{"Name": None, "TopicId": held}]))
    broker.see("by id again", broker.ask("DeleteTopics", 6, TimeoutMs=10_000, Topics=[{"Name": None, "TopicId": held}]))
    broker.see(
        "by an unknown id", broker.ask("DeleteTopics", 6, TimeoutMs=10_000, Topics=[{"Name": None, "TopicId": uuid.UUID(int=9 << 90)}])
    )
    name = broker.topic("both")
    broker.see("by name and id", broker.ask("DeleteTopics", 6, TimeoutMs=10_000, Topics=[{"Name": name, "TopicId": broker.topic_id(name)}]))
    broker.see("by nothing", broker.ask("DeleteTopics", 6, TimeoutMs=10_000, Topics=[{"Name": None}]))
    broker.see("twice", broker.ask("DeleteTopics", 5, TimeoutMs=10_000, TopicNames=[name, name]))
    broker.see("none", broker.ask("DeleteTopics", 6, TimeoutMs=10_000, Topics=[]))


@scenario("CreatePartitions", behaviours=(30,))
def more_partitions(broker):
    """More in each version; fewer, as many, too many replicas by hand, unknown topics; only validated; topics are echoed."""
    for version in broker.versions("CreatePartitions"):
        name = broker.topic(f"v{version}")
        ask = lambda *topics, **more: broker.ask(
            "CreatePartitions",
            version,
            TimeoutMs=10_000,
            Topics=[{"Name": one, "Count": count, "Assignments": hand} for one, count, hand in topics],
            **more,
        )
        broker.see("only validated", ask((name, 3, None), ValidateOnly=True), version)
        broker.see("to 3", ask((name, 3, None), (broker.name("none"), 3, None)), version)
        broker.until_led(name, 3)
        broker.see("to 3 again", ask((name, 3, None)), version)
        broker.see("to 2", ask((name, 2, None)), version)
        broker.see("to 0", ask((name, 0, None)), version)
        broker.see("by hand", ask((name, 4, [{"BrokerIds": [1]}])), version)
        broker.see("by hand on a stranger", ask((name, 5, [{"BrokerIds": [9]}])), version)
        broker.see("by hand, too few", ask((name, 7, [{"BrokerIds": [1]}])), version)
    broker.see("twice", ask((name, 9, None), (name, 9, None)))
    broker.see("the new partition takes", broker.produce_soon(name, batches.batch([b"x"]), partition=3))


@scenario("DeleteRecords", behaviours=(5,))
def delete_records(broker):
    """Up to an offset in each version, again, below the start, past the end, all; unknown ones; a topic that is only compacted."""
    name = broker.topic(partitions=2)
    for number in range(8):
        broker.fill(name, str(number), "x")

    def ask(version, partitions, topic_=name):
        return broker.ask(
            "DeleteRecords",
            version,
            TimeoutMs=5000,
            Topics=[{"Name": topic_, "Partitions": [{"PartitionIndex": one, "Offset": offset} for one, offset in partitions]}],
        )

    for version in broker.versions("DeleteRecords"):
        broker.see("further", ask(version, [(0, 3 + version)]), version)
        broker.see("again", ask(version, [(0, 3 + version)]), version)
        broker.see("below the start", ask(version, [(0, 1)]), version)
        broker.see("past the end", ask(version, [(0, 17)]), version)
        broker.see("-2", ask(version, [(0, -2)]), version)
        broker.see("unknown partition beside an empty one", ask(version, [(9, 1), (1, 0)]), version)
        broker.see("unknown topic", ask(version, [(0, 1)], broker.name("none")), version)
    broker.see("earliest after it", broker.list_offset(name, -2))
    broker.see("a fetch at the start", broker.fetch(name, 5))
    broker.see("all (-1)", ask(2, [(0, -1)]))
    broker.see("earliest after all", broker.list_offset(name, -2))
    broker.see("produce goes on", broker.produce(name, batches.batch([b"x"])))
    with broker.part("compacted"):
        compacted = broker.topic("compacted", configs={"cleanup.policy": "compact"})
        broker.see("compacted topic", ask(2, [(0, 0)], compacted))
