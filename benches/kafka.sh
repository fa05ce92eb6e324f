#!/usr/bin/env bash
# Kafka produce by librdkafka: records/s into a daemon, over records/s of the same client into librdkafka's own mock broker, in turn in one
# run. 500 B records, linger 5 ms, acks=all, fsync; compressed by the client (lz4) and uncompressed (the daemon compresses).
#
# Two set-ups. The daemon on core 0 and the client on core 1: the mock broker lives inside the client's process, so it shares core 1 with it.
# And all on both cores: daemon and client, against client and mock.
# Usage: benches/kafka.sh [PATH_TO_INRUSH] [RECORDS] [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/.."
inrush=${1:-${CARGO_TARGET_DIR:-target}/release/inrush}
records=${2:-1000000}
rounds=${3:-5}
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build --release"; exit 1; }
target=${CARGO_TARGET_DIR:-$PWD/target}/clients
client=$target/release/inrush-rdkafka
[ -x "$client" ] || (cd tests/clients/rdkafka && CARGO_TARGET_DIR=$target cargo build --locked --release --quiet)

folder=$(mktemp -d -p "${BENCH_FOLDER:-$PWD/target}")
daemons=()
trap 'kill "${daemons[@]}" 2>/dev/null || true; wait "${daemons[@]}" 2>/dev/null || true; rm -rf "$folder"' EXIT
# start NAME CORES: the daemon's process in $daemon, its Kafka door in $kafka.
start() {
  INRUSH_LOG_FORMAT=json RUST_LOG=info taskset -c "$2" "$inrush" serve --data "$folder/$1" --http 127.0.0.1:0 --kafka 127.0.0.1:0 --admin 127.0.0.1:0 --pipelines "$folder/none" 2>"$folder/$1.log" &
  daemon=$! kafka=
  daemons+=("$daemon")
  for _ in $(seq 100); do
    kafka=$(sed -n 's/.*"message":"inrush is ready".*"kafka":"\([^"]*\)".*/\1/p' "$folder/$1.log")
    [ -n "$kafka" ] && return
    sleep 0.1
  done
  cat "$folder/$1.log"; echo "the daemon did not start"; exit 1
}
start both 0,1
kafka_both=$kafka
start one 0

echo "$records records of 500 B, linger 5 ms, acks=all, fsync, 4 partitions; medians of $rounds"
cpu() { awk '{ print ($14 + $15) / 100 }' "/proc/$daemon/stat"; }
median() { sort -n | awk '{ all[NR] = $1 } END { print (NR % 2) ? all[(NR + 1) / 2] : (all[NR / 2] + all[NR / 2 + 1]) / 2 }'; }
for codec in lz4 none; do
  for file in ours mock ours-both mock-both cpu; do : >"$folder/$file"; done
  for _ in $(seq "$rounds"); do
    before=$(cpu)
    taskset -c 1 "$client" bench "$kafka" "$codec" "$records" >>"$folder/ours"
    echo "$before $(cpu)" | awk -v n="$records" '{ print n / ($2 - $1) }' >>"$folder/cpu"
    taskset -c 1 "$client" bench mock "$codec" "$records" >>"$folder/mock"
    taskset -c 0,1 "$client" bench "$kafka_both" "$codec" "$records" >>"$folder/ours-both"
    taskset -c 0,1 "$client" bench mock "$codec" "$records" >>"$folder/mock-both"
  done
  of() { median <"$folder/$1"; }
  awk -v c="$codec" -v o="$(of ours)" -v m="$(of mock)" -v ob="$(of ours-both)" -v mb="$(of mock-both)" -v u="$(of cpu)" 'BEGIN {
    printf "%-4s  daemon on its core, client on the other %d records/s (%d records a server CPU second); client with its mock broker %d: ratio %.2f\n", c, o, u, m, o / m
    printf "      daemon and client on both cores %d records/s; client with its mock broker %d: ratio %.2f\n", ob, mb, ob / mb
  }'
done
