"""What tools ask of a node besides topics: log folders, reassignments, elections, quorum, quotas, SCRAM users, ACLs, transactions."""

import time

import batches
from groups import coordinator
from scenario import scenario


@scenario("DescribeLogDirs")
def log_dirs(broker):
    """Sizes by partition, in each version; all topics, unknown topics and partitions."""
    name = broker.topic(partitions=2)
    broker.fill(name, "x" * 100)
    for version in broker.versions("DescribeLogDirs"):
        for case, topics in {
            "one partition": [{"Topic": name, "Partitions": [0]}],
            "unknown": [{"Topic": name, "Partitions": [9]}, {"Topic": broker.name("none"), "Partitions": [0]}],
            "all": None,
            "none": [],
        }.items():
            answer = broker.ask("DescribeLogDirs", version, Topics=topics)
            if isinstance(answer, dict):
                for folder in answer["Results"]:
                    for key in ("TotalBytes", "UsableBytes"):
                        if key in folder:
                            folder[key] = "bytes" if folder[key] > 0 else folder[key]
                    folder["Topics"] = [topic for topic in folder["Topics"] if topic["Name"] == name]
                    for topic in folder["Topics"]:
                        topic["Partitions"] = [
                            {**one, "PartitionSize": "bytes" if one["PartitionSize"] > 0 else 0} for one in topic["Partitions"]
                        ]
            broker.see(case, answer, version)


@scenario("ListPartitionReassignments")
def list_reassignments(broker):
    """None go on, whatever is asked for."""
    name = broker.topic()
    for case, topics in {
        "all": None,
        "a topic": [{"Name": name, "PartitionIndexes": [0]}],
        "unknown partition": [{"Name": name, "PartitionIndexes": [9]}],
        "unknown topic": [{"Name": broker.name("none"), "PartitionIndexes": [0]}],
        "none": [],
    }.items():
        broker.see(case, broker.ask("ListPartitionReassignments", 0, TimeoutMs=5000, Topics=topics))


@scenario("AlterPartitionReassignments")
def alter_reassignments(broker):
    """To where it is already, to a stranger, to nobody, cancelled, unknown."""
    name = broker.topic()
    for version in broker.versions("AlterPartitionReassignments"):
        for case, (topic, partition, replicas) in {
            "where it is": (name, 0, [1]),
            "a stranger": (name, 0, [7]),
            "nobody": (name, 0, []),
            "twice": (name, 0, [1, 1]),
            "cancel": (name, 0, None),
            "unknown partition": (name, 9, [1]),
            "unknown topic": (broker.name("none"), 0, [1]),
        }.items():
            broker.see(
                case,
                broker.ask(
                    "AlterPartitionReassignments",
                    version,
                    TimeoutMs=5000,
                    Topics=[{"Name": topic, "Partitions": [{"PartitionIndex": partition, "Replicas": replicas}]}],
                ),
                version,
            )
    broker.see("nothing", broker.ask("AlterPartitionReassignments", 0, TimeoutMs=5000, Topics=[]))


@scenario("ElectLeaders")
def elect_leaders(broker):
    """Preferred and unclean: nothing to elect on one node; unknown partitions; all."""
    name = broker.topic()
    for version in broker.versions("ElectLeaders"):
        for kind in (0, 1) if version else (0,):
            ask = lambda topics: broker.ask("ElectLeaders", version, ElectionType=kind, TimeoutMs=5000, TopicPartitions=topics)
            broker.see(
                f"type {kind}", ask([{"Topic": name, "Partitions": [0, 9]}, {"Topic": broker.name("none"), "Partitions": [0]}]), version
            )
            answer = ask(None)
            broker.see(f"type {kind}, all", answer if isinstance(answer, str) else answer.get("ErrorCode"), version)


@scenario("DescribeQuorum")
def describe_quorum(broker):
    """The one voter."""
    for version in broker.versions("DescribeQuorum"):
        answer = broker.ask("DescribeQuorum", version, Topics=[{"TopicName": "__cluster_metadata", "Partitions": [{"PartitionIndex": 0}]}])
        if isinstance(answer, dict):
            for topic in answer["Topics"]:
                for partition in topic["Partitions"]:
                    partition["HighWatermark"] = partition["LeaderEpoch"] = "some"
                    partition["CurrentVoters"] = [one["ReplicaId"] for one in partition["CurrentVoters"]]
            answer.pop("Nodes", None)
        broker.see("answer", answer, version)
        broker.see(
            "another topic",
            broker.ask("DescribeQuorum", version, Topics=[{"TopicName": "x", "Partitions": [{"PartitionIndex": 0}]}]),
            version,
        )


