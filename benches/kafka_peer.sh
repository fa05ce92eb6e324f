#!/usr/bin/env bash
# Inrush beside a real Apache Kafka 4.x: same client, machine and partitions, the server under test on core 0, the client on core 1, in turn.
#   produce   500 B records in lz4 batches: Inrush synced before the answer, Kafka by its default (no sync): records/s, records per server CPU second
#   single    one record a request, 64 connections, both synced before the answer (Kafka: flush.messages=1): requests/s
#   latency   from when a record was due to when a consumer has it, at half of Kafka's peak, with a linger of 5 ms and with none: p50, p99
#   tail      consume what was just written: bytes per server CPU second
#   disk      consume what nobody has read since it was written, the page cache dropped: bytes per server CPU second
#   sendfile  the same with Inrush set to let it go out unchecked, as Kafka does (inrush.fetch.check=none)
#   memory    resident, idle and under `produce`
#   start     to the first record that is taken, on a folder with 1,000 partitions
#   java      `produce` by Kafka's own client (ProducerPerformance) as a second opinion; only when asked for
# Usage: benches/kafka_peer.sh [PATH_TO_INRUSH] [--rounds 5] [--records 1000000] [--only produce,single,…] [--json FILE]
# Needs gcc, librdkafka-dev, java 17, mvn, python3 with venv, taskset, and root for the page cache.
set -euo pipefail
cd "$(dirname "$0")/.."
inrush=${CARGO_TARGET_DIR:-target}/release/inrush
if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then inrush=$1; shift; fi
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build --release"; exit 1; }
mkdir -p target/compat
client=target/compat/kafka_peer
if [ ! -x $client ] || [ benches/kafka_peer.c -nt $client ]; then
  [ -e /usr/include/librdkafka/rdkafka.h ] || { echo "librdkafka is missing: apt-get install librdkafka-dev"; exit 1; }
  gcc -O2 -Wall -Wextra -Werror -o $client benches/kafka_peer.c -lrdkafka -lpthread
fi
export PYTHONDONTWRITEBYTECODE=1
tests/compat/kafka.sh libs >/dev/null
exec "$(tests/compat/python.sh)" benches/kafka_peer.py "$(realpath "$inrush")" "$@"
