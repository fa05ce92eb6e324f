"""Runs the rounds of benches/kafka_peer.sh and says what came out, as ratios within one run and beside the goals."""

import argparse
import atexit
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "compat"))
import batches  # noqa: E402
from broker import Broker, Server  # noqa: E402
from wire import Protocol  # noqa: E402

CLIENT = ROOT / "target" / "compat" / "kafka_peer"
KAFKA_SH = ROOT / "tests" / "compat" / "kafka.sh"
PARTITIONS, CONNECTIONS, RECORD_SIZE, MANY = 4, 64, 500, 1000
TOPIC = 2
SECTIONS = ["produce", "single", "latency", "tail", "disk", "sendfile", "memory", "start"]
# What Inrush is to reach: the ratio of the two servers' medians, and whether more or less is better.
GOALS = {
    "produce: records per server CPU second": (2.0, "at least"),
    "produce: records/s": (1.0, "at least"),
    "single: requests/s": (5.0, "at least"),
    "latency: p99 ms": (0.5, "at most"),
    "latency, no linger: p99 ms": (0.5, "at most"),
    "tail: bytes per server CPU second": (1.5, "at least"),
    "disk: bytes per server CPU second": (1.5, "at least"),
    "sendfile: bytes per server CPU second": (1.5, "at least"),
    "memory: idle MiB": (0.1, "at most"),
    "memory: under load MiB": (0.25, "at most"),
    "start: ms": (0.1, "at most"),
}


class Peer:
    """One server on core 0. Both are up during the rounds; the one whose turn it is not is stopped by SIGSTOP, so that it takes no CPU."""

    def __init__(self, name, folder, protocol):
        self.name, self.folder, self.protocol, self.process, self.address = name, folder / name, protocol, None, None
        self.threads = {}

    def status(self, key):
        return next(
            int(line.split()[1]) / 1024
            for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines()
            if line.startswith(key + ":")
        )

    def cpu(self):
        """Seconds of all threads, in user and kernel mode, by the scheduler's nanoseconds; a thread that has ended keeps what it had."""
        for thread in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            try:
                self.threads[(self.pid, thread.name)] = int((thread / "schedstat").read_text().split()[0])
            except OSError:
                pass  # It ended just now.
        return sum(self.threads.values()) / 1e9

    def broker(self):
        host, _, port = self.address.rpartition(":")
        return Broker(Server(self.name, host, int(port), self.protocol), "bench")

    def pause(self):
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.pid, signal.SIGCONT)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                if self.broker().ask("Metadata", 9, Topics=[]):
                    return
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"{self.name} does not go on after SIGCONT")


class Inrush(Peer):
    def __init__(self, path, folder, protocol):
        super().__init__("inrush", folder, protocol)
        self.path, self.port = path, "0"

    def start(self, wait=True):
        self.folder.mkdir(parents=True, exist_ok=True)
        log = open(self.folder / "log", "wb")
        self.began = time.time_ns()
        self.process = subprocess.Popen(
            [
                "taskset",
                "-c",
                "0",
                self.path,
                "serve",
                "--data",
                str(self.folder / "data"),
                "--http",
                "127.0.0.1:0",
                "--kafka",
                f"127.0.0.1:{self.port}",
                "--admin",
                "127.0.0.1:0",
                "--pipelines",
                str(self.folder / "none"),
            ],
            stderr=log,
            stdout=log,
            env={**os.environ, "INRUSH_LOG_FORMAT": "json", "RUST_LOG": "info"},
        )
        self.pid = self.process.pid
        while wait:
            for line in (self.folder / "log").read_text().splitlines():
                if '"inrush is ready"' in line:
                    self.address = json.loads(line)["kafka"] if "kafka" in json.loads(line) else json.loads(line)["fields"]["kafka"]
                    self.port = self.address.rpartition(":")[2]
                    return
            if self.process.poll() is not None:
                raise SystemExit((self.folder / "log").read_text())
            time.sleep(0.01)

    def stop(self):
        if self.process and self.process.poll() is None:
            os.kill(self.pid, signal.SIGCONT)
            self.process.terminate()
            self.process.wait(60)


