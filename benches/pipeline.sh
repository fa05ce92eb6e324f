#!/usr/bin/env bash
# DuckDB and Inrush over the same events in turn: COPY of an NDJSON file, and a pipeline over a log of zstd batches; one core, then two.
# Usage: benches/pipeline.sh [EVENTS] [RUNS]. Checks that rows and sums are equal; prints medians and ratios.
set -euo pipefail
cd "$(dirname "$0")/.."
events=${1:-500000} runs=${2:-5}
folder=$(mktemp -d "${BENCH_FOLDER:-$PWD/target}/pipeline-bench.XXXXXX")
trap 'rm -rf "$folder"' EXIT
cargo build --release --locked --bench pipeline 2>&1 | tail -n 1
bench=$(ls -t target/release/deps/pipeline-* | grep -v '\.d$' | head -n 1)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check duckdb
"$bench" generate "$folder" "$events"
"$folder/venv/bin/python" benches/pipeline.py "$bench" "$folder" "$runs"
