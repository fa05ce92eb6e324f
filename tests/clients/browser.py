"""Serves a page, lets headless Chromium load it and leave it, and looks for its events in the log.

Usage: browser.py http://DOOR FOLDER
"""

import http.server
import json
import subprocess
import sys
import threading
import time
import urllib.request

door, folder = sys.argv[1], sys.argv[2]
events = f"{door}/v1/topics/browser/events"
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
PAGE = """<!doctype html><title>sends</title><script>
const report = text => fetch('/report', {method: 'POST', body: text});
async function send(name, options) {
  try {
    const answer = await fetch('%(events)s', {method: 'POST', ...options});
    const body = await answer.json();
    await report(`${name} ${answer.status} taken=${body.taken}`);
  } catch (error) { await report(`${name} failed ${error}`); }
}
addEventListener('pagehide', () => navigator.sendBeacon('%(events)s', JSON.stringify({how: 'beacon-on-leave'})));
(async () => {
  await send('json', {headers: {'content-type': 'application/json', 'x-retry-count': '0'}, credentials: 'include', body: JSON.stringify({how: 'json'})});
  await send('text', {body: JSON.stringify({how: 'text'})});
  await send('keepalive', {keepalive: true, credentials: 'include', body: JSON.stringify({how: 'keepalive'})});
  await send('many', {headers: {'content-type': 'application/x-ndjson'}, body: '{"how":"line-1"}\\n{"how":"line-2"}'});
  const sent = navigator.sendBeacon('%(events)s', new Blob([JSON.stringify({how: 'beacon-json'})], {type: 'application/json'}));
  await report(`beacon ${sent}`);
  try { await fetch('%(events)s?limit=1'); await report('read succeeded'); } catch (error) { await report('read refused'); }
  location = '/next';
})();
</script>"""
NEXT = "<!doctype html><title>next</title><script>setTimeout(() => fetch('/report', {method: 'POST', body: 'left'}), 300)</script>"
reports = []


class Site(http.server.BaseHTTPRequestHandler):
    def answer(self, body):
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer((NEXT if self.path == "/next" else PAGE % {"events": events}).encode())

    def do_POST(self):
        reports.append(self.rfile.read(int(self.headers["content-length"])).decode())
        self.answer(b"ok")

    def log_message(self, *_):
        pass


site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
threading.Thread(target=site.serve_forever, daemon=True).start()
page = f"http://localhost:{site.server_address[1]}/"
chromium = subprocess.Popen(["chromium", *FLAGS.split(), f"--user-data-dir={folder}/profile", "--remote-debugging-port=0", page], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
passed = failed = 0


def check(what, is_right):
    global passed, failed
    passed, failed = passed + bool(is_right), failed + (not is_right)
    if not is_right:
        print(f"failed: {what}; reports: {reports}")


def stored():
    try:
        with urllib.request.urlopen(f"{events}?limit=100") as answer:
            return json.load(answer)["events"]
    except urllib.error.HTTPError:
        return []


wanted = {"json", "text", "keepalive", "line-1", "line-2", "beacon-json", "beacon-on-leave"}
try:
    for _ in range(1200):
        found = stored()
        if "left" in reports and {event["value"]["how"] for event in found} >= wanted:
            break
        time.sleep(0.1)
finally:
    chromium.terminate()
    chromium.wait()
by_name = {report.split()[0]: report for report in reports}
for name, taken in (("json", 1), ("text", 1), ("keepalive", 1), ("many", 2)):
    check(f"the page reads the answer to {name}", by_name.get(name) == f"{name} 200 taken={taken}")
check("a page may not read", by_name.get("read") == "read refused")
found = stored()
for how in sorted(wanted):
    check(f"{how} is in the log once", sum(event["value"]["how"] == how for event in found) == 1)
check("the origin is captured", all(event["headers"].get("origin") == page.rstrip("/") for event in found))
check("the user agent is captured", all("Chrom" in event["headers"].get("user-agent", "") for event in found))
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
