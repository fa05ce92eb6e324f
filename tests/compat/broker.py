"""What a scenario talks to: one server (Kafka or Inrush) over sockets of its own, and the normal form of what it answered.

The normal form hides what must differ between two servers (ids, hosts, ports, wall-clock times, epochs' values, throttle, texts of errors) and
keeps what a client acts on: error codes by name, offsets, counts, records, null or not, and the same id being the same id.
"""

import contextlib
import re
import socket
import struct
import time
import uuid

import batches
import errors

from wire import Malformed

# What a connection can do instead of answering. Answers are dicts, these are strings; both can be seen and compared.
CLOSED, SILENT = "closes the connection", "does not answer"
ZERO = uuid.UUID(int=0)
# Lists of structs are compared by the first of these that their structs have, so that order does not count where no client looks at it.
KEYS = (
    "Name",
    "TopicName",
    "Topic",
    "TopicId",
    "ResourceName",
    "GroupId",
    "Key",
    "ApiKey",
    "PartitionIndex",
    "PartitionId",
    "Partition",
    "Index",
    "MemberId",
    "NodeId",
    "BrokerId",
    "ReplicaId",
    "ProducerId",
    "LogDir",
    "EntityType",
    "BatchIndex",
)
HIDDEN = {"ThrottleTimeMs", "ErrorMessage"}
TEXTS = {"BatchIndexErrorMessage"}
PLACES = {"Host": "host", "ClientHost": "host", "LogDir": "folder", "ClusterId": "cluster"}
EPOCHS = {"LeaderEpoch", "CurrentLeaderEpoch", "CommittedLeaderEpoch"}


def first_code(answer):
    """The answer's own error, or that of its first coordinator or group."""
    for held in (answer, *answer.get("Coordinators", []), *answer.get("Groups", [])):
        if "ErrorCode" in held:
            return held["ErrorCode"]
    return 0


def in_order(structs):
    key = next((key for key in KEYS if all(key in one for one in structs)), None)
    return (
        structs
        if key is None
        else sorted(structs, key=lambda one: (str(type(one[key])), one[key] if isinstance(one[key], int) else str(one[key])))
    )


def merged(structs, key):
    """One entry a topic: Kafka names a topic twice when some of its partitions have errors, and every client takes that as one."""
    if key is None or not all(isinstance(one.get("Partitions"), list) for one in structs):
        return structs
    found = {}
    for one in structs:
        if one[key] in found and {**one, "Partitions": 0} == {**found[one[key]], "Partitions": 0}:
            found[one[key]]["Partitions"] = in_order(found[one[key]]["Partitions"] + one["Partitions"])
        else:
            found[one[key] if one[key] not in found else f"{one[key]}#{len(found)}"] = {**one}
    return list(found.values())


class Stopped(Exception):
    """A scenario cannot go on: what it needs first did not work."""


class Server:
    def __init__(self, name, host, port, protocol):
        self.name, self.host, self.port, self.protocol = name, host, port, protocol


