"""Every Kafka message in every version, encoded and decoded by the descriptors that the kafka-clients jar carries (common/message/*.json).

A message is a dict with the descriptors' own names: {"Topics": [{"Name": "a"}]}. What is left out gets its default; what a version does not have
is left out on the wire. Nothing here is Inrush's or shared with it: the descriptors are Kafka's.
"""

import json
import re
import struct
import uuid
import zipfile

NUMBERS = {"int8": ">b", "int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "int64": ">q", "float64": ">d"}
LATEST = 1 << 20


class Malformed(Exception):
    """An answer that its descriptor cannot read, or that goes on after its end."""


def span(text):
    """ "3-5", "3+", "7" or "none" as (first, last)."""
    if text in (None, "none"):
        return 1, 0
    if text.endswith("+"):
        return int(text[:-1]), LATEST
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def holds(versions, version):
    return versions[0] <= version <= versions[1]


class Field:
    def __init__(self, source, structs, flexible):
        self.name = source["name"]
        self.versions = span(source.get("versions", "0+"))
        self.nullable = span(source.get("nullableVersions"))
        self.tagged = span(source.get("taggedVersions"))
        self.tag = source.get("tag")
        self.flexible = span(source["flexibleVersions"]) if "flexibleVersions" in source else flexible
        kind = source["type"]
        self.is_array = kind.startswith("[]")
        self.kind = kind.removeprefix("[]")
        self.fields = None
        if self.kind[0].isupper():
            inner = source.get("fields") or structs[self.kind]
            self.fields = [Field(field, structs, flexible) for field in inner]
        self.fallback = self.read_default(source.get("default"))

    def read_default(self, text):
        if text == "null":
            return None
        if self.is_array:
            return []
        if self.kind in ("string",):
            return text or ""
        if self.kind in ("bytes", "records"):
            return b""
        if self.kind == "uuid":
            return uuid.UUID(int=0)
        if self.kind == "bool":
            return str(text).lower() == "true"
        if self.kind == "float64":
            return float(text or 0)
        if self.kind in NUMBERS:
            return int(str(text), 0) if text not in (None, "") else 0
        return {}


class Message:
    def __init__(self, source):
        self.key = source["apiKey"]
        self.valid = span(source["validVersions"])
        self.unstable = source.get("latestVersionUnstable", False)
        self.flexible = span(source["flexibleVersions"])
        structs = {struct_["name"]: struct_["fields"] for struct_ in source.get("commonStructs", [])}
        self.fields = [Field(field, structs, self.flexible) for field in source["fields"]]


class Writer:
    def __init__(self):
        self.parts = []

    def number(self, kind, value):
        self.parts.append(struct.pack(NUMBERS[kind], value))

    def varint(self, value):
        while value > 127:
            self.parts.append(bytes([value & 127 | 128]))
            value >>= 7
        self.parts.append(bytes([value]))

    def length(self, count, flexible, kind="int32"):
        """count is None for null."""
        if flexible:
            self.varint(0 if count is None else count + 1)
        else:
            self.number(kind, -1 if count is None else count)

    def done(self):
        return b"".join(self.parts)


def write_fields(out, fields, version, flexible, value):
    unknown = set(value) - {field.name for field in fields} - {"_tags"}
    if unknown:
        raise ValueError(f"no such fields: {sorted(unknown)}")
    tags = dict(value.get("_tags", {}))
    for field in fields:
        if not holds(field.versions, version):
            continue
        given = value.get(field.name, field.fallback)
        if field.tag is not None and holds(field.tagged, version):
            if given != field.fallback:
                inner = Writer()
                write_value(inner, field, version, given)
                tags[field.tag] = inner.done()
            continue
        write_value(out, field, version, given)
    if flexible:
        out.varint(len(tags))
        for tag, content in sorted(tags.items()):
            out.varint(tag)
            out.varint(len(content))
            out.parts.append(content)


def write_value(out, field, version, value):
    flexible = holds(field.flexible, version)
    if not field.is_array:
        return write_one(out, field, version, flexible, value)
    out.length(None if value is None else len(value), flexible)
    for one in value or []:
        write_one(out, field, version, flexible, one)


def write_one(out, field, version, flexible, value):
    if field.kind in NUMBERS:
        out.number(field.kind, value)
    elif field.kind == "bool":
        out.number("int8", 1 if value else 0)
    elif field.kind == "uuid":
        out.parts.append(value.bytes)
    elif field.kind in ("string", "bytes", "records"):
        content = value.encode() if isinstance(value, str) else value
        out.length(None if content is None else len(content), flexible, "int16" if field.kind == "string" else "int32")
        out.parts.append(content or b"")
    else:
        if not field.is_array and holds(field.nullable, version):
            out.number("int8", -1 if value is None else 1)
            if value is None:
                return
        write_fields(out, field.fields, version, flexible, value)


class Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        if count < 0 or self.at + count > len(self.data):
            raise Malformed(f"{count} bytes wanted at {self.at} of {len(self.data)}")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, kind):
        return struct.unpack(NUMBERS[kind], self.take(struct.calcsize(NUMBERS[kind])))[0]

    def varint(self):
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise Malformed("a varint is longer than five bytes")

    def length(self, flexible, kind="int32"):
        count = self.varint() - 1 if flexible else self.number(kind)
        return None if count < 0 else count


