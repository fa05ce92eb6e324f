#!/usr/bin/env bash
# Resident memory of a release daemon: idle; under full HTTP and Kafka ingest; with a Parquet pipeline on top. And how long a start takes.
# Each case is a daemon of its own on a fresh folder; the peak is the kernel's (VmHWM). Usage: benches/memory.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-20}
inrush=${INRUSH:-${CARGO_TARGET_DIR:-target}/release/inrush}
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build --release" >&2; exit 1; }
folder=$(mktemp -d "${BENCH_FOLDER:-$PWD/target}/memory.XXXXXX")
daemon=
cleanup() { [ -z "$daemon" ] || kill -9 "$daemon" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$folder"; }
trap cleanup EXIT

# start NAME PIPELINES
start() {
  INRUSH_LOG_FORMAT=json RUST_LOG=info "$inrush" serve --data "$folder/$1" --http 127.0.0.1:0 --kafka 127.0.0.1:0 --admin 127.0.0.1:0 --pipelines "$2" 2>"$folder/$1.log" &
  daemon=$!
  until grep -qs '"inrush is ready"' "$folder/$1.log"; do sleep 0.01; kill -0 "$daemon"; done
  http=$(sed -n 's/.*"inrush is ready".*"http":"\([^"]*\)".*/\1/p' "$folder/$1.log")
  kafka=$(sed -n 's/.*"inrush is ready".*"kafka":"\([^"]*\)".*/\1/p' "$folder/$1.log")
  began=$(sed -n 's/.*"inrush is ready".*"seconds":\([0-9.]*\).*/\1/p' "$folder/$1.log")
}
stop() { kill "$daemon"; wait "$daemon" || true; daemon=; }
of() { awk -v name="$1:" '$1 == name { printf "%.0f", $2 / 1024 }' "/proc/$daemon/status"; }

load() {
  "$inrush" gen clicks --http "$http" --rate max --seconds "$seconds" --connections 256 --batch 10 --json >"$folder/gen" &
  local gen=$! kafka_pid=
  if command -v kcat >/dev/null; then
    # The broken pipe is how yes ends.
    { yes "$(head -c 500 /dev/zero | tr '\0' x)" || true; } 2>/dev/null |
      timeout "$seconds" kcat -P -b "$kafka" -t records -p 0 -X linger.ms=5 -X acks=all -X compression.codec=lz4 >/dev/null 2>&1 &
    kafka_pid=$!
  fi
  wait "$gen" || true
  [ -z "$kafka_pid" ] || wait "$kafka_pid" || true
}
# What came in, by both ways.
came() {
  "$inrush" topic list --http "$http" --json | python3 -c "import json, sys; t = {x['name']: x['records'] for x in json.load(sys.stdin)}; print(t.get('clicks', 0) // $seconds, 'events/s over HTTP,', t.get('records', 0) // $seconds, 'over Kafka')"
}
row() { printf '%-44s %8s %8s %8s   %s\n' "$1" "$2" "$3" "$4" "$5"; }

mkdir "$folder/none"
row "resident memory, MiB" now peak "at most" ""
start idle "$folder/none"
sleep 2
row "idle" "$(of VmRSS)" "$(of VmHWM)" 40 "start on an empty folder took ${began:0:5} s, at most 0.2"
stop
start ingest "$folder/none"
load
row "full HTTP and Kafka ingest, $seconds s" "$(of VmRSS)" "$(of VmHWM)" 256 "$(came)"
stop
start pipeline pipelines
load
row "the same, and pipelines/clicks.toml" "$(of VmRSS)" "$(of VmHWM)" 512 "$(came)"
stop