def quota(entity, operations, version=1, **more):
    return {
        "Entries": [
            {
                "Entity": [{"EntityType": kind, "EntityName": name} for kind, name in entity],
                "Ops": [{"Key": key, "Value": value or 0.0, "Remove": value is None} for key, value in operations.items()],
            }
        ],
        **more,
    }


def filtered(answer, own):
    if isinstance(answer, dict) and answer.get("Entries"):
        answer["Entries"] = sorted(
            (one for one in answer["Entries"] if any(str(held["EntityName"]).startswith(own) for held in one["Entity"])), key=str
        )
    return answer


@scenario("AlterClientQuotas", "DescribeClientQuotas")
def quotas(broker):
    """Set for a client, described by filters, removed; mistakes."""
    own = broker.name("client")
    match = lambda kind, how, name=None: {"EntityType": kind, "MatchType": how, "Match": name}
    for version in broker.versions("AlterClientQuotas"):
        alter = lambda *args, **more: broker.ask("AlterClientQuotas", version, **quota(*args, **more))
        describe = lambda *components, strict=False: filtered(
            broker.ask("DescribeClientQuotas", version, Components=list(components), Strict=strict), own
        )
        broker.see("only validated", alter([("client-id", own)], {"producer_byte_rate": 1000.0}, ValidateOnly=True), version)
        broker.see("set", alter([("client-id", own)], {"producer_byte_rate": 1e6, "consumer_byte_rate": 2e6}), version)
        wait_until(
            lambda: describe(match("client-id", 0, own)), lambda answer: isinstance(answer, str) or len(answer["Entries"] or []) == 1
        )
        broker.see("exact", describe(match("client-id", 0, own)), version)
        broker.see("exact, strict", describe(match("client-id", 0, own), strict=True), version)
        broker.see("any client", describe(match("client-id", 2)), version)
        broker.see("default client", describe(match("client-id", 1)), version)
        broker.see("unknown match", describe(match("client-id", 9)), version)
        broker.see("unknown entity", describe(match("planet", 0, "x")), version)
        broker.see("remove", alter([("client-id", own)], {"producer_byte_rate": None, "consumer_byte_rate": None}), version)
        broker.see("negative", alter([("client-id", own)], {"producer_byte_rate": -1.0}), version)
        broker.see("unknown key", alter([("client-id", own)], {"no_such_rate": 1.0}), version)
        broker.see("no entity", alter([], {"producer_byte_rate": 1.0}), version)
        broker.see("an entity of the future", alter([("planet", own)], {"producer_byte_rate": 1.0}), version)
        broker.see("empty name", alter([("client-id", "")], {"producer_byte_rate": 1.0}), version)
        wait_until(lambda: describe(match("client-id", 0, own)), lambda answer: isinstance(answer, str) or not answer["Entries"])


@scenario("AlterClientQuotas", "DescribeClientQuotas")
def quotas_of_users(broker):
    """For a user, for a user's client, for an address; shares of CPU and changes a second."""
    own = broker.name("who")
    for case, entity, key in [
        ("user", [("user", own)], "producer_byte_rate"),
        ("user and client", [("user", own), ("client-id", own)], "producer_byte_rate"),
        ("address", [("ip", "127.0.0.9")], "connection_creation_rate"),
        ("share of CPU", [("client-id", own)], "request_percentage"),
        ("changes a second", [("client-id", own)], "controller_mutation_rate"),
        ("default client", [("client-id", None)], "consumer_byte_rate"),
    ]:
        broker.see(f"{case}: set", broker.ask("AlterClientQuotas", 1, **quota(entity, {key: 1e9})))
        match = [{"EntityType": kind, "MatchType": 1 if name is None else 0, "Match": name} for kind, name in entity]
        describe = lambda: broker.ask("DescribeClientQuotas", 1, Components=match, Strict=True)
        wait_until(describe, lambda answer: isinstance(answer, str) or answer["Entries"])
        broker.see(f"{case}: described", describe())
        broker.see(f"{case}: removed", broker.ask("AlterClientQuotas", 1, **quota(entity, {key: None})))


