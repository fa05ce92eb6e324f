#!/usr/bin/env bash
# Real input: the 100,000 ratings of MovieLens as events over HTTP and over Kafka, through pipelines into Parquet; DuckDB holds the tables
# against the source. Installs what it needs; the data comes from a package and is never kept.
# Usage: tests/clients/movielens.sh [PATH_TO_INRUSH]
set -euo pipefail
cd "$(dirname "$0")/../.."
inrush=${1:-${CARGO_TARGET_DIR:-target}/debug/inrush}
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build"; exit 1; }
venv=${INRUSH_VENV:-${TMPDIR:-/tmp}/inrush-movielens-venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv" || { echo "python3 with venv is missing: apt-get install python3-venv"; exit 1; }
"$venv/bin/pip" install --quiet --disable-pip-version-check confluent-kafka duckdb pytz || { echo "confluent-kafka and duckdb could not be installed by pip"; exit 1; }
folder=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || { kill $daemon 2>/dev/null || true; wait $daemon 2>/dev/null || true; }; rm -rf "$folder"' EXIT
# Without its dependencies: only a data file of it is wanted.
"$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$folder" recbole==1.2.1 || { echo "recbole 1.2.1 could not be downloaded by pip"; exit 1; }
"$venv/bin/python" - "$folder" <<'PY'
import glob, sys, zipfile
wheel = zipfile.ZipFile(glob.glob(f"{sys.argv[1]}/recbole-1.2.1*.whl")[0])
name = next(name for name in wheel.namelist() if name.endswith("dataset_example/ml-100k/ml-100k.inter"))
open(f"{sys.argv[1]}/ml-100k.inter", "wb").write(wheel.read(name))
PY
mkdir "$folder/pipelines"
for topic in ratings-http ratings-kafka; do
  cat > "$folder/pipelines/$topic.toml" <<TOML
from   = "topic:$topic"
select = "user_id, item_id, rating, ts"
to     = { parquet = "$topic", partition = "day=%Y-%m", time = "ts", roll = "2s or 16MiB" }

[columns]
user_id = { type = "int64", required = true }
item_id = { type = "int64", required = true }
rating  = { type = "float64", required = true }
ts      = { path = "/timestamp", type = "timestamp(s)", required = true }
TOML
done
INRUSH_LOG_FORMAT=json RUST_LOG=info "$inrush" serve --data "$folder/data" --out "$folder/out" --http 127.0.0.1:0 --kafka 127.0.0.1:0 --admin 127.0.0.1:0 --pipelines "$folder/pipelines" 2>"$folder/log" &
daemon=$!
ready=
for _ in $(seq 100); do
  ready=$(grep '"message":"inrush is ready"' "$folder/log" || true)
  [ -n "$ready" ] && break
  sleep 0.1
done
[ -n "$ready" ] || { cat "$folder/log"; echo "the daemon did not start"; exit 1; }
timeout 600 "$venv/bin/python" tests/clients/movielens.py "$folder/ml-100k.inter" "$folder/out" "$ready"
