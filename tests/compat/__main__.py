"""Runs all scenarios against Apache Kafka and Inrush and compares. `tests/compat.sh` starts both and calls this.

Usage: python tests/compat KAFKA_HOST:PORT INRUSH_HOST:PORT JAR RESTART [SCENARIO_PREFIX...]
JAR is kafka-clients' (the descriptors); RESTART a command that restarts both and prints nothing. With prefixes no report is written, nor with
COMPAT_SELF=1, when both are Kafka and no difference is accepted.
"""

import os
import pathlib
import subprocess
import sys
import time

import compare
import report
import scenario
from broker import Server

from wire import Protocol

HERE = pathlib.Path(__file__).parent
REPORT = HERE.parent.parent / "docs" / "COMPATIBILITY.md"


def main(kafka, inrush, jar, restart, *only):
    began = time.monotonic()
    protocol = Protocol(jar)
    servers = [Server(name, *address(text), protocol) for name, text in (("kafka", kafka), ("inrush", inrush))]
    scenarios = scenario.load(only)
    print(f"{len(scenarios)} scenarios on {' and '.join(server.name for server in servers)}", flush=True)
    done = {}

    def progress(run):
        both = done.setdefault(run.scenario.name, {})
        both[run.broker.server.name] = run
        if len(both) == len(servers) and not any(one.rest for one in both.values()):
            tell(list(both.values()), began)

    def stop_and_start():
        print("restarting both", flush=True)
        subprocess.run(restart, shell=True, check=True)

    runs = scenario.run_all(scenarios, servers, progress, stop_and_start)
    broken = [run for (_, server), run in runs.items() if server == "kafka" and run.failure]
    for run in broken:  # the harness's own mistake, or Kafka's: never taken for an answer
        print(f"\n{run.scenario.name} does not go through on Kafka itself:\n{run.failure}")
    found = [
        one
        for each in scenarios
        for one in compare.differences(each.name, *(runs[each.name, server.name].broker.seen for server in servers))
    ]
    is_self = os.environ.get("COMPAT_SELF") == "1"
    stale = compare.judge(found, [] if is_self else compare.load_known(HERE / "known.toml"))
    if not only and not is_self:
        report.write(REPORT, pathlib.Path(jar).stem.removeprefix("kafka-clients-"), scenarios, found, runs)
    return conclude(scenarios, found, [] if only else stale, broken, began, only)


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


def tell(runs, began):
    views = {run.broker.server.name: run.broker.seen for run in runs}
    same = views["kafka"] == views["inrush"]
    print(
        f"{time.monotonic() - began:6.1f} s  {'same     ' if same else 'different'}  {runs[0].scenario.name:<40} {max(run.seconds for run in runs):5.1f} s",
        flush=True,
    )


def conclude(scenarios, found, stale, broken, began, only):
    new = [one for one in found if not one.reason]
    for one in found if only else new:
        versions = f" (v{one.shown_versions()})" if one.versions else ""
        accepted = " [accepted]" if one.reason else ""
        print(
            f"  {one.scenario}: {one.place}{versions}: Kafka {report.plain(report.shown(one.kafka, 300))}, Inrush {report.plain(report.shown(one.inrush, 300))}{accepted}"
        )
    for entry in stale:
        print(
            f"  known.toml: {entry.scenario}, {entry.at}: no such difference any more, or none that another entry does not cover; take it out"
        )
    differ = {one.scenario for one in new}
    print(
        f"{len(scenarios)} scenarios in {time.monotonic() - began:.0f} s: {len(scenarios) - len(differ)} the same or accepted, {len(differ)} differ ({len(new)} differences not in known.toml), {len(stale)} stale entries, {len(broken)} that Kafka does not go through"
    )
    return 1 if new or stale or broken else 0


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    code = main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
