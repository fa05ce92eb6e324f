#!/usr/bin/env bash
# Runs every fuzz target for some seconds, one after the other, and prints a table. Needs a C++ compiler for libFuzzer; the stable Rust will do.
# Usage: tests/fuzz.sh [SECONDS] [TARGET...]      (SECONDS a target, 60 by default; 600 is the long run)
# Found inputs are kept in fuzz/artifacts/TARGET/, grown corpora in fuzz/found/TARGET/; neither is committed.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(ls fuzz_targets | sed 's/\.rs$//')
RUSTC_WRAPPER=$PWD/instrument.sh ${CARGO:-cargo} build --bins
# The doors' daemon and the checkpoints live in memory, where there is some.
if [ -d /dev/shm ]; then temporary=$(mktemp -d -p /dev/shm); else temporary=$(mktemp -d); fi
trap 'rm -rf "$temporary"' EXIT
failed=0
printf '%-20s %12s %10s %8s %8s  %s\n' target runs runs/s edges corpus result
for target in "${targets[@]}"; do
  mkdir -p "artifacts/$target" "found/$target"
  log=found/$target.log
  result=ok
  TMPDIR=$temporary "${CARGO_TARGET_DIR:-target}/debug/$target" "found/$target" "corpus/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 \
    -max_len=65536 -print_final_stats=1 -artifact_prefix="artifacts/$target/" >"$log" 2>&1 || { result="FAILED, see fuzz/$log"; failed=$((failed + 1)); }
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  speed=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
  edges=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | cut -c6-)
  printf '%-20s %12s %10s %8s %8s  %s\n' "$target" "${runs:--}" "${speed:--}" "${edges:--}" "$(ls "found/$target" | wc -l)" "$result"
  rm -rf "${temporary:?}"/*
done
echo "$((${#targets[@]} - failed)) passed, $failed failed"
[ "$failed" = 0 ]
