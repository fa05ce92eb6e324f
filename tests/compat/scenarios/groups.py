"""Classic consumer groups: coordinator, join, sync, heartbeat, leave, static members, rebalances, and how they are listed."""

import time

from groups import Member, coordinator, stable, state, synced, until_state
from scenario import scenario


@scenario("FindCoordinator")
def find_coordinator(broker):
    """For groups in each version, several at once from 4 on; for transactions; unknown kinds; an empty key."""
    coordinator(broker, broker.name())
    for version in broker.versions("FindCoordinator"):
        body = {"CoordinatorKeys": [broker.name("a"), broker.name("b")]} if version >= 4 else {"Key": broker.name("a")}
        broker.see("group", broker.ask_soon("FindCoordinator", version, **body), version)
        empty = {"CoordinatorKeys": [""]} if version >= 4 else {"Key": ""}
        broker.see("empty key", broker.ask_soon("FindCoordinator", version, **empty), version)
        if version >= 1:
            broker.see(
                "transaction", broker.ask_soon("FindCoordinator", version, KeyType=1, seconds=6 if version == 1 else 1, **body), version
            )
            broker.see("unknown kind", broker.ask("FindCoordinator", version, KeyType=9, **body), version)


@scenario("JoinGroup", "SyncGroup", behaviours=(25,))
def join_by_version(broker):
    """One member alone, in each version of JoinGroup, from its first request to its assignment."""
    coordinator(broker, broker.name())
    members = {version: Member(broker, broker.name(f"v{version}"), join=version) for version in broker.versions("JoinGroup")}
    for version, member in members.items():
        member.send_join()
        if version >= 4:
            broker.see("without an id", member.take(), version)
            member.send_join()
    for version, member in members.items():
        broker.see("joined", member.take(), version)
        broker.see("synced", member.sync([(member.id, b"all")], version=min(version, 5)), version)


@scenario("SyncGroup", "Heartbeat", "LeaveGroup", behaviours=(25,))
def others_by_version(broker):
    """SyncGroup, Heartbeat and LeaveGroup in each version, good, with a wrong generation and as nobody."""
    coordinator(broker, broker.name())
    member = stable(broker, broker.name(), Member(broker, broker.name()))
    for version in broker.versions("SyncGroup"):
        broker.see("sync again", member.sync(version=version), version)
        broker.see("sync, wrong generation", member.sync(version=version, GenerationId=77), version)
        broker.see("sync as nobody", member.sync(version=version, MemberId="no-such-member"), version)
        broker.see("sync, unknown group", member.sync(version=version, GroupId=broker.name("none")), version)
    for version in broker.versions("Heartbeat"):
        broker.see("heartbeat", member.heartbeat(version), version)
        broker.see("heartbeat, wrong generation", member.heartbeat(version, GenerationId=77), version)
        broker.see("heartbeat, generation -1", member.heartbeat(version, GenerationId=-1), version)
        broker.see("heartbeat as nobody", member.heartbeat(version, MemberId="no-such-member"), version)
        broker.see("heartbeat, empty member", member.heartbeat(version, MemberId=""), version)
        broker.see("heartbeat, unknown group", member.heartbeat(version, GroupId=broker.name("none")), version)
        broker.see("heartbeat, empty group", member.heartbeat(version, GroupId=""), version)
    for version in broker.versions("LeaveGroup"):
        nobody = {"Members": [{"MemberId": "no-such-member"}]} if version >= 3 else {"MemberId": "no-such-member"}
        broker.see("leave as nobody", member.leave(version, **nobody), version)
        broker.see("leave an unknown group", member.leave(version, GroupId=broker.name("none")), version)
        if version >= 3:
            broker.see("leave, nobody named", member.leave(version, Members=[]), version)
    broker.see("leave", member.leave())
    broker.see("leave again", member.leave())
    broker.see("heartbeat after it", member.heartbeat())
    broker.see("state after it", state(broker, broker.name()))


@scenario("JoinGroup", behaviours=(25,))
def member_ids(broker):
    """An id that nobody gave out is unknown; an id from MEMBER_ID_REQUIRED is good once, in its group."""
    coordinator(broker, broker.name())
    member = Member(broker, broker.name(), join=9)
    broker.see("an invented id", member.join(MemberId="no-such-member"))
    member.get_id()
    broker.see("state before the second join", state(broker, broker.name()))
    broker.see("the id in another group", member.join(GroupId=broker.name("other")))
    broker.see("the id with a heartbeat", member.heartbeat(GenerationId=0))
    broker.see("the id in its group", member.join())
    member.sync([(member.id, b"x")])
    other = Member(broker, broker.name("old"), join=3)
    broker.see("version 3 wants no id first", other.join())


