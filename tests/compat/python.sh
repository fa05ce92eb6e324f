#!/usr/bin/env bash
# The Python that tests/compat runs with, in a virtual environment under target/: made if it is not there. Prints its path.
set -euo pipefail
venv=$(cd "$(dirname "$0")/../.." && pwd)/target/compat/venv
if [ ! -e "$venv/.done" ]; then
  python3 -m venv "$venv" || { echo "python3 with venv is missing: apt-get install python3-venv" >&2; exit 1; }
  "$venv/bin/pip" install --quiet --disable-pip-version-check confluent-kafka==2.16.1 kafka-python==3.0.12 cramjam==2.11.0 lz4==4.4.5 zstandard==0.25.0 >&2 || { echo "the Python packages could not be installed by pip" >&2; exit 1; }
  touch "$venv/.done"
fi
echo "$venv/bin/python"