def wait_until(ask, done):
    for _ in range(60):
        if done(ask()):
            return
        time.sleep(0.03)


@scenario("Produce", "Fetch", "AlterClientQuotas", behaviours=(34,))
def throttle(broker):
    """Over its quota a producer is answered first, told how long, and then kept waiting; so is a consumer."""
    name = broker.topic()
    client = broker.name("busy")
    answer = broker.ask(
        "AlterClientQuotas", 1, **quota([("client-id", client)], {"producer_byte_rate": 20_000.0, "consumer_byte_rate": 20_000.0})
    )
    broker.see("quota set", answer)
    time.sleep(0.5)
    connection = broker.connect()
    body = {
        "Acks": -1,
        "TimeoutMs": 5000,
        "TopicData": [{"Name": name, "PartitionData": [{"Index": 0, "Records": batches.batch([b"x" * 300_000])}]}],
    }
    began = time.monotonic()
    connection.send("Produce", 9, client_id=client, **body)
    answer = connection.take()
    broker.see("answered first", time.monotonic() - began < 1.0)
    broker.see("told how long", isinstance(answer, dict) and answer["ThrottleTimeMs"] > 1000)
    connection.send("Metadata", 12, client_id=client, Topics=[])
    began = time.monotonic()
    answer = connection.take(3)
    broker.see("then kept waiting", time.monotonic() - began > 0.8)


@scenario("DescribeUserScramCredentials", "AlterUserScramCredentials", behaviours=(38,))
def scram_users(broker):
    """Several mechanisms a user; described, deleted; unknown users; too few iterations."""
    user = broker.name("user")
    one = lambda mechanism, iterations=4096: {
        "Name": user,
        "Mechanism": mechanism,
        "Iterations": iterations,
        "Salt": b"salt",
        "SaltedPassword": b"password",
    }
    alter = lambda made=(), deleted=(): broker.ask("AlterUserScramCredentials", 0, Upsertions=list(made), Deletions=list(deleted))
    describe = lambda: broker.ask("DescribeUserScramCredentials", 0, Users=[{"Name": user}])
    broker.see("unknown", describe())
    broker.see("SHA-256", alter([one(1)]))
    broker.see("SHA-512", alter([one(2, 8192)]))
    wait_until(describe, lambda answer: isinstance(answer, str) or len(answer["Results"][0]["CredentialInfos"]) == 2)
    answer = describe()
    broker.see(
        "described",
        answer
        if isinstance(answer, str)
        else sorted([held["Mechanism"], held["Iterations"]] for held in answer["Results"][0]["CredentialInfos"]),
    )
    broker.see("too few iterations", alter([one(1, 10)]))
    broker.see("mechanism of the future", alter([one(9)]))
    broker.see("delete", alter(deleted=[{"Name": user, "Mechanism": 1}, {"Name": user, "Mechanism": 2}]))
    broker.see("delete again", alter(deleted=[{"Name": user, "Mechanism": 1}]))


@scenario("DescribeAcls", "CreateAcls", "DeleteAcls")
def acls(broker):
    """Without an authorizer: security is disabled."""
    for version in broker.versions("DescribeAcls"):
        broker.see(
            "describe",
            broker.ask(
                "DescribeAcls",
                version,
                ResourceTypeFilter=1,
                PatternTypeFilter=1,
                Operation=1,
                PermissionType=1,
                ResourceNameFilter=None,
                PrincipalFilter=None,
                HostFilter=None,
            ),
            version,
        )
        broker.see(
            "create",
            broker.ask(
                "CreateAcls",
                version,
                Creations=[
                    {
                        "ResourceType": 2,
                        "ResourceName": "x",
                        "ResourcePatternType": 3,
                        "Principal": "User:a",
                        "Host": "*",
                        "Operation": 3,
                        "PermissionType": 3,
                    }
                ],
            ),
            version,
        )
        broker.see(
            "delete",
            broker.ask(
                "DeleteAcls",
                version,
                Filters=[
                    {
                        "ResourceTypeFilter": 2,
                        "ResourceNameFilter": "x",
                        "PatternTypeFilter": 3,
                        "PrincipalFilter": None,
                        "HostFilter": None,
                        "Operation": 1,
                        "PermissionType": 1,
                    }
                ],
            ),
            version,
        )