@scenario("JoinGroup", behaviours=(25,))
def join_mistakes(broker):
    """Session times out of bounds, an empty group, no protocols, other kinds and protocols than the group's."""
    coordinator(broker, broker.name())
    for case, more in {
        "session too short": {"SessionTimeoutMs": 5999},
        "session too long": {"SessionTimeoutMs": 1_800_001},
        "empty group": {"GroupId": ""},
        "no protocols": {"Protocols": []},
        "empty kind": {"ProtocolType": ""},
        "no protocols and empty kind": {"Protocols": [], "ProtocolType": ""},
    }.items():
        for version in (3, 5, 9):
            broker.see(case, Member(broker, broker.name(case.replace(" ", "-")), join=version).join(**more), version)
    stable(broker, broker.name(), Member(broker, broker.name()))
    broker.see("another kind", Member(broker, broker.name(), kind="connect").join())
    broker.see("no protocol in common", Member(broker, broker.name(), protocols=(("other", ()),)).join())


@scenario("JoinGroup", behaviours=(25,))
def initial_delay(broker):
    """An empty group waits 3 s for more members after the first; those who come meanwhile are in the same generation."""
    coordinator(broker, broker.name())
    members = [Member(broker, broker.name()) for _ in range(3)]
    for member in members:
        member.get_id()
    began = time.monotonic()
    for member in members:
        member.send_join()
        time.sleep(0.2)
    answers = [member.take() for member in members]
    took = time.monotonic() - began
    broker.see("took", "about 3 s" if 2.8 < took < 6.5 else f"{took:.1f} s")
    broker.see("generations", [answer if isinstance(answer, str) else answer["GenerationId"] for answer in answers])
    broker.see("members told", [answer if isinstance(answer, str) else len(answer["Members"]) for answer in answers])
    broker.see("who leads", answers[0] if isinstance(answers[0], str) else [answer["Leader"] == members[0].id for answer in answers])


@scenario("JoinGroup", "Heartbeat", "SyncGroup", behaviours=(25,))
def rebalance(broker):
    """A second member: the first is told by its heartbeat, joins again, and both are in the next generation; then one leaves."""
    group = broker.name()
    coordinator(broker, group)
    first = stable(broker, group, Member(broker, group))
    broker.see("state", state(broker, group))
    second = Member(broker, group)
    second.get_id()
    second.send_join()
    until_state(broker, group, "PreparingRebalance", 3)
    broker.see("state, second joins", state(broker, group))
    broker.see("heartbeat of the first", first.heartbeat())
    broker.see("sync of the first", first.sync())
    first.send_join()
    broker.see("first joined", first.take())
    broker.see("second joined", second.take())
    broker.see("state, joined", state(broker, group))
    broker.see("heartbeat before the sync", first.heartbeat())
    second.send_sync()
    broker.see("the follower's sync waits", isinstance(second.connection.frame(0.5), str))


@scenario("SyncGroup", "JoinGroup", "LeaveGroup", behaviours=(25,))
def assignments(broker):
    """Each gets its own bytes; who is left out gets empty ones, not none; a leave makes the others join again."""
    group = broker.name()
    coordinator(broker, group)
    members = [Member(broker, group) for _ in range(3)]
    for member in members:
        member.get_id()
        member.send_join()
    for member in members:
        member.take()
    leader = next((member for member in members if isinstance(member.answer, dict) and member.answer["Leader"] == member.id), members[0])
    for member in members:
        member.send_sync([(members[0].id, b"zero"), (members[1].id, b"one"), ("no-such-member", b"x")] if member is leader else ())
    for number, member in enumerate(members):
        broker.see(f"member {number}", member.connection.take())
    broker.see("one leaves", members[2].leave())
    until_state(broker, group, "PreparingRebalance", 3)
    broker.see("heartbeat of another", members[0].heartbeat())
    for member in members[:2]:
        member.send_join()
    broker.see("next generation", [member.take()["GenerationId"] for member in members[:2]])


@scenario("JoinGroup", behaviours=(25,))
def rejoin(broker):
    """In a stable group: a follower with the same protocols gets the same generation, with other ones a rebalance; the leader always one."""
    group = broker.name()
    coordinator(broker, group)
    one, two = stable(broker, group, Member(broker, group), Member(broker, group))
    leader, follower = (one, two) if one.answer["Leader"] == one.id else (two, one)
    follower.send_join()
    answer = follower.take(8)
    broker.see("follower, same protocols", answer)
    broker.see("state after it", state(broker, group))
    follower.sync()
    leader.send_join()
    until_state(broker, group, "PreparingRebalance", 3)
    broker.see("state, leader joins again", state(broker, group))
    follower.send_join()
    broker.see("generations", [leader.take()["GenerationId"], follower.take()["GenerationId"]])
    synced([leader, follower])
    follower.protocols = (("range", ("other-topic",)),)
    follower.send_join()
    until_state(broker, group, "PreparingRebalance", 3)
    broker.see("state, follower with other protocols", state(broker, group))
    leader.send_join()
    broker.see("generations after it", [leader.take()["GenerationId"], follower.take()["GenerationId"]])


