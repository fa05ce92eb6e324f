"""Metadata, DescribeCluster, DescribeTopicPartitions."""

import socket
import uuid

import batches
from scenario import scenario

STRANGER = uuid.UUID("12345678-1234-5678-1234-567812345678")


@scenario("Metadata")
def one_topic(broker):
    """A topic by name in each version."""
    name = broker.topic(partitions=3)
    for version in broker.versions("Metadata"):
        broker.see("by name", broker.ask("Metadata", version, Topics=[{"Name": name}], AllowAutoTopicCreation=False), version)


@scenario("Metadata", behaviours=(29,))
def unknown_topic(broker):
    """A topic that is not there, in each version that can forbid to make it."""
    for version in broker.versions("Metadata", 4):
        broker.see(
            "unknown", broker.ask("Metadata", version, Topics=[{"Name": broker.name("none")}], AllowAutoTopicCreation=False), version
        )


@scenario("Metadata", behaviours=(29,))
def invalid_names(broker):
    """Names that no topic may have, with and without leave to make it."""
    for case, name in {
        "slash": "a/b",
        "space": "a b",
        "dot": ".",
        "dots": "..",
        "empty": "",
        "250 letters": "x" * 250,
        "umlaut": "ä",
    }.items():
        for leave in (False, True):
            broker.see(
                f"{case}{', may be made' if leave else ''}",
                broker.ask("Metadata", 12, Topics=[{"Name": name}], AllowAutoTopicCreation=leave),
            )


@scenario("Metadata", behaviours=(29,))
def auto_creation(broker):
    """A topic that is asked for with leave to make it is there soon, has 4 partitions, and a record right after is taken."""
    for version in (0, 1, 3, 4, 8, 9, 12):
        name = broker.name(f"v{version}")
        answer = broker.need("Metadata", version, Topics=[{"Name": name}], AllowAutoTopicCreation=True)
        # The first answer may be an error that a client retries on, or the topic already.
        broker.see("first answer is good or retriable", answer["Topics"][0]["ErrorCode"] in (0, 3, 5), version)
        broker.until_led(name, 4)
        broker.see("produce right after", broker.produce_soon(name, batches.batch([b"x"])), version)


@scenario("Metadata")
def all_topics(broker):
    """Null asks for all topics, an empty list for none (from version 1; in version 0 an empty list is all)."""
    name = broker.topic()
    for version in broker.versions("Metadata"):
        for case, topics in {"empty list": [], **({"null": None} if version >= 1 else {})}.items():
            answer = broker.ask("Metadata", version, Topics=topics)
            if isinstance(answer, dict):
                answer["Topics"] = "all" if any(one["Name"] == name for one in answer["Topics"]) else f"{len(answer['Topics'])} topics"
            broker.see(case, answer, version)


@scenario("Metadata", behaviours=(32,))
def by_id(broker):
    """A topic by its id, by an unknown id, by an id with a name."""
    name = broker.topic()
    held = broker.topic_id(name)
    for version in (12, 13):
        for case, topic in {
            "its id": {"Name": None, "TopicId": held},
            "an unknown id": {"Name": None, "TopicId": STRANGER},
            "id and name": {"Name": name, "TopicId": held},
        }.items():
            broker.see(case, broker.ask("Metadata", version, Topics=[topic], AllowAutoTopicCreation=False), version)


@scenario("Metadata", behaviours=(32,))
def by_id_before_version_12(broker):
    """Versions 10 and 11 have ids in their requests, and no broker that takes them."""
    name = broker.topic()
    for version in (10, 11):
        for case, topic in {
            "its id": {"Name": "", "TopicId": broker.topic_id(name)},
            "id and name": {"Name": name, "TopicId": broker.topic_id(name)},
        }.items():
            broker.see(case, broker.ask("Metadata", version, Topics=[topic], AllowAutoTopicCreation=False), version)


