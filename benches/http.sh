#!/usr/bin/env bash
# The HTTP door against its limits, in one run and in turn, medians of ROUNDS:
#   one event a POST      against nginx `return 204` to the same requests (requests/s)
#   100 events a POST     against zstd level 1 of the same bytes on one core (MB/s)
# Ours and nginx are held to core 0, wrk to core 1. Needs wrk, nginx, zstd, python3, and a release build.
# Usage: benches/http.sh [PATH_TO_INRUSH]      ROUNDS=5 SECONDS_EACH=8 by default
set -euo pipefail
cd "$(dirname "$0")/.."
inrush=${1:-${CARGO_TARGET_DIR:-target}/release/inrush}
rounds=${ROUNDS:-5}
seconds=${SECONDS_EACH:-8}
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build --release"; exit 1; }
for tool in wrk nginx zstd python3 taskset; do
  command -v $tool >/dev/null || PATH=$PATH:/usr/sbin command -v $tool >/dev/null || { echo "$tool is missing: apt-get install wrk nginx zstd python3 util-linux"; exit 1; }
done
PATH=$PATH:/usr/sbin
# On the disk of the build, not on a tmpfs: an answer here means synced.
folder=$(mktemp -d "${BENCH_FOLDER:-$PWD/target}/http-bench.XXXXXX")
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; wait "${started[@]}" 2>/dev/null || true; rm -rf "$folder"' EXIT

python3 - "$folder" <<'PY'
# Page events of exactly 666 bytes that differ as real ones do; one body with one of them, one with 100 lines, and 10 MB of lines.
import json, random, sys
random.seed(1)
agents = ["Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
          "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
          "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0"]
words = "autumn shoe red mail garden lamp oak winter coat blue paper kettle stone river light cup wool shelf".split()
def event(n):
    e = {"eventId": "%032x" % random.getrandbits(128), "type": "page", "ts": "2026-11-26T10:%02d:%02d.%03dZ" % (n // 60 % 60, n % 60, random.randrange(1000)),
         "anonymousId": "%016x" % random.getrandbits(64), "userId": "u%d" % random.randrange(100000),
         "page": {"url": "https://shop.example/%s/%s?utm_source=%s" % (random.choice(words), random.choice(words), random.choice(words)), "title": " ".join(random.choices(words, k=3)), "referrer": "https://search.example/?q=" + random.choice(words)},
         "context": {"userAgent": random.choice(agents), "locale": "de-DE", "screen": {"width": random.randrange(300, 3000), "height": random.randrange(300, 2000)}},
         "properties": {"price": round(random.uniform(1, 500), 2), "quantity": random.randrange(1, 9), "sku": "%08x" % random.getrandbits(32)}}
    text = json.dumps(e, separators=(",", ":"))[:-1] + ',"note":"'
    while len(text) < 664: text += random.choice(words) + " "
    return text[:664] + '"}'
lines = [event(n) for n in range(15000)]
assert all(len(line) == 666 and json.loads(line) for line in lines)
open(f"{sys.argv[1]}/lines", "w").write("\n".join(lines) + "\n")
# 64 bodies in turn, so that what is compressed is not one body again and again.
for name, count in (("one", 1), ("hundred", 100)):
    bodies = ["\n".join(lines[n * count:(n + 1) * count]) for n in range(64)]
    quoted = ",\n".join("[==[" + body + "]==]" for body in bodies)
    open(f"{sys.argv[1]}/{name}.lua", "w").write("local bodies = {" + quoted + '''}
local requests, at = {}, 0
init = function(args)
  for n = 1, #bodies do requests[n] = wrk.format("POST", nil, {["Content-Type"] = "application/json"}, bodies[n]) end
end
request = function() at = at % #requests + 1; return requests[at] end
done = function(summary) io.write(string.format("RESULT %d %d %d\\n", summary.requests, summary.duration, summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.timeout + summary.errors.connect)) end
''')
PY

port=$(free_port)
cat >"$folder/nginx.conf" <<CONF
worker_processes 1;
daemon off;
pid $folder/nginx.pid;
error_log $folder/nginx.log crit;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  client_body_temp_path $folder/body;
  proxy_temp_path $folder/proxy; fastcgi_temp_path $folder/fastcgi; uwsgi_temp_path $folder/uwsgi; scgi_temp_path $folder/scgi;
  server { listen 127.0.0.1:$port backlog=4096; location / { return 204; } }
}
CONF
taskset -c 0 nginx -c "$folder/nginx.conf" -p "$folder" &
started+=($!)
INRUSH_LOG_FORMAT=json taskset -c 0 "$inrush" serve --data "$folder/data" --http 127.0.0.1:0 --kafka 127.0.0.1:0 --admin 127.0.0.1:0 --pipelines "$folder/none" 2>"$folder/log" &
inrush_pid=$!
started+=($inrush_pid)
for _ in $(seq 100); do
  door=$(sed -n 's/.*"message":"inrush is ready".*"http":"\([^"]*\)".*/\1/p' "$folder/log")
  [ -n "$door" ] && break
  sleep 0.1
