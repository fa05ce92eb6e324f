#!/usr/bin/env bash
# Power cuts, a failed sync and a full disk on a real ext4: makes a file system in a file on a loop device and runs the tests that need one.
# Usage, as root: tests/power_cut.sh [CUTS]      (CUTS an engine, 3 by default; 20 is the long run)
# Where there is no root or no loop device it says so and leaves with 0.
set -euo pipefail
cd "$(dirname "$0")/.."
export INRUSH_CUTS=${1:-3}
skip() { echo "skipped: $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "power cuts need root"
for tool in losetup mkfs.ext4 mount umount; do
  command -v "$tool" >/dev/null || skip "$tool is missing: apt-get install e2fsprogs mount"
done
[ -e /dev/loop-control ] || skip "/dev/loop-control is missing: no loop devices here"
# Built first: the file systems are not to wait for the compiler.
${CARGO:-cargo} test --locked --no-run --test daemon
folder=$(mktemp -d)
device=
clean() {
  for _ in $(seq 20); do
    mountpoint -q "$folder/mount" || break
    umount "$folder/mount" 2>/dev/null || sleep 0.2
  done
  [ -z "$device" ] || losetup -d "$device" || true
  if ! mountpoint -q "$folder/mount"; then rm -rf "$folder"; else echo "$folder/mount is still mounted"; fi
}
trap clean EXIT
mkdir "$folder/mount"
truncate -s 1G "$folder/disk"
mkfs.ext4 -q -m 0 "$folder/disk"
device=$(losetup -f --show "$folder/disk") || skip "no loop device can be attached here"
mount "$device" "$folder/mount" || skip "a loop device cannot be mounted here"
export INRUSH_MOUNT=$folder/mount INRUSH_DEVICE=$device
# One after the other: they share the file system and its power.
for tests in faults::power faults::room; do
  cargo test --locked --test daemon "$tests" -- --ignored --nocapture --test-threads 1
done