@scenario("Metadata", behaviours=(32,))
def ids_are_new_on_recreation(broker):
    """A topic that is deleted and made again has another id, and the old id is unknown."""
    name = broker.topic()
    first = broker.topic_id(name)
    broker.need("DeleteTopics", 6, Topics=[{"Name": name}], TimeoutMs=10_000)
    for _ in range(200):
        if broker.need("Metadata", 12, Topics=[{"Name": name}], AllowAutoTopicCreation=False)["Topics"][0]["ErrorCode"] == 3:
            break
    broker.topic_names.clear()
    broker.topic()
    broker.see("the id is another one", broker.topic_id(name) != first)
    broker.see("by the old id", broker.ask("Metadata", 12, Topics=[{"Name": None, "TopicId": first}]))


@scenario("Metadata")
def twice_in_one_request(broker):
    """The same topic twice, and a good beside a bad one."""
    name = broker.topic()
    for case, names in {"twice": [name, name], "good and bad": [name, "a/b", broker.name("none")]}.items():
        broker.see(case, broker.ask("Metadata", 12, Topics=[{"Name": one} for one in names], AllowAutoTopicCreation=False))


@scenario("Metadata", "DescribeCluster")
def authorized_operations(broker):
    """Asked for, they are a set of bits; not asked for, the least number."""
    name = broker.topic()
    for version in (8, 9, 10, 11, 12, 13):
        broker.see(
            "topic's",
            broker.ask(
                "Metadata", version, Topics=[{"Name": name}], IncludeTopicAuthorizedOperations=True, IncludeClusterAuthorizedOperations=True
            ),
            version,
        )
        names = [{"Name": one} for one in (name, broker.name("none"), "a/b")]
        asked = broker.ask("Metadata", version, Topics=names, AllowAutoTopicCreation=False, IncludeTopicAuthorizedOperations=True)
        broker.see("names without a topic", asked, version)
    for version in broker.versions("DescribeCluster"):
        broker.see("cluster's", broker.ask("DescribeCluster", version, IncludeClusterAuthorizedOperations=True), version)


@scenario("DescribeCluster")
def describe_cluster(broker):
    """In each version; for controllers, which a broker's listener does not know, and an unknown kind."""
    for version in broker.versions("DescribeCluster"):
        broker.see("brokers", broker.ask("DescribeCluster", version), version)
    for version in (1, 2):
        broker.see("controllers", broker.ask("DescribeCluster", version, EndpointType=2), version)
        broker.see("an unknown kind", broker.ask("DescribeCluster", version, EndpointType=9), version)


@scenario("DescribeTopicPartitions")
def describe_topic_partitions(broker):
    """Topics in order of names, an unknown and an invalid one, a limit and its cursor."""
    first, second = broker.topic("a", partitions=3), broker.topic("b", partitions=2)
    ask = lambda **body: broker.ask("DescribeTopicPartitions", 0, **body)
    broker.see("two topics", ask(Topics=[{"Name": second}, {"Name": first}]))
    broker.see("unknown", ask(Topics=[{"Name": broker.name("none")}]))
    broker.see("invalid", ask(Topics=[{"Name": "a/b"}]))
    broker.see("limit of 2", ask(Topics=[{"Name": first}, {"Name": second}], ResponsePartitionLimit=2))
    broker.see("from the cursor", ask(Topics=[{"Name": first}, {"Name": second}], Cursor={"TopicName": first, "PartitionIndex": 2}))
    broker.see("a cursor past all", ask(Topics=[{"Name": first}], Cursor={"TopicName": "zzz", "PartitionIndex": 0}))


@scenario("Metadata", "DescribeCluster", "FindCoordinator", behaviours=(37,))
def advertised_address(broker):
    """The address that a client is sent to is one that it can reach."""
    (one,) = broker.need("Metadata", 12, Topics=[])["Brokers"]
    with socket.create_connection((one["Host"], one["Port"]), 3):
        broker.see("can be reached", True)
    broker.see("is an address, not a name", one["Host"].replace(".", "").isdigit())
    broker.see("is the one it came to", [one["Host"], one["Port"]] == [broker.server.host, broker.server.port])
