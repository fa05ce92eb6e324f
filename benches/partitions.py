"""The rounds of benches/partitions.sh, over the Kafka door: a client of its own, so that nothing but the daemon is measured."""

import argparse
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).parent.parent
PRODUCE, FETCH, LIST_OFFSETS, METADATA, CREATE_TOPICS = 0, 1, 2, 3, 19
TICKS = os.sysconf("SC_CLK_TCK")


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def batch():
    """A record batch v2 of one record of 100 bytes."""
    value = b"x" * 100
    varint = lambda n: bytes([n << 1 & 0x7F | 0x80, n << 1 >> 7]) if n > 63 else bytes([n << 1])  # noqa: E731
    record = b"\0\0\0" + b"\1" + varint(len(value)) + value + b"\0"
    body = struct.pack(">hiqqqhii", 0, 0, 1_700_000_000_000, 1_700_000_000_000, -1, -1, -1, 1) + varint(len(record)) + record
    return struct.pack(">qiibI", 0, len(body) + 9, -1, 2, crc32c(body)) + body


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def array(items):
    items = list(items)
    return struct.pack(">i", len(items)) + b"".join(items)


class Client:
    """One connection; requests in versions before the compact ones."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, api, version, body):
        frame = struct.pack(">hhi", api, version, 1) + text("bench") + body
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)
        return self.read(struct.unpack(">i", self.read(4))[0])[4:]

    def read(self, count):
        data = bytearray()
        while len(data) < count:
            piece = self.socket.recv(min(count - len(data), 1 << 20))
            if not piece:
                raise ConnectionError("the daemon closed the connection")
            data += piece
        return bytes(data)

    def create(self, topics, partitions):
        for name in topics:
            body = array([text(name) + struct.pack(">ihii", partitions, 1, 0, 0)]) + struct.pack(">i?", 300_000, False)
            answer = self.ask(CREATE_TOPICS, 2, body)
            code = struct.unpack(">h", answer[8 + 2 + len(name) :][:2])[0]
            assert code == 0, f"{name} was not made: error {code}"

    def produce(self, topics, partitions):
        """A record to each partition of these topics in one request."""
        part = lambda n: struct.pack(">ii", n, len(BATCH)) + BATCH  # noqa: E731
        body = array(text(name) + array(map(part, partitions)) for name in topics)
        answer = self.ask(PRODUCE, 3, struct.pack(">hhi", -1, -1, 60_000) + body)
        at = 4
        for name in topics:
            at += 2 + len(name) + 4
            for _ in partitions:
                index, code = struct.unpack_from(">ih", answer, at)
                assert code == 0, f"{name}/{index} took no record: error {code}"
                at += 4 + 2 + 8 + 8

    def metadata(self):
        return len(self.ask(METADATA, 1, struct.pack(">i", -1)))

    def offsets(self, topics, partitions):
        """The end of each partition."""
        part = b"".join(struct.pack(">iq", n, -1) for n in partitions)
        body = array(text(name) + struct.pack(">i", len(partitions)) + part for name in topics)
        answer = self.ask(LIST_OFFSETS, 1, struct.pack(">i", -1) + body)
        at, ends = 4, {}
        for name in topics:
            at += 2 + len(name) + 4
            for _ in partitions:
                index, code, _, end = struct.unpack_from(">ihqq", answer, at)
                assert code == 0, f"{name}/{index} has no end: error {code}"
                ends[name, index] = end
                at += 22
        return ends

    def fetch(self, ends, wait_ms):
        """A long poll at these ends, with librdkafka's waits; the size of the answer."""
        topics = {}
        for (name, index), end in ends.items():
            topics.setdefault(name, []).append(struct.pack(">iqi", index, end, 1 << 20))
        body = array(text(name) + array(parts) for name, parts in topics.items())
        return len(self.ask(FETCH, 4, struct.pack(">iiiib", -1, wait_ms, 1, 50 << 20, 0) + body))


class Daemon:
    def __init__(self, options, folder):
        self.options, self.folder, self.process = options, folder, None

    def start(self):
        """Returns when the doors are open; `began` is when the process was started."""
        log = open(self.folder / "log", "wb")
        self.began = time.monotonic()
        limit = lambda: self.options.files and resource.setrlimit(resource.RLIMIT_NOFILE, (self.options.files,) * 2)  # noqa: E731
        doors = ["--http", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        command = [self.options.inrush, "serve", "--data", str(self.folder / "data"), *doors, "--pipelines", str(self.folder / "none")]
        environment = {**os.environ, "INRUSH_LOG_FORMAT": "json", "RUST_LOG": "info"}
        self.process = subprocess.Popen(command, stderr=log, stdout=log, env=environment, preexec_fn=limit)
        while not (ready := re.search(rb'.*"inrush is ready".*', (self.folder / "log").read_bytes())):
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.002)
        self.kafka = re.search(r'"kafka":"([^"]*)"', ready[0].decode())[1]
        self.opened = time.monotonic() - self.began

    def first_produce(self, topic):
        """Seconds from the start of the process to the answer of a first record, and what the request itself took."""
        client, asked = Client(self.kafka), time.monotonic()
        client.produce([topic], [0])
        return time.monotonic() - self.began, time.monotonic() - asked

    def stop(self, how):
        began = time.monotonic()
        self.process.send_signal(how)
        self.process.wait()
        return time.monotonic() - began

    def resident(self):
        return next(int(line.split()[1]) * 1024 for line in self.status() if line.startswith("VmRSS:"))

    def status(self):
        return pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines()

    def files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def idle(self, seconds):
        """Percent of a core that it uses while this waits."""
        before, began = self.cpu(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu() - before) / (time.monotonic() - began) * 100


