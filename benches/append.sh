#!/usr/bin/env bash
# Log append against fio, in turn, medians: 1 MiB, O_DIRECT, a sync each, fresh file. benches/append.sh [FOLDER] [RUNS]
set -euo pipefail
cd "$(dirname "$0")/.."
base=${1:-${CARGO_TARGET_DIR:-target}}; runs=${2:-5}; mib=${MIB:-1024}
folder=$(mktemp -d -p "$base"); trap 'rm -rf "$folder"' EXIT
cargo build --release --locked --bench append
bench=$(ls -t "${CARGO_TARGET_DIR:-target}"/release/deps/append-* | grep -v '\.d$' | head -1)
: > "$folder/fio"; : > "$folder/ours"
for n in $(seq "$runs"); do
  fio --name=limit --filename="$folder/fio.data" --rw=write --bs=1M --size="${mib}M" --ioengine=io_uring --direct=1 --fdatasync=1 \
      --fallocate=native --output-format=json 2>/dev/null |
    python3 -c 'import json,sys; print(json.load(sys.stdin)["jobs"][0]["write"]["bw_bytes"]/1e6)' >> "$folder/fio"
  rm -f "$folder/fio.data"
  "$bench" --folder "$folder/log" --mib "$mib" --json 2>/dev/null |
    python3 -c 'import json,sys; print(json.load(sys.stdin)["mb_per_s"])' >> "$folder/ours"
  rm -rf "$folder/log"
done
python3 - "$folder" <<'PY'
import statistics, sys
read = lambda name: [float(line) for line in open(f"{sys.argv[1]}/{name}")]
fio, ours = read("fio"), read("ours")
a, b = statistics.median(ours), statistics.median(fio)
print(f"append 1 MiB, fsync each round: ours {a:.0f} MB/s ({min(ours):.0f} to {max(ours):.0f}), fio {b:.0f} ({min(fio):.0f} to {max(fio):.0f}), ratio {a / b:.2f} (goal 0.8)")
PY
