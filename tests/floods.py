"""A few connections that work beside thousands that idle, trickle or flood: the p99 of those that work, alone and beside, and the ratio.

Who works sends on a fixed beat and counts from when a request was due. Called by tests/floods.sh, which says what each kind of crowd does."""

import argparse
import itertools
import json
import multiprocessing
import os
import resource
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

DAEMON_CORE, CLIENTS_CORE = 0, 1
# Requests a second of each that works; so many of each kind.
BEAT_S = 0.01
WORKERS_EACH = 2
# A crowd is at its work before somebody measures.
SETTLE_S = 3
# One source address has 28,000 ports, and those that closed first keep them for a minute.
SOURCES = [f"127.0.0.{n}" for n in range(2, 42)]
GREEDY_RATE = 4 << 20
PATIENCE_S = 60
# A door has 10,000 places; those that work need some.
PLACES = 9_900
# How long those that work may go on after their time.
BEHIND_MAX_S = 5


# -- what is sent


def crc32c_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


CRC32C = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def varint(n):
    n = n << 1
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out + bytes([n]))


def batch(value):
    """A record batch v2 of one record."""
    record = b"\0" + varint(0) + varint(0) + b"\x01" + varint(len(value)) + value + varint(0)
    record = varint(len(record)) + record
    body = struct.pack(">hiqqqhii", 0, 0, 0, 0, -1, -1, -1, 1) + record
    body = struct.pack(">iBI", 0, 2, crc32c(body)) + body
    return struct.pack(">qi", 0, len(body)) + body


def text(name):
    return struct.pack(">h", len(name)) + name.encode()


def frame(api, version, client, body):
    request = struct.pack(">hhi", api, version, 7) + text(client) + body
    return struct.pack(">i", len(request)) + request


def produce(client, topic, value):
    records = batch(value)
    part = struct.pack(">iii", 1, 0, len(records)) + records
    return frame(0, 3, client, struct.pack(">hhii", -1, -1, 30_000, 1) + text(topic) + part)


def fetch(client, topic, max_bytes):
    part = struct.pack(">iiqi", 1, 0, 0, max_bytes)
    return frame(1, 4, client, struct.pack(">iiiibi", -1, 0, 1, max_bytes, 0, 1) + text(topic) + part)


API_VERSIONS = frame(18, 0, "good", b"")


def post(topic, body):
    return b"POST /v1/topics/%s/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % (topic.encode(), len(body)) + body


# -- those that work


def receive(stream, size):
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            raise ConnectionError("closed")
        data += more
    return data


def kafka_answer(stream):
    return receive(stream, struct.unpack(">i", receive(stream, 4))[0])


def code_at(answer, place):
    return struct.unpack_from(">h", answer, place)[0]


def http_answer(stream):
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += receive(stream, 1) if not answer else stream.recv(4096)
    head, body = answer.split(b"\r\n\r\n", 1)
    size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    receive(stream, size - len(body))
    return head


class Produce:
    """One record, acks=all."""

    def __init__(self, doors):
        self.stream = socket.create_connection(doors["kafka"])
        self.request = produce("good", "good", b"x" * 100)

    def once(self):
        self.stream.sendall(self.request)
        # Behind the correlation id: one topic, its name, one partition, its index.
        assert code_at(kafka_answer(self.stream), 4 + 4 + 2 + len("good") + 4 + 4) == 0


class Fetch:
    """What is there, 4 KiB of it."""

    def __init__(self, doors):
        self.stream = socket.create_connection(doors["kafka"])
        self.request = fetch("good", "good", 4096)

    def once(self):
        self.stream.sendall(self.request)
        answer = kafka_answer(self.stream)
        assert code_at(answer, 4 + 4 + 4 + 2 + len("good") + 4 + 4) == 0 and len(answer) > 100


class Post:
    """One event by HTTP."""

    def __init__(self, doors):
        self.stream = socket.create_connection(doors["http"])
        self.request = post("good", b'{"event":"good"}')

    def once(self):
        self.stream.sendall(self.request)
        assert http_answer(self.stream).startswith(b"HTTP/1.1 200 ")


