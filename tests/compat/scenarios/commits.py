"""OffsetCommit, OffsetFetch, OffsetDelete."""

from groups import Member, coordinator, stable, until_state
from scenario import scenario


def fetch(broker, group, version, topics, **more):
    """topics: {name: partitions} or None for all."""
    held = (
        None
        if topics is None
        else [
            {**({"TopicId": broker.topic_id(name)} if version >= 10 else {"Name": name}), "PartitionIndexes": list(partitions)}
            for name, partitions in topics.items()
        ]
    )
    body = {"Groups": [{"GroupId": group, "Topics": held}]} if version >= 8 else {"GroupId": group, "Topics": held}
    return broker.ask_soon("OffsetFetch", version, **body, **more)


@scenario("OffsetCommit", "OffsetFetch", behaviours=(7,))
def by_version(broker):
    """A consumer without a group's assignment commits in each version; metadata and epoch come back as they were."""
    topic = broker.topic(partitions=2)
    coordinator(broker, broker.name())
    for version in broker.versions("OffsetCommit"):
        member = Member(broker, broker.name(f"v{version}"))
        held = {
            "Name": topic,
            "TopicId": broker.topic_id(topic),
            "Partitions": [
                {"PartitionIndex": 0, "CommittedOffset": 42, "CommittedLeaderEpoch": broker.epoch, "CommittedMetadata": "näh"},
                {"PartitionIndex": 1, "CommittedOffset": 7, "CommittedMetadata": None},
            ],
        }
        broker.see("commit", member.commit(topic, version=version, Topics=[held]), version)
        broker.see("fetched", fetch(broker, broker.name(f"v{version}"), 7, {topic: [0, 1]}), version)
    for version in broker.versions("OffsetFetch"):
        broker.see("fetch", fetch(broker, broker.name("v8"), version, {topic: [0, 1, 5]}), version)
        if version >= 2:
            broker.see("fetch all", fetch(broker, broker.name("v8"), version, None), version)
        broker.see("fetch none", fetch(broker, broker.name("v8"), version, {}), version)
        broker.see("fetch, a topic without partitions", fetch(broker, broker.name("v8"), version, {topic: []}), version)
        broker.see("fetch, unknown group", fetch(broker, broker.name("none"), version, {topic: [0]}), version)
        if version >= 7:
            broker.see("fetch, require stable", fetch(broker, broker.name("v8"), version, {topic: [0]}, RequireStable=True), version)


@scenario("OffsetCommit", behaviours=(7, 28))
def mistakes(broker):
    """Too much metadata, unknown topics and partitions, offsets below 0, an empty group, generations of nobody."""
    topic = broker.topic()
    group = broker.name()
    coordinator(broker, group)
    member = Member(broker, group)
    broker.see("4,096 bytes of metadata", member.commit(topic, metadata="x" * 4096))
    broker.see("4,097 bytes of metadata", member.commit(topic, metadata="x" * 4097))
    broker.see("4,096 letters of two bytes", member.commit(topic, metadata="ä" * 4096))
    broker.see("unknown partition", member.commit(topic, partition=9))
    broker.see("negative partition", member.commit(topic, partition=-1))
    broker.see("unknown topic", member.commit(broker.name("none")))
    broker.see("offset -1", member.commit(topic, offset=-1))
    broker.see("offset past the end", member.commit(topic, offset=1 << 40))
    broker.see("empty group", member.commit(topic, GroupId=""))
    broker.see("a generation of nobody", member.commit(topic, GenerationIdOrMemberEpoch=3))
    broker.see("a member of nobody", member.commit(topic, MemberId="no-such-member", GenerationIdOrMemberEpoch=3))
    broker.see("a member, no generation", member.commit(topic, MemberId="no-such-member"))
    broker.see(
        "unknown group with a generation",
        member.commit(topic, GroupId=broker.name("none"), GenerationIdOrMemberEpoch=1, MemberId="no-such-member"),
    )
    broker.see("nothing", member.commit(topic, Topics=[]))
    broker.see(
        "good and bad",
        member.commit(
            topic,
            Topics=[
                {"Name": topic, "Partitions": [{"PartitionIndex": 0, "CommittedOffset": 3}, {"PartitionIndex": 8, "CommittedOffset": 3}]},
                {"Name": "a/b", "Partitions": [{"PartitionIndex": 0, "CommittedOffset": 3}]},
            ],
        ),
    )
    broker.see("what is there", fetch(broker, group, 7, None))


