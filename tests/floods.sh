#!/usr/bin/env bash
# 10,000 connections that idle, trickle or flood beside a few that work: the p99 of those that work, alone and beside, and the ratio; fails past --ratio.
# The daemon has core 0 for itself. The crowd has core 1; those that work are there too, before the crowd (SCHED_FIFO), alone as beside it.
#   idle      says nothing
#   trickle   one byte a second of a request; who is closed for it comes again
#   half      half a request, then gone and back, as fast as it can
#   garbage   4 KiB of noise, then gone and back
#   connect   connections that close at once, every other with a reset
#   greedy    right requests one after the other on all connections, Produce of 16 KiB and Fetch of 64 KiB, under a quota of 4 MiB/s
#   greedy-http   the same of 100 events by HTTP, from 40 addresses with a quota of 4 MiB/s together
# Beside it also the same requests to a bystander: a second daemon on the first one's core and before it, to which no crowd comes. What
# they take longer than alone is the system's own (packets of the crowd stand before theirs); the ratio is to the larger of the two.
# Those that work: Produce of one record with acks=all, Fetch, POST of one event, each a hundred times a second on kept connections; and a
# new connection to the Kafka door, which is shown and not judged.
# Usage: tests/floods.sh [PATH_TO_INRUSH] [--rounds 5] [--seconds 4] [--connections 10000] [--kinds idle,trickle,…] [--ratio 2] [--json FILE]
# Needs two cores, root (for SCHED_FIFO), python3 and a release build; the data folder is made in TMPDIR.
set -euo pipefail
cd "$(dirname "$0")/.."
inrush=${CARGO_TARGET_DIR:-target}/release/inrush
if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then inrush=$1; shift; fi
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build --release"; exit 1; }
command -v python3 >/dev/null || { echo "python3 is missing: apt-get install python3"; exit 1; }
[ "$(id -u)" = 0 ] || { echo "needs root: those that work go before the crowd on its core"; exit 1; }
[ "$(nproc)" -ge 2 ] || { echo "needs two cores"; exit 1; }
ulimit -n "$(ulimit -Hn)"
export PYTHONDONTWRITEBYTECODE=1
exec python3 tests/floods.py "$(realpath "$inrush")" "$@"
