#!/usr/bin/env bash
# Kafka produce by librdkafka: records/s into a daemon, over records/s of the same client into librdkafka's own mock broker, in turn in one
# run. 500 B records, linger 5 ms, acks=all, fsync; compressed by the client (lz4) and uncompressed (the daemon compresses).
#
# Two cores: the daemon on core 0, the client on core 1. The mock broker lives inside the client's process, so that it shares core 1 with the
# client; a second line runs the mock over both cores, as the harder measure.
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

folder=$(mktemp -d -p "${INRUSH_BENCH_DATA:-$PWD/target}")
INRUSH_LOG_FORMAT=json RUST_LOG=info taskset -c 0 "$inrush" serve --data "$folder/data" --http 127.0.0.1:0 --kafka 127.0.0.1:0 --admin 127.0.0.1:0 --pipelines "$folder/none" 2>"$folder/log" &
daemon=$!
trap 'kill $daemon 2>/dev/null || true; wait $daemon 2>/dev/null || true; rm -rf "$folder"' EXIT
kafka=
for _ in $(seq 100); do
  kafka=$(sed -n 's/.*"message":"inrush is ready".*"kafka":"\([^"]*\)".*/\1/p' "$folder/log")
  [ -n "$kafka" ] && break
  sleep 0.1
done
[ -n "$kafka" ] || { cat "$folder/log"; echo "the daemon did not start"; exit 1; }

echo "daemon on core 0, client on core 1; $records records of 500 B, linger 5 ms, acks=all, fsync, 4 partitions; medians of $rounds"
cpu() { awk '{ print ($14 + $15) / 100 }' "/proc/$daemon/stat"; }
median() { sort -n | awk '{ all[NR] = $1 } END { print (NR % 2) ? all[(NR + 1) / 2] : (all[NR / 2] + all[NR / 2 + 1]) / 2 }'; }
for codec in lz4 none; do
  : >"$folder/ours"; : >"$folder/mock"; : >"$folder/both"; : >"$folder/cpu"
  for _ in $(seq "$rounds"); do
    before=$(cpu)
    taskset -c 1 "$client" bench "$kafka" "$codec" "$records" >>"$folder/ours"
    echo "$before $(cpu)" | awk -v n="$records" '{ print n / ($2 - $1) }' >>"$folder/cpu"
    taskset -c 1 "$client" bench mock "$codec" "$records" >>"$folder/mock"
    taskset -c 0,1 "$client" bench mock "$codec" "$records" >>"$folder/both"
  done
  ours=$(median <"$folder/ours") mock=$(median <"$folder/mock") both=$(median <"$folder/both") cpu=$(median <"$folder/cpu")
  awk -v c="$codec" -v o="$ours" -v m="$mock" -v b="$both" -v u="$cpu" 'BEGIN {
    printf "%-4s  daemon %d records/s (%d records a server CPU second)\n", c, o, u
    printf "      mock broker on the client'"'"'s core %d records/s: ratio %.2f\n", m, o / m
    printf "      mock broker, client and broker on both cores %d records/s: ratio %.2f\n", b, o / b
  }'
done