done
[ -n "$door" ] || { cat "$folder/log"; exit 1; }
sleep 0.5

# Requests a second, and errors.
run() { # script, connections, url
  taskset -c 1 wrk -t1 -c"$2" -d"${seconds}s" -s "$folder/$1.lua" "$3" | awk '/^RESULT/ { printf "%.0f %d\n", $2 * 1e6 / $3, $4 }'
}
cpu_ticks() { awk '{ print $14 + $15 }' "/proc/$inrush_pid/stat"; }
median() { sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
fresh() { curl -s -o /dev/null -X DELETE "http://$door/v1/topics/$1" || true; }

echo "set-up: $(uname -r), $(nproc) cores, data on $(stat -f -c %T "$folder"); nginx $(nginx -v 2>&1 | sed 's#.*/##') with 1 worker on core 0, access log off, keepalive_requests unlimited, return 204;"
echo "        inrush on core 0, 1 partition, zstd 1, durability fsync, answered after the sync; wrk with 1 thread on core 1; $rounds rounds of ${seconds} s in turn"
for _ in $(seq "$rounds"); do
  read -r rate errors < <(run one 256 "http://127.0.0.1:$port/")
  echo "$rate" >>"$folder/nginx-one"
  before=$(cpu_ticks)
  read -r ours our_errors < <(run one 256 "http://$door/v1/topics/one/events")
  echo "$ours" >>"$folder/inrush-one"
  echo "  one event a POST, 256 connections: nginx $rate/s ($errors errors), inrush $ours/s ($our_errors errors, $((($(cpu_ticks) - before) / seconds)) % of a core)"
  fresh one
  limit=$(taskset -c 0 zstd -b1 -i2 -q "$folder/lines" 2>&1 | tr '\r' '\n' | sed -n "s/.*) *\([0-9.]*\) MB.s.*/\1/p" | tail -n 1)
  echo "$limit" >>"$folder/zstd"
  before=$(cpu_ticks)
  read -r ours our_errors < <(run hundred 128 "http://$door/v1/topics/hundred/events")
  speed=$(awk "BEGIN { printf \"%.1f\", $ours * 66.699 / 1000 }")
  echo "$speed" >>"$folder/inrush-hundred"
  echo "  100 events a POST, 128 connections: zstd -1 $limit MB/s, inrush $speed MB/s ($our_errors errors, $((($(cpu_ticks) - before) / seconds)) % of a core)"
  fresh hundred
done
# Ratios of medians; and the median of each round's own ratio, which a machine that others use too disturbs less.
ratios() { paste "$folder/$1" "$folder/$2" | awk '{ print $1 / $2 }' | median; }
summary() { # what, unit, ours, peer's name, peer's
  awk -v what="$1" -v unit="$2" -v a="$(median <"$folder/$3")" -v peer="$4" -v b="$(median <"$folder/$5")" -v c="$(ratios "$3" "$5")" \
    'BEGIN { printf "%s: inrush %d %s, %s %d %s, ratio %.2f, median of the rounds\047 ratios %.2f (goal 0.60)\n", what, a, unit, peer, b, unit, a / b, c }'
}
summary "one event a POST" requests/s inrush-one nginx nginx-one
summary "100 events a POST" MB/s inrush-hundred "zstd -1" zstd
