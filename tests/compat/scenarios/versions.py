"""ApiVersions: what is served, and how a version that is not served is refused."""

from scenario import scenario


@scenario("ApiVersions")
def ranges(broker):
    """Which APIs are served, from which version to which."""
    answer = broker.need("ApiVersions", 4, ClientSoftwareName="compat", ClientSoftwareVersion="1")
    served = {one["ApiKey"]: one for one in answer["ApiKeys"]}
    for key, name in sorted(broker.protocol.names.items()):
        one = served.get(key)
        broker.see(name, "absent" if one is None else f"{one['MinVersion']}–{one['MaxVersion']}")


@scenario("ApiVersions")
def error_and_features(broker):
    """The answer's own fields in each version; features decide which transaction protocol a client speaks."""
    for version in broker.versions("ApiVersions"):
        answer = broker.ask("ApiVersions", version, ClientSoftwareName="compat", ClientSoftwareVersion="1")
        if isinstance(answer, dict):
            features = {one["Name"] for one in answer.get("FinalizedFeatures", [])}
            answer = {"ErrorCode": answer["ErrorCode"], "transaction.version is given": "transaction.version" in features}
        broker.see("answer", answer, version)


@scenario("ApiVersions")
def unknown_version(broker):
    """A version of the future is answered in version 0 with error 35 and this API's range."""
    connection = broker.connect()
    connection.write(bytes.fromhex("0012007f00000007ffff00"))
    frame = connection.frame()
    if isinstance(frame, bytes):
        answer = broker.protocol.answer("ApiVersions", 0, frame[4:])
        answer["ApiKeys"] = [one["ApiKey"] for one in answer["ApiKeys"]]
        broker.see("answer", answer)
    else:
        broker.see("answer", frame)
    connection.send("ApiVersions", 0)
    broker.see("the connection goes on", isinstance(connection.take(), dict))


@scenario("ApiVersions")
def software_names(broker):
    """Names out of form are INVALID_REQUEST from version 3 on."""
    for name in ["compat", "a", "Java-1.2.x", "", "-a", "a-", "a b", "ä", "a_b"]:
        answer = broker.ask("ApiVersions", 3, ClientSoftwareName=name, ClientSoftwareVersion="1")
        broker.see(
            f"name {name!r}", answer if isinstance(answer, str) else {"ErrorCode": answer["ErrorCode"], "has keys": bool(answer["ApiKeys"])}
        )


@scenario("ApiVersions")
def misrouted(broker):
    """A cluster id or node of somebody else (version 5, KIP-1242)."""
    for case, body in {"another cluster": {"ClusterId": "somebody-elses-cluster1"}, "another node": {"NodeId": 77}}.items():
        answer = broker.ask("ApiVersions", 5, ClientSoftwareName="compat", ClientSoftwareVersion="1", **body)
        broker.see(case, answer if isinstance(answer, str) else {"ErrorCode": answer["ErrorCode"]})


@scenario("Produce", "Fetch", "Metadata", behaviours=(33,))
def not_served(broker):
    """A version below or above the range, or an API that does not exist, closes the connection."""
    for case, header in {
        "Produce 2": "00000002",
        "Produce 99": "00000063",
        "Fetch 3": "00010003",
        "Metadata 99": "00030063",
        "an API of the future": "03e70000",
        "a negative API": "ffff0000",
    }.items():
        connection = broker.connect()
        connection.write(bytes.fromhex(header + "00000007ffff0000000000000000"))
        broker.see(case, connection.frame(3))


@scenario("ApiVersions", "Metadata", behaviours=(31,))
def headers(broker):
    """A null client id, an empty one, and tags that nobody knows."""
    connection = broker.connect()
    for case, client_id in {"null": None, "empty": "", "not ascii": "ключ"}.items():
        connection.send("Metadata", 12, client_id=client_id, Topics=[])
        answer = connection.take()
        broker.see(f"client id {case}", answer if isinstance(answer, str) else "answers")
    connection.send("Metadata", 12, Topics=[], _tags={77: b"what", 78: b""})
    answer = connection.take()
    broker.see("unknown tags", answer if isinstance(answer, str) else "answers")
    # A tag in the header: the client id is a plain nullable string there, then a tag section.
    connection.write(bytes.fromhex("0003000c0000000900026869014d02abcd") + bytes.fromhex("01000000"))
    frame = connection.frame()
    broker.see("unknown tag in the header", frame if isinstance(frame, str) else "answers")


@scenario("Metadata", "Fetch", behaviours=(33,))
def order_of_answers(broker):
    """Requests sent ahead are answered in their order, a long poll included."""
    name = broker.topic()
    connection = broker.connect()
    connection.send(
        "Fetch",
        12,
        MaxWaitMs=400,
        MinBytes=1,
        MaxBytes=1000,
        Topics=[{"Topic": name, "Partitions": [{"Partition": 0, "PartitionMaxBytes": 1000}]}],
    )
    connection.send("Metadata", 12, Topics=[])
    connection.send("ListOffsets", 7, Topics=[{"Name": name, "Partitions": [{"PartitionIndex": 0, "Timestamp": -1}]}])
    broker.see("first", connection.take())
    answer = connection.take()
    broker.see("second", answer if isinstance(answer, str) else "Metadata")
    broker.see("third", connection.take())


@scenario("Metadata")
def frames(broker):
    """A frame that is too large, negative or cut closes the connection, and only that."""
    for case, data in {
        "a negative size": b"\xff\xff\xff\xff",
        "more than 100 MiB": b"\x7f\xff\xff\xff",
        "an empty frame": b"\0\0\0\0",
        "a body that is cut": b"\0\0\0\x0c\0\x03\0\x09\0\0\0\x01\xff\xff\0\x05",
    }.items():
        connection = broker.connect()
        connection.socket.sendall(data)
        broker.see(case, connection.frame(3))
    broker.see("others go on", isinstance(broker.ask("Metadata", 1, Topics=[]), dict))
