"""Counts of what held and what did not, for scripts that run scenarios side by side. Knows no client."""

import os
import threading
import time
import traceback

passed = 0
failed = []
lock = threading.Lock()


def check(what, is_right):
    global passed
    with lock:
        if is_right:
            passed += 1
        else:
            failed.append(what)
            print("failed:", what, flush=True)


def attempt(run, *arguments):
    """Runs a scenario; one that ends in an exception has failed."""
    began = time.monotonic()
    try:
        run(*arguments)
    except Exception as error:  # noqa: BLE001 - each client has errors of its own
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.name == run.__name__]
        check(f"{run.__name__} {arguments}: {type(error).__name__}: {error} (line {lines})", False)
    if os.environ.get("INRUSH_TIMES"):
        print(f"{run.__name__} {arguments}: {time.monotonic() - began:.1f} s", flush=True)


def end(name):
    """Tells the counts and ends the process at once: what a failed scenario left behind is not waited for."""
    print(f"{name}: {passed} passed, {len(failed)} failed", flush=True)
    os._exit(1 if failed else 0)
