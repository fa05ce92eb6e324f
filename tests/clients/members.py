"""Members of consumer groups as processes, seen by who starts them: kcat, or a client of member.py."""

import json
import os
import re
import subprocess
import sys
import threading
import time

# What members ask for: the least that a broker takes by default. Those that were killed are gone after it.
SESSION_S = 6


class Member:
    """A consumer in a process of its own."""

    def __init__(self, address, client, group, topic, **options):
        self.client = client
        # What it read, and what it was told is committed, with the time.
        self.records, self.commits = [], []
        self.rebalances, self.assignment = [], []
        self.is_closed = False
        if client == "kcat":
            settings = [f"session.timeout.ms={SESSION_S * 1000}", "heartbeat.interval.ms=300", "auto.offset.reset=earliest"]
            settings += ["auto.commit.interval.ms=100", "topic.metadata.refresh.interval.ms=1000"]
            settings += [f"partition.assignment.strategy={options.get('assignor', 'range,roundrobin')}"]
            settings += [f"group.instance.id={options['instance']}"] if "instance" in options else []
            command = ["kcat", "-b", address, "-u", "-f", "%t %p %o %s\n"] + [word for one in settings for word in ("-X", one)] + ["-G", group, topic]
        else:
            command = [sys.executable, os.path.join(os.path.dirname(__file__), "member.py"), client, address, group, topic, json.dumps(options)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.noise = []
        self.readers = [threading.Thread(target=self.read, args=[stream], daemon=True) for stream in (self.process.stdout, self.process.stderr)]
        for reader in self.readers:
            reader.start()

    def read(self, stream):
        is_output = stream is self.process.stdout
        for line in stream:
            if is_output and self.client == "kcat":
                topic, partition, offset, value = line.split()
                self.records.append((topic, int(partition), int(offset), value))
            elif is_output:
                self.take(json.loads(line))
            elif line.startswith("% Group "):
                # "rebalanced (memberid …): assigned: t [0]" or "rebalanced: incremental assignment of 1 partition(s) (memberid …): t [0]"
                what = "revoke" if " revoke" in line else "assign"
                self.take_rebalance(what, sorted([topic, int(id)] for topic, id in re.findall(r"(\S+) \[(\d+)\]", line)))
            else:
                self.noise.append(line)

    def take(self, event):
        if "got" in event:
            self.records += [tuple(one) for one in event["got"]]
        elif "rebalance" in event:
            self.take_rebalance(event["rebalance"], event["parts"])
        elif "committed" in event:
            self.commits += [(time.monotonic(), *one) for one in event["committed"]]
        elif "refused" in event:
            self.noise.append(event["refused"])
        elif "closed" in event:
            self.is_closed = True

    def take_rebalance(self, what, parts):
        """What changes: with a cooperative assignor a part, else all."""
        self.rebalances.append((what, parts))
        others = [part for part in self.assignment if part not in parts]
        self.assignment = sorted(others + parts) if what == "assign" else others

    def values(self):
        return [int(value) for *_, value in self.records]

    def close(self, patience_s):
        """As a program does that ends in order: it leaves the group."""
        self.process.terminate()
        self.process.wait(patience_s)
        self.join()
        self.is_closed |= self.client == "kcat" and self.process.returncode == 0

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.join()

    def join(self):
        for reader in self.readers:
            reader.join()
