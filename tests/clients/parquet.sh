#!/usr/bin/env bash
# Reads the Parquet of a finished demo with DuckDB and pyarrow: types, counts, and pictures byte for byte whole.
# Usage: tests/clients/parquet.sh OUT_FOLDER      (after: inrush demo --events 5000 --data DIR; OUT_FOLDER is DIR/data/out)
set -euo pipefail
out=${1:?name the out folder of a demo}
venv=${INRUSH_VENV:-${TMPDIR:-/tmp}/inrush-parquet-venv}
if [ ! -x "$venv/bin/python" ]; then
  python3 -m venv "$venv" || { echo "python3 with venv is missing: apt-get install python3-venv"; exit 1; }
fi
"$venv/bin/pip" install --quiet --disable-pip-version-check duckdb pyarrow pytz || { echo "duckdb and pyarrow could not be installed by pip"; exit 1; }
"$venv/bin/python" - "$out" <<'PY'
import glob, sys
import duckdb, pyarrow.parquet as pq
out = sys.argv[1]
passed = 0
def check(what, is_right):
    global passed
    if not is_right:
        sys.exit(f"failed: {what}")
    passed += 1
clicks = f"read_parquet('{out}/clicks/**/*.parquet', union_by_name = true, hive_partitioning = true)"
kinds = {row[0]: row[1] for row in duckdb.sql(f"describe select * from {clicks}").fetchall()}
check("ts is a moment with zone", kinds["ts"] == "TIMESTAMP WITH TIME ZONE")
check("dt is a date", kinds["dt"] == "DATE")
check("numbers are numbers", (kinds["price"], kinds["quantity"], kinds["viewport_width"]) == ("DOUBLE", "INTEGER", "INTEGER"))
rows, ids, robots = duckdb.sql(f"select count(*), count(distinct event_id), count(*) filter (browser is null) from {clicks}").fetchall()[0]
check("every click is there once", rows == ids and rows > 0)
check("amount is price times quantity", duckdb.sql(f"select count(*) from {clicks} where abs(amount - price * quantity) > 1e-9").fetchall()[0][0] == 0)
check("addresses are masked", duckdb.sql(f"select count(*) from {clicks} where ip not like '%.0'").fetchall()[0][0] == 0)
files = glob.glob(f"{out}/clicks/**/*.parquet", recursive=True)
check("pyarrow counts the same", sum(pq.ParquetFile(f).metadata.num_rows for f in files) == rows)
check("pages are zstd", all(pq.ParquetFile(f).metadata.row_group(0).column(0).compression == "ZSTD" for f in files))
check("nothing unfinished is seen", not glob.glob(f"{out}/**/_inrush/**/*.parquet", recursive=True))
pictures = duckdb.sql(f"select size, width, height, kind, picture from read_parquet('{out}/camera/**/*.parquet')").fetchall()
check("pictures are there", len(pictures) > 0)
check("pictures are whole", all(len(p) == size and p[:3] == b"\xff\xd8\xff" and p[-2:] == b"\xff\xd9" for size, _, _, _, p in pictures))
check("pictures know their size", all(kind == "jpeg" and w in (320, 480, 640) and h in (180, 270, 360) for _, w, h, kind, _ in pictures))
print(f"{passed} passed, 0 failed")
PY
