"""Load, a Prometheus, and every query of dashboards/inrush.json: each must give at least one series. Called by dashboards.sh."""

import json
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

http, admin, folder = sys.argv[1:4]


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


# These have series only after something that this test does not do.
QUIET = ("inrush_server_kafka_", "inrush_store_read_bytes_total", "inrush_store_segments_deleted_total")
try:
    with open("dashboards/inrush.json") as file:
        queries = [target["expr"].replace("$__rate_interval", "10s") for panel in json.load(file)["panels"] for target in panel["targets"]]
    until = time.time() + 60
    left = list(queries)
    n = 0
    while left and time.time() < until:
        n += 1
        load(n)
        time.sleep(0.2)
        if n % 10 == 0:
            try:
                left = [query for query in left if not ask(query) and not any(word in query for word in QUIET)]
            except OSError:
                continue  # not up yet
    for query in left:
        print("no answer:", query)
    print(f"{len(queries) - len(left)} passed, {len(left)} failed")
    sys.exit(1 if left else 0)
finally:
    prometheus.terminate()
    prometheus.wait()
