#!/usr/bin/env bash
# Pipelines of a running daemon: how late rows are behind 10,000 events/s over HTTP, in a topic and in Parquet with roll = "1s"; and what
# 100 pipelines cost that have nothing to do. Needs python3 with venv (confluent-kafka, pyarrow by pip). Usage: benches/stream.sh [SECONDS [RUNS]]
set -euo pipefail
cd "$(dirname "$0")/.."
inrush=${INRUSH:-${CARGO_TARGET_DIR:-target}/release/inrush}
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build --release" >&2; exit 1; }
venv=${INRUSH_VENV:-${TMPDIR:-/tmp}/inrush-stream-venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv" || { echo "python3 with venv is missing: apt-get install python3-venv"; exit 1; }
"$venv/bin/pip" install --quiet --disable-pip-version-check confluent-kafka pyarrow || { echo "confluent-kafka and pyarrow could not be installed by pip"; exit 1; }
folder=$(mktemp -d "${BENCH_FOLDER:-${TMPDIR:-/tmp}}/inrush-stream.XXXXXX")
trap 'rm -rf "$folder"' EXIT
"$venv/bin/python" benches/stream.py "$(realpath "$inrush")" "$folder" "${1:-20}" "${2:-3}"