def read_fields(data, fields, version, flexible):
    value, tagged = {}, {}
    for field in fields:
        if not holds(field.versions, version):
            continue
        if field.tag is not None and holds(field.tagged, version):
            value[field.name] = complete(field, version)
            tagged[field.tag] = field
        else:
            value[field.name] = read_value(data, field, version)
    if flexible:
        for _ in range(data.varint()):
            tag = data.varint()
            inner = Reader(data.take(data.varint()))
            if tag in tagged:
                value[tagged[tag].name] = read_value(inner, tagged[tag], version)
                if inner.at != len(inner.data):
                    raise Malformed(f"tag {tag} goes on after its end")
            else:
                value[f"_tag{tag}"] = inner.data.hex()
    return value


def complete(field, version):
    """The default with every field of a struct filled in, as a reader sees a tag that is not there."""
    if field.fields is None or field.is_array or field.fallback is None:
        return field.fallback
    return {inner.name: complete(inner, version) for inner in field.fields if holds(inner.versions, version)}


def read_value(data, field, version):
    flexible = holds(field.flexible, version)
    if not field.is_array:
        return read_one(data, field, version, flexible)
    count = data.length(flexible)
    if count is None:
        return None
    return [read_one(data, field, version, flexible) for _ in range(count)]


def read_one(data, field, version, flexible):
    if field.kind in NUMBERS:
        return data.number(field.kind)
    if field.kind == "bool":
        return data.number("int8") != 0
    if field.kind == "uuid":
        return uuid.UUID(bytes=data.take(16))
    if field.kind in ("string", "bytes", "records"):
        count = data.length(flexible, "int16" if field.kind == "string" else "int32")
        content = None if count is None else data.take(count)
        return content.decode() if field.kind == "string" and content is not None else content
    if not field.is_array and holds(field.nullable, version) and data.number("int8") < 0:
        return None
    return read_fields(data, field.fields, version, flexible)


class Protocol:
    """The descriptors of one kafka-clients jar."""

    def __init__(self, jar):
        self.requests, self.answers, self.others = {}, {}, {}
        with zipfile.ZipFile(jar) as archive:
            for path in archive.namelist():
                if not re.fullmatch(r"common/message/\w+\.json", path):
                    continue
                text = archive.read(path).decode()
                source = json.loads(re.sub(r'("(?:\\.|[^"\\])*")|//[^\n]*', lambda found: found.group(1) or "", text))
                if source["type"] in ("request", "response"):
                    if source["validVersions"] == "none":
                        continue
                    kinds = self.requests if source["type"] == "request" else self.answers
                    kinds[re.sub(r"(Request|Response)$", "", source["name"])] = Message(source)
                elif source["type"] == "data":
                    self.others[source["name"]] = Message({**source, "apiKey": None})
        self.names = {message.key: name for name, message in self.requests.items()}

    def versions(self, api):
        """The versions that a release broker serves: without an unstable last one."""
        message = self.requests[api]
        return list(range(message.valid[0], message.valid[1] + (0 if message.unstable else 1)))

    def request(self, api, version, correlation, body, client_id="compat"):
        message = self.requests[api]
        flexible = holds(message.flexible, version)
        out = Writer()
        out.parts.append(struct.pack(">hhi", message.key, version, correlation))
        name = None if client_id is None else client_id.encode()
        out.number("int16", -1 if name is None else len(name))
        out.parts.append(name or b"")
        if flexible:
            out.varint(0)
        write_fields(out, message.fields, version, flexible, body)
        return out.done()

    def answer(self, api, version, data):
        """The body of an answer; its correlation id was read before."""
        message = self.answers[api]
        flexible = holds(message.flexible, version)
        reader = Reader(data)
        if flexible and api != "ApiVersions":
            for _ in range(reader.varint()):
                reader.varint()
                reader.take(reader.varint())
        value = read_fields(reader, message.fields, version, flexible)
        if reader.at != len(data):
            raise Malformed(f"{len(data) - reader.at} bytes after the answer's end")
        return value

    def encode(self, name, version, value):
        """A message inside another: ConsumerProtocolSubscription and the like, with their version in front."""
        out = Writer()
        out.number("int16", version)
        write_fields(out, self.others[name].fields, version, holds(self.others[name].flexible, version), value)
        return out.done()
