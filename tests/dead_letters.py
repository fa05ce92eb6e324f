"""Driven by dead_letters.sh: makes the events, steers the daemon, holds outputs and letters against what was sent."""
import json, os, random, signal, statistics, subprocess, sys, time, urllib.request
import duckdb
from confluent_kafka import Consumer, Producer, TopicPartition

inrush, folder, events, turns = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
REASONS = ["not-json", "wrong-type", "overflow", "missing-required", "expression", "too-large"]
PARTITIONS = 2
passed = 0


def check(what, is_right, told=""):
    global passed
    if not is_right:
        sys.exit(f"failed: {what} {told}")
    passed += 1


def fate(number):
    """Why an event is broken; one of a hundred is, in six ways."""
    return REASONS[number // 100 % 6] if number % 100 == 37 else None


def event(number, why):
    fields = {
        "id": number, "ts": f"2026-01-{number // 86400 % 28 + 1:02}T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z",
        "user": f"user-{number % 5000}", "url": f"https://shop.example/p/{number % 997}?utm_source=mail&q={number}",
        "price": number % 10000, "quantity": number % 9 + 1, "agent": "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
        "pad": "",
    }
    if why == "wrong-type":
        fields["price"] = "cheap"
    elif why == "overflow":
        fields["price"] = 99_999_999_999
    elif why == "missing-required":
        del fields["id"]
    elif why == "expression":
        fields["quantity"] = 0
    elif why == "too-large":
        fields["pad"] = random.Random(number).randbytes(5000).hex()
    text = json.dumps(fields, separators=(",", ":"))
    return text[:-1] if why == "not-json" else text


def pipeline(source, name, quantity="quantity"):
    """One that every broken event fails in its own way; the topic takes 4 KiB."""
    return f'''from = "topic:{source}"
on-error = {{ then = "topic:{name}-dlt" }}
[columns]
id       = {{ type = "int64", required = true }}
ts       = {{ type = "timestamp", required = true }}
user     = "string"
url      = "string"
price    = "int32"
quantity = "int64"
agent    = "string"
pad      = "string"
[[step]]
sql = "select id, ts, user, url_host(url) as host, url_path(url) as path, price * quantity as amount, 100 / {quantity} as share, is_bot(agent) as bot, pad from rows where price >= 0"
[[route]]
to = {{ parquet = "{name}", partition = "dt=%Y-%m-%d", time = "ts", roll = "2s or 64MiB" }}
[[route]]
to = {{ topic = "{name}-out", key = "user" }}
'''


class Daemon:
    def __init__(self, where):
        os.makedirs(f"{where}/pipelines", exist_ok=True)
        self.where, self.log = where, open(f"{where}/log", "a+")
        began = self.log.seek(0, 2)
        env = dict(os.environ, INRUSH_LOG_FORMAT="json", RUST_LOG="info")
        ports = ["--http", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        places = ["--data", f"{where}/data", "--out", f"{where}/out", "--pipelines", f"{where}/pipelines"]
        self.process = subprocess.Popen([inrush, "serve", *places, *ports], stderr=self.log, env=env)
        ready = self.wait("the daemon", lambda: self.ready(began), 60)
        self.kafka, self.admin, self.http = ready["kafka"], ready["admin"], ready["http"]

    def ready(self, began):
        self.log.seek(began)
        return next((json.loads(line)["fields"] for line in self.log if '"inrush is ready"' in line), None)

    def wait(self, what, is_there, patience=600):
        began = time.monotonic()
        while time.monotonic() - began < patience:
            found = is_there()
            if found:
                return found
            time.sleep(0.01)
        sys.exit(f"waited too long for {what}; see {self.where}/log")

    def command(self, *arguments, well=True):
        done = subprocess.run([inrush, *arguments, "--admin", self.admin], capture_output=True, text=True)
        check(" ".join(arguments), (done.returncode == 0) == well, done.stdout + done.stderr)
        return done.stdout

    def line(self, name):
        board = json.load(urllib.request.urlopen(f"http://{self.admin}/api/pipelines"))
        return next((line for line in board if line["name"] == name), None)

    def write(self, name, text):
        with open(f"{self.where}/pipelines/{name}.toml", "w") as file:
            file.write(text)
        self.command("pipeline", "reload", name)

    def cpu(self):
        ticks = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")

    def is_done(self, name, count):
        line = self.line(name)
        return line and line["state"] == "running" and sum(line["committed"].values()) == count

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait()


def topic(daemon, name, **config):
    pairs = [part for key, value in config.items() for part in ("--config", f"{key.replace('_', '.')}={value}")]
    done = subprocess.run([inrush, "topic", "create", name, "--partitions", str(PARTITIONS), *pairs, "--http", daemon.http],
                          capture_output=True, text=True)
    check(f"topic {name}", done.returncode == 0, done.stderr)


def send(daemon, name, is_broken):
    producer = Producer({"bootstrap.servers": daemon.kafka, "linger.ms": 20, "compression.type": "zstd", "enable.idempotence": True,
                         "queue.buffering.max.messages": 200_000, "log_level": 0, "batch.size": 1 << 19})
    for number in range(events):
        while True:
            try:
                producer.produce(name, event(number, fate(number) if is_broken else None), key=str(number), partition=number // 100 % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.05)
        if number % 1000 == 0:
            producer.poll(0)
    check("all are sent", producer.flush(120) == 0)


def records(daemon, name):
    consumer = Consumer({"bootstrap.servers": daemon.kafka, "group.id": "check", "enable.auto.commit": False})
    found = []
    for partition in range(PARTITIONS):
        place = TopicPartition(name, partition, 0)
        low, high = consumer.get_watermark_offsets(place)
        place.offset = low
        consumer.assign([place])
        next_offset = low
        while next_offset < high:
            for message in consumer.consume(min(10_000, high - next_offset), 1):
                check("a record is read", message.error() is None, message.error())
                found.append(message)
                next_offset = message.offset() + 1
    consumer.close()
    return found


def table(daemon, name):
    files = f"read_parquet('{daemon.where}/out/{name}/**/*.parquet', union_by_name = true)"
    return [row[0] for row in duckdb.sql(f"select id from {files}").fetchall()]


def header(message, name):
    return next((value for key, value in reversed(message.headers()) if key == name), None)


def hold(daemon, name, mended=(), again=()):
    """Every event is where it belongs, once. `mended` reasons are in the outputs by now, those of `again` have failed twice."""
    letters = {}
    for message in records(daemon, f"{name}-dlt"):
        letters.setdefault(int(message.key()), []).append((header(message, "inrush-dlt-reason").decode(), header(message, "inrush-dlt-output").decode()))
    both, alone = f"parquet {name}, topic {name}-out", f"topic {name}-out"
    expected = {number: [(fate(number), alone if fate(number) == "too-large" else both)] * (2 if fate(number) in again else 1)
                for number in range(events) if fate(number)}
    wrong = [(number, letters.get(number), expected.get(number)) for number in letters.keys() | expected.keys() if letters.get(number) != expected.get(number)]
    check("each broken event is a letter with its reason, and no other is", not wrong, wrong[:5])
    good = [number for number in range(events) if fate(number) is None or fate(number) in mended]
    late = [number for number in range(events) if fate(number) == "too-large" and "too-large" not in mended]
    check("the table has each of its rows once", sorted(table(daemon, name)) == sorted(good + late))
    out = sorted(json.loads(message.value())["id"] for message in records(daemon, f"{name}-out"))
    check("the topic has each of its rows once", out == good, (len(out), len(good)))
    return {why: sum(reason == why for told in letters.values() for reason, _ in told) for why in REASONS}


def whole(is_killed):
    """One run from empty to replayed; with kills of the daemon in the middle of both."""
    daemon = Daemon(f"{folder}/{'killed' if is_killed else 'whole'}")
    topic(daemon, "events")
    topic(daemon, "p-out", max_message_bytes=4096)
    daemon.write("p", pipeline("events", "p"))
    if is_killed:
        # Everything lies ready when it begins, so that the kill falls into its work.
        daemon.command("pipeline", "pause", "p")
    send(daemon, "events", True)
    if is_killed:
        daemon.command("pipeline", "resume", "p")
        line = daemon.wait("the middle", lambda: (line := daemon.line("p")) and line["records_read"] > events // 4 and line)
        read = line["records_read"]
        daemon.end(signal.SIGKILL)
        print(f"killed with {read} of {events} records read")
        daemon = Daemon(daemon.where)
    daemon.wait("the pipeline", lambda: daemon.is_done("p", events))
    counts = hold(daemon, "p")
    print(f"{events} events: {counts}")
    listed = json.loads(daemon.command("dlt", "list", "p", "--json"))
    check("dlt list counts the same", {group["reason"]: group["open"] for group in listed} == {why: n for why, n in counts.items() if n})
    # The file is mended for one cause, the topic for another.
    room = ["topic", "alter", "p-out", "--config", "max.message.bytes=1048576", "--http", daemon.http]
    check("more room", subprocess.run([inrush, *room], capture_output=True).returncode == 0)
    daemon.write("p", pipeline("events", "p", "nullif(quantity, 0)"))
    trial = daemon.command("dlt", "replay", "p", "--dry-run")
    check("a trial run writes nothing", "would fail again" in trial and hold(daemon, "p") == counts, trial)
    began = time.monotonic()
    if is_killed:
        daemon.command("dlt", "replay", "p", "--no-wait")
        time.sleep(0.02)
        daemon.end(signal.SIGKILL)
        daemon = Daemon(daemon.where)
        # It may have ended before the kill; else the daemon goes on with it by itself.
        failed = sum(counts[why] for why in REASONS if why not in ("expression", "too-large"))
        daemon.wait("the replay", lambda: sum(group["open"] for group in json.loads(daemon.command("dlt", "list", "p", "--json"))) == failed)
    else:
        print(daemon.command("dlt", "replay", "p").strip())
    took = time.monotonic() - began
    again = [why for why in REASONS if why not in ("expression", "too-large")]
    hold(daemon, "p", mended=("expression", "too-large"), again=again)
    print(f"replayed in {took:.2f} s, each of {sum(counts.values())} letters once")
    # What failed again is open, and nothing else.
    listed = json.loads(daemon.command("dlt", "list", "p", "--json"))
    check("what failed again is open", sum(group["open"] for group in listed) == sum(counts[why] for why in again))
    daemon.command("dlt", "drop", "p-dlt", "--yes")
    check("nothing is open after the drop", not json.loads(daemon.command("dlt", "list", "p-dlt", "--json")))
    daemon.end()


def cost():
    """What bad records cost: time and CPU of a pipeline over a whole topic that lies ready, clean and broken in turn."""
    daemon = Daemon(f"{folder}/cost")
    for kind in ("clean", "broken"):
        topic(daemon, kind)
        send(daemon, kind, kind == "broken")
    took = {"clean": [], "broken": []}
    for turn in range(turns):
        for kind in ("clean", "broken") if turn % 2 == 0 else ("broken", "clean"):
            name = f"{kind}-{turn}"
            topic(daemon, f"{name}-out", max_message_bytes=4096)
            cpu, began = daemon.cpu(), time.monotonic()
            daemon.write(name, pipeline(kind, name))
            daemon.wait(name, lambda: (line := daemon.line(name)) and sum(line["positions"].values()) == events)
            took[kind].append((time.monotonic() - began, daemon.cpu() - cpu))
            daemon.wait(name, lambda: daemon.is_done(name, events))
            os.remove(f"{daemon.where}/pipelines/{name}.toml")
            daemon.command("pipeline", "reload")
            print(f"{name}: {took[kind][-1][0]:.2f} s, {took[kind][-1][1]:.2f} CPU s", flush=True)
    medians = {kind: [statistics.median(values) for values in zip(*runs)] for kind, runs in took.items()}
    for at, unit in enumerate(("s", "CPU s")):
        clean, broken = medians["clean"][at], medians["broken"][at]
        print(f"medians of {turns}: clean {clean:.2f} {unit}, 1 % broken {broken:.2f} {unit}: {broken / clean:.2f} times")
    daemon.end()


whole(False)
whole(True)
if turns:
    cost()
print(f"{passed} passed, 0 failed")
