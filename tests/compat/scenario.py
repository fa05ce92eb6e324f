"""Scenarios: what they are, how they run against one server.

A scenario is a function that takes a Broker, asks, and sees. Its docstring says what it is about. One that yields goes on after a restart of the
server, so that what must survive one can be seen. One that cannot go on raises; that is seen too, so nothing is skipped in silence.
"""

import importlib
import inspect
import pathlib
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed

from broker import Broker, Stopped

ALL = []
WORKERS = 12


class Scenario:
    def __init__(self, run, apis, behaviours):
        self.run, self.apis, self.behaviours = run, apis, behaviours
        self.name = f"{run.__module__.rpartition('.')[2]}.{run.__name__}"
        self.about = " ".join((run.__doc__ or "").split())
        self.restarts = inspect.isgeneratorfunction(run)


def scenario(*apis, behaviours=()):
    """Registers a function; `apis` are the requests it is about, `behaviours` the numbers of the reference's list."""

    def keep(run):
        ALL.append(Scenario(run, list(apis), list(behaviours)))
        return run

    return keep


def load(only=None):
    for path in sorted((pathlib.Path(__file__).parent / "scenarios").glob("*.py")):
        importlib.import_module(f"scenarios.{path.stem}")
    return [one for one in ALL if not only or any(one.name.startswith(prefix) for prefix in only)]


class Run:
    """One scenario on one server."""

    def __init__(self, scenario_, server):
        self.scenario = scenario_
        self.broker = Broker(server, scenario_.name.replace("_", "-"))
        self.rest, self.failure, self.seconds = None, None, 0.0

    def step(self):
        """Runs to the end, or to the restart; then from there on."""
        began = time.monotonic()
        try:
            if not self.scenario.restarts:
                self.scenario.run(self.broker)
            else:
                self.rest = self.rest or self.scenario.run(self.broker)
                if next(self.rest, "ended") == "ended":
                    self.rest = None
        except Stopped as stopped:
            self.stop(str(stopped))
        except Exception as error:  # whatever a server's answer did to a scenario is a finding about that server
            self.stop(f"{type(error).__name__}: {error}")
            self.failure = traceback.format_exc()
        finally:
            self.broker.close()
            self.seconds += time.monotonic() - began

    def stop(self, why):
        self.broker.seen["goes on to its end"] = {"": why}
        self.rest, self.failure = None, self.failure or why


def run_all(scenarios, servers, progress, restart):
    """All scenarios on all servers at once, each on topics and groups of its own. Gives {(scenario, server): Run}."""
    runs = {(one.name, server.name): Run(one, server) for one in scenarios for server in servers}
    together(runs.values(), progress)
    waiting = [run for run in runs.values() if run.rest]
    if waiting:
        restart()
        together(waiting, progress)
    for run in runs.values():
        run.broker.seen.setdefault("goes on to its end", {"": "yes"})
    return runs


def together(runs, progress):
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting = {pool.submit(run.step): run for run in runs}
        for future in as_completed(waiting):
            future.result()
            progress(waiting[future])