class Kafka(Peer):
    # Stopped by SIGSTOP it would count as gone; nothing else differs from the defaults.
    SETTINGS = ["broker.session.timeout.ms=3600000"]

    def __init__(self, folder, protocol):
        super().__init__("kafka", folder, protocol)
        self.port = None

    def start(self, wait=True):
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "began").unlink(missing_ok=True)
        environment = {**os.environ, "KAFKA_RUN": "taskset -c 0", "KAFKA_LOG": "error", **({"KAFKA_PORT": self.port} if self.port else {})}
        self.script = subprocess.Popen([KAFKA_SH, "start", self.folder, *self.SETTINGS], stdout=subprocess.PIPE, env=environment, text=True)
        if wait:
            self.finish_start()
            return
        while not (self.folder / "began").exists() or not (self.folder / "began").read_text().strip():
            time.sleep(0.0005)
        self.began = int((self.folder / "began").read_text())

    def finish_start(self):
        out, _ = self.script.communicate(timeout=120)
        if self.script.returncode:
            raise SystemExit("kafka did not start")
        self.address = out.strip()
        self.port = self.address.rpartition(":")[2]
        self.pid = int((self.folder / "pid").read_text())

    def stop(self):
        if (self.folder / "pid").exists():
            os.kill(self.pid, signal.SIGCONT)
            subprocess.run([KAFKA_SH, "stop", self.folder], check=True)


