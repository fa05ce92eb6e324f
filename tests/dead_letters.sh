#!/usr/bin/env bash
# A whole run with bad records: EVENTS events, 1 % of them broken in six ways, through a daemon into Parquet and a topic. Each is in the
# output or in the dead letters with the right reason, none in both, none missing; with a kill -9 in the middle too; letters are replayed
# and then there. With TURNS > 0 it also says what bad records cost: as many runs of a clean and of a broken topic, in turn.
# Usage: tests/dead_letters.sh [EVENTS [TURNS [PATH_TO_INRUSH]]]      (default: 100000 0 target/debug/inrush; a measurement wants a release build)
set -euo pipefail
cd "$(dirname "$0")/.."
events=${1:-100000} turns=${2:-0}
inrush=${3:-${CARGO_TARGET_DIR:-target}/debug/inrush}
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build"; exit 1; }
venv=${INRUSH_VENV:-${TMPDIR:-/tmp}/inrush-dead-letters-venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv" || { echo "python3 with venv is missing: apt-get install python3-venv"; exit 1; }
"$venv/bin/pip" install --quiet --disable-pip-version-check confluent-kafka duckdb pytz || { echo "confluent-kafka and duckdb could not be installed by pip"; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
timeout 3000 "$venv/bin/python" tests/dead_letters.py "$inrush" "$folder" "$events" "$turns"
