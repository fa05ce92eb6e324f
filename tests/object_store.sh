#!/usr/bin/env bash
# Parquet into a real S3 server while the daemon and the server are killed under load; then every object is read back and held against the
# log: no record lost, none twice, no upload left open. The server is Versity's S3 gateway over a folder: it does multipart uploads and
# conditional writes as AWS does, lists open uploads, and keeps all of it through a kill; it comes by `go install`.
# Usage: tests/object_store.sh [PATH_TO_INRUSH [KILLS]]
set -euo pipefail
cd "$(dirname "$0")/.."
inrush=${1:-${CARGO_TARGET_DIR:-target}/debug/inrush}
kills=${2:-4}
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build"; exit 1; }
cache=${INRUSH_CLIENTS:-${TMPDIR:-/tmp}/inrush-clients}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
gateway=$cache/versitygw-1.8.0
if [ ! -x "$gateway" ]; then
  PATH=$PATH:/usr/local/go/bin
  command -v go >/dev/null || { echo "go is missing: apt-get install golang-go"; exit 1; }
  GOBIN=$cache/versity go install github.com/versity/versitygw/cmd/versitygw@v1.8.0 || { echo "the S3 server could not be installed by go"; exit 1; }
  mv "$cache/versity/versitygw" "$gateway"
fi
venv=${INRUSH_VENV:-${TMPDIR:-/tmp}/inrush-store-venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv" || { echo "python3 with venv is missing: apt-get install python3-venv"; exit 1; }
"$venv/bin/pip" install --quiet --disable-pip-version-check boto3 duckdb pytz || { echo "boto3 and duckdb could not be installed by pip"; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
timeout 570 "$venv/bin/python" tests/object_store.py "$inrush" "$gateway" "$folder" "$kills"