@scenario("OffsetCommit", "OffsetFetch", behaviours=(7, 25))
def of_members(broker):
    """A member commits with its generation; others do not, nor does somebody without one while there are members; nor between generations."""
    topic, group = broker.topic(), broker.name()
    coordinator(broker, group)
    member = stable(broker, group, Member(broker, group))
    for version in broker.versions("OffsetCommit"):
        held = (
            {"Topics": [{"TopicId": broker.topic_id(topic), "Partitions": [{"PartitionIndex": 0, "CommittedOffset": 1}]}]}
            if version >= 10
            else {}
        )
        broker.see("good", member.commit(topic, version=version, **held), version)
        broker.see("wrong generation", member.commit(topic, version=version, GenerationIdOrMemberEpoch=77, **held), version)
        broker.see("as nobody", member.commit(topic, version=version, MemberId="no-such-member", **held), version)
        broker.see(
            "without a generation", member.commit(topic, version=version, GenerationIdOrMemberEpoch=-1, MemberId="", **held), version
        )
    second = Member(broker, group)
    second.get_id()
    second.send_join()
    until_state(broker, group, "PreparingRebalance", 3)
    broker.see("while a rebalance is prepared", member.commit(topic, offset=9))
    member.send_join()
    member.take(), second.take()
    broker.see("between join and sync", member.commit(topic, offset=10))
    broker.see("what is there", fetch(broker, group, 7, {topic: [0]}))


@scenario("OffsetFetch")
def several_groups(broker):
    """From version 8 on several groups in one request."""
    topic = broker.topic()
    coordinator(broker, broker.name())
    for number, suffix in enumerate("ab"):
        Member(broker, broker.name(suffix)).commit(topic, offset=number + 5)
    named = [{"Name": topic, "PartitionIndexes": [0]}]
    for version in (8, 9):
        broker.see(
            "groups",
            broker.ask(
                "OffsetFetch",
                version,
                Groups=[
                    {"GroupId": broker.name("a"), "Topics": named},
                    {"GroupId": broker.name("b"), "Topics": None},
                    {"GroupId": broker.name("none"), "Topics": named},
                ],
            ),
            version,
        )
        broker.see("no groups", broker.ask("OffsetFetch", version, Groups=[]), version)
    broker.see(
        "with a member of nobody",
        broker.ask(
            "OffsetFetch", 9, Groups=[{"GroupId": broker.name("a"), "MemberId": "no-such-member", "MemberEpoch": 4, "Topics": named}]
        ),
    )


@scenario("OffsetDelete")
def deleted(broker):
    """From an empty group; from one that is subscribed to the topic; unknown groups and partitions."""
    topic, other, group, empty = broker.topic(), broker.topic("other"), broker.name(), broker.name("empty")
    coordinator(broker, group)
    member = stable(broker, group, Member(broker, group, protocols=(("range", (topic,)),)))
    member.commit(topic), member.commit(other)
    Member(broker, empty).commit(topic)
    ask = lambda name, **partitions: broker.ask(
        "OffsetDelete",
        0,
        GroupId=name,
        Topics=[{"Name": one, "Partitions": [{"PartitionIndex": index} for index in held]} for one, held in partitions.items()],
    )
    broker.see("empty group", ask(empty, **{topic: [0, 9]}))
    broker.see("empty group, again", ask(empty, **{topic: [0]}))
    broker.see("subscribed, and not", ask(group, **{topic: [0], other: [0]}))
    broker.see("unknown group", ask(broker.name("none"), **{topic: [0]}))
    broker.see("unknown topic", ask(empty, **{broker.name("none"): [0]}))
    broker.see("what is left", fetch(broker, group, 7, None))


@scenario("OffsetFetch", "DeleteTopics")
def of_a_deleted_topic(broker):
    """With a topic its offsets go."""
    import time

    topic, group = broker.topic(), broker.name()
    coordinator(broker, group)
    broker.see("commit", Member(broker, group).commit(topic, offset=3))
    broker.need("DeleteTopics", 6, Topics=[{"Name": topic}], TimeoutMs=5000)
    for _ in range(100):
        answer = broker.ask("OffsetFetch", 7, GroupId=group, Topics=None)
        if isinstance(answer, str) or not answer["Topics"]:
            break
        time.sleep(0.05)
    broker.see("fetched after it", answer)
