"""DescribeConfigs, AlterConfigs, IncrementalAlterConfigs."""

import time

import batches
from scenario import scenario

TOPIC, BROKER, GROUP, LOGGER, METRICS = 2, 4, 32, 8, 16


def describe(broker, version, kind, name, keys=None, **more):
    return broker.ask(
        "DescribeConfigs", version, Resources=[{"ResourceType": kind, "ResourceName": name, "ConfigurationKeys": keys}], **more
    )


def changed(broker, version, name, *changes, kind=TOPIC, **more):
    """changes: (operation, key, value); 0 set, 1 delete, 2 append, 3 subtract."""
    held = [{"Name": key, "ConfigOperation": operation, "Value": value} for operation, key, value in changes]
    return broker.ask("IncrementalAlterConfigs", version, Resources=[{"ResourceType": kind, "ResourceName": name, "Configs": held}], **more)


def value_of(broker, name, key, wanted):
    """The value, and whether it is the topic's own. Kafka tells of a change a moment after it has answered, so `wanted` is waited for."""
    for _ in range(60):
        answer = describe(broker, 4, TOPIC, name, [key])
        if isinstance(answer, str):
            return answer
        found = [[one["Value"], "own" if one["ConfigSource"] == 1 else "default"] for one in answer["Results"][0]["Configs"]]
        if found and found[0][0] == wanted:
            break
        time.sleep(0.03)
    return found


def quiet(answer):
    """Documentation is a text, and where a default comes from is the server's own affair: a key's synonyms are kept by name of the topic's alone."""
    if isinstance(answer, dict):
        for result in answer["Results"]:
            for one in result["Configs"]:
                one["Documentation"] = "given" if one.get("Documentation") else "none"
                one["Synonyms"] = [held["Name"] for held in one.get("Synonyms", []) if held["Source"] == 1]
    return answer


@scenario("DescribeConfigs", behaviours=(30,))
def of_a_topic(broker):
    """Every topic config: there, value, type, sensitive, read-only. (Kafka's own that Inrush does not have show as absent.)"""
    name = broker.topic(configs={"retention.ms": "12345678"})
    answer = quiet(describe(broker, 4, TOPIC, name, IncludeSynonyms=True, IncludeDocumentation=True))
    if isinstance(answer, str):
        return broker.see("answer", answer)
    (result,) = answer["Results"]
    broker.see("result", {**result, "Configs": "given" if result["Configs"] else "none"})
    for one in result["Configs"]:
        if not one["Name"].startswith("inrush."):
            broker.see(one["Name"], one)


@scenario("DescribeConfigs", behaviours=(30,))
def by_version(broker):
    """One key in each version, with and without synonyms and documentation; unknown keys; an empty list of keys."""
    name = broker.topic(configs={"retention.ms": "12345678"})
    for version in broker.versions("DescribeConfigs"):
        broker.see("a changed key", describe(broker, version, TOPIC, name, ["retention.ms"]), version)
        broker.see("a default", describe(broker, version, TOPIC, name, ["retention.bytes"]), version)
        broker.see("an unknown key", describe(broker, version, TOPIC, name, ["no.such.thing"]), version)
        broker.see("unknown topic", describe(broker, version, TOPIC, broker.name("none"), ["retention.ms"]), version)
        answer = describe(broker, version, TOPIC, name, [])
        broker.see(
            "an empty list of keys", answer if isinstance(answer, str) else "all" if answer["Results"][0]["Configs"] else "none", version
        )


@scenario("DescribeConfigs")
def resources(broker):
    """The node, a node that is not there, the cluster's default, invalid names, kinds of the future."""
    for case, kind, name in [
        ("node that is not there", BROKER, "77"),
        ("node that is no number", BROKER, "x"),
        ("invalid topic", TOPIC, "a/b"),
        ("empty topic", TOPIC, ""),
        ("unknown kind", 99, "x"),
        ("kind 0", 0, "x"),
    ]:
        broker.see(case, describe(broker, 4, kind, name))
    for case, name in (("node", "1"), ("cluster default", "")):
        answer = describe(broker, 4, BROKER, name)
        broker.see(
            case,
            answer
            if isinstance(answer, str)
            else {**answer["Results"][0], "Configs": "given" if answer["Results"][0]["Configs"] else "none"},
        )
    keys = [
        "log.retention.ms",
        "num.partitions",
        "message.max.bytes",
        "offsets.topic.replication.factor",
        "default.replication.factor",
        "auto.create.topics.enable",
        "min.insync.replicas",
        "log.cleanup.policy",
        "compression.type",
        "log.segment.bytes",
        "broker.id",
        "node.id",
    ]
    for key in keys:
        answer = describe(broker, 4, BROKER, "1", [key])
        broker.see(
            f"the node's {key}",
            answer
            if isinstance(answer, str)
            else [[one["Name"], one["Value"], one["ConfigType"]] for one in answer["Results"][0]["Configs"]],
        )


