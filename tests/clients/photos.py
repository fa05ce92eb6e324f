"""Real photographs as camera events over HTTP: byte for byte whole from the topic and from Parquet.

Usage: photos.py http://HOST:PORT OUT_FOLDER      (the daemon runs pipelines/camera.toml with a short roll)
Takes every JPEG that the packages scikit-learn and scikit-image ship; nothing of them is kept.
"""

import base64
import hashlib
import importlib.util
import json
import pathlib
import sys
import time
import urllib.request

import duckdb

door, out = sys.argv[1], sys.argv[2]
passed = failed = 0


def check(what, is_right):
    global passed, failed
    passed, failed = passed + bool(is_right), failed + (not is_right)
    if not is_right:
        print(f"failed: {what}")


def call(path, body=None, kind=None, method=None):
    request = urllib.request.Request(door + path, data=body, headers={"content-type": kind} if kind else {}, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


photos = {}
for package in ("sklearn", "skimage"):
    folder = pathlib.Path(importlib.util.find_spec(package).origin).parent
    for path in sorted(folder.rglob("*.jp*g")):
        photos[path.name] = path.read_bytes()
# The same scene larger, as a 4K camera sends it: bytes behind the picture's end are bytes too.
largest = max(photos.values(), key=len)
photos["large.jpg"] = largest + largest[2:] * (3_000_000 // len(largest))
check("photographs of several sizes were found", len({len(p) for p in photos.values()}) >= 3)
call("/v1/topics", json.dumps({"name": "camera", "config": {"max.message.bytes": "9000000"}}).encode(), "application/json")
for name, picture in photos.items():
    answer = call(f"/v1/topics/camera/events?camera={name}&label=test", picture, "image/jpeg")
    check(f"{name} of {len(picture)} bytes is taken", answer["taken"] == 1)
# Twice as a part of a multipart push.
for name in list(photos)[:2]:
    body = b"--b\r\nContent-Type: image/jpeg\r\n\r\n" + photos[name] + b"\r\n--b--\r\n"
    answer = call(f"/v1/topics/camera/events?camera=part-{name}", body, "multipart/form-data; boundary=b")
    check(f"{name} as a part is taken", answer["taken"] == 1)
    photos[f"part-{name}"] = photos[name]
stored, position = {}, "0"
while True:
    page = call(f"/v1/topics/camera/events?from={position}&limit=100")
    stored |= {e["headers"]["camera"]: base64.b64decode(e["value_base64"]) for e in page["events"]}
    if not page["events"]:
        break
    position = page["next"]
for name, picture in photos.items():
    check(f"{name} comes out of the topic as it went in", stored.get(name) == picture)
rows = {}
for _ in range(600):
    try:
        found = duckdb.sql(f"select camera, picture, size, width from read_parquet('{out}/**/*.parquet')").fetchall()
    except duckdb.IOException:
        found = []
    rows = {camera: (hashlib.sha256(picture).digest(), size, width) for camera, picture, size, width in found}
    if len(rows) == len(photos):
        break
    time.sleep(0.1)
for name, picture in photos.items():
    digest, size, width = rows.get(name, (None, None, None))
    check(f"{name} comes out of Parquet as it went in", digest == hashlib.sha256(picture).digest() and size == len(picture) and width)
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
