"""Record batches v2: built with any field wrong that a scenario wants wrong, and read back from a fetch answer."""

import struct
import time

import cramjam
import lz4.frame

HEADER = ">qiibIhiqqqhii"
HEADER_SIZE = struct.calcsize(HEADER)
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
TABLE = []
for number in range(256):
    for _ in range(8):
        number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
    TABLE.append(number)


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = TABLE[(value ^ byte) & 255] ^ value >> 8
    return value ^ 0xFFFFFFFF


def zigzag(value):
    value = value << 1 ^ value >> 63
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def record(offset_delta, value, key=None, timestamp_delta=0, headers=()):
    out = b"\0" + zigzag(timestamp_delta) + zigzag(offset_delta)
    for part in (key, value):
        out += zigzag(-1) if part is None else zigzag(len(part)) + part
    out += zigzag(len(headers))
    for name, content in headers:
        out += zigzag(len(name)) + name + (zigzag(-1) if content is None else zigzag(len(content)) + content)
    return zigzag(len(out)) + out


def snappy_by_xerial(data):
    block = bytes(cramjam.snappy.compress_raw(data))
    return b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1) + struct.pack(">i", len(block)) + block


COMPRESS = {
    "none": bytes,
    "gzip": lambda data: bytes(cramjam.gzip.compress(data)),
    "snappy": snappy_by_xerial,
    "lz4": lambda data: lz4.frame.compress(data, block_linked=False),
    "zstd": lambda data: bytes(cramjam.zstd.compress(data)),
}


def unsnappy(data):
    if not data.startswith(b"\x82SNAPPY\0"):
        return bytes(cramjam.snappy.decompress_raw(data))
    at, out = 16, b""
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        out += bytes(cramjam.snappy.decompress_raw(data[at + 4 : at + 4 + size]))
        at += 4 + size
    return out


DECOMPRESS = {
    "none": bytes,
    "gzip": lambda data: bytes(cramjam.gzip.decompress(data)),
    "snappy": unsnappy,
    "lz4": lz4.frame.decompress,
    "zstd": lambda data: bytes(cramjam.zstd.decompress(data)),
}


def now_ms():
    return int(time.time() * 1000)


# A time near now (retention deletes what is old), shown as T in the comparison.
T = now_ms() - 3_600_000


def batch(values, *, codec="none", timestamps=None, keys=None, headers=None, producer=(-1, -1, -1), transactional=False, wrong=None):
    """values: one record each (None is a tombstone). timestamps: milliseconds, one each. producer: id, epoch, first sequence.

    wrong: fields that replace the right ones: base_offset, epoch, magic, crc, attributes, last_delta, base_ts, max_ts, count, records (bytes),
    deltas (offset deltas of the records), size.
    """
    wrong = wrong or {}
    timestamps = timestamps or [now_ms()] * len(values)
    keys = keys or [None] * len(values)
    deltas = wrong.get("deltas", range(len(values)))
    base = timestamps[0] if timestamps else -1
    headers = headers or [()] * len(values)
    body = b"".join(
        record(delta, value, key, timestamp - base, held)
        for delta, value, key, timestamp, held in zip(deltas, values, keys, timestamps, headers)
    )
    body = wrong.get("records", COMPRESS[codec](body))
    attributes = wrong.get("attributes", CODECS.index(codec) | (16 if transactional else 0))
    covered = struct.pack(
        ">hiqqqhii",
        attributes,
        wrong.get("last_delta", len(values) - 1),
        wrong.get("base_ts", base),
        wrong.get("max_ts", max(timestamps, default=-1)),
        *producer,
        wrong.get("count", len(values)),
    )
    covered += body
    crc = wrong.get("crc", crc32c(covered))
    head = struct.pack(">iBI", wrong.get("epoch", -1), wrong.get("magic", 2), crc)
    return struct.pack(">qi", wrong.get("base_offset", 0), wrong.get("size", len(head) + len(covered))) + head + covered


def old_message_set(value, magic):
    """One message of format 0 or 1."""
    import zlib

    inner = struct.pack(">bb", magic, 0) + (struct.pack(">q", now_ms()) if magic else b"") + struct.pack(">ii", -1, len(value)) + value
    whole = struct.pack(">I", zlib.crc32(inner)) + inner
    return struct.pack(">qi", 0, len(whole)) + whole


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def varint(self):
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value >> 1 ^ -(value & 1)

    def bytes(self):
        size = self.varint()
        if size < 0:
            return None
        self.at += size
        return self.data[self.at - size : self.at]


def text(data):
    """Readable, short, and the same for the same bytes."""
    if data is None:
        return None
    shown = data if len(data) <= 64 else data[:16]
    words = shown.decode("utf-8", "backslashreplace")
    words = words if words.isprintable() else "0x" + shown.hex()
    return words if shown is data else f"{words}… {len(data)} bytes, {crc32c(data[:65_536]):08x}"


def read_records(body, base_offset, base_ts, count):
    cursor, records = Cursor(body), []
    for _ in range(count):
        cursor.varint()
        cursor.at += 1
        timestamp, offset = base_ts + cursor.varint(), base_offset + cursor.varint()
        key, value = cursor.bytes(), cursor.bytes()
        headers = [[text(cursor.bytes()), text(cursor.bytes())] for _ in range(cursor.varint())]
        held = {"offset": offset, "timestamp": timestamp, "key": text(key), "value": text(value)}
        records.append({**held, "headers": headers} if headers else held)
    return records


def read(data):
    """The whole batches of a fetch answer; a cut one at the end is left out, as every client does."""
    found, at = [], 0
    while data and at + HEADER_SIZE <= len(data):
        base, size, epoch, magic, crc, attributes, last_delta, base_ts, max_ts, pid, pepoch, sequence, count = struct.unpack_from(
            HEADER, data, at
        )
        if at + 12 + size > len(data):
            break
        covered = data[at + 21 : at + 12 + size]
        codec = CODECS[attributes & 7]
        one = {
            "base": base,
            "last": base + last_delta,
            "epoch": epoch,
            "magic": magic,
            "crc": crc == crc32c(covered),
            "codec": codec,
            "append_time": bool(attributes & 8),
            "transactional": bool(attributes & 16),
            "control": bool(attributes & 32),
            "base_ts": base_ts,
            "max_ts": max_ts,
            "producer_id": pid,
            "producer_epoch": pepoch,
            "sequence": sequence,
            "count": count,
        }
        one["records"] = read_records(DECOMPRESS[codec](data[at + HEADER_SIZE : at + 12 + size]), base, base_ts, count)
        found.append(one)
        at += 12 + size
    return found
