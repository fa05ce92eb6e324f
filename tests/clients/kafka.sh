#!/usr/bin/env bash
# Stock Kafka clients against a daemon of this tree: kcat, confluent-kafka, kafka-python, aiokafka. Installs what it needs.
# Usage: tests/clients/kafka.sh [PATH_TO_INRUSH]
set -euo pipefail
cd "$(dirname "$0")/../.."
inrush=${1:-${CARGO_TARGET_DIR:-target}/debug/inrush}
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build"; exit 1; }
if ! command -v kcat >/dev/null; then
  { apt-get update -qq && apt-get install -y -qq kcat; } >/dev/null || { echo "kcat is missing: apt-get install kcat"; exit 1; }
fi
venv=${INRUSH_VENV:-${TMPDIR:-/tmp}/inrush-kafka-venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv" || { echo "python3 with venv is missing: apt-get install python3-venv"; exit 1; }
"$venv/bin/pip" install --quiet --disable-pip-version-check confluent-kafka kafka-python aiokafka || { echo "the Python clients could not be installed by pip"; exit 1; }
folder=$(mktemp -d)
INRUSH_LOG_FORMAT=json RUST_LOG=info "$inrush" serve --data "$folder/data" --http 127.0.0.1:0 --kafka 127.0.0.1:0 --admin 127.0.0.1:0 --pipelines "$folder/none" 2>"$folder/log" &
daemon=$!
trap 'kill $daemon 2>/dev/null || true; wait $daemon 2>/dev/null || true; rm -rf "$folder"' EXIT
address=
for _ in $(seq 100); do
  address=$(sed -n 's/.*"message":"inrush is ready".*"kafka":"\([^"]*\)".*/\1/p' "$folder/log")
  [ -n "$address" ] && break
  sleep 0.1
done
[ -n "$address" ] || { cat "$folder/log"; echo "the daemon did not start"; exit 1; }
timeout 300 "$venv/bin/python" tests/clients/clients.py "$address"
