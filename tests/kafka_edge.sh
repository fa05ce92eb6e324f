#!/usr/bin/env bash
# Inrush as the edge of a real Apache Kafka: a pipeline that writes into it and one that reads from it into Parquet and a topic, while daemon
# and broker are killed (SIGKILL) under load. Counts on the other side: every event that was acknowledged is there, none twice, keys in their
# order, nothing of transactions that were given up. Part `secure`: the same behind TLS and logins, and what wrong ones are told.
# Usage: tests/kafka_edge.sh [PATH_TO_INRUSH]    KILLS (6), SEED and PARTS (edge share secure) in the environment
# Needs java 17, mvn (fetches Kafka), python3 with venv (confluent-kafka, pyarrow by pip), as tests/compat.sh; openssl for `secure`.
set -euo pipefail
cd "$(dirname "$0")/.."
inrush=${1:-${CARGO_TARGET_DIR:-target}/debug/inrush}
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build"; exit 1; }
inrush=$(realpath "$inrush")
python=$(tests/compat/python.sh)
"$python" -c 'import pyarrow' 2>/dev/null || "$python" -m pip install --quiet --disable-pip-version-check pyarrow || { echo "pyarrow could not be installed by pip"; exit 1; }
tests/compat/kafka.sh libs >/dev/null
mkdir -p target/compat
folder=$(mktemp -d -p "$PWD/target/compat")
trap 'tests/compat/kafka.sh stop "$folder/kafka"; rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1 KAFKA_HEAP=${KAFKA_HEAP:-512m}
"$python" tests/clients/kafka_edge.py "$inrush" "$folder" tests/compat/kafka.sh
