#!/usr/bin/env bash
# What partitions cost: seconds to make them, memory and disk for each, CPU while nothing happens, open files, starts. Each round is a data folder of its own.
# Needs python3 and a release build.   Usage: benches/partitions.sh [--rounds 3] [--topics 100] [--partitions 100] [--idle 30] [--files N] [--inrush PATH]
# `--files N` runs the daemon with `ulimit -n N`.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v python3 >/dev/null || { echo "python3 is missing" >&2; exit 1; }
exec python3 benches/partitions.py "$@"
