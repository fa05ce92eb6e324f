"""Load, a Prometheus, and every query of dashboards/inrush.json: each must give at least one series. Called by dashboards.sh.
Usage: dashboards.py INRUSH HTTP KAFKA ADMIN FOLDER"""

import json
import random
import socket
import struct
import subprocess
import sys
import time
import urllib.parse
import urllib.request

inrush, http, kafka, admin, folder = sys.argv[1:6]


def post(path, body):
    request = urllib.request.Request(f"http://{http}{path}", data=body.encode(), method="POST")
    try:
        urllib.request.urlopen(request, timeout=10).read()
    except urllib.error.HTTPError:
        pass  # refusals are wanted too


def load(n):
    lines = [json.dumps({"eventId": f"e{n}-{i}", "ts": "2026-01-01T00:00:00Z", "userAgent": "curl/8" if i % 9 == 0 else "Mozilla/5.0 Firefox/127.0"}) for i in range(50)]
    post("/v1/topics/clicks/events", "\n".join(lines + ['{"eventId": 1', '{"eventId":"x","viewport":{"width":"wide"}}']))
    post("/v1/topics/clicks/events", "")
    urllib.request.urlopen(f"http://{http}/v1/topics/clicks/events?limit=10", timeout=10).read()


def run(*arguments, sends=""):
    """Standard error of one of the commands, empty if it succeeded."""
    done = subprocess.run([inrush, *arguments], input=sends, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=10)
    return "" if done.returncode == 0 else done.stderr or "failed"


def load_kafka(n):
    """Records in, those of the HTTP door out, and one that is too large even when compressed."""
    failures = run("produce", "--kafka", kafka, "brief", sends=f"{n}\n" * 50) + run("consume", "--kafka", kafka, "clicks", "--limit", "10")
    assert not failures, failures
    refused = run("produce", "--kafka", kafka, "brief", sends=random.randbytes(3000).hex())
    assert "MessageTooLarge" in refused, refused


def commit_of_group():
    """An offset of a consumer group that has no members: OffsetCommit, version 2."""
    text = lambda text: struct.pack(">h", len(text)) + text.encode()
    topics = struct.pack(">i", 1) + text("clicks") + struct.pack(">iiq", 1, 0, 1) + text("")
    body = text("dashboards") + struct.pack(">i", -1) + text("") + struct.pack(">q", -1) + topics
    request = struct.pack(">hhi", 8, 2, 1) + text("dashboards") + body
    host, port = kafka.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as door:
        door.sendall(struct.pack(">i", len(request)) + request)
        answer = door.recv(4096)
    assert answer[-2:] == b"\0\0", answer


# Every five seconds a segment that began a second ago is sealed, and one is deleted whose newest record is a second old.
failure = run("topic", "create", "--http", http, "brief", "--config", "segment.ms=1000", "--config", "retention.ms=1000", "--config", "max.message.bytes=2048")
assert not failure, failure
# What the commands send and take is far over it: each request is throttled, and each command ends before it would wait.
failure = run("quota", "set", "--kafka", kafka, "--client-id", "inrush", "--producer-byte-rate", "1")
assert not failure, failure
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
with open(f"{folder}/prometheus.yml", "w") as file:
    file.write(f"global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: inrush, static_configs: [{{targets: ['{admin}']}}]}}]\n")
prometheus = subprocess.Popen(
    ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}"],
    stderr=subprocess.DEVNULL,
)


def ask(query):
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    answer = json.load(urllib.request.urlopen(url, timeout=5))
    assert answer["status"] == "success", (query, answer)
    return answer["data"]["result"]


# What the load moves for certain: a series that stays at zero is no answer.
MOVES = ("inrush_server_http_event", "inrush_server_kafka_", "inrush_store_read_bytes_total", "inrush_store_segments_deleted_total", "inrush_store_appended_", "inrush_access_throttled_")


def is_answered(query):
    values = [float(series["value"][1]) for series in ask(query)]
    return any(value > 0 for value in values) if any(word in query for word in MOVES) else bool(values)


try:
    with open("dashboards/inrush.json") as file:
        queries = [target["expr"].replace("$__rate_interval", "10s") for panel in json.load(file)["panels"] for target in panel["targets"]]
    until = time.time() + 60
    left = list(queries)
    n = 0
    while left and time.time() < until:
        n += 1
        load(n)
        load_kafka(n)
        commit_of_group()
        time.sleep(0.2)
        if n % 10 == 0:
            try:
                left = [query for query in left if not is_answered(query)]
            except OSError:
                continue  # not up yet
    for query in left:
        print("no answer:", query)
    print(f"{len(queries) - len(left)} passed, {len(left)} failed")
    sys.exit(1 if left else 0)
finally:
    prometheus.terminate()
    prometheus.wait()