@scenario("SaslHandshake")
def sasl(broker):
    """On a listener without SASL."""
    for version in broker.versions("SaslHandshake"):
        broker.see("handshake", broker.ask("SaslHandshake", version, Mechanism="PLAIN", timeout=3), version)


@scenario("AddPartitionsToTxn", "EndTxn", "DescribeTransactions", "ListTransactions", behaviours=(22, 23))
def transactions(broker):
    """One transaction from begin to commit, EndTxn again, and one that is aborted."""
    name, txn = broker.topic(), broker.name("txn")
    broker.see("coordinator", broker.ask_soon("FindCoordinator", 3, Key=txn, KeyType=1))
    begun = broker.ask_soon("InitProducerId", 4, TransactionalId=txn, TransactionTimeoutMs=30_000)
    broker.see("init", begun)
    if isinstance(begun, str) or begun["ErrorCode"]:
        return
    pid, epoch, sequence = begun["ProducerId"], begun["ProducerEpoch"], 0
    for case, committed in (("commit", True), ("abort", False)):
        added = broker.ask_soon(
            "AddPartitionsToTxn",
            3,
            V3AndBelowTransactionalId=txn,
            V3AndBelowProducerId=pid,
            V3AndBelowProducerEpoch=epoch,
            V3AndBelowTopics=[{"Name": name, "Partitions": [0]}],
        )
        broker.see(f"{case}: added", added)
        broker.see(
            f"{case}: produced",
            broker.produce(name, batches.batch([case.encode()], producer=(pid, epoch, sequence), transactional=True), TransactionalId=txn),
        )
        sequence += 1
        broker.see(f"{case}: latest before it ends, read committed", broker.list_offset(name, -1, IsolationLevel=1))
        end = lambda: broker.ask_soon("EndTxn", 3, TransactionalId=txn, ProducerId=pid, ProducerEpoch=epoch, Committed=committed)
        broker.see(f"{case}: end", end())
        broker.see(f"{case}: end again", end())
    wait_until(lambda: broker.list_offset(name, -1, IsolationLevel=1), lambda answer: answer["Offset"] == 4)
    broker.see("read committed", broker.fetch(name, IsolationLevel=1))
    broker.see("read uncommitted", broker.fetch(name))


@scenario("UpdateFeatures")
def features(broker):
    """Features by name: unknown ones."""
    broker.see(
        "unknown feature",
        broker.ask(
            "UpdateFeatures", 2, FeatureUpdates=[{"Feature": "no.such.feature", "MaxVersionLevel": 3, "UpgradeType": 1}], ValidateOnly=True
        ),
    )


@scenario("AddOffsetsToTxn", "TxnOffsetCommit", "OffsetFetch", behaviours=(24,))
def transactional_offsets(broker):
    """Offsets of a transaction that goes on: unstable to who asks for stable ones, not there for others; there after the commit."""
    topic, group, txn = broker.topic(), broker.name("group"), broker.name("txn")
    coordinator(broker, group)
    broker.ask_soon("FindCoordinator", 3, Key=txn, KeyType=1)
    begun = broker.ask_soon("InitProducerId", 4, TransactionalId=txn, TransactionTimeoutMs=30_000)
    broker.see("init", begun)
    if isinstance(begun, str) or begun["ErrorCode"]:
        return
    who = {"TransactionalId": txn, "ProducerId": begun["ProducerId"], "ProducerEpoch": begun["ProducerEpoch"]}
    broker.see("added", broker.ask_soon("AddOffsetsToTxn", 3, **who, GroupId=group))
    broker.see(
        "committed in it",
        broker.ask_soon(
            "TxnOffsetCommit",
            3,
            **who,
            GroupId=group,
            Topics=[{"Name": topic, "Partitions": [{"PartitionIndex": 0, "CommittedOffset": 9, "CommittedMetadata": "m"}]}],
        ),
    )
    fetch = lambda stable: broker.ask(
        "OffsetFetch", 7, GroupId=group, Topics=[{"Name": topic, "PartitionIndexes": [0]}], RequireStable=stable
    )
    broker.see("stable ones", fetch(True))
    broker.see("others", fetch(False))
    broker.see("end", broker.ask_soon("EndTxn", 3, **who, Committed=True))
    wait_until(lambda: fetch(True), lambda answer: answer["Topics"][0]["Partitions"][0]["CommittedOffset"] == 9)
    broker.see("after it", fetch(True))
