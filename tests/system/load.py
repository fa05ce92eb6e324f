"""Sends events to the daemon of this machine until it is killed or the power is cut, and says in a file or on a serial port which were answered.

Usage: load.py NAME FILE        An event's id is NAME-THREAD-NUMBER; a line "ack ID." follows its 200, and is out before the next one.
Each thread has a connection; some send one event a request, some many, to a topic of small segments and to one that pipelines read.
"""

import http.client
import json
import os
import sys
import termios
import threading
import time

THREADS = [("cuts", 1)] * 4 + [("cuts", 20)] * 2 + [("clicks", 1), ("clicks", 20)]

name, file = sys.argv[1:]
serial = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOCTTY)
turn = threading.Lock()


def tell(ids):
    """Whole lines, one thread at a time, and gone to the other side when it returns."""
    rest = "".join(f"ack {one}.\n" for one in ids).encode()
    with turn:
        while rest:
            rest = rest[os.write(serial, rest) :]
        if os.isatty(serial):
            termios.tcdrain(serial)


def send(thread, topic, many):
    number, door = 0, None
    while True:
        ids = [f"{name}-{thread}-{number + one}" for one in range(many)]
        number += many
        body = "\n".join(json.dumps({"eventId": one, "type": "click", "page": {"url": "https://shop.example/"}}) for one in ids)
        try:
            if door is None:
                door = http.client.HTTPConnection("127.0.0.1", 8080, timeout=30)
            door.request("POST", f"/v1/topics/{topic}/events", body, {"User-Agent": "Firefox"})
            answer = door.getresponse()
            said = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            door = None
            time.sleep(0.1)
            continue
        if answer.status == 200 and said["taken"] == many:
            tell(ids)


for thread, (topic, many) in enumerate(THREADS):
    threading.Thread(target=send, args=(thread, topic, many)).start()