class Connection:
    """One socket. Requests may be sent ahead; answers are taken in order."""

    def __init__(self, server):
        self.server, self.correlation, self.sent = server, 0, []
        self.socket = socket.create_connection((server.host, server.port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, api, version, client_id="compat", **body):
        self.correlation += 1
        self.write(self.server.protocol.request(api, version, self.correlation, body, client_id))
        self.sent.append((api, version, self.correlation))

    def write(self, data):
        try:
            self.socket.sendall(struct.pack(">i", len(data)) + data)
        except OSError:
            pass  # a closed connection is seen by who takes the answer

    def exactly(self, size, until):
        data = b""
        while len(data) < size:
            self.socket.settimeout(max(0.001, until - time.monotonic()))
            part = self.socket.recv(min(size - len(data), 1 << 20))
            if not part:
                raise ConnectionError
            data += part
        return data

    def frame(self, timeout=10):
        """The next answer's bytes with its correlation id in front, or how there was none."""
        until = time.monotonic() + timeout
        try:
            (size,) = struct.unpack(">i", self.exactly(4, until))
            return self.exactly(size, until)
        except TimeoutError:
            return SILENT
        except OSError:
            return CLOSED

    def take(self, timeout=10):
        api, version, correlation = self.sent.pop(0)
        frame = self.frame(timeout)
        if isinstance(frame, str):
            return frame
        if struct.unpack(">i", frame[:4])[0] != correlation:
            return "answers another request"
        try:
            return self.server.protocol.answer(api, version, frame[4:])
        except Malformed as error:
            # ApiVersions alone may be answered in version 0, with error 35.
            return (
                self.server.protocol.answer(api, 0, frame[4:])
                if api == "ApiVersions" and frame[4:6] == b"\0\x23"
                else f"malformed: {error}"
            )

    def close(self):
        self.socket.close()


class Broker:
    """One server as one scenario sees it. `ask` gives a raw answer, `see` keeps its normal form for the comparison."""

    def __init__(self, server, scope):
        self.server, self.protocol, self.scope = server, server.protocol, scope
        self.connection, self.opened = None, []
        self.seen, self.topic_names, self.members, self.producers, self.epoch = {}, {}, {}, set(), None

    # Asking

    def versions(self, api, first=0):
        return [version for version in self.protocol.versions(api) if version >= first]

    def connect(self):
        connection = Connection(self.server)
        self.opened.append(connection)
        return connection

    def ask(self, api, version=None, timeout=10, **body):
        """One request on the scenario's own connection; without a version, the highest that Kafka serves."""
        if self.connection is None:
            self.connection = self.connect()
        version = self.versions(api)[-1] if version is None else version
        self.connection.send(api, version, **body)
        answer = self.connection.take(timeout)
        if isinstance(answer, str):
            self.connection.close()
            self.connection = None
        return answer

    def ask_soon(self, api, version, retried=(14, 15, 16, 51), seconds=6, **body):
        """As `ask`, with the errors retried that a coordinator gives until it is ready."""
        until = time.monotonic() + seconds
        while True:
            answer = self.ask(api, version, **body)
            code = answer if isinstance(answer, str) else first_code(answer)
            if code not in retried or time.monotonic() > until:
                return answer
            time.sleep(0.05)

    def need(self, api, version=None, **body):
        """As `ask`, where the scenario cannot go on without an answer."""
        answer = self.ask(api, version, **body)
        if isinstance(answer, str):
            raise Stopped(f"{api} {version}: {answer}")
        return answer

    def close(self):
        for connection in self.opened:
            connection.close()
        self.connection, self.opened = None, []

    # Preparing

    def name(self, suffix=""):
        return f"{self.scope}{'-' + suffix if suffix else ''}"

    def topic(self, suffix="", partitions=1, configs=None):
        """A new topic with a leader; its id and epoch are known from then on."""
        name = self.name(suffix)
        held = [{"Name": key, "Value": value} for key, value in (configs or {}).items()]
        topic = {"Name": name, "NumPartitions": partitions, "ReplicationFactor": 1, "Configs": held}
        made = self.need("CreateTopics", 7, Topics=[topic], timeoutMs=10_000)["Topics"][0]
        if made["ErrorCode"] != 0:
            raise Stopped(f"topic {name} is not made: {errors.name(made['ErrorCode'])} {made['ErrorMessage']}")
        self.until_led(name, partitions)
        return name

    def until_led(self, name, partitions=1):
        """Kafka tells of a new topic a moment after it has answered."""
        for _ in range(500):
            answer = self.need("Metadata", 12, Topics=[{"Name": name}], AllowAutoTopicCreation=False)["Topics"][0]
            led = [one for one in answer["Partitions"] if one["ErrorCode"] == 0 and one["LeaderId"] >= 0]
            if answer["ErrorCode"] == 0 and len(led) == partitions:
                self.topic_names[answer["TopicId"]] = name
                self.epoch = led[0]["LeaderEpoch"]
                if self.all_answer(name, partitions):
                    return answer["TopicId"]
            time.sleep(0.02)
        raise Stopped(f"topic {name} has no leader")

    def all_answer(self, name, partitions):
        asked = [{"PartitionIndex": one, "Timestamp": -1} for one in range(partitions)]
        answer = self.need("ListOffsets", 4, Topics=[{"Name": name, "Partitions": asked}])
        return all(one["ErrorCode"] == 0 for one in answer["Topics"][0]["Partitions"])

    def topic_id(self, name):
        return next(key for key, value in self.topic_names.items() if value == name)

    def produce(self, topic, data, partition=0, version=9, acks=-1, **more):
        """The answer for one partition; `data` are the bytes of its batches."""
        answer = self.ask(
            "Produce",
            version,
            Acks=acks,
            TimeoutMs=10_000,
            TopicData=[
                {
                    "Name": topic,
                    "TopicId": self.topic_id(topic) if version >= 13 else ZERO,
                    "PartitionData": [{"Index": partition, "Records": data}],
                }
            ],
            **more,
        )
        return answer if isinstance(answer, str) else answer["Responses"][0]["PartitionResponses"][0]

    def produce_soon(self, topic, data, partition=0, version=9):
        """As `produce`, with the errors retried that a client retries right after a topic was made."""
        for _ in range(200):
            answer = self.produce(topic, data, partition, version)
            if isinstance(answer, str) or answer["ErrorCode"] not in (3, 5, 6):
                break
            time.sleep(0.02)
        return answer

    def fill(self, topic, *values, partition=0, timestamps=None, codec="none", **more):
        """One batch a call, which must be taken. Gives its first offset."""
        values = [value.encode() if isinstance(value, str) else value for value in values]
        answer = self.produce_soon(topic, batches.batch(values, timestamps=timestamps, codec=codec, **more), partition)
        if isinstance(answer, str) or answer["ErrorCode"] != 0:
            raise Stopped(f"cannot fill {topic}: {answer}")
        return answer["BaseOffset"]

    def fetch(self, topic, offset=0, partition=0, version=12, max_wait=0, min_bytes=1, max_bytes=1 << 25, partition_max=1 << 20, **more):
        """The answer for one partition."""
        asked = {"Partition": partition, "FetchOffset": offset, "PartitionMaxBytes": partition_max, **more.pop("inner", {})}
        named = {"Topic": topic, "TopicId": self.topic_id(topic) if version >= 13 else ZERO, "Partitions": [asked]}
        answer = self.ask("Fetch", version, MaxWaitMs=max_wait, MinBytes=min_bytes, MaxBytes=max_bytes, Topics=[named], **more)
        if isinstance(answer, str) or not answer["Responses"]:
            return answer
        return answer["Responses"][0]["Partitions"][0]

    def list_offset(self, topic, timestamp, partition=0, version=7, **more):
        asked = {"PartitionIndex": partition, "Timestamp": timestamp, **more.pop("inner", {})}
        answer = self.ask("ListOffsets", version, Topics=[{"Name": topic, "Partitions": [asked]}], **more)
        return answer if isinstance(answer, str) else answer["Topics"][0]["Partitions"][0]

    @contextlib.contextmanager
    def part(self, case):
        """A part of a scenario that may stop without the others."""
        why = "yes"
        try:
            yield
        except Stopped as stopped:
            why = str(stopped)
        self.see(f"{case}: goes on", why)

    # Seeing

    def see(self, case, value, version=None):
        """Keeps the normal form of `value` under a name, and by version where a case runs in several."""
        place = self.seen.setdefault(case, {})
        key = "" if version is None else f"v{version}"
        assert key not in place, f"{case} {key} is seen twice"
        place[key] = self.normal(value)

    def normal(self, value, field=None):
        if field == "AbortedTransactions" and value is None:
            return []  # null and empty are one to every client
        if isinstance(value, dict):
            if "BaseOffset" in value and value.get("ErrorCode"):
                value = {
                    key: one for key, one in value.items() if key != "LogStartOffset"
                }  # read only with UNKNOWN_PRODUCER_ID, which Kafka 4 never gives
            return {key: self.normal(one, key) for key, one in value.items() if key not in HIDDEN}
        if isinstance(value, (list, tuple)):
            return self.normal_list([self.normal(one, field) for one in value])
        if field in TEXTS:
            return "text" if value else value
        if field == "ErrorCode":
            return errors.name(value)
        if field == "Records":
            return [self.normal_batch(one) for one in batches.read(value)]
        if isinstance(value, bytes):
            return batches.text(value)
        if isinstance(value, uuid.UUID):
            return "zero" if value == ZERO else f"id of {self.normal(self.topic_names[value])}" if value in self.topic_names else "some id"
        if field in PLACES:
            return value if value in (None, "") else PLACES[field]
        return self.normal_number(value, field)

    def normal_number(self, value, field):
        if isinstance(value, str) and value.startswith(self.scope):
            return re.sub(r"-v\d+$", "-v*", value.replace(self.scope, "own", 1))
        if field == "Port":
            return value if value <= 0 else "port"
        if field in EPOCHS:
            return "current" if value == self.epoch and value is not None else value
        if field == "Timestamp" and abs(value - batches.T) < 3_000_000:
            return f"T{value - batches.T:+d}" if value != batches.T else "T"
        if field == "LogAppendTimeMs":
            return value if value < 0 else "now"
        if field == "SessionId":
            return value if value == 0 else "some id"
        if field == "ProducerId":
            if value < 0:
                return value
            is_new, _ = value not in self.producers, self.producers.add(value)
            return "a new id" if is_new else "an id from before"
        if field in ("MemberId", "Leader") and isinstance(value, str):
            return value if value == "" or value.startswith("no-") else self.members.setdefault(value, f"member {len(self.members) + 1}")
        return value

    def normal_list(self, values):
        if not values or not all(isinstance(one, dict) for one in values):
            return values
        key = next((key for key in KEYS if all(key in one for one in values)), None)
        values = merged(values, key)
        return in_order(values)

    @staticmethod
    def normal_batch(one):
        """Bounds and content. The codec is left out: a server may compress what came uncompressed; scenarios that are about codecs see it themselves."""
        return {
            "bounds": [one["base"], one["last"]],
            "crc": one["crc"],
            "magic": one["magic"],
            "records": [
                [record["offset"], record["key"], record["value"]] + ([record["headers"]] if "headers" in record else [])
                for record in one["records"]
            ],
        }
