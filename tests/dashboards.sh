#!/usr/bin/env bash
# A real Prometheus scrapes a running daemon under load over HTTP and Kafka; every query of the dashboard must be answered, and promtool checks the rules.
# Usage: tests/dashboards.sh [PATH_TO_INRUSH]
set -euo pipefail
cd "$(dirname "$0")/.."
inrush=${1:-${CARGO_TARGET_DIR:-target}/debug/inrush}
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build"; exit 1; }
if ! command -v promtool >/dev/null; then
  { apt-get update -qq && apt-get install -y -qq prometheus; } >/dev/null || { echo "prometheus is missing: apt-get install prometheus"; exit 1; }
fi
promtool check rules dashboards/alerts.yml
promtool test rules dashboards/alerts_test.yml
folder=$(mktemp -d)
cleanup() { kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$folder"; }
trap cleanup EXIT
mkdir "$folder/pipelines"
sed 's/roll = "5m or 128MiB"/roll = "1s"/' pipelines/clicks.toml >"$folder/pipelines/clicks.toml"
INRUSH_LOG_FORMAT=json RUST_LOG=info "$inrush" serve --data "$folder/data" --http 127.0.0.1:0 --kafka 127.0.0.1:0 --admin 127.0.0.1:0 --pipelines "$folder/pipelines" 2>"$folder/log" &
for _ in $(seq 100); do grep -q '"inrush is ready"' "$folder/log" && break; sleep 0.1; done
address() { sed -n "s/.*\"message\":\"inrush is ready\".*\"$1\":\"\\([^\"]*\\)\".*/\\1/p" "$folder/log"; }
python3 tests/dashboards.py "$inrush" "$(address http)" "$(address kafka)" "$(address admin)" "$folder"