class Connect:
    """A new connection to the Kafka door, and its first answer."""

    def __init__(self, doors):
        self.door = doors["kafka"]

    def once(self):
        with socket.create_connection(self.door) as stream:
            stream.sendall(API_VERSIONS)
            assert code_at(kafka_answer(stream), 4) == 0


WORKS = {"produce": Produce, "fetch": Fetch, "post": Post, "connect": Connect}
# Shown and not judged: a new connection stands in the system's queue among those of the crowd, before the daemon knows of it.
NOT_JUDGED = ["connect"]


def begun(name, doors):
    """Who works has had its first answer: a door that the last crowd leaves may be full for a moment."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            works = WORKS[name](doors)
            works.once()
            return works
        except (OSError, AssertionError):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def work(name, doors, seconds, pipe):
    """Sends on the beat for so long; the pipe has what each request took, from when it was due, and how many failed."""
    os.sched_setaffinity(0, {CLIENTS_CORE})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    socket.setdefaulttimeout(BEHIND_MAX_S)
    works = begun(name, doors)
    took, failed = [], 0
    due = began = time.monotonic()
    while due < began + seconds:
        time.sleep(max(0, due - time.monotonic()))
        # Who is far behind stops: what is due by then took at least so long.
        if time.monotonic() < began + seconds + BEHIND_MAX_S:
            try:
                works.once()
            except (OSError, AssertionError):
                failed += 1
                works = WORKS[name](doors)
        took.append(time.monotonic() - due)
        due += BEAT_S
    pipe.send((took, failed))


# -- the crowd


class Crowd:
    """Connections to one door, and what they do there."""

    def __init__(self, door, address, count, done):
        self.door, self.address, self.count, self.done = door, address, count, done
        self.streams = [None] * count
        self.sources = itertools.cycle(SOURCES)

    def open(self, n):
        """Connection number n, new; it may not be through yet."""
        if self.streams[n] is not None:
            self.streams[n].close()
        stream = socket.socket()
        stream.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: a port is chosen when it is known for whom.
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.bind((next(self.sources), 0))
        stream.setblocking(False)
        stream.connect_ex(self.address)
        self.streams[n] = stream
        return stream

    def open_all(self):
        """Not faster than the door takes them."""
        for n in range(self.count):
            self.open(n)
            if n % 50 == 49:
                poll = select.poll()
                poll.register(self.streams[n], select.POLLOUT)
                poll.poll(5_000)

    def say(self, n, data):
        """Sends what the socket takes; a connection that was closed is opened again."""
        try:
            return self.streams[n].send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.open(n)
            return 0

    def idle(self):
        while True:
            time.sleep(1)

    def trickle(self):
        whole = produce("flood", "flood", b"x" * 1000) if self.door == "kafka" else post("flood", b"1" * 1000)
        at = [0] * self.count
        # Every other millisecond a few: ten thousand that know nothing of each other do not send together.
        step = max(1, self.count // 500)
        due = time.monotonic()
        for first in itertools.cycle(range(0, self.count, step)):
            for n in range(first, min(first + step, self.count)):
                sent = self.say(n, whole[at[n] : at[n] + 1])
                at[n] = (at[n] + sent) % len(whole) if sent else 0
                self.done.value += sent
            due += step / self.count
            time.sleep(max(0, due - time.monotonic()))

    def come_and_go(self, data, is_reset=lambda n: False):
        for n in itertools.cycle(range(self.count)):
            if is_reset(n):
                self.streams[n].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.open(n)
            if data:
                try:
                    self.streams[n].send(data)
                except OSError:
                    pass
            self.done.value += 1

    def half(self):
        whole = produce("flood", "flood", b"x" * 1000) if self.door == "kafka" else post("flood", b"1" * 1000)
        self.come_and_go(whole[: len(whole) // 2])

    def garbage(self):
        self.come_and_go(os.urandom(4096))

    def connect(self):
        self.come_and_go(b"", lambda n: n % 2 == 0)

    def greedy(self):
        """A request after the other on each connection; of Kafka, half produce and half fetch."""
        if self.door == "kafka":
            requests = [produce("flood", "flood", b"x" * 16_384), fetch("flood", "flood", 65_536)]
        else:
            requests = [post("flood", b'{"event":"%s"}\n' % (b"x" * 150) * 100)]
        poll = select.epoll()
        place, left, missing = {}, [b""] * self.count, [0] * self.count

        def start(n):
            left[n], missing[n] = memoryview(requests[n % len(requests)]), 0
            poll.modify(self.streams[n].fileno(), select.EPOLLIN | select.EPOLLOUT)

        def again(n):
            self.open(n)
            place[self.streams[n].fileno()] = n
            poll.register(self.streams[n].fileno(), 0)
            start(n)

        for n in range(self.count):
            place[self.streams[n].fileno()] = n
            poll.register(self.streams[n].fileno(), 0)
            start(n)
        while True:
            for handle, events in poll.poll(1):
                n = place[handle]
                stream = self.streams[n]
                try:
                    if events & select.EPOLLOUT and left[n]:
                        left[n] = left[n][stream.send(left[n]) :]
                        if not left[n]:
                            poll.modify(handle, select.EPOLLIN)
                    if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                        data = stream.recv(131_072)
                        if not data:
                            raise ConnectionError("closed")
                        if self.door == "kafka":
                            if not missing[n]:
                                missing[n] = 4 + struct.unpack_from(">i", data)[0]
                            missing[n] -= len(data)
                        if not missing[n]:
                            self.done.value += 1
                            start(n)
                except BlockingIOError:
                    pass
                except OSError:
                    again(n)


def crowd(kind, door, address, count, done, is_open):
    os.sched_setaffinity(0, {CLIENTS_CORE})
    crowd = Crowd(door, address, count, done)
    crowd.open_all()
    is_open.set()
    getattr(crowd, kind)()


# -- what is measured


class Daemon:
    def __init__(self, inrush, folder, goes_first=False):
        os.mkdir(folder)
        self.log = f"{folder}/log"
        command = [inrush, "serve", "--data", f"{folder}/data", "--pipelines", f"{folder}/none"]
        for door in ["http", "kafka", "admin"]:
            command += [f"--{door}", "127.0.0.1:0"]
        environment = {**os.environ, "INRUSH_LOG_FORMAT": "json", "RUST_LOG": "info"}
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stderr=log, env=environment, preexec_fn=lambda: self.place(goes_first))
        self.doors = self.wait()

    @staticmethod
    def place(goes_first):
        os.sched_setaffinity(0, {DAEMON_CORE})
        if goes_first:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))

    def wait(self):
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with open(self.log, encoding="utf-8") as log:
                for line in map(json.loads, log):
                    fields = line.get("fields", line)
                    if fields.get("message") == "inrush is ready":
                        split = {door: fields[door].rsplit(":", 1) for door in ["http", "kafka"]}
                        return {door: (host, int(port)) for door, (host, port) in split.items()}
            time.sleep(0.05)
        sys.exit(f"the daemon did not start: {self.log}")

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def p99(times):
    return sorted(times)[len(times) * 99 // 100]


def measure(daemon, seconds):
    """The p99 of each work in milliseconds, and how many requests failed."""
    running = []
    for name in WORKS:
        for _ in range(WORKERS_EACH):
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=work, args=(name, daemon.doors, seconds, theirs))
            process.start()
            running.append((name, process, ours))
    times, failed = {name: [] for name in WORKS}, {name: 0 for name in WORKS}
    for name, process, ours in running:
        if not ours.poll(seconds + 3 * PATIENCE_S):
            sys.exit(f"{name}: no end")
        took, not_done = ours.recv()
        times[name] += took
        failed[name] += not_done
        process.join()
    return {name: 1_000 * p99(times[name]) for name in WORKS}, failed


def beside(daemon, bystander, kind, connections, seconds):
    """The same beside a crowd, and of another daemon that the crowd does not come to; what the crowd did in a second, and how busy the daemon was."""
    doors = {"greedy": ["kafka"], "greedy-http": ["http"]}.get(kind, ["kafka", "http"])
    done = {door: multiprocessing.RawValue("q", 0) for door in doors}
    open_events = [multiprocessing.Event() for _ in doors]
    processes = [
        multiprocessing.Process(target=crowd, args=(kind.split("-", maxsplit=1)[0], door, daemon.doors[door], min(connections // len(doors), PLACES), done[door], is_open), daemon=True)
        for door, is_open in zip(doors, open_events)
    ]
    for process in processes:
        process.start()
    for is_open in open_events:
        if not is_open.wait(PATIENCE_S):
            sys.exit(f"{kind}: the crowd did not come in")
    time.sleep(SETTLE_S)
    before = {door: done[door].value for door in doors}
    began, cpu = time.monotonic(), daemon.cpu_s()
    found, failed = measure(daemon, seconds)
    passed = time.monotonic() - began
    rates = {door: round((done[door].value - before[door]) / passed) for door in doors}
    busy = (daemon.cpu_s() - cpu) / passed
    passing, _ = measure(bystander, seconds)
    for process in processes:
        process.kill()
        process.join()
    # What the crowd left is gone before the next measures.
    time.sleep(2)
    return found, failed, rates, busy, passing


def hold(inrush, daemon, rate, *entity):
    """Bytes a second that somebody may send, and fetch."""
    quota = [inrush, "quota", "set", "--kafka", "{}:{}".format(*daemon.doors["kafka"]), *entity]
    subprocess.run([*quota, "--producer-byte-rate", str(rate), "--consumer-byte-rate", str(rate)], check=True, stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("inrush")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--kinds", default="idle,trickle,half,garbage,connect,greedy,greedy-http")
    parser.add_argument("--ratio", type=float, default=2)
    parser.add_argument("--json")
    options = parser.parse_args()
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if descriptors < options.connections + 500:
        sys.exit(f"needs {options.connections + 500} descriptors, has {descriptors}: ulimit -n")
    results, over = [], []
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(options.inrush, f"{folder}/flooded")
        bystander = Daemon(options.inrush, f"{folder}/bystander", goes_first=True)
        try:
            for one, topic in itertools.product([daemon, bystander], ["good", "flood"]):
                with socket.create_connection(one.doors["http"]) as stream:
                    stream.sendall(post(topic, b"{}"))
                    assert http_answer(stream).startswith(b"HTTP/1.1 200 ")
            hold(options.inrush, daemon, GREEDY_RATE, "--client-id", "flood")
            # By HTTP a client is its address. Those that work have another.
            for source in SOURCES:
                hold(options.inrush, daemon, GREEDY_RATE // len(SOURCES), "--ip", source)
            measure(daemon, 1)
            print(f"{'crowd':<12} {'work':<8} {'alone ms':>9} {'bystander ms':>12} {'beside ms':>10} {'ratio':>6}   a second of the crowd; the daemon's core", flush=True)
            for kind in options.kinds.split(","):
                rounds = []
                for _ in range(options.rounds):
                    alone, failed_alone = measure(daemon, options.seconds)
                    rounds.append((alone, *beside(daemon, bystander, kind, options.connections, options.seconds), failed_alone))
                rates = {door: statistics.median(one[3][door] for one in rounds) for door in rounds[0][3]}
                busy = statistics.median(one[4] for one in rounds)
                for name in WORKS:
                    failed = sum(one[2][name] + one[6][name] for one in rounds)
                    alone, crowded, passing = (statistics.median(one[at][name] for one in rounds) for at in [0, 1, 5])
                    # What the system itself takes beside such a crowd is not the daemon's.
                    ratio = crowded / max(alone, passing)
                    said = f"{rates}; {busy:.0%}" if name == next(iter(WORKS)) else ""
                    said += f"{failed} failed" if failed else ""
                    print(f"{kind:<12} {name:<8} {alone:>9.2f} {passing:>12.2f} {crowded:>10.2f} {ratio:>6.2f}   {said}", flush=True)
                    results.append({"crowd": kind, "work": name, "alone_ms": alone, "bystander_ms": passing, "beside_ms": crowded, "rates": rates, "daemon_busy": busy, "failed": failed})
                    if name not in NOT_JUDGED and (ratio > options.ratio or failed):
                        over.append(f"{kind}/{name}")
            if daemon.process.poll() is not None:
                sys.exit("the daemon ended")
        finally:
            for one in [daemon, bystander]:
                one.process.terminate()
                one.process.wait()
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(results, out)
    judged = sum(one["work"] not in NOT_JUDGED for one in results)
    print(f"{judged - len(over)} of {judged} within {options.ratio} times" + (f"; over, or failed: {' '.join(over)}" if over else ""))
    return bool(over)


if __name__ == "__main__":
    sys.exit(main())
