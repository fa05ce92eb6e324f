#!/usr/bin/env bash
# Inrush beside a real Apache Kafka 4.x: the same requests to both, answers compared, the report card written into docs/COMPATIBILITY.md.
# Fails on a difference that tests/compat/known.toml does not list, and on a listed one that is gone.
#
# Usage: tests/compat.sh [PATH_TO_INRUSH] [SCENARIO_PREFIX...]    with prefixes (e.g. produce fetch.inside) only those run, and no report is written
#        tests/compat.sh --self [SCENARIO_PREFIX...]              two Kafkas: shows that no difference comes from chance or from a scenario
# Needs java 17, mvn (fetches Kafka), python3 with venv (confluent-kafka, kafka-python and codecs by pip).
set -euo pipefail
cd "$(dirname "$0")/.."
inrush=${1:-${CARGO_TARGET_DIR:-target}/debug/inrush}
shift || true
if [ "$inrush" != --self ]; then
  [ -x "$inrush" ] || { echo "$inrush is missing: cargo build"; exit 1; }
  inrush=$(realpath "$inrush")
fi
python=$(tests/compat/python.sh)
libs=$(tests/compat/kafka.sh libs)
jar=$(echo "$libs"/kafka-clients-*.jar)
folder=$(mktemp -d -p "$PWD/target/compat")
export PYTHONDONTWRITEBYTECODE=1 INRUSH_LOG_FORMAT=json RUST_LOG=info KAFKA_LOG=${KAFKA_LOG:-error}
# Kafka's defaults but for waits that would make a run long: the cleaner looks every half second, and at once after the start.
settings=(log.cleaner.backoff.ms=500 log.initial.task.delay.ms=500 log.retention.check.interval.ms=500)

# Each start prints the address and takes the port of a start before it, or 0.
start_kafka() { KAFKA_PORT=${2#0} tests/compat/kafka.sh start "$folder/$1" "${settings[@]}"; }
start_inrush() {
  setsid "$inrush" serve --data "$folder/data" --http 127.0.0.1:0 --kafka "127.0.0.1:$1" --admin 127.0.0.1:0 --pipelines "$folder/none" >"$folder/log" 2>&1 </dev/null &
  echo $! >"$folder/pid"
  for _ in $(seq 200); do
    at=$(sed -n 's/.*"message":"inrush is ready".*"kafka":"\([^"]*\)".*/\1/p' "$folder/log")
    [ -z "$at" ] || { echo "$at"; return; }
    sleep 0.05
  done
  cat "$folder/log" >&2; echo "inrush did not start" >&2; return 1
}
start_other() { if [ "$inrush" = --self ]; then start_kafka other "$1"; else start_inrush "$1"; fi; }
stop_both() {
  tests/compat/kafka.sh stop "$folder/kafka"
  tests/compat/kafka.sh stop "$folder/other"
  if [ -e "$folder/pid" ]; then
    kill "$(cat "$folder/pid")" 2>/dev/null || true
    while kill -0 "$(cat "$folder/pid")" 2>/dev/null; do sleep 0.05; done
    rm -f "$folder/pid"
  fi
}
trap 'stop_both; rm -rf "$folder"' EXIT

kafka_at=$(start_kafka kafka 0)
other_at=$(start_other 0)
{
  declare -p folder inrush settings
  declare -f start_kafka start_inrush start_other stop_both
  echo "set -euo pipefail; stop_both; start_kafka kafka ${kafka_at##*:} >/dev/null; start_other ${other_at##*:} >/dev/null"
} >"$folder/restart"
if [ "$inrush" = --self ]; then export COMPAT_SELF=1; name="the same"; else name=$("$inrush" --version); fi
version=$(basename "$jar" .jar)
echo "Apache Kafka ${version#kafka-clients-} at $kafka_at, $name at $other_at"
"$python" tests/compat "$kafka_at" "$other_at" "$jar" "bash $folder/restart" "$@"