@scenario("JoinGroup", behaviours=(25,))
def protocol_vote(broker):
    """The protocol that all have and most want; cooperative ones are names like others."""
    group = broker.name()
    coordinator(broker, group)
    lists = [("cooperative-sticky", "range"), ("range", "cooperative-sticky", "roundrobin"), ("cooperative-sticky", "roundrobin", "range")]
    members = [Member(broker, group, protocols=tuple((name, ()) for name in names), join=9) for names in lists]
    for member in members:
        member.get_id()
        member.send_join()
    answers = [member.take() for member in members]
    broker.see("chosen", [answer if isinstance(answer, str) else answer["ProtocolName"] for answer in answers])


@scenario("JoinGroup", "Heartbeat", "SyncGroup", "OffsetCommit", "LeaveGroup", behaviours=(26,))
def static_members(broker):
    """An instance that comes back takes its place without a rebalance, and the former id is fenced everywhere."""
    group, topic = broker.name(), broker.topic()
    coordinator(broker, group)
    first, other = stable(broker, group, Member(broker, group, instance="one", join=9), Member(broker, group, instance="two", join=9))
    broker.see("joined at once", first.answer)
    back = Member(broker, group, instance="one", join=9)
    broker.see("back", back.join())
    broker.see("state", state(broker, group))
    broker.see("generation of the other goes on", other.heartbeat())
    broker.see("back: sync gives the assignment again", back.sync())
    broker.see("its id is new", back.id != first.id)
    for case, ask in {"heartbeat": first.heartbeat, "sync": first.sync, "commit": lambda: first.commit(topic), "join": first.join}.items():
        broker.see(f"former id: {case}", ask())
    broker.see("former id: leave", first.leave())
    broker.see("an unknown instance: heartbeat", back.heartbeat(GroupInstanceId="three"))
    broker.see("another's instance: heartbeat", back.heartbeat(GroupInstanceId="two"))
    broker.see("commit", back.commit(topic))
    broker.see(
        "leave by instance alone",
        back.leave(Members=[{"MemberId": "", "GroupInstanceId": "one"}, {"MemberId": "", "GroupInstanceId": "nine"}]),
    )
    until_state(broker, group, "PreparingRebalance", 3)
    broker.see("the other is told", other.heartbeat())


@scenario("JoinGroup", behaviours=(26,))
def static_member_of_old_versions(broker):
    """The same in JoinGroup 5, where a leader cannot be told to skip the assignment."""
    group = broker.name()
    coordinator(broker, group)
    stable(broker, group, Member(broker, group, instance="one", join=5))
    back = Member(broker, group, instance="one", join=5)
    broker.see("back", back.join())
    broker.see("state", state(broker, group))


@scenario("JoinGroup", behaviours=(26,))
def static_member_changes(broker):
    """A static member that comes back with another subscription."""
    group = broker.name()
    coordinator(broker, group)
    stable(broker, group, Member(broker, group, instance="one", join=9))
    changed = Member(broker, group, instance="one", join=9, protocols=(("range", ("another",)),))
    broker.see("with another subscription", changed.join())
    broker.see("state after it", state(broker, group))


@scenario("JoinGroup", "SyncGroup", behaviours=(26,))
def static_member_before_the_sync(broker):
    """A static member that comes back before the group has its assignment."""
    group = broker.name()
    coordinator(broker, group)
    first = Member(broker, group, instance="one", join=9)
    first.join()
    broker.see("state", state(broker, group))
    again = Member(broker, group, instance="one", join=9)
    broker.see("before the sync", again.join())
    broker.see("the one before it", first.sync([(first.id, b"x")]))
    broker.see("synced", again.sync([(again.id, b"y")]))


@scenario("Heartbeat", "JoinGroup", behaviours=(25,))
def session_expiry(broker):
    """A member that is silent for its session is out; a group whose last member is out is empty."""
    group = broker.name()
    coordinator(broker, group)
    member = stable(broker, group, Member(broker, group, session_ms=6000))
    began = time.monotonic()
    broker.see("state in the end", until_state(broker, group, "Empty"))
    took = time.monotonic() - began
    broker.see("took", "about the session" if 5.5 < took < 9 else f"{took:.1f} s")
    broker.see("heartbeat after it", member.heartbeat())


