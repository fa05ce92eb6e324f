#!/usr/bin/env bash
# A page in headless Chromium: fetch with CORS (preflight, credentials), a plain text fetch, sendBeacon when it is left. The log must have them all.
# Usage: tests/clients/browser.sh [PATH_TO_INRUSH]
set -euo pipefail
cd "$(dirname "$0")/../.."
inrush=${1:-${CARGO_TARGET_DIR:-target}/debug/inrush}
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build"; exit 1; }
if ! command -v chromium >/dev/null; then
  { apt-get update -qq && apt-get install -y -qq chromium; } >/dev/null || { echo "chromium is missing: apt-get install chromium"; exit 1; }
fi
folder=$(mktemp -d)
INRUSH_LOG_FORMAT=json RUST_LOG=info "$inrush" serve --data "$folder/data" --http 127.0.0.1:0 --kafka 127.0.0.1:0 --admin 127.0.0.1:0 --pipelines "$folder/none" 2>"$folder/log" &
started=($!)
trap 'kill "${started[@]}" 2>/dev/null || true; wait "${started[@]}" 2>/dev/null || true; rm -rf "$folder"' EXIT
for _ in $(seq 200); do
  door=$(sed -n 's/.*"message":"inrush is ready".*"http":"\([^"]*\)".*/\1/p' "$folder/log")
  [ -n "$door" ] && break
  sleep 0.1
done
[ -n "$door" ] || { cat "$folder/log"; echo "the daemon did not start"; exit 1; }
timeout 300 python3 tests/clients/browser.py "http://$door" "$folder"
