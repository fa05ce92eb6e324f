"""Drives object_store.sh: a daemon, an S3 server, load, kills, and the count at the end."""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import boto3
import botocore.config
import botocore.exceptions
import duckdb

INRUSH, GATEWAY, FOLDER, KILLS = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
BUCKET, TOPIC, PARTITIONS = "lake", "clicks", 3
PLACES = ("raw/clicks", "whole")
KEYS = {"AWS_ACCESS_KEY_ID": "AKTEST", "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-test"}
passed = 0
started = time.time()


def check(what, is_right):
    global passed
    if not is_right:
        sys.exit(f"failed: {what}")
    passed += 1


def say(text):
    print(f"{time.time() - started:6.1f} s  {text}", flush=True)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait(what, is_there, seconds=60):
    until = time.time() + seconds
    while time.time() < until:
        try:
            if is_there():
                return
        except (OSError, http.client.HTTPException, botocore.exceptions.BotoCoreError, duckdb.Error):
            pass
        time.sleep(0.1)
    sys.exit(f"failed: waited too long for {what}")


class Server:
    """The S3 server; its folder outlives it."""

    def __init__(self):
        self.port = free_port()
        for name in ("objects", "side"):
            os.makedirs(f"{FOLDER}/{name}")
        self.process = None

    def start(self):
        command = [GATEWAY, "--quiet", "--port", f"127.0.0.1:{self.port}", "--access", KEYS["AWS_ACCESS_KEY_ID"],
                   "--secret", KEYS["AWS_SECRET_ACCESS_KEY"], "posix", "--sidecar", f"{FOLDER}/side", f"{FOLDER}/objects"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait("the S3 server", lambda: socket.create_connection(("127.0.0.1", self.port), 1).close() or True)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Daemon:
    """Its log is kept over all of its lives."""

    def __init__(self):
        self.http, self.admin = free_port(), free_port()
        self.process = None

    def start(self):
        command = [INRUSH, "serve", "--data", f"{FOLDER}/data", "--out", f"{FOLDER}/out", "--pipelines", f"{FOLDER}/pipelines",
                   "--http", f"127.0.0.1:{self.http}", "--kafka", "127.0.0.1:0", "--admin", f"127.0.0.1:{self.admin}"]
        log = open(f"{FOLDER}/log", "ab")
        environment = os.environ | KEYS | {"RUST_LOG": "info", "INRUSH_LOG_FORMAT": "json"}
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        wait("the daemon", lambda: self.process.poll() is None and self.ask("GET", "/v1/topics") is not None)

    def ask(self, method, path, body=None, port=None):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.http, timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read()
            return json.loads(text) if answer.status < 300 else None
        finally:
            connection.close()

    def kill(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        self.process.wait()


class Load:
    """Sends events until it is told to stop; remembers what was taken."""

    def __init__(self, daemon):
        self.daemon, self.taken, self.is_over = daemon, 0, False
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        number = 0
        while not self.is_over:
            moment = 1_767_225_600 + number // 4_000 * 1_800
            lines = [json.dumps({"ts": moment, "n": number + at, "user": f"user-{(number + at) * 7919 % 100_003}", "pad": os.urandom(500).hex()})
                     for at in range(200)]
            number += 200
            try:
                answer = self.daemon.ask("POST", f"/v1/topics/{TOPIC}/events", "\n".join(lines))
                self.taken += answer["taken"] if answer else 0
                time.sleep(0.01 if answer else 0.2)
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.2)


os.makedirs(f"{FOLDER}/pipelines")
server, daemon = Server(), Daemon()
pipeline = f"""
from   = "topic:{TOPIC}"
select = "ts, n, user, pad"
to     = {{ parquet = "s3://{BUCKET}/raw/clicks", endpoint = "http://127.0.0.1:{server.port}", partition = "dt=%Y-%m-%d/hour=%H", time = "ts", roll = "700ms or 16MiB", sort = "user, ts", bloom = ["user"], source-columns = true }}

[columns]
ts   = {{ type = "timestamp(s)", required = true }}
n    = "int64"
user = "string"
pad  = "string"
"""
# Files of several parts, whose uploads are open while the kills come.
whole = f"""
from   = "topic:{TOPIC}"
select = "n, pad"
to     = {{ parquet = "s3://{BUCKET}/whole", endpoint = "http://127.0.0.1:{server.port}", roll = "3s or 64MiB", source-columns = true }}

[columns]
n   = "int64"
pad = "string"
"""
for name, text in (("clicks", pipeline), ("whole", whole)):
    with open(f"{FOLDER}/pipelines/{name}.toml", "w") as file:
        file.write(text)

without = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
told = subprocess.run([INRUSH, "pipeline", "check", f"{FOLDER}/pipelines/clicks.toml"], capture_output=True, text=True, env=without)
check("check says that keys are missing", "AWS_ACCESS_KEY_ID" in told.stdout + told.stderr)

server.start()
daemon.start()
client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{server.port}", aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
                      aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1",
                      config=botocore.config.Config(s3={"addressing_style": "path"}))
check("the topic is made", daemon.ask("POST", "/v1/topics", json.dumps({"name": TOPIC, "partitions": PARTITIONS})) is not None)
load = Load(daemon)
load.thread.start()


