"""Members of classic consumer groups as scenarios drive them: each on a connection of its own, one request at a time."""

import time

from broker import CLOSED, Stopped

JOIN, SYNC = 7, 5
SESSION_MS, REBALANCE_MS = 10_000, 10_000


class Member:
    def __init__(
        self,
        broker,
        group,
        instance=None,
        protocols=(("range", ()),),
        join=JOIN,
        kind="consumer",
        session_ms=SESSION_MS,
        rebalance_ms=REBALANCE_MS,
    ):
        self.broker, self.group, self.instance, self.protocols, self.version, self.kind = broker, group, instance, protocols, join, kind
        self.session_ms, self.rebalance_ms = session_ms, rebalance_ms
        self.connection = broker.connect()
        self.id, self.generation, self.answer = "", -1, None

    def subscription(self, topics):
        return self.broker.protocol.encode("ConsumerProtocolSubscription", 1, {"Topics": list(topics), "UserData": None})

    def send_join(self, **more):
        held = [
            {"Name": name, "Metadata": self.subscription(topics) if isinstance(topics, (list, tuple)) else topics}
            for name, topics in self.protocols
        ]
        body = {
            "GroupId": self.group,
            "SessionTimeoutMs": self.session_ms,
            "RebalanceTimeoutMs": self.rebalance_ms,
            "MemberId": self.id,
            "GroupInstanceId": self.instance,
            "ProtocolType": self.kind,
            "Protocols": held,
        }
        self.connection.send("JoinGroup", self.version, **{**body, **more})

    def take(self, timeout=25):
        """An answer to a join; the id that it gives is this member's from then on."""
        self.answer = self.reply(timeout)
        if isinstance(self.answer, dict) and self.answer["MemberId"] and self.answer["ErrorCode"] in (0, 79):
            self.id, self.generation = self.answer["MemberId"], self.answer["GenerationId"]
        return self.answer

    def join(self, timeout=25, **more):
        """Joins to the end: with the id that version 4 and later demand to be asked for first."""
        self.send_join(**more)
        answer = self.take(timeout)
        if isinstance(answer, dict) and answer["ErrorCode"] == 79:
            self.send_join(**more)
            answer = self.take(timeout)
        return answer

    def get_id(self):
        """The first of the two joins, so that several members can then join at once."""
        if self.instance is None and self.version >= 4 and not self.id:
            self.send_join()
            self.take()

    def send_sync(self, assignments=(), version=SYNC, **more):
        body = {
            "GroupId": self.group,
            "GenerationId": self.generation,
            "MemberId": self.id,
            "GroupInstanceId": self.instance,
            "ProtocolType": self.kind,
            "ProtocolName": self.protocols[0][0] if self.protocols else None,
            "Assignments": [{"MemberId": member, "Assignment": held} for member, held in assignments],
        }
        self.connection.send("SyncGroup", version, **{**body, **more})

    def sync(self, assignments=(), version=SYNC, timeout=25, **more):
        self.send_sync(assignments, version, **more)
        return self.reply(timeout)

    def reply(self, timeout=10):
        """The next answer. A connection that a server closed is replaced, so that what is asked next is answered for itself."""
        answer = self.connection.take(timeout)
        if answer == CLOSED:
            self.connection = self.broker.connect()
        return answer

    def heartbeat(self, version=4, **more):
        self.connection.send(
            "Heartbeat",
            version,
            **{"GroupId": self.group, "GenerationId": self.generation, "MemberId": self.id, "GroupInstanceId": self.instance, **more},
        )
        return self.reply()

    def commit(self, topic, offset=1, version=9, partition=0, metadata="", epoch=-1, **more):
        held = {
            "Name": topic,
            "Partitions": [
                {"PartitionIndex": partition, "CommittedOffset": offset, "CommittedLeaderEpoch": epoch, "CommittedMetadata": metadata}
            ],
        }
        self.connection.send(
            "OffsetCommit",
            version,
            **{
                "GroupId": self.group,
                "GenerationIdOrMemberEpoch": self.generation,
                "MemberId": self.id,
                "GroupInstanceId": self.instance,
                "Topics": [held],
                **more,
            },
        )
        return self.reply()

    def leave(self, version=4, **more):
        body = (
            {"GroupId": self.group, "Members": [{"MemberId": self.id, "GroupInstanceId": self.instance, "Reason": None}]}
            if version >= 3
            else {"GroupId": self.group, "MemberId": self.id}
        )
        self.connection.send("LeaveGroup", version, **{**body, **more})
        return self.reply()


def stable(broker, group, *members):
    """The members, joined at once and synced: the first of them leads. Each is assigned b"for N"."""
    for member in members:
        member.get_id()
    for number, member in enumerate(members, 1):
        member.send_join()
        if number < len(members):
            # They are on connections of their own: the next could overtake this one.
            until_members(broker, group, number)
    for member in members:
        answer = member.take()
        if isinstance(answer, str) or answer["ErrorCode"]:
            raise Stopped(f"cannot join {group}: {answer if isinstance(answer, str) else answer['ErrorCode']}")
    synced(members)
    return members[0] if len(members) == 1 else members


def synced(members):
    leader = next((member for member in members if member.answer["Leader"] == member.id), None)
    if leader is None:
        raise Stopped("nobody leads")
    held = [(member.id, f"for {number}".encode()) for number, member in enumerate(members)]
    for member in members:
        member.send_sync(held if member is leader else ())
    for member in members:
        answer = member.connection.take(25)
        if isinstance(answer, str) or answer["ErrorCode"]:
            raise Stopped(f"cannot sync: {answer}")
    return leader


def coordinator(broker, group):
    """Kafka makes its offsets topic for the first group: waited for once."""
    answer = broker.ask_soon("FindCoordinator", 3, Key=group, seconds=20 if broker.server.name == "kafka" else 3)
    if isinstance(answer, str) or answer["ErrorCode"]:
        raise Stopped(f"no coordinator: {answer if isinstance(answer, str) else answer['ErrorCode']}")
    for _ in range(200):
        probe = broker.ask("DescribeGroups", 5, Groups=[group])
        if isinstance(probe, str) or probe["Groups"][0]["ErrorCode"] not in (14, 15, 16):
            return
        time.sleep(0.05)


def state(broker, group):
    answer = broker.ask("DescribeGroups", 5, Groups=[group])
    return answer if isinstance(answer, str) else answer["Groups"][0]["GroupState"]


def until_members(broker, group, count, seconds=2):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answer = broker.ask("DescribeGroups", 5, Groups=[group])
        if isinstance(answer, str) or len(answer["Groups"][0]["Members"]) >= count:
            return
        time.sleep(0.02)


def until_state(broker, group, wanted, seconds=15):
    until = time.monotonic() + seconds
    while state(broker, group) != wanted and time.monotonic() < until:
        time.sleep(0.05)
    return state(broker, group)