@scenario("JoinGroup", behaviours=(25,))
def rebalance_timeout(broker):
    """A member that does not join again within its rebalance timeout is left behind."""
    group = broker.name()
    coordinator(broker, group)
    slow = stable(broker, group, Member(broker, group, rebalance_ms=2000, session_ms=30_000))
    quick = Member(broker, group, rebalance_ms=2000, session_ms=30_000)
    began = time.monotonic()
    answer = quick.join()
    took = time.monotonic() - began
    broker.see("took", "about the rebalance timeout" if 1.5 < took < 4 else f"{took:.1f} s")
    broker.see("quick joined", answer)
    broker.see("the slow one is unknown", slow.heartbeat())


@scenario("DescribeGroups")
def describe(broker):
    """In each version: unknown, empty, stable; several at once; operations asked for."""
    group, empty = broker.name(), broker.name("empty")
    coordinator(broker, group)
    stable(broker, group, Member(broker, group, instance="one", protocols=(("range", ("a",)),)))
    Member(broker, empty).commit(broker.topic())
    for version in broker.versions("DescribeGroups"):
        answer = broker.ask("DescribeGroups", version, Groups=[group, empty, broker.name("none")], IncludeAuthorizedOperations=version == 4)
        if isinstance(answer, dict):
            for one in answer["Groups"]:
                for member in one["Members"]:
                    member["ClientHost"] = "given" if member["ClientHost"] else "empty"
        broker.see("answer", answer, version)
    broker.see("empty name", broker.ask("DescribeGroups", 5, Groups=[""]))


@scenario("ListGroups")
def listed(broker):
    """In each version; by states from 4, by types from 5, in any case, unknown ones."""
    group, empty = broker.name(), broker.name("empty")
    coordinator(broker, group)
    stable(broker, group, Member(broker, group))
    Member(broker, empty).commit(broker.topic())

    def ask(version, **body):
        answer = broker.ask("ListGroups", version, **body)
        if isinstance(answer, dict):
            answer["Groups"] = [one for one in answer["Groups"] if one["GroupId"] in (group, empty)]
        return answer

    for version in broker.versions("ListGroups"):
        broker.see("all", ask(version), version)
    for case, states in {
        "Stable": ["Stable"],
        "Empty": ["Empty"],
        "both": ["Stable", "Empty"],
        "other case": ["stable"],
        "unknown": ["Sleeping"],
        "Dead": ["Dead"],
    }.items():
        broker.see(f"states: {case}", ask(5, StatesFilter=states))
    for case, types in {
        "classic": ["classic"],
        "consumer": ["consumer"],
        "other case": ["Classic"],
        "unknown": ["planet"],
        "both": ["classic", "consumer"],
    }.items():
        broker.see(f"types: {case}", ask(5, TypesFilter=types))


@scenario("DeleteGroups")
def deleted(broker):
    """Empty groups go with their offsets; others, unknown ones and an empty name do not."""
    group, topic = broker.name(), broker.topic()
    coordinator(broker, group)
    stable(broker, group, Member(broker, group))
    for version in broker.versions("DeleteGroups"):
        empty = broker.name(f"v{version}")
        Member(broker, empty).commit(topic, 5)
        broker.see("answer", broker.ask("DeleteGroups", version, GroupsNames=[group, empty, broker.name("none")]), version)
        broker.see("its offsets", broker.ask("OffsetFetch", 7, GroupId=empty, Topics=[{"Name": topic, "PartitionIndexes": [0]}]), version)
    broker.see("empty name", broker.ask("DeleteGroups", 2, GroupsNames=[""]))


@scenario("ConsumerGroupHeartbeat", "ConsumerGroupDescribe")
def newer_protocol(broker):
    """KIP-848: a member joins by heartbeat, is assigned, and leaves."""
    topic, group = broker.topic(partitions=2), broker.name()
    coordinator(broker, group)
    answer = None
    for _ in range(60):
        answer = broker.ask(
            "ConsumerGroupHeartbeat",
            1,
            GroupId=group,
            MemberId="compat-member-1",
            MemberEpoch=0,
            RebalanceTimeoutMs=10_000,
            SubscribedTopicNames=[topic],
            SubscribedTopicRegex=None,
            TopicPartitions=[],
        )
        if isinstance(answer, str) or answer["ErrorCode"] or answer["Assignment"]:
            break
    broker.see("joined", answer if isinstance(answer, str) else {"ErrorCode": answer["ErrorCode"], "assigned": answer["Assignment"]})
    answer = broker.ask("ConsumerGroupHeartbeat", 1, GroupId=group, MemberId="compat-member-1", MemberEpoch=-1)
    broker.see("left", answer if isinstance(answer, str) else {"ErrorCode": answer["ErrorCode"]})