def objects():
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def log_has(text):
    with open(f"{FOLDER}/log", "rb") as file:
        return text.encode() in file.read()


wait("the missing bucket to be told", lambda: log_has("make the bucket"))
say("the missing bucket is told, and what to do")
client.create_bucket(Bucket=BUCKET)
wait("the first object", lambda: any(key.endswith(".parquet") for key in objects()), 90)
say("it goes on when the bucket is there")

for kill in range(KILLS):
    time.sleep(random.uniform(1.0, 3.0))
    if kill % 2 == 0:
        daemon.kill()
        say("daemon killed")
        daemon.start()
    else:
        server.kill()
        say("S3 server killed")
        time.sleep(random.uniform(0.5, 2.0))
        if kill % 4 == 3:
            daemon.kill()
            daemon.start()
            say("daemon killed meanwhile")
            time.sleep(1)
        server.start()

time.sleep(2)
load.is_over = True
load.thread.join()
say(f"{load.taken} events taken")


def ends():
    return {part["partition"]: part["tail"] - part["start"] for part in daemon.ask("GET", f"/v1/topics/{TOPIC}")["partition_list"]}


def table(place):
    parts = ends()
    with duckdb.connect() as db:
        files = f"read_parquet('{FOLDER}/objects/{BUCKET}/{place}/**/*.parquet', union_by_name = true, hive_partitioning = true)"
        return parts, db.sql(f"select _partition, count(*), count(distinct _offset), min(_offset), max(_offset) from {files} group by 1 order by 1").fetchall()


def tell():
    """What there is to see when the pipelines do not get to the end."""
    for place in PLACES:
        print(place, *table(place), sep="\n  ", flush=True)
    for path, port in (("/api/pipelines", daemon.admin), (f"/v1/topics/{TOPIC}", daemon.http)):
        print(json.dumps(daemon.ask("GET", path, port=port), indent=1), flush=True)
    with open(f"{FOLDER}/log", errors="replace") as file:
        print("".join(file.readlines()[-60:]), flush=True)


def wait_for_the_end(seconds):
    """Waits until each record has its row; as long as there are more of them, a slow disk is no fault."""
    rows_before, since = 0, time.time()
    while time.time() - since < seconds:
        try:
            found = [(sum(parts.values()), sum(row[1] for row in rows)) for parts, rows in map(table, PLACES)]
        except (OSError, http.client.HTTPException, duckdb.Error):
            found = []
        if found and all(rows >= records for records, rows in found):
            return
        rows = sum(rows for _, rows in found)
        if rows > rows_before:
            rows_before, since = rows, time.time()
        time.sleep(0.2)
    tell()
    sys.exit("failed: waited too long for the last records")


wait_for_the_end(120)
daemon.kill(signal.SIGTERM)
check("the daemon ends well", daemon.process.returncode == 0)
daemon.start()
for place in PLACES:
    parts, rows = table(place)
    say(f"{place}: {sum(row[1] for row in rows)} rows in {len([key for key in objects() if key.startswith(place) and key.endswith('.parquet')])} objects")
    check("the log has at least what was taken", sum(parts.values()) >= load.taken > 0)
    check("every partition had records", len(rows) == len([part for part in parts.values() if part]))
    for partition, count, distinct, first, last in rows:
        check(f"no record of partition {partition} is lost or twice", count == distinct == parts[partition] and (first, last) == (0, count - 1))
tags = [entry["ETag"].strip('"') for entry in client.list_objects_v2(Bucket=BUCKET, Prefix="whole/")["Contents"]]
check("some objects have several parts", any("-" in tag and int(tag.rpartition("-")[2]) > 1 for tag in tags))
check("no upload is open", not client.list_multipart_uploads(Bucket=BUCKET).get("Uploads"))
check("nothing is staged where readers look", all("_inrush" not in key for key in objects() if key.endswith(".parquet")))
check("owner and schema are there", {"raw/clicks/_inrush/owner.json", "raw/clicks/_inrush/schema.json"} <= set(objects()))
body = client.get_object(Bucket=BUCKET, Key=next(key for key in objects() if key.startswith("raw/") and key.endswith(".parquet")))["Body"].read()
with open(f"{FOLDER}/one.parquet", "wb") as file:
    file.write(body)
with duckdb.connect() as db:
    sorted_rows = db.sql(f"select user, ts from '{FOLDER}/one.parquet'").fetchall()
    check("rows of a file are sorted", sorted_rows == sorted(sorted_rows))
    chunks = db.sql(f"select path_in_schema, bloom_filter_offset from parquet_metadata('{FOLDER}/one.parquet')").fetchall()
    check("the filter is there", {name: offset is not None for name, offset in chunks} == {
        name: name == "user" for name in ("ts", "n", "user", "pad", "_partition", "_offset", "_timestamp")})
daemon.kill(signal.SIGTERM)
with open(f"{FOLDER}/log", "rb") as file:
    check("no secret is in the log", KEYS["AWS_SECRET_ACCESS_KEY"].encode() not in file.read())
check("nor in a checkpoint", KEYS["AWS_SECRET_ACCESS_KEY"] not in open(f"{FOLDER}/data/pipelines/clicks/checkpoint").read())
server.kill()
print(f"{passed} passed, 0 failed")
