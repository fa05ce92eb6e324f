#!/usr/bin/env bash
# How long after kill -9 a release daemon answers the first produce, with 10 GB in 100 partitions. Each round: events to all partitions,
# kill -9 in the middle of them, start, POST until one is answered with 200. At most 2 s is wanted.
# Needs kcat, python3 and a release build.   Usage: benches/recovery.sh [PATH_TO_INRUSH]      ROUNDS=5 MEGABYTES=10000 PARTITIONS=100 by default
set -euo pipefail
cd "$(dirname "$0")/.."
inrush=${1:-${CARGO_TARGET_DIR:-target}/release/inrush}
rounds=${ROUNDS:-5} megabytes=${MEGABYTES:-10000} partitions=${PARTITIONS:-100}
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build --release" >&2; exit 1; }
for tool in kcat python3; do command -v $tool >/dev/null || { echo "$tool is missing: apt-get install kcat python3" >&2; exit 1; }; done
folder=$(mktemp -d "${BENCH_FOLDER:-$PWD/target}/recovery.XXXXXX")
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
http=127.0.0.1:$(free_port) kafka=127.0.0.1:$(free_port)
daemon=
cleanup() { [ -z "$daemon" ] || kill -9 "$daemon" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$folder"; }
trap cleanup EXIT

# Starts the daemon and prints seconds until its doors are open, and until a POST is answered with 200.
cat >"$folder/start.py" <<'PY'
import http.client, subprocess, sys, time
inrush, folder, http_address, kafka_address, pid_file = sys.argv[1:]
host, port = http_address.rsplit(":", 1)
began = time.monotonic()
log = open(folder + "/log", "a")
daemon = subprocess.Popen([inrush, "serve", "--data", folder + "/data", "--http", http_address, "--kafka", kafka_address, "--admin", "127.0.0.1:0", "--pipelines", folder + "/none"], stderr=log, stdout=log, start_new_session=True)
open(pid_file, "w").write(str(daemon.pid))
opened = None
while True:
    if daemon.poll() is not None: sys.exit("the daemon ended: " + folder + "/log")
    try:
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        connection.connect()
        opened = opened or time.monotonic() - began
        connection.request("POST", "/v1/topics/fill/events", '{"after":"kill"}')
        if connection.getresponse().status == 200: break
    except OSError: pass
    time.sleep(0.002)
print(f"{opened:.3f} {time.monotonic() - began:.3f}")
PY
mkdir "$folder/none"
start() { python3 "$folder/start.py" "$inrush" "$folder" "$http" "$kafka" "$folder/pid" && daemon=$(cat "$folder/pid"); }
# Events of 500 bytes to all partitions, in batches of the client, until the daemon is gone.
load() { { yes "$(head -c 400 /dev/urandom | base64 -w 0 | head -c 500)" || true; } 2>/dev/null | timeout 60 kcat -P -b "$kafka" -t fill -X linger.ms=5 -X compression.codec=lz4 -X message.timeout.ms=3000 >/dev/null 2>&1 || true; }

# The topic must be there before the first POST makes one of a single partition.
"$inrush" serve --data "$folder/data" --http "$http" --kafka "$kafka" --admin 127.0.0.1:0 --pipelines "$folder/none" 2>"$folder/log" &
daemon=$!
until "$inrush" topic create fill --partitions "$partitions" --http "$http" >/dev/null 2>&1; do sleep 0.05; kill -0 "$daemon"; done
# Noise, so that what is sent is what is stored: a megabyte a message.
mkdir "$folder/noise"
for n in $(seq 20); do head -c 1000000 /dev/urandom >"$folder/noise/$n"; done
each=$((megabytes / partitions))
files=()
for n in $(seq "$each"); do files+=("$folder/noise/$((n % 20 + 1))"); done
for partition in $(seq 0 $((partitions - 1))); do
  kcat -P -b "$kafka" -t fill -p "$partition" -X message.max.bytes=1100000 -X linger.ms=0 "${files[@]}"
  [ -t 1 ] && printf '\r%d of %d partitions filled' "$((partition + 1))" "$partitions"
done
[ -t 1 ] && echo
rm -rf "$folder/noise"
echo "set-up: $(nproc) cores, $(uname -r), $(du -sb "$folder/data" | awk '{ printf "%.1f GB", $1 / 1e9 }') in $partitions partitions on $(stat -f -c %T "$folder"); each round is killed under load"
for round in $(seq "$rounds"); do
  load &
  sleep 2
  kill -9 "$daemon"; wait "$daemon" 2>/dev/null || true
  while kill -0 "$daemon" 2>/dev/null; do sleep 0.01; done
  read -r opened produced < <(start)
  daemon=$(cat "$folder/pid")
  echo "  round $round: doors open after $opened s, first produce answered after $produced s"
  echo "$produced" >>"$folder/times"
  wait
done
sort -n "$folder/times" | awk '{ v[NR] = $1 } END { m = (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2; printf "first produce after kill -9: median %.3f s, slowest %.3f s (at most 2)\n", m, v[NR] }'