def poll(client, ends, is_over):
    while not is_over.is_set():
        client.fetch(ends, 500)


def settled(daemon, seconds=30):
    """Waits until what writes brought with them is done: space that is reserved, checkpoints."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and daemon.idle(2) > 20:
        pass


def disk_used(folder):
    return int(subprocess.check_output(["du", "-sB1", str(folder / "data")]).split()[0])


def a_round(options):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="partitions.", dir=options.folder))
    topics, partitions = [f"topic-{n}" for n in range(options.topics)], range(options.partitions)
    count = len(topics) * len(partitions)
    daemon, found = Daemon(options, folder), {}

    def timed(what, action, *arguments):
        began = time.monotonic()
        result = action(*arguments)
        found[what] = time.monotonic() - began
        return result

    try:
        daemon.start()
        time.sleep(2)
        empty = daemon.resident()
        client = Client(daemon.kafka)
        timed("create, s", client.create, topics, len(partitions))
        time.sleep(3)
        found["memory a new partition, B"] = (daemon.resident() - empty) / count

        def write():
            for name in topics:
                client.produce([name], partitions)

        timed("a record to each, s", write)
        settled(daemon)
        found["memory a written partition, B"] = (daemon.resident() - empty) / count
        found["disk a written partition, B"] = disk_used(folder) / count
        found["open files, all just written"] = daemon.files()
        client.socket.close()
        found["idle CPU, %"] = daemon.idle(options.idle)
        found["open files, idle"] = daemon.files()
        client = Client(daemon.kafka)
        timed("Metadata of all, s", client.metadata)
        ends = timed("ListOffsets of all, s", client.offsets, topics, partitions)
        assert all(end > 0 for end in ends.values()), "a record is missing"
        timed("Fetch of all that waits for nothing, s", client.fetch, ends, 0)
        is_over = threading.Event()
        poller = threading.Thread(target=poll, args=(Client(daemon.kafka), ends, is_over))
        poller.start()
        found["CPU with a consumer of all, %"] = daemon.idle(options.idle)
        is_over.set()
        poller.join()
        found["clean stop, s"] = daemon.stop(signal.SIGTERM)
        daemon.start()
        found["clean start to the first produce, s"], found["its request, s"] = daemon.first_produce(topics[0])
        settled(daemon)
        found["memory a partition after a start, B"] = (daemon.resident() - empty) / count
        found["idle CPU after a start, %"] = daemon.idle(options.idle)
        daemon.stop(signal.SIGKILL)
        daemon.start()
        found["start after kill -9 to the first produce, s"], _ = daemon.first_produce(topics[0])
        client = Client(daemon.kafka)
        for name in topics:
            client.produce([name], partitions)
        ends = client.offsets(topics, partitions)
        assert all(end > 1 for end in ends.values()), "a record is missing"
        daemon.stop(signal.SIGKILL)
        daemon.start()
        found["the same, all written before, s"], _ = daemon.first_produce(topics[0])
        assert Client(daemon.kafka).offsets(topics, partitions).items() >= {**ends, (topics[0], 0): ends[topics[0], 0] + 1}.items()
        return found
    finally:
        if daemon.process and daemon.process.poll() is None:
            daemon.stop(signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--inrush", default=os.environ.get("INRUSH", str(target / "release" / "inrush")))
    parser.add_argument("--folder", default=os.environ.get("BENCH_FOLDER", str(target)))
    for name, default in (("rounds", 3), ("topics", 100), ("partitions", 100), ("idle", 30), ("files", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rounds = []
    for number in range(options.rounds):
        rounds.append(a_round(options))
        print(f"round {number + 1} is done, load {os.getloadavg()[0]:.1f}", flush=True) if not options.json else None
    medians = {what: statistics.median(one[what] for one in rounds) for what in rounds[0]}
    if options.json:
        return print(json.dumps({"medians": medians, "rounds": rounds}))
    print(f"{options.topics} topics of {options.partitions} partitions, medians of {options.rounds}, then each")
    for what, median in medians.items():
        shown = [f"{value:,.0f}" if value >= 100 else f"{value:.3f}" for value in [median, *(one[what] for one in rounds)]]
        print(f"{what:44} {shown[0]:>12}   {', '.join(shown[1:])}")


BATCH = batch()
if __name__ == "__main__":
    main()