def client(*arguments):
    done = subprocess.run(["taskset", "-c", "1", CLIENT, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"the client failed: {' '.join(map(str, arguments))}")
    return [float(word) for word in done.stdout.split()]


class Bench:
    def __init__(self, peers, options):
        self.peers, self.options, self.samples = peers, options, {}

    def keep(self, what, peer, value):
        self.samples.setdefault(what, {}).setdefault(peer.name, []).append(value)

    def median(self, what, name):
        return statistics.median(self.samples[what][name])

    def rounds(self, measure, count=None):
        """Ours, Kafka's, ours, …: each sees the machine's moods alike."""
        for number in range(count or self.options.rounds):
            for peer in self.peers if number % 2 == 0 else reversed(self.peers):
                peer.resume()
                measure(peer)
                peer.pause()
                # What one leaves to the kernel to write is not for the other to wait for.
                os.sync()

    def topics(self):
        for peer in self.peers:
            broker = peer.broker()
            broker.scope = "load"
            broker.topic("", PARTITIONS)
            broker.scope = "sync"
            broker.topic("", PARTITIONS, {"flush.messages": "1"} if peer.name == "kafka" else {})
            broker.close()
            self.keep_idle(peer)
            peer.pause()

    def keep_idle(self, peer):
        time.sleep(5)
        self.keep("memory: idle MiB", peer, peer.status("VmRSS"))

    def produce(self):
        warm = max(200_000, self.options.records // 2)
        self.rounds(lambda peer: client("produce", peer.address, "load", PARTITIONS, warm), 2)

        def measure(peer):
            before = peer.cpu()
            (speed,) = client("produce", peer.address, "load", PARTITIONS, self.options.records)
            self.keep("produce: records/s", peer, speed)
            self.keep("produce: records per server CPU second", peer, self.options.records / (peer.cpu() - before))
            self.keep("memory: under load MiB", peer, peer.status("VmRSS"))

        self.rounds(measure)

    def single(self):
        def measure(peer):
            before = peer.cpu()
            speed, middle, high = client("single", peer.address, "sync", PARTITIONS, CONNECTIONS, self.options.seconds)
            self.keep("single: requests/s", peer, speed)
            self.keep("single: p50 ms", peer, middle)
            self.keep("single: p99 ms", peer, high)
            self.keep("single: requests per server CPU second", peer, speed * (self.options.seconds + 1) / max(0.01, peer.cpu() - before))

        self.rounds(lambda peer: client("single", peer.address, "sync", PARTITIONS, CONNECTIONS, 2), 1)
        self.rounds(measure)

    def latency(self):
        """With the producer's usual linger, most of which is what is measured then, and without."""
        rate = int(self.median("produce: records/s", "kafka") / 2)

        def measure(peer, what, linger):
            middle, high, highest, _ = client("latency", peer.address, "load", PARTITIONS, rate, self.options.seconds, linger)
            for part, value in (("p50", middle), ("p99", high), ("p99.9", highest)):
                self.keep(f"{what}: {part} ms", peer, value)

        self.rate = rate
        for what, linger in (("latency", 5), ("latency, no linger", 0)):
            self.rounds(lambda peer: client("latency", peer.address, "load", PARTITIONS, rate, 4, linger), 1)
            self.rounds(lambda peer: measure(peer, what, linger))

    def tail(self):
        count = min(200_000, self.options.records)

        def read(peer):
            """Until the server has used enough CPU for ticks of 10 ms to measure it."""
            before, runs = peer.cpu(), []
            while len(runs) < 5 or (peer.cpu() - before < 0.5 and len(runs) < 25):
                runs.append(client("consume", peer.address, "load", PARTITIONS, count, "last"))
            return runs

        self.rounds(read, 2)
        self.consume("tail", read)

    def disk(self):
        """Each round what no round has read before: a consumer that catches up reads everything once."""
        self.from_disk("disk")

    def sendfile(self):
        """The same, with a topic that lets records go out unchecked, as Kafka always does."""
        ours = self.peers[0]
        ours.resume()
        broker = ours.broker()
        unchecked = [{"Name": "inrush.fetch.check", "ConfigOperation": 0, "Value": "none"}]
        topic = {"ResourceType": TOPIC, "ResourceName": "load", "Configs": unchecked}
        done = broker.need("IncrementalAlterConfigs", 1, Resources=[topic], ValidateOnly=False)["Responses"][0]
        assert done["ErrorCode"] == 0, done
        broker.close()
        ours.pause()
        self.from_disk("sendfile")

    def from_disk(self, what):
        at = {peer: 0 for peer in self.peers}

        def read(peer, count):
            subprocess.run(["sync"], check=True)
            pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
            runs = [client("consume", peer.address, "load", PARTITIONS, count, at[peer])]
            at[peer] += count
            return runs

        self.rounds(lambda peer: read(peer, self.options.records // 2), 2)
        self.consume(what, lambda peer: read(peer, self.options.records))

    def consume(self, what, read):
        def measure(peer):
            before = peer.cpu()
            runs = read(peer)
            self.keep(f"{what}: MB/s", peer, statistics.median(speed for speed, _ in runs))
            self.keep(f"{what}: bytes per server CPU second", peer, sum(size for _, size in runs) / max(0.01, peer.cpu() - before))

        self.rounds(measure)

    def start(self, folder):
        """Each alone: nothing else runs while one starts."""
        for peer in self.peers:
            peer.stop()
            peer.folder = folder / f"{peer.name}-many"
            peer.start()
            broker = peer.broker()
            broker.scope = "many"
            broker.topic("", MANY)
            data = batches.batch([b"x" * 100])
            for first in range(0, MANY, 100):
                broker.need(
                    "Produce",
                    9,
                    Acks=-1,
                    TimeoutMs=30_000,
                    TopicData=[{"Name": "many", "PartitionData": [{"Index": first + one, "Records": data} for one in range(100)]}],
                    timeout=60,
                )
            broker.close()
            peer.stop()
        for number in range(self.options.rounds):
            for peer in self.peers if number % 2 == 0 else reversed(self.peers):
                peer.start(wait=False)
                (took,) = client("first", peer.address, "many", peer.began)
                self.keep("start: ms", peer, took)
                if peer.name == "kafka":
                    peer.finish_start()
                peer.stop()

    def java(self, libs):
        def measure(peer):
            before = peer.cpu()
            out = subprocess.run(
                [
                    "taskset",
                    "-c",
                    "1",
                    "java",
                    "-cp",
                    f"{libs}/*",
                    "org.apache.kafka.tools.ProducerPerformance",
                    "--topic",
                    "load",
                    "--num-records",
                    str(self.options.records),
                    "--record-size",
                    str(RECORD_SIZE),
                    "--throughput",
                    "-1",
                    "--producer-props",
                    f"bootstrap.servers={peer.address}",
                    "acks=all",
                    "compression.type=lz4",
                    "linger.ms=5",
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=True,
            ).stdout
            self.keep("java: records/s", peer, float(out.strip().splitlines()[-1].split("records/sec")[0].split(",")[-1]))
            self.keep("java: records per server CPU second", peer, self.options.records / (peer.cpu() - before))

        self.rounds(measure)


def busy(seconds=2.0):
    """The share of all cores that somebody uses now, and what neighbours of this machine took."""

    def read():
        numbers = [int(word) for word in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        return sum(numbers[:8]), numbers[3] + numbers[4], numbers[7]

    total, idle, stolen = read()
    time.sleep(seconds)
    total, idle, stolen = (after - before for after, before in zip(read(), (total, idle, stolen)))
    return 1 - idle / total, stolen / total


def table(bench, quiet):
    print(f"\n{'medians':<44} {'Inrush':>14} {'Kafka':>14} {'ratio':>7}   goal")
    rows = {}
    for what, held in bench.samples.items():
        if len(held) < 2:
            continue
        ours, theirs = statistics.median(held["inrush"]), statistics.median(held["kafka"])
        ratio = ours / theirs if theirs else float("nan")
        goal, side = GOALS.get(what, (None, ""))
        met = None if goal is None else ratio >= goal if side == "at least" else ratio <= goal
        shown = "" if goal is None else f"{side} {goal:g}: {'met' if met else 'MISSED'}"
        print(f"{what:<44} {ours:>14,.1f} {theirs:>14,.1f} {ratio:>7.2f}   {shown}")
        rows[what] = {"inrush": ours, "kafka": theirs, "ratio": ratio, "goal": goal, "side": side, "met": met, "samples": held}
    if not quiet:
        print("\nThe machine was not quiet: these figures say little.")
    return rows


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("inrush")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--records", type=int, default=1_000_000)
    arguments.add_argument("--seconds", type=int, default=8)
    arguments.add_argument("--only", default=",".join(SECTIONS))
    arguments.add_argument("--json")
    options = arguments.parse_args()
    wanted = options.only.split(",")
    libs = subprocess.run([KAFKA_SH, "libs"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    (jar,) = pathlib.Path(libs).glob("kafka-clients-*.jar")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="peer.", dir=os.environ.get("BENCH_FOLDER", ROOT / "target" / "compat")))
    protocol = Protocol(jar)
    peers = [Inrush(options.inrush, folder, protocol), Kafka(folder, protocol)]
    bench = Bench(peers, options)

    def clean():
        for peer in peers:
            peer.stop()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(clean)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    used, stolen = busy()
    quiet = used < 0.1
    version = subprocess.run([options.inrush, "--version"], stdout=subprocess.PIPE, text=True).stdout.strip()
    print(
        f"{version}, synced before each answer (its default); Apache Kafka {jar.stem.removeprefix('kafka-clients-')}, KRaft, one node, -Xms1g -Xmx1g G1, no sync (its default) but in `single`"
    )
    print(
        f"{PARTITIONS} partitions, {RECORD_SIZE} B records; server on core 0, client (librdkafka; raw sockets in `single`) on core 1; medians of {options.rounds} rounds in turn, {options.records:,} records a round"
    )
    print(f"before the start {used:.0%} of the machine in use, {stolen:.0%} taken by neighbours", flush=True)
    for peer in peers:
        peer.start()
    bench.topics()
    if {"produce", "latency", "tail", "disk", "sendfile", "java"} & set(wanted) and "produce" not in wanted:
        wanted.insert(0, "produce")
    for section in [one for one in [*SECTIONS, "java"] if one in wanted and one != "memory"]:
        print(f"{time.strftime('%T')} {section}", flush=True)
        run = getattr(bench, section)
        run(folder) if section == "start" else run(libs) if section == "java" else run()
    after, _ = busy()
    rows = table(bench, quiet and after < 0.1)
    if hasattr(bench, "rate"):
        print(f"latency was measured at {bench.rate:,} records/s, half of Kafka's median")
    if options.json:
        pathlib.Path(options.json).write_text(
            json.dumps(
                {
                    "inrush": version,
                    "kafka": jar.stem,
                    "rounds": options.rounds,
                    "records": options.records,
                    "quiet": quiet and after < 0.1,
                    "rate": getattr(bench, "rate", None),
                    "results": rows,
                },
                indent=1,
            )
            + "\n"
        )


if __name__ == "__main__":
    main()
