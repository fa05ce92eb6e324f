#!/usr/bin/env bash
# Stock Kafka clients against a daemon of this tree: producing and reading, consumer groups, tools. Without a list, all of them:
#   python   kcat (Debian's, an old librdkafka), confluent-kafka (a current one), kafka-python, aiokafka
#   java     org.apache.kafka:kafka-clients
#   kafkajs  kafkajs
#   rdkafka  librdkafka by its Rust crate, built here
#   go       franz-go, sarama
#   kills    producers and a group of confluent-kafka while a daemon of their own is killed KILLS times (5)
# Installs what it needs with the clients' own package tools; says what is missing.
# Usage: tests/clients/kafka.sh [PATH_TO_INRUSH] [CLIENT...]
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD
inrush=${1:-${CARGO_TARGET_DIR:-target}/debug/inrush}
[ -x "$inrush" ] || { echo "$inrush is missing: cargo build"; exit 1; }
shift || true
clients=${*:-python java kafkajs rdkafka go kills}
cache=${INRUSH_CLIENTS:-${TMPDIR:-/tmp}/inrush-clients}
mkdir -p "$cache"

missing() { echo "$1"; exit 1; }
install() { { apt-get update -qq && apt-get install -y -qq "$@"; } >/dev/null 2>&1; }
# The command is there, or Debian's package with it can be installed.
needs() { command -v "$1" >/dev/null || install "$2" || missing "$1 is missing: apt-get install $2"; }

prepare_python() {
  needs kcat kcat
  venv=${INRUSH_VENV:-$cache/venv}
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv" || missing "python3 with venv is missing: apt-get install python3-venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check confluent-kafka 'kafka-python[snappy,lz4,zstd]' 'aiokafka[snappy,lz4,zstd]' || missing "the Python clients could not be installed by pip"
}
check_python() {
  local failed=0
  timeout 300 "$venv/bin/python" tests/clients/clients.py "$kafka" || failed=1
  timeout 300 "$venv/bin/python" tests/clients/groups.py "$kafka" || failed=1
  timeout 300 "$venv/bin/python" tests/clients/group_admin.py "$kafka" || failed=1
  return $failed
}

prepare_java() {
  needs java default-jre-headless
  needs mvn maven
  if [ ! -e "$cache/java/.done" ]; then
    mvn -q -B -f tests/clients/java/pom.xml dependency:copy-dependencies -DoutputDirectory="$cache/java" || missing "the Java client could not be fetched by mvn"
    touch "$cache/java/.done"
  fi
}
check_java() {
  local failed=0
  timeout 300 java -cp "$cache/java/*" tests/clients/java/Clients.java "$kafka" || failed=1
  timeout 300 java -cp "$cache/java/*" tests/clients/java/Groups.java "$kafka" || failed=1
  return $failed
}

prepare_kafkajs() {
  needs node nodejs
  needs npm npm
  if [ ! -d "$cache/kafkajs/node_modules" ]; then
    mkdir -p "$cache/kafkajs"
    cp tests/clients/kafkajs/package*.json "$cache/kafkajs/"
    (cd "$cache/kafkajs" && npm ci --no-audit --no-fund --silent) || missing "kafkajs could not be installed by npm"
  fi
}
check_kafkajs() {
  local failed=0
  NODE_PATH=$cache/kafkajs/node_modules timeout 300 node tests/clients/kafkajs/main.js "$kafka" "$http" || failed=1
  NODE_PATH=$cache/kafkajs/node_modules timeout 300 node tests/clients/kafkajs/groups.js "$kafka" || failed=1
  return $failed
}

rdkafka_target=${CARGO_TARGET_DIR:-$here/target}/clients
prepare_rdkafka() {
  needs g++ g++
  needs make make
  (cd tests/clients/rdkafka && CARGO_TARGET_DIR=$rdkafka_target cargo build --locked --release --quiet) || missing "rdkafka could not be built"
}
check_rdkafka() { timeout 300 "$rdkafka_target/release/inrush-rdkafka" check "$kafka"; }

prepare_go() {
  needs go golang-go
  (cd tests/clients/go && go build -o "$cache/goclients" .) || missing "franz-go and sarama could not be built by go"
}
check_go() { timeout 300 "$cache/goclients" "$kafka"; }

prepare_kills() { prepare_python; }
# A kill takes 6 s or so, and more when a member was killed too.
check_kills() { timeout $((300 + 20 * ${KILLS:-5})) "$venv/bin/python" tests/clients/group_kills.py "$inrush"; }

for client in $clients; do "prepare_$client"; done

folder=$(mktemp -d)
INRUSH_LOG_FORMAT=json RUST_LOG=info "$inrush" serve --data "$folder/data" --http 127.0.0.1:0 --kafka 127.0.0.1:0 --admin 127.0.0.1:0 --pipelines "$folder/none" 2>"$folder/log" &
daemon=$!
trap 'kill $daemon 2>/dev/null || true; wait $daemon 2>/dev/null || true; rm -rf "$folder"' EXIT
address() { sed -n 's/.*"message":"inrush is ready".*"'"$1"'":"\([^"]*\)".*/\1/p' "$folder/log"; }
for _ in $(seq 100); do
  [ -n "$(address kafka)" ] && break
  sleep 0.1
done
kafka=$(address kafka) http=$(address http)
[ -n "$kafka" ] || { cat "$folder/log"; missing "the daemon did not start"; }

failed=
for client in $clients; do
  "check_$client" || failed="$failed $client"
done
if grep -E '"level":"(ERROR|WARN)"' "$folder/log"; then
  echo "the daemon warned while the clients ran"
  failed="$failed log"
fi
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