@scenario("IncrementalAlterConfigs", "DescribeConfigs", behaviours=(30,))
def incremental(broker):
    """Set, delete, append, subtract; each seen after it."""
    name = broker.topic()
    for version in broker.versions("IncrementalAlterConfigs"):
        broker.see("set", changed(broker, version, name, (0, "retention.ms", "999000")), version)
        broker.see("after set", value_of(broker, name, "retention.ms", "999000"), version)
        broker.see("only validated", changed(broker, version, name, (0, "retention.ms", "5"), ValidateOnly=True), version)
        broker.see("after only validated", value_of(broker, name, "retention.ms", "999000"), version)
        broker.see("delete", changed(broker, version, name, (1, "retention.ms", None)), version)
        broker.see("after delete", value_of(broker, name, "retention.ms", "604800000"), version)
        broker.see("append", changed(broker, version, name, (2, "cleanup.policy", "compact")), version)
        broker.see("after append", value_of(broker, name, "cleanup.policy", "delete,compact"), version)
        broker.see("append again", changed(broker, version, name, (2, "cleanup.policy", "compact")), version)
        broker.see("subtract", changed(broker, version, name, (3, "cleanup.policy", "compact")), version)
        broker.see("after subtract", value_of(broker, name, "cleanup.policy", "delete"), version)
        broker.see("append to a number", changed(broker, version, name, (2, "retention.ms", "5")), version)
        broker.see("unknown operation", changed(broker, version, name, (9, "retention.ms", "5")), version)
        broker.see("unknown key", changed(broker, version, name, (0, "no.such.thing", "5")), version)
        broker.see("value out of range", changed(broker, version, name, (0, "max.message.bytes", "-7")), version)
        broker.see("value that is no number", changed(broker, version, name, (0, "retention.ms", "soon")), version)
        broker.see("set to null", changed(broker, version, name, (0, "retention.ms", None)), version)
        broker.see("key twice", changed(broker, version, name, (0, "retention.ms", "5"), (1, "retention.ms", None)), version)
        broker.see("unknown topic", changed(broker, version, broker.name("none"), (0, "retention.ms", "5")), version)
        broker.see(
            "good and bad together", changed(broker, version, name, (0, "retention.bytes", "12345"), (0, "no.such.thing", "5")), version
        )
        broker.see("after good and bad", value_of(broker, name, "retention.bytes", "-1"), version)


@scenario("IncrementalAlterConfigs")
def incremental_resources(broker):
    """Resources that cannot be changed, named twice, or are not there; nothing at all."""
    name = broker.topic()
    one = lambda kind, key: {"ResourceType": kind, "ResourceName": key, "Configs": []}
    for case, held in {
        "unknown kind": [one(99, "x")],
        "topic twice": [one(TOPIC, name), one(TOPIC, name)],
        "node that is not there": [one(BROKER, "77")],
        "empty change": [one(TOPIC, name)],
        "none": [],
        "invalid topic": [one(TOPIC, "a/b")],
    }.items():
        broker.see(case, broker.ask("IncrementalAlterConfigs", 1, Resources=held))
    broker.see("read-only key of the node", changed(broker, 1, "1", (0, "log.dirs", "/tmp/x"), kind=BROKER))


@scenario("AlterConfigs", "DescribeConfigs", behaviours=(30,))
def whole(broker):
    """AlterConfigs replaces all: what is not named goes back to its default."""
    name = broker.topic(configs={"retention.bytes": "777777", "retention.ms": "888888"})

    def ask(version, configs, topic=name, **more):
        return broker.ask(
            "AlterConfigs",
            version,
            Resources=[
                {"ResourceType": TOPIC, "ResourceName": topic, "Configs": [{"Name": key, "Value": value} for key, value in configs.items()]}
            ],
            **more,
        )

    for version in broker.versions("AlterConfigs"):
        broker.see("only validated", ask(version, {"retention.ms": "1"}, ValidateOnly=True), version)
        broker.see("set one", ask(version, {"retention.ms": "999000"}), version)
        broker.see("it", value_of(broker, name, "retention.ms", "999000"), version)
        broker.see("the other", value_of(broker, name, "retention.bytes", "-1"), version)
        broker.see("unknown key", ask(version, {"no.such.thing": "1"}), version)
        broker.see("unknown topic", ask(version, {"retention.ms": "1"}, broker.name("none")), version)
        broker.see("null value", ask(version, {"retention.ms": None}), version)
        broker.see("nothing", ask(version, {}), version)
        broker.see("after nothing", value_of(broker, name, "retention.ms", "604800000"), version)


@scenario("IncrementalAlterConfigs", "Produce")
def change_takes_effect(broker):
    """A new max.message.bytes counts from the next batch on."""
    name = broker.topic()
    broker.see("before", broker.produce(name, batches.batch([b"x" * 3000])))
    broker.see("changed", changed(broker, 1, name, (0, "max.message.bytes", "1000")))
    for _ in range(100):
        answer = broker.produce(name, batches.batch([b"x" * 3000]))
        if isinstance(answer, str) or answer["ErrorCode"]:
            break
        time.sleep(0.03)
    broker.see("after", answer if isinstance(answer, str) else answer["ErrorCode"])


@scenario("ListConfigResources")
def list_resources(broker):
    """What has configs of its own."""
    name = broker.topic(configs={"retention.ms": "777"})
    for case, kinds in {
        "topics": [TOPIC],
        "nodes": [BROKER],
        "groups": [GROUP],
        "loggers": [LOGGER],
        "subscriptions to metrics": [METRICS],
        "a kind twice": [BROKER, BROKER],
        "unknown kind": [99],
        "unknown kind beside a known one": [BROKER, 99],
    }.items():
        answer = broker.ask("ListConfigResources", 1, ResourceTypes=kinds)
        if isinstance(answer, dict) and kinds == [TOPIC]:
            answer["ConfigResources"] = [one for one in answer["ConfigResources"] if one["ResourceName"] == name]
        broker.see(case, answer)
    answer = broker.ask("ListConfigResources", 1, ResourceTypes=[])
    told = answer if isinstance(answer, str) else sorted({one["ResourceType"] for one in answer["ConfigResources"]})
    broker.see("kinds of which there are some, asked for all", told)
    broker.see("version 0", broker.ask("ListConfigResources", 0))
