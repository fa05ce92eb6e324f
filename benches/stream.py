"""How late rows of a pipeline are behind a steady load, and what 100 idle pipelines cost; see stream.sh."""
import glob
import json
import os
import signal
import statistics
import subprocess
import sys
import time

import pyarrow.parquet as parquet
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

RATE = 10_000
COLUMNS = """
[columns]
event_id = { path = "/eventId", type = "string" }
url      = { path = "/page/url", type = "string" }
"""
TO_TOPIC = 'from = "topic:clicks"\nselect = "event_id, url_host(url) as host"\nto = { topic = "hosts" }\n' + COLUMNS
TO_PARQUET = (
    'from = "topic:clicks"\nselect = "event_id, url_host(url) as host, _timestamp as at"\nto = { parquet = "hosts", roll = "1s" }\n' + COLUMNS
)


class Daemon:
    def __init__(self, inrush, folder, pipelines):
        self.data = f"{folder}/data"
        os.makedirs(f"{folder}/pipelines", exist_ok=True)
        for name, text in pipelines.items():
            with open(f"{folder}/pipelines/{name}.toml", "w") as file:
                file.write(text)
        log = open(f"{folder}/log", "w")
        ports = [flag for door in ("--http", "--kafka", "--admin") for flag in (door, "127.0.0.1:0")]
        command = [inrush, "serve", "--data", self.data, "--pipelines", f"{folder}/pipelines", *ports]
        self.process = subprocess.Popen(command, stderr=log, env=dict(os.environ, INRUSH_LOG_FORMAT="json", RUST_LOG="info"))
        while True:
            ready = [line for line in open(f"{folder}/log") if '"inrush is ready"' in line]
            if ready:
                break
            assert self.process.poll() is None, open(f"{folder}/log").read()
            time.sleep(0.05)
        fields = json.loads(ready[0])
        fields = fields.get("fields", fields)
        self.http, self.kafka = fields["http"], fields["kafka"]

    def status(self, name):
        lines = open(f"/proc/{self.process.pid}/status")
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name + ":"))

    def cpu(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def late_rows(inrush, folder, seconds, pipelines):
    daemon = Daemon(inrush, folder, pipelines)
    subprocess.run([inrush, "topic", "create", "clicks", "--http", daemon.http], check=True, capture_output=True)
    load = [inrush, "gen", "clicks", "--http", daemon.http, "--rate", f"{RATE}/s", "--seconds", str(seconds), "--connections", "64", "--json"]
    consumer = Consumer({"bootstrap.servers": daemon.kafka, "group.id": "bench", "fetch.wait.max.ms": 10})
    while not (topic := consumer.list_topics(timeout=10).topics.get("hosts")) or topic.error:
        time.sleep(0.1)
    consumer.assign([TopicPartition("hosts", partition, OFFSET_BEGINNING) for partition in topic.partitions])
    load = subprocess.Popen(load, stdout=subprocess.PIPE, text=True)
    # The first two seconds are everybody's beginning.
    began, waits, files, ages = time.time() + 2, [], set(), []
    while load.poll() is None or time.time() < began + seconds + 1:
        for message in consumer.consume(500, 0.01):
            if message.error() is None and time.time() > began:
                waits.append(time.time() * 1000 - message.timestamp()[1])
        for file in set(glob.glob(f"{daemon.data}/out/hosts/*.parquet")) - files:
            seen = time.time()
            files.add(file)
            oldest = parquet.read_table(file, columns=["at"])["at"].to_pylist()
            if oldest and seen > began:
                ages.append(seen - min(oldest).timestamp())
    sent = json.loads(load.stdout.read().strip().splitlines()[-1])
    consumer.close()
    daemon.stop()
    waits.sort()
    at = lambda share: waits[min(int(len(waits) * share), len(waits) - 1)]
    return {"rows": len(waits), "p50_ms": at(0.5), "p99_ms": at(0.99), "p999_ms": at(0.999), "parquet_s": max(ages, default=None), "files": len(ages), "sent": sent}


def idle(inrush, folder, count, seconds):
    def text(number):
        return TO_PARQUET.replace("topic:clicks", f"topic:t{number}").replace('"hosts"', f'"out{number}"')

    daemon = Daemon(inrush, folder, {f"p{number}": text(number) for number in range(count)})
    for number in range(count):
        subprocess.run([inrush, "topic", "create", f"t{number}", "--http", daemon.http], check=True, capture_output=True)
    time.sleep(3)
    before = daemon.cpu()
    time.sleep(seconds)
    result = {"rss_mib": daemon.status("VmRSS"), "cpu_percent": (daemon.cpu() - before) / seconds * 100}
    daemon.stop()
    return result


def main():
    inrush, folder, seconds, runs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    both = {"totopic": TO_TOPIC, "toparquet": TO_PARQUET}
    for what, pipelines in (("alone", {"totopic": TO_TOPIC}), ("beside one into Parquet", both)):
        rounds = []
        for run in range(runs):
            rounds.append(late_rows(inrush, f"{folder}/late{len(pipelines)}{run}", seconds, pipelines))
            print(json.dumps({key: value for key, value in rounds[-1].items() if key != "sent"}), flush=True)
        middle = lambda key: statistics.median(each[key] for each in rounds)
        print(f"{RATE} events/s over HTTP through a pipeline into a topic, {what}, medians of {runs}: p50 {middle('p50_ms'):.1f} ms, p99 {middle('p99_ms'):.1f} ms,"
              f" p99.9 {middle('p999_ms'):.1f} ms behind the record's time" + (" (p99 at most 50)" if len(pipelines) == 1 else ""))
    print(f"the oldest row of a Parquet file is {middle('parquet_s'):.2f} s old when it is visible (at most 2)")
    for count in (0, 100):
        found = idle(inrush, f"{folder}/idle{count}", count, 20)
        print(f"{count} pipelines with nothing to do: {found['rss_mib']:.0f} MiB resident, {found['cpu_percent']:.1f} % of a core")


if __name__ == "__main__":
    main()
