"""Crowds at the HTTP door: ten thousand connections that say nothing, a hundred that send a byte at a time, and one that wants to work.

Usage: http_crowd.py http://HOST:PORT
"""

import json
import resource
import socket
import sys
import threading
import urllib.parse

host, port = urllib.parse.urlsplit(sys.argv[1]).netloc.split(":")
address = (host, int(port))
passed = failed = 0


def check(what, is_right):
    global passed, failed
    passed, failed = passed + bool(is_right), failed + (not is_right)
    if not is_right:
        print(f"failed: {what}")


def post(stream, n):
    body = json.dumps({"n": n}).encode()
    stream.sendall(b"POST /v1/topics/crowd/events HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    return stream.recv(4096).startswith(b"HTTP/1.1 200")


soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
# The daemon has as many descriptors as we have; of 10,000 places we leave a few.
crowd = min(9_900, hard - 500)
worker = socket.create_connection(address)
check("a first event", post(worker, 0))
idle = [socket.create_connection(address) for _ in range(crowd)]
check(f"events with {crowd} idle connections beside", all(post(worker, n) for n in range(1, 101)))
check("a new connection too", post(socket.create_connection(address), 101))
slow = []
for n in range(100):
    stream = idle[n]
    stream.sendall(b"POST /v1/topics/crowd/events HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
    slow.append(stream)
is_over = threading.Event()


def drip():
    while not is_over.wait(0.05):
        for stream in slow:
            try:
                stream.send(b" ")
            except OSError:
                pass


thread = threading.Thread(target=drip)
thread.start()
check("events with 100 slow bodies beside", all(post(worker, n) for n in range(102, 302)))
# One byte each 50 ms is under 1 KiB/s: after ten seconds they are told so.
slow[0].settimeout(60)
check("a slow body is refused", slow[0].recv(4096).startswith(b"HTTP/1.1 408"))
is_over.set()
thread.join()
# Over all places: who is one too many is closed, who is in goes on.
more = []
for _ in range(10_200 - crowd if crowd == 9_900 else 0):
    try:
        more.append(socket.create_connection(address))
    except OSError:
        break
if more:
    more[-1].settimeout(10)
    try:
        is_closed = more[-1].recv(1) == b""
    except ConnectionError:
        is_closed = True
    check("one too many is closed", is_closed)
check("who is in goes on", post(worker, 302))
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
