#!/usr/bin/env bash
# Mistakes that a log must not make, each built in and asked for by name: the checker over the simulated disk has to catch every one.
# As root with loop devices, and with Debian's eatmydata, a daemon whose syncs do nothing has to be caught by a real power cut too.
# Usage: tests/mutants.sh       (one build of a copy, then some seconds a mutant)
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp -r Cargo.toml Cargo.lock build.rs benches src tests deploy pipelines fuzz "$folder/" 2>/dev/null || true
[ -d "$folder/fuzz/target" ] && rm -rf "$folder/fuzz/target"
mapfile -t mutants < <(python3 tests/mutants.py "$folder" || echo failed)
[ "${mutants[-1]}" != failed ] || { python3 tests/mutants.py "$folder" >/dev/null || true; echo "the mutants do not fit the source any more"; exit 1; }
# A target folder of its own: the copy is not this tree.
export CARGO_TARGET_DIR=$PWD/target/mutants
program=$(cd "$folder" && ${CARGO:-cargo} test --locked --no-run --test daemon 2>&1 | tee "$folder/build.log" | sed -n 's/.*(\(.*daemon-[0-9a-f]*\)).*/\1/p' | tail -n 1) || true
[ -n "$program" ] || { tail -n 30 "$folder/build.log"; exit 1; }
case $program in /*) ;; *) program=$folder/$program ;; esac
caught=0
missed=0
told() {
  printf '%-28s %s\n' "$1" "$2"
  if [ "$2" = caught ]; then caught=$((caught + 1)); else missed=$((missed + 1)); fi
}
run() { INRUSH_MUTANT=$1 timeout 300 "$program" --exact faults::sim::the_checker_finds_nothing_after_crashes_of_the_simulated_disk >"$folder/$1.log" 2>&1; }
run none || { tail -n 30 "$folder/none.log"; echo "the checker finds something without a mutant"; exit 1; }
for mutant in "${mutants[@]}"; do
  if run "$mutant"; then told "$mutant" MISSED; else told "$mutant" caught; fi
done
unset CARGO_TARGET_DIR
eatmydata=$(ls /usr/lib/*/libeatmydata.so 2>/dev/null | head -n 1 || true)
if [ "$(id -u)" != 0 ] || [ ! -e /dev/loop-control ] || [ -z "$eatmydata" ]; then
  echo "no-sync on a real disk: skipped, it needs root, loop devices and eatmydata (apt-get install eatmydata)"
elif INRUSH_PRELOAD=$eatmydata timeout 600 bash tests/power_cut.sh 20 faults::power::power_cuts_lose_nothing_that_was_answered_with_pwrite >"$folder/real.log" 2>&1; then
  told "no-sync on a real disk" MISSED
elif grep -q "^skipped" "$folder/real.log"; then
  cat "$folder/real.log"
elif grep -q "panicked at" "$folder/real.log"; then
  told "no-sync on a real disk" caught
else
  tail -n 30 "$folder/real.log"
  told "no-sync on a real disk" MISSED
fi
echo "$caught caught, $missed missed"
[ "$missed" = 0 ]
