#!/usr/bin/env bash
# Inrush beside a real Apache Kafka 4.x: the same requests to both, answers compared, the report card written into docs/COMPATIBILITY.md.
# Fails on a difference that tests/compat/known.toml does not list, and on a listed one that is gone.
#
# Usage: tests/compat.sh [PATH_TO_INRUSH] [SCENARIO_PREFIX...]    with prefixes (e.g. produce fetch.inside) only those run, and no report is written
# Needs java 17, mvn (fetches Kafka), python3 with venv (confluent-kafka, kafka-python and cramjam by pip).
set -euo pipefail
cd "$(dirname "$0")/.."
inrush=${1:-${CARGO_TARGET_DIR:-target}/debug/inrush}
shift || true
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build"; exit 1; }
inrush=$(realpath "$inrush")
python=$(tests/compat/python.sh)
libs=$(tests/compat/kafka.sh libs)
jar=$(echo "$libs"/kafka-clients-*.jar)

folder=$(mktemp -d -p "$PWD/target/compat")
stop_inrush() { [ ! -e "$folder/inrush.pid" ] || { kill "$(cat "$folder/inrush.pid")" 2>/dev/null || true; while kill -0 "$(cat "$folder/inrush.pid")" 2>/dev/null; do sleep 0.05; done; rm -f "$folder/inrush.pid"; }; }
trap 'stop_inrush; tests/compat/kafka.sh stop "$folder/kafka"; rm -rf "$folder"' EXIT
# start_inrush ADDRESS: on port 0 first, on the same one after a restart.
start_inrush() {
  setsid "$inrush" serve --data "$folder/data" --http 127.0.0.1:0 --kafka "$1" --admin 127.0.0.1:0 --pipelines "$folder/none" >"$folder/inrush.log" 2>&1 </dev/null &
  echo $! >"$folder/inrush.pid"
  for _ in $(seq 200); do
    at=$(sed -n 's/.*"message":"inrush is ready".*"kafka":"\([^"]*\)".*/\1/p' "$folder/inrush.log")
    [ -z "$at" ] || { echo "$at"; return; }
    sleep 0.05
  done
  cat "$folder/inrush.log" >&2; echo "inrush did not start" >&2; return 1
}
export INRUSH_LOG_FORMAT=json RUST_LOG=info KAFKA_LOG=${KAFKA_LOG:-error}
# Kafka's defaults but for waits that would make a run long: the cleaner looks every half second, and at once after the start.
settings=(log.cleaner.backoff.ms=500 log.initial.task.delay.ms=500 log.retention.check.interval.ms=500)
kafka_at=$(tests/compat/kafka.sh start "$folder/kafka" "${settings[@]}")
inrush_at=$(start_inrush 127.0.0.1:0)
cat >"$folder/restart" <<END
set -euo pipefail
folder=$folder inrush=$inrush
$(declare -f stop_inrush start_inrush)
stop_inrush
tests/compat/kafka.sh stop "\$folder/kafka"
start_inrush $inrush_at >/dev/null
KAFKA_PORT=${kafka_at##*:} tests/compat/kafka.sh start "\$folder/kafka" ${settings[*]} >/dev/null
END
echo "Apache Kafka ${jar##*clients-} at $kafka_at, $("$inrush" --version) at $inrush_at"
status=0
"$python" tests/compat "$kafka_at" "$inrush_at" "$jar" "bash $folder/restart" "$@" || status=$?
exit "$status"
