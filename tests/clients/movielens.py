"""The ratings of MovieLens as events, over HTTP and over Kafka, against the Parquet that comes out.
Usage: movielens.py SOURCE OUT_FOLDER READY_LINE"""

import http.client
import json
import sys
import time

import confluent_kafka
import duckdb

SOURCE, OUT, READY = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])["fields"]
BATCH = 1_000
SINGLE = 2_000  # the last ones go one event a request
PATIENCE = 300
passed = 0
failed = []


def check(what, is_right):
    global passed
    if is_right:
        passed += 1
    else:
        failed.append(what)
        print("failed:", what, flush=True)


def rows():
    with open(SOURCE, encoding="ascii") as lines:
        next(lines)
        for line in lines:
            user, item, rating, ts = line.rstrip("\n").split("\t")
            yield {"user_id": int(user), "item_id": int(item), "rating": float(rating), "timestamp": int(float(ts))}


def post(connection, events):
    body = "\n".join(json.dumps(event) for event in events)
    connection.request("POST", "/v1/topics/ratings-http/events", body)
    answer = connection.getresponse()
    taken = json.loads(answer.read())
    return answer.status == 200 and taken["taken"] == len(events)


def over_http(events):
    connection = http.client.HTTPConnection(READY["http"], timeout=60)
    many, single = events[:-SINGLE], events[-SINGLE:]
    check("HTTP takes every batch", all(post(connection, many[at : at + BATCH]) for at in range(0, len(many), BATCH)))
    check("HTTP takes every single event", all(post(connection, [event]) for event in single))


def over_kafka(events):
    errors = []

    def delivered(error, _):
        if error:
            errors.append(str(error))

    config = {"bootstrap.servers": READY["kafka"], "enable.idempotence": True, "compression.type": "lz4", "linger.ms": 5}
    producer = confluent_kafka.Producer(config)
    for event in events:
        while True:
            try:
                producer.produce("ratings-kafka", key=str(event["user_id"]), value=json.dumps(event), on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(PATIENCE)
    check(f"Kafka takes every event {errors[:3]}", left == 0 and not errors)


def wait_until_written(count):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        connection = http.client.HTTPConnection(READY["admin"], timeout=60)
        connection.request("GET", "/api/pipelines")
        pipelines = json.loads(connection.getresponse().read())
        if len(pipelines) == 2 and all(sum((p["committed"] or {}).values()) == count for p in pipelines):
            return True
        time.sleep(0.2)
    print(pipelines, flush=True)
    return False


events = list(rows())
check("the source has 100,000 ratings", len(events) == 100_000)
over_http(events)
over_kafka(events)
check("the pipelines reach the end", wait_until_written(len(events)))
sql = duckdb.connect()
sql.execute("set timezone = 'UTC'")
sql.execute(f"create table source as select \"user_id:token\"::bigint user_id, \"item_id:token\"::bigint item_id, \"rating:float\"::double rating, \"timestamp:float\"::bigint ts from read_csv('{SOURCE}', delim='\t', header=true, all_varchar=true)")
for way in ("http", "kafka"):
    sql.execute(f"create or replace view out as select user_id, item_id, rating, epoch(ts)::bigint ts from read_parquet('{OUT}/ratings-{way}/**/*.parquet', hive_partitioning = true)")
    one = lambda query: sql.execute(query).fetchall()
    both = lambda what: one(f"select {what} from source") == one(f"select {what} from out")
    check(f"{way}: rows", both("count(*)") and one("select count(*) from out") == [(100_000,)])
    check(f"{way}: sums", both("sum(user_id), sum(item_id), sum(rating), sum(ts)"))
    check(f"{way}: first and last time", both("min(ts), max(ts)"))
    by_user = "select user_id, count(*), sum(rating), min(ts), max(ts) from {} group by user_id order by user_id"
    check(f"{way}: counts by user", one(by_user.format("source")) == one(by_user.format("out")))
    check(f"{way}: nothing is missing", one("select count(*) from (from source except all from out)") == [(0,)])
    check(f"{way}: nothing is there twice", one("select count(*) from (from out except all from source)") == [(0,)])
print(f"{passed} passed, {len(failed)} failed")
sys.exit(1 if failed else 0)
